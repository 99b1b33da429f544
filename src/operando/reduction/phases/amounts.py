"""From fitted scales to weights: fractions with a statistical and a systematic uncertainty.

A phase's mass goes as S Z M V, scale times the mass of its cell's contents times the cell's volume (Hill & Howard, J. Appl. Cryst. 20 (1987) 467).

The statistical uncertainty is that of the counts, times the root of the reduced chi^2, or what the residuals really scatter by where that is more.
The systematic one asks what the fractions and lattices would be if something were otherwise that the pattern hardly tells: the degree of the
background, B of each phase, where profiles end, texture, the size of the particles that absorb. Each is a half width, and they add in quadrature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from operando.reduction.phases.engine import Engine, Fit, background_basis
from operando.reduction.phases.fitting import Frame
from operando.reduction.phases.profile import FIXED
from operando.reduction.phases.recipe import PhasesRecipe

_BEYOND = 1.25  # residuals that scatter by this much more than the counts are believed rather than these


@dataclass(frozen=True)
class Amounts:
    """What one frame says of the phases; all (phase), nan where it does not.

    Attributes
    ----------
    weight, mole
        Fractions (1) of the active phases, or of the whole sample where a standard says so.
    weight_errors, mole_errors
        1 sigma, statistical.
    cells
        (phase, 6) lattice, angstrom and degrees.
    cell_errors
        (phase, 6) 1 sigma, statistical.
    correlation
        Largest correlation (1) of a phase's scale with another's.
    sum_errors
        1 sigma of the sum of all fractions that count: of what a standard leaves to the amorphous part.
    """

    weight: np.ndarray
    weight_errors: np.ndarray
    mole: np.ndarray
    mole_errors: np.ndarray
    cells: np.ndarray
    cell_errors: np.ndarray
    volume_errors: np.ndarray
    correlation: np.ndarray
    sum_errors: float


def covariance_of(fit: Fit) -> np.ndarray:
    """Covariance of scales and free parameters that is reported: see the module."""
    plain = fit.covariance * max(fit.chi2_reduced, 1.0)
    a, b = np.sqrt(np.maximum(np.diag(plain), 1e-300)), np.sqrt(np.maximum(np.diag(fit.robust), 0.0))
    more = np.where(b > _BEYOND * a, b / a, 1.0)
    return np.asarray(plain * np.outer(more, more))


def masses(engine: Engine, theta: np.ndarray, scales: np.ndarray, radii: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Give mass per unit of scale and molar mass (g/mol) of each phase, with microabsorption of particles of these radii (um).

    Brindley's particle absorption factor (Phil. Mag. 36 (1945) 347) is taken for a sphere whose paths in and out are together one chord.
    """
    per_scale, molar = np.empty(len(engine.phases)), np.empty(len(engine.phases))
    for k, phase in enumerate(engine.phases):
        cell = engine.cell(theta, k)
        cell_mass, molar[k] = phase.mass(cell)
        per_scale[k] = engine.unit[k] * cell_mass * phase.crystal.volume(cell)
    if not any(radii.values()):
        return per_scale, molar
    absorption = np.array([phase.crystal.absorption() for phase in engine.phases]) * 1e-4  # 1/um
    density = np.array([phase.crystal.density() for phase in engine.phases])
    radius = np.array([radii.get(phase.name, 0.0) for phase in engine.phases])
    factor = np.ones(len(radius))
    for _ in range(4):  # the mean absorption depends on the amounts that are looked for
        amount = np.maximum(scales, 0.0) * per_scale / factor
        share = amount / density
        mean = float(absorption @ share / max(share.sum(), 1e-300))
        factor = particle_absorption((absorption - mean) * radius)
    return per_scale / factor, molar


