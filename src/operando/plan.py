"""Configuration + manifest -> what is still to do. Nothing is read or written here except file identities."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operando.config import GENERAL_SOURCE_KEYS, BeamtimeConfig, ClockConfig, SeriesConfig, SourceConfig
from operando.contract import ConfigError
from operando.loaders import FileTimes, Loader, check_options, expand, get_loader
from operando.loaders.presets import preset_options
from operando.store import content_key, sha256_of

if TYPE_CHECKING:
    from operando.store import Part

SETUP = "_setup"
"""Frames on a further axis or geometry live in `<series>_setup1`, `<series>_setup2` ..."""


_LARGE = 64 * 2**20
"""Bytes from which a file that lies beside another is known by its size and its ends: an Eiger's files of frames hold gigabytes each."""


def _seen(path: Path) -> list[Any]:
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(2**16)
        f.seek(size - 2**16)
        return [size, hashlib.sha256(head + f.read()).hexdigest()]


@dataclass(frozen=True)
class Consumer:
    """A series of a cell that takes frames from a reading."""

    cell: str
    series: str
    where: Mapping[str, Any] = field(default_factory=dict, hash=False)
    technique: str | None = None

    @property
    def address(self) -> str:
        """`cell/series`, as users write it."""
        return f"{self.cell}/{self.series}"


@dataclass(frozen=True)
class Reading:
    """One pass of one loader over one source's files, for every series that takes frames from it.

    Attributes
    ----------
    beside
        Digest of what the files say that options name (a preset, a geometry): that is part of the key, where they lie is not.
    absent
        Of patterns that match no file (yet): what lies there instead.
    """

    source: str
    loader: Loader
    files: tuple[Path, ...]
    options: Mapping[str, Any]
    times: FileTimes
    zone: str | None
    clock: Any
    consumers: tuple[Consumer, ...]
    base: Path
    beside: str = ""
    absent: tuple[ConfigError, ...] = ()

    def key(self, consumer: Consumer) -> str:
        """Stage key of the frames this reading gives a consumer, file contents aside; the zone and the clock are not part of it."""
        times = {k: str(v) for k, v in vars(self.times).items() if k != "base" and v is not None and v is not False}
        options = {k: [_own_name(one) for one in v] if isinstance(v, list) else _own_name(v) for k, v in self.options.items()}
        return content_key(
            "frames", self.loader.name, self.loader.version, _plain(options), self.beside, times, _plain(consumer.where), consumer.technique
        )

    def state_of(self, path: Path) -> str:
        """Digest of what else a file's frames rest on: its line of the log, and the files its loader reads beside it; empty if nothing."""
        said: list[Any] = []
        if self.times.times_from:
            said.append(self.times.logged(path))
        for other in self.loader.beside(path) if self.loader.beside is not None else ():
            if other.is_file():
                said.append([other.name, sha256_of(other) if other.stat().st_size <= _LARGE else _seen(other)])
        return content_key(said)[:32] if said else ""

    def name_of(self, path: Path) -> str:
        """A file's name in the store: relative to beamtime.yaml where it lies below it."""
        name, base = os.path.abspath(path), os.path.abspath(self.base)
        return Path(name[len(base) + 1 :] if name.startswith(base + os.sep) else name).as_posix()


def _plain_clock(clock: ClockConfig | list[ClockConfig] | None) -> Any:
    """Write a clock as plain values: numbers only where some are given, so that what is known beforehand can be told from defaults."""
    if isinstance(clock, list):
        return [_plain_clock(one) for one in clock]
    if clock is None:
        return None
    asked = {"events", "shared_signal", "suggest"}
    words = clock.model_dump(exclude_none=True, exclude=asked)
    if clock.events or clock.shared_signal or clock.suggest:
        words = words if clock.says_numbers else {k: v for k, v in words.items() if k == "segment"}
    return words | clock.model_dump(exclude_none=True, include=asked)


def _own_name(value: Any) -> Any:
    """Give a file's own name: where it lies is not part of a key."""
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _plain(value: Any) -> Any:
    return _whole(json.loads(json.dumps(value, sort_keys=True, default=str)))


