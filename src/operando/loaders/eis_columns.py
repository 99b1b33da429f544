"""Impedance in named columns: CH Instruments, Parstat, PowerSuite, VersaStudio (.par), and any csv or text table.

**Bytes.** Text, separated by tabs, semicolons, commas, bars or blanks, decimal point or comma, a header of any length above the line of names. A
column is recognised by its name: frequency (`freq/Hz`, `Frequency (Hz)`), real and imaginary part (`Re(Z)/Ohm`, `Z'`, `Zre (ohms)`; `-Im(Z)`,
`Z''`, `Zim`, `Zimg`) or modulus and phase (`|Z|`, `Zmod`; `Phase(Z)/deg`), time, mean potential and current, number of the sweep. Units are read
from the names; without one ohm, Hz, s, V, A are meant, and degrees. What is not recognised, or not named, is told by `columns:`, name of the role ->
name of the column or its number counted from 1:

    columns: {frequency: 1, real: 2, imaginary: 3}

VersaStudio's `.par` names its columns behind `Definition=` in each `<Segment>`.

**Sign.** `-Im(Z)` and `-Z''` are what they say. Any other imaginary part is taken as written, unless it runs against the slope of the real part as
no causal spectrum can (see `operando.loaders.sweeps`); `imaginary: as_written` or `imaginary: negated` decides. The attribute
`imaginary_sign` says what was done.

**Time.** A start is read from VersaStudio's `DateAcquired`, `TimeAcquired` and from CH Instruments' first line: the computer's wall clock, no zone,
whole seconds. Other tables state none: give `start:`. Rows without a frequency (Parstat logs the cycling before a spectrum so) are no sweep.

**Output.** An eis series: `impedance` (time, point) ohm, `frequency`, `point_time`; `dc_voltage` V, `dc_current` A where there are such columns.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders.columns import HEAD_BYTES, Table, read_table, sniff, split_label, table_text
from operando.loaders.sweeps import Points, eis_series, signed, sweep_bounds
from operando.loaders.text import parse_local

TECHNIQUES = ("eis",)
VERSION = "1"

ROLES = ("frequency", "real", "imaginary", "modulus", "phase", "time", "voltage", "current", "sweep")
SIGNS = ("auto", "as_written", "negated")

_NAMES: dict[str, str] = {
    "frequency": r"freq(uency|uenz|\.)?|fr[ée]quence|f",
    "real": r"re(al)?[\s_]?\(?z\)?|z[\s_]?\(?re(al)?\)?|z'|z[\s_]?prime|re",
    "imaginary": r"-?\s?(im(ag)?[\s_]?\(?z\)?|z[\s_]?\(?im(g|ag)?\)?|z''|z\"|z[\s_]?double[\s_]?prime|im)",
    "modulus": r"\|z\||z[\s_]?mod(ulus)?|abs[\s_]?\(?z\)?|impedance modulus|z",
    "phase": r"-?\s?phase([\s_]?\(?z\)?)?|z[\s_]?phz|theta|phase[\s_]angle|arg[\s_]?\(?z\)?",
    "time": r"(elapsed|test)?[\s_]?time|t",
    "voltage": r"<?ewe>?|<?ecell>?|e|potential|v[\s_]?dc|voltage|dc[\s_]potential",
    "current": r"<?i>?|i[\s_]?dc|current|dc[\s_]current",
    "sweep": r"loop[\s_]?(index|number)?|sweep([\s_]?(index|number))?|spectrum([\s_]?(index|number))?|segment #?",
}
_UNITS: dict[str, dict[str | None, float]] = {
    "frequency": {None: 1.0, "Hz": 1.0, "kHz": 1e3, "MHz": 1e6},
    "ohm": {None: 1.0, "ohm": 1.0, "mohm": 1e-3, "kohm": 1e3, "Mohm": 1e6},
    "phase": {None: 1.0, "deg": 1.0, "rad": 180 / np.pi, "mrad": 0.18 / np.pi},
    "time": {None: 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0},
    "voltage": {None: 1.0, "V": 1.0, "mV": 1e-3},
    "current": {None: 1.0, "A": 1.0, "mA": 1e-3, "uA": 1e-6, "nA": 1e-9},
    "sweep": {None: 1.0, "1": 1.0},
}
_CHI_STAMPS = ("%b. %d, %Y %H:%M:%S", "%B %d, %Y %H:%M:%S", "%b %d, %Y %H:%M:%S")
_VERSA_STAMPS = ("%A, %B %d, %Y %I:%M:%S %p", "%A, %B %d, %Y %H:%M:%S", "%A, %d %B %Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p")


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether a table names a frequency and an impedance."""
    try:
        if Path(path).suffix.lower() not in (".csv", ".txt", ".tsv", ".dat", ".asc", ".par", ".z"):
            return None
        text = table_text(path, limit=HEAD_BYTES)
        if text.startswith(("EXPLAIN", "EC-Lab ASCII", "BT-Lab ASCII", "ZPLOT2")):
            return None
        if "<Segment1>" in text and "Definition=" in text:
            names = re.search(r"^Definition=(.*)$", text, re.MULTILINE)
            told = {role for label in names[1].split(",") if (role := _role(label.strip()))} if names else set()
            return "impedance, VersaStudio" if {"frequency", "real", "imaginary"} <= told else None
        found = {role for label in sniff(text, path).names if (role := _role(label))}
        complete = "frequency" in found and ({"real", "imaginary"} <= found or {"modulus", "phase"} <= found)
        return "impedance, named columns" if complete else None
    except LoaderError:
        return None


