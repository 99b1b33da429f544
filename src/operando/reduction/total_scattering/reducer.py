"""The stage `total-scattering`: intensities, or S(Q), F(Q), G(r) from elsewhere, to S(Q), F(Q) and G(r) of every frame with their errors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from operando.config import MeasuredFile, Recipe
from operando.contract import ConfigError, ContractError
from operando.reduction.interface import Products, reducer
from operando.reduction.total_scattering.operator import Operator, Transformed
from operando.reduction.total_scattering.scattering_factors import parse_composition, polarisation_factor, scattering_factors

RPOLY = 0.9
"""angstrom: what PDFgetX3 takes by default."""
_MOST = 200_000
"""Points of r."""


class Subtracted(MeasuredFile):
    """A measured pattern that is subtracted from every frame: the mean over its frames, times `scale`."""

    scale: float = Field(default=1.0, ge=0, description="what it is multiplied by (1), beside monitor or exposure")


class TotalScatteringRecipe(Recipe):
    """Settings of the reduction of total scattering."""

    reducer: str = "total-scattering"
    composition: str | None = Field(
        default=None, description="formula of what is left when everything is subtracted, for example LiNi0.8Mn0.1Co0.1O2"
    )
    qmin: float = Field(default=0.0, ge=0, description="lowest Q that is used, 1/angstrom")
    qmax: float | None = Field(default=None, gt=0, description="highest Q that is used, 1/angstrom; default, and limit: the last channel")
    rpoly: float | None = Field(
        default=None,
        ge=0,
        le=5,
        description="angstrom; nothing below is structure: a polynomial of rpoly qmax / pi terms is taken off; default: 0.9 for intensities, else 0",
    )
    rmin: float = Field(default=0.0, ge=0, description="first r, angstrom")
    rmax: float = Field(default=30.0, gt=0, description="last r, angstrom")
    rstep: float = Field(default=0.01, gt=0, description="step of r, angstrom")
    window: Literal["step", "lorch"] = Field(default="step", description="what F(Q) is multiplied by up to qmax")
    background: Subtracted | None = Field(default=None, description="pattern without sample: file, loader, options, scale")
    container: Subtracted | None = Field(default=None, description="pattern of the empty cell or capillary: file, loader, options, scale")
    normalise: Literal["auto", "monitor", "exposure", "none"] = Field(
        default="auto",
        description="what frames and subtracted patterns are divided by; auto: the monitor, where something is subtracted and all have it",
    )
    compton: bool = Field(default=True, description="take tabulated Compton scattering off; false: leave it to the polynomial")
    recoil_exponent: float = Field(
        default=2.0, ge=0, le=4, description="power (1) of E'/E in Compton scattering: 2 counts photons, 3 adds up energies"
    )
    isotropic: bool = Field(default=False, description="find a constant beside the scale, such as fluorescence")
    scale_from: float | None = Field(
        default=None, gt=0, description="the scale is found from here to qmax, 1/angstrom; default: 0.6 qmax, with isotropic 0.2 qmax"
    )
    wavelength: float | None = Field(default=None, gt=0.01, lt=100, description="angstrom, where the frames do not say: for f', f'' and the recoil")
    polarisation: float | None = Field(
        default=None, ge=0, description="A (1) of (1 + A cos^2 2theta)/(1 + A) to divide by, where integration did not: 1 for whole rings"
    )
    density: float | None = Field(
        default=None, gt=0, lt=1, description="atoms per angstrom^3; with composition and Compton the scale is called absolute"
    )
    max_gap: float = Field(default=0.1, ge=0, description="dead channels are filled along a straight line over at most this, 1/angstrom")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.qmax is not None and self.qmax <= self.qmin:
            raise ValueError(f"qmax: {self.qmax:g} is not above qmin: {self.qmin:g} (1/angstrom)")
        if self.rmax <= self.rmin:
            raise ValueError(f"rmax: {self.rmax:g} is not above rmin: {self.rmin:g} (angstrom)")
        if (self.rmax - self.rmin) / self.rstep > _MOST:
            raise ValueError(f"rstep: {self.rstep:g} makes more than {_MOST} points")
        if self.composition is not None:
            try:
                parse_composition(self.composition)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def r(self) -> np.ndarray:
        """The grid of r, angstrom."""
        return self.rmin + self.rstep * np.arange(int(np.floor((self.rmax - self.rmin) / self.rstep + 1e-6)) + 1)


@reducer("total-scattering", technique="pdf", kind="frame", products=("reduced",), recipe=TotalScatteringRecipe, version="1")
def reduce_total_scattering(frames: xr.Dataset, recipe: TotalScatteringRecipe, state: Any = None) -> Products:
    """Reduce total scattering.

    Parameters
    ----------
    frames
        `intensity` (time, q), with `intensity_errors` or as counts; or `s_q`, `f_q` (time, q), or `g_r` (time, r), which are taken over.
        `wavelength` (angstrom) among the attributes. Absorption and multiple scattering are not corrected: where they vary slowly in Q the polynomial
        takes them.

    Returns
    -------
    Products
        `reduced`: `s_q` (1), `f_q` (1/angstrom) over (time, q) from qmin to qmax, `g_r` (1/angstrom^2) over (time, r), each with `_errors` where the
        intensity has errors (photon counts: Poisson): exact to first order, with those of the scale and of what is subtracted (which all frames
        share). `intensity_scale`: what the intensity was divided by to be in electron units per atom; `isotropic` where asked for;
        `channels_filled`, `channels_missing`. A frame that lacks channels, or that has no scale above three standard errors (beam off, background
        alone), is NaN.

    Raises
    ------
    ConfigError
        No composition, no wavelength for a polarisation, r beyond what the step of q can tell.
    ContractError
        No signal that can be transformed, fewer channels than parameters, or a background that does not cover the range of q.
    """
    signal = next((name for name in ("intensity", "s_q", "f_q", "g_r") if name in frames), None)
    if signal is None:
        raise ContractError("no signal of total scattering", found=", ".join(map(str, frames.data_vars)), expected="intensity, s_q, f_q or g_r")
    if signal == "g_r":
        return Products({"reduced": _taken_over(frames, recipe)})
    q, order = _channels(frames, recipe)
    values = np.asarray(frames[signal].isel(q=order).transpose("time", "q").values, float)
    variance = _variance(frames, signal, order, values)
    if signal == "intensity":
        operator, attrs = _operator_of_intensity(frames, recipe, q)
        values, variance, normalised = _subtracted(frames, recipe, q, values, variance)
        attrs["normalised_by"] = normalised
    else:
        if signal == "s_q":
            values, variance = q * (values - 1.0), None if variance is None else q**2 * variance
        operator = _operator(q.tobytes(), recipe.r.tobytes(), None, None, (recipe.rpoly or 0.0) * q[-1] / np.pi, recipe.window == "lorch", 0.0, False)
        attrs = {"intensity_scale_is": "that of the data given"}
    values, variance, filled, missing = _without_gaps(q, values, variance, recipe.max_gap)
    made = operator.apply(values, variance)
    attrs |= _settings(recipe, q, intensity=signal == "intensity")
    return Products({"reduced": _reduced(frames, recipe, q, made, filled, missing, attrs, signal)})


def _channels(frames: xr.Dataset, recipe: TotalScatteringRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Choose the channels from qmin to qmax, in rising order."""
    if "q" not in frames.dims:
        raise ContractError("the frames are not over q", found=", ".join(map(str, frames.dims)), hint="give the loader the wavelength")
    q = np.asarray(frames["q"].values, float)
    order = np.argsort(q, kind="stable")
    inside = (q[order] > 0) & (q[order] >= recipe.qmin - 1e-9) & (q[order] <= (recipe.qmax or np.inf) + 1e-9)
    order = order[inside]
    if order.size < 4:
        raise ContractError(
            "fewer than four channels lie from qmin to qmax",
            found=f"{order.size}; the frames have q from {q.min():g} to {q.max():g} 1/angstrom",
            expected=f"{recipe.qmin:g} to {recipe.qmax or q.max():g}",
            hint="correct qmin: and qmax:",
        )
    kept = q[order]
    reach = np.pi / float(np.median(np.diff(kept)))
    if recipe.rmax > reach:
        raise ConfigError(
            "rmax: is beyond what the step of q can tell", found=f"{recipe.rmax:g} angstrom", expected=f"at most pi / step = {reach:.4g} angstrom"
        )
    return kept, order


