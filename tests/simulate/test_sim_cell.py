"""The cell's own physics: charge, lithium and fractions balance, the voltage is that of its circuit, the stated links are really in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.simulate.cell import CARBONATE_LAG, SWEEP, UNITS, Design, diffusion_modes, simulate_cell
from operando.simulate.instruments import Beam, History, SourceClock
from operando.simulate.materials import graphite_potential, graphite_stages, h3_progress, nickel_oxidation, oxide_lattice, oxide_potential


def test_the_charge_is_the_integral_of_the_current(cell):
    s, t = cell.states, cell.time
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (s["current"][1:] + s["current"][:-1]) * np.diff(t))])
    np.testing.assert_allclose(s["charge"], integral, atol=1e-9)


def test_lithium_is_neither_made_nor_lost(cell):
    d, s = Design(), cell.states
    taken = (d.x_positive - s["x_positive"]) * d.oxide_capacity
    stored = (s["x_negative"] - d.x_negative) * d.graphite_capacity
    bound = d.inventory_loss * (s["interphase_thickness"] - d.interphase_start)
    np.testing.assert_allclose(taken, stored + bound, atol=1e-9)
    phases = s["stage_1"] + 0.5 * s["stage_2"] + np.minimum(s["x_negative"], 0.2) * s["dilute"]
    np.testing.assert_allclose(phases, s["x_negative"], atol=1e-12)


def test_fractions_are_fractions(cell):
    s = cell.states
    np.testing.assert_allclose(s["stage_1"] + s["stage_2"] + s["dilute"], 1.0, atol=1e-12)
    for name in ("stage_1", "stage_2", "dilute", "damaged_fraction", "h3_progress", "coordinated_fraction", "disorder"):
        assert s[name].min() >= 0, name
        assert s[name].max() <= 1, name


def test_every_state_has_a_unit_and_a_number(cell):
    assert set(cell.states) == set(UNITS)
    assert all(np.isfinite(v).all() for v in cell.states.values())
    assert (np.diff(cell.time) > 0).all()


def test_three_cycles_with_fading_capacity(cell):
    s = cell.states
    charged, discharged = [], []
    for k in (1, 2, 3):
        q = s["charge"][s["cycle"] == k]
        charged.append(q.max() - q[0])
        discharged.append(q.max() - q[-1])
    assert charged[0] > charged[1] > charged[2], "inventory is lost"
    assert all(d < c for c, d in zip(charged, discharged, strict=True))
    assert s["voltage"].max() == pytest.approx(Design().upper, abs=5e-4), "the potentiostat stops at the limit"
    assert s["voltage"].min() == pytest.approx(Design().lower, abs=5e-4)


def test_the_voltage_step_of_a_current_step_is_that_of_the_resistances(cell):
    s = cell.states
    k = int(np.flatnonzero(np.diff(s["current"]) > 1e-3)[0])
    kelvin = s["temperature"][k] + 273.15
    thermal = 2 * 8.314462618 * kelvin / 96485.33212
    current = s["current"][k + 1]
    expected = current * (s["ohmic_resistance"][k] + s["interphase_resistance"][k])
    expected += thermal * np.arcsinh(current * s["charge_transfer_resistance"][k] / thermal)
    assert s["voltage"][k + 1] - s["voltage"][k] == pytest.approx(expected, abs=2e-5)


def test_at_rest_the_voltage_relaxes_to_the_open_circuit_potential():
    rested = simulate_cell(np.datetime64("2026-06-03T08:00:00"), np.random.default_rng(1), cycles=1, design=Design(rest=40_000.0))
    s = rested.states
    last = int(np.flatnonzero((s["step"] == 0) & (s["cycle"] == 1) & (s["half_cycle"] == 0))[-1])
    expected = oxide_potential(s["x_positive"][last]) - graphite_potential(s["x_negative"][last])
    assert s["voltage"][last] == pytest.approx(float(expected), abs=1e-6)


def test_diffusion_modes_are_the_finite_length_element():
    d = Design()
    resistances, times = diffusion_modes(d, 4000)
    assert resistances.sum() == pytest.approx(d.diffusion, rel=1e-3)
    w = 2j * np.pi * np.logspace(-5, -1, 30)
    root = np.sqrt(w * d.diffusion_time)
    modes = (resistances[:, None] / (1 + w * times[:, None])).sum(0)
    np.testing.assert_allclose(modes, d.diffusion * np.tanh(root) / root, rtol=0.02)


def test_the_interphase_resistance_follows_the_carbonate_by_its_lag(cell):
    d, s = Design(), cell.states
    warm = np.exp(d.activation / 8.314462618 * (1 / (273.15 + s["temperature"]) - 1 / 298.15))
    resistance = s["interphase_resistance"] / warm
    later = cell.time > CARBONATE_LAG
    before = cell.at("carbonate", cell.time[later] - CARBONATE_LAG)
    np.testing.assert_allclose(resistance[later], d.interphase * (1 + 0.9 * (before - 1)), atol=0.02)
    without = [np.corrcoef(resistance[later], cell.at("carbonate", cell.time[later] - lag))[0, 1] for lag in (0.0, CARBONATE_LAG, 2 * CARBONATE_LAG)]
    assert np.argmax(without) == 1


def test_the_temperature_step_moves_the_resistances(cell):
    d, s = Design(), cell.states
    moved = s["ohmic_resistance"][cell.time > d.temperature_step_at + 1000][0] / s["ohmic_resistance"][cell.time < d.temperature_step_at - 1000][-1]
    assert moved == pytest.approx(np.exp(25e3 / 8.314462618 * (1 / 300.15 - 1 / 298.15)), rel=0.003)


def test_there_are_sweeps_enough_and_a_gitt_stretch(cell):
    s = cell.states
    assert np.sum(np.diff((s["step"] == SWEEP).astype(int)) == 1) >= 40
    assert np.sum(np.diff((s["step"] == 3).astype(int)) == 1) == Design().pulses
    assert set(s["cycle"][s["step"] == 3]) == {2.0}


def test_the_same_seed_is_the_same_cell_and_another_is_not():
    start = np.datetime64("2026-06-03T08:00:00")
    one, same, other = (simulate_cell(start, np.random.default_rng(k), cycles=1) for k in (1, 1, 2))
    assert all(np.array_equal(one.states[n], same.states[n]) for n in one.states)
    assert not np.array_equal(one.states["carbonate"], other.states["carbonate"])


def test_hours_are_filled():
    long = simulate_cell(np.datetime64("2026-06-03T08:00:00"), np.random.default_rng(1), hours=30.0, dt=20.0)
    assert 30 * 3600 <= long.time[-1] < 38 * 3600


@given(st.floats(0.2, 0.95))
def test_the_oxide_is_the_published_one(x):
    a, c, z = oxide_lattice(x)
    assert 2.81 < a < 2.875
    assert 13.9 < c < 14.5
    assert 0.23 < z < 0.245
    assert 0.8 * nickel_oxidation(x) + 0.1 * 4 + 0.1 * 3 + x == pytest.approx(4.0), "charge neutrality"
    assert oxide_potential(x) > oxide_potential(x + 0.01)


@given(st.floats(0.0, 1.0))
def test_graphite_stages_hold_its_lithium(x):
    first, second, dilute, spacing = graphite_stages(x)
    assert first + second + dilute == pytest.approx(1.0)
    assert first + 0.5 * second + min(x, 0.2) * dilute == pytest.approx(x, abs=1e-12)
    assert 3.35 < spacing <= 3.4701


def test_c_collapses_where_h3_appears():
    x = np.linspace(0.25, 0.9, 200)
    c = oxide_lattice(x)[1]
    assert 0.38 < x[np.argmax(c)] < 0.45
    assert c[0] < c.max() - 0.3
    assert h3_progress(0.25) > 0.9
    assert h3_progress(0.45) < 0.01


@given(st.floats(0, 99), st.floats(0.01, 60))
def test_means_over_exposures_are_exact(begin, exposure):
    t = np.linspace(0, 200, 41)
    h = History(np.datetime64("2026-01-01T00:00:00", "ms"), t, {"v": np.sin(t)})
    fine = np.union1d(np.linspace(begin, begin + exposure, 400), t[(t > begin) & (t < begin + exposure)])
    brute = np.trapezoid(np.interp(fine, t, np.sin(t)), fine) / exposure
    assert float(h.mean("v", begin, exposure)) == pytest.approx(brute, abs=1e-9)


@given(st.floats(-3600, 3600), st.floats(-2e-4, 2e-4), st.floats(0, 80_000), st.floats(0, 1e5))
def test_a_clock_is_wrong_as_the_model_says(offset, drift, at, t):
    clock = SourceClock(offset, drift, at)
    shown = float(clock.stamp(t))
    assert shown + offset + drift * (shown - at) == pytest.approx(t, abs=1e-6)


def test_a_restarted_clock_steps_and_a_wall_clock_has_its_zone():
    clock = SourceClock(offset=10.0, zone="Europe/Paris", restarts=[(100.0, 1500.0)])
    np.testing.assert_allclose(clock.stamp([99.0, 101.0]), [89.0, -1409.0])
    start = np.datetime64("2026-06-03T08:00:00", "ms")
    assert str(clock.wall(start, 10.0)) == "2026-06-03T10:00:00.000"
    assert str(SourceClock(zone="America/Chicago").wall(np.datetime64("2026-12-03T08:00:00", "ms"), 0.0)) == "2026-12-03T02:00:00.000"


def test_no_beam_in_a_dump():
    beam = Beam([(100.0, 200.0)])
    np.testing.assert_allclose(beam.intensity([110.0, 90.0, 400.0], 20.0), [0.0, 0.5, 1.0], atol=0.01)
