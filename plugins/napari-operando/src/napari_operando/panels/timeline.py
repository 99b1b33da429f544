"""The timeline: strips and waterfalls above each other on one true axis of time, and above them what stands at the cursor."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QAction, QActionGroup, QKeyEvent
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QMenu, QToolButton, QVBoxLayout, QWidget

from napari_operando.panels.plots import RIGHT, TextLine, refill
from napari_operando.panels.rows import FractionsRow, RecordRow, Row, TracesRow, WaterfallRow
from napari_operando.pyramid import Level
from napari_operando.reading import Cell, Trace
from napari_operando.session import Session
from napari_operando.theme import COLOURMAPS, Palette
from napari_operando.work import Work

MOST_ROWS = 6
"""Waterfalls shown at first; all others stand in the menu."""

_QUICK = 600_000
"""Values that are read and averaged without leaving the window's thread."""


_SECOND: tuple[str, ...] = ("current", "charge", "soc", "potential_we", "potential_ce")
"""What can stand right of the voltage."""

_TOLD = 12_000
"""Milliseconds for which a message stands."""


class Note(QLabel):
    """What is told below the strips; a click takes it away."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)

    def mousePressEvent(self, event: object) -> None:
        """Go away."""
        self.clicked.emit()


class Moment(QLineEdit):
    """Where a moment is written; Escape leaves it."""

    left = Signal()

    def event(self, event: QEvent) -> bool:
        """Take Escape before napari does."""
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave on Escape."""
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)


