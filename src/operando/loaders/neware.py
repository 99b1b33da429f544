"""Neware binary files .nda and .ndax, read through fastnda.

fastnda (BSD-3) decodes the records; it is an extra: `pip install "operando[neware]"`. This module decides what they mean.

**Time.** fastnda gives every stamp as if it were UTC. Whether it is depends on how the file stores it, which was checked on 19 files
against what Neware's own BTSDA shows of them and against the start their headers state in the local time of the
cycler's computer:

- .nda versions 5-25 store seconds, 129 and 130 microseconds since 1970: UTC. BTSDA converts them to its computer's zone (1 or 2 h later
  in seven of seven .nda); headers of 8, 22 and 23 state a start 1 or 8 h, 8 h and 5.5 h later (Europe, China, India). So do .ndax whose
  `data.ndc` is of version 6 or 8-17 (14, 16, 17 checked; headers state a start 0, 1 or 2 h later as the season has it; BTSDA shows 1 h later in four
  of nine, the same in five, exported on computers on UTC or in winter Britain): `timezone_source` is `file`.
- .nda versions 26, 28, 29 and .ndax of version 1-5 and 7 store year, month ... second: BTSDA shows the same, headers state the same
  start. Wall clock of the cycler's computer: `timezone_source` is `none`, and the configuration gives the zone.
- .nda versions 1, 3, 4 store no stamp: fastnda adds the step times to the start in the header. Wall clock, blind to pauses
  (`time_written_as` says so). Version 2 has no time at all: a counter.

The computer's zone is never used. Where a UTC file states its local start, the difference is kept in `claims`
(`computer_utc_offset_h`).

Stamps repeat, stand still, jump and run backwards. Records stay in the order of their index; a step back begins a new
`segment`. Records at which the stamps moved otherwise than the instrument's own test clock (by more than 2 s) carry the quality bit
INTERRUPTED and are listed in `clock_findings`: in a BTS 9.1 test file one step back of 165 s in the middle of a charge, a
pause of 16 969 s, and a pause of 443.75 s. Stamps of whole seconds are placed within their second by the test clock, which
counts in 1 or 100 ms (`cycler.refined`).

**Numbers.** Current is signed, charge positive (checked against the step types). Capacity is counted per step, and set to zero
within one when a test is paused; `charge` adds it up (C, zero arbitrary). A record's current is taken as an instant: in constant-current
steps nothing else can be told, and where current varies the trapezoid reproduced the capacity best in 6 of 10 files, the
interval ending at the record in the others (8 times better in a 0.1 s record of a current ramp): option `interval`. `step` is the
number in the program, `step_count` counts the steps done, `cycle` is the file's own (absent where the file has none). Values are
float32 in the file. Warnings of fastnda (layouts it has not seen confirmed) are kept in `notes`.

**Output.** echem: voltage V, current A, charge C, cycle, step, step_count, step_type (text), step_time, test_time s, step_capacity
mA*h, step_energy mW*h, temperature degC (one auxiliary sensor) or aux1_temperature ...
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from operando.contract import LoaderError, Quality, series
from operando.loaders.columns import snake_case, split_label
from operando.loaders.cycler import UNIFORM, echem, refined, segments
from operando.loaders.stamps import read_stamps

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TECHNIQUES = ("echem",)
VERSION = "3"

_WALL_CLOCK_NDA = frozenset({26, 28, 29})
_ADDED_UP_NDA = frozenset({1, 3, 4})
_WALL_CLOCK_NDC = frozenset({1, 2, 3, 4, 5, 7})
_UNPACKED_LIMIT = 1 << 32
_JUMP = 2.0


def load(path: str | os.PathLike[str], *, interval: str = "instant") -> xr.Dataset:
    """Read a Neware .nda or .ndax file.

    Parameters
    ----------
    interval
        What a record's current speaks for: `instant`, the interval `ending` or `starting` at it.

    Returns
    -------
    xarray.Dataset
        One echem series; on UTC or wall clock, as the version of the file stores it.

    Raises
    ------
    LoaderError
        fastnda is missing, the file is not Neware's, of an unknown version, empty or broken.
    """
    path = Path(path)
    kind, version = _version(path)
    table, notes = _read(path)
    got = {str(name): table[name] for name in table.columns}
    n = len(table)
    if n == 0 or "voltage_V" not in got or "current_mA" not in got:
        raise LoaderError("holds no records", file=path, found=f"{n} records of {', '.join(got) or 'nothing'}", hint="a test that never started?")
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = {k: v.to_numpy(dtype=float) if v.dtype.kind == "f" else v.to_numpy() for k, v in got.items() if v.dtype.kind in "iuf"}
    unstepped = [k for k in ("step_count", "step_index") if k in got and (k not in numbers or not np.isfinite(numbers[k]).all())]
    numbers = {k: v for k, v in numbers.items() if k not in unstepped}
    if any("Raw cycle column missing" in note for note in notes):
        numbers.pop("cycle_count", None)
    attrs: dict[str, Any] = {"instrument": f"Neware, {kind} version {version}"}
    test_time = numbers.get("total_time_s")
    start, elapsed, segment, sigma, utc = None, test_time, np.zeros(n, np.int32), 0.0, None
    interrupted = np.zeros(n, bool)
    if "unix_time_s" in numbers and np.isfinite(numbers["unix_time_s"]).all():
        utc = version not in (_WALL_CLOCK_NDC if kind == "ndax" else _WALL_CLOCK_NDA | _ADDED_UP_NDA)
        read = read_stamps(_series(numbers["unix_time_s"]), path, name="stamp", form="epoch")
        start, segment, sigma = read.values, segments(read.values), read.resolution * UNIFORM
        since = (read.values - read.values[0]) / np.timedelta64(1, "s")
        elapsed = refined(since, test_time, read.resolution, segment)
        how = "seconds since 1970, UTC" if utc else "calendar date, wall clock"
        if kind == "nda" and version in _ADDED_UP_NDA:
            how = "start in the header plus step times, wall clock; blind to pauses"
        attrs["time_written_as"] = how + ("; placed within the second by the test clock" if elapsed is not None else "")
        if test_time is not None:
            interrupted, findings = _jumps(since, test_time)
            if findings:
                attrs["clock_findings"] = findings
    elif test_time is None or not (np.abs(test_time) < 9e9).all():
        raise LoaderError("holds neither stamps nor a test clock", file=path, found=", ".join(got))
    else:
        segment = segments(test_time)
        attrs["time_written_as"] = "test clock only"
    states = got["step_type"].astype(object).fillna("").astype(str).to_numpy(dtype=object) if "step_type" in got else None
    capacity = numbers.get("capacity_mAh")
    made = echem(
        numbers["voltage_V"].astype(float),
        numbers["current_mA"].astype(float) * 1e-3,
        charge=None if capacity is None else capacity * 3.6,
        cycle=numbers.get("cycle_count"),
        step=numbers.get("step_index"),
        step_count=numbers.get("step_count"),
        step_time=numbers.get("step_time_s"),
        states=states,
        seconds=test_time,
        interval=interval,
    )
    attrs["current_sign"] = made.notes.get("current_sign", "as written")
    attrs["charge_from"] = "capacity per step, added up"
    out = made.variables
    if test_time is not None:
        out["test_time"] = ("time", test_time, "s", {"long_name": "test clock of the instrument"})
    _others(numbers, out)
    claims_made = _claims_of(path, None if start is None or not utc else start[0])
    if claims_made:
        attrs["claims"] = json.dumps(claims_made, ensure_ascii=False)
    if notes:
        attrs["notes"] = "; ".join(notes[:10])
    return series(
        "echem",
        out,
        source=path,
        start=start,
        elapsed=elapsed,
        utc=utc,
        time_origin="header",
        time_uncertainty=sigma,
        segment=segment,
        quality=made.quality | np.where(interrupted, int(Quality.INTERRUPTED), 0).astype(np.int32),
        attrs=attrs,
    )


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether a file is Neware's: the word NEWARE at its beginning, or a zip with a data.ndc."""
    try:
        kind, version = _version(Path(path))
    except LoaderError:
        return None
    return f"Neware .{kind}, version {version}"


