"""What the headers of single detector files say: size, when, how long, what was counted. CBF, Pilatus TIFF, EDF, mar, and whatever fabio opens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import ContractError, LoaderError, as_stamps, convert
from operando.images.reading import open_with_fabio, refuse_impossible
from operando.loaders.spectrum_text import STAMP_FORMATS, resolution
from operando.loaders.text import parse_local

_HEAD = 16384
_FORMATS = (
    *STAMP_FORMATS,
    "%Y:%m:%d %H:%M:%S",
    "%Y-%b-%dT%H:%M:%S.%f",
    "%Y/%b/%d %H:%M:%S.%f",
    "%Y/%b/%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%m%d%H%M%Y.%S",
)
_STAMP_KEYS = (
    "time_of_frame",
    "time_of_day",
    "acquire_timestamp",
    "date",
    "datetime",
    "acquisition_time",
    "start_time",
    "starttime",
    "created",
    "time",
)
_EXPOSURE_KEYS = ("count_time", "acq_expo_time", "exposure_time", "exposuretime", "exposure", "expo_time", "elapsdr")
_READ_LATER = 30.0  # s; an image plate is stamped when it is read, about so long after its exposure
_CBF_TYPES = {
    "signed 32-bit integer": "int32",
    "unsigned 32-bit integer": "uint32",
    "signed 16-bit integer": "int16",
    "unsigned 16-bit integer": "uint16",
}


@dataclass
class Header:
    """What one file says.

    Attributes
    ----------
    shape, dtype
        Of a frame.
    starts
        One stamp per frame, ISO text; None if the file holds none.
    exposures
        Seconds, NaN where not said.
    uncertainty
        Of the stamps, s.
    numbers
        Name -> (values per frame, unit): counters and motors.
    facts
        `saturation` (counts), `wavelength` (angstrom).
    """

    shape: tuple[int, int]
    dtype: str
    starts: list[str] | None
    exposures: np.ndarray
    uncertainty: float = 0.0
    numbers: dict[str, tuple[np.ndarray, str]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)


def read_header(
    path: Path,
    *,
    start_time: str | None = None,
    count_time: str | None = None,
    time_format: str | None = None,
    wanted: Mapping[str, str] | None = None,
) -> Header:
    """Read what stands in the header of a detector file; pixels are not decompressed where the format allows.

    Parameters
    ----------
    start_time, count_time
        Keys of the header that hold the stamp and the exposure; by default those that the formats have.
    time_format
        Of the stamp, `strptime` words, where it could be read in two ways.
    wanted
        Coordinate -> key of the header (or name of an EDF counter or motor).

    Raises
    ------
    LoaderError
        Not a detector file, damaged, or without a key that an option names.
    """
    refuse_impossible(path)
    with path.open("rb") as f:
        head = f.read(_HEAD)
    text = head.decode("latin-1")
    later = 0.0
    if head.startswith(b"###CBF"):
        shape, dtype = _cbf(text, path)
        frames = [_pilatus(text.partition("\x0c\x1a\x04")[0])]
    elif head[128:140] == b"mar research":
        side = int.from_bytes(head[4:8], "little" if int.from_bytes(head[:4], "little") == 1234 else "big")
        shape, dtype, frames, later = (side, side), "uint32", [_mar(head[128:4096].decode("latin-1"))], _READ_LATER
    else:
        image = open_with_fabio(path)
        shape, dtype = image.data.shape, str(image.data.dtype)
        count = max(int(image.nframes), 1)
        said = (
            [dict(image.header if k == 0 else image.get_frame(k).header) for k in range(count)]
            if image.classname == "EdfImage"
            else [dict(image.header)] * count
        )
        pilatus = "PILATUS" in text or "# Exposure_time" in text
        frames = [_plain(one) | (_pilatus(text) if pilatus else {}) for one in said]
        if pilatus and (found := re.search(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", text)) and "date" not in frames[0]:
            frames[0]["date"] = found.group()
            later = float(frames[0].get("exposure_time", 0.0) or 0.0)  # TIFF says when the file was made, not when the exposure began
    if min(shape) < 1:
        raise LoaderError("the frame is empty", file=path, found=shape)
    starts, sigma = _starts(frames, start_time, time_format, path)
    exposures = np.array([_number(one, [count_time] if count_time else _EXPOSURE_KEYS) for one in frames], float)
    if "acquire_timestamp" in frames[0] and not count_time:
        exposures /= 1000.0  # marccd counts milliseconds
    if later == _READ_LATER and starts is not None and np.isfinite(exposures).all():
        starts = [str(as_stamps(s)[0][()] - np.timedelta64(round(e * 1e9), "ns")) for s, e in zip(starts, exposures, strict=True)]
    numbers = {name: (np.array([_number(one, [key]) for one in frames]), "1") for name, key in (wanted or {}).items()}
    for name, (values, _) in numbers.items():
        if np.isnan(values).all():
            raise LoaderError(
                f"the header has no number {name}", file=path, found=", ".join(sorted(frames[0])[:20]), expected=str((wanted or {})[name])
            )
    facts = {k: float(frames[0][k]) for k in ("saturation", "wavelength") if np.isfinite(_number(frames[0], [k])) and float(frames[0][k]) > 0}
    return Header((int(shape[0]), int(shape[1])), dtype, starts, np.where(exposures >= 0, exposures, np.nan), max(sigma, later), numbers, facts)


# --------------------------------------------------------------------------- formats


def _cbf(text: str, path: Path) -> tuple[tuple[int, int], str]:
    found = dict(re.findall(r"X-Binary-Size-(Fastest|Second)-Dimension:\s*(\d{1,9})", text))
    kind = re.search(r'X-Binary-Element-Type:\s*"([^"]+)"', text)
    if set(found) != {"Fastest", "Second"} or kind is None or kind.group(1) not in _CBF_TYPES:
        raise LoaderError("no CBF frame", file=path, found=f"{found}, {kind.group(1) if kind else 'no type'}", expected="two dimensions of integers")
    return (int(found["Second"]), int(found["Fastest"])), _CBF_TYPES[kind.group(1)]


def _pilatus(text: str) -> dict[str, str]:
    """Read the lines that begin with # of a Pilatus, Eiger or Lima header."""
    out: dict[str, str] = {}
    if (
        found := re.search(r"^#\s*(\d{4}[-/](?:\d\d|[A-Z][a-z]{2})[-/]\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)", text, re.MULTILINE)
    ) is not None:
        out["date"] = found.group(1)
    for name, key in (
        ("exposure_time", "Exposure_time"),
        ("exposure_period", "Exposure_period"),
        ("saturation", "Count_cutoff"),
        ("wavelength", "Wavelength"),
    ):
        if (found := re.search(rf"#\s*{key}\s*[=:]?\s*([-+\d.eE]+)", text)) is not None:
            out[name] = found.group(1)
    for found in re.finditer(r"^#\s*([A-Za-z]\w*)\s*[=:]?\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)\b", text, re.MULTILINE):
        out.setdefault(found.group(1).lower(), found.group(2))
    return out