def particle_absorption(contrast: np.ndarray) -> np.ndarray:
    """Give Brindley's factor at (mu - mean mu) R: by how much a particle's own lines are weakened beside what surrounds it."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    c = (nodes + 1) / 2
    return np.asarray(3 * (c**2 * np.exp(-2 * np.asarray(contrast)[..., None] * c)) @ weights / 2)


def amounts(engine: Engine, fit: Fit) -> Amounts:
    """Compute fractions and lattices of a fit, with 1 sigma of statistics."""
    recipe, count = engine.recipe, len(engine.phases)
    covariance = covariance_of(fit)
    per_scale, molar = masses(engine, fit.theta, fit.scales, recipe.brindley)
    weight, by_scale = _fractions(recipe, fit.scales, per_scale)
    mole, mole_by_scale = _fractions(recipe, fit.scales, per_scale / molar)
    ours = covariance[:count, :count]

    def sigma(jacobian: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", jacobian, ours, jacobian), 0.0))

    cells = np.array([engine.cell(fit.theta, k) for k in range(count)])
    cell_errors, volume_errors = np.full((count, 6), np.nan), np.full(count, np.nan)
    for k in range(count):
        at = [n for n, f in enumerate(fit.free) if engine.of_phase[f] == k and engine.parameters[f].column >= FIXED]
        if at:
            slope = lattice_slopes(engine, fit.theta, k)
            part = covariance[np.ix_(count + np.array(at), count + np.array(at))]
            cell_errors[k] = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slope[:6], part, slope[:6]), 0.0))
            volume_errors[k] = float(np.sqrt(max(slope[6] @ part @ slope[6], 0.0)))
    spread = np.sqrt(np.maximum(np.diag(fit.covariance)[:count], 1e-300))
    correlated = np.abs(fit.covariance[:count, :count] / np.outer(spread, spread))
    np.fill_diagonal(correlated, 0.0)
    # what does not stand out as a whole has no composition
    total = np.where(_counted(recipe), per_scale, 0.0)
    sure = float(total @ fit.scales) > 3 * float(np.sqrt(max(total @ ours @ total, 0.0)))
    known = lambda values: np.where(_counted(recipe) & sure, values, np.nan)  # noqa: E731
    whole = by_scale[_counted(recipe)].sum(axis=0)  # all fractions share the standard's scale: their errors do not simply add
    return Amounts(
        known(weight),
        known(sigma(by_scale)),
        known(mole),
        known(sigma(mole_by_scale)),
        cells,
        cell_errors,
        volume_errors,
        correlated.max(axis=1),
        float(np.sqrt(max(whole @ ours @ whole, 0.0))),
    )


def _counted(recipe: PhasesRecipe) -> np.ndarray:
    if recipe.fraction_scale == "whole":
        return np.array([p.role != "component" for p in recipe.phases.values()])
    return np.array([p.role == "active" for p in recipe.phases.values()])


def _fractions(recipe: PhasesRecipe, scales: np.ndarray, per_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give fractions, and their derivatives by the scales."""
    counted = _counted(recipe)
    amount = scales * per_scale
    if recipe.fraction_scale == "whole":
        at = next(k for k, p in enumerate(recipe.phases.values()) if p.role == "standard")
        known = float(list(recipe.phases.values())[at].weight_percent or 0.0) / 100
        total = amount[at] / known if amount[at] > 0 else np.nan
        slope = np.diag(per_scale / total)
        slope[:, at] -= amount / total / max(amount[at], 1e-300) * per_scale[at]
        return amount / total, slope
    total = float(amount[counted].sum())
    if total <= 0:
        return np.full(scales.size, np.nan), np.full((scales.size, scales.size), np.nan)
    fraction = amount / total
    slope = (np.diag(per_scale) - np.outer(fraction, np.where(counted, per_scale, 0.0))) / total
    return fraction, slope


def lattice_slopes(engine: Engine, theta: np.ndarray, k: int) -> np.ndarray:
    """Derivatives of a, b, c, alpha, beta, gamma and the volume by the free metric of phase `k`, (7, component)."""
    crystal, free = engine.phases[k].crystal, engine.metric(theta, k)
    out = np.empty((7, free.size))
    for j in range(free.size):
        step = np.zeros(free.size)
        step[j] = 1e-6 * max(abs(free[j]), 1e-3 * float(np.max(np.abs(free))))
        up, down = crystal.cell_from(free + step), crystal.cell_from(free - step)
        out[:6, j] = (up - down) / (2 * step[j])
        out[6, j] = (crystal.volume(up) - crystal.volume(down)) / (2 * step[j])
    return out


# --------------------------------------------------------------------- systematics


@dataclass(frozen=True)
class Shifts:
    """Half widths of what may be otherwise: (phase) for fractions, (phase, 6) for lattices, one for the sum of the fractions."""

    weight: np.ndarray
    mole: np.ndarray
    cells: np.ndarray
    total: np.ndarray


