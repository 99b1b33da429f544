"""Measured files that a recipe names: their content is part of it, their path is relative to beamtime.yaml, and they are read as the frames are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import operando as op
from operando.beamtime import run
from operando.config import MeasuredFile, Recipe, read_config
from operando.contract import ConfigError

YAML = """\
sources:
  total_scattering:
    loader: hdf5-path
    preset: nexus-nxazint1d
    technique: pdf
    files: total/A_total_*.h5
    axis: {q: '[NXdata]/radial_axis'}
    frame_times: {path: '[NXdata]/epoch', kind: unix}
    count_time: '[NXdata]/count_time'
cells:
  A:
    series:
      total:
        from: total_scattering
        recipe:
          stages:
            - {reducer: total-scattering, composition: NiO, qmin: 1.0, rmax: 25, background: {file: background.h5, scale: 0.96}}
            - {reducer: pdf-shells, first_shell: [1.7, 2.5], pair: Ni-O}
"""


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Path:
    (tmp_path / "total").mkdir()
    shutil.copy(root / "example_beamtime" / "total" / "A_total_0001.h5", tmp_path / "total")
    shutil.copy(root / "example_beamtime" / "total" / "A_background_total.h5", tmp_path / "background.h5")
    (tmp_path / "beamtime.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path


def build(folder: Path) -> tuple[int, np.ndarray]:
    outcome = run(read_config(folder / "beamtime.yaml"))
    assert not outcome.problems
    return outcome.done["reductions"], op.open_beamtime(outcome.published)["A/total/observables"].ds.first_shell_distance.values


def test_a_changed_background_redoes_the_reduction_and_a_copied_one_does_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # paths are relative to beamtime.yaml, wherever one stands
    ran, first = build(folder)
    assert ran == 2
    assert np.isfinite(first).sum() >= 60
    assert build(folder)[0] == 0
    os.utime(folder / "background.h5", (1e9, 1e9))
    assert build(folder)[0] == 0
    with h5py.File(folder / "background.h5", "a") as h5:
        h5["entry/data/I"][...] *= 1.5
    ran, second = build(folder)
    assert ran == 2
    assert np.nanmax(np.abs(second - first)) > 1e-4


def test_a_background_that_is_not_there_is_told_before_anything_is_read(folder: Path) -> None:
    (folder / "background.h5").unlink()
    with pytest.raises(ConfigError, match=r"background: the file .*background.h5 does not exist; .* holds .*beamtime.yaml"):
        run(read_config(folder / "beamtime.yaml"))


def test_without_a_reader_a_file_is_not_read(tmp_path: Path) -> None:
    class WithFile(Recipe):
        reference: MeasuredFile

    (tmp_path / "a.iq").write_text("x")
    bare = WithFile.model_validate({"reducer": "x", "reference": {"file": "a.iq", "loader": "pdf-iq"}})
    assert bare.reference.sha256 == ""
    with pytest.raises(ConfigError, match="without a reader"):
        bare.reference.series(None)
    known = WithFile.model_validate({"reducer": "x", "reference": {"file": "a.iq", "loader": "pdf-iq"}}, context={"base": tmp_path, "read": None})
    assert len(known.reference.sha256) == 64
    with pytest.raises(ConfigError, match="without a reader"):
        known.reference.series(None)
