"""Total scattering of the simulated cell: X-rays on a nanocrystalline rock-salt phase that disorders, integrated to I(Q) in HDF5.

What is simulated
-----------------
A sphere of 3.0 nm cut from NiO's rock-salt lattice around a nickel atom. Its coherent scattering is the Debye equation (Debye, Ann. Phys. 351
(1915) 809) over every pair of atoms, in electron units per atom::

    I(Q) = 1/N [ sum_i f_i^2 + sum_(i != j) f_i f_j exp(-Q^2 sigma_ij^2 / 2) sin(Q r_ij) / (Q r_ij) ]

In this lattice r^2 = (a/2)^2 m with whole m, and like atoms are apart by even m: the pair counts per m are exact, not binned. Pairs are spread by::

    sigma^2(r) = 2 u_iso (1 - CORRELATION / r^2) + (strain r)^2

near neighbours move together (the delta2 of PDFgui: Farrow et al., J. Phys.: Condens. Matter 19 (2007) 335219), and static strain blurs
distances in proportion to their length. Where the form factors are divided out, r G(r) is a sum of Gaussians at r_ij of standard deviation
sigma_ij. With `disorder` from 0 to 1 u_iso grows 0.004 -> 0.020 angstrom^2, strain 0 -> 0.03, and the lattice parameter shrinks from 4.18
angstrom by 0.6 %: the numbers are ours.

Form factors: the nine-parameter fits for Ni2+ and O of International Tables for Crystallography C (1992), table 6.1.1.4, good to
Q = 25 1/angstrom; anomalous terms are left out. Compton scattering is the mean of Z - f^2 / Z, without recoil. Behind it all stands the same
cell without the particles: window, air, electrolyte (smooth curves of our own). All particles are alike and stand alone: the fringes of the
sphere's small-angle scattering are there below Q = 1.5.

What is written
---------------
`<cell>_total_0001.h5` after NXazint1d (NeXus application definition): `entry/data/I` (frames, Q) as float32 with `I_errors`, `radial_axis` Q, and
beside them what the definition lacks: `epoch` (s since 1970 by the beamline's clock, begin of the exposure) and `count_time`;
`entry/monitor/data` per frame, recorded and not applied. I is the mean over 1024 pixels of a bin: counts / 1024, the counts Poisson. Errors keep
eight bits of their mantissa. `<cell>_background_total.h5` is the cell before the particles were in, ten frames. In a beam dump the detector writes
its dark counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from operando.simulate.instruments import Campaign, Told

DIAMETER = 30.0  # angstrom, of the particle
LATTICE, SHRINKAGE = 4.18, 0.006
"""Lattice parameter (angstrom) without disorder, and the part of it that is lost at disorder 1."""
U_ISO = (0.004, 0.020)  # angstrom2, at disorder 0 and 1
STRAIN = 0.03  # rms, at disorder 1
CORRELATION = 2.0  # angstrom2
PIXELS = 1024
"""Pixels averaged into each bin; a power of two, so that counts / PIXELS is exact in float32."""
SCALE = 30.0  # counts per pixel and electron unit per atom at nominal beam
BACKGROUND_SCALE = 0.96
"""How much of the background measured alone stands behind the sample: the particles absorb a little."""
DARK = 0.002  # counts per pixel and frame
MONITOR, MONITOR_DARK = 250_000.0, 12.0  # counts per frame
WAVELENGTH = 0.1839  # angstrom, 67.4 keV
BATCH = 16  # frames held in memory and in one chunk

FORM_FACTORS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "Ni2+": ((11.4166, 7.40050, 5.34420, 0.977300), (3.67660, 0.244900, 8.87300, 22.1626), 0.861400),
    "O": ((3.04850, 2.28680, 1.54630, 0.867000), (13.2771, 5.70110, 0.323900, 32.9089), 0.250800),
}
"""a, b (angstrom2), c of f = sum a exp(-b (Q / 4 pi)^2) + c; International Tables C (1992), table 6.1.1.4."""


def form_factor(element: str, q: np.ndarray) -> np.ndarray:
    """Give the form factor (electrons) at Q (1/angstrom)."""
    a, b, c = FORM_FACTORS[element]
    return np.asarray(sum(ai * np.exp(-bi * (q / (4.0 * np.pi)) ** 2) for ai, bi in zip(a, b, strict=True)) + c)


def q_grid() -> np.ndarray:
    """Give Q (1/angstrom) of the bins' centres."""
    return np.linspace(0.6, 22.0, 1100)


