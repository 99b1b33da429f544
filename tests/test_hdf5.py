"""Lazy arrays over HDF5: every way of indexing gives what numpy gives, and nothing is read or held that need not be."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from operando import hdf5
from operando.contract import StoreError

VALUES = np.arange(150 * 40, dtype=np.int32).reshape(150, 40)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "a.h5"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("x", data=VALUES, chunks=(16, 16), compression="gzip")
        h5["x"].attrs["units"] = "counts"
        h5["big_endian"] = VALUES.astype(">f8")
        h5["half"] = VALUES.astype("f2")
        h5["text"] = np.array(["a", "µ", ""], dtype=object)
        h5["bytes"] = np.array([b"ab", b"c"])
        h5["flag"] = np.array([1, 0], np.int8)
        h5["flag"].attrs["dtype"] = "bool"
        h5["when"] = np.array([0, np.iinfo("i8").min], "i8")
        h5["when"].attrs["units"] = hdf5.EPOCH_UNITS
        h5["scalar"] = 3.5
        h5["empty"] = h5py.Empty("f4")
        h5["nothing"] = np.zeros((0, 4))
        h5["compound"] = np.zeros(2, [("a", "f4")])
        h5.create_group("group")
    return path


def lazy(path, name="x"):
    return hdf5.lazy_variable(path, name, ("time", "q"))


def concatenated():
    """Three pieces, one of them in two neighbouring slices; the numpy array it must equal."""
    a, b = hdf5.MemoryArray(VALUES[:70]), hdf5.MemoryArray(VALUES[70:])
    pieces = [(b, slice(10, 40)), (a, slice(0, 30)), (a, slice(30, 65)), (b, slice(0, 0)), (b, slice(40, 80))]
    whole = np.concatenate([VALUES[80:110], VALUES[:65], VALUES[110:150]])
    return hdf5.LazyConcat(pieces), whole


def indexers(n):
    return st.one_of(
        st.integers(-n, n - 1),
        st.slices(n),
        st.lists(st.integers(-n, n - 1), max_size=12).map(lambda k: np.array(k, int)),
        st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
    )


@settings(max_examples=150, deadline=None)
@given(rows=indexers(150), columns=indexers(40))
def test_outer_indexing_as_numpy(file, rows, columns):
    expected = xr.Variable(("time", "q"), VALUES)[rows, columns]
    xr.testing.assert_equal(lazy(file)[rows, columns].load(), expected)


@settings(max_examples=150, deadline=None)
@given(rows=indexers(135), columns=indexers(40))
def test_concatenation_as_numpy(rows, columns):
    array, whole = concatenated()
    xr.testing.assert_identical(hdf5.variable(array, ("time", "q"))[rows, columns].load(), xr.Variable(("time", "q"), whole)[rows, columns])


def test_indexing_twice_and_vectorised(file):
    twice = lazy(file)[::-2][5:30, ::-1][[3, 1, 1]]
    np.testing.assert_array_equal(twice.values, VALUES[::-2][5:30, ::-1][[3, 1, 1]])
    points = lazy(file)[{"time": xr.Variable("p", [3, 149, 0]), "q": xr.Variable("p", [1, 39, 5])}]
    np.testing.assert_array_equal(points.values, VALUES[[3, 149, 0], [1, 39, 5]])


def test_neighbouring_slices_become_one_piece():
    assert len(concatenated()[0]._arrays) == 4


def test_decoding(file):
    def read(name, *dims):
        return hdf5.lazy_variable(file, name, dims)

    assert lazy(file).dtype == np.int32
    assert lazy(file).attrs == {"units": "counts"}
    assert read("big_endian", "t", "q").dtype == np.dtype("=f8")
    assert read("half", "t", "q").dtype == np.float32
    assert read("text", "t").values.tolist() == ["a", "µ", ""]
    assert read("bytes", "t").values.tolist() == ["ab", "c"]
    flag = read("flag", "t")
    assert (flag.dtype, flag.values.tolist(), flag.attrs) == (np.dtype(bool), [True, False], {})
    when = read("when", "t")
    assert when.values[0] == np.datetime64("1970-01-01", "ns")
    assert np.isnat(when.values[1])
    assert when.attrs == {}
    assert read("scalar").values == 3.5
    assert read("nothing", "t", "q").values.shape == (0, 4)


@pytest.mark.parametrize("name", ["compound", "empty", "group", "absent"])
def test_what_is_no_array_is_refused(file, name):
    with pytest.raises(StoreError, match=name):
        hdf5.lazy_variable(file, name, ("t",))


def test_wrong_dims_and_wrong_file_are_refused(file, tmp_path):
    with pytest.raises(StoreError, match="dims"):
        hdf5.lazy_variable(file, "x", ("t",))
    with pytest.raises(StoreError, match="cannot be read"):
        hdf5.lazy_variable(tmp_path / "absent.h5", "x", ("t",))
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(StoreError, match="not a readable HDF5 file"):
        hdf5.lazy_variable(tmp_path / "text.h5", "x", ("t",))


def test_complex_and_constant(file):
    real = hdf5.HDF5Array(file, "x")
    both = hdf5.variable(hdf5.ComplexArray(real, hdf5.ConstantArray(real.shape, 2, np.float32)), ("t", "q"))
    np.testing.assert_array_equal(both[3:9, ::-1].values, VALUES[3:9, ::-1] + 2j)
    assert both.dtype == np.complex128


def test_nothing_is_read_before_it_is_needed(file, monkeypatch):
    read = []
    monkeypatch.setattr(hdf5, "_read_outer", lambda h5, key, shape: read.append(key) or np.zeros((2, 40), "i4"))
    variable = lazy(file)
    part = variable[10:12]
    assert (part.shape, variable.dtype, read) == ((2, 40), np.int32, [])
    part.load()
    assert [tuple(range(*k.indices(150)) for k in key[:1]) for key in read] == [(range(10, 12),)]


def test_assignment_stays_in_memory(file):
    variable = lazy(file)
    variable[0, 0] = -1
    assert variable.values[0, 0] == -1
    assert lazy(file).values[0, 0] == 0


def test_pickles(file):
    again = pickle.loads(pickle.dumps(lazy(file)[5:7]))
    np.testing.assert_array_equal(again.values, VALUES[5:7])
    array, whole = concatenated()
    np.testing.assert_array_equal(hdf5.variable(pickle.loads(pickle.dumps(array)), ("t", "q")).values, whole)


def test_threads(file):
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.integers(0, 150, 5)
            wrong.extend([] if (lazy(file)[rows].values == VALUES[rows]).all() else [rows])

    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_handles_are_bounded(tmp_path):
    handles = hdf5._Handles(limit=3)
    for i in range(6):
        with h5py.File(tmp_path / f"{i}.h5", "w") as h5:
            h5["x"] = i
        with handles.reading(str(tmp_path / f"{i}.h5")) as h5:
            assert h5["x"][()] == i
    assert len(handles._open) == 3
    handles.close()
    assert not handles._open


def test_the_file_may_be_opened_otherwise_meanwhile(tmp_path):
    """Plain h5py in this process, a writer in another: neither is hindered by the handle that is kept."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        h5["x"] = VALUES
    variable = lazy(path)
    assert variable[0, 1].values == 1
    with h5py.File(path, "r") as h5:
        assert h5["x"][0, 1] == 1
    subprocess.run([sys.executable, "-c", f"import h5py; f = h5py.File({str(path)!r}, 'a'); f['x'][0, 1] = 7; f.close()"], check=True)
    os.utime(path, ns=(1, 1))
    assert variable[0, 1].values == 7