def load(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, Any] | None = None,
    imaginary: str = "auto",
    separator: str | None = None,
    decimal: str | None = None,
) -> xr.Dataset:
    """Read impedance from a table.

    Parameters
    ----------
    columns
        Role -> column, by its name or its number from 1. Roles: frequency, real, imaginary, modulus, phase, time, voltage, current, sweep.
    imaginary
        Sign of the imaginary part, or of the phase: `auto`, `as_written` (negative for a capacitance), or `negated` (the table holds -Im Z).
    separator, decimal
        Where they are not found out: one character, or `blank`; `.` or `,`.

    Returns
    -------
    xarray.Dataset
        An eis series.

    Raises
    ------
    LoaderError
        No table, no column of frequencies or impedances, a unit that is none of theirs, or no sweep.
    """
    path = Path(path)
    if imaginary not in SIGNS:
        raise LoaderError("imaginary is not known", file=path, found=repr(imaginary), expected=", ".join(SIGNS))
    wrong = [role for role in columns or {} if role not in ROLES]
    if wrong:
        raise LoaderError("columns: names a role that is none", file=path, found=", ".join(map(str, wrong)), expected=", ".join(ROLES))
    text = table_text(path)
    if "<Segment1>" in text and "Definition=" in text:
        tables = _versastudio(text, path)
        start = _first(_VERSA_STAMPS, f"{_value(text, 'DateAcquired')} {_value(text, 'TimeAcquired')}")
        instrument = f"Princeton Applied Research {_value(text, 'Model')}".strip()
    else:
        tables = [read_table(path, separator=separator, decimal=decimal)]
        first = re.sub(r"\s+", " ", text.lstrip().split("\n", 1)[0]).strip()
        start = _first(_CHI_STAMPS, first) if "A.C. Impedance" in text[:400] else None
        model = re.search(r"^Instrument Model:\s*(\S.*)$", text[:4000], re.MULTILINE)
        instrument = model[1].strip() if model else ""
    found = [_taken(table, columns or {}, path) for table in tables]
    roles = set.intersection(*(set(one) for one in found))
    data = {role: np.concatenate([one[role][0] for one in found]) for role in roles}
    frequency = data["frequency"]
    number = np.repeat(np.arange(len(found)), [one["frequency"][0].size for one in found])
    if "sweep" in data:
        number = number * 10**6 + np.unique(np.nan_to_num(data["sweep"]), return_inverse=True)[1]
    frequency = np.where(np.isfinite(frequency), frequency, 0.0)
    bounds = sweep_bounds(frequency, number)
    if frequency.size >= 10 and len(bounds) > 1 and np.median([b - a for a, b in bounds]) < 5 and "sweep" not in data:
        raise LoaderError(
            "the frequencies are in no order",
            file=path,
            found=", ".join(f"{f:.4g}" for f in frequency[:6]) + " ... Hz",
            expected="sweeps from high to low frequency, or from low to high",
            hint="sort the rows, or name the column that numbers the sweeps: columns: {sweep: NAME}",
        )
    if {"real", "imaginary"} <= roles:
        label = found[0]["imaginary"][1]
        impedance, sign = _with_sign(imaginary, label, frequency, data["real"], data["imaginary"], number)
    else:
        minus = found[0]["phase"][1].strip().startswith("-") if imaginary == "auto" else imaginary == "negated"
        impedance = data["modulus"] * np.exp((-1j if minus else 1j) * np.radians(data["phase"]))
        sign = "that of the phase, negated" if minus else "that of the phase"
    elapsed = data.get("time")
    if elapsed is not None and not (np.isfinite(elapsed).all() and (np.diff(elapsed) >= 0).all() and elapsed[-1] > elapsed[0]):
        elapsed = None
    further = {
        name: (data[role], unit, {"long_name": words})
        for name, role, unit, words in (
            ("dc_voltage", "voltage", "V", "potential of the row"),
            ("dc_current", "current", "A", "current of the row"),
        )
        if role in data
    }
    points = Points(
        frequency, impedance, elapsed=elapsed, number=number, further=further, interrupted=any("half-written" in n for t in tables for n in t.notes)
    )
    return eis_series(
        path,
        points,
        start=None if start is None else np.datetime64(start, "ns"),
        time_uncertainty=0.0 if start is None else 1.0,
        attrs={"instrument": instrument or "impedance table", "imaginary_sign": sign},
    )


