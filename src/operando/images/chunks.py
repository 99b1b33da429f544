"""Frames that are still compressed as bitshuffle-LZ4, and their decoding without HDF5 and its lock.

A chunk is (Masui et al., Astron. Comput. 12 (2015) 181, and the filter's source): 8 bytes, big-endian, size of the data; 4 bytes, big-endian,
size of a block; then for each block 4 bytes, big-endian, its compressed size, and the LZ4 block; at the end up to 7 elements as they are. A block
holds the bits of its elements transposed: first bit 0 of all elements, 8 to a byte, then bit 1 ... Counts are small numbers, so that most of
these planes are zeros: they cost little to decompress, and planes that are all zeros are not transposed back.

LZ4 itself is that of hdf5plugin's library, called directly: it knows nothing of HDF5, so that threads decode side by side. Where that library
lacks the function, or a chunk made for the purpose is not decoded as hdf5plugin decodes it, frames are read in the ordinary way.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import LoaderError

BITSHUFFLE, LZ4 = 32008, 2
"""Number of the filter in HDF5, and its parameter that says what compresses the shuffled blocks."""

HEADER = 12
DAMAGED = -1
"""What the kernels answer to a chunk that does not fit its header."""

_LARGEST_BLOCK = 1 << 24


@dataclass(frozen=True)
class Chunk:
    """One frame as it lies in the file.

    Attributes
    ----------
    data
        uint8, the bytes of the chunk.
    shape, dtype
        Of the frame.
    """

    data: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def decode(self) -> np.ndarray:
        """Give the frame.

        Raises
        ------
        LoaderError
            The chunk is damaged.
        """
        self.check()
        out = np.zeros(int(np.prod(self.shape)), f"u{self.dtype.itemsize}")
        if kernels()["decode"](self.data, out) == DAMAGED:
            raise LoaderError("a compressed frame is damaged", found=f"{self.data.size} bytes", hint="copy the file again")
        return out.view(self.dtype).reshape(self.shape)

    def check(self) -> None:
        """Hold the header against the frame.

        Raises
        ------
        LoaderError
            They do not fit.
        """
        size, block = (int.from_bytes(self.data[a:b].tobytes(), "big") for a, b in ((0, 8), (8, HEADER)))
        expected = int(np.prod(self.shape)) * self.dtype.itemsize
        if self.data.size < HEADER or size != expected or not 0 < block <= _LARGEST_BLOCK or block % (8 * self.dtype.itemsize):
            raise LoaderError("a compressed frame is damaged", found=f"a header of {size} bytes in blocks of {block}", expected=f"{expected} bytes")


@functools.cache
def decodes(dtype: np.dtype[Any]) -> bool:
    """Say whether chunks of a type are decoded here: LZ4 is at hand and a chunk that hdf5plugin made comes out as it went in."""
    if dtype.itemsize not in (1, 2, 4, 8) or dtype.kind not in "iuf" or not dtype.isnative or _lz4() is None:
        return False
    import h5py
    import hdf5plugin

    rng = np.random.default_rng(0)
    made = rng.integers(0, 256, (37, 97 * dtype.itemsize), np.uint8)
    made[:, dtype.itemsize :: 3 * dtype.itemsize] = 0
    frame = made.view(dtype)
    with h5py.File("self-test", "w", driver="core", backing_store=False) as h5:
        dataset = h5.create_dataset("frame", data=frame[None], chunks=(1, *frame.shape), **hdf5plugin.Bitshuffle())
        chunk = Chunk(np.frombuffer(dataset.id.read_direct_chunk((0, 0, 0))[1], np.uint8), frame.shape, dtype)
    try:
        return chunk.decode().tobytes() == frame.tobytes()
    except LoaderError:
        return False


@functools.cache
def _lz4() -> Any:
    """Find LZ4_decompress_safe(source, target, compressed size, room); None if there is none."""
    from ctypes.util import find_library

    import hdf5plugin

    known = hdf5plugin.get_config().registered_filters
    for library in (known.get("bshuf"), known.get("lz4"), find_library("lz4")):
        try:
            function = ctypes.CDLL(library).LZ4_decompress_safe if library else None
        except (OSError, AttributeError):
            continue
        if function is not None:
            function.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
            function.restype = ctypes.c_int
            return function
    return None


@functools.cache
def kernels() -> dict[str, Any]:
    """Compile what decodes; numba is imported when the first frame is read.

    Returns
    -------
    dict
        `next_block(data, position, room, shuffled)` decompresses one block and gives the position after it; `plane(shuffled, elements, j, words)`
        gives byte j of all elements, eight to a word; `empty(shuffled, from, to)` says whether bytes are all zero; `decode(data, out)` does all
        of it.
    """
    from numba import njit

    lz4 = _lz4()

    @njit(nogil=True)
    def number(data, at):  # type: ignore[no-untyped-def]  # pragma: no cover
        return (np.int64(data[at]) << 24) | (np.int64(data[at + 1]) << 16) | (np.int64(data[at + 2]) << 8) | np.int64(data[at + 3])

    @njit(nogil=True)
    def next_block(data, position, room, shuffled):  # type: ignore[no-untyped-def]  # pragma: no cover
        if position + 4 > data.size:
            return DAMAGED
        size = number(data, position)
        position += 4
        if size <= 0 or position + size > data.size:
            return DAMAGED
        if lz4(data.ctypes.data + position, shuffled.ctypes.data, size, room) != room:
            return DAMAGED
        return position + size

    @njit(nogil=True)
    def plane(shuffled, elements, j, words):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Transpose 8 x 8 bits of eight planes at once (Warren, Hacker's Delight, 2nd ed., 7-3)."""
        n = elements // 8
        rows = shuffled[j * elements : (j + 1) * elements]
        a, b, c, d = rows[:n], rows[n : 2 * n], rows[2 * n : 3 * n], rows[3 * n : 4 * n]
        e, f, g, h = rows[4 * n : 5 * n], rows[5 * n : 6 * n], rows[6 * n : 7 * n], rows[7 * n : 8 * n]
        for k in range(n):
            x = np.uint64(a[k]) | (np.uint64(b[k]) << np.uint64(8)) | (np.uint64(c[k]) << np.uint64(16)) | (np.uint64(d[k]) << np.uint64(24))
            x |= (np.uint64(e[k]) << np.uint64(32)) | (np.uint64(f[k]) << np.uint64(40))
            x |= (np.uint64(g[k]) << np.uint64(48)) | (np.uint64(h[k]) << np.uint64(56))
            t = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
            x ^= t ^ (t << np.uint64(7))
            t = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
            x ^= t ^ (t << np.uint64(14))
            t = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
            words[k] = x ^ t ^ (t << np.uint64(28))

    @njit(nogil=True)
    def empty(shuffled, begin, end):  # type: ignore[no-untyped-def]  # pragma: no cover
        some = shuffled[begin:end].view(np.uint64)
        found = np.uint64(0)
        for k in range(some.size):
            found |= some[k]
        return found == 0

    @njit(nogil=True)
    def decode(data, out):  # type: ignore[no-untyped-def]  # pragma: no cover
        each = out.itemsize
        block = number(data, 8)
        shuffled = np.empty(block, np.uint8)
        words = np.empty(block // each // 8, np.uint64)
        small = words.view(np.uint8)
        position, done = HEADER, 0
        while out.size - done >= 8:
            elements = min(block // each, (out.size - done) // 8 * 8)
            position = next_block(data, position, elements * each, shuffled)
            if position < 0:
                return DAMAGED
            into = out[done : done + elements]
            for j in range(each):
                if not empty(shuffled, j * elements, (j + 1) * elements):
                    plane(shuffled, elements, j, words)
                    for k in range(elements):
                        into[k] |= out.dtype.type(small[k]) << out.dtype.type(8 * j)
            done += elements
        left = (out.size - done) * each
        if position + left > data.size:
            return DAMAGED
        for k in range(left):
            out[done + k // each] |= out.dtype.type(data[position + k]) << out.dtype.type(8 * (k % each))
        return 0

    return {"number": number, "next_block": next_block, "plane": plane, "empty": empty, "decode": decode}