def test_growing_and_shrinking_files(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("x", data=VALUES, maxshape=(None, 40), chunks=(16, 16))
    variable = lazy(path)
    with h5py.File(path, "a") as h5:
        h5["x"].resize(160, 0)
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(variable.values, VALUES)
    variable = lazy(path)
    assert variable.shape == (160, 40)
    with h5py.File(path, "a") as h5:
        h5["x"].resize(10, 0)
    os.utime(path, ns=(2, 2))
    with pytest.raises(StoreError, match="shrank"):
        variable[5].load()


def test_an_immutable_file_that_was_replaced_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        h5["x"] = VALUES
    array = hdf5.HDF5Array(path, "x", identity=hdf5.identity_of(path))
    os.utime(path, ns=(1, 1))
    with pytest.raises(StoreError, match="replaced"):
        hdf5.variable(array, ("t", "q")).load()
    path.unlink()
    with pytest.raises(StoreError, match=r"a\.h5"):
        hdf5.variable(array, ("t", "q")).load()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_on_its_own(file):
    variable = lazy(file)
    assert variable[0, 0].values == 0
    code = (
        f"from operando import hdf5; import os; v = hdf5.lazy_variable({str(file)!r}, 'x', ('t', 'q')); v[0].load(); pid = os.fork();"
        "ok = all((v[i].values == v[i].values[0] + range(40)).all() and v[i, 0].values == 40 * i for i in range(150));"
        "os._exit(not ok) if pid == 0 else None; raise SystemExit(not ok or os.waitpid(pid, 0)[1])"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_external_links_and_virtual_datasets(file, tmp_path):
    path = tmp_path / "master.h5"
    with h5py.File(path, "w") as h5:
        h5["linked"] = h5py.ExternalLink(str(file), "x")
        layout = h5py.VirtualLayout((300, 40), "i4")
        layout[:150] = layout[150:] = h5py.VirtualSource(str(file), "x", (150, 40))
        h5.create_virtual_dataset("virtual", layout)
        h5["lost"] = h5py.ExternalLink("gone.h5", "x")
    np.testing.assert_array_equal(lazy(path, "linked")[7].values, VALUES[7])
    np.testing.assert_array_equal(lazy(path, "virtual")[[3, 155]].values, VALUES[[3, 5]])
    with pytest.raises(StoreError, match="lost"):
        lazy(path, "lost")


def test_rows_that_share_their_text_share_one_object(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("source", data=np.array(["scan_1.h5"] * 500 + ["é"] * 3 + [""], object), dtype=h5py.string_dtype())
    values = hdf5.lazy_variable(tmp_path / "a.h5", "source", ("time",)).values
    assert values[[0, -2, -1]].tolist() == ["scan_1.h5", "é", ""]
    assert len({id(v) for v in values}) == 3


def test_only_so_many_files_stay_open(tmp_path):
    for i in range(80):
        with h5py.File(tmp_path / f"{i}.h5", "w") as h5:
            h5["x"] = np.arange(3) + i
    arrays = [hdf5.lazy_variable(tmp_path / f"{i}.h5", "x", ("time",)) for i in range(80)]
    assert [int(a.values[0]) for a in arrays] == list(range(80))
    assert len(hdf5._handles._open) <= hdf5._handles.limit < 80
    hdf5.close_files()
