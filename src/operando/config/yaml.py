"""YAML as people write it at night: read safely, refused plainly, every key with its line.

Scalars follow the YAML 1.2 core schema, not 1.1: `22:38` is not 1358 and `2026-06-03` is not a `date`; `no` and `on` are
words and `007` keeps its zeros. Time stamps and quantities stay text, so nothing is lost before the configuration reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from operando.contract.errors import ConfigError

MAX_BYTES = 5_000_000
MAX_NODES = 100_000  # after anchors are expanded; a beamtime of a hundred cells has a few thousand

Path_ = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Tree:
    """What a YAML file says, and where it says it.

    Attributes
    ----------
    value
        Mappings, lists and scalars; keys of mappings are always text, as written.
    lines
        Path of keys -> number of its line, from 1.
    """

    value: Any
    lines: dict[Path_, int]

    def line(self, path: Path_) -> int | None:
        """Line of a key, or of the nearest key above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


class _Loader(yaml.SafeLoader):
    """`SafeLoader` with the YAML 1.2 core schema's scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def read_tree(path: str | os.PathLike[str], *, what: str = "the file") -> Tree:
    """Read one YAML file.

    Parameters
    ----------
    path
        The file; at most 5 MB.
    what
        What it should hold, for the message.

    Raises
    ------
    ConfigError
        Missing, empty, too large, not UTF-8, not YAML, a key given twice, a tag, or anchors that expand beyond reason.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ConfigError("this is a folder", file=path, expected=f"{what}, a YAML file")
        if path.exists() and not path.is_file():  # a pipe or a device: opening it may wait for ever
            raise ConfigError("this is no regular file", file=path, expected=f"{what}, a YAML file")
        with path.open("rb") as f:
            raw = f.read(MAX_BYTES + 1)
    except OSError as error:
        near = _neighbours(path)
        raise ConfigError(
            "cannot be opened", file=path, found=error.strerror or error, expected=what, hint=f"there is {near}" if near else None
        ) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError("too large", file=path, found="more than 5 MB", expected=f"{what}, a few kB of YAML", hint="was a data file given instead?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        found = f"byte 0x{raw[error.start]:02x} in line {line}"
        raise ConfigError("not UTF-8 text", file=path, found=found, expected="UTF-8", hint="save it again with encoding UTF-8") from None
    return parse_tree(text, path, what=what)


def parse_tree(text: str, file: str | os.PathLike[str], *, what: str = "the file") -> Tree:
    """Read YAML text; `file` is for the messages. See `read_tree`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise _plain(error, text, file) from None
    except RecursionError:
        raise ConfigError("nested too deeply", file=file, expected="a handful of levels") from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"):
        raise ConfigError("the file is empty", file=file, found="no key", expected=what)
    walk = _Walk(file)
    try:
        return Tree(walk.value(node, ()), walk.lines)
    except RecursionError:
        raise ConfigError("nested too deeply", file=file, expected="a handful of levels") from None


class _Walk:
    """Turns composed nodes into values, expanding anchors within a budget."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = file
        self.lines: dict[Path_, int] = {}
        self.open: set[int] = set()
        self.count = 0

    def value(self, node: yaml.Node, path: Path_) -> Any:
        self.spend()
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            raise ConfigError(f"line {_line(node)}: an anchor contains itself", file=self.file)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self.tag(node, "seq")
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            self.tag(node, "map")
            assert isinstance(node, yaml.MappingNode)
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def spend(self) -> None:
        """Count one entry of the expanded file against the budget."""
        self.count += 1
        if self.count > MAX_NODES:
            raise ConfigError(
                "too many entries once its anchors are expanded",
                file=self.file,
                found=f"more than {MAX_NODES}",
                expected="a few thousand at most",
                hint="write out what the anchors (&name, *name) repeat, or split the file",
            )

    def tag(self, node: yaml.Node, *wanted: str) -> None:
        if node.tag not in [_TAG + name for name in wanted]:
            tag = str(node.tag).replace(_TAG, "!!")
            raise ConfigError(
                f"line {_line(node)}: YAML tags are not used here", file=self.file, found=tag, expected="plain values", hint=f"take {tag} off"
            )

    def scalar(self, node: yaml.ScalarNode) -> Any:
        self.tag(node, "str", "null", "bool", "int", "float")
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text) if len(text) < 20 else text  # a serial number, not a number to count with
                case "float":
                    return float(text)
        except (ValueError, KeyError):
            raise ConfigError(f"line {_line(node)}: not a value of type {kind}", file=self.file, found=text[:80]) from None
        return text

    def pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node, bool]]:
        """Give (key, key node, value node, came from a merge), merged ones first so that own keys win."""
        own = []
        for key, value in node.value:
            self.spend()
            if key.tag != _TAG + "merge":
                own.append((key, value))
                continue
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(merged, yaml.MappingNode) or id(merged) in self.open:
                    raise ConfigError(f"line {_line(key)}: '<<' takes a mapping", file=self.file, expected="<<: *name of a mapping")
                self.open.add(id(merged))
                try:
                    yield from ((k, a, b, True) for k, a, b, _ in self.pairs(merged))
                finally:
                    self.open.discard(id(merged))
        for key, value in own:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _TAG + "null":
                raise ConfigError(f"line {_line(key)}: a key must be a word", file=self.file, found=str(key.value)[:80])
            yield key.value, key, value, False

    def mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        out: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, key_node, value, merged in self.pairs(node):
            if not merged:
                if key in seen:
                    raise ConfigError(
                        f"line {_line(key_node)}: the key {key!r} is given twice",
                        file=self.file,
                        found=f"{'.'.join(map(str, (*path, key)))} in lines {seen[key]} and {_line(key_node)}",
                        expected="each key once",
                        hint="keep one of the two",
                    )
                seen[key] = _line(key_node)
            here = (*path, key)
            for known in [k for k in self.lines if k[: len(here)] == here] if key in out else ():
                del self.lines[known]
            self.lines[here] = _line(key_node)
            out[key] = self.value(value, here)
        return out


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _neighbours(path: Path) -> str:
    """Name YAML files that lie where a missing one was looked for."""
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return ""
    return ", ".join(names[:4])


