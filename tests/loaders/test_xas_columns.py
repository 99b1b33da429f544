from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzing import only_operando_errors

from operando.contract import ConfigError, LoaderError, Quality, canonical, faults
from operando.loaders.xas_columns import claims, load

ENERGY = np.round(np.arange(7000, 7300, 5.0), 3)
I0 = (100000 + 10 * np.arange(ENERGY.size)).astype(int)
MU = 0.5 + 1 / (1 + np.exp(-(ENERGY - 7112) / 3))
IT = I0 * np.exp(-MU)
IR = IT * np.exp(-0.3)

ROCK = """# This file has been produced by extranormal (v 1.0.1 - February 23, 2017)
#Time at start=2022-07-26 23:01:58.055
#Time from start (seconds)=65.003889607
#Sample temperature (C)=nan
# E0=8332.88   Eshift=0.0362246628606
# E0_pivot = 8349.6
# I jump at E0_pivot = 0.79921036121
# shifted energy\tnormalized\treference\tIref.derivative\tI0
"""


def sound(ds) -> bool:
    return [f for f in faults(canonical(ds), as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


def table(*columns, form: str = "%.8g") -> str:
    return "\n".join(" ".join(form % v for v in row) for row in zip(*columns, strict=True)) + "\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_mu_as_written(tmp_path):
    ds = load(write(tmp_path / "a.dat", "# energy xmu\n" + table(ENERGY, MU)))
    np.testing.assert_allclose(ds.mu[0], MU, rtol=1e-7)
    np.testing.assert_array_equal(ds.energy, ENERGY)
    assert ds.energy.units == "eV"
    assert ds.attrs["time_origin"] == "counter"
    assert sound(ds)


def test_mu_from_raw_signals(tmp_path):
    path = write(tmp_path / "a.dat", "# energy mon first second fluo1 fluo2\n" + table(ENERGY, I0, IT, IR, 2 * I0 * MU, 3 * I0 * MU))
    ds = load(path, energy="energy", i0="mon", itrans=3, iref="second")
    np.testing.assert_allclose(ds.mu[0], MU, atol=1e-6)
    np.testing.assert_allclose(ds.mu_reference[0], 0.3, atol=1e-6)
    assert (ds.i0.dtype, ds.i0.units) == (np.int64, "counts")
    fluo = load(path, energy=1, i0=2, ifluor=["fluo1", "fluo2"])
    np.testing.assert_allclose(fluo.mu[0], 5 * MU, atol=1e-6)
    both = load(path, energy=1, i0=2, itrans=3, ifluor="fluo1")
    np.testing.assert_allclose(both.mu_fluorescence[0], 2 * MU, atol=1e-6)
    np.testing.assert_allclose(both.mu[0], MU, atol=1e-6)
    assert all(sound(one) for one in (ds, fluo, both))


def test_what_cannot_be_told_is_asked_for(tmp_path):
    path = write(tmp_path / "a.dat", "# energy mon first\n" + table(ENERGY, I0, IT))
    with pytest.raises(LoaderError, match=r"1 energy, 2 mon, 3 first(.|\n)*i0:"):
        load(path)
    with pytest.raises(LoaderError, match="no column is labelled 'Mon1'"):
        load(path, i0="Mon1", itrans=3)
    with pytest.raises(LoaderError, match="no column 7"):
        load(path, i0=2, itrans=7)
    with pytest.raises(LoaderError, match="energy: is also used"):
        load(path, energy=1, mu=1)
    with pytest.raises(LoaderError, match="itrans:"):
        load(path, energy=1, i0=2, iref=3)


def test_energy_units(tmp_path):
    kev = write(tmp_path / "a.dat", "# Energy(keV) mu\n" + table(ENERGY / 1000, MU))
    np.testing.assert_array_equal(load(kev).energy, ENERGY)
    angles = write(tmp_path / "b.dat", "# mono mu\n" + table(np.linspace(14, 12, ENERGY.size), MU))
    with pytest.raises(LoaderError, match="encoder angles"):
        load(angles, energy=1, mu=2)
    np.testing.assert_allclose(load(angles, energy=1, mu=2, energy_unit="keV").energy[[0, -1]], [14000, 12000])


def test_descending_stays_and_disorder_is_refused(tmp_path):
    down = write(tmp_path / "a.dat", "# energy mu\n" + table(ENERGY[::-1], MU[::-1]))
    np.testing.assert_array_equal(load(down).energy, ENERGY[::-1])
    assert sound(load(down))
    order = np.arange(ENERGY.size)
    order[[10, 11]] = [11, 10]
    mixed = write(tmp_path / "b.dat", "# energy mu\n" + table(ENERGY[order], MU[order]))
    with pytest.raises(LoaderError, match="turns back at line 13"):
        load(mixed)
    np.testing.assert_array_equal(load(mixed, disorder="sort").energy, ENERGY)
    np.testing.assert_allclose(load(mixed, disorder="sort").mu[0], MU, rtol=1e-7)


def test_repeated_energies(tmp_path):
    index = np.sort(np.concatenate([np.arange(ENERGY.size), [0, 0, 7]]))
    values = MU[index] + 0.1 * np.arange(index.size)
    path = write(tmp_path / "a.dat", "# energy mu\n" + table(ENERGY[index], values))
    with pytest.raises(LoaderError, match="duplicates:"):
        load(path)
    np.testing.assert_allclose(load(path, duplicates="first").mu[0, 0], MU[0])
    np.testing.assert_allclose(load(path, duplicates="mean").mu[0, 0], MU[0] + 0.1, rtol=1e-7)
    np.testing.assert_array_equal(load(path, duplicates="mean").energy, ENERGY)


def test_dark_points_are_nan_and_flagged(tmp_path):
    dark = IT.copy()
    dark[5] = -3
    ds = load(write(tmp_path / "a.dat", "# energy i0 itrans\n" + table(ENERGY, I0, dark)))
    assert np.isnan(ds.mu.values).sum() == 1
    assert ds.quality.values == [int(Quality.LOW_COUNTS)]
    with pytest.raises(LoaderError, match="no ratio is positive"):
        load(write(tmp_path / "b.dat", "# energy i0 itrans\n" + table(ENERGY, I0, -IT)))


def test_spec_files_give_a_series_per_scan(tmp_path):
    text = "#F x\n"
    for number, n in ((1, 30), (2, 60), (4, 0)):
        text += f"\n#S {number} escan\n#D Fri Jun 28 13:{number}4:15 2013\n#L Energy  Mon  Ion\n" + table(ENERGY[:n], I0[:n], IT[:n]) + "#C end\n"
    path = write(tmp_path / "a.dat", text)
    options = {"energy": "Energy", "i0": "Mon", "itrans": "Ion", "header_time": "^#D (.*)"}
    first, second = load(path, **options)
    assert (first.sizes["energy"], second.sizes["energy"]) == (30, 60)
    assert str(second.time.values[0]) == "2013-06-28T13:24:15.000000000"
    assert load(path, scan=2, **options).attrs["scan"] == 2
    with pytest.raises(LoaderError, match=r"scans \[1, 2, 4\]"):
        load(path, scan=3, **options)


def test_xdi_header_times_are_standard(tmp_path):
    head = (
        "# XDI/1.0\n# Scan.start_time: 2019-03-21T08:45:01\n# Scan.end_time: 2019-03-21T09:00:56\n# Column.1: energy eV\n# Column.2: mutrans\n#---\n"
    )
    ds = load(write(tmp_path / "a.xdi", head + table(ENERGY, MU)))
    assert str(ds.stamp.values) == "2019-03-21T08:45:01.000000000"
    assert ds.exposure.values == [955.0]
    assert sound(ds)


def test_preset_and_overrides(tmp_path):
    path = write(tmp_path / "rock.txt", ROCK + table(ENERGY + 1000, MU, MU / 2, MU / 3, I0))
    ds = load(path, preset="soleil-rock")
    assert str(ds.stamp.values) == "2022-07-26T23:01:58.055000000"
    assert ds.exposure.values == [65.003889607]
    assert (ds.foil_e0.values, ds.foil_e0.units) == ([8332.88], "eV")
    assert ds.energy_shift.values == [0.0362246628606]
    assert ds.energy_shift.attrs["already_applied"] == "yes"
    assert np.isnan(ds.temperature.values[0])
    assert set(ds.data_vars) == {"mu", "mu_reference", "mu_reference_derivative", "i0"}
    np.testing.assert_allclose(ds.mu_reference[0], MU / 2, rtol=1e-7)
    other = load(path, preset="soleil-rock", mu=3)
    np.testing.assert_allclose(other.mu[0], MU / 2, rtol=1e-7)
    own = write(tmp_path / "mine.yaml", "loaders: {xas-columns: {energy: 1, mu: 2}}\n")
    assert load(path, preset=str(own)).attrs["time_origin"] == "counter"
    assert sound(ds)


def test_rock_spectra_without_a_reference(tmp_path):
    text = ROCK.replace("\treference\tIref.derivative", "")
    ds = load(write(tmp_path / "rock.txt", text + table(ENERGY + 1000, MU, I0)), preset="soleil-rock")
    assert set(ds.data_vars) == {"mu", "i0"}
    np.testing.assert_allclose(ds.i0[0], I0)
    with pytest.raises(LoaderError, match="no column is labelled 'normalized'"):
        load(write(tmp_path / "b.txt", text.replace("normalized", "raw") + table(ENERGY + 1000, MU, I0)), preset="soleil-rock")
    for wrong in ({"colum": 1}, {"column": []}, {"optional": True}):
        with pytest.raises(LoaderError, match="is no column"):
            load(tmp_path / "rock.txt", preset="soleil-rock", mu=wrong)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("# energy i0 i1 i2\n", {"i0", "itrans", "iref", "mu", "mu_reference"}),
        ("#  1) Mono Energy *   3) I1\n#  2) I0              4) scaler time\n#Mono Energy *   I0    I1     scaler time\n", {"i0", "itrans", "mu"}),
        ("#Mono Energy *        I0 * I1                   Scaler preset time   \n", {"i0", "itrans", "mu"}),
        ("Data:\nAchieved Energy\nI0\nI1\nReal time clock\n\n", {"i0", "itrans", "mu"}),
        ("# 1_energy 2_i0 3_i1 4_fluo\n", None),
        ("# energy i0 i1 If_sum\n", None),
    ],
)
def test_labels_counted_along_the_beam(tmp_path, header, found):
    path = write(tmp_path / "a.dat", header + table(ENERGY, I0, IT, IR))
    if found is None:
        with pytest.raises(LoaderError, match="cannot be told|no photon|mu cannot"):
            load(path)
        return
    ds = load(path)
    assert set(ds.data_vars) == found
    np.testing.assert_allclose(ds.mu[0], MU, atol=1e-6)


