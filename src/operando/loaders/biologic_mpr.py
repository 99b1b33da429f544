r"""BioLogic EC-Lab and BT-Lab binary measurement (.mpr).

**Bytes** (little-endian; found by comparing files with the text exports of the same measurements). 52 bytes begin with `BIO-LOGIC MODULAR
FILE\x1a`; modules follow each other to the end:

=========  ======================================================================================================
old head   `MODULE`, short name (10), long name (25), length u32, version u32, date (8): 57 bytes
new head   the same with `ff ff ff ff` before the length, and the length as u64: 65 bytes (EC-Lab from 11.50)
=========  ======================================================================================================

The date is month, day, year in two digits each, with the separator of the computer's language (`05.15.25`).

- `VMP Set`: settings. u16 at 0 is the technique (see `_CODES`: by their exports); a length byte and
  text each at 7 (comments), 286 (electrode material), 367 (initial state), 448 (electrolyte), 533 (reference electrode); float32 at 263 (mass, mg),
  271, 275 (molar masses, g/mol), 279 (xo), 529 (area), 588 (characteristic mass), 604 (capacity, mA.h); the bytes at 592 and 593 are the
  units of the area (2 cm2, 3 mm2) and of the characteristic mass (1 g, 2 mg). All of them agree with the headers of seven exports.
- `VMP data`: u32 number of records; number of columns, u8 (u16 from version 11); their numbers, u16 each, in a table of 200 (500 from version 11)
  slots; one byte more from version 3; records from offset 405 (version 2), 406 (3), 1007 (11). See
  `operando.loaders.biologic_columns` for the record. Flags share its first byte: mode bits 0-1 (1 galvanostatic, 2 potentiostatic, 3
  open circuit), ox/red 2, error 3, control changes 4, Ns changes 5, counter inc. 7.
- `VMP LOG`: written when the technique ends. u8 at 9 is the channel (from 0), float64 at 585 the start of the acquisition as days since
  1899-12-30 in local time without zone, then a length byte and the path of the file; versions of the software at 951, serial number at 975, kind of
  device at 974.
- `VMP loop`: u32 count, then the index of the record each loop begins with, the last one being the number of records.
- `VMP ExtDev`: scales the analogue inputs of external devices; not read (no file with a twin), so those columns then have no unit.
- Others are passed over.

**Time.** `time/s` counts from the start of the acquisition, which is the start of the whole experiment: files of linked techniques carry
the same stamp and continue each other's seconds; durations are never added. The stamp is from the LOG module; a file of a running or aborted
technique has none: then from the text file of the same name with `.mpl` (`Acquisition started on`; time_origin `log`), else `start` is None and
the configuration gives it. Stamps that fall on a whole second are taken as good to 1 s (EC-Lab before 11.4 writes no other), others to 1 ms.

**Current.** Where the file has neither `<I>` nor `I` (usual for GCPL), it is the charge step over the time step, as EC-Lab computes
`<I>` in its exports; see `operando.loaders.biologic`.

**A file cut short** (a copy of a running measurement) gives the whole records it has, the last with the quality INTERRUPTED.

**Not confirmed by a twin**: column numbers of `UNCONFIRMED`; data modules of version 0 (presumed: u8 numbers, records from offset 100) and 10; device
kinds other than those of `_DEVICES`.

**Output.** An echem series; one variable per column, unknown columns as `raw_column_<number>` or `raw_bytes_<number>` with a warning.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders.biologic import Run, echem_series, technique_of
from operando.loaders.biologic_columns import FLAGS, record_fields
from operando.loaders.biologic_mpt import read_head
from operando.loaders.text import read_text

TECHNIQUES = ("echem",)
VERSION = "3"

MAGIC = b"BIO-LOGIC MODULAR FILE\x1a"
_CODES = {
    **{4: "GCPL", 6: "CV", 11: "OCV", 24: "CA", 25: "CP", 28: "WAIT", 29: "PEIS", 30: "GEIS", 50: "ZIR", 51: "CVA", 108: "LSV"},
    **{117: "CstV", 118: "CstC", 127: "MB", 136: "BCD"},
}
_DEVICES = {
    **{5: "VMP3", 6: "VSP", 12: "VMP-300", 14: "SP-150", 16: "SP-300", 21: "SP-200", 22: "MPG-2", 26: "BCS-805", 27: "SP-240"},
    34: "VSP-3e",
}
# version of the data module -> bytes of the count, bytes of a number, slots, bytes after them
_LAYOUTS = {0: (1, 1, 95, 0), 2: (1, 2, 200, 0), 3: (1, 2, 200, 1), 10: (2, 2, 500, 1), 11: (2, 2, 500, 1)}


@dataclass(frozen=True)
class Module:
    """One module: its short name, version, date as written, and bytes (as many as there are of `length`)."""

    name: str
    version: int
    date: str
    length: int
    data: bytes


def beside(path: str | os.PathLike[str]) -> list[Path]:
    """Name the log beside a measurement: it holds the start stamp while the measurement's own LOG module is not written yet."""
    return [Path(path).with_suffix(suffix) for suffix in (".mpl", ".MPL")]


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether this is an EC-Lab binary file, and of which technique; impedance is left to `biologic-eis`."""
    code = technique_in(path)
    if code is None or code.endswith("EIS"):
        return None
    return "EC-Lab binary file" + (f", {code}" if code else "")


def technique_in(path: str | os.PathLike[str]) -> str | None:
    """Short name of the technique of a binary file, empty if it is not known; None if it is no such file."""
    try:
        with Path(path).open("rb") as f:
            head = f.read(256)
    except OSError:
        return None
    if not head.startswith(MAGIC):
        return None
    found = re.search(rb"MODULEVMP Set ", head)
    code = ""
    if found:
        body = found.start() + (65 if head[found.start() + 41 : found.start() + 45] == b"\xff" * 4 else 57)
        code = _CODES.get(int.from_bytes(head[body : body + 2], "little"), "")
    return code


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read one .mpr file.

    Parameters
    ----------
    path
        The file. A file of the same name with `.mpl` beside it is read for the start if the file itself has none.

    Returns
    -------
    xarray.Dataset
        An echem series, times as written.

    Raises
    ------
    LoaderError
        Not such a file, no records, or a table that cannot be read.

    Warns
    -----
    UserWarning
        Columns of unknown meaning, kept as raw values.
    """
    path = Path(path)
    modules = read_modules(path)
    data = next((m for m in modules if m.name == "VMP data"), None)
    if data is None:
        raise LoaderError("no module with measured data", file=path, found=", ".join(m.name for m in modules) or "no module", expected="VMP data")
    columns, extra, run = _read_table(data, path)
    if any(module.name.startswith("VMP Ext") for module in modules):
        columns = _without_units(columns, run)
    for module in modules:
        if module.name == "VMP Set":
            _read_settings(module, run)
        elif module.name == "VMP LOG":
            _read_log(module, run)
        elif module.name == "VMP loop":
            _read_loops(module, run, len(columns["time/s"]) if "time/s" in columns else 0)
    if run.technique.startswith("code"):
        run.technique = technique_of("", str(run.claims.get("File", path.name))) or run.technique
    if run.start is None:
        _start_from_mpl(path, run)
    if data.date.strip():
        run.claims["Date"] = data.date
    return echem_series(path, columns, run, extra)


