"""What is true of a simulated beamtime: the content of truth.json, with the rules by which it is to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from operando.simulate.cell import PULSE, UNITS, Design
from operando.simulate.instruments import History, SourceClock, Told

RULES = {
    "clocks": "true = stamp + offset_s + drift (stamp - at_s), in seconds since `zero`, stamp by the source's own clock; restarts_s: [true time "
    "since `zero`, seconds that must be added besides from then on]",
    "cells": "all times of a cell are true seconds since its `start`",
    "series": "frame k lies in files[file[k]] at index[k]; observables are means over its exposure",
    "inside": "the whole exposure lies inside the electrochemistry; voltage_V, charge_C and soc are null where it does not",
    "counting": "cycle counts from 1, half_cycle from 0, even ones are charges",
    "states": "linear between the rows; current and voltage jump at steps",
    "links": "complete: what is not named shares at most the cycling, time, or a cause that is named",
}
STATES_EVERY = 120.0  # s
STATES_MOST = 2000  # rows


def of_cell(history: History, design: Design, dump: tuple[float, float], series: dict[str, Told]) -> dict[str, Any]:
    """Put together what is true of one cell and of every series measured on it.

    Parameters
    ----------
    history, design
        What the cell did, and what it is made of.
    dump
        The beam dump, in s since the cell's start.
    series
        Instrument -> what it told.
    """
    end = float(history.time[-1])
    grid = np.arange(0.0, end, max(STATES_EVERY, end / STATES_MOST))
    at = design.temperature_step_at
    step = {
        "at_s": design.temperature_step_at,
        "K": design.temperature_step,
        "rule": "half of it at at_s; 76 % of it between at_s - 120 s and + 120 s",
    }
    return {
        "start": str(history.start) + "Z",
        "end_s": end,
        "design": dict(design.__dict__),
        "dump_s": list(dump),
        "temperature_step": step if at < end - 3000 else None,
        "onsets": _onsets(history),
        "pulses": _pulses(history),
        "states": {"unit": UNITS, "time_s": grid, **{name: history.at(name, grid) for name in history.states if name != "step"}},
        "series": {name: _series(history, one) for name, one in series.items()},
    }


def of_clock(clock: SourceClock, end: float) -> dict[str, Any]:
    """Give how a source's clock is wrong, with the restarts that fall before `end` (s since zero)."""
    restarts = [list(r) for r in clock.restarts if r[0] < end]
    return {"offset_s": clock.offset, "drift": clock.drift, "at_s": clock.at, "zone": clock.zone, "restarts_s": restarts}


def _series(history: History, told: Told) -> dict[str, Any]:
    """Put together when every frame was, what the cell did meanwhile, and what a reducer should find."""
    if len(told.begin) > 500 and not np.any(told.exposure):  # a log: it follows the states, and how noisily stands in the facts
        return {"facts": told.facts}
    files = list(dict.fromkeys(told.files))
    exposure = np.broadcast_to(told.exposure, told.begin.shape)
    inside = (told.begin >= 0) & (told.begin + exposure <= history.time[-1])
    cell = {
        f"{name}{unit}": np.where(inside, history.mean(name, told.begin, exposure), np.nan)
        for name, unit in (("voltage", "_V"), ("charge", "_C"), ("soc", ""))
    }
    return {
        "facts": told.facts,
        "files": files,
        "file": [files.index(f) for f in told.files],
        "index": told.index,
        "begin_s": np.round(told.begin, 4),
        "exposure_s": np.round(exposure, 4),
        "inside": inside,
        **cell,
        "observables": told.observables,
    }


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
            charge, volts = (float(history.at(name, t)) for name in ("charge", "voltage"))
            out.append({"half_cycle": int(half), "progress": level, "time_s": t, "charge_C": charge, "voltage_V": volts})
    return out


def _pulses(history: History) -> list[dict[str, float]]:
    """Give every pulse of the GITT stretch: begin and end, and the voltage before, at its end and relaxed."""
    on = history.states["step"] == PULSE
    edge = np.diff(np.concatenate([[0], on.astype(int), [0]]))
    begins, ends = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1
    volts, time = history.states["voltage"], history.time
    resting = history.states["current"] == 0
    out = []
    for a, b in zip(begins, ends, strict=True):
        later = np.flatnonzero(~resting[b + 1 :])
        relaxed = b + int(later[0]) if later.size else time.size - 1
        out.append(
            {
                "begin_s": time[a],
                "end_s": time[b],
                "before_V": volts[a - 1],
                "end_V": volts[b],
                "relaxed_V": volts[relaxed],
                "relaxed_s": time[relaxed],
            }
        )
    return out


def plain(value: Any) -> Any:
    """Make what JSON can hold: numbers to seven digits, arrays as lists, NaN as null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return None if value != value else float(f"{value:.9g}") if abs(value) > 1e4 else float(f"{value:.7g}")
    return str(value) if isinstance(value, Path) else value