class Particle:
    """A sphere of rock salt around a nickel atom.

    Parameters
    ----------
    diameter
        Angstrom; atoms with 2 r <= diameter in the undistorted lattice belong to it.

    Attributes
    ----------
    sites
        Positions in units of a/2, integers (atoms, 3).
    nickel
        Which of them are nickel (the coordinates' sum is even).
    squares
        The m = (2 r / a)^2 that occur between different atoms.
    pairs
        How many ordered pairs (i, j) stand at each m: Ni-Ni, O-O, and Ni-O both ways, (3, m).
    """

    def __init__(self, diameter: float = DIAMETER) -> None:
        reach = int(diameter / LATTICE) + 1
        axis = np.arange(-reach, reach + 1)
        cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        self.sites = cube[(cube**2).sum(1) * LATTICE**2 <= diameter**2]
        self.nickel = self.sites.sum(1) % 2 == 0
        counts = np.zeros((3, 12 * reach**2 + 1), np.int64)
        for site, nickel in zip(self.sites, self.nickel, strict=True):  # one atom after the other: memory stays small
            squares = ((self.sites - site) ** 2).sum(1)
            same = self.nickel == nickel
            counts[0 if nickel else 1] += np.bincount(squares[same], minlength=counts.shape[1])
            counts[2] += np.bincount(squares[~same], minlength=counts.shape[1])
        counts[:, 0] = 0  # an atom is no pair with itself
        self.squares = np.flatnonzero(counts.sum(0))
        self.pairs = counts[:, self.squares]

    def intensity(self, q: np.ndarray, disorder: float) -> np.ndarray:
        """Give the coherent scattering per atom (electron units) at Q (1/angstrom)."""
        nickel, oxygen = form_factor("Ni2+", q), form_factor("O", q)
        r = 0.5 * lattice_parameter(disorder) * np.sqrt(self.squares)
        kernel = np.exp(-0.5 * np.outer(pair_variance(r, disorder), q**2)) * np.sinc(np.outer(r, q) / np.pi)
        like, unlike, mixed = self.pairs @ kernel
        atoms = self.nickel.size
        alone = self.nickel.sum() * nickel**2 + (~self.nickel).sum() * oxygen**2
        return np.asarray((alone + like * nickel**2 + unlike * oxygen**2 + mixed * nickel * oxygen) / atoms)

    def compton(self, q: np.ndarray) -> np.ndarray:
        """Give the incoherent scattering per atom (electron units): Z - f^2 / Z with the electrons each species has, 26 and 8."""
        share = self.nickel.mean()
        return np.asarray(share * (26.0 - form_factor("Ni2+", q) ** 2 / 26.0) + (1.0 - share) * (8.0 - form_factor("O", q) ** 2 / 8.0))


def lattice_parameter(disorder: Any) -> np.ndarray:
    """Give the lattice parameter (angstrom)."""
    return np.asarray(LATTICE * (1.0 - SHRINKAGE * np.asarray(disorder, float)))


def u_iso(disorder: Any) -> np.ndarray:
    """Give the mean-square displacement of an atom along one axis (angstrom2)."""
    return np.asarray(U_ISO[0] + (U_ISO[1] - U_ISO[0]) * np.asarray(disorder, float))


def pair_variance(r: np.ndarray, disorder: Any) -> np.ndarray:
    """Give the variance (angstrom2) of distances r (angstrom)."""
    return np.asarray(2.0 * u_iso(disorder) * (1.0 - CORRELATION / r**2) + (STRAIN * np.asarray(disorder, float) * r) ** 2)


def coherence_length(disorder: np.ndarray) -> np.ndarray:
    """Give the distance r (angstrom) at which peaks of G(r) have 1/e of the height they had in a crystal without end or strain.

    That height falls by what the sphere cuts off, 1 - 3/2 x + x^3/2 with x = r / diameter, and by what strain adds to the width of far pairs,
    sqrt(2 u_iso) / sqrt(2 u_iso + (strain r)^2).
    """
    r = np.linspace(0.0, DIAMETER, 3001)
    shape = 1.0 - 1.5 * r / DIAMETER + 0.5 * (r / DIAMETER) ** 3
    out = []
    for one in np.atleast_1d(disorder):
        height = shape / np.sqrt(1.0 + (STRAIN * one * r) ** 2 / (2.0 * float(u_iso(one))))
        out.append(np.interp(-np.exp(-1.0), -height, r))
    return np.array(out)


