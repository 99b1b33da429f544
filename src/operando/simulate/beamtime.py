"""A whole simulated beamtime in a folder: every instrument on one cell, or on several, each with its own wrong clock, and the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from operando.simulate import configuration, truth
from operando.simulate.cell import LINKS, Design, simulate_cell
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

START = np.datetime64("2026-06-03T08:00:00", "ms")
"""UTC instant at which the potentiostat of the first cell starts: ten in the morning in Paris."""


@dataclass(frozen=True)
class Instrument:
    """When an instrument of the example measures, and by which clock.

    Attributes
    ----------
    folder
        Where its files go, below the beamtime's folder.
    every, exposure
        Seconds between begins, and length of an exposure.
    first
        Begin of the first exposure, s after the potentiostat's start; negative: before it.
    gap
        (begin, end) in s during which it did not measure.
    clock
        How its clock is wrong.
    options
        Its own options, documented in its module.
    """

    folder: str
    every: float
    exposure: float
    first: float
    clock: SourceClock
    gap: tuple[float, float] | None = None
    options: dict[str, Any] = field(default_factory=dict)


BETWEEN_CELLS = 1200.0  # s
DUMP = (40_000.0, 43_000.0)
XAS_RESTART = 50_000.0
CONTROL = SourceClock(offset=-37.4, drift=1.1e-5)
"""Clock of the beamline's control computer: it stamps the detector and the beamline's log."""

INSTRUMENTS: dict[str, Instrument] = {
    "echem": Instrument("echem", 0.0, 0.0, 0.0, SourceClock(zone="Europe/Paris"), options={"acquisitions": [55_000.0]}),
    "xrd": Instrument("xrd", 480.0, 30.0, -840.0, CONTROL, gap=(33_000.0, 36_000.0), options={"half_written": True, "frames_per_file": 16}),
    "total": Instrument("total", 1200.0, 60.0, 150.0, SourceClock(offset=-3.1)),
    "xas": Instrument(
        "xas",
        720.0,
        90.0,
        90.0,
        SourceClock(12.3, zone="Europe/Paris", restarts=((XAS_RESTART, 1500.0),)),
        options={"corrupt": 37, "half_written": True},
    ),
    "raman": Instrument("raman", 720.0, 20.0, 240.0, SourceClock(95.2, -2.0e-5, zone="Europe/Paris")),
    "ir": Instrument("ir", 1200.0, 40.0, 420.0, SourceClock(-8.7, zone="Etc/GMT-1"), options={"reference_at": -3180.0}),
    "imaging": Instrument("imaging", 1200.0, 1.0, 600.0, SourceClock(2.5)),
    "holder": Instrument("logs", 0.0, 0.0, 0.0, SourceClock(0.4, zone="Europe/Paris")),
    "beamline": Instrument("logs", 0.0, 0.0, 0.0, CONTROL),
    "triggers": Instrument("logs", 0.0, 0.0, 0.0, CONTROL),
}
"""The instruments of the example, in the order in which they are written."""

UNFINISHED = "unfinished.json"
"""Lies in the folder while files are written."""


def simulate(
    folder: str | Path,
    *,
    seed: int = 20260603,
    cycles: int = 3,
    hours: float | None = None,
    frames: int | None = None,
    detector: str | None = None,
    cells: int = 1,
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Simulate a beamtime and write it: raw files in the instruments' own formats, `beamtime.yaml` and `truth.json`.

    Everything follows from the seed; each instrument of each cell has a stream of chance of its own, so leaving one out (electrochemistry that is
    delivered late) and adding it in a second call gives the same files as one call. Frames are made and written one by one: memory
    does not grow with their number.

    Parameters
    ----------
    folder
        Where to write: new, empty, or of the same simulation, interrupted or in pieces; its files are then written again.
    seed
        Of all chance.
    cycles, hours
        How long the cell is cycled; `hours` goes before `cycles`, and the last cycle is finished.
    frames
        Number of diffraction frames of each cell, those of the file that is never finished included; the other instruments keep their cadence.
        Default: one every eight minutes.
    detector
        "pilatus100k" (default) or "eiger4m".
    cells
        How many cells, named A, B, C ...; each starts 20 min after the one before, all before the same instruments, which take them in turn.
    only, without
        Names of instruments (`INSTRUMENTS`) to write, or to leave out.
    progress
        Called with a line of text as each instrument begins.

    Returns
    -------
    pathlib.Path
        `folder/beamtime.yaml`.

    Raises
    ------
    ValueError
        An instrument of that name does not exist, a number makes no sense, the frames do not fit into the time, or the folder holds
        another simulation.
    ImportError
        A library of the extra `[simulate]` is missing; the message names it.
    """
    chosen = _chosen(only, without)
    if not 1 <= cells <= 26 or cycles < 1 or seed < 0 or (frames is not None and frames < 1) or (hours is not None and not 1 <= hours < 1e5):
        said = {"cells": cells, "cycles": cycles, "hours": hours, "frames": frames, "seed": seed}
        asked = ", ".join(f"{key} {value}" for key, value in said.items() if value is not None)
        raise ValueError(f"{asked}: cannot be simulated; numbers must be positive, 26 cells and 100 000 h at most, at least one hour")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder, new or of the same simulation")
    names = [chr(ord("A") + k) for k in range(cells)]
    run = {"seed": seed, "cycles": cycles, "hours": hours, "frames": frames, "detector": detector, "cells": names}
    earlier = _earlier(folder, run)
    stories = {name: _story(name, k, seed, cycles, hours) for k, name in enumerate(names)}
    plans = {
        name: {one: _plan(stories[name], INSTRUMENTS[one], k, cells, frames if one == "xrd" else None) for one in chosen}
        for k, name in enumerate(names)
    }
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / UNFINISHED  # says whose files lie here if this is interrupted
    unfinished.write_text(json.dumps({"run": run}), encoding="ascii")
    told: dict[str, Any] = {}
    for name, (history, design, shift) in stories.items():
        series: dict[str, Told] = {}
        for one in chosen:
            if progress:
                progress(f"{name}: {one}")
            series[one] = _measure(folder, name, history, one, design, shift, plans[name][one], seed, detector)
        told[name] = truth.of_cell(history, design, _shifted(DUMP, shift), series)
        before = earlier.get(name, {}).get("series", {})
        told[name]["series"] = {k: told[name]["series"].get(k, before.get(k)) for k in INSTRUMENTS if k in series or k in before}
    end = max(float(history.time[-1]) + shift for history, _, shift in stories.values())
    content = {
        "run": run,
        "zero": str(START) + "Z",
        "rules": truth.RULES,
        "links": list(LINKS),
        "clocks": {name: truth.of_clock(one.clock, end) for name, one in INSTRUMENTS.items()},
        "cells": told,
    }
    (folder / "truth.json").write_text(json.dumps(truth.plain(content), separators=(",", ":")) + "\n", encoding="ascii")
    path = folder / "beamtime.yaml"
    there = {name: list(cell["series"]) for name, cell in told.items()}
    path.write_text(configuration.text(there, restarted=XAS_RESTART < end - 3000), encoding="utf-8")
    unfinished.unlink()
    return path


