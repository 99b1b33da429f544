"""The loops of `operando.reduction.lines`: pseudo-Voigts over a straight line, Levenberg-Marquardt frame by frame, covariance, centre of gravity.

Parameters of a window are the background in its middle, how much it rises to its end, and area, position, FWHM and Lorentzian share of each line.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_BEYOND = 1.25  # residuals that scatter the parameters by this much more than the counts are believed rather than these
_CAP = 60  # steps for one frame
_EDGE = 0.15  # share of a window at either end that tells the background of the centre of gravity


@functools.cache
def kernel() -> Any:
    """Compile the fit; numba takes long to import and is needed here only."""
    from numba import njit

    log2 = float(np.log(2.0))
    norm_g, norm_l = 2.0 * float(np.sqrt(np.log(2.0) / np.pi)), 2.0 / float(np.pi)
    degree = float(np.pi / 180)
    beyond, cap, edge = _BEYOND, _CAP, _EDGE
    not_significant, at_bound, overlapping, not_converged = 1, 2, 4, 8  # LineFlag

    @njit(nogil=True, error_model="numpy")
    def second(p, pair):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Give the place of the second line of a doublet and its derivative by that of the first."""
        if pair[0] == 1.0:
            return p * pair[1], pair[1]
        half = 0.5 * degree * p
        sine = np.sin(half) * pair[1]
        if abs(sine) >= 0.9999:
            return 1e9, 0.0
        return 2.0 * np.arcsin(sine) / degree, np.cos(half) * pair[1] / np.sqrt(1.0 - sine * sine)

    @njit(nogil=True, error_model="numpy")
    def shape(x, theta, pair, slopes, model, jac):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Compute the model, and its derivatives (parameter, channel): background, slope of it, then area, position, width, share of each line."""
        n, lines = x.size, (theta.size - 2) // 4
        middle, half = 0.5 * (x[0] + x[n - 1]), 0.5 * (x[n - 1] - x[0])
        for i in range(n):
            t = (x[i] - middle) / half
            model[i] = theta[0] + theta[1] * t
            jac[0, i] = 1.0
            jac[1, i] = t
        for k in range(lines):
            o = 2 + 4 * k
            area, p, w, eta = theta[o], theta[o + 1], theta[o + 2], theta[o + 3]
            for j in range(4):
                for i in range(n):
                    jac[o + j, i] = 0.0
            for twin in range(2 if pair[0] > 0.0 else 1):
                at, slope, share = p, 1.0, 1.0
                if twin == 1:
                    at, slope = second(p, pair)
                    share = pair[2]
                for i in range(n):
                    u = (x[i] - at) / w
                    uu = u * u
                    g = norm_g / w * np.exp(-4.0 * log2 * uu)
                    below = 1.0 / (1.0 + 4.0 * uu)
                    lorentz = norm_l / w * below
                    f = share * (eta * lorentz + (1.0 - eta) * g)
                    model[i] += area * f
                    if slopes:
                        jac[o, i] += f
                        by_p = eta * lorentz * 8.0 * u * below + (1.0 - eta) * g * 8.0 * log2 * u
                        jac[o + 1, i] += share * area * slope * by_p / w
                        by_w = eta * lorentz * (8.0 * uu * below - 1.0) + (1.0 - eta) * g * (8.0 * log2 * uu - 1.0)
                        jac[o + 2, i] += share * area * by_w / w
                        jac[o + 3, i] += share * area * (lorentz - g)

    @njit(nogil=True, error_model="numpy")
    def cholesky(a, m, b):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Solve a b = b in place for a symmetric a of order m; False if it is not positive."""
        for i in range(m):
            for j in range(i + 1):
                s = a[i, j]
                for k in range(j):
                    s -= a[i, k] * a[j, k]
                if i == j:
                    if s <= 1e-13 * a[i, i] or not s > 0.0:
                        return False
                    a[i, i] = np.sqrt(s)
                else:
                    a[i, j] = s / a[j, j]
        for i in range(m):
            s = b[i]
            for k in range(i):
                s -= a[i, k] * b[k]
            b[i] = s / a[i, i]
        for i in range(m - 1, -1, -1):
            s = b[i]
            for k in range(i + 1, m):
                s -= a[k, i] * b[k]
            b[i] = s / a[i, i]
        return True

    @njit(nogil=True, error_model="numpy")
    def weigh(model, good, gain, given, weight):  # type: ignore[no-untyped-def]  # pragma: no cover
        for i in range(model.size):
            if not good[i]:
                weight[i] = 0.0
            elif given[i] == given[i]:
                weight[i] = 1.0 / given[i]
            else:
                weight[i] = 1.0 / max(gain[i] * model[i], 0.5 * gain[i] * gain[i])

    @njit(nogil=True, error_model="numpy")
    def normal(jac, weight, residual, free, a, g):  # type: ignore[no-untyped-def]  # pragma: no cover
        m = free.size
        for i in range(m):
            s = 0.0
            for c in range(weight.size):
                s += weight[c] * jac[free[i], c] * residual[c]
            g[i] = s
            for j in range(i + 1):
                s = 0.0
                for c in range(weight.size):
                    s += weight[c] * jac[free[i], c] * jac[free[j], c]
                a[i, j] = a[j, i] = s

    @njit(nogil=True, error_model="numpy")
    def descend(x, y, good, gain, given, theta, low, high, may, pair):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Move what may move to the least squares; True if it got there."""
        n, size = x.size, theta.size
        model, tried_model = np.empty(n), np.empty(n)
        jac, scratch = np.empty((size, n)), np.empty((size, n))
        weight, residual = np.empty(n), np.empty(n)
        free = np.flatnonzero(may)
        a, part, g = np.empty((size, size)), np.empty((size, size)), np.empty(size)
        step, tried = np.empty(size), theta.copy()
        smooth = np.empty(n)
        for i in range(n):
            s, c = 0.0, 0
            for j in range(max(0, i - 2), min(n, i + 3)):
                if good[j]:
                    s += y[j]
                    c += 1
            smooth[i] = s / max(c, 1)
        weigh(smooth, good, gain, given, weight)
        damping, renewed, done = 1e-3, 0, False
        for _ in range(cap):
            shape(x, theta, pair, True, model, jac)
            chi2 = 0.0
            for i in range(n):
                residual[i] = y[i] - model[i] if good[i] else 0.0
                chi2 += weight[i] * residual[i] ** 2
            normal(jac, weight, residual, free, a, g)
            moving = free.copy()
            m = 0
            for i in range(free.size):  # what stands at its end and wants beyond stays
                k = free[i]
                if not ((theta[k] <= low[k] and g[i] < 0.0) or (theta[k] >= high[k] and g[i] > 0.0)):
                    moving[m] = i
                    m += 1
            better = False
            for _again in range(12):
                for i in range(m):
                    for j in range(m):
                        part[i, j] = a[moving[i], moving[j]]
                    part[i, i] *= 1.0 + damping
                    if part[i, i] <= 0.0:
                        part[i, i] = 1e-300
                    step[i] = g[moving[i]]
                if not cholesky(part, m, step):
                    damping = max(damping, 1e-10) * 10.0
                    continue
                left = 0.0
                for i in range(m):
                    left += step[i] * g[moving[i]]
                for i in range(size):
                    tried[i] = theta[i]
                for i in range(m):
                    k = free[moving[i]]
                    tried[k] = min(max(theta[k] + step[i], low[k]), high[k])
                if left < 1e-3 * max(chi2 / n, 1e-300):
                    done = True
                    break
                shape(x, tried, pair, False, tried_model, scratch)
                after = 0.0
                for i in range(n):
                    if good[i]:
                        after += weight[i] * (y[i] - tried_model[i]) ** 2
                if after < chi2:
                    better = True
                    break
                damping *= 10.0
            if done or better:
                for i in range(size):
                    theta[i] = tried[i]
            if better:
                damping = max(damping * (0.1 if chi2 - after > 0.3 * left else 0.5), 1e-9)
            else:  # at the bottom, or no way down: weights of what is expected, and once more
                if renewed == 2:
                    return done
                renewed, done = renewed + 1, False
                shape(x, theta, pair, False, model, scratch)
                weigh(model, good, gain, given, weight)
                damping = 1e-3
        return False

    @njit(nogil=True, error_model="numpy")
    def spread(x, y, good, gain, given, theta, may, low, high, pair, scatter_only, covariance):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Fill the covariance (parameter, parameter); give the reduced chi^2, or -1 where the fit leaves something open."""
        n, size = x.size, theta.size
        model, jac, weight, residual = np.empty(n), np.empty((size, n)), np.empty(n), np.empty(n)
        shape(x, theta, pair, True, model, jac)
        weigh(model, good, gain, given, weight)
        chi2, channels = 0.0, 0
        for i in range(n):
            residual[i] = y[i] - model[i] if good[i] else 0.0
            chi2 += weight[i] * residual[i] ** 2
            channels += 1 if good[i] else 0
        inner = may.copy()
        for k in range(size):
            if theta[k] <= low[k] or theta[k] >= high[k]:
                inner[k] = False
        free = np.flatnonzero(inner)
        m = free.size
        a, g = np.empty((size, size)), np.empty(size)
        normal(jac, weight, residual, free, a, g)
        for i in range(size):
            for j in range(size):
                covariance[i, j] = 0.0
        inverse, part, one = np.zeros((m, m)), np.empty((m, m)), np.empty(m)
        for i in range(m):
            for j in range(m):
                one[j] = 1.0 if i == j else 0.0
                for k in range(m):
                    part[j, k] = a[j, k]
            if not cholesky(part, m, one):
                return -1.0
            for j in range(m):
                inverse[j, i] = one[j]
        reduced = chi2 / max(channels - m, 1)
        factor = reduced if scatter_only else max(reduced, 1.0)
        width = 0.0
        for k in range((size - 2) // 4):
            width = max(width, theta[2 + 4 * k + 2])
        reach = int(min(max(round(width / (x[n - 1] - x[0]) * (n - 1)), 1), n // 4))
        meat = np.zeros((m, m))
        for lag in range(reach + 1):
            kernel = 1.0 - lag / (reach + 1.0)
            for c in range(n - lag):
                both = weight[c] * residual[c] * weight[c + lag] * residual[c + lag] * kernel
                if both != 0.0:
                    for i in range(m):
                        for j in range(m):
                            product = jac[free[i], c] * jac[free[j], c + lag] * both
                            meat[i, j] += product
                            if lag:
                                meat[j, i] += product
        more = np.ones(m)
        for i in range(m):
            plain, robust = inverse[i, i] * factor, 0.0
            for j in range(m):
                for k in range(m):
                    robust += inverse[i, j] * meat[j, k] * inverse[k, i]
            robust *= channels / max(channels - m, 1)
            if robust > beyond * beyond * plain:
                more[i] = np.sqrt(robust / plain)
        for i in range(m):
            for j in range(m):
                covariance[free[i], free[j]] = inverse[i, j] * factor * more[i] * more[j]
        return reduced

    @njit(nogil=True, error_model="numpy")
    def begin(x, y, good, limits, held, theta):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Find where to start: background from the ends of the window, then the highest point of what is left in each line's range."""
        n, lines = x.size, limits.shape[0]
        left = np.zeros(n)
        ends = np.zeros(2)
        for side in range(2):
            count = 0
            for i in range(n):
                j = i if side == 0 else n - 1 - i
                if good[j] and count < max(3, n // 8):
                    ends[side] += y[j]
                    count += 1
            ends[side] /= max(count, 1)
        theta[0], theta[1] = 0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0])
        for i in range(n):
            left[i] = (y[i] if good[i] else 0.0) - theta[0] - theta[1] * (2.0 * (x[i] - x[0]) / (x[n - 1] - x[0]) - 1.0) if good[i] else 0.0
        for k in range(lines):
            low, high, narrow, wide, usual, share = limits[k, 0], limits[k, 1], limits[k, 2], limits[k, 3], limits[k, 4], limits[k, 5]
            o = 2 + 4 * k
            eta = 0.5 if share < 0.0 else share
            best, top = -1, 0.0
            for i in range(1, n - 1):
                if low <= x[i] <= high:
                    value = (left[i - 1] + left[i] + left[i + 1]) / 3.0
                    if best < 0 or value > top:
                        best, top = i, value
            p, w = 0.5 * (low + high), usual
            if best >= 0 and not held[k]:
                p = x[best]
                a, b = best, best
                while a > 0 and left[a] > 0.5 * top:
                    a -= 1
                while b < n - 1 and left[b] > 0.5 * top:
                    b += 1
                w = min(max(0.9 * (x[b] - x[a]), 1.5 * narrow), max(3.0 * usual, 3.0 * narrow))
            theta[o + 1], theta[o + 2], theta[o + 3] = min(max(p, low), high), min(max(w, narrow), wide), eta
            peak = eta * norm_l / theta[o + 2] + (1.0 - eta) * norm_g / theta[o + 2]
            theta[o] = 0.0 if held[k] else max(top, 0.0) / peak
            for i in range(n):
                u = (x[i] - theta[o + 1]) / theta[o + 2]
                left[i] -= theta[o] * (eta * norm_l / (1.0 + 4.0 * u * u) + (1.0 - eta) * norm_g * np.exp(-4.0 * log2 * u * u)) / theta[o + 2]

    @njit(nogil=True, error_model="numpy")
    def gravity(x, y, good, variance, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Give centre of gravity, its error, and the sum and its error, over a range, above a line through the ends of the window."""
        n = x.size
        width = edge * (x[n - 1] - x[0])
        ends = np.zeros(n, np.bool_)
        d0, d1, d2, count, mean = 0.0, 0.0, 0.0, 0, 0.0
        cell = np.zeros(n)
        origin = 0.5 * (low + high)
        for i in range(n):
            if not good[i]:
                if low <= x[i] <= high:
                    return np.nan, np.nan, 0.0, 1.0  # a hole in the line
                continue
            if x[i] <= x[0] + width or x[i] >= x[n - 1] - width:
                ends[i] = True
                mean += x[i] - origin
                count += 1
            if low <= x[i] <= high:
                cell[i] = 0.5 * (x[min(i + 1, n - 1)] - x[max(i - 1, 0)])
                d0 += cell[i]
                d1 += cell[i] * (x[i] - origin)
                d2 += cell[i] * (x[i] - origin) ** 2
        if count < 4 or d0 <= 0.0:
            return np.nan, np.nan, 0.0, 1.0
        mean /= count
        square = 0.0
        for i in range(n):
            if ends[i]:
                square += (x[i] - origin - mean) ** 2
        total, moment = 0.0, 0.0
        by_total, by_moment = np.zeros(n), np.zeros(n)
        for i in range(n):
            z = x[i] - origin
            by_total[i], by_moment[i] = cell[i], cell[i] * z
            if ends[i]:
                by_total[i] -= d0 / count + (d1 - mean * d0) * (z - mean) / square
                by_moment[i] -= d1 / count + (d2 - mean * d1) * (z - mean) / square
            if good[i]:
                total += by_total[i] * y[i]
                moment += by_moment[i] * y[i]
        if total == 0.0:
            return np.nan, np.nan, 0.0, 1.0
        centre = moment / total
        of_total, of_centre = 0.0, 0.0
        for i in range(n):
            if good[i] and (by_total[i] != 0.0 or by_moment[i] != 0.0):
                of_total += by_total[i] ** 2 * variance[i]
                of_centre += ((by_moment[i] - centre * by_total[i]) / total) ** 2 * variance[i]
        return centre + origin, np.sqrt(of_centre), total, np.sqrt(of_total)

    @njit(nogil=True, error_model="numpy")
    def fit_frames(x, intensity, gains, givens, limits, pair, detection, scatter_only, out, flags):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Fit every frame; `out` (frame, line, 13): six values, their errors, goodness."""
        n, lines = x.size, limits.shape[0]
        size = 2 + 4 * lines
        low, high, theta = np.full(size, -np.inf), np.full(size, np.inf), np.zeros(size)
        for k in range(lines):
            o = 2 + 4 * k
            low[o + 1], high[o + 1], low[o + 2], high[o + 2] = limits[k, 0], limits[k, 1], limits[k, 2], limits[k, 3]
            low[o + 3], high[o + 3] = 0.0, 1.0
        covariance, jac, model, weight, by = np.zeros((size, size)), np.empty((size, n)), np.empty(n), np.empty(n), np.empty(4)
        for f in range(intensity.shape[0]):
            y, gain, given = intensity[f], gains[f], givens[f]
            good = np.isfinite(y)
            if good.sum() < max(size + 1, n // 2):
                continue
            held = np.zeros(lines, np.bool_)
            reduced, there = -1.0, False
            for _ in range(lines + 1):  # the weakest that is none is held, until all that are left are lines
                begin(x, y, good, limits, held, theta)
                may = np.ones(size, np.bool_)
                for k in range(lines):
                    for j in range(1, 4):
                        may[2 + 4 * k + j] = not held[k]
                    if limits[k, 5] >= 0.0:
                        may[2 + 4 * k + 3] = False
                there = descend(x, y, good, gain, given, theta, low, high, may, pair)
                reduced = spread(x, y, good, gain, given, theta, may, low, high, pair, scatter_only, covariance)
                weakest, least = -1, detection
                for k in range(lines):
                    o = 2 + 4 * k
                    sigma = np.sqrt(max(covariance[o, o], 0.0))
                    size_of = theta[o] / sigma if sigma > 0.0 else 0.0
                    if not held[k] and size_of < least:
                        weakest, least = k, size_of
                if weakest < 0:
                    break
                held[weakest] = True
            if reduced < 0.0:
                continue
            shape(x, theta, pair, False, model, jac)
            weigh(model, good, gain, given, weight)
            for i in range(n):
                weight[i] = 1.0 / weight[i] if weight[i] > 0.0 else 0.0
            for k in range(lines):
                o = 2 + 4 * k
                bits = 0 if there else not_converged
                for j in range(lines):
                    p = 2 + 4 * j
                    if j != k and abs(covariance[o, p]) > 0.95 * np.sqrt(covariance[o, o] * covariance[p, p]):
                        bits |= overlapping
                out[f, k, 0], out[f, k, 6] = theta[o], np.sqrt(covariance[o, o])
                out[f, k, 12] = np.sqrt(reduced)
                a, w, eta = theta[o], theta[o + 2], theta[o + 3]
                top = (eta * norm_l + (1.0 - eta) * norm_g) / w
                by[0], by[1], by[2], by[3] = top, 0.0, -a * top / w, a * (norm_l - norm_g) / w
                if held[k]:
                    bits |= not_significant
                    out[f, k, 4], out[f, k, 10] = a * top, top * out[f, k, 6]
                else:
                    for j in range(1, 4):
                        out[f, k, j] = theta[o + j]
                        if covariance[o + j, o + j] > 0.0:
                            out[f, k, 6 + j] = np.sqrt(covariance[o + j, o + j])
                        if j < 3 and (theta[o + j] <= low[o + j] or theta[o + j] >= high[o + j]):
                            bits |= at_bound
                    variance = 0.0
                    for i in range(4):
                        for j in range(4):
                            variance += by[i] * by[j] * covariance[o + i, o + j]
                    out[f, k, 4], out[f, k, 10] = a * top, np.sqrt(max(variance, 0.0))
                centre, error, total, of_total = gravity(x, y, good, weight, limits[k, 0], limits[k, 1])
                if total > detection * of_total:
                    out[f, k, 5], out[f, k, 11] = centre, error * np.sqrt(max(reduced, 0.0 if scatter_only else 1.0))
                flags[f, k] = bits

    return fit_frames
