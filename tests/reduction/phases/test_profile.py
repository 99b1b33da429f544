"""The pattern of a phase: its area, its shape, and its derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import voigt_profile

from operando.reduction.phases.engine import Engine
from operando.reduction.phases.profile import FIXED, march
from operando.reduction.phases.recipe import PhasesRecipe

RECIPE = {
    "reducer": "phase-fractions",
    "phases": {
        "NiO": {
            "structure": {
                "space_group": "F m -3 m",
                "a": 4.178,
                "sites": [{"element": "Ni", "x": 0, "y": 0, "z": 0}, {"element": "O", "x": 0.5, "y": 0.5, "z": 0.5}],
            },
            "texture": {"axis": [0, 0, 1], "r": 0.8},
            "refine": ["lattice", "size", "strain"],
        },
        "ZnO": {
            "structure": {
                "space_group": "P 63 m c",
                "a": 3.2498,
                "c": 5.2066,
                "sites": [{"element": "Zn", "x": 1 / 3, "y": 2 / 3, "z": 0}, {"element": "O", "x": 1 / 3, "y": 2 / 3, "z": 0.382}],
            },
            "texture": {"axis": [0, 0, 1], "r": 1.2},
            "refine": ["lattice", "size", "strain"],
        },
    },
    "instrument": {"geometry": "bragg-brentano", "refine": ["zero", "displacement", "U", "V", "W"], "caglioti": [0.01, -0.004, 0.006]},
}
GRID = np.arange(28.0, 120.0, 0.02)


def _engine(**changes: object) -> Engine:
    return Engine(PhasesRecipe.model_validate(RECIPE | changes), GRID, np.array([1.54056, 1.54439]), np.array([1.0, 0.5]))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return _engine()


@pytest.mark.parametrize("geometry", ["bragg-brentano", "flat-detector", "debye-scherrer"])
@pytest.mark.parametrize("k", [0, 1])
def test_derivatives_are_differences(geometry: str, k: int) -> None:
    engine = _engine(instrument=RECIPE["instrument"] | {"geometry": geometry})  # type: ignore[operator]
    theta = engine.start.copy()
    theta[engine.index_of[k]["X"]], theta[engine.index_of[k]["Y"]] = 0.06, 0.05
    theta[1] = 0.03
    size = FIXED + len(engine.phases[k].crystal.names)
    block = engine.columns(theta, k, np.ones(size, bool))
    assert np.allclose(block[0], engine.columns(theta, k, None)[0])
    checked = 0
    for n, parameter in enumerate(engine.parameters):
        if parameter.phase not in (None, k):
            continue
        step = 1e-5 * max(abs(theta[n]), 0.1 if parameter.column < FIXED else 1e-3)
        up, down = theta.copy(), theta.copy()
        up[n] += step
        down[n] -= step
        slope = (engine.columns(up, k, None)[0] - engine.columns(down, k, None)[0]) / (2 * step)
        # the metric also moves |F|^2, Lorentz factor and widths, which the engine leaves out of the derivative: little beside the shift of a line
        allowed = 0.02 if parameter.column >= FIXED else 2e-3
        assert np.max(np.abs(block[parameter.column] - slope)) < allowed * np.max(np.abs(slope)), parameter.name
        checked += 1
    assert checked == 5 + len(engine.phases[k].crystal.names) + 3


def test_a_line_has_its_area_and_width() -> None:
    """One line: area strength x LP, and the shape that a Gaussian folded with a Lorentzian has, within what a pseudo-Voigt can."""
    recipe = {
        "reducer": "phase-fractions",
        "phases": {"Al": {"structure": {"space_group": "F m -3 m", "a": 4.05, "sites": [{"element": "Al", "x": 0, "y": 0, "z": 0}]}}},
        "instrument": {"caglioti": [0, 0, 0.0036]},
        "two_theta_range": [30, 41],
        "tails": 60,
    }
    engine = Engine(PhasesRecipe.model_validate(recipe), np.arange(25, 50, 0.002), np.array([1.5406]), np.array([1.0]))
    theta = engine.start.copy()
    theta[engine.index_of[0]["X"]] = 0.05
    pattern = engine.columns(theta, 0, None)[0]
    phase = engine.phases[0]
    at = [h.tolist() for h in phase.reflections.hkl].index([1, 1, 1])
    inverse = phase.reflections.terms @ phase.crystal.free
    sine = 1.5406 / 2 * np.sqrt(inverse[at])
    bragg = np.arcsin(sine)
    area = phase.crystal.strengths(phase.reflections)[at] / (sine**2 * np.cos(bragg)) * engine.unit[0]
    assert np.trapezoid(pattern, engine.two_theta) == pytest.approx(area, rel=0.03)  # tails beyond the range
    lorentz = 0.05 / np.cos(bragg)
    voigt = voigt_profile(engine.two_theta - np.degrees(2 * bragg), 0.06 / 2.3548, lorentz / 2)
    assert np.max(np.abs(pattern / area - voigt)) < 0.02 * voigt.max()


@given(st.floats(0.3, 3.0))
@settings(max_examples=30, deadline=None)
def test_march_keeps_the_whole(r: float) -> None:
    """Over all orientations the factor is 1 on average: texture moves intensity, it makes none."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    factor, slope = march(((nodes + 1) / 2) ** 2, r, False, np.zeros(200))
    assert factor @ weights / 2 == pytest.approx(1.0, rel=1e-3)
    up, down = march(np.array([0.3]), r * 1.0001, False, np.zeros(1))[0], march(np.array([0.3]), r * 0.9999, False, np.zeros(1))[0]
    exact = march(np.array([0.3]), r, False, np.zeros(1))[1]
    assert exact[0] == pytest.approx((up - down)[0] / (2e-4 * r), rel=1e-4)
    assert slope.shape == factor.shape


def test_k_alpha_2_stands_beside_k_alpha_1(engine: Engine) -> None:
    alone = Engine(PhasesRecipe.model_validate(RECIPE), GRID, np.array([1.54056]), np.array([1.0]))
    both, one = engine.columns(engine.start, 0, None)[0] / engine.unit[0], alone.columns(alone.start, 0, None)[0] / alone.unit[0]
    assert np.sum(both) == pytest.approx(1.5 * np.sum(one), rel=0.01)
