"""Given clocks, and the door for estimated ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from operando.contract import ClockError
from operando.timeline import Clock, clocks_from_config
from operando.timeline.clocks import correct, describe

T = np.array(["2026-06-03T10:00:00", "2026-06-03T11:00:00", "2026-06-04T10:00:00"], "datetime64[ns]")


def test_offset_and_drift():
    clock = Clock(offset=-37.0, drift=12e-6, at="2026-06-03T10:00:00")
    moved, _ = clock.to_echem(T)
    np.testing.assert_array_equal(moved - T, np.array([-37_000_000_000, -36_956_800_000, -35_963_200_000], "timedelta64[ns]"))


def test_float_seconds_agree_with_stamps():
    clock = Clock(offset=-37.0, drift=12e-6, at="2026-06-03T10:00:00", uncertainty=1.0, drift_uncertainty=1e-6)
    moved, sigma = clock.to_echem(T)
    seconds, same = clock.to_echem(T.astype(np.int64) * 1e-9)
    np.testing.assert_allclose(seconds, moved.astype(np.int64) * 1e-9, atol=1e-6)
    np.testing.assert_allclose(sigma, same, rtol=1e-6)
    np.testing.assert_allclose(sigma, np.sqrt(1 + (1e-6 * np.array([0, 3600, 86400])) ** 2))


def test_the_covariance_counts():
    clock = Clock(at=T[0], uncertainty=1.0, drift_uncertainty=1e-5, covariance=-1e-5)
    np.testing.assert_allclose(clock.sigma(1e5), 0.0, atol=1e-7)  # offset and drift cancel there


def test_without_at_the_first_stamp_rules_and_stays():
    clock = Clock(drift=1e-3)
    short, _ = clock.to_echem(T[:2])
    long, _ = clock.to_echem(T)
    np.testing.assert_array_equal(short, long[:2])
    assert clock.anchored(T[0]).at == T[0]
    assert Clock(at=T[1]).anchored(T[0]).at == T[1]


def test_each_segment_has_its_clock():
    segment = np.array([0, 0, 3])
    moved, sigma, used = correct(T.view(np.int64), segment, {0: Clock(1.0, uncertainty=0.5), 3: Clock(-2.0)})
    assert ((moved - T.view(np.int64)) / 1e9).tolist() == [1.0, 1.0, -2.0]
    assert sigma.tolist() == [0.5, 0.5, 0.0]
    assert used[3].at == T[2]


def test_a_segment_without_a_clock_is_left_alone():
    moved, _, used = correct(T.view(np.int64), np.array([0, 0, 1]), {0: Clock(1.0)})
    assert moved[2] == T.view(np.int64)[2]
    assert list(used) == [0]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"offset": np.nan}, "offset of a clock is not a finite"),
        ({"offset": "3"}, "offset of a clock is not a finite"),
        ({"drift": np.inf}, "drift of a clock is not a finite"),
        ({"drift": 12.0}, "a drift no clock has"),
        ({"drift": -0.01}, "a drift no clock has"),
        ({"uncertainty": -1.0}, "negative uncertainty"),
        ({"drift_uncertainty": -1e-9}, "negative uncertainty"),
        ({"covariance": 1.0}, "covariance"),
        ({"method": "guess"}, "unknown method"),
        ({"status": "fine"}, "unknown status"),
        ({"at": "yesterday"}, "at of a clock"),
        ({"at": ["2026-06-03T10:00:00"] * 2}, "not one time stamp"),
    ],
)
def test_what_is_no_clock_is_refused(values, says):
    with pytest.raises(ClockError, match=says):
        Clock(**values)


@pytest.mark.parametrize("status", ["ambiguous", "no_edges", "models_disagree", "too_few"])
def test_an_estimate_that_supports_nothing_is_never_applied(status):
    with pytest.raises(ClockError, match=status):
        correct(T.view(np.int64), np.zeros(3, int), Clock(5.0, method="events", status=status))


def test_clocks_are_values():
    clock = Clock(-37.0, at=T[0], method="events", evidence="40 shutters", profile=object())
    assert clock == Clock(-37.0, at=T[0], method="events", evidence="40 shutters")
    assert Clock(**json.loads(describe(clock))) == clock
    with pytest.raises(AttributeError):
        clock.offset = 1.0


def test_from_configuration():
    class Values:
        offset, drift, at, uncertainty, drift_uncertainty, segment = -37.0, 12e-6, "2026-06-03T10:00:00", 1.0, 0.0, None

    clock = clocks_from_config(Values(), localise="Europe/Paris")
    assert clock == Clock(-37.0, 12e-6, "2026-06-03T08:00:00", 1.0)
    assert clocks_from_config(None) is None
    two = clocks_from_config([{"offset": 1.0, "segment": 0}, {"offset": 2.0, "segment": 2, "at": "2026-06-03T10:00:00+02:00"}])
    assert two == {0: Clock(1.0), 2: Clock(2.0, at="2026-06-03T08:00:00")}
    with pytest.raises(ClockError, match="without a zone"):
        clocks_from_config({"at": "2026-06-03T10:00:00"})
    with pytest.raises(ClockError, match="segment"):
        clocks_from_config([{"offset": 1.0}])
    with pytest.raises(ClockError, match="two clocks for segment 1"):
        clocks_from_config([{"segment": 1}, {"segment": 1}])


@pytest.mark.parametrize("wrong", ["-37 s", -37.0, {0: -37.0}])
def test_a_bare_number_is_no_clock(wrong):
    with pytest.raises(ClockError, match=r"operando\.Clock\(offset"):
        correct(T.astype(np.int64), np.zeros(3, int), wrong)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [1e10, -1e10, 1e300, 8e9])
def test_an_offset_that_leaves_the_calendar_is_refused(offset: float) -> None:
    with pytest.raises(ClockError, match="1678 to 2261"):
        Clock(offset=offset).to_echem(T)
    moved, _ = Clock(offset=-3.8e9).to_echem(T)  # a clock that counts from 1904
    assert moved[0] < T[0]
