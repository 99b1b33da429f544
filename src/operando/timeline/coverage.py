"""Which shift of all stamps would bring frames onto the electrochemistry: another zone, another first year."""

from __future__ import annotations

import numpy as np
import xarray as xr

HOUR = 3600.0

EPOCHS = (  # what is added to stamps that count from one year and were read as if from another
    ("from 1990 (EPICS) and were read as if from 1970", 631152000.0),
    ("from 1980 (GPS) and were read as if from 1970", 315964800.0),
    ("from 2000 and were read as if from 1970", 946684800.0),
    ("from 1904 (LabVIEW, Macintosh) and were read as if from 1970", -2082844800.0),
)
_SEVERAL = 5  # frames outside below which no zone is suspected: one begins before the cycler
_NEAR = 300.0  # s; how near a clock's offset has to come to a whole half hour or day to be taken for a slip
_WHOLE = np.arange(1.0, 14.5) * HOUR
_SHIFTS = (_WHOLE, _WHOLE - HOUR / 2, np.array([0.25, 0.75, 1.25, 2.75, 3.25, 3.75, 4.75, 5.75, 6.75, 7.75, 8.75, 12.75]) * HOUR)  # Nepal, Chatham


def zone_shift(echem: xr.Dataset, begins: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Find the whole, half or quarter hour that, added to the frames' times, would cover at least a fifth more of them.

    Parameters
    ----------
    echem
        Electrochemistry on UTC.
    begins, ends
        Of each frame, seconds since 1970.

    Returns
    -------
    tuple
        Shift in s (0 if none explains clearly more than the given zone) and the share of frames covered with it. Of shifts that explain the same,
        the smallest whole hour is given; a half hour only if it explains more than any whole one, a quarter if more than any half.
    """
    shift, share, _ = shift_of_zone(reach_of(echem), begins, ends)
    return shift, share


def reach_of(echem: xr.Dataset) -> tuple[float, float]:
    """Give the first and the last time of the electrochemistry, s since 1970."""
    time = echem["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
    return float(time.min()), float(time.max())


def shift_of_zone(reach: tuple[float, float], begins: np.ndarray, ends: np.ndarray) -> tuple[float, float, str]:
    """Give shift, share, and in words what else would explain as much."""
    low, high = np.sort(begins), np.sort(ends)

    def share(shift: float) -> float:
        early, late = np.searchsorted(low, reach[0] - shift, "left"), high.size - np.searchsorted(high, reach[1] - shift, "right")
        return max(float(low.size - early - late), 0.0) / low.size

    best, explained = 0.0, share(0.0)
    now, others = explained, ""
    for group in _SHIFTS:
        both = np.stack([group, -group], axis=1).ravel()
        shares = np.array([share(s) for s in both])
        # a frame or two may miss it by right; of what explains alike the smallest is meant, for frames often begin a little before the cycler
        k = int(np.argmax(shares >= shares.max() - 0.02))
        if shares[k] >= (explained + 0.05 if best else now + 0.2):
            best, explained = float(both[k]), float(shares[k])
        elif best and shares[k] > explained:
            others = others or f" ({both[k] / HOUR:+g} h: {shares[k]:.0%})"
    same = [s for s in _WHOLE * np.sign(best) if abs(s) > abs(best) and share(s) >= explained - 1e-9]
    return best, explained, f" (and so would any up to {same[-1] / HOUR:+g} h)" if same else others


def hours_that_cover(reach: tuple[float, float], begins: np.ndarray, ends: np.ndarray) -> tuple[float, int, int]:
    """Find the fewest whole hours by which to move frames so that hardly any of several that lie outside the electrochemistry still do.

    Returns
    -------
    tuple
        Shift in s (0 if there is none), frames outside now, frames outside then.
    """

    def outside(shift: float) -> int:
        return int(((begins + shift < reach[0]) | (ends + shift > reach[1])).sum())

    now = outside(0.0)
    if now < _SEVERAL:
        return 0.0, now, now
    for hours in _WHOLE:
        for shift in (hours, -hours):
            then = outside(float(shift))
            if then <= 0.15 * now:  # a frame or two lie before the cycler's begin by right
                return float(shift), now, then
    return 0.0, now, now


def read_as_a_slip(offset: float) -> str:
    """Say what an offset looks like that is no clock's going wrong: another zone, another first year, another day; empty if like nothing."""
    for words, shift in EPOCHS:
        for sign in (1, -1):
            if abs(offset - sign * shift) < 14 * HOUR:
                return f"stamps that count {words}" if sign > 0 else f"the reverse of stamps that count {words}"
    days = round(offset / 86400)
    if days and abs(offset - days * 86400) < _NEAR:
        return f"{days:+d} day{'s' * (abs(days) > 1)} and {offset - days * 86400:+.0f} s: a wrong date"
    halves = round(offset / HOUR * 2)
    if halves and abs(halves) <= 28 and abs(offset - halves * HOUR / 2) < _NEAR:
        return f"{halves / 2:+g} h and {offset - halves * HOUR / 2:+.0f} s: another zone; then correct timezone: and what else stands in that zone"
    return ""
