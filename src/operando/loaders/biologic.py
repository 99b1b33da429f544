"""What EC-Lab's text and binary files share: column names, units, start stamps, and the echem series made of them.

Both kinds of file hold one table whose columns EC-Lab calls `name/unit` (`Ewe/V`, `(Q-Qo)/mA.h`). Here each such
column becomes one variable:

- `Ewe`, `<Ewe>`, `Ecell` -> `voltage`; where `Ece` was recorded too, `Ewe` -> `potential_we`, `Ece` -> `potential_ce` and the
  cell's `voltage` is their difference (EC-Lab's own column `Ewe-Ece` if it is there).
- `<I>` -> `current`, interval `ending`: it is the mean over the interval that ENDS at its record (held backward it gives the
  instrument's own `Q-Qo`; held forward it does not). `I` -> `current`, interval `instant`. Neither there: the charge step
  `dq/mA.h` (or the change of `Q-Qo`) over the time step, `ending`, attribute `derived`. Never `dQ/C`, which CA and CP count
  from the beginning of the step and not from the record before. Open circuit: zero, attribute `derived`.
- `Q-Qo` -> `charge`, continuous: EC-Lab begins it at zero again in loops over linked techniques; there it is added up. `dq` (since the
  record before) -> `dq`; `dQ` (since the beginning of the step) -> `step_dq`.
- `cycle number` -> `cycle`; `half cycle` -> `half_cycle`; `Ns` -> `step`. In impedance (PEIS, GEIS, anything with frequencies and without `mode`)
  `cycle number` counts the sweeps, not the cycles of the cell: -> `sweep`.
- `control/V/mA` holds volts where `mode` is 2 (potentiostatic) and milliamperes where it is 1 (galvanostatic); at rest
  (mode 3) it holds what was controlled before. It is split into `control_voltage` and `control_current`, NaN elsewhere.
- Anything else keeps its numbers and unit under its name in snake case (`Q charge/discharge/mA.h` -> `q_charge_discharge`).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, series

UNITS: dict[str, str] = {
    "V": "V",
    "mV": "mV",
    "µV": "uV",
    "A": "A",
    "mA": "mA",
    "µA": "uA",
    "nA": "nA",
    "pA": "pA",
    "s": "s",
    "min": "min",
    "h": "h",
    "C": "C",
    "mC": "mC",
    "µC": "uC",
    "A.h": "A*h",
    "mA.h": "mA*h",
    "µA.h": "uA*h",
    "mA.h/g": "mA*h/g",
    "W": "W",
    "mW": "mW",
    "µW": "uW",
    "W.h": "W*h",
    "mW.h": "mW*h",
    "µW.h": "uW*h",
    "W.h/g": "W*h/g",
    "Hz": "Hz",
    "kHz": "kHz",
    "deg": "deg",
    "°C": "degC",
    "K": "K",
    "%": "%",
    "Ohm": "ohm",
    "mOhm": "mohm",
    "kOhm": "kohm",
    "MOhm": "Mohm",
    "Ohm-1": "1/ohm",
    "Ohm.cm": "ohm*cm",
    "Ohm.cm²": "ohm*cm^2",
    "S": "S",
    "mS/cm": "mS/cm",
    "F": "F",
    "mF": "mF",
    "µF": "uF",
    "nF": "nF",
    "pF": "pF",
    "µF-2": "1/uF^2",
    "V/s": "V/s",
    "mV/s": "mV/s",
    "mA/s": "mA/s",
    "V-1": "1/V",
    "mA/cm²": "mA/cm^2",
    "A/cm²": "A/cm^2",
    "rpm": "rpm",
    "bar": "bar",
    "mbar": "mbar",
    "g": "g",
    "mg": "mg",
    "cm²": "cm^2",
}
"""Unit as EC-Lab writes it -> its symbol in the contract. A name may itself hold a slash, so only these end one."""

FACTORS: dict[str, dict[str, float]] = {
    "s": {"s": 1.0, "min": 60.0, "h": 3600.0},
    "V": {"V": 1.0, "mV": 1e-3, "uV": 1e-6},
    "A": {"A": 1.0, "mA": 1e-3, "uA": 1e-6, "nA": 1e-9, "pA": 1e-12},
    "C": {"C": 1.0, "mC": 1e-3, "uC": 1e-6, "A*h": 3600.0, "mA*h": 3.6, "uA*h": 3.6e-3},
}
"""Unit wanted -> unit found -> factor."""

INTEGERS = {
    "mode": np.int8,
    "ox/red": np.int8,
    "error": np.int8,
    "control changes": np.int8,
    "Ns changes": np.int8,
    "counter inc.": np.int8,
    "Ns": np.int32,
    "I Range": np.int32,
    "cycle number": np.int64,
    "half cycle": np.int64,
    "z cycle": np.int64,
}

NAMES = {
    "Ns": "step",
    "cycle number": "cycle",
    "half cycle": "half_cycle",
    "control changes": "control_changes",
    "Ns changes": "step_changes",
    "I Range": "current_range",
    "freq": "frequency",
    "P": "power",
    "R": "resistance",
    "T": "temperature",
    "Temperature": "temperature",
    "|Energy|": "abs_energy",
    "Efficiency": "efficiency",
    "dQ": "step_dq",  # since the beginning of the step; `dq` is since the record before
    "DQ": "half_cycle_dq",
}

TECHNIQUE_NAMES = {
    "galvanostatic cycling with potential limitation": "GCPL",
    "cyclic voltammetry": "CV",
    "cyclic voltammetry advanced": "CVA",
    "open circuit voltage": "OCV",
    "chronoamperometry / chronocoulometry": "CA",
    "chronopotentiometry": "CP",
    "modulo bat": "MB",
    "linear sweep voltammetry": "LSV",
    "potentio electrochemical impedance spectroscopy": "PEIS",
    "galvano electrochemical impedance spectroscopy": "GEIS",
    "potentiodynamic cycling with galvanostatic acceleration": "PCGA",
    "modular pulse": "MP",
    "battery capacity determination": "BCD",
    "wait": "WAIT",
    "ir compensation (peis)": "ZIR",
    "staircase potentio electrochemical impedance spectroscopy": "SPEIS",
    "staircase galvano electrochemical impedance spectroscopy": "SGEIS",
    "constant current": "CstC",
    "constant voltage": "CstV",
}

_STAMP = re.compile(r"(\d{1,4})[/.\-](\d{1,2})[/.\-](\d{1,4})[ T]+(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?(?:\s*([AP]M))?", re.IGNORECASE)


@dataclass
class Run:
    """What a file says beside its table.

    Attributes
    ----------
    technique
        Short name (`GCPL`), or whatever the file calls it.
    start
        Wall-clock stamp that the times count from; None if the file has none.
    time_origin
        `header`, or `log` where the stamp is from the text file beside it.
    loops
        Index of the record each loop begins with.
    """

    technique: str = ""
    start: np.datetime64 | None = None
    time_origin: str = "header"
    instrument: str = "BioLogic"
    software: str = ""
    channel: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    loops: list[int] = field(default_factory=list)
    interrupted: bool = False
    attrs: dict[str, Any] = field(default_factory=dict)
    column_attrs: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_stamp(text: str) -> np.datetime64 | None:
    """Read a stamp as EC-Lab writes it.

    EC-Lab writes month, day, year; its local setting changes the separator only (files with the module dates `05.15.25`
    and with `01.10.18` beside 01/10/2018 = 10 January show it). Where the first number cannot be a month the day comes
    first; a four-digit first number is a year (ISO).
    """
    match = _STAMP.search(text)
    if match is None:
        return None
    a, b, c, hour, minute, second = (int(g) for g in match.groups()[:6])
    fraction = (match[7] or "").ljust(9, "0")
    if match[8]:
        hour = hour % 12 + (12 if match[8].upper() == "PM" else 0)
    if len(match[1]) == 4:
        year, month, day = a, b, c
    else:
        month, day, year = (a, b, c) if a <= 12 else (b, a, c)
        year += 2000 if len(match[3]) <= 2 else 0
    if not 1970 <= year <= 2100:
        return None
    try:
        whole = dt.datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - a wall-clock stamp; the timeline gives it its zone
    except ValueError:
        return None
    return np.datetime64(whole, "ns") + np.timedelta64(int(fraction), "ns")


def stamp_uncertainty(start: np.datetime64 | None) -> float:
    """Give the resolution of a stamp in seconds.

    EC-Lab before about 11.4 knows whole seconds only, and writes `.000` after them all the same; so a stamp without
    milliseconds, or with none but zeros, is good to 1 s and any other to 1 ms.
    """
    if start is None:
        return 0.0
    return 1.0 if int(start.astype("datetime64[ms]").astype(np.int64)) % 1000 == 0 else 1e-3


def technique_of(long_name: str, file_name: str = "") -> str:
    """Shorten a technique's name; else take it from the name EC-Lab gives its files (`..._02_CVA_C01.mpr`)."""
    known = TECHNIQUE_NAMES.get(" ".join(long_name.split()).lower())
    if known:
        return known
    match = re.search(r"_\d{1,3}_([A-Za-z]{2,8})(?:_C[A-Z]?\d+)?(?:\.mp[a-z]+)?$", file_name)
    if match:
        return match[1].upper() if match[1].islower() else match[1]
    return long_name.strip()


