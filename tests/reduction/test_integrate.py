"""The reducer `integrate` by hand: what it makes of frames, and what it says of detectors, beams and geometries that are wrong."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import xarray as xr

import operando as op
from operando import images
from operando.contract import ConfigError, LoaderError, Quality
from operando.images import Chunk, oriented
from operando.reduction.detector_checks import calibrant_lines, check_rings, dead_parts
from operando.reduction.integration import Integrator
from operando.testing import assert_valid_series

SHAPE = (200, 260)
PONI = """Detector: Detector
Detector_config: {"pixel1": 0.0002, "pixel2": 0.0002, "max_shape": [200, 260], "orientation": 3}
Distance: 0.1
Poni1: 0.011
Poni2: 0.017
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 4e-11
"""


def rings(level: float = 30.0, name: str = "CeO2") -> np.ndarray:
    """Counts that a calibrant would give, by pyFAI's own image of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyFAI.calibrant import get_calibrant

        from operando.reduction.integration import read_geometry

        calibrant = get_calibrant(name)
        calibrant.wavelength = 4e-11
        made = calibrant.fake_calibration_image(read_geometry(PONI), shape=SHAPE, Imax=20.0)
    return np.asarray(level * (0.2 + made / made.max() * 5))


def write(folder: Path, frames: np.ndarray, monitor: Any = None, **detector: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "a.h5", "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = "2026-06-03T10:00:00+02:00"
        inside = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], inside.attrs["NX_class"] = "NXinstrument", "NXdetector"
        inside.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle())
        inside["count_time"] = 10.0
        for key, value in detector.items():
            inside[key] = value
        if monitor is not None:
            entry["measurement/monitor"] = np.asarray(monitor, float)
    (folder / "geometry.poni").write_text(PONI)
    return folder / "a.h5"


def frames_of(folder: Path, **options: Any) -> xr.Dataset:
    return op.load(folder / "a.h5", "xrd-frames", poni=str(folder / "geometry.poni"), **options)


def patterns(folder: Path, recipe: dict[str, Any] | None = None, *, quiet: bool = True, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "error")
        return op.reduce(frames_of(folder, **options), {"reducer": "integrate", **(recipe or {})})["frames"]


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return np.random.default_rng(3).poisson(rings(), (5, *SHAPE)).astype(np.uint32)


def test_frames_become_patterns_as_pyfai_makes_them(tmp_path: Path, stack: np.ndarray) -> None:
    stack = np.maximum(stack * 5, 1)  # of a pixel without a count pyFAI takes the variance to be 1
    write(tmp_path, stack, [100, 110, 90, 100, 100])
    for split in ("no", "bbox"):
        ds = patterns(tmp_path, {"points": 300, "split": split, "polarization": 0.95}, quiet=False)
        assert ds["intensity"].dims == ("time", "q")
        assert (ds.attrs["technique"], ds.attrs["split"], ds.attrs["kernel"], ds.attrs["reducer"]) == ("xrd", split, "operando", "integrate")
        assert ds.attrs["wavelength"] == pytest.approx(0.4)
        assert ds["monitor"].values.tolist() == [100, 110, 90, 100, 100]
        ai = Integrator(PONI, points=10)._ai
        for k, frame in enumerate(stack):
            peer = ai.integrate1d_ng(frame, 300, unit="q_A^-1", method=(split, "csc", "cython"), error_model="poisson", polarization_factor=0.95)
            there = peer.sum_normalization > 0
            assert np.abs(ds["intensity"].values[k][there] - peer.intensity[there]).max() < 1e-6 * peer.intensity.max()
            np.testing.assert_allclose(ds["intensity_errors"].values[k][there], peer.sigma[there], rtol=1e-3)
        np.testing.assert_allclose(ds["two_theta"], 2 * np.degrees(np.arcsin(ds["q"] * 0.4 / 4 / np.pi)))
        assert (ds["quality"] == 0).all()
        assert ds["total_counts"].values[0] == pytest.approx(stack[0].sum())
    assert_valid_series(ds.assign_attrs(loader="x", loader_version="1", options="{}"))


