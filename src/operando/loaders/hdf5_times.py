"""When the frames of an HDF5 entry were taken: stamps, relative times, epochs, frame numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import ContractError, LoaderError, as_stamps, convert, quantity
from operando.loaders.hdf5_entries import Entry, Path_, Spec, alternatives, look_up, read_values, spec_of, text_of, units_of
from operando.loaders.spectrum_text import STAMP_FORMATS, resolution
from operando.loaders.text import parse_local

FRAME_LIMIT = 50_000_000
EPOCHS = {"unix": np.datetime64("1970-01-01", "ns"), "epics": np.datetime64("1990-01-01", "ns")}


@dataclass
class Times:
    """When the frames of one entry began: `stamps[i] + elapsed[i]`; no stamps if the file holds no absolute time."""

    elapsed: np.ndarray
    exposure: np.ndarray
    stamps: np.ndarray | None = None
    utc: bool = False
    uncertainty: float = 0.0


def stamp_of(found: Any, spec: Spec, file: Path_, what: str) -> tuple[np.datetime64, bool, float]:
    """Read one stamp: ISO text, text in the option's format, or seconds since an epoch (`kind: unix | epics`).

    Returns
    -------
    tuple
        Stamp, whether it is UTC, its uncertainty from its last digit (s).

    Raises
    ------
    LoaderError
        It is no stamp.
    """
    values = read_values(found, file, what).ravel()
    if values.size == 0:
        raise LoaderError(f"{what} is empty", file=file)
    if values.dtype != object:
        kind = spec.more.get("kind")
        if kind not in EPOCHS:
            raise LoaderError(f"{what} is a number", file=file, found=values[0], expected="text, or kind: unix | epics beside its path")
        return _since(values[:1], units_of(found, spec, "s"), EPOCHS[kind], file, what)[0], True, 0.0
    text = str(values[0])[:100]
    form = spec.more.get("format")
    try:
        if form is None:
            stamp, zoned = as_stamps(re.sub(r"(?<=\d)\s+(?=[+-]\d\d:?\d\d$)", "", text))
            return stamp[()], zoned, resolution(text)
    except ContractError:
        pass
    local = parse_local(text, [form] if isinstance(form, str) else list(STAMP_FORMATS))
    if local is None:
        raise LoaderError(f"{what} is no stamp", file=file, found=repr(text[:60]), expected=form or "ISO 8601, or format: beside its path")
    stamp, zoned = as_stamps(local)
    return stamp[()], zoned, resolution(text)


def _since(values: np.ndarray, units: str, epoch: np.datetime64, file: Path_, what: str) -> np.ndarray:
    """Add numbers to an epoch, exactly for integers."""
    factor = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}.get(units)
    if factor is None:
        try:
            values, factor = np.asarray(convert(values.astype(float), units, "s")), 1_000_000_000
        except ContractError as error:
            raise LoaderError(f"{what}: {error.problem}", file=file) from None
    if not (np.abs(values.astype(float)) * factor < 9e18).all():
        raise LoaderError(f"{what} hold an impossible time", file=file, found=f"up to {np.nanmax(np.abs(values.astype(float))):g} {units}")
    if values.dtype.kind in "iu":
        return epoch + (values.astype(np.int64) * factor).astype("timedelta64[ns]")
    whole = np.floor(values)
    fraction = np.round((values - whole) * factor).astype(np.int64)
    return epoch + (whole.astype(np.int64) * factor + fraction).astype("timedelta64[ns]")


def frame_stamps(found: Any, spec: Spec, file: Path_) -> tuple[np.ndarray, np.ndarray | None, bool, float]:
    """Read the times of the frames.

    Returns
    -------
    tuple
        Seconds from the stamp (NaN where the file holds none yet); stamps, one per frame, or None if the times are relative;
        whether they are UTC; uncertainty.

    Raises
    ------
    LoaderError
        They cannot be read, or whether they count from 1970, 1990 or the start cannot be told.
    """
    what = "frame_times:"
    values = read_values(found, file, what).ravel()
    kind = spec.more.get("kind", "auto")
    if kind not in ("auto", "iso", "relative", *EPOCHS):
        raise LoaderError("frame_times: kind is not known", file=file, found=repr(kind), expected="auto | iso | relative | unix | epics")
    if values.dtype == object:
        filled = np.array([bool(v) for v in values])
        last = int(filled.sum()) if filled[: int(filled.sum())].all() else values.size
        stamps, utc = as_stamps([str(v) for v in values[:last]]) if last else (np.empty(0, "datetime64[ns]"), False)
        elapsed = np.concatenate([np.zeros(last), np.full(values.size - last, np.nan)])
        return (
            elapsed,
            np.concatenate([stamps, np.full(values.size - last, np.datetime64("NaT", "ns"))]),
            utc,
            resolution(str(values[0])) if last else 0.0,
        )
    units = units_of(found, spec, "s")
    since = re.fullmatch(r"(\w+)\s+since\s+(.+)", units)
    if since and kind in ("auto", "relative"):
        stamp, zoned = as_stamps(since.group(2).strip())
        return _seconds(values, since.group(1), file), np.full(values.size, stamp[()]), zoned, 0.0
    if kind in EPOCHS:
        empty = ~np.isfinite(values.astype(float)) | (values == 0)
        clean = np.where(empty, np.asarray(1, values.dtype), values)
        return np.where(empty, np.nan, 0.0), _since(clean, units, EPOCHS[kind], file, what), True, 0.0
    seconds = _seconds(values, units, file)
    start = getattr(found, "attrs", {}).get("start")
    if kind == "auto" and seconds.size and np.nanmax(np.abs(seconds), initial=0.0) > 3e8:
        raise LoaderError(
            "what the frame times count from cannot be told",
            file=file,
            found=f"{seconds[0]:.3f} s",
            expected="kind: unix (1970), epics (1990), or relative",
            hint=f"frame_times: {{path: {spec.paths[0]}, kind: ...}}",
        )
    if start is not None:
        stamp, zoned, sigma = stamp_of(start, Spec(("@start",), {}), file, "the attribute start of the frame times")
        return seconds, np.full(values.size, stamp), zoned, sigma
    return seconds, None, False, 0.0


def _seconds(values: np.ndarray, units: str, file: Path_) -> np.ndarray:
    try:
        return np.asarray(convert(values.astype(float), units, "s"), dtype=float)
    except ContractError as error:
        raise LoaderError(f"frame_times: {error.problem}", file=file, hint="give their unit: {path: ..., units: s}") from None


def seconds_of(value: Any, entry: Entry, root: Any, option: str, file: Path_) -> np.ndarray | None:
    """Read a duration: `0.5 s`, a number of seconds, or a path (one value or one per frame).

    Returns
    -------
    numpy.ndarray or None
        0-d or 1-d seconds; None if the path does not exist.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return np.asarray(float(value))
    if isinstance(value, str) and re.match(r"\s*[-+]?\.?\d[\d.eE+-]*\s*[a-zA-Z]*\s*$", value):
        try:
            return np.asarray(quantity(value, "s"))
        except ContractError as error:
            if "/" not in value:
                raise LoaderError(f"{option}: {error.problem}", file=file, found=value, expected="for example '0.5 s', or a path") from None
    spec = spec_of(value, option, file, ("units",))
    found = look_up(entry, root, spec, file)
    if found is None:
        return None
    values = read_values(found, file, option)
    if values.dtype == object:
        raise LoaderError(f"{option}: is text", file=file, found=text_of(values)[:60], expected="a number of seconds")
    try:
        out = np.asarray(convert(values.astype(float), units_of(found, spec, "s"), "s"), dtype=float).squeeze()
    except ContractError as error:
        raise LoaderError(f"{option}: {error.problem}", file=file) from None
    if out.ndim > 1 or (out < 0).any() or np.isinf(out).any():
        raise LoaderError(f"{option}: is not a duration", file=file, found=f"shape {out.shape}, {out.ravel()[:3]}")
    return out


