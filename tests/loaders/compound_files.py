"""Write OLE compound files ([MS-CFB]) as microscopes do, small enough to be read through: there is no library that makes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def write(path: Path, streams: Mapping[str, bytes]) -> Path:
    """Write streams `storage/name`: small ones in the mini stream, the others in sectors of 512 bytes."""
    sectors: list[bytes] = []
    chain: list[int] = []

    def store(data: bytes) -> int:
        if not data:
            return END
        first = len(sectors)
        pieces = [data[i : i + 512].ljust(512, b"\0") for i in range(0, len(data), 512)]
        sectors.extend(pieces)
        chain.extend([*range(first + 1, first + len(pieces)), END])
        return first

    mini, mini_chain = b"", []
    places: dict[str, tuple[int, int]] = {}
    for name, data in streams.items():
        if len(data) < 4096:
            count = -(-len(data) // 64)
            first = len(mini) // 64
            mini += data.ljust(64 * count, b"\0")
            mini_chain += [*range(first + 1, first + count), END] if count else []
            places[name] = (first if count else END, len(data))
        else:
            places[name] = (store(data), len(data))
    root = store(mini)
    mini_fat = store(b"".join(struct.pack("<I", v) for v in mini_chain).ljust(-(-4 * len(mini_chain) // 512) * 512, b"\xff"))
    storages = sorted({name.rpartition("/")[0] for name in streams} - {""}, key=lambda s: (len(s), s.upper()))
    entries: list[dict[str, Any]] = [{"name": "Root Entry", "kind": 5, "first": root, "size": len(mini), "inside": list(storages)}]
    entries[0]["inside"] += [name for name in streams if "/" not in name]
    order = {"": 0}
    for name in [*storages, *streams]:
        order[name] = len(entries)
        first, size = places.get(name, (0, 0))
        inside = [n for n in streams if n.rpartition("/")[0] == name] if name in storages else []
        entries.append({"name": name.rpartition("/")[2], "kind": 1 if name in storages else 2, "first": first, "size": size, "inside": inside})
    right = dict.fromkeys(range(len(entries)), FREE)
    child = dict.fromkeys(range(len(entries)), FREE)
    for k, entry in enumerate(entries):
        own = sorted(entry["inside"], key=lambda n: (len(n.rpartition("/")[2]), n.rpartition("/")[2].upper()))
        for a, b in zip(own, own[1:], strict=False):
            right[order[a]] = order[b]
        child[k] = order[own[0]] if own else FREE
    table = b""
    for k, entry in enumerate(entries):
        name = entry["name"].encode("utf-16-le") + b"\0\0"
        table += name.ljust(64, b"\0") + struct.pack("<HBBIII", len(name), entry["kind"], 1, FREE, right[k], child[k]) + bytes(36)
        table += struct.pack("<IQ", entry["first"], entry["size"])
    directory = store(table.ljust(-(-len(table) // 512) * 512, b"\0"))
    fats = 1
    while fats * 128 < len(sectors) + fats:
        fats += 1
    assert fats <= 109
    begin = len(sectors)
    chain += [FAT] * fats
    fat = b"".join(struct.pack("<I", v) for v in chain).ljust(512 * fats, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<IIIIIIIII", 0, fats, directory, 0, 4096, mini_fat if mini_chain else END, -(-4 * len(mini_chain) // 512), END, 0)
    head += b"".join(struct.pack("<I", begin + k if k < fats else FREE) for k in range(109))
    path.write_bytes(head + b"".join(sectors) + fat)
    return path


def microscope(path: Path, pictures: np.ndarray, dates: list[str], **more: bytes) -> Path:
    """Write pictures (n, y, x) as an .xrm (or .txrm) has them, 50 s each, 38.9 nm, 8353 eV."""
    n, height, width = pictures.shape
    kind = {"uint8": 3, "uint16": 5, "float32": 10}[str(pictures.dtype)]
    info = {"ImageWidth": width, "ImageHeight": height, "NoOfImages": n, "ImagesTaken": n, "DataType": kind}
    streams = {f"ImageInfo/{name}": struct.pack("<i", value) for name, value in info.items()}
    streams |= {"ImageInfo/PixelSize": struct.pack("<f", 0.0389), "ImageInfo/ExpTimes": struct.pack(f"<{n}f", *[50.0] * n)}
    streams |= {"ImageInfo/Energy": struct.pack(f"<{n}f", *[8353.0] * n), "ImageInfo/Angles": struct.pack(f"<{n}f", *range(n))}
    streams["ImageInfo/Date"] = b"".join(date.encode().ljust(40, b"\0") for date in dates)
    streams |= {f"ImageInfo/{name}": data for name, data in more.items()}
    for k in range(n):
        streams[f"ImageData{1 + k // 100}/Image{k + 1}"] = pictures[k].astype(pictures.dtype.newbyteorder("<")).tobytes()
    return write(path, streams)
