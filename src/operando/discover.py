"""`operando new DIR`: what lies in a folder, and a first beamtime.yaml for it.

`look` walks the folder and asks the loaders which files they know by content; `propose` writes what it found as a commented
beamtime.yaml, with a question where it could not tell. Nothing is guessed silently and nothing is ever overwritten (`write`).
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from operando.contract import ConfigError, OperandoError
from operando.filenames import POSITION, cell_hint, escape, globs, numbers_out, position_pattern, time_pattern
from operando.loaders import Loader, claimed_by, loaders
from operando.loaders.presets import preset_names, read_preset
from operando.loaders.text import natural_key

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
    preset, preset_title, preset_zone
        A preset under which the loader finds the time in the file.
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
    preset: str | None = None
    preset_title: str = ""
    preset_zone: str | None = None
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


class Progress(Protocol):
    """Where `look` says how far it is."""

    def stage(self, what: str, total: int) -> None:
        """Begin a stage of `total` steps."""

    def step(self, n: int = 1) -> None:
        """Report steps done."""


def look(folder: str | os.PathLike[str], *, progress: Progress | None = None) -> Findings:
    """Walk through a folder and recognise what lies in it.

    Hidden files are passed over, linked folders followed once. Files whose names differ only in their numbers are taken
    for the same format after a few of them were opened.

    Parameters
    ----------
    folder
        The folder.
    progress
        Told how many files there are, and how many are done.

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
        alike[(path.parent.as_posix(), numbers_out(path.name))].append(name)

    known: dict[tuple[str, str, str, str | None], list[str]] = defaultdict(list)
    said: dict[str, str] = {}
    strangers: list[str] = []
    conflicts: list[tuple[str, dict[str, str]]] = []
    if progress is not None:
        progress.stage("look at files", len(names))
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
                known[(loader, path.parent.as_posix(), path.suffix.lower(), cell_hint(name))].append(name)
        if progress is not None:
            progress.step(len(files))

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
    todo: list[Path] = [top]
    links: list[Path] = []
    while todo or links:
        here = todo.pop() if todo else links.pop(0)  # links last: a folder is known by its own name
        try:
            info = here.stat()
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            entries = sorted(os.scandir(here), key=lambda e: natural_key(e.name))
        except OSError as error:
            skipped.append(f"{here.relative_to(top).as_posix()}: {error.strerror}")
            continue
        folders: list[Path] = []
        for entry in entries:
            relative = (here / entry.name).relative_to(top).as_posix()
            if _IGNORED.fullmatch(entry.name):
                continue
            if not relative.isprintable():  # it could not be written into a YAML file
                skipped.append(f"{relative.encode('unicode_escape', 'backslashreplace').decode('ascii')}: a name with unprintable characters")
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(here / entry.name)
                elif entry.is_file():
                    yield relative
            except OSError as error:
                skipped.append(f"{relative}: {error.strerror}")
        todo.extend(reversed(folders))


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


def _group(top: Path, key: tuple[str, str, str, str | None], files: list[str], said: dict[str, str], names: Sequence[str]) -> Group:
    loader_name, folder, _, cell = key
    stems = Counter(numbers_out(PurePosixPath(f).name) for f in files)
    sizes = {name: _size(top / name) for name in files}
    positions = sorted({int(m[3]) for f in files if (m := POSITION.search(PurePosixPath(f).name))})
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
        globs=globs(files, [n for n in names if PurePosixPath(n).parent.as_posix() == folder]),
    )
    sample = files[0] if sizes[files[0]] <= _SAMPLE_BYTES else min(files, key=lambda f: sizes[f])
    group = _times(group, loader, top / sample)
    if group.time_origin in (None, "counter"):
        group = replace(group, name_pattern=time_pattern([PurePosixPath(f).name for f in files]))
    return group


def _example(pattern: str, files: Iterable[str]) -> str:
    return next(n for f in files if numbers_out(n := PurePosixPath(f).name) == pattern)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _times(group: Group, loader: Loader, path: Path) -> Group:
    """Read one file to see what it says of its times; if nothing, try the presets of the loader."""
    if _size(path) > _SAMPLE_BYTES:
        return group
    seen = _read_one(group, loader, path, {})
    if seen.time_origin in (None, "counter") and "preset" in loader.options:
        fitting = []
        for name in preset_names():
            preset = read_preset(name)
            if group.loader in preset["loaders"]:
                tried = _read_one(group, loader, path, {"preset": name})
                if tried.time_origin not in (None, "counter"):
                    fitting.append(replace(tried, preset=name, preset_title=str(preset.get("title", "")), preset_zone=preset.get("timezone")))
        if len(fitting) == 1:
            return fitting[0]
    return seen


