"""EC-Lab binary files: synthetic ones for each rule, and every measured one against its text export."""

from __future__ import annotations

import json
import random
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from operando.contract import LoaderError, OperandoError, canonical, faults
from operando.loaders import biologic_mpr, biologic_mpt
from operando.loaders.biologic_columns import CONFIRMED, FLAGS

TWINS = [
    ("echem/yadg_GPL3/ca.mpr", "mpt"),
    ("echem/yadg_GPL3/cp.mpr", "mpt"),
    ("echem/yadg_GPL3/cv.mpr", "mpt"),
    ("echem/yadg_GPL3/gcpl.pr_182.1.mpr", "mpt"),
    ("echem/yadg_GPL3/geis.mpr", "mpt"),
    ("echem/yadg_GPL3/mb.issue_95.mpr", "mpt"),
    ("echem/yadg_GPL3/mb.issue_95.mpr", "de.mpt"),
    ("echem/yadg_GPL3/ocv.mpr", "mpt"),
    ("eis/yadg_GPL3/peis.mpr", "mpt"),
    ("eis/yadg_GPL3/peis.issue_225.with_ece.mpr", "mpt"),
    ("eis/hybrid-drt_BSD3/PEIS_LPSCl_IonBlocking_-25C.mpr", "txt"),
]
ALONE = [
    ("echem/aurora_MIT/250116_kigr_gen6_01_01_GCPL_CD8.mpr", 392, "GCPL"),
    ("echem/aurora_MIT/250116_kigr_gen6_01_02_GCPL_CD8.mpr", 3791, "GCPL"),
    ("echem/bdf_Apache2/GCPL-0.mpr", 4, "GCPL"),
    ("echem/bdf_Apache2/PEIS-0.mpr", 60, "PEIS"),
    ("echem/navani_MIT/00_test_01_OCV_C01.mpr", 2, "OCV"),
    ("echem/navani_MIT/00_test_02_MB_C01.mpr", 11, "MB"),
    ("echem/navani_MIT/jdb11-1_c3_gcpl_5cycles_2V-3p8V_C-24_data_C09.mpr", 46102, "GCPL"),
    ("eis/hybrid-drt_BSD3/PEIS_SSB.mpr", 89, "PEIS"),
    ("eis/yadg_GPL3/peis.issue_149.mpr", 84, "PEIS"),
]

Column = tuple[int, str, object]


def gcpl(n: int = 5) -> list[Column]:
    """Columns of a small galvanostatic file: number, type, values."""
    i = np.arange(n)
    dq = np.where(i > 0, 0.5, 0.0) / 360
    return [
        (4, "<f8", 10.0 * i),
        (7, "<f8", dq),
        (13, "<f8", np.cumsum(dq)),
        (5, "<f4", np.full(n, 0.5)),
        (6, "<f4", 3 + 0.1 * i),
        (39, "<u2", np.full(n, 9)),
    ]


def module(name: str, data: bytes, version: int, *, new: bool = False, date: bytes = b"07/26/22") -> bytes:
    head = b"MODULE" + name.encode().ljust(10) + name.encode().ljust(25)
    head += b"\xff" * 4 + struct.pack("<QI", len(data), version) if new else struct.pack("<II", len(data), version)
    return head + date + data


def data_module(
    columns: list[Column], *, version: int = 3, new: bool = False, flags: int | None = 0b0000_0001, flag_numbers: tuple[int, ...] = (1, 2, 3)
) -> bytes:
    numbers = [*(flag_numbers if flags is not None else ()), *(number for number, _, _ in columns)]
    kind = [("flags", "u1")] if flags is not None else []
    records = np.zeros(len(np.asarray(columns[0][2])), [*kind, *((f"c{k}", dtype) for k, (_, dtype, _) in enumerate(columns))])
    for k, (_, _, values) in enumerate(columns):
        records[f"c{k}"] = values
    if flags is not None:
        records["flags"] = flags
    wide, width, slots, more = {0: (1, 1, 95, 0), 2: (1, 2, 200, 0), 3: (1, 2, 200, 1), 11: (2, 2, 500, 1), 77: (1, 2, 200, 1)}[version]
    head = struct.pack("<I", len(records)) + len(numbers).to_bytes(wide, "little") + b"".join(n.to_bytes(width, "little") for n in numbers)
    head = head.ljust(4 + wide + width * slots + more, b"\0")
    return module("VMP data", head + records.tobytes(), version, new=new)


