"""A store as the viewer sees it: cells, their series, records and observables, on seconds since the cell's electrochemistry began.

No Qt and no napari. Opening reads times and the electrochemistry; spectra, sweeps and images are read when they are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

import operando as op
from napari_operando.pictures import Pictures, SmallPictures
from napari_operando.pyramid import Pyramid, envelope
from napari_operando.session import Timeline, fine_tick
from napari_operando.sweeps import Sweeps
from napari_operando.timeview import FrameTimes

_PARTS = 40_000
"""Parts that a long record is divided into for drawing."""

_BAD = int(op.contract.Quality.BEAM_DUMP | op.contract.Quality.CORRUPT)

_KEEP = 96
"""Spectra kept in memory for each series, so that stepping to and fro reads each once."""


@dataclass
class Trace:
    """Numbers over time: a record of the electrochemistry, a logged channel, an observable.

    Attributes
    ----------
    name
        As on the command line: `eis/ohmic_resistance`, `xrd/phase_fraction[phase=H2]`, `echem/voltage`.
    label, units
        What stands on an axis, without the unit, and the unit as it is printed.
    time
        Seconds.
    values, errors
        The numbers, and 1 sigma where the store has it.
    begin, end
        The exposure each number belongs to, seconds.
    sampling
        `continuous`, `step`, `event` or `sample`; what is not continuous is drawn as dots.
    """

    name: str
    label: str
    units: str
    time: np.ndarray
    values: np.ndarray
    errors: np.ndarray | None = None
    begin: np.ndarray | None = None
    end: np.ndarray | None = None
    sampling: str = "sample"
    frames: np.ndarray | None = None

    @property
    def axis(self) -> str:
        """Quantity and unit."""
        return f"{self.label} ({self.units})" if self.units != "1" else self.label

    @cached_property
    def empty(self) -> bool:
        """Nothing but NaN, or nothing."""
        return not np.isfinite(self.values).any()

    def seen(self, seconds: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the line of a record whose times ascend: all of it, or as many points as that many seconds on that many pixels can show.

        Drawing from all of a million numbers takes longer than a blink. Least and greatest values and pauses stay.
        """
        whole = float(self.time[-1] - self.time[0]) if len(self.time) else 0.0
        fine = seconds / whole * _PARTS > 4 * pixels if whole > 0 else False
        return self._coarse if fine and len(self.time) > 4 * _PARTS else (self.time, self.values)

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        return envelope(self.time, self.values, float(self.time[0]), float(self.time[-1]), _PARTS)

    @cached_property
    def largest(self) -> float:
        """The largest finite magnitude; 0 without any."""
        return float(np.abs(self.values[np.isfinite(self.values)]).max(initial=0.0))

    def of_the_spot(self, frames: Mapping[str, FrameTimes]) -> np.ndarray:
        """Say which numbers belong to frames that are shown: those of one spot; all where they belong to no frames."""
        times = self.exposures(frames)
        return np.ones(len(self.time), bool) if times is None else np.isin(np.arange(len(self.time)), times.frames)

    def exposures(self, frames: Mapping[str, FrameTimes]) -> FrameTimes | None:
        """Give the exposures that the numbers belong to."""
        times = frames.get(self.name.partition("/")[0])
        return times if times is not None and times.count == len(self.time) else None

    def only(self, keep: np.ndarray) -> Trace:
        """Give a part of it."""
        parts = {k: None if v is None else v[keep] for k, v in (("errors", self.errors), ("begin", self.begin), ("end", self.end))}
        return Trace(self.name, self.label, self.units, self.time[keep], self.values[keep], sampling=self.sampling, **parts)