def entry_times(entry: Entry, root: Any, options: Mapping[str, Any], file: Path_, n: int) -> tuple[Times, int]:
    """Read when the frames of an entry began.

    Parameters
    ----------
    entry, root
        The entry and the open file.
    options
        `start_time`, `end_time`, `frame_times`, `frame_time`, `frame_number`, `count_time`, `technique`.
    file
        For the message.
    n
        How many frames its signals have.

    Returns
    -------
    tuple
        Times; for how many frames, from the first, they are complete.

    Raises
    ------
    LoaderError
        A time that is missing or cannot be read; the message names the option.
    """
    stamp: np.datetime64 | None = None
    utc, sigma = False, 0.0
    if options["start_time"] is not None:
        spec = spec_of(options["start_time"], "start_time", file, ("kind", "format", "units"))
        found = look_up(entry, root, spec, file)
        if found is None and not spec.optional:
            raise LoaderError(
                f"{entry.name or 'the file'} has no start time", file=file, found=alternatives(entry, spec.paths), expected=" or ".join(spec.paths)
            )
        if found is not None:
            stamp, utc, sigma = stamp_of(found, spec, file, f"start_time of {entry.name or 'the file'}")
    stamps: np.ndarray | None = None
    marks = "start"
    elapsed: np.ndarray | None = None
    if options["frame_times"] is not None:
        spec = spec_of(options["frame_times"], "frame_times", file, ("kind", "units", "marks", "format"))
        marks = str(spec.more.get("marks", "start"))
        if marks not in ("start", "middle", "end"):
            raise LoaderError("frame_times: marks is not known", file=file, found=marks, expected="start | middle | end")
        found = look_up(entry, root, spec, file)
        if found is None and not spec.optional:
            raise LoaderError(
                f"{entry.name or 'the file'} has no frame times", file=file, found=alternatives(entry, spec.paths), expected=" or ".join(spec.paths)
            )
        if found is not None:
            elapsed, stamps, own_utc, own_sigma = frame_stamps(found, spec, file)
            if stamps is not None:
                utc, sigma = own_utc, own_sigma
    period = seconds_of(options["frame_time"], entry, root, "frame_time", file) if options["frame_time"] is not None else None
    if period is not None and (period.ndim or not period > 0):
        raise LoaderError("frame_time: is not one positive duration", file=file, found=period)
    if elapsed is None:
        elapsed = _counted(entry, root, options, file, n, period, stamp)
    if stamps is None and stamp is not None:
        stamps = np.full(elapsed.size, stamp)
    full = int(np.argmin(np.isfinite(elapsed))) if not np.isfinite(elapsed).all() else elapsed.size
    if np.isfinite(elapsed[full:]).any():
        raise LoaderError(f"{entry.name or 'the file'}: a frame in the middle has no time", file=file, found=f"frame {full}")
    exposure = _exposure(entry, root, options, file, elapsed.size, period, stamp)
    count = min(elapsed.size, exposure.size)
    elapsed, exposure = elapsed[:count], exposure[:count]
    if marks != "start":
        elapsed = elapsed - np.nan_to_num(exposure) * (0.5 if marks == "middle" else 1.0)
    return Times(elapsed, exposure, stamps[:count] if stamps is not None else None, utc, sigma), min(full, count)


