"""Tables of text as loggers and cyclers write them: where the header is, what separates fields, which unit a column has.

`read_table` finds separator, decimal mark, preamble, header and unit line by looking at the first lines, then hands
the block of rows to the C parser of pandas. `split_label` takes a column name apart into name and unit
(`Chg. Cap.(Ah)` -> `Chg. Cap.`, `A*h`), `snake_case` makes a variable name of it.
"""

from __future__ import annotations

import csv
import io
import os
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from operando.contract import LoaderError
from operando.loaders.text import read_text

if TYPE_CHECKING:
    import pandas as pd

HEAD_BYTES = 1 << 16
UNPACKED_LIMIT = 1 << 31
NAMELESS = "column 1"  # a first column whose name is empty: an index, or epoch seconds
_MISSING = ("", "XXX", "---", "--", "-", "OVER", "OVLD", "OVERFLOW", "#VALUE!", "#REF!", "#DIV/0!", "Inf", "-Inf")
_COMMENTS = ("#", "%", "//", "!", "'")
_SEPARATORS: tuple[str | None, ...] = ("\t", ";", "|", ",", None)
_WRAPPED = re.compile(r'^"([^"\n]*[,;\t][^"\n]*[,;\t][^"\n]*)"$', re.MULTILINE)
_THOUSANDS = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?"
_NUMBER = {d: re.compile(rf"[-+]?(?:\d+(?:[{d}]\d*)?|[{d}]\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf", re.IGNORECASE) for d in ".,"}
_TIME = re.compile(
    r"(?:\d{1,4}[-/.]\w{1,9}[-/.]\d{1,4})(?:[ T,]+\d{1,2}:\d\d[^;|\t]*)?"
    r"|[-+]?(?:\d+[-d ]\s*)?\d{1,6}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:\s*[AaPp]\.?[Mm]\.?)?"
)


@dataclass
class Layout:
    """How a text table is laid out.

    Attributes
    ----------
    separator
        One character, or None for runs of blanks.
    names, units
        Of each column as written; `column 1`, `column 2` ... without a header; None where no unit line says one.
    first_row
        Index of the first line of numbers.
    preamble
        `key: value` lines above the header.
    """

    separator: str | None
    decimal: str
    names: list[str]
    units: list[str | None]
    width: int
    first_row: int
    preamble: dict[str, str]
    has_header: bool


@dataclass
class Table:
    """A text table: its layout, one pandas column per field (by position), and what was odd about it."""

    layout: Layout
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def line(self, row: int) -> int:
        """Give the line of the file a row was on, counted from 1 (blank and comment lines among the rows are not seen)."""
        return self.layout.first_row + row + 1


def table_text(path: str | os.PathLike[str], *, encoding: str | None = None, limit: int | None = None) -> str:
    """Read a text file, gzip-compressed or not, with LF line ends.

    Raises
    ------
    LoaderError
        Missing, empty, binary, not in the stated encoding, or a broken or outsized gzip stream.
    """
    path = Path(path)
    try:
        with path.open("rb") as f:
            packed = f.read(2) == b"\x1f\x8b"
            if not packed and encoding is None:
                return _cleaned(read_text(path, limit=limit))
            f.seek(0)
            raw = _unpacked(f, path, limit) if packed else f.read(-1 if limit is None else limit)
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
    if not raw.strip():
        raise LoaderError("the file is empty", file=path, found=f"{len(raw)} bytes", hint="copy it again from the instrument")
    try:
        text = raw.decode(encoding or "utf-8-sig", errors="ignore" if limit is not None else "strict")
    except LookupError:
        raise LoaderError("no such encoding", file=path, found=repr(encoding), expected="utf-8, latin-1, cp1252, gb2312 ...") from None
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise LoaderError(
                f"the text is not {encoding}", file=path, found=f"byte {error.start}", hint="correct encoding: or leave it out"
            ) from None
        text = raw.decode("latin-1")
    if "\0" in text:
        raise LoaderError("not a text file", file=path, found=f"a NUL at character {text.index(chr(0))}", hint="choose the loader of this format")
    return _cleaned(text.replace("\r\n", "\n").replace("\r", "\n"))


