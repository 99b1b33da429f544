"""Datasets as HDF5: which types and attributes are stored, and how; what cannot be stored is refused by name.

Numbers are kept as they are (float16 is refused: netCDF4 aborts on it), bool as int8, times as int64 nanoseconds since 1970
(NaT is the smallest int64), text as utf-8, complex numbers as two variables `<name>_real` and `<name>_imag`.
Attributes are text, numbers and flat lists of one of them; a dict or a nested list becomes JSON text, a bool 0 or 1, None is left out.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import StoreError

BATCH = 8 << 20
"""Bytes that are read and written at once."""

SMALL = 64 << 10
"""Bytes below which an array is stored in one piece, without chunks or compression."""

_ELEMENTS = 64 * 256  # in a chunk: about (64, 256) for (time, axis)
_GROUP_RESERVED = {"NX_class", "signal", "axes", "auxiliary_signals", "coordinates", "default", "overview_of"}
_RESERVED = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties"}
_VARIABLE_RESERVED = {"_FillValue", "missing_value", "scale_factor", "add_offset", "dtype", "complex_of", "bdf_term", "start", "derived_from"}

Filters = Callable[[tuple[int, ...], np.dtype[Any], bool], dict[str, Any]]


@dataclass(frozen=True)
class Stored:
    """How one variable is stored; `dtype` is that of the values as given back."""

    dims: tuple[str, ...]
    kind: str
    dtype: str
    coord: bool
    attrs: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Layout:
    """What a dataset holds, apart from the values and the number of rows.

    Attributes
    ----------
    rows_dim
        The dim along which parts follow one another: `time`, or the first dim of a product without time, or empty.
    sizes
        Of all other dims.
    """

    variables: dict[str, Stored]
    attrs: dict[str, Any]
    sizes: dict[str, int]
    rows_dim: str

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    @functools.lru_cache(maxsize=512)
    def from_json(text: str) -> Layout:
        """Read from JSON text; equal texts give one object."""
        raw = json.loads(text)
        variables = {name: Stored(**{**v, "dims": tuple(v["dims"])}) for name, v in raw.pop("variables").items()}
        return Layout(variables=variables, **raw)


def describe(ds: xr.Dataset, where: str) -> Layout:
    """Say how a dataset is stored.

    Raises
    ------
    StoreError
        Something in it cannot be stored; all such faults in one message.
    """
    faults: list[str] = []
    rows_dim = "time" if "time" in ds.dims else next((str(v.dims[0]) for v in ds.data_vars.values() if v.dims), "")
    variables: dict[str, Stored] = {}
    for key, var in ds.variables.items():
        name = str(key)
        faults += _name_faults(name)
        try:
            kind, dtype = _kind(var)
            attrs = plain(var.attrs, _VARIABLE_RESERVED | ({"units", "calendar"} if kind == "time" else set()))
        except StoreError as error:
            faults.append(f"{name!r}: {error.problem}")
            continue
        dims = tuple(str(d) for d in var.dims)
        if rows_dim in dims[1:]:
            faults.append(f"{name!r}: {rows_dim!r} is not its first dim {dims}")
        if name in ds.dims and dims != (name,):
            faults.append(f"{name!r} has the name of a dim but lies along {dims}")
        digest = "" if rows_dim in dims else _digest(var, kind)
        variables[name] = Stored(dims, kind, dtype, key in ds.coords, attrs, digest)
    for name, stored in variables.items():
        if stored.kind == "complex" and {f"{name}_real", f"{name}_imag"} & set(variables):
            faults.append(f"{name!r} is complex and {name}_real or {name}_imag exists too")
    for dim in ds.dims:
        faults += _name_faults(str(dim)) if str(dim) not in variables else []
    if any(type(index).__name__ == "PandasMultiIndex" for index in ds.xindexes.values()):
        faults.append("a MultiIndex cannot be stored: reset_index first")
    try:
        attrs = plain(ds.attrs, _GROUP_RESERVED)
    except StoreError as error:
        faults.append(error.problem)
    if faults:
        raise StoreError("cannot be stored:\n" + "\n".join(f"  - {fault}" for fault in faults), file=where)
    return Layout(variables, attrs, {str(d): n for d, n in ds.sizes.items() if d != rows_dim}, rows_dim)


def _name_faults(name: str) -> list[str]:
    if re.fullmatch(r"(?!__)[^\s/\x00-\x1f]+", name) and name != ".":
        return []
    return [f"{name!r} is no name for a variable or dim (no spaces, no '/', not beginning with '__')"]


def _kind(var: xr.Variable) -> tuple[str, str]:
    dtype = var.dtype
    if not isinstance(dtype, np.dtype):
        raise StoreError(f"type {dtype} cannot be stored")
    if dtype.kind == "b":
        return "bool", "bool"
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize in (4, 8)):
        return "plain", dtype.newbyteorder("=").name
    if dtype.kind == "c" and dtype.itemsize in (8, 16):
        return "complex", dtype.newbyteorder("=").name
    if dtype.kind == "M":
        return "time", "datetime64[ns]"
    if dtype.kind in "OUST":
        return "str", "object"
    hint = {"f": "convert it to float32 or float64", "m": "convert it to float seconds", "c": "convert it to complex128"}.get(dtype.kind, "")
    raise StoreError(f"type {dtype} cannot be stored{': ' if hint else ''}{hint}")


def _digest(var: xr.Variable, kind: str) -> str:
    sha = hashlib.sha256(repr(var.shape).encode())
    for _, values in encode(var.values, kind):
        sha.update(json.dumps(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()[:16]


def encode(values: Any, kind: str) -> list[tuple[str, np.ndarray]]:
    """Give the arrays that stand for values in the file, each with the suffix its name gets.

    Raises
    ------
    StoreError
        An object that is no text.
    """
    values = np.asarray(values)
    if kind == "bool":
        return [("", values.astype(np.int8))]
    if kind == "time":
        return [("", values.astype("datetime64[ns]", copy=False).view(np.int64) if values.ndim else values.astype("datetime64[ns]").astype(np.int64))]
    if kind == "complex":
        return [("_real", values.real), ("_imag", values.imag)]
    if kind == "str":
        flat = values.ravel().tolist()
        if values.dtype.kind == "S":
            flat = [v.decode("utf-8", "replace") for v in flat]
        for value in flat:
            if not isinstance(value, str):
                raise StoreError(f"objects of type {type(value).__name__} cannot be stored, only text")
            _check_text(value)
        out = np.empty(len(flat), object)
        out[:] = flat
        return [("", out.reshape(values.shape))]
    return [("", values.astype(values.dtype.newbyteorder("="), copy=False))]


def _check_text(text: str) -> None:
    if "\0" in text or not _encodable(text):
        raise StoreError(f"text that is not valid unicode without NUL cannot be stored: {text[:60]!r}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fill_of(kind: str, dtype: str) -> tuple[Any, np.dtype[Any]]:
    """Give what stands for values that are not there, and the type that can hold it.

    NaN, NaT, empty text; integers become float64 for it, booleans are False.
    """
    if kind == "str":
        return "", np.dtype(object)
    if kind == "time":
        return np.datetime64("NaT", "ns"), np.dtype("datetime64[ns]")
    if kind == "bool":
        return False, np.dtype(bool)
    found = np.dtype(dtype)
    return np.nan, np.dtype(np.float64) if found.kind in "iu" else found


# ----------------------------------------------------------------- attributes


def plain(attrs: Mapping[Any, Any], reserved: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """Bring attributes into what is stored: text, numbers, flat lists of one kind.

    Raises
    ------
    StoreError
        A value that is none of these, or a name the file format uses itself.
    """
    out: dict[str, Any] = {}
    for key, value in attrs.items():
        name = str(key)
        if name in reserved or name in _RESERVED or name.endswith("_indices") or "/" in name or not name or not _encodable(name):
            raise StoreError(f"attribute {name!r} has a name that is taken by the file format")
        if value is not None:
            out[name] = _plain(value, name)
    return out


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.datetime64 | dt.datetime | dt.date):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        _check_text(value)
        return str(value)
    if isinstance(value, bytes):
        return _plain(value.decode("utf-8", "replace"), name)
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value), name)
    if isinstance(value, bool | int):
        if not -(2**63) <= int(value) < 2**63:
            raise StoreError(f"attribute {name!r} is an integer beyond 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, list | tuple | np.ndarray | set | frozenset):
        items: list[Any] = [
            _plain(v, name) if not isinstance(v, dict | None) else v for v in (sorted(value) if isinstance(value, set | frozenset) else value)
        ]
        if items and all(isinstance(v, str) for v in items):
            return items
        if items and all(isinstance(v, int | float) for v in items) and len(items) < 4000:
            return [float(v) for v in items] if any(isinstance(v, float) for v in items) else items
        return _json(items, name)
    if isinstance(value, dict):
        return _json(value, name)
    raise StoreError(f"attribute {name!r} is a {type(value).__name__}, which cannot be stored")


def _json(value: Any, name: str) -> str:
    def other(item: Any) -> Any:
        if isinstance(item, np.ndarray | np.generic):
            return item.tolist()
        return str(item)

    try:
        return json.dumps(value, ensure_ascii=False, default=other)
    except (TypeError, ValueError) as error:
        raise StoreError(f"attribute {name!r} cannot be written as JSON: {error}") from None


# ----------------------------------------------------------------- datasets


def chunks_for(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Choose chunks of about (64, 256) for (time, axis), of as many values for other shapes."""
    chunks = [1] * len(shape)
    left = _ELEMENTS
    for i in range(len(shape) - 1, -1, -1):
        cap = left if i == 0 else min(256, left)
        chunks[i] = max(1, min(shape[i], cap))
        left = max(1, left // chunks[i])
    return tuple(chunks)


def bitshuffle(shape: tuple[int, ...], dtype: np.dtype[Any], text: bool) -> dict[str, Any]:
    """Filters of a part: bitshuffle and lz4, fast both ways; small arrays and text as they are."""
    if text or not shape or int(np.prod(shape)) * dtype.itemsize < SMALL:
        return {}
    import hdf5plugin

    return {"chunks": chunks_for(shape), **hdf5plugin.Bitshuffle(cname="lz4")}


def gzip(shape: tuple[int, ...], dtype: np.dtype[Any], text: bool) -> dict[str, Any]:
    """Filters of a published file: gzip 1 and shuffle, which every HDF5 reader has."""
    if text or not shape or int(np.prod(shape)) * dtype.itemsize < SMALL:
        return {}
    return {"chunks": chunks_for(shape), "compression": "gzip", "compression_opts": 1, "shuffle": True}


def batches(shape: tuple[int, ...], itemsize: int, size: int = BATCH) -> Iterator[slice]:
    """Cut rows into ranges of about `size` bytes that end where chunks end."""
    chunk = chunks_for(shape)[0]
    row = max(1, int(np.prod(shape[1:])) * itemsize)
    step = max(chunk, size // row // chunk * chunk)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def write_variable(
    group: Any, name: str, var: xr.Variable, kind: str, filters: Filters, check: Callable[[], None], pool: Executor | None = None
) -> list[Any]:
    """Write a variable, in batches if it is lazy, and give the one or two datasets it became.

    With a pool, chunks of gzip datasets are compressed in its threads.
    """
    import h5py

    suffixes = {"complex": ("_real", "_imag")}.get(kind, ("",))
    dtype: Any = {"bool": np.dtype(np.int8), "time": np.dtype(np.int64), "str": h5py.string_dtype()}.get(kind)
    if kind == "complex":
        dtype = np.dtype(np.float32 if var.dtype.itemsize == 8 else np.float64)
    elif dtype is None:
        dtype = var.dtype.newbyteorder("=")
    datasets = [group.create_dataset(name + s, shape=var.shape, dtype=dtype, **filters(var.shape, dtype, kind == "str")) for s in suffixes]
    if not var.size:
        return datasets
    in_memory = isinstance(var._data, np.ndarray)
    pieces: Iterator[Any] = iter([...]) if in_memory or not var.ndim else batches(var.shape, max(var.dtype.itemsize, 64 if kind == "str" else 1))
    for rows in pieces:
        values = var.values if rows is ... else var[rows].values
        for h5, (_, encoded) in zip(datasets, encode(values, kind), strict=True):
            if pool is not None and h5.compression == "gzip":
                _write_compressed(h5, 0 if rows is ... else rows.start, encoded, pool)
            else:
                h5[rows] = encoded
        del values, encoded  # not kept while the next ones are read
        check()
    return datasets


@functools.cache
def _deflate() -> Callable[[bytes, int], bytes]:
    """Give what makes zlib streams: ISA-L's where it is installed (6 times as fast at level 1, and as small), else zlib's.

    Both are what HDF5's own gzip filter reads; only the bytes differ, not what they say.
    """
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compress
    found: Callable[[bytes, int], bytes] = isal_zlib.compress
    return found


def _write_compressed(h5: Any, first_row: int, values: np.ndarray, pool: Executor) -> None:
    """Write rows that begin where a chunk begins: shuffle and deflate every chunk as HDF5 would, several at once."""
    chunks, itemsize, level, deflate = h5.chunks, values.dtype.itemsize, h5.compression_opts, _deflate()

    def packed(corner: tuple[int, ...]) -> bytes:
        tile = values[tuple(slice(c, c + n) for c, n in zip(corner, chunks, strict=True))]
        if tile.shape != chunks:
            whole = np.zeros(chunks, values.dtype)
            whole[tuple(slice(n) for n in tile.shape)] = tile
            tile = whole
        shuffled = np.ascontiguousarray(tile).view(np.uint8).reshape(-1, itemsize).T
        return deflate(shuffled.tobytes(), level)

    corners = list(itertools.product(*(range(0, n, c) for n, c in zip(values.shape, chunks, strict=True))))
    for corner, data in zip(corners, pool.map(packed, corners), strict=True):
        h5.id.write_direct_chunk((first_row + corner[0], *corner[1:]), data)
