"""The reducer of impedance: validity, circuit, relaxation times and overvoltage of every sweep, as observables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from operando.config import Recipe
from operando.contract import ConfigError
from operando.reduction.impedance.circuit import Circuit
from operando.reduction.impedance.fitting import Fit, choose_circuit, fit_circuit_series
from operando.reduction.impedance.kramers_kronig import kk_residuals
from operando.reduction.impedance.relaxation import Relaxation, drt, grid_of, strength_of, track
from operando.reduction.impedance.stationarity import sweep_stationarity, time_consistent
from operando.reduction.interface import Products, reducer

AUTO = tuple(f"L0-R0-{'-'.join(f'p(R{k},CPE{k})' for k in range(1, arcs + 1))}{tail}" for arcs in (1, 2, 3) for tail in ("", "-W9", "-CPE9"))
"""Circuits among which Akaike's criterion chooses where the recipe names none: one to three arcs, with no tail, a Warburg or a CPE."""

_UNIT = "electrode"
_TAKEN = frozenset(
    "time source_time exposure segment setup source source_index quality stamp position frequency point point_time n_points tau electrode peak flags "
    "voltage current charge soc cycle half_cycle step direction coverage".split()
)
_WORDS = {"R": "resistance", "tau": "time_constant", "C": "capacitance", "L": "inductance", "sigma": "warburg_coefficient", "Q": "q", "n": "exponent"}


def _circuits(recipe: ImpedanceRecipe) -> list[Circuit]:
    if recipe.circuit is None:
        return []
    texts = list(AUTO) if recipe.circuit == "auto" else [recipe.circuit] if isinstance(recipe.circuit, str) else recipe.circuit
    candidates = [Circuit.parse(text) for text in texts]
    if not candidates:
        raise ConfigError("circuit: is an empty list", hint="circuit: null for none")
    if len(candidates) > 1 and (recipe.start or recipe.bounds):
        raise ConfigError("start: and bounds: belong to one circuit", found=f"{len(candidates)} circuits to choose from", hint="name one circuit")
    return candidates


def _check_names(circuit: Circuit, names: Mapping[str, str]) -> None:
    """See that every name is of something in the circuit, is one that the store can keep, and is given once."""
    arcs = circuit.arcs
    inside = {circuit.parameters[k]: number for number, arc in enumerate(arcs, 1) for k in (arc.resistance, *arc.bridge)}
    known = {*(p for p in circuit.parameters if p not in inside), *(f"arc_{k}" for k in range(1, len(arcs) + 1))}
    unknown = [key for key in names if key not in known]
    if unknown:
        one = inside.get(unknown[0])
        why = f"which belongs to arc_{one}" if one else f"which the circuit {circuit.text} does not have"
        raise ConfigError(f"names: holds {unknown[0]!r}, {why}", expected=", ".join(sorted(known)))
    for name in names.values():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigError("names: a name is lower case, digits and '_'", found=name)
        if name in _TAKEN or name.endswith(("_errors", "_systematic")):
            raise ConfigError("names: a name that the store keeps for something else", found=name)
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise ConfigError(f"names: two are to be called {twice[0]!r}", expected="a name of its own for each")


