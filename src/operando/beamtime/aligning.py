"""Stage two: every series on its cell's electrochemical timeline, from coordinates alone; no spectrum is read."""

from __future__ import annotations

from typing import Any

import xarray as xr

from operando import plan
from operando.beamtime.frames import with_setups
from operando.beamtime.outcome import Outcome, Progress
from operando.config import BeamtimeConfig
from operando.contract import OperandoError
from operando.store import Store, content_key
from operando.timeline import VERSION as TIMELINE_VERSION
from operando.timeline import align_frames, annotate, check_zone, clocks_from_config, echem_timeline, localise, restart_segments

COORDS = ("time", "source_time", "exposure", "segment", "setup", "quality", "stamp", "position", "live_time", "source")


def check_clock(reading: plan.Reading) -> None:
    """Refuse a clock that cannot be used before anything is read.

    Raises
    ------
    ClockError
        Naming the source.
    """
    try:
        clocks_from_config(reading.clock, localise=reading.zone)
        if reading.zone is not None:
            check_zone(reading.zone)
    except OperandoError as error:
        error.file = error.file or f"source {reading.source}, clock"
        raise


def _times_of(store: Store, cell: str, series: str) -> xr.Dataset:
    """Read the coordinates that place a series in time; no signal is touched."""
    ds = store.read(cell, series, "frames")
    return ds[[c for c in COORDS if c in ds.coords]].load()


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


def _echem_records(store: Store, cell: str) -> xr.Dataset:
    """Read the columns of the electrochemistry that the timeline needs."""
    ds = store.read(cell, "echem", "frames")
    names = [n for n in ECHEM if n in ds.data_vars] + [c for c in COORDS if c in ds.coords]
    return ds[names].load()


def align(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, outcome: Outcome, progress: Progress) -> None:
    """Put every series of every cell on its electrochemical timeline; recompute only what changed."""
    store: Store = writer.store
    progress.stage("align", sum(len(r.consumers) for r in everything))
    for cell in config.cells:
        consumers = [(r, c) for r in everything for c in r.consumers if c.cell == cell]
        echem_key, echem = "", _Late(lambda: None)
        for reading, consumer in consumers:
            if consumer.series == "echem" and store.parts(cell, "echem", "frames"):
                try:
                    echem_key, echem = _align_echem(config, reading, cell, writer, outcome)
                except OperandoError as error:
                    outcome.problems.append(error)
                    echem_key = "failed"
                    writer.drop(store.parts(cell, "echem", "alignment"))  # it speaks of other files
                progress.step()
        sensors = _sensors(config, consumers, store)
        for reading, consumer in consumers:
            if consumer.series == "echem":
                continue
            for name in with_setups(store, cell, consumer.series):
                parts = store.parts(cell, name, "frames")
                if not parts:
                    continue
                mine = {k: v for k, v in sensors.items() if k != name}
                key = plan.alignment_key(
                    TIMELINE_VERSION, parts, reading.zone, reading.clock, [echem_key, *(f"{k}:{v[0]}" for k, v in sorted(mine.items()))]
                )
                if any(p.key == key for p in store.parts(cell, name, "alignment")):
                    continue
                try:
                    times = restart_segments(localise(_times_of(store, cell, name), reading.zone))
                    joined = {k: late() for k, (_, late) in mine.items()}
                    made = align_frames(times, echem(), clocks_from_config(reading.clock, localise=reading.zone), sensors=joined or None)
                    replace(writer, cell, name, "alignment", made, key)
                    outcome.done["alignments"] += 1
                except OperandoError as error:
                    error.file = error.file or f"source {reading.source} ({consumer.address})"
                    outcome.problems.append(error)
            progress.step()


class _Late:
    """A value read when first needed, once."""

    def __init__(self, read: Any) -> None:
        self.read, self.value, self.known = read, None, False

    def __call__(self) -> Any:
        if not self.known:
            self.value, self.known = self.read(), True
        return self.value


def _align_echem(config: BeamtimeConfig, reading: plan.Reading, cell: str, writer: Any, outcome: Outcome) -> tuple[str, _Late]:
    """Make the cell's timeline of its electrochemistry, unless it is there."""
    store: Store = writer.store
    about = config.cells[cell].about
    capacity = about.capacity * 3.6 if about.capacity is not None else None  # mAh -> C
    key = plan.alignment_key(TIMELINE_VERSION, store.parts(cell, "echem", "frames"), reading.zone, reading.clock, settings={"capacity": capacity})
    records = _Late(lambda: restart_segments(localise(_echem_records(store, cell), reading.zone)))
    if not any(p.key == key for p in store.parts(cell, "echem", "alignment")):
        made = echem_timeline(records(), clocks_from_config(reading.clock, localise=reading.zone), capacity=capacity)
        replace(writer, cell, "echem", "alignment", made, key)
        outcome.done["alignments"] += 1
    return key, _Late(lambda: annotate(records(), store.read(cell, "echem", "alignment").load()))


def _sensors(config: BeamtimeConfig, consumers: list[tuple[plan.Reading, plan.Consumer]], store: Store) -> dict[str, tuple[str, _Late]]:
    """Find the cell's logged channels: series name -> (key, channels on UTC and on the cycler's clock)."""
    found: dict[str, tuple[str, _Late]] = {}
    for reading, consumer in consumers:
        parts = store.parts(consumer.cell, consumer.series, "frames")
        if consumer.series == "echem" or not parts or store.read(consumer.cell, consumer.series, "frames").attrs.get("technique") != "sensor":
            continue

        def channels(reading: plan.Reading = reading, consumer: plan.Consumer = consumer) -> xr.Dataset:
            ds = restart_segments(localise(store.read(consumer.cell, consumer.series, "frames").load(), reading.zone))
            return annotate(ds, align_frames(ds, None, clocks_from_config(reading.clock, localise=reading.zone)))

        key = content_key(plan.keys_of(parts), reading.zone, reading.clock)
        found[consumer.series] = (key, _Late(channels))
    return found


def replace(writer: Any, cell: str, series: str, product: str, ds: xr.Dataset, key: str) -> None:
    """Write a product anew; the old parts go only once the new one is safe."""
    writer.replace(writer.store.parts(cell, series, product), ds, cell=cell, series=series, product=product, key=key)
