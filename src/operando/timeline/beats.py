"""The beat of a series: how far apart its frames are, which intervals stand out, and what lies under stamps that scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GAP = 1.25  # an interval longer than this many of those around it is late, if it also stands out of their spread
_LEAST = 30  # frames, to tell a beat with scattered stamps from irregular frames


@dataclass(frozen=True)
class Grid:
    """A regular beat under stamps that scatter around it.

    Attributes
    ----------
    first
        Time of the first frame on the beat, in s from the origin of the stamps.
    period, period_uncertainty
        Seconds between frames, and its 1 sigma.
    jitter
        1 sigma of the stamps around the beat (robust), s.
    late
        True where stamps come late, never early: the beat then lies at their early edge.
    times, uncertainty
        Time of each frame by the beat, and its 1 sigma in s; a constant delay of all stamps cannot be seen.
    whole
        True if one beat holds from the first frame to the last, gaps or not.
    """

    first: float
    period: float
    period_uncertainty: float
    jitter: float
    late: bool
    times: np.ndarray
    uncertainty: float
    whole: bool


def spread(values: np.ndarray) -> float:
    """Give 1 sigma of values, by their median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def late_intervals(steps: np.ndarray) -> np.ndarray:
    """Say which intervals stand out of those around them, whose length may change in the course of an experiment.

    Late is what exceeds, on either side, 1.25 times and six times the spread of the five intervals there.
    """
    late = np.zeros(steps.size, bool)
    if steps.size < 3 or steps.max() <= _GAP * steps.min():
        return late
    width = min(5, steps.size // 2)
    padded = np.pad(steps, width, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1)
    # of either side, at least half must be shorter: asked first, it spares nearly all medians
    limit = steps / _GAP
    maybe = limit > np.quantile(steps, 0.01)
    for side in (range(width), range(width + 1, 2 * width + 1)):
        shorter = np.zeros(steps.size, np.int8)
        for k in side:
            shorter += padded[k : k + steps.size] < limit
        maybe &= 2 * shorter >= width
    at = np.flatnonzero(maybe)
    sides = np.stack([around[at, :width], around[at, width + 1 :]])
    usual = np.median(sides, axis=2)
    spread = 1.4826 * np.median(np.abs(sides - usual[:, :, None]), axis=2)
    late[at] = steps[at] > np.maximum(_GAP * usual, usual + 6 * spread).max(axis=0)
    return late


def pauses(steps: np.ndarray) -> np.ndarray:
    """Find the late intervals that are no part of how frames are taken.

    Bursts at equal distances are how frames are taken, and a late stamp that the next frames make good is no pause.

    Parameters
    ----------
    steps
        Intervals between frames in the order of acquisition, s.

    Returns
    -------
    numpy.ndarray
        Indices of intervals.
    """
    onward = np.flatnonzero(steps > 0)  # a stamp that is written twice is no interval
    every, steps = steps, steps[onward]
    late = np.flatnonzero(late_intervals(steps))
    if not late.size:
        return late
    width = min(5, steps.size // 2)
    usually = np.ones(steps.size, bool)
    usually[late] = False
    if not usually.any():
        return late[:0]
    near = steps.copy()  # what other pauses are near says nothing of how long an interval is
    near[late] = np.interp(late, np.flatnonzero(usually), steps[usually])
    around = np.lib.stride_tricks.sliding_window_view(np.pad(near, width, mode="reflect"), 2 * width + 1)[late]
    sides = np.stack([around[:, :width], around[:, width + 1 :]])
    usual = np.median(sides, axis=2)
    wide = (1.4826 * np.median(np.abs(sides - usual[:, :, None]), axis=2) / np.maximum(usual, 1e-9)).max(axis=0)
    usual = usual.max(axis=0)
    stands_out = steps[late] > (1.25 + 6 * wide) * sides.max(axis=(0, 2))
    time = np.r_[0.0, np.cumsum(every)]
    for after in (2, 3, 4):
        last = np.minimum(onward[late] + after, time.size - 1)
        moved = time[last] - time[onward[late]] - usual * (last - onward[late])
        stands_out &= moved >= 0.5 * (steps[late] - usual)
    late = late[stands_out]
    apart = np.diff(late)
    bursts = apart.size >= 3 and np.mean(apart == np.median(apart)) > 0.8
    return onward[:0] if bursts or late.size > 0.25 * steps.size else onward[late]


def frame_grid(begins: np.ndarray, numbers: np.ndarray | None = None) -> Grid | None:
    """Find the regular beat under stamps that scatter around it, as arrival times do.

    A computer that stamps frames as they arrive scatters every stamp by itself: a late stamp is followed by a short interval. A loop that waits for
    each frame adds its delays up: its stamps are the true times, however irregular, and have no beat (None).

    Parameters
    ----------
    begins
        Stamps in the order of acquisition, s.
    numbers
        Frame numbers, where the instrument counts; else each frame is one after the frame before, until the next gap.

    Returns
    -------
    Grid or None
        None for fewer than 30 frames, or where there is no beat.
    """
    begins = np.asarray(begins, float)
    n = begins.size
    steps = np.diff(begins)
    onward = steps[steps > 0]
    if n < _LEAST or 3 * onward.size < 2 * n:
        return None
    period = float(np.median(onward if numbers is None else (steps / np.diff(numbers))[steps > 0]))
    numbers = np.arange(n) if numbers is None else np.asarray(numbers, np.int64)
    odd = steps - period * np.diff(numbers)
    breaks = np.flatnonzero((odd > 0.75 * period) | (odd < -1.5 * period) | ((odd > 0.5 * period) & late_intervals(steps)))
    breaks = breaks[_persists(begins, breaks, odd[breaks], period, numbers)]
    inside = np.ones(n - 1, bool)
    inside[breaks] = False
    wide = spread(odd[inside])
    odd = np.clip(odd - np.median(odd[inside]), -5 * wide, 5 * wide)
    # intervals of a scattered beat undo each other: correlation -1/2 with the next, none with the one after
    one, two = inside[1:] & inside[:-1], inside[2:] & inside[:-2]
    power = float(np.mean(odd[inside] ** 2))
    if one.sum() < 20 or power <= 0:
        return None
    first, second = float(np.mean((odd[1:] * odd[:-1])[one])) / power, float(np.mean((odd[2:] * odd[:-2])[two])) / power
    slack = 2 / np.sqrt(n)
    if first > -0.35 + slack / 2 or abs(second) > 0.12 + slack:
        return None
    return _fitted(begins, numbers, np.r_[0, breaks + 1], period, np.sqrt(power / 2))


def _fitted(begins: np.ndarray, numbers: np.ndarray, starts: np.ndarray, period: float, scatter: float) -> Grid | None:
    """Fit one period and a phase for each stretch between breaks; None where stamps wander further than neighbours scatter."""
    n, sizes = begins.size, np.diff(np.r_[starts, begins.size])
    block = np.repeat(np.arange(starts.size), sizes)
    count = numbers - numbers[starts][block]
    rest = begins - period * count
    phase = np.zeros(starts.size)
    weight = np.ones(n)
    leverage = 1.0
    for _ in range(4):
        total = np.maximum(np.add.reduceat(weight, starts), 1e-9)
        centre = (np.add.reduceat(weight * count, starts) / total)[block]
        phase = np.add.reduceat(weight * rest, starts) / total
        leverage = float(np.sum(weight * (count - centre) ** 2))
        if leverage > 0:
            period += (change := float(np.sum(weight * (count - centre) * (rest - phase[block]))) / leverage)
            rest -= change * count
            phase = np.add.reduceat(weight * rest, starts) / total
        off = np.abs(rest - phase[block])
        weight = np.minimum(1.0, 2.5 * max(spread(rest - phase[block]), 1e-12) / np.maximum(off, 1e-12))  # Huber: a rare long delay does not pull
    residual = rest - phase[block]
    low, middle, high = np.quantile(residual, [0.1, 0.5, 0.9])
    wide = 5 * spread(residual)
    jitter = float(np.std(np.clip(residual, middle - wide, middle + wide)))
    if jitter > 1.6 * scatter:
        return None
    late = n >= 50 and (high - middle) > 1.8 * (middle - low)
    edge = float(np.quantile(residual, 0.02)) if late else 0.0
    least = float(np.sqrt(jitter**2 / max(np.median(sizes[block]), 1.0)))
    uncertainty = float(np.hypot(2 * least, (middle - edge) / 4 if late else 0.0))
    times = phase[block] + period * count + edge
    return Grid(float(times[0]), period, jitter / max(np.sqrt(leverage), 1e-9), jitter, bool(late), times, uncertainty, starts.size == 1)


def _persists(begins: np.ndarray, breaks: np.ndarray, odd: np.ndarray, period: float, numbers: np.ndarray) -> np.ndarray:
    """Say which odd intervals the frames after them do not make good: the beat itself was shifted."""
    stays = np.ones(breaks.size, bool)
    for after in (2, 3, 4):
        last = np.minimum(breaks + after, begins.size - 1)
        moved = begins[last] - begins[breaks] - period * (numbers[last] - numbers[breaks])
        stays &= (last <= breaks + 1) | (np.abs(moved) >= 0.5 * np.abs(odd))
    return stays
