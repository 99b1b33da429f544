"""beamtime.yaml and recipes: what may stand in them, read strictly, every mistake named with its line.

`read_config` reads a beamtime.yaml, `read_recipe` a recipe by name, path or mapping, `read_yaml` any other YAML file of
ours (presets). `python -m operando.config` writes the JSON schema that editors complete and check beamtime.yaml with.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PrivateAttr,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from operando._yaml import Path_, Tree, read_tree
from operando.contract.errors import ConfigError, ContractError
from operando.contract.units import quantity

# --------------------------------------------------------------------------- words


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word nearest to a mistyped one, or None."""
    import difflib

    by_plain = {_plain(name): name for name in known}
    if _plain(word) in by_plain:
        return by_plain[_plain(word)]
    near = difflib.get_close_matches(_plain(word), by_plain, n=1, cutoff=0.65)
    return by_plain[near[0]] if near else None


def looks_like(word: str, name: str) -> bool:
    """Say whether a word is a name with a letter or two wrong."""
    import difflib

    return difflib.SequenceMatcher(None, _plain(word), _plain(name)).ratio() >= 0.85


def _plain(word: str) -> str:
    return str(word).lower().replace("-", "_").replace(" ", "_").strip("_")


def _refuse(problem: str, *, found: object = None, expected: object = None, hint: str | None = None) -> PydanticCustomError:
    context = {"found": found, "expected": expected, "hint": hint}
    return PydanticCustomError("operando", "{problem}", {"problem": problem, **context})


# --------------------------------------------------------------------------- values


@dataclass(frozen=True)
class Quantity:
    """Marks a field as a quantity: text with a unit in the file, a float in `to` (divided by `scale`) in the model.

    Other models (recipes) may use it: `radius: Annotated[float, Quantity("um", "5 um", positive=True)]`.
    """

    to: str
    example: str
    least: float | None = None
    positive: bool = False
    scale: float = 1.0

    def read(self, value: Any) -> float:
        """Read a value as it stands in the file."""
        example = f"for example {self.example}"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _refuse("not a number with a unit", found=repr(value)[:80], expected=example)
        if isinstance(value, int | float):
            raise _refuse("a number without its unit", found=value, expected=example, hint=f"if it is in {self.to}, write {value} {self.to}")
        if re.fullmatch(r"\s*[-+]?\d+,\d+\D*", value):
            raise _refuse("a decimal comma", found=value, expected="a decimal point", hint=f"write {value.strip().replace(',', '.')}")
        try:
            number = quantity(value, self.to)
        except ContractError as error:
            raise _refuse(error.problem, found=value, expected=example) from None
        if not math.isfinite(number) or (self.least is not None and number < self.least) or (self.positive and number <= 0):
            wanted = "> 0" if self.positive else f">= {self.least:g}" if self.least is not None else "finite"
            raise _refuse("out of range", found=value, expected=f"{wanted}, {example}")
        return number / self.scale

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*[^\s\d].*$", "examples": [self.example]}


Seconds = Annotated[float, Quantity("s", "37 s")]
Duration = Annotated[float, Quantity("s", "65 s", least=0)]
Period = Annotated[float, Quantity("s", "60 s", positive=True)]
Drift = Annotated[float, Quantity("ppm", "12 ppm", scale=1e6)]  # read in ppm and divided: exact, and no unit library is needed
DriftUncertainty = Annotated[float, Quantity("ppm", "2 ppm", least=0, scale=1e6)]

_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _read_bytes(value: Any) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kKMGT]i?B|B)\s*", value) if isinstance(value, str) else None
    if match is None:
        raise _refuse("not a size", found=value, expected="a number with B, kB, MB, GB, MiB or GiB, for example 1 GB")
    size = int(float(match[1]) * _BYTES[match[2]])
    if size < 10**6:
        raise _refuse("too small", found=value, expected="at least 1 MB")
    return size


Mass = Annotated[float, Quantity("mg", "6.84 mg", positive=True)]
Area = Annotated[float, Quantity("cm^2", "1.54 cm^2", positive=True)]
Capacity = Annotated[float, Quantity("mAh", "1.5 mAh", positive=True)]
ArealCapacity = Annotated[float, Quantity("mAh/cm^2", "3.1 mAh/cm^2", positive=True)]
Loading = Annotated[float, Quantity("mg/cm^2", "4.44 mg/cm^2", positive=True)]
Volume = Annotated[float, Quantity("uL", "28 uL", positive=True)]
Pressure = Annotated[float, Quantity("kPa", "200 kPa", least=0)]
Temperature = Annotated[float, Quantity("degC", "25 degC")]