def _counted(entry: Entry, root: Any, options: Mapping[str, Any], file: Path_, n: int, period: np.ndarray | None, stamp: Any) -> np.ndarray:
    """Place frames by number x frame_time; a single frame is at the start."""
    if period is None:
        if n > 1:
            raise LoaderError(
                f"{entry.name or 'the file'} has {n} frames but no time for each",
                file=file,
                found="one start time" if stamp is not None else "no time",
                hint="give frame_times: PATH, or frame_time: '10 s' (frames follow each other), for example",
            )
        return np.zeros(n)
    number = np.arange(n, dtype=float)
    if options["frame_number"] is not None:
        spec = spec_of(options["frame_number"], "frame_number", file, ("first",))
        found = look_up(entry, root, spec, file)
        if found is None and not spec.optional:
            raise LoaderError(
                f"{entry.name or 'the file'} has no frame numbers", file=file, found=alternatives(entry, spec.paths), expected=" or ".join(spec.paths)
            )
        if found is not None:
            values = read_values(found, file, "frame_number").ravel()
            if values.dtype == object:
                raise LoaderError("frame_number: is text", file=file, found=text_of(values)[:60])
            number = values.astype(float) - float(spec.more.get("first", 0))
    return np.asarray(number * float(period))


def _exposure(entry: Entry, root: Any, options: Mapping[str, Any], file: Path_, n: int, period: np.ndarray | None, stamp: Any) -> np.ndarray:
    given = None
    if options["count_time"] is not None:
        given = seconds_of(options["count_time"], entry, root, "count_time", file)
    if given is not None:
        return np.full(n, float(given)) if given.ndim == 0 else given
    if options["end_time"] is not None and n == 1 and stamp is not None:
        spec = spec_of(options["end_time"], "end_time", file, ("kind", "format", "units"))
        found = look_up(entry, root, spec, file)
        if found is not None:
            seconds = float((stamp_of(found, spec, file, "end_time")[0] - stamp) / np.timedelta64(1, "s"))
            if seconds < 0:
                raise LoaderError(f"{entry.name or 'the file'} ends before it starts", file=file, found=f"{seconds} s")
            return np.full(1, seconds)
    if period is not None:
        return np.full(n, float(period))
    return np.zeros(n) if options["technique"] == "sensor" else np.full(n, np.nan)
