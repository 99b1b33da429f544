"""Simulated LabSpec time series: read again with plain numpy, bands fitted with Lorentzians of the test's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from operando.simulate import raman
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

RAMAN_CLOCK = SourceClock(95.2, -2.0e-5, zone="Europe/Paris")
EVERY, EXPOSURE = 720.0, 20.0  # s
BANDS = ("eg", "a1g", "pf6", "ec_free", "ec_coordinated", "carbonate")


def raman_campaign(
    folder: Path,
    cell: History,
    begin: np.ndarray | None = None,
    seed: int = 11,
    beam: Beam | None = None,
    exposure: float = EXPOSURE,
    **options: object,
) -> Campaign:
    folder.mkdir()
    begin = np.arange(240.0, cell.time[-1] - exposure, EVERY) if begin is None else begin
    return Campaign(folder, "A", cell, RAMAN_CLOCK, beam or Beam(), np.random.default_rng(seed), begin, exposure, options)


def labspec_lines(path: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Header as (label, value), and the lines of numbers."""
    lines = path.read_bytes().decode("latin-1").split("\n")
    assert lines.pop() == "", "the last line is ended"
    header = [line for line in lines if line.startswith("#")]
    assert lines[: len(header)] == header, "the header stands above all numbers"
    matches = [re.fullmatch(r"#([^=]+)=\t(.*)", line) for line in header]
    return [(m[1], m[2]) for m in matches if m], lines[len(header) :]