_SIZE = {"type": "string", "pattern": r"^\s*\d+(\.\d*)?\s*([kKMGT]i?B|B)\s*$", "examples": ["1 GB"]}


def read_bytes(text: str) -> int:
    """Read a size such as `1 GB` or `512 MiB` as a number of bytes.

    Raises
    ------
    ConfigError
        It is no size, or less than 1 MB.
    """
    try:
        return _read_bytes(text)
    except PydanticCustomError as error:
        context = error.context or {}
        raise ConfigError(str(context["problem"]), found=context.get("found"), expected=context.get("expected")) from None


Bytes = Annotated[int, BeforeValidator(_read_bytes), WithJsonSchema(_SIZE)]


def _check_stamp(value: str) -> str:
    try:
        dt.datetime.fromisoformat(value.strip())
    except ValueError:
        raise _refuse("not a date with time", found=value, expected="for example 2026-06-03T10:00:00 (or with its zone, +02:00)") from None
    return value.strip()


Stamp = Annotated[str, AfterValidator(_check_stamp), Field(json_schema_extra={"examples": ["2026-06-03T10:00:00"]})]

_ABBREVIATIONS = {
    "Europe/Paris": "CET CEST MET MEST",
    "Europe/London": "BST WET WEST",
    "Europe/Helsinki": "EET EEST",
    "Europe/Moscow": "MSK",
    "America/New_York": "EST EDT",
    "America/Chicago": "CST CDT",
    "America/Denver": "MST MDT",
    "America/Los_Angeles": "PST PDT",
    "Asia/Tokyo": "JST",
    "Asia/Seoul": "KST",
    "Asia/Kolkata": "IST",
    "Australia/Sydney": "AEST AEDT",
    "Pacific/Honolulu": "HST",
}
_CITIES = {
    "Europe/Paris": "grenoble saclay gif-sur-yvette france",
    "Europe/Berlin": "hamburg karlsruhe munich juelich germany",
    "Europe/London": "didcot oxford harwell england uk",
    "Europe/Zurich": "villigen switzerland",
    "Europe/Stockholm": "lund sweden",
    "Europe/Rome": "trieste italy",
    "Europe/Madrid": "barcelona spain",
    "America/Chicago": "argonne lemont",
    "America/Los_Angeles": "berkeley menlo_park stanford",
    "America/New_York": "upton ithaca",
    "Asia/Tokyo": "harima tsukuba",
    "Asia/Shanghai": "beijing china",
}


@functools.cache
def _zones() -> frozenset[str]:
    """Names of the tz database, from the package `tzdata`: the same on every computer."""
    from importlib.resources import files

    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def _check_zone(value: Any) -> Any:
    expected = "a name such as Europe/Paris, or an offset such as +02:00"
    if isinstance(value, int) and not isinstance(value, bool):  # +2 is a number to YAML
        raise _refuse("not a time zone", found=value, expected=expected, hint=f"write {value:+03d}:00")
    if not isinstance(value, str):
        raise _refuse("not a time zone", found=repr(value)[:80], expected=expected)
    zone = value.strip()
    if match := re.fullmatch(r"([+-])(\d{2}):(\d{2})", zone):
        if int(match[2]) <= 14 and int(match[3]) < 60:
            return zone
        raise _refuse("no such offset from UTC", found=zone, expected="-12:00 to +14:00")
    for name, words in _ABBREVIATIONS.items():
        if zone.upper() in words.split():
            hint = f"write the place whose clocks the instrument followed, for example {name}, or the fixed offset it kept"
            raise _refuse("an abbreviation does not say which clocks, nor when summer time begins", found=zone, expected=expected, hint=hint)
    if zone.lower() in ("local", "localtime", "system", "auto", "here"):
        hint = "write the zone of the place where the instrument stood: the zone of the computer that analyses is never used"
        raise _refuse("not a time zone", found=zone, expected=expected, hint=hint)
    if match := re.fullmatch(r"(?:UTC|GMT|Z|Etc/GMT)?\s*([+-])(\d{1,2}):?(\d{2})?", zone, re.IGNORECASE):
        sign = match[1] if not zone.lower().startswith("etc") else "-+"[match[1] == "-"]
        raise _refuse("not a time zone", found=zone, expected=expected, hint=f"write {sign}{int(match[2]):02d}:{match[3] or '00'}")
    if zone in _zones():
        return zone
    near = suggest(zone, _zones()) if "/" in zone else None
    if near is None:
        word = _plain(zone).rpartition("/")[2]
        last = {_plain(name.rpartition("/")[2]): name for name in sorted(_zones(), reverse=True)}
        last.update({city.replace("-", "_"): name for name, cities in _CITIES.items() for city in cities.split()})
        near = last.get(word) or last.get(suggest(word, last) or "")
    raise _refuse("not a time zone", found=zone, expected=expected, hint=f"did you mean {near}?" if near else None)


