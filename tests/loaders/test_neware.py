"""The Neware loader: zones by version, stamps that run backwards, charge over steps, and broken files."""

from __future__ import annotations

import builtins
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError, OperandoError, Quality, canonical, faults
from operando.loaders import bdf, csv, neware

pytest.importorskip("fastnda")

JUMPS = "echem/newarenda_BSD/TestFile.nda"
UNIT = "echem/newarenda_BSD/123456789012_Unit27_Example_Data_File.ndax"
NDA29 = "echem/navani_MIT/test.nda"
NDC5 = "echem/navani_MIT/test.ndax"
FILES = [JUMPS, UNIT, NDA29, NDC5]


def complaint(path: Path) -> str | None:
    """Give what the loader says of a broken file, None if it could read it; any other error goes through."""
    try:
        neware.load(path)
    except OperandoError as error:
        return str(error)
    return None


def valid(ds):
    """Check a series the way the loader layer does, and give it back in canonical units."""
    made = canonical(ds)
    made.attrs.update(loader="neware", loader_version=neware.VERSION, options="{}")
    assert faults(made, as_written=True) == []
    return made


@pytest.mark.real_data
def test_a_clock_that_steps_back_is_split_and_not_sorted(shared_data):
    ds = valid(neware.load(shared_data / JUMPS))
    assert ds.sizes["time"] == 6670
    np.testing.assert_array_equal(ds["source_index"].values, np.arange(6670))
    steps = np.diff(ds["time"].values) / np.timedelta64(1, "s")
    assert list(np.flatnonzero(steps < 0)) == [4914]
    assert steps[4914] == pytest.approx(-165.0)
    assert steps.max() == pytest.approx(16969.03, abs=0.01)
    segment = ds["segment"].values
    assert (segment[:4915] == 0).all()
    assert (segment[4915:] == 1).all()
    flagged = np.flatnonzero(ds["quality"].values & int(Quality.INTERRUPTED))
    np.testing.assert_array_equal(flagged, [2, 4915, 6623])
    assert "record 4914 -> 4915: the stamp goes back 165 s, the test clock 10 s" in ds.attrs["clock_findings"]
    assert "record 6622 -> 6623: the stamp advances 16969 s" in ds.attrs["clock_findings"]


@pytest.mark.real_data
def test_bts9_stamps_are_utc(shared_data):
    ds = neware.load(shared_data / JUMPS)
    assert ds.attrs["timezone_source"] == "file"
    assert ds["time"].values[0] == np.datetime64("2024-05-27T08:02:53.970")
    assert "stamp" not in ds.coords


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "first"), [(NDA29, "2020-03-25T11:16:50"), (NDC5, "2024-02-01T20:24:23")])
def test_calendar_stamps_are_wall_clock(shared_data, name, first):
    ds = valid(neware.load(shared_data / name))
    assert ds.attrs["timezone_source"] == "none"
    assert ds["stamp"].values[0] == np.datetime64(first)
    # the header states the start in the local time of the cycler's computer: the same clock
    local = next(v for k, v in json.loads(ds.attrs["claims"]).items() if k.rpartition(".")[2].lower().replace("_", "") == "starttime")
    assert abs(np.datetime64(local.replace(" ", "T")) - ds["stamp"].values[0]) < np.timedelta64(60, "s")


@pytest.mark.real_data
def test_run_info_stamps_are_utc_with_milliseconds(shared_data):
    ds = valid(neware.load(shared_data / UNIT))
    assert ds.attrs["timezone_source"] == "file"
    assert ds["time"].values[0] == np.datetime64("2024-11-18T12:43:45.422")
    assert json.loads(ds.attrs["claims"])["computer_utc_offset_h"] == 0.0
    assert ds["aux1_temperature"].attrs["units"] == "degC"


@pytest.mark.real_data
def test_repeated_stamps_are_placed_within_their_second(shared_data):
    ds = neware.load(shared_data / NDA29)
    assert (np.diff(ds["stamp"].values) == np.timedelta64(0, "s")).sum() == 216
    steps = np.diff(ds["time"].values) / np.timedelta64(1, "s")
    assert steps.min() >= 0
    assert (steps == 0).sum() < 25
    within = (ds["time"].values - ds["stamp"].values) / np.timedelta64(1, "s")
    assert within.min() >= 0
    assert within.max() < 1
    in_step = np.diff(ds["step_count"].values) == 0
    np.testing.assert_allclose(np.median(np.abs(steps - np.diff(ds["test_time"].values))[in_step]), 0, atol=1e-6)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "tolerance"), [(JUMPS, 1.3), (NDA29, 3e-4), (NDC5, 0.006)])
