"""Writing a file so that it is either there, whole and on the disk, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operando.contract import StoreError

_BLOCK = 1 << 20
_LOST = 1 << 16


class _Sink:
    """What HDF5 writes into: a file that after its first failed write only pretends.

    HDF5 cannot close a file whose buffers it cannot write: it keeps it open and stumbles over it again when the process
    ends. So a full disk is remembered here, HDF5 closes in good order, and the error is raised afterwards.
    """

    def __init__(self, fd: int) -> None:
        self.fd, self.position = fd, 0
        self.error: OSError | None = None
        self.lost: dict[int, bytearray] = {}  # what could not be written, by block: HDF5 reads back its own bytes, or it crashes

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = 0 if whence == os.SEEK_SET else self.position if whence == os.SEEK_CUR else os.fstat(self.fd).st_size
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        buffer = bytearray(size if size >= 0 else max(0, os.fstat(self.fd).st_size - self.position))
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self.fd, len(view), self.position)
        view[: len(data)] = data
        if self.error is not None:
            view[len(data) :] = bytes(len(view) - len(data))
            for number, block, at, low, high in self._blocks(len(view)):
                if number in self.lost:
                    view[at : at + high - low] = block[low:high]
            self.position += len(view)
            return len(view)
        self.position += len(data)
        return len(data)

    def _blocks(self, size: int) -> Iterator[tuple[int, bytearray, int, int, int]]:
        at = 0
        while at < size:
            number, low = divmod(self.position + at, _LOST)
            high = min(_LOST, low + size - at)
            yield number, self.lost.get(number, bytearray()), at, low, high
            at += high - low

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += os.pwrite(self.fd, view[done:], self.position + done)
            except OSError as error:
                self.error = error
        if self.error is not None:
            for number, _, at, low, high in self._blocks(len(view)):
                if number not in self.lost:
                    self.lost[number] = bytearray(os.pread(self.fd, _LOST, number * _LOST).ljust(_LOST, b"\0"))
                self.lost[number][low:high] = view[at : at + high - low]
        self.position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self.position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self.fd, size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class Writing:
    """A file being written. `h5` is open inside the `with`; `size` and `sha256` are known after it."""

    h5: Any
    sink: _Sink
    size: int = 0
    sha256: str = ""

    def check(self) -> None:
        """Raise the first write error, if any, without waiting for the end."""
        self.sink.check()


@contextlib.contextmanager
def writing_hdf5(path: Path, *, libver: Any = None, digest: bool = True) -> Iterator[Writing]:
    """Write an HDF5 file beside its place, bring it to the disk, and only then rename it into place.

    Raises
    ------
    StoreError
        The disk is full or failing; no temporary file is left, and what was at `path` before is untouched.
    """
    import h5py

    temp = temporary(path)
    fd = -1
    try:
        fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
        sink = _Sink(fd)
        try:
            with h5py.File(sink, "w", libver=libver) as h5:
                writing = Writing(h5, sink)
                yield writing
        except (OSError, RuntimeError):
            sink.check()  # a write that failed is the cause of whatever HDF5 then stumbled over
            raise
        sink.check()
        writing.size = os.fstat(fd).st_size
        writing.sha256 = _to_disk(fd, digest)
        closing, fd = fd, -1
        os.close(closing)
        os.replace(temp, path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror or error}", file=path, hint="free space, or choose another disk; run again") from error
    finally:
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def _to_disk(fd: int, digest: bool) -> str:
    """Bring the file to the disk; meanwhile, if wanted, take its sha256."""
    if not digest:
        os.fsync(fd)
        return ""
    errors: list[OSError] = []

    def sync() -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        sha = hashlib.sha256()
        offset = 0
        while block := os.pread(fd, _BLOCK, offset):
            sha.update(block)
            offset += len(block)
    finally:
        thread.join()
    if errors:
        raise errors[0]
    return sha.hexdigest()


def temporary(path: Path) -> Path:
    """Name the temporary file beside `path`; it carries this process' id, so that others can tell whether it is orphaned."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep_temporaries(directory: Path, pattern: str = ".*.tmp", *, living: bool = False) -> None:
    """Remove temporary files of processes that are gone; with `living`, of any process (the caller holds the lock)."""
    for path in directory.glob(pattern):
        pid = path.name.rsplit(".", 2)[-2]
        if living or not (pid.isdigit() and process_lives(int(pid))):
            path.unlink(missing_ok=True)


def process_lives(pid: int) -> bool:
    """Say whether a process of this computer is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it lives, under another user
    return True


def write_text(path: Path, text: str) -> None:
    """Replace a small text file in one step.

    Raises
    ------
    OSError
        As the disk says.
    """
    temp = temporary(path)
    try:
        with open(temp, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        sync_directory(path.parent)
    finally:
        temp.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk (a rename is lasting only then)."""
    if os.name == "nt":  # directories cannot be opened there
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, each brought to the disk."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for new in reversed(missing):
        with contextlib.suppress(FileExistsError):
            new.mkdir()
        sync_directory(new.parent)


def sha256_of(path: Path, size: int | None = None) -> str:
    """Take the sha256 of a file, or of its first `size` bytes."""
    sha = hashlib.sha256()
    left = size if size is not None else -1
    with open(path, "rb", buffering=0) as file:
        while left and (block := file.read(_BLOCK if left < 0 else min(_BLOCK, left))):
            sha.update(block)
            left -= len(block) if left > 0 else 0
    return sha.hexdigest()
