"""Observables over time: values and bands as given, gaps open, labels and units named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection

from operando import figures
from operando.contract import ContractError


def test_lines_bands_and_gaps(tree: xr.DataTree, results: xr.Dataset) -> None:
    figure = figures.observables(tree, "A")
    voltage, fraction, volume = figure.axes
    assert voltage.get_ylabel() == "voltage\n(V)"
    assert fraction.get_ylabel() == "phase fraction\n(1)"
    assert volume.get_ylabel() == "volume of the unit\ncell\n(Å³)"
    assert volume.get_xlabel() == "time (UTC)"
    assert [t.get_text() for t in fraction.get_legend().get_texts()] == ["H1", "H2"]
    x, y = fraction.lines[0].get_data()
    assert np.flatnonzero(np.isnan(x)).tolist() == [50]  # between 2940 s and 4200 s
    assert np.array_equal(y[np.isfinite(y)], results.phase_fraction.values[:, 0])
    bands = [c for c in fraction.collections if isinstance(c, PolyCollection)]
    widths = [np.ptp(c.get_paths()[0].vertices[:, 1][c.get_paths()[0].vertices[:, 0] == x[0]]) for c in bands]
    assert widths == pytest.approx([0.10, 0.06, 0.10, 0.06])  # hypot(0.03, 0.04) to each side, then 0.03
    assert len(bands[0].get_paths()) == 2  # the band is open where the line is
    assert not [c for c in volume.collections if isinstance(c, PolyCollection)]


def test_one_label_can_be_asked_for_by_its_address(tree: xr.DataTree, results: xr.Dataset) -> None:
    for name in ("A/xrd/phase_fraction[phase=H2]", "xrd/phase_fraction[phase=H2]", "phase_fraction[phase=H2]"):
        figure = figures.observables(tree, "A", name, voltage=False)
        (line,) = figure.axes[0].lines
        assert np.array_equal(line.get_ydata()[:50], results.phase_fraction.values[:50, 1])


def test_cycles_are_points_as_wide_as_the_time_they_speak_for(tree: xr.DataTree, tmp_path: Path) -> None:
    zero = np.datetime64("2026-06-03T08:00:00", "ns")
    cycles = xr.Dataset(
        {"capacity": ("time", [1.0, 0.9], {"units": "mA*h", "sampling": "sample", "long_name": "capacity on charge"})},
        coords={"time": zero + np.array([1800, 5400]) * np.timedelta64(1, "s"), "exposure": ("time", [3600.0, 3600.0], {"units": "s"})},
        attrs={"technique": "echem", "product": "cycles", "cell": "A", "timezone_source": "config"},
    )
    tree["A/echem/cycles"] = xr.DataTree(cycles)
    figure = figures.observables(tree, None, "echem/capacity", elapsed=True)
    axes = figure.axes[1]
    assert axes.get_ylabel() == "capacity on charge\n(mAh)"
    segments = axes.collections[0].get_segments()
    assert [s[:, 0].tolist() for s in segments] == [pytest.approx([0, 60]), pytest.approx([60, 120])]
    assert axes.get_xlim() == pytest.approx((0, 120))
    figures.save(figure, tmp_path / "a.png")


def test_channels_of_the_cycler_and_sensors(tree: xr.DataTree) -> None:
    t = np.datetime64("2026-06-03T08:00:00", "ns") + np.arange(20_000) * np.timedelta64(300, "ms")
    values = np.sin(np.arange(20_000) / 500)
    values[1234] = 40.0
    holder = xr.Dataset(
        {
            "temperature": ("time", values, {"units": "degC", "long_name": "temperature (degC)", "sampling": "continuous"}),
            "valve": ("time", np.arange(20_000) // 5000, {"units": "1", "sampling": "step"}),
        },
        coords={"time": t},
        attrs={"technique": "sensor", "timezone_source": "config"},
    )
    tree["A/holder/frames"] = xr.DataTree(holder)
    figure = figures.observables(tree, "A", "echem/current", "temperature", "valve")
    _, current, temperature, valve = figure.axes
    assert current.get_ylabel() == "current\n(mA)"
    assert np.isnan(current.lines[0].get_ydata()).sum() == 1  # the pause of the cycler
    assert temperature.get_ylabel() == "temperature\n(°C)"
    shown = temperature.lines[0].get_ydata()
    assert shown.size <= 4010
    assert shown.max() == 40.0
    assert valve.lines[0].get_drawstyle() == "steps-post"


def test_interleaved_positions_are_lines_of_their_own(tree: xr.DataTree, results: xr.Dataset) -> None:
    spots = results.assign_coords(position=("time", np.arange(results.sizes["time"]) % 2 + 1))
    other = xr.DataTree.from_dict({"/A/xrd/observables": spots})
    figure = figures.observables(other, "A", "volume")
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["position 1", "position 2"]
    figure = figures.observables(other, "A", "volume[position=2]")
    (line,) = figure.axes[0].lines
    assert np.nanmin(line.get_ydata()) == spots.volume.values[1]


def test_values_that_are_missing_single_or_the_same_are_drawn_without_a_warning(results: xr.Dataset, tmp_path: Path) -> None:
    odd = results.copy(deep=True)
    odd["volume"][:] = np.nan
    odd["phase_fraction"][:, 0] = 0.5
    for some in (odd, odd.isel(time=[0]), odd.isel(time=slice(0, 2))):
        figures.save(figures.observables(xr.DataTree.from_dict({"/A/xrd/observables": some})), tmp_path / "a.png")


def test_what_is_not_there_is_told_with_what_is(tree: xr.DataTree) -> None:
    with pytest.raises(ContractError, match=r"no such observable\n  found:    'entropy'\n  expected: .*xrd/phase_fraction"):
        figures.observables(tree, "A", "entropy")
    with pytest.raises(ContractError, match="phase: H1, H2"):
        figures.observables(tree, "A", "phase_fraction[phase=M]")
    with pytest.raises(ContractError, match="no such label"):
        figures.observables(tree, "A", "volume[phase=H1]")
    bare = xr.DataTree.from_dict({"/A/echem/frames": tree["A/echem/frames"].to_dataset()})
    with pytest.raises(ContractError, match=r"no observables in this cell yet(.|\n)*echem/voltage"):
        figures.observables(bare)
    tree["A/saxs/observables"] = xr.DataTree(tree["A/xrd/observables"].to_dataset())
    with pytest.raises(ContractError, match=r"several series(.|\n)*saxs/volume, xrd/volume"):
        figures.observables(tree, "A", "volume")
