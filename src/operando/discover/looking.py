"""Walk through a folder and ask the loaders which files they know by content."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from operando.contract import ConfigError, OperandoError
from operando.discover.filenames import POSITION, cell_hint, globs, numbers_out, time_pattern
from operando.discover.findings import Findings, Group
from operando.loaders import Loader, claimed_by, loaders
from operando.loaders.presets import preset_names, read_preset
from operando.loaders.text import natural_key

MAX_FILES = 200_000
_PROBES = 9  # files of one name pattern that are opened; all of it if these disagree
_ALL = 300  # ... up to this many
_SAMPLE_BYTES = 50_000_000  # a larger file is not read to see its times

_IGNORED = re.compile(r"\..*|~\$.*|.*~|__pycache__|__MACOSX|.*\.operando|Thumbs\.db|desktop\.ini|beamtime.*\.ya?ml", re.IGNORECASE)

_BESIDE = re.compile(r"\.poni$|(^|/)[^/]*mask[^/]*\.(npy|edf|tiff?|cbf|msk)$", re.IGNORECASE)  # what detector frames need


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
    spoilt: set[str] = set()
    conflicts: list[tuple[str, dict[str, str]]] = []
    if progress is not None:
        progress.stage("look at files", len(names))
    for files in alike.values():
        answers = list(_recognise(top, files))
        if any(claims for _, claims in answers):  # a damaged file among its like belongs to them: a build names it and goes on
            spoilt.update(name for name, claims in answers if not claims)
        for name, claims in answers:
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

    whole = [name for name in names if name not in spoilt]
    groups = [_group(top, key, files, said, whole) for key, files in known.items()]
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
        beside=tuple(name for name in sorted(strangers, key=natural_key) if _BESIDE.search(name)),
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
    """Read one file to see what it says of its times, under the preset its loader names; if nothing, try the presets of the loader."""
    if _size(path) > _SAMPLE_BYTES:
        return group
    if named := re.search(r"\(preset: ([\w-]+)\)", group.said):  # the loader itself says which preset reads the file
        return replace(
            _read_one(group, loader, path, {"preset": named[1]}), preset=named[1], preset_title=str(read_preset(named[1]).get("title", ""))
        )
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
