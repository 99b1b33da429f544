"""EC-Lab text exports: synthetic ones for each rule, measured ones for the truth."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError, OperandoError, canonical, faults
from operando.loaders import biologic, biologic_mpt

HEAD = (
    "Galvanostatic Cycling with Potential Limitation",
    "",
    "Run on channel : 6 (SN 6042)",
    "Safety Limits :",
    "\tEwe min = 1.40 V",
    "\tDo not start on E overload",
    "Acquisition started on : 07/26/2022 22:38:30.190",
    "Saved on :",
    "\tFile : cell_A_01_GCPL_C06.mpr",
    "Device : VMP3 (SN 0198)",
    "EC-Lab for windows v11.43 (software)",
    "Comments : first",
    "Comments : second",
    "Mass of active material : 7000.000 mg",
    "Electrode surface area : 1.000 cm²",
    "Ns                  0                   1                   ",
    "t1 (h:m:s)          0:00:0.0000         1000:00:0.0000      ",
    "",
)
COLUMNS = (
    "mode",
    "Ns changes",
    "Ns",
    "time/s",
    "dq/mA.h",
    "(Q-Qo)/mA.h",
    "control/V/mA",
    "Ewe/V",
    "half cycle",
    "<I>/mA",
    "cycle number",
    "Mystery thing/V",
)


def number(value: float) -> str:
    mantissa, exponent = f"{value:.7E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"


def rows(n: int = 6) -> list[list[str]]:
    out = []
    for i in range(n):
        mode = 3 if i < 2 else 1
        current = 0.0 if i < 2 else 0.154
        charge = max(i - 1, 0) * 0.154 * 10 / 3600
        dq = 0.154 * 10 / 3600 if i >= 2 else 0.0
        reals = [10.0 * i, dq, charge, current, 3.0 + 0.1 * i]
        out.append([str(mode), "0", str(int(i >= 2)), *map(number, reals), str(i // 3), number(current), number(1.0), number(0.5)])
    return out


def write(
    path: Path, *, head: tuple[str, ...] = HEAD, columns: tuple[str, ...] = COLUMNS, table: list[list[str]] | None = None, **how: object
) -> Path:
    table = rows() if table is None else table
    lines = [
        "EC-Lab ASCII FILE",
        f"Nb header lines : {len(head) + 3}                          ",
        *head,
        "\t".join(columns) + str(how.get("tail", "\t")),
    ]
    text = "\n".join([*lines, *("\t".join(row) for row in table)]) + str(how.get("end", ""))
    if how.get("decimal") == ",":
        text = "\n".join(line.replace(".", ",") if i >= len(lines) else line for i, line in enumerate(text.split("\n")))
    path.write_bytes(text.replace("\n", str(how.get("newline", "\n"))).encode(str(how.get("encoding", "latin-1"))))
    return path


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r\r\n"])
def test_every_spelling_gives_the_same_series(tmp_path: Path, decimal: str, encoding: str, newline: str) -> None:
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", decimal=decimal, encoding=encoding, newline=newline))
    np.testing.assert_allclose(ds.voltage, 3.0 + 0.1 * np.arange(6))
    np.testing.assert_allclose(ds.current[2:], 154e-6)
    assert ds.current.attrs["interval"] == "ending"
    np.testing.assert_allclose(ds.charge, np.maximum(np.arange(6) - 1, 0) * 154e-5, rtol=1e-6)
    assert str(ds.stamp.values) == "2022-07-26T22:38:30.190000000"
    assert str(ds.time.values[1]) == "2022-07-26T22:38:40.190000000"
    assert ds.attrs["time_uncertainty_s"] == 1e-3
    assert ds.attrs["technique_name"] == "GCPL"
    assert ds.step.values.tolist() == [0, 0, 1, 1, 1, 1]
    assert ds.half_cycle.dtype.kind == "i"
    assert ds.cycle.dtype.kind == "i"
    assert np.isnan(ds.control_current.values[:2]).all()
    np.testing.assert_allclose(ds.control_current[2:], 154e-6)
    assert np.isnan(ds.control_voltage.values).all()
    assert ds.mystery_thing.attrs["units"] == "V"
    kept = json.loads(ds.attrs["claims"])
    assert kept["Mass of active material"] == "7000.000 mg"
    assert kept["Electrode surface area"] == "1.000 cm²"
    assert kept["Comments"] == "first\nsecond"
    assert kept["Safety Limits: Ewe min"] == "1.40 V"
    assert not any(key.startswith("t1") for key in kept)


def test_any_order_of_columns(tmp_path: Path) -> None:
    order = list(range(len(COLUMNS)))
    random.Random(1).shuffle(order)
    one = biologic_mpt.load(write(tmp_path / "a.mpt"))
    two = biologic_mpt.load(write(tmp_path / "b.mpt", columns=tuple(COLUMNS[i] for i in order), table=[[row[i] for i in order] for row in rows()]))
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], two[name])


def test_series_keeps_the_contract(tmp_path: Path) -> None:
    ds = canonical(biologic_mpt.load(write(tmp_path / "a.mpt")))
    assert [f for f in faults(ds, as_written=True) if "loader" not in f and "options" not in f] == []


def test_three_header_lines_have_no_start(tmp_path: Path) -> None:
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", head=()))
    assert ds.attrs["time_origin"] == "counter"
    assert "stamp" not in ds.coords
    assert "claims" not in ds.attrs


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("07/26/2022 22:38:30.190", "2022-07-26T22:38:30.190"),
        ("07/26/2022 22:38:30", "2022-07-26T22:38:30"),
        ("07.26.2022 22:38:30,190", "2022-07-26T22:38:30.190"),
        ("26.07.2022 22:38:30", "2022-07-26T22:38:30"),
        ("01.10.2018 17:01:24", "2018-01-10T17:01:24"),
        ("07-26-2022 10:38:30 PM", "2022-07-26T22:38:30"),
        ("2022-07-26 22:38:30.190", "2022-07-26T22:38:30.190"),
        ("26/26/2022 22:38:30", None),
        ("yesterday", None),
    ],
)
def test_stamps(text: str, stamp: str | None) -> None:
    assert biologic.read_stamp(text) == (None if stamp is None else np.datetime64(stamp, "ns"))


def test_whole_seconds_are_good_to_a_second() -> None:
    assert biologic.stamp_uncertainty(np.datetime64("2019-04-29T15:43:07.000", "ns")) == 1.0
    assert biologic.stamp_uncertainty(np.datetime64("2019-04-29T15:43:07.355", "ns")) == 1e-3


@pytest.mark.parametrize("cut", [3, 30, 60, 130])
def test_half_written_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.mpt", columns=COLUMNS[:-1], table=[row[:-1] for row in rows()])
    raw = path.read_bytes()
    last = len(raw) - raw.rindex(b"\n") - 1
    path.write_bytes(raw[: len(raw) - last + min(cut, last - 2)])
    ds = biologic_mpt.load(path)
    assert ds.sizes["time"] == 5
    assert ds.quality.values.tolist() == [0, 0, 0, 0, 8]


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_whole_last_line_is_kept(tmp_path: Path, end: str) -> None:
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", end=end))
    assert ds.sizes["time"] == 6
    assert not ds.quality.values.any()


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    table = rows()
    table[2] = table[2][:4]
    with pytest.raises(LoaderError, match=rf"a\.mpt.*line {len(HEAD) + 6} has 4 fields where the others have 12"):
        biologic_mpt.load(write(tmp_path / "a.mpt", table=table))
    table = rows()
    table[3][7] = "3.1E+0x0"
    with pytest.raises(LoaderError, match=rf"line {len(HEAD) + 7} holds"):
        biologic_mpt.load(write(tmp_path / "a.mpt", table=table))


def test_names_that_do_not_fit_the_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="other columns"):
        biologic_mpt.load(write(tmp_path / "a.mpt", columns=COLUMNS[:-1], tail=""))
    with pytest.raises(LoaderError, match="other columns"):
        biologic_mpt.load(write(tmp_path / "a.mpt", columns=(*COLUMNS, "x"), tail=""))


def test_trailing_tabs_and_names_without_fields(tmp_path: Path) -> None:
    tabs = biologic_mpt.load(write(tmp_path / "a.mpt", table=[[*row, ""] for row in rows()]))
    assert tabs.sizes["time"] == 6
    more = biologic_mpt.load(write(tmp_path / "b.mpt", columns=(*COLUMNS, "", "Ewe-Ece/V"), tail=""))
    assert set(more.data_vars) == set(tabs.data_vars)


@pytest.mark.parametrize(("gone", "what"), [("time/s", "times"), ("Ewe/V", "potentials")])
def test_without_time_or_potential(tmp_path: Path, gone: str, what: str) -> None:
    i = COLUMNS.index(gone)
    with pytest.raises(LoaderError, match=f"no column of {what}"):
        biologic_mpt.load(write(tmp_path / "a.mpt", columns=COLUMNS[:i] + COLUMNS[i + 1 :], table=[r[:i] + r[i + 1 :] for r in rows()]))


def test_current_from_charge_steps(tmp_path: Path) -> None:
    i = COLUMNS.index("<I>/mA")
    whole = biologic_mpt.load(write(tmp_path / "a.mpt"))
    ds = biologic_mpt.load(write(tmp_path / "b.mpt", columns=COLUMNS[:i] + COLUMNS[i + 1 :], table=[r[:i] + r[i + 1 :] for r in rows()]))
    np.testing.assert_allclose(ds.current, whole.current, rtol=1e-6)
    assert ds.current.attrs["derived"] == "dq/dt"
    assert ds.current.attrs["interval"] == "ending"


def test_open_circuit_is_zero_current(tmp_path: Path) -> None:
    ds = biologic_mpt.load(
        write(tmp_path / "a.mpt", head=("Open Circuit Voltage",), columns=("mode", "time/s", "Ewe/V"), table=[["3", "0.0", "3.1"]] * 3)
    )
    assert ds.current.values.tolist() == [0, 0, 0]
    assert ds.current.attrs["derived"] == "open circuit"
    assert ds.attrs["technique_name"] == "OCV"
    assert "charge" not in ds


def test_both_electrodes(tmp_path: Path) -> None:
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", columns=("time/s", "<Ewe>/V", "<Ece>/V", "I/mA"), table=[["0", "3.5", "0.2", "1.5"]] * 2))
    np.testing.assert_allclose(ds.voltage, 3.3)
    np.testing.assert_allclose(ds.potential_we, 3.5)
    np.testing.assert_allclose(ds.potential_ce, 0.2)
    assert ds.current.attrs["interval"] == "instant"


def test_loops(tmp_path: Path) -> None:
    head = (*HEAD, "Number of loops : 2", "Loop 0 from point number 0 to 3", "Loop 1 from point number 4 to 5", "")
    assert biologic_mpt.load(write(tmp_path / "a.mpt", head=head)).loop.values.tolist() == [0, 0, 0, 0, 1, 1]


def test_step_back_in_time_starts_a_segment(tmp_path: Path) -> None:
    table = rows()
    table = table[3:] + table[:3]
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", table=table))
    assert ds.segment.values.tolist() == [0, 0, 0, 1, 1, 1]


def test_absolute_times(tmp_path: Path) -> None:
    table = [[f"07/26/2022 22:38:3{i}.250", "3.5"] for i in range(4)]
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", head=("Open Circuit Voltage",), columns=("time/s", "Ewe/V"), table=table))
    assert str(ds.time.values[3]) == "2022-07-26T22:38:33.250000000"


def test_claims(tmp_path: Path) -> None:
    assert biologic_mpt.claims(write(tmp_path / "a.mpt")) == "EC-Lab text export, GCPL"
    (tmp_path / "b.mpt").write_bytes(bytes(range(256)) * 4)
    assert biologic_mpt.claims(tmp_path / "b.mpt") is None
    assert biologic_mpt.claims(tmp_path / "missing.mpt") is None


def test_only_our_errors_come_out_of_damaged_files(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.mpt").read_bytes()
    path = tmp_path / "b.mpt"
    chance = random.Random(7)
    lines = raw.split(b"\n")
    for i in range(400):
        if i < 150:
            damaged = raw[: len(raw) * i // 150]
        elif i < 330:
            flipped = bytearray(raw)
            for _ in range(1 + i % 4):
                flipped[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            damaged = bytes(flipped)
        else:
            shuffled = lines.copy()
            chance.shuffle(shuffled)
            damaged = b"\n".join(shuffled if i % 2 else lines[:22] + chance.sample(lines[22:], len(lines) - 22))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                frames, message = biologic_mpt.load(path).sizes["time"], "b.mpt"
            except OperandoError as error:
                frames, message = 1, str(error)
        assert "b.mpt" in message
        assert 0 < frames <= len(lines)
        biologic_mpt.claims(path)


@pytest.mark.real_data
def test_rock(shared_data: Path) -> None:
    ds = biologic_mpt.load(shared_data / "multimodal/perex_rock/EC/220726cell4operandoxas_C06.mpt")
    assert ds.sizes["time"] == 6333
    assert str(ds.stamp.values) == "2022-07-26T22:38:30.190000000"
    assert str(ds.time.values[-1]) == "2022-07-28T13:31:18.835300431"
    assert abs(float(ds.charge.max()) / 3.6 - 1.727) < 1e-3
    kept = json.loads(ds.attrs["claims"])
    assert kept["Mass of active material"] == "7000,000 mg"
    assert "18650" in kept["Comments"]
    assert ds.attrs["instrument"] == "BioLogic VMP3"
    assert set(np.unique(ds["mode"])) == {1, 3}


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["echem/yadg_GPL3/gcpl.pr_182.1.mpt", "multimodal/perex_rock/EC/220726cell4operandoxas_C06.mpt"])
def test_mean_current_held_backward_is_the_instruments_charge(shared_data: Path, name: str) -> None:
    ds = biologic_mpt.load(shared_data / name)
    t = (ds.time.values - ds.time.values[0]) / np.timedelta64(1, "s")
    charge = ds.charge.values - ds.charge.values[0]
    backward = np.concatenate([[0.0], np.cumsum(ds.current.values[1:] * np.diff(t))])
    forward = np.concatenate([[0.0], np.cumsum(ds.current.values[:-1] * np.diff(t))])
    assert np.abs(backward - charge).max() / 3.6 < 1e-6  # mA.h
    assert np.abs(forward - charge).max() > 3 * np.abs(backward - charge).max()


@pytest.mark.real_data
def test_no_start_in_the_file(shared_data: Path) -> None:
    ds = biologic_mpt.load(shared_data / "echem/yadg_GPL3/gcpl.pr_182.1.mpt")
    assert ds.attrs["time_origin"] == "counter"


@pytest.mark.real_data
def test_german_export_equals_the_english_one(shared_data: Path) -> None:
    one, two = (biologic_mpt.load(shared_data / "echem/yadg_GPL3" / name) for name in ("mb.issue_95.mpt", "mb.issue_95.de.mpt"))
    assert list(one.data_vars) == list(two.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(one.time, two.time)


@pytest.mark.real_data
def test_time_counts_from_the_acquisition_not_the_technique(shared_data: Path) -> None:
    ds = biologic_mpt.load(shared_data / "echem/ixdat_MIT/Pt_poly_cv.mpt")
    kept = json.loads(ds.attrs["claims"])
    assert kept["Technique started on"].endswith("10:31:03")
    assert str(ds.stamp.values).startswith("2020-07-29T10:31:01")
    assert ds.time.values[0] > np.datetime64("2020-07-29T10:31:03")


@pytest.mark.real_data
def test_shifted_columns_are_refused(shared_data: Path) -> None:
    with pytest.raises(LoaderError, match="other columns"):
        biologic_mpt.load(shared_data / "eis/impedancepy_MIT/exampleDataBioLogic_MissingFreq.mpt")


@pytest.mark.real_data
def test_names_beyond_an_empty_one(shared_data: Path) -> None:
    ds = biologic_mpt.load(shared_data / "eis/yadg_GPL3/peis.issue_225.with_ece.mpt")
    np.testing.assert_allclose(ds.voltage, ds.potential_we - ds.potential_ce, atol=1e-7)
    np.testing.assert_allclose(ds.rwe_ce, np.abs(ds.voltage / ds.current), rtol=1e-5)
    assert ds.voltage.attrs["sampling"] == "sample"


@pytest.mark.parametrize("begin", ["", "\n"])
def test_an_export_without_a_header(tmp_path: Path, begin: str) -> None:
    whole = write(tmp_path / "a.mpt")
    text = whole.read_text("latin-1")
    bare = tmp_path / "cell_02_GCPL_C01.mpt"
    bare.write_text(begin + text[text.index("mode\t") :], "latin-1")
    assert biologic_mpt.claims(bare) == "EC-Lab text export without a header"
    ds, same = biologic_mpt.load(bare), biologic_mpt.load(whole)
    assert ds.attrs["time_origin"] == "counter"
    assert ds.attrs["technique_name"] == "GCPL"
    for name in same.data_vars:
        np.testing.assert_array_equal(ds[name].values, same[name].values)


def test_other_tables_are_no_bare_exports(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("time/s\tT/K\n0\t300\n1\t301\n")
    assert biologic_mpt.claims(tmp_path / "a.txt") is None


def test_the_mean_closed_after_its_unit(tmp_path: Path) -> None:
    columns = tuple({"Ewe/V": "<Ewe/V>", "<I>/mA": "<I/mA>"}.get(name, name) for name in COLUMNS)
    ds, same = biologic_mpt.load(write(tmp_path / "a.mpt", columns=columns)), biologic_mpt.load(write(tmp_path / "b.mpt"))
    np.testing.assert_array_equal(ds.voltage, same.voltage)
    np.testing.assert_array_equal(ds.current, same.current)
    assert ds.current.attrs["interval"] == "ending"


@pytest.mark.parametrize(("above", "last"), [("1.5000000E+000", "1.5000000E-001"), ("1.5000000E-001", "-1.5000000E+000"), ("XXX", "1.5000000E+000")])
def test_a_whole_last_record_without_line_end_is_kept(tmp_path: Path, above: str, last: str) -> None:
    table = rows()
    table[-2][-1], table[-1][-1] = above, last
    ds = biologic_mpt.load(write(tmp_path / "a.mpt", table=table))
    assert ds.sizes["time"] == 6
    assert not ds.quality.values.any()


def test_impedance_without_a_header_counts_sweeps(tmp_path: Path) -> None:
    names = "freq/Hz\tRe(Z)/Ohm\t-Im(Z)/Ohm\ttime/s\t<Ewe>/V\tcycle number"
    (tmp_path / "a.mpt").write_text(names + "\n1E+003\t1.0\t0.1\t0.5\t3.5\t1.0\n1E+002\t1.1\t0.2\t0.6\t3.5\t2.0\n")
    ds = biologic_mpt.load(tmp_path / "a.mpt")
    assert ds.sweep.values.tolist() == [1, 2]
    assert "cycle" not in ds
