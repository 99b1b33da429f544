"""How far a picture is displaced against a reference: phase correlation, then the pictures' slopes, with a standard error."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, replace

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

_BLUR = 2.0  # px; takes 98 % of the variance of a pattern of single pixels, and little of what a sample shows over several
_FINE = 3.0  # px; a displacement beyond which a pattern of single pixels has nothing to do with the match
_SHARE = 0.05
"""Part of the slopes in common that a fixed pattern may have without a word."""
_CORRELATED_FINE = (70 / 36) ** 2
"""Pixels to an independent one in products of second differences, in both directions, of white noise."""


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
    pattern
        Whether a pattern that stays on the detector (a flat's noise, pixels that answer unlike) makes the error larger or is all that was matched.
    """

    dy: float
    dx: float
    dy_error: float
    dx_error: float
    blind: tuple[float, float] | None = None
    reach: float = 0.0
    pattern: bool = False

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

    A pattern that stays on the detector (noise of a flat of few frames, pixels that answer unlike where there is no flat) is a match at 0. How much
    of it there is shows in what single pixels have in common where they lie. Where it has part in the match, that part of the displacement is in the
    error; where it has most of it, the pictures are smoothed, of which single pixels suffer most; if it still has, nothing is found.

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
    fine = _matched(reference, picture, box, guess, most)
    fixed = _fixed(reference, picture, box)
    if not (fixed > 0 and (pulled := _pulled(fine, fixed, reference, picture, box)) is not fine):
        return fine
    if pulled.found:
        return pulled
    edge = math.ceil(most) + 8
    around = tuple(slice(max(0, box[k] - edge), box[k + 1] + edge) for k in (0, 2))
    inside = (box[0] - around[0].start, box[1] - around[0].start, box[2] - around[1].start, box[3] - around[1].start)
    blurred = _blurred(reference[around]), _blurred(picture[around])
    return _pulled(_matched(*blurred, inside, guess, most, _BLUR), fixed, *blurred, inside, _BLUR)


def _pulled(found: Shift, fixed: float, reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], blur: float = 0.0) -> Shift:
    """Let a pattern on the detector into the error of a displacement: it is one of 0 and pulls the match there by its part of the slopes in common.

    Where it has half of them or more, the pattern is what was matched: nothing was found. Displaced by more than its smoothed size it has no part.
    """
    if not found.found or math.hypot(found.dy, found.dx) > _FINE * (1 + blur):
        return found
    cut = _overlap(reference, picture, box, (round(found.dy), round(found.dx)))
    slopes = _slopes((reference[cut[0], cut[1]], picture[cut[2], cut[3]])) if cut is not None else None
    if slopes is None:
        return found
    common = slopes[0] @ slopes[1].T / slopes[0].shape[1]
    ways = np.eye(2) if found.blind is None else np.array([[-found.blind[1], found.blind[0]]])
    whole = 1 + blur**2
    less_smooth = (2 * whole / (whole + blur**2 + 0.35)) ** 2  # the match uses slopes of the picture that are not smoothed once more
    share = max(fixed * less_smooth / (8 * math.pi * whole**2) / max(float(u @ common @ u), 1e-300) for u in ways)
    if share < _SHARE:
        return found
    if share >= 0.5:
        return replace(NOTHING, pattern=True)
    much = share / (1 - share)
    more = much * abs(found.dy), much * abs(found.dx)
    counts = more[0] > max(found.dy_error, 0.01) or more[1] > max(found.dx_error, 0.01)
    return replace(found, dy_error=math.hypot(found.dy_error, more[0]), dx_error=math.hypot(found.dx_error, more[1]), pattern=counts)


