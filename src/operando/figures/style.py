"""Sizes, colours and type as journals ask for them, and writing a figure so that the same data give the same file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operando.contract.errors import ContractError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito, "Color universal design" (2008): told apart by every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BAD = "#B00020"

WIDTHS = {"single": 89.0, "double": 183.0}
"""Widths of one and of two columns in mm (Nature, Elsevier and the ACS differ by a few mm)."""

TYPE = 7.0
"""Size of type in points: the least that most journals print."""

MILLIMETRES = 25.4
DPI = 300

_METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}


def sheet(width: str | float, height: float) -> Figure:
    """Give an empty figure.

    Parameters
    ----------
    width
        `single` (89 mm), `double` (183 mm) or a number of mm.
    height
        mm.
    """
    from matplotlib.figure import Figure

    if isinstance(width, str) and width not in WIDTHS:
        raise ContractError("not a width of a figure", found=repr(width), expected=f"{', '.join(WIDTHS)}, or a number of mm")
    across = WIDTHS[width] if isinstance(width, str) else float(width)
    if not (across > 0 and height > 0):
        raise ContractError("not a size of a figure", found=f"{across} mm x {height} mm", expected="more than 0 mm")
    return Figure(figsize=(across / MILLIMETRES, height / MILLIMETRES), layout="constrained")


def plain(axis: Any, *, open_: bool = True) -> None:
    """Dress an axes: thin lines, small type; `open_` leaves out the upper and the right line."""
    axis.tick_params(labelsize=TYPE, width=0.6, length=2.5)
    for spine in axis.spines.values():
        spine.set_linewidth(0.6)
    for one in (axis.xaxis, axis.yaxis):
        one.label.set_size(TYPE)
        one.get_offset_text().set_size(TYPE)
    if open_:
        axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | Path, *, dpi: float = DPI) -> Path:
    """Write a figure as PNG, SVG or PDF by its suffix, whole or not at all; drawn anew from the same data it has the same bytes.

    Parameters
    ----------
    figure
        The figure.
    path
        Where to. Text stays text in SVG and PDF; maps are pictures in them, of `dpi`.
    dpi
        Dots per inch of PNG, and of the maps in SVG and PDF.
    """
    from matplotlib import rc_context

    path = Path(path)
    temporary = path.with_name(f".{path.stem}.writing{path.suffix}")
    try:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "operando", "pdf.fonttype": 42}):
            figure.savefig(temporary, dpi=dpi, metadata=_METADATA.get(path.suffix.lower().lstrip(".")))
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path
