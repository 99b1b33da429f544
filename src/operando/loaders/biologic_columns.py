"""Column numbers of EC-Lab's binary records, and how a record is laid out.

A record is packed, little-endian, in the order of the column numbers. The numbers of `FLAGS` share one byte, which stands where the first of them
stands. Each other number has EC-Lab's own label and a type; those in `CONFIRMED` and `CONFIRMED_ELSEWHERE` were compared with the text
export of the same measurement, digit by digit (the latter in files that are not among those of the tests). Those in `UNCONFIRMED` are as
commonly reported for this format, not checked against an export: they are used only where the record then has exactly the length the file
says, and say so in their attribute `evidence`.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from operando.contract import LoaderError

FLAGS: dict[int, tuple[str, int]] = {
    1: ("mode", 0x03),
    2: ("ox/red", 0x04),
    3: ("error", 0x08),
    21: ("control changes", 0x10),
    31: ("Ns changes", 0x20),
    65: ("counter inc.", 0x80),
}

_F4, _F8, _U1, _U2, _U4 = "<f4", "<f8", "|u1", "<u2", "<u4"

CONFIRMED: dict[int, tuple[str, str]] = {
    4: ("time/s", _F8),
    5: ("control/V/mA", _F4),
    6: ("Ewe/V", _F4),
    7: ("dq/mA.h", _F8),
    8: ("I/mA", _F4),
    9: ("Ece/V", _F4),
    11: ("<I>/mA", _F8),
    13: ("(Q-Qo)/mA.h", _F8),
    19: ("control/V", _F4),
    20: ("control/mA", _F4),
    24: ("cycle number", _F8),
    32: ("freq/Hz", _F4),
    33: ("|Ewe|/V", _F4),
    34: ("|I|/A", _F4),
    35: ("Phase(Z)/deg", _F4),
    36: ("|Z|/Ohm", _F4),
    37: ("Re(Z)/Ohm", _F4),
    38: ("-Im(Z)/Ohm", _F4),
    39: ("I Range", _U2),
    70: ("P/W", _F4),
    74: ("|Energy|/W.h", _F8),
    76: ("<I>/mA", _F4),
    77: ("<Ewe>/V", _F4),
    96: ("|Ece|/V", _F4),
    98: ("Phase(Zce)/deg", _F4),
    99: ("|Zce|/Ohm", _F4),
    100: ("Re(Zce)/Ohm", _F4),
    101: ("-Im(Zce)/Ohm", _F4),
    123: ("Energy charge/W.h", _F8),
    124: ("Energy discharge/W.h", _F8),
    125: ("Capacitance charge/µF", _F8),
    126: ("Capacitance discharge/µF", _F8),
    131: ("Ns", _U2),
    169: ("Cs/µF", _F4),
    172: ("Cp/µF", _F4),
    174: ("<Ewe>/V", _F4),
    430: ("Phase(Zwe-ce)/deg", _F4),
    431: ("|Zwe-ce|/Ohm", _F4),
    432: ("Re(Zwe-ce)/Ohm", _F4),
    433: ("-Im(Zwe-ce)/Ohm", _F4),
    434: ("(Q-Qo)/C", _F4),
    435: ("dQ/C", _F4),
    441: ("<Ece>/V", _F4),
    467: ("Q charge/discharge/mA.h", _F8),
    468: ("half cycle", _U4),
    471: ("<Ece>/V", _F4),
}

CONFIRMED_ELSEWHERE: dict[int, tuple[str, str]] = {
    16: ("Analog IN 1/V", _F4),
    17: ("Analog IN 2/V", _F4),
    23: ("dQ/mA.h", _F8),
    168: ("Rcmp/Ohm", _F4),
    438: ("step time/s", _F8),
    469: ("z cycle", _U4),
    473: ("THD Ewe/%", _F4),
    474: ("THD I/%", _F4),
    476: ("NSD Ewe/%", _F4),
    477: ("NSD I/%", _F4),
    479: ("NSR Ewe/%", _F4),
    480: ("NSR I/%", _F4),
    **{484 + h: (f"|Ewe h{h}|/V", _F4) for h in range(2, 8)},
    **{490 + h: (f"|I h{h}|/A", _F4) for h in range(2, 8)},
    880: ("Energy we/W.h", _F8),
}
"""Of 473 to 497 the text export writes -1 and 0 at a tenth of the frequencies, where the record holds numbers; elsewhere they are equal."""

UNCONFIRMED: dict[int, tuple[str, str]] = {
    18: ("Analog IN 3/V", _F4),
    26: ("Rapp/Ohm", _F4),
    27: ("Ewe-Ece/V", _F4),
    69: ("R/Ohm", _F4),
    75: ("Analog OUT/V", _F4),
    78: ("Cs-2/µF-2", _F4),
    163: ("|Estack|/V", _F4),
    173: ("Cp-2/µF-2", _F4),
    **{240 + n: (f"|E{n}|/V", _F4) for n in range(1, 31)},
    **{270 + n: (f"Phase(Z{n})/deg", _F4) for n in range(1, 31)},
    **{300 + n: (f"|Z{n}|/Ohm", _F4) for n in range(1, 31)},
    **{330 + n: (f"Re(Z{n})/Ohm", _F4) for n in range(1, 31)},
    **{360 + n: (f"-Im(Z{n})/Ohm", _F4) for n in range(1, 31)},
    **{390 + n: (f"<E{n}>/V", _F4) for n in range(1, 31)},
    422: ("Phase(Zstack)/deg", _F4),
    423: ("|Zstack|/Ohm", _F4),
    424: ("Re(Zstack)/Ohm", _F4),
    425: ("-Im(Zstack)/Ohm", _F4),
    426: ("<Estack>/V", _F4),
    462: ("Temperature/°C", _F4),
    505: ("Rdc/Ohm", _F4),
    509: ("Acir/Dcir Control", _U1),
    883: ("Energy we charge/W.h", _F8),
    884: ("Energy we discharge/W.h", _F8),
}
UNCONFIRMED |= {
    n - 256: ({**UNCONFIRMED, **CONFIRMED_ELSEWHERE, **CONFIRMED}[n])
    for n in (434, 435, 438, 441, 467, 468, 469, 473, 474, 476, 477, 479, 480, *range(486, 497))
}
"""Of these 883 and 884 stand in one file without a twin, where they are the sum of Ewe dq over charge and over discharge.
Presumed and not seen in any file here: tables of one-byte numbers (version 0) holding numbers above 255 with 256 taken off; the elements
of a stack (241 on) going by thirties; 18 to 27, 69, 75, 78, 163, 173, 422 to 426, 462, 505, 509."""

_SURE = {**CONFIRMED_ELSEWHERE, **CONFIRMED}


@dataclass(frozen=True)
class Field:
    """One column of the record: `dtype` None means `width` bytes nobody can read."""

    number: int
    label: str
    offset: int
    width: int
    dtype: str | None
    evidence: str


def record_fields(numbers: tuple[int, ...], size: int, sample: bytes, path: Path) -> list[Field]:
    """Lay the columns out in a record.

    A number nobody knows gets the bytes that are left: if there is only one way to give each of them four or eight bytes (or, failing that, one or
    two), they are numbers of that width, called `raw_column_<number>`. If there are several ways but every known
    column stands in the same place, the bytes survive as `raw_bytes_<number>`. Otherwise the file is refused.

    Parameters
    ----------
    numbers
        Column numbers, in order.
    size
        Bytes per record, from the length of the table.
    sample
        The first records, to see whether known columns make sense where they would stand.
    path
        For the message.

    Raises
    ------
    LoaderError
        The columns cannot be placed.
    """
    known = {**UNCONFIRMED, **_SURE}
    for table in (known, _SURE):
        unknown = [n for n in numbers if n not in FLAGS and n not in table]
        fixed = sum(np.dtype(table[n][1]).itemsize for n in numbers if n in table) + any(n in FLAGS for n in numbers)
        gap = size - fixed
        if not unknown and gap == 0:
            return _place(numbers, table, {})
        if unknown and gap >= 0:
            fields = _solve(numbers, table, unknown, gap, size, sample)
            if fields is not None:
                raw = [f.label for f in fields if f.label.startswith("raw_")]
                warnings.warn(f"{path.name}: columns of unknown meaning kept as raw values: {', '.join(raw)}", UserWarning, stacklevel=4)
                return fields
    raise LoaderError(
        "the columns do not fill the record",
        file=path,
        found=f"{size} bytes for columns {', '.join(map(str, numbers))}",
        expected="columns whose widths are known or follow from the record's length",
        hint="export the file as text (.mpt) in EC-Lab and use the loader biologic-mpt",
    )


def _place(numbers: tuple[int, ...], table: dict[int, tuple[str, str]], widths: dict[int, int]) -> list[Field]:
    """Give every column its offset; `widths` holds those of the unknown ones, by position."""
    fields: list[Field] = []
    offset, flags_done, seen = 0, False, set()
    for i, number in enumerate(numbers):
        if number in FLAGS:
            if not flags_done:
                fields.append(Field(0, "flags", offset, 1, _U1, "confirmed"))
                offset, flags_done = offset + 1, True
            continue
        if number in table:
            label, dtype = table[number]
            width = np.dtype(dtype).itemsize
            evidence = "confirmed" if number in _SURE else "unconfirmed"
        else:
            width = widths[i]
            label, dtype, evidence = f"raw_column_{number}", {1: _U1, 2: _U2, 4: _F4, 8: _F8}[width], "unknown column: type taken from its width"
        if label in seen:
            base, slash, unit = label.rpartition("/")
            label = f"{base} ({number}){slash}{unit}" if slash else f"{label} ({number})"
        seen.add(label)
        fields.append(Field(number, label, offset, width, dtype, evidence))
        offset += width
    return fields


def _solve(numbers: tuple[int, ...], table: dict[int, tuple[str, str]], unknown: list[int], gap: int, size: int, sample: bytes) -> list[Field] | None:
    """Place unknown columns where that can be done in one way only."""
    where = [i for i, n in enumerate(numbers) if n not in FLAGS and n not in table]
    if gap == 0:  # no bytes of their own: further flags in the shared byte
        fields = _place(tuple(n for n in numbers if n in FLAGS or n in table), table, {})
        flags = next((f for f in fields if f.label == "flags"), None)
        return None if flags is None else [*fields, Field(unknown[0], "raw_flags", flags.offset, 1, _U1, "unknown flags: the whole byte")]
    ways: list[list[Field]] = []
    for choice in ((4, 8), (1, 2, 4, 8)):
        if len(unknown) <= (8 if len(choice) == 2 else 5):
            combinations = [w for w in itertools.product(choice, repeat=len(unknown)) if sum(w) == gap]
        else:
            combinations = [(w,) * len(unknown) for w in choice if w * len(unknown) == gap]
        ways = [fields for w in combinations if _sensible(fields := _place(numbers, table, dict(zip(where, w, strict=True))), size, sample)]
        if ways:
            break
    if not ways:
        return None
    if len(ways) == 1:
        return ways[0]
    places = {tuple((f.number, f.offset) for f in fields if not f.label.startswith("raw_")) for fields in ways}
    return _as_bytes(ways[0]) if len(places) == 1 else None


def _as_bytes(fields: list[Field]) -> list[Field]:
    """Join neighbouring unknown columns into runs of bytes."""
    out: list[Field] = []
    for f in fields:
        if not f.label.startswith("raw_"):
            out.append(f)
        elif out and out[-1].dtype is None and out[-1].offset + out[-1].width == f.offset:
            out[-1] = Field(out[-1].number, out[-1].label, out[-1].offset, out[-1].width + f.width, None, out[-1].evidence)
        else:
            out.append(Field(f.number, f"raw_bytes_{f.number}", f.offset, f.width, None, "unknown columns whose widths are not known"))
    return out


def _sensible(fields: list[Field], size: int, sample: bytes) -> bool:
    """Say whether the known columns hold what such columns hold."""
    count = len(sample) // size
    raw = np.frombuffer(sample, np.uint8, count * size).reshape(count, size)
    for f in fields:
        if f.dtype is None or f.label.startswith("raw_") or f.label == "flags":
            continue
        values = np.ascontiguousarray(raw[:, f.offset : f.offset + f.width]).view(f.dtype).ravel()
        if f.label == "I Range" and (values > 500).any():
            return False
        if f.label in ("Ns", "half cycle", "z cycle") and (values > 1_000_000).any():
            return False
        if np.dtype(f.dtype).kind != "f":
            continue
        size_of = np.abs(values[np.isfinite(values) & (values != 0)].astype(np.float64))
        if size_of.size and (size_of.min() < 1e-25 or size_of.max() > 1e25):
            return False
        if f.label == "time/s" and not (np.isfinite(values).all() and (values >= 0).all() and (values < 3e9).all() and (np.diff(values) >= 0).all()):
            return False
    return True
