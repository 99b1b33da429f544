"""Lines on a slope: truth made by scipy's own profiles, an independent fit, and what there is to say where there is no line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.stats import cauchy, norm

from operando.contract import ContractError
from operando.reduction.lines import Doublet, Line, LineFlag, fit_lines, together

X = np.linspace(5, 6, 61)
ONE = [Line("one", 5.3, 5.7, (5, 6), 0.1)]


def profile(x: np.ndarray, area: float, place: float, width: float, eta: float) -> np.ndarray:
    """A pseudo-Voigt of two distributions of scipy."""
    gauss = norm.pdf(x, place, width / np.sqrt(8 * np.log(2)))
    return np.asarray(area * (eta * cauchy.pdf(x, place, width / 2) + (1 - eta) * gauss))


def frames(n: int, seed: int, area: float = 60.0, width: float = 0.12, eta: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Places of the line and counts over a sloping background."""
    places = 5.5 + 0.08 * np.sin(np.arange(n))
    expected = np.array([80 + 20 * (X - 5) + profile(X, area, p, width, eta) for p in places])
    return places, np.random.default_rng(seed).poisson(expected).astype(float)


def test_truth_comes_back_within_its_errors() -> None:
    places, counts = frames(600, 1)
    found = fit_lines(X, counts, None, ONE)
    assert (found.flags == 0).all()
    assert found.goodness.mean() == pytest.approx(1, abs=0.02)
    for name, true in (("area", 60.0), ("position", places), ("fwhm", 0.12), ("eta", 0.4)):
        pull = (getattr(found, name)[:, 0] - true) / found.errors[name][:, 0]
        assert abs(np.nanmean(pull)) < 0.15, name
        assert np.nanstd(pull) == pytest.approx(1, abs=0.12), name
    top = float(profile(np.array([5.5]), 60.0, 5.5, 0.12, 0.4)[0])
    pull = (found.height[:, 0] - top) / found.errors["height"][:, 0]
    assert pull.std() == pytest.approx(1, abs=0.12)


def test_a_general_fit_finds_the_same() -> None:
    _, counts = frames(12, 2)
    found = fit_lines(X, counts, np.full_like(counts, 9.0), ONE)

    def model(x: np.ndarray, a: float, b: float, area: float, p: float, w: float, eta: float) -> np.ndarray:
        return a + b * (x - 5.5) + profile(x, area, p, w, eta)

    for k, row in enumerate(counts):
        peer, covariance = curve_fit(model, X, row, p0=[90, 20, 60, X[np.argmax(row)], 0.1, 0.5], sigma=np.full(X.size, 9.0), absolute_sigma=True)
        chi2 = float(np.sum(((row - model(X, *peer)) / 9.0) ** 2)) / (X.size - 6)
        sigma = np.sqrt(np.diag(covariance))
        for j, name in enumerate(("area", "position", "fwhm", "eta"), 2):
            assert abs(getattr(found, name)[k, 0] - peer[j]) < 0.02 * sigma[j], name
            assert found.errors[name][k, 0] >= 0.99 * sigma[j] * max(np.sqrt(chi2), 1), name
        assert found.goodness[k, 0] ** 2 == pytest.approx(chi2, rel=1e-3)


def test_a_line_that_is_not_there_reads_nothing() -> None:
    counts = np.random.default_rng(3).poisson(80.0, (1500, X.size)).astype(float)
    found = fit_lines(X, counts, None, ONE)
    seen = (found.flags[:, 0] & LineFlag.NOT_SIGNIFICANT) == 0
    assert seen.mean() < 0.005
    pull = (found.area[:, 0] / found.errors["area"][:, 0])[~seen]
    assert abs(pull.mean()) < 0.1
    assert pull.std() == pytest.approx(1, abs=0.1)
    assert np.isnan(found.position[~seen]).all()
    assert np.isnan(found.fwhm[~seen]).all()


def test_lines_that_overlap_are_told_apart() -> None:
    areas = np.linspace(0, 60, 600)
    expected = np.array([80 + profile(X, 60.0, 5.45, 0.1, 0.4) + profile(X, a, 5.57, 0.1, 0.4) for a in areas])
    counts = np.random.default_rng(4).poisson(expected).astype(float)
    two = [Line("a", 5.4, 5.5, (5, 6), 0.1), Line("b", 5.52, 5.62, (5.1, 6), 0.1)]
    found = fit_lines(X, counts, None, two)
    pull = (found.area[:, 1] - areas) / found.errors["area"][:, 1]
    assert abs(pull.mean()) < 0.2
    assert pull.std() == pytest.approx(1, abs=0.15)
    clear = areas > 30
    assert np.nanstd((found.position[clear, 1] - 5.57) / found.errors["position"][clear, 1]) == pytest.approx(1, abs=0.15)
    assert together([*two, Line("c", 6.1, 6.2, (6, 6.3), 0.1)]) == [[0, 1], [2]]
    close = np.array([80 + profile(X, 60.0, 5.48, 0.12, 0.4) + profile(X, 60.0, 5.5, 0.12, 0.4)])
    crowded = fit_lines(X, close, None, [Line("a", 5.4, 5.49, (5, 6), 0.1), Line("b", 5.49, 5.6, (5, 6), 0.1)])
    assert (crowded.flags & (LineFlag.OVERLAPPING | LineFlag.NOT_SIGNIFICANT)).any()


