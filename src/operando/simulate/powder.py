r"""Powder pattern of the simulated cell: kinematic diffraction of fixed areal masses, collectors, and what is not crystalline.

Integrated over 2theta, a family of reflections of phase p gives, per solid angle,

    I = S_p sum|F|^2 / (sin^2(theta) cos(theta)),       S_p = mass_p / (Z M V)_p

so that mass_p ~ S_p (Z M V)_p: the relation of Hill & Howard, J. Appl. Cryst. 20 (1987) 467. (Irradiated volume x |F|^2 / V^2, with volume =
mass / density and density = Z M / V.) Absorption is the same for all phases and all angles: there is none.

Profile: pseudo-Voigt of Thompson, Cox & Hastings, J. Appl. Cryst. 20 (1987) 79. Its Gaussian part is the instrument,
FWHM^2 = U tan^2 + V tan + W (Caglioti et al., Nucl. Instrum. 3 (1958) 223); its Lorentzian part is the size of the crystallites,
0.9 wavelength / (L cos), and for the oxide strain, 4 strain tan: particles of unequal Li content, more unequal under current.

The rolled foils are textured about the normal of the foil, which is the direction of the beam (March 1932, Dollase, J. Appl. Cryst. 19 (1986)
267, averaged over the rotation about the scattering vector in transmission). Graphite and oxide are not textured.

The beam sees oxide (active, and at the damaged position a part that lags) and carbon (LiC6, LiC12 and the dilute stages).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.simulate import structures as st
from operando.simulate.cell import LAGGING_X
from operando.simulate.materials import oxide_lattice

PHASES = ("NMC811", "NMC811_lagging", "LiC6", "LiC12", "graphite")
OXIDE_LOADING, CARBON_LOADING = 10.0, 6.5  # mg/cm2; the oxide counted as lithiated to x = 1, the carbon without its Li
ALUMINIUM_LOADING, COPPER_LOADING = 3.24, 5.38  # mg/cm2: 12 um and 6 um of foil
CAGLIOTI = (0.030, -0.002, 0.0036)  # U, V, W in deg^2, of the FWHM
SIZES = {"NMC811": 120.0, "NMC811_lagging": 80.0, "LiC6": 45.0, "LiC12": 40.0, "graphite": 50.0, "Al": 200.0, "Cu": 200.0}  # nm
TEXTURE = {"Al": ((0, 0, 1), 0.80), "Cu": ((0, 1, 1), 0.85)}  # direction along the foil's normal, March's r
STRAIN_AT_REST, STRAIN_PER_AMPERE = 5e-4, 0.4  # 1, 1/A
STEP = 0.005  # degrees of the fine grid


@dataclass(frozen=True)
class Mixture:
    """What the beam sees in one exposure: means over it."""

    x: float  # Li content of the active oxide
    a: float  # angstrom, of the active oxide
    c: float
    d_dilute: float  # layer spacing of the dilute stages, angstrom
    strain: float
    masses: np.ndarray  # mg/cm2 of each of `PHASES`


def oxide_mass(x: np.ndarray | float) -> np.ndarray:
    """Give the mass of the oxide's formula unit, g/mol, at Li content x."""
    return np.asarray(st.oxide(0.0, 0.24).mass + st.ATOMIC_MASS["Li"] * np.asarray(x, float))


