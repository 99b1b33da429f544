"""Stage one: files -> parts of frames. Each file is read once, for every series that takes frames from it."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime.outcome import Outcome, Progress
from operando.contract import ClockError, ConfigError, LoaderError, OperandoError
from operando.loaders import FileTimes, axis_of, concatenate, get_loader, load_file, rank_of, select
from operando.reduction import raw_product
from operando.store import FileIdentities, Part, Store, content_key

_SHARE = 4
"""Frames gather until they fill this fraction (1/4) of the memory setting: joining doubles them, writing chunks them again."""


def _frames_parts(store: Store, consumer: plan.Consumer) -> list[Part]:
    """List a consumer's parts of frames on every axis, and of files that held nothing for it."""
    parts = []
    for series in with_setups(store, consumer.cell, consumer.series):
        parts += raw_parts(store, consumer.cell, series)
    return parts + store.parts(consumer.cell, consumer.series, "skipped")


def with_setups(store: Store, cell: str, series: str) -> list[str]:
    """Name a series and its further setups that the store holds."""
    prefix = series + plan.SETUP
    more = {s for c, s, p in store.products() if c == cell and p in ("images", "frames") and s.startswith(prefix) and s[len(prefix) :].isdigit()}
    return [series, *sorted(more, key=lambda s: int(s[len(prefix) :]))]


def raw_parts(store: Store, cell: str, series: str) -> list[Part]:
    """List the parts of what a series' loader gave: `images`, else `frames`."""
    return store.parts(cell, series, store.raw(cell, series))


