r"""One diffraction pattern per text file: .xy, .xye, .dat, .chi, .csv, GSAS .fxye.

What the bytes mean
-------------------
Two or three columns (axis, intensity, standard error of the intensity) under any header, separated by blanks, tabs, commas
or semicolons, with decimal point or comma. Four layouts have more to say and are recognised by their header:

- fit2d `.chi`: title, axis label, intensity label, number of points; the count is checked.
- `start step end` in a header line, then the intensities alone, several per line (Philips PW3710 ASCII, FullProf free
  format, DBWS): recognised when exactly (end - start) / step + 1 numbers follow.
- GSAS `BANK ... CONS ... FXYE`: the axis is in hundredths of a degree; the count is checked.
- 11-BM headers (`Scan time = APR 12, 2017 01:23:16.472073`, `Calibrated wavelength = ...`).

The axis
--------
Option `axis`: `two_theta` or `theta` (degrees), `q` (1/angstrom), `q_nm` (1/nm), `d` (angstrom). By default it is taken from the
label over the column (`2th_deg`, `2-Theta Angle (Degrees)`, `q_nm^-1`, `q_A^-1` ...), else from a header that speaks of 2theta.
A column labelled just `theta` is read as two_theta, because that is what powder diffractometers export under that name
(`axis: theta` doubles it). Without any label `.xy` and `.xye` hold two_theta by custom, and so does anything that reaches
beyond 60 but not beyond 180. Everything else is refused with the option's name: 2 to 5 may be degrees or q.

Where the time comes from
-------------------------
The 11-BM and PW3710 headers (local time of the instrument, no zone), or options `header_time` (regular expression with the
group `start`), `time_format`, `header_exposure`, `header_end`. Otherwise the file holds no time and the source's
options (`start:`, `name_pattern:`, `times_from:`, `mtime:`) give it. 11-BM's stamp is taken as the start of the scan; exposure is
number of steps x time per step, in both.

What is assumed
---------------
A wavelength without a unit in a header is in angstrom. Where a header gives the K-alpha doublet, q is that of K-alpha 1; K-alpha 2
and the ratio are attributes. A third column is the standard error unless its label says otherwise.

Output
------
`intensity(time, q)` with `two_theta(q)` kept, where the wavelength is known (option `wavelength`, `0.4133 angstrom` or `30 keV`, or the
header); `intensity(time, two_theta)` where it is not; `intensity_errors` linked. Numbers written as integers stay integers.

Options
-------
axis, wavelength
    See above.
x_column, intensity_column, errors_column
    Label or number (from 1); `errors_column: none` ignores a third column.
header_time, time_format, header_exposure, header_end
    Regular expressions and `strptime` format.
header_values
    Name -> regular expression or {pattern, units}: kept as a coordinate of the frame, e.g.
    `{temperature: {pattern: 'Temp .K. =\s*([-\d.]+)', units: K}}`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, series
from operando.loaders.diffraction import diffraction_axis, intensity_variables, wavelength_angstrom
from operando.loaders.spectrum_text import Columns, HeaderTimes, header_numbers, header_times, read_columns, resolution
from operando.loaders.text import parse_local, read_text

TECHNIQUES = ("xrd",)
VERSION = "1"

_TWO_THETA = re.compile(r"(?<![a-z])(2[\s_-]*th(eta)?|two[\s_-]*theta|t?tth|ttheta|2\s*θ|2θ|diffraction angle)", re.IGNORECASE)
_Q = re.compile(r"(?<![a-z*])q(?![a-z])", re.IGNORECASE)
_D = re.compile(r"(?<![a-z])d([\s_-]*spacing|[\s_]*\[?\(?(a|å|angstrom)\b|$)", re.IGNORECASE)
_PER_NM = re.compile(r"nm\s*\^?[-⁻]\s*[1¹]|1\s*/\s*nm|inverse\s*n|nm\^\{-1\}", re.IGNORECASE)
_PER_ANGSTROM = re.compile(r"(å|\ba|_a|angstroms?|\(a|\[a)\s*\^?\{?[-⁻]\s*[1¹]|1\s*/\s*(å|a)|inverse\s*(a|å)", re.IGNORECASE)
_RADIANS = re.compile(r"_rad\b|\brad(ian)?s?\b", re.IGNORECASE)
_ERROR = re.compile(r"sig|err|esd|std|unc|^d[iy]$|^e$|^ey$|^±$", re.IGNORECASE)
_GRID = re.compile(r"\s*(-?\d+\.?\d*)[\s,]+(\d*\.?\d+)[\s,]+(-?\d+\.?\d*)(?:[\s,]+(.*))?$")
_BANK = re.compile(r"BANK\s+\d+\s+(\d+)\s+(\d+)\s+(\w+)\s+\S+\s+\S+.*?(\w+)\s*$", re.IGNORECASE)
_OTHER_SERIES = (".gr", ".iq", ".sq", ".fq", ".chik", ".xmu", ".xdi", ".nor", ".prj")


def load(
    path: str | os.PathLike[str],
    *,
    axis: str | None = None,
    wavelength: str | None = None,
    x_column: str | int | None = None,
    intensity_column: str | int | None = None,
    errors_column: str | int | None = None,
    header_time: str | None = None,
    time_format: str | Sequence[str] | None = None,
    header_exposure: str | None = None,
    header_end: str | None = None,
    header_values: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Read one pattern; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of one frame.

    Raises
    ------
    LoaderError
        Not a pattern, an axis that cannot be told, or a count that does not fit.
    """
    path = Path(path)
    text = read_text(path)
    lines = text.split("\n")
    grid = _read_grid(lines, path)
    errors: np.ndarray | None = None
    extra: dict[str, tuple[Any, ...]] = {}
    note = ""
    units: str | None = None
    if grid is not None:
        header, x, intensity = grid
        found_axis = axis or "two_theta"
        counts_label = ""
    else:
        block, gsas = _read_block(text, lines, path)
        header = block.header
        ix, iy, ie = _pick(block, path, x_column, intensity_column, errors_column)
        x, intensity = block.values[:, ix], block.numbers(iy)
        if ie is not None:
            errors = block.values[:, ie]
            if (errors < 0).any():
                raise LoaderError(
                    "the errors are negative", file=path, found=float(np.nanmin(errors)), hint="name their column, or errors_column: none"
                )
        if gsas:
            x = x / 100.0
        counts_label = block.labels[iy] if block.labels else ""
        if axis is not None:
            found_axis = axis
        elif gsas:
            found_axis = "two_theta"
        else:
            found_axis, units, note = _guess_axis(_axis_label(block, ix), header, x, path)
        for i in range(block.values.shape[1]):
            if i not in (ix, iy, ie) and block.labels:
                name = re.sub(r"\W+", "_", block.labels[i]).strip("_").lower() or f"column_{i + 1}"
                if errors_column != "none" and name not in ("intensity", "q", "two_theta", "time"):
                    extra[name] = (block.numbers(i), block.units[i] if block.units else "1")
    if not np.isfinite(intensity).any():
        raise LoaderError("no intensity is a number", file=path)

    attrs: dict[str, Any] = {}
    lam, doublet = _header_wavelength(header)
    attrs.update(doublet)
    if lam is not None:
        attrs["header_wavelength"] = lam
    if wavelength is not None:
        lam = wavelength_angstrom(wavelength, path)
    if lam is not None:
        attrs["wavelength"] = lam
        attrs["wavelength_units"] = "angstrom"
    if note:
        attrs["axis_assumed"] = note
    main, coords = diffraction_axis(found_axis, x, path, units=units, wavelength=lam)
    unit = "counts" if intensity.dtype.kind in "iu" or re.search(r"count(?!.*(/|per))", counts_label, re.IGNORECASE) else "1"
    variables = intensity_variables(intensity, errors, main, unit)
    for name, (values, its_units) in extra.items():
        variables[name] = (("time", main), values[None, :], its_units or "1")

    if header_time is not None:
        times = header_times(header, path, time=header_time, exposure=header_exposure, end=header_end, formats=time_format)
    else:
        times = _known_times(header, intensity.size)
    values = header_numbers(header, header_values, path)
    if title := _title(header):
        attrs["title"] = title
    return series(
        "xrd",
        variables,
        source=path,
        coords={**coords, **values},
        start=times.start,
        exposure=times.exposure,
        time_origin="header" if times.start else None,
        time_uncertainty=times.uncertainty,
        attrs=attrs,
    )


