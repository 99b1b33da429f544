"""The example beamtime and the real quick-XAS set, built once for all tests that only read them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from operando import beamtime
from operando.config import read_config

ROCK = """\
title: LiNiO2 | Li, operando quick-XAS at ROCK
timezone: Europe/Paris
sources:
  rock:
    loader: xas-columns
    preset: soleil-rock
    files: {data}/multimodal/perex_rock/XAS_pos1/*.txt
    name_pattern: "norm_{{scan_title}}_cell{{cell:d}}_pos{{position}}_*"
  cycler:
    loader: biologic-mpt
    files: {data}/multimodal/perex_rock/EC/*.mpt
cells:
  cell4:
    about: {{cell_type: half, active_mass: 6.84 mg, area: 1.54 cm^2, chemistry: LiNiO2|Li, electrolyte: LP57, electrolyte_volume: 28 uL}}
    echem: {{from: cycler}}
    series:
      xas: {{from: rock, where: {{position: 1}}}}
"""


@pytest.fixture
def example(root: Path, tmp_path: Path) -> Path:
    """A copy of the example beamtime that a test may change: its beamtime.yaml."""
    folder = tmp_path / "example"
    shutil.copytree(root / "example_beamtime", folder, ignore=shutil.ignore_patterns("*.operando", "*.nxs", "*.png"))
    return folder / "beamtime.yaml"


def write_rock(folder: Path, data: Path) -> Path:
    """Write the configuration of the real set."""
    path = folder / "rock.yaml"
    path.write_text(ROCK.format(data=data))
    return path


@pytest.fixture(scope="session")
def rock(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published store of the real quick-XAS set."""
    folder = tmp_path_factory.mktemp("rock")
    outcome = beamtime.run(read_config(write_rock(folder, shared_data)))
    assert outcome.ok, (outcome.quarantined, [str(p) for p in outcome.problems])
    return outcome.published
