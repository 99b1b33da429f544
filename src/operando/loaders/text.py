"""Text as instruments write it: encodings, line ends, decimal commas, local stamps."""

from __future__ import annotations

import codecs
import datetime as dt
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from operando.contract import LoaderError

_BINARY = {
    b"\x1f\x8b": "a gzip-compressed file",
    b"PK\x03\x04": "a ZIP archive (brml, rasx, xlsx are such)",
    b"\x89HDF\r\n": "an HDF5 file",
    b"RAW": "a binary RAW file of Bruker or Siemens",
}


def read_text(path: str | os.PathLike[str], *, limit: int | None = None) -> str:
    """Read a text file whatever its encoding and line ends.

    UTF-8 (with or without byte order mark) and UTF-16 with one are recognised; everything else is latin-1, in which
    no byte is wrong. CR, LF and CR LF all become LF.

    Parameters
    ----------
    path
        The file.
    limit
        Read this many bytes at most (to look at a head).

    Raises
    ------
    LoaderError
        The file is missing, empty, or binary (holds NUL bytes and no UTF-16 mark).
    """
    path = Path(path)
    try:
        with path.open("rb") as f:
            raw = f.read() if limit is None else f.read(limit)
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
    if not raw.strip():
        raise LoaderError("the file is empty", file=path, found=f"{len(raw)} bytes", hint="copy it again from the instrument")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", errors="replace")
    elif b"\0" in raw:
        known = next((words for mark, words in _BINARY.items() if raw.startswith(mark)), None)
        raise LoaderError(
            "not a text file",
            file=path,
            found=known or f"a NUL byte at offset {raw.index(0)}",
            hint="unpack it first" if known and "gzip" in known else "choose the loader of this format",
        )
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            cut = limit is not None and error.start > len(raw) - 4
            text = raw[: error.start].decode("utf-8-sig") if cut else raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_numbers(
    text: str,
    path: str | os.PathLike[str],
    *,
    separator: str | None = None,
    decimal: str = ".",
    columns: Sequence[str] | None = None,
    first_line: int = 1,
) -> np.ndarray:
    """Read a rectangular block of numbers.

    Parameters
    ----------
    text
        The lines, header taken off.
    path
        For the message.
    separator
        One character, or None for runs of blanks and tabs.
    decimal
        `.` or `,`.
    columns
        How many columns there must be (by their names); by default as many as the first line has.
    first_line
        Number of the first line in the file, for the message.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float64; empty fields are NaN.

    Raises
    ------
    LoaderError
        A line of another length, or a field that is not a number, with its line number.
    """
    import pandas as pd

    lines = text.strip("\n")
    width = len(columns) if columns is not None else None
    try:
        frame = pd.read_csv(
            io.StringIO(lines),
            sep=separator if separator is not None else r"\s+",
            decimal=decimal,
            header=None,
            engine="c",
            dtype=None,
            index_col=False,
            skipinitialspace=True,
            na_values=["", "XXX", "---"],
            names=None if width is None else list(range(width)),
            low_memory=False,
        )
        values = frame.to_numpy(dtype=float)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError, OverflowError) as error:
        raise LoaderError(*_worst_line(lines, separator, decimal, width, first_line, error), file=path) from None
    if width is not None and values.shape[1] != width:
        raise LoaderError("the number of columns differs from the header", file=path, found=values.shape[1], expected=f"{width} columns")
    return values


def _worst_line(lines: str, separator: str | None, decimal: str, width: int | None, first: int, error: Exception) -> tuple[str]:
    """Find the first line that is not `width` numbers and say so."""
    for i, line in enumerate(lines.split("\n")):
        fields = line.split(separator) if separator is not None else line.split()
        width = width or len(fields)
        for field in fields:
            number = field.strip().replace(decimal, ".")
            try:
                float(number or "nan")
            except ValueError:
                return (f"line {first + i} holds {field.strip()[:40]!r} where a number is expected",)
        if len(fields) != width:
            return (f"line {first + i} has {len(fields)} fields, not {width} (a half-written or shuffled file?)",)
    return (f"the numbers cannot be read: {error}",)


MONTHS: dict[str, int] = {}
for _number, _names in enumerate(
    (
        "jan january janvier janv januar jän jänner enero ene gennaio gen janeiro januari stycznia sty",
        "feb february février fevrier févr fevr fév fev februar febrero febbraio fevereiro februari lutego lut",
        "mar march mars märz maerz mrz marzo março marco maart mrt marca",
        "apr april avril avr abril abr aprile kwietnia kwi",
        "may mai mayo maggio mag maio mei maj maja",
        "jun june juin juni junio giugno giu junho czerwca cze",
        "jul july juillet juil juli julio luglio lug julho lipca lip",
        "aug august août aout agosto ago augustus augusti sierpnia sie",
        "sep sept september septembre septiembre settembre set setembro września wrz",
        "oct october octobre oktober okt octubre ottobre ott outubro out oktober października paź",
        "nov november novembre noviembre novembro listopada lis",
        "dec december décembre decembre déc dezember dez diciembre dic dicembre dezembro december grudnia gru",
    ),
    start=1,
):
    for _name in _names.split():
        MONTHS[_name] = _number


def parse_local(text: str, formats: Sequence[str]) -> dt.datetime | None:
    """Read a wall-clock stamp with the first format that fits (`strptime` words, English month names); None if none does."""
    for form in formats:
        try:
            return dt.datetime.strptime(text.strip(), form)  # noqa: DTZ007 - a wall-clock stamp has no zone yet; the timeline gives it one
        except ValueError:
            continue
    return None


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which frame_2 comes before frame_10."""
    parts = re.findall(r"\d+|\D+", str(text))
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)
