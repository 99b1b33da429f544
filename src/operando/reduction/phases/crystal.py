"""Crystal structures: from a CIF or typed, to the reflections of a powder and their strengths.

Symmetry comes from gemmi, form factors f0 from the International Tables (1992, vol. C, table 6.1.1.4) through gemmi, f' and f'' from Chantler's
tables through xraydb. A reflection here is a family: everything that falls on one d whatever the lattice parameters are, so that
(511) and (333) of a cubic crystal are one. Its strength is the sum of |F|^2 over all members, Friedel's mates counted.

The lattice enters as the reciprocal metric tensor: 1/d^2 is linear in its components, and these are what is refined.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from operando.contract import ConfigError

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
HC = 12.398419843320026  # keV angstrom


class Site(BaseModel):
    """One crystallographic site."""

    model_config = _STRICT
    element: str = Field(description="chemical symbol")
    x: float = Field(description="fraction of a (1)")
    y: float = Field(description="fraction of b (1)")
    z: float = Field(description="fraction of c (1)")
    occupancy: float = Field(1.0, ge=0, le=1.0001, description="chemical occupancy (1)")
    b_iso: float | None = Field(None, ge=-1, le=20, description="isotropic displacement B (angstrom^2); none: what the recipe says for the whole")
    label: str | None = Field(None, description="name of the site, where one is wanted")

    @field_validator("element")
    @classmethod
    def _known(cls, symbol: str) -> str:
        import gemmi

        text = symbol.strip().rstrip("+-0123456789")
        if gemmi.Element(text).atomic_number == 0:
            raise ValueError(f"{symbol!r} is no element")
        return str(gemmi.Element(text).name)


class Structure(BaseModel):
    """A crystal structure, complete: what a CIF says of it, or what is typed in a recipe."""

    model_config = _STRICT
    space_group: str = Field(description="Hermann-Mauguin symbol, with the setting where there are several (R -3 m:H)")
    a: float = Field(gt=0.5, lt=200, description="angstrom")
    b: float | None = Field(None, gt=0.5, lt=200, description="angstrom; where symmetry does not give it")
    c: float | None = Field(None, gt=0.5, lt=200, description="angstrom; where symmetry does not give it")
    alpha: float | None = Field(None, gt=10, lt=170, description="degrees; where symmetry does not give it")
    beta: float | None = Field(None, gt=10, lt=170, description="degrees; where symmetry does not give it")
    gamma: float | None = Field(None, gt=10, lt=170, description="degrees; where symmetry does not give it")
    sites: tuple[Site, ...] = Field(min_length=1)
    formula_units: int | None = Field(None, ge=1, le=500, description="Z, formula units in the cell; by default the largest that the contents allow")
    source: str | None = Field(None, description="where it was published")

    @model_validator(mode="after")
    def _symmetry(self) -> Structure:
        self.group  # noqa: B018  # says what is wrong with the symbol
        self.cell  # noqa: B018
        return self

    @property
    def group(self) -> Any:
        """The space group, of gemmi."""
        import gemmi

        found = gemmi.find_spacegroup_by_name(self.space_group)
        if found is None:
            raise ValueError(f"space_group {self.space_group!r} is not known (write Hermann-Mauguin symbols with blanks: R -3 m:H)")
        return found

    @property
    def cell(self) -> np.ndarray:
        """a, b, c (angstrom), alpha, beta, gamma (degrees), as symmetry completes them."""
        system, given = lattice_system(self.group), (self.a, self.b, self.c, self.alpha, self.beta, self.gamma)
        whole, needed = _completed(system, given)
        lost = [name for name in needed if getattr(self, name) is None]
        if lost:
            raise ValueError(f"a {system} cell needs {', '.join(needed)}; {', '.join(lost)} is missing")
        for name, value, filled in zip(("b", "c", "alpha", "beta", "gamma"), given[1:], whole[1:], strict=True):
            if value is not None and abs(value - filled) > 2e-3 * filled:
                raise ValueError(f"{name} = {value} does not fit a {system} cell, which has {filled:g}")
        return whole


def read_cif(path: str | Path) -> Structure:
    """Read the structure that a CIF describes.

    Raises
    ------
    ConfigError
        No CIF, no atoms, no space group, or sites without what is needed; a missing occupancy is 1, a missing displacement is none.
    """
    import gemmi

    file = Path(path)
    if not file.is_file():
        raise ConfigError("there is no such CIF", file=file, hint="give its path from the folder of beamtime.yaml")
    try:
        block = gemmi.cif.read(str(file)).sole_block()
    except Exception:  # several blocks, or none: the first that holds atoms
        try:
            blocks = [b for b in gemmi.cif.read(str(file)) if b.find_loop("_atom_site_fract_x")]
        except Exception as error:  # whatever gemmi says of a file that is none
            raise ConfigError("this is no CIF", file=file, found=str(error).splitlines()[0][:200]) from None
        if not blocks:
            raise ConfigError("the CIF holds no atoms", file=file, expected="a loop with _atom_site_fract_x") from None
        block = blocks[0]
    try:
        small = gemmi.make_small_structure_from_block(block)
    except Exception as error:
        raise ConfigError("the CIF cannot be read", file=file, found=str(error)[:200]) from None
    if not small.sites:
        raise ConfigError("the CIF holds no atoms", file=file, expected="a loop with _atom_site_fract_x, _y, _z")
    group = small.spacegroup
    if group is None:
        raise ConfigError(
            "the CIF names no space group that is known",
            file=file,
            found=small.spacegroup_hm or "nothing",
            expected="_space_group_name_H-M_alt, _symmetry_space_group_name_H-M or the operations of a standard setting",
        )
    text = file.read_bytes()
    sites, occupancies = [], set(block.find_loop("_atom_site_occupancy"))
    if occupancies & {"?", "."}:
        raise ConfigError("the CIF leaves occupancies open", file=file, found="'?' or '.' as _atom_site_occupancy", hint="write the numbers")
    for site in small.sites:
        where = site.fract
        if not np.isfinite([where.x, where.y, where.z]).all():
            raise ConfigError("a site of the CIF has no coordinates", file=file, found=site.label)
        u = site.u_iso if site.u_iso else site.aniso.trace() / 3 if site.aniso.nonzero() else 0.0
        try:
            sites.append(
                {
                    "element": site.element.name,
                    "x": float(where.x),
                    "y": float(where.y),
                    "z": float(where.z),
                    "occupancy": float(site.occ),
                    "b_iso": float(8 * np.pi**2 * u) if u else None,
                    "label": site.label or None,
                }
            )
        except Exception as error:
            raise ConfigError("a site of the CIF cannot be used", file=file, found=f"{site.label}: {error}") from None
    cell = small.cell
    lengths = dict(zip(("a", "b", "c", "alpha", "beta", "gamma"), (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma), strict=True))
    made = {"space_group": group.xhm(), **lengths, "sites": sites, "source": f"{file.name} (sha256 {hashlib.sha256(text).hexdigest()[:16]})"}
    try:
        return Structure.model_validate(made)
    except ValueError as error:
        faults = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors()) if hasattr(error, "errors") else str(error)
        raise ConfigError("the CIF describes no usable structure", file=file, found=faults[:300]) from None


def find_cif(name: str, info: ValidationInfo) -> Path:
    """Find a CIF beside beamtime.yaml, else among those of the packaged recipes."""
    from importlib.resources import files

    base = Path((info.context or {}).get("base", "."))
    beside = [base / name, base / "recipes" / name]
    for path in beside:
        if path.is_file():
            return path
    packaged = Path(str(files("operando.configs") / "recipes" / name))
    return packaged if packaged.is_file() else beside[0]


# ------------------------------------------------------------------------- lattices

_FREE = {
    "cubic": ("a",),
    "tetragonal": ("a", "c"),
    "hexagonal": ("a", "c"),
    "rhombohedral": ("a", "alpha"),
    "orthorhombic": ("a", "b", "c"),
    "monoclinic": ("a", "b", "c", "beta"),
    "triclinic": ("a", "b", "c", "alpha", "beta", "gamma"),
}
# components G11 G22 G33 G12 G13 G23 of the reciprocal metric, as sums of the free ones
_METRIC = {
    "cubic": [[1, 1, 1, 0, 0, 0]],
    "tetragonal": [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
    "hexagonal": [[1, 1, 0, 0.5, 0, 0], [0, 0, 1, 0, 0, 0]],
    "rhombohedral": [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]],
    "orthorhombic": [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]],
    "monoclinic": [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]],
    "triclinic": np.eye(6).tolist(),
}


def lattice_system(group: Any) -> str:
    """Name the lattice of a space group's setting; monoclinic ones with b as the unique axis alone."""
    system = str(group.crystal_system_str())
    if system == "trigonal":
        return "rhombohedral" if group.ext == "R" else "hexagonal"
    if system == "monoclinic" and group.monoclinic_unique_axis() != "b":
        return "triclinic"  # rare settings: the angles are free, and found to be 90 degrees
    return system