def amounts(x: np.ndarray, lagging: np.ndarray, stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give masses (mg/cm2) and amounts (mmol of formula units per cm2), both (frame, phase).

    Parameters
    ----------
    x
        Li content of the active oxide.
    lagging
        Fraction of the oxide (formula units) that is stuck at `LAGGING_X`.
    stages
        Fractions of the carbon atoms in LiC6, LiC12 and the dilute stages, (frame, 3).
    """
    formula = OXIDE_LOADING / float(oxide_mass(1.0))
    carbon = CARBON_LOADING / st.ATOMIC_MASS["C"]
    moles = np.stack([formula * (1 - lagging), formula * lagging, carbon * stages[:, 0] / 6, carbon * stages[:, 1] / 12, carbon * stages[:, 2]], 1)
    units = np.stack([oxide_mass(x), *(np.full(x.shape, m) for m in (oxide_mass(LAGGING_X), st.LIC6.mass, st.LIC12.mass, st.GRAPHITE.mass))], 1)
    return moles * units, moles


def pseudo_voigt(gauss: np.ndarray, lorentz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give FWHM and Lorentzian fraction of the pseudo-Voigt that stands for a Gaussian convolved with a Lorentzian, from their FWHM."""
    g, w = gauss, lorentz
    fwhm = (g**5 + 2.69269 * g**4 * w + 2.42843 * g**3 * w**2 + 4.47163 * g**2 * w**3 + 0.07842 * g * w**4 + w**5) ** 0.2
    part = w / fwhm
    return fwhm, 1.36603 * part - 0.47719 * part**2 + 0.11116 * part**3


def widths(theta: np.ndarray, size: float, strain: float) -> tuple[np.ndarray, np.ndarray]:
    """Give FWHM (degrees of 2theta) and Lorentzian fraction at Bragg angles theta (rad); size in nm."""
    u, v, w = CAGLIOTI
    tan = np.tan(theta)
    lorentz = np.degrees(0.9 * st.WAVELENGTH / 10.0 / (size * np.cos(theta)) + 4.0 * strain * tan)
    return pseudo_voigt(np.sqrt(u * tan**2 + v * tan + w), lorentz)


def texture_factor(members: np.ndarray, direction: tuple[int, int, int], r: float, theta: float) -> float:
    """Give how much stronger a family of a cubic foil is than without texture, at Bragg angle theta (rad), the beam along the foil's normal."""
    unit = members / np.linalg.norm(members, axis=1, keepdims=True)
    cos_phi = np.clip(unit @ (np.asarray(direction) / np.linalg.norm(direction)), -1.0, 1.0)[:, None]
    turn = (np.arange(72) + 0.5) / 72 * 2 * np.pi
    cos_alpha = cos_phi * np.sin(theta) + np.sqrt(1 - cos_phi**2) * np.cos(theta) * np.cos(turn)
    return float(np.mean((r**2 * cos_alpha**2 + (1 - cos_alpha**2) / r) ** -1.5))


def lines(two_theta: np.ndarray, centre: np.ndarray, area: np.ndarray, fwhm: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """Sum pseudo-Voigt lines of given area, centre and FWHM (degrees) on a grid (degrees)."""
    total = np.zeros_like(two_theta)
    for c, s, w, n in zip(centre, area, fwhm, eta, strict=True):
        if s > 0:
            away = ((two_theta - c) / w) ** 2
            near = slice(*np.searchsorted(two_theta, [c - 5 * w, c + 5 * w]))  # beyond, a Gaussian is below 1e-30
            total += s * n * 2 / (np.pi * w) / (1 + 4 * away)
            total[near] += s * (1 - n) * np.sqrt(4 * np.log(2) / np.pi) / w * np.exp(-4 * np.log(2) * away[near])
    return total


def background(two_theta: np.ndarray) -> np.ndarray:
    """Give what is not crystalline (same unit as the lines): air, the hump of the electrolyte and separator, Compton scattering and fluorescence."""
    q = 4 * np.pi / st.WAVELENGTH * np.sin(np.radians(two_theta) / 2)
    air = 900.0 * np.exp(-q / 0.45)
    hump = 420.0 * np.exp(-0.5 * ((q - 1.42) / 0.27) ** 2) + 110.0 * np.exp(-0.5 * ((q - 2.9) / 0.6) ** 2)
    return np.asarray(air + hump + 150.0 * (1 - np.exp(-((q / 3.5) ** 2))) + 60.0)


class Powder:
    """Patterns of the cell on one fine grid of 2theta.

    Parameters
    ----------
    highest
        Largest 2theta (degrees) that is wanted; reflections up to one degree beyond it are counted.
    """

    def __init__(self, highest: float) -> None:
        self.two_theta = np.arange(0.5, highest + 2 * STEP, STEP)
        d_min = st.WAVELENGTH / 2 / np.sin(np.radians(highest + 1.0) / 2)
        self.oxide = st.oxide_families(round(d_min, 3))
        self.graphite = st.graphite_families(round(d_min, 3))
        a, c, _ = (float(value) for value in oxide_lattice(LAGGING_X))
        self.unit = {"NMC811_lagging": self._oxide("NMC811_lagging", LAGGING_X, a, c, STRAIN_AT_REST)}
        for structure, cell in ((st.LIC6, st.LIC6_CELL), (st.LIC12, st.LIC12_CELL)):
            families = st.families(structure, *cell, d_min)
            self.unit[structure.formula] = self._phase(structure.formula, structure, families, families.strength, *cell, 0.0)
        self.aluminium = ALUMINIUM_LOADING * self._foil("Al", st.ALUMINIUM, st.ALUMINIUM_CELL, d_min)
        self.copper = COPPER_LOADING * self._foil("Cu", st.COPPER, st.COPPER_CELL, d_min)
        self.background = background(self.two_theta)

    def _phase(
        self, name: str, structure: st.Structure, families: st.Families, strength: np.ndarray, a: float, c: float, strain: float
    ) -> np.ndarray:
        """Give the pattern of 1 mg/cm2 of a phase."""
        sine = st.WAVELENGTH / 2 / families.spacing(a, c)
        theta = np.arcsin(np.minimum(sine, 0.999))
        scale = 1.0 / (structure.formula_units * structure.mass * structure.volume(a, c))
        area = scale * strength / (np.sin(theta) ** 2 * np.cos(theta))
        return lines(self.two_theta, np.degrees(2 * theta), area, *widths(theta, SIZES[name], strain))

    def _oxide(self, name: str, x: float, a: float, c: float, strain: float) -> np.ndarray:
        return self._phase(name, st.oxide(x, 0.24), self.oxide.families, self.oxide.strength(x), a, c, strain)

    def _foil(self, name: str, structure: st.Structure, cell: tuple[float, float], d_min: float) -> np.ndarray:
        families = st.families(structure, *cell, d_min)
        theta = np.arcsin(st.WAVELENGTH / 2 / families.spacing(*cell))
        factor = np.array([texture_factor(one, *TEXTURE[name], angle) for one, angle in zip(families.members, theta, strict=True)])
        return self._phase(name, structure, families, families.strength * factor, *cell, 0.0)

    def phases(self, mixture: Mixture) -> np.ndarray:
        """Give the pattern of each of `PHASES`, (phase, two_theta), in the unit of all patterns here (see `pattern`)."""
        masses = mixture.masses
        active = masses[0] * self._oxide("NMC811", mixture.x, mixture.a, mixture.c, mixture.strain)
        dilute = np.zeros_like(active)
        if masses[4] > 0:
            cell = (st.GRAPHITE_A, 2 * mixture.d_dilute)
            strength = self.graphite.strength(mixture.d_dilute)
            dilute = masses[4] * self._phase("graphite", st.GRAPHITE, self.graphite.families, strength, *cell, 0.0)
        fixed = [masses[k] * self.unit[PHASES[k]] for k in (1, 2, 3)]
        return np.stack([active, *fixed, dilute])

    def pattern(self, mixture: Mixture) -> np.ndarray:
        """Give the intensity per solid angle at normal incidence without polarisation, of all phases, foils and the background.

        The unit is arbitrary and the same for all: the one in which a line of 1 mg/cm2 has the area (degrees) sum|F|^2 / (Z M V sin^2 cos), with M
        in g/mol and V in angstrom^3.
        """
        return self.phases(mixture).sum(0) + self.aluminium + self.copper + self.background
