"""One simulated cell for all tests that only read it."""

from __future__ import annotations

import numpy as np
import pytest

from operando.simulate.cell import simulate_cell
from operando.simulate.instruments import History


@pytest.fixture(scope="session")
def cell() -> History:
    """The cell of the example."""
    return simulate_cell(np.datetime64("2026-06-03T08:00:00"), np.random.default_rng(3))
