"""Write a beamtime small enough to be built hundreds of times: one toy cell, three instruments, three clocks. Deterministic.

The cell is a toy: voltage is a smooth function of the charge plus an ohmic drop, one diffraction peak
moves linearly with the charge. What is real are the file formats and the traps:

* `echem/A_01_GCPL.mpt`, `A_02_GCPL.mpt`: EC-Lab text with decimal commas and latin-1; one experiment in two files that share a start
  stamp, wall-clock times without a zone.
* `xrd/*.xye`: one pattern per file, its time only in the FILE NAME, and the detector's clock is 37 s ahead. The first patterns were taken
  before the cycler started; one is missing (the beam was away).
* `temperature.csv`: semicolons, decimal commas, a step of 2 K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

START = np.datetime64("2026-06-03T10:00:00", "ms")  # wall clock of the cycler, Europe/Paris
CURRENT = 1.5e-3  # A
REST = 600.0  # s
HALF = 2400.0  # s per half cycle
DETECTOR_AHEAD = 37.0  # s
OHMIC = 40.0  # ohm
HEADER = """EC-Lab ASCII FILE
Nb header lines : {lines}

Galvanostatic Cycling with Potential Limitation

Run on channel : 1 (SN 0000)
Electrode connection : standard
Acquisition started on : {stamp}
Saved on :
\tFile : A_GCPL.mpr
Device : VMP3 (SN 0000)
EC-Lab for windows v11.43 (software)
Electrode material : simulated
Comments : a made-up cell
Mass of active material : 1000,000 mg
Electrode surface area : 1,540 cm²
Cycle Definition : Charge/Discharge alternance

"""
COLUMNS = "mode,ox/red,error,control changes,Ns changes,Ns,time/s,control/V/mA,Ewe/V,<I>/mA,(Q-Qo)/mA.h,half cycle,cycle number".split(",")


CONFIGURATION = """\
title: example, one simulated cell with three instruments and three clocks
timezone: Europe/Paris              # none of these files carries a zone

