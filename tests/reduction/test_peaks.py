"""Peaks through the public API: units of ranges, doublets, frames without beam, the simulated cell whose d-spacing is known, a measured doublet."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import curve_fit

import operando as op
from operando.contract import ConfigError, ContractError, series
from operando.testing import assert_valid_series

WAVE = 0.4959


def patterns(n: int = 24, *, axis: str = "q", wavelength: float | None = WAVE, seed: int = 0, **coords: Any) -> xr.Dataset:
    """Counts of one line that moves from 2.50 to 2.46 angstrom, and one that comes up at 2.10 angstrom."""
    q = np.linspace(2.2, 3.3, 600)
    d = np.linspace(2.50, 2.46, n)
    rows = []
    for k in range(n):
        gauss = lambda at, w: np.exp(-4 * np.log(2) * ((q - at) / w) ** 2)  # noqa: E731
        rows.append(100 + 5 * q + 800 * gauss(2 * np.pi / d[k], 0.02) + 300 * k / n * gauss(2 * np.pi / 2.10, 0.02))
    counts = np.random.default_rng(seed).poisson(np.array(rows))
    two_theta = 2 * np.degrees(np.arcsin(q * WAVE / (4 * np.pi)))
    along: dict[str, Any] = {"q": ("q", q, "1/angstrom"), "two_theta": ("q", two_theta, "deg")}
    if axis == "two_theta":
        along = {"two_theta": ("two_theta", two_theta, "deg")}
    elif wavelength is None:
        del along["two_theta"]
    attrs = {} if wavelength is None else {"wavelength": wavelength, "wavelength_units": "angstrom"}
    return series(
        "xrd",
        {"intensity": (("time", axis), counts, "counts")},
        source="a.h5",
        coords={**along, **coords},
        start=np.datetime64("2026-06-03T10:00:00") + np.arange(n) * np.timedelta64(60, "s"),
        utc=True,
        time_origin="header",
        attrs=attrs,
    )


RECIPE: dict[str, Any] = {
    "reducer": "peaks",
    "unit": "d",
    "peaks": {"moves": {"range": [2.44, 2.52], "window": [2.40, 2.57]}, "comes": {"range": [2.08, 2.12], "window": [2.04, 2.16]}},
}


def test_peaks_are_followed_with_their_errors() -> None:
    out = op.reduce(patterns(), RECIPE)["peaks"]
    assert list(out.peak.values) == ["moves", "comes"]
    true = np.linspace(2.50, 2.46, 24)
    moves, comes = out.sel(peak="moves"), out.sel(peak="comes")
    assert np.abs((moves.d_spacing - true) / moves.d_spacing_errors).max() < 4
    np.testing.assert_allclose(moves.position_q, 2 * np.pi / moves.d_spacing)
    np.testing.assert_allclose(moves.position_two_theta, 2 * np.degrees(np.arcsin(moves.position_q * WAVE / (4 * np.pi))), rtol=1e-12)
    np.testing.assert_allclose(moves.d_spacing_errors / moves.d_spacing, moves.position_q_errors / moves.position_q, rtol=1e-9)
    assert (comes.peak_flags.values[:3] & 1).all()
    assert np.isnan(comes.d_spacing.values[:2]).all()
    assert np.isfinite(comes.area.values).all()
    assert np.isfinite(comes.d_spacing.values[10:]).all()
    assert np.corrcoef(comes.area, np.arange(24))[0, 1] > 0.99
    assert out.area.attrs["units"] == "counts*deg"
    assert out.fwhm.attrs["units"] == "deg"
    assert (out.goodness_of_fit < 1.4).all()


@pytest.mark.parametrize("axis", ["q", "two_theta"])
def test_a_range_says_the_same_in_every_unit(axis: str) -> None:
    frames = patterns(6, axis=axis)
    base = op.reduce(frames, RECIPE)["peaks"]
    for unit in ("q", "two_theta"):
        peaks = {}
        for name, peak in RECIPE["peaks"].items():
            q = {key: [2 * np.pi / v for v in pair[::-1]] for key, pair in peak.items()}
            peaks[name] = q if unit == "q" else {k: [2 * np.degrees(np.arcsin(v * WAVE / (4 * np.pi))) for v in pair] for k, pair in q.items()}
        again = op.reduce(frames, {"reducer": "peaks", "unit": unit, "peaks": peaks})["peaks"]
        np.testing.assert_allclose(again.d_spacing, base.d_spacing, rtol=1e-7)
    over_q = op.reduce(frames, {**RECIPE, "axis": "q"})["peaks"]
    assert over_q.fwhm.attrs["units"] == "1/angstrom"
    both = np.isfinite(over_q.d_spacing.values) & np.isfinite(base.d_spacing.values)
    assert np.abs((over_q.d_spacing - base.d_spacing) / base.d_spacing_errors).values[both].max() < 0.3


def test_batches_change_nothing() -> None:
    frames = patterns(20)
    whole = op.reduce(frames, RECIPE)["peaks"]
    small = op.reduce(frames, RECIPE, memory=3 * frames.nbytes // 20)["peaks"]
    xr.testing.assert_identical(whole, small)
    backwards = op.reduce(frames.isel(q=slice(None, None, -1)), RECIPE)["peaks"]
    np.testing.assert_array_equal(backwards.d_spacing, whole.d_spacing)


def test_frames_without_beam_give_nothing() -> None:
    frames = patterns(8, monitor=("time", np.array([1.0, 1, 1, 0.001, 1, 1, 1, 1]) * 1e6, "counts"))
    frames = frames.assign_coords(quality=("time", np.array([0, 0, 0, 0, 0, 4, 0, 0], np.int32), frames["quality"].attrs))
    out = op.reduce(frames, RECIPE)["peaks"]
    assert np.flatnonzero(np.isnan(out.area.values).any(axis=1)).tolist() == [3, 5]
    assert out.peak_flags.values[[3, 5]].tolist() == [[16, 16], [16, 16]]


def test_without_a_wavelength_there_is_q_and_d_only() -> None:
    out = op.reduce(patterns(4, wavelength=None), RECIPE)["peaks"]
    assert "position_two_theta" not in out
    assert out.sel(peak="moves").d_spacing.values[0] == pytest.approx(2.5, abs=1e-3)
    bare = patterns(4, axis="two_theta", wavelength=None)
    angles = {"reducer": "peaks", "unit": "two_theta", "peaks": {"moves": {"range": [11.2, 11.7], "window": [11.0, 11.9]}}}
    assert "d_spacing" not in op.reduce(bare, angles)["peaks"]
    with pytest.raises(ConfigError, match="the wavelength is not known"):
        op.reduce(bare, RECIPE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peaks": {3: {"range": [2.4, 2.5]}}}, "put the name of the peak in quotes"),
        ({"peaks": {"a": {"range": [2.5, 2.4]}}}, "is not lowest, highest"),
        ({"peaks": {"a": {"range": [2.4, 2.5], "window": [2.45, 2.6]}}}, "does not hold the range"),
        ({"peaks": {"a=b": {"range": [2.4, 2.5]}}}, "could not be addressed"),
        ({"peaks": {"a": {"range": [2.4, 2.5], "widht": 1}}}, "widht"),
        ({"peaks": {}}, "peaks"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        op.reduce(patterns(2), {**RECIPE, **change})


def test_a_range_beside_the_pattern_is_refused() -> None:
    with pytest.raises(ContractError, match="holds too few channels"):
        op.reduce(patterns(2), {"reducer": "peaks", "peaks": {"a": {"range": [7.0, 7.5]}}})


def test_the_simulated_layer_spacing_comes_back(root: Path) -> None:
    """The packaged recipe on the example's patterns, against what is true of each frame."""
    text = (root / "example_beamtime/beamtime.yaml").read_text()
    assert "preset: nexus-nxazint1d" in text
    frames = op.load(
        root / "example_beamtime/xrd/processed/A_000[1-9]_integrated.h5",
        "hdf5-path",
        preset="nexus-nxazint1d",
        frame_times={"path": "measurement/timestamp", "kind": "relative"},
        count_time="[NXinstrument]/detector/count_time",
        coords={"monitor": "[NXmonitor]/data", "position": "measurement/position"},
    )
    out = op.reduce(frames, "peaks-nmc811")["peaks"]
    truth = json.loads((root / "example_beamtime/truth.json").read_text())["cells"]["A"]["series"]["xrd"]["observables"]
    n = out.sizes["time"]
    assert n == 144
    line = out.sel(peak="003")
    fresh = (out.position.values == 0) & np.isfinite(line.d_spacing.values)
    assert fresh.sum() == 69, "all but three without beam"
    off = line.d_spacing.values - np.array(truth["d003"]["values"])[:n]
    pull = (off / line.d_spacing_errors.values)[fresh]
    assert np.median(np.abs(off[fresh])) < 5e-4
    assert 0.7 < pull.std() < 1.4
    spacing = np.array(truth["layer_spacing"]["values"])[:n]
    carbon = out.sel(peak="graphite-002").d_spacing.values
    share = np.array(truth["weight_fraction"]["values"])[:n, 4]
    clear = np.isfinite(carbon) & (share > 0.25)
    assert clear.sum() > 20
    assert np.median(np.abs(carbon - spacing)[clear]) < 2e-3
    first = np.array(truth["weight_fraction"]["values"])[:n, 2]
    area = out.sel(peak="LiC6-001").area.values
    known = np.isfinite(area)
    assert np.corrcoef(area[known], first[known])[0, 1] > 0.98


