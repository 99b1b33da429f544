"""Parts laid one after the other as one lazy dataset; nothing but `time` and what differs between parts is read.

Where parts differ: attributes are those of the first part that has the variable; a variable that some parts lack is NaN there (NaT, empty
text, False; integers become float64); a scalar that differs becomes one value per row; a dim without a coordinate (the points of
impedance sweeps) is padded to the longest. An axis that differs is refused: it belongs in another product.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import StoreError
from operando.hdf5 import ComplexArray, ConstantArray, HDF5Array, Identity, LazyArray, LazyConcat, reading, variable
from operando.store.encoding import Layout, Stored, fill_of
from operando.store.manifest import Part

LAYOUT = "__layout__"
"""Dataset in a part that holds its layout as JSON."""


class OpenPart:
    """A part whose layout is known."""

    def __init__(self, directory: Path, part: Part) -> None:
        self.file = os.fspath(directory / part.path)
        self.name = part.path
        try:
            stat = os.stat(self.file)
        except OSError as error:
            raise StoreError(
                f"a part of the store is missing: {error.strerror}", file=self.file, hint="restore it; its frames are in no other file"
            ) from error
        if stat.st_size != part.size:
            raise StoreError("a part of the store is damaged", file=self.file, found=f"{stat.st_size} bytes", expected=f"{part.size} bytes")
        self.identity: Identity = (stat.st_size, stat.st_mtime_ns)
        with reading(self.file, self.identity) as h5:
            try:
                text = h5[LAYOUT][()]
            except (KeyError, OSError) as error:
                raise StoreError("a part of the store is damaged: it has no layout", file=self.file) from error
        self.layout = Layout.from_json(text.decode() if isinstance(text, bytes) else text)
        self.rows = part.stored_rows
        self._arrays: dict[str, LazyArray] = {}

    def array(self, name: str) -> LazyArray:
        """Give a variable of this part; always the same object, so that neighbouring slices can join."""
        if name not in self._arrays:
            stored = self.layout.variables[name]
            shape = tuple(self.rows if d == self.layout.rows_dim else self.layout.sizes[d] for d in stored.dims)
            self._arrays[name] = stored_array(self.file, name, shape, stored.kind, stored.dtype, self.identity)
        return self._arrays[name]


def stored_array(file: str, dataset: str, shape: tuple[int, ...], kind: str, dtype: str, identity: Identity | None) -> LazyArray:
    """Give a stored variable as a lazy array."""
    if kind == "complex":
        half = np.float32 if dtype == "complex64" else np.float64
        return ComplexArray(*(HDF5Array(file, f"{dataset}_{part}", shape, half, "plain", identity) for part in ("real", "imag")))
    return HDF5Array(file, dataset, shape, dtype, kind, identity)


@dataclass(frozen=True)
class Piece:
    """Rows [a, b) of a part; of no part where nothing is known of them, and then counted in what stands in for it."""

    part: OpenPart | None
    a: int
    b: int


class _Column:
    """One variable in each of many pieces; its arrays are made when they are read."""

    __slots__ = ("name", "pieces")

    def __init__(self, pieces: Sequence[Piece], name: str) -> None:
        self.pieces, self.name = pieces, name

    def __getitem__(self, i: int) -> LazyArray:
        part = self.pieces[i].part
        assert part is not None
        return part.array(self.name)


class PaddedArray(LazyArray):
    """An array made longer along its later dims with a fill."""

    __slots__ = ("array", "fill")

    def __init__(self, array: LazyArray, shape: tuple[int, ...], fill: Any, dtype: np.dtype[Any]) -> None:
        self.array, self.shape, self.fill, self.dtype = array, shape, fill, dtype

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read the whole rows and cut the selection out of the padded ones."""
        rows = slice(int(key[0]), int(key[0]) + 1) if isinstance(key[0], int | np.integer) else key[0]
        values = self.array.read((rows, *(slice(0, n, 1) for n in self.array.shape[1:])))
        out = np.full((len(values), *self.shape[1:]), self.fill, self.dtype)
        out[(slice(None), *(slice(0, n) for n in self.array.shape[1:]))] = values
        axis = 1
        for k in key[1:]:
            out = out[(slice(None),) * axis + (k,)]
            axis += not isinstance(k, int | np.integer)
        return out[0] if isinstance(key[0], int | np.integer) else out


