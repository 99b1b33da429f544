"""Frames by reference: every layout of HDF5, other images through fabio, files that were moved or are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from operando import images
from operando.contract import LoaderError

STACK = np.random.default_rng(0).poisson(3.0, (7, 40, 50)).astype(np.uint32)
LAYOUTS: dict[str, dict[str, Any]] = {
    "bitshuffle": {"chunks": (1, 40, 50), **hdf5plugin.Bitshuffle()},
    "bitshuffle of several": {"chunks": (3, 40, 50), **hdf5plugin.Bitshuffle()},
    "bitshuffle zstd": {"chunks": (1, 40, 50), **hdf5plugin.Bitshuffle(cname="zstd")},
    "tiles": {"chunks": (2, 16, 16), **hdf5plugin.Bitshuffle()},
    "gzip": {"chunks": (1, 40, 50), "compression": "gzip", "shuffle": True},
    "lz4": {"chunks": (1, 40, 50), **hdf5plugin.LZ4()},
    "zstd": {"chunks": (2, 40, 50), **hdf5plugin.Zstd()},
    "none": {"chunks": (1, 40, 50)},
    "contiguous": {},
}


def write(path: Path, stack: np.ndarray = STACK, **layout: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        h5.create_dataset("entry/data", data=stack, **layout)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", **LAYOUTS[layout])
    for k in (0, 3, 6, 4):
        np.testing.assert_array_equal(images.read(path, "entry/data", k), STACK[k])
    assert isinstance(images.raw(path, "entry/data", 1), images.Chunk) == (layout == "bitshuffle")
    assert images.describe(path, "entry/data") == ((7, 40, 50), np.dtype(np.uint32))


def test_other_byte_orders_and_chunks_that_were_never_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", STACK.astype(">u4"), **LAYOUTS["bitshuffle"])
    np.testing.assert_array_equal(images.read(path, "entry/data", 2), STACK[2])
    with h5py.File(tmp_path / "b.h5", "w") as h5:
        h5.create_dataset("entry/data", (3, 40, 50), np.uint32, fillvalue=9, **LAYOUTS["bitshuffle"])[0] = STACK[0]
    np.testing.assert_array_equal(images.read(tmp_path / "b.h5", "entry/data", 0), STACK[0])
    assert (images.read(tmp_path / "b.h5", "entry/data", 1) == 9).all()


def test_a_single_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", STACK[0])
    np.testing.assert_array_equal(images.read(path, "entry/data"), STACK[0])
    with pytest.raises(LoaderError, match="no such frame"):
        images.read(path, "entry/data", 1)


def master(folder: Path) -> Path:
    """Write an Eiger master with two files of frames."""
    for k in (1, 2):
        write(folder / f"a_data_{k:06d}.h5", STACK[3 * (k - 1) : 3 * k], **LAYOUTS["bitshuffle"])
    path = folder / "a_master.h5"
    with h5py.File(path, "w") as h5:
        for k in (1, 2):
            h5[f"entry/data/data_{k:06d}"] = h5py.ExternalLink(f"a_data_{k:06d}.h5", "entry/data")
    return path


def test_links_into_other_files(tmp_path: Path) -> None:
    path = master(tmp_path)
    np.testing.assert_array_equal(images.read(path, "entry/data/data_000002", 1), STACK[4])
    assert isinstance(images.raw(path, "entry/data/data_000002", 1), images.Chunk)
    (tmp_path / "a_data_000002.h5").unlink()
    with pytest.raises(LoaderError, match="a file that holds the frames is missing") as told:
        images.read(path, "entry/data/data_000002", 1)
    assert "a_data_000002.h5" in str(told.value)
    np.testing.assert_array_equal(images.read(path, "entry/data/data_000001", 1), STACK[1])


def test_virtual_datasets_lead_to_their_files_and_a_missing_one_is_no_zeros(tmp_path: Path) -> None:
    master(tmp_path)
    layout = h5py.VirtualLayout((7, 40, 50), np.uint32, maxshape=(None, 40, 50))
    for k in (1, 2):
        layout[3 * (k - 1) : 3 * k] = h5py.VirtualSource(f"a_data_{k:06d}.h5", "entry/data", (3, 40, 50))
    with h5py.File(tmp_path / "v.h5", "w") as h5:
        h5.create_virtual_dataset("frames", layout)
    assert isinstance(images.raw(tmp_path / "v.h5", "frames", 4), images.Chunk)
    np.testing.assert_array_equal(images.read(tmp_path / "v.h5", "frames", 4), STACK[4])
    with pytest.raises(LoaderError, match="no file holds this frame"):
        images.read(tmp_path / "v.h5", "frames", 6)
    (tmp_path / "a_data_000001.h5").rename(tmp_path / "elsewhere")
    with h5py.File(tmp_path / "v.h5") as h5:
        assert not h5["frames"][1].any(), "HDF5 itself reads zeros"
    with pytest.raises(LoaderError, match="is missing"):
        images.read(tmp_path / "v.h5", "frames", 1)


def test_a_detector_of_several_modules(tmp_path: Path) -> None:
    for k in range(2):
        write(tmp_path / f"m{k}.h5", STACK[:, 20 * k : 20 * k + 20], chunks=(1, 20, 50))
    layout = h5py.VirtualLayout((7, 43, 50), np.uint32)
    for k in range(2):
        layout[:, 23 * k : 23 * k + 20] = h5py.VirtualSource(f"m{k}.h5", "entry/data", (7, 20, 50))
    with h5py.File(tmp_path / "v.h5", "w") as h5:
        h5.create_virtual_dataset("frames", layout, fillvalue=2**32 - 1)
    found = images.read(tmp_path / "v.h5", "frames", 5)
    np.testing.assert_array_equal(found[23:], STACK[5, 20:])
    assert (found[20:23] == 2**32 - 1).all()
    (tmp_path / "m1.h5").unlink()
    with pytest.raises(LoaderError, match="is missing"):
        images.read(tmp_path / "v.h5", "frames", 5)


def test_frames_in_external_storage(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("frames", data=STACK, external=[(str(tmp_path / "raw.bin"), 0, STACK.nbytes)])
    np.testing.assert_array_equal(images.read(tmp_path / "a.h5", "frames", 2), STACK[2])
    (tmp_path / "raw.bin").unlink()
    with pytest.raises(LoaderError, match=r"missing[\s\S]*raw.bin|raw.bin[\s\S]*missing"):
        images.read(tmp_path / "a.h5", "frames", 2)


def test_a_moved_folder_is_found_again(tmp_path: Path) -> None:
    write(tmp_path / "new/xrd/a.h5", **LAYOUTS["gzip"])
    old = "/beamtimes/june/raw/xrd/a.h5"
    for folder in (tmp_path / "new", tmp_path / "new/xrd"):
        np.testing.assert_array_equal(images.read(old, "entry/data", 1, folder=folder), STACK[1])
    np.testing.assert_array_equal(images.read(r"D:\june\xrd\a.h5", "entry/data", 1, folder=tmp_path / "new"), STACK[1])
    np.testing.assert_array_equal(images.read("xrd/a.h5", "entry/data", 1, folder=tmp_path / "new"), STACK[1])
    with pytest.raises(LoaderError, match="is not there") as told:
        images.read(old, "entry/data", 1, folder=tmp_path)
    assert old in str(told.value)
    assert str(tmp_path) in str(told.value)


def test_what_is_no_frame_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    for dataset, words in (("entry/none", "cannot be read"), ("entry", "cannot be read"), ("entry/data", "no such frame")):
        with pytest.raises(LoaderError, match=words):
            images.read(path, dataset, 99)
    (tmp_path / "b.h5").write_bytes(path.read_bytes()[:600])
    with pytest.raises(LoaderError):
        images.read(tmp_path / "b.h5", "entry/data", 0)


@pytest.mark.parametrize("kind", ["edf", "cbf", "tif"])
def test_other_images(kind: str, tmp_path: Path) -> None:
    import fabio

    frame = STACK[0].astype(np.int32)
    made = {"edf": fabio.edfimage.EdfImage, "cbf": fabio.cbfimage.CbfImage, "tif": fabio.tifimage.TifImage}[kind](data=frame)
    made.write(str(tmp_path / f"a.{kind}"))
    np.testing.assert_array_equal(images.read(tmp_path / f"a.{kind}"), frame)
    with pytest.raises(LoaderError, match="no such frame"):
        images.read(tmp_path / f"a.{kind}", index=2)


def test_headers_cannot_ask_for_memory(tmp_path: Path) -> None:
    head = bytearray(4096)
    head[:8] = (1234).to_bytes(4, "little") + (2**31 - 1).to_bytes(4, "little")
    head[128:140] = b"mar research"
    (tmp_path / "a.mar345").write_bytes(bytes(head))
    (tmp_path / "a.cbf").write_bytes(
        b"###CBF: 1\n--CIF-BINARY-FORMAT-SECTION--\nX-Binary-Size-Fastest-Dimension: 60000\nX-Binary-Size-Second-Dimension: 60000\n\x0c\x1a\x04\xd5"
    )
    (tmp_path / "a.edf").write_bytes(b"{\nDim_1 = 999999999 ;\nDim_2 = 999999999 ;\n}\n")
    for name in ("a.mar345", "a.cbf", "a.edf"):
        with pytest.raises(LoaderError, match="header is damaged"):
            images.read(tmp_path / name)


def test_files_that_have_no_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.cbf").write_bytes(b"###CBF: 1\n" + bytes(3000))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + (8).to_bytes(4, "little") + bytes(2) + (8).to_bytes(4, "little") + bytes(200))
    for name in ("a.cbf", "a.tif"):
        with pytest.raises(LoaderError, match="damaged"):
            images.read(tmp_path / name)


def test_arrays_of_a_detector(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", STACK[0] > 4)
    np.testing.assert_array_equal(images.read_array(tmp_path / "mask.npy"), STACK[0] > 4)
    write(tmp_path / "dark.h5")
    np.testing.assert_allclose(images.read_array(f"{tmp_path / 'dark.h5'}::entry/data"), STACK.mean(axis=0))
    with pytest.raises(LoaderError, match="which dataset"):
        images.read_array(tmp_path / "dark.h5")
    np.save(tmp_path / "list.npy", np.array([{}], dtype=object))
    for name in ("list.npy", "dark.h5::entry/nothing"):
        with pytest.raises(LoaderError, match="cannot be read"):
            images.read_array(tmp_path / name)
    np.save(tmp_path / "line.npy", np.arange(4))
    with pytest.raises(LoaderError, match="rows and columns"):
        images.read_array(tmp_path / "line.npy")


@pytest.mark.parametrize("orientation", images.ORIENTATIONS)
def test_orientations_have_an_inverse(orientation: str) -> None:
    frame = np.arange(12).reshape(3, 4)
    back = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}.get(orientation, orientation)
    np.testing.assert_array_equal(images.oriented(images.oriented(frame, orientation), back), frame)


def test_orientations_are_what_their_names_say() -> None:
    frame = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(images.oriented(frame, "rotate-90"), np.rot90(frame))
    np.testing.assert_array_equal(images.oriented(frame, "rotate-180"), np.rot90(frame, 2))
    np.testing.assert_array_equal(images.oriented(frame, "rotate-270"), np.rot90(frame, 3))
    np.testing.assert_array_equal(images.oriented(frame, "up-down"), np.flipud(frame))
    np.testing.assert_array_equal(images.oriented(frame, "left-right"), np.fliplr(frame))
    np.testing.assert_array_equal(images.oriented(frame, "anti-transpose"), np.rot90(frame, 2).T)
