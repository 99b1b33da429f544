"""Recipes: how a series is reduced, by name, path or mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from operando.config.reading import read_yaml
from operando.config.words import suggest
from operando.contract.errors import ConfigError


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
        With at least `reducer`, or with `stages`. Each reducer's own model checks the rest.

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
    if "stages" not in recipe and (not isinstance(recipe.get("reducer"), str) or not recipe["reducer"]):
        near = suggest("reducer", [k for k in recipe if k != "reducer"])
        raise ConfigError(
            "the recipe does not say which reducer it is for",
            file=where,
            found=", ".join(map(str, recipe)) or "no key",
            expected="reducer: NAME",
            hint=f"rename {near!r} to 'reducer'" if near else None,
        )
    return recipe
