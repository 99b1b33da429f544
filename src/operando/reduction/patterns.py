"""What every reducer of diffraction patterns asks of them first: which wavelength, which angles, and which frames are worth a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ConfigError, ContractError, Quality

DARK = 0.02
"""Share of the usual monitor below which there was no beam."""


def axis_of(frames: xr.Dataset) -> str:
    """Name the axis of the patterns, q or two_theta.

    Raises
    ------
    ContractError
        They lie over neither.
    """
    for axis in ("q", "two_theta"):
        if axis in frames["intensity"].dims:
            return axis
    raise ContractError("the patterns lie over neither q nor two_theta", found=str(frames["intensity"].dims))


def wavelengths(
    attrs: Mapping[Any, Any], given: Sequence[float] | None = None, ratios: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give the wavelengths (angstrom) and their intensities relative to the first (1): the recipe's, else those of the series.

    Raises
    ------
    ConfigError
        None is known, or not how strong one is.
    """
    if given is not None:
        waves = np.array(given, float)
        said = ratios or (1.0, *([0.5] if waves.size == 2 else []))
        shares = np.array(said if len(said) == waves.size else (1.0, *said), float)
        if shares.size != waves.size:
            raise ConfigError("wavelength_ratio: is missing", found=f"{waves.size} wavelengths", expected="their intensities relative to the first")
        return waves, shares / shares[0]
    if "wavelength" not in attrs:
        raise ConfigError("the wavelength is not known", hint="wavelength: in the recipe, or an option of the loader (0.4133 angstrom, 30 keV)")
    first = float(attrs["wavelength"])
    if "wavelength_k_alpha_2" in attrs:
        ratio = float(attrs.get("ratio_k_alpha_2", 0.5))
        if ratio > 0:
            return np.array([first, float(attrs["wavelength_k_alpha_2"])]), np.array([1.0, ratio])
    return np.array([first]), np.array([1.0])


def angles(frames: xr.Dataset, axis: str, wavelength: float) -> np.ndarray:
    """Give 2 theta (degrees) of every channel; NaN beyond what the wavelength reaches."""
    if "two_theta" in frames.variables and frames["two_theta"].dims == (axis,):
        return np.asarray(frames["two_theta"].values, float)
    return angle_of(np.asarray(frames["q"].values, float), wavelength)


def angle_of(q: np.ndarray, wavelength: float) -> np.ndarray:
    """Give 2 theta (degrees) of q (1/angstrom)."""
    sine = q * wavelength / (4 * np.pi)
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(sine) < 1, 2 * np.degrees(np.arcsin(np.clip(sine, -1, 1))), np.nan)


def usable(frames: xr.Dataset, values: np.ndarray) -> np.ndarray:
    """Say which frames are worth fitting: not dark, not damaged, at least half of the channels there, and something counted."""
    good = np.isfinite(values)
    answer = good.mean(axis=1) >= 0.5
    answer &= np.where(good, values, 0.0).sum(axis=1) > 0
    return np.asarray(answer & ~spoilt(frames))


def spoilt(frames: xr.Dataset) -> np.ndarray:
    """Say which frames were taken without beam or are damaged, by their monitor and quality."""
    bad = np.zeros(frames.sizes["time"], bool)
    if "monitor" in frames.coords:
        monitor = np.asarray(frames["monitor"].values, float)
        here = float(np.nanmedian(monitor[monitor > 0])) if np.any(monitor > 0) else np.nan
        usual = float(frames.attrs.get("typical_monitor", here))  # of the whole series where it is known: a dump may fill a batch
        bad |= monitor < DARK * usual
    if "quality" in frames.coords:
        bad |= (np.asarray(frames["quality"].values, int) & int(Quality.BEAM_DUMP | Quality.CORRUPT)) != 0
    return bad
