from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzzing import only_operando_errors

from operando.contract import LoaderError, canonical, faults
from operando.loaders.xrd_1d import claims, load

ANGLES = np.round(np.arange(10, 40, 0.5), 6)
COUNTS = (1000 + 500 * np.sin(ANGLES)).astype(int)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(separator: str = " ", *, decimal: str = ".", y: str = "{:d}", columns: int = 2) -> str:
    out = []
    for angle, count in zip(ANGLES, COUNTS, strict=True):
        fields = [f"{angle:.4f}", y.format(count), f"{np.sqrt(count):.4f}"][:columns]
        out.append(separator.join(field.replace(".", decimal) for field in fields))
    return "\n".join(out) + "\n"


def sound(ds) -> bool:
    ds = canonical(ds)
    return [f for f in faults(ds, as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


@pytest.mark.parametrize(
    ("separator", "decimal", "ending"),
    [
        (" ", ".", "\n"),
        ("\t", ".", "\r\n"),
        (",", ".", "\n"),
        (", ", ".", "\r"),
        (";", ",", "\n"),
        ("\t", ",", "\n"),
        ("  ", ",", "\n"),
        (";", ".", "\n"),
    ],
)
def test_separators_and_decimal_signs(tmp_path, separator, decimal, ending):
    text = "\n".join("  " * (separator == "  ") + line for line in rows(separator, decimal=decimal).split("\n"))
    ds = load(write(tmp_path / "a.xy", text.replace("\n", ending)))
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    assert ds.intensity.dtype == np.int64
    assert ds.intensity.units == "counts"
    assert ds.attrs["time_origin"] == "counter"
    assert sound(ds)


@pytest.mark.parametrize(
    "header",
    ["", "# anything\n", "/* a\n# b = 3\n*/\n", '\'Id: "x" Comment: ""\n', "! x\n; y\n% z\n", "Some words\n\nmore words 3\n", "\ufeff# marked\n"],
)
def test_headers(tmp_path, header):
    ds = load(write(tmp_path / "a.xye", header + rows(columns=3)))
    np.testing.assert_allclose(ds.intensity_errors[0], np.sqrt(COUNTS), atol=1e-4)
    assert ds.intensity.attrs["ancillary_variables"] == "intensity_errors"
    assert sound(ds)


@pytest.mark.parametrize(
    ("label", "axis", "factor"),
    [
        ("# 2th_deg  I", "two_theta", 1),
        ("# two_theta I", "two_theta", 1),
        ("2theta intensity", "two_theta", 1),
        ("# q_nm^-1  I", "q", 0.1),
        ("# q_A^-1  I", "q", 1),
        ("# Q(A-1) I", "q", 1),
        ("theta I", "two_theta", 1),
        ("# 2th_rad  I", "two_theta", 180 / np.pi),
    ],
)
def test_the_label_names_the_axis(tmp_path, label, axis, factor):
    scale = 0.01 if "rad" in label else 1.0
    text = "\n".join(f"{a * scale:.10f} {c}" for a, c in zip(ANGLES, COUNTS, strict=True))
    ds = load(write(tmp_path / "a.dat", f"{label}\n{text}\n"))
    assert ds.intensity.dims == ("time", axis)
    np.testing.assert_allclose(ds[axis], ANGLES * scale * factor)


def test_an_unlabelled_axis_that_may_be_q_is_refused(tmp_path):
    path = write(tmp_path / "a.dat", rows())
    with pytest.raises(LoaderError, match="axis: two_theta"):
        load(path)
    assert load(path, axis="two_theta").sizes["two_theta"] == ANGLES.size
    np.testing.assert_allclose(load(path, axis="theta").two_theta, 2 * ANGLES)
    np.testing.assert_allclose(load(path, axis="q_nm").q, ANGLES / 10)
    np.testing.assert_allclose(load(path, axis="d").q, 2 * np.pi / ANGLES)
    assert claims(path) is None


def test_q_without_its_unit_is_refused(tmp_path):
    with pytest.raises(LoaderError, match="axis:"):
        load(write(tmp_path / "a.dat", "# q I\n" + rows()))


@pytest.mark.parametrize("given", ["0.4133 angstrom", "0.04133 nm", "41.33 pm", f"{12.398419843320026 / 0.4133!r} keV"])
def test_wavelength_makes_q_and_keeps_two_theta(tmp_path, given):
    ds = load(write(tmp_path / "a.xy", rows()), wavelength=given)
    np.testing.assert_allclose(ds.q, 4 * np.pi * np.sin(np.radians(ANGLES) / 2) / 0.4133)
    np.testing.assert_array_equal(ds.two_theta, ANGLES)
    assert ds.two_theta.dims == ("q",)
    assert ds.attrs["wavelength"] == pytest.approx(0.4133)
    assert sound(ds)


@pytest.mark.parametrize("given", ["0.4133", "3 V", "0 keV", "1 km", ""])
def test_a_wavelength_without_sense_is_refused(tmp_path, given):
    with pytest.raises(LoaderError, match="wavelength"):
        load(write(tmp_path / "a.xy", rows()), wavelength=given)


def test_fit2d_chi_and_its_count(tmp_path):
    body = rows()
    text = f"image.tif\n2-Theta Angle (Degrees)\nIntensity\n        {ANGLES.size}\n{body}"
    path = write(tmp_path / "a.chi", text)
    assert load(path).sizes["two_theta"] == ANGLES.size
    assert claims(path)
    with pytest.raises(LoaderError, match="number of points"):
        load(write(tmp_path / "b.chi", "\n".join(text.split("\n")[:-20])))
    q = write(tmp_path / "c.chi", text.replace("2-Theta Angle (Degrees)", "Q (inverse nm)"))
    np.testing.assert_allclose(load(q).q, ANGLES / 10)


def test_start_step_end(tmp_path):
    numbers = "\n".join(" ".join(f"{c:6d}" for c in COUNTS[i : i + 10]) for i in range(0, COUNTS.size, 10))
    ds = load(write(tmp_path / "a.dat", f"{ANGLES[0]} 0.5 {ANGLES[-1]}  Some Title here\n{numbers}\n"))
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    plain = load(write(tmp_path / "b.dat", f"{ANGLES[0]} 0.5 {ANGLES[-1]}\n{numbers}\n"))
    np.testing.assert_allclose(plain.two_theta, ANGLES)


def test_gsas_banks(tmp_path):
    body = "\n".join(f"{a * 100:.3f} {c:.3f} {c**0.5:.3f}" for a, c in zip(ANGLES, COUNTS, strict=True))
    head = f"title\n# Calibrated wavelength = 0.4133\nBANK 1 {ANGLES.size} {ANGLES.size} CONS 1000 50 0 0 "
    np.testing.assert_allclose(load(write(tmp_path / "a.fxye", f"{head}FXYE\n{body}\n")).two_theta, ANGLES)
    with pytest.raises(LoaderError, match="another kind.*time of flight"):
        load(write(tmp_path / "b.gsa", f"{head.replace('CONS', 'SLOG')}FXYE\n{body}\n"))
    with pytest.raises(LoaderError, match="does not fit"):
        load(write(tmp_path / "c.fxye", f"{head}FXYE\n" + "\n".join(body.split("\n")[:-2])))


def test_gsas_fixed_fields(tmp_path):
    counts = [COUNTS[i : i + 10] for i in range(0, COUNTS.size, 10)]
    std = "\n".join("".join(f"{2 if i else 1:2d}{c:6d}" if i % 2 else f"{c:8d}" for i, c in enumerate(row)) for row in counts)
    head = f"title\nBANK 1 {COUNTS.size} {len(counts)} CONST 1000.0 50.0 0 0"
    for tail in (" STD", ""):
        path = write(tmp_path / "a.gsas", f"{head}{tail}\n{std}\n")
        ds = load(path)
        assert "STD" in claims(path) if tail else True
        np.testing.assert_allclose(ds.two_theta, ANGLES)
        np.testing.assert_array_equal(ds.intensity[0], COUNTS)
        np.testing.assert_allclose(ds.intensity_errors[0, 0], COUNTS[0] ** 0.5)
        np.testing.assert_allclose(ds.intensity_errors[0, 1], (COUNTS[1] / 2) ** 0.5)
        assert ds.intensity.dtype == np.int64
    pairs = [(f"{c:8.1f}{c / 10:8.1f}") for c in COUNTS]
    esd = "\n".join("".join(pairs[i : i + 5]) for i in range(0, len(pairs), 5))
    ds = load(write(tmp_path / "b.gsa", f"{head} ESD\n{esd}\n"))
    np.testing.assert_allclose(ds.intensity_errors[0], np.round(COUNTS / 10, 1))
    with pytest.raises(LoaderError, match="does not fit"):
        load(write(tmp_path / "c.gsa", f"{head} ESD\n" + "\n".join(esd.split("\n")[:-1])))


def test_uxd(tmp_path):
    head = "_FILEVERSION=2\n_DATEMEASURED='04-Mar-2010 20:59:14'\n_WL1=1.540600\n_WL2=1.544390\n_WLRATIO=0.500000\n_DRIVE='COUPLED'\n_STEPTIME=2\n"
    path = write(tmp_path / "a.uxd", f"{head}_STEPSIZE=0.5\n_2THETA=10\n_2THETACOUNTS\n" + rows())
    ds = load(path)
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    assert ds.attrs["wavelength"] == 1.5406
    assert ds.attrs["ratio_k_alpha_2"] == 0.5
    assert str(ds.stamp.values)[:19] == "2010-03-04T20:59:14"
    assert float(ds.exposure[0]) == 2 * ANGLES.size
    assert "UXD" in claims(path)
    counts = "\n".join(" ".join(map(str, COUNTS[i : i + 7])) for i in range(0, COUNTS.size, 7))
    ds = load(write(tmp_path / "b.uxd", f"{head}_START=10\n_STEPSIZE=0.5\n_STEPCOUNT={COUNTS.size}\n_COUNTS\n{counts}\n"))
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    with pytest.raises(LoaderError, match="several ranges"):
        load(write(tmp_path / "c.uxd", path.read_text() + "_2THETACOUNTS\n" + rows()))
    with pytest.raises(LoaderError, match="no 2theta scan"):
        load(write(tmp_path / "d.uxd", path.read_text().replace("COUPLED", "THETA")))


@pytest.mark.parametrize(
    ("start", "end", "told"), [("07/30/19 10:25:43", "07/30/19 10:26:43", True), ("02/03/19 10:25:43", "02/03/19 10:26:43", False)]
)
def test_ras(tmp_path, start, end, told):
    head = f'*RAS_DATA_START\n*HW_XG_WAVE_LENGTH_ALPHA1 "1.540593"\n*MEAS_SCAN_AXIS_X "TwoThetaTheta"\n*MEAS_SCAN_START_TIME "{start}"\n'
    head += f'*MEAS_SCAN_END_TIME "{end}"\n*MEAS_SCAN_UNIT_Y "counts"\n*MEAS_DATA_COUNT "{ANGLES.size}"\n*RAS_INT_START\n'
    body = "\n".join(f"{a:.4f} {c} {2 if i == 3 else 1}.0000" for i, (a, c) in enumerate(zip(ANGLES, COUNTS, strict=True)))
    path = write(tmp_path / "a.ras", f"{head}{body}\n*RAS_INT_END\n*RAS_DATA_END\n")
    ds = load(path)
    assert "RAS" in claims(path)
    assert float(ds.intensity[0, 3]) == 2 * COUNTS[3]
    assert float(ds.attenuation[0, 3]) == 2
    assert "intensity_errors" not in ds
    assert ds.intensity.attrs["units"] == "counts"
    assert ds.attrs["wavelength"] == 1.540593
    assert ("stamp" in ds.coords) is told
    assert not told or float(ds.exposure[0]) == 60
    with pytest.raises(LoaderError, match="cut short"):
        load(write(tmp_path / "b.ras", head + body))


def test_grid_with_errors_and_a_footer(tmp_path):
    lines = ["title", "lambda=  1.494, T= 2", f"10.0 0.5 {ANGLES[-1]:.1f} 18000., sample='x'"]
    for values in (COUNTS, COUNTS / 10):
        lines += [" ".join(f"{v:.0f}." for v in values[i : i + 10]) for i in range(0, values.size, 10)]
    ds = load(write(tmp_path / "a.dat", "\n".join([*lines, "Filelist='a/b'", "sample moved 3 times"])))
    np.testing.assert_allclose(ds.intensity[0], COUNTS)
    np.testing.assert_allclose(ds.intensity_errors[0], np.round(COUNTS / 10), atol=0.51)


@pytest.mark.parametrize(("third", "error"), [(lambda c: c + 1, False), (lambda c: c**0.5, True), (lambda c: 1.0 + 0 * c, False)])
def test_an_unlabelled_third_column_as_large_as_the_intensity_is_no_error(tmp_path, third, error):
    body = "\n".join(f"{a} {c + 100} {third(c + 100):.3f}" for a, c in zip(ANGLES, COUNTS, strict=True))
    ds = load(write(tmp_path / "a.xy", body))
    assert ("intensity_errors" in ds) is error
    assert ("column_3" in ds) is not error
    assert "intensity_errors" in load(write(tmp_path / "a.xye", body))


def test_csv_of_scan_points(tmp_path):
    head = "[Measurement conditions]\nAnode material,Cu\nK-Alpha1 wavelength,1.5405980\nK-Alpha2 wavelength,1.5444260\nRatio K-Alpha2/K-Alpha1,0.5\n"
    body = "\n".join(f"{a},12.5,{c},{c**0.5:.4f}" for a, c in zip(ANGLES, COUNTS, strict=True))
    path = write(tmp_path / "a.csv", f"{head}[Scan points]\nAngle,TimePerStep,Intensity,ESD\n{body}\n")
    ds = load(path)
    assert claims(path)
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    np.testing.assert_allclose(ds.intensity_errors[0], COUNTS**0.5, atol=1e-4)
    assert ds.attrs["wavelength"] == 1.540598
    assert ds.attrs["wavelength_k_alpha_2"] == 1.544426


@pytest.mark.parametrize("header", ["[Data]\nAngle,       PSD,\n", '"2theta","I"\n', "Winkel,Impulse\n"])
def test_commas_at_the_end_and_quotes(tmp_path, header):
    quote = '"' if header.startswith('"') else ""
    path = write(tmp_path / "a.txt", header + "".join(f"{quote}{a}{quote},{quote}{c}{quote},\n" for a, c in zip(ANGLES, COUNTS, strict=True)))
    ds = load(path)
    np.testing.assert_allclose(ds.two_theta, ANGLES)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    assert claims(path)


def test_photoelectron_spectra_are_no_patterns(tmp_path):
    path = write(tmp_path / "a.xy", "# Created by: SpecsLab2\n# Energy Axis: Kinetic Energy\n" + rows())
    assert claims(path) is None
    with pytest.raises(LoaderError, match="axis"):
        load(path)


def test_dates_and_words_beside_the_numbers(tmp_path):
    body = "\n".join(f"0 {a} {c} 07/07/2022 19:15:30" for a, c in zip(ANGLES, COUNTS, strict=True))
    path = write(tmp_path / "a.dat", f"imagenum twotheta intensity date time\n{body}\nEND OF DATA\n")
    ds = load(path)
    np.testing.assert_array_equal(ds.intensity[0], COUNTS)
    assert claims(path)
    with pytest.raises(LoaderError):
        load(write(tmp_path / "b.dat", path.read_text() + "40 41\n"))


def test_times_by_pattern(tmp_path):
    path = write(tmp_path / "a.xy", "# started 03/06/2026 10:00:05\n# counted 30 s, sample at 21.5 C\n" + rows())
    ds = load(
        path,
        header_time=r"started (?P<start>.*)",
        time_format="%d/%m/%Y %H:%M:%S",
        header_exposure=r"counted (\S+) s",
        header_values={"temperature": {"pattern": r"at ([\d.]+) C", "units": "degC"}, "absent": "nothing ([0-9])"},
    )
    assert str(ds.time.values[0]) == "2026-06-03T10:00:20.000000000"
    assert ds.exposure.values == [30.0]
    assert (ds.temperature.values, ds.temperature.units) == ([21.5], "degC")
    assert np.isnan(ds.absent.values[0])
    assert ds.attrs["timezone_source"] == "none"
    assert ds.attrs["time_uncertainty_s"] == pytest.approx(1 / 12**0.5)
    with pytest.raises(LoaderError, match="one way only"):
        load(path, header_time=r"started (?P<start>.*)")
    with pytest.raises(LoaderError, match="finds nothing"):
        load(path, header_time="began (.*)")
    with pytest.raises(LoaderError, match="regular expression"):
        load(path, header_time="began (")


def test_columns_by_label(tmp_path):
    body = "\n".join(f"{i},{a},{c},{c / 2},{c**0.5}" for i, (a, c) in enumerate(zip(ANGLES, COUNTS, strict=True)))
    with pytest.raises(LoaderError, match="x_column"):
        load(write(tmp_path / "c.csv", "n,a,b,background,esd\n" + body))
    path = write(tmp_path / "a.csv", "n,angle,counts,background,esd\n" + body)
    assert load(path).intensity_errors.equals(load(path, x_column=2, intensity_column=3, errors_column=5).intensity_errors)
    ds = load(path, x_column="angle", intensity_column="counts", errors_column=5)
    np.testing.assert_allclose(ds.intensity_errors[0], COUNTS**0.5)
    np.testing.assert_allclose(ds.background[0], COUNTS / 2)
    with pytest.raises(LoaderError, match="no column is labelled"):
        load(path, x_column="angel", intensity_column="counts")
    third = write(tmp_path / "b.xy", "two_theta counts background\n" + rows(columns=3))
    assert "intensity_errors" not in load(third)
    assert "background" in load(third)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("hello\nworld\n", "no block"),
        (rows() + "5 3\n", "monotonic at point 61"),
        (rows() + "41 abc\n", "line 61 holds 'abc'"),
        (rows() + "41\n", "line 61 has 1 fields"),
        ("10 nan\n11 nan\n12 nan\n", "no intensity"),
        ("170 3\n190 3\n", "cannot be told"),
        (rows(columns=3).replace(f"{np.sqrt(COUNTS[3]):.4f}", "-3.0"), "negative"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(LoaderError, match=message) as caught:
        load(write(tmp_path / "a.xy", text))
    assert "a.xy" in str(caught.value)


def test_descending_angles_stay(tmp_path):
    ds = load(write(tmp_path / "a.xy", "\n".join(reversed(rows().strip().split("\n")))))
    np.testing.assert_allclose(ds.two_theta, ANGLES[::-1])


@pytest.mark.parametrize("line", ["1" * 200_000 + "x", " " * 200_000 + "x", "#" * 200_000, "1 " * 100_000, "# wavelength " + "9" * 200_000])
def test_endless_lines_end(tmp_path, line):
    ds = load(write(tmp_path / "a.xy", f"# {line}\n" + rows()))
    assert ds.sizes["time"] == 1
    with pytest.raises(LoaderError):
        load(write(tmp_path / "b.xy", f"{line}\n"))


def test_fuzz(tmp_path):
    chi = f"image.tif\n2-Theta Angle (Degrees)\nIntensity\n {ANGLES.size}\n{rows()}"
    grid = "SampleIdent x\nAnode Cu Alpha1 1.54056 Alpha2 1.54439 Ratio 0.5\n 10.0 0.5 39.5 MeasureDateTime 20/12/1997 10:51 StepTime 3.0\n"
    grid += "\n".join(" ".join(f"{c:6d}" for c in COUNTS[i : i + 10]) for i in range(0, COUNTS.size, 10))
    for i, text in enumerate((rows(columns=3), chi, grid)):
        assert only_operando_errors(load, tmp_path / "a.xye", text.encode(), seed=i)


# ------------------------------------------------------------------ measured files


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "axis", "n", "first", "last", "errors"),
    [
        ("xrd1d/datalab_MIT/example_bmb.xye", "q", 575, 0.5, None, True),
        ("xrd1d/datalab_MIT/example_mac.xye", "two_theta", 599, 0.0, 0.598, True),
        ("xrd1d/datalab_MIT/example_ocx.xy", "two_theta", 1876, 5.0, 80.0, False),
        ("xrd1d/scimap_GPL3/corundum.xye", "two_theta", 6851, 10.0001001358032, 80.0060510728508, True),
        ("xrd2d/dioptas_GPL3/CeO2_Pilatus1M.xy", "q", 1512, 1.019698551e-02, 3.082548718e01, False),
        ("pdf/labpdfproc_BSD/CeO2_635um_accum_0.xy", "two_theta", 5631, 2.00009989738464, None, False),
        ("qpa/iucr_cpd_qarr/cpd-1e.dat", "q", 7251, 5.0, 150.0, False),
        ("qpa/dara_precursor_mixture/extra/CaNi(PO3)4_800_240_Ca(OH)2_(NH4)2HPO4_NiO.xy", "two_theta", 8301, 9.90343322, 100.09488522, False),
    ],
)
def test_measured_patterns(shared_data, name, axis, n, first, last, errors):
    ds = load(shared_data / name)
    assert ds.intensity.dims == ("time", axis)
    assert ds.sizes[axis] == n
    assert float(ds.two_theta[0]) == pytest.approx(first, abs=1e-12)
    if last is not None:
        assert float(ds.two_theta[-1]) == pytest.approx(last, abs=1e-9)
    assert ("intensity_errors" in ds) == errors
    assert sound(ds)
    assert claims(shared_data / name)


@pytest.mark.real_data
def test_cpd_header(shared_data):
    ds = load(shared_data / "qpa/iucr_cpd_qarr/cpd-1a.dat")
    assert ds.intensity.dtype == np.int64
    assert ds.intensity.values[0, :3].tolist() == [153, 161, 141]
    assert ds.intensity.values[0, -1] == 21
    assert str(ds.stamp.values) == "1997-12-20T10:51:00.000000000"
    assert ds.exposure.values == [21753.0]  # 7251 steps of 3 s: the next sample starts 6 h 27 min later
    assert (ds.attrs["wavelength"], ds.attrs["wavelength_k_alpha_2"]) == (1.54056, 1.54439)


@pytest.mark.real_data
def test_an_unlabelled_dat_from_2_to_5_is_refused(shared_data):
    path = shared_data / "xrd1d/datalab_MIT/example_mythen.dat"
    with pytest.raises(LoaderError, match="axis:"):
        load(path)
    assert load(path, axis="two_theta").sizes["two_theta"] == 730


@pytest.mark.real_data
def test_a_temperature_series_of_11bm(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "xrd1d/gsas2_SeqTut/SeqTut.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".fxye"))
        archive.extractall(tmp_path, names)
    options = {"header_values": {"temperature": {"pattern": r"Temp \(K\) =\s*([-\d.]+)", "units": "K"}}}
    many = [load(tmp_path / name, **options) for name in names]
    assert len(many) == 17
    assert {ds.sizes["q"] for ds in many} == {12799}
    assert {ds.attrs["wavelength"] for ds in many} == {0.413263}
    begins = np.array([ds.stamp.values for ds in many])
    assert (np.diff(begins) > np.timedelta64(200, "s")).all()  # 205 s scans
    assert {float(ds.exposure[0]) for ds in many} == {205.0}
    assert (np.diff([float(ds.temperature[0]) for ds in many]) > 0).all()
    assert all(claims(tmp_path / name) for name in names)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "pattern", ["echem/**/*.*", "eis/**/*.*", "raman/**/*.txt", "ir/**/*.*", "xas/**/*.*", "pdf/**/*.gr", "pdf/**/*.iq", "multimodal/**/*.txt"]
)
def test_claims_nothing_else(shared_data, pattern):
    wrong = {p.name: said for p in sorted(shared_data.glob(pattern)) if p.is_file() and (said := claims(p))}
    assert not wrong


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_last_number_cut_short_is_not_taken_for_another(tmp_path: Path, kept: int) -> None:
    """`10.583` that became `10.5` when the disk was full looks like a number; the rows before it tell."""
    rows = [f"{5 + 0.1 * k:.3f} {100 + 7.123 * k:.3f} {10 + 0.053 * k:.3f}" for k in range(40)]
    path = tmp_path / "a.xye"
    path.write_text("\n".join(rows))
    assert load(path).sizes["two_theta"] == 40, "no final line end alone is no fault"
    path.write_text("\n".join(rows)[:-kept])
    with pytest.raises(LoaderError, match="cut short"):
        load(path)
