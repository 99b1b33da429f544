"""Impedance in Gamry Framework's files (.DTA).

**Bytes.** Text, latin-1 or UTF-8, fields separated by tabs, decimal point or comma as the computer has it. Line 1 `EXPLAIN`; then statements
`KEY<tab>TYPE<tab>VALUE<tab>words`, and tables: `NAME<tab>TABLE[<tab>rows]`, a line of names, a line of units, one line per record, each
beginning with a tab. The spectrum is the table `ZCURVE` (further ones: `ZCURVE1` ...), with `Freq`, `Zreal`, `Zimag` (signed: negative for a
capacitance) or `Zmod`, `Zphz`; `Time`, `Vdc`, `Idc`.

**Time.** `DATE` and `TIME` are the wall clock of the computer when the script began, without a zone; the day's place in the date is the
computer's (month first unless that cannot be). `Time` counts from the begin of the spectrum. Between the two lies the open-circuit table
`OCVCURVE`, if there is one: its last time is added. What else the script did before (conditioning) is not in the file: the stamp is taken as
good to 1 s, or to 1 ms where `TIME` has fractions and there is no `OCVCURVE`.

**Interrupted.** `EXPERIMENTABORTED` that is set, or a table whose last line was cut: the last sweep. Marks in a column `Over` (anything but
dots): SATURATED.

**Output.** An eis series: `impedance` (time, point) ohm, `frequency`, `point_time`; `dc_voltage` V, `dc_current` A. Statements are kept as
written in the attribute `claims` (JSON). Files of other experiments (cycling, voltammetry) are refused by name.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import xarray as xr

from operando.contract import LoaderError, Quality
from operando.loaders.biologic import read_stamp
from operando.loaders.sweeps import Points, eis_series
from operando.loaders.text import read_text

TECHNIQUES = ("eis",)
VERSION = "1"

_FACTORS = {"ohm": 1.0, "kohm": 1e3, "mohm": 1e-3, "Mohm": 1e6, "Hz": 1.0, "kHz": 1e3, "s": 1.0, "V": 1.0, "mV": 1e-3, "A": 1.0, "mA": 1e-3}


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether this is a Gamry file with a spectrum."""
    try:
        text = read_text(path, limit=262144)
    except LoaderError:
        return None
    if not text.startswith("EXPLAIN") or not re.search(r"^ZCURVE\d*\tTABLE", text, re.MULTILINE):
        return None
    return "Gamry impedance"


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read the spectra of one .DTA file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    xarray.Dataset
        An eis series, times as written.

    Raises
    ------
    LoaderError
        Not such a file, one without a spectrum, or a line that is broken.
    """
    path = Path(path)
    text = read_text(path)
    if not text.startswith("EXPLAIN"):
        raise LoaderError("not a Gamry file", file=path, found=repr(text[:40]), expected="'EXPLAIN' in line 1")
    lines = text.split("\n")
    statements, tables = _split(lines, whole=text.endswith("\n"))
    spectra = [table for table in tables if re.fullmatch(r"ZCURVE\d*", table.name)]
    if not spectra:
        tag = statements.get("TAG", "unknown")
        raise LoaderError(
            "no spectrum in it",
            file=path,
            found=f"experiment {tag}, tables {', '.join(t.name for t in tables) or 'none'}",
            expected="a table ZCURVE",
            hint="this loader reads impedance only",
        )
    pieces = [_points(table, lines, path) for table in spectra]
    rest = [t for t in tables if t.name == "OCVCURVE"]
    waited = _last_time(rest[0], lines, path) if rest else 0.0
    start = read_stamp(f"{statements.get('DATE', '')} {statements.get('TIME', '')}")
    joined = {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0] if all(name in p for p in pieces)}
    further = {
        name: (joined[name], unit, {"long_name": words})
        for name, unit, words in (
            ("dc_voltage", "V", "mean voltage while a frequency was measured"),
            ("dc_current", "A", "mean current while a frequency was measured"),
        )
        if name in joined
    }
    aborted = statements.get("EXPERIMENTABORTED", "F").upper().startswith("T")
    points = Points(
        joined["frequency"],
        joined["impedance"],
        elapsed=joined["time"] + waited if "time" in joined else None,
        number=np.repeat(np.arange(len(pieces)), [p["frequency"].size for p in pieces]),
        further=further,
        quality=joined["quality"].astype(np.int32),
        interrupted=aborted or spectra[-1].cut,
    )
    fraction = "." in statements.get("TIME", "") or "," in statements.get("TIME", "")
    return eis_series(
        path,
        points,
        start=start,
        time_uncertainty=0.0 if start is None else 1e-3 if fraction and not rest else 1.0,
        attrs={
            "instrument": f"Gamry {statements.get('PSTAT', '')}".strip(),
            "technique_name": statements.get("TITLE", statements.get("TAG", "EIS")),
            "claims": json.dumps(statements, ensure_ascii=False),
        },
    )


class _Table:
    """Where a table stands: its names, units, and the lines of its records."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: list[str] = []
        self.units: list[str] = []
        self.first = self.last = 0
        self.cut = False


