"""From wall-clock stamps to UTC, by the zone the configuration names; the zone of this computer is never asked.

A local time in the hour that autumn repeats means two instants. The order in which frames were taken decides: before the
clock went back it was summer time, after it winter time. Where the order alone does not tell (the series begins or ends
inside the hour), the side on which the series goes on without a break decides, and those frames are marked ZONE_ASSUMED;
where that does not tell either, the stamp is refused. A local time that spring leaves out is always refused.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import zoneinfo

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError

_NS = 10**9
_JITTER = _NS  # a step back of up to 1 s is jitter of the stamps, not the end of summer time
_BREAK = 5  # spacings without a frame that count as a break in the series, where the repeated hour must be told apart

FIXED = "give the zone as a fixed offset, for example timezone: '+02:00'"


def localise(ds: xr.Dataset, timezone: str | None = None) -> xr.Dataset:
    """Put a series whose stamps are wall-clock times on UTC.

    Only the coordinate `stamp` is read as local time: one per file, or one per frame. All times move with their stamp,
    because the seconds counted from a stamp know nothing of summer time.

    Parameters
    ----------
    ds
        A series in the order it was acquired; the frames of many files may stand behind each other.
    timezone
        IANA zone (`Europe/Paris`), `UTC`, or a fixed offset (`+02:00`). Not used where the files gave UTC themselves.

    Returns
    -------
    xarray.Dataset
        With `time` and `source_time` on UTC, no `stamp`, attributes `timezone_source` (`file` or `config`) and `timezone`.
        Attribute `zone_assumed` (JSON list of [start, end]) where the repeated hour was told apart by continuity.

    Raises
    ------
    ClockError
        No zone for naive stamps, no absolute time at all, an unknown zone, a local time that does not exist or could be two.
    """
    source = ds.attrs.get("timezone_source", "none")
    if source != "none":
        return _labelled(ds, source, str(ds.attrs.get("timezone", "UTC")))
    name = _name(ds)
    if ds.attrs.get("time_origin") == "counter":
        raise ClockError(
            "the file holds no absolute time",
            file=name,
            found="seconds from the first frame",
            expected="the stamp of the first frame",
            hint="give start: under this source in beamtime.yaml, for example start: 2026-06-03T10:00:00",
        )
    if timezone is None:
        found = ds["stamp"].values.ravel()[:1] if "stamp" in ds.coords else ds["source_time"].values[:1]
        raise ClockError(
            "stamps without a zone",
            file=name,
            found=str(found[0])[:23] if len(found) else None,
            expected="the zone the instrument's clock was set to",
            hint="give timezone: in beamtime.yaml (for all sources, or under this one), for example timezone: Europe/Paris",
        )
    stamps = ds["stamp"].values if "stamp" in ds.coords else ds["source_time"].values
    wall = np.broadcast_to(stamps, ds["time"].shape).astype("datetime64[ns]").view(np.int64)
    time = ds["time"].values.astype("datetime64[ns]").view(np.int64)
    naive = wall != np.iinfo(np.int64).min  # NaT: this file gave UTC itself
    utc, assumed = wall.copy(), np.zeros(wall.size, bool)
    utc[naive], assumed[naive] = to_utc(wall[naive], timezone, spans=time[naive] - wall[naive], file=name)
    shift = utc - wall
    coords = {"time": ("time", (time + shift).view("datetime64[ns]"), ds["time"].attrs)}
    if "source_time" in ds.coords:
        source_time = ds["source_time"].values.astype("datetime64[ns]").view(np.int64)
        coords["source_time"] = ("time", (source_time + shift).view("datetime64[ns]"), ds["source_time"].attrs)
    ds = ds.drop_vars("stamp", errors="ignore").assign_coords(coords)
    ds = _labelled(ds, "config", timezone)
    if assumed.any():
        there = ds["time"].values[assumed]
        edges = np.flatnonzero(np.diff(np.flatnonzero(assumed)) > 1) + 1
        ds.attrs["zone_assumed"] = json.dumps([[str(run.min()), str(run.max())] for run in np.split(there, edges)])
    return ds


def _labelled(ds: xr.Dataset, source: str, timezone: str) -> xr.Dataset:
    ds = ds.drop_vars("stamp", errors="ignore") if "stamp" in ds.variables else ds.copy(deep=False)
    ds.attrs = {**ds.attrs, "timezone_source": source, "timezone": timezone}
    return ds


def _name(ds: xr.Dataset) -> str | None:
    return str(ds["source"].values[0]) if "source" in ds.coords and ds.sizes.get("time") else None


def to_utc(wall: np.ndarray, timezone: str, *, spans: np.ndarray | None = None, file: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Turn wall-clock nanoseconds into UTC nanoseconds.

    Parameters
    ----------
    wall
        Local stamps in the order of acquisition, as int64 nanoseconds since 1970-01-01 00:00 local time.
    timezone
        IANA name, `UTC` or a fixed offset.
    spans
        Nanoseconds from each stamp to its frame: they help to order frames that share a stamp.
    file
        Named in messages.

    Returns
    -------
    tuple
        UTC nanoseconds, and whether the repeated hour was told apart by continuity only.

    Raises
    ------
    ClockError
        See `localise`.
    """
    fixed = _fixed(timezone)
    if fixed is not None:
        return wall - fixed * _NS, np.zeros(wall.size, bool)
    if not wall.size:
        return wall.copy(), np.zeros(0, bool)
    at, before, after = _transitions(timezone, int(wall.min() // _NS), int(wall.max() // _NS))
    # a transition is over, on the wall, when the later of its two readings is reached
    index = np.searchsorted((at + np.maximum(before, after)) * _NS, wall, side="right")
    offsets = np.concatenate([before[:1], after])[index]
    for j in range(at.size):
        begin, end = int(at[j] + min(before[j], after[j])) * _NS, int(at[j] + max(before[j], after[j])) * _NS
        inside = (wall >= begin) & (wall < end)
        if after[j] > before[j] and inside.any():
            frame = int(np.argmax(inside))
            raise ClockError(
                f"a local time that does not exist in {timezone}: the clocks went forward",
                file=file,
                found=f"frame {frame}: {_text(wall[frame])}",
                expected=f"no stamp from {_text(begin)} to {_text(end)}",
                hint=f"this instrument's clock did not follow {timezone}; {FIXED.replace('+02:00', _offset_text(before[j]))}",
            )
    utc = wall - offsets * _NS
    assumed = np.zeros(wall.size, bool)
    spans = np.zeros(wall.size, np.int64) if spans is None else spans
    for j in np.flatnonzero(after < before).tolist():
        begin, end, fold = int(at[j] + after[j]) * _NS, int(at[j] + before[j]) * _NS, int(before[j] - after[j]) * _NS
        inside = (wall >= begin) & (wall < end)
        if not inside.any():
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
        for lo, hi in edges.reshape(-1, 2):
            late, sure = _later_reading(utc + spans, lo, hi, fold, timezone, wall, file)
            utc[lo:hi][late] += fold
            assumed[lo:hi] = not sure
    return utc, assumed


def _later_reading(times: np.ndarray, lo: int, hi: int, fold: int, timezone: str, wall: np.ndarray, file: str | None) -> tuple[np.ndarray, bool]:
    """Say which frames lo ... hi - 1, all stamped in the repeated hour, were taken the second time round.

    `times` are as if all were taken the first time. Only one step back can be the clock's; with none, a neighbour that
    only fits one reading decides, then the side on which the series goes on without a break.
    """
    inside = times[lo:hi]
    back = np.flatnonzero(np.diff(wall[lo:hi]) < -_JITTER) + 1
    if not back.size:  # stamps of files: the frames counted from one may reach past the next
        back = np.flatnonzero((np.diff(inside) < -_JITTER) & (np.diff(wall[lo:hi]) != 0)) + 1
    late = np.zeros(hi - lo, bool)
    if back.size == 1 and np.diff(inside)[back - 1][0] + fold >= -_JITTER:
        late[back[0] :] = True
        return late, True
    hint = f"if the clock did not change, or to decide it, {FIXED}"
    stamp = f"frame {lo}: {_text(wall[lo])}"
    if back.size:
        where = ", ".join(f"frame {lo + b}" for b in back[:3])
        problem = f"local times in the hour that {timezone} repeats go back in a way that the end of summer time does not explain"
        raise ClockError(problem, file=file, found=f"{stamp}; steps back at {where}", hint=hint)
    before = inside[0] - times[lo - 1] if lo > 0 else None  # gaps to the neighbours under the first reading
    after = times[hi] - inside[-1] if hi < times.size else None
    first_fits = (before is None or before >= -_JITTER) and (after is None or after >= -_JITTER)
    second_fits = (before is None or before + fold >= -_JITTER) and (after is None or after - fold >= -_JITTER)
    if first_fits != second_fits:
        late[:] = second_fits
        return late, True
    spacing = np.diff(times)
    spacing = spacing[(spacing > 0) & (spacing < fold // 2)]
    if first_fits and spacing.size:
        usual = min(_BREAK * int(np.median(spacing)), fold // 2)
        goes_on_before = before is not None and before <= usual
        goes_on_after = after is not None and after - fold <= usual
        if goes_on_before != goes_on_after:
            late[:] = goes_on_after
            return late, False
    raise ClockError(
        f"a local time that {timezone} has twice (the clocks went back), and the frames around it do not tell which is meant",
        file=file,
        found=stamp,
        expected="frames on both sides of the change, or a zone that knows no summer time",
        hint=hint,
    )


def check_zone(timezone: str) -> str:
    """Return the zone if it is known.

    Raises
    ------
    ClockError
        It is neither an IANA zone nor a fixed offset; the message offers the nearest names.
    """
    if _fixed(timezone) is None:
        _zone(timezone)
    return timezone


def _fixed(timezone: str) -> int | None:
    """Seconds east of UTC of `UTC`, `Z` or `+02:00`; None for a named zone."""
    if timezone.upper() in ("UTC", "Z", "GMT"):
        return 0
    match = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?([0-5]\d))?", timezone.strip(), re.IGNORECASE)
    if match is None:
        return None
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60
    if seconds > 14 * 3600:
        raise ClockError("an offset from UTC that no place has", found=timezone, expected="-14:00 to +14:00")
    return -seconds if match[1] == "-" else seconds


def _zone(timezone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        import difflib

        near = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=3, cutoff=0.5)
        raise ClockError(
            "unknown zone",
            found=f"timezone: {timezone}",
            expected="an IANA name such as Europe/Paris, UTC, or a fixed offset such as '+02:00'",
            hint=f"did you mean {' or '.join(near)}?" if near else None,
        ) from None


@functools.lru_cache(64)
def _transitions(timezone: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find when the zone's offset changes between two moments (s): UTC second, offset before, offset after.

    The offset is asked once a day and each change found to the second by bisection, so the cost is that of the days
    between first and last, not of the stamps. A first row without a change carries the offset for the range.
    """
    zone = _zone(timezone)
    origin = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

    def offset(second: int) -> int:
        shift = (origin + dt.timedelta(seconds=second)).astimezone(zone).utcoffset()
        assert shift is not None
        return int(shift.total_seconds())

    day = 86_400
    begin, end = (first // day - 2) * day, (last // day + 3) * day
    rows = [(begin, offset(begin), offset(begin))]
    for left in range(begin, end, day):
        low, high = left, left + day
        if offset(low) == offset(high):
            continue
        was = offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == was else (low, middle)
        rows.append((high, was, offset(high)))
    at, before, after = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return at, before, after


def _text(ns: int | np.int64) -> str:
    return str(np.datetime64(int(ns), "ns"))[:23]


def _offset_text(seconds: int | np.int64) -> str:
    minutes = int(seconds) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
