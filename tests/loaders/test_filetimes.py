"""Times from names, logs, the configuration and mtimes, the same for every loader."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from operando.contract import ConfigError, LoaderError, series
from operando.loaders import FileTimes, NamePattern


def frame(path: Path, n: int = 1, exposure: float = float("nan"), **more: object) -> xr.Dataset:
    values = np.zeros((n, 3))
    return series(
        "xrd", {"intensity": (("time", "q"), values, "1")}, source=path, coords={"q": ("q", [1.0, 2, 3], "1/angstrom")}, exposure=exposure, **more
    )


@pytest.mark.parametrize(
    ("pattern", "name", "stamp", "fields"),
    [
        ("{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}", "A_20260603T100507_00012.xye", "2026-06-03T10:05:07", {"cell": "A", "frame": 12}),
        ("{sample}_{time:%a %b %d %H-%M-%S %Y}", "LOS2341_Sam Aout 31 05-38-59 2013.csv", "2013-08-31T05:38:59", {"sample": "LOS2341"}),
        ("{sample}_{time:%a %b %d %H-%M-%S %Y}", "LOS2221_Ven Août 30 09-35-07 2013.csv", "2013-08-30T09:35:07", {"sample": "LOS2221"}),
        ("{time:%d. %B %Y %H.%M.%S}", "3. März 2024 08.15.00.txt", "2024-03-03T08:15:00", {}),
        ("{time:%d-%b-%y_%I%M%p}*", "03-Jun-26_0105PM_rest.dat", "2026-06-03T13:05:00", {}),
        ("scan{scan}_pos{position}_{time:%s}", "scan7_pos2_1780473907.xy", "2026-06-03T08:05:07+00:00", {"scan": 7, "position": 2}),
        ("{time:%Y-%m-%dT%H%M%S.%f%z}", "2026-06-03T100507.250+0200.xy", "2026-06-03T10:05:07.250+02:00", {}),
        ("{time:%Y%m%d}/x{x}_y{y}_{time:%H%M%S}", "20260603/x1.5_y-2_100507.xy", "2026-06-03T10:05:07", {"x": 1.5, "y": -2.0}),
        ("norm_{scan_title}_pos{position}_{run:d}", "norm_op2_pos1_0003.txt", None, {"scan_title": "op2", "position": 1, "run": 3}),
        ("{time:%Y%j%H%M%S}", "2026154100507.xy", "2026-06-03T10:05:07", {}),
    ],
)
def test_file_name_patterns(pattern: str, name: str, stamp: str | None, fields: dict[str, object]) -> None:
    assert NamePattern(pattern).read(Path(name)) == (stamp, fields)


@pytest.mark.parametrize("pattern", ["{time}", "{cell}_{cell}", "{a b}", "{time:%Q}", "{cell"])
def test_patterns_that_cannot_be_read_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError):
        NamePattern(pattern)


@pytest.mark.parametrize("name", ["B-20260603.xy", "A_20261303T100507_00012.xy", "A_20260603T256061_00012.xy"])
def test_names_that_do_not_fit_name_the_file(name: str) -> None:
    with pytest.raises(LoaderError, match="2026"):
        NamePattern("{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}").read(Path(name))


def test_a_stamp_in_the_name_marks_start_middle_or_end(tmp_path: Path) -> None:
    path = tmp_path / "20260603T100000.xy"
    for marks, expected in (("start", "10:00:15"), ("middle", "10:00:00"), ("end", "09:59:45")):
        times = FileTimes(name_pattern="{time:%Y%m%dT%H%M%S}", exposure=30.0, stamp_marks=marks)
        ds = times.apply(frame(path), path)
        assert ds.time.values[0] == np.datetime64(f"2026-06-03T{expected}", "ns")
        assert ds.exposure.values[0] == 30.0
        assert ds.attrs["time_origin"] == "filename"
        assert ds.attrs["timezone_source"] == "none"
        assert ds.attrs["time_uncertainty_s"] == 0.5, "a stamp to the second"


def test_a_log_gives_start_and_end(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "file;begin;finish\na_1.xy;2026-06-03T10:00:00.5;2026-06-03T10:01:00.5\nsub/a_2.xy;2026-06-03T10:02:00;2026-06-03T10:03:30\n"
    )
    times = FileTimes(times_from={"file": "log.csv", "name": "file", "start": "begin", "end": "finish"}, base=tmp_path)
    first, second = (times.apply(frame(tmp_path / n), tmp_path / n) for n in ("a_1.xy", "a_2.xy"))
    assert first.time.values[0] == np.datetime64("2026-06-03T10:00:30.5", "ns")
    assert (first.exposure.values[0], second.exposure.values[0]) == (60.0, 90.0)
    assert first.attrs["time_origin"] == "log"
    with pytest.raises(LoaderError, match="not in the log"):
        times.apply(frame(tmp_path / "a_3.xy"), tmp_path / "a_3.xy")


@pytest.mark.parametrize(
    ("text", "columns", "error"),
    [
        ("file;begin\na.xy;yesterday\n", {"start": "begin"}, LoaderError),
        ("file;begin\na.xy\n", {"start": "begin"}, LoaderError),
        ("file;begin\na.xy;2026-06-03T10:00:00\na.xy;2026-06-03T10:00:00\n", {"start": "begin"}, LoaderError),
        ("file;begin\na.xy;2026-06-03T10:00:00\n", {"start": "start"}, ConfigError),
        ("file;begin;finish\na.xy;2026-06-03T10:00:00;2026-06-03T09:00:00\n", {"start": "begin", "end": "finish"}, LoaderError),
    ],
)
def test_logs_that_cannot_be_used_say_where(tmp_path: Path, text: str, columns: dict[str, str], error: type[Exception]) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(error, match=r"log\.csv|a\.xy"):
        FileTimes(times_from={"file": "log.csv", "name": "file", **columns}, base=tmp_path).apply(frame(tmp_path / "a.xy"), tmp_path / "a.xy")


def test_start_anchors_files_that_hold_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.xy"
    ds = FileTimes(start="2026-06-03T10:00:00+02:00").apply(frame(path, 3, 10.0, elapsed=[0.0, 60.0, 120.0]), path)
    assert ds.time.values[2] == np.datetime64("2026-06-03T08:02:05", "ns")
    assert ds.attrs["timezone_source"] == "file", "the configuration gave the offset itself"
    assert ds.attrs["time_origin"] == "config"


def test_period_and_frame_number_place_numbered_frames(tmp_path: Path) -> None:
    times = FileTimes(start="2026-06-03T10:00:00", period=60.0, exposure=10.0)
    path = tmp_path / "frame_0004.xy"
    ds = times.apply(frame(path), path)
    assert ds.time.values[0] == np.datetime64("2026-06-03T10:03:05", "ns"), "the first frame is number 1"
    series_of_three = times.apply(frame(tmp_path / "all.xy", 3), tmp_path / "all.xy")
    np.testing.assert_array_equal(np.diff(series_of_three.time.values), np.timedelta64(60, "s"))
    with pytest.raises(LoaderError, match="frame number"):
        times.apply(frame(tmp_path / "last.xy"), tmp_path / "last.xy")


def test_no_time_at_all_is_refused_naming_the_options(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="name_pattern"):
        FileTimes().apply(frame(tmp_path / "a.xy"), tmp_path / "a.xy")


def test_mtime_is_used_only_when_allowed_and_is_uncertain(tmp_path: Path) -> None:
    path = tmp_path / "a.xy"
    path.write_text("x")
    os.utime(path, ns=(0, 1_780_473_907_000_000_000))
    ds = FileTimes(mtime=True, exposure=20.0).apply(frame(path), path)
    assert ds.attrs["time_origin"] == "mtime"
    assert ds.attrs["time_uncertainty_s"] == 20.0
    assert ds.time.values[0] == np.datetime64("2026-06-03T08:04:57", "ns"), "the file was written at the end of the exposure"


@pytest.mark.parametrize(
    ("form", "name", "sigma"),
    [
        ("%Y%m%dT%H%M%S", "20260603T101112", 0.5),
        ("%Y%m%d_%H.%M", "20260603_10.11", 17.32),
        ("%Y%m%d_%Hh", "20260603_10h", 1039.2),
        ("%Y-%m-%d", "2026-06-03", 24941.5),
    ],
)
def test_a_coarse_stamp_in_a_name_is_as_uncertain_as_it_is_coarse(tmp_path: Path, form: str, name: str, sigma: float) -> None:
    ds = FileTimes(name_pattern=f"{{time:{form}}}").apply(frame(tmp_path / f"{name}.xy"), tmp_path / f"{name}.xy")
    assert float(ds.attrs["time_uncertainty_s"]) == pytest.approx(sigma, rel=1e-3)


def test_start_moves_linked_files_together(tmp_path: Path) -> None:
    """Two files of one run share a stamp; the second begins 43 213 s after it and must still do so under another start."""
    linked = frame(tmp_path / "b.xy", 2, 0.0, start="2026-06-03T10:00:00", elapsed=[43213.0, 43223.0], time_origin="header")
    moved = FileTimes(start="2026-06-04T00:00:00").apply(linked, tmp_path / "b.xy")
    assert moved.time.values[0] == np.datetime64("2026-06-04T12:00:13", "ns")
    assert moved.stamp.values == np.datetime64("2026-06-04T00:00:00", "ns")
