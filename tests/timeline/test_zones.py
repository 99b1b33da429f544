"""Wall-clock stamps on UTC: by the zone given, never by that of this computer."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
import zoneinfo

import numpy as np
import pytest

from operando.contract import ClockError, series
from operando.timeline import localise, restart_segments
from operando.timeline.zones import check_zone, to_utc


def frames(start, elapsed=None, exposure=60.0, source="scan.dat", **more):
    n = len(start) if isinstance(start, list | np.ndarray) else len(elapsed)
    signal = {"mu": (("time", "energy"), np.zeros((n, 2)), "1")}
    axis = {"energy": ("energy", [1.0, 2.0], "eV")}
    return series("xas", signal, coords=axis, source=source, start=start, elapsed=elapsed, exposure=exposure, time_origin="header", **more)


def ns(*stamps):
    return np.array(stamps, "datetime64[ns]").view(np.int64)


def utc(wall, zone="Europe/Paris"):
    return [str(x)[5:16] for x in to_utc(ns(*wall), zone)[0].view("datetime64[ns]")]


def test_each_stamp_gets_the_offset_of_its_season():
    assert utc(["2026-01-15T12:00", "2026-07-15T12:00"]) == ["01-15T11:00", "07-15T10:00"]


def test_a_million_stamps_agree_with_zoneinfo():
    rng = np.random.default_rng(0)
    wall = np.sort(rng.integers(ns("2019-01-01")[0], ns("2026-03-01")[0], 1_000_000)) // 10**9 * 10**9
    zone = zoneinfo.ZoneInfo("America/Chicago")
    plain = wall.view("datetime64[ns]")
    for year, spring, autumn in ((2019, 10, 3), (2020, 8, 1), (2021, 14, 7), (2022, 13, 6), (2023, 12, 5), (2024, 10, 3), (2025, 9, 2)):
        for change in (dt.date(year, 3, spring), dt.date(year, 11, autumn)):
            plain = plain[np.abs(plain - np.datetime64(f"{change}T02:00", "ns")) > np.timedelta64(2, "h")]
    started = time.process_time()
    found, assumed = to_utc(plain.view(np.int64), "America/Chicago")
    assert time.process_time() - started < 5
    assert not assumed.any()
    for k in rng.integers(0, plain.size, 500):
        moment = dt.datetime.fromisoformat(str(plain[k])[:19]).replace(tzinfo=zone)
        assert found[k] == int(moment.timestamp()) * 10**9


def test_spring_leaves_an_hour_out():
    with pytest.raises(ClockError, match="does not exist") as error:
        localise(frames(["2026-03-29T01:59:00", "2026-03-29T02:30:00"], source="a.dat"), "Europe/Paris")
    for words in ("a.dat", "frame 1", "2026-03-29T02:30:00", "+01:00"):
        assert words in str(error.value)


def test_autumn_is_told_apart_by_the_step_back():
    wall = ["2026-10-25T01:30", "2026-10-25T02:10", "2026-10-25T02:50", "2026-10-25T02:30", "2026-10-25T03:10"]
    assert utc(wall) == ["10-24T23:30", "10-25T00:10", "10-25T00:50", "10-25T01:30", "10-25T02:10"]
    assert not to_utc(ns(*wall), "Europe/Paris")[1].any()


def test_a_step_back_counts_without_neighbours():
    assert utc(["2026-10-25T02:50", "2026-10-25T02:10"]) == ["10-25T00:50", "10-25T01:10"]


def test_jitter_is_no_step_back():
    wall = ["2026-10-25T01:59:50", "2026-10-25T02:00:00.5", "2026-10-25T02:00:00.1", "2026-10-25T02:00:10"]
    assert [x[-5:] for x in utc(wall)] == ["23:59", "00:00", "00:00", "00:00"]


@pytest.mark.parametrize(("before", "expected"), [(True, "00:10"), (False, "01:50")])
def test_where_no_step_is_seen_the_side_without_a_break_decides_and_is_marked(before, expected):
    wall = ["2026-10-25T01:40", "2026-10-25T01:55", "2026-10-25T02:10"] if before else ["2026-10-25T02:50", "2026-10-25T03:05", "2026-10-25T03:20"]
    ds = localise(frames(wall, exposure=0.0), "Europe/Paris")
    inside = 2 if before else 0
    assert str(ds.time.values[inside])[11:16] == expected
    assert str(ds.time.values[inside])[:19] in ds.attrs["zone_assumed"]


@pytest.mark.parametrize(
    "wall",
    [
        ["2026-10-25T02:30"],  # alone
        ["2026-10-25T02:10", "2026-10-25T02:30", "2026-10-25T02:50"],  # no neighbour outside the hour
        ["2026-10-25T01:50", "2026-10-25T02:10", "2026-10-25T02:30", "2026-10-25T02:50", "2026-10-25T03:10"],  # an hour is missing, but where?
        ["2026-10-25T02:50", "2026-10-25T02:10", "2026-10-25T02:50", "2026-10-25T02:20"],  # back twice
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_frame_and_the_way_out(wall):
    with pytest.raises(ClockError) as error:
        localise(frames(wall, source="night.dat"), "Europe/Paris")
    assert "frame " in str(error.value)
    assert "2026-10-25T02:" in str(error.value)
    assert "timezone: '+02:00'" in str(error.value)
    assert "night.dat" in str(error.value)
    assert len(localise(frames(wall), "+02:00").time) == len(wall)  # the way out is one


def test_seconds_counted_from_a_stamp_know_no_summer_time():
    ds = localise(frames("2026-10-25T01:30:00", elapsed=np.arange(5) * 1800.0, exposure=0.0), "Europe/Paris")
    assert [str(t)[11:16] for t in ds.time.values] == ["23:30", "00:00", "00:30", "01:00", "01:30"]
    spring = localise(frames("2026-03-29T01:30:00", elapsed=np.arange(3) * 1800.0, exposure=0.0), "Europe/Paris")
    assert [str(t)[11:16] for t in spring.time.values] == ["00:30", "01:00", "01:30"]


def test_a_file_that_reaches_past_the_stamp_of_the_next_was_before_the_change():
    """The first file lasts 50 min from 02:10; the second is stamped 02:20: it can only be the second 02:20."""
    elapsed = np.concatenate([np.arange(6) * 600.0, np.arange(3) * 600.0])
    wall = np.repeat(np.array(["2026-10-25T02:10", "2026-10-25T02:20"], "datetime64[ns]"), [6, 3])
    ds = localise(frames(wall, elapsed=elapsed, exposure=0.0), "Europe/Paris")
    assert [str(t)[11:16] for t in ds.time.values] == ["00:10", "00:20", "00:30", "00:40", "00:50", "01:00", "01:20", "01:30", "01:40"]


def test_a_naive_stamp_without_a_zone_names_the_key():
    with pytest.raises(ClockError, match="timezone: in beamtime.yaml"):
        localise(frames(["2026-06-03T10:00:00"]))


def test_a_series_without_absolute_time_names_the_key():
    with pytest.raises(ClockError, match="start: "):
        localise(frames(None, elapsed=[0.0, 1.0]), "Europe/Paris")


def test_what_the_file_says_is_not_touched():
    ds = localise(frames(["2026-06-03T10:00:00+02:00"]), "America/Chicago")
    assert str(ds.time.values[0])[:16] == "2026-06-03T08:00"
    assert ds.attrs["timezone_source"] == "file"
    assert ds.attrs["timezone"] == "UTC"


def test_files_that_gave_utc_keep_it_beside_naive_ones():
    ds = frames(["2026-06-03T10:00:00", "2026-06-03T11:00:00"], exposure=0.0)
    ds = ds.assign_coords(stamp=("time", np.array(["2026-06-03T10:00:00", "NaT"], "datetime64[ns]")))
    assert [str(t)[11:16] for t in localise(ds, "Europe/Paris").time.values] == ["08:00", "11:00"]


def test_what_comes_out():
    ds = frames(["2026-06-03T10:00:00"])
    out = localise(ds, "Europe/Paris")
    assert "stamp" not in out.coords
    assert out.attrs["timezone_source"] == "config"
    assert out.attrs["timezone"] == "Europe/Paris"
    np.testing.assert_array_equal(out.time, out.source_time)
    assert "stamp" in ds.coords  # the one given is as it was
    assert ds.attrs["timezone_source"] == "none"
    again = localise(out, "America/Chicago")
    np.testing.assert_array_equal(again.time, out.time)


@pytest.mark.parametrize(("zone", "hour"), [("UTC", "10"), ("Z", "10"), ("+02:00", "08"), ("-0530", "15"), ("UTC+2", "08"), ("Asia/Kolkata", "04")])
def test_zones(zone, hour):
    assert utc(["2026-06-03T10:00"], zone)[0][6:8] == hour


@pytest.mark.parametrize(
    ("zone", "says"), [("Europe/Pari", "Europe/Paris"), ("CEST", "IANA"), ("../etc/passwd", "unknown zone"), ("+25:00", "no place")]
)
def test_a_zone_that_is_none(zone, says):
    with pytest.raises(ClockError) as error:
        check_zone(zone)
    assert says in str(error.value)


@pytest.mark.parametrize("host", ["UTC", "Europe/Paris", "America/Chicago"])
def test_the_zone_of_this_computer_does_not_matter(host):
    code = (
        "import numpy as np\n"
        "from operando.contract import series\n"
        "from operando.timeline import localise, Clock\n"
        "ds = series('xas', {'mu': (('time', 'energy'), np.zeros((3, 1)), '1')}, coords={'energy': ('energy', [1.0], 'eV')}, source='a',\n"
        "            start=['2026-10-25T02:50:00', '2026-10-25T02:10:00', '2026-07-01T12:00:00'], time_origin='header')\n"
        "print(localise(ds, 'Europe/Paris').time.values.astype(int).tolist(), Clock(at='2026-06-03T10:00:00').at)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TZ": host}, check=True)
    assert done.stdout.strip() == "[1792889400000000000, 1792890600000000000, 1782900000000000000] 2026-06-03T10:00:00.000000000"


def test_segments_are_numbered_over_the_series():
    ds = frames(["2026-06-03T10:00:00Z", "2026-06-03T11:00:00Z", "2026-06-03T10:30:00Z", "2026-06-03T12:00:00Z", "2026-06-03T12:30:00Z"])
    ds = ds.assign_coords(segment=("time", np.array([0, 0, 0, 0, 4], np.int32), {"units": "1"}))
    assert restart_segments(ds).segment.values.tolist() == [0, 0, 1, 1, 2]
