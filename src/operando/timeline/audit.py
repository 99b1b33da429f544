"""What the stamps of a series say against themselves and against the electrochemistry: everything wrong or doubtful, in sentences.

Stamps alone often cannot tell what happened (a pause of the measurement and a clock that was set forward look the same); a finding
then says so. Nothing is corrected here: what to write in beamtime.yaml is said, and somebody who was there decides.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando.timeline.beats import Grid, frame_grid, pauses, spread
from operando.timeline.coverage import EPOCHS, HOUR, hours_that_cover, reach_of, shift_of_zone
from operando.timeline.zones import _transitions, localise

INFO, WARNING, ERROR = "info", "warning", "error"

_NS = 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or doubtful in the times of a series.

    Attributes
    ----------
    kind
        A stable word: `missing`, `counter`, `mtime`, `year`, `epoch`, `zone`, `summer_time`, `zone_assumed`, `backward`, `duplicate`, `repeated`,
        `resolution`, `jitter`, `lost`, `gap`, `jump`, `exposure`.
    frames
        How many frames it concerns.
    where
        The first few places: seconds since 1970 by the source's clock.
    sentence
        What was found, in one sentence.
    advice
        What to write in beamtime.yaml or to look at; empty if nothing.
    severity
        `info`: good to know; `warning`: frames may be misplaced; `error`: they are, or cannot be placed.
    """

    kind: str
    frames: int
    where: tuple[float, ...]
    sentence: str
    advice: str = ""
    severity: str = WARNING

    def as_dict(self) -> dict[str, Any]:
        """Give what JSON can hold, places as ISO text."""
        return {**vars(self), "where": [str(np.datetime64(round(at * 1e3), "ms")) for at in self.where]}


def duration(value: float) -> str:
    """Write seconds in the unit a person would use."""
    if not np.isfinite(value):
        return "unknown"
    size = abs(value)
    if size >= 2 * 365 * 86400:
        return f"{value / 86400 / 365.2425:.1f} years"
    if size >= 2 * 86400:
        return f"{value / 86400:.1f} days"
    return f"{value / HOUR:.2f} h" if size >= 2 * HOUR else f"{value:.0f} s" if size >= 1000 else f"{value:.3g} s"


def audit_times(series: xr.Dataset, echem: xr.Dataset | None = None, *, timezone: str | None = None) -> list[Finding]:
    """Say everything that is wrong or doubtful in the times of a series.

    Parameters
    ----------
    series
        Frames in the order of acquisition, as a loader or the timeline gives them. Only coordinates and attributes are read: `time`, `source_time`,
        `exposure`, `segment`, `position` (`x`, `y`), `source`, `source_index`. The stamps (`source_time`) are looked at as the instrument gave them;
        against the electrochemistry, `time` is, with the clock that was applied to it.
    echem
        The cell's electrochemistry on UTC, for what its coverage tells of zones and years.
    timezone
        Zone of stamps that carry none; without it they are looked at as they are written.

    Returns
    -------
    list of Finding
        Empty for a series that is in order.

    Raises
    ------
    ClockError
        `timezone` is unknown, or the stamps cannot be read in it (`localise`).
    """
    if timezone is not None and series.attrs.get("time_origin") != "counter":
        series = localise(series, timezone)
    stamps, known = _stamps_of(series)
    found: list[Finding] = []
    if not known.all():
        found.append(Finding("missing", int((~known).sum()), (), f"{_count(int((~known).sum()), 'frame')} without a time", severity=ERROR))
    if not stamps.ns.size:
        return found
    found += _of_origin(series, stamps)
    resolution, rounded = _resolution(series, stamps)
    found += rounded
    grid = None if stamps.technique in ("echem", "sensor") else _beat(stamps)
    doubled = _duplicates(stamps, resolution)
    order = _order(series, stamps, grid, resolution)
    again = {f.frames for f in doubled if f.kind == "duplicate"}
    # copies step back to where they were copied from, and an hour lived twice is no copy: say one of the two
    order = [dataclasses.replace(f, advice="") if f.kind == "backward" and stamps.passed in again else f for f in order]
    found += [f for f in doubled if f.kind != "duplicate" or not any(o.kind == "summer_time" for o in order)]
    found += _jitter(series, stamps, grid, resolution) + order
    found += _exposures(stamps, grid, resolution)
    return found + _years(series, stamps, echem)


