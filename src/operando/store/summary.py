"""What a store holds, at a glance."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from operando.hdf5 import reading
from operando.store.directory import Store
from operando.store.opening import open_beamtime


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Sum up a store without reading a signal.

    Parameters
    ----------
    path
        Live directory or published file.

    Returns
    -------
    dict
        `path`, `kind` (`growing` or `published`), `bytes`, `title`, `products` (each with `address`, `rows`, `begin`, `end` in UTC and
        `variables`, and `summary` where its reducer says in words what it found), `quarantined` (file -> reason; only a growing store knows),
        `version` of the program that published it.

    Raises
    ------
    StoreError
        No store there, or a damaged one.
    """
    path = Path(path)
    tree = open_beamtime(path)
    products = []
    for node in tree.subtree:
        ds = node.to_dataset(inherit=False)
        if not ds.variables:
            continue
        begin = end = None
        if "time" in ds.indexes and ds.sizes["time"]:
            begin, end = (str(np.datetime_as_string(ds["time"].values[i], unit="s")) + "Z" for i in (0, -1))
        rows = ds.sizes.get("time", max(ds.sizes.values(), default=0))
        entry = {"address": node.path.strip("/"), "rows": rows, "begin": begin, "end": end, "variables": [str(v) for v in ds.data_vars]}
        products.append(entry | ({"summary": str(ds.attrs["summary"])} if ds.attrs.get("summary") else {}))
    out: dict[str, Any] = {
        "path": str(path),
        "kind": "growing" if path.is_dir() else "published",
        "title": "",
        "products": products,
    }
    if path.is_dir():
        out["bytes"] = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        out["title"] = (Store(path).completed() or {}).get("process", {}).get("title", "")
        out["quarantined"] = {q["file"]: q["reason"] for q in Store(path).quarantined()}
    else:
        out["bytes"] = path.stat().st_size
        with reading(str(path)) as file:
            out["version"], out["title"] = (str(file.attrs.get(name, "")) for name in ("creator_version", "title"))
    return out
