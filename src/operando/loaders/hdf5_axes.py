"""Axes of HDF5 signals: reading the coordinate, its unit and the wavelength; lazy arrays with their axes put in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from operando.contract import UNITS, LoaderError, Technique
from operando.hdf5 import LazyArray
from operando.loaders.diffraction import AXES, diffraction_axis, wavelength_angstrom
from operando.loaders.hdf5_entries import Entry, Path_, alternatives, look_up, read_values, spec_of, text_of, units_of

_AXIS_UNITS = {"deg": "two_theta", "degree": "two_theta", "degrees": "two_theta", "rad": "two_theta", "ev": "energy", "kev": "energy"}


class AxesView(LazyArray):
    """A lazy array seen through another order of axes.

    Parameters
    ----------
    base
        The array as the file has it.
    order
        For each axis of the view the axis of `base`, or None for a new axis of size 1. Axes of `base` that are left out have size 1.
    """

    __slots__ = ("base", "order")

    def __init__(self, base: LazyArray, order: Sequence[int | None]) -> None:
        self.base, self.order = base, tuple(order)
        self.shape = tuple(1 if i is None else base.shape[i] for i in self.order)
        self.dtype = base.dtype

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read the selection from the base and turn it."""
        inner: list[Any] = [0] * len(self.base.shape)
        for k, i in zip(key, self.order, strict=True):
            if i is not None:
                inner[i] = k
        values = np.asarray(self.base.read(tuple(inner)))
        kept = [i for i in range(len(inner)) if i in self.order and not isinstance(inner[i], int | np.integer)]
        wanted = [i for k, i in zip(key, self.order, strict=True) if i is not None and not isinstance(k, int | np.integer)]
        values = values.transpose([kept.index(i) for i in wanted])
        axis = 0
        for k, i in zip(key, self.order, strict=True):
            if isinstance(k, int | np.integer):
                continue
            if i is None:
                count = len(range(*k.indices(1))) if isinstance(k, slice) else len(k)
                values = np.repeat(np.expand_dims(values, axis), count, axis=axis)
            axis += 1
        return values


