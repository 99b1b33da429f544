"""The reducer interface: what a reducer declares, what it is given, what it returns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import ValidationError

from operando.config import Recipe, read_recipe
from operando.contract import ConfigError, ContractError

GROUP = "operando.reducers"
Kind = Literal["frame", "forward", "series"]


@dataclass
class Products:
    """What one call of a reducer gives.

    Attributes
    ----------
    datasets
        Product name (`reduced`, `observables`, `cycles` ...) -> Dataset over `time`.
    state
        For a `forward` reducer: handed to the call on the next batch of the same segment, setup and position.
    """

    datasets: dict[str, xr.Dataset] = field(default_factory=dict)
    state: Any = None


@dataclass(frozen=True)
class Reducer:
    """A reducer and what it declares.

    Attributes
    ----------
    kind
        `frame`: every frame stands alone, batches may run in any order or in parallel. `forward`: carries state from
        frame to frame (warm starts). `series`: needs all frames at once (backward passes, cycles, onsets).
    products
        Names of the products it returns.
    needs_alignment
        True if it reads corrected times or electrochemistry; only then does a clock edit make it run again.
    recipe
        pydantic model of its recipe, a unit in every field's description.
    version
        Raised whenever the same input would give other numbers.
    """

    name: str
    technique: str
    kind: Kind
    products: tuple[str, ...]
    recipe: type[Recipe]
    version: str
    needs_alignment: bool
    default: bool
    run: Callable[[xr.Dataset, Any, Any], Products]

    def __call__(self, frames: xr.Dataset, recipe: Any, state: Any = None) -> Products:
        """Run on one batch."""
        return self.run(frames, recipe, state)


def reducer(
    name: str,
    *,
    technique: str,
    kind: Kind,
    products: tuple[str, ...],
    recipe: type[Recipe],
    version: str,
    needs_alignment: bool = False,
    default: bool = False,
) -> Callable[[Callable[[xr.Dataset, Any, Any], Products]], Reducer]:
    """Declare a function to be a reducer; the arguments are those of `Reducer`.

    A `default` reducer runs on every series of its technique that names no recipe.
    """

    def declare(run: Callable[[xr.Dataset, Any, Any], Products]) -> Reducer:
        made = Reducer(name, technique, kind, products, recipe, version, needs_alignment, default, run)
        object.__setattr__(made, "__doc__", run.__doc__)  # frozen, but its documentation is the function's
        return made

    return declare


@functools.cache
def reducers() -> dict[str, Reducer]:
    """List the installed reducers by name.

    Raises
    ------
    ConfigError
        Two packages offer the same name, or one cannot be imported.
    """
    found: dict[str, Reducer] = {}
    for entry in entry_points(group=GROUP):
        try:
            made = entry.load()
        except Exception as error:
            raise ConfigError(
                f"the reducer {entry.name!r} ({entry.value}) cannot be imported: {error}", hint="reinstall or uninstall its package"
            ) from error
        if entry.name in found and found[entry.name] is not made:
            raise ConfigError(f"two installed packages offer a reducer named {entry.name!r}", hint="uninstall one of them")
        found[entry.name] = made
    return dict(sorted(found.items()))


def get_reducer(name: str) -> Reducer:
    """Find a reducer by name.

    Raises
    ------
    ConfigError
        No reducer of that name.
    """
    if name not in reducers():
        raise ConfigError(
            f"there is no reducer {name!r}", expected=", ".join(reducers()) or "none is installed", hint="correct reducer: in the recipe"
        )
    return reducers()[name]


def default_reducer(technique: str) -> Reducer | None:
    """Find the reducer that runs on a technique when no recipe is named; None if there is none."""
    return next((r for r in reducers().values() if r.technique == technique and r.default), None)


def parse_recipe(spec: str | Path | Mapping[str, Any], base: Path | None = None) -> tuple[Reducer, Recipe]:
    """Read a recipe by name, path or as a mapping, and find its reducer.

    Raises
    ------
    ConfigError
        Unknown recipe or reducer, or fields that do not fit; all problems at once.
    """
    content = dict(read_recipe(spec, base or Path.cwd()))
    made = get_reducer(str(content.get("reducer", "")))
    try:
        return made, made.recipe.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  - {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"the recipe does not fit the reducer {made.name}:\n{problems}", file=str(spec) if not isinstance(spec, Mapping) else None
        ) from None


def groups(frames: xr.Dataset) -> Iterator[np.ndarray]:
    """Give the frame indices of each run within one segment, setup and position, in acquisition order; no state crosses them."""
    n = frames.sizes["time"]
    labels = np.zeros((n, 0), int)
    for name in ("segment", "setup", "position"):
        if name in frames.coords and frames[name].dims == ("time",):
            _, codes = np.unique(frames[name].values, return_inverse=True)
            labels = np.column_stack([labels, codes])
    if labels.shape[1] == 0:
        yield np.arange(n)
        return
    _, first, inverse = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    for group in np.argsort(first):
        yield np.flatnonzero(inverse.reshape(-1) == group)


def reduce(series: xr.Dataset, recipe: str | Path | Mapping[str, Any] | None = None, *, base: Path | None = None) -> dict[str, xr.Dataset]:
    """Reduce a series by hand, as a build would.

    State never crosses a segment, setup or position. Frames keep their order; none is dropped.

    Parameters
    ----------
    series
        Frames (with their alignment as coordinates if the reducer needs it).
    recipe
        Name of a packaged recipe, path, or mapping with `reducer:`; by default the technique's own reducer.

    Returns
    -------
    dict
        Product name -> Dataset.

    Raises
    ------
    ConfigError
        No such recipe, or none for this technique.
    ContractError
        The series is of another technique than the reducer's.
    """
    technique = str(series.attrs.get("technique"))
    if recipe is None:
        made = default_reducer(technique)
        if made is None:
            raise ConfigError(f"no reducer runs on {technique} by default", hint="name a recipe")
        settings: Recipe = made.recipe(reducer=made.name)
    else:
        made, settings = parse_recipe(recipe, base)
    return run_reducer(made, settings, series)


def run_reducer(made: Reducer, recipe: Recipe, series: xr.Dataset, batch: int = 4096) -> dict[str, xr.Dataset]:
    """Run a reducer over a whole series in batches, keeping its declared rules about state and order."""
    if series.attrs.get("technique") != made.technique:
        raise ContractError(f"the reducer {made.name} reduces {made.technique}", found=str(series.attrs.get("technique")))
    if made.kind == "series":
        return made(series, recipe).datasets
    pieces: dict[str, list[xr.Dataset]] = {}
    order = []
    for index in groups(series):
        state = None
        for start in range(0, index.size, batch):
            some = index[start : start + batch]
            done = made(series.isel(time=some), recipe, state)
            state = done.state if made.kind == "forward" else None
            for name, ds in done.datasets.items():
                if ds.sizes.get("time") != some.size:
                    raise ContractError(f"the reducer {made.name} returned {ds.sizes.get('time')} frames of {name!r} for {some.size}")
                pieces.setdefault(name, []).append(ds)
            order.append(some)
    if not order:
        return {}
    back = np.argsort(np.concatenate(order), kind="stable")
    return {
        name: xr.concat(many, dim="time", data_vars="minimal", coords="minimal", compat="override", join="exact").isel(time=back)
        for name, many in pieces.items()
    }
