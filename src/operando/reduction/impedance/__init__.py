"""Impedance: validity, equivalent circuits, distribution of relaxation times, spectra of a cell that changes meanwhile.

>>> from operando.reduction import impedance
>>> eis = op.load("PEIS.mpt", "biologic-eis", timezone="Europe/Paris")           # doctest: +SKIP
>>> fits = impedance.fit_circuit_series(eis, "R0-p(R1,CPE1)-p(R2,CPE2)-W1")      # doctest: +SKIP
"""

from operando._lazy import attach

_lazy = {
    "Circuit": "circuit",
    "ELEMENTS": "circuit",
    "Fit": "fitting",
    "choose_circuit": "fitting",
    "drt": "relaxation",
    "fit_circuit": "fitting",
    "fit_circuit_series": "fitting",
    "kk_residuals": "kramers_kronig",
    "sweep_stationarity": "stationarity",
    "time_consistent": "stationarity",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "Circuit",
    "Fit",
    "choose_circuit",
    "drt",
    "fit_circuit",
    "fit_circuit_series",
    "kk_residuals",
    "sweep_stationarity",
    "time_consistent",
]
