"""Detector frames in a build: listed, aligned, integrated, reduced further; each frame once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import xarray as xr
from toy_reducers import Factor, Toys, total, toy_reducers

import operando as op
from operando import beamtime, images
from operando.config import read_config
from operando.contract import ConfigError
from operando.reduction import Products, interface
from operando.reduction.integrate import integrate
from operando.reduction.integration import Integrator

SHAPE = (60, 80)
PONI = """Detector: Detector
Detector_config: {"pixel1": 0.0002, "pixel2": 0.0002, "max_shape": [60, 80], "orientation": 3}
Distance: %s
Poni1: 0.003
Poni2: 0.002
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 4e-11
"""
CONFIG = """\
timezone: Europe/Paris
sources:
  detector:
    loader: xrd-frames
    files: xrd/*.h5
    poni: xrd/geometry.poni
    mask: masks/mask.h5::mask
    clock: {{offset: {offset} s}}
cells:
  A:
    series:
      xrd: {{from: detector{recipe}}}
"""


def frames(number: int) -> np.ndarray:
    return np.random.default_rng(number).poisson(8.0 + number, (3, *SHAPE)).astype(np.uint32)


def write(folder: Path, number: int) -> None:
    with h5py.File(folder / f"xrd/a_{number:04d}.h5", "w") as h5:
        entry = h5.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["start_time"] = f"2026-06-03T10:{number:02d}:00"
        inside = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"], inside.attrs["NX_class"] = "NXinstrument", "NXdetector"
        inside.create_dataset("data", data=frames(number), chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle())
        inside["count_time"] = 10.0
        entry["measurement/monitor"] = np.full(3, 1000.0)


def configure(folder: Path, recipe: str = ", recipe: {reducer: integrate, points: 50}", offset: float = -37) -> Path:
    path = folder / "beamtime.yaml"
    path.write_text(CONFIG.format(recipe=recipe, offset=offset))
    return path


def geometry(folder: Path, distance: float = 0.05) -> None:
    (folder / "xrd/geometry.poni").write_text(PONI % distance)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "june"
    (here / "xrd").mkdir(parents=True)
    for number in range(4):
        write(here, number)
    geometry(here)
    mask(here, 3)
    return here


def mask(folder: Path, rows: int) -> None:
    (folder / "masks").mkdir(exist_ok=True)
    with h5py.File(folder / "masks/mask.h5", "w") as h5:
        h5["mask"] = (np.arange(SHAPE[0])[:, None] * np.ones(SHAPE[1]) < rows).astype(np.int8)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Toys:
    """The toy reducers beside the real one, which notes how many frames it was handed."""
    made = toy_reducers()
    made.handed = []  # type: ignore[attr-defined]

    def noted(images_: xr.Dataset, recipe: Any, state: Any = None) -> Products:
        made.handed.append(images_.sizes["time"])  # type: ignore[attr-defined]
        return integrate.run(images_, recipe, state)

    declared = {name: getattr(integrate, name) for name in ("technique", "kind", "products", "recipe", "version", "reads", "default")}
    made.known["integrate"] = interface.reducer("integrate", **declared)(noted)
    monkeypatch.setattr(interface, "reducers", lambda: made.known)
    return made


def run(config: Path, **more: Any) -> beamtime.Outcome:
    outcome = beamtime.run(read_config(config), **more)
    assert outcome.ok, [str(p) for p in outcome.problems] or outcome.quarantined
    return outcome


def product(outcome: beamtime.Outcome, name: str = "frames") -> xr.Dataset:
    return op.open_beamtime(outcome.published)[f"A/xrd/{name}"].to_dataset().load()


def handed(toys: Toys) -> int:
    n = sum(toys.handed)  # type: ignore[attr-defined]
    toys.handed.clear()  # type: ignore[attr-defined]
    return n


def test_frames_are_listed_aligned_and_integrated(folder: Path, toys: Toys) -> None:
    outcome = run(configure(folder))
    made, listed = product(outcome), product(outcome, "images")
    assert made.sizes == {"time": 12, "q": 50}
    assert listed["file"].values[4] == "xrd/a_0001.h5"
    assert str(made["time"].values[0]) == "2026-06-03T07:59:28.000000000", "with the clock, middle of the exposure, UTC"
    np.testing.assert_array_equal(made["time"], listed["time"])
    assert made["flags"].dtype.kind == "i"
    wanted = Integrator(PONI % 0.05, points=50, mask=np.arange(60)[:, None] * np.ones(80) < 3).integrate(
        np.concatenate([frames(k) for k in range(4)])
    )
    np.testing.assert_allclose(made["intensity"], wanted.intensity, rtol=1e-6)
    np.testing.assert_allclose(made["intensity_errors"], wanted.sigma, rtol=1e-6)
    assert handed(toys) == 12


def test_each_frame_is_integrated_once(folder: Path, toys: Toys) -> None:
    config = configure(folder)
    run(config)
    assert handed(toys) == 12
    run(config)
    assert handed(toys) == 0
    run(configure(folder, offset=-40))
    assert handed(toys) == 0, "a clock edit touches no frame"
    write(folder, 4)
    grown = run(configure(folder, offset=-40))
    assert handed(toys) == 3
    geometry(folder, 0.06)
    run(configure(folder, offset=-40))
    assert handed(toys) == 15, "another geometry is another pattern"
    mask(folder, 10)
    run(configure(folder, offset=-40))
    assert handed(toys) == 15
    run(configure(folder, ", recipe: {reducer: integrate, points: 60}", -40))
    assert handed(toys) == 15
    write(folder, 2)
    (folder / "xrd/a_0002.h5").touch()
    run(configure(folder, ", recipe: {reducer: integrate, points: 60}", -40))
    assert handed(toys) in (0, 3), "the same content written again"
    fresh = run(configure(folder, ", recipe: {reducer: integrate, points: 60}", -40), output=folder / "fresh.nxs")
    for name in ("frames", "images"):
        xr.testing.assert_identical(product(grown, name), product(fresh, name))


@pytest.mark.parametrize(
    "recipe",
    ["{stages: [{reducer: integrate, points: 50}, {reducer: total}, {reducer: doubled}]}", "{stages: [{reducer: total}, {reducer: doubled}]}"],
)
def test_what_reads_frames_follows_in_a_chain(recipe: str, folder: Path, toys: Toys) -> None:
    outcome = run(configure(folder, f", recipe: {recipe}"))
    made = product(outcome)
    np.testing.assert_allclose(product(outcome, "reduced")["total"], made["intensity"].sum("q"), rtol=1e-6)
    np.testing.assert_allclose(product(outcome, "observables")["twice"], 2 * made["intensity"].sum("q"), rtol=1e-6)
    assert handed(toys) == 12
    calls = len(toys.calls)
    run(configure(folder, f", recipe: {recipe.replace('reducer: total', 'reducer: total, factor: 3')}"))
    assert handed(toys) == 0, "editing a later stage integrates nothing again"
    assert len(toys.calls) > calls


def test_by_default_images_of_diffraction_are_integrated_and_what_runs_on_patterns_by_default_follows(folder: Path, toys: Toys) -> None:
    toys.add("standard", total, default=True, recipe=Factor)
    outcome = run(configure(folder, ""))
    assert product(outcome).attrs["reducer"] == "integrate"
    assert product(outcome, "reduced").sizes["time"] == 12


def test_a_beamtime_may_be_moved(folder: Path, toys: Toys) -> None:
    outcome = run(configure(folder))
    moved = folder.with_name("july")
    folder.rename(moved)
    outcome = run(moved / "beamtime.yaml")
    assert handed(toys) == 12
    outcome = run(configure(moved, ", recipe: {reducer: integrate, points: 40}"))
    assert handed(toys) == 12
    assert product(outcome).sizes["q"] == 40
    listed = product(outcome, "images")
    first = (str(listed["file"].values[0]), str(listed["dataset"].values[0]), int(listed["index"].values[0]))
    np.testing.assert_array_equal(images.read(*first, folder=outcome.published.parent), frames(0)[0])


def test_batches_and_threads_change_nothing(folder: Path, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    from operando.beamtime import reducing

    one = run(configure(folder))
    monkeypatch.setattr(reducing, "_FIRST_IMAGES", 2)
    monkeypatch.setattr(reducing, "_MOST_IMAGES", 5)
    other = run(folder / "beamtime.yaml", output=folder / "other.nxs", workers=2)
    xr.testing.assert_identical(product(one), product(other))
    assert toys.handed[1:] == [2, 5, 5]  # type: ignore[attr-defined]


def test_a_damaged_frame_is_told_and_nan_and_the_rest_is_made(folder: Path, toys: Toys) -> None:
    with h5py.File(folder / "xrd/a_0001.h5", "a") as h5:
        data = h5["entry/instrument/detector/data"].id
        _, raw = data.read_direct_chunk((1, 0, 0))
        data.write_direct_chunk((1, 0, 0), raw[: len(raw) // 3])
    outcome = run(configure(folder))
    made = product(outcome)
    assert np.isnan(made["intensity"].values[4]).all()
    assert (made["quality"].values != 0).tolist() == [k == 4 for k in range(12)]
    assert any("A/xrd: 1 frame could not be read" in message and "a_0001.h5" in message for message in outcome.messages)


def test_without_a_geometry_frames_are_aligned_and_the_rest_is_told(folder: Path, toys: Toys) -> None:
    config = configure(folder, "")
    config.write_text("".join(line for line in config.read_text().splitlines(keepends=True) if "poni" not in line and "mask" not in line))
    outcome = beamtime.run(read_config(config))
    assert [type(p) for p in outcome.problems] == [ConfigError]
    assert "no geometry" in str(outcome.problems[0])
    assert "A/xrd" in str(outcome.problems[0])
    assert product(outcome, "images").sizes["time"] == 12


def test_frames_of_another_size_are_a_setup_of_their_own(folder: Path, toys: Toys) -> None:
    write(folder, 5)
    with h5py.File(folder / "xrd/a_0005.h5", "a") as h5:
        del h5["entry/instrument/detector/data"]
        h5["entry/instrument/detector/data"] = frames(5)[:, :40]
    outcome = beamtime.run(read_config(configure(folder)))
    assert any("xrd_setup1" in message for message in outcome.messages)
    assert any("another detector" in str(problem) or "a mask is not" in str(problem) for problem in outcome.problems)
    assert product(outcome).sizes["time"] == 12
