"""Stage one: files -> parts of frames. Each file is read once, for every series that takes frames from it."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime.outcome import Outcome, Progress
from operando.contract import ClockError, ConfigError, OperandoError
from operando.loaders import FileTimes, axis_of, concatenate, get_loader, load_file, select
from operando.store import FileIdentities, Part, Store, content_key

_SHARE = 4
"""Frames gather until they fill this fraction (1/4) of the memory setting: joining doubles them, writing chunks them again."""


def _frames_parts(store: Store, consumer: plan.Consumer) -> list[Part]:
    """List a consumer's parts of frames on every axis, and of files that held nothing for it."""
    parts = []
    for series in with_setups(store, consumer.cell, consumer.series):
        parts += store.parts(consumer.cell, series, "frames")
    return parts + store.parts(consumer.cell, consumer.series, "skipped")


def with_setups(store: Store, cell: str, series: str) -> list[str]:
    """Name a series and its further setups that the store holds."""
    prefix = series + plan.SETUP
    more = [s for c, s, p in store.products() if c == cell and p == "frames" and s.startswith(prefix) and s[len(prefix) :].isdigit()]
    return [series, *sorted(more, key=lambda s: int(s[len(prefix) :]))]


def read_frames(
    reading: plan.Reading, writer: Any, identities: FileIdentities, outcome: Outcome, progress: Progress, memory: int, workers: int
) -> None:
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
    todo = plan.frames_to_do(plan.Reading(**{**vars(reading), "files": tuple(found)}), parts_of, found, dict.fromkeys(known))
    for (name, sha, key), record in known.items():
        for path in found:
            if name == reading.name_of(path) and sha == found[path]["sha256"] and key in {reading.key(c) for c in reading.consumers}:
                outcome.quarantined[name] = record["reason"]
    if todo.vanished:
        outcome.messages.append(f"{reading.source}: {len(todo.vanished)} files are no longer on disk; their frames are kept ({todo.vanished[0]} ...)")
    for part, name in todo.stale:
        current = {p.path: p for p in store.parts(part.cell, part.series, part.product)}
        if part.path in current:
            writer.drop([current[part.path]], files=[name])
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
                raise no_zone(reading, path)
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


def no_zone(reading: plan.Reading, path: Path) -> ClockError:
    """Say that a source needs a zone, and where to write it."""
    return ClockError(
        "the times in the file carry no zone, and none is configured",
        file=path,
        found=f"wall-clock times (source {reading.source})",
        expected="the zone of the instrument's clock; the zone of this computer is never used",
        hint=f"write  timezone: Europe/Paris  (or wherever the instrument stood) at the top of beamtime.yaml or in the source {reading.source}",
    )


def load_one(reading: plan.Reading, path: Path) -> list[xr.Dataset] | OperandoError:
    """Load one file of a reading, or give the error that stands in its way."""
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
            yield load_one(reading, path)
        return
    from collections import deque

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
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
                f"source {self.reading.source} gives several techniques",
                file=path,
                found=", ".join(kinds),
                hint=f"series {consumer.address}: where: {{technique: ...}}",
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
                inputs.append(self._input(path, consumer, row, row + ds.sizes["time"], of, axis=digest, t0=_first(ds)))
                row += ds.sizes["time"]
            self._write(consumer, digest, concatenate([ds for _, ds, _ in many]), inputs)
        for consumer, paths in self.skipped.items():
            names = np.array([self.reading.name_of(p) for p in paths], dtype=object)
            inputs = [{**self._input(path, consumer, row, row + 1, 1), "t0": 0} for row, path in enumerate(paths)]
            key = content_key("skipped", self.reading.key(consumer), [i["sha256"] for i in inputs])
            self.writer.write(consumer.cell, consumer.series, "skipped", xr.Dataset({"file": ("file", names)}), key=key, inputs=inputs)
        self.waiting, self.skipped, self.bytes = {}, {}, 0

    def _write_slices(self, consumer: plan.Consumer, path: Path, ds: xr.Dataset, of: int) -> None:
        """Write a file that is larger than the memory setting slice by slice; its signals are read as they are written."""
        digest = _axis_digest(ds)
        rows = max(1, int(ds.sizes["time"] * self.limit / max(ds.nbytes, 1)))
        for start in range(0, ds.sizes["time"], rows):
            some = ds.isel(time=slice(start, start + rows)).load()
            self._write(consumer, digest, some, [self._input(path, consumer, 0, some.sizes["time"], of, axis=digest, t0=_first(some))])

    def _input(self, path: Path, consumer: plan.Consumer, a: int, b: int, of: int, **more: Any) -> dict[str, Any]:
        """Say which rows of a part came from a file: rows a to b, of all that this series takes from it."""
        return {"file": self.reading.name_of(path), **self.identities[path], "rows": [a, b], "of": of, "reading": self.reading.key(consumer), **more}

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
        names = with_setups(store, consumer.cell, consumer.series)
        taken = -1
        for name in names:
            number = int(name.rpartition(plan.SETUP)[2]) if name != consumer.series else 0
            parts = store.parts(consumer.cell, name, "frames")
            if parts:
                taken = max(taken, number)
                if parts[0].inputs[0]["axis"] == digest:
                    return number
        return taken + 1


def _first(ds: xr.Dataset) -> int:
    return int(ds["source_time"].values[0].astype("datetime64[ns]").astype(np.int64))


def _axis_digest(ds: xr.Dataset) -> str:
    """Tell setups apart: frames share a setup if axis, wavelength and the shape of a frame are the same."""
    axis = axis_of(ds)
    values = ds[axis].values.tobytes() if axis and axis in ds.coords else b""
    shape = [(str(d), n) for d, n in ds.sizes.items() if d != "time"]

    return content_key(ds.attrs["technique"], axis, hashlib.sha256(values).hexdigest(), shape, ds.attrs.get("wavelength"))[:16]
