"""HDF5 datasets as lazy xarray variables, read through h5py.

A `LazyArray` knows its shape and type without touching the file and reads only what is indexed, so opening a store
of many variables costs no reading. Files are opened when first read and kept in a small cache of handles:

- without HDF5's file lock, so that a detector or another program may go on writing the file;
- through HDF5's `stdio` driver. HDF5 refuses to open one file twice in a process with different locking, but compares
  only handles of the same driver: a script may open the same file with plain h5py while it is being read here;
- closed before a fork, because a child shares the position of a C stream with its parent;
- opened anew when the file has changed (size, modification time or inode).

All reads hold one lock (h5py itself lets only one thread into HDF5), arrays pickle as path and name.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from operando.contract import StoreError

EPOCH_UNITS = "nanoseconds since 1970-01-01T00:00:00Z"
"""Units attribute of every time in a store: int64, NaT is the smallest int64."""

_STRUCTURE = frozenset({"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid", "_Netcdf4Coordinates"})

Key = tuple[Any, ...]
Identity = tuple[int, int]


# ----------------------------------------------------------------- file handles


class _Handles:
    """Open files, least recently used first; one lock for the cache and for every read through it.

    An open file costs 0.6 MB inside HDF5 whatever it holds, an opening about 0.3 ms. The limit is the number of parts a product has at most.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.lock = threading.RLock()
        self._open: OrderedDict[str, tuple[tuple[int, ...], Any]] = OrderedDict()

    @contextmanager
    def reading(self, path: str, identity: Identity | None = None) -> Iterator[Any]:
        """Give the open file, for as long as the lock is held."""
        with self.lock:
            yield self._get(path, identity)

    def _get(self, path: str, identity: Identity | None) -> Any:
        try:
            stat = os.stat(path)
        except OSError as error:
            self._close(path)
            raise StoreError(
                f"the file cannot be read: {error.strerror}", file=path, hint="it was moved, deleted or replaced: open it again"
            ) from error
        if identity is not None and (stat.st_size, stat.st_mtime_ns) != identity:
            self._close(path)
            raise StoreError("the file was replaced after it was opened", file=path, hint="open it again")
        now = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        known = self._open.get(path)
        if known is not None and known[0] == now:
            self._open.move_to_end(path)
            return known[1]
        self._close(path)
        if not os.path.isfile(path):
            raise StoreError("not a file", file=path, expected="a published .nxs, or a part of a growing store")
        import h5py
        import hdf5plugin  # noqa: F401 (registers the compression filters)

        try:
            file = h5py.File(path, "r", driver="stdio", locking=False)
        except OSError as error:
            size = os.path.getsize(path)
            raise StoreError(
                "not a readable HDF5 file" if size else "the file is empty",
                file=path,
                found=f"{size} bytes: {str(error)[:160]}",
                expected="a published .nxs, or a part of a growing store",
                hint="half-written or another program's? copy it again, or publish it again: operando build",
            ) from error
        self._open[path] = (now, file)
        while len(self._open) > self.limit:
            self._close(next(iter(self._open)))
        return file

    def _close(self, path: str) -> None:
        known = self._open.pop(path, None)
        if known is not None:
            known[1].close()

    def close(self, path: str | os.PathLike[str] | None = None) -> None:
        """Close one file, or all."""
        with self.lock:
            for name in [os.fspath(path)] if path is not None else list(self._open):
                self._close(name)

    def before_fork(self) -> None:
        self.lock.acquire()
        self.close()

    def after_fork_in_child(self) -> None:
        self.lock = threading.RLock()


_handles = _Handles()
atexit.register(_handles.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_handles.before_fork, after_in_parent=lambda: _handles.lock.release(), after_in_child=_handles.after_fork_in_child)

reading = _handles.reading
"""`with reading(path) as file:` a cached h5py file, open for reading; no other thread reads meanwhile."""

close_files = _handles.close
"""`close_files(path)` closes one cached handle, `close_files()` all of them."""


def identity_of(path: str | os.PathLike[str]) -> Identity:
    """Give (size, modification time in ns): what tells that an immutable file was replaced."""
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns


