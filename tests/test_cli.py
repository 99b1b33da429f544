"""The command line: answers on standard output, messages on standard error, exit status by who is at fault."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import operando as op
from operando.cli import main
from operando.export import not_in_tables


@pytest.fixture(scope="module")
def folder(small_beamtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small beamtime, built, with a file that no loader knows."""
    copy = tmp_path_factory.mktemp("cli") / "example"
    shutil.copytree(small_beamtime, copy)
    (copy / "notes.py").write_text("print(1)\n")
    assert main(["build", str(copy / "beamtime.yaml")]) == 0
    return copy


def test_build_says_what_it_did_and_then_that_nothing_is_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(folder / "beamtime.yaml"), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["ok"] is True
    assert main(["build", str(folder / "beamtime.yaml")]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_check_prints_a_page_and_draws_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder / "beamtime.yaml"), "--png", str(folder / "drawn.svg")]) == 0
    out = capsys.readouterr().out
    assert "67 of 69 frames lie inside the electrochemistry, 2 outside." in out
    told = " ".join(out.split())  # lines end where the terminal does
    assert "clock -37 s +- 1 s (given)" in told
    assert "1 gap: 300 s" in told
    assert (folder / "drawn.svg").stat().st_size > 5000
    assert main(["check", str(folder / "beamtime.yaml"), "--no-png", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {s["address"]: s["flags"]["OUTSIDE"] for s in report["streams"]} == {"A/echem": 0, "A/xrd": 2, "A/temperature": 19}


def test_check_finds_a_zone_that_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "beamtime.yaml").read_text()
    wrong = folder / "wrong_zone.yaml"
    wrong.write_text(text.replace("    loader: xrd-1d\n", "    loader: xrd-1d\n    timezone: America/New_York\n"))
    assert main(["check", str(wrong), "--no-png"]) == 0
    assert "looks like a zone error of -6 h" in capsys.readouterr().out


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for store in ("beamtime.nxs", "beamtime.operando"):
        assert main(["info", str(folder / store), "--json"]) == 0
        products = {p["address"]: p["rows"] for p in json.loads(capsys.readouterr().out)["products"]}
        assert products["A/xrd/frames"] == 69
        assert main(["info", str(folder / store)]) == 0
        assert "A/xrd/frames" in capsys.readouterr().out


def test_view_calls_the_viewer_that_is_installed(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    assert main(["view", str(folder / "beamtime.nxs")]) == 1
    assert 'pip install "napari-operando[qt]"' in capsys.readouterr().err
    assert main(["view", str(folder / "none.nxs")]) == 1
    assert "no such store" in capsys.readouterr().err
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint("x", "no_such_module_at_all:view", group)])
    assert main(["view", str(folder / "beamtime.nxs")]) == 1
    assert "cannot be loaded" in capsys.readouterr().err
    (folder / "viewer_of_the_test.py").write_text(
        "shown = []\ndef view(store, *, cell, images):\n    shown.append((store.name, cell, [i.name for i in images]))\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint("x", "viewer_of_the_test:view", group)])
    assert main(["view", str(folder / "beamtime.nxs"), "--cell", "A", "--images", "raw"]) == 0
    import viewer_of_the_test  # type: ignore[import-not-found]

    assert viewer_of_the_test.shown == [("beamtime.nxs", "A", ["raw"])]


def test_export_forms_hold_the_same_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, tree = folder / "beamtime.nxs", op.open_beamtime(folder / "beamtime.nxs")
    frames = tree["A/xrd/frames"].to_dataset().load()
    for name in ("xrd.csv", "xrd.nc", "xrd.parquet"):
        assert main(["export", str(store), "A/xrd", "-o", str(folder / name)]) == 0
    table = pd.read_csv(folder / "xrd.csv")
    assert len(table) == 69
    assert table["time"][2] == "2026-06-03T08:00:15.000000Z"
    assert table["voltage (V)"][5] == pytest.approx(float(frames.voltage[5]), abs=1e-12)
    assert table.filter(like="intensity at q=").shape[1] == frames.sizes["q"]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "xrd.parquet")[["voltage (V)"]], table[["voltage (V)"]])
    with xr.open_dataset(folder / "xrd.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again.intensity.load(), frames.intensity)
    assert main(["export", str(store), "A/echem/frames", "-o", str(folder / "A.bdf.csv")]) == 0
    loaded = op.load(folder / "A.bdf.csv", "bdf")
    records = tree["A/echem/frames"].to_dataset()
    assert loaded.sizes["time"] == records.sizes["time"]
    assert loaded.voltage.values == pytest.approx(records.voltage.values, abs=1e-9)
    capsys.readouterr()


def test_what_a_table_cannot_hold_is_named() -> None:
    ds = xr.Dataset(
        {"impedance": (("time", "point", "electrode"), np.ones((2, 3, 2), complex)), "noise": ("time", np.ones(2))}, coords={"time": np.arange(2)}
    )
    assert not_in_tables(ds) == ["impedance"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "beamtime.nxs", "A/xrd", "-o", "beamtime.yaml"], "suffix"),
        (["export", "beamtime.nxs", "A/raman", "-o", "a.csv"], "A/xrd/frames"),
        (["export", "beamtime.nxs", "A/xrd", "-o", "a.bdf.csv"], "only electrochemistry"),
        (["export", "beamtime.nxs", "A/xrd", "-o", "there.csv"], "--overwrite"),
        (["info", "nowhere.nxs"], "nowhere.nxs"),
        (["info", "beamtime.yaml"], "beamtime.yaml"),
        (["build", "nowhere.yaml"], "nowhere.yaml"),
        (["build", "beamtime.yaml", "--memory", "much"], "1 GB"),
        (["loaders", "nothing"], "no loader"),
        (["new", "nowhere"], "nowhere"),
        (["new", "."], "beamtime.yaml"),
        (["check-loader", "xrd-1d", "temperature.csv", "--option", "wavelength"], "NAME=VALUE"),
    ],
)
def test_wrong_input_is_exit_1_and_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "there.csv").write_text("x")
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err


