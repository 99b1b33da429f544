"""What each frame gets: its exposure on the cell's timeline, and the electrochemistry averaged over it.

Only the small coordinates of the frames are read (source_time, exposure, segment, position): no signal is touched, so a new
clock costs no new reading of spectra.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError
from operando.contract.flags import AlignmentFlag, flag_attrs
from operando.timeline.channels import join_sensors, over_exposures
from operando.timeline.clocks import Clock, correct, describe, in_words
from operando.timeline.echem import Track, echem_timeline, interval_rule, is_timeline, need_utc, track_of
from operando.timeline.zones import localise

UNKNOWN = -1
"""Fill of `cycle`, `half_cycle` and `step` where the electrochemistry says nothing (OUTSIDE, PAUSE, UNALIGNED)."""

_NS = 10**9
_RULE_OF_CURRENT = {
    "ending": ("ending", "a record's current is the mean of the interval that ends at it"),
    "starting": ("starting", "a record's current holds from it to the next record"),
    "instant": ("linear", "current is linear between records"),
}
_RULE_OF_VOLTAGE = (
    "linear between records; between a record and the next, which is the first after a current step (STEP_INSIDE in the flags of the "
    "electrochemistry), the value of the first is held until the time of the second; nothing across gaps (PAUSE there), nothing beyond the ends"
)

Clocks = Clock | Mapping[int, Clock] | None


def restart_segments(ds: xr.Dataset) -> xr.Dataset:
    """Number segments over a whole series: a new one at each backward step of `source_time` and at each change of the loader's.

    Parameters
    ----------
    ds
        Frames of all files, in the order of acquisition, on UTC.
    """
    time = ds["source_time"].values
    segment = ds["segment"].values if "segment" in ds.coords else np.zeros(time.size, np.int32)
    new = np.zeros(time.size, bool)
    new[1:] = (time[1:] < time[:-1]) | (segment[1:] != segment[:-1])
    attrs = ds["segment"].attrs if "segment" in ds.coords else {"units": "1"}
    return ds.assign_coords(segment=("time", np.cumsum(new).astype(np.int32), attrs))


def align_frames(
    series: xr.Dataset,
    echem: xr.Dataset | None,
    clock: Clocks = None,
    *,
    sweeps: Any = None,
    sensors: Mapping[str, xr.Dataset] | None = None,
) -> xr.Dataset:
    """Put frames on the electrochemical timeline of their cell.

    Parameters
    ----------
    series
        Frames on UTC (`localise`); only `source_time`, `exposure`, `segment`, `position` and attributes are read.
    echem
        Electrochemistry of the cell: with its own alignment (as `open_beamtime` gives it), or a raw series on UTC.
        None if it has not arrived: frames are UNALIGNED, their time is corrected all the same.
    clock
        Clock of the frames' source: one, or one per segment; None takes stamps as they are.
    sweeps
        Impedance sweeps, for IN_EIS: rows [start, end] of datetime64, or a series of sweeps with `time` and `exposure`.
    sensors
        Further series of logged channels, averaged alike; see `join_sensors`.

    Returns
    -------
    xarray.Dataset
        The alignment product: one row per frame, in their order. Times of frames and 1 sigma in s, voltage in V, current in
        A, charge in C; `cycle`, `half_cycle` and `step` are -1 and `direction` is 0 where nothing is known of them.
        `<name>_std` is the spread inside the exposure, `<name>_errors` what the uncertainty of time does to the mean.

    Raises
    ------
    ClockError
        Series that are not on UTC, electrochemistry that is none, a clock that may not be applied, sweeps that are no intervals.

    Notes
    -----
    Memory beside what is given: about 50 bytes per record of the electrochemistry, 300 per frame, and 30 MB for shifted
    exposures. `<name>_errors` is the root mean square of how far the mean moves from the one reported when the clock is
    drawn at random (`errors_of_time`).
    TIME_UNCERTAIN marks frames whose 1 sigma exceeds both their exposure and 1 s, and frames of a segment for which a list
    of clocks holds none.
    """
    need_utc(series, "series")
    source_time = series["source_time" if "source_time" in series.coords else "time"].values.astype("datetime64[ns]")
    n = source_time.size
    exposure = np.nan_to_num(np.asarray(series["exposure"].values, dtype=float)) if "exposure" in series.coords else np.zeros(n)
    segment = series["segment"].values if "segment" in series.coords else np.zeros(n, np.int32)
    middle, sigma, used = correct(source_time.view(np.int64), segment, clock)
    stretch = np.ones(n)
    for number, one in used.items():
        stretch[segment == number] += one.drift
    half = np.round(exposure * stretch * (_NS / 2)).astype(np.int64)
    begin, end = middle - half, middle + half
    errors = np.hypot(sigma, float(series.attrs.get("time_uncertainty_s", 0.0)))

    flags = _flags_of_clock(series, source_time, segment, exposure, errors, clock, used)
    flags |= _flags_of_order(series, middle, begin, end)
    if sweeps is not None:
        flags[_meets(begin, end, *_sweeps(sweeps))] |= AlignmentFlag.IN_EIS
    out: dict[str, tuple[Any, ...]] = {
        "time_errors": ("time", errors, {"units": "s", "long_name": "1 sigma of time, of stamp and clock"}),
        "segment": ("time", segment.astype(np.int32), {"units": "1", "long_name": "segment of the source's clock"}),
    }
    attrs = {
        "product": "alignment",
        "clock": describe(used or None),
        "clock_text": in_words(used, np.unique(segment).size),
        "timezone": series.attrs.get("timezone", "UTC"),
        "timezone_source": series.attrs["timezone_source"],
        "interpolation": f"voltage and potentials: {_RULE_OF_VOLTAGE}.",
    }
    if echem is None or not echem.sizes.get("time"):
        flags |= AlignmentFlag.UNALIGNED
        out |= _nothing(n)
    else:
        if echem.attrs.get("technique", "echem") != "echem":
            raise ClockError(
                "what is given as the electrochemistry is none",
                found=f"a series of technique {echem.attrs['technique']}",
                hint="align(series, echem): the frames first, then the electrochemistry of their cell",
            )
        if not is_timeline(echem):
            echem = annotate(echem, echem_timeline(echem))
        text = _RULE_OF_CURRENT.get(interval_rule(echem), _RULE_OF_CURRENT["instant"])[1]
        attrs["interpolation"] += f" current: {text}. charge, soc: linear between records."
        found, more = _on_track(echem, track_of(echem), begin, end, errors)
        out |= found
        flags |= more
    if sensors:
        out |= join_sensors(dict(sensors), begin, end, {*out, "flags"})
    out["flags"] = ("time", flags, {**flag_attrs(AlignmentFlag), "long_name": "what aligning this frame found"})
    for name in list(out):
        if name.endswith("_errors") and name != "time_errors":
            base = name.removesuffix("_errors")
            out[base][2]["ancillary_variables"] = name
    coords = {
        "time": ("time", middle.view("datetime64[ns]"), {"long_name": "middle of the exposure, UTC, by the corrected clock"}),
        "source_time": ("time", source_time, {"long_name": "stamp of the instrument's clock, middle of the exposure"}),
    }
    return xr.Dataset(out, coords=coords, attrs=attrs)


def annotate(series: xr.Dataset, alignment: xr.Dataset) -> xr.Dataset:
    """Hand an alignment to its frames: the corrected time becomes the index, everything else coordinates.

    Parameters
    ----------
    series
        The frames, in the order in which they were aligned; nothing of them is read.
    alignment
        What `align_frames` or `echem_timeline` gave.

    Returns
    -------
    xarray.Dataset
        The series with the alignment. Its own data variables of the same name are kept, except in electrochemistry, where
        the continuous charge and the counted cycles replace the instrument's.

    Raises
    ------
    ClockError
        The alignment belongs to another number of frames.
    """
    if series.sizes["time"] != alignment.sizes["time"]:
        raise ClockError(
            "the alignment is not of this series",
            found=f"{alignment.sizes['time']} aligned frames for {series.sizes['time']} frames",
            hint="align the series again",
        )
    echem = series.attrs.get("technique") == "echem"
    coords: dict[str, Any] = {"time": alignment["time"].variable}
    replaced: dict[str, Any] = {}
    for key, variable in alignment.variables.items():
        name = str(key)
        if name == "time" or (name in series.data_vars and not echem):
            continue
        (replaced if name in series.data_vars else coords)[name] = variable
    ds = series.assign(replaced).assign_coords(coords)
    for name in ("clock", "clock_text", "interpolation", "max_gap_s"):
        if name in alignment.attrs:
            ds.attrs[name] = alignment.attrs[name]
    return ds


def align(
    series: xr.Dataset,
    echem: xr.Dataset | None,
    clock: Clocks = None,
    *,
    timezone: str | None = None,
    sweeps: Any = None,
    sensors: Mapping[str, xr.Dataset] | None = None,
) -> xr.Dataset:
    """Localise, align and annotate a series: every frame with its time, voltage, current, charge and cycle.

    Parameters
    ----------
    series
        Frames as a loader gives them, or on UTC.
    echem
        Electrochemistry of the cell, raw or with its own alignment; None if there is none yet. The series itself: it becomes the timeline.
    clock
        Clock of the frames' source against that of the cycler.
    timezone
        Zone of stamps that carry none, of the series and of the electrochemistry.
    sweeps, sensors
        See `align_frames`.

    Returns
    -------
    xarray.Dataset
        The series, its signal untouched, with `time` corrected and the alignment as coordinates.

    Raises
    ------
    ClockError
        Times that cannot be placed on UTC.
    """
    itself = echem is series
    series = restart_segments(localise(series, timezone))
    if itself and series.attrs.get("technique") == "echem":  # it is the timeline
        return annotate(series, echem_timeline(series, clock))
    if echem is not None and not is_timeline(echem):
        echem = restart_segments(localise(echem, timezone))
    return annotate(series, align_frames(series, echem, clock, sweeps=sweeps, sensors=sensors))


# --------------------------------------------------------------------------- flags


def _flags_of_clock(
    series: xr.Dataset,
    source_time: np.ndarray,
    segment: np.ndarray,
    exposure: np.ndarray,
    errors: np.ndarray,
    clock: Clocks,
    used: dict[int, Clock],
) -> np.ndarray:
    flags = np.zeros(source_time.size, np.int32)
    uncertain = errors > np.maximum(exposure, 1.0)
    if isinstance(clock, Mapping):
        uncertain |= ~np.isin(segment, list(used))
    flags[uncertain] |= AlignmentFlag.TIME_UNCERTAIN
    if series.attrs.get("time_origin") == "mtime":
        flags |= AlignmentFlag.MTIME_ONLY
    if series.attrs.get("timezone_source") == "assumed":
        flags |= AlignmentFlag.ZONE_ASSUMED
    for first, last in json.loads(series.attrs.get("zone_assumed", "[]")):
        inside = (source_time >= np.datetime64(first, "ns")) & (source_time <= np.datetime64(last, "ns"))
        flags[inside] |= AlignmentFlag.ZONE_ASSUMED
    for number, one in used.items():
        if one.method == "physics":
            flags[segment == number] |= AlignmentFlag.CLOCK_FROM_PHYSICS
    return flags


def _flags_of_order(series: xr.Dataset, middle: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Mark frames whose time had passed already when they were taken, and frames that share their exposure and place."""
    flags = np.zeros(middle.size, np.int32)
    if middle.size < 2:
        return flags
    flags[1:][middle[1:] < np.maximum.accumulate(middle)[:-1]] |= AlignmentFlag.NONMONOTONIC
    keys = [end, begin]
    for name in ("position", "x", "y"):
        if name in series.coords and series[name].dims == ("time",):
            keys.insert(0, np.unique(series[name].values.astype(str), return_inverse=True)[1])
    order = np.lexsort(keys)
    same = np.ones(middle.size - 1, bool)
    for key in keys:
        same &= np.diff(key[order]) == 0
    twice = np.zeros(middle.size, bool)
    twice[order[1:][same]] = twice[order[:-1][same]] = True
    flags[twice] |= AlignmentFlag.DUPLICATE
    return flags


