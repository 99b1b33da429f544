"""`operando check`: how every stream stands, before anything is built."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime import clocks
from operando.beamtime.aligning import COORDS, ECHEM, check_clock, sweep_intervals
from operando.beamtime.building import store_paths
from operando.beamtime.frames import load_one, no_zone
from operando.beamtime.outcome import Progress, Silent
from operando.beamtime.reducing import check_recipes
from operando.beamtime.suggesting import suggestions
from operando.config import BeamtimeConfig, read_config
from operando.contract import ConfigError, OperandoError
from operando.loaders import concatenate, rank_of, select
from operando.timeline import AlignmentReport, Clock, Estimate, align_frames, annotate, echem_timeline, place, summarise, without_frames
from operando.timeline.echem import track_of


def check(config: str | Path | BeamtimeConfig, output: str | Path | None = None, *, progress: Progress | None = None) -> AlignmentReport:
    """Say how every stream of a beamtime stands on the electrochemical timeline, before anything is built.

    The files are read, and only their times kept (and what clocks are to be found with). A suggestion from the physics (`suggest: true`) looks at
    the frames and observables of the last build. Nothing is written.

    Parameters
    ----------
    config
        beamtime.yaml, or what `read_config` made of it.
    output
        The store of the last build; by default beside beamtime.yaml, with its name.

    Raises
    ------
    ConfigError, ClockError
        The configuration cannot be used as it is.
    """
    if not isinstance(config, BeamtimeConfig):
        config = read_config(config)
    progress = progress or Silent()
    everything = plan.readings(config)
    check_recipes(config, everything)
    for reading in everything:
        check_clock(reading)
    scanned: dict[plan.Consumer, list[xr.Dataset]] = {}
    there: dict[plan.Consumer, dict[str, set[str]]] = {}
    problems: list[str] = list(dict.fromkeys(str(error) for reading in everything for error in reading.absent))
    channels = clocks.channels_of(everything)
    for reading in everything:
        progress.stage(f"look at {reading.source}", len(reading.files))
        for path in reading.files:
            loaded = load_one(reading, path)
            if isinstance(loaded, OperandoError):
                problems.append(str(loaded))
            else:
                if reading.zone is None and any(ds.attrs["timezone_source"] == "none" for ds in loaded):
                    raise no_zone(reading, path)
                for consumer in reading.consumers:
                    kinds = {ds.attrs["technique"] for ds in loaded}
                    wanted = consumer.technique or (next(iter(kinds)) if len(kinds) == 1 else consumer.series)
                    for ds in loaded:
                        if ds.attrs["technique"] == wanted and consumer.where:
                            _note(there.setdefault(consumer, {}), ds)
                        ds = select(ds, consumer.where, file=path) if ds.attrs["technique"] == wanted else ds.isel(time=slice(0, 0))
                        if ds.sizes["time"]:
                            scanned.setdefault(consumer, []).append(_light(ds, channels.get(reading.source, set())))
            progress.step()
    problems += [_nothing_fits(consumer, seen) for consumer, seen in there.items() if consumer not in scanned]
    report = AlignmentReport(title=config.title or config.path.name, zone=config.timezone or "UTC", streams=[], voltage={}, problems=problems)
    placed: dict[plan.Consumer, tuple[xr.Dataset, Any]] = {}
    for reading in everything:
        try:
            mine = _placed(reading, scanned)
            placed |= mine
            named = [int(entry["segment"]) for entry in clocks.entries(reading)] if isinstance(reading.clock, list) else []
            unused = without_frames(named, [ds for ds, _ in mine.values()]) if mine else None
            if unused:
                report.problems.append(f"source {reading.source}: {unused}")
        except OperandoError as error:
            error.file = error.file or f"source {reading.source}"
            report.problems.append(str(error))
    timelines = _timelines(config, everything, placed, report)
    found = {id(reading): _found(reading, everything, placed, timelines, report) for reading in everything}
    suggested = _suggested(config, output, everything, timelines, report)
    for cell in config.cells:
        pairs = [(r, c) for r in everything for c in r.consumers if c.cell == cell and c in placed and c.series != "echem"]
        sweeps = _sweeps([(placed[c][0], found[id(r)][0]) for r, c in pairs if placed[c][0].attrs["technique"] == "eis"])
        for reading, consumer in pairs:
            clock, estimates = found[id(reading)]
            meeting = None if placed[consumer][0].attrs["technique"] == "eis" else sweeps
            try:
                aligned = annotate(placed[consumer][0], align_frames(placed[consumer][0], timelines.get(cell), clock, sweeps=meeting))
                stream = summarise(consumer.address, aligned, timelines.get(cell))
                stream.estimates += [*estimates, *suggested.get(consumer.address, ())]
                report.streams.append(stream)
            except OperandoError as error:
                error.file = error.file or f"source {reading.source} ({consumer.address})"
                report.problems.append(str(error))
    return report


def _sweeps(series: list[tuple[xr.Dataset, Any]]) -> np.ndarray | None:
    """Intervals of a cell's impedance sweeps; those whose clock cannot be applied are left out (that is said where they are reported on)."""
    rows = []
    for frames, clock in series:
        with contextlib.suppress(OperandoError):
            rows.append(sweep_intervals(align_frames(frames, None, clock), frames))
    return np.concatenate(rows) if rows else None


