from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzzing import only_operando_errors

from operando.contract import ConfigError, LoaderError, OperandoError, Quality, canonical, faults
from operando.hdf5 import close_files
from operando.loaders import hdf5_entries, hdf5_path
from operando.loaders.hdf5_path import claims, load

Q = np.linspace(5.0, 60.0, 40)  # 1/nm
ENERGY = np.linspace(8300.0, 8400.0, 30)
MIDNIGHT = 1780437600  # 2026-06-03T00:00:00+02:00 as unix time, less two hours of offset: 22:00 UTC on the day before
XRD = {
    "signals": {"intensity": "measurement/p3_integrate"},
    "axis": "p3/q",
    "frame_times": {"path": "measurement/epoch", "kind": "unix"},
    "count_time": "2 s",
}
XAS = {"signals": {"mu": "measurement/mu"}, "axis": "energy", "end_time": "end_time"}
COMMON = {"entries": "entry_{number}", "start_time": "start_time", "coords": {"sample": "sample/name", "scan_title": "title", "position": "pos"}}


def pattern(k: int, frame: int) -> np.ndarray:
    return (1000 * k + 100 * frame + np.arange(Q.size)).astype("i4")


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """Two cells, two positions and two techniques in 24 entries of one file."""
    path = tmp_path / "master.h5"
    with h5py.File(path, "w") as f:
        for k in range(1, 25):
            g = f.create_group(f"entry_{k}")
            g.attrs["NX_class"] = "NXentry"
            g["start_time"] = f"2026-06-03T10:{k:02d}:00+02:00"
            g["title"] = "fscan" if k % 2 else "xasscan"
            g["sample/name"] = np.bytes_("cell A" if (k // 2) % 2 else "cell B")
            g["pos"] = 1 + (k // 4) % 2
            g["instrument/positioners/samx"] = 1.5 * k
            g["instrument/positioners/samx"].attrs["units"] = "mm"
            g["instrument/positioners/name"] = "not a number"
            n = 3 if k % 2 else 1
            if k % 2:
                frames = np.stack([pattern(k, i) for i in range(n)])
                g.create_dataset("measurement/p3_integrate", data=frames, compression="gzip", chunks=(1, Q.size))
                g["p3/q"] = Q
                g["p3/q"].attrs["units"] = "nm^-1"
                g["measurement/epoch"] = MIDNIGHT + 36000.0 + 60 * k + 5 * np.arange(n)
            else:
                g["measurement/mu"] = np.full(ENERGY.size, float(k))
                g["energy"] = ENERGY
                g["energy"].attrs["units"] = "eV"
                g["end_time"] = f"2026-06-03T10:{k:02d}:30+02:00"
            g["measurement/temperature"] = np.arange(n) + 20.0
            g["measurement/temperature"].attrs["units"] = "degC"
        f["log/value"] = np.arange(50.0)
        f["log/value"].attrs["units"] = "degC"
        f["log/time"] = np.arange(50.0) * 10
        f["log/time"].attrs["start"] = "2026-06-03T10:00:00+02:00"
    return path


def sound(ds) -> bool:
    return [f for f in faults(canonical(ds), as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


def small(tmp_path: Path, name: str = "a.h5", **content) -> Path:
    """One entry at the root of a file; a pair is (values, attributes)."""
    close_files()
    path = tmp_path / name
    with h5py.File(path, "w") as f:
        for key, value in {"q": (Q, {"units": "1/angstrom"}), "I": np.ones((4, Q.size)), **content}.items():
            values, attrs = value if isinstance(value, tuple) else (value, {})
            if values is not None:
                f[key] = values
                f[key].attrs.update(attrs)
    return path


SMALL = {"technique": "xrd", "entries": "", "signals": {"intensity": "I"}, "axis": "q"}


def test_one_master_of_two_cells_positions_and_techniques(master):
    xrd, xas, log = load(
        master,
        **COMMON,
        motors="instrument/positioners",
        series={
            "xrd": XRD,
            "xas": XAS,
            "furnace": {
                "technique": "sensor",
                "entries": "log",
                "start_time": None,
                "coords": {},
                "signals": {"temperature": "value"},
                "frame_times": "time",
            },
        },
    )
    assert [ds.attrs["technique"] for ds in (xrd, xas, log)] == ["xrd", "xas", "sensor"]
    assert [ds.attrs["series"] for ds in (xrd, xas, log)] == ["xrd", "xas", "furnace"]
    assert xrd.sizes == {"time": 36, "q": 40}
    assert xas.sizes == {"time": 12, "energy": 30}
    numbers = [int(name[6:]) for name in xrd.entry.values]
    assert numbers == [k for k in range(1, 25, 2) for _ in range(3)]  # numeric: entry_3 before entry_11
    for row, (k, frame) in enumerate(zip(numbers, [0, 1, 2] * 12, strict=True)):
        np.testing.assert_array_equal(xrd.intensity[row], pattern(k, frame))
    assert xrd.intensity.dtype == np.int32
    np.testing.assert_allclose(xrd.q, Q / 10)
    np.testing.assert_array_equal(xas.mu[:, 0], np.arange(2, 25, 2))
    # routing
    assert set(xrd.sample.values) == {"cell A", "cell B"}
    assert xrd["sample"].values[:6].tolist() == ["cell B"] * 3 + ["cell A"] * 3
    assert xrd.position.values[[0, 6, 24]].tolist() == [1, 2, 1]
    assert xrd.position.dtype.kind == "i"
    np.testing.assert_allclose(xrd.motor_samx, 1.5 * np.array(numbers))
    assert xrd.motor_samx.units == "mm"
    assert set(xas.scan_title.values) == {"xasscan"}
    # times
    assert xrd.attrs["timezone_source"] == "file"
    assert str(xrd.time.values[1]) == "2026-06-03T08:01:06.000000000"  # 10:01:05 + half of 2 s
    assert str(xas.time.values[0]) == "2026-06-03T08:02:15.000000000"
    assert set(xas.exposure.values) == {30.0}
    assert str(log.time.values[2]) == "2026-06-03T08:00:20.000000000"
    assert log.temperature.attrs["sampling"] == "continuous"
    assert all(sound(ds) for ds in (xrd, xas, log))


def test_signals_are_not_read(master, monkeypatch):
    read = []
    real = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key, **kw: read.append(self.name) or real(self, key, **kw))
    ds = canonical(load(master, technique="xrd", **COMMON, **XRD))
    faults(ds)
    assert not [name for name in read if name.endswith("p3_integrate")]
    read.clear()
    assert ds.isel(time=slice(3, 5)).intensity.values[1, 0] == pattern(3, 1)[0]
    assert {name for name in read if name.endswith("p3_integrate")} == {"/entry_3/measurement/p3_integrate"}
    again = pickle.loads(pickle.dumps(ds.isel(time=[0, 35])))
    np.testing.assert_array_equal(again.intensity[1], pattern(23, 2))


def test_match_keeps_some_entries(master):
    ds = load(master, technique="xrd", **COMMON, **XRD, match={"sample/name": "A$", "title": "^fscan"})
    assert set(ds["sample"].values) == {"cell A"}
    assert ds.sizes["time"] == 18
    with pytest.raises(LoaderError, match="regular expression"):
        load(master, technique="xrd", **COMMON, **XRD, match={"title": "("})


def test_a_missing_signal_names_what_there_is(master):
    with pytest.raises(LoaderError) as caught:
        load(master, technique="xrd", **{**COMMON, **XRD, "signals": {"intensity": "measurement/p3_integrated"}})
    text = str(caught.value)
    assert "expected: measurement/p3_integrated" in text
    assert re.search(r"entry_1 holds measurement/p3_integrate,", text)
    assert "master.h5" in text
    for change, message in (
        ({"axis": {"q": "p3/qq"}}, "not its axis(.|\n)*p3/q"),
        ({"start_time": "begin"}, "no start time(.|\n)*start_time"),
        ({"frame_times": "measurement/epochs"}, "no frame times(.|\n)*measurement/epoch"),
        ({"coords": {"temperature": "measurement/temperatur"}}, "coordinate temperature(.|\n)*measurement/temperature"),
        ({"entries": "scan_{number}"}, "no group fits entries(.|\n)*entry_1, entry_2"),
        ({"technique": "xr"}, "technique: is not known"),
        ({"signals": {"mu": "x"}}, "no signal of xrd"),
        ({"signals": {"intensity": 3}}, "not a path"),
        ({"signals": {"intensity": {"path": "x", "unit": "counts"}}}, "unknown key unit"),
        ({"axis": {"wavelength": "p3/q"}}, "axis: is not known"),
        ({"series": {"xrd": {"signal": {}}}}, "unknown keys signal"),
        ({"series": []}, "not a mapping"),
    ):
        with pytest.raises(LoaderError, match=message):
            load(master, **{"technique": "xrd", **COMMON, **XRD, **change})


def test_an_optional_series_may_be_absent(master):
    absent = {"signals": {"intensity": "no/such"}, "axis": "p3/q"}
    assert load(master, **COMMON, series={"xas": XAS, "xrd": {**absent, "optional": True}}).attrs["technique"] == "xas"
    with pytest.raises(LoaderError, match="series xrd"):
        load(master, **COMMON, series={"xas": XAS, "xrd": absent})
    with pytest.raises(LoaderError, match="none of the series"):
        load(master, **COMMON, series={"xrd": {**absent, "optional": True}})


def test_another_axis_or_other_variables_make_another_series(master):
    close_files()
    with h5py.File(master, "a") as f:
        f["entry_5/p3/q"][...] = Q * 1.5
        f["entry_7/measurement/p3_sigma"] = np.ones((3, Q.size))
    signals = {"intensity": "measurement/p3_integrate", "intensity_errors": "measurement/p3_sigma"}
    many = load(master, technique="xrd", **{**COMMON, **XRD, "signals": signals})
    assert [sorted(set(ds.entry.values)) for ds in many[1:]] == [["entry_5"], ["entry_7"]]
    assert many[0].sizes["time"] == 30
    assert many[2].intensity.attrs["ancillary_variables"] == "intensity_errors"
    assert sorted(i for ds in many for i in ds.source_index.values) == list(range(36))
    assert all(sound(ds) for ds in many)


def test_a_scan_that_is_still_being_written(master):
    close_files()
    with h5py.File(master, "a") as f:
        del f["entry_23/measurement/epoch"]
        f["entry_23/measurement/epoch"] = MIDNIGHT + 36000.0 + 60 * 23 + 5 * np.arange(2)
        f["entry_21/measurement/epoch"][2] = 0  # allocated, not yet filled in
        del f["entry_19/measurement/p3_integrate"]
        f.create_dataset("entry_19/measurement/p3_integrate", shape=(0, Q.size), maxshape=(None, Q.size), dtype="i4", chunks=(1, Q.size))
        del f["entry_17/p3/q"], f["entry_17/measurement/p3_integrate"]
    ds = load(master, technique="xrd", **COMMON, **XRD)
    assert ds.sizes["time"] == 36 - 1 - 1 - 3 - 3
    flagged = set(ds.entry.values[ds.quality.values == int(Quality.INTERRUPTED)])
    assert flagged == {"entry_21", "entry_23"}
    assert json.loads(ds.attrs["entries_left_out"]) == {"entry_19": "no complete frame"}
    assert sound(ds)


def test_half_a_file(master, tmp_path):
    close_files()
    raw = master.read_bytes()
    for content in (raw[: len(raw) // 2], raw[:40], b"\x89HDF\r\n\x1a\n", b"no HDF5 at all", b""):
        path = tmp_path / "half.h5"
        path.write_bytes(content)
        with pytest.raises(LoaderError) as caught:
            load(path, technique="xrd", **COMMON, **XRD)
        assert "half.h5" in str(caught.value)
        assert claims(path) is None


def test_links(master, tmp_path):
    with h5py.File(tmp_path / "links.h5", "w") as f:
        for k in (1, 3, 11):
            f[f"entry_{k}"] = h5py.ExternalLink("master.h5", f"/entry_{k}")
        f["entry_2"] = h5py.ExternalLink("gone.h5", "/entry_2")
        f["entry_4"] = h5py.SoftLink("/entry_1")
        f["entry_5"] = h5py.SoftLink("/nowhere")
    ds = load(tmp_path / "links.h5", technique="xrd", **COMMON, **XRD)
    assert list(dict.fromkeys(ds.entry.values)) == ["entry_1", "entry_3", "entry_4", "entry_11"]
    np.testing.assert_array_equal(ds.intensity[4], pattern(3, 1))
    np.testing.assert_array_equal(ds.intensity[-1], pattern(11, 2))
    assert ds.segment.values[-1] == 1  # entry_4 is entry_1 again: its time steps back


@pytest.mark.parametrize(
    ("content", "option", "begins", "origin"),
    [
        ({"t": (np.arange(4) * 2.0, {"start": "2026-06-03T10:00:00+02:00"})}, "t", "2026-06-03T08:00:00", "file"),
        ({"t": (np.arange(4) * 2.0, {"units": "s since 2026-06-03T10:00:00"})}, "t", "2026-06-03T10:00:00", "none"),
        ({"t": (np.arange(4) * 2000, {"units": "ms"}), "s": "2026-06-03T10:00:00"}, "t", "2026-06-03T10:00:00", "none"),
        ({"t": 1780437600 + 36000 + np.arange(4) * 2}, {"path": "t", "kind": "unix"}, "2026-06-03T08:00:00", "file"),
        ({"t": (1780437600 + 36000 + np.arange(4) * 2) * 10**9}, {"path": "t", "kind": "unix", "units": "ns"}, "2026-06-03T08:00:00", "file"),
        ({"t": 1780437600.0 + 36000 - 631152000 + np.arange(4) * 2}, {"path": "t", "kind": "epics"}, "2026-06-03T08:00:00", "file"),
        ({"t": [f"2026-06-03T10:00:0{i}+02:00".encode() for i in (0, 2, 4, 6)]}, "t", "2026-06-03T08:00:00", "file"),
        ({"t": [f"2026-06-03 10:00:0{i}.000" for i in (0, 2, 4, 6)]}, {"path": "t", "kind": "iso"}, "2026-06-03T10:00:00", "none"),
    ],
)
def test_frame_times(tmp_path, content, option, begins, origin):
    more = {"start_time": "s"} if "s" in content else {}
    ds = load(small(tmp_path, **content), **SMALL, frame_times=option, count_time="0 s", **more)
    wanted = np.datetime64(begins, "ns") + np.arange(4) * np.timedelta64(2, "s")
    np.testing.assert_array_equal(ds.time.values, wanted)
    assert ds.attrs["timezone_source"] == origin
    assert sound(ds)


@pytest.mark.parametrize(("marks", "shift"), [("start", 0.25), ("middle", 0.0), ("end", -0.25)])
def test_what_frame_times_mark(tmp_path, marks, shift):
    path = small(tmp_path, t=(np.arange(4) * 2.0, {"start": "2026-06-03T10:00:00Z"}), e=(np.full(4, 500), {"units": "ms"}))
    ds = load(path, **SMALL, frame_times={"path": "t", "marks": marks}, count_time="e")
    seconds = (ds.time.values - np.datetime64("2026-06-03T10:00:00", "ns")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, np.arange(4) * 2.0 + shift)
    assert set(ds.exposure.values) == {0.5}


def test_frame_number_times_frame_time(tmp_path):
    path = small(tmp_path, number=np.array([3, 4, 6, 7]), period=(0.1, {"units": "s"}), s="2026-06-03T10:00:00Z")
    ds = load(path, **SMALL, start_time="s", frame_number={"path": "number", "first": 1}, frame_time="period", count_time="0.09 s")
    seconds = (ds.time.values - np.datetime64("2026-06-03T10:00:00", "ns")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, np.array([0.2, 0.3, 0.5, 0.6]) + 0.045)
    readout = load(path, **SMALL, start_time="s", frame_time="0.1 s")
    assert set(readout.exposure.values) == {0.1}
    counter = load(path, **SMALL, frame_time=0.1)
    assert counter.attrs["time_origin"] == "counter"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({}, {}, "4 frames but no time"),
        ({"s": "2026-06-03T10:00:00Z"}, {"start_time": "s"}, "4 frames but no time"),
        ({"t": 1780437600.0 + np.arange(4)}, {"frame_times": "t"}, "count from"),
        ({"t": [b"a", b"b", b"c", b"d"]}, {"frame_times": "t"}, "ISO"),
        ({"t": np.array([0, np.nan, 2, 3])}, {"frame_times": "t"}, "middle has no time"),
        ({"t": (np.arange(4.0), {"units": "metres"})}, {"frame_times": "t"}, "frame_times"),
        ({"s": "yesterday"}, {"start_time": "s", "frame_time": "1 s"}, "no stamp"),
        ({"s": 1.0}, {"start_time": "s", "frame_time": "1 s"}, "kind: unix"),
        ({"e": "long"}, {"frame_time": "1 s", "count_time": "e"}, "text"),
        ({}, {"frame_time": "1 V"}, "frame_time"),
        ({}, {"frame_time": "-1 s"}, "positive"),
        ({"I": np.ones((4, 7))}, {"frame_time": "1 s"}, "does not fit its axis"),
        ({"I": [b"x", b"y"]}, {"frame_time": "1 s"}, "not an array of numbers"),
        ({"I/more": 1.0, "I": None}, {"frame_time": "1 s"}, "a group"),
        ({"q": np.stack([Q, Q + 1])}, {"frame_time": "1 s", "axis": {"q": "q"}}, "changes inside"),
        ({"q": Q[::-1] * 0}, {"frame_time": "1 s", "axis": {"q": "q"}}, "monotonic"),
        ({"q": Q}, {"frame_time": "1 s"}, "cannot be told from its unit"),
        ({"c": np.arange(9)}, {"frame_time": "1 s", "coords": {"temperature": "c"}}, "one value per frame"),
        ({}, {"frame_time": "1 s", "wavelength": "w"}, "wavelength is not there"),
    ],
)
def test_wrong_types_and_lengths(tmp_path, content, options, message):
    with pytest.raises(OperandoError, match=message) as caught:
        load(small(tmp_path, **content), **{**SMALL, **options})
    assert isinstance(caught.value, LoaderError) or message == "ISO"


def test_dims_in_another_order(tmp_path):
    values = np.arange(4 * Q.size, dtype="f4").reshape(4, Q.size)
    path = small(tmp_path, I=values.T.copy(), J=values[:, None, :], K=values.reshape(4, 1, 1, Q.size))
    with pytest.raises(LoaderError, match=r"dims: \[axis, time\]"):
        load(path, **SMALL, frame_time="1 s")
    turned = load(path, **{**SMALL, "signals": {"intensity": {"path": "I", "dims": ["q", "time"]}}}, frame_time="1 s")
    for ds in (turned, *(load(path, **{**SMALL, "signals": {"intensity": name}}, frame_time="1 s") for name in "JK")):
        np.testing.assert_array_equal(ds.intensity.values, values)
        np.testing.assert_array_equal(ds.intensity[2].values, values[2])
        np.testing.assert_array_equal(ds.intensity[1:3, 5].values, values[1:3, 5])
        np.testing.assert_array_equal(ds.isel(time=[0, 3], q=[1, 7]).intensity.values, values[[0, 3]][:, [1, 7]])
        assert sound(ds)


def test_one_pattern_per_entry(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for k in range(12):
            f[f"scan_{k}/I"] = np.full(Q.size, k, "u2")
            f[f"scan_{k}/q"] = Q
            f[f"scan_{k}/t"] = f"2026-06-03T10:{k:02d}:00"
    options = {**SMALL, "entries": r"re:scan_(\d+)", "axis": {"q_nm": "q"}, "start_time": "t", "count_time": 3}
    ds = load(tmp_path / "a.h5", **options)
    assert ds.intensity[:, 0].values.tolist() == list(range(12))
    assert ds.isel(time=slice(9, 11)).intensity.shape == (2, Q.size)
    assert ds.stamp.dims == ("time",)
    assert sound(ds)


def test_wavelength_and_units(tmp_path):
    path = small(tmp_path, tth=(Q, {"units": "deg"}), E=(30.0, {"units": "keV"}), flag=True)
    ds = load(path, **{**SMALL, "axis": "tth"}, frame_time="1 s", wavelength="E", coords={"shutter": "flag"})
    np.testing.assert_allclose(ds.q, 4 * np.pi * np.sin(np.radians(Q) / 2) / (12.398419843320026 / 30))
    np.testing.assert_array_equal(ds.two_theta, Q)
    assert ds.shutter.values.tolist() == [1] * 4
    assert "two_theta" in load(path, **{**SMALL, "axis": "tth"}, frame_time="1 s").dims
    text = load(path, **SMALL, frame_time="1 s", wavelength="0.4 angstrom")
    assert text.attrs["wavelength"] == 0.4


def test_impossible_sizes_are_not_read(tmp_path, monkeypatch):
    path = small(tmp_path, t=np.arange(4.0))
    monkeypatch.setattr(hdf5_entries, "READ_LIMIT", 16)
    with pytest.raises(LoaderError, match="too large"):
        load(path, **SMALL, frame_times="t")


def test_nxazint1d_preset(tmp_path):
    path = tmp_path / "azint.h5"
    with h5py.File(path, "w") as f:
        for name, kind in (
            ("entry", "NXentry"),
            ("entry/inst", "NXinstrument"),
            ("entry/inst/mono", "NXmonochromator"),
            ("entry/azint1d", "NXdata"),
            ("entry/i0", "NXmonitor"),
        ):
            f.create_group(name).attrs["NX_class"] = kind
        f["entry/definition"] = "NXazint1d"
        f["entry/inst/mono/wavelength"] = 0.4133
        f["entry/inst/mono/wavelength"].attrs["units"] = "angstrom"
        f["entry/azint1d/I"] = np.ones((5, Q.size), "f4")
        f["entry/azint1d/I"].attrs["units"] = "arbitrary units"
        f["entry/azint1d/I_errors"] = np.ones((5, Q.size), "f4")
        f["entry/azint1d/radial_axis"] = Q / 10
        f["entry/azint1d/radial_axis"].attrs["units"] = "1/angstrom"
        f["entry/i0/data"] = np.arange(5.0)
    assert "NXazint1d" in (claims(path) or "")
    with pytest.raises(LoaderError, match="frame_time"):
        load(path, preset="nexus-nxazint1d")
    ds = load(path, preset="nexus-nxazint1d", frame_time="10 s")
    assert ds.sizes == {"time": 5, "q": Q.size}
    assert ds.attrs["wavelength"] == 0.4133
    assert ds.attrs["preset"] == "nexus-nxazint1d"
    assert ds.monitor.values.tolist() == [0, 1, 2, 3, 4]
    assert ds.intensity.units == "1"
    assert "two_theta" in ds.coords
    assert sound(ds)


def test_bliss_preset(tmp_path):
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as f:
        f.attrs["creator"] = "Bliss"
        for k in (1, 2, 10):
            g = f.create_group(f"{k}.1")
            g["title"] = "fscan"
            g["start_time"] = f"2026-06-03T10:{k:02d}:00.000000+02:00"
            g["end_time"] = f"2026-06-03T10:{k:02d}:59.000000+02:00"
            g["instrument/positioners_start/samy"] = float(k)
            g["measurement/epoch_trig"] = MIDNIGHT + 36000.0 + 60 * k + np.arange(4)
            g["measurement/pattern"] = np.full((4, Q.size), k)
            g["p/q"] = Q
            f[f"{k}.2/measurement/temperature"] = 25.0 + k
    assert "BLISS" in (claims(path) or "")
    own = {
        "technique": "xrd",
        "signals": {"intensity": "measurement/pattern"},
        "axis": {"q": {"path": "p/q", "units": "1/nm"}},
        "count_time": "0.9 s",
    }
    with pytest.raises(LoaderError, match="technique"):
        load(path, preset="bliss")
    ds = load(path, preset="bliss", **own, coords={"temperature": {"path": "/{number}.2/measurement/temperature", "units": "degC"}})
    assert list(dict.fromkeys(ds.entry.values)) == ["1.1", "2.1", "10.1"]
    assert ds.temperature.values[[0, 4, 8]].tolist() == [26, 27, 35]
    assert ds.motor_samy.values[-1] == 10
    np.testing.assert_allclose(ds.q, Q / 10)
    assert sound(ds)
    with pytest.raises(ConfigError, match="did you mean 'bliss'"):
        load(path, preset="blis")


def test_claims_only_what_a_preset_reads(master, tmp_path):
    assert claims(master) is None
    assert claims(tmp_path / "missing.h5") is None


@pytest.mark.real_data
def test_a_detectors_file_is_refused_with_what_it_holds(shared_data):
    path = shared_data / "xrd2d/dioptas_GPL3/lambda/testasapo1_1009_00002_m1_part00000.nxs"
    assert claims(path) is None
    with pytest.raises(LoaderError, match="instrument/detector"):
        load(path, technique="xrd", signals={"intensity": "measurement/pattern"}, axis={"q": "q"})
    ds = load(path, technique="sensor", signals={"sequence": "instrument/detector/sequence_number"}, frame_time="instrument/detector/count_time")
    assert ds.sizes["time"] == 10


def test_fuzz(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        for k in range(1, 4):
            f[f"e{k}/I"] = np.ones((3, 20), "i4")
            f[f"e{k}/q"] = np.arange(20.0)
            f[f"e{k}/t"] = np.arange(3.0)
            f[f"e{k}/s"] = "2026-06-03T10:00:00Z"
            f[f"e{k}/T"] = 20.0
    raw = path.read_bytes()
    options = {**SMALL, "entries": "e{number}", "axis": {"q": "q"}, "start_time": "s", "frame_times": "t", "coords": {"temperature": "T"}}

    def read(damaged: Path) -> None:
        close_files()
        claims(damaged)
        made = load(damaged, **options)
        for ds in made if isinstance(made, list) else [made]:
            _ = ds.intensity.values

    assert only_operando_errors(read, tmp_path / "g.h5", raw, seed=7, lines=False, each=60)
    close_files()


def test_a_heap_without_end_is_refused(tmp_path):
    path = small(tmp_path, s="2026-06-03T10:00:00Z", title="x")
    close_files()
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL\1\0\0\0")
    second = heap + 32 + (int.from_bytes(raw[heap + 24 : heap + 32], "little") + 7) // 8 * 8
    raw[second : second + 16] = bytes(16)  # a block that was never filled in: HDF5 itself would turn there for ever
    path.write_bytes(raw)
    with pytest.raises(LoaderError, match="no end"):
        load(path, **SMALL, start_time="s", frame_time="1 s")
    assert claims(path) is None


def test_every_option_reaches_the_reader():
    assert set(hdf5_path._OPTIONS) == {*"technique entries match signals axis wavelength start_time end_time".split()} | {
        *"frame_times frame_number frame_time count_time coords motors sampling optional series".split()
    }


def test_total_scattering_over_two_theta_needs_the_wavelength_and_is_over_q(tmp_path):
    angle = np.linspace(1.0, 40.0, 50)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["I"] = np.ones((2, 50))
        h5["tth"] = angle
        h5["tth"].attrs["units"] = "deg"
    options = {"technique": "pdf", "signals": {"intensity": "I"}, "axis": {"two_theta": "tth"}, "frame_time": "1 s"}
    ds = load(tmp_path / "a.h5", wavelength="0.2 angstrom", **options)
    np.testing.assert_allclose(ds.q, 4 * np.pi * np.sin(np.radians(angle / 2)) / 0.2)
    assert ds.attrs["wavelength"] == 0.2
    with pytest.raises(LoaderError, match="wavelength is not known"):
        load(tmp_path / "a.h5", **options)


@pytest.mark.parametrize(("units", "axis", "factor"), [("1/nm", "q", 0.1), ("1/angstrom", "q", 1.0), ("angstrom", "r", 1.0)])
def test_axes_of_total_scattering_are_told_by_their_units(tmp_path, units, axis, factor):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["I"] = np.ones((2, 50))
        h5["x"] = np.linspace(1.0, 40.0, 50)
        h5["x"].attrs["units"] = units
    signal = {"q": "intensity", "r": "g_r"}[axis]
    ds = canonical(load(tmp_path / "a.h5", technique="pdf", signals={signal: {"path": "I", "units": "1"}}, axis="x", frame_time="1 s"))
    np.testing.assert_allclose(ds[axis], factor * np.linspace(1.0, 40.0, 50))
