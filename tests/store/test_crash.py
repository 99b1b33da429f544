"""A run that is killed at any step loses nothing it acknowledged, and the next one ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_killed_at_any_step(tmp_path):
    (tmp_path / "reference").mkdir()
    script = Path(__file__).with_name("crash_child.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path), "42"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) >= 36
