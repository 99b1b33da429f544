"""Channels averaged over exposures: their mean, their spread inside each, and what the clock's uncertainty does to the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError
from operando.timeline.uncertainty import errors_of_time
from operando.timeline.windows import window_statistics

_NS = 10**9


def over_exposures(
    times: np.ndarray,
    channels: Mapping[str, tuple[np.ndarray, str]],
    begin: np.ndarray,
    end: np.ndarray,
    sigma: np.ndarray | None = None,
    *,
    steps: np.ndarray | None = None,
    gaps: np.ndarray | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Average channels over exposures.

    Parameters
    ----------
    times
        Records, int64 nanoseconds that do not decrease.
    channels
        Name -> (values, rule of `window_statistics`).
    begin, end
        Exposures, int64 nanoseconds.
    sigma
        1 sigma of each exposure's place in time, s; None leaves `errors` out.
    steps, gaps
        See `window_statistics`.

    Returns
    -------
    dict
        For each channel `mean`, `std`, `slope` (per s), `coverage`, `step_inside`, and `errors` (see `errors_of_time`).
    """
    none = np.empty(0, np.int64)
    steps, gaps = none if steps is None else steps, none if gaps is None else gaps
    out = {}
    for name, (values, rule) in channels.items():
        out[name] = window_statistics(times, values, begin, end, rule=rule, steps=steps, gaps=gaps, ordered=True)._asdict()
    if sigma is not None:
        found = {name: (values, rule, out[name]["mean"]) for name, (values, rule) in channels.items()}
        for name, errors in errors_of_time(times, found, begin, end, sigma, steps=steps, gaps=gaps).items():
            out[name]["errors"] = errors
    return out


def join_sensors(sensors: dict[str, xr.Dataset], begin: np.ndarray, end: np.ndarray, taken: set[str]) -> dict[str, tuple[Any, ...]]:
    """Average the channels of sensors over exposures, each by what it declares of its sampling.

    Parameters
    ----------
    sensors
        Series of technique `sensor` on the cell's timeline, by name. A channel's attribute `sampling` rules: `continuous`
        is straight between records, `step` holds until the next, `event` and `sample` give the nearest record, never beyond
        the first and the last. A `transport_delay` (s; of channel, dataset or a scalar variable) is taken off: gas seen at
        t left the cell at t - delay.
    begin, end
        Exposures, int64 nanoseconds.
    taken
        Names that are in use: such a channel is called `<sensor>_<channel>`.

    Returns
    -------
    dict
        Name -> (dims, values, attrs), as `xarray.Dataset` takes them.

    Raises
    ------
    ClockError
        A sensor that is not on UTC.
    """
    out: dict[str, tuple[Any, ...]] = {}
    for name, ds in sensors.items():
        if ds.attrs.get("timezone_source", "none") == "none":
            raise ClockError(f"sensor {name!r} is not on UTC", hint="give timezone: in beamtime.yaml for its source")
        stamps = ds["time"].values.astype("datetime64[ns]").view(np.int64)
        order = np.argsort(stamps, kind="stable") if (stamps[1:] < stamps[:-1]).any() else slice(None)
        for key, var in ds.data_vars.items():
            channel = str(key)
            if var.dims != ("time",) or var.dtype.kind not in "iufb":
                continue
            sampling = str(var.attrs.get("sampling", "sample"))
            delay = _delay(ds, var)
            times = stamps[order] - int(round(delay * _NS))
            values = np.asarray(var.values, dtype=float)[order]
            label = channel if channel not in taken and channel not in out else f"{name}_{channel}"
            attrs: dict[str, Any] = {"units": str(var.attrs.get("units", "1")), "long_name": str(var.attrs.get("long_name", channel)), "sensor": name}
            attrs |= {"sampling": sampling, "transport_delay_s": delay}
            if sampling in ("continuous", "step"):
                rule = "linear" if sampling == "continuous" else "starting"
                found = over_exposures(times, {label: (values, rule)}, begin, end, gaps=_gaps(times))[label]
                spread = {"units": attrs["units"], "long_name": f"{attrs['long_name']}: spread inside the exposure", "sensor": name}
                out[label] = ("time", found["mean"], {**attrs, "cell_methods": "time: mean"})
                out[f"{label}_std"] = ("time", found["std"], spread)
            else:
                out[label] = ("time", _nearest(times, values, begin, end), {**attrs, "cell_methods": "time: point"})
    return out


def _delay(ds: xr.Dataset, var: xr.DataArray) -> float:
    if "transport_delay" in ds.variables and ds["transport_delay"].ndim == 0:
        given: Any = ds["transport_delay"].values
    else:
        given = var.attrs.get("transport_delay", ds.attrs.get("transport_delay", 0.0))
    try:
        delay = float(given)
    except (TypeError, ValueError):
        delay = np.nan
    if not np.isfinite(delay):
        raise ClockError("a transport delay that is not a number of seconds", found=repr(given))
    return delay


def _gaps(times: np.ndarray) -> np.ndarray:
    """Find records after more than the larger of 600 s and 20 times the 95th percentile of the spacing."""
    spacing = np.diff(times)
    if not spacing.size:
        return np.empty(0, np.int64)
    return np.flatnonzero(spacing > max(600 * _NS, 20 * float(np.percentile(spacing, 95)))) + 1


def _nearest(times: np.ndarray, values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    out = np.full(begin.size, np.nan)
    if not times.size:
        return out
    middle = begin + (end - begin) // 2
    after = np.clip(np.searchsorted(times, middle), 1, max(times.size - 1, 1))
    before = after - 1
    after = np.minimum(after, times.size - 1)
    nearest = np.where(middle - times[before] <= times[after] - middle, before, after)
    # an exposure that holds the first or the last record sees it, though its middle lies outside
    inside = (end >= times[0]) & (begin <= times[-1])
    out[inside] = values[nearest[inside]]
    return out
