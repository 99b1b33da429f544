"""Detector frames in HDF5 and NeXus files: where they lie, when they were taken, what was measured beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import ContractError, LoaderError, Quality, convert
from operando.images import describe
from operando.loaders.diffraction import HC
from operando.loaders.hdf5_axes import plain_unit
from operando.loaders.hdf5_entries import Entry, find_entries, look_up, read_values, spec_of, text_of, units_of
from operando.loaders.hdf5_times import Times, entry_times
from operando.loaders.text import natural_key

_SMALLEST = 16  # rows and columns of what may be a frame
_DETECTORS = (
    "[NXinstrument]/[NXdetector]",
    "[NXdetector]",
    "instrument/detector",
    "instrument/detector/detectorSpecific",
    "[NXinstrument]/[NXdetector]/detectorSpecific",
)
_TIMES = (
    ("[NXdata]/timestamp", "auto"),
    ("measurement/timestamp", "auto"),
    ("[NXinstrument]/[NXdetector]/timestamp", "auto"),
    ("measurement/epoch_trig", "unix"),
    ("measurement/epoch", "unix"),
    ("[NXdata]/epoch", "unix"),
)
_STARTS = (
    "start_time",
    "instrument/detector/detectorSpecific/data_collection_date",
    "[NXinstrument]/[NXdetector]/detectorSpecific/data_collection_date",
)
_MONITORS = ("[NXmonitor]/data", "measurement/monitor")
_NOT_FRAMES = re.compile(r"mask|flat|dark|trimbit|calib|gain|preview|average|correction|lookup|variance|error", re.IGNORECASE)


@dataclass
class Piece:
    """What one entry gives: the place of each frame and its times.

    Attributes
    ----------
    places
        (dataset, index) of each frame.
    shape, dtype
        Of a frame.
    coords
        Name -> (values per frame, unit or None).
    facts
        `saturation` (counts), `wavelength` (angstrom), `pixel_mask` (name of a dataset in the same file).
    """

    entry: Entry
    places: list[tuple[str, int]]
    shape: tuple[int, int]
    dtype: str
    times: Times
    interrupted: bool
    coords: dict[str, tuple[np.ndarray, str | None]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def quality(self) -> int:
        """INTERRUPTED if the file was not finished."""
        return int(Quality.INTERRUPTED) if self.interrupted else 0


def read_pieces(root: Any, path: Path, options: Mapping[str, Any]) -> list[Piece]:
    """Read every entry of an open file that holds frames; no pixel is read.

    With the option `pictures` a table of numbers is a frame where an entry holds no stack and nothing that calls itself an image.

    Raises
    ------
    LoaderError
        No frames, frames of several detectors with none named, or no times.
    """
    entries = find_entries(root, options["entries"], path)
    pieces, tried = [], []
    for entry in entries:
        if not _matches(entry, root, options["match"], path):
            continue
        found = _datasets(entry, root, options["data"], path, bool(options.get("pictures")))
        if not found:
            tried.append(entry)
            continue
        pieces.append(_piece(entry, root, found, path, options))
    if not pieces:
        raise LoaderError(
            "no frames were found",
            file=path,
            found=f"{len(tried)} entries without images of at least {_SMALLEST} x {_SMALLEST} pixels",
            expected="a dataset (frame, row, column)",
            hint="name it: data: path/in/the/entry",
        )
    if len({piece.shape for piece in pieces}) > 1:
        raise LoaderError(
            "the entries hold frames of different size",
            file=path,
            found=", ".join(f"{p.entry.name}: {p.shape}" for p in pieces[:6]),
            hint="name one: data: or entries:",
        )
    return pieces


def _matches(entry: Entry, root: Any, match: Mapping[str, str] | None, path: Path) -> bool:
    for place, pattern in (match or {}).items():
        found = look_up(entry, root, spec_of(str(place), "match", path), path)
        try:
            if found is None or not re.search(str(pattern), text_of(read_values(found, path, f"match: {place}"))):
                return False
        except re.error as error:
            raise LoaderError(f"match: is not a regular expression: {error}", file=path, found=pattern) from None
    return True


# --------------------------------------------------------------------------- where the frames lie


def _datasets(entry: Entry, root: Any, data: Any, path: Path, pictures: bool) -> list[str]:
    """Name the datasets that hold an entry's frames, one after the other."""
    prefix = f"/{entry.name}".rstrip("/")
    if data is not None:
        paths = [p if p.startswith("/") else f"{prefix}/{p}" for p in ([data] if isinstance(data, str) else data)]
        several = [name for p in paths for name in (_globbed(root, p) if "*" in p else [p])]
        return [name for name in several if _is_there(root, name)]
    group = entry.group.get("data")
    linked = [name for name in (group if hasattr(group, "keys") else ()) if re.fullmatch(r"data_\d{6}", name)]
    if linked:  # an Eiger master, its files of frames beside it
        return [f"{prefix}/data/{name}" for name in sorted(linked, key=natural_key)]
    known: dict[Any, str] = {}
    for name, dataset in list(_images(entry.group, prefix)) or (list(_images(entry.group, prefix, flat=True)) if pictures else []):
        known.setdefault((dataset.file.filename, dataset.name if dataset.file.filename != root.filename else _address(dataset)), name)
    names = list(known.values())
    if len(names) > 1:
        best = [n for n in names if not _NOT_FRAMES.search(n.rpartition("/")[2])]
        names = best or names
    if len(names) > 1:
        stacks = [n for n in names if root[n].ndim == 3 and root[n].shape[0] == max(root[m].shape[0] if root[m].ndim == 3 else 1 for m in names)]
        names = stacks if len(stacks) == 1 else names
    if len(names) > 1:
        shown = ", ".join(f"{n} {root[n].shape}" for n in names[:6])
        raise LoaderError(
            "images of several detectors, and none is named", file=path, found=shown, hint=f"data: {names[0].removeprefix(prefix).lstrip('/')}"
        )
    return names


