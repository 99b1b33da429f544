"""Which loaders there are: entry points `operando.loaders`, or a Python file beside beamtime.yaml."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from operando.contract import ConfigError, LoaderError, OperandoError

GROUP = "operando.loaders"


@dataclass(frozen=True)
class Loader:
    """A loader as the rest of the house sees it.

    Attributes
    ----------
    name
        Stable lower-case name, as in beamtime.yaml.
    read
        `load(path, **options) -> Dataset | list[Dataset]` of one file.
    claims
        `claims(path) -> str | None`: a few words on what the file is if its content says that it is this format.
    beside
        `beside(path) -> list of paths`: other files that it reads for this one, there or not (a log of the same run). When one of them appears or
        changes, the file is read again.
    techniques
        What it can return.
    version
        Raised whenever the same file would give other numbers.
    description, dossier
        First line and whole of its docstring.
    """

    name: str
    read: Callable[..., Any]
    claims: Callable[[Path], str | None] | None
    beside: Callable[[Path], list[Path]] | None
    techniques: tuple[str, ...]
    version: str
    description: str
    dossier: str
    origin: str

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its options by name: the keyword parameters of its load function."""
        parameters = list(inspect.signature(self.read).parameters.values())[1:]
        return {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _from_object(name: str, thing: Any, origin: str) -> Loader:
    """Make a Loader of a module with `load`, or of a load function."""
    read = getattr(thing, "load", None) if inspect.ismodule(thing) else thing
    if not callable(read):
        raise LoaderError(
            "the loader has no load function", file=origin, found=repr(thing), expected="a module with load(path, **options), or that function"
        )
    module: Any = thing if inspect.ismodule(thing) else sys.modules.get(getattr(thing, "__module__", ""), thing)
    dossier = inspect.cleandoc((read.__doc__ if not inspect.ismodule(thing) and not module.__doc__ else module.__doc__) or "")
    return Loader(
        name=name,
        read=read,
        claims=getattr(module, "claims", None),
        beside=getattr(module, "beside", None),
        techniques=tuple(getattr(module, "TECHNIQUES", ())),
        version=str(getattr(module, "VERSION", "0")),
        description=(dossier.splitlines() or ["(no description)"])[0],
        dossier=dossier,
        origin=origin,
    )


@functools.cache
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        twin = found.get(entry.name)
        if twin is not None and twin.value != entry.value:
            raise ConfigError(
                f"two installed packages offer a loader named {entry.name!r}", found=f"{twin.value} and {entry.value}", hint="uninstall one of them"
            )
        found[entry.name] = entry
    return dict(sorted(found.items()))


@functools.cache
def _installed(name: str) -> Loader:
    entry = _entries()[name]
    try:
        return _from_object(name, entry.load(), entry.value)
    except OperandoError:
        raise
    except Exception as error:
        package = entry.dist.name if entry.dist else entry.value
        raise LoaderError(f"the loader {name!r} of {package} cannot be imported: {error}", hint=f"reinstall or uninstall {package}") from error


def loaders() -> dict[str, Loader | OperandoError]:
    """List every installed loader by name; one that cannot be imported is given as its error."""
    found: dict[str, Loader | OperandoError] = {}
    for name in _entries():
        try:
            found[name] = _installed(name)
        except OperandoError as error:
            found[name] = error
    return found


def get_loader(name: str, base: Path | None = None) -> Loader:
    """Find a loader by name, or by `my_loader.py:load` beside beamtime.yaml.

    Raises
    ------
    ConfigError
        No loader of that name; the message names the nearest.
    LoaderError
        It cannot be imported.
    """
    if ".py" in name:
        return _from_file(name, base or Path.cwd())
    if name in _entries():
        return _installed(name)
    import difflib

    near = difflib.get_close_matches(name, _entries(), n=1)
    raise ConfigError(
        f"there is no loader {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        expected=", ".join(_entries()),
        hint="operando loaders  lists them with what they read",
    )


def _from_file(spec: str, base: Path) -> Loader:
    path_text, _, function = spec.partition(":")
    path = (base / path_text).resolve()
    if not path.is_file():
        raise ConfigError("the loader file does not exist", file=path, hint="paths are relative to beamtime.yaml")
    module_spec = importlib.util.spec_from_file_location(f"operando_local_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        sys.modules[module_spec.name] = module
        module_spec.loader.exec_module(module)
        thing = getattr(module, function) if function else module
    except (Exception, SystemExit) as error:
        raise LoaderError(f"the loader cannot be imported: {type(error).__name__}: {error}", file=path) from error
    made = _from_object(spec, thing, str(path))
    # its own text is its version: an edited loader file is another loader
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Loader(**{**made.__dict__, "version": f"{made.version}+{digest}"})


def claimed_by(path: Path) -> dict[str, str]:
    """Ask every loader whether it knows the file by its content.

    Returns
    -------
    dict
        Loader name -> what it says the file is. More than one entry means two loaders overlap.
    """
    found = {}
    for name, loader in loaders().items():
        if isinstance(loader, Loader) and loader.claims is not None:
            try:
                said = loader.claims(path)
            except Exception:  # noqa: S112 - a loader's guess must never stop a walk through a folder
                continue
            if said:
                found[name] = said
    return found
