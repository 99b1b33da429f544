"""Files that are kept open for a while: walking through what a stack holds takes longer than reading one of its frames."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from operando.contract import LoaderError

_OPEN = 8
T = TypeVar("T")


class Kept(Generic[T]):
    """The last few files of one format, opened once as long as they do not change.

    Parameters
    ----------
    kind, magics
        Name of the format, and the bytes with which a file of it may begin.
    opened
        Opens a file: its absolute path and its size in bytes.
    closed
        Closes what was opened, when others have taken its place.
    """

    def __init__(self, kind: str, magics: tuple[bytes, ...], opened: Callable[[str, int], T], closed: Callable[[T], object]) -> None:
        self._kind, self._magics, self._opened, self._closed = kind, magics, opened, closed
        self._files: OrderedDict[tuple[str, int, int], T] = OrderedDict()
        self.lock = threading.RLock()
        """Held while a file is read: it may be closed in favour of another otherwise."""
        atexit.register(self.close)

    def close(self) -> None:
        """Close all files."""
        with self.lock:
            while self._files:
                self._closed(self._files.popitem()[1])

    def get(self, path: str | os.PathLike[str]) -> T:
        """Give an open file.

        Raises
        ------
        LoaderError
            It is not there, it is of another format, or what opening it raises.
        """
        name = os.path.abspath(path)
        try:
            stat = os.stat(name)
        except OSError as error:
            raise LoaderError("cannot be opened", file=path, found=error.strerror) from None
        key = (name, stat.st_mtime_ns, stat.st_size)
        with self.lock:
            if key not in self._files:
                self._refuse_others(path)
                self._files[key] = self._opened(name, stat.st_size)
                while len(self._files) > _OPEN:
                    self._closed(self._files.popitem(last=False)[1])
            self._files.move_to_end(key)
            return self._files[key]

    def _refuse_others(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as f:
            head = f.read(8)
        if not head.startswith(self._magics):
            raise LoaderError(
                f"is no {self._kind} file",
                file=path,
                found=f"it begins with {head!r}",
                hint="another loader? operando loaders names those of each format",
            )