# --------------------------------------------------------------------------- what is looked at


@dataclass(frozen=True)
class _Stamps:
    """Middle of each frame in ns, its begin in s after the first frame's, and what else places it; frames without a time are left out."""

    ns: np.ndarray
    exposure: np.ndarray
    begins: np.ndarray
    steps: np.ndarray
    place: np.ndarray
    numbers: np.ndarray | None
    technique: str
    usual: float

    @property
    def passed(self) -> int:
        """How many frames are stamped with a time that had passed already."""
        return int((self.ns[1:] <= np.maximum.accumulate(self.ns)[:-1]).sum())

    def at(self, index: np.ndarray | Sequence[int]) -> tuple[float, ...]:
        return tuple(float(x) for x in self.ns[np.asarray(index, dtype=int)[:3]] / _NS)


def _stamps_of(series: xr.Dataset) -> tuple[_Stamps, np.ndarray]:
    name = "source_time" if "source_time" in series.variables else "time"
    stamps = series[name].values.astype("datetime64[ns]")
    known = ~np.isnat(stamps)
    ns = stamps[known].astype(np.int64)
    n = ns.size
    exposure = np.nan_to_num(np.asarray(series["exposure"].values, float))[known] if "exposure" in series.variables else np.zeros(n)
    begins = (ns - (ns[0] if n else 0)) / _NS - exposure / 2
    steps = np.diff(begins)
    place = np.zeros(n, np.int64)
    for coord in ("position", "x", "y"):
        if coord in series.coords and series[coord].dims == ("time",):
            values = np.unique(series[coord].values.astype(str) if series[coord].dtype == object else series[coord].values, return_inverse=True)[1]
            place = place * (int(values.max(initial=0)) + 1) + values[known]
    onward = steps[steps > 0]
    usual = float(np.median(onward)) if onward.size else float("nan")
    return _Stamps(ns, exposure, begins, steps, place, _frame_numbers(series, known), str(series.attrs.get("technique", "")), usual), known


