"""Colours that belong together, for the light and the dark theme of napari."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The colours of the plots.

    Attributes
    ----------
    background, foreground, faint
        Of plots, of axes and text, of grids and of what is stale.
    cursor, first, second, difference, mean, region
        The cursor and its spectrum, events A and B, A - B, the mean over the region and the region itself.
    lines
        For what else is drawn, in order (Okabe & Ito, "Color universal design", 2008: told apart by every kind of colour vision).
    """

    dark: bool
    background: str
    foreground: str
    faint: str
    cursor: str
    first: str
    second: str
    difference: str
    mean: str
    region: str
    lines: tuple[str, ...]


DARK = Palette(
    True, "#1b1e23", "#d7dbe0", "#6b7280", "#ffffff", "#E69F00", "#56B4E9", "#CC79A7", "#2fc89b", "#56B4E9",
    ("#5aa9e6", "#ff8c42", "#2fc89b", "#e08bbf", "#f2c14e", "#9ad1f5"),
)  # fmt: skip
LIGHT = Palette(
    False, "#ffffff", "#1f2328", "#a3a9b1", "#000000", "#b87900", "#0072B2", "#a8437f", "#007a5a", "#0072B2",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#b87900", "#3c93c2"),
)  # fmt: skip


def palette_of(theme: str) -> Palette:
    """Give the colours that go with a theme of napari; a theme that is not known is taken as dark unless its name says light."""
    if theme == "system":
        try:
            from napari.utils.theme import get_system_theme

            theme = str(get_system_theme())
        except (ImportError, ValueError):
            theme = "dark"
    return LIGHT if "light" in theme.lower() else DARK


COLOURMAPS = ("viridis", "magma", "inferno", "cividis", "CET-L1", "CET-D1")
"""Names of colour maps in pyqtgraph that are even in lightness; the last is for differences."""
