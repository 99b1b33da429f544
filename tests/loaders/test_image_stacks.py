"""Images by reference: TIFF as several programs write it, HDF5, the files of X-ray microscopes; measured ones, and damaged ones."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from compound_files import microscope
from fuzzing import only_operando_errors
from PIL import Image

import operando as op
from operando import images
from operando.contract import LoaderError, OperandoError, Quality
from operando.loaders import claimed_by, hdf5_stack, tiff_stack, xrm
from operando.testing import assert_valid_series

STACK = np.random.default_rng(5).integers(0, 60_000, (6, 40, 50)).astype(np.uint16)
DATES = [f"07/02/16 17:{50 + k}:52" for k in range(6)]


def pixels(ds: Any, k: int) -> np.ndarray:
    return images.read(*(ds[n].values[k] for n in ("file", "dataset", "index")))


def same(ds: Any, stack: np.ndarray = STACK) -> bool:
    return ds.sizes["time"] == len(stack) and all(np.array_equal(pixels(ds, k), one) for k, one in enumerate(stack))


# --------------------------------------------------------------------------- TIFF


def test_pages_that_pillow_wrote_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    pages = [Image.fromarray(one) for one in STACK]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw", tiffinfo={306: "2024:05:06 10:11:12"})
    ds = tiff_stack.load(path)
    assert same(ds), "LZW is read by Pillow where tifffile lacks the codec"
    assert str(ds["time"].values[0]) == "2024-05-06T10:11:12.000000000"
    assert ds.attrs["frames_of"] == "imaging"
    assert ds.attrs["detector_shape"] == [40, 50]
    assert "pixel_size" not in ds.attrs, "Pillow says nothing of it"


def test_a_stamp_for_each_page(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    begin = dt.datetime(2024, 5, 6, 10, 11, 12)  # noqa: DTZ001 - as the file has it
    with tifffile.TiffWriter(path) as out:
        for k, one in enumerate(STACK):
            out.write(one, datetime=begin + dt.timedelta(seconds=30 * k), contiguous=False, metadata=None, resolution=(5000, 2500), resolutionunit=3)
    ds = op.load(path, loader="tiff-stack", timezone="Europe/Paris")
    assert_valid_series(ds)
    assert np.diff(ds["time"].values).astype(int).tolist() == [30_000_000_000] * 5
    assert str(ds["time"].values[0]) == "2024-05-06T08:11:12.000000000"
    assert ds.attrs["time_uncertainty_s"] == 0.5
    assert ds.attrs["pixel_size"] == [4.0, 2.0], "y and x, from pixels per centimetre"


def test_imagej_says_interval_and_pixel(tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    tifffile.imwrite(path, STACK, imagej=True, resolution=(1 / 0.65, 1 / 0.65), metadata={"unit": "um", "finterval": 2.5, "axes": "TYX"})
    ds = op.load(path, loader="tiff-stack", start="2024-05-06T10:00:00", timezone="UTC")
    assert same(ds)
    np.testing.assert_allclose(ds.attrs["pixel_size"], 0.65, rtol=1e-6)
    assert (ds["time"].values[1] - ds["time"].values[0]) == np.timedelta64(2500, "ms")
    assert (
        np.diff(op.load(path, loader="tiff-stack", frame_time="4 s", start="2024-05-06", timezone="UTC")["time"].values) == np.timedelta64(4, "s")
    ).all()


def test_a_large_imagej_stack_has_one_directory(tmp_path: Path) -> None:
    """ImageJ writes so above 4 GB: what is tested is the layout, not the size."""
    path = tmp_path / "large.tif"
    description = f"ImageJ=1.53t\nimages={len(STACK)}\nframes={len(STACK)}\n"
    tifffile.imwrite(path, STACK[0], description=description, byteorder=">", metadata=None, software=None)
    with tifffile.TiffFile(path) as tif:
        begin = tif.pages[0].dataoffsets[0]
    raw = path.read_bytes()
    path.write_bytes(raw[:begin] + STACK.astype(">u2").tobytes())
    assert same(tiff_stack.load(path))
    path.write_bytes(path.read_bytes()[: -40 * 50 * 2 - 10])
    with pytest.raises(LoaderError, match="cut off"):
        tiff_stack.load(path)


def test_ome_says_when_each_plane_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "planes.ome.tif"
    planes = {
        "DeltaT": [0.0, 0.5, 10.0, 10.5, 20.0, 20.5],
        "ExposureTime": [0.25] * 6,
        "TheC": [0, 1] * 3,
        "TheT": [0, 0, 1, 1, 2, 2],
        "TheZ": [0] * 6,
    }
    told = {"axes": "TCYX", "PhysicalSizeX": 108.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.2, "PhysicalSizeYUnit": "µm", "Plane": planes}
    tifffile.imwrite(path, STACK.reshape(3, 2, 40, 50), ome=True, metadata=told | {"AcquisitionDate": "2024-05-06T10:11:12"})
    ds = op.load(path, loader="tiff-stack", timezone="UTC")
    assert same(ds)
    assert ds["channel"].values.tolist() == [0, 1] * 3
    assert ds["exposure"].values.tolist() == [0.25] * 6
    np.testing.assert_allclose(ds.attrs["pixel_size"], [0.2, 0.108])
    elapsed = (ds["time"].values - ds["time"].values[0]) / np.timedelta64(1, "s")
    np.testing.assert_allclose(elapsed, planes["DeltaT"])
    assert op.load(path, loader="tiff-stack", timezone="UTC", where={"channel": 1}).sizes["time"] == 3


def test_thumbnails_and_pyramids_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        for one in STACK[:2]:
            out.write(one, metadata=None, contiguous=False)
            out.write(one[::2, ::2].copy(), subfiletype=1, metadata=None, contiguous=False)
    assert same(tiff_stack.load(path), STACK[:2])


def test_colour_is_averaged(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 255, (30, 20, 3)).astype(np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.tif")
    np.testing.assert_allclose(pixels(tiff_stack.load(tmp_path / "colour.tif"), 0), colour.mean(axis=2), rtol=1e-6)


def test_pictures_of_different_size_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as out:
        out.write(STACK[0], metadata=None)
        out.write(STACK[0][:30], metadata=None)
    with pytest.raises(LoaderError, match="different size") as told:
        tiff_stack.load(tmp_path / "two.tif")
    assert "1 of 40 x 50, 1 of 30 x 50" in str(told.value)


def test_options_that_cannot_be(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None)
    for options, words in (
        ({"pixel_size": "2"}, "without its unit"),
        ({"pixel_size": "-1 um"}, "no size"),
        ({"frame_time": "0 s"}, "not a positive"),
        ({"orientation": "sideways"}, "orientation"),
    ):
        with pytest.raises(LoaderError, match=words):
            tiff_stack.load(tmp_path / "a.tif", **options)
    with pytest.raises(LoaderError, match="no such frame"):
        images.read(tmp_path / "a.tif", "pages", 6)


def test_a_log_says_when_each_page_was_taken(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None)
    rows = [f"a.tif,{k},2024-05-06T10:0{k}:00.250,{500 + k}" for k in range(6)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["file,page,begin,ms", *rows]) + "\n")
    told = {"file": "log.csv", "name": "file", "index": "page", "start": "begin", "exposure": "ms", "exposure_unit": "ms"}
    (tmp_path / "beamtime.yaml").write_text("")
    ds = op.load(tmp_path / "a.tif", loader="tiff-stack", timezone="Europe/Paris", times_from=told | {"file": str(log)})
    assert ds.attrs["time_origin"] == "log"
    np.testing.assert_allclose(ds["exposure"].values, (500 + np.arange(6)) / 1000)
    assert str(ds["time"].values[2]) == "2024-05-06T08:02:00.501000000"
    log.write_text("\n".join(["file,page,begin,ms", *rows[:4]]) + "\n")
    with pytest.raises(LoaderError, match="frame 4 of the file is not in the log"):
        op.load(tmp_path / "a.tif", loader="tiff-stack", timezone="UTC", times_from=told | {"file": str(log)})
    log.write_text("\n".join(["file,page,begin,ms", *rows, rows[0]]) + "\n")
    with pytest.raises(LoaderError, match="names a frame again"):
        op.load(tmp_path / "a.tif", loader="tiff-stack", timezone="UTC", times_from=told | {"file": str(log)})


# --------------------------------------------------------------------------- X-ray microscopes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pictures_of_a_microscope(tmp_path: Path, dtype: str) -> None:
    stack = (STACK // 300).astype(dtype)
    ds = op.load(microscope(tmp_path / "a.txrm", stack, DATES), loader="xrm", timezone="America/Chicago")
    assert_valid_series(ds)
    assert same(ds, stack)
    assert str(ds["time"].values[1]) == "2016-07-02T22:52:17.000000000"
    assert ds["energy"].values.tolist() == [8353.0] * 6
    assert ds["angle"].values.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(ds.attrs["pixel_size"], 0.0389, rtol=1e-6)
    assert ds.attrs["time_uncertainty_s"] == 50.0


def test_more_than_a_hundred_pictures(tmp_path: Path) -> None:
    stack = np.arange(103 * 16 * 16, dtype=np.uint16).reshape(103, 16, 16)
    ds = xrm.load(microscope(tmp_path / "a.txrm", stack, ["07/02/16 17:51:52"] * 103))
    assert same(ds, stack)


def test_dates_of_a_microscope(tmp_path: Path) -> None:
    ds = xrm.load(microscope(tmp_path / "a.xrm", STACK[:1], ["25/02/16 17:51:52.5"]))
    assert str(ds["source_time"].values[0]) == "2016-02-25T17:52:17.500000000"
    path = microscope(tmp_path / "b.xrm", STACK[:1], ["03/02/16 17:51:52"])
    assert str(xrm.load(path)["source_time"].values[0])[:10] == "2016-03-02", "the month stands first"
    assert str(xrm.load(path, date_format="%d/%m/%y %H:%M:%S")["source_time"].values[0])[:10] == "2016-02-03"
    with pytest.raises(LoaderError, match="dates"):
        xrm.load(microscope(tmp_path / "c.xrm", STACK[:1], ["99/99/16 17:51"]))


def test_a_microscope_file_without_pictures(tmp_path: Path) -> None:
    path = microscope(tmp_path / "a.xrm", STACK[:1], DATES[:1], DataType=b"\x07\0\0\0")
    with pytest.raises(LoaderError, match="DataType 7"):
        xrm.load(path)
    path = microscope(tmp_path / "b.xrm", STACK[:1], DATES[:1], ImageWidth=b"\xff\xff\xff\x7f")
    with pytest.raises(LoaderError, match="no picture"):
        xrm.load(path)
    path = microscope(tmp_path / "c.xrm", STACK[:1], DATES[:1], ImagesTaken=b"\xff\xff\xff\x7f")
    with pytest.raises(LoaderError, match="cut off"):
        xrm.load(path)
    with pytest.raises(LoaderError, match="no such frame"):
        images.read(microscope(tmp_path / "d.xrm", STACK[:1], DATES[:1]), "", 1)


def pages_by_pillow(path: Path) -> None:
    pages = [Image.fromarray(one) for one in STACK]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def pages_by_tifffile(path: Path) -> None:
    with tifffile.TiffWriter(path, bigtiff=True, byteorder=">") as out:
        for one in STACK:
            out.write(one, contiguous=False)


@pytest.mark.parametrize(
    ("write", "left"),
    [
        (lambda path: tifffile.imwrite(path, STACK), 3),
        (lambda path: tifffile.imwrite(path, STACK, byteorder=">"), 3),
        (lambda path: tifffile.imwrite(path, STACK, metadata=None), 1),
        (lambda path: tifffile.imwrite(path, STACK, ome=True), 1),
        (pages_by_pillow, 4),
        (pages_by_tifffile, 4),
    ],
    ids=["shaped", "shaped, big-endian", "plain", "OME", "Pillow", "BigTIFF, page by page"],
)
def test_a_stack_that_was_cut_off_says_so(write: Any, left: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path)
    assert same(tiff_stack.load(path))
    assert not tiff_stack.load(path)["quality"].values.any()
    path.write_bytes(path.read_bytes()[: int(0.58 * path.stat().st_size)])
    with pytest.warns(UserWarning, match="cut off"):
        ds = tiff_stack.load(path)
    assert ds.sizes["time"] == left
    assert ds["quality"].values.tolist() == [0] * (left - 1) + [int(Quality.INTERRUPTED)]
    if left == 4:  # the directory comes before the pixels: the last frame is known, but not all of it is there
        with pytest.raises(LoaderError):
            pixels(ds, left - 1)
        ds = ds.isel(time=slice(left - 1))
    assert same(ds, STACK[: ds.sizes["time"]]), "what is there is right"


def test_pixels_missing_at_the_very_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pages_by_pillow(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="pixels of frame 5 would end"):
        ds = tiff_stack.load(path)
    assert ds["quality"].values.tolist() == [0] * 5 + [int(Quality.INTERRUPTED)]


# --------------------------------------------------------------------------- HDF5


def test_a_bare_stack_in_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["movie/frames"] = STACK
    ds = op.load(tmp_path / "a.h5", loader="hdf5-stack", start="2024-05-06T10:00:00", period="2 s", pixel_size=["1.3 um", "1.4 um"], timezone="UTC")
    assert same(ds)
    assert (np.diff(ds["time"].values) == np.timedelta64(2, "s")).all()
    assert ds.attrs["pixel_size"] == [1.3, 1.4]
    assert ds.attrs["frames_of"] == "imaging"


@pytest.mark.parametrize(("written", "zone"), [("2024-05-06T10:00:00+02:00", None), ("2024-05-06T10:00:00", "Europe/Paris")])
def test_the_file_says_when_it_began_and_the_source_how_frames_follow(written: str, zone: str | None, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = written
        entry["data/frames"] = STACK
    for given in ({"period": "2 s"}, {"frame_time": "2 s"}, {"period": "2 s", "exposure": "1 s"}):
        ds = op.load(tmp_path / "a.h5", loader="hdf5-stack", timezone=zone, **given)
        begin = ds["time"].values - np.timedelta64(int(np.nan_to_num(ds["exposure"].values[0]) * 5e8), "ns")
        assert str(begin[0]) == "2024-05-06T08:00:00.000000000", given
        assert (np.diff(begin) == np.timedelta64(2, "s")).all(), given
    ds = op.load(tmp_path / "a.h5", loader="hdf5-stack", timezone="UTC", start="2024-01-01", period="2 s")
    assert str(ds["time"].values[1])[:19] == "2024-01-01T00:00:02", "start: wins over the file"
    with pytest.raises(LoaderError, match="period is not a positive time"):
        op.load(tmp_path / "a.h5", loader="hdf5-stack", timezone=zone, period=-2.0)


@pytest.mark.parametrize("exposure", [{}, {"exposure": "1 s"}])
def test_the_same_pictures_have_the_same_times_in_every_format(exposure: dict[str, str], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["movie/frames"] = STACK
    said = {"start": "2024-05-06T10:00:00Z", "period": "2 s", **exposure}
    tiff, hdf5 = (op.load(tmp_path / f"a.{kind}", loader=f"{loader}-stack", **said) for kind, loader in (("tif", "tiff"), ("h5", "hdf5")))
    np.testing.assert_array_equal(tiff["time"], hdf5["time"])
    np.testing.assert_array_equal(tiff["exposure"], hdf5["exposure"])
    assert np.isnan(hdf5["exposure"].values).all() == (not exposure), "nobody said how long"


def test_a_picture_alone_is_one_frame(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("dark beside it", {"movie/dark": STACK[1]}), ("table beside it", {"movie/log": np.zeros((40, 3))})):
        with h5py.File(tmp_path / f"{name}.h5", "w") as h5:
            h5["movie/frame"] = STACK[0]
            for place, values in more.items():
                h5[place] = values
        ds = op.load(tmp_path / f"{name}.h5", loader="hdf5-stack", start="2024-05-06T10:00:00", timezone="UTC")
        assert same(ds, STACK[:1]), name
        assert str(ds["time"].values[0])[:19] == "2024-05-06T10:00:00"
    with h5py.File(tmp_path / "two.h5", "w") as h5:
        h5["movie/left"], h5["movie/right"] = STACK[0], STACK[1]
    with pytest.raises(LoaderError, match="none is named"):
        hdf5_stack.load(tmp_path / "two.h5")
    assert same(hdf5_stack.load(tmp_path / "two.h5", data="/movie/right"), STACK[1:2])
    with h5py.File(tmp_path / "stack.h5", "w") as h5:
        h5["movie/frames"], h5["movie/sum"] = STACK, STACK.sum(axis=0)
    assert same(hdf5_stack.load(tmp_path / "stack.h5")), "a stack comes before a picture"


def test_frames_without_times_are_not_laid_on_one_another(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["movie/frames"] = STACK
    for name, loader in (("a.tif", "tiff-stack"), ("a.h5", "hdf5-stack")):
        with pytest.raises(LoaderError, match="does not say when its frames were taken"):
            op.load(tmp_path / name, loader=loader, start="2024-05-06T10:00:00", timezone="UTC")
        ds = op.load(tmp_path / name, loader=loader, start="2024-05-06T10:00:00", frame_time="2 s", timezone="UTC")
        assert (np.diff(ds["time"].values) == np.timedelta64(2, "s")).all()


def test_what_area_detector_writes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["entry/data/data"] = STACK
        h5["entry/instrument/NDAttributes/NDArrayTimeStamp"] = 1.0e9 + np.arange(6) * 0.5
    ds = op.load(tmp_path / "a.h5", loader="hdf5-stack")
    assert str(ds["time"].values[1]) == "2021-09-09T01:46:40.500000000"
    assert ds.attrs["timezone_source"] == "file"


def nxtomo(path: Path) -> Path:
    with h5py.File(path, "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXtomo"
        entry["start_time"] = "2024-05-06T10:00:00+02:00"
        inside = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], inside.attrs["NX_class"] = "NXinstrument", "NXdetector"
        inside["data"] = STACK
        inside["image_key"] = np.array([1, 2, 0, 0, 0, 0])
        inside["count_time"] = 1.5
        for axis in "xy":
            inside[f"{axis}_pixel_size"] = 6.5e-6
            inside[f"{axis}_pixel_size"].attrs["units"] = "m"
    return path


def test_nxtomo(tmp_path: Path) -> None:
    path = nxtomo(tmp_path / "tomo.nx")
    ds = op.load(path, loader="hdf5-stack")
    assert same(ds)
    assert ds["image_key"].values.tolist() == [1, 2, 0, 0, 0, 0]
    np.testing.assert_allclose(ds.attrs["pixel_size"], 6.5)
    assert claimed_by(path) == {"hdf5-stack": "images, NXtomo"}
    assert same(op.load(path, loader="hdf5-stack", where={"image_key": 0}), STACK[2:])


def test_data_exchange(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as h5:
        h5["exchange/data"], h5["exchange/data_white"], h5["exchange/data_dark"] = STACK, STACK[:2] + 1, STACK[:1]
    assert claimed_by(path) == {"hdf5-stack": "images, Data Exchange (6 x 40 x 50)"}
    assert same(hdf5_stack.load(path, data="/exchange/data_white"), STACK[:2] + 1)
    assert same(hdf5_stack.load(path, data="/exchange/data"))


# --------------------------------------------------------------------------- measured, damaged


@pytest.mark.real_data
def test_slices_of_a_cell(shared_data: Path) -> None:
    paths = sorted((shared_data / "imaging/mpj_xct_MIT").glob("im*.tif"))
    ds = op.load(str(shared_data / "imaging/mpj_xct_MIT/im*.tif"), loader="tiff-stack", start="2024-01-01", timezone="UTC")
    assert ds.sizes["time"] == len(paths) == 4
    for k, path in enumerate(paths):
        np.testing.assert_array_equal(pixels(ds, k), np.array(Image.open(path)))
        assert claimed_by(path) == {"tiff-stack": "images, TIFF (1 x 728 x 728)"}


@pytest.mark.real_data
def test_a_battery_particle_under_x_rays(shared_data: Path) -> None:
    folder = shared_data / "imaging/xanespy_GPL3/aps_operando_txm"
    ds = op.load(folder / "fov03_xanesocv_8353_0eV.xrm", loader="xrm", timezone="America/Chicago")
    assert ds["energy"].values[0] == pytest.approx(8353.03, abs=0.01)
    assert ds.attrs["pixel_size"] == pytest.approx([0.03895, 0.03895], abs=1e-5)
    assert str(ds["source_time"].values[0])[:13] == "2016-07-02T22"
    assert claimed_by(folder / "fov03_xanesocv_8353_0eV.xrm") == {"xrm": "images, X-ray microscope (1 x 1024 x 1024)"}
    out = op.reduce(ds, {"reducer": "imaging", "flat": {"file": str(folder / "ref_xanesocv_8353_0eV.xrm")}, "quantity": "optical_density"})
    density = out["reduced"]["optical_density"].values[0]
    assert np.isfinite(density).mean() > 0.99
    assert -0.5 < np.nanmedian(density) < 3


def _whole(module: Any, path: Path) -> None:
    ds = module.load(path)
    for k in range(ds.sizes["time"]):
        pixels(ds, k)


@pytest.mark.filterwarnings("ignore:.*the stack is cut off")
def test_damaged_files(tmp_path: Path) -> None:
    small = STACK[:, :18, :20]
    tifffile.imwrite(tmp_path / "ij.tif", small, imagej=True, metadata={"finterval": 1.0})
    tifffile.imwrite(
        tmp_path / "ome.tif", small, ome=True, compression="zlib", metadata={"axes": "TYX", "Plane": {"DeltaT": [1.0 * k for k in range(6)]}}
    )
    microscope(tmp_path / "a.xrm", small[:2], DATES[:2])
    nxtomo(tmp_path / "a.h5")
    for name, module in (("ij.tif", tiff_stack), ("ome.tif", tiff_stack), ("a.xrm", xrm), ("a.h5", hdf5_stack)):
        raw = (tmp_path / name).read_bytes()
        for seed in range(3):
            refused = only_operando_errors(lambda path, module=module: _whole(module, path), tmp_path / f"bad_{name}", raw, seed=seed, lines=False)
            assert refused > 10
        head = raw[:2000]
        for seed in range(3):
            rng = np.random.default_rng(seed)
            for _ in range(40):  # the header alone: what allocates and loops
                bad = bytearray(raw)
                bad[int(rng.integers(len(head)))] = int(rng.integers(256))
                target = tmp_path / f"head_{name}"
                target.unlink(missing_ok=True)
                target.write_bytes(bytes(bad))
                try:
                    _whole(module, target)
                    claimed_by(target)
                except OperandoError:
                    pass


@pytest.mark.parametrize("module", [tiff_stack, xrm, hdf5_stack])
def test_another_format(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "text.dat"
    path.write_text("1 2 3\n")
    with pytest.raises(LoaderError):
        module.load(path)


def test_pictures_in_files_of_their_own_count_from_their_first(tmp_path: Path) -> None:
    times = {"loader": "tiff-stack", "start": "2024-05-06T08:00:00", "period": "60 s", "timezone": "UTC"}
    picture = np.full((20, 30), 7, np.uint16)
    for name in ("f_000", "f_001", "f_002", "g_1", "g_2", "alone", "one", "another"):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture, metadata=None)
    begin = np.datetime64("2024-05-06T08:00:00", "ns") + np.arange(3) * np.timedelta64(60, "s")
    np.testing.assert_array_equal(op.load(tmp_path / "f_*.tif", **times).time.values, begin)
    np.testing.assert_array_equal(op.load(tmp_path / "g_*.tif", **times).time.values, begin[:2])
    assert op.load(tmp_path / "g_2.tif", **times).time.values[0] == begin[1]
    assert op.load(tmp_path / "f_*.tif", first_frame=1, **times).time.values[0] == begin[0] - np.timedelta64(60, "s"), "what is written counts"
    assert op.load(tmp_path / "alone.tif", **times).time.values[0] == begin[0], "the only one is the first"
    with pytest.raises(LoaderError, match=r"needs a frame number[\s\S]*one of several"):
        op.load([tmp_path / "one.tif", tmp_path / "another.tif"], **times)
