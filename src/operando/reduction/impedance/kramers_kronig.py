"""Whether a spectrum is one of a linear, causal system that stays as it is: the linear Kramers-Kronig test, and the drift within a sweep.

A sum of relaxations, R + jwL + 1/(jwC) + sum_k R_k / (1 + jw tau_k) with fixed tau_k, obeys the Kramers-Kronig relations whatever its R_k; what it
cannot follow does not obey them (Boukamp, J. Electrochem. Soc. 142 (1995) 1885). How many relaxations are allowed is chosen by Akaike's criterion.
Each question put to what remains has a stated rate at which a clean spectrum fails.

Noise need not be the same fraction of the modulus everywhere: how large it is is read from differences of neighbouring residuals, smoothed over a
dozen frequencies, and points count accordingly. Two questions are asked:

- Is it noise? Noise of neighbouring frequencies is independent, what a nonlinearity leaves is not. The statistic is that of Durbin and Watson
  (Biometrika 37 (1950) 409; 38 (1951) 159), whose mean and variance for these very residuals are known.
- Did the impedance change during the sweep? Low frequencies take nearly all of its time, so a drift bends the spectrum there as no valid
  spectrum bends: Z(1 + d u), u the time since the middle of the sweep in units of its duration, is fitted with d beside the relaxations. How many
  these are is averaged over (weights by Akaike's criterion), and what it changes is part of the uncertainty of d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEAST = 8  # points below which nothing is said
PER_DECADE = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8)  # relaxations that are tried
BEYOND = 5.0  # the slowest relaxation is slower than the lowest frequency by this factor, so that a tail is followed
_WINDOW = 13  # frequencies over which the size of the noise is smoothed
_MORE = 2  # choices of more relaxations with which it is asked whether the residuals are noise
_FLAT = 4.0  # AICc is divided by this in weights, where exp(-AICc / 2) would trust one model too much


@dataclass(frozen=True)
class KramersKronig:
    """The outcome for one spectrum.

    Attributes
    ----------
    residuals
        Complex, fractions of the modulus, per point; NaN at points that were not used.
    noise
        1 sigma of the scatter between neighbouring frequencies, a fraction of the modulus (real and imaginary part alike).
    p
        How often noise alone hangs together as much as these residuals do.
    drift, drift_errors
        By what fraction the impedance changed from the begin of the sweep to its end, and 1 sigma; NaN where that cannot be told.
    relaxations
        Relaxations that were allowed.
    """

    residuals: np.ndarray
    noise: float
    p: float
    drift: float
    drift_errors: float
    relaxations: int

    @property
    def rms(self) -> float:
        """Root mean square of real and imaginary residuals, a fraction of the modulus."""
        known = self.residuals[np.isfinite(self.residuals)]
        return math.sqrt(float(np.mean(np.abs(known) ** 2)) / 2) if known.size else math.nan

    @property
    def p_drift(self) -> float:
        """How often a spectrum that stays as it is seems to drift as much as this one."""
        return math.erfc(abs(self.drift) / self.drift_errors / math.sqrt(2)) if self.drift_errors > 0 else math.nan

    def passes(self, rate: float = 0.01) -> bool | None:
        """Whether the spectrum passes both questions, of which a clean one fails either at this rate in all; None if neither can be asked."""
        asked = [p for p in (self.p, self.p_drift) if math.isfinite(p)]
        return min(asked) >= rate / len(asked) if asked else None


def kk_residuals(frequency: np.ndarray, impedance: np.ndarray, point_time: np.ndarray | None = None) -> KramersKronig:
    """Test one spectrum.

    Parameters
    ----------
    frequency, impedance
        Hz and complex ohm, in any order; points that are no numbers are left out.
    point_time
        When each point was measured, s. Default: one period of each frequency after the other, in the order given.

    Returns
    -------
    KramersKronig
        Of NaN where there are fewer than eight usable points at different frequencies.

    Notes
    -----
    A drift of a third of what the noise allows to be seen is not seen: `drift_errors` says how much that is.
    """
    frequency, impedance = np.asarray(frequency, float), np.asarray(impedance, complex)
    good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(impedance) & (np.abs(impedance) > 0)
    out = np.full(impedance.shape, complex(np.nan, np.nan))
    places = np.flatnonzero(good)
    if point_time is not None and np.isfinite(np.asarray(point_time, float)[places]).all():
        u = np.asarray(point_time, float)[places]
    else:
        u = np.cumsum(1 / frequency[places])
    order = np.argsort(frequency[places], kind="stable")
    places, u = places[order], u[order]
    if np.unique(frequency[places]).size < LEAST:
        return KramersKronig(out, math.nan, math.nan, math.nan, math.nan, 0)
    w, z = 2 * np.pi * frequency[places], impedance[places]
    since = np.tile((u - (u.min() + u.max()) / 2) / max(float(np.ptp(u)), 1e-300), 2)
    size = np.abs(z)
    first = _fitted(w, z, size, since)
    if first is None:
        return KramersKronig(out, math.nan, math.nan, math.nan, math.nan, 0)
    local = _local(first.rest_of_more)
    found = _fitted(w, z, size * local, since) or first
    half = w.size
    out[places] = (found.rest[:half] + 1j * found.rest[half:]) * local
    noise = _noise(found.rest, found.basis) * math.sqrt(float(np.mean(local**2)))
    # asked with both weights, and both have to say so: those that were read from the residuals make them look a little more alike than they are
    p = max(_hangs_together(one.rest_of_more, one.basis_of_more) for one in (first, found))
    return KramersKronig(out, noise, p, *found.drift, found.relaxations)


@dataclass(frozen=True)
class _Fitted:
    """What fits of a spectrum leave, each of the best number of relaxations and of a few more; residuals as fractions of what points count by."""

    rest: np.ndarray
    basis: np.ndarray
    rest_of_more: np.ndarray
    basis_of_more: np.ndarray
    drift: tuple[float, float]
    relaxations: int


def _fitted(w: np.ndarray, z: np.ndarray, size: np.ndarray, since: np.ndarray) -> _Fitted | None:
    """Fit sums of relaxations of every number that is tried, with and without a drift."""
    y = np.concatenate([z.real / size, z.imag / size])
    n, decades = y.size, math.log10(BEYOND * w[-1] / w[0])
    tried: list[tuple[float, np.ndarray, np.ndarray, int]] = []
    drifts: list[tuple[float, float, float]] = []
    for per in PER_DECADE:
        number = max(2, round(per * decades) + 1)
        columns = number + 3
        if n < 1.3 * columns + 5 and tried or n < columns + 4:
            break
        basis, _ = np.linalg.qr(_columns(w, number, size))
        smooth = basis @ (basis.T @ y)
        rest = y - smooth
        tried.append((_aicc(float(rest @ rest), n, columns), rest, basis, number))
        turned = since * smooth  # not of the measured values: their noise would be taken for a drift
        turned = turned - basis @ (basis.T @ turned)
        power = float(turned @ turned)
        if power > 0:
            d = float(turned @ rest) / power
            left = rest - d * turned
            squares = float(left @ left)
            # what points are off by where they tell of a drift, not on average (MacKinnon and White, J. Econometrics 29 (1985) 305)
            leverage = np.einsum("ij,ij->i", basis, basis) + turned**2 / power
            own = float(((turned * left / np.maximum(1 - leverage, 0.05)) ** 2).sum()) / power**2
            drifts.append((_aicc(squares, n, columns + 1), d, max(own, squares / max(n - columns - 1, 1) / power)))
    if not tried:
        return None
    best = int(np.argmin([score for score, *_ in tried]))
    _, rest, basis, number = tried[best]
    # whether it is noise is asked with a few relaxations more: what the best choice leaves of a sharp arc would be taken for something
    _, finer, wider, _ = tried[min(best + _MORE, len(tried) - 1)]
    return _Fitted(rest, basis, finer, wider, _averaged(drifts), number)


def _local(rest: np.ndarray) -> np.ndarray:
    """How large the noise is at each frequency against its mean, from second differences of real and imaginary residuals."""
    half = rest.size // 2
    parts = np.stack([rest[:half], rest[half:]])
    second = (parts[:, 2:] - 2 * parts[:, 1:-1] + parts[:, :-2]) ** 2 / 6
    power = np.pad(second.mean(axis=0), 1, mode="edge")
    reach = min(_WINDOW, half)
    kernel = np.ones(reach) / reach
    padded = np.pad(power, (reach // 2, reach - 1 - reach // 2), mode="reflect")
    smooth = np.convolve(padded, kernel, mode="valid")
    mean = float(smooth.mean())
    if not mean > 0:
        return np.ones(half)
    return np.asarray(np.sqrt(np.maximum(smooth / mean, 1e-3)))


def _aicc(squares: float, n: int, k: int) -> float:
    return n * math.log(max(squares, 1e-300) / n) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)


def _averaged(rows: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Mean over models of what each gives, and 1 sigma of it with what the choice of a model changes (Buckland et al., Biometrics 53 (1997) 603)."""
    if not rows:
        return math.nan, math.nan
    score, value, variance = np.array(rows).T
    weight = np.exp((score.min() - score) / _FLAT)
    weight /= weight.sum()
    mean = float(weight @ value)
    return mean, math.sqrt(float(weight @ variance + weight @ (value - mean) ** 2))