@pytest.mark.parametrize("angle", [True, False])
def test_a_doublet_gives_the_first_line(angle: bool) -> None:
    ratio, share = 1.544427 / 1.540593, 0.5
    x = np.linspace(60, 64, 401) if angle else np.linspace(4.0, 4.3, 401)
    place = 61.8 if angle else 4.12
    second = 2 * np.degrees(np.arcsin(np.sin(np.radians(place / 2)) * ratio)) if angle else place * ratio
    width = (x[-1] - x[0]) / 40
    expected = 200 + profile(x, 300 * width * 10, place, width, 0.5) + profile(x, 150 * width * 10, second, width, 0.5)
    counts = np.random.default_rng(5).poisson(np.tile(expected, (200, 1))).astype(float)
    line = [Line("one", place - 5 * width, place + 5 * width, (x[0], x[-1]), width)]
    found = fit_lines(x, counts, None, line, doublet=Doublet(ratio, share, angle))
    for name, true in (("position", place), ("area", 3000 * width), ("fwhm", width)):
        pull = (getattr(found, name)[:, 0] - true) / found.errors[name][:, 0]
        assert abs(pull.mean()) < 0.25, name
        assert pull.std() == pytest.approx(1, abs=0.2), name
    alone = fit_lines(x, counts, None, line)
    assert alone.goodness.mean() > 1.5 * found.goodness.mean(), "one line is not two"


def test_residuals_that_hang_together_widen_the_errors() -> None:
    places, counts = frames(300, 6, area=600.0)
    wave = 1 + 0.06 * np.sin(2 * np.pi * X / 0.15 + np.random.default_rng(7).uniform(0, 6, (300, 1)))  # a ripple as broad as the line
    bent = counts * wave
    found = fit_lines(X, bent, np.sqrt(counts), ONE)
    pull = (found.position[:, 0] - places) / found.errors["position"][:, 0]
    assert 0.5 < pull.std() < 1.5
    plain = fit_lines(X, counts, np.sqrt(counts), ONE)
    assert np.median(found.errors["position"]) > 1.5 * np.median(plain.errors["position"])


def test_the_centre_of_gravity_needs_no_model() -> None:
    line = [Line("one", 5.2, 5.8, (5, 6), 0.1)]
    shape = np.clip(1 - np.abs(X - 5.5) / 0.12, 0, None) + 0.6 * np.clip(1 - np.abs(X - 5.6) / 0.1, 0, None)  # two triangles: no pseudo-Voigt
    clean = 200 + 30 * (X - 5) + 500 * shape
    counts = np.random.default_rng(8).poisson(np.tile(clean, (500, 1))).astype(float)
    found = fit_lines(X, np.vstack([clean, counts]), None, line)
    true = float(np.sum(X * shape) / np.sum(shape))
    assert found.centre[0, 0] == pytest.approx(true, abs=1e-9)
    pull = (found.centre[1:, 0] - true) / (found.errors["centre"][1:, 0] / np.maximum(found.goodness[1:, 0], 1))
    assert abs(pull.mean()) < 0.15
    assert pull.std() == pytest.approx(1, abs=0.12)


def test_errors_of_counts_go_with_what_is_expected() -> None:
    """Few counts: weights of what was counted would pull the area down."""
    pixels = np.random.default_rng(9).integers(3, 5, X.size)
    expected = pixels * (1.5 + 2.5 * profile(X, 0.3, 5.5, 0.12, 0.4))
    counts = np.random.default_rng(10).poisson(np.tile(expected, (800, 1)))
    found = fit_lines(X, counts / pixels, np.sqrt(counts) / pixels, ONE, detection=2.5)
    area = found.area[:, 0]
    assert area.mean() == pytest.approx(2.5 * 0.3, abs=4 * area.std() / np.sqrt(area.size) + 0.02)


