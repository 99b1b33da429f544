"""Window statistics against a slow reference in exact fractions that shares no code with them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.contract import ClockError
from operando.timeline.windows import window_statistics

EPOCH = 1_700_000_000 * 10**9
RULES = ("linear", "step", "ending", "starting")


def reference(t, y, a, b, rule, steps=(), gaps=()):
    """Mean, spread, slope, coverage and step_inside of one window, in exact arithmetic (times as integers in ns)."""
    t, y, a, b = [int(x) for x in t], [Fraction(float(v)) for v in y], int(a), int(b)
    pieces = []  # (begin, end, value at begin, value at end)
    for k in range(len(t) - 1):
        begin, end = max(a, t[k]), min(b, t[k + 1])
        if k + 1 in gaps or end <= begin:
            continue
        if rule == "ending":
            pieces.append((begin, end, y[k + 1], y[k + 1]))
        elif rule == "starting" or (rule == "step" and k + 1 in steps):
            pieces.append((begin, end, y[k], y[k]))
        else:
            at = [y[k] + (y[k + 1] - y[k]) * Fraction(x - t[k], t[k + 1] - t[k]) for x in (begin, end)]
            pieces.append((begin, end, *at))
    inside = any(a < t[s] < b for s in steps)
    covered = sum(q - p for p, q, *_ in pieces)
    if not covered:
        return np.nan, np.nan, np.nan, 0.0, inside
    mean = sum((q - p) * (u + v) / 2 for p, q, u, v in pieces) / covered
    centre = sum(Fraction(q * q - p * p, 2) for p, q, *_ in pieces) / covered
    variance = sum((q - p) * ((u - mean) ** 2 + (u - mean) * (v - mean) + (v - mean) ** 2) / 3 for p, q, u, v in pieces) / covered
    tt = sum(((q - centre) ** 3 - (p - centre) ** 3) / 3 for p, q, *_ in pieces)
    # Simpson's rule is exact for the product of two straight lines
    ty = sum(
        (q - p) * ((p - centre) * (u - mean) + 4 * (Fraction(p + q, 2) - centre) * ((u + v) / 2 - mean) + (q - centre) * (v - mean)) / 6
        for p, q, u, v in pieces
    )
    return float(mean), float(variance) ** 0.5, float(ty / tt * 10**9), covered / (b - a), inside


@st.composite
def problems(draw):
    n = draw(st.integers(2, 150))
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([10**6, 10**9, 10**11]))
    rng = np.random.default_rng(seed)
    spacing = rng.integers(1, scale, n)
    spacing[rng.random(n) < draw(st.sampled_from([0.0, 0.2]))] = 0  # records that share a time
    t = EPOCH + np.cumsum(spacing)
    y = draw(st.sampled_from([0.0, 3.7])) + rng.choice([1.0, 1e-4]) * rng.standard_normal(n)
    y[rng.random(n) < 0.3] = 3.7
    pick = lambda p: np.flatnonzero(rng.random(n) < p)[1:]  # noqa: E731
    edges = np.concatenate([rng.integers(t[0] - scale, t[-1] + scale, 24), rng.choice(t, 6)])
    pairs = np.sort(rng.permutation(edges).reshape(-1, 2), axis=1)
    return t, y, pairs[:, 0], pairs[:, 1], pick(draw(st.sampled_from([0.0, 0.1, 0.5]))), pick(draw(st.sampled_from([0.0, 0.05])))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(problem=problems())
def test_windows_are_exact(problem, rule, compiled):
    t, y, a, b, steps, gaps = problem
    steps = steps[~np.isin(steps, gaps)]
    keep = b > a
    a, b = a[keep], b[keep]
    found = window_statistics(t, y, a, b, rule=rule, steps=steps, gaps=gaps, compiled=compiled)
    for w in range(a.size):
        mean, std, slope, coverage, inside = reference(t, y, a[w], b[w], rule, set(steps.tolist()), set(gaps.tolist()))
        assert found.coverage[w] == pytest.approx(coverage, abs=1e-12)
        assert found.step_inside[w] == inside
        if coverage == 0:
            assert np.isnan([found.mean[w], found.std[w], found.slope[w]]).all()
            continue
        assert found.mean[w] == pytest.approx(mean, abs=1e-12)
        assert found.std[w] == pytest.approx(std, abs=1e-10)
        assert found.slope[w] == pytest.approx(slope, rel=1e-6, abs=1e-9 / max((b[w] - a[w]) * 1e-9, 1e-9))


@pytest.mark.parametrize("length", [0.01, 1.0, 65.0, 3600.0, 36_000.0])
@pytest.mark.parametrize("kind", ["int64", "datetime64", "float"])
def test_epoch_seconds_cost_no_precision(length, kind):
    rng = np.random.default_rng(1)
    seconds = np.cumsum(rng.integers(1_000_000, 40_000_000_000, 4000))
    t = EPOCH + seconds
    y = 3.7 + 0.3 * np.sin(seconds / 4e12) + np.where(np.arange(4000) % 50 < 25, 0.05, 0.0) + 1e-4 * rng.standard_normal(4000)
    steps = np.arange(25, 4000, 25)
    a = rng.integers(t[0], t[-1] - int(length * 1e9), 40)
    b = a + int(length * 1e9)
    given = [t, a, b]
    if kind == "datetime64":
        given = [x.view("datetime64[ns]") for x in given]
    if kind == "float":
        given = [x * 1e-9 for x in given]
        # what the floats mean, to the last bit
        t, a, b = [np.array([int(Fraction(float(v)) * 10**9 * 2**24) for v in x], dtype=object) for x in given]
    for rule in RULES:
        found = window_statistics(given[0], y, given[1], given[2], rule=rule, steps=steps)
        for w in range(0, 40, 16):
            mean, std, *_ = reference(t, y, a[w], b[w], rule, set(steps.tolist()))
            assert abs(found.mean[w] - mean) <= 1e-9
            assert abs(found.std[w] - std) <= 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_the_pyramid_gives_what_the_records_give(rule):
    rng = np.random.default_rng(2)
    n = 300_000  # three levels of blocks
    t = EPOCH + np.cumsum(rng.integers(1, 10**9, n))
    y = 3.7 + np.cumsum(rng.standard_normal(n)) * 1e-4
    steps, gaps = np.sort(rng.choice(np.arange(1, n), 400, replace=False)), np.array([70_000, 200_001])
    steps = np.setdiff1d(steps, gaps)
    middle = rng.integers(t[0], t[-1], 100)
    half = (10 ** rng.uniform(7, 14, 100)).astype(np.int64)
    a, b = middle - half, middle + half
    together = window_statistics(t, y, a, b, rule=rule, steps=steps, gaps=gaps)
    alone = [window_statistics(t, y, a[w : w + 1], b[w : w + 1], rule=rule, steps=steps, gaps=gaps) for w in range(100)]
    for name in together._fields:
        one_by_one = np.concatenate([getattr(x, name) for x in alone]).astype(float)
        np.testing.assert_allclose(getattr(together, name).astype(float), one_by_one, rtol=1e-9, atol=1e-11, equal_nan=True)


def dense(t, y, a, b, rule, steps, points=2_000_001):
    """Midpoint sum over millions of points, written without any of the formulae."""
    x = a + (np.arange(points) + 0.5) / points * (b - a)
    k = np.clip(np.searchsorted(t, x, side="right") - 1, 0, t.size - 2)
    part = (x - t[k]) / (t[k + 1] - t[k])
    line = y[k] + part * (y[k + 1] - y[k])
    value = {"linear": line, "step": np.where(np.isin(k + 1, steps), y[k], line), "ending": y[k + 1], "starting": y[k]}[rule]
    return value.mean(), value.std()


@pytest.mark.parametrize("rule", RULES)
def test_dense_integration_agrees(rule):
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.uniform(0.5, 30, 60))
    y = 3.5 + rng.random(60)
    steps = np.array([20, 40])
    found = window_statistics(t, y, t[[5]] + 0.3, t[[55]] - 0.2, rule=rule, steps=steps)
    mean, std = dense(t, y, t[5] + 0.3, t[55] - 0.2, rule, steps)
    assert found.mean[0] == pytest.approx(mean, abs=2e-6)
    assert found.std[0] == pytest.approx(std, abs=2e-6)


INSTANTS = {
    # at:      before, on a record, between, on the step, between gap, after the gap, last, after
    "linear": [None, 1.0, 1.5, 5.0, None, 6.0, 7.0, None],
    "step": [None, 1.0, 1.5, 5.0, None, 6.0, 7.0, None],
    "ending": [None, 1.0, 2.0, 5.0, None, 6.0, 7.0, None],
    "starting": [None, 1.0, 1.0, 5.0, None, 6.0, 7.0, None],
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_an_instant_takes_the_value_of_its_moment(rule, compiled):
    t = np.array([0.0, 10, 20, 30, 50, 60])
    y = np.array([1.0, 2, 3, 5, 6, 7])
    at = np.array([-1.0, 0, 5, 30, 40, 50, 60, 61])
    found = window_statistics(t, y, at, at, rule=rule, steps=np.array([3]), gaps=np.array([4]), compiled=compiled)
    expected = np.array([np.nan if v is None else v for v in INSTANTS[rule]])
    np.testing.assert_array_equal(found.mean, expected)
    np.testing.assert_array_equal(found.coverage, np.isfinite(expected).astype(float))
    np.testing.assert_array_equal(found.std, np.where(np.isfinite(expected), 0.0, np.nan))
    assert not found.step_inside.any()


@pytest.mark.parametrize("compiled", [False, True])
def test_at_a_step_within_one_time_the_later_record_rules_but_ending_speaks_for_before(compiled):
    t, y, at = np.array([0.0, 10, 10, 20]), np.array([1.0, 1, 4, 4]), np.array([10.0])
    values = [window_statistics(t, y, at, at, rule=rule, compiled=compiled).mean[0] for rule in RULES]
    assert values == [4.0, 4.0, 1.0, 4.0]


def test_a_step_is_held_until_its_record():
    found = window_statistics(np.array([0.0, 10.0]), np.array([1.0, 2.0]), np.array([0.0]), np.array([10.0]), rule="step", steps=np.array([1]))
    assert found.mean[0] == 1.0
    assert found.std[0] == 0.0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_missing_values_are_not_covered_whatever_the_other_windows_are(rule, compiled):
    t, y = np.arange(8.0), np.array([1.0, 2, 3, np.nan, 5, 6, 7, 8])
    a, b = np.array([0.5, 2.0, 3.0, 5.0]), np.array([6.5, 3.0, 4.0, 6.0])
    many = window_statistics(t, y, a, b, rule=rule, compiled=compiled)
    missing = {"linear": (2 / 6, 1, 1, 0), "step": (2 / 6, 1, 1, 0), "ending": (1 / 6, 1, 0, 0), "starting": (1 / 6, 0, 1, 0)}[rule]
    np.testing.assert_allclose(many.coverage, 1 - np.array(missing))
    np.testing.assert_array_equal(np.isfinite(many.mean), many.coverage > 0)
    for w in range(4):
        one = window_statistics(t, y, a[w : w + 1], b[w : w + 1], rule=rule, compiled=compiled)
        np.testing.assert_array_equal([x[0] for x in one], [x[w] for x in many])


def test_a_constant_has_no_spread_even_after_an_outlier():
    y = np.full(200, 3.7)
    y[100] = 9.0
    t = EPOCH + np.arange(200) * 10**9
    t[100] = t[99]  # the outlier lasts no time
    t[101] = t[99]
    found = window_statistics(t, y, t[[3]], t[[180]])
    assert found.mean[0] == pytest.approx(3.7, abs=1e-15)
    assert found.std[0] < 1e-12


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_windows_come_back_in_the_order_they_were_given(order):
    t, y = np.arange(10.0), np.arange(10.0)
    a = np.array([1.0, 4.0, 6.0])[list(order)]
    np.testing.assert_allclose(window_statistics(t, y, a, a + 2).mean, a + 1)


@pytest.mark.parametrize(
    ("times", "starts", "stops", "says"),
    [
        ([0.0, 2.0, 1.0], [0.0], [1.0], "go backwards"),
        ([0.0, 1.0, 2.0], [1.0], [0.0], "ends before it begins"),
        ([0.0, 1.0], [1.0], [2.0], "lengths do not fit"),
        ([0.0, 1.0, 2.0], [1], [2], "different kinds"),
    ],
)
def test_what_makes_no_sense_is_refused(times, starts, stops, says):
    with pytest.raises(ClockError, match=says):
        window_statistics(np.array(times), np.zeros(3), np.array(starts), np.array(stops))


def test_nothing_recorded_covers_nothing():
    empty = np.empty(0)
    found = window_statistics(empty, empty, np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert np.isnan(found.mean).all()
    assert not found.coverage.any()


def test_a_single_record_covers_its_instant():
    found = window_statistics(np.array([5.0]), np.array([3.0]), np.array([5.0, 4.0]), np.array([5.0, 6.0]))
    np.testing.assert_array_equal(found.mean, [3.0, np.nan])
    np.testing.assert_array_equal(found.coverage, [1.0, 0.0])


def test_it_works_where_nothing_may_be_cached(tmp_path):
    """The compiler's cache is a help, not a need."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from operando.timeline.windows import window_statistics as w\n"
        "t = np.arange(10.0)\n"
        "print(float(w(t, t, t[:1], t[-1:], compiled=True).mean[0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}, check=True)
    assert done.stdout.strip() == "4.5"


def test_small_tasks_load_no_compiler():
    code = (
        "import sys, numpy as np\n"
        "from operando.timeline.windows import window_statistics as w\n"
        "t = np.arange(1000.0)\n"
        "w(t, t, t[:200], t[:200] + 30)\n"
        "print('numba' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