def test_a_logarithm_in_the_label_is_mu(tmp_path):
    ds = load(write(tmp_path / "a.xmu", "# energy log(i0/it) i0\n" + table(ENERGY, MU, I0)))
    np.testing.assert_allclose(ds.mu[0], MU, rtol=1e-6)


def test_a_reference_chamber_that_was_not_read(tmp_path):
    path = write(tmp_path / "a.dat", "# energy i0 it ir\n" + table(ENERGY, I0, IT, 0 * IR))
    assert set(load(path).data_vars) == {"i0", "itrans", "iref", "mu"}
    with pytest.raises(LoaderError, match="mu_reference cannot be computed"):
        load(path, i0="i0", itrans="it", iref="ir")


KEK = """  9809     KEK-PF   BL9A
 Fe010           22.05.11 17:26 - 22.05.11 18:33 Serial#1
 sample
 Ring :   2.5 GeV   425.1 mA -  449.9 mA
 Mono :   Si(111)       D=  3.13551 A    Initial angle= 13.93250 deg
 BL9A      Transmission( 2)   Repetition=  1     Points= {points}

 Block      Init-Eng  Final-Eng      Step/eV     Time/s       Num
     1        6606.20   7061.20         6.50       1.00        70
 Ortec(-1)     NDCH = 3
  Angle(c)  Angle(o)    time/s         2         3
      Mode         0         0         1         2
    Offset         0         0  7753.700  7157.100
"""