def background(q: np.ndarray) -> np.ndarray:
    """Give what scatters without the particles (electron units per atom of the particles): window, air, electrolyte, their Compton scattering."""
    window = 90.0 * np.exp(-q / 1.1) + 22.0 * np.exp(-0.5 * ((q - 4.9) / 1.6) ** 2)
    electrolyte = 60.0 * np.exp(-0.5 * ((q - 1.48) / 0.24) ** 2) + 26.0 * np.exp(-0.5 * ((q - 2.95) / 0.55) ** 2)
    return np.asarray(8.0 + 14.0 * (1.0 - np.exp(-((q / 6.0) ** 2))) + window + electrolyte)


def _compact(errors: np.ndarray) -> np.ndarray:
    """Keep eight bits of the mantissa of float32 numbers, rounded."""
    bits = errors.astype(np.float32).view(np.uint32)
    return np.asarray(((bits + np.uint32(0x4000)) & np.uint32(0xFFFF8000)).view(np.float32))


def _tree(out: Any, title: str, cell: str, frames: int, q: np.ndarray, frame_exposure: float) -> None:
    """Lay out the groups of NXazint1d and the empty arrays."""
    entry = out.create_group("entry")
    out.attrs["default"], entry.attrs["default"] = "entry", "data"
    classes = {
        "entry": "NXentry",
        "entry/data": "NXdata",
        "entry/monitor": "NXmonitor",
        "entry/instrument": "NXinstrument",
        "entry/instrument/monochromator": "NXmonochromator",
        "entry/sample": "NXsample",
    }
    for path, name in classes.items():
        out.require_group(path).attrs["NX_class"] = name
    for path, text in {"definition": "NXazint1d", "title": title, "sample/name": cell, "instrument/name": "simulated total scattering"}.items():
        entry[path] = text
    for path, number, units in (("wavelength", WAVELENGTH, "angstrom"), ("energy", 12.398419843 / WAVELENGTH, "keV")):
        entry[f"instrument/monochromator/{path}"] = number
        entry[f"instrument/monochromator/{path}"].attrs["units"] = units
    data = entry["data"]
    data.attrs["signal"], data.attrs["axes"] = "I", [".", "radial_axis"]
    chunks = (min(BATCH, frames), q.size)
    for name, long_name in (("I", "counts per pixel"), ("I_errors", "standard deviation of I")):
        one = data.create_dataset(name, (frames, q.size), "f4", chunks=chunks, compression="gzip", compression_opts=4, shuffle=True)
        one.attrs["units"], one.attrs["long_name"] = "counts", long_name
    data["radial_axis"] = q
    data["radial_axis"].attrs.update({"units": "1/angstrom", "long_name": "q"})
    for path, dtype, units in (("data/epoch", "f8", "s"), ("data/count_time", "f8", "s"), ("monitor/data", "f8", "counts")):
        entry.create_dataset(path, (frames,), dtype).attrs["units"] = units
    data["epoch"].attrs["long_name"] = "begin of the exposure, seconds since 1970-01-01 UTC"
    data["count_time"][...] = frame_exposure


def _write_file(path: Path, campaign: Campaign, title: str, begin: np.ndarray, patterns: Iterator[np.ndarray], beam: np.ndarray) -> None:
    """Write one file: `patterns` gives for each frame what scatters at nominal beam (electron units per atom)."""
    import h5py

    q = q_grid()
    with h5py.File(path, "w") as out:
        _tree(out, title, campaign.cell, begin.size, q, campaign.exposure)
        data, monitor = out["entry/data"], out["entry/monitor/data"]
        data["epoch"][...] = campaign.clock.utc(campaign.history.start, begin).astype("datetime64[ms]").astype(np.int64) / 1000.0
        for first in range(0, begin.size, BATCH):
            some = slice(first, min(first + BATCH, begin.size))
            expected = np.stack([PIXELS * (SCALE * beam[k] * next(patterns) + DARK) for k in range(some.start, some.stop)])
            counts = campaign.rng.poisson(expected)
            data["I"][some] = counts / PIXELS
            data["I_errors"][some] = _compact(np.sqrt(np.maximum(counts, 1)) / PIXELS)
            monitor[some] = campaign.rng.poisson(MONITOR * beam[some] + MONITOR_DARK)


