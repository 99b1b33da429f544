"""The distribution of relaxation times: an impedance as a sum of relaxations of which none is negative, and its peaks over a series.

    Z = R_inf + j w L + 1 / (j w C) + integral gamma(tau) / (1 + j w tau) dln(tau),   gamma >= 0

gamma (ohm) lies on the fixed grid tau = 10^(k/PER_DECADE) s, so that spectra of one series share it; inductive and capacitive tails have terms
of their own. The second difference of gamma is penalised (Tikhonov); how strongly is chosen by generalised cross-validation of the problem without
the sign (Golub, Heath and Wahba, Technometrics 21 (1979) 215; degrees of freedom counted 1.4-fold, or it now and then hardly smooths at all:
Cummins, Filloon and Nychka, J. Am. Stat. Assoc. 96 (2001) 233), or given. Residuals are weighted by the modulus. Ivers-Tiffee and Weber, J. Ceram.
Soc. Japan 125 (2017) 193; Wan, Saccoccio, Chen and Ciucci, Electrochim. Acta 184 (2015) 483.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from operando.contract import ConfigError

PER_DECADE = 10
LEAST = 8  # points below which nothing is said
_OTHER = 10.0  # factor by which the strength might as well be another one
_COUNTED = 1.4  # times that a degree of freedom counts when the strength is chosen
_BEYOND = 0.5  # decades of the grid beyond the frequencies
_STRENGTHS = np.logspace(-9, 1, 41)
_NEAR = 0.4  # decades by which a peak may move from one spectrum to the next
_SMALL = 0.01  # of the largest peak: lower ones are not named


@dataclass(frozen=True)
class Peak:
    """One relaxation: where it lies, and the resistance under it between its valleys.

    `errors`: by the noise and by the strength of the penalty. What of a depressed arc lies beyond the valleys belongs to its neighbours, so the
    resistance of two arcs that overlap is not that of a circuit's.
    """

    log10_tau: float
    resistance: float
    errors: float
    first: int = 0  # places of its valleys on the grid
    last: int = 0


@dataclass(frozen=True)
class Relaxation:
    """The distribution of one spectrum.

    Attributes
    ----------
    tau, gamma
        Grid (s) and distribution (ohm, per natural logarithm of tau).
    low, high
        Band of gamma: 95 % by the noise, the penalty taken for what is known beforehand, joined over a tenth and ten times its strength. A sharp
        or depressed arc is smoothed all the same: the band is that of the smoothed distribution.
    r_inf, inductance, elastance
        Resistance at infinite frequency (ohm), L (H), 1 / C (1/F; 0 without a capacitive tail).
    strength
        Of the penalty, as chosen or given.
    residuals
        Complex, fractions of the modulus, per point; NaN at points that were not used.
    """

    tau: np.ndarray
    gamma: np.ndarray
    low: np.ndarray
    high: np.ndarray
    r_inf: float
    inductance: float
    elastance: float
    strength: float
    residuals: np.ndarray
    peaks: list[Peak] = field(default_factory=list)


def grid_of(frequency: np.ndarray) -> np.ndarray:
    """Give the part of the common grid (s) that frequencies (Hz) can tell of, half a decade beyond at either end."""
    known = frequency[np.isfinite(frequency) & (frequency > 0)]
    low = -math.log10(2 * math.pi * float(known.max())) - _BEYOND
    high = -math.log10(2 * math.pi * float(known.min())) + _BEYOND
    return np.asarray(10.0 ** (np.arange(math.floor(low * PER_DECADE), math.ceil(high * PER_DECADE) + 1) / PER_DECADE))


def drt(frequency: np.ndarray, impedance: np.ndarray, *, tau: np.ndarray | None = None, strength: float | None = None) -> Relaxation | None:
    """Distribute the relaxation times of one spectrum.

    Parameters
    ----------
    frequency, impedance
        Hz and complex ohm, in any order; points that are no numbers are left out.
    tau
        Grid, s; by default that of `grid_of`.
    strength
        Of the penalty; chosen by generalised cross-validation by default.

    Returns
    -------
    Relaxation or None
        None where there are fewer than eight usable points at different frequencies.

    Raises
    ------
    ConfigError
        A strength that is no positive number.
    """
    if strength is not None and not 0 < strength < math.inf:
        raise ConfigError("the strength of the penalty is no positive number", found=strength)
    frequency, impedance = np.asarray(frequency, float), np.asarray(impedance, complex)
    posed = _posed(frequency, impedance, tau)
    if posed is None:
        return None
    good, grid, a, penalty, b, scale, w = posed
    step = math.log(10) / PER_DECADE
    chosen = _strength(np.delete(a, 1, axis=1), np.delete(penalty, 1, axis=1), b) if strength is None else strength
    x, rest, covariance = _solved(a, penalty, chosen, b)
    gamma, covariance = x[4:] * scale, covariance * scale**2
    spread = 1.96 * np.sqrt(np.diag(covariance))
    low, high = gamma - spread, gamma + spread
    peaks = _peaks(grid, gamma, covariance, step)
    errors = np.array([peak.errors**2 for peak in peaks])
    # how much is smoothed is a choice: what a tenth and ten times of it would give belongs to the uncertainty
    for other in (chosen / _OTHER, chosen * _OTHER):
        y, _, own = _solved(a, penalty, other, b)
        also, wide = y[4:] * scale, 1.96 * np.sqrt(np.diag(own)) * scale
        low, high = np.minimum(low, also - wide), np.maximum(high, also + wide)
        for k, peak in enumerate(peaks):
            errors[k] = max(errors[k], peak.errors**2 + float((also - gamma)[peak.first : peak.last + 1].sum() * step) ** 2)
    residuals = np.full(impedance.shape, complex(np.nan, np.nan))
    residuals[good] = rest[: w.size] + 1j * rest[w.size :]
    made = Relaxation(
        grid,
        gamma,
        np.maximum(low, 0.0),
        high,
        float(x[0] - x[1]) * scale,
        float(x[2]) * scale / w.max(),
        float(x[3]) * scale * w.min(),
        float(chosen),
        residuals,
    )
    made.peaks.extend(replace(peak, errors=math.sqrt(error)) for peak, error in zip(peaks, errors.tolist(), strict=True))
    return made


def _solved(a: np.ndarray, penalty: np.ndarray, strength: float, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve with one strength: unknowns (scaled), residuals, covariance of gamma."""
    from scipy.optimize import nnls

    full = np.concatenate([a, math.sqrt(strength) * penalty])
    x, _ = nnls(full, np.concatenate([b, np.zeros(len(penalty))]), maxiter=20 * a.shape[1])
    rest = b - a @ x
    return x, rest, _covariance(a, penalty, strength, x, rest)


