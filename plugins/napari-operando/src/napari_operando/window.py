"""The window: canvas, timeline and panels of one store around one session."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QTabWidget

from napari_operando.layers import caption, first_picture, image_layer, place, text_overlay, time_view
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
from napari_operando.timeview import TimeView
from napari_operando.work import Work

if TYPE_CHECKING:
    import napari

CANVAS_EVERY = 40
"""Milliseconds between two images while the cursor is dragged; the latest moment wins. Plots follow at once."""

_FADED = 0.35

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

    _told = Signal(str, str)

    def __init__(self, viewer: napari.Viewer, stored: Stored, cell: str | None = None) -> None:
        super().__init__()
        if viewer in windows:
            windows[viewer].close()
        windows[viewer] = self
        self.viewer, self.stored = viewer, stored
        self.position: int | None = None
        self.layers: dict[str, Any] = {}
        self.views: dict[str, TimeView] = {}
        self._faded: dict[str, tuple[float, float]] = {}  # layer -> how opaque it was, and is
        self._unreadable: set[str] = set()
        self.closed = self._fetching = False
        self._from_canvas = self._to_canvas = False
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
        self._canvas = QTimer(self)
        self._canvas.setSingleShot(True)
        self._canvas.setInterval(CANVAS_EVERY)
        self._canvas.timeout.connect(self._show_moment)
        self._listen()
        self.timeline.select_position(self.position)
        self._tell_problems()
        self._open_images()

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
        self.session.time_changed.connect(self._moved)
        self.session.cell_changed.connect(self._cell_changed)
        self.session.renewed.connect(self._renewed)
        self.timeline.cell_chosen.connect(self.show_cell)
        self.timeline.position_chosen.connect(self.show_position)
        self.timeline.export_wanted.connect(self.ask_export)
        self.timeline.images_wanted.connect(self.ask_images)
        self.timeline.again_wanted.connect(self.read_again)
        self.frames.ages_changed.connect(self._retime)
        self.frames.find_images.connect(self.ask_images)
        self._told.connect(self._tell)
        self.viewer.dims.events.point.connect(self._scrolled)
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

    # ------------------------------------------------------------------ images

    @property
    def paints_soon(self) -> bool:
        """Something is about to be painted."""
        return self._painting is not None and self._painting.waits

    def _tell_problems(self) -> None:
        """Say what of the store could not be opened."""
        for problem in self.stored.problems:
            self.frames.tell(problem)

    def _open_images(self) -> None:
        """Add a layer for each images series that has none, once one of its frames was read beside the window."""
        for key, series in self.cell.images.items():
            if key in self.layers:
                continue
            times = self.session.timeline.frames[key]
            self.work.run(
                f"images {key}",
                partial(first_picture, series, times),
                partial(self._first_read, key),
                partial(self._not_read, key),
                what=f"{key}: first frame",
            )
        self._captions()

    def _first_read(self, key: str, found: tuple[Any, str, float]) -> None:
        self._add_images(key, *found)

    def _not_read(self, key: str, error: Exception) -> None:
        self.frames.tell(str(error), key)

    def _add_images(self, key: str, picture: Any, reason: str, took: float) -> None:
        if key not in self.cell.images or key in self.layers:
            return
        if picture is None:
            self.frames.tell(f"no frame can be read: {reason}", key)
            self._unreadable.add(key)
            self._captions()
            return
        self._unreadable.discard(key)
        self.frames.mended(key)
        made = image_layer(key, self.cell.images[key], self.session.timeline, picture, self._problem(key))
        made[0].took = took
        self._adopt(key, *made)

    def _problem(self, key: str) -> Callable[[int, str], None]:
        # weakly: the view lives in a layer, which may outlive the window
        me = weakref.ref(self)

        def tell(frame: int, message: str) -> None:
            window = me()
            if window is not None and not window.closed:
                window._told.emit(f"{key} #{frame}", message)  # by a signal: frames are read in other threads too

        return tell

    def _tell(self, of: str, message: str) -> None:
        if self.closed:
            return
        if message:
            self.frames.tell(message, of)
        else:
            self.frames.mended(of)

    def _adopt(self, key: str, view: TimeView, settings: dict[str, Any], kind: str) -> None:
        """Show the first images series of the cell; the others are there to be made visible. They arrive in any order."""
        order = list(self.cell.images)
        before = [name for name in self.layers if order.index(name) < order.index(key)]
        for name in () if before else self.layers:
            self.layers[name].visible = False
        layer = self.viewer.add_image(view.data, **settings, visible=not before)
        self.layers[key], self.views[key] = layer, view
        times = self.session.timeline.frames[key]
        if not before and self.session.time <= 0.0 and times.at(self.session.time).gap and times.begin.size:
            self.session.time = float(times.begin[0] + times.end[0]) / 2  # nobody has moved the cursor, and the canvas would be black
        self._show_moment()
        self.viewer.fit_to_view(layers=[one for one in self.layers.values() if one.visible])

    def _show_moment(self) -> None:
        """Let the canvas show the moment of the session; frames that take long are read beside the window first."""
        if self.closed:
            return
        if self._slow():
            self._fetch()
            self._captions()
            return
        if self.layers and not self._from_canvas and self.viewer.dims.ndim >= 3:
            self._to_canvas = True
            try:
                self.viewer.dims.set_point(self.viewer.dims.ndim - 3, self.session.time)
            finally:
                self._to_canvas = False
        self._captions()

    def _slow(self) -> list[TimeView]:
        """List what is to be shown, is not in memory, and takes longer than a blink to read."""
        out = []
        for key, layer in self.layers.items():
            if layer.visible and layer in self.viewer.layers and not self._level(key).ready(self.session.time):
                out.append(self._level(key))
        return out

    def _level(self, key: str) -> TimeView:
        """Give what the canvas shows of a layer's levels."""
        layer, view = self.layers[key], self.views[key]
        return (view, *view.coarser)[layer.data_level if layer.multiscale else 0]

    def _fetch(self) -> None:
        """Read frames beside the window, one moment after the other: the latest when the one before was read."""
        if self._fetching:
            return
        self._fetching = True
        views, time = self._slow(), self.session.time

        def read() -> None:
            for view in views:
                view.fetch(time)

        def over(_: object) -> None:
            self._fetching = False
            self._show_moment()

        self.work.run("frame", read, over, over, what="reading a frame")

    def _captions(self, *_: object) -> None:
        """Say what the canvas shows, and fade what is stale."""
        line, said = self.session.timeline, []
        for key in self.cell.images:
            layer = self.layers.get(key)
            if layer is None or layer not in self.viewer.layers:
                if key in self._unreadable:
                    said.append(f"{key}: no frame can be read (see Frames)")
                continue
            shown = line.frames[key].at(self.session.time)
            self._fade(key, layer, shown.stale and not shown.gap)
            if layer.visible:
                reading = "" if self._level(key).ready(self.session.time) else ", being read"
                said.append(caption(self.cell, key, line, self.session.time, self.views[key].problems) + reading)
        if not self.cell.images:
            said.append("no images in this store")
        overlay = text_overlay(self.viewer)
        overlay.visible = True
        overlay.position = "top_left"
        overlay.font_size = 9
        overlay.text = "\n".join(said)

    def _fade(self, key: str, layer: Any, fade: bool) -> None:
        """Fade what is stale; afterwards it is as opaque as it was, or as somebody made it meanwhile."""
        if fade and key not in self._faded:
            self._faded[key] = layer.opacity, layer.opacity * _FADED
            layer.opacity = self._faded[key][1]
        elif not fade and key in self._faded:
            before, faded = self._faded.pop(key)
            if abs(layer.opacity - faded) < 1e-6:
                layer.opacity = before

    def _scrolled(self, event: Any = None) -> None:
        """Follow the slider of the canvas."""
        if self._to_canvas or self.closed or not self.layers:
            return
        self._from_canvas = True
        try:
            self.session.time = float(self.viewer.dims.point[self.viewer.dims.ndim - 3])
        finally:
            self._from_canvas = False

    def _moved(self, _: float) -> None:
        if not self._canvas.isActive():
            self._canvas.start()

    # ------------------------------------------------------------------ choices

    def show_cell(self, name: str) -> None:
        """Show another cell."""
        if name == self.cell.name:
            return
        self.work.run(
            "cell", lambda: self.stored.cell(name), self._take, lambda error: self.timeline.say(str(error), wrong=True), what=f"cell {name}"
        )

    def _take(self, cell: Cell) -> None:
        for layer in self.layers.values():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.layers, self.views, self._faded, self._unreadable = {}, {}, {}, set()
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
        self._open_images()

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
        line = self.session.timeline
        for key, layer in list(self.layers.items()):
            if layer not in self.viewer.layers:
                continue  # taken away by hand
            series, old = self.cell.images.get(key), self.views[key]
            if series is None or layer.multiscale != bool(series.levels):  # is gone, or of another size
                self.viewer.layers.remove(layer)
                del self.layers[key], self.views[key]
                self._faded.pop(key, None)
                continue
            self.views[key] = view = time_view(key, series, line, old.shape[1:], old.dtype, self._problem(key))
            view.took = old.took
            layer.data = view.data
            for name, value in place(series, line).items():
                setattr(layer, name, value)
        self._show_moment()
        self._open_images()

    def show_position(self, position: int | None) -> None:
        """Show the frames of one spot, or of all."""
        if position != self.position:
            self.position = position
            self._retime()

    def _retime(self) -> None:
        """Take other exposures: of another spot, or with other ages."""
        self.session.use(self.cell.timeline(self.position), self.cell.name)
        for key, view in self.views.items():
            view.retime(self.session.timeline.frames[key])
            if self.layers[key] in self.viewer.layers:
                self.layers[key].refresh()
        self._captions()

    def look_in(self, folder: Path) -> None:
        """Look for images in another folder too, and read again what was not found."""
        for key, series in self.cell.images.items():
            series.pictures.look_in(folder)
            if key in self.views:
                self.views[key].forget()
                self.layers[key].refresh()
        self._open_images()

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

    def export(self, folder: Path) -> list[Path]:
        """Write what is shown into a new folder; see `napari_operando.export`. What goes wrong is told below the timeline."""
        import operando as op
        from napari_operando.export import export

        try:
            made = export(self, folder)
        except (OSError, op.OperandoError) as error:
            self.timeline.say(f"not exported: {error}", wrong=True)
            return []
        self.timeline.say(f"exported {len(made)} files into {folder}")
        return made

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
            if not self.work.busy and not self._canvas.isActive():
                self.timeline.draw_now()
                self._show_moment()
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
        self._canvas.stop()
        self.work.close()
        self.viewer.dims.events.point.disconnect(self._scrolled)
        self.viewer.events.theme.disconnect(self._themed)
        self.session.time_changed.disconnect(self._moved, missing_ok=True)
        self.session.cell_changed.disconnect(self._cell_changed, missing_ok=True)
        self.session.renewed.disconnect(self._renewed, missing_ok=True)
        for key in self._actions:
            self.viewer.bind_key(_napari_key(key), None)
        for panel in self.panels:
            panel.close_panel()
        if self.main is not None:
            self.main.removeEventFilter(self)
        if docks:
            if self._painting is not None:
                self._painting.close()
                self._painting = None
            for layer in self.layers.values():
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
            text_overlay(self.viewer).visible = False
            for dock in self._docks:
                self.viewer.window.remove_dock_widget(dock)
            for widget in (self.timeline, self.upper_tabs, self.lower_tabs):
                widget.deleteLater()
        windows.pop(self.viewer, None)
        self.layers, self.views = {}, {}
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
