"""A real series: CuCr2O4 with a little CuO at 11-BM, warmed through its transition from orthorhombic to tetragonal (GSAS-II's tutorial SeqTut)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from operando.beamtime import load
from operando.reduction import reduce
from operando.reduction.phases.crystal import read_cif

pytestmark = pytest.mark.filterwarnings("ignore:.*fit_flags:UserWarning")  # told of the series, and asked below


@pytest.mark.real_data
def test_a_transition_is_followed(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "xrd1d/gsas2_SeqTut/SeqTut.zip") as packed:
        wanted = [n for n in packed.namelist() if n.endswith(".cif") or Path(n).stem in ("OH_00", "OH_14", "OH_28", "OH_41", "OH_53")]
        packed.extractall(tmp_path, [n for n in wanted if not n.startswith("__")])
    series = load(str(tmp_path / "**/OH_*.fxye"), "xrd-1d", timezone="America/Chicago").isel(q=slice(0, None, 3))
    cifs = {path.stem: path for path in tmp_path.rglob("*.cif")}
    recipe = {
        "reducer": "phase-fractions",
        "phases": {
            "CuCr2O4": {"structure": read_cif(cifs["CuCr2O4"]).model_dump(), "refine": ["lattice", "size", "strain"]},
            "CuO": {"structure": read_cif(cifs["CuO"]).model_dump(), "refine": ["lattice", "size"]},
        },
        # U, V, W of the instrument's parameter file (OH_00.prm), centidegrees^2 there
        "instrument": {"geometry": "debye-scherrer", "caglioti": [1.163e-4, -0.126e-4, 0.063e-4], "refine": ["zero"], "zero_range": 0.02},
        "background": {"degree": 8},
        "two_theta_range": [4, 22],
        "systematics": None,
    }
    found = reduce(series, recipe)["observables"]
    oxide = found.sel(phase="CuCr2O4")
    assert (found.goodness_of_fit < 1.5).all()
    a, b, c = (oxide[f"lattice_{x}"].values for x in "abc")
    assert np.all(np.diff(a) > 0)
    assert a[0] == pytest.approx(7.7127, abs=5e-4)  # the CIF's, from the same pattern
    assert b[0] - c[0] == pytest.approx(0.0069, abs=1e-3)
    assert abs(b[-1] - c[-1]) < 1e-3  # tetragonal
    assert np.all(np.abs(oxide.phase_fraction - 0.983) < 0.012)
    named = dict(zip(found.fit_flags.attrs["flag_meanings"].split(), found.fit_flags.attrs["flag_masks"], strict=True))
    capped = found.iterations.values >= 25
    assert np.all((found.fit_flags.values[capped] & (named["iteration_cap"] | named["stalled"])) > 0)
