"""The reducer `integrate`: frames of an area detector -> diffraction patterns over q, with their errors and what is wrong with them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from operando import images
from operando.config import Recipe
from operando.contract import ConfigError, ContractError, OperandoError, Quality, flag_attrs
from operando.reduction.detector_checks import calibrant_lines, check_rings, dead_parts
from operando.reduction.integration import Integrator
from operando.reduction.interface import Products, reducer

_CHECKED = 8  # frames whose sum is looked at for rings and dead parts
_MASKED = 0.01  # of the pixels: a frame that lacks more is said to be MASKED


class Integrate(Recipe):
    """How patterns are made of frames; what the detector is (geometry, mask, flat, dark, orientation) is said where they are loaded."""

    points: int | None = Field(None, ge=2, le=60000, description="bins (1); by default one for each pixel along the longest radius")
    radial_range: tuple[float, float] | None = Field(None, description="lowest and highest q (1/angstrom); all of the detector by default")
    azimuth_range: tuple[float, float] | None = Field(
        None, description="lowest and highest azimuth (deg, -180 to 180, pyFAI's); all around by default"
    )
    split: Literal["no", "bbox"] = Field("no", description="no: a pixel belongs to the bin of its centre; bbox: to all that its bounding box reaches")
    polarization: float | None = Field(
        None, ge=-1, le=1, description="polarisation factor (1), 0.95 to 0.99 at most synchrotrons; no correction by default"
    )
    error_model: Literal["poisson", "gain", "azimuthal"] = Field(
        "poisson", description="poisson: counts; gain: detectors that integrate (flat panel, CCD, image plate); azimuthal: the scatter in each ring"
    )
    gain: float = Field(1.0, gt=0, description="variance of the signal over the signal (counts), for error_model: gain")
    readout_noise: float = Field(0.0, ge=0, description="noise of a pixel without signal (counts), for error_model: gain")
    robust: Literal["no", "sigma-clip", "median"] = Field(
        "no", description="against spots: sigma-clip leaves outliers of a ring out; median takes its median"
    )
    threshold: float = Field(
        5.0, gt=0, description="sigmas beyond which sigma-clip leaves a pixel out (1); too few cut the flanks of rings that are sharper than a bin"
    )
    normalise: str | None = Field(None, description="coordinate of the frames (monitor, exposure ...) that patterns are divided by; none by default")
    reference: float = Field(1.0, gt=0, description="value of that coordinate (its unit) at which patterns keep their counts")
    beam_dump: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="part (1) of its typical value below which the monitor, or without one the counting rate, means that there was no beam",
    )
    calibrant: str | None = Field(
        None, description="a substance surely in the beam (CeO2, LaB6, Si, Al ...: pyFAI's names) whose lines must be there"
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Integrate:
        if self.radial_range is not None and not 0 <= self.radial_range[0] < self.radial_range[1]:
            raise ValueError("radial_range: is no range of q, lowest first")
        if self.azimuth_range is not None and self.azimuth_range[0] == self.azimuth_range[1]:
            raise ValueError("azimuth_range: is empty")
        if self.error_model != "gain" and (self.gain != 1.0 or self.readout_noise):
            raise ValueError("gain: and readout_noise: need error_model: gain")
        if self.robust == "median" and self.error_model == "azimuthal":
            raise ValueError("robust: median gives its own spread: leave error_model: azimuthal out")
        return self


@dataclass
class _Ready:
    """An integrator, what is said of its geometry, and what the first frames of each run said of the detector."""

    integrator: Integrator
    notes: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    of_run: dict[str, dict[str, str]] = field(default_factory=dict)
    rates: dict[str, np.ndarray] = field(default_factory=dict)


_LOCK = threading.Lock()


@reducer("integrate", technique="xrd", kind="frame", products=("frames",), recipe=Integrate, version="1", reads="images", default=True)
def integrate(frames: xr.Dataset, recipe: Integrate, state: Any = None) -> Products:
    """Integrate frames into patterns: counts over normalisation (solid angle, polarisation, flat), and 1 sigma, over q.

    Returns
    -------
    Products
        `frames`: `intensity(time, q)` and `intensity_errors`, counts (or counts per unit of the monitor times `reference`); `two_theta(q)`;
        `total_counts`, `saturated_pixels`, `lost_pixels` (that held no count) of each frame; `quality` with SATURATED, BEAM_DUMP, MASKED (more
        than 1 % of the pixels lost), CORRUPT (could not be read: NaN). The attributes say splitting, error model, method, geometry, wavelength,
        what the checks found.

    Raises
    ------
    ConfigError
        No geometry, or one that is not of these frames; a substance that pyFAI does not know.
    OperandoError
        None of the frames can be read.
    """
    told = json.loads(frames.attrs.get("pixels") or "{}")
    folder, workers = told.get("folder"), int(told.get("workers") or 1)
    if recipe.calibrant is not None:
        calibrant_lines(recipe.calibrant)
    references = [(str(f), str(d), int(i)) for f, d, i in zip(frames["file"].values, frames["dataset"].values, frames["index"].values, strict=True)]
    ready = _prepared(frames, recipe, folder, references)
    integrator = ready.integrator
    n = len(references)
    intensity, sigma = np.full((n, integrator.points), np.nan, np.float32), np.full((n, integrator.points), np.nan, np.float32)
    numbers: np.ndarray = np.zeros((3, n))
    errors: list[OperandoError | None] = [None] * n

    def one(k: int) -> None:
        try:
            made = integrator.one(images.raw(*references[k], folder=folder))
        except OperandoError as error:
            error.file = error.file or "::".join(map(str, references[k]))
            errors[k] = error
            return
        intensity[k], sigma[k], numbers[:, k] = made[0], made[1], made[2:]

    if workers > 1 and n > 1:
        with ThreadPoolExecutor(min(workers, n)) as pool:
            for _ in pool.map(one, range(n)):
                pass
    else:
        for k in range(n):
            one(k)
    failed = [k for k, error in enumerate(errors) if error is not None]
    if len(failed) == n:
        raise next(error for error in errors if error is not None)
    run = str(told.get("run", ""))
    messages = [*_unread(errors), *_checked(ready, recipe, references, folder, [k for k in range(n) if errors[k] is None], run)]
    saturated, lost, total = numbers
    quality = np.asarray(frames["quality"].values if "quality" in frames.coords else np.zeros(n), np.int32).copy()
    quality[failed] |= int(Quality.CORRUPT)
    quality[saturated > 0] |= int(Quality.SATURATED)
    quality[lost > _MASKED * max(int((~integrator.mask).sum()), 1)] |= int(Quality.MASKED)
    dark = _without_beam(frames, recipe, total, told.get("typical_monitor"), ready.rates, run)
    dark[failed] = False
    quality[dark] |= int(Quality.BEAM_DUMP)
    units = "counts"
    if recipe.normalise is not None:
        factor = _divisor(frames, recipe)
        intensity, sigma = (np.asarray(v * (recipe.reference / factor)[:, None], np.float32) for v in (intensity, sigma))
    counted = np.where(np.isin(np.arange(n), failed), np.nan, total)
    linked = {"long_name": "intensity: counts / (relative solid angle x polarisation x flat)", "ancillary_variables": "intensity_errors"}
    ds = xr.Dataset(
        {
            "intensity": (("time", "q"), intensity, {"units": units, **linked}),
            "intensity_errors": (("time", "q"), sigma, {"units": units, "long_name": "standard error of intensity"}),
            "total_counts": ("time", counted, {"units": "counts", "long_name": "counts of all pixels in use"}),
            "saturated_pixels": ("time", saturated.astype(np.int32), {"units": "1"}),
            "lost_pixels": ("time", lost.astype(np.int32), {"units": "1", "long_name": "pixels in use that held no count"}),
        },
        coords={
            "time": frames["time"],
            "q": ("q", integrator.q, {"units": "1/angstrom", "long_name": "scattering vector"}),
            "two_theta": ("q", integrator.two_theta, {"units": "deg", "long_name": "scattering angle"}),
            "quality": ("time", quality, flag_attrs(Quality)),
        },
    )
    ds.attrs = _attrs(frames, recipe, integrator) | ready.notes | ready.of_run.get(run, {})
    return Products({"frames": ds}, messages=messages)


# --------------------------------------------------------------------------- geometry and detector


def _prepared(frames: xr.Dataset, recipe: Integrate, folder: str | None, references: list[tuple[str, str, int]]) -> _Ready:
    """Give the integrator of these frames; it is built once."""
    geometry = str(frames.attrs.get("geometry") or "")
    if not geometry:
        raise ConfigError(
            "no geometry: frames cannot be integrated", found=f"{len(references)} frames", hint="poni: geometry.poni, at the source in beamtime.yaml"
        )
    detector = json.loads(frames.attrs.get("detector") or "{}")
    files = [*detector.get("mask", []), *(detector[k] for k in ("flat", "dark") if k in detector)]
    stamps = []
    for name in files:
        stat = os.stat(images.find(name.partition("::")[0], folder))
        stamps.append((name, stat.st_mtime_ns, stat.st_size))
    shape = tuple(int(n) for n in np.atleast_1d(frames.attrs.get("detector_shape", ())))
    own = b""
    if "pixel_mask" in detector:  # by its content: the next batch may begin in another file
        mask = images.read_array(f"{_first_readable(references, folder)}::{detector['pixel_mask']}") != 0
        own = np.packbits(mask).tobytes() if mask.shape == shape else b""
    settings = recipe.model_dump_json(exclude={"normalise", "reference", "beam_dump"})
    with _LOCK:
        return _build(geometry, json.dumps(detector, sort_keys=True), settings, shape, folder or "", tuple(stamps), own)


def _first_readable(references: list[tuple[str, str, int]], folder: str | None) -> str:
    """Name the first file that is there: it has the detector's own mask."""
    error: OperandoError | None = None
    for name in dict.fromkeys(file for file, _, _ in references):
        try:
            return images.find(name, folder)
        except OperandoError as missing:
            error = error or missing
    raise error or ContractError("no frames")


