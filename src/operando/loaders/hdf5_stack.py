"""Images in HDF5 and NeXus files, by reference: stacks (frame, y, x) of cameras and microscopes, NXtomo, Data Exchange, anything with a path.

What the bytes mean
-------------------
For each entry (`entries`, `match`, as in `hdf5-path`) the one dataset of images that is there, or what `data: path` names (a list, `*` allowed);
links to other files and virtual datasets are followed. Where there is no stack, a dataset (y, x) is one frame, if it is the only one. Data Exchange
(`exchange/data`) and NXtomo are stacks like others; of NXtomo the coordinate `image_key` says what a frame is (0 sample, 1 flat, 2 dark: `where:
{image_key: 0}` leaves the others out).

Where the time comes from
-------------------------
As for detector frames (`xrd-frames`): `frame_times` (areaDetector's NDArrayTimeStamp, seconds since 1990, is found by itself), else `start_time` +
index x `frame_time`, exposure `count_time`; each may be a path, a number with its unit where `hdf5-path` allows one, or a list of which the first
that is there counts. Where the file holds none the source's `start:` and `period:`, or a log (`times_from:` with `index:`) say it.

What is assumed
---------------
Pixel size: `x_pixel_size` and `y_pixel_size` of the detector (NeXus), unless `pixel_size:` says otherwise: behind a lens the detector's is not that
of the sample.

Output
------
Technique `images`: `file`, `dataset`, `index`; coordinates `monitor` and what `coords` and `motors` name; attributes `pixel_size` (y, x; um),
`detector_shape`, `frames_of` = imaging: the reducer `imaging` follows drift, edges and regions in them.

Options
-------
data
    Path of the dataset(s) of images in the entry.
pixel_size
    `1.3 um`, or `[y, x]`.
coords, motors, monitor
    As in `hdf5-path`: what was measured beside the frames.
orientation
    as-read, up-down, left-right, rotate-180, transpose, rotate-90, rotate-270, anti-transpose: done to each frame before anything else.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ContractError, LoaderError, OperandoError, convert
from operando.images.reading import HDF5_MAGIC
from operando.loaders.hdf5_entries import find_entries, look_up, read_values, refuse_endless_heaps, spec_of, units_of
from operando.loaders.image_tables import image_series, pixel_size_um, sensible, turned
from operando.loaders.presets import with_preset
from operando.loaders.xrd_frames import beside, list_frames

__all__ = ["TECHNIQUES", "VERSION", "beside", "claims", "load"]

TECHNIQUES = ("images",)
VERSION = "1"

_DETECTORS = ("[NXinstrument]/[NXdetector]", "[NXdetector]", "instrument/detector", "measurement/instrument/detector")
_KEYS = ("[NXinstrument]/[NXdetector]/image_key", "instrument/detector/image_key", "[NXdata]/image_key")


def load(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    pixel_size: Any = None,
    orientation: str | None = None,
    data: str | Sequence[str] | None = None,
    entries: str | None = None,
    match: Mapping[str, str] | None = None,
    start_time: Any = None,
    end_time: Any = None,
    frame_times: Any = None,
    frame_number: Any = None,
    frame_time: Any = None,
    count_time: Any = None,
    monitor: str | None = None,
    coords: Mapping[str, Any] | None = None,
    motors: Any = None,
) -> xr.Dataset:
    """List the frames of one file; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of technique `images`; no pixel is read.

    Raises
    ------
    LoaderError
        Not an HDF5 file of images, damaged, or without what the options name.
    ConfigError
        The preset cannot be used.
    """
    given = {k: v for k, v in locals().items() if k in _OPTIONS}
    path = Path(path)
    options = with_preset("hdf5-stack", preset, given)
    size = pixel_size_um(options["pixel_size"], path)
    detector = turned(options["orientation"], path)
    with path.open("rb") as f:
        if f.read(8) != HDF5_MAGIC:
            raise LoaderError(
                "is no HDF5 file", file=path, expected="HDF5 or NeXus", hint="tiff-stack reads TIFF, xrm the files of Xradia microscopes"
            )
    if options["coords"] is None:
        options["coords"] = {"image_key": {"path": list(_KEYS), "optional": True}}
    table, times, shape, dtype, _ = _listed(path, options)
    places = list(zip(table["dataset"], table["index"], strict=True))
    said = size or _detector_pixel(path, options)
    return image_series(path, places, shape=shape, dtype=dtype, pixel_size=said, coords=table["coords"], times=times, attrs={"detector": detector})


_OPTIONS = tuple(name for name in inspect.signature(load).parameters if name not in ("path", "preset"))


_TIMES = ("start_time", "end_time", "frame_times", "frame_number", "frame_time", "count_time")
_AREA_DETECTOR = ("/entry/instrument/NDAttributes/NDArrayTimeStamp", "/exchange/NDArrayTimeStamp", "/defaults/NDArrayTimeStamp")


def _listed(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int], str, dict[str, Any]]:
    """List the frames; of a bare stack without any time too: the source's options then say it."""
    asked = [name for name in _TIMES if options[name] is not None]
    options = options | {"pictures": True}
    if not asked:
        place = next((place for place in _AREA_DETECTOR if _is_there(path, place)), None)
        options = options | ({"frame_times": {"path": place, "kind": "epics"}} if place else {})
    try:
        return list_frames(path, options)
    except LoaderError as error:
        if asked or not error.problem.endswith("no time for each"):
            raise
    table, times, *rest = list_frames(path, options | {"frame_time": "1 s"})
    if "start" in times and times["start"] is not None:  # it says when the stack began, and not how its frames follow
        times["start"] = np.atleast_1d(times["start"])[0]
    n = len(table["file"])
    return table, times | {"elapsed": np.zeros(n), "exposure": np.full(n, np.nan), "segment": 0}, *rest  # type: ignore[return-value]


