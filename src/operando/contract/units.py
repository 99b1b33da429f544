"""Units as symbols, canonical per name, and the words foreign files use for our names."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from operando.contract.errors import ContractError

if TYPE_CHECKING:
    import xarray as xr

UNITS: dict[str, str] = {
    "voltage": "V",
    "potential_we": "V",
    "potential_ce": "V",
    "control_voltage": "V",
    "current": "A",
    "control_current": "A",
    "charge": "C",
    "impedance": "ohm",
    "frequency": "Hz",
    "q": "1/angstrom",
    "two_theta": "deg",
    "r": "angstrom",
    "energy": "eV",
    "raman_shift": "1/cm",
    "wavenumber": "1/cm",
    "exposure": "s",
    "live_time": "s",
    "transport_delay": "s",
}
"""Canonical unit of each name the contract knows; anything else keeps the unit its file gives."""

_NAMES = {
    "ewe": "voltage",
    "ecell": "voltage",
    "voltage_v": "voltage",
    "voltage_volt": "voltage",
    "current_a": "current",
    "current_ampere": "current",
    "2theta": "two_theta",
    "2th": "two_theta",
    "twotheta": "two_theta",
    "ttheta": "two_theta",
    "tth": "two_theta",
    "momentum_transfer": "q",
    "ramanshift": "raman_shift",
    "raman": "raman_shift",
    "wave_number": "wavenumber",
    "wavenumbers": "wavenumber",
    "xmu": "mu",
    "mutrans": "mu",
    "mufluor": "mu",
    "muref": "mu_reference",
}

_SYMBOLS = {
    "": "1",
    "none": "1",
    "dimensionless": "1",
    "a.u.": "1",
    "arb. units": "1",
    "counts": "counts",
    "count": "counts",
    "ohm": "ohm",
    "ohms": "ohm",
    "hz": "Hz",
    "ev": "eV",
    "kev": "keV",
    "v": "V",
    "volt": "V",
    "mv": "mV",
    "deg": "deg",
    "degree": "deg",
    "degrees": "deg",
    "°": "deg",
    "s": "s",
    "sec": "s",
    "seconds": "s",
    "second": "s",
    "hours": "h",
    "hour": "h",
    "minutes": "min",
    "c": "C",
    "celsius": "degC",
    "°c": "degC",
    "degc": "degC",
    "deg_c": "degC",
    "å": "angstrom",
    "å-1": "1/angstrom",
    "å^-1": "1/angstrom",
    "a^-1": "1/angstrom",
    "a-1": "1/angstrom",
    "angstrom^-1": "1/angstrom",
    "1/å": "1/angstrom",
    "1/a": "1/angstrom",
    "nm^-1": "1/nm",
    "nm-1": "1/nm",
    "cm^-1": "1/cm",
    "cm-1": "1/cm",
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")
_SURE = {"mg", "g", "cm^2", "mAh", "mAh/cm^2", "mg/cm^2", "uL", "kPa", "degC", "K", "um", "mm", "nm", "s", "min", "h", "d", "mA", *UNITS.values()}
_SPANS = {"day": "d", "days": "d", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns", "week": "week", "weeks": "week"}

_TEXT = str.maketrans({"\u00b5": "u", "\u03bc": "u", "²": "^2", "³": "^3", "·": "*", "\u03a9": "ohm", "\u2126": "ohm", "\u212b": "\u00c5"})


def symbol(units: str) -> str:
    """Spell a unit the way the store does: symbols, `1` for none (`mA.h` -> `mA*h`, `Ohm` -> `ohm`, `cm²` -> `cm^2`)."""
    text = units.strip().translate(_TEXT).replace("**", "^")
    known = _SYMBOLS.get(text) or _SYMBOLS.get(text.lower())
    if known and not (text == "A" or (len(text) == 1 and text.isupper() and text not in "VC")):
        return known
    text = re.sub(r"(?<=[A-Za-z])\.(?=[A-Za-z])", "*", text)
    return re.sub(r"\bOhms?\b", "ohm", text)


@functools.cache
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(on_redefinition="ignore")
    registry.define("counts = [] = cts")
    registry.formatter.default_format = "~C"
    return registry


def convert(values: Any, units: str, to: str) -> Any:
    """Convert numbers from one unit to another.

    Parameters
    ----------
    values
        Number or array in `units`; returned unchanged (the same object) when the units are the same.
    units, to
        Any spelling `symbol` understands.

    Raises
    ------
    ContractError
        The units are unknown, or measure different things.
    """
    source, target = symbol(units), symbol(to)
    if source == target:
        return values
    import pint

    registry = _registry()
    try:
        a, b = ("" if u == "1" else u.replace("^", "**") for u in (source, target))
        return registry.Quantity(values, a).to(b).magnitude
    except (pint.errors.PintError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        raise ContractError(f"cannot convert {units!r} to {to!r}: {error}") from None
    except Exception as error:  # pint's parser leaks tokenizer and assertion errors on odd text
        raise ContractError(f"unit {units!r} is not understood: {error}") from None


def same_units(a: str, b: str) -> bool:
    """Say whether two spellings are the same unit (not merely convertible)."""
    if symbol(a) == symbol(b):
        return True
    try:
        return bool(abs(convert(1.0, a, b) - 1.0) < 1e-12)
    except ContractError:
        return False


def quantity(text: str | float, to: str) -> float:
    """Read a number with its unit, such as `-37 s`, `12 ppm` or `6.84 mg`, as a number in `to`.

    Raises
    ------
    ContractError
        No number, no unit, or a unit that measures something else.
    """
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise ContractError("not a number with a unit", found=repr(text), expected=f"for example '1.5 {to}'")
    number, units = match.groups()
    if not units and symbol(to) != "1":
        raise ContractError("a number without its unit", found=repr(text), expected=f"for example '{number} {to}'")
    return float(convert(float(number), units, to))


def split_quantity(text: str) -> tuple[float, str] | None:
    """Take text such as `6.84 mg` apart into number and unit; None where it is no number with a unit (`1 M LiPF6 EC:EMC`, `2032`).

    Spans of time come as `d`, `h`, `min`, `s` ..., which no reader takes for a time span and turns into one.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or not match[2] or match[2][0] in "0123456789.,:/-_":
        return None
    number, units = float(match[1]), symbol(match[2])
    units = _SPANS.get(units, units)
    if units == "1" or number in (float("inf"), float("-inf")) or not (units in _SURE or _is_unit(units)):
        return None
    return number, units


