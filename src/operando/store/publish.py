"""Publishing: the last compaction. Everything becomes one self-contained NeXus file that xarray, netCDF4, silx, h5web and h5py open.

The tree: `/` NXroot -> `/<cell>` NXentry -> `/<cell>/<series>` NXsubentry -> products, each NXdata owning its own `time`, every level with
@default; beside them `process` NXprocess and `/<cell>/sample` NXsample. Parts are verified against the manifest first (sha256), read in
batches, transcoded to gzip 1 and shuffle, counted, and the file renamed into place: readers see the old one or the new one.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract import TECHNIQUES, StoreError, split_quantity
from operando.hdf5 import EPOCH_UNITS
from operando.store.directory import HIDDEN, RAW
from operando.store.encoding import describe, gzip, plain, write_variable
from operando.store.files import make_directory, sha256_of, sweep_temporaries, writing_hdf5
from operando.store.manifest import natural

if TYPE_CHECKING:
    from operando.store.directory import Store
    from operando.store.writing import Writer

DIMENSION_ONLY = "This is a netCDF dimension but not a netCDF variable."
ELAPSED = "elapsed_time"
OVERVIEW = "_overview_"

_BDF = {"voltage": "voltage_volt", "current": "current_ampere", ELAPSED: "test_time_second"}
_MAIN = ("xrd", "pdf", "xas", "raman", "ir", "eis", "images", "sensor", "echem")
_PRODUCTS = ("frames", "observables", "reduced", "cycles", "alignment")


def publish(
    store: Store,
    path: Path,
    *,
    key: str = "",
    process: Mapping[str, Any] | None = None,
    samples: Mapping[str, Mapping[str, Any]] | None = None,
    writer: Writer | None = None,
    progress: Any = None,
    date: str | None = None,
    only: Collection[tuple[str, str]] | None = None,
) -> Path:
    """Write a store into one file.

    Parameters
    ----------
    store
        The growing store.
    path
        The `.nxs` file; it is replaced in one step.
    key
        What the content was made of; `is_published` compares it.
    process
        `program`, `version`, `configuration` (text), `sources`, `title`: written into every series' `process`.
    samples
        For each cell what is known of it: numbers, text, or text with units.
    writer
        Records the publication in the manifest.
    progress
        Something with `step()`, called once for each product.
    date
        ISO stamp of the publication; now by default. All else depends on the store alone.
    only
        (cell, series) that are published; all by default.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StoreError
        A part is missing or is not what was acknowledged; the disk is full. What was published before is untouched then.
    """
    addresses = [a for a in store.products() if a[2] not in HIDDEN and (only is None or a[:2] in only)]
    if not addresses:
        raise StoreError("nothing to publish: the store has no frames yet", file=store.path)
    date = date or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    process = {"program": "operando", **(process or {})}
    _verify(store, addresses)
    try:
        make_directory(path.parent.absolute())
        sweep_temporaries(path.parent, f".{path.name}.*.tmp")
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", file=path) from error
    cells = sorted({a[0] for a in addresses}, key=natural)
    with ThreadPoolExecutor(_threads()) as pool, writing_hdf5(path, digest=False) as writing:
        root = writing.h5
        _set(
            root, {"NX_class": "NXroot", "default": cells[0], "creator": str(process["program"]), "creator_version": str(process.get("version", ""))}
        )
        _set(root, {"file_time": date, "content_key": key, "title": str(process.get("title") or "")})
        for cell in cells:
            entry = root.create_group(cell)
            _set(entry, {"NX_class": "NXentry"})
            if samples and cell in samples:
                _write_sample(entry.create_group("sample"), cell, samples[cell])
            ranks: dict[str, tuple[Any, ...]] = {}
            for series in sorted({a[1] for a in addresses if a[0] == cell}, key=natural):
                products = sorted((a[2] for a in addresses if a[:2] == (cell, series)), key=natural)
                group = entry.create_group(series)
                _set(group, {"NX_class": "NXsubentry"})
                plotted: list[str] = []
                layouts: dict[str, Any] = {}
                technique = ""
                for product in products:
                    ds = store.read_joined(cell, series, product)
                    technique = str(ds.attrs.get("technique", technique)) if product == "frames" else technique
                    layouts[product] = _write_product(group, product, ds, plotted, writing.check, pool)
                    _count(store, (cell, series, product), group[product])
                    if product not in ("alignment", "cycles"):
                        from operando.store.overview import levels_of, overviews_of

                        for name, small in chain(overviews_of(product, ds), levels_of(product, ds)):
                            layouts[name] = _write_product(group, name, small, [], writing.check, pool, overview_of=product)
                    if progress is not None:
                        progress.step()
                _write_process(group.create_group("process"), store, (cell, series), process, date, layouts)
                if plotted:
                    best = min(plotted, key=lambda p: (_PRODUCTS.index(p) if p in _PRODUCTS else len(_PRODUCTS), natural(p)))
                    _set(group, {"default": best})
                    rank = _MAIN.index(technique) if technique in _MAIN else len(_MAIN) - 3
                    ranks[series] = (rank, natural(series))
            if ranks:
                _set(entry, {"default": min(ranks, key=lambda s: ranks[s])})
    if writer is not None:
        writer.complete({"file": os.fspath(path), "date": date, "key": key, "process": json.loads(json.dumps(process, default=str))})
    return path


def _threads() -> int:
    """Count the processors this process may use, at most 8: a chunk takes longer to deflate than to hand out only up to there."""
    try:
        return min(8, len(os.sched_getaffinity(0)))
    except AttributeError:
        return min(8, os.cpu_count() or 1)


def published_key(path: Path) -> str | None:
    """Give the key a published file was written under; None if it is no such file."""
    import h5py

    try:
        with h5py.File(path, "r", driver="stdio", locking=False) as h5:
            return str(h5.attrs["content_key"])
    except (OSError, KeyError):
        return None


def _verify(store: Store, addresses: list[tuple[str, str, str]]) -> None:
    for address in addresses:
        for part in store.parts(*address):
            file = store.path / part.path
            try:
                found = sha256_of(file)
            except OSError as error:
                raise StoreError(f"a part of the store is missing: {error.strerror}", file=file) from error
            if found != part.sha256:
                raise StoreError("a part of the store is damaged", file=file, found=f"sha256 {found[:16]}...", expected=f"{part.sha256[:16]}...")


def _count(store: Store, address: tuple[str, str, str], group: Any) -> None:
    """See that every row the manifest counts was written."""
    expected = sum(part.rows for part in store.parts(*address))
    if "time" in group and group["time"].shape[0] != expected:
        raise StoreError(
            f"{'/'.join(address)} is not whole", file=store.path, found=f"{group['time'].shape[0]} rows", expected=f"{expected} in the manifest"
        )


def _set(h5: Any, attrs: Mapping[str, Any]) -> None:
    import h5py

    for name, value in attrs.items():
        if isinstance(value, list) and value and isinstance(value[0], str):
            h5.attrs.create(name, np.array(value, dtype=object), dtype=h5py.string_dtype())
        else:
            h5.attrs[name] = value


# ----------------------------------------------------------------- products


def _write_product(
    parent: Any, name: str, ds: xr.Dataset, plotted: list[str], check: Any, pool: ThreadPoolExecutor, overview_of: str = ""
) -> dict[str, Any]:
    """Write a dataset as NXdata (NXcollection if there is nothing to plot in it) and say how, for a quick opening."""
    group = parent.create_group(name)
    layout = describe(ds, group.name)
    elapsed = ""
    if "time" in ds.dims:
        elapsed = ELAPSED if ELAPSED not in ds.variables else f"{ELAPSED}_of_frame"
        times = ds["time"].values.astype("datetime64[ns]")
        seconds = (times - times[0]).astype(np.int64) * 1e-9
        attrs = {"units": "s", "long_name": "elapsed time", "start": f"{times[0]}Z", "derived_from": "time"}
        ds = ds.assign_coords({elapsed: ("time", seconds, attrs)})
    written: dict[str, list[Any]] = {}
    for variable, var in ds.variables.items():
        kind = layout.variables[str(variable)].kind if variable != elapsed else "plain"
        datasets = write_variable(group, str(variable), var, kind, gzip, check, pool)
        attrs = dict(layout.variables[str(variable)].attrs) if variable != elapsed else dict(var.attrs)
        if kind == "time":
            attrs |= {"units": EPOCH_UNITS, "calendar": "proleptic_gregorian"}
        elif kind == "bool":
            attrs |= {"dtype": "bool"}
        elif kind == "complex":
            attrs |= {"complex_of": str(variable)}
        if name == "frames" and ds.attrs.get("technique") == "echem" and variable in _BDF:
            attrs |= {"bdf_term": _BDF[str(variable)]}
        for h5 in datasets:
            _set(h5, attrs)
        written[str(variable)] = datasets
    _attach_scales(group, ds, written)
    coordinates = [d.name.rpartition("/")[2] for c in ds.coords if c not in ds.dims for d in written[str(c)]]
    _set(group, layout.attrs)
    if coordinates:
        _set(group, {"coordinates": " ".join(coordinates)})
    if overview_of:
        _set(group, {"overview_of": overview_of})
    summary = {"rows": ds.sizes.get(layout.rows_dim, 1), "overview_of": overview_of, "layout": json.loads(layout.to_json())}
    signal = _signal(ds, layout.variables)
    if not signal:
        _set(group, {"NX_class": "NXcollection"})
        return summary
    axes = [_axis(ds, str(d), elapsed) for d in ds[signal].dims]
    shown = f"{signal}_real" if layout.variables[signal].kind == "complex" else signal
    _set(group, {"NX_class": "NXdata", "signal": shown, "axes": axes})
    _set(group, {f"{axis}_indices": i for i, axis in enumerate(axes) if axis != "."})
    if shown != signal:
        _set(group, {"auxiliary_signals": [f"{signal}_imag"]})
    plotted.append(name)
    return summary


def _attach_scales(group: Any, ds: xr.Dataset, written: Mapping[str, list[Any]]) -> None:
    """Say by dimension scales which dims a dataset has, as netCDF4 does."""
    scales = {}
    for dim, n in ds.sizes.items():
        name = str(dim)
        if name in written:
            scales[name] = written[name][0]
            scales[name].make_scale(name)
        else:
            scales[name] = group.create_dataset(name, shape=(n,), dtype=">f4")
            scales[name].make_scale(f"{DIMENSION_ONLY}{n:10d}")
    for name, datasets in written.items():
        for h5 in datasets if name not in scales else []:
            for i, dim in enumerate(ds.variables[name].dims):
                h5.dims[i].attach_scale(scales[str(dim)])


def _signal(ds: xr.Dataset, stored: Mapping[str, Any]) -> str:
    """Choose what is plotted: the technique's signal, or the first measured quantity."""

    def fit(name: str) -> bool:
        var = ds[name]
        return stored[name].kind in ("plain", "complex") and var.ndim > 0 and var.size > 0 and "flag_masks" not in var.attrs

    technique = TECHNIQUES.get(str(ds.attrs.get("technique", "")))
    names = [str(n) for n in ds.data_vars if not str(n).endswith(("_errors", "_systematic")) and fit(str(n))]
    first = [n for n in (technique.signals if technique else ()) if n in names]
    moving = [n for n in names if "time" in ds[n].dims] or names
    floats = [n for n in moving if ds[n].dtype.kind in "fc"]
    return next(iter([*first, *floats, *moving]), "")


