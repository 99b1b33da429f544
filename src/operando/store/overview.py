"""Small versions of large products for viewers.

Means over time, so that a whole experiment is drawn without reading all of it; and pictures of fewer pixels, so that a cursor can be dragged through
them and they are looked at from afar.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from operando.hdf5 import LazyArray, variable
from operando.store.encoding import BATCH

LARGE = 2048
"""Frames, or points of an axis, above which an overview is made."""

PICTURE = 256
"""Pixels along the longer side of a picture above which one of half the side is made, and again of that."""

_POSITIONS = 64


class _Means(LazyArray):
    """NaN-aware means of groups of rows (and of neighbouring points) of a lazy array, computed as they are read."""

    __slots__ = ("ends", "factor", "group", "starts", "var")

    def __init__(self, var: xr.Variable, group: np.ndarray, factor: int) -> None:
        self.var, self.group, self.factor = var, group, factor
        n = int(group.max()) + 1
        self.shape = (n, -(-var.shape[1] // factor)) if var.ndim == 2 else (n,)
        self.dtype = np.dtype(np.float32 if var.dtype == np.float32 else np.float64)
        rows = np.arange(len(group))
        self.starts = np.full(n, len(group))
        np.minimum.at(self.starts, group, rows)
        self.ends = np.zeros(n, int)
        np.maximum.at(self.ends, group, rows + 1)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Compute the rows asked for; only whole rows are ever asked for, by the publisher."""
        rows = np.arange(self.shape[0])[key[0]]
        out = np.full((len(rows), *self.shape[1:]), np.nan, self.dtype)
        step = max(1, BATCH // 4 // max(1, self.var.dtype.itemsize * int(np.prod(self.var.shape[1:])) * max(1, len(self.group) // self.shape[0])))
        for i in range(0, len(rows), step):
            out[i : i + step] = self._means(int(rows[i]), int(rows[min(i + step, len(rows)) - 1]) + 1)
        return out[(slice(None), *key[1:])] if len(key) > 1 else out

    def _means(self, low: int, high: int) -> np.ndarray:
        a, b = int(self.starts[low:high].min()), int(self.ends[low:high].max())
        group = self.group[a:b]
        values = self.var[a:b].values
        inside = (group >= low) & (group < high)
        if not inside.all() or (np.diff(group) < 0).any():
            order = np.argsort(group, kind="stable")
            order = order[inside[order]]
            values, group = values[order], group[order]
        cuts = np.flatnonzero(np.diff(group, prepend=-1))
        good = np.isfinite(values)
        if good.all():
            lengths = np.diff(cuts, append=len(values))
            total = np.add.reduceat(values, cuts, axis=0, dtype=np.float64)
            count = np.broadcast_to(lengths.reshape(-1, *[1] * (values.ndim - 1)), total.shape)
        else:
            total = np.add.reduceat(np.where(good, values, 0), cuts, axis=0, dtype=np.float64)
            count = np.add.reduceat(good, cuts, axis=0, dtype=np.int64)
        if values.ndim == 2 and self.factor > 1:
            points = np.arange(0, values.shape[1], self.factor)
            total, count = np.add.reduceat(total, points, axis=1), np.add.reduceat(count, points, axis=1)
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def overview_rows(ds: xr.Dataset, factor: int) -> np.ndarray:
    """Give, for each frame of a product, its row in the overview of that factor.

    Groups of about `factor` frames are averaged: never across segments, setups or positions; interleaved positions each for itself.
    """
    n = ds.sizes["time"]
    names = [c for c in ("segment", "setup", "position") if c in ds.coords and ds[c].dims == ("time",)]
    kind = np.zeros(n, np.int64)
    for name in names:
        _, code = np.unique(ds[name].values, return_inverse=True)
        kind = kind * (int(code.max()) + 1) + code
    positions = min(len(np.unique(ds["position"].values)), _POSITIONS) if "position" in names else 1
    window = np.arange(n) // (factor * positions)
    _, first, group = np.unique(window * (int(kind.max()) + 1) + kind, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[group]


class _Blocks(LazyArray):
    """NaN-aware means of blocks of pixels of lazy pictures (time, y, x), computed as they are read."""

    __slots__ = ("side", "var")

    def __init__(self, var: xr.Variable, side: int) -> None:
        self.var, self.side = var, side
        rows, height, width = var.shape
        self.shape = (rows, -(-height // side), -(-width // side))
        self.dtype = np.dtype(np.float32 if var.dtype.itemsize <= 4 and var.dtype.kind == "f" else np.float64)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Compute the pictures asked for."""
        rows = np.arange(self.shape[0])[key[0]]
        out = np.full((len(rows), *self.shape[1:]), np.nan, self.dtype)
        step = max(1, BATCH // 4 // max(1, self.var.dtype.itemsize * int(np.prod(self.var.shape[1:]))))
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            values = self.var[int(some[0]) : int(some[-1]) + 1].values[some - some[0]]
            good = np.isfinite(values)
            total, count = self._sums(np.where(good, values, 0)), self._sums(good)
            out[i : i + step] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return out[(slice(None), *key[1:])] if len(key) > 1 else out

    def _sums(self, values: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            values = np.add.reduceat(values, np.arange(0, values.shape[axis], self.side), axis=axis, dtype=np.float64)
        return values


def levels_of(product: str, ds: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Give (name, dataset) of the coarser levels of a product's pictures, each of half the side, until they are small."""
    names = [str(n) for n, v in ds.data_vars.items() if v.dims == ("time", "y", "x") and v.dtype.kind in "iuf"]
    side, longest = 1, max(ds.sizes["y"], ds.sizes["x"]) if names else 0
    kept = {str(n): c.variable for n, c in ds.coords.items() if n in ("time", "segment", "setup", "position", "half_cycle")}
    while longest > side * PICTURE:
        side *= 2
        coords = dict(kept)
        for dim in "yx":
            if dim in ds.coords and ds[dim].dtype.kind in "iuf":
                first = np.arange(0, ds.sizes[dim], side)
                values = np.add.reduceat(ds[dim].values.astype(float), first) / np.diff(np.append(first, ds.sizes[dim]))
                coords[dim] = xr.Variable(dim, values, ds[dim].attrs)
        variables = {n: variable(_Blocks(ds[n].variable, side), ("time", "y", "x"), ds[n].attrs) for n in names}
        yield f"{product}_overview_{side}px", xr.Dataset(variables, coords, {**ds.attrs, "overview_pixels": side})


def overviews_of(product: str, ds: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Give (name, dataset) of each overview of a product, coarser and coarser until it is small.

    Only real variables over (time, axis) have overviews; coordinates along time become their means. See `levels_of` for pictures.
    """
    wide = [str(n) for n, v in ds.data_vars.items() if v.ndim == 2 and v.dims[0] == "time" and v.dtype.kind in "iuf"]
    if not wide or "time" not in ds.dims:
        return
    rows = ds.sizes["time"]
    axis = max(ds.sizes[ds[n].dims[1]] for n in wide)
    if rows <= LARGE and axis <= LARGE:
        return
    factor = 1 if rows <= LARGE else 4
    while True:
        group = overview_rows(ds, factor) if factor > 1 else np.arange(rows)
        yield f"{product}_overview_{factor}", _overview(ds, wide, group, factor)
        if int(group.max()) + 1 <= LARGE or factor * 4 > rows:
            return
        factor *= 4


def _overview(ds: xr.Dataset, wide: list[str], group: np.ndarray, factor: int) -> xr.Dataset:
    n = int(group.max()) + 1
    count = np.bincount(group, minlength=n)
    nanoseconds = ds["time"].values.astype(np.int64)
    mean = nanoseconds[0] + np.round(np.bincount(group, nanoseconds - nanoseconds[0], n) / count).astype(np.int64)
    coords: dict[str, xr.Variable] = {"time": xr.Variable("time", mean.view("datetime64[ns]"))}
    coords["frame_count"] = xr.Variable("time", count, {"units": "1", "long_name": "frames averaged"})
    first = np.full(n, len(group))
    np.minimum.at(first, group, np.arange(len(group)))
    for key, coord in ds.coords.items():
        if coord.dims != ("time",) or key == "time":
            continue
        if key in ("segment", "setup", "position", "cycle", "half_cycle", "step"):
            coords[str(key)] = xr.Variable("time", coord.values[first], coord.attrs)
        elif coord.dtype.kind == "f":
            values = coord.values.astype(float)
            good = np.isfinite(values)
            with np.errstate(invalid="ignore"):
                mean_value = np.bincount(group, np.where(good, values, 0), n) / np.bincount(group, good, n)
            coords[str(key)] = xr.Variable("time", mean_value, coord.attrs)
    variables = {}
    for name in wide:
        var = ds[name].variable
        dim = str(var.dims[1])
        narrow = -(-var.shape[1] // LARGE)
        shorter = f"{dim}_coarse" if narrow > 1 else dim
        if dim in ds.coords and ds[dim].dtype.kind in "iuf":
            points = np.arange(0, var.shape[1], narrow)
            values = ds[dim].values.astype(float)
            values = np.add.reduceat(values, points) / np.diff(np.append(points, len(values)))
            coords[shorter] = xr.Variable(shorter, values, ds[dim].attrs)
        variables[name] = variable(_Means(var, group, narrow), ("time", shorter), var.attrs)
    return xr.Dataset(variables, coords, {**ds.attrs, "overview_factor": factor})
