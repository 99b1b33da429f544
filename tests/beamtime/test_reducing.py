"""Reducing a store: what is run again and what is not, order, state, memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from toy_reducers import Toys, assert_as_fresh, configure, product, run, total, toy_reducers, write

import operando as op
from operando import beamtime
from operando.beamtime import reducing
from operando.cli import main
from operando.config import read_config
from operando.reduction import Products, interface
from operando.store import Store, describe


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
        "xrd", {"intensity": (("time", "q"), np.outer(rows[:, 2], np.arange(1.0, 21.0)), "1")},
        coords={"q": ("q", np.arange(1.0, 21.0), "1/angstrom")},
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


def test_what_a_reducer_says_in_words_is_told_once_and_kept(folder: Path, toys: Toys, capsys: pytest.CaptureFixture[str]) -> None:
    def saying(frames: xr.Dataset, recipe: object, state: object = None) -> Products:
        made = xr.Dataset({"n": ("time", np.ones(frames.sizes["time"]), {"units": "1"})}, {"time": frames["time"]})
        return Products({"reduced": made.assign_attrs(summary="one line\nand another")})

    toys.add("says", saying, kind="series")
    config = configure(folder, "{reducer: says}")
    outcome = run(config)
    assert outcome.findings == {"A/xrd/reduced": "one line\nand another"}
    assert run(config).findings == {}, "nothing was made anew"
    (entry,) = [p for p in describe(outcome.published)["products"] if p["address"] == "A/xrd/reduced"]
    assert entry["summary"] == "one line\nand another"
    assert main(["info", str(outcome.published)]) == 0
    assert "\n    one line\n    and another\n" in capsys.readouterr().out
    write(folder, 12)
    assert main(["build", str(folder / "beamtime.yaml")]) == 0
    assert "A/xrd/reduced\n    one line\n    and another\n" in capsys.readouterr().out
