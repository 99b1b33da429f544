r"""The pattern of one phase and its derivatives, on a grid of 2theta.

A reflection of strength m|F|^2 has the area (degrees) of

    strength LP(theta) P,       LP = (1 + K cos^2(2 theta)) / ((1 + K) sin^2(theta) cos(theta))

K = 0 where polarisation was corrected before (as pyFAI does), cos^2 of the monochromator's 2theta or 1 for a sealed tube; with a slit that opens
with the angle the area is multiplied by sin(theta). P is March's factor for preferred orientation.

Its profile is the pseudo-Voigt of Thompson, Cox & Hastings, J. Appl. Cryst. 20 (1987) 79, with the FWHM of its Gaussian part
Gg^2 = U tan^2 + V tan + W (Caglioti et al., Nucl. Instrum. 3 (1958) 223) and of its Lorentzian part Gl = X / cos + Y tan: X of small crystallites,
Y of strain. A Lorentzian is lowered by what it is `tails` FWHM from its centre, where it ends, and scaled to its whole area: it ends without a step.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

FIXED = 9
"""Columns before those of the metric: pattern, zero, shift, W, V, U, X, Y, texture."""
PATTERN, ZERO, SHIFT, W, V, U, X, Y, TEXTURE = range(FIXED)


@functools.cache
def kernels() -> Any:
    """Compile the loop; numba is imported when a pattern is first computed."""
    from numba import njit

    @njit(nogil=True, fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
    def columns(two_theta, inverse, terms, strength, texture, slope, waves, shares, widths, place, optics, tails, wanted, out):  # type: ignore[no-untyped-def]  # pragma: no cover  # noqa: E501
        """Add a phase's pattern (unit scale) and its derivatives to `out` (column, channel).

        inverse, terms, strength, texture, slope: per family, 1/d^2, its derivatives by the free metric, strength, March's factor, its slope in r.
        widths: U, V, W, X, Y, extra FWHM (degrees). place: zero, shift (degrees), kind of shift. optics: K, 1 for an opening slit.
        """
        n = two_theta.size
        lower, upper = two_theta[0], two_theta[n - 1]
        gauss_u, gauss_v, gauss_w, size, strain, extra = widths[0], widths[1], widths[2], widths[3], widths[4], widths[5]
        free = terms.shape[1]
        ln2 = 0.6931471805599453
        norm_g = 2.0 * np.sqrt(ln2 / np.pi)
        to_degrees = 180.0 / np.pi
        p = np.empty(n)
        dc = np.empty(n)
        dl = np.empty(n)
        dg = np.empty(n)
        for w in range(waves.size):
            for k in range(inverse.size):
                sine = waves[w] / 2.0 * np.sqrt(inverse[k])
                if sine <= 0.0 or sine >= 0.9999:
                    continue
                cosine = np.sqrt(1.0 - sine * sine)
                theta = np.arcsin(sine)
                tan = sine / cosine
                twice = 2.0 * theta
                if place[2] == 1.0:
                    lever = -cosine  # sample above the axis of a goniometer
                elif place[2] == 2.0:
                    lever = 2.0 * sine * cosine * (1.0 - 2.0 * sine * sine)  # sin(4 theta) / 2: sample nearer to a flat detector
                else:
                    lever = 2.0 * sine * cosine  # sin(2 theta): sample off the axis of a Debye-Scherrer camera, along the beam
                centre = twice * to_degrees + place[0] + place[1] * lever
                square = gauss_u * tan * tan + gauss_v * tan + gauss_w + extra * extra
                # never below 0, and without a kink there: U, V and W may make it negative where no line is
                root = np.sqrt(square * square + 4e-10)
                steep = 0.5 * (1.0 + square / root)
                square = 0.5 * (square + root)
                g = np.sqrt(square)
                l = size / cosine + strain * tan  # noqa: E741
                if l < 1e-9:
                    l = 1e-9  # noqa: E741
                g2, g3, l2, l3 = g * g, g * g * g, l * l, l * l * l
                five = g2 * g3 + 2.69269 * g2 * g2 * l + 2.42843 * g3 * l2 + 4.47163 * g2 * l3 + 0.07842 * g * l2 * l2 + l2 * l3
                fwhm = five**0.2
                by_g = (5 * g2 * g2 + 10.77076 * g3 * l + 7.28529 * g2 * l2 + 8.94326 * g * l3 + 0.07842 * l2 * l2) / (5 * five / fwhm)
                by_l = (2.69269 * g2 * g2 + 4.85686 * g3 * l + 13.41489 * g2 * l2 + 0.31368 * g * l3 + 5 * l2 * l2) / (5 * five / fwhm)
                q = l / fwhm
                eta = 1.36603 * q - 0.47719 * q * q + 0.11116 * q * q * q
                by_q = 1.36603 - 0.95438 * q + 0.33348 * q * q
                eta_g = -by_q * l * by_g / (fwhm * fwhm)
                eta_l = by_q * (1.0 - q * by_l) / fwhm
                if centre + tails * fwhm < lower or centre - tails * fwhm > upper:
                    continue
                a = np.searchsorted(two_theta, centre - tails * fwhm)
                b = np.searchsorted(two_theta, centre + tails * fwhm)
                if b <= a:
                    continue
                cos2 = 1.0 - 2.0 * sine * sine
                area = strength[k] * shares[w] * (1.0 + optics[0] * cos2 * cos2) / ((1.0 + optics[0]) * sine * sine * cosine)
                if optics[1] == 1.0:
                    area *= sine
                scale = area * texture[k]
                inv = 1.0 / fwhm
                edge = 1.0 / (1.0 + 4.0 * tails * tails)
                cl = inv / (np.arctan(2.0 * tails) - 2.0 * tails * edge)
                cg = norm_g * inv
                for i in range(a, b):
                    u = (two_theta[i] - centre) * inv
                    bell = 1.0 / (1.0 + 4.0 * u * u)
                    lorentz = cl * (bell - edge)
                    p[i] = eta * lorentz
                    dc[i] = eta * cl * 8.0 * u * bell * bell * inv
                    fw = eta * inv * (cl * 8.0 * u * u * bell * bell - lorentz)
                    dl[i] = fw * by_l + eta_l * lorentz
                    dg[i] = fw * by_g + eta_g * lorentz
                c = np.searchsorted(two_theta, centre - 3.2 * fwhm)
                d = np.searchsorted(two_theta, centre + 3.2 * fwhm)
                if c < a:
                    c = a
                if d > b:
                    d = b
                for i in range(c, d):
                    u = (two_theta[i] - centre) * inv
                    gauss = cg * np.exp(-4.0 * ln2 * u * u)
                    p[i] += (1.0 - eta) * gauss
                    dc[i] += (1.0 - eta) * gauss * 8.0 * ln2 * u * inv
                    fw = (1.0 - eta) * gauss * inv * (8.0 * ln2 * u * u - 1.0)
                    dl[i] += fw * by_l - eta_l * gauss
                    dg[i] += fw * by_g - eta_g * gauss
                for i in range(a, b):
                    out[0, i] += scale * p[i]
                if not wanted[0]:
                    continue
                if wanted[1]:
                    for i in range(a, b):
                        out[1, i] += scale * dc[i]
                if wanted[2]:
                    f = scale * lever
                    for i in range(a, b):
                        out[2, i] += f * dc[i]
                half = steep * scale / (2.0 * g)
                if wanted[3]:
                    for i in range(a, b):
                        out[3, i] += half * dg[i]
                if wanted[4]:
                    f = half * tan
                    for i in range(a, b):
                        out[4, i] += f * dg[i]
                if wanted[5]:
                    f = half * tan * tan
                    for i in range(a, b):
                        out[5, i] += f * dg[i]
                if wanted[6]:
                    f = scale / cosine
                    for i in range(a, b):
                        out[6, i] += f * dl[i]
                if wanted[7]:
                    f = scale * tan
                    for i in range(a, b):
                        out[7, i] += f * dl[i]
                if wanted[8]:
                    f = area * slope[k]
                    for i in range(a, b):
                        out[8, i] += f * p[i]
                by_inverse = scale * waves[w] * waves[w] / (4.0 * sine * cosine) * to_degrees
                for j in range(free):
                    f = by_inverse * terms[k, j]
                    if wanted[9 + j] and f != 0.0:
                        for i in range(a, b):
                            out[9 + j, i] += f * dc[i]

    return columns


def march(cosine2: np.ndarray, r: float, transmission: bool, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give March's factor and its derivative by r.

    Reflection (axis of the plate along the scattering vector) or transmission (along the beam, averaged over the turn about the scattering vector),
    Dollase, J. Appl. Cryst. 19 (1986) 267.

    Parameters
    ----------
    cosine2
        cos^2 of the angle between the axis and each reflection.
    r
        March's r: 1 for no preference, below 1 for plates.
    transmission
        The plate stands across the beam.
    theta
        Bragg angle of each reflection, radians; used in transmission.
    """
    if not transmission:
        base = r * r * cosine2 + (1 - cosine2) / r
        return base**-1.5, -1.5 * base**-2.5 * (2 * r * cosine2 - (1 - cosine2) / r**2)
    turn = (np.arange(36) + 0.5) / 36 * np.pi
    cos_phi = np.sqrt(cosine2)[:, None]
    sin_phi = np.sqrt(np.maximum(1 - cosine2, 0.0))[:, None]
    along = (cos_phi * np.sin(theta)[:, None] + sin_phi * np.cos(theta)[:, None] * np.cos(turn)) ** 2
    base = r * r * along + (1 - along) / r
    return (base**-1.5).mean(axis=1), (-1.5 * base**-2.5 * (2 * r * along - (1 - along) / r**2)).mean(axis=1)
