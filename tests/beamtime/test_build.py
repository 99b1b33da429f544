"""Building: stages skip what is there, bad files are set aside, nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rock_set import write_rock

import operando as op
from operando import beamtime
from operando.config import read_config
from operando.contract import AlignmentFlag, ClockError, ConfigError, OperandoError, StoreError
from operando.store import Store


def run(config: Path, **more: object) -> beamtime.Outcome:
    return beamtime.run(read_config(config), **more)  # type: ignore[arg-type]


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text(encoding="utf-8")
    assert old in text
    config.write_text(text.replace(old, new), encoding="utf-8")


def content(store: Path) -> dict[str, xr.Dataset]:
    return {node.path: node.to_dataset(inherit=False).load() for node in op.open_beamtime(store).subtree if node.to_dataset(inherit=False).variables}


def assert_same_content(one: Path, other: Path) -> None:
    a, b = content(one), content(other)
    assert a.keys() == b.keys()
    for path in a:
        xr.testing.assert_identical(a[path], b[path])


@pytest.fixture
def signals_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the spectra that were read from the store."""
    from operando.hdf5 import HDF5Array

    names: list[str] = []
    true = HDF5Array.read

    def counted(self: HDF5Array, key: object) -> np.ndarray:
        names.append(f"{self.path}:{self.dataset}")
        return true(self, key)  # type: ignore[arg-type]

    monkeypatch.setattr(HDF5Array, "read", counted)
    return names


def test_the_example_is_built_and_frames_carry_the_cell_state(example: Path) -> None:
    outcome = run(example)
    assert outcome.ok
    xrd = op.open_beamtime(outcome.published)["A/xrd/frames"].to_dataset().load()
    assert xrd.sizes["time"] == 69
    outside = (xrd.flags.values & int(AlignmentFlag.OUTSIDE)) != 0
    assert list(np.flatnonzero(outside)) == [0, 1], "taken before the cycler started"
    assert np.isnan(xrd.voltage.values[:2]).all(), "never the nearest record"
    assert np.isfinite(xrd.voltage.values[2:]).all()
    # the detector is 37 s late; the third pattern really began with the cycler
    assert xrd.time.values[2] == np.datetime64("2026-06-03T08:00:15", "ns")
    assert xrd.source_time.values[2] == np.datetime64("2026-06-03T08:00:52", "ns")
    peak = xrd.two_theta.values[xrd.intensity.values[2:, :100].argmax(axis=1)]
    assert np.corrcoef(peak, xrd.charge.values[2:])[0, 1] > 0.95, "peak and charge move together only if the clock is right"
    assert float(xrd.temperature.values[-1] - xrd.temperature.values[5]) == pytest.approx(2.0, abs=0.1)


def test_the_published_file_and_the_growing_store_say_the_same(example: Path) -> None:
    outcome = run(example)
    assert_same_content(outcome.published, outcome.live)


def test_an_unchanged_run_does_nothing(example: Path, read_files: list[str]) -> None:
    first = run(example)
    before = first.published.stat()
    read_files.clear()
    again = run(example)
    assert not any(again.done.values())
    assert read_files == []
    assert again.published.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("offset: -37 s", "offset: -30 s, drift: 10 ppm"),
        ("timezone: Europe/Paris", "timezone: Europe/Helsinki"),
        ("uncertainty: 1 s", "uncertainty: 3 s"),
    ],
)
def test_a_clock_edit_recomputes_alignment_only(example: Path, read_files: list[str], old: str, new: str) -> None:
    run(example)
    edit(example, old, new)
    read_files.clear()
    outcome = run(example)
    assert read_files == [], "no raw file is read again"
    assert outcome.done["frames"] == 0
    assert outcome.done["alignments"] >= 1
    fresh = run(example, output=example.parent / "fresh.nxs")
    assert_same_content(outcome.published, fresh.published)


