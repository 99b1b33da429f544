"""Frames -> reduced, observables: one module per technique, one interface for all, the recipe as data.

A reducer is a function `reduce(frames, recipe, state=None) -> Products`, declared with `@reducer(...)`, found by the entry
point group `operando.reducers`. What it declares decides how it may be run; see `Reducer`.
"""

from operando._lazy import attach

_lazy = {
    "Products": "interface",
    "Reducer": "interface",
    "Recipe": "interface",
    "reducer": "interface",
    "reducers": "interface",
    "get_reducer": "interface",
    "default_reducer": "interface",
    "parse_recipe": "interface",
    "reduce": "interface",
    "run_reducer": "interface",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = ["Products", "Recipe", "Reducer", "default_reducer", "get_reducer", "parse_recipe", "reduce", "reducer", "reducers", "run_reducer"]
