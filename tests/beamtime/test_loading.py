"""`op.load`: one series by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import operando as op
from operando.contract import ContractError


def test_times_may_carry_their_unit(example: Path) -> None:
    def load(exposure: object) -> np.ndarray:
        found = op.load(
            example.parent / "xrd" / "*_000[0-3].xye",
            "xrd-1d",
            timezone="UTC",
            wavelength="0.4133 angstrom",
            name_pattern="{cell}_{time:%Y%m%dT%H%M%S}_{frame:04d}",
            exposure=exposure,
        )
        return np.asarray(found["exposure"].values)

    assert load("0.5 min").tolist() == load(30.0).tolist() == [30.0] * 4
    with pytest.raises(ContractError, match="without its unit"):
        load("30")
