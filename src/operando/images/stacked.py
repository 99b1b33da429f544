"""The frames of a series as one array, read when something is computed from them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ContractError, LoaderError, OperandoError
from operando.images.reading import ORIENTATIONS, oriented, read

_BLOCK = 64e6
_TURNED = ("transpose", "rotate-90", "rotate-270", "anti-transpose")


def stack(series: xr.Dataset, *, folder: str | os.PathLike[str] | None = None, fill: float | None = None) -> xr.DataArray:
    """Give the frames of a series of technique `images` as one lazy array (dask): nothing is read until something is computed.

    It has the series' coordinates, so that frames are chosen and grouped by time, voltage or half cycle as spectra are. Blocks hold some 64 MB of
    frames; one frame, or a stretch of them, is read alone. Others are best chosen before: `stack(series.isel(time=series.voltage > 4))`.

    Parameters
    ----------
    series
        What `operando.load` gives of image files, or `tree["A/imaging/images"].ds` of a store.
    folder
        Where the files lie, if they were moved (see `find`); by default what the store says, from where the store is.
    fill
        What stands for frames that cannot be read, such as NaN, which makes integers float; by default such a frame is an error once it is computed.

    Returns
    -------
    xarray.DataArray
        (time, y, x), counts as the files have them, turned as the loader was told (`orientation`); y and x in px from the centre of the first pixel.

    Raises
    ------
    ContractError
        The series holds no references to frames.
    LoaderError
        It does not say of what size its frames are, and none can be read; when computed, what `read` raises.

    Examples
    --------
    >>> pixels = op.images.stack(tree["A/imaging/images"].ds)                          # doctest: +SKIP
    >>> pixels.sel(time="2026-06-03T10:00", method="nearest").plot()                   # doctest: +SKIP
    >>> op.images.stack(series.isel(time=series.voltage > 4)).mean("time")      # doctest: +SKIP
    """
    import dask.array
    from dask.base import tokenize

    if not {"file", "dataset", "index"} <= set(series.variables) or series["file"].dims != ("time",):
        raise ContractError(
            "the series holds no references to frames", found=str(series.attrs.get("technique")), expected="technique images: file, dataset, index"
        )
    source = series.encoding.get("source")
    frames = _Frames(series, folder if folder is not None else Path(source).parent if source else None, fill)
    each = max(1, int(_BLOCK // max(int(np.prod(frames.shape[1:])) * frames.dtype.itemsize, 1)))
    name = f"frames-{tokenize(frames.files, frames.datasets, frames.indices.tolist(), str(frames.folder), frames.orientation, str(fill))}"
    # fancy, inline: dask then hands a choice of frames on to `_Frames`, and does not read a block for one of them
    lazy = dask.array.from_array(frames, chunks=(each, *frames.shape[1:]), name=name, meta=np.empty((0, 0, 0), frames.dtype), inline_array=True)
    coords = {str(k): v.variable for k, v in series.coords.items() if v.dims in ((), ("time",))}
    for dim, n in zip("yx", frames.shape[1:], strict=True):
        coords[dim] = xr.Variable(dim, np.arange(n, dtype=float), {"units": "px", "long_name": "row" if dim == "y" else "column"})
    kept = {k: v for k, v in series.attrs.items() if k in ("pixel_size", "pixel_size_units", "cell", "instrument")}
    return xr.DataArray(lazy, coords, ("time", "y", "x"), "pixels", {"units": "counts", "long_name": "frames as the files hold them", **kept})


class _Frames:
    """What dask slices: an array (frame, row, column) that reads the frames it is asked for."""

    ndim = 3

    def __init__(self, series: xr.Dataset, folder: str | os.PathLike[str] | None, fill: float | None) -> None:
        self.files, self.datasets = ([str(v) for v in series[name].values] for name in ("file", "dataset"))
        self.indices = np.asarray(series["index"].values, int)
        self.folder = None if folder is None else os.fspath(folder)
        self.fill = fill
        try:
            said = str(json.loads(series.attrs.get("detector") or "{}").get("orientation", "as-read"))
        except (ValueError, AttributeError):
            said = "as-read"
        self.orientation = said if said in ORIENTATIONS else "as-read"
        size = tuple(int(n) for n in np.atleast_1d(series.attrs.get("detector_shape", ())))
        kind = str(series.attrs.get("pixel_type", ""))
        if len(size) != 2 or not kind:
            first = self._first()
            size, kind = first.shape, str(first.dtype)
        self.dtype = np.dtype(kind).newbyteorder("=")
        if fill is not None:
            self.dtype = np.result_type(self.dtype, np.min_scalar_type(fill) if np.isfinite(fill) else np.float32)
        self.size = size
        self.shape = (len(self.files), *(size[::-1] if self.orientation in _TURNED else size))

    def _first(self) -> np.ndarray:
        reason: OperandoError | None = None
        for k in range(len(self.files)):
            try:
                return read(self.files[k], self.datasets[k], self.indices[k], folder=self.folder)
            except OperandoError as error:
                reason = reason or error
        raise reason or LoaderError("the series has no frames")

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        which, rows, columns = key
        chosen = np.arange(len(self.files))[which]
        if chosen.ndim == 0:
            return self._frame(int(chosen))[rows][..., columns]
        parts = [self._frame(int(k))[rows][..., columns] for k in chosen]
        return np.stack(parts) if parts else np.empty((0, *np.empty(self.shape[1:], bool)[rows][..., columns].shape), self.dtype)

    def _frame(self, k: int) -> np.ndarray:
        try:
            found = read(self.files[k], self.datasets[k], int(self.indices[k]), folder=self.folder)
            if found.shape != self.size:
                raise LoaderError("the frame is of another size than the others", file=self.files[k], found=found.shape, expected=self.size)
        except OperandoError:
            if self.fill is None:
                raise
            return np.full(self.shape[1:], self.fill, self.dtype)
        return oriented(found, self.orientation).astype(self.dtype, copy=False)
