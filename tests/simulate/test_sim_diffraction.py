"""The simulated diffraction: geometry, statistics and formats judged by pyFAI, fabio and h5py; physics by direct calculation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from operando.simulate import diffraction, powder
from operando.simulate import structures as st
from operando.simulate.area_detector import DETECTORS, POLARISATION, RadialBins, View, pixel_mask, poni_text
from operando.simulate.cell import LAGGING_X
from operando.simulate.instruments import Beam, Campaign, History, SourceClock
from operando.simulate.materials import graphite_stages, oxide_lattice

START = np.datetime64("2026-06-03T08:00:00.000")
EXPOSURE = 20.0


def cell_under_way(still: bool = False) -> History:
    """Twenty hours: one slow charge and discharge, or (still) nothing at all."""
    time = np.arange(0.0, 72_000.0, 10.0)
    course = np.full(time.size, 0.6) if still else 0.5 - 0.5 * np.cos(2 * np.pi * time / 72_000.0)
    x, y = 0.92 - 0.66 * course, 0.03 + 0.85 * course
    states = {"x_positive": x, "current": np.full(time.size, 0.0 if still else 1.2e-3)}
    states["a_oxide"], states["c_oxide"], states["z_oxygen"] = oxide_lattice(x)
    states["stage_1"], states["stage_2"], states["dilute"], states["d_dilute"] = graphite_stages(y)
    states["damaged_fraction"] = np.zeros(time.size) if still else 0.25 * (1 - np.exp(-time / 50_000.0))
    return History(START, time, states)


def diffraction_campaign(folder: Path, **options) -> Campaign:
    history = options.pop("history", None) or cell_under_way()
    begin = options.pop("begin", np.linspace(600.0, 70_000.0, 11))
    folder.mkdir(exist_ok=True)
    clock = SourceClock(offset=-37.25, drift=12e-6, zone="Europe/Paris")
    beam = Beam(dumps=[(34_000.0, 40_000.0)])  # the frame in the middle
    return Campaign(folder, "A", history, clock, beam, np.random.default_rng(11), begin, EXPOSURE, {"frames_per_file": 4} | options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    campaign = diffraction_campaign(tmp_path_factory.mktemp("sim") / "xrd")
    return campaign, diffraction.write(campaign)


def instrument_of(campaign: Campaign, detector: str = "pilatus100k"):
    truth = diffraction._Truth.of(campaign)
    return diffraction._Instrument(campaign, DETECTORS[detector], truth)


def integrator_for(detector, folder: Path):
    pyfai = pytest.importorskip("pyFAI")
    path = folder / "geometry.poni"
    path.write_text(poni_text(detector, st.WAVELENGTH))
    return pyfai.load(str(path))


@pytest.mark.parametrize("name", ["pilatus100k", "eiger4m"])
def test_geometry_is_pyfai(name, tmp_path):
    detector = DETECTORS[name]
    view = View(detector, st.WAVELENGTH)
    judge = integrator_for(detector, tmp_path)
    assert judge.wavelength == pytest.approx(0.4959368e-10, rel=1e-6)
    assert np.abs(judge.twoThetaArray(detector.shape) - view.two_theta).max() < 1e-6
    assert np.abs(np.angle(np.exp(1j * (judge.chiArray(detector.shape) - view.chi)))[view.two_theta > 0.01]).max() < 1e-5
    efficiency = judge.solidAngleArray(detector.shape) * judge.polarization(detector.shape, POLARISATION)
    np.testing.assert_allclose(efficiency, view.efficiency, rtol=2e-6)
    degrees = np.degrees(view.two_theta)
    assert degrees.min() < 3
    assert degrees.max() > 24


def test_eiger_gaps_are_those_of_the_detector():
    detectors = pytest.importorskip("pyFAI.detectors")
    detector = DETECTORS["eiger4m"]
    mask = pixel_mask(View(detector, st.WAVELENGTH), np.random.default_rng(0))
    assert np.array_equal(mask & 1 != 0, detectors.detector_factory("Eiger4M").mask.astype(bool))


def test_masses_are_recovered_from_the_lines():
    """Hill & Howard: W ~ S Z M V, with S from the area of the lines alone."""
    p = powder.Powder(25.0)
    x, y, lagging = 0.62, 0.44, 0.17
    a, c, _ = (float(v) for v in oxide_lattice(x))
    *stages, d = (float(v) for v in graphite_stages(y))
    masses, moles = powder.amounts(np.array([x]), np.array([lagging]), np.array([stages]))
    patterns = p.phases(powder.Mixture(x, a, c, d, 5e-4, masses[0]))
    lag = tuple(float(v) for v in oxide_lattice(LAGGING_X))
    phases = {
        "NMC811": (st.oxide(x, 0.24), p.oxide.families, p.oxide.strength(x), (a, c)),
        "NMC811_lagging": (st.oxide(LAGGING_X, 0.24), p.oxide.families, p.oxide.strength(LAGGING_X), lag[:2]),
        "LiC12": (st.LIC12, st.families(st.LIC12, *st.LIC12_CELL, 1.1), None, st.LIC12_CELL),
        "graphite": (st.GRAPHITE, p.graphite.families, p.graphite.strength(d), (st.GRAPHITE_A, 2 * d)),
    }
    for name, (structure, families, strength, cell) in phases.items():
        theta = np.arcsin(st.WAVELENGTH / 2 / families.spacing(*cell))
        area = (families.strength if strength is None else strength) / (np.sin(theta) ** 2 * np.cos(theta))
        scale = patterns[powder.PHASES.index(name)].sum() * powder.STEP / area[np.degrees(2 * theta) < 25].sum()
        mass = scale * structure.formula_units * structure.mass * structure.volume(*cell)
        assert mass == pytest.approx(masses[0, powder.PHASES.index(name)], rel=0.02), name  # tails beyond the grid
    assert patterns[2].max() == 0  # no LiC6 yet
    li = moles[0] @ np.array([x, LAGGING_X, 1.0, 1.0, 0.0])
    carbon = moles[0] @ np.array([0, 0, 6.0, 12.0, 1.0])
    assert carbon == pytest.approx(6.5 / 12.011)
    assert li == pytest.approx(10 / 97.28 * (0.83 * x + 0.17 * LAGGING_X) + carbon / 6 * (y - 0.2 * stages[2]), rel=1e-4)


def test_lines_stand_where_the_lattice_says(written):
    campaign, told = written
    p = powder.Powder(25.0)
    truth = diffraction._Truth.of(campaign)
    for frame in (1, 5, 8):
        mixture = truth.mixture(frame)
        active = p.phases(mixture)[0]
        for hkl in ((0, 0, 3), (1, 0, 1)):
            d = st.spacing(np.array([hkl]), mixture.a, mixture.c)[0]
            expected = np.degrees(2 * np.arcsin(st.WAVELENGTH / 2 / d))
            near = np.abs(p.two_theta - expected) < 0.1
            k = np.flatnonzero(near)[active[near].argmax()]
            left, mid, right = active[k - 1 : k + 2]
            top = p.two_theta[k] + 0.5 * powder.STEP * (left - right) / (left - 2 * mid + right)
            assert top == pytest.approx(expected, abs=2e-3)
        assert told.observables["d003"]["values"][frame] == pytest.approx(mixture.c / 3)


def test_profile_has_unit_area_and_the_stated_width():
    grid = np.arange(-40.0, 40.0, 0.002)
    fwhm, eta = powder.pseudo_voigt(np.array([0.06]), np.array([0.04]))
    one = powder.lines(grid, np.array([0.0]), np.array([1.0]), fwhm, eta)
    assert one.sum() * 0.002 == pytest.approx(1.0, abs=2e-3)
    assert np.ptp(grid[one > one.max() / 2]) == pytest.approx(fwhm[0], abs=0.005)
    scipy_special = pytest.importorskip("scipy.special")
    true = scipy_special.voigt_profile(grid, 0.06 / 2.3548, 0.02)
    assert np.abs(one - true).max() < 0.02 * true.max()


def test_texture_averages_to_one_and_lowers_what_it_should():
    """Over all directions of the pole the March-Dollase function is 1; r < 1 turns the preferred plane's normal towards the beam, out of reach."""
    normals = np.random.default_rng(0).standard_normal((4000, 3))
    assert powder.texture_factor(normals, (0, 0, 1), 0.8, 0.1) == pytest.approx(1.0, abs=0.02)
    two = np.array([[0, 0, 2], [0, 0, -2]])
    assert powder.texture_factor(two, (0, 0, 1), 0.8, 0.1) == pytest.approx((0.64 * np.sin(0.1) ** 2 + np.cos(0.1) ** 2 / 0.8) ** -1.5)


