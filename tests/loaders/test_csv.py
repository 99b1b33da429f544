"""The csv loader: real exports of four cyclers, every way of writing time, units, signs, charge, and broken files."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

import operando as op
from operando.contract import LoaderError, OperandoError, canonical, faults
from operando.loaders import bdf, csv

LANDT = "echem/bdf_Apache2/SINTEF__LiGrR2032__2024-04-30__25degC__Landt.csv"
LANDT_BDF = "echem/bdf_Apache2/SINTEF__LiGrR2032__2024-04-30__25degC__Landt.bdf.csv"
MACCOR = "echem/cellpy_MIT/maccor_002.txt"
NEWARE = "echem/cellpy_MIT/neware_uio.csv"
TGA = "multimodal/spectrochempy_agir_IR_TGA/tg.csv"


def complaint(path: Path) -> str | None:
    """Give what the loader says of a broken file, None if it could read it; any other error goes through."""
    try:
        csv.load(path)
    except OperandoError as error:
        return str(error)
    return None


def valid(ds):
    """Check a series the way the loader layer does, and give it back in canonical units."""
    made = canonical(ds)
    made.attrs.update(loader="csv", loader_version=csv.VERSION, options="{}")
    assert faults(made, as_written=True) == []
    return made


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(path: Path, stamps: list[str], header: str = "Time", separator: str = ";") -> Path:
    rows = [f"{stamp}{separator}{3.0 + 0.1 * i:.1f}{separator}{1.5}" for i, stamp in enumerate(stamps)]
    return write(path, "\n".join([separator.join([header, "Ecell (V)", "I (mA)"]), *rows, ""]))


def integral(ds) -> np.ndarray:
    """Trapezoid of the current over the instrument's own clock, in C."""
    i, t = ds["current"].values, ds["test_time"].values
    return np.r_[0.0, np.cumsum((i[1:] + i[:-1]) / 2 * np.diff(t))]


