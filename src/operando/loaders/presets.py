"""Presets: loader options for a facility's files, from `configs/beamlines/<name>.yaml` or a file of the user's.

A preset is data::

    title: what and where
    status: how far it was checked, and against what
    sources: [links to the public description it follows]
    timezone: Europe/Paris        # for whoever writes beamtime.yaml; never applied by a loader
    loaders:
      xas-columns: {energy: 1, mu: 2}

Options written in beamtime.yaml win over the preset's, key by key (a mapping is replaced as a whole).
"""

from __future__ import annotations

import copy
import difflib
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from operando.contract import ConfigError


def preset_names() -> list[str]:
    """List the presets that come with the package."""
    from importlib.resources import files

    folder = files("operando.configs") / "beamlines"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")) if folder.is_dir() else []


def read_preset(preset: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a preset by name, or by path if it ends in .yaml or .yml.

    Raises
    ------
    ConfigError
        There is no such preset, or it is no mapping with `loaders`.
    """
    text = os.fspath(preset)
    if text.endswith((".yaml", ".yml")):
        try:
            stat = os.stat(text)
        except OSError as error:
            raise ConfigError("the preset cannot be opened", file=text, found=error.strerror, hint="correct preset:") from None
        return copy.deepcopy(_read(text, (stat.st_size, stat.st_mtime_ns, stat.st_ino)))
    return copy.deepcopy(_read(text, None))


@functools.lru_cache(32)
def _read(text: str, state: tuple[int, ...] | None) -> dict[str, Any]:
    """Read a preset once, for thousands of files: `state` tells versions of a user's file apart, None means one of ours."""
    from operando.config import read_yaml

    if state is not None:
        found = read_yaml(Path(text), what="a preset")
    else:
        from importlib.resources import as_file, files

        names = preset_names()
        if text not in names:
            near = difflib.get_close_matches(text, names, n=1)
            raise ConfigError(
                f"there is no preset {text!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                expected=f"one of {', '.join(names)}, or a path that ends in .yaml",
            )
        with as_file(files("operando.configs") / "beamlines" / f"{text}.yaml") as packaged:
            found = read_yaml(packaged, what="a preset")
    if not isinstance(found.get("loaders"), Mapping) or not all(isinstance(v, Mapping) for v in found["loaders"].values()):
        raise ConfigError("the preset has no loaders:", file=text, found=", ".join(map(str, found)), expected="loaders: {NAME: {OPTION: VALUE}}")
    return found


def preset_options(preset: str | os.PathLike[str], loader: str, known: Iterable[str] | None = None) -> dict[str, Any]:
    """Give the options a preset sets for one loader.

    Parameters
    ----------
    preset
        Name or path.
    loader
        Name of the loader.
    known
        Options the loader takes; any other is refused.

    Raises
    ------
    ConfigError
        No such preset, nothing in it for this loader, or an option the loader does not have.
    """
    found = read_preset(preset)["loaders"]
    if loader not in found:
        raise ConfigError(
            f"the preset says nothing about the loader {loader}", file=os.fspath(preset), found=", ".join(found), hint="change loader: or preset:"
        )
    options = {str(k): copy.deepcopy(v) for k, v in found[loader].items()}
    unknown = sorted(set(options) - set(known)) if known is not None else []
    if unknown:
        raise ConfigError(
            f"the preset sets options that {loader} does not have: {', '.join(unknown)}",
            file=os.fspath(preset),
            expected=", ".join(sorted(set(known or ()))),
        )
    return options


def with_preset(loader: str, preset: str | os.PathLike[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Join options given by hand (those that are not None) with a preset's.

    Raises
    ------
    ConfigError
        See `preset_options`.
    """
    base = preset_options(preset, loader, given) if preset is not None else {}
    return {name: base.get(name) if value is None else value for name, value in given.items()}