def systematic(engine: Engine, frame: Frame, fit: Fit) -> Shifts:
    """Ask what one frame would have given if the model were a little otherwise: one linear step for each way to differ."""
    asked = engine.recipe.systematics
    count = len(engine.phases)
    if asked is None:
        return Shifts(*(np.full(shape, np.nan) for shape in (count, count, (count, 6), ())))
    here = frame.point(fit)
    base = _state(engine, fit.theta, fit.scales, engine.recipe.brindley)
    squares = [np.zeros(np.shape(x)) for x in base]

    def vary(steps: Iterator[np.ndarray] | list[np.ndarray]) -> None:
        """Add the largest of some steps of (scales, free parameters) that belong to one cause."""
        largest = [np.zeros(np.shape(x)) for x in base]
        for step in steps:
            theta = fit.theta.copy()
            theta[fit.free] = np.clip(theta[fit.free] + step[count : count + fit.free.size], engine.low[fit.free], engine.high[fit.free])
            other = _state(engine, theta, np.maximum(fit.scales + step[:count], 0.0), engine.recipe.brindley)
            largest = [np.fmax(a, np.abs(o - b)) for a, o, b in zip(largest, other, base, strict=True)]
        for total, one in zip(squares, largest, strict=True):
            total += one**2

    if asked.background:
        degree = engine.recipe.background.degree
        vary(
            [frame.other_background(here, fit, _basis(engine, d)) for d in {max(degree - asked.background, 0), degree + asked.background} - {degree}]
        )
    for k in range(count):
        if fit.scales[k] <= 0:
            continue
        if asked.b_iso:
            step = frame.response(here, fit.scales[k] * (engine.columns(fit.theta, k, None, b_shift=asked.b_iso)[0] - here.patterns[k]))
            vary([step, -step])
        r = engine.index_of[k]["march_r"]
        if asked.texture and not engine.may[r] and not _isotropic(engine, k):
            theta = fit.theta.copy()
            theta[r] += asked.texture
            step = frame.response(here, fit.scales[k] * (engine.columns(theta, k, None)[0] - here.patterns[k]))
            vary([step, -step])
    if asked.zero and not engine.may[0] and not engine.may[1 : 1 + len(engine.layers)].any():
        moved = fit.theta.copy()
        moved[0] += asked.zero
        vary([frame.response(here, np.asarray(sum(fit.scales[k] * (engine.columns(moved, k, None)[0] - here.patterns[k]) for k in range(count))))])
    shorter = engine.recipe.tails * asked.tails
    change = sum(fit.scales[k] * (engine.columns(fit.theta, k, None, tails=shorter)[0] - here.patterns[k]) for k in range(count) if fit.scales[k] > 0)
    vary([frame.response(here, np.asarray(change))] if np.ndim(change) else [])
    ends = []
    for end in (0, 1):  # small particles, large ones: which of the two the phases have is not known, nor that they have the same
        radii = {p.name: (p.recipe.particle_radius or asked.particle_radius)[end] for p in engine.phases}
        ends.append(_state(engine, fit.theta, fit.scales, {**radii, **engine.recipe.brindley}))
    for total, low, high, middle in zip(squares, *ends, base, strict=True):
        total += np.fmax(np.abs(low - middle), np.abs(high - middle)) ** 2
    weight, mole, cells, total = (np.sqrt(x) for x in squares)
    return Shifts(np.minimum(weight, 1.0), np.minimum(mole, 1.0), cells, total)


def _isotropic(engine: Engine, k: int) -> bool:
    """A powder of cubic crystals that are not plates: nothing to vary without an axis."""
    phase = engine.phases[k]
    return phase.crystal.system == "cubic" and phase.recipe.texture is None


def _basis(engine: Engine, degree: int) -> np.ndarray:
    return background_basis(engine.two_theta, degree, engine.humps, engine.recipe.background.inverse)


def _state(engine: Engine, theta: np.ndarray, scales: np.ndarray, radii: dict[str, float]) -> list[np.ndarray]:
    per_scale, molar = masses(engine, theta, scales, radii)
    cells = np.array([engine.cell(theta, k) for k in range(len(engine.phases))])
    weight = _fractions(engine.recipe, scales, per_scale)[0]
    return [weight, _fractions(engine.recipe, scales, per_scale / molar)[0], cells, np.asarray(weight[_counted(engine.recipe)].sum())]
