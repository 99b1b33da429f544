"""Differential capacity and differential voltage without ringing.

dQ/dV is how much charge passes per volt. Differences of neighbouring records divide noise by noise; here the charge of each interval between records
is laid evenly over the voltages it spans and added up, as in a histogram: nothing rings, nothing turns negative, and the integral over voltage is the
charge that passed, whatever the width. dV/dQ is the slope of the straight line that fits the voltage best over a stretch of charge, in closed form
from running integrals of 1, Q, V and QV along the record. Bloom et al., J. Power Sources 139 (2005) 295.
"""

from __future__ import annotations

import numpy as np

_POINT = 1e-4  # V; what an interval without a change of voltage is laid over


def capacity_per_volt(voltage: np.ndarray, charge: np.ndarray, edges: np.ndarray, smooth: float = 0.0) -> np.ndarray:
    """Charge per volt in bins of voltage.

    Parameters
    ----------
    voltage, charge
        Records of one half cycle, V and C.
    edges
        Edges of the bins, V, evenly spaced.
    smooth
        1 sigma of a Gaussian that the result is smoothed with, V; its integral stays.

    Returns
    -------
    numpy.ndarray
        C/V per bin, NaN where nothing passed in the half cycle.
    """
    dq = np.diff(charge)
    low, high = np.minimum(voltage[1:], voltage[:-1]), np.maximum(voltage[1:], voltage[:-1])
    good = np.isfinite(dq) & np.isfinite(low) & np.isfinite(high) & (dq != 0)
    out = np.full(edges.size - 1, np.nan)
    if not good.any():
        return out
    dq, low, high = np.abs(dq[good]), low[good], high[good]
    narrow = high - low < _POINT
    middle = (low + high) / 2
    low, high = np.where(narrow, middle - _POINT / 2, low), np.where(narrow, middle + _POINT / 2, high)
    density = dq / (high - low)

    def ramp(corner: np.ndarray) -> np.ndarray:
        """Sum of density * max(edge - corner, 0) at each edge."""
        order = np.argsort(corner)
        k = np.searchsorted(corner[order], edges, side="right")
        first = np.concatenate([[0.0], np.cumsum(density[order])])
        moment = np.concatenate([[0.0], np.cumsum((density * (corner - edges[0]))[order])])
        return np.asarray(first[k] * (edges - edges[0]) - moment[k])

    passed = ramp(low) - ramp(high)
    out = np.diff(passed) / np.diff(edges)
    if smooth > 0:
        width = float(edges[1] - edges[0])
        reach = max(int(np.ceil(4 * smooth / width)), 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * width / smooth) ** 2)
        kernel /= kernel.sum()
        padded = np.pad(out, reach, mode="symmetric")
        out = np.convolve(padded, kernel, mode="valid")
    return np.maximum(out, 0.0)


def volt_per_capacity(voltage: np.ndarray, charge: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    """Slope of the voltage along the charge.

    Parameters
    ----------
    voltage, charge
        Records of one half cycle, V and C.
    at
        Charge since the begin of the half cycle, C, where the slope is wanted.
    width
        Stretch of charge over which a line is fitted, C.

    Returns
    -------
    numpy.ndarray
        V/C; NaN where less than half of the stretch lies inside the half cycle.
    """
    q, v = np.abs(charge - charge[0]), voltage
    forward = np.concatenate([[True], q[1:] > np.maximum.accumulate(q)[:-1]]) & np.isfinite(v) & np.isfinite(q)
    q, v = q[forward], v[forward]
    if q.size < 3 or not width > 0:
        return np.full(at.size, np.nan)
    dq = np.diff(q)
    middle = (q[1:] + q[:-1]) / 2
    # running integrals along q of v and q v, v linear between records
    one = np.concatenate([[0.0], np.cumsum(dq * (v[1:] + v[:-1]) / 2)])
    slope = np.diff(v) / dq
    two = np.concatenate([[0.0], np.cumsum(dq * middle * (v[1:] + v[:-1]) / 2 + slope * dq**3 / 12)])
    low, high = np.clip(at - width / 2, q[0], q[-1]), np.clip(at + width / 2, q[0], q[-1])

    def until(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = np.clip(np.searchsorted(q, x, side="right") - 1, 0, dq.size - 1)
        u = x - q[k]
        end = v[k] + slope[k] * u
        return one[k] + u * (v[k] + end) / 2, two[k] + u * (q[k] + x) / 2 * (v[k] + end) / 2 + slope[k] * u**3 / 12

    (one_low, two_low), (one_high, two_high) = until(low), until(high)
    size, centre = high - low, (high + low) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        out = 12 * ((two_high - two_low) - centre * (one_high - one_low)) / size**3
    return np.where(size >= 0.5 * width, out, np.nan)
