"""Recipes: how a series is reduced, by name, path or mapping."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from operando.config.reading import read_yaml
from operando.config.words import suggest
from operando.contract.errors import ConfigError


class Recipe(BaseModel):
    """What every recipe has; each reducer's own model inherits from this and adds its fields, with their units."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    reducer: str = Field(min_length=1, description="name of the reducer")


Reader = Callable[[Path, str, Mapping[str, Any]], Any]
"""Reads a measured file: path, name of its loader, the loader's options -> a series."""


class MeasuredFile(BaseModel):
    """A measured file that a recipe names: a background, a standard. Its content is part of the recipe: a changed file makes the reducer run again.

    A path is relative to beamtime.yaml. Whoever parses the recipe gives the folder and the reader (`parse_recipe`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    file: str = Field(min_length=1, description="the file, relative to beamtime.yaml")
    loader: str | None = Field(default=None, min_length=1, description="name of its loader; default: that of the frames, with their options")
    options: dict[str, Any] = Field(default_factory=dict, description="the loader's options; they override those of the frames")
    sha256: str = Field(default="", description="of the file's content; filled in when the recipe is read")

    _path: Path | None = PrivateAttr(default=None)
    _read: Reader | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _content(cls, value: Any, info: Any) -> Any:
        context = info.context or {}
        if not isinstance(value, Mapping) or "base" not in context or not isinstance(value.get("file"), str):
            return value
        path = Path(context["base"]) / value["file"]
        if not path.is_file():
            there = sorted(p.name for p in path.parent.iterdir())[:6] if path.parent.is_dir() else []
            raise ValueError(f"the file {path} does not exist; {path.parent} holds {', '.join(there) or 'nothing'}")
        about = path.stat()
        return {**value, "sha256": _digest(path, about.st_size, about.st_mtime_ns)}

    def model_post_init(self, context: Any) -> None:
        """Keep folder and reader: they are no part of what is written down."""
        if context and "base" in context:
            self._path, self._read = Path(context["base"]) / self.file, context.get("read")

    def series(self, frames: Any) -> Any:
        """Read it; as these frames were read where no loader is named (their attributes say how).

        Raises
        ------
        ConfigError
            The recipe was parsed without a reader, or neither it nor the frames name a loader.
        LoaderError
            It cannot be read.
        """
        if self._path is None or self._read is None:
            raise ConfigError(
                "a recipe that names a file was made without a reader of files", file=self.file, hint="op.reduce, or parse_recipe(read=)"
            )
        loader, options = self.loader, dict(self.options)
        if loader is None:
            loader = frames.attrs.get("loader")
            options = {**json.loads(frames.attrs.get("options") or "{}"), **options}
        if loader is None:
            raise ConfigError("no loader is named for a file of the recipe, and the frames do not say theirs", file=self.file, hint="loader: NAME")
        return self._read(self._path, loader, options)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file's content; read again when its size or its time of change is another."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


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