def _read_one(group: Group, loader: Loader, path: Path, options: dict[str, Any]) -> Group:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = loader.read(path, **options)
        series = (list(made) if isinstance(made, list | tuple) else [made])[0]
        origin = str(series.attrs["time_origin"])
        return replace(
            group,
            technique=str(series.attrs["technique"]),
            time_origin=origin,
            zoned=series.attrs.get("timezone_source") == "file",
            start=None if origin == "counter" else _begin(series),
        )
    except OperandoError as error:
        found = f" (found: {str(error.found)[:100]})" if error.found is not None else ""
        return replace(group, problem=f"{path.name}: {error.problem}{found}")
    except Exception as error:  # a loader at fault must not stop a walk through a folder
        return replace(group, problem=f"{path.name}: {type(error).__name__}: {error}")


def _begin(series: Any) -> str:
    """Say when the first frame began; `time` is its middle."""
    exposure = float(series["exposure"].values[0])
    half = exposure * 5e8 if exposure == exposure else 0.0  # NaN where it is not known
    return str(series["time"].values[0] - int(round(half)))[:19]


# --------------------------------------------------------------------------- proposing


def propose(findings: Findings, beside: str | os.PathLike[str] | None = None) -> str:
    """Write a first beamtime.yaml: commented, and with a question wherever the folder does not tell.

    Parameters
    ----------
    findings
        What `look` found.
    beside
        Folder in which the beamtime.yaml will lie, for its paths are relative to that; the one that was looked at by default.

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
    return _Proposal(findings, _way(findings.folder, beside)).text()


def _way(folder: Path, beside: str | os.PathLike[str] | None) -> str:
    """How to write a path in `folder` seen from `beside`: a prefix, escaped as patterns want it."""
    here = Path(beside).resolve() if beside is not None else folder
    if here == folder:
        return ""
    way = Path(os.path.relpath(folder, here))
    if way.parts.count("..") > 2:  # so far away that only the whole path can be read
        way = folder
    return escape(way.as_posix()).rstrip("/") + "/"


class _Proposal:
    """The lines of one proposal."""

    def __init__(self, findings: Findings, way: str = "") -> None:
        self.findings, self.way = findings, way
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
            lines += [f"    files: {_quoted(self.way + group.globs[0])}"]
        else:
            lines += ["    files:", *(f"      - {_quoted(self.way + pattern)}" for pattern in group.globs)]
        lines += [f"    {line}" for line in self._time_lines(group)]
        if len(group.positions) > 1:
            lines += [f"    # The names speak of positions {', '.join(map(str, group.positions))}:"]
            pattern = position_pattern([PurePosixPath(f).name for f in group.files])
            lines += [f"    {'# ' if group.name_pattern else ''}name_pattern: {_quoted(pattern)}"] if pattern else []
        return [*lines, ""]

    def _time_lines(self, group: Group) -> list[str]:
        if group.problem is not None:
            return [f"# QUESTION: does it need an option? {_comment(group.problem)}", f"# operando loaders {group.loader}  explains them"]
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
        lines = [f"# begins {group.start}, {zone}"]
        if group.preset is not None:
            lines = [f"# This preset finds the time in the files: {_comment(group.preset_title)}", f"preset: {_quoted(group.preset)}", *lines]
            lines += [f"# QUESTION: are they from there? Then the zone is {group.preset_zone}."] if group.preset_zone and not group.zoned else []
        return lines

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


def write(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a proposal; a file that is there already is never touched.

    Raises
    ------
    ConfigError
        There is one already, or it cannot be written there.
    """
    path = Path(path)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as f:
            f.write(text)
    except FileExistsError:
        hint = "rename or remove it, or read the proposal on the screen: -o -"
        raise ConfigError("there is one already, and it is not overwritten", file=path, hint=hint) from None
    except OSError as error:
        raise ConfigError("cannot be written", file=path, found=error.strerror) from None
    return path


def as_dict(findings: Findings) -> dict[str, Any]:
    """Give the findings as plain data (for `--json`)."""
    return {**asdict(findings), "folder": str(findings.folder)}


def summary(findings: Findings) -> str:
    """Say in a few lines what was found and what was not."""
    total = sum(len(g.files) for g in findings.groups)
    lines = [f"{findings.folder}: {total} of {findings.files} files recognised, {len(findings.groups)} source{'s' * (len(findings.groups) != 1)}"]
    for group in findings.groups:
        doubt = ""
        if group.problem is not None:
            doubt = f"  ? {_comment(group.problem)}"
        elif group.time_origin == "counter" and group.name_pattern is None and group.preset is None:
            doubt = "  ? no absolute time in the files"
        cell = f" of {group.cell}" if group.cell else ""
        where = group.globs[0] + (" ..." if len(group.globs) > 1 else "")
        lines.append(f"  {len(group.files):6d} {group.technique:<7} {group.loader:<14} {where}{cell}{doubt}")
    if not any(g.technique == "echem" for g in findings.groups):
        lines.append("  ? no electrochemistry found")
    if any(g.zoned is False for g in findings.groups):
        lines.append("  ? times without a zone: answer timezone:")
    if findings.unrecognised:
        lines.append("  not recognised: " + ", ".join(f"{count} {ext}" for ext, (count, _) in list(findings.unrecognised.items())[:12]))
    if findings.skipped:
        lines.append(f"  passed over: {len(findings.skipped)} (named at the end of the proposal)")
    return "\n".join(lines)
