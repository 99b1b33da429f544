"""Weighed mixtures of laboratory powders, one setting for all, measured in two minutes each; `python tests/weighed.py` prints the whole table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import weighed


@pytest.fixture(scope="module")
def found(shared_data: Path) -> list[weighed.Found]:
    paths = sorted((shared_data / "qpa/dara_precursor_mixture").glob("*--2min.xrdml"))
    assert len(paths) == 10
    return [row for path in paths for row in weighed.fit(path)[0]]


@pytest.mark.real_data
def test_weights_of_mixtures(found: list[weighed.Found]) -> None:
    off = np.abs([row.off for row in found])
    assert off.mean() <= 3.2  # wt %; 2.9 found
    assert off.max() <= 12.0  # 10.6 found: Bi2O3 beside NiO, which absorbs a tenth as much
    light = np.abs([row.off for row in found if "Bi2O3" not in row.sample])
    assert light.mean() <= 1.8  # 1.6 found


@pytest.mark.real_data
def test_what_is_said_of_the_uncertainty_holds(found: list[weighed.Found]) -> None:
    assert np.mean([row.inside for row in found]) >= 0.95  # all of 25 found
    # absorption contrast is what the statistical uncertainty knows nothing of
    assert np.mean([abs(row.off) <= 1.96 * row.statistical for row in found]) < 0.9


@pytest.mark.parametrize("name", list(weighed.STRUCTURES))
def test_structures_have_their_density(name: str) -> None:
    from operando.reduction.phases.crystal import Crystal, Structure

    handbook = {"NiO": 6.81, "ZnO": 5.68, "In2O3": 7.12, "MnCO3": 3.72, "Li2CO3": 2.10, "ZrO2": 5.81}  # g/cm3
    handbook |= {"La(OH)3": 4.45, "Bi2O3": 9.37, "anatase": 3.89, "rutile": 4.25}
    assert Crystal(Structure.model_validate(weighed.STRUCTURES[name]), 1.5406).density() == pytest.approx(handbook[name], abs=0.04)


def test_weights_are_read_from_names() -> None:
    found = weighed.weighed(Path("NiO_0p1031-La(OH)3_0p2025-TiO2_0p7014--2min.xrdml"))
    assert found == pytest.approx({"NiO": 10.24, "La(OH)3": 20.11, "TiO2": 69.65}, abs=0.01)
