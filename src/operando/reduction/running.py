"""Running a stage: what it is given, what it may return, and where its state ends. In memory here; `operando.beamtime` runs the same on a store."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import traceback
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.config import Reader
from operando.contract import RULES, ConfigError, ContractError, OperandoError
from operando.reduction.interface import Products
from operando.reduction.recipes import Stage, default_stages, parse_recipe

TIMES = ("time", "source_time", "segment", "stamp")
"""What the timeline may say otherwise tomorrow: a product keeps the frames' own, and is given the timeline's when it is opened."""

_OF_FRAMES = ("cell", "instrument", "time_origin", "time_uncertainty_s", "timezone_source", "timezone", "zone_assumed")
_BATCH = 250_000_000
"""Bytes of frames that are handed over at once by hand."""

_log = logging.getLogger(__name__)


def group_codes(frames: xr.Dataset) -> np.ndarray:
    """Number the runs within one segment, setup and position, in the order in which they begin; no state crosses them."""
    n = frames.sizes["time"]
    columns = []
    for name in ("segment", "setup", "position"):
        if name in frames.coords and frames[name].dims == ("time",):
            values = frames[name].values
            columns.append(np.unique(values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True)[1].reshape(-1))
    if not columns or not n:
        return np.zeros(n, np.int64)
    _, first, inverse = np.unique(np.column_stack(columns), axis=0, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse.reshape(-1)]


def row_bytes(frames: xr.Dataset) -> float:
    """Bytes that one frame takes in memory, with all that comes with it."""
    return sum(v.nbytes for v in frames.variables.values() if "time" in v.dims) / max(frames.sizes.get("time", 0), 1)


class Run:
    """One stage at work on one series.

    Parameters
    ----------
    stage
        The reducer and its recipe.
    where
        `cell/series`, for messages.
    """

    def __init__(self, stage: Stage, where: str) -> None:
        self.stage, self.where = stage, where
        self.states: dict[int, Any] = {}
        self.messages: list[str] = []
        self.token = uuid.uuid4().hex  # by which a reducer knows that a batch is not the first
        self.shapes: dict[str, dict[str, str]] = {}

    def batch(self, handed: xr.Dataset, raw: xr.Dataset, codes: np.ndarray, rows: np.ndarray) -> dict[str, xr.Dataset]:
        """Reduce some frames, in the order of acquisition: a `forward` reducer goes on where it stopped in each group.

        Parameters
        ----------
        handed
            The frames as the reducer may see them.
        raw
            The same frames as they are kept; what is returned carries their times and coordinates.
        codes
            Group of each frame (`group_codes`).
        rows
            Number of each frame, for messages.
        """
        if self.stage.reducer.kind == "frame":
            return self._products(handed, raw, None, rows)[0]
        order, pieces = [], []
        for code in dict.fromkeys(codes.tolist()):
            index = np.flatnonzero(codes == code)
            made, self.states[code] = self._products(handed.isel(time=index), raw.isel(time=index), self.states.get(code), rows[index])
            pieces.append(made)
            order.append(index)
        return {name: self.joined(name, [piece[name] for piece in pieces], order) for name in pieces[0]}

    def whole(self, handed: xr.Dataset, raw: xr.Dataset) -> dict[str, xr.Dataset]:
        """Reduce all frames of a series at once."""
        return self._products(handed, raw, None, np.arange(handed.sizes["time"]))[0]

    def joined(self, name: str, pieces: list[xr.Dataset], order: list[np.ndarray]) -> xr.Dataset:
        """Lay pieces of a product together, in the order of their frames' numbers."""
        if len(pieces) == 1:
            return pieces[0]
        try:
            ds = xr.concat(pieces, dim="time", data_vars="minimal", coords="minimal", compat="equals", join="exact", combine_attrs="override")
        except ValueError as error:
            raise self._breach([f"{name!r} differs between frames of one series in what lies not along 'time': {error}"], "") from error
        return ds.isel(time=np.argsort(np.concatenate(order), kind="stable"))

    def expect(self, name: str, ds: xr.Dataset) -> None:
        """Say what a product is like that is there already: what comes must fit it."""
        self.shapes[name] = {str(key): _digest(var) for key, var in ds.variables.items() if "time" not in var.dims}

    # ------------------------------------------------------------- what comes back

    def _products(self, handed: xr.Dataset, raw: xr.Dataset, state: Any, rows: np.ndarray) -> tuple[dict[str, xr.Dataset], Any]:
        made = self._call(handed, state, rows)
        span = _span(rows)
        if not isinstance(made, Products) or not isinstance(made.datasets, Mapping):
            raise self._breach([f"it returned {type(made).__name__}, not Products"], span)
        wanted = self.stage.reducer.products
        found = [f"{name!r} was declared and not returned" for name in wanted if name not in made.datasets]
        found += [f"{name!r} was returned and not declared: nothing else of the store can be written" for name in made.datasets if name not in wanted]
        for name in wanted:
            if name in made.datasets:
                found += [f"{name!r}: {fault}" for fault in self._faults(made.datasets[name], handed)]
        if found:
            raise self._breach(found, span)
        self.messages += [str(message) for message in made.messages if message not in self.messages]
        out = {}
        for name in wanted:
            found += [f"{name!r}: {fault}" for fault in self._unlike(name, made.datasets[name])]
            out[name] = self._finished(name, made.datasets[name], handed, raw)
        if found:
            raise self._breach(found, span)
        return out, made.state

    def _call(self, handed: xr.Dataset, state: Any, rows: np.ndarray) -> Any:
        reducer = self.stage.reducer
        try:
            return reducer(handed, self.stage.recipe, state)
        except OperandoError as error:
            error.file = error.file or f"{self.where} (reducer {reducer.name}, {_span(rows)})"
            raise
        except Exception as error:
            _log.debug("reducer %s on %s", reducer.name, self.where, exc_info=True)
            steps = traceback.extract_tb(error.__traceback__)
            mine = [step for step in steps if step.filename == getattr(getattr(reducer.run, "__code__", None), "co_filename", "")]
            last = (mine or steps)[-1]  # the reducer's own line rather than one deep in a library
            raise ContractError(
                f"the reducer {reducer.name} failed: {type(error).__name__}: {error}",
                file=f"{self.where}, {_span(rows)}",
                found=f"in {Path(last.filename).name}, line {last.lineno} ({last.name})",
                hint="mend the reducer, or its recipe",
            ) from error

    def _breach(self, found: list[str], span: str) -> ContractError:
        text = "\n".join(f"  - {fault}" for fault in found)
        return ContractError(
            f"what the reducer {self.stage.reducer.name} returned breaks the contract:\n{text}", file=f"{self.where}, {span}".strip(", ")
        )

    def _faults(self, ds: Any, handed: xr.Dataset) -> Iterator[str]:
        if not isinstance(ds, xr.Dataset):
            yield f"is {type(ds).__name__}, not an xarray.Dataset"
            return
        if not ds.data_vars:
            yield "holds no variable"
        if "time" not in ds.dims or "time" not in ds.coords:
            yield "dim and coordinate 'time' are missing"
            return
        if not ds.sizes["time"]:
            yield "no frames"
            return
        if ds["time"].dtype.kind != "M" or np.isnat(ds["time"].values).any():
            yield f"'time' is {ds['time'].dtype}, not datetime64[ns] without NaT"
            return
        if not _same_times(ds, handed):
            reducer = self.stage.reducer
            n, given = ds.sizes["time"], handed.sizes["time"]
            if reducer.kind != "series":
                yield (
                    f"{n} frames for {given} that were handed in" if n != given else "its 'time' is not that of the frames handed in, in their order"
                )
            elif not reducer.needs_alignment:
                yield (
                    "has rows of its own, whose times would stay uncorrected by the clock: return the frames' own 'time', "
                    "or declare needs_alignment=True"
                )
        mine = ds.drop_vars([c for c in ds.coords if c in handed.coords or c == "time"])
        for rule in ("units_are_canonical", "errors_are_linked"):
            yield from RULES[rule](mine)

    def _unlike(self, name: str, ds: xr.Dataset) -> Iterator[str]:
        """See that batches of one product fit together: what does not lie along time is the same in all of them."""
        if self.stage.reducer.kind == "series":
            return
        mine = {str(key): _digest(var) for key, var in ds.variables.items() if "time" not in var.dims}
        known = self.shapes.setdefault(name, mine)
        for key in sorted(mine.keys() & known.keys()):
            if mine[key] != known[key]:
                yield f"{key!r} does not lie along 'time' and differs between frames of one series"

    def _finished(self, name: str, ds: xr.Dataset, handed: xr.Dataset, raw: xr.Dataset) -> xr.Dataset:
        """Give a product the frames' own times and coordinates, and say where it comes from."""
        reducer = self.stage.reducer
        attrs = {k: v for k, v in ds.attrs.items() if k in raw.attrs or k not in handed.attrs}
        if _same_times(ds, handed):
            given = [c for c in ds.coords if c in handed.coords and c not in raw.coords]
            ds = ds.drop_vars([*given, *(c for c in TIMES if c in ds.variables)])
            carried = {c: raw[c].variable for c in raw.coords if raw[c].dims == ("time",) and (c in TIMES or c not in ds.variables)}
            ds = ds.assign_coords(carried).transpose("time", ...)
            attrs = {k: v for k, v in attrs.items() if k not in _OF_FRAMES} | {k: raw.attrs[k] for k in _OF_FRAMES if k in raw.attrs}
        attrs.pop("about", None)
        origin = {
            "technique": reducer.technique,
            "product": name,
            "reducer": reducer.name,
            "reducer_version": reducer.version,
            "recipe": json.dumps(self.stage.settings, sort_keys=True),
        }
        ds = ds.copy(deep=False)
        ds.attrs = attrs | {k: raw.attrs[k] for k in ("cell", "instrument") if k in raw.attrs} | origin
        return ds


