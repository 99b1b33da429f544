"""Finding entries, datasets and times in an HDF5 file by path templates: what `hdf5-path` reads with.

A path is relative to its entry, or to the file if it begins with `/`; a segment `[NXdata]` is any group of that NeXus class;
`{number}` stands for what the entry's template matched; `path@name` is an attribute. A list of paths means the first that exists.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.contract import ContractError, LoaderError, as_stamps, convert, quantity
from operando.loaders.spectrum_text import STAMP_FORMATS, resolution
from operando.loaders.text import natural_key, parse_local

READ_LIMIT = 256 * 2**20  # bytes read at once for times and coordinates; signals stay lazy
FRAME_LIMIT = 50_000_000
EPOCHS = {"unix": np.datetime64("1970-01-01", "ns"), "epics": np.datetime64("1990-01-01", "ns")}
_ARBITRARY = {"", "arbitrary units", "arbitrary", "a.u.", "arb. units", "arb.u.", "au", "none", "unitless", "dimensionless", "any"}

Path_ = str | os.PathLike[str]


@dataclass
class Entry:
    """A group that the template matched."""

    name: str
    group: Any
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """Where something lies: paths to try, and what else the option says of it."""

    paths: tuple[str, ...]
    more: Mapping[str, Any]

    @property
    def optional(self) -> bool:
        """Whether it may be absent from the whole file."""
        return bool(self.more.get("optional", False))


def spec_of(value: Any, option: str, file: Path_, allowed: Sequence[str] = ()) -> Spec:
    """Read `path`, `[path, path]` or `{path: ..., ...}`.

    Raises
    ------
    LoaderError
        It is none of these, or has an unknown key.
    """
    more: dict[str, Any] = {}
    if isinstance(value, Mapping):
        more = {str(k): v for k, v in value.items() if k != "path"}
        unknown = sorted(set(more) - set(allowed) - {"optional"})
        if unknown:
            raise LoaderError(f"{option}: unknown key {', '.join(unknown)}", file=file, expected=", ".join(["path", "optional", *allowed]))
        value = value.get("path")
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str) and p for p in paths):
        raise LoaderError(f"{option}: is not a path", file=file, found=repr(value)[:80], expected="a path inside the entry, a list of them, or {path: ...}")
    return Spec(tuple(paths), more)


def find_entries(root: Any, template: str | None, file: Path_) -> list[Entry]:
    """List the groups a template matches, in numeric order.

    Parameters
    ----------
    root
        The open file.
    template
        Segments joined by `/`: `entry_{number}`, `*.1`, `[NXentry]`, `re:scan_(\\d+)`. None: every NXentry, or the file itself if it has none.
    file
        For the message.

    Raises
    ------
    LoaderError
        Nothing matches.
    """
    found = [Entry("", root)]
    segments = [s for s in (template if template is not None else "[NXentry]").split("/") if s]
    for segment in segments:
        found = [
            Entry(f"{parent.name}/{name}".lstrip("/"), child, {**parent.fields, **fields})
            for parent in found
            for name, child, fields in _children(parent.group, segment, file)
        ]
    if template is None and not found:
        return [Entry("", root)]
    if not found:
        raise LoaderError(
            "no group fits entries:", file=file, found=", ".join(sorted(map(str, root), key=natural_key)[:12]) or "an empty file", expected=template
        )
    return sorted(found, key=lambda e: natural_key(e.name))


def _children(group: Any, segment: str, file: Path_) -> Iterator[tuple[str, Any, dict[str, str]]]:
    import h5py

    if not isinstance(group, h5py.Group):
        return
    kind = re.fullmatch(r"\[(NX\w+)\]", segment)
    if kind is None and not re.search(r"[*?{]|^re:", segment):
        child = _get(group, segment)
        if isinstance(child, h5py.Group):
            yield segment, child, {}
        return
    pattern = re.compile(".*") if kind else _template(segment, file)
    for name in group:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        child = _get(group, name)
        if isinstance(child, h5py.Group) and (kind is None or text_of(child.attrs.get("NX_class")) == kind.group(1)):
            yield name, child, {k: v for k, v in match.groupdict().items() if v is not None}


def _template(segment: str, file: Path_) -> re.Pattern[str]:
    """Make a regular expression of `entry_{number}` or `*.1`."""
    try:
        if segment.startswith("re:"):
            return re.compile(segment[3:])
        out = ""
        for part in re.split(r"(\{\w+\}|\*|\?)", segment):
            if part == "*":
                out += ".*"
            elif part == "?":
                out += "."
            elif re.fullmatch(r"\{\w+\}", part):
                out += rf"(?P<{part[1:-1]}>{r'\d+' if part == '{number}' else '.+?'})"
            else:
                out += re.escape(part)
        return re.compile(out)
    except re.error as error:
        raise LoaderError(f"entries: cannot be understood: {error}", file=file, found=segment, expected="entry_{number}, *.1, [NXentry] or re:...") from None


def _get(group: Any, name: str) -> Any:
    """Give a child; None where a link leads nowhere."""
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError, ValueError):
        return None


def resolve(entry: Entry, root: Any, path: str, file: Path_) -> Any:
    """Find the dataset, group or attribute value at a path; None if there is none."""
    try:
        path = re.sub(r"\{(\w+)\}", lambda m: entry.fields[m.group(1)], path)
    except KeyError as error:
        raise LoaderError(f"a path names {{{error.args[0]}}}, which entries: does not", file=file, found=path, expected=", ".join(entry.fields) or "no field") from None
    place, _, attribute = path.partition("@")
    start = root if place.startswith("/") else entry.group
    found = _walk(start, [s for s in place.split("/") if s])
    if found is not None and attribute:
        return found.attrs.get(attribute)
    return found


def _walk(group: Any, segments: list[str]) -> Any:
    import h5py

    if not segments:
        return group
    if not isinstance(group, h5py.Group):
        return None
    first, rest = segments[0], segments[1:]
    kind = re.fullmatch(r"\[(NX\w+)\]", first)
    names = list(group) if kind else [first]
    for name in names:
        child = group if name == "." else group.parent if name == ".." else _get(group, name)
        if child is None or (kind and text_of(child.attrs.get("NX_class")) != kind.group(1)):
            continue
        found = _walk(child, rest)
        if found is not None:
            return found
    return None


def look_up(entry: Entry, root: Any, spec: Spec, file: Path_) -> Any:
    """Find the first of a spec's paths that exists; None if none does."""
    for path in spec.paths:
        found = resolve(entry, root, path, file)
        if found is not None:
            return found
    return None


