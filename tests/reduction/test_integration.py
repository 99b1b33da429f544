"""Integration against pyFAI's own, frame by frame, and what a detector may hold that is no count."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.contract import ConfigError, ContractError
from operando.reduction import integration
from operando.reduction.integration import Integrator

SHAPE = (120, 160)


@pytest.fixture(scope="module")
def geometry() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyFAI.detectors import Detector
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator
    return AzimuthalIntegrator(
        dist=0.1, poni1=0.01, poni2=0.012, rot1=0.05, rot2=-0.03, detector=Detector(172e-6, 172e-6, max_shape=SHAPE), wavelength=0.5e-10
    )


def counts(seed: int, level: float = 40.0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(level, (3, *SHAPE)).astype(np.uint32)


@pytest.mark.parametrize("split", ["no", "bbox"])
@pytest.mark.parametrize("corrected", [False, True])
def test_intensity_and_sigma_are_those_of_pyfai(geometry: Any, split: Any, corrected: bool) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random(SHAPE) < 0.03
    options: dict[str, Any] = {"polarization": 0.95, "flat": rng.uniform(0.9, 1.1, SHAPE), "dark": rng.uniform(0, 2, SHAPE)} if corrected else {}
    integrator = Integrator(geometry, points=200, mask=mask, split=split, **options)
    assert integrator.kernel == "operando"
    frames = counts(0)
    found = integrator.integrate(frames, monitor=np.array([1.0, 2.0, 4.0]))
    for k, frame in enumerate(frames):
        peer = geometry.integrate1d_ng(
            frame,
            200,
            unit="q_A^-1",
            mask=mask.astype(np.int8),
            method=(split, "csc", "cython"),
            error_model="poisson",
            polarization_factor=options.get("polarization"),
            flat=options.get("flat"),
            dark=options.get("dark"),
            normalization_factor=(1.0, 2.0, 4.0)[k],
        )
        there = peer.sum_normalization > 0
        np.testing.assert_allclose(integrator.q, peer.radial, rtol=1e-6)
        assert np.abs(found.intensity[k][there] - peer.intensity[there]).max() < 1e-6 * np.abs(peer.intensity).max()
        np.testing.assert_allclose(found.sigma[k][there], peer.sigma[there], rtol=1e-3)
        assert np.isnan(found.intensity[k][~there]).all()


@pytest.mark.parametrize("split", ["no", "bbox"])
def test_pixels_that_hold_no_count_are_left_out(geometry: Any, split: Any) -> None:
    integrator = Integrator(geometry, points=150, split=split, saturation=1000.0, dark=np.full(SHAPE, 1.0))
    frame = counts(2)[0]
    spoilt = frame.copy()
    spoilt[10:14, 20:30] = 2**32 - 1
    spoilt[50, 50:60] = 5000
    found = integrator.integrate(spoilt)
    assert found.saturated.tolist() == [10]
    assert found.invalid.tolist() == [50], "40 that are gone and 10 that are saturated"
    bad = spoilt >= 1000
    clean = Integrator(geometry, points=150, split=split, dark=np.full(SHAPE, 1.0), mask=bad).integrate(frame)
    np.testing.assert_allclose(found.intensity, clean.intensity, rtol=1e-9)
    np.testing.assert_allclose(found.sigma, clean.sigma, rtol=1e-9)
    signed = frame.astype(np.int32)
    signed[:5] = -1
    plain = Integrator(geometry, points=150, split=split)
    assert plain.integrate(signed).invalid.tolist() == [5 * SHAPE[1]]
    floats = frame.astype(np.float32)
    floats[:5] = np.nan
    np.testing.assert_allclose(plain.integrate(floats).intensity, plain.integrate(signed).intensity, rtol=1e-6)


def test_sigma_is_the_scatter_of_repeated_frames(geometry: Any) -> None:
    integrator = Integrator(geometry, points=80)
    for level in (0.05, 3.0):  # also where most pixels hold nothing
        frames = np.random.default_rng(5).poisson(level, (300, *SHAPE)).astype(np.uint16)
        found = integrator.integrate(frames)
        inner = slice(10, 70)
        ratio = found.intensity.std(axis=0)[inner] / np.sqrt((found.sigma**2).mean(axis=0))[inner]
        assert np.mean(ratio) == pytest.approx(1.0, abs=0.02)


def test_where_it_differs_pyfai_does_the_work(geometry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Integrator(geometry, points=100).integrate(counts(3))
    monkeypatch.setattr(integration, "AGREE", 0.0)
    with pytest.warns(UserWarning, match="differs from pyFAI's"):
        slow = Integrator(geometry, points=100)
    assert slow.kernel == "pyFAI"
    assert "added up by pyFAI" in slow.method
    np.testing.assert_allclose(slow.integrate(counts(3)).intensity, ours.intensity, rtol=1e-5)


def test_the_frames_of_the_example(root: Path) -> None:
    import h5py
    import hdf5plugin  # noqa: F401

    with h5py.File(root / "example_beamtime/xrd/A_0001.h5") as h5, h5py.File(root / "example_beamtime/xrd/processed/A_0001_integrated.h5") as done:
        frames = h5["entry/data/data"][:4]
        names: list[str] = []
        done.visit(names.append)
        axis = next(n for n in names if n.endswith("radial_axis"))
        theirs = next(n for n in names if n.endswith("/I") or n.endswith("/intensity") or n.endswith("data/data"))
        q, intensity = done[axis][:], done[theirs][:4]
    integrator = Integrator(
        root / "example_beamtime/xrd/geometry.poni",
        points=intensity.shape[1],
        mask=np.load(root / "example_beamtime/xrd/mask.npy"),
        polarization=0.99,
    )
    found = integrator.integrate(frames)
    # the simulator integrates with code and bins of its own: the patterns agree in shape
    mine = np.array([np.interp(q, integrator.q, np.nan_to_num(one)) for one in found.intensity])
    for a, b in zip(mine, intensity, strict=True):
        good = np.isfinite(b) & (b > 0)
        assert np.corrcoef(a[good], b[good])[0, 1] > 0.98


def test_what_cannot_be_integrated_is_said(geometry: Any, tmp_path: Path) -> None:
    for work, words in (
        (lambda: Integrator(geometry, split="full"), "split is not known"),  # type: ignore[arg-type]
        (lambda: Integrator(geometry, points=1), "too few points"),
        (lambda: Integrator(tmp_path / "none.poni"), "geometry cannot be read"),
        (lambda: Integrator(3.0), "not a geometry"),
    ):
        with pytest.raises(ConfigError, match=words):
            work()
    with pytest.raises(ContractError, match="the mask is not of the detector's shape"):
        Integrator(geometry, mask=np.zeros((3, 3)))
    with pytest.raises(ContractError, match="the frames are not of the detector's shape"):
        Integrator(geometry, points=50).integrate(np.zeros((2, 4, 4)))


def test_a_file_that_says_no_wavelength_is_no_geometry(tmp_path: Path) -> None:
    (tmp_path / "empty.poni").write_text("")
    with pytest.raises(ConfigError, match="no wavelength"):
        Integrator(tmp_path / "empty.poni", shape=(10, 10))


@pytest.mark.parametrize("level", [20.0, 400.0])
def test_the_error_of_a_median_is_what_it_scatters_by(level: float) -> None:
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    ai = AzimuthalIntegrator(dist=0.1, poni1=0.01, poni2=0.01, detector=Detector(1e-4, 1e-4, max_shape=(200, 200)), wavelength=5e-11)
    pattern = Integrator(ai, points=60, robust="median").integrate(np.random.default_rng(0).poisson(level, (30, 200, 200)).astype(np.uint32))
    scatter = np.nanstd(pattern.intensity, axis=0, ddof=1)
    assert np.nanmedian(scatter / np.nanmedian(pattern.sigma, axis=0)) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("whole", [(-180.0, 180.0), (0.0, 360.0)])
def test_a_whole_turn_of_azimuth_leaves_nothing_out(whole: tuple[float, float]) -> None:
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    ai = AzimuthalIntegrator(dist=0.1, poni1=0.01, poni2=0.01, detector=Detector(1e-4, 1e-4, max_shape=(200, 200)), wavelength=5e-11)
    assert not Integrator(ai, points=60, azimuth_range=whole).mask.any()
