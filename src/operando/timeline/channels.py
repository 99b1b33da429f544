"""One channel averaged over exposures: its mean, its spread inside each, and what the clock's uncertainty does to the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError
from operando.timeline.windows import window_statistics

_NS = 10**9
_BATCH = 50_000  # frames whose shifted windows are computed together: up to 100 MB

# The clock moves a window by z sigma, z normal. Nodes of z, and the share of the distribution each stands for: half of each
# neighbouring cell, so that a step of the signal between two nodes counts half. The spread of a straight line comes out exact.
_NODES = np.array([-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
_WEIGHTS = np.array([0.00380, 0.01075, 0.03030, 0.06790, 0.12085, 0.17070, 0.17070, 0.12085, 0.06790, 0.03030, 0.01075, 0.00380])
_LINE = float(np.sqrt(np.sum(_WEIGHTS * _NODES**2)))


def over_exposures(
    times: np.ndarray,
    values: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    sigma: np.ndarray | None,
    *,
    rule: str,
    steps: np.ndarray | None = None,
    gaps: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Average a channel over exposures.

    Parameters
    ----------
    times, values
        Records, int64 nanoseconds that do not decrease.
    begin, end
        Exposures, int64 nanoseconds.
    sigma
        1 sigma of each exposure's place in time, s; None leaves `errors` out.
    rule, steps, gaps
        See `window_statistics`.

    Returns
    -------
    dict
        `mean`, `std`, `slope` (per s), `coverage`, `step_inside`, `errors`.

    Notes
    -----
    `errors` is the larger of |mean(t + sigma) - mean(t - sigma)| / 2 and the spread of the mean over a clock error drawn
    from a normal distribution (12 shifts up to 3 sigma). The first alone is blind to a step a little more than one sigma
    away, where a draw in six crosses it. Where a shifted window finds no record, the opposite shift stands for it.
    """
    found = window_statistics(times, values, begin, end, rule=rule, steps=steps, gaps=gaps, ordered=True)
    out = found._asdict()
    if sigma is None:
        return out
    errors = np.where(np.isfinite(found.mean), 0.0, np.nan)
    todo = np.flatnonzero(np.isfinite(found.mean) & (sigma > 0))
    for at in range(0, todo.size, _BATCH):
        some = todo[at : at + _BATCH]
        shift = np.round(_NODES[:, None] * sigma[some] * _NS).astype(np.int64)
        moved = window_statistics(
            times, values, (begin[some] + shift).ravel(), (end[some] + shift).ravel(), rule=rule, steps=steps, gaps=gaps, ordered=True
        )
        away = moved.mean.reshape(shift.shape) - found.mean[some]
        away = np.where(np.isnan(away), -away[::-1], away)
        unknown = np.isnan(away).all(axis=0)
        away = np.nan_to_num(away)
        middle = _WEIGHTS @ away
        spread = np.sqrt(np.maximum(_WEIGHTS @ away**2 - middle**2, 0.0)) / _LINE
        one = int(np.flatnonzero(_NODES == 1.0)[0])
        errors[some] = np.where(unknown, np.nan, np.maximum(np.abs(away[one] - away[-1 - one]) / 2, spread))
    out["errors"] = errors
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
                found = over_exposures(times, values, begin, end, None, rule="linear" if sampling == "continuous" else "starting", gaps=_gaps(times))
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