def strength_of(frequency: np.ndarray, impedance: np.ndarray, tau: np.ndarray | None = None) -> float:
    """Give the strength of the penalty that one spectrum asks for by generalised cross-validation; NaN where it has too few points."""
    posed = _posed(np.asarray(frequency, float), np.asarray(impedance, complex), tau)
    if posed is None:
        return math.nan
    _, _, a, penalty, b, _, _ = posed
    return _strength(np.delete(a, 1, axis=1), np.delete(penalty, 1, axis=1), b)


def _posed(
    frequency: np.ndarray, impedance: np.ndarray, tau: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, np.ndarray] | None:
    """Pose the least-squares problem: usable points, grid, matrix, penalty, right side, scale of the unknowns (ohm), rad/s."""
    good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(impedance) & (np.abs(impedance) > 0)
    if np.unique(frequency[good]).size < LEAST:
        return None
    w, z = 2 * np.pi * frequency[good], impedance[good]
    grid = grid_of(frequency[good]) if tau is None else np.asarray(tau, float)
    size, scale = np.abs(z), float(np.median(np.abs(z)))
    b = np.concatenate([z.real / size, z.imag / size])
    step = math.log(10) / PER_DECADE
    tails = np.column_stack([np.ones(w.size), -np.ones(w.size), 1j * w / w.max(), -1j * w.min() / w])  # the first two: a resistance of any sign
    columns = np.column_stack([tails, step / (1 + 1j * w[:, None] * grid)]) * (scale / size[:, None])
    a = np.concatenate([columns.real, columns.imag])
    penalty = np.zeros((grid.size - 2, a.shape[1]))
    penalty[:, 4:] = np.diff(np.eye(grid.size), 2, axis=0) * math.sqrt(PER_DECADE**3)
    return good, grid, a, penalty, b, scale, w


