"""The Battery Data Format loader: labels, times, counters that reset although they should not, and broken files."""

from __future__ import annotations

import builtins
import gzip
import os
import random
from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError, OperandoError, canonical, faults
from operando.loaders import bdf, csv

FOLDER = "echem/bdf_Apache2"
LANDT = f"{FOLDER}/SINTEF__LiGrR2032__2024-04-30__25degC__Landt.bdf.csv"
BASYTEC = f"{FOLDER}/DLR__LiLNMOHydra0b__20221125__POCV__25degC__Basytec.bdf.csv"
LEGACY = f"{FOLDER}/legacy.bdf.parquet"


def complaint(path: Path) -> str | None:
    """Give what the loader says of a broken file, None if it could read it; any other error goes through."""
    try:
        bdf.load(path)
    except OperandoError as error:
        return str(error)
    return None


def valid(ds):
    """Check a series the way the loader layer does, and give it back in canonical units."""
    made = canonical(ds)
    made.attrs.update(loader="bdf", loader_version=bdf.VERSION, options="{}")
    assert faults(made, as_written=True) == []
    return made


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows, ""]))
    return path


@pytest.mark.real_data
def test_test_time_alone_is_a_counter(shared_data):
    ds = valid(bdf.load(shared_data / LANDT))
    assert ds.attrs["time_origin"] == "counter"
    assert ds["time"].values[1] == np.datetime64("1970-01-01T00:00:15.020")
    assert ds["charge"].values[0] == 0.0
    assert "stamp" not in ds.coords


@pytest.mark.real_data
def test_a_span_of_years_is_doubted_and_mended_only_when_asked(shared_data):
    ds = valid(bdf.load(shared_data / BASYTEC))
    assert ds.sizes["time"] == 17860
    assert "16.8 years" in ds.attrs["time_doubt"]
    mended = bdf.load(shared_data / BASYTEC, test_time_factor=1 / 3600)
    assert "time_doubt" not in mended.attrs
    assert (mended["time"].values[-1] - mended["time"].values[0]) / np.timedelta64(1, "h") == pytest.approx(40.93, abs=0.01)


@pytest.mark.real_data
def test_legacy_parquet_with_milliseconds(shared_data):
    ds = valid(bdf.load(shared_data / LEGACY))
    assert ds.sizes["time"] == 5000
    assert ds["time"].values[0] == np.datetime64("2024-07-02T15:18:58.046")
    assert ds.attrs["timezone_source"] == "file"
    assert ds["test_time"].values[1] == 1.0
    assert ds["cycle"].dtype == np.int64


@pytest.mark.real_data
def test_claims_by_label_only(shared_data, tmp_path):
    assert bdf.claims(shared_data / LANDT) == bdf.claims(shared_data / BASYTEC) == "Battery Data Format, csv"
    assert bdf.claims(shared_data / LEGACY) == "Battery Data Format, parquet"
    for path in sorted((shared_data / "echem").rglob("*")):
        if path.is_file() and ".bdf." not in path.name:
            assert bdf.claims(path) is None, path
        elif path.is_file():
            assert csv.claims(path) is None, path
    assert bdf.claims(tmp_path / "missing.csv") is None


def test_unix_time_wins_over_a_test_time_that_stops_in_pauses(tmp_path):
    rows = ["0,1717000000.5,3.5,0.1", "10,1717000010.5,3.5,0.1", "20,1717007200.5,3.6,0.1"]
    ds = valid(bdf.load(write(tmp_path / "a.csv", "test_time_second,unix_time_second,voltage_volt,current_ampere", rows)))
    assert ds["time"].values[0] == np.datetime64("2024-05-29T16:26:40.5")
    assert ds["time"].values[2] - ds["time"].values[1] == np.timedelta64(7190, "s")
    assert ds.attrs["timezone_source"] == "file"
    np.testing.assert_allclose(ds["test_time"].values, [0, 10, 20])


@pytest.mark.parametrize(
    "header",
    [
        "test_time_second,voltage_volt,current_ampere,cycle_count,step_id,net_capacity_ah,ambient_temperature_celsius",
        "Test Time / s,Voltage / V,Current / A,Cycle Count / 1,Step ID,Net Capacity / Ah,Ambient Temperature / degC",
    ],
)
def test_both_kinds_of_label(tmp_path, header):
    path = write(tmp_path / "a.csv", header, ["0,3.5,1,0,1,0,25", "36,3.6,1,0,1,0.01,25"])
    assert bdf.claims(path) == "Battery Data Format, csv"
    ds = valid(bdf.load(path))
    np.testing.assert_allclose(ds["charge"].values, [0, 36])
    assert ds["temperature"].attrs["units"] == "degC"
    assert {"cycle", "step"} <= set(ds.data_vars)


