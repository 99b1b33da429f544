"""What is wrong with a beamtime.yaml, in plain words: one `Problem` per mistake, all of them at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from operando.config.models import (
    CLOCKS_BY_SEGMENT,
    GENERAL_SOURCE_KEYS,
    ONE_CLOCK,
    SERIES_KEYS,
    About,
    BeamtimeConfig,
    CellConfig,
    ClockConfig,
    EventsConfig,
    SeriesConfig,
    Settings,
    SharedSignalConfig,
    SourceConfig,
    SuggestConfig,
    TimesFrom,
)
from operando.config.words import dotted, looks_like, suggest
from operando.config.yaml import Path_, Tree
from operando.contract.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.]*[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Problem:
    """One mistake: where (keys, line), what, and how to mend it."""

    keys: Path_
    line: int | None
    problem: str
    found: object = None
    expected: object = None
    hint: str | None = None

    @property
    def head(self) -> str:
        """Line, keys and problem on one line."""
        where = dotted(self.keys)
        return (f"line {self.line}: " if self.line else "") + (f"{where}: " if where else "") + self.problem


def raise_all(problems: list[Problem], path: str | os.PathLike[str]) -> None:
    """Raise one ConfigError that holds every problem, in the order of the lines; nothing if there is none."""
    if not problems:
        return
    problems = sorted(problems, key=lambda p: p.line or 0)
    if len(problems) == 1:
        (p,) = problems
        raise ConfigError(p.head, file=path, found=p.found, expected=p.expected, hint=p.hint)
    lines = [f"{len(problems)} problems"]
    for p in problems:
        lines.append(f"- {p.head}")
        lines += [f"    {word:<10}{text}" for word, text in (("found:", p.found), ("expected:", p.expected), ("to do:", p.hint)) if text is not None]
    raise ConfigError("\n".join(lines), file=path)


# --------------------------------------------------------------------------- what pydantic found


def from_pydantic(error: ValidationError, tree: Tree, known: set[Path_]) -> list[Problem]:
    """Translate pydantic's errors; those at places already spoken of are left out."""
    out: dict[Path_, Problem] = {}
    for item in error.errors(include_url=False):
        keys = tuple(k for k in item["loc"] if k not in (ONE_CLOCK, CLOCKS_BY_SEGMENT))
        keys = _existing(keys, tree, missing=item["type"] == "missing")
        if keys in known or keys in out:
            continue
        out[keys] = _translate(item, keys, tree)
    return list(out.values())


def _existing(keys: Path_, tree: Tree, *, missing: bool) -> Path_:
    """Cut what pydantic adds to a path (names of union members) and the file does not have."""
    tail = keys[-1:] if missing else ()
    keys = keys[:-1] if missing else keys
    while keys and keys not in tree.lines:
        keys = keys[:-1]
    return keys + tail


def _translate(item: Any, keys: Path_, tree: Tree) -> Problem:
    kind, value, line = item["type"], item["input"], tree.line(keys)
    context = item.get("ctx", {})
    short = repr(value)[:80]
    if kind == "operando":
        return Problem(keys, line, context["problem"], context.get("found"), context.get("expected"), context.get("hint"))
    if kind == "extra_forbidden":
        return _unknown_key(keys, tree)
    if kind == "missing":
        hint = {"loader": "operando loaders  lists them", "files": "a pattern relative to beamtime.yaml, for example xrd/*.xy"}.get(str(keys[-1]))
        hint = hint or ("operando new DIR  proposes one" if keys == ("cells",) else None)
        line = tree.line(keys[:-1]) if keys[:-1] else None
        return Problem(keys[:-1], line, f"the key {keys[-1]!r} is missing", expected=f"{keys[-1]}: ...", hint=hint)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        hint = None
        if keys and keys[-1] == "clock":
            hint = f"write clock: {{offset: {value}}}" if isinstance(value, str | int | float) else None
        elif keys and isinstance(value, str) and (keys[-1] == "echem" or (len(keys) == 4 and keys[2] == "series")):
            hint = f"write {keys[-1]}: {{from: {value}}}"
        found = "nothing" if value is None else short
        return Problem(keys, line, "a mapping (key: value lines) belongs here", found, f"{_keys_text(keys)}", hint)
    if kind == "literal_error":
        wanted = str(context.get("expected", "")).replace("'", "")
        near = suggest(str(value), re.split(r", | or ", wanted))
        return Problem(keys, line, "not one of the words known here", short, wanted, f"did you mean {near}?" if near else None)
    words = {
        "string_type": "text",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "list_type": "one or a list of them",
        "too_short": "at least one",
        "string_too_short": "some text",
        "greater_than": f"more than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than_equal": f"at most {context.get('le')}",
    }
    found = "nothing" if value is None or value == {} else short
    if kind in words:
        return Problem(keys, line, "not a value that fits here", found, words[kind])
    return Problem(keys, line, str(item["msg"])[0].lower() + str(item["msg"])[1:], found)


