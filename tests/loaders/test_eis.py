"""Impedance files: every measured one opens or is refused with its reason, and one spectrum gives the same numbers in every format."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import operando as op
from operando.contract import LoaderError, OperandoError, faults
from operando.loaders import biologic_eis, claimed_by, concatenate, eis_columns, gamry, get_loader, load_file, zplot
from operando.loaders.sweeps import Points, causal_sign, eis_series, sweep_bounds
from operando.reduction.impedance import Circuit

FREQUENCY = np.geomspace(1e5, 0.1, 31)
Z = Circuit.parse("R0-p(R1,CPE1)-p(R2,CPE2)").impedance(np.array([4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85]), FREQUENCY)
DONE = np.cumsum(np.maximum(0.5, 2.1 / FREQUENCY))


# --------------------------------------------------------------------------- sweeps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(5, 40), st.booleans(), st.floats(0.5, 4.0)), min_size=1, max_size=6), st.integers(0, 5))
def test_sweeps_are_found_again(sweeps: list[tuple[int, bool, float]], rest: int) -> None:
    parts, wanted, at = [], [], 0
    for n, up, decades in sweeps:
        f = np.geomspace(1e4, 1e4 / 10**decades, n)
        f = f[::-1] if up else f
        if parts and rest == 0:  # without a rest, only a jump tells where one ends
            steps = np.abs(np.diff(np.log(np.concatenate([parts[-1], f]))))
            back = (f[0] - parts[-1][-1]) * (parts[-1][1] - parts[-1][0]) < 0
            if not back or steps[parts[-1].size - 1] < max(0.5, 2.5 * steps.max(initial=0.0, where=np.arange(steps.size) != parts[-1].size - 1)):
                continue
        parts += [np.zeros(rest), f]
        wanted.append((at + rest, at + rest + n))
        at += rest + n
    assert sweep_bounds(np.concatenate(parts)) == wanted


def test_wobbles_and_repeated_frequencies_are_no_sweeps() -> None:
    f = np.geomspace(1e4, 1, 41)
    f[20], f[21] = f[21], f[20]
    assert sweep_bounds(f) == [(0, 41)]
    assert sweep_bounds(np.insert(f, 10, f[10])) == [(0, 42)]
    assert sweep_bounds(np.concatenate([f, f])) == [(0, 41), (41, 82)]
    assert sweep_bounds(np.full(5, 100.0), np.array([0, 0, 1, 1, 2])) == [(0, 2), (2, 4), (4, 5)]
    assert sweep_bounds(np.array([0.0, np.nan])) == []
    assert sweep_bounds(np.array([10.0])) == [(0, 1)]


def test_a_sweep_that_stops_short_is_interrupted_and_none_is_interpolated() -> None:
    frequency = np.concatenate([FREQUENCY, FREQUENCY, FREQUENCY[:20]])
    z = np.concatenate([Z, 2 * Z, 3 * Z[:20]])
    elapsed = np.concatenate([DONE, DONE + 100, DONE[:20] + 200])
    ds = eis_series("x.z", Points(frequency, z, elapsed=elapsed), start="2026-06-03T10:00:00+02:00")
    assert ds.n_points.values.tolist() == [31, 31, 20]
    assert ds.quality.values.tolist() == [0, 0, 8]
    np.testing.assert_array_equal(ds.impedance.values[2, :20], 3 * Z[:20])
    assert np.isnan(ds.impedance.values[2, 20:]).all()
    assert np.isnan(ds.frequency.values[2, 20:]).all()
    begin = ds.time.values[1] - np.timedelta64(round(ds.exposure.values[1] * 5e8), "ns")
    late = (begin - np.datetime64("2026-06-03T08:00:00")) / np.timedelta64(1, "s")
    assert late == pytest.approx(100 + DONE[0] - 0.5, abs=1e-6), "the first point took what the second did"
    assert ds.exposure.values[1] == pytest.approx(DONE[-1] - DONE[0] + 0.5)


def test_causality_tells_the_sign() -> None:
    assert causal_sign(FREQUENCY, Z) > 0.9
    assert causal_sign(FREQUENCY[::-1], Z.conj()[::-1]) < -0.9
    assert causal_sign(FREQUENCY[:3], Z[:3]) == 0.0


def test_unequal_sweeps_are_joined_by_padding() -> None:
    some = [
        eis_series(f"{n}.z", Points(FREQUENCY[:n], Z[:n], elapsed=DONE[:n]), start=f"2026-06-03T1{k}:00:00+02:00") for k, n in enumerate((31, 12, 20))
    ]
    joined = concatenate(some)
    assert joined.impedance.shape == (3, 31)
    assert joined.n_points.values.tolist() == [31, 12, 20]
    assert np.isnan(joined.frequency.values[1, 12:]).all()
    np.testing.assert_array_equal(joined.impedance.values[2, :20], Z[:20])


# --------------------------------------------------------------------------- one spectrum in every format


def as_mpt(path: Path, decimal: str = ".") -> None:
    names = ["freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm", "|Z|/Ohm", "Phase(Z)/deg", "time/s", "<Ewe>/V", "<I>/mA", "cycle number"]
    rows = [
        "\t".join(f"{v:.9E}" for v in (f, z.real, -z.imag, abs(z), np.degrees(np.angle(z)), t, 3.7, 0.0, 1.0))
        for f, z, t in zip(FREQUENCY, Z, DONE, strict=True)
    ]
    head = [
        "EC-Lab ASCII FILE",
        "Nb header lines : 7",
        "",
        "Potentio Electrochemical Impedance Spectroscopy",
        "",
        "Acquisition started on : 06/03/2026 10:00:00.500",
    ]
    text = "\n".join([*head, "\t".join(names), *rows]) + "\n"
    path.write_text(text.replace(".", decimal) if decimal != "." else text, encoding="latin-1")


def as_dta(path: Path) -> None:
    head = ["EXPLAIN", "TAG\tEISPOT", "TITLE\tLABEL\tPotentiostatic EIS\tTest", "DATE\tLABEL\t6/3/2026\tDate", "TIME\tLABEL\t10:00:00.500000\tTime"]
    names = "\tPt\tTime\tFreq\tZreal\tZimag\tZsig\tZmod\tZphz\tIdc\tVdc\tIERange"
    units = "\t#\ts\tHz\tohm\tohm\tV\tohm\t°\tA\tV\t#"
    rows = [
        f"\t{k}\t{t:.9f}\t{f:.9E}\t{z.real:.9E}\t{z.imag:.9E}\t1\t{abs(z):.9E}\t{np.degrees(np.angle(z)):.6f}\t0\t3.7\t9"
        for k, (f, z, t) in enumerate(zip(FREQUENCY, Z, DONE, strict=True))
    ]
    path.write_text("\n".join([*head, "ZCURVE\tTABLE", names, units, *rows]) + "\n", encoding="latin-1")


def as_z(path: Path) -> None:
    names = "  Freq(Hz)\tAmpl\tBias\tTime(Sec)\tZ'(a)\tZ''(b)\tGD\tErr\tRange"
    rows = [f"{f:.9E}\t1.0E-02\t3.7\t{t:.9E}\t{z.real:.9E}\t{z.imag:.9E}\t0\t0\t3" for f, z, t in zip(FREQUENCY, Z, DONE, strict=True)]
    head = [
        "ZPLOT2 ASCII",
        "  Date:                       06-03-2026",
        "  Time:                       10:00:00",
        f"  Data Points:                {Z.size}",
    ]
    path.write_text("\n".join([*head, names, "End Comments", *rows]) + "\n")


def as_csv(path: Path, *, minus: bool = True, decimal: str = ".", separator: str = ",", header: bool = True) -> None:
    names = ["freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm" if minus else "Z''/Ohm", "time/s"]
    rows = [separator.join(f"{v:.9E}".replace(".", decimal) for v in (f, z.real, -z.imag, t)) for f, z, t in zip(FREQUENCY, Z, DONE, strict=True)]
    path.write_text("\n".join([*([separator.join(names)] if header else []), *rows]) + "\n")


def test_one_spectrum_in_every_format(tmp_path: Path) -> None:
    as_mpt(tmp_path / "a.mpt")
    as_mpt(tmp_path / "comma.mpt", ",")
    as_dta(tmp_path / "a.DTA")
    as_z(tmp_path / "a.z")
    as_csv(tmp_path / "a.csv")
    as_csv(tmp_path / "comma.csv", decimal=",", separator=";")
    as_csv(tmp_path / "sign.csv", minus=False)  # the name does not say that it holds -Im Z; causality does
    made = {
        "a.mpt": biologic_eis.load(tmp_path / "a.mpt")[0],
        "comma.mpt": biologic_eis.load(tmp_path / "comma.mpt")[0],
        "a.DTA": gamry.load(tmp_path / "a.DTA"),
        "a.z": zplot.load(tmp_path / "a.z"),
        **{name: eis_columns.load(tmp_path / name) for name in ("a.csv", "comma.csv", "sign.csv")},
    }
    for name, ds in made.items():
        np.testing.assert_allclose(ds.impedance.values[0], Z, rtol=1e-7, err_msg=name)
        np.testing.assert_allclose(ds.frequency.values[0], FREQUENCY, rtol=1e-7)
        assert ds.exposure.values[0] == pytest.approx(DONE[-1] - DONE[0] + 0.5, rel=1e-6), name
        np.testing.assert_allclose(np.diff(ds.point_time.values[0]), np.diff(DONE), rtol=1e-5)
    for name in ("a.mpt", "a.DTA"):
        assert str(made[name].stamp.values)[:23] == "2026-06-03T10:00:00.500"
    assert str(made["a.z"].stamp.values)[:19] == "2026-06-03T10:00:00"
    assert "reversed" in made["sign.csv"].attrs["imaginary_sign"]
    as_csv(tmp_path / "bare.csv", header=False)
    with pytest.raises(LoaderError, match=r"columns: \{frequency: 1"):
        eis_columns.load(tmp_path / "bare.csv")
    told = eis_columns.load(tmp_path / "bare.csv", columns={"frequency": 1, "real": 2, "imaginary": 3, "time": 4}, imaginary="negated")
    np.testing.assert_allclose(told.impedance.values[0], Z, rtol=1e-7)


# --------------------------------------------------------------------------- bad input


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("freq/Hz,Re(Z)/V,-Im(Z)/Ohm\n1,2,3\n2,3,4\n")
    with pytest.raises(LoaderError, match="a unit that is none of a real"):
        eis_columns.load(bad)
    as_csv(bad)
    with pytest.raises(LoaderError, match="names a role that is none"):
        eis_columns.load(bad, columns={"frequenz": 1})
    with pytest.raises(LoaderError, match="no column 9"):
        eis_columns.load(bad, columns={"frequency": 9})
    with pytest.raises(LoaderError, match="imaginary is not known"):
        eis_columns.load(bad, imaginary="flipped")
    rows = (tmp_path / "bad.csv").read_text().split("\n")
    shuffled = [rows[0], *[rows[1 + (7 * k) % 31] for k in range(31)]]
    bad.write_text("\n".join(shuffled) + "\n")
    with pytest.raises(LoaderError, match="the frequencies are in no order"):
        eis_columns.load(bad)
    other = tmp_path / "cv.DTA"
    other.write_text("EXPLAIN\nTAG\tCV\nCURVE1\tTABLE\n\tPt\tT\n\t#\ts\n\t0\t1\n")
    with pytest.raises(LoaderError, match="no spectrum in it"):
        gamry.load(other)
    empty = tmp_path / "empty.z"
    empty.write_text("ZPLOT2 ASCII\n  Freq(Hz)\tAmpl\tBias\tTime(Sec)\tZ'(a)\tZ''(b)\tGD\tErr\tRange\nEnd Comments\n")
    with pytest.raises(LoaderError, match="no points yet"):
        zplot.load(empty)


def test_overload_marks_missing_numbers_and_one_point(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text("freq/Hz,Re(Z)/Ohm,-Im(Z)/Ohm\n1000,5,1\n100,OVLD,2\n10,7,\n1,8,4\n")
    ds = eis_columns.load(path)
    assert np.isfinite(ds.impedance.values[0]).tolist() == [True, False, False, True]
    path.write_text("freq/Hz,Re(Z)/Ohm,-Im(Z)/Ohm\n1000,5,1\n")
    assert eis_columns.load(path).n_points.values.tolist() == [1]
    as_dta(tmp_path / "cut.DTA")
    text = (tmp_path / "cut.DTA").read_bytes()
    (tmp_path / "cut.DTA").write_bytes(text[:-40])
    cut = gamry.load(tmp_path / "cut.DTA")
    assert cut.quality.values.tolist() == [8]
    assert cut.n_points.values.tolist() == [30]


def test_damaged_files_are_refused_or_read_never_worse(tmp_path: Path) -> None:
    as_dta(tmp_path / "a.DTA")
    as_z(tmp_path / "a.z")
    as_csv(tmp_path / "a.csv")
    as_mpt(tmp_path / "a.mpt")
    rng = random.Random(5)
    for name, loader in (("a.DTA", "gamry"), ("a.z", "zplot"), ("a.csv", "eis-columns"), ("a.mpt", "biologic-eis")):
        raw = (tmp_path / name).read_bytes()
        for _ in range(60):
            data = bytearray(raw)
            for _ in range(rng.randint(1, 6)):
                at = rng.randrange(len(data))
                data[at : at + rng.randint(0, 9)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 4)))
            path = tmp_path / f"f{name}"
            path.write_bytes(bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data))
            try:
                made = load_file(get_loader(loader), path, {})
            except OperandoError:
                continue
            for ds in made:
                assert not faults(ds, as_written=True)


# --------------------------------------------------------------------------- measured files


@pytest.mark.real_data
def test_every_measured_file_opens_or_is_refused_with_a_reason(shared_data: Path) -> None:
    refused = {}
    for path in sorted((shared_data / "eis").glob("*/*")):
        if path.name == "LICENSE":
            continue
        claims = claimed_by(path)
        if path.name == "exampleData.csv":  # names nothing: three columns are told
            assert not claims
            made = [eis_columns.load(path, columns={"frequency": 1, "real": 2, "imaginary": 3})]
        else:
            (name,) = claims
            try:
                made = get_loader(name).read(path)
            except LoaderError as error:
                refused[path.name] = str(error)
                continue
        for ds in made if isinstance(made, list) else [made]:
            assert ds.attrs["technique"] == "eis"
            assert (ds.n_points.values >= 21).all(), path.name
            first = ds.impedance.values[0, :, 0] if ds.impedance.ndim == 3 else ds.impedance.values[0]
            assert np.isfinite(first).all()
            if path.name != "exampleDataParstat.txt":  # its cables' inductance runs against any slope
                assert causal_sign(ds.frequency.values[0], first) > 0.0, path.name
    assert list(refused) == ["exampleDataBioLogic_MissingFreq.mpt"]
    assert "the header names other columns than the records have" in refused["exampleDataBioLogic_MissingFreq.mpt"]


def test_one_bad_point_turns_no_spectrum_over(tmp_path: Path) -> None:
    # a cell of 20 mohm: the cables' inductance rules at high frequency, and the first real part is off
    f = np.geomspace(1e4, 10.0, 31)
    z = 0.02 + 0.01 / (1 + 2j * np.pi * f * 5e-3) + 2j * np.pi * f * 2.7e-7
    z[0] = -0.0005 + 1j * z[0].imag
    path = tmp_path / "low.csv"
    path.write_text("f/Hz,Zre/ohm,Zim/ohm\n" + "\n".join(f"{a:.6g},{b.real:.8g},{b.imag:.8g}" for a, b in zip(f, z, strict=True)) + "\n")
    np.testing.assert_allclose(eis_columns.load(path).impedance.values[0], z, rtol=1e-5)


@pytest.mark.real_data
def test_a_parstat_file_keeps_its_sign(shared_data: Path) -> None:
    ds = eis_columns.load(shared_data / "eis/impedancepy_MIT/exampleDataParstat.txt")
    assert ds.impedance.values[0][[0, -1]].imag == pytest.approx([0.0175, -0.0040], abs=1e-4)
    assert ds.n_points.values.tolist() == [31], "the cycling before it is no sweep"


def test_the_sign_of_a_phase_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "phase.csv"
    path.write_text("f/Hz,|Z|/ohm,theta/deg\n1000,5,10\n100,6,20\n10,8,30\n")
    assert (eis_columns.load(path).impedance.values.imag > 0).all()
    assert (eis_columns.load(path, imaginary="negated").impedance.values.imag < 0).all()


@pytest.mark.real_data
def test_a_geis_under_current(shared_data: Path) -> None:
    text = biologic_eis.load(shared_data / "echem/yadg_GPL3/geis.mpt")[0]
    binary = biologic_eis.load(shared_data / "echem/yadg_GPL3/geis.mpr")[0]
    for ds in (text, binary):
        assert dict(ds.sizes) == {"time": 61, "point": 41, "electrode": 3}
        assert ds.n_points.values.tolist() == [41] * 60 + [39]
        assert ds.quality.values.tolist() == [0] * 60 + [8]
        assert ds.electrode.values.tolist() == ["cell", "we", "ce"]
        assert ds.dc_current.values[0].mean() == pytest.approx(0.380e-3, abs=1e-6)
        lowest = ds.impedance.values[5, 40].real
        assert lowest == pytest.approx([306.6, 155.0, 151.6], abs=0.1)
        assert lowest[0] == pytest.approx(lowest[1] + lowest[2], rel=1e-4)
        assert (ds.impedance.values[:, 0, 1].real < 0).any(), "an artefact of the reference, kept"
    np.testing.assert_allclose(binary.impedance.values, text.impedance.values, rtol=2e-6, equal_nan=True)


@pytest.mark.real_data
@pytest.mark.parametrize("stem", ["eis/yadg_GPL3/peis", "eis/yadg_GPL3/peis.issue_225.with_ece"])
def test_twins_give_the_same_spectra(shared_data: Path, stem: str) -> None:
    a, b = (biologic_eis.load(shared_data / f"{stem}.{kind}")[0] for kind in ("mpt", "mpr"))
    np.testing.assert_allclose(a.impedance.values, b.impedance.values, rtol=1e-6)
    np.testing.assert_allclose(a.dc_voltage.values, b.dc_voltage.values, rtol=1e-6)


@pytest.mark.real_data
def test_an_aborted_and_a_whole_gamry_file(shared_data: Path) -> None:
    folder = shared_data / "eis/impedancepy_MIT"
    whole, aborted = (gamry.load(folder / f"exampleData{name}.DTA") for name in ("Gamry", "GamryABORT"))
    np.testing.assert_array_equal(whole.impedance.values, aborted.impedance.values)
    assert (whole.quality.values.tolist(), aborted.quality.values.tolist()) == ([0], [8])
    assert str(whole.stamp.values)[:19] == "2018-04-23T16:43:15"


@pytest.mark.real_data
def test_ten_spectra_of_a_rest_in_one_table(shared_data: Path) -> None:
    ds = op.load(shared_data / "eis/hybrid-drt_BSD3/Sample2_PEIS_AtRest.csv", "eis-columns", start="2026-01-01T00:00:00+00:00")
    assert isinstance(ds, xr.Dataset)
    assert ds.sizes["time"] == 10
    assert set(ds.n_points.values.tolist()) <= {89, 90}


def test_cycling_files_hold_nothing_for_the_loader_of_impedance(tmp_path: Path) -> None:
    path = tmp_path / "g.mpt"
    path.write_text(
        "EC-Lab ASCII FILE\nNb header lines : 3\nmode\ttime/s\tEwe/V\tI/mA\n1\t0.0E0\t3.0E0\t1.0E0\n1\t1.0E0\t3.1E0\t1.0E0\n", encoding="latin-1"
    )
    assert biologic_eis.load(path) == []
    with pytest.raises(LoaderError, match="hold nothing that biologic-eis reads"):
        op.load(path, "biologic-eis", start="2026-01-01T00:00:00+00:00")
