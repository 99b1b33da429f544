"""Raman spectra of the simulated cell through a window: oxide, electrolyte and interphase under one laser spot, as a LabSpec time series.

What is simulated
-----------------
Counts of pixel k at Raman shift s are bias + gain_k Poisson(sum of bands + fluorescence) + read noise + cosmic rays. Every band is a Lorentzian
in s, `area 2/(pi w) / (1 + (2 (s - position)/w)^2)` with full width w, taken at the pixel's centre, so `area` is exact in counts/cm.

* Oxide: A1g near 595 and Eg near 475 1/cm. Positions and the ratio of areas are linear in the lithium content, the sum of areas falls with it; that
  they follow it: Flores et al., Chem. Mater. 32 (2020) 186. The coefficients are ours.
* Ring breathing of ethylene carbonate: 893 1/cm free, 904 coordinated to Li+ (Morita et al., J. Chem. Soc. Faraday Trans. 94 (1998) 3451).
  With c the coordinated fraction the areas are EC (1 - c) and EC `CROSS_SECTION` c: their weighted sum is the same at all times, an inner standard.
* PF6- at 741 1/cm, constant. There is no second solvent.
* Lithium carbonate at 1085 1/cm, in proportion to the carbonate in the interphase.
* Throughput (focus, laser) wanders by 2 % and multiplies bands and fluorescence alike. Fluorescence is a broad hump that bleaches and
  fluctuates from frame to frame. The detector has a fixed pattern; cosmic rays hit one or two pixels in some frames.
* The wavenumber axis is wrong by a constant; a silicon wafer (520.7 1/cm) measured before the run tells by how much.

What is written
---------------
HORIBA LabSpec 6 text, latin-1, as its exports of a time series read: `#label=<tab>value` lines, then a row of Raman shifts behind an empty
cell, then one row per spectrum that begins with the seconds since the first. One stamp only, `#Acquired`, day first, in the computer's wall clock
without a zone: the begin of the first exposure. A series that was stopped keeps the rows it was set up for, filled with zeros. The
silicon spectrum is a file of two columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.simulate.instruments import Campaign, Told, wander

PIXELS = 520
LASER, FIRST_WAVELENGTH, DISPERSION = 532.0, 542.1, 0.0525  # nm, nm, nm per pixel
CALIBRATION_OFFSET = 1.3  # 1/cm that the written axis shows too much
SILICON = 520.7  # 1/cm
BIAS, READ_NOISE = 250.0, 4.0  # counts
PATTERN = 0.003  # standard deviation of the pixels' gains
THROUGHPUT = 0.02  # standard deviation
EXPOSURE = 20.0  # s to which all counts below belong; they grow with the exposure
FLUORESCENCE, RESIDUAL, BLEACHING, FLUCTUATION = 2200.0, 1200.0, 25_000.0, 0.04  # counts, counts, s, relative
HUMP_CENTRE, HUMP_WIDTH = 1500.0, 800.0  # 1/cm
COSMIC_SHARE = 0.15

OXIDE_AREA, OXIDE_FADING = 3.2e5, 0.30  # counts/cm of A1g + Eg at delithiation 0, relative loss at 1
RATIO = (2.1, -1.1)
A1G, EG = (595.0, -14.0), (475.0, 9.0)
"""A1g/Eg ratio and positions (1/cm) at delithiation 0, and what is added at 1."""
EC_AREA, CROSS_SECTION = 5.5e4, 1.12  # counts/cm of free EC; Raman cross-section of coordinated relative to free
PF6_AREA, CARBONATE_AREA = 3.0e4, 2.1e4  # counts/cm; the latter at carbonate 1
WIDTHS = {"eg": 46.0, "a1g": 55.0, "pf6": 8.0, "ec_free": 7.0, "ec_coordinated": 8.0, "carbonate": 9.0}
"""Full widths at half maximum, 1/cm."""
FIXED = {"pf6": 741.0, "ec_free": 893.0, "ec_coordinated": 904.0, "carbonate": 1085.0}
"""Positions (1/cm) that do not move."""


@dataclass(frozen=True)
class Bands:
    """Areas (counts/cm) and true positions (1/cm) of all bands, each an array over frames."""

    area: dict[str, np.ndarray]
    position: dict[str, np.ndarray]

    def spectrum(self, shift: np.ndarray, frame: int) -> np.ndarray:
        """Give the counts of all bands of one frame at true Raman shifts (1/cm)."""
        return sum((lorentzian(shift, self.position[name][frame], WIDTHS[name], self.area[name][frame]) for name in WIDTHS), np.zeros(shift.shape))


def delithiation(x_positive: Any) -> np.ndarray:
    """Give 0 at Li content 0.94, 1 at 0.24."""
    return np.asarray((0.94 - np.asarray(x_positive, float)) / 0.70)


def bands(x_positive: Any, coordinated_fraction: Any, carbonate: Any, throughput: Any = 1.0) -> Bands:
    """Give the bands for states of the cell (module docstring)."""
    gone, throughput = delithiation(x_positive), np.broadcast_to(np.asarray(throughput, float), np.shape(x_positive))
    ratio = RATIO[0] + RATIO[1] * gone
    oxide = OXIDE_AREA * (1.0 - OXIDE_FADING * gone)
    area = {
        "eg": oxide / (1.0 + ratio),
        "a1g": oxide * ratio / (1.0 + ratio),
        "pf6": np.full(gone.shape, PF6_AREA),
        "ec_free": EC_AREA * (1.0 - np.asarray(coordinated_fraction)),
        "ec_coordinated": EC_AREA * CROSS_SECTION * np.asarray(coordinated_fraction),
        "carbonate": CARBONATE_AREA * np.asarray(carbonate),
    }
    position = {"eg": EG[0] + EG[1] * gone, "a1g": A1G[0] + A1G[1] * gone}
    position |= {name: np.full(gone.shape, value) for name, value in FIXED.items()}
    return Bands({name: values * throughput for name, values in area.items()}, position)


def lorentzian(shift: np.ndarray, position: float, width: float, area: float) -> np.ndarray:
    """Give a Lorentzian of this full width at half maximum and area at `shift` (all in 1/cm)."""
    return np.asarray(area * 2.0 / (math.pi * width) / (1.0 + (2.0 * (shift - position) / width) ** 2))


def shift_axis() -> np.ndarray:
    """Give the Raman shifts (1/cm) of the pixels as written: even in wavelength, so the step falls from 1.79 to 1.62 1/cm."""
    return np.asarray(1e7 / LASER - 1e7 / (FIRST_WAVELENGTH + DISPERSION * np.arange(PIXELS)))


def fluorescence(shift: np.ndarray, since: float) -> np.ndarray:
    """Give the mean fluorescence (counts) at true Raman shifts (1/cm), `since` s after the laser was opened."""
    amount = RESIDUAL + FLUORESCENCE * math.exp(-since / BLEACHING)
    return np.asarray(amount * np.exp(-0.5 * ((shift - HUMP_CENTRE) / HUMP_WIDTH) ** 2))


def write(campaign: Campaign) -> Told:
    """Write the time series `<cell>_raman.txt` and the wafer's spectrum `<cell>_silicon.txt`.

    Options: `unfilled` (rows of zeros behind the last spectrum, default 3), `silicon` (false leaves the wafer out).
    """
    begin, exposure, rng, history = campaign.begin, campaign.exposure, campaign.rng, campaign.history
    states = {name: history.mean(name, begin, exposure) for name in ("x_positive", "coordinated_fraction", "carbonate")}
    gains = 1.0 + PATTERN * rng.standard_normal(PIXELS)
    throughput = 1.0 + THROUGHPUT * wander(rng, begin.size, 0.9)
    simulated = bands(**states, throughput=throughput * exposure / EXPOSURE)
    if campaign.options.get("silicon", True):
        _write_silicon(campaign, gains)
    struck: list[dict[str, Any]] = []
    name = f"{campaign.cell}_raman.txt"
    with (campaign.folder / name).open("w", encoding="latin-1", newline="") as out:
        out.write(_header(campaign, float(begin[0]), exposure, f"{campaign.cell}_raman"))
        out.write("".join(f"\t{one:.6g}" for one in shift_axis()) + "\n")
        stamps = campaign.clock.stamp(begin)
        for time, counts in zip(stamps - stamps[0], _frames(campaign, simulated, throughput, gains, struck), strict=True):
            out.write(_row(time, counts))
        unfilled = int(campaign.options.get("unfilled", 3))
        every = float(np.median(np.diff(stamps))) if begin.size > 1 else exposure
        for k in range(unfilled):
            out.write(_row(stamps[-1] - stamps[0] + (k + 1) * every, np.zeros(PIXELS)))
    told = _observables(simulated, states["coordinated_fraction"], throughput)
    return Told([name] * begin.size, list(range(begin.size)), begin, np.full(begin.size, exposure), told, _facts(campaign, struck, unfilled))


def _frames(campaign: Campaign, simulated: Bands, throughput: np.ndarray, gains: np.ndarray, struck: list[dict[str, Any]]) -> Iterator[np.ndarray]:
    """Give the counts of one frame after the other, and note in `struck` where cosmic rays fell."""
    shift, rng = shift_axis() - CALIBRATION_OFFSET, campaign.rng
    for frame in range(campaign.begin.size):
        since = float(campaign.begin[frame] - campaign.begin[0])
        glow = throughput[frame] * campaign.exposure / EXPOSURE * max(0.0, 1.0 + FLUCTUATION * rng.standard_normal()) * fluorescence(shift, since)
        counts = _detect(rng, simulated.spectrum(shift, frame) + glow, gains)
        if rng.random() < COSMIC_SHARE:
            struck.append({"frame": frame, **_strike(rng, counts)})
        yield counts


def _detect(rng: np.random.Generator, mean: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.asarray(BIAS + gains * rng.poisson(mean) + READ_NOISE * rng.standard_normal(mean.size))


def _strike(rng: np.random.Generator, counts: np.ndarray) -> dict[str, Any]:
    """Add one cosmic ray to the counts, in place: 800-15 000 counts in one pixel, or shared with the next."""
    pixel, amount = int(rng.integers(0, counts.size - 1)), float(800.0 * (15_000.0 / 800.0) ** rng.random())
    shares = [amount] if rng.random() < 0.5 else [0.6 * amount, 0.4 * amount]
    counts[pixel : pixel + len(shares)] += shares
    return {"pixels": list(range(pixel, pixel + len(shares))), "counts": shares}


def _write_silicon(campaign: Campaign, gains: np.ndarray) -> None:
    """Write a wafer's spectrum, 2 s long, ten minutes before the first frame."""
    axis = shift_axis()
    counts = _detect(campaign.rng, 40.0 + lorentzian(axis - CALIBRATION_OFFSET, SILICON, 4.5, 1.4e5), gains)
    with (campaign.folder / f"{campaign.cell}_silicon.txt").open("w", encoding="latin-1", newline="") as out:
        out.write(_header(campaign, float(campaign.begin[0]) - 600.0, 2.0, "silicon"))
        out.writelines(f"{shift:.6g}\t{_whole(one)}\n" for shift, one in zip(axis, counts, strict=True))


