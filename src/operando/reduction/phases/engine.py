"""The least-squares engine: patterns of several phases on one grid, fitted frame by frame.

Scales and background enter linearly and are solved for at every step, scales not below 0 (variable projection, Golub & Pereyra, Inverse Problems 19
(2003) R1); lattice, widths, zero, displacement and texture are moved by Levenberg and Marquardt's method with analytic derivatives, within bounds
and with weak priors. Weights are 1 / variance of the counts that the model expects, not of those that happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.contract import ContractError
from operando.reduction.phases.crystal import Crystal, Reflections
from operando.reduction.phases.profile import FIXED, SHIFT, TEXTURE, ZERO, U, V, W, X, Y, kernels, march
from operando.reduction.phases.recipe import PhaseRecipe, PhasesRecipe

CONVERGED, CAPPED, STALLED, NOT_FITTED, AT_BOUND = 0, 1, 2, 3, 4
STATUS = {CONVERGED: "converged", CAPPED: "iteration_cap", STALLED: "stalled", NOT_FITTED: "not_fitted", AT_BOUND: "at_bound"}
_PLACE = {"flat-detector": 2.0, "bragg-brentano": 1.0, "debye-scherrer": 0.0}


@dataclass(frozen=True)
class Parameter:
    """One nonlinear parameter."""

    name: str
    phase: int | None
    column: int
    start: float
    low: float
    high: float
    prior: float
    """1 sigma of the weak prior about `start`; infinite for none."""
    free: bool


@dataclass
class Fit:
    """One frame, fitted.

    Attributes
    ----------
    theta
        Nonlinear parameters.
    scales, background
        Linear ones.
    active
        Per phase: detected, its lattice and widths fitted.
    covariance
        Of scales, free parameters and humps, from the normal equations alone.
    robust
        The same allowing for what the model does not describe (`Frame.fit`).
    left_out
        Channels that were left out because each alone was far off: hot pixels, single readings.
    """

    theta: np.ndarray
    scales: np.ndarray
    background: np.ndarray
    active: np.ndarray
    status: int = NOT_FITTED
    iterations: int = 0
    chi2: float = np.nan
    chi2_reduced: float = np.nan
    rwp: float = np.nan
    calculated: np.ndarray = field(default_factory=lambda: np.zeros(0))
    under: np.ndarray = field(default_factory=lambda: np.zeros(0))
    free: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    robust: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    left_out: int = 0


class Phase:
    """One phase on one grid: its reflections, and how strong they are for a lattice and a composition."""

    def __init__(self, name: str, recipe: PhaseRecipe, waves: np.ndarray, d_range: tuple[float, float], b_iso: float) -> None:
        self.name, self.recipe = name, recipe
        self.points = sorted(recipe.solid_solution.points, key=lambda p: p.x) if recipe.solid_solution else []
        self.crystals = [Crystal(recipe.at(p), float(waves[0]), b_iso) for p in self.points] or [Crystal(recipe.structure, float(waves[0]), b_iso)]
        self.crystal = Crystal(recipe.structure, float(waves[0]), b_iso)
        reach = 1.0 + (recipe.lattice_range if isinstance(recipe.lattice_range, float) else 0.05)
        self.reflections: Reflections = self.crystal.reflections(d_range[0] / reach, d_range[1] * reach)
        self.axis = recipe.texture.axis if recipe.texture else (0, 0, 1)
        self._sums = [crystal.squared_families(self.reflections) for crystal in self.crystals]
        self._last: tuple[Any, np.ndarray] = None, np.zeros(0)
        self._last_texture: tuple[Any, tuple[np.ndarray, np.ndarray]] = None, (np.zeros(0), np.zeros(0))
        self._members: tuple[np.ndarray, np.ndarray] | None = None

    def x_of(self, cell: np.ndarray) -> float:
        """Composition (1) that belongs to a lattice, linear between the points and beyond them; nan for a phase that is no solid solution."""
        if not self.points:
            return np.nan
        x, values = self.curve
        where = cell[("a", "b", "c", "alpha", "beta", "gamma").index(self.recipe.solid_solution.follows)]  # type: ignore[union-attr]
        order = np.argsort(values)
        v, xs = values[order], x[order]
        k = int(np.clip(np.searchsorted(v, where) - 1, 0, v.size - 2))
        return float(xs[k] + (where - v[k]) * (xs[k + 1] - xs[k]) / (v[k + 1] - v[k]))

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """X of the points, and the lattice parameter that x follows."""
        name = self.recipe.solid_solution.follows  # type: ignore[union-attr]
        return np.array([p.x for p in self.points]), np.array([p.lattice[name] for p in self.points])

    def strength(self, free: np.ndarray, inverse: np.ndarray, b_shift: float = 0.0) -> np.ndarray:
        """Give the sum of |F|^2 over each family (electrons^2) at a lattice, 1/d^2 of each family beside it."""
        key = (free.tobytes(), b_shift)
        if self._last[0] != key:  # while other parameters move, or while a phase is held, it is the same again and again
            if not self.points:
                made = self._sums[0](inverse, b_shift)
            else:
                k, ahead = self._between(self.crystal.cell_from(free))
                made = np.asarray((1 - ahead) * self._sums[k](inverse, b_shift) + ahead * self._sums[k + 1](inverse, b_shift))
            self._last = key, made
        return self._last[1]

    def _between(self, cell: np.ndarray) -> tuple[int, float]:
        """Give the points between which a lattice lies, and how far it is on the way; not beyond the last."""
        x = np.array([p.x for p in self.points])
        at = float(np.clip(self.x_of(cell), x[0], x[-1]))
        k = int(np.clip(np.searchsorted(x, at) - 1, 0, x.size - 2))
        return k, float((at - x[k]) / (x[k + 1] - x[k]))

    def texture(self, free: np.ndarray, r: float, across: bool, inverse: np.ndarray, wavelength: float) -> tuple[np.ndarray, np.ndarray]:
        """Give March's factor of each family and its derivative by r, members weighted by their |F|^2."""
        key = (free.tobytes(), r)
        if self._last_texture[0] != key:
            family, count = self.reflections.family, len(self.reflections.hkl)
            if self._members is None:
                near = self.crystals[len(self.crystals) // 2].squared(self.reflections.members)
                self._members = near / np.maximum(np.bincount(family, near, count)[family], 1e-300), self._cosines(self.crystal.cell)
            part, cosine2 = self._members
            theta = np.arcsin(np.minimum(wavelength / 2 * np.sqrt(inverse), 1.0))[family]
            one, by_r = march(cosine2, r, across, theta)
            self._last_texture = key, (np.bincount(family, one * part, count), np.bincount(family, by_r * part, count))
        return self._last_texture[1]

    def _cosines(self, cell: np.ndarray) -> np.ndarray:
        from operando.reduction.phases.crystal import reciprocal_metric

        g = reciprocal_metric(cell)
        metric = np.array([[g[0], g[3], g[4]], [g[3], g[1], g[5]], [g[4], g[5], g[2]]])
        axis, hkl = np.array(self.axis, float), self.reflections.members.astype(float)
        dot = hkl @ metric @ axis
        return np.clip(dot**2 / ((hkl @ metric * hkl).sum(1) * (axis @ metric @ axis)), 0.0, 1.0)

    def mass(self, cell: np.ndarray) -> tuple[float, float]:
        """Give Z M (g/mol of cells) and M (g/mol of formula units) at a lattice."""
        if not self.points:
            return self.crystal.cell_mass, self.crystal.molar_mass
        x = np.array([p.x for p in self.points])
        at = np.clip(self.x_of(cell), x[0], x[-1])
        masses = [float(np.interp(at, x, [getattr(c, what) for c in self.crystals])) for what in ("cell_mass", "molar_mass")]
        return masses[0], masses[1]


class Engine:
    """All phases of a recipe on one grid.

    Parameters
    ----------
    recipe
        The recipe.
    two_theta
        Degrees, rising.
    waves, shares
        Wavelengths (angstrom) and their intensities relative to the first.

    Raises
    ------
    ContractError
        A phase without a reflection in the range, fewer channels than parameters.
    """

    def __init__(self, recipe: PhasesRecipe, two_theta: np.ndarray, waves: np.ndarray, shares: np.ndarray) -> None:
        self.recipe = recipe
        self.waves, self.shares = np.asarray(waves, float), np.asarray(shares, float)
        if not (np.all(self.waves > 0.01) and np.all(self.waves < 10)):
            raise ContractError("the wavelength is not one of X-rays", found=self.waves.tolist(), expected="between 0.01 and 10 angstrom")
        whole = np.asarray(two_theta, float)
        self.used = self._used(whole)
        self.two_theta = whole[self.used]
        if self.two_theta.size < 20:
            raise ContractError("too few channels to fit", found=f"{self.two_theta.size} of {whole.size} in the range", expected="at least 20")
        self.humps = self._humps()
        self.basis = background_basis(self.two_theta, recipe.background.degree, self.humps, recipe.background.inverse)
        low, high = (np.sin(np.radians(x / 2)) for x in (max(self.two_theta[0] - 1.5, 0.1), min(self.two_theta[-1] + 1.5, 179.0)))
        d_range = (self.waves.min() / 2 / high, self.waves.max() / 2 / low)
        self.phases = [Phase(name, p, self.waves, d_range, recipe.b_iso) for name, p in recipe.phases.items()]
        for phase in self.phases:
            inside = self._inside(phase)
            if not inside:
                raise ContractError(
                    f"no line of {phase.name} lies in the range",
                    found=f"{self.two_theta[0]:.3g} to {self.two_theta[-1]:.3g} degrees at {self.waves[0]:.5g} angstrom",
                    hint="correct the range, the wavelength, or leave the phase out",
                )
        self.layers = list(dict.fromkeys(p.layer or "" for p in recipe.phases.values()))
        self.parameters = self._parameters()
        self.start = np.array([p.start for p in self.parameters])
        self.low = np.array([p.low for p in self.parameters])
        self.high = np.array([p.high for p in self.parameters])
        self.prior = np.array([p.prior for p in self.parameters])
        self.may = np.array([p.free for p in self.parameters], bool)
        self.of_phase = np.array([-1 if p.phase is None else p.phase for p in self.parameters])
        n = int(self.may.sum()) + len(self.phases) + len(self.basis)
        if self.two_theta.size <= n:
            raise ContractError(
                "fewer channels than parameters", found=f"{self.two_theta.size} channels, {n} parameters", hint="refine less, or widen the range"
            )
        self._optics = np.array([recipe.instrument.k, 1.0 if recipe.instrument.slit == "automatic" else 0.0])

    def _angle(self, q: float) -> float:
        """2theta (degrees) of q (1/angstrom) at the first wavelength."""
        return float(2 * np.degrees(np.arcsin(np.clip(q * self.waves[0] / (4 * np.pi), -1.0, 1.0))))

    def _humps(self) -> tuple[tuple[float, float], ...]:
        """Centre and FWHM (degrees) of the humps whose centre lies in the range."""
        asked = self.recipe.background
        made = [(self._angle(q), self._angle(q + wide / 2) - self._angle(q - wide / 2)) for q, wide in asked.humps_q]
        return tuple((at, wide) for at, wide in (*asked.humps, *made) if self.two_theta[0] < at < self.two_theta[-1])

    def _used(self, two_theta: np.ndarray) -> np.ndarray:
        recipe = self.recipe
        low, high = recipe.two_theta_range or (-np.inf, np.inf)
        if recipe.q_range:
            low, high = (self._angle(q) for q in recipe.q_range)
        keep = (two_theta >= low) & (two_theta <= high) & (two_theta > 0.05)
        for a, b in recipe.exclude:
            keep &= ~((two_theta >= a) & (two_theta <= b))
        return keep

    def _inside(self, phase: Phase) -> bool:
        sine = self.waves[0] / 2 * np.sqrt(phase.reflections.terms @ phase.crystal.free) if phase.reflections.terms.size else np.array([])
        sine = sine[sine < 0.9999]
        angle = 2 * np.degrees(np.arcsin(sine))
        gaps = np.searchsorted(self.two_theta, angle)
        near = np.abs(self.two_theta[np.clip(gaps, 0, self.two_theta.size - 1)] - angle) < 0.5 if angle.size else np.array([False])
        return bool(np.any(near))

    # ------------------------------------------------------------------ parameters

    def _parameters(self) -> list[Parameter]:
        ins, out = self.recipe.instrument, []
        reach = ins.zero_range
        out.append(Parameter("zero", None, ZERO, ins.zero, ins.zero - reach, ins.zero + reach, reach / 2, "zero" in ins.refine))
        for layer in self.layers:
            name = f"displacement{'_' + layer if layer else ''}"
            out.append(Parameter(name, None, SHIFT, 0.0, -reach, reach, reach / 2, "displacement" in ins.refine))
        for name, column, start in zip("UVW", (U, V, W), ins.caglioti, strict=True):
            width = max(ins.caglioti[2], 1e-5)
            bounds = (-width * 20, width * 20) if name != "W" else (width * 1e-3, width * 400)
            out.append(Parameter(name, None, column, start, *bounds, np.inf if name == "W" else 4 * width, name in ins.refine))
        for k, phase in enumerate(self.phases):
            p = phase.recipe
            for j, (value, name) in enumerate(zip(phase.crystal.free, phase.crystal.names, strict=True)):
                low, high, prior = self._lattice_bounds(phase, j, name, value)
                out.append(Parameter(f"metric_{j}", k, FIXED + j, value, low, high, prior, "lattice" in p.refine))
            x0 = float(np.degrees(0.9 * self.waves[0] / 10.0 / p.size)) if p.size < 1000 else 0.0
            top = float(np.degrees(0.9 * self.waves[0] / 10.0 / 3.0))
            out.append(Parameter("X", k, X, min(x0, top), 0.0, top, np.inf, "size" in p.refine))
            out.append(Parameter("Y", k, Y, float(np.degrees(4 * p.strain)), 0.0, float(np.degrees(4 * 0.03)), np.inf, "strain" in p.refine))
            t = p.texture
            out.append(Parameter("march_r", k, TEXTURE, t.r if t else 1.0, 0.3, 3.0, 0.3, bool(t and t.refine)))
        return out

    @staticmethod
    def _lattice_bounds(phase: Phase, j: int, name: str, value: float) -> tuple[float, float, float]:
        """Give bounds and prior of one component of the metric."""
        given = phase.recipe.lattice_range
        share = given if isinstance(given, float) else 0.02
        if isinstance(given, dict) and name in given and name in ("a", "b", "c"):
            at = phase.crystal.cell["abc".index(name)]
            ends = sorted(value * (at / edge) ** 2 for edge in given[name])
            return ends[0], ends[1], np.inf
        size = abs(value) if abs(value) > 1e-9 else float(np.max(np.abs(phase.crystal.free)))
        return value - 2 * share * size, value + 2 * share * size, 2 * share * size

    def cell(self, theta: np.ndarray, k: int) -> np.ndarray:
        """Lattice of phase `k` (angstrom, degrees)."""
        return self.phases[k].crystal.cell_from(self.metric(theta, k))

    def metric(self, theta: np.ndarray, k: int) -> np.ndarray:
        """Free metric components of phase `k`."""
        first = self.index_of[k]["metric_0"]
        return theta[first : first + len(self.phases[k].crystal.names)]

    def index(self, name: str, k: int | None = None) -> int:
        """Number of a parameter."""
        return next(n for n, p in enumerate(self.parameters) if p.name == name and p.phase == k)

    # ------------------------------------------------------------------ the model

    def columns(
        self, theta: np.ndarray, k: int, wanted: np.ndarray | None, *, extra: float = 0.0, b_shift: float = 0.0, tails: float | None = None
    ) -> np.ndarray:
        """Pattern of phase `k` with scale 1, and its derivatives where wanted, (column, channel)."""
        phase = self.phases[k]
        free = self.metric(theta, k)
        inverse = np.maximum(phase.reflections.terms @ free, 1e-12)
        strength = phase.strength(free, inverse, b_shift)
        at = self.index_of[k]
        r = float(theta[at["march_r"]])
        texture, slope = np.ones(strength.size), np.zeros(strength.size)
        if r != 1.0 or (wanted is not None and wanted[TEXTURE]):
            across = self.recipe.instrument.geometry != "bragg-brentano"
            texture, slope = phase.texture(free, r, across, inverse, float(self.waves[0]))
        widths = np.array([*theta[self.caglioti_at], theta[at["X"]], theta[at["Y"]], extra])
        layer = self.layers.index(phase.recipe.layer or "")
        place = np.array([theta[0], theta[1 + layer], _PLACE[self.recipe.instrument.geometry]])
        if wanted is None:
            wanted = np.zeros(FIXED + free.size, bool)
        out = np.zeros((FIXED + free.size if wanted[0] else 1, self.two_theta.size))
        kernels()(
            self.two_theta, inverse, phase.reflections.terms, strength * self.unit[k], texture, slope, self.waves, self.shares, widths, place,
            self._optics, self.recipe.tails if tails is None else tails, wanted, out,
        )  # fmt: skip
        return out

    @property
    def index_of(self) -> list[dict[str, int]]:
        """Per phase: parameter name -> number."""
        if not hasattr(self, "_index_of"):
            self._index_of = [{p.name: n for n, p in enumerate(self.parameters) if p.phase == k} for k in range(len(self.phases))]
            self.caglioti_at = [self.index(name) for name in "UVW"]
        return self._index_of

    @property
    def unit(self) -> np.ndarray:
        """Per phase: what its strengths are divided by so that scales are of the order of the counts."""
        if not hasattr(self, "_unit"):
            _ = self.index_of
            self._unit = np.ones(len(self.phases))
            self._unit = np.array([1.0 / max(float(self.columns(self.start, k, None)[0].max()), 1e-300) for k in range(len(self.phases))])
        return self._unit


def background_basis(two_theta: np.ndarray, degree: int, humps: tuple[tuple[float, float], ...], inverse: bool) -> np.ndarray:
    """Give the linear terms of the background, (term, channel), of the order of 1."""
    x = 2 * (two_theta - two_theta[0]) / (two_theta[-1] - two_theta[0]) - 1
    rows = [np.asarray(row) for row in np.polynomial.chebyshev.chebvander(x, degree).T]
    rows += [np.exp(-4 * np.log(2) * ((two_theta - centre) / width) ** 2) for centre, width in humps]
    if inverse:
        rows.append(two_theta[0] / two_theta)
    return np.array(rows)