def _is_there(path: Path, place: str) -> bool:
    from operando.hdf5 import reading

    try:
        refuse_endless_heaps(path)
        with reading(os.fspath(path)) as root:
            return place in root
    except (OperandoError, OSError, KeyError, RuntimeError, ValueError):
        return False


def _detector_pixel(path: Path, options: Mapping[str, Any]) -> tuple[float, float] | None:
    """Read the detector's pixel size, um; None where the file holds none that can be one."""
    from operando.hdf5 import reading

    sizes: list[float | None] = []
    try:
        with reading(os.fspath(path)) as root:
            entry = find_entries(root, options["entries"], path)[0]
            for axis in "yx":
                spec = spec_of([f"{group}/{axis}_pixel_size" for group in _DETECTORS], f"{axis}_pixel_size", path)
                found = look_up(entry, root, spec, path)
                values = (
                    read_values(found, path, f"{axis}_pixel_size").ravel() if found is not None and getattr(found, "size", 0) == 1 else np.zeros(0)
                )
                sizes.append(float(convert(float(values[0]), units_of(found, spec, "m"), "um")) if values.size else None)
    except (OperandoError, ContractError, OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return None
    return sensible(sizes[0], sizes[1])


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if it says itself that it is a stack of images: NXtomo, or Data Exchange."""
    from operando.hdf5 import reading

    try:
        with open(path, "rb") as f:
            if f.read(8) != HDF5_MAGIC:
                return None
        refuse_endless_heaps(path)
        with reading(os.fspath(path)) as root:
            return _kind(root)
    except (OperandoError, OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        return None


def _kind(root: Any) -> str | None:
    import h5py

    data = root.get("exchange/data")
    if isinstance(data, h5py.Dataset) and data.ndim == 3:
        return f"images, Data Exchange ({' x '.join(map(str, data.shape))})"
    for name in list(root)[:50]:
        group = root.get(name)
        for holder in (
            (group, *(group.get(k) for k in list(group)[:50] if isinstance(group.get(k), h5py.Group))) if isinstance(group, h5py.Group) else ()
        ):
            said = holder.get("definition") if isinstance(holder, h5py.Group) else None
            if isinstance(said, h5py.Dataset) and said.size == 1:
                text = np.asarray(said[()]).ravel()[0]
                if (text.decode("latin-1") if isinstance(text, bytes) else str(text)).strip() == "NXtomo":
                    return "images, NXtomo"
    return None
