"""Clocks that beamtime.yaml asks to be found: what is held against each other, what comes of it, and what is used where it does not tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.contract import ClockError
from operando.timeline import Clock, Estimate, clock_from_events, clock_from_shared_signal, clocks_from_config
from operando.timeline.alignment import Clocks
from operando.timeline.echem import track_of

VERSION = "1"
"""Raised when the same input gives another estimate; part of the key of what is aligned by one."""

FINDS = ("events", "shared_signal")


@dataclass(frozen=True)
class Witness:
    """What a source recorded, by its own clock on UTC: the middle and length (s) of each frame, its segment, and a channel's values."""

    time: np.ndarray
    exposure: np.ndarray
    segment: np.ndarray
    values: np.ndarray | None = None


def witness(pieces: Iterable[xr.Dataset], channel: str | None, source: str) -> Witness:
    """Take from the series of a source what an estimate needs, in the order of acquisition.

    Raises
    ------
    ClockError
        No series has the channel, or it is no number per frame.
    """
    pieces = chosen = list(pieces)
    if channel is not None:
        known = sorted(
            {str(n) for ds in chosen for n, v in ds.variables.items() if v.dims == ("time",) and v.dtype.kind in "iufb" and n not in _PLACE}
        )
        chosen = [ds for ds in chosen if channel in known and channel in ds.variables]
        if not chosen:
            raise ClockError(
                f"the source has no channel {channel!r} to find a clock with",
                file=f"source {source}",
                found=", ".join(sorted({*known, *(str(n) for ds in pieces for n in ds.attrs.get("channels", ()) if n not in _PLACE)})) or "none",
            )
    if not chosen:
        raise ClockError("the source that a clock is to be found with has no frames yet", file=f"source {source}")
    columns: dict[str, Any] = {n: np.concatenate([np.asarray(ds[n].values) for ds in chosen]) for n in ("source_time", "exposure", "segment")}
    values = None if channel is None else np.concatenate([np.asarray(ds[channel].values, float) for ds in chosen])
    order = np.lexsort((columns["source_time"], columns["segment"]))
    time, exposure, segment = (columns[n][order] for n in ("source_time", "exposure", "segment"))
    return Witness(time, np.nan_to_num(np.asarray(exposure, float)), segment, None if values is None else values[order])


_PLACE = ("time", "source_time", "exposure", "segment", "setup", "quality", "source_index", "live_time")


def entries(reading: plan.Reading) -> list[dict[str, Any]]:
    """List the clocks of a source as beamtime.yaml has them, one or one for each segment."""
    clock = reading.clock
    return list(clock) if isinstance(clock, list) else [clock] if clock else []


def asked(reading: plan.Reading) -> list[tuple[str, str, dict[str, Any]]]:
    """List what a source's clock is to be found from: kind, name of the source that recorded it, and what is said of it."""
    return [(kind, entry[kind].get("from_") or reading.source, entry[kind]) for entry in entries(reading) for kind in FINDS if kind in entry]


def channels_of(readings: Iterable[plan.Reading]) -> dict[str, set[str]]:
    """Say which channels of which source are needed to find clocks."""
    out: dict[str, set[str]] = {}
    for reading in readings:
        for _, source, spec in asked(reading):
            out.setdefault(source, set()).update({spec["channel"]} if spec.get("channel") else ())
    return out


def cell_of(reading: plan.Reading, spec: Mapping[str, Any], cells: Iterable[str]) -> str | None:
    """Say against whose electrochemistry, of the cells that have any, a source's clock is to be found; None if there is none yet."""
    wanted = [spec["cell"]] if spec.get("cell") else [c.cell for c in reading.consumers]
    there = set(cells)
    return next((cell for cell in wanted if cell in there), None)


def given(reading: plan.Reading) -> Clocks:
    """Make the clock of the numbers that stand in beamtime.yaml; None where there are none.

    Raises
    ------
    ClockError
        Numbers that make no clock.
    """
    plain = [{k: v for k, v in entry.items() if k not in (*FINDS, "suggest")} for entry in entries(reading)]
    numbers = [entry for entry in plain if set(entry) - {"segment"}]
    if not isinstance(reading.clock, list):
        return clocks_from_config(numbers[0] if numbers else None, localise=reading.zone)
    return clocks_from_config(numbers, localise=reading.zone) if numbers else None


