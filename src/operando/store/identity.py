"""What makes work unnecessary: keys of content, and a cache of file identities."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import StoreError
from operando.store.files import sha256_of, write_text


def content_key(*items: Any) -> str:
    """Give the sha256 of any plain content: the same content gives the same key on every computer.

    Parameters
    ----------
    *items
        None, bool, int, float, str, bytes, numpy numbers, arrays and times, paths, and lists, tuples, sets or dicts of them.
        A tuple is a list; dicts and sets have no order; 1 and 1.0 differ.

    Raises
    ------
    StoreError
        Something else.

    Examples
    --------
    >>> content_key("frames", {"b": 1, "a": [2.5]}) == content_key("frames", {"a": (2.5,), "b": 1})
    True
    """
    text = json.dumps(_canonical(items), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.datetime64 | np.timedelta64):
        return {"<time>": str(value.astype(f"{value.dtype.kind}8[ns]"))}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            return [_canonical(v) for v in value.tolist()]
        little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        return {"<array>": [value.dtype.str[1:], list(value.shape), hashlib.sha256(little.tobytes()).hexdigest()]}
    if isinstance(value, np.generic):
        return _canonical(value.item())
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes):
        return {"<bytes>": value.hex()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, set | frozenset):
        return {"<set>": sorted(json.dumps(_canonical(v), sort_keys=True) for v in value)}
    raise StoreError("a key cannot be made of this", found=type(value).__name__, expected="numbers, text, times, arrays, lists, dicts")


class FileIdentities:
    """sha256 of input files, remembered as long as size, times and inode stay the same.

    The cache `files.json` in the store's directory only saves time: it may be deleted, and nothing rests on it being written.

    Parameters
    ----------
    store_path
        The growing store.
    rehash
        True to read every file again.
    """

    def __init__(self, store_path: str | os.PathLike[str], *, rehash: bool = False) -> None:
        self.path = Path(store_path) / "files.json"
        self._known: dict[str, list[Any]] = {}
        self._changed = rehash
        if not rehash:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(self.path.read_bytes())
                self._known = known if isinstance(known, dict) else {}

    def identify(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Give `{"size": bytes, "sha256": hex}` of a file.

        A file that grows meanwhile is taken at the size it had when this began.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        name = os.path.abspath(path)
        stat = os.stat(name)
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(name)
        if isinstance(known, list) and len(known) == 5 and known[:4] == mark:
            return {"size": stat.st_size, "sha256": known[4]}
        began = time.time_ns()
        sha256 = sha256_of(Path(name), stat.st_size)
        again = os.stat(name)
        # a write within the clock's resolution of the last one would leave no trace in the times
        tick = 2_000_000_000 if stat.st_mtime_ns % 1_000_000_000 == 0 else 50_000_000
        settled = began - max(stat.st_mtime_ns, stat.st_ctime_ns) > tick
        if settled and [again.st_size, again.st_mtime_ns, again.st_ctime_ns, again.st_ino] == mark:
            self._known[name] = [*mark, sha256]
            self._changed = True
        elif self._known.pop(name, None) is not None:
            self._changed = True
        return {"size": stat.st_size, "sha256": sha256}

    def save(self) -> None:
        """Write the cache, if it changed; without complaint where it cannot be written."""
        if self._changed:
            with contextlib.suppress(OSError):
                write_text(self.path, json.dumps(self._known, separators=(",", ":")))
                self._changed = False
