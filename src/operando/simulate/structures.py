r"""Crystal structures of the simulated cell and the strength of their reflections.

Typed from published facts; fractional coordinates, hexagonal axes where there is a choice:

* Layered oxide LixNi0.8Mn0.1Co0.1O2, R-3m (166): Li (0, 0, 0), an average metal (0, 0, 1/2), O (0, 0, z). Site model of NMC811 after Maerker
  et al., Chem. Mater. 31 (2019) 2545; no Li/Ni exchange. a, c and z follow x (`operando.simulate.materials.oxide_lattice`).
* LiC6, P6/mmm (191), a = 4.305, c = 3.706 angstrom: Li (0, 0, 0), C (1/3, 0, 1/2). Guerard & Herold, Carbon 13 (1975) 337.
* LiC12, P6/mmm, a = 4.288, c = 7.065 angstrom, A alpha A stacking. Billaud et al., J. Phys. Chem. Solids 57 (1996) 775. Li (0, 0, 0), C (1/3, 0, z),
  z = 0.262: the filled gallery is as wide as that of LiC6, the empty one as that of graphite.
* Graphite, P63/mmc (194), a = 2.461 angstrom, c = twice the layer spacing: C (0, 0, 1/4), (1/3, 2/3, 1/4). Trucano & Chen, Nature 258 (1975) 136.
  The dilute stages are this structure with their own spacing; their few Li scatter next to nothing and are left out, of their mass too.
* Al and Cu, Fm-3m (225), a = 4.0495 and 3.6149 angstrom.

Isotropic displacements are round numbers of the size found at room temperature. |F|^2 is computed by Dans_Diffraction (D. G. Porter, Apache-2.0)
with the form factors of the International Tables C (1992) and the anomalous f', f'' of Henke et al., At. Data Nucl. Data Tables 54 (1993) 181,
at 25 keV. Reflections that must have the same spacing are one family: (h^2 + hk + k^2, l^2) in a hexagonal cell, h^2 + k^2 + l^2 in a
cubic one; what counts is the sum of |F|^2 over the family, in which the multiplicity is contained.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from operando.simulate.materials import oxide_lattice

ENERGY = 25.0  # keV
WAVELENGTH = 12.398419843320026 / ENERGY  # angstrom

ATOMIC_MASS = {"Li": 6.94, "C": 12.011, "O": 15.999, "Al": 26.982, "Mn": 54.938, "Co": 58.933, "Ni": 58.693, "Cu": 63.546}  # g/mol, IUPAC 2021


@dataclass(frozen=True)
class Structure:
    """One crystal structure.

    Attributes
    ----------
    formula
        The formula unit.
    composition
        Element -> number in the formula unit.
    formula_units
        Z, formula units in the cell.
    space_group
        Number in the International Tables.
    atoms
        (element, x, y, z, occupancy, Uiso in angstrom^2) of the asymmetric unit.
    """

    formula: str
    composition: dict[str, float]
    formula_units: int
    space_group: int
    atoms: tuple[tuple[str, float, float, float, float, float], ...]

    @property
    def mass(self) -> float:
        """Mass of the formula unit, g/mol."""
        return sum(ATOMIC_MASS[element] * n for element, n in self.composition.items())

    @property
    def cubic(self) -> bool:
        """Whether the cell is cubic; otherwise it is hexagonal."""
        return self.space_group >= 195

    def volume(self, a: float, c: float) -> float:
        """Volume of the cell, angstrom^3."""
        return a**3 if self.cubic else float(np.sqrt(0.75) * a**2 * c)


def oxide(x: float, z: float) -> Structure:
    """Give the layered oxide with Li content x and the oxygen coordinate z."""
    metals = (("Ni", 0.8), ("Mn", 0.1), ("Co", 0.1))
    atoms = [("Li", 0.0, 0.0, 0.0, float(x), 0.012), ("O", 0.0, 0.0, float(z), 1.0, 0.009)]
    atoms += [(element, 0.0, 0.0, 0.5, share, 0.004) for element, share in metals]
    return Structure("LixNi0.8Mn0.1Co0.1O2", {"Li": float(x), **dict(metals), "O": 2.0}, 3, 166, tuple(atoms))


LIC6 = Structure("LiC6", {"Li": 1.0, "C": 6.0}, 1, 191, (("Li", 0.0, 0.0, 0.0, 1.0, 0.02), ("C", 1 / 3, 0.0, 0.5, 1.0, 0.006)))
LIC12 = Structure("LiC12", {"Li": 1.0, "C": 12.0}, 1, 191, (("Li", 0.0, 0.0, 0.0, 1.0, 0.02), ("C", 1 / 3, 0.0, 0.262, 1.0, 0.006)))
GRAPHITE = Structure("C", {"C": 1.0}, 4, 194, (("C", 0.0, 0.0, 0.25, 1.0, 0.006), ("C", 1 / 3, 2 / 3, 0.25, 1.0, 0.006)))
ALUMINIUM = Structure("Al", {"Al": 1.0}, 4, 225, (("Al", 0.0, 0.0, 0.0, 1.0, 0.010),))
COPPER = Structure("Cu", {"Cu": 1.0}, 4, 225, (("Cu", 0.0, 0.0, 0.0, 1.0, 0.007),))

LIC6_CELL, LIC12_CELL = (4.305, 3.706), (4.288, 7.065)  # a, c in angstrom
GRAPHITE_A = 2.461
ALUMINIUM_CELL, COPPER_CELL = (4.0495, 4.0495), (3.6149, 3.6149)


@dataclass(frozen=True)
class Families:
    """The reflections of one structure, by spacing.

    Attributes
    ----------
    hkl
        One member of each family.
    multiplicity
        Number of its members.
    strength
        Sum of |F|^2 over its members, electrons^2.
    members
        All of each family, hkl.
    """

    hkl: np.ndarray
    multiplicity: np.ndarray
    strength: np.ndarray
    members: tuple[np.ndarray, ...]
    cubic: bool

    def spacing(self, a: float, c: float) -> np.ndarray:
        """Give the exact d (angstrom) in a cell of a, c (angstrom)."""
        return spacing(self.hkl, a, c, self.cubic)


def spacing(hkl: np.ndarray, a: float, c: float, cubic: bool = False) -> np.ndarray:
    """Give d (angstrom) of reflections in a hexagonal or cubic cell (a, c in angstrom)."""
    h, k, l = np.asarray(hkl, float).T  # noqa: E741
    return np.asarray(1.0 / np.sqrt((h**2 + k**2 + l**2) / a**2 if cubic else 4.0 / 3.0 * (h**2 + h * k + k**2) / a**2 + (l / c) ** 2))


def squared_structure_factors(structure: Structure, a: float, c: float, hkl: np.ndarray) -> np.ndarray:
    """Give |F|^2 (electrons^2) of reflections, with f' and f'' at `ENERGY`."""
    import Dans_Diffraction

    crystal = Dans_Diffraction.Crystal()
    crystal.new_cell([a, a, a, 90, 90, 90] if structure.cubic else [a, a, c, 90, 90, 120])
    crystal.Symmetry.load_spacegroup(structure.space_group)
    element, u, v, w, occupancy, uiso = (list(column) for column in zip(*structure.atoms, strict=True))
    crystal.new_atoms(u=u, v=v, w=w, type=element, label=element, occupancy=occupancy, uiso=uiso)
    crystal.generate_structure()
    crystal.Scatter.setup_scatter(magnetic_formfactor=False, output=False)  # looking these up takes longer than all the rest
    return np.asarray(crystal.Scatter.intensity(np.asarray(hkl), scattering_type="xray dispersion", energy_kev=ENERGY), float)


