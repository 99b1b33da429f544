"""`alignment`: the report of `operando check` as a figure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from operando.figures.style import BAD, COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def alignment(report: Any) -> Figure:
    """Draw the alignment report: each cell's voltage above a coverage bar for every stream, on one true time axis.

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
    figure = Figure(figsize=(9.0, height), layout="constrained")
    axes = figure.subplots(
        len(cells) + 1, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [1.5] * len(cells) + [0.5 + 0.34 * max(1, len(streams))]}
    )[:, 0]
    for axis, (cell, (seconds, volts)) in zip(axes, cells.items(), strict=False):
        axis.plot(_days(seconds, date2num), volts, color="black", linewidth=0.9)
        axis.set_ylabel(f"{cell}: voltage (V)")
        axis.spines[["top", "right"]].set_visible(False)
    bars = axes[-1]
    techniques = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(s.technique for s in streams))}
    for row, stream in enumerate(streams):
        spans = [(_day(a, date2num), max(_day(b, date2num) - _day(a, date2num), 1e-6)) for a, b in stream.spans]
        bars.broken_barh(spans, (row - 0.32, 0.64), color=techniques[stream.technique])
        # the timeline's own pauses are not frames that miss it
        bad = 0 if stream.rules else sum(stream.flags.get(name, 0) for name in ("OUTSIDE", "PAUSE", "PARTIAL"))
        note = f"{stream.frames} {'records' if stream.rules else 'frames'}" + (f", {bad} not inside" if bad else "")
        note += ", no electrochemistry" if stream.flags.get("UNALIGNED") else ""
        bars.text(
            1.01,
            row,
            note,
            transform=bars.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=BAD if bad or stream.flags.get("UNALIGNED") else "black",
        )
    bars.set_yticks(range(len(streams)), [s.address for s in streams])
    bars.set_ylim(len(streams) - 0.4, -0.6)
    bars.spines[["top", "right"]].set_visible(False)
    locator = AutoDateLocator(tz=zone)
    bars.xaxis.set_major_locator(locator)
    bars.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    bars.set_xlabel(f"time ({report.zone})")
    figure.suptitle(report.title, fontsize=11)
    return figure


def _zone(name: str) -> dt.tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return dt.UTC


def _day(seconds: float, date2num: Any) -> float:
    return float(date2num(dt.datetime.fromtimestamp(seconds, dt.UTC)))


def _days(seconds: np.ndarray, date2num: Any) -> np.ndarray:
    return np.asarray(date2num((np.asarray(seconds) * 1e9).astype("datetime64[ns]")))