def test_9809(tmp_path):
    angle = np.degrees(np.arcsin(12398.419843320026 / (2 * 3.13551 * ENERGY)))
    body = "".join(f"{a:10.5f}{a:10.5f}{1.0:10.2f}{i:10d}{t:10d}\n" for a, i, t in zip(angle, I0.astype(int), IT.astype(int), strict=True))
    path = write(tmp_path / "a.dat", KEK.format(points=ENERGY.size) + body + "\x1a\n")
    assert "9809" in claims(path)
    ds = load(path)
    np.testing.assert_allclose(ds.energy, ENERGY, atol=0.02)
    np.testing.assert_allclose(ds.mu[0], np.log(I0.astype(int) / IT.astype(int)), atol=1e-6)
    assert str(ds.stamp.values) == "2022-05-11T17:26:00.000000000"
    assert ds.exposure.values == [67 * 60.0]
    assert sound(ds)
    with pytest.raises(LoaderError, match="does not fit the header"):
        load(write(tmp_path / "b.dat", KEK.format(points=ENERGY.size) + "\n".join(body.split("\n")[:-5])))
    with pytest.raises(LoaderError, match="9809 header is incomplete"):
        load(write(tmp_path / "c.dat", KEK.format(points=3).replace("D=", "d") + body))
    with pytest.raises(LoaderError, match="modes do not fit"):
        load(write(tmp_path / "d.dat", KEK.format(points=3).replace("         1         2\n", "         1\n") + body))