def _read_grid(lines: list[str], path: Path) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Read `start step end` and the intensities on that grid; None if the file is no such thing."""
    for number, line in enumerate(lines[:40]):
        match = _GRID.match(line) if len(line) < 300 else None
        if match is None:
            continue
        start, step, end = (float(match.group(i)) for i in (1, 2, 3))
        words = bool(re.search(r"[A-Za-z]{2}", match.group(4) or ""))
        if not (step > 0 and end > start and end - start < 1e4 * step * 1e3 and abs(end) <= 180 and (words or not match.group(4))):
            continue
        expected = int(round((end - start) / step)) + 1
        body = " ".join(lines[number + 1 :]).replace(",", " ").split()
        if abs((end - start) / step + 1 - expected) > 0.01 or expected < 3:
            continue
        numbers = [word for word in body[: expected + 1] if re.fullmatch(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", word)]
        if len(body) != expected or len(numbers) != expected:
            if "steptime" in line.lower():
                raise LoaderError(
                    "the number of intensities does not fit the header (a half-written or shuffled file?)",
                    file=path,
                    found=f"{len(numbers) if len(numbers) < len(body) <= expected else len(body)} intensities",
                    expected=f"{expected} from {start:g} to {end:g} in steps of {step:g}",
                )
            continue
        integers = all(word.lstrip("+-").isdigit() for word in body)
        values = np.array([float(word) for word in body])
        return lines[: number + 1], start + step * np.arange(expected), values.astype(np.int64) if integers and abs(values).max() < 2**53 else values
    return None


def _read_block(text: str, lines: list[str], path: Path) -> tuple[Columns, bool]:
    """Read the columns; check the count of points where the header gives one; say whether it is a GSAS bank."""
    for number, line in enumerate(lines[:400]):
        match = _BANK.match(line.strip())
        if match is None:
            continue
        if match.group(3).upper() != "CONS" or match.group(4).upper() not in ("FXYE", "FXY"):
            raise LoaderError(
                "a GSAS bank of another kind",
                file=path,
                found=line.strip()[:80],
                expected="BANK ... CONS ... FXYE",
                hint="export it from GSAS-II as .xye",
            )
        block = read_columns("\n".join(lines[number + 1 :]), path, first_line=number + 2)
        block.header[:0] = lines[: number + 1]
        _check_count(block, int(match.group(1)[:12]), path)
        return block, True
    block = read_columns(text, path)
    filled = [line for line in block.header if line.strip()]
    if len(filled) >= 3 and re.fullmatch(r"\s*\d{1,9}(\s+\d+)?\s*", filled[-1]):
        _check_count(block, int(filled[-1].split()[0]), path)
    return block, False


def _check_count(block: Columns, expected: int, path: Path) -> None:
    if block.values.shape[0] != expected:
        raise LoaderError(
            "the number of points does not fit the header (a half-written file?)",
            file=path,
            found=f"{block.values.shape[0]} points",
            expected=expected,
        )


def _pick(block: Columns, path: Path, x: str | int | None, y: str | int | None, e: str | int | None) -> tuple[int, int, int | None]:
    """Choose the columns: the first three unless options say otherwise."""
    width = block.values.shape[1]
    if width > 3 and (x is None or y is None):
        raise LoaderError(
            "which columns are axis and intensity cannot be told",
            file=path,
            found=f"{width} columns" + (f": {', '.join(block.labels)}" if block.labels else ""),
            hint="give x_column: and intensity_column: (and errors_column:)",
        )
    ix = block.column(x, path, "x_column") if x is not None else 0
    iy = block.column(y, path, "intensity_column") if y is not None else 1
    if ix == iy:
        raise LoaderError("x_column: and intensity_column: are the same", file=path, found=f"column {ix + 1}")
    if e == "none":
        return ix, iy, None
    if e is not None:
        return ix, iy, block.column(e, path, "errors_column")
    if width == 3 and {ix, iy} == {0, 1} and (not block.labels or _ERROR.search(block.labels[2])):
        return ix, iy, 2
    return ix, iy, None


def _axis_label(block: Columns, index: int) -> str:
    """Give the words over the axis: in fit2d files the line two above the count, else the label."""
    filled = [line.strip() for line in block.header if line.strip()]
    if len(filled) >= 4 and re.fullmatch(r"\d{1,9}(\s+\d+)?", filled[-1]):
        return filled[-3]
    if block.labels:
        return " ".join([block.labels[index], block.units[index] if block.units else ""]).strip()
    return ""


def _label_axis(label: str) -> tuple[str, str | None] | None:
    """Tell the axis from its label: (axis, unit); None if it says nothing."""
    if _TWO_THETA.search(label):
        return "two_theta", "rad" if _RADIANS.search(label) else None
    if _Q.search(label):
        return ("q_nm", None) if _PER_NM.search(label) else ("q", None) if _PER_ANGSTROM.search(label) else ("q", "?")
    if _D.match(label.strip()):
        return "d", None
    if re.fullmatch(r"theta|angle|θ|theta\s*\(?deg\.?\)?|angle\s*\(?deg\.?\)?", label.strip(), re.IGNORECASE):
        return "two_theta", None
    return None


def _guess_axis(label: str, header: list[str], x: np.ndarray, path: Path) -> tuple[str, str | None, str]:
    """Tell the axis, or refuse.

    Returns
    -------
    tuple
        Axis, its unit if not the usual one, and what was assumed ("" if the file says so itself).
    """
    refused = LoaderError(
        "what the axis is cannot be told",
        file=path,
        found=f"{f'label {label!r}, ' if label else 'no label, '}values {np.nanmin(x):g} to {np.nanmax(x):g}",
        expected="two_theta in degrees, q in 1/angstrom (q) or 1/nm (q_nm), or d in angstrom",
        hint="say it with axis: two_theta | theta | q | q_nm | d",
    )
    told = _label_axis(label)
    if told is not None:
        name, units = told
        if units == "?":
            raise refused
        return name, units, "the column labelled theta holds two_theta" if re.match(r"theta|θ", label.strip(), re.IGNORECASE) else ""
    if _TWO_THETA.search("\n".join(header)):
        return "two_theta", None, ""
    reach = float(np.nanmax(np.abs(x))) if np.isfinite(x).any() else math.inf
    if path.suffix.lower() in (".xy", ".xye") and reach <= 180:
        return "two_theta", None, f"{path.suffix} without a label holds two_theta"
    if 60 < reach <= 180 and not label:
        return "two_theta", None, "no other axis of a pattern runs from below 60 to between 60 and 180"
    raise refused


def _header_wavelength(header: list[str]) -> tuple[float | None, dict[str, Any]]:
    """Find a wavelength (angstrom) in the header; the K-alpha doublet as attributes."""
    text = "\n".join(header)
    pair = re.search(r"Alpha1\s+([\d.]+)\s+Alpha2\s+([\d.]+)(?:\s+Ratio\s+([\d.]+))?", text, re.IGNORECASE)
    try:
        if pair:
            attrs = {"wavelength_k_alpha_2": float(pair.group(2)), "wavelength_of": "K-alpha 1"}
            if pair.group(3):
                attrs["ratio_k_alpha_2"] = float(pair.group(3))
            lam = float(pair.group(1))
            return (lam, attrs) if 0.01 <= lam <= 100 else (None, {})
        match = re.search(
            r"\b(?:wave[\s_]?length|lambda)\b[^\d\n]{0,20}?[:=\s]\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(m|nm|pm|a|å|angstroms?)?\b", text, re.IGNORECASE
        )
        if match is None:
            return None, {}
        factor = {"m": 1e10, "nm": 10.0, "pm": 0.01}.get((match.group(2) or "a").lower(), 1.0)
        lam = float(f"{float(match.group(1)) * factor:.12g}")  # 4.066e-11 m is 0.4066, not 0.40659999999999996
    except ValueError:
        return None, {}
    return (lam, {}) if 0.01 <= lam <= 100 else (None, {})


def _known_times(header: list[str], n: int) -> HeaderTimes:
    """Read the stamps of the headers this loader knows; nothing found is no fault."""
    text = "\n".join(header)
    for pattern, formats, per_step, steps in (
        (
            r"Scan time\s*=\s*(\w{3} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d(?:\.\d{1,6})?)",
            ("%b %d, %Y %H:%M:%S.%f", "%b %d, %Y %H:%M:%S"),
            r"Time per step \(sec\)\s*=\s*([\d.]+)",
            r"No\. steps\s*=\s*(\d+)",
        ),
        (r"MeasureDateTime\s+(\d{1,2}/\d{1,2}/\d{4}\s+\d{1,2}:\d\d)", ("%d/%m/%Y %H:%M",), r"StepTime\s+([\d.]+)", None),
    ):
        match = re.search(pattern, text, re.IGNORECASE)
        stamp = parse_local(" ".join(match.group(1).split()), formats) if match else None
        if match is None or stamp is None:
            continue
        seconds = re.search(per_step, text, re.IGNORECASE)
        count = re.search(steps, text, re.IGNORECASE) if steps else None
        try:
            exposure = float(seconds.group(1)) * (int(count.group(1)) if count else n) if seconds and (count or not steps) else math.nan
        except (ValueError, OverflowError):
            exposure = math.nan
        return HeaderTimes(stamp.isoformat(), exposure if exposure < 1e8 else math.nan, resolution(match.group(1)))
    return HeaderTimes()


def _title(header: list[str]) -> str:
    """Give the first words of the header."""
    for line in header[:5]:
        words = re.sub(r"^[\s#;%!'\"/*]+", "", line).strip()
        if re.search(r"[A-Za-z]{3}", words):
            return words[:120]
    return ""


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if its extension and numbers, or its header, show a powder pattern."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _OTHER_SERIES:
        return None
    try:
        text = read_text(path, limit=65536)
        head = text[:4000]
        if re.search(r"\b[FSG]\([QqRr]\)|\bchi\(k\)|Raman|absorbance|Ewe/V", head):
            return None
        lines = text.split("\n")
        if any(_BANK.match(line.strip()) for line in lines[:400]):
            return "GSAS powder pattern (FXYE)" if re.search(r"CONS.*FXYE?\s*$", head, re.MULTILINE | re.IGNORECASE) else None
        if re.search(r"MeasureDateTime.*StepTime", head):
            return "powder pattern, PW3710 ASCII"
        whole = path.stat().st_size <= 65536
        block = read_columns(text if whole else "\n".join(lines[:-1]), path)
        if block.values.shape[1] not in (2, 3) or block.values.shape[0] < 5:
            return None
        ascending = bool((np.diff(block.values[:, 0]) > 0).all() or (np.diff(block.values[:, 0]) < 0).all())
        if not ascending:
            return None
        low, high = float(block.values[:, 0].min()), float(block.values[:, 0].max())
        if low < -180 or high > 400:
            return None
        label = _axis_label(block, 0)
        told = _label_axis(label)
        if told is not None and told[1] != "?" and not (told[0] == "d"):
            return f"diffraction pattern over {told[0]}"
        if any(re.search(r"11bmb?_\d+|Calibrated wavelength", line) for line in block.header):
            return "powder pattern, 11-BM"
        if (
            suffix in (".xy", ".xye")
            and high <= 180
            and not (told is None and label and re.search(r"energy|shift|wavenumber|time|volt|\bk\b|\br\b", label, re.IGNORECASE))
        ):
            return f"diffraction pattern ({suffix}, no label on the axis)"
    except (LoaderError, OSError):
        return None
    return None
