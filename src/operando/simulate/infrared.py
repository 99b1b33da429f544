"""Infrared single beams of the simulated cell in attenuated total reflection, one JCAMP-DX file each, and the single beam of the bare crystal.

What is simulated
-----------------
A single beam is `source(v) drift(v, t) 10^(-A(v, t) - water(t) lines(v))` plus white noise, which is how the thermal noise of a detector arrives in a
Fourier-transform spectrum: the same at all wavenumbers, whatever the light. The reference is the bare crystal before the cell was filled, at
nominal source and with the spectrometer's mean vapour, so

    -log10(single / reference) = A(v, t) + water(t) lines(v) - log10(drift(v, t)) + noise

A is a sum of bands that are linear in the states of the cell; Gaussians for the solid, Lorentzians for the liquid, each with an exact area in
absorbance/cm. They are as a crystal shows them: depth of penetration and optics are in the coefficients, no correction is due.

* Lithium carbonate: 1450, 1495 and 868 1/cm (nu3 and nu2; Brooker & Bates, J. Chem. Phys. 54 (1971) 4788), in proportion to the carbonate in
  the interphase.
* Carbonyl of ethylene carbonate: 1805 and 1775 1/cm free (a Fermi doublet; Fortunato et al., Spectrochim. Acta A 27 (1971) 1917), 1769
  coordinated to Li+ (Seo et al., J. Phys. Chem. C 119 (2015) 14038). With c the coordinated fraction the areas are EC (1 - c) and EC `STRENGTH` c.
* PF6- at 840, and C-O of ethylene carbonate at 1160 and 1075 1/cm, constant. Its weak CH2 bands, which lie over those of the carbonate, are
  left out: the carbonate's window holds the carbonate alone, and vapour.
* The source fades and cools, a smooth change of intensity and tilt; water vapour comes and goes with the purge, against the reference.

What is written
---------------
JCAMP-DX 5.01 (Lampen et al., Pure Appl. Chem. 71 (1999) 1549) of an infrared spectrum (4.24: McDonald & Wilks, Appl. Spectrosc. 42 (1988) 151):
falling wavenumbers, `XYDATA=(X++(Y..Y))` in AFFN, whole numbers times YFACTOR, at most 80 characters a line. `LONGDATE` is the begin of
the scans, whole seconds of the computer's wall clock without a zone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.simulate.instruments import Campaign, Told, wander

FIRST, LAST, STEP, RESOLUTION = 2200.0, 700.0, -2.0, 4.0  # 1/cm
Y_FACTOR = 1e-6
NOISE = 6e-5
"""Standard deviation of a single beam scanned for 40 s, whose maximum is about 0.9; 1e-4 of absorbance or less where there is light."""
REFERENCE_NOISE = 2e-5  # the reference was scanned nine times as long
FADING, TILT, PURGE = 0.02, 0.004, 1.2e-3
"""Loss of intensity by the end, standard deviation of the tilt (relative, over 750 1/cm), and of the vapour (absorbance of its strongest line)."""
STRENGTH = 1.15  # integrated absorption coefficient of coordinated EC's carbonyl relative to free
EC_AREA = 3.6  # absorbance/cm of the carbonyl, were all EC free
CARBONATE_AREA = {1450.0: 0.85, 1495.0: 0.70, 868.0: 0.20}  # absorbance/cm at carbonate 1


@dataclass(frozen=True)
class Band:
    """A band of this position and full width at half maximum (1/cm), and of what it tells: its area is that share of the group's."""

    group: str
    position: float
    width: float
    share: float
    gaussian: bool = False

    def shape(self, wavenumber: np.ndarray) -> np.ndarray:
        """Give the band with area `share` (per 1/cm) at wavenumbers (1/cm)."""
        reduced = 2.0 * (wavenumber - self.position) / self.width
        if self.gaussian:
            return np.asarray(self.share * 2.0 / self.width * math.sqrt(math.log(2.0) / math.pi) * np.exp(-math.log(2.0) * reduced**2))
        return np.asarray(self.share * 2.0 / (math.pi * self.width) / (1.0 + reduced**2))


