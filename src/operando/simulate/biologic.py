r"""EC-Lab text exports (.mpt) of the simulated cell: galvanostatic cycling (GCPL) linked with impedance (PEIS).

Format as EC-Lab 11 writes it: latin-1, CRLF, `EC-Lab ASCII FILE`, `Nb header lines : N`, settings (of PEIS with `Loop k from point number
a to b`), one line of column names separated by tabs, one line a record; decimal commas, as a computer with a French or German setting
exports. Linked techniques of one acquisition share its start stamp, a wall clock without a zone, and count `time/s` from it; a continued
acquisition counts on from the same stamp. `<I>` is the mean over the interval that ends at its record, `(Q-Qo)` the exact integral of the current.

The record conditions are those of the real thing: every 30 s or 5 mV, and both sides of a current step. While a sweep runs the GCPL file is
silent and the PEIS file speaks. The header's mass and area are false, as they often are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operando.simulate.cell import SWEEP, Design
from operando.simulate.impedance import impedance_at, sweep_frequencies, sweep_times
from operando.simulate.instruments import Campaign, Told

_GCPL: tuple[str, ...] = (
    "mode",
    "ox/red",
    "error",
    "control changes",
    "Ns changes",
    "counter inc.",
    "Ns",
    "time/s",
    "control/V/mA",
    "Ewe/V",
    "<I>/mA",
    "(Q-Qo)/mA.h",
)
_GCPL += ("half cycle", "cycle number")
_PEIS = ("freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm", "|Z|/Ohm", "Phase(Z)/deg", "time/s", "<Ewe>/V", "<I>/mA", "cycle number", "(Q-Qo)/mA.h")

_HEAD = """\
{title}

