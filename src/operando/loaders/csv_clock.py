"""Which columns of a text table are its time, and what they say: stamps, a test clock beside them, or elapsed time alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from operando.contract import ContractError, LoaderError, convert
from operando.loaders import stamps as clocks
from operando.loaders.columns import NAMELESS, Table, snake_case, unit_of
from operando.loaders.cycler import UNIFORM, boundaries, refined, segments

if TYPE_CHECKING:
    import pandas as pd

_STAMPS = tuple(
    "date_time datetime date_time_iso_string timestamp time_stamp dpt_time date absolute_time system_time real_time date_and_time unix_time epoch "
    "utc_time time_utc local_time clock date_time_utc datetime_utc".split()
)
_CLOCKS = tuple("test_time total_time cumulative_time elapsed_time elapsed run_time time_elapsed relative_time time test t seconds".split())
_SCALE = {
    ("mV", "V"): 1e-3,
    ("mA", "A"): 1e-3,
    ("uA", "A"): 1e-6,
    ("A*h", "C"): 3600.0,
    ("mA*h", "C"): 3.6,
    ("min", "s"): 60.0,
    ("h", "s"): 3600.0,
    ("ms", "s"): 1e-3,
}
_START = re.compile(
    r"(?:test )?(?:start(?:ed)?(?:[ _](?:time|date|at|datetime))?|acquisition started(?: on)?|begin(?:ning)?|date[ _]?time|date and time)",
    re.IGNORECASE,
)


@dataclass
class Field:
    """One column: where it is, its variable name, its unit, its label as written."""

    position: int
    name: str
    unit: str | None
    label: str


@dataclass
class Clock:
    """When the rows were recorded, for `series`; the test clock (or the step clock) in seconds beside it; the columns that were used up."""

    start: np.ndarray | None
    elapsed: np.ndarray | None
    utc: bool
    segment: np.ndarray
    sigma: float
    how: str
    used: set[int]
    test_time: np.ndarray | None = None
    step_time: np.ndarray | None = None
    unit: str | None = None


def chosen(path: str | os.PathLike[str], name: str, spec: Any, fields: Sequence[Field]) -> Field:
    """Find the column a line of `columns:` names."""
    unit = None
    if isinstance(spec, Mapping):
        unknown = [str(k) for k in spec if k not in ("column", "unit", "format")]
        if unknown or "column" not in spec:
            raise LoaderError(f"columns: {name}: is not understood", file=path, found=", ".join(unknown) or "no column:", expected="column, unit")
        unit, spec = spec.get("unit"), spec["column"]
        if unit is not None and (known := unit_of(str(unit))) is not None:
            unit = known
    if isinstance(spec, int) and not isinstance(spec, bool):
        match = next((f for f in fields if f.position == spec - 1), None)
    else:
        text = str(spec).strip()
        match = next((f for f in fields if f.label.strip() == text), None) or next(
            (f for f in fields if f.label.strip().lower() == text.lower()), None
        )
        alike = [f for f in fields if f.name == snake_case(text)]
        match = match or (alike[0] if len(alike) == 1 else None)
    if match is None:
        raise LoaderError(
            f"there is no column {spec!r} for {name}",
            file=path,
            found=", ".join(f.label for f in fields[:30]),
            hint="columns are named as written, or numbered from 1",
        )
    return Field(match.position, match.name, str(unit) if unit is not None else match.unit, match.label)


def factor(unit: str, target: str) -> float | None:
    """Give what a number in `unit` is multiplied by to be in `target`; None if they measure different things."""
    if unit == target:
        return 1.0
    if (unit, target) in _SCALE:
        return _SCALE[unit, target]
    try:
        return float(convert(1.0, unit, target))
    except ContractError:
        return None


def read_clock(
    path: str | os.PathLike[str], table: Table, fields: Sequence[Field], spec: Any, form: str | None, unit: str | None, taken: set[int]
) -> Clock:
    """Find the columns of time and read them."""
    if isinstance(spec, Mapping) and "format" in spec:
        form = str(spec["format"])
    explicit = spec["column"] if isinstance(spec, Mapping) and "column" in spec else spec
    frame, line = table.frame, table.line(0)
    free = [f for f in fields if f.position not in taken]
    stamp: pd.Series | None = None
    stamp_name, named, used = "", True, set()
    clock: Field | None = None
    if isinstance(explicit, Sequence) and not isinstance(explicit, str):
        parts = [chosen(path, "time", one, fields) for one in explicit]
        if not parts:
            raise LoaderError("columns: time: names no column", file=path)
        stamp_name, used = " + ".join(f.label for f in parts), {f.position for f in parts}
        stamp = _joined(frame, parts)
    elif explicit is not None:
        picked = chosen(path, "time", spec, fields)
        if isinstance(spec, Mapping) and picked.unit is not None and spec.get("unit") is not None:
            unit = picked.unit
        is_stamp, named = _is_stamp(frame[picked.position], picked, form)
        if is_stamp:
            stamp, stamp_name, used = frame[picked.position], picked.label, {picked.position}
        else:
            clock = picked
    else:
        found = _find_stamp(frame, free, form)
        if found is not None:
            stamp, stamp_name, used, named = found
    if clock is None and (explicit is None or stamp is not None):
        clock = _find_clock(frame, [f for f in free if f.position not in used])
    if stamp is None and clock is None:
        raise LoaderError(
            "no column of time is recognised",
            file=path,
            found=", ".join(f.label for f in fields[:30]),
            hint="name it: columns: {time: NAME}, or its number from 1",
        )
    seconds, clock_unit = None, None
    if clock is not None:
        used = used | {clock.position}
        clock_unit = unit or clock.unit
        if clock_unit is not None and factor(clock_unit, "s") is None:
            raise LoaderError(f"the time column {clock.label!r} is not in a unit of time", file=path, found=clock_unit, expected="s, min, h, ms")
        if stamp is None or clock_unit is not None or frame[clock.position].dtype.kind not in "iuf":
            if stamp is None or frame[clock.position].notna().all():
                seconds = clocks.read_elapsed(frame[clock.position], clock_unit, path, name=clock.label, line=line)
    if stamp is None:
        assert seconds is not None
        assert clock is not None
        if form != "elapsed" and frame[clock.position].dtype.kind not in "iuf":
            _no_time_of_day(seconds, clock.label, path)
        return Clock(None, seconds, False, segments(seconds), 0.0, f"{clock.label}: elapsed time", used, unit=clock_unit)
    read = clocks.read_stamps(stamp, path, name=stamp_name, form=None if form == "elapsed" else form, named=named, elapsed=seconds, line=line)
    origin = read.values[0]
    since = (read.values - origin) / np.timedelta64(1, "s")
    how = f"{stamp_name}: {read.how}"
    if clock is not None and seconds is None and frame[clock.position].dtype.kind in "iuf" and frame[clock.position].notna().all():
        raw = frame[clock.position].to_numpy(dtype=float)
        if (clock_unit := _unit_by(raw, since)) is not None:
            seconds = np.asarray(convert(raw, clock_unit, "s"), float)
            how += f"; {clock.label} is in {clock_unit} (by the stamps)"
    segment = segments(read.values)
    finer = refined(since, seconds, read.resolution, segment)
    if finer is not None:
        how += f"; placed within {read.resolution:g} s by {clock.label if clock else 'the test clock'}"
    made = Clock(read.values, finer, read.utc, segment, read.resolution * UNIFORM, how, used, unit=clock_unit)
    if seconds is not None and (boundaries(len(seconds), [], seconds) & ~boundaries(len(seconds), [segment])).any():
        made.step_time = seconds  # it goes back where the stamps do not: a clock of the step, whatever its name
    else:
        made.test_time = seconds
    return made


def _no_time_of_day(seconds: np.ndarray, label: str, path: str | os.PathLike[str]) -> None:
    """Refuse `12:45:33` at the beginning: whether that is a duration or a time of day decides where every row lies."""
    of_day = (seconds >= 0).all() and (seconds < 86400).all()
    if of_day and seconds.size and (seconds[0] > 3600 or (np.diff(seconds) < -43200).any()):
        raise LoaderError(
            f"column {label!r} may hold elapsed times or times of day",
            file=path,
            found=f"it begins at {seconds[0] / 3600:.2f} h",
            expected="a date beside it, or elapsed times from about zero",
            hint="if elapsed: time_format: elapsed; if times of one day: time_format: elapsed and start: that day's midnight",
        )


def _is_stamp(column: pd.Series, field: Field, form: str | None) -> tuple[bool, bool]:
    """Say whether a chosen time column holds stamps (not elapsed time), and whether its name says so."""
    named = bool(re.search(r"date|stamp|epoch|unix|posix|utc|dpt", field.name))
    if form is not None:
        return form != "elapsed", True
    if column.dtype.kind in "iuf":
        if field.unit is not None and field.unit not in ("s", "ms", "d"):
            return False, named
        return clocks.numeric_form(column, named=named) is not None or (named and field.unit is None), named
    return clocks.looks_like_stamps(column), True


def _find_stamp(frame: pd.DataFrame, free: Sequence[Field], form: str | None) -> tuple[pd.Series, str, set[int], bool] | None:
    """Find a column (or a date and a time of day beside it) of absolute stamps."""
    if form == "elapsed":
        return None
    ranked = sorted((f for f in free), key=lambda f: _STAMPS.index(f.name) if f.name in _STAMPS else len(_STAMPS))
    for f in ranked:
        column = frame[f.position]
        if column.isna().any() and column.isna().mean() > 0.5:
            continue
        named = f.name in _STAMPS or bool(re.search(r"date|time_?stamp|epoch|unix", f.name))
        if column.dtype.kind in "iuf":
            if (named and (form is not None or clocks.numeric_form(column, named=True))) or (
                (f.name in _CLOCKS or f.label == NAMELESS) and f.unit in (None, "s") and clocks.numeric_form(column, named=False)
            ):
                return column, f.label, {f.position}, named
        elif form is not None and named:
            return column, f.label, {f.position}, True
        elif clocks.looks_like_stamps(column):
            first = str(column.dropna().iloc[0]).strip()
            if re.search(r"\d:\d\d", first):
                return column, f.label, {f.position}, True
            day = next(
                (g for g in free if g.position != f.position and re.search(r"time|clock|hour|heure|uhr", g.name) and _time_of_day(frame[g.position])),
                None,
            )
            if day is not None:
                return _joined(frame, [f, day]), f"{f.label} + {day.label}", {f.position, day.position}, True
    return None


def _time_of_day(column: pd.Series) -> bool:
    values = column.dropna().astype(str).head(5)
    return len(values) > 0 and bool(values.str.fullmatch(r"\s*\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AaPp]\.?[Mm]\.?)?\s*").all())


def _joined(frame: pd.DataFrame, parts: Sequence[Field]) -> pd.Series:
    text = frame[parts[0].position].astype("string").str.strip()
    for f in parts[1:]:
        text = text + " " + frame[f.position].astype("string").str.strip()
    return text.astype(object)


def _find_clock(frame: pd.DataFrame, free: Sequence[Field]) -> Field | None:
    for name in _CLOCKS:
        for f in free:
            if (f.unit is None and name == "test") or (f.unit is not None and factor(f.unit, "s") is None):
                continue  # `Test` alone numbers the test; `T (K)` is a temperature
            if f.name == name and (frame[f.position].dtype.kind in "iuf" or _duration(frame[f.position])):
                return f
    return None


def _duration(column: pd.Series) -> bool:
    values = column.dropna().astype(str).head(5)
    return len(values) > 0 and bool(values.str.contains(r"\d:\d\d").all()) and not clocks.looks_like_stamps(column)


def _unit_by(clock: np.ndarray, since: np.ndarray) -> str | None:
    """Tell the unit of a test clock from the stamps beside it."""
    lag = max(1, len(clock) // 10)
    run, wall = clock[lag:] - clock[:-lag], since[lag:] - since[:-lag]
    good = (run > 0) & (wall > 0)
    if good.sum() < 1:
        return None
    ratio = float(np.median(wall[good] / run[good]))
    return next((unit for unit, s in (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("ms", 1e-3), ("d", 86400.0)) if abs(ratio / s - 1) < 0.05), None)


def stated_start(preamble: Mapping[str, str], path: str | os.PathLike[str]) -> tuple[np.datetime64, bool] | None:
    """Read the start from a preamble line such as `Started: 2026-06-03 10:00:00`, if it can be read in one way only."""
    import pandas as pd

    for key, value in preamble.items():
        if _START.fullmatch(key.strip()):
            try:
                read = clocks.read_stamps(pd.Series([value]), path, name=key)
                return read.values[0], read.utc
            except LoaderError:
                continue
    return None