def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["biuld"], ["build"], ["build", "a.yaml", "--workers", "0"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()


def test_json_errors_are_one_object_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(folder / "nowhere.nxs"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert "nowhere.nxs" in said["error"]["file"]


def test_loaders_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loaders"]) == 0
    assert "biologic-mpt" in capsys.readouterr().out
    assert main(["loaders", "xrd-1d"]) == 0
    assert "wavelength" in capsys.readouterr().out
    assert main(["loaders", "--json"]) == 0
    assert "xas" in json.loads(capsys.readouterr().out)["loaders"]["xas-columns"]["techniques"]


def test_check_loader(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "echem" / "A_02_GCPL.mpt")
    assert main(["check-loader", "biologic-mpt", path, "--timezone", "Europe/Paris"]) == 0
    assert "FAIL" not in capsys.readouterr().out
    assert main(["check-loader", "biologic-mpt", str(folder / "temperature.csv")]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_new_proposes_what_check_accepts(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(
        folder,
        raw,
        ignore=shutil.ignore_patterns("*.yaml", "*.nxs", "*.operando", "*.png", "*.svg", "*.nc", "*.parquet", "*.bdf.csv", "there.csv", "xrd.csv"),
    )
    assert main(["new", str(raw)]) == 0
    said = capsys.readouterr().out
    assert "notes.py" in said or ".py" in said, "what it could not tell"
    proposed = (raw / "beamtime.yaml").read_text()
    assert "timezone" in proposed
    assert main(["new", str(raw)]) == 1, "it never overwrites"
    capsys.readouterr()
    print(proposed)
    for line in proposed.splitlines():
        if line.lstrip("# ").startswith("timezone:"):
            filled = proposed.replace(line, "timezone: Europe/Paris", 1)
            break
    (raw / "beamtime.yaml").write_text(filled)
    assert main(["check", str(raw / "beamtime.yaml"), "--no-png"]) in (0, 1)
    assert "echem" in capsys.readouterr().out


def test_check_loader_does_not_praise_what_it_could_not_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "a.xy"
    bad.write_text("nothing of the kind\n")
    assert main(["check-loader", "xrd-1d", str(bad)]) == 1
    out = capsys.readouterr().out
    assert "FAIL file is read" in out
    assert "rules were not tried" in out
    assert "ok " not in out


def test_check_prints_its_page_where_no_figure_can_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from operando import figures

    def refuse(*_: object) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(figures, "save", refuse)
    assert main(["check", str(folder / "beamtime.yaml")]) == 0
    said = capsys.readouterr()
    assert "67 of 69 frames" in said.out
    assert "not drawn" in said.err
    assert "--png" in said.err
    assert main(["check", str(folder / "beamtime.yaml"), "--png", str(folder / "x.png")]) == 1
    said = capsys.readouterr()
    assert "67 of 69 frames" in said.out
    assert "x.png: Read-only file system" in said.err


def test_check_prints_its_page_where_the_figure_has_no_such_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.xyz", "missing/x.png"):
        assert main(["check", str(folder / "beamtime.yaml"), "--png", str(folder / name)]) == 1
        said = capsys.readouterr()
        assert "67 of 69 frames" in said.out
        assert f"{name}: " in said.err
    assert not list(folder.glob(".*"))


MINE = '''"""Frames of a test."""
import time

import numpy as np

from operando.contract import series

TECHNIQUES = ("xrd",)
VERSION = "1"


def load(path, slow=0.0):
    """Read."""
    print("read", path)
    time.sleep(slow)
    if "bad" in str(path).rpartition("/")[2]:
        raise ValueError("is root:x:0 here")
    signal, x = np.ones((1, 9)), np.arange(9.0)
    more = {"coords": {"two_theta": ("two_theta", x, "deg")}, "start": "2026-06-03T10:00:00Z", "exposure": 1.0, "time_origin": "header"}
    return series("xrd", {"intensity": (("time", "two_theta"), signal, "counts")}, source=path, attrs={"wavelength": 1.0}, **more)
'''


def own_loader(folder: Path, slow: float = 0.0) -> str:
    """Write a beamtime of two files with a loader of its own, which prints."""
    (folder / "mine.py").write_text(MINE)
    (folder / "good.dat").write_text("1")
    (folder / "bad.dat").write_text("2")
    (folder / "b.yaml").write_text(
        f'sources: {{d: {{loader: "mine.py:load", files: "*.dat", slow: {slow}}}}}\ncells: {{A: {{series: {{xrd: {{from: d}}}}}}}}\n'
    )
    return str(folder / "b.yaml")


def test_json_stays_json_whatever_a_loader_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_loader(tmp_path)
    for command in (["check", config, "--json", "--no-png"], ["build", config, "--json"]):
        assert main(command) == 1
        said = capsys.readouterr()
        assert json.loads(said.out)["ok"] is False
        assert "read " in said.err
    assert main(["build", config + "x", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["problem"] == "cannot be opened"


def test_messages_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", own_loader(tmp_path)]) == 1
    assert capsys.readouterr().err.count("is root:x:0 here") == 2


def test_a_store_that_could_not_be_published_is_not_called_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_loader(tmp_path)
    (tmp_path / "b.nxs").mkdir()
    for _ in range(2):
        assert main(["build", config]) == 1
        said = capsys.readouterr()
        assert "not published" in said.out
        assert "1 file could not be read" in said.err


@pytest.mark.parametrize("name", ["", "/", ".."])
def test_a_store_needs_a_name(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", own_loader(tmp_path), "-o", name]) == 1
    assert "no name for a store" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", ""])
def test_workers_are_a_number(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["build", "b.yaml", "--workers", workers])
    assert stop.value.code == 2
    assert "not a number of processes" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_is_stopped_says_so(tmp_path: Path, number: int, status: int, workers: str) -> None:
    command = [sys.executable, "-m", "operando.cli", "build", own_loader(tmp_path, slow=3.0), "--workers", workers]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    assert "read d" in run.stderr.readline()
    time.sleep(1.0)
    run.send_signal(number)
    _, said = run.communicate(timeout=30)
    assert run.returncode == status
    assert "the next run goes on from here" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.tmp"))


def test_export_wants_a_folder_that_is_there(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(folder / "beamtime.nxs")
    for name in ("missing/x.csv", "missing/x.nc"):
        assert main(["export", store, "A/xrd", "-o", str(tmp_path / name)]) == 1
        assert "the folder of the file does not exist" in capsys.readouterr().err
    (tmp_path / "x.csv").mkdir()
    assert main(["export", store, "A/xrd", "-o", str(tmp_path / "x.csv"), "--overwrite"]) == 1
    assert "this is a folder" in capsys.readouterr().err


FULL = """
import errno, os, sys
true = os.pwrite
def full(fd, data, offset):
    if offset + len(data) > int(sys.argv[1]):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return true(fd, data, offset)
os.pwrite = full
from operando.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("room", ["8000", "40000"])
def test_export_to_a_full_disk_says_so_and_leaves_nothing(folder: Path, tmp_path: Path, room: str) -> None:
    command = [sys.executable, "-c", FULL, room, "export", str(folder / "beamtime.nxs"), "A/xrd", "-o", str(tmp_path / "x.nc")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "x.nc: cannot be written: No space left" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_lacks_characters_is_no_reason_to_stop(folder: Path) -> None:
    command = [sys.executable, "-m", "operando.cli", "check", str(folder / "beamtime.yaml"), "--no-png"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"67 of 69 frames" in done.stdout


def test_many_bad_files_do_not_bury_the_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_loader(tmp_path)
    for n in range(50):
        (tmp_path / f"bad{n}.dat").write_text(str(n))
    assert main(["build", config]) == 1
    said = capsys.readouterr().err
    assert "51 files could not be read" in said
    assert said.count("cannot be read as") == 40
    assert "and 31 more: operando info" in said
    assert main(["info", str(tmp_path / "b.operando")]) == 0
    assert capsys.readouterr().out.count("cannot be read as") == 51
