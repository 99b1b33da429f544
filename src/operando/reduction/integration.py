"""Azimuthal integration of many frames of one geometry.

pyFAI owns the geometry, the corrections and the map from pixels to bins (Kieffer et al., J. Synchrotron Rad. 27 (2020) 558). It is built once; what
is done for each frame is to add its pixels to their bins, and that is done here, in one pass over the pixels in their own order:

    intensity = sum_p c_pb (raw_p - dark_p) / sum_p c_pb w_p,     sigma = sqrt(sum_p c_pb^2 var_p) / sum_p c_pb w_p

w_p is what pyFAI normalises by: solid angle, polarisation, flat field. Without pixel splitting c is 0 or 1 and counts are added as integers; with
splitting (`bbox`) a pixel is shared by the bins that its bounding box reaches. The two are different results, and which one it is stays with it.
Pixels that hold no count in a frame (the largest number of an unsigned detector, negative numbers, saturation) are left out of both sums.

The variance var_p of a pixel is its count (`poisson`), or gain x signal + readout^2 where the detector integrates a current (`gain`: flat panels,
CCDs, image plates). `azimuthal` takes the scatter of the pixels of a ring instead, `sigma-clip` leaves out pixels beyond some sigmas of their
ring, `median` takes the ring's median: against spots of diamond, salt and single grains. These three are pyFAI's own.

The variance of a sum of counts is the sum of counts. pyFAI takes at least 1 for each pixel, so that its sigma is larger where pixels hold hardly a
count: not at all from a few counts a pixel on.

Frames that do not look as the geometry takes them (mirrored, turned) are not moved: the map is, once.

At the start the result is held against pyFAI's own; if they differ, pyFAI does the work.
"""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from operando.contract import ConfigError, ContractError, LoaderError
from operando.images import ORIENTATIONS, Chunk, oriented
from operando.images.chunks import DAMAGED
from operando.reduction.pixel_sums import loops

Split = Literal["no", "bbox"]
ErrorModel = Literal["poisson", "gain", "azimuthal"]
Robust = Literal["no", "sigma-clip", "median"]
AGREE, AGREE_SIGMA = 1e-6, 1e-3  # relative differences to pyFAI within which ours is used
_NOTED = 1 << 16  # pixels without a count that are noted in passing; if there are more the frame is looked through


@dataclass(frozen=True)
class Pattern:
    """Integrated frames.

    Attributes
    ----------
    intensity, sigma
        (frame, q) float64: counts per unit of normalisation, and 1 sigma; NaN where no pixel lies in a bin.
    saturated, invalid
        Per frame: pixels at or above saturation, and pixels that held no count.
    total
        Per frame: counts of all pixels that have a bin.
    """

    intensity: np.ndarray
    sigma: np.ndarray
    saturated: np.ndarray
    invalid: np.ndarray
    total: np.ndarray


