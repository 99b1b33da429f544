"""Electrochemistry step by step: what each stretch of one current did, the resistance at its beginning, rests, titration pulses.

A stretch lasts from one current step to the next (STEP_INSIDE in the flags of the timeline). Its current is the SET one: what the instrument was
told (`control_current`), else the median of its records without the first. The resistance of a step is the jump of the voltage over that of the set
current,

    R(t) = (V(first record whose current is the new one) - V(last record before the current changed)) / (I set after - I set before),

ohmic drop and whatever of charge transfer and diffusion has answered by the time t of that record, which is told beside it. A record whose current
is the mean up to it may belong to both sides of the step: divided by that mean its voltage gives any resistance, so it is passed over, and says
when within its interval the current was switched.

Galvanostatic intermittent titration (Weppner and Huggins, J. Electrochem. Soc. 124 (1977) 1569): a pulse between two rests moves the equilibrium by
dEs, and the potential grows with the square root of time while it lasts, by dEt without the first jump. L^2 / D = (pi tau / 4) (dEt / dEs)^2.
"""

from __future__ import annotations

import numpy as np

REST, CHARGE, DISCHARGE = 0, 1, -1
_STILL = 1e-3  # |current| below this share of the largest is rest
_LEAST = 0.05  # a change of the set current below this share of the largest gives no resistance
_NEW = 0.05  # share of the change within which a record's current is the new one, or still the old
_STEADY = 0.05  # a stretch whose current changes by more than this share is not one of constant current
_TRANSIENT = 0.1  # share of a pulse after which the square root of time is fitted


def stretches(flagged: np.ndarray, n: int) -> np.ndarray:
    """Rows (first, one past the last record) of the stretches between current steps."""
    bounds = np.unique(np.concatenate([[0], np.flatnonzero(flagged), [n]]))
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def tabulate(
    seconds: np.ndarray,
    voltage: np.ndarray,
    current: np.ndarray,
    charge: np.ndarray,
    control: np.ndarray | None,
    flagged: np.ndarray,
    apart: np.ndarray,
    *,
    ending: bool,
    length: float | None = None,
) -> dict[str, tuple[np.ndarray, str, str]]:
    """Tabulate the stretches of a record.

    Parameters
    ----------
    seconds, voltage, current, charge
        Records in the order of measurement: s, V, A, C.
    control
        What the instrument was told, A; NaN where it did not control a current. None if it does not say.
    flagged
        First records after a current step.
    apart
        First records after a gap: no jump is taken across one.
    ending
        A record's current is the mean of the interval that ends at it.
    length
        Length of diffusion, cm; gives a coefficient.

    Returns
    -------
    dict
        Name -> (values per stretch, unit, words).
    """
    rows = stretches(flagged | apart, seconds.size)
    first, last = rows[:, 0], rows[:, 1] - 1
    level = np.array([_set(current[a:b], None if control is None else control[a:b], ending) for a, b in rows])
    steady = np.array([_is_steady(current[a:b], ending) for a, b in rows])
    largest = float(np.nanmax(np.abs(level), initial=0.0))
    way = np.where(np.abs(level) <= _STILL * largest, REST, np.sign(level)).astype(np.int8)
    level = np.where((way == REST) & np.isfinite(level), 0.0, level)
    before = np.maximum(first - 1, 0)
    joined = (first > 0) & ~apart[first]
    begin = np.where(joined, seconds[before], seconds[first])
    duration = seconds[last] - begin
    start_voltage, end_voltage = voltage[first], voltage[last]
    passed = charge[last] - np.where(joined, charge[before], charge[first])

    resistance, after = _resistances(seconds, voltage, current, rows, level, _at_end(level, current, rows, steady), joined, steady, largest, ending)

    over, slope = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for k in np.flatnonzero(way == REST):
        a, b = rows[k]
        if joined[k]:
            over[k] = voltage[before[k]] - end_voltage[k]
        slope[k] = _slope_at_end(seconds[a:b], voltage[a:b])
    equilibrium, transient, diffusion = _titration(seconds, voltage, rows, way, begin, joined, end_voltage)
    out = {
        "duration": (duration, "s", "duration of the step"),
        "set_current": (level, "A", "set current of the step"),
        "step_direction": (way, "1", "1 charge, -1 discharge, 0 rest"),
        "constant_current": (steady.astype(np.int8), "1", "1 where the current was constant, 0 where it changed (a held voltage)"),
        "voltage_start": (start_voltage, "V", "voltage of the first record of the step"),
        "voltage_end": (end_voltage, "V", "voltage of the last record of the step"),
        "step_charge": (passed, "C", "charge that passed in the step"),
        "step_resistance": (resistance, "ohm", "jump of the voltage over the change of the set current at the beginning of the step"),
        "step_resistance_time": (after, "s", "time from the switching to the record that gives the resistance, at most"),
        "overpotential": (over, "V", "voltage before a rest less that at its end"),
        "relaxation_rate": (slope, "V/s", "slope of the voltage at the end of a rest: 0 for a cell that has relaxed"),
        "gitt_equilibrium_change": (equilibrium, "V", "change of the voltage from the rest before a pulse to the rest after it"),
        "gitt_transient_change": (transient, "V", "change of the voltage during a pulse without its first jump"),
        "gitt_diffusion_time": (diffusion, "s", "L^2 / D by intermittent titration; valid where it is much longer than the pulse"),
    }
    if length is not None:
        with np.errstate(divide="ignore"):
            out["diffusion_coefficient"] = (
                length**2 / diffusion,
                "cm^2/s",
                f"diffusion coefficient by intermittent titration, length {length * 1e4:g} um",
            )
    return out


