"""Reducers that fail or return what they may not, and recipes that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from toy_reducers import Factor, Toys, assert_as_fresh, configure, product, run, total, toy_reducers, write

import operando as op
from operando import beamtime
from operando.beamtime import reducing
from operando.config import read_config
from operando.contract import ConfigError, ContractError
from operando.reduction import Products, interface, reducer
from operando.store import Store


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Toys:
    made = toy_reducers()
    monkeypatch.setattr(interface, "reducers", lambda: made.known)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        write(tmp_path, number)
    return tmp_path


def test_a_crash_is_told_and_everything_else_is_built(folder: Path, toys: Toys) -> None:
    def crashing(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        if 6 in frames["frame"].values:
            raise ZeroDivisionError("a peak of no width")
        return total(frames, recipe)

    toys.add("total", crashing)
    text = configure(folder, "{stages: [{reducer: total}, {reducer: doubled}]}").read_text()
    config = folder / "beamtime.yaml"
    config.write_text(text + "      other: {from: detector, where: {position: 2}, recipe: {reducer: mean}}\n")
    outcome = beamtime.run(read_config(config), memory=8000)
    assert not outcome.ok
    (problem,) = outcome.problems
    assert isinstance(problem, ContractError)
    for words in ("reducer total failed", "ZeroDivisionError: a peak of no width", "A/xrd, frames ", "toy_reducers.py, line"):
        assert words in str(problem)
    assert isinstance(problem.__cause__, ZeroDivisionError)
    tree = op.open_beamtime(outcome.published)
    assert tree["A/other/reduced"].sizes["time"] == 6
    assert tree["A/xrd/frames"].sizes["time"] == 12
    assert tree["A/xrd/reduced"].sizes["time"] < 6, "what was done before it is kept"
    assert "/A/xrd/observables" not in [n.path for n in tree.subtree]
    # mended, only the rest is done
    done = set(tree["A/xrd/reduced"].ds.frame.values.tolist())
    toys.known["total"] = reducer("total", technique="xrd", kind="frame", recipe=Factor, version="1", products=("reduced",))(total)
    toys.clear()
    seen: list[int] = []
    toys.add("total", lambda frames, recipe, state: (seen.extend(frames["frame"].values.tolist()), total(frames, recipe))[1])
    outcome = run(config)
    assert set(seen) == set(range(12)) - done
    assert_as_fresh(outcome, config, toys)


def test_the_command_line_fails_where_a_reducer_failed(folder: Path, toys: Toys, capsys: pytest.CaptureFixture[str]) -> None:
    from operando.cli import main

    toys.add("total", lambda frames, recipe, state: 1 / 0)
    assert main(["build", str(configure(folder, "{reducer: total}"))]) == 1
    assert "reducer total failed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["frame", "forward"])
def test_a_run_that_ended_between_two_products_is_finished(folder: Path, toys: Toys, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def both(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        one = total(frames, recipe).datasets["reduced"]
        return Products({"reduced": one, "observables": one})

    toys.add("both", both, products=("reduced", "observables"), kind=kind)
    config = configure(folder, "{reducer: both}")
    true = reducing._Series._write
    written = []

    def ended(self: Any, name: str, *rest: Any) -> None:
        written.append(name)
        if len(written) == 4:
            raise KeyboardInterrupt
        true(self, name, *rest)

    monkeypatch.setattr(reducing._Series, "_write", ended)
    with pytest.raises(KeyboardInterrupt):
        beamtime.run(read_config(config), memory=8000)
    monkeypatch.setattr(reducing._Series, "_write", true)
    store = Store(folder / "beamtime.operando")
    assert sum(p.rows for p in store.parts("A", "xrd", "reduced")) > sum(p.rows for p in store.parts("A", "xrd", "observables")) > 0
    toys.clear()
    outcome = run(config, memory=8000)
    assert len(set(toys.frames)) < 12 or kind == "forward"
    assert_as_fresh(outcome, config, toys)


def no_units(frames: xr.Dataset, recipe: Any, state: Any) -> Products:
    return Products({"reduced": xr.Dataset({"total": ("time", np.ones(frames.sizes["time"]))}, {"time": frames["time"]})})


def test_returned_products_are_checked(folder: Path, toys: Toys) -> None:
    good = lambda frames: total(frames, Factor(reducer="total")).datasets["reduced"]  # noqa: E731
    cases: list[tuple[Callable[..., Any], str]] = [
        (lambda f, r, s: good(f), "it returned Dataset, not Products"),
        (lambda f, r, s: Products({}), "'reduced' was declared and not returned"),
        (lambda f, r, s: Products({"reduced": good(f), "frames": f}), "'frames' was returned and not declared"),
        (lambda f, r, s: Products({"reduced": np.ones(3)}), "'reduced': is ndarray, not an xarray.Dataset"),
        (lambda f, r, s: Products({"reduced": good(f).isel(time=slice(0, 0))}), "'reduced': no frames"),
        (lambda f, r, s: Products({"reduced": good(f)[[]]}), "'reduced': holds no variable"),
        (lambda f, r, s: Products({"reduced": good(f).isel(time=slice(1, None))}), "11 frames for 12 that were handed in"),
        (lambda f, r, s: Products({"reduced": good(f).isel(time=slice(None, None, -1))}), "not that of the frames handed in"),
        (lambda f, r, s: Products({"reduced": good(f).drop_vars("time")}), "'time' are missing"),
        (no_units, "'total' has no units"),
    ]
    config = configure(folder, "{reducer: total}")
    for wrong, words in cases:
        toys.add("total", wrong)
        outcome = beamtime.run(read_config(config))
        (problem,) = outcome.problems
        assert isinstance(problem, ContractError)
        assert words in str(problem)
        assert "total" in str(problem)
        assert "A/xrd, frames 0 to 11" in str(problem)
        assert {a[2] for a in Store(outcome.live).products()} == {"frames", "alignment"}


def test_rows_of_its_own_need_the_alignment(folder: Path, toys: Toys) -> None:
    def table(frames: xr.Dataset, recipe: Any, state: Any = None) -> Products:
        some = frames.isel(time=[2, 7])
        return Products({"reduced": xr.Dataset({"total": ("time", [1.0, 2.0], {"units": "1"})}, {"time": some["time"].values})})

    toys.add("table", table, kind="series")
    config = configure(folder, "{reducer: table}")
    (problem,) = beamtime.run(read_config(config)).problems
    assert "declare needs_alignment=True" in str(problem)
    toys.add("table", table, kind="series", needs_alignment=True)
    outcome = run(config)
    frames = product(outcome, "frames")
    np.testing.assert_array_equal(product(outcome).time.values, frames.time.values[[2, 7]])
    toys.clear()
    config.write_text(config.read_text().replace("-37 s", "-7 s"))
    outcome = run(config)
    assert len(toys.calls) == 1
    np.testing.assert_array_equal(product(outcome).time.values, product(outcome, "frames").time.values[[2, 7]])
    toys.clear()
    chain = configure(folder, "{stages: [{reducer: table}, {reducer: doubled}]}")
    outcome = run(chain)
    np.testing.assert_array_equal(product(outcome, "observables").twice.values, [2.0, 4.0])
    toys.clear()
    assert run(chain).done["reductions"] == 0
    assert not toys.calls


def test_what_lies_not_along_time_is_the_same_for_all_frames(folder: Path, toys: Toys) -> None:
    def moving(frames: xr.Dataset, recipe: Any, state: Any = None) -> Products:
        ds = total(frames, recipe).datasets["reduced"]
        return Products({"reduced": ds.assign(scale=((), float(frames["frame"].values[0]), {"units": "1"}))})

    toys.add("total", moving)
    outcome = beamtime.run(read_config(configure(folder, "{reducer: total}")), memory=8000)
    (problem,) = outcome.problems
    assert "'scale' does not lie along 'time' and differs" in str(problem)


# --------------------------------------------------------------------------- recipes


def test_recipes_are_checked_before_anything_is_read(folder: Path, toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.add("echem-toy", total, technique="echem")
    toys.add("other", total)
    monkeypatch.setattr("operando.beamtime.building.read_frames", lambda *a, **k: pytest.fail("something was read"))
    for recipe, words in (
        ("{stages: [{reducer: total, factor: -1}, {reducer: doubled, fudge: 2}]}", ("stage 1 (total): factor:", "stage 2 (doubled): fudge:")),
        ("{stages: [{reducer: doubled}, {reducer: total}]}", ("stage 1 (doubled): reads 'reduced', which nothing before it gives",)),
        ("{stages: [{reducer: total}, {reducer: other}]}", ("stage 2 (other): gives 'reduced', as stage 1 (total) does",)),
        ("{stages: [{reducer: totla}, {reducer: doubled}]}", ("stage 1: there is no reducer 'totla'",)),
        ("{stages: [{factor: 1}]}", ("stage 1:", "does not say which reducer")),
        ("{stages: []}", ("no list of reducers' settings",)),
        ("{stages: [{reducer: total}], factor: 2}", ("beside stages: nothing else",)),
        ("{reducer: doubled}", ("reads 'reduced'",)),
        ("{reducer: echem-toy}", ("reduces echem, but the series is xrd",)),
        ("{reducer: total, factor: -1}", ("does not fit the reducer total", "factor")),
    ):
        with pytest.raises(ConfigError) as caught:
            beamtime.run(read_config(configure(folder, recipe)))
        for word in (*words, "beamtime.yaml (cell A, series xrd, recipe)"):
            assert word in str(caught.value)
        with pytest.raises(ConfigError, match="recipe|stages|stage"):
            beamtime.check(configure(folder, recipe))


def test_stages_from_a_file_and_by_name(folder: Path, toys: Toys) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "first.yaml").write_text("reducer: total\nfactor: 2\n")
    (folder / "chain.yaml").write_text("stages:\n  - first\n  - reducer: doubled\n")
    outcome = run(configure(folder, "chain"))
    frames = product(outcome, "frames")
    np.testing.assert_allclose(product(outcome, "observables").twice.values, 4 * frames.intensity.sum("q").values)
