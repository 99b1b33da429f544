"""Journal-ready matplotlib figures: true times, units on every axis, gaps shown as gaps.

`waterfall` draws one technique as a map, `operando` the maps of a cell beside its voltage and current on one time axis, `observables` what
was reduced from them with its errors, `impedance` sweeps with what was fitted to them, `refinement` a diffraction pattern with what was fitted to it,
`alignment` the report of `operando check`. Each returns a
`matplotlib.figure.Figure` that `save` writes; none needs a display. matplotlib is imported when a figure is drawn.
"""

from operando.figures.columns import operando
from operando.figures.labels import label, named, printed, readable
from operando.figures.panels import observables
from operando.figures.refinements import refinement
from operando.figures.report import alignment
from operando.figures.spectra import impedance
from operando.figures.style import BAD, COLOURS, save
from operando.figures.waterfalls import waterfall

__all__ = [
    "BAD",
    "COLOURS",
    "alignment",
    "impedance",
    "label",
    "named",
    "observables",
    "operando",
    "printed",
    "readable",
    "refinement",
    "save",
    "waterfall",
]
