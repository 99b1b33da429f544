"""The reducer `charge-balance`: the lithium that the patterns hold against the lithium that the charge has moved, spot by spot.

A charge Q (C; positive current charges the cell) takes Q / (n F) ions per formula unit out of the positive electrode and puts as many into the
negative one, n moles of active material. What the pattern holds is x of a solid solution's lattice, or the ions per formula unit of phases, weighted
by moles. A spot that no longer takes part, a part that is not connected, a wrong mass: each shows as less than the whole charge seen.

Formula units are made comparable by their framework, all that is not the ion: LiC6, LiC12 and graphite are counted per C6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from operando.config import Recipe
from operando.contract import AlignmentFlag, ConfigError, ContractError
from operando.reduction.interface import Products, reducer
from operando.reduction.phases.crystal import Crystal
from operando.reduction.phases.recipe import PhaseRecipe, PhasesRecipe

FARADAY = 96485.33212
"""C/mol (exact SI constants, CODATA 2018)."""

_STILL = 0.01  # ions per formula unit that may have moved while the state is still that of the beginning
_LITTLE = 0.5  # share of a layer's moles that a phase whose lattice was not fitted may have
_FEW = 5  # frames of a spot below which it gets no slope
_NO_CHARGE = int(AlignmentFlag.OUTSIDE | AlignmentFlag.UNALIGNED | AlignmentFlag.PAUSE)


class Electrode(BaseModel):
    """One layer of the cell."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    phases: tuple[str, ...] | None = Field(None, min_length=1, description="its phases; default: the active ones of that layer in the phases' recipe")
    electrode: Literal["positive", "negative"] | None = Field(
        None, description="positive gives ions up when the cell is charged, as the studied one of a half cell does; default: by the layer's name"
    )
    mass: float | None = Field(
        None, gt=0, description="active material (mg); default: active_mass of the cell, for the positive or the only electrode"
    )
    molar_mass: float | None = Field(None, gt=0, description="of one formula unit as weighed (g/mol); default: by the structure")
    x_reference: float | None = Field(
        None, description="ions per formula unit at charge 0 (1); default: what the patterns show before the charge has moved"
    )
    lithium: dict[str, float | str] = Field(
        {}, description="phase -> ions per formula unit (1), or the name of a solid solution whose curve its lattice is read by"
    )


class BalanceRecipe(Recipe):
    """Lithium from diffraction against lithium from charge."""

    reducer: str = "charge-balance"
    layers: dict[str, Electrode] | None = Field(
        None, min_length=1, description="layer -> what it is; default: every layer of the phases' recipe whose phases all say what they hold"
    )
    ion: str = Field("Li", description="element that moves")


