"""The place of correlations: which observables go together. Empty until a store holds results."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_operando.reading import Cell
from napari_operando.theme import Palette


class CorrelationsPanel(QWidget):
    """Says that there are none yet; the scatter panel shows any two observables meanwhile."""

    title = "Correlations"

    def __init__(self, cell: Cell, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel("This store holds no correlations.\n\nThe Scatter tab shows any two observables against each other.")
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.addWidget(self.label)
        self.dress(palette)

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""

    renew = show_cell

    def dress(self, palette: Palette) -> None:
        """Take a palette's colours."""
        self.label.setStyleSheet(f"color: {palette.faint}")

    def table(self) -> dict[str, np.ndarray]:
        """Nothing yet."""
        return {}

    def close_panel(self) -> None:
        """Nothing is heard."""
