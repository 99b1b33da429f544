"""The spectrum at the cursor, at the events A and B, their difference, and the mean over the region."""

from __future__ import annotations

import html

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_operando.panels.plots import Fitted, Panel, TextLine, axis_label, dress, finite_range
from napari_operando.reading import Cell, Spectra
from napari_operando.session import Session
from napari_operando.theme import Palette
from napari_operando.work import Work

_QUICK = 48
"""Frames whose mean is taken without leaving the window's thread."""


class SpectrumPanel(Panel):
    """Spectra of the active series; of the first series with spectra where the active one has none."""

    title = "Spectrum"

    def __init__(self, session: Session, cell: Cell, palette: Palette, work: Work, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell, self.work = session, cell, work
        self.legend, self.says = TextLine(points=8.5), TextLine(points=8.5)
        self.graphics = pg.GraphicsLayoutWidget(parent=self)
        self.plot = self.graphics.addPlot(0, 0, viewBox=Fitted())
        self.below = self.graphics.addPlot(1, 0, viewBox=Fitted())
        self.below.setXLink(self.plot)
        self.curves = {name: pg.PlotCurveItem(connect="finite") for name in ("mean", "A", "B", "cursor")}
        for curve in self.curves.values():
            self.plot.addItem(curve)
        self.difference = pg.PlotCurveItem(connect="finite")
        self.below.addItem(self.difference)
        self.zero = pg.InfiniteLine(0, angle=0)
        self.below.addItem(self.zero, ignoreBounds=True)
        for plot in (self.plot, self.below):
            plot.setMenuEnabled(False)
            plot.hideButtons()
            plot.getAxis("left").setWidth(62)
        self.graphics.ci.layout.setRowStretchFactor(0, 3)
        self.graphics.ci.layout.setRowStretchFactor(1, 2)
        self.below.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.legend)
        layout.addWidget(self.says)
        layout.addWidget(self.graphics, 1)
        self.shown: dict[str, tuple[int, np.ndarray]] = {}
        self.region_mean: tuple[object, np.ndarray, int] | None = None
        self.message = ""
        self._key = ""
        self._given: dict[str, object] = {}
        for signal in (session.time_changed, session.marks_changed, session.region_changed, session.selection_changed):
            signal.connect(self.refresh)
        self.dress(palette)

    @property
    def spectra(self) -> Spectra | None:
        """What is shown."""
        found = self.cell.spectra
        return found.get(self.session.active) or found.get(self._key) or next(iter(found.values()), None)

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self.cell, self._drawn, self._key, self._given = cell, None, "", {}
        self.refresh()

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again."""
        self.cell, self._given = cell, {}
        self.again()

    def draw(self) -> None:
        """Draw, if something else is to be seen."""
        one = self.spectra
        if one is None:
            self.shown, self._given = {}, {}
            for curve in (*self.curves.values(), self.difference):
                curve.setData([], [])
            self.legend.setText("")
            self._say("This store holds no spectra.")
            return
        times = self.session.timeline.frames[one.key]
        frames = {"cursor": times.at(self.session.time)}
        frames |= {name: times.at(at) for name, at in self.session.marks.items()}
        region = self.session.region if self.session.mean else None
        wanted = (one.key, {k: (f.index, f.stale) for k, f in frames.items()}, region, self.session.difference, times)
        if wanted == self._drawn:
            return
        if one.key != self._key:
            axis_label(self.plot.getAxis("left"), one.label)
            axis_label(self.below.getAxis("bottom"), one.axis_label)
            axis_label(self.plot.getAxis("bottom"), one.axis_label)
            self._given = {}
        self._drawn, anew, self._key = wanted, one.key != self._key, one.key
        self.shown = {}
        said = []
        for name, frame in frames.items():
            if frame.gap:
                continue
            try:
                self.shown[name] = (frame.index, one.spectrum(frame.index))
            except Exception as error:  # one frame that cannot be read leaves the others
                said.append(f"frame {frame.index} cannot be read: {str(error).splitlines()[0]}")
        for name, (index, _) in self.shown.items():
            if one.flags(index):
                said.append(f"{'frame' if name == 'cursor' else name} #{index}: {one.flags(index)}")
        gaps = [{"cursor": "the cursor"}.get(name, name) for name, frame in frames.items() if frame.gap]
        if gaps:
            said.append(f"{one.key}: no frame at {' and '.join(gaps)}")
        if "cursor" in self.shown and not np.isfinite(self.shown["cursor"][1]).any():
            said.append(f"frame {frames['cursor'].index}: nothing but NaN")
        said += self._mean(one) + self._spots(one)
        self._say("; ".join(said))
        self._draw(one, stale=frames["cursor"].stale, anew=anew)

    def _spots(self, one: Spectra) -> list[str]:
        """Warn where what is compared or averaged was taken at different places: differences between spots are not changes in time."""
        if not one.positions or one.position is None:
            return []
        out = []
        at = {name: int(one.position[index]) for name, (index, _) in self.shown.items() if name in "AB" and np.isfinite(one.position[index])}
        if len(at) == 2 and at["A"] != at["B"]:
            out.append(f"A is of spot {at['A']}, B of spot {at['B']}: choose one")
        if "mean" in self.shown and self.session.region is not None:
            averaged = one.position[self.session.timeline.frames[one.key].within(*self.session.region)]
            spots = np.unique(averaged[np.isfinite(averaged)]).astype(int)
            if len(spots) > 1:
                out.append(f"the mean is over spots {', '.join(map(str, spots))}")
        return out

    def _say(self, message: str) -> None:
        self.message = message
        self.says.setText(f"<span style='color:{self.look.lines[1]}'>{html.escape(message)}</span>")

    def _draw(self, one: Spectra, *, stale: bool, anew: bool = False) -> None:
        p = self.look
        colours = {"cursor": p.faint if stale else p.cursor, "A": p.first, "B": p.second, "mean": p.mean}
        entries = []
        for name, curve in self.curves.items():
            index, values = self.shown.get(name, (-1, None))
            if self._given.get(name) is not values or anew:
                self._given[name] = values
                curve.setData(one.axis, values) if values is not None else curve.setData([], [])
            if values is not None:
                words = f"mean of {index} frames" if name == "mean" else self._named(one, name, index)
                entries.append(f"<span style='color:{colours[name]}'>▬</span> {words}")
        self.curves["cursor"].setPen(pg.mkPen(colours["cursor"], width=1))
        self.legend.setText("   ".join(reversed(entries)))
        every = [v for _, v in self.shown.values()]
        self.plot.getViewBox().fit(finite_range(one.axis, margin=0.01), finite_range(*every), anew=anew)
        self._subtract(one, anew=anew)

    @staticmethod
    def _named(one: Spectra, name: str, index: int) -> str:
        """Name a frame in the legend."""
        at = (one.begin[index] + one.end[index]) / 7200
        spot = f" spot {one.position[index]:.0f}" if one.positions and one.position is not None else ""
        return f"{'' if name == 'cursor' else f'{name} '}#{index} {at:.3f} h{spot}"

    def _subtract(self, one: Spectra, *, anew: bool) -> None:
        both = {"A", "B"} <= self.shown.keys()
        show = self.session.difference
        if show != self.below.isVisible():
            self.below.setVisible(show)
            self.plot.getAxis("bottom").showLabel(not show)
        if not show:
            return
        wanted = tuple(id(self.shown[n][1]) for n in "AB") if both else None
        if self._given.get("A - B", 0) != wanted or anew:
            self._given["A - B"] = wanted
            gap = self.shown["A"][1] - self.shown["B"][1] if both else np.full(len(one.axis), np.nan)
            self.difference.setData(one.axis, gap)
            axis_label(self.below.getAxis("left"), "A - B" if both else "A - B (needs both)")
            self.below.getViewBox().fit(None, finite_range(gap), anew=True)

    def _mean(self, one: Spectra) -> list[str]:
        """Take the mean over the region, beside the window where it takes long; say why there is none."""
        region = self.session.region
        if not self.session.mean or region is None:
            return []
        times = self.session.timeline.frames[one.key]
        key = (one.key, region, times)
        if self.region_mean is None or self.region_mean[0] != key:
            frames = times.within(*region)
            if not len(frames):
                return [f"{one.key}: no frame in the region"]
            if len(frames) > _QUICK:

                def done(found: tuple[np.ndarray, int]) -> None:
                    self.region_mean = (key, *found)
                    self.again()

                self.work.run("mean", lambda: one.mean(frames), done, lambda e: self._say(f"no mean: {e}"), what=f"mean of {len(frames)} frames")
                return [f"averaging {len(frames)} frames ..."]
            try:
                self.region_mean = (key, *one.mean(frames))
            except Exception as error:
                return [f"no mean: {str(error).splitlines()[0]}"]
        _, values, counted = self.region_mean
        left = len(times.within(*region)) - counted
        if counted:
            self.shown["mean"] = (counted, values)
        return [f"left out of the mean: {left} frames without beam, damaged or NaN"] if left else []

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.look = palette
        self.graphics.setBackground(palette.background)
        for plot in (self.plot, self.below):
            dress(plot, palette)
        for name, colour in (("A", palette.first), ("B", palette.second), ("mean", palette.mean), ("cursor", palette.cursor)):
            self.curves[name].setPen(pg.mkPen(colour, width=1))
        self.difference.setPen(pg.mkPen(palette.difference, width=1))
        self.zero.setPen(pg.mkPen(palette.faint))
        self.again()

    def headed(self) -> tuple[pg.PlotItem, str]:
        """Name the frames and their colours."""
        return self.plot, self.legend.text()

    def table(self) -> dict[str, np.ndarray]:
        """Give what is drawn as columns."""
        one = self.spectra
        if one is None or not self.shown:
            return {}
        out = {one.axis_label: one.axis}
        for name, (index, values) in self.shown.items():
            out[f"{name} ({'frames averaged: ' if name == 'mean' else 'frame '}{index})"] = values
            errors = one.errors(index) if name != "mean" else None
            if errors is not None:
                out[f"{name} errors (frame {index})"] = errors
        if self.session.difference and {"A", "B"} <= self.shown.keys():
            out["A - B"] = self.shown["A"][1] - self.shown["B"][1]
        return out

    def close_panel(self) -> None:
        """Hear of nothing any more."""
        s = self.session
        for signal in (s.time_changed, s.marks_changed, s.region_changed, s.selection_changed):
            signal.disconnect(self.refresh, missing_ok=True)