@functools.lru_cache(2)
def _build(geometry: str, told: str, settings: str, shape: tuple[int, ...], folder: str, stamps: Any, own: bytes) -> _Ready:
    detector, recipe = json.loads(told), Integrate.model_validate_json(settings)
    notes: dict[str, str] = {}
    messages: list[str] = []
    where = folder or None
    masks = [(Path(name).name, images.read_array(name, where)) for name in detector.get("mask", [])]
    if own:
        packed = np.unpackbits(np.frombuffer(own, np.uint8), count=int(np.prod(shape)))
        masks.append(("the detector's pixel_mask", packed.reshape(shape)))
    mask = None
    for name, one in masks:
        if one.shape != shape:
            raise ConfigError("a mask is not of the frames' shape", file=name, found=one.shape, expected=shape, hint="correct mask:")
        mask = (one != 0) if mask is None else mask | (one != 0)
    integrator = Integrator(
        geometry,
        shape=(shape[0], shape[1]) if len(shape) == 2 else None,
        mask=mask,
        flat=images.read_array(detector["flat"], where) if "flat" in detector else None,
        dark=images.read_array(detector["dark"], where) if "dark" in detector else None,
        saturation=detector.get("saturation"),
        orientation=detector.get("orientation", "as-read"),
        wavelength=detector.get("wavelength"),
        **recipe.model_dump(
            include={
                "points",
                "radial_range",
                "azimuth_range",
                "split",
                "polarization",
                "error_model",
                "gain",
                "readout_noise",
                "robust",
                "threshold",
            }
        ),
    )
    written = detector.get("wavelength_in_file")
    if written and abs(written / integrator.wavelength - 1) > 0.005:
        notes["wavelength_doubt"] = (
            f"the geometry was calibrated at {integrator.wavelength:.5g} angstrom, the files say {written:.5g}: q follows the geometry "
            "(wavelength: at the source takes another)"
        )
        messages.append(notes["wavelength_doubt"])
    return _Ready(integrator, notes=notes, messages=messages)


