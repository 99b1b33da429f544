"""`alignment`: the report of `operando check` as a figure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from operando.figures.style import BAD, COLOURS

_COLUMNS = 150  # characters of a line of text
_LINE = 0.118  # inches it is high

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def alignment(report: Any) -> Figure:
    """Draw the alignment report as a page: each cell's voltage above a coverage bar for every stream, on one true time axis, and what is to be said.

    That is, of each stream: its frames inside and outside, its clock, gaps, counted flags, proposed corrections with their intervals.

    Parameters
    ----------
    report
        `operando.timeline.AlignmentReport`.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.figure import Figure

    zone = _zone(report.zone)
    streams, cells = report.streams, report.voltage
    height = 1.6 + 1.5 * max(1, len(cells)) + 0.34 * len(streams)
    notes = report.notes(_COLUMNS)
    figure = Figure(figsize=(10.0, height + _LINE * len(notes)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[height, max(_LINE * len(notes), 0.01)])
    drawn, below = parts
    axes = drawn.subplots(
        len(cells) + 1, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [1.5] * len(cells) + [0.5 + 0.34 * max(1, len(streams))]}
    )[:, 0]
    for axis, (cell, (seconds, volts)) in zip(axes, cells.items(), strict=False):
        axis.plot(_days(seconds, date2num), volts, color="black", linewidth=0.9)
        axis.set_ylabel(f"{cell}: voltage (V)")
        axis.spines[["top", "right"]].set_visible(False)
    bars = axes[-1]
    techniques = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(s.technique for s in streams))}
    for row, stream in enumerate(streams):
        colour = techniques[stream.technique]
        spans = [(_day(a, date2num), max(_day(b, date2num) - _day(a, date2num), 1e-6)) for a, b in stream.spans]
        bars.broken_barh(spans, (row - 0.32, 0.64), color=colour)
        # what the electrochemistry does not cover is there all the same, but pale
        pale = [(_day(max(a, s0), date2num), _day(min(b, s1), date2num)) for a, b in stream.missing for s0, s1 in stream.spans if a < s1 and b > s0]
        bars.broken_barh(
            [(a, b - a) for a, b in pale], (row - 0.32, 0.64), facecolor="white", alpha=0.65, hatch="////", edgecolor=colour, linewidth=0
        )
        bars.text(1.01, row, _note(stream), transform=bars.get_yaxis_transform(), va="center", fontsize=8, color=BAD if stream.alarming else "black")
    bars.set_xlim(*(_day(at, date2num) for at in _margin(*report.window)))
    if any(stream.missing for stream in streams):
        bars.broken_barh([], (0, 0), facecolor="white", hatch="////", edgecolor="grey", linewidth=0, label="without electrochemistry")
        bars.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), fontsize=8, frameon=False, borderaxespad=0)
    bars.set_yticks(range(len(streams)), [s.address for s in streams])
    bars.set_ylim(len(streams) - 0.4, -0.6)
    bars.spines[["top", "right"]].set_visible(False)
    locator = AutoDateLocator(tz=zone, maxticks=8)
    bars.xaxis.set_major_locator(locator)
    bars.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    bars.set_xlabel(f"time ({report.zone})")
    drawn.suptitle(report.title, fontsize=11)
    _write(below, notes)
    return figure


def _write(below: Any, notes: list[str]) -> None:
    """Write what is to be said of the streams, a line below the other; what needs a look in its own colour, down to the next remark."""
    colour = "black"
    for number, line in enumerate(notes):
        opens = not line.startswith("      ") and (not line.startswith("    ") or colour != BAD)
        if line.startswith("  ! "):
            colour = BAD
        elif not line.startswith(" ") or opens:
            colour = "black"
        below.text(
            0.02,
            1 - (number + 0.5) / max(len(notes), 1),
            line,
            fontsize=6.5,
            fontfamily="monospace",
            va="center",
            color=colour,
            fontweight="bold" if not line.startswith(" ") else "normal",
        )


def _note(stream: Any) -> str:
    """Say beside a bar how many frames there are, what is missing, and what clock was found."""
    rows = "records" if stream.rules else "rows" if stream.technique == "sensor" else "frames"
    note = f"{stream.frames} {rows}" + (f", {stream.not_inside} not inside" if stream.not_inside else "")
    note += ", no electrochemistry" if stream.flags.get("UNALIGNED") else ""
    return "\n".join([note, *(estimate.short() for estimate in stream.estimates[:2])])


def _margin(begin: float, end: float) -> tuple[float, float]:
    room = 0.02 * max(end - begin, 60.0)
    return begin - room, end + room


def _zone(name: str) -> dt.tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return dt.UTC


def _day(seconds: float, date2num: Any) -> float:
    return float(date2num(dt.datetime.fromtimestamp(seconds, dt.UTC)))


def _days(seconds: np.ndarray, date2num: Any) -> np.ndarray:
    return np.asarray(date2num((np.asarray(seconds) * 1e9).astype("datetime64[ns]")))