def _timelines(
    config: BeamtimeConfig, everything: list[plan.Reading], placed: dict[plan.Consumer, tuple[xr.Dataset, Any]], report: AlignmentReport
) -> dict[str, xr.Dataset]:
    """Make the timeline of each cell that has electrochemistry, and report on it."""
    out: dict[str, xr.Dataset] = {}
    for reading in everything:
        for consumer in (c for c in reading.consumers if c.series == "echem" and c in placed):
            series, clock = placed[consumer]
            capacity = config.cells[consumer.cell].about.capacity
            try:
                aligned = annotate(series, echem_timeline(series, clock, capacity=capacity * 3.6 if capacity else None))
                report.voltage[consumer.cell] = _drawn(aligned)
                report.streams.append(summarise(consumer.address, aligned, aligned))
                out[consumer.cell] = aligned
            except OperandoError as error:
                error.file = error.file or f"source {reading.source} ({consumer.address})"
                report.problems.append(str(error))
    return out


def _found(
    reading: plan.Reading,
    everything: list[plan.Reading],
    placed: dict[plan.Consumer, tuple[xr.Dataset, Any]],
    timelines: dict[str, xr.Dataset],
    report: AlignmentReport,
) -> tuple[Any, list[Estimate]]:
    """Find the clock a source asks for; one that beamtime.yaml gives is taken as it is."""
    mine = [placed[c] for c in reading.consumers if c in placed]
    given = mine[0][1] if mine else None
    if not mine or not clocks.asked(reading):
        return given, []

    def seen(name: str, channel: str | None) -> clocks.Witness:
        return clocks.witness((placed[c][0] for r in everything if r.source == name for c in r.consumers if c in placed), channel, name)

    def series(cell: str, name: str) -> xr.Dataset:
        if name == "echem":
            return timelines[cell]
        for other in everything:
            for consumer in (c for c in other.consumers if (c.cell, c.series) == (cell, name) and c in placed):
                if not clocks.asked(other):
                    return annotate(placed[consumer][0], align_frames(placed[consumer][0], None, placed[consumer][1]))
        raise clocks.no_series(cell, name)

    try:
        segments = np.unique(np.concatenate([ds["segment"].values for ds, _ in mine]))
        return clocks.find(reading, given, segments, timelines, seen, series)
    except OperandoError as error:
        error.file = error.file or f"source {reading.source}, clock"
        report.problems.append(str(error))
        kind = clocks.asked(reading)[0][0]
        return given, [Estimate(None, Clock(status="too_few", method=kind, evidence=f"{error.problem}, see below"), applied=False)]


def _suggested(
    config: BeamtimeConfig, output: str | Path | None, everything: list[plan.Reading], timelines: dict[str, xr.Dataset], report: AlignmentReport
) -> dict[str, list[Estimate]]:
    """Collect what the last build suggests for each series whose source asks for it."""
    out: dict[str, list[Estimate]] = {}
    for reading in everything:
        if any("suggest" in entry for entry in clocks.entries(reading)):
            try:
                store = next((path for path in reversed(store_paths(config, output)) if path.exists()), None)
                for address, estimate in suggestions(reading, store, timelines):
                    out.setdefault(address, []).append(estimate)
            except OperandoError as error:
                error.file = error.file or f"source {reading.source}, clock"
                report.problems.append(str(error))
    return out


