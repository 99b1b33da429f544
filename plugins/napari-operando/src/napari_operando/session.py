"""What is looked at: the one model that every panel observes. No Qt, no store."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from psygnal import Signal

from napari_operando.timeview import FrameTimes

MOST_TICKS = 2_000_000
_FACTORS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Timeline:
    """The time of one cell: seconds since `origin`, in ticks.

    Attributes
    ----------
    origin
        What second 0 is, datetime64[ns] in UTC.
    begin, end
        Seconds; all frames and records lie between them.
    tick
        Seconds; the cursor moves in whole ticks, so that images, plots and numbers mean exactly the same moment.
    frames
        Name of a series -> its exposures.
    cycles, half_cycles
        Number -> the second at which it begins, in the order of time.
    """

    origin: np.datetime64
    begin: float
    end: float
    tick: float
    frames: Mapping[str, FrameTimes] = field(default_factory=dict)
    cycles: tuple[tuple[int, float], ...] = ()
    half_cycles: tuple[tuple[int, float], ...] = ()

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return int(np.floor((self.end - self.begin) / self.tick + 0.5)) + 1

    def snap(self, time: float) -> float:
        """Give the tick nearest to a moment, inside the experiment."""
        return self.begin + self.tick * float(min(max(np.floor((time - self.begin) / self.tick + 0.5), 0), self.ticks - 1))

    def tick_of(self, time: float) -> int:
        """Give the number of the tick nearest to a moment."""
        return int(np.floor((self.snap(time) - self.begin) / self.tick + 0.5))

    def moment(self, time: float) -> np.datetime64:
        """Give a second as UTC."""
        return self.origin + np.timedelta64(round(time * 1e9), "ns")


def fine_tick(begin: float, end: float, exposures: list[FrameTimes]) -> float:
    """Choose ticks fine enough that every frame has some of its own: a tenth of the shortest interval between frames.

    No finer than a two-millionth of the experiment.
    """
    span = max(end - begin, 1e-3)
    shortest = span / 1000
    for times in exposures:
        for key in (times.begin, times.middle):
            gaps = np.diff(key)
            gaps = gaps[gaps > 0]
            if len(gaps):
                shortest = min(shortest, float(gaps.min()))
    wanted = max(shortest / 10, span / MOST_TICKS)
    decade = 10.0 ** np.floor(np.log10(wanted))
    nice = max(f * decade for f in (1.0, 2.0, 5.0) if f * decade <= wanted * (1 + 1e-9))
    return float(max(nice, span / MOST_TICKS))


class Session:
    """The moment, the marks and the selection.

    Observers connect to the signals; psygnal keeps bound methods weakly, so a closed panel is let go. Nothing is emitted when nothing changed.
    """

    time_changed = Signal(float)
    marks_changed = Signal()
    region_changed = Signal()
    selection_changed = Signal()
    """The active series, a position, `difference` or `mean`."""
    cell_changed = Signal()
    renewed = Signal()
    """The same cell as it is now: it was read again, and may have grown."""

    def __init__(self, timeline: Timeline, *, cell: str = "", active: str = "") -> None:
        self._timeline, self._cell = timeline, cell
        self._time = timeline.snap(timeline.begin)
        self._marks: dict[str, float] = {}
        self._region: tuple[float, float] | None = None
        self._active = active or next(iter(timeline.frames), "")
        self._difference = False
        self._mean = False

    # ------------------------------------------------------------------ what is looked at

    @property
    def timeline(self) -> Timeline:
        """Of the cell that is shown."""
        return self._timeline

    @property
    def cell(self) -> str:
        """The cell that is shown."""
        return self._cell

    @property
    def time(self) -> float:
        """Seconds since the start; set to any moment, it becomes the nearest tick."""
        return self._time

    @time.setter
    def time(self, value: float) -> None:
        if not np.isfinite(value):
            return
        time = self._timeline.snap(float(value))
        if time != self._time:
            self._time = time
            self.time_changed.emit(time)

    @property
    def marks(self) -> Mapping[str, float]:
        """Event name (A, B) -> seconds."""
        return dict(self._marks)

    @property
    def region(self) -> tuple[float, float] | None:
        """The selected stretch of time, seconds."""
        return self._region

    @property
    def active(self) -> str:
        """The series that Left and Right step through and the spectrum panel shows."""
        return self._active

    @active.setter
    def active(self, name: str) -> None:
        if name != self._active and name in self._timeline.frames:
            self._active = name
            self.selection_changed.emit()

    @property
    def difference(self) -> bool:
        """The spectrum panel shows A - B."""
        return self._difference

    @difference.setter
    def difference(self, on: bool) -> None:
        if bool(on) != self._difference:
            self._difference = bool(on)
            self.selection_changed.emit()

    @property
    def mean(self) -> bool:
        """The spectrum panel shows the mean over the region."""
        return self._mean

    @mean.setter
    def mean(self, on: bool) -> None:
        if bool(on) != self._mean:
            self._mean = bool(on)
            self.selection_changed.emit()

    def use(self, timeline: Timeline, cell: str) -> None:
        """Show another cell, or the same one with other exposures; the moment is kept where it can be.

        Marks and region belong to a cell and go with it.
        """
        moment = self._timeline.moment(self._time)
        other = cell != self._cell
        self._timeline, self._cell = timeline, cell
        if self._active not in timeline.frames:
            self._active = next(iter(timeline.frames), "")
        if other:
            self._marks, self._region = {}, None
        self._time = timeline.snap(float((moment - timeline.origin) / np.timedelta64(1, "ns")) / 1e9)
        if other:
            self.cell_changed.emit()  # alone: whoever hears it takes everything anew
        else:
            self.selection_changed.emit()
            self.time_changed.emit(self._time)

    def renew(self, timeline: Timeline) -> None:
        """Show the same cell, read again; moment, marks, region and choices are kept, wherever second 0 lies now."""
        shift = float((self._timeline.origin - timeline.origin) / np.timedelta64(1, "ns")) / 1e9
        self._timeline = timeline
        if self._active not in timeline.frames:
            self._active = next(iter(timeline.frames), "")
        self._marks = {name: timeline.snap(at + shift) for name, at in self._marks.items()}
        if self._region is not None:
            self._region = timeline.snap(self._region[0] + shift), timeline.snap(self._region[1] + shift)
        self._time = timeline.snap(self._time + shift)
        self.renewed.emit()  # alone: whoever hears it takes everything anew

    # ------------------------------------------------------------------ marks and region

    def mark(self, name: str, time: float | None = None) -> None:
        """Put an event at a moment, by default where the cursor stands."""
        at = self._timeline.snap(self._time if time is None else time)
        if self._marks.get(name) != at:
            self._marks[name] = at
            self.marks_changed.emit()

    def unmark(self) -> None:
        """Take all events away."""
        if self._marks:
            self._marks.clear()
            self.marks_changed.emit()

    def select(self, begin: float | None, end: float | None = None) -> None:
        """Select a stretch of time; None selects nothing, and ends the mean over it."""
        region = None
        if begin is not None and end is not None:
            low, high = sorted((self._timeline.snap(begin), self._timeline.snap(end)))
            region = (low, high)
        if region != self._region:
            self._region = region
            self.region_changed.emit()
        if region is None:
            self.mean = False

    def toggle_region(self) -> None:
        """Select between A and B, or the half cycle around the cursor; a second time, nothing."""
        if self._region is not None:
            self.select(None)
        elif {"A", "B"} <= self._marks.keys():
            self.select(self._marks["A"], self._marks["B"])
        else:
            self.select(*self.around(self._timeline.half_cycles))

    def around(self, starts: tuple[tuple[int, float], ...]) -> tuple[float, float]:
        """Give begin and end of the cycle or half cycle that the cursor is in; a tenth of all time where there are none."""
        line = self._timeline
        edges = [s for _, s in starts]
        after = [s for s in edges if s > self._time]
        before = [s for s in edges if s <= self._time]
        if not before and not after:
            width = (line.end - line.begin) / 20
            return max(self._time - width, line.begin), min(self._time + width, line.end)
        return (before[-1] if before else line.begin), (after[0] if after else line.end)

    # ------------------------------------------------------------------ moving

    def step(self, frames: int) -> None:
        """Go that many frames of the active series on; ticks where there is no series."""
        times = self._timeline.frames.get(self._active)
        if times is None or not len(times):
            self.time = self._time + frames * max(self._timeline.tick, (self._timeline.end - self._timeline.begin) / 1000)
            return
        for further in range(len(times)):  # frames closer than a tick are passed together
            there = times.step(self._time, frames + int(np.sign(frames)) * further)
            if there is None or self._timeline.snap(there) != self._time:
                break
        if there is not None:
            self.time = there

    def cycle(self, by: int) -> None:
        """Go to the beginning of another cycle."""
        self._jump(self._timeline.cycles, by)

    def half_cycle(self, by: int) -> None:
        """Go to the beginning of another half cycle."""
        self._jump(self._timeline.half_cycles, by)

    def _jump(self, starts: tuple[tuple[int, float], ...], by: int) -> None:
        if not starts:
            return
        edges = np.array([self._timeline.snap(s) for _, s in starts])
        here = int(np.searchsorted(edges, self._time, side="right")) - 1
        inside = here >= 0 and self._time > edges[here]
        place = here + by + (1 if by < 0 and inside else 0)
        self.time = float(edges[min(max(place, 0), len(edges) - 1)])

    def go_to(self, text: str) -> None:
        """Go where a text says: `cycle 2`, `c2.5` (the middle of cycle 2), `7.25 h`, `90 min`, `1:30:00`, `#120` (frame), `2026-06-03 10:00` (UTC).

        A decimal comma is read as a point.

        Raises
        ------
        ValueError
            It says no moment of this experiment; the message says what would.
        """
        self.time = self.moment_of(text)

    def moment_of(self, text: str) -> float:
        """Read a moment, in seconds; see `go_to`."""
        line, said = self._timeline, text.strip().lower()
        if match := re.fullmatch(r"c(?:ycle)?\s*(\d+)([.,]\d+)?", said):
            starts = dict(reversed(line.cycles))  # the first of those with one number
            number = int(match[1])
            if number not in starts:
                known = ", ".join(str(n) for n in starts) or "none"
                raise ValueError(f"there is no cycle {number}; cycles: {known}")
            ends = [s for _, s in line.cycles if s > starts[number]]
            return starts[number] + float((match[2] or "0").replace(",", ".")) * ((ends[0] if ends else line.end) - starts[number])
        if match := re.fullmatch(r"#\s*(\d+)", said):
            times = line.frames.get(self._active)
            place = np.flatnonzero(times.frames == int(match[1])) if times is not None else np.array([])
            if times is None or not len(place):
                raise ValueError(f"{self._active or 'the active series'} shows no frame {match[1]}")
            return float(times.middle[place[0]])
        if match := re.fullmatch(r"(-?\d+(?:[.,]\d*)?(?:e-?\d+)?)\s*([a-z]*)", said):
            if match[2] in _FACTORS or not match[2]:
                return self._inside(float(match[1].replace(",", ".")) * _FACTORS[match[2] or "h"], text)
        if match := re.fullmatch(r"(-?)(\d+):(\d\d)(?::(\d\d(?:\.\d*)?))?", said):
            seconds = int(match[2]) * 3600 + int(match[3]) * 60 + float(match[4] or 0)
            return self._inside(-seconds if match[1] else seconds, text)
        try:
            said_at = dt.datetime.fromisoformat(text.strip().replace(" ", "T", 1))
        except ValueError:
            said_at = None
        if said_at is None:
            raise ValueError(f"{text!r} is no moment; write cycle 2, 7.25 h, 90 min, 1:30:00, #120 (frame) or 2026-06-03 10:00 (UTC)")
        moment = np.datetime64(said_at.astimezone(dt.UTC).replace(tzinfo=None) if said_at.tzinfo else said_at, "ns")
        return self._inside(float((moment - line.origin) / np.timedelta64(1, "ns")) / 1e9, text)

    def _inside(self, time: float, text: str) -> float:
        line = self._timeline
        if not line.begin - line.tick <= time <= line.end + line.tick:
            raise ValueError(f"{text.strip()} is outside the experiment, which lasts from {line.begin / 3600:.3f} h to {line.end / 3600:.3f} h")
        return time
