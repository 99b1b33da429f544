"""A simulated cell with known truth: its physics drives every instrument, and the instruments write the files they really write.

`python -m operando.simulate DIR` or `simulate(DIR)` writes a beamtime with `truth.json` beside it. Nothing here is shared with the code that reads,
aligns and reduces: what a reducer recovers is judged by code that knows nothing of it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    if name == "simulate":
        from operando.simulate.beamtime import simulate

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
