"""Reading frames: whatever one file or the disk does, the other files are built and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import operando as op
from operando import beamtime
from operando.config import read_config
from operando.contract import StoreError
from operando.store import files as store_files

CONFIG = """\
timezone: Europe/Paris
sources:
  mine: {{loader: "mine.py:load", files: "*.dat", how: {how}}}
cells:
  A:
    series:
      xrd: {{from: mine}}
"""

LOADER = '''\
"""Frames of a test, with whatever goes wrong in the file called 3.dat."""
import os
import time

import numpy as np

from operando.contract import series

TECHNIQUES = ("xrd",)
VERSION = "1"


def load(path, how=""):
    """Read."""
    n = int(os.path.basename(path)[0])
    odd = n == 3
    if odd and how == "exit":
        raise SystemExit(4)
    if odd and how == "killed":
        os.kill(os.getpid(), 9)
    if how == "slow":
        time.sleep(30)
    x = np.arange(40.0)
    signal = np.random.default_rng(n).random((2, 40), np.float32)
    more = {}
    if how == "text":
        more = {"motor_x": ("time", ["a", "b"]) if odd else ("time", [1.0, 2.0], "mm")}
    if how == "stamp":
        more = {"motor_x": ("time", np.array(["2026-01-01"] * 2, "M8[ns]")) if odd else ("time", [1.0, 2.0], "mm")}
    ds = series(
        "xrd", {"intensity": (("time", "two_theta"), signal, "counts")}, source=path, coords={"two_theta": ("two_theta", x, "deg"), **more},
        start=f"2026-06-03T10:0{n}:00", elapsed=[0.0, 5.0], exposure=1.0, time_origin="header", attrs={"wavelength": 1.0},
    )
    if odd and how == "object":
        ds["intensity"] = ds["intensity"].astype(object)
    if odd and how == "nul":
        ds = ds.assign_coords(note=("time", np.array(["a\\0b", "c"], object)))
    if odd and how == "lambda":
        ds.attrs["f"] = lambda: 1
    return ds
'''


def folder_of(path: Path, how: str) -> Path:
    """Write six files and a loader for them."""
    (path / "mine.py").write_text(LOADER)
    for n in range(1, 7):
        (path / f"{n}.dat").write_text(f"{n}")
    (path / "beamtime.yaml").write_text(CONFIG.format(how=how or '""'))
    return path / "beamtime.yaml"


def rows(outcome: beamtime.Outcome) -> int:
    return int(op.open_beamtime(outcome.published)["A/xrd/frames"].sizes["time"])


@pytest.mark.parametrize("how", ["exit", "text", "stamp", "object", "nul"])
def test_a_file_that_cannot_be_stored_is_set_aside_and_the_rest_is_built(tmp_path: Path, how: str) -> None:
    config = folder_of(tmp_path, how)
    outcome = beamtime.run(read_config(config))
    assert list(outcome.quarantined) == ["3.dat"]
    assert "3.dat" in outcome.quarantined["3.dat"]
    assert outcome.problems == []
    assert rows(outcome) == 10
    again = beamtime.run(read_config(config))
    assert again.quarantined == outcome.quarantined
    assert again.done["files"] == again.done["published"] == 0


@pytest.mark.parametrize("how", ["killed", "exit", "object"])
def test_a_file_that_takes_its_process_down_is_set_aside(tmp_path: Path, how: str) -> None:
    outcome = beamtime.run(read_config(folder_of(tmp_path, how)), workers=2)
    assert list(outcome.quarantined) == ["3.dat"]
    assert rows(outcome) == 10


def test_what_cannot_travel_between_processes_is_named(tmp_path: Path) -> None:
    outcome = beamtime.run(read_config(folder_of(tmp_path, "lambda")), workers=2)
    assert "3.dat" in outcome.quarantined["3.dat"]
    assert rows(outcome) == 10


@pytest.mark.parametrize("failing", range(2, 12))
def test_a_full_disk_is_no_fault_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    config = read_config(folder_of(tmp_path, ""))
    true, calls = os.pwrite, [0]

    def full(fd: int, data: bytes, offset: int) -> int:
        calls[0] += 1
        if calls[0] % failing == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true(fd, data, offset)

    monkeypatch.setattr(store_files.os, "pwrite", full)
    with contextlib.suppress(StoreError):
        outcome = beamtime.run(config, memory=1000)
        assert outcome.quarantined == {}
        assert all("No space left" in str(problem) for problem in outcome.problems)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.tmp"))
    outcome = beamtime.run(config, memory=1000)
    assert outcome.ok, outcome.quarantined
    assert rows(outcome) == 12


def test_a_failing_publication_does_not_hide_what_else_is_at_fault(tmp_path: Path) -> None:
    config = read_config(folder_of(tmp_path, "exit"))
    (tmp_path / "beamtime.nxs").mkdir()
    outcome = beamtime.run(config)
    assert list(outcome.quarantined) == ["3.dat"]
    assert "beamtime.nxs" in str(outcome.problems[0])


@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
def test_workers_end_with_a_main_process_that_was_killed(tmp_path: Path) -> None:
    config = folder_of(tmp_path, "slow")
    run = subprocess.Popen(
        [sys.executable, "-m", "operando.cli", "build", str(config), "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        workers: list[int] = []
        for _ in range(150):
            time.sleep(0.1)
            listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
            workers = [int(line.split()[0]) for line in listed if line.split()[1] == str(run.pid) and "spawn_main" in line]
            if len(workers) == 2:
                break
        assert len(workers) == 2
        time.sleep(1.0)
    finally:
        run.kill()
        run.communicate()
    for _ in range(100):
        alive = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


def test_the_loader_of_this_test_is_in_order(tmp_path: Path) -> None:
    outcome = beamtime.run(read_config(folder_of(tmp_path, "")))
    assert outcome.ok
    ds = op.open_beamtime(outcome.published)["A/xrd/frames"].ds
    np.testing.assert_array_equal(ds["intensity"].values[:2], np.random.default_rng(1).random((2, 40), np.float32))
