"""Work that takes longer than a blink runs beside the window, with napari's progress, and its result comes back into the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer
from superqt.utils import create_worker

_SOON = 100
"""Milliseconds after which work has a bar."""


class _Task:
    """One piece of work. Emptied when it is over: Qt keeps what is connected to a signal, and with it all that it refers to."""

    def __init__(
        self, function: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None], over: Callable[[_Task], bool]
    ) -> None:
        self.function: Any = function
        self.done: Any = done
        self.failed: Any = failed
        self.over: Any = over
        self.bar: Any = None

    def run(self) -> tuple[bool, Any]:
        """Say whether it went well, and the result or what was raised: an error that left the thread would be raised again by Qt's own loop."""
        function, self.function = self.function, None
        try:
            return True, function()
        except Exception as error:
            return False, error

    def show(self, what: str) -> None:
        """Show a bar, if it is not over by now."""
        if self.over is not None and self.bar is None:
            bar = _progress(what)
            if self.over is not None:
                self.bar = bar
            elif bar is not None:
                bar.close()

    def returned(self, result: tuple[bool, Any]) -> None:
        over, call = self.over, self.done if result[0] else self.failed
        self.done = self.failed = self.over = None
        try:
            if over is not None and over(self):
                call(result[1])
        finally:
            self.close()  # what is done with the result may take a while, too

    def close(self) -> None:
        """Let everything go; the thread may still run, unheard."""
        if self.bar is not None:
            self.bar.close()
        self.done = self.failed = self.over = self.bar = None


class Work(QObject):
    """Runs functions beside the window. When it is closed, what is still running ends unheard."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: dict[str, _Task] = {}
        self._closed = False

    @property
    def busy(self) -> bool:
        """Something is running."""
        return bool(self._running)

    def run(
        self, name: str, function: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None], *, what: str = ""
    ) -> None:
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
        if name in self._running:
            self._running.pop(name).close()
        if self._closed:
            return
        task = _Task(function, done, failed, self._over)
        self._running[name] = task
        # later: napari handles events while it makes a bar, and whoever asks for work may be half made himself
        QTimer.singleShot(_SOON, lambda: task.show(what or name))
        worker = create_worker(task.run, _start_thread=False)
        worker.returned.connect(lambda result: task.returned(result))
        worker.start()

    def _over(self, task: _Task) -> bool:
        """Forget a task; False if nobody waits for it any more."""
        name = next((n for n, t in self._running.items() if t is task), None)
        if name is not None:
            del self._running[name]
        return name is not None

    def close(self) -> None:
        """Hear of nothing any more, and run nothing."""
        self._closed = True
        for task in self._running.values():
            task.close()
        self._running.clear()


def _progress(what: str) -> Any:
    """Give napari's progress bar, if there is a viewer to show it."""
    import napari

    if napari.current_viewer() is None:
        return None
    from napari.utils import progress

    return progress(total=0, desc=what)
