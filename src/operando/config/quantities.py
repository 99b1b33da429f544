"""Values of beamtime.yaml and recipes: quantities with units, sizes, stamps, zones, file patterns."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from operando.config.words import refuse
from operando.config.zones import check_zone
from operando.contract.errors import ConfigError, ContractError
from operando.contract.units import quantity


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
            raise refuse("not a number with a unit", found=repr(value)[:80], expected=example)
        if isinstance(value, int | float):
            raise refuse("a number without its unit", found=value, expected=example, hint=f"if it is in {self.to}, write {value} {self.to}")
        if re.fullmatch(r"\s*[-+]?\d+,\d+\D*", value):
            raise refuse("a decimal comma", found=value, expected="a decimal point", hint=f"write {value.strip().replace(',', '.')}")
        try:
            number = quantity(value, self.to)
        except ContractError as error:
            raise refuse(error.problem, found=value, expected=example) from None
        if not math.isfinite(number) or (self.least is not None and number < self.least) or (self.positive and number <= 0):
            wanted = "> 0" if self.positive else f">= {self.least:g}" if self.least is not None else "finite"
            raise refuse("out of range", found=value, expected=f"{wanted}, {example}")
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
        raise refuse("not a size", found=value, expected="a number with B, kB, MB, GB, MiB or GiB, for example 1 GB")
    size = int(float(match[1]) * _BYTES[match[2]])
    if size < 10**6:
        raise refuse("too small", found=value, expected="at least 1 MB")
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
        raise refuse("not a date with time", found=value, expected="for example 2026-06-03T10:00:00 (or with its zone, +02:00)") from None
    return value.strip()


Stamp = Annotated[str, AfterValidator(_check_stamp), Field(json_schema_extra={"examples": ["2026-06-03T10:00:00"]})]

Timezone = Annotated[str, BeforeValidator(check_zone), Field(json_schema_extra={"examples": ["Europe/Paris", "+02:00"]})]
Scalar = str | bool | int | float


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Files = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
