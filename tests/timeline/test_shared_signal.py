"""Clocks from a signal that both recorded: unbiased although the potentiostat keeps few records, and refused where nothing tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes_shared_signal import Scene, scene

from operando.contract import ClockError
from operando.timeline import clock_from_shared_signal


def found(s: Scene, **options: float) -> tuple[float, float]:
    """Largest error of the source's times (s) over the record, and in units of what is stated."""
    clock = clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, s.y_source, **options)  # type: ignore[arg-type]
    assert clock.status == "ok", clock.evidence
    assert clock.method == "shared_signal"
    at = np.array([s.t_source.min(), (s.t_source.min() + s.t_source.max()) / 2, s.t_source.max()])
    times, sigma = clock.to_echem(at)
    away = np.abs(times - s.true(at))
    return float(away.max()), float((away / sigma).max())


def drawn_as_lines(s: Scene) -> float:
    """Error of the offset (s) by least squares over offsets with straight lines between records, drift known."""
    source = s.true(s.t_source)  # right but for an offset of 0
    shifts = np.arange(-40.0, 40.0, 0.5)
    cost = []
    for shift in shifts:
        f = np.interp(source + shift, s.t_echem, s.y_echem)
        design = np.stack([np.ones(f.size), f], axis=1)
        cost.append(float(np.linalg.lstsq(design, s.y_source, rcond=None)[1][0]))
    return float(abs(shifts[int(np.argmin(cost))]))


def test_records_on_change_or_time_do_not_bias_the_clock() -> None:
    errors, pulls, lines = zip(*[(*found(s), drawn_as_lines(s)) for s in map(scene, range(4))], strict=True)
    assert max(errors) <= 2.0
    assert max(pulls) < 4.0
    assert max(lines) > 5.0, "straight lines between the same records are wrong by more"


def test_records_at_a_fixed_rate_and_a_shutter() -> None:
    t = np.arange(0.0, 40_000.0, 2.0)
    edges = np.cumsum(np.random.default_rng(1).uniform(300, 1500, 40))
    volts = 3.7 + 0.05 * (np.searchsorted(edges, t) % 2) + 1e-5 * t
    rng = np.random.default_rng(2)
    seen = np.arange(100.0, 36_000.0, 7.0)
    signal = 3.7 + 0.05 * (np.searchsorted(edges, seen) % 2) + 1e-5 * seen
    clock = clock_from_shared_signal(t, volts, seen + 400.0, 0.01 + 1.002 * signal + 1e-3 * rng.standard_normal(seen.size))
    assert clock.status == "ok", clock.evidence
    assert clock.offset == pytest.approx(-400.0, abs=2.0)
    shutter = (np.searchsorted(edges, t) % 2).astype(int)
    clock = clock_from_shared_signal(t, shutter, seen + 400.0, np.searchsorted(edges, seen) % 2)
    assert clock.status == "ok", clock.evidence
    assert clock.offset == pytest.approx(-400.0, abs=3.0)


def test_a_signal_that_tells_nothing_is_refused() -> None:
    t, rng = np.arange(0.0, 20_000.0, 5.0), np.random.default_rng(0)
    noise = 1e-3 * rng.standard_normal(t.size)
    assert clock_from_shared_signal(t, np.full(t.size, 3.7), t, 3.7 + noise).status == "no_edges"
    slow = clock_from_shared_signal(t, 3.5 + 2e-6 * t, t + 100.0, 3.5 + 2e-6 * t + noise)
    assert slow.status != "ok" or abs(slow.offset + 100.0) < 3 * slow.uncertainty
    other = clock_from_shared_signal(t, 3.7 + 0.1 * np.sin(t / 900), t, 3.7 + 0.1 * np.sin(t / 700) ** 3 + noise)
    assert other.status != "ok"


def test_cycles_that_repeat_themselves_are_ambiguous_until_one_says_where_to_look() -> None:
    t, rng = np.arange(0.0, 80_000.0, 5.0), np.random.default_rng(3)
    signal = 3.7 + 0.2 * (np.mod(t, 4000.0) < 2000.0)
    seen = np.arange(20_000.0, 50_000.0, 7.0)
    values = 3.7 + 0.2 * (np.mod(seen, 4000.0) < 2000.0) + 1e-3 * rng.standard_normal(seen.size)
    assert clock_from_shared_signal(t, signal, seen + 60.0, values).status == "ambiguous"
    told = clock_from_shared_signal(t, signal, seen + 60.0, values, search=600.0)
    assert told.status == "ok", told.evidence
    assert told.offset == pytest.approx(-60.0, abs=3.0)