def test_aligning_reads_no_spectrum(example: Path, signals_read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from operando.beamtime import building

    run(example)
    edit(example, "offset: -37 s", "offset: -20 s")
    monkeypatch.setattr(building, "_publish", lambda *a, **k: None)
    signals_read.clear()
    assert run(example).done["alignments"] == 1
    assert signals_read, "the coordinates were read through the counted door"
    assert not [name for name in signals_read if "intensity" in name], "and no spectrum"


def test_electrochemistry_delivered_late(example: Path, read_files: list[str]) -> None:
    away = example.parent / "later"
    shutil.move(example.parent / "echem", away)
    first = run(example)
    assert [str(p).splitlines()[0].endswith("no file matches") for p in first.problems] == [True], "said, and the rest is built"
    assert any("no file matches" in problem for problem in op.check(example).problems)
    frames_ = op.open_beamtime(first.published)["A/xrd/frames"].to_dataset()
    assert ((frames_.flags.values & int(AlignmentFlag.UNALIGNED)) != 0).all(), "shown at once, without a voltage"
    assert frames_.time.values[2] == np.datetime64("2026-06-03T08:00:15", "ns"), "its clock is corrected all the same"
    shutil.move(away, example.parent / "echem")
    read_files.clear()
    second = run(example)
    assert second.ok
    assert sorted(read_files) == ["A_01_GCPL.mpt", "A_02_GCPL.mpt"], "no spectrum is read again"
    fresh = run(example, output=example.parent / "fresh.nxs")
    assert_same_content(second.published, fresh.published)


def test_bad_files_are_set_aside_and_the_rest_is_built(example: Path, read_files: list[str]) -> None:
    folder = example.parent / "xrd"
    good = sorted(folder.glob("*.xye"))
    good[5].write_bytes(b"")
    good[6].write_text(good[6].read_text()[:500])
    good[7].write_bytes(bytes(range(256)) * 20)
    good[8].rename(folder / "A_without-a-time.xye")
    outcome = run(example)
    assert not outcome.ok
    assert len(outcome.quarantined) == 4
    for name, reason in outcome.quarantined.items():
        assert Path(name).name in reason
    assert op.open_beamtime(outcome.published)["A/xrd/frames"].sizes["time"] == 65
    read_files.clear()
    again = run(example)
    assert again.quarantined == outcome.quarantined, "said again"
    assert read_files == [], "but not tried again"
    with pytest.warns(UserWarning, match="quarantined"):
        op.build(example)
    # mended, it is read
    good[5].write_text(good[9].read_text())
    read_files.clear()
    mended = run(example)
    assert read_files == [good[5].name]
    assert len(mended.quarantined) == 3


def test_a_changed_file_is_read_again_and_only_it(example: Path, read_files: list[str]) -> None:
    run(example)
    victim = sorted((example.parent / "xrd").glob("*.xye"))[10]
    victim.write_text(victim.read_text().replace(" 1", " 2"))
    added = victim.with_name("A_20260603T130000_0100.xye")
    added.write_text(victim.read_text())
    read_files.clear()
    outcome = run(example)
    assert sorted(read_files) == sorted([victim.name, added.name])
    assert_same_content(outcome.published, run(example, output=example.parent / "fresh.nxs").published)


def test_files_that_vanish_keep_their_frames_and_files_no_longer_meant_lose_them(example: Path) -> None:
    run(example)
    some = sorted((example.parent / "xrd").glob("*.xye"))
    some[-1].unlink()
    outcome = run(example)
    assert any("no longer on disk" in message for message in outcome.messages)
    assert op.open_beamtime(outcome.published)["A/xrd/frames"].sizes["time"] == 69
    edit(example, "files: xrd/*.xye", "files: xrd/*_00[0-3]*.xye")
    assert op.open_beamtime(run(example).published)["A/xrd/frames"].sizes["time"] in (40, 41)


def test_a_naive_source_without_a_zone_is_refused_with_the_key(example: Path) -> None:
    edit(example, "timezone: Europe/Paris", "title: no zone #")
    text = example.read_text().replace("title: example, one simulated cell with three instruments and three clocks\n", "")
    example.write_text(text)
    with pytest.raises(ClockError, match="timezone:"):
        run(example)


def test_an_unknown_option_recipe_and_loader_are_refused_before_anything_is_read(example: Path, read_files: list[str]) -> None:
    for old, new, words in (
        ("wavelength: 0.4133 angstrom", "wavelenght: 0.4133 angstrom", "wavelength"),
        ("loader: xrd-1d", "loader: xrd1d", "xrd-1d"),
        ("where: {cell: A}}", "where: {cell: A}, recipe: nmc9999}", "nmc9999"),
        ("offset: -37 s", "offset: -37 s, drift: 5 %", "drift"),
    ):
        text = example.read_text()
        edit(example, old, new)
        with pytest.raises(OperandoError, match=words):
            run(example)
        example.write_text(text)
    assert read_files == []


def test_a_glob_that_matches_nothing_is_told_and_no_file_at_all_is_refused(example: Path, tmp_path: Path, read_files: list[str]) -> None:
    edit(example, "files: xrd/*.xye", "files: xrd/*.xyz")
    outcome = run(example)
    assert "A_2026" in str(outcome.problems[0])
    assert not outcome.ok
    for folder in [p for p in example.parent.iterdir() if p.is_dir()]:
        shutil.rmtree(folder)
    (example.parent / "temperature.csv").unlink()
    read_files.clear()
    with pytest.raises(OperandoError, match="no file matches"):
        run(example, output=tmp_path / "none.nxs")
    assert read_files == []


def test_one_source_is_read_once_for_several_series(example: Path, read_files: list[str]) -> None:
    edit(
        example,
        "      temperature: {from: holder}\n",
        "      temperature: {from: holder}\n      late: {from: detector, where: {frame: 40..99}}\n      none: {from: detector, where: {cell: B}}\n",
    )
    outcome = run(example)
    assert len(read_files) == len(set(read_files)) == 72
    tree = op.open_beamtime(outcome.published)
    assert tree["A/late/frames"].sizes["time"] == int((tree["A/xrd/frames"].ds.frame.values >= 40).sum())
    assert "A/none/frames" not in [n.path.strip("/") for n in tree.subtree]
    read_files.clear()
    assert not any(run(example).done.values()), "files that held nothing for a series are not read again either"


def test_the_result_does_not_depend_on_memory_or_workers(example: Path) -> None:
    whole = run(example)
    small = run(example, output=example.parent / "small.nxs", memory=20_000)
    assert len(Store(small.live).parts("A", "xrd", "frames")) > 1
    assert_same_content(whole.published, small.published)
    two = run(example, output=example.parent / "two.nxs", workers=2)
    assert_same_content(whole.published, two.published)


def test_another_axis_makes_another_setup(example: Path) -> None:
    some = sorted((example.parent / "xrd").glob("*.xye"))
    for path in some[50:]:
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:-20]) + "\n")
    outcome = run(example)
    assert any("A/xrd_setup1" in message and some[50].name in message for message in outcome.messages), "it is said"
    tree = op.open_beamtime(outcome.published)
    assert tree["A/xrd/frames"].sizes["time"] == 50
    assert tree["A/xrd_setup1/frames"].sizes["time"] == 19
    assert (tree["A/xrd_setup1/frames"].ds.setup.values == 1).all()
    assert np.isfinite(tree["A/xrd_setup1/frames"].ds.voltage.values).all()