def _split(lines: list[str], *, whole: bool) -> tuple[dict[str, str], list[_Table]]:
    statements: dict[str, str] = {}
    tables: list[_Table] = []
    k = 0
    while k < len(lines):
        fields = lines[k].split("\t")
        if len(fields) > 1 and fields[1].strip() == "TABLE":
            table = _Table(fields[0].strip())
            below = k + 1
            while below < len(lines) and lines[below].startswith("\t"):
                below += 1
            if below - k > 2:
                table.names = [f.strip() for f in lines[k + 1].split("\t")[1:]]
                table.units = [f.strip() for f in lines[k + 2].split("\t")[1:]]
            table.first, table.last = k + 3, below
            at_end = below >= len(lines) - (1 if whole else 0)
            if at_end and below - 1 > table.first and lines[below - 1].count("\t") < lines[below - 2].count("\t"):
                table.cut, table.last = True, below - 1
            elif at_end and not whole and below > table.first:
                table.cut, table.last = True, below - 1  # the last number may have lost digits
            tables.append(table)
            k = below
            continue
        if len(fields) >= 3 and fields[0].strip() and len(fields[0]) < 40:
            statements.setdefault(fields[0].strip(), fields[2].strip()[:500])
        k += 1
    return statements, tables


def _columns(table: _Table, lines: list[str], path: Path) -> dict[str, np.ndarray]:
    """Columns as text, by name."""
    rows = [line.split("\t")[1:] for line in lines[table.first : table.last]]
    if not table.names or not rows:
        raise LoaderError(f"no records yet in the table {table.name}", file=path, found=f"{len(rows)} lines", hint="wait until it has run")
    width = len(table.names)
    for number, row in enumerate(rows, start=table.first + 1):
        if len(row) < width and any(f.strip() for f in row[len(row) :] or [""]) or len(row) < min(4, width):
            raise LoaderError(f"line {number} has {len(row)} fields, not {width}", file=path, found=lines[number - 1][:80])
    return {name: np.array([row[i].strip() if i < len(row) else "" for row in rows], dtype=object) for i, name in enumerate(table.names) if name}


def _numbers(table: _Table, columns: dict[str, np.ndarray], name: str, path: Path, *, to: str = "") -> np.ndarray | None:
    if name not in columns:
        return None
    try:
        values = np.array([float(text.replace(",", ".")) if text else np.nan for text in columns[name]])
    except ValueError as error:
        raise LoaderError(f"a field of the column {name} is not a number", file=path, found=str(error)[:80]) from None
    unit = table.units[table.names.index(name)] if table.names.index(name) < len(table.units) else ""
    return values * _FACTORS.get(unit, 1.0) if to else values


def _points(table: _Table, lines: list[str], path: Path) -> dict[str, np.ndarray]:
    columns = _columns(table, lines, path)

    def numbers(name: str) -> np.ndarray | None:
        return _numbers(table, columns, name, path, to="SI")

    frequency, real, imaginary = numbers("Freq"), numbers("Zreal"), numbers("Zimag")
    size, phase = numbers("Zmod"), numbers("Zphz")
    if frequency is None or ((real is None or imaginary is None) and (size is None or phase is None)):
        raise LoaderError(
            f"the table {table.name} lacks a column", file=path, found=", ".join(columns), expected="Freq with Zreal and Zimag, or Zmod and Zphz"
        )
    if real is not None and imaginary is not None:
        impedance = real + 1j * imaginary
    else:
        assert size is not None
        assert phase is not None
        impedance = size * np.exp(1j * np.radians(phase))
    out = {"frequency": frequency, "impedance": impedance}
    for name, column in (("time", "Time"), ("dc_voltage", "Vdc"), ("dc_current", "Idc")):
        values = numbers(column)
        if values is not None and np.isfinite(values).all():
            out[name] = values
    over = columns.get("Over", np.array([""] * frequency.size, dtype=object))
    out["quality"] = np.array([int(Quality.SATURATED) if text.strip(". ") not in ("", "a") else 0 for text in over])
    return out


def _last_time(table: _Table, lines: list[str], path: Path) -> float:
    """Seconds that the table lasted."""
    columns = _columns(table, lines, path)
    values = _numbers(table, columns, "T", path)
    known = values[np.isfinite(values)] if values is not None else np.empty(0)
    return float(known[-1]) if known.size else 0.0