def _variance(frames: xr.Dataset, signal: str, order: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """Variance of the signal: its stated errors, or Poisson's where it is whole counts."""
    if f"{signal}_errors" in frames:
        return np.asarray(frames[f"{signal}_errors"].isel(q=order).transpose("time", "q").values, float) ** 2
    if signal == "intensity" and frames[signal].dtype.kind in "iu" and frames[signal].attrs.get("units") == "counts":
        return np.maximum(values, 1.0)
    return None


@functools.lru_cache(maxsize=1)
def _operator(
    q: bytes, r: bytes, mean_squared: bytes | None, expected: bytes | None, terms: float, lorch: bool, scale_from: float, isotropic: bool
) -> Operator:
    """One operator for all batches of a series, and no more than one in memory: 16 bytes per channel and r, 120 MB for 2500 x 3000."""
    grid, distances = np.frombuffer(q), np.frombuffer(r)
    if mean_squared is None or expected is None:
        return Operator(grid, distances, None, None, terms=terms, lorch=lorch)
    return Operator(
        grid,
        distances,
        np.frombuffer(mean_squared),
        np.frombuffer(expected),
        terms=terms,
        lorch=lorch,
        scale_from=scale_from,
        isotropic=isotropic,
    )


def _operator_of_intensity(frames: xr.Dataset, recipe: TotalScatteringRecipe, q: np.ndarray) -> tuple[Operator, dict[str, Any]]:
    if recipe.composition is None:
        raise ConfigError("composition: is missing", expected="a formula, for example LiNi0.8Mn0.1Co0.1O2", hint="name what scatters, in the recipe")
    wavelength = _wavelength(frames, recipe)
    mean_squared, expected = _expected(q.tobytes(), recipe.composition, wavelength, recipe.recoil_exponent, recipe.compton)
    terms = (RPOLY if recipe.rpoly is None else recipe.rpoly) * q[-1] / np.pi
    scale_from = recipe.scale_from or (0.2 if recipe.isotropic else 0.6) * q[-1]
    operator = _operator(q.tobytes(), recipe.r.tobytes(), mean_squared, expected, terms, recipe.window == "lorch", scale_from, recipe.isotropic)
    absolute = recipe.compton and recipe.density is not None
    lacks = [word for word, there in (("number density", recipe.density), ("Compton scattering", recipe.compton)) if not there]
    attrs: dict[str, Any] = {
        "intensity_scale_is": "absolute: I = <f^2> + Compton at high Q" if absolute else f"relative: without {' and '.join(lacks)}",
        "composition": recipe.composition,
        "form_factors": "xraylib, neutral atoms" + (", f' and f'' at the wavelength" if wavelength else ", no f' and f'' (wavelength not known)"),
        "compton": (
            "no" if not recipe.compton else f"recoil exponent {recipe.recoil_exponent:g}" if wavelength else "no recoil (wavelength not known)"
        ),
        "scale_from": float(scale_from),
    }
    if wavelength:
        attrs |= {"wavelength": wavelength, "wavelength_units": "angstrom"}
    return operator, attrs


@functools.lru_cache(maxsize=8)
def _expected(q: bytes, composition: str, wavelength: float | None, exponent: float, compton: bool) -> tuple[bytes, bytes]:
    """<f>^2, and <f^2> + Compton, at q."""
    factors = scattering_factors(parse_composition(composition), np.frombuffer(q), wavelength=wavelength, recoil_exponent=exponent)
    return factors.mean_squared.tobytes(), (factors.mean_of_squares + (factors.compton if compton else 0.0)).tobytes()


def _wavelength(frames: xr.Dataset, recipe: TotalScatteringRecipe) -> float | None:
    given = recipe.wavelength if recipe.wavelength is not None else frames.attrs.get("wavelength")
    return None if given is None else float(given)


@dataclass(frozen=True)
class _Pattern:
    """A subtracted pattern on the frames' channels: values and variance over its normalisation, and what that was."""

    values: np.ndarray
    variance: np.ndarray | None


def _subtracted(
    frames: xr.Dataset, recipe: TotalScatteringRecipe, q: np.ndarray, values: np.ndarray, variance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Divide by monitor or exposure, subtract background and container, divide by the polarisation."""
    patterns = [(one, one.series(frames)) for one in (recipe.background, recipe.container) if one is not None]
    by = _normalisation(recipe.normalise, [frames, *(ds for _, ds in patterns)])
    with np.errstate(divide="ignore", invalid="ignore"):
        level = 1.0 / _level(frames, by)[:, None]
    level[~np.isfinite(level)] = np.nan
    values = values * level
    variance = None if variance is None else variance * level**2
    for one, ds in patterns:
        pattern = _mean_pattern(one, ds, by, q)
        values = values - one.scale * pattern.values
        if variance is not None and pattern.variance is not None:
            variance = variance + one.scale**2 * pattern.variance
    if recipe.polarisation is not None:
        wavelength = _wavelength(frames, recipe)
        if wavelength is None:
            raise ConfigError("polarisation: needs the wavelength, which is not known", hint="wavelength: in the recipe, in angstrom")
        factor = polarisation_factor(q, wavelength, recipe.polarisation)
        values, variance = values / factor, None if variance is None else variance / factor**2
    return values, variance, by


def _normalisation(asked: str, series: list[xr.Dataset]) -> str:
    """Choose what all of them are divided by: by what they have and not by its values, so that every batch of a series is treated alike."""
    if asked == "auto":
        return "monitor" if len(series) > 1 and all("monitor" in ds.coords for ds in series) else "none"
    if asked != "none" and not all(asked in ds.coords for ds in series):
        raise ConfigError(f"normalise: {asked}, but not all of frames and subtracted patterns have it", hint="coords: in the loader's options")
    return asked


def _level(ds: xr.Dataset, by: str) -> np.ndarray:
    if by == "none":
        return np.ones(ds.sizes["time"])
    level = np.asarray(ds[by].values, float)
    return np.where(level > 0, level, np.nan)


def _mean_pattern(one: Subtracted, ds: xr.Dataset, by: str, q: np.ndarray) -> _Pattern:
    """Average a pattern over its frames, each weighted with its monitor or exposure, and bring it to the channels of the frames."""
    if "intensity" not in ds or "q" not in ds.dims:
        raise ContractError(
            "holds no intensity over q", file=one.file, found=", ".join(map(str, ds.data_vars)), hint="give the loader the wavelength"
        )
    grid = np.asarray(ds["q"].values, float)
    order = np.argsort(grid, kind="stable")
    grid = grid[order]
    slack = 1e-6 * max(abs(q[0]), 1.0) + float(np.median(np.diff(grid))) * 0.51
    if grid[0] > q[0] + slack or grid[-1] < q[-1] - slack:
        raise ContractError(
            "does not cover the range of q",
            file=one.file,
            found=f"{grid[0]:g} to {grid[-1]:g} 1/angstrom",
            expected=f"{q[0]:g} to {q[-1]:g}",
            hint="narrow qmin: and qmax:",
        )
    values = np.asarray(ds["intensity"].isel(q=order).transpose("time", "q").values, float)
    variance = _variance(ds, "intensity", order, values)
    level = _level(ds, by)
    good = np.isfinite(level)
    if not good.any():
        raise ContractError(f"has no frame with a {by}", file=one.file)
    total = level[good].sum()
    mean = values[good].sum(axis=0) / total
    spread = None if variance is None else variance[good].sum(axis=0) / total**2
    if grid.size == q.size and np.allclose(grid, q, rtol=0, atol=1e-6 * q[-1]):
        return _Pattern(mean, spread)
    at = np.clip(np.searchsorted(grid, q), 1, grid.size - 1)
    t = np.clip((q - grid[at - 1]) / (grid[at] - grid[at - 1]), 0.0, 1.0)
    return _Pattern((1 - t) * mean[at - 1] + t * mean[at], None if spread is None else (1 - t) ** 2 * spread[at - 1] + t**2 * spread[at])


def _without_gaps(
    q: np.ndarray, values: np.ndarray, variance: np.ndarray | None, most: float
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Fill dead channels between good ones that are near; count those filled and those that stay missing."""
    good = np.isfinite(values) if variance is None else np.isfinite(values) & np.isfinite(variance)
    filled, missing = np.zeros(len(values), np.int32), np.zeros(len(values), np.int32)
    if good.all():
        return values, variance, filled, missing
    values, variance = values.copy(), None if variance is None else variance.copy()
    for k in np.flatnonzero(~good.all(axis=1)):
        there = np.flatnonzero(good[k])
        dead = np.flatnonzero(~good[k])
        if there.size >= 2:
            at = np.searchsorted(there, dead)
            between = (at > 0) & (at < there.size)
            low, high = there[np.clip(at - 1, 0, None)], there[np.clip(at, None, there.size - 1)]
            near = between & (q[high] - q[low] <= most)
            some = dead[near]
            values[k, some] = np.interp(q[some], q[there], values[k, there])
            if variance is not None:
                variance[k, some] = np.interp(q[some], q[there], variance[k, there])
            filled[k] = some.size
            dead = dead[~near]
        values[k, dead] = np.nan
        missing[k] = dead.size
        if variance is not None and dead.size:
            variance[k] = np.nan
    return values, variance, filled, missing


def _settings(recipe: TotalScatteringRecipe, q: np.ndarray, *, intensity: bool) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "q_min": float(q[0]),
        "q_max": float(q[-1]),
        "rpoly": (RPOLY if intensity else 0.0) if recipe.rpoly is None else recipe.rpoly,
        "window": recipe.window,
        "not_corrected": "absorption, multiple scattering" if intensity else "",
    }
    if recipe.qmax is not None and recipe.qmax > q[-1] + 1e-9:
        attrs["q_max_asked"] = recipe.qmax
    if recipe.density is not None:
        attrs["number_density"] = recipe.density
    return {k: v for k, v in attrs.items() if v != ""}


def _reduced(
    frames: xr.Dataset,
    recipe: TotalScatteringRecipe,
    q: np.ndarray,
    made: Transformed,
    filled: np.ndarray,
    missing: np.ndarray,
    attrs: dict[str, Any],
    signal: str,
) -> xr.Dataset:
    definition = {"s_q": "1 + F(Q) / Q", "f_q": "Q (S(Q) - 1)", "g_r": "4 pi density r (g(r) - 1) = 2/pi int F(Q) sin(Qr) dQ"}
    words = {"s_q": "structure function", "f_q": "reduced structure function", "g_r": "reduced pair distribution function"}
    variables: dict[str, tuple[Any, ...]] = {}
    for name, values, errors, axis, unit in (
        ("s_q", 1.0 + made.f / q, None if made.f_errors is None else made.f_errors / q, "q", "1"),
        ("f_q", made.f, made.f_errors, "q", "1/angstrom"),
        ("g_r", made.g, made.g_errors, "r", "1/angstrom^2"),
    ):
        about = {"units": unit, "long_name": words[name], "definition": definition[name]}
        if errors is not None:
            about["ancillary_variables"] = f"{name}_errors"
            variables[f"{name}_errors"] = (("time", axis), errors.astype(np.float32), {"units": unit, "long_name": f"1 sigma of {name}"})
        variables[name] = (("time", axis), values.astype(np.float32), about)
    if signal == "intensity":
        unit = str(frames["intensity"].attrs.get("units", "1"))
        by = {"monitor": str(frames["monitor"].attrs.get("units", "1")) if "monitor" in frames.coords else "1", "exposure": "s"}
        unit = unit if attrs["normalised_by"] == "none" else "1" if unit == by[attrs["normalised_by"]] else f"{unit}/{by[attrs['normalised_by']]}"
        unit = unit.removesuffix("/1")
        scale: dict[str, Any] = {"units": unit, "long_name": "intensity of one electron unit per atom"}
        if made.scale_errors is not None:
            scale["ancillary_variables"] = "intensity_scale_errors"
            variables["intensity_scale_errors"] = ("time", made.scale_errors, {"units": unit, "long_name": "1 sigma of intensity_scale"})
        variables["intensity_scale"] = ("time", made.scale, scale)
        if recipe.isotropic:
            variables["isotropic"] = ("time", made.isotropic, {"units": unit, "long_name": "isotropic intensity, taken off"})
    variables["channels_filled"] = ("time", filled, {"units": "1", "long_name": "dead channels filled from their neighbours"})
    variables["channels_missing"] = ("time", missing, {"units": "1", "long_name": "channels that are missing; the frame is not transformed"})
    coords = {
        "time": frames["time"].variable,
        "q": ("q", q, {"units": "1/angstrom", "long_name": "momentum transfer"}),
        "r": ("r", recipe.r, {"units": "angstrom", "long_name": "distance"}),
    }
    return xr.Dataset(variables, coords, attrs)


def _taken_over(frames: xr.Dataset, recipe: TotalScatteringRecipe) -> xr.Dataset:
    """Give G(r) that others made, from rmin to rmax, on its own grid."""
    r = np.asarray(frames["r"].values, float)
    inside = np.flatnonzero((r >= recipe.rmin - 1e-9) & (r <= recipe.rmax + 1e-9))
    if inside.size < 4:
        raise ContractError(
            "fewer than four points lie from rmin to rmax", found=f"r from {r.min():g} to {r.max():g} angstrom", hint="correct rmin: and rmax:"
        )
    names = [name for name in ("g_r", "g_r_errors") if name in frames]
    kept = ("q_min", "q_max", "rpoly", "composition", "number_density", "definition")
    attrs = {k: frames.attrs[k] for k in kept if k in frames.attrs} | {"intensity_scale_is": "that of the data given"}
    attrs |= {name: value for name, value in (("q_min", recipe.qmin), ("q_max", recipe.qmax)) if value}  # where the file does not say, or wrongly
    made = frames[names].isel(r=inside)
    return made.drop_vars([c for c in made.coords if c not in ("time", "r")]).assign_attrs(attrs)
