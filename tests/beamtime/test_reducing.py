"""Reducing a store: what is run again and what is not, order, state, memory, and reducers that go wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydantic import Field

import operando as op
from operando import beamtime
from operando.beamtime import reducing
from operando.config import Recipe, read_config
from operando.contract import ConfigError, ContractError
from operando.reduction import Products, Reducer, interface, reducer
from operando.store import Store

CONFIG = """\
timezone: Europe/Paris
sources:
  detector:
    loader: xrd-1d
    files: xrd/*.xye
    name_pattern: "A_p{{position}}_{{time:%Y%m%dT%H%M%S}}_{{frame:04d}}"
    exposure: 10 s
    wavelength: 0.4 angstrom
    clock: {{offset: -37 s}}
cells:
  A:
    about: {{active_mass: 5 mg}}
    series:
      xrd: {{from: detector{recipe}}}
"""


class Factor(Recipe):
    factor: float = Field(default=1.0, gt=0, description="multiplies the sum (1)")


class Toys:
    """Reducers, and what they were handed."""

    def __init__(self) -> None:
        self.calls: list[xr.Dataset] = []
        self.known: dict[str, Reducer] = {}
        self.starts: list[tuple[int, int]] = []

    def add(self, name: str, run: Callable[..., Any], **declared: Any) -> None:
        def noted(frames: xr.Dataset, recipe: Any, state: Any = None) -> Any:
            self.calls.append(frames)
            return run(frames, recipe, state)

        given = {"technique": "xrd", "kind": "frame", "recipe": Factor, "version": "1", "products": ("reduced",), **declared}
        self.known[name] = reducer(name, **given)(noted)

    @property
    def frames(self) -> list[int]:
        """Frame numbers of all rows that were handed over."""
        return [int(n) for ds in self.calls for n in ds["frame"].values]

    def clear(self) -> None:
        self.calls.clear()
        self.starts.clear()


def total(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
    values = frames["intensity"].sum("q").values * recipe.factor
    return Products({"reduced": xr.Dataset({"total": ("time", values, {"units": "1"})}, {"time": frames["time"]})})


def doubled(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
    values = frames["total"].values * 2 * recipe.factor
    return Products({"observables": xr.Dataset({"twice": ("time", values, {"units": "1"})}, {"time": frames["time"]})})


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Toys:
    made = Toys()
    monkeypatch.setattr(interface, "reducers", lambda: made.known)

    def counted(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        """Number the frames of a run: shows where state goes."""
        groups = {(int(s), str(p)) for s, p in zip(frames["segment"].values, frames["position"].values, strict=True)}
        assert len(groups) == 1, "one segment and position at a time"
        begin = 0 if state is None else state["n"]
        assert state is None or state["of"] == groups, "state never crosses"
        made.starts.append((int(frames["frame"].values[0]), begin))
        n = begin + np.arange(1, frames.sizes["time"] + 1)
        ds = xr.Dataset({"n": ("time", n, {"units": "1"})}, {"time": frames["time"]})
        return Products({"reduced": ds}, state={"n": int(n[-1]), "of": groups})

    def mean(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        values = frames["intensity"].sum("q").values
        ds = xr.Dataset({"above": ("time", values - values.mean(), {"units": "1"})}, {"time": frames["time"]})
        return Products({"reduced": ds})

    made.add("total", total)
    made.add("doubled", doubled, reads="reduced", products=("observables",))
    made.add("counted", counted, kind="forward")
    made.add("mean", mean, kind="series")
    return made


def write(folder: Path, number: int, *, position: int | None = None, minute: int | None = None, level: float = 1.0) -> Path:
    """Write frame `number`; positions 1 and 2 take turns, the clock is set back at frame 8."""
    position = 1 + number % 2 if position is None else position
    minute = number - (4 if number >= 8 else 0) if minute is None else minute
    path = folder / "xrd" / f"A_p{position}_20260603T10{minute:02d}00_{number:04d}.xye"
    path.parent.mkdir(exist_ok=True)
    x = np.linspace(5, 10, 20)
    path.write_text("".join(f"{a:.4f} {level * (number + 1) + a:.4f} 1.0\n" for a in x))
    return path


def configure(folder: Path, recipe: str = "") -> Path:
    path = folder / "beamtime.yaml"
    path.write_text(CONFIG.format(recipe=f", recipe: {recipe}" if recipe else ""))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        write(tmp_path, number)
    return tmp_path


def run(config: Path, **more: Any) -> beamtime.Outcome:
    outcome = beamtime.run(read_config(config), **more)
    assert outcome.ok, [str(p) for p in outcome.problems] or outcome.quarantined
    return outcome


def product(outcome: beamtime.Outcome, name: str = "reduced") -> xr.Dataset:
    return op.open_beamtime(outcome.published)[f"A/xrd/{name}"].to_dataset().load()


def assert_as_fresh(outcome: beamtime.Outcome, config: Path, toys: Toys, **more: Any) -> None:
    """The published content is what a build from nothing publishes."""
    toys.clear()
    fresh = run(config, output=config.parent / "fresh.nxs", **more)
    one, other = op.open_beamtime(outcome.published), op.open_beamtime(fresh.published)
    assert {n.path for n in one.subtree} == {n.path for n in other.subtree}
    for node in one.subtree:
        xr.testing.assert_identical(node.to_dataset(inherit=False).load(), other[node.path].to_dataset(inherit=False).load())
    for path in (fresh.published, fresh.live):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    toys.clear()


def test_products_carry_frames_times_and_where_they_come_from(folder: Path, toys: Toys) -> None:
    outcome = run(configure(folder, "{reducer: total, factor: 2}"))
    ds = product(outcome)
    frames = product(outcome, "frames")
    np.testing.assert_array_equal(ds.time.values, frames.time.values)
    np.testing.assert_array_equal(ds.frame.values, np.arange(12))
    np.testing.assert_allclose(ds.total.values, 2 * frames.intensity.sum("q").values)
    np.testing.assert_array_equal(ds.segment.values, [0] * 8 + [1] * 4)
    assert {"position", "exposure", "quality", "flags", "source_time"} <= set(ds.coords)
    assert json.loads(ds.attrs["recipe"]) == {"reducer": "total", "factor": 2.0}
    assert {k: ds.attrs[k] for k in ("reducer", "reducer_version", "technique", "product", "cell")} == {
        "reducer": "total", "reducer_version": "1", "technique": "xrd", "product": "reduced", "cell": "A",
    }  # fmt: skip


def test_what_a_reducer_is_handed_without_the_alignment(folder: Path, toys: Toys) -> None:
    run(configure(folder, "{reducer: total}"))
    handed = toys.calls[0]
    assert handed.time.values[0] == np.datetime64("2026-06-03T08:00:05", "ns"), "the instrument's time on UTC, middle of the exposure"
    np.testing.assert_array_equal(handed.time.values, handed.source_time.values)
    np.testing.assert_array_equal(np.unique(handed.segment.values), [0, 1])
    assert not {"stamp", "flags", "voltage"} & set(handed.variables)
    assert json.loads(handed.attrs["about"]) == {}


def test_with_the_alignment_the_corrected_time_and_what_is_asked_of_about(folder: Path, toys: Toys) -> None:
    toys.add("total", total, needs_alignment=True, about=("active_mass",))
    config = configure(folder, "{reducer: total}")
    run(config)
    handed = toys.calls[0]
    assert handed.time.values[0] == np.datetime64("2026-06-03T08:00:05", "ns") - np.timedelta64(37, "s")
    assert "flags" in handed.coords
    assert json.loads(handed.attrs["about"]) == {"active_mass": 5.0}
    toys.clear()
    config.write_text(config.read_text().replace("5 mg", "5 mg, area: 2 cm^2"))
    run(config)
    assert not toys.calls, "it does not use the area"
    config.write_text(config.read_text().replace("5 mg", "6 mg"))
    run(config)
    assert toys.frames == list(range(12))


def test_a_growing_series_redoes_nothing(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: total}")
    run(config)
    assert toys.frames == list(range(12))
    toys.clear()
    assert run(config).done["reductions"] == 0
    assert not toys.calls
    write(folder, 12)
    write(folder, 13)
    outcome = run(config)
    assert toys.frames == [12, 13]
    assert_as_fresh(outcome, config, toys)


def test_a_changed_file_is_reduced_again_and_one_no_longer_meant_vanishes(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: total}")
    run(config)
    toys.clear()
    write(folder, 5, level=7.0)
    outcome = run(config)
    assert toys.frames == [5]
    assert_as_fresh(outcome, config, toys)
    config.write_text(config.read_text().replace("xrd/*.xye", "xrd/*_000*.xye"))
    outcome = run(config)
    assert toys.frames == []
    np.testing.assert_array_equal(product(outcome).frame.values, np.arange(10))


def test_clock_and_zone_edits_reduce_nothing_and_move_the_products(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{stages: [{reducer: counted}]}")
    first = product(run(config))
    toys.clear()
    for old, new in (("-37 s", "-7 s"), ("Europe/Paris", "Europe/Helsinki")):
        config.write_text(config.read_text().replace(old, new))
        outcome = run(config)
        assert not toys.calls
        assert outcome.done["alignments"] == 1
    moved = product(outcome)
    assert moved.time.values[0] - first.time.values[0] == np.timedelta64(30, "s") - np.timedelta64(1, "h")
    np.testing.assert_array_equal(moved.time.values, product(outcome, "frames").time.values)
    assert_as_fresh(outcome, config, toys)


def test_state_stays_within_segment_and_position_and_order_is_kept(folder: Path, toys: Toys) -> None:
    outcome = run(configure(folder, "{reducer: counted}"))
    ds = product(outcome)
    np.testing.assert_array_equal(ds.frame.values, np.arange(12))
    np.testing.assert_array_equal(ds.n.values, [1, 1, 2, 2, 3, 3, 4, 4, 1, 1, 2, 2])
    assert sorted(toys.starts) == [(0, 0), (1, 0), (8, 0), (9, 0)]


@pytest.mark.parametrize("name", ["counted", "total"])
def test_batches_fit_the_memory_and_change_nothing(folder: Path, toys: Toys, name: str) -> None:
    config = configure(folder, f"{{reducer: {name}}}")
    whole = run(config)
    toys.clear()
    small = run(config, output=folder / "small.nxs", memory=8000)
    assert len(toys.calls) >= 3
    limit = 8000 // reducing._SHARE
    assert max(ds.nbytes for ds in toys.calls) <= 1.3 * limit, "the axis comes on top"
    assert len(Store(small.live).parts("A", "xrd", "reduced")) >= 3
    for one in ("reduced", "frames", "alignment"):
        xr.testing.assert_identical(product(small, one), product(whole, one))


def test_forward_redoes_only_the_groups_that_got_a_frame(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: counted}")
    run(config)
    toys.clear()
    write(folder, 12)  # position 1, second segment
    outcome = run(config)
    assert sorted(toys.frames) == [8, 10, 12]
    np.testing.assert_array_equal(product(outcome).n.values, [1, 1, 2, 2, 3, 3, 4, 4, 1, 1, 2, 2, 3])
    assert_as_fresh(outcome, config, toys)
    write(folder, 3, level=5.0)
    outcome = run(config)
    assert sorted(toys.frames) == [1, 3, 5, 7]
    assert_as_fresh(outcome, config, toys)
    config.write_text(config.read_text().replace("xrd/*.xye", "xrd/*_00*[0-35-9].xye"))  # without frame 4
    outcome = run(config)
    assert sorted(toys.frames) == [0, 2, 6]
    np.testing.assert_array_equal(product(outcome).n.values, [1, 1, 2, 2, 3, 3, 4, 1, 1, 2, 2, 3])


def test_a_series_reducer_runs_on_everything_when_anything_changed(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: mean}")
    run(config)
    assert [ds.sizes["time"] for ds in toys.calls] == [12]
    toys.clear()
    config.write_text(config.read_text().replace("-37 s", "-7 s"))
    run(config)
    assert not toys.calls
    write(folder, 12)
    outcome = run(config)
    assert [ds.sizes["time"] for ds in toys.calls] == [13]
    assert product(outcome).sizes["time"] == 13
    assert float(product(outcome).above.mean()) == pytest.approx(0, abs=1e-9)
    assert_as_fresh(outcome, config, toys)


@pytest.mark.parametrize("first", ["total", "mean2"])
def test_an_edit_of_a_later_stage_does_not_redo_an_earlier_one(folder: Path, toys: Toys, first: str) -> None:
    toys.add("mean2", total, kind="series")
    chain = f"{{stages: [{{reducer: {first}, factor: 3}}, {{reducer: doubled, factor: 1}}]}}"
    config = configure(folder, chain)
    outcome = run(config)
    assert len(toys.calls) == 2
    np.testing.assert_allclose(product(outcome, "observables").twice.values, 2 * product(outcome).total.values)
    toys.clear()
    outcome = run(configure(folder, chain.replace("factor: 1", "factor: 5")))
    assert ["total" in ds for ds in toys.calls] == [True]
    np.testing.assert_allclose(product(outcome, "observables").twice.values, 10 * product(outcome).total.values)
    toys.clear()
    outcome = run(configure(folder, chain.replace("factor: 3", "factor: 4")))
    assert ["total" in ds for ds in toys.calls] == [False, True], "an edit of the first redoes both"
    toys.clear()
    write(folder, 12)
    outcome = run(config)
    toys.clear()
    write(folder, 13)
    outcome = run(config)
    assert toys.frames == ([13, 13] if first == "total" else [*range(14), *range(14)])
    assert_as_fresh(outcome, config, toys)


def test_products_of_reducers_that_are_gone_are_dropped(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{stages: [{reducer: total}, {reducer: doubled}]}")
    run(config)
    outcome = run(configure(folder, "{reducer: total}"))
    store = Store(outcome.live)
    assert {a[2] for a in store.products()} == {"frames", "alignment", "reduced"}
    outcome = run(configure(folder, "{reducer: counted}"))
    assert set(product(outcome).data_vars) == {"n"}, "another reducer gives the product now"
    outcome = run(configure(folder))
    assert {a[2] for a in store.products()} == {"frames", "alignment"}
    assert "/A/xrd/reduced" not in [n.path for n in op.open_beamtime(outcome.published).subtree]


def test_a_raised_version_runs_again(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: total}")
    run(config)
    toys.add("total", total, version="2")
    toys.clear()
    outcome = run(config)
    assert toys.frames == list(range(12))
    assert product(outcome).attrs["reducer_version"] == "2"


def test_where_times_cannot_be_placed_it_is_told_once(folder: Path, toys: Toys) -> None:
    config = configure(folder, "{reducer: total}")
    run(config)
    toys.clear()
    wrong = folder / "xrd" / "A_p1_20260329T023000_0012.xye"  # an hour that Paris left out
    wrong.write_text(write(folder, 3, level=2.0).read_text())
    outcome = beamtime.run(read_config(config))
    assert len(outcome.problems) == 1
    assert "does not exist" in str(outcome.problems[0])
    assert not toys.calls
    wrong.unlink()
    config.write_text(config.read_text().replace("xrd/*.xye", "xrd/*2026060*.xye"))
    outcome = run(config)
    assert toys.frames == [3]
    assert_as_fresh(outcome, config, toys)


# --------------------------------------------------------------------------- reducers that go wrong


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
    for words in ("reducer total failed", "ZeroDivisionError: a peak of no width", "A/xrd, frames ", "test_reducing.py"):
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


# --------------------------------------------------------------------------- files of many frames

LOADER = '''
"""Lines of position, minute, value."""
import numpy as np
from operando.contract import series
TECHNIQUES = ("xrd",)
VERSION = "1"


def load(path):
    rows = np.loadtxt(path, ndmin=2)
    stamps = np.datetime64("2026-06-03T10:00:00", "ns") + rows[:, 1].astype("timedelta64[m]")
    ds = series(
        "xrd", {"intensity": (("time", "q"), np.outer(rows[:, 2], np.arange(1.0, 21.0)), "1")}, coords={"q": ("q", np.arange(1.0, 21.0), "1/angstrom")},
        source=path.name, start=stamps, elapsed=np.zeros(len(rows)), exposure=10.0, time_origin="header",
        attrs={"loader": "lines", "loader_version": "1", "options": "{}"},
    )
    coords = {"position": rows[:, 0].astype(int), "frame": rows[:, 2].astype(int)}
    return ds.assign_coords({name: ("time", values, {"units": "1"}) for name, values in coords.items()})
'''


def many(folder: Path, recipe: str) -> Path:
    """Write two files: one in which positions 1 and 2 take turns, one of position 1 alone."""
    (folder / "lines.py").write_text(LOADER)
    (folder / "a.txt").write_text("".join(f"{1 + k % 2} {k} {k}\n" for k in range(40)))
    (folder / "b.txt").write_text("".join(f"1 {k} {k}\n" for k in range(40, 44)))
    config = configure(folder, recipe)
    begin, end = (config.read_text().index(word) for word in ("    loader:", "    clock:"))
    text = config.read_text()
    config.write_text(text[:begin] + '    loader: lines.py:load\n    files: "*.txt"\n' + text[end:])
    return config


def test_part_of_a_file_is_kept_and_part_is_redone(tmp_path: Path, toys: Toys) -> None:
    config = many(tmp_path, "{reducer: counted}")
    outcome = run(config)
    assert product(outcome).n.values[:4].tolist() == [1, 1, 2, 2]
    for number, memory in enumerate((10**9, 24_000, 2000)):
        toys.clear()
        (tmp_path / "b.txt").write_text((tmp_path / "b.txt").read_text() + f"1 {44 + number} {44 + number}\n")
        outcome = run(config, memory=memory)
        redone = {int(p) for ds in toys.calls for p in ds["position"].values}
        assert redone == ({1} if memory > 2000 else {1, 2}), "what cannot be held in memory is reduced again"
        n = product(outcome)
        assert n.n.values[n.position.values == 2].tolist() == list(range(1, 21))
        assert_as_fresh(outcome, config, toys)


@pytest.mark.parametrize("reducer_name", ["total", "counted"])
def test_one_large_file_is_reduced_in_batches_that_find_their_alignment(tmp_path: Path, toys: Toys, reducer_name: str) -> None:
    config = many(tmp_path, f"{{reducer: {reducer_name}}}")
    outcome = run(config)
    config.write_text(config.read_text().replace(f"reducer: {reducer_name}", f"reducer: {reducer_name}, factor: 2"))
    toys.clear()
    outcome = run(config, memory=12_000)
    parts = Store(outcome.live).parts("A", "xrd", "reduced")
    assert len(parts) > 3
    assert any(entry["stretch"][1] > 0 for part in parts for entry in part.inputs), "a file's rows lie in several parts"
    np.testing.assert_array_equal(product(outcome).time.values, product(outcome, "frames").time.values)
    np.testing.assert_array_equal(product(outcome).frame.values, np.arange(44))
    assert not (product(outcome).time.values == product(outcome).source_time.values).any()
    assert_as_fresh(outcome, config, toys)
    assert run(config).done["reductions"] == 0


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
