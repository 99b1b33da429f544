"""How far a picture is displaced against a reference: phase correlation, then the pictures' slopes, with a standard error."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass

import numpy as np

_MARGIN = 4
_STEPS = 25
_NEAR = 2.5  # px; how far the refinement may lead from where phase correlation said
_ALIKE = 0.5
"""1 - correlation below which a picture is taken to show the reference."""


_SIGNIFICANT = 8.0
"""Standard errors (Fisher's z) above which slopes resemble one another. Noise alone reaches 4 to 5 where the best of all displacements is chosen, and
6 where a scintillator blurs it."""
_SLANT = 1.0  # px; how far the unknown part of a displacement may reach into a direction before nothing is said along that one either
_CORRELATED = 1.5 * math.pi
"""Pixels to an independent one, in products of slopes of white noise, smoothed by 1 px: the sum of (1 - x^2 / 2)^2 exp(-r^2 / 2)."""


@dataclass(frozen=True)
class Shift:
    """A displacement (px): what lies at (y, x) in the reference is seen at (y + dy, x + dx); 1 sigma; NaN where none was found.

    Attributes
    ----------
    dy, dx, dy_error, dx_error
        Down the rows and along the columns. With `blind`, the part of the displacement that is square to it.
    blind
        Unit vector (row, column) along which the pictures show nothing, such as that of layers: how far they moved along it cannot be known (the
        aperture problem). None where both directions show something.
    reach
        Largest displacement that is believed, px: the unknown one lies anywhere between this and its negative.
    """

    dy: float
    dx: float
    dy_error: float
    dx_error: float
    blind: tuple[float, float] | None = None
    reach: float = 0.0

    @property
    def found(self) -> bool:
        """Whether it is a number, along one direction at least."""
        return math.isfinite(self.dy) and math.isfinite(self.dx)

    def within(self, most: float) -> bool:
        """Whether neither the displacement nor its error is larger than `most`: an error as large says that nothing was matched."""
        return math.hypot(self.dy, self.dx) <= most and max(self.dy_error, self.dx_error) <= most

    def along(self, uy: float, ux: float) -> tuple[float, float]:
        """Give the displacement along a unit vector and its standard error, px; NaN where it cannot be known.

        Layers that run aslant show how far they moved square to themselves and nothing else: what they may have moved along themselves, evenly spread
        to `reach` on either side, shows along the vector as far as the two are not square. Where that is 1 px (1 sigma) or more, or the vector runs
        within 60 degrees of the layers, nothing is said.
        """
        value = self.dy * uy + self.dx * ux
        if self.blind is None:
            return value, math.hypot(self.dy_error * uy, self.dx_error * ux)
        ey, ex = self.blind
        slant = abs(uy * ey + ux * ex)
        unknown = slant * self.reach / math.sqrt(3)
        if not (slant < 0.5 and unknown < _SLANT):
            return math.nan, math.nan
        return value, math.hypot(math.hypot(self.dy_error, self.dx_error) * abs(uy * ex - ux * ey), unknown)


NOTHING = Shift(math.nan, math.nan, math.nan, math.nan)


def register(reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], *, guess: tuple[float, float], most: float) -> Shift:
    """Measure how a picture is displaced against a reference within a box.

    The displacement to whole pixels comes from phase correlation (Guizar-Sicairos et al., Opt. Lett. 33 (2008) 156, by scikit-image) of the box with
    a box of the picture that follows the displacement, so that both show the same things. The rest is found from slopes and differences (Lucas &
    Kanade, Proc. 7th IJCAI (1981) 674) with free gain and offset; what is left gives the error: noise of both pictures, and whatever else changed.

    A direction is measured where slopes of the two pictures along it resemble one another by more than noise can (8 standard errors of their
    correlation). Flat layers have no slopes along themselves (the aperture problem; Shi & Tomasi, Proc. CVPR (1994) 593, judge it by the smaller
    eigenvalue of the matrix of slopes, as here): then the displacement square to them alone is measured, and `blind` says along what it is not.

    Parameters
    ----------
    reference, picture
        (row, column), NaN where nothing is known.
    box
        First row, one after the last, first column, one after the last: of the reference.
    guess
        Displacement to begin with: that of the frame before.
    most
        Largest displacement that is believed, px.

    Returns
    -------
    Shift
        NaN where the box shows nothing, has left the picture, or the displacement or its error is larger than `most`.
    """
    tried: list[tuple[float, tuple[float, float], tuple[float, float] | None]] = []
    for normalization in ("phase", None):  # None weighs frequencies by what they hold: for pictures whose fine structure is noise
        for begin in dict.fromkeys([guess, (0.0, 0.0)]):
            at = _coarse(reference, picture, box, begin, normalization)
            shown = _shown(reference, picture, box, at) if at is not None else None
            if at is None or shown is None:
                continue
            blind = shown[0]
            at = _square_to(at, blind)
            left = _residual(reference, picture, box, at) if math.hypot(*at) <= most else None
            if left is None:
                continue
            tried.append((left, at, blind))
            if left < _ALIKE and math.dist(at, guess) < 1.5:  # where it was expected, and it looks like the reference
                found = _refined(reference, picture, box, at, blind, most)
                if found is not None and math.dist((found.dy, found.dx), at) < _NEAR and found.within(most):
                    return found
    for _, at, blind in sorted(tried, key=lambda one: one[0]):
        found = _refined(reference, picture, box, at, blind, most)
        if found is not None and math.dist((found.dy, found.dx), at) < _NEAR and found.within(most):
            return found
    return NOTHING


def _square_to(at: tuple[float, float], blind: tuple[float, float] | None) -> tuple[float, float]:
    """Take away what phase correlation found along a direction in which it saw noise alone."""
    if blind is None:
        return at
    much = at[0] * blind[0] + at[1] * blind[1]
    return at[0] - much * blind[0], at[1] - much * blind[1]


def _shown(
    reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], at: tuple[float, float]
) -> tuple[tuple[float, float] | None] | None:
    """Say in which direction two pictures at a displacement to whole pixels show nothing in common; None where they do so in all directions.

    Noise of the two pictures is independent: products of their slopes are 0 on average where nothing is shown, however large the noise, and no
    estimate of it is needed. The direction with the least sum of products is judged by their correlation. A brightness that rises evenly across the
    box is lighting and shows no place: the mean slope does not count.
    """
    from scipy.ndimage import gaussian_filter

    cut = _overlap(reference, picture, box, (round(at[0]), round(at[1])))
    if cut is None:
        return None
    pair = reference[cut[0], cut[1]], picture[cut[2], cut[3]]
    unknown = ~(np.isfinite(pair[0]) & np.isfinite(pair[1]))
    good = ~_grown(unknown)
    good[:_MARGIN], good[-_MARGIN:], good[:, :_MARGIN], good[:, -_MARGIN:] = (
        False,
        False,
        False,
        False,
    )  # slopes there end with the box: alike in both
    if good.sum() < 16:
        return None
    slopes = []
    for one in pair:
        level = _filled(one, np.isfinite(one)).astype(float)
        each = np.array([gaussian_filter(level, 1.0, order=order)[good] for order in ((1, 0), (0, 1))])
        slopes.append(each - each.mean(axis=1, keepdims=True))
    a, b = slopes
    common = a @ b.T
    _, vectors = np.linalg.eigh(common + common.T)
    shown = []
    for u in vectors.T:
        scale = math.sqrt(max(float(u @ (a @ a.T) @ u) * float(u @ (b @ b.T) @ u), 0.0))
        alike = float(u @ common @ u) / scale if scale > 0 else 0.0
        shown.append(math.atanh(min(max(alike, -1.0), 1.0 - 1e-9)) * math.sqrt(good.sum() / _CORRELATED) > _SIGNIFICANT if alike > 0 else False)
    if not shown[1]:
        return None
    return (None if shown[0] else (float(vectors[0, 0]), float(vectors[1, 0])),)


def _overlap(
    reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], whole: tuple[int, int], margin: int = 0
) -> tuple[slice, ...] | None:
    """Give the slices of the box in the reference and in the picture, as far as both (and a margin) lie inside; None if little is left."""
    out = []
    for axis in (0, 1):
        a, b = box[2 * axis], min(box[2 * axis + 1], reference.shape[axis])
        low, high = max(a, margin, margin - whole[axis]), min(b, picture.shape[axis] - margin - whole[axis], reference.shape[axis] - margin)
        if high - low < max(8, 0.4 * (b - a)):
            return None
        out.append((low, high))
    (a, b), (c, d) = out
    return slice(a, b), slice(c, d), slice(a + whole[0], b + whole[0]), slice(c + whole[1], d + whole[1])


def _coarse(
    reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], begin: tuple[float, float], normalization: str | None
) -> tuple[float, float] | None:
    from skimage.registration import phase_cross_correlation

    at = begin
    for _ in range(4):
        whole = (round(at[0]), round(at[1]))
        cut = _overlap(reference, picture, box, whole)
        if cut is None:  # led out of the picture: by noise, where a direction shows nothing
            return at if at != begin else None
        a, b = _plain(reference[cut[0], cut[1]]), _plain(picture[cut[2], cut[3]])
        if a is None or b is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            moved = phase_cross_correlation(a, b, normalization=normalization)[0]
        at = (whole[0] - float(moved[0]), whole[1] - float(moved[1]))
        if max(abs(float(moved[0])), abs(float(moved[1]))) < 1:
            break
    return at


def _plain(values: np.ndarray) -> np.ndarray | None:
    """Fill what is unknown, take the mean away, and let the sides fade: what leaves the box on one side does not come in on the other."""
    good = np.isfinite(values)
    if good.mean() < 0.5:
        return None
    out = _filled(values, good)
    out = out - out.mean()
    if not np.ptp(out) > 0:
        return None
    return np.asarray(out * _fading(values.shape))


def _filled(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Put what lies around them into unknown pixels: they stay where they are while the picture moves, and must not be seen."""
    if good.all():
        return values
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(good.astype(float), 2.0)
    around = gaussian_filter(np.where(good, values, 0.0), 2.0) / np.maximum(weight, 1e-6)
    return np.where(good, values, np.where(weight > 1e-3, around, values[good].mean()))


@functools.lru_cache(16)
def _fading(shape: tuple[int, int]) -> np.ndarray:
    from scipy.signal.windows import tukey

    return np.asarray(np.outer(tukey(shape[0] + 2, 0.5)[1:-1], tukey(shape[1] + 2, 0.5)[1:-1]))


def _residual(reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], at: tuple[float, float]) -> float | None:
    """Say how unlike the two are at a displacement to whole pixels: 1 - r."""
    cut = _overlap(reference, picture, box, (round(at[0]), round(at[1])))
    if cut is None:
        return None
    a, b = reference[cut[0], cut[1]], picture[cut[2], cut[3]]
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 32:
        return None
    u, v = a[good] - a[good].mean(), b[good] - b[good].mean()
    scale = float(np.sqrt((u @ u) * (v @ v)))
    return 1 - float(u @ v) / scale if scale > 0 else None


