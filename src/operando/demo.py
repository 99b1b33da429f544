"""`operando demo`: a beamtime whose truth is known, from raw files to figures, and a table of what was recovered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operando import beamtime, figures, recovery
from operando.beamtime import Outcome, Progress, Silent
from operando.config import read_config
from operando.contract import OperandoError

EXAMPLE = Path(__file__).parents[2] / "example_beamtime"
"""The example in a checkout; an installed package has none and simulates it anew."""

_BUILT = shutil.ignore_patterns("*.operando", "*.nxs", "*.png", "*.svg", "figures")


@dataclass
class Demo:
    """What the demo made.

    Attributes
    ----------
    config, store
        beamtime.yaml and the published store.
    report
        The alignment report.
    outcome
        What the build did.
    figures
        The figures drawn.
    answers
        Every question of `operando.recovery`, with its answer.
    """

    config: Path
    store: Path
    report: Any
    outcome: Outcome
    figures: list[Path]
    answers: list[tuple[recovery.Question, recovery.Answer | None]]

    @property
    def ok(self) -> bool:
        """Whether everything that can be recovered today was, within its tolerance."""
        return all(answer.ok if answer else bool(question.waits) for question, answer in self.answers)


def run(folder: Path, *, seed: int | None = None, progress: Progress | None = None) -> Demo:
    """Copy the example beamtime (or simulate it), check it, build it, draw it, and ask what was recovered.

    Parameters
    ----------
    folder
        Where it goes; must not exist, be empty, or be a demo made before (which is then continued).
    seed
        Simulate with this seed instead of copying the example.
    progress
        Where to say what goes on.

    Raises
    ------
    OperandoError
        The folder holds something else, or the simulator's libraries are missing; and what check and build raise.
    """
    say = progress or Silent()
    config = raw_files(folder, seed, say)
    report = beamtime.check(config, progress=say)
    outcome = beamtime.run(read_config(config), progress=say)
    drawn = draw(outcome.published, folder / "figures", report, progress=say)
    answers = recovery.ask(recovery.Beamtime(outcome.published, folder / "truth.json"))
    return Demo(config, outcome.published, report, outcome, drawn, answers)


def raw_files(folder: Path, seed: int | None = None, progress: Progress | None = None) -> Path:
    """Put the raw files of the example beamtime into a folder, unless an earlier demo has, and give its beamtime.yaml.

    They are copied from a checkout, or simulated where there is none.

    Raises
    ------
    OperandoError
        The folder holds something else, or the simulator's libraries are missing.
    """
    say = progress or Silent()
    if folder.resolve() == EXAMPLE.resolve():
        raise OperandoError("that is the example itself, and the demo works on a copy", file=folder, hint="operando demo, or operando demo DIR")
    if folder.exists() and not folder.is_dir():
        raise OperandoError("is a file", file=folder, expected="a new or empty folder")
    config = folder / "beamtime.yaml"
    if config.exists() and (folder / "truth.json").exists():
        if seed is not None:
            raise OperandoError("the folder holds a demo already", file=folder, hint="give another folder to simulate with a seed")
        return config
    if folder.exists() and any(folder.iterdir()):
        raise OperandoError(
            "the folder is not empty", file=folder, expected="a new or empty folder", hint="operando demo DIR, with a folder that is not there yet"
        )
    # made beside and moved when whole: an interrupted demo leaves nothing that looks like one
    growing = folder.absolute().with_name(f".{folder.absolute().name}.growing")
    shutil.rmtree(growing, ignore_errors=True)
    if seed is None and (EXAMPLE / "truth.json").exists():
        say.say(f"copying {EXAMPLE.name} to {folder}")
        _copy(EXAMPLE, growing)
    else:
        from operando.simulate import simulate

        growing.mkdir(parents=True)
        try:
            _ = simulate(growing, progress=say.say) if seed is None else simulate(growing, seed=seed, progress=say.say)
        except ImportError as error:
            raise OperandoError(
                f"the simulator needs the library {error.name or error}",
                hint='pip install "operando[simulate]", or run the demo in a checkout of the project',
            ) from None
        except ValueError as error:
            raise OperandoError(str(error)) from None
    if folder.exists():
        folder.rmdir()
    growing.rename(folder)
    return config


def _copy(example: Path, to: Path) -> None:
    """Copy the example's raw files; they may be written although the example may not."""
    for path in sorted(example.rglob("*")):
        if path.is_file() and not any(_BUILT("", [part]) for part in path.relative_to(example).parts):
            target = to / path.relative_to(example)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def draw(store: Path, folder: Path, report: Any, *, progress: Progress | None = None) -> list[Path]:
    """Draw the figures of the demo as PNG and SVG: the alignment, the classic operando figure, a waterfall along the charge, phases, impedance."""
    from operando.store import open_beamtime

    say = progress or Silent()
    folder.mkdir(exist_ok=True)
    tree = open_beamtime(store)
    made: dict[str, Callable[[], Any]] = {"alignment": lambda: figures.alignment(report)}
    cell = next(iter(tree.children))
    made["operando"] = lambda: figures.operando(tree, cell, timezone=report.zone)
    if "xrd" in tree[cell].children:
        xrd = tree[f"{cell}/xrd/frames"].ds
        if "charge" in xrd.coords and xrd["charge"].notnull().any():
            made["xrd_against_charge"] = lambda: figures.waterfall(xrd, against="charge")
        if "observables" in tree[f"{cell}/xrd"].children:
            fits = tree[f"{cell}/xrd/observables"].ds
            made["phases"] = lambda: figures.observables(tree, cell, "xrd/phase_fraction", "xrd/composition", timezone=report.zone)
            some = fits.sizes["time"] // 4
            made["refinement"] = lambda: figures.refinement(xrd, tree[f"{cell}/xrd/reduced"].ds, some, observables=fits, root=True)
    if "eis" in tree[cell].children and "observables" in tree[f"{cell}/eis"].children:
        found = tree[f"{cell}/eis/observables"].ds
        there = [f"eis/{n}" for n in ("ohmic_resistance", "interphase_resistance", "charge_transfer_resistance") if n in found]
        if there:
            made["resistances"] = lambda: figures.observables(tree, cell, *there, timezone=report.zone)
        made["impedance"] = lambda: figures.impedance(tree[f"{cell}/eis/frames"].ds, tree[f"{cell}/eis/reduced"].ds)
    say.stage("draw", len(made))
    out = []
    for name, figure in made.items():
        one = figure()
        out += [figures.save(one, folder / f"{name}{suffix}") for suffix in (".png", ".svg")]
        say.step()
    return out
