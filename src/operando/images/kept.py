"""Files that are kept open for a while: walking through what a stack holds takes longer than reading one of its frames."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from operando.contract import LoaderError

_OPEN = 2
T = TypeVar("T")


class Kept(Generic[T]):
    """The last few files of one format, opened once as long as they do not change.

    Parameters
    ----------
    opened
        Opens a file: its absolute path and its size in bytes.
    closed
        Closes what was opened, when others have taken its place.
    """

    def __init__(self, opened: Callable[[str, int], T], closed: Callable[[T], object]) -> None:
        self._opened, self._closed = opened, closed
        self._files: OrderedDict[tuple[str, int, int], T] = OrderedDict()
        self.lock = threading.RLock()
        """Held while a file is read: it may be closed in favour of another otherwise."""

    def get(self, path: str | os.PathLike[str]) -> T:
        """Give an open file.

        Raises
        ------
        LoaderError
            It is not there, or what opening it raises.
        """
        name = os.path.abspath(path)
        try:
            stat = os.stat(name)
        except OSError as error:
            raise LoaderError("cannot be opened", file=path, found=error.strerror) from None
        key = (name, stat.st_mtime_ns, stat.st_size)
        with self.lock:
            if key not in self._files:
                self._files[key] = self._opened(name, stat.st_size)
                while len(self._files) > _OPEN:
                    self._closed(self._files.popitem(last=False)[1])
            self._files.move_to_end(key)
            return self._files[key]
