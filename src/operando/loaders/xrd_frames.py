"""Frames of area detectors, by reference: HDF5 and NeXus (Eiger masters, virtual datasets), CBF, TIFF, EDF, mar, anything fabio opens.

What the bytes mean
-------------------
A frame stays where it is. What comes out says which file, which dataset in it and which index hold its pixels, when it was taken, and what was
measured beside it. HDF5: for each entry (`entries`, `match`, as in `hdf5-path`) the datasets `data/data_000001` ... of an Eiger master, or the
one dataset (frame, row, column) of numbers there is; where several detectors wrote, `data: path` (or a list, `*` allowed) says which. Other files
hold one frame each, or several.

Where the time comes from
-------------------------
HDF5: `frame_times` (by default `timestamp` of the data or of `measurement`, relative to its attribute `start` or to the entry's `start_time`;
BLISS' `epoch_trig` and `epoch`, seconds since 1970), else start (`start_time`, an Eiger's `data_collection_date`) + index x `frame_time`;
exposure from `count_time`. Where only `count_time` is known frames are taken to follow one another at once. CBF and Pilatus: the line `#
2019-05-14T12:13:14.123` (start of the exposure) and `# Exposure_time`. Pilatus TIFF without that line: DateTime, which is when the file was made:
uncertain by the exposure. EDF: `time_of_frame`, `time_of_day` (seconds since 1970) or `Date`, `count_time`. mar345: DATE, taken as the end of the
exposure, uncertain by 30 s of reading the plate. marccd: `acquire_timestamp`. `start_time` (or `{path: KEY, format: '%d/%m/%Y %H:%M:%S'}`) and
`count_time` may name other keys of the header. None of them carries a zone but seconds since 1970 and stamps that say so. Names, logs and the
configuration give times as for every loader.

What is assumed
---------------
An Eiger master whose files of frames are not all there is read as far as they are (INTERRUPTED); a missing file between others keeps its place,
and its frames are CORRUPT when they are integrated. Virtual datasets are followed to their files: HDF5 itself would read a missing one as zeros.
Mask, flat and dark are of the frames as they are read, before `orientation`; the dark is for the exposure of the frames. Nonzero in a mask means:
leave out.

Output
------
Technique `images`: `file`, `dataset`, `index` per frame; coordinates `monitor` and what `coords` and `motors` name (paths in HDF5, keys of the
header or EDF counters elsewhere). Attributes: `geometry` (the .poni, as text), `detector` (JSON: mask, pixel_mask, flat, dark, orientation,
saturation, wavelength as the file has it), `detector_shape`, `frames_of` = xrd: the reducer `integrate` makes patterns of them.

Options
-------
poni
    Geometry of pyFAI. Without it frames are listed and aligned, and cannot be integrated.
mask, flat, dark
    `.npy`, any image, or `file.h5::path/in/it`; `mask` may be a list. The detector's own pixel_mask is used as well.
orientation
    as-read, up-down, left-right, rotate-180, transpose, rotate-90, rotate-270, anti-transpose: what is done to frames before the geometry holds.
wavelength
    `0.4133 angstrom` or `30 keV`, instead of the geometry's.
saturation
    Counts from which a pixel says no more, instead of what the file says.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, OperandoError, series
from operando.images import ORIENTATIONS
from operando.images.reading import HDF5_MAGIC
from operando.loaders.diffraction import wavelength_angstrom
from operando.loaders.frame_headers import looks_like, read_header
from operando.loaders.frames_hdf5 import Piece, data_files, read_pieces
from operando.loaders.hdf5_entries import refuse_endless_heaps
from operando.loaders.presets import with_preset

TECHNIQUES = ("images",)
VERSION = "1"

_BROKEN = (
    OSError,
    KeyError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    ArithmeticError,
    SystemError,
    MemoryError,
    RecursionError,
)
_FILES = ("poni", "mask", "flat", "dark")


def load(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    poni: str | None = None,
    mask: str | Sequence[str] | None = None,
    flat: str | None = None,
    dark: str | None = None,
    orientation: str | None = None,
    wavelength: str | None = None,
    saturation: float | None = None,
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
        Not a file of frames, damaged, or without what the options name.
    ConfigError
        The preset cannot be used.
    """
    given = {k: v for k, v in locals().items() if k in _OPTIONS}
    path = Path(path)
    options = with_preset("xrd-frames", preset, given)
    detector = _detector(options, path)
    with path.open("rb") as f:
        hdf5 = f.read(8) == HDF5_MAGIC
    table, times, shape, dtype, facts = list_frames(path, options) if hdf5 else _from_header(path, options)
    attrs: dict[str, Any] = {"frames_of": "xrd", "detector_shape": [int(n) for n in shape], "pixel_type": dtype}
    if "wavelength" in facts:
        detector["wavelength_in_file"] = facts["wavelength"]
    if detector.get("saturation") is None and "saturation" in facts:
        detector["saturation"] = facts["saturation"]
    if "pixel_mask" in facts:
        detector["pixel_mask"] = facts["pixel_mask"]
    if options["poni"] is not None:
        attrs["geometry"] = _geometry(Path(options["poni"]), path)
    attrs["detector"] = json.dumps(detector, sort_keys=True)
    n = len(table["file"])
    variables: dict[str, tuple[Any, ...]] = {
        "file": ("time", np.array(table["file"], dtype=object), None, {"long_name": "file that holds the pixels"}),
        "dataset": ("time", np.array(table["dataset"], dtype=object), None, {"long_name": "dataset in it; empty for other files than HDF5"}),
        "index": ("time", np.array(table["index"], np.int64), "1", {"long_name": "frame in it"}),
    }
    more = {name: ("time", values, units) for name, (values, units) in table["coords"].items()}
    return series("images", variables, source=path, coords=more, source_index=np.arange(n), attrs=attrs, **times)


