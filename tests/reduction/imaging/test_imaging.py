"""Drift, edges, thickness, regions and maps of pictures that are rendered from formulas: displacements are exact, nothing is interpolated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

import operando as op
from operando.contract import ConfigError, LoaderError, OperandoError, Quality
from operando.reduction.imaging.edges import locate, profile
from operando.reduction.imaging.pictures import Correction, pixel_noise, region_mean
from operando.reduction.imaging.recipe import Edge, Imaging, Region
from operando.reduction.imaging.registration import Shift, register

SHAPE = (90, 110)
rng = np.random.default_rng(11)
BLOBS = np.column_stack([rng.uniform(-10, 100, 70), rng.uniform(-10, 120, 70), rng.uniform(1.5, 4, 70), rng.uniform(-0.4, 0.4, 70)])


def scene(dy: float = 0.0, dx: float = 0.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Particles, displaced."""
    y, x = np.arange(shape[0])[:, None] - dy, np.arange(shape[1])[None, :] - dx
    out = np.full(shape, 0.6)
    for row, column, radius, contrast in BLOBS:
        out = out * (1 + contrast * np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / radius**2))
    return out


def step(position: float, width: float = 1.5, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A layer of 0.4 above, 1 below an edge at a row."""
    y = np.arange(shape[0])[:, None] - position
    return np.broadcast_to(0.4 + 0.6 * 0.5 * (1 + erf(y / (np.sqrt(2) * width))), shape).copy()


def stack(folder: Path, pictures: list[np.ndarray], name: str = "a.tif", **options: Any) -> xr.Dataset:
    with tifffile.TiffWriter(folder / name) as out:
        for one in pictures:
            out.write(one, metadata=None, contiguous=False)
    return op.load(folder / name, loader="tiff-stack", start="2024-01-01T00:00:00", frame_time="10 s", timezone="UTC", **options)


def counted(picture: np.ndarray, chance: np.random.Generator, photons: float = 5000.0) -> np.ndarray:
    return chance.poisson(photons * picture).astype(np.uint16)


# --------------------------------------------------------------------------- drift


@pytest.mark.parametrize("far", [0.4, 3.0, 14.0])
def test_displacement_within_its_error(far: float) -> None:
    chance = np.random.default_rng(3)
    reference = scene() + 0.01 * chance.standard_normal(SHAPE)
    off = []
    for _ in range(30):
        true = chance.uniform(-far, far, 2)
        seen = 1.3 * scene(*true) + 0.05 + 0.013 * chance.standard_normal(SHAPE)
        found = register(reference, seen, (20, 70, 20, 90), guess=(0.0, 0.0), most=40.0)
        assert found.found, true
        off += [(found.dy - true[0], found.dy_error), (found.dx - true[1], found.dx_error)]
    deviation, stated = np.array(off).T
    assert np.abs(deviation).max() < 0.1
    assert 0.6 < np.std(deviation / stated) < 1.6, "one standard error is one"


def test_nothing_to_hold_on_to() -> None:
    chance = np.random.default_rng(4)
    noise = [1 + 0.1 * chance.standard_normal(SHAPE) for _ in range(2)]
    found = register(noise[0], noise[1], (0, 90, 0, 110), guess=(0.0, 0.0), most=5.0)
    assert not found.found or found.dy_error > 0.02
    assert not register(np.ones(SHAPE), np.ones(SHAPE), (0, 90, 0, 110), guess=(0.0, 0.0), most=5.0).found
    assert not register(scene(), scene(20, 0), (20, 70, 20, 90), guess=(0.0, 0.0), most=10.0).found, "farther than most"
    assert not register(scene(), np.full(SHAPE, np.nan), (20, 70, 20, 90), guess=(0.0, 0.0), most=10.0).found


@pytest.mark.parametrize(("photons", "contrast", "pattern"), [(500, 0.1, 0.05), (2000, 0.1, 0.05), (2000, 0.4, 0.02), (2000, 1.0, 0.0)])
def test_a_pattern_on_the_detector_is_no_match(photons: float, contrast: float, pattern: float) -> None:
    """Pixels that answer unlike, or a flat's noise, match at 0 whatever the picture's displacement."""
    chance = np.random.default_rng(21)
    answer = 1 + pattern * chance.standard_normal(SHAPE)

    def take(dy: float, dx: float) -> np.ndarray:
        return chance.poisson(photons * answer * (1 + contrast * (scene(dy, dx) - 0.6))).astype(float)

    reference, off, told = take(0, 0), [], 0
    for _ in range(20):
        true = chance.uniform(-2.5, 2.5, 2)
        found = register(reference, take(*true), (0, 90, 0, 110), guess=(0.0, 0.0), most=20.0)
        told += found.pattern
        if found.found:
            off += [(found.dy - true[0], found.dy_error), (found.dx - true[1], found.dx_error)]
    assert all(abs(deviation) < 4 * error for deviation, error in off)
    assert told == 0 if pattern == 0 else told > 2
    assert len(off) == 40 if pattern < 0.05 else True


def test_noise_of_a_flat_is_told(tmp_path: Path) -> None:
    chance = np.random.default_rng(22)
    light = [1 + 0.3 * (scene(dy, 0.0) - 0.6) for dy in (0.0, 1.2, 1.8)]
    tifffile.imwrite(tmp_path / "flat.tif", counted(np.ones(SHAPE), chance, 500), metadata=None)
    ds, flat = stack(tmp_path, [counted(one, chance, 500) for one in light]), {"file": "flat.tif"}
    with pytest.warns(UserWarning, match=r"stays on the detector pulls the drift of \d frames? to 0 .* average more frames in flat:"):
        op.reduce(ds, {"reducer": "imaging", "drift": {}, "flat": flat}, base=tmp_path)


def test_dead_pixels_do_not_move() -> None:
    reference, seen = scene(), scene(2.3, -1.6)
    bad = np.random.default_rng(5).random(SHAPE) < 0.02
    for one in (reference, seen):
        one[bad] = np.nan
    found = register(reference, seen, (15, 75, 15, 95), guess=(0.0, 0.0), most=10.0)
    assert (found.dy, found.dx) == pytest.approx((2.3, -1.6), abs=0.05)


# --------------------------------------------------------------------------- edges


@settings(max_examples=60, deadline=None)
@given(position=st.floats(14, 46), width=st.floats(0.6, 3.0), height=st.sampled_from([-0.5, 0.3, 4.0]), seed=st.integers(0, 1000))
def test_an_edge_comes_back_within_its_error(position: float, width: float, height: float, seed: int) -> None:
    x = np.arange(61.0)
    noise = 0.01 * abs(height)
    values = 2 + height * 0.5 * (1 + erf((x - position) / (np.sqrt(2) * width))) + noise * np.random.default_rng(seed).standard_normal(61)
    for method, allowed in (("erf", 0.3), ("gradient", 3.0)):
        found = locate(values, Edge(line=((0, 0), (60, 0)), method=method, window=12))
        assert abs(found.position - position) < allowed
        assert 0 < found.error < allowed
        assert abs(found.position - position) < 6 * found.error + 0.05 * (method == "gradient")


def test_errors_of_edges_are_calibrated() -> None:
    x, pulls = np.arange(61.0), {"erf": [], "gradient": []}
    chance = np.random.default_rng(8)
    for _ in range(150):
        position = chance.uniform(20, 40)
        values = 0.4 + 0.6 * 0.5 * (1 + erf((x - position) / (np.sqrt(2) * 1.5))) + 0.01 * chance.standard_normal(61)
        for method in pulls:
            found = locate(values, Edge(line=((0, 0), (60, 0)), method=method))
            pulls[method].append((found.position - position) / found.error)
    assert 0.6 < np.std(pulls["erf"]) < 1.3
    assert 0.5 < np.std(pulls["gradient"]) < 1.8


@pytest.mark.parametrize("method", ["erf", "gradient"])
@pytest.mark.parametrize(("photons", "band"), [(10.0, 1), (2000.0, 25)])
def test_noise_is_no_edge(method: str, photons: float, band: int) -> None:
    """The steepest of sixty places in noise is steep: how many were looked at counts."""
    chance = np.random.default_rng(9)
    edge = Edge(line=((0, 0), (60, 0)), method=method)
    found = [locate(chance.poisson(photons, (61, band)).mean(axis=1), edge) for _ in range(300)]
    assert sum(np.isfinite(one.position) for one in found) < 3


@pytest.mark.parametrize("method", ["erf", "gradient"])
def test_a_faint_edge_is_found_within_its_error_or_not_at_all(method: str) -> None:
    chance, x = np.random.default_rng(10), np.arange(61.0)
    edge, off = Edge(line=((0, 0), (60, 0)), method=method), []
    for _ in range(200):
        position = chance.uniform(20, 40)
        found = locate(chance.poisson(10 + 15 * (1 + erf((x - position) / 2))).astype(float), edge)
        if np.isfinite(found.position):
            off.append((found.position - position, found.error))
    deviation, stated = np.array(off).T
    assert stated.max() < 8, "an error as large as the window says that nothing was found"
    assert (np.abs(deviation) > 5).sum() <= 2
    assert len(off) > 30


def test_an_edge_without_blur_lies_between_two_pixels() -> None:
    values = np.r_[np.zeros(30), np.ones(31)] + 1e-3 * np.random.default_rng(1).standard_normal(61)
    found = locate(values, Edge(line=((0, 0), (60, 0))))
    assert 29 <= found.position <= 30
    assert 0.05 < found.error < 0.5


def test_polarity_and_search_choose_among_edges() -> None:
    x = np.arange(101.0)
    values = 1 - 0.5 * (1 + erf((x - 30) / 2)) * 0.4 + 0.5 * (1 + erf((x - 70) / 2)) * 0.3
    assert locate(values, Edge(line=((0, 0), (100, 0)))).position == pytest.approx(30, abs=0.05), "the larger one"
    assert locate(values, Edge(line=((0, 0), (100, 0)), polarity="rising")).position == pytest.approx(70, abs=0.05)
    near = Edge(line=((0, 0), (100, 0)), search=10)
    assert locate(values, near, 68.0).position == pytest.approx(70, abs=0.05)
    assert not np.isfinite(locate(np.ones(101), near, 50.0).position)
    assert not np.isfinite(locate(np.full(101, np.nan), near).position)
    flat = 1 + 0.01 * np.random.default_rng(0).standard_normal(101)
    assert not np.isfinite(locate(flat, Edge(line=((0, 0), (100, 0)))).position), "noise is no edge"


def test_a_line_that_runs_aslant() -> None:
    picture = step(40.0)
    edge = Edge(line=((10, 20), (70, 80)), width=11)
    found = locate(profile(picture, edge), edge)
    uy = edge.direction[0]
    assert 10 + found.position * uy == pytest.approx(40.0, abs=0.05)
    gone = profile(picture, edge, (60.0, 0.0))
    assert np.isnan(gone[-20:]).all()


# --------------------------------------------------------------------------- regions


def test_a_region_moves_by_parts_of_a_pixel() -> None:
    ramp = np.arange(40.0)[:, None] + np.zeros((1, 30))
    mean, _, _ = region_mean(ramp, Region(rows=(10, 20)), (0.0, 0.0))
    assert mean == 14.5
    assert region_mean(ramp, Region(rows=(10, 20)), (0.3, 0.0))[0] == pytest.approx(14.8)
    assert np.isnan(region_mean(ramp, Region(rows=(30, 40)), (8.0, 0.0))[0]), "it has left the picture"


def test_error_of_a_region_is_that_of_its_noise() -> None:
    chance = np.random.default_rng(2)
    got = [region_mean(scene() + 0.02 * chance.standard_normal(SHAPE), Region(rows=(10, 60), columns=(10, 90)), (0.25, 0.0)) for _ in range(80)]
    means, errors = np.array([g[0] for g in got]), np.array([g[1] for g in got])
    assert np.std(means) == pytest.approx(errors.mean(), rel=0.35)
    assert pixel_noise(3 + 0.5 * chance.standard_normal((200, 200))) == pytest.approx(0.5, rel=0.05)


# --------------------------------------------------------------------------- the reducer


def swelling(folder: Path, n: int = 24) -> tuple[xr.Dataset, dict[str, np.ndarray], dict[str, Any]]:
    """A layer that swells by 3 px between a collector with particles and an edge, while the picture drifts; flat, dark, photons."""
    chance = np.random.default_rng(7)
    true = {
        "edge": 60 + 3 * np.sin(np.linspace(0, 3, n)),
        "dy": np.cumsum(np.r_[0.0, 0.5 * chance.standard_normal(n - 1)]),
        "dx": np.linspace(0, -3, n),
    }
    flat = 1 - 0.3 * (np.arange(SHAPE[1])[None, :] / SHAPE[1] - 0.4) ** 2 + np.zeros(SHAPE)
    flat[30:33, 50:53] *= 0.8
    pictures = []
    for edge, dy, dx in zip(*true.values(), strict=True):
        y = np.arange(SHAPE[0])[:, None] - dy
        collector = 1 - 0.5 * (1 + erf((y - 25) / 2.1))
        light = step(edge + dy) * (1 - 0.7 * collector) * (collector * scene(dy, dx) / 0.6 + (1 - collector))
        pictures.append(counted(np.clip(light * flat, 0, None), chance) + np.uint16(100))
    tifffile.imwrite(folder / "flat.tif", (5000 * flat + 100).astype(np.float32), metadata=None)
    tifffile.imwrite(folder / "dark.tif", np.full(SHAPE, 100.0, np.float32), metadata=None)
    recipe = {
        "reducer": "imaging",
        "flat": {"file": "flat.tif"},
        "dark": {"file": "dark.tif"},
        "drift": {"region": {"rows": [0, 34]}},
        "edges": {
            "collector": {"line": [[14, 55], [38, 55]], "width": 90, "polarity": "rising"},
            "electrode": {"line": [[45, 55], [80, 55]], "width": 90},
        },
        "thickness": {"layer": ["collector", "electrode"]},
        "regions": {"beyond": {"rows": [72, 82]}},
        "preview": 32,
    }
    return stack(folder, pictures, pixel_size="0.5 um"), true, recipe


def test_a_swelling_layer(tmp_path: Path) -> None:
    ds, true, recipe = swelling(tmp_path)
    out = op.reduce(ds, recipe, base=tmp_path)
    seen = out["observables"]
    assert seen["mean"].attrs["units"] == "1"
    for axis in "yx":
        off = seen[f"drift_{axis}"].values - true[f"d{axis}"]
        assert np.abs(off).max() < {"y": 0.06, "x": 0.3}[axis], "few particles say how far it moved along the collector"
        assert 0.4 < np.std(off[1:] / seen[f"drift_{axis}_errors"].values[1:]) < 1.6
    edge = seen.sel(boundary="electrode")
    assert np.abs(edge["edge_position"].values - true["edge"]).max() < 0.1
    assert np.abs(edge["edge_displacement"].values - (true["edge"] - true["edge"][0])).max() < 0.1
    np.testing.assert_allclose(edge["displacement"].values, 0.5 * edge["edge_displacement"].values)
    assert edge["displacement"].attrs["units"] == "um"
    swelled = seen["layer_thickness"].values[:, 0]
    assert np.abs(swelled - swelled[0] - 0.5 * (true["edge"] - true["edge"][0])).max() < 0.05
    np.testing.assert_allclose(seen["region_mean"].values[:, 0], 1.0, atol=0.02)
    small = out["reduced"]["transmission"]
    assert small.shape == (24, 22, 27)
    assert small.attrs["units"] == "1"
    assert float(np.nanstd(small.values[:, 2:5, 2:-2], axis=0).max()) < 0.05, "drift is taken off: the collector's particles stay where they are"


def test_batches_and_threads_change_nothing(tmp_path: Path) -> None:
    ds, _, recipe = swelling(tmp_path, 9)
    whole = op.reduce(ds, recipe, base=tmp_path, workers=1)
    split = op.reduce(ds, recipe, base=tmp_path, memory=1, workers=3)
    for product, one in whole.items():
        xr.testing.assert_identical(one.drop_attrs(), split[product].drop_attrs())


def test_by_default_nothing_is_assumed(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    ds = stack(tmp_path, [counted(scene(), chance)])
    out = op.reduce(ds)
    assert set(out) == {"observables", "reduced"}
    assert out["observables"]["mean"].attrs["units"] == "counts"
    assert out["observables"]["mean"].values[0] == pytest.approx(5000 * scene().mean(), rel=0.01)
    assert "drift_y" not in out["observables"]


def test_optical_density_and_blank(tmp_path: Path) -> None:
    lamp = np.array([1.0, 0.8, 1.3])
    light = np.ones(SHAPE)
    light[:40] = np.exp(-0.7)
    ds = stack(tmp_path, [(20_000 * f * light).astype(np.uint16) for f in lamp])
    recipe = {"reducer": "imaging", "blank": {"rows": [60, 90]}, "quantity": "optical_density", "regions": {"sample": {"rows": [5, 35]}}}
    out = op.reduce(ds, recipe)["observables"]
    np.testing.assert_allclose(out["region_mean"].values[:, 0], 0.7, atol=2e-3)
    out = op.reduce(ds.assign_coords(lamp=("time", lamp, {"units": "1"})), {"reducer": "imaging", "normalise": "lamp"})["observables"]
    assert np.ptp(out["mean"].values) / out["mean"].values[0] < 1e-3
    with pytest.raises(ConfigError, match="normalise"):
        op.reduce(ds, {"reducer": "imaging", "normalise": "nothing"})


def test_a_frame_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    pictures = [counted(scene(0.2 * k), chance) for k in range(5)]
    ds = stack(tmp_path, pictures)
    first = stack(tmp_path, pictures[:1], "b.tif")
    other = stack(tmp_path, [pictures[0][:50]], "c.tif")
    table = ds.copy(deep=True)
    table["file"].values[1] = str(tmp_path / "gone.tif")
    table["file"].values[2], table["index"].values[2] = other["file"].values[0], 0
    table["file"].values[3], table["index"].values[3] = first["file"].values[0], 0
    with pytest.warns(UserWarning, match="CORRUPT") as told:
        out = op.reduce(table, {"reducer": "imaging", "drift": {}})["observables"]
    assert any("another size" in str(w.message) for w in told)
    corrupt = (out["quality"].values & int(Quality.CORRUPT)) > 0
    assert corrupt.tolist() == [False, True, True, False, False]
    assert np.isfinite(out["drift_y"].values).tolist() == [True, False, False, True, True]
    assert out["drift_y"].values[4] == pytest.approx(0.8, abs=0.05)
    gone = table.assign(file=("time", np.full(5, str(tmp_path / "gone.tif"), dtype=object)))
    with pytest.raises(OperandoError, match="not there"):
        op.reduce(gone, {"reducer": "imaging"})


def test_frames_that_show_nothing(tmp_path: Path) -> None:
    pictures = [scene().astype(np.float32), np.full(SHAPE, np.nan, np.float32), scene(1.0).astype(np.float32), 0.001 * scene().astype(np.float32)]
    with pytest.warns(UserWarning, match="no number at all"):
        out = op.reduce(stack(tmp_path, pictures), {"reducer": "imaging", "drift": {}, "edges": {"e": {"line": [[10, 50], [80, 50]], "width": 3}}})
    seen = out["observables"]
    assert seen["quality"].values.tolist() == [0, int(Quality.CORRUPT), 0, int(Quality.LOW_COUNTS)]
    assert np.isfinite(seen["drift_y"].values).tolist() == [True, False, True, False]
    assert np.isnan(out["reduced"]["intensity"].values[1]).all()


def test_a_first_frame_without_light_is_no_reference(tmp_path: Path) -> None:
    chance = np.random.default_rng(12)
    dark = chance.poisson(20.0, SHAPE).astype(np.uint16)
    moves = [0.0, 1.5, 3.0, 4.5, 6.0]
    pictures = [dark, dark[::-1], *(counted(scene(dy), chance) for dy in moves)]
    edge = {"e": {"line": [[10, 50], [80, 50]], "width": 3}}
    seen = op.reduce(stack(tmp_path, pictures), {"reducer": "imaging", "drift": {}, "edges": edge})["observables"]
    low = int(Quality.LOW_COUNTS)
    assert seen["quality"].values.tolist() == [low, low, 0, 0, 0, 0, 0]
    assert np.isnan(seen["drift_y"].values[:2]).all()
    np.testing.assert_allclose(seen["drift_y"].values[2:], moves, atol=0.05)
    assert seen["drift_y"].values[2] == 0, "the first with light is the reference"
    assert np.isnan(seen["edge_position"].values[:2]).all()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("dark", [1, 3, 11])
def test_the_offset_of_a_camera_is_no_light(dark: int, flat: bool, tmp_path: Path) -> None:
    """Without a dark 100 counts of offset are 8 % of what pictures with light hold: more than 5 %, and yet no light."""
    chance = np.random.default_rng(13)
    moves = np.r_[0.0, np.linspace(0.5, 4, 9)]
    light = np.broadcast_to(1 - 0.4 * (np.arange(SHAPE[1]) / SHAPE[1] - 0.4) ** 2, SHAPE)
    offset = 100 + 3 * chance.standard_normal((dark + 1, *SHAPE))
    pictures = [*offset[:-1], *(100 + chance.poisson(1900 * light * scene(dy)) for dy in moves), offset[-1]]
    recipe: dict[str, Any] = {"reducer": "imaging", "drift": {}}
    if flat:
        tifffile.imwrite(tmp_path / "flat.tif", (1900 * light + 100).astype(np.float32), metadata=None)
        recipe["flat"] = {"file": "flat.tif"}
    seen = op.reduce(stack(tmp_path, [one.astype(np.uint16) for one in pictures]), recipe, base=tmp_path)["observables"]
    low = int(Quality.LOW_COUNTS)
    assert seen["quality"].values.tolist() == [low] * dark + [0] * 10 + [low]
    np.testing.assert_allclose(seen["drift_y"].values[dark:-1], moves, atol=0.1)
    assert np.isnan(seen["drift_y"].values[:dark]).all()


def test_a_reference_without_light_gives_way_to_the_first_picture_with_light(tmp_path: Path) -> None:
    """More dark pictures than are looked at in advance: when the shutter opens everything begins anew."""
    chance = np.random.default_rng(5)
    moves = [0.0, 1.5, 3.0]
    pictures = [chance.poisson(20.0, SHAPE).astype(np.uint16) for _ in range(12)] + [counted(scene(dy), chance) for dy in moves]
    edge = {"e": {"line": [[10, 50], [80, 50]], "width": 3}}
    out = op.reduce(stack(tmp_path, pictures), {"reducer": "imaging", "drift": {}, "edges": edge})
    seen, reduced = out["observables"], out["reduced"]
    low = int(Quality.LOW_COUNTS)
    assert seen["quality"].values.tolist() == [low] * 12 + [0] * 3
    np.testing.assert_array_equal(reduced["quality"], seen["quality"])
    assert np.isnan(seen["drift_y"].values[:12]).all()
    assert np.isnan(seen["edge_position"].values[:12]).all()
    np.testing.assert_allclose(seen["drift_y"].values[12:], moves, atol=0.05)
    assert np.isfinite(seen["level"].values).all()
    with (
        pytest.warns(UserWarning, match="the first 12 frames hold less than 5 % of the light of a later one"),
        pytest.warns(UserWarning, match="the frame shows nothing but noise"),
        pytest.warns(UserWarning, match="the drift of 1 frame was not found"),
    ):
        batches = op.reduce(stack(tmp_path, pictures), {"reducer": "imaging", "drift": {}}, memory=1)["observables"]
    np.testing.assert_allclose(batches["drift_y"].values[12:], moves, atol=0.05)


def test_a_stack_without_any_light_says_so(tmp_path: Path) -> None:
    chance = np.random.default_rng(6)
    tifffile.imwrite(tmp_path / "dark.tif", np.full(SHAPE, 100.0, np.float32), metadata=None)
    ds = stack(tmp_path, [chance.poisson(100.2, SHAPE).astype(np.uint16) for _ in range(4)])
    with pytest.warns(UserWarning, match="the first 4 frames show nothing but noise"):
        out = op.reduce(ds, {"reducer": "imaging", "dark": {"file": "dark.tif"}}, base=tmp_path)
    assert (out["observables"]["quality"].values == int(Quality.LOW_COUNTS)).all()
    with pytest.warns(UserWarning, match="the first 4 frames show nothing but noise"):
        out = op.reduce(ds, {"reducer": "imaging"})
    assert (out["observables"]["quality"].values == 0).all(), "without a dark nobody knows"


def test_an_error_beyond_most_is_no_match() -> None:
    assert not Shift(0.1, 0.1, 2.1, 0.3).within(2.0)
    assert not Shift(0.1, 0.1, 0.3, 2.1).within(2.0)
    assert not Shift(1.9, 1.9, 0.3, 0.3).within(2.0)
    assert Shift(1.9, 0.1, 0.3, 1.9).within(2.0)


def layers(dy: float = 0.0, slant: float = 0.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Layers that differ down the rows; with `slant` they rise by so much per column."""
    y = np.arange(shape[0])[:, None] - dy + slant * np.arange(shape[1])[None, :]
    out = np.full(shape, 0.5)
    for row, height in ((20, 0.4), (45, -0.3), (62, 0.5), (130, -0.4)):
        out = out + height * 0.5 * (1 + erf((y - row) / 2.0))
    return out


@pytest.mark.parametrize("photons", [200.0, 2000.0])
def test_drift_along_layers_cannot_be_known(photons: float) -> None:
    """The aperture problem: along layers noise alone is matched, and what it says of drift is chance."""
    chance = np.random.default_rng(1)
    reference = chance.poisson(photons * layers()).astype(float)
    for _ in range(12):
        true = chance.uniform(-5, 5)
        found = register(reference, chance.poisson(photons * layers(true)).astype(float), (0, 90, 0, 110), guess=(0.0, 0.0), most=20.0)
        assert found.found
        assert np.isnan(found.along(0.0, 1.0)).all()
        dy, error = found.along(1.0, 0.0)
        assert abs(dy - true) < min(4 * error, 0.1), "across them it is as well known as ever"
        assert error < 0.2
        turned = register(reference.T, chance.poisson(photons * layers(true).T).astype(float), (0, 110, 0, 90), guess=(0.0, 0.0), most=20.0)
        assert np.isnan(turned.along(1.0, 0.0)).all()
        assert turned.along(0.0, 1.0)[0] == pytest.approx(true, abs=0.1)


@pytest.mark.parametrize("slant", [0.02, 1.0])
def test_drift_of_slanting_layers_is_known_across_them(slant: float) -> None:
    chance = np.random.default_rng(2)
    reference = chance.poisson(2000 * layers(slant=slant)).astype(float)
    across = np.array([1.0, slant]) / np.hypot(1, slant)
    for _ in range(6):
        true = chance.uniform(-4, 4, 2)
        seen = chance.poisson(2000 * layers(true[0] + slant * true[1], slant)).astype(float)  # moved by both
        found = register(reference, seen, (0, 90, 0, 110), guess=(0.0, 0.0), most=20.0)
        moved, error = found.along(*across)
        assert abs(moved - true @ across) < 4 * error + 0.02
        assert error < 0.2
        dy, error = found.along(1.0, 0.0)
        assert np.isnan(found.along(0.0, 1.0)[0])
        if slant < 0.1:
            assert abs(dy - true[0]) < 2 * error, "what the layers may have moved along themselves is in the error"
        else:
            assert np.isnan(dy)


def test_what_layers_show_is_used_and_the_rest_is_said(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    moves = [0.0, 1.4, -2.3, 3.2]
    ds = stack(tmp_path, [counted(layers(dy), chance, 2000) for dy in moves])
    recipe = {
        "reducer": "imaging",
        "drift": {},
        "regions": {"between": {"rows": [26, 39]}},
        "edges": {"top": {"line": [[12, 55], [28, 55]], "width": 60}, "sideways": {"line": [[20, 40], [20, 70]], "width": 3}},
    }
    with (
        pytest.warns(UserWarning, match=r"along the columns \(drift_x\) of 3 frames cannot be known and is NaN: the picture shows nothing along it"),
        pytest.warns(UserWarning, match="the edge sideways was found in none"),
    ):
        out = op.reduce(ds, recipe)
    seen = out["observables"]
    np.testing.assert_allclose(seen["drift_y"], moves, atol=0.05)
    assert np.isfinite(seen["drift_x"].values).tolist() == [True, False, False, False], "the reference is not displaced against itself"
    np.testing.assert_allclose(seen["edge_position"].sel(boundary="top"), 20.0, atol=0.1)
    np.testing.assert_allclose(seen["region_mean"], 2000 * 0.9, rtol=0.01)
    assert np.isfinite(out["reduced"]["intensity"].values[:, 5:-5, 1:-1]).all(), "small pictures move down the rows alone"

    aslant = stack(tmp_path, [counted(layers(dy, 1.0), chance, 2000) for dy in moves], "b.tif")
    line = [[23, 23], [39, 39]]  # squarely across the layer where row + column = 62
    with pytest.warns(UserWarning, match="drift of 3 frames cannot be known and is NaN: the picture shows nothing but layers that run aslant"):
        seen = op.reduce(aslant, {"reducer": "imaging", "drift": {}, "edges": {"e": {"line": line, "width": 9}}})["observables"]
    assert np.isnan(seen["drift_y"].values[1:]).all()
    np.testing.assert_allclose(seen["edge_displacement"], 0.0, atol=0.2)


def test_saturation_is_flagged(tmp_path: Path) -> None:
    bright = np.full(SHAPE, 1000, np.uint16)
    over = bright.copy()
    over[:10] = 65535
    out = op.reduce(stack(tmp_path, [bright, over]), {"reducer": "imaging"})["observables"]
    assert out["quality"].values.tolist() == [0, int(Quality.SATURATED)]


@pytest.mark.parametrize(("bits", "unit"), [(10, 1), (12, 1), (14, 1), (12, 16), (14, 4)])
def test_cameras_of_fewer_bits_saturate_below_the_largest_number(bits: int, unit: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(15)
    top = 2**bits - 1
    light = chance.normal(0.9 * top, 0.04 * top, SHAPE)
    clipped = np.clip(light, 0, top)
    below = np.clip(light, 0, None) * (top - 1) / light.max()
    ends_there = clipped.copy()
    ends_there[light > top] = 0.9 * top
    ends_there[0, :3], ends_there[1, :5] = top, top - 1
    pictures = [(unit * np.round(one).astype(int)).astype(np.uint16) for one in (clipped, below, ends_there)]
    seen = [Correction(stack(tmp_path, pictures), Imaging(), None).picture(one, 1.0).saturated for one in pictures]
    assert seen[0] > 1e-3
    assert seen[1:] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"edges": {"e": {"line": [[0, 0], [200, 0]]}}}, "leaves the frames"),
        ({"edges": {"e": {"line": [[0, 0], [2, 0]]}}}, "shorter than 4 px"),
        ({"regions": {"r": {"rows": [0, 91]}}}, "outside of the frames"),
        ({"regions": {"r": {"rows": [9, 9]}}}, "holds no pixel"),
        ({"thickness": {"t": ["a", "b"]}}, "no edge 'a'"),
        ({"quantity": "transmission"}, "needs flat"),
        ({"flat": {"file": "small.tif"}}, "not of the frames' shape"),
        ({"flat": {"file": "missing.tif"}}, "does not exist"),
        ({"flat": {"file": "black.tif"}, "dark": {"file": "black.tif"}}, "holds no light"),
        ({"drift": {"region": {"columns": [0, 400]}}}, "outside of the frames"),
    ],
)
def test_recipes_that_cannot_be(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "small.tif", np.ones((20, 20), np.float32), metadata=None)
    tifffile.imwrite(tmp_path / "black.tif", np.ones(SHAPE, np.float32), metadata=None)
    ds = stack(tmp_path, [np.full(SHAPE, 1000, np.uint16)])
    with pytest.raises((ConfigError, LoaderError), match=words):
        op.reduce(ds, {"reducer": "imaging", **settings}, base=tmp_path)


