"""Azimuthal integration of many frames of one geometry.

pyFAI owns the geometry, the corrections and the map from pixels to bins (Kieffer et al., J. Synchrotron Rad. 27 (2020) 558). It is built once; what
is done for each frame is to add its pixels to their bins, and that is done here, in one pass over the pixels in their own order:

    intensity = sum_p c_pb (raw_p - dark_p) / sum_p c_pb w_p,     sigma = sqrt(sum_p c_pb^2 raw_p) / sum_p c_pb w_p   (Poisson)

w_p is what pyFAI normalises by: solid angle, polarisation, flat field. Without pixel splitting c is 0 or 1 and counts are added as integers; with
splitting (`bbox`) a pixel is shared by the bins that its bounding box reaches. The two are different results, and which one it is stays with it.
Pixels that hold no count in a frame (the largest number of an unsigned detector, negative numbers, saturation) are left out of both sums.

The variance of a sum of counts is the sum of counts. pyFAI takes at least 1 for each pixel, so that its sigma is larger where pixels hold hardly a
count: not at all from a few counts a pixel on.

At the start the result is held against pyFAI's own; if they differ, pyFAI does the work.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operando.contract import ConfigError, ContractError

Split = Literal["no", "bbox"]
AGREE, AGREE_SIGMA = 1e-6, 1e-3  # relative differences to pyFAI within which ours is used


@dataclass(frozen=True)
class Pattern:
    """Integrated frames.

    Attributes
    ----------
    intensity, sigma
        (frame, q) float64: counts per unit of normalisation, and 1 sigma; NaN where no pixel lies in a bin.
    saturated, invalid
        Per frame: pixels at or above saturation, and pixels that held no count.
    """

    intensity: np.ndarray
    sigma: np.ndarray
    saturated: np.ndarray
    invalid: np.ndarray


class Integrator:
    """A geometry, ready to integrate frames.

    Parameters
    ----------
    geometry
        A .poni file, or a pyFAI `AzimuthalIntegrator`.
    points
        Bins.
    mask
        Pixels to leave out (True, or not 0), of the detector's shape; joined with the detector's own.
    flat, dark
        Of the detector's shape.
    polarization
        Factor from -1 to 1; None for no correction.
    radial_range
        Lowest and highest q, 1/angstrom.
    split
        `no`: each pixel belongs to the bin of its centre; `bbox`: shared by what its bounding box reaches.
    saturation
        Counts from which a pixel says no more; None for none.
    shape
        Of the frames, where the geometry does not say.

    Raises
    ------
    ConfigError
        pyFAI is missing, a geometry that cannot be read, settings that are none.
    ContractError
        Arrays that are not of the detector's shape.

    Examples
    --------
    >>> integrator = Integrator("geometry.poni", points=1000)                     # doctest: +SKIP
    >>> pattern = integrator.integrate(frames)                                    # doctest: +SKIP
    """

    def __init__(
        self,
        geometry: Any,
        *,
        points: int = 1000,
        mask: np.ndarray | None = None,
        flat: np.ndarray | None = None,
        dark: np.ndarray | None = None,
        polarization: float | None = None,
        radial_range: tuple[float, float] | None = None,
        split: Split = "no",
        saturation: float | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        if split not in ("no", "bbox"):
            raise ConfigError("split is not known", found=split, expected="no (each pixel in one bin) or bbox")
        if points < 2:
            raise ConfigError("too few points", found=points, expected="at least 2")
        self._ai = _geometry(geometry)
        if not self._ai.wavelength:  # pyFAI takes an empty file for a detector at 1 m, without a wavelength
            raise ConfigError("the geometry gives no wavelength", file=str(geometry)[:200], expected="a .poni file with Wavelength: in metres")
        self.shape: tuple[int, int] = tuple(shape or self._ai.detector.shape or ())
        if len(self.shape) != 2:
            raise ConfigError("the geometry does not say how many pixels there are", found=str(geometry), hint="give shape=(rows, columns)")
        self.points, self.split, self.saturation = points, split, saturation
        whole = self._ai.detector.calc_mask() if self._ai.detector.shape == self.shape else None
        bad = np.zeros(self.shape, bool) if whole is None else np.asarray(whole) != 0
        self.mask = bad if mask is None else bad | (self._fitting(mask, "mask") != 0)
        self._options: dict[str, Any] = {
            "unit": "q_A^-1",
            "mask": self.mask.astype(np.int8),
            "polarization_factor": polarization,
            "radial_range": radial_range,
            "method": (split, "csc", "cython"),
            "flat": None if flat is None else self._fitting(flat, "flat").astype(np.float32),
            "dark": None if dark is None else self._fitting(dark, "dark").astype(np.float32),
        }
        self._build()
        self.kernel = "operando" if self._agrees() else "pyFAI"

    @property
    def method(self) -> str:
        """What was done, in words that stay with the result."""
        words = "each pixel in the bin of its centre" if self.split == "no" else "pixels split by their bounding boxes"
        return f"{words}; pixel map by pyFAI, added up by {self.kernel}"

    def _fitting(self, array: np.ndarray, what: str) -> np.ndarray:
        if np.shape(array) != self.shape:
            raise ContractError(f"the {what} is not of the detector's shape", found=np.shape(array), expected=self.shape)
        return np.asarray(array)

    def _build(self) -> None:
        """Take pyFAI's map, and what it normalises by."""
        ones = np.ones(self.shape, np.float32)
        result = self._ai.integrate1d_ng(ones, self.points, error_model="poisson", **self._options)
        engines = [e for key, e in self._ai.engines.items() if (key.split_lower, key.algo_lower) == (self.split, "csc")]
        engine = engines[-1].engine
        self.q = np.asarray(result.radial, float)
        indptr, indices, share = np.asarray(engine.indptr), np.asarray(engine.indices), np.asarray(engine.data, np.float64)
        weight = np.ones(self.shape)
        weight *= self._ai.solidAngleArray(self.shape)
        if self._options["polarization_factor"] is not None:
            weight *= self._ai.polarization(self.shape, factor=self._options["polarization_factor"])
        if self._options["flat"] is not None:
            weight *= self._options["flat"]
        self._weight = np.ascontiguousarray(weight.ravel())
        reached = np.diff(indptr)
        pixel = np.repeat(np.arange(reached.size), reached)
        self.norm = np.bincount(indices, weights=share * self._weight[pixel], minlength=self.points)
        self._dark: np.ndarray = np.zeros(self.points)
        if self._options["dark"] is not None:
            self._dark[:] = np.bincount(indices, weights=share * self._options["dark"].ravel().astype(float)[pixel], minlength=self.points)
        self._dark_pixel = np.zeros(1) if self._options["dark"] is None else self._options["dark"].ravel().astype(float)
        kind: Any = np.uint16 if self.points < 2**16 - 8 else np.uint32  # unsigned: an index that may be negative costs twice the time
        first: np.ndarray = np.full(reached.size, self.points, kind)  # pixels of no bin go into one more, which is thrown away
        first[reached > 0] = indices[indptr[:-1][reached > 0]]
        self._valid = int((reached > 0).sum())
        if self.split == "no":
            self._map: tuple[np.ndarray, ...] = (first,)
        else:
            # the bins of a pixel are neighbours, and seldom more than two: the first one, two shares, and a list of what is left
            order = np.lexsort((indices, pixel))
            if not np.array_equal(indices[order][1:][np.diff(pixel) == 0], indices[order][:-1][np.diff(pixel) == 0] + 1):
                raise ContractError("the bins that pyFAI splits a pixel into are not neighbours", found=f"pyFAI {self._ai.__module__}")
            row, bins = share[order].astype(np.float32), indices[order]
            first[reached > 0] = bins[indptr[:-1][reached > 0]]
            shares = np.zeros((reached.size, 2), np.float32)
            nth = np.arange(pixel.size) - indptr[:-1][pixel]
            for k in (0, 1):
                shares[pixel[nth == k], k] = row[nth == k]
            more = nth > 1
            self._map = (first, shares, pixel[more], bins[more].astype(np.int64), row[more])
        self._lost_map = (indptr, indices, share)

    def _agrees(self) -> bool:
        """Integrate a made-up frame both ways."""
        rng = np.random.default_rng(0)
        frame = rng.poisson(50.0, self.shape).astype(np.uint16)
        peer = self._ai.integrate1d_ng(frame, self.points, error_model="poisson", **self._options)
        self.kernel = "operando"
        ours = self.integrate(frame[None])
        there = np.asarray(peer.sum_normalization) > 0
        scale = float(np.max(np.abs(peer.intensity[there]), initial=1e-300))
        off = float(np.max(np.abs(ours.intensity[0][there] - peer.intensity[there]), initial=0.0)) / scale
        sigma = float(np.max(np.abs(ours.sigma[0][there] / peer.sigma[there] - 1), initial=0.0))
        if off <= AGREE and sigma <= AGREE_SIGMA:
            return True
        warnings.warn(
            f"integration differs from pyFAI's (intensity by {off:.2g}, sigma by {sigma:.2g}): pyFAI is used, at its own speed",
            UserWarning,
            stacklevel=3,
        )
        return False

    def integrate(self, frames: np.ndarray, monitor: np.ndarray | float = 1.0) -> Pattern:
        """Integrate frames.

        Parameters
        ----------
        frames
            (frame, row, column), or one frame; counts of any integer type, or floats.
        monitor
            What each frame is divided by.

        Returns
        -------
        Pattern
            Patterns over `q` (1/angstrom).

        Raises
        ------
        ContractError
            Frames that are not of the detector's shape.
        """
        stack = np.asarray(frames)
        stack = stack[None] if stack.ndim == 2 else stack
        if stack.ndim != 3 or stack.shape[1:] != self.shape:
            raise ContractError(
                "the frames are not of the detector's shape", found=stack.shape, expected=f"(frame, {self.shape[0]}, {self.shape[1]})"
            )
        n = stack.shape[0]
        over = np.broadcast_to(np.asarray(monitor, float), (n,))
        intensity, sigma = np.empty((n, self.points)), np.empty((n, self.points))
        saturated, invalid = np.zeros(n, np.int64), np.zeros(n, np.int64)
        for k in range(n):
            if self.kernel == "pyFAI":
                intensity[k], sigma[k], saturated[k], invalid[k] = self._by_pyfai(stack[k])
            else:
                intensity[k], sigma[k], saturated[k], invalid[k] = self._one(stack[k])
        with np.errstate(divide="ignore", invalid="ignore"):
            return Pattern(intensity / over[:, None], sigma / over[:, None], saturated, invalid)

    def _top(self, dtype: np.dtype[Any]) -> Any:
        """Give the first number that is no count."""
        if dtype.kind == "f":
            return dtype.type(np.inf if self.saturation is None else self.saturation)
        info = np.iinfo(dtype)
        last = int(info.max) if self.saturation is None else min(int(np.ceil(self.saturation)), int(info.max))
        return np.dtype(f"u{dtype.itemsize}").type(last)

    def _one(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        flat = np.ascontiguousarray(frame).reshape(-1)
        flat = flat.astype(flat.dtype.newbyteorder("=")) if not flat.dtype.isnative else flat
        top = self._top(flat.dtype)
        if flat.dtype.kind == "i":
            flat = flat.view(f"u{flat.dtype.itemsize}")  # negative numbers are no counts, and the largest there are
        size = self.points + 8
        if self.split == "no":
            sums = np.zeros((4, size), np.int64 if flat.dtype.kind == "u" else np.float64)
            good = _kernels()[0](flat, self._map[0], top, sums)
            total = variance = sums.sum(axis=0)[: self.points].astype(float)
        else:
            both = np.zeros((4, size, 2))
            good = _kernels()[1](flat, *self._map, top, both)
            total, variance = both.sum(axis=0)[: self.points].T
        norm, dark, saturated = self.norm, self._dark, 0
        if good < self._valid:
            norm, dark, saturated = self._without(flat, top)
        with np.errstate(divide="ignore", invalid="ignore"):
            there = norm > 1e-9 * np.maximum(self.norm, 1e-300)
            intensity = np.where(there, (total - dark) / norm, np.nan)
            sigma = np.where(there, np.sqrt(np.maximum(variance, 0.0)) / norm, np.nan)
        return intensity, sigma, saturated, self._valid - good

    def _without(self, flat: np.ndarray, top: Any) -> tuple[np.ndarray, np.ndarray, int]:
        """Normalisation and dark without the pixels that hold no count, and how many of these are saturated."""
        indptr, indices, share = self._lost_map
        bad = np.flatnonzero(~(flat < top) & (np.diff(indptr) > 0))
        each = np.diff(indptr)[bad]
        places = np.repeat(indptr[:-1][bad], each) + np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
        pixel = np.repeat(bad, each)
        norm = self.norm - np.bincount(indices[places], weights=share[places] * self._weight[pixel], minlength=self.points)
        dark = self._dark
        if self._dark_pixel.size > 1:
            dark = dark - np.bincount(indices[places], weights=share[places] * self._dark_pixel[pixel], minlength=self.points)
        values = flat[bad]
        if flat.dtype.kind == "u":  # at the end of the range lie negative numbers and the marks of pixels that are gone
            saturated = int((values < np.iinfo(flat.dtype).max // 2 + 1).sum()) if self.saturation is not None else 0
        else:
            saturated = int((values >= top).sum()) if self.saturation is not None else 0
        return norm, dark, saturated

    def _by_pyfai(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        top = self._top(frame.dtype)
        values = frame.view(f"u{frame.dtype.itemsize}") if frame.dtype.kind == "i" else frame
        bad = ~(values < top)
        over = (frame >= (self.saturation if self.saturation is not None else np.inf)) & ~self.mask
        result = self._ai.integrate1d_ng(
            np.where(bad, np.float32(-1e30), frame.astype(np.float32)),
            self.points,
            error_model="poisson",
            dummy=-1e30,
            delta_dummy=1e25,
            **self._options,
        )
        there = np.asarray(result.sum_normalization) > 0
        return (
            np.where(there, result.intensity, np.nan),
            np.where(there, result.sigma, np.nan),
            int(over.sum()),
            int((bad & ~self.mask).sum()),
        )


def _geometry(geometry: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyFAI
            from pyFAI.integrator.azimuthal import AzimuthalIntegrator
    except ImportError as error:
        raise ConfigError("integration needs pyFAI", found=str(error), hint='pip install "operando[xrd]"') from None
    if isinstance(geometry, str | Path):
        try:
            return pyFAI.load(str(geometry), type_="pyFAI.integrator.azimuthal.AzimuthalIntegrator")
        except Exception as error:  # whatever pyFAI raises for a file that is none
            raise ConfigError(
                "the geometry cannot be read", file=geometry, found=f"{type(error).__name__}: {error}", expected="a .poni file"
            ) from None
    if isinstance(geometry, AzimuthalIntegrator):
        return geometry
    raise ConfigError("not a geometry", found=type(geometry).__name__, expected="a .poni file or a pyFAI AzimuthalIntegrator")


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """Compile the two loops; numba is imported when a frame is first integrated.

    Neighbouring pixels mostly go into the same bin, and an addition that waits for the one before it takes several times as long: each has its own
    set of sums, in turns of four.
    """
    from numba import njit

    @njit(nogil=True)
    def centre(frame, bins, top, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Add each pixel to the bin of its centre; how many were added."""
        good = 0
        gone = sums.shape[1] - 8
        one, two, three, four = sums[0], sums[1], sums[2], sums[3]
        whole = frame.size // 4 * 4
        for p in range(0, whole, 4):
            v, w, x, y = frame[p], frame[p + 1], frame[p + 2], frame[p + 3]
            if v < top:
                b = bins[p]
                one[b] += v
                good += b != gone
            if w < top:
                b = bins[p + 1]
                two[b] += w
                good += b != gone
            if x < top:
                b = bins[p + 2]
                three[b] += x
                good += b != gone
            if y < top:
                b = bins[p + 3]
                four[b] += y
                good += b != gone
        for p in range(whole, frame.size):
            v = frame[p]
            if v < top:
                b = bins[p]
                one[b] += v
                good += b != gone
        return good

    @njit(nogil=True)
    def boxes(frame, first, shares, pixels, bins, rest, top, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
        """Share each pixel among the bins that its bounding box reaches; how many were added."""
        good = 0
        gone = sums.shape[1] - 8
        for p in range(frame.size):
            v = frame[p]
            b = np.int64(first[p])
            if v < top and b != gone:
                x = np.float64(v)
                c = np.float64(shares[p, 0])
                d = np.float64(shares[p, 1])
                s = p & 3
                sums[s, b, 0] += c * x
                sums[s, b, 1] += c * c * x
                sums[s, b + 1, 0] += d * x
                sums[s, b + 1, 1] += d * d * x
                good += 1
        for k in range(pixels.size):
            v = frame[pixels[k]]
            if v < top:
                c = np.float64(rest[k])
                sums[0, bins[k], 0] += c * v
                sums[0, bins[k], 1] += c * c * v
        return good

    return centre, boxes
