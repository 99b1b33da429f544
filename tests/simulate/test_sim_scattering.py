import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

from operando.loaders import hdf5_path
from operando.simulate import scattering
from operando.simulate.instruments import Beam, Campaign, History, SourceClock, Told

START = np.datetime64("2026-06-03T08:00:00.000", "ms")
BEGIN = 600.0 + 1700.0 * np.arange(40)
EXPOSURE = 20.0
CLOCK = SourceClock(offset=4.25, zone="Europe/Paris", restarts=[(30_000.0, 7.0)])
DUMP = (BEGIN[20] - 10.0, BEGIN[21] + 60.0)


def disordering_campaign(folder: Path, begin: np.ndarray = BEGIN, **options: object) -> Campaign:
    folder.mkdir()
    time = np.arange(0.0, 72_000.0, 10.0)
    history = History(START, time, {"disorder": 1.0 - np.exp(-time / 36_000.0)})
    return Campaign(folder, "A", history, CLOCK, Beam([DUMP]), np.random.default_rng(11), begin, EXPOSURE, options)


@pytest.fixture(scope="module")
def total_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    folder = tmp_path_factory.mktemp("pdf") / "run"
    return folder, scattering.write(disordering_campaign(folder))


def expected_counts(told: Told, k: int) -> np.ndarray:
    """Give the counts from what is told; the pair counting is tested against the double sum by itself."""
    q, facts = scattering.q_grid(), told.facts
    disorder = float(told.observables["disorder"]["values"][k])
    particle = scattering.Particle()
    pattern = particle.intensity(q, disorder) + particle.compton(q) + facts["background_scale"] * scattering.background(q)
    scale = facts["scale_counts_per_pixel_and_electron_unit"] * told.observables["beam_intensity"]["values"][k]
    return facts["pixels_per_bin"] * (scale * pattern + facts["dark_counts_per_pixel"])


@pytest.mark.parametrize("disorder", [0.0, 0.6])
def test_pair_counting_equals_the_double_sum(disorder: float) -> None:
    particle = scattering.Particle(9.5)
    q = np.linspace(0.6, 22.0, 97)
    a = 4.18 * (1 - 0.006 * disorder)
    u, strain = 0.004 + 0.016 * disorder, 0.03 * disorder
    total = np.zeros_like(q)
    for i, first in enumerate(particle.sites):
        for j, second in enumerate(particle.sites):
            fi, fj = (scattering.form_factor("Ni2+" if particle.nickel[n] else "O", q) for n in (i, j))
            if i == j:
                total += fi * fj
                continue
            r = a / 2 * np.linalg.norm(first - second)
            variance = 2 * u * (1 - 2.0 / r**2) + (strain * r) ** 2
            total += fi * fj * np.exp(-(q**2) * variance / 2) * np.sin(q * r) / (q * r)
    assert np.allclose(particle.intensity(q, disorder), total / len(particle.sites), rtol=1e-9)


def test_the_particle_is_a_sphere_of_rock_salt() -> None:
    particle = scattering.Particle()
    atoms = particle.nickel.size
    assert atoms == pytest.approx(np.pi / 6 * 30.0**3 / (4.18**3 / 8), rel=0.01)
    assert particle.pairs.sum() == atoms * (atoms - 1)
    assert particle.squares[0] == 1
    assert 0.85 * 6 < particle.pairs[2, 0] / atoms < 6  # oxygen around nickel; fewer at the surface
    q = np.array([1e-4])
    forward = particle.nickel.sum() * scattering.form_factor("Ni2+", q) + (~particle.nickel).sum() * scattering.form_factor("O", q)
    assert particle.intensity(q, 0.0)[0] == pytest.approx(forward[0] ** 2 / atoms, rel=1e-6)


def test_form_factors() -> None:
    zero = np.zeros(1)
    assert scattering.form_factor("Ni2+", zero)[0] == pytest.approx(26.0, abs=0.01)
    assert scattering.form_factor("O", zero)[0] == pytest.approx(8.0, abs=0.01)
    if importlib.util.find_spec("Dans_Diffraction"):
        from Dans_Diffraction import functions_crystallography as fc

        q = np.linspace(0.0, 22.0, 45)
        other = fc.xray_scattering_factor_WaasKirf(["Ni2+", "O"], q)  # another fit to the same tables
        assert np.abs(scattering.form_factor("Ni2+", q) - other[:, 0]).max() < 0.1
        assert np.abs(scattering.form_factor("O", q) - other[:, 1]).max() < 0.05
        assert np.allclose(scattering.form_factor("O", q), fc.xray_scattering_factor(["O"], q)[:, 0], atol=1e-3)


