r"""Layouts of 1D patterns that have more to say than columns under a header: grids, GSAS banks, Bruker UXD, Rigaku RAS.

Each is recognised by its own words and gives `Columns` with labels (`two_theta`, `intensity`, `errors`), so that `xrd-1d` goes on as
with any other file. What a header says about wavelength and time is read here too.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import LoaderError
from operando.loaders.spectrum_text import STAMP_FORMATS, Columns, HeaderTimes, read_columns, resolution
from operando.loaders.text import parse_local

BANK = re.compile(r"BANK\s+\d+\s+(\d+)\s+(\d+)\s+(\w+)((?:\s+\S+){2,})\s*$", re.IGNORECASE)
_GRID = re.compile(r"\s*(-?\d+\.?\d*)[\s,]+(\d*\.?\d+)[\s,]+(-?\d+\.?\d*)(?:[\s,]+(.*))?$")
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_LABELS = ["two_theta", "intensity", "errors"]


def read_pattern(text: str, path: Path) -> tuple[Columns, str]:
    """Read the columns of a pattern, whatever layout it has.

    Returns
    -------
    tuple
        Columns; the layout: "" (plain columns), `grid`, `gsas`, `uxd` or `ras`. All but the plain one are over two_theta in degrees.

    Raises
    ------
    LoaderError
        No numbers, a layout that cannot be read, or a count that does not fit the header.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines[:400]):
        match = BANK.match(line.strip())
        if match is not None:
            return _gsas(match, lines, number, path), "gsas"
    if re.search(r"^_(?:2THETA)?(?:COUNTS|CPS|COUNTSPERSECOND)\s*$", text, re.MULTILINE | re.IGNORECASE):
        return _uxd(lines, path), "uxd"
    if re.search(r"^\*RAS_INT_START", text, re.MULTILINE):
        return _ras(lines, path), "ras"
    grid = _grid(lines, path)
    if grid is not None:
        return grid, "grid"
    block = read_columns(text, path)
    filled = [line for line in block.header if line.strip()]
    if len(filled) >= 3 and re.fullmatch(r"\s*\d{1,9}(\s+\d+)?\s*", filled[-1]):
        _check_count(block.values.shape[0], int(filled[-1].split()[0]), path)
    return block, ""


def _check_count(found: int, expected: int, path: Path) -> None:
    """Refuse fewer points than the header promises; some writers leave out the last one when they count."""
    if not expected <= found <= expected + 1:
        raise LoaderError(
            "the number of points does not fit the header (a half-written file?)", file=path, found=f"{found} points", expected=expected
        )


def _of_intensities(header: list[str], start: float, step: float, values: np.ndarray, first_line: int, errors: np.ndarray | None = None) -> Columns:
    columns = [start + step * np.arange(values.size), values]
    integers = [False, bool(np.all(values == np.round(values)))]
    if errors is not None:
        columns.append(errors)
        integers.append(False)
    return Columns(header, np.column_stack(columns).astype(float), integers, first_line, _LABELS[: len(columns)])


def _grid(lines: list[str], path: Path) -> Columns | None:
    """Read `start step end` and the intensities on that grid (and their errors, and words after them); None if the file is no such thing."""
    total = 0  # words of the file, counted once a line looks like a grid
    for number, line in enumerate(lines[:40]):
        match = _GRID.match(line) if len(line) < 300 else None
        if match is None:
            continue
        start, step, end = (float(match.group(i)) for i in (1, 2, 3))
        words = bool(re.search(r"[A-Za-z]{2}", match.group(4) or ""))
        if not (step > 0 and end > start and end - start < 1e7 * step and abs(end) <= 180 and (words or not match.group(4))):
            continue
        expected = int(round((end - start) / step)) + 1
        if abs((end - start) / step + 1 - expected) > 0.01 or expected < 3:
            continue
        total = total or sum(len(other.replace(",", " ").split()) for other in lines)
        if not expected <= total <= 2 * expected + 1000 and "steptime" not in line.lower():
            continue
        body = " ".join(lines[number + 1 :]).replace(",", " ").split()
        numbers = next((i for i, word in enumerate(body[: 2 * expected]) if not _NUMBER.fullmatch(word)), min(len(body), 2 * expected))
        footer = all(not re.match(r"\s*[-+.\d]", other) for other in lines[-20:]) if numbers < len(body) else True
        if numbers not in (expected, 2 * expected) or (len(body) > numbers and not (footer or _ends_in_words(body[numbers:]))):
            if "steptime" in line.lower():
                raise LoaderError(
                    "the number of intensities does not fit the header (a half-written or shuffled file?)",
                    file=path,
                    found=f"{numbers if numbers < len(body) <= expected else len(body)} intensities",
                    expected=f"{expected} from {start:g} to {end:g} in steps of {step:g}",
                )
            continue
        written = body[:expected]
        values = np.array([float(word) for word in written])
        errors = np.array([float(word) for word in body[expected:numbers]]) if numbers > expected else None
        out = _of_intensities(lines[: number + 1], start, step, values, number + 2, errors)
        out.integers[1] = all(word.lstrip("+-").isdigit() for word in written)
        return out
    return None