Timezone = Annotated[str, BeforeValidator(_check_zone), Field(json_schema_extra={"examples": ["Europe/Paris", "+02:00"]})]
Scalar = str | bool | int | float


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Files = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]

# --------------------------------------------------------------------------- models


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """Take a key of ours with nothing behind it (its lines commented out) as not given."""
        if not isinstance(value, dict):
            return value
        ours = {f.alias or name for name, f in cls.model_fields.items()}
        return {k: v for k, v in value.items() if v is not None or k not in ours}


class ClockConfig(_Strict):
    """A given clock: t = t_source + offset + drift * (t_source - at)."""

    offset: Seconds = Field(default=0.0, description="seconds ADDED to the source's stamps to give the cycler's time")
    at: Stamp | None = Field(default=None, description="stamp of the source's own clock at which the offset holds; default: its first stamp")
    drift: Drift = Field(default=0.0, description="how much the offset grows, in ppm (stored as s/s)")
    uncertainty: Duration = Field(default=0.0, description="1 sigma of the offset, in s")
    drift_uncertainty: DriftUncertainty = Field(default=0.0, description="1 sigma of the drift, in ppm (stored as s/s)")
    segment: int | None = Field(default=None, ge=0, description="number of the restart this clock holds for; only in a list of clocks")


_ONE, _MANY = "one clock", "clocks by segment"
Clocks = Annotated[
    Annotated[ClockConfig, Tag(_ONE)] | Annotated[list[ClockConfig], Tag(_MANY)],
    Discriminator(lambda value: _MANY if isinstance(value, list) else _ONE),
]


class TimesFrom(_Strict):
    """A log table that says when each file was measured."""

    file: str = Field(description="the table, relative to beamtime.yaml")
    name: str = Field(description="its column with the data file's name")
    start: str | None = Field(default=None, description="its column with the start stamp")
    end: str | None = Field(default=None, description="its column with the end stamp")
    exposure: str | None = Field(default=None, description="its column with the exposure in s")
    format: str | None = Field(default=None, description="strptime words of the stamps, where they are not ISO")


class _Times(_Strict):
    """What holds for one instrument, whatever its format; all further keys are the loader's own options."""

    model_config = ConfigDict(extra="allow")

    timezone: Timezone | None = Field(default=None, description="zone of this instrument's clock where its files carry none; default: the beamtime's")
    clock: Clocks | None = Field(default=None, description="offset and drift against the cycler's clock; a list with segment: where it restarted")
    start: Stamp | None = Field(default=None, description="stamp of the first frame, for files that hold none")
    exposure: Duration | None = Field(default=None, description="seconds each frame lasts, for files that do not say")
    period: Period | None = Field(default=None, description="seconds between frames that are only numbered")
    first_frame: int | None = Field(default=None, description="number of the frame taken at start:")
    name_pattern: str | None = Field(default=None, description="what file names say, for example {cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}")
    times_from: TimesFrom | None = Field(default=None, description="a log table with the times")
    mtime: bool = Field(default=False, description="allow the files' modification times (uncertain, flagged)")
    stamp_marks: Literal["start", "middle", "end"] = Field(default="start", description="what the stamps of name or log mark")
    time_uncertainty: Duration | None = Field(default=None, description="1 sigma of the stamps, in s")

    @property
    def options(self) -> dict[str, Any]:
        """The loader's own options: every key that is no general one. They are checked against the loader's signature later."""
        return dict(self.model_extra or {})

    @property
    def times(self) -> dict[str, Any]:
        """The general time options that are set, by the names the loader layer's `FileTimes` has for them."""
        names = ("start", "exposure", "period", "first_frame", "name_pattern", "times_from", "mtime", "stamp_marks", "time_uncertainty")
        given = {name: getattr(self, name) for name in names if name in self.model_fields_set and getattr(self, name) is not None}
        if self.times_from is not None:
            given["times_from"] = self.times_from.model_dump(exclude_none=True)
        return given


class SourceConfig(_Times):
    """One source = one instrument = one clock."""

    loader: str = Field(min_length=1, description="name of a loader, or my_loader.py:load beside beamtime.yaml")
    files: Files = Field(description="file pattern(s), relative to beamtime.yaml")


