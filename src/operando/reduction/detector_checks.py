"""What frames say about their detector and geometry: rings that do not fit, parts that do not count.

Rings. With a substance that is surely in the beam (a calibrant, the aluminium of a current collector), its lines must be local maxima of the
pattern where its spacings say. Without one there is still this: a ring has one intensity all around it, so that in the right orientation less of
the pixels' variance is left within the bins than in any other. Both are asked of all eight ways in which frames may have been mirrored or turned;
a centred detector looks alike in several, and then there is nothing to tell.

Parts that do not count. Where a block of pixels should hold tens of counts by its rings and holds none at all, it is dead, or in a shadow: e^-30
by chance.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import ConfigError
from operando.images import ORIENTATIONS, oriented
from operando.reduction.integration import Integrator

_LINES = 12  # of a substance, those at the smallest q: further out they stand too close to be told apart
_FOUND = 0.6  # of these must be there
_WIDTH = 0.006  # of q: half the window in which a line's maximum must lie
_BLOCK = 16  # pixels along each side of what is dead or not
_SURE = 30.0  # counts expected where there are none
_CLEARER = 0.7  # the variance left in the rings must fall to this part of it before another orientation is named without a calibrant


@dataclass(frozen=True)
class Rings:
    """How the rings of a frame fit.

    Attributes
    ----------
    fit
        True, False; None where nothing tells.
    orientation
        The one that fits best, if it is not the one given.
    words
        For the reader.
    """

    fit: bool | None
    orientation: str | None
    words: str

    @property
    def verdict(self) -> str:
        """The same without its numbers, which differ from frame to frame."""
        if self.fit is None:
            return "not judged"
        return "fit" if self.fit else "do not fit" + (f": try orientation: {self.orientation}" if self.orientation else "")


def calibrant_lines(name: str) -> np.ndarray:
    """Give q of the lines of a substance that pyFAI knows, 1/angstrom, ascending.

    Raises
    ------
    ConfigError
        It does not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyFAI.calibrant import CALIBRANT_FACTORY, get_calibrant
    if name not in CALIBRANT_FACTORY:
        raise ConfigError("calibrant: is not known", found=name, expected=", ".join(sorted(map(str, CALIBRANT_FACTORY.keys()))))
    spacings = np.asarray(get_calibrant(name).dspacing, float)
    return np.asarray(np.sort(2 * np.pi / spacings[spacings > 0]))


def check_rings(frame: np.ndarray, integrator: Integrator, calibrant: str | None = None) -> Rings:
    """Say whether the rings of a frame are where they should be, and in which orientation they would be.

    Parameters
    ----------
    frame
        As it is read: one frame, or the sum of some; counts.
    integrator
        What is to be checked.
    calibrant
        A substance that is surely in the beam, by pyFAI's name; its lines need not be the only ones.

    Raises
    ------
    ConfigError
        pyFAI does not know the substance.
    """
    views = _Views(frame, integrator)
    if calibrant is not None:
        return _by_lines(views, calibrant_lines(calibrant), calibrant, integrator.orientation)
    return _by_evenness(views, integrator.orientation)