def log_module(days: float = 44768.943404976854, *, new: bool = False, at: int = 585) -> bytes:
    path = b"C:\\data\\cell_A_01_GCPL_C06.mpr"
    data = bytearray(1100)
    data[9] = 5
    data[at : at + 9 + len(path)] = struct.pack("<d", days) + bytes([len(path)]) + path
    data[951:957], data[974], data[975:980] = b"\x0511.43", 5, b"\x040198"
    return module("VMP LOG", bytes(data), 0, new=new)


def settings_module(code: int = 4, *, new: bool = False) -> bytes:
    data = bytearray(700)
    data[:2] = code.to_bytes(2, "little")
    data[7:13], data[286:290], data[448:453], data[533:547] = b"\x05hello", b"\x03LFP", b"\x04LP57", b"\x0d(unspecified)"
    data[263:267], data[604:608] = struct.pack("<f", 6.5), struct.pack("<f", 1.25)
    data[529:533], data[588:592], data[592], data[593] = struct.pack("<f", 1.54), struct.pack("<f", 6.5), 2, 2
    return module("VMP Set", bytes(data), 0, new=new)


def write(path: Path, *modules: bytes) -> Path:
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a".ljust(48) + b"\0\0\0\0" + b"".join(modules))
    return path


@pytest.mark.parametrize(("version", "new"), [(2, False), (3, False), (11, True), (0, False), (77, False)])
def test_every_layout(tmp_path: Path, version: int, new: bool) -> None:
    path = write(tmp_path / "a.mpr", settings_module(new=new), data_module(gcpl(), version=version, new=new), log_module(new=new))
    ds = biologic_mpr.load(path)
    np.testing.assert_allclose(ds.voltage, 3 + 0.1 * np.arange(5), rtol=1e-6)
    np.testing.assert_allclose(ds.current, [0, 0.5e-3, 0.5e-3, 0.5e-3, 0.5e-3])
    np.testing.assert_allclose(ds.charge, 5e-3 * np.arange(5))
    np.testing.assert_allclose(ds.control_current, 0.5e-3)
    assert ds["mode"].values.tolist() == [1] * 5
    assert str(ds.stamp.values) == "2022-07-26T22:38:30.190000000"
    assert ds.attrs["time_origin"] == "header"
    assert ds.attrs["time_uncertainty_s"] == 1e-3
    assert ds.attrs["technique_name"] == "GCPL"
    assert ds.attrs["instrument"] == "BioLogic VMP3"
    assert ds.attrs["channel"] == "6"
    kept = json.loads(ds.attrs["claims"])
    assert kept["Mass of active material"] == "6.5 mg"
    assert kept["Electrode surface area"] == "1.54 cm²"
    assert kept["Battery capacity"] == "1.25 mA.h"
    assert (kept["Comments"], kept["Electrode material"], kept["Electrolyte"]) == ("hello", "LFP", "LP57")
    assert "Reference electrode" not in kept
    assert [f for f in faults(canonical(ds), as_written=True) if "loader" not in f and "options" not in f] == []


def test_flags_share_a_byte(tmp_path: Path) -> None:
    numbers = (1, 2, 3, 21, 31, 65)
    path = write(tmp_path / "a.mpr", data_module(gcpl(), flags=0b1011_0110, flag_numbers=numbers))
    ds = biologic_mpr.load(path)
    found = [int(ds[name][0]) for name in ("mode", "ox_red", "error", "control_changes", "step_changes", "counter_inc")]
    assert found == [2, 1, 0, 1, 1, 1]
    assert np.isnan(ds.control_current).all()
    np.testing.assert_allclose(ds.control_voltage, 0.5)
    assert set(numbers) == set(FLAGS)


@pytest.mark.parametrize("position", [0, 3, 6])
@pytest.mark.parametrize(("dtype", "value"), [("<f4", 1.5), ("<f8", 2.5), ("<u2", 77), ("u1", 9)])
def test_one_unknown_column_gets_the_bytes_left(tmp_path: Path, position: int, dtype: str, value: float) -> None:
    columns = gcpl()
    columns.insert(position, (5999, dtype, np.full(5, value)))
    path = write(tmp_path / "a.mpr", data_module(columns))
    with pytest.warns(UserWarning, match=r"a\.mpr.*raw_column_5999"):
        ds = biologic_mpr.load(path)
    assert ds.raw_column_5999.values.tolist() == [value] * 5
    np.testing.assert_allclose(ds.voltage, 3 + 0.1 * np.arange(5), rtol=1e-6)


