"""From counts to what the sample lets through: dark, flat, blank, monitor; means over rectangles; small pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray as xr

from operando import images
from operando.config import MeasuredFile
from operando.contract import ConfigError, OperandoError
from operando.images import oriented
from operando.reduction.imaging.recipe import Imaging, Region


@dataclass
class Picture:
    """A frame as it is measured in.

    Attributes
    ----------
    values
        float32 (row, column) of the recipe's quantity; NaN where the flat is dark or the pixel was not read.
    level
        Mean counts above the dark: whether there was light.
    saturated
        Part of the pixels at the largest number of their type, or of a camera of 10, 12 or 14 bits where they pile up there.
    """

    values: np.ndarray
    level: float
    saturated: float


_FLOOR = 0.01
"""Part of the dark's counts below which what is left of a frame is the drift of the camera's offset and no light."""


class Correction:
    """Turns frames into pictures of the recipe's quantity.

    Parameters
    ----------
    frames
        The table of references; its attributes say shape and orientation.
    recipe
        Settings.
    folder
        What names of files count from.

    Attributes
    ----------
    floor
        Counts above the dark up to which a frame holds no light: 1 % of the dark's mean, which offsets of cameras vary by; none without a dark.

    Raises
    ------
    ConfigError
        Flat or dark are not of the frames' shape, or hold no light.
    """

    def __init__(self, frames: xr.Dataset, recipe: Imaging, folder: str | None) -> None:
        self.recipe, self.folder = recipe, folder
        try:
            self.orientation = str(json.loads(frames.attrs.get("detector") or "{}").get("orientation", "as-read"))
        except ValueError:
            self.orientation = "as-read"
        shape = tuple(int(n) for n in np.atleast_1d(frames.attrs.get("detector_shape", ())))
        self.dark = self._measured(recipe.dark, "dark", frames, shape)
        flat = self._measured(recipe.flat, "flat", frames, shape)
        if flat is not None:
            flat = flat - (0 if self.dark is None else self.dark)
            if not (flat > 0).mean() > 0.01:
                raise ConfigError(
                    "flat: holds no light above the dark", file=recipe.flat.file if recipe.flat else None, hint="are flat: and dark: exchanged?"
                )
            flat = np.where(flat > 1e-3 * np.nanmedian(flat[flat > 0]), flat, np.nan)
        self.flat = flat
        self.floor = _FLOOR * float(np.nanmean(self.dark)) if self.dark is not None else -np.inf
        named = recipe.quantity
        self.quantity = ("transmission" if flat is not None or recipe.blank is not None else "intensity") if named == "auto" else named
        self.units = "counts" if self.quantity == "intensity" and flat is None and recipe.blank is None else "1"

    def _measured(self, named: MeasuredFile | None, what: str, frames: xr.Dataset, shape: tuple[int, ...]) -> np.ndarray | None:
        if named is None:
            return None
        series = named.series(frames)
        if "file" not in series:
            raise ConfigError(
                f"{what}: holds no pictures", file=named.file, found=str(series.attrs.get("technique")), hint="loader: tiff-stack, hdf5-stack or xrm"
            )
        total: np.ndarray | None = None
        for k in range(series.sizes["time"]):
            one = images.read(str(series["file"].values[k]), str(series["dataset"].values[k]), int(series["index"].values[k])).astype(np.float64)
            if len(shape) == 2 and one.shape != shape:
                raise ConfigError(f"{what}: is not of the frames' shape", file=named.file, found=one.shape, expected=shape, hint=f"correct {what}:")
            total = one if total is None else total + one
        assert total is not None
        return np.asarray(oriented(total / series.sizes["time"], self.orientation), np.float32)

    def picture(self, counts: np.ndarray, divisor: float) -> Picture:
        """Correct one frame."""
        counts = oriented(counts, self.orientation)
        saturated = _saturated(counts)
        values = counts.astype(np.float32)
        values[~np.isfinite(values)] = np.nan
        if self.dark is not None:
            values -= self.dark
        level = float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
        if self.flat is not None:
            values /= self.flat
        if self.recipe.blank is not None:
            clear = values[slices(self.recipe.blank, values.shape)]
            reference = float(np.nanmean(clear)) if clear.size and np.isfinite(clear).any() else np.nan
            values /= reference if reference > 0 else np.nan
        else:
            values /= divisor
        if self.quantity == "optical_density":
            with np.errstate(divide="ignore", invalid="ignore"):
                values = -np.log(np.where(values > 0, values, np.nan))
        return Picture(values, level, saturated)

    def pictures(self, frames: xr.Dataset, workers: int) -> Iterator[Picture | OperandoError]:
        """Read and correct frames in order; a few lie in memory at once."""
        references = [
            (str(f), str(d), int(i)) for f, d, i in zip(frames["file"].values, frames["dataset"].values, frames["index"].values, strict=True)
        ]
        divisors = self._divisors(frames)
        shape = tuple(int(n) for n in np.atleast_1d(frames.attrs.get("detector_shape", ())))

        def one(k: int) -> Picture | OperandoError:
            try:
                counts = images.read(*references[k], folder=self.folder)
                if len(shape) == 2 and counts.shape != shape:
                    raise ConfigError(
                        "the frame is of another size than the others", file="::".join(map(str, references[k])), found=counts.shape, expected=shape
                    )
                return self.picture(counts, float(divisors[k]))
            except OperandoError as error:
                error.file = error.file or "::".join(map(str, references[k]))
                return error

        ahead = max(1, workers)
        if ahead == 1:
            for k in range(len(references)):
                yield one(k)
            return
        with ThreadPoolExecutor(ahead) as pool:
            for a in range(0, len(references), ahead):
                yield from pool.map(one, range(a, min(a + ahead, len(references))))

    def _divisors(self, frames: xr.Dataset) -> np.ndarray:
        name = self.recipe.normalise
        if name is None:
            return np.ones(frames.sizes["time"])
        if name not in frames.coords or frames[name].dims != ("time",) or frames[name].dtype.kind not in "iuf":
            there = [str(c) for c, v in frames.coords.items() if v.dims == ("time",) and v.dtype.kind in "iuf"]
            raise ConfigError("normalise: names no number of the frames", found=name, expected=", ".join(there))
        values = np.asarray(frames[name].values, float)
        return np.where(values > 0, values, np.nan)


def _saturated(counts: np.ndarray) -> float:
    """Give the part of the pixels that count no further.

    Cameras of 10, 12 and 14 bits write into 16, in the low bits or in the high ones: the largest number they give is 4095 or 65520. A picture that
    merely ends there has fewer pixels at its largest value than just below; one that is cut off there has more.
    """
    if counts.dtype.kind not in "iu" or counts.dtype.itemsize > 2 or not counts.size:
        return 0.0
    top = int(counts.max())
    at_top = float((counts == top).mean())
    if top == np.iinfo(counts.dtype).max:
        return at_top
    for bits in (10, 12, 14):
        for unit in {1, 1 << (16 - bits)}:
            if top == ((1 << bits) - 1) * unit and at_top > 2 * float((counts == top - unit).mean()):
                return at_top
    return 0.0


def slices(region: Region, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Give a region as slices of a picture."""
    rows, columns = region.rows or (0, shape[0]), region.columns or (0, shape[1])
    return slice(rows[0], min(rows[1], shape[0])), slice(columns[0], min(columns[1], shape[1]))


