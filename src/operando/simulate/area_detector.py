r"""Area detectors and where their pixels look: the PONI geometry of pyFAI (Kieffer et al., J. Appl. Cryst. 53 (2020) 558), computed here on its own.

A pixel (i along y, j along x) has its centre at p = ((i + 1/2) s - poni1, (j + 1/2) s - poni2, dist) in the frame of the detector;
t = R3 R2 R1 p is the direction from the sample, with the beam along the third axis. tan(2theta) = |(t1, t2)| / t3; chi = atan2(t1, t2) from the
horizontal. A pixel's solid angle, in units of that of a pixel at the point of normal incidence, is (dist / |p|)^3. Polarisation, with a
factor f that is 1 for horizontal: P = 1/2 (1 + cos^2(2theta) - f cos(2 chi) (1 - cos^2(2theta))).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

POLARISATION = 0.99
GAP, DEAD, NOISY, SHADOW = 1, 2, 16, 256
"""Bits of the NeXus pixel_mask; SHADOW is the one for what a user masks."""


@dataclass(frozen=True)
class Detector:
    """A pixel detector in its place.

    Attributes
    ----------
    name
        Class of pyFAI.
    description
        Words for the file.
    shape
        Pixels (y, x).
    pixel
        Size, m.
    poni
        dist, poni1, poni2 (m), rot1, rot2, rot3 (rad).
    gaps
        (first row, last row + 1, first column, last column + 1) of each strip without sensor.
    shadow
        Rows above (intercept + slope * column) lie in the shadow of the cell's window; None: no shadow.
    beamstop
        2theta (degrees) up to which the beamstop hides everything.
    dead, hot
        How many pixels.
    empty
        What a gap or a dead pixel reads.
    saturation
        Largest count.
    dark_rate
        Counts per pixel and second without beam.
    """

    name: str
    description: str
    shape: tuple[int, int]
    pixel: float
    poni: tuple[float, float, float, float, float, float]
    gaps: tuple[tuple[int, int, int, int], ...] = ()
    shadow: tuple[float, float] | None = None
    beamstop: float = 0.0
    dead: int = 6
    hot: int = 5
    empty: int = 0
    saturation: int = 2**20 - 1
    dark_rate: float = 2e-5
    sensor: float = field(default=450e-6)  # m of silicon


PILATUS_100K = Detector(
    "Pilatus100k",
    "Pilatus 100K (simulated)",
    (195, 487),
    172e-6,
    (0.213, 0.0045, -0.0102, 0.0041, -0.0027, 0.0012),
    shadow=(70.0, 0.01),
)
_EIGER_GAPS = tuple((r, r + 37, 0, 2070) for r in (514, 1065, 1616)) + ((0, 2167, 1030, 1040),)
EIGER_4M = Detector(
    "Eiger4M",
    "Eiger 4M (simulated)",
    (2167, 2070),
    75e-6,
    (0.300, 0.0205, 0.0183, 0.0041, -0.0027, 0.0012),
    gaps=_EIGER_GAPS,
    beamstop=1.3,
    dead=60,
    hot=40,
    empty=2**32 - 1,
    saturation=2**32 - 2,
)
DETECTORS = {"pilatus100k": PILATUS_100K, "eiger4m": EIGER_4M}


def rotation(rot1: float, rot2: float, rot3: float) -> np.ndarray:
    """Give the matrix R3 R2 R1; the first two turn left-handed, the third right-handed, as pyFAI defines them."""
    (c1, c2, c3), (s1, s2, s3) = np.cos([rot1, rot2, rot3]), np.sin([rot1, rot2, rot3])
    first = np.array([[1, 0, 0], [0, c1, s1], [0, -s1, c1]])
    second = np.array([[c2, 0, -s2], [0, 1, 0], [s2, 0, c2]])
    third = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return np.asarray(third @ second @ first)


@dataclass(frozen=True)
class View:
    """What every pixel of a detector sees, all (y, x)."""

    detector: Detector
    wavelength: float  # angstrom

    @cached_property
    def _directions(self) -> np.ndarray:
        """(axis, y, x) in m."""
        dist, poni1, poni2, *turns = self.detector.poni
        ny, nx = self.detector.shape
        y = (np.arange(ny) + 0.5) * self.detector.pixel - poni1
        x = (np.arange(nx) + 0.5) * self.detector.pixel - poni2
        r = rotation(*turns)
        return r[:, 0, None, None] * y[:, None] + r[:, 1, None, None] * x + r[:, 2, None, None] * dist

    @cached_property
    def two_theta(self) -> np.ndarray:
        """Scattering angle, rad."""
        t = self._directions
        return np.asarray(np.arctan2(np.hypot(t[0], t[1]), t[2]))

    @cached_property
    def chi(self) -> np.ndarray:
        """Azimuth from the horizontal, rad."""
        return np.asarray(np.arctan2(self._directions[0], self._directions[1]))

    @cached_property
    def efficiency(self) -> np.ndarray:
        """Relative solid angle times polarisation."""
        cos2 = np.cos(self.two_theta) ** 2
        polarisation = 0.5 * (1 + cos2 - POLARISATION * np.cos(2 * self.chi) * (1 - cos2))
        return np.asarray((self.detector.poni[0] / np.linalg.norm(self._directions, axis=0)) ** 3 * polarisation)

    @cached_property
    def q(self) -> np.ndarray:
        """Scattering vector, 1/angstrom."""
        return np.asarray(4 * np.pi / self.wavelength * np.sin(self.two_theta / 2))


def pixel_mask(view: View, rng: np.random.Generator) -> np.ndarray:
    """Give the NeXus pixel_mask (uint32, 0 = good): gaps, and dead, hot and shadowed pixels."""
    detector = view.detector
    mask = np.zeros(detector.shape, np.uint32)
    mask[view.two_theta < np.radians(detector.beamstop)] |= SHADOW
    for top, bottom, left, right in detector.gaps:
        mask[top:bottom, left:right] |= GAP
    if detector.shadow is not None:
        rows, columns = np.indices(detector.shape, sparse=True)
        mask[rows >= detector.shadow[0] + detector.shadow[1] * columns] |= SHADOW
    flat = mask.reshape(-1)
    some = rng.choice(np.flatnonzero(flat == 0), detector.dead + detector.hot, replace=False)
    flat[some[: detector.dead]] |= DEAD
    flat[some[detector.dead :]] |= NOISY
    return mask


def poni_text(detector: Detector, wavelength: float) -> str:
    """Write the geometry as a .poni file (wavelength in angstrom)."""
    names = ("Distance", "Poni1", "Poni2", "Rot1", "Rot2", "Rot3")
    config = {"pixel1": detector.pixel, "pixel2": detector.pixel, "max_shape": list(detector.shape), "orientation": 3}
    lines = ["# Nota: C-Order, 1 refers to the Y axis, 2 to the X axis", "# Geometry of the simulated instrument", "poni_version: 2.1"]
    lines += ["Detector: Detector", f"Detector_config: {json.dumps(config)}"]
    lines += [f"{name}: {value!r}" for name, value in zip(names, detector.poni, strict=True)]
    return "\n".join([*lines, f"Wavelength: {wavelength * 1e-10!r}", ""])


class RadialBins:
    """The beamline's own azimuthal integration: every pixel goes whole into the bin of its centre.

    Parameters
    ----------
    view
        The detector's pixels.
    good
        Pixels to use, (y, x).
    bins
        How many; bins at either end with fewer than 10 pixels are cut off.
    """

    def __init__(self, view: View, good: np.ndarray, bins: int = 900) -> None:
        q = view.q[good]
        edges = np.linspace(q.min(), q.max(), bins + 1)
        full = np.flatnonzero(np.histogram(q, edges)[0] >= 10)
        self.edges = np.linspace(edges[full[0]], edges[full[-1] + 1], bins + 1)
        self.q = 0.5 * (self.edges[1:] + self.edges[:-1])
        place = np.floor((q - self.edges[0]) / (self.edges[1] - self.edges[0])).astype(np.int64)
        inside = (place >= 0) & (place < bins)
        self.pixels = np.flatnonzero(good)[inside]
        self.place = place[inside].astype(np.int32)
        self.norm = np.bincount(self.place, view.efficiency.reshape(-1)[self.pixels], bins)

    def integrate(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give sum(counts) / sum(solid angle x polarisation) and sqrt(sum(counts)) / the same; NaN where no pixel lies."""
        total = np.bincount(self.place, counts.reshape(-1)[self.pixels], self.norm.size)
        norm = np.where(self.norm > 0, self.norm, np.nan)
        return total / norm, np.sqrt(total) / norm
