"""Ni K-edge absorption of the simulated cell: quick-XAS in transmission with a Ni foil behind it, one XDI file per spectrum.

What is simulated
-----------------
The oxide's nickel is a mixture of two states, one of mean oxidation 2.875 and one of 3.9. The absorption is linear in the fraction f of the
charged one, f = (oxidation - 2.875) / 1.025, so a linear combination fit has an exact truth (`charged_fraction`)::

    mu_sample(E) = background(E) + EDGE_STEP decline(E) n(E)        n = (1 - f) n_discharged + f n_charged

with Victoreen's law C/E^3 - D/E^4 (Victoreen, J. Appl. Phys. 20 (1949) 1141) for `background` and `decline` (1 at 8345 eV). Each n, the
normalised absorption, is an error-function step times 1 + chi, plus Gaussians for the 1s-3d pre-edge and the white line. chi is the EXAFS equation
(Sayers, Stern & Lytle, Phys. Rev. Lett. 27 (1971) 1204) for two shells, Ni-O 1.97 -> 1.88 and Ni-M 2.87 -> 2.82 angstrom, with
amplitudes and phases of our own that have the size and slope of real ones. n is 0 below the edge and 1 above it but for chi: there are no tails
over which two normalisations could disagree. Half-step energies follow those of Ni in layered oxides (8344-8346 eV).

One file is the mean of many fast sweeps, so every energy sees the mean state of the exposure. Photons that a chamber takes are thinned
from one Poisson stream: the chambers' noise is independent. Amplifiers turn photons into counts and add a small dark signal.

The monochromator is not where it says: written energy = true energy + drift, the drift growing evenly from the first spectrum to the last, with a
jump before one of them. The foil, whose first inflection lies at 8333.0 eV (Bearden & Burr, Rev. Mod. Phys. 39 (1967) 125; Kraft et al., Rev. Sci.
Instrum. 67 (1996) 681: 8333), tells.

What is written
---------------
XDI 1.0 (Ravel & Newville, J. Phys. Conf. Ser. 712 (2016) 012148): `energy` (eV), and raw counts `i0`, `itrans`, `irefer`;
mu = ln(i0 / itrans), mu_reference = ln(itrans / irefer). `Scan.start_time` is the beamline computer's wall clock without a zone; the end is
counted from it. In a beam dump the chambers write their dark signal: mu has a value and no meaning. Two standards, the pure states, are
measured before the run with a calibrated monochromator.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from operando.simulate.instruments import Campaign, Told

OXIDATION = (2.875, 3.9)
"""Mean oxidation of Ni in the two states that are mixed."""
EDGE_STEP, FOIL_EDGE_STEP = 0.80, 1.10
BACKGROUND, FOIL_BACKGROUND = 0.95, 0.20
"""Absorption at 8345 eV of everything but the Ni K shell."""
REFERENCE_ENERGY = 8345.0  # eV
FOIL_EDGE = 8333.0  # eV, first inflection
PHOTONS = 3.0e7
"""Photons that i0 takes at one energy at nominal beam; relative noise 2e-4."""
TRANSMITTED = (1.0, 1.0, 1.6)
"""Photons that i0, itrans and irefer would take without any absorber, relative to i0."""
GAINS = (0.03, 0.05, 0.06)  # counts per photon
DARK = (14.0, 17.0, 21.0)  # counts
DARK_NOISE = 2.5  # counts
DRIFT, JUMP = 0.8, 0.3  # eV
K_PER_EV = 0.26246842  # 2 m_e / hbar^2, 1/(angstrom2 eV)


@dataclass(frozen=True)
class Shell:
    """Neighbours at one distance (angstrom), the variance of that distance (angstrom2), and their scattering.

    The amplitude (angstrom) is strength exp(-((k - peak) / width)^2), the phase offset + slope k.
    """

    neighbours: float
    distance: float
    variance: float
    strength: float
    peak: float
    width: float
    offset: float
    slope: float

    def chi(self, k: np.ndarray) -> np.ndarray:
        """Give the EXAFS at wave numbers k (1/angstrom); mean free path 7 angstrom, S0^2 = 0.85, faded in below 3 1/angstrom."""
        amplitude = 0.85 * self.neighbours * self.strength * np.exp(-(((k - self.peak) / self.width) ** 2)) / self.distance**2
        damping = np.exp(-2.0 * self.variance * k**2 - 2.0 * self.distance / 7.0)
        fade = k**3 / (k**4 + 3.0**4)  # 1/k without its pole
        return np.asarray(amplitude * damping * fade * np.sin(2.0 * k * self.distance + self.offset + self.slope * k))


def _oxygen(distance: float, variance: float) -> Shell:
    return Shell(6.0, distance, variance, 0.70, 1.0, 7.5, 3.3, -0.9)


def _metal(distance: float, variance: float, neighbours: float = 6.0) -> Shell:
    return Shell(neighbours, distance, variance, 0.50, 6.0, 4.5, 1.5, -0.8)


@dataclass(frozen=True)
class Spectrum:
    """The normalised absorption of one state.

    Attributes
    ----------
    origin
        Energy (eV) from which photoelectrons have kinetic energy.
    edges
        Error-function steps: (position eV, standard deviation eV, share); the shares sum to 1.
    pre_edge, white_line
        Gaussians: (centre eV, standard deviation eV, area eV).
    shells
        Neighbours.
    """

    origin: float
    edges: tuple[tuple[float, float, float], ...]
    pre_edge: tuple[float, float, float]
    white_line: tuple[float, float, float]
    shells: tuple[Shell, ...]

    def normalised(self, energy: np.ndarray) -> np.ndarray:
        """Give the normalised absorption at true energies (eV)."""
        step = sum((share * _erf_step(energy, centre, width) for centre, width, share in self.edges), np.zeros(energy.shape))
        k = np.sqrt(K_PER_EV * np.clip(energy - self.origin, 0.0, None))
        chi = sum((shell.chi(k) for shell in self.shells), np.zeros(energy.shape))
        return np.asarray(step * (1.0 + chi) + _gaussian(energy, *self.pre_edge) + _gaussian(energy, *self.white_line))


def _erf_step(energy: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.array([0.5 * (1.0 + math.erf((one - centre) / (width * math.sqrt(2.0)))) for one in energy])


def _gaussian(energy: np.ndarray, centre: float, width: float, area: float) -> np.ndarray:
    return np.asarray(area / (width * math.sqrt(2.0 * math.pi)) * np.exp(-0.5 * ((energy - centre) / width) ** 2))


DISCHARGED = Spectrum(8345.5, ((8345.5, 2.7, 1.0),), (8333.0, 1.1, 0.055), (8350.2, 2.9, 4.2), (_oxygen(1.97, 0.008), _metal(2.87, 0.006)))
CHARGED = Spectrum(8347.0, ((8347.0, 2.7, 1.0),), (8333.4, 1.1, 0.110), (8352.0, 3.1, 4.8), (_oxygen(1.88, 0.005), _metal(2.82, 0.006)))
FOIL = Spectrum(8333.0, ((8332.962, 1.4, 0.42), (8341.5, 3.4, 0.58)), (8330.0, 1.0, 0.0), (8350.0, 3.0, 1.6), (_metal(2.492, 0.006, 12.0),))


def energy_grid() -> np.ndarray:
    """Give the energies that every file lists (eV): 8250-8850, 0.25 eV over the edge, then even in k; as written, to 0.01 eV."""
    k = np.arange(math.sqrt(K_PER_EV * 37.0) + 0.055, math.sqrt(K_PER_EV * 507.0), 0.055)
    pieces = (np.arange(8250.0, 8320.0, 5.0), np.arange(8320.0, 8328.0, 1.0), np.arange(8328.0, 8360.0, 0.25), np.arange(8360.0, 8380.01, 0.5))
    return np.round(np.concatenate([*pieces, 8343.0 + k**2 / K_PER_EV]), 2)


def victoreen(energy: np.ndarray) -> np.ndarray:
    """Give Victoreen's C/E^3 - D/E^4, 1 at 8345 eV."""
    ratio = REFERENCE_ENERGY / energy
    return np.asarray(1.3 * ratio**3 - 0.3 * ratio**4)