def _model_at(keys: Path_) -> type[BaseModel] | None:
    """Name the model that stands at a path."""
    match keys:
        case ():
            return BeamtimeConfig
        case (*_, "settings"):
            return Settings
        case (*_, "times_from"):
            return TimesFrom
        case (*_, "clock") | (*_, "clock", int()):
            return ClockConfig
        case (*_, "events"):
            return EventsConfig
        case (*_, "shared_signal"):
            return SharedSignalConfig
        case (*_, "suggest"):
            return SuggestConfig
        case ("cells", _):
            return CellConfig
        case ("cells", _, "about"):
            return About
        case ("cells", _, "echem") | ("cells", _, "series", _):
            return SeriesConfig
        case ("sources", _):
            return SourceConfig
    return None


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [f.alias or name for name, f in model.model_fields.items()] if model else []


def _keys_text(keys: Path_) -> str:
    model = _model_at(keys)
    return f"keys {', '.join(_keys(model))}" if model else "name: {...}"


def _unknown_key(keys: Path_, tree: Tree) -> Problem:
    key, parent = str(keys[-1]), keys[:-1]
    model, line = _model_at(parent), tree.line(keys)
    known = _keys(model)
    near = suggest(key, known)
    hint = f"did you mean {near!r}?" if near else _home_of(key, parent)
    return Problem(keys, line, f"unknown key {key!r}", expected=", ".join(known), hint=hint)


def _home_of(key: str, parent: Path_) -> str | None:
    """Say where a key belongs that is known elsewhere."""
    homes: dict[str, type[BaseModel]] = {
        "a clock:": ClockConfig,
        "events:": EventsConfig,
        "shared_signal:": SharedSignalConfig,
        "settings:": Settings,
        "a cell": CellConfig,
        "a cell's about:": About,
        "times_from:": TimesFrom,
        "a source": SourceConfig,
        "a series": SeriesConfig,
        "the top level": BeamtimeConfig,
    }
    at = _model_at(parent)
    fitting = [place for place, model in homes.items() if key in _keys(model) and model is not at]
    return f"{key}: belongs under {' or '.join(fitting)}" if fitting else None


# --------------------------------------------------------------------------- what only the whole file shows


def cross_checks(tree: Tree) -> list[Problem]:
    """Check names and what refers to what, on the plain mapping: also where other values are wrong."""
    top = tree.value
    sources, cells = _mapping(top, "sources"), _mapping(top, "cells")
    out: list[Problem] = []
    for name, source in sources.items():
        out += _names("sources", name, tree, ())
        if isinstance(source, dict):
            out += _clocks(source, ("sources", name), tree)
            out += _estimates(source, ("sources", name), sources, cells, tree)
            out += _aside(source, ("sources", name), tree)
    out += _own_clock_is_the_timeline(sources, cells, tree)
    lowered: dict[str, str] = {}
    here: Path_
    for name, cell in cells.items():
        out += _names("cells", name, tree, ())
        if name.lower() in lowered:
            here = ("cells", name)
            out.append(Problem(here, tree.line(here), f"differs from the cell {lowered[name.lower()]!r} only by upper and lower case"))
        lowered[name.lower()] = name
        if not isinstance(cell, dict):
            continue
        series = _mapping(cell, "series")
        if cell.get("echem") is None and not series:
            here = ("cells", name)
            out.append(Problem(here, tree.line(here), "a cell with neither echem: nor series:", hint="say what was measured on it, or remove it"))
        out += _about(cell.get("about"), ("cells", name, "about"), tree)
        if isinstance(cell.get("echem"), dict):
            out += _one_series(cell["echem"], ("cells", name, "echem"), sources, tree)
        for label, one in series.items():
            here = ("cells", name, "series", label)
            out += _names("series", label, tree, ("cells", name))
            if label == "echem":
                out.append(Problem(here, tree.line(here), "electrochemistry is no series among others", hint="write it as echem: of the cell"))
            if isinstance(one, dict):
                out += _one_series(one, here, sources, tree)
                out += _estimates(one, here, sources, cells, tree)
    return out


