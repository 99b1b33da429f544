"""A cell whose state a structural marker follows, of which the truth is known: what tests and the benchmark of clocks from physics share.

Everything is stepped second by second: the true lithiation with its side reaction, a play operator for the hysteresis, arctan steps and
a plateau for the marker, a first-order lag, the mean over each exposure, noise that hangs together over several frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from operando.contract import series
from operando.timeline import annotate, echem_timeline

START = np.datetime64("2026-06-03T08:00:00", "ns")
FINE = 2.0  # s
CAPACITY = 10.0  # C

Step = tuple[float, float]  # seconds, current as a fraction of the capacity per hour


def fast(half_cycles: int = 16, half: float = 3600.0, rest: float = 300.0, parts: int = 3) -> list[Step]:
    """Half cycles of an hour over 90 % of the capacity, each in `parts` with a short rest after each."""
    out = [(1800.0, 0.0)]
    for k in range(half_cycles):
        out += [(half / parts, 0.9 * 3600 / half * (-1) ** k), (rest, 0.0)] * parts
    return [*out, (1800.0, 0.0)]


def gitt(pulses: int = 18, pulse: float = 600.0, rest: float = 1800.0) -> list[Step]:
    """Titration up and down again: pulses of 10 min, rests of half an hour."""
    rate = 0.9 / pulses * 3600 / pulse
    return [(2400.0, 0.0)] + [s for k in range(2 * pulses) for s in ((pulse, rate if k < pulses else -rate), (rest, 0.0))]


def slow(half_cycles: int = 3, rate: float = 0.05) -> list[Step]:
    """C/20 up and down without a rest."""
    return [(0.9 * 3600 / rate, rate if k % 2 == 0 else -rate) for k in range(half_cycles)]


def edgeless(rate: float = 0.05) -> list[Step]:
    """One long charge."""
    return [(0.9 * 3600 / rate, rate)]


@dataclass(frozen=True)
class Scene:
    """Frames, electrochemistry, and the offset that is true: t_echem = t_source + offset."""

    frames: xr.DataArray
    echem: xr.Dataset
    offset: float


def _sampled(steps: list[Step]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fine times, the current (fraction per s) of the interval that begins at each, and when it is switched."""
    ends = np.cumsum([seconds for seconds, _ in steps])
    t = np.arange(0.0, ends[-1], FINE)
    rates = np.array([rate for _, rate in steps]) / 3600
    return t, rates[np.minimum(np.searchsorted(ends, t, side="right"), len(steps) - 1)], ends


def _marker(x: np.ndarray, kind: int) -> np.ndarray:
    """What is seen at each lithiation; flat over a stretch (two phases, of which the marker is that of one)."""
    if kind == 0:
        flat = np.where(x < 0.45, x, np.where(x < 0.6, 0.45, x - 0.15))
        return 0.8 * flat + 0.15 * np.arctan((flat - 0.25) / 0.08) + 0.1 * np.arctan((flat - 0.65) / 0.05)
    flat = np.clip(x, 0.0, 0.8)
    return np.sqrt(flat + 0.05) + 0.25 / (1 + np.exp(-(flat - 0.5) / 0.06))


