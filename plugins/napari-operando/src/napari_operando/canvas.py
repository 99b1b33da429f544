"""The canvas: images of the cell as layers of the viewer, at the moment of the session."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_operando.layers import caption, first_picture, image_layer, place, text_overlay, time_view
from napari_operando.reading import Cell
from napari_operando.session import Session
from napari_operando.timeview import TimeView
from napari_operando.work import Work

if TYPE_CHECKING:
    import napari

EVERY = 40
"""Milliseconds between two images while the cursor is dragged; the latest moment wins. Plots follow at once."""

_FADED = 0.35


class Canvas(QObject):
    """Shows the frames that belong to the moment of the session, and moves it when the slider of the viewer is moved.

    Parameters
    ----------
    viewer, session, cell, work
        Where, the moment, the images, and who runs what takes long.

    Attributes
    ----------
    layers, views
        Images series -> its layer, and what the layer reads.
    """

    told = Signal(str, str)
    """What went wrong, and with what (a series, or one of its frames); an empty message says that it is right again."""

    def __init__(self, viewer: napari.Viewer, session: Session, cell: Cell, work: Work, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self.session, self.cell, self.work = viewer, session, cell, work
        self.layers: dict[str, Any] = {}
        self.views: dict[str, TimeView] = {}
        self._faded: dict[str, tuple[float, float]] = {}  # layer -> how opaque it was, and is
        self._unreadable: set[str] = set()
        self._closed = self._fetching = False
        self._following = self._leading = False  # the slider; whose moves are ours, or somebody's
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(EVERY)
        self._soon.timeout.connect(self.show_moment)
        session.time_changed.connect(self._moved)
        viewer.dims.events.point.connect(self._scrolled)

    @property
    def waits(self) -> bool:
        """A moment is yet to be shown."""
        return self._soon.isActive()

    # ------------------------------------------------------------------ layers

    def open(self) -> None:
        """Add a layer for each images series that has none, once one of its frames was read beside the window."""
        for key, series in self.cell.images.items():
            if key not in self.layers:
                self.work.run(
                    f"images {key}",
                    partial(first_picture, series, self.session.timeline.frames[key]),
                    partial(self._first_read, key),
                    partial(self._not_read, key),
                    what=f"{key}: first frame",
                )
        self._write()

    def _not_read(self, key: str, error: Exception) -> None:
        self.told.emit(key, str(error))

    def _first_read(self, key: str, found: tuple[Any, str, float]) -> None:
        picture, reason, took = found
        if key not in self.cell.images or key in self.layers:
            return
        if picture is None:
            self.told.emit(key, f"no frame can be read: {reason}")
            self._unreadable.add(key)
            self._write()
            return
        self._unreadable.discard(key)
        self.told.emit(key, "")
        view, settings, _ = image_layer(key, self.cell.images[key], self.session.timeline, picture, self._problem(key))
        view.took = took
        self._add(key, view, settings)

    def _problem(self, key: str) -> Callable[[int, str], None]:
        # weakly: the view lives in a layer, which may outlive the canvas
        me = weakref.ref(self)

        def tell(frame: int, message: str) -> None:
            canvas = me()
            if canvas is not None and not canvas._closed:
                canvas.told.emit(f"{key} #{frame}", message)  # by a signal: frames are read in other threads too

        return tell

    def _add(self, key: str, view: TimeView, settings: dict[str, Any]) -> None:
        """Show the first images series of the cell; the others are there to be made visible. They arrive in any order."""
        order = list(self.cell.images)
        before = [name for name in self.layers if order.index(name) < order.index(key)]
        for name in () if before else self.layers:
            self.layers[name].visible = False
        self.views[key] = view
        self.layers[key] = self.viewer.add_image(view.data, **settings, visible=not before)
        times = self.session.timeline.frames[key]
        if not before and self.session.time <= 0.0 and times.at(self.session.time).gap and times.begin.size:
            self.session.time = float(times.begin[0] + times.end[0]) / 2  # nobody has moved the cursor, and the canvas would be black
        self.show_moment()
        visible = [one for one in self.layers.values() if one.visible]
        if visible:
            self.viewer.layers.selection.active = visible[0]  # contrast and colours are those of what is seen
        self.viewer.fit_to_view(layers=visible)

    def show_cell(self, cell: Cell) -> None:
        """Show another cell."""
        self.let_go()
        self.cell = cell
        self.open()

    def renew(self, cell: Cell) -> None:
        """Show the same cell, read again: layers stay as they are and show what there is now."""
        self.cell = cell
        line = self.session.timeline
        for key, layer in list(self.layers.items()):
            series, old = cell.images.get(key), self.views[key]
            if layer not in self.viewer.layers:
                continue  # taken away by hand
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
        self.show_moment()
        self.open()

    def retime(self) -> None:
        """Take other exposures of the same frames: of another spot, or with other ages."""
        for key, view in self.views.items():
            view.retime(self.session.timeline.frames[key])
            if self.layers[key] in self.viewer.layers:
                self.layers[key].refresh()
        self._write()

    def look_in(self, folder: Path) -> None:
        """Look for images in another folder too, and read again what was not found."""
        for key, series in self.cell.images.items():
            series.pictures.look_in(folder)
            if key in self.views:
                self.views[key].forget()
                self.layers[key].refresh()
        self.open()

    # ------------------------------------------------------------------ the moment

    def _moved(self, _: float) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def show_moment(self) -> None:
        """Show the moment of the session now; frames that take long are read beside the window first."""
        if self._closed:
            return
        if self._slow():
            self._fetch()
        elif self.layers and not self._leading and self.viewer.dims.ndim >= 3:
            self._following = True
            try:
                self.viewer.dims.set_point(self.viewer.dims.ndim - 3, self.session.time)
            finally:
                self._following = False
        self._write()

    def _scrolled(self, event: Any = None) -> None:
        """Follow the slider of the viewer."""
        if self._following or self._closed or not self.layers:
            return
        self._leading = True
        try:
            self.session.time = float(self.viewer.dims.point[self.viewer.dims.ndim - 3])
        finally:
            self._leading = False

    def _level(self, key: str) -> TimeView:
        """Give what is shown of a layer's levels."""
        layer, view = self.layers[key], self.views[key]
        return (view, *view.coarser)[layer.data_level if layer.multiscale else 0]

    def _slow(self) -> list[TimeView]:
        """List what is to be shown, is not in memory, and takes longer than a blink to read."""
        shown = [self._level(key) for key, layer in self.layers.items() if layer.visible and layer in self.viewer.layers]
        return [view for view in shown if not view.ready(self.session.time)]

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
            self.show_moment()

        self.work.run("frame", read, over, over, what="reading a frame")

    def _write(self) -> None:
        """Write what is shown onto the canvas, and fade what is stale."""
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

    # ------------------------------------------------------------------ end

    def let_go(self) -> None:
        """Take the layers away."""
        for layer in self.layers.values():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.layers, self.views, self._faded, self._unreadable = {}, {}, {}, set()

    def close(self, *, layers: bool = True) -> None:
        """Hear of nothing any more, and take the layers and the text away, unless the viewer closes with them."""
        self._closed = True
        self._soon.stop()
        self.session.time_changed.disconnect(self._moved, missing_ok=True)
        self.viewer.dims.events.point.disconnect(self._scrolled)
        if layers:
            self.let_go()
            text_overlay(self.viewer).visible = False
        self.layers, self.views = {}, {}