def test_truth_is_consistent(written):
    campaign, told = written
    n = campaign.begin.size
    assert told.index == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert told.files[0] == "A_0001.h5"
    assert told.files[-1] == "A_0003.h5"
    for name in ("weight_fraction", "mole_fraction"):
        values = told.observables[name]["values"]
        assert values.shape == (n, 5)
        np.testing.assert_allclose(values.sum(1), 1.0)
        assert np.all(values[0::2, 1] == 0)
        assert np.all(values[1::2, 1] > 0)
    weight, mole = (told.observables[k]["values"] for k in ("weight_fraction", "mole_fraction"))
    mass = np.stack([90.34 + 6.94 * told.observables["x_positive"]["values"], *(np.full(n, m) for m in (95.55, 79.006, 151.072, 12.011))], 1)
    again = mole * mass
    np.testing.assert_allclose(again / again.sum(1, keepdims=True), weight, rtol=2e-4)
    json.dumps(told.facts, default=lambda v: v.tolist())


def test_still_cell_counts_poisson(tmp_path):
    """A cell that does not change: variance over mean of repeated frames, and the chi2 of their sum against what is expected."""
    begin = 300.0 * np.arange(40)  # one phase of the top-up: the same beam every time
    campaign = diffraction_campaign(tmp_path / "still", history=cell_under_way(still=True), begin=begin)
    campaign = replace(campaign, beam=Beam())
    instrument = instrument_of(campaign)
    expected = instrument.expected(0)
    frames = np.stack([instrument.count(k) for k in range(40)]).astype(float)
    good = instrument.mask == 0
    mean, variance = frames.mean(0)[good], frames.var(0, ddof=1)[good]
    assert (variance / mean)[mean > 0].mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / 39 / good.sum()) + 0.01)
    chi2 = ((frames.sum(0)[good] - 40 * expected[good]) ** 2 / (40 * expected[good])).sum()
    assert chi2 == pytest.approx(good.sum(), abs=5 * np.sqrt(2 * good.sum()))
    assert mean.mean() == pytest.approx(2.5, rel=0.02)


