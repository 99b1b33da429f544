"""A suggestion for a clock where no signal is shared: a structural marker follows the state of the cell, and so tells roughly how its clock lies.

The marker (a lattice parameter, an edge energy, a band area) is taken for a smooth function of the charge that has passed, another one for
each direction, plus slow trends and noise that hangs together. While the current stays as it is, such a function absorbs any offset: what
tells is where the current is switched on, off or over. A material that follows with a delay looks almost like a late clock, so models in
which it does are fitted too, and where they do as well and would move the clock, nothing is suggested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError
from operando.timeline.clocks import Clock, Profile, common_seconds
from operando.timeline.echem import is_timeline, track_of
from operando.timeline.following import NO_HYSTERESIS, SHAPES, Model, Spot, edges_of, refined

LEAST = 30  # frames of a sample position below which nothing is tried
LEAST_EDGES = 3  # with fewer, no part of the frames can check another
WIDEST = 60.0  # s; half of a 95 % interval beyond which nothing is suggested, and what a lag that cannot be excluded may move the clock by
RIVAL = 8.0  # another offset whose log-likelihood comes this near to the best one's is not excluded
BETTER = 4.0  # a lag (or a part of the frames) that gains this much in log-likelihood says that the model is wrong
LAGS = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)  # s
AS_GOOD = -3.0  # a lag that loses no more than this in log-likelihood is not excluded
_RIVALS = 4  # other offsets that are looked at closely
MOST = 2000  # frames with which the whole search is gone through


@dataclass(frozen=True)
class _Found:
    """The best offset, and what speaks against it: shifts in s, log-likelihoods against the best one's."""

    offset: float
    spread: float
    profile: Profile
    inflation: float
    at_limit: bool
    by_turns: int  # different things measured one after the other, or 0
    rival: tuple[float, float]
    plain: tuple[float, float, float]  # without hysteresis: shift, log-likelihood, 1 sigma
    lags: list[tuple[float, float, float]]
    parts: list[tuple[str, float, float]]


def _evidence(spots: list[Spot], offset: float, model: Model) -> float:
    return sum(spot.fit(offset, model).log_evidence for spot in spots)


def _peak(spots: list[Spot], model: Model, start: float, step: float, low: float, high: float) -> tuple[float, float]:
    """Climb to the most likely offset near a start; offset and log-evidence."""
    known: dict[float, float] = {}

    def value(x: float) -> float:
        if x not in known:
            known[x] = _evidence(spots, x, model)
        return known[x]

    at = min(max(start, low), high)
    for _ in range(60):
        trio = [max(at - step, low), at, min(at + step, high)]
        best = max(trio, key=value)
        if best != at:
            at = best
        elif step < 1.0 or value(at) - min(map(value, trio)) < 0.5:
            break
        else:
            step /= 2
    left, here, right = value(max(at - step, low)), value(at), value(min(at + step, high))
    bend = left - 2 * here + right
    if low < at - step and at + step < high and bend < 0:
        at += min(max(0.5 * step * (left - right) / bend, -step), step)
        here -= 0.125 * (left - right) ** 2 / bend
    return at, here


def _width(spots: list[Spot], model: Model, at: float, widest: float) -> float:
    """1 sigma of the offset by the curvature of the log-evidence, before what hangs together is reckoned with."""
    step = 2.0
    while True:
        drop = _evidence(spots, at, model) - 0.5 * (_evidence(spots, at - step, model) + _evidence(spots, at + step, model))
        if drop > 0.3 or step >= widest:
            return step / math.sqrt(2 * drop) if drop > 0 else widest
        step *= 2


