"""Every rule over every loader, the third-party template included: a loader that is installed and has no case here fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.loaders import claimed_by, loaders
from operando.testing import RULES, Case, check

START = {"start": "2024-03-01T09:00:00"}
# loader -> (file below ../shared/data, or below the project where it begins with ./, or of the small beamtime; options; general time options)
CASES: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "biologic-mpt": [
        ("echem/yadg_GPL3/mb.issue_95.de.mpt", {}, {}),
        ("echem/yadg_GPL3/ocv.mpt", {}, {}),
        ("./example_beamtime/echem/A_run2_01_GCPL_C01.mpt", {}, {}),
    ],
    "biologic-mpr": [("echem/yadg_GPL3/mb.issue_95.mpr", {}, {}), ("echem/bdf_Apache2/GCPL-0.mpr", {}, {})],
    "biologic-eis": [
        ("echem/yadg_GPL3/geis.mpr", {}, {}),
        ("eis/yadg_GPL3/peis.mpt", {}, {}),
        ("./example_beamtime/echem/A_run2_02_PEIS_C01.mpt", {}, {}),
    ],
    "eis-columns": [
        ("eis/impedancepy_MIT/exampleDataVersaStudio.par", {}, {}),
        ("eis/hybrid-drt_BSD3/Sample2_PEIS_AtRest.csv", {}, START),
        ("eis/impedancepy_MIT/exampleData.csv", {"columns": {"frequency": 1, "real": 2, "imaginary": 3}}, START),
    ],
    "gamry": [("eis/impedancepy_MIT/exampleDataGamry.DTA", {}, {}), ("eis/hybrid-drt_BSD3/EISGALV_EISTest3.DTA", {}, {})],
    "zplot": [("eis/impedancepy_MIT/exampleDataZPlot.z", {}, {}), ("eis/impedancepy_MIT/exampleDataAutolab.txt", {}, START)],
    "csv": [("./example_beamtime/logs/A_holder.csv", {"technique": "sensor"}, {})],
    "bdf": [("echem/bdf_Apache2/legacy.bdf.parquet", {}, {})],
    "neware": [("echem/navani_MIT/test.nda", {}, {}), ("echem/newarenda_BSD/123456789012_Unit27_Example_Data_File.ndax", {}, {})],
    "pdf-iq": [
        ("pdf/diffpy_cmi_BSD3/si_ni_two_phase/ni.iq", {}, START),
        ("pdf/labpdfproc_BSD/CeO2_635um_accum_0.xy", {"wavelength": "0.7093 angstrom"}, START),
    ],
    "pdf-gr": [
        ("pdf/srfit_BSD/si90ni10-q27r60-xray.gr", {}, START),
        ("pdf/diffpy_cmi_BSD3/Ni_standard/Ni.gr", {}, START),
        ("pdf/gsas2_tutorials_rmc/sf6_190k_fq.dat", {}, START),
    ],
    "xrd-1d": [
        ("small/xrd/A_20260603T100037_0002.xye", {"wavelength": "0.4133 angstrom"}, {**START, "exposure": 30.0}),
        ("xrd1d/scimap_GPL3/corundum.xye", {}, START),
    ],
    "xrdml": [("xrd1d/datalab_MIT/Scan_C1.xrdml", {}, {})],
    "xas-columns": [("multimodal/perex_rock/XAS_pos1/norm_op2_cell4_pos1_dq1_0001_av240_00001.txt", {"preset": "soleil-rock"}, {})],
    "hdf5-path": [
        ("made.h5", {"entries": "scan_*", "start_time": "start_time", "signals": {"intensity": "data"}, "axis": {"q": "q"}, "technique": "xrd"}, {})
    ],
    "xrd-frames": [
        ("./example_beamtime/xrd/A_0001.h5", {"coords": {"position": "measurement/position"}}, {}),
        ("xrd2d/dioptas_GPL3/CeO2_Pilatus1M.tif", {"orientation": "up-down"}, {}),
        ("xrd2d/gsas2_2DStrain_mar2300/nx09_strain_001.mar2300", {}, {}),
    ],
    "tiff-stack": [
        ("imaging/mpj_xct_MIT/im001.tif", {"pixel_size": "1 um"}, START),
        ("./example_beamtime/imaging/A_imaging_001.tif", {"frame_time": "20 min"}, START),
    ],
    "hdf5-stack": [("made_images.h5", {"frame_time": "2 s"}, START)],
    "xrm": [("imaging/xanespy_GPL3/aps_operando_txm/fov03_xanesocv_8353_0eV.xrm", {}, {})],
    "mylab": [("./plugins/operando-mylab/tests/sample.txt", {}, {})],
}


def _made_h5(folder: Path) -> Path:
    """Write a small HDF5 file of three entries."""
    import h5py

    path = folder / "made.h5"
    with h5py.File(path, "w") as h5:
        for k in (1, 2, 10):
            group = h5.create_group(f"scan_{k}")
            group["start_time"] = f"2026-06-03T10:{k:02d}:00+02:00"
            group["data"] = np.arange(5.0) + k
            group["data"].attrs["units"] = "counts"
            group["q"] = np.linspace(1, 2, 5)
            group["q"].attrs["units"] = "1/angstrom"
    with h5py.File(folder / "made_images.h5", "w") as h5:
        h5["exchange/data"] = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made_h5(tmp_path_factory.mktemp("made"))


_ROWS = [(name, *row) for name, rows in CASES.items() for row in rows]
_IDS = [f"{name}-{Path(file).name}" for name, file, *_ in _ROWS]


@pytest.fixture(scope="module", params=_ROWS, ids=_IDS)
def case(request: pytest.FixtureRequest, root: Path) -> Case:
    name, file, options, times = request.param
    if file.startswith("./"):
        path = root / file
    elif file.startswith("small/"):
        path = request.getfixturevalue("small_beamtime") / file.removeprefix("small/")
    elif file.startswith("made"):
        path = request.getfixturevalue("made").with_name(file)
    else:
        path = request.getfixturevalue("shared_data") / file
    return Case(path, name, options, times, "Europe/Paris")


@pytest.mark.real_data
@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, case: Case) -> None:
    check(rule, case)


def test_every_installed_loader_is_tested() -> None:
    assert set(loaders()) == set(CASES)


@pytest.mark.real_data
def test_no_file_is_claimed_by_two_loaders(shared_data: Path, root: Path, made: Path) -> None:
    some = (
        [p for p in sorted(shared_data.rglob("*")) if p.is_file() and "XAS_pos1" not in str(p)]
        + sorted((root / "example_beamtime").rglob("*.*"))
        + [made]
    )
    twice = {str(p): claims for p in some if len(claims := claimed_by(p)) > 1}
    assert not twice
