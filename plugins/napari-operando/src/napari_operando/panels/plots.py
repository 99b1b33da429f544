"""What all plots share: a time axis in hours, a view whose left button moves the cursor, and dress by palette."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetricsF, QKeySequence, QPainter, QShowEvent, QTextDocument
from qtpy.QtWidgets import QApplication, QComboBox, QShortcut, QSizePolicy, QWidget

from napari_operando.reading import Cell
from napari_operando.session import Session
from napari_operando.theme import Palette

LEFT, RIGHT = 58, 62
"""Widths of the axes left and right of every strip, equal so that all times stand above each other."""

_UNITS = ((1.0, "s", 120.0), (60.0, "min", 2 * 3600.0), (3600.0, "h", 10 * 86400.0), (86400.0, "d", np.inf))


class HoursAxis(pg.AxisItem):
    """Seconds, written as s, min, h or days by how much is shown."""

    def __init__(self, orientation: str = "bottom") -> None:
        super().__init__(orientation)
        self.enableAutoSIPrefix(False)
        self._unit = (3600.0, "h")

    def _chosen(self, low: float, high: float) -> tuple[float, str]:
        return next((size, name) for size, name, most in _UNITS if high - low <= most)

    def tickValues(self, minVal: float, maxVal: float, size: float) -> Any:
        """Place ticks at round numbers of the unit shown."""
        factor, name = self._chosen(minVal, maxVal)
        if (factor, name) != self._unit:
            self._unit = (factor, name)
            self.setLabel(self.text())
        found = super().tickValues(minVal / factor, maxVal / factor, size)
        return [(spacing * factor, [v * factor for v in values]) for spacing, values in found]

    def tickStrings(self, values: Any, scale: float, spacing: float) -> list[str]:
        """Write them in the unit shown."""
        factor = self._unit[0]
        return [str(s) for s in super().tickStrings([v / factor for v in values], scale, spacing / factor)]

    def text(self) -> str:
        """What stands beside the axis."""
        return f"time since the start ({self._unit[1]})"


class DecadesAxis(pg.AxisItem):
    """A logarithmic axis whose numbers do not run into each other: 1, 2, 5 of each decade, decades alone where there are many."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> Any:
        """Place ticks, in decades."""
        low, high = min(minVal, maxVal), max(minVal, maxVal)
        room = max(int(size / (22 if self.orientation in ("left", "right") else 44)), 2)
        decades = np.arange(np.floor(low), np.ceil(high) + 1)
        every = max(1, int(np.ceil(len(decades) / room)))
        steps = (1.0, 2.0, 5.0) if len(decades) * 3 <= room + 2 else (1.0, 3.0) if len(decades) * 2 <= room + 1 else (1.0,)
        major = [float(d + np.log10(s)) for d in decades for s in steps if len(steps) > 1 or round(d) % every == 0]
        minor = [float(d + np.log10(s)) for d in decades for s in range(2, 10)] if len(decades) < 12 else []
        return [(1.0, [v for v in major if low <= v <= high]), (None, [v for v in minor if low <= v <= high and v not in major])]

    def tickStrings(self, values: Any, scale: float, spacing: float | None) -> list[str]:
        """Write the numbers; none at the small ticks."""
        if spacing is None:
            return [""] * len(values)
        return [f"{float(f'{10.0**v:.2g}'):g}" if -3.01 < v < 4.01 else _power(v) for v in values]


def _power(decade: float) -> str:
    """Write 10 to a power, and 2 or 5 times that."""
    whole = int(np.floor(decade + 1e-9))
    front = round(10 ** (decade - whole))
    raised = str(whole).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if front == 1 else f"{front}·10{raised}"