class Integrator:
    """A geometry, ready to integrate frames.

    Parameters
    ----------
    geometry
        A .poni file, or a pyFAI `AzimuthalIntegrator`.
    points
        Bins; None for one for every pixel along the longest radius.
    mask
        Pixels to leave out (True, or not 0), of the frames' shape; joined with the detector's own.
    flat, dark
        Of the frames' shape.
    polarization
        Factor from -1 to 1; None for no correction.
    radial_range
        Lowest and highest q, 1/angstrom.
    azimuth_range
        Lowest and highest azimuth, degrees from -180 to 180, as pyFAI counts them.
    split
        `no`: each pixel belongs to the bin of its centre; `bbox`: shared by what its bounding box reaches.
    saturation
        Counts from which a pixel says no more; None for none.
    shape
        Of the frames as they are read, where the geometry does not say.
    orientation
        What has to be done to a frame before it looks as the geometry takes it; mask, flat and dark are of the frame as it is read.
    wavelength
        angstrom, instead of the geometry's.
    error_model, gain, readout_noise
        See the module; counts per photon, and counts.
    robust, threshold
        See the module; sigmas beyond which `sigma-clip` leaves a pixel out.

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
        points: int | None = 1000,
        mask: np.ndarray | None = None,
        flat: np.ndarray | None = None,
        dark: np.ndarray | None = None,
        polarization: float | None = None,
        radial_range: tuple[float, float] | None = None,
        azimuth_range: tuple[float, float] | None = None,
        split: Split = "no",
        saturation: float | None = None,
        shape: tuple[int, int] | None = None,
        orientation: str = "as-read",
        wavelength: float | None = None,
        error_model: ErrorModel = "poisson",
        gain: float = 1.0,
        readout_noise: float = 0.0,
        robust: Robust = "no",
        threshold: float = 5.0,
    ) -> None:
        for name, value, known in (
            ("split", split, {"no": "each pixel in one bin", "bbox": "bounding boxes"}),
            ("error_model", error_model, {"poisson": "counts", "gain": "gain and readout noise", "azimuthal": "scatter in the ring"}),
            ("robust", robust, {"no": "all pixels", "sigma-clip": "without outliers", "median": "the ring's median"}),
            ("orientation", orientation, dict.fromkeys(ORIENTATIONS, "")),
        ):
            if value not in known:
                raise ConfigError(f"{name} is not known", found=value, expected="; ".join(f"{k} ({v})" if v else k for k, v in known.items()))
        if points is not None and points < 2:
            raise ConfigError("too few points", found=points, expected="at least 2")
        self._ai = copy.deepcopy(read_geometry(geometry)) if wavelength is not None else read_geometry(geometry)
        if wavelength is not None:
            self._ai.wavelength = wavelength * 1e-10
        if not self._ai.wavelength:  # pyFAI takes an empty file for a detector at 1 m, without a wavelength
            raise ConfigError("the geometry gives no wavelength", file=str(geometry)[:200], expected="a .poni file with Wavelength: in metres")
        self.orientation = orientation
        known_shape = tuple(self._ai.detector.shape or ())
        if shape is None and len(known_shape) == 2:
            shape = oriented(np.empty(known_shape, np.bool_), orientation).shape
        if shape is None or len(shape) != 2:
            raise ConfigError("the geometry does not say how many pixels there are", found=str(geometry)[:200], hint="give shape=(rows, columns)")
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        self._upright: tuple[int, ...] = oriented(np.empty(self.shape, np.bool_), orientation).shape
        if len(known_shape) == 2 and known_shape != self._upright:
            turned = " transpose fits" if known_shape == self._upright[::-1] else ""
            raise ConfigError(
                "the geometry is for another detector",
                file=geometry if isinstance(geometry, str | Path) else None,
                found=f"frames of {self._upright[0]} x {self._upright[1]} pixels, a geometry of {known_shape[0]} x {known_shape[1]}",
                hint=f"orientation:{turned}" if turned else "correct poni:, or data: (another detector in the same files?)",
            )
        if self._ai.detector.shape is None:
            self._ai.detector.shape = self._upright
        self.points = points if points is not None else self._longest_radius()
        self.split, self.saturation, self.robust, self.threshold = split, saturation, robust, threshold
        self.error_model, self.gain, self.readout_noise = error_model, float(gain), float(readout_noise)
        self._lock = threading.Lock()
        whole = self._ai.detector.calc_mask()
        bad = np.zeros(self.shape, bool) if whole is None else self._as_read(np.asarray(whole) != 0)
        self.mask = bad if mask is None else bad | (self._fitting(mask, "mask") != 0)
        if azimuth_range is not None and azimuth_range[1] - azimuth_range[0] < 360.0:
            chi = np.degrees(self._as_read(self._ai.center_array(self._upright, unit="chi_rad", scale=False)))
            self.mask = self.mask | ((chi - azimuth_range[0]) % 360.0 > (azimuth_range[1] - azimuth_range[0]) % 360.0)
        if self.mask.all():
            raise ConfigError("the mask leaves no pixel", found=f"{self.mask.size} pixels, all masked", hint="is it inverted? not 0 means: leave out")
        self._options: dict[str, Any] = {
            "unit": "q_A^-1",
            "mask": np.ascontiguousarray(oriented(self.mask, orientation)).astype(np.int8),
            "polarization_factor": polarization,
            "radial_range": radial_range,
            "method": (split, "csc", "cython"),
            "flat": None if flat is None else np.ascontiguousarray(oriented(self._fitting(flat, "flat"), orientation)).astype(np.float32),
            "dark": None if dark is None else np.ascontiguousarray(oriented(self._fitting(dark, "dark"), orientation)).astype(np.float32),
        }
        self._build()
        self.kernel = "operando" if robust == "no" and error_model != "azimuthal" and self._agrees() else "pyFAI"

    @property
    def method(self) -> str:
        """What was done, in words that stay with the result."""
        if self.robust != "no":
            kept = f"pixels beyond {self.threshold:g} sigma of their ring left out" if self.robust == "sigma-clip" else "median of each ring"
            return f"{kept}; by pyFAI"
        words = "each pixel in the bin of its centre" if self.split == "no" else "pixels split by their bounding boxes"
        return f"{words}; pixel map by pyFAI, added up by {self.kernel}"

    @property
    def wavelength(self) -> float:
        """Wavelength, angstrom."""
        return float(self._ai.wavelength * 1e10)

    @property
    def two_theta(self) -> np.ndarray:
        """Scattering angle of the bins, degrees."""
        return np.asarray(2 * np.degrees(np.arcsin(np.clip(self.q * self.wavelength / (4 * np.pi), -1, 1))))

    def bins(self) -> np.ndarray:
        """Bin of each pixel's centre (or the first it reaches), of the frames' shape; `points` for pixels of none."""
        return np.asarray(self._map[0]).reshape(self.shape)

    def rings(self) -> tuple[np.ndarray, np.ndarray]:
        """Scattering vector (1/angstrom) and normalisation of every pixel, as the geometry lays them out; masks play no part."""
        q = np.asarray(self._ai.center_array(self._upright, unit="q_A^-1", scale=True), float)
        return q, np.ascontiguousarray(oriented(self._weight.reshape(self.shape), self.orientation))

    def expected(self, intensity: np.ndarray) -> np.ndarray:
        """Counts that each pixel would hold if its ring were even, of the frames' shape; 0 for pixels of no bin."""
        rings = np.append(np.nan_to_num(intensity), 0.0)
        return np.asarray(rings[self._map[0]] * self._weight).reshape(self.shape)

    def _longest_radius(self) -> int:
        """Pixels along the longest radius: more bins would be emptier than the pixels are fine."""
        r = self._ai.center_array(self._upright, unit="r_m", scale=False)
        pixel = min(self._ai.detector.pixel1, self._ai.detector.pixel2)
        return int(np.clip(round((float(r.max()) - float(r.min())) / pixel), 100, 8000))

    def _fitting(self, array: np.ndarray, what: str) -> np.ndarray:
        if np.shape(array) != self.shape:
            raise ContractError(f"the {what} is not of the detector's shape", found=np.shape(array), expected=self.shape)
        return np.asarray(array)

    def _as_read(self, upright: np.ndarray) -> np.ndarray:
        """Lay an array of the geometry's pixels out as the pixels of a frame as it is read."""
        back = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}.get(self.orientation, self.orientation)
        return np.ascontiguousarray(oriented(upright, back))

    def _build(self) -> None:
        """Take pyFAI's map, and what it normalises by."""
        ones = np.ones(self._upright, np.float32)
        result = self._ai.integrate1d_ng(ones, self.points, error_model="poisson", **self._options)
        engines = [e for key, e in self._ai.engines.items() if (key.split_lower, key.algo_lower) == (self.split, "csc")]
        engine = engines[-1].engine
        self.q = np.asarray(result.radial, float)
        indptr, indices, share = np.asarray(engine.indptr), np.asarray(engine.indices), np.asarray(engine.data, np.float64)
        weight = np.ones(self._upright)
        weight *= self._ai.solidAngleArray(self._upright)
        if self._options["polarization_factor"] is not None:
            weight *= self._ai.polarization(self._upright, factor=self._options["polarization_factor"])
        if self._options["flat"] is not None:
            weight *= self._options["flat"]
        if self.orientation != "as-read":
            indptr, indices, share = self._in_order_of_reading(indptr, indices, share)
        self._weight = self._as_read(weight).ravel()
        reached = np.diff(indptr)
        pixel = np.repeat(np.arange(reached.size), reached)
        self.norm = np.bincount(indices, weights=share * self._weight[pixel], minlength=self.points)
        self._area = np.bincount(indices, weights=share**2, minlength=self.points)
        self._dark: np.ndarray = np.zeros(self.points)
        dark = None if self._options["dark"] is None else self._as_read(self._options["dark"]).ravel().astype(float)
        if dark is not None:
            self._dark[:] = np.bincount(indices, weights=share * dark[pixel], minlength=self.points)
        self._dark_pixel = np.zeros(1) if dark is None else dark
        self._dark_squared = (
            np.bincount(indices, weights=share**2 * dark[pixel], minlength=self.points) if dark is not None else np.zeros(self.points)
        )
        kind: Any = np.uint16 if self.points < 2**16 - 8 else np.uint32  # unsigned: an index that may be negative costs twice the time
        first: np.ndarray = np.full(reached.size, self.points, kind)  # pixels of no bin go into one more, which is thrown away
        first[reached > 0] = indices[indptr[:-1][reached > 0]]
        self._unused = np.packbits(reached == 0, bitorder="little")
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

    def _in_order_of_reading(self, indptr: np.ndarray, indices: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lay pyFAI's map, which is in the order of the geometry's pixels, out in the order in which frames are read."""
        pixels = self._as_read(np.arange(indptr.size - 1).reshape(self._upright)).ravel()
        each = np.diff(indptr)[pixels]
        begin = np.concatenate([[0], np.cumsum(each)])
        places = np.repeat(indptr[:-1][pixels] - begin[:-1], each) + np.arange(begin[-1])
        return begin, indices[places], share[places]

    def _agrees(self) -> bool:
        """Integrate a made-up frame both ways."""
        rng = np.random.default_rng(0)
        dark = 0.0 if self._options["dark"] is None else self._as_read(self._options["dark"])
        frame = rng.poisson(50.0 + np.maximum(dark, 0.0), self.shape).astype(np.uint32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = self._ai.integrate1d_ng(
                np.ascontiguousarray(oriented(frame, self.orientation)), self.points, **self._errors(frame), **self._options
            )
        self.kernel = "operando"
        ours = self.integrate(frame[None])
        there = np.asarray(peer.sum_normalization) > 0
        scale = float(np.max(np.abs(peer.intensity[there]), initial=1e-300))
        off = float(np.max(np.abs(ours.intensity[0][there] - peer.intensity[there]), initial=0.0)) / scale
        with np.errstate(divide="ignore", invalid="ignore"):
            sigma = float(np.nanmax(np.abs(ours.sigma[0][there] / peer.sigma[there] - 1), initial=0.0))
        if off <= AGREE and sigma <= AGREE_SIGMA:
            return True
        warnings.warn(
            f"integration differs from pyFAI's (intensity by {off:.2g}, sigma by {sigma:.2g}): pyFAI is used, at its own speed",
            UserWarning,
            stacklevel=3,
        )
        return False

    def _errors(self, frame: np.ndarray) -> dict[str, Any]:
        """Say in pyFAI's words what a pixel's variance is."""
        if self.error_model != "gain":
            return {"error_model": self.error_model}
        signal = np.maximum(
            oriented(frame, self.orientation).astype(np.float32) - (0.0 if self._options["dark"] is None else self._options["dark"]), 0.0
        )
        return {"variance": np.ascontiguousarray(self.gain * signal + self.readout_noise**2, np.float32)}

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
        over = np.broadcast_to(np.asarray(monitor, float), (stack.shape[0],))
        each = [self.one(frame) for frame in stack]
        intensity, sigma = (np.array([one[k] for one in each]).reshape(stack.shape[0], self.points) for k in (0, 1))
        saturated, invalid, total = (np.array([one[k] for one in each], kind) for k, kind in ((2, np.int64), (3, np.int64), (4, float)))
        with np.errstate(divide="ignore", invalid="ignore"):
            return Pattern(intensity / over[:, None], sigma / over[:, None], saturated, invalid, total)

    def one(self, frame: np.ndarray | Chunk) -> tuple[np.ndarray, np.ndarray, int, int, float]:
        """Integrate one frame, as it is or still compressed; several threads may.

        Returns
        -------
        tuple
            Intensity, sigma, saturated pixels, pixels without a count, counts of all pixels.

        Raises
        ------
        ContractError
            It is not of the detector's shape.
        LoaderError
            A compressed frame is damaged.
        """
        if tuple(frame.shape) != self.shape:
            raise ContractError("the frame is not of the detector's shape", found=tuple(frame.shape), expected=self.shape)
        top = self._top(frame.dtype)
        lost: np.ndarray = np.empty(_NOTED, np.int64)
        if isinstance(frame, Chunk) and self.kernel == "operando" and self.split == "no" and frame.dtype.kind in "iu" and frame.dtype.itemsize < 8:
            frame.check()
            sums: np.ndarray = np.zeros((4, self.points + 8), np.int64)
            values: np.ndarray = np.empty(_NOTED, np.uint64)
            n = int(np.prod(self.shape))
            bad = loops()["chunk"](frame.data, n, frame.dtype.itemsize, self._map[0], self._unused, np.uint64(top), sums, lost, values)
            if bad == DAMAGED:
                raise LoaderError("a compressed frame is damaged", hint="copy the file again")
            if bad <= _NOTED:
                total = sums.sum(axis=0)[: self.points].astype(float)
                return self._finished(total, total, lost[:bad], values[:bad], frame.dtype)
        whole = frame.decode() if isinstance(frame, Chunk) else frame
        if self.kernel == "pyFAI":
            return self._by_pyfai(whole)
        flat = np.ascontiguousarray(whole).reshape(-1)
        flat = flat.astype(flat.dtype.newbyteorder("=")) if not flat.dtype.isnative else flat
        if flat.dtype.kind == "b":
            flat = flat.view(np.uint8)
        if flat.dtype.kind == "i":
            flat = flat.view(f"u{flat.dtype.itemsize}")  # negative numbers are no counts, and the largest there are
        if self.split == "no":
            sums = np.zeros((4, self.points + 8), np.int64 if flat.dtype.kind == "u" else np.float64)
            bad = loops()["centre"](flat, self._map[0], top, sums, lost)
            total = variance = sums.sum(axis=0)[: self.points].astype(float)
        else:
            both = np.zeros((4, self.points + 8, 2))
            bad = loops()["boxes"](flat, *self._map, top, both, lost)
            total, variance = both.sum(axis=0)[: self.points].T
        where = lost[:bad] if bad <= _NOTED else np.flatnonzero(~(flat < top) & (self._map[0] != self.points))
        return self._finished(total, variance, where, flat[where], whole.dtype)

    def _top(self, dtype: np.dtype[Any]) -> Any:
        """Give the first number that is no count."""
        if dtype.kind == "f":
            return dtype.type(np.inf if self.saturation is None else self.saturation)
        if dtype.kind == "b":
            return np.uint8(2)
        info = np.iinfo(dtype)
        last = int(info.max) if self.saturation is None else min(int(np.ceil(self.saturation)), int(info.max))
        return np.dtype(f"u{dtype.itemsize}").type(last)

    def _finished(
        self, total: np.ndarray, squared: np.ndarray, lost: np.ndarray, values: np.ndarray, dtype: np.dtype[Any]
    ) -> tuple[np.ndarray, np.ndarray, int, int, float]:
        """Divide sums by what they are normalised by, without the pixels that hold no count."""
        norm, dark, area, dark_squared = self.norm, self._dark, self._area, self._dark_squared
        if lost.size:
            indptr, indices, share = self._lost_map
            each = np.diff(indptr)[lost]
            places = np.repeat(indptr[:-1][lost], each) + np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
            pixel, bins, part = np.repeat(lost, each), indices[places], share[places]
            norm = norm - np.bincount(bins, weights=part * self._weight[pixel], minlength=self.points)
            area = area - np.bincount(bins, weights=part**2, minlength=self.points)
            if self._dark_pixel.size > 1:
                dark = dark - np.bincount(bins, weights=part * self._dark_pixel[pixel], minlength=self.points)
                dark_squared = dark_squared - np.bincount(bins, weights=part**2 * self._dark_pixel[pixel], minlength=self.points)
        variance = squared
        if self.error_model == "gain":
            variance = self.gain * (squared - dark_squared) + self.readout_noise**2 * area
        with np.errstate(divide="ignore", invalid="ignore"):
            there = norm > 1e-9 * np.maximum(self.norm, 1e-300)
            intensity = np.where(there, (total - dark) / norm, np.nan)
            sigma = np.where(there, np.sqrt(np.maximum(variance, 0.0)) / norm, np.nan)
        return intensity, sigma, self._saturated(values, dtype), int(lost.size), float(total.sum())

    def _saturated(self, values: np.ndarray, dtype: np.dtype[Any]) -> int:
        """Count the saturated among pixels that hold no count; the others are marked: NaN, negative, or the largest number there is."""
        if self.saturation is None or not values.size:
            return 0
        if dtype.kind == "f":
            return int((values >= self.saturation).sum())
        info = np.iinfo(dtype)
        marks = values.astype(np.uint64) > np.uint64(info.max) if dtype.kind == "i" else values.astype(np.uint64) == np.uint64(info.max)
        return int((~marks | (self.saturation >= info.max)).sum()) if dtype.kind == "u" else int((~marks).sum())

    def _by_pyfai(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int, float]:
        top = self._top(frame.dtype)
        values = frame.view(f"u{frame.dtype.itemsize}") if frame.dtype.kind in "ib" else frame
        bad = ~(values < top) & ~self.mask
        upright = np.ascontiguousarray(oriented(np.where(bad, np.float32(-1e30), frame.astype(np.float32)), self.orientation))
        options = {**self._options, "dummy": -1e30, "delta_dummy": 1e25, **self._errors(frame)}
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.robust == "no":
                result = self._ai.integrate1d_ng(upright, self.points, **options)
            else:
                options["method"] = (self.split, "csr", "cython")
                if self.robust == "sigma-clip":
                    result = self._ai.sigma_clip_ng(upright, self.points, thres=self.threshold, **options)
                elif not hasattr(self._ai, "medfilt1d_ng"):
                    raise ConfigError("the median of a ring needs a newer pyFAI", hint="pip install -U pyFAI")
                else:
                    result = self._ai.medfilt1d_ng(upright, self.points, **options)
        there = np.asarray(result.sum_normalization) > 0
        sigma = np.asarray(result.sigma) if result.sigma is not None else np.full(self.points, np.nan)
        if self.robust == "median":  # pyFAI gives the error of the one pixel; the median of n of them scatters by sqrt(pi / 2 / n) of it
            with np.errstate(divide="ignore", invalid="ignore"):
                sigma = sigma * np.sqrt(np.pi / 2 / self._area)
        good = ~bad & ~self.mask
        return (
            np.where(there, result.intensity, np.nan),
            np.where(there, sigma, np.nan),
            self._saturated(values[bad], frame.dtype),
            int(bad.sum()),
            float(frame[good].sum(dtype=float)),
        )


def read_geometry(geometry: Any) -> Any:
    """Give pyFAI's integrator for a .poni file, its text, or one that is there already.

    Raises
    ------
    ConfigError
        pyFAI is missing, or the geometry cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyFAI
            from pyFAI.integrator.azimuthal import AzimuthalIntegrator
    except ImportError as error:
        raise ConfigError("integration needs pyFAI", found=str(error), hint='pip install "operando[xrd]"') from None
    if isinstance(geometry, str) and "\n" in geometry:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "geometry.poni")
            path.write_text(geometry, encoding="utf-8")
            return read_geometry(path)
    if isinstance(geometry, str | Path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return pyFAI.load(str(geometry), type_="pyFAI.integrator.azimuthal.AzimuthalIntegrator")
        except Exception as error:  # whatever pyFAI raises for a file that is none
            raise ConfigError(
                "the geometry cannot be read", file=geometry, found=f"{type(error).__name__}: {error}", expected="a .poni file"
            ) from None
    if isinstance(geometry, AzimuthalIntegrator):
        return geometry
    raise ConfigError("not a geometry", found=type(geometry).__name__, expected="a .poni file or a pyFAI AzimuthalIntegrator")
