"""The reducer `phase-fractions`: whole-pattern fits of a series of diffraction patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando.reduction.interface import Products, reducer
from operando.reduction.patterns import angles, axis_of, usable, wavelengths
from operando.reduction.phases.engine import NOT_FITTED, STATUS, Engine, Fit
from operando.reduction.phases.fitting import INDISTINCT
from operando.reduction.phases.profile import FIXED
from operando.reduction.phases.recipe import PhasesRecipe
from operando.reduction.phases.sequence import Fitted, fit_sequence

_FLAGS = {"held": 1, "indistinct": 2, "at_bound": 4}
_FRAME_FLAGS = {
    "iteration_cap": 1,
    "stalled": 2,
    "not_fitted": 4,
    "at_bound": 8,
    "passes_disagree": 16,
    "indistinct": 32,
    "nothing_found": 64,
    "poor_fit": 128,
    "channels_left_out": 256,
}
_POOR = 8.0  # goodness of fit beyond which a fit is called poor: so many times more is left over than counts leave


@dataclass
class _State:
    """What goes from one batch to the next."""

    engine: Engine
    grid: np.ndarray
    last: Fit | None


@reducer("phase-fractions", technique="xrd", kind="forward", products=("observables", "reduced"), recipe=PhasesRecipe, version="1")
def phase_fractions(frames: xr.Dataset, recipe: PhasesRecipe, state: _State | None = None) -> Products:
    """Fit the whole pattern of every frame with the phases of the recipe.

    Amounts, lattices and widths are refined by least squares frame by frame, warm from the frame before and, within a batch, backward from the frame
    after; a phase that does not stand out from the noise keeps its lattice and width. Frames that are dark, damaged or empty give NaN.

    Parameters
    ----------
    frames
        Patterns: `intensity` (time, q) with `intensity_errors` where known (else they are taken for counts), `q` in 1/angstrom or `two_theta` in deg.
        The wavelength (angstrom) is the recipe's or `attrs["wavelength"]`, with K-alpha 2 beside it where the file says so.
    recipe
        Phases, instrument, background.

    Returns
    -------
    Products
        `observables` over (time, phase): `phase_fraction` (weight) and `mole_fraction` with `_errors` (1 sigma, statistical) and `_systematic` (half
        width), `lattice_a` ... (angstrom), `cell_volume` (angstrom^3), `crystallite_size` (nm), `microstrain`, `composition` of solid solutions,
        `phase_scale`, `phase_correlation`, `phase_flags`; over time: `goodness_of_fit`, `rwp`, `zero_error` and `displacement` (deg), `fit_flags`,
        `iterations`; over (time, hump), where the background has humps, `hump_height`. `reduced`: `intensity_calculated`, `background` and `residual`
        (time, q).

    Raises
    ------
    ConfigError
        No wavelength.
    ContractError
        A recipe that does not fit the patterns: no line in the range, fewer channels than parameters.
    """
    uncorrected = frames.attrs.get("reducer") == "integrate" and "polarization" not in frames.attrs and recipe.instrument.polarization == "corrected"
    if uncorrected:  # a whole ring averages the polarisation of the beam out: (1 + cos^2) / 2, whatever it was
        recipe = recipe.model_copy(update={"instrument": recipe.instrument.model_copy(update={"polarization": 1.0})})
    axis = axis_of(frames)
    waves, shares = wavelengths(frames.attrs, recipe.wavelength, recipe.wavelength_ratio)
    two_theta = angles(frames, axis, waves[0])
    finite = np.isfinite(two_theta)
    order = np.flatnonzero(finite)[np.argsort(two_theta[finite], kind="stable")]
    grid = two_theta[order]
    if state is None or not np.array_equal(state.grid, grid):
        state = _State(Engine(recipe, grid, waves, shares), grid, None)
    engine = state.engine
    values = np.asarray(frames["intensity"].transpose("time", axis).values, float)[:, order][:, engine.used]
    errors = None
    if "intensity_errors" in frames.variables:
        errors = np.asarray(frames["intensity_errors"].transpose("time", axis).values, float)[:, order][:, engine.used]
    fitted = fit_sequence(engine, values, errors, usable(frames, values), state.last)
    good = [one.fit for one in fitted if one.fit.status != NOT_FITTED]
    state = _State(engine, grid, good[-1] if good else state.last)
    observables = _observables(engine, fitted).assign_coords(time=frames["time"].variable)
    places = order[engine.used]
    reduced = _curves(frames, axis, fitted, values, places).assign_coords(time=frames["time"].variable)
    attrs = {"wavelength": float(waves[0]), "wavelength_units": "angstrom", "form_factors": "International Tables (1992); f', f'' by Chantler"}
    made = {"observables": observables.assign_attrs(attrs), "reduced": reduced.assign_attrs(attrs)}
    told = _told(engine, fitted, frames)
    if uncorrected:
        told.insert(0, "integrated without a correction of polarisation (polarization: of integrate): fitted as whole rings, (1 + cos^2) / 2")
    return Products(made, state, told)


def _told(engine: Engine, fitted: list[Fitted], frames: xr.Dataset) -> list[str]:
    """Say what stops nothing and yet should be known: phases that are not told apart, fits that did not end well."""
    n, names = len(fitted), [p.name for p in engine.phases]
    where = ""
    if "position" in frames.coords and frames["position"].dims == ("time",) and np.unique(frames["position"].values).size == 1:
        where = f" (position {frames['position'].values[0]})"
    flags = np.array([_frame_flags(one) for one in fitted])
    said = []
    together: dict[str, int] = {}
    for one in fitted:
        if one.amounts is not None and np.any(one.amounts.correlation > INDISTINCT):
            key = ", ".join(names[k] for k in np.flatnonzero(one.amounts.correlation > INDISTINCT))
            together[key] = together.get(key, 0) + 1
    for key, count in together.items():
        said.append(
            f"{count} of {n} frames{where} do not tell {key} apart (correlation above {INDISTINCT:g}): their sum is known, their shares are not"
        )
    for flag, words in (
        ("nothing_found", "show no phase of the recipe: a wrong wavelength, geometry or zero, or other substances"),
        ("poor_fit", f"are described poorly (goodness of fit above {_POOR:g}): something is in them that the recipe does not have, or it is off"),
        ("channels_left_out", "had single channels far off, which were left out"),
        ("iteration_cap", "ended at the cap of iterations (max_iterations)"),
        ("stalled", "stopped before they converged"),
        ("at_bound", "ended with a parameter at the end of its range"),
        ("passes_disagree", "gave other fractions forward than backward; the better fit is kept"),
    ):
        count = int(np.sum(flags & _FRAME_FLAGS[flag] > 0))
        if count:
            said.append(f"{count} of {n} frames{where} {words}: fit_flags")
    lost = int(np.sum(flags & _FRAME_FLAGS["not_fitted"] > 0))
    if lost:
        said.append(f"{lost} of {n} frames{where} are dark, damaged or empty and were not fitted")
    return said


# ------------------------------------------------------------------- what comes out


class _Table:
    """Observables in the making."""

    def __init__(self, phases: list[str]) -> None:
        self.variables: dict[str, Any] = {}
        self.coords: dict[str, Any] = {}
        self.phases = phases

    def add(
        self, name: str, values: Any, unit: str, words: str, errors: Any = None, systematic: Any = None, along: str = "phase", **attrs: Any
    ) -> None:
        """Add one over (time) or (time, phase); nothing that is nowhere known."""
        array = np.asarray(values)
        dims = ("time", along)[: array.ndim]
        beside = {}
        for suffix, other, what in (("_errors", errors, "1 sigma, statistical, of"), ("_systematic", systematic, "half width, systematic, of")):
            if other is not None and np.isfinite(other).any():
                beside[f"{name}{suffix}"] = (dims, np.asarray(other), {"units": unit, "long_name": f"{what} {words}", "sampling": "sample"})
        linked = {"ancillary_variables": " ".join(beside)} if beside else {}
        self.variables[name] = (dims, array, {"units": unit, "long_name": words, "sampling": "sample"} | linked | attrs)
        self.variables |= beside

    def dataset(self) -> xr.Dataset:
        return xr.Dataset(self.variables, coords={"phase": ("phase", np.array(self.phases, dtype=object)), **self.coords})


def _observables(engine: Engine, fitted: list[Fitted]) -> xr.Dataset:
    recipe, names = engine.recipe, [p.name for p in engine.phases]
    count, n = len(names), len(fitted)

    def column(get: Any, shape: tuple[int, ...] = (count,)) -> np.ndarray:
        empty = np.full(shape, np.nan)
        return np.array([empty if one.amounts is None else get(one) for one in fitted]).reshape(n, *shape)

    def shifts(get: Any, shape: tuple[int, ...] = (count,)) -> np.ndarray:
        empty = np.full(shape, np.nan)
        return np.array([empty if one.shifts is None else get(one.shifts) for one in fitted]).reshape(n, *shape)

    t = _Table(names)
    of = "the whole sample" if recipe.fraction_scale == "whole" else "the active phases"
    weight, mole = column(lambda one: one.amounts.weight), column(lambda one: one.amounts.mole)
    t.add(
        "phase_fraction",
        weight,
        "1",
        f"weight fraction of {of}",
        column(lambda o: o.amounts.weight_errors),
        _where(shifts(lambda s: s.weight), weight),
    )
    t.add(
        "mole_fraction",
        mole,
        "1",
        f"fraction of formula units of {of}",
        column(lambda o: o.amounts.mole_errors),
        _where(shifts(lambda s: s.mole), mole),
    )
    if recipe.fraction_scale == "whole":
        known = np.isfinite(weight).any(axis=1)
        total = np.where(known, 1 - np.nansum(weight, axis=1), np.nan)
        errors, wide = column(lambda o: o.amounts.sum_errors, ()), shifts(lambda s: s.total, ())
        t.add(
            "amorphous_fraction",
            total,
            "1",
            "weight fraction that no phase accounts for",
            np.where(known, errors, np.nan),
            np.where(known, wide, np.nan),
        )
    sigma = column(lambda o: np.sqrt(np.maximum(np.diag(_covariance(o))[:count], 0.0)) * engine.unit)
    t.add(
        "phase_scale",
        column(lambda o: o.fit.scales * engine.unit),
        "1",
        "scale S of the pattern, area (degrees) per sum of |F|^2 times Lorentz and polarisation",
        sigma,
    )
    _lattices(t, engine, column, shifts)
    _widths(t, engine, column)
    if any(p.points for p in engine.phases):
        x = column(lambda o: np.array([p.x_of(cell) for p, cell in zip(engine.phases, o.amounts.cells, strict=True)]))
        t.add("composition", x, "1", "composition from the lattice", *_composition_errors(engine, column, shifts))
    for name, k in [(p.name, i) for i, p in enumerate(engine.parameters) if p.phase is None and p.free]:
        unit, words = _SHARED[name.split("_")[0]]
        label = {"zero": "zero_error"}.get(name, name if name.startswith("displacement") else f"caglioti_{name.lower()}")
        t.add(label, column(lambda o, k=k: o.fit.theta[k], ()), unit, words, column(lambda o, k=k: _parameter_error(o, k), ()))
    t.add(
        "phase_correlation",
        column(lambda o: o.amounts.correlation),
        "1",
        "largest correlation with another phase",
    )
    t.add(
        "goodness_of_fit",
        column(lambda o: np.sqrt(o.fit.chi2_reduced), ()),
        "1",
        "goodness of fit",
    )
    t.add("rwp", column(lambda o: o.fit.rwp, ()), "1", "weighted profile R factor")
    if engine.humps:
        _humps(t, engine, fitted)
    t.add("iterations", np.array([o.fit.iterations for o in fitted], np.int16), "1", "steps of the last fit of the frame")
    flags = np.array([_frame_flags(o) for o in fitted], np.int16)
    t.add("fit_flags", flags, "1", "how the fit ended; 0: converged", flag_masks=list(_FRAME_FLAGS.values()), flag_meanings=" ".join(_FRAME_FLAGS))
    each = np.array([_phase_flags(engine, o) for o in fitted], np.int8).reshape(n, count)
    t.add("phase_flags", each, "1", "held: below detection, lattice kept; indistinct from another phase; at_bound: lattice at the end of its range",
          flag_masks=list(_FLAGS.values()), flag_meanings=" ".join(_FLAGS))  # fmt: skip
    return t.dataset()


_SHARED = {
    "zero": ("deg", "zero error of two_theta"),
    "displacement": ("deg", "displacement of the sample, as the amplitude of its shift of two_theta"),
    "U": ("deg^2", "Caglioti's U"),
    "V": ("deg^2", "Caglioti's V"),
    "W": ("deg^2", "Caglioti's W"),
}


def _where(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(known), values, np.nan)


def _covariance(one: Fitted) -> np.ndarray:
    from operando.reduction.phases.amounts import covariance_of

    return covariance_of(one.fit)


def _parameter_error(one: Fitted, parameter: int) -> float:
    at = np.flatnonzero(one.fit.free == parameter)
    if not at.size:
        return float("nan")
    k = one.fit.scales.size + int(at[0])
    return float(np.sqrt(max(_covariance(one)[k, k], 0.0)))


def _lattices(t: _Table, engine: Engine, column: Any, shifts: Any) -> None:
    """Lattice parameters that symmetry leaves free; of phases below detection there is none."""
    count = len(engine.phases)
    seen = column(lambda o: o.fit.active.astype(float)) > 0
    cells, errors, wide = (
        column(lambda o: o.amounts.cells, (count, 6)),
        column(lambda o: o.amounts.cell_errors, (count, 6)),
        shifts(lambda s: s.cells, (count, 6)),
    )
    for j, name in enumerate(("a", "b", "c", "alpha", "beta", "gamma")):
        has = np.array([name in p.crystal.names for p in engine.phases])
        if has.any():
            mask = seen & has
            unit = "angstrom" if j < 3 else "deg"
            refined = mask & np.isfinite(errors[..., j])
            t.add(
                f"lattice_{name}",
                np.where(mask, cells[..., j], np.nan),
                unit,
                f"lattice parameter {name}",
                np.where(refined, errors[..., j], np.nan),
                np.where(refined, wide[..., j], np.nan),
            )
    volume = column(lambda o: np.array([p.crystal.volume(c) for p, c in zip(engine.phases, o.amounts.cells, strict=True)]))
    t.add(
        "cell_volume",
        np.where(seen, volume, np.nan),
        "angstrom^3",
        "volume of the unit cell",
        np.where(seen, column(lambda o: o.amounts.volume_errors), np.nan),
    )


def _widths(t: _Table, engine: Engine, column: Any) -> None:
    seen = column(lambda o: o.fit.active.astype(float)) > 0
    at = engine.index_of

    def of(name: str) -> tuple[np.ndarray, np.ndarray]:
        return (
            column(lambda o: np.array([o.fit.theta[a[name]] for a in at])),
            column(lambda o: np.array([_parameter_error(o, a[name]) for a in at])),
        )

    x, x_errors = of("X")
    scale = float(np.degrees(0.9 * engine.waves[0] / 10.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(seen & (x > 1e-6), scale / x, np.nan)
        t.add(
            "crystallite_size",
            size,
            "nm",
            "volume-weighted size of crystallites from the Lorentzian width (Scherrer, K = 0.9), instrument not taken off",
            size * x_errors / x,
        )
    y, y_errors = of("Y")
    if any(engine.may[a["Y"]] for a in at):
        t.add(
            "microstrain",
            np.where(seen, np.radians(y) / 4, np.nan),
            "1",
            "microstrain from the Lorentzian width, 4 strain tan(theta)",
            np.where(seen, np.radians(y_errors) / 4, np.nan),
        )
    if any(engine.may[a["march_r"]] for a in at):
        r, r_errors = of("march_r")
        t.add("march_r", np.where(seen, r, np.nan), "1", "March's r of preferred orientation; 1: none", np.where(seen, r_errors, np.nan))


def _humps(t: _Table, engine: Engine, fitted: list[Fitted]) -> None:
    """Heights of the broad humps of the background."""
    count, first = len(engine.humps), engine.recipe.background.degree + 1
    heights, errors = np.full((2, len(fitted), count), np.nan)
    for n, one in enumerate(fitted):
        if one.amounts is not None:
            heights[n] = one.fit.background[first : first + count]
            errors[n] = np.sqrt(np.maximum(np.diag(_covariance(one))[-count:], 0.0))
    t.add("hump_height", heights, "1", "height of a broad hump above the smooth background, in the unit of the intensity", errors, along="hump")
    centres = [4 * np.pi / engine.waves[0] * np.sin(np.radians(at / 2)) for at, _ in engine.humps]
    t.coords["hump"] = ("hump", np.array(centres), {"units": "1/angstrom", "long_name": "centre of the hump"})


def _composition_errors(engine: Engine, column: Any, shifts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Errors of x: those of the lattice parameter that it follows, over the slope of the curve there."""
    count = len(engine.phases)
    places = [("abc".index(p.recipe.solid_solution.follows) if p.points and p.recipe.solid_solution else 0) for p in engine.phases]

    def slopes(cells: np.ndarray) -> np.ndarray:
        out = np.full(count, np.nan)
        for k, phase in enumerate(engine.phases):
            if phase.points:
                up, down = cells[k].copy(), cells[k].copy()
                up[places[k]] *= 1 + 1e-5
                down[places[k]] *= 1 - 1e-5
                out[k] = (phase.x_of(up) - phase.x_of(down)) / (2e-5 * cells[k][places[k]])
        return out

    slope = np.abs(column(lambda o: slopes(o.amounts.cells)))
    pick = np.arange(count), places
    errors = column(lambda o: o.amounts.cell_errors[pick])
    wide = shifts(lambda s: s.cells[pick])
    return slope * errors, slope * wide


