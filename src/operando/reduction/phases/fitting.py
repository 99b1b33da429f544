"""Fitting one frame: from a start, cold or warm, to parameters with their covariance and a word on how it ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import median_filter, uniform_filter1d

from operando.reduction.phases.engine import AT_BOUND, CAPPED, CONVERGED, NOT_FITTED, STALLED, Engine, Fit
from operando.reduction.phases.profile import FIXED, PATTERN

_NOTHING_LEFT = 0.01  # a fit ends when all steps that are left are together below a tenth of an esd
_STRAY, _STRAYS = 20.0, 12  # sigma by which a single channel is off that is left out; channels at most
_MEDIAN_OF_SQUARE = 0.4549  # of a normal variable of variance 1
INDISTINCT = 0.95
"""Correlation of two scales above which the pattern does not tell their phases apart."""
_BROADER = (0.6, 0.25, 0.08)  # degrees of FWHM added one after the other at a cold start: lines that miss theirs by that much still find them


@dataclass(frozen=True)
class Noise:
    """Variance of the counts: `gain` x expected, or given outright.

    Attributes
    ----------
    gain
        (channel) variance per unit of intensity; 1 for counts.
    floor
        (channel) least variance.
    given
        (channel) the variance itself, where it does not follow the intensity; else None.
    """

    gain: np.ndarray
    floor: np.ndarray
    given: np.ndarray | None

    def variance(self, expected: np.ndarray) -> np.ndarray:
        """Variance at an expected intensity."""
        return self.given if self.given is not None else np.maximum(self.gain * expected, self.floor)


def noise_of(intensity: np.ndarray, errors: np.ndarray | None) -> Noise:
    """Learn from a frame how its errors go with its intensity.

    Without errors, whole numbers are counts; of others the gain is what neighbouring channels scatter by. With errors that follow sqrt(intensity), as
    those of integrated counts do, the gain is their ratio, smooth over channels; a fit then expects the variance of what the model says, so that a
    channel that happened to count little does not weigh more.
    """
    n, there = intensity.size, np.isfinite(intensity)
    typical = float(np.mean(np.abs(intensity[there]))) if there.any() else 1.0
    variance = np.full(n, np.nan)
    if errors is not None:  # an error of 0 or below is none
        variance = np.where(np.asarray(errors, float) > 0, np.asarray(errors, float), np.nan) ** 2
    usable = np.isfinite(variance) & (variance > 0) & there
    if usable.sum() < max(20, there.sum() // 4):  # no errors, or hardly any
        if np.all(intensity[there] == np.round(intensity[there])):
            return Noise(np.ones(n), np.full(n, 0.5), None)
        bend = intensity[:-2] - 2 * intensity[1:-1] + intensity[2:]  # of variance 6 gain intensity, where no line bends
        level = np.maximum(intensity[1:-1], 1e-3 * typical + 1e-300)
        known = np.isfinite(bend)
        gain = float(np.median(bend[known] ** 2 / (6 * level[known]))) / _MEDIAN_OF_SQUARE if known.any() else 1.0
        gain = max(gain, 1e-300)
        return Noise(np.full(n, gain), np.full(n, gain * 1e-3 * max(typical, 1e-300)), None)
    good = usable & (intensity > 0)
    if good.sum() < max(20, intensity.size // 4):
        return Noise(np.ones(n), np.ones(n), np.where(usable, variance, np.inf))
    ratio = np.interp(np.arange(n), np.flatnonzero(good), (variance[good] / intensity[good]))
    smooth = median_filter(ratio, size=31, mode="nearest")
    # relative scatter about the smooth ratio: counts have none but what low counts make
    if np.median(np.abs(ratio / np.maximum(smooth, 1e-300) - 1)) > 0.15:
        least = np.median(variance[good]) * 1e-4
        return Noise(smooth, np.full(n, least), np.where(usable, np.maximum(variance, least), np.inf))
    return Noise(smooth, smooth * max(float(np.median(intensity[there])) * 1e-3, 1e-300), None)


def solve_linear(rows: np.ndarray, weights: np.ndarray, y: np.ndarray, positive: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of linear terms of which the first `positive` may not be below 0.

    Returns
    -------
    values, normal
        (term), and the normal matrix.
    """
    weighted = rows * weights
    normal, right = weighted @ rows.T, weighted @ y
    held = np.zeros(len(rows), bool)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    values = np.zeros(len(rows))
    for _ in range(2 * positive + 2):
        some = ~held
        part = (normal / np.outer(scale, scale))[np.ix_(some, some)]
        part[np.diag_indices_from(part)] += 1e-12
        values = np.zeros(len(rows))
        values[some] = np.linalg.solve(part, right[some] / scale[some]) / scale[some]
        below = np.flatnonzero(values[:positive] < 0)
        if below.size:
            held[below[np.argmin((values * scale)[below])]] = True
            continue
        slope = right - normal @ values
        wants = [k for k in np.flatnonzero(held) if slope[k] > 1e-9 * scale[k] * np.sqrt(max(float(y @ (weights * y)), 1e-300))]
        if not wants:
            break
        held[max(wants, key=lambda k: slope[k] / scale[k])] = False
    return np.maximum(values, np.where(np.arange(len(rows)) < positive, 0.0, -np.inf)), normal