sources:
  detector:
    loader: xrd-1d
    files: xrd/*.xye
    name_pattern: "{cell}_{time:%Y%m%dT%H%M%S}_{frame:04d}"
    exposure: 30 s
    wavelength: 0.4133 angstrom
    clock: {offset: -37 s, uncertainty: 1 s}      # the clock of the detector computer is 37 s ahead
  cycler:
    loader: biologic-mpt
    files: echem/A_*_GCPL.mpt
  holder:
    loader: csv
    files: temperature.csv
    technique: sensor

cells:
  A:
    about:
      cell_type: half
      active_mass: 6.84 mg           # the cycler's own header says 1000 mg, as it often does
      area: 1.54 cm^2
      capacity: 1.0 mAh
      chemistry: simulated
    echem: {from: cycler}
    series:
      xrd: {from: detector, where: {cell: A}}
      temperature: {from: holder}
"""


def protocol(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give current (A), charge (C), step and half cycle at elapsed times (s): a rest, then two cycles."""
    u = np.clip(t - REST, 0, 4 * HALF)
    half = np.clip(np.ceil(u / HALF).astype(int) - 1, 0, 3)  # the record of the last moment still belongs to what ends
    sign = np.where(half % 2 == 0, 1.0, -1.0)
    inside = u - half * HALF
    charge = CURRENT * np.where(half % 2 == 0, inside, HALF - inside)
    resting = t <= REST
    current = np.where(resting, 0.0, sign * CURRENT)
    return current, np.where(resting, 0.0, charge), np.where(resting, 0, 1 + half % 2), np.where(resting, 0, half)


def voltage(t: np.ndarray) -> np.ndarray:
    """Give the cell voltage (V): a curve of the charge plus the ohmic drop."""
    current, charge, _, _ = protocol(t)
    x = charge / (CURRENT * HALF)
    return 3.4 + 0.55 * x + 0.12 * np.tanh((x - 0.35) / 0.06) + 0.08 * x**6 + OHMIC * current


def number(value: float) -> str:
    """Write a number as EC-Lab does on a computer with decimal commas."""
    return f"{value:.7E}".replace(".", ",")


def echem(folder: Path) -> None:
    """Write the cycling as two EC-Lab files."""
    end = REST + 4 * HALF
    t = np.unique(np.concatenate([np.arange(0, REST, 30.0), np.arange(REST, end + 1, 20.0), REST + np.arange(4) * HALF + 0.5]))
    current, charge, step, half = protocol(t)
    previous = np.concatenate([[0.0], charge[:-1]])
    mean = np.concatenate([[0.0], (charge[1:] - previous[1:]) / np.diff(t)])  # <I> speaks for the interval that ends at its record
    volts = voltage(t)
    stamp = str(START).replace("T", " ")
    stamp = f"{stamp[5:7]}/{stamp[8:10]}/{stamp[:4]} {stamp[11:]}"
    changes = np.concatenate([[0], (np.diff(step) != 0).astype(int)])
    rows = [
        "\t".join(
            [
                "1" if current[i] else "3",
                "1" if current[i] > 0 else "0",
                "0",
                str(changes[i]),
                str(changes[i]),
                str(step[i]),
                number(t[i]),
                number(current[i] * 1e3),
                number(volts[i]),
                number(mean[i] * 1e3),
                number(charge[i] / 3.6),
                str(half[i]),
                number(1.0 + half[i] // 2),
            ]
        )
        for i in range(t.size)
    ]
    split = int(np.searchsorted(t, REST + 2 * HALF, side="right"))
    for name, some in (("A_01_GCPL.mpt", rows[:split]), ("A_02_GCPL.mpt", rows[split:])):
        head = HEADER.format(stamp=stamp, lines=0)
        head = HEADER.format(stamp=stamp, lines=head.count("\n") + 1)
        text = head + "\t".join(COLUMNS) + "\n" + "\n".join(some) + "\n"
        (folder / "echem" / name).write_bytes(text.replace("\n", "\r\n").encode("latin-1"))


def diffraction(folder: Path, seed: int = 20260603) -> None:
    """Write patterns whose strongest peak follows the charge, named by a clock that is ahead."""
    rng = np.random.default_rng(seed)
    two_theta = np.arange(6.0, 9.0, 0.015)
    for k, begin in enumerate(np.arange(-300.0, REST + 4 * HALF - 60, 150.0)):
        exposure = 30.0
        middle = np.clip(begin + exposure / 2, 0, None)
        x = float(protocol(np.array([middle]))[1][0] / (CURRENT * HALF))
        counts = 120 + 900 * np.exp(-0.5 * ((two_theta - 6.9 - 0.12 * x) / 0.035) ** 2) + 260 * np.exp(-0.5 * ((two_theta - 8.2) / 0.03) ** 2)
        measured = rng.poisson(counts)
        stamp = str(START + np.timedelta64(int((begin + DETECTOR_AHEAD) * 1000), "ms"))[:19].replace("-", "").replace(":", "")
        lines = [f"{a:.4f} {b:d} {np.sqrt(max(b, 1)):.3f}" for a, b in zip(two_theta, measured, strict=True)]
        text = "# 2theta intensity sigma\n" + "\n".join(lines) + "\n"
        if k == 40:
            continue  # the beam was away
        (folder / "xrd" / f"A_{stamp}_{k:04d}.xye").write_text(text, encoding="ascii")


def temperature(folder: Path, seed: int = 1) -> None:
    """Write the temperature log of the cell holder."""
    rng = np.random.default_rng(seed)
    t = np.arange(-600.0, REST + 4 * HALF + 600, 60.0)
    values = 25.0 + 2.0 * (t > REST + 2.5 * HALF) + rng.normal(0, 0.03, t.size)
    lines = ["time;temperature (degC)"] + [
        f"{str(START + np.timedelta64(int(s * 1000), 'ms')).replace('T', ' ')};{v:.2f}".replace(".", ",") for s, v in zip(t, values, strict=True)
    ]
    (folder / "temperature.csv").write_text("\n".join(lines) + "\n", encoding="ascii")


def write(folder: Path) -> Path:
    """Write raw files and configuration; give beamtime.yaml."""
    for name in ("echem", "xrd"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    echem(folder)
    diffraction(folder)
    temperature(folder)
    path = folder / "beamtime.yaml"
    path.write_text(CONFIGURATION, encoding="utf-8")
    return path
