"""Fractions from scales: standards and amorphous parts, components left out, microabsorption, what a recipe may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad

from operando.contract import ConfigError, ContractError
from operando.reduction import parse_recipe, reduce
from operando.reduction.phases.amounts import particle_absorption
from operando.reduction.phases.engine import Engine
from operando.reduction.phases.recipe import PhasesRecipe

pytestmark = pytest.mark.filterwarnings("ignore:.*do not tell.*:UserWarning")  # told of the series, and asked below

WAVE = 0.4
GRID = np.arange(4.0, 26.0, 0.01)
ROCK_SALT = [{"element": "Ni", "x": 0, "y": 0, "z": 0}, {"element": "O", "x": 0.5, "y": 0.5, "z": 0.5}]
WURTZITE = [{"element": "Zn", "x": 0.3333, "y": 0.6667, "z": 0}, {"element": "O", "x": 0.3333, "y": 0.6667, "z": 0.382}]
NIO = {"structure": {"space_group": "F m -3 m", "a": 4.178, "sites": ROCK_SALT}}
ZNO = {"structure": {"space_group": "P 63 m c", "a": 3.2498, "c": 5.2066, "sites": WURTZITE}}
SILICON = {"structure": {"space_group": "F d -3 m:1", "a": 5.4312, "sites": [{"element": "Si", "x": 0, "y": 0, "z": 0}]}}


def _recipe(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {"reducer": "phase-fractions", "phases": {"NiO": NIO, "ZnO": ZNO}, "background": {"degree": 4}, "tails": 40}
    return base | changes


def _pattern(masses: dict[str, float], phases: dict[str, dict[str, object]], seed: int = 0) -> xr.Dataset:
    """A pattern of given masses (arbitrary unit), by Hill and Howard's relation."""
    engine = Engine(PhasesRecipe.model_validate(_recipe(phases=phases)), GRID, np.array([WAVE]), np.array([1.0]))
    total = np.full(engine.two_theta.size, 400.0)
    for k, phase in enumerate(engine.phases):
        mass, _ = phase.mass(phase.crystal.cell)
        scale = masses[phase.name] / (mass * phase.crystal.volume(phase.crystal.cell)) / engine.unit[k]
        total = total + 3e6 * scale * engine.columns(engine.start, k, None)[0]
    counts = np.random.default_rng(seed).poisson(total)
    q = 4 * np.pi / WAVE * np.sin(np.radians(engine.two_theta / 2))
    coords = {"time": [np.datetime64("2026-06-03T08:00", "ns")], "q": ("q", q, {"units": "1/angstrom"})}
    attrs = {"technique": "xrd", "wavelength": WAVE, "timezone_source": "file"}
    return xr.Dataset({"intensity": (("time", "q"), counts[None].astype(float), {"units": "counts"})}, coords, attrs)


def _found(series: xr.Dataset, recipe: dict[str, object]) -> xr.Dataset:
    return reduce(series, recipe)["observables"].isel(time=0)


def test_weights_and_moles() -> None:
    found = _found(_pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO}), _recipe())
    assert float(found.phase_fraction.sel(phase="NiO")) == pytest.approx(0.3, abs=3 * float(found.phase_fraction_errors.sel(phase="NiO")))
    moles = np.array([0.3 / 74.69, 0.7 / 81.38])
    assert found.mole_fraction.sel(phase=["NiO", "ZnO"]).values == pytest.approx(moles / moles.sum(), abs=0.01)


def test_components_of_the_cell_are_left_out() -> None:
    phases = {"NiO": NIO, "ZnO": ZNO, "Si": SILICON | {"role": "component"}}
    found = _found(_pattern({"NiO": 0.3, "ZnO": 0.7, "Si": 2.0}, phases), _recipe(phases=phases))
    assert np.isnan(found.phase_fraction.sel(phase="Si"))
    assert float(found.phase_fraction.sel(phase="NiO")) == pytest.approx(0.3, abs=0.01)
    assert float(found.phase_scale.sel(phase="Si")) > 0


