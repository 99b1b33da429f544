"""What lies in a folder: pure data, and in a few words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
        True if there were more than are looked at.
    beside
        Files that no loader reads by themselves and that detector frames need: geometries (.poni), masks.
    """

    folder: Path
    groups: tuple[Group, ...] = ()
    unrecognised: dict[str, tuple[int, str]] = field(default_factory=dict)
    conflicts: tuple[tuple[str, dict[str, str]], ...] = ()
    skipped: tuple[str, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    files: int = 0
    truncated: bool = False
    beside: tuple[str, ...] = ()


def comment(text: str) -> str:
    """Put text on one line of a comment."""
    return " ".join(text.split())[:160]


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
            doubt = f"  ? {comment(group.problem)}"
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