def region_mean(values: np.ndarray, region: Region, offset: tuple[float, float]) -> tuple[float, float, float]:
    """Average a rectangle that has moved by a part of a pixel: pixels count by how much of them lies in it.

    Returns
    -------
    tuple
        Mean; its standard error from the noise of neighbouring pixels (Immerkaer, Comput. Vis. Image Underst. 64 (1996) 300), which a fine texture
        makes larger; standard deviation of the pixels. NaN where less than half of the rectangle is in the picture.
    """
    weights, spans = [], []
    for axis, (span, moved) in enumerate(zip((region.rows, region.columns), offset, strict=True)):
        n = values.shape[axis]
        begin, end = (0.0, float(n)) if span is None else (span[0] + moved, span[1] + moved)
        a, b = max(0, int(np.floor(begin))), min(n, int(np.ceil(end)))
        if b <= a or not min(end, n) - max(begin, 0.0) >= 0.5 * (end - begin):
            return np.nan, np.nan, np.nan
        pixel = np.arange(a, b)
        weights.append(np.clip(np.minimum(pixel + 1, end) - np.maximum(pixel, begin), 0, 1))
        spans.append(slice(a, b))
    part = values[spans[0], spans[1]].astype(float)
    good = np.isfinite(part)
    weight = np.outer(*weights) * good
    total = weight.sum()
    if not total >= 0.5 * weights[0].sum() * weights[1].sum():
        return np.nan, np.nan, np.nan
    filled = np.where(good, part, 0.0)
    mean = float((weight * filled).sum() / total)
    spread = float(np.sqrt((weight * (filled - mean) ** 2 * good).sum() / total))
    return mean, pixel_noise(part) * float(np.sqrt((weight**2).sum())) / float(total), spread


def pixel_noise(part: np.ndarray) -> float:
    """Estimate the noise of a pixel from second differences in both directions, which planes and slopes do not feel; NaN for fewer than 3 x 3."""
    if min(part.shape) < 3:
        return float("nan")
    across = part[:, :-2] - 2 * part[:, 1:-1] + part[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]
    both = both[np.isfinite(both)]
    return float(np.median(np.abs(both)) / (0.6745 * 6.0)) if both.size else float("nan")


def small(values: np.ndarray, factor: int, offset: tuple[float, float]) -> np.ndarray:
    """Average blocks of factor x factor pixels after moving the picture back by its drift; NaN where it shows nothing."""
    from scipy.ndimage import shift

    if offset != (0.0, 0.0) and np.isfinite(offset).all():
        values = shift(values, (-offset[0], -offset[1]), order=1, mode="constant", cval=np.nan)
    rows, columns = (n // factor * factor for n in values.shape)
    blocks = values[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor)
    good = np.isfinite(blocks)
    count = good.sum(axis=(1, 3))
    total = np.where(good, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
