"""Stacks of a camera whose log grows with them, through whole builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

import operando as op
from operando.beamtime import run
from operando.config import read_config

YAML = """\
title: a camera
timezone: UTC
sources:
  camera: {loader: tiff-stack, files: a_*.tif, times_from: {file: log.csv, name: file, index: page, start: begin}}
cells:
  A: {series: {imaging: {from: camera, recipe: {reducer: imaging, flat: {file: flat.tif}}}}}
"""


def _stack(path: Path, levels: list[int]) -> None:
    with tifffile.TiffWriter(path) as out:
        for level in levels:
            out.write(np.full((32, 40), level, np.uint16), metadata=None, contiguous=False)


def _log(folder: Path, rows: list[str]) -> None:
    (folder / "log.csv").write_text("\n".join(["file,page,begin", *rows]) + "\n")


def test_stacks_that_arrive_and_a_log_that_is_corrected(tmp_path: Path) -> None:
    (tmp_path / "beamtime.yaml").write_text(YAML)
    _stack(tmp_path / "flat.tif", [200, 200])
    _stack(tmp_path / "a_1.tif", [100, 101, 102])
    rows = [f"a_1.tif,{k},2024-01-01T00:0{k}:00" for k in range(3)]
    _log(tmp_path, rows)
    outcome = run(read_config(tmp_path / "beamtime.yaml"))
    assert not outcome.problems
    assert outcome.done["frames"] == 3

    _stack(tmp_path / "a_2.tif", [103, 104])
    rows += [f"a_2.tif,{k},2024-01-01T01:0{k}:00" for k in range(2)]
    _log(tmp_path, rows)
    assert run(read_config(tmp_path / "beamtime.yaml")).done["frames"] == 2, "the first stack's lines of the log are what they were"

    rows[0] = "a_1.tif,0,2024-01-01T00:00:30"
    _log(tmp_path, rows)
    outcome = run(read_config(tmp_path / "beamtime.yaml"))
    assert outcome.done["frames"] == 3, "one of them is another now"
    seen = op.open_beamtime(outcome.published)["A/imaging/observables"].to_dataset()
    np.testing.assert_allclose(seen["mean"].values, np.arange(100, 105) / 200, rtol=1e-6)
    assert str(seen["time"].values[0]) == "2024-01-01T00:00:30.000000000"

    _stack(tmp_path / "flat.tif", [400])
    outcome = run(read_config(tmp_path / "beamtime.yaml"))
    assert outcome.done.get("frames", 0) == 0
    seen = op.open_beamtime(outcome.published)["A/imaging/observables"].to_dataset()
    np.testing.assert_allclose(seen["mean"].values, np.arange(100, 105) / 400, rtol=1e-6)

    (tmp_path / "a_3.tif").write_bytes((tmp_path / "a_2.tif").read_bytes()[:300])
    outcome = run(read_config(tmp_path / "beamtime.yaml"))
    assert list(outcome.quarantined) == ["a_3.tif"]
