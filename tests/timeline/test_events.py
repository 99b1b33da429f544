"""Clocks from events: found within the stated interval, refused where another offset could be true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes_events import scene

from operando.contract import ClockError
from operando.timeline import clock_from_events

SEEDS = range(60)  # the benchmark takes more


def test_events_of_which_a_fifth_is_lost_and_six_are_false() -> None:
    errors, drifts, inside = [], [], []
    for seed in SEEDS:
        s = scene(seed)
        clock = clock_from_events(s.echem, s.source)
        assert clock.status == "ok", clock.evidence
        assert clock.method == "events"
        ends = np.array([s.source.min(), s.source.max()])
        found, sigma = clock.to_echem(ends)
        errors.append(np.abs(found - s.true(ends)))
        inside.append(errors[-1] <= 1.96 * sigma)
        drifts.append(abs(clock.drift - s.drift))
        assert abs(clock.offset - s.offset) == pytest.approx(errors[-1][0], abs=1e-6)
    assert np.quantile(errors, 0.95, axis=0).max() <= 0.2
    assert np.quantile(drifts, 0.95) <= 10e-6
    assert 0.85 <= np.mean(inside) <= 1.0


@pytest.mark.parametrize("period", [30.0, 600.0, 1800.0, 7200.0])
@pytest.mark.parametrize("lost_by_echem", [0.0, 0.2])
def test_a_regular_train_is_always_refused(period: float, lost_by_echem: float) -> None:
    for seed in range(20):
        s = scene(seed, regular=period, lost_by_echem=lost_by_echem)
        clock = clock_from_events(s.echem, s.source)
        assert clock.status in ("ambiguous", "models_disagree")
        with pytest.raises(ClockError, match="does not support a correction"):
            clock.to_echem(s.source)


def test_a_perfect_regular_train_is_refused_however_it_ends() -> None:
    train = 600.0 * np.arange(30)
    for cut in (0, 1, 5):
        clock = clock_from_events(train, train[cut:] - 37.0)
        assert clock.status == "ambiguous"
        assert "600 s away" in clock.evidence or "00 s away" in clock.evidence


def test_a_regular_train_is_told_where_one_knows_roughly_where_to_look() -> None:
    for seed in range(10):
        s = scene(seed, regular=600.0)
        clock = clock_from_events(s.echem, s.source, offset=s.offset + 60, search=120)
        assert clock.status == "ok"
        assert clock.offset == pytest.approx(s.offset, abs=1.0)


def test_a_zone_error_of_hours_is_found_too() -> None:
    s = scene(3)
    clock = clock_from_events(s.echem, s.source + 7200.0)
    assert clock.status == "ok"
    assert clock.offset == pytest.approx(s.offset - 7200.0, abs=0.5)


def test_a_step_of_the_clock_between_the_events_is_named() -> None:
    s = scene(5, events=60, lost=0.1)
    source = np.sort(s.source)
    source[source.size // 2 :] += 65.0
    clock = clock_from_events(s.echem, source)
    assert clock.status == "models_disagree"
    assert "of the later part agree on an offset -64.9" in clock.evidence


@pytest.mark.parametrize("step", [30.0, 300.0, 7200.0])
def test_a_clock_set_forward_anywhere_in_between_is_not_accepted(step: float) -> None:
    accepted = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        seen = np.sort(rng.uniform(0, 79200, 40))
        kept = seen[rng.random(40) > 0.2]
        true = np.sort(np.concatenate([kept, rng.uniform(0, 79200, 6)]))
        source = true + 0.3 * rng.standard_normal(true.size) - 100 + np.where(true > rng.uniform(20000, 60000), step, 0.0)
        accepted += clock_from_events(seen, source).status == "ok"
    assert accepted == 0


@pytest.mark.parametrize(("steps", "at"), [((3.0,), (0.25,)), ((3.0,), (0.5,)), ((20.0,), (0.5,)), ((5.0, -5.0), (0.33, 0.66))])
def test_a_clock_set_by_seconds_is_not_fitted_by_a_drift(steps: tuple[float, ...], at: tuple[float, ...]) -> None:
    accepted = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        seen = np.sort(rng.uniform(0, 79200, 40))
        true = seen[rng.random(40) > 0.2]
        source = true + 0.3 * rng.standard_normal(true.size) - 100 + sum(s * (true > a * 79200) for s, a in zip(steps, at, strict=True))
        clock = clock_from_events(seen, source)
        accepted += clock.status == "ok" and clock.uncertainty < 0.5
    assert accepted == 0


def test_events_at_an_end_that_have_no_partner_are_said_or_refused() -> None:
    s = scene(3, lost=0.0, false=0)
    source = np.sort(s.source)
    source[-2:] += 3600.0
    said = clock_from_events(s.echem, source)
    assert "the last 2 events of the electrochemistry have no partner" in said.evidence
    source[-5:-2] += 3600.0
    assert clock_from_events(s.echem, source).status == "models_disagree"


def test_what_follows_an_uncertain_step_at_a_constant_delay_is_not_taken_for_it() -> None:
    rng = np.random.default_rng(0)
    begins = np.sort(rng.uniform(0, 90_000, 40))
    begins = begins[np.diff(begins, prepend=-1e4) > 400]
    seen = np.concatenate([begins, begins + 139.0])  # a sweep begins within 30 s after the last record, and ends sharply
    early = np.repeat([30.0, 0.01], begins.size)
    clock = clock_from_events(seen, begins + 37.4, early=early)
    assert clock.status == "ambiguous"
    assert "known only within 30 s" in clock.evidence
    assert clock_from_events(begins, begins + 37.4).offset == pytest.approx(-37.4, abs=0.01)


def test_a_step_seen_late_widens_the_interval_or_is_left_out() -> None:
    s = scene(2)
    late = clock_from_events(s.echem + 1.0, s.source, early=2.0)  # each happened within 2 s before it was written: 1 s before, as it happens
    assert late.status == "ok"
    assert abs(late.offset - s.offset) < 0.3
    assert late.uncertainty > 0.5
    none = clock_from_events(s.echem + 30.0, s.source, early=30.0)
    assert none.status == "too_few"
    assert "no record within 3 s before them" in none.evidence
    some = clock_from_events(s.echem, s.source, early=np.where(np.arange(s.echem.size) % 3 == 0, 145.0, 0.01))
    assert some.status == "ok"
    assert abs(some.offset - s.offset) < 0.5
    with pytest.raises(ClockError, match="early"):
        clock_from_events(s.echem, s.source, early=-1.0)


def test_lists_that_have_nothing_to_do_with_each_other_are_refused() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clock = clock_from_events(np.sort(rng.uniform(0, 80_000, 40)), np.sort(rng.uniform(0, 80_000, 38)))
        assert clock.status == "ambiguous"


def test_nothing_is_lost_by_epoch_seconds_or_dates() -> None:
    s, late = scene(7), scene(7, epoch=1.78e9)
    near, far = clock_from_events(s.echem, s.source), clock_from_events(late.echem, late.source)
    assert far.offset == pytest.approx(near.offset, abs=1e-5)
    assert far.uncertainty == pytest.approx(near.uncertainty, rel=1e-3)
    dates = [(np.round(t * 1e6).astype("int64")).astype("datetime64[us]") for t in (late.echem, late.source)]
    dated = clock_from_events(*dates)
    assert dated.offset == pytest.approx(near.offset, abs=1e-5)
    assert dated.at == dates[1].min()
    moved, _ = dated.to_echem(dates[1])
    seconds, _ = near.to_echem(s.source)
    np.testing.assert_allclose((moved - moved.min()) / np.timedelta64(1, "ns") * 1e-9, seconds - seconds.min(), atol=1e-4)


def test_stamps_of_whole_seconds_are_not_believed_beyond_them() -> None:
    s = scene(1, jitter=0.0)
    clock = clock_from_events(np.round(s.echem), np.round(s.source))
    assert clock.status == "ok"
    assert clock.uncertainty >= 0.4  # two lists of whole seconds, 1 / sqrt(12) s each
    assert abs(clock.offset - s.offset) < 2 * clock.uncertainty


def test_a_drift_that_changes_widens_the_interval() -> None:
    s = scene(11, events=200, lost=0.0, false=0, jitter=0.05)
    wave = 0.5 * np.sin(2 * np.pi * s.source / 40_000)
    steady, waving = clock_from_events(s.echem, s.source), clock_from_events(s.echem, s.source + wave)
    assert waving.status == "ok"
    assert waving.uncertainty > 15 * steady.uncertainty


def test_few_events_are_enough_only_where_they_are_irregular() -> None:
    seen = np.array([0.0, 100.0, 260.0, 300.0, 450.0, 1010.0, 1500.0, 1777.0])
    assert clock_from_events(seen, seen + 5).status == "ok"
    few = clock_from_events(seen[:3], seen[:3] + 5)
    assert few.status == "too_few"
    assert "3 events by the source" in few.evidence
    assert clock_from_events([], seen).status == "too_few"
    rough = seen[:4] + np.array([0.4, -0.8, 0.7, -0.5])
    assert clock_from_events(seen[:4], np.r_[rough, 9e3, 12e3, 13e3]).status in ("too_few", "ambiguous")


def test_the_profile_has_its_maximum_at_the_offset_and_shows_the_rivals() -> None:
    s = scene(2)
    clock = clock_from_events(s.echem, s.source)
    assert clock.profile is not None
    assert (np.diff(clock.profile.offset) > 0).all()
    assert clock.profile.log_likelihood.max() == 0.0
    assert clock.profile.offset[np.argmax(clock.profile.log_likelihood)] == pytest.approx(clock.offset, abs=1e-6)
    train = 600.0 * np.arange(30)
    profile = clock_from_events(train, train + 5.0).profile
    assert profile is not None
    assert (profile.log_likelihood > -60).sum() > 80  # several peaks


@pytest.mark.parametrize(
    ("echem", "source", "said"),
    [
        (np.zeros((2, 2)), np.arange(5.0), "no list of times"),
        (np.arange(5.0), np.array(["a", "b"]), "no list of times"),
        (np.arange(5.0), np.arange(5).astype("datetime64[s]"), "dates in one list"),
        (np.arange(5) * 10**18, np.arange(5) * 10**18 + 10**19 // 2, "out of range"),
    ],
)
def test_what_is_no_list_of_times_is_refused(echem: np.ndarray, source: np.ndarray, said: str) -> None:
    with pytest.raises(ClockError, match=said):
        clock_from_events(echem, source)


def test_a_tolerance_or_search_that_is_none_is_refused() -> None:
    for name in ("search", "tolerance", "max_drift"):
        with pytest.raises(ClockError, match=name):
            clock_from_events(np.arange(9.0) ** 2, np.arange(9.0) ** 2, **{name: -1.0})


def test_times_that_are_none_are_left_out_and_said() -> None:
    s = scene(4)
    clock = clock_from_events(s.echem, np.r_[s.source, np.nan, np.nan])
    assert clock.status == "ok"
    assert "2 stamps that are no time" in clock.evidence


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 200), shift=st.floats(-1e6, 1e6), both=st.floats(0, 2e9))
def test_moving_the_source_moves_the_offset_and_moving_both_nothing(seed: int, shift: float, both: float) -> None:
    s = scene(seed, events=25, false=2)
    first = clock_from_events(s.echem, s.source)
    moved = clock_from_events(s.echem + both, s.source + both + shift)
    assert moved.status == first.status
    assert moved.offset == pytest.approx(first.offset - shift, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    echem=st.lists(st.floats(-1e6, 1e6), max_size=30),
    source=st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=30),
)
def test_any_two_lists_give_an_answer(echem: list[float], source: list[float]) -> None:
    clock = clock_from_events(np.array(echem), np.array(source))
    assert clock.status in ("ok", "ambiguous", "models_disagree", "too_few")
    assert clock.evidence
