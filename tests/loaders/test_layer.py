"""The loader layer: expanding, wrapping errors, selecting, joining."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from operando.contract import ConfigError, LoaderError, series
from operando.loaders import FileTimes, check_options, concatenate, expand, get_loader, load_file, select
from operando.loaders.registry import Loader, _from_object


def spectrum(source: str = "a.txt", n: int = 2, energy: tuple[float, ...] = (1.0, 2.0, 3.0), **coords: object) -> xr.Dataset:
    ds = series(
        "xas",
        {"mu": (("time", "energy"), np.ones((n, len(energy))), "1")},
        source=source,
        coords={"energy": ("energy", list(energy), "eV"), **coords},  # type: ignore[dict-item]
        start="2026-06-03T10:00:00Z",
        elapsed=np.arange(n) * 1.0,
        time_origin="header",
    )
    return ds


def loader_of(function: object) -> Loader:
    return _from_object("made-up", function, "here")


def test_files_come_in_numeric_order(tmp_path: Path) -> None:
    for name in ("s_10.txt", "s_9.txt", "s_1.txt"):
        (tmp_path / name).write_text("x")
    assert [p.name for p in expand("*.txt", tmp_path)] == ["s_1.txt", "s_9.txt", "s_10.txt"]
    assert [p.name for p in expand(["s_9.txt", "*.txt"], tmp_path)] == ["s_9.txt", "s_1.txt", "s_10.txt"]


def test_a_glob_that_matches_nothing_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "scan.dat").write_text("x")
    with pytest.raises(ConfigError, match=r"scan\.dat"):
        expand("*.txt", tmp_path)
    with pytest.raises(ConfigError, match=r"scan\.dat"):
        expand("nowhere/*/x.txt", tmp_path)


def test_a_file_whose_name_looks_like_a_pattern_is_found(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("x")
    assert expand("a[1].txt", tmp_path) == [tmp_path / "a[1].txt"]


def load_that_breaks(path: Path, *, how: str = "zero") -> xr.Dataset:
    """Break."""
    if how == "zero":
        return 1 / 0  # type: ignore[return-value]
    if how == "nothing":
        return None  # type: ignore[return-value]
    if how == "memory":
        raise MemoryError
    return spectrum(str(path), n=0)


@pytest.mark.parametrize("how", ["zero", "nothing", "memory", "empty"])
def test_whatever_goes_wrong_in_a_loader_names_the_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "scan.txt"
    path.write_text("x")
    with pytest.raises(Exception, match=r"scan\.txt") as caught:
        load_file(loader_of(load_that_breaks), path, {"how": how})
    assert type(caught.value).__name__ in ("LoaderError", "ContractError")


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(LoaderError, match=name):
            load_file(loader_of(load_that_breaks), tmp_path / name)


def test_unknown_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'how'"):
        check_options(loader_of(load_that_breaks), {"hwo": 1})


def test_unknown_loaders_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="biologic-mpt"):
        get_loader("biologic-mtp")


def test_a_loader_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        '"""My format."""\nfrom operando.contract import series\nTECHNIQUES = ("sensor",)\nVERSION = "2"\n'
        "def load(path, *, k=1.0):\n"
        '    channel = ("time", [k], "bar", {"sampling": "continuous"})\n'
        '    return series("sensor", {"p": channel}, source=path, start="2026-01-01T00:00:00Z", time_origin="header")\n'
    )
    loader = get_loader("mine.py:load", tmp_path)
    assert loader.version.startswith("2+"), "its text is part of its version"
    (tmp_path / "x.dat").write_text("1")
    (ds,) = load_file(loader, tmp_path / "x.dat", {"k": 3.0})
    assert ds.p.values[0] == 3.0
    with pytest.raises(ConfigError, match="does not exist"):
        get_loader("other.py", tmp_path)


def test_select_routes_by_coordinates() -> None:
    ds = spectrum(
        n=4,
        position=("time", [1, 2, 1, 2], "1"),
        motor_x=("time", [0.0, 0.5, 1.0, 1.5], "mm"),
        sample=("time", np.array(["A1", "B", "A2", "B"], object), None),
    )
    assert select(ds, {"position": 1}).sizes["time"] == 2
    assert select(ds, {"position": [1, 2], "sample": "A*"}).sizes["time"] == 2
    assert select(ds, {"motor_x": "0.4..1.2"}).sizes["time"] == 2
    assert select(ds, {"nothing": 1}).sizes["time"] == 0
    assert select(ds, {"technique": "xas"}).sizes["time"] == 4
    with pytest.raises(ConfigError, match="range"):
        select(ds, {"motor_x": "a..b"})


def test_joining_keeps_order_and_fills_what_only_some_have() -> None:
    first, second = spectrum("b.txt"), spectrum("a.txt", position=("time", [7, 7], "1"))
    second = second.assign_coords(temperature=("time", [20.0, 21.0], {"units": "degC"}))
    joined = concatenate([first, second])
    assert list(joined.source.values) == ["b.txt", "b.txt", "a.txt", "a.txt"]
    assert list(joined.position.values) == [-1, -1, 7, 7]
    assert np.isnan(joined.temperature.values[:2]).all()
    assert joined.mu.shape == (4, 3)


def test_joining_different_axes_is_refused() -> None:
    with pytest.raises(LoaderError, match="axis changes"):
        concatenate([spectrum("a.txt"), spectrum("b.txt", energy=(1.0, 2.0, 4.0))])


def test_joining_absolute_and_wall_clock_times_remembers_which_is_which() -> None:
    local = spectrum("b.txt")
    local = FileTimes(start="2026-06-03T12:00:00").apply(local, Path("b.txt"))
    joined = concatenate([spectrum("a.txt"), local])
    assert joined.attrs["timezone_source"] == "none"
    assert list(np.isnat(joined.stamp.values)) == [True, True, False, False]


def test_a_folder_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    base = tmp_path / "ID31 [June] (50%) {x}"
    (base / "xrd").mkdir(parents=True)
    for n in (10, 2):
        (base / "xrd" / f"a_{n}.xy").touch()
    assert [p.name for p in expand("xrd/*.xy", base)] == ["a_2.xy", "a_10.xy"]
    assert [p.name for p in expand(str(tmp_path / "ID31*" / "xrd" / "*.xy"), base)] == ["a_2.xy", "a_10.xy"]
    with pytest.raises(ConfigError, match="holds xrd"):
        expand("echem/*.mpt", base)


def test_a_fault_in_a_loader_of_ones_own_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('"""Mine."""\nTECHNIQUES = ("xrd",)\nVERSION = "1"\n\n\ndef load(path):\n    """Read."""\n    return 1 / 0\n')
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(LoaderError, match=r"ZeroDivisionError(.|\n)*line 8 of mine.py"):
        load_file(get_loader("mine.py:load", tmp_path), tmp_path / "a.txt")


def test_accents_may_be_written_in_one_piece_or_two(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "öfen_1.csv")).touch()
    assert len(expand(unicodedata.normalize("NFC", "öfen_1.csv"), tmp_path)) == 1
    assert len(expand(unicodedata.normalize("NFC", "öf*.csv"), tmp_path)) == 1


def test_backslashes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write / between folders"):
        expand("xrd\\*.xye", tmp_path)


def test_what_cannot_be_joined_is_named() -> None:
    number = spectrum("a.txt").assign_coords(motor_x=("time", [1.0, 2.0], {"units": "mm"}))
    stamp = spectrum("b.txt").assign_coords(motor_x=("time", np.array(["2026-01-01"] * 2, "M8[ns]")))
    with pytest.raises(LoaderError, match="'motor_x' is not of one kind"):
        concatenate([number, stamp])


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "load = 3", "load = None"])
def test_a_loader_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text + "\n")
    with pytest.raises(LoaderError, match="mine.py"):
        get_loader("mine.py:load", tmp_path)


def test_a_loader_that_ends_the_program_does_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('TECHNIQUES = ("xrd",)\n\n\ndef load(path):\n    raise SystemExit(3)\n')
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(LoaderError, match=r"a\.txt"):
        load_file(get_loader("mine.py:load", tmp_path), tmp_path / "a.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"bad\xff.xye")
    path.write_text("1 2 3\n")
    with pytest.raises(LoaderError, match="not UTF-8") as caught:
        load_file(get_loader("xrd-1d"), path)
    str(caught.value).encode()
