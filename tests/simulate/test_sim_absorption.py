import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError
from operando.loaders import xas_columns
from operando.simulate import absorption
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

START = np.datetime64("2026-06-03T08:00:00.000", "ms")
BEGIN = 1000.0 + 4000.0 * np.arange(16)
EXPOSURE = 90.0
CLOCK = SourceClock(offset=-12.3, drift=1e-5, zone="Europe/Paris")
DUMP = (BEGIN[5] - 50.0, BEGIN[5] + 200.0)


def nickel_history() -> History:
    time = np.arange(0.0, 72_000.0, 10.0)
    return History(START, time, {"nickel_oxidation": 3.42 - 0.48 * np.cos(2 * np.pi * time / 40_000.0)})


def nickel_campaign(folder: Path, begin: np.ndarray = BEGIN, **options: object) -> Campaign:
    folder.mkdir()
    return Campaign(folder, "A", nickel_history(), CLOCK, Beam([DUMP]), np.random.default_rng(7), begin, EXPOSURE, options)


@pytest.fixture(scope="module")
def xdi_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    folder = tmp_path_factory.mktemp("xas") / "run"
    return folder, absorption.write(nickel_campaign(folder))


def xdi_columns(path: Path) -> np.ndarray:
    return np.genfromtxt(path, comments="#", dtype=float)


def lit_spectra(told: Told) -> list[int]:
    return [k for k, beam in enumerate(told.observables["beam_intensity"]["values"]) if beam > 0.5]


def test_a_file_is_valid_xdi(xdi_run: tuple[Path, Told]) -> None:
    folder, told = xdi_run
    assert told.files == [f"A_Ni_{k:04d}.xdi" for k in range(1, 17)]
    assert told.index == [0] * 16
    text = (folder / told.files[3]).read_text("ascii")
    head = [line[2:] for line in text.splitlines() if line.startswith("#")]
    assert head[0] == "XDI/1.0"
    fields = dict(line.split(": ", 1) for line in head[1 : head.index("///")])
    assert (fields["Element.symbol"], fields["Element.edge"], fields["Column.1"]) == ("Ni", "K", "energy eV")
    assert float(fields["Mono.d_spacing"]) == pytest.approx(3.1356, abs=1e-3)
    begin, end = (np.datetime64(fields[f"Scan.{name}_time"]) for name in ("start", "end"))
    wall = START + np.timedelta64(round((BEGIN[3] + 12.3) / (1 + 1e-5) * 1000), "ms") + np.timedelta64(2, "h")  # Paris in summer
    assert abs(begin - wall) <= np.timedelta64(1, "ms")
    assert end - begin == np.timedelta64(90, "s")
    table = xdi_columns(folder / told.files[3])
    assert table.shape == (absorption.energy_grid().size, 4)
    assert (table[0, 0], np.all(np.diff(table[:, 0]) > 0)) == (8250.0, True)
    assert len(text) < 1.3e6 / 110


def test_larch_reads_it_and_finds_the_foil(xdi_run: tuple[Path, Told]) -> None:
    """Where the extra [xas] is installed larch itself is asked, in a process of its own: importing it changes warning filters and log handlers."""
    folder, told = xdi_run
    energy, _, transmitted, behind = xdi_columns(folder / told.files[3]).T
    slope = np.gradient(np.log(transmitted / behind), energy)
    near = np.abs(energy - 8333.0) < 15
    edge = energy[near][np.argmax(slope[near])]
    if importlib.util.find_spec("larch"):
        code = (
            "import sys\nimport numpy as np\nfrom larch.io import read_xdi\nfrom larch.xafs import find_e0\n"
            "g = read_xdi(sys.argv[1])\nprint('\\n', *g.array_labels, find_e0(g.energy, np.log(g.itrans / g.irefer)))"
        )
        asked = subprocess.run([sys.executable, "-c", code, str(folder / told.files[3])], capture_output=True, text=True, check=True)
        *labels, found = asked.stdout.split()[-5:]
        assert labels == ["energy", "i0", "itrans", "irefer"]
        assert float(found) == pytest.approx(edge, abs=0.6)
    assert edge + told.observables["energy_shift"]["values"][3] == pytest.approx(8333.0, abs=0.6)


