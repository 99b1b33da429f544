"""Spectra over time as a map of bounded size: only what is drawn is read, in batches; what is finer than print is averaged.

A map has at most as many rows and columns as a print of 600 dots per inch can show. Beyond that, neighbouring points and neighbouring frames
are averaged in blocks (missing values left out), never across a gap that can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.techniques import TECHNIQUES
from operando.figures.bands import Bands, address
from operando.figures.labels import label, named, printed

MOST = 4000
"""Rows or columns of a map, at the very most."""

PRINT = 600  # dots per inch
NORMALISE = ("monitor", "exposure", "mean", "maximum")

_BATCH = 2**21  # numbers read at once
_SAMPLE = 2**20  # numbers that the colour scale is told from
_USUAL = (0.5, 99.5)  # % of the numbers that the colour scale spans


@dataclass(frozen=True)
class Map:
    """A map ready to be drawn: edges of its columns and rows, numbers (NaN where nothing was measured), and the label of the numbers."""

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    label: str


def signal_of(frames: xr.Dataset, name: str | None) -> xr.DataArray:
    """Give the signal to draw: the one asked for, else the technique's own.

    Raises
    ------
    ContractError
        There is no such signal, or it is no spectrum over time.
    """
    spectra = [str(k) for k, v in frames.data_vars.items() if v.ndim == 2 and v.dims[0] == "time" and v.dtype.kind in "iuf"]
    own = [n for n in spectra if not n.endswith(("_errors", "_systematic"))]
    technique = TECHNIQUES.get(str(frames.attrs.get("technique")))
    chosen = name or next((n for n in (*(technique.signals if technique else ()), *own) if n in own), None)
    if chosen not in spectra:
        present = f"{chosen!r}" if chosen else ", ".join(f"{k} {v.dims}" for k, v in frames.data_vars.items()) or "no variable"
        raise ContractError("no such spectra over time", file=address(frames), found=present, expected=", ".join(own) or "numbers over (time, axis)")
    return frames[chosen]


def points_of(frames: xr.Dataset, signal: xr.DataArray, axis: str | None, x_range: tuple[float, float] | None) -> tuple[xr.DataArray, slice]:
    """Give the axis of a signal, and which of its points lie in the range.

    Raises
    ------
    ContractError
        No such axis, or nothing in the range.
    """
    dim = str(signal.dims[1])
    along = [str(k) for k, v in frames.coords.items() if v.dims == (dim,) and v.dtype.kind in "iuf"]
    chosen = axis or (dim if dim in along else next(iter(along), dim))
    if chosen not in along:
        raise ContractError("no such axis", file=address(frames), found=repr(chosen), expected=", ".join(along) or f"a coordinate along {dim!r}")
    x = np.asarray(frames[chosen].values, float)
    low, high = sorted(x_range) if x_range is not None else (-np.inf, np.inf)
    inside = np.flatnonzero((x >= low) & (x <= high))
    if inside.size == 0:
        raise ContractError("no point of the axis lies in x_range", file=address(frames), found=x_range, expected=f"{x.min():g} to {x.max():g}")
    return frames[chosen], slice(int(inside[0]), int(inside[-1]) + 1)


def edges_of(points: np.ndarray) -> np.ndarray:
    """Give the edges of columns: half way between points."""
    if points.size == 1:
        return points[0] + np.array([-0.5, 0.5])
    between = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - between[0]], between, [2 * points[-1] - between[-1]]])


def blocks(low: np.ndarray, high: np.ndarray, most: int) -> np.ndarray:
    """Give the first frame of each row of the map: one each, or as many to a row as needed, never across a gap that can be seen."""
    n = low.size
    if n <= most:
        return np.arange(n)
    gap = np.append(True, low[1:] - high[:-1] > (high[-1] - low[0]) / most)
    since = np.arange(n) - np.maximum.accumulate(np.where(gap, np.arange(n), 0))
    return np.flatnonzero(since % -(-n // most) == 0)


def map_of(
    frames: xr.Dataset,
    bands: Bands,
    *,
    signal: str | None = None,
    axis: str | None = None,
    x_range: tuple[float, float] | None = None,
    normalise: str | None = None,
    most: tuple[int, int] = (MOST, MOST),
) -> tuple[Map, xr.DataArray]:
    """Read the map of a series; `most` is (rows, columns). Returns it with its axis.

    Raises
    ------
    ContractError
        What is asked for is not there.
    """
    variable = signal_of(frames, signal)
    x, points = points_of(frames, variable, axis, x_range)
    divisor, text = _divisor(frames, variable, normalise)
    starts = blocks(bands.low, bands.high, max(1, min(most[0], MOST)))
    n = points.stop - points.start
    columns = np.arange(0, n, -(-n // max(1, min(most[1], MOST))))
    values = _averages(variable.variable, bands.rows, starts, points, columns, divisor, normalise)
    edges = edges_of(np.asarray(x.values, float)[points])[np.append(columns, n)]
    ends = np.append(starts[1:], bands.rows.size) - 1
    y, rows = _with_gaps(bands.low[starts], bands.high[ends], values)
    return Map(edges, y, rows, text), x


def _divisor(frames: xr.Dataset, variable: xr.DataArray, normalise: str | None) -> tuple[np.ndarray | None, str]:
    """Give what each frame is divided by where that is one number of it, and the label of the result."""
    name, units = str(variable.name), str(variable.attrs.get("units", "?"))
    if normalise is None:
        return None, label(name, variable)
    if normalise not in NORMALISE:
        raise ContractError("not a way to normalise", found=repr(normalise), expected=f"None, {', '.join(NORMALISE)}")
    if normalise in ("mean", "maximum"):
        return None, f"{named(name, variable)} / its {normalise} (1)"
    if normalise not in frames.variables or frames[normalise].dims != ("time",):
        found = ", ".join(str(k) for k, v in frames.coords.items() if v.dims == ("time",) and v.dtype.kind in "iuf")
        raise ContractError(f"these frames have no {normalise!r} to divide by", file=address(frames), found=found or "nothing that is a number")
    by = frames[normalise]
    other = str(by.attrs.get("units", "?"))
    unit = "1" if other == units else units if other == "1" else f"{units}/{other}"
    numbers = np.asarray(by.values, float)
    return np.where(numbers > 0, numbers, np.nan), f"{named(name, variable)} / {named(normalise, by)} ({printed(unit)})"


def _averages(
    variable: Any, rows: np.ndarray, starts: np.ndarray, points: slice, columns: np.ndarray, divisor: np.ndarray | None, normalise: str | None
) -> np.ndarray:
    """Average blocks of frames and points, reading a bounded number of frames at a time."""
    total = np.zeros((starts.size, columns.size))
    count = np.zeros((starts.size, columns.size), np.int32)
    batch = max(16, _BATCH // (points.stop - points.start))
    for a in range(0, rows.size, batch):
        here = rows[a : a + batch]
        numbers = _read(variable, here, points)
        if divisor is not None:
            numbers = numbers / divisor[here][:, None]
        finite = np.isfinite(numbers)
        numbers[~finite] = 0.0
        if normalise in ("mean", "maximum"):
            numbers, finite = _by_itself(numbers, finite, normalise)
        row = np.searchsorted(starts, np.arange(a, a + here.size), side="right") - 1
        first = np.flatnonzero(np.append(True, np.diff(row) != 0))
        total[row[first]] += np.add.reduceat(np.add.reduceat(numbers, columns, axis=1), first, axis=0)
        count[row[first]] += np.add.reduceat(np.add.reduceat(finite, columns, axis=1, dtype=np.int32), first, axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).astype(np.float32)


def _by_itself(numbers: np.ndarray, finite: np.ndarray, normalise: str) -> tuple[np.ndarray, np.ndarray]:
    if normalise == "mean":
        by = numbers.sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    else:
        by = np.where(finite, numbers, -np.inf).max(axis=1)
    good = np.isfinite(by) & (by > 0)
    return np.where(good[:, None], numbers / np.where(good, by, 1.0)[:, None], 0.0), finite & good[:, None]


def _read(variable: Any, rows: np.ndarray, points: slice) -> np.ndarray:
    """Read frames in the order given as float64; from the file in the order they lie there."""
    order = np.argsort(rows, kind="stable")
    key: Any = rows[order]
    step = np.unique(np.diff(key))
    if key.size == 1 or (step.size == 1 and step[0] > 0):
        key = slice(int(key[0]), int(key[-1]) + 1, int(step[0]) if step.size else 1)
    found = np.asarray(variable[key, points].values)
    out = np.empty(found.shape)
    out[order] = found
    return out


def _with_gaps(low: np.ndarray, high: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give edges and rows where an empty row stands in each gap."""
    gap = np.append(low[1:] > high[:-1], False)
    place = np.arange(low.size) + np.append(0, np.cumsum(gap[:-1]))
    out = np.full((low.size + int(gap.sum()), values.shape[1]), np.nan, np.float32)
    out[place] = values
    edges = np.empty(out.shape[0] + 1)
    edges[place] = low
    edges[place + 1] = high
    return edges, out


def colour_range(values: np.ndarray, limits: tuple[float, float] | None) -> tuple[float, float, str]:
    """Give the ends of the colour scale, and which of them numbers go beyond (`neither`, `min`, `max`, `both`)."""
    finite = np.isfinite(values)
    if not finite.any():
        return (*(limits or (0.0, 1.0)), "neither")
    lowest, highest = (float(f(values, where=finite, initial=i)) for f, i in ((np.min, np.inf), (np.max, -np.inf)))
    if limits is None:
        few = values.ravel()[:: max(1, values.size // _SAMPLE)]
        few = few[np.isfinite(few)]
        low, high = (float(v) for v in np.percentile(few, _USUAL)) if few.size else (lowest, highest)
    else:
        low, high = limits
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1.0), low + 0.5 * (abs(low) or 1.0)
    return low, high, {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[lowest < low, highest > high]