def _plain(error: yaml.YAMLError, text: str, file: str | os.PathLike[str]) -> ConfigError:
    """Say in plain words what the YAML reader stumbled over."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a ReaderError knows only the position
        position = int(getattr(error, "position", 0))
        line = text[:position].count("\n") + 1
        found = f"character {text[position : position + 1]!r}"
        return ConfigError(f"line {line}: not text", file=file, found=found, expected="YAML in UTF-8", hint="was a binary file given instead?")
    lines = text.splitlines() or [""]
    line = min(mark.line, len(lines) - 1)
    content = lines[line]
    where = f"line {line + 1}"
    problem = str(getattr(error, "problem", "") or error)
    for number in (line, line - 1):
        if 0 <= number < len(lines) and "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
            where, found = f"line {number + 1}", repr(lines[number][:60])
            return ConfigError(f"{where}: a tab in the indentation", file=file, found=found, expected="spaces", hint="replace tabs by spaces")
    if "\t" in problem or "'\\t'" in problem:
        found = repr(content[:60])
        return ConfigError(f"{where}: a tab where YAML wants spaces", file=file, found=found, expected="spaces", hint="replace tabs by spaces")
    if "but found another document" in problem:
        hint = "delete the line '---'"
        return ConfigError(f"{where}: a second YAML document begins", file=file, found=content[:80], expected="one document", hint=hint)
    hint = "check the indentation, the colon with a space after it, closing brackets and quotes in this line and the one before"
    if "undefined alias" in problem or "alphabetic or numeric" in problem:
        hint = "define it with &name before it is used with *name; a file pattern that begins with * needs quotes: '*.mpt'"
    elif "mapping values are not allowed" in problem:
        hint = "a text that holds ': ' needs quotes; or the line before lacks its indentation"
    elif content.count("{") != content.count("}") or content.count("[") != content.count("]"):
        hint = "a bracket { or [ is not closed"
    found = content.strip()[:120] or "the end of the file"
    return ConfigError(f"{where}: not YAML ({problem})", file=file, found=found, expected="key: value", hint=hint)
