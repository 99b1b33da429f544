"""What file names say: numbers, cells, positions, stamps, and the glob that catches these files and no others."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from operando.contract import OperandoError
from operando.loaders import NamePattern
from operando.loaders.text import MONTHS

_LETTER = re.compile(r"([A-H])(?:[_ -]|$)")
POSITION = re.compile(r"(pos|position|spot)([ _-]?)(\d{1,3})(?!\d)", re.IGNORECASE)


def numbers_out(name: str) -> str:
    """Write a file's name with its numbers as `#`."""
    return re.sub(r"\d+", "#", name)


def cell_hint(name: str) -> str | None:
    """Give the cell that a path speaks of, nearest the file first: `A_01.mpt` -> A, `cell3_xrd/` -> cell3."""
    for part in reversed(PurePosixPath(name).parts):
        if match := re.search(r"cell[ _-]?(\d{1,3})(?!\d)", part, re.IGNORECASE):
            return f"cell{int(match[1])}"
        if match := re.search(r"(?:^|[ _-])(?:[Cc]ell|CELL)(?:[ _-]([A-Za-z])|([A-Z]))(?![A-Za-z])", part):
            return (match[1] or match[2]).upper()
        if match := _LETTER.match(part):
            return match[1]
    return None


def position_pattern(names: Sequence[str]) -> str | None:
    """Give a `name_pattern` that reads the position from every name, if there is one."""
    match = POSITION.search(names[0])
    if match is None:
        return None
    after = names[0][match.end() : match.end() + 1]
    pattern = f"*{match[1]}{match[2]}{{position}}" + (after if after in "_-" else "") + "*"
    try:
        reader = NamePattern(pattern)
        return pattern if all("position" in reader.read(Path(n))[1] for n in names) else None
    except OperandoError:
        return None


def globs(files: Sequence[str], beside: Sequence[str]) -> tuple[str, ...]:
    """Find the shortest patterns that match these files and none of the others in their folder."""
    wanted = set(files)
    others = [n for n in beside if n not in wanted]
    folder = PurePosixPath(files[0]).parent
    names = [PurePosixPath(f).name for f in files]
    if len(files) == 1:
        return (escape(files[0]),)

    def full(pattern: str) -> str:
        return pattern if folder.as_posix() == "." else f"{escape(folder.as_posix())}/{pattern}"

    def fits(patterns: Sequence[str]) -> bool:
        matching = [re.compile(fnmatch.translate(p)) for p in patterns]
        return all(any(m.match(n) for m in matching) for n in wanted) and not any(m.match(n) for m in matching for n in others)

    suffix = os.path.commonprefix([n[::-1] for n in names])[::-1]
    suffix = suffix[suffix.rfind(".") :] if "." in suffix else ""
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(names))
    by_pattern = [escape(p).replace("#", "*") for p in dict.fromkeys(map(numbers_out, names))]
    for patterns in ([f"*{suffix}"], [f"{escape(prefix)}*{suffix}"], by_pattern):
        candidate = [full(p) for p in patterns]
        if fits(candidate) and len(candidate) <= 20:
            return tuple(candidate)
    return tuple(escape(f) for f in files)


def escape(text: str) -> str:
    """Write a name so that a pattern matches it and nothing else."""
    return re.sub(r"([*?\[])", r"[\1]", text)


_SEP = r"[-_.: hT]?"
_DIGITS = re.compile(rf"(?<!\d)(\d{{4}})({_SEP})(\d{{2}})({_SEP})(\d{{2}})([-_ T]{{0,2}})(\d{{2}})({_SEP})(\d{{2}})(?:({_SEP})(\d{{2}}))?(?!\d)")


def time_pattern(names: Sequence[str]) -> str | None:
    """Find the pattern by which file names hold a date and time.

    Parameters
    ----------
    names
        Names of files that follow one another.

    Returns
    -------
    str or None
        A `name_pattern` that reads every one of them, for example `*_{time:%a %b %d %H-%M-%S %Y}`.

    Examples
    --------
    >>> time_pattern(["LOS2341_Sam Aout 31 05-38-59 2013.csv"])
    '*_{time:%a %b %d %H-%M-%S %Y}'
    """
    if not names:
        return None
    stem = PurePosixPath(names[0]).stem
    for start, end, form in _stamps_in(stem):
        pattern = _around(stem[:start]) + f"{{time:{form}}}" + ("*" if stem[end:] else "")
        try:
            reader = NamePattern(pattern)
            stamps = [reader.read(Path(name))[0] for name in names]
        except OperandoError:
            continue
        if all(stamp and 1990 <= int(stamp[:4]) <= 2100 for stamp in stamps):
            return pattern
    return None


def _around(text: str) -> str:
    """Stand for what comes before the stamp: anything, and the sign that ends it."""
    return "" if not text else "*" + (text[-1] if text[-1] in "_- ." else "")


def _stamps_in(stem: str) -> Iterator[tuple[int, int, str]]:
    for m in _DIGITS.finditer(stem):
        form = f"%Y{m[2]}%m{m[4]}%d{m[6]}%H{m[8]}%M" + (f"{m[10]}%S" if m[11] else "")
        yield m.start(), m.end(), form
    words = [m for m in re.finditer(r"[^\W\d_]+\.?", stem) if _is_month(m.group())]
    clock = r"\d{1,2}([-_.h])\d{2}[-_.m]\d{2}"
    for month in words:
        before, after = stem[: month.start()], stem[month.end() :]
        # Sam Aout 31 05-38-59 2013
        if found := re.match(rf"([ _-])\d{{1,2}}([ _-]){clock}([ _-])\d{{4}}", after):
            day = re.search(r"(?:^|(?<=[ _-]))[^\W\d_]+\.?([ _-])$", before)
            form = f"%b{found[1]}%d{found[2]}%H{found[3]}%M{found[3]}%S{found[4]}%Y"
            yield (day.start() if day else month.start()), month.end() + found.end(), (f"%a{day[1]}" if day else "") + form
        # 31 Aout 2013 05-38-59, 31-Aug-2013_053859
        date = re.search(r"(?<!\d)\d{1,2}([ _-]?)$", before)
        rest = re.match(rf"([ _-]?)\d{{4}}([ _T-])(?:{clock}|\d{{6}})(?!\d)", after)
        if date and rest:
            hour = f"%H{rest[3]}%M{rest[3]}%S" if rest[3] else "%H%M%S"
            yield date.start(), month.end() + rest.end(), f"%d{date[1]}%b{rest[1]}%Y{rest[2]}{hour}"


def _is_month(word: str) -> bool:
    return word.lower().rstrip(".") in MONTHS
