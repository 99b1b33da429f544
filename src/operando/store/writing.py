"""The one writer of a growing store.

A part is written beside its place, brought to the disk, renamed, and only then acknowledged in the manifest. Whatever a killed run left
behind (a temporary file, a part without its line, half a line) the next writer sweeps away.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract import StoreError
from operando.store.combine import LAYOUT, Piece, combine
from operando.store.encoding import bitshuffle, describe, write_variable
from operando.store.files import make_directory, process_lives, sweep_temporaries, sync_directory, writing_hdf5
from operando.store.identity import content_key
from operando.store.manifest import Address, ManifestWriter, Part, nanoseconds

if TYPE_CHECKING:
    from operando.store.directory import Store

COMPACT = 64
"""Parts of one product that are merged into one."""

_RESERVED = {"process", "sample", "results"}


class Lock:
    """`writer.lock`: held through the kernel, so that it ends with the process however that ends; its text says who holds it."""

    _all: weakref.WeakSet[Lock] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            self._take()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise
        Lock._all.add(self)

    def _take(self) -> None:
        by_kernel = False
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                by_kernel = True
            except BlockingIOError:
                raise self._refused(self._holder()) from None
            except OSError:
                pass  # a file system without locks: only the text tells
        holder = self._holder()
        if not holder:
            return
        here = holder.get("host") == socket.gethostname()
        if here and (by_kernel or not process_lives(int(holder.get("pid", -1)))):
            return  # it was killed
        raise self._refused(holder)

    def _holder(self) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(self._fd, 4096, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _refused(self, holder: Mapping[str, Any]) -> StoreError:
        return StoreError(
            "another run is writing to this store",
            file=self.path.parent,
            found=f"process {holder.get('pid', '?')} on host {holder.get('host', '?')}",
            hint=f"wait for it or end it; if that computer was switched off, delete {self.path.name}",
        )

    def release(self) -> None:
        """Let the next one write."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            self.close()

    def close(self) -> None:
        """Close the file without a word, as a forked child must: the lock belongs to its parent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @classmethod
    def _forget_in_child(cls) -> None:
        for lock in list(cls._all):
            lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Lock._forget_in_child)


class Writer:
    """Writes parts and acknowledges them; use it as `with store.writing() as writer:`."""

    def __init__(self, store: Store, *, keep_replaced: float = 300.0) -> None:
        self.store = store
        self.keep_replaced = keep_replaced
        self._retired: list[tuple[float, str]] = []
        self._sequence: dict[Address, int] = {}
        try:
            make_directory(store.path / "parts")
            self._lock = Lock(store.path / "writer.lock")
        except OSError as error:
            raise StoreError(f"the store cannot be written: {error.strerror}", file=store.path) from error
        try:
            self._manifest = ManifestWriter(store._manifest)
            self._sweep()
        except OSError as error:
            self._lock.release()
            raise StoreError(f"the store cannot be written: {error.strerror}", file=store.path) from error
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End writing; the lock goes to whoever comes next."""
        self._manifest.close()
        self._lock.release()

    def _sweep(self) -> None:
        """Remove what the manifest does not account for, and temporary files."""
        known = self.store._manifest.parts
        sweep_temporaries(self.store.path, living=True)
        for path in self.store.path.glob("parts/*/*/*/*"):
            name = path.relative_to(self.store.path).as_posix()
            if path.name.endswith(".tmp") or (path.suffix == ".h5" and name not in known):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------- operations

    def write(
        self,
        cell: str,
        series: str,
        product: str,
        ds: xr.Dataset,
        *,
        key: str,
        inputs: Sequence[Mapping[str, Any]] | None = None,
    ) -> Part:
        """Write a part and acknowledge it.

        Parameters
        ----------
        cell, series, product
            Where it belongs.
        ds
            What to write; lazy variables are read in batches. Rows run along `time`, or along the first dim of a product without time.
        key
            What it was made of.
        inputs
            Which rows came from which file: dicts `file`, `size`, `sha256`, `rows` ([a, b]), `t0` (first stamp; by default `time` of row a).
            Together they cover all rows. None: if there is one row for each frame of the series, the rows follow the frames as they are
            ordered now.

        Raises
        ------
        StoreError
            It cannot be stored, or the disk is full; nothing that was acknowledged is lost and no file is left.
        """
        part = self._write(cell, series, product, ds, key=key, inputs=inputs)
        self._acknowledge({"op": "part", **part.record()}, part)
        self._compact(part.address)
        return part

    def replace(
        self,
        old: Sequence[Part],
        ds: xr.Dataset | None,
        *,
        key: str = "",
        inputs: Sequence[Mapping[str, Any]] | None = None,
        cell: str | None = None,
        series: str | None = None,
        product: str | None = None,
    ) -> Part | None:
        """Put one part in the place of others, in one step: readers see either the old ones or the new one.

        Parameters
        ----------
        old
            Parts that go; may be empty if `cell`, `series` and `product` are given.
        ds
            What takes their place; None for nothing.
        key, inputs
            As in `write`.

        Raises
        ------
        StoreError
            As in `write`; the old parts are then untouched.
        """
        self._check_there(old)
        if ds is None:
            if old:
                self._acknowledge({"op": "replace", "old": [p.path for p in old], "part": None}, None)
                self._retire(old)
            return None
        if not old and (cell is None or series is None or product is None):
            raise StoreError("cannot tell which product is replaced", expected="old parts, or cell, series and product")
        cell, series, product = cell or old[0].cell, series or old[0].series, product or old[0].product
        part = self._write(cell, series, product, ds, key=key, inputs=inputs)
        self._acknowledge({"op": "replace", "old": [p.path for p in old], "part": part.record()}, part)
        self._retire(old)
        return part

    def drop(self, parts: Sequence[Part], files: Sequence[str] | None = None) -> None:
        """Take parts out of the store, or only the rows that came from some files.

        Raises
        ------
        StoreError
            A part that is not in the store.
        """
        self._check_there(parts)
        if not parts:
            return
        line: dict[str, Any] = {"op": "drop", "old": [p.path for p in parts]}
        if files is not None:
            line["files"] = list(files)
        self._acknowledge(line, None)
        self._retire([p for p in parts if p.path not in self.store._manifest.parts])

    def quarantine(self, file: str, source: str, reason: str | None, *, key: str = "", **more: Any) -> None:
        """Record why a file could not be read; a reason of None takes that back.

        It is also taken back when a part names the file among its inputs with the same `reading` as `key`.
        """
        self._acknowledge({"op": "quarantine", "file": file, "source": source, "reason": reason, "key": key, **more}, None)

    def result(self, record: Mapping[str, Any]) -> None:
        """Record a result."""
        self._acknowledge({"op": "result", **record}, None)

    def complete(self, record: Mapping[str, Any]) -> None:
        """Record that a publication was finished, and from what."""
        self._acknowledge({"op": "complete", **record}, None)

    # ------------------------------------------------------------- how

    def _check_there(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.path not in self.store.manifest.parts:
                raise StoreError("a part is not in the store any more", file=self.store.path / part.path)

    def _acknowledge(self, line: dict[str, Any], part: Part | None) -> None:
        try:
            self._manifest.append(json.loads(json.dumps(line, default=_number)))
        except (TypeError, ValueError) as error:
            self._remove(part)
            raise StoreError(f"cannot be written into the manifest: {error}", file=self.store.path) from error
        except StoreError:
            self._remove(part)
            raise
        now = time.monotonic()
        for when, path in list(self._retired):
            if now - when >= self.keep_replaced:
                (self.store.path / path).unlink(missing_ok=True)
                self._retired.remove((when, path))

    def _remove(self, part: Part | None) -> None:
        if part is not None:
            with contextlib.suppress(OSError):
                (self.store.path / part.path).unlink(missing_ok=True)

    def _retire(self, parts: Sequence[Part]) -> None:
        self._retired += [(time.monotonic(), part.path) for part in parts]
        for part in parts:
            self.store._opened.pop(part.path, None)
        if self.keep_replaced <= 0:
            for part in parts:
                self._remove(part)
            self._retired = []

    def _next(self, address: Address) -> str:
        if address not in self._sequence:
            self._sequence[address] = self.store._manifest.last.get(address, 0)
        self._sequence[address] += 1
        return f"parts/{'/'.join(address)}/{self._sequence[address]:06d}.h5"

    def _write(
        self,
        cell: str,
        series: str,
        product: str,
        ds: xr.Dataset,
        *,
        key: str,
        inputs: Sequence[Mapping[str, Any]] | None,
        level: int = 0,
        keys: tuple[str, ...] | None = None,
        follows: list[list[Any]] | None = None,
    ) -> Part:
        address = (cell, series, product)
        for name in address:
            if not re.fullmatch(r"[^\s./\\\x00-\x1f][^/\\\x00-\x1f]*(?<!\s)", name) or name in _RESERVED:
                raise StoreError(
                    "not a usable name for a cell, series or product", found=repr(name), expected=f"no slash, not {', '.join(sorted(_RESERVED))}"
                )
        where = "/".join(address)
        layout = describe(ds, where)
        rows = ds.sizes[layout.rows_dim] if layout.rows_dim else 1
        if rows == 0:
            raise StoreError("nothing to write: no rows", file=where)
        times = (
            ds["time"].values.astype("datetime64[ns]") if layout.rows_dim == "time" and "time" in ds.coords and ds["time"].dtype.kind == "M" else None
        )
        if layout.rows_dim == "time" and times is None:
            raise StoreError("the coordinate 'time' is missing or no datetime64", file=where)
        entries = _checked(inputs, rows, times, where)
        if inputs is None and times is not None and product != "frames" and follows is None:
            follows = self.store.follows(cell, series)
            follows = follows if sum(n for _, n in follows) == rows else None
        path = self._next(address)
        target = self.store.path / path
        try:
            make_directory(target.parent)
        except OSError as error:
            raise StoreError(f"cannot be written: {error.strerror}", file=target) from error
        with writing_hdf5(target, libver=("v110", "v110")) as writing:
            writing.h5[LAYOUT] = layout.to_json()
            for name, stored in layout.variables.items():
                write_variable(writing.h5, name, ds.variables[name], stored.kind, bitshuffle, writing.check)
        stamps = [str(t) if not np.isnat(t) else "" for t in (times[0], times[-1])] if times is not None else ["", ""]
        return Part(
            path=path,
            cell=cell,
            series=series,
            product=product,
            rows=rows,
            t0=stamps[0],
            t1=stamps[1],
            size=writing.size,
            sha256=writing.sha256,
            key=key,
            keys=keys if keys is not None else (key,),
            inputs=entries,
            level=level,
            stored_rows=rows,
            follows=follows,
        )

    def _compact(self, address: Address) -> None:
        """Merge the parts of a product, 64 of one size class into one of the next, so that their number stays small."""
        while True:
            parts = self.store._manifest.of(address)
            by_level: dict[int, list[Part]] = {}
            for part in parts:
                by_level.setdefault(part.level, []).append(part)
            full = next((many for many in by_level.values() if len(many) > COMPACT), None)
            if full is None:
                return
            chosen = {p.path for p in sorted(full, key=lambda p: p.path)[:COMPACT]}
            slices = [s for s in self.store._slices(address) if s.part.path in chosen]
            follows = all(s.part.follows is not None for s in slices)
            if not follows and not all(s.part.follows is None and s.part.inputs and s.part.t0 for s in slices):
                return
            inputs, row = [], 0
            for s in slices:
                if not follows:
                    entry = next(e for e in s.part.inputs if e["rows"] == [s.a, s.b] and str(e.get("file", "")) == s.file)
                    inputs.append({**entry, "rows": [row, row + s.b - s.a]})
                row += s.b - s.a
            try:
                ds = combine([Piece(self.store._open(s.part), s.a, s.b) for s in slices]).dataset()
            except StoreError:
                return  # parts that cannot follow each other stay as they are; reading names them
            old = [p for p in full if p.path in chosen]
            keys = tuple(k for p in old for k in p.keys)
            part = self._write(
                *address,
                ds,
                key=content_key("compacted", keys),
                keys=keys,
                inputs=None if follows else inputs,
                follows=[[s.digest, s.b - s.a] for s in slices] if follows else None,
                level=old[0].level + 1,
            )
            self._acknowledge({"op": "replace", "old": [p.path for p in old], "part": part.record()}, part)
            self._retire(old)
            sync_directory(self.store.path)


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item() if value.dtype.kind != "M" else str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _checked(inputs: Sequence[Mapping[str, Any]] | None, rows: int, times: np.ndarray | None, where: str) -> list[dict[str, Any]]:
    """Complete the inputs of a part and see that they cover its rows."""
    out = []
    for given in inputs or ():
        entry = dict(given)
        a, b = (int(x) for x in entry["rows"])
        entry["rows"] = [a, b]
        if times is not None:
            if not 0 <= a < b <= rows:
                raise StoreError(
                    "inputs name rows that are not there", file=where, found=f"rows {a} to {b} of {entry.get('file')}", expected=f"within 0 to {rows}"
                )
            entry["t0"] = nanoseconds(entry["t0"] if entry.get("t0") is not None else times[a])
        out.append(entry)
    if out and times is not None:
        edges = sorted(e["rows"] for e in out)
        if [e[0] for e in edges] != [0, *(e[1] for e in edges[:-1])] or edges[-1][1] != rows:
            raise StoreError("inputs do not cover the rows of the part, each once", file=where, found=edges[:5], expected=f"0 to {rows}")
    return out
