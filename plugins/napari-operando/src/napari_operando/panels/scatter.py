"""Two observables against each other, coloured by time or state of charge; a click goes to the moment."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_operando.panels.plots import Panel, axis_label, dress, refill
from napari_operando.reading import Cell, Trace
from napari_operando.session import Session
from napari_operando.theme import Palette
from napari_operando.timeview import GAP, FrameTimes

_MOST = 20_000
"""Dots that are drawn; of more, every second, third ..."""

_SHADES = 64


def paired(x: Trace, y: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put two observables side by side: (time, x, y) at the samples of the one that has fewer.

    Each sample stands beside the nearest of the other, and is left out where that is older than the other usually is (see `FrameTimes`).
    """
    x, y = (t.only(np.isfinite(t.values) & np.isfinite(t.time)) for t in (x, y))
    few, many = (x, y) if len(x.time) <= len(y.time) else (y, x)
    begin, end = (many.begin, many.end) if many.begin is not None and many.end is not None else (many.time, many.time)
    index, _ = FrameTimes(begin, end).lookup(few.time)
    good = index != GAP
    other = many.values[np.maximum(index, 0)][good]
    own = few.values[good]
    return few.time[good], *((own, other) if few is x else (other, own))


class ScatterPanel(Panel):
    """Any observable against any other."""

    title = "Scatter"

    def __init__(self, session: Session, cell: Cell, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell = session, cell
        self.x_box, self.y_box, self.colour = QComboBox(), QComboBox(), QComboBox()
        self.says = QLabel()
        for box in (self.x_box, self.y_box):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(18)
            box.setMaxVisibleItems(30)
        self.graphics = pg.GraphicsLayoutWidget(parent=self)
        self.plot = self.graphics.addPlot(0, 0)
        self.plot.setMenuEnabled(False)
        self.dots = pg.ScatterPlotItem(size=8, pen=None, hoverable=True, hoverSize=11, tip=None)
        self.dots.sigClicked.connect(self._clicked)
        self.here = pg.ScatterPlotItem(size=15, brush=None)
        self.plot.addItem(self.dots)
        self.plot.addItem(self.here)
        self.bar = pg.ColorBarItem(width=10, interactive=False, colorMap="viridis", values=(0, 1))
        self.graphics.addItem(self.bar, 0, 1)
        top = QGridLayout()
        top.setContentsMargins(6, 4, 6, 0)
        for row, (name, box) in enumerate((("across", self.x_box), ("up", self.y_box), ("colour", self.colour))):
            top.addWidget(QLabel(name), row, 0)
            top.addWidget(box, row, 1)
        top.setColumnStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.graphics, 1)
        layout.addWidget(self.says)
        self.look = palette
        self.time = self.across = self.up = np.empty(0)
        self._dots = np.empty(0, int)
        self._axes = ("", "")
        for box in (self.x_box, self.y_box, self.colour):
            box.currentIndexChanged.connect(self.again)
        session.time_changed.connect(self._moved)
        session.selection_changed.connect(self.refresh)
        self.show_cell(cell)
        self.dress(palette)

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self.cell = cell
        names = [n for n, t in cell.traces.items() if not t.empty]
        for box, wanted in (
            (self.x_box, ("phase_fraction", "voltage", "soc")),
            (self.y_box, ("charge_transfer_resistance", "_resistance", "current")),
        ):
            box.blockSignals(True)
            box.clear()
            box.addItems(names)
            box.setCurrentIndex(next((names.index(n) for w in wanted for n in names if w in n and "area" not in n), min(0, len(names) - 1)))
            box.blockSignals(False)
        self.colour.blockSignals(True)
        self.colour.clear()
        self.colour.addItems(["time", *(["soc"] if "soc" in cell.echem else [])])
        self.colour.blockSignals(False)
        self._axes = ("", "")
        self.again()

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again: both observables, colour and zoom are kept."""
        names = [n for n, t in cell.traces.items() if not t.empty]
        if self.x_box.currentText() not in names or self.y_box.currentText() not in names:
            self.show_cell(cell)
            return
        self.cell = cell
        for box in (self.x_box, self.y_box):
            refill(box, names)
        refill(self.colour, ["time", *(["soc"] if "soc" in cell.echem else [])])
        self.again()

    def draw(self) -> None:
        """Draw, if something else is to be seen."""
        x, y = self.cell.traces.get(self.x_box.currentText()), self.cell.traces.get(self.y_box.currentText())
        if x is None or y is None:
            self.says.setText("This store holds no observables.")
            self.dots.setData([], [])
            return
        frames = self.session.timeline.frames
        wanted = (x.name, y.name, self.colour.currentText(), self.look.dark, x.exposures(frames), y.exposures(frames))
        if wanted != self._drawn:
            self._drawn = wanted
            self.time, self.across, self.up = paired(*(t.only(t.of_the_spot(frames)) for t in (x, y)))
            every = max(1, -(-len(self.time) // _MOST))
            self._dots = np.arange(0, len(self.time), every)
            thinned = f"; one of {every} is drawn" if every > 1 else ""
            pairs = f"{len(self.time)} pairs, each sample beside the nearest of the other{thinned}"
            self.says.setText(pairs if len(self.time) else "no two samples belong together")
            time = self.time[self._dots]
            by = time / 3600 if self.colour.currentText() == "time" else self.cell.soc_at(time)
            good = by[np.isfinite(by)]
            low, high = (float(good.min()), float(good.max())) if len(good) else (0.0, 1.0)
            # few brushes: each costs pyqtgraph a picture of its own
            shade = np.where(np.isfinite(by), np.nan_to_num((by - low) / ((high - low) or 1.0)) * (_SHADES - 1), _SHADES).round().astype(int)
            colours = [*pg.colormap.get("viridis").map(np.linspace(0, 1, _SHADES), mode="qcolor"), self.look.faint]
            brushes = [pg.mkBrush(c) for c in colours]
            self.dots.setData(self.across[self._dots], self.up[self._dots], brush=[brushes[k] for k in shade])
            self.bar.setLevels((low, high if high > low else low + 1))
            self.bar.axis.setLabel("time (h)" if self.colour.currentText() == "time" else "state of charge", color=self.look.foreground)
            axis_label(self.plot.getAxis("bottom"), x.axis)
            axis_label(self.plot.getAxis("left"), y.axis)
            if self._axes != (x.name, y.name):
                self._axes = (x.name, y.name)
                self.plot.enableAutoRange()
        self._moved(self.session.time)

    def _moved(self, time: float) -> None:
        if self.isVisible() and len(self.time):
            k = int(np.argmin(np.abs(self.time - time)))
            self.here.setData([self.across[k]], [self.up[k]], pen=pg.mkPen(self.look.cursor, width=2))

    def _clicked(self, _: object, points: list[pg.SpotItem], *more: object) -> None:
        if len(points):
            self.session.time = float(self.time[self._dots[points[0].index()]])

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.look = palette
        self.graphics.setBackground(palette.background)
        dress(self.plot, palette)
        self.bar.axis.setTextPen(pg.mkPen(palette.foreground))
        self.bar.axis.setPen(pg.mkPen(palette.faint))
        self.bar.axis.label.setDefaultTextColor(pg.mkColor(palette.foreground))
        self.again()

    def table(self) -> dict[str, np.ndarray]:
        """Give the pairs."""
        if not len(self.time):
            return {}
        return {"time (s)": self.time, self.x_box.currentText(): self.across, self.y_box.currentText(): self.up}

    def close_panel(self) -> None:
        """Hear of nothing any more."""
        self.session.time_changed.disconnect(self._moved, missing_ok=True)
        self.session.selection_changed.disconnect(self.refresh, missing_ok=True)