def _ends_in_words(rest: list[str]) -> bool:
    return not _NUMBER.fullmatch(rest[0]) and len(rest) < 200


def bank_kind(match: re.Match[str]) -> str | None:
    """Tell the kind of a GSAS bank of constant steps (FXYE, FXY, STD, ESD; STD where none is written); None for another one."""
    last = match.group(4).split()[-1].upper()
    kind = last if re.fullmatch("[A-Z]+", last) else "STD"
    return kind if match.group(3).upper().startswith("CONS") and kind in ("FXYE", "FXY", "STD", "ESD") else None


def _gsas(match: re.Match[str], lines: list[str], number: int, path: Path) -> Columns:
    """Read a GSAS bank of constant steps: free columns (FXYE, FXY), or fixed fields of 8 characters (STD, ESD)."""
    words = match.group(4).split()
    kind = bank_kind(match)
    expected = int(match.group(1)[:12])
    if kind is None:
        raise LoaderError(
            "a GSAS bank of another kind" + (" (time of flight)" if match.group(3).upper() in ("SLOG", "RALF", "TIME_MAP", "LOG6", "LPSD") else ""),
            file=path,
            found=lines[number].strip()[:80],
            expected="BANK ... CONST ... with FXYE, FXY, STD or ESD",
            hint="export it from GSAS-II as .xye",
        )
    if kind.startswith("FXY"):
        block = read_columns("\n".join(lines[number + 1 :]), path, first_line=number + 2)
        block.header[:0] = lines[: number + 1]
        _check_count(block.values.shape[0], expected, path)
        block.values[:, 0] /= 100.0
        block.labels = _LABELS[: block.values.shape[1]]
        block.units = []
        return block
    try:
        start, step = float(words[0]) / 100, float(words[1]) / 100
    except ValueError:
        raise LoaderError("the GSAS bank gives no start and step", file=path, found=lines[number].strip()[:80]) from None
    if not (math.isfinite(start) and 0 < step < 100 and abs(start) <= 180 and expected <= sum(map(len, lines[number + 1 :]))):
        raise LoaderError("the GSAS bank gives an impossible start, step or count", file=path, found=lines[number].strip()[:80])
    fields: list[float] = []
    for i, line in enumerate(lines[number + 1 :], start=number + 2):
        if BANK.match(line.strip()) or not line.strip():
            break
        for at in range(0, len(line.rstrip()), 8):
            text = line[at : at + 8]
            sets = 1
            if kind == "STD":
                sets, text = int(text[:2]) if text[:2].strip().isdigit() else 1, text[2:] if re.fullmatch(r"[\s\d]{2}", text[:2]) else text
            if not _NUMBER.fullmatch(text.strip()):
                raise LoaderError(f"line {i} of the GSAS bank holds no number in characters {at + 1} to {at + 8}", file=path, found=repr(text))
            fields += [float(text)] if kind == "ESD" else [float(text), math.sqrt(max(float(text), 0.0) / max(sets, 1))]
    values, errors = np.array(fields[0::2]), np.array(fields[1::2])
    if values.size < expected or values.size - expected > 20 or errors.size != values.size:
        _check_count(values.size, expected, path)
        raise LoaderError("the GSAS bank has more points than its header says", file=path, found=values.size, expected=expected)
    return _of_intensities(lines[: number + 1], start, step, values[:expected], number + 2, errors[:expected])


