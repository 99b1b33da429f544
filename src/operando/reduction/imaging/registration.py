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


@dataclass(frozen=True)
class Shift:
    """A displacement (px): what lies at (y, x) in the reference is seen at (y + dy, x + dx); 1 sigma; NaN where none was found."""

    dy: float
    dx: float
    dy_error: float
    dx_error: float

    @property
    def found(self) -> bool:
        """Whether it is a number."""
        return math.isfinite(self.dy) and math.isfinite(self.dx)

    def within(self, most: float) -> bool:
        """Whether neither the displacement nor its error is larger than `most`: an error as large says that nothing was matched."""
        return math.hypot(self.dy, self.dx) <= most and max(self.dy_error, self.dx_error) <= most


NOTHING = Shift(math.nan, math.nan, math.nan, math.nan)


def register(reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], *, guess: tuple[float, float], most: float) -> Shift:
    """Measure how a picture is displaced against a reference within a box.

    The displacement to whole pixels comes from phase correlation (Guizar-Sicairos et al., Opt. Lett. 33 (2008) 156, by scikit-image) of the box with
    a box of the picture that follows the displacement, so that both show the same things. The rest is found from slopes and differences (Lucas &
    Kanade, Proc. 7th IJCAI (1981) 674) with free gain and offset; what is left gives the error: noise of both pictures, and whatever else changed.

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
    tried: list[tuple[float, tuple[float, float]]] = []
    for normalization in ("phase", None):  # None weighs frequencies by what they hold: for pictures whose fine structure is noise
        for begin in dict.fromkeys([guess, (0.0, 0.0)]):
            at = _coarse(reference, picture, box, begin, normalization)
            left = _residual(reference, picture, box, at) if at is not None and math.hypot(*at) <= most else None
            if at is None or left is None:
                continue
            tried.append((left, at))
            if left < _ALIKE and math.dist(at, guess) < 1.5:  # where it was expected, and it looks like the reference
                found = _refined(reference, picture, box, at)
                if found is not None and math.dist((found.dy, found.dx), at) < _NEAR and found.within(most):
                    return found
    for _, at in sorted(tried):
        found = _refined(reference, picture, box, at)
        if found is not None and math.dist((found.dy, found.dx), at) < _NEAR and found.within(most):
            return found
    return NOTHING


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
        if cut is None:
            return None
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


def _refined(reference: np.ndarray, picture: np.ndarray, box: tuple[int, int, int, int], at: tuple[float, float]) -> Shift | None:
    """Solve gain x picture(y + dy, x + dx) + offset = reference, multiplied by the reference's smoothed slopes and summed.

    Slopes of a noisy picture are noisy: squares of them would be too large, steps and errors too small. The slopes of the two pictures have noise of
    their own each, so that their product is not; smoothing leaves the more of what is there.
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
    for _ in range(_STEPS):
        moved = shift(coefficients, (-dy, -dx), order=3, mode="mirror", prefilter=False)
        seen = moved[inner][good]
        design = np.column_stack([*(np.gradient(moved, axis=axis)[inner][good] for axis in (0, 1)), seen, np.ones_like(seen)])
        with_what = np.column_stack([smooth_y, smooth_x, seen, np.ones_like(seen)])
        try:
            inverse = np.linalg.inv(with_what.T @ design)
        except np.linalg.LinAlgError:
            return None
        solved = inverse @ (with_what.T @ goal)
        gain = float(solved[2])
        if not math.isfinite(gain) or gain <= 0:
            return None
        step = np.clip(solved[:2] / gain, -1.0, 1.0)
        dy, dx = dy + float(step[0]), dx + float(step[1])
        if not (math.isfinite(dy) and math.isfinite(dx)) or max(abs(dy), abs(dx)) > _MARGIN - 1:
            return None
        left = goal - gain * seen - solved[3]
        variance = float(left @ left) / max(goal.size - 4, 1)
        spread = inverse @ (with_what.T @ with_what) @ inverse.T * variance
        errors = np.sqrt(np.maximum(np.diag(spread)[:2], 0.0)) / gain
        if (np.abs(step) < np.maximum(1e-4, 0.02 * errors)).all():
            return Shift(whole[0] + dy, whole[1] + dx, float(errors[0]), float(errors[1]))
    return None


def _grown(unknown: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(unknown, iterations=2))
