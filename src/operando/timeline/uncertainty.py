"""What an uncertain clock does to the mean of a channel over an exposure.

The clock moves an exposure by z sigma, z normal. The error stated is the root mean square, over that distribution, of what
the mean then becomes minus the mean that is reported: it is slope times sigma on a straight line, counts a step of the
signal by the probability that the exposure lies on its other side, however far it is, and, unlike the spread about the
average of the draws, it is not blind to a report that no other draw would give (the top of a short pulse).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

_NS = 10**9
_BATCH = 4000  # exposures whose shifted places are looked up together: about 30 MB
_FAR = 5.2  # sigma; a step beyond is crossed by a draw in ten million


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Middles of cells of z, and the share of the distribution each stands for.

    Inside a cell it is not known on which side of a step a draw lies: that is worth a factor exp(z width / 4) at most, 1.14
    for these widths. The shares are scaled so that a straight line comes out exactly.
    """
    edges = np.concatenate([np.arange(0.0, 2.4, 0.2), np.arange(2.4, _FAR + 0.05, 0.1)])
    beyond = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in edges])
    share = -np.diff(np.append(beyond[:-1], 0.0))
    middle = (edges[:-1] + edges[1:]) / 2
    share /= 2 * np.sum(share * middle**2)
    return np.concatenate([-middle[::-1], middle]), np.concatenate([share[::-1], share])


_Z, _SHARE = _nodes()


def errors_of_time(
    times: np.ndarray,
    channels: Mapping[str, tuple[np.ndarray, str, np.ndarray]],
    begin: np.ndarray,
    end: np.ndarray,
    sigma: np.ndarray,
    *,
    steps: np.ndarray,
    gaps: np.ndarray,
) -> dict[str, np.ndarray]:
    """Say how far the mean over each exposure may be off because its time is uncertain.

    Parameters
    ----------
    times
        Records, int64 nanoseconds that do not decrease.
    channels
        Name -> (values, rule, means as `window_statistics` reports them for these exposures).
    begin, end
        Exposures, int64 nanoseconds.
    sigma
        1 sigma of each exposure's place in time, s.
    steps, gaps
        Places of records, see `window_statistics`.

    Returns
    -------
    dict
        1 sigma for each channel, in its unit; 0 where `sigma` is 0, NaN where the mean is NaN or no shifted exposure meets a
        record. Where a shifted exposure finds none, the opposite shift stands for it.
    """
    errors = {name: np.where(np.isfinite(mean), 0.0, np.nan) for name, (_, _, mean) in channels.items()}
    known = np.zeros(begin.size, bool)
    for mean in errors.values():
        known |= np.isfinite(mean)
    todo = np.flatnonzero(known & (sigma > 0))
    todo = todo[np.argsort(begin[todo], kind="stable")]
    for at in range(0, todo.size, _BATCH):
        some = todo[at : at + _BATCH]
        shift = np.round(_Z * (sigma[some, None] * _NS)).astype(np.int64)
        places = _Places(times, begin[some, None] + shift, end[some, None] + shift)
        for name, (values, rule, mean) in channels.items():
            away = places.mean(values, rule, steps, gaps) - mean[some, None]
            away *= away
            missing = np.isnan(away)
            if missing.any():
                away = np.where(missing, away[:, ::-1], away)
                missing = np.isnan(away)
                lost = missing.all(axis=1)
                away[missing] = 0.0
                away[lost] = np.nan
            errors[name][some] = np.sqrt(away @ _SHARE)
    return errors


class _Places:
    """Where many exposures begin and end among the records; found once for all channels."""

    def __init__(self, times: np.ndarray, begin: np.ndarray, end: np.ndarray) -> None:
        self.low = max(int(np.searchsorted(times, begin.min(), side="right")) - 1, 0)
        self.high = min(int(np.searchsorted(times, end.max(), side="left")) + 1, times.size)
        self.times = t = times[self.low : self.high]
        instant = begin == end
        first, last = np.clip(begin, t[0], t[-1]), np.clip(end, t[0], t[-1])
        self.outside = np.where(instant, first != begin, first == last)
        self.k, self.since = self._interval(first)
        self.k_end, self.since_end = (self.k, self.since) if instant.all() else self._interval(last)
        self.wide = self.k != self.k_end

    def _interval(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the interval in which each time lies, and the time since that began."""
        k = np.clip(np.searchsorted(self.times, x, side="right") - 1, 0, max(self.times.size - 2, 0))
        return k, x - self.times[k]

    def mean(self, values: np.ndarray, rule: str, steps: np.ndarray, gaps: np.ndarray) -> np.ndarray:
        """Average a channel over the covered part of each exposure; NaN where there is none."""
        y = values[self.low : self.high]
        if y.size < 2:
            return np.where(self.outside, np.nan, y[0])
        left = y[1:] if rule == "ending" else y[:-1]
        right = y[:-1] if rule == "starting" else y[1:]
        if rule == "step":
            held = _inside(steps, self.low, self.high) - 1
            right = right.copy()
            right[held] = left[held]
        lost = np.isnan(left) | np.isnan(right)
        lost[_inside(gaps, self.low, self.high) - 1] = True
        length = np.diff(self.times)
        about = float(y[0]) if np.isfinite(y[0]) else 0.0
        left, right = np.where(lost, 0.0, left - about), np.where(lost, 0.0, right - about)
        slope = np.divide(right - left, length, out=np.zeros(left.size), where=length > 0)

        # inside one interval the middle of the exposure says it exactly
        out = left[self.k] + slope[self.k] * (0.5 * (self.since + self.since_end)) + about
        out[self.outside | lost[self.k]] = np.nan
        if self.wide.any():
            time, area = np.where(lost, 0, length), (left + 0.5 * slope * length) * length
            covered, total = np.append(0, np.cumsum(time)), np.append(0.0, np.cumsum(area))
            k, x = self.k[self.wide], self.since[self.wide]
            duration, integral = -covered[k] - np.where(lost[k], 0, x), -total[k] - (left[k] + 0.5 * slope[k] * x) * x
            k, x = self.k_end[self.wide], self.since_end[self.wide]
            duration += covered[k] + np.where(lost[k], 0, x)
            integral += total[k] + (left[k] + 0.5 * slope[k] * x) * x
            out[self.wide] = np.divide(integral, duration, out=np.full(k.size, np.nan), where=duration > 0) + about
        return out


def _inside(places: np.ndarray, low: int, high: int) -> np.ndarray:
    """Give the places in (low, high), counted from low."""
    return places[np.searchsorted(places, low, side="right") : np.searchsorted(places, high, side="left")] - low