def _meets(begin: np.ndarray, end: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Say which windows overlap any of disjoint stretches (in order); an instant at their edge does not."""
    return np.searchsorted(starts, end, side="left") > np.searchsorted(stops, begin, side="right")


def _joined(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join stretches that overlap, so that they are disjoint and in order."""
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    new = np.concatenate([[True], starts[1:] > reach[:-1]])
    last = np.concatenate([new[1:], [True]])
    return starts[new], reach[last]


def _sweeps(sweeps: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(sweeps, xr.Dataset):
        need_utc(sweeps, "series of sweeps")
        middle = sweeps["time"].values.astype("datetime64[ns]").view(np.int64)
        half = np.round(np.nan_to_num(np.asarray(sweeps["exposure"].values, dtype=float)) * (_NS / 2)).astype(np.int64)
        starts, stops = middle - half, middle + half
    else:
        rows = np.asarray(sweeps)
        if rows.size == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "Mf":
            raise ClockError("sweeps are not intervals", found=f"{rows.dtype} of shape {rows.shape}", expected="rows [start, end] of datetime64")
        if rows.dtype.kind == "f":
            rows = np.round(rows * _NS).astype("datetime64[ns]")
        starts, stops = rows.astype("datetime64[ns]").astype(np.int64).T
        if (stops < starts).any():
            raise ClockError("a sweep ends before it begins", found=f"sweep {int(np.argmax(stops < starts))}")
    return _joined(starts, stops) if starts.size else (starts, stops)


# --------------------------------------------------------------------------- electrochemistry


def _on_track(
    echem: xr.Dataset, track: Track, begin: np.ndarray, end: np.ndarray, errors: np.ndarray
) -> tuple[dict[str, tuple[Any, ...]], np.ndarray]:
    """Average every channel over the exposures, and find where they lie on the track."""
    t, n = track.times, begin.size
    coverage, paused = _coverage(track, begin, end)
    here = coverage > 0
    flags = np.zeros(n, np.int32)
    flags[~here & ~paused] |= AlignmentFlag.OUTSIDE
    flags[here & (coverage < 1)] |= AlignmentFlag.PARTIAL
    flags[paused] |= AlignmentFlag.PAUSE
    if track.overlaps.size:
        flags[_meets(begin, end + 1, *_joined(*track.overlaps.T))] |= AlignmentFlag.NONMONOTONIC | AlignmentFlag.DUPLICATE

    middle = begin + (end - begin) // 2
    latest, next_ = _records_at(track, begin, middle, here)
    sigma = errors
    if "time_errors" in echem.variables:  # the cycler's own stamps are uncertain too
        own = np.nan_to_num(np.asarray(echem["time_errors"].values, dtype=float))
        sigma = np.hypot(errors, track.take(own)[np.maximum(latest, 0)])

    rule, current_text = _RULE_OF_CURRENT.get(interval_rule(echem), _RULE_OF_CURRENT["instant"])
    plan = [
        ("voltage", "step", "V", "cell voltage", _RULE_OF_VOLTAGE),
        ("current", rule, "A", "current, positive charges the cell", current_text),
        ("charge", "linear", "C", "net charge", "linear between records"),
    ]
    plan += [(name, "step", "V", "potential", _RULE_OF_VOLTAGE) for name in ("potential_we", "potential_ce") if name in echem.variables]
    out: dict[str, tuple[Any, ...]] = {}
    inside = np.zeros(n, bool)
    channels = {name: (track.take(np.asarray(echem[name].values, dtype=float)), how) for name, how, *_ in plan if name in echem.variables}
    found = over_exposures(t, channels, begin, end, sigma, steps=track.steps, gaps=track.gaps)
    for name, _, units, words, text in plan:
        if name not in found:
            out |= {k: v for k, v in _nothing(n).items() if k == name or k.startswith(f"{name}_")}
            continue
        of = found[name]
        inside |= of["step_inside"]
        words = str(echem[name].attrs.get("long_name", words))
        out[name] = ("time", of["mean"], {"units": units, "long_name": words, "cell_methods": "time: mean", "interpolation": text})
        if name != "charge":
            out[f"{name}_std"] = ("time", of["std"], {"units": units, "long_name": f"{words}: spread inside the exposure"})
        out[f"{name}_errors"] = ("time", of["errors"], {"units": units, "long_name": f"{words}: effect of 1 sigma of time on the mean"})
        if name == "voltage":
            out["voltage_slope"] = ("time", of["slope"], {"units": "V/s", "long_name": "slope of the voltage over the exposure, least squares"})
    flags[inside & here] |= AlignmentFlag.STEP_INSIDE

    soc = track.take(np.asarray(echem["soc"].values, dtype=float))
    attrs = {"units": "1", "long_name": "state of charge", "cell_methods": "time: mean"}
    attrs |= {key: value for key, value in echem["soc"].attrs.items() if key.startswith(("charge_at", "reference"))}
    if np.isfinite(soc).any():
        mean = over_exposures(t, {"soc": (soc, "linear")}, begin, end, gaps=track.gaps)["soc"]["mean"]
    else:
        mean = np.full(n, np.nan)
    out["soc"] = ("time", mean, attrs)
    out["direction"] = ("time", _state(echem, "direction", track, next_ if rule == "ending" else latest, 0, np.int8), _DIRECTION)
    for name, words in _NUMBERS.items():
        label = {"units": "1", "long_name": f"{words} in the middle of the exposure", "unknown": UNKNOWN}
        out[name] = ("time", _state(echem, name, track, latest, UNKNOWN, np.int32), label)
    out["coverage"] = ("time", coverage, _COVERAGE)
    return out, flags


def _coverage(track: Track, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of each exposure that lies between records and in no gap; and whether it meets a gap."""
    t = track.times
    starts, stops = t[track.gaps - 1], t[track.gaps]
    paused = _meets(begin, end, starts, stops)
    lost = np.concatenate([[0], np.cumsum(stops - starts)])

    def gone(x: np.ndarray) -> np.ndarray:
        """Length of gaps before x."""
        k = np.searchsorted(starts, x, side="right")
        over = np.maximum(stops[np.maximum(k - 1, 0)] - x, 0) if stops.size else 0
        return lost[k] - np.where(k > 0, over, 0)

    low, high = np.clip(begin, t[0], t[-1]), np.clip(end, t[0], t[-1])
    covered = (high - low) - (gone(high) - gone(low))
    length = end - begin
    instant = (begin >= t[0]) & (end <= t[-1]) & ~paused
    share = np.divide(covered, length, out=np.zeros(begin.size), where=length > 0)
    return np.where(length > 0, share, instant.astype(float)), paused


def _records_at(track: Track, begin: np.ndarray, middle: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the last record up to and the first from the middle of each exposure; -1 where nothing is covered.

    Where the middle itself lies in a gap or outside, both are the record inside the exposure that is nearest to it in
    time order: the last before the middle, else the first after.
    """
    t = track.times
    latest = np.searchsorted(t, middle, side="right") - 1
    next_ = np.searchsorted(t, middle, side="left")
    broken = np.zeros(t.size + 1, bool)
    broken[track.gaps] = True
    off = (latest < 0) | (next_ >= t.size) | (broken[np.minimum(latest + 1, t.size)] & (next_ > latest))
    before = (latest >= 0) & (t[np.maximum(latest, 0)] >= begin)
    stand = np.where(before, latest, np.minimum(next_, t.size - 1))
    latest, next_ = np.where(off, stand, latest), np.where(off, stand, next_)
    return np.where(here, latest, -1), np.where(here, next_, -1)


def _state(echem: xr.Dataset, name: str, track: Track, at: np.ndarray, fill: int, kind: type) -> np.ndarray:
    if name not in echem.variables:
        return np.full(at.size, fill, kind)
    values = track.take(np.asarray(echem[name].values))
    return np.where(at >= 0, values[np.maximum(at, 0)], fill).astype(kind)


_NUMBERS = {"cycle": "cycle", "half_cycle": "half cycle", "step": "step of the schedule"}
_DIRECTION = {"units": "1", "long_name": "1 charge, -1 discharge, 0 rest or not known (see flags), in the middle of the exposure"}
_COVERAGE = {"units": "1", "long_name": "fraction of the exposure that the electrochemistry covers"}


def _nothing(n: int) -> dict[str, tuple[Any, ...]]:
    """All variables of a frame of which the electrochemistry says nothing."""
    units = {"voltage": "V", "current": "A", "charge": "C"}
    names = {}
    for name, unit in units.items():
        for suffix in ("", "_errors") if name == "charge" else ("", "_std", "_errors"):
            names[name + suffix] = unit
    names |= {"voltage_slope": "V/s", "soc": "1"}
    out: dict[str, tuple[Any, ...]] = {
        name: ("time", np.full(n, np.nan), {"units": unit, "long_name": name.replace("_", " ")}) for name, unit in names.items()
    }
    out["direction"] = ("time", np.zeros(n, np.int8), _DIRECTION)
    for name, words in _NUMBERS.items():
        out[name] = ("time", np.full(n, UNKNOWN, np.int32), {"units": "1", "long_name": words, "unknown": UNKNOWN})
    out["coverage"] = ("time", np.zeros(n), _COVERAGE)
    return out
