"""`waterfall`: the spectra of one technique as a map over its axis and true time, or the charge that has passed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.figures import bands as lie
from operando.figures.labels import label
from operando.figures.maps import PRINT, Map, colour_range, map_of
from operando.figures.style import TYPE, plain, sheet
from operando.figures.times import TimeAxis, time_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAINST = ("time", "elapsed", "charge")
RUNNING = ("up", "down", "right")
LEAST = 8  # dots of print: the thinnest that a frame is drawn
_MARKED = 40  # more half cycles than this are no longer told apart


def waterfall(
    frames: xr.Dataset | xr.DataTree,
    *,
    against: str = "time",
    signal: str | None = None,
    axis: str | None = None,
    x_range: tuple[float, float] | None = None,
    position: object = None,
    normalise: str | None = None,
    hold: float = lie.HOLD,
    limits: tuple[float, float] | None = None,
    half_cycles: bool = True,
    running: str = "up",
    timezone: str = "UTC",
    cmap: str = "viridis",
    width: str | float = "single",
    height: float = 90.0,
    ax: Any = None,
) -> Figure:
    """Draw the spectra of one technique as a map.

    Each frame fills its own time: from its beginning to the beginning of the next where they follow regularly, and gaps stay white.
    Frames are drawn as they are, whatever their flags. Only what is drawn is read; what is finer than print is averaged.

    Parameters
    ----------
    frames
        `bt["A/xrd/frames"]` or its `.ds`, or any series over (time, axis).
    against
        `time`: the true time. `elapsed`: time since the first frame. `charge`: the charge that has passed since then, forth and back
        (mAh), so that it never goes back; a half cycle is selected beforehand, `frames.isel(time=frames.half_cycle == 3)`. It is told from
        the frames' own charge: what flows forth and back between two frames is not in it. Frames without charge, and frames at rest,
        which have no extent there, are counted in the title.
    signal, axis
        Which spectra and along which of their axes; by default the technique's own. `two_theta` where `q` has it beside it.
    x_range
        Lowest and highest value of the axis, in its unit.
    position
        Which spot, where several took turns; the first by default, named in the title.
    normalise
        Divide each frame by its `monitor` or `exposure`, or by the `mean` or `maximum` of what is drawn of it. Where that is not above 0
        the frame is empty.
    hold
        In usual spacings, how long a frame may wait for the next and still be drawn until it; 0 draws the exposures alone, but none
        thinner than print can show.
    limits
        Ends of the colour scale; by default the range of 99 % of the numbers. Pointed ends of the bar say that numbers lie beyond.
    half_cycles
        Mark where half cycles begin (coordinate `half_cycle`).
    running
        Where time goes: `up`, `down` or `right`.
    timezone
        Zone of the labels; never the computer's own.
    cmap
        A matplotlib colour map.
    width, height
        `single` (89 mm), `double` (183 mm) or mm; mm.
    ax
        Axes of your own to draw into.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.

    Raises
    ------
    ContractError
        What is asked for is not there; the message says what is.
    ClockError
        An unknown zone.

    Examples
    --------
    >>> figure = waterfall(bt["A/xrd/frames"].ds, x_range=(2.0, 2.1), normalise="monitor")   # doctest: +SKIP
    """
    if against not in AGAINST:
        hint = "voltage and state of charge go forth and back: select a half cycle, or see figures.operando for them beside the map"
        raise ContractError("not what a map can be drawn against", found=repr(against), expected=", ".join(AGAINST), hint=hint)
    if running not in RUNNING:
        raise ContractError("not a way for time to run", found=repr(running), expected=", ".join(RUNNING))
    ds = frames.to_dataset() if isinstance(frames, xr.DataTree) else frames
    rows, words = lie.at_position(ds, position)
    laid = lie.in_time(ds, rows, hold)
    scale = time_axis([ds], int(laid.begin[0]), int(laid.stop[-1]), elapsed=against == "elapsed", timezone=timezone)
    bands = lie.along_charge(ds, laid) if against == "charge" else on(laid, scale)
    figure = sheet(width, height) if ax is None else ax.figure
    ax = figure.subplots() if ax is None else ax
    drawn, image, beyond = draw(ax, ds, bands, running, cmap, limits, signal=signal, axis=axis, x_range=x_range, normalise=normalise)
    across, along = (ax.yaxis, ax.xaxis) if running == "right" else (ax.xaxis, ax.yaxis)
    if against == "charge":
        along.set_label_text("charge passed (mAh)")
    else:
        scale.dress(along)
    if half_cycles:
        _mark(ax, ds, bands, running)
    colour_bar(figure.colorbar(image, ax=ax, extend=beyond, pad=0.02, aspect=30), drawn.label)
    plain(ax, open_=False)
    across.label.set_size(TYPE)
    ax.set_title(notes(words, bands, drawn), fontsize=TYPE, wrap=True, loc="right")
    return figure


def notes(words: str, bands: lie.Bands, drawn: Map) -> str:
    """Say what of the series is not in its map."""
    hidden = f"frames not shown: {', '.join(bands.notes)}" if bands.notes else ""
    return "; ".join(text for text in (words, hidden, "" if np.isfinite(drawn.values).any() else "no finite value") if text)


def on(bands: lie.Bands, scale: TimeAxis) -> lie.Bands:
    """Lay bands on the axis of time."""
    return replace(bands, low=scale.place(bands.begin), high=scale.place(bands.stop))


def draw(
    ax: Any, ds: xr.Dataset, bands: lie.Bands, running: str, cmap: str, limits: tuple[float, float] | None, **choice: Any
) -> tuple[Map, Any, str]:
    """Draw a map into axes; returns it, the image, and which ends of the colour scale numbers go beyond."""
    from matplotlib.colors import Normalize
    from matplotlib.image import PcolorImage

    box, dpi = ax.get_window_extent(), ax.figure.dpi
    size = [max(16, int(inches * PRINT)) for inches in (box.height / dpi, box.width / dpi)]
    most = (size[1], size[0]) if running == "right" else (size[0], size[1])
    span = float(bands.low[0]), float(bands.high[-1])
    bands = lie.widened(bands, (span[1] - span[0]) * LEAST / most[0])
    drawn, x = map_of(ds, bands, most=most, **choice)
    low, high, beyond = colour_range(drawn.values, limits)
    masked = np.ma.masked_invalid(drawn.values)
    sides = (drawn.y, drawn.x, masked.T) if running == "right" else (drawn.x, drawn.y, masked)
    # a picture with the true edges of every row and column: as exact as a mesh, at an eighth of the memory
    image = PcolorImage(ax, *sides, cmap=cmap, norm=Normalize(low, high))
    image.set_in_layout(False)  # it ends where its axes end
    ax.add_image(image)
    set_x, set_y = (ax.set_ylim, ax.set_xlim) if running == "right" else (ax.set_xlim, ax.set_ylim)
    ends = sorted((float(drawn.x[0]), float(drawn.x[-1])), reverse=str(x.name) == "wavenumber")  # infrared spectra are read from the left down
    set_x(*ends)
    set_y(*(span[::-1] if running == "down" else span))
    (ax.set_ylabel if running == "right" else ax.set_xlabel)(label(str(x.name), x))
    return drawn, image, beyond


def colour_bar(bar: Any, text: str) -> None:
    """Dress a colour bar."""
    bar.set_label(text, fontsize=TYPE)
    bar.ax.tick_params(labelsize=TYPE, width=0.6, length=2.5)
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.get_offset_text().set_size(TYPE)
    bar.ax.xaxis.get_offset_text().set_size(TYPE)


def _mark(ax: Any, ds: xr.Dataset, bands: lie.Bands, running: str) -> None:
    """Draw a line where each half cycle begins."""
    starts = [first for first, _, _ in lie.half_cycles(ds, bands.rows)][1:]
    if len(starts) <= _MARKED:
        for place in bands.low[starts]:
            (ax.axvline if running == "right" else ax.axhline)(place, color="white", linewidth=0.7, linestyle=(0, (4, 2)))