class Frame:
    """One frame before the engine: data, noise, and how to move the parameters."""

    def __init__(self, engine: Engine, y: np.ndarray, noise: Noise) -> None:
        self.engine, self.noise = engine, noise
        self.good = np.isfinite(y)
        self.y = np.where(self.good, y, 0.0)
        self.p, self.b = len(engine.phases), len(engine.basis)
        self._shown = np.ones(self.p, bool)
        self.strays = 0

    def weights(self, expected: np.ndarray) -> np.ndarray:
        """1 / variance; 0 where there is no datum."""
        return np.where(self.good, 1.0 / self.noise.variance(expected), 0.0)

    def patterns(self, theta: np.ndarray, free: np.ndarray, extra: float = 0.0) -> tuple[np.ndarray, list[np.ndarray]]:
        """Patterns of all phases, and per phase all columns; derivatives only for what is free."""
        engine = self.engine
        blocks = []
        common = {engine.parameters[n].column for n in free if engine.of_phase[n] < 0}
        mine = {(int(engine.of_phase[n]), engine.parameters[n].column) for n in free}
        for k in range(self.p):
            size = FIXED + len(engine.phases[k].crystal.free)
            wanted = np.array([c == PATTERN or c in common or (k, c) in mine for c in range(size)]) if free.size else None
            blocks.append(engine.columns(theta, k, wanted, extra=extra))
        return np.array([block[0] for block in blocks]) * self._shown[:, None], blocks

    def jacobian(self, blocks: list[np.ndarray], scales: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Derivatives of the model by the free parameters, (parameter, channel)."""
        engine = self.engine
        rows = np.zeros((free.size, self.y.size))
        for i, n in enumerate(free):
            parameter = engine.parameters[n]
            if parameter.phase is not None:
                rows[i] = scales[parameter.phase] * blocks[parameter.phase][parameter.column]
                continue
            layer = n - 1 if parameter.name.startswith("displacement") else None
            for k, block in enumerate(blocks):
                if scales[k] > 0 and (layer is None or engine.layers.index(engine.phases[k].recipe.layer or "") == layer):
                    rows[i] += scales[k] * block[parameter.column]
        return rows

    def fit(
        self,
        theta: np.ndarray,
        active: np.ndarray,
        *,
        extra: float = 0.0,
        cap: int | None = None,
        weights: np.ndarray | None = None,
        only: np.ndarray | None = None,
        shown: np.ndarray | None = None,
    ) -> Fit:
        """Move the parameters of active phases to the least squares.

        Parameters
        ----------
        theta
            Where to start.
        active
            Phases whose lattice and widths may move.
        extra
            FWHM (degrees) by which all lines are broadened, for a cold start.
        cap
            Steps at most; the recipe's by default.
        weights
            By default those of what the model expects, renewed once it fits.
        only
            Parameters that may move, of those that are free.
        shown
            Phases that take part at all; by default every one.
        """
        engine = self.engine
        self._shown = np.ones(self.p, bool) if shown is None else shown
        cap = engine.recipe.max_iterations if cap is None else cap
        movable = engine.may & ((engine.of_phase < 0) | active[engine.of_phase])
        if not active.any():
            movable[:] = False
        if only is not None:
            movable &= only
        free = np.flatnonzero(movable)
        theta = np.clip(theta, engine.low, engine.high)
        now = self._at(theta, free, extra, weights)
        if weights is None:
            now = self._at(theta, free, extra, self.weights(np.maximum(now.model, now.under)), now)
        damping, status, steps, renewed = 1e-3, CAPPED, 0, weights is not None
        while True:
            left = self._decrement(now, theta, free)
            if left < _NOTHING_LEFT * max(now.objective / self.y.size, 1e-300):
                status = CONVERGED
                if renewed:
                    break
                renewed, status = True, CAPPED
                now = self._at(theta, free, extra, self.weights(np.maximum(now.model, now.under)), now)
                continue
            if steps >= cap:
                break
            steps += 1
            for _ in range(10):
                tried = theta.copy()
                tried[free] = np.clip(theta[free] + self._step(now, theta, free, damping), engine.low[free], engine.high[free])
                after = self._at(tried, free, extra, now.weights)
                if after.objective < now.objective:
                    break
                damping = min(damping * 10, 1e9)
            else:
                status = STALLED
                break
            won = now.objective - after.objective
            theta, now = tried, after
            damping = max(damping * (0.1 if won > 0.3 * left else 0.5), 1e-7)
        return self._finished(theta, active, free, now, status, steps)

    # ------------------------------------------------------------------ pieces

    @dataclass
    class Point:
        """The model at one point."""

        scales: np.ndarray
        background: np.ndarray
        model: np.ndarray
        under: np.ndarray
        rows: np.ndarray
        jacobian: np.ndarray
        weights: np.ndarray
        objective: float
        patterns: np.ndarray
        blocks: list[np.ndarray]
        normal: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        answers: tuple[np.ndarray, np.ndarray] | None = None

    def _at(self, theta: np.ndarray, free: np.ndarray, extra: float, weights: np.ndarray | None, known: Point | None = None) -> Point:
        engine = self.engine
        if known is None:
            patterns, blocks = self.patterns(theta, free, extra)
        else:
            patterns, blocks = known.patterns, known.blocks
        rows = np.concatenate([patterns, engine.basis])
        if weights is None:
            smooth = uniform_filter1d(np.maximum(self.y, 0.0), 5)
            weights = self.weights(np.maximum(smooth, np.median(self.y[self.good]) * 0.05))
        values, _ = solve_linear(rows, weights, self.y, self.p)
        scales, background = values[: self.p], values[self.p :]
        under = background @ engine.basis
        model = scales @ patterns + under
        residual = self.y - model
        pull = ((theta - engine.start) / engine.prior)[engine.may]
        objective = float(residual @ (weights * residual)) + float(pull @ pull)
        jacobian = self.jacobian(blocks, scales, free)
        return self.Point(scales, background, model, under, rows, jacobian, weights, objective, patterns, blocks)

    def _linear_part(self, now: Point) -> np.ndarray:
        """Linear terms that are in play: scales at 0 are not."""
        return np.concatenate([np.flatnonzero(now.scales > 0), self.p + np.arange(self.b)])

    def _normal(self, now: Point, theta: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give normal matrix and slope of the free parameters with the linear terms projected out, and which of them may move.

        A parameter that stands at its bound and wants to go beyond may not.
        """
        if now.normal is None:
            engine = self.engine
            weighted = now.jacobian * now.weights
            linear = now.rows[self._linear_part(now)]
            jl = weighted @ linear.T
            ll = (linear * now.weights) @ linear.T
            ll[np.diag_indices_from(ll)] *= 1 + 1e-12
            slope = weighted @ (self.y - now.model) - (theta[free] - engine.start[free]) / engine.prior[free] ** 2
            normal = weighted @ now.jacobian.T - jl @ np.linalg.solve(ll, jl.T)
            normal[np.diag_indices_from(normal)] += 1.0 / engine.prior[free] ** 2
            blocked = ((theta[free] <= engine.low[free]) & (slope < 0)) | ((theta[free] >= engine.high[free]) & (slope > 0))
            now.normal = normal, slope, np.flatnonzero(~blocked)
        return now.normal

    def _decrement(self, now: Point, theta: np.ndarray, free: np.ndarray) -> float:
        """Give by how much the objective would still fall, in a linear model."""
        normal, slope, go = self._normal(now, theta, free)
        return float(slope[go] @ self._solve(normal, slope, go, 1e-10)) if go.size else 0.0

    def _step(self, now: Point, theta: np.ndarray, free: np.ndarray, damping: float) -> np.ndarray:
        """Give a step of the free parameters."""
        normal, slope, go = self._normal(now, theta, free)
        step = np.zeros(free.size)
        step[go] = self._solve(normal, slope, go, damping)
        return step

    @staticmethod
    def _solve(normal: np.ndarray, slope: np.ndarray, go: np.ndarray, damping: float) -> np.ndarray:
        part = normal[np.ix_(go, go)]
        size = np.sqrt(np.maximum(np.diag(part), 1e-300))
        scaled = part / np.outer(size, size)
        scaled[np.diag_indices_from(scaled)] = 1.0 + damping
        for more in (0.0, 1e-8, 1e-5, 1e-2):
            try:
                scaled[np.diag_indices_from(scaled)] += more
                return np.asarray(cho_solve(cho_factor(scaled, check_finite=False), slope[go] / size, check_finite=False) / size)
            except np.linalg.LinAlgError:
                continue
        return np.asarray(slope[go] / size**2)

    def _finished(self, theta: np.ndarray, active: np.ndarray, free: np.ndarray, now: Point, status: int, steps: int) -> Fit:
        engine = self.engine
        held = (theta[free] <= engine.low[free]) | (theta[free] >= engine.high[free])
        may_be_zero = np.array([engine.parameters[n].column in (6, 7) for n in free], bool)  # X and Y end at 0 honestly
        if status == CONVERGED and np.any(held & ~(may_be_zero & (theta[free] <= engine.low[free]))):
            status = AT_BOUND
        residual = self.y - now.model
        chi2 = float(residual @ (now.weights * residual))
        channels = int(self.good.sum())
        parameters = free.size + self.p + self.b
        total = float(self.y @ (now.weights * self.y))
        dof = max(channels - parameters, 1)
        fit = Fit(theta, now.scales, now.background, active.copy(), status, steps, chi2, chi2 / dof)
        fit.rwp = float(np.sqrt(chi2 / max(total, 1e-300)))
        fit.calculated, fit.under, fit.free, fit.weights, fit.left_out = now.model, now.under, free, now.weights, self.strays
        fit.covariance, fit.robust = self._covariances(now, theta, free, channels, fit.chi2_reduced)
        return fit

    def _covariances(self, now: Point, theta: np.ndarray, free: np.ndarray, channels: int, chi2_reduced: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the covariance of (scales, free parameters, humps): from the counts alone, and from what is really left over.

        The second is a sandwich: the scores are added up over stretches of some line widths, so that misfits that are alike over a line count as one
        (Newey & West, Econometrica 55 (1987) 703). Scales at 0 take part as if they could go below.
        """
        engine = self.engine
        rows = np.concatenate([now.rows[: self.p], now.jacobian, now.rows[self.p :]])
        weighted = rows * now.weights
        normal = weighted @ rows.T
        at = self.p + np.arange(free.size)
        normal[at, at] += 1.0 / engine.prior[free] ** 2
        size = np.sqrt(np.where(np.diag(normal) > 0, np.diag(normal), 1.0))
        scaled = normal / np.outer(size, size)
        scaled[np.diag_indices_from(scaled)] += 1e-13
        inverse = np.linalg.pinv(scaled, hermitian=True, rcond=1e-12) / np.outer(size, size)
        humps = self.p + free.size + engine.recipe.background.degree + 1 + np.arange(len(engine.humps))
        keep = np.concatenate([np.arange(self.p + free.size), humps])
        plain = inverse[np.ix_(keep, keep)]
        scores = weighted * (self.y - now.model)
        width = int(np.clip(self._line_channels(theta) * 2, 3, channels // 8))
        total = np.cumsum(np.concatenate([np.zeros((len(rows), width)), scores, np.zeros((len(rows), width))], axis=1), axis=1)
        sums = total[:, width:] - total[:, :-width]
        meat = sums @ sums.T / width * (channels / max(channels - len(rows), 1))
        sandwich = (inverse @ meat @ inverse)[np.ix_(keep, keep)]
        return plain, sandwich

    def _line_channels(self, theta: np.ndarray) -> float:
        """Typical width of a line, in channels."""
        engine = self.engine
        w = theta[engine.caglioti_at[2]]
        x = [theta[at["X"]] for at in engine.index_of]
        step = float(np.median(np.diff(engine.two_theta)))
        return float((np.sqrt(max(w, 0.0)) + np.median(x)) / max(step, 1e-9))

    # ------------------------------------------------------------------ if the model were otherwise

    def point(self, fit: Fit) -> Point:
        """Give the model at a fit, ready to be asked how parameters answer to a change of it."""
        self._shown = np.ones(self.p, bool)
        now = self._at(fit.theta, fit.free, 0.0, self.weights(np.asarray(fit.calculated, float)))
        now.answers = self._inverse(now, now.rows[self.p :], fit.free)
        return now

    def _inverse(self, now: Point, background: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the inverse normal matrix of (scales, free parameters, background), and the weighted rows it belongs to."""
        rows = np.concatenate([now.rows[: self.p], now.jacobian, background])  # scales at 0 take part: they could come up
        weighted = rows * now.weights
        normal = weighted @ rows.T
        at = self.p + np.arange(free.size)
        normal[at, at] += 1.0 / self.engine.prior[free] ** 2
        size = np.sqrt(np.where(np.diag(normal) > 0, np.diag(normal), 1.0))
        inverse = np.linalg.pinv(normal / np.outer(size, size), hermitian=True, rcond=1e-10) / np.outer(size, size)
        return inverse, weighted

    def response(self, now: Point, change: np.ndarray) -> np.ndarray:
        """Give by how much (scales, free parameters) would differ if the model were `change` higher, to first order."""
        inverse, weighted = now.answers  # type: ignore[misc]
        return -(inverse @ (weighted @ change))[: self.p + len(now.jacobian)]

    def other_background(self, now: Point, fit: Fit, basis: np.ndarray) -> np.ndarray:
        """Give by how much they would differ with other terms of the background, to first order."""
        inverse, weighted = self._inverse(now, basis, fit.free)
        held = np.concatenate([np.where(now.scales > 0, now.scales, 0.0), np.zeros(fit.free.size)])
        values = inverse @ (weighted @ (self.y + 0.0))
        linear = values[: held.size]
        # the scales come out whole, the other parameters as steps
        return np.where(np.arange(held.size) < self.p, linear - held, linear)

    # ------------------------------------------------------------------ ways to begin

    def detected(self, fit: Fit) -> np.ndarray:
        """Say which phases are there: their scale stands out from its uncertainty."""
        sigma = np.sqrt(np.maximum(np.diag(fit.robust)[: self.p], np.diag(fit.covariance)[: self.p] * max(fit.chi2_reduced, 1.0)))
        there = np.asarray(fit.scales > self.engine.recipe.detection * sigma)
        plain = np.sqrt(np.maximum(np.diag(fit.covariance)[: self.p], 1e-300))
        related = np.abs(fit.covariance[: self.p, : self.p] / np.outer(plain, plain)) - np.eye(self.p)
        for k in np.flatnonzero(fit.active & ~there):
            # of two that are not told apart neither stands out, and yet one of them is there: the one that was
            other = int(np.argmax(related[k]))
            alone = sigma[k] * np.sqrt(max(1 - related[k, other] ** 2, 0.0))
            there[k] = related[k, other] > INDISTINCT and not fit.active[other] and fit.scales[k] > self.engine.recipe.detection * alone
        return there

    def cold(self) -> Fit:
        """Fit from nothing but the recipe: its start values, lines broadened first, lattices looked for in all of their range; the best counts."""
        engine = self.engine
        every = np.ones(self.p, bool)
        fits = [self.settle(engine.start.copy(), every)]
        lattices = np.array([(p.column >= FIXED or p.column in (1, 2)) for p in engine.parameters])
        for start in (engine.start, self._placed()):
            theta, active = start.copy(), every
            for extra in _BROADER:
                rough = self.fit(theta, active, extra=extra, cap=8, only=lattices)
                active = self.detected(rough)
                theta = np.where((engine.of_phase < 0) | active[engine.of_phase], rough.theta, start)
            fits.append(self.settle(theta, active))
        best, before = min(fits, key=lambda fit: fit.chi2), self.strays
        best = self._without_strays(best.theta, best.active, best)
        if self.strays > before:
            return self.cold()
        # what was not found goes back to the recipe's lattice: where it explained most of the noise it would read more than nothing
        there = (engine.of_phase < 0) | best.active[engine.of_phase]
        if np.any(best.theta[~there] != engine.start[~there]):
            best = self.settle(np.where(there, best.theta, engine.start), best.active)
        return self._exchanged(self._completed(best))

    def _exchanged(self, fit: Fit) -> Fit:
        """Give lines that a phase of narrow range took to one of wide range that could have them as well.

        Beside it the narrow one is told from it or not, and its uncertainty and flags say so. The other way round the wide one would be held
        far away, where it surely reads nothing.
        """
        engine = self.engine
        places = [slice(at["metric_0"], at["metric_0"] + len(phase.crystal.names)) for at, phase in zip(engine.index_of, engine.phases, strict=True)]
        for k in np.flatnonzero(~fit.active):
            for j in np.flatnonzero(fit.active):
                mine, its = places[k], places[j]
                if engine.phases[k].crystal.system != engine.phases[j].crystal.system or not engine.may[mine].all():
                    continue
                there = fit.theta[its]
                wider = np.prod(engine.high[mine] - engine.low[mine]) > 2 * np.prod(engine.high[its] - engine.low[its])
                if not wider or np.any(there < engine.low[mine]) or np.any(there > engine.high[mine]):
                    continue
                theta, active = fit.theta.copy(), fit.active.copy()
                theta[mine], theta[its] = there, engine.start[its]
                active[k], active[j] = True, False
                alone = np.arange(self.p) != j
                found = self.fit(self.fit(theta, active & alone, shown=alone).theta, active)
                if found.chi2 < fit.chi2 + engine.recipe.detection**2 * max(fit.chi2_reduced, 1.0):
                    return found
        return fit

    def _placed(self) -> np.ndarray:
        """Place one phase after the other where it explains most, the one that explains most first."""
        engine = self.engine
        theta, left, placed = engine.start.copy(), set(range(self.p)), np.zeros(self.p, bool)
        for _ in range(self.p):
            fit = self.fit(theta, np.zeros(self.p, bool), shown=placed)
            found = [(score, k, where) for k in left for score, where in [self.search(fit, k)] if where is not None]
            if not found:
                break
            _, k, theta = max(found, key=lambda one: one[0])
            left.remove(k)
            placed[k] = True
        return theta

    def settle(self, theta: np.ndarray, active: np.ndarray) -> Fit:
        """Fit, and let phases come and go until those that are fitted are those that are there."""
        engine = self.engine
        fit = self.fit(theta, active)
        seen = {tuple(active)}
        for _ in range(4):
            there = self.detected(fit)
            if np.array_equal(there, active) or tuple(there) in seen:
                break
            seen.add(tuple(there))
            # a phase that went keeps the lattice from which this fit began: it cannot wander with the noise
            theta = np.where((engine.of_phase < 0) | there[engine.of_phase], fit.theta, theta)
            active = there
            fit = self.fit(theta, active)
        return fit

    def warm(self, before: Fit) -> Fit:
        """Fit from the frame before; phases that were not there are looked for in all of their range."""
        return self._completed(self._without_strays(before.theta.copy(), before.active.copy()))

    def _without_strays(self, theta: np.ndarray, active: np.ndarray, fit: Fit | None = None) -> Fit:
        """Fit, and leave out single channels that are far off while their neighbours are not: one would pull all that is fitted."""
        fit = self.settle(theta, active) if fit is None else fit
        while self.strays < _STRAYS:
            off = (self.y - fit.calculated) ** 2 * self.weights(np.asarray(fit.calculated, float))
            worst = int(np.argmax(off))
            beside = max(off[max(worst - 1, 0)], off[min(worst + 1, off.size - 1)])
            if not (off[worst] > _STRAY**2 and off[worst] > 25 * beside and off[worst] > 0.1 * off.sum()):
                break
            self.good[worst], self.y[worst] = False, 0.0
            self.strays += 1
            fit = self.settle(theta, active)
        return fit

    def _completed(self, fit: Fit) -> Fit:
        """Look for the phases that are held, and take in those that are found and explain enough."""
        for k in np.flatnonzero(~fit.active):
            _, theta = self.search(fit, int(k))
            if theta is None:
                continue
            active = fit.active.copy()
            active[k] = True
            found = self.settle(theta, active)
            if found.active[k] and found.chi2 < fit.chi2 - self.engine.recipe.detection**2 * max(fit.chi2_reduced, 1.0):
                fit = found
        return fit

    def search(self, fit: Fit, k: int) -> tuple[float, np.ndarray | None]:
        """Look for a phase along each of its lattice parameters, and along its curve of solid solution: where it would explain most of what is left.

        Returns
        -------
        score, start
            By how much chi^2 would fall, and parameters to start from; None where nothing stands out.
        """
        engine = self.engine
        first = engine.index_of[k]["metric_0"]
        whole = np.arange(first, first + len(engine.phases[k].crystal.names))
        lattice = [int(n) for n in whole if engine.may[n]]
        if not lattice:
            return 0.0, None
        weights = self.weights(np.asarray(fit.calculated, float))
        residual = np.where(self.good, self.y - fit.calculated, 0.0)
        others = [engine.columns(fit.theta, j, None)[0] for j in range(self.p) if fit.scales[j] > 0 and j != k]
        rows = np.concatenate([np.array(others).reshape(len(others), self.y.size), engine.basis])
        if fit.scales[k] > 0:
            residual = residual + fit.scales[k] * engine.columns(fit.theta, k, None)[0]
        weighted = rows * weights
        inverse = np.linalg.pinv(weighted @ rows.T, hermitian=True)
        right = weights * residual - weighted.T @ (inverse @ (weighted @ residual))
        extra = 0.5 * self._line_degrees(fit.theta)

        def score(theta: np.ndarray) -> float:
            shape = engine.columns(theta, k, None, extra=extra)[0]
            along, across = float(shape @ right), weighted @ shape
            own = float(shape @ (weights * shape)) - float(across @ (inverse @ across))
            return along**2 / own if along > 0 and own > 0 else 0.0

        def scan(theta: np.ndarray, n: int) -> tuple[float, np.ndarray]:
            # lines move by tan(theta) d(1/d^2) d^2: steps of about a line's width in the middle of the range
            middle = np.radians((engine.two_theta[0] + engine.two_theta[-1]) / 4)
            move = np.degrees(np.tan(middle)) * (engine.high[n] - engine.low[n]) / max(abs(engine.start[n]), 1e-9)
            tried = [theta]
            for value in np.linspace(engine.low[n], engine.high[n], int(np.clip(move / max(extra, 1e-6), 3, 41))):
                tried.append(theta.copy())
                tried[-1][n] = value
            return max(((score(one), one) for one in tried), key=lambda pair: pair[0])

        starts = [fit.theta, *self._curve(fit.theta, k, whole)]
        best, at = max(((score(one), one) for one in starts), key=lambda pair: pair[0])
        for n in (*lattice, *(lattice if len(lattice) > 1 else [])):
            found, where = scan(at, n)
            if found > best:
                best, at = found, where
        return (best, at) if best > engine.recipe.detection**2 * max(fit.chi2_reduced, 1.0) else (0.0, None)

    def _curve(self, theta: np.ndarray, k: int, whole: np.ndarray) -> list[np.ndarray]:
        """Give the lattices along the curve of a solid solution."""
        phase, out = self.engine.phases[k], []
        for crystal, after in zip(phase.crystals[:-1], phase.crystals[1:], strict=True) if phase.points else ():
            for share in np.linspace(0, 1, 6)[:-1]:
                one = theta.copy()
                one[whole] = np.clip((1 - share) * crystal.free + share * after.free, self.engine.low[whole], self.engine.high[whole])
                out.append(one)
        return out

    def _line_degrees(self, theta: np.ndarray) -> float:
        """Typical width of a line, degrees."""
        return self._line_channels(theta) * float(np.median(np.diff(self.engine.two_theta)))


def not_fitted(engine: Engine) -> Fit:
    """What a frame gets that cannot be fitted."""
    return Fit(
        engine.start.copy() * np.nan,
        np.full(len(engine.phases), np.nan),
        np.full(len(engine.basis), np.nan),
        np.zeros(len(engine.phases), bool),
        NOT_FITTED,
    )
