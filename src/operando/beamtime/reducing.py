"""Stage three: every series through the stages of its recipe; only rows that are new or made of something else are reduced.

A row of a product is known by the stretch of raw rows it was made of and by a *state*, the digest of all that it was made from: reducer,
recipe, what it uses of `about:`, the state of what it read, and what the timeline told it. Rows whose state is not the present one go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime.aligning import Source
from operando.beamtime.frames import with_setups
from operando.beamtime.loading import reader_of
from operando.beamtime.outcome import Outcome, Progress
from operando.config import BeamtimeConfig
from operando.contract import ConfigError, OperandoError
from operando.reduction import Run, Stage, default_stages, group_codes, parse_recipe, row_bytes
from operando.store import OWN_ROWS, Store, content_key

_SHARE = 4
"""Frames of one batch fill at most this fraction (1/4) of the memory setting: a reducer works on them, and results lie beside them."""

_FIRST_IMAGES, _MOST_IMAGES = 64, 512
"""Images reduced at once before it is known how much room their results take, and ever: what they gave is safe, and told, every few seconds."""

_NOT_DERIVED = {"alignment", "skipped"}


def check_recipes(config: BeamtimeConfig, everything: Sequence[plan.Reading]) -> None:
    """Read every recipe before anything is done, so that a misspelt one does not cost a night.

    Raises
    ------
    ConfigError
        With the problems of all recipes.
    """
    problems: list[ConfigError] = []
    for reading in everything:
        for consumer in reading.consumers:
            recipe = _recipe(config, consumer)
            if recipe is None:
                continue
            try:
                parse_recipe(
                    recipe, config.folder, [consumer.technique] if consumer.technique else reading.loader.techniques, read=reader_of(config.folder)
                )
            except ConfigError as error:
                error.file = error.file or f"{config.path} (cell {consumer.cell}, series {consumer.series}, recipe)"
                problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError("recipes cannot be used:\n" + "\n".join(dict.fromkeys(map(str, problems))), file=config.path)


def _recipe(config: BeamtimeConfig, consumer: plan.Consumer) -> Any:
    cell = config.cells[consumer.cell]
    settings = cell.echem if consumer.series == "echem" else cell.series[consumer.series]
    return settings.recipe if settings is not None else None


def reduce_all(
    config: BeamtimeConfig,
    everything: Sequence[plan.Reading],
    writer: Any,
    outcome: Outcome,
    progress: Progress,
    memory: int | None = None,
    workers: int | None = None,
) -> None:
    """Bring the products of every series up to date, and drop those that no stage gives any more."""
    store: Store = writer.store
    read = reader_of(config.folder)
    for reading in everything:
        source = Source(store, reading)
        for consumer in reading.consumers:
            about = config.cells[consumer.cell].about.model_dump(exclude_none=True)
            for name in with_setups(store, consumer.cell, consumer.series):
                raw = store.raw(consumer.cell, name)
                if not store.parts(consumer.cell, name, raw):
                    continue
                attrs = store.read(consumer.cell, name, raw).attrs
                technique = str(attrs.get("technique"))
                recipe = _recipe(config, consumer)
                try:
                    frames_of = attrs.get("frames_of")
                    stages = default_stages(technique, frames_of) if recipe is None else parse_recipe(recipe, config.folder, [technique], read=read)
                except ConfigError as error:
                    error.file = error.file or f"{consumer.cell}/{name}, recipe"
                    outcome.problems.append(error)
                    continue
                _drop_others(writer, consumer.cell, name, {raw, *(product for stage in stages for product in stage.reducer.products)})
                if not stages:
                    continue
                series = _Series(consumer.cell, name, raw, writer, source, about, (memory or config.settings.memory) // _SHARE, progress)
                series.pixels = {"folder": os.fspath(config.folder), "workers": workers or config.settings.workers}
                if not series.placed():  # the alignment has told why
                    series.drop_vanished()
                    continue
                for number, stage in enumerate(stages):
                    try:
                        if series.reduce(stage):
                            outcome.done["reductions"] += 1
                            outcome.findings |= series.summaries(stage)
                        outcome.messages += [f"{series.address}: {message}" for message in series.told]
                        series.told = []
                    except OperandoError as error:
                        error.file = error.file or f"{series.address} (reducer {stage.reducer.name})"
                        outcome.problems.append(error)
                        with contextlib.suppress(OperandoError):  # a full disk was told already
                            for later in stages[number:]:
                                series.drop_stale(later)
                        break


def _drop_others(writer: Any, cell: str, name: str, wanted: set[str]) -> None:
    """Drop what reducers made that are no longer configured."""
    for address in writer.store.products():
        if address[:2] == (cell, name) and address[2] not in wanted | _NOT_DERIVED:
            writer.drop(writer.store.parts(*address))


@dataclass(frozen=True)
class _Stretch:
    """Raw rows [a, b) of one input, and which input that is."""

    digest: str
    a: int
    b: int
    entry: dict[str, Any]


@dataclass
class _Plan:
    """What a stage's rows are made of now: per row its group, per group and stretch its state."""

    key: str
    codes: np.ndarray
    states: list[dict[int, str]]
    """For each stretch: group -> state."""


