"""What a user says about phases: the recipe of `phase-fractions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from operando.config import Recipe
from operando.reduction.phases.crystal import Structure, find_cif, lattice_names, lattice_system, read_cif

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
Interval = Annotated[tuple[float, float], Field(description="lowest, highest")]


def _ordered(pair: tuple[float, float] | None, what: str) -> None:
    if pair is not None and not pair[0] < pair[1]:
        raise ValueError(f"{what}: [{pair[0]:g}, {pair[1]:g}] is not lowest, highest")


class Texture(BaseModel):
    """Preferred orientation by March's function (Dollase, J. Appl. Cryst. 19 (1986) 267)."""

    model_config = _STRICT
    axis: tuple[int, int, int] = Field((0, 0, 1), description="h, k, l of the planes that lie in the plate; not all 0")
    r: float = Field(1.0, gt=0.1, lt=10, description="March's r (1): 1 for no preference, below 1 for plates")
    refine: bool = Field(True, description="fit r")

    @field_validator("axis")
    @classmethod
    def _somewhere(cls, axis: tuple[int, int, int]) -> tuple[int, int, int]:
        if not any(axis):
            raise ValueError("texture: axis [0, 0, 0] points nowhere")
        return axis


class Point(BaseModel):
    """A solid solution at one composition."""

    model_config = _STRICT
    x: float = Field(description="composition (1), such as the Li content")
    lattice: dict[str, float] = Field(description="lattice parameters there (angstrom, degrees)")
    sites: dict[str, dict[str, float]] = Field({}, description="site label -> what differs there: x, y, z, occupancy (1), b_iso (angstrom^2)")


