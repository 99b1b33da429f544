"""Images in TIFF files, by reference: stacks of many pages or one file per image; ImageJ, OME and Micro-Manager say more than plain ones.

What the bytes mean
-------------------
Every full picture of the file (TIFF 6.0; thumbnails and coarser levels of a pyramid are none) is a frame, in the order of the file; pixels stay
there. A file that was cut off gives the frames it holds, the last with the quality INTERRUPTED, and a warning. Of an OME file with several channels
or slices `channel` and `z` say which a frame is (`where: {channel: 0}` takes one). Colour is averaged to grey.

Where the time comes from
-------------------------
OME: `AcquisitionDate` and each plane's `DeltaT`, `ExposureTime`. Micro-Manager: each page's `ReceivedTime` or `Time` and `ElapsedTime-ms`,
`Exposure-ms`. Else DateTime of each page (tag 306: to the second, local time; when the page was written, so that it is uncertain by the exposure,
where that is known); where all pages carry the same one, that is when the stack began, and the frames follow at `frame_time`, else ImageJ's
`finterval`. Most files hold no time at all: then a log says when each page was taken (`times_from:` with `index:`), or `start:` and `period:`, or the
file's name.

What is assumed
---------------
Pixel size: OME's PhysicalSize, ImageJ's resolution and unit, Micro-Manager's PixelSizeUm, TIFF resolution in centimetres; a resolution in inches is
one for printers and says nothing. `pixel_size:` wins.

Output
------
Technique `images`: `file`, `dataset` (`pages`), `index`; attributes `pixel_size` (y, x; um), `detector_shape`, `frames_of` = imaging: the reducer
`imaging` follows drift, edges and regions in them.

Options
-------
pixel_size
    `1.3 um`, or `[y, x]`.
frame_time
    From one page to the next, `2 s`, where the file holds only when it began.
orientation
    as-read, up-down, left-right, rotate-180, transpose, rotate-90, rotate-270, anti-transpose: done to each frame before anything else.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import xarray as xr

from operando.contract import ContractError, LoaderError, OperandoError, Quality, as_stamps, convert
from operando.images import tiff
from operando.loaders.frame_headers import looks_like
from operando.loaders.image_tables import image_series, pixel_size_um, seconds, sensible, turned

TECHNIQUES = ("images",)
VERSION = "1"

_SMALLEST = 16
_BESIDE = re.compile(r"mask|flat|dark|background|white|(^|[^a-z])(ref|bg|ff|df)([^a-z]|$)", re.IGNORECASE)
_MICROMANAGER = "MicroManagerMetadata"


def load(path: str | os.PathLike[str], *, pixel_size: Any = None, frame_time: Any = None, orientation: str | None = None) -> xr.Dataset:
    """List the frames of one file; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of technique `images`; no pixel is read.

    Raises
    ------
    LoaderError
        Not a TIFF with pictures of one size, or damaged.
    """
    path = Path(path)
    size = pixel_size_um(pixel_size, path)
    step = seconds(frame_time, "frame_time", path)
    detector = turned(orientation, path)
    found = tiff.stack(path)
    try:
        with tiff.quiet():
            said = _said(found)
    except LoaderError:
        raise
    except Exception as error:  # tifffile reads tags when they are asked for, and raises whatever it meets
        raise LoaderError(
            "what the TIFF says of itself cannot be read", file=path, found=f"{type(error).__name__}: {str(error)[:160]}", hint="copy it again"
        ) from None
    times = _times(said, found.frames, step)
    if found.cut:
        warnings.warn(f"{path.name}: the stack is cut off: {found.frames} frames are there, the last is INTERRUPTED; {found.cut}", stacklevel=2)
        times["quality"] = np.where(np.arange(found.frames) == found.frames - 1, int(Quality.INTERRUPTED), 0)
    places = [(tiff.PAGES, int(k)) for k in range(found.frames)]
    return image_series(
        path,
        places,
        shape=found.shape,
        dtype=str(found.dtype),
        pixel_size=size or said.get("pixel"),
        coords=said.get("coords", {}),
        times=times,
        attrs={"detector": detector},
    )


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if it is a TIFF of grey or colour pictures that no detector wrote; flats and darks, by their names, are none."""
    try:
        with open(path, "rb") as f:
            if not tiff.is_tiff(f.read(8)):
                return None
        if _BESIDE.search(Path(path).stem) or looks_like(path) is not None:
            return None
        found = tiff.stack(path)
    except (OperandoError, OSError):
        return None
    if min(found.shape) < _SMALLEST or found.dtype == np.int32:  # signed counts are those of a detector
        return None
    return f"images, TIFF ({found.frames} x {found.shape[0]} x {found.shape[1]})"


# --------------------------------------------------------------------------- what the file says


