"""What all impedance files share: points in a row become sweeps, each sweep one frame of an eis series.

**Sweeps.** A sweep ends where the frequency jumps back, or turns and keeps going the other way, or where the file itself numbers sweeps.
Points without a frequency (the direct-current stretch of a galvanostatic measurement) belong to none. Sweeps of unequal length are padded
with NaN along `point`; nothing is interpolated, sorted or left out, duplicated frequencies included. A sweep that stops before the others of
its file do is INTERRUPTED.

**Times.** Instruments stamp a point when it has been measured (checked: the time between two points is 1.1, 2.1 ... periods of the SECOND one's
frequency in EC-Lab's and Gamry's files). So a sweep lasts from before its first stamp, by what the first point took, to its last stamp. What it took
is not written: at high frequencies what the second point took, where periods rule that time in proportion to the period. Where the file has no time
per point, the duration is that of one period of each frequency, which is the least it can be; attribute `exposure_from` says so.

**Sign.** The imaginary part of a capacitance is negative here. Many tables hold `-Im(Z)`. Where a name says which it is, it is believed; where
none does, causality decides: locally Im Z = (pi/2) dRe Z / dln w (the Kramers-Kronig relation for slowly varying spectra; e.g. Booth, Proc. IEE
108C (1961)), so an imaginary part that runs against the slope of the real part has the other sign. It is turned over only if it is positive at
most of the lower frequencies as well, where cables and coils say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, Quality, series

ELECTRODES = ("cell", "we", "ce")
"""Names along the dim `electrode`: the whole cell, the working and the counter electrode against the reference."""

_JUMP = 1.6  # a step back of the frequency by more than this factor (or two usual steps) begins a sweep
_TURN = 3  # so many steps in the other direction are a sweep of their own, fewer a wobble
_SURE = 0.5  # correlation from which causality says which sign an imaginary part has
_MOST = 0.8  # of the imaginary parts in the lower half of the frequencies that have to be positive for a sign to be turned over


@dataclass
class Points:
    """The points of one file, in the order they were measured.

    Attributes
    ----------
    frequency
        Hz; zero or NaN where none was applied.
    impedance
        Complex ohm: (point,) or (point, electrode).
    electrodes
        Names along the second dim of `impedance`, if it has one.
    elapsed
        Seconds from the start stamp at which each point was done, or None.
    number
        The file's own number of each point's sweep, or None.
    further
        Variables over the points (and electrodes), name -> (values, unit, attributes): `dc_voltage` (V), `dc_current` (A) ...
    segment
        Restarts of the clock inside the file, per point.
    """

    frequency: np.ndarray
    impedance: np.ndarray
    electrodes: tuple[str, ...] = ()
    elapsed: np.ndarray | None = None
    number: np.ndarray | None = None
    further: dict[str, tuple[np.ndarray, str, dict[str, Any]]] = field(default_factory=dict)
    quality: np.ndarray | None = None
    segment: np.ndarray | None = None
    interrupted: bool = False  # the file says, or shows, that it ends before its last sweep does


def sweep_bounds(frequency: np.ndarray, number: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Find the sweeps in a row of frequencies.

    Parameters
    ----------
    frequency
        Hz, in the order measured; points without one (0, NaN) belong to no sweep and end the one before.
    number
        The file's own number of each point's sweep, where it keeps one.

    Returns
    -------
    list
        Rows (first, one past the last) of each sweep.
    """
    applied = np.isfinite(frequency) & (frequency > 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], applied, [False]]).astype(np.int8)))
    out: list[tuple[int, int]] = []
    for lo, hi in edges.reshape(-1, 2).tolist():
        cuts = {lo, hi}
        if number is not None:
            cuts |= {lo + 1 + int(k) for k in np.flatnonzero(np.diff(number[lo:hi]) != 0)}
        bounds = sorted(cuts)
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            out += _turns(np.log(frequency[a:b]), a)
    return out


