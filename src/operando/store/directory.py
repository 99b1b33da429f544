"""The growing store: a directory of immutable parts that a manifest accounts for."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract import AlignmentFlag, StoreError
from operando.hdf5 import MemoryArray
from operando.store.combine import Combined, OpenPart, Piece, combine
from operando.store.encoding import Stored
from operando.store.manifest import Address, Manifest, Part, nanoseconds, natural

if TYPE_CHECKING:
    from operando.store.writing import Writer

HIDDEN = frozenset({"skipped"})
"""Products that are bookkeeping: neither opened nor published."""

RAW = ("images", "frames")
"""Products that loaders give; a series' raw product is the first of them that it has."""

OWN_ROWS = "own"
"""In an input's `stretch`, instead of a stretch of the raw rows: these rows are the product's own and follow no frame."""

_FROM_ALIGNMENT = ("timezone", "clock", "interpolation", "max_gap_s")
_UNKNOWN = {"flags": int(AlignmentFlag.UNALIGNED), "cycle": -1, "half_cycle": -1, "step": -1, "direction": 0}
"""What the alignment says of frames that it does not know yet."""


@dataclass(frozen=True)
class Slice:
    """Rows [a, b) of a part that came from one file, and what tells them from all other rows.

    `digest` names a stretch of the series' raw rows; these are its rows from `first` on.
    """

    part: Part
    a: int
    b: int
    t0: int
    file: str
    digest: str | None
    first: int = 0


