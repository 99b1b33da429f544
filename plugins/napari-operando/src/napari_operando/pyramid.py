"""Spectra as pictures: overviews of a whole experiment, and the true picture of a stretch of it at the size of a screen.

Frames are not taken at regular times and axes are not always regular; pixels are both. So each column of a picture asks which frame belongs to its
moment, and each row averages the points of the axis that fall into it. Nothing is interpolated, and where no frame belongs nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

import operando as op
from napari_operando.timeview import GAP, FrameTimes

ROWS = 2048
"""Frames that are read at full resolution at once."""


@dataclass
class Level:
    """Rows of spectra in memory.

    Attributes
    ----------
    values
        (row, point), float32.
    axis
        Of the points.
    row
        Frame -> its row, -1 where it is not in this level.
    factor
        Frames averaged in a row.
    """

    values: np.ndarray
    axis: np.ndarray
    row: np.ndarray
    factor: int


class Pyramid:
    """One variable at several resolutions.

    Parameters
    ----------
    path, address
        The store, and the product in it.
    variable
        Its name.
    ds
        The product at full resolution, lazy.
    """

    def __init__(self, path: Path, address: str, variable: str, ds: xr.Dataset) -> None:
        self.path, self.address, self.variable, self.ds = path, address, variable, ds
        self.frames, self.points = ds[variable].shape
        self._whole: Level | None = None

    @property
    def small(self) -> bool:
        """It can be read at full resolution without waiting."""
        return self.frames <= ROWS and self.points <= ROWS

    @property
    def known(self) -> Level | None:
        """The overview of everything, if it was read."""
        return self._whole

    def overview(self) -> Level:
        """Read the coarsest overview; of a growing store it is averaged from the frames, which takes a while."""
        if self._whole is None:
            made = {} if self.small else op.overviews(self.path, self.address)
            made = {factor: ds for factor, ds in made.items() if self.variable in ds}
            if made:
                factor = max(made)
                rows = op.overview_rows(self.ds, factor) if factor > 1 else np.arange(self.frames)
                self._whole = self._level(made[factor], rows, factor)
            else:
                self._whole = self._level(self.ds, np.arange(self.frames), 1)
        return self._whole

    def detail(self, first: int, last: int) -> Level:
        """Read frames first to last (in the order of acquisition, both included) at full resolution."""
        row = np.full(self.frames, -1)
        row[first : last + 1] = np.arange(last + 1 - first)
        return self._level(self.ds.isel(time=slice(first, last + 1)), row, 1)

    def _level(self, ds: xr.Dataset, row: np.ndarray, factor: int) -> Level:
        v = ds[self.variable]
        dim = v.dims[1]
        axis = np.asarray(ds[dim].values, float) if dim in ds.coords else np.arange(v.shape[1], dtype=float)
        return Level(np.asarray(v.values, np.float32), axis, row, factor)


def columns(level: Level, times: FrameTimes, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give, for each column between two edges (seconds), the row of the level to draw, or `GAP`, and whether its frame is stale."""
    centres = (edges[:-1] + edges[1:]) / 2
    frame, age = times.lookup(centres)
    return np.where(frame == GAP, GAP, level.row[np.maximum(frame, 0)]), (frame != GAP) & (age > times.stale_after)


