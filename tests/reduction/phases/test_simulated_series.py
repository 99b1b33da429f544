"""Truth through the public API: patterns of a cell computed by other code (Dans_Diffraction), counted, and fitted.

`operando.simulate` shares no code with the reduction: structure factors, texture, widths and sums are its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import yaml

from operando.contract import Quality
from operando.reduction import reduce
from operando.simulate import powder
from operando.simulate.cell import LAGGING_X
from operando.simulate.materials import oxide_lattice
from operando.simulate.structures import WAVELENGTH

pytestmark = pytest.mark.filterwarnings("ignore:.*(do not tell|not fitted).*:UserWarning")  # told of the series, and asked below

PHASES = list(powder.PHASES)


@pytest.fixture(scope="module")
def generator() -> powder.Powder:
    return powder.Powder(24.0)


@pytest.fixture(scope="module")
def recipe(root: object) -> dict[str, object]:
    content = yaml.safe_load((root / "configs/recipes/nmc811-graphite.yaml").read_text())  # type: ignore[operator]
    content["instrument"]["caglioti"] = list(powder.CAGLIOTI)  # as from a calibrant
    content["two_theta_range"], content["tails"] = [2.2, 23.5], 60
    content["phases"]["NMC811"]["solid_solution"]["points"] = [
        {"x": float(x), "lattice": {"a": float(a), "c": float(c)}, "sites": {"Li": {"occupancy": float(x)}, "O": {"z": float(z)}}}
        for x, (a, c, z) in ((x, oxide_lattice(x)) for x in np.linspace(0.2, 0.95, 9))
    ]
    return dict(content)


def _mixture(x: float, lagging: float, stages: tuple[float, float, float]) -> powder.Mixture:
    masses, _ = powder.amounts(np.array([x]), np.array([lagging]), np.array([stages]))
    a, c, _z = (float(v) for v in oxide_lattice(x))
    return powder.Mixture(x, a, c, 3.355 + 0.1 * stages[2], powder.STRAIN_AT_REST, masses[0])


def _series(generator: powder.Powder, mixtures: list[powder.Mixture], counts: float, seed: int = 0) -> xr.Dataset:
    """Patterns over q, Poisson counts of about `counts` per channel."""
    two_theta = np.arange(2.0, 24.0, 0.015)
    rng = np.random.default_rng(seed)
    rows = []
    for mixture in mixtures:
        pattern = np.interp(two_theta, generator.two_theta, generator.pattern(mixture))
        rows.append(rng.poisson(pattern * counts / pattern.mean()))
    time = np.datetime64("2026-06-03T08:00", "ns") + np.arange(len(rows)) * np.timedelta64(60, "s")
    q = 4 * np.pi / WAVELENGTH * np.sin(np.radians(two_theta / 2))
    return xr.Dataset(
        {"intensity": (("time", "q"), np.array(rows, float), {"units": "counts"})},
        coords={"time": time, "q": ("q", q, {"units": "1/angstrom"}), "two_theta": ("q", two_theta, {"units": "deg"})},
        attrs={"technique": "xrd", "wavelength": WAVELENGTH, "timezone_source": "file"},
    )


@pytest.fixture(scope="module")
def charge(generator: powder.Powder, recipe: dict[str, object]) -> tuple[list[powder.Mixture], dict[str, xr.Dataset]]:
    """A charge in 32 frames: the oxide loses Li, c collapses; graphite, LiC12 and LiC6 follow one another; nothing lags."""
    x = np.linspace(0.93, 0.24, 32)
    done = np.linspace(0, 1, 32)
    stages = [(max(2 * d - 1, 0.0), 1 - abs(2 * d - 1), max(1 - 2 * d, 0.0)) for d in done]
    mixtures = [_mixture(float(a), 0.0, s) for a, s in zip(x, stages, strict=True)]
    return mixtures, reduce(_series(generator, mixtures, 900.0), recipe)


def test_fractions_lie_within_their_statistical_intervals(charge: tuple[list[powder.Mixture], dict[str, xr.Dataset]]) -> None:
    mixtures, made = charge
    found = made["observables"]
    true = np.array([m.masses / m.masses.sum() for m in mixtures])
    off = (found.phase_fraction.sel(phase=PHASES).values - true) / found.phase_fraction_errors.sel(phase=PHASES).values
    distinct = found.phase_correlation.sel(phase="NMC811").values < 0.9
    inside = np.abs(off[distinct])[true[distinct] > 0.02]
    assert inside.size > 50
    assert 0.56 < np.mean(inside < 1) < 0.87  # nominal .68
    assert np.mean(inside < 2) > 0.90  # nominal .95
    assert np.mean(inside < 4) == 1.0
    assert np.abs(found.phase_fraction.sel(phase=PHASES).values.sum(axis=1) - 1).max() < 1e-9


def test_a_phase_that_is_absent_reads_nothing(charge: tuple[list[powder.Mixture], dict[str, xr.Dataset]]) -> None:
    _, made = charge
    found = made["observables"]
    apart = found.phase_correlation.sel(phase="NMC811_lagging").values < 0.95
    lagging = found.phase_fraction.sel(phase="NMC811_lagging").values[apart]
    errors = found.phase_fraction_errors.sel(phase="NMC811_lagging").values[apart]
    assert np.mean(lagging < 3 * errors) >= 0.95
    held = int(found.phase_flags.attrs["flag_masks"][0])
    early = found.phase_flags.sel(phase="LiC6").values[:12]  # before the first LiC6
    assert np.all(early & held)
    assert np.isnan(found.lattice_a.sel(phase="LiC6").values[:12]).all()


def test_lattices_and_composition_follow_the_truth(charge: tuple[list[powder.Mixture], dict[str, xr.Dataset]]) -> None:
    mixtures, made = charge
    found = made["observables"].sel(phase="NMC811")
    distinct = found.phase_correlation.values < 0.9
    a, c = np.array([(m.a, m.c) for m in mixtures]).T
    assert np.abs(found.lattice_a.values - a)[distinct].max() < 5e-4
    assert np.abs(found.lattice_c.values - c)[distinct].max() < 5e-3
    assert np.abs(found.composition.values - np.array([m.x for m in mixtures]))[distinct].max() < 0.02
    total = np.hypot(found.lattice_a_errors.values, found.lattice_a_systematic.values)
    assert np.mean((np.abs(found.lattice_a.values - a) < 2 * total)[distinct]) > 0.85


def test_what_is_left_over_is_noise(charge: tuple[list[powder.Mixture], dict[str, xr.Dataset]]) -> None:
    _, made = charge
    assert np.median(made["observables"].goodness_of_fit) < 1.15
    curves = made["reduced"]
    there = np.isfinite(curves.residual.values)
    assert there.mean() > 0.9
    assert np.allclose((curves.intensity_calculated + curves.residual).values[there], _observed(charge)[there], rtol=1e-4, atol=0.1)
    assert (curves.background.values[there] <= curves.intensity_calculated.values[there] + 1e-3).all()


def _observed(charge: tuple[list[powder.Mixture], dict[str, xr.Dataset]]) -> np.ndarray:
    return np.asarray(_series(powder.Powder(24.0), charge[0], 900.0).intensity.values)


def test_frames_that_say_nothing_are_nan_and_the_next_go_on(generator: powder.Powder, recipe: dict[str, object]) -> None:
    mixtures = [_mixture(0.8, 0.0, (0.0, 0.3, 0.7))] * 6
    series = _series(generator, mixtures, 900.0)
    series["intensity"][1] = 0.0
    series["intensity"][2] = np.nan
    flags = np.zeros(6, np.int32)
    flags[3] = int(Quality.BEAM_DUMP)
    found = reduce(series.assign_coords(quality=("time", flags, {"units": "1"})), recipe)["observables"]
    bad = np.isnan(found.phase_fraction.sel(phase="NMC811").values)
    assert bad.tolist() == [False, True, True, True, False, False]
    named = dict(zip(found.fit_flags.attrs["flag_meanings"].split(), found.fit_flags.attrs["flag_masks"], strict=True))
    assert (found.fit_flags.values & named["not_fitted"] > 0).tolist() == bad.tolist()


def test_batches_give_what_all_at_once_gives(generator: powder.Powder, recipe: dict[str, object]) -> None:
    mixtures = [_mixture(x, 0.0, (0.0, 0.3, 0.7)) for x in np.linspace(0.8, 0.7, 6)]
    series = _series(generator, mixtures, 900.0)
    whole = reduce(series, recipe)["observables"]
    parts = reduce(series, recipe, memory=3 * series.intensity.nbytes // 6)["observables"]
    assert np.allclose(whole.phase_fraction, parts.phase_fraction, atol=2e-3, equal_nan=True)
    assert np.allclose(whole.lattice_c, parts.lattice_c, atol=2e-3, equal_nan=True)


def test_two_phases_that_cannot_be_told_apart_say_so(generator: powder.Powder, recipe: dict[str, object]) -> None:
    a, c, _ = (float(v) for v in oxide_lattice(LAGGING_X))
    mixture = _mixture(LAGGING_X, 0.0, (0.0, 0.3, 0.7))
    assert (mixture.a, mixture.c) == (a, c)
    found = reduce(_series(generator, [mixture] * 2, 900.0), recipe)["observables"]
    named = dict(zip(found.fit_flags.attrs["flag_meanings"].split(), found.fit_flags.attrs["flag_masks"], strict=True))
    assert (found.phase_correlation.sel(phase=["NMC811", "NMC811_lagging"]) > 0.95).all()
    assert (found.fit_flags.values & named["indistinct"]).all()
    both = found.phase_fraction.sel(phase=["NMC811", "NMC811_lagging"]).sum("phase")
    assert np.allclose(both, mixture.masses[:2].sum() / mixture.masses.sum(), atol=0.03)


def test_a_lattice_far_from_the_start_is_found(generator: powder.Powder, recipe: dict[str, object]) -> None:
    """The first frame may be of a charged cell: a 2 % from where the recipe starts."""
    mixture = _mixture(0.25, 0.0, (0.6, 0.4, 0.0))
    found = reduce(_series(generator, [mixture], 900.0), recipe)["observables"].isel(time=0)
    assert float(found.lattice_a.sel(phase="NMC811")) == pytest.approx(mixture.a, abs=5e-4)
    assert float(found.lattice_c.sel(phase="NMC811")) == pytest.approx(mixture.c, abs=5e-3)
    assert np.allclose(found.phase_fraction.sel(phase=PHASES), mixture.masses / mixture.masses.sum(), atol=0.03)