def _uxd(lines: list[str], path: Path) -> Columns:
    """Read the (only) range of a Bruker UXD file."""
    marks = [i for i, line in enumerate(lines) if re.fullmatch(r"_(?:2THETA)?(?:COUNTS|CPS|COUNTSPERSECOND)\s*", line.strip(), re.IGNORECASE)]
    if len(marks) != 1:
        raise LoaderError("the UXD file holds several ranges", file=path, found=f"{len(marks)} ranges", expected="one", hint="export them one by one")
    at = marks[0]
    header = list(lines[: at + 1])
    said = {m.group(1).upper(): m.group(2).strip().strip("'") for line in header if (m := re.match(r"_(\w+)\s*=\s*(.*)", line))}
    if said.get("DRIVE", "COUPLED").upper() not in ("COUPLED", "2THETA", "THETA-2THETA", ""):
        raise LoaderError("the UXD range is no 2theta scan", file=path, found=f"_DRIVE={said['DRIVE']}", expected="COUPLED or 2THETA")
    if "2THETA" in lines[at].upper():
        block = read_columns("\n".join(lines[at + 1 :]), path, first_line=at + 2)
        if block.values.shape[1] != 2:
            raise LoaderError("the UXD range has not two columns", file=path, found=f"{block.values.shape[1]} columns")
        block.header[:0] = header
        block.labels = _LABELS[:2]
        return block
    words = " ".join(line for line in lines[at + 1 :] if not line.lstrip().startswith((";", "_"))).split()
    try:
        values = np.array([float(word) for word in words])
        start, step = float(said.get("START", said.get("2THETA", "nan"))), float(said.get("STEPSIZE", "nan"))
        expected = int(said.get("STEPCOUNT", values.size))
    except ValueError:
        raise LoaderError("the UXD range cannot be read", file=path, expected="numbers after _COUNTS, _START and _STEPSIZE before them") from None
    if not (math.isfinite(start) and 0 < step < 100):
        raise LoaderError("the UXD range gives no start and step", file=path, found=f"_START={start}, _STEPSIZE={step}")
    _check_count(values.size, expected, path)
    out = _of_intensities(header, start, step, values, at + 2)
    out.integers[1] = all(word.lstrip("+-").isdigit() for word in words)
    return out


def _ras(lines: list[str], path: Path) -> Columns:
    """Read the (only) range of a Rigaku RAS file: angle, intensity, attenuation factor."""
    begins = [i for i, line in enumerate(lines) if line.startswith("*RAS_INT_START")]
    ends = [i for i, line in enumerate(lines) if line.startswith("*RAS_INT_END")]
    if len(begins) != 1 or len(ends) != 1 or ends[0] <= begins[0]:
        raise LoaderError(
            "the RAS file is cut short" if len(ends) < len(begins) else "the RAS file holds several ranges",
            file=path,
            found=f"{len(begins)} beginnings, {len(ends)} ends of a range",
            expected="one",
        )
    header = lines[: begins[0]]
    text = "\n".join(header)
    scanned = re.search(r'\*MEAS_SCAN_AXIS_X(?:_INTERNAL)?\s+"([^"]*)"', text)
    if scanned and not re.search(r"two\s*theta|2\s*[-/]?\s*theta", scanned.group(1), re.IGNORECASE):
        raise LoaderError("the RAS range is no 2theta scan", file=path, found=scanned.group(1)[:60])
    block = read_columns("\n".join(lines[begins[0] + 1 : ends[0]]), path, first_line=begins[0] + 2)
    if block.values.shape[1] not in (2, 3):
        raise LoaderError("the RAS range has not three columns", file=path, found=f"{block.values.shape[1]} columns")
    block.header = header
    if count := re.search(r'\*MEAS_DATA_COUNT\s+"(\d{1,9})"', text):
        _check_count(block.values.shape[0], int(count.group(1)), path)
    if block.values.shape[1] == 3:
        factors = block.values[:, 2]
        if not (factors == 1).all():
            block.values[:, 1] *= factors
            block.integers[1] = block.integers[1] and block.integers[2]
        else:
            block.values, block.integers = block.values[:, :2], block.integers[:2]
    block.labels = ["two_theta", "intensity", "attenuation"][: block.values.shape[1]]
    block.units = []
    if unit := re.search(r'\*MEAS_SCAN_UNIT_Y\s+"([^"]*)"', text):
        block.units = ["deg", unit.group(1).strip(), "1"][: block.values.shape[1]]
    return block


