"""Impedance through a whole build of the example: sweeps of files that take turns with the cycling, on the timeline, and what they mark."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import operando as op
from operando import beamtime
from operando.contract import AlignmentFlag
from operando.export import export
from operando.timeline.echem import track_of


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its electrochemistry and its logs alone."""
    made = tmp_path_factory.mktemp("eis") / "example"
    for part in ("echem", "logs"):
        shutil.copytree(root / "example_beamtime" / part, made / part)
    text = (root / "example_beamtime/beamtime.yaml").read_text()
    head, sources = text.split("  detector:")[0], text.split("  holder:")[1].split("# No loader")[0]
    cells = "cells:" + re.sub(r"^ {6}(?:xrd|total|xas|imaging):.*\n(?: {7}.*\n)*", "", text.split("cells:")[1], flags=re.MULTILINE)
    (made / "beamtime.yaml").write_text(f"{head}  holder:{sources}\n{cells}")
    return made


@pytest.fixture(scope="module")
def built(folder: Path) -> xr.DataTree:
    outcome = beamtime.build(folder / "beamtime.yaml")
    return op.open_beamtime(outcome)


def test_sweeps_are_frames_with_intervals_on_the_timeline(built: xr.DataTree) -> None:
    eis = built["A/eis/frames"].ds
    assert eis.sizes["time"] == 42
    assert eis["impedance"].dtype == complex
    assert (np.diff(eis["time"].values) > np.timedelta64(0)).all()
    assert np.median(eis["exposure"].values) == pytest.approx(137.7, abs=1)
    assert np.isfinite(eis["voltage"].values).all()
    np.testing.assert_allclose(eis["voltage"].values, np.nanmean(eis["dc_voltage"].values, axis=1), atol=2e-3)
    assert not (eis["flags"].values & AlignmentFlag.IN_EIS).any(), "a sweep is not inside itself"


def test_frames_inside_a_sweep_say_so(built: xr.DataTree, folder: Path) -> None:
    eis, log = built["A/eis/frames"].ds, built["A/beamline/frames"].ds
    middle = log["time"].values
    half = (eis["exposure"].values * 5e8).astype("timedelta64[ns]")
    begins, ends = eis["time"].values - half, eis["time"].values + half
    inside = np.zeros(middle.size, bool)
    for a, b in zip(begins, ends, strict=True):
        inside |= (middle > a) & (middle < b)
    flagged = (log["flags"].values & AlignmentFlag.IN_EIS) != 0
    assert (flagged == inside).all()
    assert 500 < flagged.sum() < 800
    report = beamtime.check(folder / "beamtime.yaml")
    echem = next(s for s in report.streams if s.address == "A/echem")
    assert (echem.segments, echem.backward, echem.advice) == (1, 0, []), "files that take turns are no clock that was set back"
    told = {s.address: s.flags["IN_EIS"] for s in report.streams}
    assert told["A/beamline"] == flagged.sum()
    assert told["A/eis"] == told["A/echem"] == 0


def test_cycling_and_impedance_make_one_timeline(built: xr.DataTree) -> None:
    echem = built["A/echem/frames"].ds
    track = track_of(echem)
    assert track.times.size == echem.sizes["time"]
    assert np.diff(track.times).max() < 60e9, "no silence is left where the sweeps were"
    order = np.argsort(echem["sequence"].values)
    assert (np.diff(echem["time"].values[order]) >= np.timedelta64(0)).all()
    cycles = built["A/echem/cycles"].ds
    np.testing.assert_allclose(cycles["capacity_charge"].values, [2.8106, 2.8030, 2.7793], atol=2e-4)
    np.testing.assert_allclose(cycles["coulombic_efficiency"].values, [0.9971, 0.9913, 0.9949], atol=2e-4)


def test_triggers_and_sweeps_give_the_clock_of_the_control_computer(folder: Path) -> None:
    text = (folder / "beamtime.yaml").read_text()
    before, after = text.split("  triggers:\n    loader", 1)
    given = "clock: {offset: -37 s, uncertainty: 1 s, events: {from: triggers, echem: eis}}"
    found = after.replace(given, "clock: {events: {echem: eis}}", 1)
    assert found != after
    path = folder / "found.yaml"
    path.write_text(f"{before}  triggers:\n    loader{found}")
    report = beamtime.check(path)
    (estimate,) = next(s for s in report.streams if s.address == "A/triggers").estimates
    assert estimate.clock.method == "events"
    assert estimate.applied
    assert abs(estimate.clock.offset + 37.38) < 1.96 * estimate.clock.uncertainty  # truth.json at the first trigger
    assert estimate.clock.uncertainty < 0.3


def test_tables_hold_spectra_as_real_numbers_with_their_frequencies(built: xr.DataTree, folder: Path, tmp_path: Path) -> None:
    store = folder / "beamtime.nxs"
    export(store, "A/eis/frames", tmp_path / "eis.csv")
    export(store, "A/eis/frames", tmp_path / "eis.parquet")
    eis, table = built["A/eis/frames"].ds, pd.read_csv(tmp_path / "eis.csv")
    np.testing.assert_allclose(table["real part of impedance at point=3 (ohm)"], eis["impedance"].values.real[:, 3])
    np.testing.assert_allclose(table["imaginary part of impedance at point=3 (ohm)"], eis["impedance"].values.imag[:, 3])
    np.testing.assert_allclose(table["frequency at point=3 (Hz)"], eis["frequency"].values[:, 3])
    assert pd.read_parquet(tmp_path / "eis.parquet").shape == table.shape
    export(store, "A/echem/differential", tmp_path / "differential.csv")
    assert pd.read_csv(tmp_path / "differential.csv").filter(like="differential_capacity at").shape[1] > 100
