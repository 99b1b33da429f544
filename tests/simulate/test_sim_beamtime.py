"""A simulated beamtime as a whole: deterministic, in pieces or at once, several cells, of any length, and built by the pipeline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import operando as op
from operando.simulate import simulate
from operando.simulate.__main__ import main
from operando.simulate.beamtime import INSTRUMENTS

SMALL = {"cycles": 1, "frames": 8}
FEW = ("echem", "xrd", "total", "xas", "holder", "beamline", "triggers")


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
    simulate(tmp_path, seed=4, only=["echem"], **SMALL)
    one = "echem/A_01_GCPL_C01.mpt"
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
        (["--only", "neutrons"], "no instrument neutrons"),
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
    """Everything but the pictures and the words about them; small floating-point differences between machines aside."""
    simulate(tmp_path, only=FEW)
    here, there = json.loads((root / "example_beamtime" / "truth.json").read_text()), json.loads((tmp_path / "truth.json").read_text())
    for name in FEW:
        a, b = here["cells"]["A"]["series"][name], there["cells"]["A"]["series"][name]
        assert a.get("files") == b.get("files")
        if "begin_s" in a:
            np.testing.assert_allclose(a["begin_s"], b["begin_s"], atol=1e-3)
            np.testing.assert_allclose(a["voltage_V"], b["voltage_V"], rtol=1e-6)
    ours = {p.relative_to(tmp_path): p.stat().st_size for p in tmp_path.rglob("*") if p.is_file() and p.name != "truth.json"}
    for path, size in ours.items():
        assert (root / "example_beamtime" / path).stat().st_size == pytest.approx(size, rel=0.01, abs=50), path
    assert (root / "example_beamtime" / "beamtime.yaml").read_text() == (tmp_path / "beamtime.yaml").read_text()