def test_frames_of_a_detector_are_not_integrated(tmp_path: Path) -> None:
    ds = stack(tmp_path, [np.full(SHAPE, 1000, np.uint16)])
    with pytest.raises(ConfigError, match="no geometry"):
        op.reduce(ds, {"reducer": "integrate"})


def test_turned_frames(tmp_path: Path) -> None:
    picture = np.round(10_000 * step(30.0)).astype(np.uint16)
    ds = stack(tmp_path, [picture.T.copy()], orientation="transpose", pixel_size=["2 um", "3 um"])
    out = op.reduce(ds, {"reducer": "imaging", "edges": {"e": {"line": [[5, 55], [80, 55]], "width": 40}}})
    assert out["observables"]["edge_position"].values[0, 0] == pytest.approx(30.0, abs=0.02)
    assert list(out["observables"].attrs["pixel_size"]) == [3.0, 2.0], "rows of the turned frame are columns of the file"


# --------------------------------------------------------------------------- maps


def test_maps_of_half_cycles(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    pictures = []
    for k in range(9):
        picture = np.ones(SHAPE)
        picture[40:60, 40:60] -= 0.1 * (k // 3)
        pictures.append((10_000 * picture + 20 * chance.standard_normal(SHAPE)).astype(np.uint16))
    ds = stack(tmp_path, pictures)
    ds = ds.assign_coords(half_cycle=("time", np.repeat([0, 1, 2], 3), {"units": "1"}))
    maps = op.reduce(ds, {"stages": [{"reducer": "imaging"}, {"reducer": "image-maps", "first": 2}]})["maps"]
    assert maps.sizes["time"] == 3
    assert maps["half_cycle"].values.tolist() == [0, 1, 2]
    assert maps["frame_count"].values.tolist() == [3, 3, 3]
    inside = maps["change"].sel(y=50, x=50, method="nearest").values
    outside = maps["change"].sel(y=10, x=10, method="nearest").values
    np.testing.assert_allclose(inside, [0, -1000, -2000], atol=60)
    assert np.abs(outside / maps["change_errors"].sel(y=10, x=10, method="nearest").values).max() < 6
    with pytest.warns(UserWarning, match="the frame shows nothing but noise"):
        one = op.reduce(ds.isel(time=[0]), {"stages": [{"reducer": "imaging"}, {"reducer": "image-maps"}]})["maps"]
    assert one.sizes["time"] == 1
    assert np.isnan(one["mean_errors"].values).all()
