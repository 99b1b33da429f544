"""The widget under Plugins: opens a store, or the example."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget


class OpenWidget(QWidget):
    """Two buttons, and what went wrong."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.says = QLabel("A published store (.nxs) or a growing one (.operando). Both can be dropped on the window, too.")
        self.says.setWordWrap(True)
        layout = QVBoxLayout(self)
        for words, call in (("Open a store ...", self.ask_file), ("Open a growing store ...", self.ask_folder)):
            button = QPushButton(words)
            button.clicked.connect(call)
            layout.addWidget(button)
        layout.addWidget(self.says)
        layout.addStretch(1)

    def ask_file(self) -> None:
        """Ask for a published store."""
        self.open(QFileDialog.getOpenFileName(self, "Open an operando store", "", "Stores (*.nxs);;All files (*)")[0])

    def ask_folder(self) -> None:
        """Ask for a growing store."""
        self.open(QFileDialog.getExistingDirectory(self, "Open a growing store"))

    def open(self, path: str) -> None:
        """Open a store, or say why that cannot be done."""
        from napari_operando.opening import open_beside

        if path:
            self.says.setText(path)
            open_beside(self.viewer, path, self.says.setText)