@pytest.mark.real_data
def test_a_measured_doublet_gives_the_angles_of_corundum(shared_data: Path) -> None:
    """IUCr round robin, sample 1B: 94 % corundum, Cu K-alpha; a = 4.7592, c = 12.992 angstrom (NIST SRM 676a)."""
    file = next((shared_data / "qpa/iucr_cpd_qarr").rglob("*1b*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = op.load(file, "xrd-1d", start="2000-01-01T00:00:00Z", timezone="UTC", axis="two_theta", wavelength="1.54056 angstrom")
    assert_valid_series(frames)
    a, c = 4.7592, 12.992
    d = {"113": (4 / a**2 + 9 / c**2) ** -0.5, "116": (4 / a**2 + 36 / c**2) ** -0.5, "300": (12 / a**2) ** -0.5}
    peaks = {name: {"range": [0.995 * v, 1.005 * v], "window": [0.985 * v, 1.015 * v]} for name, v in d.items()}
    recipe = {"reducer": "peaks", "unit": "d", "peaks": peaks, "wavelength": [1.54056, 1.54439]}
    both, one = op.reduce(frames, recipe)["peaks"], op.reduce(frames, {**recipe, "wavelength": [1.54056]})["peaks"]
    expected = 2 * np.degrees(np.arcsin(1.54056 / 2 / np.array(list(d.values()))))
    shift = both.position_two_theta.values[0] - expected
    assert abs(shift.mean()) < 0.1, "the zero error of the diffractometer"
    assert shift.std() < 0.01, "which is the same for all lines"
    assert (both.fwhm < one.fwhm).all()
    assert (both.goodness_of_fit < 0.7 * one.goodness_of_fit).values[0, 2], "at 68 degrees the two are apart"


@pytest.mark.real_data
def test_a_measured_series_is_fitted_as_by_a_general_fit(shared_data: Path, tmp_path: Path) -> None:
    """Seventeen patterns of CuCr2O4 on heating, 11-BM, from the tutorials of GSAS-II: its strongest line against scipy, frame by frame."""
    with zipfile.ZipFile(shared_data / "xrd1d/gsas2_SeqTut/SeqTut.zip") as packed:
        packed.extractall(tmp_path, [name for name in packed.namelist() if name.endswith(".fxye")])
    frames = op.load(sorted(tmp_path.rglob("*.fxye")), "xrd-1d", start="2000-01-01T00:00:00Z", timezone="UTC")
    recipe = {"reducer": "peaks", "unit": "two_theta", "peaks": {"a": {"range": [9.26, 9.34], "window": [9.2, 9.4], "fwhm": 0.01}}}
    out = op.reduce(frames, recipe)["peaks"].sel(peak="a")
    assert frames.sizes["time"] == 17
    assert (out.peak_flags == 0).all()
    x = frames.two_theta.values
    inside = (x >= 9.2) & (x <= 9.4)

    def model(t: np.ndarray, a: float, b: float, area: float, p: float, w: float, eta: float) -> np.ndarray:
        u = ((t - p) / w) ** 2
        return np.asarray(
            a + b * (t - 9.3) + area / w * (eta * 2 / np.pi / (1 + 4 * u) + (1 - eta) * np.sqrt(4 * np.log(2) / np.pi) * np.exp(-4 * np.log(2) * u))
        )

    for k in range(17):
        y, sigma = frames.intensity.values[k, inside], frames.intensity_errors.values[k, inside]
        peer, _ = curve_fit(model, x[inside], y, p0=[float(y.min()), 0, float(y.max()) * 0.01, 9.3, 0.01, 0.5], sigma=sigma)
        for j, name in ((3, "position_two_theta"), (2, "area"), (4, "fwhm")):
            assert abs(float(out[name][k]) - peer[j]) < 1.0 * float(out[f"{name}_errors"][k]), (k, name)
    assert np.ptp(out.d_spacing.values) < 1e-3
    assert (out.d_spacing_errors < 5e-5).all()
