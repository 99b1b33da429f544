"""What the tests share: the real files, and the rule that they are never skipped where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real measured files; the test is skipped, with the reason, where it is not there."""
    if not DATA.is_dir():
        pytest.skip("real measured files are not beside the project (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT
