"""The stage `pdf-refine`: crystal structures fitted to G(r) of every frame through PDFfit2, each frame starting from the one before.

PDFfit2 (C. L. Farrow et al., J. Phys.: Condens. Matter 19 (2007) 335219; package diffpy.pdffit2, extra `pdffit`) calculates G(r) of a small box, the
unit cell with its neighbours, as Gaussians about every distance, with the termination of qmax and the damping of the instrument. Refined are, of each
phase, the scale, the lattice parameters that its system leaves free, one U of each element, and delta2, by which near neighbours move together;
where asked for, the diameter of spherical particles and the damping Q. Positions and occupancies are those of the structure.

G(r) is thinned to about 0.05 angstrom before the fit: finer points cost and say nothing, since all within pi / qmax hang together. All points
weigh the same, and the errors that PDFfit2 gives, which are those of independent points of error 1, are multiplied by sqrt(pi / qmax / step) and by
the rms of what the fit leaves, or of the errors of G(r) where these are larger.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from operando.config import Recipe
from operando.contract import ConfigError, ContractError
from operando.reduction.interface import Products, reducer
from operando.reduction.phases.crystal import Structure, find_cif, lattice_names, lattice_system, read_cif

_STEP = 0.05
_ANGLES = {"alpha": 4, "beta": 5, "gamma": 6}
_LENGTHS = {"a": 1, "b": 2, "c": 3}
_TIED = {"cubic": {"b": "a", "c": "a"}, "tetragonal": {"b": "a"}, "hexagonal": {"b": "a"}}
_TIED["rhombohedral"] = {"b": "a", "c": "a", "beta": "alpha", "gamma": "alpha"}
_U = (0.0005, 0.5)
"""angstrom^2: displacements beyond are no crystal's; the frame has not converged."""


class PdfPhase(BaseModel):
    """One crystalline phase."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    structure: Structure = Field(description="typed here; or cif: NAME, a file beside beamtime.yaml")
    scale: float = Field(default=0.5, gt=0, description="factor (1) to start from")
    u_iso: float = Field(default=0.006, gt=0, lt=0.5, description="displacement to start from where the structure gives none, angstrom^2")
    delta2: float = Field(default=2.0, ge=0, description="correlated motion to start from, angstrom^2")
    diameter: float | None = Field(
        default=None, gt=0, description="of spherical particles, to start from, angstrom; default: none, an endless crystal"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_cif(cls, values: Any, info: ValidationInfo) -> Any:
        """Put the structure in the place of the CIF: a changed CIF makes another recipe."""
        if not isinstance(values, dict) or "cif" not in values:
            return values
        if "structure" in values:
            raise ValueError("cif: and structure: are two ways to say the same; give one")
        try:
            return {k: v for k, v in values.items() if k != "cif"} | {"structure": read_cif(find_cif(str(values["cif"]), info)).model_dump()}
        except ConfigError as error:
            raise ValueError(str(error)) from None


class RefineRecipe(Recipe):
    """Settings of the refinement of small boxes."""

    reducer: str = "pdf-refine"
    phases: dict[str, PdfPhase] = Field(min_length=1, max_length=4, description="name -> structure or cif, and what to start from")
    r_range: tuple[float, float] = Field(default=(1.5, 20.0), description="range of r that is fitted, angstrom")
    radiation: str = Field(default="X", pattern="^[XN]$", description="X: X-rays; N: neutrons")
    q_damp: float = Field(default=0.04, ge=0, lt=1, description="damping of G(r) by the instrument, from a standard, 1/angstrom")
    q_broad: float = Field(default=0.0, ge=0, lt=1, description="broadening by the instrument, from a standard, 1/angstrom")
    refine_q_damp: bool = Field(default=False, description="refine q_damp: on a standard only")

    @field_validator("r_range")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] < value[1]:
            raise ValueError(f"{value[0]:g} to {value[1]:g} is no range (angstrom)")
        return value


@reducer("pdf-refine", technique="pdf", kind="forward", reads="reduced", products=("refinement",), recipe=RefineRecipe, version="1")
def reduce_refine(reduced: xr.Dataset, recipe: RefineRecipe, state: Any = None) -> Products:
    """Refine small boxes against G(r).

    Parameters
    ----------
    reduced
        `g_r` (time, r) on even steps, with errors where known, and its `q_max` (attribute, 1/angstrom).
    state
        Parameters of the last frame that converged.

    Returns
    -------
    Products
        `refinement`: over (time, phase) `phase_scale`, `phase_fraction` (of the mass, by PDFfit2), `lattice_a` ... (angstrom, degrees), `delta2`
        (angstrom^2), `diameter` (angstrom); over (time, atom) `u_iso` (angstrom^2); `q_damp` where refined; each with errors. `rw`: weighted
        residual; `converged`: 1, or 0 where it stopped outside of what a crystal can be, or -1 without G(r). `g_r_fit` (time, r). Frames that cannot
        be fitted are NaN, and the next starts from the last that could.

    Raises
    ------
    ConfigError
        diffpy.pdffit2 is not installed.
    ContractError
        No qmax, or fewer points than parameters.
    """
    most = reduced.attrs.get("q_max")
    if most is None:
        raise ContractError(
            "qmax of G(r) is not known", expected="q_max (1/angstrom) in the header of its file", hint="qmax: in the stage total-scattering"
        )
    r = np.asarray(reduced["r"].values, float)
    stride = max(1, int(_STEP / float(np.median(np.diff(r)))))
    inside = np.flatnonzero((r >= recipe.r_range[0]) & (r <= recipe.r_range[1]))[::stride]
    box = _Box(recipe, float(most))
    if inside.size < box.start.size + 10:
        raise ContractError("r_range: holds fewer points than there are parameters", found=f"{inside.size} points, {box.start.size} parameters")
    r = r[inside]
    g = np.asarray(reduced["g_r"].isel(r=inside).transpose("time", "r").values, float)
    sigma = np.asarray(reduced["g_r_errors"].isel(r=inside).transpose("time", "r").values, float) if "g_r_errors" in reduced else None
    n = len(g)
    values, errors = np.full((n, box.start.size), np.nan), np.full((n, box.start.size), np.nan)
    fits, rw, mass = np.full(g.shape, np.nan), np.full(n, np.nan), np.full((n, len(recipe.phases)), np.nan)
    converged = np.full(n, -1, np.int8)
    last, cold = (box.start, True) if state is None else (np.asarray(state, float), False)
    for k, one in enumerate(g):
        if not np.isfinite(one).all() or not np.any(one):
            continue
        known = None if sigma is None or not (np.isfinite(sigma[k]).all() and (sigma[k] > 0).all()) else sigma[k]
        found = box.fit(r, one, known, last, cold)
        converged[k] = 0
        if found is not None and box.sane(found[0]):
            values[k], errors[k], rw[k], fits[k], mass[k] = found
            converged[k] = 1
            last, cold = found[0], False
    return Products(
        {"refinement": _dataset(reduced, recipe, box, r, values, errors, fits, rw, mass, converged)}, state=None if cold else last.tolist()
    )


class _Box:
    """The model: what is refined and where it goes in PDFfit2."""

    def __init__(self, recipe: RefineRecipe, qmax: float) -> None:
        self.recipe, self.qmax = recipe, qmax
        self.names: list[tuple[str, str]] = []  # (phase, parameter)
        start: list[float] = []
        self.sites = {name: _whole_cell(phase) for name, phase in recipe.phases.items()}
        for name, phase in recipe.phases.items():
            cell = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), phase.structure.cell, strict=True))
            elements = list(dict.fromkeys(site[0] for site in self.sites[name]))
            mean = {e: float(np.mean([site[3] for site in self.sites[name] if site[0] == e])) for e in elements}
            some = [("scale", phase.scale), *((p, float(cell[p])) for p in lattice_names(lattice_system(phase.structure.group)))]
            some += [(f"u_{e}", mean[e]) for e in elements] + [("delta2", phase.delta2)]
            some += [("diameter", phase.diameter)] if phase.diameter is not None else []
            self.names += [(name, p) for p, _ in some]
            start += [value for _, value in some]
        if recipe.refine_q_damp:
            self.names.append(("", "q_damp"))
            start.append(recipe.q_damp)
        self.start = np.array(start)

    def sane(self, values: np.ndarray) -> bool:
        """Say whether it is a crystal's: displacements, scales and cells within reach."""
        for (_, parameter), value, began in zip(self.names, values, self.start, strict=True):
            if not np.isfinite(value):
                return False
            if parameter.startswith("u_") and not _U[0] < value < _U[1]:
                return False
            if parameter in _LENGTHS and abs(value / began - 1) > 0.1:
                return False
            if parameter in _ANGLES and abs(value - began) > 10:
                return False
            if parameter in ("scale", "diameter") and not value > 0:
                return False
        return True

    def fit(
        self, r: np.ndarray, g: np.ndarray, sigma: np.ndarray | None, start: np.ndarray, cold: bool
    ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray] | None:
        """Fit one frame: values, errors, weighted residual, fitted G(r), shares of the mass; None where PDFfit2 gives up."""
        box = _pdffit()
        for name, sites in self.sites.items():
            box.add_structure(_structure(self.recipe.phases[name], sites))
        box.read_data_lists(self.recipe.radiation, self.qmax, self.recipe.q_damp, r.tolist(), g.tolist())
        box.setvar(box.qbroad, self.recipe.q_broad)
        box.pdfrange(1, float(r[0]), float(r[-1]))
        for number, ((name, parameter), value) in enumerate(zip(self.names, start, strict=True), 1):
            for variable in self._variables(box, name, parameter):
                box.constrain(variable, f"@{number}")
            box.setpar(number, float(value))
        try:
            moved = self._refine(box, start, cold)
        except Exception:  # PDFfit2's own errors are of several kinds: a box that cannot be calculated, a fit that fails
            return None
        if not moved:
            return None
        text = box.save_res_string()
        told = text.rpartition("Refinement parameters")[2]
        chi = re.search(r"Reduced chi squared\s*:\s*(\S+)", told)
        stated = dict(re.findall(r"(\d+):\s*\S+\s*\(([^)\s]+)\)", told.partition("REFINEMENT INFO")[0]))
        values = np.array([box.getpar(k) for k in range(1, len(self.names) + 1)])
        together = max(1.0, np.pi / self.qmax / float(np.median(np.diff(r))))
        spread = float(chi[1]) if chi else np.nan
        errors = np.array([float(stated.get(str(k), "nan")) for k in range(1, len(self.names) + 1)])
        errors = errors * np.sqrt(together * (spread if sigma is None else max(spread, float(np.mean(sigma**2)))))
        shares = np.array(box.phase_fractions()["mass"], float)
        return values, errors, float(box.getrw()), np.array(box.getpdf_fit())[: r.size], shares

    def _refine(self, box: Any, start: np.ndarray, cold: bool) -> bool:
        """Refine all; where that is stuck, and on a first frame, scales first, then cells, then all. Say whether anything moved."""
        numbers = range(1, len(self.names) + 1)
        if not cold:
            box.refine()
            if any(box.getpar(k) != float(value) for k, value in zip(numbers, start, strict=True)):
                return True
        for k, value in zip(numbers, start, strict=True):
            box.setpar(k, float(value))
            box.fixpar(k)
        for group in (("scale",), tuple({**_LENGTHS, **_ANGLES}), None):
            for k, (_, parameter) in zip(numbers, self.names, strict=True):
                if group is None or parameter in group:
                    box.freepar(k)
            box.refine()
        return any(box.getpar(k) != float(value) for k, value in zip(numbers, start, strict=True))

    def _variables(self, box: Any, name: str, parameter: str) -> list[Any]:
        """Variables of PDFfit2 that follow a parameter."""
        if parameter == "q_damp":
            return [box.qdamp]
        box.setphase(list(self.sites).index(name) + 1)
        if parameter == "scale":
            return [box.pscale]
        if parameter == "delta2":
            return [box.delta2]
        if parameter == "diameter":
            return [box.spdiameter]
        if parameter.startswith("u_"):
            atoms = [k for k, site in enumerate(self.sites[name], 1) if site[0] == parameter[2:]]
            return [u(k) for k in atoms for u in (box.u11, box.u22, box.u33)]
        tied = _TIED.get(lattice_system(self.recipe.phases[name].structure.group), {})
        return [box.lat(({**_LENGTHS, **_ANGLES})[p]) for p in (parameter, *(other for other, first in tied.items() if first == parameter))]


