"""A table of what is shown at the cursor: series, frame, age; how old a frame may be; and what went wrong."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QTextCursor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QPlainTextEdit, QPushButton, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_operando.panels.plots import Panel
from napari_operando.reading import Cell
from napari_operando.session import Session
from napari_operando.theme import Palette

_COLUMNS = ("series", "frame", "age", "shown up to (s)")
_MOST = 200


class FramesPanel(Panel):
    """Frames at the cursor. The last column can be edited: seconds outside its exposure up to which a frame is shown."""

    title = "Frames"
    ages_changed = Signal()
    find_images = Signal()

    def __init__(self, session: Session, cell: Cell, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.cell, self.look = session, cell, palette
        self.table_widget = QTableWidget(0, len(_COLUMNS), self)
        self.table_widget.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table_widget.verticalHeader().setVisible(False)
        self.table_widget.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table_widget.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table_widget.cellChanged.connect(self._edited)
        self._wrong: dict[str, str] = {}
        self.problems = QPlainTextEdit(self)
        self.problems.setReadOnly(True)
        self.problems.setPlaceholderText("Nothing went wrong.")
        self.find_button = QPushButton("Find images ...")
        self.find_button.setToolTip("Name a folder in which to look for image files that are not where the store says")
        self.find_button.clicked.connect(self.find_images)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(QLabel("At the cursor"))
        layout.addWidget(self.table_widget, 2)
        layout.addWidget(QLabel("What could not be shown"))
        layout.addWidget(self.problems, 1)
        layout.addWidget(self.find_button)
        session.time_changed.connect(self.refresh)
        session.selection_changed.connect(self.refresh)
        self.show_cell(cell)

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self.cell = cell
        self.table_widget.blockSignals(True)
        self.table_widget.setRowCount(len(cell.series))
        for row, (key, one) in enumerate(cell.series.items()):
            for column in range(len(_COLUMNS)):
                item = QTableWidgetItem(f"{key} ({one.technique})" if column == 0 else "")
                if column < 3:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self.table_widget.setItem(row, column, item)
        self.table_widget.blockSignals(False)
        self.refresh()

    def draw(self) -> None:
        """Fill the table."""
        self.table_widget.blockSignals(True)
        for row, (key, one) in enumerate(self.cell.series.items()):
            times = self.session.timeline.frames.get(key)
            if times is None:
                continue
            shown = times.at(self.session.time)
            texts = (
                "no frame" if shown.gap else f"#{shown.index}",
                "" if shown.gap else ", ".join(w for w in (shown.distance or "now", "stale" if shown.stale else "", one.flags(shown.index)) if w),
                f"{times.max_age:.6g}",
            )
            colour = QColor(self.look.faint if shown.gap or shown.stale else self.look.foreground)
            for column, text in enumerate(texts, start=1):
                if (item := self.table_widget.item(row, column)) is not None:
                    item.setText(text)
                    item.setForeground(QBrush(colour))
        self.table_widget.blockSignals(False)

    def _edited(self, row: int, column: int) -> None:
        item = self.table_widget.item(row, column)
        if column != 3 or item is None:
            return
        one = list(self.cell.series.values())[row]
        try:
            value = float(item.text().replace(",", "."))
        except ValueError:
            value = np.nan
        if value >= 0:
            one.max_age = value
            one.stale_after = min(value, one.times().interval * 1.5) if np.isfinite(value) else None
            self.ages_changed.emit()
        self.refresh()

    def tell(self, message: str, of: str = "") -> None:
        """Say what went wrong, and with what, such as a frame."""
        self._wrong.pop(of or message, None)
        self._wrong[of or message] = f"{of}: {message}" if of else message
        while len(self._wrong) > _MOST:
            del self._wrong[next(iter(self._wrong))]
        self._list()

    def mended(self, of: str) -> None:
        """Take back what was said of something, and of its frames."""
        for one in [k for k in self._wrong if k == of or k.startswith(f"{of} #")]:
            del self._wrong[one]
        self._list()

    def forget(self) -> None:
        """Take back all that was said."""
        self._wrong.clear()
        self._list()

    def _list(self) -> None:
        self.problems.setPlainText("\n".join(self._wrong.values()))
        self.problems.moveCursor(QTextCursor.MoveOperation.End)

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.look = palette
        self.refresh()

    def table(self) -> dict[str, np.ndarray]:
        """Give frame and age of every series at the cursor."""
        keys = [k for k in self.cell.series if k in self.session.timeline.frames]
        shown = [self.session.timeline.frames[k].at(self.session.time) for k in keys]
        return {"series": np.array(keys, object), "frame": np.array([s.index for s in shown]), "age (s)": np.array([s.age for s in shown])}

    def close_panel(self) -> None:
        """Hear of nothing any more."""
        self.session.time_changed.disconnect(self.refresh, missing_ok=True)
        self.session.selection_changed.disconnect(self.refresh, missing_ok=True)
