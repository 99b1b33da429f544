"""A map shows each frame at its own time, and nothing where nothing was measured."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from operando import figures
from operando.contract import ClockError, ContractError
from operando.figures import bands as lie
from operando.figures.labels import label, printed
from operando.figures.maps import blocks, colour_range, edges_of, map_of
from operando.hdf5 import HDF5Array, variable

Patterns = Callable[..., xr.Dataset]
Moments = Callable[[Any], np.ndarray]


def drawn(figure: Figure) -> np.ndarray:
    """The figure as a print: rows, columns, RGBA."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def stretches(frames: xr.Dataset, **options: Any) -> list[tuple[float, float]]:
    """Beginning and end of each frame's band, in seconds after 08:00, in the order of the frames."""
    bands = lie.in_time(frames, np.arange(frames.sizes["time"]), **options)
    zero = np.datetime64("2026-06-03T08:00:00", "ns").astype(np.int64)
    order = np.argsort(bands.rows)
    return [((a - zero) / 1e9, (b - zero) / 1e9) for a, b in zip(bands.begin[order].tolist(), bands.stop[order].tolist(), strict=True)]


# --------------------------------------------------------------------------- where frames lie


def test_a_frame_lasts_until_the_next_and_a_gap_stays_a_gap(patterns: Patterns) -> None:
    middle = np.array([5.0, 25.0, 45.0, 65.0, 185.0, 205.0, 225.0])
    assert stretches(patterns(middle, 10.0)) == [(0, 20), (20, 40), (40, 60), (60, 80), (180, 200), (200, 220), (220, 240)]


def test_exposures_alone(patterns: Patterns) -> None:
    assert stretches(patterns(np.array([5.0, 25.0, 45.0]), 10.0), hold=0) == [(0, 10), (20, 30), (40, 50)]


def test_irregular_times_are_true_and_a_change_of_cadence_is_no_gap(patterns: Patterns) -> None:
    middle = np.concatenate([np.arange(30) * 10.0, 300 + np.arange(30) * 100.0]) + 2.0
    found = stretches(patterns(middle, 4.0))
    assert [a for a, _ in found] == (middle - 2).tolist()
    assert all(b == after for (_, b), (after, _) in zip(found, found[1:], strict=False))
    assert found[-1] == (3200, 3300)


def test_a_long_exposure_is_seen_whole_and_overlaps_go_to_the_later(patterns: Patterns) -> None:
    frames = patterns(np.array([50.0, 150.0, 800.0]), 100.0)
    frames["exposure"][2] = 400.0
    assert stretches(frames) == [(0, 100), (100, 200), (600, 1000)]
    frames = patterns(np.array([50.0, 120.0, 190.0]), 100.0)
    assert stretches(frames) == [(0, 70), (70, 140), (140, 240)]


def test_frames_of_a_clock_that_was_set_back_stand_where_their_times_say(patterns: Patterns) -> None:
    frames = patterns(np.array([100.0, 110.0, 120.0, 5.0, 15.0]), 10.0)
    assert stretches(frames) == [(95, 105), (105, 115), (115, 125), (0, 10), (10, 20)]


def test_one_frame_and_two(patterns: Patterns) -> None:
    assert stretches(patterns(np.array([5.0]), 10.0)) == [(0, 10)]
    assert stretches(patterns(np.array([5.0]), 0.0)) == [(5, 6)]
    assert stretches(patterns(np.array([5.0]), np.nan)) == [(5, 6)]
    assert stretches(patterns(np.array([5.0, 3605.0]), 10.0)) == [(0, 10), (3600, 3610)]
    with pytest.raises(ContractError, match="without an exposure"):
        stretches(patterns(np.array([5.0, 6.0]), 0.0), hold=0)
    figures.waterfall(patterns(np.array([5.0]), 10.0, points=1))


