"""The reducer of impedance through the public API: named observables with honest errors, on simulated and on measured sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import operando as op
from operando.contract import ConfigError, series
from operando.reduction.impedance import Circuit
from operando.testing import assert_valid_series

FREQUENCY = np.geomspace(1e5, 5e-2, 40)
DONE = np.cumsum(np.maximum(0.25, 2.1 / FREQUENCY))
TEXT = "L0-R0-ZARC1-ZARC2-Ws1-C1"
NAMES = {"R0": "ohmic_resistance", "arc_1": "interphase", "arc_2": "charge_transfer", "Ws1.R": "diffusion_resistance", "Ws1.tau": "diffusion_time"}


def measured(n: int = 12, noise: float = 2e-3, **attrs: Any) -> tuple[xr.Dataset, np.ndarray]:
    circuit = Circuit.parse(TEXT)
    true = np.tile([2e-7, 4.0, 8.0, 8.0 * 25e-6, 0.9, 20.0, 20.0 * 2e-3, 0.85, 6.0, 30.0, 800.0], (n, 1))
    true[:, 2] *= np.linspace(1, 1.5, n)
    true[:, 3] *= np.linspace(1, 1.5, n)
    true[:, 5] *= np.linspace(1, 2.0, n)
    true[:, 6] *= np.linspace(1, 2.0, n)
    rng = np.random.default_rng(0)
    z = np.array([circuit.impedance(row, FREQUENCY) for row in true])
    z = z + noise * np.abs(z) * (rng.standard_normal(z.shape) + 1j * rng.standard_normal(z.shape))
    frames = series(
        "eis",
        {
            "impedance": (("time", "point"), z, "ohm"),
            "dc_voltage": (("time", "point"), np.full(z.shape, 3.7), "V"),
            "dc_current": (("time", "point"), np.zeros(z.shape), "A"),
        },
        source="a.mpt",
        coords={
            "frequency": (("time", "point"), np.tile(FREQUENCY, (n, 1)), "Hz"),
            "point_time": (("time", "point"), np.tile(DONE, (n, 1)), "s"),
            "n_points": ("time", np.full(n, FREQUENCY.size, np.int32), "1"),
        },
        start="2026-06-03T10:00:00+00:00",
        elapsed=3600.0 * np.arange(n),
        exposure=float(DONE[-1]),
        time_origin="header",
        attrs=attrs,
    )
    return frames, true


def test_resistances_have_their_names_units_and_errors() -> None:
    frames, true = measured(about='{"area": 1.5, "capacity": 2.0}')
    out = op.reduce(frames, {"reducer": "eis", "circuit": TEXT, "names": NAMES, "diffusion_length": 5.0})
    o = out["observables"]
    for name, place in (("ohmic_resistance", 1), ("interphase_resistance", 2), ("charge_transfer_resistance", 5)):
        assert o[name].attrs["units"] == "ohm"
        assert np.abs(o[name].values / true[:, place] - 1).max() < 0.03
        pulls = (o[name].values - true[:, place]) / o[f"{name}_errors"].values
        assert np.sqrt(np.mean(pulls**2)) < 1.8
    np.testing.assert_allclose(o["charge_transfer_area_specific_resistance"], 1.5 * o["charge_transfer_resistance"])
    assert o["charge_transfer_area_specific_resistance"].attrs["units"] == "ohm*cm^2"
    assert o["interphase_capacitance"].values == pytest.approx(25e-6, rel=0.05)
    assert o["charge_transfer_capacitance"].values == pytest.approx(2e-3, rel=0.05)
    assert o["diffusion_coefficient"].values * o["diffusion_time"].values == pytest.approx((5e-4) ** 2)
    assert (o["kk_passed"].values == 1).mean() > 0.8
    assert o["noise"].values == pytest.approx(2e-3, rel=0.5)
    assert o["fit_scatter"].values == pytest.approx(2e-3, rel=0.4)
    assert np.median(o["fit_misfit"].values) == pytest.approx(1.0, abs=0.25)
    wrong = op.reduce(frames, {"reducer": "eis", "circuit": "R0-p(R1,CPE1)", "drt": False})["observables"]
    assert (wrong["fit_misfit"].values > 10).all(), "a circuit that is not the cell's says so"
    assert o["sweep_voltage"].values == pytest.approx(3.7)
    assert o["sweep_soc_change"].values == pytest.approx(0.0)
    assert out["reduced"]["impedance_fit"].shape == frames["impedance"].shape
    away = np.abs(out["reduced"]["impedance_fit"].values / frames["impedance"].values - 1)
    assert np.sqrt(np.mean(away**2)) < 4e-3
    assert set(out["reduced"].dims) == {"time", "point", "tau"}


def test_without_a_recipe_arcs_are_numbered_and_the_circuit_is_told() -> None:
    frames, true = measured(6)
    o = op.reduce(frames)["observables"]
    assert o.attrs["circuit"] in o.attrs["circuits_tried"]
    assert "arc_1_resistance" in o
    assert "series_resistance" in o
    assert (o["arc_1_time_constant"].values < o["arc_2_time_constant"].values).all()


def test_no_circuit_and_no_relaxation_times() -> None:
    frames, _ = measured(3)
    out = op.reduce(frames, {"reducer": "eis", "circuit": None, "drt": False})
    assert "kk_passed" in out["observables"]
    assert not [name for name in out["observables"] if "resistance" in str(name) and "intercept" not in str(name)]
    assert set(out["reduced"].data_vars) == {"kk_residuals"}


def test_what_a_recipe_gets_wrong_is_said() -> None:
    frames, _ = measured(2)
    for recipe, words in (
        ({"circuit": "R0-p(R1,CPX1)"}, "no element 'CPX'"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"arc_2": "interphase"}}, "'arc_2', which the circuit"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"R0": "Ohmic"}}, "a name is lower case"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"R0": "arc_1_resistance"}}, "two observables are to be called"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"R1": "charge_transfer_resistance"}}, "'R1', which belongs to arc_1"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"R0": "time"}}, "keeps for something else"),
        ({"circuit": "R0-p(R1,CPE1)", "names": {"R0": "same", "arc_1": "same"}}, "two are to be called"),
        ({"circuit": "R0-p(R1", "CPE1)": None}, "torn at a comma"),
        ({"circuit": ["R0-p(R1,CPE1)", "R0"], "start": {"R0": 1.0}}, "belong to one circuit"),
        ({"electrodes": ["we"]}, "electrodes names what was not measured"),
    ):
        with pytest.raises(ConfigError, match=words):
            op.reduce(frames, {"reducer": "eis", **recipe})


def test_empty_and_short_sweeps_stay_as_rows_of_nothing() -> None:
    frames, _ = measured(5)
    z = frames["impedance"].values.copy()
    z[1] = np.nan
    f = frames["frequency"].values.copy()
    f[2, 1:] = np.nan
    frames = frames.assign(impedance=(("time", "point"), z, frames["impedance"].attrs)).assign_coords(
        frequency=(("time", "point"), f, {"units": "Hz"})
    )
    o = op.reduce(frames, {"reducer": "eis", "circuit": "L0-R0-ZARC1-ZARC2-Ws1"})["observables"]
    assert np.isfinite(o["series_resistance"].values).tolist() == [True, False, False, True, True]
    assert o["kk_passed"].values.tolist()[1:3] == [-1, -1]
    assert o["fit_converged"].values.tolist()[1:3] == [-1, -1]


@pytest.mark.real_data
def test_ten_spectra_at_rest_are_valid_and_alike(shared_data: Path) -> None:
    eis = op.load(shared_data / "eis/hybrid-drt_BSD3/Sample2_PEIS_AtRest.csv", "eis-columns", start="2026-01-01T00:00:00+00:00")
    out = op.reduce(eis, {"reducer": "eis", "circuit": "R0-p(R1,CPE1)-p(R2,CPE2)-p(R3,CPE3)-CPE4", "frequency_max": 1e6})
    o = out["observables"]
    assert (o["kk_passed"].values == 1).sum() >= 9
    assert (o["kk_residual"].values < 2e-3).all()
    total = sum(o[f"arc_{k}_resistance"].values for k in (1, 2, 3)) + o["series_resistance"].values
    assert np.ptp(total) / total.mean() < 0.05
    assert (o["fit_scatter"].values < 0.02).all()
    assert np.abs(o["impedance_drift"].values).max() < 0.05


@pytest.mark.real_data
def test_a_cell_that_changes_under_current(shared_data: Path) -> None:
    eis = op.load(shared_data / "echem/yadg_GPL3/geis.mpt", "biologic-eis", timezone="Europe/Zurich")
    assert_valid_series(eis)
    recipe = {"reducer": "eis", "circuit": None, "drt": False, "electrodes": ["we", "cell"]}
    o = op.reduce(eis, recipe)["observables"]
    assert o["electrode"].values.tolist() == ["we", "cell"]
    over = o["unexplained_overvoltage"].sel(electrode="we").values
    assert over[5] == pytest.approx(28e-3, abs=1e-3)
    assert over[53] == pytest.approx(132e-3, abs=1e-3)
    assert np.median(o["sweep_charge"].values, axis=0) == pytest.approx(0.38e-3 * np.median(eis["exposure"].values), rel=0.01)
    moved = o["sweep_voltage_change"].sel(electrode="we").values
    assert (moved[50:60] > 5e-3).all()
    assert (moved[:60] > 0).all()
    consistent = op.reduce(eis, {**recipe, "time_consistent": True})["observables"]
    rows = slice(45, 58)
    drift = [np.abs(x["impedance_drift"].sel(electrode="we").values[rows]).mean() for x in (o, consistent)]
    assert np.isfinite(drift).all()