def _note(seen: dict[str, set[str]], ds: xr.Dataset) -> None:
    """Keep what `where:` could ask for: the values of the frames' coordinates."""
    for name, coord in ds.coords.items():
        if coord.dims == ("time",) and coord.dtype.kind in "OUib" and name not in ("source_index", "quality", "segment", "setup"):
            seen.setdefault(str(name), set()).update(map(str, np.unique(coord.values.astype(str))))


def _nothing_fits(consumer: plan.Consumer, seen: dict[str, set[str]]) -> str:
    """Say why a series is empty: no frame is as its `where:` wants it."""
    name = next((name for name in consumer.where if name not in seen), next(iter(consumer.where)))
    values = sorted(seen.get(name, ()))
    known = f"{name}: {', '.join(values[:8])}" + (" ..." if len(values) > 8 else "") if values else ", ".join(sorted(seen))
    where = ", ".join(f"{k}: {v}" for k, v in consumer.where.items())
    error = ConfigError(f"no frame fits where: {{{where}}}", file=f"series {consumer.address}", found=known, hint="correct where:")
    return str(error)


def _light(ds: xr.Dataset, channels: set[str]) -> xr.Dataset:
    """Keep what places frames in time, channels that clocks are found with, and the electrochemistry itself."""
    keep = [c for c in COORDS if c in ds.coords]
    keep += [n for n in sorted(channels) if n in ds.variables and ds[n].dims == ("time",) and n not in keep]
    if ds.attrs["technique"] == "echem":
        keep += [n for n in ECHEM if n in ds.data_vars]
    elif ds.attrs["technique"] == "eis":
        keep += [n for n in ("point_time",) if n in ds.variables]
    there = [str(n) for n, v in ds.variables.items() if v.dims == ("time",) and v.dtype.kind in "iufb"]
    return ds[keep].load().assign_attrs(channels=there)


def _placed(reading: plan.Reading, scanned: dict[plan.Consumer, list[xr.Dataset]]) -> dict[plan.Consumer, tuple[xr.Dataset, Any]]:
    """Put what a source gave on UTC, all its series together."""
    mine = [c for c in reading.consumers if c in scanned]
    pieces, ranks, files = [], [], []
    for consumer in mine:
        many = sorted(scanned[consumer], key=rank_of)
        rows = [ds.sizes["time"] for ds in many]
        pieces.append(concatenate(many))
        ranks.append(np.repeat(np.array([rank_of(ds) for ds in many], np.int64), rows))
        files.append(np.asarray(pieces[-1]["source"].values, dtype=object))
    if not mine:
        return {}
    together, clock = place(pieces, ranks, files, reading.zone, clocks.given(reading))
    return {consumer: (ds, clock) for consumer, ds in zip(mine, together, strict=True)}


def _drawn(echem: xr.Dataset, points: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Thin a voltage curve for drawing (lowest and highest of each stretch) and break it in pauses."""
    track = track_of(echem)  # in the order of time, also where files take turns
    seconds = track.times * 1e-9
    volts = track.take(np.asarray(echem["voltage" if "voltage" in echem else "potential_we"].values, float))
    number = np.searchsorted(track.gaps, np.arange(seconds.size), side="right")
    if seconds.size > points:
        edges = np.linspace(0, seconds.size, points // 2 + 1).astype(int)[:-1]
        index = np.unique(
            np.concatenate(
                [[a + int(np.argmin(volts[a:b])), a + int(np.argmax(volts[a:b]))] for a, b in zip(edges, [*edges[1:], seconds.size], strict=True)]
            )
        )
        seconds, volts, number = seconds[index], volts[index], number[index]
    breaks = np.flatnonzero(np.diff(number) != 0) + 1
    return np.insert(seconds, breaks, seconds[breaks - 1]), np.insert(volts, breaks, np.nan)