def test_the_loader_reads_it_without_options(xdi_run: tuple[Path, Told]) -> None:
    folder, told = xdi_run
    ds = xas_columns.load(folder / told.files[2])
    table = xdi_columns(folder / told.files[2])
    assert np.allclose(ds["mu"].values[0], np.log(table[:, 1] / table[:, 2]))
    assert np.allclose(ds["mu_reference"].values[0], np.log(table[:, 2] / table[:, 3]))
    assert float(ds["exposure"].values[0]) == EXPOSURE


def test_truth_is_the_mean_over_the_exposure(xdi_run: tuple[Path, Told]) -> None:
    truth = xdi_run[1].observables
    fine = np.linspace(0.0, EXPOSURE, 901)
    mean = np.array([np.trapezoid(nickel_history().at("nickel_oxidation", b + fine), fine) / EXPOSURE for b in BEGIN])
    assert np.allclose(truth["nickel_oxidation"]["values"], mean, atol=1e-7)
    assert np.allclose(truth["charged_fraction"]["values"], (mean - 2.875) / (3.9 - 2.875), atol=1e-6)


def test_half_step_energy_by_bisection(xdi_run: tuple[Path, Told]) -> None:
    truth = xdi_run[1].observables
    for f, told in zip(truth["charged_fraction"]["values"], truth["edge_energy_half_step"]["values"], strict=True):
        low, high = 8338.0, 8349.0
        for _ in range(50):
            middle = np.array([0.5 * (low + high)])
            mu = absorption.absorption(middle, float(f))[0] / absorption.victoreen(middle)
            above = (mu[0] - absorption.BACKGROUND) / absorption.EDGE_STEP > 0.5
            low, high = (low, middle[0]) if above else (middle[0], high)
        assert told == pytest.approx(low, abs=1e-4)
    ends = absorption.half_step_energy(np.array([0.0, 1.0]))
    assert 8344.0 < ends[0] < ends[1] < 8347.0
    before = absorption.DISCHARGED.normalised(np.arange(8250.0, 8340.0, 0.05))
    assert before.max() < 0.5  # the pre-edge is not the edge
    assert before[:1000].max() < 1e-6


def test_white_line_area_is_what_it_says(xdi_run: tuple[Path, Told]) -> None:
    e = np.arange(8300.0, 8400.0, 0.01)
    bare = [state.normalised(e) for state in (absorption.DISCHARGED, absorption.CHARGED)]
    without = [
        type(s)(s.origin, s.edges, s.pre_edge, (8350.0, 1.0, 0.0), s.shells).normalised(e) for s in (absorption.DISCHARGED, absorption.CHARGED)
    ]
    areas = [np.trapezoid(a - b, e) for a, b in zip(bare, without, strict=True)]
    truth = xdi_run[1].observables
    f = np.asarray(truth["charged_fraction"]["values"])
    assert np.allclose(truth["white_line_area"]["values"], (1 - f) * areas[0] + f * areas[1], atol=1e-6)


def test_linear_combination_of_the_standards_gives_the_charged_fraction(xdi_run: tuple[Path, Told]) -> None:
    folder, told = xdi_run
    standards = []
    for name in told.facts["standards"]:
        table = xdi_columns(folder / name)
        standards.append((table[:, 0], np.log(table[:, 1] / table[:, 2])))
    misses = []
    for k in lit_spectra(told):
        table = xdi_columns(folder / told.files[k])
        energy = table[:, 0] + told.observables["energy_shift"]["values"][k]
        use = (energy > 8328) & (energy < 8420)
        known = [np.interp(energy[use], *one) for one in standards]
        basis = np.stack([*known, np.ones(use.sum())], axis=1)
        share = np.linalg.lstsq(basis, np.log(table[use, 1] / table[use, 2]), rcond=None)[0]
        misses.append(share[1] / (share[0] + share[1]) - told.observables["charged_fraction"]["values"][k])
    assert np.abs(misses).max() < 0.012  # linear interpolation of the standards costs a little
    assert np.std(misses) < 0.004