def test_counts_are_poisson_around_the_truth(total_run: tuple[Path, Told]) -> None:
    folder, told = total_run
    with h5py.File(folder / told.files[0]) as f:
        for k in (0, 13, 39):
            assert (told.files[k], told.index[k]) == ("A_total_0001.h5", k)
            expected = expected_counts(told, k)
            counts = f["entry/data/I"][k].astype(float) * told.facts["pixels_per_bin"]
            n = counts.size
            assert abs(((counts - expected) ** 2 / expected).sum() - n) < 4.5 * np.sqrt(2 * n)
            assert abs((counts - expected).sum()) < 4.5 * np.sqrt(expected.sum())
            errors = f["entry/data/I_errors"][k] * told.facts["pixels_per_bin"]
            assert np.allclose(errors, np.sqrt(counts), rtol=4e-3)
            assert 5e-4 < errors[-1] / counts[-1] < 1.5e-3


def test_pair_function_shows_the_first_shell_and_its_width(total_run: tuple[Path, Told]) -> None:
    folder, told = total_run
    particle, q = scattering.Particle(), scattering.q_grid()
    nickel, oxygen, share = scattering.form_factor("Ni2+", q), scattering.form_factor("O", q), particle.nickel.mean()
    mean = share * nickel + (1 - share) * oxygen
    r = np.arange(1.75, 2.45, 0.005)
    with h5py.File(folder / told.files[0]) as f, h5py.File(folder / told.facts["background_file"]) as g:
        alone = g["entry/data/I"][:].mean(0) / 30.0
        for some, beam in (
            (range(4), told.observables["beam_intensity"]["values"][:4]),
            (range(30, 34), told.observables["beam_intensity"]["values"][30:34]),
        ):
            measured = f["entry/data/I"][some.start : some.stop].mean(0) / 30.0 / np.mean(beam)
            coherent = measured - told.facts["background_scale"] * alone - particle.compton(q)
            s_minus_1 = (coherent - share * nickel**2 - (1 - share) * oxygen**2) / mean**2
            kernel = q * np.exp(-0.5 * (q * 0.09) ** 2)  # a known further width instead of termination ripples
            g_r = 2 / np.pi * (s_minus_1 * kernel) @ np.sin(np.outer(q, r)) * (q[1] - q[0])
            model = g_r * r  # a Gaussian on a straight line
            truth = {
                name: np.mean(told.observables[name]["values"][some.start : some.stop]) for name in ("first_shell_distance", "first_shell_sigma")
            }
            found = first_shell_by_scan(r, model)
            assert found[0] == pytest.approx(truth["first_shell_distance"], abs=0.012)
            assert found[1] == pytest.approx(np.hypot(truth["first_shell_sigma"], 0.09), rel=0.08)