def _mar(text: str) -> dict[str, str]:
    """Read the lines of a mar345 header: KEY and the rest."""
    out: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, rest = line.strip().partition(" ")
        if key and rest.strip():
            out.setdefault(key.lower(), rest.strip())
    exposure = out.pop("time", "")
    return out | ({"exposure_time": exposure} if exposure else {})


def _plain(header: Mapping[str, Any]) -> dict[str, str]:
    """Lower the keys, and spread EDF's counters and motors."""
    out = {str(k).lower(): str(v).strip() for k, v in header.items()}
    for kind in ("counter", "motor"):
        names, values = out.get(f"{kind}_mne", "").split(), out.get(f"{kind}_pos", "").split()
        for name, value in zip(names, values, strict=False):
            out.setdefault(name.lower(), value)
    return out


def _number(header: Mapping[str, str], keys: Iterable[str | None]) -> float:
    for key in keys:
        found = re.match(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Z]*)", header.get(str(key).lower(), ""))
        if found is None:
            continue
        value = float(found.group(1))
        if found.group(2) in ("ms", "us", "min"):
            try:
                return float(convert(value, found.group(2), "s"))
            except ContractError:
                return np.nan
        return value
    return np.nan


def _starts(frames: list[dict[str, str]], key: str | None, form: str | None, path: Path) -> tuple[list[str] | None, float]:
    """Find a stamp for every frame."""
    keys = [key.lower()] if key else _STAMP_KEYS
    for name in keys:
        read = [_stamp(one.get(name, ""), name, form) for one in frames]
        if all(found is not None for found in read):
            return [found for found in read if found is not None], resolution(frames[0][name]) if ":" in frames[0][name] else 0.0
    if key:
        raise LoaderError(
            "the header has no such stamp", file=path, found=frames[0].get(key.lower(), ", ".join(sorted(frames[0])[:20])), expected=key
        )
    return None, 0.0


def _stamp(text: str, key: str, form: str | None = None) -> str | None:
    """Read a stamp as ISO text: seconds since 1970 (UTC), ISO 8601, or a date that can be read in one way only."""
    text = text.strip()
    if form is not None:
        local = parse_local(" ".join(text.split()), [form])
        return local.isoformat() if local is not None else None
    if re.fullmatch(r"1\d{9}(\.\d+)?", text):
        whole, _, part = text.partition(".")
        nanoseconds = int(whole) * 10**9 + int(part[:9].ljust(9, "0") or 0)
        return str(np.datetime64(nanoseconds, "ns")) + "+00:00"
    if len(text) < 15 or (key != "acquire_timestamp" and not re.search(r"\d{4}", text)):
        return None
    try:
        as_stamps(text)
        return text
    except ContractError:
        pass
    found = parse_local(" ".join(text.split()), _FORMATS)
    return found.isoformat() if found is not None else None


def looks_like(path: str | os.PathLike[str]) -> str | None:
    """Say what a file is if its first bytes are those of a detector's frame."""
    with open(path, "rb") as f:
        head = f.read(4096)
    if head.startswith(b"###CBF"):
        return "detector frame, CBF"
    if head[128:140] == b"mar research":
        return "detector frame, mar345 image plate"
    if head[:4] in (b"II*\0", b"MM\0*"):
        words = next((w for w in (b"PILATUS", b"EIGER", b"DECTRIS", b"marccd", b"# Exposure_time") if w in head), None)
        return f"detector frame, TIFF ({words.decode().lstrip('# ')})" if words else None
    if head.lstrip()[:1] == b"{" and re.search(rb"EDF_|HeaderID|DataType\s*=", head):
        sizes = [int(n) for n in re.findall(rb"Dim_[12]\s*=\s*(\d{1,9})", head)]
        return "detector frame, EDF" if len(sizes) >= 2 and min(sizes) > 16 else None
    return None