def _strength(a: np.ndarray, penalty: np.ndarray, b: np.ndarray) -> float:
    """Choose the strength by generalised cross-validation, for all candidates from one decomposition."""
    from scipy.linalg import eigh

    m, p = a.T @ a, penalty.T @ penalty
    ridge = 1e-12 * float(np.trace(m)) / len(m)
    # (m + p)-orthonormal directions v: v'pv = s, v'mv = 1 - s
    s, v = eigh(p, m + p + ridge * np.eye(len(m)))
    s = np.clip(s, 0.0, 1.0)
    c = v.T @ (a.T @ b)
    d = (1 - s)[None, :] + _STRENGTHS[:, None] * s
    squares = float(b @ b) - 2 * (c**2 / d).sum(axis=1) + ((1 - s) * c**2 / d**2).sum(axis=1)
    freedom = ((1 - s) / d).sum(axis=1)
    score = np.maximum(squares, 1e-300) / np.maximum(b.size - _COUNTED * freedom, 1.0) ** 2
    return float(_STRENGTHS[int(np.argmin(score))])


def _covariance(a: np.ndarray, penalty: np.ndarray, strength: float, x: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Covariance of gamma (scaled) where it is not held at zero: that of the posterior with the penalty as its prior."""
    free = x > 0
    out = np.zeros((x.size - 4, x.size - 4))
    some, smooth = a[:, free], penalty[:, free]
    normal = some.T @ some + strength * (smooth.T @ smooth)
    normal += 1e-12 * float(np.trace(normal)) / max(len(normal), 1) * np.eye(len(normal))
    inverse = np.linalg.inv(normal)
    freedom = float(np.trace(inverse @ (some.T @ some)))
    variance = float(rest @ rest) / max(rest.size - freedom, 1.0)
    places = np.flatnonzero(free)
    inner = places >= 4
    rows = places[inner] - 4
    out[np.ix_(rows, rows)] = variance * inverse[np.ix_(inner, inner)]
    return out


def _peaks(tau: np.ndarray, gamma: np.ndarray, covariance: np.ndarray, step: float) -> list[Peak]:
    """Find the peaks that stand out of the band; those cut by the end of the grid are tails, not peaks."""
    from scipy.signal import find_peaks

    if not gamma.max() > 0:
        return []
    sd = np.sqrt(np.diag(covariance))
    tops, found = find_peaks(gamma, prominence=_SMALL * float(gamma.max()))
    out = []
    for top, prominence in zip(tops.tolist(), found["prominences"].tolist(), strict=True):
        if prominence < 1.96 * sd[top]:
            continue
        valley = top
        while valley > 0 and gamma[valley - 1] < gamma[valley]:
            valley -= 1
        end = top
        while end < gamma.size - 1 and gamma[end + 1] < gamma[end]:
            end += 1
        weight = np.zeros(gamma.size)
        weight[valley : end + 1] = step
        resistance = float(weight @ gamma)
        centre = float((weight * gamma) @ np.log10(tau)) / resistance
        out.append(Peak(centre, resistance, math.sqrt(max(float(weight @ covariance @ weight), 0.0)), valley, end))
    return out


def track(spectra: Sequence[Sequence[Peak]], *, share: float = 0.2) -> list[list[Peak | None]]:
    """Follow peaks through a series: each spectrum's go to the tracks nearest in time constant, none further than 0.4 decades.

    Parameters
    ----------
    spectra
        Peaks of each spectrum, in order.
    share
        Tracks seen in fewer of the spectra (and in fewer than two) are dropped.

    Returns
    -------
    list
        One row per track, in the order of their median time constants, the fastest first; None where it was not seen.
    """
    from scipy.optimize import linear_sum_assignment

    tracks: list[list[Peak | None]] = []
    last: list[float] = []
    for number, peaks in enumerate(spectra):
        for row in tracks:
            row.append(None)
        if not peaks:
            continue
        taken: set[int] = set()
        if tracks:
            cost = np.abs(np.array(last)[:, None] - np.array([peak.log10_tau for peak in peaks]))
            for i, k in zip(*linear_sum_assignment(np.minimum(cost, 10 * _NEAR)), strict=True):
                if cost[i, k] <= _NEAR:
                    tracks[i][number] = peaks[k]
                    last[i] = peaks[k].log10_tau
                    taken.add(int(k))
        for k, peak in enumerate(peaks):
            if k not in taken:
                tracks.append([None] * number + [peak])
                last.append(peak.log10_tau)
    least = max(share * len(spectra), min(2, len(spectra)))
    kept = [row for row in tracks if sum(peak is not None for peak in row) >= least]
    return sorted(kept, key=lambda row: float(np.median([peak.log10_tau for peak in row if peak is not None])))
