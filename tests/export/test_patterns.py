"""Patterns for Rietveld programs: our own loader reads them back, and the rules by which GSAS-II reads them are kept."""

from __future__ import annotations

import csv
import json
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import operando as op
from operando import beamtime
from operando.cli import main
from operando.contract import ConfigError, StoreError, series
from operando.export import export_patterns
from operando.export import patterns as module
from operando.loaders import xrd_1d


@pytest.fixture(scope="module")
def store(small_beamtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patterns") / "beamtime"
    import shutil

    shutil.copytree(small_beamtime, folder)
    return Path(beamtime.build(folder / "beamtime.yaml"))


def gsas2_fxye(path: Path) -> dict[str, Any]:
    """Read a file by the rules of GSAS-II's `G2pwd_fxye`, written down here anew."""
    lines = path.read_text(encoding="latin-1").split("\n")
    assert not lines[0].startswith(("BANK", "#"))
    assert lines[1][:4].lower() == "inst"
    comments, at = {}, 2
    while lines[at][:4] != "BANK":
        assert lines[at][0] == "#"
        key, equals, value = lines[at].partition("=")
        if equals:
            comments[key.strip("# ")] = value.strip()
        at += 1
    bank = lines[at].split()
    assert "FXYE" in bank
    rows = np.array([[float(v) for v in line.split()] for line in lines[at + 1 :] if line])
    assert int(bank[2]) == len(rows)
    instrument = lines[1].split(":")[1].strip("[]").strip()
    return {"instrument": instrument, "comments": comments, "x": rows[:, 0] / 100, "y": rows[:, 1], "sigma": rows[:, 2]}


@pytest.mark.parametrize("form", ["fxye", "xye"])
def test_numbers_come_back_as_they_are(store: Path, tmp_path: Path, form: str) -> None:
    written = export_patterns(store, "A/xrd", tmp_path / "out", form=form, frames=slice(0, 60, 20))
    frames = op.open_beamtime(store)["A/xrd/frames"].to_dataset().isel(time=slice(0, 60, 20)).load()
    assert [p.name for p in written.patterns] == [f"A_xrd_{k:05d}.{form}" for k in (0, 20, 40)]
    assert written.skipped == {}
    for k, path in enumerate(written.patterns):
        assert xrd_1d.claims(path)
        again = xrd_1d.load(path)
        np.testing.assert_array_equal(again.intensity.values[0], frames.intensity.values[k])
        np.testing.assert_array_equal(again.intensity_errors.values[0], frames.intensity_errors.values[k])
        np.testing.assert_allclose(again.two_theta, frames.two_theta, rtol=1e-15)
        np.testing.assert_allclose(again.q, frames.q, rtol=1e-12)
        assert again.attrs["wavelength"] == pytest.approx(frames.attrs["wavelength"], rel=1e-12)
        assert again.intensity.attrs["units"] == frames.intensity.attrs["units"]


def test_gsas_2_finds_what_it_looks_for(store: Path, tmp_path: Path) -> None:
    written = export_patterns(store, "A/xrd", tmp_path / "out", frames=slice(10, 12))
    frames = op.open_beamtime(store)["A/xrd/frames"].to_dataset().load()
    read = gsas2_fxye(written.patterns[0])
    assert read["instrument"] == "A_xrd.instprm"
    assert float(read["comments"]["Temp"]) == pytest.approx(float(frames.temperature[10]) + 273.15, abs=0.01)
    assert not any(word in key for key in read["comments"] for word in ("Omega", "Theta", "Chi", "Phi", "Gonio", "pressure"))
    np.testing.assert_allclose(read["x"], frames.two_theta, rtol=1e-15)
    assert written.instrument is not None
    lines = written.instrument.read_text().splitlines()
    assert lines[0].startswith("#GSAS-II")
    items = dict(line.split(":", 1) for line in lines[1:])
    assert items["Type"] == "PXC"
    assert float(items["Lam"]) == pytest.approx(0.4133)
    assert items["Diff-type"] == "Debye-Scherrer"
    assert {"Zero", "Polariz.", "U", "V", "W", "X", "Y", "Z", "SH/L", "Azimuth", "Bank"} <= set(items)


def test_the_list_says_what_each_frame_was(store: Path, tmp_path: Path) -> None:
    written = export_patterns(store, "A/xrd", tmp_path / "out")
    frames = op.open_beamtime(store)["A/xrd/frames"].to_dataset().load()
    table = pd.read_csv(written.list_file)
    assert table["# file"].tolist() == [p.name for p in written.patterns]
    known = np.isfinite(frames.voltage.values)
    np.testing.assert_allclose(table["voltage_V"][known], frames.voltage.values[known], rtol=1e-9)
    np.testing.assert_allclose(table["temperature_K"], frames.temperature.values + 273.15, rtol=1e-9)
    assert table["time_s"][0] == 0
    assert table["time_utc"][0] == str(np.datetime_as_string(frames.time.values[0], unit="ms")) + "Z"
    assert table["cycle"].dtype.kind == "i"
    for line in written.list_file.read_text().splitlines()[1:]:  # GSAS-II splits at blanks and commas, and wants as many columns in each row
        assert len(line.replace(",", " ").split()) == table.shape[1]


def test_the_script_makes_a_project(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it is written, with a project that notes what is asked of it (GSAS-II itself is no package that tests could install)."""
    written = export_patterns(store, "A/xrd", tmp_path / "out", frames=slice(9, 12))
    asked: list[Any] = []

    class Project:
        def __init__(self, newgpx: str) -> None:
            self.data: dict[str, Any] = {"Controls": {"data": {}}}
            self.newgpx = newgpx

        def add_powder_histogram(self, datafile: str, iparams: str) -> types.SimpleNamespace:
            assert Path(datafile).is_file()
            assert Path(iparams).is_file()
            asked.append(types.SimpleNamespace(SampleParameters={"Temperature": 300.0}, name=Path(datafile).name))
            return asked[-1]

        def save(self) -> None:
            asked.append(self.newgpx)

    package = types.ModuleType("GSASII")
    package.GSASIIscriptable = types.SimpleNamespace(G2Project=Project)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "GSASII", package)
    runpy.run_path(str(written.folder / "A_xrd_gsas2.py"))
    frames = op.open_beamtime(store)["A/xrd/frames"].to_dataset().load()
    assert asked[-1] == str(written.folder / "A_xrd.gpx")
    for k, one in zip((9, 10, 11), asked[:-1], strict=True):
        assert one.name == f"A_xrd_{k:05d}.fxye"
        assert one.SampleParameters["FreePrm1"] == pytest.approx(float(frames.voltage[k]))
        assert one.SampleParameters["Temperature"] == pytest.approx(float(frames.temperature[k]) + 273.15)


def made(monkeypatch: pytest.MonkeyPatch, ds: xr.Dataset) -> None:
    """Let a series stand where a store would be opened."""
    monkeypatch.setattr(module, "product_of", lambda store, path: ("A/x y", ds))


def counts(n: int = 5, axis: str = "q", errors: bool = True, **attrs: Any) -> xr.Dataset:
    x = np.linspace(1.0, 4.0, 50) if axis == "q" else np.linspace(10, 80, 50)
    values = np.random.default_rng(0).poisson(50, (n, 50)).astype(np.float32)
    variables: dict[str, Any] = {"intensity": (("time", axis), values, "counts", {"ancillary_variables": "intensity_errors"} if errors else {})}
    if errors:
        variables["intensity_errors"] = (("time", axis), np.sqrt(values), "counts")
    unit = "1/angstrom" if axis == "q" else "deg"
    return series(
        "xrd", variables, source="a.h5", coords={axis: (axis, x, unit), "monitor": ("time", np.full(n, 1e5), "counts")},
        start="2026-06-03T10:00:00Z", elapsed=np.arange(n) * 60.0, time_origin="header", attrs=attrs,
    )  # fmt: skip


def test_frames_and_channels_that_say_nothing_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ds = counts(6, wavelength=0.5)
    quality = np.array([0, 4, 0, 0, 0, 0], np.int32)
    ds = ds.assign_coords(quality=("time", quality, ds.quality.attrs))
    ds["monitor"][2] = 10.0
    ds["intensity"][3] = np.nan
    ds["intensity"][4, 10:13] = np.nan
    ds["intensity_errors"][4, 20] = 0.0
    ds["intensity"][5, 7] = -1.0
    made(monkeypatch, ds)
    written = export_patterns("x.nxs", "A/x y", tmp_path / "out", form="xye")
    assert written.skipped == {1: "dark or damaged", 2: "dark or damaged", 3: "no intensity"}
    assert [p.name for p in written.patterns] == ["A_x_y_00000.xye", "A_x_y_00004.xye", "A_x_y_00005.xye"]
    assert xrd_1d.load(written.patterns[1]).sizes["q"] == 46
    assert any("4 channels without" in note for note in written.notes)
    assert any("1 channels are not above 0" in note for note in written.notes)
    with (tmp_path / "out/A_x_y_frames.csv").open() as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["0", "4", "5"]


def test_a_doublet_goes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(monkeypatch, counts(1, "two_theta", wavelength=1.540593, wavelength_k_alpha_2=1.544427, ratio_k_alpha_2=0.497))
    for form in ("fxye", "xye"):
        written = export_patterns("x.nxs", "A/x y", tmp_path / form, form=form)
        again = xrd_1d.load(written.patterns[0])
        assert (again.attrs["wavelength"], again.attrs["wavelength_k_alpha_2"], again.attrs["ratio_k_alpha_2"]) == (1.540593, 1.544427, 0.497)
    assert written.instrument is not None
    items = dict(line.split(":", 1) for line in written.instrument.read_text().splitlines()[1:])
    assert (items["Lam1"], items["Lam2"], items["I(L2)/I(L1)"], items["Diff-type"]) == ("1.540593", "1.544427", "0.497", "Bragg-Brentano")


def test_descending_axes_and_missing_errors_are_put_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ds = counts(2, "two_theta", errors=False, wavelength=1.5)
    made(monkeypatch, ds.isel(two_theta=slice(None, None, -1)))
    again = xrd_1d.load(export_patterns("x.nxs", "A/x y", tmp_path / "out").patterns[0])
    np.testing.assert_array_equal(again.intensity.values[0], ds.intensity.values[0])
    np.testing.assert_allclose(again.intensity_errors.values[0], np.sqrt(np.maximum(ds.intensity.values[0], 1)), rtol=1e-7)


def test_without_a_wavelength_there_is_no_instrument_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(monkeypatch, counts(2, "two_theta"))
    written = export_patterns("x.nxs", "A/x y", tmp_path / "out")
    assert written.instrument is None
    assert "the wavelength is not known" in written.notes[0]
    assert not list((tmp_path / "out").glob("*.instprm"))
    again = xrd_1d.load(written.patterns[0])
    assert "wavelength" not in again.attrs
    made(monkeypatch, counts(2, "q"))
    with pytest.raises(ConfigError, match="2 theta cannot be told"):
        export_patterns("x.nxs", "A/x y", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_nothing_is_overwritten_or_left_half_done(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_patterns(store, "A/xrd", out, frames=slice(0, 2))
    (out / "A_xrd_00001.fxye").write_text("mine")
    with pytest.raises(StoreError, match="files are there already"):
        export_patterns(store, "A/xrd", out, frames=slice(1, 4))
    assert (out / "A_xrd_00001.fxye").read_text() == "mine"
    assert not (out / "A_xrd_00003.fxye").exists()
    export_patterns(store, "A/xrd", out, frames=slice(1, 4), overwrite=True)
    assert (out / "A_xrd_00003.fxye").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="this is a file"):
        export_patterns(store, "A/xrd", tmp_path / "file")
    with pytest.raises(StoreError, match="does not exist"):
        export_patterns(store, "A/xrd", tmp_path / "a" / "b")
    with pytest.raises(ConfigError, match="no frame is left"):
        export_patterns(store, "A/xrd", tmp_path / "none", frames=slice(5000, 6000))


def test_the_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(store), "A/xrd", "-o", str(out), "--format", "xye", "--frames", "0:60:20"]) == 0
    assert capsys.readouterr().out == f"{out}: 3 patterns, listed in A_xrd_frames.csv\n"
    assert main(["export", str(store), "A/xrd", "-o", str(out), "--format", "fxye", "--frames", "7", "--overwrite"]) == 0
    assert (out / "A_xrd_00007.fxye").exists()
    assert main(["export", str(store), "A/echem", "-o", str(tmp_path / "e"), "--format", "xye"]) == 1
    assert "only diffraction patterns" in capsys.readouterr().err
    assert main(["export", str(store), "A/xrd", "-o", str(tmp_path / "x.csv"), "--frames", "1:2"]) == 1
    assert "--frames chooses patterns" in capsys.readouterr().err
    for wrong in ("a:b", "1:2:0", "", ":", "1:2:3:4"):
        if wrong == ":":
            continue
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(store), "A/xrd", "-o", str(out), "--format", "xye", "--frames", wrong])
        assert stopped.value.code == 2


def test_polarisation_that_integration_took_off_is_not_taken_off_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for factor, expected in ((0.99, "1.0"), (None, "0.99")):
        recipe = json.dumps({"reducer": "integrate", "polarization": factor})
        made(monkeypatch, counts(1, wavelength=0.5).assign_attrs(recipe=recipe))
        written = export_patterns("x.nxs", "A/x y", tmp_path / str(factor))
        assert written.instrument is not None
        assert f"Polariz.:{expected}" in written.instrument.read_text().splitlines()
