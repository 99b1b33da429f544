"""The impedance sweep at the cursor and at the events: Nyquist, Bode, and relaxation times where the store has them."""

from __future__ import annotations

import html

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_operando.panels.plots import DecadesAxis, Fitted, Panel, TextLine, axis_label, dress, finite_range, refill
from napari_operando.reading import Cell
from napari_operando.session import Session
from napari_operando.sweeps import Sweep, Sweeps
from napari_operando.theme import Palette


class ImpedancePanel(Panel):
    """Sweeps as measured (dots) and as fitted (lines)."""

    title = "Impedance"

    def __init__(self, session: Session, cell: Cell, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell = session, cell
        self.series, self.electrode = QComboBox(), QComboBox()
        self.says = TextLine(points=8.5)
        self.graphics = pg.GraphicsLayoutWidget(parent=self)
        decades = DecadesAxis
        add = self.graphics.addPlot
        self.plots: dict[str, pg.PlotItem] = {
            "nyquist": add(0, 0, colspan=2, viewBox=Fitted(square=True)),
            "bode": add(1, 0, viewBox=Fitted(), axisItems={"bottom": decades("bottom"), "left": decades("left")}),
            "phase": add(1, 1, viewBox=Fitted(), axisItems={"bottom": decades("bottom")}),
            "drt": add(2, 0, colspan=2, viewBox=Fitted(), axisItems={"bottom": decades("bottom")}),
        }
        for key, x, y in (
            ("nyquist", "Re Z (Ω)", "-Im Z (Ω)"),
            ("bode", "frequency (Hz)", "|Z| (Ω)"),
            ("phase", "frequency (Hz)", "-phase (°)"),
            ("drt", "relaxation time (s)", "DRT (Ω)"),
        ):
            plot = self.plots[key]
            plot.setMenuEnabled(False)
            plot.hideButtons()
            plot.getAxis("left").setWidth(46)
            axis_label(plot.getAxis("left"), y)
            axis_label(plot.getAxis("bottom"), x)
        for i, share in enumerate((5, 3, 3)):
            self.graphics.ci.layout.setRowStretchFactor(i, share)
        self.points: dict[tuple[str, str], pg.ScatterPlotItem] = {}
        self.lines: dict[tuple[str, str], pg.PlotCurveItem] = {}
        for name in ("A", "B", "cursor"):
            for key, plot in self.plots.items():
                self.lines[name, key] = pg.PlotCurveItem(connect="finite")
                plot.addItem(self.lines[name, key])
                if key != "drt":
                    self.points[name, key] = pg.ScatterPlotItem(size=5, pen=None)
                    plot.addItem(self.points[name, key])
        self.band = (pg.PlotCurveItem(), pg.PlotCurveItem())
        self.fill = pg.FillBetweenItem(*self.band)
        self.plots["drt"].addItem(self.fill)
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
        self.electrode.currentTextChanged.connect(self.again)
        self.shown: dict[str, tuple[int, Sweep]] = {}
        self._given: dict[str, object] = {}
        self._anew = True
        for signal in (session.time_changed, session.marks_changed, session.selection_changed):
            signal.connect(self.refresh)
        self.look = palette
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

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again: series, electrode and zoom are kept."""
        if not self.cell.sweeps or self.series.currentText() not in cell.sweeps:
            self.show_cell(cell)
            return
        self.cell, self._given = cell, {}
        refill(self.series, list(cell.sweeps))
        self.series.setVisible(len(cell.sweeps) > 1)
        refill(self.electrode, cell.sweeps[self.series.currentText()].electrodes)
        self.plots["drt"].setVisible(cell.sweeps[self.series.currentText()].has_drt)
        self.again()

    def _chosen(self, *_: object) -> None:
        one = self.sweeps
        self.electrode.blockSignals(True)
        self.electrode.clear()
        self.electrode.addItems(one.electrodes if one else [])
        self.electrode.blockSignals(False)
        self.electrode.setVisible(bool(one and len(one.electrodes) > 1))
        self.plots["drt"].setVisible(bool(one and one.has_drt))
        self._anew = True
        self.again()

    def draw(self) -> None:
        """Draw, if something else is to be seen."""
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
            said.append(
                f"sweep #{index}, {one.begin[index] / 3600:.3f} to {one.end[index] / 3600:.3f} h" + (f"; {sweep.notes}" if sweep.notes else "")
            )
            if not len(sweep.frequency):
                said.append("no point in it")
        p = self.look
        marked = [f"<span style='color:{c}'>●</span> {n} #{self.shown[n][0]}" for n, c in (("A", p.first), ("B", p.second)) if n in self.shown]
        self.says.setText("   ".join([html.escape("; ".join(said)), *marked]))
        self._draw({k: f.stale for k, f in frames.items()})

    def _draw(self, stale: dict[str, bool]) -> None:
        """Draw the sweeps that are not drawn yet, each in its colour."""
        p = self.look
        for name, colour in (("A", p.first), ("B", p.second), ("cursor", p.faint if stale.get("cursor") else p.cursor)):
            sweep = self.shown.get(name, (-1, None))[1]
            wanted = (id(sweep) if sweep is not None else None, colour)
            if self._given.get(name) == wanted and not self._anew:
                continue
            self._given[name] = wanted
            nothing = (np.empty(0), np.empty(0))
            data: dict[str, tuple[np.ndarray, np.ndarray]] = dict.fromkeys(self.plots, nothing)
            fits = dict(data)
            if sweep is not None and len(sweep.frequency):
                data |= curves(sweep.frequency, sweep.impedance)
                if sweep.fit is not None:
                    fits |= curves(sweep.frequency, sweep.fit)
                if sweep.tau is not None and sweep.drt is not None:
                    fits["drt"] = (np.log10(sweep.tau), sweep.drt)
            for key in self.plots:
                self.lines[name, key].setData(*fits[key], pen=pg.mkPen(colour, width=1))
                if (name, key) in self.points:
                    self.points[name, key].setData(*data[key], brush=pg.mkBrush(colour))
        sweep = self.shown.get("cursor", (-1, None))[1]
        band: tuple[np.ndarray, ...] = ()
        if sweep is not None and sweep.tau is not None and sweep.low is not None and sweep.high is not None:
            band = np.log10(sweep.tau), sweep.low, sweep.high
        times, *ends = band or (np.empty(0),) * 3
        for curve, values in zip(self.band, ends, strict=True):
            curve.setData(times, values)
        self.fill.setVisible(bool(band))
        for key, plot in self.plots.items():
            drawn = [i.getData() for (_, k), i in (*self.lines.items(), *self.points.items()) if k == key]
            if key == "drt" and band:
                drawn.append((times, ends[1]))
            x, y = (finite_range(*(np.asarray(d[i]) for d in drawn if d[i] is not None and len(d[i]))) for i in (0, 1))
            plot.getViewBox().fit(x, y, anew=self._anew)
        self._anew = False

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.look = palette
        self.graphics.setBackground(palette.background)
        for plot in self.plots.values():
            dress(plot, palette)
        shade = pg.mkColor(palette.faint)
        shade.setAlpha(70)
        self.fill.setBrush(shade)
        self._given = {}
        self.again()

    def headed(self) -> tuple[pg.PlotItem, str]:
        """Name the sweeps and their colours."""
        return self.plots["nyquist"], self.says.text()

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


def curves(frequency: np.ndarray, z: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Give what each plot draws of an impedance; frequencies and moduli in decades."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(frequency)
        return {
            "nyquist": (z.real, -z.imag),
            "bode": (decades, np.log10(np.abs(z))),
            "phase": (decades, -np.degrees(np.angle(z))),
        }