def _version(path: Path) -> tuple[str, int]:
    """Read kind and version from the first bytes (of the zip's data.ndc)."""
    try:
        with path.open("rb") as f:
            head = f.read(16)
            if head.startswith(b"NEWARE"):
                if len(head) < 16:
                    raise LoaderError("the file is cut off", file=path, found=f"{len(head)} bytes")
                return "nda", head[14]
            if not head.startswith(b"PK"):
                raise LoaderError("not a Neware file", file=path, found=repr(head[:8]), expected="NEWARE, or a zip with data.ndc")
            f.seek(0)
            with zipfile.ZipFile(f) as z:
                names = {i.filename: i for i in z.infolist()}
                if "data.ndc" not in names:
                    raise LoaderError("a zip, but not Neware's", file=path, found=", ".join(sorted(names)[:8]), expected="data.ndc")
                if sum(i.file_size for i in names.values()) > _UNPACKED_LIMIT:
                    raise LoaderError("unpacks to more than 4 GiB", file=path)
                with z.open("data.ndc") as ndc:
                    start = ndc.read(3)
                if len(start) < 3:
                    raise LoaderError("data.ndc is empty", file=path)
                return "ndax", start[2]
    except LoaderError:
        raise
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
    except Exception as error:  # zipfile lets through whatever a broken entry raises, and fastnda exchanges the zlib underneath it
        raise LoaderError(f"the zip is broken: {str(error)[:120]}", file=path, hint="copy it again from the cycler") from None