class Series:
    """The frames of one technique: when they were exposed and where.

    Attributes
    ----------
    name
        Of the series in the store, such as `xrd`.
    technique
        Of the contract.
    begin, end
        Seconds of each frame, in the order of acquisition; NaN where the time is not known.
    position
        Number of the spot of each frame, or None.
    quality
        Bits of `operando.contract.Quality` of each frame.
    """

    rule: Literal["hold", "nearest"] = "nearest"

    def __init__(self, name: str, ds: xr.Dataset, origin: np.datetime64) -> None:
        self.name, self.ds = name, ds
        self.technique = str(ds.attrs.get("technique", ""))
        self.begin, self.end = exposures(ds, origin)
        self.position = numbers(ds, "position")
        quality = numbers(ds, "quality")
        self.quality = np.zeros(len(self.begin), int) if quality is None else np.nan_to_num(quality).astype(int)
        self.stale_after: float | None = None
        self.max_age: float | None = None

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def positions(self) -> list[int]:
        """The spots there are, if there are several."""
        if self.position is None:
            return []
        found = np.unique(self.position[np.isfinite(self.position)]).astype(int).tolist()
        return found if len(found) > 1 else []

    def flags(self, index: int) -> str:
        """Name what the instrument said against a frame; empty for none."""
        return op.contract.named_flags(op.contract.Quality, int(self.quality[index]))

    def times(self, position: int | None = None) -> FrameTimes:
        """Give the exposures of the frames of one spot, or of all."""
        only = self.position == position if position in self.positions and self.position is not None else None
        return FrameTimes(self.begin, self.end, rule=self.rule, only=only, stale_after=self.stale_after, max_age=self.max_age)


class Spectra(Series):
    """One variable over (time, axis): diffraction patterns, G(r), absorption, Raman and infrared spectra.

    Attributes
    ----------
    key
        `xrd`, or `total/g_r` where a series has several.
    axis
        Values of the axis; their order in the file is kept.
    axis_label, label
        Quantity and unit of axis and signal.
    """

    def __init__(self, name: str, product: str, variable: str, ds: xr.Dataset, origin: np.datetime64, path: Path, cell: str) -> None:
        super().__init__(name, ds, origin)
        self.key = name
        self.product, self.variable = product, variable
        signal = ds[variable]
        dim = str(signal.dims[1])
        self.axis_name = dim
        self.axis = np.asarray(ds[dim].values, float) if dim in ds.coords else np.arange(signal.shape[1], dtype=float)
        self.axis_label = op.figures.label(dim, ds[dim]) if dim in ds.coords else dim
        self.label = op.figures.label(variable, signal)
        self.title = f"{name} {op.figures.named(variable, signal)}"
        self.pyramid = Pyramid(path, f"{cell}/{name}/{product}", variable, ds)
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def spectrum(self, index: int) -> np.ndarray:
        """Read the values of a frame; NaN where they cannot be read."""
        return self._row(self.variable, index)

    def errors(self, index: int) -> np.ndarray | None:
        """Read 1 sigma of a frame; None where the store has none."""
        name = f"{self.variable}_errors"
        return self._row(name, index) if name in self.ds and self.ds[name].dims == self.ds[self.variable].dims else None

    def _row(self, name: str, index: int) -> np.ndarray:
        if (name, index) not in self._kept:
            while len(self._kept) >= _KEEP:
                del self._kept[next(iter(self._kept))]
            self._kept[name, index] = np.asarray(self.ds[name][index].values, float)
        return self._kept[name, index]

    def mean(self, frames: np.ndarray) -> tuple[np.ndarray, int]:
        """Read frames in batches; give their mean, and how many counted: without NaN, damaged frames and those that saw no beam."""
        frames = frames[(self.quality[frames] & _BAD) == 0]
        if not len(frames):
            return np.full(len(self.axis), np.nan), 0
        total, count = np.zeros(len(self.axis)), np.zeros(len(self.axis))
        counted = 0
        for rows in np.array_split(np.sort(frames), max(1, len(frames) // 256)):
            values = np.asarray(self.ds[self.variable][rows].values, float)
            good = np.isfinite(values)
            counted += int(good.any(axis=1).sum())
            total += np.where(good, values, 0).sum(axis=0)
            count += good.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / np.maximum(count, 1), np.nan), counted


class ImageSeries(Series):
    """Detector or microscope frames; the pixels stay in their files."""

    rule: Literal["hold", "nearest"] = "hold"

    def __init__(self, name: str, ds: xr.Dataset, origin: np.datetime64, folder: Path, moved: Iterable[Path] = ()) -> None:
        super().__init__(name, ds, origin)
        self.pictures: Pictures | SmallPictures = Pictures(ds, folder, moved)
        self.levels: list[SmallPictures] = []
        self.grid: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 1.0), (0.0, 0.0))