def _row(time: float, counts: np.ndarray) -> str:
    return f"{time:.6g}\t" + "\t".join(map(_whole, counts)) + "\n"


def _whole(counts: float) -> str:
    return str(min(max(round(float(counts)), 0), 65_535))


def _header(campaign: Campaign, begin: float, exposure: float, title: str) -> str:
    """Give the header of LabSpec 6; the labels and their order are those of its exports."""
    year, month, rest = str(campaign.clock.wall(campaign.history.start, begin)).split("-")  # 2026 06 03T10:04:00.123
    day, clock = rest[:2], rest[3:11]
    fields: list[tuple[str, Any]] = [
        ("Acq. time (s)", f"{exposure:g}"),
        ("Accumulations", 1),
        ("Range", "Off"),
        ("Autofocus", "Off"),
        ("SWIFT", "Off"),
        ("AutoExposure", "Off"),
        ("Spike filter", "Off"),
        ("Delay time (s)", 0),
        ("Binning", 1),
        ("Readout mode", "Signal"),
        ("DeNoise", "Off"),
        ("ICS correction", "Off"),
        ("Dark correction", "Off"),
        ("Inst. Process", "Off"),
        ("Detector temperature (°C)", -60.1),
        ("Instrument", "simulated"),
        ("Detector", "simulated CCD"),
        ("Objective", "x50_VISwld"),
        ("Grating", "600 (500nm)"),
        ("ND Filter", "10%"),
        ("Laser", "532nm_Edge"),
        ("Spectro (cm-¹)", f"{shift_axis()[PIXELS // 2]:.6g}"),
        ("Hole", 200),
        ("Range", "Visible"),
        ("Collection", "Microscope"),
        ("StageXY", "Manual Stage"),
        ("StageZ", "Z motor"),
        ("X (µm)", 0),
        ("Y (µm)", 0),
        ("Z (µm)", -16.3),
        ("Project", ""),
        ("Sample", campaign.cell),
        ("Site", ""),
        ("Title", title),
        ("Remark", ""),
        ("Date", f"{day}.{month}.{year} {clock[:5]}"),
        ("Acquired", f"{day}.{month}.{year} {clock}"),
    ]
    return "".join(f"#{label}=\t{value}\n" for label, value in fields)


