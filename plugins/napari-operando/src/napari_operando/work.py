"""Work that takes longer than a blink runs beside the window, with napari's progress, and its result comes back into the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject
from superqt.utils import create_worker


class Work(QObject):
    """Runs functions beside the window. When it is closed, what is still running ends unheard."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: dict[str, Any] = {}
        self._closed = False

    @property
    def busy(self) -> bool:
        """Something is running."""
        return bool(self._running)

    def run(self, name: str, function: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None], *, what: str = "") -> None:
        """Run a function; a newer one of the same name makes the older one unheard.

        Parameters
        ----------
        name
            Of the task.
        function
            Runs in another thread; must not touch widgets.
        done, failed
            Called in this thread with its result, or with what it raised.
        what
            In words, for the progress bar.
        """
        worker = create_worker(function, _start_thread=False)
        bar = _progress(what or name)
        self._running[name] = worker

        def finish(call: Callable[[Any], None]) -> Callable[[Any], None]:
            def heard(value: Any) -> None:
                if bar is not None:
                    bar.close()
                if self._running.get(name) is worker:
                    del self._running[name]
                    if not self._closed:
                        call(value)

            return heard

        worker.returned.connect(finish(done))
        worker.errored.connect(finish(failed))
        worker.start()

    def close(self) -> None:
        """Hear of nothing any more."""
        self._closed = True
        self._running.clear()


def _progress(what: str) -> Any:
    """Give napari's progress bar, if there is a viewer to show it."""
    import napari

    if napari.current_viewer() is None:
        return None
    from napari.utils import progress

    return progress(total=0, desc=what)