_TOTAL = sum(CARBONATE_AREA.values())
BANDS = (
    Band("carbonate", 1450.0, 42.0, CARBONATE_AREA[1450.0] / _TOTAL, gaussian=True),
    Band("carbonate", 1495.0, 38.0, CARBONATE_AREA[1495.0] / _TOTAL, gaussian=True),
    Band("carbonate", 868.0, 10.0, CARBONATE_AREA[868.0] / _TOTAL, gaussian=True),
    Band("ec_free", 1805.0, 20.0, 0.72),
    Band("ec_free", 1775.0, 18.0, 0.28),
    Band("ec_coordinated", 1769.0, 22.0, 1.0),
    Band("pf6", 840.0, 24.0, 1.0),
    Band("ec_c_o", 1160.0, 26.0, 0.6),
    Band("ec_c_o", 1075.0, 20.0, 0.4),
)
CONSTANT = {"pf6": 2.9, "ec_c_o": 4.0}
"""Areas (absorbance/cm) that do not change."""

WATER = {1419: 0.3, 1436: 0.4, 1457: 0.7, 1473: 0.5, 1490: 0.5, 1507: 0.8, 1521: 0.5, 1540: 0.8, 1559: 1.0, 1576: 0.6, 1617: 0.5, 1635: 0.6}
WATER |= {1647: 0.6, 1653: 0.9, 1684: 0.8, 1696: 0.7, 1717: 0.6, 1734: 0.6, 1772: 0.4, 1792: 0.3, 1830: 0.3, 1844: 0.3, 1869: 0.3}
"""Lines of the bending vibration of water vapour (1/cm, to 1 1/cm) and their strength, as wide as the resolution."""


def wavenumber_axis() -> np.ndarray:
    """Give the wavenumbers (1/cm) of a file, falling."""
    return np.arange(FIRST, LAST + STEP / 2, STEP)


def areas(coordinated_fraction: Any, carbonate: Any) -> dict[str, np.ndarray]:
    """Give the areas (absorbance/cm) of all groups of bands for states of the cell."""
    c, carbonate = np.asarray(coordinated_fraction, float), np.asarray(carbonate, float)
    constant = {name: np.full(c.shape, value) for name, value in CONSTANT.items()}
    return {"carbonate": _TOTAL * carbonate, "ec_free": EC_AREA * (1.0 - c), "ec_coordinated": EC_AREA * STRENGTH * c, **constant}


def absorbance(wavenumber: np.ndarray, group_areas: dict[str, Any]) -> np.ndarray:
    """Give the noiseless absorbance of the cell at wavenumbers (1/cm)."""
    return sum((float(group_areas[band.group]) * band.shape(wavenumber) for band in BANDS), np.zeros(wavenumber.shape))


def vapour(wavenumber: np.ndarray) -> np.ndarray:
    """Give the absorbance of water vapour, its strongest line about 1."""
    lines = (height * np.exp(-4.0 * math.log(2.0) * ((wavenumber - line) / RESOLUTION) ** 2) for line, height in WATER.items())
    return sum(lines, np.zeros(wavenumber.shape))


def source(wavenumber: np.ndarray) -> np.ndarray:
    """Give the bare crystal's nominal single beam (arbitrary units): a globar, a cut-off of the detector below 750 1/cm, diamond above 1800."""
    globar = np.exp(-0.5 * ((wavenumber - 1250.0) / 600.0) ** 2)
    cut_off = 1.0 / (1.0 + np.exp(-(wavenumber - 735.0) / 22.0))
    diamond = 0.30 * np.exp(-0.5 * ((wavenumber - 2030.0) / 70.0) ** 2) + 0.22 * np.exp(-0.5 * ((wavenumber - 2160.0) / 45.0) ** 2)
    return np.asarray(0.9 * globar * cut_off * (1.0 - diamond))


