"""One file per format family, `path -> series`; and the layer that expands, orders, dates and concatenates.

A loader reads ONE file and returns what stands in it, times as written. Everything that is the same for all formats
happens here: finding files, times from file names or logs, canonical names and units, the contract's check, joining
files. `CONTRIBUTING.md` shows how to add one; `plugins/operando-mylab` is a complete one.
"""

from operando._lazy import attach

_lazy = {
    "Loader": "registry",
    "get_loader": "registry",
    "loaders": "registry",
    "claimed_by": "registry",
    "FileTimes": "filetimes",
    "NamePattern": "filetimes",
    "axis_of": "layer",
    "expand": "layer",
    "load_file": "layer",
    "concatenate": "layer",
    "rank_of": "layer",
    "select": "layer",
    "check_options": "layer",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "FileTimes",
    "Loader",
    "NamePattern",
    "axis_of",
    "check_options",
    "claimed_by",
    "concatenate",
    "expand",
    "get_loader",
    "load_file",
    "loaders",
    "rank_of",
    "select",
]
