"""How a structural marker follows the state of a cell: numpy in, numpy out, for one clock offset at a time.

The marker is a cubic spline of the charge averaged over the exposure, plus half the difference of charge and discharge times a variable
that turns over after each reversal (at once, over a share of the charge, or with play), plus quadratic trends and charge that slips; it may
follow all of that with a first-order lag. Coefficients have Gaussian priors and are integrated out; noise is autoregressive.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import NamedTuple

import numpy as np

KNOTS, KNOTS_OF_HYSTERESIS = 12, 8
EDGE = 0.2  # share of the usual current by which it has to change
SPACING = 15.0  # s; the record is refined to this, so that a lag is resolved
_CACHE = 16  # ways of following that are kept
_MOST = 200_000  # points of a record
_BY_TURNS = 12  # most things that may have been measured by turns
_TREND, _SLIP = 0.3, 0.1  # usual size of trends (shares of the marker's range) and of slips (of the charge's)


class Model(NamedTuple):
    """How the marker follows the charge.

    `size`: usual difference between the functions of charge and discharge, as a share of the marker's range; 0 for one function.
    `reach`: share of the charge over which one turns into the other. `play`: share of the charge that has to pass after a reversal before
    anything is seen of it. `lag`: time constant of a first-order relaxation, s.
    """

    size: float = 0.0
    reach: float = 0.0
    play: float = 0.0
    lag: float = 0.0


NO_HYSTERESIS = Model()
_TURNS = [(0.0, 0.0), (0.03, 0.0), (0.1, 0.0), (0.0, 0.01), (0.0, 0.02), (0.0, 0.04), (0.0, 0.08)]
SHAPES = [Model(size, reach, play) for size in (0.02, 0.1) for reach, play in _TURNS]


class Fit(NamedTuple):
    """What `Spot.fit` finds."""

    log_evidence: float
    coefficients: np.ndarray
    fitted: np.ndarray  # per frame
    whitened: np.ndarray  # residual, per frame that has a past
    matrix: np.ndarray  # whitened design
    normal: np.ndarray  # with the prior


class Signal:
    """A function of time that is linear between records and may jump at them; its mean over windows is exact."""

    def __init__(self, t: np.ndarray, level: np.ndarray, end: np.ndarray) -> None:
        self.t, self.level, self.end = t, level, end
        self.slope = (end - level) / np.diff(t)
        self.integral = np.concatenate([[0.0], np.cumsum(0.5 * (level + end) * np.diff(t))])

    def _until(self, x: np.ndarray) -> np.ndarray:
        k = np.clip(np.searchsorted(self.t, x, side="right") - 1, 0, self.level.size - 1)
        u = x - self.t[k]
        return self.integral[k] + u * (self.level[k] + 0.5 * self.slope[k] * u)

    def mean(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Mean over each window; an instant is taken for a tenth of a second."""
        end = np.maximum(end, begin + 0.1)
        return (self._until(end) - self._until(begin)) / (end - begin)

    def lagged(self, lag: float) -> Signal:
        """What follows this signal by a first-order relaxation."""
        seconds = np.diff(self.t)
        stays = np.exp(-seconds / lag)
        drive = self.level * (1 - stays) + self.slope * (seconds - lag * (1 - stays))
        y = _relaxed(seconds / lag, drive, float(self.level[0]))
        return Signal(self.t, y[:-1], y[1:])


def _relaxed(weight: np.ndarray, drive: np.ndarray, first: float) -> np.ndarray:
    """Solve y[k + 1] = exp(-weight[k]) y[k] + drive[k], in stretches over which the exponentials stay within range."""
    weight = np.minimum(weight, 60.0)
    total = np.concatenate([[0.0], np.cumsum(weight)])
    out = np.empty(total.size)
    out[0] = first
    cuts = np.flatnonzero(np.diff((total // 30).astype(np.int64)) > 0) + 1
    bounds = np.unique(np.concatenate([[0], cuts, [weight.size]]))
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        grown = np.exp(total[lo + 1 : hi + 1] - total[lo])
        out[lo + 1 : hi + 1] = (out[lo] + np.cumsum(drive[lo:hi] * grown)) / grown
    return out


def _play(q: np.ndarray, sign: np.ndarray, width: float) -> np.ndarray:
    """What follows a quantity with play: it moves only where it is pushed."""
    if not width:
        return q
    out = np.empty_like(q)
    out[0] = q[0] - sign[0] * width / 2
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(sign)) + 1, [sign.size]])
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        s = sign[lo]
        out[lo + 1 : hi + 1] = s * np.maximum(s * out[lo], np.maximum.accumulate(s * q[lo + 1 : hi + 1]) - width / 2)
    return out


