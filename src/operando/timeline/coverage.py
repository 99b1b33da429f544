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
