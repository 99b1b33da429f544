"""A recipe as a chain of stages, each the settings of one reducer; checked as a whole before anything is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from operando.config import Reader, Recipe, read_recipe
from operando.contract import ConfigError
from operando.reduction.interface import Reducer, default_reducer, get_reducer

RAW = ("images", "frames")


@dataclass(frozen=True)
class Stage:
    """One reducer with its settings."""

    reducer: Reducer
    recipe: Recipe

    @property
    def settings(self) -> dict[str, Any]:
        """Its recipe as plain data."""
        return self.recipe.model_dump(mode="json")


def raw_product(technique: str) -> str:
    """Name the product that a loader of this technique gives."""
    return "images" if technique == "images" else "frames"


def default_stages(technique: str, frames_of: str | None = None) -> tuple[Stage, ...]:
    """Give what runs on a series that names no recipe; empty if nothing does.

    Parameters
    ----------
    technique
        Of the series.
    frames_of
        Of images: technique of the frames that are made of them (attribute `frames_of`).
    """
    chain = [default_reducer(technique)] if technique != "images" else [default_reducer(frames_of or "", reads) for reads in ("images", "frames")]
    return tuple(Stage(made, made.recipe.model_validate({"reducer": made.name})) for made in chain if made is not None)


def parse_recipe(
    spec: str | Path | Mapping[str, Any], base: Path | None = None, techniques: Collection[str] = (), *, read: Reader | None = None
) -> tuple[Stage, ...]:
    """Read a recipe by name, path or as a mapping, and see that its stages fit their reducers, one another and the series.

    Parameters
    ----------
    spec
        One reducer's settings, or `stages:`, a list of such (each a mapping, name or path); a stage reads what the loader or one before it gives.
        Where the loader gives images and the first stage reads frames, what makes frames of images by default goes before it.
    base
        Folder of beamtime.yaml.
    techniques
        What the series may be; empty if that is not known.
    read
        Reads the measured files that a recipe names (`operando.config.MeasuredFile`), when a reducer asks for them.

    Raises
    ------
    ConfigError
        With all problems at once, each under its stage.
    """
    base = base or Path.cwd()
    content = read_recipe(spec, base)
    file = str(spec) if not isinstance(spec, Mapping) else None
    chain = "stages" in content
    problems: list[str] = []
    if chain and len(content) > 1:
        problems.append(f"beside stages: nothing else may stand, found {', '.join(k for k in content if k != 'stages')}")
    given: Any = content["stages"] if chain else [content]
    if not isinstance(given, list) or not given:
        raise ConfigError("stages: is no list of reducers' settings", file=file, found=repr(given)[:80], expected="- reducer: NAME")
    stages: list[Stage] = []
    available = {raw_product(t): "the loader" for t in techniques} or dict.fromkeys(RAW, "the loader")
    failed = False
    for number, one in enumerate(given, 1):
        label = f"stage {number}: " if chain else ""
        try:
            if not isinstance(one, str | Path | Mapping):
                raise ConfigError("is no reducer's settings", found=repr(one)[:80], expected="reducer: NAME and its fields")
            settings = read_recipe(one, base)
            if "stages" in settings:
                raise ConfigError("stages within a stage", hint="list them all in one stages:")
            made = get_reducer(str(settings["reducer"]))
        except ConfigError as error:
            if not chain:
                error.file = error.file or file
                raise
            problems.append(label + str(error).replace("\n", "\n    "))
            failed = True
            continue
        before = default_reducer(made.technique, "images") if set(available) == {"images"} and made.reads == "frames" else None
        if before is not None:
            stages.append(Stage(before, before.recipe.model_validate({"reducer": before.name})))
            available |= dict.fromkeys(before.products, f"{before.name}, by default")
        label = f"stage {number} ({made.name}): " if chain else f"{made.name}: "
        try:
            stages.append(Stage(made, made.recipe.model_validate(settings, context={"base": base, "read": read})))
        except ValidationError as error:
            for fault in error.errors():
                name = ".".join(str(p) for p in fault["loc"])
                torn = fault["type"] == "extra_forbidden" and fault["input"] is None and re.search(r"[^a-z0-9_]", name)
                said = "a piece of text that was torn at a comma: put all of it in quotes" if torn else fault["msg"].removeprefix("Value error, ")
                problems.append(f"{label}{name}: {said}" if name else f"{label}{said}")
        problems += [
            label + fault for fault in _chain_faults(made, available, techniques, [s.reducer for s in stages if s.reducer is not made], failed)
        ]
        for product in made.products:
            if product in available and available[product] != "the loader":
                problems.append(f"{label}gives {product!r}, as {available[product]} does: two stages cannot give the same product")
            available[product] = f"stage {number} ({made.name})"
    if problems:
        what = "the recipe cannot be used" if chain else f"the recipe does not fit the reducer {content['reducer']}"
        raise ConfigError(f"{what}:\n" + "\n".join(f"  - {problem}" for problem in problems), file=file)
    return tuple(stages)


def _chain_faults(made: Reducer, available: Mapping[str, str], techniques: Collection[str], before: list[Reducer], failed: bool) -> list[str]:
    """See that what a stage reads is there when it runs, and of its technique."""
    if made.reads not in available:
        there = ", ".join(f"{product} ({who})" for product, who in available.items())
        return [] if failed else [f"reads {made.reads!r}, which nothing before it gives; there is {there}"]
    source = next((r for r in before if made.reads in r.products), None)
    if source is not None:
        return [f"reduces {made.technique}, but {made.reads!r} is {source.technique}"] if source.technique != made.technique else []
    if made.reads == "images" or not techniques or made.technique in techniques:
        return []
    return [f"reduces {made.technique}, but the series is {' or '.join(sorted(techniques))}"]
