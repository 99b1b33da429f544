"""Finding entries and datasets in an HDF5 file by path templates: what `hdf5-path` reads with.

A path is relative to its entry, or to the file if it begins with `/`; a segment `[NXdata]` is any group of that NeXus class;
`{number}` stands for what the entry's template matched; `path@name` is an attribute. A list of paths means the first that exists.
"""

from __future__ import annotations

import difflib
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.contract import LoaderError
from operando.loaders.text import natural_key

_WINDOW = 64 * 2**20
READ_LIMIT = 256 * 2**20  # bytes read at once for times and coordinates; signals stay lazy
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


def refuse_endless_heaps(path: Path_) -> None:
    """Refuse a file whose global heap (where HDF5 keeps texts) would hold the HDF5 library in an endless loop.

    An object 0 (free space) of size 0, as in a block that was never filled in, makes HDF5 2.0 step by nothing for ever. The first and last
    64 MB are looked at, which is where heaps lie in practice.

    Raises
    ------
    LoaderError
        There is one.
    """
    try:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            spans = [(0, len(raw))] if len(raw) <= 2 * _WINDOW else [(0, _WINDOW), (len(raw) - _WINDOW, len(raw))]
            for begin, end in spans:
                while (begin := raw.find(b"GCOL\1\0\0\0", begin, end)) >= 0:
                    if not _heap_ends(raw[begin : begin + min(int.from_bytes(raw[begin + 8 : begin + 16], "little"), _WINDOW)]):
                        raise LoaderError(
                            "the file is damaged: a global heap has no end",
                            file=path,
                            found=f"offset {begin}",
                            hint="copy it again when it is closed",
                        )
                    begin += 8
    except (OSError, ValueError):  # absent, empty or not a file: whoever opens it says so
        return


def _heap_ends(heap: bytes) -> bool:
    at = 16
    while at + 16 <= len(heap):
        index, size = int.from_bytes(heap[at : at + 2], "little"), int.from_bytes(heap[at + 8 : at + 16], "little")
        if index == 0:
            return size > 0
        at += 16 + (size + 7) // 8 * 8
    return True


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
        raise LoaderError(
            f"{option}: is not a path", file=file, found=repr(value)[:80], expected="a path inside the entry, a list of them, or {path: ...}"
        )
    return Spec(tuple(paths), more)


def find_entries(root: Any, template: str | None, file: Path_) -> list[Entry]:
    r"""List the groups a template matches, in numeric order.

    Parameters
    ----------
    root
        The open file.
    template
        Segments joined by `/`: `entry_{number}`, `*.1`, `[NXentry]`, `re:scan_(\d+)`. None: every NXentry, or the file itself if it has none.
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
                digits = part == "{number}"
                out += f"(?P<{part[1:-1]}>" + (r"\d+)" if digits else ".+?)")
            else:
                out += re.escape(part)
        return re.compile(out)
    except re.error as error:
        raise LoaderError(
            f"entries: cannot be understood: {error}", file=file, found=segment, expected="entry_{number}, *.1, [NXentry] or re:..."
        ) from None


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
        raise LoaderError(
            f"a path names {{{error.args[0]}}}, which entries: does not", file=file, found=path, expected=", ".join(entry.fields) or "no field"
        ) from None
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
            raise LoaderError(
                f"{what} is too large", file=file, found=f"{found.name}: {found.shape} {found.dtype}", expected="one value per frame, or one"
            )
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