def test_several_unknown_columns_of_four_bytes(tmp_path: Path) -> None:
    columns = gcpl()
    for k, position in enumerate((6, 4, 1)):
        columns.insert(position, (5000 + k, "<f4", np.full(5, 1.5 + k)))
    with pytest.warns(UserWarning, match="raw_column_5000"):
        ds = biologic_mpr.load(write(tmp_path / "a.mpr", data_module(columns)))
    assert [float(ds[f"raw_column_{5000 + k}"][0]) for k in range(3)] == [1.5, 2.5, 3.5]


def test_unknown_widths_survive_as_bytes(tmp_path: Path) -> None:
    columns = [*gcpl(), (5000, "<f4", np.full(5, 1.5)), (5001, "<f8", np.full(5, 2.5))]
    with pytest.warns(UserWarning, match="raw_bytes_5000"):
        ds = biologic_mpr.load(write(tmp_path / "a.mpr", data_module(columns)))
    assert ds.raw_bytes_5000.dims == ("time", "byte")
    assert ds.raw_bytes_5000.values[0].tobytes() == struct.pack("<fd", 1.5, 2.5)
    np.testing.assert_allclose(ds.voltage, 3 + 0.1 * np.arange(5), rtol=1e-6)


def test_an_unknown_flag_keeps_the_byte(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="raw_flags"):
        ds = biologic_mpr.load(write(tmp_path / "a.mpr", data_module(gcpl(), flags=0b0100_0001, flag_numbers=(1, 2, 5999))))
    assert ds.raw_flags.values.tolist() == [65] * 5
    assert ds["mode"].values.tolist() == [1] * 5


def test_a_record_longer_than_its_columns_is_refused(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.mpr", data_module([*gcpl(), (24, "<f8", np.ones(5))])).read_bytes()
    at = raw.index(b"VMP data") + 10 + 25 + 8 + 8
    listed = raw[at + 4]
    (tmp_path / "a.mpr").write_bytes(raw[: at + 4] + bytes([listed - 1]) + raw[at + 5 :])
    with pytest.raises(LoaderError, match="do not fill the record"):
        biologic_mpr.load(tmp_path / "a.mpr")


def test_cut_file_gives_its_whole_records(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mpr", settings_module(), data_module(gcpl()))
    path.write_bytes(path.read_bytes()[:-40])
    ds = biologic_mpr.load(path)
    assert ds.sizes["time"] == 3
    assert ds.quality.values.tolist() == [0, 0, 8]


def test_without_log_the_start_is_in_the_mpl_or_nowhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mpr", settings_module(), data_module(gcpl()))
    ds = biologic_mpr.load(path)
    assert (ds.attrs["time_origin"], "stamp" in ds.coords) == ("counter", False)
    (tmp_path / "a.mpl").write_bytes(
        b"BT-Lab LOG FILE\r\n\r\nGalvanostatic Cycling with Potential Limitation\r\n\r\n"
        b"Run on channel : D8 (SN 0892)\r\nAcquisition started on : 01/16/2025 14:05:54.213\r\nDevice : BCS-805 (SN 0709)\r\n"
    )
    ds = biologic_mpr.load(path)
    assert ds.attrs["time_origin"] == "log"
    assert str(ds.stamp.values) == "2025-01-16T14:05:54.213000000"
    assert ds.attrs["instrument"] == "BioLogic BCS-805"
    assert ds.attrs["channel"] == "D8"


def test_start_is_found_where_the_path_is(tmp_path: Path) -> None:
    ds = biologic_mpr.load(write(tmp_path / "a.mpr", data_module(gcpl()), log_module(at=465)))
    assert str(ds.stamp.values) == "2022-07-26T22:38:30.190000000"


def test_inputs_of_an_external_device_have_no_unit(tmp_path: Path) -> None:
    columns = [*gcpl(), (16, "<f4", np.full(5, 25.5))]
    assert biologic_mpr.load(write(tmp_path / "a.mpr", data_module(columns))).analog_in_1.attrs["units"] == "V"
    ds = biologic_mpr.load(write(tmp_path / "b.mpr", data_module(columns), module("VMP ExtDev", b"\0" * 64, 0)))
    assert ds.analog_in_1.attrs["units"] == "1"
    assert ds.analog_in_1.values.tolist() == [25.5] * 5


def test_loops(tmp_path: Path) -> None:
    loops = module("VMP loop", struct.pack("<5I", 4, 0, 2, 4, 5).ljust(268, b"\0"), 0)
    assert biologic_mpr.load(write(tmp_path / "a.mpr", data_module(gcpl()), loops)).loop.values.tolist() == [0, 0, 1, 1, 2]


def test_no_records_no_data_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="no records yet"):
        biologic_mpr.load(write(tmp_path / "a.mpr", data_module(gcpl(0))))
    with pytest.raises(LoaderError, match="no module with measured data"):
        biologic_mpr.load(write(tmp_path / "b.mpr", settings_module()))
    (tmp_path / "c.mpr").write_bytes(b"")
    with pytest.raises(LoaderError, match="empty"):
        biologic_mpr.load(tmp_path / "c.mpr")
    (tmp_path / "d.mpr").write_bytes(b"EC-Lab ASCII FILE")
    with pytest.raises(LoaderError, match="not an EC-Lab binary file"):
        biologic_mpr.load(tmp_path / "d.mpr")
    with pytest.raises(LoaderError, match="cannot be opened"):
        biologic_mpr.load(tmp_path / "e.mpr")


@pytest.mark.parametrize("lie", [0xFFFFFFFF, 1 << 20, 7])
def test_a_count_that_lies_is_refused(tmp_path: Path, lie: int) -> None:
    path = write(tmp_path / "a.mpr", data_module(gcpl()))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"VMP data") + 10 + 25 + 8 + 8
    raw[at : at + 4] = struct.pack("<I", lie)
    path.write_bytes(raw)
    with pytest.raises(LoaderError):
        biologic_mpr.load(path)