def _whole(value: Any) -> Any:
    """Write 1.0 as 1: both mean the same in a configuration."""
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def readings(config: BeamtimeConfig) -> list[Reading]:
    """List what has to be read: sources that several series share are read once.

    Raises
    ------
    ConfigError
        An unknown loader or option, no file at all; all of them in one message. A glob that matches nothing while others do is `absent`: files
        arrive late.
    """
    base = config.folder
    found: dict[str, dict[str, Any]] = {}
    problems: list[ConfigError] = []
    for cell, cell_config in config.cells.items():
        for name, series in ([("echem", cell_config.echem)] if cell_config.echem else []) + list(cell_config.series.items()):
            assert series is not None
            try:
                source_name, settings = _source_of(config, cell, name, series)
                loader = get_loader(settings["loader"], base)
                check_options(loader, settings["options"], GENERAL_SOURCE_KEYS, file=f"{config.path} (source {source_name})")
                settings["options"], settings["beside"] = _with_files(settings["options"], base, loader)
                files, absent = _files_of(settings["files"], base)
                settings["times"] = settings["times"].among(files)
            except ConfigError as error:
                error.file = error.file or f"{config.path} (cell {cell}, series {name})"
                if str(error) not in [str(p) for p in problems]:
                    problems.append(error)
                continue
            where = dict(series.where or {})
            named = where.pop("technique", None)
            technique = str(named) if named else "echem" if name == "echem" else None
            identity = content_key(
                source_name,
                loader.name,
                [f.as_posix() for f in files],
                _plain(settings["options"]),
                _plain(vars(settings["times"])),
                settings["zone"],
            )
            entry = found.setdefault(
                identity, {**settings, "source": source_name, "loader": loader, "files": files, "absent": absent, "consumers": []}
            )
            entry["consumers"].append(Consumer(cell, name, where, technique))
    if found and not problems and not any(entry["files"] for entry in found.values()):
        problems = list({str(error): error for entry in found.values() for error in entry["absent"]}.values())
    if problems:
        if len(problems) == 1:
            raise problems[0]
        raise ConfigError("the configuration cannot be used:\n" + "\n".join(str(p) for p in problems), file=config.path)
    return [Reading(base=base, **{**entry, "consumers": tuple(entry["consumers"])}) for entry in found.values()]


def _files_of(patterns: Any, base: Path) -> tuple[tuple[Path, ...], tuple[ConfigError, ...]]:
    """List the files of some patterns, and what is wrong with those that match none."""
    files: dict[Path, None] = {}
    absent: list[ConfigError] = []
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        try:
            files.update(dict.fromkeys(expand(pattern, base)))
        except ConfigError as error:
            absent.append(error)
    return tuple(files), tuple(absent)


def _with_files(options: Mapping[str, Any], base: Path, loader: Loader) -> tuple[dict[str, Any], str]:
    """Find the files that options name beside beamtime.yaml, and what they and the preset say."""
    found, said = dict(options), []
    for name, value in options.items():
        several = value if isinstance(value, list) else [value]
        for k, one in enumerate(several):
            file, _, inside = str(one).partition("::")  # mask.h5::entry/mask: a dataset in a file
            if isinstance(one, str) and "." in file and (base / file).is_file():
                full = os.path.abspath(base / file) + (f"::{inside}" if inside else "")
                found[name] = [*found[name][:k], full, *found[name][k + 1 :]] if isinstance(value, list) else full
                said.append((name, sha256_of(base / file)))
    if "preset" in found:
        said.append(("preset", _plain(preset_options(found["preset"], loader.name))))
    return found, content_key(sorted(said, key=str)) if said else ""


def _source_of(config: BeamtimeConfig, cell: str, name: str, series: SeriesConfig) -> tuple[str, dict[str, Any]]:
    """Join a series' own source keys with those of the source it names."""
    source: SourceConfig | SeriesConfig = config.sources[series.from_] if series.from_ else series
    own = series.from_ is not None and series.loader is not None
    files = series.files if own and series.files else source.files
    loader = series.loader if own else source.loader
    if not loader or not files:
        raise ConfigError(f"series {name!r} of cell {cell!r} names no loader or no files", expected="from: a source, or loader: and files:")
    times = FileTimes(**source.times, base=config.folder)
    settings = {
        "loader": loader,
        "files": files,
        "options": dict(series.options if own else source.options),
        "times": times,
        "zone": source.timezone or config.timezone,
        "clock": _plain_clock(source.clock),
    }
    return series.from_ or f"{cell}/{name}", settings


