"""A clock from one signal that two instruments both recorded: the cell's voltage, or a shutter on an analog input.

Drawn as a line between the potentiostat's records, every current step happens too early, and the clock is wrong by a dozen seconds with a
beautiful fit. So the signal is drawn as the rule of recording allows (`operando.timeline.recorded`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract.errors import ClockError
from operando.timeline.clocks import Clock, Profile, common_seconds
from operando.timeline.everywhere import candidates
from operando.timeline.recorded import Trace, traces

LEAST = 40  # samples in the common stretch below which nothing is tried
_BLOCKS = 36  # stretches of the record that are taken for independent
_MOST = 40_000  # samples that are looked at; more are thinned
ALIKE = 0.7  # correlation below which they are not taken for the same signal
STRAY = 0.2  # of the samples may be further off than noise and the rule of recording explain
CLEAR = 2.5  # standard errors by which the best offset has to be better than another one
FLOOR = 1e-3  # s; no two clocks are believed to be known better
_SET, _CLEARLY = 2.5, 8.0  # logarithms of the likelihood by which a clock set in between has to explain the record better than one that drifts
_STEP = 2.5  # s; how far a clock has to have been set to be told from what drawing the signal between records gets wrong
_COOL = 3.0  # how far the likelihood is flattened at least: edges of a few samples are never as sharp as they look
_DRAWS = 100
_NU = 4.0  # degrees of freedom of Student's t that samples scatter by: one that straddles a jump does no harm


def clock_from_shared_signal(
    t_echem: Any,
    y_echem: Any,
    t_source: Any,
    y_source: Any,
    *,
    steps: Iterable[int] | None = None,
    offset: float = 0.0,
    search: float | None = None,
    max_drift: float = 100e-6,
) -> Clock:
    """Find a source's clock from a signal that it and the potentiostat both recorded.

    The source's samples are y_source = bias + gain y_echem(t_source + offset + drift (t_source - at)) + noise, with an unknown gain (also
    negative) and a bias of its own in each of some thirty stretches of the record: a zero that wanders tells nothing about time, steps and
    relaxations do. Of several rules of recording the one that fits the source best is taken. The uncertainty is that of the stretches
    redrawn with random weights (Rubin 1981, Ann. Stat. 9, 130), so errors that hang together within a stretch are counted once.

    Parameters
    ----------
    t_echem, y_echem
        Records of the potentiostat: float seconds or datetime64, and the signal in any unit.
    t_source, y_source
        Samples of the source; a stamp is taken for the middle of what was sampled.
    steps
        Places in `t_echem` of the first record after a current step, where known; they are found from the signal otherwise.
    offset, search
        Only offsets within `search` of `offset` are considered, s. Default: every offset that leaves a third of the shorter record in common,
        so that a wrong zone is found, and cycles that repeat themselves are recognised as such.
    max_drift
        Largest drift considered, s/s.

    Returns
    -------
    Clock
        `method` is `shared_signal`, `at` the first stamp of the source. Status `ok`; `no_edges` where the signal hardly changes;
        `ambiguous` where another offset fits about as well, or none does; `models_disagree` where parts of the record want different offsets;
        `too_few` where hardly anything is in common.

    Raises
    ------
    ClockError
        Times or values that are none or of different lengths, `steps` that are no places, records that run backwards all the time.

    Examples
    --------
    >>> t = np.arange(0.0, 7200.0, 2.0)
    >>> y = 3.7 + 0.05 * (np.searchsorted([500.0, 1300.0, 2900.0, 3700.0, 6100.0], t) % 2)
    >>> clock = clock_from_shared_signal(t, y, t[50:-50] + 37.0, 1.004 * y[50:-50] + 0.002)
    >>> clock.status, round(clock.offset)
    ('ok', -37)
    """
    for name, value in (("search", search), ("max_drift", max_drift)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ClockError(f"{name} of clock_from_shared_signal is not a positive number", found=value)
    if not math.isfinite(offset):
        raise ClockError("offset of clock_from_shared_signal is not a number", found=offset)
    echem, source, origin = common_seconds(t_echem, t_source, "the shared signal")
    values, samples = _signal(y_echem, echem, "y_echem"), _signal(y_source, source, "y_source")
    stamped = source[np.isfinite(source)]
    first = float(stamped.min()) if stamped.size else 0.0
    at = origin.stamp(first) if stamped.size else None
    echem, values, places, lost = _records(echem, values, steps)
    source, samples, lost_too = _samples(source, samples)
    left_out = "".join(f"; {words}" for words in lost + lost_too)

    def refused(status: str, words: str) -> Clock:
        return Clock(status=status, method="shared_signal", evidence=words + left_out, at=at)

    if echem.size < 8 or source.size < LEAST:
        return refused("too_few", f"{source.size} samples of the source and {echem.size} records; at least {LEAST} and 8 are needed")
    for name, signal in (("electrochemistry", values), ("source", samples)):
        if np.ptp(signal) <= 1e-9 * np.abs(signal).max():
            return refused("no_edges", f"the signal by the {name} never changes from {signal[0]:.6g}")

    drawn = traces(echem, values, places)
    main = drawn[1] if len(drawn) > 1 and drawn[1].rule != "held" else drawn[0]
    fits, wide = _look(main, source, samples, offset - origin.apart, search, max_drift)
    if not fits:
        anywhere = "any offset" if search is None else f"any offset within {search:g} s of {offset:g} s"
        overlap = _overlap(main, source, offset - origin.apart, search)
        if overlap < LEAST:
            return refused("too_few", f"under {anywhere} no more than {overlap} samples of the source fall into the records")
        return refused("no_edges", f"under {anywhere} nothing in the source goes with the records")
    tried = []
    for trace in drawn:
        fit = dataclasses.replace(fits[0], trace=trace)
        closer = _close_in(fit, source, samples, wide, max_drift)
        if closer is not None:
            tried.append((fit, *closer))
    if not tried:
        return refused("too_few", f"fewer than {LEAST} samples of the source fall into the records wherever they might lie")
    best, mean, covariance, grid, blocks = min(tried, key=lambda one: one[0].cost)
    status, words = _judge(best, covariance, fits[1:], source, samples, wide, max_drift, blocks)

    # everything is told at the first stamp, where a growing record keeps it
    since = first - best.middle
    back = np.array([[1.0, since], [0.0, 1.0]])
    told = back @ covariance @ back.T
    uncertainty, drift_uncertainty = math.sqrt(told[0, 0]), math.sqrt(told[1, 1])
    most = uncertainty * drift_uncertainty
    where = best.offset + best.drift * since + origin.apart
    said = (
        f"{blocks[0].size} samples of the source lie on the {echem.size} records (drawn by rule '{best.trace.rule}') "
        f"with a gain of {best.gain:.4g} and a scatter of {best.sigma:.2g} in the source's unit{left_out}; {words}"
    )
    return Clock(
        offset=where,
        drift=best.drift,
        at=at,
        uncertainty=uncertainty,
        drift_uncertainty=drift_uncertainty,
        covariance=float(np.clip(told[0, 1], -most, most)),
        method="shared_signal",
        evidence=said,
        status=status,
        profile=_profile(grid, mean, covariance, since, where, uncertainty),
    )


def _signal(y: Any, t: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(y)
    if values.shape != t.shape or values.dtype.kind not in "biuf":
        raise ClockError(f"{name} is no signal at its times", found=f"{values.dtype} of shape {values.shape}", expected=f"{t.size} real numbers")
    return values.astype(np.float64)


def _records(t: np.ndarray, y: np.ndarray, steps: Iterable[int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Leave out records that are none or run backwards; give the places of `steps` among the rest."""
    places = np.asarray([] if steps is None else list(steps))
    if places.size and (places.ndim != 1 or places.dtype.kind not in "iu" or places.min() < 0 or places.max() >= t.size):
        raise ClockError("steps are no places of records", found=f"{places.dtype} {places.ravel()[:3]}", expected=f"integers from 0 to {t.size - 1}")
    known = np.flatnonzero(np.isfinite(t) & np.isfinite(y))
    ahead = t[known] >= np.maximum.accumulate(t[known]) if known.size else np.zeros(0, bool)
    keep, words = known[ahead], []
    backward = int(known.size - keep.size)
    if backward > 0.1 * known.size:
        raise ClockError(
            "the records run backwards", found=f"{backward} of {known.size} before an earlier one", hint="give one segment of the record at a time"
        )
    if known.size < t.size:
        words.append(f"{t.size - known.size} records without time or value left out")
    if backward:
        words.append(f"{backward} records that run backwards left out")
    return t[keep], y[keep], np.unique(np.searchsorted(keep, places[places <= keep[-1]] if keep.size else places[:0])).astype(np.int64), words


