"""The published file: one tree for every reader, the same content every time, and the same beamtime as the growing store."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from operando.store import Store, open_beamtime, overview_rows, overviews, provenance, pyramid

PROCESS = {
    "program": "operando",
    "version": "0.1.0",
    "configuration": "title: June\n",
    "title": "June",
    "sources": {"id31": {"zone": "Europe/Paris"}},
}


@pytest.fixture
def published(beamtime, tmp_path):
    about = {"active_mass": "6.84 mg", "area": "1.54 cm²", "chemistry": "NMC811|graphite", "electrolyte": "1 M LiPF6 EC:EMC", "n_p_ratio": 1.1}
    about |= {"nested": {"a": [1]}, "unknown": None, "rest": "2 days", "series": "2032", "temperature": "25.0 degC"}
    return beamtime.publish(tmp_path / "june.nxs", key="key", process=PROCESS, samples={"A": about}, date="2026-06-04T00:00:00+00:00")


def test_both_forms_open_alike(beamtime, published):
    growing, done = open_beamtime(beamtime.path), open_beamtime(published)
    xr.testing.assert_identical(growing, done)
    xr.testing.assert_identical(growing.load(), done.load())
    for node in growing.subtree:
        assert list(node.variables) == list(done[node.path].variables)
        assert {n: v.dtype for n, v in node.variables.items()} == {n: v.dtype for n, v in done[node.path].variables.items()}


def test_publishing_twice_gives_the_same_bytes(beamtime, tmp_path):
    files = [beamtime.publish(tmp_path / f"{i}.nxs", process=PROCESS, date="2026-06-04") for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_opens_it(published, engine):
    pytest.importorskip("netCDF4")
    ours = open_beamtime(published)
    with xr.open_datatree(published, engine=engine) as tree:
        frames = tree["A/xrd/frames"]
        np.testing.assert_array_equal(frames["time"].values, ours["A/xrd/frames"]["time"].values)
        np.testing.assert_array_equal(frames["intensity"].values, ours["A/xrd/frames"]["intensity"].values)
        assert {"source_time", "voltage", "flags", "elapsed_time", "q"} <= set(frames.coords)
        assert frames["elapsed_time"].dtype == float
        assert tree["A/xrd/observables"]["converged"].dtype == bool
        assert tree["A/xrd/observables"]["phase"].values.tolist() == ["H1", "H2"]
        z = ours["A/eis/frames"]["impedance"].values
        np.testing.assert_array_equal(tree["A/eis/frames"]["impedance_real"].values + 1j * tree["A/eis/frames"]["impedance_imag"].values, z)
        sample = tree["A/sample"]
        assert sample["active_mass"].values == 6.84
        assert sample["active_mass"].attrs["units"] == "mg"
        assert sample["rest"].dtype == float  # no time span to xarray, whatever its release
        assert str(sample["electrolyte"].values) == "1 M LiPF6 EC:EMC"


def test_silx_and_nexusformat_plot_it(published):
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(published) as h5:
        groups = []
        h5.visititems(lambda name, item: groups.append(name) if item.attrs.get("NX_class") == "NXdata" else None)
        assert len(groups) == 9
        assert all(nxdata.NXdata(h5[name]).is_valid for name in groups)
        assert nxdata.get_default(h5).group.name == "/A/xrd/frames"
    nexus = pytest.importorskip("nexusformat.nexus")
    assert nexus.nxload(str(published), mode="r").plottable_data.nxpath == "/A/xrd/frames"


def test_quantities_of_the_sample_are_numbers_with_units(published):
    with h5py.File(published) as h5:
        sample = h5["A/sample"]
        told = {name: (sample[name][()], sample[name].attrs["units"]) for name in sample if "units" in sample[name].attrs}
        assert told == {"active_mass": (6.84, "mg"), "area": (1.54, "cm^2"), "rest": (2.0, "d"), "temperature": (25.0, "degC")}
        assert all(sample[name].dtype == np.float64 and sample[name].shape == () for name in told)
        assert sample["series"].asstr()[()] == "2032"
        assert sample["n_p_ratio"][()] == 1.1
    nexus = pytest.importorskip("nexusformat.nexus")
    assert nexus.nxload(str(published), mode="r")["A/sample/active_mass"].attrs["units"] == "mg"


def test_battery_data_format_terms_stand_at_the_frames_of_electrochemistry_only(published):
    terms = {}
    with h5py.File(published) as h5:
        h5.visititems(lambda name, item: terms.update({name: item.attrs["bdf_term"]} if "bdf_term" in item.attrs else {}))
    frames = {"voltage": "voltage_volt", "current": "current_ampere", "elapsed_time": "test_time_second"}
    assert terms == {f"A/echem/frames/{name}": term for name, term in frames.items()}


def test_the_tree_keeps_the_rules(published):
    """Hard links only, no time above a product, string axes with indices, plain types, gzip only."""
    faults = []

    def look(group):
        for name in group:
            item, where = group[name], f"{group.name}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                faults.append(f"{where} is a link")
            if isinstance(item, h5py.Group):
                look(item)
                continue
            if item.dtype.kind in "VR" or (item.dtype.kind == "f" and item.dtype.itemsize == 2) or item.shape is None:
                faults.append(f"{where} is {item.dtype}")
            if item.compression not in (None, "gzip") or (item.compression and not item.shuffle):
                faults.append(f"{where} is packed by {item.compression}")
            if name == "time" and group.attrs.get("NX_class") not in ("NXdata", "NXcollection"):
                faults.append(f"{where} lies above a product")
            if item.dtype.kind in "iuf" and item.attrs.get("units") in ("seconds", "hours", "days"):
                faults.append(f"{where} has units {item.attrs['units']}")
        if group.attrs.get("NX_class") == "NXdata":
            axes = group.attrs["axes"]
            if not isinstance(axes, np.ndarray) or axes.ndim != 1 or len(axes) != group[group.attrs["signal"]].ndim:
                faults.append(f"{group.name} axes {axes}")
            for i, axis in enumerate(axes):
                if axis != "." and (group.attrs[f"{axis}_indices"] != i or group[axis].shape != group[group.attrs["signal"]].shape[i : i + 1]):
                    faults.append(f"{group.name} axis {axis}")

    with h5py.File(published) as h5:
        look(h5)
        assert faults == []
        frames = h5["A/xrd/frames"]
        assert frames["time"].dtype == np.int64
        assert frames["time"].attrs["units"] == "nanoseconds since 1970-01-01T00:00:00Z"
        assert frames["elapsed_time"].attrs["start"] == "2026-06-03T08:00:00.500000000Z"
        assert frames["elapsed_time"].attrs["units"] == "s"
        assert list(frames.attrs["axes"]) == ["elapsed_time", "q"]
        classes = {name: h5[name].attrs["NX_class"] for name in ("/", "A", "A/xrd", "A/xrd/frames", "A/xrd/process", "A/sample")}
        assert list(classes.values()) == ["NXroot", "NXentry", "NXsubentry", "NXdata", "NXprocess", "NXsample"]
        assert (h5.attrs["default"], h5["A"].attrs["default"], h5["A/xrd"].attrs["default"]) == ("A", "xrd", "frames")
        assert h5["A/echem/frames/voltage"].attrs["bdf_term"] == "voltage_volt"
        assert "skipped" not in h5["A/xrd"]
        assert h5["A/sample/chemistry"].asstr()[()] == "NMC811|graphite"


def test_provenance(published, beamtime):
    told = provenance(published)["A/xrd"]
    assert (told["program"], told["version"], told["date"]) == ("operando", "0.1.0", "2026-06-04T00:00:00+00:00")
    assert told["configuration"] == "title: June\n"
    assert told["sources"][1] == {"path": "f1.h5", "size": 10, "sha256": f"{1:064x}"}
    assert told["keys"]["frames"] == ["x0", "x1", "x2"]
    assert told["settings"]["sources"]["id31"]["zone"] == "Europe/Paris"
    with beamtime.writing() as writer:
        beamtime.publish(published, key="later", process=PROCESS, writer=writer)
    assert provenance(beamtime.path)[str(published)]["key"] == "later"


def test_is_published(beamtime, published, tmp_path):
    assert beamtime.is_published(published, "key")
    assert not beamtime.is_published(published, "other")
    assert not beamtime.is_published(tmp_path / "absent.nxs", "key")
    published.write_text("rubbish")
    assert not beamtime.is_published(published, "key")


@pytest.mark.parametrize("isal", [True, False])
def test_large_arrays_are_packed_and_read_back(store, make, monkeypatch, isal):
    from operando.store import encoding

    encoding._deflate.cache_clear()
    if isal:
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    ds = make.xrd(rows=700, points=1000)
    ds["counts"] = (("time", "q"), np.random.default_rng(0).poisson(5, (700, 1000)).astype(np.uint16), {"units": "counts"})
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", ds.isel(time=slice(0, 333)), key="a")
        writer.write("A", "xrd", "frames", ds.isel(time=slice(333, None)), key="b")
        store.publish(store.path.with_suffix(".nxs"))
    with h5py.File(store.path.with_suffix(".nxs")) as h5:
        assert h5["A/xrd/frames/counts"].chunks == (64, 256)
        assert h5["A/xrd/frames/counts"].id.get_storage_size() < ds["counts"].nbytes / 2
        np.testing.assert_array_equal(h5["A/xrd/frames/counts"][()], ds["counts"])
        np.testing.assert_array_equal(h5["A/xrd/frames/intensity"][()], ds["intensity"])
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(store.path.with_suffix(".nxs")) as nc:
        np.testing.assert_array_equal(np.asarray(nc["A/xrd/frames/counts"][:]), ds["counts"])
    encoding._deflate.cache_clear()


def test_batches_do_not_show(store, make, monkeypatch):
    from operando.store import encoding

    monkeypatch.setattr(encoding, "batches", lambda shape, itemsize, size=0: [slice(a, min(a + 64, shape[0])) for a in range(0, shape[0], 64)])
    ds = make.xrd(rows=300, points=700)
    with store.writing() as writer:
        for a, b in ((0, 100), (100, 101), (101, 300)):
            writer.write("A", "xrd", "frames", ds.isel(time=slice(a, b)), key=str(a))
    store.publish(store.path.with_suffix(".nxs"))
    np.testing.assert_array_equal(open_beamtime(store.path.with_suffix(".nxs"))["A/xrd/frames"]["intensity"], ds["intensity"])


# ----------------------------------------------------------------- overviews


def test_small_products_have_no_overview(published):
    assert overviews(published, "A/xrd/frames") == {}


def test_overviews_are_means_that_keep_positions_and_segments_apart(store):
    rows = 5000
    rng = np.random.default_rng(0)
    position = np.arange(rows) % 2
    segment = (np.arange(rows) > 2999).astype(np.int32)
    values = rng.normal(size=(rows, 3)) + 10.0 * position[:, None] + 100.0 * segment[:, None]
    values[7, 1] = values[[0, 2, 4, 6], 2] = np.nan
    times = np.datetime64("2026-06-03", "ns") + np.arange(rows) * np.timedelta64(1, "s")
    ds = xr.Dataset(
        {"intensity": (("time", "q"), values, {"units": "1"})},
        {
            "time": times,
            "q": [1.0, 2.0, 3.0],
            "position": ("time", position),
            "segment": ("time", segment),
            "temperature": ("time", rng.normal(size=rows)),
        },
        {"technique": "xrd"},
    )
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", ds.isel(time=slice(0, 3100)), key="a")
        writer.write("A", "xrd", "frames", ds.isel(time=slice(3100, None)), key="b")
    target = store.publish(store.path.with_suffix(".nxs"))
    made = overviews(target, "A/xrd/frames")
    assert list(made) == [4]
    small = made[4].load()
    assert small.sizes["time"] < 1300
    first = [0, 2, 4, 6]
    np.testing.assert_allclose(small["intensity"][0, :2], values[first, :2].mean(axis=0))
    assert np.isnan(small["intensity"][0, 2])
    np.testing.assert_allclose(small["intensity"][1, 1], np.nanmean(values[[1, 3, 5, 7], 1]))
    np.testing.assert_allclose(small["temperature"][0], ds["temperature"][first].mean())
    assert small["time"].values[0] == times[3]
    assert small["frame_count"].sum() == rows
    expected = 10 * small["position"] + 100 * small["segment"]
    assert abs(small["intensity"][:, 0] - expected).max() < 6
    assert "frames_overview_4" not in open_beamtime(target)["A/xrd"].children
    row = overview_rows(open_beamtime(target)["A/xrd/frames"].ds, 4)
    np.testing.assert_allclose(small["intensity"][5, 0], values[row == 5, 0].mean())
    xr.testing.assert_allclose(overviews(store.path, "A/xrd/frames")[4].load(), small)  # of the growing store, averaged when read
    with h5py.File(target) as h5:
        assert h5["A/xrd"].attrs["default"] == "frames"


def test_wide_products_have_a_narrow_overview(store, make):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(rows=20, points=5000), key="a")
    target = store.publish(store.path.with_suffix(".nxs"))
    made = overviews(target, "/A/xrd/frames")
    assert list(made) == [1]
    assert dict(made[1].sizes) == {"time": 20, "q_coarse": 1667}
    full = open_beamtime(target)["A/xrd/frames"].ds
    np.testing.assert_allclose(made[1]["intensity"][3, 5], full["intensity"][3, 15:18].mean())
    np.testing.assert_allclose(made[1]["q_coarse"][-1], full["q"][4998:].mean())


def test_silx_takes_overviews(store, make):
    nxdata = pytest.importorskip("silx.io.nxdata")
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(rows=2100, points=20), key="a")
    with h5py.File(store.publish(store.path.with_suffix(".nxs"))) as h5:
        assert nxdata.NXdata(h5["A/xrd/frames_overview_4"]).is_valid
    assert list(Store(store.path).products()) == [("A", "xrd", "frames")]


def test_large_pictures_have_levels_of_half_the_side(store):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 515, 700)).astype(np.float32)
    values[2, :4, :8] = np.nan
    values[3, 0, 0] = np.nan
    ds = xr.Dataset(
        {
            "transmission": (("time", "y", "x"), values, {"units": "1"}),
            "mean": ("time", values.mean((1, 2)), {"units": "1"}),
        },
        {
            "time": np.datetime64("2026-06-03", "ns") + np.arange(6) * np.timedelta64(1, "s"),
            "y": ("y", 2.0 * np.arange(515) + 0.5, {"units": "px"}),
            "x": ("x", 2.0 * np.arange(700) + 0.5, {"units": "px"}),
            "position": ("time", np.arange(6) % 2),
        },
        {"technique": "imaging"},
    )
    with store.writing() as writer:
        writer.write("A", "imaging", "reduced", ds.isel(time=slice(0, 4)), key="a")
        writer.write("A", "imaging", "reduced", ds.isel(time=slice(4, None)), key="b")
    target = store.publish(store.path.with_suffix(".nxs"))
    made = pyramid(target, "A/imaging/reduced")
    assert {k: dict(v.sizes) for k, v in made.items()} == {2: {"time": 6, "y": 258, "x": 350}, 4: {"time": 6, "y": 129, "x": 175}}
    small = made[4].load()
    np.testing.assert_allclose(small["transmission"][1, 3, 5], values[1, 12:16, 20:24].mean(), rtol=1e-5)
    np.testing.assert_allclose(small["transmission"][5, -1, -1], values[5, 512:, 696:].mean(), rtol=1e-5)
    np.testing.assert_allclose(small["transmission"][3, 0, 0], np.nanmean(values[3, :4, :4]), rtol=1e-5)
    assert np.isnan(small["transmission"][2, 0, :2]).all()
    assert small["y"].values[:2].tolist() == [3.5, 11.5]
    np.testing.assert_array_equal(small["time"], ds["time"])
    np.testing.assert_array_equal(small["position"], ds["position"])
    assert overviews(target, "A/imaging/reduced") == {}
    assert list(open_beamtime(target)["A/imaging"].children) == ["reduced"]
    xr.testing.assert_allclose(pyramid(store.path, "A/imaging/reduced")[4].load(), small)  # of the growing store, averaged when read
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(target) as h5:
        assert nxdata.NXdata(h5["A/imaging/reduced_overview_4px"]).is_valid


def test_small_pictures_have_no_levels(store):
    ds = xr.Dataset(
        {"transmission": (("time", "y", "x"), np.zeros((2, 256, 100), np.float32), {"units": "1"})},
        {"time": np.datetime64("2026-06-03", "ns") + np.arange(2) * np.timedelta64(1, "s")},
        {"technique": "imaging"},
    )
    with store.writing() as writer:
        writer.write("A", "imaging", "reduced", ds, key="a")
    assert pyramid(store.publish(store.path.with_suffix(".nxs")), "A/imaging/reduced") == {}
    assert pyramid(store.path, "A/imaging/reduced") == {}