def _blurred(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    good = np.isfinite(values)
    return np.where(good, gaussian_filter(_filled(values, good).astype(float), _BLUR), np.nan)


def _fixed(reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Give the variance that single pixels of two pictures have in common where they lie: that of what is fixed to the detector; 0 for noise.

    Second differences in both directions leave of it what changes from pixel to pixel.
    """
    both = []
    for one in (reference, picture):
        part = one[box[0] : box[1], box[2] : box[3]]
        across = part[:, :-2] - 2 * part[:, 1:-1] + part[:, 2:]
        both.append(across[:-2] - 2 * across[1:-1] + across[2:])
    if both[0].shape != both[1].shape:
        return 0.0
    good = np.isfinite(both[0]) & np.isfinite(both[1])
    if good.sum() < 32:
        return 0.0
    a, b = (one[good] - one[good].mean() for one in both)
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if not (scale > 0 and float(a @ b) / scale * math.sqrt(good.sum() / _CORRELATED_FINE) > _SIGNIFICANT):
        return 0.0
    return float(a @ b) / (36 * a.size)  # what the nine weights leave of the variance of a pixel


def _matched(
    reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], guess: tuple[float, float], most: float, blur: float = 0.0
) -> Shift:
    """Measure a displacement as `register` does; `blur` (px, sigma) is what both pictures have been smoothed by."""
    tried: list[tuple[float, tuple[float, float], tuple[float, float] | None]] = []
    # None weighs frequencies by what they hold: for pictures whose fine structure is noise, and because all alike would undo the smoothing
    for normalization in ("phase", None) if not blur else (None,):
        for begin in dict.fromkeys([guess, (0.0, 0.0)]):
            at = _coarse(reference, picture, box, begin, normalization)
            shown = _shown(reference, picture, box, at, blur) if at is not None else None
            if at is None or shown is None:
                continue
            blind = shown[0]
            at = _square_to(at, blind)
            left = _residual(reference, picture, box, at) if math.hypot(*at) <= most else None
            if left is None:
                continue
            tried.append((left, at, blind))
            if left < _ALIKE and math.dist(at, guess) < 1.5:  # where it was expected, and it looks like the reference
                found = _refined(reference, picture, box, at, blind, most, blur)
                if found is not None and math.dist((found.dy, found.dx), at) < _NEAR and found.within(most):
                    return found
    for _, at, blind in sorted(tried, key=lambda one: one[0]):
        found = _refined(reference, picture, box, at, blind, most, blur)
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
    reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], at: tuple[float, float], blur: float = 0.0
) -> tuple[tuple[float, float] | None] | None:
    """Say in which direction two pictures at a displacement to whole pixels show nothing in common; None where they do so in all directions.

    Noise of the two pictures is independent: products of their slopes are 0 on average where nothing is shown, however large the noise, and no
    estimate of it is needed. The direction with the least sum of products is judged by their correlation. A brightness that rises evenly across the
    box is lighting and shows no place: the mean slope does not count.
    """
    cut = _overlap(reference, picture, box, (round(at[0]), round(at[1])))
    slopes = _slopes((reference[cut[0], cut[1]], picture[cut[2], cut[3]])) if cut is not None else None
    if slopes is None:
        return None
    a, b = slopes
    common = a @ b.T
    _, vectors = np.linalg.eigh(common + common.T)
    shown = []
    for u in vectors.T:
        scale = math.sqrt(max(float(u @ (a @ a.T) @ u) * float(u @ (b @ b.T) @ u), 0.0))
        alike = float(u @ common @ u) / scale if scale > 0 else 0.0
        free = a.shape[1] / (_CORRELATED * (1 + blur**2))
        shown.append(math.atanh(min(max(alike, -1.0), 1.0 - 1e-9)) * math.sqrt(free) > _SIGNIFICANT if alike > 0 else False)
    if not shown[1]:
        return None
    return (None if shown[0] else (float(vectors[0, 0]), float(vectors[1, 0])),)


def _slopes(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Give the smoothed slopes of two pictures, (2, pixel) each, less their mean, where both are known and the window's border is far."""
    from scipy.ndimage import gaussian_filter

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
    return slopes[0], slopes[1]


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
    blur: float = 0.0,
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
        variance = float(left @ left) / max(goal.size - m - 2, 1) * max(1.0, 4 * math.pi * blur**2)  # pixels to an independent one
        spread = inverse @ (with_what.T @ with_what) @ inverse.T * variance
        errors = np.sqrt(np.maximum(np.diag(ways.T @ spread[:m, :m] @ ways), 0.0)) / gain
        if (np.abs(step) < np.maximum(1e-4, 0.02 * errors)).all():
            return Shift(whole[0] + dy, whole[1] + dx, float(errors[0]), float(errors[1]), blind, most if blind else 0.0)
    return None


def _grown(unknown: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(unknown, iterations=2))