def labspec_block(lines: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raman shifts (1/cm), seconds, and counts (spectrum, pixel)."""
    corner, *shifts = lines[0].split("\t")
    assert corner == ""
    table = np.loadtxt(lines[1:], delimiter="\t", ndmin=2)
    assert table.shape == (len(lines) - 1, 1 + len(shifts))
    return np.array(shifts, float), table[:, 0], table[:, 1:]


@pytest.fixture(scope="module")
def raman_run(cell: History, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    folder = tmp_path_factory.mktemp("raman") / "run"
    return folder, raman.write(raman_campaign(folder, cell))


class Fit:
    """Weighted linear least squares of every spectrum: Lorentzians at the told positions on a smooth background, hit pixels left out."""

    def __init__(self, folder: Path, told: Told) -> None:
        written, _, counts = labspec_block(labspec_lines(folder / "A_raman.txt")[1])
        self.n = len(told.begin)
        self.counts = counts[: self.n]
        self.hit = np.zeros(self.counts.shape, bool)
        for ray in told.facts["cosmic_rays"]:
            self.hit[ray["frame"], ray["pixels"]] = True
        shift = written - told.facts["wavenumber_offset_per_cm"]
        smooth = np.polynomial.chebyshev.chebvander((shift - 780.0) / 450.0, 4).T
        self.area, self.sigma = np.empty((2, self.n, len(BANDS)))
        self.model = np.empty(self.counts.shape)
        self.covariance = np.empty((self.n, len(BANDS), len(BANDS)))
        for k in range(self.n):
            half = [told.facts["fwhm_per_cm"][name] / 2 for name in BANDS]
            centre = [told.observables[f"position_{name}"]["values"][k] for name in BANDS]
            shapes = [w / np.pi / ((shift - c) ** 2 + w**2) for c, w in zip(centre, half, strict=True)]
            design = np.vstack([*shapes, smooth]).T
            good = ~self.hit[k]
            variance = self.counts[k].clip(300.0)  # first guess; then from the fit, which does not follow the noise
            for _ in range(2):
                weight = 1 / np.sqrt(variance[good])
                solution = np.linalg.lstsq(design[good] * weight[:, None], self.counts[k][good] * weight, rcond=None)[0]
                self.model[k] = design @ solution
                variance = self.variance(told, k)
            covariance = np.linalg.inv((design[good].T / variance[good]) @ design[good])[: len(BANDS), : len(BANDS)]
            self.area[k], self.sigma[k], self.covariance[k] = solution[: len(BANDS)], np.sqrt(np.diag(covariance)), covariance
        self.light = self.model - told.facts["bias_counts"]

    def variance(self, told: Told, k: int) -> np.ndarray:
        """Photons, fixed pattern, read noise, and the rounding to whole counts."""
        light = self.model[k] - told.facts["bias_counts"]
        return light + (told.facts["pixel_gain_deviation"] * light) ** 2 + told.facts["read_noise_counts"] ** 2 + 1 / 12


@pytest.fixture(scope="module")
def raman_fit(raman_run: tuple[Path, Told]) -> Fit:
    return Fit(*raman_run)


def test_the_same_chance_writes_the_same_bytes(cell: History, tmp_path: Path) -> None:
    begin = 240.0 + EVERY * np.arange(12)
    dumped = Beam([(1000.0, 5000.0)])  # X-rays: no business of a laser
    for name, seed, beam in (("one", 5, None), ("again", 5, dumped), ("other", 6, None)):
        raman.write(raman_campaign(tmp_path / name, cell, begin, seed, beam))
    for file in ("A_raman.txt", "A_silicon.txt"):
        one, again, other = ((tmp_path / name / file).read_bytes() for name in ("one", "again", "other"))
        assert one == again
        assert one != other


@pytest.mark.real_data
def test_header_and_grammar_are_those_of_a_real_series(raman_run: tuple[Path, Told], shared_data: Path) -> None:
    paths = [shared_data / "raman/spectrochempy_data/labspec/serie190214-1.txt", raman_run[0] / "A_raman.txt"]
    real, ours = (labspec_lines(path) for path in paths)
    assert [label for label, _ in ours[0]] == [label for label, _ in real[0]]
    for label in ("Date", "Acquired", "Acq. time (s)", "Accumulations", "Detector temperature (°C)", "Spectro (cm-¹)"):
        grammar = {re.sub(r"\d+", "9", dict(header)[label]) for header, _ in (real, ours)}
        assert len(grammar) == 1, (label, grammar)
    for _, lines in (real, ours):
        assert re.fullmatch(r"(\t\d+(\.\d+)?)+", lines[0]), "shifts, behind an empty cell"
        assert all(re.fullmatch(r"\d+(\.\d+)?(\t\d+)+", line) for line in lines[1:]), "seconds, then whole counts"
        shift, seconds, counts = labspec_block(lines)
        numbers = re.findall(r"[\d.]+", lines[0]) + [line.split("\t")[0] for line in lines[1:]]
        assert max(len(one.replace(".", "").lstrip("0")) for one in numbers) == 6, "six digits"
        assert np.all(np.diff(shift) > 0)
        wavelength, pixel = 1e7 / (1e7 / 532.0 - shift), np.arange(shift.size) / shift.size
        assert np.abs(np.polyval(np.polyfit(pixel, wavelength, 3), pixel) - wavelength).max() < 5e-4, "nm; a grating and rounding"
        assert np.polyfit(shift, np.gradient(shift), 1)[0] < 0, "about even in wavelength: the step falls"
        assert seconds[0] == 0
        assert not counts[-1].any(), "rows that were never measured are zeros"
        assert np.ptp(np.diff(seconds)) < 2.0


def test_the_stamp_is_the_wall_clock_of_the_source(raman_run: tuple[Path, Told]) -> None:
    for file, begin in (("A_raman.txt", 240.0), ("A_silicon.txt", -360.0)):
        fields = dict(labspec_lines(raman_run[0] / file)[0])
        shown = (begin - 95.2) / (1 - 2.0e-5) + 2 * 3600  # Paris in summer
        wall = np.datetime64("2026-06-03T08:00:00") + np.timedelta64(int(np.floor(shown)), "s")
        date, time = str(wall).split("T")
        assert fields["Acquired"] == ".".join(reversed(date.split("-"))) + " " + time
        assert fields["Date"] == fields["Acquired"][:-3]
    assert dict(labspec_lines(raman_run[0] / "A_raman.txt")[0])["Acquired"] == "03.06.2026 10:02:24"


def test_first_column_is_seconds_by_its_own_clock(raman_run: tuple[Path, Told]) -> None:
    folder, told = raman_run
    _, seconds, counts = labspec_block(labspec_lines(folder / "A_raman.txt")[1])
    n, unfilled = len(told.begin), told.facts["unfilled_rows"]
    assert unfilled == 3
    assert len(seconds) == n + unfilled
    assert told.index == list(range(n))
    assert set(told.files) == {"A_raman.txt"}
    by_its_clock = (told.begin - told.begin[0]) / (1 - 2.0e-5)
    assert np.allclose(seconds[:n], by_its_clock, rtol=5e-6, atol=0)
    assert by_its_clock[-1] - (told.begin[-1] - told.begin[0]) > 1.0, "long enough to tell the two clocks apart"
    assert counts[:n].min() > 0
    assert not counts[n:].any()
    assert np.allclose(np.diff(seconds[n - 1 :]), EVERY, atol=0.6)


def test_options(cell: History, tmp_path: Path) -> None:
    told = raman.write(raman_campaign(tmp_path / "one", cell, np.array([500.0]), unfilled=2, silicon=False))
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["A_raman.txt"]
    assert "silicon" not in told.facts
    assert list(labspec_block(labspec_lines(tmp_path / "one/A_raman.txt")[1])[1]) == [0.0, 20.0, 40.0]


def test_told_states_are_means_over_the_exposures(raman_run: tuple[Path, Told], cell: History) -> None:
    truth, facts = {name: np.asarray(o["values"]) for name, o in raman_run[1].observables.items()}, raman_run[1].facts
    fine = raman_run[1].begin[:, None] + (np.arange(4000) + 0.5) / 4000 * EXPOSURE
    coordinated, carbonate, x = (cell.at(name, fine).mean(1) for name in ("coordinated_fraction", "carbonate", "x_positive"))
    assert np.allclose(truth["coordinated_fraction"], coordinated, atol=1e-8)
    k = facts["coordinated_relative_cross_section"]
    assert np.allclose(truth["area_ec_coordinated"] / k / (truth["area_ec_coordinated"] / k + truth["area_ec_free"]), coordinated, atol=1e-8)
    weighted = truth["area_ec_free"] + truth["area_ec_coordinated"] / k
    assert np.allclose(weighted / truth["throughput"], facts["ec_area_counts_per_cm"]), "the inner standard"
    assert np.allclose(truth["area_carbonate"] / truth["throughput"] / facts["carbonate_area_per_unit_counts_per_cm"], carbonate, atol=1e-7)
    assert np.allclose(truth["a1g_eg_ratio"], truth["area_a1g"] / truth["area_eg"])
    for name in ("position_a1g", "position_eg", "a1g_eg_ratio"):
        assert np.ptp(truth[name]) > 0
        assert np.abs(np.polyval(np.polyfit(x, truth[name], 1), x) - truth[name]).max() < 1e-6 * np.ptp(truth[name]), "linear in lithium"
    assert np.std(truth["throughput"]) == pytest.approx(0.02, rel=0.5)


def test_noise_is_that_of_photons_and_readout(raman_fit: Fit, raman_run: tuple[Path, Told]) -> None:
    told = raman_run[1]
    residual = np.where(raman_fit.hit, 0.0, raman_fit.counts - raman_fit.model)
    variance = np.array([raman_fit.variance(told, k) for k in range(raman_fit.n)])
    freedom = (~raman_fit.hit).sum(1) - len(BANDS) - 5
    chi2 = (residual**2 / variance).sum(1) / freedom
    spread = np.sqrt(2 / freedom[0])
    assert np.abs(chi2 - 1).max() < 4.5 * spread
    assert chi2.mean() == pytest.approx(1.0, abs=3 * spread / np.sqrt(raman_fit.n))
    # what all frames share is the pattern of the pixels; what is left is photons and read noise alone
    pattern = (residual * raman_fit.light).sum(0) / (raman_fit.light**2).sum(0)
    photons = 1 / raman_fit.light.sum(0)
    share = np.mean(pattern**2 / (told.facts["pixel_gain_deviation"] ** 2 + photons)) * pattern.size / (pattern.size - len(BANDS) - 5)
    assert share == pytest.approx(1.0, abs=3.5 * np.sqrt(2 / pattern.size))
    left = np.where(raman_fit.hit, 0.0, residual - pattern * raman_fit.light)
    alone = raman_fit.light + told.facts["read_noise_counts"] ** 2 + 1 / 12
    free = (freedom.sum()) * (1 - 1 / raman_fit.n)
    assert (left**2 / alone).sum() / free == pytest.approx(1.0, abs=3 * np.sqrt(2 / free))


@pytest.mark.parametrize("exposure", [5.0, 60.0])
def test_light_grows_with_the_exposure(cell: History, tmp_path: Path, exposure: float, raman_run: tuple[Path, Told]) -> None:
    told = raman.write(raman_campaign(tmp_path / "run", cell, raman_run[1].begin[:40], exposure=exposure))
    fit, longer = Fit(tmp_path / "run", told), exposure / EXPOSURE
    assert dict(labspec_lines(tmp_path / "run/A_raman.txt")[0])["Acq. time (s)"] == f"{exposure:g}"
    for name in ("ec_area_counts_per_cm", "carbonate_area_per_unit_counts_per_cm"):
        assert told.facts[name] == pytest.approx(longer * raman_run[1].facts[name])
    carbonate = np.asarray(told.observables["area_carbonate"]["values"]) / told.observables["throughput"]["values"]
    middle = cell.at("carbonate", told.begin + exposure / 2)
    assert np.allclose(carbonate / told.facts["carbonate_area_per_unit_counts_per_cm"], middle, atol=1e-3)
    pull = (fit.area - np.array([told.observables[f"area_{name}"]["values"] for name in BANDS]).T) / fit.sigma
    assert np.abs(pull).max() < 4.5
    variance = np.array([fit.variance(told, k) for k in range(fit.n)])
    chi2 = (((fit.counts - fit.model) ** 2 / variance)[~fit.hit]).sum() / ((~fit.hit).sum() - fit.n * (len(BANDS) + 5))
    pattern = 0.14 if exposure > EXPOSURE else 0.02  # its share of the noise: as many chances as pixels, not as pixels and frames
    assert chi2 == pytest.approx(1.0, abs=3 * np.hypot(np.sqrt(2 / fit.counts.size), pattern * np.sqrt(2 / fit.counts.shape[1])))
    assert np.median(fit.light[0]) == pytest.approx(longer * 3000.0, rel=0.2), "fluorescence too"


def test_areas_come_back_from_a_linear_fit(raman_fit: Fit, raman_run: tuple[Path, Told]) -> None:
    truth = np.array([raman_run[1].observables[f"area_{name}"]["values"] for name in BANDS]).T
    pull = (raman_fit.area - truth) / raman_fit.sigma
    assert np.abs(pull).max() < 4.5
    assert np.abs(pull.mean(0)).max() < 0.8, "the pixels' pattern is common to all frames: a fifth of the noise"
    assert np.all(np.abs(np.sqrt((pull**2).mean(0)) - 1) < 0.35), "1, and that pattern's share"
    for name in ("ec_free", "ec_coordinated", "carbonate"):
        k = BANDS.index(name)
        assert np.mean(np.abs(pull[:, k]) < 3) > 0.98
        assert np.median(raman_fit.sigma[:, k] / truth[:, k]) < 0.08, "the band is there to be seen"


def test_coordinated_fraction_from_the_rule_that_is_told(raman_fit: Fit, raman_run: tuple[Path, Told]) -> None:
    told = raman_run[1]
    k = told.facts["coordinated_relative_cross_section"]
    free, bound = BANDS.index("ec_free"), BANDS.index("ec_coordinated")
    f, b = raman_fit.area[:, free], raman_fit.area[:, bound] / k
    found, true = b / (b + f), np.asarray(told.observables["coordinated_fraction"]["values"])
    gradient = np.array([-b, f / k]) / (b + f) ** 2  # with respect to the two areas
    covariance = raman_fit.covariance[:, [[free], [bound]], [free, bound]]
    sigma = np.sqrt(np.einsum("if,fij,jf->f", gradient, covariance, gradient))
    assert np.abs((found - true) / sigma).max() < 4.5
    assert np.sqrt(np.mean(((found - true) / sigma) ** 2)) == pytest.approx(1.0, abs=0.25)
    assert np.corrcoef(found, true)[0, 1] > 0.8
    standard = (b + f) / told.facts["ec_area_counts_per_cm"]
    assert np.allclose(standard, told.observables["throughput"]["values"], atol=0.06)


def test_cosmic_rays_are_where_the_truth_says(raman_fit: Fit, raman_run: tuple[Path, Told]) -> None:
    told = raman_run[1]
    variance = np.array([raman_fit.variance(told, k) for k in range(raman_fit.n)])
    pull = (raman_fit.counts - raman_fit.model) / np.sqrt(variance)
    assert np.abs(pull[~raman_fit.hit]).max() < 5.2
    rays = told.facts["cosmic_rays"]
    for ray in rays:
        added = raman_fit.counts[ray["frame"], ray["pixels"]] - raman_fit.model[ray["frame"], ray["pixels"]]
        assert np.all(np.abs(added - ray["counts"]) < 5 * np.sqrt(variance[ray["frame"], ray["pixels"]]))
        assert 800.0 <= sum(ray["counts"]) <= 15_000.0
    assert {len(ray["pixels"]) for ray in rays} == {1, 2}
    assert abs(len(rays) - 0.15 * raman_fit.n) < 3 * np.sqrt(0.15 * 0.85 * raman_fit.n)


def test_fluorescence_bleaches(raman_fit: Fit, raman_run: tuple[Path, Told]) -> None:
    told = raman_run[1]
    far = np.median(raman_fit.light[:, -60:], axis=1) / told.observables["throughput"]["values"]  # beyond all bands
    assert far[:5].mean() > 1.8 * far[-20:].mean()
    assert np.corrcoef(far, np.exp(-(told.begin - told.begin[0]) / 25_000.0))[0, 1] > 0.97


def test_the_silicon_line_tells_how_wrong_the_axis_is(raman_run: tuple[Path, Told]) -> None:
    folder, told = raman_run
    wafer = told.facts["silicon"]
    shift, counts = np.loadtxt(folder / wafer["file"], comments="#", encoding="latin-1").T
    assert np.array_equal(shift, labspec_block(labspec_lines(folder / "A_raman.txt")[1])[0])
    near = np.abs(shift - 522.0) < 40.0
    best = (np.inf, 0.0, 0.0)
    for half in np.arange(2.0, 2.51, 0.05):
        for centre in np.arange(518.0, 526.0, 0.02):
            line = half / np.pi / ((shift[near] - centre) ** 2 + half**2)
            design = np.array([line, np.ones_like(line)]).T
            left = counts[near] - design @ np.linalg.lstsq(design, counts[near], rcond=None)[0]
            best = min(best, (float(left @ left), centre, half))
    assert best[1] - wafer["true_position_per_cm"] == pytest.approx(told.facts["wavenumber_offset_per_cm"], abs=0.06)
    assert 2 * best[2] == pytest.approx(4.5, abs=0.2)