def _members(a: float, c: float, cubic: bool, d_min: float) -> list[np.ndarray]:
    """Give all reflections with d >= d_min, family by family, from large d to small."""
    reach = [int(np.ceil(2 * length / np.sqrt(3) / d_min)) for length in (a, a, c)]
    hkl = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[np.any(hkl != 0, axis=1)]
    hkl = hkl[spacing(hkl, a, c, cubic) >= d_min]
    h, k, l = hkl.T  # noqa: E741
    key = np.stack([h * h + k * k + l * l, 0 * l] if cubic else [h * h + h * k + k * k, l * l], 1)
    _, family = np.unique(key, axis=0, return_inverse=True)
    families = [hkl[family.ravel() == n] for n in range(int(family.max()) + 1)]
    return sorted(families, key=lambda one: -float(spacing(one[:1], a, c, cubic)[0]))


def _strengths(structure: Structure, a: float, c: float, members: list[np.ndarray]) -> np.ndarray:
    squares = squared_structure_factors(structure, a, c, np.concatenate(members))
    return np.add.reduceat(squares, np.cumsum([0, *(len(one) for one in members[:-1])]))


def families(structure: Structure, a: float, c: float, d_min: float) -> Families:
    """Give the reflections of a structure (a, c in angstrom) with d of at least `d_min` (angstrom); extinct ones are left out."""
    members = _members(a, c, structure.cubic, d_min)
    return _kept(structure, members, _strengths(structure, a, c, members))[0]