def test_pyfai_gives_back_the_pattern(tmp_path):
    campaign = diffraction_campaign(tmp_path / "flat", history=cell_under_way(still=True), begin=300.0 * np.arange(30), copper_ripple=0.0)
    campaign = replace(campaign, beam=Beam())
    instrument = instrument_of(campaign)
    judge = integrator_for(instrument.detector, tmp_path)
    counts = np.sum([instrument.count(k) for k in range(30)], 0).astype(np.float32)
    options = {"npt": 500, "unit": "2th_deg", "method": ("no", "histogram", "cython"), "polarization_factor": POLARISATION}
    mask = (instrument.mask != 0).astype(np.int8)
    noiseless = judge.integrate1d(instrument.expected(0), mask=mask, **options)
    scale = instrument.brightness * EXPOSURE * instrument.truth.beam[0]
    fine = instrument.powder.pattern(instrument.truth.mixture(0)) * scale + instrument.detector.dark_rate * EXPOSURE
    # the bins are narrower than a pixel: compare what lies in them, the pattern at the pixels' own angles
    degrees = np.degrees(instrument.view.two_theta[instrument.mask == 0])
    step = noiseless.radial[1] - noiseless.radial[0]
    place = np.clip(np.rint((degrees - noiseless.radial[0]) / step).astype(int), 0, 499)
    direct = np.bincount(place, np.interp(degrees, instrument.powder.two_theta, fine), 500) / np.maximum(np.bincount(place, minlength=500), 1)
    full = (noiseless.count > 20) & (np.bincount(place, minlength=500) > 20)
    assert full.sum() > 450
    assert np.median(np.abs(noiseless.intensity[full] / direct[full] - 1)) < 0.003
    noisy = judge.integrate1d(counts, mask=mask, error_model="poisson", **options)
    pull = (noisy.intensity - 30 * noiseless.intensity)[full] / noisy.sigma[full]
    assert np.mean(pull**2) == pytest.approx(1.0, abs=0.3)
    bins = RadialBins(instrument.view, instrument.mask == 0, 400)
    ours, errors = bins.integrate(counts)
    theirs = judge.integrate1d(
        counts,
        400,
        unit="q_A^-1",
        radial_range=(bins.edges[0], bins.edges[-1]),
        mask=mask,
        method=("no", "histogram", "cython"),
        polarization_factor=POLARISATION,
        error_model="poisson",
    )
    np.testing.assert_allclose(theirs.radial, bins.q, rtol=1e-5)
    same = np.isclose(theirs.intensity, ours, rtol=1e-4)
    assert same.mean() > 0.95  # a pixel on the edge of two bins may fall either way
    assert np.isclose(theirs.sigma, errors, rtol=1e-3)[same].mean() > 0.95