class SolidSolution(BaseModel):
    """A phase whose composition follows from its lattice: structure factors and formula change along with it."""

    model_config = _STRICT
    follows: str = Field("a", description="lattice parameter by which x is found; it must rise or fall all along")
    points: tuple[Point, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _monotonic(self) -> SolidSolution:
        if self.follows not in ("a", "b", "c"):
            raise ValueError(f"solid_solution: follows {self.follows}, which is no length: a, b or c")
        x = [p.x for p in self.points]
        if any(self.follows not in p.lattice for p in self.points):
            raise ValueError(f"solid_solution: every point needs lattice: {{{self.follows}: ...}}, which x follows")
        values = np.array([p.lattice[self.follows] for p in self.points])[np.argsort(x)]
        steps = np.diff(values)
        if len(set(x)) < len(x) or not (np.all(steps > 0) or np.all(steps < 0)):
            raise ValueError(f"solid_solution: {self.follows} neither rises nor falls all along x")
        return self


class PhaseRecipe(BaseModel):
    """One phase."""

    model_config = _STRICT
    structure: Structure = Field(description="typed here; or cif: NAME, a file beside beamtime.yaml or one that comes with the package")
    role: Literal["active", "component", "standard"] = Field(
        "active", description="active: counts in the fractions; component: of the cell (Al, Cu, Be, separator), does not; standard: of known weight"
    )
    weight_percent: float | None = Field(None, gt=0, lt=100, description="of a standard, in the whole sample (wt %)")
    refine: tuple[Literal["lattice", "size", "strain"], ...] = Field(("lattice", "size"), description="what is fitted beside the amount")
    lattice_range: float | dict[str, Interval] = Field(
        0.02, description="how far lattice parameters may go: a share (1), or each [lowest, highest] (angstrom)"
    )
    size: float = Field(
        100.0, gt=1, lt=1e5, description="crystallite size at the start (nm), volume-weighted with K = 0.9; above 1000 makes no width"
    )
    strain: float = Field(0.0, ge=0, lt=0.1, description="microstrain at the start (1): broadening 4 strain tan(theta)")
    texture: Texture | None = None
    layer: str | None = Field(None, description="layer of the cell: phases of one layer share one displacement")
    solid_solution: SolidSolution | None = None
    lithium: float | None = Field(None, description="ions per formula unit (1), for the charge balance; a solid solution has its x")
    particle_radius: Interval | None = Field(None, description="radii of particles (um) for the range of absorption contrast")

    @model_validator(mode="before")
    @classmethod
    def _from_cif(cls, values: Any, info: ValidationInfo) -> Any:
        """Put the structure in the place of the CIF: the recipe in the store is complete, and a changed CIF makes another recipe."""
        if not isinstance(values, dict) or "cif" not in values:
            return values
        rest = {k: v for k, v in values.items() if k != "cif"}
        if "structure" in values:
            raise ValueError("cif: and structure: are two ways to say the same; give one")
        return rest | {"structure": read_cif(find_cif(str(values["cif"]), info)).model_dump()}

    @model_validator(mode="after")
    def _fits(self) -> PhaseRecipe:
        names = lattice_names(lattice_system(self.structure.group))
        if isinstance(self.lattice_range, dict):
            for name, pair in self.lattice_range.items():
                if name not in names:
                    raise ValueError(f"lattice_range: {name} is no free lattice parameter; there is {', '.join(names)}")
                if name not in ("a", "b", "c"):
                    raise ValueError(f"lattice_range: {name} is an angle, whose range follows the lengths'; give a, b, c")
                _ordered(pair, f"lattice_range: {name}")
        elif not 0 < self.lattice_range < 0.3:
            raise ValueError("lattice_range: a share between 0 and 0.3, or [lowest, highest] of each parameter")
        if (self.role == "standard") != (self.weight_percent is not None):
            raise ValueError("weight_percent: belongs to role: standard, and a standard needs it")
        _ordered(self.particle_radius, "particle_radius")
        labels = {s.label for s in self.structure.sites if s.label}
        for point in self.solid_solution.points if self.solid_solution else ():
            unknown = [*(set(point.sites) - labels), *(set(point.lattice) - set(names))]
            if unknown:
                raise ValueError(
                    f"solid_solution: {', '.join(sorted(unknown))} is no label of a site ({', '.join(sorted(labels))}) and no free lattice parameter"
                )
        return self

    def at(self, point: Point) -> Structure:
        """The structure at one composition."""
        changed = [site.model_dump() | dict(point.sites.get(site.label or "", {})) for site in self.structure.sites]
        return Structure.model_validate(
            self.structure.model_dump() | dict(point.lattice) | {"sites": changed} | _dependent(self.structure, point.lattice)
        )


def _dependent(structure: Structure, lattice: dict[str, float]) -> dict[str, None]:
    """Let symmetry complete what depends on a lattice parameter that is given anew."""
    names = lattice_names(lattice_system(structure.group))
    return {name: None for name in ("b", "c", "alpha", "beta", "gamma") if name not in names}


class Instrument(BaseModel):
    """The diffractometer."""

    model_config = _STRICT
    geometry: Literal["bragg-brentano", "flat-detector", "debye-scherrer"] = Field(
        "flat-detector", description="decides what a displaced sample does to the lines"
    )
    polarization: Literal["corrected", "unpolarized"] | float = Field(
        "corrected",
        description="corrected (2D frames integrated by pyFAI), unpolarized (sealed tube, no monochromator), or K (1), weight of cos^2(2 theta)",
    )
    monochromator: float | None = Field(
        None, gt=0, lt=120, description="2 theta of a crystal monochromator (degrees), for a sealed tube; graphite and Cu: 26.4"
    )
    slit: Literal["fixed", "automatic"] = Field("fixed", description="divergence slit: automatic opens with the angle and lights a constant length")
    caglioti: tuple[float, float, float] = Field((0.0, 0.0, 0.0025), description="U, V, W (degrees^2) of the Gaussian FWHM^2 = U tan^2 + V tan + W")
    refine: tuple[Literal["U", "V", "W", "zero", "displacement"], ...] = Field(("W", "zero"), description="what is fitted in every frame")
    zero: float = Field(0.0, ge=-2, le=2, description="zero error of 2 theta (degrees), added to what is computed")
    zero_range: float = Field(0.2, gt=0, le=2, description="how far zero and displacement may go from the start (degrees)")

    @field_validator("caglioti")
    @classmethod
    def _wide(cls, uvw: tuple[float, float, float]) -> tuple[float, float, float]:
        if uvw[2] <= 0:
            raise ValueError("caglioti: W is the squared width at 0 degrees and is above 0")
        return uvw

    @property
    def k(self) -> float:
        """K, the weight of cos^2(2 theta)."""
        if isinstance(self.polarization, float | int):
            return float(self.polarization)
        if self.polarization == "corrected" and self.monochromator is None:
            return 0.0
        return float(np.cos(np.radians(self.monochromator or 0.0)) ** 2)


class Background(BaseModel):
    """What lies under the lines: a polynomial and broad humps, all linear."""

    model_config = _STRICT
    degree: int = Field(6, ge=0, le=40, description="of Chebyshev's polynomials over the range")
    humps: tuple[tuple[float, Annotated[float, Field(gt=0)]], ...] = Field(
        (), description="centre and FWHM (degrees of 2 theta) of broad Gaussians: amorphous parts, windows"
    )
    humps_q: tuple[tuple[float, Annotated[float, Field(gt=0)]], ...] = Field(
        (), description="the same in 1/angstrom, for any wavelength; those outside the range are left out"
    )
    inverse: bool = Field(False, description="a term 1 / (2 theta): air scatter at low angles")


class Systematics(BaseModel):
    """What is varied for the systematic uncertainty."""

    model_config = _STRICT
    background: int = Field(2, ge=0, le=10, description="degrees of the polynomial, more and fewer")
    b_iso: float = Field(0.2, ge=0, le=2, description="B of one phase after the other (angstrom^2), up and down")
    zero: float = Field(0.002, ge=0, le=1, description="zero error of 2 theta (degrees), where neither it nor a displacement is fitted")
    tails: float = Field(0.5, gt=0, lt=1, description="share (1) of the width of profiles at which they are cut instead")
    texture: float = Field(0.05, ge=0, lt=0.5, description="March's r of one phase after the other, where it is not fitted (1), along its axis, or c")
    particle_radius: Interval = Field((0.0, 5.0), description="radii of particles (um) for absorption contrast, where a phase says nothing")


class PhasesRecipe(Recipe):
    """Phase fractions, lattice parameters and widths from whole patterns."""

    phases: dict[str, PhaseRecipe] = Field(min_length=1, description="name -> phase")
    instrument: Instrument = Field(default_factory=lambda: Instrument.model_validate({}))
    background: Background = Field(default_factory=lambda: Background.model_validate({}))
    wavelength: tuple[float, ...] | None = Field(
        None, min_length=1, max_length=3, description="angstrom, the strongest first; by default what the series says"
    )
    wavelength_ratio: tuple[float, ...] | None = Field(None, description="intensities relative to the first (1); K-alpha 2 has 0.5")
    two_theta_range: Interval | None = Field(None, description="degrees; by default all")
    q_range: Interval | None = Field(None, description="1/angstrom, instead of two_theta_range")
    exclude: tuple[Interval, ...] = Field((), description="regions of 2 theta (degrees) that are not fitted")
    b_iso: float = Field(0.5, ge=0, le=5, description="B (angstrom^2) of sites whose structure gives none")
    passes: Literal["both", "forward"] = Field(
        "both", description="both: backward as well where the frame after could lead elsewhere, and the better fit is kept"
    )
    detection: float = Field(5.0, ge=2, le=50, description="sigma above which a phase is there; below it its lattice and width are held")
    max_iterations: int = Field(25, ge=3, le=200, description="steps for one frame; a frame that needs more is flagged")
    tails: float = Field(25.0, ge=4, le=200, description="FWHM from its centre at which a profile ends")
    brindley: dict[str, float] = Field(
        {}, description="phase -> radius of its particles (um): microabsorption corrected (Brindley, Phil. Mag. 36 (1945) 347)"
    )
    systematics: Systematics | None = Field(default_factory=lambda: Systematics.model_validate({}), description="null: no systematic uncertainty")
    fraction_scale: Literal["crystalline", "whole"] = Field(
        "crystalline", description="crystalline: fractions sum to 1; whole: relative to the standard, and what is missing is amorphous"
    )

    @field_validator("exclude", "two_theta_range", "q_range")
    @classmethod
    def _intervals(cls, value: Any) -> Any:
        for pair in value if isinstance(value, tuple) and (not value or isinstance(value[0], tuple)) else (value,):
            _ordered(pair, "a range")
        return value

    @model_validator(mode="after")
    def _together(self) -> PhasesRecipe:
        for name in self.phases:
            if not name or any(c in name for c in "[]=/,"):
                raise ValueError(f"phases: {name!r} holds one of [ ] = / , and could not be addressed")
        unknown = set(self.brindley) - set(self.phases)
        if unknown:
            raise ValueError(f"brindley: {', '.join(sorted(unknown))} is no phase of this recipe")
        if not any(p.role == "active" for p in self.phases.values()):
            raise ValueError("phases: none is active, there is nothing to give fractions of")
        if self.two_theta_range and self.q_range:
            raise ValueError("two_theta_range and q_range are two ways to say the same; give one")
        if self.fraction_scale == "whole" and not any(p.role == "standard" for p in self.phases.values()):
            raise ValueError("fraction_scale: whole needs a phase with role: standard")
        lengths = len(self.wavelength or (0,)), len(self.wavelength_ratio or ())
        if self.wavelength_ratio is not None and (self.wavelength is None or lengths[0] not in (lengths[1], lengths[1] + 1)):
            raise ValueError("wavelength_ratio: one number for each wavelength, or for each but the first")
        return self
