"""One voltage written down by a potentiostat and by a beamline's logger, of which the truth is known: for tests and the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HOUR = 3600.0


@dataclass(frozen=True)
class Scene:
    """Both records, and what turns the source's times into those of the electrochemistry: t + offset + drift (t - first)."""

    t_echem: np.ndarray
    y_echem: np.ndarray
    steps: np.ndarray
    t_source: np.ndarray
    y_source: np.ndarray
    offset: float
    drift: float

    def true(self, source: np.ndarray) -> np.ndarray:
        """The electrochemistry's time of stamps of the source."""
        return source + self.offset + self.drift * (source - self.t_source.min())


@dataclass(frozen=True)
class Cell:
    """Voltage of a cell under currents that change at once: open circuit, ohmic drop, a fast and a slow relaxation (two RC elements)."""

    begin: np.ndarray
    current: np.ndarray  # C/3 is 1
    state: np.ndarray  # at begin: state of charge, voltage of both RC elements
    ohmic: float
    rc: tuple[tuple[float, float], ...]  # ohm, s

    @classmethod
    def under(cls, rng: np.random.Generator, durations: np.ndarray, current: np.ndarray, *, ohmic: float | None = None) -> Cell:
        """Draw a cell and put it through a schedule."""
        rc = ((rng.uniform(0.008, 0.02), rng.uniform(5, 25)), (rng.uniform(0.015, 0.04), rng.uniform(200, 900)))
        state = np.zeros((current.size, 3))
        state[0, 0] = 0.05
        for k in range(current.size - 1):
            state[k + 1, 0] = state[k, 0] + current[k] * durations[k] / (3 * HOUR)
            for j, (r, tau) in enumerate(rc):
                state[k + 1, j + 1] = r * current[k] + (state[k, j + 1] - r * current[k]) * np.exp(-durations[k] / tau)
        begin = np.concatenate([[0.0], np.cumsum(durations)[:-1]])
        return cls(begin, current, state, rng.uniform(0.015, 0.045) if ohmic is None else ohmic, rc)

    def voltage(self, t: np.ndarray) -> np.ndarray:
        """Voltage at any moment, V; before the schedule begins it is that of the beginning."""
        t = np.maximum(t, 0.0)
        k = np.searchsorted(self.begin, t, side="right") - 1
        since, i = t - self.begin[k], self.current[k]
        q = self.state[k, 0] + i * since / (3 * HOUR)
        v = 3.55 + 0.55 * q + 0.04 * np.sin(9 * q) + 0.03 * np.tanh((q - 0.6) / 0.05) + self.ohmic * i
        for j, (r, tau) in enumerate(self.rc):
            v = v + r * i + (self.state[k, j + 1] - r * i) * np.exp(-since / tau)
        return v