def _mapping(owner: dict[str, Any], key: str) -> dict[str, Any]:
    value = owner.get(key)
    return value if isinstance(value, dict) else {}


def _names(kind: str, name: str, tree: Tree, above: Path_) -> Iterator[Problem]:
    keys = (*above, kind, name)
    if not NAME.fullmatch(name):
        plain = re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("_.") or "A"
        expected = "letters, digits, '_' and '.': it becomes a name in the store"
        yield Problem(keys, tree.line(keys), "not a name that a store can hold", repr(name), expected, f"for example {plain}")
    elif kind == "series" and name in ("about", "sample", "process", "results"):
        yield Problem(keys, tree.line(keys), "a name the store needs itself", name, "another name")


def _clocks(owner: dict[str, Any], keys: Path_, tree: Tree) -> Iterator[Problem]:
    clock, here = owner.get("clock"), (*keys, "clock")
    if isinstance(clock, dict) and "segment" in clock:
        hint = "write a list: clock: [{segment: 0, offset: ...}, {segment: 1, offset: ...}]"
        yield Problem((*here, "segment"), tree.line((*here, "segment")), "segment: stands in a list of clocks only", hint=hint)
    if isinstance(clock, list):
        seen: dict[Any, int] = {}
        if not clock:
            yield Problem(here, tree.line(here), "no clock in the list", hint="leave clock: out if the two clocks agree")
        for i, one in enumerate(clock):
            if not isinstance(one, dict):
                continue
            at, number = (*here, i), one.get("segment")
            if number is None:
                yield Problem(at, tree.line(at), "which segment it holds for is not said", expected="segment: 0 (then 1, 2 ... after each restart)")
            elif isinstance(number, int) and number in seen:
                yield Problem(at, tree.line(at), f"a second clock for segment {number}", expected="one clock per segment")
            if isinstance(number, int):
                seen[number] = i


def _estimates(owner: dict[str, Any], keys: Path_, sources: dict[str, Any], cells: dict[str, Any], tree: Tree) -> Iterator[Problem]:
    """Check what a clock that is to be found names."""
    clock = owner.get("clock")
    for at, one in [((*keys, "clock"), clock)] if isinstance(clock, dict) else [((*keys, "clock", i), c) for i, c in enumerate(clock or ())]:
        if not isinstance(one, dict):
            continue
        found = [kind for kind in ("events", "shared_signal") if one.get(kind) is not None]
        if len(found) == 2:
            yield Problem(at, tree.line(at), "a clock is found in one way", "events: and shared_signal:", "one of them")
        for kind in (*found, "suggest"):
            asked = one.get(kind)
            if not isinstance(asked, dict):
                continue
            origin, cell = asked.get("from"), asked.get("cell")
            if origin is not None and str(origin) not in sources:
                near = suggest(str(origin), sources)
                here = (*at, kind, "from")
                yield Problem(
                    here, tree.line(here), f"there is no source {str(origin)!r}", None, _any(sources), f"did you mean {near!r}?" if near else None
                )
            if cell is not None and str(cell) not in cells:
                here = (*at, kind, "cell")
                yield Problem(here, tree.line(here), f"there is no cell {str(cell)!r}", None, ", ".join(cells))


def _own_clock_is_the_timeline(sources: dict[str, Any], cells: dict[str, Any], tree: Tree) -> Iterator[Problem]:
    """Refuse to find the clock of electrochemistry against itself."""
    for name, cell in cells.items():
        echem = cell.get("echem") if isinstance(cell, dict) else None
        if not isinstance(echem, dict):
            continue
        origin = echem.get("from")
        keys: Path_ = ("sources", str(origin)) if origin is not None else ("cells", name, "echem")
        owner = sources.get(str(origin)) if origin is not None else echem
        clock = owner.get("clock") if isinstance(owner, dict) else None
        for one in clock if isinstance(clock, list) else [clock]:
            asked = [k for k in ("events", "shared_signal", "suggest") if isinstance(one, dict) and one.get(k) not in (None, False)]
            if asked:
                here = (*keys, "clock")
                hint = "ask for the clocks of the other sources, which are found against it"
                yield Problem(
                    here, tree.line(here), "the clock of the electrochemistry is the timeline", f"{asked[0]}:", "given numbers, or none", hint
                )


