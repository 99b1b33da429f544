"""Powder patterns of recipes' structures by other code than the package's: |F|^2 by Dans_Diffraction, true Voigt lines, counted with Poisson noise.

What is shared with the package is the file that a structure is typed in, and nothing else: symmetry, form factors, f' and f'' (Henke),
multiplicities, masses, lattices, widths and the relation of weight and intensity are made here.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import voigt_profile

from operando.contract import series

NUMBERS = {
    "R -3 m:H": 166, "R 3 m:H": 160, "P n m a": 62, "F d -3 m:2": 227, "P 6/m m m": 191, "P 63/m m c": 194, "F m -3 m": 225, "I m -3 m": 229,
}  # fmt: skip
MASSES = {
    "H": 1.008, "Li": 6.94, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.990, "Al": 26.982, "P": 30.974, "Mn": 54.938, "Fe": 55.845,
    "Co": 58.933, "Ni": 58.693, "Cu": 63.546,
}  # fmt: skip
ENERGY = 25.0  # keV
WAVELENGTH = 12.398419843320026 / ENERGY


@dataclass
class Part:
    """One phase in one frame.

    Attributes
    ----------
    structure
        As in a recipe, with what differs in this frame.
    weight
        In any unit, the same for all.
    size
        Crystallite size, nm.
    texture
        Direction along the beam and March's r, of a rolled foil of a cubic metal.
    """

    structure: dict[str, Any]
    weight: float
    size: float = 60.0
    texture: tuple[tuple[int, int, int], float] | None = None
    cell: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        s = self.structure
        number = NUMBERS[s["space_group"]]
        a, b, c = s["a"], s.get("b", s["a"]), s.get("c", s["a"])
        self.cell = np.array([a, b, c, 90.0, 90.0, 120.0 if 143 <= number < 195 else 90.0])


def with_sites(structure: dict[str, Any], lattice: dict[str, float], **sites: dict[str, float]) -> dict[str, Any]:
    """Give a structure with another lattice and with sites changed by label."""
    changed = [site | sites.get(site.get("label", ""), {}) for site in structure["sites"]]
    return structure | lattice | {"sites": changed}


def _exact(value: float) -> float:
    """Thirds and sixths typed with few digits."""
    near = round(value * 6) / 6
    return near if abs(value - near) < 2e-4 else value


def crystal(structure: dict[str, Any], cell: np.ndarray) -> Any:
    """Give the structure as a crystal of Dans_Diffraction."""
    import Dans_Diffraction

    made = Dans_Diffraction.Crystal()
    made.new_cell(list(cell))
    made.Symmetry.load_spacegroup(NUMBERS[structure["space_group"]])
    sites = [site for site in structure["sites"] if site.get("occupancy", 1.0) > 0]
    u, v, w = ([_exact(float(site[name])) for site in sites] for name in "xyz")
    elements = [site["element"] for site in sites]
    occupancy = [float(site.get("occupancy", 1.0)) for site in sites]
    uiso = [float(site["b_iso"]) / (8 * np.pi**2) for site in sites]
    made.new_atoms(u=u, v=v, w=w, type=elements, label=elements, occupancy=occupancy, uiso=uiso)
    made.generate_structure()
    made.Scatter.setup_scatter(magnetic_formfactor=False, output=False)
    return made


def metric(cell: np.ndarray) -> np.ndarray:
    """Give the reciprocal metric tensor, 1/angstrom^2."""
    a, b, c = cell[:3]
    cosines = np.cos(np.radians(cell[3:]))
    direct = np.array([[a * a, a * b * cosines[2], a * c * cosines[1]], [a * b * cosines[2], b * b, b * c * cosines[0]],
                       [a * c * cosines[1], b * c * cosines[0], c * c]])  # fmt: skip
    return np.linalg.inv(direct)


def foil(structure: dict[str, Any], weight: float) -> Part:
    """Give a current collector: rolled aluminium, (100) in the plane of the foil; rolled copper, (110)."""
    axis, r = ((0, 0, 1), 0.80) if structure["sites"][0]["element"] == "Al" else ((0, 1, 1), 0.85)
    return Part(structure, weight, 200.0, (axis, r))


def preferred(hkl: np.ndarray, texture: tuple[tuple[int, int, int], float], theta: np.ndarray) -> np.ndarray:
    """Give March's factor of single reflections of a cubic foil across the beam, by integration over the turn about the scattering vector."""
    axis = np.array(texture[0]) / np.linalg.norm(texture[0])
    cosine = np.abs(hkl @ axis) / np.linalg.norm(hkl, axis=1)
    turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    away = cosine[:, None] * np.sin(theta)[:, None] + np.sqrt(np.maximum(1 - cosine**2, 0))[:, None] * np.cos(theta)[:, None] * np.cos(turn)
    r = texture[1]
    return np.asarray(((r**2 * away**2 + (1 - away**2) / r) ** -1.5).mean(axis=1))