def _said(found: tiff.Stack) -> dict[str, Any]:
    """Collect times and sizes: `stamps` (per frame or one), `elapsed`, `exposure` (s), `step` (s), `pixel` (um), `coords`."""
    file = found.file
    first = file.pages[found.pages[0]]
    out: dict[str, Any] = {"pixel": _resolution(first, file)}
    if file.is_ome:
        out |= {k: v for k, v in _ome(file, found).items() if v is not None}
    elif _MICROMANAGER in first.tags:
        out |= {k: v for k, v in _micromanager(file, found).items() if v is not None}
    if file.is_imagej:
        told = file.imagej_metadata or {}
        step = told.get("finterval")
        if isinstance(step, int | float) and np.isfinite(step) and step > 0:
            out["step"] = float(step)
    if "stamps" not in out:
        stamps = [_datetime(file.pages[k]) for k in found.pages]
        if all(stamps):
            out |= {"stamps": stamps if len(set(stamps)) > 1 or found.frames == 1 else stamps[0], "resolution": 0.5, "written": True}
    if "exposure" not in out and (one := _exif_exposure(first)) is not None:
        out["exposure"] = np.full(found.frames, one)
    return out


def _times(said: dict[str, Any], n: int, step: float | None) -> dict[str, Any]:
    exposure = np.asarray(said.get("exposure", np.full(n, np.nan)), float)
    out: dict[str, Any] = {"exposure": exposure}
    stamps = said.get("stamps")
    elapsed: np.ndarray
    if isinstance(stamps, list):
        elapsed = np.zeros(n)
    elif "elapsed" in said:
        elapsed = np.asarray(said["elapsed"], float)
    else:
        each = step or said.get("step") or 0.0
        elapsed = np.arange(n) * each
    if step is not None and not isinstance(stamps, list):
        elapsed = np.arange(n) * step
    out["elapsed"] = elapsed
    if stamps is not None:
        typical = float(np.nanmedian(exposure)) if np.isfinite(exposure).any() else 0.0
        out |= {
            "start": stamps,
            "time_origin": "header",
            "time_uncertainty": max(said.get("resolution", 0.0), typical if said.get("written") else 0.0),
        }
        begin = np.broadcast_to(as_stamps(stamps)[0], (n,)).astype("datetime64[ns]").astype(np.int64) * 1e-9 + elapsed
    else:
        begin = elapsed
    middle = begin + np.nan_to_num(exposure) / 2
    out["segment"] = np.concatenate([[0], np.cumsum(np.diff(middle) < 0)])[:n]
    return out


def _datetime(page: Any) -> str | None:
    tag = page.tags.get("DateTime") if hasattr(page, "tags") else page.aspage().tags.get("DateTime")
    text = str(tag.value).strip() if tag is not None else ""
    for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y:%m:%d %H:%M:%S.%f", "%Y%m%d %H:%M:%S", "%Y%m%d %H:%M:%S.%f"):
        try:
            stamp = dt.datetime.strptime(text, form)  # noqa: DTZ007 - a wall-clock stamp has no zone yet; the timeline gives it one
        except ValueError:
            continue
        return stamp.isoformat() if 1678 <= stamp.year <= 2261 else None
    return None


def _exif_exposure(page: Any) -> float | None:
    tag = page.tags.get("ExifTag")
    value = tag.value.get("ExposureTime") if tag is not None and isinstance(tag.value, dict) else None
    try:
        found = value[0] / value[1] if isinstance(value, tuple) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return found if np.isfinite(found) and 0 < found < 1e6 else None


def _resolution(page: Any, file: Any) -> tuple[float, float] | None:
    """Read the pixel size from the resolution tags: in ImageJ's unit, or in centimetres."""
    sizes = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        value = tag.value if tag is not None else None
        if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
            return None
        sizes.append(value[1] / value[0])
    unit = page.tags.get("ResolutionUnit")
    if file.is_imagej:
        word = str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u").strip()
        if word.lower() in ("pixel", "pixels", "inch", ""):
            return None
        if unit is not None and int(unit.value) == 3:  # the tag says centimetres itself; ImageJ's unit is what it shows
            word = "cm"
        try:
            return sensible(*(float(convert(one, {"micron": "um", "microns": "um"}.get(word, word), "um")) for one in sizes))
        except ContractError:
            return None
    return sensible(*(one * 1e4 for one in sizes)) if unit is not None and int(unit.value) == 3 else None


def _micromanager(file: Any, found: tiff.Stack) -> dict[str, Any]:
    pages = [file.pages[k] for k in found.pages]
    told = [p.tags[_MICROMANAGER].value if _MICROMANAGER in p.tags and isinstance(p.tags[_MICROMANAGER].value, dict) else {} for p in pages]
    out: dict[str, Any] = {}
    elapsed = [_float(one.get("ElapsedTime-ms")) for one in told]
    exposure = [_float(one.get("Exposure-ms")) for one in told]
    if all(v is not None for v in exposure):
        out["exposure"] = np.array(exposure, float) / 1e3
    stamps = [_iso(one.get("ReceivedTime") or one.get("Time")) for one in told]
    if all(stamps) and len({"+" in str(s)[19:] or "-" in str(s)[19:] for s in stamps}) == 1:
        out |= {"stamps": stamps, "resolution": 0.001, "written": True}
    elif all(v is not None for v in elapsed):
        out["elapsed"] = np.array(elapsed, float) / 1e3
    size = _float(told[0].get("PixelSizeUm"))
    out["pixel"] = sensible(size, size)
    return out