@dataclass
class Combined:
    """A product as lazy arrays: name -> (array, how it is stored)."""

    arrays: dict[str, tuple[LazyArray, Stored]]
    attrs: dict[str, Any]
    rows_dim: str
    rows: int

    def dataset(self) -> xr.Dataset:
        """Give it as an xarray dataset; its index is read."""
        made = {name: variable(array, stored.dims, stored.attrs) for name, (array, stored) in self.arrays.items()}
        return xr.Dataset(
            {n: v for n, v in made.items() if not self.arrays[n][1].coord},
            {n: v for n, v in made.items() if self.arrays[n][1].coord},
            dict(self.attrs),
        )


def merge_neighbours(pieces: Sequence[Piece]) -> list[Piece]:
    """Join pieces that follow each other in one part."""
    out: list[Piece] = []
    for piece in pieces:
        if piece.b <= piece.a and out:
            continue
        if out and out[-1].part is piece.part and out[-1].b == piece.a:
            out[-1] = replace(out[-1], b=out[-1].b + piece.b - piece.a)
        else:
            out.append(piece)
    return out


def combine(pieces: Sequence[Piece], fills: Mapping[str, Any] | None = None, stand_in: Combined | None = None) -> Combined:
    """Lay pieces of parts one after the other.

    Parameters
    ----------
    pieces
        In order; at least one of a part.
    fills
        Values for rows of no part in integer variables, which otherwise become float64 with NaN there.
    stand_in
        Gives rows of no part in variables that it has in the same form.

    Raises
    ------
    StoreError
        Parts that cannot follow each other; the message names the two.
    """
    pieces = merge_neighbours(pieces)
    parts = list({id(p.part): p.part for p in pieces if p.part is not None}.values())
    first = parts[0].layout
    uniform = all(part.layout is first for part in parts)
    for part in parts:
        if part.layout.rows_dim != first.rows_dim:
            raise StoreError("parts of one product have different dims", file=part.file, found=part.layout.rows_dim, expected=first.rows_dim)
    rows = sum(p.b - p.a for p in pieces)
    sizes = first.sizes if uniform else _sizes(parts)
    names = list(dict.fromkeys(name for part in (parts[:1] if uniform else parts) for name in part.layout.variables))
    whole = len(pieces) == 1 and pieces[0].part is not None and (pieces[0].a, pieces[0].b) == (0, pieces[0].part.rows)
    plain = uniform and all(p.part is not None for p in pieces)
    starts, ends = np.array([p.a for p in pieces]), np.cumsum([p.b - p.a for p in pieces])
    arrays: dict[str, tuple[LazyArray, Stored]] = {}
    for name in names:
        stored = first.variables.get(name)
        if uniform and whole or (uniform and stored is not None and stored.digest):
            assert stored is not None
            arrays[name] = (parts[0].array(name), stored)
        elif plain and stored is not None:
            tail = tuple(sizes[d] for d in stored.dims[1:])
            arrays[name] = (LazyConcat.of(_Column(pieces, name), starts, ends, tail, stored.dtype), stored)
        else:
            arrays[name] = _one(name, pieces, parts, sizes, first.rows_dim, fills or {}, stand_in)
    return Combined(arrays, dict(first.attrs), first.rows_dim, rows)


def _sizes(parts: Sequence[OpenPart]) -> dict[str, int]:
    out: dict[str, int] = {}
    for part in parts:
        for dim, n in part.layout.sizes.items():
            out[dim] = max(out.get(dim, 0), n)
    return out