def _axis(ds: xr.Dataset, dim: str, elapsed: str) -> str:
    if dim == "time":
        return elapsed
    if dim not in ds.variables or ds[dim].dtype.kind not in "iuf" or not np.isfinite(ds[dim].values).all():
        return "."
    return dim


# ----------------------------------------------------------------- process and sample


def _write_process(group: Any, store: Store, series: tuple[str, str], process: Mapping[str, Any], date: str, layouts: Mapping[str, Any]) -> None:
    """Write how a series came about: program, configuration, input files with their sha256, clock and keys; and what its products hold."""
    files: dict[str, dict[str, Any]] = {}
    keys: dict[str, list[str]] = {}
    clock: dict[str, Any] = {}
    for part in store.parts(*series):
        if part.product not in HIDDEN:
            keys.setdefault(part.product, []).extend(part.keys)
        for entry in part.inputs if part.product in RAW else ():
            files[str(entry.get("file", ""))] = {"path": entry.get("file", ""), "size": entry.get("size"), "sha256": entry.get("sha256")}
    if "alignment" in keys:
        clock = {k: v for k, v in store.read(*series, "alignment").attrs.items() if str(k).startswith("clock")}
    _set(group, {"NX_class": "NXprocess"})
    fields: dict[str, Any] = {
        "program": str(process.get("program", "")),
        "version": str(process.get("version", "")),
        "date": date,
        "title": str(process.get("title") or ""),
        "configuration": str(process.get("configuration", "")),
        "sources": _json([files[f] for f in sorted(files, key=natural)]),
        "clock": _json(clock),
        "keys": _json({p: sorted(k) for p, k in sorted(keys.items())}),
        "settings": _json({k: v for k, v in process.items() if k not in ("program", "version", "configuration", "title")}),
        "layout": json.dumps(layouts, separators=(",", ":")),
    }
    for name, text in fields.items():
        group[name] = text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)


def _write_sample(group: Any, cell: str, about: Mapping[str, Any]) -> None:
    _set(group, {"NX_class": "NXsample"})
    group["name"] = str(about.get("name", cell))
    for name, value in _flat(about):
        if name == "name" or value is None:
            continue
        stored = next(iter(plain({"value": value}).values()))
        quantity = split_quantity(stored) if isinstance(stored, str) else None
        where = name.replace("/", "_")
        if quantity is not None:
            group[where] = quantity[0]
            _set(group[where], {"units": quantity[1]})
        else:
            group[where] = stored if isinstance(stored, str | int | float) else _json(stored)


def _flat(about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in about.items():
        yield str(name), value
