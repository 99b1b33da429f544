"""The growing store: what is written comes back, in the order of time, whatever order it came in; nothing is lost or invented."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from operando.contract import AlignmentFlag, StoreError
from operando.store import Store, open_beamtime, writing


def times(n=3):
    return np.datetime64("2026-06-03T10:00:00", "ns") + np.arange(n) * np.timedelta64(1, "s")


def write_one(store, ds, **more):
    with store.writing() as writer:
        return writer.write("A", "x", "frames", ds, key="k", **more)


# ----------------------------------------------------------------- round trip


def test_every_type_comes_back(store):
    when = times()
    when[1] = np.datetime64("NaT", "ns")
    ds = xr.Dataset(
        {
            "u1": ("time", np.array([0, 1, 255], np.uint8)),
            "i8": ("time", np.array([-(2**62), 0, 2**62])),
            "f4": (("time", "q"), np.array([[1, np.nan], [np.inf, -0.0], [1e-30, 3]], np.float32)),
            "f8": ("time", [1.0, np.nan, 1e300]),
            "c8": ("time", np.array([1 + 2j, np.nan, -1j], np.complex64)),
            "c16": (("time", "q"), np.full((3, 2), 1 - 1j)),
            "flag": ("time", [True, False, True]),
            "when": ("time", when),
            "text": ("time", np.array(["µ", "", "a b"], dtype=object)),
            "scalar": ((), 2.5),
            "words": ((), np.array("one word", dtype=object)),
        },
        {"time": times(), "q": [1.5, 2.5], "phase": ("phase", np.array(["H1", "H2"], dtype=object)), "no_index": ("q", [1, 2])},
        {"text": "é", "number": 1.5, "whole": 3, "list": [1, 2], "floats": [1.0, 2.5], "words": ["a", "b"]},
    )
    ds["f4"].attrs = {"units": "1", "limits": [0.5, 1.5]}
    write_one(store, ds)
    xr.testing.assert_identical(store.read("A", "x", "frames").load(), ds)
    store.publish(store.path.with_suffix(".nxs"))
    published = open_beamtime(store.path.with_suffix(".nxs"))["A/x/frames"].to_dataset().drop_vars("flags")
    assert {n: v.dtype for n, v in published.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    xr.testing.assert_identical(published.load(), ds)


def test_types_and_attributes_that_are_made_plain(store):
    ds = xr.Dataset(
        {
            "word": ("time", ["a", "bb", "c"]),
            "big_endian": ("time", np.arange(3, dtype=">i4")),
            "day": ("time", np.array(["2026-06-03"] * 3, "M8[s]")),
        },
        {"time": times()},
        {
            "dict": {"a": [1, None]},
            "none": None,
            "bool": True,
            "numpy": np.float32(0.5),
            "array": np.arange(3),
            "empty": [],
            "mixed": [1, "a"],
            "path": Path("a/b"),
        },
    )
    write_one(store, ds)
    back = store.read("A", "x", "frames")
    assert back["word"].values.tolist() == ["a", "bb", "c"]
    assert back["big_endian"].dtype == np.dtype("=i4")
    assert back["day"].dtype == np.dtype("M8[ns]")
    assert back.attrs == {"dict": '{"a": [1, null]}', "bool": 1, "numpy": 0.5, "array": [0, 1, 2], "empty": "[]", "mixed": '[1, "a"]', "path": "a/b"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda ds: ds.assign(x=("time", np.zeros(3, np.float16))), "float32"),
        (lambda ds: ds.assign(x=("time", np.zeros(3, "m8[ns]"))), "seconds"),
        (lambda ds: ds.assign(x=("time", np.array([1, "a", None], object))), "only text"),
        (lambda ds: ds.assign(x=("time", np.array(["a", "b\0", "c"], object))), "NUL"),
        (lambda ds: ds.assign(x=("time", np.zeros(3, "i4,f8"))), "cannot be stored"),
        (lambda ds: ds.assign({"a/b": ("time", np.zeros(3))}), "no name"),
        (lambda ds: ds.assign({"a b": ("time", np.zeros(3))}), "no name"),
        (lambda ds: ds.assign(y=ds["y"].T), "first dim"),
        (lambda ds: ds.assign(z=("time", np.ones(3, complex)), z_real=("time", np.ones(3))), "complex"),
        (lambda ds: ds.assign_attrs(signal="y"), "taken"),
        (lambda ds: ds.assign_attrs(f=len), "cannot be stored"),
        (lambda ds: ds.drop_vars("time"), "'time' is missing"),
        (lambda ds: ds.isel(time=slice(0)), "no rows"),
        (lambda ds: ds.stack(both=["q", "time"]), "MultiIndex"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(store, change, word):
    ds = xr.Dataset({"y": (("time", "q"), np.zeros((3, 2)))}, {"time": times(), "q": [1, 2]})
    with pytest.raises(StoreError, match=word):
        write_one(store, change(ds))
    assert store.parts() == []
    assert [p for p in store.path.rglob("*.h5*") if p.is_file()] == []
    assert list(store.path.rglob("*.tmp")) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\\b", "process", " a", "a\n"])
def test_names_are_checked(store, make, name):
    with store.writing() as writer, pytest.raises(StoreError, match="usable name"):
        writer.write(name, "xrd", "frames", make.xrd(), key="k")


# ----------------------------------------------------------------- order and differences


def test_late_files_take_their_place_without_rewriting(store, make):
    two = xr.concat([make.xrd(1), make.xrd(7)], "time", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override")
    entries = [*make.inputs(1), {**make.inputs(7)[0], "rows": [5, 10]}]
    with store.writing() as writer:
        first = writer.write("A", "xrd", "frames", two, key="early", inputs=entries)
        writer.write("A", "xrd", "frames", make.xrd(3), key="late", inputs=make.inputs(3))
        frames = store.read("A", "xrd", "frames")
        assert frames["source"].values.tolist() == ["f1.h5"] * 5 + ["f3.h5"] * 5 + ["f7.h5"] * 5
        assert (np.diff(frames["time"].values.astype(int)) > 0).all()
        np.testing.assert_array_equal(frames["intensity"][5:10], make.xrd(3)["intensity"])
        assert [e["rows"] for e in store.inputs("A", "xrd", "frames")] == [[0, 5], [5, 10], [10, 15]]
        assert (store.path / first.path).stat().st_size == first.size
    assert [(p.rows, p.key, p.t0[:19]) for p in store.parts()] == [(10, "early", "2026-06-03T10:01:00"), (5, "late", "2026-06-03T10:03:00")]


def test_equal_times_are_ordered_as_names_count(store, make):
    with store.writing() as writer:
        for number in (10, 9, 2):
            ds = make.xrd(number, rows=1, start="2026-06-03T10:00:00")
            writer.write("A", "xrd", "frames", ds, key=str(number), inputs=make.inputs(number, 1))
    assert store.read("A", "xrd", "frames")["source"].values.tolist() == ["f2.h5", "f9.h5", "f10.h5"]


@pytest.mark.parametrize("rows", [[[0, 3]], [[0, 3], [2, 5]], [[0, 2], [3, 5]], [[0, 6]], [[1, 5]]])
def test_inputs_must_cover_the_rows(store, make, rows):
    with pytest.raises(StoreError, match="inputs"):
        write_one(store, make.xrd(), inputs=[{"file": "a", "rows": r} for r in rows])


def test_variables_that_only_some_parts_have(store):
    a = xr.Dataset(
        {"i": ("time", [1, 2]), "f": ("time", np.float32([1, 2])), "b": ("time", [True, True]), "s": ("time", np.array(["a", "b"], object))},
        {"time": times(2)},
    )
    a["t"] = ("time", times(2))
    b = xr.Dataset({"g": (("time", "q"), np.ones((2, 2)))}, {"time": times(2) + np.timedelta64(1, "h"), "q": [1, 2]})
    with store.writing() as writer:
        writer.write("A", "x", "frames", a, key="a")
        writer.write("A", "x", "frames", b, key="b")
    back = store.read("A", "x", "frames").load()
    np.testing.assert_array_equal(back["i"], [1, 2, np.nan, np.nan])
    assert back["f"].dtype == np.float32
    assert np.isnan(back["f"].values[2:]).all()
    assert back["b"].values.tolist() == [True, True, False, False]
    assert back["s"].values.tolist() == ["a", "b", "", ""]
    assert np.isnat(back["t"].values[2:]).all()
    assert np.isnan(back["g"].values[:2]).all()
    assert back["g"].values[2:].tolist() == [[1, 1], [1, 1]]


def test_scalars_that_differ_become_one_per_row_and_attributes_are_the_first(store, make):
    with store.writing() as writer:
        for number in (1, 0):
            writer.write("A", "xrd", "frames", make.xrd(number, note=f"n{number}"), key=str(number), inputs=make.inputs(number))
    back = store.read("A", "xrd", "frames")
    assert back["stamp"].dims == ("time",)
    assert [str(t)[11:16] for t in back["stamp"].values[[0, 9]]] == ["10:00", "10:01"]
    assert back.attrs["note"] == "n0"


def test_sweeps_of_different_length_are_padded(store, make):
    with store.writing() as writer:
        writer.write("A", "eis", "frames", make.eis(points=20), key="a")
        writer.write("A", "eis", "frames", make.eis(points=25, number=1), key="b")
    back = store.read("A", "eis", "frames")
    assert dict(back.sizes) == {"time": 12, "point": 25}
    assert np.isnan(back["impedance"].values[:6, 20:]).all()
    np.testing.assert_array_equal(back["impedance"][3, :20], make.eis()["impedance"][3])
    np.testing.assert_array_equal(back["impedance"].values[:, 4][[2, 8]], back["impedance"][[2, 8], 4])
    assert back["n_points"].values.tolist() == [20] * 6 + [25] * 6


def test_an_axis_that_differs_is_refused_by_name(store, make):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(0), key="a")
        shifted = make.xrd(1)
        writer.write("A", "xrd", "frames", shifted.assign_coords(q=shifted["q"] * 1.01), key="b")
    with pytest.raises(StoreError, match=r"'q' differs(.|\n)*000002|000002(.|\n)*'q' differs"):
        store.read("A", "xrd", "frames")


# ----------------------------------------------------------------- alignment


def test_joined_with_its_alignment(beamtime):
    frames = beamtime.read_joined("A", "xrd", "frames")
    assert str(frames["time"].values[0]) == "2026-06-03T08:00:00.500000000"
    assert {"voltage", "cycle", "flags"} <= set(frames.coords)
    assert frames.attrs["timezone"] == "Europe/Paris"
    assert frames.attrs["timezone_source"] == "config"
    observed = beamtime.read_joined("A", "xrd", "observables")
    np.testing.assert_array_equal(observed["voltage"], frames["voltage"])
    assert "voltage" not in beamtime.read_joined("A", "echem", "cycles")
    alone = beamtime.read_joined("B", "xrd", "frames")
    assert (alone["flags"].values == AlignmentFlag.UNALIGNED).all()


def test_frames_that_came_after_the_alignment_are_unaligned_wherever_they_lie(store, make):
    with store.writing() as writer:
        for number in (1, 5):
            writer.write("A", "xrd", "frames", make.xrd(number), key=str(number), inputs=make.inputs(number))
        writer.write("A", "xrd", "alignment", make.alignment(store.read("A", "xrd", "frames")), key="a")
        for number in (0, 3):
            writer.write("A", "xrd", "frames", make.xrd(number), key=str(number), inputs=make.inputs(number))
    frames = store.read_joined("A", "xrd", "frames")
    late = np.repeat([True, False, True, False], 5)
    np.testing.assert_array_equal(frames["flags"] == AlignmentFlag.UNALIGNED, late)
    assert frames["flags"].dtype == np.int32
    np.testing.assert_array_equal(np.isnan(frames["voltage"]), late)
    np.testing.assert_allclose(frames["voltage"][~late], np.linspace(3, 4, 10))
    for name in ("time", "source_time"):
        np.testing.assert_array_equal(frames[name].values, store.read("A", "xrd", "frames")[name].values - np.timedelta64(2, "h"))
    assert {n: frames[n].dtype for n in ("flags", "cycle", "segment")} == dict.fromkeys(("flags", "cycle", "segment"), np.int32)
    np.testing.assert_array_equal(frames["cycle"], np.where(late, -1, 0))
    np.testing.assert_array_equal(frames["segment"], np.where(late, 0, 1))
    assert "stamp" not in frames.coords


def test_a_dropped_file_does_not_shift_the_alignment(store, make):
    with store.writing() as writer:
        for number in (1, 2, 3):
            writer.write("A", "xrd", "frames", make.xrd(number), key=str(number), inputs=make.inputs(number))
        writer.write("A", "xrd", "alignment", make.alignment(store.read("A", "xrd", "frames")), key="a")
        before = store.read_joined("A", "xrd", "frames").load()
        writer.drop([p for p in store.parts("A", "xrd", "frames") if p.key == "2"])
        writer.write("A", "xrd", "frames", make.xrd(9), key="9", inputs=make.inputs(9))
    after = store.read_joined("A", "xrd", "frames").load()
    np.testing.assert_array_equal(after["voltage"][:10], before["voltage"].values[[*range(5), *range(10, 15)]])
    assert (after["flags"].values[10:] == AlignmentFlag.UNALIGNED).all()


def test_a_clock_edit_touches_the_alignment_only(beamtime, make):
    files = {p.path: (beamtime.path / p.path).stat().st_mtime_ns for p in beamtime.parts() if p.product != "alignment"}
    with beamtime.writing() as writer:
        old = beamtime.parts("A", "xrd", "alignment")
        writer.replace(old, make.alignment(beamtime.read("A", "xrd", "frames"), hours=-1), key="new")
    assert str(beamtime.read_joined("A", "xrd", "frames")["time"].values[0])[:13] == "2026-06-03T09"
    assert files == {p.path: (beamtime.path / p.path).stat().st_mtime_ns for p in beamtime.parts() if p.product != "alignment"}


def test_the_records_own_charge_gives_way_to_the_continuous_one(store, make):
    records = make.echem()
    with store.writing() as writer:
        writer.write("A", "echem", "frames", records, key="e", inputs=make.inputs(0, 40))
        made = make.alignment(records).drop_vars("voltage").assign(charge=("time", np.full(40, 7.0), {"units": "C"}))
        writer.write("A", "echem", "alignment", made, key="a")
    joined = store.read_joined("A", "echem", "frames")
    assert set(joined.data_vars) == {"voltage", "current", "charge"}
    assert (joined["charge"].values == 7).all()


# ----------------------------------------------------------------- the tree


def test_the_tree_is_lazy_and_pickles(beamtime):
    tree = open_beamtime(beamtime.path)
    assert not tree["A/xrd/frames"].ds["intensity"].variable._in_memory
    again = pickle.loads(pickle.dumps(tree["A/xrd/frames"].to_dataset()))
    xr.testing.assert_identical(again.load(), tree["A/xrd/frames"].to_dataset().load())
    assert sorted(tree.groups) == sorted(
        {"/", "/A", "/B", "/A/echem", "/A/eis", "/A/xrd", "/B/xrd"} | {f"/{'/'.join(a)}" for a in beamtime.products() if a[2] != "skipped"}
    )


def test_what_is_no_store_is_named(tmp_path, beamtime):
    with pytest.raises(StoreError, match="no such store"):
        Store(tmp_path / "absent.operando").parts()
    with pytest.raises(StoreError, match="still growing"):
        open_beamtime(tmp_path / "june.nxs")
    with pytest.raises(StoreError, match="A/xrd/frames"):
        beamtime.read("A", "xrd", "fames")
    with h5py.File(tmp_path / "other.nxs", "w") as h5:
        h5["x"] = 1
    with pytest.raises(StoreError, match="not a published store"):
        open_beamtime(tmp_path / "other.nxs")


# ----------------------------------------------------------------- the manifest accounts for everything


def test_a_store_with_a_damaged_part_can_be_opened_without_the_product(beamtime):
    part = beamtime.parts("A", "xrd", "frames")[0]
    (beamtime.path / part.path).write_bytes(b"no longer what it was")
    problems = []
    tree = open_beamtime(beamtime.path, problems=problems)
    assert [str(p.file) for p in problems] == [str(beamtime.path / part.path)]
    assert "frames" in tree["A/echem"].children
    assert "frames" not in tree["A/xrd"].children


def test_missing_and_damaged_parts_are_named(beamtime):
    part = beamtime.parts("A", "xrd", "frames")[1]
    file = beamtime.path / part.path
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=part.path):
        Store(beamtime.path).read("A", "xrd", "frames")
    file.unlink()
    with pytest.raises(StoreError, match=f"{part.path}.*missing"):
        open_beamtime(beamtime.path)
    with pytest.raises(StoreError, match="missing"):
        beamtime.publish(beamtime.path.with_suffix(".nxs"))
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"damaged(.|\n)*sha256"):
        beamtime.publish(beamtime.path.with_suffix(".nxs"))
    assert not beamtime.path.with_suffix(".nxs").exists()


def test_a_lazy_array_whose_part_vanished_says_so(beamtime):
    from operando import hdf5

    frames = beamtime.read("A", "xrd", "frames")
    hdf5.close_files()
    (beamtime.path / beamtime.parts("A", "xrd", "frames")[0].path).unlink()
    with pytest.raises(StoreError, match="open it again"):
        frames["intensity"].load()


def test_a_torn_last_line_is_ignored_and_cut_off(beamtime, make):
    manifest = beamtime.path / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"op":"part","path":"parts/A/xr')
    assert len(Store(beamtime.path).parts()) == len(beamtime.parts())
    with beamtime.writing() as writer:
        assert manifest.read_bytes() == whole
        writer.write("A", "xrd", "frames", make.xrd(30), key="more", inputs=make.inputs(30))
    assert all(json.loads(line) for line in manifest.read_text().splitlines())
    assert len(Store(beamtime.path).parts("A", "xrd", "frames")) == 4


@pytest.mark.parametrize("line", ["rubbish", "[]", '{"op": "part"}', '{"op":"drop","old":["parts/none.h5"]}', "\x00" * 20])
def test_a_damaged_line_is_named(beamtime, line):
    manifest = beamtime.path / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(StoreError, match="line 3"):
        Store(beamtime.path).parts()
    with pytest.raises(StoreError, match="line 3"):
        Store(beamtime.path).writing()
    assert all((beamtime.path / p.path).exists() for p in beamtime._manifest.parts.values())


def test_a_lost_manifest_is_no_empty_store(beamtime):
    (beamtime.path / "manifest.jsonl").unlink()
    for attempt in (Store(beamtime.path).parts, Store(beamtime.path).writing):
        with pytest.raises(StoreError, match="manifest of the store is missing"):
            attempt()
    assert len(list(beamtime.path.rglob("*.h5"))) == 12


@pytest.mark.parametrize("kept", [0, 1])
def test_a_manifest_without_its_beginning_is_no_empty_store(beamtime, kept):
    """Emptied, or with its first line cut off: nothing may be swept away because of it."""
    path = beamtime.path / "manifest.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]) if kept else b"")
    before = sorted(beamtime.path.glob("parts/*/*/*/*.h5"))
    with pytest.raises(StoreError, match="manifest"):
        open_beamtime(beamtime.path)
    with pytest.raises(StoreError, match="manifest"):
        Store(beamtime.path).writing()
    assert sorted(beamtime.path.glob("parts/*/*/*/*.h5")) == before


def test_a_lock_that_cannot_be_written_is_let_go(store, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as m:
        m.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="No space"):
            store.writing()
    with store.writing():
        pass


_CRASH = """
import errno, os, sys
import numpy as np, h5py
from pathlib import Path
from operando.contract import StoreError
from operando.store import files
n, calls, true = int(sys.argv[1]), [0], os.pwrite
def full(fd, data, offset):
    calls[0] += 1
    if calls[0] >= n:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return true(fd, data, offset)