def test_claims(tmp_path: Path) -> None:
    assert (
        biologic_mpr.claims(write(tmp_path / "a.mpr", settings_module(127, new=True), data_module(gcpl(), version=11, new=True)))
        == "EC-Lab binary file, MB"
    )
    assert biologic_mpr.claims(tmp_path / "missing.mpr") is None
    assert biologic_mpt.claims(tmp_path / "a.mpr") is None


def test_only_our_errors_come_out_of_damaged_files(tmp_path: Path) -> None:
    raw = write(tmp_path / "a.mpr", settings_module(new=True), data_module(gcpl(), version=11, new=True), log_module(new=True)).read_bytes()
    heads = [m.start() for m in re.finditer(b"MODULE", raw)]
    chance = random.Random(11)
    path = tmp_path / "b.mpr"
    for i in range(500):
        if i < 150:
            damaged = bytearray(raw[: len(raw) * i // 150])
        else:
            damaged = bytearray(raw)
            for _ in range(1 + i % 3):  # most of the flips where they hurt: heads of modules and of the table, records
                at = chance.choice(heads) + chance.randrange(160) if i % 2 else chance.randrange(heads[1], len(raw))
                damaged[min(at, len(raw) - 1)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                frames, message = biologic_mpr.load(path).sizes["time"], "b.mpr"
            except OperandoError as error:
                frames, message = 1, str(error)
        assert "b.mpr" in message
        assert 0 < frames <= 300
        biologic_mpr.claims(path)


def printed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns of a text export as numbers, and half a unit of the last digit printed."""
    lines = path.read_bytes().decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    count = int(re.search(r"Nb header lines : (\d+)", lines[1])[1])  # type: ignore[index]
    names = lines[count - 1].split("\t")
    fields = [line.replace(",", ".").split("\t") for line in lines[count:]]
    values, half = {}, {}
    for k in range(len(fields[0])):
        texts = [row[k] for row in fields]
        values[names[k]] = np.array(texts, float)
        half[names[k]] = np.array(
            [0.5 * 10.0 ** (int(t.partition("E")[2]) - len(t.partition("E")[0].partition(".")[2])) if "E" in t else 0.0 for t in texts]
        )
    return values, half


def loop_module(begins: list[int], n: int) -> bytes:
    values = [len(begins) + 1, *begins, n]
    return module("VMP loop", struct.pack(f"<{len(values)}I", *values).ljust(268, b"\0"), 0)


def test_charge_goes_on_over_loops_that_begin_it_again(tmp_path: Path) -> None:
    columns = gcpl(6)
    once = np.array([0, 1, 2, 0, 1, 2]) / 720
    columns[1], columns[2] = (7, "<f8", np.array([0, 1, 1, 0, 1, 1]) / 720), (13, "<f8", once)
    ds = biologic_mpr.load(write(tmp_path / "a.mpr", settings_module(), data_module(columns), log_module(), loop_module([0, 3], 6)))
    assert ds.loop.values.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(ds.charge, np.array([0, 1, 2, 2, 3, 4]) / 200)
    assert "1 loop" in ds.charge.attrs["comment"]
    np.testing.assert_allclose(ds.current, np.array([0, 5, 5, 0, 5, 5]) * 1e-4)


def test_charge_that_goes_on_over_loops_is_left_alone(tmp_path: Path) -> None:
    ds = biologic_mpr.load(write(tmp_path / "a.mpr", settings_module(127), data_module(gcpl(6)), log_module(), loop_module([0, 3], 6)))
    np.testing.assert_allclose(ds.charge, np.arange(6) / 200)
    assert "comment" not in ds.charge.attrs


def test_charge_of_the_step_is_not_charge_of_the_record(tmp_path: Path) -> None:
    columns = gcpl(5)
    columns.insert(1, (23, "<f8", np.arange(5) / 720))  # constant-current techniques hold both
    ds = biologic_mpr.load(write(tmp_path / "a.mpr", settings_module(118), data_module(columns), log_module()))
    assert ds.attrs["technique_name"] == "CstC"
    assert ds.step_dq.attrs["column"] == "dQ/mA.h"
    np.testing.assert_allclose(ds.step_dq, np.arange(5) / 720)
    np.testing.assert_allclose(ds.dq, [0, *[0.5 / 360] * 4])
    assert "evidence" not in ds.step_dq.attrs


@pytest.mark.parametrize(("serial", "device", "name"), [(b"\x07.003307", 34, "VSP-3e"), (b"\x040355", 22, "MPG-2"), (b"\x040198", 14, "SP-150")])
def test_devices(tmp_path: Path, serial: bytes, device: int, name: str) -> None:
    log = bytearray(log_module())
    at = len(log) - 1100
    log[at + 974 : at + 983] = bytes([device]) + serial.ljust(8, b"\0")
    ds = biologic_mpr.load(write(tmp_path / "a.mpr", settings_module(), data_module(gcpl()), bytes(log)))
    assert ds.attrs["instrument"] == f"BioLogic {name}"


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "suffix"), TWINS)
def test_every_column_is_the_text_exports(shared_data: Path, name: str, suffix: str) -> None:
    path = shared_data / name
    twin = path.with_name(path.name.removesuffix("mpr") + suffix)
    data = next(m for m in biologic_mpr.read_modules(path) if m.name == "VMP data")
    columns, _, _ = biologic_mpr._read_table(data, path)
    values, half = printed(twin)
    common = [label for label in columns if label in values]
    assert len(common) == len(columns) or suffix == "txt"  # that export holds some of the columns only
    assert len(common) >= 4
    for label in common:
        found = columns[label].astype(float)
        if name.endswith("cp.mpr") and label == "Q charge/discharge/mA.h":  # the exporter computed it anew from the single-precision (Q-Qo)/C
            np.testing.assert_allclose(found, values[label], rtol=1e-7)
            found = columns["(Q-Qo)/C"].astype(float) / 3.6
        assert (np.abs(found - values[label]) <= half[label] * (1 + 1e-6) + 2e-15 * np.abs(found)).all(), label


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "suffix"), TWINS)
def test_the_series_is_the_text_exports(shared_data: Path, name: str, suffix: str) -> None:
    path = shared_data / name
    one, two = biologic_mpr.load(path), biologic_mpt.load(path.with_name(path.name.removesuffix("mpr") + suffix))
    for key in ("voltage", "current", "charge", "control_voltage", "control_current"):
        if key in one and key in two:
            np.testing.assert_allclose(one[key], two[key], rtol=2e-6, atol=1e-12, err_msg=key)
    assert one.current.attrs["interval"] == two.current.attrs["interval"]
    assert np.abs(one.time.values - two.time.values).max() <= np.timedelta64(1, "ns")
    assert ("stamp" in one.coords) == ("stamp" in two.coords)
    if two.attrs["technique_name"] != "unknown":
        assert one.attrs["technique_name"] == two.attrs["technique_name"]
        assert one.attrs["instrument"] == two.attrs["instrument"]
        assert one.attrs["channel"] == two.attrs["channel"]
        mine, theirs = json.loads(one.attrs["claims"]), json.loads(two.attrs["claims"])
        for key in ("Electrode material", "Electrolyte", "Initial state"):
            assert mine.get(key) == theirs.get(key)
        number, unit = mine["Characteristic mass"].split()
        assert (round(float(number), 3), unit) == (
            float(theirs["Characteristic mass"].split()[0].replace(",", ".")),
            theirs["Characteristic mass"].split()[1],
        )


@pytest.mark.real_data
def test_every_confirmed_column_has_its_twin(shared_data: Path) -> None:
    seen: set[int] = set()
    for name, suffix in TWINS:
        path = shared_data / name
        data = next(m for m in biologic_mpr.read_modules(path) if m.name == "VMP data")
        head = biologic_mpr._table_head(data, path)
        assert head is not None
        if suffix != "txt":
            seen |= set(head[0])
    assert set(CONFIRMED) <= seen
    assert set(FLAGS) <= seen


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "records", "technique"), ALONE)
def test_files_without_a_twin(shared_data: Path, name: str, records: int, technique: str) -> None:
    ds = biologic_mpr.load(shared_data / name)
    assert ds.sizes["time"] == records
    assert ds.attrs["technique_name"] == technique
    assert ds.attrs["time_origin"] == "header"
    assert not ds.quality.values.any()
    assert (np.diff(ds.time.values) >= np.timedelta64(0, "ns")).all()
    assert (np.abs(ds.voltage.values) < 6).all()
    assert [f for f in faults(canonical(ds), as_written=True) if "loader" not in f and "options" not in f] == []


@pytest.mark.real_data
def test_two_files_of_one_experiment_are_one_timeline(shared_data: Path) -> None:
    one, two = (biologic_mpr.load(shared_data / f"echem/aurora_MIT/250116_kigr_gen6_01_0{k}_GCPL_CD8.mpr") for k in (1, 2))
    assert one.stamp.values == two.stamp.values
    assert str(one.stamp.values) == "2025-01-16T14:05:54.213000000"  # as the .mpl beside the second says
    start = (two.time.values[0] - two.stamp.values) / np.timedelta64(1, "s")
    assert abs(start - 43213.76) < 0.01
    gap = (two.time.values[0] - one.time.values[-1]) / np.timedelta64(1, "s")
    assert 0 <= gap < 1


@pytest.mark.real_data
def test_derived_current_is_the_one_exported(shared_data: Path) -> None:
    path = shared_data / "echem/yadg_GPL3/gcpl.pr_182.1.mpr"
    one, two = biologic_mpr.load(path), biologic_mpt.load(path.with_suffix(".mpt"))
    assert one.current.attrs["derived"] == "dq/dt"
    assert "derived" not in two.current.attrs
    np.testing.assert_allclose(one.current, two.current, rtol=1e-12, atol=1e-17)


@pytest.mark.real_data
def test_harmonics_agree_with_their_distortion(shared_data: Path) -> None:
    ds = biologic_mpr.load(shared_data / "eis/yadg_GPL3/peis.issue_149.mpr")
    for thd, base, name in (("thd_ewe", "abs_ewe", "abs_ewe_h"), ("thd_i", "abs_i", "abs_i_h")):
        ours = 100 * np.sqrt(sum(ds[f"{name}{h}"] ** 2 for h in range(2, 8))) / ds[base]
        assert np.median(np.abs(ours / ds[thd] - 1)) < 0.05
    assert ds.loop.values.tolist() == [k for k in range(4) for _ in range(21)]
    assert "evidence" not in ds.thd_ewe.attrs


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["echem/yadg_GPL3/geis.mpr", "eis/yadg_GPL3/peis.issue_149.mpr"])
def test_sweeps_of_impedance_are_no_cycles(shared_data: Path, name: str) -> None:
    ds = biologic_mpr.load(shared_data / name)
    assert "cycle" not in ds
    assert ds.sweep.dtype.kind == "i"
    assert ds.sweep.attrs["column"] == "cycle number"
    assert np.unique(ds.sweep).size > 1
