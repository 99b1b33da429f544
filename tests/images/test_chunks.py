"""Compressed frames decoded without HDF5, against hdf5plugin; damage is told and never read beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.contract import LoaderError
from operando.images import Chunk
from operando.images.chunks import decodes


def compressed(frame: np.ndarray, block: int = 0) -> Chunk:
    with h5py.File("made", "w", driver="core", backing_store=False) as h5:
        dataset = h5.create_dataset("frame", data=frame[None], chunks=(1, *frame.shape), **hdf5plugin.Bitshuffle(nelems=block))
        return Chunk(np.frombuffer(dataset.id.read_direct_chunk((0, 0, 0))[1], np.uint8), frame.shape, frame.dtype)


@given(
    st.sampled_from(["u1", "u2", "u4", "i2", "i4", "u8", "f4", "f8"]),
    st.tuples(st.integers(1, 60), st.integers(1, 70)),
    st.integers(0, 2**32),
    st.sampled_from([0.1, 3.0, 200.0, 4000.0]),
    st.sampled_from([0, 64, 1024]),
)
@settings(deadline=None, max_examples=60)
def test_every_frame_comes_out_as_it_went_in(kind: str, shape: tuple[int, int], seed: int, level: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    frame = np.minimum(rng.poisson(level, shape), 255 if kind == "u1" else 30000).astype(kind)
    frame[rng.random(shape) < 0.02] = frame.dtype.type(-1 if frame.dtype.kind in "if" else np.iinfo(frame.dtype).max)
    np.testing.assert_array_equal(compressed(frame, block).decode(), frame)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i4"])
def test_the_decoder_is_at_hand_here(kind: str) -> None:
    assert decodes(np.dtype(kind))


def test_other_types_are_read_in_the_ordinary_way() -> None:
    assert not decodes(np.dtype(">u4"))
    assert not decodes(np.dtype("c8"))


def test_damaged_chunks_are_told(tmp_path: Path) -> None:
    frame = np.random.default_rng(1).poisson(5.0, (80, 90)).astype(np.uint32)
    whole = compressed(frame)
    rng = np.random.default_rng(2)
    told = 0
    for k in range(300):
        data = whole.data.copy()
        if k % 3 == 0:
            data = data[: rng.integers(0, data.size)]
        else:
            data[rng.integers(0, 40 if k % 3 == 1 else data.size, 3)] ^= rng.integers(1, 256, 3).astype(np.uint8)
        try:
            Chunk(data, whole.shape, whole.dtype).decode()
        except LoaderError:
            told += 1
    assert told > 150, "cut short, or a header that does not fit; LZ4 has no checksum, so that a flipped count may pass"


def test_a_header_cannot_ask_for_memory() -> None:
    frame = np.zeros((40, 40), np.uint32)
    whole = compressed(frame)
    for field in (slice(0, 8), slice(8, 12)):
        data = whole.data.copy()
        data[field] = 0x7F
        with pytest.raises(LoaderError, match="damaged"):
            Chunk(data, whole.shape, whole.dtype).decode()


def test_chunks_say_what_they_are() -> None:
    made: Any = compressed(np.ones((20, 30), np.uint16))
    assert made.shape == (20, 30)
    assert made.dtype == np.uint16
