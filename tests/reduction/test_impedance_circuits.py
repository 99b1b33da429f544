"""Circuits and their fits: against another library's elements, against simulated truths, and refused with a finger on the fault."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from impedance.models.circuits import CustomCircuit

from operando.contract import ConfigError, ContractError
from operando.reduction.impedance import ELEMENTS, Circuit, choose_circuit, fit_circuit, fit_circuit_series
from operando.reduction.impedance.fitting import in_order

pytestmark = pytest.mark.filterwarnings("ignore:Simulating circuit based on initial parameters")
FREQUENCY = np.geomspace(1e5, 1e-2, 60)
TWO_ARCS = "L0-R0-p(R1,CPE1)-p(R2,CPE2)-W1"
TRUE = np.array([2e-7, 4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85, 1.5])


def noisy(z: np.ndarray, size: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return z + size * np.abs(z) * (rng.standard_normal(z.shape) + 1j * rng.standard_normal(z.shape))


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        ("R0-p(R1,C1)", "R0-p(R1,C1)", [5.0, 20.0, 1e-4]),
        ("L0-R0-p(R1,CPE1)-W1", "L0-R0-p(R1,CPE1)-W1", [1e-7, 5.0, 20.0, 1e-4, 0.8, 3.0]),
        ("R0-p(CPE1,R1-Wo1)", "R0-p(CPE1,R1-Wo1)", [5.0, 1e-4, 0.8, 20.0, 30.0, 100.0]),
        ("R0-p(CPE1,R1-Ws1)", "R0-p(CPE1,R1-Ws1)", [5.0, 1e-4, 0.8, 20.0, 30.0, 100.0]),
        ("R0-ZARC1-G1", "R0-Zarc1-G1", [5.0, 20.0, 1e-2, 0.7, 10.0, 0.3]),
    ],
)
def test_elements_are_those_of_another_library(ours: str, theirs: str, values: list[float]) -> None:
    peer = CustomCircuit(theirs, initial_guess=values).predict(FREQUENCY, use_initial=True)
    np.testing.assert_allclose(Circuit.parse(ours).impedance(np.array(values), FREQUENCY), peer, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["L0-R0-p(R1,CPE1)-W1", "R0-ZARC1-Ws1", "R0-p(CPE1,R1-Wo1)-G1-C3", "p(R1-p(R2,C2),C1)"]), st.integers(0, 2**32 - 1))
def test_slopes_are_those_of_differences(text: str, seed: int) -> None:
    circuit = Circuit.parse(text)
    rng = np.random.default_rng(seed)
    theta = np.log(np.where(np.array(circuit.kinds) == "n", rng.uniform(0.5, 0.99), 10 ** rng.uniform(-3, 2, len(circuit.kinds))))
    z, slopes = circuit.with_slopes(theta, FREQUENCY)
    step = 1e-6
    numeric = np.array(
        [
            (circuit.with_slopes(theta + step * e, FREQUENCY)[0] - circuit.with_slopes(theta - step * e, FREQUENCY)[0]) / (2 * step)
            for e in np.eye(theta.size)
        ]
    )
    np.testing.assert_allclose(slopes, numeric, atol=1e-6 * np.abs(z).max())


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("R0-p(R1,CPX1)-W1", 8, "no element 'CPX'; did you mean CPE?"),
        ("R0-p(R1,CPE1", 3, "this p( is never closed"),
        ("R0--R1", 3, "found '-'"),
        ("R0-R", 4, "R needs a number"),
        ("R0-R0", 3, "R0 stands here for the second time"),
        ("R0)", 2, "a ')' that nothing opened"),
        ("R0-p(R1)", 3, "needs two branches"),
        ("R0 R1", 3, "'-' or the end is expected here"),
        ("R0-", 3, "ends where an element is expected"),
        ("", 0, "the circuit is empty"),
        ("r0-c1", 0, "did you mean R?"),
    ],
)
def test_a_typo_is_pointed_at(text: str, column: int, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Circuit.parse(text)
    lines = error.value.problem.split("\n")
    assert words in lines[0]
    assert lines[2] == " " * (4 + column) + "^"


def test_every_element_has_its_parameters_named_with_units() -> None:
    text = "-".join(f"{code}1" for code in ELEMENTS)
    circuit = Circuit.parse(text)
    assert circuit.parameters[:3] == ("R1", "C1", "L1")
    assert "CPE1.Q" in circuit.parameters
    assert dict(zip(circuit.parameters, circuit.units, strict=True))["Wo1.tau"] == "s"
    assert np.isfinite(circuit.impedance(np.full(len(circuit.parameters), 0.5), FREQUENCY)).all()


@pytest.mark.parametrize("seed", range(4))
def test_charge_transfer_is_found_within_a_percent(seed: int) -> None:
    circuit = Circuit.parse(TWO_ARCS)
    n = 25
    true = np.tile(TRUE, (n, 1))
    true[:, 5] *= np.linspace(1, 3, n)
    true[:, 2] *= np.linspace(1, 1.8, n)
    z = noisy(np.array([circuit.impedance(row, FREQUENCY) for row in true]), 3e-3, seed)
    fits = fit_circuit_series(np.tile(FREQUENCY, (n, 1)), z, circuit)
    values, errors = np.array([f.values for f in fits]), np.array([f.errors for f in fits])
    assert np.abs(values[:, 5] / true[:, 5] - 1).max() < 0.01
    assert np.abs(values[:, 5] / true[:, 5] - 1).mean() < 0.004
    pulls = (values - true) / errors
    assert 0.7 < np.sqrt(np.mean(pulls**2)) < 1.3
    assert np.mean([f.scatter for f in fits]) == pytest.approx(3e-3, rel=0.1)
    assert all(f.converged and not f.at_bound.any() for f in fits)


def test_the_same_parameters_as_another_library() -> None:
    z = noisy(Circuit.parse(TWO_ARCS).impedance(TRUE, FREQUENCY), 2e-3, 7)
    ours = fit_circuit(FREQUENCY, z, TWO_ARCS)
    peer = CustomCircuit(TWO_ARCS, initial_guess=[*(TRUE * 1.1)[:4].tolist(), 0.9, *(TRUE * 1.1)[5:7].tolist(), 0.9, 1.6])
    peer.fit(FREQUENCY, z, weight_by_modulus=True)
    names = list(Circuit.parse(TWO_ARCS).parameters)
    for name in ("R0", "R1", "R2"):
        assert ours.values[names.index(name)] == pytest.approx(peer.parameters_[names.index(name)], rel=5e-3)


def test_arcs_keep_their_order_whatever_the_start() -> None:
    circuit = Circuit.parse("R0-p(R1,CPE1)-p(R2,CPE2)")
    z = noisy(circuit.impedance(np.array([4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85]), FREQUENCY), 1e-3, 0)
    swapped = np.log(np.array([4.0, 20.0, 5e-3, 0.85, 8.0, 1e-4, 0.9]))
    fit = in_order(circuit, fit_circuit(FREQUENCY, z, circuit, start=swapped))
    assert fit.values[1] == pytest.approx(8.0, rel=0.02)
    assert fit.errors[1] == pytest.approx(fit_circuit(FREQUENCY, z, circuit).errors[1], rel=0.05)
    assert circuit.arcs[0].log_tau(fit.theta)[0] < circuit.arcs[1].log_tau(fit.theta)[0]


def test_akaike_prefers_the_circuit_that_is_true() -> None:
    truth = Circuit.parse("R0-p(R1,CPE1)-p(R2,CPE2)")
    z = np.array([noisy(truth.impedance(np.array([4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85]), FREQUENCY), 2e-3, seed) for seed in range(4)])
    candidates = ["R0-p(R1,CPE1)", "R0-p(R1,CPE1)-p(R2,CPE2)", "R0-p(R1,CPE1)-p(R2,CPE2)-p(R3,CPE3)"]
    chosen, scores = choose_circuit(np.tile(FREQUENCY, (4, 1)), z, candidates)
    assert chosen.text == candidates[1]
    assert scores[candidates[1]] == 0.0
    assert scores[candidates[0]] > 100
    assert scores[candidates[2]] > 0


def test_what_cannot_be_fitted_gives_no_number() -> None:
    circuit = Circuit.parse("R0-p(R1,CPE1)")
    frequency = np.tile(FREQUENCY, (4, 1))
    z = np.tile(circuit.impedance(np.array([4.0, 8.0, 1e-4, 0.9]), FREQUENCY), (4, 1))
    z[1] = np.nan  # nothing measured
    frequency[2, 1:] = np.nan  # one point
    z[3, ::2] = np.nan  # half of the points
    fits = fit_circuit_series(frequency, noisy(z, 1e-3, 0), circuit)
    assert [np.isfinite(f.theta).all() for f in fits] == [True, False, False, True]
    assert [f.points for f in fits] == [60, 0, 0, 30]
    assert fits[3].values[2] == pytest.approx(1e-4, rel=0.05)
    inductive = fit_circuit(FREQUENCY, 2j * np.pi * FREQUENCY * 1e-6 + 0.1, "L0-R0")
    assert inductive.values == pytest.approx([1e-6, 0.1], rel=1e-3)
    twice = fit_circuit(np.repeat(FREQUENCY, 2), np.repeat(z[0], 2), circuit)
    assert twice.values[1] == pytest.approx(8.0, rel=1e-4)


def test_what_is_told_wrongly_is_said() -> None:
    z = Circuit.parse("R0-p(R1,CPE1)").impedance(np.array([4.0, 8.0, 1e-4, 0.9]), FREQUENCY)
    for settings_, words in (
        ({"bounds": {"R7": (1, 2)}}, "bounds of 'R7'"),
        ({"bounds": {"R1": (2, 1)}}, "bounds of 'R1' are none"),
        ({"start": {"R1": -3.0}}, "no positive number"),
        ({"weights": "sqrt"}, "weights are not known"),
    ):
        with pytest.raises(ConfigError, match=words):
            fit_circuit(FREQUENCY, z, "R0-p(R1,CPE1)", **settings_)
    with pytest.raises(ContractError, match="do not belong together"):
        fit_circuit_series(FREQUENCY, z, "R0-p(R1,CPE1)")
    held = fit_circuit(FREQUENCY, z, "R0-p(R1,CPE1)", bounds={"R1": (9.0, 10.0)})
    assert held.values[1] == pytest.approx(9.0, rel=1e-3)
    assert held.at_bound[1]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("R0-G1-ZARC2", [4.0, 15.0, 1.0, 8.0, 1e-4, 0.8]),
        ("R0-ZARC1-G2", [4.0, 20.0, 0.5, 0.85, 8.0, 1e-4]),
        ("R0-p(R1,C1)-p(R2,CPE2)", [4.0, 20.0, 1e-2, 8.0, 1e-4, 0.85]),
        ("R0-p(R1-W1,CPE1)-p(R2,CPE2)", [4.0, 20.0, 2.0, 5e-3, 0.85, 8.0, 1e-4, 0.9]),
        ("R0-ZARC1-ZARC2-Ws1", [4.0, 8.0, 1e-4, 0.9, 20.0, 0.03, 0.85, 15.0, 3.0]),
    ],
)
def test_no_fit_gets_stuck_whatever_arc_is_written_first(text: str, values: list[float]) -> None:
    circuit = Circuit.parse(text)
    true = np.array(values)
    z = np.array([noisy(circuit.impedance(true, FREQUENCY), 3e-3, seed) for seed in range(8)])
    for fit, one in zip(fit_circuit_series(np.tile(FREQUENCY, (8, 1)), z, circuit), z, strict=True):
        assert fit.cost <= 1.02 * fit_circuit(FREQUENCY, one, circuit, start=np.log(true)).cost
    assert fit_circuit(FREQUENCY, z[0], circuit).scatter < 4e-3


def test_bounds_tell_arcs_apart() -> None:
    circuit = Circuit.parse("R0-p(R1,CPE1)-p(R2,CPE2)")
    z = noisy(circuit.impedance(np.array([4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85]), FREQUENCY), 1e-3, 0)
    told = fit_circuit(FREQUENCY, z, circuit, bounds={"R1": (15.0, 50.0), "R2": (1.0, 12.0)})
    assert told.values[[1, 4]] == pytest.approx([20.0, 8.0], rel=0.02), "who says that R1 is the large one finds it there"
    assert not told.at_bound.any()
    (series,) = fit_circuit_series(FREQUENCY[None], z[None], circuit, bounds={"R1": (15.0, 50.0), "R2": (1.0, 12.0)})
    assert series.values[[1, 4]] == pytest.approx([20.0, 8.0], rel=0.02)
