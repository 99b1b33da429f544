r"""One diffraction pattern per text file: .xy, .xye, .dat, .chi, .csv, GSAS .fxye.

What the bytes mean
-------------------
Two or three columns (axis, intensity, standard error of the intensity), or more with labels, under any header, separated by blanks, tabs, commas
or semicolons, with decimal point or comma. Four layouts have more to say and are recognised by their header:

- fit2d `.chi`: title, axis label, intensity label, number of points; the count is checked.
- `start step end` in a header line, then the intensities alone, several per line (Philips PW3710 ASCII, FullProf free
  format, DBWS): recognised when exactly (end - start) / step + 1 numbers follow, or twice as many (then errors, as at PSI).
- GSAS `BANK ... CONS ... FXYE`: the axis is in hundredths of a degree; the count is checked.
- GSAS `BANK ... CONST start step`, fixed fields of 8 characters: STD (counts, error sqrt(counts / sets)) and ESD (value, error).
- Bruker UXD (`_2THETACOUNTS`, or `_COUNTS` with `_START` and `_STEPSIZE`) and Rigaku RAS (`*RAS_INT_START`: angle, intensity,
  attenuation factor, which is multiplied in), one range per file.
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
The 11-BM, PW3710, UXD and RAS headers (local time of the instrument, no zone; a RAS date that may be read in two ways is not
used), or options `header_time` (regular expression with the group `start`), `time_format`, `header_exposure`, `header_end`.
Otherwise the file holds no time and the source's options (`start:`, `name_pattern:`, `times_from:`, `mtime:`) give it. 11-BM's
stamp is taken as the start of the scan; exposure is number of steps x time per step (end - start in RAS).

What is assumed
---------------
A wavelength without a unit in a header is in angstrom. Where a header gives the K-alpha doublet, q is that of K-alpha 1; K-alpha 2
and the ratio are attributes. A third column is the standard error unless its label says otherwise; without a label it is `column_3` if it is
constant or (except in .xye) about as large as the intensity, as a background is.

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
from operando.loaders.diffraction import AXES, diffraction_axis, intensity_variables, wavelength_angstrom
from operando.loaders.spectrum_text import Columns, header_numbers, header_times, read_columns
from operando.loaders.text import read_text
from operando.loaders.xrd_layouts import BANK, bank_kind, header_wavelength, known_times, read_pattern

TECHNIQUES = ("xrd",)
VERSION = "2"

_TWO_THETA = re.compile(r"(?<![a-z])(2[\s_-]*th(eta)?|two[\s_-]*theta|t?tth|ttheta|2\s*θ|2θ|diffraction angle)", re.IGNORECASE)
_Q = re.compile(r"(?<![a-z*])q(?![a-z])", re.IGNORECASE)
_D = re.compile(r"(?<![a-z])d([\s_-]*spacing|[\s_]*\[?\(?(a|å|angstrom)\b|$)", re.IGNORECASE)
_PER_NM = re.compile(r"nm\s*\^?[-⁻]\s*[1¹]|1\s*/\s*nm|inverse\s*n|nm\^\{-1\}", re.IGNORECASE)
_PER_ANGSTROM = re.compile(r"(å|\ba|_a|angstroms?|\(a|\[a)\s*\^?\{?[-⁻]\s*[1¹]|1\s*/\s*(å|a)|inverse\s*(a|å)", re.IGNORECASE)
_RADIANS = re.compile(r"_rad\b|\brad(ian)?s?\b", re.IGNORECASE)
_ERROR = re.compile(r"sig|err|esd|std|unc|^d[iy]$|^e$|^ey$|^±$", re.IGNORECASE)
_INTENSITY = re.compile(r"(raw )?(intensity|counts|y_?obs|i_?obs|det1?cnts?|i)\b(?!.*(calc|err|sig))", re.IGNORECASE)
_ELSE = re.compile(r"SpecsLab|kinetic energy|binding energy|photoelectron", re.IGNORECASE)
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
    given = {k: v for k, v in locals().items() if k != "path"}
    return pattern_of(read_text(path), path, **given)


def pattern_of(
    text: str,
    path: Path,
    *,
    technique: str = "xrd",
    unlabelled: str | None = None,
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
    """Make a series of one pattern of the text of its file; `unlabelled` is the axis where the file does not say, instead of a refusal."""
    block, layout = read_pattern(text, path)
    header = block.header
    errors: np.ndarray | None = None
    extra: dict[str, tuple[Any, ...]] = {}
    note = ""
    units: str | None = None
    ix, iy, ie = _pick(block, path, x_column, intensity_column, errors_column)
    x, intensity = block.values[:, ix], block.numbers(iy)
    if ie is not None:
        errors = block.values[:, ie]
        if (errors < 0).any():
            raise LoaderError("the errors are negative", file=path, found=float(np.nanmin(errors)), hint="name their column, or errors_column: none")
    counts_label = " ".join([*block.labels[iy : iy + 1], *block.units[iy : iy + 1]])
    if axis is not None:
        found_axis = axis
    elif layout:
        found_axis = "two_theta"
    else:
        try:
            found_axis, units, note = _guess_axis(_axis_label(block, ix), header, x, path)
        except LoaderError:
            if unlabelled is None:
                raise
            found_axis, note = unlabelled, f"the axis has no unit and is taken for {unlabelled} in {AXES[unlabelled]}"
    for i in range(block.values.shape[1]):
        if i in (ix, iy, ie) or errors_column == "none" or not (block.labels or block.values.shape[1] == 3):
            continue
        name = re.sub(r"\W+", "_", block.labels[i]).strip("_").lower() if block.labels else ""
        if name not in ("intensity", "q", "two_theta", "time") and np.isfinite(block.values[:, i]).any():
            extra[name if re.match("[a-z]", name) else f"column_{i + 1}"] = (block.numbers(i), block.units[i] if block.units else "1")
    if not np.isfinite(intensity).any():
        raise LoaderError("no intensity is a number", file=path)

    attrs: dict[str, Any] = {}
    lam, doublet = header_wavelength(header)
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
        times = known_times(header, intensity.size)
    values = header_numbers(header, header_values, path)
    if title := _title(header):
        attrs["title"] = title
    return series(
        technique,
        variables,
        source=path,
        coords={**coords, **values},
        start=times.start,
        exposure=times.exposure,
        time_origin="header" if times.start else None,
        time_uncertainty=times.uncertainty,
        attrs=attrs,
    )


def _pick(block: Columns, path: Path, x: str | int | None, y: str | int | None, e: str | int | None) -> tuple[int, int, int | None]:
    """Choose the columns: the first three unless options say otherwise."""
    width = block.values.shape[1]
    told = _told(block.labels) if width > 3 else None
    if told is not None:
        x, y = told[0] + 1 if x is None else x, told[1] + 1 if y is None else y
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
    if width == 3 and {ix, iy} == {0, 1} and (_ERROR.search(block.labels[2]) if block.labels else _like_errors(block, path)):
        return ix, iy, 2
    if width > 3 and block.labels:
        named = [i for i, label in enumerate(block.labels) if _ERROR.search(label) and i not in (ix, iy)]
        if len(named) == 1:
            return ix, iy, named[0]
    return ix, iy, None


def _like_errors(block: Columns, path: Path) -> bool:
    """Tell whether an unlabelled third column may be standard errors: a background or a calculated pattern is as large as the intensity."""
    if path.suffix.lower() in (".xye", ".fxye"):
        return True
    intensity, third = np.abs(block.values[:, 1]), block.values[:, 2]
    if (third < 0).any():
        return True  # and then refused, by that name
    if not np.isfinite(third).any() or np.ptp(third) == 0:
        return False
    typical = float(np.nanmedian(intensity))
    return typical <= 20 or float(np.nanmedian(third)) < 0.5 * typical


def _told(labels: Sequence[str]) -> tuple[int, int] | None:
    """Find the columns of axis and intensity among many labels; None unless exactly one of each is there."""
    axes = [i for i, label in enumerate(labels) if _label_axis(label)]
    signals = [i for i, label in enumerate(labels) if _INTENSITY.match(label.strip())]
    if len(axes) == 1 and len(signals) == 1 and axes != signals:
        return axes[0], signals[0]
    return None


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
    if re.fullmatch(r"theta|angle|winkel|θ|theta\s*\(?deg\.?\)?|angle\s*\(?deg\.?\)?", label.strip(), re.IGNORECASE):
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
    if _ELSE.search("\n".join(header)):
        raise refused
    if path.suffix.lower() in (".xy", ".xye") and reach <= 180:
        return "two_theta", None, f"{path.suffix} without a label holds two_theta"
    if 60 < reach <= 180 and not label:
        return "two_theta", None, "no other axis of a pattern runs from below 60 to between 60 and 180"
    raise refused


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
        if re.search(r"\b[FSG]\([QqRr]\)|\bchi\(k\)|Raman|absorbance|Ewe/V", head) or _ELSE.search(head):
            return None
        lines = text.split("\n")
        bank = next((match for line in lines[:400] if (match := BANK.match(line.strip()))), None)
        if bank is not None:
            kind = bank_kind(bank)
            return f"GSAS powder pattern ({kind})" if kind else None
        if re.search(r"^_2THETA(COUNTS|CPS|COUNTSPERSECOND)\s*$", text, re.MULTILINE | re.IGNORECASE) and "_FILEVERSION" in text[:4000].upper():
            return "powder pattern, Bruker UXD"
        if head.startswith("*RAS_DATA_START") and re.search(r"^\*RAS_INT_START", text, re.MULTILINE):
            return "powder pattern, Rigaku RAS"
        if re.search(r"MeasureDateTime.*StepTime", head):
            return "powder pattern, PW3710 ASCII"
        whole = path.stat().st_size <= 65536
        block = read_columns(text if whole else "\n".join(lines[:-1]), path)
        ix = 0
        if block.values.shape[1] not in (2, 3):
            told_columns = _told(block.labels)
            if told_columns is None or not re.search("theta|tth|angle", block.labels[told_columns[0]], re.IGNORECASE):
                return None
            ix = told_columns[0]
        if block.values.shape[0] < 5:
            return None
        ascending = bool((np.diff(block.values[:, ix]) > 0).all() or (np.diff(block.values[:, ix]) < 0).all())
        if not ascending:
            return None
        low, high = float(block.values[:, ix].min()), float(block.values[:, ix].max())
        if low < -180 or high > 400:
            return None
        label = _axis_label(block, ix)
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
