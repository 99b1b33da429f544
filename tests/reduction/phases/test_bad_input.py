"""Whatever a recipe, a CIF or a pattern holds: a clear error or flagged NaN, and the frames beside it are fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes_powder as scene
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import operando as op
from operando.contract import ConfigError, ContractError
from operando.reduction import parse_recipe
from operando.reduction.phases.crystal import Crystal, read_cif

ANGLES = np.arange(4.0, 20.0, 0.02)
NICKEL = {"space_group": "F m -3 m", "a": 3.524, "sites": [{"element": "Ni", "x": 0, "y": 0, "z": 0, "b_iso": 0.4}]}
OXIDE = {
    "space_group": "F m -3 m",
    "a": 4.177,
    "sites": [{"element": "Ni", "x": 0, "y": 0, "z": 0, "b_iso": 0.4}, {"element": "O", "x": 0.5, "y": 0.5, "z": 0.5, "b_iso": 0.5}],
}
CIF = """data_x
_cell_length_a 4.177
_cell_length_b 4.177
_cell_length_c 4.177
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ni1 Ni 0 0 0 1.0
O1 O 0.5 0.5 0.5 1.0
"""


def recipe(**changes: Any) -> dict[str, Any]:
    given = {
        "reducer": "phase-fractions",
        "phases": {"Ni": {"structure": NICKEL}, "NiO": {"structure": OXIDE}},
        "instrument": {"caglioti": [0, 0, 0.004], "refine": ["W"]},
        "background": {"degree": 4},
    }
    return given | changes


@pytest.fixture(scope="module")
def good() -> xr.Dataset:
    frame = {"Ni": scene.Part(NICKEL, 0.4), "NiO": scene.Part(OXIDE, 0.6)}
    return scene.measure([frame] * 5, ANGLES, seed=20)


def spoilt(good: xr.Dataset, frame: int, value: Any) -> xr.Dataset:
    """Put other numbers in one frame."""
    out = good.copy(deep=True)
    values = out["intensity"].values
    values[frame] = value(values[frame]) if callable(value) else value
    return out


# ------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("this is no CIF {{{", "no CIF"),
        (CIF.replace("'F m -3 m'", "'nonsense'"), "no space group"),
        (CIF.replace("_space_group_name_H-M_alt 'F m -3 m'\n", ""), "no space group"),
        (CIF[: CIF.index("loop_")], "no atoms"),
        (CIF.replace("0 0 0 1.0", "0 0 0 ?"), "occupancies open"),
        (CIF.replace("0 0 0 1.0", "0 0 0 1.7"), "no usable structure"),
        (CIF.replace("_cell_length_a 4.177", "_cell_length_a 0"), "no usable structure|cannot be read"),
        (CIF.replace("Ni1 Ni", "Q1 Q"), "no usable structure|cannot be used"),
    ],
)
def test_a_recipe_says_which_of_its_cifs_is_bad_and_why(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        parse_recipe(recipe(phases={"Ni": {"structure": NICKEL}, "NiO": {"cif": "bad.cif"}}), tmp_path)
    assert "bad.cif" in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_cif_is_a_structure_or_a_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(CIF.encode())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / "damaged.cif"
    path.write_bytes(bytes(content))
    try:
        structure = read_cif(path)
    except ConfigError:
        return
    crystal = Crystal(structure, 0.5)
    strengths = crystal.strengths(crystal.reflections(float(np.min(crystal.cell[:3])) / 2))  # whatever it says, it can be computed
    assert np.isfinite(strengths).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phases": {}}, "phases"),
        ({"phases": {"Ni": {"structure": NICKEL, "role": "component"}}}, "none is active"),
        ({"phases": {"Ni": {"structure": NICKEL | {"a": -3.5}}}}, "greater than"),
        ({"phases": {"Ni": {"structure": NICKEL | {"space_group": "Fm3x"}}}}, "space_group"),
        ({"phases": {"Ni": {"structure": NICKEL | {"sites": []}}}}, "sites"),
        ({"phases": {"Ni": {"structure": NICKEL, "lattice_range": {"a": [3.6, 3.5]}}}}, "lowest, highest"),
        ({"phases": {"Ni": {"structure": NICKEL, "lattice_range": {"c": [3.4, 3.6]}}}}, "no free lattice parameter"),
        ({"background": {"degree": 4, "humps": [[10, -1]]}}, "humps"),
        ({"background": {"degree": 4, "humps_q": [[1.6, 0]]}}, "humps_q"),
        ({"exclude": [[12, 11]]}, "lowest, highest"),
        ({"wavelength": [1.54, 1.544], "wavelength_ratio": [1, 0.5, 0.2]}, "wavelength_ratio"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_recipe(recipe(**changes))


# ------------------------------------------------------------- recipes that do not fit the patterns


@pytest.mark.parametrize("wavelength", [30.0, 1e-6, 4e5])
def test_an_energy_given_as_a_wavelength_is_refused(wavelength: float, good: xr.Dataset) -> None:
    for series, made in ((good, recipe(wavelength=[wavelength])), (good.assign_attrs(wavelength=wavelength), recipe())):
        with pytest.raises((ConfigError, ContractError), match="wavelength"):
            op.reduce(series, made)


def test_no_wavelength_is_told(good: xr.Dataset) -> None:
    bare = good.copy()
    del bare.attrs["wavelength"]
    with pytest.raises((ConfigError, ContractError), match="wavelength is not known"):
        op.reduce(bare, recipe())


def test_a_phase_without_a_line_in_the_range_is_named(good: xr.Dataset) -> None:
    with pytest.raises(ContractError, match="no line of NiO"):
        op.reduce(good, recipe(two_theta_range=[14.3, 15.6], background={"degree": 1}))


def test_fewer_channels_than_parameters_are_told(good: xr.Dataset) -> None:
    with pytest.raises(ContractError, match="fewer channels than parameters"):
        op.reduce(good.isel(q=slice(480, 510)), recipe(background={"degree": 30}))
    with pytest.raises(ContractError, match="too few channels"):
        op.reduce(good.isel(q=slice(300, 310)), recipe())
    with pytest.raises(ContractError, match="too few channels"):
        op.reduce(good, recipe(two_theta_range=[60, 90]))


def test_an_axis_that_is_nowhere_known_is_told(good: xr.Dataset) -> None:
    lost = good.assign_coords(q=("q", np.full(good.sizes["q"], np.nan), good.q.attrs)).drop_vars("two_theta")
    with pytest.raises(ContractError):
        op.reduce(lost, recipe())


# ------------------------------------------------------------------------------ patterns

NOTHING = {
    "zeros": 0.0,
    "NaN": np.nan,
    "infinities": np.inf,
    "negative": -100.0,
    "most of it NaN": lambda y: np.where(np.arange(y.size) % 3 == 0, y, np.nan),
}


@pytest.mark.parametrize("name", list(NOTHING))
@pytest.mark.parametrize("frame", [0, 2])
def test_a_frame_that_says_nothing_is_nan_and_the_others_are_fitted(name: str, frame: int, good: xr.Dataset) -> None:
    with pytest.warns(UserWarning, match="1 of 5 frames are dark, damaged or empty"):
        out = op.reduce(spoilt(good, frame, NOTHING[name]), recipe())["observables"]
    others = np.arange(5) != frame
    assert np.isnan(out.phase_fraction.values[frame]).all()
    assert out.fit_flags.values[frame] & _mask(out, "not_fitted")
    np.testing.assert_allclose(out.phase_fraction.values[others], [[0.4, 0.6]] * 4, atol=0.02)
    assert not out.fit_flags.values[others].any()


def _mask(out: xr.Dataset, name: str) -> int:
    return int(dict(zip(out.fit_flags.attrs["flag_meanings"].split(), out.fit_flags.attrs["flag_masks"], strict=True))[name])


ODD = {
    "flat": 500.0,
    "one channel": lambda y: np.where(np.arange(y.size) == 400, 1e9, 0.0),
    "noise": lambda y: np.random.default_rng(3).poisson(3.0, y.size).astype(float),
    "huge": lambda y: y * 1e12,
    "tiny": lambda y: y * 1e-12,
    "upside down": lambda y: y.max() - y,
    "a hole": lambda y: np.where((np.arange(y.size) > 200) & (np.arange(y.size) < 350), np.nan, y),
    "single NaNs": lambda y: np.where(np.arange(y.size) % 7 == 0, np.nan, y),
    "a spike of infinity": lambda y: np.where(np.arange(y.size) == 300, np.inf, y),
}


@pytest.mark.filterwarnings("ignore:.*1 of 5 frames:UserWarning")  # how its fit ended
@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_frame_ends_and_does_not_disturb_the_others(name: str, good: xr.Dataset) -> None:
    series = spoilt(good.drop_vars("intensity_errors") if name in ("huge", "tiny") else good, 2, ODD[name])
    out = op.reduce(series, recipe())["observables"]
    others = np.arange(5) != 2
    np.testing.assert_allclose(out.phase_fraction.values[others], [[0.4, 0.6]] * 4, atol=0.03)
    mine = out.phase_fraction.values[2]
    assert np.isnan(mine).all() or (np.all(mine >= 0) and mine.sum() == pytest.approx(1))
    if name in ("a hole", "single NaNs", "a spike of infinity", "huge", "tiny"):
        np.testing.assert_allclose(mine, [0.4, 0.6], atol=0.04)
    if name in ("flat", "noise"):
        assert np.isnan(mine).all()  # what does not stand out has no composition


def test_a_series_of_which_nothing_can_be_fitted(good: xr.Dataset) -> None:
    empty = good.copy(deep=True)
    empty["intensity"].values[:] = np.nan
    with pytest.warns(UserWarning, match="5 of 5 frames are dark, damaged or empty"):
        out = op.reduce(empty, recipe())
    assert np.isnan(out["observables"].phase_fraction).all()
    assert np.isnan(out["reduced"].residual).all()
    assert (out["observables"].fit_flags.values & _mask(out["observables"], "not_fitted")).all()


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0, np.inf])
def test_errors_that_are_none_do_no_harm(value: float, good: xr.Dataset) -> None:
    series = good.copy(deep=True)
    series["intensity_errors"].values[1] = value
    series["intensity_errors"].values[3, ::5] = value
    out = op.reduce(series, recipe())["observables"]
    np.testing.assert_allclose(out.phase_fraction.values[[0, 2, 4]], [[0.4, 0.6]] * 3, atol=0.02)
    np.testing.assert_allclose(out.phase_fraction.values[3], [0.4, 0.6], atol=0.02)
    assert np.isnan(out.phase_fraction.values[1]).all() or out.phase_fraction.values[1] == pytest.approx([0.4, 0.6], abs=0.02)


def test_the_order_of_channels_does_not_matter(good: xr.Dataset) -> None:
    shuffled = good.isel(q=np.random.default_rng(0).permutation(good.sizes["q"]))
    one, other = op.reduce(good, recipe())["observables"], op.reduce(shuffled, recipe())["observables"]
    np.testing.assert_allclose(one.phase_fraction, other.phase_fraction, atol=1e-6)


def test_the_same_phase_twice_is_said_to_be_indistinct(good: xr.Dataset) -> None:
    phases = {"Ni": {"structure": NICKEL}, "NiO": {"structure": OXIDE}, "again": {"structure": OXIDE}}
    with pytest.warns(UserWarning, match="do not tell NiO, again apart"):
        out = op.reduce(good, recipe(phases=phases))["observables"]
    both = out.sel(phase=["NiO", "again"])
    assert (out.fit_flags.values & _mask(out, "indistinct")).all()
    assert (both.phase_correlation > 0.95).all()
    np.testing.assert_allclose(both.phase_fraction.sum("phase"), 0.6, atol=0.03)  # what they are together is known
    assert (both.phase_fraction_errors > 5 * out.phase_fraction_errors.sel(phase="Ni")).all()  # what each of them is, is not
    np.testing.assert_allclose(out.phase_fraction.sel(phase="Ni"), 0.4, atol=0.03)