def write(campaign: Campaign) -> Told:
    """Write the frames, `<cell>_total_0001.h5` onwards, and the background measured alone, `<cell>_background_total.h5`.

    Options
    -------
    frames_per_file : int
        Frames of each file; default all in one.
    """
    particle, q = Particle(), q_grid()
    begin = np.asarray(campaign.begin, float)
    disorder = campaign.history.mean("disorder", begin, campaign.exposure)
    beam = campaign.beam.intensity(begin, campaign.exposure)
    behind = background(q)
    smooth = particle.compton(q) + BACKGROUND_SCALE * behind
    alone = f"{campaign.cell}_background_total.h5"
    if begin.size:
        before = begin[0] - 600.0 - campaign.exposure * np.arange(10, 0, -1)
        _write_file(campaign.folder / alone, campaign, f"cell {campaign.cell}, no particles", before, iter([behind] * 10), np.ones(10))
    each = int(campaign.options.get("frames_per_file", max(1, begin.size)))
    files: list[str] = []
    index: list[int] = []
    for number, first in enumerate(range(0, begin.size, each)):
        some = slice(first, min(first + each, begin.size))
        name = f"{campaign.cell}_total_{number + 1:04d}.h5"
        patterns = (particle.intensity(q, one) + smooth for one in disorder[some])
        _write_file(campaign.folder / name, campaign, f"cell {campaign.cell}, total scattering", begin[some], patterns, beam[some])
        files += [name] * (some.stop - some.start)
        index += range(some.stop - some.start)
    truth = {**_truth(disorder), "beam_intensity": ("1", beam)}
    observables = {name: {"unit": unit, "values": values} for name, (unit, values) in truth.items()}
    return Told(files, index, begin, campaign.exposure, observables, _facts(particle, alone))


def _truth(disorder: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Give unit and values of what a pattern shows of the particles."""
    lattice = lattice_parameter(disorder)
    return {
        "disorder": ("1", disorder),
        "lattice_parameter": ("angstrom", lattice),
        "first_shell_distance": ("angstrom", lattice / 2),
        "first_shell_sigma": ("angstrom", np.sqrt(pair_variance(lattice / 2, disorder))),
        "u_iso": ("angstrom^2", u_iso(disorder)),
        "strain": ("1", STRAIN * disorder),
        "coherence_length": ("angstrom", coherence_length(disorder)),
    }


def _facts(particle: Particle, alone: str) -> dict[str, Any]:
    """Give what is needed to interpret the observables."""
    first = {"m": 1, "nickel_oxygen_pairs": int(particle.pairs[2, 0] // 2)}
    return {
        "particle_diameter_angstrom": DIAMETER,
        "atoms": {"Ni": int(particle.nickel.sum()), "O": int((~particle.nickel).sum())},
        "first_shell": first,
        "first_shell_distance_rule": "distance of the pairs: the peak of r G(r); that of G(r) lies lower by about sigma2 / r",
        "sample": "the nanocrystals alone, as after subtracting everything else but a smooth background; they are not in the diffraction patterns",
        "sigma2": "2 u_iso (1 - correlation / r^2) + (strain r)^2; in r G(r) a pair is a Gaussian of this variance at r (form factors divided out)",
        "correlation_angstrom2": CORRELATION,
        "coherence_length": "r at which (1 - 3x/2 + x^3/2) sqrt(2 u_iso / (2 u_iso + (strain r)^2)) = 1/e, x = r / diameter",
        "averages": "the pattern of a frame is that of the mean disorder over its exposure",
        "intensity": "I = scale beam (coherent + compton + background_scale background) + dark, counts per pixel",
        "scale_counts_per_pixel_and_electron_unit": SCALE,
        "background_scale": BACKGROUND_SCALE,
        "background_file": alone,
        "background_begin": "ten frames that end 600 s before the first, at nominal beam",
        "dark_counts_per_pixel": DARK,
        "pixels_per_bin": PIXELS,
        "monitor_counts": MONITOR,
        "monitor_dark_counts": MONITOR_DARK,
        "wavelength_angstrom": WAVELENGTH,
        "composition": "NiO",
        "form_factors": {name: {"a": list(a), "b": list(b), "c": c} for name, (a, b, c) in FORM_FACTORS.items()},
    }