def _set(current: np.ndarray, control: np.ndarray | None, ending: bool) -> float:
    """Set current of a stretch, A."""
    if control is not None and np.isfinite(control).any():
        return float(np.nanmedian(control))
    own = current[1:] if ending and current.size > 1 else current
    own = own[np.isfinite(own)]
    return float(np.median(own)) if own.size else np.nan


def _is_steady(current: np.ndarray, ending: bool) -> bool:
    own = current[1:] if ending and current.size > 1 else current
    own = own[np.isfinite(own)]
    if own.size < 2:
        return True
    low, high = np.quantile(own, [0.05, 0.95])
    return bool(high - low <= _STEADY * max(abs(low), abs(high), 1e-300) or max(abs(low), abs(high)) < 1e-12)


def _at_end(level: np.ndarray, current: np.ndarray, rows: np.ndarray, steady: np.ndarray) -> np.ndarray:
    """Current that flowed at the end of each stretch: the set one, or where it changed the last that was recorded."""
    return np.where(steady, level, current[rows[:, 1] - 1])


def _resistances(
    seconds: np.ndarray,
    voltage: np.ndarray,
    current: np.ndarray,
    rows: np.ndarray,
    level: np.ndarray,
    left: np.ndarray,
    joined: np.ndarray,
    steady: np.ndarray,
    largest: float,
    ending: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Resistance (ohm) at the beginning of each stretch, and how long after the switching (s) it was taken; NaN where none can be given."""
    resistance, after = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for k in range(1, len(rows)):
        a, b = rows[k]
        change = level[k] - left[k - 1]
        if not joined[k] or not steady[k] or not abs(change) > _LEAST * largest:
            continue
        own = current[a:b]
        there = np.flatnonzero(np.abs(own - level[k]) <= _NEW * abs(change))
        moved = np.flatnonzero(~(np.abs(own - left[k - 1]) <= _NEW * abs(change)))
        if not there.size or not moved.size:
            continue
        first, mixed = a + int(there[0]), a + int(moved[0])
        share = (level[k] - current[mixed]) / change if ending and mixed < first else 0.0  # of the interval that lay before the switching
        switched = seconds[mixed - 1] + min(max(share, 0.0), 1.0) * (seconds[mixed] - seconds[mixed - 1])
        resistance[k] = (voltage[first] - voltage[mixed - 1]) / change
        after[k] = seconds[first] - switched
    return resistance, after


def _slope_at_end(t: np.ndarray, v: np.ndarray) -> float:
    """Slope over the last fifth of a stretch, V/s."""
    good = np.isfinite(v)
    t, v = t[good], v[good]
    tail = t >= t[-1] - 0.2 * (t[-1] - t[0]) if t.size else np.zeros(0, bool)
    if tail.sum() < 3:
        tail = np.arange(t.size) >= t.size - 3
    x = t[tail]
    if x.size < 2 or not np.ptp(x) > 0:
        return float("nan")
    x = x - x.mean()
    return float(x @ v[tail]) / float(x @ x)


def _titration(
    seconds: np.ndarray, voltage: np.ndarray, rows: np.ndarray, way: np.ndarray, begin: np.ndarray, joined: np.ndarray, end_voltage: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes of equilibrium and during the pulse (V), and the time of diffusion (s), for pulses between two rests."""
    equilibrium, transient, diffusion = (np.full(len(rows), np.nan) for _ in range(3))
    for k in range(1, len(rows) - 1):
        if not (way[k] != REST and way[k - 1] == way[k + 1] == REST and joined[k] and joined[k + 1]):
            continue
        a, b = rows[k]
        since = seconds[a:b] - begin[k]
        tau = float(since[-1])
        use = (since >= _TRANSIENT * tau) & np.isfinite(voltage[a:b])
        if use.sum() < 3 or tau <= 0:
            continue
        root = np.sqrt(since[use])
        centred = root - root.mean()
        slope = float(centred @ voltage[a:b][use]) / float(centred @ centred)
        equilibrium[k] = end_voltage[k + 1] - end_voltage[k - 1]
        transient[k] = slope * np.sqrt(tau)
        if equilibrium[k] * transient[k] > 0:
            diffusion[k] = np.pi * tau / 4 * (transient[k] / equilibrium[k]) ** 2
    return equilibrium, transient, diffusion
