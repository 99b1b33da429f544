"""Masters as facilities write them, each described by a few lines of YAML."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from operando.contract import LoaderError, canonical, faults
from operando.loaders.hdf5_path import load

ENERGY = np.linspace(8300.0, 8400.0, 30)
TWO_THETA = np.linspace(5.0, 60.0, 40)
STAMP = "2026-06-03T10:00:00+02:00"
UNIX = 1780473600.0  # the same moment
EPICS = UNIX - 631152000.0


def sound(ds) -> bool:
    return [f for f in faults(canonical(ds), as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


def utc(ds) -> list[str]:
    return [str(t)[:23] for t in ds.source_time.values - (ds.exposure.values * 5e8).astype("timedelta64[ns]")]


def entry(file: h5py.File, name: str, **attrs) -> h5py.Group:
    group = file.create_group(name)
    group.attrs["NX_class"] = "NXentry"
    return group


def test_nxxas_of_two_chambers(tmp_path: Path):
    with h5py.File(tmp_path / "a.nxs", "w") as f:
        for k in range(3):
            g = entry(f, f"entry{k}")
            g["definition"], g["start_time"], g["end_time"] = "NXxas", f"2026-06-03T10:0{k}:00+02:00", f"2026-06-03T10:0{k}:30+02:00"
            g["data/energy"] = ENERGY / 1000
            g["data/energy"].attrs["units"] = "keV"
            g["instrument/incoming_beam/data"] = np.full(ENERGY.size, 1000 * (k + 1))
            g["instrument/absorbed_beam/data"] = 1000 * (k + 1) * np.exp(-ENERGY / 1000)
            g["instrument/absorbed_beam/data"][0] = 0
    signals = {"mu": {"ln": ["instrument/incoming_beam/data", "instrument/absorbed_beam/data"]}, "i0": "instrument/incoming_beam/data"}
    options = {"technique": "xas", "axis": "data/energy", "start_time": "start_time", "end_time": "end_time"}
    ds = load(tmp_path / "a.nxs", signals=signals, **options)
    assert utc(ds) == ["2026-06-03T08:00:00.000", "2026-06-03T08:01:00.000", "2026-06-03T08:02:00.000"]
    assert list(ds.exposure.values) == [30.0] * 3
    whole = canonical(ds)
    np.testing.assert_allclose(whole.energy, ENERGY)
    np.testing.assert_allclose(whole.mu[:, 1:], np.tile(ENERGY[1:] / 1000, (3, 1)))
    assert np.isnan(whole.mu[:, 0]).all()
    np.testing.assert_allclose(pickle.loads(pickle.dumps(ds)).mu[1:2, [3, 5]], [ENERGY[[3, 5]] / 1000])
    assert sound(ds)
    other = load(tmp_path / "a.nxs", signals={"mu": {"ratio": ["instrument/absorbed_beam/data", "instrument/incoming_beam/data"]}}, **options)
    np.testing.assert_allclose(other.mu[2, 4], np.exp(-ENERGY[4] / 1000))
    for wrong in ({"ln": "a"}, {"ln": ["a"]}, {"ln": ["a", "b"], "path": "c"}):
        with pytest.raises(LoaderError, match="is no ratio"):
            load(tmp_path / "a.nxs", signals={"mu": wrong}, **options)
    with pytest.raises(LoaderError, match="no entry has mu"):
        load(tmp_path / "a.nxs", signals={"mu": {"ln": ["instrument/incoming_beam/data", "instrument/it"]}}, **options)


def test_bliss_scans_with_a_slower_second_part(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for k in range(1, 4):
            for part, n in ((1, 6), (2, 2)):
                g = entry(f, f"{k}.{part}")
                g["start_time"], g["title"] = STAMP, "fscan"
                g["measurement/epoch"] = UNIX + 100 * k + np.arange(n) * 60 / n
            f[f"{k}.1/measurement/p3_integrate"] = np.full((6, 40), k, "f4")
            f[f"{k}.1/p3_integrate/integrated/tth"] = TWO_THETA
            f[f"{k}.1/p3_integrate/integrated/tth"].attrs["units"] = "deg"
            f[f"{k}.1/measurement/elapsed_time"] = np.arange(6.0)
            f[f"{k}.2/measurement/furnace"] = np.arange(2.0) + k
    ds, furnace = load(
        tmp_path / "a.h5",
        preset="bliss",
        series={
            "xrd": {"signals": {"intensity": "measurement/p3_integrate"}, "axis": "p3_integrate/integrated/tth", "count_time": "9 s"},
            "furnace": {"technique": "sensor", "entries": "{number}.2", "signals": {"temperature": {"path": "measurement/furnace", "units": "degC"}}},
        },
    )
    assert ds.sizes == {"time": 18, "two_theta": 40}
    assert utc(ds)[6:8] == ["2026-06-03T08:03:20.000", "2026-06-03T08:03:30.000"]
    np.testing.assert_allclose(furnace.temperature, [1, 2, 2, 3, 3, 4])
    assert sound(ds)
    assert sound(furnace)


def test_one_root_entry_of_any_name(tmp_path: Path):
    """As the flyscans of SOLEIL: stamp with an offset without a colon, relative times, energies in the scan data."""
    with h5py.File(tmp_path / "flyscan_00012.nxs", "w") as f:
        g = entry(f, "flyscan_00012_sample A")
        g["start_time"] = np.array([b"2026-06-03T10:00:00.500000+0200"])
        g["scan_data/mu"] = np.outer(np.arange(1.0, 5.0), np.ones(30))
        g["scan_data/energy"] = ENERGY
        g["scan_data/t"] = np.arange(4) * 12.5
    ds = load(
        tmp_path / "flyscan_00012.nxs",
        technique="xas",
        signals={"mu": "scan_data/mu"},
        axis={"energy": {"path": "scan_data/energy", "units": "eV"}},
        start_time="start_time",
        frame_times={"path": "scan_data/t", "kind": "relative"},
        count_time="12.5 s",
    )
    assert utc(ds)[1] == "2026-06-03T08:00:13.000"
    assert sound(ds)
    with pytest.raises(LoaderError, match="scan_data/mu"):
        load(tmp_path / "flyscan_00012.nxs", technique="xas", signals={"mu": "scan_data/mux"}, axis="scan_data/energy", start_time="start_time")


def test_external_links_of_a_scan_file(tmp_path: Path):
    """As at Diamond: the entry links to the detector's own file, whose counts come as (frames, 1, channels)."""
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "detector.h5", "w") as f:
        f["entry/data/data"] = np.arange(5 * 40, dtype="u4").reshape(5, 1, 40)
    with h5py.File(tmp_path / "i18-1.nxs", "w") as f:
        g = entry(f, "entry1")
        g["start_time"], g["scan/tth"], g["scan/count_time"] = STAMP, TWO_THETA, 0.5 * np.ones(5)
        g["detector/data"] = h5py.ExternalLink("data/detector.h5", "/entry/data/data")
        g["timestamps"] = np.array([f"2026-06-03T10:00:0{i}.250+02:00" for i in range(5)], dtype=h5py.string_dtype())
    options = {
        "technique": "xrd",
        "signals": {"intensity": "detector/data"},
        "axis": {"two_theta": {"path": "scan/tth", "units": "deg"}},
        "start_time": "start_time",
        "frame_times": "timestamps",
        "count_time": "scan/count_time",
        "wavelength": "0.7 angstrom",
    }
    ds = load(tmp_path / "i18-1.nxs", **options)
    assert ds.sizes == {"time": 5, "q": 40}
    np.testing.assert_array_equal(ds.intensity[2], np.arange(80, 120))
    assert ds.intensity.dtype.kind == "u"
    assert utc(ds)[4] == "2026-06-03T08:00:04.250"
    assert sound(ds)
    (tmp_path / "data" / "detector.h5").unlink()
    from operando.hdf5 import close_files

    close_files()
    with pytest.raises(LoaderError, match="no entry has intensity"):
        load(tmp_path / "i18-1.nxs", **options)


