"""Operando battery experiments in napari: images, waterfalls, voltage, phase fractions and impedance under one time cursor.

>>> from napari_operando import open_window      # doctest: +SKIP
>>> open_window(viewer, "june.nxs")              # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["open_window", "view"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from napari_operando import opening

        return getattr(opening, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
