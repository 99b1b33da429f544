"""Where a signal was between the records that a potentiostat kept of it.

A potentiostat keeps a record when the signal has changed by a threshold or a time has passed, whichever comes first. The line between two
records is then not where the signal was: the last record before a current step may be half a minute older than the step, the next is right
after it. But records that were NOT made tell as well: until the next one the signal stayed within the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trace:
    """Where the signal was by the electrochemistry: lines between knots, two at one moment where it jumps; nothing is known in gaps."""

    rule: str
    t: np.ndarray
    y: np.ndarray
    gap_start: np.ndarray
    gap_stop: np.ndarray
    tolerance: float  # how far the signal may have been off between records
    latency: float  # s; how much later than it happened a jump may be written down

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """Give the signal at the moments `t`, s."""
        return np.interp(t, self.t, self.y)

    def known(self, t: np.ndarray, reach: float) -> np.ndarray:
        """Tell of which moments everything within `reach` is known."""
        inside = (t - reach >= self.t[0]) & (t + reach <= self.t[-1])
        return inside & (np.searchsorted(self.gap_stop, t - reach, side="right") == np.searchsorted(self.gap_start, t + reach, side="left"))


def traces(t: np.ndarray, y: np.ndarray, steps: np.ndarray) -> list[Trace]:
    """Draw the signal by each rule of recording that the records allow: straight lines, within the threshold, held to a step, or held always."""
    dt, dy = np.diff(t), np.diff(y)
    longest = float(np.quantile(dt, 0.98))
    gaps = np.flatnonzero(dt > max(5 * longest, 60.0))
    start, stop = t[gaps], t[gaps + 1]

    def draw(rule: str, ends: np.ndarray, jump: np.ndarray) -> Trace:
        """Let the signal bend from each record to `ends` just before the next."""
        knots, values = np.empty(2 * t.size - 1), np.empty(2 * t.size - 1)
        knots[::2], knots[1::2] = t, np.nextafter(t[1:], -np.inf)
        values[::2], values[1::2] = y, ends
        sag = _sag(dt, ends - y[:-1], jump)
        bent = np.flatnonzero(np.abs(sag) > 0.01 * resolution)
        middle = (t[bent] + t[bent + 1]) / 2
        values = np.insert(values, 2 * bent + 1, (y[bent] + ends[bent]) / 2 + sag[bent])
        return Trace(rule, np.insert(knots, 2 * bent + 1, middle), values, start, stop, tolerance, 0.0 if rule == "linear" else fastest)

    around = np.max(np.lib.stride_tricks.sliding_window_view(np.pad(dt, 4, mode="edge"), 9), axis=1)
    early = dt < 0.9 * around  # something other than the time limit made the next record
    stepped = np.zeros(dt.size, bool)
    stepped[steps[steps > 0] - 1] = True
    stepped &= early
    change = _threshold(np.abs(dy[early]))
    fastest = float(dt[dt > 0].min()) if (dt > 0).any() else 0.0  # the recorder samples at least so often
    bend = np.abs(y[1:-1] - np.interp(t[1:-1], t[::2], y[::2]))  # what a line misses at every other record
    tolerance = 0.3 * change if change < np.inf else float(np.quantile(bend[bend > 0], 0.75)) if (bend > 0).any() else 0.0
    resolution = change if change < np.inf else float(np.std(y))
    none = np.zeros(dt.size, bool)
    drawn = [draw("linear", y[1:], none)]
    slope = dy / np.maximum(dt, 1e-9)
    before = np.concatenate([[0.0], slope[:-1]])
    fresh = np.concatenate([[True], stepped[:-1] | (np.abs(dy[:-1]) > 1.5 * change)])
    before[fresh] = 0.0  # the slope across a jump is none, and right after one the signal relaxes fast
    held = before * dt  # how far the signal would have gone on as before
    if change < np.inf:
        beyond = np.abs(dy) > np.where(early & ~fresh, 0.9, 1.5) * change
        jump = stepped | (beyond & (np.abs(held) < 0.4 * np.abs(dy)))
        ends = y[:-1] + np.where(jump, np.clip(held, -change, change), np.clip(dy, -change, change))
        drawn.append(draw("threshold", ends, jump))
    elif stepped.any():
        drawn.append(draw("steps", np.where(stepped, y[:-1], y[1:]), stepped))
    if early.any() and np.unique(y).size <= max(8, 0.02 * y.size):  # a switch; a voltage is never held, and drawn so would come late
        drawn.append(draw("held", y[:-1], ~none))
    return drawn


def _sag(dt: np.ndarray, dy: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Say how far the middle of a monotone cubic (Fritsch and Carlson 1980, slopes after Fritsch and Butland 1984) lies off the line."""
    slope = dy / np.maximum(dt, 1e-9)
    left, right = slope[:-1], slope[1:]
    w1, w2 = 2 * dt[1:] + dt[:-1], dt[1:] + 2 * dt[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(left * right > 0, (w1 + w2) / (w1 / left + w2 / right), 0.0)
    begin, end = np.concatenate([slope[:1], inner]), np.concatenate([inner, slope[-1:]])
    # beyond a jump there is no neighbour: the slope there follows from the other end
    alone = np.concatenate([[True], jump[:-1]])
    begin = np.where(alone, np.clip(1.5 * slope - 0.5 * end, -3 * np.abs(slope), 3 * np.abs(slope)), begin)
    cut = np.concatenate([jump[1:], [True]])
    end = np.where(cut, np.clip(1.5 * slope - 0.5 * begin, -3 * np.abs(slope), 3 * np.abs(slope)), end)
    return np.where(jump, 0.0, (begin - end) * dt / 8)


def _threshold(changes: np.ndarray) -> float:
    """Find the change that makes a record: where the changes of early records pile up, with nothing right below; infinite if nowhere."""
    changes = np.sort(changes[changes > 0])
    if changes.size < 8:
        return np.inf
    count = np.searchsorted(changes, 1.15 * changes, side="right") - np.arange(changes.size)
    k = int(np.argmax(count))
    edge = float(changes[k])
    below = np.searchsorted(changes, 0.97 * edge) - np.searchsorted(changes, 0.8 * edge)
    return edge if count[k] >= max(5, 0.2 * changes.size) and below < 0.3 * count[k] else np.inf
