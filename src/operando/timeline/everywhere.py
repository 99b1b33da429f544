"""Under which offsets two records of one signal look alike, wherever they may lie: correlation at every lag, gaps and all."""

from __future__ import annotations

import numpy as np

from operando.timeline.recorded import Trace

OVERLAP = 1 / 3  # of the shorter record an offset has to leave in common


def candidates(trace: Trace, t: np.ndarray, y: np.ndarray, offset: float, search: float | None, max_drift: float) -> tuple[list[float], float]:
    """List offsets under which the records correlate best, as they are and without what is slow, and the step of this search."""
    step = max(float(np.median(np.diff(t))), (trace.t[-1] - trace.t[0] + t[-1] - t[0]) / 2**17, 1e-3)
    at = np.arange(trace.t[0], trace.t[-1], step)
    known = trace.known(at, 0.0)
    a = np.where(known, trace(at), 0.0)
    place = np.floor((t - t[0]) / step).astype(np.int64)
    number = np.bincount(place)
    b = np.bincount(place, y) / np.maximum(number, 1)
    sampled = number > 0
    lags = np.arange(-(b.size - 1), a.size)
    offsets = at[0] - t[0] + lags * step
    allowed = np.ones(lags.size, bool) if search is None else np.abs(offsets - offset) <= search + step + max_drift * (t[-1] - t[0])
    fewest = max(OVERLAP * min(known.sum(), sampled.sum()), 8)
    width = int(max(60, 10 * max_drift * (t[-1] - t[0]) / step))
    found: list[float] = []
    for slow in (False, True):
        u, v = (_without_slow(a, known, width), _without_slow(b, sampled, width)) if slow else (a, b)
        r = np.where(allowed, np.abs(_correlation(u, known, v, sampled, fewest)), 0.0)
        peak = np.flatnonzero((r > 0.05) & (r >= np.r_[0, r[:-1]]) & (r >= np.r_[r[1:], 0]))
        taken = 0
        for k in peak[np.argsort(-r[peak], kind="stable")]:
            if all(abs(offsets[k] - other) > 2.5 * step for other in found):
                found.append(float(offsets[k]))
                taken += 1
                if taken == 6:
                    break
    return found, step


def _correlation(a: np.ndarray, known: np.ndarray, b: np.ndarray, sampled: np.ndarray, fewest: float) -> np.ndarray:
    """Correlate a[i + lag] with b[i] where both are there, for every lag; 0 where fewer than `fewest` are."""
    n = 1 << int(a.size + b.size - 1).bit_length()
    a = np.where(known, a - a[known].mean(), 0.0)
    b = np.where(sampled, b - b[sampled].mean(), 0.0)
    scale_a, scale_b = a.std() or 1.0, b.std() or 1.0
    a, b = a / scale_a, b / scale_b
    ahead = [np.fft.rfft(x, n) for x in (known.astype(float), a, a * a)]
    behind = [np.conj(np.fft.rfft(x, n)) for x in (sampled.astype(float), b, b * b)]

    def lagged(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        both = np.fft.irfft(x * z, n)
        return np.concatenate([both[-(b.size - 1) :] if b.size > 1 else both[:0], both[: a.size]])

    number = np.maximum(lagged(ahead[0], behind[0]), 1.0)
    mean_a, mean_b = lagged(ahead[1], behind[0]) / number, lagged(ahead[0], behind[1]) / number
    spread_a = lagged(ahead[2], behind[0]) / number - mean_a**2
    spread_b = lagged(ahead[0], behind[2]) / number - mean_b**2
    together = lagged(ahead[1], behind[1]) / number - mean_a * mean_b
    enough = (number >= fewest) & (spread_a > 1e-4) & (spread_b > 1e-4)
    return np.where(enough, together / np.sqrt(np.maximum(spread_a * spread_b, 1e-12)), 0.0)


def _without_slow(x: np.ndarray, there: np.ndarray, width: int) -> np.ndarray:
    """Subtract the mean over `width` places around each."""
    total = np.concatenate([[0.0], np.cumsum(np.where(there, x - x[there].mean(), 0.0))])
    count = np.concatenate([[0], np.cumsum(there)])
    low, high = np.maximum(np.arange(x.size) - width // 2, 0), np.minimum(np.arange(x.size) + width // 2 + 1, x.size)
    return np.where(there, x - x[there].mean() - (total[high] - total[low]) / np.maximum(count[high] - count[low], 1), 0.0)
