"""Lithium from diffraction against lithium from charge: a layered oxide with a part that lags, two-phase LFP, graphite counted per C6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import operando as op
from operando.contract import ConfigError, ContractError
from operando.reduction import Products, Run, get_reducer, parse_recipe
from operando.reduction.balance import FARADAY, BalanceRecipe, line_through

OXIDE = {
    "space_group": "R -3 m:H", "a": 2.87, "c": 14.2, "formula_units": 3,
    "sites": [
        {"label": "Li", "element": "Li", "x": 0, "y": 0, "z": 0, "occupancy": 0.9},
        {"label": "Ni", "element": "Ni", "x": 0, "y": 0, "z": 0.5},
        {"label": "O", "element": "O", "x": 0, "y": 0, "z": 0.24},
    ],
}  # fmt: skip
CURVE = {"follows": "a", "points": [{"x": 0.2, "lattice": {"a": 2.81, "c": 14.2}}, {"x": 1.0, "lattice": {"a": 2.88, "c": 14.2}}]}
CARBON = {
    "LiC6": {"space_group": "P 6/m m m", "a": 4.305, "c": 3.706, "sites": [
        {"element": "Li", "x": 0, "y": 0, "z": 0}, {"element": "C", "x": 0.3333333, "y": 0, "z": 0.5}]},
    "LiC12": {"space_group": "P 6/m m m", "a": 4.288, "c": 7.065, "sites": [
        {"element": "Li", "x": 0, "y": 0, "z": 0}, {"element": "C", "x": 0.3333333, "y": 0, "z": 0.262}]},
    "graphite": {"space_group": "P 63/m m c", "a": 2.461, "c": 6.72, "formula_units": 4, "sites": [
        {"element": "C", "x": 0, "y": 0, "z": 0.25}, {"element": "C", "x": 0.3333333, "y": 0.6666667, "z": 0.25}]},
}  # fmt: skip
MASS = 10.0  # mg
MOLAR = 58.693 + 2 * 15.999 + 6.94 * 0.93  # g/mol of Li0.93NiO2


def a_of(x: np.ndarray | float) -> np.ndarray:
    """Lattice parameter (angstrom) on the curve of the recipe."""
    return np.asarray(2.81 + 0.07 * (np.asarray(x) - 0.2) / 0.8)


def phases_recipe(names: dict[str, dict[str, Any]]) -> str:
    """The recipe as `phase-fractions` leaves it in the attributes of its product."""
    (stage,) = parse_recipe({"reducer": "phase-fractions", "phases": names})
    return json.dumps(stage.settings)


def observables(recipe: str, columns: dict[str, Any], charge: np.ndarray, position: np.ndarray | None = None) -> xr.Dataset:
    """Observables of a series on the timeline, with given values."""
    n = charge.size
    names = list(json.loads(recipe)["phases"])
    time = np.datetime64("2026-06-03T10:00:00", "ns") + np.arange(n) * np.timedelta64(60, "s")
    variables = {}
    for name, values in columns.items():
        variables[name] = (("time", "phase"), np.broadcast_to(np.asarray(values, float), (n, len(names))).copy(), {"units": "1"})
    coords: dict[str, Any] = {
        "time": time,
        "source_time": ("time", time),
        "phase": np.array(names, dtype=object),
        "charge": ("time", charge, {"units": "C"}),
        "charge_errors": ("time", np.full(n, 1e-4), {"units": "C"}),
        "coverage": ("time", np.ones(n), {"units": "1"}),
        "current": ("time", np.full(n, 1e-3), {"units": "A"}),
        "exposure": ("time", np.full(n, 30.0), {"units": "s"}),
        "flags": ("time", np.zeros(n, np.int32), {"units": "1"}),
    }
    if position is not None:
        coords["position"] = ("time", position, {"units": "1"})
    return xr.Dataset(variables, coords=coords, attrs={"technique": "xrd", "reducer": "phase-fractions", "recipe": recipe, "wavelength": 0.5})


def balance(ds: xr.Dataset, about: dict[str, Any] | None = None, **settings_: Any) -> xr.Dataset:
    """Run the stage as a build does, its checks of the contract included."""
    (stage, made) = parse_recipe({"stages": ["nmc811-graphite", {"reducer": "charge-balance", **settings_}]})
    assert made.reducer is get_reducer("charge-balance")
    handed = ds.assign_attrs(about=json.dumps(made.reducer.about_of(about or {})))
    return Run(made, "A/xrd").whole(handed, ds)["balance"]


def oxide(share: float = 0.0, n: int = 80, seed: int = 0, noise: float = 0.003, lagging_x: float = 0.75) -> tuple[xr.Dataset, np.ndarray]:
    """Two spots in turn; at spot 1 a share of the oxide stays behind. Two cycles."""
    rng = np.random.default_rng(seed)
    phase = np.linspace(0, 4 * np.pi, n)
    x = 0.93 - 0.3 * (1 - np.cos(phase))
    charge = (0.93 - x) * MASS * 1e-3 / MOLAR * FARADAY
    spot = np.arange(n) % 2
    lag = np.where(spot == 1, share, 0.0)
    recipe = phases_recipe({
        "oxide": {"structure": OXIDE, "solid_solution": CURVE, "layer": "positive"},
        "lagging": {"structure": {**OXIDE, "a": float(a_of(lagging_x))}, "layer": "positive"},
    })  # fmt: skip
    sigma = noise * 0.07 / 0.8
    lattice = np.stack([a_of(x) + sigma * rng.standard_normal(n), np.where(lag > 0, a_of(lagging_x), np.nan)], axis=1)
    errors = np.stack([np.full(n, sigma), np.where(lag > 0, 1e-5, np.nan)], axis=1)
    mole = np.stack([1 - lag, lag], axis=1)
    columns = {"mole_fraction": mole, "mole_fraction_errors": 0.002, "phase_scale": mole * 2, "phase_scale_errors": 0.004,
               "lattice_a": lattice, "lattice_a_errors": errors}  # fmt: skip
    return observables(recipe, columns, charge, spot), x


def test_all_of_the_charge_is_seen_where_all_takes_part() -> None:
    ds, x = oxide()
    out = balance(ds, {"active_mass": MASS}, layers={"positive": {"x_reference": 0.93}})
    one = out.sel(layer="positive")
    np.testing.assert_allclose(one.lithium_from_charge, x, atol=1e-4)
    pull = (one.lithium_from_diffraction.values - x) / one.lithium_from_diffraction_errors.values
    assert pull.std() == pytest.approx(1, abs=0.25)
    for k in (0, 1):
        assert abs(float(one.charge_seen[k]) - 1) < 3 * float(one.charge_seen_errors[k])
        assert float(one.charge_seen_errors[k]) < 0.01
    assert "lags" not in out.attrs["summary"]
    assert out.attrs["scale"] == f"positive: 10 mg of {MOLAR:.2f} g/mol"
    assert "position" in out.coords, "each row says its spot"
    residual = one.charge_balance_residual.values
    np.testing.assert_allclose(residual, one.lithium_from_diffraction - one.lithium_from_charge)


def test_a_part_that_stays_behind_is_seen_at_its_spot() -> None:
    ds, x = oxide(share=0.12)
    out = balance(ds, {"active_mass": MASS}, layers={"positive": {"x_reference": 0.93}})
    seen, errors = out.charge_seen.values[0], out.charge_seen_errors.values[0]
    assert abs(seen[0] - 1) < 3 * errors[0]
    assert abs(seen[1] - 0.88) < 3 * errors[1]
    assert float(out.lithium_offset[0, 1]) == pytest.approx(0.12 * (0.75 - 0.93), abs=0.005)
    assert "spot 1 sees 0.88" in out.attrs["summary"]
    assert "lags by 12 %" in out.attrs["summary"]
    assert "; spot 1" in out.attrs["summary"].split("lags")[0]


def test_the_state_at_the_beginning_is_that_of_the_patterns_if_none_is_told() -> None:
    ds, x = oxide()
    out = balance(ds, {"active_mass": MASS})
    assert float(out.x_reference[0]) == pytest.approx(0.93, abs=4 * float(out.x_reference_errors[0]) + 1e-3)
    assert 0 < float(out.x_reference_errors[0]) < 0.01


def test_without_a_mass_the_scale_is_that_of_the_spot_that_sees_most_and_is_said() -> None:
    ds, _ = oxide(share=0.12)
    out = balance(ds, {})
    assert float(out.charge_seen[0, 0]) == pytest.approx(1, abs=1e-6)
    assert float(out.charge_seen[0, 1]) == pytest.approx(0.88, abs=0.02)
    assert "scale fitted to spot 0" in out.attrs["summary"]
    assert "mass is not known" in out.attrs["scale"]


def test_a_wrong_mass_shows_in_the_slope() -> None:
    ds, _ = oxide()
    out = balance(ds, {}, layers={"positive": {"mass": 2 * MASS, "x_reference": 0.93}})
    assert out.charge_seen.values[0] == pytest.approx([2, 2], abs=0.02)


def test_frames_without_a_charge_or_a_fit_are_empty_and_stay() -> None:
    ds, x = oxide()
    flags = np.zeros(80, np.int32)
    flags[:4] = 1  # OUTSIDE
    ds = ds.assign_coords(flags=("time", flags, {"units": "1"}))
    ds["mole_fraction"][10] = np.nan
    ds["lattice_a"][12] = np.nan  # the fit did not see the oxide
    out = balance(ds, {"active_mass": MASS}, layers={"positive": {"x_reference": 0.93}}).sel(layer="positive")
    assert out.sizes["time"] == 80
    assert np.isnan(out.lithium_from_charge[:4]).all()
    assert np.isfinite(out.lithium_from_diffraction[:4]).all()
    assert np.isnan(out.charge_balance_residual[10])
    assert np.isnan(out.lithium_from_diffraction[12])


def test_a_little_that_is_not_seen_lies_in_its_range() -> None:
    ds, _ = oxide(share=0.12)
    ds["lattice_a"][11, 1] = np.nan  # spot 1: below detection there
    out = balance(ds, {"active_mass": MASS}, layers={"positive": {"x_reference": 0.93}}).sel(layer="positive")
    sigma = out.lithium_from_diffraction_errors.values
    assert abs(float(out.lithium_from_diffraction[11] - out.lithium_from_diffraction[[9, 13]].mean())) < 0.02
    assert sigma[11] == pytest.approx(np.hypot(sigma[13], 0.12 * 0.02 * float(a_of(0.75)) / np.sqrt(3) * 0.8 / 0.07), rel=0.02), "2 % of a, evenly"


def test_an_exposure_that_is_half_covered_is_less_sure() -> None:
    ds, _ = oxide()
    coverage = np.ones(80)
    coverage[5] = 0.5
    out = balance(ds.assign_coords(coverage=("time", coverage, {"units": "1"})), {"active_mass": MASS})
    errors = out.lithium_from_charge_errors.values[:, 0]
    scale = MOLAR / (MASS * 1e-3 * FARADAY)
    assert errors[4] == pytest.approx(1e-4 * scale, rel=1e-3)
    assert errors[5] == pytest.approx(np.hypot(1e-4, 0.5 * 1e-3 * 30 / 2) * scale, rel=1e-3)


def test_two_phases_are_weighted_by_moles() -> None:
    n = 40
    x = np.concatenate([np.linspace(1, 0.1, n // 2), np.linspace(0.1, 1, n // 2)])
    sites = [{"element": "Fe", "x": 0.28, "y": 0.25, "z": 0.97}, {"element": "P", "x": 0.095, "y": 0.25, "z": 0.42},
             {"element": "O", "x": 0.1, "y": 0.25, "z": 0.74}, {"element": "O", "x": 0.46, "y": 0.25, "z": 0.21},
             {"element": "O", "x": 0.17, "y": 0.05, "z": 0.28}]  # fmt: skip
    cell = {"space_group": "P n m a", "a": 10.33, "b": 6.01, "c": 4.69}
    recipe = phases_recipe({
        "LiFePO4": {"structure": {**cell, "sites": [{"element": "Li", "x": 0, "y": 0, "z": 0}, *sites]}, "lithium": 1},
        "FePO4": {"structure": {**cell, "a": 9.82, "b": 5.79, "c": 4.78, "sites": sites}, "lithium": 0},
    })  # fmt: skip
    mole = np.stack([x, 1 - x], axis=1)
    columns = {"mole_fraction": mole, "mole_fraction_errors": 0.01, "phase_scale": mole, "phase_scale_errors": 0.01}
    charge = (1 - x) * 5e-3 / 157.757 * FARADAY
    out = balance(observables(recipe, columns, charge), {"active_mass": 5.0, "cell_type": "half"}, layers={"cell": {"x_reference": 1.0}})
    np.testing.assert_allclose(out.lithium_from_diffraction[:, 0], x)
    np.testing.assert_allclose(out.lithium_from_charge[:, 0], x, atol=1e-4)
    assert out.charge_seen.values[0] == pytest.approx([1], abs=1e-3)
    assert out.attrs["summary"].startswith("cell: the pattern sees 1.000")
    sigma = out.lithium_from_diffraction_errors.values[:, 0]
    np.testing.assert_allclose(sigma, 0.01 * np.sqrt(x**2 + (1 - x) ** 2), rtol=1e-6)  # d x / d scale, of scales that vary by themselves


def test_graphite_is_counted_per_c6_whatever_its_formula_units() -> None:
    """LiC6, LiC12 and C have 6, 12 and 1 carbon: by the lever rule of carbon the ions come out exactly."""
    x = np.linspace(0.05, 0.95, 30)
    first = np.clip((x - 0.5) / 0.5, 0, 1)
    second = np.where(x > 0.5, 1 - first, x / 0.5)
    carbon = np.stack([first, second, 1 - first - second], axis=1)  # shares of carbon
    units = carbon / np.array([6, 12, 1])
    mole = units / units.sum(axis=1, keepdims=True)
    names = {name: {"structure": s, "lithium": float(name != "graphite"), "layer": "negative"} for name, s in CARBON.items()}
    recipe = phases_recipe(names)
    columns = {"mole_fraction": mole, "mole_fraction_errors": 0.001, "phase_scale": mole, "phase_scale_errors": 0.001}
    mass = 8.0
    charge = (x - 0.05) * mass * 1e-3 / (6 * 12.011 + 6.94 * 0.05) * FARADAY
    out = balance(observables(recipe, columns, charge), layers={"negative": {"mass": mass, "x_reference": 0.05}})
    np.testing.assert_allclose(out.lithium_from_diffraction[:, 0], x, rtol=1e-9)
    np.testing.assert_allclose(out.lithium_from_charge[:, 0], x, atol=2e-4)
    assert out.charge_seen.values[0] == pytest.approx([1], abs=1e-3)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"negative": {}}, "negative is no layer"),
        ({"positive": {"phases": ["oxide", "copper"]}}, "phases that the phases' recipe has not"),
        ({"positive": {"lithium": {"lagging": "copper"}}}, "copper is no solid solution"),
        ({"positive": {"mas": 1}}, "mas"),
    ],
)
def test_layers_that_cannot_be_are_refused(layers: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        balance(oxide()[0], layers=layers)


def test_what_is_not_known_is_asked_for() -> None:
    columns = {"mole_fraction": 0.5, "phase_scale": 0.5, "phase_scale_errors": 0.1}
    recipe = phases_recipe({name: {"structure": CARBON[name]} for name in ("LiC6", "LiC12")})
    with pytest.raises(ConfigError, match="not known what the phases hold"):
        balance(observables(recipe, columns, np.zeros(4)))
    mixed = phases_recipe({"LiC6": {"structure": CARBON["LiC6"], "lithium": 1}, "oxide": {"structure": OXIDE, "lithium": 1}})
    with pytest.raises(ConfigError, match="not of one material"):
        balance(observables(mixed, columns, np.zeros(4)))
    still, _ = oxide()
    with pytest.raises(ContractError, match="no charge"):
        balance(still.drop_vars("charge"))
    with pytest.raises(ContractError, match="phase-fractions"):
        balance(still.assign_attrs(reducer="other"))


def test_what_cannot_be_held_against_a_charge_yet_is_seen_all_the_same() -> None:
    """The electrochemistry comes late, or the first frames of a run do not show how much there is: the build goes on, and says why."""
    still, _ = oxide()
    for charge, about, words in (
        (np.full(80, np.nan), {"active_mass": MASS}, "both a fit and a charge yet"),
        (np.random.default_rng(0).standard_normal(80), {}, "do not follow the charge"),
    ):
        out = balance(still.assign_coords(charge=("time", charge, {"units": "C"})), about)
        assert words in out.attrs["summary"]
        assert np.isfinite(out.lithium_from_diffraction).all()
        assert np.isnan(out.lithium_from_charge).all()
        assert np.isnan(out.charge_seen).all()


def test_the_stage_comes_after_the_phases() -> None:
    with pytest.raises(ConfigError, match="reads 'observables', which nothing before it gives"):
        parse_recipe({"reducer": "charge-balance"}, techniques=["xrd"])
    assert [s.reducer.name for s in parse_recipe({"stages": ["nmc811-graphite", {"reducer": "charge-balance"}]})] == [
        "phase-fractions",
        "charge-balance",
    ]
    assert isinstance(get_reducer("charge-balance").run(oxide()[0], BalanceRecipe.model_validate({}), None), Products)


@settings(max_examples=30, deadline=None)
@given(slope=st.floats(-3, 3), start=st.floats(-5, 5), seed=st.integers(0, 2**31))
def test_a_line_through_points_is_within_its_errors(slope: float, start: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.uniform(-1, 1, 200))
    values = start + slope * at + 0.1 * rng.standard_normal(200)
    found = line_through(at, values, np.full(200, 0.1))
    assert found is not None
    assert abs(found[0] - slope) < 6 * found[1]
    assert abs(found[2] - start) < 6 * found[3]
    assert line_through(at[:4], values[:4], np.full(4, 0.1)) is None


def test_a_line_knows_of_noise_that_hangs_together() -> None:
    rng = np.random.default_rng(1)
    at = np.sin(np.linspace(0, 12, 200))
    slopes, errors = [], []
    for _ in range(200):
        noise = np.zeros(200)
        for k in range(1, 200):
            noise[k] = 0.8 * noise[k - 1] + 0.06 * rng.standard_normal()
        found = line_through(at, 2 * at + noise, np.full(200, 0.1))
        assert found is not None
        slopes.append(found[0])
        errors.append(found[1])
    assert np.std(slopes) / np.mean(errors) < 1.6
    assert np.mean(slopes) == pytest.approx(2, abs=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*do not tell NMC811")  # where the rest passes the lattice of what lags, no pattern can
def test_a_few_frames_of_the_example_through_the_whole_chain(root: Path) -> None:
    """Patterns, whole-pattern fits, balance: some frames of each spot against truth.json."""
    truth = json.loads((root / "example_beamtime/truth.json").read_text())["cells"]["A"]["series"]["xrd"]
    frames = op.load(
        root / "example_beamtime/xrd/processed/A_000[1-9]_integrated.h5",
        "hdf5-path",
        preset="nexus-nxazint1d",
        frame_times={"path": "measurement/timestamp", "kind": "relative"},
        count_time="[NXinstrument]/detector/count_time",
        coords={"position": "measurement/position"},
    )
    pick = np.array([2, 3, 6, 7, 8, 9, 10, 11, 14, 15, 18, 19, 22, 23])
    charge = np.array([c if c is not None else np.nan for c in truth["charge_C"]], float)[pick]
    some = frames.isel(time=pick).assign_coords(charge=("time", charge, {"units": "C"})).assign_attrs(about=json.dumps({"active_mass": 15.4}))
    from operando.config import read_recipe

    quick = read_recipe("nmc811-graphite") | {"systematics": None, "passes": "forward"}
    out = op.reduce(some, {"stages": [quick, {"reducer": "charge-balance"}]})["balance"].sel(layer="positive")
    true = np.array(truth["observables"]["x_positive"]["values"])[pick]
    fresh = out.position.values == 0
    np.testing.assert_allclose(out.lithium_from_charge, true, atol=0.01)
    assert np.abs(out.lithium_from_diffraction.values - true)[fresh].max() < 0.05
    assert float(out.charge_seen[0]) == pytest.approx(1, abs=0.06)
