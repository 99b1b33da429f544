"""Frames on the electrochemical timeline: truth by direct integration, honest flags, no signal touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from operando.contract import AlignmentFlag as F
from operando.contract import ClockError, series
from operando.timeline import Clock, align, align_frames, annotate, echem_timeline, localise, restart_segments

ZERO = np.datetime64("2026-06-03T08:00:00", "ns")


def at(seconds):
    return ZERO + np.round(np.asarray(seconds, float) * 1e9).astype("timedelta64[ns]")


def frames(elapsed, exposure=10.0, *, uncertainty=0.0, segment=0, origin="header", **coords):
    n = len(elapsed)
    axes = {"energy": ("energy", [1.0, 2.0], "eV")} | {k: ("time", v, "1") for k, v in coords.items()}
    return series(
        "xas",
        {"mu": (("time", "energy"), np.zeros((n, 2)), "1")},
        coords=axes,
        source="scan.dat",
        start=at(0),
        utc=True,
        elapsed=elapsed,
        exposure=exposure,
        segment=segment,
        time_uncertainty=uncertainty,
        time_origin=origin,
    )


def cell(elapsed, voltage, current, *, interval="ending", source="cell.mpt", **more):
    variables = {
        "voltage": ("time", np.asarray(voltage, float), "V"),
        "current": ("time", np.asarray(current, float), "A", {"interval": interval}),
    }
    variables |= {k: ("time", np.asarray(v), "C" if k == "charge" else "V" if k.startswith("potential") else "1") for k, v in more.items()}
    return series("echem", variables, source=source, start=at(0), utc=True, elapsed=elapsed, time_origin="header")


def pulses(n=2000):
    """Charge with pulses: 40 mV steps, records on a grid that is not that of the frames."""
    rng = np.random.default_rng(5)
    t = np.cumsum(rng.uniform(2.0, 9.0, n))
    current = np.where(np.arange(n) % 100 < 60, 1e-3, 0.0)
    voltage = 3.6 + t / 4e4 + 40.0 * current + 2e-4 * rng.standard_normal(n)
    return t, voltage, current


def test_everything_is_the_integral_over_the_exposure():
    t, v, i = pulses()
    echem = cell(t, v, i)
    starts = np.arange(50, 8000, 137.0)
    found = align_frames(frames(starts, 65.0), echem)
    steps = np.flatnonzero(np.diff(i)) + 1
    charge = np.concatenate([[0.0], np.cumsum(i[1:] * np.diff(t))])
    for k, start in enumerate(starts):
        x = start + (np.arange(200_000) + 0.5) / 200_000 * 65.0
        at_ = np.searchsorted(t, x, side="right") - 1
        part = (x - t[at_]) / (t[at_ + 1] - t[at_])
        line = np.where(np.isin(at_ + 1, steps), v[at_], v[at_] + part * (v[at_ + 1] - v[at_]))
        assert found.voltage.values[k] == pytest.approx(line.mean(), abs=1e-6)
        assert found.voltage_std.values[k] == pytest.approx(line.std(), abs=2e-6)
        assert found.voltage_slope.values[k] == pytest.approx(np.polyfit(x - x[0], line, 1)[0], rel=1e-3, abs=1e-8)
        assert found.current.values[k] == pytest.approx(i[at_ + 1].mean(), abs=1e-8)
        assert found.charge.values[k] == pytest.approx(np.interp(x, t, charge).mean(), abs=1e-6)
        inside = ((t[steps] > start) & (t[steps] < start + 65)).any()
        assert bool(found["flags"].values[k] & F.STEP_INSIDE) == inside
    assert (found.coverage == 1).all()
    assert "held" in found.attrs["interpolation"]


def test_outside_is_nan_and_never_the_nearest_record():
    echem = cell(np.arange(100.0, 201.0), np.linspace(3, 4, 101), 1.0 + np.zeros(101), step=np.ones(101, int))
    found = align_frames(frames([0.0, 89.0, 95.0, 150.0, 195.0, 201.0]), echem)
    assert found["flags"].values.tolist() == [F.OUTSIDE, F.OUTSIDE, F.PARTIAL, 0, F.PARTIAL, F.OUTSIDE]
    np.testing.assert_array_equal(np.isnan(found.voltage), [True, True, False, False, False, True])
    np.testing.assert_allclose(found.coverage, [0, 0, 0.5, 1, 0.5, 0])
    assert found.voltage.values[2] == pytest.approx(3.025)  # the mean of the part that is covered
    assert found.cycle.values.tolist() == [-1, -1, 1, 1, 1, -1]
    assert found.step.values.tolist() == [-1, -1, 1, 1, 1, -1]
    assert found.direction.values.tolist() == [0, 0, 1, 1, 1, 0]
    for name in ("cycle", "half_cycle", "step", "direction", "flags", "segment"):
        assert found[name].dtype.kind == "i"
    outside = found.isel(time=0)
    for name in ("voltage", "voltage_std", "voltage_errors", "voltage_slope", "current", "current_std", "charge", "soc"):
        assert np.isnan(outside[name]), name


def test_a_gap_is_a_pause():
    t = np.concatenate([np.arange(0, 100.0), np.arange(2000, 2100.0)])
    found = align_frames(frames([50, 95, 1000, 1995, 2050.0]), cell(t, 3.0 + t / 1e4, np.zeros(200)))
    assert found["flags"].values.tolist() == [0, F.PARTIAL | F.PAUSE, F.PAUSE, F.PARTIAL | F.PAUSE, 0]
    np.testing.assert_allclose(found.coverage, [1, 0.4, 0, 0.5, 1])
    assert np.isnan(found.voltage.values[2])
    assert found.half_cycle.values[2] == -1
    assert found.voltage.values[1] == pytest.approx(3.0 + 97 / 1e4)


def test_frames_without_exposure_take_the_moment():
    echem = cell(np.arange(0, 100.0, 10), np.arange(10.0), np.arange(10.0) + 1)
    found = align_frames(frames([25.0, 30.0, 90.0, 91.0], 0.0), echem)
    np.testing.assert_allclose(found.voltage, [2.5, 3.0, 9.0, np.nan])
    np.testing.assert_allclose(found.current, [4.0, 4.0, 10.0, np.nan])  # ends at 30
    assert found.coverage.values.tolist() == [1, 1, 1, 0]
    unknown = frames([25.0], np.nan)
    assert align_frames(unknown, echem).voltage.values[0] == pytest.approx(2.5)


def test_states_are_those_of_the_middle():
    t = np.arange(100.0)
    i = np.where(t < 50, 1.0, -1.0)
    found = align_frames(frames([0.0, 43.0, 46.0, 80.0]), cell(t, t, i, cycle=np.where(t < 50, 1, 2), half_cycle=np.where(t < 50, 1, 2)))
    assert found.direction.values.tolist() == [1, 1, -1, -1]
    assert found.half_cycle.values.tolist() == [1, 1, 2, 2]


def test_the_clock_moves_the_frames():
    t = np.arange(1000.0)
    echem = cell(t, t / 1000, np.zeros(1000))
    found = align_frames(frames([100.0, 200.0]), echem, Clock(offset=-30.0, drift=1e-3, uncertainty=2.0))
    np.testing.assert_allclose(found.voltage, [0.075, 0.1751])
    assert ((found.time - found.source_time).values / np.timedelta64(1, "ms")).tolist() == [-30000, -29900]
    np.testing.assert_allclose(found.time_errors, 2.0)
    clock = json.loads(found.attrs["clock"])["0"]
    assert clock["offset"] == -30.0
    assert clock["at"].startswith("2026-06-03T08:01:45")  # the middle of the first frame, from now on fixed
    assert found.attrs["clock_text"].startswith("-30 s +1000 ppm from 2026-06-03T08:01:45Z +- 2 s")


def test_each_segment_is_moved_by_its_clock():
    t = np.arange(1000.0)
    series_ = frames([100.0, 200.0, 150.0], segment=[0, 0, 1])
    found = align_frames(series_, cell(t, t / 1000, np.zeros(1000)), {0: Clock(10.0)})
    np.testing.assert_allclose(found.voltage, [0.115, 0.215, 0.155])
    assert [bool(x & F.TIME_UNCERTAIN) for x in found["flags"].values] == [False, False, True]
    assert found.segment.values.tolist() == [0, 0, 1]


def test_stamp_and_clock_add_in_quadrature():
    found = align_frames(frames([0.0, 5.0], 1.0, uncertainty=0.3), None, Clock(uncertainty=0.4))
    np.testing.assert_allclose(found.time_errors, 0.5)


def test_errors_of_a_straight_line_are_slope_times_sigma():
    t = np.arange(1000.0)
    found = align_frames(frames([100.0, 500.0]), cell(t, t * 1e-3, 1e-3 * t), Clock(uncertainty=3.0))
    np.testing.assert_allclose(found.voltage_errors, 3e-3, rtol=1e-9)
    np.testing.assert_allclose(found.current_errors, 3e-3, rtol=1e-2)  # a staircase of 1 s
    assert found.voltage.attrs["ancillary_variables"] == "voltage_errors"


def test_no_uncertainty_no_errors():
    t = np.arange(1000.0)
    found = align_frames(frames([100.0]), cell(t, t * 1e-3, np.zeros(1000)))
    assert found.voltage_errors.values.tolist() == [0.0]


def drawn(echem, middles, exposure, sigma, n=1500):
    """Mean and spread of each channel over clocks drawn at random: evenly out to 7 sigma, each counted by its probability."""
    z = 14 * (np.arange(n) + np.random.default_rng(0).random(n)) / n - 7
    share = np.exp(-(z**2) / 2)
    share /= share.sum()
    places = np.add.outer(np.asarray(middles) - exposure / 2, sigma * z)
    found = align_frames(frames(places.ravel(), exposure), echem)
    out = {}
    for name in ("voltage", "current"):
        values = found[name].values.reshape(places.shape)
        mean = values @ share
        out[name] = np.sqrt((values - mean[:, None]) ** 2 @ share)
    return out


@pytest.mark.parametrize("sigma", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("exposure", [0.0, 10.0, 65.0])
@pytest.mark.parametrize("interval", ["ending", "starting"])
def test_errors_at_a_step_are_those_of_a_clock_drawn_at_random(exposure, sigma, interval):
    """An IR step of 25 mV, 0 to 5 sigma before and after an edge of the exposure: never blind to it, at most its worst case."""
    t = np.arange(0.0, 4001.0, 4.0)
    i = np.where(t <= 2000, 1e-3, 0.0)
    v = 3.8 + 25.0 * i + 1e-6 * t
    echem = cell(t, v, i, interval=interval)
    echem = annotate(echem, echem_timeline(echem))
    away = np.array([0.0, 0.3, 0.7, 1.0, 1.3, 1.75, 1.9, 2.2, 2.6, 3.0, 3.3, 3.7, 4.0, 4.4, 4.7, 5.0]) * sigma + exposure / 2
    middles = 2004.0 + np.concatenate([-away, away, [0.0]])  # the step happens at the record of 2004 s
    found = align_frames(frames(middles - exposure / 2, exposure), echem, Clock(uncertainty=sigma))
    truth = drawn(echem, middles, exposure, sigma)
    for name, least in (("voltage", 1e-5), ("current", 4e-7)):
        told = found[f"{name}_errors"].values
        assert (told >= 0.85 * truth[name])[truth[name] > least].all()
        assert (told <= 1.6 * truth[name] + least).all()


def test_errors_of_a_smooth_signal_are_those_of_a_clock_drawn_at_random():
    rng = np.random.default_rng(4)
    t = np.cumsum(rng.uniform(2.0, 40.0, 600))
    echem = cell(t, 3.7 + 0.2 * np.sin(t / 900) + t / 1e5, 1e-3 + 1e-4 * np.sin(t / 700))
    middles = rng.uniform(700, t[-1] - 700, 60)
    for exposure in (0.0, 65.0):
        found = align_frames(frames(middles - exposure / 2, exposure), echem, Clock(uncertainty=60.0))
        for name, truth in drawn(echem, middles, exposure, 60.0).items():
            ratio = found[f"{name}_errors"].values / truth
            assert 0.8 <= ratio.min() <= np.median(ratio) <= 1.1, name
            assert ratio.max() <= 1.6, name


def test_errors_of_a_staircase_and_of_noise_are_those_of_a_clock_drawn_at_random():
    """Records far apart whose current changes by less than a step; noise, of which an instant sees one value."""
    rng = np.random.default_rng(4)
    t = np.arange(0.0, 12_000.0, 60.0)
    echem = cell(t, 3.7 + 1e-4 * rng.standard_normal(t.size), 1e-3 * np.exp(-t / 900))
    middles = rng.uniform(700, 4000, 60)
    for sigma in (4.0, 10.0, 60.0):
        found = align_frames(frames(middles, 0.0), echem, Clock(uncertainty=sigma))
        truth = drawn(echem, middles, 0.0, sigma)
        for name, least in (("voltage", 1e-5), ("current", 1e-7)):
            assert (found[f"{name}_errors"].values >= 0.85 * truth[name])[truth[name] > least].all(), (name, sigma)


def test_errors_beside_a_pause_come_from_the_side_that_is_known():
    t = np.r_[np.arange(0.0, 1000.0, 5.0), np.arange(9000.0, 10_000.0, 5.0)]
    echem = cell(t, 3.7 + 1e-4 * np.where(t > 5000, t - 8000, t), np.ones(t.size))
    for exposure in (0.0, 20.0):
        found = align_frames(frames(np.array([960.0, 9020.0]), exposure), echem, Clock(uncertainty=30.0))
        np.testing.assert_allclose(found.voltage_errors, 3e-3, rtol=0.25)


def test_errors_where_values_are_missing():
    t = np.arange(0.0, 1000.0, 5.0)
    v = np.where((t > 300) & (t < 400), np.nan, 3.7 + 1e-4 * t)
    for exposure in (0.0, 20.0):
        found = align_frames(frames([100.0, 270.0, 350.0], exposure), cell(t, v, np.ones(t.size)), Clock(uncertainty=20.0))
        np.testing.assert_allclose(found.voltage_errors[:2], 2e-3, rtol=0.25)
        assert np.isnan(found.voltage_errors[2])


def test_a_short_pulse_seen_by_chance_is_not_certain():
    """The reported mean is the top of a pulse that hardly another draw of the clock would meet."""
    t = np.arange(0.0, 2000.0, 1.0)
    i = np.where((t > 1000) & (t <= 1004), 1e-3, 0.0)
    found = align_frames(frames([1002.0], 0.0), cell(t, 3.7 + 25 * i, i), Clock(uncertainty=30.0))
    assert found.voltage_errors.values[0] == pytest.approx(0.025, rel=0.1)


def test_errors_at_the_end_of_the_record_are_known():
    t = np.arange(100.0)
    found = align_frames(frames([0.0, 89.0]), cell(t, t * 1e-3, np.zeros(100)), Clock(uncertainty=20.0))
    assert (found.voltage_errors > 5e-3).all()


def test_late_electrochemistry():
    series_ = frames([10.0, 20.0])
    early = align_frames(series_, None, Clock(5.0))
    assert (early["flags"] & F.UNALIGNED != 0).all()
    assert ((early.time - early.source_time) == np.timedelta64(5, "s")).all()
    late = align_frames(series_, cell(np.arange(100.0), np.arange(100.0), np.zeros(100)), Clock(5.0))
    assert (late["flags"] & F.UNALIGNED == 0).all()
    np.testing.assert_allclose(late.voltage, [20, 30])
    assert set(early.variables) == set(late.variables)
    assert {k: (v.dtype, v.attrs.get("units")) for k, v in early.variables.items()} == {
        k: (v.dtype, v.attrs.get("units")) for k, v in late.variables.items()
    }
    nothing = cell(np.arange(3.0), np.arange(3.0), np.zeros(3)).isel(time=slice(0, 0))
    assert (align_frames(series_, nothing)["flags"] & F.UNALIGNED != 0).all()


def test_sweeps():
    echem = cell(np.arange(100.0), np.arange(100.0), np.zeros(100))
    series_ = frames([0.0, 20.0, 35.0, 60.0])
    rows = np.array([at([30.0, 40.0]), at([5.0, 8.0]), at([6.0, 7.0])])
    assert [bool(x & F.IN_EIS) for x in align_frames(series_, echem, sweeps=rows)["flags"].values] == [True, False, True, False]
    sweeps = series(
        "eis",
        {"impedance": (("time", "point"), np.zeros((2, 3), complex), "ohm")},
        coords={"frequency": (("time", "point"), np.ones((2, 3)), "Hz")},
        source="eis.mpt",
        start=at(0),
        utc=True,
        elapsed=[30.0, 5.0],
        exposure=[10.0, 3.0],
        segment=[0, 1],
        time_origin="header",
    )
    assert [bool(x & F.IN_EIS) for x in align_frames(series_, echem, sweeps=sweeps)["flags"].values] == [True, False, True, False]
    assert not (align_frames(series_, echem, sweeps=[])["flags"] & F.IN_EIS).any()
    with pytest.raises(ClockError, match="sweep 0"):
        align_frames(series_, echem, sweeps=rows[:, ::-1])
    with pytest.raises(ClockError, match="not intervals"):
        align_frames(series_, echem, sweeps=[1, 2, 3])


def test_flags_of_the_clock():
    series_ = frames([10.0, 20.0], origin="mtime", uncertainty=20.0)
    flags = align_frames(series_, None, Clock(1.0, method="physics"))["flags"].values
    assert (flags == F.MTIME_ONLY | F.TIME_UNCERTAIN | F.CLOCK_FROM_PHYSICS | F.UNALIGNED).all()
    assumed = series(
        "sensor",
        {"t": ("time", [1.0, 2.0, 3.0], "degC", {"sampling": "continuous"})},
        source="log.csv",
        start=["2026-10-25T01:40", "2026-10-25T01:55", "2026-10-25T02:10"],
        time_origin="header",
    )
    flags = align(assumed, None, timezone="Europe/Paris")["flags"].values & F.ZONE_ASSUMED
    assert flags.tolist() == [0, 0, F.ZONE_ASSUMED]


def test_flags_of_the_order():
    series_ = frames([10.0, 20.0, 30.0, 15.0, 20.0, 40.0], segment=[0, 0, 0, 1, 1, 1])
    flags = align_frames(series_, None)["flags"].values & (F.NONMONOTONIC | F.DUPLICATE)
    both = F.NONMONOTONIC | F.DUPLICATE
    assert flags.tolist() == [0, F.DUPLICATE, 0, F.NONMONOTONIC, both, 0]
    spots = frames([10.0, 10.0], position=[1, 2])
    assert not (align_frames(spots, None)["flags"].values & F.DUPLICATE).any()


def test_frames_where_the_cycler_claims_a_time_twice():
    t = np.concatenate([np.arange(100.0), 50 + np.arange(100.0)])
    echem = restart_segments(cell(t, np.repeat([3.0, 4.0], 100), np.ones(200)))
    found = align_frames(frames([10.0, 60.0, 120.0]), echem)
    np.testing.assert_allclose(found.voltage, [3, 3, 4])
    assert [bool(x & F.NONMONOTONIC) for x in found["flags"].values] == [False, True, False]


def sensor(values, sampling, *, period=1.0, **attrs):
    values = np.asarray(values, float)
    variables = {"temperature": ("time", values, "degC", {"sampling": sampling, **attrs})}
    return series("sensor", variables, source="log.csv", start=at(0), utc=True, elapsed=np.arange(values.size) * period, time_origin="header")


def test_sensors_are_averaged_by_what_they_are():
    log = np.arange(100.0)
    found = align_frames(frames([10.0, 95.0, 200.0]), None, sensors={"oven": sensor(log, "continuous")})
    np.testing.assert_allclose(found.temperature, [15.0, 97.0, np.nan])
    assert found.temperature.attrs["units"] == "degC"
    np.testing.assert_allclose(found.temperature_std.values[0], 10 / np.sqrt(12))
    stepped = align_frames(frames([10.0]), None, sensors={"oven": sensor(log, "step")})
    np.testing.assert_allclose(stepped.temperature, [14.5])
    for kind in ("event", "sample"):
        nearest = align_frames(frames([10.2, 200.0]), None, sensors={"oven": sensor(log, kind)})
        np.testing.assert_allclose(nearest.temperature, [15.0, np.nan])
    late = align_frames(frames([10.0]), None, sensors={"gas": sensor(log, "continuous", transport_delay=7.0)})
    np.testing.assert_allclose(late.temperature, [22.0])
    assert late.temperature.attrs["transport_delay_s"] == 7.0
    two = align_frames(frames([10.0]), None, sensors={"oven": sensor(log, "continuous"), "stage": sensor(log + 1, "sample")})
    np.testing.assert_allclose([two.temperature.values[0], two.stage_temperature.values[0]], [15.0, 16.0])
    with pytest.raises(ClockError, match="not a number of seconds"):
        align_frames(frames([10.0]), None, sensors={"gas": sensor(log, "step", transport_delay="long")})


def test_potentials_come_along():
    t = np.arange(100.0)
    found = align_frames(frames([10.0]), cell(t, t, np.zeros(100), potential_we=t + 1, potential_ce=t - 1))
    np.testing.assert_allclose([found.potential_we, found.potential_ce], [[16.0], [14.0]])
    assert found.potential_we.attrs["units"] == "V"


def test_missing_voltage_is_missing_only_there():
    t = np.arange(100.0)
    v = np.where((t > 40) & (t < 60), np.nan, 3.5)
    found = align_frames(frames([10.0, 45.0, 80.0]), cell(t, v, np.ones(100)))
    np.testing.assert_allclose(found.voltage, [3.5, np.nan, 3.5])
    np.testing.assert_allclose(found.current, 1.0)
    assert not found["flags"].values.any()


def test_raw_and_joined_electrochemistry_give_the_same():
    t, v, i = pulses(400)
    raw = cell(t, v, i)
    joined = annotate(raw, echem_timeline(raw))
    series_ = frames(np.arange(50, 1500, 33.0))
    xr.testing.assert_identical(align_frames(series_, raw), align_frames(series_, joined))


def test_batches_do_not_matter(monkeypatch):
    from operando.timeline import uncertainty

    t, v, i = pulses(400)
    series_ = frames(np.arange(50, 1500, 33.0))
    whole = align_frames(series_, cell(t, v, i), Clock(uncertainty=2.0))
    monkeypatch.setattr(uncertainty, "_BATCH", 7)
    xr.testing.assert_allclose(align_frames(series_, cell(t, v, i), Clock(uncertainty=2.0)), whole, rtol=1e-12)


def test_no_signal_is_touched():
    coordinates = frames([10.0, 20.0]).drop_vars(["mu", "energy"])
    found = align_frames(coordinates, cell(np.arange(100.0), np.arange(100.0), np.zeros(100)))
    assert found.voltage.notnull().all()


def test_annotate_gives_index_and_coordinates():
    series_ = frames([10.0, 20.0])
    found = align_frames(series_, cell(np.arange(100.0), np.arange(100.0), np.zeros(100)), Clock(5.0))
    out = annotate(series_, found)
    assert list(out.data_vars) == ["mu"]
    assert {"voltage", "charge", "soc", "flags", "time_errors", "coverage"} <= set(out.coords)
    np.testing.assert_array_equal(out.time, found.time)
    assert out.indexes["time"][0] == found.time.values[0]
    assert out.attrs["technique"] == "xas"
    with pytest.raises(ClockError, match="1 aligned frames for 2"):
        annotate(series_, found.isel(time=slice(0, 1)))


def test_annotate_keeps_a_frames_own_variable_but_not_the_cyclers():
    log = sensor(np.arange(9.0), "continuous").rename(temperature="voltage")
    assert annotate(log, align_frames(log, None)).voltage.values.tolist() == list(range(9))
    raw = cell([0.0, 10.0, 20.0], [3.0] * 3, [1.0] * 3, charge=[5.0, 0.0, 10.0])
    assert annotate(raw, echem_timeline(raw)).charge.values.tolist() == [5.0, 15.0, 25.0]
    assert "charge" in annotate(raw, echem_timeline(raw)).data_vars


def test_align_does_all_of_it():
    series_ = series(
        "xas",
        {"mu": (("time", "energy"), np.zeros((2, 1)), "1")},
        coords={"energy": ("energy", [1.0], "eV")},
        source="a",
        start=["2026-06-03T10:00:10", "2026-06-03T10:00:20"],
        exposure=4.0,
        time_origin="header",
    )
    echem = series(
        "echem", {"voltage": ("time", np.arange(100.0), "V")}, source="b", start="2026-06-03T10:00:00", elapsed=np.arange(100.0), time_origin="header"
    )
    out = align(series_, echem, Clock(1.0), timezone="Europe/Paris")
    np.testing.assert_allclose(out.voltage, [13.0, 23.0])
    assert np.isnan(out.current).all()
    assert str(out.time.values[0])[:19] == "2026-06-03T08:00:13"
    with pytest.raises(ClockError, match="timezone:"):
        align(series_, echem)


def test_series_must_be_on_utc():
    ds = frames([0.0])
    ds.attrs["timezone_source"] = "none"
    with pytest.raises(ClockError, match="series is not on UTC"):
        align_frames(ds, None)


def test_every_variable_has_units_and_a_name():
    t = np.arange(100.0)
    found = align_frames(frames([10.0]), cell(t, t, np.zeros(100)), sensors={"oven": sensor(t, "continuous")})
    for name, var in found.data_vars.items():
        assert var.attrs.get("units"), name
        assert var.attrs.get("long_name"), name
    masks = found["flags"].attrs
    assert len(masks["flag_masks"]) == len(masks["flag_meanings"].split()) == len(F)


def test_no_frames():
    t = np.arange(100.0)
    none = frames([10.0]).isel(time=slice(0, 0))
    assert align_frames(none, cell(t, t, np.zeros(100)), Clock(1.0)).sizes["time"] == 0


def test_one_record():
    found = align_frames(frames([0.0, 5.0], 0.0), cell([5.0], [3.0], [1.0]))
    np.testing.assert_allclose(found.voltage, [np.nan, 3.0])


def test_nothing_heavy_is_imported():
    code = (
        "import sys, operando.timeline as t, numpy as np\n"
        "t.align_frames, t.echem_timeline, t.localise, t.Clock, t.window_statistics\n"
        "import operando.timeline.channels\n"
        "heavy = [m for m in ('scipy', 'dask', 'matplotlib', 'numba', 'h5py', 'pint') if m in sys.modules]\n"
        "print(heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------- measured files


@pytest.fixture(scope="module")
def rock(shared_data):
    from operando.loaders.biologic_mpt import load

    loaded = load(next((shared_data / "multimodal" / "perex_rock" / "EC").glob("*.mpt")))
    return restart_segments(localise(loaded[0] if isinstance(loaded, list) else loaded, "Europe/Paris"))


@pytest.mark.real_data
def test_the_exposures_of_the_rock_set(rock):
    """65 s exposures every 687 s: the stated rule, integrated directly, within 1 uV."""
    starts = np.datetime64("2022-07-26T21:01:58.055", "ns") + (np.arange(160) * 687_000).astype("timedelta64[ms]")
    series_ = series(
        "xas",
        {"mu": (("time", "energy"), np.zeros((160, 1)), "1")},
        coords={"energy": ("energy", [1.0], "eV")},
        source="spectra",
        start=starts,
        utc=True,
        exposure=65.0,
        time_origin="header",
    )
    joined = annotate(rock, echem_timeline(rock))
    found = align_frames(series_, joined)
    assert not (found["flags"].values & (F.OUTSIDE | F.PARTIAL | F.PAUSE)).any()
    origin = rock.time.values[0]
    t = (rock.time.values - origin) / np.timedelta64(1, "s")
    v, i, q = (rock[name].values for name in ("voltage", "current", "charge"))
    held = (joined["flags"].values & F.STEP_INSIDE) != 0
    for k, start in enumerate((starts - origin) / np.timedelta64(1, "s")):
        x = start + (np.arange(100_000) + 0.5) / 100_000 * 65.0
        at_ = np.searchsorted(t, x, side="right") - 1
        part = (x - t[at_]) / (t[at_ + 1] - t[at_])
        line = np.where(held[at_ + 1], v[at_], v[at_] + part * (v[at_ + 1] - v[at_]))
        assert abs(found.voltage.values[k] - line.mean()) <= 1e-6
        assert abs(found.current.values[k] - i[at_ + 1].mean()) <= 1e-8
        assert abs(found.charge.values[k] - np.interp(x, t, q).mean()) <= 1e-5


@pytest.mark.real_data
def test_the_timeline_of_the_rock_set(rock):
    ds = echem_timeline(rock)
    assert ds.charge.attrs["origin"] == "instrument"
    assert ds.attrs["charge_resets"] == 0
    np.testing.assert_allclose(ds.charge, rock.charge, atol=1e-9)
    without = echem_timeline(rock.drop_vars("charge"))
    assert float(np.abs(without.charge - ds.charge).max()) < 1e-6 * 3.6  # the mean of the interval that ends: 1e-6 mAh
    assert float(ds.charge.max()) / 3.6 == pytest.approx(1.727, abs=5e-4)
    assert ds.soc.attrs["reference"] == "first complete cycle"
    assert not (ds["flags"].values & (F.PAUSE | F.NONMONOTONIC)).any()
    assert (np.diff(ds.half_cycle) >= 0).all()


def test_frames_and_electrochemistry_the_wrong_way_round_are_refused():
    series_of_frames, timeline = frames([0.0, 10.0]), cell(*pulses())
    with pytest.raises(ClockError, match="electrochemistry is none"):
        align(timeline, series_of_frames)