def schedule(rng: np.random.Generator, hours: float, *, repeat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rests, charges and discharges, every other one of them in pulses; `repeat`: the same cycle again and again. Durations in s, currents."""
    durations, currents = [rng.uniform(600, 2400)], [0.0]
    first: tuple[list[float], list[float]] | None = None
    while sum(durations) < (hours + 4) * HOUR:
        d: list[float] = []
        c: list[float] = []
        for sign in (1.0, -1.0):
            if rng.random() < 0.5:
                for _ in range(8):
                    d += [rng.uniform(500, 1000), rng.uniform(600, 1500)]
                    c += [sign, 0.0]
            else:
                d += [rng.uniform(1.3, 2.2) * HOUR, rng.uniform(900, 2400)]
                c += [sign * rng.uniform(0.6, 1.2), 0.0]
        first = first or (d, c)
        d, c = first if repeat else (d, c)
        durations, currents = durations + d, currents + c
    return np.array(durations), np.array(currents)


def record(signal: np.ndarray, every: float, change: float, limit: float) -> np.ndarray:
    """Places a recorder keeps of what it samples `every` s: a change by `change` since the last kept, or `limit` s, whichever comes first."""
    ahead = max(round(limit / every), 1)
    kept, k = [0], 0
    while k < signal.size - 1:
        window = np.abs(signal[k + 1 : k + 1 + ahead] - signal[k]) >= change
        first = int(np.argmax(window)) if window.any() else ahead - 1
        k = min(k + 1 + first, signal.size - 1)
        kept.append(k)
    return np.array(kept)


def seen_by_source(
    rng: np.random.Generator, t: np.ndarray, *, offset: float | None = None, drift: float | None = None
) -> tuple[np.ndarray, float, float]:
    """Give moments the stamps of a clock that is off by up to +-30 min and +-50 ppm."""
    offset = rng.uniform(-1800, 1800) if offset is None else offset
    drift = rng.uniform(-50e-6, 50e-6) if drift is None else drift
    first = t[0] - offset
    return first + (t - offset - first) / (1 + drift), offset, drift


def scene(
    seed: int,
    *,
    hours: float = 20.0,
    period: float | None = None,
    noise: float = 1e-3,
    change: float = 5e-3,
    limit: float = 30.0,
    averaging: float = 0.0,
    wander: float = 0.0,
    own_noise: float = 5e-5,
    repeat: bool = False,
    steps: tuple[np.ndarray, np.ndarray] | None = None,
    span: tuple[float, float] | None = None,
    epoch: float = 0.0,
) -> Scene:
    """Draw a scene.

    `period` of the source's samples (s; default 5 to 10), each a mean over the last `averaging` s around its stamp; `noise` and
    slow `wander` of its zero (V), gain off by 0.5 %. The potentiostat samples every 0.1 s and keeps records on `change` (V) or
    `limit` (s), with noise of its own. `steps`: durations and currents; `span`: first and last moment seen by the source, s.
    """
    rng = np.random.default_rng(seed)
    durations, currents = schedule(rng, hours, repeat=repeat) if steps is None else steps
    cell = Cell.under(rng, durations, currents)
    every = 0.1
    t = rng.uniform(0, every) + every * np.arange(round(hours * HOUR / every))
    v = cell.voltage(t) + own_noise * rng.standard_normal(t.size)
    kept = record(v, every, change, limit)
    t_echem, y_echem = t[kept], v[kept]
    inside = cell.begin[(cell.begin > t_echem[0]) & (cell.begin < t_echem[-1])]

    period = rng.uniform(5, 10) if period is None else period
    a, b = (-600.0, hours * HOUR - rng.uniform(0, 1200)) if span is None else span
    s = a + period * np.arange(int((b - a) / period))
    s = s + 0.02 * period * rng.uniform(-1, 1, s.size)
    if averaging:
        y = np.mean([cell.voltage(s + averaging * f) for f in (np.arange(20) + 0.5) / 20 - 0.5], axis=0)
    else:
        y = cell.voltage(s)
    y = rng.uniform(-0.005, 0.005) + (1 + rng.choice([-1, 1]) * 0.005) * y + noise * rng.standard_normal(s.size)
    y = y + wander * np.sin(2 * np.pi * s / (11 * HOUR) + rng.uniform(0, 6))
    t_source, offset, drift = seen_by_source(rng, s)
    return Scene(t_echem + epoch, y_echem, np.searchsorted(t_echem, inside), t_source + epoch, y, offset, drift)


def shutter(seed: int, *, hours: float = 6.0, regular: float | None = None, rate: float | None = None, period: float = 2.0) -> Scene:
    """Draw a shutter that opens at random moments, on an analog input of the potentiostat: kept on change or 30 s, or every `rate` s."""
    rng = np.random.default_rng(seed)
    turns = np.cumsum(rng.uniform(20, 400, 2000)) if regular is None else regular * np.arange(1, 20_000)
    turns = turns[turns < hours * HOUR + 3000]
    t = 0.1 * np.arange(round(hours * HOUR / 0.1))
    y = (np.searchsorted(turns, t, side="right") % 2).astype(float)
    kept = record(y, 0.1, 0.5, 30.0) if rate is None else np.arange(0, t.size, round(rate / 0.1))
    s = np.arange(100.0, hours * HOUR - 100.0, period) + 0.02 * rng.uniform(-1, 1)
    seen = 0.1 + 4.9 * (np.searchsorted(turns, s, side="right") % 2) + 0.05 * rng.standard_normal(s.size)
    t_source, offset, drift = seen_by_source(rng, s)
    return Scene(t[kept], y[kept], np.empty(0, np.int64), t_source, seen, offset, drift)
