"""A simulated beamtime as a whole: deterministic, in pieces or at once, several cells, of any length, and built by the pipeline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import operando as op
from operando.simulate import simulate
from operando.simulate.__main__ import main
from operando.simulate.beamtime import INSTRUMENTS

SMALL = {"cycles": 1, "frames": 8}


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "small"
    simulate(folder, **SMALL)
    return folder


def test_every_instrument_writes_and_truth_knows_its_files(small: Path) -> None:
    truth = json.loads((small / "truth.json").read_text())
    series = truth["cells"]["A"]["series"]
    assert list(series) == list(INSTRUMENTS)
    for name, told in series.items():
        for file in told.get("files", []):
            assert (small / INSTRUMENTS[name].folder / file).is_file(), (name, file)
        if "begin_s" in told:
            n = len(told["begin_s"])
            assert n > 0
            assert n == len(told["file"]) == len(told["index"]) == len(told["voltage_V"])
            assert all(len(o["values"]) == n and o["unit"] for o in told["observables"].values()), name


def test_the_same_seed_writes_the_same_bytes_and_pieces_are_the_whole(small: Path, tmp_path: Path) -> None:
    simulate(tmp_path, without=["echem", "xrd"], **SMALL)
    assert not (tmp_path / "echem").exists()
    simulate(tmp_path, only=["echem", "xrd"], **SMALL)
    assert digests(tmp_path) == digests(small)


def test_another_seed_writes_others(small: Path, tmp_path: Path) -> None:
    simulate(tmp_path, only=["echem"], **{**SMALL, "seed": 4})
    one = "echem/A_run1_01_GCPL_C01.mpt"
    assert digests(tmp_path)[one] != digests(small)[one]


def test_electrochemistry_that_comes_late(tmp_path: Path) -> None:
    path = simulate(tmp_path, only=["xrd", "xas"], **SMALL)
    tree = op.open_beamtime(_built(path))
    assert np.isnan(tree["A/xrd/frames"].voltage).all(), "frames are there, without a voltage"
    simulate(tmp_path, only=["echem"], **SMALL)
    tree = op.open_beamtime(_built(path))
    assert np.isfinite(tree["A/xrd/frames"].voltage).any()


def test_several_cells_have_their_own_files_and_truth(tmp_path: Path) -> None:
    path = simulate(tmp_path, cells=2, only=["echem", "holder", "xas"], cycles=1)
    truth = json.loads((tmp_path / "truth.json").read_text())["cells"]
    assert set(truth) == {"A", "B"}
    assert truth["A"]["series"]["xas"]["voltage_V"] != truth["B"]["series"]["xas"]["voltage_V"]
    tree = op.open_beamtime(_built(path))
    for cell in "AB":
        assert f"{cell}/xas/frames" in tree.groups or tree[f"{cell}/xas/frames"].sizes["time"] > 10


def _built(path: Path) -> Path:
    from operando.beamtime import run
    from operando.config import read_config

    outcome = run(read_config(path))
    assert not outcome.problems, [str(p) for p in outcome.problems]
    return outcome.published


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "neutrons"], "no instrument 'neutrons'"),
        (["--only", " "], "no instrument is left"),
        (["--only", "echem", "--without", "echem"], "no instrument is left"),
        (["--hours", "inf"], "positive"),
        (["--hours", "0.1"], "at least one hour"),
        (["--seed", "-1"], "seed -1"),
        (["--cells", "0"], "positive"),
        (["--hours", "-3"], "positive"),
        (["--frames", "0"], "positive"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "x"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_hours_and_frames_scale(tmp_path: Path) -> None:
    simulate(tmp_path, only=["echem", "holder"], hours=30.0)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["cells"]["A"]["end_s"] > 30 * 3600


def test_the_committed_example_is_what_the_simulator_writes(root: Path, tmp_path: Path) -> None:
    """Files, their sizes and everything that is said to be true; small floating-point differences between machines aside."""
    simulate(tmp_path)
    here, there = (json.loads((folder / "truth.json").read_text()) for folder in (root / "example_beamtime", tmp_path))
    same(here, there, "truth")
    ours = {p.relative_to(tmp_path): p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()}
    kept = {p.relative_to(root / "example_beamtime") for p in (root / "example_beamtime").rglob("*") if p.is_file()}
    assert {p for p in kept if p.suffix not in (".nxs", ".png", ".md") and ".operando" not in str(p)} == set(ours)
    for path, size in ours.items():
        assert (root / "example_beamtime" / path).stat().st_size == pytest.approx(size, rel=0.01, abs=50), path
    assert (root / "example_beamtime" / "beamtime.yaml").read_text() == (tmp_path / "beamtime.yaml").read_text()


def same(one: object, other: object, where: str) -> None:
    """Hold two pieces of JSON against each other, numbers to six digits."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{k}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9), where
    else:
        assert one == other, where