def test_the_map_covers_the_intervals_exactly(patterns: Patterns) -> None:
    frames = patterns(np.array([5.0, 25.0, 45.0, 65.0, 185.0, 205.0, 225.0]), 10.0)
    bands = lie.in_time(frames, np.arange(7))
    found, axis = map_of(frames, bands)
    assert axis.name == "q"
    zero = np.datetime64("2026-06-03T08:00:00", "ns").astype(np.int64)
    assert ((found.y - zero) / 1e9).tolist() == [0, 20, 40, 60, 80, 180, 200, 220, 240]
    assert np.isnan(found.values[4]).all()
    assert found.values[[0, 1, 2, 3, 5, 6, 7], 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.x.tolist() == [0.875, 1.125, 1.375, 1.625, 1.875, 2.125]


def test_a_gap_is_white_in_print_and_frames_have_their_colours(patterns: Patterns) -> None:
    frames = patterns(np.arange(5.0, 1000.0, 10.0), 10.0)
    frames = frames.isel(time=np.r_[0:40, 60:100])
    figure = figures.waterfall(frames, limits=(0.0, 100.0))
    picture = drawn(figure)
    box = figure.axes[0].get_window_extent()
    column = picture[::-1][int(box.y0) + 2 : int(box.y1) - 1, int((box.x0 + box.x1) / 2), :3]
    white = (column == 255).all(axis=1)
    share = np.flatnonzero(white) / column.shape[0]
    assert 0.38 < share[0] < 0.42
    assert 0.58 < share[-1] < 0.62
    assert white.sum() == share.size
    from matplotlib import colormaps

    colour = colormaps["viridis"](0.2)[:3]  # frame 20 of 0 ... 100
    assert np.abs(column[int(column.shape[0] * 0.205)] / 255 - colour).max() < 0.05


def test_the_axis_of_time_is_in_the_zone_that_is_asked_for(patterns: Patterns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    frames = patterns(np.arange(5.0, 7200.0, 10.0), 10.0)
    figure = figures.waterfall(frames, timezone="Asia/Tokyo")
    drawn(figure)
    axis = figure.axes[0].yaxis
    assert axis.label.get_text() == "time (Asia/Tokyo)"
    assert "17:30" in [t.get_text() for t in axis.get_ticklabels()]  # 08:30 UTC
    low, high = figure.axes[0].get_ylim()
    assert abs(low - date2num(np.datetime64("2026-06-03T08:00"))) * 86400 < 1e-3
    assert abs(high - date2num(np.datetime64("2026-06-03T10:00"))) * 86400 < 1e-3
    with pytest.raises(ClockError, match="not a time zone"):
        figures.waterfall(frames, timezone="Mars/Olympus")


def test_times_without_a_zone_are_said_to_have_none(patterns: Patterns) -> None:
    frames = patterns(np.arange(5.0, 100.0, 10.0))
    frames.attrs["timezone_source"] = "none"
    assert figures.waterfall(frames).axes[0].get_ylabel() == "time (as written, no zone)"


def test_elapsed_time_and_directions(patterns: Patterns) -> None:
    frames = patterns(np.arange(1805.0, 40000.0, 10.0), 10.0)
    axes = figures.waterfall(frames, against="elapsed", running="right").axes[0]
    assert axes.get_xlabel() == "time since 2026-06-03 08:30:00 UTC (h)"
    assert axes.get_xlim() == pytest.approx((0, 38200 / 3600))
    assert axes.get_ylabel() == "q (Å⁻¹)"
    low, high = figures.waterfall(frames, running="down").axes[0].get_ylim()
    assert low > high


# --------------------------------------------------------------------------- charge


def charged(patterns: Patterns) -> xr.Dataset:
    """1 C/s forth for 50 frames of 10 s, 10 frames of rest, back for 50."""
    current = np.concatenate([np.full(50, 1.0), np.zeros(10), np.full(50, -1.0)])
    middle = np.arange(110) * 10.0 + 5
    charge = np.cumsum(current * 10) - current * 5
    half = np.r_[np.zeros(60, np.int32), np.ones(50, np.int32)]
    frames = patterns(middle, 10.0, half_cycle=half, direction=np.sign(current).astype(np.int8), flags=np.zeros(110, np.int32))
    return frames.assign_coords(charge=("time", charge, {"units": "C"}), current=("time", current, {"units": "A"}))


def test_the_charge_that_passed_never_goes_back(patterns: Patterns) -> None:
    frames = charged(patterns)
    bands = lie.along_charge(frames, lie.in_time(frames, np.arange(110)))
    assert (np.diff(bands.low) > 0).all()
    assert (bands.high > bands.low).all()
    assert bands.low[0] == 0
    assert bands.high[-1] == pytest.approx(1000 / 3.6e3 * 1e3, rel=1e-9)  # 1000 C in mAh
    assert bands.low[20] == pytest.approx(200 / 3.6, rel=1e-9)
    figure = figures.waterfall(frames, against="charge")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "charge passed (mAh)"
    assert "at rest" in axes.get_title("right")
    assert [line.get_ydata()[0] for line in axes.lines] == [pytest.approx(500 / 3.6, rel=0.02)]


def test_one_half_cycle_can_be_drawn(patterns: Patterns) -> None:
    frames = charged(patterns)
    figure = figures.waterfall(frames.isel(time=frames.half_cycle.values == 1), against="charge")
    assert figure.axes[0].get_ylim() == pytest.approx((0, 500 / 3.6))
    assert not figure.axes[0].lines


def test_what_is_missing_for_a_charge_axis_is_said(patterns: Patterns) -> None:
    frames = charged(patterns)
    frames["charge"][:] = np.nan
    frames["flags"][:] = 1024
    with pytest.raises(ContractError, match=r"A/xrd: no frame has a charge\n  found:    110 frames without one \(UNALIGNED\)"):
        figures.waterfall(frames, against="charge")
    figures.waterfall(frames)  # frames without electrochemistry are drawn against time
    frames = charged(patterns)
    frames["charge"][:3] = np.nan
    frames["flags"][:3] = 1
    assert "3 without charge (OUTSIDE)" in figures.waterfall(frames, against="charge").axes[0].get_title("right")
    with pytest.raises(ContractError, match="have no charge"):
        figures.waterfall(patterns(np.arange(5.0)), against="charge")
    with pytest.raises(ContractError, match="no charge passed"):
        figures.waterfall(charged(patterns).isel(time=slice(52, 58)), against="charge")


# --------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize(
    ("units", "text"),
    [
        ("1/angstrom", "Å⁻¹"),
        ("1/cm", "cm⁻¹"),
        ("mA*h/g", "mAh g⁻¹"),
        ("mA*h/cm^2", "mAh cm⁻²"),
        ("counts/s", "counts s⁻¹"),
        ("ohm", "Ω"),
        ("degC", "°C"),
        ("eV", "eV"),
        ("1", "1"),
        ("1/angstrom^2", "Å⁻²"),
        ("V/s", "V s⁻¹"),
        ("arb. units", "arb. units"),
        ("?", "?"),
    ],
)
def test_units_in_print(units: str, text: str) -> None:
    assert printed(units) == text


def test_every_axis_has_its_unit(patterns: Patterns) -> None:
    frames = patterns(np.arange(5.0, 100.0, 10.0))
    figure = figures.waterfall(frames)
    assert figure.axes[0].get_xlabel() == "q (Å⁻¹)"
    assert figure.axes[1].get_ylabel() == "intensity (counts)"
    raman = frames.rename(q="raman_shift").assign_attrs(technique="raman")
    raman["raman_shift"].attrs["units"] = "1/cm"
    assert figures.waterfall(raman).axes[0].get_xlabel() == "Raman shift (cm⁻¹)"
    odd = xr.Variable("time", [1.0], {"units": "degC", "long_name": "temperature (degC)"})
    assert label("holder", odd) == "temperature (°C)"


def test_infrared_is_read_downwards_and_falling_axes_are_drawn_right(patterns: Patterns) -> None:
    frames = patterns(np.arange(5.0, 100.0, 10.0)).rename(q="wavenumber", intensity="absorbance").assign_attrs(technique="ir")
    frames = frames.assign_coords(wavenumber=("wavenumber", [4000.0, 3000.0, 2000.0, 1000.0, 500.0], {"units": "1/cm"}))
    frames["absorbance"][:] = np.arange(5.0)
    axes = figures.waterfall(frames).axes[0]
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    found, _ = map_of(frames, lie.in_time(frames, np.arange(10)))
    assert (np.diff(found.x) < 0).all()
    assert found.values[0].tolist() == [0, 1, 2, 3, 4]


def test_normalising(patterns: Patterns) -> None:
    monitor = np.array([2.0, 4.0, 0.0, 8.0, 10.0])
    frames = patterns(np.arange(5) * 10.0, 5.0, monitor=monitor)
    frames["monitor"].attrs["units"] = "counts"
    bands = lie.in_time(frames, np.arange(5))
    by, _ = map_of(frames, bands, normalise="monitor")
    assert by.values[[0, 1, 3, 4], 0] == pytest.approx([0, 0.25, 0.375, 0.4])
    assert np.isnan(by.values[2]).all()
    assert by.label == "intensity / monitor (1)"
    by, _ = map_of(frames, bands, normalise="exposure")
    assert by.values[:, 0] == pytest.approx(np.arange(5) / 5)
    assert by.label == "intensity / exposure (counts s⁻¹)"
    frames["intensity"][1] = [1.0, 2.0, 3.0, np.nan, 6.0]
    by, _ = map_of(frames, bands, normalise="mean")
    assert by.values[1] == pytest.approx([1 / 3, 2 / 3, 1, np.nan, 2], nan_ok=True)
    by, _ = map_of(frames, bands, normalise="maximum", x_range=(1.0, 1.5))
    assert by.values[1] == pytest.approx([1 / 3, 2 / 3, 1])
    assert np.isnan(by.values[0]).all()  # its maximum is 0
    with pytest.raises(ContractError, match="no 'monitor' to divide by"):
        figures.waterfall(patterns(np.arange(5.0)), normalise="monitor")


def test_one_position_is_drawn_and_named(patterns: Patterns) -> None:
    frames = patterns(np.arange(10) * 10.0, 10.0, position=np.arange(10) % 2 + 1)
    figure = figures.waterfall(frames)
    assert figure.axes[0].get_title("right") == "position 1 of 1, 2"
    rows, _ = lie.at_position(frames, "2")
    assert rows.tolist() == [1, 3, 5, 7, 9]
    with pytest.raises(ContractError, match="1, 2"):
        figures.waterfall(frames, position=3)


def test_nothing_to_see_is_said_without_a_warning(patterns: Patterns) -> None:
    frames = patterns(np.arange(5) * 10.0)
    frames["intensity"][:] = np.nan
    figure = figures.waterfall(frames)
    drawn(figure)
    assert figure.axes[0].get_title("right") == "no finite value"
    frames["intensity"][:] = 7.0  # no contrast
    drawn(figures.waterfall(frames))


def test_pointed_ends_of_the_bar_say_that_numbers_lie_beyond() -> None:
    assert colour_range(np.arange(11.0), (0.0, 10.0)) == (0, 10, "neither")
    assert colour_range(np.arange(11.0), (2.0, 20.0)) == (2, 20, "min")
    assert colour_range(np.array([0.0] * 999 + [1e6]), None)[2] == "max"
    low, high, beyond = colour_range(np.full(3, np.nan), None)
    assert (low, high, beyond) == (0, 1, "neither")


def test_integers_flagged_frames_and_axes_of_ones_own(patterns: Patterns) -> None:
    frames = patterns(np.arange(5) * 10.0, 10.0)
    frames["intensity"] = frames["intensity"].astype(np.int64)
    frames["quality"][2] = 1  # a beam dump is drawn as it is
    found, _ = map_of(frames, lie.in_time(frames, np.arange(5)))
    assert found.values[:, 0].tolist() == [0, 1, 2, 3, 4]
    own = Figure(layout="constrained")
    ax = own.subplots()
    assert figures.waterfall(frames, ax=ax) is own
    assert len(ax.images) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"against": "voltage"}, "time, elapsed, charge"),
        ({"running": "left"}, "up, down, right"),
        ({"signal": "mu"}, "intensity"),
        ({"axis": "two_theta"}, "q"),
        ({"x_range": (5.0, 6.0)}, "1 to 2"),
        ({"normalise": "area"}, "monitor, exposure, mean, maximum"),
        ({"position": 1}, "have no positions"),
        ({"width": "triple"}, "single, double"),
    ],
)
def test_a_wrong_request_is_told_what_there_is(patterns: Patterns, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        figures.waterfall(patterns(np.arange(5.0)), **options)


def test_no_map_of_impedance_or_of_nothing(patterns: Patterns) -> None:
    frames = patterns(np.arange(5.0))
    complex_ = frames.assign(impedance=(("time", "point"), np.ones((5, 3), complex), {"units": "ohm"})).drop_vars("intensity")
    with pytest.raises(ContractError, match="no such spectra"):
        figures.waterfall(complex_.assign_attrs(technique="eis"))
    with pytest.raises(ContractError, match="no frames to draw"):
        figures.waterfall(frames.isel(time=slice(0)))


# --------------------------------------------------------------------------- size


def test_blocks_never_cross_a_gap_that_can_be_seen() -> None:
    low = np.arange(1000.0)
    low[500:] += 300
    starts = blocks(low, low + 1, 100)
    assert 500 in starts
    assert starts.size <= 102
    assert np.array_equal(blocks(low[:50], low[:50] + 1, 100), np.arange(50))
    many = np.arange(1000.0) * 2  # 999 gaps, none of which 100 rows can show
    assert blocks(many, many + 1, 100).size == 100


def test_averages_are_those_of_numpy_whatever_is_missing(patterns: Patterns) -> None:
    rng = np.random.default_rng(1)
    frames = patterns(np.arange(103) * 10.0, 10.0, points=57)
    values = rng.normal(size=(103, 57))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[40:44] = np.nan
    frames["intensity"][:] = values
    found, _ = map_of(frames, lie.in_time(frames, np.arange(103)), most=(26, 10))
    assert found.values.shape == (26, 10)
    for i in range(26):
        for j in range(10):
            block = values[4 * i : 4 * i + 4, 6 * j : 6 * j + 6]
            expected = np.nan if np.isnan(block).all() else np.nanmean(block)
            assert found.values[i, j] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert found.x[[0, -1]].tolist() == edges_of(frames.q.values)[[0, -1]].tolist()


def test_a_huge_series_is_drawn_in_bounded_memory_and_only_what_is_drawn_is_read(
    tmp_path: Path, moments: Moments, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, points = 12_000, 4_096
    with h5py.File(tmp_path / "big.h5", "w") as file:
        made = file.create_dataset("intensity", (n, points), "f4", chunks=(64, 256), fillvalue=1.0)
        made[:64] = 3.0
    read: list[int] = []
    true = HDF5Array.read
    monkeypatch.setattr(HDF5Array, "read", lambda self, key: (out := true(self, key), read.append(out.size))[0])
    lazy = variable(HDF5Array(tmp_path / "big.h5", "intensity"), ("time", "q"), {"units": "counts"})
    frames = xr.Dataset(
        {"intensity": lazy},
        coords={"time": moments(np.arange(n) * 10.0), "q": ("q", np.linspace(1, 5, points), {"units": "1/angstrom"})},
        attrs={"technique": "xrd"},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figure = figures.waterfall(frames)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 150  # MB; the series is 197 MB, and 393 MB as the float64 it is averaged in
    assert sum(read) == n * points
    assert max(read) <= 2**21
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape[0] * picture.shape[1] < 4000 * 4000
    assert picture[0, 0] == 3.0
    read.clear()
    figures.waterfall(frames.isel(time=slice(0, 500)), x_range=(1.0, 1.5))
    assert sum(read) == 500 * 512


def test_exposures_thinner_than_print_are_still_seen(patterns: Patterns) -> None:
    frames = patterns(np.arange(20) * 5000.0 + 1, 1.0)
    frames["intensity"][:] = 5.0
    figure = figures.waterfall(frames, hold=0, limits=(0.0, 5.0))
    figure.set_dpi(300)
    picture = drawn(figure)
    box = figure.axes[0].get_window_extent()
    column = picture[::-1][int(box.y0) : int(box.y1) + 1, int((box.x0 + box.x1) / 2), :3]
    yellow = ((column[:, 0] > 200) & (column[:, 2] < 128)).astype(int)
    assert np.count_nonzero(np.diff(yellow, prepend=0) == 1) == 20


# --------------------------------------------------------------------------- files


def test_the_same_figure_is_the_same_file(patterns: Patterns, tmp_path: Path) -> None:
    frames = patterns(np.arange(50) * 10.0, 10.0)
    for suffix in ("svg", "pdf", "png"):
        one, two = (figures.save(figures.waterfall(frames), tmp_path / f"{i}.{suffix}").read_bytes() for i in (1, 2))
        assert one == two
    text = (tmp_path / "1.svg").read_text()
    assert "q (Å⁻¹)" in text  # text is text
    assert "<dc:date>" not in text
    assert not [p for p in tmp_path.iterdir() if "writing" in p.name]
    sizes = [float(v) for v in re.findall(r"font-size: (\d+(?:\.\d+)?)px", text)]
    assert sizes
    assert min(sizes) >= 7
    assert re.search(r'width="252\.2\d+pt"', text)  # 89 mm


def test_no_display_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from operando import figures\n"
        "t = np.datetime64('2026-06-03', 'ns') + np.arange(3) * np.timedelta64(10, 's')\n"
        "ds = xr.Dataset({'mu': (('time', 'energy'), np.ones((3, 2)), {'units': '1'})},\n"
        "    coords={'time': t, 'energy': ('energy', [1.0, 2.0], {'units': 'eV'})}, attrs={'technique': 'xas'})\n"
        "figures.save(figures.waterfall(ds), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True, env=env)
    assert (tmp_path / "a.png").stat().st_size > 1000