class ImpedanceRecipe(Recipe):
    """Settings of the reduction of impedance."""

    reducer: str = "eis"
    circuit: str | list[str] | None = Field(
        default="auto",
        description="L0-R0-p(R1,CPE1)-p(R2,CPE2)-W1 ...; a list (or auto: 1 to 3 arcs) to choose from, on the first electrode; null: none",
    )
    names: dict[str, str] = Field(
        default_factory=dict,
        description="physical names: of parameters (R0: ohmic_resistance), of arcs by their order (arc_1: interphase, for interphase_resistance)",
    )
    start: dict[str, float] = Field(default_factory=dict, description="parameters to start from, in ohm, s, F, H")
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="lowest and highest value of parameters, in ohm, s, F, H; arcs with bounds keep their places"
    )
    weights: Literal["modulus", "unit", "proportional"] = Field(default="modulus", description="what residuals are measured by")
    frequency_min: float | None = Field(default=None, gt=0, description="lowest frequency that is used, Hz; lower ones stay in the frames")
    frequency_max: float | None = Field(default=None, gt=0, description="highest frequency that is used, Hz; higher ones stay in the frames")
    electrodes: list[Literal["cell", "we", "ce"]] | None = Field(default=None, description="which electrodes to reduce; default: all in the files")
    drt: bool = Field(default=True, description="distribute relaxation times")
    drt_strength: float | None = Field(
        default=None, gt=0, description="strength of the penalty (1); default: median over the series of what generalised cross-validation chooses"
    )
    kk_rate: float = Field(default=0.01, gt=0, lt=0.5, description="share (1) of clean spectra that may fail the Kramers-Kronig test")
    time_consistent: bool = Field(
        default=False,
        description="interpolate each frequency between neighbouring sweeps to the middle of the sweep, for cells that change meanwhile",
    )
    diffusion_length: float | None = Field(default=None, gt=0, description="length of diffusion in um: gives diffusion_coefficient from Ws or Wo")

    @model_validator(mode="after")
    def _circuits_and_names_fit(self) -> Self:
        """Read the circuits before anything is built, and see that names are of what they hold."""
        try:
            circuits = _circuits(self)
            if len(circuits) == 1 and isinstance(self.circuit, str):
                _check_names(circuits[0], self.names)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


@reducer(
    "eis",
    technique="eis",
    kind="series",
    products=("observables", "reduced"),
    recipe=ImpedanceRecipe,
    version="2",
    about=("area", "capacity"),
    default=True,
)
def reduce_impedance(frames: xr.Dataset, recipe: ImpedanceRecipe, state: Any = None) -> Products:
    """Reduce impedance sweeps.

    Parameters
    ----------
    frames
        Sweeps: `impedance` (time, point[, electrode]) ohm, `frequency`, `point_time` (time, point); `dc_voltage` V, `dc_current` A where recorded.
        `attrs["about"]` (JSON) may hold `area` (cm^2), which adds area-specific resistances, and `capacity` (mAh), against which the change of the
        state of charge over a sweep counts.

    Returns
    -------
    Products
        `observables` over time (and electrode): Kramers-Kronig residual, noise, drift within the sweep and verdict; change of potential, charge that
        flowed; intercept with the real axis; parameters of the circuit with 1 sigma, arcs that are built alike in the order of their time constants,
        others as written (`arc_1_resistance` ohm, `arc_1_time_constant` s, `arc_1_capacitance` F, or the names of the recipe); `fit_misfit` (scatter
        of the fit over the spectrum's own noise); `unexplained_overvoltage` = E - I Re Z at the lowest frequency (V: what is slower than the
        measured frequencies, and the equilibrium potential itself); peaks of the distribution of relaxation times over `peak`. `reduced`: fitted
        impedance, Kramers-Kronig residuals per point, the distribution over `tau` with its band.

    Raises
    ------
    ConfigError
        A circuit, name or bound that is none, or electrodes that were not measured.
    """
    z, electrodes = _impedances(frames, recipe)
    frequency = np.asarray(frames["frequency"].values, float)
    when = np.asarray(frames["point_time"].values, float)
    if recipe.time_consistent:
        z = _at_one_moment(frames, frequency, z, when)
    z = _in_range(recipe, frequency[..., None], z)
    chosen, scores = _chosen(recipe, frequency, z)
    parts = [_reduced(frames, recipe, frequency, z[..., e], when, e, chosen) for e in range(z.shape[-1])]
    observables, reduced = (_joined([part[k] for part in parts], electrodes) for k in (0, 1))
    attrs: dict[str, Any] = {"technique": "eis", "time_consistent": int(recipe.time_consistent)}
    if chosen is not None:
        attrs["circuit"] = chosen.text
    if scores:
        attrs["circuits_tried"] = json.dumps({text: round(value, 2) if np.isfinite(value) else None for text, value in scores.items()})
    return Products({"observables": observables.assign_attrs(attrs), "reduced": reduced.assign_attrs(attrs)})