def first_shell_by_scan(r: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Least squares of a Gaussian on a parabola, by trying centres and widths."""
    best = (np.inf, 0.0, 0.0)
    for centre in np.arange(2.02, 2.14, 0.004):
        for width in np.arange(0.06, 0.26, 0.004):
            basis = np.stack([np.exp(-0.5 * ((r - centre) / width) ** 2), np.ones_like(r), r], axis=1)
            solution = np.linalg.lstsq(basis, values, rcond=None)[0]
            best = min(best, (float(((basis @ solution - values) ** 2).sum()), float(centre), float(width)))
    return best[1], best[2]


def test_truth_of_the_disorder(total_run: tuple[Path, Told]) -> None:
    truth = {name: np.asarray(one["values"]) for name, one in total_run[1].observables.items()}
    exact = 1 + 36_000.0 / EXPOSURE * (np.exp(-(BEGIN + EXPOSURE) / 36_000.0) - np.exp(-BEGIN / 36_000.0))
    assert np.allclose(truth["disorder"], exact, atol=1e-6)
    assert np.allclose(truth["first_shell_distance"], 2.09 * (1 - 0.006 * exact), atol=1e-6)
    sigma2 = 2 * truth["u_iso"] * (1 - 2.0 / truth["first_shell_distance"] ** 2) + (truth["strain"] * truth["first_shell_distance"]) ** 2
    assert np.allclose(truth["first_shell_sigma"] ** 2, sigma2)
    r = truth["coherence_length"]
    assert np.all(np.diff(r) < 0)
    height = (1 - 1.5 * r / 30 + 0.5 * (r / 30) ** 3) * np.sqrt(2 * truth["u_iso"] / (2 * truth["u_iso"] + (truth["strain"] * r) ** 2))
    assert np.allclose(height, np.exp(-1), atol=1e-5)


def test_the_file_follows_nxazint1d(total_run: tuple[Path, Told]) -> None:
    folder, told = total_run
    with h5py.File(folder / "A_total_0001.h5") as f:
        entry = f[f.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert entry["definition"].asstr()[()] == "NXazint1d"
        assert data.attrs["NX_class"] == "NXdata"
        assert list(data.attrs["axes"]) == [".", "radial_axis"]
        intensity = data[data.attrs["signal"]]
        assert (intensity.shape, intensity.dtype, intensity.compression, intensity.shuffle) == ((40, 1100), np.dtype("f4"), "gzip", True)
        assert (data["radial_axis"][0], data["radial_axis"][-1], data["radial_axis"].attrs["units"]) == (0.6, 22.0, "1/angstrom")
        stamps = BEGIN - 4.25 - 7.0 * (BEGIN >= 30_000.0)
        assert np.allclose(data["epoch"][:] - START.astype(np.int64) / 1000, stamps, atol=1e-3)
        assert np.all(data["count_time"][:] == EXPOSURE)
        monitor = entry["monitor/data"][:]
        assert np.all(monitor[20:22] < 40)
        assert intensity[20:22].max() * told.facts["pixels_per_bin"] < 20
        lit = np.delete(np.arange(40), [20, 21])
        beam = np.asarray(told.observables["beam_intensity"]["values"])
        assert np.abs(monitor[lit] / (250_000.0 * beam[lit]) - 1).max() < 0.01
        assert intensity.id.get_storage_size() < 40 * 1100 * 3.5


def test_background_alone(total_run: tuple[Path, Told]) -> None:
    folder, told = total_run
    with h5py.File(folder / told.facts["background_file"]) as f:
        counts = f["entry/data/I"][:].astype(float) * told.facts["pixels_per_bin"]
        stamps = f["entry/data/epoch"][:] - START.astype(np.int64) / 1000
    expected = told.facts["pixels_per_bin"] * (30.0 * scattering.background(scattering.q_grid()) + told.facts["dark_counts_per_pixel"])
    n = counts.size
    assert abs(((counts - expected) ** 2 / expected).sum() - n) < 4.5 * np.sqrt(2 * n)
    assert stamps[-1] + EXPOSURE + 4.25 == pytest.approx(BEGIN[0] - 600.0)


def test_the_loader_reads_total_scattering(total_run: tuple[Path, Told]) -> None:
    ds = hdf5_path.load(
        total_run[0] / "A_total_0001.h5",
        technique="pdf",
        entries="[NXentry]",
        signals={"intensity": "data/I", "intensity_errors": "data/I_errors"},
        axis={"q": "data/radial_axis"},
        frame_times={"path": "data/epoch", "kind": "unix"},
        count_time="data/count_time",
        coords={"monitor": "monitor/data"},
    )
    assert ds["intensity"].dims == ("time", "q")
    assert ds["intensity"].shape == (40, 1100)
    assert ds["q"].attrs["units"] == "1/angstrom"
    assert np.all(ds["exposure"].values == EXPOSURE)
    assert ds["monitor"].shape == (40,)


def test_frames_go_on_in_the_next_file(tmp_path: Path) -> None:
    told = scattering.write(disordering_campaign(tmp_path / "a", BEGIN[:7], frames_per_file=3))
    assert told.files == ["A_total_0001.h5"] * 3 + ["A_total_0002.h5"] * 3 + ["A_total_0003.h5"]
    assert told.index == [0, 1, 2, 0, 1, 2, 0]
    with h5py.File(tmp_path / "a" / "A_total_0003.h5") as f:
        counts = f["entry/data/I"][0].astype(float) * 1024
    expected = expected_counts(told, 6)
    assert abs(((counts - expected) ** 2 / expected).sum() - 1100) < 4.5 * np.sqrt(2200)


def test_the_same_chance_gives_the_same_scattering_files(total_run: tuple[Path, Told], tmp_path: Path) -> None:
    scattering.write(disordering_campaign(tmp_path / "again"))
    for path in total_run[0].iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_no_frames_no_files(tmp_path: Path) -> None:
    told = scattering.write(disordering_campaign(tmp_path / "none", BEGIN[:0]))
    assert not told.files
    assert not list((tmp_path / "none").iterdir())
