"""Radiographs of the edge of the negative electrode: it swells, while the whole picture drifts. A TIFF stack, as a camera's program writes it.

What is simulated
-----------------
In the frame of the sample, row y (px) grows from the current collector at `COLLECTOR` towards the separator. The electrode lies between the
collector and its edge,

    edge = COLLECTOR + thickness / pixel

with the thickness of `electrode_thickness` (um). Transmission rises at the edge as an error function of width `BLUR` and carries a texture:
particles of Gaussian shape, darker or brighter than the rest, that move in proportion to their depth as the electrode swells (affine), and
others in the collector that do not move. The whole picture is displaced by (drift_y, drift_x): a random walk and a slow thermal part.
All of it is rendered from formulas at the displaced pixel, so displacements are exact and no picture is ever interpolated.

A camera sees flat x transmission + dark, Poisson in photons, plus its read noise; the flat has vignetting and dust, which do not move with the
sample. The lamp is not the beam: a beam dump changes nothing here.

What is written
---------------
`<cell>_imaging_001.tif`, pages of uint16, deflate, resolution tags in pixels per centimetre and an ImageJ description with the pixel's size;
`<cell>_flat.tif` and `<cell>_dark.tif`, each the mean of many. TIFF holds no time per page: the program's log, `<cell>_imaging_log.csv`, has
frame, file, page, begin (the camera computer's wall clock, without a zone; in the example it is on UTC) and exposure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.simulate.instruments import Campaign, Told

PIXEL = 1.0  # um
COLLECTOR = 30.0  # px, row of the collector's surface
BLUR = 1.5  # px
PHOTONS, DARK, READ_NOISE = 9000.0, 110.0, 3.0  # per pixel at full transmission; counts; counts
GAIN = 1.0  # counts per photon
ELECTRODE, COLLECTOR_TRANSMISSION = 0.45, 0.20
PARTICLES, FIXED_PARTICLES = 90, 25
WALK, THERMAL = 0.12, 4.0  # px per frame; px


@dataclass(frozen=True)
class Scene:
    """The sample at its reference thickness (um): particles with depth (0 collector .. 1 edge) or row, column, radius (px) and contrast."""

    reference: float
    depth: np.ndarray
    column: np.ndarray
    radius: np.ndarray
    contrast: np.ndarray
    fixed_row: np.ndarray
    fixed_column: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, reference: float, width: int) -> Scene:
        """Scatter particles at random over a picture of this width (px), and a margin for its drift."""
        n, m = PARTICLES * width // 192 + 1, FIXED_PARTICLES * width // 192 + 1
        contrast = rng.choice([-1.0, 1.0], n) * rng.uniform(0.15, 0.35, n)
        sides = rng.uniform(-10, width + 10, n), rng.uniform(-10, width + 10, m)
        return cls(reference, rng.uniform(0.03, 0.95, n), sides[0], rng.uniform(1.6, 3.2, n), contrast, rng.uniform(-5, COLLECTOR - 4, m), sides[1])

    def transmission(self, shape: tuple[int, int], thickness: float, drift: tuple[float, float]) -> np.ndarray:
        """Give the noiseless transmission of a picture of this shape (px) at a thickness (um), displaced by drift (y, x; px)."""
        y = np.arange(shape[0])[:, None] - drift[0]
        x = np.arange(shape[1])[None, :] - drift[1]
        edge = edge_position(thickness)
        inside = _rise(y - COLLECTOR) * (1 - _rise(y - edge))
        picture = COLLECTOR_TRANSMISSION * (1 - _rise(y - COLLECTOR)) + ELECTRODE * inside + 1.0 * _rise(y - edge)
        texture = np.zeros(shape)
        for depth, column, radius, contrast in zip(self.depth, self.column, self.radius, self.contrast, strict=True):
            row = COLLECTOR + depth * (edge - COLLECTOR)
            texture += contrast * np.exp(-0.5 * ((y - row) / radius) ** 2) * np.exp(-0.5 * ((x - column) / radius) ** 2)
        picture = picture * (1 + texture * inside)
        for row, column in zip(self.fixed_row, self.fixed_column, strict=True):
            picture = picture * (1 - 0.3 * np.exp(-0.5 * ((y - row) / 2.5) ** 2) * np.exp(-0.5 * ((x - column) / 2.5) ** 2))
        return np.asarray(picture)


def edge_position(thickness: Any) -> np.ndarray:
    """Give the row (px) of the electrode's edge in the frame of the sample, at a thickness (um)."""
    return np.asarray(COLLECTOR + np.asarray(thickness, float) / PIXEL)


_erf = np.vectorize(math.erf, otypes=[float])


def _rise(distance: np.ndarray) -> np.ndarray:
    """Give a blurred step from 0 to 1 at distance 0 (px)."""
    return np.asarray(0.5 * (1 + _erf(distance / (BLUR * math.sqrt(2)))))


