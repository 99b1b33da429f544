r"""HDF5 and NeXus files by path templates: one master may interleave cells, positions and techniques.

What the bytes mean
-------------------
Options (or a `preset`, which they override key by key) say where things lie::

    technique: xrd
    entries: "entry_{number}"            # groups, read in numeric order; also *.1, [NXentry], re:scan_(\d+)$
    signals: {intensity: measurement/p3_integrate}        # or {path, units, dims, sampling}; mu: {ln: [I0, IT]}, {ratio: [IF, I0]}
    axis: {q: {path: p3/q, units: 1/nm}}                  # or just a path: its unit names it
    start_time: start_time               # ISO text, or {path, kind: unix | epics, format}
    frame_times: {path: measurement/epoch, kind: unix}    # or kind: relative | iso | epics; marks: start | middle | end
    count_time: measurement/exposure     # a path, or '0.5 s'
    coords: {temperature: measurement/t, sample: {path: sample/name, optional: true}}
    motors: instrument/positioners       # every number in it becomes motor_<name>

Paths are relative to the entry, or to the file if they begin with `/`; `[NXdata]/I` means the first group of that NeXus class that has it;
`{number}` is what the entry's template matched (`/{number}.2/measurement/t`); `path@name` is an attribute; a list means the first that exists.

`series: {xrd: {...}, xas: {...}, furnace: {technique: sensor, ...}}` describes several series at once; keys outside hold for all of them.
A series is made of the entries that have its first signal; `match: {title: fscan}` (path -> regular expression) keeps only some of those.
`optional: true` lets a series be absent. Signals are never read here: they are lazy, whatever the size of the file. External and soft links and
virtual datasets are followed; one that leads nowhere counts as absent.

Where the time comes from
-------------------------
`start_time` (with or without an offset) plus one of: `frame_times` (seconds relative to it or to their own attribute `start`; or stamps:
ISO text, or numbers since 1970 `unix` or 1990 `epics`, both UTC), or `frame_time` x `frame_number` (`{path, first: 0}`; by default the
index in the entry). An entry of a single frame needs only `start_time`; its exposure is `end_time` - `start_time` unless `count_time` says
otherwise. Without a stamp the source's option `start:` gives it.

What is assumed
---------------
`frame_times` mark the start of the exposure unless `marks` says otherwise. `frame_time` includes the readout: as an exposure it is used
only where `count_time` is not given. An entry that is still being written (signals and times of different length, or times not yet filled
in) is cut to what it has in full and flagged INTERRUPTED. Entries without the series' signal are another series' and are left out; those
that are empty or broken are named in `entries_left_out`.

Output
------
One series per technique and axis: frames of entries with the same axis follow each other in entry order, another axis or another set of
variables makes a further series. Coordinates `entry`, everything in `coords` and `motors`, and for xrd and pdf `two_theta` and q as for
`xrd-1d` (option `wavelength`: text, or a path). `sensor` series have `sampling` (continuous | step | event | sample) per channel,
continuous by default.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import TECHNIQUES as KNOWN
from operando.contract import LoaderError, OperandoError, Quality, series
from operando.loaders.hdf5_axes import AxesView, RatioView, plain_unit, ratio_of, read_axis, read_wavelength
from operando.loaders.hdf5_entries import (
    Entry,
    Spec,
    alternatives,
    find_entries,
    look_up,
    read_values,
    refuse_endless_heaps,
    spec_of,
    text_of,
    units_of,
)
from operando.loaders.hdf5_times import FRAME_LIMIT, Times, entry_times
from operando.loaders.presets import with_preset

TECHNIQUES = ("xrd", "pdf", "xas", "raman", "ir", "sensor")
VERSION = "2"

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


def load(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    technique: str | None = None,
    entries: str | None = None,
    match: Mapping[str, str] | None = None,
    signals: Mapping[str, Any] | None = None,
    axis: Any = None,
    wavelength: Any = None,
    start_time: Any = None,
    end_time: Any = None,
    frame_times: Any = None,
    frame_number: Any = None,
    frame_time: Any = None,
    count_time: Any = None,
    coords: Mapping[str, Any] | None = None,
    motors: Any = None,
    sampling: str | None = None,
    optional: bool | None = None,
    series: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.Dataset | list[xr.Dataset]:
    """Read one file; see the module for what each option does.

    Returns
    -------
    xarray.Dataset or list
        One series per technique, axis and set of variables; signals lazy.

    Raises
    ------
    LoaderError
        Not HDF5, half-written, or without what the options name; the message lists what there is.
    ConfigError
        The preset cannot be used.
    """
    from operando.hdf5 import reading

    given = {k: v for k, v in locals().items() if k in _OPTIONS}
    path = Path(path)
    options = with_preset("hdf5-path", preset, given)
    several = options.pop("series")
    wanted: list[tuple[str, dict[str, Any]]] = []
    if several is not None and not (isinstance(several, Mapping) and several and all(isinstance(v, Mapping) for v in several.values())):
        raise LoaderError("series: is not a mapping of series", file=path, found=repr(several)[:80], expected="series: {xrd: {signals: ...}, ...}")
    for name, own in (several or {"": {}}).items():
        unknown = sorted(set(map(str, own)) - set(options))
        if unknown:
            raise LoaderError(f"series: {name} has unknown keys {', '.join(unknown)}", file=path, expected=", ".join(options))
        one = {**options, **{str(k): v for k, v in own.items()}}
        if several is not None and one["technique"] is None and name in KNOWN:
            one["technique"] = str(name)
        wanted.append((str(name), one))
    out: list[xr.Dataset] = []
    refuse_endless_heaps(path)
    try:
        with reading(os.fspath(path)) as root:
            for name, one in wanted:
                for ds in _Reader(root, path, name, one).read():
                    if preset is not None:
                        ds.attrs["preset"] = str(preset)
                    out.append(ds)
    except LoaderError:
        raise
    except OperandoError as error:
        if "HDF5" in error.problem or "cannot be read" in error.problem:
            raise LoaderError(
                "cannot be opened as HDF5",
                file=path,
                found=error.problem[:200],
                hint="a half-written or damaged copy, or not an HDF5 file: copy it again when it is closed",
            ) from None
        raise LoaderError(error.problem, file=path, found=error.found, expected=error.expected, hint=error.hint) from None
    except _BROKEN as error:
        raise LoaderError(
            "the file is damaged or still being written",
            file=path,
            found=f"{type(error).__name__}: {str(error)[:160]}",
            hint="copy it again when it is closed",
        ) from None
    if not out:
        raise LoaderError("none of the series is in the file", file=path, found=", ".join(name for name, _ in wanted))
    return out[0] if len(out) == 1 else out


_OPTIONS = tuple(name for name in inspect.signature(load).parameters if name not in ("path", "preset"))


@dataclass
class _Piece:
    """What one entry gives to a series."""

    entry: Entry
    n: int
    times: Times
    signals: dict[str, tuple[Any, str, dict[str, Any]]]  # name -> (lazy array (frames, ...), units, attributes)
    axis_name: str
    axis_coords: dict[str, tuple[Any, ...]]
    wavelength: float | None
    coords: dict[str, tuple[np.ndarray, str | None]]
    interrupted: bool
    key: tuple[Any, ...] = field(default=())


class _Reader:
    """Reads one series of a file."""

    def __init__(self, root: Any, path: Path, name: str, options: Mapping[str, Any]) -> None:
        self.root, self.path, self.name, self.options = root, path, name, options
        technique = options["technique"]
        if technique not in TECHNIQUES:
            raise LoaderError("technique: is not known", file=path, found=repr(technique), expected=", ".join(TECHNIQUES))
        self.technique = KNOWN[technique]
        given = options["signals"]
        if not isinstance(given, Mapping) or not given:
            raise LoaderError(
                "signals: is missing", file=path, found=repr(given)[:80], expected=f"{', '.join(self.technique.signals) or 'CHANNEL'}: PATH"
            )
        ratios = {str(k): ratio_of(v, f"signals: {k}", path) for k, v in given.items()}
        parts = {str(k): v if (r := ratios[str(k)]) is None else r[0] for k, v in given.items()}
        self.signals = {k: spec_of(v, f"signals: {k}", path, ("units", "dims", "sampling", "long_name")) for k, v in parts.items()}
        self.below = {k: (spec_of(r[1], f"signals: {k}", path, ("dims", "long_name")), r[2]) for k, r in ratios.items() if r is not None}
        if self.technique.signals and not set(self.signals) & set(self.technique.signals):
            raise LoaderError(
                f"signals: has no signal of {technique}", file=path, found=", ".join(self.signals), expected=" or ".join(self.technique.signals)
            )
        for wrong in set(self.signals) & {
            "time",
            "exposure",
            "segment",
            "setup",
            "source",
            "source_index",
            "quality",
            "source_time",
            "stamp",
            "entry",
        }:
            raise LoaderError("signals: a signal cannot have the name of a coordinate", file=path, found=wrong)
        self.first = next((n for n in self.technique.signals if n in self.signals), next(iter(self.signals)))
        self.left_out: dict[str, str] = {}

    # ------------------------------------------------------------- all entries

    def read(self) -> list[xr.Dataset]:
        """Read every entry that has the first signal and join those that fit together."""
        entries = find_entries(self.root, self.options["entries"], self.path)
        pieces: list[_Piece] = []
        without: list[Entry] = []
        for entry in entries:
            if not self._matches(entry):
                continue
            try:
                piece = self._piece(entry)
            except OperandoError:
                raise
            except _BROKEN as error:
                self.left_out[entry.name] = f"cannot be read: {type(error).__name__}"
                continue
            if piece is None:
                without.append(entry)
            elif piece.n:
                pieces.append(piece)
            else:
                self.left_out[entry.name] = "no complete frame"
        if not pieces:
            if self.options["optional"]:
                return []
            spec = self.signals[self.first]
            broken = next(iter(self.left_out.items()), None)
            raise LoaderError(
                f"no entry has {self.first}" + (f" of the series {self.name}" if self.name else ""),
                file=self.path,
                found=f"{broken[0]}: {broken[1]}" if broken else alternatives(without[0] if without else entries[0], spec.paths),
                expected=" or ".join(spec.paths) + f" in {len(entries)} entries" + (" that fit match:" if self.options["match"] else ""),
                hint="correct signals: (or entries:)",
            )
        self._require_coords(pieces)
        groups: dict[tuple[Any, ...], list[_Piece]] = {}
        for piece in pieces:
            groups.setdefault(piece.key, []).append(piece)
        offset = 0
        starts: dict[int, int] = {}
        for piece in pieces:
            starts[id(piece)] = offset
            offset += piece.n
        return [self._series(group, starts) for group in groups.values()]

    def _matches(self, entry: Entry) -> bool:
        for place, pattern in (self.options["match"] or {}).items():
            found = look_up(entry, self.root, spec_of(str(place), "match", self.path), self.path)
            try:
                if found is None or not re.search(str(pattern), text_of(read_values(found, self.path, f"match: {place}"))):
                    return False
            except re.error as error:
                raise LoaderError(f"match: is not a regular expression: {error}", file=self.path, found=pattern) from None
        return True

    def _require_coords(self, pieces: list[_Piece]) -> None:
        """Refuse a coordinate that no entry has: a misspelt path, not a missing value."""
        for name, value in (self.options["coords"] or {}).items():
            spec = spec_of(value, f"coords: {name}", self.path, ("units",))
            if not spec.optional and not any(str(name) in piece.coords for piece in pieces):
                raise LoaderError(
                    f"no entry has the coordinate {name}",
                    file=self.path,
                    found=alternatives(pieces[0].entry, spec.paths),
                    expected=" or ".join(spec.paths),
                    hint="correct its path, or say {path: ..., optional: true}",
                )

    # ------------------------------------------------------------- one entry

    def _piece(self, entry: Entry) -> _Piece | None:
        import h5py

        found = {name: look_up(entry, self.root, spec, self.path) for name, spec in self.signals.items()}
        below = {name: look_up(entry, self.root, spec, self.path) for name, (spec, _) in self.below.items()}
        found.update({name: None for name, dataset in below.items() if dataset is None})
        if found[self.first] is None:
            return None
        where = f"{entry.name}: " if entry.name else ""
        for name, dataset in [*found.items(), *below.items()]:
            if dataset is not None and (not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.kind not in "iufb"):
                kind = (
                    "a group"
                    if isinstance(dataset, h5py.Group)
                    else f"{getattr(dataset, 'dtype', type(dataset).__name__)}, shape {getattr(dataset, 'shape', None)}"
                )
                raise LoaderError(f"{where}{name} is not an array of numbers", file=self.path, found=f"{getattr(dataset, 'name', '?')}: {kind}")
        lam: float | None = None
        if self.technique.name in ("xrd", "pdf") and self.options["wavelength"] is not None:
            lam = read_wavelength(entry, self.root, self.options["wavelength"], self.path)
        axis_name, axis_size = "", 0
        axis_coords: dict[str, tuple[Any, ...]] = {}
        if self.technique.axis:
            axis_name, axis_size, axis_coords = read_axis(entry, self.root, self.options["axis"], self.path, self.technique, lam)
        arrays: dict[str, tuple[Any, str, dict[str, Any]]] = {}
        lengths: dict[str, int] = {}
        for name, dataset in found.items():
            if dataset is None:
                continue
            spec = self.signals[name]
            array = self._array(entry, name, dataset, axis_size, spec)
            if name in below:
                bottom = self._array(entry, name, below[name], axis_size, self.below[name][0])
                if bottom.shape[1:] != array.shape[1:]:
                    raise LoaderError(f"{where}{name}: its two parts differ in shape", file=self.path, found=f"{array.shape} and {bottom.shape}")
                array = RatioView(array, bottom, self.below[name][1])
            arrays[name] = (array, "1" if name in below else units_of(dataset, spec), self._attrs(name, spec))
            lengths[name] = arrays[name][0].shape[0]
        for name in arrays:
            if name.endswith("_errors") and name.removesuffix("_errors") in arrays:
                arrays[name.removesuffix("_errors")][2]["ancillary_variables"] = name
                arrays[name] = (arrays[name][0], arrays[name.removesuffix("_errors")][1], arrays[name][2])
        if max(lengths.values()) > FRAME_LIMIT:
            raise LoaderError(f"{where}an impossible number of frames", file=self.path, found=max(lengths.values()))
        n = min(lengths.values())
        times, full = entry_times(entry, self.root, self.options, self.path, n)
        interrupted = len(set(lengths.values())) > 1 or full < n or times.elapsed.size != n
        n = min(n, full, times.elapsed.size)
        known = {*lengths.values(), times.elapsed.size, n}
        tails = tuple(sorted((name, array.shape[1:], array.dtype.kind) for name, (array, _, _) in arrays.items()))
        key = (axis_name, tuple(np.asarray(spec[1]).tobytes() for spec in axis_coords.values()), tails, lam, times.stamps is None)
        return _Piece(entry, n, times, arrays, axis_name, axis_coords, lam, self._coords(entry, n, known, where), interrupted, key)

    def _attrs(self, name: str, spec: Any) -> dict[str, Any]:
        attrs = {k: v for k, v in spec.more.items() if k == "long_name"}
        if self.technique.name == "sensor":
            attrs["sampling"] = str(spec.more.get("sampling") or self.options["sampling"] or "continuous")
        return attrs

    def _array(self, entry: Entry, name: str, dataset: Any, axis_size: int, spec: Spec) -> Any:
        """Give a signal as a lazy array (frames, axis) or (frames,)."""
        from operando.hdf5 import HDF5Array

        dims = spec.more.get("dims")
        shape = dataset.shape
        has_axis = bool(self.technique.axis)
        names = ["time", "axis"] if has_axis else ["time"]
        order: list[int | None]
        if dims is not None:
            plain = [("axis" if d in self.technique.axis else str(d)) for d in dims] if isinstance(dims, list | tuple) else []
            if len(plain) != len(shape) or not set(plain) <= {*names, "-"} or (has_axis and "axis" not in plain):
                raise LoaderError(
                    f"signals: {name}: dims do not fit",
                    file=self.path,
                    found=f"{dims} for shape {shape}",
                    expected="time, the axis, and - for dims of size 1",
                )
            order = [plain.index(d) if d in plain else None for d in names]
        else:
            wide = [i for i, size in enumerate(shape) if size != 1]
            if has_axis and (len(shape) == 1 or (len(wide) == 1 and shape[-1] == axis_size)):
                order = [0 if len(shape) > 1 else None, len(shape) - 1]
            elif has_axis and len(shape) >= 2:
                order = [0, len(shape) - 1]
            else:
                order = [0 if len(shape) == 1 else None if not shape else wide[0] if wide else 0]
        rest = [shape[i] for i in range(len(shape)) if i not in order]
        if any(size != 1 for size in rest) or (has_axis and order[1] is not None and shape[order[1]] != axis_size):
            raise LoaderError(
                f"{entry.name or 'the file'}: {name} does not fit its axis",
                file=self.path,
                found=f"{dataset.name}: shape {shape}",
                expected=f"(frames, {axis_size})" if has_axis else "(frames,)",
                hint="if its dims are in another order say signals: {" + name + ": {path: ..., dims: [axis, time]}}",
            )
        dtype = (
            np.dtype(np.float32)
            if dataset.dtype == np.float16
            else np.dtype(np.int8)
            if dataset.dtype.kind == "b"
            else dataset.dtype.newbyteorder("=")
        )
        base = HDF5Array(self.path, self._reach(entry, dataset, name, spec), shape=shape, dtype=dtype, kind="plain")
        if order == list(range(len(shape))):
            return base
        return AxesView(base, order)

    def _reach(self, entry: Entry, dataset: Any, name: str, spec: Spec) -> str:
        """Give a path that leads to the dataset from this file's root, through links into other files too."""
        own = dataset.name
        if dataset.file.filename == self.root.filename and own and own in self.root:
            return str(own)
        for path in spec.paths:
            full = path if path.startswith("/") else f"/{entry.name}/{path}"
            full = re.sub(r"\{(\w+)\}", lambda m: entry.fields[m.group(1)], full)
            if "[" not in full and full in self.root:
                return full
        raise LoaderError(
            f"{name} lies in another file behind a group found by its class", file=self.path, found=own, hint="write its path out in signals:"
        )

    def _coords(self, entry: Entry, n: int, known: set[int], where: str) -> dict[str, tuple[np.ndarray, str | None]]:
        """Read what goes with each frame: one value per entry, or one per frame."""
        import h5py

        out: dict[str, tuple[np.ndarray, str | None]] = {}
        for key, text in entry.fields.items():
            if key != "number":
                out[key] = (np.full(n, int(text)), "1") if key == "position" and text.isdigit() else (np.full(n, text, dtype=object), None)
        places: list[tuple[str, Any, Any, bool]] = []
        for name, value in (self.options["coords"] or {}).items():
            spec = spec_of(value, f"coords: {name}", self.path, ("units",))
            places.append((str(name), look_up(entry, self.root, spec, self.path), spec, True))
        if self.options["motors"] is not None:
            spec = spec_of(self.options["motors"], "motors", self.path, ("units",))
            group = look_up(entry, self.root, spec, self.path)
            if isinstance(group, h5py.Group):
                for name in group:
                    child = group.get(name) if group.get(name, getlink=False, getclass=True) is h5py.Dataset else None
                    plain = re.sub(r"\W+", "_", name).strip("_").lower()
                    if child is not None and child.shape is not None and child.dtype.kind in "iufb" and f"motor_{plain}" not in out:
                        places.append((f"motor_{plain}", child, spec, False))
        for name, found, spec, strict in places:
            if found is None:
                continue
            values = read_values(found, self.path, f"coords: {name}")
            values = values.ravel() if values.size == max(values.shape, default=1) else values
            units = None if values.dtype == object else plain_unit(units_of(found, spec)) or "1"
            if values.size == 1:
                out[name] = (np.full(n, values.ravel()[0], dtype=values.dtype), units)
            elif values.ndim == 1 and values.size in known and values.size >= n:
                out[name] = (values[:n], units)
            elif strict:
                raise LoaderError(
                    f"{where}{name} has not one value per frame",
                    file=self.path,
                    found=f"{getattr(found, 'name', name)}: shape {values.shape}",
                    expected=f"({n},) or one value",
                )
        return out

    # ------------------------------------------------------------- joined

    def _series(self, pieces: list[_Piece], starts: Mapping[int, int]) -> xr.Dataset:
        from operando.hdf5 import LazyConcat, variable

        first = pieces[0]
        dims = ("time", first.axis_name) if first.axis_name else ("time",)
        variables: dict[str, tuple[Any, ...]] = {}
        lazy: dict[str, xr.Variable] = {}
        for name, (_, units, attrs) in first.signals.items():
            whole = LazyConcat([(piece.signals[name][0], slice(0, piece.n)) for piece in pieces])
            unit = plain_unit(units) or "1"
            lazy[name] = variable(whole, dims, {"units": unit, **attrs})
            if len(dims) == 1:  # one value per frame is small: read it now, so that logs of a thousand entries are one array
                variables[name] = (dims, lazy.pop(name).values, unit, attrs)
        total = sum(piece.n for piece in pieces)
        coords: dict[str, tuple[Any, ...]] = dict(first.axis_coords)
        coords["entry"] = ("time", _repeat([(p.entry.name or "/", p.n) for p in pieces]), None)
        for name in dict.fromkeys(name for piece in pieces for name in piece.coords):
            coords[name] = ("time", *_joined(name, pieces))
        elapsed = np.concatenate([p.times.elapsed[: p.n] for p in pieces])
        stamps: np.ndarray | None = None
        utc = False
        if first.times.stamps is not None:
            if len({p.times.utc for p in pieces}) > 1:
                raise LoaderError(
                    "some entries carry an offset from UTC and some do not", file=self.path, found=", ".join(p.entry.name for p in pieces[:4])
                )
            utc = first.times.utc
            stamps = np.concatenate([p.times.stamps[: p.n] for p in pieces if p.times.stamps is not None])
        begin = elapsed if stamps is None else (stamps - stamps[0]) / np.timedelta64(1, "s") + elapsed
        exposure = np.concatenate([p.times.exposure[: p.n] for p in pieces])
        middle = begin + np.nan_to_num(exposure) / 2
        notes: dict[str, Any] = {}
        if self.name:
            notes["series"] = self.name
        if first.wavelength is not None:
            notes.update(wavelength=first.wavelength, wavelength_units="angstrom")
        if self.left_out:
            notes["entries_left_out"] = json.dumps(dict(list(self.left_out.items())[:20]))
        ds = series(
            self.technique.name,
            variables,
            source=self.path,
            coords=coords,
            start=stamps,
            elapsed=elapsed,
            exposure=exposure,
            utc=utc or None,
            time_origin="header" if stamps is not None else None,
            time_uncertainty=max(p.times.uncertainty for p in pieces),
            segment=np.concatenate([[0], np.cumsum(np.diff(middle) < 0)])[:total],
            quality=np.concatenate([np.full(p.n, int(Quality.INTERRUPTED) if p.interrupted else 0) for p in pieces]),
            source_index=np.concatenate([np.arange(p.n) + starts[id(p)] for p in pieces]),
            attrs=notes,
        )
        return ds.assign(lazy)


