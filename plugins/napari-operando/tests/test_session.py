"""The model of what is looked at: ticks, marks, moving, and what a text means."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_operando.session import MOST_TICKS, Session, Timeline, fine_tick
from napari_operando.timeview import FrameTimes

ORIGIN = np.datetime64("2026-06-03T08:00:00", "ns")


def timeline(tick: float = 0.5) -> Timeline:
    begin = np.array([0.0, 100, 250, 700, 701.2, 3000])
    frames = {"xrd": FrameTimes(begin, begin + 1), "eis": FrameTimes(np.array([500.0]), np.array([900.0]))}
    return Timeline(ORIGIN, -300.0, 7200.0, tick, frames, ((1, 0.0), (2, 3600.0)), ((0, 0.0), (1, 1800.0), (2, 3600.0), (3, 5400.0)))


@pytest.fixture
def session() -> Session:
    return Session(timeline(), cell="A")


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e5, 1e5), st.floats(0.001, 100))
def test_the_cursor_stands_on_a_tick_of_the_experiment(time: float, tick: float) -> None:
    line = timeline(tick)
    at = line.snap(time)
    assert line.begin <= at <= line.end + tick
    assert at == pytest.approx(line.begin + line.tick_of(time) * tick)
    assert 0 <= line.tick_of(time) < line.ticks
    if line.begin <= time <= line.end:
        assert abs(at - time) <= tick / 2 * (1 + 1e-6)


def test_ticks_are_finer_than_frames_and_not_endless() -> None:
    begin = np.array([0.0, 10, 20, 20.5, 4000])
    tick = fine_tick(0, 4000, [FrameTimes(begin, begin + 0.1)])
    assert tick == pytest.approx(0.05)
    assert fine_tick(0, 1e6, [FrameTimes(np.array([0, 1e-9]), np.array([0, 1e-9]))]) == 1e6 / MOST_TICKS
    assert fine_tick(5, 5, []) > 0


def test_observers_hear_of_changes_and_only_of_changes(session: Session) -> None:
    heard: list[float] = []
    session.time_changed.connect(heard.append)
    session.time = 100.2
    session.time = 100.1
    session.time = np.nan
    assert heard == [100.0]
    session.mark("A")
    assert session.marks == {"A": 100.0}


def test_a_closed_observer_is_let_go(session: Session) -> None:
    class Panel:
        def moved(self, time: float) -> None:
            self.at = time

    panel = Panel()
    session.time_changed.connect(panel.moved)
    gone = weakref.ref(panel)
    del panel
    gc.collect()
    assert gone() is None
    session.time = 5


def test_stepping_visits_frames_even_of_frames_closer_than_a_tick() -> None:
    session = Session(timeline(tick=50.0))
    times, seen = session.timeline.frames["xrd"], []
    session.time = -300
    for _ in range(10):
        session.step(1)
        seen.append(session.time)
    assert seen == sorted(seen)
    assert session.time == 3000.0
    for _ in range(10):
        session.step(-1)
    assert times.at(session.time).index == 0


def test_stepping_by_one_and_by_ten(session: Session) -> None:
    shown = []
    for _ in range(6):
        shown.append(session.timeline.frames["xrd"].at(session.time).index)
        session.step(1)
    assert shown == [-1, 0, 1, 2, 3, 4] or shown == [0, 1, 2, 3, 4, 5]
    session.step(-10)
    assert session.timeline.frames["xrd"].at(session.time).index == 0
    session.active = "nothing"
    assert session.active == "xrd"


def test_cycles_and_half_cycles(session: Session) -> None:
    session.time = 2000
    session.half_cycle(1)
    assert session.time == 3600
    session.half_cycle(-1)
    assert session.time == 1800
    session.time = 2000
    session.half_cycle(-1)
    assert session.time == 1800
    session.cycle(1)
    session.cycle(1)
    assert session.time == 3600
    session.cycle(-1)
    assert session.time == 0


def test_a_region_is_between_the_marks_or_the_half_cycle(session: Session) -> None:
    session.time = 2000
    session.toggle_region()
    assert session.region == (1800.0, 3600.0)
    session.toggle_region()
    assert session.region is None
    session.mark("A", 900)
    session.mark("B", 400)
    session.toggle_region()
    assert session.region == (400.0, 900.0)
    session.unmark()
    assert session.marks == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cycle 2", 3600.0),
        ("c1.5", 1800.0),
        ("C2", 3600.0),
        ("0.5 h", 1800.0),
        ("0,5 h", 1800.0),
        ("c1,5", 1800.0),
        ("0.5", 1800.0),
        ("30 min", 1800.0),
        ("90s", 90.0),
        ("0:30:00", 1800.0),
        ("-0:05", -300.0),
        ("1:30", 5400.0),
        ("#5", 3000.5),
        ("2026-06-03 09:00", 3600.0),
        ("2026-06-03T09:00:30Z", 3630.0),
        ("2026-06-03T11:00:30+02:00", 3630.0),
    ],
)
def test_what_a_text_means(session: Session, text: str, expected: float) -> None:
    session.go_to(text)
    assert session.time == expected


@pytest.mark.parametrize("text", ["cycle 9", "3000 h", "noon", "", "#77", "2031-01-01", "1:99:99:99", "c"])
def test_a_text_that_is_no_moment_is_refused_and_nothing_moves(session: Session, text: str) -> None:
    session.time = 77
    with pytest.raises(ValueError, match=r"cycle|outside|moment|frame"):
        session.go_to(text)
    assert session.time == 77


def test_another_cell_keeps_the_moment_and_drops_the_marks(session: Session) -> None:
    session.time = 1000
    session.mark("A")
    later = Timeline(ORIGIN + np.timedelta64(600, "s"), -900.0, 5000.0, 1.0, {"raman": FrameTimes(np.zeros(1), np.ones(1))})
    heard: list[str] = []
    session.cell_changed.connect(lambda: heard.append(session.cell))
    session.use(later, "B")
    assert heard == ["B"]
    assert session.time == 400.0
    assert session.marks == {}
    assert session.active == "raman"
    session.half_cycle(1)
    assert session.time == 400.0
    session.toggle_region()
    assert session.region is not None


def test_the_mean_ends_with_its_region(session: Session) -> None:
    session.select(100, 200)
    session.mean = True
    session.toggle_region()
    assert session.region is None
    assert not session.mean


def test_the_same_cell_read_again_keeps_everything_wherever_second_0_lies_now(session: Session) -> None:
    session.time = 1000
    session.mark("A", 400)
    session.select(500, 900)
    session.mean = True
    later = Timeline(ORIGIN - np.timedelta64(600, "s"), 0.0, 9000.0, 1.0, session.timeline.frames)
    heard: list[str] = []
    session.renewed.connect(lambda: heard.append("renewed"))
    session.time_changed.connect(lambda t: heard.append("time"))
    session.renew(later)
    assert heard == ["renewed"]
    assert session.time == 1600.0
    assert session.marks == {"A": 1000.0}
    assert session.region == (1100.0, 1500.0)
    assert session.mean