def read_modules(path: Path) -> list[Module]:
    """Split a file into its modules; the last may be cut.

    Raises
    ------
    LoaderError
        Not an EC-Lab binary file, or nothing in it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
    if not raw:
        raise LoaderError("the file is empty", file=path, found="0 bytes", hint="copy it again from the instrument")
    if not raw.startswith(MAGIC):
        raise LoaderError("not an EC-Lab binary file", file=path, found=repr(raw[:24]), expected=repr(MAGIC.decode("latin-1")))
    at = raw.find(b"MODULE", len(MAGIC), 512)
    modules: list[Module] = []
    while 0 <= at and raw[at : at + 6] == b"MODULE" and len(raw) >= at + 57:
        name = raw[at + 6 : at + 16].decode("latin-1").strip("\0 ")
        new = raw[at + 41 : at + 45] == b"\xff" * 4
        if new and len(raw) < at + 65:
            break
        length, version = struct.unpack_from("<QI", raw, at + 45) if new else struct.unpack_from("<II", raw, at + 41)
        body = at + (65 if new else 57)
        date = raw[body - 8 : body].decode("latin-1").strip("\0 ")
        modules.append(Module(name, version, date if re.fullmatch(r"\d\d.\d\d.\d\d", date) else "", length, raw[body : body + length]))
        at = body + length
    if not modules:
        raise LoaderError("no module in the file", file=path, found=f"{len(raw)} bytes", hint="the file was cut: copy it again from the instrument")
    return modules


def _read_table(module: Module, path: Path) -> tuple[dict[str, np.ndarray], dict[str, tuple[Any, ...]], Run]:
    """Read the records of a data module."""
    head = _table_head(module, path)
    if head is None:
        raise LoaderError(
            "the table of measured data cannot be read",
            file=path,
            found=f"a data module of version {module.version} with {module.length} bytes",
            expected=f"one of versions {', '.join(map(str, _LAYOUTS))}",
            hint="export the file as text (.mpt) in EC-Lab and use the loader biologic-mpt",
        )
    numbers, count, begin, size = head
    whole = min(count, (len(module.data) - begin) // size)
    if whole == 0:
        raise LoaderError("no records yet", file=path, found=f"{len(module.data)} bytes of data", hint="wait until the technique has run")
    table = np.frombuffer(module.data, np.uint8, whole * size, begin).reshape(whole, size)
    fields = record_fields(numbers, size, module.data[begin : begin + size * min(whole, 300)], path)

    run = Run(interrupted=whole < count)
    columns: dict[str, np.ndarray] = {}
    extra: dict[str, tuple[Any, ...]] = {}
    for f in fields:
        block = np.ascontiguousarray(table[:, f.offset : f.offset + f.width])
        if f.dtype is None:
            extra[f.label] = (("time", "byte"), block, "1", {"column_number": f.number, "evidence": f.evidence})
        elif f.label == "flags":
            for number in numbers:
                if number in FLAGS:
                    label, mask = FLAGS[number]
                    columns[label] = ((block[:, 0] & mask) // (mask & -mask)).astype(np.int8)
        else:
            columns[f.label] = block.view(f.dtype).ravel()
            run.column_attrs[f.label] = {"column_number": f.number, **({} if f.evidence == "confirmed" else {"evidence": f.evidence})}
    return columns, extra, run


def _without_units(columns: dict[str, np.ndarray], run: Run) -> dict[str, np.ndarray]:
    """Take the volts off the analogue inputs: an external device scales them to a unit that only its own module knows."""
    out: dict[str, np.ndarray] = {}
    for label, values in columns.items():
        name = label.removesuffix("/V") if label.startswith("Analog IN") else label
        out[name] = values
        if name != label:
            run.column_attrs[name] = {**run.column_attrs.get(label, {}), "comment": "scaled by the external device; unit not read"}
    return out


def _table_head(module: Module, path: Path) -> tuple[tuple[int, ...], int, int, int] | None:
    """Give the column numbers, the number of records, the offset of the first and the size of each.

    The size follows from the module's length. A module of a version not seen before is read with the first known layout
    that fits it exactly.
    """
    data = module.data
    if len(data) < 5:
        return None
    count = int.from_bytes(data[:4], "little")
    layouts = [_LAYOUTS[module.version]] if module.version in _LAYOUTS else [_LAYOUTS[v] for v in (11, 3, 2)]
    for wide, width, slots, more in layouts:
        begin = 4 + wide + width * slots + more
        columns = int.from_bytes(data[4 : 4 + wide], "little")
        if not 0 < columns <= slots or len(data) < 4 + wide + width * columns:
            continue
        if count == 0:
            raise LoaderError("no records yet", file=path, found=f"{columns} columns, 0 records", hint="wait until the technique has run")
        size, rest = divmod(module.length - begin, count)
        numbers = tuple(np.frombuffer(data, f"<u{width}", columns, 4 + wide).tolist())
        if rest or not 0 < size <= 8 * columns + 64 or 0 in numbers or len(data) <= begin or len(set(numbers)) != columns:
            continue
        return numbers, count, begin, size
    return None


def _text(data: bytes, at: int) -> str:
    """Read a text that begins with its length."""
    return data[at + 1 : at + 1 + data[at]].decode("latin-1").replace("\r\n", "\n").strip("\0 \n") if at < len(data) else ""


def _read_settings(module: Module, run: Run) -> None:
    """Read the technique, and what was typed into EC-Lab about the cell."""
    data = module.data
    if len(data) < 2:
        return
    code = int.from_bytes(data[:2], "little")
    run.technique = _CODES.get(code, f"code {code}")
    if len(data) < 612:
        return
    for at, name in ((7, "Comments"), (286, "Electrode material"), (367, "Initial state"), (448, "Electrolyte"), (533, "Reference electrode")):
        text = _text(data, at)
        if text and text.isprintable() | ("\n" in text) and text != "(unspecified)":
            run.claims[name] = text
    numbers = (
        (263, "Mass of active material", "mg"),
        (271, "Molecular weight of active material (at x = 0)", "g/mol"),
        (275, "Atomic weight of intercalated ion", "g/mol"),
        (604, "Battery capacity", "mA.h"),
        (529, "Electrode surface area", {2: "cm²", 3: "mm²"}.get(data[592])),
        (588, "Characteristic mass", {1: "g", 2: "mg"}.get(data[593])),
    )
    for at, name, unit in numbers:
        value = float(struct.unpack_from("<f", data, at)[0])
        if unit and np.isfinite(value) and 0 <= value < 1e9:
            run.claims[name] = f"{value:.6g} {unit}"


def _read_log(module: Module, run: Run) -> None:
    """Read the start, channel, device and versions."""
    data = module.data
    at = _start_offset(data)
    if at is not None:
        run.start = _from_days(struct.unpack_from("<d", data, at)[0])
        run.claims["File"] = re.split(r"[\\/]", _text(data, at + 8))[-1]
    if at != 585 or len(data) < 993:
        return
    run.channel = str(data[9] + 1)
    device = _DEVICES.get(data[974])
    serial = _text(data, 975)
    if re.fullmatch(r"[\w.\-]+", serial):
        run.claims["Device"] = f"{device or 'kind ' + str(data[974])} (SN {serial})"
        run.instrument = f"BioLogic {device}" if device else "BioLogic"
    software = _text(data, 951)
    if re.fullmatch(r"\d+\.\d+", software):
        run.software = f"v{software}"


def _start_offset(data: bytes) -> int | None:
    """Find the start: a date before the length-prefixed path of the file, at 585 in every file seen."""
    if len(data) >= 594 and _plausible(struct.unpack_from("<d", data, 585)[0]):
        return 585
    for match in re.finditer(rb"(?:[A-Za-z]:\\|\\\\)[^\0]{1,250}\.mpr", data[: 1 << 16]):
        at = match.start() - 9
        if at >= 0 and data[at + 8] == match.end() - match.start() and _plausible(struct.unpack_from("<d", data, at)[0]):
            return at
    return None


def _plausible(days: float) -> bool:
    return 33000 < days < 73050  # 1990 to 2100


def _from_days(days: float) -> np.datetime64:
    """Turn days since 1899-12-30 into a stamp, to the millisecond that EC-Lab counts in."""
    return np.datetime64("1899-12-30T00:00:00", "ms").astype("datetime64[ns]") + np.timedelta64(round(days * 86_400_000), "ms")


def _read_loops(module: Module, run: Run, records: int) -> None:
    """Read where each loop begins; a single loop is none."""
    if len(module.data) < 8:
        return
    values = np.frombuffer(module.data, "<u4", len(module.data) // 4)
    count = int(values[0])
    begins = values[1:count].tolist() if 2 < count < values.size else []
    if begins and begins == sorted(set(begins)) and begins[0] == 0 and begins[-1] < records:
        run.loops = begins


def _start_from_mpl(path: Path, run: Run) -> None:
    """Take the start from the text that EC-Lab writes beside a running measurement."""
    for suffix in (".mpl", ".MPL"):
        beside = path.with_suffix(suffix)
        if not beside.is_file():
            continue
        try:
            head = read_head(read_text(beside, limit=1 << 16).split("\n"), path.name)
        except LoaderError:
            return
        if head.start is not None:
            run.start, run.time_origin = head.start, "log"
            run.instrument = head.instrument if run.instrument == "BioLogic" else run.instrument
            run.channel = run.channel or head.channel
            run.software = run.software or head.software
            run.claims = {**head.claims, **run.claims}
        return