def _splines(x: np.ndarray, count: int, derivative: bool = False) -> np.ndarray:
    """Uniform cubic B-splines on 0 ... 1, or their derivatives, one row per x."""
    scaled = np.clip(x, 0.0, 1.0) * (count - 3)
    k = np.minimum(scaled.astype(np.int64), count - 4)
    u = scaled - k
    v, uu = 1 - u, u * u
    if derivative:
        c = (count - 3) / 2
        four = (-c * v * v, c * u * (3 * u - 4), -c * v * (3 * v - 4), c * uu)
    else:
        four = (v**3 / 6, uu * (u / 2 - 1) + 2 / 3, v * v * (v / 2 - 1) + 2 / 3, u * uu / 6)
    out = np.zeros((x.size, count))
    at = k + count * np.arange(x.size)
    for j, part in enumerate(four):
        out.ravel()[at + j] = part
    return out


class Spot:
    """Frames that share one smooth function, and the record of the cell as it is for them (charge less what slipped)."""

    def __init__(
        self, name: str, begin: np.ndarray, end: np.ndarray, marker: np.ndarray, segment: np.ndarray, t: np.ndarray, charge: np.ndarray
    ) -> None:
        self.name, self.segment = name, segment
        self.begin, self.end = begin, end
        self.scale = float(np.subtract(*np.quantile(marker, [0.98, 0.02]))) or 1.0
        self.y = (marker - np.median(marker)) / self.scale
        spacing = np.diff(begin)
        apart = (spacing > 3 * np.median(spacing)) | (np.diff(segment) != 0)
        self.run = np.concatenate([[0], np.cumsum(apart)])
        self.middle, self.half = (begin[0] + begin[-1]) / 2, max((begin[-1] - begin[0]) / 2, 1.0)
        self.t = t
        self.q = (charge - charge.min()) / max(float(np.ptp(charge)), 1e-300)
        passed = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(self.q)))])
        self.passed = 2 * passed / max(passed[-1], 1e-300) - 1
        self.sign = _carried_sign(self.t, self.q)
        self.filter = np.array([0.9])
        self.sigma, self.independent = 0.02, float(marker.size)
        self.shape: np.ndarray | None = None
        self._signals: dict[Model, tuple[Signal, Signal | None]] = {}

    def part(self, keep: np.ndarray) -> Spot:
        """The same, for some of the frames."""
        other = copy.copy(self)
        for name in ("begin", "end", "y", "run", "segment"):
            setattr(other, name, getattr(self, name)[keep])
        return other

    def thinned(self, every: int) -> Spot:
        """A copy that learns for itself, with some of the frames only."""
        return self.part(np.arange(self.y.size) % every == 0)

    def signals(self, model: Model) -> tuple[Signal, Signal | None]:
        """State and hysteresis (-1 discharge ... 1 charge) as functions of time."""
        model = model._replace(size=float(model.size > 0))
        if model not in self._signals:
            turned = None
            if model.size:
                sign = self.sign
                if model.reach > 0:
                    weight = np.abs(np.diff(self.q)) / model.reach
                    h = _relaxed(weight, sign * -np.expm1(-weight), float(sign[0]))
                    turned = Signal(self.t, h[:-1], h[1:])
                else:
                    turned = Signal(self.t, sign, sign)
            q = _play(self.q, self.sign, model.play)
            state = Signal(self.t, q[:-1], q[1:])
            if model.lag:
                state, turned = state.lagged(model.lag), None if turned is None else turned.lagged(model.lag)
            if len(self._signals) > _CACHE:
                self._signals.clear()
            self._signals[model] = (state, turned)
        return self._signals[model]

    def design(self, offset: float, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """Columns the marker is made of, and the standard deviation each one's coefficient has before the data speak."""
        state, turned = self.signals(model)
        begin, end = self.begin + offset, self.end + offset
        charge = state.mean(begin, end)
        since = ((self.begin + self.end) / 2 - self.middle) / self.half
        columns = [_splines(charge, KNOTS), since[:, None], since[:, None] ** 2]
        if self.shape is not None:  # charge that slips moves the marker along its slope
            tilt = _splines(charge, KNOTS, derivative=True) @ self.shape
            passed = np.interp((begin + end) / 2, self.t, self.passed)
            columns += [(tilt * passed)[:, None], (tilt * since)[:, None]]
        if turned is not None:
            h = turned.mean(begin, end)
            columns.append(h[:, None] * _splines(charge, KNOTS_OF_HYSTERESIS))
        return np.concatenate(columns, axis=1), self._prior(model.size)

    def _prior(self, hysteresis: float) -> np.ndarray:
        """Inverse covariance of the coefficients: smooth functions of the size of the marker, trends and slips that are small."""
        blocks = [_roughness(KNOTS, 1.0, 1.0), np.diag([_TREND**-2] * 2)]
        if self.shape is not None:
            blocks.append(np.diag([_SLIP**-2] * 2))
        if hysteresis:
            blocks.append(_roughness(KNOTS_OF_HYSTERESIS, hysteresis, 1.5 * hysteresis))
        out = np.zeros((sum(len(b) for b in blocks),) * 2)
        at = 0
        for block in blocks:
            out[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        return out

    def whiten(self, columns: np.ndarray) -> np.ndarray:
        """Take from each row what the noise of the rows before foretells; rows without as many before them are left out."""
        p = self.filter.size
        out = columns[p:].copy()
        for j, share in enumerate(self.filter, start=1):
            out -= share * columns[p - j : columns.shape[0] - j]
        return out[self.run[p:] == self.run[:-p]]

    def fit(self, offset: float, model: Model) -> Fit:
        """Fit everything but the offset; the evidence is that of the data with the coefficients integrated out."""
        columns, prior = self.design(offset, model)
        x, y = self.whiten(columns), self.whiten(self.y[:, None])[:, 0]
        prior = prior * self.sigma**2
        normal = x.T @ x + prior
        factor = np.linalg.cholesky(normal)
        coefficients = np.linalg.solve(normal, x.T @ y)
        residual = y - x @ coefficients
        squares = float(residual @ residual + coefficients @ prior @ coefficients)
        evidence = -0.5 * y.size * math.log(max(squares, 1e-300)) - float(np.log(np.diag(factor)).sum()) + 0.5 * float(np.linalg.slogdet(prior)[1])
        return Fit(evidence, coefficients, columns @ coefficients, residual, x, normal)

    def learn(self, offset: float, model: Model) -> None:
        """Learn from a fit how the noise hangs together, how the charge slips and how the marker goes with it."""
        fit = self.fit(offset, model)
        if self.shape is not None:
            slips = fit.coefficients[KNOTS + 2 : KNOTS + 4]
            since = np.clip((self.t - offset - self.middle) / self.half, -1.5, 1.5)
            self.q = self.q + slips[0] * self.passed + slips[1] * since
            low, span = self.q.min(), np.ptp(self.q)
            self.q = (self.q - low) / span
            self._signals = {}
        self.shape = fit.coefficients[:KNOTS]
        rest = self.y - fit.fitted
        self.filter = _autoregression(rest, self.run)
        white = self.whiten(rest[:, None])[:, 0]
        share = float(white @ white) / max((1 - self.filter.sum()) ** 2 * float(rest @ rest), 1e-300)
        self.independent = self.y.size / max(share, 1.0)
        self.sigma = max(math.sqrt(float(white @ white) / max(white.size - 20, white.size / 2)), 1e-5)

    def interleaved(self, offset: float, model: Model) -> int:
        """Say after how many frames what is left over comes back, 0 if it does not: then several things were measured by turns.

        Noise that hangs together is less alike the further apart two frames are. If every m-th frame has another function of the charge
        (another place on the sample, another detector), frames m apart are more alike than nearer ones.
        """
        rest = self.y - self.fit(offset, model).fitted
        rest = rest - rest.mean()
        power = float(rest @ rest)
        alike = np.ones(_BY_TURNS + 2)
        for k in range(1, alike.size):
            pairs = rest[k:] * rest[:-k]
            alike[k] = float(pairs[self.run[k:] == self.run[:-k]].sum()) / power if power > 0 and k < rest.size else 0.0
        peak = alike[2:-1] - np.maximum(alike[1:-2], alike[3:])  # against both neighbours: what a slow misfit leaves comes back smoothly
        if peak.max() < max(0.25, 6 / math.sqrt(rest.size)):
            return 0
        return 2 + int(np.argmax(peak > 0.7 * peak.max()))  # the shortest, not a multiple of it

    def inflation(self, offset: float, model: Model) -> float:
        """Say by how much less the frames tell than the noise model has it: what is left over still hangs together."""
        fit = self.fit(offset, model)
        step = 2.0
        there = [self.whiten((self.design(offset + s, model)[0] @ fit.coefficients)[:, None])[:, 0] for s in (-step, step)]
        slope = (there[1] - there[0]) / (2 * step)
        slope = slope - fit.matrix @ np.linalg.solve(fit.normal, fit.matrix.T @ slope)
        score = slope * fit.whitened
        score = score - score.mean()
        n = score.size
        reach = max(int(round(1.5 * n ** (1 / 3))), 4)
        total = float(score @ score)
        for k in range(1, reach + 1):
            total += 2 * (1 - k / (reach + 1)) * float(score[k:] @ score[:-k])
        plain = self.sigma**2 * float(slope @ slope)
        return max(total / plain, 1.0) if plain > 0 else 1.0


@functools.cache
def _roughness(count: int, size: float, bend: float) -> np.ndarray:
    second = np.diff(np.eye(count), 2, axis=0)
    return np.eye(count) / (4 * size**2) + second.T @ second / bend**2


def _autoregression(rest: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Yule and Walker's coefficients of noise that hangs together, over up to three frames."""
    order = 3 if rest.size >= 60 else 1
    rest = rest - rest.mean()
    moments = [float(rest @ rest)]
    for k in range(1, order + 1):
        moments.append(float((rest[k:] * rest[:-k])[run[k:] == run[:-k]].sum()))
    r = np.array(moments) / max(moments[0], 1e-300)
    lags = np.abs(np.arange(order)[:, None] - np.arange(order))
    return np.linalg.solve(r[lags] + 1e-6 * np.eye(order), r[1:])


def usual_rate(t: np.ndarray, q: np.ndarray) -> float:
    """The current under which half of the charge passes."""
    moved, seconds = np.abs(np.diff(q)), np.diff(t)
    if not moved.sum() > 0:
        return 0.0
    rate = moved / seconds
    order = np.argsort(rate)
    return float(rate[order][np.searchsorted(np.cumsum(moved[order]), 0.5 * moved.sum())])


def _carried_sign(t: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Direction of each interval; a rest has that of the charge or discharge before it."""
    rate = np.diff(q) / np.diff(t)
    sign = np.sign(rate) * (np.abs(rate) > 0.02 * usual_rate(t, q))
    at = np.maximum.accumulate(np.where(sign != 0, np.arange(sign.size), -1))
    first = sign[np.flatnonzero(sign)[0]] if (sign != 0).any() else 1.0
    return np.where(at >= 0, sign[np.maximum(at, 0)], first)


def edges_of(t: np.ndarray, q: np.ndarray, width: float) -> np.ndarray:
    """Moments at which the current changes and stays changed for `width` seconds."""
    usual = usual_rate(t, q)
    if usual == 0:
        return np.empty(0)
    rate = np.diff(q) / np.diff(t)
    at = t[1:-1][np.abs(np.diff(rate)) > 0.5 * EDGE * usual]
    before, here, after = (np.interp(at + s, t, q) for s in (-width, 0.0, width))
    change = np.abs((after - here) - (here - before)) / width
    at, change = at[change > EDGE * usual], change[change > EDGE * usual]
    order = np.argsort(-change, kind="stable")
    first = order[np.unique(((at[order] - t[0]) // width).astype(np.int64), return_index=True)[1]]  # the largest of each `width`
    at, change = at[first], change[first]
    near = np.diff(at) < width
    smaller = np.zeros(at.size, bool)
    smaller[1:] |= near & (change[1:] <= change[:-1])
    smaller[:-1] |= near & (change[:-1] < change[1:])
    return at[~smaller]


def refined(t: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave of the record one point every `SPACING` seconds and those at which the current changes, and add points where it has fewer.

    What is added lies on the straight line between records, so that what follows late can bend there. What is left out lay on such a line.
    """
    rate = np.diff(q) / np.diff(t)
    turn = np.concatenate([[True], np.abs(np.diff(rate)) > 0.1 * EDGE * usual_rate(t, q), [True]])
    place = ((t - t[0]) // SPACING).astype(np.int64)
    each = np.concatenate([[True], place[1:] != place[:-1]])
    each[-1] = True
    keep = each | turn
    if keep.sum() > _MOST and keep.sum() > 2 * each.sum():  # a current that is never constant has no edges worth a point each
        keep = each
    t, q = t[keep], q[keep]
    spacing = np.diff(t)
    parts = np.maximum(np.ceil(spacing / max(SPACING, (t[-1] - t[0]) / _MOST)), 1).astype(np.int64)
    first = np.repeat(np.cumsum(parts) - parts, parts)
    share = (np.arange(first.size) - first) / np.repeat(parts, parts)
    fine = np.append(np.repeat(t[:-1], parts) + share * np.repeat(spacing, parts), t[-1])
    return fine, np.interp(fine, t, q)