def _impedances(frames: xr.Dataset, recipe: ImpedanceRecipe) -> tuple[np.ndarray, list[str] | None]:
    """(time, point, electrode), and the names along the last; None where the files have no such dim."""
    if _UNIT not in frames["impedance"].dims:
        if recipe.electrodes and set(recipe.electrodes) - {"cell"}:
            raise ConfigError(
                "electrodes names what was not measured", found=", ".join(recipe.electrodes), expected="two-electrode files hold the cell only"
            )
        return np.asarray(frames["impedance"].values, complex)[..., None], None
    there = [str(name) for name in frames[_UNIT].values]
    wanted = recipe.electrodes or there
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ConfigError("electrodes names what was not measured", found=", ".join(missing), expected=", ".join(there))
    values = np.asarray(frames["impedance"].transpose("time", "point", _UNIT).values, complex)
    return values[..., [there.index(name) for name in wanted]], list(wanted)


def _at_one_moment(frames: xr.Dataset, frequency: np.ndarray, z: np.ndarray, when: np.ndarray) -> np.ndarray:
    middle = frames["time"].values.astype("datetime64[ns]").astype(np.int64)
    seconds = (middle - middle.min()) * 1e-9
    begin = seconds - np.asarray(frames["exposure"].values, float) / 2
    return np.stack([time_consistent(frequency, z[..., e], begin[:, None] + when, seconds) for e in range(z.shape[-1])], axis=-1)


def _in_range(recipe: ImpedanceRecipe, frequency: np.ndarray, z: np.ndarray) -> np.ndarray:
    outside = np.zeros(frequency.shape, bool)
    with np.errstate(invalid="ignore"):
        if recipe.frequency_min is not None:
            outside |= frequency < recipe.frequency_min
        if recipe.frequency_max is not None:
            outside |= frequency > recipe.frequency_max
    return np.where(outside, complex(np.nan, np.nan), z)


def _chosen(recipe: ImpedanceRecipe, frequency: np.ndarray, z: np.ndarray) -> tuple[Circuit | None, dict[str, float]]:
    if recipe.circuit is None:
        return None, {}
    candidates = _circuits(recipe)
    if len(candidates) == 1:
        return candidates[0], {}
    return choose_circuit(frequency, z[..., 0], candidates, weights=recipe.weights)