def test_a_standard_tells_what_is_amorphous() -> None:
    """20 % silicon weighed in, 16 % NiO, 24 % ZnO; 40 % of the sample has no lines."""
    phases = {"NiO": NIO, "ZnO": ZNO, "Si": SILICON | {"role": "standard", "weight_percent": 20}}
    series = _pattern({"NiO": 0.16, "ZnO": 0.24, "Si": 0.20}, phases)
    found = _found(series, _recipe(phases=phases, fraction_scale="whole"))
    assert found.phase_fraction.sel(phase=["NiO", "ZnO", "Si"]).values == pytest.approx([0.16, 0.24, 0.20], abs=0.01)
    assert float(found.amorphous_fraction) == pytest.approx(0.40, abs=0.02)
    crystalline = _found(series, _recipe(phases=phases))
    assert crystalline.phase_fraction.sel(phase=["NiO", "ZnO"]).values == pytest.approx([0.4, 0.6], abs=0.01)
    assert np.isnan(crystalline.phase_fraction.sel(phase="Si"))


def test_texture_is_told_from_amount() -> None:
    plates = {"structure": ZNO["structure"], "texture": {"axis": [0, 0, 1], "r": 0.7, "refine": True}}
    series = _pattern({"NiO": 0.5, "ZnO": 0.5}, {"NiO": NIO, "ZnO": plates})
    start = plates | {"texture": {"axis": [0, 0, 1]}}
    found = _found(series, _recipe(phases={"NiO": NIO, "ZnO": start}))
    assert float(found.march_r.sel(phase="ZnO")) == pytest.approx(0.7, abs=0.01)
    assert float(found.phase_fraction.sel(phase="ZnO")) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("contrast", [-0.3, -0.01, 0.0, 0.05, 0.5])
def test_particle_absorption_is_the_mean_over_a_sphere(contrast: float) -> None:
    """Chords of a unit sphere, weighted by the volume that lies on them; to first order 1 - 3/2 (mu - mean mu) R (Brindley 1945)."""
    whole = quad(lambda b: 2 * np.pi * b * 2 * np.sqrt(1 - b * b) * np.exp(-contrast * 2 * np.sqrt(1 - b * b)), 0, 1)[0] / (4 / 3 * np.pi)
    assert particle_absorption(np.array([contrast]))[0] == pytest.approx(whole, rel=1e-6)
    if abs(contrast) < 0.02:
        assert whole == pytest.approx(1 - 1.5 * contrast, abs=3e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phases": {}}, "phases"),
        ({"phases": {"NiO": NIO | {"role": "component"}}}, "none is active"),
        ({"phases": {"a=b": NIO}}, "could not be addressed"),
        ({"phases": {"NiO": NIO | {"lattice_range": {"c": [4, 5]}}}}, "no free lattice parameter"),
        ({"phases": {"NiO": NIO | {"lattice_range": {"a": [5, 4]}}}}, "not lowest, highest"),
        ({"phases": {"NiO": NIO | {"role": "standard"}}}, "weight_percent"),
        ({"phases": {"NiO": {"structure": NIO["structure"] | {"space_group": "F 9 m"}}}}, "not known"),
        ({"phases": {"NiO": {"structure": NIO["structure"] | {"b": 4.2}}}}, "does not fit a cubic cell"),
        ({"phases": {"ZnO": {"structure": {k: v for k, v in ZNO["structure"].items() if k != "c"}}}}, "c is missing"),
        ({"phases": {"NiO": {"structure": NIO["structure"] | {"sites": [{"element": "Qq", "x": 0, "y": 0, "z": 0}]}}}}, "no element"),
        ({"phases": {"NiO": {"cif": "gone.cif"}}}, "no such CIF"),
        ({"two_theta_range": [20, 10]}, "not lowest, highest"),
        ({"two_theta_range": [5, 10], "q_range": [1, 2]}, "two ways"),
        ({"fraction_scale": "whole"}, "role: standard"),
        ({"brindley": {"MnO": 1.0}}, "no phase"),
        ({"wavelength": [1.54, 1.544], "wavelength_ratio": [0.5, 0.2, 0.1]}, "one number for each"),
        ({"wavelenght": [1.54]}, "wavelenght"),
    ],
)
def test_recipes_that_cannot_be_are_told(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_recipe(_recipe(**change))


def test_a_cif_beside_the_beamtime_becomes_part_of_the_recipe(tmp_path: Path) -> None:
    text = (
        "data_x\n_cell_length_a 4.178\n_cell_length_b 4.178\n_cell_length_c 4.178\n_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
    )
    text += "_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
    text += "_atom_site_fract_z\nNi1 Ni 0 0 0\nO1 O 0.5 0.5 0.5\n"
    (tmp_path / "nio.cif").write_text(text)
    recipe = _recipe(phases={"NiO": {"cif": "nio.cif"}})
    (stage,) = parse_recipe(recipe, tmp_path)
    structure = stage.settings["phases"]["NiO"]["structure"]
    assert structure["a"] == 4.178
    assert structure["source"].startswith("nio.cif (sha256 ")
    (tmp_path / "nio.cif").write_text(text.replace("4.178", "4.180"))
    (changed,) = parse_recipe(recipe, tmp_path)
    assert changed.settings != stage.settings


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (_recipe(two_theta_range=[4.0, 6.0]), "no line of NiO"),
        (_recipe(wavelength=[30.0]), "not one of X-rays"),
        (_recipe(two_theta_range=[9.4, 9.9], background={"degree": 40}), "fewer channels|no line"),
        (_recipe(two_theta_range=[30, 40]), "too few channels"),
    ],
)
def test_a_recipe_that_does_not_fit_the_patterns_is_told(recipe: dict[str, object], said: str) -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    with pytest.raises((ContractError, ConfigError), match=said):
        reduce(series, recipe)