def _turns(logs: np.ndarray, first: int) -> list[tuple[int, int]]:
    steps = np.diff(logs)
    moving = steps[steps != 0]
    if not moving.size:
        return [(first, first + logs.size)]
    usual = float(np.median(np.abs(moving)))
    back = max(2 * usual, np.log(_JUMP))
    begins, direction, k = [0], 0, 0
    while k < steps.size:
        way = int(np.sign(steps[k]))
        if way == 0 or way == direction:
            k += 1
            continue
        if direction == 0:
            direction = way
            k += 1
            continue
        run = k
        while run < steps.size and np.sign(steps[run]) in (0, way):
            run += 1
        if abs(steps[k]) > back:  # a jump: the next point begins a sweep, whatever way that one goes
            begins.append(k + 1)
            direction = 0
            k += 1
        elif run - k >= _TURN:
            begins.append(k + 1)
            direction = way
            k = run
        else:
            k = run
    return [(first + a, first + b) for a, b in zip(begins, [*begins[1:], logs.size], strict=True)]


def causal_sign(frequency: np.ndarray, impedance: np.ndarray) -> float:
    """Correlate the imaginary part with what the slope of the real part demands: 1 for a causal spectrum, -1 for its complex conjugate.

    Parameters
    ----------
    frequency, impedance
        One sweep: Hz, complex ohm. Points that are no numbers are left out.

    Returns
    -------
    float
        Between -1 and 1; 0 where there are fewer than four points, or nothing changes.
    """
    good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(impedance)
    order = np.argsort(frequency[good], kind="stable")
    w, z = np.log(frequency[good][order]), impedance[good][order]
    distinct = np.concatenate([[True], np.diff(w) > 1e-9]) if w.size else np.zeros(0, bool)
    w, z = w[distinct], z[distinct]
    if w.size < 4:
        return 0.0
    wanted = np.pi / 2 * np.gradient(z.real, w)
    size = float(np.sqrt((wanted @ wanted) * (z.imag @ z.imag)))
    return float(wanted @ z.imag) / size if size > 0 else 0.0


def signed(frequency: np.ndarray, real: np.ndarray, imaginary: np.ndarray, bounds: list[tuple[int, int]]) -> tuple[np.ndarray, str]:
    """Put real and imaginary parts together where nothing says which sign the imaginary part was written with.

    Returns
    -------
    tuple
        Complex impedance, and in words what was found.
    """
    z = real + 1j * imaginary
    signs = np.array([causal_sign(frequency[a:b], z[a:b]) for a, b in bounds])
    weight = np.array([b - a for a, b in bounds], float)
    mean = float((signs * weight).sum() / max(weight.sum(), 1.0)) if signs.size else 0.0
    lower = np.concatenate([imaginary[a:b][frequency[a:b] <= np.nanmedian(frequency[a:b])] for a, b in bounds]) if bounds else np.zeros(0)
    positive = float(np.mean(lower[np.isfinite(lower)] > 0)) if np.isfinite(lower).any() else 0.0
    if mean < -_SURE and positive > _MOST:
        return z.conj(), f"reversed: as written, the imaginary part runs against the slope of the real part (correlation {mean:.2f})"
    return z, f"as written; agrees with the slope of the real part ({mean:.2f})" if mean > _SURE else "as written; the real part cannot confirm it"


