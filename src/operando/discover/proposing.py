"""Write what was found as a commented beamtime.yaml, with a question wherever the folder does not tell."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from operando.contract import ConfigError
from operando.discover.filenames import escape, position_pattern
from operando.discover.findings import Findings, Group, comment
from operando.loaders.text import natural_key

_ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".rar")


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
        self.cyclers = _linked(findings.groups)
        taken: set[str] = set()
        for group in findings.groups:
            self.names[id(group)] = self._name(group, taken)

    def _name(self, group: Group, taken: set[str]) -> str:
        base = "cycler" if group.technique == "echem" else _of(group)
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
            lines += self._source(group) if id(group) not in self.cyclers else []
        lines += ["cells:"]
        for cell in self.cells:
            lines += self._cell(cell)
        return "\n".join([*lines, *self._untold()]) + "\n"

    def _source(self, group: Group) -> list[str]:
        count = f"{len(group.files)} file{'s' if len(group.files) > 1 else ''}"
        lines = [f"  # {count}, {_bytes(group.size)}: {comment(group.said)}"]
        if len(group.patterns) > 1:
            shown = [f"{n} like {comment(name)}" for name, n in group.patterns[:6]]
            lines += [f"  # {'; '.join(shown)}" + (f"; and {len(group.patterns) - 6} more kinds of name" if len(group.patterns) > 6 else "")]
        lines += [f"  {self.names[id(group)]}:", f"    loader: {group.loader}"]
        linked = [g for g in self.findings.groups if self.cyclers.get(id(g)) is group]
        globs = [*group.globs, *(pattern for g in linked for pattern in g.globs)]
        if linked:
            lines += ["    # Cycling and impedance of linked techniques take turns: the timeline is made of both"]
        if len(globs) == 1:
            lines += [f"    files: {_quoted(self.way + globs[0])}"]
        else:
            lines += ["    files:", *(f"      - {_quoted(self.way + pattern)}" for pattern in globs)]
        lines += [f"    {line}" for line in [*self._detector_lines(group), *self._time_lines(group)]]
        if len(group.positions) > 1:
            lines += [f"    # The names speak of positions {', '.join(map(str, group.positions))}:"]
            pattern = position_pattern([PurePosixPath(f).name for f in group.files])
            lines += [f"    {'# ' if group.name_pattern else ''}name_pattern: {_quoted(pattern)}"] if pattern else []
        return [*lines, ""]

    def _detector_lines(self, group: Group) -> list[str]:
        """Say what frames of a detector need: the geometry, if there is just one, and a mask."""
        if group.loader != "xrd-frames":
            return []
        names = [name for name in self.findings.beside if name.endswith(".poni")]
        near = [n for n in names if PurePosixPath(n).parent.as_posix() == group.folder] or names
        if len(near) == 1:
            lines = [f"poni: {_quoted(self.way_to(near[0]))}"]
        elif near:
            lines = [f"poni: {_quoted(self.way_to(near[0]))}   # QUESTION: this one? There are {comment(', '.join(near[:4]))}"]
        else:
            lines = ["# poni: geometry.poni              # QUESTION: where is the geometry? Without it frames are listed, not integrated"]
        masks = [n for n in self.findings.beside if "mask" in PurePosixPath(n).name.lower() and not n.endswith(".poni")]
        lines += [f"mask: {_quoted(self.way_to(masks[0]))}"] if len(masks) == 1 else []
        return lines

    def way_to(self, name: str) -> str:
        """Write a file's name as it is seen from beamtime.yaml."""
        return self.way + name

    def _time_lines(self, group: Group) -> list[str]:
        if group.problem is not None:
            preset = [f"preset: {_quoted(group.preset)}"] if group.preset is not None else []
            return [*preset, f"# QUESTION: does it need an option? {comment(group.problem)}", f"# operando loaders {group.loader}  explains them"]
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
            lines = [f"# This preset reads them: {comment(group.preset_title)}", f"preset: {_quoted(group.preset)}", *lines]
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
            for g in others:
                cycler = self.cyclers.get(id(g))
                source = f"{self.names[id(cycler)]}, loader: {g.loader}" if cycler is not None else self.names[id(g)]
                lines.append(f"      {self._series_name(g, others)}: {{from: {source}}}{note[id(g) in unsure]}")
        return [*lines, ""]

    def _series_name(self, group: Group, others: Sequence[Group]) -> str:
        alone = sum(_of(g) == _of(group) for g in others) == 1
        return _of(group) if alone else self.names[id(group)]

    def _untold(self) -> list[str]:
        f = self.findings
        lines = []
        if f.unrecognised:
            lines += ["# Not recognised by any loader (name one by hand if it fits, or see plugins/operando-mylab):"]
            for ext, (count, example) in list(f.unrecognised.items())[:20]:
                archive = "   (archives are not opened: unpack it)" if ext in _ARCHIVES else ""
                lines += [f"#   {count:6d} {ext:<10} for example {comment(example)}{archive}"]
            if len(f.unrecognised) > 20:
                lines += [f"#   and {len(f.unrecognised) - 20} more extensions"]
        lines += [f"# The loader {name} cannot be used: {comment(why)}" for name, why in f.broken.items()]
        if f.skipped:
            lines += ["# Passed over:", *(f"#   {comment(s)}" for s in f.skipped[:20])]
            lines += [f"#   and {len(f.skipped) - 20} more"] if len(f.skipped) > 20 else []
        if f.truncated:
            lines += [f"# Only the first {f.files} files were looked at."]
        return lines


def _of(group: Group) -> str:
    """Name the technique of a group; that of frames of a diffraction detector is what is made of them."""
    return "xrd" if group.loader == "xrd-frames" else group.technique


def _linked(groups: Sequence[Group]) -> dict[int, Group]:
    """Find for groups of impedance files the cycling of the same experiment: beside them, of the same cell and format."""
    out = {}
    for group in groups:
        suffixes = {PurePosixPath(f).suffix.lower() for f in group.files}
        if group.loader != "biologic-eis" or len(suffixes) != 1:
            continue
        wanted = {".mpt": "biologic-mpt", ".mpr": "biologic-mpr"}.get(suffixes.pop())
        beside = [g for g in groups if g.loader == wanted and (g.folder, g.cell) == (group.folder, group.cell) and g.problem is None]
        if len(beside) == 1:
            out[id(group)] = beside[0]
    return out


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
    made = False
    try:
        with path.open("x", encoding="utf-8", newline="\n") as f:
            made = True
            f.write(text)
    except FileExistsError:
        hint = "rename or remove it, or read the proposal on the screen: -o -"
        raise ConfigError("there is one already, and it is not overwritten", file=path, hint=hint) from None
    except OSError as error:
        if made:  # half a proposal would stand in the way of the next
            with contextlib.suppress(OSError):
                path.unlink()
        raise ConfigError("cannot be written", file=path, found=error.strerror) from None
    return path