def _samples(t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Leave out samples that are none, and put the rest in order."""
    known = np.flatnonzero(np.isfinite(t) & np.isfinite(y))
    words = [f"{t.size - known.size} samples without time or value left out"] if known.size < t.size else []
    order = known[np.argsort(t[known], kind="stable")]
    if (order != known).any():
        words.append("samples of the source not in the order of their stamps")
    return t[order], y[order], words


def _overlap(trace: Trace, t: np.ndarray, offset: float, search: float | None) -> int:
    """Count the samples that could fall into the records at best."""
    if search is None:
        return int(t.size)
    low, high = offset - search, offset + search
    return int(((t + high >= trace.t[0]) & (t + low <= trace.t[-1])).sum())


# --------------------------------------------------------------------------- looking closely


@dataclass
class _Fit:
    """One way to lay the source on the trace: t + offset + drift (t - middle), y = bias of the block + gain * trace."""

    trace: Trace
    middle: float
    offset: float = 0.0
    drift: float = 0.0
    gain: float = 1.0
    sigma: float = 1.0
    cost: float = math.inf

    def moved(self, t: np.ndarray) -> np.ndarray:
        return t + self.offset + self.drift * (t - self.middle)


def _blocks(fit: _Fit, t: np.ndarray, y: np.ndarray, reach: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut what is known under all shifts within `reach` into equal blocks: times and values, (block, sample)."""
    use = np.flatnonzero(fit.trace.known(fit.moved(t), reach))
    if use.size > most:
        use = use[:: -(-use.size // most)]
    number = int(np.clip(use.size // 10, 1, _BLOCKS))
    each = use.size // number
    spare = use.size - number * each
    places = use[spare // 2 : use.size - (spare - spare // 2)].reshape(number, each)
    return t[places], y[places]


def _residuals(y: np.ndarray, f: np.ndarray, gain: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of each block about its own bias, and the weights of Student's t."""
    r = y - gain * f
    r = r - np.median(r, axis=1, keepdims=True)
    w = (_NU + 1) / (_NU + (r / sigma) ** 2)
    for _ in range(2):
        r = r - (w * r).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        w = (_NU + 1) / (_NU + (r / sigma) ** 2)
    return r, w


def _scale(fit: _Fit, t: np.ndarray, y: np.ndarray) -> None:
    """Fit gain and scatter where the source now lies."""
    f = fit.trace(fit.moved(t))
    f0, y0 = f - f.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    power = float((f0 * f0).sum())
    fit.gain = float((f0 * y0).sum()) / power if power > 0 else 1.0
    for _ in range(8):
        r = y - fit.gain * f
        r = r - np.median(r, axis=1, keepdims=True)
        fit.sigma = max(1.4826 * float(np.median(np.abs(r))), 1e-9 * float(np.abs(y).max()), 1e-300)
        r, w = _residuals(y, f, fit.gain, fit.sigma)
        f0 = f - (w * f).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        power = float((w * f0 * f0).sum())
        if power > 0:
            fit.gain += float((w * r * f0).sum()) / power


def _profiles(fit: _Fit, t: np.ndarray, y: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Give for each shift and block the cost, and its slope and curvature along the gain: (3, block, shift)."""
    out = np.empty((3, t.shape[0], shifts.size))
    moved = fit.moved(t)
    for k, shift in enumerate(shifts.tolist()):
        f = fit.trace(moved + shift)
        r, w = _residuals(y, f, fit.gain, fit.sigma)
        f0 = f - (w * f).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)
        out[0, :, k] = (_NU + 1) / 2 * np.log1p(r * r / (_NU * fit.sigma**2)).sum(axis=1)
        out[1, :, k] = (w * r * f0).sum(axis=1) / fit.sigma**2
        out[2, :, k] = (w * f0 * f0).sum(axis=1) / fit.sigma**2
    return out


@dataclass
class _Grid:
    """Costs over offset and drift (both from those of the fit), for each block, with the gain's slope and curvature."""

    offset: np.ndarray
    drift: np.ndarray
    parts: np.ndarray  # (3, block, drift * offset)

    def cost(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum over blocks, each taken `weights` times, with the gain fitted anew: (..., drift * offset)."""
        c, a, h = self.parts.sum(axis=1) if weights is None else (weights @ part for part in self.parts)
        return c - 0.5 * a * a / np.maximum(h, 1e-300)

    def moments(self, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (offset, drift) and covariance of exp(-cost)."""
        p = np.exp(cost.min(axis=-1, keepdims=True) - cost)
        p = (p / p.sum(axis=-1, keepdims=True)).reshape(*p.shape[:-1], self.drift.size, self.offset.size)
        po, pd = p.sum(axis=-2), p.sum(axis=-1)
        mean = np.stack([po @ self.offset, pd @ self.drift], axis=-1)
        vo, vd = po @ self.offset**2 - mean[..., 0] ** 2, pd @ self.drift**2 - mean[..., 1] ** 2
        both = np.einsum("...do,d,o->...", p, self.drift, self.offset) - mean[..., 0] * mean[..., 1]
        return mean, np.stack([np.stack([vo, both], -1), np.stack([both, vd], -1)], -1)


def _grid(fit: _Fit, t: np.ndarray, y: np.ndarray, wide: float, steep: float, max_drift: float, points: int) -> _Grid:
    """Evaluate costs for offsets within `wide` and drifts within `steep` of the fit's."""
    centre = t.mean(axis=1) - fit.middle
    half = float(np.abs(centre).max())
    drift = np.linspace(max(-steep, -max_drift - fit.drift), min(steep, max_drift - fit.drift), 31)  # none larger than max_drift
    reach = wide + float(np.abs(drift).max()) * half
    shifts = np.linspace(-reach, reach, points)
    offset = np.linspace(-wide, wide, 81)
    parts = _profiles(fit, t, y, shifts)
    x = ((offset[None, :] + drift[:, None] * centre[:, None, None]) + reach) / (shifts[1] - shifts[0])
    low = np.clip(x.astype(np.int64), 0, points - 2)
    u = (x - low).reshape(centre.size, -1)
    low = low.reshape(centre.size, -1)
    rows = np.arange(centre.size)[:, None]
    return _Grid(offset, drift, np.stack([part[rows, low] * (1 - u) + part[rows, low + 1] * u for part in parts]))


def _look(trace: Trace, t: np.ndarray, y: np.ndarray, offset: float, search: float | None, max_drift: float) -> tuple[list[_Fit], float]:
    """Fit offset and drift roughly around each candidate: distinct fits, best first, and the distance within which they are one."""
    where, step = candidates(trace, t, y, offset, search, max_drift)
    wide = 4 * step + max_drift * float(t[-1] - t[0]) / 2
    fits: list[_Fit] = []
    for candidate in where:
        inside = t[trace.known(t + candidate, 0.0)]
        if inside.size < LEAST:
            continue
        fit = _Fit(trace, float(inside[0] + inside[-1]) / 2, candidate)
        times, values = _blocks(fit, t, y, wide + max_drift * float(inside[-1] - inside[0]) / 2, 4000)
        if times.size < LEAST:
            continue
        _scale(fit, times, values)
        grid = _grid(fit, times, values, wide, max_drift, max_drift, 81)
        k = int(np.argmin(grid.cost()))
        fit.offset += float(grid.offset[k % grid.offset.size])
        fit.drift += float(grid.drift[k // grid.offset.size])
        _scale(fit, times, values)
        fit.cost = _cost(fit, times, values)
        fits.append(fit)
    distinct: list[_Fit] = []
    for fit in sorted(fits, key=lambda f: f.cost):
        if all(abs(fit.offset - other.offset) > wide for other in distinct):
            distinct.append(fit)
    return distinct, wide


def _cost(fit: _Fit, t: np.ndarray, y: np.ndarray) -> float:
    """Negative logarithm of the likelihood per sample, scatter included, for a source of gain 1 (or a wrong gain of 0 would fit best)."""
    r, _ = _residuals(y, fit.trace(fit.moved(t)), fit.gain, fit.sigma)
    return math.log(fit.sigma) + (_NU + 1) / 2 * float(np.log1p(r * r / (_NU * fit.sigma**2)).mean())


def _close_in(
    fit: _Fit, t: np.ndarray, y: np.ndarray, wide: float, max_drift: float
) -> tuple[np.ndarray, np.ndarray, _Grid, tuple[np.ndarray, np.ndarray]] | None:
    """Narrow offset and drift down: mean of the last grid, covariance, that grid, and the samples used; None if too few samples are left."""
    steep, most = 2 * max_drift, 4000
    rng = np.random.default_rng(0)
    for turn in range(5):
        inside = t[fit.trace.known(fit.moved(t), 0.0)]
        if inside.size < LEAST:
            return None
        half = max(float(inside[-1] - inside[0]) / 2, 1.0)
        times, values = _blocks(fit, t, y, wide + steep * half, most)
        if times.size < LEAST:
            return None
        _scale(fit, times, values)
        grid = _grid(fit, times, values, wide, steep, max_drift, 121)
        cool = max(_COOL, _hanging_together(fit, times, values))
        mean, within = grid.moments(grid.cost() / cool)
        weights = rng.exponential(size=(_DRAWS, times.shape[0]))
        weights /= weights.mean(axis=1, keepdims=True)
        redrawn, _ = grid.moments(grid.cost(weights) / cool)
        # two measures of the same thing: how wide the likelihood is, and how far it moves when the blocks are redrawn (few know that badly)
        covariance = (within + np.cov(redrawn.T) * (1 + 3 / times.shape[0])) / 2
        spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        fit.offset += float(mean[0])
        fit.drift += float(mean[1])
        if turn >= 2 and 3 * spread[0] < wide < 20 * spread[0] + 0.2:
            break
        wide, steep, most = max(6 * float(spread[0]), 0.1), min(max(6 * float(spread[1]), 1e-8), 2 * max_drift), _MOST
    _scale(fit, times, values)
    fit.cost = _cost(fit, times, values)
    covariance[0, 0] += FLOOR**2 + fit.trace.latency**2 / 3  # a jump is written down up to one sampling interval of the recorder later
    return mean, covariance, grid, (times, values)


def _hanging_together(fit: _Fit, t: np.ndarray, y: np.ndarray) -> float:
    """Say how many neighbouring samples tell only as much as one: the integrated autocorrelation of the residuals' pull."""
    r, w = _residuals(y, fit.trace(fit.moved(t)), fit.gain, fit.sigma)
    pull = w * r
    power, total = float((pull * pull).mean()), 1.0
    for lag in range(1, pull.shape[1] // 3):
        rho = float((pull[:, lag:] * pull[:, :-lag]).mean()) / power if power > 0 else 0.0
        if rho < 0.05:
            break
        total += 2 * rho
    return total


# --------------------------------------------------------------------------- judging


def _judge(
    best: _Fit,
    covariance: np.ndarray,
    others: list[_Fit],
    t: np.ndarray,
    y: np.ndarray,
    wide: float,
    max_drift: float,
    blocks: tuple[np.ndarray, np.ndarray],
) -> tuple[str, str]:
    """Say whether the best fit may be used, and why or why not."""
    times, values = blocks
    sigma = math.sqrt(covariance[0, 0])
    if times.size < LEAST:
        return "too_few", f"at least {LEAST} are needed"
    f = best.trace(best.moved(times))
    r, w = _residuals(values, f, best.gain, best.sigma)
    noise = _noise(y)
    f0, y0 = f - (w * f).sum() / w.sum(), values - (w * values).sum() / w.sum()
    alike = abs(float((w * f0 * y0).sum())) / math.sqrt(max(float((w * f0 * f0).sum() * (w * y0 * y0).sum()), 1e-300))
    if alike < ALIKE:
        if float(np.std(values)) < 1.5 * noise:
            return "no_edges", f"the source's signal is hardly more than its noise of {noise:.2g} (correlation {alike:.2f})"
        return "ambiguous", f"they correlate with {alike:.2f} only: are these records of the same signal?"
    allowed = 6 * math.hypot(noise, abs(best.gain) * best.trace.tolerance)
    stray = float((np.abs(r) > allowed).mean())
    if stray > STRAY:
        return "ambiguous", f"{stray:.0%} of the samples are further off than {allowed:.2g}: are these records of the same signal?"
    if abs(best.drift) > 0.97 * max_drift and math.sqrt(covariance[1, 1]) < 0.3 * max_drift:
        return "models_disagree", f"the drift is at the largest that was allowed ({max_drift * 1e6:.3g} ppm): was the clock set in between?"
    gain, words = _set_between(best, t, y, wide, max_drift)
    parts = words if gain > _CLEARLY else _parts(best, covariance, t, y, max(wide, 120.0))
    if parts:
        return "models_disagree", parts
    for other in others:
        rival = _rival(best, other, t, y)
        if rival:
            return rival
    if words:
        return "models_disagree", words
    if sigma > max(10 * float(np.median(np.diff(t))), 30.0) or sigma > 0.35 * wide:
        return "no_edges", f"the signal changes too slowly to tell the offset better than {sigma:.2g} s"
    return "ok", f"no other offset comes near, and the parts of the record agree; 1 sigma is {sigma:.2g} s in the middle of the record"


def _noise(y: np.ndarray) -> float:
    """Scatter of samples about their neighbours, no smaller than what the digits allow."""
    bend, change = np.abs(y[2:] - 2 * y[1:-1] + y[:-2]), np.abs(np.diff(y))
    moving = change[change > 0]
    return max(1.4826 * float(np.median(bend)) / math.sqrt(6), 0.3 * float(np.median(moving)) if moving.size else 0.0)


def _set_between(best: _Fit, t: np.ndarray, y: np.ndarray, wide: float, max_drift: float) -> tuple[float, str]:
    """Say whether a clock that was set at some moment explains the record better than one that drifts: two offsets against an offset and a drift."""
    level = dataclasses.replace(best, drift=0.0)
    inside = t[best.trace.known(best.moved(t), 0.0)]
    half = max(float(inside[-1] - inside[0]) / 2, 1.0)
    reach = max(wide, 120.0) + max_drift * half
    times, values = _blocks(level, t, y, reach, 6000)
    number = times.shape[0]
    if times.size < LEAST or number < 6:
        return 0.0, ""
    shifts = np.linspace(-reach, reach, 481)
    c, a, h = _profiles(level, times, values, shifts)
    cool = max(_COOL, _hanging_together(best, times, values))
    cost = c - 0.5 * a * a / np.maximum(h, 1e-300) * (a * a < h)  # the gain of each block fitted anew, as far as that is a small change
    centre = times.mean(axis=1) - level.middle
    drifts = np.linspace(-max_drift, max_drift, 81)
    places = np.arange(number)[:, None]
    at = (shifts[None, :] + drifts[:, None, None] * centre[:, None] + reach) / (shifts[1] - shifts[0])
    low = np.clip(at.astype(np.int64), 0, shifts.size - 2)
    share = np.clip(at - low, 0.0, 1.0)
    drifting = float((cost[places, low] * (1 - share) + cost[places, low + 1] * share).sum(axis=1).min())
    before = np.cumsum(cost, axis=0)
    after = before[-1] - before
    split = before[:-1].min(axis=1) + after[:-1].min(axis=1)
    k = int(np.argmin(split))
    gain = (drifting - float(split[k])) / cool
    if gain < _SET:
        return 0.0, ""
    step = float(shifts[int(np.argmin(after[k]))] - shifts[int(np.argmin(before[k]))])
    clear = gain > _CLEARLY and 2 <= k < number - 3
    # an edge is known no better than the records around it; with this much at stake by the edge of one block alone, that matters
    drawn = float(np.quantile(np.diff(best.trace.t), 0.75)) if best.trace.rule == "linear" and not clear else 0.0
    if abs(step) < max(_STEP, drawn):
        return 0.0, ""
    share_of = (k + 1) / number
    return (
        gain if 2 <= k < number - 3 else 0.0
    ), f"the record is explained better by a clock that was set by {-step:+.3g} s after {share_of:.0%} of it than by any drift"


def _parts(best: _Fit, covariance: np.ndarray, t: np.ndarray, y: np.ndarray, reach: float) -> str:
    """Say which part of the record wants another offset, if one does."""
    times, values = _blocks(best, t, y, reach, 6000)
    number = min(6, times.shape[0] // 3)
    if times.size < LEAST or number < 2:
        return ""
    shifts = np.linspace(-reach, reach, 241)
    c, a, h = _profiles(best, times, values, shifts)
    cool = max(_COOL, _hanging_together(best, times, values))
    for k, part in enumerate(np.array_split(np.arange(times.shape[0]), number)):
        centre = float(times[part].mean()) - best.middle
        cost = (c[part].sum(axis=0) - 0.5 * a[part].sum(axis=0) ** 2 / np.maximum(h[part].sum(axis=0), 1e-300)) / cool
        p = np.exp(cost.min() - cost)
        p /= p.sum()
        mean = float(p @ shifts)
        own = float(p @ shifts**2) - mean**2
        known = covariance[0, 0] + 2 * covariance[0, 1] * centre + covariance[1, 1] * centre**2
        spread = math.sqrt(own + number * known + (shifts[1] - shifts[0]) ** 2)
        if abs(mean) > 4 * spread and cost[shifts.size // 2] - cost.min() > 12:
            return f"part {k + 1} of {number} of the record wants an offset {mean:+.3g} s from the rest: was the clock set in between?"
    return ""


def _rival(best: _Fit, other: _Fit, t: np.ndarray, y: np.ndarray) -> tuple[str, str] | None:
    """Hold another offset against the best one by the samples that both would place into the records."""
    both = best.trace.known(best.moved(t), 0.0) & other.trace.known(other.moved(t), 0.0)
    away = other.offset - best.offset
    if both.sum() < LEAST:
        if other.sigma > 2 * best.sigma:
            return None
        return "ambiguous", f"an offset {away:+.4g} s away fits other samples as well: say roughly where to look (offset: and search:)"
    times, values = _blocks(best, t[both], y[both], 0.0, 6000)
    costs = []
    for fit in (best, other):
        r, _ = _residuals(values, fit.trace(fit.moved(times)), fit.gain, best.sigma)
        costs.append((_NU + 1) / 2 * np.log1p(r * r / (_NU * best.sigma**2)).sum(axis=1))
    better = costs[1] - costs[0]
    total, spread = float(better.sum()), math.sqrt(better.size) * float(np.std(better))
    if total > max(10.0, CLEAR * spread):
        return None
    first, second = float(better[: better.size // 2].sum()), float(better[better.size // 2 :].sum())
    if min(first, second) < -20 < 20 < max(first, second):
        half = "first" if first < 0 else "second"
        return "models_disagree", f"the {half} half of the record wants an offset {away:+.4g} s away: was the clock set in between?"
    return "ambiguous", f"an offset {away:+.4g} s away fits about as well: say roughly where to look (offset: and search:)"


def _profile(grid: _Grid, mean: np.ndarray, covariance: np.ndarray, since: float, offset: float, sigma: float) -> Profile:
    """Tell the likelihood of offsets at the first stamp, the drift fitted anew at each, as wide as the stated uncertainty."""
    cost = grid.cost()
    _, raw = grid.moments(cost)
    scale = min(1.0, max(float(raw[0, 0]), 1e-12) / float(covariance[0, 0]))
    steps = np.linspace(-5, 5, 101) * sigma
    rows = [
        np.interp(steps + mean[0] - (d - mean[1]) * since, grid.offset, -scale * row, left=-np.inf, right=-np.inf)
        for d, row in zip(grid.drift, cost.reshape(grid.drift.size, -1), strict=True)
    ]
    best = np.max(rows, axis=0)
    there = np.isfinite(best)
    return Profile(offset + steps[there], best[there] - best[there].max())
