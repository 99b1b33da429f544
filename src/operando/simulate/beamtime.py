"""A whole simulated beamtime in a folder: every instrument on one cell, or on several, each with its own wrong clock, and the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from operando.simulate import configuration
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
    "ir": Instrument("ir", 1200.0, 40.0, 420.0, SourceClock(-8.7, zone="Etc/GMT-1")),
    "imaging": Instrument("imaging", 1200.0, 1.0, 600.0, SourceClock(2.5)),
    "holder": Instrument("logs", 0.0, 0.0, 0.0, SourceClock(0.4, zone="Europe/Paris")),
    "beamline": Instrument("logs", 0.0, 0.0, 0.0, CONTROL),
    "triggers": Instrument("logs", 0.0, 0.0, 0.0, CONTROL),
}
"""The instruments of the example, in the order in which they are written."""


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
        Where to write; made if it is not there. Files of the same names are overwritten.
    seed
        Of all chance.
    cycles, hours
        How long the cell is cycled; `hours` goes before `cycles`.
    frames
        Number of diffraction frames; the others keep their cadence. Default: one every eight minutes.
    detector
        "pilatus100k" (default) or "eiger4m".
    cells
        How many cells, named A, B, C ...; each starts 20 min after the one before, all beside each other in one folder.
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
        An instrument of that name does not exist, or a number makes no sense.
    ImportError
        A library of the extra `[simulate]` is missing; the message names it.
    """
    chosen = _chosen(only, without)
    if not 1 <= cells <= 26 or cycles < 1 or (frames is not None and frames < 1) or (hours is not None and not hours > 0):
        raise ValueError(
            f"a beamtime of {cells} cells, {cycles} cycles, {hours} h, {frames} frames cannot be simulated: positive, and 26 cells at most"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [chr(ord("A") + k) for k in range(cells)]
    told: dict[str, Any] = {}
    for k, name in enumerate(names):
        start = START + np.timedelta64(1200 * k, "s")
        design = Design()
        history = simulate_cell(start, _stream(seed, name, "cell"), cycles=cycles, hours=hours, design=design)
        series: dict[str, Told] = {}
        for instrument in chosen:
            if progress:
                progress(f"{name}: {instrument}")
            series[instrument] = _measure(folder, name, history, instrument, design, seed, frames=frames, detector=detector)
        told[name] = _truth(history, design, series)
    truth = {
        "seed": seed,
        "run": {"cycles": cycles, "hours": hours},
        "zero": str(START) + "Z",
        "links": list(LINKS),
        "clocks": {name: _clock(one.clock) for name, one in INSTRUMENTS.items()},
        "cells": told,
    }
    _keep_earlier(folder / "truth.json", truth)
    (folder / "truth.json").write_text(json.dumps(_plain(truth), separators=(",", ":")) + "\n", encoding="ascii")
    path = folder / "beamtime.yaml"
    path.write_text(configuration.text({name: list(cell["series"]) for name, cell in told.items()}, restarted=_restarted(told)), encoding="utf-8")
    return path


def _keep_earlier(path: Path, truth: dict[str, Any]) -> None:
    """Keep what an earlier call of the same simulation told of other instruments: `only` and `without` write a beamtime in pieces."""
    try:
        earlier = json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    if any(earlier.get(key) != truth[key] for key in ("seed", "run")):
        return
    for name, cell in truth["cells"].items():
        before = earlier.get("cells", {}).get(name, {}).get("series", {})
        cell["series"] = {k: cell["series"].get(k, before.get(k)) for k in INSTRUMENTS if k in cell["series"] or k in before}


def _chosen(only: Iterable[str] | None, without: Iterable[str]) -> list[str]:
    wanted, left = (set(only) if only is not None else set(INSTRUMENTS)), set(without)
    unknown = sorted((wanted | left) - set(INSTRUMENTS))
    if unknown:
        raise ValueError(f"no instrument {', '.join(unknown)}; there are {', '.join(INSTRUMENTS)}")
    return [name for name in INSTRUMENTS if name in wanted - left]


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Give the stream of chance that belongs to these names."""
    return np.random.default_rng([seed, *(int.from_bytes(n.encode(), "little") for n in names)])


def _measure(folder: Path, cell: str, history: History, name: str, design: Design, seed: int, *, frames: int | None, detector: str | None) -> Told:
    one = INSTRUMENTS[name]
    place = folder / one.folder
    place.mkdir(exist_ok=True)
    rng = _stream(seed, cell, name)
    options = {**one.options, "design": design}
    begin = np.array([])
    if one.every:
        last = history.time[-1] - 60.0 - one.exposure
        every = one.every
        if name == "xrd":
            if frames is not None:
                every = max(one.exposure + 0.1, (last - one.first) / frames)
            if detector is not None:
                options["detector"] = detector
        begin = np.arange(one.first, last, every)
        begin = begin + rng.uniform(0.0, min(20.0, 0.5 * (every - one.exposure)), begin.size)
        if one.gap:
            begin = begin[(begin + one.exposure < one.gap[0]) | (begin > one.gap[1])]
        if name == "xrd" and frames is not None:
            begin = begin[:frames]
        if name == "xrd":
            options["half_written"] = begin.size > options["frames_per_file"]  # of a single file something is to remain
    return _writer(name)(Campaign(place, cell, history, one.clock, Beam([DUMP]), rng, begin, one.exposure, options))


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


# --------------------------------------------------------------------------- what is true


def _truth(history: History, design: Design, series: dict[str, Told]) -> dict[str, Any]:
    return {
        "start": str(history.start) + "Z",
        "end_s": history.time[-1],
        "design": dict(design.__dict__),
        "dump_s": list(DUMP),
        "onsets": _onsets(history),
        "temperature_step": {"at_s": design.temperature_step_at, "K": design.temperature_step},
        "series": {name: _series(history, one, name) for name, one in series.items()},
    }


def _series(history: History, told: Told, name: str) -> dict[str, Any]:
    """Put together what is true of every frame of a series: when it was, what the cell did meanwhile, what a reducer should find."""
    out: dict[str, Any] = {"facts": told.facts}
    if name in ("holder", "beamline"):
        return out  # thousands of rows that History tells in one sentence: the raw logs follow the cell's own states
    files = list(dict.fromkeys(told.files))
    out |= {
        "files": files,
        "file": [files.index(f) for f in told.files],
        "index": told.index,
        "begin_s": np.round(told.begin, 4),
        "exposure_s": np.round(np.broadcast_to(told.exposure, told.begin.shape), 4),
        "voltage_V": history.mean("voltage", told.begin, told.exposure),
        "charge_C": history.mean("charge", told.begin, told.exposure),
        "soc": history.mean("soc", told.begin, told.exposure),
        "observables": told.observables,
    }
    out["inside"] = [bool(x) for x in (told.begin >= 0) & (told.begin + told.exposure <= history.time[-1])]
    return out


def _onsets(history: History) -> list[dict[str, Any]]:
    """Give where the H2 -> H3 transition is a tenth and half through, in every half cycle: time, charge and voltage."""
    h = history.states
    out = []
    for half in np.unique(h["half_cycle"]):
        inside = np.flatnonzero((h["half_cycle"] == half) & (h["current"] != 0))
        progress = h["h3_progress"][inside]
        if inside.size < 2 or progress.max() < 0.5 or progress.min() > 0.1:
            continue
        rising = half % 2 == 0
        order = progress if rising else progress[::-1]
        times = history.time[inside] if rising else history.time[inside][::-1]
        for level in (0.1, 0.5):
            t = float(np.interp(level, order, times))
            out.append(
                {
                    "half_cycle": int(half),
                    "progress": level,
                    "time_s": t,
                    "charge_C": float(history.at("charge", t)),
                    "voltage_V": float(history.at("voltage", t)),
                }
            )
    return out


def _clock(clock: SourceClock) -> dict[str, Any]:
    return {"offset_s": clock.offset, "drift": clock.drift, "at_s": clock.at, "zone": clock.zone, "restarts_s": [list(r) for r in clock.restarts]}


def _restarted(told: dict[str, Any]) -> bool:
    """Say whether any cell's run is long enough for the restart of the absorption computer to lie in it."""
    return any(cell["end_s"] > XAS_RESTART + 3000 for cell in told.values())


def _plain(value: Any) -> Any:
    """Make what JSON can hold: numbers to seven digits, arrays as lists, NaN as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return None if value != value else float(f"{value:.9g}") if abs(value) > 1e4 else float(f"{value:.7g}")
    return str(value) if isinstance(value, Path) else value
