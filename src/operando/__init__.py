"""Operando battery experiments: every frame on the electrochemical timeline of its cell, with a stated uncertainty.

>>> import operando as op
>>> store = op.build("beamtime.yaml")            # doctest: +SKIP
>>> bt = op.open_beamtime(store)                 # doctest: +SKIP
>>> xrd = bt["A/xrd/frames"].ds                  # doctest: +SKIP

Everything is imported when first used.
"""

from operando._lazy import attach

__version__ = "0.1.0"

_lazy = {
    "Clock": "timeline",
    "align": "timeline",
    "build": "beamtime",
    "check": "beamtime",
    "figures": "figures",
    "images": "images",
    "load": "beamtime",
    "open_beamtime": "store",
    "overview_rows": "store",
    "overviews": "store",
    "provenance": "store",
    "pyramid": "store",
    "reduce": "beamtime",
    "OperandoError": "contract",
    "contract": "contract",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "Clock",
    "OperandoError",
    "align",
    "build",
    "check",
    "contract",
    "figures",
    "images",
    "load",
    "open_beamtime",
    "overview_rows",
    "overviews",
    "provenance",
    "pyramid",
    "reduce",
]