def _role(label: str) -> str | None:
    """Say what a column holds by its name; None for anything else."""
    name = split_label(label)[0].strip().lower().replace("\u2032\u2032", "''").replace("\u2033", "''").replace("\u2032", "'")
    name = re.sub(r"\s+", " ", name)
    return next((role for role, pattern in _NAMES.items() if re.fullmatch(pattern, name)), None)


def _taken(table: Table, told: Mapping[str, Any], path: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Values in canonical units and label of each role that has a column."""
    labels = table.layout.names
    chosen: dict[str, int] = {}
    for role, column in told.items():
        if isinstance(column, int) and not isinstance(column, bool):
            place = column - 1
            known = 0 <= place < len(labels)
        else:
            stripped = [label.strip() for label in labels]
            known = str(column) in stripped
            place = stripped.index(str(column)) if known else -1
        if not known:
            raise LoaderError(
                f"columns: no column {column!r} for {role}", file=path, found=", ".join(f"{i}: {n}" for i, n in enumerate(labels, 1))[:400]
            )
        chosen[role] = place
    named = {} if {"frequency", "real", "imaginary"} <= set(told) else {i: _role(label) for i, label in enumerate(labels)}
    for i, recognised in named.items():
        if recognised and recognised not in chosen and i not in chosen.values():
            chosen[recognised] = i
    if "frequency" not in chosen or not ({"real", "imaginary"} <= set(chosen) or {"modulus", "phase"} <= set(chosen)):
        missing = "frequencies" if "frequency" not in chosen else "impedances"
        raise LoaderError(
            f"no column of {missing} is recognised",
            file=path,
            found=", ".join(f"{i}: {n}" for i, n in enumerate(labels, 1))[:400],
            expected="frequency, with real and imaginary part or modulus and phase",
            hint="say which it is: columns: {frequency: 1, real: 2, imaginary: 3} (numbers from 1, or names)",
        )
    return {role: (_column(table, place, role, path), labels[place]) for role, place in chosen.items()}


def _column(table: Table, place: int, role: str, path: Path) -> np.ndarray:
    import pandas as pd

    label = table.layout.names[place]
    unit = table.layout.units[place] or split_label(label)[1]
    kind = "ohm" if role in ("real", "imaginary", "modulus") else role
    factors = _UNITS[kind]
    if unit not in factors:
        raise LoaderError(f"column {label!r} has a unit that is none of a {role}", file=path, found=unit, expected=", ".join(filter(None, factors)))
    column = table.frame.iloc[:, place]
    if column.dtype.kind not in "iuf":
        numbers = pd.to_numeric(column.astype(str).str.strip().str.replace(table.layout.decimal, ".", regex=False), errors="coerce")
        bad = numbers.isna() & column.notna() & (column.astype(str).str.strip() != "")
        if bad.all() and len(bad):
            raise LoaderError(f"column {label!r} holds no numbers", file=path, found=str(column.iloc[0])[:40])
        column = numbers  # a mark of overload among numbers is a point without a value
    return np.asarray(column, float) * factors[unit]


def _with_sign(imaginary: str, label: str, frequency: np.ndarray, real: np.ndarray, values: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, str]:
    if imaginary == "as_written":
        return real + 1j * values, "as written, as configured"
    if imaginary == "negated":
        return real - 1j * values, "negated, as configured"
    if label.strip().startswith("-"):
        return real - 1j * values, f"negated, by its name {label.strip()!r}"
    return signed(frequency, real, values, sweep_bounds(frequency, number))


def _versastudio(text: str, path: Path) -> list[Table]:
    """Make a table of each segment of a .par file that holds a spectrum."""
    tables = []
    for block in re.findall(r"<Segment\d+>\n(.*?)(?:</Segment\d+>|\Z)", text, re.DOTALL):
        lines = block.strip("\n").split("\n")
        named = next((k for k, line in enumerate(lines) if line.startswith("Definition=")), None)
        if named is None or "Frequency" not in lines[named]:
            continue
        names = [name.strip() for name in lines[named].partition("=")[2].split(",")]
        rows = [line for line in lines[named + 1 :] if line.strip()]
        if not rows:
            continue
        width = rows[0].count(",") + 1
        names = (names + [f"further {k}" for k in range(width)])[:width]
        tables.append(read_table(path, separator=",", decimal=".", text="\n".join([",".join(names), *rows]) + "\n"))
    if not tables:
        raise LoaderError("no spectrum in it", file=path, expected="a segment whose Definition names a frequency")
    return tables


def _value(text: str, key: str) -> str:
    found = re.search(rf"^{key}=(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _first(formats: tuple[str, ...], text: str) -> dt.datetime | None:
    return parse_local(re.sub(r"\s+", " ", text).strip(), formats)