def _reduced(
    frames: xr.Dataset, recipe: ImpedanceRecipe, frequency: np.ndarray, z: np.ndarray, when: np.ndarray, electrode: int, circuit: Circuit | None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Observables and curves of one electrode."""
    voltage, current = (_recorded(frames, name, electrode, recipe) for name in ("dc_voltage", "dc_current"))
    flows = -1.0 if _is_counter(frames, electrode, recipe) else 1.0
    table = _Table()
    curves: dict[str, tuple[Any, ...]] = {}
    validity = [kk_residuals(f, one, t) for f, one, t in zip(frequency, z, when, strict=True)]
    table.add("kk_residual", [k.rms for k in validity], "1", "Kramers-Kronig residual, root mean square, fraction of the modulus")
    table.add("noise", [k.noise for k in validity], "1", "scatter between neighbouring frequencies, 1 sigma, fraction of the modulus")
    table.add("kk_p", [k.p for k in validity], "1", "how often noise alone leaves residuals that hang together as much")
    table.add(
        "impedance_drift",
        [k.drift for k in validity],
        "1",
        "change of the impedance over the sweep, as a fraction",
        [k.drift_errors for k in validity],
    )
    passed = [k.passes(recipe.kk_rate) for k in validity]
    table.add(
        "kk_passed",
        np.array([-1 if one is None else int(one) for one in passed], np.int8),
        "1",
        f"1: linear, causal and stationary as far as can be told (a clean spectrum fails at a rate of {recipe.kk_rate:g}); 0: not; -1: not known",
    )
    curves["kk_residuals"] = (("time", "point"), np.stack([k.residuals for k in validity]), "1", "Kramers-Kronig residuals, fractions of the modulus")
    about = json.loads(frames.attrs.get("about") or "{}")
    changed, flowed = sweep_stationarity(when, voltage, current)
    if voltage is not None:
        table.add("sweep_voltage", _mean(voltage, frequency), "V", "mean potential during the sweep")
        table.add("sweep_voltage_change", changed, "V", "change of the potential over the sweep")
    if current is not None:
        table.add("sweep_current", _mean(current, frequency), "A", "mean current during the sweep")
        table.add("sweep_charge", flowed, "C", "charge that flowed during the sweep")
        if about.get("capacity") is not None:
            table.add("sweep_soc_change", flowed / (3.6 * float(about["capacity"])), "1", "change of the state of charge over the sweep")
    if voltage is not None and current is not None:
        table.add(
            "unexplained_overvoltage",
            _mean(voltage, frequency) - flows * _mean(current, frequency) * _at_lowest(frequency, z).real,
            "V",
            "E - I Re Z at the lowest frequency: equilibrium potential and whatever is slower than the measured frequencies",
        )
    table.add(
        "intercept_resistance", [_intercept(f, one) for f, one in zip(frequency, z, strict=True)], "ohm", "real part where the imaginary one is zero"
    )
    if circuit is not None:
        fits = fit_circuit_series(frequency, z, circuit, start=recipe.start, bounds=recipe.bounds, weights=recipe.weights)
        _circuit_observables(table, circuit, fits, recipe, about.get("area"), np.array([k.noise for k in validity]))
        fitted = np.full(z.shape, complex(np.nan, np.nan))
        for k, fit in enumerate(fits):
            if np.isfinite(fit.theta).all():
                there = np.isfinite(frequency[k]) & (frequency[k] > 0)
                fitted[k, there] = circuit.with_slopes(fit.theta, frequency[k, there])[0]
        curves["impedance_fit"] = (("time", "point"), fitted, "ohm", f"impedance of the fitted circuit {circuit.text}")
    coords: dict[str, Any] = {"frequency": frames["frequency"].variable}
    if recipe.drt and (np.isfinite(z) & (frequency > 0)).any():
        grid = grid_of(np.where(np.isfinite(z), frequency, np.nan))
        coords["tau"] = ("tau", grid, {"units": "s", "long_name": "relaxation time"})
        asked = [strength_of(f, one, grid) for f, one in zip(frequency, z, strict=True)] if recipe.drt_strength is None else [recipe.drt_strength]
        strength = float(np.nanmedian(asked)) if np.isfinite(asked).any() else None  # one for the series, so that its spectra compare
        _relaxations(table, curves, [drt(f, one, tau=grid, strength=strength) for f, one in zip(frequency, z, strict=True)])
    reduced = xr.Dataset({name: (dims, values, {"units": unit, "long_name": words}) for name, (dims, values, unit, words) in curves.items()}, coords)
    return table.dataset(frames), reduced.assign_coords(time=frames["time"].variable)


def _is_counter(frames: xr.Dataset, electrode: int, recipe: ImpedanceRecipe) -> bool:
    if _UNIT not in frames["impedance"].dims:
        return False
    return _wanted(frames, recipe)[electrode] == "ce"


def _wanted(frames: xr.Dataset, recipe: ImpedanceRecipe) -> list[str]:
    return [str(name) for name in recipe.electrodes or frames[_UNIT].values]


def _recorded(frames: xr.Dataset, name: str, electrode: int, recipe: ImpedanceRecipe) -> np.ndarray | None:
    if name not in frames.variables:
        return None
    values = frames[name]
    if _UNIT in values.dims:
        values = values.isel({_UNIT: [str(one) for one in frames[_UNIT].values].index(_wanted(frames, recipe)[electrode])})
    return np.asarray(values.transpose("time", "point").values, float)


def _mean(values: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    good = np.isfinite(values) & np.isfinite(frequency) & (frequency > 0)
    with np.errstate(invalid="ignore"):
        return np.where(good, values, 0.0).sum(axis=1) / np.where(good.any(axis=1), good.sum(axis=1), np.nan)


def _at_lowest(frequency: np.ndarray, z: np.ndarray) -> np.ndarray:
    usable = np.where(np.isfinite(z) & (frequency > 0), frequency, np.inf)
    place = np.argmin(usable, axis=1)
    rows = np.arange(len(z))
    return np.where(np.isfinite(usable[rows, place]), z[rows, place], complex(np.nan, np.nan))


def _intercept(frequency: np.ndarray, z: np.ndarray) -> float:
    """Real part at the crossing of the real axis at the highest frequency; NaN where there is none."""
    good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(z)
    order = np.argsort(-frequency[good])
    y = z[good][order]
    crossing = np.flatnonzero((y.imag[:-1] > 0) & (y.imag[1:] <= 0))
    if not crossing.size:
        return float("nan")
    k = int(crossing[0])
    share = y.imag[k] / (y.imag[k] - y.imag[k + 1])
    return float(y.real[k] + share * (y.real[k + 1] - y.real[k]))


class _Table:
    """Observables in the making."""

    def __init__(self) -> None:
        self.variables: dict[str, tuple[Any, ...]] = {}

    def add(self, name: str, values: Any, unit: str, words: str, errors: Any = None, dims: tuple[str, ...] = ("time",)) -> None:
        if name in self.variables:
            raise ConfigError(f"two observables are to be called {name!r}", hint="give them different names in names:")
        attrs: dict[str, Any] = {"units": unit, "long_name": words, "sampling": "sample"}
        if errors is not None:
            attrs["ancillary_variables"] = f"{name}_errors"
            self.variables[f"{name}_errors"] = (dims, np.asarray(errors), {"units": unit, "long_name": f"1 sigma of {words}", "sampling": "sample"})
        self.variables[name] = (dims, np.asarray(values), attrs)

    def dataset(self, frames: xr.Dataset) -> xr.Dataset:
        return xr.Dataset(self.variables, coords={"time": frames["time"].variable})


def _circuit_observables(table: _Table, circuit: Circuit, fits: list[Fit], recipe: ImpedanceRecipe, area: Any, noise: np.ndarray) -> None:
    """Name and add what the circuit gives: arcs first, then every other parameter."""
    arcs = circuit.arcs
    _check_names(circuit, recipe.names)
    theta = np.array([fit.theta for fit in fits])
    spread = np.array([np.sqrt(np.diag(fit.covariance)) for fit in fits])
    taken: set[int] = set()
    for number, arc in enumerate(arcs, 1):
        base = recipe.names.get(f"arc_{number}", f"arc_{number}")
        values, errors = np.exp(theta[:, arc.resistance]), np.exp(theta[:, arc.resistance]) * spread[:, arc.resistance]
        table.add(f"{base}_resistance", values, "ohm", f"resistance of {_spoken(base)}", errors)
        _per_area(table, f"{base}_resistance", values, errors, area)
        log_tau, tau_errors, log_c, c_errors = _times(arc, fits)
        table.add(f"{base}_time_constant", np.exp(log_tau), "s", f"time constant of {_spoken(base)}", np.exp(log_tau) * tau_errors)
        table.add(
            f"{base}_capacitance",
            np.exp(log_c),
            "F",
            f"effective capacitance of {_spoken(base)}: time constant over resistance",
            np.exp(log_c) * c_errors,
        )
        if len(arc.bridge) == 2:
            n = np.exp(theta[:, arc.bridge[1]])
            table.add(
                f"{base}_exponent", n, "1", f"exponent of {_spoken(base)}: 1 for a semicircle, less for a depressed arc", n * spread[:, arc.bridge[1]]
            )
        taken |= {arc.resistance, *arc.bridge}
    series = circuit.series_of("R")
    for place, parameter in enumerate(circuit.parameters):
        if place in taken:
            continue
        unit = circuit.units[place]
        default = "series_resistance" if series == [place] else "inductance" if circuit.series_of("L") == [place] else _default_name(circuit, place)
        name = recipe.names.get(parameter, default)
        values, errors = np.exp(theta[:, place]), np.exp(theta[:, place]) * spread[:, place]
        table.add(name, values, unit if circuit.kinds[place] != "Q" else "1", _words(name, unit), errors)
        if unit == "ohm":
            _per_area(table, name, values, errors, area)
        if circuit.kinds[place] == "tau" and parameter.startswith(("Ws", "Wo")) and recipe.diffusion_length is not None:
            length = recipe.diffusion_length * 1e-4  # um -> cm
            coefficient = length**2 / values
            table.add(
                _coefficient_name(circuit, place),
                coefficient,
                "cm^2/s",
                f"diffusion coefficient, length {recipe.diffusion_length:g} um",
                coefficient * spread[:, place],
            )
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = np.array([fit.scatter for fit in fits]) / noise
    table.add(
        "fit_misfit", misfit, "1", "scatter of the fit over the noise of the spectrum: about 1 where the circuit is the cell's, more where it is not"
    )
    table.add("fit_scatter", [fit.scatter for fit in fits], "1", "root mean square of the weighted residuals of the circuit")
    converged = np.array([-1 if not fit.points else int(fit.converged and not fit.at_bound.any()) for fit in fits], np.int8)
    table.add("fit_converged", converged, "1", "1: converged; 0: not, or a parameter lies at a bound; -1: too few points")


def _coefficient_name(circuit: Circuit, place: int) -> str:
    several = sum(kind == "tau" and name.startswith(("Ws", "Wo")) for kind, name in zip(circuit.kinds, circuit.parameters, strict=True)) > 1
    element = circuit.parameters[place].partition(".")[0].lower()
    return f"{element}_diffusion_coefficient" if several else "diffusion_coefficient"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _words(name: str, unit: str) -> str:
    return _spoken(name) + (f", in {unit}" if "^" in unit and "n" in unit else "")


def _default_name(circuit: Circuit, place: int) -> str:
    element = circuit.parameters[place].partition(".")[0].lower()
    return f"{element}_{_WORDS[circuit.kinds[place]]}"


def _per_area(table: _Table, name: str, values: np.ndarray, errors: np.ndarray, area: Any) -> None:
    if area is None:
        return
    stem = name.removesuffix("_resistance")
    table.add(f"{stem}_area_specific_resistance", values * float(area), "ohm*cm^2", f"{_spoken(name)} times the area", errors * float(area))


def _times(arc: Any, fits: list[Fit]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logarithms of time constant and effective capacitance (tau / R) of an arc, each with 1 sigma."""
    rows = []
    for fit in fits:
        log_tau, slope = arc.log_tau(fit.theta)
        less = slope.copy()
        less[arc.resistance] -= 1.0
        spread = [float(np.sqrt(max(s @ fit.covariance @ s, 0.0))) if np.isfinite(log_tau) else np.nan for s in (slope, less)]
        rows.append((log_tau, spread[0], log_tau - fit.theta[arc.resistance], spread[1]))
    a = np.array(rows)
    return a[:, 0], a[:, 1], a[:, 2], a[:, 3]


def _relaxations(table: _Table, curves: dict[str, tuple[Any, ...]], found: list[Relaxation | None]) -> None:
    """Add the distributions, and their peaks followed over the series."""
    sizes = next((one.tau.size for one in found if one is not None), None)
    if sizes is None:
        return
    empty = np.full(sizes, np.nan)
    for name, words in (
        ("gamma", "distribution of relaxation times, per ln tau"),
        ("low", "lower end of its band (noise and strength of the penalty, 95 %)"),
        ("high", "upper end of its band (noise and strength of the penalty, 95 %)"),
    ):
        label = "drt" if name == "gamma" else f"drt_{name}"
        curves[label] = (("time", "tau"), np.stack([empty if one is None else getattr(one, name) for one in found]), "ohm", words)
    table.add(
        "drt_strength",
        [np.nan if one is None else one.strength for one in found],
        "1",
        "strength of the penalty on the distribution of relaxation times",
    )
    tracks = track([[] if one is None else one.peaks for one in found])
    if not tracks:
        return

    def column(get: Any) -> np.ndarray:
        return np.array([[np.nan if peak is None else get(peak) for peak in row] for row in tracks]).T

    dims = ("time", "peak")
    table.add(
        "drt_peak_resistance",
        column(lambda p: p.resistance),
        "ohm",
        "resistance under a peak between its valleys (what a depressed arc has beyond them counts for its neighbours)",
        column(lambda p: p.errors),
        dims,
    )
    table.add("drt_peak_time_constant", column(lambda p: 10**p.log10_tau), "s", "centre of a peak", dims=dims)


def _joined(parts: list[xr.Dataset], electrodes: list[str] | None) -> xr.Dataset:
    """Lay electrodes side by side; peaks are numbered in each."""
    if electrodes is None:
        return parts[0]
    longest = max(part.sizes.get("peak", 0) for part in parts)
    padded = [part.pad(peak=(0, longest - part.sizes["peak"])) if "peak" in part.dims and part.sizes["peak"] < longest else part for part in parts]
    joined = xr.concat(padded, dim="electrode", data_vars="all", coords="minimal", compat="override", join="outer", combine_attrs="override")
    return joined.assign_coords(electrode=("electrode", np.array(electrodes, dtype=object))).transpose("time", ...)