def _columns(w: np.ndarray, number: int, size: np.ndarray) -> np.ndarray:
    """Real and imaginary parts of what a spectrum is made of, as fractions of its modulus, each column of length one."""
    tau = np.geomspace(1 / w[-1], BEYOND / w[0], number)
    relaxations = 1 / (1 + 1j * w[:, None] * tau)
    one = np.ones(w.size)
    made = np.column_stack([one.astype(complex), 1j * w / w[-1], -1j * w[0] / w, relaxations]) / size[:, None]
    stacked = np.concatenate([made.real, made.imag])
    return np.asarray(stacked / np.linalg.norm(stacked, axis=0))


def _differences(x: np.ndarray) -> np.ndarray:
    """Differences of neighbours along the first axis, real and imaginary halves apart."""
    half = x.shape[0] // 2
    return np.concatenate([np.diff(x[:half], axis=0), np.diff(x[half:], axis=0)])


def _moments(basis: np.ndarray) -> tuple[float, float, float]:
    """Mean and variance of the Durbin-Watson ratio for white noise seen through this fit, and the degrees of freedom.

    With M the projection off the basis and A the matrix of the sum of squared differences, the ratio e'MAMe / e'Me has the mean tr(MA) / f and
    the variance 2 (f tr(MAMA) - tr(MA)^2) / (f^2 (f + 2)).
    """
    n, k = basis.shape
    turned = _differences(basis)
    small = turned.T @ turned
    free = n - k
    half = n // 2
    # A is two blocks of the second difference: ends 1, inside 2 on the diagonal, -1 beside it
    trace = 2.0 * (2 * half - 2)
    square = 2.0 * (2 * 1 + 4 * (half - 2) + 2 * (half - 1))
    again = _second(basis)
    first = trace - float(np.trace(small))
    second = square - 2 * float((again * again).sum()) + float((small * small).sum())
    return first / free, 2 * (free * second - first**2) / (free**2 * (free + 2)), free


def _second(x: np.ndarray) -> np.ndarray:
    """Multiply by the matrix of the sum of squared differences, half by half."""
    out = np.empty_like(x)
    half = x.shape[0] // 2
    for lo, hi in ((0, half), (half, 2 * half)):
        step = np.diff(x[lo:hi], axis=0)
        out[lo:hi] = np.concatenate([-step[:1], step[:-1] - step[1:], step[-1:]])
    return out


def _hangs_together(rest: np.ndarray, basis: np.ndarray) -> float:
    """Probability that noise gives a ratio as low as this one (normal approximation of a ratio of quadratic forms)."""
    mean, variance, free = _moments(basis)
    power = float(rest @ rest)
    if power <= 0 or variance <= 0 or free < 4:
        return math.nan
    step = _differences(rest)
    ratio = float(step @ step) / power
    return 0.5 * math.erfc((mean - ratio) / math.sqrt(2 * variance))


def _noise(rest: np.ndarray, basis: np.ndarray) -> float:
    """Scatter between neighbours, a fraction of the modulus: what noise of this size leaves in the differences after this fit."""
    mean, _, free = _moments(basis)
    step = _differences(rest)
    expected = mean * free
    return math.sqrt(float(step @ step) / expected) if expected > 0 else math.nan
