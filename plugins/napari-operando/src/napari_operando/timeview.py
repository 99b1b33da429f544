"""Which frame belongs to a moment, and an array of moments that reads the frame it is asked for.

Nothing here knows Qt, napari or a store. All times are seconds since the start of the experiment.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter as clock
from typing import Any, Literal

import numpy as np

GAP = -1
"""The index where no frame belongs to a moment."""

STALE = 1.5
OLDEST = 4.0
"""A frame is stale after 1.5 and no longer shown after 4 of the intervals at which its series was usually taken."""

SLOW = 0.04
"""Seconds of reading a frame from which on it is read beside the window."""

_CACHE_BYTES = 256e6
_NEVER_ALL = "a time view is read tick by tick; reading all of it is never what is wanted"
_AT_ONCE = 64
"""Ticks that are read at once, as for napari's means over a few of them."""


@dataclass(frozen=True)
class Shown:
    """What belongs to a moment.

    Attributes
    ----------
    index
        The frame, counted in the order of acquisition; `GAP` for none.
    age
        Seconds between the moment and the frame's exposure, 0 inside it; infinite for none.
    stale
        The frame is older than the usual interval between frames.
    ahead
        The frame began only after the moment.
    """

    index: int
    age: float
    stale: bool
    ahead: bool = False

    @property
    def gap(self) -> bool:
        """No frame belongs to the moment."""
        return self.index == GAP

    @property
    def distance(self) -> str:
        """How far the frame is from the moment, in words; empty inside its exposure, and where there is no frame."""
        if self.gap or self.age <= 0:
            return ""
        return f"{duration(self.age)} {'ahead' if self.ahead else 'old'}"