class SmallImageSeries(ImageSeries):
    """Small pictures that the store holds, laid where the frames they were made of lie."""

    def __init__(self, name: str, ds: xr.Dataset, variable: str, origin: np.datetime64, levels: Iterable[xr.Dataset] = ()) -> None:
        Series.__init__(self, name, ds, origin)
        self.pictures = made = SmallPictures(ds[variable])
        self.levels = [SmallPictures(level[variable]) for level in levels if variable in level]
        self.grid = made.grid


@dataclass
class Cell:
    """One cell of a beamtime.

    Attributes
    ----------
    echem
        Name -> record: voltage, current, charge, soc and what else there is.
    spectra, images, sweeps
        Key -> series.
    traces
        Observables and channels, by name.
    """

    name: str
    origin: np.datetime64
    echem: dict[str, Trace] = field(default_factory=dict)
    max_gap: float = np.inf
    spectra: dict[str, Spectra] = field(default_factory=dict)
    images: dict[str, ImageSeries] = field(default_factory=dict)
    sweeps: dict[str, Sweeps] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    fractions: dict[str, list[Trace]] = field(default_factory=dict)
    cycles: tuple[tuple[int, float], ...] = ()
    half_cycles: tuple[tuple[int, float], ...] = ()
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def series(self) -> dict[str, Series | Sweeps]:
        """Everything that has frames, by key."""
        out: dict[str, Series | Sweeps] = {}
        out.update(self.spectra)
        out.update(self.images)
        out.update(self.sweeps)
        return out

    @property
    def positions(self) -> list[int]:
        """Every spot that some series has."""
        return sorted({p for s in self.series.values() for p in s.positions})

    def timeline(self, position: int | None = None) -> Timeline:
        """Give the time of this cell, with the frames of one spot or of all."""
        frames = {key: s.times(position) for key, s in self.series.items()}
        every = {key: s.times() for key, s in self.series.items()}  # ticks stay where they are when another spot is chosen
        ends = [t.span for t in every.values() if len(t)]
        ends += [
            (float(np.nanmin(t.time)), float(np.nanmax(t.time))) for t in (*self.echem.values(), *self.traces.values()) if np.isfinite(t.time).any()
        ]
        begin, end = (min(a for a, _ in ends), max(b for _, b in ends)) if ends else (0.0, 1.0)
        tick = fine_tick(begin, end, list(every.values()))
        begin = np.floor(begin / tick) * tick
        return Timeline(self.origin, float(begin), max(end, begin + tick), tick, frames, self.cycles, self.half_cycles)

    def soc_at(self, times: np.ndarray) -> np.ndarray:
        """Give the state of charge at many moments: linear between records, NaN in a pause and beyond the record."""
        record = self.echem["soc"]
        if len(record.time) < 2:
            return np.full(len(times), np.nan)
        out = np.interp(times, record.time, record.values, left=np.nan, right=np.nan)
        k = np.clip(np.searchsorted(record.time, times, side="right"), 1, len(record.time) - 1)
        return np.where(record.time[k] - record.time[k - 1] <= self.max_gap, out, np.nan)

    def at(self, time: float) -> dict[str, float]:
        """Give voltage, current, soc ... at a moment: linear between records, NaN in a pause; whole numbers as in the record before."""
        out: dict[str, float] = {}
        record = self.echem.get("voltage") or next(iter(self.echem.values()), None)
        if record is None or not len(record.time):
            return out
        k = int(np.searchsorted(record.time, time, side="right"))
        inside = 0 < k < len(record.time) and record.time[k] - record.time[k - 1] <= self.max_gap
        exact = 0 < k <= len(record.time) and record.time[k - 1] == time
        for name, trace in self.echem.items():
            if exact:
                out[name] = float(trace.values[k - 1])
            elif not inside:
                out[name] = np.nan
            elif name in ("cycle", "half_cycle", "direction"):
                out[name] = float(trace.values[k - 1])
            else:
                share = (time - record.time[k - 1]) / (record.time[k] - record.time[k - 1])
                out[name] = float(trace.values[k - 1] + share * (trace.values[k] - trace.values[k - 1]))
        return out


