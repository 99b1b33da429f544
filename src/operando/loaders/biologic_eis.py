"""Impedance in BioLogic EC-Lab files (.mpt, .mpr): each sweep of PEIS, GEIS and their kin as one spectrum.

**Bytes.** Those of `biologic-mpt` and `biologic-mpr`, which read the table. A technique with frequencies holds one record per frequency:
`freq/Hz`, `Re(Z)/Ohm`, `-Im(Z)/Ohm` (or, where these were not exported, `|Z|/Ohm` and `Phase(Z)/deg`), `<Ewe>/V`, `<I>/mA`, `time/s`. A
file may hold many sweeps (loops over linked techniques, SPEIS, a series of `nc` cycles), and records of frequency 0, the direct-current
stretch before a galvanostatic sweep, which belong to none.

**Electrodes.** With a reference electrode and `Record Ece`, `Z` is that of the working electrode, `Zce` that of the counter electrode, and
`Zwe-ce` that of the cell (`Z` + `Zce`; checked on a file with 60 sweeps: 155 + 152 = 307 ohm): dim `electrode` = cell, we, ce. The sign of `Zce`
is EC-Lab's, such that the cell is the sum. A negative real part of an electrode at high frequency is a usual artefact of the reference, and stays.

**Time.** `time/s` of a record is when its frequency was done: the steps between records are 1.1 or 2.1 periods of the later one's frequency. Start
stamp, its zone and its uncertainty are those of `biologic-mpt` and `biologic-mpr`.

**Interrupted.** A sweep with fewer points than the usual one of its file, ending before the usual end; the last one of a file whose last
record was cut.

**Files without a sweep** (cycling, open circuit) are read as holding nothing: the loader can be given all files of a cell.

**Output.** An eis series: `impedance` (time, point[, electrode]) ohm, `frequency`, `point_time`; `dc_voltage` (V: the mean potential during each
frequency, by electrode where there are several) and `dc_current` (A).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders import biologic_mpr, biologic_mpt
from operando.loaders.sweeps import Points, eis_series

TECHNIQUES = ("eis",)
VERSION = "1"

_POTENTIALS = {"cell": "voltage", "we": "potential_we", "ce": "potential_ce"}
_PARTS = {"we": "z", "ce": "zce", "cell": "zwe_ce"}


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether this is an EC-Lab file of an impedance technique."""
    technique = biologic_mpr.technique_in(path) or biologic_mpt.technique_in(path) or ""
    return f"EC-Lab impedance, {technique}" if technique.endswith("EIS") else None


def beside(path: str | os.PathLike[str]) -> list[Path]:
    """Name the log beside a binary measurement; see `biologic-mpr`."""
    return biologic_mpr.beside(path) if _is_binary(path) else []


def load(path: str | os.PathLike[str]) -> list[xr.Dataset]:
    """Read the impedance sweeps of one .mpt or .mpr file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list of xarray.Dataset
        One eis series, times as written; empty where the file holds no sweep.

    Raises
    ------
    LoaderError
        Not an EC-Lab file, a broken one, or impedances without a column of frequencies.
    """
    path = Path(path)
    records = biologic_mpr.load(path) if _is_binary(path) else biologic_mpt.load(path)
    names = set(map(str, records.data_vars))
    if "frequency" not in names:
        if {"re_z", "abs_z"} & names:
            raise LoaderError(
                "impedances without a column of frequencies",
                file=path,
                found=", ".join(sorted(names))[:300],
                expected="freq/Hz",
                hint="export the file again from EC-Lab with the variable freq/Hz, or use the .mpr",
            )
        return []
    frequency = np.asarray(records["frequency"].values, float)
    frequency = frequency * {"Hz": 1.0, "kHz": 1e3}.get(str(records["frequency"].attrs.get("units")), 1.0)
    if not (frequency > 0).any():
        return []
    parts = {electrode: z for electrode, suffix in _PARTS.items() if (z := _impedance(records, suffix)) is not None}
    if not parts:
        raise LoaderError(
            "frequencies without impedances",
            file=path,
            found=", ".join(sorted(names))[:300],
            expected="Re(Z)/Ohm and -Im(Z)/Ohm, or |Z|/Ohm and Phase(Z)/deg",
        )
    if "we" in parts and "ce" in parts and "cell" not in parts:
        parts["cell"] = parts["we"] + parts["ce"]
    electrodes = tuple(e for e in ("cell", "we", "ce") if e in parts) if len(parts) > 1 else ()
    impedance = np.stack([parts[e] for e in electrodes], axis=-1) if electrodes else next(iter(parts.values()))
    times = records["source_time"].values.astype("datetime64[ns]")
    start = records["stamp"].values if "stamp" in records.coords and records["stamp"].ndim == 0 else None
    origin = times[0] if start is None else np.asarray(start).astype("datetime64[ns]")
    further: dict[str, tuple[np.ndarray, str, dict[str, str]]] = {}
    potentials = [np.asarray(records[_POTENTIALS[e]].values, float) for e in electrodes if _POTENTIALS[e] in names]
    if electrodes and len(potentials) == len(electrodes):
        further["dc_voltage"] = (np.stack(potentials, axis=-1), "V", {"long_name": "mean potential while a frequency was measured"})
    elif "voltage" in names:
        further["dc_voltage"] = (np.asarray(records["voltage"].values, float), "V", {"long_name": "mean cell voltage while a frequency was measured"})
    if "current" in names:
        further["dc_current"] = (np.asarray(records["current"].values, float), "A", {"long_name": "mean current while a frequency was measured"})
    points = Points(
        frequency,
        impedance,
        electrodes,
        elapsed=(times - origin) / np.timedelta64(1, "s"),
        number=np.asarray(records["loop"].values) if "loop" in names else None,
        further=further,
        segment=records["segment"].values,
        interrupted=bool(records["quality"].values[-1] & 8),
    )
    attrs = {key: records.attrs[key] for key in ("instrument", "technique_name", "software", "channel", "claims") if key in records.attrs}
    made = eis_series(
        path,
        points,
        start=start,
        time_origin=records.attrs["time_origin"],
        time_uncertainty=float(records.attrs["time_uncertainty_s"]),
        attrs=attrs,
    )
    return [made]


def _impedance(records: xr.Dataset, suffix: str) -> np.ndarray | None:
    """Complex ohm of one electrode; None if the file does not have it."""

    def column(name: str) -> np.ndarray | None:
        if name not in records.data_vars:
            return None
        factor = {"ohm": 1.0, "mohm": 1e-3, "kohm": 1e3, "Mohm": 1e6}.get(str(records[name].attrs.get("units")), 1.0)
        return np.asarray(records[name].values, float) * factor

    real, minus = column(f"re_{suffix}"), column(f"minus_im_{suffix}")
    if real is not None and minus is not None:
        return real - 1j * minus
    size, phase = column(f"abs_{suffix}"), records.data_vars.get(f"phase_{suffix}")
    if size is None or phase is None:
        return None
    return np.asarray(size * np.exp(1j * np.radians(np.asarray(phase.values, float))))


def _is_binary(path: str | os.PathLike[str]) -> bool:
    try:
        with Path(path).open("rb") as f:
            return f.read(len(biologic_mpr.MAGIC)) == biologic_mpr.MAGIC
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
