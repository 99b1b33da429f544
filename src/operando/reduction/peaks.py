"""The reducer `peaks`: single diffraction lines followed through a series, where a whole pattern asks for too much or a structure is not known."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from operando.config import Recipe
from operando.contract import ConfigError
from operando.reduction.interface import Products, reducer
from operando.reduction.lines import Doublet, Line, LineFits, LineFlag, fit_lines, together
from operando.reduction.patterns import angle_of, angles, axis_of, usable, wavelengths

_UNITS = {"q": "1/angstrom", "two_theta": "deg", "d": "angstrom"}
Unit = Literal["q", "two_theta", "d"]


class Peak(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    range: tuple[float, float] = Field(description="lowest, highest place of the line (unit: of the peak)")
    unit: Unit | None = Field(None, description="of range and window: q (1/angstrom), two_theta (degrees), d (angstrom); default: that of the recipe")
    window: tuple[float, float] | None = Field(
        None,
        description="what is fitted, background on both sides in it (unit: of the peak); default: the range. Overlapping ones are fitted together",
    )
    fwhm: float | None = Field(
        None, gt=0, description="expected width (degrees, or 1/angstrom where the fit is over q), for a line too weak to be seen; default: range / 6"
    )
    eta: float | None = Field(None, ge=0, le=1, description="Lorentzian share (1) that is held: 0 Gaussian, 1 Lorentzian; default: fitted")

    @model_validator(mode="after")
    def _ordered(self) -> Peak:
        for name, pair in (("range", self.range), ("window", self.window)):
            if pair is not None and not 0 < pair[0] < pair[1]:
                raise ValueError(f"{name}: [{pair[0]:g}, {pair[1]:g}] is not lowest, highest, above 0")
        if self.window is not None and not (self.window[0] <= self.range[0] and self.range[1] <= self.window[1]):
            raise ValueError(f"window: [{self.window[0]:g}, {self.window[1]:g}] does not hold the range [{self.range[0]:g}, {self.range[1]:g}]")
        return self


class PeaksRecipe(Recipe):
    """Position, area and width of single lines."""

    reducer: str = "peaks"
    peaks: dict[str, Peak] = Field(min_length=1, description="name -> line; names such as '003' in quotes")
    unit: Unit = Field("q", description="of ranges and windows: q (1/angstrom), two_theta (degrees) or d (angstrom)")
    axis: Literal["two_theta", "q"] | None = Field(
        None, description="over which the lines are fitted, and the unit of widths and areas; default: two_theta where the wavelength is known"
    )
    wavelength: tuple[float, ...] | None = Field(
        None, min_length=1, max_length=2, description="angstrom, the stronger first; by default what the series says, K-alpha 2 beside K-alpha 1"
    )
    wavelength_ratio: float = Field(0.5, gt=0, le=1, description="intensity of the second wavelength relative to the first (1)")
    detection: float = Field(5.0, ge=2, le=50, description="sigma of the area above which a line is there; below it there is an area, no position")

    @field_validator("peaks", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ValueError(f"{name!r} was read as a number: put the name of the peak in quotes")
            if not name or any(c in name for c in "[]=/,"):
                raise ValueError(f"{name!r} holds one of [ ] = / , and could not be addressed")
        return value


@reducer("peaks", technique="xrd", kind="frame", products=("peaks",), recipe=PeaksRecipe, version="1")
def follow_peaks(frames: xr.Dataset, recipe: PeaksRecipe, state: Any = None) -> Products:
    """Fit single lines to every frame: pseudo-Voigts over a linear background.

    Frames that are dark, damaged or empty give NaN, and lines that are not there an area with its error and no position.

    Parameters
    ----------
    frames
        Patterns: `intensity` (time, q or two_theta), `intensity_errors` where known (else counts are taken for what they are, and for other numbers
        their scatter says how sure they are). K-alpha 2 is fitted beside K-alpha 1 where attributes or the recipe name it.
    recipe
        Names and ranges of the lines.

    Returns
    -------
    Products
        `peaks` over (time, peak): `position_two_theta` (deg) and `position_q` (1/angstrom), `d_spacing` (angstrom), `area` (intensity x degrees),
        `fwhm` (deg), `height`, `eta` (Lorentzian share), `centre_of_gravity` (deg; of the range, without a model), each with `_errors` (1 sigma; see
        `operando.reduction.lines`); `goodness_of_fit`, `peak_flags`. Degrees are 1/angstrom where the fit is over q.

    Raises
    ------
    ConfigError
        A range in a unit that the series does not have for want of a wavelength.
    ContractError
        A range with too few channels in it.
    """
    axis = axis_of(frames)
    waves, shares = _waves(frames, recipe)
    two_theta = angles(frames, axis, float(waves[0]) if waves.size else np.nan) if waves.size or axis == "two_theta" else np.array([])
    over = recipe.axis or ("two_theta" if two_theta.size else "q")
    if over == "q" and axis == "two_theta":
        if not waves.size:
            raise ConfigError("a fit over q needs the wavelength", hint="wavelength: in the recipe, or as an option of the loader")
        x = 4 * np.pi * np.sin(np.radians(two_theta) / 2) / waves[0]
    elif over == "two_theta" and not two_theta.size:
        raise ConfigError("a fit over two_theta needs the wavelength", hint="wavelength: in the recipe, or as an option of the loader")
    else:
        x = two_theta if over == "two_theta" else np.asarray(frames["q"].values, float)
    finite = np.isfinite(x)
    order = np.flatnonzero(finite)[np.argsort(x[finite], kind="stable")]
    values = np.array(frames["intensity"].transpose("time", axis).values, float)[:, order]
    values[~usable(frames, values)] = np.nan
    errors = None
    if "intensity_errors" in frames.variables:
        errors = np.asarray(frames["intensity_errors"].transpose("time", axis).values, float)[:, order]
    wave = float(waves[0]) if waves.size else None
    lines = [_line(name, peak, recipe, over, wave) for name, peak in recipe.peaks.items()]
    doublet = Doublet(float(waves[1] / waves[0]), float(shares[1]), over == "two_theta") if waves.size == 2 else None
    unit = str(frames["intensity"].attrs.get("units", "1"))
    found = fit_lines(x[order], values, errors, lines, doublet=doublet, detection=recipe.detection, counts=unit == "counts")
    table = _table(found, list(recipe.peaks), over, wave, unit).assign_coords(time=frames["time"].variable)
    table.attrs["fitted_over"] = over
    table.attrs["fitted_together"] = "; ".join(", ".join(lines[k].name for k in group) for group in together(lines))
    if wave is not None:
        table.attrs |= {"wavelength": wave, "wavelength_units": "angstrom"}
    return Products({"peaks": table})


def _waves(frames: xr.Dataset, recipe: PeaksRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Give wavelengths and their shares; none where none is known and none is needed."""
    if recipe.wavelength is None and "wavelength" not in frames.attrs:
        return np.array([]), np.array([])
    return wavelengths(frames.attrs, recipe.wavelength, (recipe.wavelength_ratio,) if len(recipe.wavelength or ()) == 2 else None)