def _frame_numbers(series: xr.Dataset, known: np.ndarray) -> np.ndarray | None:
    """Number of each frame by its instrument: the index in one file, or what the names of files of one frame end in. None if they do not count."""
    n = int(known.sum())
    if n < 3 or "source_index" not in series.coords or not known.all():
        return None
    numbers = np.asarray(series["source_index"].values)
    if "source" in series.coords:
        source = series["source"].values
        change = source[1:] != source[:-1]
        if change.any():
            if not change.all() or n > 100_000:
                return None
            digits = [re.findall(r"\d+", str(name).rpartition(".")[0] or str(name)) for name in source]
            if not all(digits):
                return None
            numbers = np.array([int(d[-1][-15:]) for d in digits])
    if numbers.dtype.kind not in "iu":
        return None
    apart = np.diff(numbers.astype(np.int64))
    stride = int(np.median(apart))
    if stride < 1 or (apart < 1).any() or np.remainder(apart, stride).any() or np.mean(apart == stride) < 0.8:
        return None
    return np.asarray((numbers - numbers[0]) // stride)


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


# --------------------------------------------------------------------------- where times come from


def _of_origin(series: xr.Dataset, stamps: _Stamps) -> list[Finding]:
    origin, n = series.attrs.get("time_origin"), stamps.ns.size
    found = []
    if origin == "counter":
        words = "the files hold no absolute time, only seconds from their first frame"
        found.append(
            Finding("counter", n, (), words, "give start: under this source, with its zone, for example start: 2026-06-03T10:00:00+02:00", ERROR)
        )
    if origin == "mtime":
        words = "times are files' modification times: the end of writing, changed by copying"
        found.append(Finding("mtime", n, (), words, "prefer name_pattern: or times_from:"))
    assumed = np.zeros(n, bool)
    for first, last in json.loads(series.attrs.get("zone_assumed", "[]")):
        assumed |= (stamps.ns >= np.datetime64(first, "ns").astype(np.int64)) & (stamps.ns <= np.datetime64(last, "ns").astype(np.int64))
    if assumed.any():
        words = f"{_count(int(assumed.sum()), 'frame')} in the hour that autumn repeats; which of the two is meant was told by continuity only"
        advice = "if it is the other, give the zone as a fixed offset, for example timezone: '+02:00'"
        found.append(Finding("zone_assumed", int(assumed.sum()), stamps.at(np.flatnonzero(assumed)), words, advice))
    return found


# --------------------------------------------------------------------------- stamps against each other


def _resolution(series: xr.Dataset, stamps: _Stamps) -> tuple[float, list[Finding]]:
    """Find the step stamps are rounded to; a schedule of whole seconds or minutes is no rounding."""
    n = stamps.ns.size
    if n < 10 or not np.isfinite(stamps.usual):
        return 0.0, []
    half = np.round(stamps.exposure * (_NS / 2)).astype(np.int64)
    # a stamp marks the begin, the middle or the end; halves of an exposure are rounded to the ns themselves
    edges = (stamps.ns - half, stamps.ns, stamps.ns + half)
    step = next((s for s in (60 * _NS, _NS) if any((np.abs(np.remainder(edge + s // 2, s) - s // 2) <= 2).all() for edge in edges)), 0)
    if not step:
        return 0.0, []
    seconds, words = step / _NS, "seconds" if step == _NS else "minutes"
    apart = np.rint(stamps.steps / seconds).astype(np.int64)
    values, counts = np.unique(apart, return_counts=True)
    middle = int(np.median(apart))
    # what was rounded lies on either side of its true length (10 s and 11 s), or on many lengths without a common divisor
    beside = counts[np.abs(values - middle) == 1].sum() >= (0.2 if middle <= 1 else 0.05) * (n - 1)
    if not beside and not (values.size >= 8 and np.gcd.reduce(np.abs(apart)) == 1 and counts.max() < 0.9 * n):
        return 0.0, []
    sigma = seconds / np.sqrt(12)
    if float(series.attrs.get("time_uncertainty_s", 0.0)) >= 0.9 * sigma or stamps.technique == "echem":
        return seconds, []
    repeated = int((stamps.steps == 0).sum())
    sentence = f"stamps are whole {words}: each is uncertain by {sigma:.2g} s" + (f", and {repeated} repeat the one before" if repeated else "")
    return seconds, [Finding("resolution", n, (), sentence, f"time_uncertainty: {sigma:.2g} s", WARNING if seconds > 1 else INFO)]


def _duplicates(stamps: _Stamps, resolution: float) -> list[Finding]:
    """Find frames that share exposure and place with another, and those that only share a stamp."""
    n = stamps.ns.size
    twice, shared = np.zeros(n, bool), np.zeros(n, bool)
    if n < 2 or (np.diff(stamps.ns) > 0).all():
        return []
    half = np.round(stamps.exposure * (_NS / 2)).astype(np.int64)
    order = np.lexsort((np.arange(n), stamps.place, half, stamps.ns))
    same_time = np.diff(stamps.ns[order]) == 0
    same = same_time & (np.diff(half[order]) == 0) & (np.diff(stamps.place[order]) == 0)
    twice[order[1:][same]] = True
    shared[order[1:][same_time & ~same]] = True
    found = []
    count = int(twice.sum())
    # a cycler writes two records of one moment where the current steps, and clocks of whole seconds repeat
    if stamps.technique == "echem":
        if count + int(shared.sum()) > 0.05 * n:
            words = f"{count} of {n} records repeat the stamp of another"
            found.append(Finding("repeated", count, stamps.at(np.flatnonzero(twice)), words, "", INFO))
    elif count and not (resolution and resolution > 0.4 * stamps.usual):
        if (stamps.exposure[twice] > 0).all() or stamps.technique != "sensor":
            words = f"{_count(count, 'frame')} with the exposure and the place of another: copies, or a stamp written twice"
            found.append(Finding("duplicate", count, stamps.at(np.flatnonzero(twice)), words, "leave the copies out of files:"))
        else:
            found.append(Finding("repeated", count, stamps.at(np.flatnonzero(twice)), f"{_count(count, 'row')} with the stamp of another", "", INFO))
    count = int(shared.sum())
    if count and stamps.technique != "echem" and np.unique(stamps.place).size == 1:
        words = f"{_count(count, 'frame')} with the stamp of another but another exposure"
        found.append(Finding("repeated", count, stamps.at(np.flatnonzero(shared)), words))
    return found


def _beat(stamps: _Stamps) -> Grid | None:
    """Find the beat of all frames, or of those at the place measured most often."""
    enough = slice(0, 200_000)  # a longer series says no more of its scatter
    grid = frame_grid(stamps.begins[enough], None if stamps.numbers is None else stamps.numbers[enough])
    if grid is None and np.unique(stamps.place).size > 1:
        values, counts = np.unique(stamps.place, return_counts=True)
        here = stamps.place == values[np.argmax(counts)]
        grid = frame_grid(stamps.begins[here][enough])
    return grid


def _jitter(series: xr.Dataset, stamps: _Stamps, grid: Grid | None, resolution: float) -> list[Finding]:
    stated = float(series.attrs.get("time_uncertainty_s", 0.0))
    if grid is None or grid.jitter < max(0.003 * grid.period, 1.2 * stated, 0.6 * resolution, 1e-4):
        return []
    sentence = f"stamps scatter by {duration(grid.jitter)} (1 sigma) around a beat of one frame every {grid.period:.7g} s" + (
        ", late and never early: they are times of arrival"
        if grid.late
        else ": times of arrival, or frames that began unevenly; stamps alone cannot tell"
    )
    advice = f"{'' if grid.late else 'if they are times of arrival: '}time_uncertainty: {grid.jitter:.2g} s"
    if grid.whole and stamps.place.max() == 0:
        start = np.datetime64(int(stamps.ns[0]) + round(grid.first * _NS), "ns").astype("datetime64[ms]")
        advice += f"; or by frame number, within {duration(grid.uncertainty)}: start: {start}{_zulu(series)}, period: {grid.period:.9g} s"
    return [Finding("jitter", stamps.ns.size, (), sentence, advice, WARNING if grid.late and grid.jitter > 0.02 * grid.period else INFO)]


def _zulu(series: xr.Dataset) -> str:
    return "Z" if series.attrs.get("timezone_source", "none") != "none" else ""


# --------------------------------------------------------------------------- order and intervals


def _order(series: xr.Dataset, stamps: _Stamps, grid: Grid | None, resolution: float) -> list[Finding]:
    """Find backward steps, hours of summer time, shifts of the beat, lost frames and gaps; each interval is told once."""
    n, steps, usual = stamps.ns.size, stamps.steps, stamps.usual
    if n < 2:
        return []
    noise = max(4 * grid.jitter if grid else 0.0, 1.5 * resolution, 1e-6)
    back = np.flatnonzero(np.diff(stamps.ns) / _NS < -(noise if grid else 1e-6))
    if stamps.technique == "echem":  # a cycler records when something changes: only a long silence is a gap
        late = np.flatnonzero(steps > float(series.attrs.get("max_gap_s", max(600.0, 20 * np.percentile(steps, 95)))))
    else:
        late = pauses(steps)
        late = late[steps[late] - usual > 1.5 * noise]
    found: list[Finding] = []
    if np.isfinite(usual) and usual < HOUR / 2:
        found, told = _summer_time(series, stamps, np.union1d(back, np.flatnonzero(steps > 0.9 * HOUR)), noise)
        back, late = np.setdiff1d(back, told), np.setdiff1d(late, told)
    found += _backward(series, stamps, back)
    jumps = _jumps(stamps, grid, noise) if stamps.technique != "echem" else late[:0]
    late = np.setdiff1d(late, jumps)
    if 0 < jumps.size <= max(5, 0.02 * n):
        shift = stamps.steps[jumps] - usual
        where = stamps.at(jumps[np.argsort(-np.abs(shift), kind="stable")])
        largest = jumps[np.argmax(np.abs(shift))]
        many = "one interval is" if jumps.size == 1 else f"{jumps.size} intervals are odd, the largest"
        sentence = (
            f"{many} {duration(steps[largest])} where frames come every {duration(usual)}, and the beat goes on from there: a pause, or a clock "
            f"that was set by {steps[largest] - usual:+.4g} s; stamps alone cannot tell"
        )
        advice = "if it was set and the files after it are others: a source of their own, with its own clock:"
        mild = bool((shift > 0).all()) or stamps.technique in ("sensor", "eis")  # logged events and sweeps keep no beat of their own
        found.append(Finding("jump", int(jumps.size), where, sentence, advice, INFO if mild else WARNING))
    lost = np.diff(stamps.numbers) - 1 if stamps.numbers is not None and stamps.technique != "echem" else np.zeros(n - 1)
    if lost.any():
        at = np.flatnonzero(lost)
        sentence = f"{_count(int(lost.sum()), 'frame number')} missing: lost, not read, or not of this series"
        found.append(Finding("lost", int(lost.sum()), stamps.at(at), sentence, "", INFO))
        late = np.setdiff1d(late, at)
    if late.size:
        longest = float(steps[late].max())
        many = "a gap of" if late.size == 1 else f"{late.size} gaps, the longest"
        sentence = f"{many} {duration(longest)} where frames come every {duration(usual)}"
        found.append(Finding("gap", int(late.size), stamps.at(late), sentence, "", INFO))
    return found


def _backward(series: xr.Dataset, stamps: _Stamps, back: np.ndarray) -> list[Finding]:
    if not back.size:
        return []
    by = -np.diff(stamps.ns)[back] / _NS
    sentence = (
        f"stamps step back {_count(int(back.size), 'time')}, by {'up to ' * (back.size > 1)}{duration(float(by.max()))}: the clock was set back or "
        f"restarted, or files are out of order; {_count(stamps.passed, 'frame')} stamped with times that had passed"
    )
    clock = json.loads(series.attrs.get("clock", "null") or "null")
    given = isinstance(clock, dict) and clock and all(key.lstrip("-").isdigit() for key in clock)
    advice = "" if given else "clock: [{segment: 0, offset: ... s}, {segment: 1, offset: ... s}], one for each stretch"
    return [Finding("backward", int(back.size), stamps.at(back + 1), sentence, advice, INFO if given else WARNING)]


def _jumps(stamps: _Stamps, grid: Grid | None, noise: float) -> np.ndarray:
    """Find intervals that shift a regular beat by less than ten periods and by no whole number of them."""
    steps, n = stamps.steps, stamps.ns.size
    if n < 12 or not np.isfinite(stamps.usual) or (np.unique(stamps.place).size > 1 and grid is None and spread(steps) > 0.02 * stamps.usual):
        return np.empty(0, np.int64)
    sigma = max(spread(steps), 1e-9)
    if sigma > 0.05 * stamps.usual:
        return np.empty(0, np.int64)
    least = max(10 * sigma, 0.03 * stamps.usual, noise)
    at = np.flatnonzero((np.abs(steps - stamps.usual) > least) & (steps > -stamps.usual) & (np.diff(stamps.ns) > 0))
    width = min(5, steps.size // 2)
    padded = np.pad(steps, width, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1)[at]
    before, after = np.median(around[:, :width], axis=1), np.median(around[:, width + 1 :], axis=1)
    wide = 1.4826 * np.median(np.abs(around - np.median(around, axis=1)[:, None]), axis=1)
    same = np.abs(before - after) <= 0.5 * least  # the beat goes on
    odd = steps[at] - before
    whole = np.rint(steps[at] / np.maximum(before, 1e-9))
    broken = np.abs(steps[at] - whole * before) > least
    keep = same & (np.abs(odd) > np.maximum(least, 10 * wide)) & broken & (whole <= 10) & (at > 1) & (at < steps.size - 2)
    at, odd = at[keep], odd[keep]
    for side in (-2, -1, 1, 2):  # a late stamp is made good by its neighbour
        near = np.clip(at + side, 0, steps.size - 1)
        fine = np.abs(steps[near] - stamps.usual + odd) > 0.5 * np.abs(odd)
        at, odd = at[fine], odd[fine]
    return at


def _summer_time(series: xr.Dataset, stamps: _Stamps, at: np.ndarray, noise: float) -> tuple[list[Finding], np.ndarray]:
    """Find jumps of just one hour on the night when clocks change."""
    shift = stamps.steps[at] - stamps.usual
    slack = max(0.2 * stamps.usual, noise, 2.0)
    hour = at[np.abs(np.abs(shift) - HOUR) <= slack]
    zone = str(series.attrs.get("timezone", "UTC"))
    named = "/" in zone and series.attrs.get("timezone_source") == "config"
    told: list[int] = []
    findings = []
    for index in hour[:20].tolist():
        second = int(stamps.ns[index] // _NS)
        for place in (zone,) if named else ("Europe/Paris", "America/New_York"):
            change, before, after = _transitions(place, second, second)
            if ((before != after) & (np.abs(change - second) < 15 * 3600)).any():
                words = "forward" if stamps.steps[index] > 0 else "back"
                clock = f"did not follow the change of {zone}" if named else f"followed summer time, which {zone} does not know"
                advice = "timezone: as a fixed offset, for example '+02:00'" if named else "timezone: of the place whose summer time it follows"
                sentence = f"stamps jump {words} by 1 h on the night when clocks change in {place}: as if this clock {clock}"
                findings.append(Finding("summer_time", 1, stamps.at([index]), sentence, advice))
                told.append(index)
                break
    return findings, np.array(told, np.int64)


def _exposures(stamps: _Stamps, grid: Grid | None, resolution: float) -> list[Finding]:
    """Find frames that would still be exposed when the next begins."""
    if stamps.technique in ("echem", "sensor") or stamps.ns.size < 2:
        return []
    slack = max(3 * grid.jitter if grid else 0.0, 2 * resolution, 1e-3)
    over = (stamps.steps > 0) & (stamps.exposure[:-1] > stamps.steps * 1.02 + slack)
    count, onward = int(over.sum()), int((stamps.steps > 0).sum())
    if not count or count < 0.05 * onward:
        return []
    at = np.flatnonzero(over)
    sentence = (
        f"{count} of {stamps.ns.size} frames are exposed longer ({duration(float(np.median(stamps.exposure[at])))}) than it takes until the next "
        f"({duration(float(np.median(stamps.steps[at])))}): one of the two is wrong, or several detectors are in one source"
    )
    return [Finding("exposure", count, stamps.at(at), sentence, "exposure: of one frame, in s")]


# --------------------------------------------------------------------------- against the electrochemistry


def _years(series: xr.Dataset, stamps: _Stamps, echem: xr.Dataset | None) -> list[Finding]:
    """Hold the frames against the electrochemistry: another year, another zone, another day."""
    n = stamps.ns.size
    if series.attrs.get("time_origin") == "counter":
        return []
    if echem is not None and echem.sizes.get("time") and series.attrs.get("timezone_source", "none") != "none":
        middle = series["time"].values.astype("datetime64[ns]")
        middle = middle[~np.isnat(middle)].astype(np.int64) * 1e-9
        begins, ends = middle - stamps.exposure / 2, middle + stamps.exposure / 2
        low, high = reach_of(echem)
        now = float(np.mean((ends > low) & (begins < high)))
        if now < 0.5:
            for words, shift in EPOCHS:
                for sign in (1, -1):
                    moved = float(np.mean((ends + sign * shift > low - 14 * HOUR) & (begins + sign * shift < high + 14 * HOUR)))
                    if moved >= now + 0.5:
                        own = sign > 0 or _odd_year(stamps)  # else it is the electrochemistry that lies in another time
                        whose = "these stamps count" if sign > 0 else "these stamps look as if the reverse were true: they count"
                        whose = whose if own else "the stamps of the electrochemistry count"
                        advice = f"clock: {{offset: {sign * shift:.0f} s}}" if own else f"clock: {{offset: {shift:.0f} s}} for the electrochemistry"
                        if "EPICS" in words:
                            advice = "kind: epics where the loader takes a kind of time; or " + advice
                        sentence = f"{whose} {words}: moved by {shift / 86400 / 365.2425:+.1f} years, {moved:.0%} meet the electrochemistry"
                        return [Finding("epoch", n, stamps.at([0]), sentence, advice, ERROR)]
        shift, share, others = shift_of_zone((low, high), begins, ends)
        if shift:
            own = series.attrs.get("timezone_source") == "file"
            whose = "timezone: of the electrochemistry, for these files state their own zone" if own else "timezone:"
            covered = float(np.mean((begins >= low) & (ends <= high)))
            sentence = (
                f"looks like a zone error of {shift / HOUR:+g} h: moved by that, {share:.0%} of the frames are covered (now {covered:.0%}){others}"
            )
            return [Finding("zone", n, stamps.at([0]), sentence, f"check {whose}")]
        shift, out, still = hours_that_cover((low, high), begins, ends)
        if shift and series.attrs.get("technique") != "sensor":
            sentence = (
                f"{out} of {n} frames lie outside the electrochemistry; moved by {shift / HOUR:+g} h {still or 'none'} would: "
                "a zone, unless they were measured before it began or after it ended"
            )
            return [Finding("zone", out, (), sentence, "check timezone: of both", INFO)]
        if now == 0.0:
            for days in (1, -1):
                if np.mean((begins + days * 86400 >= low) & (ends + days * 86400 <= high)) > 0.9:
                    sentence = f"moved by {days:+d} day, more than 90 % of the frames are covered, and none is now: is a date wrong?"
                    return [Finding("zone", n, stamps.at([0]), sentence, f"if so, clock: {{offset: {days * 86400} s}}")]
    if not _odd_year(stamps):
        return []
    year = _year(stamps)
    sentence, advice = f"stamps of the year {year}: no beamline's clock shows that", "look at the unit and the first year of the file's times"
    if year == 1970 and 9e5 < float(np.median(stamps.ns)) / _NS < 4e6:
        sentence, advice = f"{sentence}; seconds since 1970 that are read as milliseconds look like this", "give the unit of the file's times: s"
    elif year > 2090:
        sentence, advice = f"{sentence}; seconds since 1904 (LabVIEW) read as if from 1970 look like this", "clock: {offset: -2082844800 s}, if so"
    return [Finding("year", n, stamps.at([0]), sentence, advice, ERROR)]


def _year(stamps: _Stamps) -> int:
    return int(str(np.datetime64(int(np.median(stamps.ns)), "ns"))[:4])


def _odd_year(stamps: _Stamps) -> bool:
    return not 1990 <= _year(stamps) <= 2090