def split_label(label: str) -> tuple[str, str]:
    """Split EC-Lab's `name/unit` into the name and the unit's symbol (`1` where there is none)."""
    text = " ".join(label.replace("μ", "µ").split())
    text = re.sub(r"^<([^<>/]+)/([^<>]+)>$", r"<\1>/\2", text)  # some exports close the mean after the unit: `<Ewe/V>`
    parts = text.split("/")
    for k in (2, 1):  # a unit such as mA/s holds a slash itself
        if len(parts) > k and "/".join(parts[-k:]) in UNITS:
            return "/".join(parts[:-k]), UNITS["/".join(parts[-k:])]
    return text, "1"


def snake(name: str) -> str:
    """Spell a column's name as a variable: `-Im(Z)` -> `minus_im_z`, `<Ewe>` -> `mean_ewe`, `|I|` -> `abs_i`."""
    text = re.sub(r"^-", "minus_", name)
    text = re.sub(r"<([^<>]*)>", r" mean_\1 ", text)
    text = re.sub(r"\|([^|]*)\|", r" abs_\1 ", text)
    text = text.replace("µ", "u").replace("°", "deg").replace("Δ", "d")
    text = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").lower()
    text = text or "column"
    return f"column_{text}" if text[0].isdigit() else text


class _Table:
    """The columns of a file, each to be taken once."""

    def __init__(self, path: Path, columns: Mapping[str, np.ndarray], attrs: Mapping[str, dict[str, Any]]) -> None:
        self.path, self.attrs = path, attrs
        self.left = dict(columns)
        self.split = {label: split_label(label) for label in columns}

    def find(self, name: str, *units: str) -> str | None:
        """Label of the column called `name` in one of `units` (any if none is given)."""
        for label in self.left:
            base, unit = self.split[label]
            if re.sub(r"\s+vs\.?\s+.*$", "", base) == name and (not units or unit in units):
                return label
        return None

    def take(self, name: str, to: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Take the column `name` as float64 in the unit `to`, with its attributes."""
        factors = FACTORS[to]
        label = self.find(name, *factors)
        if label is None:
            return None
        values = np.asarray(self.left.pop(label), np.float64)
        factor = factors[self.split[label][1]]
        return (values if factor == 1.0 else values * factor), {"column": label, **self.attrs.get(label, {})}

    def peek(self, name: str, to: str) -> np.ndarray | None:
        """Give the column `name` in the unit `to`, and leave it."""
        label = self.find(name, *FACTORS[to])
        return None if label is None else np.asarray(self.left[label], np.float64) * FACTORS[to][self.split[label][1]]


def echem_series(path: str | Path, columns: Mapping[str, np.ndarray], run: Run, extra: Mapping[str, tuple[Any, ...]] | None = None) -> xr.Dataset:
    """Make the echem series of one EC-Lab file.

    Parameters
    ----------
    path
        The file.
    columns
        EC-Lab's label -> values, in the file's order.
    run
        What else the file says.
    extra
        Further variables, as `series` takes them.

    Raises
    ------
    LoaderError
        No records, no times, no potential, or times that are none.
    """
    path = Path(path)
    table = _Table(path, columns, run.column_attrs)
    found = ", ".join(columns)[:300]
    time = table.take("time", "s")
    if time is None:
        raise LoaderError(
            "no column of times", file=path, found=found, expected="time/s", hint="export the file again from EC-Lab with the variable time/s"
        )
    elapsed = time[0]
    n = elapsed.size
    if n == 0:
        raise LoaderError("no records yet", file=path, hint="wait until the technique has run")
    wrong = ~(np.abs(elapsed) < 3e9)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise LoaderError(f"the time of record {first} is not a time", file=path, found=elapsed[first], expected="seconds from the start")

    variables: dict[str, tuple[Any, ...]] = {}
    is_eis = table.find("freq", "Hz", "kHz") is not None
    is_sweep = run.technique.endswith("EIS") or (is_eis and "mode" not in columns)  # a Modulo Bat counts cycles, and has modes
    _potentials(table, variables, path, found, is_eis)
    mode = np.asarray(table.left["mode"]) if "mode" in table.left else None
    _charges(table, variables, elapsed, run, mode)
    _controls(table, variables, mode)
    _remaining(table, variables, is_sweep=is_sweep)
    if run.loops:
        variables["loop"] = ("time", _loop_numbers(run.loops, n), "1", {"long_name": "loop of the linked techniques"})
    variables.update(extra or {})

    quality = np.zeros(n, np.int32)
    if run.interrupted:
        quality[-1] = 8  # Quality.INTERRUPTED: what was being written after this record is lost
    segment = np.concatenate([[0], np.cumsum(np.diff(elapsed) < 0)])
    attrs: dict[str, Any] = {"instrument": run.instrument, "technique_name": run.technique or "unknown"}
    attrs |= {name: value for name, value in (("software", run.software), ("channel", run.channel)) if value}
    attrs |= run.attrs
    if run.claims:
        attrs["claims"] = json.dumps(run.claims, ensure_ascii=False)
    return series(
        "echem",
        variables,
        source=path,
        start=run.start,
        elapsed=elapsed,
        time_origin=run.time_origin,
        time_uncertainty=stamp_uncertainty(run.start),
        segment=segment,
        quality=quality,
        attrs=attrs,
    )


def _potentials(table: _Table, variables: dict[str, tuple[Any, ...]], path: Path, found: str, is_eis: bool) -> None:
    """Cell voltage and electrode potentials."""
    sampling: dict[str, Any] = {"sampling": "continuous"}
    if is_eis:
        sampling = {"sampling": "sample", "comment": "mean over the sine periods measured at the frequency of the record"}

    def first(*names: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        for name in names:
            taken = table.take(name, "V")
            if taken is not None:
                return taken
        return None

    we, ce, cell = first("Ewe", "<Ewe>"), first("Ece", "<Ece>"), first("Ecell", "<Ecell>", "Ewe-Ece", "<Ewe-Ece>")
    if we is not None and ce is not None:
        variables["potential_we"] = ("time", we[0], "V", {**sampling, **we[1]})
        variables["potential_ce"] = ("time", ce[0], "V", {**sampling, **ce[1]})
        if cell is None:
            cell = we[0] - ce[0], {"derived": "potential_we - potential_ce"}
    elif cell is None:
        cell = we
    elif we is not None:
        variables["potential_we"] = ("time", we[0], "V", {**sampling, **we[1]})
    if cell is None:
        raise LoaderError(
            "no column of potentials", file=path, found=found, expected="Ewe/V, <Ewe>/V or Ecell/V", hint="export the file again with Ewe"
        )
    variables["voltage"] = ("time", cell[0], "V", {**sampling, **cell[1]})


def _charges(table: _Table, variables: dict[str, tuple[Any, ...]], elapsed: np.ndarray, run: Run, mode: np.ndarray | None) -> None:
    """Current, with the interval it is the mean of, and charge."""
    step = table.peek("dq", "C")  # mA.h: the charge since the record before
    if step is not None and table.find("dq", "C") is not None:
        step = None
    charge = table.take("(Q-Qo)", "C") or table.take("Q-Qo", "C")
    if charge is not None:
        total, begun = _added_up(charge[0], run.loops)
        note = {"comment": f"set to zero at the beginning of {begun} loop(s); added up"} if begun else {}
        variables["charge"] = ("time", total, "C", {"sampling": "continuous", **charge[1], **note})
        if step is None:
            step = np.diff(total, prepend=total[:1])
    elif step is not None:
        variables["charge"] = ("time", np.cumsum(step), "C", {"sampling": "continuous", "derived": "sum of dq"})

    mean, instant = table.take("<I>", "A"), None
    if mean is None:
        instant = table.take("I", "A")
    if mean is not None:
        variables["current"] = ("time", mean[0], "A", {"interval": "ending", **mean[1]})
    elif instant is not None:
        variables["current"] = ("time", instant[0], "A", {"interval": "instant", **instant[1]})
    elif step is not None:
        variables["current"] = ("time", _mean_current(step, elapsed), "A", {"interval": "ending", "derived": "dq/dt"})
    elif run.technique == "OCV" or (mode is not None and (mode == 3).all()):
        variables["current"] = ("time", np.zeros(elapsed.size), "A", {"interval": "ending", "derived": "open circuit"})


def _added_up(charge: np.ndarray, loops: list[int]) -> tuple[np.ndarray, int]:
    """Make `Q-Qo` continuous over the loops at which it begins at zero again; give also how many these are.

    It does so in loops over linked techniques, not in those within a Modulo Bat. What flowed in between is in the files of the
    other techniques.
    """
    at = np.array([k for k in loops if 0 < k < charge.size], np.int64)
    before = charge[at - 1]
    with np.errstate(invalid="ignore"):
        again = np.abs(charge[at]) < np.abs(charge[at] - before)  # nearer to zero than to the record before
    if not again.any():
        return charge, 0
    offset = np.zeros(charge.size)
    offset[at[again]] = before[again]
    return charge + np.cumsum(offset), int(again.sum())


def _mean_current(step: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    """Mean current of the interval ending at each record.

    The first record ends no interval of this file: 0 where no charge has passed yet (as EC-Lab writes it), else NaN.
    Two records at one time end the same interval.
    """
    duration = np.diff(elapsed)
    current = np.empty(elapsed.size)
    current[0] = 0.0 if step[0] == 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        current[1:] = np.where(duration > 0, step[1:] / duration, np.nan)
    same = np.concatenate([[False], (duration == 0) & (step[1:] == 0)])
    return current[np.maximum.accumulate(np.where(same, 0, np.arange(elapsed.size)))]


def _controls(table: _Table, variables: dict[str, tuple[Any, ...]], mode: np.ndarray | None) -> None:
    """What the instrument was asked for, only where it was asked for it."""
    mixed = "control/V/mA"
    if mixed in table.left and mode is not None:
        values = np.asarray(table.left.pop(mixed), np.float64)
        attrs = {"column": mixed, **table.attrs.get(mixed, {})}
        volts, amperes = np.where(mode == 2, values, np.nan), np.where(mode == 1, values * 1e-3, np.nan)
        for other in ("control/V", "control/mA"):  # the same numbers again, with zeros where ours have NaN
            table.left.pop(other, None)
        variables["control_voltage"] = ("time", volts, "V", attrs)
        variables["control_current"] = ("time", amperes, "A", attrs)
        return
    if mixed in table.left:
        variables["control"] = ("time", np.asarray(table.left.pop(mixed), np.float64), "1", {"comment": "V or mA; the file does not say which"})
    for name, unit, wanted in (("control_voltage", "V", 2), ("control_current", "A", 1)):
        taken = table.take("control", unit)
        if taken is not None:
            values = taken[0] if mode is None else np.where(mode == wanted, taken[0], np.nan)
            variables[name] = ("time", values, unit, taken[1])


def _remaining(table: _Table, variables: dict[str, tuple[Any, ...]], *, is_sweep: bool) -> None:
    """Everything else, by its own name, in its own unit."""
    names = {**NAMES, "cycle number": "sweep"} if is_sweep else NAMES
    for label, values in table.left.items():
        base, unit = table.split[label]
        name = names.get(base) or snake(base)
        attrs = {"column": label, **table.attrs.get(label, {})}
        whole = INTEGERS.get(base)
        if whole is not None:
            cast = _as_integers(values, whole)
            if cast is not None:
                values = cast
            elif base in NAMES:
                name = snake(base)  # `cycle` and `step` are integers; what is none keeps the column's own name
                name = f"{name}_raw" if name in NAMES.values() else name
        elif values.dtype.kind == "f" and values.dtype != np.float64:
            values = values.astype(np.float64)
        stem, k = name if name not in _TAKEN else f"{name}_column", 2
        name = stem
        while name in variables:
            name, k = f"{stem}_{k}", k + 1
        variables[name] = ("time", values, unit, attrs)


_TAKEN = {"time", "source_time", "exposure", "segment", "setup", "source", "source_index", "quality", "stamp", "energy", "q", "r", "loop"}


def _as_integers(values: np.ndarray, kind: Any) -> np.ndarray | None:
    """Cast to integers; None where that would change a value."""
    if values.dtype.kind in "iu":
        info = np.iinfo(kind)
        return values.astype(kind) if values.size == 0 or (values.min() >= info.min and values.max() <= info.max) else values.astype(np.int64)
    if not (np.abs(values) < 2.0**31).all():
        return None
    cast = values.astype(np.int64)
    if not (cast == values).all():
        return None
    return _as_integers(cast, kind)


def _loop_numbers(begins: list[int], n: int) -> np.ndarray:
    """Number of the loop each record belongs to."""
    return np.maximum(np.searchsorted(np.asarray(sorted(begins)), np.arange(n), side="right") - 1, 0).astype(np.int32)
