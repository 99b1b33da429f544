"""A clock from moments that two instruments both saw: triggers, shutters, beam dumps, current steps.

The two lists carry no labels, some events are missing in either, some were seen by one alone. An offset (and drift) is looked for under
which many events of the one list fall on events of the other. A train that repeats itself fits under many offsets: what tells them apart
is then only where the lists begin and end, and that says when recording was started, not how the clocks stand. So candidates are held
against each other only by events that both would place inside the other list, and without a clear majority the answer is `ambiguous`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract.errors import ClockError
from operando.timeline.clocks import Clock, Profile, common_seconds

LEAST = 4  # events in either list below which nothing is tried
SHARE = 0.5  # of the events in the common stretch a clock has to match; more are lost only where the lists are not of the same thing
RIVAL = 0.6  # another offset that matches this share of the best one's is a rival
SURE = 0.01  # chance that events which fit only one of two offsets side with the better one so clearly, if both were equally good
CHANCE = 1e-4  # expected number of offsets that match as many events by chance
FLOOR = 1e-3  # s; no two lists of events are believed to agree better
_WIDEST = 3.0  # s; events further apart are never taken for the same
LATE, ODD = 0.001, 0.05  # chances that as many events in a row at an end have no partner: refused, said
_STEP_SURE = 7.0  # logarithm of the likelihood ratio from which a clock was set rather than adrift
_CANDIDATES = 12
_PAIRS = 400_000  # differences that are sorted at once when candidates are looked for


@dataclass
class _Fit:
    """One way to lay the lists on each other, at the middle of the source's events."""

    offset: float
    drift: float
    covariance: np.ndarray
    sigma: float
    tolerance: float
    matched: np.ndarray  # per source event
    inside: np.ndarray  # per source event: falls where the other list has events before and after
    log_likelihood: float = -math.inf

    @property
    def count(self) -> int:
        return int(self.matched.sum())

    @property
    def share(self) -> float:
        return self.count / max(int(self.inside.sum()), 1)