class TimeView(pg.ViewBox):
    """Left button: the cursor; with Shift: a region; middle button: pan; right button and wheel: zoom (the wheel with Ctrl zooms the other axis)."""

    def __init__(self, session: Session) -> None:
        super().__init__(enableMenu=False)
        self.session = session
        self.setMouseEnabled(x=True, y=True)
        self.zoomed = False
        """Somebody zoomed or moved the other axis than time."""
        self.sigRangeChangedManually.connect(self._by_hand)

    def _by_hand(self, axes: Sequence[bool]) -> None:
        self.zoomed |= bool(axes[1])

    def _time(self, event: Any, position: Any = None) -> float:
        return float(self.mapSceneToView(event.scenePos() if position is None else position).x())

    def mouseClickEvent(self, event: Any) -> None:
        """Put the cursor there; a double click shows everything."""
        if event.button() == Qt.MouseButton.LeftButton:
            event.accept()
            if event.double():
                self.setXRange(self.session.timeline.begin, self.session.timeline.end, padding=0.01)
            else:
                self.session.time = self._time(event)

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Move the cursor, or select a region."""
        if event.button() != Qt.MouseButton.LeftButton or axis is not None:
            super().mouseDragEvent(event, axis=axis)
            return
        event.accept()
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.session.select(self._time(event, event.buttonDownScenePos()), self._time(event))
        else:
            self.session.time = self._time(event)

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:
        """Zoom time; with Ctrl the other axis."""
        across = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        super().wheelEvent(event, axis=axis if axis is not None else int(across))


class Fitted(pg.ViewBox):
    """A view that follows what is drawn until somebody zooms; a double click makes it follow again.

    pyqtgraph's own way fits while it paints and then paints again; every painting of a window with OpenGL in it composes all of it.
    """

    def __init__(self, *, square: bool = False) -> None:
        super().__init__(enableMenu=False)
        self.disableAutoRange()
        self.setAspectLocked(square)
        self.square, self.following = square, True
        self._wanted: list[tuple[float, float] | None] = [None, None]
        self.sigRangeChangedManually.connect(self._held)

    def _held(self, *_: object) -> None:
        self.following = False

    def fit(self, x: tuple[float, float] | None, y: tuple[float, float] | None, *, anew: bool = False) -> None:
        """Show these ranges. They are kept while what is drawn still fits and fills most of them, so that little is painted.

        Parameters
        ----------
        x, y
            From where to where; None leaves it.
        anew
            Whatever is shown and whoever zoomed.
        """
        self._wanted = [x or self._wanted[0], y or self._wanted[1]]
        self.following |= anew
        if self.following:
            shown = self.viewRange()
            changed = [w for w, s in zip(self._wanted, shown, strict=True) if w is not None and (anew or not self._fits(w, s))]
            if changed:
                (x0, x1), (y0, y1) = (w or tuple(s) for w, s in zip(self._wanted, shown, strict=True))
                self.setRange(xRange=(x0, x1), yRange=(y0, y1), padding=0)

    @staticmethod
    def _fits(wanted: tuple[float, float], shown: list[float]) -> bool:
        slack = 0.05 * (wanted[1] - wanted[0])
        inside = shown[0] <= wanted[0] + slack and wanted[1] - slack <= shown[1]
        return inside and (wanted[1] - wanted[0]) > 0.6 * (shown[1] - shown[0])

    def mouseClickEvent(self, event: Any) -> None:
        """Follow again on a double click."""
        if event.double() and event.button() == Qt.MouseButton.LeftButton:
            event.accept()
            self.fit(None, None, anew=True)


class TextLine(QWidget):
    """One line of rich text. A QLabel lays the whole window out anew whenever its text changes; this one only paints itself."""

    def __init__(self, parent: QWidget | None = None, *, points: float = 9.0) -> None:
        super().__init__(parent)
        self._document = QTextDocument(self)
        self._document.setDocumentMargin(0)
        font = QApplication.font()
        font.setPointSizeF(points)
        self._document.setDefaultFont(font)
        self._text, self._colour = "", ""
        self.setFixedHeight(int(QFontMetricsF(font).height()) + 4)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(40)

    def text(self) -> str:
        """What stands there, with its marks."""
        return self._text

    def setText(self, text: str) -> None:
        """Show another text."""
        if text != self._text:
            self._text = text
            self._lay_out()
            self.setToolTip(text if self._document.idealWidth() > self.width() else "")
            self.update()

    def _lay_out(self) -> None:
        """Lay the text out in the colour that the palette has now."""
        self._colour = self.palette().windowText().color().name()
        self._document.setHtml(f"<div style='white-space: pre; color: {self._colour}'>{self._text}</div>")

    def paintEvent(self, event: Any) -> None:
        """Paint the text, in the theme's colour: the widget may have been docked, or the theme changed, since it was set."""
        if self.palette().windowText().color().name() != self._colour:
            self._lay_out()
        painter = QPainter(self)
        painter.translate(0, 2)
        self._document.drawContents(painter)
        painter.end()


class Panel(QWidget):
    """A panel that draws only while it can be seen, and catches up when it is shown."""

    _drawn: object = None
    """What is drawn: where the same is wanted again, `draw` may leave it."""

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what happened while it was hidden."""
        super().showEvent(event)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Draw, if it can be seen."""
        if self.isVisible():
            self.draw()

    def again(self, *_: object) -> None:
        """Draw anew, whatever is drawn."""
        self._drawn = None
        self.refresh()

    def draw(self) -> None:
        """Draw the session's moment."""
        raise NotImplementedError

    def headed(self) -> tuple[pg.PlotItem, str] | None:
        """Give the plot that what stands above the plots belongs over where they are exported alone, and its text."""
        return None

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        raise NotImplementedError

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again: what was chosen and how far it was zoomed is kept."""
        self.show_cell(cell)


def refill(box: QComboBox, names: Sequence[str]) -> None:
    """Give a box other names; what is chosen stays chosen if it is among them. Nobody is told."""
    before = box.currentText()
    box.blockSignals(True)
    box.clear()
    box.addItems(list(names))
    if before in names:
        box.setCurrentText(before)
    box.blockSignals(False)


def dress(plot: pg.PlotItem, palette: Palette) -> None:
    """Give axes and titles the palette's colours."""
    for name in ("left", "bottom", "right", "top"):
        axis = plot.getAxis(name)
        axis.setPen(pg.mkPen(palette.faint))
        axis.setTextPen(pg.mkPen(palette.foreground))
        axis.setStyle(tickTextOffset=3)
        font = QApplication.font()
        font.setPointSizeF(8.0)
        axis.setTickFont(font)
        axis.label.setDefaultTextColor(pg.mkColor(palette.foreground))


def axis_label(axis: pg.AxisItem, text: str) -> None:
    """Put a label on an axis, without the prefixes that pyqtgraph would invent."""
    axis.enableAutoSIPrefix(False)
    axis.setLabel(text, **{"font-size": "8pt"})


def finite_range(*arrays: np.ndarray | None, margin: float = 0.06) -> tuple[float, float] | None:
    """Give a range that holds every finite number, or None without any."""
    low, high = np.inf, -np.inf
    for values in arrays:
        if values is not None and len(values):
            good = values[np.isfinite(values)]
            if len(good):
                low, high = min(low, float(good.min())), max(high, float(good.max()))
    if not np.isfinite(low):
        return None
    width = (high - low) or abs(high) * 0.1 or 1.0
    return low - margin * width, high + margin * width


def shortcuts(widget: QWidget, actions: dict[str, Callable[[], None]]) -> list[QShortcut]:
    """Make keys work wherever the focus is in a widget; where text is typed, Qt keeps them for the text."""
    made = []
    for key, action in actions.items():
        one = QShortcut(QKeySequence(key), widget)
        one.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        one.activated.connect(action)
        made.append(one)
    return made