Run on channel : 1 (SN 0000)
User :\x20
Electrode connection : standard
Potential control : Ewe
Ewe ctrl range : min = 0,00 V, max = 5,00 V
Acquisition started on : {stamp}
Saved on :
\tFile : {file}
Device : VMP3 (SN 0000)
EC-Lab for windows v11.43 (software)
Electrode material :\x20
Comments : simulated cell {cell}
Mass of active material : 1000,000 mg
Electrode surface area : 1,000 cm\u00b2
Characteristic mass : 1,000 g
Cycle Definition : Charge/Discharge alternance
{settings}
"""
_GCPL_SETTINGS = """\
Ns                  0                   1                   2                   3
Is                  0,000               {current}               -{current}              0,000
unit Is             mA                  mA                  mA                  mA
dE1 (mV)            5,00                5,00                5,00                5,00
dt1 (s)             30,0000             30,0000             30,0000             30,0000
EM (V)              0,000               {upper}               {lower}               0,000"""
_PEIS_SETTINGS = """\
Mode                Single sine
E (V)               0,0000
vs.                 Eoc
fi                  100,000
unit fi             kHz
ff                  50,000
unit ff             mHz
Nd                  6
Points              per decade
Va (mV)             10,0
Na                  2"""


def write(campaign: Campaign) -> Told:
    """Write the cycling and the impedance of a cell as EC-Lab text.

    Parameters
    ----------
    campaign
        `begin` and `exposure` are not used: the potentiostat measures always. Options: `design` (`Design`); `acquisitions`, true times (s) at which
        the operator stopped and continued the experiment, each beginning a new pair of files; `voltage_noise` (V, 1 sigma) and
        `impedance_noise` (fraction of |Z|, 1 sigma of each part).

    Returns
    -------
    Told
        The frames are the sweeps, from their first frequency to their last; observables are the resistances in the middle of each.
    """
    design: Design = campaign.options.get("design", Design())
    ends = [*campaign.options.get("acquisitions", ()), np.inf]
    records = _records(campaign)
    sweeps = _sweeps(campaign, design)
    files: list[str] = []
    begin = -np.inf
    for number, end in enumerate(ends, 1):
        name = f"{campaign.cell}_run{number}"
        inside = (records["time"] > begin) & (records["time"] <= end)
        _write_gcpl(campaign, design, f"{name}_01_GCPL_C01.mpt", {k: v[inside] for k, v in records.items()})
        some = [s for s in sweeps if begin < s["time"][0] <= end]
        if some:
            _write_peis(campaign, f"{name}_02_PEIS_C01.mpt", some)
        files += [f"{name}_02_PEIS_C01.mpt"] * len(some)
        begin = end
    first = np.array([s["time"][0] for s in sweeps])
    last = np.array([s["time"][-1] for s in sweeps])
    middle = 0.5 * (first + last)
    observables: dict[str, dict[str, Any]] = {
        name: {"unit": "ohm", "values": campaign.history.at(name, middle)}
        for name in ("ohmic_resistance", "interphase_resistance", "charge_transfer_resistance")
    }
    observables["diffusion_resistance"] = {"unit": "ohm", "values": np.full(middle.size, design.diffusion)}
    index = [files[:k].count(name) for k, name in enumerate(files)]
    facts = {
        "impedance_noise": campaign.options.get("impedance_noise", 2e-3),
        "diffusion_time_s": design.diffusion_time,
        "header_mass_mg": 1000.0,
        "oxide_mass_mg": design.oxide_mass,
        "cycles": _cycles(campaign),
    }
    return Told(files, index, first, last - first, observables, facts)


def _cycles(campaign: Campaign) -> list[dict[str, float]]:
    """Give charge and discharge capacity of every cycle, mAh."""
    h = campaign.history.states
    out = []
    for number in np.unique(h["cycle"]):
        q = h["charge"][h["cycle"] == number] / 3.6
        out.append({"cycle": int(number), "charge_capacity_mAh": float(q.max() - q[0]), "discharge_capacity_mAh": float(q.max() - q[-1])})
    return out


def _records(campaign: Campaign) -> dict[str, np.ndarray]:
    """Choose the moments that the potentiostat records: every 30 s, every 5 mV, both sides of each step, the ends; never during a sweep."""
    time, states = campaign.history.time, campaign.history.states
    volts, current, step = states["voltage"], states["current"], states["step"]
    keep = np.zeros(time.size, bool)
    keep[[0, -1]] = True
    changed = np.flatnonzero((np.diff(current) != 0) | (np.diff(step) != 0))
    keep[changed] = keep[changed + 1] = True
    last = 0
    for k in range(1, time.size):
        if keep[k] or time[k] - time[last] >= 30.0 or abs(volts[k] - volts[last]) >= 5e-3:
            keep[k] = True
            last = k
    keep &= step != SWEEP
    keep[-1] = True
    chosen = {name: states[name][keep] for name in ("current", "charge", "half_cycle", "cycle", "step")}
    chosen["time"] = time[keep]
    noise = campaign.options.get("voltage_noise", 5e-5)
    chosen["voltage"] = volts[keep] + noise * campaign.rng.standard_normal(int(keep.sum()))
    chosen["mean"] = np.concatenate([[0.0], np.diff(chosen["charge"]) / np.diff(chosen["time"])])
    return chosen


def _sweeps(campaign: Campaign, design: Design) -> list[dict[str, Any]]:
    frequency = sweep_frequencies()
    h = campaign.history
    on = h.states["step"] == SWEEP
    starts = h.time[np.flatnonzero(on & ~np.concatenate([[False], on[:-1]]))]
    noise = campaign.options.get("impedance_noise", 2e-3)
    out = []
    for number, start in enumerate(starts, 1):
        t = start + sweep_times(frequency)
        z = impedance_at(h, t, frequency, design)
        z = z + noise * np.abs(z) * (campaign.rng.standard_normal(z.size) + 1j * campaign.rng.standard_normal(z.size))
        out.append({"number": number, "frequency": frequency, "time": t, "z": z, "voltage": h.at("voltage", t), "charge": h.at("charge", t)})
    return out


def _write_gcpl(campaign: Campaign, design: Design, file: str, r: dict[str, np.ndarray]) -> None:
    amount = f"{design.current * 1e3:.3f}".replace(".", ",")
    settings = _GCPL_SETTINGS.format(current=amount, upper=f"{design.upper:.3f}".replace(".", ","), lower=f"{design.lower:.3f}".replace(".", ","))
    number = np.where(r["current"] > 0, 1, np.where(r["current"] < 0, 2, np.where(r["time"] < design.first_rest, 0, 3)))
    changes = np.concatenate([[0], (np.diff(number) != 0).astype(int)]) if number.size else number
    rows = [
        "\t".join(
            [
                "1" if r["current"][k] else "3",
                "1" if r["half_cycle"][k] % 2 == 0 else "0",
                "0",
                str(changes[k]),
                str(changes[k]),
                "0",
                str(number[k]),
                _long(r["time"][k]),
                _short(r["current"][k] * 1e3),
                _short(r["voltage"][k]),
                _short(r["mean"][k] * 1e3),
                _long(r["charge"][k] / 3.6),
                str(int(r["half_cycle"][k])),
                _long(r["cycle"][k]),
            ]
        )
        for k in range(number.size)
    ]
    _write(campaign, file, "Galvanostatic Cycling with Potential Limitation", settings, _GCPL, rows)


def _write_peis(campaign: Campaign, file: str, sweeps: list[dict[str, Any]]) -> None:
    n = sweeps[0]["frequency"].size if sweeps else 0
    loops = [f"Loop {k} from point number {k * n} to {(k + 1) * n - 1}" for k in range(len(sweeps))]
    settings = "\n".join([_PEIS_SETTINGS, "", f"Number of loops : {len(sweeps)}", *loops])
    rows = []
    for s in sweeps:
        z = s["z"]
        columns = (s["frequency"], z.real, -z.imag, np.abs(z), np.degrees(np.angle(z)))
        for k in range(n):
            rows.append(
                "\t".join(
                    [
                        *(_short(c[k]) for c in columns),
                        _long(s["time"][k]),
                        _short(s["voltage"][k]),
                        _short(0.0),
                        _long(1.0),
                        _long(s["charge"][k] / 3.6),
                    ]
                )
            )
    _write(campaign, file, "Potentio Electrochemical Impedance Spectroscopy", settings, _PEIS, rows)


def _write(campaign: Campaign, file: str, title: str, settings: str, columns: tuple[str, ...], rows: list[str]) -> None:
    wall = str(campaign.clock.wall(campaign.history.start, 0.0)).replace("T", " ")
    stamp = f"{wall[5:7]}/{wall[8:10]}/{wall[:4]} {wall[11:23]}"
    head = _HEAD.format(title=title, stamp=stamp, file=file.replace(".mpt", ".mpr"), cell=campaign.cell, settings=settings)
    count = head.count("\n") + 4  # the two lines above it, the blank line that ends it, and the column names
    text = f"EC-Lab ASCII FILE\nNb header lines : {count}                          \n\n{head}" + "\t".join(columns) + "\t\n"
    body = "".join(row + "\n" for row in rows)
    (campaign.folder / file).write_bytes((text + body).replace("\n", "\r\n").encode("latin-1"))


def _short(value: float) -> str:
    """Write a number as EC-Lab does for its 4-byte columns."""
    return f"{value:.7E}".replace(".", ",").replace("E+", "E+0").replace("E-", "E-0")


def _long(value: float) -> str:
    """Write a number as EC-Lab does for its 8-byte columns."""
    return f"{value:.15E}".replace(".", ",").replace("E+", "E+0").replace("E-", "E-0")