def absorption(energy: np.ndarray, charged: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the noiseless absorption of the sample, at this fraction of charged Ni, and of the foil at true energies (eV)."""
    mixed = (1.0 - charged) * DISCHARGED.normalised(energy) + charged * CHARGED.normalised(energy)
    smooth = victoreen(energy)
    return smooth * (BACKGROUND + EDGE_STEP * mixed), smooth * (FOIL_BACKGROUND + FOIL_EDGE_STEP * FOIL.normalised(energy))


def half_step_energy(charged: np.ndarray) -> np.ndarray:
    """Give the true energy (eV) at which the noiseless normalised absorption first reaches 0.5, for fractions of charged Ni."""
    fine = np.arange(8336.0, 8352.0, 0.002)
    ends = DISCHARGED.normalised(fine), CHARGED.normalised(fine)
    out = []
    for f in np.atleast_1d(charged):
        n = (1.0 - f) * ends[0] + f * ends[1]
        k = int(np.argmax(n >= 0.5))
        out.append(fine[k - 1] + (fine[k] - fine[k - 1]) * (0.5 - n[k - 1]) / (n[k] - n[k - 1]))
    return np.array(out)


def drift_of(n: int, jump_at: int) -> np.ndarray:
    """Give the monochromator's error (eV, written minus true) for n spectra; the jump stands before spectrum `jump_at` (from 0)."""
    return np.linspace(0.0, DRIFT, n) + JUMP * (np.arange(n) >= jump_at)


def chambers(rng: np.random.Generator, written: np.ndarray, drift: float, charged: float, beam: float, longer: float = 1.0) -> np.ndarray:
    """Give what the three chambers count, integers (energy, 3), at energies as written, for a beam relative to the nominal one."""
    true = written - drift
    sample, foil = absorption(true, charged)
    spectrum = 1.0 - 1.5e-4 * (true - 8550.0)  # what the monochromator passes
    path = np.stack([np.zeros_like(true), sample, sample + foil], axis=1)
    expected = PHOTONS * beam * longer * spectrum[:, None] * np.array(TRANSMITTED) * np.exp(-path)
    signal = rng.poisson(expected) / longer * np.array(GAINS) + np.array(DARK) + DARK_NOISE * rng.standard_normal(path.shape)
    return np.asarray(np.maximum(np.round(signal), 1.0)).astype(int)


def _header(sample: str, start: np.datetime64, exposure: float) -> str:
    end = start + np.timedelta64(round(exposure * 1000), "ms")
    lines = {
        "Column.1": "energy eV",
        "Column.2": "i0 counts",
        "Column.3": "itrans counts",
        "Column.4": "irefer counts",
        "Element.symbol": "Ni",
        "Element.edge": "K",
        "Mono.name": "Si(111)",
        "Mono.d_spacing": "3.13555",
        "Facility.name": "simulated",
        "Beamline.name": "simulated quick-XAS",
        "Beamline.monitor": "counts of ionisation chambers, dark signal not subtracted",
        "Scan.start_time": str(start),
        "Scan.end_time": str(end),
        "Sample.name": sample,
        "Sample.reference": "Ni foil behind itrans",
    }
    written = "".join(f"# {name}: {value}\n" for name, value in lines.items())
    return f"# XDI/1.0\n{written}# ///\n# mu = ln(i0/itrans), reference: ln(itrans/irefer); mean of fast sweeps\n# ----\n# energy i0 itrans irefer\n"


def _file(sample: str, start: np.datetime64, exposure: float, written: np.ndarray, counts: np.ndarray) -> bytes:
    rows = "".join(f"{e:.2f} {a} {b} {c}\n" for e, (a, b, c) in zip(written, counts.tolist(), strict=True))
    return (_header(sample, start, exposure) + rows).encode("ascii")


def _spoil(content: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite the second half of a file's lines, as a failing disk does."""
    lines = content.splitlines(keepends=True)
    kept = b"".join(lines[: len(lines) // 2])
    return kept + rng.bytes(len(content) - len(kept))


def _cut(content: bytes) -> bytes:
    """Stop a file in the middle of a line, two thirds of the way."""
    end = content.index(b"\n", 2 * len(content) // 3)
    return content[: end - 9]


def _write_standards(campaign: Campaign, written: np.ndarray) -> dict[str, float]:
    """Write the two pure states, each measured 50 times longer, before the run and with a calibrated monochromator."""
    standards = {f"{campaign.cell}_standard_discharged.xdi": 0.0, f"{campaign.cell}_standard_charged.xdi": 1.0}
    starts = campaign.clock.wall(campaign.history.start, campaign.begin[0] - np.array([180.0, 120.0]) * campaign.exposure)
    for k, (name, charged) in enumerate(standards.items()):
        counts = chambers(campaign.rng, written, 0.0, charged, 1.0, 50.0)
        sample = f"standard, oxidation {OXIDATION[k]}"
        (campaign.folder / name).write_bytes(_file(sample, starts[k], 50.0 * campaign.exposure, written, counts))
    return standards


def write(campaign: Campaign) -> Told:
    """Write one XDI file per spectrum, `<cell>_Ni_0001.xdi` onwards, and two standards, `<cell>_standard_discharged.xdi` and `..._charged.xdi`.

    Options
    -------
    corrupt : int
        This spectrum's file (from 0; nothing happens if there are fewer) turns into binary garbage from its middle on.
    half_written : bool
        The last file stops in the middle of a line.
    jump_at : int
        The spectrum (from 0) before which the monochromator jumps by 0.3 eV; default 0.55 of them.
    standards : bool
        Write the standards; default True.
    """
    begin, options = np.asarray(campaign.begin, float), campaign.options
    n = begin.size
    jump_at = int(options.get("jump_at", round(0.55 * n)))
    written, drift = energy_grid(), drift_of(n, jump_at)
    oxidation = campaign.history.mean("nickel_oxidation", begin, campaign.exposure)
    charged = (oxidation - OXIDATION[0]) / (OXIDATION[1] - OXIDATION[0])
    beam = campaign.beam.intensity(begin, campaign.exposure)
    standards = _write_standards(campaign, written) if n and options.get("standards", True) else {}
    starts = campaign.clock.wall(campaign.history.start, begin)
    spoilt = {"corrupt": options.get("corrupt", n), "half_written": n - 1 if n and options.get("half_written") else n}
    names = [f"{campaign.cell}_Ni_{k + 1:04d}.xdi" for k in range(n)]
    for k, name in enumerate(names):
        counts = chambers(campaign.rng, written, drift[k], charged[k], beam[k])
        content = _file(f"cell {campaign.cell}", starts[k], campaign.exposure, written, counts)
        if k == spoilt["corrupt"]:
            content = _spoil(content, campaign.rng)
        if k == spoilt["half_written"]:
            content = _cut(content)
        (campaign.folder / name).write_bytes(content)
    whole = np.array([k for k in range(n) if k not in spoilt.values()], int)
    truth = {**_truth(oxidation, charged), "energy_shift": ("eV", 0.0 - drift), "beam_intensity": ("1", beam)}
    facts = _facts({"standards": standards, **{what: names[k] for what, k in spoilt.items() if k < n}})
    if jump_at < n:
        facts["first_after_jump"] = names[jump_at]
    observables = {name: {"unit": unit, "values": values[whole]} for name, (unit, values) in truth.items()}
    return Told([names[k] for k in whole], [0] * whole.size, begin[whole], campaign.exposure, observables, facts)


def _truth(oxidation: np.ndarray, charged: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Give unit and values of what a spectrum shows of the nickel."""
    ends = DISCHARGED.white_line[2], CHARGED.white_line[2]
    return {
        "nickel_oxidation": ("1", oxidation),
        "charged_fraction": ("1", charged),
        "edge_energy_half_step": ("eV", half_step_energy(charged)),
        "white_line_area": ("eV", (1.0 - charged) * ends[0] + charged * ends[1]),
    }


def _facts(files: dict[str, Any]) -> dict[str, Any]:
    """Give what is needed to interpret the observables."""
    return {
        "energies": "all energies here are true ones: true = written + energy_shift (added, not subtracted)",
        "edge_energy_half_step": "true energy at which the noiseless normalised absorption n = (1 - f) n_discharged + f n_charged first reaches 0.5",
        "charged_fraction": "f = (nickel_oxidation - 2.875) / 1.025; the spectrum is exactly linear in it",
        "white_line_area": "area of the Gaussian white line of n",
        "oxidation_of_states": list(OXIDATION),
        "half_step_of_states_eV": half_step_energy(np.array([0.0, 1.0])),
        "edge_step": EDGE_STEP,
        "edge_step_is": "factor of n in mu_sample = background + edge_step decline n, decline = 1.3 (8345/E)^3 - 0.3 (8345/E)^4",
        "background_at_8345_eV": BACKGROUND,
        "foil_edge_step": FOIL_EDGE_STEP,
        "foil_edge_eV": FOIL_EDGE,
        "discharged": asdict(DISCHARGED),
        "charged": asdict(CHARGED),
        "drift_eV": DRIFT,
        "jump_eV": JUMP,
        "dark_counts": list(DARK),
        "dark_noise_counts": DARK_NOISE,
        "counts_per_photon": list(GAINS),
        **files,
    }