def test_counters_that_reset_although_they_should_not(tmp_path):
    rows = ["0,3.5,1,1,0,0", "3600,3.6,1,1,1,0", "3600,3.5,-1,2,0,0", "7200,3.4,-1,2,0,1", "7200,3.5,1,3,0,0", "10800,3.6,1,3,1,0"]
    ds = bdf.load(
        write(tmp_path / "a.csv", "test_time_second,voltage_volt,current_ampere,step_index,charging_capacity_ah,discharging_capacity_ah", rows)
    )
    np.testing.assert_allclose(ds["charge"].values, [0, 3600, 3600, 0, 0, 3600])
    np.testing.assert_array_equal(ds["step"].values, [1, 1, 2, 2, 3, 3])


def test_cycles_in_radians_and_step_index_that_counts_records(tmp_path):
    rows = [f"{i},3.5,0.1,{2 * np.pi * (1 + i // 30)!r},{1 + i % 30}" for i in range(60)]
    ds = valid(bdf.load(write(tmp_path / "a.csv", "test_time_second,voltage_volt,current_ampere,cycle_count,step_index", rows)))
    np.testing.assert_array_equal(ds["cycle"].values, np.repeat([1, 2], 30))
    assert "radians" in ds.attrs["cycle_written_as"]
    assert "step" not in ds
    assert ds["step_record_index"].values[29] == 30


def test_a_backward_step_begins_a_segment(tmp_path):
    ds = valid(bdf.load(write(tmp_path / "a.csv", "test_time_second,voltage_volt", ["0,3.5", "10,3.5", "0,3.6", "10,3.6"])))
    np.testing.assert_array_equal(ds["segment"].values, [0, 0, 1, 1])


def test_gzip_and_unknown_columns(tmp_path):
    path = tmp_path / "a.bdf.csv.gz"
    path.write_bytes(gzip.compress(b"test_time_second,voltage_volt,swelling_um,time\n0,3.5,1.5,7\n1,3.6,1.6,7\n", mtime=0))
    assert bdf.claims(path) == "Battery Data Format, csv"
    ds = valid(bdf.load(path))
    assert ds["swelling"].attrs["units"] == "um"
    assert ds["time_logged"].values[0] == 7


def test_parquet_round_trip_with_timestamps(tmp_path):
    import pandas as pd

    stamps = pd.to_datetime(["2026-06-03T10:00:00Z", "2026-06-03T10:00:30Z"])
    frame = pd.DataFrame({"Unix Time / s": stamps, "Voltage / V": [3.5, 3.6], "Current / A": [1.0, 1.0], "Step Type": ["CC_CHG", "CC_CHG"]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert bdf.claims(tmp_path / "a.parquet") == "Battery Data Format, parquet"
    ds = valid(bdf.load(tmp_path / "a.parquet"))
    assert ds["time"].values[1] == np.datetime64("2026-06-03T10:00:30")


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 voltage_volt test_time_second PAR1")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoaderError, match=r'pip install "operando\[parquet\]"'):
        bdf.load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("time,voltage", ["0,1", "1,2"], "not Battery Data Format"),
        ("test_time_second,voltage_volt", [], "no table of numbers"),
        ("test_time_second,voltage_volt", ["0,3.5", "x,3.5", "2,3.5"], "not numbers"),
        ("test_time_second,voltage_volt", ["0,3.5", ",3.5", "2,3.5"], "row 2"),
    ],
)
def test_faulty_files_say_what_is_wrong(tmp_path, header, rows, message):
    with pytest.raises(LoaderError, match=message):
        bdf.load(write(tmp_path / "a.csv", header, rows))


def test_every_label_is_read_back_and_names_are_exportable():
    for label in bdf.LABELS:
        for written in (label.notation, label.preferred):
            assert bdf._read_label(written) == (label.name, label.factor)
    assert bdf.bdf_name("charge").notation == "net_capacity_ah"
    assert bdf.bdf_name("time").notation == "unix_time_second"
    assert bdf.bdf_name("nothing") is None


@pytest.mark.real_data
@pytest.mark.parametrize("name", [LANDT, LEGACY])
def test_broken_files_raise_nothing_but_our_errors(shared_data, tmp_path, name):
    raw = (shared_data / name).read_bytes()
    raw = raw[:5000] if name == LANDT else raw
    path = tmp_path / Path(name).name
    for seed in range(60):
        rng = random.Random(seed)
        out = bytearray(raw)
        if seed % 4 == 0:
            del out[rng.randrange(len(out)) :]
        elif seed % 4 == 1:
            for _ in range(rng.choice([1, 10, 200])):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif seed % 4 == 2:
            lines = raw.splitlines(keepends=True)
            rng.shuffle(lines)
            out = bytearray(b"".join(lines))
        else:
            for _ in range(20):  # parquet's footer, or the last rows
                out[-1 - rng.randrange(min(3000, len(out)))] = rng.randrange(256)
        path.write_bytes(out)
        bdf.claims(path)
        said = complaint(path)
        assert said is None or os.fspath(path) in said
