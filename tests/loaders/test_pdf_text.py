"""Total scattering as text: I(Q), and G(r), F(Q), S(Q) under the headers that programs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzing import only_operando_errors

from operando.contract import LoaderError, canonical, faults
from operando.loaders import claimed_by, pdf_gr, pdf_iq

Q = np.round(np.arange(0.5, 24.0, 0.05), 4)
R = np.round(np.arange(0.01, 20.0, 0.05), 4)
INTENSITY = 100 / (1 + Q) + np.sin(2.4 * Q)
G = np.sin(5 * R) / R


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def rows(*columns: np.ndarray, form: str = "{:.6f}") -> str:
    return "\n".join(" ".join(form.format(x) for x in row) for row in zip(*columns, strict=True)) + "\n"


def sound(ds) -> bool:
    return [f for f in faults(canonical(ds), as_written=True) if "attribute 'loader" not in f and "'options'" not in f] == []


X2 = """History written: Mon Apr 21 20:48:28 2008
####### Get_XPDF #######
##### Data&Background
det#  used  xcol detcol deterrcol xmin  xmax  add_det  mul_det
  0    1    0    1    3    0.600000    35.0000    0.000000    1.00000
  1    1    0    1    3    0.600000    35.0000    0.000000    1.00000
temperature=300.000    containermut=0.000500000
#L symbol valence fractions z user_f1 user_f2 user_macoef
  Si    0.00   0.900000    14   0.000000   0.000000   0.001000
  Ni    0.00   0.100000    28   0.000000   0.000000   0.001000
geometry=2    mut=0.50000000    numberdensity=0.0600000
## S(q)  qmin=0.010000    qmax=27.000000    qgrid=0.000000
## G(r)  rmin=0.010000    rmax=60.000000    rgrid=0.010000
##### start data
#F a.gr
#S 1    {function}
#D
#L {labels}
"""
X3 = """# xPDFsuite Configuration #
[PDF]
wavelength = 0.1836
dataformat = Qnm
inputfile = Ni.chi
backgroundfile = empty.chi
bgscale = 0.83
composition = Ni
qmaxinst = 25.0
qmin = 0.5
qmax = 24.0
rpoly = 0.9

