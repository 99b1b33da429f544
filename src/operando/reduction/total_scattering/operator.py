"""The chain from intensity to G(r) as a linear operator that is built once for a grid of Q and applied to any number of frames.

With <f>^2, <f^2> and the Compton scattering C of the composition, T = <f^2> + C, and h = Q / <f>^2::

    F(Q) = (1 - D) h (I / k - T)          S(Q) = 1 + F(Q) / Q          G(r) = 2/pi sum_Q w W(Q) F(Q) sin(Q r)

D projects on polynomials of F without a constant, Q p(Q) (P. Juhas, T. Davis, C. L. Farrow & S. J. L. Billinge, J. Appl. Cryst. 46 (2013) 560), by
least squares over the grid, weighted with its steps w: what varies too slowly in Q to be a distance goes, whether it is fluorescence, multiple
scattering or what of a background was left. n = rpoly qmax / pi terms; between two whole n the last term counts in part. W is 1 or Lorch's
sin(pi Q / qmax) / (pi Q / qmax). w are the trapezoid's weights on the series' own grid, whatever its steps.

The scale k, counts per electron unit and atom, is that of the frame itself: the ratio of I to T over the highest Q, each weighted with Q^2 / <f>^2,
where what is left of the structure averages out (Krogh-Moe and Norman's integral, whose term with the density, 2 pi^2 density, is below 0.2 % of it
from qmax = 16 on). Or k and an isotropic part b, fluorescence above all, by least squares: I = k T + b.

Errors are propagated exactly to first order: k and b are linear in I too, and with A = 2/pi sin w W (1 - D) h
dG/dI = (A - (A 1) b' - (G + A T) k') / k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.contract import ContractError

_ROWS = 256
"""Rows of the matrix that are made at once."""


@dataclass(frozen=True)
class Transformed:
    """What a batch of frames gives; errors are None where the intensities have none.

    Attributes
    ----------
    f, f_errors
        F(Q), 1/angstrom (frame, q).
    g, g_errors
        G(r), 1/angstrom^2 (frame, r).
    scale, scale_errors
        k: counts per electron unit and atom (frame).
    isotropic
        b, in units of the intensity (frame).
    """

    f: np.ndarray
    f_errors: np.ndarray | None
    g: np.ndarray
    g_errors: np.ndarray | None
    scale: np.ndarray
    scale_errors: np.ndarray | None
    isotropic: np.ndarray


def trapezoid(q: np.ndarray) -> np.ndarray:
    """Give the weights of the trapezoid on a rising grid of any steps."""
    steps = np.diff(q)
    return np.asarray(0.5 * (np.append(steps, 0.0) + np.insert(steps, 0, 0.0)))


class Operator:
    """Intensity -> F(Q), G(r) for one grid.

    Parameters
    ----------
    q
        1/angstrom, positive and rising: the channels from qmin to qmax.
    r
        angstrom.
    mean_squared, expected
        <f>^2 and <f^2> + Compton at q, electron units per atom. None: what is given is F(Q) already and keeps its scale.
    terms
        Terms of the polynomial (n = rpoly qmax / pi), any number from 0.
    lorch
        Lorch's window instead of a step.
    scale_from
        1/angstrom: the scale is found from here to qmax.
    isotropic
        Find an isotropic part beside the scale.

    Raises
    ------
    ContractError
        Fewer channels than parameters.
    """

    def __init__(
        self,
        q: np.ndarray,
        r: np.ndarray,
        mean_squared: np.ndarray | None,
        expected: np.ndarray | None,
        *,
        terms: float = 0.0,
        lorch: bool = False,
        scale_from: float = 0.0,
        isotropic: bool = False,
    ) -> None:
        self.q, self.r = np.asarray(q, float), np.asarray(r, float)
        most = int(np.ceil(terms - 1e-9))
        need = most + 2 + int(isotropic)
        high = self.q >= scale_from
        if self.q.size <= need or np.count_nonzero(high) < 2 + int(isotropic):
            raise ContractError(
                "the frames have fewer channels than the transform has parameters",
                found=f"{self.q.size} channels, {np.count_nonzero(high)} of them for the scale",
                expected=f"more than {need} channels from qmin to qmax",
                hint="widen qmin: and qmax:, or lower rpoly:",
            )
        self.weights = trapezoid(self.q)
        self.scaled = mean_squared is not None and expected is not None
        unity = np.ones_like(self.q)
        mean_squared = unity if mean_squared is None else np.asarray(mean_squared, float)
        self.gain = self.q / mean_squared if self.scaled else unity
        self.expected = 0.0 * unity if expected is None else np.asarray(expected, float)
        window = np.sinc(self.q / self.q[-1]) if lorch else np.ones_like(self.q)
        self.basis, self.share = self._polynomials(terms, most)
        self.sines = np.sin(np.multiply.outer(self.r, self.q))
        self.sines *= 2.0 / np.pi * self.weights * window
        self.k, self.b = np.zeros_like(unity), np.zeros_like(unity)
        if self.scaled:
            self.k, self.b = self._scale(high, mean_squared, isotropic)
        self.smooth = self.project(self.gain * self.expected)  # (1 - D) h T
        self.flat = self.project(self.gain)
        self._whole: np.ndarray | None = None
        self._squared: np.ndarray | None = None

    def _polynomials(self, terms: float, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Orthonormal Q p(Q) under the weights, and how much of each is taken away: all, but a part of the last."""
        if not most:
            return np.zeros((0, self.q.size)), np.zeros(0)
        x = 2.0 * self.q / self.q[-1] - 1.0
        raw = self.q[:, None] * np.polynomial.legendre.legvander(x, most - 1)
        basis = np.linalg.qr(np.sqrt(self.weights)[:, None] * raw)[0].T
        share = np.ones(most)
        share[-1] = terms - (most - 1)
        return basis, share

    def _scale(self, high: np.ndarray, mean_squared: np.ndarray, isotropic: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows that give k and b of an intensity: k = (row of k) . I."""
        weight = np.where(high, self.weights * self.q**2 / mean_squared, 0.0)
        if not isotropic:
            return weight / np.sum(weight * self.expected), np.zeros_like(weight)
        design = np.stack([self.expected, np.ones_like(weight)])
        rows = np.linalg.solve((design * weight) @ design.T, design * weight)
        return rows[0], rows[1]

    def project(self, f: np.ndarray) -> np.ndarray:
        """Take the slow polynomial off F(Q), (..., q)."""
        root = np.sqrt(self.weights)
        return np.asarray(f - ((f * root) @ self.basis.T * self.share) @ self.basis / root)

    def apply(self, intensity: np.ndarray, variance: np.ndarray | None = None) -> Transformed:
        """Transform frames.

        Parameters
        ----------
        intensity
            (frame, q), everything subtracted that is no sample. A frame with NaN, or without a positive scale, gives NaN.
        variance
            Of the intensity, or None.
        """
        intensity = np.asarray(intensity, float)
        whole = np.isfinite(intensity).all(axis=1) & (True if variance is None else np.isfinite(variance).all(axis=1))
        if not whole.all():
            intensity = np.where(whole[:, None], intensity, 0.0)
            variance = None if variance is None else np.where(whole[:, None], variance, 0.0)
        k, b = intensity @ self.k + (0.0 if self.scaled else 1.0), intensity @ self.b
        sigma = None if variance is None else np.sqrt(variance @ self.k**2)
        least = 0.0 if sigma is None else 3.0 * sigma
        k = np.where(whole & (k > least), k, np.nan)
        rows = np.flatnonzero(np.isfinite(k))
        f = np.full(intensity.shape, np.nan)
        g = np.full((intensity.shape[0], self.r.size), np.nan)
        f[rows] = self.project(self.gain * ((intensity[rows] - b[rows, None]) / k[rows, None] - self.expected))
        g[rows] = f[rows] @ self.sines.T
        f_errors = g_errors = None
        if variance is not None:
            f_errors, g_errors = np.full_like(f, np.nan), np.full_like(g, np.nan)
            f_errors[rows], g_errors[rows] = self._errors(f[rows], g[rows], k[rows], np.asarray(variance, float)[rows])
        seen = np.isfinite(k)
        return Transformed(f, f_errors, g, g_errors, k, None if sigma is None else np.where(seen, sigma, np.nan), np.where(seen, b, np.nan))

    def _errors(self, f: np.ndarray, g: np.ndarray, k: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """1 sigma of F and G, with that of the scale and the isotropic part: the variance of (A - u b' - v k') I / k, u = A 1, v = F or G + A T."""
        if self._whole is None or self._squared is None:
            self._whole = self._matrix()
            self._squared = self._whole**2
        on_f = self._squares_of_f(variance)
        on_g = (variance.astype(np.float32) @ self._squared.T).astype(float)
        both_b, both_k, cross = variance @ self.b**2, variance @ self.k**2, variance @ (self.b * self.k)
        along_k = self.project(self.gain * self.k * variance)
        total_f = f + self.smooth
        total_g = g + self.smooth @ self.sines.T
        along_k_g = ((self.k * variance).astype(np.float32) @ self._whole.T).astype(float)
        f_variance = on_f - 2.0 * total_f * along_k + total_f**2 * both_k[:, None]
        g_variance = on_g - 2.0 * total_g * along_k_g + total_g**2 * both_k[:, None]
        if self.b.any():
            flat_g = self.flat @ self.sines.T
            along_b = self.project(self.gain * self.b * variance)
            f_variance += self.flat**2 * both_b[:, None] - 2.0 * self.flat * along_b + 2.0 * self.flat * total_f * cross[:, None]
            g_variance += (
                flat_g**2 * both_b[:, None]
                - 2.0 * flat_g * ((self.b * variance).astype(np.float32) @ self._whole.T)
                + 2.0 * flat_g * total_g * cross[:, None]
            )
        return np.sqrt(np.maximum(f_variance, 0.0)) / k[:, None], np.sqrt(np.maximum(g_variance, 0.0)) / k[:, None]

    def _matrix(self) -> np.ndarray:
        """Give A, block by block. In float32: each element to 1e-7 of itself, also near r = 0, where the polynomial takes nearly all."""
        out = np.empty(self.sines.shape, np.float32)
        root = np.sqrt(self.weights)
        for a in range(0, self.r.size, _ROWS):
            rows = self.sines[a : a + _ROWS]
            out[a : a + _ROWS] = (rows - ((rows / root) @ self.basis.T * self.share) @ self.basis * root) * self.gain
        return out

    def _squares_of_f(self, variance: np.ndarray) -> np.ndarray:
        """Give sum_i ((1 - D) h)_li^2 var_i without the square matrix: D has few terms."""
        root = np.sqrt(self.weights)
        left = (self.basis * self.share[:, None]) / root  # (term, q)
        right = self.basis * root
        local = self.gain**2 * variance
        out = local * (1.0 - 2.0 * np.einsum("tq,tq->q", left, right))
        for row, one in zip(out, local, strict=True):
            middle = (right * one) @ right.T
            row += np.einsum("tq,tu,uq->q", left, middle, left, optimize=True)
        return out