def truth(
    steps: list[Step], *, width: float, slip: float, lag: float, loop: float, kind: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fine times, recorded charge (fraction), the marker and when the current was switched."""
    t, rate, ends = _sampled(steps)
    charge = np.concatenate([[0.0], np.cumsum(rate[:-1] * FINE)])
    lithiation = 0.03 + np.concatenate([[0.0], np.cumsum(np.where(rate > 0, 1 - slip, 1.0)[:-1] * rate[:-1] * FINE)])
    seen = np.empty_like(lithiation)
    at = lithiation[0]
    for k, x in enumerate(lithiation.tolist()):  # play: it moves only when pushed by either side
        at = min(max(at, x - width / 2), x + width / 2)
        seen[k] = at
    marker = _marker(seen, kind)
    if width and loop:  # the two branches differ by more than a shift, and meet at the ends
        marker = marker + loop * (lithiation - seen) / (width / 2) * 4 * seen * (1 - seen)
    if lag:
        share, held = 1 - np.exp(-FINE / lag), marker[0]
        for k, m in enumerate(marker.tolist()):
            held += share * (m - held)
            marker[k] = held
    return t, charge, marker, ends


def scene(
    seed: int,
    steps: list[Step],
    *,
    snr: float,
    every: float = 60.0,
    exposure: float = 30.0,
    width: float = 0.02,
    slip: float = 0.004,
    lag: float = 0.0,
    loop: float = 0.01,
    memory: float = 3.0,
    spots: int = 1,
    jump: float = 0.0,
    begin: float = 900.0,
    end: float = 900.0,
    records: float = 10.0,
    offset: float | None = None,
) -> Scene:
    """Draw a scene.

    `width` is that of the hysteresis and `slip` the share of each charge that does not reach the electrode, fractions of the capacity;
    `loop` what charge and discharge differ by beyond that, in units of the marker; `lag` a relaxation time (s); `memory` the correlation
    length of the noise (frames); `jump` what the frames' clock is set forward by in the middle (s); `begin`, `end` how much of the
    electrochemistry the frames leave out (s).
    """
    rng = np.random.default_rng(seed)
    t, charge, _, ends = truth(steps, width=width, slip=slip, lag=lag, loop=loop)
    true_offset = float(rng.uniform(-1800, 1800)) if offset is None else offset
    middle = np.arange(begin + exposure / 2 + rng.uniform(0, every), ends[-1] - end - exposure, every)
    spot = np.arange(middle.size) % spots
    values = np.empty(middle.size)
    for s in range(spots):
        marker = truth(steps, width=width, slip=slip, lag=lag, loop=loop, kind=s % 2)[2]
        total = np.concatenate([[0.0], np.cumsum((marker[1:] + marker[:-1]) / 2 * FINE)])
        here = spot == s
        a, b = middle[here] - exposure / 2, middle[here] + exposure / 2
        values[here] = (np.interp(b, t, total) - np.interp(a, t, total)) / exposure
        n = int(here.sum())
        rho = np.exp(-1 / memory) if memory else 0.0
        white, noise = rng.standard_normal(n), np.empty(n)
        noise[0] = white[0]
        for k in range(1, n):
            noise[k] = rho * noise[k - 1] + np.sqrt(1 - rho**2) * white[k]
        values[here] = 3.0 + (values[here] + noise * np.ptp(marker) / snr) * (1 + s)
    source = middle - true_offset
    source[middle > (middle[0] + middle[-1]) / 2] += jump
    frames = xr.DataArray(
        values,
        dims="time",
        coords={"time": START + np.round(source * 1e9).astype("timedelta64[ns]"), "exposure": ("time", np.full(middle.size, exposure))},
        name="marker",
    )
    if spots > 1:
        frames = frames.assign_coords(position=("time", spot))
    stamps = np.unique(np.concatenate([np.arange(0.0, ends[-1], records), ends[ends < t[-1]], ends[ends < t[-1]] + 0.5]))
    current = np.interp(stamps - 0.25, t + FINE / 2, np.gradient(charge, FINE))
    echem = series(
        "echem",
        {
            "voltage": ("time", 3.5 + 0.5 * np.interp(stamps, t, charge), "V"),
            "current": ("time", np.where(np.abs(current) < 1e-9, 0.0, current) * CAPACITY, "A", {"interval": "instant"}),
            "charge": ("time", np.interp(stamps, t, charge) * CAPACITY, "C"),
        },
        source="cell.mpt",
        start=START,
        utc=True,
        elapsed=stamps,
        time_origin="header",
    )
    return Scene(frames, annotate(echem, echem_timeline(echem)), true_offset)
