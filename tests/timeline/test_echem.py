"""One continuous timeline out of files, restarts and clocks that were set back."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from operando.contract import AlignmentFlag as F
from operando.contract import ClockError, series
from operando.timeline import Clock, annotate, echem_timeline
from operando.timeline.echem import track_of

START = np.datetime64("2026-06-03T08:00:00", "ns")


def file(name, elapsed, current, *, start=0.0, voltage=None, interval="ending", segment=0, uncertainty=0.0, **columns):
    elapsed = np.asarray(elapsed, float)
    current = np.broadcast_to(np.asarray(current, float), elapsed.shape)
    variables = {
        "voltage": ("time", np.full(elapsed.size, 3.7) if voltage is None else voltage, "V"),
        "current": ("time", current, "A", {"interval": interval}),
    }
    units = {"charge": "C", "control_voltage": "V", "control_current": "A"}
    variables |= {key: ("time", np.asarray(values), units.get(key, "1")) for key, values in columns.items()}
    at = START + np.timedelta64(round(start * 1e9), "ns")
    return series(
        "echem", variables, source=name, start=at, utc=True, elapsed=elapsed, segment=segment, time_origin="header", time_uncertainty=uncertainty
    )


def join(*files):
    out = xr.concat(files, "time", data_vars="all", join="outer", combine_attrs="override")
    return out.assign_coords(segment=("time", np.cumsum(np.concatenate([[0], np.diff(out.source_time.astype(int)) < 0])).astype(np.int32)))


def marked(ds, flag):
    return np.flatnonzero(ds.flags.values & int(flag)).tolist()


CYCLE = np.repeat([1.0, -1.0, 1.0, -1.0], 11)  # 10 s each way, record at both ends of each
CLOCK = np.concatenate([np.arange(11.0) + 10 * k for k in range(4)])


@pytest.mark.parametrize(("interval", "expected"), [("ending", 2 + 3), ("starting", 1 + 2), ("instant", 1.5 + 2.5)])
def test_charge_is_the_integral_by_the_rule_of_the_record(interval, expected):
    ds = echem_timeline(file("a", [0, 1, 2], [1.0, 2.0, 3.0], interval=interval))
    assert ds.charge.values[-1] == expected
    assert ds.charge.attrs["origin"] == "integral of the current"


def test_the_instruments_charge_goes_on_over_files():
    a = file("a", [0, 10, 20], 1.0, charge=[5.0, 15.1, 25.2])
    b = file("b", [0, 10, 20], 1.0, start=25.0, charge=[0.0, 10.1, 20.2])
    ds = echem_timeline(join(a, b))
    # the counter's own increments; 5 s of current between the files
    np.testing.assert_allclose(ds.charge, [5.0, 15.1, 25.2, 30.2, 40.3, 50.4])
    assert ds.charge.attrs["origin"] == "instrument"


def test_nothing_flows_in_a_gap_between_files():
    ds = echem_timeline(join(file("a", [0, 10], 1.0), file("b", [0, 10], 1.0, start=7200.0)))
    np.testing.assert_allclose(ds.charge, [0, 10, 10, 20])
    assert marked(ds, F.PAUSE) == [2]


def test_a_counter_that_is_reset_or_missing_is_bridged():
    charge = [0.0, 10.0, 20.0, 0.0, 10.0, np.nan, 30.0]
    ds = echem_timeline(file("a", np.arange(7) * 10.0, 1.0, charge=charge))
    np.testing.assert_allclose(ds.charge, np.arange(7) * 10.0)
    assert ds.attrs["charge_resets"] == 1
    assert "where it does not count" in ds.charge.attrs["origin"]


def test_a_discharge_to_zero_is_no_reset():
    ds = echem_timeline(file("a", [0, 10, 20, 20, 30, 40], [1, 1, 1, -1, -1, -1], charge=[0.0, 10, 20, 20, 10, 0]))
    np.testing.assert_allclose(ds.charge, [0, 10, 20, 20, 10, 0])
    assert ds.attrs["charge_resets"] == 0


def test_without_current_or_charge_there_is_no_charge():
    ds = file("a", [0, 10], 0.0).drop_vars("current")
    out = echem_timeline(ds)
    assert np.isnan(out.charge).all()
    assert np.isnan(out.soc).all()
    assert out.direction.values.tolist() == [0, 0]


def test_direction_from_charge_where_there_is_no_current():
    out = echem_timeline(file("a", [0, 10, 20, 30], 0.0, charge=[0.0, 5.0, 5.0, 2.0]).drop_vars("current"))
    assert out.direction.values.tolist() == [0, 1, 0, -1]


def test_direction_ignores_noise():
    out = echem_timeline(file("a", np.arange(6.0), [1.0, 1e-5, -1e-5, 0.0, -1.0, np.nan]))
    assert out.direction.values.tolist() == [1, 0, 0, 0, -1, 0]
    assert out.direction.dtype == np.int8


def test_cycles_are_counted_where_the_instrument_does_not():
    ds = echem_timeline(file("a", CLOCK, CYCLE))
    assert ds.half_cycle.values[[0, 10, 11, 22, 33, 43]].tolist() == [0, 0, 1, 2, 3, 3]
    assert ds.cycle.values[[0, 11, 22, 33]].tolist() == [1, 1, 2, 2]
    assert ds.cycle.attrs["derived"] == 1
    assert ds.cycle.dtype.kind == "i"


def test_rests_and_noise_do_not_split_a_half_cycle():
    current = np.tile([1.0, 1.0, 0.0, -0.01], 20)  # GITT with a little noise
    ds = echem_timeline(file("a", np.arange(80.0), np.concatenate([current[:40], -current[40:]])))
    assert np.unique(ds.half_cycle).tolist() == [0, 1]
    assert ds.half_cycle.values[38] == 0


@pytest.mark.parametrize(
    ("first", "second", "cycle", "half"),
    [
        (1.0, 1.0, [0, 0, 1, 1], [0, 0, 1, 1]),  # an interrupted charge goes on: same numbers, then the file's own next
        (-1.0, 1.0, [0, 0, 1, 1], [0, 0, 1, 1]),
    ],
)
def test_numbers_do_not_go_back_in_a_new_file(first, second, cycle, half):
    a = file("a", np.arange(20.0), np.repeat([1.0, first], 10), cycle=np.repeat([3, 4], 10), half_cycle=np.repeat([6, 8], 10))
    b = file("b", np.arange(20.0), np.repeat([second, -second], 10), start=21.0, cycle=np.repeat(cycle[::2], 10), half_cycle=np.repeat(half[::2], 10))
    ds = echem_timeline(join(a, b))
    for name in ("cycle", "half_cycle"):
        assert (np.diff(ds[name]) >= 0).all()
    goes_on = first == second
    assert ds.half_cycle.values[20] == (8 if goes_on else 9)
    assert ds.cycle.values[20] == (4 if goes_on else 5)
    assert ds.half_cycle.values[30] == ds.half_cycle.values[20] + 1


def test_a_file_that_goes_on_counting_is_left_alone():
    ds = echem_timeline(join(file("a", [0, 1], 1.0, cycle=[3, 4]), file("b", [0, 1], 1.0, start=5, cycle=[4, 6])))
    assert ds.cycle.values.tolist() == [3, 4, 4, 6]


def test_steps_loop_in_a_file_but_are_new_in_a_new_one():
    a = file("a", np.arange(6.0), 1.0, step=[0, 1, 2, 1, 2, 3])
    b = file("b", np.arange(4.0), 1.0, start=10, step=[0, 1, 0, 1])
    assert echem_timeline(join(a, b)).step.values.tolist() == [0, 1, 2, 1, 2, 3, 4, 5, 4, 5]


def test_soc_is_that_of_the_first_complete_cycle():
    ds = echem_timeline(file("a", CLOCK, CYCLE * np.repeat([1.0, 0.9, 1.2, 1.0], 11)), capacity=1e6)
    assert ds.soc.attrs["reference"] == "first complete cycle"
    np.testing.assert_allclose(ds.soc.values[[0, 10, 21]], [0.0, 1.0, 0.1], atol=1e-12)
    assert ds.soc.values[32] == pytest.approx(1.3)  # not clipped


def test_soc_starts_at_one_where_the_cell_is_discharged_first():
    ds = echem_timeline(file("a", CLOCK, -CYCLE))
    np.testing.assert_allclose(ds.soc.values[[0, 10, 21]], [1.0, 0.0, 1.0], atol=1e-12)


def test_soc_before_a_cycle_is_complete():
    charge = file("a", np.arange(11.0), 1.0)
    assert np.isnan(echem_timeline(charge).soc).all()
    ds = echem_timeline(charge, capacity=20.0)
    np.testing.assert_allclose(ds.soc.values[[0, 10]], [0.0, 0.5])
    assert "capacity" in ds.soc.attrs["reference"]
    np.testing.assert_allclose(echem_timeline(file("a", np.arange(11.0), -1.0), capacity=20.0).soc.values[[0, 10]], [1.0, 0.5])
    rested = file("a", np.arange(32.0), np.repeat([1.0, -1.0, 0.0], [11, 11, 10]))
    assert echem_timeline(rested).soc.attrs["reference"] == "first complete cycle"
    assert np.isnan(echem_timeline(rested.isel(time=slice(0, 18))).soc).all()


def test_steps_of_the_current():
    current = [0, 0, 1, 1, 1.05, 1.5, 1.5, -1.5, -1.5, 0, 0.0]
    ds = echem_timeline(file("a", np.arange(11.0), current, interval="instant"))
    assert marked(ds, F.STEP_INSIDE) == [2, 5, 7, 9]


def test_a_mixed_mean_belongs_to_the_step_before_it():
    ds = echem_timeline(file("a", np.arange(8.0), [1, 1, 1, 0.1, -1, -1, -1, -1]))
    assert marked(ds, F.STEP_INSIDE) == [3]
    pulses = echem_timeline(file("a", np.arange(8.0), [0, 1, 0, 1, 0, 1, 0, 0]))
    assert marked(pulses, F.STEP_INSIDE) == [1, 2, 3, 4, 5, 6]


def test_a_sweep_is_not_a_staircase():
    """In cyclic voltammetry current and set voltage change with every record: the signal stays linear."""
    t = np.arange(200.0)
    ds = echem_timeline(file("a", t, np.sin(t / 20), interval="instant", control_voltage=3.0 + t / 100))
    assert marked(ds, F.STEP_INSIDE) == []


def test_a_decay_is_no_row_of_steps():
    t = np.arange(60.0)
    current = np.where(t < 10, 0.0, np.exp(-(t - 10) / 4))
    assert marked(echem_timeline(file("a", t, current, interval="instant")), F.STEP_INSIDE)[0] == 10
    assert len(marked(echem_timeline(file("a", t, current, interval="instant")), F.STEP_INSIDE)) <= 2


def test_steps_of_the_schedule_and_of_set_values():
    t = np.arange(8.0)
    ds = echem_timeline(file("a", t, 1.0, step=[0, 0, 1, 1, 1, 1, 1, 1], control_voltage=[3, 3, 3, 3, 3, 4, 4, 4.0]))
    assert marked(ds, F.STEP_INSIDE) == [2, 5]


def test_gaps():
    t = np.concatenate([np.arange(100) * 10.0, 1600 + np.arange(100) * 10.0, 3100 + np.arange(5) * 10.0])
    assert marked(echem_timeline(file("a", t, 1.0)), F.PAUSE) == [100]  # 610 s is beyond 600 s; 510 s is not
    assert marked(echem_timeline(file("a", t, 1.0), max_gap=500.0), F.PAUSE) == [100, 200]
    slow = echem_timeline(file("a", np.arange(30) * 300.0, 0.0))
    assert slow.attrs["max_gap_s"] == 6000.0
    assert marked(slow, F.PAUSE) == []


def test_a_file_that_follows_at_once_leaves_no_gap():
    a = file("a", np.arange(100) * 10.0, 1.0)
    assert marked(echem_timeline(join(a, file("b", np.arange(9) * 10.0, 1.0, start=999.0))), F.PAUSE) == []
    assert marked(echem_timeline(join(a, file("b", np.arange(9) * 10.0, 1.0, start=1020.0))), F.PAUSE) == [100]


def test_overlapping_files_are_refused_by_name():
    a, b = file("a.mpt", np.arange(100) * 10.0, 1.0), file("b.mpt", np.arange(100) * 10.0, 1.0, start=500.0)
    with pytest.raises(ClockError) as error:
        echem_timeline(join(a, b))
    for words in ("a.mpt", "b.mpt", "2026-06-03T08:08:20", "2026-06-03T08:16:30", "leave out"):
        assert words in str(error.value)


@pytest.mark.parametrize(("by", "uncertainty", "refused"), [(0.9, 0.0, False), (1.5, 0.0, True), (1.5, 2.0, False)])
def test_rounded_stamps_may_overlap(by, uncertainty, refused):
    a = file("a", np.arange(100) * 0.5, 1.0, uncertainty=uncertainty)
    b = file("b", np.arange(100) * 0.5, 1.0, start=49.5 - by, uncertainty=uncertainty)
    if refused:
        with pytest.raises(ClockError):
            echem_timeline(join(a, b))
        return
    ds = echem_timeline(join(a, b))
    track = track_of(annotate(join(a, b), ds))
    assert (np.diff(track.times) >= 0).all()


def test_files_that_take_turns_do_not_overlap():
    a = file("gcpl", np.concatenate([np.arange(50.0), 200 + np.arange(50.0)]), 1.0)
    b = file("ocv", np.concatenate([60 + np.arange(100.0), 260 + np.arange(100.0)]), 0.0)
    ds = annotate(join(a, b), echem_timeline(join(a, b)))
    assert not marked(ds, F.NONMONOTONIC)
    track = track_of(ds)
    assert (np.diff(track.times) >= 0).all()
    assert track.times.size == 300
    assert ds.charge.values[99] == pytest.approx(98.0)


def test_a_clock_set_back_inside_a_file():
    """The segment acquired first rules where both speak; the charge follows the order of acquisition."""
    t = np.concatenate([np.arange(100.0), 50 + np.arange(100.0)])
    ds = file("a", t, 1.0, segment=np.repeat([0, 1], 100))
    out = echem_timeline(ds)
    assert marked(out, F.NONMONOTONIC) == marked(out, F.DUPLICATE) == list(range(100, 149))
    track = track_of(annotate(ds, out))
    assert track.times.size == 151
    assert ((track.overlaps - track.times[0]) / 1e9).tolist() == [[50.0, 98.0]]
    assert out.charge.values[-1] == pytest.approx(198.0)


def test_growing_does_not_move_what_was_there():
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.uniform(5, 30, 600))
    current = np.repeat([1.0, -1.0, 1.0], 200)
    whole, part = file("a", t, current), file("a", t[:450], current[:450])
    long, short = echem_timeline(whole), echem_timeline(part)
    for name in ("charge", "soc", "cycle", "half_cycle", "direction", "time_errors"):
        np.testing.assert_array_equal(long[name][:450], short[name])


def test_records_may_share_a_time():
    ds = echem_timeline(file("a", [0, 10, 10, 10, 20], [1, 1, 1, -1, -1]))
    np.testing.assert_allclose(ds.charge, [0, 10, 10, 10, 0])
    assert not marked(ds, F.DUPLICATE)


def test_the_clock_of_the_cycler():
    ds = echem_timeline(file("a", [0, 10], 1.0, uncertainty=0.3), Clock(5.0, uncertainty=0.4))
    assert ((ds.time - ds.source_time).values / np.timedelta64(1, "s")).tolist() == [5.0, 5.0]
    np.testing.assert_allclose(ds.time_errors, 0.5)


def test_times_without_a_zone_are_refused():
    ds = file("a", [0, 1], 1.0)
    ds.attrs["timezone_source"] = "none"
    with pytest.raises(ClockError, match="not on UTC"):
        echem_timeline(ds)


def test_every_variable_says_what_it_is():
    for name, var in echem_timeline(file("a", CLOCK, CYCLE)).data_vars.items():
        assert "units" in var.attrs, name
    assert echem_timeline(file("a", CLOCK, CYCLE)).flags.attrs["flag_meanings"].startswith("OUTSIDE")


@pytest.mark.parametrize("n", [0, 1, 2])
def test_short_records(n):
    ds = file("a", np.arange(3.0), 1.0, cycle=[1, 1, 1]).isel(time=slice(0, n))
    assert echem_timeline(ds).sizes["time"] == n


def test_a_rest_that_numbers_nothing_takes_the_numbers_before_it():
    numbers = np.repeat([0, 1, 2, 3], 11)
    first, last = (file(name, CLOCK, CYCLE, start=at, half_cycle=numbers) for name, at in (("a", 0.0), ("c", 90.0)))
    rest = file("b", np.arange(40.0), 0.0, start=45.0, half_cycle=np.full(40, -1))
    ds = echem_timeline(join(first, rest, last))
    assert ds.half_cycle.values.tolist() == [*np.repeat([0, 1, 2, 3], 11), *[3] * 40, *np.repeat([4, 5, 6, 7], 11)]
    assert ds.half_cycle.attrs["derived"] == 0
    ds = echem_timeline(join(file("b", np.arange(40.0), 0.0, start=-45.0, half_cycle=np.full(40, -1)), first))
    assert ds.half_cycle.values.tolist() == [*[0] * 40, *np.repeat([0, 1, 2, 3], 11)]


def test_cycles_are_counted_where_a_file_that_cycles_does_not_number_them():
    first = file("a", CLOCK, CYCLE, cycle=np.full(CLOCK.size, -1))  # what joining leaves where one file has no such column
    second = file("b", CLOCK, CYCLE, start=45.0, cycle=np.repeat([1, 2, 3, 4], 11))
    ds = echem_timeline(join(first, second))
    assert ds.cycle.values.tolist() == [*np.repeat([1, 2], 22), *np.repeat([3, 4], 22)]
    assert ds.cycle.attrs["derived"] == 1
