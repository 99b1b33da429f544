"""What is read off G(r), held against shells and particles whose distances are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import operando as op
from operando.contract import ConfigError, ContractError, series
from operando.simulate import scattering as truth

Q = np.linspace(1.0, 22.0, 1050)
SHAPE = {"start": "2026-06-03T10:00:00+00:00", "exposure": 60.0, "time_origin": "header"}
CHAIN: dict[str, Any] = {"reducer": "total-scattering", "rmax": 25.0, "rstep": 0.01}


def of_f(f: np.ndarray, errors: np.ndarray | None = None) -> xr.Dataset:
    linked = {} if errors is None else {"ancillary_variables": "f_q_errors"}
    variables: dict[str, Any] = {"f_q": (("time", "q"), f, "1/angstrom", linked)}
    if errors is not None:
        variables["f_q_errors"] = (("time", "q"), errors, "1/angstrom")
    coords = {"q": ("q", Q, "1/angstrom")}
    return series("pdf", variables, source="a.fq", coords=coords, elapsed=60.0 * np.arange(len(f)), **SHAPE)


def shell(d: float, s: float, n: float) -> np.ndarray:
    return n / d * np.exp(-0.5 * (Q * s) ** 2) * np.sin(Q * d)


def read(frames: xr.Dataset, base: Path | None = None, first: dict[str, Any] | None = None, **settings: Any) -> xr.Dataset:
    return op.reduce(frames, {"stages": [first or CHAIN, {"reducer": "pdf-shells", **settings}]}, base=base)["observables"]


@pytest.mark.parametrize("window", ["step", "lorch"])
@pytest.mark.parametrize(("d", "s", "n"), [(2.05, 0.05, 6.0), (2.49, 0.12, 12.0), (1.42, 0.07, 3.0)])
def test_a_shell_alone_is_recovered_without_what_qmax_adds(window: str, d: float, s: float, n: float) -> None:
    frames = of_f((shell(d, s, n))[None])
    o = read(frames, first={**CHAIN, "window": window}, first_shell=[d - 0.4, d + 0.4], coherence=[5, 20])
    assert float(o.first_shell_distance[0]) == pytest.approx(d, abs=2e-4)
    assert float(o.first_shell_sigma[0]) == pytest.approx(s, abs=2e-3)
    assert float(o.first_shell_area[0]) == pytest.approx(n, rel=0.02)
    assert float(o.first_shell_misfit[0]) < 0.01
    assert "first_shell_distance_errors" not in o


def test_a_neighbour_is_fitted_along() -> None:
    frames = of_f((shell(2.05, 0.1, 6.0) + shell(2.45, 0.12, 8.0))[None])
    alone = read(frames, first_shell=[1.7, 2.3])
    both = read(frames, first_shell=[1.7, 2.3], neighbours=[2.5])
    assert float(both.first_shell_distance[0]) == pytest.approx(2.05, abs=1e-3)
    assert float(both.first_shell_sigma[0]) == pytest.approx(0.1, abs=2e-3)
    assert float(both.first_shell_area[0]) == pytest.approx(6.0, rel=0.03)
    assert abs(float(alone.first_shell_distance[0]) - 2.05) > 2e-3


def test_errors_are_those_of_repetition() -> None:
    rng = np.random.default_rng(5)
    sigma = 0.02 + 0.01 * Q
    clean = shell(2.05, 0.08, 6.0)
    many = clean + sigma * rng.standard_normal((400, Q.size))
    o = read(of_f(many, np.broadcast_to(sigma, many.shape).copy()), first_shell=[1.7, 2.4], coherence=[5, 20])
    for name in ("distance", "sigma", "area"):
        values, stated = o[f"first_shell_{name}"].values, o[f"first_shell_{name}_errors"].values
        assert values.std() == pytest.approx(np.median(stated), rel=0.15), name


def test_the_first_strong_peak_is_found_where_no_range_is_given() -> None:
    frames = of_f(np.stack([shell(d, 0.08, 6.0) + shell(d * 1.41, 0.09, 12.0) for d in (2.0, 2.1, 2.2)]))
    np.testing.assert_allclose(read(frames).first_shell_distance, [2.0, 2.1, 2.2], atol=3e-3)


def particles(disorders: list[float]) -> xr.Dataset:
    particle = truth.Particle(24.0)
    intensity = np.stack([30 * (particle.intensity(Q, one) + particle.compton(Q)) for one in disorders])
    coords = {"q": ("q", Q, "1/angstrom")}
    return series(
        "pdf", {"intensity": (("time", "q"), intensity, "1")}, source="a.iq", coords=coords, elapsed=60.0 * np.arange(len(disorders)), **SHAPE
    )


def test_particles_that_disorder_have_their_first_shell_and_lose_coherence() -> None:
    disorders = [0.0, 0.3, 0.6, 0.9]
    o = read(particles(disorders), first={**CHAIN, "composition": "NiO", "qmin": 1.0}, first_shell=[1.7, 2.5], pair="Ni-O")
    distance = truth.lattice_parameter(np.array(disorders)) / 2
    np.testing.assert_allclose(o.first_shell_distance, distance, atol=0.008)
    np.testing.assert_allclose(o.first_shell_sigma, np.sqrt(truth.pair_variance(distance, np.array(disorders))), atol=0.012)
    assert ((o.first_shell_area > 4.2) & (o.first_shell_area < 6.0)).all()  # 5.2 of 6 neighbours in a particle of 24 angstrom
    assert (np.diff(o.coherence_length) < 0).all()
    assert (np.diff(o.long_range_amplitude) < 0).all()


def test_frames_without_g_are_nan() -> None:
    frames = of_f(np.stack([shell(2.05, 0.08, 6.0), np.full(Q.size, np.nan), np.zeros(Q.size)]))
    o = read(frames, first_shell=[1.7, 2.4])
    assert np.isfinite(o.first_shell_distance[0])
    for name in ("first_shell_distance", "first_shell_sigma", "coherence_length"):
        assert np.isnan(o[name][1:]).all(), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_shell": [2.4, 1.7]}, "no range of r"),
        ({"long_range": [30, 40]}, "fewer than six points"),
        ({"pair": "NiO"}, "no pair of elements"),
        ({"pair": "Ni-O"}, "needs the composition"),
        ({"first_shell": [1.7, 2.4], "neighbours": [2.0]}, "behind the first shell"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ContractError), match=message):
        read(of_f(shell(2.05, 0.08, 6.0)[None]), **settings)


def test_a_pair_that_is_not_in_the_composition_is_refused() -> None:
    with pytest.raises(ConfigError, match="what the composition does not hold"):
        read(particles([0.1]), first={**CHAIN, "composition": "NiO"}, pair="Co-O")


def test_g_of_others_needs_its_qmax() -> None:
    own = op.reduce(of_f(shell(2.05, 0.08, 6.0)[None]), CHAIN)["reduced"]
    bare = own[["g_r"]].assign_attrs(timezone_source="file")
    del bare.attrs["q_max"]
    with pytest.raises(ContractError, match="qmax of G"):
        read(bare, first_shell=[1.7, 2.4])
    o = read(bare, first={**CHAIN, "qmin": 1.0, "qmax": 22.0}, first_shell=[1.7, 2.4])
    assert float(o.first_shell_distance[0]) == pytest.approx(2.05, abs=1e-3)
    assert float(o.first_shell_sigma[0]) == pytest.approx(0.08, abs=3e-3)


# ------------------------------------------------------------------ series


def mixtures() -> tuple[xr.Dataset, np.ndarray, list[np.ndarray]]:
    ends = [shell(2.05, 0.08, 6.0) + shell(2.9, 0.09, 12.0), shell(1.9, 0.08, 6.0) + shell(3.1, 0.1, 12.0)]
    share = np.array([1.0, 0.8, 0.55, 0.3, 0.0])
    return of_f(np.stack([x * ends[0] + (1 - x) * ends[1] for x in share])), share, ends


def compare(frames: xr.Dataset, base: Path | None = None, **settings: Any) -> xr.Dataset:
    return op.reduce(frames, {"stages": [CHAIN, {"reducer": "pdf-components", **settings}]}, base=base)["components"]


def write_gr(path: Path, f: np.ndarray) -> None:
    made = op.reduce(of_f(f[None]), CHAIN)["reduced"]
    rows = "\n".join(f"{r:.4f} {g:.7f}" for r, g in zip(made.r.values, made.g_r.values[0], strict=True))
    path.write_text(f"#S 1\n#L r G(r)\n{rows}\n")


def test_standards_and_components_give_the_shares(tmp_path: Path) -> None:
    frames, share, ends = mixtures()
    for name, f in zip(("first", "last"), ends, strict=True):
        write_gr(tmp_path / f"{name}.gr", f)
    standards = {name: {"file": f"{name}.gr", "loader": "pdf-gr"} for name in ("first", "last")}
    c = compare(frames, tmp_path, standards=standards, components=2, reference=-1)
    assert c.standard.values.tolist() == ["first", "last"]
    np.testing.assert_allclose(c.standard_fraction.sel(standard="first"), share, atol=1e-3)
    np.testing.assert_allclose(c.component_fraction[:, 0], share, atol=1e-3)
    np.testing.assert_allclose(c.component_fraction.sum("component"), 1.0, atol=1e-5)
    assert float(c.standard_misfit.max()) < 1e-3
    assert float(c.component_misfit.max()) < 1e-3
    assert float(c.explained[0]) > 0.999
    np.testing.assert_allclose(c.difference / c.difference[0], share, atol=1e-3)


def test_errors_of_fractions_are_those_of_repetition(tmp_path: Path) -> None:
    _, _, ends = mixtures()
    for name, f in zip(("first", "last"), ends, strict=True):
        write_gr(tmp_path / f"{name}.gr", f)
    rng = np.random.default_rng(2)
    many = 0.6 * ends[0] + 0.4 * ends[1] + (0.05 + 0.02 * Q) * rng.standard_normal((300, Q.size))
    standards = {name: {"file": f"{name}.gr", "loader": "pdf-gr"} for name in ("first", "last")}
    c = compare(of_f(many), tmp_path, standards=standards, r_range=[1.0, 6.0])
    assert c.standard_fraction.mean("time").values == pytest.approx([0.6, 0.4], abs=0.01)
    ratio = c.standard_fraction.std("time") / c.standard_fraction_errors.mean("time")
    assert (np.abs(ratio - 1) < 0.35).all()


def test_frames_without_g_stay_out_of_the_mixture() -> None:
    frames, share, _ = mixtures()
    frames = frames.copy(deep=True)
    frames["f_q"][2] = np.nan
    c = compare(frames, components=2)
    assert np.isnan(c.component_fraction[2]).all()
    np.testing.assert_allclose(c.component_fraction[[0, 1, 3, 4], 0], share[[0, 1, 3, 4]], atol=1e-3)
    assert float(c.difference[0]) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": 9}, "no frame of the series"),
        ({"reference": None}, "nothing to do"),
        ({"components": 1}, "1 is the mean"),
        ({"components": 6}, "cannot be found in 5 frames"),
        ({"r_range": [24.95, 30]}, "fewer than eight points"),
        ({"standards": {"a": {"file": "none.gr", "loader": "pdf-gr"}}}, "does not exist"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ContractError), match=message):
        compare(mixtures()[0], **settings)


def test_standards_that_are_the_same_are_refused(tmp_path: Path) -> None:
    frames, _, ends = mixtures()
    write_gr(tmp_path / "a.gr", ends[0])
    (tmp_path / "b.gr").write_bytes((tmp_path / "a.gr").read_bytes())
    standards = {name: {"file": f"{name}.gr", "loader": "pdf-gr"} for name in "ab"}
    with pytest.raises(ConfigError, match="two standards are the same"):
        compare(frames, tmp_path, standards=standards)


def test_recipes_are_data() -> None:
    from operando.reduction import reducers

    for name in ("total-scattering", "pdf-shells", "pdf-components"):
        assert dataclasses.is_dataclass(reducers()[name])
        assert all(field.description for key, field in reducers()[name].recipe.model_fields.items() if key != "reducer")