os.pwrite = full
try:
    with files.writing_hdf5(Path(sys.argv[2])) as writing:
        for k in range(40):
            text = writing.h5.create_dataset(f"s{k}", (500,), h5py.string_dtype())
            text[:] = np.array([f"text {i} {k}" * 5 for i in range(500)], object)
            for j in range(20):
                text.attrs[f"a{j}"] = "x" * 400
            writing.h5[f"s{max(0, k - 9)}"][:]
except StoreError as error:
    print("told:", error.problem)
"""


@pytest.mark.parametrize("n", [2, 5, 10])
def test_a_disk_that_fills_while_hdf5_reads_back_what_it_wrote(tmp_path, n):
    """HDF5 must find its own bytes again, or it follows garbage and takes the interpreter down."""
    done = subprocess.run([sys.executable, "-c", _CRASH, str(n), str(tmp_path / "x.h5")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "told:" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path / "new.operando").mkdir()
    (tmp_path / "new.operando" / "manifest.jsonl").write_text('{"op":"store","version":99}\n')
    with pytest.raises(StoreError, match="newer version"):
        Store(tmp_path / "new.operando").parts()


def test_readers_follow_a_writer(store, make):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(0), key="0", inputs=make.inputs(0))
        reader = Store(store.path)
        assert reader.read("A", "xrd", "frames").sizes["time"] == 5
        writer.write("A", "xrd", "frames", make.xrd(1), key="1", inputs=make.inputs(1))
        assert reader.read("A", "xrd", "frames").sizes["time"] == 10


def test_quarantine_is_kept_until_the_file_gives_rows(store, make):
    with store.writing() as writer:
        writer.quarantine("f3.h5", "id31", "truncated", sha256="ab", key="r1")
        writer.quarantine("f3.h5", "id31", "truncated", sha256="ab", key="r2")
        writer.quarantine("f4.h5", "id31", "empty")
        assert Store(store.path).quarantined()[0] == {"file": "f3.h5", "source": "id31", "reason": "truncated", "key": "r1", "sha256": "ab"}
        writer.write("A", "xrd", "frames", make.xrd(3), key="3", inputs=make.inputs(3, reading="r1"))
        assert [(q["file"], q["key"]) for q in Store(store.path).quarantined()] == [("f3.h5", "r2"), ("f4.h5", "")]
        writer.quarantine("f4.h5", "id31", None)
        assert [q["file"] for q in store.quarantined()] == ["f3.h5"]


def test_results_and_completion_are_recorded(store):
    with store.writing() as writer:
        writer.result({"cell": "A", "name": "r", "value": np.float64(0.5)})
        writer.complete({"file": "x.nxs", "key": "k"})
    assert Store(store.path).results() == [{"cell": "A", "name": "r", "value": 0.5}]
    assert Store(store.path).completed() == {"file": "x.nxs", "key": "k"}


def test_dropping_one_file_of_a_part_keeps_the_others(store, make):
    two = xr.concat([make.xrd(1), make.xrd(7)], "time", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override")
    with store.writing() as writer:
        part = writer.write("A", "xrd", "frames", two, key="k", inputs=[*make.inputs(1), {**make.inputs(7)[0], "rows": [5, 10]}])
        writer.drop([part], files=["f1.h5"])
        assert store.read("A", "xrd", "frames")["source"].values.tolist() == ["f7.h5"] * 5
        assert store.parts()[0].rows == 5
        np.testing.assert_array_equal(store.read("A", "xrd", "frames")["intensity"], make.xrd(7)["intensity"])
        store.publish(store.path.with_suffix(".nxs"))
        writer.drop(store.parts(), files=["f7.h5"])
        assert store.parts() == []


# ----------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_with_the_first_ones_host_and_pid(store):
    import socket

    code = f"from operando.store import Store; Store({str(store.path)!r}).writing()"
    with store.writing():
        with pytest.raises(StoreError, match=f"process {os.getpid()} on host {socket.gethostname()}"):
            Store(store.path).writing()
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"process {os.getpid()} on host" in other.stderr
    Store(store.path).writing().close()


def test_the_lock_of_a_killed_writer_is_taken_over(store):
    code = f"import os, signal; from operando.store import Store; w = Store({str(store.path)!r}).writing(); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert "pid" in (store.path / "writer.lock").read_text()
    store.writing().close()
    assert (store.path / "writer.lock").read_text() == ""


def test_the_lock_of_another_host_is_not_taken_over(store):
    store.writing().close()
    (store.path / "writer.lock").write_text('{"host": "elsewhere", "pid": 1}')
    with pytest.raises(StoreError, match=r"process 1 on host elsewhere(.|\n)*delete writer.lock"):
        store.writing()


# ----------------------------------------------------------------- sweeping and compaction


def test_leftovers_are_swept_when_writing_begins(beamtime):
    folder = beamtime.path / "parts/A/xrd/frames"
    (folder / ".000009.h5.1.tmp").write_bytes(b"half")
    (folder / "000009.h5").write_bytes(b"renamed, never acknowledged")
    (beamtime.path / ".files.json.1.tmp").write_bytes(b"")
    before = beamtime.read("A", "xrd", "frames").load()
    with beamtime.writing():
        assert sorted(p.name for p in folder.iterdir()) == ["000001.h5", "000002.h5", "000003.h5"]
    assert list(beamtime.path.rglob("*.tmp")) == []
    xr.testing.assert_identical(beamtime.read("A", "xrd", "frames").load(), before)


def test_replaced_parts_stay_for_those_who_read_them_and_then_go(store, make):
    with store.writing() as writer:
        old = writer.write("A", "xrd", "frames", make.xrd(0), key="0", inputs=make.inputs(0))
        reading = store.read("A", "xrd", "frames")
        new = writer.replace([old], make.xrd(1), key="1", inputs=make.inputs(1))
        assert reading["intensity"].values[0, 0] == 0
        assert store.read("A", "xrd", "frames")["intensity"].values[0, 0] == 1000
        assert new.path != old.path
    with store.writing(keep_replaced=0) as writer:
        assert not (store.path / old.path).exists()
        writer.replace([new], None)
        assert not (store.path / new.path).exists()
        with pytest.raises(StoreError, match="not in the store any more"):
            writer.replace([new], None)
    assert store.parts() == []


def test_many_parts_become_few_and_nothing_else_changes(store, make, monkeypatch):
    monkeypatch.setattr(writing, "COMPACT", 4)
    order = np.random.default_rng(0).permutation(30)
    with store.writing() as writer:
        for number in order:
            writer.write("A", "xrd", "frames", make.xrd(number, rows=2), key=f"k{number}", inputs=make.inputs(number, 2))
            if number == order[12]:
                writer.write("A", "xrd", "alignment", make.alignment(store.read("A", "xrd", "frames")), key="a")
                known = set(order[:13])
    assert len(store.parts("A", "xrd", "frames")) < 9
    assert sorted(k for p in store.parts("A", "xrd", "frames") for k in p.keys) == sorted(f"k{n}" for n in range(30))
    frames = store.read_joined("A", "xrd", "frames").load()
    assert frames["source"].values.tolist() == [f"f{n}.h5" for n in range(30) for _ in range(2)]
    np.testing.assert_array_equal(frames["intensity"][:, 0], [1000 * n + i for n in range(30) for i in range(2)])
    np.testing.assert_array_equal(frames["flags"] == AlignmentFlag.UNALIGNED, [n not in known for n in range(30) for _ in range(2)])
    assert {e["file"]: e["sha256"] for p in store.parts("A", "xrd", "frames") for e in p.inputs} == {f"f{n}.h5": f"{n:064x}" for n in range(30)}


# ----------------------------------------------------------------- full disks


def limited(store, make, size, act):
    """Do something while no file may grow beyond a size, as on a full disk."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [600, 5_000, 30_000, 60_000])