def duration(seconds: float) -> str:
    """Write a time, short.

    Examples
    --------
    >>> duration(12.0), duration(200.0), duration(7300.0)
    ('12 s', '3.3 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class FrameTimes:
    """The exposures of a series, asked which frame belongs to a moment.

    Parameters
    ----------
    begin, end
        Seconds; a frame is the interval between them. In any order, overlapping or not; frames whose time is not known are never shown.
    rule
        `hold`: the last frame that had begun (images). `nearest`: the frame whose exposure is nearest (spectra); a moment inside an
        exposure belongs to that frame.
    stale_after, max_age
        Seconds outside the exposure after which a frame is stale, and no longer shown; by default 1.5 and 4 times the median interval
        between frames. A series of one frame is shown at any age, stale outside its exposure.
    only
        Frames that count, as a boolean mask, such as those of one position; by default all.
    """

    def __init__(
        self,
        begin: np.ndarray,
        end: np.ndarray,
        *,
        rule: Literal["hold", "nearest"] = "nearest",
        stale_after: float | None = None,
        max_age: float | None = None,
        only: np.ndarray | None = None,
    ) -> None:
        begin, end = np.asarray(begin, float), np.asarray(end, float)
        if begin.shape != end.shape or begin.ndim != 1:
            raise ValueError(f"begin and end are two lists of the same length, not {begin.shape} and {end.shape}")
        good = np.isfinite(begin) & np.isfinite(end)
        if only is not None:
            good &= np.asarray(only, bool)
        index = np.flatnonzero(good)
        key = begin[index] if rule == "hold" else (begin[index] + end[index]) / 2
        self.frames = index[np.argsort(key, kind="stable")]
        self.rule = rule
        self.count = len(begin)
        self._began = begin
        self.begin, self.end = begin[self.frames], np.maximum(begin, end)[self.frames]
        self.middle = (self.begin + self.end) / 2
        self._key = self.begin if rule == "hold" else self.middle
        self.interval = float(np.median(np.diff(self.middle))) if len(self.frames) > 1 else 0.0
        alone = len(self.frames) < 2 or self.interval <= 0
        self.stale_after = float(stale_after) if stale_after is not None else 0.0 if alone else STALE * self.interval
        self.max_age = float(max_age) if max_age is not None else np.inf if alone else OLDEST * self.interval

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def span(self) -> tuple[float, float]:
        """First beginning and last end; (nan, nan) without frames."""
        return (float(self.begin.min()), float(self.end.max())) if len(self) else (np.nan, np.nan)

    def at(self, time: float) -> Shown:
        """Say which frame belongs to a moment."""
        index, age = self.lookup(np.array([time]))
        frame = int(index[0])
        return Shown(frame, float(age[0]), bool(age[0] > self.stale_after), frame != GAP and bool(self._began[frame] > time))

    def lookup(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the frame (or `GAP`) and its age in seconds for many moments."""
        times = np.asarray(times, float)
        if not len(self):
            return np.full(times.shape, GAP), np.full(times.shape, np.inf)
        if self.rule == "hold":
            at = np.searchsorted(self._key, times, side="right") - 1
            known = at >= 0
            at = np.maximum(at, 0)
            age = np.where(known, np.maximum(times - self.end[at], 0.0), np.inf)
        else:
            right = np.searchsorted(self._key, times, side="left")
            left = np.clip(right - 1, 0, len(self) - 1)
            right = np.clip(right, 0, len(self) - 1)
            to_left, to_right = self._distance(left, times), self._distance(right, times)
            nearer = (to_right < to_left) | ((to_right == to_left) & (np.abs(self.middle[right] - times) < np.abs(self.middle[left] - times)))
            at = np.where(nearer, right, left)
            age = np.where(nearer, to_right, to_left)
        shown = (age <= self.max_age) & (age < np.inf)  # both False where the moment is NaN
        return np.where(shown, self.frames[at], GAP), np.where(shown, age, np.inf)

    def _distance(self, at: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.maximum(np.maximum(self.begin[at] - times, times - self.end[at]), 0.0)

    def step(self, time: float, frames: int) -> float | None:
        """Give the moment at which the frame that many frames on is shown; None if there is no frame at all.

        From a gap, one step leads to the next frame in that direction.
        """
        if not len(self):
            return None
        here = self.at(time)
        if not here.gap:
            place = int(np.flatnonzero(self.frames == here.index)[0]) + frames
        else:
            place = int(np.searchsorted(self._key, time, side="left" if frames < 0 else "right")) + frames - (frames > 0)
        place = min(max(place, 0), len(self) - 1)
        if self.rule == "hold" and place + 1 < len(self):  # a frame that began meanwhile would be shown instead
            return float((self.begin[place] + min(self.end[place], self.begin[place + 1])) / 2)
        return float(self.middle[place])

    def within(self, begin: float, end: float) -> np.ndarray:
        """Give the frames whose middle lies in [begin, end], in the order of time."""
        low, high = min(begin, end), max(begin, end)
        return np.asarray(self.frames[(self.middle >= low) & (self.middle <= high)])


class TimeView:
    """An array (tick, y, x) over regular ticks of time that gives, for a tick, the frame that belongs to it.

    napari knows regular steps alone; frames are not taken at regular times. So the ticks are regular, and many show the same frame. A frame is
    read once and kept while ticks inside it are shown. Frames that cannot be read show `fill`, and why is told to `problem`.

    Parameters
    ----------
    times
        The exposures.
    read
        Gives the frame of an index, (y, x). May raise anything that has a message.
    shape
        (y, x). A frame of another size is cut, or padded with `fill`.
    dtype
        Of the frames.
    start, tick, ticks
        Seconds of the first tick, between ticks, and their number.
    problem
        Called with (frame, message) once for each frame that could not be read, and with an empty message when it was read after all.
    """

    ndim = 3

    def __init__(
        self,
        times: FrameTimes,
        read: Callable[[int], np.ndarray],
        shape: tuple[int, int],
        dtype: Any,
        *,
        start: float,
        tick: float,
        ticks: int,
        problem: Callable[[int, str], None] | None = None,
    ) -> None:
        self.times, self._read, self._problem = times, read, problem
        self.start, self.tick = float(start), float(tick)
        self.shape = (int(ticks), int(shape[0]), int(shape[1]))
        self.dtype = np.dtype(dtype)
        self.fill = np.nan if self.dtype.kind == "f" else self.dtype.type(0)
        self.problems: dict[int, str] = {}
        self.reads = 0
        self.took = 0.0
        """Seconds that reading the last frame took."""
        self.coarser: tuple[TimeView, ...] = ()
        """The same with fewer pixels, finest first: what is shown from afar, and while the cursor is dragged."""
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def ready(self, time: float) -> bool:
        """Say whether what belongs to a moment is in memory, or read so quickly that nobody waits."""
        index = self.times.at(time).index
        with self._lock:
            return index == GAP or index in self._kept or self.took < SLOW

    def fetch(self, time: float) -> None:
        """Read what belongs to a moment, so that it is ready; in any thread."""
        self._frame(self.times.at(time).index)

    def retime(self, times: FrameTimes) -> None:
        """Take other exposures of the same frames."""
        for view in (self, *self.coarser):
            view.times = times

    @property
    def data(self) -> Any:
        """What napari takes: the view alone, or all levels."""
        return [self, *self.coarser] if self.coarser else self

    @property
    def size(self) -> int:
        """Number of values, were they all read."""
        return int(np.prod(self.shape, dtype=object))

    def __len__(self) -> int:
        return self.shape[0]

    def frame_of(self, tick: int) -> int:
        """Give the frame that belongs to a tick, or `GAP`."""
        return self.times.at(self.start + int(tick) * self.tick).index

    def __getitem__(self, key: Any) -> Any:
        """Read: a tick (or a slice of ticks), and any part of the picture; all ticks of a part of the picture are a view again."""
        key = key if isinstance(key, tuple) else (key,)
        if any(k is Ellipsis for k in key):
            at = next(i for i, k in enumerate(key) if k is Ellipsis)
            key = (*key[:at], *[slice(None)] * (self.ndim - len(key) + 1), *key[at + 1 :])
        key = (*key, *[slice(None)] * (self.ndim - len(key)))
        ticks, picture = key[0], key[1:]
        if isinstance(ticks, slice) and ticks == slice(None) and all(isinstance(k, slice) for k in picture):
            return _Part(self, picture)  # napari cuts all levels to what is visible before it asks for a tick
        if isinstance(ticks, slice):
            chosen = range(*ticks.indices(self.shape[0]))
            blank = np.full(self.shape[1:], self.fill, self.dtype)[picture]
            return np.stack([self._frame(self.frame_of(t))[picture] for t in chosen]) if len(chosen) else np.empty((0, *blank.shape), self.dtype)
        if np.ndim(ticks):
            return np.stack([self._frame(self.frame_of(int(t)))[picture] for t in np.asarray(ticks)])
        tick = int(ticks)
        if not -self.shape[0] <= tick < self.shape[0]:
            raise IndexError(f"tick {tick} of {self.shape[0]}")
        return self._frame(self.frame_of(tick % self.shape[0]))[picture]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(_NEVER_ALL)

    def _frame(self, index: int) -> np.ndarray:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
        begin = clock()
        picture = self._fresh(index)
        with self._lock:
            self.took = clock() - begin if index != GAP else self.took
            self._kept[index] = picture
            while len(self._kept) > 2 and len(self._kept) * picture.nbytes > _CACHE_BYTES:
                self._kept.popitem(last=False)
        return picture

    def _fresh(self, index: int) -> np.ndarray:
        blank = np.full(self.shape[1:], self.fill, self.dtype)
        if index == GAP:
            return blank
        self.reads += 1
        try:
            picture = np.asarray(self._read(index))
            if picture.ndim != 2:
                raise ValueError(f"a frame has 2 dims, not {picture.ndim}")
        except Exception as error:  # whatever is wrong with one file, the rest is shown
            self._tell(index, str(error) or type(error).__name__)
            return blank
        if picture.shape != self.shape[1:]:
            self._tell(index, f"its size is {picture.shape[0]} x {picture.shape[1]}, not {self.shape[1]} x {self.shape[2]}: cut or padded")
            ny, nx = (min(a, b) for a, b in zip(picture.shape, self.shape[1:], strict=True))
            blank[:ny, :nx] = picture[:ny, :nx]
            return blank
        self._tell(index, "")
        return picture.astype(self.dtype, copy=False)

    def forget(self) -> None:
        """Drop what was read, as after files were moved back; what was wrong is said again where it still is."""
        for view in (self, *self.coarser):
            with view._lock:
                view._kept.clear()
        for index in list(self.problems):
            self._tell(index, "")

    def _tell(self, index: int, message: str) -> None:
        if self.problems.get(index, "") == message:
            return
        if message:
            self.problems[index] = message
        else:
            del self.problems[index]
        if self._problem is not None:
            self._problem(index, message)


class _Part:
    """A part of the picture at all ticks of a time view, not read yet."""

    ndim = 3

    def __init__(self, whole: TimeView, picture: tuple[slice, ...]) -> None:
        self.whole, self.picture, self.dtype = whole, picture, whole.dtype
        self.shape = (whole.shape[0], *(len(range(*k.indices(n))) for k, n in zip(picture, whole.shape[1:], strict=True)))

    def __getitem__(self, key: Any) -> np.ndarray:
        tick, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(tick, slice):
            chosen = range(*tick.indices(self.shape[0]))
            if len(chosen) > _AT_ONCE:
                raise TypeError(_NEVER_ALL)
            return np.stack([self[(k, *rest)] for k in chosen])
        found = self.whole[(tick, *self.picture)]
        return np.asarray(found[tuple(rest)] if rest else found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(_NEVER_ALL)
