"""Detector frames by reference, from files that the libraries of the field wrote and from measured ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
from fuzzing import only_operando_errors

import operando as op
from operando import images
from operando.contract import LoaderError, Quality
from operando.loaders import claimed_by
from operando.loaders.xrd_frames import beside, load
from operando.testing import assert_valid_series

STACK = np.random.default_rng(0).poisson(2.0, (6, 60, 70)).astype(np.uint32)
PONI = """Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4}
Distance: 0.1
Poni1: 0
Poni2: 0
Wavelength: 5e-11
"""


def eiger(folder: Path, *, each: int = 3, files: int = 2, trigger: int = 1, **detector: Any) -> Path:
    """Write a master as an Eiger does, and its files of frames."""
    for k in range(files):
        with h5py.File(folder / f"cell_data_{k + 1:06d}.h5", "w") as h5:
            h5.create_dataset("entry/data/data", data=STACK[each * k : each * (k + 1)], chunks=(1, 60, 70), **hdf5plugin.Bitshuffle())
    path = folder / "cell_master.h5"
    with h5py.File(path, "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        for k in range(files):
            entry[f"data/data_{k + 1:06d}"] = h5py.ExternalLink(f"cell_data_{k + 1:06d}.h5", "/entry/data/data")
        inside = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], inside.attrs["NX_class"] = "NXinstrument", "NXdetector"
        inside["count_time"], inside["frame_time"] = 0.9, 1.0
        special = inside.create_group("detectorSpecific")
        special["data_collection_date"] = "2026-06-03T10:00:00.250"
        special["nimages"], special["ntrigger"] = each * files // trigger, trigger
        special["photon_energy"] = 30000.0
        special["countrate_correction_count_cutoff"] = 4000
        special["pixel_mask"] = np.zeros((60, 70), np.uint32)
        for name, value in detector.items():
            inside[name] = value
    return path


def test_an_eiger_master(tmp_path: Path) -> None:
    path = eiger(tmp_path)
    ds = load(path)
    assert ds.sizes["time"] == 6
    assert ds["exposure"].values.tolist() == [0.9] * 6
    assert str(ds["time"].values[1]) == "2026-06-03T10:00:01.700000000"
    told = json.loads(ds.attrs["detector"])
    assert told == {
        "pixel_mask": "/entry/instrument/detector/detectorSpecific/pixel_mask",
        "saturation": 4000.0,
        "wavelength_in_file": pytest.approx(0.413280661),
    }
    assert ds.attrs["detector_shape"] == [60, 70]
    for k in range(6):
        np.testing.assert_array_equal(images.read(*(ds[n].values[k] for n in ("file", "dataset", "index"))), STACK[k])
    assert {p.name for p in beside(path)} == {"cell_data_000001.h5", "cell_data_000002.h5"}
    assert claimed_by(path) == {"xrd-frames": "detector frames, Eiger master (6 x 60 x 70)"}
    assert claimed_by(tmp_path / "cell_data_000001.h5") == {}


def test_an_eiger_that_is_not_all_there(tmp_path: Path) -> None:
    path = eiger(tmp_path, each=2, files=3)
    (tmp_path / "cell_data_000003.h5").unlink()
    ds = load(path)
    assert ds.sizes["time"] == 4
    assert (ds["quality"] & int(Quality.INTERRUPTED)).all()
    eiger(tmp_path, each=2, files=3)
    (tmp_path / "cell_data_000002.h5").unlink()
    ds = load(path)
    assert ds.sizes["time"] == 6, "what follows keeps its time"
    with pytest.raises(LoaderError, match="cell_data_000002"):
        images.read(ds["file"].values[2], ds["dataset"].values[2], int(ds["index"].values[2]))
    for k in (1, 3):
        (tmp_path / f"cell_data_00000{k}.h5").unlink()
    with pytest.raises(LoaderError, match="missing"):
        load(path)


def test_triggers_need_times(tmp_path: Path) -> None:
    path = eiger(tmp_path, trigger=6)
    with pytest.raises(LoaderError, match="6 triggers"):
        load(path)
    ds = load(path, frame_time="10 s")
    assert np.diff(ds["time"].values).astype(int).tolist() == [10_000_000_000] * 5


def nexus(path: Path, **more: Any) -> Path:
    with h5py.File(path, "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = "2026-06-03T10:00:00+02:00"
        inside = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], inside.attrs["NX_class"] = "NXinstrument", "NXdetector"
        inside["data"] = STACK
        inside["count_time"] = 500.0
        inside["count_time"].attrs["units"] = "ms"
        entry["measurement/timestamp"] = np.arange(6) * 12.0
        entry["measurement/monitor"] = np.arange(6) + 100.0
        entry["measurement/t"] = np.linspace(20, 25, 6)
        entry["measurement/t"].attrs["units"] = "degC"
        entry["instrument/positioners/samx"] = 1.5
        for name, value in more.items():
            entry[name] = value
    return path


def test_nexus_with_what_was_measured_beside(tmp_path: Path) -> None:
    ds = load(nexus(tmp_path / "a.h5"), coords={"temperature": "measurement/t"}, motors="instrument/positioners")
    assert ds["monitor"].values.tolist() == [100.0, 101, 102, 103, 104, 105]
    assert ds["monitor"].attrs["units"] == "counts"
    assert ds["temperature"].attrs["units"] == "degC"
    assert ds["motor_samx"].values.tolist() == [1.5] * 6
    assert ds.attrs["timezone_source"] == "file"
    assert str(ds["time"].values[1]) == "2026-06-03T08:00:12.250000000"
    with pytest.raises(LoaderError, match="no monitor"):
        load(tmp_path / "a.h5", monitor="measurement/i0")
    with pytest.raises(LoaderError, match="there is no pressure"):
        load(tmp_path / "a.h5", coords={"pressure": "measurement/p"})


def test_of_two_detectors_one_is_named(tmp_path: Path) -> None:
    path = nexus(tmp_path / "a.h5", **{"instrument/other": np.zeros((6, 30, 30), np.uint16)})
    with pytest.raises(LoaderError, match="several detectors") as told:
        load(path)
    assert "data: instrument/" in str(told.value)
    assert load(path, data="instrument/other").attrs["detector_shape"] == [30, 30]
    with pytest.raises(LoaderError, match="no frames"):
        load(path, data="instrument/none")


def test_a_file_that_was_not_finished(tmp_path: Path) -> None:
    path = nexus(tmp_path / "a.h5")
    with h5py.File(path, "a") as h5:
        del h5["entry/measurement/timestamp"]
        h5["entry/measurement/timestamp"] = np.array([0.0, 12, 24, np.nan, np.nan, np.nan])
    ds = load(path)
    assert ds.sizes["time"] == 3
    assert (ds["quality"] & int(Quality.INTERRUPTED)).all()


CBF = """# Detector: PILATUS3 2M, S/N 24-0118
# 2019-05-14T12:13:14.500
# Exposure_time 0.9970000 s
# Exposure_period 1.0000000 s
# Count_cutoff 1048500 counts
# Wavelength 0.7293 A
# Start_angle 12.5 deg.
"""


def cbf(path: Path, text: str = CBF) -> Path:
    image = fabio.cbfimage.CbfImage(data=STACK[0].astype(np.int32))
    image.header["_array_data.header_contents"] = text
    image.header["_array_data.header_convention"] = "PILATUS_1.2"
    image.write(str(path))
    return path


def test_cbf_of_a_pilatus(tmp_path: Path) -> None:
    ds = load(cbf(tmp_path / "a.cbf"), coords={"angle": "Start_angle"})
    assert str(ds["time"].values[0]) == "2019-05-14T12:13:14.998500000"
    assert ds["exposure"].values[0] == 0.997
    assert ds["angle"].values[0] == 12.5
    assert json.loads(ds.attrs["detector"]) == {"saturation": 1048500.0, "wavelength_in_file": 0.7293}
    assert ds.attrs["time_uncertainty_s"] == pytest.approx(0.001 / 12**0.5)
    np.testing.assert_array_equal(images.read(ds["file"].values[0]), STACK[0])
    assert claimed_by(tmp_path / "a.cbf") == {"xrd-frames": "detector frame, CBF"}
    assert claimed_by(cbf(tmp_path / "mask.cbf")) == {}
    months = load(cbf(tmp_path / "b.cbf", CBF.replace("2019-05-14T12:13:14.500", "2019/May/14 12:13:14.500")))
    assert months["time"].values[0] == ds["time"].values[0]
    with pytest.raises(LoaderError, match="no number monitor"):
        load(tmp_path / "a.cbf", monitor="diode")
    with pytest.raises(LoaderError, match="no time|no absolute"):
        op.load(cbf(tmp_path / "c.cbf", "# nothing\n"), "xrd-frames", timezone="Europe/Paris")


def test_edf_with_counters(tmp_path: Path) -> None:
    first = fabio.edfimage.EdfImage(
        data=STACK[0],
        header={
            "time_of_day": "1780473600.25",
            "count_time": "2.0",
            "counter_mne": "sec mon pico",
            "counter_pos": "2 12345 0.5",
            "motor_mne": "samx",
            "motor_pos": "3.25",
        },
    )
    first.append_frame(
        data=STACK[1], header={"time_of_day": "1780473603.25", "count_time": "2.0", "counter_mne": "sec mon pico", "counter_pos": "2 12000 0.5"}
    )
    first.write(str(tmp_path / "a.edf"))
    ds = load(tmp_path / "a.edf", monitor="mon")
    assert ds["monitor"].values.tolist() == [12345.0, 12000.0]
    assert [str(t) for t in ds["time"].values] == ["2026-06-03T08:00:01.250000000", "2026-06-03T08:00:04.250000000"]
    assert ds.attrs["timezone_source"] == "file"
    np.testing.assert_array_equal(images.read(ds["file"].values[1], "", 1), STACK[1])
    assert load(tmp_path / "a.edf", coords={"x": "samx"})["x"].values[0] == 3.25
    dated = fabio.edfimage.EdfImage(data=STACK[0], header={"Date": "14/05/2019 12:13:14"})
    dated.write(str(tmp_path / "b.edf"))
    ds = load(tmp_path / "b.edf", start_time={"path": "Date", "format": "%d/%m/%Y %H:%M:%S"})
    assert str(ds["time"].values[0]) == "2019-05-14T12:13:14.000000000"


def test_the_detector_is_said(tmp_path: Path) -> None:
    path = cbf(tmp_path / "a.cbf")
    (tmp_path / "geometry.poni").write_text(PONI)
    np.save(tmp_path / "mask.npy", np.zeros((60, 70)))
    ds = load(
        path, poni=str(tmp_path / "geometry.poni"), mask=[str(tmp_path / "mask.npy")], orientation="up-down", wavelength="30 keV", saturation=500
    )
    told = json.loads(ds.attrs["detector"])
    assert ds.attrs["geometry"] == PONI
    assert told["mask"] == [str(tmp_path / "mask.npy")]
    assert (told["orientation"], told["saturation"], told["wavelength"]) == ("up-down", 500.0, pytest.approx(0.41328066))
    for options, words in (
        ({"poni": str(tmp_path / "none.poni")}, "poni: cannot be opened"),
        ({"poni": str(path)}, "is no geometry"),
        ({"mask": "none.npy"}, "mask: there is no such file"),
        ({"flat": 3}, "flat: is not the name"),
        ({"orientation": "sideways"}, "orientation: is not known"),
        ({"saturation": -1}, "saturation: is no number"),
        ({"wavelength": "3 kg"}, "wavelength"),
        ({"entries": "*"}, "this is none"),
    ):
        with pytest.raises(LoaderError, match=words):
            load(path, **options)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    fabio.edfimage.EdfImage(data=STACK[0], header={"time_of_day": "1780473600.25"}).write(str(tmp_path / "b.edf"))
    fabio.tifimage.TifImage(data=STACK[0].astype(np.int32)).write(str(tmp_path / "c.tif"))
    for path in (cbf(tmp_path / "a.cbf"), tmp_path / "b.edf", tmp_path / "c.tif", nexus(tmp_path / "d.h5")):
        raw = path.read_bytes()

        def read(p: Path) -> None:
            claimed_by(p)
            beside(p)
            ds = op.load(p, "xrd-frames", timezone="Europe/Paris", start="2026-06-03T10:00:00")
            for k in range(ds.sizes["time"]):
                images.read(*(ds[n].values[k] for n in ("file", "dataset", "index")))

        assert only_operando_errors(read, tmp_path / f"damaged{path.suffix}", raw, seed=3, lines=False, each=8) > 4


@pytest.mark.real_data
def test_measured_files(shared_data: Path) -> None:
    folder = shared_data / "xrd2d"
    ds = load(next((folder / "dioptas_GPL3/lambda").glob("*.nxs")))
    assert ds.sizes["time"] == 10
    assert json.loads(ds.attrs["detector"]) == {"pixel_mask": "/entry/instrument/detector/pixel_mask", "saturation": 4095.0}
    assert ds["exposure"].values[0] == pytest.approx(0.1)
    assert ds.attrs["time_origin"] == "counter"
    ds = load(folder / "dioptas_GPL3/CeO2_Pilatus1M.tif")
    assert str(ds["time"].values[0]) == "2014-10-24T16:33:10.500000000"
    assert ds["exposure"].values[0] == 3.0
    assert json.loads(ds.attrs["detector"])["saturation"] == 1097223.0
    ds = load(next((folder / "gsas2_2DStrain_mar2300").glob("*.mar2300")))
    assert str(ds["time"].values[0]) == "2009-06-08T15:18:17.000000000", "middle of 60 s that end when the plate is read"
    assert ds.attrs["time_uncertainty_s"] == 30.0
    assert images.read(ds["file"].values[0]).shape == (2300, 2300)


def test_the_frames_of_the_example(root: Path) -> None:
    ds = op.load(root / "example_beamtime/xrd/A_000[1-9].h5", "xrd-frames", poni=str(root / "example_beamtime/xrd/geometry.poni"))
    assert ds.sizes["time"] == 144
    assert_valid_series(ds)
    assert ds["monitor"].attrs["units"] == "counts"
    with pytest.raises(LoaderError, match="cannot be opened as HDF5"):
        load(root / "example_beamtime/xrd/A_0010.h5")
