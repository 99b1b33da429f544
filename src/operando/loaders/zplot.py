"""Impedance in the .z files of Scribner's ZPlot and what other programs write like them (Autolab's FRA and NOVA: `Z60W Data File`).

**Bytes.** Text. `ZPLOT2 ASCII`: settings as `name: value`, up to `End Comments`. `ZPlotW Data File` and `Z60W Data File` (in quotation marks):
ten lines of comments. In both, a line of names `Freq(Hz) Ampl Bias Time(Sec) Z'(a) Z''(b) GD Err Range`, and below (below `End Comments`, where there
is one) one line per point, separated by tabs or commas. `Z'(a)`, `Z''(b)` are real and imaginary part in ohm, signed: negative for a
capacitance.

**Time.** `Date:` and `Time:` of the begin, the computer's wall clock, no zone, whole seconds; month first unless that cannot be. `Time(Sec)`
counts from there; files that hold zeros there have no times of the points.

**Interrupted.** Fewer points than the file announces (`Data Points:`, or the number above the line of names).

**Output.** An eis series: `impedance` (time, point) ohm, `frequency`, `point_time`; `dc_voltage` (V: `Bias`), `amplitude`, `error` (the
program's code of each point, 0 for none).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders.biologic import read_stamp
from operando.loaders.sweeps import Points, eis_series
from operando.loaders.text import read_numbers, read_text

TECHNIQUES = ("eis",)
VERSION = "1"

_FIRST = re.compile(r'\s*"?\s*(ZPLOT2 ASCII|ZPlotW? Data File|Z60W? Data File)', re.IGNORECASE)
_NAMES = re.compile(r"Freq\s*\(Hz\).*Z'\s*\(a\).*Z''\s*\(b\)", re.IGNORECASE)
_COLUMNS = ("Freq", "Ampl", "Bias", "Time", "Z'", "Z''", "GD", "Err", "Range")


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether this is a ZPlot file, by its first line."""
    try:
        found = _FIRST.match(read_text(path, limit=4096))
    except LoaderError:
        return None
    return f"impedance, {found[1]}" if found else None


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read one .z file.

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
        Not such a file, no points, or a line that is broken.
    """
    path = Path(path)
    text = read_text(path)
    kind = _FIRST.match(text)
    if kind is None:
        raise LoaderError("not a ZPlot file", file=path, found=repr(text[:40]), expected="'ZPLOT2 ASCII', 'ZPlotW Data File' or 'Z60W Data File'")
    lines = text.split("\n")
    named = next((k for k, line in enumerate(lines) if _NAMES.search(line)), None)
    if named is None:
        raise LoaderError("no line of column names", file=path, found=f"{len(lines)} lines", expected="Freq(Hz) ... Z'(a) Z''(b)")
    ended = next((k for k in range(named, min(named + 400, len(lines))) if lines[k].strip().lower() == "end comments"), named)
    body = "\n".join(lines[ended + 1 :]).strip("\n")
    if not body.strip():
        raise LoaderError("no points yet", file=path, hint="wait until it has run")
    head = "\n".join(lines[:named])
    separator = "\t" if "\t" in body.split("\n", 1)[0] else ","
    decimal = "," if separator == "\t" and "," in body else "."
    rows = body.split("\n")
    cut = len(rows) > 1 and rows[-1].count(separator) < rows[-2].rstrip(separator).count(separator)
    values = read_numbers("\n".join(rows[:-1] if cut else rows), path, separator=separator, decimal=decimal, columns=_COLUMNS, first_line=ended + 2)
    column = dict(zip(_COLUMNS, values.T, strict=True))
    frequency, elapsed = column["Freq"], column["Time"]
    announced = _announced(head, lines[:named])
    date, clock = re.search(r"\bDate:\s*([\d\-/.]+)", head), re.search(r"\bTime:\s*(\d+:\d+:\d+(?:\s*[AP]M)?)", head, re.IGNORECASE)
    start = read_stamp(f"{date[1]} {clock[1]}") if date and clock else None
    timed = np.isfinite(elapsed).all() and (np.diff(elapsed) >= 0).all() and elapsed[-1] > elapsed[0]
    points = Points(
        frequency,
        column["Z'"] + 1j * column["Z''"],
        elapsed=elapsed if timed else None,
        further={
            "dc_voltage": (column["Bias"], "V", {"long_name": "bias"}),
            "amplitude": (column["Ampl"], "1", {"long_name": "amplitude, in the unit of what was controlled"}),
            "error": (column["Err"], "1", {"long_name": "the program's error code; 0 for none"}),
        },
        interrupted=cut or (announced is not None and int((frequency > 0).sum()) < announced),
    )
    settings = {m[1].strip(): m[2].strip() for line in lines[:named] if (m := re.match(r"\s*([^:]{1,60}):\s+(.*\S)", line))}
    return eis_series(
        path,
        points,
        start=start,
        time_uncertainty=0.0 if start is None else 1.0,
        attrs={
            "instrument": "ZPlot" if "ZPLOT" in kind[1].upper() else "Z60W (Autolab and others)",
            "technique_name": settings.get("Experiment Type", "EIS"),
            "claims": json.dumps(settings, ensure_ascii=False),
        },
    )


def _announced(head: str, lines: list[str]) -> int | None:
    """Points the file says it has."""
    said = re.search(r"Data Points:\s*(\d{1,7})\b", head)
    if said:
        return int(said[1])
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return int(last) if re.fullmatch(r"\d{1,7}", last) else None