# ----------------------------------------------------------------- lazy arrays


class LazyArray(BackendArray):
    """An array that is read when indexed; subclasses give `shape`, `dtype` and `read`."""

    __slots__ = ("dtype", "shape")
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, key: Key) -> np.ndarray:
        """Read an outer selection: per axis an int, a slice with positive step, or sorted indices."""
        raise NotImplementedError

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        # xarray fails on an empty slice with a negative step
        plain = tuple(slice(0, 0) if isinstance(k, slice) and not range(*k.indices(n)) else k for k, n in zip(key.tuple, self.shape, strict=True))
        return indexing.explicit_indexing_adapter(type(key)(plain), self.shape, indexing.IndexingSupport.OUTER, self.read)

    def __getstate__(self) -> dict[str, Any]:
        slots = (name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ()))
        return {name: getattr(self, name) for name in slots if hasattr(self, name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class HDF5Array(LazyArray):
    """One dataset of a file.

    Parameters
    ----------
    path, dataset
        File and name of the dataset in it.
    shape, dtype
        Of the array as given out; None to look into the file.
    kind
        How values are decoded: `plain`, `bool` (from int8), `time` (int64 nanoseconds since 1970), `str`.
        None to tell from the dataset's type and attributes.
    identity
        (size, modification time) the file must still have, for files that never change.

    Raises
    ------
    StoreError
        The file or the dataset cannot be read, or is of a type that is no array of numbers or text.
    """

    __slots__ = ("dataset", "identity", "kind", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        dataset: str,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
        kind: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.path, self.dataset, self.identity = os.fspath(path), dataset, identity
        if shape is None or dtype is None or kind is None:
            with reading(self.path, identity) as file:
                h5 = _dataset(file, dataset, self.path)
                if h5.shape is None:
                    raise StoreError(f"dataset {dataset!r} is empty (it has no dataspace)", file=self.path)
                found_kind, found_dtype = decoding(h5, self.path)
                shape, kind, dtype = h5.shape, kind or found_kind, found_dtype if dtype is None else dtype
        self.shape, self.dtype, self.kind = tuple(shape), np.dtype(dtype), kind

    def read(self, key: Key) -> np.ndarray:
        """Read and decode the selection."""
        with reading(self.path, self.identity) as file:
            h5 = _dataset(file, self.dataset, self.path)
            if h5.ndim != len(self.shape) or any(now < then for now, then in zip(h5.shape, self.shape, strict=True)):
                raise StoreError(
                    f"dataset {self.dataset!r} shrank after it was opened", file=self.path, found=h5.shape, expected=self.shape, hint="open it again"
                )
            try:
                raw = _read_outer(h5, key, self.shape)
            except OSError as error:
                raise StoreError(f"dataset {self.dataset!r} cannot be read: {error}", file=self.path) from error
        return _decode(raw, self.kind, self.dtype)


class ComplexArray(LazyArray):
    """A complex array kept as two real ones."""

    __slots__ = ("imag", "real")

    def __init__(self, real: LazyArray, imag: LazyArray) -> None:
        if real.shape != imag.shape:
            raise StoreError("real and imaginary part differ in shape", found=f"{real.shape} and {imag.shape}")
        self.real, self.imag, self.shape = real, imag, real.shape
        self.dtype = np.result_type(real.dtype, imag.dtype, np.complex64)

    def read(self, key: Key) -> np.ndarray:
        """Read both parts."""
        real = np.asarray(self.real.read(key))
        out = np.empty(real.shape, self.dtype)
        out.real, out.imag = real, self.imag.read(key)
        return out


class ConstantArray(LazyArray):
    """One value everywhere, such as the fill of what a part does not have."""

    __slots__ = ("value",)

    def __init__(self, shape: tuple[int, ...], value: Any, dtype: Any = None) -> None:
        self.shape, self.value = tuple(shape), value
        self.dtype = np.dtype(dtype) if dtype is not None else np.asarray(value).dtype

    def read(self, key: Key) -> np.ndarray:
        """Fill the selection."""
        out = np.empty(_selected(key, self.shape), self.dtype)
        out[...] = self.value
        return out


class MemoryArray(LazyArray):
    """An array that is in memory already, as a piece among lazy ones."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def read(self, key: Key) -> np.ndarray:
        """Cut the selection out."""
        return np.asarray(_outer(self.values, key))


class LazyConcat(LazyArray):
    """Pieces of arrays laid one after the other along their first axis.

    Parameters
    ----------
    pieces
        (array, slice) pairs; the slice (step 1) picks rows of the array. Neighbouring slices of one array become one.
    dtype
        Of the whole; by default what all pieces can be promoted to.

    Raises
    ------
    StoreError
        No piece, or pieces that differ beyond their first axis.
    """

    __slots__ = ("_arrays", "_ends", "_starts")

    def __init__(self, pieces: Sequence[tuple[LazyArray, slice]], dtype: Any = None) -> None:
        if not pieces:
            raise StoreError("nothing to concatenate")
        arrays: list[LazyArray] = []
        starts: list[int] = []
        lengths: list[int] = []
        tail = pieces[0][0].shape[1:]
        for array, rows in pieces:
            if array.shape[1:] != tail:
                raise StoreError("pieces of different shape cannot follow each other", found=array.shape[1:], expected=tail)
            start, stop, step = rows.indices(array.shape[0])
            if step != 1:
                raise StoreError("a piece is a plain range of rows", found=rows)
            if arrays and arrays[-1] is array and starts[-1] + lengths[-1] == start:
                lengths[-1] += max(stop - start, 0)
            else:
                arrays.append(array)
                starts.append(start)
                lengths.append(max(stop - start, 0))
        self._arrays: Any = arrays
        self._starts = np.asarray(starts, np.int64)
        self._ends = np.cumsum(lengths)
        self.shape = (int(self._ends[-1]), *tail)
        self.dtype = np.dtype(dtype) if dtype is not None else _common_dtype([a.dtype for a in arrays])

    @classmethod
    def of(cls, arrays: Any, starts: np.ndarray, ends: np.ndarray, tail: tuple[int, ...], dtype: Any) -> LazyConcat:
        """Make one of pieces that are known to fit: `arrays[i]` from row `starts[i]` on, up to row `ends[i]` of the whole.

        `arrays` is any sequence, so that many variables can share the pieces and make their arrays when they are read.
        """
        made = cls.__new__(cls)
        made._arrays, made._starts, made._ends = arrays, starts, ends
        made.shape, made.dtype = (int(ends[-1]), *tail), np.dtype(dtype)
        return made

    def read(self, key: Key) -> np.ndarray:
        """Read from each piece what it has of the selection."""
        rows, rest = key[0], key[1:]
        if isinstance(rows, int | np.integer):
            i = int(np.searchsorted(self._ends, rows, side="right"))
            begin = self._ends[i - 1] if i else 0
            return np.asarray(self._arrays[i].read((int(rows - begin + self._starts[i]), *rest))).astype(self.dtype, copy=False)
        out = np.empty(_selected(key, self.shape), self.dtype)
        if isinstance(rows, slice):
            first, stop, step = rows.indices(self.shape[0])
            count = len(range(first, stop, step))
            if not count:
                return out
            last = first + (count - 1) * step
        else:
            if not len(rows):
                return out
            first, last = int(rows[0]), int(rows[-1])
        low, high = np.searchsorted(self._ends, [first, last], side="right")
        for i in range(int(low), int(high) + 1):
            begin, end = int(self._ends[i - 1]) if i else 0, int(self._ends[i])
            shift = int(self._starts[i]) - begin
            inner: Any
            if isinstance(rows, slice):
                a = max(0, -(-(begin - first) // step))  # first selected row inside this piece
                b = min(count, -(-(end - first) // step))
                inner = slice(first + a * step + shift, first + (b - 1) * step + 1 + shift, step)
            else:
                a, b = np.searchsorted(rows, [begin, end], side="left")
                inner = rows[a:b] + shift
            if b > a:
                out[a:b] = self._arrays[i].read((inner, *rest))
        return out


# ----------------------------------------------------------------- variables


def variable(array: LazyArray, dims: Sequence[Hashable] | str, attrs: Mapping[str, Any] | None = None) -> xr.Variable:
    """Wrap a lazy array as an xarray variable; assigning into it copies it to memory and never touches the file."""
    wrapped: Any = indexing.LazilyIndexedArray(array)
    return xr.Variable(dims, indexing.CopyOnWriteArray(wrapped), dict(attrs or {}))


def lazy_variable(
    path: str | os.PathLike[str], dataset_name: str, dims: Sequence[Hashable] | str, attrs: Mapping[str, Any] | None = None
) -> xr.Variable:
    """Give a dataset of an HDF5 file as a variable whose values are read when they are needed.

    The file is opened only while it is looked at or read, and never locked. Integers and floats keep their type in the
    machine's byte order (float16 becomes float32); text becomes `str` objects; int8 with the attribute `dtype = bool`
    becomes bool; int64 with the store's time units becomes datetime64[ns]. External links and virtual datasets are followed.

    Parameters
    ----------
    path
        The HDF5 file.
    dataset_name
        Path of the dataset inside it.
    dims
        One name per axis.
    attrs
        Attributes of the variable; None takes the dataset's own numbers and text.

    Raises
    ------
    StoreError
        No such file or dataset, or dims that do not fit.
    """
    array = HDF5Array(path, dataset_name)
    if len([dims] if isinstance(dims, str) else dims) != len(array.shape):
        raise StoreError(f"dataset {dataset_name!r} does not have the dims {dims}", file=path, found=f"shape {array.shape}")
    if attrs is None:
        with reading(os.fspath(path)) as file:
            attrs = plain_attrs(file[dataset_name])
        coded = {"time": ("units", "calendar"), "bool": ("dtype",)}.get(array.kind, ())
        attrs = {k: v for k, v in attrs.items() if k not in coded}
    return variable(array, dims, attrs)


def plain_attrs(h5: Any) -> dict[str, Any]:
    """Read the attributes of a dataset or group that are numbers or text, as Python numbers, str and lists."""
    out: dict[str, Any] = {}
    for name in h5.attrs:
        if name in _STRUCTURE:
            continue
        try:
            value = h5.attrs[name]
        except (OSError, TypeError, ValueError, KeyError):
            continue  # a type h5py cannot read
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, np.ndarray | np.generic):
            if value.dtype.kind not in "biufcSUO":
                continue
            value = value.tolist()
            if isinstance(value, list):
                value = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
            elif isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
        elif not isinstance(value, str | int | float | complex):
            continue
        out[name] = value
    return out


# ----------------------------------------------------------------- reading


class _Indexable(Protocol):
    def __getitem__(self, key: Any) -> Any: ...


def _dataset(file: Any, name: str, path: str) -> Any:
    import h5py

    try:
        h5 = file[name]
    except (KeyError, ValueError, OSError) as error:
        raise StoreError(f"no dataset {name!r} (a link may lead nowhere)", file=path) from error
    if not isinstance(h5, h5py.Dataset):
        raise StoreError(f"{name!r} is a group, not a dataset", file=path)
    return h5


def decoding(h5: Any, path: str) -> tuple[str, np.dtype[Any]]:
    """Tell how a dataset is decoded and the type it then has.

    Raises
    ------
    StoreError
        It is neither numbers nor text.
    """
    import h5py

    dtype = h5.dtype
    if h5py.check_string_dtype(dtype) is not None:
        return "str", np.dtype(object)
    if dtype.kind == "i" and dtype.itemsize == 1 and h5.attrs.get("dtype") in ("bool", b"bool"):
        return "bool", np.dtype(bool)
    if dtype.kind == "i" and dtype.itemsize == 8 and h5.attrs.get("units") in (EPOCH_UNITS, EPOCH_UNITS.encode()):
        return "time", np.dtype("datetime64[ns]")
    if dtype.kind == "f" and dtype.itemsize == 2:
        return "plain", np.dtype(np.float32)
    if dtype.kind in "biufc":
        return "plain", dtype.newbyteorder("=")
    raise StoreError(f"dataset {h5.name!r} is neither numbers nor text", file=path, found=dtype)


def _decode(raw: Any, kind: str, dtype: np.dtype[Any]) -> np.ndarray:
    if kind == "str":
        raw = np.asarray(raw, dtype=object)
        known: dict[Any, str] = {}  # most rows share their text (the file they came from): one object for all of them
        out = np.empty(raw.size, object)
        for i, value in enumerate(raw.ravel()):
            text = known.get(value)
            if text is None:
                text = known[value] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            out[i] = text
        return out.reshape(raw.shape)
    if kind == "time":
        return np.asarray(raw, np.int64).view("datetime64[ns]")
    return np.asarray(raw).astype(dtype, copy=False)


def _read_outer(h5: Any, key: Key, shape: tuple[int, ...]) -> Any:
    """Read an outer selection. HDF5 is quick at regular ranges and slow at lists of points, so lists become ranges.

    Indices along the first axis are read in runs of neighbouring chunks, each chunk once; lists along other axes are cut
    out of their bounding range in memory.
    """
    if not key:
        return h5[()]
    key = tuple(_as_slice(k, n) for k, n in zip(key, shape, strict=True))
    if any(not isinstance(k, int) and n == 0 for k, n in zip(key, _lengths(key, shape), strict=True)):
        return np.empty(_selected(key, shape), h5.dtype)
    bounded = tuple(k if isinstance(k, int | slice) else slice(int(k[0]), int(k[-1]) + 1) for k in key)
    later = tuple(slice(None) if isinstance(k, slice) else k - int(k[0]) for k in key[1:] if not isinstance(k, int))
    if isinstance(key[0], int | slice):
        raw = h5[bounded]
        whole = () if isinstance(key[0], int) else (slice(None),)
        return _outer(raw, (*whole, *later)) if any(not isinstance(k, slice) for k in later) else raw
    rows = key[0]
    out = np.empty(_selected(key, shape), h5.dtype)
    chunk = h5.chunks[0] if h5.chunks else 1
    breaks = np.flatnonzero(np.diff(rows // chunk) > 1) + 1
    for run in np.split(np.arange(len(rows)), breaks):
        for a in range(0, len(run), step := max(chunk, 64)):
            part = run[a : a + step]
            low, high = int(rows[part[0]]), int(rows[part[-1]]) + 1
            out[part[0] : part[-1] + 1] = _outer(h5[(slice(low, high), *bounded[1:])], (rows[part] - low, *later))
    return out


def _as_slice(k: Any, n: int) -> Any:
    """Make sorted indices with a constant step a slice, numpy integers Python's; slices end where the array did when it was opened."""
    if isinstance(k, int | np.integer):
        return int(k)
    if isinstance(k, slice):
        return slice(*k.indices(n))
    k = np.asarray(k)
    if k.size == 0:
        return slice(0, 0)
    if k.size == 1:
        return slice(int(k[0]), int(k[0]) + 1)
    step = int(k[1] - k[0])
    if step > 0 and (np.diff(k) == step).all():
        return slice(int(k[0]), int(k[-1]) + 1, step)
    return k


def _outer(values: _Indexable, key: Key) -> Any:
    """Index per axis, independently; axes with an int vanish."""
    axis = 0
    for k in key:
        if isinstance(k, slice) and k == slice(None):
            axis += 1
            continue
        values = values[(slice(None),) * axis + (k,)]
        axis += not isinstance(k, int | np.integer)
    return values


def _lengths(key: Key, shape: tuple[int, ...]) -> list[int]:
    return [
        1 if isinstance(k, int | np.integer) else len(range(*k.indices(n))) if isinstance(k, slice) else len(k)
        for k, n in zip(key, shape, strict=True)
    ]


def _selected(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    lengths = _lengths(key, shape)
    return tuple(n for n, k in zip(lengths, key, strict=True) if not isinstance(k, int | np.integer))


def _common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    kinds = {d.kind for d in dtypes}
    if len(set(dtypes)) == 1:
        return dtypes[0]
    if "O" in kinds or "M" in kinds and len(kinds) > 1:
        return np.dtype(object)
    return np.result_type(*dtypes)