def test_overlapping_electrochemistry_is_refused_and_the_frames_stay(example: Path) -> None:
    first = example.parent / "echem" / "A_01_GCPL.mpt"
    shutil.copy(first, first.with_name("A_03_GCPL.mpt"))
    outcome = run(example)
    assert not outcome.ok
    message = str(outcome.problems[0])
    assert "A_01_GCPL.mpt" in message
    assert "A_03_GCPL.mpt" in message
    frames_ = op.open_beamtime(outcome.published)["A/xrd/frames"].to_dataset()
    assert ((frames_.flags.values & int(AlignmentFlag.UNALIGNED)) != 0).all()
    first.with_name("A_03_GCPL.mpt").unlink()


def test_a_configuration_for_something_else_is_refused(example: Path) -> None:
    edit(example, "echem: {from: cycler}", "echem: {from: holder}")
    with pytest.raises(ConfigError, match="no electrochemistry"):
        run(example)


def test_only_one_writer(example: Path) -> None:
    run(example)
    live = beamtime.store_paths(read_config(example), None)[1]
    with Store(live).writing(), pytest.raises(StoreError, match=str(os.getpid())):
        run(example)


_KILLED = """
import os, signal, sys
n = int(sys.argv[2])
calls = 0
def deadly(true):
    def call(*a, **k):
        global calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return true(*a, **k)
    return call
os.replace = deadly(os.replace)
os.fsync = deadly(os.fsync)
os.write = deadly(os.write)
from operando import beamtime
from operando.config import read_config
beamtime.run(read_config(sys.argv[1]), memory=100_000)
"""


