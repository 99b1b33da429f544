"""The window: canvas, timeline and panels of one store around one session."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QTabWidget

from napari_operando.canvas import Canvas
from napari_operando.panels.correlations import CorrelationsPanel
from napari_operando.panels.frames import FramesPanel
from napari_operando.panels.impedance import ImpedancePanel
from napari_operando.panels.plots import shortcuts
from napari_operando.panels.scatter import ScatterPanel
from napari_operando.panels.spectrum import SpectrumPanel
from napari_operando.panels.timeline import Timeline
from napari_operando.reading import Cell, Stored
from napari_operando.session import Session
from napari_operando.theme import palette_of
from napari_operando.work import Work

if TYPE_CHECKING:
    import napari

_TOGETHER = 2
"""Milliseconds for which a painting waits for others. With none a plot that is drawn anew after its axis moved would be painted twice."""


class _OnePainting(QObject):
    """Lets what was changed together be painted together.

    Each scene of a plot asks for its own painting at once, and each painting composes the whole window with the picture of OpenGL in it: 20 ms
    where no graphics card helps, as over a remote desktop.
    """

    def __init__(self, main: QMainWindow) -> None:
        super().__init__(main)
        self.main, self._passing = main, False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_TOGETHER)
        self._soon.timeout.connect(self._paint)
        main.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Hold requests back until everything that is due now was done."""
        if event.type() != QEvent.Type.UpdateRequest or self._passing or watched is not self.main:
            return False
        if not self._soon.isActive():
            self._soon.start()
        return True

    @property
    def waits(self) -> bool:
        """A painting is asked for and held back."""
        return self._soon.isActive()

    def _paint(self) -> None:
        self._passing = True
        try:
            QApplication.sendEvent(self.main, QEvent(QEvent.Type.UpdateRequest))
        finally:
            self._passing = False

    def close(self) -> None:
        """Hold nothing back any more. Only while the window lives on: one that closes takes this along, and must not be waiting for a painting."""
        self.main.removeEventFilter(self)
        if self._soon.isActive():
            self._soon.stop()
            self._paint()
        self.deleteLater()


windows: weakref.WeakKeyDictionary[Any, Window] = weakref.WeakKeyDictionary()
"""The window of each viewer that shows a store."""


