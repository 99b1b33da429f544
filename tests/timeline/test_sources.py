"""One source, one clock: what the instrument did is found over all its frames, whatever series they go to."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from operando.contract import series
from operando.timeline import Clock, place, without_frames

LOADED = {"loader": "t", "loader_version": "1", "options": "{}"}


def frames(minutes: list[float], index: list[int], start: str = "2026-06-03T10:00:00Z") -> xr.Dataset:
    return series(
        "xas",
        {"mu": (("time", "energy"), np.zeros((len(minutes), 2)), "1")},
        source="master.h5",
        coords={"energy": ("energy", [1.0, 2.0], "eV")},
        start=start,
        elapsed=60.0 * np.array(minutes),
        source_index=index,
        time_origin="header",
        attrs=LOADED,
    )


def put(pieces: list[xr.Dataset], clock: Clock | dict[int, Clock] | None = None, zone: str | None = None) -> tuple[list[xr.Dataset], object]:
    ranks = [np.zeros(ds.sizes["time"], np.int64) for ds in pieces]
    files = [np.full(ds.sizes["time"], "master.h5", dtype=object) for ds in pieces]
    return place(pieces, ranks, files, zone, clock)


def test_a_position_measured_only_after_the_restart_is_in_its_segment() -> None:
    # frames 0..3 before the clock was set back by an hour, 4..7 after; position 2 begins with frame 5
    first, second = frames([0, 1, 2, 3, -56, -54], [0, 1, 2, 3, 4, 6]), frames([-55, -53], [5, 7])
    (one, two), clock = put([first, second], {0: Clock(), 1: Clock(offset=3600.0)})
    assert list(one.segment.values) == [0, 0, 0, 0, 1, 1]
    assert list(two.segment.values) == [1, 1]
    assert clock[1].at == np.datetime64("2026-06-03T09:04:00", "ns"), "the source's first stamp after the restart, not the series'"  # type: ignore[index]


def test_a_drifting_clock_is_anchored_once_for_all_series_of_a_source() -> None:
    _, clock = put([frames([5, 6], [5, 6]), frames([0, 1], [0, 1])], Clock(drift=1e-3))
    assert clock.at == np.datetime64("2026-06-03T10:00:00", "ns")  # type: ignore[union-attr]


def test_series_that_count_for_themselves_are_ordered_by_time() -> None:
    (one, two), _ = put([frames([0, 2, 4], [0, 1, 2]), frames([1, 3, 5], [0, 1, 2])])
    assert (one.segment.values == 0).all()
    assert (two.segment.values == 0).all()


def test_the_repeated_hour_is_resolved_over_all_series_of_a_source() -> None:
    # 25 October 2026, Europe/Paris: one frame every 15 min from 01:30, wall clock; every second one goes to the other series
    utc = np.datetime64("2026-10-24T23:30:00", "ns") + np.arange(12) * np.timedelta64(15, "m")
    wall = utc + np.where(utc < np.datetime64("2026-10-25T01:00:00", "ns"), np.timedelta64(2, "h"), np.timedelta64(1, "h"))
    pieces = []
    for some in (slice(0, None, 2), slice(1, None, 2)):
        ds = frames([0.0] * 6, list(range(12))[some])
        ds = ds.assign_coords(time=wall[some], source_time=("time", wall[some]), stamp=("time", wall[some]))
        pieces.append(ds.assign_attrs(timezone_source="none"))
    (one, two), _ = put(pieces, zone="Europe/Paris")
    np.testing.assert_array_equal(np.sort(np.concatenate([one.time.values, two.time.values])), utc)
    assert (one.segment.values == 0).all()


def test_one_series_alone_keeps_its_order(root: object) -> None:
    (one,), clock = put([frames([0, 1, -5, -4], [0, 1, 2, 3])])
    assert list(one.segment.values) == [0, 0, 1, 1]
    assert clock is None


@pytest.mark.parametrize("known", [True, False])
def test_zoned_and_wall_clock_pieces_meet_on_utc(known: bool) -> None:
    zoned, wall = frames([0], [0]), frames([0], [1], start="2026-06-03T12:01:00")
    (one, two), _ = put([zoned, wall] if known else [wall, zoned], zone="Europe/Paris")
    assert sorted([one.time.values[0], two.time.values[0]]) == [np.datetime64("2026-06-03T10:00", "ns"), np.datetime64("2026-06-03T10:01", "ns")]


def test_a_restart_only_the_loader_knows_is_kept_for_every_series() -> None:
    """The clock jumped FORWARD by an hour at frame 6; odd frames are position 2."""
    minutes = [5.0 * k + (60 if k >= 6 else 0) for k in range(12)]
    whole = frames(minutes, list(range(12))).assign_coords(segment=("time", np.repeat([0, 1], 6).astype(np.int32), {"units": "1"}))
    pieces = [whole.isel(time=slice(0, None, 2)), whole.isel(time=slice(1, None, 2))]
    (one, two), _ = put(pieces)
    assert list(one.segment.values) == [0, 0, 0, 1, 1, 1]
    assert list(two.segment.values) == [0, 0, 0, 1, 1, 1]


def test_series_of_one_file_that_number_themselves_follow_their_segments() -> None:
    late = frames([-30, -25], [0, 1]).assign_coords(segment=("time", np.ones(2, np.int32), {"units": "1"}))
    (one, two), _ = put([frames([0, 5, 10], [0, 1, 2]), late])
    assert list(one.segment.values) == [0, 0, 0]
    assert list(two.segment.values) == [1, 1]


def test_clocks_of_segments_that_are_not_there_are_named() -> None:
    placed, clock = put([frames([0, 1], [0, 1])], {0: Clock(), 1: Clock(offset=3600.0)})
    assert without_frames(sorted(clock), placed) == "clock: names segment 1, and the source has only 0"  # type: ignore[arg-type]
    assert without_frames([0], placed) is None
