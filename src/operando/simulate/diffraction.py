r"""X-ray diffraction in transmission through the whole cell at 25 keV, two positions in turn, frame by frame.

Frame i is taken at position i % 2 (motor `samy` 0.0 and 1.5 mm); the beam damages position 1: there a growing part of the oxide no longer
takes part (`damaged_fraction`). Pattern: `operando.simulate.powder`; geometry: `operando.simulate.area_detector`; files:
`operando.simulate.diffraction_files`.

A pixel counts Poisson(beam x exposure x brightness x I(2theta) x solid angle x polarisation + dark x exposure). The copper foil has few
grains: its rings vary with azimuth. One exposure is one mixture, the means over it; a frame in a dump of the beam is dark.
The Pilatus looks through the window of the cell's holder, whose edge shadows its upper rows (masked).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.simulate import powder
from operando.simulate import structures as st
from operando.simulate.area_detector import DEAD, DETECTORS, GAP, NOISY, POLARISATION, SHADOW, Detector, RadialBins, View, pixel_mask, poni_text
from operando.simulate.cell import LAGGING_X
from operando.simulate.diffraction_files import PER_FRAME, create_integrated, create_master
from operando.simulate.instruments import Campaign, Told
from operando.simulate.materials import oxide_lattice

POSITIONS = (0.0, 1.5)  # mm of samy
MONITOR_RATE, MONITOR_DARK = 1e6, 15.0  # counts/s of the monitor at nominal beam and without
RING_CURRENT = 200.0  # mA at nominal beam
LATENCY = (0.005, 0.030)  # s by which the stamp of a frame comes late, uniform
HOT_RATE = 40.0  # counts/s of a hot pixel


def write(campaign: Campaign) -> Told:
    """Write the frames, the patterns integrated by the beamline, `geometry.poni` and `mask.npy` (1 = not to be used).

    Parameters
    ----------
    campaign
        Options: `detector` (`pilatus100k` or `eiger4m`), `detector_rng` (chance of the detector's own dead and hot pixels; by default the
        campaign's), `frames_per_file` (24), `mean_counts` (per good pixel, of the first state at nominal beam, 2.5), `copper_ripple` (relative
        standard deviation of the Cu rings with azimuth, 0.05), `bins` (of q, 900) and `half_written`: the last file was never finished, its
        bytes stop at 60 %, in the frames as well as in the patterns.

    Returns
    -------
    Told
        Frames in the order of time; those of a file that was never finished are left out and named in the facts.
    """
    options = campaign.options
    detector = DETECTORS[options.get("detector", "pilatus100k")]
    truth = _Truth.of(campaign)
    instrument = _Instrument(campaign, detector, truth)
    (campaign.folder / "processed").mkdir(exist_ok=True)
    (campaign.folder / "geometry.poni").write_text(poni_text(detector, st.WAVELENGTH), encoding="ascii", newline="\n")
    np.save(campaign.folder / "mask.npy", (instrument.mask != 0).astype(np.uint8))
    size = int(options.get("frames_per_file", 24))
    groups = [np.arange(k, min(k + size, campaign.begin.size)) for k in range(0, campaign.begin.size, size)]
    names = [_write_scan(campaign, instrument, number, frames) for number, frames in enumerate(groups, 1)]
    spoilt: dict[str, Any] = {"half_written": None}
    if options.get("half_written", False):
        lost = groups.pop()
        for file in (names[-1], _processed(names[-1])):
            os.truncate(campaign.folder / file, int(0.6 * (campaign.folder / file).stat().st_size))
        spoilt = {"half_written": {"files": [names[-1], _processed(names[-1])], "begin_s": campaign.begin[lost]}}
    files = [names[k] for k, frames in enumerate(groups) for _ in frames]
    index = [n for frames in groups for n in range(frames.size)]
    told = slice(0, len(files))
    facts = _facts(campaign, instrument) | spoilt | {"processed": {name: _processed(name) for name in dict.fromkeys(files)}}
    return Told(files, index, campaign.begin[told], campaign.exposure, truth.observables(told), facts)


def _processed(name: str) -> str:
    return f"processed/{name.removesuffix('.h5')}_integrated.h5"


@dataclass(frozen=True)
class _Truth:
    """The state of the cell in every frame, means over the exposure."""

    states: dict[str, np.ndarray]
    position: np.ndarray
    lagging: np.ndarray
    masses: np.ndarray
    moles: np.ndarray
    strain: np.ndarray
    beam: np.ndarray

    @classmethod
    def of(cls, campaign: Campaign) -> _Truth:
        names = ("x_positive", "a_oxide", "c_oxide", "d_dilute", "stage_1", "stage_2", "dilute", "damaged_fraction", "current")
        states = {name: campaign.history.mean(name, campaign.begin, campaign.exposure) for name in names}
        position = np.arange(campaign.begin.size) % 2
        lagging = np.where(position == 1, states["damaged_fraction"], 0.0)
        stages = np.stack([states["stage_1"], states["stage_2"], states["dilute"]], 1)
        masses, moles = powder.amounts(states["x_positive"], lagging, stages)
        strain = powder.STRAIN_AT_REST + powder.STRAIN_PER_AMPERE * np.abs(states["current"])
        beam = campaign.beam.intensity(campaign.begin, campaign.exposure)
        return cls(states, position, lagging, masses, moles, strain, beam)

    def mixture(self, frame: int) -> powder.Mixture:
        s = self.states
        x, a, c, d = (float(s[name][frame]) for name in ("x_positive", "a_oxide", "c_oxide", "d_dilute"))
        return powder.Mixture(x, a, c, d, float(self.strain[frame]), self.masses[frame])

    def observables(self, told: slice) -> dict[str, dict[str, Any]]:
        labels = {"dim": "phase", "labels": list(powder.PHASES)}
        s = {name: values[told] for name, values in self.states.items()}
        masses, moles = self.masses[told], self.moles[told]
        return {
            "weight_fraction": {"unit": "1", "values": masses / masses.sum(1, keepdims=True), **labels},
            "mole_fraction": {"unit": "1", "values": moles / moles.sum(1, keepdims=True), **labels},
            "lattice_a": {"unit": "angstrom", "values": s["a_oxide"]},
            "lattice_c": {"unit": "angstrom", "values": s["c_oxide"]},
            "d003": {"unit": "angstrom", "values": s["c_oxide"] / 3},
            "layer_spacing": {"unit": "angstrom", "values": s["d_dilute"]},
            "x_positive": {"unit": "1", "values": s["x_positive"]},
            "strain": {"unit": "1", "values": self.strain[told]},
            "beam_intensity": {"unit": "1", "values": self.beam[told]},
            "position": {"unit": "1", "values": self.position[told]},
        }


class _Instrument:
    """The detector looking at the cell: what it expects to count, and what it counts."""

    def __init__(self, campaign: Campaign, detector: Detector, truth: _Truth) -> None:
        self.detector, self.truth, self.exposure = detector, truth, campaign.exposure
        self.rng = campaign.rng
        self.view = View(detector, st.WAVELENGTH)
        self.mask = pixel_mask(self.view, campaign.options.get("detector_rng", campaign.rng))
        self.bins = RadialBins(self.view, self.mask == 0, int(campaign.options.get("bins", 900)))
        self.powder = powder.Powder(float(np.degrees(self.view.two_theta.max())))
        place = np.maximum(np.degrees(self.view.two_theta) - self.powder.two_theta[0], 0.0) / powder.STEP
        self._below = place.astype(np.int32)
        self._ahead = (place - self._below).astype(np.float32)
        ripple = _ripple(self.view.chi, float(campaign.options.get("copper_ripple", 0.05)), campaign.rng)
        self._steady = self._on_pixels(self.powder.aluminium + self.powder.background) + self._on_pixels(self.powder.copper) * ripple
        self._open = (self.view.efficiency * (self.mask & SHADOW == 0)).astype(np.float32)
        first = (self._steady + self._on_pixels(self.powder.phases(truth.mixture(0)).sum(0))) * self._open
        self.brightness = float(campaign.options.get("mean_counts", 2.5)) / (float(first[self.mask == 0].mean()) * campaign.exposure)

    def _on_pixels(self, pattern: np.ndarray) -> np.ndarray:
        """Bring a pattern from the fine grid to the pixels' centres, linear."""
        fine = pattern.astype(np.float32)
        low = fine[self._below]
        return np.asarray(low + (fine[self._below + 1] - low) * self._ahead)

    def expected(self, frame: int) -> np.ndarray:
        """Give the counts expected in every pixel, (y, x)."""
        dark = self.detector.dark_rate * self.exposure
        light = float(self.truth.beam[frame]) * self.exposure * self.brightness
        if light == 0:
            return np.full(self.detector.shape, dark, np.float32)
        pattern = self.powder.phases(self.truth.mixture(frame)).sum(0)
        return np.asarray((self._on_pixels(pattern) + self._steady) * self._open * np.float32(light) + np.float32(dark))

    def count(self, frame: int) -> np.ndarray:
        """Expose once and give the image as the detector writes it."""
        counts = self.rng.poisson(self.expected(frame))
        hot = self.mask & NOISY != 0
        counts[hot] += self.rng.poisson(HOT_RATE * self.exposure, int(hot.sum()))
        image = np.minimum(counts, self.detector.saturation).astype(np.uint32)
        image[self.mask & (GAP | DEAD) != 0] = self.detector.empty
        return image


