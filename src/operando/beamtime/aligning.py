"""Stage two: every series on its cell's electrochemical timeline, from coordinates alone; no spectrum is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime import clocks
from operando.beamtime.frames import raw_parts, with_setups
from operando.beamtime.outcome import Outcome, Progress
from operando.config import BeamtimeConfig
from operando.contract import OperandoError
from operando.store import Store
from operando.timeline import VERSION as TIMELINE_VERSION
from operando.timeline import align_frames, annotate, check_zone, echem_timeline, place, without_frames

COORDS = ("time", "source_time", "exposure", "segment", "setup", "quality", "stamp", "position", "live_time", "source", "source_index")


def check_clock(reading: plan.Reading) -> None:
    """Refuse a clock that cannot be used before anything is read.

    Raises
    ------
    ClockError
        Naming the source.
    """
    try:
        clocks.given(reading)
        if reading.zone is not None:
            check_zone(reading.zone)
    except OperandoError as error:
        error.file = error.file or f"source {reading.source}, clock"
        raise


Placed = tuple[dict[tuple[str, str], xr.Dataset], Any]
"""(cell, series) -> the coordinates that place its frames, on UTC; and the source's clock as far as beamtime.yaml gives it."""


def _placed(store: Store, reading: plan.Reading) -> Placed:
    """Put all frames of a source on UTC together, from the coordinates of every series they went to; no signal is touched."""
    where = series_of(store, reading)
    pieces, ranks, files = [], [], []
    for cell, name in where:
        raw = store.raw(cell, name)
        ds = store.read(cell, name, raw)
        pieces.append(ds[[c for c in COORDS if c in ds.coords]].load())
        entries = store.inputs(cell, name, raw)
        rows = [entry["rows"][1] - entry["rows"][0] for entry in entries]
        ranks.append(np.repeat(np.array([entry["t0"] for entry in entries], np.int64), rows))
        files.append(np.repeat(np.array([entry["file"] for entry in entries], dtype=object), rows))
    placed, anchored = place(pieces, ranks, files, reading.zone, clocks.given(reading))
    return dict(zip(where, placed, strict=True)), anchored


def series_of(store: Store, reading: plan.Reading) -> list[tuple[str, str]]:
    """List the series of the store that hold frames of a reading, further setups included."""
    names = [(c.cell, name) for c in reading.consumers for name in with_setups(store, c.cell, c.series)]
    return [address for address in dict.fromkeys(names) if raw_parts(store, *address)]


ECHEM = (
    "voltage",
    "current",
    "charge",
    "cycle",
    "half_cycle",
    "step",
    "control_current",
    "control_voltage",
    "step_changes",
    "potential_we",
    "potential_ce",
)


def _echem_records(store: Store, cell: str, placed: xr.Dataset) -> xr.Dataset:
    """Read the columns of the electrochemistry that the timeline needs, on UTC."""
    ds = store.read(cell, "echem", "frames")
    columns = ds[[n for n in ECHEM if n in ds.data_vars]].load()
    records = columns.drop_vars([c for c in columns.coords if c not in ("time",)], errors="ignore")
    records = records.assign_coords({name: placed[name].variable for name in placed.coords})
    records.attrs = {**ds.attrs, **placed.attrs}
    return records


def align(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, outcome: Outcome, progress: Progress) -> None:
    """Put every series of every cell on its electrochemical timeline; recompute only what changed."""
    store: Store = writer.store
    progress.stage("align", sum(len(r.consumers) for r in everything))
    sources = {id(r): Source(store, r) for r in everything}
    for source in sources.values():
        _say_unused_clocks(source, outcome)
    consumers = {cell: [(sources[id(r)], c) for r in everything for c in r.consumers if c.cell == cell] for cell in config.cells}
    timelines: dict[str, tuple[str, _Late]] = {}
    for cell, here in consumers.items():
        for source, consumer in here:
            if consumer.series == "echem" and store.parts(cell, "echem", "frames"):
                try:
                    timelines[cell] = _align_echem(config, source, cell, writer, outcome)
                except OperandoError as error:
                    error.file = error.file or f"source {source.reading.source} ({consumer.address})"
                    outcome.problems.append(error)
                    timelines[cell] = ("failed", _Late(lambda: None))
                    writer.drop(store.parts(cell, "echem", "alignment"))  # it speaks of other files
                progress.step()
    found = _Clocks(list(sources.values()), {cell: t for cell, t in timelines.items() if t[0] != "failed"}, outcome)
    for cell, here in consumers.items():
        echem_key, echem = timelines.get(cell, ("", _Late(lambda: None)))
        sensors = _sensors(here, store, found)
        sweeps = _sweeps(here, store, found)
        for source, consumer in here:
            if consumer.series == "echem":
                continue
            for name in with_setups(store, cell, consumer.series):
                if not raw_parts(store, cell, name):
                    continue
                mine = {k: v for k, v in sensors.items() if k != name}
                try:
                    meeting = {k: v for k, v in sweeps.items() if name not in sweeps}
                    others = [*(f"{k}:{v[0]}" for k, v in sorted(mine.items())), *(f"sweeps {k}:{v[0]}" for k, v in sorted(meeting.items()))]
                    key = source.key([echem_key, *found.key(source), *others])
                    if any(p.key == key for p in store.parts(cell, name, "alignment")):
                        continue
                    placed, clock = source.placed()[0], found.of(source)
                    joined = {k: late() for k, (_, late) in mine.items()}
                    intervals = np.concatenate([late() for _, late in meeting.values()]) if meeting else None
                    made = align_frames(placed[cell, name], echem(), clock, sensors=joined or None, sweeps=intervals)
                    replace(writer, cell, name, "alignment", made, key)
                    outcome.done["alignments"] += 1
                except OperandoError as error:
                    error.file = error.file or f"source {source.reading.source} ({consumer.address})"
                    outcome.problems.append(error)
                    writer.drop(store.parts(cell, name, "alignment"))  # it speaks of other settings: a fresh build would have none
            progress.step()