def _repeat(pairs: list[tuple[Any, int]]) -> np.ndarray:
    out = np.empty(sum(n for _, n in pairs), dtype=object)
    position = 0
    for value, n in pairs:
        out[position : position + n] = value
        position += n
    return out


def _joined(name: str, pieces: list[_Piece]) -> tuple[np.ndarray, str | None]:
    """Lay a coordinate of all entries one after the other; NaN or '' where an entry lacks it."""
    have = [piece.coords[name] for piece in pieces if name in piece.coords]
    text = any(values.dtype == object for values, _ in have)
    units = next((u for _, u in have if u is not None), None)
    parts: list[np.ndarray] = []
    for piece in pieces:
        values = piece.coords[name][0] if name in piece.coords else None
        if values is None:
            values = np.full(piece.n, "", dtype=object) if text else np.full(piece.n, np.nan)
        elif text and values.dtype != object:
            values = np.array([str(v) for v in values], dtype=object)
        parts.append(values)
    return np.concatenate(parts), None if text else units or "1"


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if it follows a layout that comes as a preset."""
    from operando.hdf5 import reading

    try:
        with Path(path).open("rb") as f:
            if f.read(8) != b"\x89HDF\r\n\x1a\n":
                return None
        refuse_endless_heaps(path)
        with reading(os.fspath(path)) as root:
            if text_of(root.attrs.get("creator")).casefold() in ("bliss", "blissdata", "blisswriter"):
                return "ESRF BLISS scans (preset: bliss, name the signals)"
            for entry in find_entries(root, None, path)[:20]:
                definition = entry.group.get("definition")
                if definition is not None and text_of(read_values(definition, path, "definition")) == "NXazint1d":
                    return "NeXus NXazint1d patterns (preset: nexus-nxazint1d)"
    except (OperandoError, *_BROKEN):
        return None
    return None