@pytest.mark.slow
def test_killed_at_any_write_the_next_run_finishes_with_the_same_result(example: Path) -> None:
    whole = run(example, output=example.parent / "whole.nxs", memory=100_000)
    killed = 0
    for n in (1, 2, 3, 5, 8, 13, 17, 21, 26, 34, 42, 55, 70):
        live, published = example.with_suffix(".operando"), example.with_suffix(".nxs")
        shutil.rmtree(live, ignore_errors=True)
        published.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(_KILLED), str(example), str(n)], capture_output=True, text=True, check=False)
        killed += done.returncode == -signal.SIGKILL
        if done.returncode == -signal.SIGKILL and (live / "manifest.jsonl").exists() and Store(live).parts():
            for part in Store(live).parts():
                Store(live).read(part.cell, part.series, part.product).load()
        assert_same_content(run(example, memory=100_000).published, whole.published)
    assert killed >= 8


@pytest.mark.real_data
def test_what_a_preset_says_is_part_of_the_key(shared_data: Path, tmp_path: Path, root: Path, read_files: list[str]) -> None:
    config = write_rock(tmp_path, shared_data)
    preset = tmp_path / "mine.yaml"
    preset.write_text((root / "configs" / "beamlines" / "soleil-rock.yaml").read_text())
    edit(config, "preset: soleil-rock", "preset: mine.yaml")
    edit(config, "XAS_pos1/*.txt", "XAS_pos1/norm_op2*_000[1-3]_*.txt")
    first = run(config)
    assert first.ok, first.problems
    assert len(read_files) == 4
    read_files.clear()
    preset.write_text(preset.read_text() + "\n# a remark\n")
    assert run(config).done["files"] == 3, "the file of the preset changed"


def test_a_series_taken_out_of_the_configuration_is_not_published_but_kept(example: Path) -> None:
    run(example)
    edit(example, "      temperature: {from: holder}\n", "")
    outcome = run(example)
    assert any("A/temperature is no longer" in message for message in outcome.messages)
    assert "/A/temperature/frames" not in content(outcome.published)
    assert "/A/temperature/frames" in content(outcome.live)
    xrd = op.open_beamtime(outcome.published)["A/xrd/frames"].ds
    assert "temperature" not in xrd.coords, "the channel no longer joins the frames"


def test_a_series_that_no_frame_fits_is_told(example: Path) -> None:
    assert "where: {cell: A}" in example.read_text()
    edit(example, "where: {cell: A}", "where: {cell: B}")
    (problem,) = beamtime.check(example).problems
    assert "no frame fits where: {cell: B}" in problem
    assert "cell: A" in problem
    for _ in range(2):
        outcome = run(example)
        assert outcome.ok
        assert len([m for m in outcome.messages if "A/xrd" in m and "cell: B" in m]) == 1
    edit(example, "where: {cell: B}", "where: {zell: A}")
    (problem,) = beamtime.check(example).problems
    assert "found:    cell, frame" in problem