def _same_times(ds: xr.Dataset, handed: xr.Dataset) -> bool:
    a, b = (x["time"].values.astype("datetime64[ns]") for x in (ds, handed))
    return a.shape == b.shape and bool((a == b).all())


def _span(rows: np.ndarray) -> str:
    return f"frames {rows[0]} to {rows[-1]}" if rows.size > 1 else f"frame {rows[0]}"


def _digest(var: xr.Variable) -> str:
    values = np.asarray(var.values)
    content = repr(values.tolist()).encode() if values.dtype.kind in "OUST" else values.tobytes()
    return hashlib.sha256(f"{var.dims}{values.shape}".encode() + content).hexdigest()[:16]


# --------------------------------------------------------------------------- by hand


def uncorrected(frames: xr.Dataset) -> xr.Dataset:
    """Give frames on their instrument's own times, on UTC: what a reducer sees that does not need the alignment."""
    ds = frames.drop_vars("stamp", errors="ignore")
    return ds.assign_coords(time=("time", ds["source_time"].values, ds["time"].attrs)) if "source_time" in ds.coords else ds


def reduce(
    series: xr.Dataset,
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    base: Path | None = None,
    memory: int = _BATCH,
    read: Reader | None = None,
    folder: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, xr.Dataset]:
    """Reduce a series in memory: `operando.reduce`, which says what the arguments are, without the loaders.

    Parameters
    ----------
    read
        Reads the measured files that a recipe names; without it such a recipe is refused.
    """
    technique = str(series.attrs.get("technique"))
    known = [technique] if technique == "images" else []
    stages = default_stages(technique, series.attrs.get("frames_of")) if recipe is None else parse_recipe(recipe, base, known, read=read)
    if not stages:
        raise ConfigError(f"no reducer runs on {technique} by default", hint="name a recipe")
    if series.attrs.get("timezone_source") == "none":
        raise ContractError(
            "the times of the series are wall-clock times without a zone", hint="give it a zone first: op.load(..., timezone=) or op.align"
        )
    first = stages[0].reducer
    if first.reads != "images" and first.technique != technique:
        raise ContractError(f"the reducer {first.name} reduces {first.technique}", found=technique)
    given = {"images" if first.reads == "images" else "frames": series}
    out: dict[str, xr.Dataset] = {}
    where = str(series.attrs.get("cell") or technique)
    pixels = {"folder": None if folder is None else os.fspath(folder), "workers": workers or min(os.cpu_count() or 1, 4)}
    for stage in stages:
        run = Run(stage, where)
        pixels["run"] = run.token
        out |= _reduced(run, (given | out)[stage.reducer.reads], series.attrs.get("about"), memory, pixels)
        for message in run.messages:
            warnings.warn(f"{where}: {message}", UserWarning, stacklevel=3)
    return out


def _reduced(run: Run, raw: xr.Dataset, about: Any, memory: int, pixels: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    reducer = run.stage.reducer
    handed = raw if reducer.needs_alignment else uncorrected(raw)
    handed = handed.assign_attrs(about=json.dumps(reducer.about_of(json.loads(about or "{}"))))
    if reducer.reads == "images":
        handed = handed.assign_attrs(pixels=json.dumps(pixels))
    if reducer.kind == "series":
        return run.whole(handed.copy(deep=True), raw)
    codes = group_codes(handed)
    rows = max(1, int(memory / max(row_bytes(raw), 1)))
    pieces: dict[str, list[xr.Dataset]] = {}
    every = np.arange(codes.size)
    for a in range(0, codes.size, rows):
        some = slice(a, a + rows)
        for name, ds in run.batch(handed.isel(time=some).copy(deep=True), raw.isel(time=some), codes[some], every[some]).items():
            pieces.setdefault(name, []).append(ds)
    return {name: run.joined(name, many, [every[a : a + rows] for a in range(0, codes.size, rows)]) for name, many in pieces.items()}