class Timeline(QWidget):
    """The strips of one cell.

    Parameters
    ----------
    session, cell, palette, work
        What is looked at, of what, in which colours, and who runs what takes long.
    cells
        Names of all cells.
    """

    cell_chosen = Signal(str)
    position_chosen = Signal(object)
    export_wanted = Signal()
    images_wanted = Signal()
    again_wanted = Signal()

    def __init__(self, session: Session, cell: Cell, palette: Palette, work: Work, cells: list[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell, self.look, self.work = session, cell, palette, work
        self.rows: list[Row] = []
        self.second = "current"
        self._closed = False
        self._due: set[int] | None = None  # views to be drawn anew; None for all
        self.readout = TextLine(points=9.0)
        self.frames = TextLine(points=8.5)
        self.note = Note()
        self.note.clicked.connect(lambda: self.say(""))
        self._said, self._wrong = "", False
        self._silence = QTimer(self)
        self._silence.setSingleShot(True)
        self._silence.setInterval(_TOLD)
        self._silence.timeout.connect(lambda: self.say(""))
        self.cells = QComboBox()
        self.cells.addItems(cells)
        self.cells.setCurrentText(cell.name)
        self.cells.setToolTip("Cell")
        self.cells.currentTextChanged.connect(self.cell_chosen)
        self.positions = QComboBox()
        self.positions.setToolTip("Spot on the cell, where frames of several are interleaved")
        self.positions.currentIndexChanged.connect(self._position)
        self.active = QComboBox()
        self.active.setToolTip("Active series: Left and Right step through its frames, the spectrum panel shows it")
        self.active.setFixedWidth(130)
        self.active.currentTextChanged.connect(self._activate)
        self.goto = Moment()
        self.goto.setPlaceholderText("go to 7.25 h, cycle 2 ...")
        self.goto.setFixedWidth(160)
        self.goto.setToolTip("G. cycle 2, c1.5, 7.25 h, 90 min, 1:30:00, #120 (frame), 2026-06-03 10:00 (UTC)")
        self.goto.returnPressed.connect(self._go)
        self.goto.textEdited.connect(self._mend)
        self.goto.left.connect(self._leave)
        self.menu_button = QToolButton()
        self.menu_button.setText("Show  ")
        self.menu_button.setMinimumWidth(64)
        self.menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu = QMenu(self.menu_button)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.menu_button.setMenu(self.menu)
        self.graphics = pg.GraphicsLayoutWidget(parent=self)
        self.graphics.ci.layout.setContentsMargins(2, 0, 6, 0)
        self.graphics.ci.layout.setSpacing(0)
        self.graphics.setMinimumHeight(120)

        top = QHBoxLayout()
        top.setContentsMargins(6, 2, 6, 0)
        top.setSpacing(6)
        top.addWidget(self.readout, 1)
        for label, widget in (("cell", self.cells), ("spot", self.positions), ("active", self.active), ("", self.goto), ("", self.menu_button)):
            if label:
                top.addWidget(QLabel(label))
            top.addWidget(widget)
        second = QHBoxLayout()
        second.setContentsMargins(6, 0, 6, 0)
        second.addWidget(self.frames, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(top)
        layout.addLayout(second)
        layout.addWidget(self.graphics, 1)
        layout.addWidget(self.note)

        self._drawing = QTimer(self)
        self._drawing.setSingleShot(True)
        self._drawing.setInterval(0)
        self._drawing.timeout.connect(self._draw)
        session.time_changed.connect(self._moved)
        session.marks_changed.connect(self._marked)
        session.region_changed.connect(self._marked)
        session.selection_changed.connect(self._selected)
        self.show_cell(cell)

    # ------------------------------------------------------------------ rows

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self._name(cell)
        self.shown = self._offered = self._first_rows()
        self.clear()
        self._build()

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again: rows, their looks and zoom are kept; what is new in the store gets its row."""
        offered, line = self._offered, self._line
        low, high = self.rows[0].view.viewRange()[0] if self.rows else (line.begin, line.end)
        whole = low <= line.begin and high >= line.end
        shift = float((line.origin - cell.origin) / np.timedelta64(1, "ns")) / 1e9
        self._name(cell)
        self._offered = self._first_rows()
        self._show([*self.shown, *(key for key in self._offered if key not in offered and key not in self.shown)])
        if self.rows and not whole:
            self.rows[0].view.setXRange(low + shift, high + shift, padding=0)

    def _name(self, cell: Cell) -> None:
        """Fill the boxes with what a cell has."""
        self.cell = cell
        refill(self.positions, ["all", *map(str, cell.positions)])
        refill(self.active, list(cell.series))
        self.positions.setEnabled(len(cell.positions) > 1)
        self.cells.blockSignals(True)
        self.cells.setCurrentText(cell.name)
        self.cells.blockSignals(False)
        self._note()

    def name_cells(self, names: list[str]) -> None:
        """Say which cells there are."""
        refill(self.cells, names)

    def _show(self, keys: list[str]) -> None:
        """Show rows, in the order of the menu; those that were shown before keep their looks."""
        order = [k for k, _ in self.available()]
        self.shown = sorted(keys, key=lambda k: order.index(k) if k in order else len(order))
        self._build()

    def _first_rows(self) -> list[str]:
        """Choose the rows that are shown at first: records, one waterfall a series, fractions, resistances."""
        chosen = ["echem"] if self.cell.echem else []
        best: dict[str, str] = {}
        for key, one in self.cell.spectra.items():
            made = one.technique != "xrd" and one.product == "reduced"
            if one.name not in best or (made and ("/" not in best[one.name] or one.variable == "g_r")):
                best[one.name] = key
        chosen += [f"waterfall {key}" for key in list(best.values())[:MOST_ROWS]]
        chosen += [f"fractions {key}" for key in self.cell.fractions]
        chosen += ["resistances"] if self.resistances() else []
        return chosen

    def resistances(self) -> list[Trace]:
        """Give what impedance found that is a resistance of the circuit."""
        return [
            t
            for name, t in self.cell.traces.items()
            if t.units == "Ω" and name.endswith("_resistance") and t.errors is not None and "diffusion" not in name and "intercept" not in name
        ][:6]

    def available(self) -> list[tuple[str, str]]:
        """List every row there can be: key and words."""
        out = [("echem", "voltage and current")] if self.cell.echem else []
        out += [(f"waterfall {key}", f"{key}: {one.label}") for key, one in self.cell.spectra.items()]
        out += [(f"fractions {key}", f"{key}: phase fractions") for key in self.cell.fractions]
        out += [("resistances", "resistances")] if self.resistances() else []
        return out

    def _make(self, key: str) -> Row | None:
        kind, _, name = key.partition(" ")
        if kind == "echem":
            return RecordRow(self.cell, self.session, self.look, self.second)
        if kind == "waterfall" and name in self.cell.spectra:
            return WaterfallRow(self.cell.spectra[name], self.session, self.look, want=self._near)
        if kind == "fractions" and name in self.cell.fractions:
            return FractionsRow(name, self.cell.fractions[name], self.session, self.look)
        if kind == "resistances":
            return TracesRow("resistances", self.resistances(), self.cell, self.session, self.look)
        if kind == "trace" and name in self.cell.traces:
            return TracesRow(name, [self.cell.traces[name]], self.cell, self.session, self.look)
        return None

    def _build(self) -> None:
        """Make the rows that are to be shown."""
        before = {row.key: row for row in self.rows}
        self.clear()
        self._line = self.session.timeline
        self.rows = [row for row in (self._make(key) for key in self.shown) if row is not None]
        for i, row in enumerate(self.rows):
            self.graphics.addItem(row.plot, i, 0)
            if row.side is not None:
                self.graphics.addItem(row.side, i, 1)
            self.graphics.ci.layout.setRowStretchFactor(i, row.weight)
            self.graphics.ci.layout.setRowMinimumHeight(i, 30)
            if i:
                row.view.setXLink(self.rows[0].view)
            row.shows_time(i == len(self.rows) - 1)
            if isinstance(row, RecordRow):
                row.attach(self.graphics.scene())
            row.dress(self.look)
            if type(before.get(row.key)) is type(row):
                row.resemble(before[row.key])
            row.marked()
            row.moved(self.session.time)
            row.view.sigResized.connect(self._later)
            row.view.sigYRangeChanged.connect(self._row_later)
        layout = self.graphics.ci.layout
        layout.setColumnFixedWidth(1, RIGHT)
        layout.setColumnStretchFactor(0, 1)
        if self.rows:
            line = self.session.timeline
            self.rows[0].view.sigXRangeChanged.connect(self._later)
            self.rows[0].view.setLimits(xMin=line.begin - 0.2 * (line.end - line.begin), xMax=line.end + 0.2 * (line.end - line.begin))
            self.rows[0].view.setXRange(line.begin, line.end, padding=0.01)
        for row in self.rows:
            if isinstance(row, WaterfallRow):
                self._overview(row)
        self.dress(self.look)
        self._selected()
        self._later()

    def clear(self) -> None:
        """Let all rows go."""
        for row in self.rows:
            row.view.setXLink(None)
            if isinstance(row, RecordRow):
                row.other.setXLink(None)
                if row.other.scene() is not None:
                    row.other.scene().removeItem(row.other)
        self.graphics.clear()
        self.rows = []

    def _overview(self, row: WaterfallRow) -> None:
        pyramid = row.spectra.pyramid
        if pyramid.known is not None:
            row.give(pyramid.known)
        elif pyramid.frames * pyramid.points <= _QUICK:
            try:
                row.give(pyramid.overview())
            except Exception as error:  # one series that cannot be read leaves the others
                row.failed(str(error))
        else:
            row.title(f"{row.key}: reading ...")

            def done(level: Level) -> None:
                row.title(row.key)
                row.give(level)

            self.work.run(f"overview {row.key}", pyramid.overview, done, lambda error: row.failed(str(error)), what=f"{row.key}: overview")

    def _near(self, row: WaterfallRow, first: int, last: int) -> None:
        if row.near_frames is not None and row.near_frames[0] <= first and last <= row.near_frames[1]:
            return
        margin = min((last - first) // 2 + 16, max(0, (2048 - (last - first)) // 2))
        a, b = max(first - margin, 0), min(last + margin, len(row.spectra) - 1)
        self.work.run(
            f"near {row.key}",
            lambda: row.spectra.pyramid.detail(a, b),
            lambda level: row.give_near(level, a, b),
            lambda error: row.failed(str(error)),
            what=f"{row.key}: frames {a} to {b}",
        )

    # ------------------------------------------------------------------ the session speaks

    def _later(self, *_: object) -> None:
        self._due = None
        self._drawing.start()

    def _row_later(self, view: object, *_: object) -> None:
        if self._due is not None:
            self._due.add(id(view))
            self._drawing.start()

    def _draw(self) -> None:
        """Draw the rows whose view changed; all of them where time did."""
        due, self._due = self._due, set()
        if not self._closed:
            for row in self.rows:
                if due is None or id(row.view) in due:
                    row.refresh()

    def draw_now(self) -> None:
        """Draw what waits to be drawn."""
        if self._drawing.isActive():
            self._drawing.stop()
            self._draw()

    def _moved(self, time: float) -> None:
        for row in self.rows:
            row.moved(time)
        self._read_out()

    def _marked(self) -> None:
        for row in self.rows:
            row.marked()

    def _selected(self) -> None:
        self.active.blockSignals(True)
        self.active.setCurrentText(self.session.active)
        self.active.blockSignals(False)
        self._read_out()
        self._later()

    def select_position(self, position: int | None) -> None:
        """Show which spot is chosen."""
        self.positions.blockSignals(True)
        self.positions.setCurrentText("all" if position is None else str(position))
        self.positions.blockSignals(False)

    def _read_out(self) -> None:
        """Say what stands at the cursor: time, cycle, voltage, and for each series its frame and how old it is."""
        session, line, p = self.session, self.session.timeline, self.look
        at = self.cell.at(session.time)
        moment = str(line.moment(session.time).astype("datetime64[s]")).replace("T", " ")
        words = [f"<b>t = {session.time / 3600:.4f} h</b>", f"{moment} UTC"]
        if np.isfinite(at.get("cycle", np.nan)):
            way = {1: "charge", -1: "discharge", 0: "rest"}.get(int(at["direction"])) if np.isfinite(at.get("direction", np.nan)) else None
            words.append(f"cycle {int(at['cycle'])}" + (f" {way}" if way else ""))
        for name, symbol in (("voltage", "U"), ("current", "I"), ("soc", "soc")):
            if name in self.cell.echem:
                words.append(f"{symbol} = {read_out(self.cell.echem[name], at.get(name, np.nan))}")
        self.readout.setText("  ".join(words))
        chips = []
        for key, times in line.frames.items():
            if key in self.cell.spectra and key.partition("/")[0] in self.cell.spectra and "/" in key and key != session.active:
                continue  # what was made of a series has its frames
            shown = times.at(session.time)
            said = "" if shown.gap else self.cell.series[key].flags(shown.index)
            text = f"{html.escape(key)} #{shown.index} {shown.distance} {said}".rstrip()
            if shown.gap:
                text = f"<s>{html.escape(key)}</s> –"
            colour = p.faint if shown.gap or shown.stale else p.lines[1] if said else p.foreground
            text = f"<b>{text}</b>" if key == session.active else text
            chips.append(f"<span style='color:{colour}'>{text}</span>")
        self.frames.setText("  ·  ".join(chips))

    # ------------------------------------------------------------------ the user speaks

    def _go(self) -> None:
        try:
            self.session.go_to(self.goto.text())
        except ValueError as error:
            self.goto.setStyleSheet("border: 1px solid #d04040")
            self.say(str(error), wrong=True)
            return
        self._leave()

    def _mend(self, *_: object) -> None:
        """Take back what was said of a moment that is being written anew."""
        if self.goto.styleSheet():
            self.goto.setStyleSheet("")
            self.say("")

    def _leave(self) -> None:
        """Give the keys back to the strips."""
        self._mend()
        self.goto.clear()
        self.graphics.setFocus()

    def say(self, message: str, *, wrong: bool = False) -> None:
        """Tell something below the strips: for a while, or, where it went wrong, until something else is told or it is clicked away."""
        self._said, self._wrong = message, wrong
        self._silence.stop()
        if message and not wrong:
            self._silence.start()
        self._note()

    def _note(self) -> None:
        """Write what is told; else what the store lacks."""
        standing = [f"Damaged, see Frames: {', '.join(self.cell.damaged)}"] if self.cell.damaged else []
        standing += [f"Not in this store: {'; '.join(self.cell.missing)}"] if self.cell.missing else []
        self.note.setText(self._said or "; ".join(standing))
        self.note.setVisible(bool(self._said or standing))
        edge = "#d04040" if self._wrong else self.look.mean
        loud = f"color: {self.look.foreground}; font-size: 10pt; font-weight: bold; border-left: 5px solid {edge}; padding: 3px 8px"
        self.note.setStyleSheet(loud if self._said else f"color: {self.look.faint}; font-size: 9pt; padding: 0 6px 2px 6px")

    def _activate(self, key: str) -> None:
        self.session.active = key

    def _position(self, _: int) -> None:
        text = self.positions.currentText()
        self.position_chosen.emit(None if text in ("", "all") else int(text))

    def toggle(self, key: str, on: bool) -> None:
        """Show a row, or hide it; a row keeps the place it has in the menu."""
        low, high = self.rows[0].view.viewRange()[0] if self.rows else (None, None)
        self._show([k for k in self.shown if k != key] + [key] * on)
        if low is not None and self.rows:
            self.rows[0].view.setXRange(low, high, padding=0)

    def _fill_menu(self) -> None:
        self.menu.clear()
        for key, words in self.available():
            self._checked(self.menu, words, key in self.shown, partial(self.toggle, key))
        groups: dict[str, QMenu] = {}
        self.menu.addSeparator()
        for name, trace in self.cell.traces.items():
            series, _, short = name.partition("/")
            if series not in groups:
                groups[series] = self.menu.addMenu(f"observables of {series}")
            key = f"trace {name}"
            self._checked(groups[series], f"{short}: {trace.axis}"[:90], key in self.shown, partial(self.toggle, key))
        self.menu.addSeparator()
        if self.cell.echem:
            names = [n for n in _SECOND if n in self.cell.echem]
            self._one_of("right of the voltage", names, self.second, self._show_second)
        waterfalls = [r for r in self.rows if isinstance(r, WaterfallRow)]
        if waterfalls:
            self._one_of("colours", list(COLOURMAPS), waterfalls[0].colours, lambda c: self._paint(colours=c))
            self._one_of("shades", ["linear", "square root", "logarithm"], waterfalls[0].scale, lambda c: self._paint(scale=c))
        self.menu.addSeparator()
        self.menu.addAction("Export what is shown ... (E)", self.export_wanted.emit)
        self.menu.addAction("Find images ...", self.images_wanted.emit)
        self.menu.addAction("Read the store again (F5)", self.again_wanted.emit)

    def _paint(self, **look: str) -> None:
        for row in self.rows:
            if isinstance(row, WaterfallRow):
                row.paint(**look)

    def _checked(self, menu: QMenu, words: str, on: bool, call: Callable[[bool], None]) -> None:
        action = QAction(words, menu, checkable=True)
        action.setChecked(on)
        action.triggered.connect(call)
        menu.addAction(action)

    def _one_of(self, title: str, names: list[str], now: str, call: Callable[[str], object]) -> None:
        menu = self.menu.addMenu(title)
        group = QActionGroup(menu)
        for name in names:
            action = QAction(name, menu, checkable=True)
            action.setChecked(name == now)
            action.triggered.connect(lambda _=False, name=name: call(name))
            group.addAction(action)
            menu.addAction(action)

    def _show_second(self, name: str) -> None:
        self.second = name
        for row in self.rows:
            if isinstance(row, RecordRow):
                row.show_second(name)

    # ------------------------------------------------------------------ dress and end

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.look = palette
        self.graphics.setBackground(palette.background)
        for row in self.rows:
            row.dress(palette)
        self._note()
        self._read_out()
        self._later()

    def close_panel(self) -> None:
        """Hear of nothing any more."""
        self._closed = True
        self._drawing.stop()
        for signal, slot in (
            (self.session.time_changed, self._moved),
            (self.session.marks_changed, self._marked),
            (self.session.region_changed, self._marked),
            (self.session.selection_changed, self._selected),
        ):
            signal.disconnect(slot, missing_ok=True)
        self.clear()


def read_out(trace: Trace, value: float) -> str:
    """Write a number of a record with as many decimals as its largest number has to four digits, so that noise around 0 is 0.

    Examples
    --------
    >>> soc = Trace("echem/soc", "state of charge", "1", np.zeros(2), np.array([0.0, 1.0]))
    >>> read_out(soc, -8e-10), read_out(soc, 0.51234), read_out(soc, np.nan)
    ('0.000', '0.512', '–')
    """
    if not np.isfinite(value):
        return "–"
    decimals = int(np.clip(3 - np.floor(np.log10(trace.largest)), 0, 9)) if trace.largest > 0 else 3
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if not float(text) else text
    return text if trace.units == "1" else f"{text} {trace.units}"