def _iso(text: Any) -> str | None:
    """Write `2024-05-06 10:11:12.345 +0200` as ISO 8601."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: ?([+-]\d\d):?(\d\d))?", str(text or "").strip())
    if not match:
        return None
    stamp = f"{match[1]}T{match[2]}" + (f"{match[3]}:{match[4]}" if match[3] else "")
    try:
        as_stamps(stamp)
    except ContractError:
        return None
    return stamp


def _float(value: Any) -> float | None:
    try:
        found = float(str(value).split()[0])
    except (TypeError, ValueError, IndexError):
        return None
    return found if np.isfinite(found) else None


_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _ome(file: Any, found: tiff.Stack) -> dict[str, Any]:
    """Read OME-XML (schema 2016-06): the first Image's planes, in the order of the file's pages."""
    text = file.ome_metadata
    if not text or len(text) > 200_000_000 or "<!ENTITY" in text or "<!DOCTYPE" in text:
        return {}
    try:
        root = ElementTree.fromstring(text.encode("utf-8"))  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, ValueError):
        return {}
    image = next((e for e in root if e.tag.rpartition("}")[2] == "Image"), None)
    pixels = next((e for e in image if e.tag.rpartition("}")[2] == "Pixels"), None) if image is not None else None
    if image is None or pixels is None:
        return {}
    out: dict[str, Any] = {"pixel": sensible(*(_length(pixels, f"PhysicalSize{a}") for a in "YX"))}
    date = next((e.text for e in image if e.tag.rpartition("}")[2] == "AcquisitionDate"), None)
    where = _planes(pixels, found.frames)
    if where is None:
        return out
    planes = {tuple(int(_float(e.get(f"The{a}")) or 0) for a in "TCZ"): e for e in pixels if e.tag.rpartition("}")[2] == "Plane"}
    mine = [planes.get(one) for one in where]
    elapsed = [_duration(e, "DeltaT") for e in mine]
    exposure = [_duration(e, "ExposureTime") for e in mine]
    if any(v is not None for v in exposure):
        out["exposure"] = np.array([np.nan if v is None else v for v in exposure])
    if all(v is not None for v in elapsed):
        out["elapsed"] = np.array(elapsed, float)
    step = _duration(pixels, "TimeIncrement")
    if step and step > 0:
        out["step"] = step
        if "elapsed" not in out:
            out["elapsed"] = np.array([t * step for t, _, _ in where], float)
    if date and (stamp := _iso(re.sub(r"Z$", "+00:00", date.strip()))):
        out |= {"stamps": stamp, "resolution": 0.0 if "." in stamp else 0.5}
    counts = [len({one[k] for one in where}) for k in range(3)]
    out["coords"] = {name: (np.array([one[k] for one in where], np.int64), "1") for name, k in (("channel", 1), ("z", 2)) if counts[k] > 1}
    return out


def _planes(pixels: Any, frames: int) -> list[tuple[int, int, int]] | None:
    """Give (T, C, Z) of each page, by the order of dimensions; None where the pages are not those planes."""
    order = str(pixels.get("DimensionOrder", ""))[2:]
    sizes = {a: int(_float(pixels.get(f"Size{a}")) or 1) for a in "TCZ"}
    samples = next((int(_float(e.get("SamplesPerPixel")) or 1) for e in pixels if e.tag.rpartition("}")[2] == "Channel"), 1)
    sizes["C"] = max(1, sizes["C"] // max(1, samples))
    if sorted(order) != ["C", "T", "Z"] or any(not 0 < v <= frames for v in sizes.values()) or sizes["T"] * sizes["C"] * sizes["Z"] != frames:
        return None
    out = []
    for k in range(frames):
        at, left = {}, k
        for axis in order:
            left, at[axis] = divmod(left, sizes[axis])
        out.append((at["T"], at["C"], at["Z"]))
    return out


def _duration(element: Any, name: str) -> float | None:
    value = _float(element.get(name)) if element is not None else None
    factor = _TIME_UNITS.get(str(element.get(f"{name}Unit", "s"))) if value is not None else None
    return None if value is None or factor is None or abs(value * factor) > 1e9 else value * factor


def _length(element: Any, name: str) -> float | None:
    value = _float(element.get(name))
    try:
        return None if value is None else float(convert(value, str(element.get(f"{name}Unit", "um")).replace("µ", "u").replace("μ", "u"), "um"))
    except ContractError:
        return None