def test_area_detector_with_the_epoch_of_epics(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        g = entry(f, "entry")
        g["data/data"] = np.ones((4, 40), "u2")
        g["instrument/NDAttributes/NDArrayTimeStamp"] = EPICS + np.arange(4) * 2
        g["instrument/NDAttributes/NDArrayEpicsTSSec"] = (EPICS + np.arange(4) * 2).astype("u4")
        g["instrument/NDAttributes/Temperature"] = np.arange(4.0)
        f["axis"] = TWO_THETA
    options = {
        "technique": "xrd",
        "signals": {"intensity": "data/data"},
        "axis": {"two_theta": {"path": "/axis", "units": "deg"}},
        "count_time": "1 s",
    }
    for name in ("NDArrayTimeStamp", "NDArrayEpicsTSSec"):
        ds = load(tmp_path / "a.h5", frame_times={"path": f"instrument/NDAttributes/{name}", "kind": "epics"}, **options)
        assert utc(ds)[:2] == ["2026-06-03T08:00:00.000", "2026-06-03T08:00:02.000"]
    with pytest.raises(LoaderError, match="epics"):
        load(tmp_path / "a.h5", frame_times="instrument/NDAttributes/NDArrayTimeStamp", **options)


def test_sardana_scan_of_relative_times(tmp_path: Path):
    with h5py.File(tmp_path / "scan_00003.nxs", "w") as f:
        g = entry(f, "scan")
        g["start_time"], g["end_time"] = "2026-06-03T10:00:00.123456+0200", "2026-06-03T10:01:00+0200"
        g["data/lambda"] = np.ones((3, 40), "i4")
        g["data/timestamp"] = [0.5, 10.5, 20.5]
        g["data/q"] = TWO_THETA / 10
        g["data/q"].attrs["units"] = "1/Angstrom"
        g["data/exposure"] = [8.0, 8.0, 8.0]
        g["instrument/collection/samx"] = 3.0
    ds = load(
        tmp_path / "scan_00003.nxs",
        technique="xrd",
        signals={"intensity": "data/lambda"},
        axis="data/q",
        start_time="start_time",
        frame_times={"path": "data/timestamp", "kind": "relative", "marks": "end"},
        count_time="data/exposure",
        motors="instrument/collection",
    )
    assert utc(ds)[0] == "2026-06-03T07:59:52.623"
    assert list(ds.motor_samx.values) == [3.0] * 3
    assert sound(ds)


def test_sensor_logs_of_their_own_clocks(tmp_path: Path):
    with h5py.File(tmp_path / "log.h5", "w") as f:
        f["furnace/value"], f["furnace/time"] = np.arange(50.0), UNIX + np.arange(50.0)
        f["furnace/value"].attrs["units"] = "degC"
        f["pressure/value"], f["pressure/time"] = np.arange(3.0), np.arange(3) * 20.0
        f["pressure/value"].attrs["units"] = "mbar"
        f["pressure/time"].attrs["units"] = f"seconds since {STAMP}"
        f["valve/value"], f["valve/time"] = np.array([0, 1], "i1"), np.array([b"2026-06-03T08:00:00Z", b"2026-06-03T08:00:40Z"])
    many = load(
        tmp_path / "log.h5",
        technique="sensor",
        series={
            "furnace": {"signals": {"temperature": "furnace/value"}, "frame_times": {"path": "furnace/time", "kind": "unix"}},
            "gas": {"signals": {"pressure": "pressure/value"}, "frame_times": "pressure/time"},
            "valve": {"signals": {"valve": {"path": "valve/value", "sampling": "step"}}, "frame_times": "valve/time"},
        },
    )
    assert [ds.sizes["time"] for ds in many] == [50, 3, 2]
    assert [utc(ds)[1] for ds in many] == ["2026-06-03T08:00:01.000", "2026-06-03T08:00:20.000", "2026-06-03T08:00:40.000"]
    assert many[2].valve.attrs["sampling"] == "step"
    assert all(sound(ds) for ds in many)