def write(campaign: Campaign) -> Told:
    """Write the reference `<cell>_ir_reference.jdx` and one single beam per exposure, `<cell>_ir_0000.jdx` and so on.

    Options: `reference_at`, the true time (s) of the reference (default: 900 s before the cell's start).
    """
    begin, exposure, rng, history = campaign.begin, campaign.exposure, campaign.rng, campaign.history
    states = {name: history.mean(name, begin, exposure) for name in ("coordinated_fraction", "carbonate")}
    group_areas = areas(**states)
    axis = wavenumber_axis()
    light, lines = source(axis), vapour(axis)
    noise = NOISE * math.sqrt(40.0 / exposure)  # white noise averages over the scans
    reference_at = float(campaign.options.get("reference_at", -900.0))
    reference = f"{campaign.cell}_ir_reference.jdx"
    _write_file(
        campaign, reference, f"{campaign.cell} reference, bare crystal", reference_at, light + REFERENCE_NOISE * rng.standard_normal(axis.size)
    )
    intensity = 1.0 - FADING * np.clip(begin / history.time[-1], 0.0, 1.0)
    tilt, water = TILT * wander(rng, begin.size, 0.9), PURGE * wander(rng, begin.size, 0.6)
    files = [f"{campaign.cell}_ir_{frame:04d}.jdx" for frame in range(begin.size)]
    for frame, name in enumerate(files):
        a = absorbance(axis, {group: values[frame] for group, values in group_areas.items()}) + water[frame] * lines
        drift = intensity[frame] * (1.0 + tilt[frame] * (axis - 1450.0) / 750.0)
        single = light * drift * 10.0**-a + noise * rng.standard_normal(axis.size)
        _write_file(campaign, name, f"{campaign.cell} single beam {frame}", float(begin[frame]), single)
    told = {f"band_area_{group}": {"unit": "1/cm", "values": values} for group, values in group_areas.items()}
    told |= {
        "coordinated_fraction": {"unit": "1", "values": states["coordinated_fraction"]},
        "source_intensity": {"unit": "1", "values": intensity},
        "source_tilt": {"unit": "1", "values": tilt},
        "water_vapour": {"unit": "1", "values": water},
    }
    return Told(files, [0] * begin.size, begin, np.full(begin.size, exposure), told, _facts(reference, reference_at, noise))


def _write_file(campaign: Campaign, name: str, title: str, begin: float, single: np.ndarray) -> None:
    whole = np.round(single / Y_FACTOR).astype(int)
    stamp = str(campaign.clock.wall(campaign.history.start, begin))[:19].replace("-", "/").replace("T", " ")
    fields: list[tuple[str, Any]] = [
        ("TITLE", title),
        ("JCAMP-DX", "5.01"),
        ("DATA TYPE", "INFRARED SPECTRUM"),
        ("DATA CLASS", "XYDATA"),
        ("ORIGIN", "simulated"),
        ("OWNER", "simulated"),
        ("LONGDATE", stamp),
        ("SPECTROMETER/DATA SYSTEM", "simulated FTIR"),
        ("SAMPLING PROCEDURE", "ATR"),
        ("DATA PROCESSING", "SINGLE BEAM, NO REFERENCE"),
        ("RESOLUTION", f"{RESOLUTION:.1f}"),
        ("XUNITS", "1/CM"),
        ("YUNITS", "ARBITRARY UNITS"),
        ("XFACTOR", "1.0"),
        ("YFACTOR", f"{Y_FACTOR:.1E}"),
        ("FIRSTX", f"{FIRST:.1f}"),
        ("LASTX", f"{LAST:.1f}"),
        ("DELTAX", f"{STEP:.1f}"),
        ("MAXY", f"{whole.max() * Y_FACTOR:.6f}"),
        ("MINY", f"{whole.min() * Y_FACTOR:.6f}"),
        ("NPOINTS", whole.size),
        ("FIRSTY", f"{whole[0] * Y_FACTOR:.6f}"),
        ("XYDATA", "(X++(Y..Y))"),
    ]
    axis = wavenumber_axis()
    with (campaign.folder / name).open("w", encoding="ascii", newline="") as out:
        out.writelines(f"##{label}={value}\r\n" for label, value in fields)
        for k in range(0, whole.size, 10):
            out.write(f"{axis[k]:.0f} " + " ".join(map(str, whole[k : k + 10])) + "\r\n")
        out.write("##END=\r\n")


def _facts(reference: str, reference_at: float, noise: float) -> dict[str, Any]:
    return {
        "reference": {"file": reference, "begin_s": reference_at, "of": "bare crystal, nominal source, vapour 0"},
        "absorbance_rule": "-log10(single / reference) = bands - log10(intensity (1 + tilt (v - 1450) / 750)) + water_vapour * lines(v)",
        "bands": [
            {
                "group": b.group,
                "position_per_cm": b.position,
                "fwhm_per_cm": b.width,
                "share": b.share,
                "shape": "Gaussian" if b.gaussian else "Lorentzian",
            }
            for b in BANDS
        ],
        "carbonate_area_per_unit_per_cm": _TOTAL,
        "ec_area_per_cm": EC_AREA,
        "coordinated_relative_strength": STRENGTH,
        "coordinated_fraction_rule": "(area_ec_coordinated / k) / (area_ec_coordinated / k + area_ec_free), k the relative strength",
        "single_beam_noise": noise,
        "reference_noise": REFERENCE_NOISE,
        "water_lines_per_cm": {str(line): height for line, height in WATER.items()},
        "stamp": "begin of the scans, cut to a whole second",
    }