def test_a_full_disk_loses_nothing_acknowledged(store, make, size):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(0), key="0", inputs=make.inputs(0))
        manifest = (store.path / "manifest.jsonl").read_bytes()

        def act():
            with pytest.raises(StoreError, match="cannot be written"):
                writer.write("A", "xrd", "frames", make.xrd(1, rows=400), key="1", inputs=make.inputs(1, 400))

        limited(store, make, size, act)
        assert (store.path / "manifest.jsonl").read_bytes() == manifest
        assert sorted(p.name for p in store.path.rglob("*") if p.is_file()) == ["000001.h5", "manifest.jsonl", "writer.lock"]
        assert store.read("A", "xrd", "frames").load().sizes["time"] == 5
        writer.write("A", "xrd", "frames", make.xrd(1, rows=400), key="1", inputs=make.inputs(1, 400))
    assert store.read("A", "xrd", "frames").load().sizes["time"] == 405


def test_a_manifest_that_cannot_grow_takes_its_half_line_back(store, make):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(0), key="0", inputs=make.inputs(0))
        size = (store.path / "manifest.jsonl").stat().st_size

        def act():
            with pytest.raises(StoreError, match="manifest cannot be written"):
                writer.quarantine("f", "s", "x" * 500)

        limited(store, make, size + 100, act)
        assert (store.path / "manifest.jsonl").stat().st_size == size
        writer.quarantine("f", "s", "y")
    assert [q["reason"] for q in Store(store.path).quarantined()] == ["y"]


def test_a_full_disk_while_publishing_keeps_what_was_published(beamtime, make):
    target = beamtime.path.with_suffix(".nxs")
    beamtime.publish(target)
    before = target.read_bytes()

    def act():
        with pytest.raises(StoreError, match="cannot be written"):
            beamtime.publish(target)

    limited(beamtime, make, 20_000, act)
    assert target.read_bytes() == before
    assert list(target.parent.glob(".*.tmp")) == []


@pytest.mark.parametrize("call", ["fsync", "close", "replace"])
def test_a_failing_last_step_is_an_error_and_leaves_no_file(store, make, monkeypatch, call):
    with store.writing() as writer:
        writer.write("A", "xrd", "frames", make.xrd(0), key="0", inputs=make.inputs(0))
        real = getattr(os, call)

        def fail(*args, **kwargs):
            if call == "close":
                real(*args)
            monkeypatch.setattr(os, call, real)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(StoreError, match="Input/output error"):
            writer.write("A", "xrd", "frames", make.xrd(1), key="1", inputs=make.inputs(1))
        assert sorted(p.name for p in store.path.rglob("*") if p.is_file()) == ["000001.h5", "manifest.jsonl", "writer.lock"]
        assert [p.key for p in Store(store.path).parts()] == ["0"]