def _address(dataset: Any) -> Any:
    import h5py

    return h5py.h5o.get_info(dataset.id).addr


def _globbed(root: Any, pattern: str) -> list[str]:
    folder, _, last = pattern.rpartition("/")
    expression = re.compile(re.escape(last).replace(r"\*", ".*"))
    group = root.get(folder or "/")
    return [f"{folder}/{name}" for name in sorted(group, key=natural_key) if expression.fullmatch(name)] if hasattr(group, "keys") else []


def _is_there(root: Any, name: str) -> bool:
    import h5py

    folder, _, last = name.rpartition("/")
    group = root.get(folder or "/")
    return isinstance(group, h5py.Group) and last in list(group)


def _images(group: Any, prefix: str, depth: int = 0, *, flat: bool = False) -> Iterator[tuple[str, Any]]:
    """Walk through an entry for datasets that may be frames (`flat`: any with two dims); links that lead nowhere are passed over."""
    import h5py

    if depth > 6:
        return
    for name in list(group)[:2000]:
        try:
            child = group[name]
        except (KeyError, OSError, RuntimeError, ValueError):
            continue
        if isinstance(child, h5py.Group):
            yield from _images(child, f"{prefix}/{name}", depth + 1, flat=flat)
        elif isinstance(child, h5py.Dataset) and child.shape is not None and child.ndim in (2, 3) and min(child.shape[-2:]) >= _SMALLEST:
            if (
                child.dtype.kind in "iuf"
                and not _NOT_FRAMES.search(name)
                and (child.ndim == 3 or flat or text_of(child.attrs.get("interpretation")) == "image")
            ):
                yield f"{prefix}/{name}", child


# --------------------------------------------------------------------------- one entry