def test_frames_stand_alone() -> None:
    _, counts = frames(20, 11)
    counts[3] = np.nan
    counts[4, 10:14] = np.nan
    counts[5] = 0.0
    together_ = fit_lines(X, counts, None, ONE)
    for order in (np.arange(20)[::-1], np.roll(np.arange(20), 7)):
        again = fit_lines(X, counts[order], None, ONE)
        np.testing.assert_array_equal(again.position, together_.position[order])
        np.testing.assert_array_equal(again.flags, together_.flags[order])
    assert together_.flags[3, 0] == LineFlag.NOT_FITTED
    assert np.isnan(together_.area[3, 0])
    assert np.isfinite(together_.position[4, 0])
    assert np.isnan(together_.position[5, 0])


def test_a_line_beyond_its_range_says_so() -> None:
    expected = 80 + profile(X, 600.0, 5.62, 0.12, 0.4)
    found = fit_lines(X, np.tile(expected, (3, 1)), None, [Line("one", 5.3, 5.58, (5, 6), 0.1)])
    assert (found.flags & LineFlag.AT_BOUND).all()
    held = fit_lines(X, np.tile(80 + profile(X, 600.0, 5.5, 0.12, 0.0), (3, 1)), None, [Line("one", 5.3, 5.6, (5, 6), 0.1, eta=0.0)])
    assert (held.flags == 0).all()
    assert (held.eta == 0).all()
    assert np.isnan(held.errors["eta"]).all()


def test_a_window_without_channels_is_refused() -> None:
    with pytest.raises(ContractError, match="holds too few channels"):
        fit_lines(X, np.ones((2, X.size)), None, [Line("far", 7.0, 8.0, (7.0, 8.0), 0.1)])


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-4.0, 100.0), stretch=st.floats(0.01, 100.0), seed=st.integers(0, 2**31))
def test_units_do_not_matter(scale: float, shift: float, stretch: float, seed: int) -> None:
    _, counts = frames(3, seed)
    errors = np.sqrt(np.maximum(counts, 1.0))
    base = fit_lines(X, counts, errors, ONE)
    moved = [Line("one", stretch * 5.3 + shift, stretch * 5.7 + shift, (stretch * 5 + shift, stretch * 6 + shift), stretch * 0.1)]
    other = fit_lines(stretch * X + shift, scale * counts, scale * errors, moved)
    np.testing.assert_array_equal(other.flags, base.flags)
    sure = base.errors["position"]
    assert np.nanmax(np.abs((other.position - shift) / stretch - base.position) / sure) < 0.05
    np.testing.assert_allclose(other.area / scale / stretch, base.area, atol=0.05 * float(np.nanmax(base.errors["area"])))
    np.testing.assert_allclose(other.errors["position"] / stretch, sure, rtol=0.02)
    np.testing.assert_allclose(other.goodness, base.goodness, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["noise", "zeros", "spikes", "huge", "tiny", "negative", "steps"]),
    holes=st.floats(0, 0.9),
    errors=st.sampled_from([None, "root", "zero", "constant", "wild"]),
    doublet=st.sampled_from([None, Doublet(1.0025, 0.5, True), Doublet(1.0025, 0.5, False)]),
)
def test_whatever_comes_in_ends_and_says_how(seed: int, kind: str, holes: float, errors: str | None, doublet: Doublet | None) -> None:
    rng = np.random.default_rng(seed)
    y = {
        "noise": rng.standard_normal((4, X.size)),
        "zeros": np.zeros((4, X.size)),
        "spikes": np.where(rng.random((4, X.size)) < 0.05, 1e9, 1.0),
        "huge": 1e300 * rng.random((4, X.size)),
        "tiny": 1e-300 * rng.random((4, X.size)),
        "negative": -rng.poisson(50, (4, X.size)).astype(float),
        "steps": np.repeat(rng.integers(0, 100, (4, 1)), X.size, axis=1) * (X > 5.5),
    }[kind].astype(float)
    sigma = {
        None: None,
        "root": np.sqrt(np.abs(y)),
        "zero": np.zeros_like(y),
        "constant": np.full_like(y, 3.0),
        "wild": 10.0 ** rng.uniform(-12, 12, y.shape),
    }[errors]
    y[rng.random(y.shape) < holes] = rng.choice([np.nan, np.inf, -np.inf])
    two = [Line("a", 5.2, 5.45, (5, 6), 0.1), Line("b", 5.5, 5.8, (5, 6), 0.1, eta=0.5)]
    found = fit_lines(X, y, sigma, two, doublet=doublet, counts=bool(seed % 2))
    known = found.flags
    assert ((known >= 0) & (known < 32)).all()
    places = found.position[np.isfinite(found.position)]
    assert ((places >= 5.2) & (places <= 5.8)).all()
    gone = (known & LineFlag.NOT_FITTED) != 0
    assert np.isnan(found.area[gone]).all()
    assert np.isnan(found.position[(known & LineFlag.NOT_SIGNIFICANT) != 0]).all()
    assert not (found.errors["area"] < 0).any()
