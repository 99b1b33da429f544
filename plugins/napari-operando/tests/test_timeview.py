"""The frame of a moment, against a plain loop and against searchsorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_operando.timeview import GAP, FrameTimes, TimeView

moments = st.floats(-1e5, 1e5, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def exposures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 40))
    begin = np.array(draw(st.lists(moments, min_size=n, max_size=n)))
    length = np.array(draw(st.lists(st.floats(0, 500).map(lambda x: round(x, 3)), min_size=n, max_size=n)))
    return begin, begin + length


def separate(draw_seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Exposures that do not overlap, at irregular times with long pauses."""
    rng = np.random.default_rng(draw_seed)
    begin = np.cumsum(rng.exponential(60, n) + 30 + 4000 * (rng.random(n) < 0.02))
    return begin, begin + 25.0


@settings(max_examples=200, deadline=None)
@given(exposures(), st.lists(moments, min_size=1, max_size=20), st.floats(0, 5000))
def test_hold_is_the_last_frame_that_had_begun(given_exposures: tuple[np.ndarray, np.ndarray], asked: list[float], oldest: float) -> None:
    begin, end = given_exposures
    times = FrameTimes(begin, end, rule="hold", max_age=oldest)
    index, age = times.lookup(np.array(asked))
    for t, i, a in zip(asked, index, age, strict=True):
        begun = [k for k in np.argsort(begin, kind="stable") if begin[k] <= t]
        expected = int(begun[-1]) if begun else GAP
        old = max(t - end[expected], 0.0) if begun else np.inf
        if old > oldest:
            assert i == GAP
            assert a == np.inf
        else:
            assert i == expected
            assert a == old


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(-1e3, 4e4), min_size=1, max_size=30))
def test_nearest_is_the_exposure_nearest_to_the_moment(seed: int, asked: list[float]) -> None:
    begin, end = separate(seed)
    times = FrameTimes(begin, end, max_age=np.inf)
    index, age = times.lookup(np.array(asked))
    for t, i, a in zip(asked, index, age, strict=True):
        distance = np.maximum(np.maximum(begin - t, t - end), 0)
        assert distance[i] == distance.min() == a


@pytest.mark.parametrize("rule", ["hold", "nearest"])
def test_the_order_of_acquisition_does_not_matter(rule: str) -> None:
    begin, end = separate(3)
    order = np.random.default_rng(0).permutation(len(begin))
    asked = np.linspace(begin[0] - 500, end[-1] + 500, 3000)
    straight, _ = FrameTimes(begin, end, rule=rule).lookup(asked)  # type: ignore[arg-type]
    mixed, _ = FrameTimes(begin[order], end[order], rule=rule).lookup(asked)  # type: ignore[arg-type]
    assert (straight == np.where(mixed == GAP, GAP, order[mixed])).all()


def test_a_moment_inside_a_long_exposure_belongs_to_it_although_another_middle_is_nearer() -> None:
    times = FrameTimes(np.array([0.0, 1201.0]), np.array([1200.0, 1202.0]))
    assert times.at(1150.0).index == 0


def test_ages_staleness_and_gaps() -> None:
    begin = np.array([0.0, 100, 200, 300, 2000])
    times = FrameTimes(begin, begin + 10, rule="hold")
    assert times.stale_after == 150
    assert times.max_age == 400
    assert times.at(305).age == 0
    shown = times.at(500)
    assert (shown.index, shown.age, shown.stale) == (3, 190.0, True)
    assert times.at(711).gap
    assert times.at(711).age == np.inf
    assert times.at(-1).gap
    assert times.at(np.nan).gap


def test_one_frame_is_shown_at_any_age_and_no_frames_at_none() -> None:
    one = FrameTimes(np.array([10.0]), np.array([12.0]))
    assert one.at(1e6).index == 0
    assert one.at(1e6).stale
    assert not one.at(11).stale
    none = FrameTimes(np.array([np.nan]), np.array([np.nan]))
    assert none.at(3.0).gap
    assert none.step(3.0, 1) is None
    assert none.lookup(np.array([1.0, 2.0]))[0].tolist() == [GAP, GAP]


def test_frames_of_unknown_time_and_of_other_positions_are_never_shown() -> None:
    begin = np.array([0.0, np.nan, 20, 30])
    times = FrameTimes(begin, begin + 1, only=np.array([True, True, True, False]))
    assert set(times.lookup(np.linspace(-5, 50, 200))[0]) <= {0, 2, GAP}


@pytest.mark.parametrize("rule", ["hold", "nearest"])
def test_stepping_visits_every_frame_once(rule: str) -> None:
    begin, end = separate(11, 50)
    times = FrameTimes(begin, end, rule=rule)  # type: ignore[arg-type]
    at, seen = times.begin[0], [0]
    for _ in range(49):
        at = times.step(at, 1)
        assert at is not None
        seen.append(times.at(at).index)
    assert seen == list(range(50))
    assert times.step(at, 1) == times.step(at, 5)  # the last one is the end
    gap = FrameTimes(np.array([0.0, 1000]), np.array([1.0, 1001]), max_age=10)
    assert gap.step(500, 1) == 1000.5
    assert gap.step(500, -1) == 0.5