def lines(
    structure: dict[str, Any], cell: np.ndarray, d_min: float, energy: float = ENERGY, texture: tuple[tuple[int, int, int], float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give d (angstrom) and the sum of |F|^2 over all that falls on it (electrons^2 per cell), from large d to small."""
    reach = [int(np.ceil(length / d_min * 1.2)) for length in cell[:3]]
    hkl = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
    inverse = np.einsum("ij,jk,ik->i", hkl, metric(cell), hkl)
    hkl, inverse = hkl[(inverse > 0) & (inverse <= 1 / d_min**2)], inverse[(inverse > 0) & (inverse <= 1 / d_min**2)]
    half = (hkl[:, 0] > 0) | ((hkl[:, 0] == 0) & ((hkl[:, 1] > 0) | ((hkl[:, 1] == 0) & (hkl[:, 2] > 0))))
    both = [crystal(structure, cell).Scatter.intensity(sign * hkl[half], scattering_type="xray dispersion", energy_kev=energy) for sign in (1, -1)]
    strength = np.asarray(both[0], float) + np.asarray(both[1], float)
    if texture:
        strength = strength * preferred(hkl[half], texture, np.arcsin(WAVELENGTH / 2 * np.sqrt(inverse[half])))
    _, which = np.unique(np.round(inverse[half], 9), return_inverse=True)
    total = np.bincount(which, strength)
    d = 1 / np.sqrt(np.bincount(which, inverse[half]) / np.bincount(which))
    order = np.argsort(-d)
    return d[order], total[order]


def cell_mass(structure: dict[str, Any], cell: np.ndarray) -> float:
    """Mass of the contents of a cell, g/mol of cells."""
    made = crystal(structure, cell).Structure
    return float(sum(MASSES[str(e)] * float(n) for e, n in zip(made.type, made.occupancy, strict=True)))


@functools.lru_cache(maxsize=64)
def _prepared(structure: str, cell: tuple[float, ...], d_min: float, texture: Any) -> tuple[np.ndarray, np.ndarray, float]:
    made, lattice = json.loads(structure), np.array(cell)
    return *lines(made, lattice, d_min, texture=texture), cell_mass(made, lattice)


def pattern(part: Part, two_theta: np.ndarray, w: float = 0.004) -> np.ndarray:
    """Give the intensity (arbitrary unit, the same for all) of one phase: areas by weight, lines of a Gaussian instrument and of small crystals."""
    d_min = round(float(WAVELENGTH / 2 / np.sin(np.radians(two_theta[-1] + 0.5) / 2)), 6)
    d, strength, mass = _prepared(json.dumps(part.structure), tuple(part.cell.tolist()), d_min, part.texture)
    sine = WAVELENGTH / 2 / d
    theta = np.arcsin(sine)
    volume = float(np.linalg.det(metric(part.cell)) ** -0.5)
    area = part.weight / (mass * volume) * strength / (sine**2 * np.cos(theta))
    sigma = np.sqrt(w / (8 * np.log(2)))
    gamma = np.degrees(0.9 * WAVELENGTH / 10 / part.size / np.cos(theta)) / 2
    total = np.zeros_like(two_theta)
    for at, much, half in zip(2 * np.degrees(theta), area, gamma, strict=True):
        if much > 0:
            total += much * voigt_profile(two_theta - at, sigma, half)
    return total


def measure(
    frames: list[dict[str, Part]], two_theta: np.ndarray, *, peak: float = 4000.0, under: np.ndarray | None = None, seed: int = 0
) -> xr.Dataset:
    """Count: a series of frames over `two_theta` (degrees), the strongest line of the series with `peak` counts."""
    rng = np.random.default_rng(seed)
    cache: dict[int, np.ndarray] = {}
    clean = []
    for frame in frames:
        for part in frame.values():
            if id(part) not in cache:
                cache[id(part)] = pattern(part, two_theta)
        clean.append(sum(cache[id(part)] for part in frame.values()))
    made = np.array(clean)
    made *= peak / made.max()
    x = (two_theta - two_theta[0]) / (two_theta[-1] - two_theta[0])
    made = made + (peak * (0.08 - 0.05 * x + 0.03 * np.exp(-4 * x)) if under is None else under)
    counts = rng.poisson(made).astype(float)
    return series(
        "xrd",
        {"intensity": (("time", "q"), counts, "counts"), "intensity_errors": (("time", "q"), np.sqrt(np.maximum(counts, 1.0)), "counts")},
        source="simulated",
        coords={
            "q": ("q", 4 * np.pi / WAVELENGTH * np.sin(np.radians(two_theta) / 2), "1/angstrom"),
            "two_theta": ("q", two_theta, "deg"),
        },
        start="2026-06-03T10:00:00+00:00",
        time_origin="header",
        elapsed=30.0 * np.arange(len(frames)),
        exposure=30.0,
        attrs={"wavelength": WAVELENGTH, "wavelength_units": "angstrom"},
    )