def _cleaned(text: str) -> str:
    """Take off byte-order marks within the text, and quotes around whole lines (a table saved again as one column)."""
    text = text.replace("\ufeff", "")
    head = text[:HEAD_BYTES].rsplit("\n", 2)
    if len(head) > 1 and _WRAPPED.fullmatch(head[-2]) and _WRAPPED.search(head[0].rpartition("\n")[2]):
        text = _WRAPPED.sub(r"\1", text)
    return text


def _unpacked(f: io.BufferedReader, path: Path, limit: int | None) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    most = UNPACKED_LIMIT if limit is None else limit
    out = bytearray()
    try:
        while len(out) < most and (block := f.read(1 << 16)):
            out += unpacker.decompress(block, most - len(out) + 1)
            while unpacker.unconsumed_tail and len(out) <= most:
                out += unpacker.decompress(unpacker.unconsumed_tail, most - len(out) + 1)
    except OSError:
        raise
    except Exception as error:  # zlib.error, or that of whatever stands in for zlib in this process
        raise LoaderError("the gzip stream is broken", file=path, found=str(error), hint="copy it again") from None
    if limit is None:
        if len(out) > most:
            raise LoaderError("unpacks to more than 2 GiB", file=path, hint="unpack it and split it first")
        if not unpacker.eof:
            raise LoaderError("the gzip stream ends early", file=path, found=f"{len(out)} bytes unpacked", hint="copy it again")
    return bytes(out[:most])


def split_line(line: str, separator: str | None) -> list[str]:
    """Split a line into fields, quotes honoured, blanks around each taken off."""
    if separator is None:
        return line.split()
    if '"' in line:
        try:
            return [f.strip() for f in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
        except (csv.Error, StopIteration):
            pass
    return [f.strip() for f in line.split(separator)]


def _kind(text: str, decimal: str) -> str:
    """Give the kind of a field: n(umber), t(ime), e(mpty), w(ord)."""
    if not text or text in _MISSING:
        return "e"
    if _NUMBER[decimal].fullmatch(text):
        return "n"
    return "t" if _TIME.fullmatch(text) else "w"


def _fits(lines: list[str], separator: str | None, decimal: str) -> tuple[float, int]:
    """Score how well a separator explains the rows: (share of fields that are numbers or times, fields per row)."""
    rows = [split_line(line, separator) for line in lines]
    widths = Counter(len(r) for r in rows)
    late = Counter(len(r) for r in rows[-8:])
    width = max(widths, key=lambda w: w * (widths[w] + 5 * late[w]))  # a short table may lie below a long preamble
    count = widths[width]
    kinds = [_kind(f, decimal) for r in rows if len(r) == width for f in r]
    good = sum(k in "nt" for k in kinds) + 0.9 * sum(k == "e" for k in kinds)
    if width < 2 or not any(k in "nt" for k in kinds):
        good = 0.0 if not any(k in "nt" for k in kinds) else good / 2
    return good / len(kinds) * count / len(rows), width


def sniff(text: str, path: str | os.PathLike[str], *, separator: str | None = None, decimal: str | None = None, comment: str | None = None) -> Layout:
    """Find out how a text table is laid out, from its first lines.

    Parameters
    ----------
    text
        The file, or its head.
    separator, decimal, comment
        What is known already; `separator="blank"` means runs of blanks.

    Raises
    ------
    LoaderError
        No block of rows holding numbers or times is found.
    """
    head = text[:HEAD_BYTES]
    lines = head.split("\n")
    if len(text) > HEAD_BYTES and len(lines) > 1:
        lines.pop()
    marks = (comment,) if comment else _COMMENTS
    plain = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(marks)]
    if plain and (declared := re.fullmatch(r"sep=(.)", lines[plain[0]].strip())):
        separator = separator or declared[1]
        plain.pop(0)
    sample = [lines[i] for i in plain[-60:]]
    if len(sample) > 2 and not text.endswith("\n"):
        sample.pop()  # half-written
    if not sample:
        raise LoaderError("holds no rows of numbers", file=path, found=f"{len(lines)} lines")
    choices = _SEPARATORS if separator is None else ((None if separator == "blank" else separator),)
    best = (0.0, 0, choices[0], ".")
    for mark in "." if decimal == "." else "," if decimal == "," else ".,":
        for choice in choices:
            if mark == choice:
                continue
            score, width = _fits(sample, choice, mark)
            if score > best[0] + 0.02:
                best = (score, width, choice, mark)
    _, width, sep, mark = best
    first = _first_row(lines, plain, sep, mark, width) if width else None
    if first is None:
        raise LoaderError(
            "holds no table of numbers",
            file=path,
            found=repr(sample[-1][:80]),
            expected="rows of numbers or times, separated by comma, semicolon, tab, bar or blanks",
            hint="choose the loader of this format, or give separator: and decimal:",
        )
    names, units, header = _header(lines, plain, first, sep, mark, width, marks)
    preamble = _preamble([lines[i] for i in range(first if header is None else header)], marks)
    if names is None:
        names, units = [f"column {i + 1}" for i in range(width)], [None] * width
    return Layout(sep, mark, [n[:200] for n in names], units, width, first, preamble, header is not None)


