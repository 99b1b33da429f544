"""Opening a beamtime, growing or published, as one lazy tree."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from operando.contract import StoreError
from operando.hdf5 import Identity, identity_of, reading
from operando.store.combine import Combined, stored_array
from operando.store.directory import HIDDEN, Store
from operando.store.encoding import Layout
from operando.store.manifest import natural
from operando.store.overview import levels_of, overviews_of
from operando.store.publish import OVERVIEW


def open_beamtime(path: str | os.PathLike[str], *, problems: list[StoreError] | None = None) -> xr.DataTree:
    """Open a beamtime as one tree, `bt["A/xrd/frames"]`, whose signals are read when they are needed.

    Every product over time carries the alignment (voltage, charge, cycle, flags ...) as coordinates and the corrected time as index. A
    growing directory and the file published from it give the same tree.

    Parameters
    ----------
    path
        `<name>.nxs`, or the growing `<name>.operando/`.
    problems
        Where to put what is wrong with products of a growing store that have missing or damaged parts; the others are then opened without
        them. By default such a store is refused.

    Raises
    ------
    StoreError
        Nothing there, no store, or one with missing or damaged parts.

    Examples
    --------
    >>> bt = open_beamtime("june.nxs")                     # doctest: +SKIP
    >>> bt["A/xrd/frames"].ds.intensity.sel(time="2026-06-03T10:00", method="nearest")   # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "manifest.jsonl").exists() and not (path / "parts").exists():
            raise StoreError("this folder is no store", file=path, expected="<name>.operando/ with its manifest.jsonl, or a published .nxs")
        store = Store(path)
        found = {}
        for address in (a for a in store.products() if a[2] not in HIDDEN):
            try:
                found["/".join(address)] = store.read_joined(*address)
            except StoreError as error:
                if problems is None:
                    raise
                problems.append(error)
        return _tree(path, found)
    return _tree(path, {address: lazy.dataset() for address, overview_of, lazy in _products(path) if not overview_of})


def overviews(path: str | os.PathLike[str], address: str) -> dict[int, xr.Dataset]:
    """Give the overviews of a product, for drawing: frames averaged -> dataset, the finest first; empty if it is small.

    Those of a published store lie in it. Those of a growing one are averaged from its frames when they are read, which takes as long as
    reading the frames.

    Parameters
    ----------
    path
        The published `.nxs`, or the growing `.operando/`.
    address
        Such as `A/xrd/frames`.

    Raises
    ------
    StoreError
        No store, or no such product in a growing one.
    """
    return _smaller(path, address, overviews_of, "overview_factor", r"\d+")


def pyramid(path: str | os.PathLike[str], address: str) -> dict[int, xr.Dataset]:
    """Give the coarser levels of a product's pictures (time, y, x): pixels of a side averaged to one -> dataset, the finest first; empty if small.

    Those of a published store lie in it, each of half the side of the one before, until 256 pixels are the longest. Those of a growing one are
    averaged when they are read.

    Parameters
    ----------
    path
        The published `.nxs`, or the growing `.operando/`.
    address
        Such as `A/imaging/reduced`.

    Raises
    ------
    StoreError
        No store, or no such product in a growing one.
    """
    return _smaller(path, address, levels_of, "overview_pixels", r"\d+px")


def _smaller(
    path: str | os.PathLike[str], address: str, made: Callable[[str, xr.Dataset], Iterator[tuple[str, xr.Dataset]]], counted: str, named: str
) -> dict[int, xr.Dataset]:
    """Give the small versions of a product by what their attribute `counted` says, the finest first: those of a store, or as they are made."""
    path = Path(path)
    if path.is_dir():
        cell, series, product = address.strip("/").split("/")
        found = [ds for _, ds in made(product, Store(path).read_joined(cell, series, product))]
    else:
        start = re.escape(address.strip("/") + OVERVIEW)
        found = [lazy.dataset() for name, overview_of, lazy in _products(path) if overview_of and re.fullmatch(start + named, name)]
    return dict(sorted((int(ds.attrs[counted]), ds) for ds in found))


def provenance(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Tell how each series of a published store came about: `A/xrd` -> program, version, date, configuration, sources, clock, keys, settings.

    Of a growing store, what its last publication recorded, under the name of the file.

    Raises
    ------
    StoreError
        No store there.
    """
    path = Path(path)
    if path.is_dir():
        done = Store(path).completed()
        return {str(done["file"]): dict(done)} if done else {}
    out: dict[str, dict[str, Any]] = {}
    with reading(os.fspath(path), _identity(path)) as h5:
        for name in dict.fromkeys(address.rpartition("/")[0] for address, _, _ in _products(path)):
            group = h5[name]["process"]
            texts = {field: group[field].asstr()[()] for field in group if field != "layout"}
            out[name] = {k: json.loads(v) if k in ("sources", "clock", "keys", "settings") else v for k, v in texts.items()}
    return out


def _identity(path: Path) -> Identity:
    try:
        return identity_of(path)
    except OSError as error:
        live = path.with_suffix(".operando")
        hint = f"open {live.name}, which is still growing" if live.is_dir() else None
        raise StoreError(f"no such store: {error.strerror}", file=path, hint=hint) from error


def _tree(path: Path, found: dict[str, xr.Dataset]) -> xr.DataTree:
    for ds in found.values():
        ds.encoding["source"] = os.path.abspath(path)  # as xarray does; relative names of image files start from there
    return xr.DataTree.from_dict({f"/{name}": ds for name, ds in found.items()})


def _products(path: Path) -> list[tuple[str, str, Combined]]:
    """List what a published file holds: address, the product it is an overview of or an empty text, and the lazy arrays."""
    identity = _identity(path)
    name = os.fspath(path)
    out = []
    with reading(name, identity) as h5:
        if "content_key" not in h5.attrs:
            raise StoreError("not a published store", file=path, expected="a .nxs file written by operando")
        for cell in sorted(h5, key=natural):
            for series in sorted(h5[cell], key=natural):
                if f"{cell}/{series}/process/layout" not in h5:
                    continue
                layouts = json.loads(h5[f"{cell}/{series}/process/layout"].asstr()[()])
                for product in sorted(layouts, key=natural):
                    entry = layouts[product]
                    address = f"{cell}/{series}/{product}"
                    layout = Layout.from_json(json.dumps(entry["layout"], separators=(",", ":")))
                    out.append((address, entry["overview_of"], _published(address, name, identity, layout, entry["rows"])))
    return out


def _published(address: str, path: str, identity: Identity, layout: Layout, rows: int) -> Combined:
    """Give one product as the lazy arrays it was written from."""
    arrays = {}
    for name, stored in layout.variables.items():
        shape = tuple(rows if d == layout.rows_dim else layout.sizes[d] for d in stored.dims)
        arrays[name] = (stored_array(path, f"{address}/{name}", shape, stored.kind, stored.dtype, identity), stored)
    return Combined(arrays, layout.attrs, layout.rows_dim, rows)