def _pdffit() -> Any:
    """Give an empty, silent PDFfit2."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from diffpy.pdffit2 import PdfFit, redirect_stdout
    except ImportError as error:
        raise ConfigError(
            "the refinement needs diffpy.pdffit2, which is not installed", found=str(error)[:200], hint='pip install "operando[pdffit]"'
        ) from None
    redirect_stdout(io.StringIO())
    return PdfFit()


def _whole_cell(phase: PdfPhase) -> list[tuple[str, np.ndarray, float, float]]:
    """Every atom of the cell: element, fractions, occupancy, U (angstrom^2)."""
    out: list[tuple[str, np.ndarray, float, float]] = []
    for site in phase.structure.sites:
        seen: list[np.ndarray] = []
        for operation in phase.structure.group.operations():
            at = np.array(operation.apply_to_xyz([site.x, site.y, site.z])) % 1.0
            if all(np.abs((at - other + 0.5) % 1.0 - 0.5).max() > 1e-3 for other in seen):
                seen.append(at)
        u = phase.u_iso if site.b_iso is None or site.b_iso <= 0 else site.b_iso / (8 * np.pi**2)
        out += [(site.element, at, site.occupancy, u) for at in seen]
    return out


def _structure(phase: PdfPhase, sites: list[tuple[str, np.ndarray, float, float]]) -> Any:
    from diffpy.structure import Atom, Lattice
    from diffpy.structure import Structure as Box

    atoms = [Atom(element, at.tolist(), occupancy=occupancy, Uisoequiv=u) for element, at, occupancy, u in sites]
    return Box(atoms=atoms, lattice=Lattice(*map(float, phase.structure.cell)))


def _dataset(
    reduced: xr.Dataset,
    recipe: RefineRecipe,
    box: _Box,
    r: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    fits: np.ndarray,
    rw: np.ndarray,
    mass: np.ndarray,
    converged: np.ndarray,
) -> xr.Dataset:
    phases = list(recipe.phases)
    out: dict[str, tuple[Any, ...]] = {}

    def add(name: str, parameters: list[tuple[str, str] | None], unit: str, words: str, dims: tuple[str, ...]) -> None:
        columns = [None if p is None or p not in box.names else box.names.index(p) for p in parameters]
        if all(c is None for c in columns):
            return
        nothing = np.full(len(values), np.nan)
        table, spread = (np.stack([nothing if c is None else source[:, c] for c in columns], axis=1) for source in (values, errors))
        if dims == ("time",):
            table, spread = table[:, 0], spread[:, 0]
        attrs = {"units": unit, "long_name": words, "sampling": "continuous"}
        out[f"{name}_errors"] = (dims, spread, {**attrs, "long_name": f"1 sigma of {words}"})
        out[name] = (dims, table, {**attrs, "ancillary_variables": f"{name}_errors"})

    by_phase = ("time", "phase")
    add("phase_scale", [(p, "scale") for p in phases], "1", "scale of the phase", by_phase)
    for name in (*_LENGTHS, *_ANGLES):
        add(f"lattice_{name}", [(p, name) for p in phases], "angstrom" if name in _LENGTHS else "deg", f"lattice parameter {name}", by_phase)
    add("delta2", [(p, "delta2") for p in phases], "angstrom^2", "correlated motion", by_phase)
    add("diameter", [(p, "diameter") for p in phases], "angstrom", "diameter of the particles", by_phase)
    atoms = [(p, name) for p, name in box.names if name.startswith("u_")]
    add("u_iso", list(atoms), "angstrom^2", "mean-square displacement", ("time", "atom"))
    add("q_damp", [("", "q_damp")], "1/angstrom", "damping by the instrument", ("time",))
    out["phase_fraction"] = (by_phase, mass, {"units": "1", "long_name": "share of the mass", "sampling": "continuous"})
    out["rw"] = ("time", rw, {"units": "1", "long_name": "weighted residual", "sampling": "continuous"})
    out["converged"] = ("time", converged, {"units": "1", "long_name": "1: converged; 0: not; -1: no G(r)", "sampling": "continuous"})
    out["g_r_fit"] = (("time", "r"), fits.astype(np.float32), {"units": "1/angstrom^2", "long_name": "fitted G(r)"})
    coords = {
        "time": reduced["time"].variable,
        "phase": ("phase", np.array(phases, dtype=object), {"long_name": "phase"}),
        "atom": ("atom", np.array([f"{p}: {name[2:]}" for p, name in atoms], dtype=object), {"long_name": "element of a phase"}),
        "r": ("r", r, {"units": "angstrom", "long_name": "distance"}),
    }
    return xr.Dataset(out, coords)
