"""What may stand in a beamtime.yaml, as pydantic models; quantities are numbers in the units the descriptions state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PrivateAttr, Tag, WithJsonSchema, model_validator

from operando.config.quantities import (
    Area,
    ArealCapacity,
    Bytes,
    Capacity,
    Drift,
    DriftUncertainty,
    Duration,
    Files,
    Loading,
    Mass,
    Period,
    Pressure,
    Quantity,
    Scalar,
    Seconds,
    Stamp,
    Temperature,
    Timezone,
    Volume,
)
from operando.config.words import dotted
from operando.config.yaml import Path_, Tree


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


class _Witness(_Strict):
    """What an estimate of a clock holds against each other."""

    cell: str | None = Field(default=None, description="whose electrochemistry; default: the first cell this source measured")
    search: Period | None = Field(
        default=None, description="how far from offset: to look, in s; default: 5 times uncertainty:, else wherever the two meet"
    )


class EventsConfig(_Witness):
    """Moments that the source and the cycler both recorded, unlabelled; some may be missing in either."""

    from_: str | None = Field(default=None, alias="from", description="source that recorded them by the same clock; default: this one")
    channel: str | None = Field(default=None, description="its channel that was switched; default: each of its frames is an event, at its beginning")
    threshold: float | None = Field(default=None, description="of the channel; default: half way between its lowest and highest value")
    edge: Literal["rise", "fall", "both"] = Field(default="both", description="which crossings of the threshold are events")
    echem: str = Field(
        default="current_steps", description="what they are to the cycler: current_steps, or a series of the cell that bears its clock"
    )


class SharedSignalConfig(_Witness):
    """The same signal recorded by the source and by the cycler, for example the cell's voltage on an analog input."""

    from_: str | None = Field(default=None, alias="from", description="source that recorded it by the same clock; default: this one")
    channel: str = Field(description="its channel; gain and zero may differ from the cycler's")
    echem: Literal["voltage", "current", "potential_we", "potential_ce"] = Field(default="voltage", description="what it is to the cycler")


class SuggestConfig(_Witness):
    """A guess from the physics: what the frames show follows the state of charge. Printed by `operando check`, never applied."""

    marker: str | None = Field(default=None, description="observable or channel that follows the state; default: what changes most in the spectra")


def _yes_is_empty(value: Any) -> Any:
    return {} if value is True else None if value is False else value


_SUGGEST_SCHEMA = {"anyOf": [{"type": "boolean"}, SuggestConfig.model_json_schema()]}


class ClockConfig(_Strict):
    """A clock: t = t_source + offset + drift * (t_source - at), given, or found from what source and cycler both recorded.

    Numbers beside `events` or `shared_signal` say where to look, and are used where these do not tell.
    """

    offset: Seconds = Field(default=0.0, description="seconds ADDED to the source's stamps to give the cycler's time")
    at: Stamp | None = Field(default=None, description="stamp of the source's own clock at which the offset holds; default: its first stamp")
    drift: Drift = Field(default=0.0, description="how much the offset grows, in ppm (stored as s/s)")
    uncertainty: Duration = Field(default=0.0, description="1 sigma of the offset, in s")
    drift_uncertainty: DriftUncertainty = Field(default=0.0, description="1 sigma of the drift, in ppm (stored as s/s)")
    method: Literal["given", "physics"] = Field(
        default="given", description="physics: taken from a suggestion; no lead or lag can be claimed with it"
    )
    segment: int | None = Field(default=None, ge=0, description="number of the restart this clock holds for; only in a list of clocks")
    events: EventsConfig | None = Field(default=None, description="find it from moments that both recorded")
    shared_signal: SharedSignalConfig | None = Field(default=None, description="find it from a signal that both recorded")
    suggest: Annotated[SuggestConfig | None, BeforeValidator(_yes_is_empty), WithJsonSchema(_SUGGEST_SCHEMA)] = Field(
        default=None, description="let `operando check` suggest one from the last build; it is not applied"
    )

    @property
    def says_numbers(self) -> bool:
        """Whether a clock is given, or something is known of it beforehand."""
        return bool(self.model_fields_set & {"offset", "drift", "uncertainty"})


ONE_CLOCK, CLOCKS_BY_SEGMENT = "one clock", "clocks by segment"
Clocks = Annotated[
    Annotated[ClockConfig, Tag(ONE_CLOCK)] | Annotated[list[ClockConfig], Tag(CLOCKS_BY_SEGMENT)],
    Discriminator(lambda value: CLOCKS_BY_SEGMENT if isinstance(value, list) else ONE_CLOCK),
]


class TimesFrom(_Strict):
    """A log table that says when each file was measured."""

    file: str = Field(description="the table, relative to beamtime.yaml")
    name: str = Field(description="its column with the data file's name")
    start: str | None = Field(default=None, description="its column with the start stamp")
    end: str | None = Field(default=None, description="its column with the end stamp")
    exposure: str | None = Field(default=None, description="its column with the exposure")
    exposure_unit: Literal["s", "ms", "us"] | None = Field(default=None, description="unit of that column; default: s")
    index: str | None = Field(
        default=None, description="its column with the number of a frame in its file (from 0), where the log has a line per frame: pages of a stack"
    )
    format: str | None = Field(default=None, description="strptime words of the stamps, where they are not ISO")


class _Times(_Strict):
    """What holds for one instrument, whatever its format; all further keys are the loader's own options."""

    model_config = ConfigDict(extra="allow")

    timezone: Timezone | None = Field(default=None, description="zone of this instrument's clock where its files carry none; default: the beamtime's")
    clock: Clocks | None = Field(default=None, description="offset and drift against the cycler's clock; a list with segment: where it restarted")
    start: Stamp | None = Field(default=None, description="stamp of the first frame, for files that hold none")
    exposure: Duration | None = Field(default=None, description="seconds each frame lasts, for files that do not say")
    period: Period | None = Field(default=None, description="seconds between frames that are only numbered")
    first_frame: int | None = Field(default=None, description="number of the frame taken at start:; default: 1, or 0 where a file has the number 0")
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
SERIES_KEYS = tuple(f.alias or name for name, f in SeriesConfig.model_fields.items())


class About(_Strict):
    """The cell. Where a file claims something else, this wins. Further keys are kept as they are."""

    model_config = ConfigDict(extra="allow")

    cell_type: Literal["full", "half", "symmetric", "three-electrode", "other"] | None = Field(default=None, description="what is against what")
    active_mass: Mass | None = Field(default=None, description="active material of the studied electrode, in mg")
    area: Area | None = Field(default=None, description="area of the studied electrode, in cm^2")
    capacity: Capacity | None = Field(default=None, description="capacity of the cell, in mAh; soc counts against it where no cycle is complete")
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
        return f"{self._path}, line {line} ({dotted(keys)})" if line else f"{self._path} ({dotted(keys)})"
