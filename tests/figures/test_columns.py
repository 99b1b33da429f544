"""The classic figure: maps, voltage and current on one true time axis, extremes kept and pauses left open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from operando import figures
from operando.contract import ContractError
from operando.figures.electrochemistry import capacities, line

ZERO = np.datetime64("2026-06-03T08:00:00", "ns")


def seconds(ns: np.ndarray) -> np.ndarray:
    return (ns - ZERO.astype(np.int64)) / 1e9


def test_a_current_that_ends_its_interval_is_drawn_as_that_interval(echem: xr.Dataset) -> None:
    t, v = line(echem, "current")
    t = seconds(t)
    at = np.flatnonzero(t == 3600)
    assert v[at].tolist() == [-1e-3, -1e-3]  # the end of what the record at 3600 s speaks for, and the begin of the next
    assert v[np.flatnonzero(t == 3590)].tolist() == [1e-3, -1e-3]
    starting = echem.assign(current=echem.current.assign_attrs(interval="starting"))
    t, v = line(starting, "current")
    assert v[np.flatnonzero(seconds(t) == 3600)].tolist() == [1e-3, -1e-3]
    plain = echem.assign(current=echem.current.assign_attrs(interval="instant"))
    t, v = line(plain, "current")
    assert np.flatnonzero(np.isnan(v)).size == 1
    assert v[np.isfinite(v)].size == echem.sizes["time"]


@pytest.mark.parametrize("flagged", [True, False])
def test_a_pause_breaks_every_line(echem: xr.Dataset, flagged: bool) -> None:
    ds = echem if flagged else echem.drop_vars("flags")
    for name in ("voltage", "current", "charge"):
        t, v = line(ds, name)
        broken = np.flatnonzero(np.isnan(v))
        assert seconds(t)[broken].tolist() == [2500]
        assert seconds(t)[broken - 1].tolist() == [1500]
        assert seconds(t)[broken + 1].tolist() == [2500]


def test_a_voltage_is_held_until_a_current_step(echem: xr.Dataset) -> None:
    flags = echem.flags.values.copy()
    k = int(np.flatnonzero(echem.current.values < 0)[0])
    flags[k] |= 16
    t, v = line(echem.assign_coords(flags=("time", flags, {"units": "1"})), "voltage")
    assert v[np.flatnonzero(seconds(t) == 3600)].tolist() == [echem.voltage.values[k - 1], echem.voltage.values[k]]


def test_a_clock_that_went_back_breaks_the_line(echem: xr.Dataset) -> None:
    ds = echem.isel(time=np.r_[0:50, 20:60]).drop_vars("flags")
    _, v = line(ds, "voltage")
    assert np.isnan(v).sum() == 1


def test_thinning_keeps_every_extreme_and_every_pause() -> None:
    n = 1_200_000  # more than one batch
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(n) / 3e4) + rng.normal(0, 0.01, n)
    values[[777, 600_001]] = [50.0, -50.0]
    t = np.arange(n) * np.timedelta64(1, "s") + ZERO
    t[700_000:] += np.timedelta64(1, "D")
    ds = xr.Dataset({"voltage": ("time", values, {"units": "V"})}, coords={"time": t})
    at, v = line(ds, "voltage", stretches=500)
    assert at.size < 500 * 4 + 20
    assert np.nanmax(v) == 50
    assert np.nanmin(v) == -50
    assert np.isnan(v).sum() == 1
    assert (np.diff(at) >= 0).all()
    true = dict(zip(t.astype(np.int64).tolist(), values.tolist(), strict=True))
    assert all(true[a] == b for a, b in zip(at.tolist(), v.tolist(), strict=True) if np.isfinite(b))
    # the envelope of each stretch is the envelope of its records
    span = int(t[-1].astype(np.int64) - t[0].astype(np.int64)) // 500 + 1
    all_of, some = (t.astype(np.int64) - int(t[0].astype(np.int64))) // span, (at - int(t[0].astype(np.int64))) // span
    for k in (0, 100, 250, 499):
        assert np.nanmax(v[some == k]) == values[all_of == k].max()
        assert np.nanmin(v[some == k]) == values[all_of == k].min()


def test_empty_and_single_records() -> None:
    ds = xr.Dataset({"voltage": ("time", np.empty(0), {"units": "V"})}, coords={"time": np.empty(0, "M8[ns]")})
    assert line(ds, "voltage")[0].size == 0
    ds = xr.Dataset({"voltage": ("time", [3.0], {"units": "V"})}, coords={"time": np.array([ZERO])})
    assert line(ds, "voltage")[1].tolist() == [3.0]


def test_half_cycles_say_how_much_they_moved(echem: xr.Dataset) -> None:
    found = capacities(echem)
    assert [words for _, _, words in found] == ["charge\n0.997 mAh", "discharge\n0.997 mAh"]
    assert seconds(np.array([found[1][0]]))[0] == 3600


def drawn_axes(figure: Figure) -> tuple[list, dict]:
    main = [a for a in figure.axes if a.get_label() != "<colorbar>"]
    return main, {a.get_xlabel(): a for a in main}


def test_everything_stands_on_one_true_time_axis(tree: xr.DataTree) -> None:
    figure = figures.operando(tree, "A", series=["xrd[position=2]"])
    main, named = drawn_axes(figure)
    assert list(named) == ["q (Å⁻¹)", "voltage\n(V)", "current\n(mA)"]
    low, high = (date2num(ZERO + np.timedelta64(int(1e9 * s), "ns")) for s in (0, 7190 + 0))
    # position 2 begins at 130 s; its last frame lasts until 7330 s: the axis spans everything that was measured
    assert main[0].get_ylim()[0] == pytest.approx(low, abs=1e-8)
    assert main[0].get_ylim()[1] == pytest.approx(date2num(ZERO + np.timedelta64(7330, "s")), abs=1e-8)
    assert {a.get_ylim() for a in main} == {main[0].get_ylim()}
    voltage = named["voltage\n(V)"].lines[0]
    x, y = voltage.get_data()
    assert np.nanmax(x) == 9.0
    assert y[0] == pytest.approx(low, abs=1e-9)
    assert y[-1] == pytest.approx(high, abs=1e-9)
    assert np.isnan(x).sum() == 1
    assert named["current\n(mA)"].lines[0].get_xdata()[0] == pytest.approx(1.0)
    assert main[0].get_ylabel() == "time (UTC)"
    assert any("charge\n0.997 mAh" == t.get_text() for t in main[-1].texts)


def test_drawn_anew_it_has_the_same_bytes(tree: xr.DataTree, tmp_path: Path) -> None:
    one, two = (figures.save(figures.operando(tree), tmp_path / f"{i}.svg").read_bytes() for i in (1, 2))
    assert one == two


def test_series_take_the_options_of_a_waterfall_and_channels_can_be_chosen(tree: xr.DataTree) -> None:
    def draw() -> Figure:
        how = {"x_range": (1.0, 1.5), "normalise": "exposure", "limits": (0.0, 1.0)}
        return figures.operando(tree, series={"xrd": how}, channels=("voltage", "charge"), elapsed=True, width="single", timezone="Europe/Paris")

    figure = draw()
    main, named = drawn_axes(figure)
    assert main[0].get_xlim() == (0.875, 1.625)
    assert main[0].get_ylabel() == "time since 2026-06-03 10:00:00 Europe/Paris (min)"
    assert "net charge\n(mAh)" in named


def test_a_stretch_of_time(tree: xr.DataTree) -> None:
    figure = figures.operando(tree, time_range=("2026-06-03T08:30", "2026-06-03T09:30"))
    main, _ = drawn_axes(figure)
    assert main[0].get_ylim() == pytest.approx([date2num(np.datetime64(f"2026-06-03T{t}")) for t in ("08:30", "09:30")], abs=1e-8)
    with pytest.raises(ContractError, match="no frame in time_range"):
        figures.operando(tree, time_range=("2027-06-03T08:30", "2027-06-03T09:30"))
    with pytest.raises(ContractError, match="does not go forward"):
        figures.operando(tree, time_range=("2027-06-03T08:30", "2027-06-03T08:30"))


def test_without_electrochemistry_and_without_spectra(tree: xr.DataTree) -> None:
    alone = xr.DataTree.from_dict({"/A/xrd/frames": tree["A/xrd/frames"].to_dataset()})
    assert len(drawn_axes(figures.operando(alone))[0]) == 1
    cycler = xr.DataTree.from_dict({"/A/echem/frames": tree["A/echem/frames"].to_dataset()})
    main, _ = drawn_axes(figures.operando(cycler))
    assert len(main) == 2
    assert main[0].get_ylabel() == "time (UTC)"
    empty = xr.DataTree.from_dict({"/A/holder/frames": tree["A/xrd/frames"].to_dataset().assign_attrs(technique="sensor")})
    with pytest.raises(ContractError, match="nothing to draw"):
        figures.operando(empty)


def test_what_is_not_there_is_told_with_what_is(tree: xr.DataTree) -> None:
    with pytest.raises(ContractError, match=r"no such cell\n  found:    'B'\n  expected: A"):
        figures.operando(tree, "B")
    with pytest.raises(ContractError, match="expected: xrd"):
        figures.operando(tree, series=["raman"])
    with pytest.raises(ContractError, match="x_range"):
        figures.operando(tree, series={"xrd": {"range": (1, 2)}})
    with pytest.raises(ContractError, match="A/echem: no such channel\n  found:    pressure"):
        figures.operando(tree, channels=("voltage", "pressure"))
    two = xr.DataTree.from_dict({"/A": xr.Dataset(), "/B": xr.Dataset()})
    with pytest.raises(ContractError, match="which cell"):
        figures.operando(two)


def test_utc_and_wall_clock_are_not_drawn_on_one_axis(tree: xr.DataTree) -> None:
    frames = tree["A/xrd/frames"].to_dataset().assign_attrs(timezone_source="none")
    mixed = xr.DataTree.from_dict({"/A/xrd/frames": frames, "/A/echem/frames": tree["A/echem/frames"].to_dataset()})
    with pytest.raises(ContractError, match="some of these series are on UTC"):
        figures.operando(mixed)