def test_two_cells_stand_before_one_beamline(tmp_path: Path) -> None:
    simulate(tmp_path, cells=2, only=["xrd", "echem", "beamline"], cycles=1)
    truth = json.loads((tmp_path / "truth.json").read_text())
    zero = {name: np.datetime64(cell["start"].rstrip("Z")) for name, cell in truth["cells"].items()}
    spans = []
    for name, cell in truth["cells"].items():
        xrd = cell["series"]["xrd"]
        shift = (zero[name] - np.datetime64(truth["zero"].rstrip("Z"))) / np.timedelta64(1, "s")
        spans += [(b + shift, b + shift + e) for b, e in zip(xrd["begin_s"], xrd["exposure_s"], strict=True)]
        assert np.array(cell["dump_s"]) + shift == pytest.approx([40_000, 43_000]), "one ring, one dump"
    spans.sort()
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)), "a detector takes one frame at a time"
    masks = []
    for name in "AB":
        with h5py.File(tmp_path / "xrd" / f"{name}_0001.h5") as h5:
            masks.append(h5["entry/instrument/detector/pixel_mask"][...])
    assert np.array_equal(*masks), "one detector, one mask"
    assert np.array_equal(masks[0] != 0, np.load(tmp_path / "xrd" / "mask.npy") != 0)


def test_as_many_frames_as_were_asked_for(tmp_path: Path) -> None:
    simulate(tmp_path, only=["echem", "xrd"], frames=100)
    written = 0
    for path in sorted((tmp_path / "xrd").glob("A_*.h5"))[:-1]:
        with h5py.File(path) as h5:
            written += len(h5["entry/data/data"])
    xrd = json.loads((tmp_path / "truth.json").read_text())["cells"]["A"]["series"]["xrd"]
    assert written == len(xrd["begin_s"])
    assert written + len(xrd["facts"]["half_written"]["begin_s"]) == 100
    with pytest.raises(ValueError, match="do not fit .* --hours"):
        simulate(tmp_path / "other", only=["xrd"], frames=10_000)


def test_two_simulations_are_never_mixed_in_one_folder(small: Path, tmp_path: Path) -> None:
    before = digests(small)
    for other in ({**SMALL, "seed": 3}, {**SMALL, "frames": 9}, {**SMALL, "cells": 2}):
        with pytest.raises(ValueError, match="holds another simulation"):
            simulate(small, **other)
    assert digests(small) == before
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(ValueError, match="is not the truth of a simulation"):
        simulate(tmp_path, **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        simulate(tmp_path / "file", **SMALL)


def test_a_short_run_holds_no_trap_that_lies_beyond_it(small: Path) -> None:
    truth = json.loads((small / "truth.json").read_text())
    assert truth["cells"]["A"]["end_s"] < 50_000
    assert truth["clocks"]["xas"]["restarts_s"] == []
    assert sorted(p.name for p in (small / "echem").iterdir()) == ["A_run1_01_GCPL_C01.mpt", "A_run1_02_PEIS_C01.mpt"]
    assert truth["cells"]["A"]["temperature_step"] is None


def test_truth_says_nothing_of_the_cell_where_it_was_not_yet_measured(root: Path) -> None:
    xrd = json.loads((root / "example_beamtime" / "truth.json").read_text())["cells"]["A"]["series"]["xrd"]
    outside = [k for k, inside in enumerate(xrd["inside"]) if not inside]
    assert outside
    assert all(xrd["voltage_V"][k] is None for k in outside)
    assert all(v is not None for k, v in enumerate(xrd["voltage_V"]) if k not in outside)
