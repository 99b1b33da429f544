"""Run a plan, in order: read frames, align, reduce, publish. Every step skips what is already there under the same key."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from operando import __version__, plan
from operando.config import BeamtimeConfig, ClockConfig, read_config
from operando.contract import ClockError, ConfigError, ContractError, OperandoError
from operando.loaders import FileTimes, concatenate, expand, get_loader, load_file, select
from operando.loaders.layer import axis_of
from operando.reduction import default_reducer, parse_recipe
from operando.reduction.interface import run as run_reducer
from operando.store import FileIdentities, Part, Store, content_key
from operando.timeline import VERSION as TIMELINE_VERSION
from operando.timeline import AlignmentReport, Clock, align_frames, annotate, echem_timeline, localise, restart_segments, summarise

_SHARE = 4
"""Frames gather until they fill this fraction (1/4) of the memory setting: joining doubles them, writing chunks them again."""


class Progress(Protocol):
    """Where a build says what it does; the command line shows bars on standard error."""

    def stage(self, what: str, total: int) -> None:
        """Begin a stage of `total` steps."""

    def step(self, n: int = 1) -> None:
        """Report steps done."""

    def say(self, message: str) -> None:
        """Pass on a message about one file or series."""


class Silent:
    """No progress."""

    def stage(self, what: str, total: int) -> None:
        """Do nothing."""

    def step(self, n: int = 1) -> None:
        """Do nothing."""

    def say(self, message: str) -> None:
        """Do nothing."""


@dataclass
class Outcome:
    """What a build did.

    Attributes
    ----------
    published
        The `.nxs` file.
    quarantined
        File -> why it could not be read; everything else was built.
    problems
        What else is at fault and how to mend it (a clock without a zone, overlapping electrochemistry ...).
    done
        Step -> how often it was really carried out (`files`, `frames`, `alignments`, `reductions`, `published`).
    """

    published: Path
    live: Path
    quarantined: dict[str, str] = field(default_factory=dict)
    problems: list[OperandoError] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("files", "frames", "alignments", "reductions", "published"), 0))

    @property
    def ok(self) -> bool:
        """True if every file was read and every series aligned."""
        return not self.quarantined and not self.problems


def load(files: str | Path, loader: str, *, timezone: str | None = None, where: Mapping[str, Any] | None = None, **options: Any) -> xr.Dataset:
    """Load files with one loader into one series on UTC.

    Nothing is aligned or reduced.

    Parameters
    ----------
    files
        Path or glob.
    loader
        Loader name (`operando loaders` lists them), or `my_loader.py:load`.
    timezone
        Zone of the instrument's clock, for files that carry none. The analysing computer's zone is never used.
    where
        Which frames of a file that holds several techniques, cells or positions.
    **options
        The loader's own options, and the general ones: `start`, `exposure` (s), `period` (s), `name_pattern`, `times_from`, `mtime`,
        `stamp_marks`, `time_uncertainty` (s).

    Returns
    -------
    xarray.Dataset
        A contract series.

    Raises
    ------
    LoaderError, ContractError
        A file cannot be read; the message names it.
    ClockError
        The files carry no zone and none is given.
    ConfigError
        No such loader, option or file.

    Examples
    --------
    >>> xas = op.load("xas/*.txt", "xas-columns", preset="soleil-rock", timezone="Europe/Paris")   # doctest: +SKIP
    """
    times = {k: options.pop(k) for k in list(options) if k in FileTimes.__dataclass_fields__ and k != "base"}
    chosen = get_loader(loader)
    where = dict(where or {})
    technique = where.pop("technique", None)
    found: list[xr.Dataset] = []
    for path in expand(files):
        for ds in load_file(chosen, path, options, FileTimes(**times, base=Path())):
            if technique in (None, ds.attrs["technique"]):
                ds = select(ds, where)
                if ds.sizes["time"]:
                    found.append(ds)
    if not found:
        raise ContractError("no frame fits where=", file=str(files), found=where or technique)
    kinds = sorted({ds.attrs["technique"] for ds in found})
    if len(kinds) > 1:
        raise ContractError("the files hold several techniques", file=str(files), found=", ".join(kinds), hint='choose one: where={"technique": ...}')
    found.sort(key=lambda ds: ds["time"].values[0])
    series = concatenate(found)
    return restart_segments(localise(series, timezone))


def build(
    config: str | Path,
    output: str | Path | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    rehash: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Load, align, reduce and save a beamtime; resume where an earlier run stopped.

    Files that cannot be read are quarantined with the reason and everything else is built; a warning names them.

    Parameters
    ----------
    config
        beamtime.yaml.
    output
        The store to write, `<name>.nxs`; by default beside beamtime.yaml, with its name. `<name>.operando/` beside it is the growing store.
    workers
        Processes that read files; by default as the configuration says.
    memory
        Bytes that frames may take while they are read; by default as the configuration says.
    rehash
        Read every input file again to see whether it changed, instead of trusting size and times.

    Returns
    -------
    pathlib.Path
        The published store.

    Raises
    ------
    ConfigError
        beamtime.yaml cannot be used.
    ClockError, ContractError, StoreError
        After everything else was built.
    """
    outcome = run(read_config(config), output, workers=workers, memory=memory, rehash=rehash, progress=progress)
    if outcome.problems:
        raise outcome.problems[0]
    for file, reason in outcome.quarantined.items():
        warnings.warn(f"{file} is quarantined: {reason}", stacklevel=2)
    return outcome.published