def flat_field(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Give the illumination, 1 in the middle: vignetting, and grains of dust that stay where they are."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    flat = 1 - 0.18 * y[:, None] ** 2 - 0.22 * x[None, :] ** 2
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    for _ in range(12):
        row, column, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(1.5, 4.0)
        flat = flat * (1 - 0.12 * np.exp(-0.5 * (((rows - row) ** 2 + (columns - column) ** 2) / radius**2)))
    return np.asarray(flat)


def write(campaign: Campaign) -> Told:
    """Write the stack, its flat and dark, and the log.

    Parameters
    ----------
    campaign
        Options: `height`, `width` (px; 128, 192) and `frames_per_file` (1000).

    Returns
    -------
    Told
        `edge_position` (px, in the frame of the sample), `displacement` (px, edge relative to the first frame), `thickness` (um), and `drift_y`,
        `drift_x` (px, relative to the frame of the sample; add them to a position in the sample to find it in the picture).
    """
    import tifffile

    rng, begin, cell = campaign.rng, campaign.begin, campaign.cell
    shape = (int(campaign.options.get("height", 128)), int(campaign.options.get("width", 192)))
    size = int(campaign.options.get("frames_per_file", 1000))
    thickness = campaign.history.mean("electrode_thickness", begin, campaign.exposure)
    scene = Scene.of(rng, float(thickness[0]), shape[1])
    flat = flat_field(rng, shape)
    drift_y, drift_x = _drift(rng, begin, phase=0.0), _drift(rng, begin, phase=1.9)
    tags: dict[str, Any] = {
        "resolution": (1e4 / PIXEL, 1e4 / PIXEL),
        "resolutionunit": "CENTIMETER",
        "compression": "zlib",
        "metadata": None,
        "software": "simulated",
    }
    tags["description"] = f"ImageJ=1.53t\nunit=um\nspacing={PIXEL}\n"
    for name, mean in (("flat", flat * PHOTONS * GAIN + DARK), ("dark", np.full(shape, DARK))):
        many = mean + np.sqrt(np.maximum(mean - DARK, 0) * GAIN + READ_NOISE**2) / 10 * rng.standard_normal(shape)  # the mean of a hundred
        with tifffile.TiffWriter(campaign.folder / f"{cell}_{name}.tif") as out:
            out.write(_counts(many), **tags)
    files, pages = [f"{cell}_imaging_{k // size + 1:03d}.tif" for k in range(begin.size)], [k % size for k in range(begin.size)]
    for first in range(0, begin.size, size):
        with tifffile.TiffWriter(campaign.folder / files[first]) as out:
            for k in range(first, min(first + size, begin.size)):
                photons = rng.poisson(PHOTONS * flat * scene.transmission(shape, float(thickness[k]), (drift_y[k], drift_x[k])))
                out.write(_counts(GAIN * photons + DARK + READ_NOISE * rng.standard_normal(shape)), contiguous=False, **tags)
    _write_log(campaign, files, pages)
    edge = edge_position(thickness)
    told = {
        "thickness": {"unit": "um", "values": thickness},
        "edge_position": {"unit": "px", "values": edge},
        "displacement": {"unit": "px", "values": edge - edge[:1]},
        "drift_y": {"unit": "px", "values": drift_y},
        "drift_x": {"unit": "px", "values": drift_x},
    }
    facts = {
        "pixel_um": PIXEL,
        "collector_row_px": COLLECTOR,
        "blur_px": BLUR,
        "gain_counts_per_photon": GAIN,
        "dark_counts": DARK,
        "read_noise_counts": READ_NOISE,
        "flat": f"{cell}_flat.tif",
        "dark": f"{cell}_dark.tif",
        "log": f"{cell}_imaging_log.csv",
        "edge_rule": "row of the edge (half of the step) in the picture = edge_position + drift_y; 0 is the centre of the first row",
        "drift_rule": "what lies at (y, x) in the sample is seen at (y + drift_y, x + drift_x)",
        "texture_rule": "a particle at depth d lies at row collector + d (edge - collector)",
    }
    return Told(files, pages, begin, campaign.exposure, told, facts)


def _drift(rng: np.random.Generator, begin: np.ndarray, phase: float) -> np.ndarray:
    """Give the displacement of the picture (px): a random walk, and the day's warming."""
    walk = np.cumsum(WALK * rng.standard_normal(begin.size))
    return np.asarray(walk - walk[:1].sum() + THERMAL * (np.sin(2 * np.pi * begin / 86_400.0 + phase) - math.sin(phase)) / 2)


def _counts(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 65_535).astype(np.uint16)


def _write_log(campaign: Campaign, files: list[str], pages: list[int]) -> None:
    stamps = np.atleast_1d(campaign.clock.wall(campaign.history.start, campaign.begin))
    with (campaign.folder / f"{campaign.cell}_imaging_log.csv").open("w", encoding="ascii", newline="\n") as out:
        out.write("frame,file,page,begin,exposure_ms\n")
        for k, (file, page, stamp) in enumerate(zip(files, pages, stamps, strict=True)):
            out.write(f"{k},{file},{page},{stamp},{campaign.exposure * 1e3:.0f}\n")