def find(
    reading: plan.Reading,
    known: Clocks,
    segments: Iterable[int],
    cells: Iterable[str],
    seen: Callable[[str, str | None], Witness],
    echem: Callable[[str, str], xr.Dataset],
) -> tuple[dict[int, Clock], list[Estimate]]:
    """Find the clocks that a source asks for.

    Parameters
    ----------
    reading
        The source.
    known
        Clocks made of its numbers (`given`), anchored: where to look, and what is used where an estimate does not tell.
    segments
        Segments of the source's own frames.
    cells
        Those that have electrochemistry.
    seen
        Gives what a source (name, channel) recorded.
    echem
        Gives a series of a cell (name of the cell, `echem` or another series) on its timeline.

    Raises
    ------
    ClockError
        What the clock is to be found with is not there.

    Returns
    -------
    tuple
        The clock of each segment, without those of which nothing is known; and all estimates, the refused ones, too.
    """
    numbers = sorted({int(k) for k in segments})
    clocks: dict[int, Clock] = dict.fromkeys(numbers, known) if isinstance(known, Clock) else dict(known or {})  # type: ignore[arg-type]
    estimates: list[Estimate] = []
    for entry in entries(reading):
        kind = next((k for k in FINDS if k in entry), None)
        if kind is None:
            continue
        cell = cell_of(reading, entry[kind], cells)
        if cell is None:
            raise ClockError(
                "there is no electrochemistry yet to find the clock against",
                file=f"source {reading.source}",
                hint="it is found when that is there; give cell: if it is another cell's",
            )
        spec = {**entry[kind], "cell": cell}
        source = spec.get("from_") or reading.source
        what = seen(source, spec.get("channel"))
        theirs = np.unique(what.segment)
        if source != reading.source and theirs.size != len(numbers):
            raise ClockError(
                f"{reading.source} and {source} cannot have one clock: it was set back at different times",
                file=f"source {reading.source}, clock",
                found=f"{len(numbers)} segments of {reading.source}, {theirs.size} of {source}",
                hint="find the clock from what this source recorded itself, or give it for each segment",
            )
        for number, other in zip(numbers, theirs, strict=True):
            if entry.get("segment", number) != number:
                continue
            prior = clocks.get(number)
            try:
                found = _one(kind, spec, prior, what, what.segment == other, echem)
            except (ArithmeticError, IndexError, ValueError, np.linalg.LinAlgError) as error:  # whatever it is, other sources have theirs
                raise ClockError(
                    f"the clock could not be found: {type(error).__name__}: {error}",
                    file=f"source {reading.source}, clock",
                    hint="give it as numbers (offset:, uncertainty:), and report what was recorded",
                ) from error
            estimates.append(Estimate(number if len(numbers) > 1 else None, found, applied=found.status == "ok", to_write=written(found)))
            if found.status == "ok":
                clocks[number] = found
    return clocks, estimates


def no_series(cell: str, name: str) -> ClockError:
    """Say that there is nothing by that name to find a clock against."""
    return ClockError(
        f"there is no series {name!r} to find a clock against",
        file=f"cell {cell}",
        expected="current_steps, or a series whose own clock is not to be found",
    )


def _one(kind: str, spec: Mapping[str, Any], prior: Clock | None, what: Witness, here: np.ndarray, echem: Callable[[str, str], xr.Dataset]) -> Clock:
    """Find the clock of one segment."""
    search = spec.get("search") or (5 * prior.uncertainty if prior is not None and prior.uncertainty else None)
    options: dict[str, Any] = {"search": search} if search else {}
    times = what.time[here]
    if prior is not None and times.size:
        since = 0.0 if prior.at is None else float((times[0] - prior.at) / np.timedelta64(1, "ns")) * 1e-9
        options["offset"] = prior.offset + prior.drift * since  # an estimate counts from the first stamp
    if kind == "events":
        moments, early = _of_the_cycler(spec, echem)
        return clock_from_events(moments, _events(spec, what, here), early=early, **options)
    records = echem(spec["cell"], "echem")
    if spec["echem"] not in records.variables:
        raise ClockError(f"the electrochemistry has no {spec['echem']} to find a clock with", file=f"cell {spec['cell']}")
    track = track_of(records)  # techniques that take turns lie in files of their own
    assert what.values is not None
    return clock_from_shared_signal(
        track.times.view("datetime64[ns]"),
        track.take(np.asarray(records[spec["echem"]].values, float)),
        times,
        what.values[here],
        steps=track.steps,
        **options,
    )


def _events(spec: Mapping[str, Any], what: Witness, here: np.ndarray) -> np.ndarray:
    """Give the moments a source recorded: the beginnings of its frames, or where its channel crosses the threshold."""
    if what.values is None:
        return what.time[here] - np.round(what.exposure[here] * 5e8).astype("timedelta64[ns]")
    values, times = what.values[here], what.time[here]
    known = np.isfinite(values)
    values, times = values[known], times[known]
    if not values.size:
        return times
    level = spec.get("threshold")
    above = values > ((values.min() + values.max()) / 2 if level is None else level)
    crossed = np.diff(above.astype(np.int8))
    wanted = {"rise": crossed > 0, "fall": crossed < 0, "both": crossed != 0}[spec.get("edge", "both")]
    at = np.flatnonzero(wanted)
    return times[at] + (times[at + 1] - times[at]) // 2  # it happened between two samples


def _of_the_cycler(spec: Mapping[str, Any], echem: Callable[[str, str], xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Give the moments by the electrochemistry's clock, and by how much earlier each may have happened (s)."""
    if spec["echem"] != "current_steps":
        other = echem(spec["cell"], spec["echem"])
        begins = np.asarray(other["time"].values - np.round(np.nan_to_num(other["exposure"].values) * 5e8).astype("timedelta64[ns]"))
        if "point_time" not in other.variables:
            return begins, np.zeros(begins.size)
        took = np.nan_to_num(np.asarray(other["point_time"].values, float)[:, 0])  # a sweep shows by its first point, when that is done
        return begins + np.round(took * 1e9).astype("timedelta64[ns]"), 2 * took
    records = echem(spec["cell"], "echem")
    track = track_of(records)
    steps = track.steps[track.steps > 0]
    return track.times[steps].view("datetime64[ns]"), (track.times[steps] - track.times[steps - 1]) * 1e-9


def written(clock: Clock) -> str:
    """Write a clock as it would stand in beamtime.yaml below `clock:`, a key a line; empty for one that supports no correction."""
    if clock.status != "ok":
        return ""
    lines = [f"offset: {clock.offset:.3f} s", f"uncertainty: {max(clock.uncertainty, 1e-3):.2g} s"]
    if clock.drift:
        lines += [f"drift: {clock.drift * 1e6:.2f} ppm", f"drift_uncertainty: {max(clock.drift_uncertainty * 1e6, 0.01):.2g} ppm"]
    if clock.drift and clock.at is not None:
        lines.append(f"at: '{str(clock.at)[:23]}Z'")
    return "\n".join([*lines, *(["method: physics"] if clock.method == "physics" else [])])