def test_charge_is_the_integral_of_the_current(shared_data, name, tolerance):
    ds = neware.load(shared_data / name)
    i, t = ds["current"].values, ds["test_time"].values
    integral = np.r_[0.0, np.cumsum((i[1:] + i[:-1]) / 2 * np.diff(t))]
    np.testing.assert_allclose(ds["charge"].values - ds["charge"].values[0], integral, atol=tolerance)
    charging = np.char.find(ds["step_type"].values.astype(str), "DChg") >= 0
    assert (ds["current"].values[charging] <= 0).all()


@pytest.mark.real_data
def test_numbers_and_names(shared_data):
    ds = valid(neware.load(shared_data / JUMPS))
    assert ds["cycle"].dtype == ds["step"].dtype == ds["step_count"].dtype == np.int64
    assert (ds["cycle"].values[[0, -1]] == [1, 3]).all()
    assert ds["temperature"].attrs["units"] == "degC"
    assert ds["step_capacity"].attrs["units"] == "mA*h"
    assert ds["current"].values[184] == pytest.approx(-3.0, rel=0.01)
    assert ds["voltage"].dtype == np.float64


@pytest.mark.real_data
def test_host_zone_changes_nothing(shared_data):
    program = (
        "import sys; from operando.loaders import neware; "
        "print([(str(d.time.values[0]), str(d.time.values[-1])) for d in map(neware.load, sys.argv[1:])])"
    )
    said = set()
    for zone in ("UTC", "Europe/Paris", "America/Chicago"):
        made = subprocess.run(
            [sys.executable, "-c", program, *(os.fspath(shared_data / f) for f in FILES)],
            env={**os.environ, "TZ": zone, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(made.stdout)
    assert len(said) == 1


@pytest.mark.real_data
def test_claims_by_content(shared_data, tmp_path):
    assert [neware.claims(shared_data / f) for f in FILES] == [
        "Neware .nda, version 130",
        "Neware .ndax, version 14",
        "Neware .nda, version 29",
        "Neware .ndax, version 5",
    ]
    assert [csv.claims(shared_data / f) or bdf.claims(shared_data / f) for f in FILES] == [None] * 4
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as z:
        z.writestr("readme.txt", "a zip")
    assert neware.claims(tmp_path / "other.zip") is None
    assert neware.claims(tmp_path / "missing.nda") is None
    assert neware.claims(shared_data / "multimodal/spectrochempy_agir_IR_TGA/FTIR.zip") is None


def test_counter_set_to_zero_within_a_step_keeps_the_charge_continuous():
    from operando.loaders.cycler import net_from_signed

    # -0.165 A, records 10 s apart; paused and resumed after the fifth
    counter = np.array([-1.65, -3.3, -4.95, -6.6, -8.25, 0.0, -1.65, -3.3])
    flowed = np.array([0, 1.65, 1.65, 1.65, 1.65, 0.0, 1.65, 1.65])
    made = net_from_signed(counter, np.zeros(8, bool), flowed)
    np.testing.assert_allclose(np.diff(made), [-1.65, -1.65, -1.65, -1.65, 0, -1.65, -1.65])


def test_missing_fastnda_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.nda").write_bytes(b"NEWARE20200325" + bytes([29, 0]) + bytes(100))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "fastnda":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LoaderError, match=r'pip install "operando\[neware\]"'):
        neware.load(tmp_path / "a.nda")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.nda", b"", "not a Neware file"),
        ("a.nda", b"NEWARE", "cut off"),
        ("a.nda", b"NEWARE20200325" + bytes([77, 0]) + bytes(100), "not yet supported"),
        ("a.ndax", b"PK\x03\x04 and no more", "zip is broken"),
        ("a.dat", b"NEWARE20200325" + bytes([29, 0]) + bytes(100), "without its suffix"),
    ],
)
def test_faulty_files_say_what_is_wrong(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(LoaderError, match=message):
        neware.load(tmp_path / name)


@pytest.mark.real_data
@pytest.mark.parametrize("name", FILES)
def test_broken_files_raise_nothing_but_our_errors(shared_data, tmp_path, name):
    raw = (shared_data / name).read_bytes()[:60_000]
    path = tmp_path / Path(name).name
    for seed in range(40):
        rng = random.Random(seed)
        out = bytearray(raw)
        if seed % 3 == 0:
            del out[rng.randrange(len(out)) :]
        elif seed % 3 == 1:
            for _ in range(rng.choice([1, 10, 300])):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        else:
            for _ in range(30):  # header, or the zip's directory
                at = rng.randrange(min(2000, len(out)))
                out[at if seed % 2 else -1 - at] = rng.randrange(256)
        path.write_bytes(out)
        neware.claims(path)
        said = complaint(path)
        assert said is None or os.fspath(path) in said