def _refined(
    reference: np.ndarray,
    picture: np.ndarray,
    box: tuple[int, int, int, int],
    at: tuple[float, float],
    blind: tuple[float, float] | None = None,
    most: float = math.inf,
) -> Shift | None:
    """Solve gain x picture(y + dy, x + dx) + offset = reference, multiplied by the reference's smoothed slopes and summed.

    Slopes of a noisy picture are noisy: squares of them would be too large, steps and errors too small. The slopes of the two pictures have noise of
    their own each, so that their product is not; smoothing leaves the more of what is there. With `blind`, only steps square to it are taken.
    """
    from scipy.ndimage import gaussian_filter, shift, spline_filter

    whole = (round(at[0]), round(at[1]))
    cut = _overlap(reference, picture, box, whole, _MARGIN)
    if cut is None:
        return None
    outer = tuple(slice(s.start - _MARGIN, s.stop + _MARGIN) for s in cut)
    inner = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    fixed, moving = reference[outer[0], outer[1]], picture[outer[2], outer[3]]
    unknown = ~(np.isfinite(fixed) & np.isfinite(moving))
    if unknown.mean() > 0.5:
        return None
    filled, level = _filled(moving, np.isfinite(moving)), _filled(fixed, np.isfinite(fixed)).astype(float)
    good = ~_grown(unknown)[inner] if unknown.any() else np.ones((cut[0].stop - cut[0].start, cut[1].stop - cut[1].start), bool)
    goal = level[inner][good]
    if goal.size < 32:
        return None
    smooth_y, smooth_x = (gaussian_filter(level, 1.0, order=order)[inner][good] for order in ((1, 0), (0, 1)))
    coefficients = spline_filter(filled, order=3, output=np.float64, mode="mirror")
    dy, dx = at[0] - whole[0], at[1] - whole[1]
    ways = np.eye(2) if blind is None else np.array([[-blind[1], blind[0]]])
    smooth = ways @ np.array([smooth_y, smooth_x])
    m = len(ways)
    for _ in range(_STEPS):
        moved = shift(coefficients, (-dy, -dx), order=3, mode="mirror", prefilter=False)
        seen = moved[inner][good]
        slopes = ways @ np.array([np.gradient(moved, axis=axis)[inner][good] for axis in (0, 1)])
        design = np.column_stack([*slopes, seen, np.ones_like(seen)])
        with_what = np.column_stack([*smooth, seen, np.ones_like(seen)])
        try:
            inverse = np.linalg.inv(with_what.T @ design)
        except np.linalg.LinAlgError:
            return None
        solved = inverse @ (with_what.T @ goal)
        gain = float(solved[m])
        if not math.isfinite(gain) or gain <= 0:
            return None
        step = np.clip(solved[:m] / gain, -1.0, 1.0) @ ways
        dy, dx = dy + float(step[0]), dx + float(step[1])
        if not (math.isfinite(dy) and math.isfinite(dx)) or max(abs(dy), abs(dx)) > _MARGIN - 1:
            return None
        left = goal - gain * seen - solved[m + 1]
        variance = float(left @ left) / max(goal.size - m - 2, 1)
        spread = inverse @ (with_what.T @ with_what) @ inverse.T * variance
        errors = np.sqrt(np.maximum(np.diag(ways.T @ spread[:m, :m] @ ways), 0.0)) / gain
        if (np.abs(step) < np.maximum(1e-4, 0.02 * errors)).all():
            return Shift(whole[0] + dy, whole[1] + dx, float(errors[0]), float(errors[1]), blind, most if blind else 0.0)
    return None


def _grown(unknown: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(unknown, iterations=2))
