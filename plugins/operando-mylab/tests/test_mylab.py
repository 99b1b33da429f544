"""The loader keeps the contract, and reads what the file says."""

from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError
from operando.testing import RULES, Case, assert_loader, assert_valid_series, check
from operando_mylab import loader

SAMPLE = Path(__file__).parent / "sample.txt"


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    check(rule, Case(SAMPLE, loader))


def test_values() -> None:
    (series,) = assert_loader(SAMPLE, "mylab", options={"channel": 2})  # by its entry point: the package is installed
    assert_valid_series(series, as_written=True)
    assert series.sizes["time"] == 40
    assert str(series.time.values[0]) == "2026-06-03T09:58:12.400000000"
    np.testing.assert_allclose(series.current.values[[0, 10, 30]], [0.0, 3.5e-4, -3.5e-4])
    assert series.current.attrs["units"] == "A"


def test_missing_channel_is_named() -> None:
    with pytest.raises(LoaderError, match="channel 7"):
        loader.load(SAMPLE, channel=7)


def test_restart_of_the_clock_starts_a_segment(tmp_path: Path) -> None:
    text = SAMPLE.read_text()
    again = tmp_path / "again.txt"
    again.write_text(text + "".join(text.splitlines(keepends=True)[5:]))
    assert loader.load(again).segment.values.tolist() == [0] * 40 + [1] * 40