_SERIAL = threading.Lock()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let fastnda read the entries of an .ndax one after the other.

    It reads them from one open zip in several threads, which under Python 3.13 failed now and then on good files ("Invalid deflate
    block", "Bad CRC-32": 9 of 400 readings on a busy machine); a good file must not be quarantined by chance.
    """
    import fastnda.ndax

    with _SERIAL:
        pool = getattr(fastnda.ndax, "ThreadPoolExecutor", None)
        if pool is None:  # another version, which may not do so any more
            yield
            return
        fastnda.ndax.ThreadPoolExecutor = functools.partial(pool, max_workers=1)
        try:
            yield
        finally:
            fastnda.ndax.ThreadPoolExecutor = pool


class _Notes(logging.Handler):
    """Collects what fastnda logs."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line of a message."""
        self.into.append(record.getMessage().splitlines()[0] if record.getMessage() else "")


def _read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Let fastnda read the records; whatever it raises becomes a LoaderError, whatever it says a note."""
    try:
        import fastnda
    except ImportError as error:
        raise LoaderError("Neware files need the package fastnda", file=path, found=str(error), hint='pip install "operando[neware]"') from None
    if path.suffix.lower() not in (".nda", ".ndax"):
        raise LoaderError("a Neware file without its suffix", file=path, found=path.suffix or "no suffix", expected=".nda or .ndax", hint="rename it")
    notes: list[str] = []
    log, handler = logging.getLogger("fastnda"), _Notes(notes)
    spread, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with _one_thread():
                frame = _pandas(fastnda.read(path, cycle_mode="raw"))
        notes += [str(w.message) for w in caught]
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # polars panics are no Exceptions
        raise LoaderError(
            f"fastnda cannot read it: {str(error)[:200] or type(error).__name__}",
            file=path,
            found=type(error).__name__,
            hint="a half-written file, or a new version of the format",
        ) from None
    finally:
        log.removeHandler(handler)
        log.propagate = spread
    return frame, [note.split(" If you can, please share")[0] for note in dict.fromkeys(notes)]


def _pandas(table: Any) -> pd.DataFrame:
    """Take the columns out one by one (no pyarrow needed)."""
    import pandas as pd

    out = {}
    for name in table.columns:
        column = table[name]
        out[name] = (
            column.to_list()
            if str(column.dtype) in ("Categorical", "String", "Utf8", "Enum") or str(column.dtype).startswith("Categorical")
            else column.to_numpy()
        )
    return pd.DataFrame(out)


def _series(values: np.ndarray) -> pd.Series:
    import pandas as pd

    return pd.Series(values)


def _jumps(since: np.ndarray, test_time: np.ndarray) -> tuple[np.ndarray, str]:
    """Find the records at which the stamps moved otherwise than the test clock."""
    wall, run = np.diff(since), np.diff(test_time)
    at = np.flatnonzero(np.abs(wall - run) > _JUMP)
    marks = np.zeros(len(since), bool)
    marks[at + 1] = True
    said = [
        f"record {i} -> {i + 1}: the stamp {'goes back' if wall[i] < 0 else 'advances'} {abs(wall[i]):.6g} s, the test clock {run[i]:.6g} s"
        for i in at[:20]
    ]
    return marks, "; ".join(said) + (f"; and {len(at) - 20} more" if len(at) > 20 else "")


def _others(numbers: dict[str, np.ndarray], out: dict[str, tuple[Any, ...]]) -> None:
    """Add what is neither time nor one of ours: capacity and energy of the step, auxiliary sensors."""
    spent = {"index", "voltage_V", "current_mA", "unix_time_s", "total_time_s", "step_time_s", "cycle_count", "step_count", "step_index"}
    words = {"capacity": "step_capacity", "energy": "step_energy"}
    temperatures = [k for k in numbers if re.fullmatch(r"aux\d*_temperature_degC", k)]
    for label, values in numbers.items():
        if label in spent:
            continue
        name, unit = split_label(label)
        clear = words.get(name, snake_case(name))
        if label in temperatures and len(temperatures) == 1:
            clear = "temperature"
        out[clear] = ("time", values, unit or "1", {"long_name": label})


def _claims_of(path: Path, first_utc: np.datetime64 | None) -> dict[str, Any]:
    """Collect what the file says of its cell and start: strings only, for the record."""
    import fastnda

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flat = _flat(fastnda.read_metadata(path))
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # the records are what matters; a header that cannot be read claims nothing
        return {}
    wanted = re.compile(
        r"start_?time|end_?time|stop_?time|active_?mass|SCQ|creator|sn$|remark|barcode|test_?name|step_?name|server_version|SvrVer|bts_version",
        re.IGNORECASE,
    )
    out: dict[str, Any] = {k: str(v)[:200] for k, v in flat.items() if wanted.search(k.rpartition(".")[2]) and str(v).strip() and "wjSn" not in k}
    local = next(
        (v for k, v in out.items() if re.fullmatch(r"start_?time", k.rpartition(".")[2], re.IGNORECASE) and re.fullmatch(r"[\d.-]{10} [\d:]{8}", v)),
        None,
    )
    if first_utc is not None and local is not None:
        hours = (np.datetime64(local.replace(".", "-").replace(" ", "T")) - first_utc) / np.timedelta64(1, "h")
        if abs(hours) < 15:
            out["computer_utc_offset_h"] = round(float(hours) * 4) / 4
    return dict(list(out.items())[:60])


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if len(out) < 2000:
            out.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return out
