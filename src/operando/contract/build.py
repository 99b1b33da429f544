"""`series(...)`: build a contract series from what a file says, times as written."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.flags import Quality, flag_attrs
from operando.contract.techniques import TECHNIQUES, TIME_ORIGINS

EPOCH = np.datetime64("1970-01-01T00:00:00", "ns")


def as_stamps(start: Any) -> tuple[np.ndarray, bool]:
    """Read one stamp or many as datetime64[ns] and say whether they are UTC.

    Parameters
    ----------
    start
        ISO text, `datetime`, `datetime64`, or a sequence of them. Text or datetimes that carry an offset
        are converted to UTC; without one they are wall-clock times, returned as written.

    Returns
    -------
    tuple
        Array (0-d for one stamp) of datetime64[ns]; True if every stamp carried its offset.

    Raises
    ------
    ContractError
        A stamp that cannot be read, or some with and some without an offset.
    """
    if isinstance(start, np.ndarray) and start.dtype.kind == "M":
        return start.astype("datetime64[ns]"), False
    if isinstance(start, np.datetime64):
        return np.asarray(start.astype("datetime64[ns]")), False
    many = isinstance(start, Sequence | np.ndarray) and not isinstance(start, str)
    out, aware = [], set()
    for item in start if many else [start]:
        if isinstance(item, np.datetime64):
            out.append(item.astype("datetime64[ns]"))
            aware.add(False)
            continue
        if isinstance(item, str):
            stamp, zoned = _from_iso(item)
        elif isinstance(item, dt.datetime):
            zoned = item.tzinfo is not None
            stamp = _nanoseconds(item)
        else:
            raise ContractError("not a time stamp", found=repr(item), expected="ISO text, datetime or datetime64")
        out.append(stamp)
        aware.add(zoned)
    if len(aware) > 1:
        raise ContractError("some stamps carry an offset from UTC and some do not", found=repr(start)[:200])
    return np.array(out if many else out[0], dtype="datetime64[ns]"), aware == {True}


def _nanoseconds(moment: dt.datetime) -> np.datetime64:
    """Give datetime64[ns], UTC if the moment has an offset; beyond its years it would silently be another date."""
    if moment.tzinfo is not None and 1 < moment.year < 9999:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    if not 1678 <= moment.year <= 2261:
        raise ContractError("a time stamp that cannot be stored", found=moment.isoformat(), expected="years 1678 to 2261")
    return np.datetime64(moment, "ns")


def _from_iso(text: str) -> tuple[np.datetime64, bool]:
    """Read ISO 8601 text to the nanosecond (`datetime` alone stops at microseconds)."""
    try:
        whole = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ContractError("not an ISO time stamp", found=repr(text), expected="2026-06-03T10:00:00[.123][+02:00]") from None
    zoned = whole.tzinfo is not None
    stamp = _nanoseconds(whole)
    digits = text.partition(".")[2]
    digits = digits[: next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))]
    if len(digits) > 6:
        stamp += np.timedelta64(int(digits[:9].ljust(9, "0")[6:]), "ns")
    return stamp, zoned


def series(
    technique: str,
    variables: Mapping[str, tuple[Any, ...]],
    *,
    source: str | os.PathLike[str],
    coords: Mapping[str, tuple[Any, ...]] | None = None,
    start: Any = None,
    elapsed: Any = None,
    exposure: Any = 0.0,
    utc: bool | None = None,
    time_origin: str | None = None,
    time_uncertainty: float = 0.0,
    segment: Any = 0,
    quality: Any = 0,
    source_index: Any = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a contract series from one file, with its times as the file wrote them.

    A frame is an interval: it begins at `start + elapsed` and lasts `exposure`; `time` is its middle. Nothing is
    localised here: where the file's stamps carry no zone, `time` is wall-clock time (attribute `timezone_source`
    is `none`) until the timeline places it on UTC. The coordinate `stamp` keeps the wall-clock stamp(s) that the
    times count from, because only those need a zone; the seconds counted from them do not.

    Parameters
    ----------
    technique
        A key of `TECHNIQUES`.
    variables, coords
        Name -> (dims, values, units) or (dims, values, units, attrs). Dims are `"time"`, or `("time", "energy")`;
        axes (such as `energy`) are coords.
    source
        The file.
    start
        The stamp frames count from (one for the file), or one per frame: ISO text, datetime or datetime64.
        None if the file holds no absolute time: `time` then counts from 1970 and `time_origin` is `counter`.
    elapsed
        Seconds from `start` to the beginning of each frame; 0 by default.
    exposure
        Seconds each frame lasts; one number or one per frame. NaN where unknown.
    utc
        True if `start` is known to be UTC although it carries no offset (epoch seconds). Default: as written.
    time_origin
        Where the time comes from: `header`, `counter`, `filename`, `log`, `mtime`, `config`.
    time_uncertainty
        Seconds (1 sigma) a stamp of this file is uncertain by, its resolution included.
    segment
        Int per frame; raise it where the instrument's clock restarted or stepped back inside the file.
    quality
        `Quality` bits per frame.
    source_index
        Index of each frame in its file; 0, 1, 2 ... by default.
    attrs
        Further attributes (`instrument`, `wavelength` ...).

    Returns
    -------
    xarray.Dataset
        Dims `time` and the technique's axis.

    Raises
    ------
    ContractError
        Unknown technique, stamps that cannot be read, or lengths that do not fit.

    Examples
    --------
    >>> ds = series("xas", {"mu": (("time", "energy"), [[0.0, 1.0]], "1")}, source="scan.txt",
    ...             coords={"energy": ("energy", [8330.0, 8340.0], "eV")},
    ...             start="2026-06-03T10:00:00+02:00", exposure=60.0)
    >>> str(ds.time.values[0])
    '2026-06-03T08:00:30.000000000'
    """
    if technique not in TECHNIQUES:
        raise ContractError("unknown technique", file=source, found=technique, expected=", ".join(TECHNIQUES))
    try:
        data_vars = {name: _variable(spec) for name, spec in variables.items()}
        coord_vars = {name: _variable(spec) for name, spec in (coords or {}).items()}
    except (ValueError, TypeError) as error:
        raise ContractError(f"a variable does not fit its dims: {error}", file=source) from None
    n = _count(data_vars, coord_vars, elapsed, start, source)

    stamps, zoned = as_stamps(start) if start is not None else (np.asarray(EPOCH), False)
    if utc is not None and start is not None:
        zoned = zoned or utc
    if start is None:
        time_origin = "counter"
    elif time_origin not in TIME_ORIGINS:
        raise ContractError(
            "where the time comes from is not said", file=source, found=f"time_origin={time_origin!r}", expected=", ".join(TIME_ORIGINS)
        )
    seconds = np.zeros(n) if elapsed is None else np.broadcast_to(np.asarray(elapsed, float), (n,))
    exposures = np.broadcast_to(np.asarray(exposure, float), (n,)).copy()
    if not np.isfinite(seconds).all():
        raise ContractError("a frame without a finite time", file=source, found=f"frame {int(np.argmin(np.isfinite(seconds)))}")
    middle = seconds + np.nan_to_num(exposures) / 2
    time = np.broadcast_to(stamps, (n,)) + np.round(middle * 1e9).astype("timedelta64[ns]")

    per_frame: dict[str, Any] = {
        "time": ("time", time),
        "source_time": ("time", time.copy(), {"long_name": "stamp of the instrument's clock, middle of the exposure"}),
        "exposure": ("time", exposures, {"units": "s", "long_name": "exposure"}),
        "segment": ("time", np.broadcast_to(np.asarray(segment, np.int32), (n,)).copy(), {"units": "1"}),
        "setup": ("time", np.zeros(n, np.int32), {"units": "1"}),
        "source": ("time", np.full(n, Path(source).name, dtype=object)),
        "source_index": ("time", np.arange(n) if source_index is None else np.asarray(source_index, np.int64), {"units": "1"}),
        "quality": ("time", np.broadcast_to(np.asarray(quality, np.int32), (n,)).copy(), flag_attrs(Quality)),
    }
    if not zoned and start is not None:
        per_frame["stamp"] = (("time",) if stamps.ndim else (), stamps)
    own = {k: xr.Variable(*v) for k, v in per_frame.items() if k not in coord_vars or k in ("time", "stamp")}
    try:
        ds = xr.Dataset(data_vars, coords={**coord_vars, **own})
    except ValueError as error:
        raise ContractError(f"lengths do not fit: {error}", file=source) from None
    ds.attrs = {
        "technique": technique,
        "time_origin": time_origin,
        "time_uncertainty_s": float(time_uncertainty),
        "timezone_source": "file" if zoned else "none",
        **(attrs or {}),
    }
    return ds


def _variable(spec: tuple[Any, ...]) -> xr.Variable:
    dims, values, units, *more = spec
    if not isinstance(values, np.ndarray | np.generic) and not hasattr(values, "__array_function__") and not hasattr(values, "dtype"):
        values = np.asarray(values)
    return xr.Variable(dims, values, {"units": units, **(more[0] if more else {})} if units is not None else dict(more[0] if more else {}))


def _count(data_vars: dict[str, xr.Variable], coord_vars: dict[str, xr.Variable], elapsed: Any, start: Any, source: Any) -> int:
    """Count the frames: every `time` length that is given must be the same."""
    counts = {name: var.sizes["time"] for name, var in {**data_vars, **coord_vars}.items() if "time" in var.dims}
    for name, value in (("elapsed", elapsed), ("start", start)):
        if value is not None and not isinstance(value, str) and np.ndim(value) == 1:
            counts[name] = len(value)
    if len(set(counts.values())) != 1:
        raise ContractError("lengths along time differ" if counts else "nothing has the dim 'time'", file=source, found=counts or None)
    return next(iter(counts.values()))