def _line(name: str, peak: Peak, recipe: PeaksRecipe, over: str, wave: float | None) -> Line:
    unit = peak.unit or recipe.unit
    low, high = _places(peak.range, unit, over, wave, name)
    window = _places(peak.window or peak.range, unit, over, wave, name)
    return Line(name, low, high, window, peak.fwhm or (high - low) / 6, peak.eta)


def _places(pair: tuple[float, float], unit: str, over: str, wave: float | None, name: str) -> tuple[float, float]:
    """Bring a range to the axis of the fit."""
    ends = np.array(pair)
    if unit == over:
        return pair
    if wave is None and (unit == "two_theta" or over == "two_theta"):
        raise ConfigError(
            f"the range of {name} is in {unit}, the fit over {over}, and the wavelength is not known",
            hint=f"give it in {over}, or wavelength: in the recipe or as an option of the loader",
        )
    q = ends if unit == "q" else 2 * np.pi / ends[::-1] if unit == "d" else 4 * np.pi * np.sin(np.radians(ends) / 2) / wave
    if over == "two_theta":
        q = angle_of(q, float(wave or 0.0))
        if not np.isfinite(q).all():
            raise ConfigError(f"the range of {name} cannot be reached with this wavelength", found=f"{pair} in {unit}, {wave:g} angstrom")
    return float(q[0]), float(q[1])


def _table(found: LineFits, names: list[str], over: str, wave: float | None, unit: str) -> xr.Dataset:
    variables: dict[str, Any] = {}
    own = _UNITS[over]

    def add(name: str, values: np.ndarray, units: str, words: str, errors: np.ndarray | None = None, **attrs: Any) -> None:
        linked = {"ancillary_variables": f"{name}_errors"} if errors is not None else {}
        variables[name] = (("time", "peak"), values, {"units": units, "long_name": words, "sampling": "sample"} | linked | attrs)
        if errors is not None:
            variables[f"{name}_errors"] = (("time", "peak"), errors, {"units": units, "long_name": f"1 sigma of {words}", "sampling": "sample"})

    place, sure = found.position, found.errors["position"]
    add(f"position_{over}", place, own, "position of the line", sure)
    q, q_errors = (place, sure) if over == "q" else (None, None)
    if wave is not None and over == "two_theta":
        theta = np.radians(place) / 2
        q, q_errors = 4 * np.pi * np.sin(theta) / wave, 4 * np.pi * np.cos(theta) / wave * np.radians(sure) / 2
        add("position_q", q, "1/angstrom", "position of the line", q_errors)
    elif wave is not None:
        angle = angle_of(place, wave)
        add("position_two_theta", angle, "deg", "position of the line", np.degrees(sure * wave / (2 * np.pi)) / np.cos(np.radians(angle) / 2))
    if q is not None and q_errors is not None:
        add("d_spacing", 2 * np.pi / q, "angstrom", "spacing of the lattice planes", 2 * np.pi * q_errors / q**2)
    add("area", found.area, own if unit == "1" else f"{unit}*{own}", "area of the line (of K-alpha 1)", found.errors["area"])
    add("fwhm", found.fwhm, own, "full width of the line at half its height, instrument not taken off", found.errors["fwhm"])
    add("height", found.height, unit, "height of the line above the background", found.errors["height"])
    add("eta", found.eta, "1", "Lorentzian share of the pseudo-Voigt", found.errors["eta"])
    add(
        "centre_of_gravity",
        found.centre,
        own,
        "centre of gravity of the range, above a line through the window's ends",
        found.errors["centre"],
    )
    add("goodness_of_fit", found.goodness, "1", "root of the reduced chi^2 of the window: 1 where nothing but counts is left over")
    words = "how the fit of the line ended; 0: well. not_significant: an area of a line of the expected width, no position"
    add(
        "peak_flags",
        found.flags.astype(np.int16),
        "1",
        words,
        flag_masks=[int(f) for f in LineFlag],
        flag_meanings=" ".join(str(f.name).lower() for f in LineFlag),
    )
    return xr.Dataset(variables, coords={"peak": ("peak", np.array(names, dtype=object))})