def header_wavelength(header: list[str]) -> tuple[float | None, dict[str, Any]]:
    """Find a wavelength (angstrom) in the header; the K-alpha doublet as attributes."""
    text = "\n".join(header)
    for one, two, ratio in (
        (r"Alpha1\s+([\d.]+)", r"Alpha2\s+([\d.]+)", r"Ratio\s+([\d.]+)"),
        (r"K-?Alpha\s?1 wavelength\W{1,6}([\d.]+)", r"K-?Alpha\s?2 wavelength\W{1,6}([\d.]+)", r"Ratio K-?Alpha\s?2/K-?Alpha\s?1\W{1,6}([\d.]+)"),
        (r"^_WL1\s*=\s*([\d.]+)", r"^_WL2\s*=\s*([\d.]+)", r"^_WLRATIO\s*=\s*([\d.]+)"),
        (r'_WAVE_LENGTH_ALPHA1\s+"([\d.]+)"', r'_WAVE_LENGTH_ALPHA2\s+"([\d.]+)"', r'_WAVE_LENGTH_RATIO\s+"([\d.]+)"'),
    ):
        found = [re.search(pattern, text, re.IGNORECASE | re.MULTILINE) for pattern in (one, two, ratio)]
        if found[0] is None or (found[1] is None and one.startswith("Alpha1")):
            continue
        numbers = [_positive(match.group(1)) if match else None for match in found]
        if numbers[0] is None or not 0.01 <= numbers[0] <= 100:
            return None, {}
        attrs = {name: value for name, value in zip(("wavelength_k_alpha_2", "ratio_k_alpha_2"), numbers[1:], strict=True) if value is not None}
        return numbers[0], {**attrs, "wavelength_of": "K-alpha 1"} if "wavelength_k_alpha_2" in attrs else {}
    match = re.search(
        r"\b(?:wave[\s_]?length|lambda)\b[^\d\n]{0,20}?[:=\s,]\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*(m|nm|pm|a|å|angstroms?)?\b", text, re.IGNORECASE
    )
    lam = _positive(match.group(1)) if match else None
    if match is None or lam is None:
        return None, {}
    factor = {"m": 1e10, "nm": 10.0, "pm": 0.01}.get((match.group(2) or "a").lower(), 1.0)
    lam = float(f"{lam * factor:.12g}")  # 4.066e-11 m is 0.4066, not 0.40659999999999996
    return (lam, {}) if 0.01 <= lam <= 100 else (None, {})


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


def known_times(header: list[str], n: int) -> HeaderTimes:
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
        (r"^_DATEMEASURED\s*=\s*'?([^'\n]{8,40})", (*STAMP_FORMATS, "%d-%b-%Y %H:%M"), r"^_STEPTIME\s*=\s*([\d.]+)", None),
    ):
        match = re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
        stamp = parse_local(" ".join(match.group(1).split()), formats) if match else None
        if match is None or stamp is None:
            continue
        seconds = re.search(per_step, text, re.IGNORECASE | re.MULTILINE)
        count = re.search(steps, text, re.IGNORECASE) if steps else None
        try:
            exposure = float(seconds.group(1)) * (int(count.group(1)) if count else n) if seconds and (count or not steps) else math.nan
        except (ValueError, OverflowError):
            exposure = math.nan
        return HeaderTimes(stamp.isoformat(), exposure if exposure < 1e8 else math.nan, resolution(match.group(1)))
    return _rigaku_times(text)


def _rigaku_times(text: str) -> HeaderTimes:
    """Read start and end of a RAS header, if only one order of day and month makes dates of both."""
    stamps = [re.search(rf'\*MEAS_SCAN_{which}_TIME\s+"([^"]+)"', text) for which in ("START", "END")]
    if stamps[0] is None:
        return HeaderTimes()
    words = [" ".join(match.group(1).split()) if match else "" for match in stamps]
    year = "%Y" if re.match(r"\d+/\d+/\d{4}", words[0]) else "%y"
    readings = []
    for day in (f"%m/%d/{year}", f"%d/%m/{year}"):
        begin, end = (parse_local(word, (f"{day} %H:%M:%S",)) for word in words)
        if begin is not None and (end is not None or not words[1]):
            readings.append((begin, end))
    if not readings or (len(readings) == 2 and readings[0] != readings[1]):
        return HeaderTimes()  # 02/03/24 may be either: header_time and time_format say which
    begin, end = readings[0]
    seconds = (end - begin).total_seconds() if end is not None else math.nan
    return HeaderTimes(begin.isoformat(), seconds if 0 <= seconds < 1e8 else math.nan, resolution(words[0]))