def clock_from_events(
    t_echem: Any,
    t_source: Any,
    *,
    early: Any = 0.0,
    offset: float = 0.0,
    search: float | None = None,
    tolerance: float | None = None,
    max_drift: float = 100e-6,
) -> Clock:
    """Find a source's clock from events that it and the electrochemistry both recorded.

    Parameters
    ----------
    t_echem, t_source
        Times of the events by either clock, in any order: float seconds or datetime64. They need not be equally many.
    early
        How much earlier than written each of `t_echem` may have happened, s: a cycler shows a step by the first record after it, so it lies
        anywhere between that record and the one before. The middle is taken; what is known no better than to 3 s (or `tolerance`) is left out;
        what the rest may be off by is taken for common to all of them and stays in the uncertainty.
    offset, search
        Only offsets within `search` of `offset` are considered, s. Default: every offset under which at least half of the shorter list
        falls inside the other, so that a train with any period is recognised as one.
    tolerance
        Events further apart than this (s) are not the same. Default: a twentieth of the median spacing, at most 3 s; it then shrinks
        to four times the scatter found.
    max_drift
        Drifts up to this are looked for, s/s; it is also their 1 sigma before the events speak, so that many events may find a larger one.

    Returns
    -------
    Clock
        `method` is `events`. Status `ok`; `ambiguous` where another offset cannot be excluded (a regular train) or none matches more
        events than chance; `models_disagree` where the clock seems to have been set between the events; `too_few`. The uncertainty is
        scaled so that 1.96 of it is a 95 % interval, and holds the resolution of the stamps and scatter that hangs together.

    Raises
    ------
    ClockError
        Lists that are no times.

    Examples
    --------
    >>> seen = np.array([0.0, 100.0, 260.0, 300.0, 450.0, 1010.0, 1500.0, 1777.0])
    >>> clock = clock_from_events(seen, seen + 37.4)
    >>> clock.status, round(clock.offset, 3)
    ('ok', -37.4)
    """
    echem, source, origin = common_seconds(t_echem, t_source, "events")
    dropped = echem.size - np.isfinite(echem).sum() + source.size - np.isfinite(source).sum()
    slack = np.nan_to_num(np.broadcast_to(np.asarray(early, float), echem.shape), nan=np.inf)
    if (slack < 0).any():
        raise ClockError("early of clock_from_events is negative", found=float(slack.min()), expected="seconds >= 0")
    known = np.isfinite(echem) & (slack <= (_WIDEST if tolerance is None else tolerance))
    vague = int((np.isfinite(echem) & ~known).sum())
    late = math.sqrt(float(np.mean(slack[known] ** 2)) / 12) if known.any() else 0.0
    latest, within = echem[np.isfinite(echem)], np.where(known, 0.0, slack)[np.isfinite(echem)]
    echem, source = np.unique(echem[known] - slack[known] / 2), np.unique(source[np.isfinite(source)])
    for name, value in (("search", search), ("tolerance", tolerance), ("max_drift", max_drift)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ClockError(f"{name} of clock_from_events is not a positive number", found=value)
    lost = f" ({dropped} stamps that are no time left out)" if dropped else ""
    if vague:
        lost += f" ({vague} more of the electrochemistry left out: no record within {_WIDEST if tolerance is None else tolerance:g} s before them)"
    if min(echem.size, source.size) < LEAST:
        found = f"{source.size} events by the source, {echem.size} by the electrochemistry{lost}; at least {LEAST} of each are needed"
        at = origin.stamp(source[0]) if source.size else None
        return Clock(status="too_few", method="events", evidence=found, at=at)

    spacing = max(float(np.median(np.diff(echem))), float(np.median(np.diff(source))))
    widest = tolerance if tolerance is not None else min(max(spacing / 20, FLOOR), _WIDEST)
    middle = float(source[0] + source[-1]) / 2
    starts = _candidates(echem, source, middle, offset - origin.apart, search, widest, max_drift)
    laid = [_refine(echem, source, middle, *start, widest, max_drift) for start in starts]
    fits = _distinct([fit for fit in laid if fit is not None], source)
    at = origin.stamp(source[0])
    if not fits:
        none = f"no offset lays {LEAST} of {source.size} events of the source on the {echem.size} of the electrochemistry"
        return Clock(status="ambiguous", method="events", evidence=none + lost, at=at)
    best = fits[0]
    status, words = _judge(best, fits[1:], echem, source, widest, search, max_drift)
    if status == "ok" and vague:
        status, words = _hidden(best, latest, within, source, offset - origin.apart, search) or (status, words)

    # everything is told at the first stamp, where a growing list keeps it
    back = np.array([[1.0, source[0] - middle], [0.0, 1.0]])
    covariance = back @ best.covariance @ back.T
    resolution = math.hypot(_resolution(echem), _resolution(source)) / math.sqrt(12)
    uncertainty = math.hypot(math.sqrt(covariance[0, 0]), resolution, late)
    said = (
        f"{best.count} of {int(best.inside.sum())} events of the source within the common stretch lie within {best.tolerance:.2g} s of one of the "
        f"{echem.size} by the electrochemistry, scattered by {best.sigma:.2g} s{lost}; {words}"
    )
    return Clock(
        offset=best.offset + best.drift * (source[0] - middle) + origin.apart,
        drift=best.drift,
        at=at,
        uncertainty=uncertainty,
        drift_uncertainty=math.sqrt(covariance[1, 1]),
        covariance=float(np.clip(covariance[0, 1], -uncertainty * math.sqrt(covariance[1, 1]), uncertainty * math.sqrt(covariance[1, 1]))),
        method="events",
        evidence=said,
        status=status,
        profile=_profile(fits, source[0] - middle, origin.apart),
    )


# --------------------------------------------------------------------------- looking


def _candidates(
    echem: np.ndarray, source: np.ndarray, middle: float, offset: float, search: float | None, width: float, max_drift: float
) -> list[tuple[float, float]]:
    """List offsets and drifts under which many differences between the lists agree, best first."""
    some = source
    if source.size * echem.size > _PAIRS:  # a stretch of neighbours, over which a drift moves little
        n = max(_PAIRS // echem.size, 8 * LEAST)
        start = max((source.size - n) // 2, 0)
        some = source[start : start + n]
    apart = (echem[:, None] - some[None, :]).ravel()
    since = np.broadcast_to(some[None, :] - middle, (echem.size, some.size)).ravel()
    if search is not None:
        near = np.abs(apart - offset) <= search + max_drift * (source[-1] - source[0])
    else:  # at least half of the shorter list has to fall inside the other
        half = source.size // 2 if source.size <= echem.size else None
        if half is not None:
            low, high = echem[0] - source[half], echem[-1] - source[-half - 1]
        else:
            half = echem.size // 2
            low, high = echem[half] - source[-1], echem[-half - 1] - source[0]
        slack = width + max_drift * (source[-1] - source[0])
        near = (apart >= min(low, high) - slack) & (apart <= max(low, high) + slack)
    apart, since = apart[near], since[near]
    if apart.size < LEAST:
        return []
    reach = max(float(np.abs(since).max()), 1.0)
    n = min(int(math.ceil(max_drift * reach / width)), 200)
    found: list[tuple[int, float, float]] = []
    for drift in np.linspace(-max_drift, max_drift, 2 * n + 1) if n else [0.0]:
        d = np.sort(apart - drift * since)
        count = np.searchsorted(d, d + 2 * width, side="right") - np.arange(d.size)
        left = np.flatnonzero(count >= LEAST)
        for k in left[np.argsort(-count[left], kind="stable")[: 4 * _CANDIDATES]]:
            found.append((int(count[k]), float(np.median(d[k : k + count[k]])), float(drift)))
    found.sort(key=lambda c: (-c[0], abs(c[2])))
    chosen: list[tuple[float, float]] = []
    for _, where, drift in found:
        if all(abs(where - other) > 2 * width for other, _ in chosen):
            chosen.append((where, drift))
            if len(chosen) == _CANDIDATES:
                break
    return chosen


def _pairs(echem: np.ndarray, moved: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair events that are each other's nearest and not further apart than width: which of the source, and which of the electrochemistry."""
    right = np.clip(np.searchsorted(echem, moved), 1, echem.size - 1)
    nearest = np.where(moved - echem[right - 1] <= echem[right] - moved, right - 1, right)
    away = np.abs(echem[nearest] - moved)
    order = np.lexsort((away, nearest))
    first = np.ones(order.size, bool)
    first[1:] = nearest[order[1:]] != nearest[order[:-1]]
    chosen = np.sort(order[first & (away[order] <= width)])
    return chosen, nearest[chosen]


def _refine(echem: np.ndarray, source: np.ndarray, middle: float, offset: float, drift: float, width: float, max_drift: float) -> _Fit | None:
    """Fit offset and drift to the pairs, from the inside out, with a tolerance that shrinks to four times the scatter."""
    since = source - middle
    reach = float(np.abs(since).max())
    radius = min(reach, max(width / max_drift, 8 * reach / source.size))  # over which the drift of the start may be off by one width
    tolerance, covariance, sigma = width, np.zeros((2, 2)), width
    chosen = np.empty(0, np.int64)
    for turn in range(25):
        moved = source + offset + drift * since
        chosen, of = _pairs(echem, moved, tolerance)
        active = np.abs(since[chosen]) <= radius
        x, r = since[chosen][active], (echem[of] - source[chosen])[active]
        if x.size < LEAST:
            return None
        # a drift is no larger than max_drift unless the events say so: one more observation
        previous = (offset, drift, tolerance, radius)
        noise = max(sigma, FLOOR)
        normal = np.array([[x.size, x.sum()], [x.sum(), (x * x).sum() + (noise / max_drift) ** 2]])
        offset, drift = np.linalg.solve(normal, [r.sum(), (x * r).sum()])
        residual = r - offset - drift * x
        centre = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        near = np.abs(residual) <= 4 * max(centre, FLOOR)
        sigma = max(math.sqrt(float((residual[near] ** 2).sum()) / max(int(near.sum()) - 2, 1)), FLOOR)
        covariance = np.linalg.inv(normal) * sigma**2
        if radius < reach:
            radius = min(2 * radius, reach)
        elif turn > 1:
            tolerance = min(width, max(4 * sigma, 4 * FLOOR))
            if abs(offset - previous[0]) < 1e-9 and abs(drift - previous[1]) < 1e-15 and previous[2] == tolerance:
                break
    moved = source + offset + drift * since
    matched = np.zeros(source.size, bool)
    matched[chosen] = True
    inside = (moved >= echem[0] - tolerance) & (moved <= echem[-1] + tolerance)
    residual = echem[of] - moved[chosen]
    inflate = _student(chosen.size - 2) * _hanging_together(residual)
    even = float(echem.size * 2 * tolerance / max(echem[-1] - echem[0], tolerance))  # how likely an event falls on another by chance
    share = min(max(chosen.size / max(int(inside.sum()), 1), 0.05), 0.95)
    density = math.log(share / min(max(even, 1e-12), 1.0)) - 0.5 * (residual / sigma) ** 2
    fit = _Fit(float(offset), float(drift), covariance * inflate**2, sigma, tolerance, matched, inside)
    fit.log_likelihood = float(density.sum() + (int(inside.sum()) - chosen.size) * math.log1p(-share))
    return fit


def _student(degrees: int) -> float:
    """Student's 97.5 % quantile over the normal one (Cornish and Fisher's expansion): few pairs know their own scatter badly."""
    nu = max(degrees, 1)
    return (1.95996 + 2.3722 / nu + 2.8225 / nu**2 + 2.5558 / nu**3) / 1.95996


def _hanging_together(residual: np.ndarray) -> float:
    """Say how much less events tell that are late or early together (a drift that changes), as a factor on the uncertainty."""
    if residual.size < 8:
        return 1.0
    r = residual - residual.mean()
    power = float((r * r).sum())
    rho = float((r[1:] * r[:-1]).sum()) / power if power > 0 else 0.0
    return math.sqrt((1 + rho) / (1 - rho)) if rho > 2 / math.sqrt(r.size) else 1.0


def _resolution(times: np.ndarray) -> float:
    """Give the step (1 s, 0.1 s ...) of which all differences are multiples; 0 where none is coarser than a millisecond."""
    differences = np.diff(times)
    for step in (1.0, 0.1, 0.01):
        if np.all(np.abs(differences / step - np.round(differences / step)) < 1e-4):
            return step
    return 0.0


def _distinct(fits: list[_Fit], source: np.ndarray) -> list[_Fit]:
    """Keep the best of fits that came to the same place, best first."""
    out: list[_Fit] = []
    reach = float(source[-1] - source[0]) / 2
    for fit in sorted(fits, key=lambda f: -f.log_likelihood):
        if all(abs(fit.offset - o.offset) + reach * abs(fit.drift - o.drift) > o.tolerance + fit.tolerance for o in out):
            out.append(fit)
    return out


# --------------------------------------------------------------------------- judging


def _judge(
    best: _Fit, others: list[_Fit], echem: np.ndarray, source: np.ndarray, width: float, search: float | None, max_drift: float
) -> tuple[str, str]:
    """Say whether the best fit stands alone, and why or why not."""
    span = max(float(echem[-1] - echem[0]), width)
    by_chance = int(best.inside.sum()) * min(echem.size * 2 * best.tolerance / span, 1.0)
    wide = 2 * search if search is not None else span + float(source[-1] - source[0])
    tries = max(wide / best.tolerance, 1.0) * max(max_drift * (source[-1] - source[0]) / best.tolerance, 1.0)
    if best.count < LEAST or tries * _poisson_tail(best.count, by_chance) > CHANCE:
        few = min(echem.size, source.size) < 10
        return (
            "too_few" if few else "ambiguous",
            f"so many would agree by chance somewhere in {wide:.3g} s" + ("; say roughly where to look (offset: and uncertainty:)" if few else ""),
        )
    said = _set_between(echem, source, best)
    if said:
        return "models_disagree", said
    for other in (fit for fit in others if fit.share >= RIVAL * best.share):
        both = best.inside & other.inside
        mine, its = int((best.matched & ~other.matched & both).sum()), int((other.matched & ~best.matched & both).sum())
        if _majority(mine, its) <= SURE:
            continue
        away = abs(other.offset - best.offset)
        return "ambiguous", (
            f"an offset {away:.4g} s away matches {other.count} of {int(other.inside.sum())}: the events repeat themselves too regularly to tell; "
            f"say roughly where to look (offset: and uncertainty:)"
        )
    if best.share < SHARE:
        return "ambiguous", f"more than {1 - SHARE:.0%} of the events have no partner: are these lists of the same thing?"
    odd = _stops(echem, source + best.offset + best.drift * (source - float(source[0] + source[-1]) / 2), best, ODD)
    return "ok", "no other offset comes near" + (f"; but {odd}" if odd else "")


def _hidden(best: _Fit, latest: np.ndarray, within: np.ndarray, source: np.ndarray, near: float, search: float | None) -> tuple[str, str] | None:
    """Look for another offset under which the source's events fall where steps lie that are known only within an interval.

    A sweep that begins up to one record after the last one is such a step; the switch back on after it is known well, and follows at a constant
    delay: triggers of the beginnings fit the ends as sharply.
    """
    within = np.minimum(within, 600.0)
    usual = float(np.median(within[within > 0]))
    since = source - float(source[0] + source[-1]) / 2
    moved = source + best.drift * since
    if latest.size * moved.size > 4_000_000:
        latest, within = latest[:: latest.size * moved.size // 4_000_000 + 1], within[:: latest.size * moved.size // 4_000_000 + 1]
    ends = (latest[:, None] - moved[None, :] + best.tolerance).ravel()
    begins = (latest[:, None] - within[:, None] - moved[None, :] - best.tolerance).ravel()
    at = np.concatenate([begins, ends])
    order = np.argsort(at, kind="stable")
    height = np.cumsum(np.where(order < begins.size, 1, -1))
    at = at[order]
    away = float(within.max()) + 2 * best.tolerance
    out = np.abs(at - best.offset) <= away
    if search is not None:
        out |= np.abs(at - near) > search + away
    height = np.where(out, 0, height)
    span = max(float(latest.max() - (latest - within).min()), 1e-9)
    for k in np.argsort(-height, kind="stable")[:40]:
        there = at[k] + moved
        fits = ((there[None, :] <= latest[:, None] + best.tolerance) & (there[None, :] >= (latest - within)[:, None] - best.tolerance)).any(axis=0)
        inside = (there >= (latest - within).min()) & (there <= latest.max())
        its, chance = int(fits.sum()), min(float((within + 2 * best.tolerance).sum()) / span, 1.0)
        tries = max(2 * search if search is not None else span, away) / max(usual, best.tolerance)
        if its >= RIVAL * best.count and its >= RIVAL * max(int(inside.sum()), 1) and tries * _poisson_tail(its, chance * source.size) < SURE:
            return "ambiguous", (
                f"{its} events fit an offset about {at[k] - best.offset:+.4g} s away as well, where steps of the current are known only within "
                f"{usual:.3g} s: name what the events are (echem: eis, or a list), or say roughly where to look"
            )
    return None


def _set_between(echem: np.ndarray, source: np.ndarray, best: _Fit) -> str:
    """Say whether the source's clock was set somewhere between: events in a row that fit another offset, or none, or shifted by a step."""
    middle = float(source[0] + source[-1]) / 2
    moved = source + best.offset + best.drift * (source - middle)
    return _apart(echem, moved, best) or _stops(echem, moved, best, LATE) or _step(echem, moved, best)


def _apart(echem: np.ndarray, moved: np.ndarray, best: _Fit) -> str:
    """Events that the fit leaves over agree on another offset and lie in a row."""
    left, mine = moved[~best.matched], moved[best.matched]
    if left.size < LEAST:
        return ""
    apart = (echem[:, None] - left[None, :]).ravel()
    of = np.broadcast_to(np.arange(left.size), (echem.size, left.size)).ravel()
    far = np.abs(apart) > 2 * best.tolerance
    order = np.argsort(apart[far], kind="stable")
    apart, of = apart[far][order], of[far][order]
    width = 2 * best.tolerance
    stop = np.searchsorted(apart, apart + width, side="right")
    span = max(float(echem[-1] - echem[0]), width)
    expected = left.size * min(echem.size * width / span, 1.0)
    tries = max((span + float(moved[-1] - moved[0])) / width, 1.0)
    for k in np.argsort(np.arange(apart.size) - stop, kind="stable")[:20]:
        its = left[np.unique(of[k : stop[k]])]
        if its.size < LEAST or tries * _poisson_tail(its.size, expected) > CHANCE:
            return ""
        first, last = np.quantile(its, [0.1, 0.9])
        if ((mine > first) & (mine < last)).sum() <= 0.2 * its.size:
            away = float(np.median(apart[k : stop[k]]))
            part = "later" if last > mine[-1] else "earlier" if first < mine[0] else "middle"
            return f"{its.size} events of the {part} part agree on an offset {away:+.4g} s from the others': was the clock set in between?"
    return ""


def _stops(echem: np.ndarray, moved: np.ndarray, best: _Fit, chance: float) -> str:
    """The events of either list at one end have no partner: too many in a row for the rate of the others, or alike in both lists but shifted."""
    seen = np.zeros(echem.size, bool)
    seen[_pairs(echem, moved, best.tolerance)[1]] = True
    within = (echem >= moved[0] - best.tolerance) & (echem <= moved[-1] + best.tolerance)
    if not seen.any() or not best.matched.any():
        return ""
    ends: dict[str, tuple[float, str]] = {"first": (1.0, ""), "last": (1.0, "")}
    for matched, whose in ((best.matched[best.inside], "the source"), (seen[within], "the electrochemistry")):
        first, last = int(np.argmax(matched)), int(np.argmax(matched[::-1]))
        alone = (int((~matched[first : matched.size - last]).sum()) + 1) / (matched.size - first - last + 2)
        for number, where in ((first, "first"), (last, "last")):
            ends[where] = min(ends[where], (4 * alone**number, f"{number} events of {whose} have no partner, {alone:.0%} of its others have none"))
    lost, span = echem[~seen], max(float(echem[-1] - echem[0]), best.tolerance)
    begin, end = moved[best.matched][0], moved[best.matched][-1]
    for where, left, its in (("first", moved[moved < begin], lost[lost < begin]), ("last", moved[moved > end], lost[lost > end])):
        odds, words = ends[where]
        if 2 <= left.size <= 200 and its.size >= 2:
            apart = (its[:, None] - left[None, :]).ravel()
            alike = [int((np.abs((its[:, None] - left[None, :]) - d) < 2 * best.tolerance).any(axis=0).sum()) for d in apart[:400]]
            by, count = float(apart[int(np.argmax(alike))]), max(alike)
            odds *= min(apart.size * (its.size * 4 * best.tolerance / span) ** (count - 1) * math.comb(left.size, count), 1.0)
            words += f" ({count} of the source fit {by:+.4g} s away)" if count >= 2 else ""
        if odds < chance and words:
            return f"the {where} {words}: was the clock set there?"
    return ""


def _step(echem: np.ndarray, moved: np.ndarray, best: _Fit) -> str:
    """A clock that was set explains the residuals better than one that drifts, and better than a drift that changes smoothly."""
    chosen, of = _pairs(echem, moved, best.tolerance)
    n = chosen.size
    if n < 8:
        return ""
    order = np.argsort(moved[chosen])
    x = moved[chosen][order]
    r = (echem[of] - moved[chosen])[order]
    u = 2 * (x - x[0]) / max(x[-1] - x[0], 1e-9) - 1

    def left(columns: list[np.ndarray]) -> tuple[float, np.ndarray]:
        design = np.stack(columns, axis=1)
        how = np.linalg.lstsq(design, r, rcond=None)[0]
        return float(((r - design @ how) ** 2).sum()), how

    line = left([np.ones(n), u])[0]
    smooth = left([u**power for power in range(min(9, max(3, n // 5)) + 1)])[0]
    places = np.unique(np.linspace(2, n - 2, min(n - 3, 200)).astype(int))
    sets: list[tuple[int, ...]] = [(int(k),) for k in places]
    few = places if places.size <= 24 else places[:: places.size // 24 + 1]
    sets += [(int(j), int(k)) for i, j in enumerate(few) for k in few[i + 1 :]]
    best_of: dict[int, tuple[float, np.ndarray, tuple[int, ...]]] = {}
    for cuts in sets:
        square, how = left([np.ones(n), u, *((np.arange(n) >= k).astype(float) for k in cuts)])
        if len(cuts) not in best_of or square < best_of[len(cuts)][0]:
            best_of[len(cuts)] = (square, how, cuts)
    for number, (square, how, cuts) in best_of.items():
        gain = n / 2 * math.log(max(line, 1e-300) / max(square, 1e-300)) - math.log(sum(len(c) == number for c in sets)) - 2 * (number - 1)
        if gain > _STEP_SURE and square < smooth and float(np.abs(how[2:]).max()) > 10 * FLOOR:
            steps = " and ".join(f"by {-size:+.3g} s after {k / n:.0%} of the events" for size, k in zip(how[2:], cuts, strict=True))
            return f"the residuals are steps rather than a drift: was the clock set {steps}?"
    return ""


def _majority(mine: int, its: int) -> float:
    """Chance that of mine + its throws of a coin at least mine fall on one side."""
    n = mine + its
    if mine <= its:
        return 1.0
    return sum(math.comb(n, k) for k in range(mine, n + 1)) / 2**n if n < 500 else 0.5 * math.erfc((mine - its - 1) / math.sqrt(2 * n))


def _poisson_tail(count: int, mean: float) -> float:
    """Chance of at least `count` where `mean` are expected; an upper bound."""
    if count <= mean:
        return 1.0
    first = math.exp(count * math.log(max(mean, 1e-300)) - mean - math.lgamma(count + 1))
    return min(first / (1 - mean / (count + 1)), 1.0)


def _profile(fits: list[_Fit], since: float, apart: float) -> Profile:
    """Lay the candidates' peaks side by side; between them nothing fits."""
    best = fits[0].log_likelihood
    rows: dict[float, float] = {}
    steps = np.linspace(-5, 5, 41)
    for fit in reversed(fits):
        back = np.array([1.0, since])
        width = math.sqrt(float(back @ fit.covariance @ back))
        for z in steps:
            rows[fit.offset + fit.drift * since + apart + z * width] = fit.log_likelihood - best - 0.5 * z * z
    offset = np.array(sorted(rows))
    return Profile(offset, np.array([rows[o] for o in offset.tolist()]))