def store_paths(config: BeamtimeConfig, output: str | Path | None) -> tuple[Path, Path]:
    """Give the published file and the live directory of a configuration."""
    path = Path(output) if output is not None else config.path.with_suffix(".nxs")
    if path.suffix == ".operando":
        path = path.with_suffix(".nxs")
    elif path.suffix != ".nxs":
        path = path.with_name(path.name + ".nxs")
    return path, path.with_suffix(".operando")


def run(
    config: BeamtimeConfig,
    output: str | Path | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    rehash: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Build as `build` does, and report everything that happened instead of raising."""
    published, live = store_paths(config, output)
    outcome = Outcome(published, live)
    progress = progress or Silent()
    everything = plan.readings(config)
    _check_recipes(config)
    with Store(live).writing() as writer:
        identities = FileIdentities(live, rehash=rehash)
        for reading in everything:
            _read_frames(reading, writer, identities, outcome, progress, memory or config.settings.memory, workers or config.settings.workers)
        identities.save()
        _align(config, everything, writer, outcome, progress)
        _reduce(config, everything, writer, outcome, progress)
        _publish(config, everything, writer, published, outcome, progress)
    return outcome


# --------------------------------------------------------------------------- frames


def _frames_parts(store: Store, consumer: plan.Consumer) -> list[Part]:
    """List a consumer's parts of frames on every axis, and of files that held nothing for it."""
    parts = []
    for series in _with_setups(store, consumer.cell, consumer.series):
        parts += store.parts(consumer.cell, series, "frames")
    return parts + store.parts(consumer.cell, consumer.series, "skipped")


def _with_setups(store: Store, cell: str, series: str) -> list[str]:
    """Name a series and its further setups that the store holds."""
    prefix = series + plan.SETUP
    more = [s for c, s, p in store.products() if c == cell and p == "frames" and s.startswith(prefix) and s[len(prefix) :].isdigit()]
    return [series, *sorted(more, key=lambda s: int(s[len(prefix) :]))]


def _read_frames(reading: plan.Reading, writer: Any, identities: FileIdentities, outcome: Outcome, progress: Progress, memory: int, workers: int) -> None:
    """Read the files of one source that are not in the store yet, each once, for every series that takes frames from it."""
    store: Store = writer.store
    found: dict[Path, Mapping[str, Any]] = {}
    for path in reading.files:
        try:
            found[path] = identities.identify(path)
        except OSError as error:
            outcome.quarantined[reading.name_of(path)] = f"cannot be opened: {error.strerror}"
    known = {(q["file"], q.get("sha256", ""), q.get("key", "")): q for q in store.quarantined()}
    parts_of = {consumer: _frames_parts(store, consumer) for consumer in reading.consumers}
    todo = plan.frames_to_do(
        plan.Reading(**{**vars(reading), "files": tuple(found)}), parts_of, found, {k: None for k in known}
    )
    for (name, sha, key), record in known.items():
        for path in found:
            if name == reading.name_of(path) and sha == found[path]["sha256"] and key in {reading.key(c) for c in reading.consumers}:
                outcome.quarantined[name] = record["reason"]
    if todo.vanished:
        outcome.messages.append(f"{reading.source}: {len(todo.vanished)} files are no longer on disk; their frames are kept ({todo.vanished[0]} ...)")
    if todo.stale:
        writer.drop(todo.stale)
    if not todo.files:
        return
    progress.stage(f"read {reading.source}", len(todo.files))
    gather = _Gather(reading, writer, found, memory // _SHARE, outcome)
    zoned = False
    for (path, consumers), loaded in zip(todo.files, _load_all(reading, [p for p, _ in todo.files], workers), strict=True):
        name = reading.name_of(path)
        outcome.done["files"] += 1
        try:
            if isinstance(loaded, OperandoError):
                raise loaded
            if not zoned and reading.zone is None and any(ds.attrs["timezone_source"] == "none" for ds in loaded):
                raise _no_zone(reading, path)
            zoned = True
            gather.add(path, consumers, loaded)
        except (ClockError, ConfigError):
            gather.flush()
            raise
        except OperandoError as error:
            for consumer in consumers:
                writer.quarantine(name, reading.source, str(error), sha256=found[path]["sha256"], key=reading.key(consumer))
            outcome.quarantined[name] = str(error)
            progress.say(str(error))
        progress.step()
    gather.flush()


def _no_zone(reading: plan.Reading, path: Path) -> ClockError:
    return ClockError(
        "the times in the file carry no zone, and none is configured",
        file=path,
        found=f"wall-clock times (source {reading.source})",
        expected="the zone of the instrument's clock; the zone of this computer is never used",
        hint=f"write  timezone: Europe/Paris  (or wherever the instrument stood) at the top of beamtime.yaml or in the source {reading.source}",
    )


def _load_one(reading: plan.Reading, path: Path) -> list[xr.Dataset] | OperandoError:
    try:
        return load_file(reading.loader, path, reading.options, reading.times)
    except OperandoError as error:
        return error


def _load_named(name: str, base: Path, path: Path, options: Mapping[str, Any], times: FileTimes) -> list[xr.Dataset] | OperandoError:
    """Load in a worker process: loaders are found by name there, they need not survive pickling."""
    try:
        return load_file(get_loader(name, base), path, options, times)
    except OperandoError as error:
        return error


def _load_all(reading: plan.Reading, files: list[Path], workers: int) -> Iterator[list[xr.Dataset] | OperandoError]:
    """Load files in order, in worker processes if there are several of both; at most four times as many as workers lie in memory."""
    workers = min(workers, len(files))
    if workers < 2:
        for path in files:
            yield _load_one(reading, path)
        return
    import multiprocessing
    from collections import deque

    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")))
        ahead: deque[Any] = deque()
        for path in files:
            ahead.append(pool.submit(_load_named, reading.loader.name, reading.base, path, reading.options, reading.times))
            if len(ahead) >= 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Gather:
    """Frames on their way into parts: as many files together as fit the memory, each file whole or in slices of its own."""

    def __init__(self, reading: plan.Reading, writer: Any, identities: Mapping[Path, Mapping[str, Any]], limit: int, outcome: Outcome) -> None:
        self.reading, self.writer, self.identities, self.limit, self.outcome = reading, writer, identities, limit, outcome
        self.waiting: dict[tuple[plan.Consumer, str], list[tuple[Path, xr.Dataset, int]]] = {}
        self.skipped: dict[plan.Consumer, list[Path]] = {}
        self.bytes = 0

    def add(self, path: Path, consumers: tuple[plan.Consumer, ...], loaded: list[xr.Dataset]) -> None:
        """Route one file's series to those that lack them."""
        for consumer in consumers:
            mine = [ds for ds in (select(ds, consumer.where, file=path) for ds in self._of_technique(consumer, loaded, path)) if ds.sizes["time"]]
            of = sum(ds.sizes["time"] for ds in mine)
            if not mine:
                self.skipped.setdefault(consumer, []).append(path)
            size = sum(ds.nbytes for ds in mine)
            if size > self.limit:
                self.flush()
                for ds in mine:
                    self._write_slices(consumer, path, ds, of)
                continue
            for ds in mine:
                self.waiting.setdefault((consumer, _axis_digest(ds)), []).append((path, ds.load(), of))
            self.bytes += size
        if self.bytes > self.limit:
            self.flush()

    def _of_technique(self, consumer: plan.Consumer, loaded: list[xr.Dataset], path: Path) -> list[xr.Dataset]:
        kinds = sorted({str(ds.attrs["technique"]) for ds in loaded})
        wanted = consumer.technique or (kinds[0] if len(kinds) == 1 else consumer.series if consumer.series in kinds else None)
        if wanted is None:
            raise ConfigError(
                f"source {self.reading.source} gives several techniques", file=path, found=", ".join(kinds), hint=f"series {consumer.address}: where: {{technique: ...}}"
            )
        if consumer.series == "echem" and "echem" not in kinds and len(kinds) == 1:
            raise ConfigError("what echem: names is no electrochemistry", file=path, found=kinds[0], hint=f"correct echem: of cell {consumer.cell}")
        return [ds for ds in loaded if ds.attrs["technique"] == wanted]

    def flush(self) -> None:
        """Write what waits."""
        for (consumer, digest), many in self.waiting.items():
            many = sorted(many, key=lambda item: item[1]["source_time"].values[0])
            row, inputs = 0, []
            for path, ds, of in many:
                inputs.append(self._input(path, consumer, row, row + ds.sizes["time"], of, digest, ds))
                row += ds.sizes["time"]
            self._write(consumer, digest, concatenate([ds for _, ds, _ in many]), inputs)
        for consumer, paths in self.skipped.items():
            names = np.array([self.reading.name_of(p) for p in paths], dtype=object)
            inputs = [
                {"file": str(name), **self.identities[p], "rows": [0, 0], "of": 0, "t0": 0, "reading": self.reading.key(consumer)}
                for name, p in zip(names, paths, strict=True)
            ]
            key = content_key("skipped", self.reading.key(consumer), [i["sha256"] for i in inputs])
            self.writer.write(consumer.cell, consumer.series, "skipped", xr.Dataset({"file": ("file", names)}), key=key, inputs=inputs)
        self.waiting, self.skipped, self.bytes = {}, {}, 0

    def _write_slices(self, consumer: plan.Consumer, path: Path, ds: xr.Dataset, of: int) -> None:
        """Write a file that is larger than the memory setting slice by slice; its signals are read as they are written."""
        digest = _axis_digest(ds)
        rows = max(1, int(ds.sizes["time"] * self.limit / max(ds.nbytes, 1)))
        for start in range(0, ds.sizes["time"], rows):
            some = ds.isel(time=slice(start, start + rows)).load()
            self._write(consumer, digest, some, [self._input(path, consumer, 0, some.sizes["time"], of, digest, some)])

    def _input(self, path: Path, consumer: plan.Consumer, a: int, b: int, of: int, digest: str, ds: xr.Dataset) -> dict[str, Any]:
        return {
            "file": self.reading.name_of(path),
            **self.identities[path],
            "rows": [a, b],
            "of": of,
            "t0": int(ds["source_time"].values[0].astype(np.int64)),
            "axis": digest,
            "reading": self.reading.key(consumer),
        }

    def _write(self, consumer: plan.Consumer, digest: str, ds: xr.Dataset, inputs: list[dict[str, Any]]) -> None:
        setup = self._setup_of(consumer, digest)
        series = consumer.series if setup == 0 else f"{consumer.series}{plan.SETUP}{setup}"
        ds = ds.assign_coords(setup=("time", np.full(ds.sizes["time"], setup, np.int32), {"units": "1"}))
        ds.attrs.update(cell=consumer.cell, instrument=ds.attrs.get("instrument") or self.reading.source)
        key = content_key(self.reading.key(consumer), [(i["sha256"], i["rows"], i["t0"]) for i in inputs])
        self.writer.write(consumer.cell, series, "frames", ds, key=key, inputs=inputs)
        self.outcome.done["frames"] += ds.sizes["time"]

    def _setup_of(self, consumer: plan.Consumer, digest: str) -> int:
        """Number the axes of a series in the order in which they first appeared."""
        store = self.writer.store
        names = _with_setups(store, consumer.cell, consumer.series)
        taken = -1
        for name in names:
            number = int(name.rpartition(plan.SETUP)[2]) if name != consumer.series else 0
            parts = store.parts(consumer.cell, name, "frames")
            if parts:
                taken = max(taken, number)
                if parts[0].inputs[0]["axis"] == digest:
                    return number
        return taken + 1


def _axis_digest(ds: xr.Dataset) -> str:
    """Tell setups apart: frames share a setup if axis, wavelength and the shape of a frame are the same."""
    axis = axis_of(ds)
    values = ds[axis].values.tobytes() if axis and axis in ds.coords else b""
    shape = [(str(d), n) for d, n in ds.sizes.items() if d != "time"]
    import hashlib

    return content_key(ds.attrs["technique"], axis, hashlib.sha256(values).hexdigest(), shape, ds.attrs.get("wavelength"))[:16]


# --------------------------------------------------------------------------- alignment


def clock_of(config: ClockConfig | list[ClockConfig] | None, zone: str | None) -> Clock | dict[int, Clock] | None:
    """Make the timeline's clock of what beamtime.yaml says; `at` is on the source's own clock."""
    if config is None:
        return None
    if isinstance(config, list):
        made: dict[int, Clock] = {}
        for i, one in enumerate(config):
            made[one.segment if one.segment is not None else i] = _clock(one, zone)
        return made
    return _clock(config, zone)


def _clock(config: ClockConfig, zone: str | None) -> Clock:
    at = None
    if config.at is not None:
        from operando.contract import as_stamps
        from operando.timeline import to_utc

        stamps, zoned = as_stamps(config.at)
        at = stamps[()] if zoned else to_utc(stamps, zone)[()]
    return Clock(
        offset=config.offset, drift=config.drift, at=at, uncertainty=config.uncertainty, drift_uncertainty=config.drift_uncertainty, method="given"
    )


_COORDS = ("time", "source_time", "exposure", "segment", "setup", "quality", "stamp", "position", "live_time", "source")


def _times_of(store: Store, cell: str, series: str) -> xr.Dataset:
    """Read the coordinates that place a series in time; no signal is touched."""
    ds = store.read(cell, series, "frames")
    return ds[[c for c in _COORDS if c in ds.coords]].load()


_ECHEM = ("voltage", "current", "charge", "cycle", "half_cycle", "step", "control_current", "control_changes", "step_changes", "potential_we", "potential_ce")


def _echem_records(store: Store, cell: str) -> xr.Dataset:
    """Read the columns of the electrochemistry that the timeline needs."""
    ds = store.read(cell, "echem", "frames")
    names = [n for n in _ECHEM if n in ds.data_vars] + [c for c in _COORDS if c in ds.coords]
    return ds[names].load()


def _align(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, outcome: Outcome, progress: Progress) -> None:
    """Put every series of every cell on its electrochemical timeline; recompute only what changed."""
    store: Store = writer.store
    progress.stage("align", sum(len(r.consumers) for r in everything))
    for cell in config.cells:
        consumers = [(r, c) for r in everything for c in r.consumers if c.cell == cell]
        echem_key, echem = "", _Late(lambda: None)
        for reading, consumer in consumers:
            if consumer.series == "echem" and store.parts(cell, "echem", "frames"):
                try:
                    echem_key, echem = _align_echem(config, reading, cell, writer, outcome)
                except OperandoError as error:
                    outcome.problems.append(error)
                    echem_key = "failed"
                progress.step()
        sensors = _sensors(config, consumers, store)
        for reading, consumer in consumers:
            if consumer.series == "echem":
                continue
            for name in _with_setups(store, cell, consumer.series):
                parts = store.parts(cell, name, "frames")
                if not parts:
                    continue
                mine = {k: v for k, v in sensors.items() if k != name}
                key = plan.alignment_key(
                    TIMELINE_VERSION, parts, reading.zone, _plain_clock(reading.clock), [echem_key, *(f"{k}:{v[0]}" for k, v in sorted(mine.items()))]
                )
                if any(p.key == key for p in store.parts(cell, name, "alignment")):
                    continue
                try:
                    times = restart_segments(localise(_times_of(store, cell, name), reading.zone))
                    joined = {k: late() for k, (_, late) in mine.items()}
                    made = align_frames(times, echem(), clock_of(reading.clock, reading.zone), sensors=joined or None)
                    _replace(writer, cell, name, "alignment", made, key)
                    outcome.done["alignments"] += 1
                except OperandoError as error:
                    error.file = error.file or f"source {reading.source} ({consumer.address})"
                    outcome.problems.append(error)
            progress.step()


class _Late:
    """A value read when first needed, once."""

    def __init__(self, read: Any) -> None:
        self.read, self.value, self.known = read, None, False

    def __call__(self) -> Any:
        if not self.known:
            self.value, self.known = self.read(), True
        return self.value


def _align_echem(config: BeamtimeConfig, reading: plan.Reading, cell: str, writer: Any, outcome: Outcome) -> tuple[str, _Late]:
    """Make the cell's timeline of its electrochemistry, unless it is there."""
    store: Store = writer.store
    about = config.cells[cell].about
    capacity = about.capacity * 3.6 if about.capacity is not None else None  # mAh -> C
    key = plan.alignment_key(TIMELINE_VERSION, store.parts(cell, "echem", "frames"), reading.zone, _plain_clock(reading.clock), settings={"capacity": capacity})
    records = _Late(lambda: restart_segments(localise(_echem_records(store, cell), reading.zone)))
    if not any(p.key == key for p in store.parts(cell, "echem", "alignment")):
        made = echem_timeline(records(), clock_of(reading.clock, reading.zone), capacity=capacity)
        _replace(writer, cell, "echem", "alignment", made, key)
        outcome.done["alignments"] += 1
    return key, _Late(lambda: annotate(records(), store.read(cell, "echem", "alignment").load()))


def _sensors(config: BeamtimeConfig, consumers: list[tuple[plan.Reading, plan.Consumer]], store: Store) -> dict[str, tuple[str, _Late]]:
    """Find the cell's logged channels: series name -> (key, channels on UTC and on the cycler's clock)."""
    found: dict[str, tuple[str, _Late]] = {}
    for reading, consumer in consumers:
        parts = store.parts(consumer.cell, consumer.series, "frames")
        if consumer.series == "echem" or not parts or store.read(consumer.cell, consumer.series, "frames").attrs.get("technique") != "sensor":
            continue

        def channels(reading: plan.Reading = reading, consumer: plan.Consumer = consumer) -> xr.Dataset:
            ds = restart_segments(localise(store.read(consumer.cell, consumer.series, "frames").load(), reading.zone))
            return annotate(ds, align_frames(ds, None, clock_of(reading.clock, reading.zone)))

        key = content_key(sorted(p.key for p in parts), reading.zone, _plain_clock(reading.clock))
        found[consumer.series] = (key, _Late(channels))
    return found


def _plain_clock(clock: Any) -> Any:
    if clock is None:
        return None
    return [c.model_dump(mode="json") for c in clock] if isinstance(clock, list) else clock.model_dump(mode="json")


def _replace(writer: Any, cell: str, series: str, product: str, ds: xr.Dataset, key: str) -> None:
    """Write a product anew; the old parts go only once the new one is safe."""
    writer.replace(writer.store.parts(cell, series, product), ds, cell=cell, series=series, product=product, key=key)


# --------------------------------------------------------------------------- reduction


def _check_recipes(config: BeamtimeConfig) -> None:
    """Read every recipe before anything is done, so that a misspelt one does not cost a night."""
    for cell, cell_config in config.cells.items():
        for name, series in {"echem": cell_config.echem, **cell_config.series}.items():
            if series is not None and series.recipe is not None:
                try:
                    parse_recipe(series.recipe, config.folder)
                except ConfigError as error:
                    error.file = error.file or f"{config.path} (cell {cell}, series {name}, recipe)"
                    raise


def _reduce(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, outcome: Outcome, progress: Progress) -> None:
    """Run each series' reducer where its frames, recipe or (if it reads it) alignment changed."""
    store: Store = writer.store
    consumers = [c for r in everything for c in r.consumers]
    progress.stage("reduce", len(consumers))
    for consumer in consumers:
        cell = config.cells[consumer.cell]
        settings = cell.echem if consumer.series == "echem" else cell.series[consumer.series]
        for name in _with_setups(store, consumer.cell, consumer.series):
            parts = store.parts(consumer.cell, name, "frames")
            if not parts:
                continue
            technique = str(store.read(consumer.cell, name, "frames").attrs.get("technique"))
            if settings is not None and settings.recipe is not None:
                made, recipe = parse_recipe(settings.recipe, config.folder)
            elif (standard := default_reducer(technique)) is not None:
                made, recipe = standard, standard.recipe(reducer=standard.name)
            else:
                continue
            about = cell.about.model_dump(exclude_none=True)
            aligned = store.parts(consumer.cell, name, "alignment")
            if made.needs_alignment and not aligned:
                continue
            inputs = sorted(p.key for p in parts) + (sorted(p.key for p in aligned) if made.needs_alignment else [])
            key = plan.reduction_key(made.name, made.version, recipe.model_dump(mode="json"), about, inputs)
            if all(any(p.key == key for p in store.parts(consumer.cell, name, product)) for product in made.products):
                continue
            try:
                frames = store.read_joined(consumer.cell, name, "frames") if made.needs_alignment else store.read(consumer.cell, name, "frames")
                frames.attrs["about"] = json.dumps(about)
                for product, ds in run_reducer(made, recipe, frames).items():
                    _replace(writer, consumer.cell, name, product, ds, key)
                outcome.done["reductions"] += 1
            except OperandoError as error:
                error.file = error.file or f"{consumer.cell}/{name} (reducer {made.name})"
                outcome.problems.append(error)
        progress.step()


# --------------------------------------------------------------------------- publish


def _publish(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, published: Path, outcome: Outcome, progress: Progress) -> None:
    """Write the one self-contained file, unless it already holds just this."""
    store: Store = writer.store
    text = config.path.read_text(encoding="utf-8")
    key = content_key("published", __version__, sorted(p.key + p.path for p in store.parts()), text)
    if store.is_published(published, key):
        return
    if not store.parts():
        return
    progress.stage("publish", len(store.products()))
    sources = {
        r.source: {"loader": r.loader.name, "loader_version": r.loader.version, "zone": r.zone or "", "clock": _plain_clock(r.clock), "files": len(r.files)}
        for r in everything
    }
    process = {"program": "operando", "version": __version__, "configuration": text, "sources": sources, "title": config.title}
    samples = {name: cell.about.model_dump(exclude_none=True) for name, cell in config.cells.items()}
    store.publish(published, key=key, process=process, samples=samples, writer=writer, progress=progress)
    outcome.done["published"] += 1


# --------------------------------------------------------------------------- check


def check(config: str | Path | BeamtimeConfig, output: str | Path | None = None, *, progress: Progress | None = None) -> AlignmentReport:
    """Say how every stream of a beamtime stands on the electrochemical timeline, before anything is built.

    Series whose files are in the store already are taken from there; the others are read, and only their times kept. Nothing is written.

    Raises
    ------
    ConfigError, ClockError
        The configuration cannot be used as it is.
    """
    if not isinstance(config, BeamtimeConfig):
        config = read_config(config)
    progress = progress or Silent()
    everything = plan.readings(config)
    _check_recipes(config)
    scanned: dict[plan.Consumer, list[xr.Dataset]] = {}
    problems: list[str] = []
    for reading in everything:
        progress.stage(f"look at {reading.source}", len(reading.files))
        for path in reading.files:
            loaded = _load_one(reading, path)
            if isinstance(loaded, OperandoError):
                problems.append(str(loaded))
            else:
                if reading.zone is None and any(ds.attrs["timezone_source"] == "none" for ds in loaded):
                    raise _no_zone(reading, path)
                for consumer in reading.consumers:
                    kinds = {ds.attrs["technique"] for ds in loaded}
                    wanted = consumer.technique or (next(iter(kinds)) if len(kinds) == 1 else consumer.series)
                    for ds in loaded:
                        ds = select(ds, consumer.where, file=path) if ds.attrs["technique"] == wanted else ds.isel(time=slice(0, 0))
                        if ds.sizes["time"]:
                            scanned.setdefault(consumer, []).append(_light(ds))
            progress.step()
    report = AlignmentReport(title=config.title or config.path.name, zone=config.timezone or "UTC", streams=[], voltage={}, problems=problems)
    for cell in config.cells:
        here = [(r, c) for r in everything for c in r.consumers if c.cell == cell and c in scanned]
        echem = None
        for reading, consumer in sorted(here, key=lambda rc: rc[1].series != "echem"):
            try:
                series = _joined(scanned[consumer])
                series = restart_segments(localise(series, reading.zone))
                clock = clock_of(reading.clock, reading.zone)
                if consumer.series == "echem":
                    capacity = config.cells[cell].about.capacity
                    aligned = annotate(series, echem_timeline(series, clock, capacity=capacity * 3.6 if capacity else None))
                    echem = aligned
                    report.voltage[cell] = _drawn(aligned)
                else:
                    aligned = annotate(series, align_frames(series, echem, clock))
                report.streams.append(summarise(consumer.address, aligned, echem))
            except OperandoError as error:
                error.file = error.file or f"source {reading.source} ({consumer.address})"
                report.problems.append(str(error))
    return report


def _light(ds: xr.Dataset) -> xr.Dataset:
    """Keep what places frames in time, and the electrochemistry itself."""
    keep = [c for c in _COORDS if c in ds.coords]
    if ds.attrs["technique"] == "echem":
        keep += [n for n in _ECHEM if n in ds.data_vars]
    return ds[keep].load()


def _joined(many: list[xr.Dataset]) -> xr.Dataset:
    return concatenate(sorted(many, key=lambda ds: ds["time"].values[0]))


def _drawn(echem: xr.Dataset, points: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Thin a voltage curve for drawing (lowest and highest of each stretch) and break it in pauses."""
    seconds = echem["time"].values.astype(np.int64) * 1e-9
    volts = np.asarray(echem["voltage" if "voltage" in echem else "potential_we"].values, float)
    if seconds.size > points:
        edges = np.linspace(0, seconds.size, points // 2 + 1).astype(int)[:-1]
        index = np.unique(np.concatenate([[a + int(np.argmin(volts[a:b])), a + int(np.argmax(volts[a:b]))] for a, b in zip(edges, [*edges[1:], seconds.size], strict=True)]))
        seconds, volts, segment = seconds[index], volts[index], np.asarray(echem["segment"].values)[index]
    else:
        segment = np.asarray(echem["segment"].values)
    breaks = np.flatnonzero(np.diff(segment) != 0) + 1
    return np.insert(seconds, breaks, seconds[breaks - 1]), np.insert(volts, breaks, np.nan)