def _aside(owner: dict[str, Any], keys: Path_, tree: Tree) -> Iterator[Problem]:
    """Keys that would pass as a loader's options but cannot be meant so."""
    if "options" in owner:
        here = (*keys, "options")
        yield Problem(here, tree.line(here), "loader options stand beside loader:, not under options:", hint="move them one level up")
    if keys[0] == "sources":
        for key in ("from", "where", "recipe"):
            if key in owner:
                here = (*keys, key)
                hint = "cells: NAME: series: NAME: {from: SOURCE, ...}"
                yield Problem(here, tree.line(here), f"{key}: belongs to a cell's series, not to a source", hint=hint)
    pattern = owner.get("name_pattern")
    if isinstance(pattern, str) and not re.search(r"\{\w+(:[^{}]*)?\}", pattern):
        here = (*keys, "name_pattern")
        expected = "at least one field, for example {time:%Y%m%dT%H%M%S} or {frame}"
        yield Problem(here, tree.line(here), "a pattern without a field says nothing", pattern, expected, "quote it: '{cell}_{time:%Y%m%dT%H%M%S}'")


def _one_series(one: dict[str, Any], keys: Path_, sources: dict[str, Any], tree: Tree) -> Iterator[Problem]:
    line = tree.line(keys)
    origin = one.get("from")
    yield from _clocks(one, keys, tree)
    yield from _aside(one, keys, tree)
    if origin is None:
        lacking = [key for key in ("loader", "files") if one.get(key) is None]
        if lacking:
            near = suggest("from", [k for k in one if k not in SERIES_KEYS])
            hint = f"did you mean 'from' by {near!r}?" if near else "name a source with from:, or give loader: and files:"
            yield Problem(keys, line, "where its frames come from is not said", _listed(one), f"from: {_any(sources)}, or loader: and files:", hint)
        return
    at = tree.line((*keys, "from"))
    if isinstance(origin, list | dict):
        yield Problem((*keys, "from"), at, "from: names one source", repr(origin)[:80], _any(sources), "one series per instrument")
    elif str(origin) not in sources:
        near = suggest(str(origin), sources)
        hint = f"did you mean {near!r}?" if near else "define it under sources:, or correct the name"
        yield Problem((*keys, "from"), at, f"there is no source {str(origin)!r}", expected=", ".join(sources) or "a name under sources:", hint=hint)
    for key in one:
        here = (*keys, key)
        if key in ("from", "where", "recipe", "loader", "options"):
            continue
        if key in GENERAL_SOURCE_KEYS:
            hint = f"write it under sources: {origin}:, or leave from: out and give loader: and files:"
            yield Problem(here, tree.line(here), f"{key}: belongs to the source, because a source has one clock and one set of files", hint=hint)
        elif one.get("loader") is None:
            near = suggest(key, SERIES_KEYS)
            hint = f"did you mean {near!r}?" if near else f"options of a loader belong to the source {origin}"
            yield Problem(here, tree.line(here), f"unknown key {key!r}", expected="from, where, recipe, loader", hint=hint)


def _about(about: Any, keys: Path_, tree: Tree) -> Iterator[Problem]:
    if not isinstance(about, dict):
        return
    known = _keys(About)
    for key, value in about.items():
        here = (*keys, key)
        if key in known:
            continue
        near = suggest(key, known)
        if near and near not in about and looks_like(key, near):
            hint = f"write {near!r}; if it is something else, give it a name less alike"
            yield Problem(here, tree.line(here), f"{key!r} looks like {near!r}", hint=hint)
        elif not isinstance(value, str | int | float | None):
            yield Problem(here, tree.line(here), "a further key holds text or a number", type(value).__name__, "text, a number, true or false")


def _any(sources: Iterable[str]) -> str:
    return " | ".join(sources) or "SOURCE"


def _listed(one: dict[str, Any]) -> str:
    return ", ".join(map(str, one)) or "nothing"
