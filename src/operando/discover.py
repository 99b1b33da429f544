"""`operando new DIR`: what lies in a folder, and a first beamtime.yaml for it.

`look` walks the folder and asks the loaders which files they know by content; `propose` writes what it found as a commented
beamtime.yaml, with a question where it could not tell. Nothing is guessed silently and nothing is ever overwritten (`write`).
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from operando.contract import ConfigError, OperandoError
from operando.loaders import Loader, NamePattern, claimed_by, loaders
from operando.loaders.text import MONTHS, natural_key

MAX_FILES = 200_000
_PROBES = 9  # files of one name pattern that are opened; all of it if these disagree
_ALL = 300  # ... up to this many
_SAMPLE_BYTES = 50_000_000  # a larger file is not read to see its times

_IGNORED = re.compile(r"\..*|~\$.*|.*~|__pycache__|__MACOSX|.*\.operando|Thumbs\.db|desktop\.ini|beamtime.*\.ya?ml", re.IGNORECASE)
_ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".rar")


@dataclass(frozen=True)
class Group:
    """Files that make one source: one loader, one folder, one kind of file, one cell.

    Attributes
    ----------
    loader, said, technique
        Which loader knows them, what it says they are, what it makes of them.
    folder, files
        Relative to the folder that was looked through; files in natural order.
    patterns
        (name with its numbers written `#`, how many).
    cell, positions
        What the names say.
    time_origin, zoned, start
        What the first file says: `header` ..., or `counter` if it holds no absolute time; None if it could not be read.
    name_pattern
        For files without time whose names hold one.
    problem
        Why the first file could not be read.
    """

    loader: str
    said: str
    technique: str
    folder: str
    files: tuple[str, ...]
    patterns: tuple[tuple[str, int], ...]
    size: int
    cell: str | None = None
    positions: tuple[int, ...] = ()
    time_origin: str | None = None
    zoned: bool | None = None
    start: str | None = None
    name_pattern: str | None = None
    problem: str | None = None
    globs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What lies in a folder: pure data.

    Attributes
    ----------
    folder
        The folder, absolute.
    groups
        What is known.
    unrecognised
        Extension -> (how many files, an example).
    conflicts
        (file, {loader: what it says}) where more than one loader claims a file.
    skipped
        Folders and files that could not be looked at, with the reason.
    broken
        Loaders that cannot be imported, with the reason.
    files
        How many files were seen.
    truncated
        True if there were more than `MAX_FILES`.
    """

    folder: Path
    groups: tuple[Group, ...] = ()
    unrecognised: dict[str, tuple[int, str]] = field(default_factory=dict)
    conflicts: tuple[tuple[str, dict[str, str]], ...] = ()
    skipped: tuple[str, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    files: int = 0
    truncated: bool = False


# --------------------------------------------------------------------------- looking


def look(folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Walk through a folder and recognise what lies in it.

    Hidden files are passed over, linked folders followed once. Files whose names differ only in their numbers are taken
    for the same format after a few of them were opened.

    Parameters
    ----------
    folder
        The folder.
    progress
        Called with (files done, files found).

    Raises
    ------
    ConfigError
        It is no folder.
    """
    top = Path(folder)
    if not top.is_dir():
        raise ConfigError("not a folder" if top.exists() else "there is no such folder", file=top, expected="the folder of a beamtime")
    top = top.resolve()
    skipped: list[str] = []
    names: list[str] = []
    for name in _walk(top, skipped):
        if len(names) == MAX_FILES:
            break
        names.append(name)
    truncated = len(names) == MAX_FILES
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(names, key=natural_key):
        path = PurePosixPath(name)
        alike[(path.parent.as_posix(), _numbers_out(path.name))].append(name)

    known: dict[tuple[str, str, str, str | None], list[str]] = defaultdict(list)
    said: dict[str, str] = {}
    strangers: list[str] = []
    conflicts: list[tuple[str, dict[str, str]]] = []
    done = 0
    for files in alike.values():
        for name, claims in _recognise(top, files):
            if len(claims) > 1:
                conflicts.append((name, claims))
            elif not claims:
                strangers.append(name)
            else:
                ((loader, words),) = claims.items()
                said.setdefault(name, words)
                path = PurePosixPath(name)
                known[(loader, path.parent.as_posix(), path.suffix.lower(), _cell_hint(name))].append(name)
        done += len(files)
        if progress is not None:
            progress(done, len(names))

    groups = [_group(top, key, files, said, names) for key, files in known.items()]
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in strangers:
        kinds[_extension(name)].append(name)
    return Findings(
        folder=top,
        groups=tuple(sorted(groups, key=lambda g: (g.technique != "echem", g.technique, natural_key(g.files[0])))),
        unrecognised={ext: (len(files), files[0]) for ext, files in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))},
        conflicts=tuple(conflicts),
        skipped=tuple(skipped),
        broken={name: str(error).splitlines()[0] for name, error in loaders().items() if isinstance(error, OperandoError)},
        files=len(names),
        truncated=truncated,
    )


def _walk(top: Path, skipped: list[str]) -> Iterator[str]:
    """Give every regular file below, relative; each folder once, however it is linked."""
    seen: set[tuple[int, int]] = set()
    todo = [top]
    while todo:
        here = todo.pop()
        try:
            info = here.stat()
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            entries = sorted(os.scandir(here), key=lambda e: natural_key(e.name))
        except OSError as error:
            skipped.append(f"{here.relative_to(top).as_posix()}: {error.strerror}")
            continue
        folders = []
        for entry in entries:
            relative = (here / entry.name).relative_to(top).as_posix()
            if _IGNORED.fullmatch(entry.name):
                continue
            if not relative.isprintable():  # it could not be written into a YAML file
                skipped.append(f"{relative.encode('unicode_escape', 'backslashreplace').decode('ascii')}: a name with unprintable characters")
                continue
            try:
                if entry.is_dir():
                    folders.append(here / entry.name)
                elif entry.is_file():
                    yield relative
            except OSError as error:
                skipped.append(f"{relative}: {error.strerror}")
        todo.extend(reversed(folders))


def _numbers_out(name: str) -> str:
    """Write a file's name with its numbers as `#`."""
    return re.sub(r"\d+", "#", name)


def _extension(name: str) -> str:
    path = PurePosixPath(name)
    return path.suffix.lower() if path.suffix and not path.suffix[1:].isdigit() else "(none)"


def _recognise(top: Path, files: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Ask the loaders about files of one name pattern: a few, and if these disagree all."""
    step = max(1, -(-len(files) // _PROBES))
    probed = {name: claimed_by(top / name) for name in {*files[::step], files[-1]}}
    if len(probed) < len(files) and len({tuple(claims) for claims in probed.values()}) > 1:
        probed.update({name: claimed_by(top / name) for name in files[:_ALL] if name not in probed})
    answer: dict[str, str] = next(iter(probed.values()))
    for name in files:
        answer = probed.get(name, answer)
        yield name, answer


_LETTER = re.compile(r"([A-H])[_ -]")
_POSITION = re.compile(r"(pos|position|spot)([ _-]?)(\d{1,3})(?!\d)", re.IGNORECASE)


def _cell_hint(name: str) -> str | None:
    """Give the cell that a path speaks of, nearest the file first: `A_01.mpt` -> A, `cell3_xrd/` -> cell3."""
    for part in reversed(PurePosixPath(name).parts):
        if match := re.search(r"cell[ _-]?(\d{1,3})(?!\d)", part, re.IGNORECASE):
            return f"cell{int(match[1])}"
        if match := re.search(r"(?:^|[ _-])cell[ _-]?([A-Za-z])(?![A-Za-z])", part, re.IGNORECASE):
            return match[1].upper()
        if match := _LETTER.match(part):
            return match[1]
    return None


def _group(top: Path, key: tuple[str, str, str, str | None], files: list[str], said: dict[str, str], names: Sequence[str]) -> Group:
    loader_name, folder, _, cell = key
    stems = Counter(_numbers_out(PurePosixPath(f).name) for f in files)
    sizes = {name: _size(top / name) for name in files}
    positions = sorted({int(m[3]) for f in files if (m := _POSITION.search(PurePosixPath(f).name))})
    loader = loaders()[loader_name]
    assert isinstance(loader, Loader)
    group = Group(
        loader=loader_name,
        said=next((said[f] for f in files if f in said), ""),
        technique=(loader.techniques or ("sensor",))[0],
        folder=folder,
        files=tuple(files),
        patterns=tuple((_example(pattern, files), count) for pattern, count in stems.most_common()),
        size=sum(sizes.values()),
        cell=cell,
        positions=tuple(positions),
        globs=_globs(files, [n for n in names if PurePosixPath(n).parent.as_posix() == folder]),
    )
    group = _times(group, loader, top / min(files, key=lambda f: (sizes[f], natural_key(f))))
    if group.time_origin in (None, "counter"):
        group = replace(group, name_pattern=time_pattern([PurePosixPath(f).name for f in files]))
    return group


def _example(pattern: str, files: Iterable[str]) -> str:
    return next(n for f in files if _numbers_out(n := PurePosixPath(f).name) == pattern)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _times(group: Group, loader: Loader, path: Path) -> Group:
    """Read one file to see what it says of its times."""
    if _size(path) > _SAMPLE_BYTES:
        return group
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = loader.read(path)
        series = (list(made) if isinstance(made, list | tuple) else [made])[0]
        origin = str(series.attrs["time_origin"])
        return replace(
            group,
            technique=str(series.attrs["technique"]),
            time_origin=origin,
            zoned=series.attrs.get("timezone_source") == "file",
            start=None if origin == "counter" else str(series["time"].values[0])[:19],
        )
    except OperandoError as error:
        found = f" (found: {str(error.found)[:100]})" if error.found is not None else ""
        return replace(group, problem=f"{path.name}: {error.problem}{found}")
    except Exception as error:  # a loader at fault must not stop a walk through a folder
        return replace(group, problem=f"{path.name}: {type(error).__name__}: {error}")


def _globs(files: Sequence[str], beside: Sequence[str]) -> tuple[str, ...]:
    """Find the shortest patterns that match these files and none of the others in their folder."""
    wanted = set(files)
    others = [n for n in beside if n not in wanted]
    folder = PurePosixPath(files[0]).parent
    names = [PurePosixPath(f).name for f in files]
    if len(files) == 1:
        return (_escape(files[0]),)

    def full(pattern: str) -> str:
        return pattern if folder.as_posix() == "." else f"{_escape(folder.as_posix())}/{pattern}"

    def fits(patterns: Sequence[str]) -> bool:
        matching = [re.compile(fnmatch.translate(p)) for p in patterns]
        return all(any(m.match(n) for m in matching) for n in wanted) and not any(m.match(n) for m in matching for n in others)

    suffix = os.path.commonprefix([n[::-1] for n in names])[::-1]
    suffix = suffix[suffix.rfind(".") :] if "." in suffix else ""
    prefix = re.sub(r"\d+$", "", os.path.commonprefix(names))
    by_pattern = [_escape(p).replace("#", "*") for p in dict.fromkeys(map(_numbers_out, names))]
    for patterns in ([f"*{suffix}"], [f"{_escape(prefix)}*{suffix}"], by_pattern):
        candidate = [full(p) for p in patterns]
        if fits(candidate) and len(candidate) <= 20:
            return tuple(candidate)
    return tuple(_escape(f) for f in files)


def _escape(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


# --------------------------------------------------------------------------- times in names

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


# --------------------------------------------------------------------------- proposing


def propose(findings: Findings) -> str:
    """Write a first beamtime.yaml: commented, and with a question wherever the folder does not tell.

    Raises
    ------
    ConfigError
        Two loaders claim the same files, or nothing is known.
    """
    if findings.conflicts:
        file, claims = findings.conflicts[0]
        lines = [f"{f}: {' and '.join(f'{name} ({words})' for name, words in c.items())}" for f, c in findings.conflicts[:5]]
        raise ConfigError(
            f"two loaders claim the same file ({len(findings.conflicts)} files)",
            file=findings.folder / file,
            found="; ".join(lines),
            expected="one loader per format",
            hint="uninstall one of the two, or move these files away and name their loader by hand",
        )
    if not findings.groups:
        what = ", ".join(f"{count} {ext}" for ext, (count, _) in list(findings.unrecognised.items())[:8]) or "no file"
        hint = "operando loaders  lists the formats; archives are not opened: unpack them. A loader of your own: plugins/operando-mylab"
        raise ConfigError("nothing here is known to any loader", file=findings.folder, found=what, hint=hint)
    return _Proposal(findings).text()


class _Proposal:
    """The lines of one proposal."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        hints = sorted({g.cell for g in findings.groups if g.cell}, key=natural_key)
        self.cells = hints or ["A"]
        self.names: dict[int, str] = {}
        taken: set[str] = set()
        for group in findings.groups:
            self.names[id(group)] = self._name(group, taken)

    def _name(self, group: Group, taken: set[str]) -> str:
        base = "cycler" if group.technique == "echem" else group.technique
        cell = f"_{group.cell}" if group.cell and len(self.cells) > 1 else ""
        folder = re.sub(r"[^A-Za-z0-9]+", "_", PurePosixPath(group.folder).name).strip("_")
        for name in (base + cell, f"{base}{cell}_{folder}" if folder else base + cell, f"{base}{cell}_{group.loader.replace('-', '_')}"):
            if name.lower() not in taken:
                break
        number = 2
        while name.lower() in taken:
            name, number = f"{base}{cell}_{number}", number + 1
        taken.add(name.lower())
        return name

    def text(self) -> str:
        """Join all."""
        naive = [g for g in self.findings.groups if g.zoned is False and g.time_origin != "counter"]
        by_config = [g for g in self.findings.groups if g.time_origin == "counter"]
        lines = ["# Proposed by  operando new  from what lies here. Comments say what was found, QUESTIONs what could not be told.", ""]
        lines += [f"title: {_quoted(self.findings.folder.name or 'beamtime')}", ""]
        if naive or by_config:
            who = ", ".join(self.names[id(g)] for g in [*naive, *by_config])
            lines += [f"# QUESTION: which zone did the clocks of {who} follow? Their files do not say."]
            lines += ["# A place such as Europe/Paris, or an offset such as +02:00. The zone of this computer is never used."]
        else:
            lines += ["# The files carry their zones; this is for instruments whose files do not."]
        lines += ["timezone:", "", "sources:"]
        for group in self.findings.groups:
            lines += self._source(group)
        lines += ["cells:"]
        for cell in self.cells:
            lines += self._cell(cell)
        return "\n".join([*lines, *self._untold()]) + "\n"

    def _source(self, group: Group) -> list[str]:
        count = f"{len(group.files)} file{'s' if len(group.files) > 1 else ''}"
        lines = [f"  # {count}, {_bytes(group.size)}: {_comment(group.said)}"]
        if len(group.patterns) > 1:
            shown = [f"{n} like {_comment(name)}" for name, n in group.patterns[:6]]
            lines += [f"  # {'; '.join(shown)}" + (f"; and {len(group.patterns) - 6} more kinds of name" if len(group.patterns) > 6 else "")]
        lines += [f"  {self.names[id(group)]}:", f"    loader: {group.loader}"]
        if len(group.globs) == 1:
            lines += [f"    files: {_quoted(group.globs[0])}"]
        else:
            lines += ["    files:", *(f"      - {_quoted(pattern)}" for pattern in group.globs)]
        lines += [f"    {line}" for line in self._time_lines(group)]
        if len(group.positions) > 1:
            lines += [f"    # The names speak of positions {', '.join(map(str, group.positions))}:"]
            pattern = _position_pattern(group)
            lines += [f"    {'# ' if group.name_pattern else ''}name_pattern: {_quoted(pattern)}"] if pattern else []
        return [*lines, ""]

    def _time_lines(self, group: Group) -> list[str]:
        if group.problem is not None:
            return [f"# QUESTION: not readable without further options? {_comment(group.problem)}", f"# operando loaders {group.loader}  explains them"]
        if group.name_pattern is not None:
            return ["# No time in the files, but in their names:", f"name_pattern: {_quoted(group.name_pattern)}"]
        if group.time_origin == "counter":
            return [
                "# QUESTION: these files hold no absolute time. Give one of:",
                "# start: 2026-06-03T10:00:00         # with  period: 60 s  for numbered files",
                "# times_from: {file: log.csv, name: filename, start: started, end: ended}",
                "# name_pattern: '*_{time:%Y%m%dT%H%M%S}'",
                "# mtime: true                        # last resort: when the files were written, uncertain",
                f"# or the option of the loader that finds it in the header:  operando loaders {group.loader}",
            ]
        if group.time_origin is None:
            return ["# Not read here (large); operando check says where its times come from."]
        zone = "with its zone (shown in UTC)" if group.zoned else "wall clock, without zone"
        return [f"# begins {group.start}, {zone}"]

    def _cell(self, cell: str) -> list[str]:
        mine = [g for g in self.findings.groups if (g.cell or self.cells[0]) == cell]
        unsure = {id(g) for g in mine if g.cell is None and len(self.cells) > 1}
        note = {True: "   # QUESTION: the names do not say which cell", False: ""}
        lines = [f"  {cell}:"]
        if cell == "A" and not any(g.cell for g in self.findings.groups):
            lines[0] += "                                  # call it what you like"
        lines += [
            "    about:                              # wins over what files claim; fill in what you know",
            "      # active_mass: 6.84 mg",
            "      # area: 1.54 cm^2",
            "      # capacity: 1.5 mAh               # what the state of charge counts against",
            "      # chemistry: NMC811|graphite",
        ]
        cyclers = sorted((g for g in mine if g.technique == "echem"), key=lambda g: (g.cell is None, g.problem is not None, -len(g.files), -g.size))
        for i, group in enumerate(cyclers):
            if i == 0:
                lines += [f"    echem: {{from: {self.names[id(group)]}}}{note[id(group) in unsure]}"]
            else:
                twin = "the same measurement in another format" if _twins(group, cyclers[0]) else "a cell has one; more cells?"
                lines += [f"    # echem: {{from: {self.names[id(group)]}}}   # QUESTION: {twin}"]
        if not cyclers:
            lines += ["    # echem: {from: ...}                # QUESTION: no electrochemistry was found; frames without it are shown UNALIGNED"]
        others = [g for g in mine if g.technique != "echem"]
        if others:
            lines += ["    series:"]
            lines += [f"      {self._series_name(g, others)}: {{from: {self.names[id(g)]}}}{note[id(g) in unsure]}" for g in others]
        return [*lines, ""]

    def _series_name(self, group: Group, others: Sequence[Group]) -> str:
        alone = sum(g.technique == group.technique for g in others) == 1
        return group.technique if alone else self.names[id(group)]

    def _untold(self) -> list[str]:
        f = self.findings
        lines = []
        if f.unrecognised:
            lines += ["# Not recognised by any loader (name one by hand if it fits, or see plugins/operando-mylab):"]
            for ext, (count, example) in list(f.unrecognised.items())[:20]:
                archive = "   (archives are not opened: unpack it)" if ext in _ARCHIVES else ""
                lines += [f"#   {count:6d} {ext:<10} for example {_comment(example)}{archive}"]
            if len(f.unrecognised) > 20:
                lines += [f"#   and {len(f.unrecognised) - 20} more extensions"]
        lines += [f"# The loader {name} cannot be used: {_comment(why)}" for name, why in f.broken.items()]
        if f.skipped:
            lines += ["# Passed over:", *(f"#   {_comment(s)}" for s in f.skipped[:20])]
            lines += [f"#   and {len(f.skipped) - 20} more"] if len(f.skipped) > 20 else []
        if f.truncated:
            lines += [f"# Only the first {MAX_FILES} files were looked at."]
        return lines


def _twins(a: Group, b: Group) -> bool:
    """Say whether two groups hold the same names with other extensions."""
    stems = [{PurePosixPath(f).with_suffix("").name for f in g.files} for g in (a, b)]
    return a.folder == b.folder and a.loader != b.loader and bool(stems[0] & stems[1])


def _position_pattern(group: Group) -> str | None:
    """Give a `name_pattern` that reads the position from every name, if there is one."""
    names = [PurePosixPath(f).name for f in group.files]
    match = _POSITION.search(names[0])
    if match is None:
        return None
    after = names[0][match.end() : match.end() + 1]
    pattern = f"*{match[1]}{match[2]}{{position}}" + (after if after in "_-" else "") + "*"
    try:
        reader = NamePattern(pattern)
        return pattern if all("position" in reader.read(Path(n))[1] for n in names) else None
    except OperandoError:
        return None


@functools.cache
def _plain() -> re.Pattern[str]:
    return re.compile(r"[A-Za-z_/][A-Za-z0-9_./*()-]*(?: [A-Za-z0-9_./*()-]+)*")


def _quoted(text: str) -> str:
    """Write text as a YAML scalar."""
    plain = _plain().fullmatch(text) and text.lower() not in ("null", "true", "false", "~")
    return text if plain else "'" + text.replace("'", "''") + "'"


def _comment(text: str) -> str:
    return " ".join(text.split())[:160]


def _bytes(size: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size //= 1000
    return f"{size} {unit}"


def write(folder: str | os.PathLike[str], text: str, name: str = "beamtime.yaml") -> Path:
    """Write a proposal; a file that is there already is never touched.

    Raises
    ------
    ConfigError
        There is one already, or the folder cannot be written.
    """
    path = Path(folder) / name
    try:
        with path.open("x", encoding="utf-8", newline="\n") as f:
            f.write(text)
    except FileExistsError:
        hint = "rename or remove it, or read the proposal on the screen"
        raise ConfigError("there is one already, and it is not overwritten", file=path, hint=hint) from None
    except OSError as error:
        raise ConfigError("cannot be written", file=path, found=error.strerror) from None
    return path