class SeriesConfig(_Times):
    """One technique on one cell: frames of a source, or of files of its own."""

    from_: str | None = Field(default=None, alias="from", description="name of the source")
    where: dict[str, Scalar | list[Scalar]] | None = Field(default=None, description="which of the source's frames, for example {position: 1}")
    recipe: str | dict[str, Any] | None = Field(default=None, description="how to reduce: name, path or mapping")
    loader: str | None = Field(default=None, min_length=1, description="another loader for the same files, or the loader of files:")
    files: Files | None = Field(default=None, description="files of its own, instead of from:")


GENERAL_SOURCE_KEYS: tuple[str, ...] = tuple(SourceConfig.model_fields)
"""Keys of a source that belong to no loader: near-misses of these are worth naming when a loader refuses an option."""
_SERIES_KEYS = tuple(f.alias or name for name, f in SeriesConfig.model_fields.items())


class About(_Strict):
    """The cell. Where a file claims something else, this wins. Further keys are kept as they are."""

    model_config = ConfigDict(extra="allow")

    cell_type: Literal["full", "half", "symmetric", "three-electrode", "other"] | None = Field(default=None, description="what is against what")
    active_mass: Mass | None = Field(default=None, description="active material of the studied electrode, in mg")
    area: Area | None = Field(default=None, description="area of the studied electrode, in cm^2")
    capacity: Capacity | None = Field(default=None, description="capacity of the cell that soc counts against, in mAh")
    areal_capacity: ArealCapacity | None = Field(default=None, description="in mAh/cm^2")
    loading: Loading | None = Field(default=None, description="active material per area, in mg/cm^2")
    n_p_ratio: float | None = Field(default=None, gt=0, description="capacity of negative over positive electrode, a bare number")
    chemistry: str | None = Field(default=None, description="positive|negative, for example NMC811|graphite")
    electrolyte: str | None = Field(default=None, description="for example 1 M LiPF6 EC:EMC")
    electrolyte_volume: Volume | None = Field(default=None, description="in uL")
    separator: str | None = Field(default=None, description="for example glass fibre")
    pressure: Pressure | None = Field(default=None, description="stack pressure, in kPa")
    temperature: Temperature | None = Field(default=None, description="of the cell, in degC")
    formation: str | None = Field(default=None, description="what the cell has lived through before")
    notes: str | None = Field(default=None, description="anything else")

    @property
    def further(self) -> dict[str, Scalar]:
        """Keys we know nothing about, kept as written."""
        return dict(self.model_extra or {})

    def with_units(self) -> dict[str, Scalar]:
        """What is said of the cell, quantities as text with their unit again: for attributes, records and `quantity`."""
        out: dict[str, Scalar] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None:
                marks = [m for part in get_args(field.annotation) for m in get_args(part)[1:] if isinstance(m, Quantity)]
                out[name] = f"{value!r} {marks[0].to}" if marks else value
        return {**out, **self.further}


class CellConfig(_Strict):
    """One cell: its electrochemistry and what was measured on it."""

    about: About = Field(default=About(), description="the cell")
    echem: SeriesConfig | None = Field(default=None, description="its electrochemistry: the timeline that rules")
    series: dict[str, SeriesConfig] = Field(default_factory=dict, description="everything else that was measured on it, by name")


class Settings(_Strict):
    """How much of the computer to use."""

    memory: Bytes = Field(default=10**9, validate_default=False, description="memory a build may use for frames, for example 1 GB")
    workers: int = Field(default=1, ge=1, le=4096, description="processes")
    part: Bytes | None = Field(default=None, description="largest part of the store written at once, for example 64 MB; default: from memory")


class BeamtimeConfig(_Strict):
    """A beamtime: instruments (sources) and cells."""

    title: str = Field(default="", description="one line")
    timezone: Timezone | None = Field(default=None, description="zone of instruments whose files carry none, for example Europe/Paris")
    sources: dict[str, SourceConfig] = Field(default_factory=dict, description="instruments: one source = one clock")
    cells: dict[str, CellConfig] = Field(min_length=1, description="cells by name")
    settings: Settings = Field(default=Settings(), description="how much of the computer to use")

    _path: Path = PrivateAttr(default=Path("beamtime.yaml"))
    _lines: dict[Path_, int] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def folder(self) -> Path:
        """Folder that all paths in the file are relative to."""
        return self._path.parent

    def at(self, *keys: str | int) -> str:
        """Say where a key stands, for messages: `beamtime.yaml, line 12 (sources.id31.poni)`."""
        line = Tree(None, self._lines).line(keys)
        return f"{self._path}, line {line} ({_dotted(keys)})" if line else f"{self._path} ({_dotted(keys)})"


