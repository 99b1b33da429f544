"""The packaged recipes: their structures against published lines and distances and another library, their fits against simulated truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scenes_powder as scene
import xarray as xr

import operando as op
from operando.config import read_recipe, recipe_names
from operando.reduction import parse_recipe
from operando.reduction.phases.crystal import Crystal, Structure
from operando.reduction.phases.engine import Engine

CU = 1.5406  # angstrom
NAMES = [name for name in recipe_names() if read_recipe(name).get("reducer") == "phase-fractions"]

# 2theta (degrees) at Cu K-alpha 1 as published for such materials, on cards of the powder diffraction file and in the papers of the recipes, rounded
LINES = {
    ("lfp", "LiFePO4"): {(2, 0, 0): 17.15, (1, 0, 1): 20.77, (2, 1, 0): 22.69, (1, 1, 1): 25.57, (0, 2, 0): 29.70, (3, 1, 1): 35.59},
    ("lfp", "FePO4"): {(2, 0, 0): 18.05, (1, 0, 1): 20.63, (1, 1, 1): 25.78, (0, 2, 0): 30.86, (3, 1, 1): 36.68},
    ("lnmo", "LNMO"): {(1, 1, 1): 18.80, (3, 1, 1): 36.43, (2, 2, 2): 38.12, (4, 0, 0): 44.30, (5, 1, 1): 58.66, (4, 4, 0): 64.44},
    ("graphite", "graphite"): {(0, 0, 2): 26.54, (1, 0, 0): 42.36, (1, 0, 1): 44.55, (0, 0, 4): 54.65, (1, 1, 0): 77.50},
    ("graphite", "LiC6"): {(0, 0, 1): 24.0, (0, 0, 2): 49.1},
    ("graphite", "LiC12"): {(0, 0, 2): 25.2, (0, 0, 4): 51.7},
    ("nmc811", "NMC811"): {(0, 0, 3): 18.73, (1, 0, 1): 36.7, (1, 0, 4): 44.4, (1, 1, 0): 64.9},
    ("na-p2-o3", "P2"): {(0, 0, 2): 15.9, (1, 0, 0): 35.9, (1, 0, 2): 39.5, (1, 0, 3): 43.6, (1, 0, 4): 48.9},
    ("na-p2-o3", "O3"): {(0, 0, 3): 16.5, (0, 0, 6): 33.4, (1, 0, 4): 41.6},
    ("prussian-white", "FeFeCN6"): {(2, 0, 0): 17.4, (2, 2, 0): 24.7, (4, 0, 0): 35.2, (4, 2, 0): 39.5},
    ("lfp", "Al"): {(1, 1, 1): 38.47, (2, 0, 0): 44.72, (2, 2, 0): 65.10},
    ("graphite", "Cu"): {(1, 1, 1): 43.30, (2, 0, 0): 50.43, (2, 2, 0): 74.13},
}  # fmt: skip
STRONGEST = {  # the strongest lines in the order of the cards
    ("lfp", "LiFePO4"): [(3, 1, 1), (1, 1, 1), (0, 2, 0), (1, 0, 1)],
    ("lnmo", "LNMO"): [(1, 1, 1), (4, 0, 0), (3, 1, 1), (4, 4, 0)],
    ("graphite", "graphite"): [(0, 0, 2)],
    ("nmc811", "NMC811"): [(0, 0, 3), (1, 0, 4), (1, 0, 1)],
    ("na-p2-o3", "P2"): [(0, 0, 2)],
    ("prussian-white", "NaFeFeCN6"): [(2, 0, 0), (2, 2, 0), (4, 0, 0)],
    ("lfp", "Al"): [(1, 1, 1), (2, 0, 0), (2, 2, 0)],
}
DENSITIES = {  # g/cm3, X-ray densities as found in handbooks
    ("lfp", "LiFePO4"): 3.60, ("lfp", "FePO4"): 3.68, ("lnmo", "LNMO"): 4.45, ("graphite", "graphite"): 2.26, ("graphite", "LiC6"): 2.20,
    ("graphite", "Cu"): 8.93, ("lfp", "Al"): 2.70, ("nmc811", "NMC811"): 4.77,
}  # fmt: skip
DISTANCES = {  # angstrom, what such bonds are: elements -> (number of neighbours, shortest, longest)
    ("lfp", "LiFePO4"): {("P", "O"): (4, 1.49, 1.57), ("Fe", "O"): (6, 2.05, 2.27), ("Li", "O"): (6, 2.07, 2.20)},
    ("lfp", "FePO4"): {("P", "O"): (4, 1.49, 1.57), ("Fe", "O"): (6, 1.88, 2.17)},
    ("lnmo", "LNMO"): {("Mn", "O"): (6, 1.90, 1.98), ("Li", "O"): (4, 1.93, 2.00)},
    ("graphite", "graphite"): {("C", "C"): (3, 1.41, 1.43)},
    ("graphite", "LiC6"): {("C", "C"): (3, 1.42, 1.45), ("Li", "C"): (12, 2.2, 2.4)},
    ("graphite", "LiC12"): {("C", "C"): (3, 1.42, 1.45), ("Li", "C"): (12, 2.2, 2.4)},
    ("nmc811", "NMC811"): {("Ni", "O"): (6, 1.93, 2.00), ("Li", "O"): (6, 2.05, 2.16)},
    ("na-p2-o3", "P2"): {("Mn", "O"): (6, 1.90, 1.98), ("Na", "O"): (6, 2.35, 2.50)},
    ("na-p2-o3", "O3"): {("Mn", "O"): (6, 1.97, 2.06), ("Na", "O"): (6, 2.30, 2.45)},
    ("na-p2-o3", "P3"): {("Mn", "O"): (6, 1.93, 2.03), ("Na", "O"): (6, 2.35, 2.55)},
    ("prussian-white", "FeFeCN6"): {("C", "N"): (1, 1.12, 1.16), ("C", "Fe"): (1, 1.88, 1.95), ("N", "Fe"): (1, 2.0, 2.1)},
    ("prussian-white", "NaFeFeCN6"): {("C", "N"): (1, 1.12, 1.16), ("C", "Fe"): (1, 1.88, 1.95), ("N", "Fe"): (1, 2.05, 2.15)},
}  # fmt: skip


def recipe_of(name: str) -> Any:
    return parse_recipe(read_recipe(name))[0].recipe


def structure_of(name: str, phase: str) -> Structure:
    return recipe_of(name).phases[phase].structure


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wavelength", [CU, 0.4133, 0.2073])
def test_every_phase_has_a_pattern_at_every_usual_wavelength(name: str, wavelength: float) -> None:
    recipe = recipe_of(name)
    two_theta = 2 * np.degrees(np.arcsin(np.linspace(0.9, 5.5, 1500) * wavelength / (4 * np.pi)))
    engine = Engine(recipe, two_theta, np.array([wavelength]), np.array([1.0]))
    for k, phase in enumerate(engine.phases):
        pattern = engine.columns(engine.start, k, None)[0]
        assert np.isfinite(pattern).all()
        assert pattern.min() >= 0
        assert pattern.max() > 0
        for point in phase.points:  # a solid solution has a pattern, and its start, where its curve leads
            assert all(low < value < high for value, low, high in zip(phase.recipe.at(point).cell[:1], *_range(phase.recipe, "a"), strict=True))
    assert all(p.structure.source or p.role == "component" or name.startswith("nmc") for p in recipe.phases.values()), (
        "a structure without its source"
    )


def _range(phase: Any, name: str) -> tuple[list[float], list[float]]:
    low, high = phase.lattice_range[name]
    return [low], [high]


@pytest.mark.parametrize(("name", "phase"), list(LINES))
def test_lines_lie_where_they_are_published(name: str, phase: str) -> None:
    crystal = Crystal(structure_of(name, phase), CU)
    reflections = crystal.reflections(1.2)
    d = 1 / np.sqrt(reflections.terms @ crystal.free)
    found = dict(zip(map(tuple, reflections.hkl.tolist()), 2 * np.degrees(np.arcsin(CU / 2 / d)), strict=True))
    for hkl, angle in LINES[name, phase].items():
        assert found[hkl] == pytest.approx(angle, abs=0.15), hkl


@pytest.mark.parametrize(("name", "phase"), list(STRONGEST))
def test_the_strongest_lines_are_those_of_the_cards(name: str, phase: str) -> None:
    crystal = Crystal(structure_of(name, phase), CU)
    reflections = crystal.reflections(1.3)
    theta = np.arcsin(CU / 2 * np.sqrt(reflections.terms @ crystal.free))
    intensity = crystal.strengths(reflections) * (1 + np.cos(2 * theta) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))
    order = [tuple(hkl) for hkl in reflections.hkl[np.argsort(-intensity)].tolist()]
    expected = STRONGEST[name, phase]
    assert order[: len(expected)] == expected


@pytest.mark.parametrize(("name", "phase"), list(DENSITIES))
def test_densities(name: str, phase: str) -> None:
    assert Crystal(structure_of(name, phase), CU).density() == pytest.approx(DENSITIES[name, phase], abs=0.02)


@pytest.mark.parametrize(("name", "phase"), list(DISTANCES))
def test_neighbours_are_at_the_distances_that_such_bonds_have(name: str, phase: str) -> None:
    structure = structure_of(name, phase)
    made = scene.crystal(structure.model_dump(), structure.cell).Structure
    positions = np.stack([made.u, made.v, made.w], 1).astype(float)
    metric = np.linalg.inv(scene.metric(structure.cell))
    shifts = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    elements = np.array([str(e) for e in made.type])
    for (one, other), (number, low, high) in DISTANCES[name, phase].items():
        centre = positions[elements == one][0]
        away = (positions[elements == other][:, None] + shifts - centre).reshape(-1, 3)
        distance = np.sqrt(np.einsum("ij,jk,ik->i", away, metric, away))
        near = np.unique(np.round(away[(distance > 0.1) & (distance < high)], 4), axis=0)
        found = np.sort(np.sqrt(np.einsum("ij,jk,ik->i", near, metric, near)))
        assert len(found) == number, (one, other, found)
        assert found.min() > low


@pytest.mark.parametrize("name", NAMES)
def test_strengths_agree_with_another_library(name: str) -> None:
    """Dans_Diffraction has its own symmetry, its own form factors' table and f', f'' of Henke."""
    for phase, given in recipe_of(name).phases.items():
        structure = given.structure
        crystal = Crystal(structure, scene.WAVELENGTH)
        reflections = crystal.reflections(1.0)
        ours = crystal.strengths(reflections)
        d, theirs = scene.lines(structure.model_dump(), structure.cell, 1.0)
        mine = 1 / np.sqrt(reflections.terms @ crystal.free)
        strong = ours > 0.02 * ours.max()
        for at, strength in zip(mine[strong], ours[strong], strict=True):
            # ours that only happen to have one d are apart; theirs are one
            near = np.abs(mine - at) < 1e-6
            assert theirs[np.argmin(np.abs(d - at))] == pytest.approx(ours[near].sum(), rel=0.02), (phase, at, strength)
        mass = scene.cell_mass(structure.model_dump(), structure.cell)
        assert crystal.cell_mass == pytest.approx(mass, rel=2e-4)


# ------------------------------------------------------------- fits against simulated truth

ANGLES = np.arange(3.0, 24.0, 0.012)


def pieces(name: str) -> dict[str, Any]:
    return {phase: given["structure"] for phase, given in read_recipe(name)["phases"].items()}


def scores(found: xr.DataArray, errors: xr.DataArray, truth: np.ndarray) -> np.ndarray:
    """(found - truth) / 1 sigma where there is an error."""
    z = (found.values - truth) / errors.values
    return np.asarray(z[np.isfinite(z)])


def judge(z: np.ndarray, freedom: int) -> None:
    """Errors are what they say, to what chance allows in one of a thousand: 95 % within 1.96 sigma, and a spread of one sigma.

    Of fractions that add up to 1, `freedom` counts one less in each frame.
    """
    from scipy.stats import binom, chi2

    assert z.size >= freedom
    assert np.sum(np.abs(z) >= 1.96) <= binom.ppf(0.999, z.size, 0.05), np.round(z, 2)
    low, high = chi2.ppf([0.0005, 0.9995], freedom) / freedom
    assert low < np.mean(z**2) < high, np.round(z, 2)


def test_lithium_iron_phosphate_as_two_phases_whose_lattices_drift() -> None:
    parts, frames, weights, moles = pieces("lfp"), [], [], []
    foil = scene.foil(parts["Al"], 0.08)
    share = np.linspace(0.97, 0.03, 14)
    for n, x in enumerate(share):
        drift = n / 13
        full = scene.with_sites(parts["LiFePO4"], {"a": 10.330 - 0.015 * drift, "b": 6.005 - 0.010 * drift, "c": 4.694 + 0.002 * drift})
        empty = scene.with_sites(parts["FePO4"], {"a": 9.840 - 0.020 * drift, "b": 5.800 - 0.010 * drift, "c": 4.786})
        mass = np.array([x * 157.757, (1 - x) * 150.816])
        weights.append(mass / mass.sum())
        moles.append([x, 1 - x])
        frames.append({"LiFePO4": scene.Part(full, weights[-1][0]), "FePO4": scene.Part(empty, weights[-1][1], 45.0), "Al": foil})
    out = op.reduce(scene.measure(frames, ANGLES, seed=1), "lfp")["observables"]
    assert not out["fit_flags"].any()
    two = out.isel(phase=[0])  # the fractions of two phases are one number
    judge(scores(two.phase_fraction, two.phase_fraction_errors, np.array(weights)[:, :1]), 14)
    judge(scores(two.mole_fraction, two.mole_fraction_errors, np.array(moles)[:, :1]), 14)
    assert np.abs(two.phase_fraction.values[:, 0] - np.array(weights)[:, 0]).max() < 0.01
    z = []
    for axis in "abc":
        truth = np.array([[frame[phase].structure[axis] for phase in ("LiFePO4", "FePO4")] for frame in frames])
        both = out.isel(phase=[0, 1])
        z.append(scores(both[f"lattice_{axis}"], both[f"lattice_{axis}_errors"], truth))
    judge(np.concatenate(z), 80)


def test_lithium_iron_phosphate_that_is_not_there_reads_nothing() -> None:
    parts = pieces("lfp")
    alone = {"LiFePO4": scene.Part(parts["LiFePO4"], 1.0), "Al": scene.foil(parts["Al"], 0.08)}
    out = op.reduce(scene.measure([alone] * 6, ANGLES, seed=2), "lfp")["observables"].sel(phase="FePO4")
    assert np.all(out.phase_fraction < 3 * out.phase_fraction_errors)
    assert out.phase_fraction_errors.max() < 0.005
    assert np.all(out.phase_flags.values & 1)
    assert np.isnan(out.lattice_a).all()


def test_nmc811_moves_along_its_curve_and_collapses() -> None:
    parts, points = pieces("nmc811"), read_recipe("nmc811")["phases"]["NMC811"]["solid_solution"]["points"]
    xs = np.linspace(0.93, 0.22, 9)
    by_x = sorted(points, key=lambda p: p["x"])

    def at(x: float, what: str) -> float:
        values = [p["lattice"][what] if what in "ac" else p["sites"]["O"]["z"] for p in by_x]
        return float(np.interp(x, [p["x"] for p in by_x], values))

    frames = []
    for x in xs:
        moved = scene.with_sites(parts["NMC811"], {"a": at(x, "a"), "c": at(x, "c")}, Li={"occupancy": x}, O={"z": at(x, "z")})
        frames.append({"NMC811": scene.Part(moved, 1.0, 80.0), "Al": scene.foil(parts["Al"], 0.08)})
    recipe = read_recipe("nmc811")
    del recipe["phases"]["NMC811_lagging"]
    out = op.reduce(scene.measure(frames, ANGLES, seed=3), recipe)["observables"].sel(phase=["NMC811"])
    judge(scores(out.lattice_a, out.lattice_a_errors, np.array([[f["NMC811"].structure["a"]] for f in frames])), 9)
    judge(scores(out.lattice_c, out.lattice_c_errors, np.array([[f["NMC811"].structure["c"]] for f in frames])), 9)
    judge(scores(out.composition, out.composition_errors, xs[:, None]), 9)
    assert out.lattice_c.values[-1] < out.lattice_c.values.max() - 0.2
    np.testing.assert_allclose(out.phase_fraction, 1.0)


def test_nmc811_with_a_population_that_lags() -> None:
    parts = pieces("nmc811")
    moved = scene.with_sites(parts["NMC811"], {"a": 2.818, "c": 14.27}, Li={"occupancy": 0.275}, O={"z": 0.23655})
    share = np.array([0.0, 0.05, 0.10, 0.15, 0.20, 0.25])
    frames = [
        {"NMC811": scene.Part(moved, 1 - s, 80.0), "lagging": scene.Part(parts["NMC811_lagging"], s, 80.0), "Al": scene.foil(parts["Al"], 0.08)}
        for s in share
    ]  # fmt: skip
    out = op.reduce(scene.measure(frames, ANGLES, seed=4), "nmc811")["observables"].sel(phase="NMC811_lagging")
    z = ((out.phase_fraction - share) / out.phase_fraction_errors).values
    assert np.all(np.abs(z) < 3), z
    assert np.abs(out.phase_fraction - share).max() < 0.02


def test_an_oxide_that_could_be_either_population_is_not_said_to_be_one_of_them() -> None:
    parts = pieces("nmc811")
    moved = scene.with_sites(parts["NMC811"], {"a": 2.8521, "c": 14.3625}, Li={"occupancy": 0.75}, O={"z": 0.24})
    frames = [{"NMC811": scene.Part(moved, 1.0, 80.0), "Al": scene.foil(parts["Al"], 0.08)}] * 3
    with pytest.warns(UserWarning, match="do not tell NMC811, NMC811_lagging apart"):
        out = op.reduce(scene.measure(frames, ANGLES, seed=10), "nmc811")["observables"].isel(phase=slice(0, 2))
    masks = dict(zip(out.fit_flags.attrs["flag_meanings"].split(), out.fit_flags.attrs["flag_masks"], strict=True))
    assert (out.fit_flags.values & masks["indistinct"]).all()
    off = np.abs(out.phase_fraction.values - np.array([1.0, 0.0])) / out.phase_fraction_errors.values
    assert np.all(off < 3), off
    np.testing.assert_allclose(out.lattice_a.sel(phase="NMC811"), 2.8521, atol=1e-3)


def test_lnmo_in_three_steps() -> None:
    parts, frames, truth = pieces("lnmo"), [], []
    for half, empty in ((0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.9, 0.05), (0.6, 0.4), (0.3, 0.7), (0.05, 0.95)):
        weights = np.array([max(1 - half - empty, 0.0), half, empty])
        truth.append(weights)
        oxides = {phase: parts[phase] | {"a": parts[phase]["a"] + 0.004} for phase in ("LNMO", "LNMO_half", "NMO")}
        spinels = {phase: scene.Part(oxide, w, 100.0) for (phase, oxide), w in zip(oxides.items(), weights, strict=True)}
        frames.append(spinels | {"Al": scene.foil(parts["Al"], 0.08)})
    out = op.reduce(scene.measure(frames, ANGLES, seed=5), "lnmo")["observables"].isel(phase=slice(0, 3))
    there = np.array(truth) > 0
    z = (out.phase_fraction.values - np.array(truth)) / out.phase_fraction_errors.values
    judge(z[there & (np.array(truth) < 1)], 7)
    assert np.all(out.phase_fraction.values[~there] < 3 * out.phase_fraction_errors.values[~there])
    a = out.lattice_a.values - np.array([8.174, 8.094, 8.004])
    judge((a / out.lattice_a_errors.values)[np.isfinite(a)], 12)


def test_graphite_from_dilute_stages_to_full() -> None:
    parts, frames, truth, spacings = pieces("graphite"), [], [], []
    for x, twelve, six in ((0.0, 0, 0), (0.02, 0, 0), (0.04, 0, 0), (0.05, 0.3, 0), (0.05, 0.7, 0), (0.05, 0.3, 0.65), (0.05, 0.1, 0.9)):
        c = 6.71 + (7.02 - 6.71) * x / 0.0556
        dilute = scene.with_sites(parts["graphite"], {"a": 2.461 + 0.007 * x / 0.0556, "c": c}, Li={"occupancy": 0.1111 * x / 0.0556})
        weights = np.array([six, twelve, 1 - twelve - six])
        truth.append(weights)
        spacings.append(c)
        frames.append(
            {"LiC6": scene.Part(parts["LiC6"], six), "LiC12": scene.Part(parts["LiC12"], twelve), "graphite": scene.Part(dilute, weights[2]),
             "Cu": scene.foil(parts["Cu"], 0.25)}
        )  # fmt: skip
    out = op.reduce(scene.measure(frames, ANGLES, seed=6), "graphite")["observables"].isel(phase=slice(0, 3))
    expected = np.array(truth)
    there = (expected > 0) & (expected < 1)
    z = (out.phase_fraction.values - expected) / out.phase_fraction_errors.values
    judge(z[there], 5)
    assert np.all(out.phase_fraction.values[expected == 0] < 3 * out.phase_fraction_errors.values[expected == 0])
    dilute = out.sel(phase="graphite")
    seen = np.isfinite(dilute.lattice_c.values)
    assert seen.sum() >= 6
    z = (dilute.lattice_c.values - np.array(spacings)) / dilute.lattice_c_errors.values
    assert np.all(np.abs(z[seen]) < 3.5), z
    np.testing.assert_allclose(dilute.composition.values[:3], [0.0, 0.02, 0.04], atol=0.001)


def test_sodium_layered_oxides() -> None:
    parts, frames, truth = pieces("na-p2-o3"), [], []
    for two, three in ((0.3, 0.0), (0.3, 0.2), (0.3, 0.4), (0.3, 0.55), (0.3, 0.7), (0.28, 0.72)):
        weights = np.array([two, 1 - two - three, three])
        truth.append(weights)
        cells = {"P2": {"a": 2.90, "c": 11.12}, "O3": {"a": 2.975, "c": 16.07}, "P3": {"a": 2.93, "c": 16.75}}
        frames.append(
            {name: scene.Part(parts[name] | cells[name], w, 70.0) for name, w in zip(cells, weights, strict=True)}
            | {"Al": scene.foil(parts["Al"], 0.08)}
        )
    out = op.reduce(scene.measure(frames, ANGLES, seed=7), "na-p2-o3")["observables"].isel(phase=slice(0, 3))
    expected = np.array(truth)
    judge(((out.phase_fraction.values - expected) / out.phase_fraction_errors.values)[expected > 0.001], 11)
    np.testing.assert_allclose(out.sel(phase="P3").lattice_c.values[2:], 16.75, atol=0.01)


def test_hard_carbon_is_a_hump_of_which_the_height_is_told() -> None:
    parts = pieces("hard-carbon")
    x = (ANGLES - ANGLES[0]) / (ANGLES[-1] - ANGLES[0])
    q = 4 * np.pi / scene.WAVELENGTH * np.sin(np.radians(ANGLES) / 2)
    hump = np.exp(-4 * np.log(2) * ((q - 1.65) / 0.40) ** 2)
    heights = np.array([400.0, 350.0, 300.0, 250.0, 200.0])
    frames = [{"O3": scene.Part(parts["O3"], 0.9 - 0.15 * n), "P3": scene.Part(parts["P3"], 0.1 + 0.15 * n), "Al": scene.foil(parts["Al"], 0.1)}
              for n in range(5)]  # fmt: skip
    under = 250.0 - 120.0 * x + heights[:, None] * hump
    out = op.reduce(scene.measure(frames, ANGLES, under=under, seed=8), "hard-carbon")["observables"]
    assert out.sizes["hump"] == 2
    np.testing.assert_allclose(out.hump.values, [1.65, 3.0], atol=1e-6)
    first = out.hump_height.isel(hump=0), out.hump_height_errors.isel(hump=0)
    judge(((first[0] - heights) / first[1]).values, 5)
    assert first[1].max() < 40
    assert np.all(np.abs(out.hump_height.isel(hump=1)) < 4 * out.hump_height_errors.isel(hump=1))  # there is none there
    np.testing.assert_allclose(out.phase_fraction.sel(phase="P3"), 0.1 + 0.15 * np.arange(5), atol=0.01)


def test_prussian_white_cubic_phases() -> None:
    parts = pieces("prussian-white")
    share = np.linspace(0.9, 0.1, 6)
    frames = [
        {"NaFeFeCN6": scene.Part(parts["NaFeFeCN6"] | {"a": 10.33}, s, 40.0), "FeFeCN6": scene.Part(parts["FeFeCN6"] | {"a": 10.19}, 1 - s, 40.0),
         "Al": scene.foil(parts["Al"], 0.05)}
        for s in share
    ]  # fmt: skip
    out = op.reduce(scene.measure(frames, ANGLES, seed=9), "prussian-white")["observables"].isel(phase=[0])
    judge(scores(out.phase_fraction, out.phase_fraction_errors, share[:, None]), 6)
    judge(scores(out.lattice_a, out.lattice_a_errors, np.full((6, 1), 10.33)), 6)