def test_frames_are_nexus(written):
    campaign, told = written
    with h5py.File(campaign.folder / "A_0002.h5") as f:
        entry = f["entry"]
        data = entry["data/data"]
        assert data.shape == (4, 195, 487)
        assert data.chunks == (1, 195, 487)
        assert data.dtype == np.uint32
        assert data.id.get_create_plist().get_filter(0)[0] == 32008  # bitshuffle
        start = np.datetime64(entry["start_time"].asstr()[()].removesuffix("+02:00"))
        expected = campaign.clock.wall(START, campaign.begin[4] - 0.5)
        assert start == expected
        assert entry["start_time"].asstr()[()].endswith("+02:00")
        late = entry["measurement/timestamp"][:] - (campaign.clock.stamp(campaign.begin[4:8]) - campaign.clock.stamp(campaign.begin[4] - 0.5))
        assert np.all((late > 0.003) & (late < 0.032))
        assert entry["instrument/detector/count_time"][()] == EXPOSURE
        assert entry["measurement/samy"][:] == pytest.approx([0.0, 1.5, 0.0, 1.5], abs=0.005)
        mask = entry["instrument/detector/pixel_mask"][:]
        # frame 5 lies in the dump: nothing but dark counts, and the hot pixels
        dark, light = data[1][mask == 0], data[0][mask == 0]
        assert dark.mean() == pytest.approx(20 * 2e-5, abs=4e-4)
        assert 2.0 < light.mean() < 3.0
        assert entry["measurement/monitor"][1] < 1e-3 * entry["measurement/monitor"][0]
        assert abs(entry["measurement/ring_current"][1]) < 0.2
        for row, column in told.facts["dead_pixels"]:
            assert data[0][row, column] == 0
        for row, column in told.facts["hot_pixels"]:
            assert data[1][row, column] > 600
    assert np.array_equal(np.load(campaign.folder / "mask.npy") != 0, mask != 0)


def test_fabio_opens_the_frames(written):
    fabio = pytest.importorskip("fabio")
    campaign, _ = written
    with fabio.open(f"{campaign.folder / 'A_0001.h5'}::/entry/data/data") as image, h5py.File(campaign.folder / "A_0001.h5") as f:
        assert image.nframes == 4
        assert np.array_equal(image.data, f["entry/data/data"][0])


def test_patterns_open_as_xrd(written):
    import operando as op

    campaign, told = written
    options = {
        "preset": "nexus-nxazint1d",
        "frame_times": "measurement/timestamp",
        "count_time": "instrument/detector/count_time",
        "coords": {"position": "measurement/position", "samy": "measurement/samy", "monitor": "[NXmonitor]/data"},
    }
    loaded = op.load(str(campaign.folder / "processed" / "A_*_integrated.h5"), "hdf5-path", **options)
    series = loaded if not isinstance(loaded, list) else loaded[0]
    assert series.attrs["technique"] == "xrd"
    assert series.sizes["time"] == 11
    assert series.sizes["q"] == 900
    assert series.position.values.tolist() == [k % 2 for k in range(11)]
    assert np.issubdtype(series.position.dtype, np.integer)
    stamps = campaign.clock.utc(START, campaign.begin)
    middle = series.time.values.astype("datetime64[ms]")
    late = (middle - stamps) / np.timedelta64(1, "ms") / 1000.0
    assert np.all(np.minimum(np.abs(late), np.abs(late - EXPOSURE / 2)) < 0.04)
    assert series.exposure.values == pytest.approx(EXPOSURE)
    q, intensity = series.q.values, series.intensity.values[4]
    peak = q[np.where(q < 1.5, intensity, 0).argmax()]
    assert peak == pytest.approx(2 * np.pi / told.observables["d003"]["values"][4], abs=0.01)


def test_same_chance_same_bytes(written, tmp_path):
    campaign, _ = written
    diffraction.write(diffraction_campaign(tmp_path / "again"))
    files = sorted(p.relative_to(campaign.folder) for p in campaign.folder.rglob("*") if p.is_file())
    assert len(files) == 8
    for file in files:
        assert (campaign.folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_half_written_file(tmp_path):
    campaign = diffraction_campaign(tmp_path / "half", half_written=True)
    told = diffraction.write(campaign)
    assert len(told.files) == 8
    assert told.begin.size == told.observables["weight_fraction"]["values"].shape[0] == 8
    spoilt = told.facts["half_written"]
    assert spoilt["files"] == ["A_0003.h5", "processed/A_0003_integrated.h5"]
    assert spoilt["begin_s"].tolist() == campaign.begin[8:].tolist()
    for file in spoilt["files"]:
        with pytest.raises(OSError, match="truncated"):
            h5py.File(campaign.folder / file)


def test_eiger_writes_whole_frames(tmp_path):
    campaign = diffraction_campaign(tmp_path / "eiger", begin=np.array([600.0]), detector="eiger4m")
    told = diffraction.write(campaign)
    with h5py.File(campaign.folder / told.files[0]) as f:
        frame, mask = f["entry/data/data"][0], f["entry/instrument/detector/pixel_mask"][:]
    assert frame.shape == (2167, 2070)
    assert np.all(frame[mask & 3 != 0] == 2**32 - 1)
    assert frame[mask == 0].max() < 10_000
    assert frame[mask == 0].mean() == pytest.approx(2.5, rel=0.02)
