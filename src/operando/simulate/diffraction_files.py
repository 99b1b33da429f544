"""The diffraction files: NeXus masters with compressed frames, and the patterns that the beamline integrates on the fly.

* `A_0001.h5`: /entry as the NeXus manual wants it, NXdetector with its pixel_mask, frames in chunks of one image, bitshuffle-LZ4 (Masui et
  al., Astron. Comput. 12 (2015) 181), and per frame `timestamp` (s since the file's start_time), `monitor`, `ring_current` and `samy`.
* `processed/A_0001_integrated.h5`: application definition NXazint1d (https://manual.nexusformat.org/classes/applications/NXazint1d.html).

Nothing in the files depends on when they are written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from operando.simulate.area_detector import POLARISATION, Detector, RadialBins

PER_FRAME = {"timestamp": "s", "monitor": "counts", "ring_current": "mA", "samy": "mm", "position": ""}


def _group(parent: h5py.Group, name: str, kind: str, /, **content: Any) -> h5py.Group:
    """Make a group of a NeXus class; a content is a value or (value, unit)."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    for key, value in content.items():
        unit = ""
        if isinstance(value, tuple):
            value, unit = value
        group[key] = value
        if unit:
            group[key].attrs["units"] = unit
    return group


def _entry(file: h5py.File, title: str, span: tuple[str, str], wavelength: float, cell: str, frames: dict[str, np.ndarray]) -> h5py.Group:
    """Write what both kinds of file say: when, which sample, which beam, and one number per frame."""
    file.attrs["default"] = "entry"
    entry = _group(file, "entry", "NXentry", title=title, start_time=span[0], end_time=span[1])
    entry.attrs["default"] = "data"
    _group(entry, "sample", "NXsample", name=cell)
    instrument = _group(entry, "instrument", "NXinstrument", name="simulated diffraction instrument")
    _group(instrument, "beam", "NXbeam", incident_wavelength=(wavelength, "angstrom"))
    _group(instrument, "monochromator", "NXmonochromator", wavelength=(wavelength, "angstrom"), energy=(12.398419843320026 / wavelength, "keV"))
    per_frame = _group(entry, "measurement", "NXcollection", **{name: (frames[name], unit) for name, unit in PER_FRAME.items()})
    per_frame["timestamp"].attrs["start"] = span[0]
    monitor = _group(entry, "monitor", "NXmonitor")
    monitor["data"] = per_frame["monitor"]
    return entry


def create_master(
    path: Path,
    detector: Detector,
    mask: np.ndarray,
    exposure: float,
    *,
    title: str,
    span: tuple[str, str],
    wavelength: float,
    cell: str,
    frames: dict[str, np.ndarray],
) -> h5py.File:
    """Open a new file of frames; its /entry/data/data is still to be filled.

    Parameters
    ----------
    path
        The file.
    detector, mask, exposure
        The detector, its NeXus pixel_mask, and the exposure of a frame (s).
    title, span, wavelength, cell, frames
        Title; start and end as ISO text; wavelength (angstrom); name of the sample; the values of `PER_FRAME`.
    """
    file = h5py.File(path, "w")
    entry = _entry(file, title, span, wavelength, cell, frames)
    dist, poni1, poni2, *_ = detector.poni
    into = _group(
        entry["instrument"],
        "detector",
        "NXdetector",
        description=detector.description,
        sensor_material="Si",
        sensor_thickness=(detector.sensor, "m"),
        count_time=(exposure, "s"),
        x_pixel_size=(detector.pixel, "m"),
        y_pixel_size=(detector.pixel, "m"),
        saturation_value=np.uint32(detector.saturation),
    )
    into.create_dataset("pixel_mask", data=mask, **hdf5plugin.Bitshuffle())
    data = _group(entry, "data", "NXdata")
    data.attrs["signal"] = "data"
    data.create_dataset("data", (frames["timestamp"].size, *detector.shape), np.uint32, chunks=(1, *detector.shape), **hdf5plugin.Bitshuffle())
    data["data"].attrs["interpretation"] = "image"
    data["data"].attrs["units"] = "counts"
    into["data"] = data["data"]
    data["timestamp"] = entry["measurement/timestamp"]
    return file


def create_integrated(
    path: Path,
    bins: RadialBins,
    poni: str,
    exposure: float,
    *,
    source: str,
    title: str,
    span: tuple[str, str],
    wavelength: float,
    cell: str,
    frames: dict[str, np.ndarray],
) -> h5py.File:
    """Open a new file of integrated patterns; I and I_errors of /entry/data are still to be filled.

    Parameters
    ----------
    path
        The file.
    bins, poni, exposure
        How the frames are integrated, the geometry as text, and the exposure of a frame (s).
    source
        Name of the file of frames.
    title, span, wavelength, cell, frames
        As in `create_master`.
    """
    file = h5py.File(path, "w")
    entry = _entry(file, title, span, wavelength, cell, frames)
    entry["definition"] = "NXazint1d"
    _group(entry["instrument"], "detector", "NXdetector", count_time=(exposure, "s"))
    process = _group(entry, "reduction", "NXprocess", program="azimuthal histogram of the simulated instrument", version="1", reference=source)
    step = float(bins.edges[1] - bins.edges[0])
    given = {"poni": poni, "n_splitting": 1, "radial_bins": bins.q.size, "radial_range": bins.edges[[0, -1]], "radial_unit": "q"}
    _group(
        process, "input", "NXparameters", **given, polarization_factor=POLARISATION, solid_angle=True, azimuth_bins=1, bin_width=(step, "1/angstrom")
    )
    data = _group(entry, "data", "NXdata", radial_axis=(bins.q, "1/angstrom"), norm=(bins.norm.astype(np.float32), "1"))
    data["radial_axis"].attrs["long_name"] = "q"
    data["norm"].attrs["long_name"] = "sum of solid angle x polarisation"
    data.attrs["signal"] = "I"
    data.attrs["axes"] = [".", "radial_axis"]
    n = frames["timestamp"].size
    chunk = (min(n, 32), bins.q.size)
    for name in ("I", "I_errors"):
        data.create_dataset(name, (n, bins.q.size), np.float32, chunks=chunk, compression="gzip", compression_opts=6, shuffle=True)
        data[name].attrs["units"] = "counts"
    data["I"].attrs["long_name"] = "intensity: counts / (relative solid angle x polarisation), not normalised to the monitor"
    return file