def test_the_foil_tells_the_drift_of_the_monochromator(xdi_run: tuple[Path, Told]) -> None:
    folder, told = xdi_run
    shift = np.asarray(told.observables["energy_shift"]["values"])
    assert (shift[0], shift[-1]) == (0.0, pytest.approx(-1.1))
    assert told.facts["first_after_jump"] == "A_Ni_0010.xdi"
    assert shift[9] - shift[8] == pytest.approx(-0.3 - 0.8 / 15)
    misses = []
    for k in lit_spectra(told):
        table = xdi_columns(folder / told.files[k])
        near = np.abs(table[:, 0] + shift[k] - 8333.0) < 2.6
        cubic = np.polynomial.Polynomial.fit(table[near, 0], np.log(table[near, 2] / table[near, 3]), 3)
        misses.append(cubic.deriv(2).roots()[0].real + shift[k] - 8333.0)
    assert np.abs(misses).max() < 0.1
    assert np.median(misses) == pytest.approx(0.0, abs=0.04)
    fine = 8333.0 + np.arange(-3.0, 3.0, 0.001)
    assert fine[np.argmax(np.gradient(absorption.FOIL.normalised(fine), fine))] == pytest.approx(8333.0, abs=0.005)


def test_the_chambers_count_independent_poisson_photons() -> None:
    n = 6000
    counts = absorption.chambers(np.random.default_rng(3), np.full(n, 8345.0), 0.0, 0.4, 1.0)
    sample, foil = absorption.absorption(np.array([8345.0]), 0.4)
    path = np.array([0.0, sample[0], sample[0] + foil[0]])
    photons = absorption.PHOTONS * (1 - 1.5e-4 * (8345 - 8550)) * np.array(absorption.TRANSMITTED) * np.exp(-path)
    gain, dark = np.array(absorption.GAINS), np.array(absorption.DARK)
    variance = gain**2 * photons + absorption.DARK_NOISE**2 + 1 / 12
    chi2 = ((counts - gain * photons - dark) ** 2 / variance).sum(0)
    assert np.all(np.abs(chi2 - n) < 4 * np.sqrt(2 * n))
    assert np.abs(np.corrcoef(counts.T)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(n)
    assert np.all((counts.std(0) / counts.mean(0) > 1e-4) & (counts.std(0) / counts.mean(0) < 1e-3))


def test_in_a_beam_dump_the_chambers_write_their_dark_signal(xdi_run: tuple[Path, Told]) -> None:
    folder, told = xdi_run
    assert told.observables["beam_intensity"]["values"][5] == 0.0
    table = xdi_columns(folder / told.files[5])[:, 1:]
    assert np.allclose(table.mean(0), told.facts["dark_counts"], atol=0.8)
    assert table.min() >= 1


def test_spoilt_files_are_no_frames_and_loaders_refuse_them(tmp_path: Path) -> None:
    told = absorption.write(nickel_campaign(tmp_path / "a", corrupt=11, half_written=True, standards=False))
    assert (told.facts["corrupt"], told.facts["half_written"]) == ("A_Ni_0012.xdi", "A_Ni_0016.xdi")
    assert len(told.files) == len(told.begin) == len(told.observables["energy_shift"]["values"]) == 14
    assert not {"A_Ni_0012.xdi", "A_Ni_0016.xdi"} & set(told.files)
    assert not list((tmp_path / "a").glob("*standard*"))
    garbage, half = ((tmp_path / "a" / name).read_bytes() for name in ("A_Ni_0012.xdi", "A_Ni_0016.xdi"))
    assert b"\x00" in garbage
    assert garbage.startswith(b"# XDI/1.0\n")
    assert len(half.splitlines()[-1].split()) < 4
    for name in ("A_Ni_0012.xdi", "A_Ni_0016.xdi"):
        with pytest.raises(LoaderError):
            xas_columns.load(tmp_path / "a" / name)


def test_the_same_chance_gives_the_same_absorption_files(xdi_run: tuple[Path, Told], tmp_path: Path) -> None:
    absorption.write(nickel_campaign(tmp_path / "again"))
    for path in xdi_run[0].iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_one_spectrum_or_none(tmp_path: Path) -> None:
    told = absorption.write(nickel_campaign(tmp_path / "one", BEGIN[:1], corrupt=37))
    assert (told.files, told.facts.get("corrupt")) == (["A_Ni_0001.xdi"], None)
    told = absorption.write(nickel_campaign(tmp_path / "none", BEGIN[:0], half_written=True))
    assert not told.files
    assert not list((tmp_path / "none").iterdir())
