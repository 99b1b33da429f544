"""Columns of time as loggers and cyclers write them: stamps, Excel days, epoch seconds, elapsed seconds or `HH:MM:SS`.

`read_stamps` gives wall-clock or UTC stamps with their resolution, `read_elapsed` seconds. Day and month are never
guessed: an ambiguous column is resolved from its own values (a field above 12, order, the test clock beside it) or refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from operando.contract import LoaderError, convert

if TYPE_CHECKING:
    import pandas as pd

EXCEL_EPOCH = np.datetime64("1899-12-30T00:00:00", "ns")  # day 60 is the 29 February 1900 that never was; days after it are right
LABVIEW_EPOCH = np.datetime64("1904-01-01T00:00:00", "ns")
UNIX_EPOCH = np.datetime64("1970-01-01T00:00:00", "ns")
_EARLIEST, _LATEST = np.datetime64("1950-01-01", "ns"), np.datetime64("2150-01-01", "ns")

_CLOCK = r"(?:[T ,]\s*(?P<clock>\d{1,2}:\d{2}(?P<sec>:\d{2})?(?P<frac>[.,]\d{1,9})?)\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
_YEAR_FIRST = re.compile(r"\d{4}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,2}" + _CLOCK + r"\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?")
_YEAR_LAST = re.compile(r"(?P<a>\d{1,2})(?P<mark>[-/.])(?P<b>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})" + _CLOCK)
_NAMED = (
    "%d-%b-%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%a %b %d %Y",
)
_NAMED_CLOCKS = (" %I:%M:%S %p", " %H:%M:%S", " %H:%M:%S.%f", " %H:%M", " %I:%M %p", "")
_DURATION = re.compile(r"\s*(?P<sign>-)?(?:(?P<d>\d+)\s*(?:days?|d|-)\s*,?\s*)?(?P<h>\d+):(?P<m>\d{1,2})(?::(?P<s>\d{1,2}(?:[.,]\d+)?))?\s*")


@dataclass
class Stamps:
    """Stamps of a file.

    Attributes
    ----------
    values
        datetime64[ns], on UTC if `utc`, else wall-clock.
    resolution
        Step of the stamps in seconds.
    how
        In what form they were written, in words.
    """

    values: np.ndarray
    utc: bool
    resolution: float
    how: str


def looks_like_stamps(column: pd.Series) -> bool:
    """Say whether the first values hold a date (not only a time of day or a duration)."""
    for value in column.dropna().head(5):
        text = str(value).strip()
        if not (_YEAR_FIRST.fullmatch(text) or _YEAR_LAST.fullmatch(text) or re.search(r"\d{1,2}[- ][A-Za-z]{3}|[A-Za-z]{3} \d{1,2},? ", text)):
            return False
    return bool(column.notna().any())


def numeric_form(column: pd.Series, *, named: bool) -> str | None:
    """Say which numeric form stamps have, from their size: `excel`, `epoch`, `epoch_ms`; None if they could be anything.

    Parameters
    ----------
    column
        Numbers.
    named
        The column's name says that it is a date (needed for Excel days; 45 412 could be seconds).
    """
    low, high = float(column.min()), float(column.max())
    if named and 20_000 <= low and high < 80_000:
        return "excel"
    if 6e8 <= low and high < 3.0e9:
        return "epoch"
    if named and 6e11 <= low and high < 3.0e12:
        return "epoch_ms"
    return None


def read_stamps(
    column: pd.Series,
    path: str | os.PathLike[str],
    *,
    name: str,
    form: str | None = None,
    named: bool = True,
    elapsed: np.ndarray | None = None,
    line: int = 1,
) -> Stamps:
    """Read a column of absolute stamps.

    Parameters
    ----------
    column
        Text or numbers, one per row.
    name
        Its name, for messages.
    form
        `strptime` words, or `excel`, `epoch`, `epoch_ms`, `labview`, `iso`; found out by default.
    named
        The name says that it is a date.
    elapsed
        Seconds of the test clock beside it, which may tell day from month.
    line
        Line of the first row, for messages.

    Raises
    ------
    LoaderError
        A stamp that cannot be read, a form that cannot be told, day and month that cannot be told apart.
    """
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise LoaderError(f"row {row + 1} has no time in column {name!r}", file=path, found=f"line {line + row} or near", hint="a half-written file?")
    if column.dtype.kind in "iuf":
        return _from_numbers(column, path, name, form or numeric_form(column, named=named))
    text = column.astype(str).str.strip()
    first = str(text.iloc[0])
    if form in ("excel", "epoch", "epoch_ms", "labview"):
        raise LoaderError(f"column {name!r} is not numbers", file=path, found=repr(first[:40]), expected=form, hint="correct time_format:")
    if form and form != "iso":
        return _from_format(text, path, name, form, line)
    text = _with_midnight(text)
    first = str(text.iloc[0])
    if match := _YEAR_FIRST.fullmatch(first):
        return _year_first(text, path, name, match, line)
    if (match := _YEAR_LAST.fullmatch(first)) and form != "iso":
        return _year_last(text, path, name, match, elapsed, line)
    for day in _NAMED:
        for clock in _NAMED_CLOCKS:
            if _parse(text.iloc[:1], day + clock).notna().all():
                return _from_format(text, path, name, day + clock, line)
    raise LoaderError(
        f"the stamps of column {name!r} are in no known form",
        file=path,
        found=repr(first[:60]),
        expected="2026-06-03 10:00:00, 06/03/2026 10:00:00 AM, 03.06.2026 10:00:00, Excel days, epoch seconds",
        hint="say it with time_format: '%d %b %Y %H:%M:%S'",
    )


def _with_midnight(text: pd.Series) -> pd.Series:
    """Write 00:00:00 where a stamp among others is a date alone: Windows' general date leaves the time of midnight out.

    The last row is left as it is: there a date alone is a line cut short.
    """
    bare = text.str.fullmatch(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}") if int(text.str.len().min()) <= 10 else None
    if bare is None or bare.all() or not bare.iloc[:-1].any():
        return text
    half = bool(re.search(r"[AaPp]\.?[Mm]\.?$", str(text[~bare].iloc[0])))
    bare.iloc[-1] = False
    return text.where(~bare, text + (" 12:00:00 AM" if half else " 00:00:00"))


def _from_numbers(column: pd.Series, path: str | os.PathLike[str], name: str, form: str | None) -> Stamps:
    values = column.to_numpy(dtype=float)
    if not np.isfinite(values).all():
        raise LoaderError(f"column {name!r} holds a time that is not finite", file=path)
    kinds = {
        "excel": (EXCEL_EPOCH, 86400.0, False, "Excel days of the 1900 system, wall clock"),
        "epoch": (UNIX_EPOCH, 1.0, True, "seconds since 1970, UTC"),
        "epoch_ms": (UNIX_EPOCH, 1e-3, True, "milliseconds since 1970, UTC"),
        "labview": (LABVIEW_EPOCH, 1.0, True, "seconds since 1904, UTC"),
    }
    if form not in kinds:
        raise LoaderError(
            f"what the numbers of column {name!r} count is not clear",
            file=path,
            found=f"{values[0]:g} ... {values[-1]:g}",
            expected="Excel days, seconds or milliseconds since 1970, or seconds since the start",
            hint="say it with time_format: excel | epoch | epoch_ms | labview | elapsed",
        )
    epoch, scale, utc, how = kinds[form]
    if np.abs(values).max() * scale > 6e9:
        raise LoaderError(f"column {name!r} is not {how}", file=path, found=f"{values[0]:g}", hint="correct time_format:")
    seconds = values[:10_000] * scale
    steps = (1.0, 0.1, 0.01, 1e-3, 1e-4) if form != "excel" else (1e-3,)  # Excel days of a whole second are off by microseconds
    step = next((s for s in steps if np.abs(seconds / s - np.round(seconds / s)).max() < 5e-3), 1e-6)
    micro = np.round(values * scale * 1e6).astype(np.int64)  # float64 holds microseconds until the year 2255
    stamps = epoch + (micro * 1000).astype("timedelta64[ns]")
    _plausible(stamps, path, name)
    return Stamps(stamps, utc, step, how)


def _plausible(stamps: np.ndarray, path: str | os.PathLike[str], name: str) -> None:
    wrong = (stamps < _EARLIEST) | (stamps > _LATEST)
    if wrong.any():
        row = int(wrong.argmax())
        raise LoaderError(
            f"row {row + 1} of column {name!r} is not a plausible time",
            file=path,
            found=str(stamps[row])[:19],
            expected="a year between 1950 and 2150",
        )


def _parse(text: pd.Series, form: str, utc: bool = False) -> pd.Series:
    import pandas as pd

    try:
        return pd.to_datetime(text, format=form, errors="coerce", utc=utc)
    except (ValueError, TypeError, OverflowError, re.error):
        return pd.Series(pd.NaT, index=text.index)


def _values(parsed: pd.Series, text: pd.Series, path: str | os.PathLike[str], name: str, form: str, line: int) -> np.ndarray:
    """Turn parsed stamps into datetime64[ns], or say which one is not one."""
    missing = parsed.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        raise LoaderError(
            f"row {row + 1} of column {name!r} is not a stamp like the others",
            file=path,
            found=f"{str(text.iloc[row])[:40]!r}, line {line + row} or near",
            expected=form,
            hint="a half-written or shuffled file? otherwise say the form with time_format:",
        )
    raw = parsed.to_numpy()
    stamps = raw if raw.dtype.kind == "M" else np.array([t.to_datetime64() for t in parsed])
    years = stamps.astype("datetime64[Y]").astype(int) + 1970
    if (years < 1950).any() or (years > 2150).any():
        row = int(((years < 1950) | (years > 2150)).argmax())
        raise LoaderError(f"row {row + 1} of column {name!r} is not a plausible time", file=path, found=str(text.iloc[row])[:40])
    return stamps.astype("datetime64[ns]")


def _from_format(text: pd.Series, path: str | os.PathLike[str], name: str, form: str, line: int) -> Stamps:
    zoned = "%z" in form or "%Z" in form
    parsed = _parse(text, form, utc=zoned)
    if zoned:
        parsed = parsed.dt.tz_localize(None)
    stamps = _values(parsed, text, path, name, form, line)
    resolution = 1e-3 if "%f" in form else 1.0 if "%S" in form or any(w in form for w in ("%T", "%X", "%c", "%s")) else 60.0
    return Stamps(stamps, zoned or "%s" in form, resolution, form)


def _clock_form(match: re.Match[str]) -> tuple[str, float]:
    if not match["clock"]:
        return "", 86400.0
    half = bool(match["half"])
    form = ("%I" if half else "%H") + ":%M" + (":%S" if match["sec"] else "") + (".%f" if match["frac"] else "") + (" %p" if half else "")
    return form, 10.0 ** -(len(match["frac"]) - 1) if match["frac"] else 1.0 if match["sec"] else 60.0


def _tidy(text: pd.Series, match: re.Match[str]) -> pd.Series:
    """Write fractions with a point, AM/PM without points and with one blank, a date and its time one blank apart."""
    if match["half"]:
        text = text.str.upper().str.replace(".M.", "M", regex=False).str.replace(r"\s*([AP])\.?(M)\.?$", r" \1\2", regex=True)
    if match["frac"] and match["frac"][0] == ",":
        text = text.str.replace(",", ".", regex=False)
    return text


def _year_first(text: pd.Series, path: str | os.PathLike[str], name: str, match: re.Match[str], line: int) -> Stamps:
    clock, resolution = _clock_form(match)
    if not clock:
        raise LoaderError(
            f"column {name!r} holds dates without a time of day", file=path, found=repr(match[0]), hint="name both columns: time: [Date, Time]"
        )
    zones = text.str.contains(r"(?:Z|UTC|[+-]\d{2}:?\d{2})$", regex=True)
    utc = bool(zones.all())
    if zones.any() and not utc:
        row = int((~zones).to_numpy().argmax())
        raise LoaderError("some stamps carry a zone and some do not", file=path, found=f"{str(text.iloc[row])[:40]!r} in row {row + 1}")
    text = _tidy(text, match)
    if match["mark"] != "-":
        text = text.str.replace(match["mark"], "-", n=2, regex=False)
    if match["half"]:
        return Stamps(
            _values(_parse(text, f"%Y-%m-%d {clock}"), text, path, name, f"YYYY-MM-DD {clock}", line), False, resolution, "year first, AM/PM"
        )
    parsed = _parse(text.str.replace("UTC", "Z", regex=False).str.replace(" Z", "Z", regex=False) if utc else text, "ISO8601", utc=utc)
    if utc:
        parsed = parsed.dt.tz_localize(None)
    stamps = _values(parsed, text, path, name, "YYYY-MM-DD HH:MM:SS" + (" with its offset" if utc else ""), line)
    return Stamps(stamps, utc, _finest(text, resolution), "ISO" + (" with offset" if utc else ""))


def _finest(text: pd.Series, resolution: float) -> float:
    """Look past a first stamp on a whole second: others may carry a fraction."""
    if resolution == 1.0 and text.iloc[:200].str.contains(r":\d\d[.,]\d", regex=True).any():
        return 1e-3
    return resolution


def _year_last(text: pd.Series, path: str | os.PathLike[str], name: str, match: re.Match[str], elapsed: np.ndarray | None, line: int) -> Stamps:
    clock, resolution = _clock_form(match)
    if not clock:
        raise LoaderError(
            f"column {name!r} holds dates without a time of day", file=path, found=repr(match[0]), hint="name both columns: time: [Date, Time]"
        )
    mark, year = match["mark"], "%Y" if len(match["year"]) == 4 else "%y"
    text = _tidy(text, match)
    text = text.str.replace(r"^(\S+?)[T,]?\s+", r"\1 ", regex=True) if not re.match(r"\S+ \S", match[0]) else text
    finest = _finest(text, resolution)
    days = text.str.slice(0, 10).drop_duplicates()
    fields = days.str.extract(rf"^(\d{{1,2}})[{re.escape(mark)}](\d{{1,2}})[{re.escape(mark)}]")
    a, b = (float(fields[i].astype(float).max()) for i in (0, 1))
    forms = {"d": f"%d{mark}%m{mark}{year} {clock}", "m": f"%m{mark}%d{mark}{year} {clock}"}
    if a > 12 and b > 12:
        raise LoaderError(
            f"column {name!r} has neither the day nor the month first throughout", file=path, found=f"{a:g} and {b:g} as largest fields"
        )
    order = "d" if a > 12 else "m" if b > 12 else "d" if mark == "." else None
    how = f"a field of {max(a, b):g}" if max(a, b) > 12 else "points between day, month and year"
    if order is None:
        order, how = _day_or_month(text, forms, path, name, elapsed)
    form = forms[order]
    if finest < resolution and ".%f" not in form:
        text = text.where(text.str.contains(r":\d\d\.\d", regex=True), text.str.replace(r"(:\d\d:\d\d)", r"\1.0", n=1, regex=True))
        form = form.replace("%S", "%S.%f")
    stamps = _values(_parse(text, form), text, path, name, form, line)
    return Stamps(stamps, False, finest, f"{form} ({how})")


def _day_or_month(text: pd.Series, forms: dict[str, str], path: str | os.PathLike[str], name: str, elapsed: np.ndarray | None) -> tuple[str, str]:
    """Tell `05/06/2026` apart: only one reading keeps the order of the rows, or agrees with the test clock."""
    days = text.str.slice(0, 10)
    changes = (days != days.shift()).to_numpy(dtype=bool, copy=True)  # order and span show on the rows where the day changes, the first and the last
    changes[[0, -1]] = True
    few = text[changes]
    scores = {}
    spans = {}
    for order, form in forms.items():
        parsed = _parse(few, form)
        if parsed.isna().any():
            continue
        seconds = parsed.to_numpy().astype("datetime64[s]").astype(np.int64)
        scores[order] = int((np.diff(seconds) < 0).sum())
        spans[order] = float(seconds[-1] - seconds[0])
    if len(scores) == 1:
        return next(iter(scores)), "the other order is no date"
    if len(scores) == 2 and spans["d"] != spans["m"]:
        if elapsed is not None and np.isfinite(elapsed[[0, -1]]).all():
            test = float(elapsed[-1] - elapsed[0])
            close = {o: abs(spans[o] - test) for o in spans}
            best = min(close, key=lambda o: close[o])
            if close[best] < 0.2 * max(test, 60.0) < close["m" if best == "d" else "d"]:
                return best, "agrees with the test clock"
        if min(scores.values()) == 0 and max(scores.values()) > 0:
            return min(scores, key=lambda o: scores[o]), "keeps the order of the rows"
    raise LoaderError(
        f"day and month cannot be told apart in column {name!r}",
        file=path,
        found=f"{str(text.iloc[0])[:30]!r} ... {str(text.iloc[-1])[:30]!r}",
        expected="a day above 12 somewhere",
        hint=f"say which with time_format: '{forms['d']}' or '{forms['m']}'",
    )


def read_elapsed(column: pd.Series, unit: str | None, path: str | os.PathLike[str], *, name: str, line: int = 1) -> np.ndarray:
    """Read a column of elapsed time as seconds: numbers in `unit`, or `HH:MM:SS`, `2d 03:04:05.6` (any number of hours).

    Raises
    ------
    LoaderError
        A value that is neither, or a number without a unit.
    """
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise LoaderError(f"row {row + 1} has no time in column {name!r}", file=path, found=f"line {line + row} or near", hint="a half-written file?")
    if column.dtype.kind in "iuf":
        if unit is None:
            raise LoaderError(
                f"the unit of the time column {name!r} is not said",
                file=path,
                found=repr(name),
                expected="s, min, h, ms",
                hint="give time_unit: s, or in columns: time: {column: ..., unit: s}",
            )
        seconds = np.asarray(convert(column.to_numpy(dtype=float), unit, "s"), dtype=float)
        if not np.isfinite(seconds).all() or np.abs(seconds).max() > 9e9:
            raise LoaderError(f"column {name!r} holds a time that is not finite", file=path)
        return seconds
    unique, codes = np.unique(column.astype(str).to_numpy(dtype=object), return_inverse=True)
    seconds = np.empty(len(unique))
    for i, text in enumerate(unique):
        match = _DURATION.fullmatch(text)
        if match is None or len(match["h"]) > 7 or len(match["d"] or "") > 5:
            row = int((codes == i).argmax())
            raise LoaderError(
                f"row {row + 1} of column {name!r} is not an elapsed time",
                file=path,
                found=f"{text[:40]!r}, line {line + row} or near",
                expected="numbers or HH:MM:SS",
            )
        clock = int(match["h"]) * 3600 + int(match["m"]) * 60 + float((match["s"] or "0").replace(",", "."))
        seconds[i] = (int(match["d"] or 0) * 86400 + clock) * (-1 if match["sign"] else 1)
    return seconds[codes]