class RatioView(LazyArray):
    """A lazy ratio of two arrays of one shape, or its natural logarithm; NaN where it has no value.

    Parameters
    ----------
    top, bottom
        Arrays of the same shape but for the number of frames; the smaller one counts.
    log
        Take the logarithm (an absorption from two chambers).
    """

    __slots__ = ("bottom", "log", "top")

    def __init__(self, top: LazyArray, bottom: LazyArray, log: bool) -> None:
        self.top, self.bottom, self.log = top, bottom, log
        self.shape = (min(top.shape[0], bottom.shape[0]), *top.shape[1:])
        self.dtype = np.dtype(float)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Read the selection of both and divide."""
        key = tuple(slice(*k.indices(n)) if isinstance(k, slice) else k for k, n in zip(key, self.shape, strict=True))
        top, bottom = (np.asarray(part.read(key), dtype=float) for part in (self.top, self.bottom))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = top / bottom
            values = np.where(ratio > 0, np.log(np.where(ratio > 0, ratio, 1.0)), np.nan) if self.log else ratio
        return np.where(np.isfinite(values), values, np.nan)


def ratio_of(value: Any, option: str, file: Path_) -> tuple[Any, Any, bool] | None:
    """Read `{ln: [PATH, PATH]}` or `{ratio: [PATH, PATH]}` of a signal: what stands above, below, and whether to take the logarithm.

    Raises
    ------
    LoaderError
        It names not two paths, or something beside them.
    """
    kinds = [kind for kind in ("ln", "ratio") if isinstance(value, Mapping) and kind in value]
    if not kinds:
        return None
    pair = value[kinds[0]]
    unknown = sorted(set(map(str, value)) - {kinds[0], "optional", "dims", "long_name"})
    if unknown or not isinstance(pair, list | tuple) or len(pair) != 2:
        raise LoaderError(
            f"{option}: is no ratio", file=file, found=repr(dict(value))[:80], expected="{ln: [PATH of i0, PATH of it]} or {ratio: [...]}"
        )
    more = {k: v for k, v in value.items() if k != kinds[0]}
    return {"path": pair[0], **more}, {"path": pair[1], **more}, kinds[0] == "ln"


def plain_unit(units: str) -> str:
    """Spell a unit so that it can be converted: `1/angstrom`, `1/nm`, `deg`."""
    compact = units.strip().replace(" ", "").casefold()
    known = {
        "1/a": "1/angstrom",
        "a-1": "1/angstrom",
        "a^-1": "1/angstrom",
        "angstrom^-1": "1/angstrom",
        "angstrom-1": "1/angstrom",
        "degrees": "deg",
        "degree": "deg",
    }
    return known.get(compact, units.strip())


def read_wavelength(entry: Entry, root: Any, value: Any, file: Path_) -> float | None:
    """Read the wavelength (angstrom): text with its unit, or a path; None if it is optional and not there."""
    if isinstance(value, str) and re.fullmatch(r"\s*[\d.]+(?:[eE][-+]?\d+)?\s*[A-Za-zÅ]*\s*", value):
        return wavelength_angstrom(value, file)
    spec = spec_of(value, "wavelength", file, ("units",))
    found = look_up(entry, root, spec, file)
    if found is None:
        if spec.optional:
            return None
        raise LoaderError("the wavelength is not there", file=file, found=alternatives(entry, spec.paths), expected=" or ".join(spec.paths))
    values = read_values(found, file, "wavelength").ravel()
    if values.size == 0 or values.dtype == object or not (values == values[0]).all():
        raise LoaderError("the wavelength is not one number", file=file, found=text_of(values)[:60])
    return wavelength_angstrom(f"{float(values[0])!r} {units_of(found, spec, 'angstrom')}", file)


def read_axis(
    entry: Entry, root: Any, value: Any, file: Path_, technique: Technique, wavelength: float | None
) -> tuple[str, int, dict[str, tuple[Any, ...]]]:
    """Read the axis of an entry.

    Returns
    -------
    tuple
        Its name in the series, its length in the file, its coordinates for `series`.

    Raises
    ------
    LoaderError
        It is not there, not one row of numbers, or what it is cannot be told.
    """
    name = ""
    if isinstance(value, Mapping) and "path" not in value:
        if len(value) != 1:
            raise LoaderError("axis: names more than one axis", file=file, found=", ".join(map(str, value)), expected="axis: {q: PATH}")
        name, value = str(next(iter(value))), next(iter(value.values()))
    if value is None:
        raise LoaderError("axis: is missing", file=file, expected=f"axis: {{{' | '.join(technique.axis)}: PATH}}")
    spec = spec_of(value, "axis", file, ("units",))
    found = look_up(entry, root, spec, file)
    if found is None:
        raise LoaderError(
            f"{entry.name or 'the file'} has signals but not its axis",
            file=file,
            found=alternatives(entry, spec.paths),
            expected=" or ".join(spec.paths),
        )
    values = read_values(found, file, "axis")
    if values.ndim > 1:
        rows = values.reshape(-1, values.shape[-1])
        if not rows.size or not (rows == rows[0]).all():
            raise LoaderError(
                "the axis changes inside an entry",
                file=file,
                found=f"shape {values.shape}",
                hint="one series needs one axis; split the entry",
            )
        values = rows[0]
    if values.dtype == object or values.ndim != 1 or values.size < 2:
        raise LoaderError("the axis is not a row of numbers", file=file, found=f"{values.dtype}, shape {values.shape}")
    units = units_of(found, spec, "")
    if not name:
        name = _axis_name(file, technique, units, text_of(getattr(found, "attrs", {}).get("long_name")))
    if technique.name == "xrd" or (technique.name == "pdf" and name in AXES):
        main_name, coords = diffraction_axis(name, values, file, units=plain_unit(units) or None, wavelength=wavelength)
        if main_name not in technique.axis:
            raise LoaderError(
                f"the axis is {main_name} and the wavelength is not known", file=file, hint="wavelength: ('0.1839 angstrom' or a path), for q"
            )
        return main_name, values.size, coords
    if name not in technique.axis:
        raise LoaderError(f"axis: {name} is no axis of {technique.name}", file=file, expected=" or ".join(technique.axis))
    steps = np.diff(values.astype(float))
    if not (np.isfinite(values.astype(float)).all() and ((steps > 0).all() or (steps < 0).all())):
        raise LoaderError(f"{name} is not strictly monotonic", file=file, found=f"{values[0]:g} to {values[-1]:g}", hint="is this the right axis?")
    return name, values.size, {name: (name, values.astype(float), plain_unit(units) or UNITS[name])}


def _axis_name(file: Path_, technique: Technique, units: str, label: str) -> str:
    if len(technique.axis) == 1:
        return technique.axis[0]
    if technique.name in ("xrd", "pdf"):
        plain = units.casefold().replace(" ", "")
        if technique.name == "pdf" and plain in ("angstrom", "å", "a"):
            return "r"
        if plain in _AXIS_UNITS or re.search(r"2\s*-?\s*theta|tth|two_?theta", label, re.IGNORECASE):
            return "two_theta"
        if re.search(r"nm", plain):
            return "q_nm"
        if re.search(r"angstrom|^(1/a|a\^?-1)$", plain):
            return "q"
    raise LoaderError(
        "what the axis is cannot be told from its unit",
        file=file,
        found=f"units {units!r}, long_name {label!r}",
        hint="name it: axis: {q: PATH}, {two_theta: PATH} ...",
    )
