"""The electrochemical timeline: many files and restarts of one cell as one continuous record.

What each record gets: charge that goes on over files, cycle, half_cycle and step that never start again, direction, state
of charge, and flags that say where the record is broken: PAUSE on the first record after a gap, STEP_INSIDE on the first
record after a current step, NONMONOTONIC on records whose time an earlier segment has already filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError
from operando.contract.flags import AlignmentFlag, flag_attrs
from operando.timeline.clocks import correct, describe, in_words

REST = 1e-3  # |current| below this fraction of its 95th percentile is rest
STEP = 0.2  # a change of the current by more than this fraction of the larger value is a step
LEAST_RUN = 0.02  # a charge or discharge below this fraction of the longest is noise, not a half cycle
RESET = 1e-3  # an instrument's charge that falls to within this fraction of zero, against the current, has been reset
TOLERANCE = 1.0  # s; files may overlap by this much (stamps are rounded)
HOLE = 3.0  # spacings without a record inside which another file's records may lie (techniques that take turns)
PARTIAL = 0.5  # share of the second half cycle's charge below which the first one is but a part, and belongs to cycle 0
UNNUMBERED = -1  # what joining files leaves where one of them has no such column
_NS = 10**9


@dataclass(frozen=True)
class Track:
    """Records in the order of time, each moment told once.

    Attributes
    ----------
    index
        Which record of the series stands at each place; a slice where all do in their own order.
    times
        Corrected times, int64 nanoseconds, non-decreasing.
    gaps, steps
        Places whose record ends a gap; places whose record is the first after a current step.
    overlaps
        Rows (begin, end) in nanoseconds that two segments claim.
    """

    index: Any
    times: np.ndarray
    gaps: np.ndarray
    steps: np.ndarray
    overlaps: np.ndarray

    def take(self, values: np.ndarray) -> np.ndarray:
        """Put a channel of the series in the order of the track."""
        return values[self.index]


def interval_rule(echem: xr.Dataset) -> str:
    """Say which stretch a current record speaks for: `ending`, `starting` or `instant`."""
    return str(echem["current"].attrs.get("interval", "instant")) if "current" in echem.variables else "instant"


def need_utc(ds: xr.Dataset, what: str) -> None:
    """Refuse a series that is not on UTC.

    Raises
    ------
    ClockError
        Its stamps have no zone yet.
    """
    if ds.attrs.get("timezone_source", "none") == "none":
        raise ClockError(
            f"the {what} is not on UTC",
            found="wall-clock times without a zone",
            hint="call operando.timeline.localise(ds, timezone) first; in beamtime.yaml give timezone:",
        )


def is_timeline(echem: xr.Dataset) -> bool:
    """Say whether a series carries its own alignment (as `open_beamtime` gives it)."""
    return all(name in echem.variables for name in ("flags", "direction", "soc", "cycle", "half_cycle"))


def echem_timeline(echem: xr.Dataset, clock: Any = None, *, capacity: float | None = None, max_gap: float | None = None) -> xr.Dataset:
    """Make one continuous timeline of the electrochemistry of a cell.

    Parameters
    ----------
    echem
        Records of one cell on UTC, files in the order they were measured.
    clock
        Clock of the cycler, one or one per segment; None takes its stamps as they are.
    capacity
        Capacity in C for the state of charge where no cycle is complete yet.
    max_gap
        Seconds between records beyond which nothing is interpolated. Default: the larger of 600 s and 20 times the 95th
        percentile of the spacing. Between two files or segments the limit is the larger of 1 s and that percentile itself.

    Returns
    -------
    xarray.Dataset
        One row per record, in the order given: `time` (corrected), `source_time`, `charge` (C), `soc`, `direction`,
        `cycle`, `half_cycle`, `step`, `flags`, `time_errors` (s); where files take turns (techniques in a loop), `sequence`: the place
        of each record in the order in which all were measured. Peak memory is about 140 bytes per record.

    Raises
    ------
    ClockError
        Times without a zone, or two files that claim the same time.

    Notes
    -----
    Segments of one file may go back in time (an instrument's clock was set). The segment acquired first rules where both
    speak, so what has been aligned never changes when a file grows; charge and cycles follow the order of acquisition.
    """
    need_utc(echem, "electrochemistry")
    source_time = echem["source_time"].values.astype("datetime64[ns]")
    segment = echem["segment"].values
    times, sigma, used = correct(source_time.view(np.int64), segment, clock)
    n = times.size
    same = np.ones(n, bool)  # same file and segment as the record before
    if n:
        same[0] = False
        same[1:] = (segment[1:] == segment[:-1]) & (times[1:] >= times[:-1])
        if "source" in echem.coords:
            source = echem["source"].values
            same[1:] &= (source[1:] == source[:-1]).astype(bool)
    usual = _usual_spacing(times, same)
    longest = float(max(600.0, 20 * usual) if max_gap is None else max_gap)
    tolerance = max(TOLERANCE, float(echem.attrs.get("time_uncertainty_s", 0.0)))

    index, sequence, lost = _arrange(echem, times, same, max(tolerance, HOLE * usual), tolerance)
    between = min(longest, max(tolerance, usual))  # how long a pause between two files or segments may be before it is one
    charge, charge_source, resets = _charge(echem, times, same, sequence, longest, between)
    direction = _direction(echem, times, charge, sequence)
    runs = _half_cycles(direction, charge, sequence)
    numbers = {name: _number(echem, name, same, direction, charge, sequence, runs) for name in ("cycle", "half_cycle", "step")}
    soc, soc_attrs = _soc(charge, sequence, direction, runs, capacity)

    flags = np.zeros(n, np.int32)
    track = times[index]
    apart = np.zeros(track.size, bool)
    if track.size:
        spacing, joined = np.diff(track) / _NS, same[index][1:]
        if not isinstance(index, slice):
            joined &= np.diff(index) == 1
        apart[1:] = spacing > np.where(joined, longest, between)
        step = numbers["step"][0][index] if "step" in echem.variables else None
        here = np.where(apart, AlignmentFlag.PAUSE, 0) | np.where(_steps(echem, index, direction, step, apart), AlignmentFlag.STEP_INSIDE, 0)
        flags[index] = here.astype(np.int32)
    flags[lost] |= AlignmentFlag.NONMONOTONIC | AlignmentFlag.DUPLICATE

    errors = np.hypot(sigma, float(echem.attrs.get("time_uncertainty_s", 0.0)))
    ds = xr.Dataset(
        {
            "charge": ("time", charge, {"units": "C", "long_name": "net charge, continuous over files", "sampling": "continuous", **charge_source}),
            "soc": ("time", soc, {"units": "1", "long_name": "state of charge", **soc_attrs}),
            "direction": ("time", direction, {"units": "1", "long_name": "1 charge, -1 discharge, 0 rest", "threshold": REST}),
            **{name: ("time", values, {"units": "1", **attrs}) for name, (values, attrs) in numbers.items()},
            "flags": ("time", flags, flag_attrs(AlignmentFlag)),
            "time_errors": ("time", errors, {"units": "s", "long_name": "1 sigma of time"}),
            **_sequence(sequence, n),
        },
        coords={"time": times.view("datetime64[ns]"), "source_time": ("time", source_time)},
        attrs={
            "clock": describe(used or None),
            "clock_text": in_words(used),
            "max_gap_s": longest,
            "usual_spacing_s": usual,
            "charge_resets": resets,
            "timezone_source": echem.attrs["timezone_source"],
            "timezone": echem.attrs.get("timezone", "UTC"),
        },
    )
    return ds


def _sequence(sequence: Any, n: int) -> dict[str, tuple[Any, ...]]:
    if isinstance(sequence, slice):
        return {}
    place = np.empty(n, np.int64)
    place[sequence] = np.arange(n)
    return {"sequence": ("time", place, {"units": "1", "long_name": "place in the order of measurement, over files that take turns"})}


def track_of(echem: xr.Dataset) -> Track:
    """Give the track of an echem series that carries its own alignment."""
    times = echem["time"].values.astype("datetime64[ns]").view(np.int64)
    flags = echem["flags"].values
    lost = (flags & AlignmentFlag.NONMONOTONIC) != 0
    index: Any = slice(None)
    if lost.any() or (times[1:] < times[:-1]).any():
        kept = np.flatnonzero(~lost)
        index = kept[np.argsort(times[kept], kind="stable")]
    there = flags[index]
    overlaps = np.empty((0, 2), np.int64)
    if lost.any():
        edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8))).reshape(-1, 2)
        overlaps = np.array([(times[lo:hi].min(), times[lo:hi].max()) for lo, hi in edges])
        overlaps = overlaps[overlaps[:, 1] - overlaps[:, 0] > TOLERANCE * _NS]
    gaps, steps = (np.flatnonzero(there & bit) for bit in (AlignmentFlag.PAUSE, AlignmentFlag.STEP_INSIDE))
    return Track(index, times[index], gaps, steps, overlaps)


# --------------------------------------------------------------------------- order


def _usual_spacing(times: np.ndarray, same: np.ndarray) -> float:
    """95th percentile of the time between records of one file and segment, s."""
    spacing = np.diff(times)[same[1:]]
    return float(np.percentile(spacing, 95)) / _NS if spacing.size else 0.0


def _arrange(echem: xr.Dataset, times: np.ndarray, same: np.ndarray, hole: float, tolerance: float) -> tuple[Any, Any, np.ndarray]:
    """Order the records: by time for the track, as acquired for what accumulates; and name those whose time is taken.

    Files may take turns (techniques in a loop): one then lies in the holes of the other, which is no overlap.
    """
    every, none = slice(None), np.empty(0, np.int64)
    if not (times[1:] < times[:-1]).any():
        return every, every, none
    cuts = np.flatnonzero(~same | (np.diff(times, prepend=times[:1]) > hole * _NS))
    bounds = np.append(cuts, times.size)
    source = echem["source"].values if "source" in echem.coords else np.full(times.size, "")
    taken: list[tuple[int, int, str]] = []  # (begin, end, file) of stretches, in the order of time
    lost = np.zeros(times.size, bool)
    turns = False
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        begin, end, file = int(times[lo]), int(times[hi - 1]), str(source[lo])
        place = _place(taken, begin)
        for at in range(max(place - 1, 0), len(taken)):
            other_begin, other_end, other = taken[at]
            if other_begin > end:
                break
            shared = (max(begin, other_begin), min(end, other_end))
            if shared[1] - shared[0] > tolerance * _NS and other != file:
                raise ClockError(
                    "two files of one cell claim the same time",
                    file=f"{other} and {file}",
                    found=f"both from {_text(shared[0])} to {_text(shared[1])} UTC",
                    expected="files that follow each other",
                    hint="leave out the copy, or mend the clock of one: give start:, timezone: or clock: for it in a source of its own",
                )
            if shared[1] >= shared[0]:
                part = slice(lo, hi)
                lost[part] |= (times[part] >= other_begin) & (times[part] < other_end)
        turns = turns or (place < len(taken) and taken[place][2] != file)
        taken.insert(place, (begin, end, file))
        # stretches that overlap are joined, so that the list stays disjoint and in order in both columns
        first = place - 1 if place and taken[place - 1][1] > begin else place
        after = first + 1
        reach = taken[first][1]
        while after < len(taken) and taken[after][0] < reach or after == place:
            reach = max(reach, taken[after][1])
            after += 1
        taken[first:after] = [(taken[first][0], reach, taken[first][2])]
    kept = np.flatnonzero(~lost)
    index = kept[np.argsort(times[kept], kind="stable")]
    sequence: Any = every
    if turns:
        begins = times[cuts]
        order = np.argsort(begins, kind="stable")
        sequence = np.concatenate([np.arange(bounds[k], bounds[k + 1]) for k in order])
    return index, sequence, np.flatnonzero(lost)


def _place(taken: list[tuple[int, int, str]], begin: int) -> int:
    import bisect

    return bisect.bisect_right(taken, begin, key=lambda row: row[0])


def _text(ns: int) -> str:
    return str(np.datetime64(int(ns), "ns"))[:23]


# --------------------------------------------------------------------------- charge


def _current(echem: xr.Dataset) -> np.ndarray | None:
    return np.asarray(echem["current"].values, dtype=float) if "current" in echem.variables else None


def _charge(
    echem: xr.Dataset, times: np.ndarray, same: np.ndarray, sequence: Any, longest: float, between: float
) -> tuple[np.ndarray, dict[str, str], int]:
    """Accumulate the charge (C): the instrument's increments where it counts, else the integral of the current."""
    n = times.size
    current = _current(echem)
    own = np.asarray(echem["charge"].values, dtype=float)[sequence] if "charge" in echem.variables else None
    if n == 0 or (current is None and own is None):
        return np.full(n, np.nan), {"origin": "none"}, 0
    seconds = np.diff(times[sequence]) / _NS
    together = same[sequence][1:] & _adjacent(sequence, n)
    # nothing is known of the current in a gap; a cell at rest is assumed
    seconds = np.where((seconds < 0) | (seconds > np.where(together, longest, between)), 0.0, seconds)
    steps = np.zeros(n - 1)
    if current is not None:
        current = current[sequence]
        rule = interval_rule(echem)
        level = current[1:] if rule == "ending" else current[:-1] if rule == "starting" else 0.5 * (current[1:] + current[:-1])
        steps = np.nan_to_num(level) * seconds
    origin, resets, first = "integral of the current", 0, 0.0
    if own is not None and np.isfinite(own).any():
        increments = np.diff(own)
        # same file: the counter runs on, even where the clock was set back or nothing was recorded
        counts = np.isfinite(increments) & (_same_file(echem, sequence) if n > 1 else together)
        if current is not None:
            most = np.nan_to_num(np.maximum(np.abs(current[1:]), np.abs(current[:-1]))) * seconds
            scale = RESET * np.nanmax(np.abs(own))
            against = (increments * steps < 0) & (np.abs(increments) > scale)
            reset = counts & (np.abs(own[1:]) <= scale) & (against | (np.abs(increments) > 2 * most + scale))
            resets = int(reset.sum())
            counts &= ~reset
        steps = np.where(counts, increments, steps)
        origin = "instrument" if counts[together].all() else "instrument, integral of the current where it does not count"
        first = float(own[np.argmax(np.isfinite(own))])
    total = np.empty(n)
    total[sequence] = first + np.concatenate([[0.0], np.cumsum(steps)])
    return total, {"origin": origin}, resets


def _adjacent(sequence: Any, n: int) -> np.ndarray:
    return np.ones(max(n - 1, 0), bool) if isinstance(sequence, slice) else np.diff(sequence) == 1


def _same_file(echem: xr.Dataset, sequence: Any) -> np.ndarray:
    n = echem.sizes["time"]
    if "source" not in echem.coords:
        return np.ones(n - 1, bool)
    source = echem["source"].values[sequence]
    return (source[1:] == source[:-1]).astype(bool) & _adjacent(sequence, n)


# --------------------------------------------------------------------------- direction, cycles


def _direction(echem: xr.Dataset, times: np.ndarray, charge: np.ndarray, sequence: Any) -> np.ndarray:
    """Sign of the current per record, 0 at rest; without a current, of the charge's change towards the record."""
    current = _current(echem)
    if current is None:
        current = np.zeros(times.size)
        if times.size > 1:
            seconds = np.diff(times[sequence]) / _NS
            rate = np.divide(np.diff(charge[sequence]), seconds, out=np.zeros_like(seconds), where=seconds > 0)
            current[sequence] = np.concatenate([[0.0], rate])
    size = np.abs(current)
    known = np.isfinite(size)
    if not known.any():
        return np.zeros(times.size, np.int8)
    least = REST * float(np.percentile(size if known.all() else size[known], 95))
    return ((current > least).astype(np.int8) - (current < -least).astype(np.int8)).astype(np.int8)


def _half_cycles(direction: np.ndarray, charge: np.ndarray, sequence: Any) -> np.ndarray:
    """Rows (first, last record of the sequence, sign) of each stretch of one direction; rests and noise do not split one."""
    d, q = direction[sequence], charge[sequence]
    moving = np.flatnonzero(d)
    if not moving.size:
        return np.empty((0, 3), np.int64)
    turns = np.flatnonzero(np.diff(d[moving])) + 1
    first, last = moving[np.concatenate([[0], turns])], moving[np.concatenate([turns - 1, [moving.size - 1]])]
    before = np.maximum(first - 1, 0)
    moved = np.nan_to_num(np.abs(q[last] - q[before]))
    # a reset of the electrode counts from where the stretch before ended
    large = moved >= LEAST_RUN * moved.max()
    first, last, sign = first[large], last[large], d[first[large]].astype(np.int64)
    starts = np.concatenate([[True], np.diff(sign) != 0])
    ends = np.concatenate([starts[1:], [True]])
    return np.stack([first[starts], last[ends], sign[starts]], axis=1)


def _number(
    echem: xr.Dataset, name: str, same: np.ndarray, direction: np.ndarray, charge: np.ndarray, sequence: Any, runs: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Make a numbering continuous: the instrument's where there is one, else counted from the direction of the current.

    Where the instrument starts again at a lower number (a new file), the old number goes on if the cell goes on in the
    same direction (an interrupted half cycle) or, for `cycle`, begins its second half; else the next number begins.
    Files that do not number (a rest, an impedance sweep) take the number before them; if the cell is charged or
    discharged in them, the instrument's numbers are of no use and all are counted.
    """
    n = same.size
    words = {"cycle": "cycle", "half_cycle": "half cycle", "step": "step of the schedule"}[name]
    numbers = np.empty(n, np.int32)
    if name not in echem.variables or (name != "step" and _unnumbered(echem, name, charge, sequence, runs)):
        attrs = {"long_name": f"{words}, counted from the direction of the current", "derived": 1}
        if name == "step":  # nothing but the instrument knows its schedule
            return np.full(n, -1, np.int32), {"long_name": f"{words}; the instrument gives none", "derived": 1, "unknown": -1}
        half = np.zeros(n, np.int32)
        if runs.shape[0] > 1:
            half = np.repeat(np.arange(runs.shape[0], dtype=np.int32), np.diff(np.concatenate([[0], runs[1:, 0], [n]])))
        # a first half cycle that is but a part (from open circuit to the nearer limit) belongs to no cycle: else each would pair the wrong halves
        part = runs.shape[0] > 1 and _passed(charge[sequence], runs, 0) < PARTIAL * _passed(charge[sequence], runs, 1)
        numbers[sequence] = half if name != "cycle" else (half + 1) // 2 if part else half // 2 + 1
        return numbers, attrs
    raw = _integers(echem[name].values[sequence])
    if name != "step":
        raw = _carried(raw, raw != UNNUMBERED)
    attrs = {"long_name": words, "derived": 0}
    if n < 2:
        return raw.astype(np.int32), attrs
    new_file = ~_same_file(echem, sequence)
    drop = np.diff(raw) < 0
    if name == "step":  # a schedule loops within its file; only a new file may not use a number again
        firsts = np.flatnonzero(np.concatenate([[True], new_file]))
        low, high = np.minimum.reduceat(raw, firsts), np.maximum.reduceat(raw, firsts)
        shift, top = np.zeros(firsts.size, np.int64), int(high[0])
        for k in range(1, firsts.size):
            again = raw[firsts[k]] < raw[firsts[k] - 1]
            shift[k] = top + 1 - low[k] if again else shift[k - 1]
            top = max(top, int(high[k] + shift[k]))
        numbers[sequence] = (raw + np.repeat(shift, np.diff(np.append(firsts, n)))).astype(np.int32)
        return numbers, attrs
    at = np.flatnonzero(drop)
    if at.size:
        d = direction[sequence]
        moving = np.flatnonzero(d)
        lead = d[moving[0]] if moving.size else 0
        here = np.searchsorted(moving, at, side="right")  # the last moving record up to the drop, and the first after it
        was = np.where(here > 0, d[moving[np.maximum(here - 1, 0)]], 0) if moving.size else np.zeros(at.size, np.int8)
        now = np.where(here < moving.size, d[moving[np.minimum(here, moving.size - 1)]], 0) if moving.size else np.zeros(at.size, np.int8)
        goes_on = (was == now) | (was == 0) | (now == 0)
        if name == "cycle":
            goes_on |= now != lead
        rise = raw[at] - raw[at + 1] + np.where(goes_on, 0, 1)
        raw = raw + np.repeat(np.concatenate([[0], np.cumsum(rise)]), np.diff(np.concatenate([[0], at + 1, [n]])))
    numbers[sequence] = raw.astype(np.int32)
    return numbers, attrs


def _passed(q: np.ndarray, runs: np.ndarray, k: int) -> float:
    """Charge that passed in a half cycle."""
    return abs(float(q[runs[k, 1]] - q[max(int(runs[k, 0]) - 1, 0)]))


def _integers(values: np.ndarray) -> np.ndarray:
    """Numbers as int64; where one is missing, the one before it goes on."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    values = np.asarray(values, dtype=float)
    return np.round(np.nan_to_num(_carried(values, np.isfinite(values)))).astype(np.int64)


def _carried(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Let the number before go on where none is known; before the first one, that."""
    if known.all() or not known.any():
        return values
    last = np.maximum.accumulate(np.where(known, np.arange(values.size), -1))
    return values[np.where(last >= 0, last, int(np.argmax(known)))]


def _unnumbered(echem: xr.Dataset, name: str, charge: np.ndarray, sequence: Any, runs: np.ndarray) -> bool:
    """Say whether the cell is charged or discharged, by more than noise, in records that carry no number."""
    raw = echem[name].values[sequence]
    unknown = ~np.isfinite(raw) if raw.dtype.kind == "f" else raw == UNNUMBERED
    if not unknown.any() or unknown.all() or not runs.shape[0]:
        return bool(unknown.all()) and unknown.size > 0
    q = charge[sequence]
    moved = np.abs(q[runs[:, 1]] - q[np.maximum(runs[:, 0] - 1, 0)]).max()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unknown, [False]]).astype(np.int8))).reshape(-1, 2)
    return any(np.ptp(np.nan_to_num(q[lo:hi])) >= LEAST_RUN * moved for lo, hi in edges)


def _soc(charge: np.ndarray, sequence: Any, direction: np.ndarray, runs: np.ndarray, capacity: float | None) -> tuple[np.ndarray, dict[str, Any]]:
    """State of charge by coulometry, unclipped: 0 to 1 over the first complete cycle, else against the capacity."""
    q = charge[sequence]
    if runs.shape[0] >= 2:
        first, last = int(runs[0, 0]), int(runs[1, 1])
        begin = max(first - 1, 0)
        over = runs.shape[0] > 2
        if not over and not direction[sequence][-1]:  # at rest at the end: over if it came at least half of the way back
            out, back = np.abs(q[runs[0, 1]] - q[begin]), np.abs(q[last] - q[runs[0, 1]])
            over = bool(back >= 0.5 * out)
        low, high = np.nanmin(q[begin : last + 1]), np.nanmax(q[begin : last + 1])
        if over and high > low:
            return (charge - low) / (high - low), {"reference": "first complete cycle", "charge_at_0": float(low), "charge_at_1": float(high)}
    if capacity is not None and np.isfinite(capacity) and capacity > 0 and q.size and np.isfinite(q).any():
        start = float(q[np.argmax(np.isfinite(q))])
        low = start if not runs.shape[0] or runs[0, 2] > 0 else start - capacity
        return (charge - low) / capacity, {
            "reference": "capacity; empty at the start if the cell is charged first, full if it is discharged first",
            "charge_at_0": float(low),
            "charge_at_1": float(low + capacity),
        }
    return np.full(charge.size, np.nan), {"reference": "none: no complete cycle yet and no capacity given"}


# --------------------------------------------------------------------------- steps


def _steps(echem: xr.Dataset, index: Any, direction: np.ndarray, step: np.ndarray | None, apart: np.ndarray) -> np.ndarray:
    """Mark records before which the current was switched.

    The schedule's step or a set value changes; or the current changes its direction, or by more than a fifth, and is not
    simply on its way (both neighbouring changes go the same way by at least half as much: a sweep, a decay). Where a
    current is the mean up to its record, the change after a step only completes it (the mean was mixed) and is none.
    """
    n = apart.size
    marks = np.zeros(n, bool)
    if n < 2:
        return marks
    if step is not None:
        marks[1:] |= np.diff(step) != 0
    if "step_changes" in echem.variables:
        marks |= _told(echem["step_changes"].values[index])
    for name in ("control_voltage", "control_current"):
        if name in echem.variables:
            values = np.asarray(echem[name].values, dtype=float)[index]
            change = np.diff(values)
            least = 1e-6 * np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))
            changed = np.abs(change) > max(least, 1e-12)
            marks[1:] |= changed & ~(_shifted(changed, 1, True) & _shifted(changed, -1, True))  # one that changes all the time is a sweep
    current = _current(echem)
    if current is not None:
        current = np.nan_to_num(current[index])
        change = np.diff(current)
        size = np.abs(current)
        largest = np.maximum(size[1:], size[:-1])
        least = REST * float(np.percentile(size, 95))
        turned = np.diff(direction[index]) != 0
        found = (np.abs(change) > least) & (turned | (np.abs(change) > STEP * largest))
        on_its_way = np.ones(n - 1, bool)
        for side in (1, -1):
            neighbour = _shifted(change, side, True)
            on_its_way &= (neighbour * change > 0) & (np.abs(neighbour) >= 0.5 * np.abs(change))
        found &= ~on_its_way
        if interval_rule(echem) == "ending":
            before, was = _shifted(marks[1:] | found, 1), _shifted(np.where(np.abs(change) > least, change, 0.0), 1)
            found &= ~(before & (was * change >= 0))
        marks[1:] |= found
    return marks & ~apart


def _told(values: np.ndarray) -> np.ndarray:
    """What the instrument marks as changed; -1 and NaN say nothing."""
    return np.nan_to_num(np.asarray(values, dtype=float)) > 0


def _shifted(values: np.ndarray, by: int, goes_on: bool = False) -> np.ndarray:
    """The neighbour's value: of the record before (1) or after (-1); beyond the ends zero, or the last one if it goes on."""
    out = values.copy() if goes_on else np.zeros_like(values)
    if by > 0:
        out[by:] = values[:-by]
    else:
        out[:by] = values[-by:]
    return out
