"""Exact statistics of one recorded channel over exposure windows.

A channel is a list of records (t_k, y_k) and a rule that says what the signal is between them. Every rule makes the
signal linear or constant on each interval, so mean, spread, slope and coverage of a window follow in closed form, with
the first and the last interval cut where the window cuts them. Nothing is sampled and nothing is extrapolated.

Precision comes from never adding large to small: times are differences from the window (int64 nanoseconds subtract
exactly), values are differences from a value nearby, and partial results are joined as centred moments [1]_. Speed comes
from one pass over the records of each window; where windows overlap, from a pyramid of moments over blocks of 64, 4096 ...
intervals. The same functions run as plain Python for small tasks (no compiler is loaded) and through numba for large ones.

References
----------
.. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
   variances", COMPSTAT 1982, 30-41.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from operando.contract.errors import ClockError

RULES = {"linear": 0, "step": 0, "ending": 1, "starting": 2}
"""`linear`: straight between records. `step`: straight, but held until the next record where a step lies between.
`ending`: a value speaks for the interval that ends at its record. `starting`: for the interval that begins there."""

JUMP, GAP = 1, 2
_LINEAR, _ENDING, _STARTING = 0, 1, 2
_BITS = 6  # a block of the pyramid joins 2**6 of the level below
_CHUNK = 4096  # intervals summed about one reference value before they are joined to the rest
_SMALL = 200_000  # intervals + 10 per window, about 1 us each as plain Python; loading the compiled kernels takes about 1 s

Moments = tuple[float, float, float, float, float, float]
"""Covered time, mean time, mean value, and the centred integrals of time^2, time*value and value^2, in ticks."""


class WindowStatistics(NamedTuple):
    """What `window_statistics` finds, one number per window in the order the windows were given.

    Attributes
    ----------
    mean, std
        Mean of the signal over the covered part of the window and its spread inside it; NaN where nothing is covered.
    slope
        Least-squares slope of the signal over the covered part, per second; for an instant the slope of its interval.
    coverage
        Fraction of the window that is covered, 0 to 1; for an instant 0 or 1.
    step_inside
        A step lies inside the window, its edges excluded.
    """

    mean: np.ndarray
    std: np.ndarray
    slope: np.ndarray
    coverage: np.ndarray
    step_inside: np.ndarray


# --------------------------------------------------------------------------- the arithmetic: plain Python, compiled when it pays


def _join(h: float, tm: float, ym: float, tt: float, ty: float, yy: float, b: Moments) -> Moments:
    """Join the moments of two disjoint stretches."""
    total = h + b[0]
    if total <= 0.0:
        return h, tm, ym, tt, ty, yy
    share = b[0] / total
    dt, dy, c = b[1] - tm, b[2] - ym, h * share
    return total, tm + dt * share, ym + dy * share, tt + b[3] + c * dt * dt, ty + b[4] + c * dt * dy, yy + b[5] + c * dy * dy


def _stretch(t: Any, y: Any, lo: int, hi: int, rule: int, origin: Any) -> Moments:
    """Moments of the whole intervals lo ... hi - 1, with no step and no gap among them."""
    left = t[lo]
    span = float(t[hi] - left)
    if span <= 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    half = 0.5 * span
    count = hi - lo
    u, z = t[lo : hi + 1], y[lo : hi + 1]  # indices from 0 up are known not to wrap around: only then the loop becomes SIMD
    later = 1 if rule == _ENDING else 0
    about = float(z[(count - 1) // 2 + later])
    mean, spread, s3 = 0.0, 0.0, 0.0
    for attempt in range(2):
        s1, s2, s3 = 0.0, 0.0, 0.0
        if rule == _LINEAR:
            for k in range(count):
                a, b = float(u[k] - left) - half, float(u[k + 1] - left) - half
                p, q = z[k] - about, z[k + 1] - about
                h, s = b - a, p + q
                s1 += h * s
                s2 += h * (s * s - p * q)
                s3 += h * (3.0 * (a + b) * s + h * (q - p))
            s1, s2, s3 = s1 / 2.0, s2 / 3.0, s3 / 12.0
        else:
            z = y[lo + later : hi + later]
            for k in range(count):
                a, b = float(u[k] - left) - half, float(u[k + 1] - left) - half
                p = z[k] - about
                h = b - a
                s1 += h * p
                s2 += h * p * p
                s3 += h * p * (a + b)
            s3 = s3 / 2.0
        mean = s1 / span
        spread = s2 - s1 * mean
        if attempt == 1 or not spread < 1e-6 * s1 * mean:
            break
        about += mean  # the reference was an outlier and its square swamps the spread: once more, about the mean
    return span, float(left - origin) + half, about + mean, span * span * span / 12.0, s3, max(spread, 0.0)


def _first_at_or_after(special: Any, k: int) -> int:
    lo, hi = 0, special.size
    while lo < hi:
        middle = (lo + hi) // 2
        if special[middle] < k:
            lo = middle + 1
        else:
            hi = middle
    return lo


def _whole(t: Any, y: Any, lo: int, hi: int, rule: int, special: Any, kind: Any, origin: Any) -> Moments:
    """Moments of the whole intervals lo ... hi - 1; gaps are left out, a step holds the value before it."""
    h, tm, ym, tt, ty, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    j = _first_at_or_after(special, lo)
    while lo < hi:
        stop = hi
        if j < special.size and special[j] < hi:
            stop = special[j]
        while lo < stop:
            end = min(stop, lo + _CHUNK)
            h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, _stretch(t, y, lo, end, rule, origin))
            lo = end
        if lo < hi:
            if kind[j] == JUMP:
                h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, _stretch(t, y, lo, lo + 1, _STARTING, origin))
            lo += 1
            j += 1
    return h, tm, ym, tt, ty, yy


def _part(t: Any, y: Any, k: int, a: Any, b: Any, rule: int, special: Any, kind: Any, origin: Any) -> Moments:
    """Moments of the part a ... b of interval k."""
    h = float(b - a)
    if h <= 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    j = _first_at_or_after(special, k)
    if j < special.size and special[j] == k:
        if kind[j] == GAP:
            return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        rule = _STARTING
    middle = float(a - origin) + 0.5 * h
    if rule == _LINEAR:
        slope = (y[k + 1] - y[k]) / float(t[k + 1] - t[k])
        rise = slope * h
        ym = y[k] + slope * (float(a - t[k]) + 0.5 * h)
        return h, middle, ym, h * h * h / 12.0, rise * h * h / 12.0, rise * rise * h / 12.0
    return h, middle, float(y[k + 1] if rule == _ENDING else y[k]), h * h * h / 12.0, 0.0, 0.0


def _pyramid(t: Any, y: Any, rule: int, special: Any, kind: Any, base: Any, table: Any) -> None:
    """Fill the table with the moments of every full block of every level, each about its own first record."""
    for block in range(base[1] - base[0]):
        lo = block << _BITS
        h, tm, ym, tt, ty, yy = _whole(t, y, lo, lo + (1 << _BITS), rule, special, kind, t[lo])
        row = base[0] + block
        table[row, 0], table[row, 1], table[row, 2], table[row, 3], table[row, 4], table[row, 5] = h, tm, ym, tt, ty, yy
    for level in range(1, base.size - 1):
        below = _BITS * level
        for block in range(base[level + 1] - base[level]):
            origin = t[block << (below + _BITS)]
            h, tm, ym, tt, ty, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for child in range(block << _BITS, (block + 1) << _BITS):
                r = base[level - 1] + child
                shift = float(t[child << below] - origin)
                moments = (table[r, 0], table[r, 1] + shift, table[r, 2], table[r, 3], table[r, 4], table[r, 5])
                h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, moments)
            row = base[level] + block
            table[row, 0], table[row, 1], table[row, 2], table[row, 3], table[row, 4], table[row, 5] = h, tm, ym, tt, ty, yy


def _blocks(t: Any, y: Any, lo: int, hi: int, rule: int, special: Any, kind: Any, base: Any, table: Any, origin: Any) -> Moments:
    """Moments of the whole intervals lo ... hi - 1, from the largest blocks that fit."""
    h, tm, ym, tt, ty, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    levels = base.size - 1
    while lo < hi:
        level, bits = 0, 0
        while level < levels and lo & ((1 << (bits + _BITS)) - 1) == 0 and lo + (1 << (bits + _BITS)) <= hi:
            level += 1
            bits += _BITS
        if level == 0:
            end = min(hi, ((lo >> _BITS) + 1) << _BITS)
            h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, _whole(t, y, lo, end, rule, special, kind, origin))
            lo = end
        else:
            r = base[level - 1] + (lo >> bits)
            shift = float(t[lo] - origin)
            moments = (table[r, 0], table[r, 1] + shift, table[r, 2], table[r, 3], table[r, 4], table[r, 5])
            h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, moments)
            lo += 1 << bits
    return h, tm, ym, tt, ty, yy


def _instant(t: Any, y: Any, x: Any, first: int, last: int, rule: int, special: Any, kind: Any) -> tuple[float, float, float]:
    """Value, slope per tick and coverage at one instant.

    `first` counts the records up to and with x, `last` those before x. At a record the value is the record's (the last
    of several at one time; with `ending` the first of them, because it speaks for what lies before).
    """
    n = t.size
    if first == 0 or last == n:
        return np.nan, np.nan, 0.0
    at_record = first > last
    k = first - 1  # the interval that begins at or before x
    j = _first_at_or_after(special, k)
    what = kind[j] if j < special.size and special[j] == k else 0
    open_right = k < n - 1 and what != GAP
    if at_record:
        value = y[last] if rule == _ENDING else y[k]
        if rule != _LINEAR or (open_right and what == JUMP):
            return value, 0.0, 1.0
        if open_right:
            return value, (y[k + 1] - y[k]) / float(t[k + 1] - t[k]), 1.0
        back = last - 1
        j = _first_at_or_after(special, back)
        if back < 0 or (j < special.size and special[j] == back):
            return value, 0.0, 1.0
        return value, (y[last] - y[back]) / float(t[last] - t[back]), 1.0
    if not open_right:
        return np.nan, np.nan, 0.0
    if rule == _ENDING:
        return y[k + 1], 0.0, 1.0
    if rule == _STARTING or what == JUMP:
        return y[k], 0.0, 1.0
    slope = (y[k + 1] - y[k]) / float(t[k + 1] - t[k])
    return y[k] + slope * float(x - t[k]), slope, 1.0


def _backward(t: Any) -> int:
    """Count the steps backwards in time."""
    count = 0
    earlier, later = t[:-1], t[1:]
    for k in range(later.size):
        count += later[k] < earlier[k]
    return count


def _edges(t: Any, starts: Any, stops: Any, first: Any, last: Any) -> int:
    """Count for each window the records up to its start and those before its stop; starts must not decrease.

    Each search begins where the one before ended and doubles its stride, so windows in a row cost next to nothing.
    """
    n, i, visits = t.size, 0, 0
    for w in range(starts.size):
        x, stride = starts[w], 1
        hi = i
        while hi < n and t[hi] <= x:
            i = hi + 1
            hi += stride
            stride *= 2
        hi = min(hi, n)
        while i < hi:
            middle = (i + hi) // 2
            if t[middle] <= x:
                i = middle + 1
            else:
                hi = middle
        x, stride, j = stops[w], 1, max(i - 1, 0)
        while j > 0 and t[j] >= x:  # only when the window is an instant at records that share its time
            j = max(j - stride, 0)
            stride *= 2
        hi, stride = j, 1
        while hi < n and t[hi] < x:
            j = hi + 1
            hi += stride
            stride *= 2
        hi = min(hi, n)
        while j < hi:
            middle = (j + hi) // 2
            if t[middle] < x:
                j = middle + 1
            else:
                hi = middle
        first[w], last[w] = i, j
        visits += max(j - i, 0)
    return visits


def _windows(
    t: Any,
    y: Any,
    starts: Any,
    stops: Any,
    first: Any,
    last: Any,
    rule: int,
    special: Any,
    kind: Any,
    base: Any,
    table: Any,
    per_second: float,
    out: Any,
) -> None:
    """Fill `out` (4, windows) with mean, std, slope and coverage. `first`: records <= start; `last`: records < stop."""
    n = t.size
    for w in range(starts.size):
        a, b = starts[w], stops[w]
        i, j = first[w], last[w]
        if a == b:
            mean, slope, covered = _instant(t, y, a, i, j, rule, special, kind)
            covered = covered if mean == mean else 0.0
            out[0, w], out[1, w], out[2, w], out[3, w] = mean, mean - mean, slope * per_second, covered
            continue
        h, tm, ym, tt, ty, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        if i > 0 and i < n:
            end = min(b, t[i])
            h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, _part(t, y, i - 1, a, end, rule, special, kind, a))
        if j > i:
            if base.size > 1 and j - 1 - i >= 1 << _BITS:
                inner = _blocks(t, y, i, j - 1, rule, special, kind, base, table, a)
            else:
                inner = _whole(t, y, i, j - 1, rule, special, kind, a)
            h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, inner)
            if j < n:
                h, tm, ym, tt, ty, yy = _join(h, tm, ym, tt, ty, yy, _part(t, y, j - 1, t[j - 1], b, rule, special, kind, a))
        if h <= 0.0:
            out[0, w], out[1, w], out[2, w], out[3, w] = np.nan, np.nan, np.nan, 0.0
            continue
        out[0, w] = ym
        out[1, w] = np.sqrt(yy / h)
        out[2, w] = ty / tt * per_second if tt > 0.0 else np.nan
        covered = h / float(b - a)
        out[3, w] = 1.0 if covered > 1.0 - 1e-12 else covered


_HELPERS = (_join, _stretch, _first_at_or_after, _whole, _part, _blocks, _instant)
_KERNELS = (_backward, _edges, _pyramid, _windows)


@functools.cache
def _compiled(cached: bool) -> tuple[Callable[..., Any], ...]:
    """Compile the kernels: some seconds once per machine, half a second (numba's own import) once per process afterwards."""
    import numba
    from numba.extending import register_jitable

    # sums may be reordered (that is what makes them fast); NaN and infinity keep their meaning
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    _register(register_jitable)
    try:
        return tuple(numba.njit(cache=cached, **options)(kernel) for kernel in _KERNELS)
    except RuntimeError:  # numba found no folder it may write its cache to
        return tuple(numba.njit(**options)(kernel) for kernel in _KERNELS)


@functools.cache
def _register(register_jitable: Callable[..., Any]) -> None:
    for helper in _HELPERS:
        register_jitable(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(helper)


def _run(kernel: Callable[..., Any], compiled: bool, *arguments: Any) -> Any:
    if not compiled:
        return kernel(*arguments)
    which = _KERNELS.index(kernel)
    try:
        return _compiled(True)[which](*arguments)
    except OSError:  # the cache folder filled up or went away while the result was being written
        return _compiled(False)[which](*arguments)


# --------------------------------------------------------------------------- what callers use


def window_statistics(
    times: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    *,
    rule: str = "linear",
    steps: np.ndarray | None = None,
    gaps: np.ndarray | None = None,
    compiled: bool | None = None,
    ordered: bool = False,
) -> WindowStatistics:
    """Compute exact statistics of a recorded channel over windows.

    Parameters
    ----------
    times
        Time of each record, non-decreasing (records may share a time): `datetime64`, int64 nanoseconds or float seconds.
    values
        The channel, in its own unit. An interval that takes its signal from a NaN counts as not covered.
    starts, stops
        Begin and end of each window, of the kind of `times` and in any order; equal for an instant.
    rule
        A key of `RULES`. `step` is `linear` that uses `steps`.
    steps
        Indices of the records at which a step has happened: between record k - 1 and record k, at the time of record k.
        The signal is held from k - 1 until there (rule `step` only). Every rule reports them as `step_inside`.
    gaps
        Indices of the records that end a gap: between record k - 1 and record k nothing is known.
    compiled
        Force (True) or forbid (False) the compiled kernels; by default small tasks run as plain Python.
    ordered
        True if `times` are known not to decrease, which spares one pass over them.

    Returns
    -------
    WindowStatistics
        In the order of the windows.

    Raises
    ------
    ClockError
        Times that decrease or are not numbers, or a window that ends before it begins.

    Examples
    --------
    >>> import numpy as np
    >>> found = window_statistics(np.array([0.0, 10.0]), np.array([0.0, 1.0]), np.array([2.0, 8.0]), np.array([4.0, 12.0]))
    >>> [round(float(m), 3) for m in found.mean], found.coverage.tolist()
    ([0.3, 0.9], [1.0, 0.5])
    """
    t, a, b = _ticks(times), _ticks(starts), _ticks(stops)
    if not t.dtype == a.dtype == b.dtype:
        raise ClockError("times and windows are of different kinds", found=f"{t.dtype}, {a.dtype}, {b.dtype}", expected="all int64 ns or all float s")
    y = _writeable(np.asarray(values, dtype=np.float64))
    if t.shape != y.shape or a.shape != b.shape or t.ndim != 1 or a.ndim != 1:
        raise ClockError("lengths do not fit", found=f"times {t.shape}, values {y.shape}, starts {a.shape}, stops {b.shape}")
    if (b < a).any():
        raise ClockError("a window ends before it begins", found=f"window {int(np.argmax(b < a))}")
    order = None if (a[1:] >= a[:-1]).all() else np.argsort(a, kind="stable")
    if order is not None:
        a, b = a[order], b[order]
    if compiled or (compiled is None and 10 * a.size > _SMALL):
        compiled = True
        first, last = np.empty(a.size, np.int64), np.empty(a.size, np.int64)
        visits = _run(_edges, True, t, a, b, first, last)
    else:
        first, last = np.searchsorted(t, a, side="right"), np.searchsorted(t, b, side="left")
        visits = int(np.maximum(last - first, 0).sum())
        compiled = visits + 10 * a.size > _SMALL if compiled is None else False
    if not ordered:
        backward = _run(_backward, True, t) if compiled else int((t[1:] < t[:-1]).sum())
        if backward:
            raise ClockError("times of records go backwards", found=f"at record {int(np.argmax(t[1:] < t[:-1])) + 1}")
    code = RULES[rule]
    base, table = np.zeros(1, np.int64), np.empty((0, 6))
    if visits > 2 * t.size and t.size > 1 << (_BITS + 1):
        base, table = _tables(t.size - 1)
    per_second = 1e9 if t.dtype.kind == "i" else 1.0
    out = np.empty((4, a.size))
    for missing in (False, True):
        special, kind = _special(steps, gaps, y if missing else None, rule)
        if len(base) > 1:
            _run(_pyramid, compiled, t, y, code, special, kind, base, table)
        _run(_windows, compiled, t, y, a, b, first, last, code, special, kind, base, table, per_second, out)
        if not (np.isnan(out[0]) & (out[3] > 0)).any():
            break  # almost always: values that are missing are looked for only where they spoiled a window
    inside = np.zeros(a.size, bool)
    if steps is not None and len(steps):
        at = t[np.asarray(steps)]
        inside = np.searchsorted(at, b, side="left") > np.searchsorted(at, a, side="right")
    if order is not None:
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        out, inside = out[:, back], inside[back]
    return WindowStatistics(out[0], out[1], out[2], out[3], inside)


def _ticks(times: np.ndarray) -> np.ndarray:
    """Times as a contiguous int64 (nanoseconds) or float64 (seconds) array."""
    times = np.asarray(times)
    if times.dtype.kind == "M":
        return _writeable(times.astype("datetime64[ns]", copy=False)).view(np.int64)
    return _writeable(times.astype(np.int64 if times.dtype.kind in "iu" else np.float64, copy=False))


def _writeable(array: np.ndarray) -> np.ndarray:
    """Copy what is strided or read-only: numba would compile everything again for it."""
    return np.require(array, requirements=["C", "W"])


def _special(steps: np.ndarray | None, gaps: np.ndarray | None, y: np.ndarray | None, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the intervals that are not plain, in order, and what each is."""
    jumps = np.asarray([] if steps is None or rule != "step" else steps, dtype=np.int64) - 1
    breaks = np.asarray([] if gaps is None else gaps, dtype=np.int64) - 1
    if y is not None:
        missing = np.flatnonzero(np.isnan(y))
        before = np.setdiff1d(missing - 1, jumps) if rule != "starting" else missing[:0]  # an interval that uses the value it ends with
        breaks = np.union1d(breaks, np.concatenate([before, missing if rule != "ending" else missing[:0]]))
        breaks = breaks[(breaks >= 0) & (breaks < y.size - 1)]
    if not jumps.size:
        special = np.unique(breaks)
        return special, np.full(special.size, GAP, np.int8)
    special = np.union1d(jumps, breaks)
    return special, np.where(np.isin(special, breaks), GAP, JUMP).astype(np.int8)


def _tables(intervals: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the pyramid: where each level begins, and six numbers per block (0.75 byte per record)."""
    counts = []
    while intervals >> _BITS:
        intervals >>= _BITS
        counts.append(intervals)
    base = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return base, np.empty((int(base[-1]), 6))