def _piece(entry: Entry, root: Any, names: list[str], path: Path, options: Mapping[str, Any]) -> Piece:
    where = f"{entry.name}: " if entry.name else ""
    places: list[tuple[str, int]] = []
    shape: tuple[int, ...] = ()
    dtype = ""
    each, missing = 0, []
    for name in names:
        try:
            found, kind = describe(path, name)
        except LoaderError as error:
            missing.append((name, len(places), error))
            continue
        if len(found) not in (2, 3) or kind.kind not in "iufb":
            raise LoaderError(f"{where}{name} holds no frames", file=path, found=f"{found} {kind}", expected="(frame, row, column)")
        if shape and found[-2:] != shape:
            raise LoaderError(
                f"{where}frames of different size", file=path, found=f"{shape} and {found[-2:]} in {name}", hint="name one detector: data:"
            )
        shape, dtype = found[-2:], str(kind.newbyteorder("="))
        n = found[0] if len(found) == 3 else 1
        each = each or n
        if n > 50_000_000:
            raise LoaderError(f"{where}an impossible number of frames", file=path, found=n)
        places += [(name, k) for k in range(n)]
    if not shape:
        raise missing[0][2]
    total = _one_number(entry, root, path, ("nimages",))
    triggers = _one_number(entry, root, path, ("ntrigger",)) or 1.0
    for name, at, _ in reversed(missing):  # a file of frames that is not there (yet): its frames keep their place if others follow them
        if at < len(places):
            places[at:at] = [(name, k) for k in range(each)]
    interrupted = bool(missing) or bool(total and total * triggers > len(places))
    n = len(places)
    times, full = _times(entry, root, path, options, n, triggers)
    interrupted |= full < n or times.elapsed.size != n
    n = min(n, full, times.elapsed.size)
    piece = Piece(entry, places[:n], (int(shape[0]), int(shape[1])), dtype, times, interrupted)
    piece.coords = _coords(entry, root, path, options, n, len(places), where)
    piece.facts = _facts(entry, root, path, piece)
    return piece


def _one_number(entry: Entry, root: Any, path: Path, names: tuple[str, ...]) -> float | None:
    """Read a number of the detector's group, or of what its maker puts below it."""
    places = tuple(f"{group}/{name}" for group in _DETECTORS for name in names)
    found = look_up(entry, root, spec_of(list(places), names[0], path), path)
    if found is None:
        return None
    values = read_values(found, path, names[0]).ravel()
    return float(values[0]) if values.size and values.dtype != object and np.isfinite(float(values[0])) else None


def _times(entry: Entry, root: Any, path: Path, options: Mapping[str, Any], n: int, triggers: float) -> tuple[Times, int]:
    """Read the times by the options, or where files of detectors have them."""
    given = {name: options[name] for name in ("start_time", "end_time", "frame_times", "frame_number", "frame_time", "count_time")}
    given["technique"] = "images"
    if given["start_time"] is None:
        given["start_time"] = {"path": list(_STARTS), "optional": True}
    if given["count_time"] is None:
        given["count_time"] = [f"{group}/count_time" for group in _DETECTORS]
    if given["frame_times"] is None and given["frame_time"] is None:
        for place, kind in _TIMES:
            found = look_up(entry, root, spec_of(place, "frame_times", path), path)
            if found is not None and getattr(found, "size", 0) >= min(n, 2):
                given["frame_times"] = {"path": place, "kind": kind}
                break
        else:
            if n > 1 and triggers > 1:
                raise LoaderError(
                    "frames of several triggers without a time for each",
                    file=path,
                    found=f"{n} frames, {triggers:.0f} triggers",
                    hint="frame_time: '10 s' if they came regularly; else frame_times:, or times_from: a log",
                )
            period = _seconds(entry, root, path, "frame_time") or _seconds(entry, root, path, "count_time")
            if period:
                given["frame_time"] = f"{period} s"
    return entry_times(entry, root, given, path, n)


def _seconds(entry: Entry, root: Any, path: Path, name: str) -> float | None:
    spec = spec_of([f"{group}/{name}" for group in _DETECTORS], name, path)
    found = look_up(entry, root, spec, path)
    if found is None or getattr(found, "size", 0) != 1:
        return None
    values = read_values(found, path, name).ravel()
    try:
        return float(convert(float(values[0]), units_of(found, spec, "s"), "s")) or None
    except (ContractError, TypeError, ValueError):
        return None


