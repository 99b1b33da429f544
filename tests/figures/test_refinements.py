"""A pattern with its fit: what is drawn is what was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from operando import figures
from operando.contract import ContractError


@pytest.fixture
def fitted() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    time = np.datetime64("2026-06-03T08:00", "ns") + np.arange(2) * np.timedelta64(60, "s")
    q = np.linspace(1, 5, 200)
    model = 100 + 900 * np.exp(-(((q - 2.5) / 0.05) ** 2)) + np.zeros((2, 1))
    seen = np.random.default_rng(0).poisson(model).astype(float)
    coords = {"time": time, "q": ("q", q, {"units": "1/angstrom"})}
    units = {"units": "counts"}
    frames = xr.Dataset({"intensity": (("time", "q"), seen, units)}, coords)
    model[1] = np.nan
    curves = {"intensity_calculated": (("time", "q"), model, units), "background": (("time", "q"), np.where(np.isnan(model), np.nan, 100.0), units)}
    said = {"phase_fraction": (("time", "phase"), [[0.8, 0.2]] * 2), "phase_fraction_errors": (("time", "phase"), [[0.01, 0.01]] * 2)}
    said |= {"rwp": ("time", [0.03, np.nan]), "goodness_of_fit": ("time", [1.02, np.nan])}
    return frames, xr.Dataset(curves, coords), xr.Dataset(said, {"time": time, "phase": ["LFP", "FP"]})


def test_the_difference_is_in_units_of_its_uncertainty(fitted: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> None:
    frames, reduced, said = fitted
    figure = figures.refinement(frames, reduced, 0, observables=said)
    top, below = figure.axes
    drawn = below.lines[0].get_ydata()
    assert np.std(drawn) == pytest.approx(1.0, abs=0.2)
    assert np.array_equal(top.lines[0].get_ydata(), frames.intensity.values[0])
    assert "LFP: 80.00 ± 1.00 wt %" in top.get_legend().get_title().get_text()


def test_root_and_not_fitted(fitted: tuple[xr.Dataset, xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    frames, reduced, _ = fitted
    assert figures.refinement(frames, reduced, 0, root=True).axes[0].lines[0].get_ydata().max() == pytest.approx(np.sqrt(frames.intensity[0].max()))
    figure = figures.refinement(frames, reduced, 1)
    assert any(text.get_text() == "not fitted" for text in figure.axes[0].texts)
    figures.save(figure, tmp_path / "x.png")


def test_what_is_not_there_is_told(fitted: tuple[xr.Dataset, xr.Dataset, xr.Dataset]) -> None:
    frames, reduced, _ = fitted
    with pytest.raises(ContractError, match="no such frame"):
        figures.refinement(frames, reduced, 2)
    with pytest.raises(ContractError, match="no fit to draw"):
        figures.refinement(frames, frames)
    with pytest.raises(ContractError, match="of other frames"):
        figures.refinement(frames.isel(time=[0]), reduced)