def test_without_a_recipe_every_image_of_a_diffraction_detector_is_integrated(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack)
    made = op.reduce(frames_of(tmp_path))
    assert set(made) == {"frames"}
    assert 150 < made["frames"].sizes["q"] < 400, "a bin for each pixel along the longest radius"
    listed = op.load(tmp_path / "a.h5", "xrd-frames")
    with pytest.raises(ConfigError, match="no geometry"):
        op.reduce(listed)


@pytest.mark.parametrize("orientation", images.ORIENTATIONS)
def test_frames_in_any_orientation_give_the_same_pattern(orientation: str, tmp_path: Path, stack: np.ndarray) -> None:
    back = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}.get(orientation, orientation)
    mask = np.zeros(SHAPE, bool)
    mask[:20, :50] = True
    read = np.ascontiguousarray(np.stack([oriented(frame, back) for frame in stack[:2]]))
    np.save(tmp_path / "mask.npy", oriented(mask, back))
    write(tmp_path, read)
    for split in ("no", "bbox"):
        found = patterns(tmp_path, {"points": 200, "split": split}, orientation=orientation, mask=str(tmp_path / "mask.npy"))
        wanted = Integrator(PONI, points=200, split=split, mask=mask).integrate(stack[:2])
        np.testing.assert_allclose(found["intensity"], wanted.intensity, rtol=1e-6)
        assert found.attrs["kernel"] == "operando"