def binned(level: Level, edges: np.ndarray) -> np.ndarray:
    """Average the points of every row of a level into bins between edges of the axis (ascending): (row, bin), NaN outside the axis.

    A bin that no point falls into takes the nearest one: points wider than pixels are drawn as wide as they are.
    """
    good = np.flatnonzero(np.isfinite(level.axis))
    order = good[np.argsort(level.axis[good], kind="stable")]
    axis = level.axis[order]
    bins = len(edges) - 1
    out = np.full((len(level.values), bins), np.nan, np.float32)
    if not len(axis) or not len(level.values):
        return out
    cut = np.searchsorted(axis, edges)
    low, high = cut[:-1], cut[1:]
    many = np.flatnonzero(high > low)
    if len(many):
        a, b = int(low[many[0]]), int(high[many[-1]])
        step = order[a:b]
        values = level.values[:, step[0] : step[-1] + 1] if len(step) and (np.diff(step) == 1).all() else level.values[:, step]
        finite = np.isfinite(values)
        starts = low[many] - a
        if finite.all():
            out[:, many] = np.add.reduceat(values, starts, axis=1) / np.diff(np.append(starts, b - a))
        else:
            total = np.add.reduceat(np.where(finite, values, 0), starts, axis=1)
            count = np.add.reduceat(finite, starts, axis=1, dtype=np.int32)
            with np.errstate(invalid="ignore"):
                out[:, many] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    few = np.flatnonzero(high <= low)
    if len(few):
        half = np.diff(axis) / 2
        reach = np.concatenate([half[:1], half]) if len(half) else np.ones(1)
        centre = (edges[:-1] + edges[1:])[few] / 2
        right = np.clip(np.searchsorted(axis, centre), 0, len(axis) - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(axis[left] - centre) <= np.abs(axis[right] - centre), left, right)
        inside = (centre >= axis[0] - reach[0]) & (centre <= axis[-1] + reach[-1])
        out[:, few[inside]] = level.values[:, order[nearest[inside]]]
    return out


def shades(values: np.ndarray, low: float, high: float, scale: str = "linear") -> np.ndarray:
    """Give numbers as shades 1 (low) to 255 (high) of a colour map; 0 where there is no number."""
    shape = {"linear": lambda v: v, "square root": lambda v: np.sqrt(np.maximum(v, 0)), "logarithm": lambda v: np.log(np.maximum(v, 1e-3))}[scale]
    if scale != "linear":  # counted from the lower level, so that a background does not eat the range
        values, high, low = values - low, high - low, 0.0
        if scale == "logarithm":
            values, high, low = values / max(high, 1e-30) * 100 + 1, 101.0, 1.0
    a, b = float(shape(np.float64(low))), float(shape(np.float64(high)))
    with np.errstate(invalid="ignore"):
        out = np.rint(np.clip((shape(values) - a) * (254.0 / max(b - a, 1e-30)) + 1.0, 1.0, 255.0))
    return np.where(np.isfinite(values), out, 0).astype(np.uint8)


def levels_of(values: np.ndarray) -> tuple[float, float]:
    """Give what should be darkest and brightest: the 1st and 99.7th percentile, of a sample where there is much."""
    flat = values.ravel()
    flat = flat[:: max(1, len(flat) // 200_000)]
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return 0.0, 1.0
    low, high = (float(x) for x in np.percentile(flat, (1.0, 99.7)))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def envelope(time: np.ndarray, values: np.ndarray, begin: float, end: float, pixels: int, max_gap: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Give at most about 4 points per pixel of a line in [begin, end] that look like all of it: least and greatest of each pixel.

    `time` ascends. A pause longer than `max_gap` breaks the line with NaN, as does a value that is NaN.
    """
    a = max(int(np.searchsorted(time, begin, side="left")) - 1, 0)
    b = min(int(np.searchsorted(time, end, side="right")) + 1, len(time))
    t, v = time[a:b], values[a:b]
    if len(t) > 4 * max(pixels, 1):
        # a group never spans a pixel's edge, so that a pause stays where it is
        bucket = np.floor((t - begin) / max(end - begin, 1e-12) * pixels).astype(np.int64)
        start = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
        stop = np.append(start[1:], len(t)) - 1
        bad = ~np.isfinite(v)
        low = np.minimum.reduceat(np.where(bad, np.inf, v), start)
        high = np.maximum.reduceat(np.where(bad, -np.inf, v), start)
        empty = ~np.isfinite(low)
        low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
        rising = v[start] <= v[stop]
        t = np.stack([t[start], t[stop]], axis=1).ravel()
        v = np.stack([np.where(rising, low, high), np.where(rising, high, low)], axis=1).ravel()
    if np.isfinite(max_gap) and len(t) > 1:
        pause = np.flatnonzero(np.diff(t) > max_gap)
        t = np.insert(t, pause + 1, t[pause] + max_gap / 2)
        v = np.insert(v, pause + 1, np.nan)
    return t, v
