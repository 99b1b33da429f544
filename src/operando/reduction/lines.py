"""Lines on a slope: a few pseudo-Voigts over a linear background, fitted to every frame by itself. Of no technique: x is an angle, a q or a shift.

A line has an area A (intensity times x), a position p, a FWHM w and a Lorentzian share eta:

    y(x) = A [eta L(x - p, w) + (1 - eta) G(x - p, w)],   both of area 1 and of the same FWHM (Wertheim et al., Rev. Sci. Instrum. 45 (1974) 1369).

Lines whose windows overlap are fitted together, over the union of their windows, by Levenberg-Marquardt with analytic derivatives and bounds on
position, width and share; area and background are free. Each frame starts from its own data, so that it stands alone and the order does not matter.

Errors are 1 sigma: those of the counts times the root of the reduced chi^2 where that is above 1, or, where the residuals hang together over a line
so that they scatter the parameters more, what these say (sandwich, Newey & West, Econometrica 55 (1987) 703).
A line whose area is not `detection` sigma away from 0 is none: it has no position. Its area is then that of a line of the expected width in the
middle of its range, which may be negative, so that its mean over frames where nothing is is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from operando.contract import ContractError
from operando.reduction.pseudo_voigt import kernel

_HUGE = 1e100  # what is larger is no intensity, and what is smaller than its inverse is nothing: their squares are no numbers
_EVEN = 0.15  # relative scatter of errors^2 / intensity below which the errors are those of counts


class LineFlag(IntFlag):
    """What fitting a line in a frame found."""

    NOT_SIGNIFICANT = 1
    AT_BOUND = 2
    OVERLAPPING = 4
    NOT_CONVERGED = 8
    NOT_FITTED = 16


@dataclass(frozen=True)
class Line:
    """A line to be followed.

    Attributes
    ----------
    low, high
        Where its position may be, in the unit of x.
    window
        What is fitted, in the unit of x; it holds low and high and background on both sides.
    fwhm
        Expected width, in the unit of x: that of a line too weak to be seen.
    eta
        Lorentzian share (1) that is held; None to fit it.
    """

    name: str
    low: float
    high: float
    window: tuple[float, float]
    fwhm: float
    eta: float | None = None


@dataclass(frozen=True)
class Doublet:
    """A second line beside each, as K-alpha 2 beside K-alpha 1.

    Attributes
    ----------
    ratio
        Second wavelength over the first (1): by it positions in q are multiplied, or the sines of half of angles.
    intensity
        Area of the second over the first (1).
    angle
        True if x is 2 theta in degrees.
    """

    ratio: float
    intensity: float
    angle: bool


@dataclass(frozen=True)
class LineFits:
    """What came out, all (frame, line); NaN where there is nothing to say.

    Attributes
    ----------
    area, position, fwhm, eta, height
        Of the line (of a doublet: of its first), with 1 sigma in `errors` under the same names.
    centre
        Centre of gravity over the range of the line, above a straight line through the ends of its window; no model of the line's shape.
    goodness
        Root of the reduced chi^2 of the window.
    flags
        `LineFlag` bits.
    """

    area: np.ndarray
    position: np.ndarray
    fwhm: np.ndarray
    eta: np.ndarray
    height: np.ndarray
    centre: np.ndarray
    goodness: np.ndarray
    flags: np.ndarray
    errors: dict[str, np.ndarray]


def fit_lines(
    x: np.ndarray,
    intensity: np.ndarray,
    errors: np.ndarray | None,
    lines: Sequence[Line],
    *,
    doublet: Doublet | None = None,
    detection: float = 5.0,
    counts: bool = True,
) -> LineFits:
    """Fit lines to frames.

    Parameters
    ----------
    x
        (channel) rising.
    intensity, errors
        (frame, channel) NaN where there is no datum; `errors` are 1 sigma or None. Errors that go as the root of the intensity, as those of counts
        do, are taken from what the model expects, so that a channel that happened to count little does not weigh more.
    lines
        What to look for.
    doublet
        Second line beside each.
    detection
        Sigma of the area above which a line is there.
    counts
        Without errors: True if the intensities are counts, False if only their scatter tells how sure they are.

    Raises
    ------
    ContractError
        A window that holds too few channels.
    """
    frames, number = intensity.shape[0], len(lines)
    out = np.full((frames, number, 13), np.nan)
    flags = np.full((frames, number), int(LineFlag.NOT_FITTED), np.int64)
    pair = np.array([0.0, 1.0, 0.0]) if doublet is None else np.array([2.0 if doublet.angle else 1.0, doublet.ratio, doublet.intensity])
    for members in together(lines):
        mine = [lines[k] for k in members]
        low, high = min(m.window[0] for m in mine), max(m.window[1] for m in mine)
        inside = slice(int(np.searchsorted(x, low, side="left")), int(np.searchsorted(x, high, side="right")))
        grid = np.ascontiguousarray(x[inside], float)
        if grid.size < 3 + 4 * len(mine):
            raise ContractError(
                f"the window of {', '.join(m.name for m in mine)} holds too few channels",
                found=f"{grid.size} between {low:.6g} and {high:.6g}; the axis runs from {x[0]:.6g} to {x[-1]:.6g}" if x.size else "no channel",
                expected=f"at least {3 + 4 * len(mine)}",
                hint="correct the range, or its unit",
            )
        y = np.array(intensity[:, inside], float)
        y[~(np.abs(y) < _HUGE)] = np.nan
        y[np.abs(y) < 1 / _HUGE] = 0.0
        gain, given = _noise(y, None if errors is None else np.asarray(errors[:, inside], float))
        step = float(np.median(np.diff(grid)))
        limits = np.array([[m.low, m.high, 0.8 * step, grid[-1] - grid[0], m.fwhm, -1.0 if m.eta is None else m.eta] for m in mine])
        found, said = np.full((frames, len(mine), 13), np.nan), np.full((frames, len(mine)), int(LineFlag.NOT_FITTED), np.int64)
        kernel()(grid, y, gain, given, limits, pair, float(detection), bool(errors is None and not counts), found, said)
        out[:, members], flags[:, members] = found, said
    names = ("area", "position", "fwhm", "eta", "height", "centre")
    values = {name: out[..., k] for k, name in enumerate(names)}
    sigmas = {name: out[..., 6 + k] for k, name in enumerate(names)}
    return LineFits(**values, goodness=out[..., 12], flags=flags, errors=sigmas)


def together(lines: Sequence[Line]) -> list[list[int]]:
    """Group lines whose windows overlap: their numbers, each group in the order of the windows."""
    groups: list[list[int]] = []
    reach = -np.inf
    for k in sorted(range(len(lines)), key=lambda k: lines[k].window):
        if groups and lines[k].window[0] < reach:
            groups[-1].append(k)
        else:
            groups.append([k])
            reach = -np.inf
        reach = max(reach, lines[k].window[1])
    return groups


def _noise(y: np.ndarray, errors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the variance per intensity, and the variance where that goes otherwise, both (frame, channel); NaN in the one that is not used.

    Errors of counts are sqrt(gain x intensity), with a gain that the two give channel by channel: 1 / number of pixels in an integrated frame.
    """
    gain, given = np.ones_like(y), np.full_like(y, np.nan)
    if errors is None:
        return gain, given

    with np.errstate(over="ignore"):
        variance = errors**2
    sure = np.isfinite(variance) & (variance > 0)
    good = sure & (y > 0)
    for k in range(len(y)):
        ratio = variance[k, good[k]] / y[k, good[k]]
        if ratio.size >= max(5, y.shape[1] // 4) and _unevenness(ratio) < min(_EVEN, _unevenness(variance[k, good[k]])):
            gain[k] = float(np.median(ratio))
            gain[k, good[k]] = ratio
        elif sure[k].any():
            given[k] = np.where(sure[k], np.maximum(variance[k], 1e-4 * np.median(variance[k, sure[k]])), np.inf)
        else:
            given[k] = np.inf
    return gain, given


def _unevenness(values: np.ndarray) -> float:
    """Median relative deviation from the median (1)."""
    middle = float(np.median(values))
    return float(np.median(np.abs(values / middle - 1))) if middle > 0 and np.isfinite(values).all() else np.inf
