"""The radiographs: displacements are exact, noise is a camera's, and the files open in libraries that had no part in writing them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from scipy.optimize import curve_fit
from scipy.special import erf

from operando.simulate import imaging
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

SHAPE = (128, 192)


def campaign(folder: Path, cell: History, n: int = 12, **options: object) -> Campaign:
    begin = 600.0 + 5600.0 * np.arange(n)
    return Campaign(folder, "A", cell, SourceClock(2.5), Beam([(40_000.0, 43_000.0)]), np.random.default_rng(11), begin, 1.0, dict(options))


@pytest.fixture(scope="module")
def written(cell: History, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    folder = tmp_path_factory.mktemp("imaging")
    return folder, imaging.write(campaign(folder, cell))


def transmission(folder: Path) -> np.ndarray:
    """Correct the stack by its flat and dark."""
    stack = tifffile.imread(folder / "A_imaging_001.tif").astype(float)
    flat, dark = (tifffile.imread(folder / f"A_{n}.tif").astype(float) for n in ("flat", "dark"))
    return (stack - dark) / (flat - dark)


def test_the_edge_comes_back_from_the_files(written: tuple[Path, Told]) -> None:
    folder, told = written
    rows = np.arange(SHAPE[0], dtype=float)
    found = []
    for picture in transmission(folder):
        profile = np.median(picture, axis=1)
        near = (rows > 70) & (rows < 115)

        def step(y: np.ndarray, edge: float, low: float, high: float, width: float) -> np.ndarray:
            return low + (high - low) * 0.5 * (1 + erf((y - edge) / (width * np.sqrt(2))))

        found.append(curve_fit(step, rows[near], profile[near], p0=(93.0, 0.45, 1.0, 1.5))[0][0])
    true = told.observables["edge_position"]["values"] + told.observables["drift_y"]["values"]
    assert np.ptp(told.observables["edge_position"]["values"]) > 3, "it does swell"
    np.testing.assert_allclose(found, true, atol=0.1)


def test_drift_comes_back_by_correlation_of_the_collector(written: tuple[Path, Told]) -> None:
    folder, told = written
    pictures = transmission(folder)[:, :24, :]  # the collector drifts and does not swell
    dx = told.observables["drift_x"]["values"]
    assert np.ptp(dx) > 1, "it does drift"
    dy = told.observables["drift_y"]["values"]
    inner = (slice(6, 18), slice(14, -14))
    pictures = ndimage.gaussian_filter(pictures, (0, 2, 2))  # or half pixels would win, where interpolation averages the noise away
    candidates = np.arange(-8, 8, 0.05)
    for k in range(1, len(pictures)):
        moved = np.array([ndimage.shift(pictures[0], (dy[k] - dy[0], d), order=3, mode="nearest")[inner] for d in candidates])
        misfit = ((moved - pictures[k][inner]) ** 2).sum((1, 2))
        assert candidates[np.argmin(misfit)] == pytest.approx(dx[k] - dx[0], abs=0.2), k


def test_particles_move_with_their_depth() -> None:
    one = imaging.Scene(60.0, np.array([0.5]), np.array([20.0]), np.array([2.0]), np.array([-0.3]), np.array([]), np.array([]))
    bare = imaging.Scene(60.0, *(np.array([]) for _ in range(6)))
    for thickness in (60.0, 66.0):
        texture = one.transmission((128, 40), thickness, (0.0, 0.0)) - bare.transmission((128, 40), thickness, (0.0, 0.0))
        rows = (texture.sum(1) * np.arange(128)).sum() / texture.sum()
        assert rows == pytest.approx(imaging.COLLECTOR + thickness / 2, abs=0.01)


def test_noise_is_poisson_and_read_noise(cell: History, tmp_path: Path) -> None:
    told = imaging.write(campaign(tmp_path, cell, n=1))
    picture = tifffile.imread(tmp_path / "A_imaging_001.tif").astype(float)
    rng = np.random.default_rng(11)
    scene = imaging.Scene.of(rng, float(told.observables["thickness"]["values"][0]), SHAPE[1])
    flat = imaging.flat_field(rng, SHAPE)
    thickness, drift_y, drift_x = (float(told.observables[n]["values"][0]) for n in ("thickness", "drift_y", "drift_x"))
    mean = imaging.PHOTONS * flat * scene.transmission(SHAPE, thickness, (drift_y, drift_x))
    reduced = np.mean((picture - imaging.DARK - mean) ** 2 / (mean + imaging.READ_NOISE**2 + 1 / 12))
    assert reduced == pytest.approx(1.0, abs=4 * np.sqrt(2 / picture.size))


def test_another_library_reads_the_pages_and_their_scale(written: tuple[Path, Told]) -> None:
    folder, told = written
    ours = tifffile.imread(folder / "A_imaging_001.tif")
    with Image.open(folder / "A_imaging_001.tif") as image:
        assert image.n_frames == len(told.files) == len(ours)
        assert image.tag_v2[282] == pytest.approx(1e4), "pixels per centimetre"
        for k in (0, 5):
            image.seek(k)
            np.testing.assert_array_equal(np.asarray(image), ours[k])


def test_the_log_has_the_times_of_its_own_clock(written: tuple[Path, Told], cell: History) -> None:
    folder, told = written
    log = pd.read_csv(folder / "A_imaging_log.csv", parse_dates=["begin"])
    shown = (log["begin"].to_numpy() - cell.start) / np.timedelta64(1, "s")
    np.testing.assert_allclose(shown + 2.5, told.begin, atol=1e-3)
    assert log["file"].tolist() == told.files
    assert log["page"].tolist() == told.index
    assert set(log["exposure_ms"]) == {1000}


def test_the_same_chance_writes_the_same_bytes_and_files_may_be_split(written: tuple[Path, Told], cell: History, tmp_path: Path) -> None:
    folder, _ = written
    imaging.write(campaign(tmp_path, cell))
    for path in sorted(folder.iterdir()):
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / path.name).read_bytes()).digest(), path.name
    told = imaging.write(campaign(tmp_path, cell, n=5, frames_per_file=2, height=64, width=96))
    assert told.files[-1] == "A_imaging_003.tif"
    assert told.index == [0, 1, 0, 1, 0]
    assert tifffile.imread(tmp_path / "A_imaging_002.tif").shape == (2, 64, 96)
