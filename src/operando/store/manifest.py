"""The manifest: one line of JSON for everything that was acknowledged, appended and brought to the disk, never rewritten.

It is the only index of a store. Operations: `store` (first line), `part`, `replace`, `drop`, `quarantine`, `result`, `complete`.
A last line without its newline was never acknowledged: readers ignore it, the next writer cuts it off.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import StoreError
from operando.store.files import write_text

VERSION = 1
"""Of the directory's format."""

Address = tuple[str, str, str]


@dataclass(frozen=True)
class Part:
    """One immutable file of a product.

    Attributes
    ----------
    path
        Relative to the store's directory.
    rows
        Frames in it that count (those of dropped inputs do not).
    t0, t1
        First and last `time` as stored, ISO text to the nanosecond; empty for a product without time.
    key
        What it was made of, as its writer said; of a compacted part, the key of all its keys.
    keys
        The key of every part that was written and now lies in this one: unchanged by compaction.
    inputs
        Which rows came from which file: dicts `file`, `size`, `sha256`, `rows` ([a, b] in this part), `t0`, and what else the writer noted.
    """

    path: str
    cell: str
    series: str
    product: str
    rows: int
    t0: str
    t1: str
    size: int = field(compare=False)
    sha256: str = field(compare=False)
    key: str = field(compare=False)
    keys: tuple[str, ...] = field(compare=False)
    inputs: list[dict[str, Any]] = field(compare=False)
    level: int = field(compare=False, default=0)
    stored_rows: int = field(compare=False, default=0)
    follows: list[list[Any]] | None = field(compare=False, default=None, repr=False)

    @property
    def address(self) -> Address:
        """(cell, series, product)."""
        return self.cell, self.series, self.product

    def record(self) -> dict[str, Any]:
        """Give what is written in the manifest."""
        out = {name: getattr(self, name) for name in ("path", "rows", "t0", "t1", "size", "sha256", "key", "inputs")}
        if self.keys != (self.key,):
            out["keys"] = list(self.keys)
        if self.level:
            out["level"] = self.level
        if self.stored_rows != self.rows:
            out["stored_rows"] = self.stored_rows
        if self.follows is not None:
            out["follows"] = self.follows
        return out

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Part:
        """Read what is written in the manifest."""
        _, cell, series, product, _ = record["path"].split("/")
        known = {k: record[k] for k in ("path", "rows", "t0", "t1", "size", "sha256", "key", "inputs")}
        return cls(
            cell=cell,
            series=series,
            product=product,
            keys=tuple(record.get("keys", (record["key"],))),
            level=record.get("level", 0),
            stored_rows=record.get("stored_rows", record["rows"]),
            follows=record.get("follows"),
            **known,
        )

    def without(self, files: set[str]) -> Part | None:
        """Give this part without the rows of some files; None if none is left."""
        left = [entry for entry in self.inputs if entry["file"] not in files]
        if not left:
            return None
        rows = sum(entry["rows"][1] - entry["rows"][0] for entry in left)
        return Part(**{**vars(self), "inputs": left, "rows": rows})