def _observables(simulated: Bands, coordinated: np.ndarray, throughput: np.ndarray) -> dict[str, dict[str, Any]]:
    out = {f"area_{name}": {"unit": "counts/cm", "values": values} for name, values in simulated.area.items()}
    out |= {f"position_{name}": {"unit": "1/cm", "values": values} for name, values in simulated.position.items()}
    out["a1g_eg_ratio"] = {"unit": "1", "values": simulated.area["a1g"] / simulated.area["eg"]}
    out["coordinated_fraction"] = {"unit": "1", "values": coordinated}
    out["throughput"] = {"unit": "1", "values": throughput}
    return out


def _facts(campaign: Campaign, struck: list[dict[str, Any]], unfilled: int) -> dict[str, Any]:
    facts = {
        "shape": "Lorentzian",
        "fwhm_per_cm": WIDTHS,
        "wavenumber_offset_per_cm": CALIBRATION_OFFSET,
        "wavenumber_offset_rule": "true = written - offset; positions told here are true",
        "coordinated_relative_cross_section": CROSS_SECTION,
        "coordinated_fraction_rule": "(area_ec_coordinated / k) / (area_ec_coordinated / k + area_ec_free), k the relative cross-section",
        "ec_area_counts_per_cm": EC_AREA * campaign.exposure / EXPOSURE,
        "carbonate_area_per_unit_counts_per_cm": CARBONATE_AREA * campaign.exposure / EXPOSURE,
        "carbonate_rule": "carbonate = area_carbonate / throughput / area per unit",
        "bias_counts": BIAS,
        "read_noise_counts": READ_NOISE,
        "pixel_gain_deviation": PATTERN,
        "cosmic_rays": struck,
        "unfilled_rows": unfilled,
        "stamp": "begin of the first exposure, cut to a whole second; later rows by the first column, six digits",
    }
    if campaign.options.get("silicon", True):
        facts["silicon"] = {"file": f"{campaign.cell}_silicon.txt", "true_position_per_cm": SILICON}
    return facts
