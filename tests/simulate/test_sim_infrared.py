"""Simulated single beams in JCAMP-DX: read again by `jcamp`, absorbance and areas worked out by the test itself."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import jcamp
import numpy as np
import pytest

from operando.simulate import infrared
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

INFRARED_CLOCK = SourceClock(-8.7, zone="Etc/GMT-1")
EVERY, EXPOSURE = 1200.0, 40.0  # s
GROUPS = ("carbonate", "ec_free", "ec_coordinated", "pf6", "ec_c_o")


def infrared_campaign(
    folder: Path,
    cell: History,
    begin: np.ndarray | None = None,
    seed: int = 12,
    beam: Beam | None = None,
    exposure: float = EXPOSURE,
    **options: object,
) -> Campaign:
    folder.mkdir()
    begin = np.arange(420.0, cell.time[-1] - exposure, EVERY) if begin is None else begin
    return Campaign(folder, "A", cell, INFRARED_CLOCK, beam or Beam(), np.random.default_rng(seed), begin, exposure, options)


@pytest.fixture(scope="module")
def infrared_run(cell: History, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    folder = tmp_path_factory.mktemp("infrared") / "run"
    return folder, infrared.write(infrared_campaign(folder, cell))


class Spectra:
    """All files as `jcamp` reads them, the absorbance, and its weighted linear least squares with the told bands, vapour and a parabola."""

    def __init__(self, folder: Path, told: Told) -> None:
        bare = jcamp.readfile(str(folder / told.facts["reference"]["file"]))
        self.x, self.reference = bare["x"], bare["y"]
        self.single = np.array([jcamp.readfile(str(folder / name))["y"] for name in told.files])
        self.absorbance = -np.log10(self.single / self.reference)
        self.sigma = np.hypot(told.facts["single_beam_noise"] / self.single, told.facts["reference_noise"] / self.reference) / np.log(10)
        shapes = {name: np.zeros(self.x.size) for name in GROUPS}
        for band in told.facts["bands"]:
            u = (self.x - band["position_per_cm"]) / (band["fwhm_per_cm"] / 2)
            lorentzian, gaussian = 1 / (1 + u**2) / np.pi, 2.0 ** -(u**2) * np.sqrt(np.log(2) / np.pi)
            shapes[band["group"]] += band["share"] * (gaussian if band["shape"] == "Gaussian" else lorentzian) / (band["fwhm_per_cm"] / 2)
        water = sum(h * 2.0 ** -(((self.x - float(v)) / 2.0) ** 2) for v, h in told.facts["water_lines_per_cm"].items())
        tilted = (self.x - 1450.0) / 750.0
        self.design = np.vstack([*shapes.values(), water, np.ones_like(tilted), tilted, tilted**2]).T
        self.found, self.error = np.empty((2, len(told.files), self.design.shape[1]))
        self.covariance = np.empty((len(told.files), self.design.shape[1], self.design.shape[1]))
        for k, a in enumerate(self.absorbance):
            weighted = self.design / self.sigma[k][:, None]
            self.found[k] = np.linalg.lstsq(weighted, a / self.sigma[k], rcond=None)[0]
            self.covariance[k] = np.linalg.inv(weighted.T @ weighted)
            self.error[k] = np.sqrt(np.diag(self.covariance[k]))


@pytest.fixture(scope="module")
def spectra(infrared_run: tuple[Path, Told]) -> Spectra:
    return Spectra(*infrared_run)


def test_the_same_chance_writes_the_same_single_beams(cell: History, tmp_path: Path) -> None:
    begin = 420.0 + EVERY * np.arange(4)
    dumped = Beam([(0.0, 5000.0)])  # X-rays: no business of a globar
    for name, seed, beam in (("one", 5, None), ("again", 5, dumped), ("other", 6, None)):
        infrared.write(infrared_campaign(tmp_path / name, cell, begin, seed, beam))
    one, again, other = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "again", "other"))
    assert set(one) == {"A_ir_reference.jdx", *(f"A_ir_{k:04d}.jdx" for k in range(4))}
    assert one == again
    assert all(one[name] != other[name] for name in one)


def test_a_file_is_valid_jcamp_dx(infrared_run: tuple[Path, Told], capsys: pytest.CaptureFixture[str]) -> None:
    folder, told = infrared_run
    for name in (told.facts["reference"]["file"], told.files[0], told.files[-1]):
        raw = (folder / name).read_bytes().decode("ascii")
        lines = raw.split("\r\n")
        assert lines.pop() == ""
        assert "\n" not in raw.replace("\r\n", "")
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith("##TITLE=")
        assert lines[1] == "##JCAMP-DX=5.01"
        assert lines[-1] == "##END="
        begin = lines.index("##XYDATA=(X++(Y..Y))")
        head = dict(line[2:].split("=", 1) for line in lines[:begin])
        assert {"DATA TYPE", "ORIGIN", "OWNER", "XUNITS", "YUNITS", "XFACTOR", "YFACTOR", "RESOLUTION"} <= set(head), "the required ones"
        first, last, delta, points = (float(head[label]) for label in ("FIRSTX", "LASTX", "DELTAX", "NPOINTS"))
        assert delta == (last - first) / (points - 1)
        ordinates = []
        for line in lines[begin + 1 : -1]:
            x, *ys = map(int, line.split())
            assert x == first + delta * len(ordinates), "each line says where it begins"
            ordinates += ys
        assert len(ordinates) == points
        y = np.array(ordinates) * float(head["YFACTOR"])
        for label, value in (("FIRSTY", y[0]), ("MAXY", y.max()), ("MINY", y.min())):
            assert float(head[label]) == pytest.approx(value, abs=1e-9)
        read = jcamp.readfile(str(folder / name))
        assert np.allclose(read["x"], first + delta * np.arange(points))
        assert np.allclose(read["y"], y, atol=1e-12)
        assert y.min() > 0.05
    assert capsys.readouterr().out == "", "its checks of abscissae and length complain by printing"


def test_longdate_is_the_wall_clock_of_the_stated_zone(infrared_run: tuple[Path, Told]) -> None:
    folder, told = infrared_run
    facts = told.facts["reference"]
    assert facts["begin_s"] == -900.0
    names, begin = [facts["file"], *told.files], [facts["begin_s"], *told.begin]
    for name, t in zip(names, begin, strict=True):
        wall = dt.datetime(2026, 6, 3, 8) + dt.timedelta(hours=1, seconds=int(np.floor(t + 8.7)))  # noqa: DTZ001
        assert jcamp.readfile(str(folder / name))["longdate"] == wall
    assert "##LONGDATE=2026/06/03 09:07:08\r\n" in (folder / told.files[0]).read_bytes().decode("ascii")


def test_the_reference_is_when_it_is_asked_for(cell: History, tmp_path: Path) -> None:
    told = infrared.write(infrared_campaign(tmp_path / "later", cell, np.array([500.0]), reference_at=-86_400.0))
    read = jcamp.readfile(str(tmp_path / "later" / told.facts["reference"]["file"]))
    assert read["longdate"] == dt.datetime(2026, 6, 2, 9, 0, 8)  # noqa: DTZ001
    assert told.files == ["A_ir_0000.jdx"]


def test_told_areas_are_means_over_the_scans(infrared_run: tuple[Path, Told], cell: History) -> None:
    told = infrared_run[1]
    truth = {name: np.asarray(o["values"]) for name, o in told.observables.items()}
    fine = told.begin[:, None] + (np.arange(4000) + 0.5) / 4000 * EXPOSURE
    coordinated, carbonate = (cell.at(name, fine).mean(1) for name in ("coordinated_fraction", "carbonate"))
    assert np.allclose(truth["coordinated_fraction"], coordinated, atol=1e-8)
    assert np.allclose(truth["band_area_carbonate"], told.facts["carbonate_area_per_unit_per_cm"] * carbonate, atol=1e-7)
    k = told.facts["coordinated_relative_strength"]
    bound, free = truth["band_area_ec_coordinated"] / k, truth["band_area_ec_free"]
    assert np.allclose(bound / (bound + free), coordinated, atol=1e-8)
    assert np.allclose(bound + free, told.facts["ec_area_per_cm"])
    for group in GROUPS:
        assert sum(b["share"] for b in told.facts["bands"] if b["group"] == group) == pytest.approx(1.0)
    assert told.index == [0] * len(told.files)


def test_noise_is_white_in_the_single_beam(spectra: Spectra, infrared_run: tuple[Path, Told]) -> None:
    told = infrared_run[1]
    fitted = spectra.found @ spectra.design.T
    chi2 = (((spectra.absorbance - fitted) / spectra.sigma) ** 2).sum(1) / (spectra.x.size - spectra.design.shape[1])
    spread = np.sqrt(2 / spectra.x.size)
    assert np.abs(chi2 - 1).max() < 4.5 * spread
    assert chi2.mean() == pytest.approx(1.0, abs=3 * spread * np.hypot(1 / np.sqrt(len(chi2)), 0.1)), "a tenth is the reference's, in all alike"
    # the same number of units wherever there is much light or little, once what the reference lends to all frames is gone
    left = spectra.single - spectra.reference * 10.0**-fitted
    left = (left - left.mean(0)) * np.sqrt(len(left) / (len(left) - 1))
    for low, high in ((700.0, 760.0), (1200.0, 1400.0), (1950.0, 2100.0)):
        part = left[:, (spectra.x >= low) & (spectra.x <= high)]
        assert part.std() == pytest.approx(told.facts["single_beam_noise"], rel=4 / np.sqrt(2 * part.size) + 0.02)


def test_more_scans_are_less_noise(cell: History, tmp_path: Path, infrared_run: tuple[Path, Told]) -> None:
    told = infrared.write(infrared_campaign(tmp_path / "run", cell, infrared_run[1].begin[:30], exposure=4 * EXPOSURE))
    assert told.facts["single_beam_noise"] == pytest.approx(infrared_run[1].facts["single_beam_noise"] / 2)
    longer = Spectra(tmp_path / "run", told)
    left = longer.single - longer.reference * 10.0 ** -(longer.found @ longer.design.T)
    left = (left - left.mean(0)) * np.sqrt(30 / 29)
    assert left.std() == pytest.approx(told.facts["single_beam_noise"], rel=0.03)
    assert np.all(told.exposure == 4 * EXPOSURE)


def test_areas_drift_and_vapour_come_back_from_a_linear_fit(spectra: Spectra, infrared_run: tuple[Path, Told]) -> None:
    truth = {name: np.asarray(o["values"]) for name, o in infrared_run[1].observables.items()}
    areas = np.array([truth[f"band_area_{name}"] for name in GROUPS] + [truth["water_vapour"]]).T
    pull = (spectra.found[:, :6] - areas) / spectra.error[:, :6]
    assert np.abs(pull).max() < 4.5
    assert np.all(np.abs(np.sqrt((pull**2).mean(0)) - 1) < 0.3)
    assert np.median(spectra.error[:, 0] / areas[:, 0]) < 0.005, "the carbonate to half a per cent"
    tilted = (spectra.x - 1450.0) / 750.0
    drift = -np.log10(truth["source_intensity"][:, None] * (1 + truth["source_tilt"][:, None] * tilted))
    assert np.abs(spectra.found[:, 6:] @ spectra.design[:, 6:].T - drift).max() < 2e-4
    assert truth["source_intensity"][0] > truth["source_intensity"][-1] == pytest.approx(0.98, abs=1e-3)


def test_growth_of_the_carbonate_by_integration(spectra: Spectra, infrared_run: tuple[Path, Told]) -> None:
    truth = np.asarray(infrared_run[1].observables["band_area_carbonate"]["values"])
    share = next(b["share"] for b in infrared_run[1].facts["bands"] if b["position_per_cm"] == 868.0)
    grown = spectra.absorbance - spectra.absorbance[0]  # what does not change, PF6- beside it, is gone
    beside = (np.abs(spectra.x - 868.0) > 18.0) & (np.abs(spectra.x - 868.0) < 60.0)
    within = np.abs(spectra.x - 868.0) <= 18.0
    found = []
    for one in grown:
        line = np.polyval(np.polyfit(spectra.x[beside] - 868.0, one[beside], 1), spectra.x[within] - 868.0)
        found.append(2.0 * np.sum(one[within] - line))
    sigma = 2.0 * np.sqrt(within.sum() * 2) * np.median(spectra.sigma[:, within]) * np.sqrt(1 + within.sum() / beside.sum())
    off = np.array(found) - share * (truth - truth[0])
    assert np.abs(off).max() < 4.5 * sigma
    assert share * np.ptp(truth) > 50 * sigma, "and it does grow"


def test_coordinated_fraction_from_a_linear_fit(spectra: Spectra, infrared_run: tuple[Path, Told]) -> None:
    told = infrared_run[1]
    k = told.facts["coordinated_relative_strength"]
    f, b = spectra.found[:, 1], spectra.found[:, 2] / k
    found, true = b / (b + f), np.asarray(told.observables["coordinated_fraction"]["values"])
    gradient = np.array([-b, f / k]) / (b + f) ** 2  # with respect to the two areas
    sigma = np.sqrt(np.einsum("if,fij,jf->f", gradient, spectra.covariance[:, 1:3, 1:3], gradient))
    assert np.abs((found - true) / sigma).max() < 4.5
    assert np.sqrt(np.mean(((found - true) / sigma) ** 2)) == pytest.approx(1.0, abs=0.3)
    assert np.corrcoef(found, true)[0, 1] > 0.99
