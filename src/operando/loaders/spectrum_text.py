"""One spectrum or pattern as text: a block of numbers under any kind of header, labels over it, stamps in the header.

Used by the loaders of one-pattern-per-file text (`xrd-1d`, `xas-columns`). Nothing is guessed about what a column means.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.contract import LoaderError
from operando.loaders.text import parse_local

Path_ = str | os.PathLike[str]
Style = tuple[str | None, str, int]  # separator (None: blanks), decimal sign, number of columns

_LINE = 2000  # characters of a header line that are looked at
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf", re.IGNORECASE)
_PLAIN = re.compile(r"[-+.0-9eE \t\n,;]*")
_MOMENT = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d{1,2}:\d\d(:\d\d([.,]\d+)?)?|\d{4}-\d\d-\d\dT\d\d:\d\d\S{0,20}")
_COMMENT = re.compile(r"\s*(?:#|;|%|!|'|\"|/\*|\*|//|--)")
_XDI = re.compile(r"\W*Column\.(\d{1,5}):\s*(\S+)\s*(.*?)\s*(?:\|\|.*)?$", re.IGNORECASE)
_ALIAS = re.compile(r"\W*([A-Z]\d+)\s*=\s*\{(.*?)\}")

STAMP_FORMATS = (
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%b %d, %Y %H:%M:%S.%f",
    "%b %d, %Y %H:%M:%S",
    "%a %b %d %H:%M:%S %Y",
    "%d-%b-%Y %H:%M:%S",
)
"""Formats in which a date can be read in one way only; `01/02/2020` is not among them."""


@dataclass
class Columns:
    """A block of numbers and what stands above it.

    Attributes
    ----------
    header
        Lines before the numbers, as they stand (cut at 2000 characters).
    values
        (rows, columns) float64.
    integers
        Per column: every number is written without a decimal point.
    labels, units
        Per column, where the header names them; else empty.
    first_line
        Line of the file (from 1) on which the numbers begin.
    """

    header: list[str]
    values: np.ndarray
    integers: list[bool]
    first_line: int
    labels: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)

    def column(self, wanted: str | int, path: Path_, option: str) -> int:
        """Find a column by label or by number (from 1).

        Raises
        ------
        LoaderError
            There is none, or the label stands twice.
        """
        width = self.values.shape[1]
        if not isinstance(wanted, str) or (wanted.isdigit() and wanted not in self.labels):
            try:
                number = int(wanted)
            except (TypeError, ValueError, OverflowError):
                raise LoaderError(f"{option}: is neither a label nor a number", file=path, found=repr(wanted)) from None
            if not 1 <= number <= width:
                raise LoaderError(f"{option}: there is no column {number}", file=path, found=f"{width} columns", expected=f"1 to {width}")
            return number - 1
        for exact in (True, False):
            hits = [i for i, label in enumerate(self.labels) if (label == wanted if exact else label.casefold() == wanted.casefold())]
            if len(hits) == 1:
                return hits[0]
            if hits:
                raise LoaderError(
                    f"{option}: the label {wanted!r} stands over {len(hits)} columns", file=path, hint=f"give the column's number ({hits[0] + 1} ...)"
                )
        raise LoaderError(
            f"{option}: no column is labelled {wanted!r}",
            file=path,
            found=", ".join(self.labels) or f"no labels, {width} columns",
            hint="name one of these, or its number counted from 1",
        )

    def numbers(self, index: int) -> np.ndarray:
        """Give one column: int64 where it is written as integers, else float64."""
        values = self.values[:, index]
        if self.integers[index] and np.all(np.abs(values) < 2**53):
            return values.astype(np.int64)
        return values


def read_columns(text: str, path: Path_, *, first_line: int = 1, least: int = 2) -> Columns:
    """Find the numbers in a text and read them.

    The block begins at the first line of at least `least` numbers that is followed by another of the same width (or by the
    end); comments and blank lines after it are skipped, and so
    is a footer of words. Dates and times of day count as columns; their values are NaN.

    Parameters
    ----------
    text
        Content of the file.
    path
        For the message.
    first_line
        Number of the text's first line in the file.
    least
        Fewest columns.

    Raises
    ------
    LoaderError
        No such block, a line of another length, or a field that is not a number; with its line number.
    """
    if text.rstrip().endswith("\x1a"):  # the end of a file under DOS
        text = text.rstrip().rstrip("\x1a")
    if re.search(r'^"[-+]?\d[\d.,eE+-]{0,40}"[ \t]*[,;\t]', text, re.MULTILINE):  # quoted numbers
        text = text.replace('"', "")
    lines = text.split("\n")
    begin, style = _find_block(lines, least)
    if style is None:
        head = next((line.strip()[:60] for line in lines if line.strip()), "")
        raise LoaderError(f"no block of at least {least} columns of numbers", file=path, found=f"{len(lines)} lines, the first {head!r}")
    if _cut_short(lines[begin:], style):
        raise LoaderError(
            f"the last line ({first_line + len(lines) - 1}) is cut short",
            file=path,
            found=repr(lines[-1].strip()[-60:]),
            expected="as many digits as in the lines before, and a line end",
            hint="the file is half written: copy it again",
        )
    regular = _regular(lines[begin:], style)
    if regular is not None:
        out = Columns([line[:_LINE] for line in lines[:begin]], *regular, first_line + begin)
        _name(out, style)
        return out
    rows: list[list[float]] = []
    integers = [True] * style[2]
    for i in range(begin, len(lines)):
        line = lines[i]
        if not line.strip() or _COMMENT.match(line):
            continue
        words = _words(line, style)
        if rows and _only_words(lines, i):
            break
        if len(words) != style[2]:
            raise LoaderError(
                f"line {first_line + i} has {len(words)} fields, not {style[2]} (a half-written or shuffled file?)",
                file=path,
                found=line.strip()[:60],
            )
        row = []
        for j, word in enumerate(words):
            number = _float(word, style[1])
            if number is None:
                raise LoaderError(f"line {first_line + i} holds {word[:40]!r} where a number is expected", file=path)
            row.append(number)
            if integers[j] and not word.lstrip("+-").isdigit():
                integers[j] = False
        rows.append(row)
    out = Columns([line[:_LINE] for line in lines[:begin]], np.array(rows, dtype=float), integers, first_line + begin)
    _name(out, style)
    return out


def _cut_short(lines: list[str], style: Style) -> bool:
    """Say whether a file without a final line end stops in the middle of a number: it has fewer decimals than all the rows before it."""

    def decimals(word: str) -> int:
        return len(word.partition(style[1])[2])

    last = _words(lines[-1], style)
    if not last or len(last) != style[2]:
        return False
    before = {decimals(words[-1]) for line in lines[-52:-1] if len(words := _words(line, style)) == style[2]}
    return len(lines) > 6 and len(before) == 1 and decimals(last[-1]) < next(iter(before))


def _only_words(lines: list[str], begin: int) -> bool:
    """Say whether the rest of a file is a footer: a line that begins with a word, and no row of numbers after it."""
    if not re.match(r"\s*[\[<(]*[^\W\d_]{2}", lines[begin]) or re.match(r"\s*(?:nan|inf)", lines[begin], re.IGNORECASE):
        return False
    return len(lines) - begin <= 200 and all(_style(line, 2) is None for line in lines[begin:])


def _regular(lines: list[str], style: Style) -> tuple[np.ndarray, list[bool]] | None:
    """Read a block of nothing but plain numbers at once; None if anything about it asks for a closer look."""
    separator, decimal, width = style
    if decimal != ".":
        return None
    text = "\n".join(lines)
    if not _PLAIN.fullmatch(text):
        return None
    if separator is not None:
        if text.count(separator) != (width - 1) * sum(1 for line in lines if line.strip()):
            return None
        text = text.replace(separator, " ")
    rows = [line for line in text.split("\n") if line.strip()]
    words = [line.split() for line in rows]
    if any(len(row) != width for row in words):
        return None
    try:
        values = np.array(words, dtype=float)
    except ValueError:
        return None
    return values, [all(row[j].lstrip("+-").isdigit() for row in words) for j in range(width)]


def _find_block(lines: list[str], least: int) -> tuple[int, Style | None]:
    for begin, line in enumerate(lines):
        style = _style(line, least)
        if style is None:
            continue
        after = next((other for other in lines[begin + 1 :] if other.strip() and not _COMMENT.match(other)), None)
        if after is None or len(_fields(after, style) or ()) == style[2]:
            return begin, style
    return 0, None


def _style(line: str, least: int) -> Style | None:
    """Tell separator and decimal sign of a line of numbers; None if it is none."""
    if not line or not (line[0].isspace() or line[0].isdigit() or line[0] in "+-."):
        return None
    blanks = line.split()
    separator: str | None = None
    decimal = "."
    if ";" in line:
        separator, decimal = ";", "," if "," in line else "."
    elif "," in line and len(blanks) >= least and all(re.fullmatch(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?", b) for b in blanks):
        decimal = ","
    elif "," in line:
        separator = ","
    fields = _fields(line, (separator, decimal, 0))
    if fields is None or len(fields) < least:
        return None
    if not all(map(math.isfinite, fields)):
        moments = sum(bool(_MOMENT.fullmatch(word)) for word in _words(line, (separator, decimal, 0)))
        if len(fields) - moments < least or not (math.isfinite(fields[0]) or (moments and _MOMENT.match(blanks[0]))):
            return None
    return separator, decimal, len(fields)


def _words(line: str, style: Style) -> list[str]:
    if style[0] is None:
        return line.split()
    words = [word.strip() for word in line.split(style[0])]
    return words[:-1] if words and not words[-1] else words


def _float(word: str, decimal: str) -> float | None:
    if decimal != ".":
        word = word.replace(decimal, ".")
    if not word:
        return math.nan
    if len(word) > 60:  # no number, and the expression below would take long to say so
        return None
    if _NUMBER.fullmatch(word):
        return float(word)
    return math.nan if _MOMENT.fullmatch(word) else None  # a date or a time of day beside the numbers


def _fields(line: str, style: Style) -> list[float] | None:
    words = _words(line, style)
    numbers = [_float(word, style[1]) for word in words if word]
    found = [n for n in numbers if n is not None]
    return found if len(found) == len(words) else None


def _name(block: Columns, style: Style) -> None:
    """Take labels from XDI `Column.N:` lines, or from the last header line with one word per column."""
    width = style[2]
    xdi = {int(m.group(1)): (m.group(2), m.group(3)) for line in block.header if (m := _XDI.match(line))}
    if xdi and set(range(1, width + 1)) <= set(xdi):
        block.labels = [xdi[i][0] for i in range(1, width + 1)]
        block.units = [xdi[i][1].split("  ")[0].strip() for i in range(1, width + 1)]
        return
    if _listed(block, width):
        return
    last = [line for line in block.header if re.search(r"[^\W\d_]", line)][-3:]
    for line in reversed(last):
        bare = re.sub(r"^[\s#;%!'\"/*]*(?:[LC]\s+)?", "", line).strip().rstrip(",;").rstrip()
        splits = [bare.split(style[0])] if style[0] else []
        splits += [
            bare.split("\t"),
            re.split(r"\s{2,}", bare),
            re.split(r"\s\*\s+|\s{2,}", bare),
            re.sub(r"\s+([(\[])", r"\1", bare).split(),
            bare.split(),
        ]
        for split in splits:
            words = [word.strip().strip('"') for word in split]
            if len(words) == width and all(words) and sum(bool(re.search(r"[^\W\d]", word)) for word in words) >= width - width // 4:
                aliases = {m.group(1): m.group(2) for other in block.header if (m := _ALIAS.match(other))}
                block.labels = [aliases.get(word, word) for word in words]
                return


def _listed(block: Columns, width: int) -> bool:
    """Take labels from a list in the header: ` 1) Mono Energy   2) I0`, or one per line after `Data:`."""
    numbered: dict[int, str] = {}
    for line in block.header:
        for match in re.finditer(r"(?:^[\s#;%!]*|\s{2,}|\*\s)(\d{1,3})\)\s+(\S.*?)(?=\s{2,}\d{1,3}\)|\s\*\s|\s*$)", line):
            numbered.setdefault(int(match.group(1)), match.group(2).strip(" *"))
    if set(numbered) == set(range(1, width + 1)):
        block.labels = [numbered[i] for i in range(1, width + 1)]
        return True
    names = [line.strip() for line in block.header]
    if "Data:" in names:
        below = [name for name in names[len(names) - names[::-1].index("Data:") :] if name]
        if len(below) == width:
            block.labels = below
            return True
    return False


@dataclass(frozen=True)
class HeaderTimes:
    """What a header says about when: ISO text, seconds of exposure (NaN: unknown), seconds one stamp is uncertain by."""

    start: str | None = None
    exposure: float = math.nan
    uncertainty: float = 0.0


def header_times(
    header: Iterable[str],
    path: Path_,
    *,
    time: str | None = None,
    exposure: str | None = None,
    end: str | None = None,
    formats: str | Sequence[str] | None = None,
) -> HeaderTimes:
    """Read start and exposure from header lines with regular expressions.

    Parameters
    ----------
    header
        Lines.
    path
        For the message.
    time, exposure, end
        Regular expressions; the group `start` / `exposure` / `end` (or the first, or the whole match) is the stamp, the seconds.
    formats
        `strptime` format(s) of the stamps; ISO 8601 and unambiguous formats need none.

    Raises
    ------
    LoaderError
        A pattern is no regular expression, is not found, or what it finds is no stamp or number.
    """
    text = "\n".join(header)
    if time is None:
        if exposure is None:
            return HeaderTimes()
        return HeaderTimes(exposure=_seconds(exposure, text, path))
    start, sigma = _stamp(_search(time, "start", text, path, "header_time"), formats, path, "header_time")
    seconds = math.nan
    if exposure is not None:
        seconds = _seconds(exposure, text, path)
    elif end is not None:
        stop, _ = _stamp(_search(end, "end", text, path, "header_end"), formats, path, "header_end")
        try:
            seconds = (dt.datetime.fromisoformat(stop) - dt.datetime.fromisoformat(start)).total_seconds()
        except (TypeError, ValueError):
            raise LoaderError("header_end: and header_time: are not of one kind", file=path, found=f"{start}, {stop}") from None
    if seconds < 0 or seconds > 1e8:
        raise LoaderError("the header gives an impossible exposure", file=path, found=f"{seconds} s")
    return HeaderTimes(start, seconds, sigma)


def _seconds(pattern: str, text: str, path: Path_) -> float:
    word = _search(pattern, "exposure", text, path, "header_exposure")
    number = _float(word, ",") if "," in word else _float(word, ".")
    if number is None:
        raise LoaderError("header_exposure: finds no number of seconds", file=path, found=word[:60])
    return number


def _search(pattern: str, group: str, text: str, path: Path_, option: str) -> str:
    try:
        match = re.search(pattern, text, re.MULTILINE)
    except (re.error, TypeError) as error:
        raise LoaderError(f"{option}: is not a regular expression: {error}", file=path, found=repr(pattern)) from None
    if match is None:
        raise LoaderError(f"{option}: finds nothing in the header", file=path, found=f"{text.count(chr(10)) + 1} header lines", expected=pattern)
    names = match.groupdict()
    value = names[group] if group in names else match.group(1) if match.groups() else match.group()
    return (value or "").strip()


def _stamp(text: str, formats: str | Sequence[str] | None, path: Path_, option: str) -> tuple[str, float]:
    """Read a stamp; give it as ISO text (digits beyond the microsecond kept) and its resolution as 1 sigma."""
    if formats is None:
        try:
            dt.datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return text, resolution(text)
    stamp = parse_local(" ".join(text.split()), [formats] if isinstance(formats, str) else list(formats or STAMP_FORMATS))
    if stamp is None:
        raise LoaderError(
            f"{option}: finds no date that can be read in one way only",
            file=path,
            found=text[:60],
            expected=str(formats or "ISO 8601"),
            hint="give its format, for example time_format: '%d/%m/%Y %H:%M:%S'",
        )
    return stamp.isoformat(), resolution(text)


def resolution(text: str) -> float:
    """Give the uncertainty (s, 1 sigma) that a stamp has by being cut to its last digit."""
    match = re.search(r"\d{1,2}:\d{2}(?::\d{2}(?:[.,](\d+))?)?", text)
    if match is None:
        return 0.0
    step = 10.0 ** -len(match.group(1)) if match.group(1) else 1.0 if match.group().count(":") == 2 else 60.0
    return step / math.sqrt(12)


def header_numbers(header: Iterable[str], wanted: Mapping[str, Any] | None, path: Path_) -> dict[str, tuple[Any, ...]]:
    """Read numbers (or words) from header lines as coordinates of one frame.

    Parameters
    ----------
    header
        Lines.
    wanted
        Name -> regular expression, or name -> {pattern, units, and further attributes}.
    path
        For the message.

    Returns
    -------
    dict
        Name -> (dims, values, units, attributes) as `series` takes it; NaN where the header lacks it.

    Raises
    ------
    LoaderError
        A pattern that is no regular expression.
    """
    text = "\n".join(header)
    out: dict[str, tuple[Any, ...]] = {}
    if wanted is not None and not isinstance(wanted, Mapping):
        raise LoaderError("header_values: is not a mapping", file=path, found=repr(wanted)[:60], expected="name: pattern")
    for name, spec in (wanted or {}).items():
        pattern, units, attrs = spec, "1", {}
        if isinstance(spec, Mapping):
            attrs = {str(k): str(v) for k, v in spec.items() if k not in ("pattern", "units")}
            pattern, units = spec.get("pattern"), str(spec.get("units", "1"))
        if not isinstance(pattern, str):
            raise LoaderError(
                f"header_values: {name} has no pattern",
                file=path,
                found=repr(spec)[:60],
                expected="a regular expression, or {pattern: ..., units: ...}",
            )
        try:
            word = _search(pattern, str(name), text, path, f"header_values: {name}")
        except LoaderError as error:
            if "regular expression" in error.problem:
                raise
            word = "nan"
        number = _float(word, ".")
        out[str(name)] = ("time", np.array([word], dtype=object), None, attrs) if number is None else ("time", np.array([number]), units, attrs)
    return out