class Stored:
    """An opened store.

    Parameters
    ----------
    path
        `.nxs` or growing `.operando`.
    images
        Folders in which to look for image files that are not where the store says.

    Attributes
    ----------
    problems
        What could not be opened, one message each; the rest can be looked at.
    damaged
        (cell, series, product) of those products of a growing store.

    Raises
    ------
    operando.OperandoError
        It cannot be opened at all, or holds no cell.
    """

    def __init__(self, path: str | os.PathLike[str], images: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.path = Path(path)
        damaged: list[Any] = []
        self.tree = op.open_beamtime(self.path, problems=damaged)
        self.problems = [str(p) for p in damaged]
        self.damaged = {place for p in damaged if (place := _address(p.file, self.path))}
        self.moved = [Path(p) for p in images]
        self.cells = list(self.tree.children)
        if not self.cells:
            raise op.contract.StoreError(
                "there is nothing to show", file=self.path, found="no product" + "".join(f"\n{p}" for p in self.problems), hint="operando build"
            )
        self._made: dict[str, Cell] = {}

    def cell(self, name: str) -> Cell:
        """Give a cell; made once."""
        if name not in self._made:
            self._made[name] = self._read(name)
        return self._made[name]

    def _read(self, name: str) -> Cell:
        node = self.tree[name]
        products = {
            (series, product): node[series][product].to_dataset(inherit=False) for series in node.children for product in node[series].children
        }
        cell = Cell(name, self._origin(products))
        for (series, product), ds in products.items():
            try:
                self._add(cell, series, product, ds, products)
            except Exception as error:  # one product that cannot be used leaves the others
                self.problems.append(f"{name}/{series}/{product}: {error or type(error).__name__}")
        order = list(op.contract.TECHNIQUES)
        cell.spectra = dict(
            sorted(cell.spectra.items(), key=lambda item: (order.index(item[1].technique), item[1].name, item[1].product != "frames"))
        )
        cell.damaged = sorted(f"{series}/{product}" for which, series, product in self.damaged if which == name)
        cell.missing = _missing(cell)
        return cell

    @staticmethod
    def _origin(products: Mapping[tuple[str, str], xr.Dataset]) -> np.datetime64:
        """Give the first record of the electrochemistry, or the first frame of all."""
        firsts: dict[bool, list[Any]] = {}
        for (_, product), ds in products.items():
            if product in ("frames", "images") and "time" in ds.coords and ds["time"].dtype.kind == "M":
                values = ds["time"].values[~np.isnat(ds["time"].values)]
                if len(values):
                    firsts.setdefault(ds.attrs.get("technique") == "echem", []).append(values.min())
        found = firsts.get(True) or firsts.get(False) or [np.datetime64(0, "ns")]
        return np.datetime64(min(found), "ns")

    def _add(self, cell: Cell, series: str, product: str, ds: xr.Dataset, products: Mapping[tuple[str, str], xr.Dataset]) -> None:
        technique = str(ds.attrs.get("technique", ""))
        if product == "alignment" or "time" not in ds.dims or "time" not in ds.coords or ds["time"].dtype.kind != "M":
            return
        if product == "images" or (technique == "images" and "file" in ds):
            key = series if product == "images" else f"{series}/{product}"
            cell.images[key if (series, "frames") not in products else f"{series}/images"] = ImageSeries(
                series, ds, cell.origin, self.path.parent, self.moved
            )
        elif technique == "echem" and product == "frames":
            _electrochemistry(cell, ds)
        elif technique == "eis" and product == "frames":
            reduced, observables = products.get((series, "reduced")), products.get((series, "observables"))
            cell.sweeps[series] = Sweeps(series, ds, *exposures(ds, cell.origin), reduced=reduced, observables=observables)
        elif product == "frames" and technique in op.contract.TECHNIQUES and op.contract.TECHNIQUES[technique].axis:
            signals = op.contract.TECHNIQUES[technique].signals
            found = [s for s in signals if s in ds and ds[s].ndim == 2 and ds[s].dtype.kind in "iuf"]
            for variable in found[:1]:
                cell.spectra[series] = Spectra(series, product, variable, ds, cell.origin, self.path, cell.name)
        elif product == "frames" and technique == "sensor":
            for variable in ds.data_vars:
                self._trace(cell, series, str(variable), ds)
        elif product == "reduced" and technique == "imaging":
            # levels of a growing store are averaged from its pictures when they are read, which takes longer than to read those
            levels = op.pyramid(self.path, f"{cell.name}/{series}/{product}").values() if self.path.is_file() else ()
            for variable, v in ds.data_vars.items():
                if v.dims == ("time", "y", "x") and v.dtype.kind == "f":
                    cell.images[f"{series}/{variable}"] = SmallImageSeries(series, ds, str(variable), cell.origin, levels)
        elif product == "reduced" and technique != "eis":
            for variable, v in ds.data_vars.items():
                aside = str(variable).endswith(("_errors", "_systematic", "_low", "_high"))
                if v.ndim == 2 and v.dims[0] == "time" and v.dtype.kind in "iuf" and not aside and v.dims[1] in ds.coords and v.shape[1] > 8:
                    one = Spectra(series, product, str(variable), ds, cell.origin, self.path, cell.name)
                    one.key = f"{series}/{variable}"
                    cell.spectra[one.key] = one
        elif product not in ("images", "frames", "reduced") and technique != "echem" or product == "observables":
            for variable in ds.data_vars:
                self._trace(cell, series, str(variable), ds)

    def _trace(self, cell: Cell, series: str, name: str, ds: xr.Dataset) -> None:
        """Add a variable over time (and at most one labelled dim) as traces."""
        v = ds[name]
        if name.endswith(("_errors", "_systematic")) or v.dtype.kind not in "iufb" or v.dims[:1] != ("time",) or v.ndim > 2:
            return
        begin, end = exposures(ds, cell.origin)
        time = (begin + end) / 2
        error = ds[f"{name}_errors"] if f"{name}_errors" in ds and ds[f"{name}_errors"].dims == v.dims else None
        words = {"label": op.figures.named(name, v), "units": op.figures.printed(str(v.attrs.get("units", "1")))}
        sampling = str(v.attrs.get("sampling", "continuous" if ds.attrs.get("technique") in ("echem", "sensor") else "sample"))
        if v.ndim == 1:
            errors = None if error is None else np.asarray(error.values, float)
            key = f"{series}/{name}"
            cell.traces[key] = Trace(
                key, values=np.asarray(v.values, float), errors=errors, time=time, begin=begin, end=end, sampling=sampling, **words
            )
            return
        dim = str(v.dims[1])
        if v.shape[1] > 64:
            return
        labels = [str(x) for x in ds[dim].values] if dim in ds.coords else [str(i + 1) for i in range(v.shape[1])]
        every, wrong = np.asarray(v.values, float), None if error is None else np.asarray(error.values, float)
        made = []
        for i, which in enumerate(labels):
            key = f"{series}/{name}[{dim}={which}]"
            one = Trace(
                key,
                f"{words['label']}, {which}",
                words["units"],
                time,
                every[:, i],
                None if wrong is None else wrong[:, i],
                begin,
                end,
                sampling,
            )
            cell.traces[key] = one
            made.append(one)
        if name == "phase_fraction":
            cell.fractions[series] = made


def exposures(ds: xr.Dataset, origin: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
    """Give begin and end of every frame in seconds since `origin`; NaN where the time is not known."""
    stamps = ds["time"].values.astype("datetime64[ns]")
    seconds = (stamps - origin).astype(np.int64) / 1e9
    seconds[np.isnat(stamps)] = np.nan
    exposure = numbers(ds, "exposure")
    half = np.zeros(len(seconds)) if exposure is None else np.nan_to_num(exposure, nan=0.0, posinf=0.0, neginf=0.0).clip(0) / 2
    return seconds - half, seconds + half


def numbers(ds: xr.Dataset, name: str) -> np.ndarray | None:
    """Give a variable along time as float, or None."""
    if name not in ds.variables or ds[name].dims != ("time",) or ds[name].dtype.kind not in "iufb":
        return None
    return np.asarray(ds[name].values, float)


_RECORDS = ("voltage", "current", "charge", "soc", "potential_we", "potential_ce", "cycle", "half_cycle", "direction")


def _electrochemistry(cell: Cell, ds: xr.Dataset) -> None:
    """Take the records, in the order of time."""
    stamps = ds["time"].values.astype("datetime64[ns]")
    time = (stamps - cell.origin).astype(np.int64) / 1e9
    known = ~np.isnat(stamps)
    order = np.flatnonzero(known)
    if (np.diff(time[order]) < 0).any():
        order = order[np.argsort(time[order], kind="stable")]
    time = time[order]
    cell.max_gap = float(ds.attrs.get("max_gap_s", np.inf))
    for name in _RECORDS:
        values = numbers(ds, name)
        if values is None:
            continue
        values = values[order]
        units = str(ds[name].attrs.get("units", "1"))
        factor, units = op.figures.readable(values, units)
        cell.echem[name] = Trace(
            f"echem/{name}", op.figures.named(name, ds[name]), op.figures.printed(units), time, values * factor, sampling="continuous"
        )
    for name in ("voltage", "current", "charge", "soc", "potential_we", "potential_ce"):
        if name in cell.echem:
            cell.traces[f"echem/{name}"] = cell.echem[name]
    cell.cycles = _starts(cell.echem.get("cycle"))
    cell.half_cycles = _starts(cell.echem.get("half_cycle"))


def _starts(trace: Trace | None) -> tuple[tuple[int, float], ...]:
    """Give (number, second) of each change of a counter."""
    if trace is None or not len(trace.values):
        return ()
    good = np.flatnonzero(np.isfinite(trace.values))  # records without the counter belong to the cycle around them
    if not len(good):
        return ()
    values = trace.values[good].astype(int)
    at = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return tuple((int(values[i]), float(trace.time[good[i]])) for i in at if values[i] >= 0)


def _address(file: object, store: Path) -> tuple[str, str, str] | None:
    """Give the product that a part of a growing store belongs to: `parts/<cell>/<series>/<product>/...`."""
    try:
        parts = Path(str(file)).resolve().relative_to(store.resolve()).parts
    except ValueError:
        return None
    return (parts[1], parts[2], parts[3]) if len(parts) > 3 and parts[0] == "parts" else None


def _missing(cell: Cell) -> list[str]:
    """Name what a whole store would show and this one has not; what is damaged is named elsewhere."""
    if cell.damaged:
        return []
    out = []
    if not cell.echem:
        out.append("no electrochemistry: there is no voltage, and t = 0 is the first frame")
    if not cell.images:
        out.append("no images: add a source of detector or microscope frames")
    if not cell.spectra:
        out.append("no spectra: no XRD, PDF, XAS, Raman or IR series")
    if not cell.sweeps:
        out.append("no impedance sweeps")
    if not cell.fractions:
        out.append("no phase fractions: they need a recipe that refines phases")
    return out
