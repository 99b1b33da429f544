"""How the two electrode materials answer to their lithium content: potentials, lattices, stages, oxidation state.

* Layered oxide LixNi0.8Mn0.1Co0.1O2. Open-circuit potential: the fit of Chen et al., J. Electrochem. Soc. 167 (2020) 080534, eq. 8. Lattice: a falls,
  c first grows and then collapses around the H2 -> H3 transition, in the size and place reported for NMC811 by de Biasi et al., J. Phys. Chem. C
  121 (2017) 26163, and Maerker et al., Chem. Mater. 31 (2019) 2545; smooth curves of our own through these facts, one continuous solid solution.
* Graphite. Potential plateaus and stages after Dahn, Phys. Rev. B 44 (1991) 9170: a dilute solid solution up to `DILUTE_LIMIT`, then LiC12 beside
  it, then LiC6 beside LiC12. The fractions follow the lever rule exactly, so lithium counted in the phases is lithium counted by charge.
"""

from __future__ import annotations

import numpy as np

FARADAY = 96485.33212  # C/mol, CODATA 2018
GAS = 8.314462618  # J/mol/K, CODATA 2018

DILUTE_LIMIT = 0.20
"""Li per C6 of the dilute stages where LiC12 begins to form."""
H3_CENTRE, H3_WIDTH = 0.31, 0.022
"""Li content of the oxide at which half of the H2 -> H3 transition is passed, and the width of the step."""


def oxide_potential(x: np.ndarray | float) -> np.ndarray:
    """Give the potential of the oxide against lithium (V) at Li content x per formula unit."""
    x = np.asarray(x, float)
    return np.asarray(
        -0.8090 * x
        + 4.4875
        - 0.0428 * np.tanh(18.5138 * (x - 0.5542))
        - 17.7326 * np.tanh(15.7890 * (x - 0.3117))
        + 17.5842 * np.tanh(15.9308 * (x - 0.3120))
    )


def graphite_potential(x: np.ndarray | float) -> np.ndarray:
    """Give the potential of graphite against lithium (V) at Li content x per C6: plateaus between the stages."""
    x = np.asarray(x, float)
    plateaus = 0.083 + 0.0175 * (1 - np.tanh((x - 0.505) / 0.02)) + 0.024 * (1 - np.tanh((x - 0.21) / 0.035))
    return np.asarray(plateaus + 0.9 * np.exp(-x / 0.022) - 0.08 * np.exp((x - 1.0) / 0.03))


def h3_progress(x: np.ndarray | float) -> np.ndarray:
    """Give how far the oxide has gone through the H2 -> H3 transition, 0 to 1, at Li content x."""
    return np.asarray(1.0 / (1.0 + np.exp((np.asarray(x, float) - H3_CENTRE) / H3_WIDTH)))


def oxide_lattice(x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give a (angstrom), c (angstrom) and the oxygen coordinate z of the oxide at Li content x.

    R-3m in hexagonal axes with Li at (0, 0, 0), the metals at (0, 0, 1/2), oxygen at (0, 0, z).
    """
    x = np.asarray(x, float)
    a = 2.814 + 0.058 * (np.clip(x - 0.2, 0.0, None) / 0.75) ** 1.35
    c = 14.465 - 1.00 * (x - 0.43) ** 2 - 0.42 * h3_progress(x)
    z = 0.2360 + 0.0055 * (x - 0.2) / 0.75
    return np.asarray(a), np.asarray(c), np.asarray(z)


def nickel_oxidation(x: np.ndarray | float) -> np.ndarray:
    """Give the mean oxidation state of Ni at Li content x: Mn stays 4+, Co 3+, oxygen 2-; charge neutrality gives the rest."""
    return np.asarray((3.3 - np.asarray(x, float)) / 0.8)


def graphite_stages(x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the fractions of carbon in LiC6, in LiC12 and in the dilute stages, and the layer spacing of the latter (angstrom).

    At every x: x = 1 * LiC6 + 1/2 * LiC12 + x_dilute * dilute, where x_dilute = min(x, DILUTE_LIMIT).
    """
    x = np.clip(np.asarray(x, float), 0.0, 1.0)
    first = np.clip((x - 0.5) / 0.5, 0.0, 1.0)
    second = np.where(x > 0.5, 1.0 - first, np.clip((x - DILUTE_LIMIT) / (0.5 - DILUTE_LIMIT), 0.0, 1.0))
    spacing = 3.355 + 0.115 * np.minimum(x, DILUTE_LIMIT) / DILUTE_LIMIT
    return first, second, 1.0 - first - second, spacing