def eis_series(
    path: str | Path,
    points: Points,
    *,
    start: Any,
    time_origin: str | None = "header",
    time_uncertainty: float = 0.0,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make the eis series of one file: one frame for each sweep.

    Parameters
    ----------
    path
        The file.
    points
        Its points.
    start
        The stamp `elapsed` counts from, or None.
    time_uncertainty
        1 sigma of the stamp, s.

    Returns
    -------
    xarray.Dataset
        `impedance` (time, point[, electrode]), complex ohm; `frequency` (time, point), Hz, and `point_time` (time, point), s since the sweep's
        begin, both NaN beyond `n_points` (time).

    Raises
    ------
    LoaderError
        There is no sweep.
    """
    bounds = sweep_bounds(points.frequency, points.number)
    if not bounds:
        applied = int((np.isfinite(points.frequency) & (points.frequency > 0)).sum())
        raise LoaderError("no impedance sweep", file=path, found=f"{points.frequency.size} points, {applied} of them with a frequency above 0 Hz")
    count = np.array([b - a for a, b in bounds])
    rows = np.repeat(np.arange(count.size), count)
    columns = np.concatenate([np.arange(n) for n in count])
    taken = np.concatenate([np.arange(a, b) for a, b in bounds])
    shape = (count.size, int(count.max()))

    def padded(values: np.ndarray) -> np.ndarray:
        whole = values.dtype.kind == "c"
        out = np.full((*shape, *values.shape[1:]), complex(np.nan, np.nan) if whole else np.nan, complex if whole else float)
        out[rows, columns] = values[taken]
        return out

    frequency = padded(points.frequency)
    periods = 1 / points.frequency[taken]
    if points.elapsed is not None:
        first = np.array([points.elapsed[a] - _took(points.elapsed[a:b], points.frequency[a:b]) for a, b in bounds])
        first = np.maximum(first, [points.elapsed[a - 1] if a and points.elapsed[a - 1] <= points.elapsed[a] else -np.inf for a, _ in bounds])
        last = np.array([points.elapsed[a:b].max() for a, b in bounds])
        point_time = padded(points.elapsed) - first[:, None]
        exposure_from = "from before the first point's stamp, by what it took as the second point tells, to the last point's"
    else:
        duration = np.bincount(rows, periods)
        first = np.concatenate([[0.0], np.cumsum(duration)[:-1]])
        last = first + duration
        point_time = np.full(shape, np.nan)
        point_time[rows, columns] = np.concatenate([np.cumsum(1 / points.frequency[a:b]) for a, b in bounds])
        exposure_from = "one period of each frequency, the least there can be: the file has no times of the points"
    impedance_dims = ("time", "point", "electrode") if points.electrodes else ("time", "point")
    variables: dict[str, tuple[Any, ...]] = {
        "impedance": (impedance_dims, padded(points.impedance), "ohm", {"long_name": "impedance; the imaginary part of a capacitance is negative"})
    }
    for name, (values, unit, more) in points.further.items():
        variables[name] = (impedance_dims[: 1 + values.ndim], padded(values), unit, more)
    coords: dict[str, tuple[Any, ...]] = {
        "frequency": (("time", "point"), frequency, "Hz", {"long_name": "frequency"}),
        "point_time": (("time", "point"), point_time, "s", {"long_name": "when a point was done, after the begin of its sweep"}),
        "n_points": ("time", count.astype(np.int32), "1", {"long_name": "points of the sweep"}),
    }
    if points.electrodes:
        coords["electrode"] = ("electrode", np.array(points.electrodes, dtype=object), None)
    quality = np.zeros(count.size, np.int32)
    quality[_stopped(bounds, points.frequency)] |= Quality.INTERRUPTED
    if points.interrupted:
        quality[-1] |= Quality.INTERRUPTED
    if points.quality is not None:
        quality |= np.array([np.bitwise_or.reduce(points.quality[a:b]) for a, b in bounds], np.int32)
    z = padded(points.impedance).reshape(shape[0], -1)
    quality[~np.isfinite(z).any(axis=1)] |= Quality.CORRUPT
    return series(
        "eis",
        variables,
        source=path,
        coords=coords,
        start=start,
        elapsed=first,
        exposure=last - first,
        time_origin=time_origin,
        time_uncertainty=time_uncertainty,
        segment=np.array([points.segment[a] for a, _ in bounds]) if points.segment is not None else 0,
        quality=quality,
        attrs={"exposure_from": exposure_from, **(attrs or {})},
    )


def _took(elapsed: np.ndarray, frequency: np.ndarray) -> float:
    """Seconds that the first point of a sweep took, as far as the second one tells."""
    period = 1 / float(frequency[0])
    if elapsed.size < 2 or not elapsed[1] > elapsed[0]:
        return period
    second = float(elapsed[1] - elapsed[0])
    ruled = 0.5 * second < 1 / float(frequency[1])  # by periods, not by what the instrument needs for any point
    return max(period, second * float(frequency[1]) / float(frequency[0]) if ruled else second)


def _stopped(bounds: list[tuple[int, int]], frequency: np.ndarray) -> np.ndarray:
    """Say which sweeps have fewer points than the usual one of their file and stop short of where that one ends."""
    count = np.array([b - a for a, b in bounds])
    if count.size < 2:
        return np.zeros(count.size, bool)
    usual = np.bincount(count).argmax()
    ends = np.array([frequency[b - 1] for _, b in bounds])
    end = float(np.median(ends[count == usual]))
    return (count < usual) & (np.abs(np.log(ends / end)) > 1e-3)