#### start data
#S 1
#L {labels}
"""


# ------------------------------------------------------------------ I(Q)


@pytest.mark.parametrize(
    "header", ["", "#S 1 nickel\n#L Q I(Q)\n", X3.format(labels="Q I"), X2.format(function="I(Q)", labels="Q I(Q) d_Q d_I"), "# q_A^-1 I\n"]
)
def test_intensities_under_any_header(tmp_path: Path, header: str) -> None:
    ds = pdf_iq.load(write(tmp_path / "a.iq", header + rows(Q, INTENSITY)))
    np.testing.assert_allclose(ds.q, Q)
    np.testing.assert_allclose(ds.intensity[0], INTENSITY, atol=1e-6)
    assert ds.attrs["technique"] == "pdf"
    assert sound(ds)
    if "Configuration" in header:
        assert (ds.attrs["q_min"], ds.attrs["q_max"], ds.attrs["composition"], ds.attrs["background_scale"]) == (0.5, 24.0, "Ni", 0.83)
        assert ds.attrs["wavelength"] == 0.1836


def test_units_of_the_axis(tmp_path: Path) -> None:
    nm = pdf_iq.load(write(tmp_path / "a.chi", "# q_nm^-1 I\n" + rows(10 * Q, INTENSITY)))
    np.testing.assert_allclose(nm.q, Q)
    nm = pdf_iq.load(write(tmp_path / "a.iq", rows(10 * Q, INTENSITY)), axis="q_nm")
    np.testing.assert_allclose(nm.q, Q)
    with pytest.raises(LoaderError, match="the unit of q cannot be told"):
        pdf_iq.load(write(tmp_path / "a.iq", rows(10 * Q, INTENSITY)))
    angle = 2 * np.degrees(np.arcsin(Q * 0.2 / 4 / np.pi))
    ds = pdf_iq.load(write(tmp_path / "a.xy", rows(angle, INTENSITY, form="{:.9f}")), wavelength="0.2 angstrom")
    np.testing.assert_allclose(ds.q, Q, rtol=1e-6)
    assert "two_theta" in ds.coords
    with pytest.raises(LoaderError, match="wavelength is not known"):
        pdf_iq.load(write(tmp_path / "a.xy", rows(angle, INTENSITY)))
    with pytest.raises(LoaderError, match="what the axis is cannot be told"):
        pdf_iq.load(write(tmp_path / "a.dat", rows(Q, INTENSITY)))


def test_four_columns_of_pdfgetx2(tmp_path: Path) -> None:
    text = X2.format(function="I(Q)", labels="Q    I(Q)    d_Q    d_I") + rows(Q, INTENSITY, 0 * Q, 0.1 + 0 * Q)
    ds = pdf_iq.load(write(tmp_path / "a.iq", text))
    np.testing.assert_allclose(ds.intensity[0], INTENSITY, atol=1e-6)
    np.testing.assert_allclose(ds.intensity_errors, 0.1)
    assert sound(ds)
    assert list(claimed_by(tmp_path / "a.iq")) == ["pdf-iq"]
    assert "intensity_errors" not in pdf_iq.load(tmp_path / "a.iq", errors_column="none")


def test_errors_are_kept_and_zeros_are_none(tmp_path: Path) -> None:
    ds = pdf_iq.load(write(tmp_path / "a.iq", "#L Q I(Q) dI\n" + rows(Q, INTENSITY, 0.1 + 0 * Q)))
    np.testing.assert_allclose(ds.intensity_errors, 0.1)
    assert sound(ds)
    ds = pdf_iq.load(write(tmp_path / "a.iq", "#L Q I(Q) dI\n" + rows(Q, INTENSITY, 0 * Q)))
    assert "intensity_errors" not in ds
    assert sound(ds)


@pytest.mark.parametrize(("name", "text"), [("a.iq", "#L Q S(Q)\n"), ("a.gr", ""), ("a.dat", X2.format(function="F(Q)", labels="Q F(Q)"))])
def test_other_functions_are_sent_to_the_other_loader(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(LoaderError, match="pdf-gr"):
        pdf_iq.load(write(tmp_path / name, text + rows(Q, INTENSITY)))
    with pytest.raises(LoaderError, match="pdf-iq"):
        pdf_gr.load(write(tmp_path / "a.txt", "#L Q I(Q)\n" + rows(Q, INTENSITY)))


# ------------------------------------------------------------------ G(r), F(Q), S(Q)


@pytest.mark.parametrize(
    ("name", "header", "signal"),
    [
        ("a.gr", "", "g_r"),
        ("a.gr", "#S 1 nickel\n#L r G(r)\n", "g_r"),
        ("a.txt", X3.format(labels=r"r($\AA$)  G($\AA^{-2}$)"), "g_r"),
        ("a.dat", X2.format(function="G(r)", labels="r    G(r)    d_r    d_Gr"), "g_r"),
        ("a.fq", X3.format(labels="Q F"), "f_q"),
        ("a.fq", "", "f_q"),
        ("a.sq", "#T S(Q) of a sample\n#L Q     S(Q)\n", "s_q"),
        ("a.dat", "#T sample G(R)\n#L R     G(R)\n", "g_r"),
        ("a.dat", "# S(Q)\n#L Q S(Q)\n", "s_q"),
    ],
)
def test_functions_under_the_headers_of_their_programs(tmp_path: Path, name: str, header: str, signal: str) -> None:
    path = write(tmp_path / name, header + rows(R, G))
    ds = pdf_gr.load(path)
    axis = "r" if signal == "g_r" else "q"
    np.testing.assert_allclose(ds[axis], R)
    np.testing.assert_allclose(ds[signal][0], G, atol=1e-6)
    assert ds[signal].attrs["units"] == {"g_r": "1/angstrom^2", "f_q": "1/angstrom", "s_q": "1"}[signal]
    assert sound(ds)
    assert list(claimed_by(path)) == ["pdf-gr"]


def test_columns_of_errors(tmp_path: Path) -> None:
    sigma = 0.01 + 0.001 * R
    four = X2.format(function="G(r)", labels="r    G(r)    d_r    d_Gr") + rows(R, G, -0.75 * R, sigma)
    ds = pdf_gr.load(write(tmp_path / "a.gr", four))
    np.testing.assert_allclose(ds.g_r_errors[0], sigma, atol=1e-6)
    assert ds.attrs["composition"] == "Si0.9Ni0.1"
    assert (ds.attrs["number_density"], ds.attrs["q_max"], ds.attrs["header_temperature"]) == (0.06, 27.0, 300.0)
    np.testing.assert_allclose(pdf_gr.load(write(tmp_path / "a.gr", rows(R, G, 0 * R, sigma))).g_r_errors[0], sigma, atol=1e-6)
    np.testing.assert_allclose(pdf_gr.load(write(tmp_path / "a.gr", rows(R, G, sigma))).g_r_errors[0], sigma, atol=1e-6)
    assert "g_r_errors" not in pdf_gr.load(write(tmp_path / "a.gr", rows(R, G, -R)))
    assert "g_r_errors" not in pdf_gr.load(write(tmp_path / "a.gr", rows(R, G, 0 * R, 0 * R)))
    assert "g_r_errors" not in pdf_gr.load(write(tmp_path / "a.gr", four), errors_column="none")
    with pytest.raises(LoaderError, match="errors are negative"):
        pdf_gr.load(write(tmp_path / "a.gr", rows(R, G, 0 * R, -sigma)))


def test_rows_may_lack_their_errors_but_not_their_values(tmp_path: Path) -> None:
    text = rows(R[:200], G[:200], 0 * R[:200], 0.1 + 0 * R[:200]) + rows(R[200:], G[200:])
    ds = pdf_gr.load(write(tmp_path / "a.gr", "#S 1 silicon\n#L r G(r)\n" + text))
    assert ds.sizes["r"] == R.size
    assert np.isfinite(ds.g_r_errors[0, :200]).all()
    assert np.isnan(ds.g_r_errors[0, 200:]).all()
    whole = rows(R, G, 0 * R, 0.1 + 0 * R)
    with pytest.raises(LoaderError):
        pdf_gr.load(write(tmp_path / "a.gr", whole[:-15]))  # the last row is half written


def test_functions_of_rmcprofile_are_keens(tmp_path: Path) -> None:
    head = "  {n}\nsome sample                          mutli by  0.2759\n"
    ds = pdf_gr.load(write(tmp_path / "some_fq.dat", head.format(n=Q.size) + rows(Q, 0.2759 * np.sin(Q))))
    np.testing.assert_allclose(ds.s_q[0], 1 + np.sin(Q), atol=1e-5)
    text = head.format(n=R.size) + rows(R, 0.2759 * np.sin(R), form="{:.9f}")
    path = write(tmp_path / "some_gr.dat", text)
    ds = pdf_gr.load(path)
    np.testing.assert_allclose(ds.g_r[0], R * np.sin(R), atol=1e-5)
    assert ds.g_r.attrs["units"] == "angstrom"
    ds = pdf_gr.load(path, density=0.05)
    np.testing.assert_allclose(ds.g_r[0], 4 * np.pi * 0.05 * R * np.sin(R), atol=1e-5)
    assert ds.g_r.attrs["units"] == "1/angstrom^2"
    bare = write(tmp_path / "bare_gr.dat", f"{R.size}\nsample\n" + rows(R, np.sin(R)))
    assert pdf_gr.load(bare).g_r.attrs["units"] == "barn*angstrom"
    np.testing.assert_allclose(pdf_gr.load(bare, function="gr").g_r[0], np.sin(R), atol=1e-5)
    np.testing.assert_allclose(pdf_gr.load(bare, mean_b_squared=0.5).g_r[0], 2 * R * np.sin(R), atol=1e-4)
    with pytest.raises(LoaderError, match="number of points does not fit"):
        pdf_gr.load(write(tmp_path / "short_gr.dat", f"{R.size + 1}\nsample\n" + rows(R, np.sin(R))))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (rows(R[::-1], G), {}, "r does not rise"),
        (rows(R - 1, G), {}, "r is negative"),
        (rows(R, np.nan * G), {}, "is a number|no block"),
        (rows(R, G), {"function": "pq"}, "function: is not known"),
        (rows(R, G), {"axis": "q"}, "does not fit the function"),
        (rows(R, G), {"value_column": 1}, "is the axis"),
        (rows(R, G), {"errors_column": 5}, "no column 5"),
        (rows(R, G), {"function": "keen_gr", "mean_b_squared": -1}, "no positive number"),
        (rows(10 * R, G), {"function": "sq"}, "q is not in 1/angstrom"),
        ("words\n", {}, "no block"),
    ],
)
def test_what_is_no_function_is_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        pdf_gr.load(write(tmp_path / "a.gr", text), **options)


def test_what_it_is_must_be_said_where_nothing_tells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", rows(R, G))
    with pytest.raises(LoaderError, match="cannot be told"):
        pdf_gr.load(path)
    assert "g_r" in pdf_gr.load(path, function="gr")
    assert not claimed_by(path).keys() & {"pdf-gr", "pdf-iq"}
    np.testing.assert_allclose(pdf_gr.load(path, function="gr", axis="r_nm").r, 10 * R)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    for seed, (load, name, text) in enumerate(
        [
            (pdf_iq.load, "a.iq", "#L Q I(Q)\n" + rows(Q, INTENSITY, 0.1 + 0 * Q)),
            (pdf_iq.load, "b.iq", X2.format(function="I(Q)", labels="Q I(Q) d_Q d_I") + rows(Q, INTENSITY)),
            (pdf_gr.load, "a.gr", X2.format(function="G(r)", labels="r G(r) d_r d_Gr") + rows(R, G, -R, 0.1 + 0 * R)),
            (pdf_gr.load, "a.fq", X3.format(labels="Q F") + rows(Q, np.sin(Q))),
            (pdf_gr.load, "a_gr.dat", f"{R.size}\nmulti by 0.2759\n" + rows(R, G)),
        ]
    ):
        assert only_operando_errors(load, tmp_path / name, text.encode(), seed=seed)
        assert not only_operando_errors(lambda path: (pdf_iq.claims(path), pdf_gr.claims(path)), tmp_path / name, text.encode(), seed=seed)


@pytest.mark.parametrize("text", ["1" * 300_000, "#S 1 " + "x" * 300_000, "#### start data\n" * 20_000, "99999999\nq\n1 2\n", "[" * 200_000])
def test_odd_headers_are_answered_at_once(tmp_path: Path, text: str) -> None:
    import time

    begin = time.process_time()
    for load in (pdf_iq.load, pdf_gr.load):
        with pytest.raises(LoaderError):
            load(write(tmp_path / "a.gr", text))
    assert time.process_time() - begin < 5


# ------------------------------------------------------------------ measured files


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n", "last", "errors"),
    [
        ("diffpy_cmi_BSD3/Ni_standard/Ni.gr", 6001, 0.0219913, False),
        ("diffpy_cmi_BSD3/si_ni_two_phase/ni.gr", 5999, 0.060812451, False),
        ("diffpy_cmi_BSD3/si_ni_two_phase/si.gr", 5999, 0.037983809, False),
        ("pdfgui_BSD/Ni_2-8.chi.gr", 2000, -3.32687, True),
        ("srfit_BSD/si90ni10-q27r60-xray.gr", 5999, 0.02468042, True),
    ],
)
def test_measured_g_of_r(shared_data: Path, name: str, n: int, last: float, errors: bool) -> None:
    ds = pdf_gr.load(shared_data / "pdf" / name)
    assert ds.sizes["r"] == n
    assert float(ds.g_r[0, -1]) == pytest.approx(last)
    assert ("g_r_errors" in ds) is errors
    assert sound(ds)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "n"), [("diffpy_cmi_BSD3/si_ni_two_phase/ni.iq", 2587), ("srfit_BSD/ni.iq", 2464)])
def test_measured_intensities(shared_data: Path, name: str, n: int) -> None:
    ds = pdf_iq.load(shared_data / "pdf" / name)
    assert ds.sizes["q"] == n
    assert sound(ds)