class _Clocks:
    """The clock of each source: as beamtime.yaml gives it, or found against the electrochemistry when first needed."""

    def __init__(self, sources: list[Source], timelines: dict[str, tuple[str, _Late]], outcome: Outcome) -> None:
        self.sources, self.timelines, self.outcome = sources, timelines, outcome
        self.known: dict[int, Any] = {}

    def key(self, source: Source) -> list[str]:
        """Say what an estimate rests on: the electrochemistry and the frames of the source that recorded the same."""
        out: list[str] = []
        for _, name, spec in clocks.asked(source.reading):
            cell = clocks.cell_of(source.reading, spec, self.timelines)
            out += [f"clock {clocks.VERSION}", self.timelines[cell][0] if cell else ""]
            named = {name, spec.get("echem", "")}
            out += [s.key([]) for s in self.sources if s.reading.source in named or any(c.series in named for c in s.reading.consumers)]
        return out

    def of(self, source: Source) -> Any:
        """Give the clock to align with; what an estimate that does not tell leaves open is said once."""
        _, given = source.placed()
        if not clocks.asked(source.reading):
            return given
        if id(source) not in self.known:
            segments = np.unique(np.concatenate([ds["segment"].values for ds in source.placed()[0].values()]))
            try:
                clock, estimates = clocks.find(source.reading, given, segments, self.timelines, self._witness, self._series)
            except OperandoError as error:
                self.known[id(source)] = error
                raise
            self.known[id(source)] = clock
            for one in estimates:
                if not one.applied:
                    where = f", segment {one.segment}" if one.segment is not None else ""
                    instead = "the numbers given are used" if given is not None else "its frames stay as stamped and are marked TIME_UNCERTAIN"
                    self.outcome.messages.append(f"source {source.reading.source}{where}: no clock found ({one.clock.evidence}); {instead}")
        if isinstance(self.known[id(source)], OperandoError):
            raise self.known[id(source)]
        return self.known[id(source)]

    def _witness(self, name: str, channel: str | None) -> clocks.Witness:
        pieces = []
        for source in (s for s in self.sources if s.reading.source == name):
            for (cell, series), ds in source.placed()[0].items():
                frames = source.store.read(cell, series, source.store.raw(cell, series))
                channels = {n: v for n, v in frames.variables.items() if v.dims == ("time",) and n not in ds.variables}
                pieces.append(ds.assign(channels))
        return clocks.witness(pieces, channel, name)

    def _series(self, cell: str, name: str) -> xr.Dataset:
        if name == "echem":
            return self.timelines[cell][1]()
        for source in self.sources:
            placed, given = source.placed()
            if (cell, name) in placed and not clocks.asked(source.reading):
                frames = annotate(placed[cell, name], align_frames(placed[cell, name], None, given))
                whole = source.store.read(cell, name, source.store.raw(cell, name))
                return frames.assign(point_time=whole["point_time"].variable.load()) if "point_time" in whole.variables else frames
        raise clocks.no_series(cell, name)


def _say_unused_clocks(source: Source, outcome: Outcome) -> None:
    """Name clocks of a list that no frame stands in: the restart they were written for was not found."""
    if not isinstance(source.reading.clock, list):
        return
    try:
        placed, _ = source.placed()
    except OperandoError:
        return  # said where it is aligned
    unused = without_frames([int(entry["segment"]) for entry in clocks.entries(source.reading)], list(placed.values()))
    if unused:
        outcome.messages.append(f"source {source.reading.source}: {unused}")