def _ripple(chi: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Give the relative strength of a ring of few grains with azimuth: 1 on average, standard deviation `amount`."""
    orders = np.arange(3, 27)
    phase = rng.uniform(0, 2 * np.pi, orders.size)
    fine = np.linspace(-np.pi, np.pi, 3601)
    wave = np.sqrt(2 / orders.size) * np.cos(orders[:, None] * fine + phase[:, None]).sum(0)
    return np.interp(chi, fine, np.maximum(1 + amount * wave, 0.0)).astype(np.float32)


def _stamps(campaign: Campaign, frames: np.ndarray) -> tuple[tuple[str, str], np.ndarray]:
    """Give start and end of a file as ISO text with the offset of the clock's zone, and the frames' stamps in s since that start.

    The file starts half a second before its first exposure; a frame's stamp is taken when it arrives, a few ms late.
    """
    clock, start = campaign.clock, campaign.history.start
    ends = np.array([campaign.begin[frames[0]] - 0.5, campaign.begin[frames[-1]] + campaign.exposure])
    utc, wall = clock.utc(start, ends), clock.wall(start, ends)
    texts = []
    for one, shown in zip(utc, wall, strict=True):
        minutes = int((shown - one) / np.timedelta64(1, "m"))
        texts.append(f"{shown}{'+' if minutes >= 0 else '-'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}")
    opened = (utc[0] - start.astype("datetime64[ms]")) / np.timedelta64(1, "ms") / 1000.0
    late = campaign.rng.uniform(*LATENCY, frames.size)
    return (texts[0], texts[1]), np.round(clock.stamp(campaign.begin[frames] + late) - opened, 4)


def _per_frame(campaign: Campaign, truth: _Truth, frames: np.ndarray) -> tuple[tuple[str, str], dict[str, np.ndarray]]:
    rng, beam, position = campaign.rng, truth.beam[frames], truth.position[frames]
    span, stamps = _stamps(campaign, frames)
    values = {
        "timestamp": stamps,
        "monitor": rng.poisson((MONITOR_RATE * beam + MONITOR_DARK) * campaign.exposure).astype(float),
        "ring_current": RING_CURRENT * beam + 0.02 * rng.standard_normal(frames.size),
        "samy": np.asarray(POSITIONS)[position] + 0.0005 * rng.standard_normal(frames.size),
        "position": position.astype(np.int32),
    }
    return span, {name: values[name] for name in PER_FRAME}


def _write_scan(campaign: Campaign, instrument: _Instrument, number: int, frames: np.ndarray) -> str:
    """Write one file of frames and its integrated patterns, and give its name."""
    name = f"{campaign.cell}_{number:04d}.h5"
    span, values = _per_frame(campaign, instrument.truth, frames)
    common: dict[str, Any] = {"span": span, "wavelength": st.WAVELENGTH, "cell": campaign.cell, "frames": values}
    common["title"] = f"{campaign.cell} scan {number}"
    poni, exposure = poni_text(instrument.detector, st.WAVELENGTH), campaign.exposure
    master = create_master(campaign.folder / name, instrument.detector, instrument.mask, exposure, **common)
    patterns = create_integrated(campaign.folder / _processed(name), instrument.bins, poni, exposure, source=name, **common)
    intensity = np.empty((2, frames.size, instrument.bins.q.size), np.float32)
    with master, patterns:
        for n, frame in enumerate(frames):
            image = instrument.count(int(frame))
            master["entry/data/data"][n] = image
            intensity[:, n] = instrument.bins.integrate(image)
        patterns["entry/data/I"][:], patterns["entry/data/I_errors"][:] = intensity
    return name


def _facts(campaign: Campaign, instrument: _Instrument) -> dict[str, Any]:
    detector = instrument.detector
    dead, hot = (np.argwhere(instrument.mask & bit != 0).tolist() for bit in (DEAD, NOISY))
    return {
        "detector": detector.name,
        "geometry": dict(zip(("dist_m", "poni1_m", "poni2_m", "rot1_rad", "rot2_rad", "rot3_rad"), detector.poni, strict=True)),
        "wavelength_angstrom": st.WAVELENGTH,
        "energy_keV": st.ENERGY,
        "polarisation_factor": POLARISATION,
        "positions_samy_mm": list(POSITIONS),
        "damaged_position": 1,
        "lagging_x": LAGGING_X,
        "brightness": instrument.brightness,
        "dark_rate_per_pixel_s": detector.dark_rate,
        "hot_rate_per_s": HOT_RATE,
        "dead_pixels": dead,
        "hot_pixels": hot,
        "monitor_rate_per_s": MONITOR_RATE,
        "stamp_latency_s": list(LATENCY),
        "copper_ripple": float(campaign.options.get("copper_ripple", 0.05)),
        "copper_ripple_rule": "relative standard deviation along the ring; over the part of it that is seen the Cu lines may be that much off",
        "beam_dumps_s": [list(d) for d in campaign.beam.dumps],
        "oxide_loading_mg_cm2": powder.OXIDE_LOADING,
        "carbon_loading_mg_cm2": powder.CARBON_LOADING,
        "foil_loading_mg_cm2": {"Al": powder.ALUMINIUM_LOADING, "Cu": powder.COPPER_LOADING},
        "foil_texture": {name: {"direction": list(axis), "march_r": r} for name, (axis, r) in powder.TEXTURE.items()},
        "caglioti_uvw_deg2": list(powder.CAGLIOTI),
        "crystallite_size_nm": powder.SIZES,
        "strain_at_rest": powder.STRAIN_AT_REST,
        "strain_per_A": powder.STRAIN_PER_AMPERE,
        "structures": structure_facts(),
        "fractions": "weight_fraction and mole_fraction are over the five phases of the active materials; the foils do not count. "
        "The Li of the dilute stages is in neither. mole_fraction counts formula units, see structures.",
    }


def structure_facts() -> dict[str, dict[str, Any]]:
    """Give what is needed to compute each phase; atoms are (element, x, y, z, occupancy, Uiso in angstrom^2)."""
    z = 0.2360  # only to list the oxide: x and z vary
    cells: dict[str, tuple[st.Structure, Any]] = {
        "NMC811": (st.oxide(0.0, z), "lattice_a, lattice_c"),
        "NMC811_lagging": (st.oxide(LAGGING_X, float(oxide_lattice(LAGGING_X)[2])), [float(v) for v in oxide_lattice(LAGGING_X)[:2]]),
        "LiC6": (st.LIC6, list(st.LIC6_CELL)),
        "LiC12": (st.LIC12, list(st.LIC12_CELL)),
        "graphite": (st.GRAPHITE, f"a = {st.GRAPHITE_A}, c = 2 layer_spacing"),
        "Al": (st.ALUMINIUM, list(st.ALUMINIUM_CELL)),
        "Cu": (st.COPPER, list(st.COPPER_CELL)),
    }
    return {
        name: {
            "formula_unit": s.formula,
            "formula_units_per_cell": s.formula_units,
            "mass_g_mol": s.mass if name != "NMC811" else f"{s.mass:.4f} + {st.ATOMIC_MASS['Li']} x_positive",
            "space_group": s.space_group,
            "cell_angstrom": cell,
            "atoms": [list(atom) for atom in s.atoms] if name != "NMC811" else "Li (x_positive) 000, metals 00(1/2), O 00z; as NMC811_lagging",
        }
        for name, (s, cell) in cells.items()
    }