def _attrs(frames: xr.Dataset, recipe: Integrate, integrator: Integrator) -> dict[str, Any]:
    out: dict[str, Any] = {
        "split": recipe.split,
        "error_model": recipe.error_model,
        "robust": recipe.robust,
        "method": integrator.method,
        "kernel": integrator.kernel,
        "wavelength": integrator.wavelength,
        "wavelength_units": "angstrom",
        "orientation": integrator.orientation,
        "masked_pixels": int(integrator.mask.sum()),
        "poni_sha256": hashlib.sha256(str(frames.attrs["geometry"]).encode()).hexdigest(),
        "geometry": str(frames.attrs["geometry"]),
        "normalised_to": recipe.normalise or "nothing",
    }
    return out | ({"polarization": recipe.polarization} if recipe.polarization is not None else {})


# --------------------------------------------------------------------------- what is wrong with frames


def _unread(errors: list[OperandoError | None]) -> Iterator[str]:
    told = [error for error in errors if error is not None]
    for what, count in Counter(error.problem for error in told).items():
        first = next(error for error in told if error.problem == what)
        yield f"{count} frame{'s' if count > 1 else ''} could not be read and {'are' if count > 1 else 'is'} NaN and CORRUPT: {first.file}: {what}"


def _checked(ready: _Ready, recipe: Integrate, references: list[tuple[str, str, int]], folder: str | None, good: list[int], run: str) -> list[str]:
    """Look at the sum of some frames, once in a run: rings, and parts that do not count."""
    with _LOCK:
        if run and run in ready.of_run:
            return []
        notes = ready.of_run[run] = {}
    said = list(ready.messages)
    total = held = None
    for k in good[:: max(1, len(good) // _CHECKED)][:_CHECKED]:
        frame = images.read(*references[k], folder=folder)
        values = frame.astype(np.int64 if frame.dtype.kind in "iub" else float)
        top = ready.integrator.saturation or np.inf
        counts = (frame >= 0) & (frame < (min(top, np.iinfo(frame.dtype).max) if frame.dtype.kind in "iu" else top))
        values[~counts] = 0
        total, held = (values, counts) if total is None else (total + values, held | counts)
    if total is None or held is None or not total.any():
        return [*said, "the frames that were looked at hold no counts at all"]
    rings = check_rings(np.where(held, total, -1), ready.integrator, recipe.calibrant)
    notes["rings"] = rings.verdict
    if rings.fit is False:
        said.append(rings.words)
    dead = dead_parts(total, held, ready.integrator, ready.integrator.one(np.where(held, total, -1))[0])
    if dead:
        large = [words for words in dead if words.startswith("rows")]
        if large:
            more = f" (and {len(large) - 1} more parts)" if len(large) > 1 else ""
            said.append(f"{large[0]}{more}: a dead module, or a shadow? It is not masked: mask: leaves it out")
    return said


def _without_beam(
    frames: xr.Dataset, recipe: Integrate, total: np.ndarray, typical: float | None, seen: dict[str, np.ndarray], run: str
) -> np.ndarray:
    """Say which frames were taken without beam: by the monitor, else by the counting rate beside all that were `seen` in this run."""
    out = np.asarray(total == 0)
    monitor = np.asarray(frames["monitor"].values, float) if "monitor" in frames.coords else np.full(total.size, np.nan)
    if np.isfinite(monitor).any():
        some = monitor[np.isfinite(monitor)]
        level = typical if typical is not None else float(np.median(some[some > 0])) if (some > 0).any() else 0.0
        return np.asarray(out | (monitor < recipe.beam_dump * level))
    exposure = np.asarray(frames["exposure"].values, float) if "exposure" in frames.coords else np.ones(total.size)
    rate = total / np.where(exposure > 0, exposure, 1.0)
    known = np.concatenate([seen.get(run, np.zeros(0)), rate[np.isfinite(rate)]])
    if run:
        seen[run] = known
    # a dump may fill a whole batch and most of the series: what stands for the beam is the upper end of what counted at all
    return np.asarray(out | (rate < recipe.beam_dump * float(np.percentile(known[known > 0], 98)))) if (known > 0).any() else out


def _divisor(frames: xr.Dataset, recipe: Integrate) -> np.ndarray:
    name = str(recipe.normalise)
    if name not in frames.coords or frames[name].dims != ("time",) or frames[name].dtype.kind not in "iuf":
        there = [
            str(c)
            for c, v in frames.coords.items()
            if v.dims == ("time",) and v.dtype.kind in "iuf" and c not in ("segment", "setup", "source_index", "quality")
        ]
        raise ConfigError(
            "normalise: names no number of the frames",
            found=name,
            expected=", ".join(there),
            hint="name it where they are loaded: monitor: or coords:",
        )
    values = np.asarray(frames[name].values, float)
    return np.where(values > 0, values, np.nan)