class Source:
    """A reading's frames as the store holds them, placed on UTC when first needed."""

    def __init__(self, store: Store, reading: plan.Reading) -> None:
        self.store, self.reading = store, reading
        self.frames = plan.keys_of(part for address in series_of(store, reading) for part in raw_parts(store, *address))
        self.placed: Any = _Late(lambda: _placed(store, reading))

    def key(self, others: list[str], settings: Any = None) -> str:
        """Stage key of an alignment of this source: all its frames (they number the segments), zone and clock."""
        return plan.alignment_key(TIMELINE_VERSION, self.frames, self.reading.zone, self.reading.clock, others, settings)


class _Late:
    """A value read when first needed, once."""

    def __init__(self, read: Any) -> None:
        self.read, self.value, self.known = read, None, False

    def __call__(self) -> Any:
        if not self.known:
            self.value, self.known = self.read(), True
        return self.value


def _align_echem(config: BeamtimeConfig, source: Source, cell: str, writer: Any, outcome: Outcome) -> tuple[str, _Late]:
    """Make the cell's timeline of its electrochemistry, unless it is there."""
    store: Store = writer.store
    about = config.cells[cell].about
    capacity = about.capacity * 3.6 if about.capacity is not None else None  # mAh -> C
    key = source.key([], settings={"capacity": capacity})
    records = _Late(lambda: _echem_records(store, cell, source.placed()[0][cell, "echem"]))
    if not any(p.key == key for p in store.parts(cell, "echem", "alignment")):
        made = echem_timeline(records(), source.placed()[1], capacity=capacity)
        replace(writer, cell, "echem", "alignment", made, key)
        outcome.done["alignments"] += 1
    return key, _Late(lambda: annotate(records(), store.read(cell, "echem", "alignment").load()))


def _sensors(consumers: list[tuple[Source, plan.Consumer]], store: Store, clock_of: _Clocks) -> dict[str, tuple[str, _Late]]:
    """Find the cell's logged channels: series name -> (key, channels on UTC and on the cycler's clock)."""
    found: dict[str, tuple[str, _Late]] = {}
    for source, consumer in consumers:
        parts = store.parts(consumer.cell, consumer.series, "frames")
        if consumer.series == "echem" or not parts or store.read(consumer.cell, consumer.series, "frames").attrs.get("technique") != "sensor":
            continue

        def channels(source: Source = source, consumer: plan.Consumer = consumer) -> xr.Dataset:
            ds = store.read(consumer.cell, consumer.series, "frames").load()
            mine = source.placed()[0][consumer.cell, consumer.series]
            ds = ds.drop_vars("stamp", errors="ignore").assign_coords({name: mine[name].variable for name in ("time", "source_time", "segment")})
            ds.attrs.update(mine.attrs)
            return annotate(ds, align_frames(ds, None, clock_of.of(source)))

        found[consumer.series] = (source.key(clock_of.key(source)), _Late(channels))
    return found


def _sweeps(consumers: list[tuple[Source, plan.Consumer]], store: Store, clock_of: _Clocks) -> dict[str, tuple[str, _Late]]:
    """Find the cell's impedance sweeps: series name -> (key, rows of begin and end on the cycler's clock)."""
    found: dict[str, tuple[str, _Late]] = {}
    for source, consumer in consumers:
        for name in with_setups(store, consumer.cell, consumer.series):
            if not store.parts(consumer.cell, name, "frames") or store.read(consumer.cell, name, "frames").attrs.get("technique") != "eis":
                continue

            def intervals(source: Source = source, cell: str = consumer.cell, name: str = name) -> np.ndarray:
                return sweep_intervals(align_frames(source.placed()[0][cell, name], None, clock_of.of(source)), source.placed()[0][cell, name])

            found[name] = (source.key(clock_of.key(source)), _Late(intervals))
    return found


def sweep_intervals(aligned: xr.Dataset, frames: xr.Dataset) -> np.ndarray:
    """Begin and end of each frame by the corrected clock, rows of datetime64."""
    half = np.round(np.nan_to_num(np.asarray(frames["exposure"].values, float)) * 5e8).astype("timedelta64[ns]")
    return np.stack([aligned["time"].values - half, aligned["time"].values + half], axis=1)


def replace(writer: Any, cell: str, series: str, product: str, ds: xr.Dataset, key: str) -> None:
    """Write a product anew; the old parts go only once the new one is safe."""
    writer.replace(writer.store.parts(cell, series, product), ds, cell=cell, series=series, product=product, key=key)
