"""The strips: what one row of the timeline shows."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QRectF

from napari_operando.panels.plots import LEFT, RIGHT, DecadesAxis, HoursAxis, TimeView, axis_label, dress, finite_range
from napari_operando.pyramid import Level, binned, columns, envelope, levels_of, shades
from napari_operando.reading import Cell, Spectra, Trace
from napari_operando.session import Session
from napari_operando.theme import Palette
from napari_operando.timeview import FrameTimes

_VEIL = 150
"""How much of a column of a waterfall is covered, of 255, where its frame is stale."""


class Row:
    """One plot over time with cursor, events and region; subclasses draw into it.

    Attributes
    ----------
    plot
        The plot; its left axis has the width of all others.
    side
        What stands right of it, as wide as all others: a second axis, a colour bar, or nothing.
    weight
        Share of the height.
    """

    weight = 10

    def __init__(self, key: str, session: Session, palette: Palette, *, logarithmic: bool = False) -> None:
        self.key, self.session, self.palette, self.logarithmic = key, session, palette, logarithmic
        self.view = TimeView(session)
        axes = {"bottom": HoursAxis("bottom"), **({"left": DecadesAxis("left")} if logarithmic else {})}
        self.plot = pg.PlotItem(viewBox=self.view, axisItems=axes)
        self.plot.hideButtons()
        self.plot.setMenuEnabled(False)
        self.plot.getAxis("left").setWidth(LEFT)
        self.side: pg.GraphicsWidget | None = None
        self.words = ""
        self.entries: tuple[tuple[str, str], ...] = ()
        self.name = pg.TextItem()
        self.name.setParentItem(self.view)
        self.name.setPos(3, 2)
        self.name.setZValue(60)
        self.cursor = pg.InfiniteLine(angle=90, movable=False)
        self.cursor.setZValue(50)
        self.plot.addItem(self.cursor, ignoreBounds=True)
        self.events = {name: pg.InfiniteLine(angle=90, movable=False) for name in ("A", "B")}
        for line in self.events.values():
            line.setZValue(40)
            line.setVisible(False)
            self.plot.addItem(line, ignoreBounds=True)
        self.region = pg.LinearRegionItem(movable=False)
        self.region.setZValue(-5)
        self.region.setVisible(False)
        self.plot.addItem(self.region, ignoreBounds=True)

    def title(self, text: str, entries: Sequence[tuple[str, str]] = ()) -> None:
        """Name the row in its corner, and after that colours and what they mean."""
        self.words, self.entries = text, tuple(entries)
        meant = "".join(f" &nbsp;<span style='color:{colour}'>■</span> {html.escape(name)}" for colour, name in entries)
        self.name.setHtml(f"<span style='color:{self.palette.foreground}; font-size:8pt'><b>{html.escape(text)}</b>{meant}</span>")
        self.name.fill = pg.mkBrush(self.palette.background)
        self.name.setVisible(bool(text))

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.palette = palette
        dress(self.plot, palette)
        self.view.setBackgroundColor(palette.background)
        self.cursor.setPen(pg.mkPen(palette.cursor, width=1))
        for name, colour in (("A", palette.first), ("B", palette.second)):
            self.events[name].setPen(pg.mkPen(colour, width=1))
        shade = pg.mkColor(palette.region)
        shade.setAlpha(30)
        self.region.setBrush(shade)
        for line in self.region.lines:
            line.setPen(pg.mkPen(palette.region))
        self.title(self.words, self.entries)

    def shows_time(self, on: bool) -> None:
        """Write the numbers of the time axis, as the lowest row does."""
        axis = self.plot.getAxis("bottom")
        axis.setStyle(showValues=on)
        axis.setLabel(axis.text() if on else None)
        axis.showLabel(on)
        axis.setHeight(None if on else 6)

    def moved(self, time: float) -> None:
        """Move the cursor."""
        self.cursor.setPos(time)

    def marked(self) -> None:
        """Move the events and the region."""
        for name, line in self.events.items():
            at = self.session.marks.get(name)
            line.setVisible(at is not None)
            if at is not None:
                line.setPos(at)
        self.region.setVisible(self.session.region is not None)
        if self.session.region is not None:
            self.region.setRegion(self.session.region)

    def refresh(self) -> None:
        """Draw what the visible stretch of time shows."""

    def resemble(self, other: Row) -> None:
        """Look as a row does that showed the same before: how far somebody zoomed across is kept."""
        self.view.zoomed = other.view.zoomed
        if self.view.zoomed:
            self.view.setYRange(*other.view.viewRange()[1], padding=0)

    def table(self) -> dict[str, np.ndarray]:
        """Give what is visible as columns, for export."""
        return {}

    def _visible(self) -> tuple[float, float, int]:
        (low, high), _ = self.view.viewRange()
        return low, high, max(int(self.view.width()), 50)


class _Behind(pg.ViewBox):
    """A second scale in the same place, which leaves the mouse to the first."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False)

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Leave it to the first."""
        event.ignore()

    mouseClickEvent = wheelEvent = mouseDragEvent


class RecordRow(Row):
    """Voltage, and on the right current, charge or state of charge."""

    weight = 11

    def __init__(self, cell: Cell, session: Session, palette: Palette, second: str = "current") -> None:
        super().__init__("echem", session, palette)
        self.cell = cell
        self.left = cell.echem.get("voltage") or cell.echem.get("potential_we")
        self.curve = pg.PlotCurveItem(connect="finite")
        self.plot.addItem(self.curve)
        self.other = _Behind()
        self.other.setXLink(self.view)
        self.other_curve = pg.PlotCurveItem(connect="finite")
        self.other.addItem(self.other_curve)
        self.side = self.right = axis = pg.AxisItem("right")
        axis.setWidth(RIGHT)
        axis.linkToView(self.other)
        self.view.sigResized.connect(self._follow)
        if self.left is not None:
            axis_label(self.plot.getAxis("left"), self.left.axis)
            span = finite_range(self.left.values)
            if span:
                self.view.setYRange(*span, padding=0)
        self.second: Trace | None = None
        self.show_second(second)

    def show_second(self, name: str) -> None:
        """Choose what stands on the right."""
        self.second = self.cell.echem.get(name)
        axis_label(self.right, self.second.axis if self.second else "")
        span = finite_range(self.second.values, margin=0.15) if self.second else None
        if span:
            self.other.setYRange(*span, padding=0)
        self.refresh()

    def _follow(self, *_: object) -> None:
        self.other.setGeometry(self.view.sceneBoundingRect())
        self.other.linkedViewChanged(self.view, self.other.XAxis)

    def attach(self, scene: pg.GraphicsScene) -> None:
        """Put the second view into the scene, above the first."""
        scene.addItem(self.other)
        self.other.setZValue(-10)
        self._follow()

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours; each axis has the colour of its line."""
        super().dress(palette)
        self.view.setBackgroundColor(None)  # the second view lies below
        self.curve.setPen(pg.mkPen(palette.lines[0], width=1))
        self.other_curve.setPen(pg.mkPen(palette.lines[1], width=1))
        self.plot.getAxis("left").setTextPen(pg.mkPen(palette.lines[0]))
        self.plot.getAxis("left").label.setDefaultTextColor(pg.mkColor(palette.lines[0]))
        self.right.setPen(pg.mkPen(palette.faint))
        self.right.setTextPen(pg.mkPen(palette.lines[1]))
        self.right.setTickFont(self.plot.getAxis("left").style["tickFont"])
        self.right.label.setDefaultTextColor(pg.mkColor(palette.lines[1]))

    def refresh(self) -> None:
        """Draw both lines at the resolution of the screen."""
        low, high, pixels = self._visible()
        for trace, curve in ((self.left, self.curve), (self.second, self.other_curve)):
            if trace is None or trace.empty:
                curve.setData([], [])
            else:
                curve.setData(*envelope(*trace.seen(high - low, pixels), low, high, pixels, self.cell.max_gap))

    def table(self) -> dict[str, np.ndarray]:
        """Give the records that are visible."""
        low, high, _ = self._visible()
        out: dict[str, np.ndarray] = {}
        for trace in (self.left, self.second):
            if trace is not None:
                keep = (trace.time >= low) & (trace.time <= high)
                out.setdefault("time (s)", trace.time[keep])
                out[trace.axis] = trace.values[keep]
        return out