class Window(QObject):
    """Everything that shows a store in a viewer.

    Parameters
    ----------
    viewer
        A viewer with a window. A store that it shows already is let go.
    stored
        The store.
    cell
        Which cell first; by default the first.
    """

    def __init__(self, viewer: napari.Viewer, stored: Stored, cell: str | None = None) -> None:
        super().__init__()
        if viewer in windows:
            windows[viewer].close()
        windows[viewer] = self
        self.viewer, self.stored = viewer, stored
        self.position: int | None = None
        self.closed = False
        self.cell = self._cell_of(cell or stored.cells[0])
        self.position = self._first_position(self.cell)
        self.session = Session(self.cell.timeline(self.position), cell=self.cell.name, active=next(iter(self.cell.series), ""))
        self.session.time = 0.0
        palette = palette_of(viewer.theme)
        self.work = Work(self)
        self.timeline = Timeline(self.session, self.cell, palette, self.work, stored.cells)
        self.spectrum = SpectrumPanel(self.session, self.cell, palette, self.work)
        self.impedance = ImpedancePanel(self.session, self.cell, palette)
        self.scatter = ScatterPanel(self.session, self.cell, palette)
        self.frames = FramesPanel(self.session, self.cell, palette)
        self.correlations = CorrelationsPanel(self.cell, palette)
        self.upper: list[Any] = [self.spectrum, self.scatter, self.correlations]
        self.lower: list[Any] = [self.impedance, self.frames]
        self.panels: list[Any] = [self.timeline, *self.upper, *self.lower]
        self._docks = self._arrange()
        self.canvas = Canvas(viewer, self.session, self.cell, self.work, self)
        self._listen()
        self.timeline.select_position(self.position)
        self._tell_problems()
        self.canvas.open()

    # ------------------------------------------------------------------ assembly

    def _cell_of(self, name: str) -> Cell:
        return self.stored.cell(name)

    @staticmethod
    def _first_position(cell: Cell) -> int | None:
        """Show one spot at first where several are interleaved: together they are a fence, not a picture."""
        return cell.positions[0] if cell.positions else None

    def _arrange(self) -> list[QDockWidget]:
        tabs = []
        for members in (self.upper, self.lower):
            tab = QTabWidget()
            tab.setDocumentMode(True)
            for panel in members:
                tab.addTab(panel, panel.title)
            tabs.append(tab)
        self.upper_tabs, self.lower_tabs = tabs
        add = self.viewer.window.add_dock_widget
        docks = [
            add(self.timeline, name="Timeline", area="bottom", add_vertical_stretch=False),
            add(self.upper_tabs, name="At the cursor", area="right", add_vertical_stretch=False),
            add(self.lower_tabs, name="Sweeps and frames", area="right", add_vertical_stretch=False),
        ]
        main = self.timeline.window()
        self.main: QMainWindow | None = main if isinstance(main, QMainWindow) else None
        if self.main is not None:
            self.main.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
            self.main.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
            QTimer.singleShot(0, self.proportion)
            self.main.installEventFilter(self)
        self._painting = _OnePainting(self.main) if self.main is not None else None
        return docks

    def proportion(self) -> None:
        """Share the window between canvas, timeline and panels; without images the canvas is small."""
        if self.main is None or self.closed:
            return
        wide, high = self.main.width(), self.main.height()
        timeline, upper, lower = self._docks
        self.main.resizeDocks([timeline], [int(high * (0.56 if self.cell.images else 0.8))], Qt.Orientation.Vertical)
        self.main.resizeDocks([upper, lower], [int(wide * 0.27)] * 2, Qt.Orientation.Horizontal)
        self.main.resizeDocks([upper, lower], [int(high * 0.41), int(high * 0.59)], Qt.Orientation.Vertical)

    def _listen(self) -> None:
        self.session.cell_changed.connect(self._cell_changed)
        self.session.renewed.connect(self._renewed)
        self.timeline.cell_chosen.connect(self.show_cell)
        self.timeline.position_chosen.connect(self.show_position)
        self.timeline.export_wanted.connect(self.ask_export)
        self.timeline.images_wanted.connect(self.ask_images)
        self.timeline.again_wanted.connect(self.read_again)
        self.frames.ages_changed.connect(self._retime)
        self.frames.find_images.connect(self.ask_images)
        self.canvas.told.connect(self._tell)
        self.viewer.events.theme.connect(self._themed)
        self._actions = self._keys()
        for key, action in self._actions.items():
            self.viewer.bind_key(_napari_key(key), _binding(action), overwrite=True)
        self._shortcuts = [one for widget in (self.timeline, self.upper_tabs, self.lower_tabs) for one in shortcuts(widget, self._actions)]

    def _keys(self) -> dict[str, Callable[[], None]]:
        s = self.session
        return {
            "Left": lambda: s.step(-1),
            "Right": lambda: s.step(1),
            "Shift+Left": lambda: s.step(-10),
            "Shift+Right": lambda: s.step(10),
            "Ctrl+Left": lambda: s.cycle(-1),
            "Ctrl+Right": lambda: s.cycle(1),
            "[": lambda: s.half_cycle(-1),
            "]": lambda: s.half_cycle(1),
            "A": lambda: s.mark("A"),
            "B": lambda: s.mark("B"),
            "Shift+A": s.unmark,
            "D": lambda: setattr(s, "difference", not s.difference),
            "R": s.toggle_region,
            "M": self._toggle_mean,
            "G": self.ask_moment,
            "E": self.ask_export,
            "F5": self.read_again,
        }

    def _toggle_mean(self) -> None:
        if not self.session.mean and self.session.region is None:
            self.session.toggle_region()
        self.session.mean = not self.session.mean

    @property
    def paints_soon(self) -> bool:
        """Something is about to be painted."""
        return self._painting is not None and self._painting.waits

    def _tell_problems(self) -> None:
        """Say what of the store could not be opened."""
        for problem in self.stored.problems:
            self.frames.tell(problem)

    def _tell(self, of: str, message: str) -> None:
        if message:
            self.frames.tell(message, of)
        else:
            self.frames.mended(of)

    # ------------------------------------------------------------------ choices

    def show_cell(self, name: str) -> None:
        """Show another cell."""
        self.work.run("cell", lambda: self.stored.cell(name), self._take, self._failed, what=f"cell {name}")

    def _take(self, cell: Cell) -> None:
        if cell is self.cell:
            return  # chosen again while another was read
        self.cell = cell
        self.position = self._first_position(self.cell)
        self.session.use(self.cell.timeline(self.position), cell.name)

    def _cell_changed(self) -> None:
        for panel in self.panels:
            panel.show_cell(self.cell)
        self.timeline.select_position(self.position)
        self.proportion()
        self.frames.forget()
        self._tell_problems()
        self.canvas.show_cell(self.cell)

    def read_again(self) -> None:
        """Read the store anew, as while it grows; all that was chosen and marked is kept."""
        path = self.stored.path

        def read() -> Stored:
            stored = Stored(path, self.stored.moved)
            stored.cell(self.cell.name if self.cell.name in stored.cells else stored.cells[0])
            return stored

        def done(stored: Stored) -> None:
            self.stored = stored
            self.timeline.name_cells(stored.cells)
            if self.cell.name in stored.cells:
                self._renew(stored.cell(self.cell.name))
            else:
                self._take(stored.cell(stored.cells[0]))

        self.work.run("again", read, done, self._failed, what=f"reading {path.name} again")

    def _failed(self, error: Exception) -> None:
        self.timeline.say(str(error), wrong=True)

    def _renew(self, cell: Cell) -> None:
        """Take the same cell, read again."""
        for key, series in cell.series.items():
            if (old := self.cell.series.get(key)) is not None:
                series.max_age, series.stale_after = old.max_age, old.stale_after
        if self.position not in cell.positions and not (self.position is None and self.cell.positions):
            self.position = self._first_position(cell)
        self.cell = cell
        self.session.renew(cell.timeline(self.position))

    def _renewed(self) -> None:
        for panel in self.panels:
            panel.renew(self.cell)
        self.timeline.select_position(self.position)
        self.frames.forget()
        self._tell_problems()
        self.canvas.renew(self.cell)

    def show_position(self, position: int | None) -> None:
        """Show the frames of one spot, or of all."""
        if position != self.position:
            self.position = position
            self._retime()

    def _retime(self) -> None:
        """Take other exposures: of another spot, or with other ages."""
        self.session.use(self.cell.timeline(self.position), self.cell.name)
        self.canvas.retime()

    def look_in(self, folder: Path) -> None:
        """Look for images in another folder too, and read again what was not found."""
        self.canvas.look_in(folder)

    # ------------------------------------------------------------------ questions to the user

    def ask_moment(self) -> None:
        """Put the keyboard where a moment is written."""
        self.timeline.goto.setFocus()
        self.timeline.goto.selectAll()

    def ask_export(self) -> None:
        """Ask for a folder and export what is shown."""
        from qtpy.QtWidgets import QFileDialog

        start = self.stored.path.with_name(f"{self.stored.path.stem}_view")
        chosen, _ = QFileDialog.getSaveFileName(self.timeline, "Export what is shown into a new folder", str(start))
        if chosen:
            self.export(Path(chosen))

    def export(self, folder: Path) -> None:
        """Write what is shown into a new folder, numbers beside the window; how it went is told below the strips. See `napari_operando.export`."""
        import operando as op
        from napari_operando.export import drawn, refuse, write

        def wrong(error: Exception) -> None:
            self.timeline.say(f"not exported: {error}", wrong=True)

        try:
            refuse(folder)
            shown = drawn(self)
        except (OSError, op.OperandoError) as error:
            wrong(error)
            return
        self.work.run(
            "export",
            lambda: write(shown, folder),
            lambda made: self.timeline.say(f"exported {len(made)} files into {folder}"),
            wrong,
            what=f"exporting into {folder.name}",
        )

    def ask_images(self) -> None:
        """Ask for a folder in which to look for images."""
        from qtpy.QtWidgets import QFileDialog

        chosen = QFileDialog.getExistingDirectory(self.timeline, "Folder in which to look for images", str(self.stored.path.parent))
        if chosen:
            self.look_in(Path(chosen))

    # ------------------------------------------------------------------ dress and end

    def _themed(self, *_: object) -> None:
        palette = palette_of(self.viewer.theme)
        for panel in self.panels:
            panel.dress(palette)

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait until nothing is read and everything is drawn; for scripts and tests. False if that takes longer."""
        import time

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            if not self.work.busy and not self.canvas.waits:
                self.timeline.draw_now()
                self.canvas.show_moment()
                QApplication.processEvents()
                if not self.work.busy:
                    return True
            time.sleep(0.005)
        return False

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """End with the window that this is in."""
        if event.type() == QEvent.Type.Close and watched is self.main:
            self.close(docks=False)
        return False

    def close(self, *, docks: bool = True) -> None:
        """Let everything go: layers, panels, keys, workers."""
        if self.closed:
            return
        self.closed = True
        self.work.close()
        self.viewer.events.theme.disconnect(self._themed)
        self.session.cell_changed.disconnect(self._cell_changed, missing_ok=True)
        self.session.renewed.disconnect(self._renewed, missing_ok=True)
        for key in self._actions:
            self.viewer.bind_key(_napari_key(key), None)
        for panel in self.panels:
            panel.close_panel()
        self.canvas.close(layers=docks)
        if self.main is not None:
            self.main.removeEventFilter(self)
        if docks:
            if self._painting is not None:
                self._painting.close()
                self._painting = None
            for dock in self._docks:
                self.viewer.window.remove_dock_widget(dock)
            for widget in (self.timeline, self.upper_tabs, self.lower_tabs):
                widget.deleteLater()
        windows.pop(self.viewer, None)
        for one in self._shortcuts:
            one.setEnabled(False)
            one.activated.disconnect()
            one.deleteLater()
        self._shortcuts, self._actions = [], {}


def _napari_key(key: str) -> str:
    return key.replace("+", "-").replace("Ctrl", "Control")


def _binding(action: Callable[[], None]) -> Callable[[Any], None]:
    def pressed(_: Any) -> None:
        action()

    return pressed