def test_presets_that_cannot_be_used(tmp_path):
    path = write(tmp_path / "rock.txt", ROCK + table(ENERGY, MU, MU, MU, I0))
    with pytest.raises(ConfigError, match="did you mean 'soleil-rock'"):
        load(path, preset="soleil-rok")
    for text, message in (
        ("loaders: {xas-columns: {enrgy: 1}}", "enrgy"),
        ("loaders: {csv: {}}", "says nothing"),
        ("energy: 1", "no loaders"),
        ("[", "YAML"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, preset=str(write(tmp_path / "p.yaml", text + "\n")))


def test_half_a_file_is_refused_or_shorter(tmp_path):
    text = ROCK + table(ENERGY, MU, MU, MU, I0)
    with pytest.raises(LoaderError, match=r"line \d+ has"):
        load(write(tmp_path / "a.txt", text[: text.rindex("\n", 0, -3) + 9]), preset="soleil-rock")


def test_fuzz(tmp_path):
    raw = (ROCK + table(ENERGY, MU, MU, MU, I0)).encode()
    assert only_operando_errors(lambda p: load(p, preset="soleil-rock"), tmp_path / "a.txt", raw, seed=3, each=20)
    assert only_operando_errors(
        lambda p: load(p, energy=1, i0=5, itrans=2, duplicates="mean", disorder="sort"), tmp_path / "a.txt", raw, seed=4, each=20
    )


def test_claims(tmp_path):
    assert claims(write(tmp_path / "a.dat", "# energy xmu\n" + table(ENERGY, MU)))
    assert claims(write(tmp_path / "b.dat", "# two_theta intensity\n" + table(ENERGY / 100, MU))) is None
    assert claims(write(tmp_path / "c.dat", "# energy voltage\n" + table(np.arange(30), np.arange(30)))) is None
    assert claims(tmp_path / "missing.dat") is None


# ------------------------------------------------------------------ measured files


@pytest.mark.real_data
def test_rock(shared_data):
    paths = sorted((shared_data / "multimodal/perex_rock/XAS_pos1").glob("*.txt"))
    assert len(paths) == 160
    many = [load(path, preset="soleil-rock") for path in paths]
    energies = {ds.energy.values.tobytes() for ds in many}
    assert len(energies) == 1
    assert (many[0].sizes["energy"], float(many[0].energy[0]), float(many[0].energy[-1])) == (1649, 8060.0, 9500.0)
    begins = np.sort(np.array([ds.stamp.values for ds in many]))
    assert begins[0] == np.datetime64("2022-07-26T23:01:58.055")
    gaps = np.diff(begins) / np.timedelta64(1, "s")
    assert np.median(gaps) == pytest.approx(687, abs=1)
    assert abs(gaps[gaps > 1200] - 1265).max() < 1
    assert float(many[0].exposure[0]) == 65.003889607
    assert all(64.4 < float(ds.exposure[0]) < 65.2 for ds in many)
    assert {float(ds.foil_e0[0]) for ds in many} == {8332.88}
    shifts = np.array([float(ds.energy_shift[0]) for ds in many])
    assert -0.61 < shifts.min() < -0.5
    assert 0 < shifts.max() < 0.21
    half = []
    for ds in many:  # where the normalised edge of the sample first reaches one half
        mu, energy = ds.mu.values[0], ds.energy.values
        i = int(np.argmax(mu >= 0.5))
        half.append(energy[i - 1] + (0.5 - mu[i - 1]) / (mu[i] - mu[i - 1]) * (energy[i] - energy[i - 1]))
    assert min(half) == pytest.approx(8344.76, abs=0.01)
    assert max(half) == pytest.approx(8346.20, abs=0.01)
    assert all(sound(ds) for ds in many[::40])
    assert all(claims(path) for path in paths[::40])


BEAMLINES = {
    "APS10BM_2019.dat": ({"duplicates": "mean"}, 3462, (6389.9975, 7601.3587)),
    "APS12BM_2019.dat": ({"energy": 1, "i0": 4, "itrans": "5_i1"}, 492, (6339.0, 6984.74)),
    "APS13ID_2008.dat": (
        {"i0": "I0", "itrans": "I1", "header_time": "scan began at time: (.*)", "header_end": "scan ended at time: (.*)"},
        469,
        (9509, 10405.76),
    ),
    "APS13ID_2019.dat": ({"i0": "I0", "ifluor": ["Mn_Ka_mca1", "Mn_Ka_mca2", "Mn_Ka_mca3", "Mn_Ka_mca4"]}, 221, (6389.001866, 6537.007889)),
    "ESRF_BM08_LISA_2021.dat": ({}, 198, (10906.925247165695, 11505.616485957466)),
    "ESRF_SNBL_2013.dat": ({"energy": "ZapEnergy", "i0": "Mon", "itrans": "Ion1", "scan": 1, "header_time": "^#D (.*)"}, 456, (11050.021, 11499.577)),
    "NSLS6BM_2019.dat": ({}, 352, (5264.987, 6120.533)),
    "NSLS8ID_2019.dat": (
        {"header_time": "Start time: (.*)", "header_end": "Stop time: (.*)", "time_format": "%m/%d/%Y %H:%M:%S"},
        647,
        (11686.05926, 12847.257542),
    ),
    "NSLS_XDAC_2011.dat": ({"i0": "I0", "itrans": "It"}, 422, (6912.0019, 7757.71515)),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", BEAMLINES)
def test_nine_beamlines(shared_data, name):
    options, n, ends = BEAMLINES[name]
    path = shared_data / "xas/xraylarch_MIT/beamlines" / name
    ds = load(path, **options)
    assert ds.sizes == {"time": 1, "energy": n}
    np.testing.assert_allclose(ds.energy[[0, -1]], ends)
    assert sound(ds)
    assert claims(path)
    if "header_time" in options or "XDI" in path.read_text(errors="replace")[:20]:
        assert ds.attrs["time_origin"] == "header"


@pytest.mark.real_data
def test_a_mu_the_beamline_computed_itself_agrees(shared_data):
    path = shared_data / "xas/xraylarch_MIT/beamlines/ESRF_BM08_LISA_2021.dat"
    written = load(path)
    computed = load(path, i0="I0_EH1", itrans="I1_EH1", iref="IR_EH2")
    np.testing.assert_allclose(computed.mu, written.mu, atol=1e-9)
    np.testing.assert_allclose(computed.mu_reference, written.mu_reference, atol=1e-9)


@pytest.mark.real_data
def test_xdi_libraries_open(shared_data):
    paths = sorted(shared_data.glob("xas/XASDataLibrary_CC0/*/*.xd*")) + sorted(shared_data.glob("xas/xraylarch_MIT/xdi_xmu/*"))
    for path in paths:
        ds = load(path)
        assert np.isfinite(ds.mu.values).all(), path.name
        assert sound(ds)
        assert claims(path), path.name


@pytest.mark.real_data
@pytest.mark.parametrize(
    "pattern", ["echem/**/*.*", "eis/**/*.*", "raman/**/*.txt", "ir/**/*.*", "xrd1d/**/*.*", "qpa/**/*.*", "pdf/**/*.*", "xas/**/*.prj"]
)
def test_claims_nothing_else(shared_data, pattern):
    assert not {p.name: said for p in sorted(shared_data.glob(pattern)) if p.is_file() and (said := claims(p))}