def view(**kwargs: object) -> TimeView:
    begin, end = separate(5)
    times = FrameTimes(begin, end, rule="hold")
    read = kwargs.pop("read", lambda i: np.full((4, 6), i, np.uint16))
    return TimeView(times, read, (4, 6), np.uint16, start=-100.0, tick=1.0, ticks=int(end[-1]) + 1000, **kwargs)  # type: ignore[arg-type]


def test_every_tick_shows_the_frame_that_searchsorted_names() -> None:
    begin, end = separate(5)
    seen = view()
    for tick in np.random.default_rng(1).integers(0, len(seen), 400):
        t = -100.0 + tick
        k = int(np.searchsorted(begin, t, side="right")) - 1
        shown = k >= 0 and t - end[k] <= seen.times.max_age
        assert (seen[int(tick), 1:3, ::2] == (k if shown else 0)).all()
        assert seen.frame_of(int(tick)) == (k if shown else GAP)


def test_a_frame_is_read_once_while_the_cursor_is_inside_it() -> None:
    seen = view()
    begin, _ = separate(5)
    first = int(np.ceil(begin[7])) + 100
    for tick in range(first, first + 20):
        assert seen[tick, :, :].shape == (4, 6)
    assert seen.reads == 1


def test_slices_ellipses_and_dtypes() -> None:
    seen = view()
    assert seen[10:14].shape == (4, 4, 6)
    assert seen[5:5].shape == (0, 4, 6)
    assert seen[-1, ..., 2].shape == (4,)
    assert seen[np.array([1, 2])].shape == (2, 4, 6)
    part = seen[:, 1:3, ::2]
    assert part.shape == (len(seen), 2, 3)
    np.testing.assert_array_equal(part[12], seen[12][1:3, ::2])
    np.testing.assert_array_equal(part[12, :, 1], seen[12][1:3, 2])
    np.testing.assert_array_equal(part[10:14, 0], seen[10:14][:, 1, ::2])
    with pytest.raises(TypeError, match="tick by tick"):
        np.asarray(part)
    with pytest.raises(TypeError, match="tick by tick"):
        part[:]
    assert seen.dtype == np.uint16
    assert seen.size == len(seen) * 24
    with pytest.raises(IndexError, match="tick"):
        seen[len(seen)]
    with pytest.raises(TypeError, match="tick by tick"):
        np.asarray(seen)


def test_a_frame_that_cannot_be_read_is_a_gap_with_a_message_told_once() -> None:
    told: list[tuple[int, str]] = []

    def read(i: int) -> np.ndarray:
        raise OSError(f"frame {i} is on a disk that is away")

    seen = view(read=read, problem=lambda i, m: told.append((i, m)))
    begin, _ = separate(5)
    tick = int(begin[3]) + 105
    assert (seen[tick] == 0).all()
    assert (seen[tick] == 0).all()
    assert told == [(3, "frame 3 is on a disk that is away")]
    seen.forget()
    assert (seen[tick] == 0).all()
    assert [bool(message) for _, message in told] == [True, False, True]


def test_frames_of_another_size_are_cut_or_padded_and_said() -> None:
    seen = view(read=lambda i: np.ones((3, 8), np.uint16))
    begin, _ = separate(5)
    picture = seen[int(begin[3]) + 105]
    assert picture[:3].all()
    assert not picture[3].any()
    assert "3 x 8" in seen.problems[3]


def test_a_gap_of_real_numbers_is_nan() -> None:
    times = FrameTimes(np.array([100.0]), np.array([101.0]), rule="hold")
    seen = TimeView(times, lambda i: np.zeros((2, 2)), (2, 2), float, start=0.0, tick=1.0, ticks=200)
    assert np.isnan(seen[3]).all()
    assert (seen[150] == 0).all()


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        FrameTimes(np.zeros(2), np.zeros(3))


def test_a_frame_that_only_comes_is_ahead_and_one_that_was_is_old() -> None:
    times = FrameTimes(np.array([0.0, 100.0, 200.0]), np.array([10.0, 110.0, 210.0]))
    assert times.at(5).distance == ""
    assert times.at(30).distance == "20 s old"
    assert times.at(80).distance == "20 s ahead"
    assert times.at(1e6).distance == ""


def test_a_frame_that_can_be_read_again_is_told_once() -> None:
    there = False

    def read(index: int) -> np.ndarray:
        if not there:
            raise OSError("unplugged")
        return np.ones((2, 2), np.uint8)

    heard: list[tuple[int, str]] = []
    times = FrameTimes(np.array([0.0]), np.array([10.0]))
    view = TimeView(times, read, (2, 2), np.uint8, start=0, tick=1, ticks=5, problem=lambda k, said: heard.append((k, said)))
    assert not view[1].any()
    assert view[1].shape == (2, 2)
    assert heard == [(0, "unplugged")]
    there = True
    view.forget()
    assert heard == [(0, "unplugged"), (0, "")]
    assert view[1].all()
    assert heard == [(0, "unplugged"), (0, "")]
    assert view.problems == {}
