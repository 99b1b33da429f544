"""All frames of a series as one lazy array: what is computed is what is read frame by frame, and no frame more."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import operando as op
from operando.contract import ContractError, LoaderError
from operando.images import stacked
from operando.store import Store

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 4000, (7, 16, 20)).astype(np.uint16)
TIMES = {"start": "2024-05-06T10:00:00Z", "period": "2 s"}


@pytest.fixture
def series(tmp_path: Path) -> xr.Dataset:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, metadata=None)
    return op.load(tmp_path / "a.tif", loader="tiff-stack", pixel_size="1.5 um", **TIMES)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []

    def counted(file: str, dataset: str, index: int, **kwargs: Any) -> np.ndarray:
        made.append(index)
        return op.images.read(file, dataset, index, **kwargs)

    monkeypatch.setattr(stacked, "read", counted)
    return made


def test_it_is_what_is_read_frame_by_frame(series: xr.Dataset, reads: list[int]) -> None:
    pixels = op.images.stack(series)
    assert pixels.dims == ("time", "y", "x")
    assert pixels.dtype == np.uint16
    assert pixels.attrs["units"] == "counts"
    assert pixels.attrs["pixel_size"] == [1.5, 1.5]
    assert pixels["y"].attrs["units"] == "px"
    assert reads == []
    np.testing.assert_array_equal(pixels["time"], series["time"])
    np.testing.assert_array_equal(pixels.values, PIXELS)


@pytest.mark.parametrize("block", [1, 3 * PIXELS[0].nbytes, 64e6])
def test_no_frame_is_read_but_those_that_are_chosen(series: xr.Dataset, reads: list[int], monkeypatch: pytest.MonkeyPatch, block: float) -> None:
    monkeypatch.setattr(stacked, "_BLOCK", block)
    pixels = op.images.stack(series)
    np.testing.assert_array_equal(pixels[4].compute(scheduler="sync"), PIXELS[4])
    assert reads == [4]
    reads.clear()
    np.testing.assert_array_equal(pixels.isel(time=slice(1, 6), y=slice(2, 5)).mean("time").compute(scheduler="sync"), PIXELS[1:6, 2:5].mean(0))
    assert sorted(reads) == [1, 2, 3, 4, 5]
    reads.clear()
    at = pixels.sel(time=np.datetime64("2024-05-06T10:00:07"), method="nearest")
    assert at.compute(scheduler="sync").sum() in (PIXELS[3].sum(), PIXELS[4].sum())
    assert len(reads) == 1


INDEX = st.one_of(
    st.integers(-7, 6),
    st.slices(7),
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(time=INDEX, y=st.one_of(st.integers(-16, 15), st.slices(16)), x=st.one_of(st.lists(st.integers(0, 19), min_size=1, max_size=4), st.slices(20)))
def test_every_choice_is_that_of_an_array(time: Any, y: Any, x: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "chosen.tif"
    if not path.exists():
        tifffile.imwrite(path, PIXELS, metadata=None)
    lazy = op.images.stack(op.load(path, loader="tiff-stack", **TIMES))
    whole = lazy.copy(data=PIXELS)
    choice = {"time": time, "y": y, "x": x}
    np.testing.assert_array_equal(lazy.isel(choice).compute(scheduler="sync"), whole.isel(choice))


def test_frames_that_cannot_be_read(series: xr.Dataset, tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(tmp_path / f"p{k}.tif", PIXELS[k], metadata=None)
    table = series.isel(time=slice(0, 3)).copy()
    table["file"] = ("time", np.array([str(tmp_path / f"p{k}.tif") for k in range(3)], object))
    table["index"] = ("time", np.zeros(3, int))
    (tmp_path / "p1.tif").unlink()
    tifffile.imwrite(tmp_path / "p2.tif", PIXELS[2, :5], metadata=None)
    with pytest.raises(LoaderError, match=r"p1\.tif"):
        op.images.stack(table)[1].compute()
    with pytest.raises(LoaderError, match="of another size"):
        op.images.stack(table)[2].compute()
    filled = op.images.stack(table, fill=np.nan)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[0], PIXELS[0])
    assert np.isnan(filled[1:].values).all()
    assert op.images.stack(table, fill=0).dtype == np.uint16
    with pytest.raises(ContractError, match="holds no references"):
        op.images.stack(xr.Dataset({"intensity": ("time", np.zeros(3))}))


def test_turned_frames_and_a_size_that_is_not_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["movie/frames"] = PIXELS
    series = op.load(tmp_path / "a.h5", loader="hdf5-stack", orientation="rotate-90", **TIMES)
    turned = np.rot90(PIXELS, axes=(1, 2))
    np.testing.assert_array_equal(op.images.stack(series), turned)
    bare = series.copy()
    for name in ("detector_shape", "pixel_type"):
        del bare.attrs[name]
    np.testing.assert_array_equal(op.images.stack(bare), turned)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(op.images.stack(bare))), turned)


@pytest.mark.parametrize("publish", [True, False])
def test_of_a_store_that_lies_elsewhere_than_we_work(publish: bool, tmp_path: Path) -> None:
    (tmp_path / "there" / "raw").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "there" / "raw" / "a.tif", PIXELS, metadata=None)
    series = op.load(tmp_path / "there" / "raw" / "a.tif", loader="tiff-stack", **TIMES)
    series["file"] = ("time", np.full(7, "raw/a.tif", object))
    store = Store(tmp_path / "there" / "b.operando")
    with store.writing() as writer:
        writer.write("A", "camera", "images", series, key="raw")
    path = store.publish(tmp_path / "there" / "b.nxs") if publish else store.path
    ds = op.open_beamtime(path)["A/camera/images"].ds
    np.testing.assert_array_equal(op.images.stack(ds.isel(time=slice(2, 5))), PIXELS[2:5])
    (tmp_path / "there" / "raw").rename(tmp_path / "moved")
    with pytest.raises(LoaderError, match="folder="):
        op.images.stack(ds)[0].compute()
    np.testing.assert_array_equal(op.images.stack(ds, folder=tmp_path / "moved"), PIXELS)


def test_products_of_a_store_can_be_chunked(tmp_path: Path, series: xr.Dataset) -> None:
    from operando.contract import series as made

    values = RNG.random((40, 30)).astype(np.float32)
    header = {"loader": "made", "loader_version": "1", "options": "{}"}
    patterns = made(
        "xrd",
        {"intensity": (("time", "q"), values, "counts")},
        source="a.h5",
        coords={"q": ("q", np.linspace(1, 5, 30), "1/angstrom")},
        start="2024-05-06T10:00:00",
        elapsed=np.arange(40.0),
        exposure=1.0,
        time_origin="header",
        attrs=header,
    )
    store = Store(tmp_path / "b.operando")
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", patterns, key="raw")
    for path in (store.path, store.publish(tmp_path / "b.nxs")):
        lazy = op.open_beamtime(path)["A/xrd/frames"].ds.chunk({"time": 7})
        np.testing.assert_allclose(lazy["intensity"].mean("time").compute(), values.mean(0), rtol=1e-6)
