"""What all battery cyclers share: net charge from counters that reset, the sign of the current, stamps refined by the test clock.

Net charge: a cycler counts charged and discharged capacity (or one capacity and a state) and sets the counters to zero
at each step or cycle. `net_charge` adds the increments up over the whole file, charging positive, so that it is
continuous; its zero is arbitrary. What flowed between the last record before a reset and the reset itself is lost (a
record interval at most).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import LoaderError, Quality

UNIFORM = 12**-0.5  # 1 sigma of a stamp that was cut to steps, per step


def segments(times: np.ndarray) -> np.ndarray:
    """Number the stretches between backward steps of a clock (seconds or datetime64)."""
    back = np.zeros(len(times), np.int32)
    back[1:] = times[1:] < times[:-1]
    return np.cumsum(back, dtype=np.int32)


def boundaries(n: int, columns: Sequence[np.ndarray | None], step_time: np.ndarray | None = None) -> np.ndarray:
    """Mark the records at which a step or a cycle begins: one of the columns changes, or the step clock goes back."""
    out = np.zeros(n, bool)
    for column in columns:
        if column is not None and n > 1:
            out[1:] |= column[1:] != column[:-1]
    if step_time is not None and n > 1:
        with np.errstate(invalid="ignore"):
            out[1:] |= step_time[1:] < step_time[:-1]
    return out


def counted(counter: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Add up a counter that is set to zero now and then.

    Parameters
    ----------
    counter
        Values >= 0 (a sign some instruments put on discharge is taken off); NaN repeats the value before.
    begins
        Records at which a step or a cycle begins.

    Returns
    -------
    numpy.ndarray
        The running sum, from the counter's first value.
    """
    values = np.abs(_held(counter))
    change = np.diff(values, prepend=values[:1])
    reset = (change < 0) & (begins | (values < 0.5 * np.roll(values, 1)))
    reset[:1] = False
    # a counter that falls at (nearly) every boundary is set to zero there even where the new step has already passed the old value
    full = begins & (np.roll(values, 1) > 0) & (change != 0)  # what stands still was not reset: the closing record of a test repeats its step
    full[:1] = False
    if full.any() and reset[full].mean() > 0.8:
        reset |= full
    return values[:1] + np.cumsum(np.where(reset, values, change)) if len(values) else values


def net_charge(charge: np.ndarray | None, discharge: np.ndarray | None, begins: np.ndarray) -> np.ndarray:
    """Give the net charge of two counters, in their unit."""
    up = counted(charge, begins) if charge is not None else 0.0
    down = counted(discharge, begins) if discharge is not None else 0.0
    return np.asarray(up - down, dtype=float)