def _frame_flags(one: Fitted) -> int:
    value = _FRAME_FLAGS.get(STATUS[one.fit.status], 0)
    if one.disagree:
        value |= _FRAME_FLAGS["passes_disagree"]
    if one.amounts is None:
        return value
    if np.any(one.amounts.correlation[one.fit.active] > INDISTINCT):
        value |= _FRAME_FLAGS["indistinct"]
    if not np.isfinite(one.amounts.weight).any():
        value |= _FRAME_FLAGS["nothing_found"]
    if one.fit.chi2_reduced > _POOR**2:
        value |= _FRAME_FLAGS["poor_fit"]
    if one.fit.left_out:
        value |= _FRAME_FLAGS["channels_left_out"]
    return value


def _phase_flags(engine: Engine, one: Fitted) -> list[int]:
    if one.amounts is None:
        return [0] * len(engine.phases)
    fit, out = one.fit, []
    ends = (fit.theta <= engine.low) | (fit.theta >= engine.high)
    for k in range(len(engine.phases)):
        value = 0 if fit.active[k] else _FLAGS["held"]
        if one.amounts.correlation[k] > INDISTINCT:
            value |= _FLAGS["indistinct"]
        if fit.active[k] and any(ends[n] and engine.parameters[n].column >= FIXED for n in fit.free if engine.of_phase[n] == k):
            value |= _FLAGS["at_bound"]
        out.append(value)
    return out


def _curves(frames: xr.Dataset, axis: str, fitted: list[Fitted], values: np.ndarray, places: np.ndarray) -> xr.Dataset:
    """Calculated pattern, background and what is left over, on the frames' own axis; NaN where nothing was fitted."""
    shape = (len(fitted), frames.sizes[axis])
    units = str(frames["intensity"].attrs.get("units", "1"))
    out = {}
    for name, words in (
        ("intensity_calculated", "intensity of the model"),
        ("background", "background of the model"),
        ("residual", "intensity observed minus calculated"),
    ):
        whole = np.full(shape, np.nan, np.float32)
        for n, one in enumerate(fitted):
            if one.amounts is not None:
                curve = {"intensity_calculated": one.fit.calculated, "background": one.fit.under, "residual": values[n] - one.fit.calculated}[name]
                whole[n, places] = curve
        out[name] = (("time", axis), whole, {"units": units, "long_name": words})
    coords = {c: frames[c].variable for c in (axis, "two_theta") if c in frames.coords and "time" not in frames[c].dims}
    return xr.Dataset(out, coords=coords)
