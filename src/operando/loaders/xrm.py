"""Images of Zeiss Xradia X-ray microscopes (.xrm, .txrm), by reference: date, exposure, energy, angle and pixel size from the file.

What the bytes mean
-------------------
An OLE compound file; `operando.images.xrm` says where the pixels lie, and how. `ImageInfo/PixelSize` is in um; `Energy` in eV; `Angles` in degrees;
`ExpTimes` in s; `XPosition`, `YPosition`, `ZPosition` in um. What is said for each picture becomes a coordinate along time; an energy of 0 is none.

Where the time comes from
-------------------------
`ImageInfo/Date`, one text per picture, local time: `07/02/16 17:51:52` with month first, unless the first number is no month (`date_format:` says
otherwise: `%d/%m/%y %H:%M:%S`). The file does not say what the stamp marks: it is taken as the begin of the exposure and uncertain by it.

What is assumed
---------------
A reference file is one like any other: name it in the recipe (`flat: {file: ref.xrm}`). `ReferenceFile` only says which was used. A file whose
reference has been applied already (`OriginalDataRefCorrected`) says so in the attribute `reference_applied`.

Output
------
Technique `images`: `file`, `dataset` (empty), `index`; coordinates `energy` (eV), `angle` (deg), `motor_x`, `motor_y`, `motor_z` (um) where they are
there; attributes `pixel_size` (y, x; um), `detector_shape`, `frames_of` = imaging.

Options
-------
pixel_size
    `38.9 nm`, or `[y, x]`, instead of what the file says.
date_format
    Of the stamps, `strptime` words.
orientation
    as-read, up-down, left-right, rotate-180, transpose, rotate-90, rotate-270, anti-transpose: done to each frame before anything else.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, OperandoError
from operando.images import xrm as ole
from operando.loaders.image_tables import image_series, pixel_size_um, sensible, turned
from operando.loaders.text import parse_local

TECHNIQUES = ("images",)
VERSION = "1"

_COORDS = {
    "energy": ("Energy", "eV"),
    "angle": ("Angles", "deg"),
    "motor_x": ("XPosition", "um"),
    "motor_y": ("YPosition", "um"),
    "motor_z": ("ZPosition", "um"),
}


def load(path: str | os.PathLike[str], *, pixel_size: Any = None, date_format: str | None = None, orientation: str | None = None) -> xr.Dataset:
    """List the pictures of one file; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of technique `images`; no pixel is read.

    Raises
    ------
    LoaderError
        No file of these microscopes, damaged, or with dates in another format.
    """
    path = Path(path)
    size = pixel_size_um(pixel_size, path)
    detector = turned(orientation, path)
    found = ole.xrm(path)
    n = found.frames
    exposure = _per_frame(found.numbers("ImageInfo/ExpTimes"), n)
    times: dict[str, Any] = {"exposure": np.full(n, np.nan) if exposure is None else np.where(exposure > 0, exposure, np.nan)}
    stamps = _stamps(found, date_format, path)
    if stamps is not None:
        known = times["exposure"][np.isfinite(times["exposure"])]
        times |= {
            "start": stamps if n > 1 else stamps[0],
            "time_origin": "header",
            "time_uncertainty": max(0.5, float(np.median(known)) if known.size else 0.0),
        }
        begin = np.array(stamps, "datetime64[ns]").astype(np.int64) * 1e-9
        times["segment"] = np.concatenate([[0], np.cumsum(np.diff(begin + np.nan_to_num(times["exposure"]) / 2) < 0)])[:n]
    coords: dict[str, tuple[np.ndarray, str | None]] = {}
    for name, (stream, unit) in _COORDS.items():
        values = _per_frame(found.numbers(f"ImageInfo/{stream}"), n)
        if values is not None and (name != "energy" or (values > 0).all()):
            coords[name] = (values, unit)
    sides = found.numbers("ImageInfo/PixelSize")
    side = sensible(float(sides[0]), float(sides[0])) if sides.size else None
    attrs: dict[str, Any] = {"detector": detector, "instrument": "Xradia microscope"}
    applied = found.numbers("ImageInfo/OriginalDataRefCorrected", "i")
    if applied.size and applied[0]:
        attrs["reference_applied"] = 1
    for name, stream in (("reference_file", "ReferenceFile"), ("objective", "ObjectiveName")):
        if text := found.text(f"ImageInfo/{stream}"):
            attrs[name] = text
    places = [("", k) for k in range(n)]
    dtype = str(found.dtype.newbyteorder("="))
    return image_series(path, places, shape=found.shape, dtype=dtype, pixel_size=size or side, coords=coords, times=times, attrs=attrs)


def _per_frame(values: np.ndarray, n: int) -> np.ndarray | None:
    """Give a finite number per picture; there is room for more where a scan was stopped."""
    return np.asarray(values[:n], float) if values.size >= n and np.isfinite(values[:n]).all() and (np.abs(values[:n]) < 1e12).all() else None


def _stamps(found: ole.Xrm, form: str | None, path: Path) -> list[str] | None:
    texts = found.texts("ImageInfo/Date")
    if not texts or not any(texts):
        return None
    orders = [form] if form else [f"{order} %H:%M:%S{part}" for order in ("%m/%d/%y", "%m/%d/%Y", "%d/%m/%y", "%d/%m/%Y") for part in ("", ".%f")]
    for one in orders:
        read = [parse_local(text, [one]) for text in texts]
        if all(stamp is not None for stamp in read):
            return [stamp.isoformat() for stamp in read if stamp is not None]
    if form is None and not any(re.match(r"\d", text) for text in texts):
        return None
    raise LoaderError(
        "the dates of the pictures cannot be read",
        file=path,
        found=repr(next((t for t in texts if t), "")),
        expected=form or "07/02/16 17:51:52",
        hint="date_format:",
    )


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if it is an OLE file with pictures of an X-ray microscope; references, by their names, are none."""
    try:
        with open(path, "rb") as f:
            if f.read(8) != ole.MAGIC:
                return None
        if re.search(r"(^|[^a-z])(ref|reference|flat|dark)([^a-z]|$)", Path(path).stem, re.IGNORECASE):
            return None
        found = ole.xrm(path)
    except (OperandoError, OSError):
        return None
    return f"images, X-ray microscope ({found.frames} x {found.shape[0]} x {found.shape[1]})"
