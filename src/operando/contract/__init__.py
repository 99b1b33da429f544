"""What a series is: techniques, dims, coords, units, flags, checks and errors. Every other room speaks this; it knows nobody.

A *series* is an `xarray.Dataset` of one technique on one cell over `time`. `series(...)` builds one, `canonical`
brings foreign names and units into the canonical ones, `faults` lists everything that is wrong with one in plain words.
"""

from operando._lazy import attach
from operando.contract.errors import (
    ClockError,
    ConfigError,
    ContractError,
    LoaderError,
    OperandoError,
    StoreError,
)
from operando.contract.flags import AlignmentFlag, Quality, flag_attrs, named_flags

_lazy = {
    "TECHNIQUES": "techniques",
    "Technique": "techniques",
    "series": "build",
    "as_stamps": "build",
    "canonical": "units",
    "convert": "units",
    "quantity": "units",
    "split_quantity": "units",
    "same_units": "units",
    "UNITS": "units",
    "faults": "rules",
    "validate": "rules",
    "RULES": "rules",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "RULES",
    "TECHNIQUES",
    "UNITS",
    "AlignmentFlag",
    "ClockError",
    "ConfigError",
    "ContractError",
    "LoaderError",
    "OperandoError",
    "Quality",
    "StoreError",
    "Technique",
    "as_stamps",
    "canonical",
    "convert",
    "faults",
    "flag_attrs",
    "named_flags",
    "quantity",
    "same_units",
    "series",
    "split_quantity",
    "validate",
]
