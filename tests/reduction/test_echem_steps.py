"""Steps, rests, titration and differentials of electrochemistry: against simulated truths of the test's own code, and real files by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import operando as op
from operando.contract import series
from operando.reduction import reduce
from operando.reduction.differential import capacity_per_volt, volt_per_capacity
from operando.timeline import annotate, echem_timeline

OHMIC, ARC, TAU = 20.0, 15.0, 60.0  # ohm, ohm, s


def recorded(schedule: list[tuple[float, float]], *, control: bool = True, every: float = 5.0, late: float = 0.3, mean: bool = True) -> xr.Dataset:
    """A cell with an ohmic resistance and one slow arc, recorded every `every` s and `late` s after each switching; mean or instant currents (A)."""
    t, v, i, q, told = [0.0], [3.5], [0.0], [0.0], [np.nan]
    charge, over, begin = 0.0, 0.0, 0.0
    for seconds, amperes in schedule:
        times = begin + np.unique(np.concatenate([[late], np.arange(every, seconds, every), [seconds]]))
        last = begin
        for at in times:
            over = ARC * amperes + (over - ARC * amperes) * np.exp(-(at - last) / TAU)
            charge += amperes * (at - last)
            t.append(at)
            v.append(3.5 + 2e-3 * charge + OHMIC * amperes + over)
            q.append(charge)
            i.append(amperes)
            told.append(amperes if amperes else np.nan)
            last = at
        begin += seconds
    data = {
        "voltage": ("time", np.array(v), "V"),
        "current": ("time", np.array(i), "A", {"interval": "ending" if mean else "instant"}),
        "charge": ("time", np.array(q), "C"),
    }
    if control:
        data["control_current"] = ("time", np.array(told), "A")
    records = series(
        "echem", data, source="a.mpt", start="2026-01-01T00:00:00Z", elapsed=np.array(t), time_origin="header",
        attrs={"loader": "t", "loader_version": "1", "options": "{}"},
    )  # fmt: skip
    return annotate(records, echem_timeline(records))


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("mean", [True, False])
def test_the_resistance_of_a_step_is_that_of_the_set_current(control: bool, mean: bool) -> None:
    steps = reduce(recorded([(300.0, 0.0), (1200.0, 2e-3), (600.0, 0.0), (1200.0, -2e-3), (600.0, 4e-3)], control=control, mean=mean))["steps"]
    assert steps["step_direction"].values.tolist() == [0, 1, 0, -1, 1]
    np.testing.assert_allclose(steps["set_current"].values, [0.0, 2e-3, 0.0, -2e-3, 4e-3], atol=1e-9)
    resistance = steps["step_resistance"].values
    assert np.isnan(resistance[0])
    expected = OHMIC + ARC * (1 - np.exp(-0.3 / TAU))
    np.testing.assert_allclose(resistance[1:], expected, rtol=0.02)
    np.testing.assert_allclose(steps["step_resistance_time"].values[1:], 0.3, atol=1e-6)
    assert steps["step_resistance"].attrs["units"] == "ohm"
    np.testing.assert_allclose(steps["step_charge"].values, [0.0, 2.4, 0.0, -2.4, 2.4], atol=1e-9)


def test_a_record_that_belongs_to_both_sides_gives_no_resistance() -> None:
    # the first mean current after the switching holds a tenth of the new one: divided by it the jump would be ten times as large
    whole = recorded([(300.0, 0.0), (600.0, 2e-3)], control=False)
    mixed = int(np.searchsorted(whole["time"].values, whole["time"].values[0] + np.timedelta64(300_300, "ms")))
    current = whole["current"].values.copy()
    current[mixed] = 0.1 * 2e-3
    steps = reduce(whole.assign(current=("time", current, whole["current"].attrs)))["steps"]
    assert steps["step_resistance"].values[1] == pytest.approx(OHMIC + ARC * (1 - np.exp(-5.0 / TAU)), rel=0.1)
    assert steps["step_resistance_time"].values[1] > 4.5


def test_rests_tell_overpotential_and_relaxation() -> None:
    steps = reduce(recorded([(100.0, 0.0), (1200.0, 2e-3), (300.0, 0.0)]))["steps"]
    rest = steps.isel(time=2)
    assert float(rest["overpotential"]) == pytest.approx((OHMIC + ARC) * 2e-3 - ARC * 2e-3 * np.exp(-300 / TAU), rel=1e-3)
    slope = -ARC * 2e-3 / TAU * np.exp(-300 / TAU)
    assert float(rest["relaxation_rate"]) == pytest.approx(slope, rel=0.8)
    assert slope < 0 > float(rest["relaxation_rate"])
    assert np.isnan(float(steps["relaxation_rate"].values[1]))


def test_intermittent_titration_gives_the_time_of_diffusion() -> None:
    """Semi-infinite diffusion: E = E0 + (2 k / sqrt(pi)) I sqrt(L^2 t / D); k (V/C): slope of the equilibrium potential."""
    diffusion, pulse, current = 40_000.0, 600.0, 1e-3
    k = 0.05  # V/C
    t, v, i = [0.0], [3.5], [0.0]
    base, at = 3.5, 0.0
    for _ in range(3):
        for seconds, amperes in ((1800.0, 0.0), (pulse, current)):
            local = np.arange(10.0, seconds + 1, 10.0)
            t += list(at + local)
            i += [amperes] * local.size
            if amperes:
                v += list(base + 10.0 * amperes + k * amperes * 2 / np.sqrt(np.pi) * np.sqrt(diffusion * local))
                base += k * amperes * seconds
            else:
                v += [base] * local.size
            at += seconds
    local = np.arange(10.0, 1801.0, 10.0)
    t, v, i = [*t, *(at + local)], [*v, *[base] * local.size], [*i, *[0.0] * local.size]
    records = series(
        "echem", {"voltage": ("time", np.array(v), "V"), "current": ("time", np.array(i), "A", {"interval": "ending"})}, source="a.mpt",
        start="2026-01-01T00:00:00Z", elapsed=np.array(t), time_origin="header", attrs={"loader": "t", "loader_version": "1", "options": "{}"},
    )  # fmt: skip
    out = reduce(annotate(records, echem_timeline(records)), {"reducer": "echem-cycles", "diffusion_length": 5.0})["steps"]
    pulses = np.flatnonzero(out["step_direction"].values == 1)
    np.testing.assert_allclose(out["gitt_diffusion_time"].values[pulses], diffusion, rtol=1e-6)
    np.testing.assert_allclose(out["diffusion_coefficient"].values[pulses], (5e-4) ** 2 / diffusion, rtol=1e-6)
    np.testing.assert_allclose(out["gitt_equilibrium_change"].values[pulses], k * current * pulse, rtol=1e-9)
    assert np.isnan(out["gitt_diffusion_time"].values[0])


# --------------------------------------------------------------------------- differentials


def staircase(noise: float = 2e-4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q = np.linspace(0.0, 10.0, 4000)
    v = 3.4 + 0.05 * q + 0.2 * np.tanh((q - 5) / 0.5)
    return q, v, v + noise * np.random.default_rng(0).standard_normal(q.size)


def test_differential_capacity_does_not_ring_and_keeps_the_charge() -> None:
    q, v, noisy = staircase()
    edges = np.arange(3.1, 4.3, 5e-3)
    for smooth in (0.0, 0.01):
        found = capacity_per_volt(noisy, q, edges, smooth)
        assert float(found.sum() * 5e-3) == pytest.approx(10.0, rel=1e-6)
        assert (found >= 0).all()
        true = np.interp((edges[1:] + edges[:-1]) / 2, v, 1 / np.gradient(v, q), left=0.0, right=0.0)
        inner = (edges[:-1] > 3.25) & (edges[1:] < 4.05)
        assert np.sqrt(np.mean((found - true)[inner] ** 2)) < 0.07 * true[inner].mean()
    naive = 1 / np.gradient(noisy, q)
    assert np.std(naive) > 100 * np.std(found), "what differences of neighbours would give"
    down = capacity_per_volt(noisy[::-1], q[::-1], edges)
    np.testing.assert_allclose(down, capacity_per_volt(noisy, q, edges), rtol=1e-9, atol=1e-9)
    flat = capacity_per_volt(np.full(10, 3.5), np.arange(10.0), edges)
    assert float(np.nansum(flat) * 5e-3) == pytest.approx(9.0, rel=1e-6)
    assert np.isnan(capacity_per_volt(np.full(3, np.nan), np.arange(3.0), edges)).all()


def test_differential_voltage_is_the_slope() -> None:
    q, v, noisy = staircase()
    at = np.linspace(0.5, 9.5, 50)
    true = np.interp(at, q, np.gradient(v, q))
    np.testing.assert_allclose(volt_per_capacity(v, q, at, 0.05), true, atol=5e-4)
    np.testing.assert_allclose(volt_per_capacity(noisy, q, at, 0.3), true, atol=0.02)
    line = volt_per_capacity(2.0 + 0.3 * q, q, at, 1.0)
    np.testing.assert_allclose(line, 0.3, rtol=1e-9)
    assert np.isnan(volt_per_capacity(v, q, np.array([50.0]), 0.3)).all()
    assert np.isnan(volt_per_capacity(v[:2], q[:2], at, 0.3)).all()


# --------------------------------------------------------------------------- measured


@pytest.mark.real_data
def test_the_reversals_of_rock(shared_data: Path) -> None:
    (path,) = (shared_data / "multimodal/perex_rock/EC").glob("*.mpt")
    records = op.load(path, "biologic-mpt", timezone="Europe/Paris")
    out = reduce(op.align(records, records))
    steps = out["steps"]
    high = np.flatnonzero(steps["step_direction"].values == -1)
    assert steps["step_resistance"].values[high] == pytest.approx([30.2, 30.9], abs=0.1)
    assert (steps["step_resistance_time"].values[high] < 0.02).all()
    known = steps["step_resistance"].values[np.isfinite(steps["step_resistance"].values)]
    assert (known < 100).all(), "the mean current up to the first record would give 151 ohm at the first switching on"
    differential = out["differential"]
    assert differential.attrs["half_cycles_derived"] == 0
    passed = np.abs(differential["half_cycle_charge"].values)
    width = float(differential["voltage_bin"].values[1] - differential["voltage_bin"].values[0])
    np.testing.assert_allclose(np.nansum(differential["differential_capacity"].values, axis=1) * width, passed, rtol=1e-6, atol=1e-9)
    assert passed.max() == pytest.approx(1.614, abs=1e-3)


@pytest.mark.real_data
def test_capacities_of_a_long_file_against_an_independent_integral(shared_data: Path) -> None:
    path = shared_data / "echem/navani_MIT/jdb11-1_c3_gcpl_5cycles_2V-3p8V_C-24_data_C09.mpr"
    records = op.load(path, "biologic-mpr", timezone="Europe/London")
    out = reduce(annotate(records, echem_timeline(records)))
    time = (records["time"].values - records["time"].values[0]) / np.timedelta64(1, "s")
    current = records["current"].values
    # the current of a record is the mean of the interval that ends at it: added up by its sign, half cycle by half cycle
    moved = current[1:] * np.diff(time) / 3.6
    half = out["differential"]["half_cycle_charge"].values
    cuts = np.flatnonzero(np.diff(np.sign(np.where(np.abs(current[1:]) > 1e-6, current[1:], 0))) != 0) + 1
    parts = np.add.reduceat(moved, np.concatenate([[0], cuts]))
    longest = np.sort(np.abs(parts[np.abs(parts) > 1]))[::-1]
    # the cell was discharged a little from open circuit first: that is no cycle, and not what the others are held against
    assert out["cycles"]["cycle"].values[0] == 0
    assert out["cycles"].attrs["first_cycle_efficiency"] == pytest.approx(0.8529 / 0.9868, abs=1e-3)
    assert (out["cycles"]["capacity_retention"].values[1:6] < 1.1).all()
    np.testing.assert_allclose(np.sort(np.abs(half))[::-1][: min(6, longest.size)], longest[: min(6, longest.size)], rtol=5e-3)