def net_from_sign(counter: np.ndarray, sign: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Give the net charge of one unsigned counter and the direction (+1, 0, -1) of each record."""
    total = counted(counter, begins)
    steps = np.diff(total, prepend=total[:1])
    # the increment up to the first record of a rest belongs to the direction before it
    held = np.where(sign == 0, np.roll(sign, 1), sign)
    return np.cumsum(steps * held) + 0.0


def net_from_signed(counter: np.ndarray, begins: np.ndarray, flowed: np.ndarray | None = None) -> np.ndarray:
    """Give the net charge of one signed counter that is set to zero at steps.

    Parameters
    ----------
    counter
        Positive or negative, in any unit of charge.
    begins
        Records at which a step or a cycle begins.
    flowed
        At most what the current let flow since the record before, in the same unit. A fall to zero that it cannot explain is a
        reset also within a step (cyclers do so when a test is paused).
    """
    values = _held(counter)
    change = np.diff(values, prepend=values[:1])
    before = np.roll(values, 1)
    full = begins & (before != 0) & (change != 0)  # what stands still was not reset
    full[:1] = False
    falls = full & (np.abs(values) < 0.5 * np.abs(before))
    reset = full if full.any() and falls[full].mean() > 0.5 else np.zeros(len(values), bool)
    if flowed is not None:
        most = np.nan_to_num(flowed)
        reset = reset | (np.abs(change) > 5 * most + 1e-12) & (np.abs(values) <= np.maximum(1e-3 * np.abs(before), 1.5 * most))
    reset[:1] = False
    return values[:1] + np.cumsum(np.where(reset, values, change)) if len(values) else values


def _held(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    if known.all():
        return values
    if not known.any():
        return np.zeros(len(values))
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.where(last >= 0, values[np.maximum(last, 0)], values[known][0])


_CHARGE = re.compile(r"(?:^|[^a-z])(?:c|chg|charge|charging|chrg|cha)(?:$|[^a-z])|(?:^|[^a-z])ch(?:$|[^a-z])")
_DISCHARGE = re.compile(r"(?:^|[^a-z])(?:d|dchg|discharge|discharging|dischg|dischrg|dis|dch|dsc)(?:$|[^a-z])")


def direction(states: np.ndarray) -> np.ndarray:
    """Read step types (`CC DChg`, `discharge CC`, Maccor `C`/`D`/`R`) as +1 charge, -1 discharge, 0 neither."""
    words, codes = np.unique(states.astype(str), return_inverse=True)
    signs = []
    for word in words:
        text = str(word).lower().replace("_", " ")
        signs.append(-1 if _DISCHARGE.search(text) else 1 if _CHARGE.search(text) else 0)
    return np.array(signs, dtype=float)[codes]


def signed_current(current: np.ndarray, sign: np.ndarray | None, increments: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Bring a current to the sign "positive charges the cell".

    Parameters
    ----------
    current
        As written.
    sign
        Direction of each record from its state, if there is one.
    increments
        Net increments of the capacity counters, if there are any: they say which sign charges.

    Returns
    -------
    tuple
        The current, and in words what was found.
    """
    flowing = np.isfinite(current) & (current != 0)
    if sign is not None:
        out = flowing & (sign < 0)
        into = flowing & (sign > 0)
        if out.any() and (current[out] > 0).mean() > 0.9 and not (into.any() and (current[into] < 0).mean() > 0.9):
            return np.where(sign == 0, current, np.abs(current) * sign), "unsigned; the sign is that of the step type"
        if (out.any() or into.any()) and np.mean(np.r_[current[out] > 0, current[into] < 0]) > 0.9:
            return -current, "reversed: as written, discharge was positive"
        return current, "as written; agrees with the step type" if out.any() or into.any() else "as written"
    if increments is not None:
        moved = flowing & (increments != 0)
        if moved.sum() >= 5:
            agree = float((np.sign(increments[moved]) == np.sign(current[moved])).mean())
            if agree < 0.1:
                return -current, "reversed: as written, discharge was positive (by the capacity counters)"
            if (current[moved] > 0).all() and (increments[moved] < 0).any():
                return np.where(
                    increments == 0, current, np.abs(current) * np.sign(increments)
                ), "unsigned; the sign is that of the capacity counters"
            return current, "as written; agrees with the capacity counters" if agree > 0.9 else "as written; the capacity counters do not confirm it"
    return current, "as written"


def refined(
    stamps: np.ndarray, clock: np.ndarray | None, resolution: float, segment: np.ndarray, begins: np.ndarray | None = None
) -> np.ndarray | None:
    """Place records between whole-second stamps by the finer test clock beside them.

    Cyclers cut stamps to whole seconds (or minutes) but count the test in milliseconds. Within a run of records over
    which stamp minus test clock stays within one step of the stamps, the run is anchored at the earliest time that
    agrees with every stamp. The clocks drift apart and stop in pauses: a new run begins where they no longer agree, so a
    record never leaves [stamp, stamp + resolution).

    Parameters
    ----------
    stamps
        Seconds (from any origin), as written.
    clock
        Seconds of the test clock; None leaves the stamps alone.
    resolution
        Step of the stamps in seconds.
    segment
        Stretches without a backward step of the stamps.
    begins
        Records at which `clock` starts again, if it is a step clock.

    Returns
    -------
    numpy.ndarray or None
        Seconds to ADD to each stamp, in [0, resolution); None if there is nothing to refine.
    """
    if clock is None or resolution < 0.1 or len(stamps) < 2 or not np.isfinite(clock).all():
        return None
    if np.abs(clock / resolution - np.round(clock / resolution)).max() < 1e-3:
        return None  # no finer than the stamps
    offset = stamps - clock
    anchors = np.empty(len(stamps))
    fresh = boundaries(len(stamps), [segment])
    if begins is not None:
        fresh = fresh | begins
    run, low, high = 0, offset[0], offset[0]
    for i, (value, new) in enumerate(zip(offset.tolist(), fresh.tolist(), strict=True)):
        if new or value - low >= resolution or high - value >= resolution:
            anchors[run:i] = high
            run, low, high = i, value, value
        elif value > high:
            high = value
        elif value < low:
            low = value
    anchors[run:] = high
    times = anchors + clock
    for k in np.unique(segment):  # never backwards within a segment, also where one run follows another
        here = segment == k
        times[here] = np.maximum.accumulate(times[here])
    return np.clip(times - stamps, 0.0, np.nextafter(resolution, 0))


@dataclass
class Echem:
    """What a cycler's columns become: variables for `series`, quality bits, and in words what was found."""

    variables: dict[str, tuple[Any, ...]]
    quality: np.ndarray
    notes: dict[str, str]


_WRONG, _RIGHT = 0.25, 0.1  # share by which counted and integrated charge differ: not the same thing, the same thing
INTERVALS = ("instant", "ending", "starting")


def echem(
    voltage: np.ndarray,
    current: np.ndarray | None = None,
    *,
    charge: np.ndarray | None = None,
    charge_capacity: np.ndarray | None = None,
    discharge_capacity: np.ndarray | None = None,
    capacity: np.ndarray | None = None,
    cycle: np.ndarray | None = None,
    step: np.ndarray | None = None,
    step_count: np.ndarray | None = None,
    step_time: np.ndarray | None = None,
    states: np.ndarray | None = None,
    seconds: np.ndarray | None = None,
    current_sign: str | None = None,
    interval: str = "instant",
) -> Echem:
    """Make the echem variables of a cycler's columns, all in V, A, C.

    Parameters
    ----------
    voltage, current
        V; A as written, of whatever sign.
    charge
        Net charge (C) that the instrument itself keeps, positive on charge.
    charge_capacity, discharge_capacity
        Counters (C) that reset at steps or cycles.
    capacity
        One counter (C), unsigned or signed, that resets.
    cycle, step, step_count, step_time
        The instrument's own numbering; seconds of the step clock. They say where counters reset.
    states
        Step types in words.
    seconds
        Time of the records from any origin, to tell a reset counter from a charge that flowed.
    current_sign
        `charge` or `discharge`: what a positive current did; found out from states and counters by default.
    interval
        What a record's current speaks for: `instant`, the interval `ending` or `starting` at it.
    """
    n = len(voltage)
    notes: dict[str, str] = {}
    begins = boundaries(n, [cycle, step if step_count is None else None, step_count], step_time)
    sign = direction(states) if states is not None else None
    net = None
    flowed = None
    if current is not None and seconds is not None and n > 1:
        flowed = np.maximum(np.abs(current), np.abs(np.roll(current, 1))) * np.abs(np.diff(seconds, prepend=seconds[:1]))
    turns = begins
    if current is not None:
        turns = begins | boundaries(n, [np.sign(np.nan_to_num(current))])
    if charge is not None:
        net, notes["charge_from"] = net_from_signed(charge, begins, flowed), "net charge of the instrument"
        if current is not None and states is None and _off(net, current, seconds, either=current_sign is None) > _WRONG:
            other = net_from_sign(charge, np.sign(np.nan_to_num(current)), turns)
            if _off(other, current, seconds) < _RIGHT:
                net, notes["charge_from"] = other, "counter of each half cycle with the sign of the current, although its name says net charge"
    elif charge_capacity is not None or discharge_capacity is not None:
        net, notes["charge_from"] = (
            net_charge(charge_capacity, discharge_capacity, begins),
            "charge and discharge counters, added up over their resets",
        )
    if current is not None:
        if current_sign is None:
            increments = np.diff(net, prepend=net[:1]) if net is not None else None
            current, notes["current_sign"] = signed_current(current, sign, increments)
        elif current_sign in ("charge", "discharge"):
            current = current if current_sign == "charge" else -current
            notes["current_sign"] = f"positive current {current_sign}s, as configured"
        else:
            raise LoaderError("current_sign is not known", found=repr(current_sign), expected="charge or discharge: what a positive current does")
    if net is None and capacity is not None:
        known = sign if sign is not None and sign.any() else np.sign(np.nan_to_num(current)) if current is not None else None
        if (capacity < 0).any():
            net, notes["charge_from"] = net_from_signed(capacity, begins, flowed), "signed capacity counter, added up over its resets"
        elif known is not None and known.any():
            net, notes["charge_from"] = net_from_sign(capacity, known, begins), "capacity counter with the sign of the step, added up over its resets"
            if current is not None and _off(net, current, seconds) > _WRONG:
                other = net_from_signed(capacity, begins, flowed)
                if _off(other, current, seconds) < _RIGHT:
                    net, notes["charge_from"] = other, "net charge of the instrument: its capacity counter falls on discharge"
    if net is not None and current is not None and (off := _off(net, current, seconds)) > _WRONG:
        notes["charge_doubt"] = (
            f"the counter ({notes['charge_from']}) and the current times the time differ by {off:.0%}: is the unit right, or which columns are meant?"
        )
    if interval not in INTERVALS:
        raise LoaderError("interval is not known", found=repr(interval), expected=", ".join(INTERVALS))
    out: dict[str, tuple[Any, ...]] = {"voltage": ("time", voltage, "V", {"sampling": "continuous"})}
    bad = ~np.isfinite(voltage)
    if current is not None:
        out["current"] = ("time", current, "A", {"interval": interval, "long_name": "current, positive charges the cell"})
        bad = bad | ~np.isfinite(current)
    if net is not None:
        out["charge"] = ("time", net, "C", {"sampling": "continuous", "long_name": "net charge, zero arbitrary"})
    for name, values in (("cycle", cycle), ("step", step), ("step_count", step_count)):
        if values is not None:
            out[name] = ("time", _numbering(values), "1")
    if step_time is not None:
        out["step_time"] = ("time", step_time, "s")
    if states is not None:
        out["step_type"] = ("time", states.astype(object), None)
    return Echem(out, np.where(bad, int(Quality.CORRUPT), 0).astype(np.int32), notes)


def _off(net: np.ndarray, current: np.ndarray, seconds: np.ndarray | None, *, either: bool = False) -> float:
    """Give the difference between counted charge and integrated current, half cycle by half cycle, as a share of what flowed.

    0 where that cannot be told: the current has one sign only, or a pause hides what flowed. `either`: a reversed sign is no difference.
    """
    if seconds is None or len(net) < 20 or not ((current > 0).any() and (current < 0).any()):
        return 0.0
    passed = np.diff(seconds)
    whole = np.nan_to_num(current)
    flowing = passed[(whole[1:] != 0) & (passed > 0)]
    usual = (passed > 0) & (passed <= 20 * float(np.median(flowing if flowing.size else [1.0])))
    same = np.sign(whole[1:]) == np.sign(whole[:-1])
    ok = usual & same & (whole[1:] != 0)
    if ok.sum() < 20:
        return 0.0
    steps, counts = np.where(ok, 0.5 * (whole[1:] + whole[:-1]) * passed, 0.0), np.where(ok, np.diff(net), 0.0)
    signs = np.sign(whole)
    there = np.where(signs != 0, np.arange(len(signs)), 0)
    held = signs[np.maximum.accumulate(there)]  # a rest does not end a half cycle
    run = np.cumsum(held[1:] != held[:-1])
    by_current, by_counter = np.bincount(run, weights=steps), np.bincount(run, weights=counts)
    total = float(np.abs(by_current).sum())
    if total <= 0:
        return 0.0
    off = float(np.abs(by_counter - by_current).sum()) / total
    return min(off, float(np.abs(by_counter + by_current).sum()) / total) if either else off


def _numbering(values: np.ndarray) -> np.ndarray:
    """Give whole numbers as ints; anything else stays what it is."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if np.isfinite(values).all() and (values == np.round(values)).all() and np.abs(values).max(initial=0.0) < 2**53:
        return values.astype(np.int64)
    return values
