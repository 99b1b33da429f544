"""What the loaders of images share: the table of references, the size of a pixel, stamps of one kind for all frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ContractError, LoaderError, quantity, series
from operando.images import ORIENTATIONS

LARGEST_PIXEL = 1e5
"""um; what says that a pixel is larger means something else: the screen's resolution, or nothing."""


def image_series(
    path: Path,
    places: Sequence[tuple[str, int]],
    *,
    shape: Sequence[int],
    dtype: str,
    pixel_size: tuple[float, float] | None,
    coords: Mapping[str, tuple[np.ndarray, str | None]],
    times: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> xr.Dataset:
    """Build a series of technique `images` whose frames are pictures: `imaging` reduces them.

    Parameters
    ----------
    places
        (dataset, index) of each frame in the file.
    shape, dtype
        Of a frame.
    pixel_size
        (y, x), um; None if it is not known.
    coords
        Name -> (values per frame, unit or None).
    times
        What `operando.contract.series` is to be told of the times.
    attrs
        Further attributes.
    name
        The file, if it is not `path`.
    """
    file = name or Path(os.path.abspath(path)).as_posix()
    n = len(places)
    variables: dict[str, tuple[Any, ...]] = {
        "file": ("time", np.full(n, file, dtype=object), None, {"long_name": "file that holds the pixels"}),
        "dataset": (
            "time",
            np.array([d for d, _ in places], dtype=object),
            None,
            {"long_name": "dataset in it; empty or pages for other files than HDF5"},
        ),
        "index": ("time", np.array([k for _, k in places], np.int64), "1", {"long_name": "frame in it"}),
    }
    more = {key: ("time", values, units) for key, (values, units) in coords.items()}
    told: dict[str, Any] = {"frames_of": "imaging", "detector_shape": [int(v) for v in shape], "pixel_type": dtype, **(attrs or {})}
    if pixel_size is not None:
        told |= {"pixel_size": [float(v) for v in pixel_size], "pixel_size_units": "um"}
    return series("images", variables, source=path, coords=more, source_index=np.arange(n), attrs=told, **times)


def pixel_size_um(value: Any, path: Path) -> tuple[float, float] | None:
    """Read the option `pixel_size`: `1.3 um`, or two of them, for y and x.

    Raises
    ------
    LoaderError
        It is no length.
    """
    if value is None:
        return None
    many = list(value) if isinstance(value, list | tuple) else [value, value]
    try:
        sizes = [quantity(one, "um") for one in many]
    except ContractError as error:
        raise LoaderError(f"pixel_size: {error.problem}", file=path, found=repr(value), expected="for example 1.3 um, or [1.3 um, 1.4 um]") from None
    if len(sizes) != 2 or not all(0 < size < LARGEST_PIXEL for size in sizes):
        raise LoaderError("pixel_size: is no size of a pixel", file=path, found=repr(value), expected="for example 1.3 um, or [y, x]")
    return sizes[0], sizes[1]


def sensible(y: float | None, x: float | None) -> tuple[float, float] | None:
    """Give a pixel size (um) that a file says, or None where it says nothing that can be one."""
    if y is None or x is None or not all(np.isfinite(v) and 0 < v < LARGEST_PIXEL for v in (y, x)):
        return None
    return float(y), float(x)


def turned(orientation: Any, path: Path) -> str:
    """Check the option `orientation`, and write it as the attribute `detector` has it.

    Raises
    ------
    LoaderError
        It is not one of them.
    """
    import json

    if orientation is not None and orientation not in ORIENTATIONS:
        raise LoaderError("orientation: is not known", file=path, found=repr(orientation), expected=", ".join(ORIENTATIONS))
    return json.dumps({} if orientation in (None, "as-read") else {"orientation": orientation})


def seconds(value: Any, name: str, path: Path) -> float | None:
    """Read an option that is a time: `2 s`, `100 ms`.

    Raises
    ------
    LoaderError
        It is none, or not positive.
    """
    if value is None:
        return None
    try:
        found = quantity(value, "s")
    except ContractError as error:
        raise LoaderError(f"{name}: {error.problem}", file=path, found=repr(value), expected="for example 2 s") from None
    if not found > 0:
        raise LoaderError(f"{name}: is not a positive time", file=path, found=repr(value))
    return found
