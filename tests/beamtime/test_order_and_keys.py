"""The order of acquisition, and what makes a build read a file again: everything its frames rest on, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import operando as op
from operando import beamtime
from operando.config import read_config

CONFIG = """\
timezone: Europe/Paris
sources:
  detector: {loader: xrd-1d, files: "*.xye", SETTINGS, exposure: 30 s, wavelength: 0.4 angstrom, clock: CLOCK}
cells:
  A: {series: {xrd: {from: detector}}}
"""


def pattern(path: Path, peak: int = 10) -> None:
    path.write_text("".join(f"{5 + 0.1 * k:.2f} {100 + (900 if k == peak else 0)} 10\n" for k in range(40)))


def build(folder: Path, settings: str, clock: str = "{offset: 0 s}") -> beamtime.Outcome:
    config = folder / "beamtime.yaml"
    config.write_text(CONFIG.replace("SETTINGS", settings).replace("CLOCK", clock))
    return beamtime.run(read_config(config))


def xrd(outcome: beamtime.Outcome) -> xr.Dataset:
    return op.open_beamtime(outcome.published)["A/xrd/frames"].to_dataset().load()


NUMBERED = 'name_pattern: "{time:%Y%m%dT%H%M%S}_{frame:04d}"'


def test_frame_numbers_give_the_order_when_the_clock_was_set_back(tmp_path: Path) -> None:
    """Twelve frames a minute apart; before the seventh the clock was set back by an hour."""
    for k in range(12):
        stamp = np.datetime64("2026-06-03T10:00:00") + np.timedelta64(60 * k - (3600 if k >= 6 else 0), "s")
        pattern(tmp_path / f"{str(stamp).replace('-', '').replace(':', '')}_{k:04d}.xye", peak=k)
    outcome = build(tmp_path, NUMBERED, "[{segment: 0, offset: 0 s}, {segment: 1, offset: 3600 s}]")
    assert outcome.ok, outcome.problems
    ds = xrd(outcome)
    assert list(ds.frame.values) == list(range(12)), "as acquired, not as stamped"
    assert list(ds.segment.values) == [0] * 6 + [1] * 6
    np.testing.assert_array_equal(np.diff(ds.time.values), np.timedelta64(60, "s"))
    assert [int(np.argmax(i)) for i in ds.intensity.values] == list(range(12))
    assert list(beamtime.check(tmp_path / "beamtime.yaml").streams[0].flags.values()).count(0) >= 9


def test_frame_numbers_resolve_the_hour_that_autumn_repeats(tmp_path: Path) -> None:
    utc = np.datetime64("2026-10-24T23:45:00") + np.arange(10) * np.timedelta64(15, "m")
    for k, moment in enumerate(utc):
        wall = moment + np.timedelta64(2 if moment < np.datetime64("2026-10-25T01:00:00") else 1, "h")
        pattern(tmp_path / f"{str(wall).replace('-', '').replace(':', '')}_{k:04d}.xye")
    outcome = build(tmp_path, NUMBERED)
    assert outcome.ok, outcome.problems
    np.testing.assert_array_equal(xrd(outcome).source_time.values, utc + np.timedelta64(15, "s"))


def test_a_frame_that_arrives_late_goes_where_its_number_says(tmp_path: Path) -> None:
    for k in range(6):
        pattern(tmp_path / f"20260603T10{k:02d}00_{k:04d}.xye", peak=k)
    late = tmp_path / "20260603T100300_0003.xye"
    shutil.move(late, tmp_path / "late")
    assert list(xrd(build(tmp_path, NUMBERED)).frame.values) == [0, 1, 2, 4, 5]
    shutil.move(tmp_path / "late", late)
    assert list(xrd(build(tmp_path, NUMBERED)).frame.values) == list(range(6))


LOG = "times_from: {file: log.csv, name: file, start: start}"


def test_a_line_of_the_log_is_part_of_its_files_key(tmp_path: Path, read_files: list[str]) -> None:
    for k in range(3):
        pattern(tmp_path / f"a_{k}.xye")
    log = tmp_path / "log.csv"
    log.write_text("file,start\na_0.xye,2026-06-03T10:00:00\na_1.xye,2026-06-03T10:01:00\n")
    first = build(tmp_path, LOG)
    assert list(first.quarantined) == ["a_2.xye"]
    read_files.clear()
    log.write_text(log.read_text().replace("10:01:00", "10:02:00") + "a_2.xye,2026-06-03T10:05:00\n")
    second = build(tmp_path, LOG)
    assert sorted(read_files) == ["a_1.xye", "a_2.xye"], "the line that stayed costs nothing"
    assert second.ok
    np.testing.assert_array_equal(np.diff(xrd(second).time.values), np.array([120, 180], "m8[s]"))


def test_a_log_with_only_the_end_places_the_exposure_before_it(tmp_path: Path) -> None:
    pattern(tmp_path / "a_0.xye")
    (tmp_path / "log.csv").write_text("file,end\na_0.xye,2026-06-03T10:01:00\n")
    ds = xrd(build(tmp_path, "times_from: {file: log.csv, name: file, end: end}"))
    assert ds.time.values[0] == np.datetime64("2026-06-03T08:00:45", "ns")


def test_an_option_set_to_zero_counts(tmp_path: Path, read_files: list[str]) -> None:
    pattern(tmp_path / "a_1.xye")
    settings = 'start: "2026-06-03T10:00:00", period: 60 s'
    assert xrd(build(tmp_path, settings)).time.values[0] == np.datetime64("2026-06-03T08:00:15", "ns")
    assert xrd(build(tmp_path, settings + ", first_frame: 0")).time.values[0] == np.datetime64("2026-06-03T08:01:15", "ns")


def test_frames_that_are_numbered_from_0_count_from_0(tmp_path: Path) -> None:
    settings = 'start: "2026-06-03T10:00:00", period: 60 s'
    pattern(tmp_path / "a_001.xye")
    assert xrd(build(tmp_path, settings)).time.values[0] == np.datetime64("2026-06-03T08:00:15", "ns")
    pattern(tmp_path / "a_000.xye")
    times = xrd(build(tmp_path, settings)).time.values
    np.testing.assert_array_equal(times, np.array(["2026-06-03T08:00:15", "2026-06-03T08:01:15"], "datetime64[ns]"))
    for path in tmp_path.glob("*.xye"):
        path.unlink()
    pattern(tmp_path / "alone.xye")
    assert np.datetime64("2026-06-03T08:00:15", "ns") in xrd(build(tmp_path, settings)).time.values


def test_frames_of_vanished_files_survive_any_edit_and_files_that_were_moved_are_not_doubled(tmp_path: Path) -> None:
    for k in range(6):
        pattern(tmp_path / f"20260603T10{k:02d}00_{k:04d}.xye", peak=k)
    build(tmp_path, NUMBERED)
    for k in range(3):
        (tmp_path / f"20260603T10{k:02d}00_{k:04d}.xye").unlink()
    outcome = build(tmp_path, NUMBERED + ", time_uncertainty: 1 s")
    assert xrd(outcome).sizes["time"] == 6
    assert "no longer on disk" in " ".join(outcome.messages)
    # the rest moves to another folder
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("*.xye"):
        shutil.move(path, tmp_path / "moved" / path.name)
    config = tmp_path / "beamtime.yaml"
    config.write_text(config.read_text().replace('"*.xye"', "moved/*.xye"))
    assert xrd(beamtime.run(read_config(config))).sizes["time"] == 6


@pytest.mark.real_data
def test_a_log_that_arrives_beside_a_measurement_is_seen(shared_data: Path, tmp_path: Path) -> None:
    """The .mpr of a running technique has no start; its .mpl brings it."""
    shutil.copy(shared_data / "echem/yadg_GPL3/gcpl.pr_182.1.mpr", tmp_path / "run.mpr")
    config = tmp_path / "beamtime.yaml"
    config.write_text("timezone: Europe/Zurich\nsources:\n  cycler: {loader: biologic-mpr, files: '*.mpr'}\ncells:\n  A: {echem: {from: cycler}}\n")
    assert list(beamtime.run(read_config(config)).quarantined) == ["run.mpr"]
    log = tmp_path / "run.mpl"
    log.write_text("EC-Lab LOG FILE\n\nAcquisition started on : 05/07/2024 10:00:00.000\n")
    outcome = beamtime.run(read_config(config))
    assert outcome.ok, outcome.quarantined
    records = op.open_beamtime(outcome.published)["A/echem/frames"].ds
    assert records.time.values[0] == np.datetime64("2024-05-07T08:00:00", "ns")
    log.write_text(log.read_text().replace("10:00:00", "11:00:00"))
    again = beamtime.run(read_config(config))
    assert op.open_beamtime(again.published)["A/echem/frames"].ds.time.values[0] == np.datetime64("2024-05-07T09:00:00", "ns")


def test_a_series_that_cannot_be_put_on_utc_is_not_published(tmp_path: Path) -> None:
    """A lone frame in the hour that autumn repeats: nobody can tell; its wall-clock time must not pass for UTC."""
    pattern(tmp_path / "20261025T023000_0001.xye")
    outcome = build(tmp_path, NUMBERED)
    assert "twice" in str(outcome.problems[0])
    assert not outcome.published.exists()


def test_what_a_store_rested_on_and_is_gone_is_gone_from_the_published_file(tmp_path: Path) -> None:
    """A line taken out of the log, a zone taken out of the configuration: the store is what a fresh build would give."""
    for k in range(3):
        pattern(tmp_path / f"a_{k}.xye")
    log = tmp_path / "log.csv"
    log.write_text("file,start\n" + "".join(f"a_{k}.xye,2026-06-03T10:0{k}:00\n" for k in range(3)))
    assert xrd(build(tmp_path, LOG)).sizes["time"] == 3
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    outcome = build(tmp_path, LOG)
    assert list(outcome.quarantined) == ["a_2.xye"]
    assert xrd(outcome).sizes["time"] == 2
    config = tmp_path / "beamtime.yaml"
    config.write_text(config.read_text().replace("timezone: Europe/Paris\n", ""))
    refused = beamtime.run(read_config(config))
    assert "zone" in str(refused.problems[0])


def test_a_clock_for_a_restart_that_was_not_found_is_said(tmp_path: Path) -> None:
    pattern(tmp_path / "20260603T100000_0001.xye")
    outcome = build(tmp_path, NUMBERED, "[{segment: 0, offset: 0 s}, {segment: 1, offset: 3600 s}]")
    assert any("names segment 1, and the source has only 0" in message for message in outcome.messages)
    assert "names segment 1" in " ".join(beamtime.check(tmp_path / "beamtime.yaml").problems)