def alternatives(entry: Entry, wanted: Sequence[str]) -> str:
    """Name datasets the entry does hold, the most similar first."""
    import h5py

    names: list[str] = []
    queue: list[tuple[str, Any]] = [("", entry.group)]
    for _ in range(300):
        if not queue or len(names) > 300:
            break
        prefix, group = queue.pop(0)
        for name in list(group)[:100]:
            child = _get(group, name)
            if isinstance(child, h5py.Dataset):
                names.append(prefix + name)
            elif isinstance(child, h5py.Group) and prefix.count("/") < 5:
                queue.append((f"{prefix}{name}/", child))
    last = wanted[0].rpartition("/")[2]
    names.sort(key=lambda n: -difflib.SequenceMatcher(None, n.rpartition("/")[2], last).ratio())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{entry.name or 'the file'} holds {', '.join(names[:8]) or 'no dataset'}{more}"


# ----------------------------------------------------------------- values


def text_of(value: Any) -> str:
    """Give bytes, text or an array of one as text; numbers as their text; None as ''."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return "" if value is None else str(value).strip()


def read_values(found: Any, file: Path_, what: str) -> np.ndarray:
    """Read a dataset or an attribute's value whole: numbers, or text as objects.

    Raises
    ------
    LoaderError
        Too large to be what it should be, or of a type that is neither.
    """
    import h5py

    if isinstance(found, h5py.Group):
        raise LoaderError(f"{what} is a group, not a dataset", file=file, found=found.name)
    if isinstance(found, h5py.Dataset):
        if found.shape is None:
            raise LoaderError(f"{what} is empty (it has no dataspace)", file=file, found=found.name)
        if found.size * max(found.dtype.itemsize, 1) > READ_LIMIT:
            raise LoaderError(f"{what} is too large", file=file, found=f"{found.name}: {found.shape} {found.dtype}", expected="one value per frame, or one")
        found = found[()]
    values = np.asarray(found)
    if values.dtype.kind in "SUO":
        out = np.empty(values.size, dtype=object)
        out[:] = [text_of(v) for v in values.ravel()]
        return out.reshape(values.shape)
    if values.dtype.kind == "b":
        return values.astype(np.int8)
    if values.dtype.kind not in "iuf":
        raise LoaderError(f"{what} is neither numbers nor text", file=file, found=str(values.dtype))
    return values


def units_of(found: Any, spec: Spec, default: str = "1") -> str:
    """Tell the unit: the option's, else the dataset's attribute, else the default."""
    if "units" in spec.more:
        return str(spec.more["units"])
    attrs = getattr(found, "attrs", {})
    text = text_of(attrs.get("units"))
    if text.casefold() in _ARBITRARY:
        return default
    return re.sub(r"\bangstroms?\b|Å|\bAngstroem\b", "angstrom", text, flags=re.IGNORECASE)


@dataclass
class Times:
    """When the frames of one entry began: `stamps[i] + elapsed[i]`; no stamps if the file holds no absolute time."""

    elapsed: np.ndarray
    exposure: np.ndarray
    stamps: np.ndarray | None = None
    utc: bool = False
    uncertainty: float = 0.0


def stamp_of(found: Any, spec: Spec, file: Path_, what: str) -> tuple[np.datetime64, bool, float]:
    """Read one stamp: ISO text, text in the option's format, or seconds since an epoch (`kind: unix | epics`).

    Returns
    -------
    tuple
        Stamp, whether it is UTC, its uncertainty from its last digit (s).

    Raises
    ------
    LoaderError
        It is no stamp.
    """
    values = read_values(found, file, what).ravel()
    if values.size == 0:
        raise LoaderError(f"{what} is empty", file=file)
    if values.dtype != object:
        kind = spec.more.get("kind")
        if kind not in EPOCHS:
            raise LoaderError(f"{what} is a number", file=file, found=values[0], expected="text, or kind: unix | epics beside its path")
        return _since(values[:1], units_of(found, spec, "s"), EPOCHS[kind], file, what)[0], True, 0.0
    text = str(values[0])
    form = spec.more.get("format")
    try:
        if form is None:
            stamp, zoned = as_stamps(re.sub(r"(?<=\d)\s+(?=[+-]\d\d:?\d\d$)", "", text))
            return stamp[()], zoned, resolution(text)
    except ContractError:
        pass
    local = parse_local(text, [form] if isinstance(form, str) else list(STAMP_FORMATS))
    if local is None:
        raise LoaderError(f"{what} is no stamp", file=file, found=repr(text[:60]), expected=form or "ISO 8601, or format: beside its path")
    stamp, zoned = as_stamps(local)
    return stamp[()], zoned, resolution(text)


def _since(values: np.ndarray, units: str, epoch: np.datetime64, file: Path_, what: str) -> np.ndarray:
    """Add numbers to an epoch, exactly for integers."""
    factor = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}.get(units)
    if factor is None:
        try:
            values, factor = np.asarray(convert(values.astype(float), units, "s")), 1_000_000_000
        except ContractError as error:
            raise LoaderError(f"{what}: {error.problem}", file=file) from None
    if not (np.abs(values.astype(float)) * factor < 9e18).all():
        raise LoaderError(f"{what} hold an impossible time", file=file, found=f"up to {np.nanmax(np.abs(values.astype(float))):g} {units}")
    if values.dtype.kind in "iu":
        return epoch + (values.astype(np.int64) * factor).astype("timedelta64[ns]")
    whole = np.floor(values)
    fraction = np.round((values - whole) * factor).astype(np.int64)
    return epoch + (whole.astype(np.int64) * factor + fraction).astype("timedelta64[ns]")


def frame_stamps(found: Any, spec: Spec, file: Path_) -> tuple[np.ndarray, np.ndarray | None, bool, float]:
    """Read the times of the frames.

    Returns
    -------
    tuple
        Seconds from the stamp (NaN where the file holds none yet); stamps, one per frame, or None if the times are relative; whether they are UTC; uncertainty.

    Raises
    ------
    LoaderError
        They cannot be read, or whether they count from 1970, 1990 or the start cannot be told.
    """
    what = "frame_times:"
    values = read_values(found, file, what).ravel()
    kind = spec.more.get("kind", "auto")
    if kind not in ("auto", "iso", "relative", *EPOCHS):
        raise LoaderError("frame_times: kind is not known", file=file, found=repr(kind), expected="auto | iso | relative | unix | epics")
    if values.dtype == object:
        filled = np.array([bool(v) for v in values])
        last = int(filled.sum()) if filled[: int(filled.sum())].all() else values.size
        stamps, utc = as_stamps([str(v) for v in values[:last]]) if last else (np.empty(0, "datetime64[ns]"), False)
        elapsed = np.concatenate([np.zeros(last), np.full(values.size - last, np.nan)])
        return elapsed, np.concatenate([stamps, np.full(values.size - last, np.datetime64("NaT", "ns"))]), utc, resolution(str(values[0])) if last else 0.0
    units = units_of(found, spec, "s")
    since = re.fullmatch(r"(\w+)\s+since\s+(.+)", units)
    if since and kind in ("auto", "relative"):
        stamp, zoned = as_stamps(since.group(2).strip())
        return _seconds(values, since.group(1), file), np.full(values.size, stamp[()]), zoned, 0.0
    if kind in EPOCHS:
        empty = ~np.isfinite(values.astype(float)) | (values == 0)
        clean = np.where(empty, np.asarray(1, values.dtype), values)
        return np.where(empty, np.nan, 0.0), _since(clean, units, EPOCHS[kind], file, what), True, 0.0
    seconds = _seconds(values, units, file)
    start = getattr(found, "attrs", {}).get("start")
    if kind == "auto" and seconds.size and np.nanmax(np.abs(seconds), initial=0.0) > 3e8:
        raise LoaderError(
            "what the frame times count from cannot be told",
            file=file,
            found=f"{seconds[0]:.3f} s",
            expected="kind: unix (1970), epics (1990), or relative",
            hint=f"frame_times: {{path: {spec.paths[0]}, kind: ...}}",
        )
    if start is not None:
        stamp, zoned, sigma = stamp_of(start, Spec(("@start",), {}), file, "the attribute start of the frame times")
        return seconds, np.full(values.size, stamp), zoned, sigma
    return seconds, None, False, 0.0


def _seconds(values: np.ndarray, units: str, file: Path_) -> np.ndarray:
    try:
        return np.asarray(convert(values.astype(float), units, "s"), dtype=float)
    except ContractError as error:
        raise LoaderError(f"frame_times: {error.problem}", file=file, hint="give their unit: {path: ..., units: s}") from None


def seconds_of(value: Any, entry: Entry, root: Any, option: str, file: Path_) -> np.ndarray | None:
    """Read a duration: `0.5 s`, a number of seconds, or a path (one value or one per frame).

    Returns
    -------
    numpy.ndarray or None
        0-d or 1-d seconds; None if the path does not exist.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return np.asarray(float(value))
    if isinstance(value, str) and re.match(r"\s*[-+]?\.?\d[\d.eE+-]*\s*[a-zA-Z]*\s*$", value):
        try:
            return np.asarray(quantity(value, "s"))
        except ContractError as error:
            if "/" not in value:
                raise LoaderError(f"{option}: {error.problem}", file=file, found=value, expected="for example '0.5 s', or a path") from None
    spec = spec_of(value, option, file, ("units",))
    found = look_up(entry, root, spec, file)
    if found is None:
        return None
    values = read_values(found, file, option)
    if values.dtype == object:
        raise LoaderError(f"{option}: is text", file=file, found=text_of(values)[:60], expected="a number of seconds")
    try:
        out = np.asarray(convert(values.astype(float), units_of(found, spec, "s"), "s"), dtype=float).squeeze()
    except ContractError as error:
        raise LoaderError(f"{option}: {error.problem}", file=file) from None
    if out.ndim > 1 or (out < 0).any() or np.isinf(out).any():
        raise LoaderError(f"{option}: is not a duration", file=file, found=f"shape {out.shape}, {out.ravel()[:3]}")
    return out
