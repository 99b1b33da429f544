"""Frames -> reduced, observables: one module per technique, one interface for all, the recipe as data.

A reducer is a function `reduce(frames, recipe, state=None) -> Products`, declared with `@reducer(...)`, found by the entry
point group `operando.reducers`. What it declares decides how it is run; see `Reducer`. A recipe names one, or several in stages.
"""

from operando._lazy import attach

_lazy = {
    "Products": "interface",
    "Reducer": "interface",
    "Recipe": "interface",
    "Run": "running",
    "Stage": "recipes",
    "reducer": "interface",
    "reducers": "interface",
    "get_reducer": "interface",
    "default_reducer": "interface",
    "default_stages": "recipes",
    "group_codes": "running",
    "parse_recipe": "recipes",
    "raw_product": "recipes",
    "reduce": "running",
    "row_bytes": "running",
    "uncorrected": "running",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "Products",
    "Recipe",
    "Reducer",
    "Run",
    "Stage",
    "default_reducer",
    "default_stages",
    "get_reducer",
    "group_codes",
    "parse_recipe",
    "raw_product",
    "reduce",
    "reducer",
    "reducers",
    "row_bytes",
    "uncorrected",
]