def _coarse(spots: list[Spot], low: float, high: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Go through the whole search with few frames, learning as it goes; the grid and the log-evidence with hysteresis, 0 at its peak."""
    grid = np.linspace(low, high, 2 * math.ceil((high - low) / 2 / step) + 1)
    few = [spot.thinned(-(-spot.y.size * len(spots) // MOST)) for spot in spots]
    models = [NO_HYSTERESIS, Model(0.02, 0.03), Model(0.1, 0.03)]
    profiles = np.empty(0)
    for turn in range(3):
        profiles = np.array([[_evidence(few, o, model) for o in grid] for model in models])
        if turn < 2:
            at = float(grid[int(np.argmax(profiles.max(axis=0)))])
            for _ in range(2):
                at, _ = _peak(few, models[1], at, step / 2, low, high)
                for spot in few:
                    spot.learn(at, models[1])
    rough = np.maximum(profiles[1], profiles[2])
    start = float(grid[int(np.argmax(rough))])
    return grid, rough - max(_peak(few, model, start, step / 2, low, high)[1] for model in models[1:])


def _locate(spots: list[Spot], offset: float, search: float, between: float) -> _Found:
    """Find the most likely offset of frames within `search` of `offset`; `between`: the shortest time between edges."""
    low, high = offset - search, offset + search
    grid, rough = _coarse(spots, low, high, min(max(between / 5, search / 90), search / 10))
    step = float(grid[1] - grid[0])
    at, shape = float(grid[int(np.argmax(rough))]), SHAPES[1]
    for _ in range(3):
        at, _ = _peak(spots, shape, at, step / 2, low, high)
        for spot in spots:
            spot.learn(at, shape)
    peaks = [_peak(spots, model, at, min(step / 2, 30.0), low, high) for model in SHAPES]
    best = int(np.argmax([value for _, value in peaks]))
    (at, top), shape = peaks[best], SHAPES[best]
    inflation = max(spot.inflation(at, shape) for spot in spots)

    # all shapes of hysteresis together, each with the weight the frames give it
    alive = [k for k in np.argsort([-value for _, value in peaks], kind="stable") if (peaks[k][1] - top) / inflation > -6]
    width = min(_width(spots, shape, at, search) * math.sqrt(inflation), search / 8)
    places = [peaks[k][0] for k in alive]
    near = np.linspace(max(min(places) - 4 * width, low), min(max(places) + 4 * width, high), 41)
    lines = np.array([[_evidence(spots, o, SHAPES[k]) for o in near] for k in alive])
    fine = np.logaddexp.reduce((lines - top) / inflation, axis=0)
    fine -= fine.max()
    weight = np.exp(fine) / np.exp(fine).sum()
    centre = float(weight @ near)
    spread = math.sqrt(float(weight @ (near - centre) ** 2))
    away = rough / inflation
    outside = (grid < near[0]) | (grid > near[-1])
    offsets, order = np.concatenate([near, grid[outside]]), np.argsort(np.concatenate([near, grid[outside]]))
    likely = np.concatenate([fine, away[outside]])[order]

    far = np.where(np.abs(grid - centre) > 4 * spread + 2 * step, away, -np.inf)
    others = _others(spots, [SHAPES[k] for k in dict.fromkeys([*alive[:2], 1, 1 + len(SHAPES) // 2])], grid, far)
    others = [(at - centre, (value - top) / inflation) for at, value in others if abs(at - centre) > 4 * spread + step]
    at, value = _peak(spots, NO_HYSTERESIS, centre, 30.0, low, high)
    found = _Found(
        centre,
        spread,
        Profile(offsets[order], likely - likely.max()),
        inflation,
        by_turns=max(spot.interleaved(at, shape) for spot in spots),
        at_limit=min(centre - low, high - centre) < step + 2 * spread,
        rival=max(others, key=lambda row: row[1], default=(0.0, -math.inf)),
        plain=(at - centre, (value - top) / inflation, _width(spots, NO_HYSTERESIS, at, search) * math.sqrt(inflation)),
        lags=[],
        parts=[],
    )
    for lag in LAGS:
        late = [_peak(spots, SHAPES[k]._replace(lag=lag), centre + 0.8 * lag, min(lag / 3, 60), low, high) for k in alive[:4]]
        at, value = max(late, key=lambda peak: peak[1])
        found.lags.append((lag, at - centre, (value - top) / inflation))
    for name, part in _parts(spots):
        at, value = _peak(part, shape, centre, 30.0, low, high)
        found.parts.append((name, at - centre, (value - _evidence(part, centre, shape)) / inflation))
    return found


def _others(spots: list[Spot], models: list[Model], grid: np.ndarray, rough: np.ndarray) -> list[tuple[float, float]]:
    """Climb to the best of the other offsets: the grid is coarser than a peak is wide, so its values cannot be compared."""
    held = np.concatenate([[-np.inf], rough, [-np.inf]])
    tops = np.flatnonzero((rough >= held[:-2]) & (rough >= held[2:]) & np.isfinite(rough))
    tops = tops[np.argsort(-rough[tops], kind="stable")][:_RIVALS]
    step = float(grid[1] - grid[0]) / 2
    return [_peak(spots, model, float(grid[k]), step, float(grid[0]), float(grid[-1])) for k in tops for model in models]


def _parts(spots: list[Spot]) -> Iterator[tuple[str, list[Spot]]]:
    """Give the parts of the frames that have to agree: halves in time, positions, segments."""
    begins = np.concatenate([spot.begin for spot in spots])
    middle = float(np.median(begins))
    chosen: list[tuple[str, list[np.ndarray]]] = [
        ("the first half of the frames", [spot.begin < middle for spot in spots]),
        ("the second half of the frames", [spot.begin >= middle for spot in spots]),
    ]
    if len(spots) > 1:
        chosen += [(f"position {spot.name}", [np.full(other.y.size, other is spot) for other in spots]) for spot in spots]
    segments = np.unique(np.concatenate([spot.segment for spot in spots]))
    if segments.size > 1:
        chosen += [(f"segment {number}", [spot.segment == number for spot in spots]) for number in segments.tolist()]
    for name, keeps in chosen:
        part = [spot.part(keep) for spot, keep in zip(spots, keeps, strict=True) if keep.sum() >= LEAST]
        if part:
            yield name, part


def _judge(found: _Found, search: float, edges: int, apart: float) -> tuple[str, float, str]:
    """Say whether an offset stands, how uncertain it is with what looks the same, and why."""
    spread = found.spread * (1 + 2 / edges)
    kept = [(lag, shift, math.exp(value) / len(LAGS)) for lag, shift, value in found.lags if value > AS_GOOD]
    total = 1 + sum(share for *_, share in kept)
    uncertainty = math.sqrt(spread**2 + sum(share * shift**2 for _, shift, share in kept) / total)
    gain = max(found.lags, key=lambda row: row[2])
    late = max(kept, key=lambda row: abs(row[1]), default=(0.0, 0.0, 0.0))
    if found.by_turns:
        words = (
            f"every {_ordinal(found.by_turns)} frame follows a function of its own: {found.by_turns} places or samples by turns? "
            "Give each frame its position (or pass groups)"
        )
        return "models_disagree", uncertainty, words
    if found.at_limit:
        return "ambiguous", uncertainty, f"the best offset lies at the limit of the search (+-{search:g} s): widen it or say where to look"
    if found.rival[1] > -RIVAL:
        return "ambiguous", uncertainty, f"an offset {found.rival[0]:+.0f} s from it is about as likely (log-likelihood {found.rival[1]:+.1f})"
    if gain[2] > BETTER:
        return (
            "models_disagree",
            uncertainty,
            (
                f"a marker that follows the state with a lag of about {gain[0]:g} s explains the frames better (log-likelihood {gain[2]:+.1f}) "
                f"and would put the clock {gain[1]:+.0f} s from it: this is kinetics, or a clock, and cannot be told"
            ),
        )
    for name, shift, value in found.parts:
        if value > BETTER and abs(shift) > 1.96 * math.sqrt(2) * uncertainty:
            return "models_disagree", uncertainty, f"{name} alone would put it {shift:+.0f} s away (log-likelihood {value:+.1f})"
    shift, value, width = found.plain
    if value > AS_GOOD and abs(shift) > 3 * math.hypot(spread, width):
        words = f"without hysteresis it would lie {shift:+.0f} +- {width:.0f} s away, and the frames cannot tell which is true"
        return "models_disagree", uncertainty, words
    if 1.96 * spread > WIDEST:
        words = f"offsets {1.96 * spread:.0f} s to either side are about as likely: the edges are too few or too weak"
        return "ambiguous", uncertainty, words
    if abs(late[1]) > WIDEST:
        return (
            "models_disagree",
            uncertainty,
            (
                f"a marker that follows the state with a lag of {late[0]:g} s explains the frames as well "
                f"and would put the clock {late[1]:+.0f} s from it"
            ),
        )
    same = f"one of {late[0]:g} s is not excluded and would move it by {late[1]:+.0f} s" if kept else f"one of {LAGS[0]:g} s or more is excluded here"
    best = found.offset + apart
    words = (
        f"95 % interval {best - 1.96 * uncertainty:+.1f} to {best + 1.96 * uncertainty:+.1f} s, with the lags that fit too. A kinetic lag of the "
        f"material looks the same as a late clock ({same}), so this clock cannot support a claim that something leads or lags"
    )
    return "ok", uncertainty, words


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def suggest_clock_from_physics(series: xr.DataArray, echem: xr.Dataset, *, offset: float = 0.0, search: float = 3600.0, groups: Any = None) -> Clock:
    """Suggest how a source's clock lies from a structural marker that follows the state of the cell.

    Where no signal is shared, the frames themselves say roughly when the current was switched: the marker moves with the charge, and
    stands where none passes. This is a suggestion to a person and never applied by itself: a material that follows late looks the same.

    Parameters
    ----------
    series
        One number per frame (lattice parameter, edge energy, band area, first principal component) over `time`, of any unit. The stamps
        are `source_time` where there is one, else `time`: middles of the exposures, UTC. Coordinates `exposure` (s), `segment` and
        `position` are used where present. Frames without a stamp or a number are left out.
    echem
        Electrochemistry of the cell with its own alignment (`annotate(echem, echem_timeline(echem))`): `time`, `charge` in C, `flags`.
    offset, search
        Only offsets within `search` of `offset` are considered, s. Only frames that the electrochemistry covers under all of them, and
        edges that lie inside the frames under all of them, are used: a narrow search uses more.
    groups
        Frames of one label share a smooth function, and all labels have to agree on the clock: one label per frame, or the name of a
        coordinate. Default: `position`, where there is one.

    Returns
    -------
    Clock
        `method` is `physics`, `drift` is not estimated (0). Status `ok`; `no_edges` where the current is not switched inside the frames;
        `models_disagree` where a lag explains the frames better, or as well with a clock more than 60 s away, where models with and without
        hysteresis differ, or parts of the frames, or where frames follow different functions by turns (positions that were not told);
        `ambiguous` where another offset is about as likely or the 95 % interval exceeds +-60 s; `too_few` frames or edges. The uncertainty
        includes the lags that cannot be excluded.

    Raises
    ------
    ClockError
        A marker that is no number per frame, electrochemistry without charge or alignment, labels that do not fit.

    Notes
    -----
    The marker is a cubic spline of the charge, averaged over the exposure, plus half the difference of charge and discharge times a
    variable that turns over after each reversal (at once, over a share of the charge, or with play), plus quadratic trends and charge
    that slips. Coefficients have Gaussian priors and are integrated out; noise is autoregressive [1]_; log-likelihoods are divided by the
    ratio of the long-run variance of the score to the assumed one [2]_, so that what still hangs together is counted once.

    References
    ----------
    .. [1] G. E. P. Box, G. M. Jenkins, "Time Series Analysis: Forecasting and Control", 1970.
    .. [2] W. K. Newey, K. D. West, Econometrica 55 (1987) 703-708.
    """
    stamps, marker, exposure, labels, segment, notes = _frames(series, groups)
    t, charge, gaps = _record(echem)
    for name, value, least in (("offset", offset, -math.inf), ("search", search, 0.0)):
        if not math.isfinite(value) or value <= least:
            raise ClockError(f"{name} of suggest_clock_from_physics is out of range", found=value, expected="seconds")
    seconds, middle, origin = common_seconds(t, stamps, "the frames and the electrochemistry")
    start = offset - origin.apart

    def refused(status: str, words: str) -> Clock:
        at = origin.stamp(float(middle.min())) if middle.size else None
        return Clock(offset=offset, at=at, method="physics", status=status, evidence="; ".join([words, *notes]))

    begin, end = middle - exposure / 2, middle + exposure / 2
    inside = np.zeros(begin.size, bool)
    if seconds.size > 1:
        inside = (begin + start - search >= seconds[0]) & (end + start + search <= seconds[-1])
        first = np.searchsorted(gaps[:, 1], begin + start - search, side="right") if len(gaps) else np.zeros(begin.size, np.int64)
        inside &= np.searchsorted(gaps[:, 0], end + start + search, side="left") <= first
    if begin.size and not inside.all():
        notes.append(f"{begin.size - int(inside.sum())} of {begin.size} frames left out: not covered by the electrochemistry under every offset")
    names, counts = np.unique(labels[inside], return_counts=True)
    moving = [name for name, count in zip(names.tolist(), counts, strict=True) if count >= LEAST and np.ptp(marker[inside & (labels == name)]) > 0]
    if not moving:
        return refused("too_few", f"no position has {LEAST} frames with a marker that changes, {int(inside.sum())} usable frames in all")
    if len(moving) < names.size:
        notes.append(f"{names.size - len(moving)} of {names.size} positions left out: fewer than {LEAST} frames, or nothing changes")
    inside &= np.isin(labels, moving)

    spacing = max(float(np.median(np.diff(np.unique(begin[inside])))), 10.0)
    reach = max(spacing, float(np.median(exposure)))
    near = (seconds >= begin[inside].min() + start - search - 7200) & (seconds <= end[inside].max() + start + search + 7200)
    near |= np.concatenate([near[1:], [False]]) | np.concatenate([[False], near[:-1]])
    edges = edges_of(seconds[near], charge[near], reach)
    held = edges[(edges > begin[inside].min() + start + search + 2 * reach) & (edges < end[inside].max() + start - search - 2 * reach)]
    if not held.size:
        return refused(
            "no_edges",
            f"the current is not switched inside the {int(inside.sum())} frames under every offset within {search:g} s (a narrower search uses more)",
        )
    if held.size < LEAST_EDGES:
        return refused(
            "too_few", f"current edges inside the frames: {held.size}; at least {LEAST_EDGES} are needed, so that they can check each other"
        )
    fine, filled = refined(seconds[near], charge[near])
    spots = [
        Spot(str(name), begin[here], end[here], marker[here], segment[here], fine, filled)
        for name in moving
        for here in [np.flatnonzero(inside & (labels == name))]
    ]
    found = _locate(spots, start, search, float(np.diff(held).min()))
    status, uncertainty, words = _judge(found, search, held.size, origin.apart)
    best = found.offset + origin.apart
    independent = sum(spot.independent for spot in spots) / found.inflation
    places = f" at {len(spots)} positions" if len(spots) > 1 else ""
    basis = f"from {held.size} current edges and {int(inside.sum())} frames{places}, worth {independent:.0f} independent ones"
    evidence = [f"offset {best:+.1f} s (drift not estimated) {basis}: {words}", *notes]
    profile = Profile(found.profile.offset + origin.apart, found.profile.log_likelihood)
    return Clock(
        best,
        at=origin.stamp(float(middle.min())),
        uncertainty=uncertainty,
        method="physics",
        evidence="; ".join(evidence),
        status=status,
        profile=profile,
    )


def _frames(series: xr.DataArray, groups: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Stamps, marker, exposure, label and segment of the frames that have both, in the order of time; and what was left out."""
    if not isinstance(series, xr.DataArray) or series.dims != ("time",) or series.dtype.kind not in "fiub":
        raise ClockError(
            "the marker is not one number per frame",
            found=f"{getattr(series, 'dtype', type(series).__name__)} over {getattr(series, 'dims', 'nothing')}",
            expected="an xarray.DataArray of numbers over time",
            hint="reduce the frames to one number first: a lattice parameter, an edge energy, a band area",
        )
    clock = "source_time" if "source_time" in series.coords else "time"
    if clock not in series.coords or series[clock].dtype.kind != "M":
        raise ClockError(
            "the frames have no stamps", found=f"{clock}: {series[clock].dtype if clock in series.coords else 'none'}", expected="datetime64 (UTC)"
        )
    stamps, marker = series[clock].values.astype("datetime64[ns]"), np.asarray(series.values, dtype=float)

    def along(name: Any, default: Any) -> np.ndarray:
        values = series[name].values if isinstance(name, str) and name in series.coords else default if isinstance(name, str) else np.asarray(name)
        values = np.broadcast_to(values, marker.shape) if np.ndim(values) == 0 else values
        if np.shape(values) != marker.shape:
            raise ClockError("the labels are not one per frame", found=f"shape {np.shape(values)} for {marker.size} frames")
        return np.asarray(values)

    if isinstance(groups, str) and groups not in series.coords:
        raise ClockError("no such coordinate of the frames", found=groups, expected=", ".join(map(str, series.coords)))
    exposure = np.nan_to_num(along("exposure", 0.0).astype(float))
    labels, segment = along("position" if groups is None else groups, 0).astype(str), along("segment", 0)
    known = np.isfinite(marker) & ~np.isnat(stamps)
    notes = [] if known.all() else [f"{int((~known).sum())} frames without a number or a stamp left out"]
    if (np.diff(stamps[known]) < np.timedelta64(0)).any():
        notes.append("the frames were not in the order of time and have been put in it")
    order = np.flatnonzero(known)[np.argsort(stamps[known], kind="stable")]
    return stamps[order], marker[order], np.maximum(exposure[order], 0.0), labels[order], segment[order], notes


def _record(echem: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (from the first second on, as datetime64), charge and gaps of the electrochemistry; gaps in seconds from that second."""
    if not isinstance(echem, xr.Dataset) or not is_timeline(echem) or "charge" not in echem.variables:
        raise ClockError(
            "the electrochemistry is not on its timeline",
            found=", ".join(map(str, echem.variables)) if isinstance(echem, xr.Dataset) else type(echem).__name__,
            expected="time, charge, direction, flags ...",
            hint="call annotate(echem, echem_timeline(echem)) first, or take it from a built beamtime",
        )
    track = track_of(echem)
    charge = track.take(np.asarray(echem["charge"].values, dtype=float))
    origin = int(track.times[0]) // 10**9 * 10**9 if track.times.size else 0
    seconds = (track.times - origin) / 1e9
    starts, stops = seconds[track.gaps - 1], seconds[track.gaps]
    kept = np.isfinite(charge)
    kept[1:] &= np.diff(seconds, prepend=-1.0)[1:] > 0
    if kept.any():  # the origin of common_seconds is that of the records kept
        first = float(np.floor(seconds[kept][0]))
        starts, stops = starts - first, stops - first
    return track.times[kept].view("datetime64[ns]"), charge[kept], np.stack([starts, stops], axis=1)