@dataclass
class _Content:
    """What is known of one layer: its phases, and of each the ions and the framework per formula unit."""

    name: str
    settings: Electrode
    sign: float
    phases: list[str]
    curves: dict[str, tuple[np.ndarray, np.ndarray, str]]
    numbers: dict[str, float]
    frameworks: np.ndarray
    framework_mass: float
    ion_mass: float
    starts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Phase -> lattice parameter by which its x is read, where the recipe puts it, and how far from there it may be (angstrom)."""


@reducer(
    "charge-balance",
    technique="xrd",
    kind="series",
    products=("balance",),
    recipe=BalanceRecipe,
    version="1",
    reads="observables",
    about=("active_mass", "cell_type"),
    needs_alignment=True,
)
def charge_balance(frames: xr.Dataset, recipe: BalanceRecipe, state: Any = None) -> Products:
    """Hold the lithium seen by diffraction against the charge.

    Parameters
    ----------
    frames
        `observables` of `phase-fractions` over (time, phase), with `charge` (C) of the alignment and, where there are several spots, `position`.
    recipe
        Layers; nothing needs to be said where the phases' recipe says what each phase holds and `about:` has the active mass (mg).

    Returns
    -------
    Products
        `balance` over (time, layer): `lithium_from_diffraction` (per formula unit; `_errors` 1 sigma, statistical, and `_systematic`, half width),
        `lithium_from_charge` (`_errors`: of clock and coverage), and `charge_balance_residual`, the first minus the second; NaN where the charge is
        not known. Over (layer, spot): `charge_seen`, the share (1) of the charge that the pattern of a spot shows, the slope of the first against
        the second, with `_errors` (1 sigma, of residuals that hang together); `lithium_offset` where the charge is 0. Where the mass is not known
        the scale is that of the spot that sees most, and the attribute `scale` says so. `summary` says it in words.

    Raises
    ------
    ConfigError
        A layer or phase that the phases' recipe does not have, phases whose ions are not known, frameworks that cannot be compared.
    ContractError
        What is read is not from `phase-fractions`, or its frames are not on a timeline.
    """
    if frames.attrs.get("reducer") != "phase-fractions":
        raise ContractError(
            "the charge balance reads the observables of phase-fractions", found=str(frames.attrs.get("reducer")), hint="put that stage before it"
        )
    if "charge" not in frames.variables:
        raise ContractError("the frames carry no charge", hint="align them first: op.align(series, echem)")
    phases = PhasesRecipe.model_validate(json.loads(frames.attrs["recipe"]))
    about = json.loads(frames.attrs.get("about") or "{}")
    contents = _contents(phases, recipe, float(frames.attrs.get("wavelength", 1.0)))
    spots, which = _spots(frames)
    made = [_balance(frames, content, about, len(contents) == 1, spots, which) for content in contents]
    names = list(made[0][0].data_vars)
    table = xr.concat([one for one, _ in made], dim="layer", data_vars="all", combine_attrs="drop").transpose("time", ..., "spot")
    for name in names:
        table[name].attrs = dict(made[0][0][name].attrs)
    table = table.assign_coords(layer=("layer", np.array([c.name for c in contents], dtype=object)), time=frames["time"].variable)
    table.attrs = {
        "summary": "\n".join(words for _, words in made),
        "scale": "; ".join(f"{c.name}: {one.attrs['scale']}" for c, (one, _) in zip(contents, made, strict=True)),
        "ion": recipe.ion,
    }
    return Products({"balance": table})


# ------------------------------------------------------------------ what the layers hold


def _contents(phases: PhasesRecipe, recipe: BalanceRecipe, wavelength: float) -> list[_Content]:
    import gemmi

    there: dict[str, list[str]] = {}
    for name, phase in phases.phases.items():
        if phase.role == "active":
            there.setdefault(phase.layer or "cell", []).append(name)
    asked = recipe.layers or {name: Electrode.model_validate({}) for name in there}
    out, told = [], []
    for name, settings in asked.items():
        mine = list(settings.phases if settings.phases is not None else there.get(name, ()))
        unknown = [p for p in mine if p not in phases.phases]
        if unknown or not mine:
            raise ConfigError(
                f"layers: {name} has phases that the phases' recipe has not" if unknown else f"layers: {name} is no layer of the phases' recipe",
                found=", ".join(unknown) or name,
                expected=", ".join(phases.phases if unknown else there),
            )
        curves, numbers, lost = _ions(phases, settings, mine)
        if lost:
            told.append(f"{name}: {', '.join(lost)}")
            if recipe.layers is not None:
                raise ConfigError(
                    f"layers: it is not known what {', '.join(lost)} of {name} holds",
                    expected="lithium: or solid_solution: in the phases' recipe, or lithium: {PHASE: number} in the layer",
                )
            continue
        crystals = {p: Crystal(phases.phases[p].structure, wavelength, phases.b_iso) for p in mine}
        units, mass = _frameworks(name, crystals, curves, numbers, recipe.ion)
        side = settings.electrode or ("negative" if name.lower().startswith(("neg", "anode")) else "positive")
        starts = {p: _start(phases.phases[p], curves[p][2]) for p in curves}
        out.append(
            _Content(
                name,
                settings,
                -1.0 if side == "positive" else 1.0,
                mine,
                curves,
                numbers,
                units,
                mass,
                float(gemmi.Element(recipe.ion).weight),
                starts,
            )
        )
    if not out:
        raise ConfigError(
            "it is not known what the phases hold",
            found="; ".join(told),
            expected="lithium: or solid_solution: of each phase of a layer",
            hint="say it in the phases' recipe, or with layers: in this one",
        )
    return out


def _ions(
    phases: PhasesRecipe, settings: Electrode, mine: list[str]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray, str]], dict[str, float], list[str]]:
    """Find the ions of each phase: a curve (x, lattice parameter, its name), a number, or nothing."""

    def curve(name: str) -> tuple[np.ndarray, np.ndarray, str] | None:
        solution = phases.phases[name].solid_solution if name in phases.phases else None
        if solution is None:
            return None
        points = sorted(solution.points, key=lambda p: p.lattice[solution.follows])
        return np.array([p.x for p in points]), np.array([p.lattice[solution.follows] for p in points]), solution.follows

    curves, numbers, lost = {}, {}, []
    for name in mine:
        said = settings.lithium.get(name, phases.phases[name].lithium)
        own = curve(said if isinstance(said, str) else name)
        if said is None and own is None:  # another population of the same material
            structure = phases.phases[name].structure
            alike = [p for p in mine if curve(p) and phases.phases[p].structure.space_group == structure.space_group and _same(phases, p, name)]
            own = curve(alike[0]) if len(alike) == 1 else None
        if isinstance(said, str) and own is None:
            raise ConfigError(f"lithium: {said} is no solid solution of the phases' recipe, and {name} cannot be read by it")
        if isinstance(said, int | float):
            numbers[name] = float(said)
        elif own is not None:
            curves[name] = own
        else:
            lost.append(name)
    return curves, numbers, lost


def _start(phase: PhaseRecipe, follows: str) -> tuple[float, float]:
    value = float(phase.structure.cell["abc".index(follows)])
    given = phase.lattice_range
    if isinstance(given, dict):
        return value, float(np.ptp(given[follows])) / 2 if follows in given else 0.02 * value
    return value, given * value


def _same(phases: PhasesRecipe, a: str, b: str) -> bool:
    return {s.element for s in phases.phases[a].structure.sites} == {s.element for s in phases.phases[b].structure.sites}


def _frameworks(layer: str, crystals: dict[str, Crystal], curves: dict[str, Any], numbers: dict[str, float], ion: str) -> tuple[np.ndarray, float]:
    """Give how many units of framework a formula unit of each phase has, and the mass of one unit (g/mol): that of the phase that holds most."""
    import gemmi

    frame = {p: {e: n / c.formula_units for e, n in c.content.items() if e != ion} for p, c in crystals.items()}
    most = max(frame, key=lambda p: (float(np.max(curves[p][0])) if p in curves else numbers[p]) / max(sum(frame[p].values()), 1e-9))
    unit = frame[most]
    out = []
    for name, content in frame.items():
        ratio = sum(content.values()) / max(sum(unit.values()), 1e-9)
        if content.keys() != unit.keys() or any(abs(n - ratio * unit[e]) > 0.02 * ratio * unit[e] for e, n in content.items()):
            raise ConfigError(
                f"layers: the phases of {layer} are not of one material",
                found=f"{name}: {' '.join(f'{e}{n:.3g}' for e, n in content.items())}; {most}: {' '.join(f'{e}{n:.3g}' for e, n in unit.items())}",
                hint="give each material a layer of its own",
            )
        out.append(ratio)
    return np.array(out), sum(float(gemmi.Element(e).weight) * n for e, n in unit.items())


# ------------------------------------------------------------------ the two sides


def _from_diffraction(frames: xr.Dataset, content: _Content) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give ions per unit of framework, 1 sigma and the systematic half width, all (time)."""

    def column(name: str, phase: str) -> np.ndarray:
        if name not in frames.variables:
            return np.full(frames.sizes["time"], np.nan)
        return np.asarray(frames[name].sel(phase=phase).transpose("time").values, float)

    moles, ions, of_moles, of_ions, wide_moles, wide_ions = [], [], [], [], [], []
    whole = np.sum([column("mole_fraction", phase) for phase in content.phases], axis=0)
    for phase in content.phases:
        part = column("mole_fraction", phase)
        scale, sure = column("phase_scale", phase), column("phase_scale_errors", phase)
        with np.errstate(divide="ignore", invalid="ignore"):  # amounts themselves, not shares of a sum, are what varies by itself
            own = np.where(scale > 0, part * sure / scale, column("mole_fraction_errors", phase))
        moles.append(part)
        of_moles.append(np.nan_to_num(own))
        wide_moles.append(np.nan_to_num(column("mole_fraction_systematic", phase)))
        if phase in content.numbers:
            ions.append(np.full(part.size, content.numbers[phase]))
            of_ions.append(np.zeros(part.size))
            wide_ions.append(np.zeros(part.size))
            continue
        x, lattice, follows = content.curves[phase]
        place = column(f"lattice_{follows}", phase)
        start, reach = content.starts[phase]
        held = np.isnan(place) & (part <= _LITTLE * whole)  # not seen: what little there is lies where the recipe puts it, give or take its range
        place = np.where(held, start, place)
        k = np.clip(np.searchsorted(lattice, place) - 1, 0, lattice.size - 2)
        slope = (x[k + 1] - x[k]) / (lattice[k + 1] - lattice[k])
        ions.append(x[k] + slope * (place - lattice[k]))
        of_ions.append(np.nan_to_num(np.abs(slope) * np.where(held, reach / np.sqrt(3), column(f"lattice_{follows}_errors", phase))))
        wide_ions.append(np.nan_to_num(np.abs(slope) * column(f"lattice_{follows}_systematic", phase)))
    f, ions_, units = np.array(moles), np.array(ions), content.frameworks[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.sum(f * units, axis=0)
        x = np.sum(f * ions_, axis=0) / total
        by_moles, by_ions = (ions_ - x * units) / total, f / total
        sigma = np.sqrt(np.sum((by_moles * of_moles) ** 2 + (by_ions * of_ions) ** 2, axis=0))
        wide = np.sqrt(np.sum((by_moles * wide_moles) ** 2 + (by_ions * wide_ions) ** 2, axis=0))
    known = np.isfinite(x)
    return np.where(known, x, np.nan), np.where(known, sigma, np.nan), np.where(known, wide, np.nan)


def _charge(frames: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Give the charge (C) at each frame and its error, of the clock and of what of the exposure is not covered."""
    charge = np.array(frames["charge"].values, float)
    errors = np.nan_to_num(np.asarray(frames["charge_errors"].values, float)) if "charge_errors" in frames.variables else np.zeros(charge.size)
    if {"coverage", "current", "exposure"} <= set(map(str, frames.variables)):
        missing = 1 - np.clip(np.nan_to_num(np.asarray(frames["coverage"].values, float)), 0, 1)
        passed = np.abs(np.nan_to_num(np.asarray(frames["current"].values, float))) * np.nan_to_num(np.asarray(frames["exposure"].values, float))
        errors = np.hypot(errors, missing * passed / 2)
    if "flags" in frames.variables:
        charge[(np.asarray(frames["flags"].values, int) & _NO_CHARGE) != 0] = np.nan
    return charge, np.where(np.isfinite(charge), errors, np.nan)


def _spots(frames: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Give the labels of the spots and the number of each frame's; a series without positions is one spot."""
    if "position" in frames.coords and frames["position"].dims == ("time",):
        values = frames["position"].values
        labels, which = np.unique(values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True)
        return (labels.astype(object) if labels.dtype.kind == "U" else labels), which.reshape(-1)
    return np.array([0]), np.zeros(frames.sizes["time"], int)


def _balance(
    frames: xr.Dataset, content: _Content, about: dict[str, Any], only: bool, spots: np.ndarray, which: np.ndarray
) -> tuple[xr.Dataset, str]:
    x, sigma, wide = _from_diffraction(frames, content)
    charge, of_charge = _charge(frames)
    if not np.isfinite(x * charge).any():
        return _nothing((x, sigma, wide), spots, f"{content.name}: no frame has both a fit and a charge yet")
    settings, sign = content.settings, content.sign
    mass = settings.mass or (about.get("active_mass") if sign < 0 or only else None)
    reference, of_reference = _reference(x, sigma, charge, settings)
    molar = settings.molar_mass or content.framework_mass + content.ion_mass * max(reference, 0.0)
    if mass is not None:
        per_charge = sign * molar / (float(mass) * 1e-3 * FARADAY)
        scale = f"{float(mass):g} mg of {molar:.2f} g/mol"
    else:
        slopes = [line_through(charge[which == k], x[which == k], sigma[which == k]) for k in range(spots.size)]
        good = [k for k, s in enumerate(slopes) if s is not None and sign * s[0] > 3 * s[1]]
        if not good:
            why = "its mass is not known (active_mass: in about:, or mass: of the layer), and its patterns do not follow the charge"
            return _nothing((x, sigma, wide), spots, f"{content.name}: {why}")
        best = max(good, key=lambda k: abs(slopes[k][0]))  # type: ignore[index]
        per_charge = slopes[best][0]  # type: ignore[index]
        scale = f"its mass is not known: scale fitted{f' to spot {spots[best]}' if spots.size > 1 else ''}"
    if settings.x_reference is None:
        reference, of_reference = _reference(x, sigma, charge, settings, per_charge)
    other, of_other = reference + per_charge * charge, np.abs(per_charge) * of_charge
    seen = np.full((4, spots.size), np.nan)
    words = []
    for k in range(spots.size):
        here = which == k
        line = line_through(other[here] - reference, x[here], np.hypot(sigma[here], of_other[here]))
        if line is None:
            continue
        seen[:, k] = line[0], line[1], line[2] - reference, line[3]
        words.append(_in_words(f"spot {spots[k]}" if spots.size > 1 else "the pattern", line[0], line[1], int(np.isfinite((x * other)[here]).sum())))
    ds = _dataset((x, sigma, wide), (other, of_other), seen, spots)
    ds.attrs["scale"] = scale
    what = "ions per formula unit at charge 0"
    ds["x_reference"] = ((), reference, {"units": "1", "long_name": what, "ancillary_variables": "x_reference_errors"})
    ds["x_reference_errors"] = ((), of_reference, {"units": "1", "long_name": f"1 sigma of {what}"})
    name = content.name if mass is not None else f"{content.name} ({scale})"
    return ds, f"{name}: {'; '.join(words) or 'too few frames for a slope'}"


def _nothing(seen: tuple[np.ndarray, ...], spots: np.ndarray, why: str) -> tuple[xr.Dataset, str]:
    """Give what the patterns show where it cannot be held against a charge, and the reason."""
    n = seen[0].size
    ds = _dataset(seen, (np.full(n, np.nan), np.full(n, np.nan)), np.full((4, spots.size), np.nan), spots)
    ds.attrs["scale"] = "not known"
    what = "ions per formula unit at charge 0"
    ds["x_reference"] = ((), np.nan, {"units": "1", "long_name": what, "ancillary_variables": "x_reference_errors"})
    ds["x_reference_errors"] = ((), np.nan, {"units": "1", "long_name": f"1 sigma of {what}"})
    return ds, why


def _in_words(who: str, slope: float, sigma: float, n: int) -> str:
    lag = f", lags by {100 * (1 - slope):.0f} %" if 1 - slope > max(2 * sigma, 0.005) else ""
    return f"{who} sees {slope:.3f} +- {sigma:.3f} of the charge ({n} frames{lag})"


def _reference(x: np.ndarray, sigma: np.ndarray, charge: np.ndarray, settings: Electrode, per_charge: float | None = None) -> tuple[float, float]:
    """Give the ions at charge 0: as told, of the frames before the charge has moved, or where the line through all of them is."""
    if settings.x_reference is not None:
        return settings.x_reference, 0.0
    both = np.isfinite(x * charge)
    if per_charge is not None:
        gone = np.flatnonzero(both & (np.abs(charge * per_charge) > _STILL))
        early = both & (np.arange(x.size) < (gone[0] if gone.size else x.size))
        if early.any():
            weight = 1 / np.maximum(sigma[early], 1e-6) ** 2
            values = x[early] - per_charge * charge[early]
            mean = float(np.sum(weight * values) / weight.sum())
            scatter = float(np.std(values)) / np.sqrt(max(early.sum() - 1, 1))
            return mean, max(float(weight.sum() ** -0.5), scatter)
    line = line_through(charge, x, sigma)
    return (line[2], line[3]) if line is not None else (float(np.nanmedian(x)), float(np.nanstd(x)))


def line_through(at: np.ndarray, values: np.ndarray, sigma: np.ndarray) -> tuple[float, float, float, float] | None:
    """Fit a weighted straight line to a time series; None for fewer than 5 points, or all at one place.

    Returns
    -------
    tuple
        Slope, its 1 sigma, intercept, its 1 sigma: of the larger of the stated errors, the scatter, and scatter that hangs together over frames
        (Newey & West, Econometrica 55 (1987) 703, Bartlett's kernel over 4 (n/100)^(2/9) frames).
    """
    good = np.isfinite(at) & np.isfinite(values) & np.isfinite(sigma)
    at, values = at[good], values[good]
    if at.size < _FEW or np.ptp(at) == 0:
        return None
    least = max(float(np.median(sigma[good])) * 0.3, 1e-9)  # no frame rules alone
    weight = 1 / np.maximum(sigma[good], least) ** 2
    rows = np.stack([at, np.ones_like(at)])
    inverse = np.linalg.inv((rows * weight) @ rows.T)
    found = inverse @ ((rows * weight) @ values)
    left = values - found @ rows
    plain = inverse * max(float(left @ (weight * left)) / (at.size - 2), 1.0)
    scores = rows * weight * left
    reach = max(1, int(4 * (at.size / 100) ** (2 / 9)))
    meat = scores @ scores.T
    for lag in range(1, min(reach, at.size - 1) + 1):
        both = scores[:, lag:] @ scores[:, :-lag].T
        meat += (1 - lag / (reach + 1)) * (both + both.T)
    robust = inverse @ meat @ inverse * at.size / (at.size - 2)
    errors = np.sqrt(np.maximum(np.diag(plain), np.diag(robust)))
    return float(found[0]), float(errors[0]), float(found[1]), float(errors[1])


def _dataset(seen: tuple[np.ndarray, ...], counted: tuple[np.ndarray, np.ndarray], slopes: np.ndarray, spots: np.ndarray) -> xr.Dataset:
    variables: dict[str, Any] = {}

    def add(name: str, dims: tuple[str, ...], values: np.ndarray, words: str, errors: np.ndarray, systematic: np.ndarray | None = None) -> None:
        linked = f"{name}_errors" + (f" {name}_systematic" if systematic is not None else "")
        sampling = {"sampling": "sample"} if "time" in dims else {}
        variables[name] = (dims, values, {"units": "1", "long_name": words, "ancillary_variables": linked} | sampling)
        variables[f"{name}_errors"] = (dims, errors, {"units": "1", "long_name": f"1 sigma of {words}"} | sampling)
        if systematic is not None:
            variables[f"{name}_systematic"] = (dims, systematic, {"units": "1", "long_name": f"half width, systematic, of {words}"} | sampling)

    x, sigma, wide = seen
    other, of_other = counted
    add("lithium_from_diffraction", ("time",), x, "ions per formula unit that the pattern shows", sigma, wide)
    add("lithium_from_charge", ("time",), other, "ions per formula unit that the charge leaves", of_other)
    add("charge_balance_residual", ("time",), x - other, "ions per formula unit seen beyond those that the charge leaves", np.hypot(sigma, of_other))
    add("charge_seen", ("spot",), slopes[0], "share of the charge that the pattern of a spot shows", slopes[1])
    add("lithium_offset", ("spot",), slopes[2], "ions per formula unit beyond x_reference where the charge is 0", slopes[3])
    return xr.Dataset(variables, coords={"spot": ("spot", spots, {"units": "1"} if spots.dtype.kind in "iuf" else {})})