def read_frames(
    reading: plan.Reading, writer: Any, identities: FileIdentities, outcome: Outcome, progress: Progress, memory: int, workers: int
) -> None:
    """Read the files of one source that are not in the store yet, each once, for every series that takes frames from it."""
    store: Store = writer.store
    found: dict[Path, Mapping[str, Any]] = {}
    for path in reading.files:
        try:
            found[path] = {**identities.identify(path), "state": reading.state_of(path)}
        except OSError as error:
            outcome.quarantined[reading.name_of(path)] = f"cannot be opened: {error.strerror}"
    known = {(q["file"], q.get("sha256", ""), q.get("state", ""), q.get("key", "")): q for q in store.quarantined()}
    parts_of = {consumer: _frames_parts(store, consumer) for consumer in reading.consumers}
    todo = plan.frames_to_do(plan.Reading(**{**vars(reading), "files": tuple(found)}), parts_of, found, dict.fromkeys(known))
    keys = {reading.key(c) for c in reading.consumers}
    for path, mark in found.items():
        for key in keys:
            record = known.get((reading.name_of(path), mark["sha256"], mark["state"], key))
            if record is not None:
                outcome.quarantined[record["file"]] = record["reason"]
    if todo.vanished:
        n, first = len(todo.vanished), todo.vanished[0]
        kept = "their frames are kept as they were read, whatever the settings say now"
        outcome.messages.append(f"{reading.source}: {n} files are no longer on disk ({first} ...); {kept}")
    for part, name in todo.stale:
        current = {p.path: p for p in store.parts(part.cell, part.series, part.product)}
        if part.path in current:
            writer.drop([current[part.path]], files=[name])
    for consumer in reading.consumers:  # what was made of images that are gone is no frame of a loader's
        for series in with_setups(store, consumer.cell, consumer.series):
            if store.raw(consumer.cell, series) == "images" and not raw_parts(store, consumer.cell, series):
                writer.drop(store.parts(consumer.cell, series, "frames"))
    if not todo.files:
        return
    progress.stage(f"read {reading.source}", len(todo.files))
    gather = _Gather(reading, writer, found, memory // _SHARE, outcome, progress)
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
            if gather.store_failed:  # a full disk is no fault of the file
                raise
            gather.refuse(path, consumers, error)
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
    ahead = 4 * workers
    left = deque(files)
    while left:
        try:
            for loaded in _pooled(reading, list(left), workers, ahead):
                yield loaded
                left.popleft()
        except BrokenProcessPool:  # one of the files being read took its process down: read those one by one, each in a process of its own
            for _ in range(min(ahead, len(left))):
                yield _alone(reading, left[0])
                left.popleft()


def _pooled(reading: plan.Reading, files: list[Path], workers: int, ahead: int) -> Iterator[list[xr.Dataset] | OperandoError]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        waiting: deque[tuple[Path, Future[list[xr.Dataset] | OperandoError]]] = deque()
        for path in files:
            waiting.append((path, pool.submit(_load_named, reading.loader.name, reading.base, path, reading.options, reading.times)))
            if len(waiting) >= ahead:
                yield _handed_over(*waiting.popleft())
        while waiting:
            yield _handed_over(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _handed_over(path: Path, future: Future[list[xr.Dataset] | OperandoError]) -> list[xr.Dataset] | OperandoError:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # what a local loader returned cannot travel between processes
        return LoaderError(f"cannot be handed over by the process that read it: {error}", file=path, hint="read it with --workers 1")


def _alone(reading: plan.Reading, path: Path) -> list[xr.Dataset] | OperandoError:
    """Load one file in a process of its own, which it may take down with it."""
    try:
        return next(_pooled(reading, [path], 1, 1))
    except BrokenProcessPool:
        return LoaderError(
            "the process that read it was ended from outside",
            file=path,
            hint="did it ask for more memory than there is? free memory, give fewer --workers, or leave the file out",
        )


def _begin_worker() -> None:
    """Leave interrupts to the main process, and end with it even where it was killed."""
    import signal
    import threading
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Gather:
    """Frames on their way into parts: as many files together as fit the memory, each file whole or in slices of its own."""

    def __init__(
        self,
        reading: plan.Reading,
        writer: Any,
        identities: Mapping[Path, Mapping[str, Any]],
        limit: int,
        outcome: Outcome,
        progress: Progress,
    ) -> None:
        self.reading, self.writer, self.identities, self.limit, self.outcome, self.progress = reading, writer, identities, limit, outcome, progress
        self.store_failed = False
        self.kinds: dict[tuple[plan.Consumer, str], dict[str, str]] = {}
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
                    self._check_kinds(consumer, _axis_digest(ds), path, ds)
                    self._write_slices(consumer, path, ds, of)
                continue
            for ds in mine:
                self.waiting.setdefault((consumer, _axis_digest(ds)), []).append((path, ds.load(), of))
            self.bytes += size
        if self.bytes > self.limit:
            self.flush()

    def _of_technique(self, consumer: plan.Consumer, loaded: list[xr.Dataset], path: Path) -> list[xr.Dataset]:
        kinds = sorted({str(ds.attrs["technique"]) for ds in loaded})
        if not kinds:
            return []
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
            fitting = []
            for path, ds, of in sorted(many, key=lambda item: rank_of(item[1])):
                try:
                    self._check_kinds(consumer, digest, path, ds)
                    fitting.append((path, ds, of))
                except LoaderError as error:
                    self.refuse(path, (consumer,), error)
            if fitting:
                self._write_together(consumer, digest, fitting)
        for consumer, paths in self.skipped.items():
            names = np.array([self.reading.name_of(p) for p in paths], dtype=object)
            inputs = [{**self._input(path, consumer, row, row + 1, 1), "t0": 0} for row, path in enumerate(paths)]
            key = content_key("skipped", self.reading.key(consumer), [i["sha256"] for i in inputs])
            with self._using_store():
                self.writer.write(consumer.cell, consumer.series, "skipped", xr.Dataset({"file": ("file", names)}), key=key, inputs=inputs)
        self.waiting, self.skipped, self.bytes = {}, {}, 0

    def refuse(self, path: Path, consumers: tuple[plan.Consumer, ...], error: OperandoError) -> None:
        """Put a file in quarantine."""
        name = self.reading.name_of(path)
        for consumer in consumers:
            self.writer.quarantine(name, self.reading.source, str(error), key=self.reading.key(consumer), **_mark(self.identities[path]))
        self.outcome.quarantined[name] = str(error)
        self.progress.say(str(error))

    @contextlib.contextmanager
    def _using_store(self) -> Iterator[None]:
        """Tell what the store could not do (a full disk, a damaged part) from what cannot be stored: no file is to blame for that."""
        try:
            yield
        except OperandoError as error:
            self.store_failed = error.file is not None and os.fspath(error.file).startswith(os.fspath(self.writer.store.path))
            raise

    def _check_kinds(self, consumer: plan.Consumer, digest: str, path: Path, ds: xr.Dataset) -> None:
        """See that what is a number in one file is a number in all of them: nothing else can be joined."""
        known = self.kinds.get((consumer, digest))
        if known is None:
            series = self._series_of(consumer, digest)[0]
            with self._using_store():
                store: Store = self.writer.store
                there = raw_parts(store, consumer.cell, series)
                known = self.kinds[consumer, digest] = _kinds(store.read(consumer.cell, series, store.raw(consumer.cell, series))) if there else {}
        mine = _kinds(ds)
        for name, kind in mine.items():
            if known.get(name, kind) != kind:
                raise LoaderError(
                    f"{name!r} is {kind} here and {known[name]} in the files before it",
                    file=path,
                    found=np.asarray(ds[name].values).ravel()[:1].tolist(),
                    hint="correct the file, or what names this field (name_pattern:, columns:)",
                )
        known.update(mine)

    def _write_together(self, consumer: plan.Consumer, digest: str, many: list[tuple[Path, xr.Dataset, int]]) -> None:
        """Write the frames of several files as one part; a file that cannot be stored is set aside, the others are written."""
        row, inputs = 0, []
        for path, ds, of in many:
            inputs.append(self._input(path, consumer, row, row + ds.sizes["time"], of, axis=digest, t0=rank_of(ds)))
            row += ds.sizes["time"]
        try:
            self._write(consumer, digest, concatenate([ds for _, ds, _ in many]), inputs)
        except OperandoError as error:
            if self.store_failed:
                raise
            if len(many) > 1:
                half = len(many) // 2
                self._write_together(consumer, digest, many[:half])
                self._write_together(consumer, digest, many[half:])
                return
            error.file = f"{many[0][0]} ({error.file})" if error.file is not None else many[0][0]
            self.refuse(many[0][0], (consumer,), error)

    def _write_slices(self, consumer: plan.Consumer, path: Path, ds: xr.Dataset, of: int) -> None:
        """Write a file that is larger than the memory setting slice by slice; its signals are read as they are written."""
        digest = _axis_digest(ds)
        rows = max(1, int(ds.sizes["time"] * self.limit / max(ds.nbytes, 1)))
        for start in range(0, ds.sizes["time"], rows):
            some = ds.isel(time=slice(start, start + rows)).load()
            self._write(consumer, digest, some, [self._input(path, consumer, 0, some.sizes["time"], of, axis=digest, t0=rank_of(ds))])

    def _input(self, path: Path, consumer: plan.Consumer, a: int, b: int, of: int, **more: Any) -> dict[str, Any]:
        """Say which rows of a part came from a file: rows a to b, of all that this series takes from it."""
        return {"file": self.reading.name_of(path), **self.identities[path], "rows": [a, b], "of": of, "reading": self.reading.key(consumer), **more}

    def _write(self, consumer: plan.Consumer, digest: str, ds: xr.Dataset, inputs: list[dict[str, Any]]) -> None:
        series, setup = self._series_of(consumer, digest)
        if setup and not raw_parts(self.writer.store, consumer.cell, series):
            axis = axis_of(ds) or "shape"
            size = f" ({ds.sizes[axis]} points)" if axis in ds.sizes else ""
            message = (
                f"{consumer.address}: {inputs[0]['file']} and those like it have another {axis}{size}; their frames are {consumer.cell}/{series}"
            )
            self.outcome.messages.append(message)
        if ds.attrs["technique"] == "images":
            ds = self._by_name(ds)
        ds = ds.assign_coords(setup=("time", np.full(ds.sizes["time"], setup, np.int32), {"units": "1"}))
        ds.attrs.pop("rank", None)
        ds.attrs.update(cell=consumer.cell, instrument=ds.attrs.get("instrument") or self.reading.source)
        key = content_key(self.reading.key(consumer), [(i["sha256"], i["rows"], i["t0"]) for i in inputs])
        with self._using_store():
            self.writer.write(consumer.cell, series, raw_product(str(ds.attrs["technique"])), ds, key=key, inputs=inputs)
        self.outcome.done["frames"] += ds.sizes["time"]

    def _by_name(self, ds: xr.Dataset) -> xr.Dataset:
        """Name the files of frames as the store names files: relative to beamtime.yaml, so that all may be moved together."""
        names = {str(file): self.reading.name_of(Path(str(file))) for file in np.unique(ds["file"].values.astype(str))}
        return ds.assign(file=("time", np.array([names[str(file)] for file in ds["file"].values], dtype=object), ds["file"].attrs))

    def _series_of(self, consumer: plan.Consumer, digest: str) -> tuple[str, int]:
        """Name the series for an axis, and number the axes in the order in which they first appeared."""
        store = self.writer.store
        names = with_setups(store, consumer.cell, consumer.series)
        taken = -1
        for name in names:
            number = int(name.rpartition(plan.SETUP)[2]) if name != consumer.series else 0
            parts = raw_parts(store, consumer.cell, name)
            if parts:
                taken = max(taken, number)
                if parts[0].inputs[0]["axis"] == digest:
                    return name, number
        return (consumer.series if taken < 0 else f"{consumer.series}{plan.SETUP}{taken + 1}"), taken + 1


def _mark(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: identity[name] for name in ("sha256", "state")}


def _kinds(ds: xr.Dataset) -> dict[str, str]:
    """Say of what kind each variable over time is."""
    words = {"O": "text", "U": "text", "S": "text", "T": "text", "M": "a time", "m": "a duration"}
    return {str(name): words.get(var.dtype.kind, "a number") for name, var in ds.variables.items() if "time" in var.dims}


def _axis_digest(ds: xr.Dataset) -> str:
    """Tell setups apart: frames share a setup if axis, wavelength and the shape of a frame are the same."""
    axis = axis_of(ds)
    values = ds[axis].values.tobytes() if axis and axis in ds.coords else b""
    shape = [(str(d), n) for d, n in ds.sizes.items() if d != "time" and (d != axis or d in ds.coords)]  # points of a sweep are padded
    what = [ds.attrs["technique"], axis, hashlib.sha256(values).hexdigest(), shape, ds.attrs.get("wavelength")]
    if ds.attrs["technique"] == "images":
        what += [np.asarray(ds.attrs.get("detector_shape", ())).tolist(), ds.attrs.get("geometry")]
        what += [np.asarray(ds.attrs["pixel_size"]).tolist()] if "pixel_size" in ds.attrs else []  # another magnification
    return content_key(*what)[:16]