def _one(
    name: str,
    pieces: Sequence[Piece],
    parts: Sequence[OpenPart],
    sizes: Mapping[str, int],
    rows_dim: str,
    fills: Mapping[str, Any],
    stand_in: Combined | None,
) -> tuple[LazyArray, Stored]:
    """Lay one variable's pieces together."""
    having = [part for part in parts if name in part.layout.variables]
    stored = having[0].layout.variables[name]
    every = [part.layout.variables[name] for part in having]
    moving = [s for s in every if rows_dim in s.dims]
    if not moving:
        if len({s.digest for s in every}) == 1:
            return having[0].array(name), stored
        if any(s.dims for s in every):
            return _longest(name, having), stored
    dims = moving[0].dims if moving else (rows_dim,)
    kind, dtype = _common_type(name, having, every)
    fill, filled = fill_of(kind, dtype)
    shape = tuple(sizes[d] for d in dims[1:])
    made: dict[int, LazyArray] = {}
    padded = False
    for part in having:
        s = part.layout.variables[name]
        if rows_dim not in s.dims:
            if s.dims or len(dims) > 1:
                raise StoreError(f"{name!r} lies along {s.dims} in one part and along {dims} in another", file=part.file)
            made[id(part)] = ConstantArray((part.rows,), np.asarray(part.array(name).read(()))[()], s.dtype if s.kind != "time" else "M8[ns]")
            continue
        if s.dims != dims:
            raise StoreError(f"{name!r} lies along {s.dims} in one part and along {dims} in another", file=part.file)
        array = part.array(name)
        if array.shape[1:] != shape:
            padded = True
            array = PaddedArray(array, (part.rows, *shape), fill, filled)
        made[id(part)] = array
    out_dtype = np.dtype(dtype)
    other = stand_in.arrays[name] if stand_in is not None and name in stand_in.arrays else None
    instead = other[0] if other is not None and other[1].dims == dims and other[1].kind == kind and other[0].shape[1:] == shape else None
    gaps = instead is None and any(p.part is None for p in pieces)
    if (len(having) < len(parts) or gaps) and out_dtype.kind in "iu" and name in fills and not padded:
        fill = fills[name]
    elif len(having) < len(parts) or gaps or padded:
        out_dtype = filled
    run: list[tuple[LazyArray, slice]] = []
    for piece in pieces:
        known = made.get(id(piece.part)) if piece.part is not None else instead
        n = piece.b - piece.a
        run.append((known, slice(piece.a, piece.b)) if known is not None else (ConstantArray((n, *shape), fill, out_dtype), slice(0, n)))
    return LazyConcat(run, out_dtype), replace(stored, dims=dims, kind=kind, dtype=str(out_dtype), digest="")


def _longest(name: str, having: Sequence[OpenPart]) -> LazyArray:
    """Give the longest of several versions of an index that continue one another; other axes must be equal."""
    longest = max(having, key=lambda part: part.array(name).shape[0])
    for part in having:
        stored, values, whole = part.layout.variables[name], _values(part, name), _values(longest, name)
        if stored.dims != (name,) or not np.array_equal(values, whole[: len(values)]):
            raise StoreError(
                f"{name!r} differs between parts of one product",
                file=part.file,
                found=f"shape {values.shape}",
                expected=f"as in {longest.name}",
                hint="another axis is another product",
            )
    return longest.array(name)


def _values(part: OpenPart, name: str) -> np.ndarray:
    array = part.array(name)
    return array.read(tuple(slice(0, n, 1) for n in array.shape))


def _common_type(name: str, having: Sequence[OpenPart], every: Sequence[Stored]) -> tuple[str, str]:
    kinds = {s.kind for s in every}
    if len(kinds) == 1 and len({s.dtype for s in every}) == 1:
        return every[0].kind, every[0].dtype
    if kinds & {"str", "time"} and len(kinds) > 1:
        raise StoreError(f"{name!r} is of different kinds in parts of one product", file=having[-1].file, found=", ".join(sorted(kinds)))
    dtype = np.result_type(*(np.dtype(s.dtype) for s in every))
    return ("complex" if dtype.kind == "c" else "bool" if dtype.kind == "b" else "plain"), dtype.name