def test_a_series_without_a_wavelength_is_told() -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    del series.attrs["wavelength"]
    with pytest.raises(ConfigError, match="wavelength is not known"):
        reduce(series, _recipe())


def test_a_phase_twice_is_said_to_be_indistinct() -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    with pytest.warns(UserWarning, match="1 of 1 frames do not tell NiO, twin apart"):
        found = _found(series, _recipe(phases={"NiO": NIO, "twin": NIO, "ZnO": ZNO}))
    named = dict(zip(found.phase_flags.attrs["flag_meanings"].split(), found.phase_flags.attrs["flag_masks"], strict=True))
    assert int(found.phase_flags.sel(phase="NiO")) & named["indistinct"]
    assert not int(found.phase_flags.sel(phase="ZnO")) & named["indistinct"]
    both = found.phase_fraction.sel(phase=["NiO", "twin"]).sum()
    assert float(both) == pytest.approx(0.3, abs=0.02)


@pytest.mark.filterwarnings("ignore:.* of 1 frames:UserWarning")
def test_an_unknown_zero_is_in_the_systematic_uncertainty_of_the_lattice() -> None:
    """From d = lambda / 2 sin(theta): a zero error moves a by -a cot(theta) d(theta) on average over the lines."""
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    only = {"background": 0, "b_iso": 0, "texture": 0, "tails": 0.99, "particle_radius": [0, 0.001], "zero": 0.01}
    fixed = _found(series, _recipe(instrument={"refine": ["W"]}, systematics=only)).sel(phase="NiO")
    shifted = _found(series, _recipe(instrument={"refine": ["W"], "zero": 0.01}, systematics=only)).sel(phase="NiO")
    moved = abs(float(shifted.lattice_a) - float(fixed.lattice_a))
    assert moved > 1e-3
    assert float(fixed.lattice_a_systematic) == pytest.approx(moved, rel=0.1)
    free = _found(series, _recipe(instrument={"refine": ["W", "zero"]}, systematics=only)).sel(phase="NiO")
    assert float(free.lattice_a_systematic) < 0.1 * moved