def _is_unit(units: str) -> bool:
    try:
        _registry().parse_units(units.replace("^", "**"))
    except Exception:  # pint's parser leaks tokenizer and assertion errors on odd text
        return False
    return True


def canonical(ds: xr.Dataset) -> xr.Dataset:
    """Bring names and units of a series into the canonical ones.

    Known foreign names become ours (`2theta` -> `two_theta`), every variable the contract has a unit for is
    converted to it, `<name>_errors` with it; all other units are only spelled as symbols. Values that need no
    conversion are not touched and a lazy signal stays lazy where its unit is already canonical.
    """
    # names of one letter more or less are never guessed: only those in the table
    renames = {
        str(name): _NAMES[str(name).lower()] for name in ds.variables if str(name).lower() in _NAMES and _NAMES[str(name).lower()] not in ds.variables
    }
    ds = ds.rename(renames) if renames else ds.copy(deep=False)
    changed: dict[str, xr.Variable] = {}
    for name in list(ds.variables):
        base = str(name).removesuffix("_errors").removesuffix("_systematic")
        var = ds.variables[name]
        units = var.attrs.get("units")
        if units is None:
            continue
        target = UNITS.get(base, symbol(str(units)))
        if target in ("A", "1/A") and base in ("q", "r", "wavelength"):
            target = target.replace("A", "angstrom")
        if symbol(str(units)) != target:
            found = "1/angstrom" if base == "q" and str(units) in ("A^-1", "1/A", "A-1") else str(units)
            values = convert(var.values, found, target)
            var = type(var)(var.dims, values, {**var.attrs, "units": target})
        elif units != target:
            var = var.copy(deep=False)
            var.attrs["units"] = target
        else:
            continue
        changed[str(name)] = var
    if not changed:
        return ds
    return ds.assign({k: v for k, v in changed.items() if k not in ds.coords}).assign_coords({k: v for k, v in changed.items() if k in ds.coords})