class Store:
    """A growing store, `<name>.operando/`.

    Parameters
    ----------
    path
        The directory; it need not exist before the first writing.

    Examples
    --------
    >>> with Store("june.operando").writing() as writer:                       # doctest: +SKIP
    ...     writer.write("A", "xrd", "frames", ds, key=key, inputs=inputs)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._manifest = Manifest(self.path)
        self._opened: dict[str, OpenPart] = {}

    def __repr__(self) -> str:
        return f"Store({os.fspath(self.path)!r})"

    @property
    def manifest(self) -> Manifest:
        """What was acknowledged up to now.

        Raises
        ------
        StoreError
            No store, or a damaged manifest.
        """
        return self._manifest.refresh()

    def writing(self, *, keep_replaced: float = 300.0) -> Writer:
        """Become the store's one writer: `with store.writing() as writer:`.

        Parameters
        ----------
        keep_replaced
            Seconds a replaced part stays on the disk for those who are still reading it.

        Raises
        ------
        StoreError
            Another process is writing (the message names its host and pid), or the directory cannot be written.
        """
        from operando.store.writing import Writer

        return Writer(self, keep_replaced=keep_replaced)

    # ------------------------------------------------------------- what there is

    def products(self) -> list[Address]:
        """List (cell, series, product) of everything that has parts."""
        return self.manifest.addresses()

    def parts(self, cell: str | None = None, series: str | None = None, product: str | None = None) -> list[Part]:
        """List parts: of one product, or of everything that fits what is given."""
        manifest = self.manifest
        if cell is not None and series is not None and product is not None:
            return manifest.of((cell, series, product))
        wanted = (cell, series, product)
        fitting = [a for a in manifest.addresses() if all(w is None or w == x for w, x in zip(wanted, a, strict=True))]
        return [part for address in fitting for part in manifest.of(address)]

    def quarantined(self) -> list[dict[str, Any]]:
        """List the files that could not be read: dicts `file`, `source`, `reason`, and what else the writer noted."""
        return list(self.manifest.quarantined.values())

    def results(self) -> list[dict[str, Any]]:
        """List the results that were recorded."""
        return list(self.manifest.results)

    def completed(self) -> dict[str, Any] | None:
        """Give what the last publication recorded; None if there was none."""
        return self.manifest.completed

    def inputs(self, cell: str, series: str, product: str) -> list[dict[str, Any]]:
        """List the inputs of a product in the order of `read`, their `rows` counted through the whole product.

        `stretch` ([digest, first]) says of which raw rows of the series they were made: rows `first` and on of the raw input of that digest.
        """
        out: list[dict[str, Any]] = []
        row = 0
        entries: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
        for piece in self._slices((cell, series, product)):
            if piece.part.path not in entries:
                entries[piece.part.path] = {(*e["rows"], e.get("file", "")): e for e in reversed(piece.part.inputs)}
            entry = entries[piece.part.path].get((piece.a, piece.b, piece.file), {})
            out.append({**entry, "rows": [row, row + piece.b - piece.a], "stretch": [piece.digest, piece.first]})
            row += piece.b - piece.a
        return out

    def raw(self, cell: str, series: str) -> str:
        """Name the product of a series that its loader gave: `images` or `frames`; frames that follow images are none of its."""
        if self.manifest.of((cell, series, "images")):
            return "images"
        frames = self.manifest.of((cell, series, "frames"))
        return "images" if frames and any("stretch" in entry for entry in frames[0].inputs) else "frames"

    # ------------------------------------------------------------- reading

    def read(self, cell: str, series: str, product: str) -> xr.Dataset:
        """Give a product as it was written, all its parts in the order of time, lazily.

        Raises
        ------
        StoreError
            No such product, or a part that is missing or damaged.
        """
        return self._read((cell, series, product)).dataset()

    def read_joined(self, cell: str, series: str, product: str) -> xr.Dataset:
        """Give a product with its series' alignment: the corrected `time` as index, everything else as coordinates.

        Rows join by the file they came from, not by their number: frames that arrived after the alignment was made are UNALIGNED
        (`flags`), their voltage is NaN, their cycle -1, and their time is corrected as the nearest aligned frame's was. Where the product has a
        coordinate of the same name the alignment's is taken; where it has a data variable of that name, its own is kept, except
        for electrochemistry, whose continuous charge and counted cycles replace the instrument's.

        Raises
        ------
        StoreError
            No such product, or a part that is missing or damaged.
        """
        address = (cell, series, product)
        own = self._read(address)
        if own.rows_dim != "time" or product == "alignment":
            return own.dataset()
        pieces = self._aligned_pieces(address, own.rows)
        if pieces is None:
            if product == "frames" and "flags" not in own.arrays:
                own.arrays["flags"] = _all_unaligned(own.rows)
            return own.dataset()
        aligned = np.repeat([p.part is not None for p in pieces], [p.b - p.a for p in pieces])
        _join(own, combine(pieces, _UNKNOWN, own), aligned)
        return own.dataset()

    def _open(self, part: Part) -> OpenPart:
        known = self._opened.get(part.path)
        if known is None or known.rows != part.stored_rows or not os.path.exists(known.file):
            known = self._opened[part.path] = OpenPart(self.path, part)
        return known

    def _read(self, address: Address) -> Combined:
        slices = self._slices(address)
        if not slices:
            there = ", ".join("/".join(a) for a in self._manifest.addresses()) or "nothing yet"
            raise StoreError(f"no product {'/'.join(address)}", file=self.path, found=there)
        return combine([Piece(self._open(s.part), s.a, s.b) for s in slices])

    def _slices(self, address: Address) -> list[Slice]:
        """Cut the parts of a product into what came from one file each, in the order of time."""
        parts = self.manifest.of(address)
        if any(part.follows is not None or any("stretch" in entry for entry in part.inputs) for part in parts):
            return self._following(address, parts)
        slices = [s for part in parts for s in _slices_of(part)]
        slices.sort(key=lambda s: s.t0)
        ordered: list[Slice] = []
        for _, same in itertools.groupby(slices, key=lambda s: s.t0):
            group = list(same)
            ordered += sorted(group, key=lambda s: (natural(s.file), s.part.path, s.a)) if len(group) > 1 else group
        return _told_apart(ordered)

    def _following(self, address: Address, parts: Sequence[Part]) -> list[Slice]:
        """Order parts whose rows follow the raw rows as those are ordered now."""
        slices = _told_apart([s for part in parts for s in _slices_of(part)])
        raw = self.raw(address[0], address[1])
        position = {s.digest: i for i, s in enumerate(self._slices((address[0], address[1], raw)) if address[2] != raw else [])}
        return sorted(slices, key=lambda s: (position.get(s.digest, len(position)), s.first))

    def _aligned_pieces(self, address: Address, rows: int) -> list[Piece] | None:
        """Find for each row of a product its row of the alignment; None if there is no way to tell."""
        own, alignment = self._slices(address), self._slices((address[0], address[1], "alignment"))
        if not alignment:
            return None
        if all(s.digest for s in own) and all(s.digest for s in alignment):
            known = {s.digest: s for s in alignment}
            pieces, row = [], 0
            for s in own:
                found = known.get(s.digest)
                a = found.a + s.first if found else 0
                pieces.append(Piece(self._open(found.part), a, a + s.b - s.a) if found else Piece(None, row, row + s.b - s.a))
                row += s.b - s.a
        else:
            pieces = [Piece(self._open(s.part), s.a, s.b) for s in alignment]
            there = sum(p.b - p.a for p in pieces)
            if there > rows:
                return None
            pieces += [Piece(None, there, rows)] if there < rows else []
        return pieces if any(p.part is not None for p in pieces) else None

    def follows(self, cell: str, series: str) -> list[list[Any]]:
        """Give [digest, rows] of each stretch of the raw rows as they are ordered now; empty if they have no inputs to tell."""
        slices = self._slices((cell, series, self.raw(cell, series)))
        return [[s.digest, s.b - s.a] for s in slices] if all(s.digest for s in slices) else []

    # ------------------------------------------------------------- publishing

    def publish(
        self,
        path: str | os.PathLike[str],
        *,
        key: str = "",
        process: Mapping[str, Any] | None = None,
        samples: Mapping[str, Mapping[str, Any]] | None = None,
        writer: Writer | None = None,
        progress: Any = None,
        date: str | None = None,
        only: Collection[tuple[str, str]] | None = None,
    ) -> Path:
        """Write everything into one self-contained NeXus file; see `operando.store.publish.publish`."""
        from operando.store.publish import publish

        return publish(self, Path(path), key=key, process=process, samples=samples, writer=writer, progress=progress, date=date, only=only)

    def is_published(self, path: str | os.PathLike[str], key: str) -> bool:
        """Say whether a file is a published store that was written under this key."""
        from operando.store.publish import published_key

        return bool(key) and published_key(Path(path)) == key


def _slices_of(part: Part) -> list[Slice]:
    if part.follows is not None:
        ends = list(itertools.accumulate(n for _, n in part.follows))
        return [Slice(part, end - n, end, nanoseconds(part.t0), "", digest) for (digest, n), end in zip(part.follows, ends, strict=True)]
    if not part.inputs or not part.t0:
        return [Slice(part, 0, part.stored_rows, nanoseconds(part.t0), "", None)]
    out = []
    for entry in part.inputs:
        a, b = entry["rows"]
        digest, first = entry.get("stretch", (None, 0))
        t0, file = nanoseconds(entry.get("t0", part.t0)), str(entry.get("file", ""))
        text = f"{file}\n{entry.get('sha256', '')}\n{t0}\n{b - a}"
        out.append(Slice(part, a, b, t0, file, digest or hashlib.sha256(text.encode()).hexdigest()[:16], first))
    return out


def _told_apart(slices: list[Slice]) -> list[Slice]:
    """Number slices that would otherwise be taken for one another."""
    seen: dict[tuple[str, int], int] = {}
    out = []
    for s in slices:
        if s.digest is not None and "." not in s.digest:
            n = seen[s.digest, s.first] = seen.get((s.digest, s.first), -1) + 1
            if n:
                s = replace(s, digest=f"{s.digest}.{n}")
        out.append(s)
    return out


def _all_unaligned(rows: int) -> tuple[Any, Stored]:
    from operando.contract import flag_attrs
    from operando.hdf5 import ConstantArray
    from operando.store.encoding import plain

    return ConstantArray((rows,), int(AlignmentFlag.UNALIGNED), np.int32), Stored(("time",), "plain", "int32", True, plain(flag_attrs(AlignmentFlag)))


def _join(own: Combined, alignment: Combined, aligned: np.ndarray) -> None:
    """Put the alignment's variables among a product's own."""
    echem = own.attrs.get("technique") == "echem" and own.attrs.get("product", "frames") == "frames"
    corrected: dict[str, MemoryArray] = {}
    for name in ("time", "source_time"):
        if name in alignment.arrays and (name == "time" or not aligned.all()) and name in own.arrays:
            rows = (slice(0, own.rows, 1),)
            corrected[name] = MemoryArray(_corrected(own.arrays[name][0].read(rows), alignment.arrays[name][0].read(rows), aligned))
    for name, (array, stored) in alignment.arrays.items():
        mine = own.arrays.get(name)
        if name != "time" and (mine is None or mine[1].coord or echem):
            own.arrays[name] = (corrected.get(name, array), replace(stored, coord=mine is None or mine[1].coord))
    own.arrays["time"] = (corrected["time"], own.arrays["time"][1])
    if "source_time" in alignment.arrays:
        own.arrays.pop("stamp", None)
    own.attrs.update({k: v for k, v in alignment.attrs.items() if k.startswith(_FROM_ALIGNMENT)})


def _corrected(written: np.ndarray, corrected: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Move the times of frames that are not aligned yet as the nearest aligned frame's were moved."""
    known, missing = np.flatnonzero(aligned), np.flatnonzero(~aligned)
    if not missing.size:
        return corrected
    after = np.clip(np.searchsorted(known, missing), 0, len(known) - 1)
    before = np.clip(after - 1, 0, None)
    near = np.where(np.abs(known[after] - missing) < np.abs(known[before] - missing), known[after], known[before])
    out = corrected.copy()
    out[missing] = written[missing] + (corrected[near] - written[near])
    return out
