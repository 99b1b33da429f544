"""The csv loader on further dialects: Maccor, Arbin, Novonix, PEC and loggers, each by a small table of the same structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError, canonical, faults
from operando.loaders import bdf, csv


def valid(ds):
    """Check a series the way the loader layer does, and give it back in canonical units."""
    made = canonical(ds)
    made.attrs.update(loader="csv", loader_version=csv.VERSION, options="{}")
    assert faults(made, as_written=True) == []
    return made


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def maccor(path: Path, stamps: list[str], *, time: str = "Test (Sec)\tStep (Sec)", amps: str = "Amps", end: str = "\n") -> Path:
    head = f"Today's Date 10/10/2019  Date of Test:\t10/10/2019\nRec#\tCyc#\tStep\t{time}\tAmp-hr\tWatt-hr\t{amps}\tVolts\tState\tES\tDPt Time\tRange"
    rows = [
        f"{i}\t0\t{7 + i // 4}\t{30.0 * i:.2f}\t{30.0 * (i % 4):.2f}\t0.{i % 4}\t0\t{1.0 if i else 0}\t3.5\tD\t1\t{s}\t1"
        for i, s in enumerate(stamps)
    ]
    return write(path, "\n".join([head, *rows]) + end)


def test_maccor_clocks_named_by_their_unit(tmp_path):
    stamps = [f"11/0{2 + (i > 1)}/2019 {t}" for i, t in enumerate(["23:59:00", "23:59:30", "00:00:00", "00:00:30", "00:01:00"])]
    path = maccor(tmp_path / "cell.041", stamps)
    assert csv.claims(path) == "Maccor text export"
    ds = valid(csv.load(path))
    np.testing.assert_array_equal(ds.test_time, 30.0 * np.arange(5))
    np.testing.assert_array_equal(ds.step_time, [0, 30, 60, 90, 0])
    assert ds.step.values.tolist() == [7, 7, 7, 7, 8]
    assert str(ds.stamp.values if ds.stamp.ndim == 0 else ds.time.values[0])[:10] == "2019-11-02"  # the test clock says which field is the day
    assert (ds.current.values[1:] == -1.0).all()


def test_midnight_without_its_time_of_day(tmp_path):
    stamps = ["10/21/2019 23:59:00", "10/21/2019 23:59:30", "10/22/2019", "10/22/2019 00:00:30"]
    ds = valid(csv.load(maccor(tmp_path / "cell.txt", stamps)))
    np.testing.assert_array_equal(np.diff(ds.time.values) / np.timedelta64(1, "s"), [30, 30, 30])
    with pytest.raises(LoaderError, match="not a stamp like the others"):
        csv.load(maccor(tmp_path / "cut.txt", [*stamps, "10/22/2019"]))  # the last line may have been cut there


def test_maccor_in_milliamperes(tmp_path):
    stamps = [f"10/21/2019 10:00:{i:02d}" for i in range(4)]
    ds = valid(csv.load(maccor(tmp_path / "a.txt", stamps, time="TestTime\tStepTime", amps="mAmps")))
    np.testing.assert_allclose(ds.current[1:], -1e-3)


def test_a_voltage_in_thousands_is_doubted(tmp_path):
    text = maccor(tmp_path / "a.txt", [f"10/21/2019 10:00:{i:02d}" for i in range(4)]).read_text().replace("\t3.5\t", "\t3500\t")
    ds = csv.load(write(tmp_path / "b.txt", text))
    assert "columns: {voltage: {column: Volts, unit: mV}}" in ds.attrs["voltage_doubt"]
    ds = csv.load(tmp_path / "b.txt", columns={"voltage": {"column": "Volts", "unit": "mV"}})
    assert "voltage_doubt" not in ds.attrs
    np.testing.assert_allclose(ds.voltage, 3.5)


ARBIN = "Data_Point,Test_Time,DateTime,Step_Time,Step_Index,Cycle_Index,Current,Voltage,Charge_Capacity,Discharge_Capacity,Charge_Energy"


@pytest.mark.parametrize("index", [False, True])
def test_arbin_without_units(tmp_path, index):
    rows = [f"{i},{10.0 * i},{1494645243.4715 + 10 * i},{10.0 * i},1,1,0.36,3.3,{i / 1000},0.0,0.0" for i in range(8)]
    lines = [ARBIN, *rows]
    if index:  # written by a data frame
        lines = [("" if i == 0 else str(i - 1)) + "," + line for i, line in enumerate(lines)]
    ds = valid(csv.load(write(tmp_path / "a.csv", "\n".join(lines) + "\n")))
    assert ds.attrs["instrument"] == "Arbin csv export"
    np.testing.assert_allclose(ds.charge, 3.6 * np.arange(8))
    assert ds.charge_capacity.attrs["units"] in ("A*h", "C")
    assert str(ds.time.values[0])[:23] == "2017-05-13T03:14:03.471"
    assert not [name for name in ds.data_vars if str(name).startswith("column")]


def test_a_table_with_the_columns_of_bdf_added_is_bdf(tmp_path):
    head = ARBIN + ",Test Time / s,Voltage / V,Current / A"
    path = write(tmp_path / "a.csv", head + "\n" + "".join(f"{i},{i},1494645243,{i},1,1,0,3.3,0,0,0,{i},3.3,0\n" for i in range(5)))
    assert csv.claims(path) is None
    assert bdf.claims(path) == "Battery Data Format, csv"


def test_a_nameless_first_column_of_epoch_seconds(tmp_path):
    rows = [f'"{1660315243 + 10 * i}","27.{i}"' for i in range(5)]
    ds = valid(csv.load(write(tmp_path / "a.csv", "\n".join(['"","Outside Temp (C)"', *rows, ""]))))
    assert str(ds.time.values[1])[:19] == "2022-08-12T14:40:53"
    assert ds.outside_temp.attrs["units"] == "degC"


def test_missing_names_at_the_end_are_still_refused(tmp_path):
    with pytest.raises(LoaderError, match="fewer names"):
        csv.load(write(tmp_path / "a.csv", "Time (s),U (V)\n" + "".join(f"{i},3.5,0.{i}\n" for i in range(5))))


def test_a_temperature_called_t_is_no_time(tmp_path):
    ds = valid(csv.load(write(tmp_path / "a.csv", "T (K),Time (s)\n" + "".join(f"{300 + i},{i}\n" for i in range(5)))))
    np.testing.assert_array_equal(ds["t"], 300 + np.arange(5))
    with pytest.raises(LoaderError, match="no column of time"):
        csv.load(write(tmp_path / "b.csv", "T (K),p (bar)\n" + "".join(f"{300 + i},{i}\n" for i in range(5))))


def test_thousands_separators(tmp_path):
    rows = "".join(f'"5,577,6{i}4.47",3.9{i},"1,499.8","2,082.06"\n' for i in range(5))
    ds = valid(csv.load(write(tmp_path / "a.csv", "TestTime(s),Voltage(V),Current(A),Watt-hr\n" + rows)))
    np.testing.assert_allclose(ds.current, 1499.8)
    np.testing.assert_allclose(np.diff(ds.time.values) / np.timedelta64(1, "s"), 10)
    assert "notes" not in ds.attrs


def test_every_line_in_quotes(tmp_path):
    rows = "".join(f'"2022-04-11 10:58:0{i} AM,1,{i / 3600:.7f},0.5,3.9{i}"\n' for i in range(5))
    head = '[Summary]\nChannel: 01\n"   [Save data when dt > 1, dv > 2, di > 3]"\n[Data]\n'
    text = head + '"Date and Time,Cycle Number,Run Time (h),Current (A),Potential (V)"\n'
    ds = valid(csv.load(write(tmp_path / "a.csv", text + rows)))
    np.testing.assert_allclose(ds.voltage, [3.90, 3.91, 3.92, 3.93, 3.94])
    assert ds.cycle.values.tolist() == [1] * 5


def test_marks_at_the_beginning_of_every_line(tmp_path):
    rows = "".join(f'\ufeff"2021-09-17 11:2{i}:14.045",39.9{i},20\n' for i in range(5))
    ds = valid(csv.load(write(tmp_path / "a.csv", '\ufeff"Time","MFC1 mln/min","MFC2 mln/min"\n' + rows)))
    assert str(ds.stamp.values if ds.stamp.ndim == 0 else ds.time.values[0])[:16] == "2021-09-17T11:20"
    assert ds.mfc1_mln_min.attrs["units"] == "1"  # a flow, not minutes


def test_a_short_table_below_a_long_preamble(tmp_path):
    head = "".join(f"Key {i}:,{i}\n" for i in range(44))
    names = "Test,Step,Total Time (Hours in hh:mm:ss.xxx),Real Time,Voltage (V),Current (A)\n"
    rows = "".join(f"25195,1,00:00:{i:02d}.000,01/06/2026 17:51:{i:02d},3.5{i},0.1\n" for i in range(9))
    ds = valid(csv.load(write(tmp_path / "a.csv", head + names + rows), time_format="%m/%d/%Y %H:%M:%S"))
    assert ds.sizes["time"] == 9
    np.testing.assert_array_equal(ds.test_time, np.arange(9))


def test_a_padded_preamble_is_no_table(tmp_path):
    head = "number of headers;5;;;;\noperator;7;;;;\ndate;01.01.2016;;;;\nmass;0.5;;;;\n"
    rows = "".join(f"{i};{i}.5;1;1;3.9;0.1\n" for i in range(30))
    ds = valid(csv.load(write(tmp_path / "a.csv", head + "index;test_time (s);step;cycle;voltage (V);current (A)\n" + rows)))
    assert ds.sizes["time"] == 30


def test_a_cut_last_line_that_ends(tmp_path):
    whole = "Time (s)\tU (V)\tI (A)\tx\t\n" + "".join(f"{i}\t3.5\t0.1\t1\t\n" for i in range(6))
    ds = csv.load(write(tmp_path / "a.txt", whole + "6\t3.5\n"))
    assert ds.sizes["time"] == 6
    assert "half-written" in ds.attrs["notes"]
    assert csv.load(write(tmp_path / "b.txt", whole + "6\t3.5\t0.1\t1\n")).sizes["time"] == 7  # only the last separator is missing


def test_a_current_without_sign_or_state_is_refused(tmp_path):
    volts = np.r_[np.linspace(3.0, 4.2, 40), np.linspace(4.1, 3.0, 40)]
    text = "Time (s),Voltage (V),Current (A),Step\n" + "".join(f"{10 * i},{v:.4f},1.0,{1 + i // 40}\n" for i, v in enumerate(volts))
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(LoaderError, match="it has no sign") as info:
        csv.load(path)
    assert "row 41 to row 80" in str(info.value)
    assert (csv.load(path, current_sign="charge").current == 1).all()
    half = write(tmp_path / "b.csv", "\n".join(text.split("\n")[:41]) + "\n")
    assert (csv.load(half).current == 1).all()


def test_a_closing_record_repeats_its_step(tmp_path):
    rows = [(0, 1, "C", 0.0), (10, 1, "C", 0.1), (20, 2, "D", 0.0), (30, 2, "D", 0.2), (30, 3, "O", 0.2)]
    text = "Time (s),Step,Md,Cap. (Ah),Voltage (V),Current (A)\n" + "".join(f"{t},{s},{m},{q},3.5,{1 if m != 'O' else 0}\n" for t, s, m, q in rows)
    ds = csv.load(write(tmp_path / "a.csv", text))
    np.testing.assert_allclose(ds.charge, 3600 * np.array([0, 0.1, 0.1, -0.1, -0.1]), atol=1e-9)


def test_a_time_of_day_is_not_taken_for_elapsed_time(tmp_path: Path) -> None:
    path = tmp_path / "flow.csv"
    path.write_text("Time,flow (mL/min)\n" + "".join(f"12:{45 + k}:33,{10 + k}\n" for k in range(5)))
    with pytest.raises(LoaderError, match="times of day"):
        csv.load(path, technique="sensor")
    ds = csv.load(path, technique="sensor", time_format="elapsed")
    assert (ds.time.values[0] - np.datetime64(0, "ns")) / np.timedelta64(1, "s") == 12 * 3600 + 45 * 60 + 33


def test_stamps_before_a_semicolon_and_a_decimal_comma(tmp_path):
    # one comma a row and a stamp before it: the comma is no separator, though every row has just one
    rows = "".join(f"2026-06-03 09:4{i}:00;25,0{i}\r\n" for i in range(8))
    ds = valid(csv.load(write(tmp_path / "holder.csv", "time;temperature (degC)\r\n" + rows), technique="sensor"))
    np.testing.assert_allclose(ds.temperature, 25 + 0.01 * np.arange(8))