def natural(text: str) -> tuple[Any, ...]:
    """Sort key in which `frame_9` comes before `frame_10`."""
    return tuple((0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", text) if t)


def nanoseconds(t0: Any) -> int:
    """Read a stamp (int nanoseconds, ISO text or datetime64) as nanoseconds since 1970; empty or missing is the earliest."""
    if isinstance(t0, int | np.integer):
        return int(t0)
    if t0 is None or t0 == "":
        return int(np.iinfo(np.int64).min)
    return int(np.datetime64(t0, "ns").astype(np.int64))


class Manifest:
    """The state of a store, as its manifest tells it; `refresh` reads only what was appended since."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "manifest.jsonl"
        self._forget()

    def _forget(self) -> None:
        self.parts: dict[str, Part] = {}
        self.quarantined: dict[tuple[str, str], dict[str, Any]] = {}
        self.results: list[dict[str, Any]] = []
        self.completed: dict[str, Any] | None = None
        self.retired: list[str] = []
        self.last: dict[Address, int] = {}
        self._by_address: dict[Address, dict[str, Part]] = {}
        self._offset, self._lines, self._inode = 0, 0, -1

    @property
    def exists(self) -> bool:
        """True once a writer has been here."""
        return self.path.exists()

    def refresh(self) -> Manifest:
        """Read on to the last acknowledged line.

        Raises
        ------
        StoreError
            No store here, a damaged line, or one a newer version wrote.
        """
        try:
            with open(self.path, "rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._offset:
                    self._forget()
                    self._inode = stat.st_ino
                if stat.st_size == 0 and any(self.directory.glob("parts/*/*/*/*.h5")):
                    raise StoreError("the manifest of the store is empty", file=self.path, hint="restore it; without it the parts cannot be trusted")
                if stat.st_size == self._offset:
                    return self
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            if self.directory.is_dir() and not any(self.directory.glob("parts/*/*/*/*.h5")):
                self._forget()
                return self
            if self.directory.is_dir():
                raise StoreError(
                    "the manifest of the store is missing", file=self.path, hint="restore it; without it the parts cannot be trusted"
                ) from None
            raise StoreError("no such store", file=self.directory) from None
        except OSError as error:
            raise StoreError(f"the store cannot be read: {error.strerror}", file=self.path) from error
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            self._lines += 1
            try:
                content = json.loads(line)
                if self._lines == 1 and content["op"] != "store":
                    raise ValueError("the first line is missing")
                self.apply(content)
            except StoreError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                number = self._lines
                self._forget()
                raise StoreError(f"line {number} of the manifest is damaged", file=self.path, found=line[:120]) from error
            self._offset += len(line)
        return self

    def apply(self, line: dict[str, Any]) -> None:
        """Do what a line says."""
        op = line["op"]
        if op == "store":
            if line["version"] > VERSION:
                raise StoreError(
                    "the store was written by a newer version", file=self.path, found=f"format {line['version']}", expected=f"<= {VERSION}"
                )
        elif op == "part":
            self._add(Part.of(line))
        elif op == "replace":
            for old in line["old"]:
                self._remove(old)
            if line.get("part"):
                self._add(Part.of(line["part"]))
        elif op == "drop":
            for old in line["old"]:
                part = self.parts[old].without(set(line["files"])) if line.get("files") else None
                if part is None:
                    self._remove(old)
                else:
                    self.parts[old] = self._by_address[part.address][old] = part
        elif op == "quarantine":
            key = (line["file"], line.get("key", ""))
            self.quarantined.pop(key, None)
            if line["reason"] is not None:
                self.quarantined[key] = {k: v for k, v in line.items() if k != "op"}
        elif op == "result":
            self.results.append({k: v for k, v in line.items() if k != "op"})
        elif op == "complete":
            self.completed = {k: v for k, v in line.items() if k != "op"}

    def _add(self, part: Part) -> None:
        self.parts[part.path] = part
        number = int(part.path.rpartition("/")[2].removesuffix(".h5"))
        self.last[part.address] = max(self.last.get(part.address, 0), number)
        self._by_address.setdefault(part.address, {})[part.path] = part
        for entry in part.inputs if self.quarantined else ():
            # a file that gave rows after all is no longer in quarantine
            for key in [k for k in self.quarantined if k[0] == entry.get("file") and k[1] in ("", entry.get("reading", ""))]:
                del self.quarantined[key]

    def _remove(self, path: str) -> None:
        part = self.parts.pop(path)
        del self._by_address[part.address][path]
        self.retired.append(path)

    def of(self, address: Address) -> list[Part]:
        """List the parts of a product in the order of their first time."""
        return sorted(self._by_address.get(address, {}).values(), key=lambda p: (nanoseconds(p.t0), p.path))

    def addresses(self) -> list[Address]:
        """List the products that have parts, in natural order."""
        return sorted((a for a, parts in self._by_address.items() if parts), key=lambda a: tuple(natural(x) for x in a))


class ManifestWriter:
    """Appends lines to the manifest; the caller holds the store's lock."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        if not manifest.exists:
            manifest.refresh()  # refuses a directory whose manifest was lost
            write_text(manifest.path, json.dumps({"op": "store", "version": VERSION}) + "\n")
        manifest.refresh()
        self._fd = os.open(manifest.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        if os.fstat(self._fd).st_size > manifest._offset:
            os.ftruncate(self._fd, manifest._offset)
            os.fsync(self._fd)
        self._broken = False

    def append(self, line: dict[str, Any]) -> None:
        """Acknowledge: the line is on the disk when this returns.

        Raises
        ------
        StoreError
            It could not be written; nothing changed.
        """
        if self._broken:
            raise StoreError("an earlier line could not be taken back", file=self.manifest.path, hint="end this run and start again")
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        before = os.fstat(self._fd).st_size
        try:
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
            os.fsync(self._fd)
        except OSError as error:
            try:
                os.ftruncate(self._fd, before)
                os.fsync(self._fd)
            except OSError:
                self._broken = True
            raise StoreError(f"the manifest cannot be written: {error.strerror}", file=self.manifest.path, hint="free space and run again") from error
        self.manifest.refresh()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
