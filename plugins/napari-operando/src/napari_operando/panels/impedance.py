"""The impedance sweep at the cursor and at the events: Nyquist, Bode, and relaxation times where the store has them."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_operando.panels.plots import DecadesAxis, axis_label, dress
from napari_operando.reading import Cell
from napari_operando.session import Session
from napari_operando.sweeps import Sweep, Sweeps
from napari_operando.theme import Palette


class ImpedancePanel(QWidget):
    """Sweeps as measured (dots) and as fitted (lines)."""

    title = "Impedance"

    def __init__(self, session: Session, cell: Cell, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell = session, cell
        self.series, self.electrode = QComboBox(), QComboBox()
        self.says = QLabel()
        self.says.setWordWrap(True)
        self.graphics = pg.GraphicsLayoutWidget(parent=self)
        self.nyquist = self.graphics.addPlot(0, 0, colspan=2)
        self.bode = self.graphics.addPlot(1, 0, axisItems={"bottom": DecadesAxis("bottom"), "left": DecadesAxis("left")})
        self.phase = self.graphics.addPlot(1, 1, axisItems={"bottom": DecadesAxis("bottom")})
        self.drt = self.graphics.addPlot(2, 0, colspan=2, axisItems={"bottom": DecadesAxis("bottom")})
        self.plots = {"nyquist": self.nyquist, "bode": self.bode, "phase": self.phase, "drt": self.drt}
        self.nyquist.setAspectLocked(True)
        self.phase.setXLink(self.bode)
        self.bode.setLogMode(x=True, y=True)
        self.phase.setLogMode(x=True)
        self.drt.setLogMode(x=True)
        for plot, x, y in (
            (self.nyquist, "Re Z (Ω)", "-Im Z (Ω)"),
            (self.bode, "frequency (Hz)", "|Z| (Ω)"),
            (self.phase, "frequency (Hz)", "-phase (°)"),
            (self.drt, "relaxation time (s)", "DRT (Ω)"),
        ):
            plot.setMenuEnabled(False)
            plot.getAxis("left").setWidth(46)
            axis_label(plot.getAxis("left"), y)
            axis_label(plot.getAxis("bottom"), x)
        for i, share in enumerate((5, 3, 3)):
            self.graphics.ci.layout.setRowStretchFactor(i, share)
        self.legend = self.nyquist.addLegend(offset=(-8, 6), verSpacing=-4)
        self.points: dict[tuple[str, str], pg.PlotDataItem] = {}
        self.lines: dict[tuple[str, str], pg.PlotDataItem] = {}
        self.bands: dict[str, tuple[pg.PlotDataItem, pg.PlotDataItem, pg.FillBetweenItem]] = {}
        for name in ("A", "B", "cursor"):
            for key, plot in self.plots.items():
                self.lines[name, key] = plot.plot([], [], connect="finite")
                if key != "drt":
                    self.points[name, key] = plot.plot([], [], pen=None, symbol="o", symbolSize=5, symbolPen=None)
        low, high = self.drt.plot([], [], pen=None), self.drt.plot([], [], pen=None)
        fill = pg.FillBetweenItem(low, high)
        self.drt.addItem(fill)
        self.band = (low, high, fill)
        top = QHBoxLayout()
        top.setContentsMargins(6, 4, 6, 0)
        top.addWidget(self.says, 1)
        top.addWidget(self.series)
        top.addWidget(self.electrode)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.graphics, 1)
        self.series.currentTextChanged.connect(self._chosen)
        self.electrode.currentTextChanged.connect(self._again)
        self.shown: dict[str, tuple[int, Sweep]] = {}
        self._drawn: object = None
        for signal in (session.time_changed, session.marks_changed, session.selection_changed):
            signal.connect(self.refresh)
        self.palette = palette
        self.show_cell(cell)
        self.dress(palette)

    @property
    def sweeps(self) -> Sweeps | None:
        """What is shown."""
        return self.cell.sweeps.get(self.series.currentText())

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self.cell = cell
        self.series.blockSignals(True)
        self.series.clear()
        self.series.addItems(list(cell.sweeps))
        self.series.blockSignals(False)
        self.series.setVisible(len(cell.sweeps) > 1)
        self._chosen()

    def _chosen(self, *_: object) -> None:
        one = self.sweeps
        self.electrode.blockSignals(True)
        self.electrode.clear()
        self.electrode.addItems(one.electrodes if one else [])
        self.electrode.blockSignals(False)
        self.electrode.setVisible(bool(one and len(one.electrodes) > 1))
        self.drt.setVisible(bool(one and one.has_drt))
        self._again()

    def _again(self, *_: object) -> None:
        self._drawn = None
        self.refresh()

    def showEvent(self, event: object) -> None:
        """Draw what happened while it was hidden."""
        super().showEvent(event)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Draw, if it can be seen and something else is to be seen."""
        if not self.isVisible():
            return
        one = self.sweeps
        if one is None:
            self.says.setText("This store holds no impedance sweeps.")
            self.shown = {}
            self._draw({})
            return
        times = self.session.timeline.frames[one.name]
        frames = {"cursor": times.at(self.session.time)} | {name: times.at(at) for name, at in self.session.marks.items()}
        wanted = (one.name, self.electrode.currentText(), {k: (f.index, f.stale) for k, f in frames.items()})
        if wanted == self._drawn:
            return
        self._drawn = wanted
        self.shown, said = {}, []
        for name, frame in frames.items():
            if not frame.gap:
                try:
                    self.shown[name] = (frame.index, one.sweep(frame.index, self.electrode.currentText()))
                except Exception as error:  # one sweep that cannot be read leaves the others
                    said.append(f"sweep {frame.index} cannot be read: {str(error).splitlines()[0]}")
        if frames["cursor"].gap:
            said.append("no sweep at the cursor")
        elif "cursor" in self.shown:
            index, sweep = self.shown["cursor"]
            said.append(f"sweep #{index}, {one.begin[index] / 3600:.3f} to {one.end[index] / 3600:.3f} h" + (f"; {sweep.notes}" if sweep.notes else ""))
            if not len(sweep.frequency):
                said.append("no point in it")
        self.says.setText("; ".join(said))
        self._draw({k: f.stale for k, f in frames.items()})

    def _draw(self, stale: dict[str, bool]) -> None:
        p = self.palette
        self.legend.clear()
        for name, colour in (("A", p.first), ("B", p.second), ("cursor", p.faint if stale.get("cursor") else p.cursor)):
            index, sweep = self.shown.get(name, (-1, None))
            empty = np.empty(0)
            data: dict[str, tuple[np.ndarray, np.ndarray]] = dict.fromkeys(self.plots, (empty, empty))
            fits = dict(data)
            if sweep is not None and len(sweep.frequency):
                data |= _curves(sweep.frequency, sweep.impedance)
                if sweep.fit is not None:
                    fits |= _curves(sweep.frequency, sweep.fit)
                if sweep.tau is not None and sweep.drt is not None:
                    fits["drt"] = (sweep.tau, sweep.drt)
            for key in self.plots:
                self.lines[name, key].setData(*fits[key])
                self.lines[name, key].setPen(pg.mkPen(colour, width=1.2))
                if (name, key) in self.points:
                    self.points[name, key].setSymbolBrush(pg.mkBrush(colour))
                    self.points[name, key].setData(*data[key])
            if sweep is not None:
                self.legend.addItem(self.points[name, "nyquist"], f"{'' if name == 'cursor' else name + '  '}#{index}")
        cursor = self.shown.get("cursor", (-1, None))[1]
        low, high, fill = self.band
        known = cursor is not None and cursor.tau is not None and cursor.low is not None and cursor.high is not None
        low.setData(cursor.tau if known else [], cursor.low if known else [])  # type: ignore[union-attr]
        high.setData(cursor.tau if known else [], cursor.high if known else [])  # type: ignore[union-attr]
        shade = pg.mkColor(p.faint)
        shade.setAlpha(70)
        fill.setBrush(shade)
        fill.setVisible(known)
        self.legend.setLabelTextColor(p.foreground)

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.palette = palette
        self.graphics.setBackground(palette.background)
        for plot in self.plots.values():
            dress(plot, palette, grid=True)
        self._again()

    def table(self) -> dict[str, np.ndarray]:
        """Give what is drawn as columns; each sweep has its own frequencies."""
        out: dict[str, np.ndarray] = {}
        for name, (index, sweep) in self.shown.items():
            words = f"{name} sweep {index}"
            out[f"{words} frequency (Hz)"] = sweep.frequency
            out[f"{words} Re Z (ohm)"], out[f"{words} Im Z (ohm)"] = sweep.impedance.real, sweep.impedance.imag
            if sweep.fit is not None:
                out[f"{words} fit Re Z (ohm)"], out[f"{words} fit Im Z (ohm)"] = sweep.fit.real, sweep.fit.imag
            if sweep.tau is not None and sweep.drt is not None:
                out[f"{words} tau (s)"], out[f"{words} DRT (ohm)"] = sweep.tau, sweep.drt
        return out

    def close_panel(self) -> None:
        """Hear of nothing any more."""
        for signal in (self.session.time_changed, self.session.marks_changed, self.session.selection_changed):
            signal.disconnect(self.refresh, missing_ok=True)


def _curves(frequency: np.ndarray, z: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        "nyquist": (z.real, -z.imag),
        "bode": (frequency, np.abs(z)),
        "phase": (frequency, -np.degrees(np.angle(z))),
    }