class _Views:
    """The same frame in every orientation that has the geometry's shape, with the rings the geometry gives."""

    def __init__(self, frame: np.ndarray, integrator: Integrator) -> None:
        shape = oriented(np.empty(integrator.shape, np.bool_), integrator.orientation).shape
        q, weight = integrator.rings()
        self.n = min(integrator.points, 1500)
        self.edges = np.linspace(float(q.min()), float(q.max()), self.n + 1)
        self.bins = np.clip(((q - self.edges[0]) / (self.edges[-1] - self.edges[0]) * self.n).astype(np.int64), 0, self.n - 1)
        self.weight = weight
        values = np.asarray(frame, float)
        top = integrator.saturation if integrator.saturation is not None else np.inf
        good = ~integrator.mask & np.isfinite(values) & (values >= 0) & (values < max(top, 1.0) * 64)
        self.of = {o: (oriented(np.where(good, values, 0.0), o), oriented(good, o)) for o in ORIENTATIONS if oriented(good, o).shape == shape}
        self.q = 0.5 * (self.edges[1:] + self.edges[:-1])

    def pattern(self, orientation: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean of each ring and its sigma by counting; NaN where no pixel lies."""
        values, good = self.of[orientation]
        bins = self.bins[good]
        total = np.bincount(bins, weights=values[good], minlength=self.n)
        norm = np.bincount(bins, weights=self.weight[good], minlength=self.n)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(norm > 0, total / norm, np.nan), np.where(norm > 0, np.sqrt(np.maximum(total, 1.0)) / norm, np.nan)

    def left_over(self, orientation: str, shift: tuple[int, int] = (0, 0)) -> float:
        """Variance of the pixels around the mean of their ring, without that of counting, as a part of all; the frame moved by some pixels."""
        values, good = self.of[orientation]
        if shift != (0, 0):
            values, good = (np.roll(one, shift, axis=(0, 1)) for one in (values, good))
        bins, weight, seen = self.bins[good], self.weight[good], values[good]
        # square roots: counting then scatters by 1/2 everywhere, and spots do not decide
        root = np.sqrt(np.minimum(seen, np.percentile(seen, 99.8)) / weight)
        sums, number = np.bincount(bins, weights=root, minlength=self.n), np.bincount(bins, minlength=self.n)
        off = root - (sums / np.maximum(number, 1))[bins]
        everything = float(np.var(root))
        return max(float(np.mean(off**2)) - 0.25, 0.0) / everything if everything > 0 else 1.0


def _by_lines(views: _Views, lines: np.ndarray, name: str, present: str) -> Rings:
    found = {o: _lines_found(views.q, *views.pattern(o), lines) for o in views.of}
    there, of = found[present]
    if of < 2:
        return Rings(None, None, f"fewer than two lines of {name} fall on the detector: nothing tells whether the rings fit")
    best = max(found, key=lambda o: (found[o][0], o == present))
    if there >= _FOUND * of:
        return Rings(True, None, f"rings fit {name}: {there} of {of} lines")
    said = f"rings do not fit {name}: {there} of {of} lines"
    if found[best][0] >= max(_FOUND * of, there + 2):
        return Rings(False, best, f"{said}; try orientation: {best} ({found[best][0]} of {of} lines)")
    scales = np.linspace(0.9, 1.1, 401)
    pattern = views.pattern(present)
    counts = np.array([_lines_found(views.q, *pattern, lines * s)[0] for s in scales])
    if counts.max() >= max(_FOUND * of, there + 3):
        good, root = np.isfinite(pattern[0]), np.sqrt(np.maximum(np.nan_to_num(pattern[0]), 0.0))
        seen = lines[(lines > views.q[0]) & (lines < views.q[-1])][:_LINES]
        heights = np.array([np.interp(seen * s, views.q[good], root[good]).sum() for s in scales])
        scale = float(scales[np.argmax(np.where(counts >= counts.max() - 1, heights, -np.inf))])
        return Rings(
            False, None, f"{said}, in no orientation; they would at {100 * (scale - 1):+.1f} % in q: check the wavelength, then the distance"
        )
    return Rings(False, None, f"{said}, in no orientation: check poni: (distance, centre), the wavelength, and that it is {name}")


def _lines_found(q: np.ndarray, mean: np.ndarray, sigma: np.ndarray, lines: np.ndarray) -> tuple[int, int]:
    """Count lines at which the pattern has a maximum, of those that fall into it."""
    from scipy.ndimage import percentile_filter

    good = np.isfinite(mean)
    if good.sum() < 20:
        return 0, 0
    q, mean, sigma = q[good], mean[good], sigma[good]
    step = float(np.median(np.diff(q)))
    base = percentile_filter(mean, 30, size=max(9, q.size // 25))
    excess = mean - base
    inside = lines[(lines > q[0] * 1.02) & (lines < q[-1] * 0.98)][:_LINES]
    apart = [x for x in inside if not ((np.abs(lines - x) < 2 * _WIDTH * x) & (lines != x)).any()]
    count = of = 0
    for x in apart:
        half = max(_WIDTH * x, 1.5 * step)
        near, wide = np.abs(q - x) <= half, np.abs(q - x) <= 3.5 * half
        if not near.any() or q[wide][-1] - q[wide][0] < 4 * half:  # in a gap between modules
            continue
        of += 1
        k = int(np.argmax(np.where(wide, excess, -np.inf)))
        count += bool(near[k] and excess[k] > 5 * sigma[k] and excess[k] > 0.01 * float(excess.max()))
    return count, of


def _by_evenness(views: _Views, present: str) -> Rings:
    left = {o: views.left_over(o) for o in views.of}
    best = min(left, key=lambda o: (left[o], o != present))
    words = f"{100 * left[present]:.1f} % of the variance is left within the rings"
    if best != present and left[best] < _CLEARER * left[present] and left[present] - left[best] > 0.005:
        # a detector that is centred looks better flipped when its beam centre is off by a pixel
        moved = {(y, x): views.left_over(present, (y, x)) for y in (-2, -1, 0, 1, 2) for x in (-2, -1, 0, 1, 2) if (y, x) != (0, 0)}
        y, x = min(moved, key=lambda s: moved[s])
        if moved[y, x] < 1.2 * left[best]:
            said = f"rings fit better with the frame moved by {y} rows and {x} columns ({100 * moved[y, x]:.1f} % left)"
            return Rings(False, None, f"{said}, {words}: refine the beam centre of the geometry")
        return Rings(
            False, best, f"rings do not fit: {words}, {100 * left[best]:.1f} % with orientation: {best}; try that, or name a substance (calibrant:)"
        )
    return Rings(None, None, words if left[present] < 0.98 else "the frames show no rings that could be checked")


def dead_parts(total: np.ndarray, held: np.ndarray, integrator: Integrator, intensity: np.ndarray) -> list[str]:
    """Name blocks of pixels that count nothing where their rings say that they should.

    Parameters
    ----------
    total
        Sum of some frames, counts, as they are read.
    held
        Which pixels held a count at all, be it 0: gaps and masked pixels are marked by the detector itself.
    intensity
        Its pattern.

    Returns
    -------
    list of str
        Words for each part, the largest first; empty if all of the detector counts.
    """
    from scipy.ndimage import find_objects, label

    if total.dtype.kind not in "iu":
        return []
    valid = (integrator.bins() != integrator.points) & held
    expected = np.where(valid, integrator.expected(intensity), 0.0)
    seen = np.where(valid, total, 0)
    blocks = (_blocks(expected) >= _SURE) & (_blocks(seen) == 0)
    labels, _ = label(blocks)
    found: list[tuple[int, str]] = []
    for number, place in enumerate(find_objects(labels), 1):
        rows, columns = (slice(s.start * _BLOCK, min(s.stop * _BLOCK, n)) for s, n in zip(place, total.shape, strict=True))
        inside = np.kron(labels[place] == number, np.ones((_BLOCK, _BLOCK), bool))[: rows.stop - rows.start, : columns.stop - columns.start]
        pixels = int((inside & valid[rows, columns]).sum())
        counts = float(expected[rows, columns][inside].sum())
        words = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"
        found.append((pixels, f"{words}: {pixels} pixels that should hold {counts:.3g} counts hold none"))
    single = int(
        (valid & (expected >= _SURE) & (seen == 0) & ~np.kron(blocks, np.ones((_BLOCK, _BLOCK), bool))[: total.shape[0], : total.shape[1]]).sum()
    )
    if single:
        found.append((0, f"{single} single pixels that count nothing"))
    return [words for _, words in sorted(found, key=lambda item: -item[0])]


def _blocks(values: Any) -> np.ndarray:
    rows, columns = (-n % _BLOCK for n in values.shape)
    padded = np.pad(values, ((0, rows), (0, columns)))
    return np.asarray(padded.reshape(padded.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK).sum(axis=(1, 3)))