def test_each_frame_has_its_own_systematic_uncertainty() -> None:
    """Half widths follow the amounts: nothing is uncertain of a pure sample, most of a mixture."""
    shares = [0.0, 0.3, 0.7, 1.0]
    series = xr.concat([_pattern({"NiO": x, "ZnO": 1 - x}, {"NiO": NIO, "ZnO": ZNO}, seed=k) for k, x in enumerate(shares)], dim="time")
    series = series.assign_coords(time=np.datetime64("2026-06-03T08:00", "ns") + np.arange(4) * np.timedelta64(60, "s"))
    recipe = _recipe(wavelength=[WAVE], systematics={"particle_radius": [0, 20]})
    together = reduce(series, recipe)["observables"].phase_fraction_systematic
    for k in range(4):
        alone = reduce(series.isel(time=[k]), recipe)["observables"].phase_fraction_systematic
        assert together[k].values == pytest.approx(alone[0].values, rel=0.05, abs=1e-4)
    assert together.sel(phase="NiO").values[[0, 3]] == pytest.approx([0, 0], abs=2e-3)
    assert (together.sel(phase="NiO").values[1:3] > 5e-3).all()


def test_the_amorphous_part_scatters_as_it_says() -> None:
    """All fractions share the scale of the standard: a weak standard makes them err together."""
    phases = {"NiO": NIO, "ZnO": ZNO, "Si": SILICON | {"role": "standard", "weight_percent": 2}}
    recipe = _recipe(phases=phases, fraction_scale="whole", systematics=None)
    found = [_found(_pattern({"NiO": 0.16, "ZnO": 0.24, "Si": 0.02}, phases, seed=k), recipe) for k in range(24)]
    values, errors = (np.array([float(f[name]) for f in found]) for name in ("amorphous_fraction", "amorphous_fraction_errors"))
    assert np.std(values) == pytest.approx(np.median(errors), rel=0.4)


def test_what_shows_no_phase_or_fits_poorly_says_so() -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    with pytest.warns(UserWarning, match="show no phase of the recipe|are described poorly"):
        found = _found(series, _recipe(wavelength=[0.5], phases={"NiO": NIO}))
    named = dict(zip(found.fit_flags.attrs["flag_meanings"].split(), found.fit_flags.attrs["flag_masks"], strict=True))
    assert int(found.fit_flags) & (named["nothing_found"] | named["poor_fit"])


@pytest.mark.parametrize("reading", [1e6, 1e9, -1e6])
def test_a_single_channel_far_off_is_left_out_and_told(reading: float) -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    series["intensity"][0, 700] = reading
    with pytest.warns(UserWarning, match="single channels far off"):
        found = _found(series, _recipe())
    assert float(found.phase_fraction.sel(phase="NiO")) == pytest.approx(0.3, abs=0.01)
    named = dict(zip(found.fit_flags.attrs["flag_meanings"].split(), found.fit_flags.attrs["flag_masks"], strict=True))
    assert int(found.fit_flags) & named["channels_left_out"]


@pytest.mark.filterwarnings("ignore:.*described poorly:UserWarning")
def test_rings_without_a_correction_of_polarisation_are_fitted_as_such() -> None:
    series = _pattern({"NiO": 0.3, "ZnO": 0.7}, {"NiO": NIO, "ZnO": ZNO})
    factor = (1 + np.cos(np.radians(GRID)) ** 2) / 2
    two_theta = 2 * np.degrees(np.arcsin(series.q.values * WAVE / (4 * np.pi)))
    series["intensity"] = series.intensity * np.interp(two_theta, GRID, factor)
    series = series.assign_attrs(reducer="integrate")
    with pytest.warns(UserWarning, match="without a correction of polarisation"):
        found = _found(series, _recipe())
    assert float(found.phase_fraction.sel(phase="NiO")) == pytest.approx(0.3, abs=0.01)
    corrected = _found(series.assign_attrs(polarization=0.99), _recipe())
    assert float(corrected.goodness_of_fit) >= float(found.goodness_of_fit) - 1e-3