# --------------------------------------------------------------------------- reading


def read_config(path: str | os.PathLike[str]) -> BeamtimeConfig:
    """Read and check a beamtime.yaml.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    BeamtimeConfig
        Quantities as numbers, in the units the descriptions of the fields state.

    Raises
    ------
    ConfigError
        With every problem of the file, each with its line, what was found, what was expected and what to do.
    """
    from operando import _config_checks as checks

    tree = read_tree(path, what="a beamtime.yaml with sources: and cells:")
    if not isinstance(tree.value, dict):
        found = repr(tree.value)[:80]
        raise ConfigError("not a mapping", file=path, found=found, expected="sources: and cells:", hint="operando new DIR  proposes one")
    problems = checks.cross_checks(tree)
    config = None
    try:
        config = BeamtimeConfig.model_validate(tree.value)
    except ValidationError as error:
        problems += checks.from_pydantic(error, tree, {p.keys for p in problems})
    checks.raise_all(problems, path)
    assert config is not None
    config._path, config._lines = Path(path), tree.lines
    return config


def read_yaml(path: str | os.PathLike[str], *, what: str = "a YAML mapping") -> dict[str, Any]:
    """Read a preset or any other YAML mapping of ours, as safely as beamtime.yaml.

    Raises
    ------
    ConfigError
        It cannot be read, or is no mapping.
    """
    value = read_tree(path, what=what).value
    if not isinstance(value, dict):
        raise ConfigError("not a mapping", file=path, found=repr(value)[:80], expected=what)
    return value


class Recipe(BaseModel):
    """What every recipe has; each reducer's own model inherits from this and adds its fields, with their units."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    reducer: str = Field(min_length=1, description="name of the reducer")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    from importlib.resources import files

    folder = files("operando.configs") / "recipes"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")) if folder.is_dir() else []


def read_recipe(spec: str | os.PathLike[str] | Mapping[str, Any], base_dir: str | os.PathLike[str] = ".") -> dict[str, Any]:
    """Read a recipe given by name, path or mapping.

    Parameters
    ----------
    spec
        A mapping; a path (it ends in .yaml or .yml); or a name: `<name>.yaml` or `recipes/<name>.yaml` beside
        beamtime.yaml, else one that comes with the package.
    base_dir
        Folder of beamtime.yaml.

    Returns
    -------
    dict
        With at least `reducer`. The reducer's own model checks the rest.

    Raises
    ------
    ConfigError
        There is no such recipe, or it names no reducer.
    """
    from importlib.resources import as_file, files

    where: str | os.PathLike[str]
    if isinstance(spec, Mapping):
        recipe, where = dict(spec), "the recipe"
    else:
        text, base = os.fspath(spec), Path(base_dir)
        names = [text] if text.endswith((".yaml", ".yml")) else [f"{text}.yaml", f"recipes/{text}.yaml"]
        beside = [base / name for name in names if (base / name).is_file()]
        if beside:
            recipe, where = read_yaml(beside[0], what="a recipe"), beside[0]
        elif text in recipe_names():
            with as_file(files("operando.configs") / "recipes" / f"{text}.yaml") as packaged:
                recipe, where = read_yaml(packaged, what="a recipe"), text
        else:
            near = suggest(text, recipe_names())
            raise ConfigError(
                f"there is no recipe {text!r}" + (f"; did you mean {near!r}?" if near else ""),
                file=base,
                expected=f"a file {' or '.join(names)} here, or one of {', '.join(recipe_names())}",
            )
    if not isinstance(recipe.get("reducer"), str) or not recipe["reducer"]:
        near = suggest("reducer", [k for k in recipe if k != "reducer"])
        raise ConfigError(
            "the recipe does not say which reducer it is for",
            file=where,
            found=", ".join(map(str, recipe)) or "no key",
            expected="reducer: NAME",
            hint=f"rename {near!r} to 'reducer'" if near else None,
        )
    return recipe


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(f"[{key}]" if isinstance(key, int) else str(key) for key in keys).replace(".[", "[")


def json_schema() -> str:
    """Give the JSON schema of beamtime.yaml as text, for editors (`# yaml-language-server: $schema=...`)."""
    schema = BeamtimeConfig.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        raise SystemExit("usage: python -m operando.config [FILE]    prints the JSON schema of beamtime.yaml, or writes it to FILE")
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json_schema(), encoding="utf-8", newline="\n")
    else:
        sys.stdout.write(json_schema())
