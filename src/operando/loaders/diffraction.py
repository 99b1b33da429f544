"""The axis of a diffraction pattern: two_theta, q or d, and the wavelength that joins them."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from operando.contract import ContractError, LoaderError, convert, quantity

HC = 12.398419843320026
"""h c in keV angstrom (exact SI constants, CODATA 2018)."""

AXES = {"two_theta": "deg", "theta": "deg", "q": "1/angstrom", "q_nm": "1/nm", "d": "angstrom"}


def wavelength_angstrom(text: Any, path: str | os.PathLike[str], option: str = "wavelength") -> float:
    """Read a wavelength (`0.4133 angstrom`, `41.33 pm`) or a photon energy (`30 keV`) as a wavelength in angstrom.

    Raises
    ------
    LoaderError
        No number with its unit, or one that no X-ray has (0.01 to 100 angstrom).
    """
    try:
        value = quantity(text, "angstrom")
    except ContractError:
        try:
            energy = quantity(text, "keV")
        except ContractError:
            raise LoaderError(
                f"{option}: is neither a wavelength nor an energy", file=path, found=repr(text), expected="'0.4133 angstrom' or '30 keV'"
            ) from None
        value = HC / energy if energy else math.inf
    if not 0.01 <= value <= 100:
        raise LoaderError(f"{option}: is not that of X-rays", file=path, found=f"{value:g} angstrom", expected="0.01 to 100 angstrom")
    return float(value)


def diffraction_axis(
    axis: str, values: np.ndarray, path: str | os.PathLike[str], *, units: str | None = None, wavelength: float | None = None
) -> tuple[str, dict[str, tuple[Any, ...]]]:
    """Make the coordinates of a pattern: q (with two_theta beside it) where the wavelength allows, else what there is.

    q = 4 pi sin(two_theta / 2) / wavelength. A measured two_theta is kept as it is; a measured q too.

    Parameters
    ----------
    axis
        A key of `AXES`.
    values
        The axis as the file gives it.
    units
        Its unit, by default that of `AXES`.
    wavelength
        angstrom; None if unknown.

    Returns
    -------
    tuple
        Name of the main axis (`q` or `two_theta`); coordinates for `series`.

    Raises
    ------
    LoaderError
        Not finite, not strictly monotonic, or impossible values.
    """
    if axis not in AXES:
        raise LoaderError("axis: is not known", file=path, found=repr(axis), expected=", ".join(AXES))
    values = np.asarray(values, dtype=float)
    steps = np.diff(values)
    if values.size < 2:
        raise LoaderError("a pattern of fewer than two points", file=path, found=values.size)
    if not np.isfinite(values).all():
        raise LoaderError(f"{axis} is not a number at point {int(np.argmin(np.isfinite(values))) + 1}", file=path)
    if not ((steps > 0).all() or (steps < 0).all()):
        wrong = int(np.argmax(steps * (1.0 if np.median(steps) >= 0 else -1.0) <= 0)) + 1
        raise LoaderError(
            f"{axis} is not strictly monotonic at point {wrong + 1}",
            file=path,
            found=f"{values[wrong - 1]:g} then {values[wrong]:g}",
            hint="a shuffled or joined file, or the wrong column as axis",
        )
    target = {"two_theta": "deg", "theta": "deg", "d": "angstrom"}.get(axis, "1/angstrom")
    values = np.asarray(convert(values, units or AXES[axis], target), dtype=float)
    if axis in ("two_theta", "theta"):
        angle = 2 * values if axis == "theta" else values
        if np.abs(angle).max() > 180:
            raise LoaderError(
                "two_theta beyond 180 degrees", file=path, found=f"{angle.min():g} to {angle.max():g}", hint="say what the axis is with axis:"
            )
        if wavelength is None:
            return "two_theta", {"two_theta": ("two_theta", angle, "deg")}
        q = 4 * np.pi * np.sin(np.radians(angle / 2)) / wavelength
        return "q", {"q": ("q", q, "1/angstrom"), "two_theta": ("q", angle, "deg")}
    if axis == "d":
        if (values <= 0).any():
            raise LoaderError("a d-spacing that is not positive", file=path, found=float(values.min()))
        values = 2 * np.pi / values
    coords: dict[str, tuple[Any, ...]] = {"q": ("q", values, "1/angstrom")}
    if wavelength is not None:
        sine = values * wavelength / (4 * np.pi)
        with np.errstate(invalid="ignore"):
            coords["two_theta"] = ("q", np.where(np.abs(sine) <= 1, 2 * np.degrees(np.arcsin(np.clip(sine, -1, 1))), np.nan), "deg")
    return "q", coords


def intensity_variables(intensity: np.ndarray, errors: np.ndarray | None, axis: str, units: str) -> dict[str, tuple[Any, ...]]:
    """Make `intensity` (and `intensity_errors`, linked) of frames over an axis."""
    linked = {"ancillary_variables": "intensity_errors"} if errors is not None else {}
    out: dict[str, tuple[Any, ...]] = {"intensity": (("time", axis), np.atleast_2d(intensity), units, {"long_name": "intensity", **linked})}
    if errors is not None:
        out["intensity_errors"] = (
            ("time", axis),
            np.atleast_2d(np.asarray(errors, dtype=float)),
            units,
            {"long_name": "standard error of intensity"},
        )
    return out
