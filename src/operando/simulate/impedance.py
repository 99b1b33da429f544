"""The impedance of the simulated cell: an inductance, the ohmic resistance, two depressed arcs, diffusion, and the cell's own capacity.

    Z = jwL + R_ohmic + arc(R_interphase) + arc(R_transfer) + R_d tanh(sqrt(jw tau_d)) / sqrt(jw tau_d) + 1 / (jw C)

with arc(R) = R / (1 + (jw R C_arc)^n) (ZARC; Barsoukov & Macdonald, Impedance Spectroscopy, 2nd ed. 2005) at a constant effective capacitance, and
C = dQ/dU of the two open-circuit curves at the cell's state. Every element is passive and causal, so each spectrum obeys Kramers-Kronig.
"""

from __future__ import annotations

import numpy as np

from operando.simulate.cell import Design
from operando.simulate.instruments import History
from operando.simulate.materials import graphite_potential, oxide_potential

INDUCTANCE = 2e-7  # H
INTERPHASE_CAPACITANCE, INTERPHASE_EXPONENT = 25e-6, 0.90  # F
TRANSFER_CAPACITANCE, TRANSFER_EXPONENT = 2e-3, 0.85  # F


def impedance(
    frequency: np.ndarray, ohmic: np.ndarray, interphase: np.ndarray, transfer: np.ndarray, storage: np.ndarray, design: Design
) -> np.ndarray:
    """Give the complex impedance (ohm; capacitive imaginary part negative) at frequencies (Hz), all arguments broadcast.

    Parameters
    ----------
    frequency
        Hz.
    ohmic, interphase, transfer
        Resistances, ohm.
    storage
        dQ/dU of the cell, F.
    design
        The cell: diffusion element.
    """
    w = 2j * np.pi * np.asarray(frequency, float)
    root = np.sqrt(w * design.diffusion_time)
    return np.asarray(
        w * INDUCTANCE
        + ohmic
        + interphase / (1 + (w * interphase * INTERPHASE_CAPACITANCE) ** INTERPHASE_EXPONENT)
        + transfer / (1 + (w * transfer * TRANSFER_CAPACITANCE) ** TRANSFER_EXPONENT)
        + design.diffusion * np.tanh(root) / root
        + 1 / (w * storage)
    )


def impedance_at(history: History, t: np.ndarray, frequency: np.ndarray, design: Design) -> np.ndarray:
    """Give the impedance (ohm) of the cell as it is at true times t (s), each at its own frequency (Hz)."""
    h = 1e-4
    x, y = history.at("x_positive", t), history.at("x_negative", t)
    positive = (oxide_potential(x - h) - oxide_potential(x + h)) / (2 * h) / design.oxide_capacity
    negative = (graphite_potential(y - h) - graphite_potential(y + h)) / (2 * h) / design.graphite_capacity
    ohmic, interphase = history.at("ohmic_resistance", t), history.at("interphase_resistance", t)
    return impedance(frequency, ohmic, interphase, history.at("charge_transfer_resistance", t), 1 / (positive + negative), design)


def sweep_frequencies(highest: float = 1e5, lowest: float = 0.05, per_decade: int = 6) -> np.ndarray:
    """Give the frequencies of a sweep (Hz), high to low: evenly spaced in logarithm, both ends included, about `per_decade`."""
    return np.geomspace(highest, lowest, round(np.log10(highest / lowest) * per_decade) + 1)


def sweep_times(frequency: np.ndarray) -> np.ndarray:
    """Give the seconds after the sweep's begin at which each frequency is done: two periods and a pause of a tenth of one, at least 0.25 s each."""
    return np.asarray(np.cumsum(np.maximum(0.25, 2.1 / frequency)))