class WaterfallRow(Row):
    """Spectra as a picture over time, gaps empty."""

    weight = 12

    def __init__(self, spectra: Spectra, session: Session, palette: Palette, *, want: Callable[[WaterfallRow, int, int], None] | None = None) -> None:
        super().__init__(spectra.key, session, palette)
        self.spectra = spectra
        self.image = pg.ImageItem(axisOrder="col-major", autoDownsample=False)
        self.image.setZValue(-20)
        self.plot.addItem(self.image)
        self.veil = pg.ImageItem(axisOrder="col-major")  # over what is stale
        self.veil.setZValue(-19)
        self.plot.addItem(self.veil)
        axis_label(self.plot.getAxis("left"), spectra.axis_label)
        self.side = self.bar = pg.ColorBarItem(width=9, interactive=True, values=(0, 1), colorMap="viridis", pen=palette.faint)
        self.bar.sigLevelsChanged.connect(self._levels_dragged)
        self.scale, self.colours = "square root" if spectra.variable == "intensity" and spectra.technique in ("xrd", "pdf") else "linear", "viridis"
        self.whole: Level | None = None
        self.near: Level | None = None
        self.near_frames: tuple[int, int] | None = None
        self.message = ""
        self._want = want
        self._dragged = False
        self._shaded: tuple[object, np.ndarray] | None = None
        self._levels = (0.0, 1.0)
        good = spectra.axis[np.isfinite(spectra.axis)]
        self._span = (float(good.min()), float(good.max())) if len(good) else (0.0, 1.0)
        if self._span[0] == self._span[1]:
            self._span = (self._span[0] - 0.5, self._span[1] + 0.5)
        self.view.setYRange(*self._span, padding=0)
        self.view.setLimits(yMin=self._span[0], yMax=self._span[1])
        self.title(spectra.key)

    def give(self, level: Level) -> None:
        """Take the overview of everything."""
        self.whole = level
        if not self._dragged:
            self._levels = levels_of(level.values)
        self.bar.blockSignals(True)
        self.bar.setLevels(self._levels)
        self.bar.rounding = max((self._levels[1] - self._levels[0]) / 500, 1e-12)
        self.bar.blockSignals(False)
        if not np.isfinite(level.values).any():
            self.message = "nothing but NaN"
            self.title(f"{self.key}: {self.message}")
        self.refresh()

    def give_near(self, level: Level, first: int, last: int) -> None:
        """Take full resolution of some frames."""
        self.near, self.near_frames = level, (first, last)
        self.refresh()

    def failed(self, message: str) -> None:
        """Say that there is no picture, and why."""
        self.message = message.splitlines()[0]
        self.title(f"{self.key}: cannot be read: {self.message}")

    def paint(self, colours: str | None = None, scale: str | None = None) -> None:
        """Choose the colour map and how levels are spread."""
        self.colours, self.scale = colours or self.colours, scale or self.scale
        self.bar.setColorMap(pg.colormap.get(self.colours))
        self._shaded = None
        self.refresh()

    def _levels_dragged(self, *_: object) -> None:
        low, high = self.bar.levels()
        self._levels, self._dragged = (float(low), float(high)), True
        self.refresh()

    def resemble(self, other: Row) -> None:
        """Take colours, shades, levels and zoom of a row that showed the same before."""
        super().resemble(other)
        if isinstance(other, WaterfallRow):
            self._levels, self._dragged = other._levels, other._dragged
            self.paint(other.colours, other.scale)

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        super().dress(palette)
        axis = self.bar.axis
        axis.setPen(pg.mkPen(palette.faint))
        axis.setTextPen(pg.mkPen(palette.foreground))
        axis.setTickFont(self.plot.getAxis("left").style["tickFont"])

    @property
    def times(self) -> FrameTimes:
        """The exposures in effect."""
        return self.session.timeline.frames[self.spectra.key]

    def refresh(self) -> None:
        """Draw the visible stretch at the resolution of the screen."""
        level, (low, high, pixels) = self.level, self._visible()
        if level is None or high <= low:
            return
        _, (bottom, top) = self.view.viewRange()
        bins = max(min(int(self.view.height()), 600), 20)
        key = (id(level), bottom, top, bins, self._levels, self.scale)
        if self._shaded is None or self._shaded[0] != key:
            made = shades(binned(level, np.linspace(bottom, top, bins + 1)), *self._levels, self.scale)
            self._shaded = (key, np.concatenate([made, np.zeros((1, bins), np.uint8)]))  # the last row is the gap: index -1
        row, stale = columns(level, self.times, np.linspace(low, high, min(pixels, 3000) + 1))
        place = QRectF(low, bottom, high - low, top - bottom)
        self.image.setImage(self._shaded[1][row], autoLevels=False, levels=(0, 255), lut=self._lut(), rect=place)
        self.veil.setVisible(bool(stale.any()))
        if stale.any():
            veil = np.zeros((len(stale), 1, 4), np.ubyte)
            veil[stale] = pg.mkColor(self.palette.background).getRgb()[:3] + (_VEIL,)
            self.veil.setImage(veil, autoLevels=False, levels=(0, 255), rect=place)
        if level is self.whole and level.factor > 1 and self._want is not None:
            frames = self.times.within(low, high)
            if 0 < len(frames) and frames.max() - frames.min() < 2048:
                self._want(self, int(frames.min()), int(frames.max()))

    @property
    def level(self) -> Level | None:
        """What is drawn from: full resolution where it was read for what is visible."""
        low, high, _ = self._visible()
        return self.near if self.near is not None and self.near_frames is not None and self._covered(low, high) else self.whole

    def _covered(self, low: float, high: float) -> bool:
        frames = self.times.within(low, high)
        first, last = self.near_frames or (0, -1)
        return bool(len(frames)) and first <= frames.min() and frames.max() <= last

    def _lut(self) -> np.ndarray:
        lut = np.zeros((256, 4), np.ubyte)
        lut[1:] = pg.colormap.get(self.colours).getLookupTable(nPts=255, alpha=True)
        return lut

    def table(self) -> dict[str, np.ndarray]:
        """Give when each visible frame was taken."""
        low, high, _ = self._visible()
        frames = self.times.within(low, high)
        return {"frame": frames, "begin (s)": self.spectra.begin[frames], "end (s)": self.spectra.end[frames]}