def _first_row(lines: list[str], plain: list[int], separator: str | None, decimal: str, width: int) -> int | None:
    """Find the first line of the block of rows: it and the next ones are of the width, and hold a number or a time each."""
    rows = {i: split_line(lines[i], separator) for i in plain[:2000]}
    filled = sorted(sum(bool(f) for f in split_line(lines[i], separator)) for i in plain[-20:])
    usual = filled[len(filled) // 2]
    good = {}
    for i, row in rows.items():
        kinds = [_kind(f, decimal) for f in row]
        numeric = sum(k in "nt" for k in kinds)
        given = len(kinds) - kinds.count("e")
        good[i] = len(row) == width and numeric >= max(1, 0.25 * given) and given >= 0.5 * usual  # a padded line of the preamble is no row
    order = list(rows)
    for at, i in enumerate(order):
        if all(good[j] for j in order[at : at + 3]) and at + 3 <= len(order):
            return i
    return next((i for i in order if good[i]), None)


def _header(
    lines: list[str], plain: list[int], first: int, separator: str | None, decimal: str, width: int, marks: tuple[str, ...]
) -> tuple[list[str] | None, list[str | None], int | None]:
    """Find the names (and units) above the first row; a commented line counts if no plain one fits."""
    above = [i for i in plain if i < first][-2:] or [i for i in range(first) if lines[i].strip()][-2:]

    def fields(i: int) -> list[str] | None:
        line = lines[i].strip(" ")
        for mark in marks:
            if line.lstrip().startswith(mark):
                line = line.lstrip()[len(mark) :].lstrip(" ")
        for choice in (separator, "\t", ";", ",", None):
            row = split_line(line, choice)
            while row and not row[-1]:
                row.pop()  # trailing separators are not names
            words = sum(_kind(f, decimal) == "w" for f in row)
            if max(1, min(2, width)) <= len(row) <= width and words >= 0.6 * sum(map(bool, row)) and (len(row) >= width - 2 or choice == separator):
                if separator is None and len(row) != width:
                    continue
                return row + [""] * (width - len(row))
        return None

    if not above:
        return None, [], None
    last = fields(above[-1])
    if last is None:
        return None, [], None
    before = fields(above[0]) if len(above) == 2 else None
    if before is not None and all(not f or unit_of(f.strip("[](){}<>")) is not None or f in ("-", "1") for f in last):
        return before, [(unit_of(f.strip("[](){}<>")) or None) if f else None for f in last], above[0]
    return last, [None] * width, above[-1]


def _preamble(lines: list[str], marks: tuple[str, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for raw in lines:
        line = raw.strip().lstrip("".join(marks)).strip()
        match = re.match(r"([^:=\t;,]{1,60}?)\s*(?:[:=\t]|[;,](?=[^;,]))\s*(.*)", line)
        if match and len(out) < 100:
            key, value = match[1].strip(), re.sub(r"[\x00-\x1f\x7f-\x9f\ufffd]", " ", match[2]).strip(" ,;:\t=ÿ")
            if key and value:
                out.setdefault(key, re.sub(r"\s{2,}", " ", value)[:200])
    return out


def read_table(
    path: str | os.PathLike[str],
    *,
    separator: str | None = None,
    decimal: str | None = None,
    comment: str | None = None,
    encoding: str | None = None,
    text: str | None = None,
) -> Table:
    """Read a text table: preamble, header, rows.

    Parameters
    ----------
    path
        Text, gzip-compressed or not.
    separator
        One character, `blank` for runs of blanks; found out by default.
    decimal
        `.` or `,`; found out by default.
    comment
        What begins a comment line; by default `#`, `%`, `//`, `!` and `'` above the rows.
    encoding
        UTF-8, UTF-16 with its mark, else latin-1 by default.
    text
        The table, where it is a part of the file that has been read already.

    Raises
    ------
    LoaderError
        No table, a row with more fields than the others, or columns without a name that hold values.
    """
    import pandas as pd

    text = table_text(path, encoding=encoding) if text is None else text
    layout = sniff(text, path, separator=separator, decimal=decimal, comment=comment)
    notes: list[str] = []
    start = 0
    for _ in range(layout.first_row):
        start = text.index("\n", start) + 1
    body = text[start:]
    whole, _, last = body.rstrip("\n").rpartition("\n")
    above = split_line(whole.rpartition("\n")[2], layout.separator)
    while above and not above[-1]:
        above.pop()  # the last line of some exports lacks the separator that ends the others
    if whole and len(split_line(last, layout.separator)) < min(len(above), layout.width):
        body = whole + "\n"
        notes.append("the last line is half-written and was left out")
    try:
        frame = pd.read_csv(
            io.StringIO(body),
            sep=layout.separator if layout.separator is not None else r"\s+",
            decimal=layout.decimal,
            header=None,
            names=list(range(layout.width)),
            index_col=False,
            engine="c",
            comment=comment if comment and len(comment) == 1 else None,
            skipinitialspace=True,
            na_values=list(_MISSING),
            low_memory=False,
            on_bad_lines="error",
        )
    except (ValueError, OverflowError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        where = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if where:
            raise LoaderError(
                f"line {layout.first_row + int(where[2])} has {where[3]} fields, not {where[1]} (a half-written or shuffled file?)", file=path
            ) from None
        raise LoaderError(f"the rows cannot be read: {str(error)[:200]}", file=path) from None
    empty = [i for i in range(layout.width) if frame[i].isna().all()]
    named = max((i for i in range(layout.width) if layout.names[i]), default=0)
    layout.names[:named] = [name or f"column {i + 1}" for i, name in enumerate(layout.names[:named])]  # empty, but not missing: nothing is shifted
    nameless = [i for i in range(layout.width) if not layout.names[i] and i not in empty]
    if nameless and layout.has_header:
        value = str(frame[nameless[0]].dropna().iloc[0])[:40]
        raise LoaderError(
            "the header has fewer names than the rows have fields",
            file=path,
            found=f"{layout.width - len(nameless)} names; column {nameless[0] + 1} has none and holds {value!r}",
            expected=f"{layout.width} names",
            hint="correct the header line",
        )
    if len(frame) == 0:
        raise LoaderError("holds no rows of numbers", file=path)
    frame = frame.dropna(how="all")
    for i in frame.columns:
        column = frame[i]
        if column.dtype == bool:
            frame[i] = column.astype("int8")
        elif column.dtype.kind in "OTUS" or str(column.dtype) in ("str", "string"):
            if layout.decimal == "." and column.str.fullmatch(_THOUSANDS).dropna().all():
                column = column.str.replace(",", "", regex=False)  # `"5,577,644.47"`
                frame[i] = column
            first = column.dropna().iloc[:200]
            if pd.to_numeric(first, errors="coerce").isna().mean() > 0.5:
                continue
            numbers = pd.to_numeric(column, errors="coerce")
            given = int(column.notna().sum())
            readable = int(numbers.notna().sum())
            if given and readable >= 0.9 * given:
                frame[i] = numbers
            if given > readable >= 0.9 * given:
                odd = int(((numbers.isna()) & column.notna()).to_numpy().argmax())
                notes.append(
                    f"{layout.names[int(i)]}: {given - readable} fields are not numbers, first {str(column.iloc[odd])[:20]!r} in row {odd + 1}"
                )
    return Table(layout, frame.reset_index(drop=True), notes)


# --- names and units -------------------------------------------------------------------------------------------------

_PLAIN = (
    "s ms us ns min h d V mV uV kV A mA uA nA kA W mW kW uW Hz kHz MHz GHz K degC degF Pa hPa kPa MPa GPa bar mbar ubar torr Torr mTorr atm "
    "g mg ug kg N mN kN m cm mm um nm L mL uL mol mmol C mC uC F mF uF S mS eV keV MeV T mT G rad deg % ppm ppb rpm sccm slm cps counts dB "
    "ohm mohm kohm Mohm psi psig lx J kJ"
)
_ATOMS = {
    **{u: u for u in _PLAIN.split()},
    **dict.fromkeys("sec secs second seconds Sec SEC Seconds Second S.".split(), "s"),
    **dict.fromkeys("msec millisecond milliseconds".split(), "ms"),
    **dict.fromkeys("mins minute minutes Min Minutes".split(), "min"),
    **dict.fromkeys("hr hrs hour hours H Hour Hours Hr heures".split(), "h"),
    **dict.fromkeys("day days".split(), "d"),
    **dict.fromkeys("Volt Volts volt volts".split(), "V"),
    **dict.fromkeys("Amp Amps amp amps ampere Ampere".split(), "A"),
    **dict.fromkeys("Ah AH Ahr A.h ah Amp-hr".split(), "A*h"),
    **dict.fromkeys("mAh mAH mAhr mah".split(), "mA*h"),
    **dict.fromkeys("uAh".split(), "uA*h"),
    **dict.fromkeys("As".split(), "A*s"),
    **dict.fromkeys("mAs".split(), "mA*s"),
    **dict.fromkeys("Wh WH Whr wh Watt-hr".split(), "W*h"),
    **dict.fromkeys("mWh".split(), "mW*h"),
    **dict.fromkeys("kWh".split(), "kW*h"),
    **dict.fromkeys("mWs".split(), "mW*s"),
    **dict.fromkeys("watt Watt watts Watts".split(), "W"),
    **dict.fromkeys("Ohm Ohms ohms OHM".split(), "ohm"),
    **dict.fromkeys("mOhm mOhms mO mohms".split(), "mohm"),
    **dict.fromkeys("kOhm kOhms".split(), "kohm"),
    **dict.fromkeys("MOhm".split(), "Mohm"),
    **dict.fromkeys("hertz hz".split(), "Hz"),
    **dict.fromkeys("°C degc celsius Celsius deg_C ℃ ºC degreeC oC".split(), "degC"),
    **dict.fromkeys("°F".split(), "degF"),
    **dict.fromkeys("° degree degrees".split(), "deg"),
    **dict.fromkeys("PSI Psi".split(), "psi"),
    **dict.fromkeys("pascal".split(), "Pa"),
    **dict.fromkeys("a.u. arb.u. arb. -".split(), "1"),
    **dict.fromkeys("ml".split(), "mL"),
    **dict.fromkeys("l".split(), "L"),
}
_SPELLING = str.maketrans({"\u00b5": "u", "\u03bc": "u", "\u03a9": "ohm", "\u2126": "ohm", "\u00b7": ".", "\u00b2": "^2", "\u00b3": "^3"})
_TIMES = ("s", "ms", "us", "min", "h", "d")
_WORDS = {
    "time": r"time|elapsed|duration|delay",
    "V": r"volt|potential|ecell|ewe|ece|bias|\bu\b",
    "A": r"current|courant|strom",
    "C": r"temp|\bt\d*\b",
    "K": r"temp|\bt\d*\b",
    "W": r"power",
    "g": r"mass|weight",
    "N": r"force|load",
    "m": r"position|displacement|height|length|width|thickness",
    "d": r"time|elapsed",
}


def unit_of(text: str) -> str | None:
    """Read a unit as foreign files spell it (`mAh/V.g` -> `mA*h/V/g`); None if it is not one."""
    text = text.strip().translate(_SPELLING).replace("**", "^")
    if not text or len(text) > 24:
        return None
    if text in _ATOMS:
        return _ATOMS[text]
    if text == "1":
        return "1"
    over, *under = text.split("/")
    parts = []
    for slot, part in enumerate([over, *under]):
        atoms = [a for a in re.split(r"[.*\s]+", part) if a]
        if not atoms and not (slot == 0 and under):
            return None
        for atom in atoms:
            power = re.fullmatch(r"(.*?[A-Za-z%°])(\^?-?\d)?", atom)
            if slot == 0 and atom == "1":
                continue
            if not power or power[1] not in _ATOMS:
                return None
            exponent = (power[2] or "").lstrip("^")
            parts.append(("/" if slot else "*") + _ATOMS[power[1]].replace("*", "/" if slot else "*") + (f"^{exponent}" if exponent else ""))
    joined = "".join(parts)
    return joined[1:] if joined.startswith("*") else "1" + joined if joined else None


def split_label(label: str) -> tuple[str, str | None]:
    """Take a column name apart into name and unit: `Ecell (V)`, `I/mA`, `Voltage / V`, `temperature_1_C`, `voltage_volt`.

    Returns
    -------
    tuple
        The name without its unit; the unit as a symbol, or None if none is said.
    """
    label = label[:200].strip().strip('"').strip()
    bracket = re.fullmatch(r"(.*?)[\s_]*[(\[{]\s*([^()\[\]{}]*?)\s*[)\]}]\s*", label)
    if bracket and bracket[1] and (unit := unit_of(bracket[2])) is not None:
        return bracket[1].strip(), _degrees(bracket[1], bracket[2], unit)
    for slash in re.finditer("/", label):
        base, rest = label[: slash.start()].strip(), label[slash.end() :].strip()
        if base and (unit := unit_of(rest)) is not None:
            if unit in _TIMES and " " in base and not re.search(_WORDS["time"], base.lower()):
                continue  # `Flow smL/min` is not a flow in minutes
            return base, _degrees(base, rest, unit)
    tail = re.fullmatch(r"(.+?)[_\s,]+([^\s_,]+)", label)
    if tail and (unit := unit_of(tail[2])) is not None:
        word = "time" if unit in _TIMES[:5] else unit
        base = tail[1].replace("_", " ").lower()
        if word in _WORDS:
            if re.search(_WORDS[word], base):
                return tail[1].strip(" _,"), _degrees(tail[1], tail[2], unit)
        elif len(tail[2]) > 1:
            return tail[1].strip(" _,"), unit
    return label, None


def _degrees(name: str, written: str, unit: str) -> str:
    """Decide that `T1 (C)` is degrees Celsius and `Q (C)` coulomb."""
    return "degC" if written.strip() == "C" and re.search(_WORDS["C"], name.replace("_", " ").lower()) else unit


def snake_case(name: str) -> str:
    """Make a variable name of a column name: `Spec. Cap.` -> `spec_cap`, `TestTime` -> `test_time`."""
    text = name.replace("µ", "u").replace("μ", "u").replace("Δ", "d").replace("°", "deg").replace("%", " percent ")
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", text)
    text = re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")
    return f"c_{text}" if not text or text[0].isdigit() else text