def test_a_clock_that_was_set_in_between_is_noticed() -> None:
    s = scene(3)
    stamps = s.t_source.copy()
    stamps[stamps.size // 2 :] += 300.0
    clock = clock_from_shared_signal(s.t_echem, s.y_echem, stamps, s.y_source)
    assert clock.status != "ok"


def test_too_little_and_what_is_no_signal() -> None:
    s = scene(0)
    assert clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source[:3], s.y_source[:3]).status == "too_few"
    assert clock_from_shared_signal([], [], s.t_source, s.y_source).status == "too_few"
    assert clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source + 1e7, s.y_source, search=100.0).status == "too_few"
    with pytest.raises(ClockError, match="no signal at its times"):
        clock_from_shared_signal(s.t_echem, s.y_echem[:-1], s.t_source, s.y_source)
    with pytest.raises(ClockError, match="places of records"):
        clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, s.y_source, steps=[s.t_echem.size])
    with pytest.raises(ClockError, match="backwards"):
        clock_from_shared_signal(s.t_echem[::-1], s.y_echem, s.t_source, s.y_source)
    with pytest.raises(ClockError, match="search"):
        clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, s.y_source, search=-1.0)


def test_samples_that_are_none_are_left_out_and_said() -> None:
    s = scene(5)
    values = s.y_source.copy()
    values[::50] = np.nan
    clock = clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, values)
    assert clock.status == "ok"
    assert "samples without time or value" in clock.evidence


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 50), shift=st.floats(-1000, 1000), both=st.sampled_from([0.0, 1.75e9]), gain=st.sampled_from([1.0, -2.0, 1e-3]))
def test_moving_the_source_moves_the_offset_and_scaling_changes_nothing(seed: int, shift: float, both: float, gain: float) -> None:
    s = scene(seed, hours=8.0)
    first = clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, s.y_source)
    moved = clock_from_shared_signal(s.t_echem + both, s.y_echem, s.t_source + both + shift, 5.0 + gain * s.y_source)
    assert moved.status == first.status
    if first.status == "ok":
        assert moved.offset == pytest.approx(first.offset - shift, abs=0.5)


@pytest.mark.parametrize("step", [10.0, 30.0, 80.0])
def test_a_clock_set_in_the_middle_is_no_drift(step: float) -> None:
    for seed in (1, 2):
        s = scene(seed)
        source = np.where(s.t_source > np.quantile(s.t_source, 0.4 + 0.1 * seed), s.t_source + step, s.t_source)
        clock = clock_from_shared_signal(s.t_echem, s.y_echem, source, s.y_source)
        assert clock.status == "models_disagree"
        assert " set " in clock.evidence


@pytest.mark.parametrize(("step", "at"), [(600.0, 0.9), (30.0, 0.1), (5.0, 0.5)])
def test_a_clock_set_early_late_or_by_seconds_is_noticed(step: float, at: float) -> None:
    for seed in (0, 4):
        s = scene(seed)
        clock = clock_from_shared_signal(
            s.t_echem, s.y_echem, np.where(np.arange(s.t_source.size) > at * s.t_source.size, s.t_source + step, s.t_source), s.y_source
        )
        assert clock.status == "models_disagree"


def test_noise_against_a_smooth_voltage_is_refused_whatever_falls_where() -> None:
    t = np.arange(0.0, 76_000.0, 30.0)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        clock = clock_from_shared_signal(t, 3.7 + 0.4 * np.sin(t / 9000), np.sort(rng.uniform(-2e4, 9e4, 100)), rng.standard_normal(100))
        assert clock.status != "ok"


def test_a_record_held_against_itself() -> None:
    s = scene(0)
    clock = clock_from_shared_signal(s.t_echem, s.y_echem, s.t_echem, s.y_echem)
    assert clock.status != "ok" or (abs(clock.offset) < 0.01 and clock.uncertainty >= 1e-3)
