"""The demo as a newcomer starts it: one command, figures, a table; without a display, without the viewer, and never over somebody's folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from operando import demo, recovery
from operando.cli import main


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo, run in a process of its own without a display; its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-c", "import sys; from operando.cli import main; sys.exit(main(sys.argv[1:]))", "demo", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder.parent)})
    assert ran.returncode == 0, ran.stderr
    return folder, ran.stdout


def test_the_table_has_every_question(done: tuple[Path, str]) -> None:
    folder, said = done
    for question in recovery.QUESTIONS:
        line = next(line for line in said.splitlines() if line.startswith(question.name + "  "))
        assert line.endswith("ok") or line.endswith(f"waits for {question.waits}"), line
    assert "not yet recovered" in said
    assert str(folder / "beamtime.nxs") in said


def test_the_figures_are_there_and_have_content(done: tuple[Path, str]) -> None:
    from matplotlib.image import imread

    folder, _ = done
    for name in ("alignment", "operando", "xrd_against_charge"):
        picture = imread(folder / "figures" / f"{name}.png")
        assert min(picture.shape[:2]) > 400, name
        assert picture[..., :3].std() > 0.02, name
        assert (folder / "figures" / f"{name}.svg").read_text().lstrip().startswith("<?xml")


def test_a_second_run_goes_on_with_what_is_there(done: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, said = done
    assert main(["demo", str(folder), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert answers["ok"]
    assert set(answers["answers"]) == {q.name for q in recovery.QUESTIONS}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    assert main(["demo", str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_seed_is_not_mixed_with_what_is_there(done: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(done[0]), "--seed", "3"]) == 1
    assert "another folder" in capsys.readouterr().err


def test_without_the_simulator_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "EXAMPLE", tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "Dans_Diffraction", None)
    assert main(["demo", str(tmp_path / "demo")]) == 1
    assert "operando[simulate]" in capsys.readouterr().err


def test_a_wrong_answer_is_shown_and_fails() -> None:
    right = recovery.Answer(3, "1 V", "1 V", 0.1, 0.2, "V")
    wrong = recovery.Answer(3, "1 V", "2 V", 1.0, 0.2, "V")
    nan = recovery.Answer(3, "1 V", "nan", float("nan"), 0.2, "V")
    assert right.ok
    assert not wrong.ok
    assert not nan.ok
    question = recovery.Question("a: b", lambda b: wrong)
    assert recovery.table([(question, wrong)]).splitlines()[-1].endswith("WRONG")
    assert recovery.table([(question, None)]).splitlines()[-1].endswith("MISSING")


def test_the_example_itself_is_never_built_in(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(root / "example_beamtime")]) == 1
    assert "works on a copy" in capsys.readouterr().err


def test_a_simulation_without_diffraction_is_drawn_and_asked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from operando.simulate import simulate

    simulate(tmp_path / "own", only=["echem", "xas", "holder"], cycles=1)
    main(["demo", str(tmp_path / "own")])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert sorted(p.name for p in (tmp_path / "own" / "figures").glob("*.png")) == [
        "alignment.png",
        "impedance.png",
        "operando.png",
        "resistances.png",
    ]