# --- real files ------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_landt_equals_its_own_bdf_conversion(shared_data):
    ours, theirs = valid(csv.load(shared_data / LANDT)), valid(bdf.load(shared_data / LANDT_BDF))
    assert ours.sizes == theirs.sizes == {"time": 25162}
    for name in ("voltage", "current", "charge", "charge_capacity", "discharge_capacity", "step"):
        np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)
        assert ours[name].attrs["units"] == theirs[name].attrs["units"]
    counter = (theirs["time"].values - np.datetime64(0, "ns")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(ours["test_time"].values, counter, rtol=0, atol=1e-9)
    # only the raw export says when it was
    assert theirs.attrs["time_origin"] == "counter"
    assert ours.attrs["time_origin"] == "header"
    assert ours.attrs["timezone_source"] == "none"


@pytest.mark.real_data
def test_landt_stamps_are_month_first_and_placed_within_their_second(shared_data):
    ds = csv.load(shared_data / LANDT)
    assert ds["stamp"].values[0] == np.datetime64("2024-04-30T14:33:19")
    assert ds["stamp"].values[-1] == np.datetime64("2024-05-03T15:30:57")
    within = (ds["time"].values - ds["stamp"].values) / np.timedelta64(1, "s")
    assert within.min() >= 0
    assert within.max() < 1
    # the test clock counts milliseconds: intervals are its own, but for the drift of the clocks
    np.testing.assert_allclose(np.diff(ds["time"].values) / np.timedelta64(1, "s"), np.diff(ds["test_time"].values), atol=0.35)
    assert int(ds["segment"].max()) == 0


@pytest.mark.real_data
def test_landt_rows_have_one_field_more_than_the_header_and_nothing_shifts(shared_data):
    ds = csv.load(shared_data / LANDT)
    assert set(np.unique(ds["step_type"].values.astype(str))) == {"rest", "charge CC", "discharge CC"}
    assert ds["voltage"].values[0] == 2.9215
    assert ds["temperature_1"].attrs["units"] == "degC"
    assert ds["pressure"].attrs["units"] == "psi"
    # current is signed, charge positive: so say step names and counters
    assert (ds["current"].values[ds["step_type"].values == "charge CC"] > 0).all()
    assert (ds["current"].values[ds["step_type"].values == "discharge CC"] < 0).all()
    assert ds.attrs["current_sign"] == "as written; agrees with the step type"


@pytest.mark.real_data
def test_landt_charge_is_continuous_over_the_resets(shared_data):
    ds = csv.load(shared_data / LANDT)
    steps = np.abs(np.diff(ds["charge"].values))
    assert steps.max() <= 1e-4 * 3600 + 1e-9  # one printed digit of the counters
    first_discharge = ds["charge"].values[16044] - ds["charge"].values[2880]
    assert first_discharge == pytest.approx(-0.0063 * 3600)
    then_charge = ds["charge"].values[22461] - ds["charge"].values[16044]
    assert then_charge == pytest.approx(0.0032 * 3600)


@pytest.mark.real_data
def test_maccor_test_time_is_in_minutes_by_its_own_stamps(shared_data):
    ds = valid(csv.load(shared_data / MACCOR))
    assert ds.sizes["time"] == 7446
    assert ds["stamp"].values[0] == np.datetime64("2021-05-11T15:40:24")
    assert ds["stamp"].values[-1] == np.datetime64("2021-05-14T07:10:13")
    assert "TestTime is in min (by the stamps)" in ds.attrs["time_written_as"]
    assert ds["test_time"].values[1] == 60.0
    elapsed = (ds["stamp"].values - ds["stamp"].values[0]) / np.timedelta64(1, "s")
    np.testing.assert_allclose(ds["test_time"].values, elapsed, atol=2.0)  # the clocks drift 1.6 s apart in 63 h
    assert json.loads(ds.attrs["claims"])["SCap"] == "0.017"


@pytest.mark.real_data
def test_maccor_current_gets_its_sign_from_the_state(shared_data):
    ds = csv.load(shared_data / MACCOR)
    state = ds["step_type"].values
    assert (ds["current"].values[state == "D"] < 0).all()
    assert (ds["current"].values[state == "C"] > 0).all()
    assert ds.attrs["current_sign"] == "unsigned; the sign is that of the step type"
    np.testing.assert_allclose(ds["charge"].values - ds["charge"].values[0], integral(ds), atol=2e-4)
    # first charge 2.442 mAh, then 2.251 mAh out
    assert np.ptp(ds["charge"].values) / 3.6 == pytest.approx(2.468, abs=0.001)
    assert (ds["cycle"].values[[0, -1]] == [1, 2]).all()


@pytest.mark.real_data
def test_neware_export(shared_data):
    ds = valid(csv.load(shared_data / NEWARE))
    assert ds.sizes["time"] == 9065
    assert ds["time"].values[0] == np.datetime64("2022-05-18T16:27:52")
    assert ds["time"].values[-1] == np.datetime64("2022-05-24T16:29:53")
    assert ds["test_time"].values[-1] == 144 * 3600 + 2 * 60 + 18
    assert ds["step_time"].values[-1] == 87 * 60
    np.testing.assert_allclose(ds["charge"].values, integral(ds), atol=0.003)
    assert ds["charge_capacity"].attrs["units"] == "A*h"
    assert ds["spec_cap"].attrs["units"] == "mA*h/g"
    assert ds["contact_resistance"].attrs["units"] == "mohm"
    assert ds.attrs["dropped_columns"] == "Module start-stop switch"
    assert ds["step"].dtype == ds["cycle"].dtype == np.int64


@pytest.mark.real_data
def test_thermobalance_without_header_with_carriage_returns_only(shared_data):
    ds = valid(csv.load(shared_data / TGA, technique="sensor", columns={"time": {"column": 1, "unit": "h"}, "mass": {"column": 2, "unit": "mg"}}))
    assert ds.sizes["time"] == 3247
    assert list(ds.data_vars) == ["mass"]
    first = (ds["time"].values[0] - np.datetime64(0, "ns")) / np.timedelta64(1, "h")
    assert first == pytest.approx(-16.13)
    assert ds.attrs["time_origin"] == "counter"
    assert ds["mass"].attrs["sampling"] == "continuous"


@pytest.mark.real_data
def test_only_known_dialects_are_claimed_and_never_a_file_of_another_loader(shared_data):
    said = {p: csv.claims(shared_data / p) for p in (LANDT, MACCOR, NEWARE)}
    assert said == {LANDT: "Landt csv export", MACCOR: "Maccor text export", NEWARE: "Neware BTSDA csv export"}
    others = [
        LANDT_BDF,
        TGA,
        "eis/hybrid-drt_BSD3/Sample2_PEIS_AtRest.csv",
        "ir/spectrochempy_data/csv/IR.CSV",
        "raman/datalab_MIT/raman_example.txt",
    ]
    assert [csv.claims(shared_data / p) for p in others] == [None] * len(others)


@pytest.mark.real_data
def test_host_zone_changes_nothing(shared_data, monkeypatch):
    times = []
    for zone in ("UTC", "Europe/Paris", "America/Chicago"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        times.append(csv.load(shared_data / MACCOR)["time"].values)
    monkeypatch.undo()
    time.tzset()
    np.testing.assert_array_equal(times[0], times[1])
    np.testing.assert_array_equal(times[0], times[2])


# --- time ------------------------------------------------------------------------------------------------------------

FORMS = [
    (["2026-06-03 10:00:00", "2026-06-03 10:00:30"], "2026-06-03T10:00:00", False),
    (["2026-06-03T10:00:00.250", "2026-06-03T10:00:30.500"], "2026-06-03T10:00:00.250", False),
    (["2026-06-03T10:00:00+02:00", "2026-06-03T10:00:30+02:00"], "2026-06-03T08:00:00", True),
    (["2026-06-03T10:00:00Z", "2026-06-03T10:00:30Z"], "2026-06-03T10:00:00", True),
    (["2026/06/03 10:00:00", "2026/06/03 10:00:30"], "2026-06-03T10:00:00", False),
    (["06/13/2026 10:00:00 AM", "06/13/2026 10:00:30 PM"], "2026-06-13T10:00:00", False),
    (["13/06/2026 10:00:00", "13/06/2026 10:00:30"], "2026-06-13T10:00:00", False),
    (["03.06.2026 10:00:00", "03.06.2026 10:00:30"], "2026-06-03T10:00:00", False),
    (["3.6.2026 9:00", "3.6.2026 9:01"], "2026-06-03T09:00:00", False),
    (["03-Jun-26 2:33:19 PM", "03-Jun-26 2:33:49 PM"], "2026-06-03T14:33:19", False),
    (["06/30/2026 23:59:00", "07/01/2026 00:01:00"], "2026-06-30T23:59:00", False),
]


@pytest.mark.parametrize(("stamps", "first", "utc"), FORMS, ids=[f[0][0] for f in FORMS])
def test_stamps(tmp_path, stamps, first, utc):
    ds = valid(csv.load(table(tmp_path / "a.csv", stamps)))
    assert ds["time"].values[0] == np.datetime64(first)
    assert ds.attrs["timezone_source"] == ("file" if utc else "none")
    assert ("stamp" in ds.coords) is not utc
    assert int(ds["segment"].max()) == 0


@pytest.mark.parametrize(
    ("header", "values", "first", "utc"),
    [
        ("Date_Time", ["45412.606470", "45412.606643"], "2024-04-30T14:33:19.008", False),
        ("Date Time", ["45412,5", "45412,75"], "2024-04-30T12:00:00", False),
        ("Time (s)", ["1717000000.5", "1717000001.5"], "2024-05-29T16:26:40.5", True),
        ("Timestamp", ["1717000000500", "1717000001500"], "2024-05-29T16:26:40.5", True),
    ],
)
def test_stamps_as_numbers(tmp_path, header, values, first, utc):
    decimal = "," if "," in values[0] else "."
    rows = [f"{v};3{decimal}5;1{decimal}5" for v in values]
    ds = csv.load(write(tmp_path / "a.csv", "\n".join([f"{header};Ecell (V);I (mA)", *rows, ""])))
    assert abs(ds["time"].values[0] - np.datetime64(first)) < np.timedelta64(2, "us")
    assert ds.attrs["timezone_source"] == ("file" if utc else "none")


@pytest.mark.parametrize("stamps", [["05/06/2026 10:00:00", "05/06/2026 10:00:30"], ["5/6/2026 10:00:00 AM", "5/6/2026 10:00:30 AM"]])
def test_ambiguous_day_and_month_are_refused_naming_the_option(tmp_path, stamps):
    path = table(tmp_path / "a.csv", stamps)
    with pytest.raises(LoaderError, match=r"(?s)day and month cannot be told apart.*time_format: '%d/%m/%Y"):
        csv.load(path)
    form = "%d/%m/%Y %I:%M:%S %p" if "AM" in stamps[0] else "%d/%m/%Y %H:%M:%S"
    assert csv.load(path, time_format=form)["time"].values[0] == np.datetime64("2026-06-05T10:00:00")


def test_the_test_clock_tells_day_from_month(tmp_path):
    rows = ["06/11/2026 23:00:00,0,3.5,1", "07/11/2026 01:00:00,7200,3.6,1"]  # two hours, not a month
    ds = csv.load(write(tmp_path / "a.csv", "\n".join(["Date,Test Time (s),Ecell (V),I (mA)", *rows, ""])))
    assert ds["time"].values[0] == np.datetime64("2026-11-06T23:00:00")


def test_order_tells_day_from_month(tmp_path):
    ds = csv.load(table(tmp_path / "a.csv", ["11/06/2026 10:00:00", "12/06/2026 10:00:00", "01/07/2026 10:00:00"]))
    assert ds["time"].values[0] == np.datetime64("2026-06-11T10:00:00")


def test_date_and_time_in_two_columns(tmp_path):
    text = "Date\tTime\tEcell (V)\tI (mA)\n30.06.2026\t23:59:30\t3,5\t1,0\n01.07.2026\t00:00:30\t3,6\t1,0\n"
    found = csv.load(write(tmp_path / "a.txt", text))
    said = csv.load(tmp_path / "a.txt", columns={"time": ["Date", "Time"]})
    for ds in (found, said):
        np.testing.assert_array_equal(ds["time"].values, np.array(["2026-06-30T23:59:30", "2026-07-01T00:00:30"], "datetime64[ns]"))
    assert found["voltage"].values[1] == 3.6


def test_elapsed_time_alone_is_a_counter(tmp_path):
    ds = csv.load(write(tmp_path / "a.csv", "Time [h],Ecell (V)\n0,3.5\n0.5,3.6\n100,3.7\n"))
    assert ds.attrs["time_origin"] == "counter"
    assert ds["time"].values[2] - ds["time"].values[0] == np.timedelta64(100, "h")


def test_elapsed_time_of_many_hours(tmp_path):
    ds = csv.load(write(tmp_path / "a.csv", "Time,Ecell (V)\n00:00:00,3.5\n144:02:18.5,3.6\n2d 00:00:01,3.7\n"))
    seconds = (ds["time"].values - np.datetime64(0, "ns")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, [0, 144 * 3600 + 138.5, 172801])
    np.testing.assert_array_equal(ds["segment"].values, [0, 0, 1])


def test_elapsed_time_without_a_unit_is_refused_with_the_option(tmp_path):
    path = write(tmp_path / "a.csv", "Time,Ecell (V)\n0,3.5\n1,3.6\n")
    with pytest.raises(LoaderError, match="time_unit"):
        csv.load(path)
    ds = csv.load(path, time_unit="min")
    assert ds["time"].values[1] - ds["time"].values[0] == np.timedelta64(60, "s")


def test_a_start_in_the_preamble_is_used_where_it_is_clear(tmp_path):
    body = "Time (s),Ecell (V)\n0,3.5\n10,3.6\n"
    ds = csv.load(write(tmp_path / "a.csv", "Started: 2026-06-03 10:00:00\nOperator: A\n" + body))
    assert ds["time"].values[1] == np.datetime64("2026-06-03T10:00:10")
    assert ds.attrs["time_origin"] == "header"
    ds = csv.load(write(tmp_path / "b.csv", "Started: 05/06/2026 10:00:00\n" + body))
    assert ds.attrs["time_origin"] == "counter"


def test_a_backward_step_begins_a_segment_and_nothing_is_sorted(tmp_path):
    stamps = ["2026-06-03 10:00:00", "2026-06-03 10:00:30", "2026-06-03 09:58:00", "2026-06-03 09:58:30"]
    ds = valid(csv.load(table(tmp_path / "a.csv", stamps)))
    np.testing.assert_array_equal(ds["segment"].values, [0, 0, 1, 1])
    np.testing.assert_allclose(ds["voltage"].values, [3.0, 3.1, 3.2, 3.3])


def test_stamps_win_over_a_test_clock_that_stops_in_a_pause(tmp_path):
    rows = ["2026-06-03 10:00:00,0,3.5,1", "2026-06-03 10:00:30,30,3.5,1", "2026-06-03 12:00:30,30.5,3.5,1"]
    ds = csv.load(write(tmp_path / "a.csv", "\n".join(["Date,Test Time (s),Ecell (V),I (mA)", *rows, ""])))
    assert ds["time"].values[2] - ds["time"].values[1] >= np.timedelta64(7199, "s")
    np.testing.assert_allclose(ds["test_time"].values, [0, 30, 30.5])


# --- columns, units, signs -------------------------------------------------------------------------------------------


def test_column_map_with_units_and_foreign_names(tmp_path):
    text = "# a log\nzeit;spannung;strom;ofen [°C]\n0;3500;1,5;25,0\n60;3600;1,5;25,1\n"
    ds = valid(
        csv.load(
            write(tmp_path / "a.csv", text, "latin-1"),
            columns={
                "time": {"column": "zeit", "unit": "s"},
                "voltage": {"column": "spannung", "unit": "mV"},
                "current": {"column": "strom", "unit": "mA"},
                "temperature": "ofen [°C]",
            },
        )
    )
    np.testing.assert_allclose(ds["voltage"].values, [3.5, 3.6])
    np.testing.assert_allclose(ds["current"].values, [1.5e-3, 1.5e-3])
    assert ds["temperature"].attrs["units"] == "degC"


def test_a_unit_that_is_not_said_is_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "time/s,voltage,current\n0,3.5,1\n1,3.6,1\n")
    with pytest.raises(LoaderError, match=r"(?s)unit of column 'voltage' is not said.*columns: \{voltage: \{column: voltage, unit: V\}\}"):
        csv.load(path)


def test_a_line_of_units_below_the_names(tmp_path):
    ds = csv.load(write(tmp_path / "a.txt", "Time\tVoltage\tCurrent\ns\tV\tmA\n0\t3.5\t2\n1\t3.6\t2\n"))
    np.testing.assert_allclose(ds["current"].values, 2e-3)


def test_a_column_that_does_not_exist_lists_those_that_do(tmp_path):
    path = write(tmp_path / "a.csv", "time/s,U/V\n0,3.5\n1,3.6\n")
    with pytest.raises(LoaderError, match=r"(?s)no column 'Ewe/V'.*U/V"):
        csv.load(path, columns={"voltage": "Ewe/V"})


@pytest.mark.parametrize("reset", ["step", "never"])
@pytest.mark.parametrize("written", ["signed", "unsigned", "reversed"])
def test_sign_and_charge_from_counters(tmp_path, reset, written):
    seconds = np.arange(0, 400, 10.0)
    step = (seconds // 100).astype(int)
    true = np.where(step % 2, -1e-3, 1e-3)
    flow = np.r_[0, true[1:] * 10]
    into = np.cumsum(np.maximum(flow, 0))
    out = np.cumsum(np.maximum(-flow, 0))
    if reset == "step":
        first = np.r_[True, np.diff(step) > 0]
        since = np.maximum.accumulate(np.where(first, np.arange(len(step)), 0))
        into, out = into - np.where(since > 0, into[since - 1], 0), out - np.where(since > 0, out[since - 1], 0)
    current = {"signed": true, "unsigned": np.abs(true), "reversed": -true}[written]
    rows = [f"{t},{k},{3.5},{i},{a / 3600},{b / 3600}" for t, k, i, a, b in zip(seconds, step, current, into, out, strict=True)]
    text = "Time (s),Step,Voltage (V),Current (A),Charge Capacity (Ah),Discharge Capacity (Ah)\n" + "\n".join(rows) + "\n"
    ds = valid(csv.load(write(tmp_path / "a.csv", text)))
    np.testing.assert_allclose(ds["charge"].values, np.cumsum(flow), atol=1e-12)
    np.testing.assert_allclose(ds["current"].values[1:], true[1:])
    assert ds.attrs["current_sign"].startswith("as written" if written == "signed" else written)


def test_current_sign_as_configured(tmp_path):
    path = write(tmp_path / "a.csv", "t/s,U/V,I/A\n0,3.5,1\n1,3.4,1\n")
    assert (csv.load(path, current_sign="discharge")["current"].values == -1).all()
    with pytest.raises(LoaderError, match="charge or discharge"):
        csv.load(path, current_sign="positive")


def test_unknown_columns_survive_in_their_thousands(tmp_path):
    names = [f"Cell {i} (mV)" for i in range(1500)]
    rows = [",".join([str(t), "3.5", *["1.0"] * 1500]) for t in range(3)]
    ds = valid(csv.load(write(tmp_path / "a.csv", ",".join(["t/s", "U/V", *names]) + "\n" + "\n".join(rows) + "\n")))
    assert len(ds.data_vars) == 1501
    assert ds["cell_1499"].attrs["units"] == "mV"


def test_names_of_the_contract_are_not_taken_by_a_column(tmp_path):
    ds = valid(csv.load(write(tmp_path / "a.csv", "t/s,U/V,Source,Quality,Energy (Wh),r\n0,3.5,1,2,0.1,7\n1,3.6,1,2,0.2,7\n")))
    assert {"source_column", "quality_column", "cell_energy", "r_logged"} <= set(ds.data_vars)
    assert ds["cell_energy"].attrs["units"] == "W*h"


def test_sensor_channels_declare_themselves(tmp_path):
    text = "Timestamp,T1 (°C),Flow [sccm],Valve,Ring current [mA],odd\n" + "".join(
        f"2026-06-03 10:00:{i:02d},{25 + i},10,{'open' if i > 2 else 'closed'},199.5,{i}\n" for i in range(6)
    )
    path = write(tmp_path / "a.csv", text)
    ds = valid(csv.load(path, sampling={"valve": "event"}, transport_delay={"flow": "12 s"}))
    assert ds.attrs["technique"] == "sensor"
    assert ds["flow"].attrs == {"units": "sccm", "long_name": "Flow [sccm]", "sampling": "continuous", "transport_delay_s": 12.0}
    assert ds["valve"].attrs["sampling"] == "event"
    assert list(ds["valve"].values[[0, 5]]) == ["closed", "open"]
    assert ds["odd"].attrs["units"] == "1"
    assert ds["ring_current"].attrs["units"] == "mA"
    with pytest.raises(LoaderError, match="names no channel"):
        csv.load(path, sampling={"valves": "step"})


# --- how text is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), ("\t", ","), ("|", "."), ("  ", ".")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_delimiters_decimals_ends_and_encodings(tmp_path, end, separator, decimal, encoding):
    head = ["Gerät: Öfchen", "", separator.join(["t/s", "U/V", "I/mA"])]
    rows = [separator.join(f"{v:.2f}".replace(".", decimal) for v in (i, 3.25, 1.5)) for i in range(5)]
    path = write(tmp_path / "a.txt", end.join([*head, *rows, ""]), encoding)
    ds = csv.load(path)
    assert ds["voltage"].values.tolist() == [3.25] * 5
    assert ds["current"].values.tolist() == [1.5e-3] * 5
    assert json.loads(ds.attrs["claims"]) == {"Gerät": "Öfchen"}


def test_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    raw = b"t/s,U/V\n0,3.5\n1,3.6\n" * 1
    path.write_bytes(gzip.compress(raw, mtime=0))
    assert csv.load(path).sizes["time"] == 2
    path.write_bytes(gzip.compress(raw, mtime=0)[:-9])
    with pytest.raises(LoaderError, match="gzip"):
        csv.load(path)


def test_a_half_written_last_line_is_left_out_and_said(tmp_path):
    ds = csv.load(write(tmp_path / "a.csv", "t/s,U/V,I/A\n0,3.5,1\n1,3.6,1\n2,3."))
    assert ds.sizes["time"] == 2
    assert "half-written" in ds.attrs["notes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("just words\nand more words\n", "no table of numbers"),
        ("a,b\n1,2\n2,3\n", "no column of time"),
        ("t/s,U/V\n0,3.5\n1,3.6,9,9\n2,3\n", "line 3 has 4 fields"),
        ("t/s,U/V\n0,3.5\n1,abc\n2,3\n", "not numbers"),
        ("t/s,U/V,\n0,3.5,1\n1,3.6,1\n", "fewer names than"),
        ("Time,U/V\n2026-06-03 10:00:00,3\n2026-06-03 10:00:01+02:00,3\n", "carry a zone"),
        ("Time,U/V\n2026-06-03 10:00:00,3\n2026-06-03 10:99:01,3\n", "row 2"),
    ],
)
def test_faulty_files_say_what_is_wrong(tmp_path, text, message):
    with pytest.raises(LoaderError, match=message) as caught:
        csv.load(write(tmp_path / "a.csv", text))
    assert "a.csv" in str(caught.value)


def test_arbin_header_is_known(tmp_path):
    header = "Data_Point,Test_Time(s),Date_Time,Step_Time(s),Step_Index,Cycle_Index,Current(A),Voltage(V),Charge_Capacity(Ah),Discharge_Capacity(Ah)"
    rows = [f"{i + 1},{30 * i}.5,2010-09-27 14:{12 + i // 2}:{30 * (i % 2):02d},{30 * i},1,1,0.55,3.4,{i * 0.00458},0" for i in range(4)]
    path = write(tmp_path / "a.csv", "\n".join([header, *rows, ""]))
    assert csv.claims(path) == "Arbin csv export"
    ds = valid(csv.load(path))
    assert ds["charge"].values[-1] == pytest.approx(3 * 0.00458 * 3600)
    assert "data_point" not in ds


# --- broken files ----------------------------------------------------------------------------------------------------


def mutated(raw: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    out = bytearray(raw)
    if kind == 0:
        return raw[: rng.randrange(len(raw))]
    if kind == 1:
        for _ in range(rng.choice([1, 5, 100])):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        lines = raw.splitlines(keepends=True)
        rng.shuffle(lines)
        return b"".join(lines)
    elif kind == 3:
        at = rng.randrange(len(out))
        del out[at : at + rng.choice([1, 10, 1000])]
    else:
        for _ in range(5):
            out[rng.randrange(min(600, len(out)))] = rng.randrange(256)
    return bytes(out)


@pytest.mark.real_data
@pytest.mark.parametrize("name", [LANDT, MACCOR, NEWARE])
def test_broken_files_raise_nothing_but_our_errors(shared_data, tmp_path, name):
    with (shared_data / name).open("rb") as f:
        raw = f.read(6000)
    raw = raw.replace(b"5/11/2021", b"5/13/2021")
    path = tmp_path / Path(name).name
    for seed in range(40):
        path.write_bytes(mutated(raw, random.Random(seed)))
        csv.claims(path)
        said = complaint(path)
        assert said is None or os.fspath(path) in said


@pytest.mark.parametrize("counter", ["half", "net"])
@pytest.mark.parametrize("name", ["Capacity (mAh)", "Charge (mAh)", "Net Capacity (mAh)", "(Q-Qo)/mA.h"])
def test_what_a_counter_counts_is_found_by_the_current(name: str, counter: str, tmp_path: Path) -> None:
    """1 mA for 1 h up, 1 h down, twice: whatever the column is called, the net charge is the integral of the current."""
    rows, second, net = ["Date Time,Voltage (V),Current (mA)," + name], 0, 0.0
    for current in (1, -1, 1, -1):
        begin = net
        for _ in range(360):
            stamp = np.datetime64("2026-07-01T09:00:00") + np.timedelta64(second, "s")
            shown = net if counter == "net" else abs(net - begin)
            rows.append(f"{str(stamp).replace('T', ' ')},{3.4 + 0.3 * net:.5f},{current},{shown:.6f}")
            second, net = second + 10, net + current * 10 / 3600
    (tmp_path / "cell.csv").write_text("\n".join(rows) + "\n")
    ds = op.load(tmp_path / "cell.csv", "csv", technique="echem", timezone="UTC")
    charge = ds["charge"].values / 3.6
    assert charge.max() - charge.min() == pytest.approx(1.0, abs=0.01)
    assert abs(charge[-1] - charge[0]) < 0.01
    assert "charge_doubt" not in ds.attrs


def test_a_counter_that_the_current_contradicts_is_doubted(tmp_path: Path) -> None:
    second = np.arange(0, 7200, 10)
    current = np.where(second < 3600, 1.0, -1.0)
    counter = 1000 * np.abs(np.where(second < 3600, second, 7200 - second)) / 3600  # uAh under the name of mAh
    rows = [f"{t},{3.4 + 1e-5 * t:.4f},{i},{q:.4f}" for t, i, q in zip(second, current, counter, strict=True)]
    (tmp_path / "cell.csv").write_text("time/s,Voltage (V),Current (mA),Net Charge (mAh)\n" + "\n".join(rows) + "\n")
    ds = op.load(tmp_path / "cell.csv", "csv", technique="echem", timezone="UTC", start="2026-07-01T09:00:00")
    assert "is the unit right" in ds.attrs["charge_doubt"]
