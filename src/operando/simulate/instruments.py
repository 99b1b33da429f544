"""What every simulated instrument shares: its clock, the beam, the cell's history, and when it measures.

Times without a unit in their name are true seconds since the cell's `start`: they belong to the potentiostat, which rules. What an
instrument writes down is that time seen by its own clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np


@dataclass(frozen=True)
class History:
    """The states of one cell on a fine time grid.

    Attributes
    ----------
    start
        UTC instant of time zero, `datetime64[ms]`.
    time
        Strictly increasing seconds since `start`.
    states
        Name -> values on `time`; units stand in `operando.simulate.cell.UNITS`.
    """

    start: np.datetime64
    time: np.ndarray
    states: dict[str, np.ndarray]

    def at(self, name: str, t: Any) -> np.ndarray:
        """Give a state at true times (s), linear between grid points."""
        return np.interp(np.asarray(t, float), self.time, self.states[name])

    def mean(self, name: str, begin: Any, exposure: Any) -> np.ndarray:
        """Give the mean of a state over exposures that begin at `begin` (s) and last `exposure` (s)."""
        values = self.states[name]
        running = np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(self.time))])

        def integral(t: np.ndarray) -> np.ndarray:
            t = np.clip(t, self.time[0], self.time[-1])
            k = np.clip(np.searchsorted(self.time, t, side="right") - 1, 0, self.time.size - 2)
            ahead = t - self.time[k]
            slope = (values[k + 1] - values[k]) / (self.time[k + 1] - self.time[k])
            return running[k] + values[k] * ahead + 0.5 * slope * ahead**2

        begin = np.asarray(begin, float)
        end = begin + exposure
        inside = np.clip(end, self.time[0], self.time[-1]) - np.clip(begin, self.time[0], self.time[-1])
        middle = self.at(name, begin + np.asarray(exposure) / 2)
        return np.where(inside > 0, (integral(end) - integral(begin)) / np.where(inside > 0, inside, 1.0), middle)


@dataclass(frozen=True)
class SourceClock:
    """The clock of an instrument's computer and how it is wrong: t = t_source + offset + drift (t_source - at).

    Attributes
    ----------
    offset
        Seconds that must be ADDED to its stamps to give the true time, at the source's own time `at`.
    drift
        Seconds per second by which that grows.
    at
        The source's own time (s since the cell's start, by this clock) at which `offset` holds.
    zone
        IANA name of the zone its computer shows.
    restarts
        (true time, further seconds that must be added from then on): the clock was set anew; negative means that it was put FORWARD.
    """

    offset: float = 0.0
    drift: float = 0.0
    at: float = 0.0
    zone: str = "UTC"
    restarts: Sequence[tuple[float, float]] = ()

    def stamp(self, t: Any) -> np.ndarray:
        """Give the time this clock shows, in s since the cell's start, at true times (s)."""
        t = np.asarray(t, float)
        further = sum((np.where(t >= when, more, 0.0) for when, more in self.restarts), np.zeros(t.shape))
        return (t - self.offset - further + self.drift * self.at) / (1.0 + self.drift)

    def utc(self, start: np.datetime64, t: Any) -> np.ndarray:
        """Give the stamps as UTC `datetime64[ms]`."""
        return start.astype("datetime64[ms]") + np.round(self.stamp(t) * 1000).astype("timedelta64[ms]")

    def wall(self, start: np.datetime64, t: Any) -> np.ndarray:
        """Give the stamps as the computer's wall clock shows them in its zone, `datetime64[ms]` without a zone."""
        utc = np.atleast_1d(self.utc(start, t))
        zone = ZoneInfo(self.zone)
        shifts = [one.astype("datetime64[ms]").item().replace(tzinfo=ZoneInfo("UTC")).astimezone(zone).utcoffset() for one in utc]
        return (utc + np.array([round((s.total_seconds() if s else 0.0) * 1000) for s in shifts], "timedelta64[ms]")).reshape(np.shape(t))


@dataclass(frozen=True)
class Beam:
    """The X-ray beam: a ring current that decays between top-ups, and dumps during which nothing arrives.

    Attributes
    ----------
    dumps
        (begin, end) in true s; no photons in between, the detectors go on counting their dark signal.
    """

    dumps: Sequence[tuple[float, float]] = ()

    def intensity(self, begin: Any, exposure: float) -> np.ndarray:
        """Give the mean beam intensity over exposures, 1 = nominal: 1 % saw-tooth of the top-up every 300 s, 0 in a dump."""
        begin = np.asarray(begin, float)
        steps = begin[..., None] + (np.arange(20) + 0.5) / 20 * exposure
        beam = 1.0 - 0.01 * (steps % 300.0) / 300.0
        for a, b in self.dumps:
            beam = np.where((steps >= a) & (steps < b), 0.0, beam)
        return beam.mean(-1)


@dataclass(frozen=True)
class Campaign:
    """One instrument on one cell: what it is handed to write its files.

    Attributes
    ----------
    folder
        Where its files go (the instrument's own folder, there already).
    cell
        Name of the cell, in file names and titles.
    history
        What the cell does.
    clock
        The clock that stamps the files.
    beam
        The X-ray beam.
    rng
        This instrument's own stream of chance; nothing else may be random.
    begin
        True start of each exposure, s, increasing.
    exposure
        Length of each exposure, s.
    options
        What only this instrument knows (detector, frames per file, files to spoil), documented where it is used.
    """

    folder: Path
    cell: str
    history: History
    clock: SourceClock
    beam: Beam
    rng: np.random.Generator
    begin: np.ndarray
    exposure: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Told:
    """The truth an instrument leaves behind for truth.json.

    Attributes
    ----------
    files, index
        File (relative to the instrument's folder) and place in it of every frame that was written whole.
    begin, exposure
        True start and length of these frames, s.
    observables
        Name -> {"unit": ..., "values": [per frame, or per frame and label], optional "dim" and "labels"}.
    facts
        Constants and traps: which file is spoilt, which clock was restarted, coefficients.
    """

    files: list[str]
    index: list[int]
    begin: np.ndarray
    exposure: float | np.ndarray
    observables: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def wander(rng: np.random.Generator, n: int, keep: float) -> np.ndarray:
    """Give a stationary first-order random sequence of unit variance and correlation `keep` from one to the next."""
    out = rng.standard_normal(n)
    for k in range(1, n):
        out[k] = keep * out[k - 1] + math.sqrt(1.0 - keep**2) * out[k]
    return out