def _earlier(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Give what an earlier call of the same simulation told: `only` and `without` write a beamtime in pieces."""
    path = folder / "truth.json"
    if not path.exists():
        path = folder / UNFINISHED
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds files that are of no simulation; give a new or empty folder")
        return {}
    try:
        content = json.loads(path.read_text(encoding="ascii"))
        before, cells = dict(content["run"]), dict(content.get("cells", {}))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not the truth of a simulation; give a new folder") from None
    if before != run:
        other = ", ".join(f"{key} {before.get(key)} (now {value})" for key, value in run.items() if before.get(key) != value)
        raise ValueError(f"{folder} holds another simulation: {other}. Give a new folder, or remove this one: files of both would be mixed")
    return cells


def _chosen(only: Iterable[str] | None, without: Iterable[str]) -> list[str]:
    wanted, left = (set(only) if only is not None else set(INSTRUMENTS)), set(without)
    unknown = sorted((wanted | left) - set(INSTRUMENTS))
    if unknown:
        raise ValueError(f"no instrument {', '.join(map(repr, unknown))}; there are {', '.join(INSTRUMENTS)}")
    if not wanted - left:
        raise ValueError("no instrument is left to be written")
    return [name for name in INSTRUMENTS if name in wanted - left]


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Give the stream of chance that belongs to these names."""
    return np.random.default_rng([seed, *(int.from_bytes(n.encode(), "little") for n in names)])


def _story(name: str, number: int, seed: int, cycles: int, hours: float | None) -> tuple[History, Design, float]:
    """Give what a cell does, what it is made of, and by how many seconds after zero it starts."""
    shift = BETWEEN_CELLS * number
    design = Design()
    design = replace(design, temperature_step_at=design.temperature_step_at - shift)  # all cells sit in one holder
    start = START + np.timedelta64(round(shift), "s")
    return simulate_cell(start, _stream(seed, name, "cell"), cycles=cycles, hours=hours, design=design), design, shift


def _shifted(span: tuple[float, float], shift: float) -> tuple[float, float]:
    return span[0] - shift, span[1] - shift


def _plan(story: tuple[History, Design, float], one: Instrument, number: int, cells: int, frames: int | None) -> tuple[np.ndarray, float]:
    """Give when an instrument begins its exposures of a cell (s since the cell's start), and how much each may come late (s).

    The cells take turns: the instrument goes round all of them once per `every`.
    """
    history, _, shift = story
    if not one.every:
        return np.array([]), 0.0
    last = float(history.time[-1]) - 60.0 - one.exposure
    gap = _shifted(one.gap, shift) if one.gap else (np.inf, np.inf)
    if frames is None:
        first = one.first + one.every * number / cells - shift
        first += one.every * np.ceil((one.first - first) / one.every)
        begin, every = np.arange(first, last, one.every), one.every
        begin = begin[(begin + one.exposure + 20.0 < gap[0]) | (begin > gap[1])]
    else:
        left = gap[0] - one.exposure - 20.0
        pause = gap[1] - left if gap[0] < last else 0.0
        every = (last - one.first - pause) / frames
        if every / cells < one.exposure + 0.1:
            hours = (frames * cells * (one.exposure + 0.1) + pause) / 3600 + 1
            raise ValueError(
                f"{frames} frames of {one.exposure:g} s do not fit into {last / 3600:.1f} h; they would into --hours {np.ceil(hours):.0f}"
            )
        begin = one.first + every * (np.arange(frames) + number / cells)
        begin = np.where(begin >= left, begin + pause, begin) if pause else begin
    return begin, min(20.0, 0.5 * (every / cells - one.exposure))


def _measure(
    folder: Path,
    cell: str,
    history: History,
    name: str,
    design: Design,
    shift: float,
    plan: tuple[np.ndarray, float],
    seed: int,
    detector: str | None,
) -> Told:
    one = INSTRUMENTS[name]
    place = folder / one.folder
    place.mkdir(exist_ok=True)
    rng = _stream(seed, cell, name)
    options = {**one.options, "design": design}
    begin, late = plan
    begin = begin + rng.uniform(0.0, late, begin.size)
    if name == "echem":
        options["acquisitions"] = [a for a in options["acquisitions"] if a < history.time[-1]]
    if name == "xrd":
        options["detector"] = detector or "pilatus100k"
        options["detector_rng"] = _stream(seed, "detector")  # its dead and hot pixels are the same whatever cell is in front of it
        options["half_written"] = begin.size > options["frames_per_file"]  # of a single file something is to remain
    restarts = tuple((when - shift, more) for when, more in one.clock.restarts)
    clock = replace(one.clock, at=one.clock.at - shift, restarts=restarts)
    return _writer(name)(Campaign(place, cell, history, clock, Beam([_shifted(DUMP, shift)]), rng, begin, one.exposure, options))


_WRITERS = {
    "echem": ("biologic", "write"),
    "xrd": ("diffraction", "write"),
    "total": ("scattering", "write"),
    "xas": ("absorption", "write"),
    "raman": ("raman", "write"),
    "ir": ("infrared", "write"),
    "imaging": ("imaging", "write"),
    "holder": ("sensors", "write_temperature"),
    "beamline": ("sensors", "write_beamline_log"),
    "triggers": ("sensors", "write_triggers"),
}


def _writer(name: str) -> Callable[[Campaign], Told]:
    """Give the function that writes this instrument's files; its libraries are imported now and not before."""
    module, function = _WRITERS[name]
    return cast("Callable[[Campaign], Told]", getattr(import_module(f"operando.simulate.{module}"), function))