_OPTIONS = tuple(name for name in inspect.signature(load).parameters if name not in ("path", "preset"))


def _detector(options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Check what is said of the detector, and write it as plain values; files by their full names."""
    out: dict[str, Any] = {}
    turned = options["orientation"]
    if turned is not None and turned not in ORIENTATIONS:
        raise LoaderError("orientation: is not known", file=path, found=repr(turned), expected=", ".join(ORIENTATIONS))
    if turned not in (None, "as-read"):
        out["orientation"] = turned
    if options["wavelength"] is not None:
        out["wavelength"] = wavelength_angstrom(options["wavelength"], path)
    level = options["saturation"]
    if level is not None:
        if isinstance(level, bool) or not isinstance(level, int | float) or not level > 0:
            raise LoaderError("saturation: is no number of counts", file=path, found=repr(level))
        out["saturation"] = float(level)
    for name in _FILES[1:]:
        value = options[name]
        many = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
        if not all(isinstance(one, str) and one for one in many) or (len(many) > 1 and name != "mask"):
            raise LoaderError(f"{name}: is not the name of a file", file=path, found=repr(value)[:80])
        for one in many:
            file, _, inside = one.partition("::")
            if not Path(file).is_file():
                raise LoaderError(f"{name}: there is no such file", file=file, hint=f"correct {name}: (names count from beamtime.yaml)")
            out.setdefault(name, []).append(os.path.abspath(file) + (f"::{inside}" if inside else ""))
    return {k: v[0] if k in ("flat", "dark") else v for k, v in out.items()}


def _geometry(poni: Path, path: Path) -> str:
    try:
        if poni.stat().st_size > 2**20:
            raise LoaderError("poni: is no geometry", file=poni, found="a file of more than 1 MB", expected="a .poni file of pyFAI")
        text = poni.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LoaderError("poni: cannot be opened", file=poni, found=error.strerror, hint=f"the geometry of {path.name}: correct poni:") from None
    missing = [key for key in ("Distance", "Poni1", "Poni2") if f"{key}:" not in text]
    if missing:
        raise LoaderError("poni: is no geometry", file=poni, found=f"no {', no '.join(missing)}", expected="a .poni file of pyFAI")
    return text


def list_frames(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int], str, dict[str, Any]]:
    """List the frames of an HDF5 file.

    Returns
    -------
    tuple
        `file`, `dataset`, `index` and `coords` of each frame; what `operando.contract.series` is to be told of the times; shape and type of a frame;
        facts of the detector.

    Raises
    ------
    LoaderError
        No HDF5 file with frames, damaged, or without what the options name.
    """
    from operando.hdf5 import reading

    refuse_endless_heaps(path)
    try:
        with reading(os.fspath(path)) as root:
            pieces = read_pieces(root, path, options)
    except LoaderError:
        raise
    except OperandoError as error:
        raise LoaderError(
            "cannot be opened as HDF5", file=path, found=error.problem[:200], hint="a half-written or damaged copy: copy it again when it is closed"
        ) from None
    except _BROKEN as error:
        raise LoaderError(
            "the file is damaged or still being written",
            file=path,
            found=f"{type(error).__name__}: {str(error)[:160]}",
            hint="copy it again when it is closed",
        ) from None
    name = Path(os.path.abspath(path)).as_posix()
    places = [place for piece in pieces for place in piece.places]
    table = {"file": [name] * len(places), "dataset": [d for d, _ in places], "index": [k for _, k in places], "coords": _joined(pieces)}
    stamped = {piece.times.stamps is not None for piece in pieces}
    if len(stamped) > 1 or len({piece.times.utc for piece in pieces}) > 1:
        raise LoaderError("some entries have stamps (or a zone) and some do not", file=path, found=", ".join(p.entry.name for p in pieces[:4]))
    sizes = [len(piece.places) for piece in pieces]
    elapsed = np.concatenate([p.times.elapsed[:n] for p, n in zip(pieces, sizes, strict=True)])
    exposure = np.concatenate([p.times.exposure[:n] for p, n in zip(pieces, sizes, strict=True)])
    stamps = (
        np.concatenate([p.times.stamps[:n] for p, n in zip(pieces, sizes, strict=True) if p.times.stamps is not None]) if stamped == {True} else None
    )
    begin = elapsed if stamps is None else (stamps - stamps[0]) / np.timedelta64(1, "s") + elapsed
    back = np.diff(begin + np.nan_to_num(exposure) / 2) < 0
    times = {
        "start": stamps,
        "elapsed": elapsed,
        "exposure": exposure,
        "utc": pieces[0].times.utc or None,
        "time_origin": "header" if stamps is not None else None,
        "time_uncertainty": max(p.times.uncertainty for p in pieces),
        "segment": np.concatenate([[0], np.cumsum(back)])[: len(places)],
        "quality": np.concatenate([np.full(n, p.quality) for p, n in zip(pieces, sizes, strict=True)]),
    }
    return table, times, pieces[0].shape, pieces[0].dtype, pieces[0].facts


def _joined(pieces: list[Piece]) -> dict[str, tuple[np.ndarray, str | None]]:
    """Lay the coordinates of all entries one after the other; NaN or '' where an entry lacks one."""
    out: dict[str, tuple[np.ndarray, str | None]] = {}
    for name in dict.fromkeys(name for piece in pieces for name in piece.coords):
        have = [piece.coords[name] for piece in pieces if name in piece.coords]
        text = any(values.dtype == object for values, _ in have)
        parts = []
        for piece in pieces:
            n = len(piece.places)
            values = piece.coords[name][0] if name in piece.coords else np.full(n, "" if text else np.nan, dtype=object if text else float)
            parts.append(np.array([str(v) for v in values], dtype=object) if text else values)
        out[name] = (np.concatenate(parts), None if text else next((u for _, u in have if u is not None), None) or "1")
    if len(pieces) > 1:
        names = [np.full(len(piece.places), piece.entry.name or "/", dtype=object) for piece in pieces]
        out["entry"] = (np.concatenate(names), None)
    return out


def _from_header(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int], str, dict[str, Any]]:
    wanted = {str(k): str(v) for k, v in (options["coords"] or {}).items()}
    if options["monitor"] is not None:
        wanted["monitor"] = str(options["monitor"])
    start = options["start_time"]
    form = str(start["format"]) if isinstance(start, Mapping) and "format" in start else None
    start = start.get("path") if isinstance(start, Mapping) else start
    keys = {"start_time": None if start is None else str(start), "count_time": None if options["count_time"] is None else str(options["count_time"])}
    only = [
        name for name in ("data", "entries", "match", "frame_times", "frame_number", "motors", "end_time", "frame_time") if options[name] is not None
    ]
    if only:
        raise LoaderError(
            f"{', '.join(only)}: says where things lie in HDF5 files, and this is none", file=path, hint="leave it out; or is the file damaged?"
        )
    header = read_header(path, wanted=wanted, time_format=form, **keys)
    n = header.exposures.size
    name = Path(os.path.abspath(path)).as_posix()
    coords = {k: (values, "counts" if k == "monitor" else unit) for k, (values, unit) in header.numbers.items()}
    table = {"file": [name] * n, "dataset": [""] * n, "index": list(range(n)), "coords": coords}
    times: dict[str, Any] = {"exposure": header.exposures}
    if header.starts is not None:
        whole = header.starts[0] if n == 1 or len(set(header.starts)) == 1 else header.starts
        times |= {"start": whole, "time_origin": "header", "time_uncertainty": header.uncertainty}
    if header.starts is None or (n > 1 and isinstance(times.get("start"), str)):
        times["elapsed"] = np.arange(n) * float(np.nan_to_num(header.exposures[0]))
    return table, times, header.shape, header.dtype, dict(header.facts)


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if its content is that of a detector: HDF5 with frames that no other loader reads, CBF, mar, EDF, Pilatus TIFF."""
    from operando.hdf5 import reading
    from operando.loaders import hdf5_path, hdf5_stack

    try:
        with open(path, "rb") as f:
            magic = f.read(8)
        if magic != HDF5_MAGIC:
            return None if re.search(r"mask|flat|dark|background", Path(path).stem, re.IGNORECASE) else looks_like(path)
        if hdf5_path.claims(path) is not None or hdf5_stack.claims(path) is not None:
            return None
        refuse_endless_heaps(path)
        with reading(os.fspath(path)) as root:
            pieces = read_pieces(root, Path(path), dict.fromkeys(_OPTIONS))
            kind = "Eiger master" if pieces[0].places[0][0].endswith("data_000001") else "NeXus"
            described = any(place in root for piece in pieces for place in (f"{piece.entry.name}/instrument", f"{piece.entry.name}/measurement"))
            if not described:  # a bare stack: a file of an Eiger master, a tomogram
                return None
            n = sum(len(piece.places) for piece in pieces)
            return f"detector frames, {kind} ({n} x {pieces[0].shape[0]} x {pieces[0].shape[1]})"
    except (OperandoError, *_BROKEN):
        return None


def beside(path: str | os.PathLike[str]) -> list[Path]:
    """Name the files that hold the frames which this one shows: an Eiger's data files, the sources of virtual datasets."""
    from operando.hdf5 import reading

    try:
        with open(path, "rb") as f:
            if f.read(8) != HDF5_MAGIC:
                return []
        refuse_endless_heaps(path)
        with reading(os.fspath(path)) as root:
            return [Path(path).parent / name for name in data_files(root)]
    except (OperandoError, *_BROKEN):
        return []
