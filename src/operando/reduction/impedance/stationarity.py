"""A cell that changes while its impedance is measured: how much, and the spectra it would have shown at one moment.

A sweep takes minutes; under current, or while the cell relaxes, its first and last frequency see different cells. Where sweeps follow one another,
each frequency was measured again and again, and its value at any moment in between can be interpolated: spectra whose points all belong to one
moment (Stoynov and Savova-Stoynov, J. Electroanal. Chem. 183 (1985) 133). Nothing is extrapolated.
"""

from __future__ import annotations

import numpy as np

from operando.contract import ContractError

_SAME = 0.02  # relative difference of frequencies that are taken for the same one


def sweep_stationarity(point_time: np.ndarray, dc_voltage: np.ndarray | None, dc_current: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Say how far the cell went on during each sweep.

    Parameters
    ----------
    point_time
        When each point was done, s after the begin of its sweep, (sweep, point), NaN beyond its points.
    dc_voltage, dc_current
        Mean potential (V) and current (A) while each was measured, (sweep, point); None if they were not recorded.

    Returns
    -------
    tuple
        Change of the potential from the first to the last point (V, along the straight line through all), and charge that flowed (C); NaN where
        not known.
    """
    n = len(point_time)
    voltage, charge = np.full(n, np.nan), np.full(n, np.nan)
    for k in range(n):
        t = point_time[k]
        for values, out in ((dc_voltage, voltage), (dc_current, charge)):
            if values is None:
                continue
            good = np.isfinite(t) & np.isfinite(values[k])
            if good.sum() < 2 or not np.ptp(t[good]) > 0:
                continue
            if out is voltage:
                centred = t[good] - t[good].mean()
                out[k] = float(centred @ values[k][good]) / float(centred @ centred) * float(np.ptp(t[good]))
            else:  # a point's current is the mean until it was done
                out[k] = float(np.sum(values[k][good] * np.diff(t[good], prepend=0.0)))
    return voltage, charge


def time_consistent(frequency: np.ndarray, impedance: np.ndarray, point_moment: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Interpolate each frequency between neighbouring sweeps to one moment per sweep.

    Parameters
    ----------
    frequency
        Hz, (sweep, point), NaN beyond a sweep's points.
    impedance
        Complex ohm, (sweep, point).
    point_moment
        When each point was done, s from any origin that is the same for all sweeps, (sweep, point).
    moment
        The moment each sweep is to show, s from that origin, (sweep,).

    Returns
    -------
    numpy.ndarray
        Complex ohm, (sweep, point), at the frequencies of each sweep. NaN where no sweep before or none after has that frequency.

    Raises
    ------
    ContractError
        Arrays that do not belong together.
    """
    if not (np.shape(frequency) == np.shape(impedance) == np.shape(point_moment)) or np.shape(moment) != np.shape(frequency)[:1]:
        raise ContractError(
            "sweeps do not belong together",
            found=f"{np.shape(frequency)}, {np.shape(impedance)}, {np.shape(point_moment)}, {np.shape(moment)}",
            expected="(sweep, point), three times, and (sweep,)",
        )
    out = np.full(np.shape(impedance), complex(np.nan, np.nan))
    good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(impedance) & np.isfinite(point_moment)
    rows, columns = np.nonzero(good)
    f, z, t = frequency[good], np.asarray(impedance)[good], point_moment[good]
    order = np.argsort(f, kind="stable")
    groups = np.cumsum(np.concatenate([[0], np.diff(np.log(f[order])) > _SAME])) if f.size else np.zeros(0, int)
    for number in range(int(groups[-1]) + 1 if groups.size else 0):
        mine = order[groups == number]
        by_time = mine[np.argsort(t[mine], kind="stable")]
        when, values = t[by_time], z[by_time]
        wanted = moment[rows[mine]]
        inside = (wanted >= when[0]) & (wanted <= when[-1])
        found = np.interp(wanted, when, values.real) + 1j * np.interp(wanted, when, values.imag)
        out[rows[mine[inside]], columns[mine[inside]]] = found[inside]
    return out