class FractionsRow(Row):
    """Phase fractions, one above the other; where a fraction is not known nothing is drawn."""

    weight = 9

    def __init__(self, key: str, traces: list[Trace], session: Session, palette: Palette) -> None:
        super().__init__(f"fractions {key}", session, palette)
        # what is in no fraction at all, such as the foils of the cell, is left out
        self.series, self.traces = key, [t for t in traces if not t.empty]
        self._bands: list[pg.QtWidgets.QGraphicsPathItem] = []
        self._drawn: object = None
        axis_label(self.plot.getAxis("left"), "fraction")
        self.view.setYRange(-0.02, 1.45, padding=0)  # with room for the names
        self.plot.getAxis("left").setTicks([[(0.0, "0"), (0.5, "0.5"), (1.0, "1")]])
        self.title(f"{key}: {traces[0].label.rpartition(',')[0]}" if self.traces else f"{key}: no fraction is known")

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        super().dress(palette)
        self.refresh()

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Give edges of the bands (corner, band + 1) over time (corner), straight from one exposure to the next, NaN in gaps."""
        times = self.session.timeline.frames.get(self.series)
        one = self.traces[0]
        keep = np.isfinite(one.time) & one.of_the_spot(self.session.timeline.frames)
        order = np.flatnonzero(keep)
        order = order[np.argsort(one.time[order], kind="stable")]
        t = one.time[order]
        values = np.stack([trace.values[order] for trace in self.traces], axis=1)
        whole = np.where(np.isfinite(values).any(axis=1, keepdims=True), np.nan_to_num(values), np.nan)
        edges = np.concatenate([np.zeros((len(t), 1)) * whole[:, :1], np.cumsum(whole, axis=1)], axis=1)
        reach = times.max_age if times is not None and np.isfinite(times.max_age) else np.inf
        pause = np.flatnonzero(np.diff(t) > 2 * reach)
        return np.insert(t, pause + 1, t[pause]), np.insert(edges, pause + 1, np.nan, axis=0)

    def refresh(self) -> None:
        """Draw the bands, each phase in a colour of its own."""
        times = self.session.timeline.frames.get(self.series)
        if self._drawn == (times, self.palette.dark):
            return  # bands do not depend on what is visible
        self._drawn = (times, self.palette.dark)
        for band in self._bands:
            self.view.removeItem(band)
        self._bands = []
        if not self.traces:
            return
        t, edges = self.stacked()
        runs = _runs(np.isfinite(edges[:, 0]))
        for i in range(len(self.traces)):
            colour = pg.mkColor(self.palette.lines[i % len(self.palette.lines)])
            x, y = [np.empty(0)], [np.empty(0)]
            for a, b in runs:
                x += [t[a:b], t[a:b][::-1], np.array([t[a], np.nan])]
                y += [edges[a:b, i + 1], edges[a:b, i][::-1], np.array([edges[a, i + 1], np.nan])]
            fill = pg.mkColor(colour)
            fill.setAlpha(150)
            item = pg.QtWidgets.QGraphicsPathItem(pg.arrayToQPath(np.concatenate(x), np.concatenate(y), connect="finite"))
            pen = pg.mkPen(colour)
            pen.setCosmetic(True)
            item.setPen(pen)
            item.setBrush(pg.mkBrush(fill))
            item.setZValue(-10)
            self.view.addItem(item, ignoreBounds=True)
            self._bands.append(item)
        lines = self.palette.lines
        self.title(self.words, [(lines[i % len(lines)], t.name.rpartition("=")[2].rstrip("]")) for i, t in enumerate(self.traces)])

    def table(self) -> dict[str, np.ndarray]:
        """Give the fractions that are visible."""
        return trace_table(self.traces, self.session.timeline.frames, *self._visible()[:2])


class TracesRow(Row):
    """Observables with their errors: dots where each is a sample, lines where they are continuous."""

    weight = 9

    def __init__(self, key: str, traces: list[Trace], cell: Cell, session: Session, palette: Palette) -> None:
        values = np.concatenate([t.values for t in traces])
        good = values[np.isfinite(values)]
        wide = bool(len(good)) and good.min() > 0 and good.max() / good.min() > 30 and all(t.units == "Ω" for t in traces)
        super().__init__(key, session, palette, logarithmic=wide)
        self.traces, self.cell = traces, cell
        one = traces[0]
        axis_label(self.plot.getAxis("left"), _short(one.axis if len(traces) == 1 else _shared(traces)))
        span = finite_range(np.log10(good) if self.logarithmic else good, margin=0.12)
        if span:  # with room for the names
            self.view.setYRange(span[0], span[1] + (0.55 if len(traces) > 1 else 0.25) * (span[1] - span[0]), padding=0)
        self._items: list[pg.GraphicsObject] = []
        self._drawn: object = None
        self.title(key if len(good) else f"{key}: nothing but NaN")

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        super().dress(palette)
        self.refresh()

    def refresh(self) -> None:
        """Draw."""
        low, high, pixels = self._visible()
        frames = self.session.timeline.frames
        drawn = any(self._continuous(trace) for trace in self.traces)
        wanted = (self.palette.dark, (low, high, pixels) if drawn else None, [trace.exposures(frames) for trace in self.traces])
        if self._drawn == wanted:
            return  # dots do not depend on what is visible
        self._drawn = wanted
        for item in self._items:
            self.view.removeItem(item)
        self._items = []
        for i, trace in enumerate(self.traces):
            colour = pg.mkColor(self.palette.lines[i % len(self.palette.lines)])
            if self._continuous(trace):
                order = np.argsort(trace.time, kind="stable") if (np.diff(trace.time) < 0).any() else slice(None)
                t, v = envelope(trace.time[order], trace.values[order], low, high, pixels, self.cell.max_gap)
                item = pg.PlotCurveItem(t, self._scaled(v), connect="finite", pen=pg.mkPen(colour))
                self._add(item)
            else:
                keep = trace.of_the_spot(frames) & np.isfinite(trace.time) & np.isfinite(trace.values) & ((trace.values > 0) | (not self.logarithmic))
                t, v = trace.time[keep], trace.values[keep]
                item = pg.ScatterPlotItem(t, self._scaled(v), size=5, pen=None, brush=pg.mkBrush(colour))
                if trace.errors is not None:
                    e = np.nan_to_num(trace.errors[keep])
                    up, down = (
                        self._scaled(v + e) - self._scaled(v),
                        self._scaled(v) - self._scaled(np.maximum(v - e, v * 1e-3 if self.logarithmic else v - e)),
                    )
                    self._add(pg.ErrorBarItem(x=t, y=self._scaled(v), top=up, bottom=down, beam=0, pen=pg.mkPen(colour)))
                self._add(item)
        several = len(self.traces) > 1
        lines = self.palette.lines
        self.title(self.words, [(lines[i % len(lines)], t.label) for i, t in enumerate(self.traces)] if several else ())

    @staticmethod
    def _continuous(trace: Trace) -> bool:
        return trace.sampling == "continuous" or len(trace.time) > 20_000

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        return np.log10(values) if self.logarithmic else values

    def _add(self, item: pg.GraphicsObject) -> None:
        # added to the view, not to the plot: the plot would take the logarithm once more
        self.view.addItem(item, ignoreBounds=True)
        self._items.append(item)

    def table(self) -> dict[str, np.ndarray]:
        """Give the numbers that are visible."""
        return trace_table(self.traces, self.session.timeline.frames, *self._visible()[:2])


def _short(text: str, most: int = 26) -> str:
    """Shorten a label so that it stays beside its row; the unit is kept."""
    words, bracket, unit = text.rpartition(" (")
    if len(text) <= most:
        return text
    return (words[: max(most - len(unit) - 4, 8)].rstrip() + "… (" + unit) if bracket else text[:most].rstrip() + "…"


def _shared(traces: list[Trace]) -> str:
    """Name the axis of several observables."""
    units = {t.units for t in traces}
    words = set.intersection(*(set(t.label.split()) for t in traces))
    what = " ".join(w for w in traces[0].label.split() if w in words and w not in ("of", "the")) or "value"
    return f"{what} ({units.pop()})" if len(units) == 1 else what


def _runs(good: np.ndarray) -> list[tuple[int, int]]:
    """Give the stretches [a, b) where something holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def trace_table(traces: list[Trace], frames: Mapping[str, FrameTimes], low: float, high: float) -> dict[str, np.ndarray]:
    """Give traces that share their times as columns, with errors; of the spot that is shown."""
    out: dict[str, np.ndarray] = {}
    for trace in traces:
        keep = (trace.time >= low) & (trace.time <= high) & trace.of_the_spot(frames)
        if "time (s)" in out and not np.array_equal(out["time (s)"], trace.time[keep]):
            continue
        out["time (s)"] = trace.time[keep]
        out[f"{trace.name} ({trace.units})"] = trace.values[keep]
        if trace.errors is not None:
            out[f"{trace.name} errors ({trace.units})"] = trace.errors[keep]
    return out
