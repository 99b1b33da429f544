"""Where an edge crosses a line, to a fraction of a pixel: a blurred step fitted to the profile, or the place of its largest slope."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.reduction.imaging.recipe import Edge

_SMOOTH = 1.0  # px; of the slopes among which the edge is looked for
_FALSE_ALARMS = 0.002
"""Part of the profiles of nothing but noise in which an edge may be found, wherever it is looked for."""
_LEAST, _SHARP = 0.05, 0.25  # px; least blur that is fitted, and below which hardly a value lies on the step


@dataclass(frozen=True)
class Found:
    """An edge (px): the coordinate along its line (the row, where it runs down a column), 1 sigma, the blur's sigma; NaN where there is none."""

    position: float
    error: float
    width: float


NONE = Found(math.nan, math.nan, math.nan)


def profile(picture: np.ndarray, edge: Edge, offset: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Average a picture across a line, px by px along it; NaN where the line has left the picture or most of the band is unknown.

    Parameters
    ----------
    offset
        (row, column), px, that the line is moved by.
    """
    from scipy.ndimage import map_coordinates

    (y0, x0), (uy, ux) = edge.line[0], edge.direction
    along = np.arange(math.floor(edge.length) + 1)[:, None]
    across = np.arange(edge.width)[None, :] - (edge.width - 1) / 2
    rows = y0 + offset[0] + along * uy - across * ux
    columns = x0 + offset[1] + along * ux + across * uy
    low = np.floor([rows.min(), columns.min()]).astype(int) - 1
    high = np.ceil([rows.max(), columns.max()]).astype(int) + 2
    low, high = np.clip(low, 0, picture.shape), np.clip(high, 0, picture.shape)
    part = picture[low[0] : high[0], low[1] : high[1]]
    if min(part.shape) < 1:
        return np.full(along.size, np.nan)
    values = map_coordinates(part, [rows - low[0], columns - low[1]], order=1, mode="constant", cval=np.nan)
    good = np.isfinite(values)
    count = good.sum(axis=1)
    total = np.where(good, values, 0.0).sum(axis=1)
    return np.asarray(np.where(count >= max(1, 0.5 * edge.width), total / np.maximum(count, 1), np.nan))


def locate(values: np.ndarray, edge: Edge, near: float | None = None) -> Found:
    """Find the edge in a profile.

    Parameters
    ----------
    values
        Along the line, one per px.
    near
        Where it was (px from the profile's begin): the edge is looked for within `edge.search` of it.

    Returns
    -------
    Found
        Position in px from the profile's begin; NaN where noise alone may look like it (once in 500 profiles).
    """
    from scipy.ndimage import gaussian_filter1d

    good = np.isfinite(values)
    if good.sum() < 8:
        return NONE
    x = np.arange(values.size, dtype=float)
    filled = np.interp(x, x[good], values[good])
    slope = gaussian_filter1d(filled, _SMOOTH, order=1, mode="nearest")
    signed = slope if edge.polarity == "rising" else -slope if edge.polarity == "falling" else np.abs(slope)
    signed = np.where(good, signed, -np.inf)
    if near is not None and edge.search is not None:
        signed = np.where(np.abs(x - near) <= edge.search, signed, -np.inf)
    top, places = int(np.argmax(signed)), int(np.isfinite(signed).sum())
    if not signed[top] > 0:
        return NONE
    inside = good & (np.abs(x - top) <= edge.window)
    if inside.sum() < 7:
        return NONE
    if edge.method == "erf":
        return _blurred_step(x[inside], values[inside], float(top), float(np.sign(slope[top])), places)
    return _steepest(filled, top, values, places)


def _blurred_step(x: np.ndarray, y: np.ndarray, top: float, sign: float, places: int) -> Found:
    """Fit below + step (1 + erf((x - position) / (sqrt(2) width))) / 2 by least squares, to where the profile is undisturbed.

    A step that noise alone makes somewhere among the places looked at is none, nor is one whose place is not known to within that part. One that
    lies between two values, without any blur, is anywhere between them: 1 px / sqrt(12).
    """
    from scipy.optimize import least_squares
    from scipy.special import erf

    scale = float(np.ptp(y)) or 1.0
    y = y / scale
    root = math.sqrt(2.0)

    def model(p: np.ndarray) -> np.ndarray:
        return np.asarray(p[0] + p[1] * 0.5 * (1 + erf((x - p[2]) / (root * p[3]))) - y)

    def slopes(p: np.ndarray) -> np.ndarray:
        u = (x - p[2]) / p[3]
        bell = p[1] * np.exp(-0.5 * u**2) / (math.sqrt(2 * math.pi) * p[3])
        return np.column_stack([np.ones_like(x), 0.5 * (1 + erf(u / root)), -bell, -bell * u])

    low, high = (y.min(), y.max()) if sign > 0 else (y.max(), y.min())
    bounds = ([-np.inf, -np.inf, x[0], _LEAST], [np.inf, np.inf, x[-1], float(x[-1] - x[0])])
    try:
        fit = least_squares(model, [low, high - low, min(max(top, x[0]), x[-1]), 1.5], slopes, bounds=bounds, x_scale=[1, 1, 1, 1], max_nfev=60)
        sharp = fit.x[3] < _SHARP  # values say nothing of where it is between two of them, nor of its width
        jacobian = fit.jac[:, :2] if sharp else fit.jac
        inverse = np.linalg.inv(jacobian.T @ jacobian)
    except (ValueError, np.linalg.LinAlgError):
        return NONE
    variance = 2 * fit.cost / max(x.size - 4, 1) * _correlated(fit.fun)
    errors = np.sqrt(np.maximum(np.diag(inverse) * variance, 0.0))
    if sharp:
        errors = np.append(errors, 1 / math.sqrt(12))
    _, step, position, width = fit.x
    if not fit.success or not np.isfinite(errors).all() or not x[0] < position < x[-1] or step * sign < 0:
        return NONE
    if abs(step) < _unlikely(places, x.size - 4) * errors[1] or not errors[2] < 0.5 * (x[-1] - x[0]):
        return NONE
    return Found(float(position), float(errors[2]), float(width))


def _correlated(left: np.ndarray) -> float:
    """Give the factor by which a variance is too small where neighbouring residuals resemble one another: (1 + r) / (1 - r) of their correlation."""
    scale = float(left @ left)
    r = float(left[1:] @ left[:-1]) / scale if scale > 0 else 0.0
    return max(1.0, (1 + r) / (1 - min(r, 0.9)))


def _steepest(filled: np.ndarray, top: int, values: np.ndarray, places: int) -> Found:
    """Find where the smoothed slope is largest: a parabola through its three values there; its error from the profile's noise."""
    from scipy.ndimage import gaussian_filter1d

    slope = gaussian_filter1d(filled, _SMOOTH, order=1, mode="nearest")
    if not 0 < top < slope.size - 1:
        return NONE
    a, b, c = slope[top - 1], slope[top], slope[top + 1]
    bend = a - 2 * b + c
    if bend == 0:
        return NONE
    position = top + 0.5 * (a - c) / bend
    noise, cautious, freedom = _noise(values[np.isfinite(values)])
    of_slope = math.sqrt(1 / (4 * math.sqrt(math.pi) * _SMOOTH**3))  # of white noise that was smoothed; the next of its second derivative
    spread = math.sqrt(3 / (8 * math.sqrt(math.pi) * _SMOOTH**5))
    if not abs(b) > _unlikely(places, freedom) * cautious * of_slope:
        return NONE
    return Found(float(position), noise * spread / abs(bend), math.sqrt(max(abs(b / bend) - _SMOOTH**2, 0.0)))


def _noise(quiet: np.ndarray) -> tuple[float, float, float]:
    """Estimate the noise of a profile from its second differences.

    Returns
    -------
    tuple
        From their median size, which edges do not disturb; from their spread, those beyond three times the former cut to it, which few values do not
        make too small by chance; degrees of freedom of the latter: neighbouring second differences are correlated.
    """
    if quiet.size < 5:
        return math.nan, math.nan, 1.0
    second = quiet[2:] - 2 * quiet[1:-1] + quiet[:-2]
    middle = float(np.median(np.abs(second))) / 0.6745
    cut = np.clip(second, -3 * middle, 3 * middle) if middle > 0 else second
    return middle / math.sqrt(6.0), math.sqrt(float(np.mean(cut**2)) / 6.0), max(1.0, second.size * 18 / 35)


def _unlikely(places: int, freedom: float) -> float:
    """Give how many standard errors noise alone exceeds at any of so many places, up or down, in one of 500 profiles (Student's t)."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, _FALSE_ALARMS / (2 * max(places, 1))))
