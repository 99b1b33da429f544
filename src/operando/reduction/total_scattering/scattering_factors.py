"""X-ray scattering factors of a composition: <f>^2, <f^2> and Compton scattering, in electron units per atom.

From xraylib (T. Schoonjans et al., Spectrochim. Acta B 66 (2011) 776): form factors of neutral atoms and incoherent scattering functions after
Hubbell et al., J. Phys. Chem. Ref. Data 4 (1975) 471 and EPDL97; anomalous terms f', f'' after Kissel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import ConfigError

ELECTRON_REST_ENERGY = 510.99895
"""keV (CODATA 2018)."""
HC = 12.398419843320026
"""h c in keV angstrom (exact SI constants)."""
_LEAST = 1e-3
"""1/angstrom: where the tables of the incoherent scattering function begin, in sin(theta)/lambda."""


def _xraylib() -> Any:
    try:
        import xraylib
    except ImportError:
        raise ConfigError("the scattering factors need xraylib, which is not installed", hint='pip install "operando[pdf]" (or xraylib)') from None
    return xraylib


def parse_composition(text: str) -> dict[str, float]:
    """Read a formula (`Ni`, `LiNi0.8Mn0.1Co0.1O2`, `Ca(OH)2`) as atomic fractions that add up to 1.

    Raises
    ------
    ConfigError
        It is no formula of neutral elements.
    """
    xraylib = _xraylib()
    try:
        found = xraylib.CompoundParser("".join(str(text).split()))
        numbers, counts = np.asarray(found["Elements"], int), np.asarray(found["nAtoms"], float)
    except ValueError as error:
        raise ConfigError(
            f"composition: is no formula: {error}", found=repr(text), expected="elements without charges, for example LiNi0.8Mn0.1Co0.1O2"
        ) from None
    if not (np.isfinite(counts).all() and (counts > 0).all()):
        raise ConfigError("composition: holds an element without atoms", found=repr(text))
    return {str(xraylib.AtomicNumberToSymbol(int(z))): float(c) for z, c in zip(numbers, counts / counts.sum(), strict=True)}


@dataclass(frozen=True)
class ScatteringFactors:
    """Averages over the composition at each Q.

    Attributes
    ----------
    mean_squared
        <f>^2, electrons^2; with f' and f'' where the energy is known: |<f>|^2.
    mean_of_squares
        <f^2>, electrons^2.
    compton
        Incoherent scattering, electron units per atom, recoil included.
    """

    mean_squared: np.ndarray
    mean_of_squares: np.ndarray
    compton: np.ndarray


def scattering_factors(
    composition: dict[str, float], q: np.ndarray, *, wavelength: float | None = None, recoil_exponent: float = 2.0
) -> ScatteringFactors:
    """Give the averages of a composition.

    Parameters
    ----------
    composition
        Element -> atomic fraction.
    q
        1/angstrom.
    wavelength
        angstrom: adds f' and f'' and the Breit-Dirac recoil factor (E'/E)^n of the Compton scattering, E' = E / (1 + E (1 - cos 2theta) / m c^2).
        None: no anomalous terms, no recoil.
    recoil_exponent
        n: 2 for detectors that count photons, 3 for those that add up energies (W. Ruland, Br. J. Appl. Phys. 15 (1964) 1301).
    """
    xraylib = _xraylib()
    s = np.asarray(q, float) / (4.0 * np.pi)
    mean = np.zeros(s.shape, complex)
    squares, compton = np.zeros(s.shape), np.zeros(s.shape)
    for element, share in composition.items():
        z = xraylib.SymbolToAtomicNumber(element)
        f = form_factor(element, q, wavelength)
        low = np.minimum(s / _LEAST, 1.0) ** 2  # it begins with the square of s
        compton += share * low * np.array([xraylib.SF_Compt(z, float(x)) for x in np.maximum(s, _LEAST)])
        mean += share * f
        squares += share * np.abs(f) ** 2
    if wavelength is not None:
        compton *= recoil(q, wavelength) ** recoil_exponent
    return ScatteringFactors(np.abs(mean) ** 2, squares, compton)


def form_factor(element: str, q: np.ndarray, wavelength: float | None = None) -> np.ndarray:
    """Give f0 + f' + i f'' of a neutral atom at Q (1/angstrom), electrons, complex; f0 alone where the wavelength (angstrom) is not known."""
    xraylib = _xraylib()
    z = xraylib.SymbolToAtomicNumber(element)
    f = np.array([xraylib.FF_Rayl(z, float(x)) for x in np.maximum(np.asarray(q, float) / (4.0 * np.pi), 1e-6)], complex)
    if wavelength is not None:
        f += xraylib.Fi(z, HC / wavelength) + 1j * abs(xraylib.Fii(z, HC / wavelength))
    return f


def pair_weight(composition: dict[str, float], pair: tuple[str, str], q: np.ndarray, wavelength: float | None = None) -> np.ndarray:
    """Give what a pair of elements weighs in S(Q), Re(c_i f_i f_j*) / <f>^2, twice that for unlike atoms; times N_ij, the j around an i.

    Raises
    ------
    ConfigError
        An element that the composition does not hold.
    """
    missing = [element for element in pair if element not in composition]
    if missing:
        raise ConfigError("pair: names what the composition does not hold", found=", ".join(missing), expected=", ".join(composition))
    f = {element: form_factor(element, q, wavelength) for element in composition}
    mean = sum(composition[element] * f[element] for element in composition)
    both = np.real(f[pair[0]] * np.conj(f[pair[1]]))
    return np.asarray((1.0 if pair[0] == pair[1] else 2.0) * composition[pair[0]] * both / np.abs(mean) ** 2)


def recoil(q: np.ndarray, wavelength: float) -> np.ndarray:
    """Give E'/E of Compton scattering at Q (1/angstrom), wavelength in angstrom; beyond back-scattering that of back-scattering."""
    sine = np.clip(np.asarray(q, float) * wavelength / (4.0 * np.pi), 0.0, 1.0)
    return np.asarray(1.0 / (1.0 + HC / wavelength / ELECTRON_REST_ENERGY * 2.0 * sine**2))  # 1 - cos 2theta = 2 sin^2 theta


def polarisation_factor(q: np.ndarray, wavelength: float, degree: float) -> np.ndarray:
    """Give (1 + A cos^2 2theta) / (1 + A); A = 1: unpolarised beam, or whole rings of any beam."""
    sine = np.clip(np.asarray(q, float) * wavelength / (4.0 * np.pi), 0.0, 1.0)
    return np.asarray((1.0 + degree * (1.0 - 2.0 * sine**2) ** 2) / (1.0 + degree))