class _Series:
    """One series of the store on its way through the stages of its recipe."""

    def __init__(self, cell: str, name: str, raw: str, writer: Any, source: Source, about: dict[str, Any], limit: int, progress: Progress) -> None:
        self.cell, self.name, self.raw, self.writer, self.source, self.about = cell, name, raw, writer, source, about
        self.limit, self.progress = max(limit, 1), progress
        self.store: Store = writer.store
        self.address = f"{cell}/{name}"
        self.stretches: list[_Stretch] = []
        states = []
        for entry in self.store.inputs(cell, name, raw):
            own = {k: v for k, v in entry.items() if k not in ("rows", "stretch")}
            self.stretches.append(_Stretch(entry["stretch"][0], entry["rows"][0], entry["rows"][1], own))
            states.append(_digest(json.dumps(own, sort_keys=True), entry["stretch"][0]))
        self.rows = self.stretches[-1].b
        self.begins = np.array([s.a for s in self.stretches])
        self.place = {s.digest: i for i, s in enumerate(self.stretches)}
        self.states: dict[str, list[str]] = {raw: states}  # product -> state of each stretch
        self.tables: dict[str, str] = {}  # product with rows of its own -> its key
        self.timeline: tuple[np.ndarray, np.ndarray] | None = None
        self.pixels: dict[str, Any] = {}  # how images are read: the folder their names count from, threads
        self.told: list[str] = []  # what reducers said

    def placed(self) -> bool:
        """Say whether the present frames are on UTC."""
        if not self._aligned():
            try:
                self._times()
            except OperandoError:
                return False
        return True

    def drop_vanished(self) -> None:
        """Drop rows of frames that are gone or changed."""
        products = [p for cell, name, p in self.store.products() if (cell, name) == (self.cell, self.name) and p not in _NOT_DERIVED | {self.raw}]
        self._drop_rows(products, lambda entry: entry["stretch"][0] in self.place or entry["stretch"][0] == OWN_ROWS)

    def reduce(self, stage: Stage) -> bool:
        """Run a stage where something it reads is new; say whether it ran."""
        reducer = stage.reducer
        if reducer.needs_alignment and not self._parts("alignment"):
            self._drop(reducer.products)
            for product in reducer.products:  # what reads these goes too
                self.states[product] = [""] * len(self.stretches)
            return False
        if "" in self.states.get(reducer.reads, ()):  # an earlier stage waits, and so does this one
            self.drop_stale(stage)
            return False
        if reducer.kind == "series" or reducer.reads in self.tables:
            return self._reduce_whole(stage)
        made = self._plan(stage)
        for product in reducer.products:
            self.states[product] = self._states(made)
        self._drop_rows(reducer.products, lambda entry: self._fits(entry, made))
        done = {product: self._done(product, made) for product in reducer.products}
        if all(rows.all() for rows in done.values()):
            return False
        if reducer.kind == "frame":
            self._reduce_frames(stage, made, done)
        else:
            self._reduce_forward(stage, made, done)
        return True

    def summaries(self, stage: Stage) -> dict[str, str]:
        """Give what a reducer of whole series says of its products in words."""
        products = [p for p in stage.reducer.products if stage.reducer.kind == "series" and self._parts(p)]
        said = {f"{self.address}/{p}": self._read(p).attrs.get("summary") for p in products}
        return {address: str(words) for address, words in said.items() if words}

    def drop_stale(self, stage: Stage) -> None:
        """Drop what a stage made of something else than there is now; it cannot be run."""
        reducer = stage.reducer
        known = reducer.reads in self.tables or "" not in self.states.get(reducer.reads, [""])
        known &= not reducer.needs_alignment or bool(self._parts("alignment"))
        if reducer.kind == "series" or reducer.reads in self.tables or not known:
            key = self._key_of_whole(stage) if known else ""
            for product in reducer.products:
                self.writer.drop([part for part in self._parts(product) if part.key != key])
                self.states[product] = [""] * len(self.stretches)
            return
        made = self._plan(stage)
        self._drop_rows(reducer.products, lambda entry: self._fits(entry, made))
        for product, rows in ((p, self._done(p, made)) for p in reducer.products):
            self.states[product] = self._states(made) if rows.all() else [""] * len(self.stretches)

    # ------------------------------------------------------------- what there is

    def _parts(self, product: str) -> list[Any]:
        return self.store.parts(self.cell, self.name, product)

    def _read(self, product: str) -> xr.Dataset:
        return self.store.read(self.cell, self.name, product)

    def _drop(self, products: Sequence[str]) -> None:
        for product in products:
            self.writer.drop(self._parts(product))

    def _done(self, product: str, made: _Plan) -> np.ndarray:
        """Say of each raw row whether the product has it in its present state."""
        done = np.zeros(self.rows, bool)
        for part in self._parts(product):
            for entry in part.inputs:
                digest, first = entry["stretch"]
                i, n = self.place[digest], entry["rows"][1] - entry["rows"][0]
                rows = slice(self.stretches[i].a + first, self.stretches[i].a + first + n)
                valid = [code for code, state in made.states[i].items() if state in entry["state"]]
                done[rows] = True if len(valid) == len(made.states[i]) else np.isin(made.codes[rows], valid)
        return done

    def _drop_rows(self, products: Sequence[str], fits: Callable[[dict[str, Any]], bool]) -> None:
        """Drop rows that do not fit, file by file."""
        for product in products:
            parts, files, whole = [], set(), []
            for part in self._parts(product):
                stale = {str(e.get("file", "")) for e in part.inputs if "stretch" not in e or not fits(e)}
                if not part.inputs or "" in stale:
                    whole.append(part)
                elif stale:
                    parts.append(part)
                    files |= stale
            self.writer.drop(whole)
            if parts:
                self.writer.drop(parts, files=sorted(files))

    def _fits(self, entry: dict[str, Any], made: _Plan) -> bool:
        """Say whether any of these rows is made of what there is now."""
        i = self.place.get(entry["stretch"][0])
        return i is not None and bool(set(entry.get("state", ())) & set(made.states[i].values()))

    # ------------------------------------------------------------- what rows are made of

    def _key(self, stage: Stage) -> str:
        r = stage.reducer
        return plan.reduction_key(r.name, r.version, stage.settings, r.about_of(self.about), [r.reads, r.kind, *r.products, str(r.needs_alignment)])

    def _times(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the time of each raw row by its instrument's clock, on UTC, and its segment as the timeline numbers them."""
        if self.timeline is None:
            aligned = self._read("alignment") if self._aligned() else None
            if aligned is not None and {"source_time", "segment"} <= set(aligned.variables):
                found = aligned
            else:
                found = self.source.placed()[0][self.cell, self.name]
            self.timeline = found["source_time"].values.astype("datetime64[ns]"), np.asarray(found["segment"].values)
        return self.timeline

    def _aligned(self) -> bool:
        """Say whether the alignment knows just the raw rows that there are."""
        parts = self._parts("alignment")
        return len(parts) == 1 and parts[0].follows == self.store.follows(self.cell, self.name)

    def _context(self, stage: Stage) -> np.ndarray:
        """Give what the timeline tells of each raw row, as bytes: nothing else of it can change what a reducer gives."""
        if not stage.reducer.needs_alignment:
            return _as_bytes([self._times()[1]])
        if not self._aligned():
            key = content_key(plan.keys_of(self._parts("alignment")))
            return np.broadcast_to(np.frombuffer(key.encode(), np.uint8), (self.rows, len(key)))
        told = self._read("alignment")
        return _as_bytes([v.values for _, v in sorted(told.variables.items(), key=lambda kv: str(kv[0])) if v.dims == ("time",)])

    def _plan(self, stage: Stage) -> _Plan:
        key, context = self._key(stage), self._context(stage)
        before = self.states[stage.reducer.reads]
        if stage.reducer.kind == "frame":
            states = [{0: _digest(key, before[i], context[s.a : s.b].tobytes())} for i, s in enumerate(self.stretches)]
            return _Plan(key, np.zeros(self.rows, np.int64), states)
        kept = self._read(stage.reducer.reads)
        labels = kept[[c for c in ("setup", "position") if c in kept.coords]].load()
        labels = labels.drop_vars([c for c in labels.coords if c not in ("setup", "position")])
        segments = self._handed(stage)["segment"].values if stage.reducer.needs_alignment else self._times()[1]
        codes = group_codes(labels.assign_coords(segment=("time", segments)))
        digests: dict[int, Any] = {}
        there: list[list[int]] = []
        for i, s in enumerate(self.stretches):  # the state of a group is all its frames: one changes, and the chain through them does
            some = codes[s.a : s.b]
            there.append(list(dict.fromkeys(some.tolist())))
            for code in there[-1]:
                mine = np.flatnonzero(some == code)
                digest = digests.setdefault(code, hashlib.sha256(key.encode()))
                digest.update(_digest(s.digest, before[i], mine.tobytes(), context[s.a + mine].tobytes()).encode())
        return _Plan(key, codes, [{code: digests[code].hexdigest()[:16] for code in some} for some in there])

    def _states(self, made: _Plan) -> list[str]:
        return [_digest(*states.values()) for states in made.states]

    # ------------------------------------------------------------- what a reducer is given

    def _handed(self, stage: Stage) -> xr.Dataset:
        """Give what a stage reads, lazily: with the alignment if it needs that, else on the instrument's own time, on UTC."""
        reads = stage.reducer.reads
        if reads in self.tables:
            ds = self._read(reads)
        elif stage.reducer.needs_alignment:
            ds = self.store.read_joined(self.cell, self.name, reads)
        else:
            times, segments = self._times()
            ds = self._read(reads).drop_vars("stamp", errors="ignore")
            attrs = ds["segment"].attrs if "segment" in ds.coords else {"units": "1"}
            stamps = {name: ("time", times, ds[name].attrs if name in ds.coords else {}) for name in ("time", "source_time")}
            ds = ds.assign_coords({**stamps, "segment": ("time", segments, attrs)})
            if ds.attrs.get("timezone_source") == "none":
                ds.attrs["timezone_source"] = "config"
        ds.attrs["about"] = json.dumps(stage.reducer.about_of(self.about))
        typical = _typical(ds)
        if reads == "images":
            ds.attrs["pixels"] = json.dumps(self.pixels | typical)
        elif typical:
            ds.attrs |= typical
        return ds

    # ------------------------------------------------------------- all at once

    def _key_of_whole(self, stage: Stage) -> str:
        reads, timeline = stage.reducer.reads, ""
        if reads in self.tables:
            return content_key(self._key(stage), self.tables[reads])
        if stage.reducer.needs_alignment:
            timeline = content_key(plan.keys_of(self._parts("alignment")))
        else:
            timeline = _digest(self._times()[1].astype(np.int64).tobytes())
        return content_key(self._key(stage), self.states[reads], timeline)

    def _reduce_whole(self, stage: Stage) -> bool:
        """Make products of all frames anew if anything that is read changed."""
        reducer, key = stage.reducer, self._key_of_whole(stage)
        there = all([part.key for part in self._parts(product)] == [key] for product in reducer.products)
        if not there:
            self.progress.stage(f"reduce {self.address} ({reducer.name})", self.rows)
            handed, raw, run = self._handed(stage), self._read(reducer.reads), Run(stage, self.address)
            made = (
                run.whole(handed, raw)
                if reducer.kind == "series"
                else run.batch(handed.load(), raw.load(), group_codes(handed), np.arange(raw.sizes["time"]))
            )
            self.told += run.messages
            own = reducer.reads in self.tables
            for product, ds in made.items():
                rows_of_frames = not own and ds.sizes["time"] == raw.sizes["time"] and bool((ds["time"].values == raw["time"].values).all())
                stretch = {"file": "", "sha256": key, "rows": [0, ds.sizes["time"]], "stretch": [OWN_ROWS, 0]}
                inputs = self._inputs(0, self.rows, key) if rows_of_frames else [stretch]
                at = {"cell": self.cell, "series": self.name, "product": product}
                self.writer.replace(self._parts(product), ds, key=key, inputs=inputs, **at)
            self.progress.step(self.rows)
        for product in reducer.products:
            if self._parts(product)[0].inputs[0]["stretch"][0] == OWN_ROWS:
                self.tables[product] = key
            else:
                self.states[product] = [key] * len(self.stretches)
        return not there

    # ------------------------------------------------------------- batch by batch

    def _inputs(self, a: int, b: int, made: _Plan | str) -> list[dict[str, Any]]:
        """Say what raw rows [a, b) are: the part's inputs; `made` gives their states, or the one of all."""
        out = []
        for i in range(int(np.searchsorted(self.begins, a, side="right")) - 1, int(np.searchsorted(self.begins, b))):
            s, state = self.stretches[i], [made] if isinstance(made, str) else list(made.states[i].values())
            low, high = max(a, s.a), min(b, s.b)
            if low < high:
                out.append({**s.entry, "rows": [low - a, high - a], "stretch": [s.digest, low - s.a], "state": state})
        return out

    def _write(self, product: str, ds: xr.Dataset, a: int, b: int, made: _Plan) -> None:
        inputs = self._inputs(a, b, made)
        key = content_key(made.key, [(e["stretch"], e["rows"], e["state"]) for e in inputs])
        self.writer.write(self.cell, self.name, product, ds, key=key, inputs=inputs)

    def _run(self, stage: Stage) -> Run:
        run = Run(stage, self.address)
        for product in stage.reducer.products:
            if self._parts(product):
                run.expect(product, self._read(product))
        return run

    def _reduce_frames(self, stage: Stage, made: _Plan, done: dict[str, np.ndarray]) -> None:
        """Reduce the frames that a product lacks; each batch is in the store before the next begins."""
        run = self._run(stage)
        self.pixels["run"] = run.token
        handed, raw = self._handed(stage), self._read(stage.reducer.reads)
        lacking = np.zeros(self.rows, np.int64)  # a bit for each product
        for i, rows in enumerate(done.values()):
            lacking |= (~rows).astype(np.int64) << i
        edges = np.flatnonzero(np.diff(lacking, prepend=-1, append=-1))
        self.progress.stage(f"reduce {self.address} ({stage.reducer.name})", int((lacking > 0).sum()))
        size = _BatchSize(self.limit, row_bytes(handed), stage.reducer.reads == "images")
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            a = begin if lacking[begin] else end
            while a < end:
                b = min(end, a + size.rows)
                some = run.batch(handed.isel(time=slice(a, b)).load(), raw.isel(time=slice(a, b)).load(), made.codes[a:b], np.arange(a, b))
                for product, ds in some.items():
                    if not done[product][a]:
                        self._write(product, ds, a, b, made)
                size.learn(some, b - a)
                self.progress.step(b - a)
                a = b
        self.told += run.messages

    def _reduce_forward(self, stage: Stage, made: _Plan, done: dict[str, np.ndarray]) -> None:
        """Reduce every group that lacks a frame from its first frame on; rows of other groups in the same files are taken over."""
        products = stage.reducer.products
        redo = ~np.logical_and.reduce(list(done.values()))
        each = sum(row_bytes(self._read(p)) for p in products if self._parts(p))
        while True:  # a file whose kept rows do not fit the memory is reduced as a whole, and so are its groups
            redo = np.isin(made.codes, np.unique(made.codes[redo]))
            files = self._files(redo)
            large = [rows for rows in files.values() if each * np.count_nonzero(~redo[rows]) > self.limit]
            if not large:
                break
            for rows in large:
                redo[rows] = True
        run, handed, raw = self._run(stage), self._handed(stage), self._read(stage.reducer.reads)
        self.progress.stage(f"reduce {self.address} ({stage.reducer.name})", int(redo.sum()))
        size = _BatchSize(self.limit, row_bytes(handed), stage.reducer.reads == "images")
        for names, spans in self._chunks(files, size):
            kept = {p: self._kept(p, names, redo) for p in products}
            dropped = False
            for a, end in spans:
                while a < end:
                    b = min(end, a + size.rows)
                    some = self._go_on(run, handed, raw, made.codes, redo, kept, a, b)
                    if not dropped:  # only once the first rows that take their place are there
                        for p in products:
                            self.writer.drop([x for x in self._parts(p) if any(e["file"] in names for e in x.inputs)], files=sorted(names))
                        dropped = True
                    for product, ds in some.items():
                        self._write(product, ds, a, b, made)
                    size.learn(some, b - a)
                    self.progress.step(int(redo[a:b].sum()))
                    a = b
        self.told += run.messages

    def _files(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """List the files that hold any of these rows, with all their rows."""
        where: dict[str, list[np.ndarray]] = {}
        touched = set()
        for s in self.stretches:
            where.setdefault(s.entry["file"], []).append(np.arange(s.a, s.b))
            if rows[s.a : s.b].any():
                touched.add(s.entry["file"])
        return {file: np.concatenate(many) for file, many in where.items() if file in touched}

    def _chunks(self, files: dict[str, np.ndarray], size: _BatchSize) -> Iterator[tuple[set[str], list[tuple[int, int]]]]:
        """Cut the rows of some files into runs, in their order, that end where all their files end: a batch's worth, or one large file."""
        names: set[str] = set()
        spans: list[tuple[int, int]] = []
        last = {file: int(rows.max()) + 1 for file, rows in files.items()}
        rows, reach = 0, 0
        for s in self.stretches:
            file = s.entry["file"]
            if file not in files:
                continue
            if names and s.a >= reach and rows + s.b - s.a > size.rows:
                yield names, spans
                names, spans, rows = set(), [], 0
            names.add(file)
            reach = max(reach, last[file])
            rows += s.b - s.a
            if spans and spans[-1][1] == s.a:
                spans[-1] = (spans[-1][0], s.b)
            else:
                spans.append((s.a, s.b))
        if names:
            yield names, spans

    def _kept(self, product: str, files: set[str], redo: np.ndarray) -> tuple[np.ndarray, xr.Dataset] | None:
        """Read the rows of some files that stay as they are: their raw rows, in order, and what the product holds of them."""
        if not self._parts(product):
            return None
        where, rows = [], []
        for entry in self.store.inputs(self.cell, self.name, product):
            s = self.stretches[self.place[entry["stretch"][0]]]
            if s.entry["file"] in files:
                a, b = entry["rows"]
                first = s.a + entry["stretch"][1]
                keep = np.flatnonzero(~redo[first : first + b - a])
                where.append(first + keep)
                rows.append(a + keep)
        if not where or not sum(x.size for x in where):
            return None
        raw_rows, own_rows = np.concatenate(where), np.concatenate(rows)
        return raw_rows, self._read(product).isel(time=own_rows).load()

    def _go_on(
        self, run: Run, handed: xr.Dataset, raw: xr.Dataset, codes: np.ndarray, redo: np.ndarray, kept: dict[str, Any], a: int, b: int
    ) -> dict[str, xr.Dataset]:
        """Reduce what is to be reduced of raw rows [a, b), and put what is kept between it."""
        index = a + np.flatnonzero(redo[a:b])
        out: dict[str, list[xr.Dataset]] = {p: [] for p in run.stage.reducer.products}
        order: dict[str, list[np.ndarray]] = {p: [] for p in out}
        if index.size:
            rows: Any = slice(a, b) if index.size == b - a else index
            for product, ds in run.batch(handed.isel(time=rows).load(), raw.isel(time=rows).load(), codes[index], index).items():
                out[product].append(ds)
                order[product].append(index)
        for product, known in kept.items():
            inside = np.flatnonzero((known[0] >= a) & (known[0] < b)) if known is not None else np.zeros(0, int)
            if inside.size:
                out[product].append(known[1].isel(time=inside))
                order[product].append(known[0][inside])
        return {product: run.joined(product, pieces, order[product]) for product, pieces in out.items()}


class _BatchSize:
    """Frames that fit the memory: by what is read of one, and by what came of one once that is known."""

    def __init__(self, limit: int, each: float, images: bool) -> None:
        self.limit, self.each, self.images = limit, each, images
        self.rows = max(1, int(limit / max(each, 1)))
        if images:
            self.rows = min(self.rows, _FIRST_IMAGES)

    def learn(self, made: dict[str, xr.Dataset], rows: int) -> None:
        """Look at what came of some frames."""
        result = sum(ds.nbytes for ds in made.values()) / rows
        self.rows = max(1, int(self.limit / max(self.each, result, 1)))
        if self.images:
            self.rows = min(self.rows, _MOST_IMAGES)


def _typical(images: xr.Dataset) -> dict[str, float]:
    """Give the monitor's typical value over all frames of the series: what is a beam dump does not depend on the batch."""
    if "monitor" not in images.coords:
        return {}
    values = np.asarray(images["monitor"].values, float)
    values = values[np.isfinite(values) & (values > 0)]
    return {"typical_monitor": float(np.median(values))} if values.size else {}


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def _as_bytes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Lay columns side by side as the bytes of each row."""
    made = []
    for values in columns:
        values = np.ascontiguousarray(values.astype("U") if values.dtype.kind == "O" else values)
        made.append(values.view(np.uint8).reshape(values.size, -1))
    return np.hstack(made)
