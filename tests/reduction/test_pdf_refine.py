"""Small boxes through PDFfit2: a crystal summed shell by shell, and measured mixtures whose fractions are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import operando as op
from operando.contract import ConfigError, ContractError, series

pytest.importorskip("diffpy.pdffit2")

R = np.arange(1.0, 18.0, 0.02)
NICKEL = {"structure": {"space_group": "F m -3 m", "a": 3.52, "sites": [{"element": "Ni", "x": 0, "y": 0, "z": 0}]}}


def nickel(a: float, u: float = 0.006, qmax: float = 25.0) -> np.ndarray:
    """G(r) of an endless crystal: a Gaussian for every distance, and the waves up to qmax alone."""
    cells = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3, indexing="ij"), -1).reshape(-1, 3)
    atoms = (cells[:, None] + np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])).reshape(-1, 3)
    d = a * np.linalg.norm(atoms, axis=1)
    d, n = np.unique(np.round(d[(d > 0.1) & (d < 22.0)], 9), return_counts=True)
    fine = 0.01 * np.arange(2400)
    shells = (n / np.maximum(fine[:, None], 0.5) / np.sqrt(4 * np.pi * u) * np.exp(-((fine[:, None] - d) ** 2) / (4 * u))).sum(
        axis=1
    ) - 4 * np.pi * 4 / a**3 * fine
    wave = 0.01 * np.arange(-2000, 2001)
    whole = np.convolve(np.concatenate([-shells[:0:-1], shells]), qmax / np.pi * np.sinc(qmax * wave / np.pi) * 0.01, mode="same")
    return np.interp(R, fine, whole[shells.size - 1 :])


def frames(g: np.ndarray, errors: float | None = None, **attrs: Any) -> xr.Dataset:
    linked = {} if errors is None else {"ancillary_variables": "g_r_errors"}
    variables: dict[str, Any] = {"g_r": (("time", "r"), g, "1/angstrom^2", linked)}
    if errors is not None:
        variables["g_r_errors"] = (("time", "r"), np.full(g.shape, errors), "1/angstrom^2")
    return series(
        "pdf",
        variables,
        source="a.gr",
        coords={"r": ("r", R, "angstrom")},
        start="2026-06-03T10:00:00+00:00",
        elapsed=60.0 * np.arange(len(g)),
        exposure=60.0,
        time_origin="header",
        attrs={"q_max": 25.0, **attrs},
    )


def refine(given: xr.Dataset, base: Path | None = None, rmax: float = 17.0, **settings: Any) -> xr.Dataset:
    stages = [{"reducer": "total-scattering", "rmin": 1.0, "rmax": rmax}, {"reducer": "pdf-refine", "phases": {"Ni": NICKEL}, **settings}]
    return op.reduce(given, {"stages": stages}, base=base)["refinement"]


def test_lattice_and_displacement_of_a_crystal_are_followed_from_frame_to_frame() -> None:
    a, u = np.array([3.52, 3.53, np.nan, 3.55, 3.545]), np.array([0.006, 0.007, np.nan, 0.009, 0.010])
    g = np.stack([nickel(x, y) if np.isfinite(x) else np.full(R.size, np.nan) for x, y in zip(a, u, strict=True)])
    o = refine(frames(g), r_range=[1.5, 16.0], q_damp=0.0)
    good = np.isfinite(a)
    assert o.converged.values.tolist() == [1, 1, -1, 1, 1]
    np.testing.assert_allclose(o.lattice_a[good, 0], a[good], atol=5e-4)
    np.testing.assert_allclose(o.u_iso[good, 0], u[good], rtol=0.05)
    np.testing.assert_allclose(o.phase_scale[good, 0], 1.0, atol=0.03)
    assert np.isnan(o.lattice_a[2]).all()
    assert float(o.rw[good].max()) < 0.05
    assert o.atom.values.tolist() == ["Ni: Ni"]


def test_errors_are_those_of_repetition() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((24, 1 + int(18 / (np.pi / 25))))  # independent at steps of pi / qmax, as measured G(r) is
    clean = nickel(3.52)
    grid = np.pi / 25 * np.arange(noise.shape[1])
    waves = np.sinc((R[:, None] - grid) / (np.pi / 25))
    o = refine(frames(clean + 0.3 * noise @ waves.T, errors=0.3), q_damp=0.0, r_range=[1.5, 16.0])
    ratio = float(o.lattice_a.std() / o.lattice_a_errors.mean())
    assert 0.6 < ratio < 1.6


@pytest.mark.parametrize(
    ("settings", "attrs", "message"),
    [
        ({"phases": {}}, {}, "at least 1"),
        ({"phases": {"Ni": {"cif": "none.cif"}}}, {}, "no such CIF"),
        ({"phases": {"Ni": {**NICKEL, "cif": "none.cif"}}}, {}, "two ways to say the same"),
        ({"r_range": [5.0, 2.0]}, {}, "no range"),
        ({"r_range": [5.0, 5.5]}, {}, "fewer points"),
        ({}, {"q_max": None}, "qmax of G"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], attrs: dict[str, Any], message: str) -> None:
    given = frames(nickel(3.52)[None])
    given.attrs.update(attrs)
    if attrs:
        del given.attrs["q_max"]
    with pytest.raises((ConfigError, ContractError), match=message):
        refine(given, **settings)


def test_noise_is_no_crystal() -> None:
    o = refine(frames(np.stack([np.random.default_rng(0).standard_normal(R.size), np.zeros(R.size), nickel(3.52)])), q_damp=0.0)
    assert o.converged.values.tolist()[1:] == [-1, 1]
    assert float(o.lattice_a[2, 0]) == pytest.approx(3.52, abs=1e-3)


@pytest.mark.real_data
def test_a_mixture_of_silicon_and_nickel_has_the_fractions_in_its_name(shared_data: Path) -> None:
    folder = shared_data / "pdf" / "srfit_BSD"
    told = {"timezone": "UTC", "start": "2026-01-01T00:00:00", "exposure": 1.0}
    mixture = op.load(folder / "si90ni10-q27r60-xray.gr", "pdf-gr", **told)
    phases = {"Si": {"cif": "si.cif"}, "Ni": {"cif": "ni.cif", "scale": 0.05}}
    o = refine(mixture, folder, rmax=25.0, phases=phases, q_damp=0.06)
    assert float(o.phase_fraction.sel(phase="Ni")[0]) == pytest.approx(0.10, abs=0.015)
    assert float(o.lattice_a.sel(phase="Si")[0]) == pytest.approx(5.431, abs=0.004)
    assert float(o.lattice_a.sel(phase="Ni")[0]) == pytest.approx(3.524, abs=0.004)
    assert float(o.rw[0]) < 0.12


@pytest.mark.real_data
def test_the_standard_of_nickel(shared_data: Path) -> None:
    folder = shared_data / "pdf" / "diffpy_cmi_BSD3" / "Ni_standard"
    standard = op.load(folder / "Ni.gr", "pdf-gr", timezone="UTC", start="2026-01-01T00:00:00", exposure=1.0)
    o = refine(standard, folder, rmax=25.0, phases={"Ni": {"cif": "Ni.cif"}}, refine_q_damp=True)
    assert float(o.lattice_a[0, 0]) == pytest.approx(3.5238, abs=0.003)
    assert float(o.rw[0]) < 0.05
    assert 0.03 < float(o.q_damp[0]) < 0.07
