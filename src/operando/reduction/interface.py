"""The reducer interface: what a reducer declares, what it is given, what it returns."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal, get_args

import xarray as xr
from pydantic import ValidationError

from operando.config import Recipe
from operando.contract import TECHNIQUES, ConfigError, ContractError

GROUP = "operando.reducers"
Kind = Literal["frame", "forward", "series"]

RESERVED = frozenset({"images", "frames", "alignment", "skipped", "process", "sample", "results"})
"""Names in a store that are no reducer's; `frames` may be given by what reads `images`."""


@dataclass
class Products:
    """What one call of a reducer gives.

    Attributes
    ----------
    datasets
        Product name (`reduced`, `observables`, `cycles` ...) -> Dataset over `time`: exactly the products that were declared.
    state
        For a `forward` reducer: handed to the call on the next frames of the same segment, setup and position.
    messages
        What the user should know though it stops nothing, a sentence each: a build prints them with the series' name, by hand they are warnings.
    """

    datasets: dict[str, xr.Dataset] = field(default_factory=dict)
    state: Any = None
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reducer:
    """A reducer and what it declares.

    Attributes
    ----------
    technique
        Of the series it reduces; one that reads `images` gives frames of this technique.
    kind
        `frame`: every frame stands alone; new frames alone are reduced, in batches, in any order. `forward`: carries state from frame to frame
        (warm starts) within one segment, setup and position; where one of those frames is new, they are all reduced again from the first.
        `series`: needs all frames at once (backward passes, cycles, onsets).
    products
        Names of the products it returns, always all of them.
    recipe
        pydantic model of its recipe, a unit in every field's description.
    version
        Raised whenever the same input would give other numbers.
    reads
        The product it is given: `images`, `frames`, or one that an earlier stage of the recipe returns.
    about
        Keys of the cell's `about:` that it uses: those alone are handed over (`frames.attrs["about"]`, JSON) and make it run again when they change.
    needs_alignment
        True if it reads corrected times or electrochemistry. It is then given frames with their alignment as coordinates, and runs again where
        that changed. Otherwise `time` is the instrument's own, on UTC, and a clock edit does not make it run again.
    default
        Runs on every series of its technique that names no recipe.
    """

    name: str
    technique: str
    kind: Kind
    products: tuple[str, ...]
    recipe: type[Recipe]
    version: str
    reads: str
    about: tuple[str, ...]
    needs_alignment: bool
    default: bool
    run: Callable[[xr.Dataset, Any, Any], Products]

    def __call__(self, frames: xr.Dataset, recipe: Any, state: Any = None) -> Products:
        """Run on one batch."""
        return self.run(frames, recipe, state)

    def about_of(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Choose what it uses of what is known of the cell."""
        return {key: about[key] for key in self.about if about.get(key) is not None}


def reducer(
    name: str,
    *,
    technique: str,
    kind: Kind,
    products: tuple[str, ...],
    recipe: type[Recipe],
    version: str,
    reads: str = "frames",
    about: tuple[str, ...] = (),
    needs_alignment: bool = False,
    default: bool = False,
) -> Callable[[Callable[[xr.Dataset, Any, Any], Products]], Reducer]:
    """Declare a function to be a reducer; the arguments are those of `Reducer`.

    Raises
    ------
    ContractError
        What is declared cannot be; all faults in one message.
    """
    products, about = (tuple([x] if isinstance(x, str) else x) for x in (products, about))
    found = _declaration_faults(technique, kind, products, recipe, version, reads)
    if default and not found:
        try:
            recipe.model_validate({"reducer": name})
        except ValidationError as error:
            found.append(f"it runs by default, but its recipe has fields without a default: {', '.join(str(e['loc'][0]) for e in error.errors())}")
    if found:
        raise ContractError(f"the reducer {name} cannot be declared so:\n" + "\n".join(f"  - {fault}" for fault in found))

    def declare(run: Callable[[xr.Dataset, Any, Any], Products]) -> Reducer:
        made = Reducer(name, technique, kind, products, recipe, version, reads, about, needs_alignment, default, run)
        object.__setattr__(made, "__doc__", run.__doc__)  # frozen, but its documentation is the function's
        return made

    return declare


def _declaration_faults(technique: str, kind: str, products: tuple[str, ...], recipe: Any, version: Any, reads: str) -> list[str]:
    found = []
    if technique not in TECHNIQUES or technique == "images":
        known = ", ".join(name for name in TECHNIQUES if name != "images")
        found.append(f"technique is {technique!r}, not one of {known} (of the frames it makes, if it reads images)")
    if kind not in get_args(Kind):
        found.append(f"kind is {kind!r}, not one of {', '.join(get_args(Kind))}")
    if not products:
        found.append("it declares no product")
    for product in products:
        if product == reads:
            found.append(f"it reads {reads!r} and cannot give it too: nothing in a store is overwritten")
        elif product in RESERVED - ({"frames"} if reads == "images" else set()):
            why = "only what reads images gives frames" if product == "frames" else "the store keeps that name for itself"
            found.append(f"product {product!r}: {why}")
        elif not re.fullmatch(r"[a-z][a-z0-9_]*", product) or "_overview_" in product:
            found.append(f"product {product!r} is no name (lower case, digits and '_')")
    if len(set(products)) != len(products):
        found.append(f"a product is named twice: {', '.join(products)}")
    if reads in RESERVED - {"images", "frames"}:
        found.append(f"it reads {reads!r}, which is no product to reduce")
    if not (isinstance(recipe, type) and issubclass(recipe, Recipe)):
        found.append("its recipe is no subclass of operando.reduction.Recipe")
    if not isinstance(version, str) or not version:
        found.append("its version is no text")
    return found


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
        if not isinstance(made, Reducer):
            raise ConfigError(
                f"the reducer {entry.name!r} ({entry.value}) is none", found=type(made).__name__, expected="a function under @reducer(...)"
            )
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


def default_reducer(technique: str, reads: str = "frames") -> Reducer | None:
    """Find the reducer that runs on frames of a technique when no recipe is named, or (`images`) that makes them of images; None if there is none."""
    return next((r for r in reducers().values() if r.technique == technique and r.default and r.reads == reads), None)
