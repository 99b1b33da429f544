"""Run a plan, in order: read frames, align, reduce, publish. Every step skips what is already there under the same key."""

from operando._lazy import attach

_lazy = {
    "Outcome": "outcome",
    "Progress": "outcome",
    "Silent": "outcome",
    "build": "building",
    "check": "checking",
    "load": "loading",
    "reduce": "loading",
    "run": "building",
    "store_paths": "building",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = ["Outcome", "Progress", "Silent", "build", "check", "load", "reduce", "run", "store_paths"]