def _kept(structure: Structure, members: list[np.ndarray], strength: np.ndarray) -> tuple[Families, np.ndarray]:
    strongest = np.atleast_2d(strength).max(0)
    keep = np.flatnonzero(strongest > 1e-6 * strongest.max())
    some = tuple(members[n] for n in keep)
    hkl = np.array([max(one[np.all(one >= 0, axis=1)].tolist()) for one in some])  # (1, 1, 0) rather than (2, -1, 0)
    return Families(hkl, np.array([len(one) for one in some]), np.atleast_2d(strength)[0][keep], some, structure.cubic), keep


@dataclass(frozen=True)
class VaryingFamilies:
    """The reflections of a phase that changes, from |F|^2 on a grid of what it follows.

    Attributes
    ----------
    grid
        Li content of the oxide, or layer spacing (angstrom) of graphite.
    strengths
        (grid, family), electrons^2.
    families
        The families; their own `strength` is that of the first grid point.
    """

    grid: np.ndarray
    strengths: np.ndarray
    families: Families

    def strength(self, at: float) -> np.ndarray:
        """Give the sum of |F|^2 of each family, linear on the grid and beyond it."""
        k = int(np.clip(np.searchsorted(self.grid, at) - 1, 0, self.grid.size - 2))
        ahead = (at - self.grid[k]) / (self.grid[k + 1] - self.grid[k])
        return np.asarray(np.maximum((1 - ahead) * self.strengths[k] + ahead * self.strengths[k + 1], 0.0))


def _varying(grid: np.ndarray, phases: list[tuple[Structure, float, float]], d_min: float) -> VaryingFamilies:
    largest = max(a for _, a, _ in phases), max(c for _, _, c in phases)  # this cell has all reflections that any of them has
    members = _members(*largest, phases[0][0].cubic, d_min)
    strengths = np.stack([_strengths(structure, a, c, members) for structure, a, c in phases])
    kept, keep = _kept(phases[0][0], members, strengths)
    return VaryingFamilies(grid, strengths[:, keep], kept)


@functools.lru_cache(maxsize=4)
def oxide_families(d_min: float, lowest: float = 0.15, highest: float = 1.0, steps: int = 18) -> VaryingFamilies:
    """Compute the reflections of the oxide with d of at least `d_min` (angstrom) on `steps` Li contents."""
    x = np.linspace(lowest, highest, steps)
    return _varying(x, [(oxide(li, z), float(a), float(c)) for li, a, c, z in zip(x, *oxide_lattice(x), strict=True)], d_min)


@functools.lru_cache(maxsize=4)
def graphite_families(d_min: float, lowest: float = 3.35, highest: float = 3.48, steps: int = 5) -> VaryingFamilies:
    """Compute the reflections of graphite with d of at least `d_min` (angstrom) on `steps` layer spacings (angstrom)."""
    spacings = np.linspace(lowest, highest, steps)
    return _varying(spacings, [(GRAPHITE, GRAPHITE_A, 2.0 * float(d)) for d in spacings], d_min)