def test_a_compressed_frame_gives_what_the_frame_gives(tmp_path: Path, stack: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for kind, top in (("u1", 255), ("u2", 65535), ("u4", 2**32 - 1), ("i4", -1)):
        frames = np.minimum(stack, 250).astype(kind)
        frames[:, rng.random(SHAPE) < 0.01] = frames.dtype.type(top)
        if kind != "u1":
            frames[:, rng.random(SHAPE) < 0.01] = 20000
        write(tmp_path, frames)
        for saturation in (None, 200.0, 5000.0):
            it = Integrator(PONI, points=150, saturation=saturation)
            for k in range(2):
                chunk = images.raw(tmp_path / "a.h5", "entry/instrument/detector/data", k)
                assert isinstance(chunk, Chunk)
                one, other = it.one(chunk), it.one(frames[k])
                np.testing.assert_array_equal(one[0], other[0])
                np.testing.assert_array_equal(one[1], other[1])
                assert one[2:] == other[2:]


def test_frames_that_are_wrong_are_flagged_and_the_others_are_made(tmp_path: Path, stack: np.ndarray) -> None:
    frames = np.concatenate([stack, stack])
    frames[1] = 0  # the shutter stayed closed
    frames[2, 40, 50:53] = 90000
    frames[3, :60] = 2**32 - 1  # a module that was not read out
    path = write(tmp_path, frames, [100, 100, 100, 100, 100, 1, 100, 100, 100, 100], saturation_value=np.uint32(80000))
    with h5py.File(path, "a") as h5:
        data = h5["entry/instrument/detector/data"].id
        _, raw = data.read_direct_chunk((8, 0, 0))
        data.write_direct_chunk((8, 0, 0), raw[: len(raw) // 2])
    with pytest.warns(UserWarning, match=r"1 frame could not be read and is NaN and CORRUPT.*\[?8|damaged"):
        made = op.reduce(frames_of(tmp_path), {"reducer": "integrate", "points": 100})["frames"]
    names = [Quality(int(q)) for q in made["quality"].values]
    assert names[0] == 0
    assert names[1] == Quality.BEAM_DUMP
    assert names[2] == Quality.SATURATED
    assert names[3] == Quality.MASKED
    assert names[5] == Quality.BEAM_DUMP
    assert names[8] == Quality.CORRUPT
    assert np.isnan(made["intensity"].values[8]).all()
    assert np.isnan(made["total_counts"].values[8])
    assert made["saturated_pixels"].values.tolist() == [0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    assert made["lost_pixels"].values[3] == 60 * 260
    assert np.isfinite(made["intensity"].values[[0, 2, 4, 6, 7, 9]][:, 5:90]).all()
    assert (made["intensity"].values[1][5:90] == 0).all()


def test_without_a_monitor_the_counts_tell_the_dump(tmp_path: Path, stack: np.ndarray) -> None:
    frames = stack.copy()
    frames[3] = np.random.default_rng(0).poisson(0.05, SHAPE)
    write(tmp_path, frames)
    assert [bool(q & 1) for q in patterns(tmp_path)["quality"].values] == [False, False, False, True, False]


def test_nan_and_frames_that_hold_nothing(tmp_path: Path, stack: np.ndarray) -> None:
    frames = stack[:3].astype(np.float32)
    frames[1, 5:8] = np.nan
    frames[2] = np.nan
    write(tmp_path, frames)
    made = patterns(tmp_path, {"points": 100})
    assert made["lost_pixels"].values.tolist() == [0, 3 * 260, 200 * 260]
    assert np.isfinite(made["intensity"].values[:2, 5:90]).all()
    assert np.isnan(made["intensity"].values[2]).all()
    write(tmp_path / "none", np.zeros((2, *SHAPE), np.uint16))
    with pytest.warns(UserWarning, match="no counts at all"):
        dark = op.reduce(frames_of(tmp_path / "none"))["frames"]
    assert (dark["quality"] & int(Quality.BEAM_DUMP)).all()


def test_a_geometry_that_is_not_of_these_frames(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, np.ascontiguousarray(stack.transpose(0, 2, 1)))
    with pytest.raises(ConfigError, match="another detector") as told:
        patterns(tmp_path)
    assert "transpose fits" in str(told.value)
    assert patterns(tmp_path, orientation="transpose").sizes["time"] == 5
    write(tmp_path, stack[:, :100])
    with pytest.raises(ConfigError, match="another detector"):
        patterns(tmp_path)
    write(tmp_path, stack)
    np.save(tmp_path / "mask.npy", np.zeros((3, 3)))
    with pytest.raises(ConfigError, match="a mask is not of the frames' shape"):
        patterns(tmp_path, mask=str(tmp_path / "mask.npy"))
    np.save(tmp_path / "mask.npy", np.ones(SHAPE))
    with pytest.raises(ConfigError, match="leaves no pixel"):
        patterns(tmp_path, mask=str(tmp_path / "mask.npy"))


def test_a_wavelength_that_the_files_do_not_know(tmp_path: Path, stack: np.ndarray) -> None:
    path = write(tmp_path, stack)
    with h5py.File(path, "a") as h5:
        h5["entry/instrument/beam/incident_wavelength"] = 0.5
        h5["entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"
    with pytest.warns(UserWarning, match=r"calibrated at 0.4 angstrom, the files say 0.5"):
        op.reduce(frames_of(tmp_path))
    found = patterns(tmp_path, {"points": 100}, quiet=False, wavelength="0.5 angstrom")
    assert found.attrs["wavelength"] == pytest.approx(0.5)


def test_frames_that_are_gone_stop_only_what_needs_them(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path / "old", stack)
    listed = frames_of(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(LoaderError, match="is not there"):
        op.reduce(listed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert op.reduce(listed, folder=tmp_path / "new")["frames"].sizes["time"] == 5


def test_division_by_the_monitor_keeps_it(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack, [100, 200, 50, 0, 100])
    plain, by = patterns(tmp_path, {"points": 100}), patterns(tmp_path, {"points": 100, "normalise": "monitor", "reference": 100})
    np.testing.assert_allclose(by["intensity"].values[1], plain["intensity"].values[1] / 2, rtol=1e-6)
    np.testing.assert_allclose(by["intensity_errors"].values[2], plain["intensity_errors"].values[2] * 2, rtol=1e-6)
    assert np.isnan(by["intensity"].values[3]).all()
    assert by["monitor"].values.tolist() == [100, 200, 50, 0, 100]
    with pytest.raises(ConfigError, match="names no number") as told:
        patterns(tmp_path, {"normalise": "diode"})
    assert "monitor" in str(told.value)


def test_the_error_of_a_flat_panel_is_its_scatter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gain, readout, dark = 6.0, 4.0, 100.0
    photons = rng.poisson(rings(20.0), (200, *SHAPE))
    frames = np.round(gain * photons + rng.normal(dark, readout, photons.shape)).astype(np.uint16)
    it = Integrator(PONI, points=60, error_model="gain", gain=gain, readout_noise=readout, dark=np.full(SHAPE, dark))
    found = it.integrate(frames)
    inner = slice(5, 55)
    ratio = found.intensity.std(axis=0)[inner] / found.sigma.mean(axis=0)[inner]
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.03)
    assert it.kernel == "operando", "and pyFAI's own variances agree"
    poisson = Integrator(PONI, points=60, dark=np.full(SHAPE, dark)).integrate(frames[:2])
    assert np.mean(poisson.sigma[:, inner] / found.sigma[:2, inner]) < 0.9, "counting alone would promise too much"


@pytest.mark.parametrize("robust", ["sigma-clip", "median"])
def test_spots_do_not_count(robust: Any, tmp_path: Path, stack: np.ndarray) -> None:
    frames = stack[:1].copy()
    spots = np.random.default_rng(0).random(SHAPE) < 0.003
    frames[0][spots] = 5000
    write(tmp_path, frames)
    plain = patterns(tmp_path, {"points": 80})
    clean = patterns(tmp_path, {"points": 80, "robust": robust})
    truth = Integrator(PONI, points=80).integrate(stack[:1]).intensity[0]
    inner = slice(8, 70)

    def off(ds: xr.Dataset) -> float:
        return float(np.median(np.abs(ds["intensity"].values[0][inner] / truth[inner] - 1)))

    assert off(plain) > 0.2
    assert off(clean) < 0.05
    assert clean.attrs["robust"] == robust
    assert "pyFAI" in clean.attrs["method"]
    assert (clean["intensity_errors"].values[0][inner] > 0).all()


def test_the_azimuthal_error_is_the_scatter_in_the_ring(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack)
    by_ring, counting = patterns(tmp_path, {"points": 400, "error_model": "azimuthal"}), patterns(tmp_path, {"points": 400})
    flat = np.median(by_ring["intensity_errors"].values[0][20:300] / counting["intensity_errors"].values[0][20:300])
    assert flat == pytest.approx(1.0, abs=0.25), "an even ring scatters as counts do"


def test_part_of_the_ring(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack)
    part = patterns(tmp_path, {"points": 100, "azimuth_range": [0, 60]})
    assert 0 < part["total_counts"].values[0] < 0.5 * stack[0].sum()


# --------------------------------------------------------------------------- rings and parts that do not count


def test_an_orientation_that_is_wrong_is_told_and_solved(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack[:, ::-1].copy())
    with pytest.warns(UserWarning, match="rings do not fit: .*try that, or name a substance") as told:
        op.reduce(frames_of(tmp_path))
    assert any("orientation: up-down" in str(w.message) for w in told)
    with pytest.warns(UserWarning, match="rings do not fit CeO2: .*try orientation: up-down"):
        op.reduce(frames_of(tmp_path), {"reducer": "integrate", "calibrant": "CeO2"})
    found = patterns(tmp_path, {"calibrant": "CeO2"}, quiet=False, orientation="up-down")
    assert found.attrs["rings"] == "fit"


def test_a_wavelength_that_is_wrong_is_told_by_the_rings(tmp_path: Path, stack: np.ndarray) -> None:
    write(tmp_path, stack)
    with pytest.warns(UserWarning, match=r"in no orientation; they would at -?\+?\d") as told:
        op.reduce(frames_of(tmp_path, wavelength="0.41 angstrom"), {"reducer": "integrate", "calibrant": "CeO2"})
    assert any("-2." in str(w.message) for w in told), f"q comes out 2.4 % too small: {[str(w.message) for w in told]}"
    with pytest.warns(UserWarning, match="rings do not fit LaB6"):
        op.reduce(frames_of(tmp_path), {"reducer": "integrate", "calibrant": "LaB6"})
    with pytest.raises(ConfigError, match="calibrant: is not known"):
        patterns(tmp_path, {"calibrant": "unobtainium"})


def test_frames_without_rings_are_not_judged() -> None:
    it = Integrator(PONI, points=200)
    flat = np.random.default_rng(0).poisson(20.0, SHAPE)
    assert check_rings(flat, it).fit is None
    for name in ("up-down", "left-right"):
        assert check_rings(flat, Integrator(PONI, points=200, orientation=name)).fit is None
    assert calibrant_lines("CeO2")[0] == pytest.approx(2 * np.pi / 3.12441816, rel=1e-4)


def test_parts_that_do_not_count_are_named_and_not_masked(tmp_path: Path, stack: np.ndarray) -> None:
    frames = stack.copy()
    frames[:, 64:112, 160:208] = 0
    write(tmp_path, frames)
    with pytest.warns(UserWarning, match=r"rows 64 to 111, columns 160 to 207: 2304 pixels .* not masked"):
        made = op.reduce(frames_of(tmp_path))["frames"]
    assert made.attrs["masked_pixels"] == 0
    it = Integrator(PONI, points=200)
    total = 5 * stack.sum(axis=0)
    total[100, 80] = 0
    assert dead_parts(total, np.ones(SHAPE, bool), it, it.one(total)[0]) == ["1 single pixels that count nothing"]
    assert dead_parts(stack.sum(axis=0), np.ones(SHAPE, bool), it, it.one(stack.sum(axis=0))[0]) == []


@pytest.mark.real_data
def test_the_trap_of_the_measured_ceria(shared_data: Path) -> None:
    folder = shared_data / "xrd2d/dioptas_GPL3"
    listed = op.load(folder / "CeO2_Pilatus1M.tif", "xrd-frames", poni=str(folder / "CeO2_Pilatus1M.poni"), timezone="Europe/Paris")
    with pytest.warns(UserWarning, match="rings do not fit CeO2: .*try orientation: up-down"):
        op.reduce(listed, {"reducer": "integrate", "calibrant": "CeO2"})
    with pytest.warns(UserWarning, match="orientation: up-down"):
        op.reduce(listed)
    turned = op.load(
        folder / "CeO2_Pilatus1M.tif", "xrd-frames", poni=str(folder / "CeO2_Pilatus1M.poni"), orientation="up-down", timezone="Europe/Paris"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = op.reduce(turned, {"reducer": "integrate", "calibrant": "CeO2", "points": 2000, "split": "bbox"})["frames"]
    assert made.attrs["rings"] == "fit"
    strongest = float(made["two_theta"].values[np.nanargmax(made["intensity"].values[0])])
    assert strongest == pytest.approx(7.462, abs=0.003)
    x, y = np.loadtxt(folder / "CeO2_Pilatus1M.xy").T
    ours = np.interp(x, made["two_theta"].values, np.nan_to_num(made["intensity"].values[0]))
    assert np.corrcoef(ours, y)[0, 1] > 0.995


def test_a_dump_that_fills_whole_batches_is_one() -> None:
    """Without a monitor, what counted before is what a frame is held against: batches do not decide."""
    import xarray as xr

    from operando.reduction.integrate import Integrate, _without_beam

    rates = np.concatenate([np.full(20, 1e6), np.full(280, 1e4)])
    recipe, seen = Integrate.model_validate({"reducer": "integrate"}), {}
    found = []
    for k in range(0, 300, 64):
        total = rates[k : k + 64]
        frames = xr.Dataset(coords={"time": np.arange(total.size), "exposure": ("time", np.ones(total.size))})
        found.append(_without_beam(frames, recipe, total, None, seen, "run"))
    assert np.array_equal(np.concatenate(found), rates < 1e5)