@dataclass
class FramesToDo:
    """What one reading still has to do.

    Attributes
    ----------
    files
        Files to read, in order, with the consumers that lack their frames.
    stale
        Part and file whose rows to drop first: the file changed, no longer matches, was only half written into the store, or was read
        under other settings.
    vanished
        Files that are in the store but no longer on disk; their frames are kept as they were read, whatever the settings say now.
    """

    files: list[tuple[Path, tuple[Consumer, ...]]] = field(default_factory=list)
    stale: list[tuple[Part, str]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)


def frames_to_do(
    reading: Reading,
    parts_of: Mapping[Consumer, Sequence[Part]],
    identities: Mapping[Path, Mapping[str, Any]],
    refused: Mapping[tuple[str, str, str, str], Any],
) -> FramesToDo:
    """Compare a reading with the parts there are.

    Parameters
    ----------
    parts_of
        For each consumer, its parts of `frames` (all setups) and `skipped`.
    identities
        Size, sha256 and `state` (`Reading.state_of`) of each file of the reading.
    refused
        (file, sha256, state, key) of files already in quarantine under the same settings; they are not tried again.
    """
    todo = FramesToDo()
    lacking: dict[Path, list[Consumer]] = {}
    by_name = {reading.name_of(path): path for path in reading.files}
    contents = {found["sha256"] for found in identities.values()}
    for consumer in reading.consumers:
        key = reading.key(consumer)
        rows: dict[str, list[int]] = {}
        where: dict[str, list[Part]] = {}
        stale: set[str] = set()
        for part in parts_of.get(consumer, ()):
            for entry in part.inputs:
                name = entry["file"]
                path = by_name.get(name)
                where.setdefault(name, []).append(part)
                have = rows.setdefault(name, [0, int(entry["of"])])
                have[0] += int(entry["rows"][1]) - int(entry["rows"][0])
                if path is None and not (reading.base / name).exists() and entry["sha256"] not in contents:
                    if name not in todo.vanished:
                        todo.vanished.append(name)
                elif path is None or entry["reading"] != key or any(entry.get(k, "") != identities[path][k] for k in ("sha256", "state")):
                    stale.add(name)  # it changed, is meant no more, or was moved and is read under its new name
        stale |= {name for name, (have, of) in rows.items() if have != of and name not in todo.vanished}
        for name in sorted(stale):
            todo.stale += [(part, name) for part in dict.fromkeys(where[name])]
        if not stale and rows.keys() == by_name.keys():
            continue
        for name, path in by_name.items():
            if (name in stale or name not in rows) and (name, identities[path]["sha256"], identities[path]["state"], key) not in refused:
                lacking.setdefault(path, []).append(consumer)
    todo.files = [(path, tuple(lacking[path])) for path in reading.files if path in lacking]
    return todo


def keys_of(parts: Iterable[Part]) -> list[str]:
    """List the keys under which parts were written, and how many of their rows count; compaction changes neither."""
    parts = list(parts)
    return [*sorted(key for part in parts for key in part.keys), f"{sum(part.rows for part in parts)} rows"]


def alignment_key(version: str, frames: Iterable[str], zone: str | None, clock: Any, others: Iterable[str] = (), settings: Any = None) -> str:
    """Stage key of an alignment: intervals, zone, clock (what is only suggested takes no part), and the electrochemistry's own keys."""
    applied = [{k: v for k, v in one.items() if k != "suggest"} for one in (clock if isinstance(clock, list) else [clock] if clock else [])]
    clock = applied if isinstance(clock, list) else applied[0] if applied and applied[0] else None
    return content_key("alignment", version, list(frames), zone, _plain(clock), list(others), _plain(settings))


def reduction_key(name: str, version: str, recipe: Any, about: Any, inputs: Iterable[str]) -> str:
    """Stage key of a reducer's products."""
    return content_key("reduction", name, version, _plain(recipe), _plain(about), list(inputs))
