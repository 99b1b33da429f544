"""The truth, asked of the whole pipeline through its public API, on the example beamtime: recovered within the stated tolerance, or known to wait.

A question that waits for a reducer is expected to fail by the product that is missing, and by nothing else; the day it is answered this
test fails, and the mark is taken off in `operando.recovery`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from operando import recovery
from operando.beamtime import run
from operando.config import read_config


@pytest.fixture(scope="module")
def beamtime(root: Path, tmp_path_factory: pytest.TempPathFactory) -> recovery.Beamtime:
    folder = tmp_path_factory.mktemp("truth") / "example"
    shutil.copytree(root / "example_beamtime", folder, ignore=shutil.ignore_patterns("*.operando", "*.nxs", "*.png"))
    outcome = run(read_config(folder / "beamtime.yaml"))
    assert not outcome.problems
    return recovery.Beamtime(outcome.published, folder / "truth.json")


def _cases() -> list[object]:
    waits = [pytest.mark.xfail(raises=recovery.NotRecoveredError, strict=True)]
    return [pytest.param(q, marks=waits if q.waits else [], id=q.name) for q in recovery.QUESTIONS]


@pytest.mark.parametrize("question", _cases())
def test_recovered(question: recovery.Question, beamtime: recovery.Beamtime) -> None:
    answer = question.ask(beamtime)
    assert answer.ok, f"true {answer.true}, recovered {answer.recovered}, off by {answer.deviation:.3g} of {answer.tolerance:.3g} {answer.unit}"


def test_the_checks_can_fail(beamtime: recovery.Beamtime) -> None:
    """Clocks a minute off, a tenth of the charge lost, a frame too many: each is noticed by the question it concerns."""
    ds, rows = beamtime.frames("xrd")
    keep = dict(beamtime._open)
    try:
        beamtime._open["xrd"] = (ds.assign_coords(time=ds.time.values + 60 * 10**9), rows)
        assert not _asked("xrd: time of the frames", beamtime).ok
        beamtime._open["xrd"] = (ds.assign_coords(charge=ds.charge * 0.9), rows)
        assert not _asked("xrd: charge", beamtime).ok
        beamtime._open["xrd"] = (ds.assign_coords(voltage=ds.voltage + 0.02), rows)
        assert not _asked("xrd: voltage over the exposure", beamtime).ok
    finally:
        beamtime._open = keep
    spoilt, beamtime.quarantined = beamtime.quarantined, beamtime.quarantined[1:]
    try:
        assert not _asked("all: files that cannot be read", beamtime).ok
    finally:
        beamtime.quarantined = spoilt


def _asked(name: str, beamtime: recovery.Beamtime) -> recovery.Answer:
    return next(q for q in recovery.QUESTIONS if q.name == name).ask(beamtime)


def test_every_frame_of_the_truth_is_in_the_store(beamtime: recovery.Beamtime) -> None:
    for series in ("xrd", "total", "xas"):
        _, rows = beamtime.frames(series)
        assert sorted(rows) == list(range(len(beamtime.series(series)["begin_s"]))), series


def test_a_question_without_its_product_says_what_is_missing(beamtime: recovery.Beamtime) -> None:
    with pytest.raises(recovery.NotRecoveredError, match="A/xrd/nothing"):
        beamtime.product("xrd", "nothing")
    with pytest.raises(recovery.NotRecoveredError, match="no thermometer"):
        beamtime.series("thermometer")