def lattice_names(system: str) -> tuple[str, ...]:
    """Names of the free lattice parameters."""
    return _FREE[system]


def _completed(system: str, given: tuple[float | None, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    a, b, c, alpha, beta, gamma = (np.nan if v is None else v for v in given)
    cells = {
        "cubic": (a, a, a, 90, 90, 90),
        "tetragonal": (a, a, c, 90, 90, 90),
        "hexagonal": (a, a, c, 90, 90, 120),
        "rhombohedral": (a, a, a, alpha, alpha, alpha),
        "orthorhombic": (a, b, c, 90, 90, 90),
        "monoclinic": (a, b, c, 90, beta, 90),
        "triclinic": (a, b, c, alpha, beta, gamma),
    }
    return np.array(cells[system], float), _FREE[system]


def reciprocal_metric(cell: np.ndarray) -> np.ndarray:
    """Give G11 G22 G33 G12 G13 G23 (1/angstrom^2) of a cell (angstrom, degrees)."""
    a, b, c = cell[:3]
    ca, cb, cg = np.cos(np.radians(cell[3:]))
    direct = np.array([[a * a, a * b * cg, a * c * cb], [a * b * cg, b * b, b * c * ca], [a * c * cb, b * c * ca, c * c]])
    g = np.linalg.inv(direct)
    return np.array([g[0, 0], g[1, 1], g[2, 2], g[0, 1], g[0, 2], g[1, 2]])


def cell_of(metric: np.ndarray) -> np.ndarray:
    """Give the cell (angstrom, degrees) of a reciprocal metric; the inverse of `reciprocal_metric`."""
    g11, g22, g33, g12, g13, g23 = metric
    direct = np.linalg.inv(np.array([[g11, g12, g13], [g12, g22, g23], [g13, g23, g33]]))
    a, b, c = np.sqrt(np.diag(direct))
    cosines = direct[1, 2] / (b * c), direct[0, 2] / (a * c), direct[0, 1] / (a * b)
    return np.array([a, b, c, *np.degrees(np.arccos(np.clip(cosines, -1, 1)))])


# --------------------------------------------------------------------- reflections


@dataclass(frozen=True)
class Reflections:
    """Families of reflections of one structure.

    Attributes
    ----------
    hkl
        (family, 3) one member of each.
    multiplicity
        (family) members, Friedel's mates counted.
    terms
        (family, free component) 1/d^2 is `terms @ free`.
    members, family
        (member, 3) all of them, and the family of each.
    """

    hkl: np.ndarray
    multiplicity: np.ndarray
    terms: np.ndarray
    members: np.ndarray
    family: np.ndarray


class Crystal:
    """A structure with what is needed to compute its powder pattern.

    Parameters
    ----------
    structure
        The structure.
    wavelength
        Of the X-rays, angstrom: f' and f'' depend on it.
    b_default
        B of sites that have none, angstrom^2.

    Raises
    ------
    ConfigError
        A wavelength for which there are no tables.
    """

    def __init__(self, structure: Structure, wavelength: float, b_default: float = 0.5) -> None:
        import gemmi

        self.structure, self.wavelength, self.b_default = structure, wavelength, b_default
        self.system = lattice_system(structure.group)
        self.names = lattice_names(self.system)
        self._combine = np.array(_METRIC[self.system])
        self.operations = structure.group.operations()
        self.cell = structure.cell
        self.free = self.free_of(self.cell)
        self._atoms = self._expand()
        content: dict[str, float] = {}
        for element, positions, occupancy, _ in self._atoms:
            content[element] = content.get(element, 0.0) + len(positions) * occupancy
        self.content = content
        self.formula_units = structure.formula_units or _formula_units(content)
        self.cell_mass = sum(gemmi.Element(e).weight * n for e, n in content.items())  # g/mol of cells: Z M
        self.molar_mass = self.cell_mass / self.formula_units

    @property
    def formula(self) -> str:
        """Chemical formula of one formula unit."""
        amounts = {e: n / self.formula_units for e, n in self.content.items()}
        return " ".join(f"{e}{'' if abs(n - 1) < 5e-4 else f'{n:.4g}'}" for e, n in amounts.items())

    def free_of(self, cell: np.ndarray) -> np.ndarray:
        """Give the free components of the reciprocal metric, 1/angstrom^2."""
        metric = reciprocal_metric(cell)
        chosen = {"cubic": [0], "tetragonal": [0, 2], "hexagonal": [0, 2], "rhombohedral": [0, 3], "orthorhombic": [0, 1, 2]}
        chosen |= {"monoclinic": [0, 1, 2, 4], "triclinic": [0, 1, 2, 3, 4, 5]}
        return np.asarray(metric[chosen[self.system]])

    def cell_from(self, free: np.ndarray) -> np.ndarray:
        """Give the cell (angstrom, degrees) of free components."""
        return cell_of(free @ self._combine)

    def volume(self, cell: np.ndarray) -> float:
        """Volume of a cell, angstrom^3."""
        cosines = np.cos(np.radians(cell[3:]))
        return float(np.prod(cell[:3]) * np.sqrt(max(1 - np.sum(cosines**2) + 2 * np.prod(cosines), 0.0)))

    def density(self) -> float:
        """X-ray density, g/cm^3."""
        return self.cell_mass / self.volume(self.cell) * 1.66053906660

    def absorption(self) -> float:
        """Linear attenuation coefficient at the wavelength, 1/cm."""
        import gemmi
        import xraydb

        energy = HC / self.wavelength * 1e3
        share = {e: gemmi.Element(e).weight * n / self.cell_mass for e, n in self.content.items()}
        return float(self.density() * sum(w * float(np.squeeze(xraydb.mu_elam(e, energy))) for e, w in share.items()))

    def _expand(self) -> list[tuple[str, np.ndarray, float, float]]:
        """Give all positions of each site in the cell, with occupancy and B."""
        operations = [(np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN) for op in self.operations]
        atoms = []
        for site in self.structure.sites:
            where = np.array([_nice(site.x), _nice(site.y), _nice(site.z)])
            found: list[np.ndarray] = []
            for rotation, shift in operations:
                one = (rotation @ where + shift) % 1.0
                if not any(np.all(np.abs((one - other + 0.5) % 1.0 - 0.5) * self.cell[:3] < 0.05) for other in found):
                    found.append(one)
            b = self.b_default if site.b_iso is None else site.b_iso
            atoms.append((site.element, np.array(found), site.occupancy, b))
        return atoms

    def reflections(self, d_min: float, d_max: float = np.inf) -> Reflections:
        """List the reflections with d (of the structure's own cell) in a range, angstrom, from large d to small."""
        reach = np.ceil(1.0 / d_min * self.cell[:3] * 1.0001).astype(int)
        grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
        quadratic = _quadratic(grid)
        inverse = quadratic @ (self.free @ self._combine)
        keep = (inverse > 1 / d_max**2) & (inverse <= 1 / d_min**2) & np.any(grid != 0, axis=1)
        grid, quadratic = grid[keep], quadratic[keep]
        grid = grid[~_absent(self.operations, grid)]
        if not grid.size:
            return Reflections(np.zeros((0, 3), int), np.zeros(0, int), np.zeros((0, len(self.names))), np.zeros((0, 3), int), np.zeros(0, int))
        terms = _quadratic(grid) @ self._combine.T
        _, first, family = np.unique(np.round(terms, 6), axis=0, return_index=True, return_inverse=True)
        family = family.reshape(-1)
        order = np.argsort(terms[first] @ self.free, kind="stable")
        rank = np.empty(order.size, int)
        rank[order] = np.arange(order.size)
        family = rank[family]
        # of each family the member that one would name: no minus signs where there is a choice, largest indices first
        best = sorted(range(len(grid)), key=lambda n: (family[n], int((grid[n] < 0).sum()), tuple(-grid[n])))
        hkl = np.array([grid[n] for k, n in enumerate(best) if k == 0 or family[n] != family[best[k - 1]]])
        return Reflections(hkl, np.bincount(family), terms[first][order], grid, family)

    def squared(self, hkl: np.ndarray, cell: np.ndarray | None = None, b_shift: float = 0.0, dispersion: bool = True) -> np.ndarray:
        """Give |F|^2 (electrons^2 per cell) of single reflections.

        Parameters
        ----------
        hkl
            (reflection, 3).
        cell
            Lattice to use for the angle that form factors and displacements see.
        b_shift
            Added to every B, angstrom^2.
        dispersion
            f' and f'' counted.
        """
        import gemmi

        metric = reciprocal_metric(self.cell if cell is None else cell)
        s2 = (_quadratic(hkl) @ metric) / 4.0  # (sin(theta) / lambda)^2
        different, which = np.unique(s2, return_inverse=True)  # gemmi's own f0, in single precision
        total = np.zeros(len(hkl), complex)
        for element, positions, occupancy, b in self._atoms:
            table = gemmi.Element(element).it92
            f = np.array([table.calculate_sf(x) for x in different])[which] + (dispersion_of(element, self.wavelength) if dispersion else 0.0)
            phase = np.exp(2j * np.pi * (hkl @ positions.T)).sum(axis=1)
            total += occupancy * f * np.exp(-(b + b_shift) * s2) * phase
        return np.asarray(np.abs(total) ** 2)

    def squared_families(self, reflections: Reflections) -> SquaredFamilies:
        """Prepare the sums of |F|^2 over the members of each family, for any lattice."""
        places: list[tuple[np.ndarray, list[Scatterer]]] = []  # atoms that share a place scatter as one
        for element, positions, occupancy, b in self._atoms:
            atom = Scatterer(*_table(element), dispersion_of(element, self.wavelength), occupancy, b)
            shared = next((atoms for other, atoms in places if other.shape == positions.shape and np.allclose(other, positions)), None)
            if shared is None:
                places.append((positions, [atom]))
            else:
                shared.append(atom)
        count = len(reflections.hkl)
        sums = [np.exp(2j * np.pi * (reflections.members @ positions.T)).sum(axis=1) for positions, _ in places]
        pairs = {}
        for i, one in enumerate(sums):
            for j, other in enumerate(sums[: i + 1]):
                product = one * np.conj(other)
                pairs[i, j] = np.bincount(reflections.family, product.real, count) + 1j * np.bincount(reflections.family, product.imag, count)
        return SquaredFamilies(pairs, [atoms for _, atoms in places])

    def strengths(self, reflections: Reflections, cell: np.ndarray | None = None, b_shift: float = 0.0) -> np.ndarray:
        """Give the sum of |F|^2 over the members of each family, electrons^2."""
        inverse = reflections.terms @ (self.free if cell is None else self.free_of(cell))
        return self.squared_families(reflections)(inverse, b_shift)


@dataclass(frozen=True)
class Scatterer:
    """An atom on its site: coefficients of f0, f' + i f'', occupancy, B (angstrom^2)."""

    a: np.ndarray
    b: np.ndarray
    c: float
    dispersion: complex
    occupancy: float
    b_iso: float

    def __call__(self, s2: np.ndarray, b_shift: float) -> np.ndarray:
        """Scattering factor (electrons) at (sin(theta) / lambda)^2, 1/angstrom^2."""
        still = np.exp(-np.multiply.outer(s2, self.b)) @ self.a + (self.c + self.dispersion)
        return np.asarray(self.occupancy * still * np.exp(-(self.b_iso + b_shift) * s2))


@dataclass(frozen=True)
class SquaredFamilies:
    """Sums of |F|^2 over families whatever the lattice is: where atoms sit in the cell does not change with it, the angle does.

    Attributes
    ----------
    pairs
        (place, place) -> per family the sum over members of one place's phase sum times the other's conjugate.
    atoms
        Per place: what sits there.
    """

    pairs: dict[tuple[int, int], np.ndarray]
    atoms: list[list[Scatterer]]

    def __call__(self, inverse: np.ndarray, b_shift: float = 0.0) -> np.ndarray:
        """Give the sums (electrons^2) at 1/d^2 of each family."""
        s2 = inverse / 4.0
        f = [sum((atom(s2, b_shift) for atom in place), np.zeros(inverse.size, complex)) for place in self.atoms]
        total = np.zeros(inverse.size)
        for (i, j), both in self.pairs.items():
            total += (1.0 if i == j else 2.0) * (f[i] * np.conj(f[j]) * both).real
        return np.maximum(total, 0.0)


@functools.cache
def _table(element: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients a, b, c of f0."""
    import gemmi

    table = gemmi.Element(element).it92
    return np.array(table.a), np.array(table.b), float(table.c)


def _nice(value: float) -> float:
    """Read 0.3333 as 1/3: a third or sixth typed with few digits would not meet its images. Within half of the last digit, and no further."""
    digits = len(repr(float(value)).partition(".")[2])
    nearest = round(value * 6) / 6
    return nearest if digits >= 3 and abs(value - nearest) < 0.6 * 10.0**-digits else value


def _quadratic(hkl: np.ndarray) -> np.ndarray:
    h, k, l = hkl.T.astype(float)  # noqa: E741
    return np.stack([h * h, k * k, l * l, 2 * h * k, 2 * h * l, 2 * k * l], axis=1)


def _absent(operations: Any, hkl: np.ndarray) -> np.ndarray:
    """Say which reflections the space group extinguishes: an operation maps them on themselves with a phase that is not 1."""
    out = np.zeros(len(hkl), bool)
    for op in operations:
        rotation, shift = np.array(op.rot) / op.DEN, np.array(op.tran) / op.DEN
        same = np.all(np.abs(hkl @ rotation - hkl) < 1e-9, axis=1)
        turn = hkl @ shift
        out |= same & (np.abs(turn - np.round(turn)) > 1e-6)
    return out


def _formula_units(content: dict[str, float]) -> int:
    """Find the largest number of formula units whose amounts are whole; 1 if occupancies are broken."""
    amounts = np.array(list(content.values()))
    whole = np.round(amounts)
    if np.any(np.abs(amounts - whole) > 1e-3) or np.any(whole < 1):
        heavy = [n for n in amounts if abs(n - round(n)) < 1e-3 and round(n) >= 1]
        return int(functools.reduce(np.gcd, np.round(heavy).astype(int))) if heavy else 1
    return int(functools.reduce(np.gcd, whole.astype(int)))


@functools.cache
def dispersion_of(element: str, wavelength: float) -> complex:
    """Give f' + i f'' (electrons) at a wavelength (angstrom), of Chantler's tables.

    Raises
    ------
    ConfigError
        An energy outside the tables.
    """
    import xraydb

    energy = HC / wavelength * 1e3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return complex(float(np.squeeze(xraydb.f1_chantler(element, energy))), float(np.squeeze(xraydb.f2_chantler(element, energy))))
        except Exception as error:
            raise ConfigError(
                "there is no dispersion correction", found=f"{element} at {energy:.0f} eV: {error}", hint="is the wavelength in angstrom?"
            ) from None
