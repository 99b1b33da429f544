"""Where a signal was between records: never further from the truth than the threshold, and right at steps where lines are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.timeline.recorded import traces

CHANGE, LIMIT = 5e-3, 30.0


def recorded(seed: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A voltage every 0.5 s with steps and relaxations; and which of these a potentiostat keeps (5 mV or 30 s)."""
    rng = np.random.default_rng(seed)
    t = np.arange(0.0, 7200.0, 0.5)
    y = 3.6 + 2e-5 * t
    for at in rng.uniform(300, 6900, steps):
        size, after = rng.choice([-1, 1]) * rng.uniform(0.03, 0.09), np.maximum(t - at, 0.0)
        y = y + np.where(t >= at, size * (1 + 1.2 * (1 - np.exp(-after / 200.0))), 0.0)
    keep = [0]
    for k in range(1, t.size):
        if abs(y[k] - y[keep[-1]]) >= CHANGE or t[k] - t[keep[-1]] >= LIMIT:
            keep.append(k)
    return t, y, np.array(keep)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 14))
def test_it_stays_within_the_threshold_where_lines_do_not(seed: int, steps: int) -> None:
    t, y, keep = recorded(seed, steps)
    drawn = {trace.rule: trace for trace in traces(t[keep], y[keep], np.empty(0, np.int64))}
    inside = t <= t[keep[-1]]
    away = np.abs(drawn["threshold"](t) - y)[inside]
    lines = np.abs(drawn["linear"](t) - y)[inside]
    assert away.max() <= 1.5 * CHANGE
    assert np.quantile(lines, 0.999) > 2 * away.max()  # the half minute before a step
    assert away.mean() < lines.mean()


def test_gaps_are_not_known() -> None:
    t = np.concatenate([np.arange(0.0, 600.0, 10.0), np.arange(1200.0, 1800.0, 10.0)])
    trace = traces(t, np.sin(t / 50), np.empty(0, np.int64))[0]
    assert trace.known(np.array([100.0, 800.0, 1300.0, 1790.0]), 0.0).tolist() == [True, False, True, True]
    assert trace.known(np.array([100.0, 585.0, 1300.0, 1790.0]), 20.0).tolist() == [True, False, True, False]


def test_a_switch_is_held_and_a_voltage_is_not() -> None:
    t = np.sort(np.concatenate([np.arange(0.0, 3000.0, 30.0), [415.0, 1003.0, 2222.0]]))
    switch = (np.searchsorted([415.0, 1003.0, 2222.0], t, side="right") % 2).astype(float)
    held = {trace.rule: trace for trace in traces(t, switch, np.empty(0, np.int64))}["held"]
    assert held(np.array([414.9, 415.1])).tolist() == pytest.approx([0.0, 1.0])
    _, y, keep = recorded(0, 8)
    assert "held" not in {trace.rule for trace in traces(np.arange(keep.size) * 30.0, y[keep], np.empty(0, np.int64))}
