"""What stands on an axis: the quantity in words and its unit as it is printed (`1/angstrom` -> Å⁻¹)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_NAMES = {
    "q": "q",
    "two_theta": "2θ",
    "r": "r",
    "energy": "energy",
    "raman_shift": "Raman shift",
    "wavenumber": "wavenumber",
    "mu": "absorption µ",
    "mu_reference": "absorption µ of the reference",
    "intensity": "intensity",
    "absorbance": "absorbance",
    "s_q": "S(q)",
    "f_q": "F(q)",
    "g_r": "G(r)",
    "voltage": "voltage",
    "current": "current",
    "charge": "net charge",
    "potential_we": "potential (working)",
    "potential_ce": "potential (counter)",
    "soc": "state of charge",
}
_UNITS = {"angstrom": "Å", "ohm": "Ω", "kohm": "kΩ", "degC": "°C", "deg": "°", "um": "µm", "us": "µs", "uA": "µA", "uL": "µL", "uV": "µV", "%": "%"}
_RAISED = str.maketrans("-0123456789.", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹·")
_FACTOR = re.compile(r"([*/]?)([A-Za-zµÅΩ°%_]+|1)(?:\^(-?\d+(?:\.\d+)?))?")


def printed(units: str) -> str:
    """Spell a unit for print; text that is no product of units is returned as it is.

    Examples
    --------
    >>> printed("1/angstrom"), printed("mA*h/g"), printed("counts/s")
    ('Å⁻¹', 'mAh g⁻¹', 'counts s⁻¹')
    """
    text = units.replace(" ", "").replace("**", "^")
    found = list(_FACTOR.finditer(text))
    if "".join(m[0] for m in found) != text:
        return units
    out: list[str] = []
    for sign, name, power in (m.groups() for m in found):
        if name == "1":
            continue
        raised = power or "1"
        if sign == "/":
            raised = raised[1:] if raised.startswith("-") else f"-{raised}"
        word = _UNITS.get(name, name) + ("" if raised == "1" else raised.translate(_RAISED))
        if name == "h" and raised == "1" and out and out[-1][-1] in "AW":  # ampere hours are one word
            out[-1] += "h"
        else:
            out.append(word)
    return " ".join(out) or "1"


def named(name: str, variable: xr.DataArray | xr.Variable | None = None) -> str:
    """Give the words for a quantity: its own where the field has one, else its long_name, else its name."""
    if name in _NAMES:
        return _NAMES[name]
    attrs = {} if variable is None else variable.attrs
    words = str(attrs.get("long_name") or name.replace("_", " "))
    return words.removesuffix(f"({attrs.get('units')})").strip()


def label(name: str, variable: xr.DataArray | xr.Variable) -> str:
    """Give `quantity (unit)`; a unit that is not known is a question mark."""
    return f"{named(name, variable)} ({printed(str(variable.attrs.get('units', '?')))})"


def readable(values: np.ndarray, units: str) -> tuple[float, str]:
    """Give the factor and the unit in which numbers are read: mA or µA for small currents, mAh for charges."""
    largest = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
    if units == "A" and 0 < largest < 0.5:
        return (1e3, "mA") if largest >= 5e-5 else (1e6, "uA")
    return (1 / 3.6, "mA*h") if units == "C" else (1.0, units)
