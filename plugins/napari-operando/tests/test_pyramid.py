"""Pictures of spectra: every pixel is a mean of the points that fall into it, of the frame that belongs to its moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_operando.pyramid import Level, binned, columns, envelope, levels_of, shades
from napari_operando.reading import Stored
from napari_operando.timeview import GAP, FrameTimes


def level(axis: np.ndarray, rows: int = 3, seed: int = 0, nan: float = 0.0) -> Level:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(axis))).astype(np.float32)
    values[rng.random(values.shape) < nan] = np.nan
    return Level(values, axis, np.arange(rows), 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60, unique=True), st.integers(1, 40), st.integers(0, 99), st.sampled_from([0.0, 0.3]))
def test_bins_are_means_of_the_points_in_them(points: list[float], bins: int, seed: int, nan: float) -> None:
    axis = np.array(points)
    one = level(axis, seed=seed, nan=nan)
    edges = np.linspace(-60, 60, bins + 1)
    made = binned(one, edges)
    for b in range(bins):
        inside = (axis >= edges[b]) & (axis < edges[b + 1])
        if inside.any():
            for row in range(3):
                values = one.values[row, inside].astype(float)
                good = values[np.isfinite(values)]
                expected = good.mean() if len(good) else np.nan
                np.testing.assert_allclose(made[row, b], expected, rtol=1e-4, atol=1e-5)
        else:
            centre = (edges[b] + edges[b + 1]) / 2
            nearest = np.abs(axis - centre).min()
            candidates = one.values[:, np.isclose(np.abs(axis - centre), nearest)]
            for row in range(3):
                assert np.isnan(made[row, b]) or (made[row, b] == candidates[row]).any()


def test_axes_may_fall_and_outside_them_nothing_is_drawn() -> None:
    axis = np.linspace(0, 10, 50)
    one = level(axis)
    turned = Level(one.values[:, ::-1], axis[::-1], one.row, 1)
    edges = np.linspace(-5, 15, 41)
    np.testing.assert_array_equal(binned(one, edges), binned(turned, edges))
    made = binned(one, edges)
    assert np.isnan(made[:, :9]).all()
    assert np.isfinite(made[:, 10:30]).all()
    assert np.isnan(made[:, 31:]).all()


def test_no_points_and_no_frames() -> None:
    assert np.isnan(binned(Level(np.empty((2, 0), np.float32), np.empty(0), np.arange(2), 1), np.linspace(0, 1, 4))).all()
    assert binned(Level(np.empty((0, 3), np.float32), np.arange(3.0), np.empty(0, int), 1), np.linspace(0, 1, 4)).shape == (0, 3)


def test_columns_name_the_row_of_the_frame_of_their_moment() -> None:
    begin = stores.irregular(50)
    times = FrameTimes(begin, begin + 30)
    one = Level(np.zeros((13, 4), np.float32), np.arange(4.0), np.arange(50) // 4, 4)
    edges = np.linspace(begin[0] - 1000, begin[-1] + 1000, 300)
    row, stale = columns(one, times, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_array_equal(stale, [times.at(t).stale and not times.at(t).gap for t in centres])
    frame, _ = times.lookup((edges[1:] + edges[:-1]) / 2)
    assert (row[frame == GAP] == GAP).all()
    assert (row[frame != GAP] == frame[frame != GAP] // 4).all()
    assert (frame == GAP).any()


@pytest.mark.parametrize("scale", ["linear", "square root", "logarithm"])
def test_shades_rise_with_the_numbers_and_nan_has_none(scale: str) -> None:
    made = shades(np.array([np.nan, -5.0, 0, 1, 4, 9, 10, 99]), 0.0, 10.0, scale)
    assert made[0] == 0
    assert made[1] == made[2] == 1
    assert made[6] == made[7] == 255
    assert (np.diff(made[2:7].astype(int)) > 0).all()


def test_levels_of_nothing_and_of_one_value() -> None:
    assert levels_of(np.full(5, np.nan)) == (0.0, 1.0)
    low, high = levels_of(np.full(5, 3.0))
    assert low == 3.0
    assert high > low
    low, high = levels_of(np.concatenate([np.random.default_rng(0).normal(size=100_000), [1e9]]))
    assert -3 < low < -2
    assert 2 < high < 4


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5000), st.integers(2, 60), st.integers(0, 50))
def test_an_envelope_keeps_extremes_of_every_pixel(rows: int, pixels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.exponential(1.0, rows))
    values = rng.normal(size=rows)
    values[rng.random(rows) < 0.05] = np.nan
    t, v = envelope(time, values, time[0], time[-1], pixels)
    assert len(t) <= max(4 * pixels, 2 * (pixels + 3)) or len(t) == rows
    good = np.isfinite(values)
    if good.any():
        assert np.nanmax(v) == values[good].max()
        assert np.nanmin(v) == values[good].min()
    assert (np.diff(t) >= 0).all()


def test_an_envelope_breaks_at_pauses_wherever_it_is_cut() -> None:
    time = np.concatenate([np.arange(1000.0), 5000 + np.arange(1000.0)])
    for pixels in (20, 5000):
        t, v = envelope(time, np.ones(2000), 0, 6000, pixels, max_gap=600)
        inside = (t > 999.5) & (t < 4999.5)
        assert inside.sum() == 1
        assert np.isnan(v[inside]).all()


def test_overviews_detail_and_whole_agree(tmp_path: Path) -> None:
    begin = stores.irregular(5000, mean=40)
    frames = stores.xrd(begin, points=64, positions=2)
    for publish in (True, False):
        folder = tmp_path / str(publish)
        folder.mkdir()
        stored = Stored(stores.store(folder, {("A", "xrd", "frames"): frames}, publish=publish))
        pyramid = stored.cell("A").spectra["xrd"].pyramid
        assert not pyramid.small
        assert pyramid.known is None
        whole = pyramid.overview()
        assert whole.factor == 4
        assert len(whole.values) == 1250
        assert pyramid.known is whole
        numbers = np.arange(5000)
        for k in (0, 7, 600):
            members = numbers[whole.row == k]
            assert len(set(members % 2)) == 1  # spots are never mixed
            np.testing.assert_allclose(whole.values[k, 0], members.mean())
        near = pyramid.detail(1000, 1100)
        assert near.row[999] == -1
        assert near.row[1000] == 0
        assert near.values[5, 0] == 1005