def _coords(
    entry: Entry, root: Any, path: Path, options: Mapping[str, Any], n: int, most: int, where: str
) -> dict[str, tuple[np.ndarray, str | None]]:
    """Read what goes with each frame: one value per entry, or one per frame."""
    import h5py

    out: dict[str, tuple[np.ndarray, str | None]] = {}
    for key, text in entry.fields.items():
        if key != "number":
            out[key] = (np.full(n, int(text)), "1") if key == "position" and text.isdigit() else (np.full(n, text, dtype=object), None)
    places: list[tuple[str, Any, Any, bool]] = []
    wanted = dict(options["coords"] or {})
    for name, value in wanted.items():
        spec = spec_of(value, f"coords: {name}", path, ("units",))
        found = look_up(entry, root, spec, path)
        if found is None and not spec.optional:
            raise LoaderError(
                f"{where}there is no {name}", file=path, expected=" or ".join(spec.paths), hint="correct its path, or say {path: ..., optional: true}"
            )
        places.append((str(name), found, spec, True))
    spec = spec_of(options["monitor"] or list(_MONITORS), "monitor", path)
    if "monitor" not in wanted:
        found = look_up(entry, root, spec, path)
        if found is None and options["monitor"] is not None:
            raise LoaderError(f"{where}there is no monitor", file=path, expected=" or ".join(spec.paths), hint="correct monitor:")
        places.append(("monitor", found, spec, options["monitor"] is not None))
    if options["motors"] is not None:
        spec = spec_of(options["motors"], "motors", path, ("units",))
        group = look_up(entry, root, spec, path)
        for name in group if isinstance(group, h5py.Group) else ():
            child = group.get(name) if group.get(name, getlink=False, getclass=True) is h5py.Dataset else None
            if child is not None and child.shape is not None and child.dtype.kind in "iufb":
                places.append((f"motor_{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}", child, spec, False))
    for name, found, spec, strict in places:
        if found is None:
            continue
        values = read_values(found, path, f"coords: {name}").ravel()
        units = None if values.dtype == object else plain_unit(units_of(found, spec)) or "1"
        if name == "monitor" and units == "1":
            units = "counts"
        if values.size == 1 and (most > 1 or n == 1):
            out[name] = (np.full(n, values[0], dtype=values.dtype), units)
        elif n <= values.size <= max(most, n):
            out[name] = (values[:n], units)
        elif strict:
            raise LoaderError(f"{where}{name} has not one value per frame", file=path, found=values.shape, expected=f"({n},) or one value")
    return out


def _facts(entry: Entry, root: Any, path: Path, piece: Piece) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    saturation = _one_number(entry, root, path, ("saturation_value", "countrate_correction_count_cutoff"))
    if saturation and saturation > 0:
        facts["saturation"] = saturation
    for group in _DETECTORS:
        mask = look_up(entry, root, spec_of(f"{group}/pixel_mask", "pixel_mask", path), path)
        if mask is not None and getattr(mask, "shape", None) is not None and mask.shape[-2:] == piece.shape and mask.file.filename == root.filename:
            facts["pixel_mask"] = mask.name
            break
    for place, unit in (("[NXinstrument]/[NXbeam]/incident_wavelength", "angstrom"), ("[NXinstrument]/[NXmonochromator]/wavelength", "angstrom")):
        spec = spec_of([place, "instrument/beam/incident_wavelength"], "wavelength", path)
        found = look_up(entry, root, spec, path)
        if found is not None and getattr(found, "size", 0) == 1:
            try:
                facts["wavelength"] = float(
                    convert(float(read_values(found, path, "wavelength").ravel()[0]), units_of(found, spec, unit), "angstrom")
                )
                break
            except (ContractError, TypeError, ValueError):
                continue
    energy = _one_number(entry, root, path, ("photon_energy",))
    if "wavelength" not in facts and energy and energy > 100:
        facts["wavelength"] = HC / (energy / 1000.0)
    if not 0.01 < facts.get("wavelength", 1.0) < 100:
        facts.pop("wavelength")
    return facts


def data_files(root: Any) -> list[str]:
    """Name the other files that hold what an open file shows: targets of links, sources of virtual datasets, external storage."""
    import h5py

    found: dict[str, None] = {}

    def walk(group: Any, depth: int) -> None:
        for name in list(group)[:2000]:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                found[link.filename] = None
                continue
            try:
                child = group[name]
            except (KeyError, OSError, RuntimeError, ValueError):
                continue
            if isinstance(child, h5py.Group) and depth < 6:
                walk(child, depth + 1)
            elif isinstance(child, h5py.Dataset) and child.ndim in (2, 3):
                if child.is_virtual:
                    found.update(dict.fromkeys(s.file_name for s in child.virtual_sources() if s.file_name != "."))
                found.update(dict.fromkeys(name for name, _, _ in child.external or ()))

    walk(root, 0)
    return list(found)
