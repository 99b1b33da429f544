"""Read a beamtime.yaml or any other YAML mapping of ours, strictly; every mistake is named with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from operando.config import checks
from operando.config.models import BeamtimeConfig
from operando.config.yaml import read_tree
from operando.contract.errors import ConfigError


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


def json_schema() -> str:
    """Give the JSON schema of beamtime.yaml as text, for editors (`# yaml-language-server: $schema=...`)."""
    schema = BeamtimeConfig.model_json_schema(by_alias=True)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2, ensure_ascii=False) + "\n"
