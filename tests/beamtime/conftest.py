"""The small beamtime and the real quick-XAS set, built once for all tests that only read them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rock_set import write_rock

from operando import beamtime
from operando.beamtime import frames
from operando.config import read_config


@pytest.fixture
def example(small_beamtime: Path, tmp_path: Path) -> Path:
    """A copy of the small beamtime that a test may change: its beamtime.yaml."""
    folder = tmp_path / "example"
    shutil.copytree(small_beamtime, folder)
    return folder / "beamtime.yaml"


@pytest.fixture(scope="session")
def rock(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published store of the real quick-XAS set."""
    folder = tmp_path_factory.mktemp("rock")
    outcome = beamtime.run(read_config(write_rock(folder, shared_data)))
    assert outcome.ok, (outcome.quarantined, [str(p) for p in outcome.problems])
    return outcome.published


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the raw files that were really read."""
    names: list[str] = []
    true = frames.load_file

    def counted(loader: object, path: Path, *rest: object) -> object:
        names.append(Path(path).name)
        return true(loader, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(frames, "load_file", counted)
    return names
