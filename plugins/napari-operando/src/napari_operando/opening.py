"""How napari and the command line open a store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import operando as op
from napari_operando.reading import Stored

if TYPE_CHECKING:
    import napari

    from napari_operando.window import Window


EXAMPLE = "operando://example/beamtime.nxs"
"""What File > Open Sample opens."""


def view(store: str | os.PathLike[str], *, cell: str | None = None, images: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Show a store in a window of its own, until it is closed: `operando view STORE`.

    Parameters
    ----------
    store
        `.nxs`, or a growing `.operando`.
    cell
        Which cell first.
    images
        Folders in which to look for image files that are not where the store says.

    Raises
    ------
    operando.OperandoError
        It cannot be opened, or there is no screen to show it on.
    """
    stored = Stored(store, images)
    if cell is not None and cell not in stored.cells:
        raise op.contract.StoreError("there is no such cell", file=stored.path, found=cell, expected=", ".join(stored.cells))
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise op.OperandoError("there is no screen to show it on", hint="run it on a desktop, with ssh -X, or under xvfb-run")
    import napari

    viewer = napari.Viewer(title=f"operando: {stored.path.name}", show_welcome_screen=False)
    _roomy(viewer)
    open_window(viewer, stored, cell=cell)
    with _closed_by_signals(viewer.close):
        napari.run()


def _roomy(viewer: Any) -> None:
    """Give the window nine tenths of the screen: strips, waterfalls and plots need it, and napari's own size does not hold them."""
    window = viewer.window._qt_window
    screen = window.screen().availableGeometry()
    width, height = int(screen.width() * 0.9), int(screen.height() * 0.9)
    if window.width() < width or window.height() < height:
        window.resize(max(window.width(), width), max(window.height(), height))
        window.move(screen.x() + max((screen.width() - window.width()) // 2, 0), screen.y() + max((screen.height() - window.height()) // 2, 0))


@contextlib.contextmanager
def _closed_by_signals(close: Callable[[], object]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM close the window. Qt does not let Python look for signals by itself, so it is made to now and then."""
    from qtpy.QtCore import QTimer

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    awake = QTimer()
    awake.timeout.connect(lambda: None)
    awake.start(200)
    before = {s: signal.signal(s, lambda *_: QTimer.singleShot(0, close)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        awake.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def open_window(viewer: napari.Viewer, store: Stored | str | os.PathLike[str], *, cell: str | None = None) -> Window:
    """Show a store in a viewer.

    Raises
    ------
    operando.OperandoError
        It cannot be opened.
    """
    from napari_operando.window import Window

    if said := binding_problem():
        warnings.warn(said, stacklevel=2)
    return Window(viewer, store if isinstance(store, Stored) else Stored(store), cell)


def open_beside(viewer: napari.Viewer, store: str | os.PathLike[str], failed: Callable[[str], object] | None = None) -> None:
    """Read a store beside the window, with napari's progress, and show it when its first cell was read.

    Parameters
    ----------
    viewer, store
        Where, and what; `EXAMPLE` is built first where it is not there yet.
    failed
        Told why it cannot be opened; by default napari shows it.
    """
    from napari.utils.notifications import show_error

    from napari_operando.work import Work

    work = Work()
    name = "building the example beamtime" if store == EXAMPLE else f"opening {Path(store).name}"

    def read() -> Stored:
        stored = Stored(_built_example() if store == EXAMPLE else store)
        stored.cell(stored.cells[0])
        return stored

    def done(stored: Stored) -> None:
        _reading.discard(work)
        if _is_open(viewer):
            open_window(viewer, stored)

    def wrong(error: Exception) -> None:
        _reading.discard(work)
        if _is_open(viewer):
            (failed or show_error)(str(error))

    _reading.add(work)
    work.run("open", read, done, wrong, what=name)


def _is_open(viewer: Any) -> bool:
    """Say whether a viewer's window is still there: it may have been closed while something was read."""
    try:
        return bool(viewer.window._qt_window.isVisible())
    except (AttributeError, RuntimeError):
        return False


_reading: set[Any] = set()
"""What is being read; held until it was."""


def binding_problem() -> str:
    """Tell of a Qt binding that is known to crash; empty if this one is not.

    PySide6 6.12.0 loses a reference to None at every call without a result on Python 3.11, and dies after some thousand moves of the cursor.
    """
    import qtpy

    version = getattr(qtpy, "PYSIDE_VERSION", None)
    if qtpy.API_NAME == "PySide6" and version and tuple(map(int, version.split(".")[:2])) == (6, 12) and sys.version_info[:2] == (3, 11):
        return f'PySide6 {version} on Python 3.11 crashes after a while: pip install "PySide6>=6.10,<6.11"'
    return ""


# ------------------------------------------------------------------ what the manifest names


def reader(path: str | Sequence[str]) -> Callable[[Any], list[Any]] | None:
    """Say whether a path is a store of operando, cheaply; napari then calls what is returned."""
    first = path if isinstance(path, str) else path[0]
    if first == EXAMPLE:
        return _read
    one = Path(first)
    if one.is_dir():
        return _read if (one / "manifest.jsonl").is_file() else None
    try:
        import h5py

        with h5py.File(one, "r", locking=False) as h5:
            return _read if "content_key" in h5.attrs else None
    except OSError:
        return None


def _read(path: str | Sequence[str]) -> list[Any]:
    """Show each store; in a viewer without a window, give its images as layers."""
    out: list[Any] = []
    viewer = _viewer()
    for one in [path] if isinstance(path, str) else path:
        if viewer is not None:
            open_beside(viewer, one)
        else:
            out += image_layers(Stored(example_store() if one == EXAMPLE else one))
    return out or [(None,)]


def image_layers(stored: Stored, cell: str | None = None) -> list[Any]:
    """Give the images of a cell as napari takes layers: (array, settings, "image")."""
    from napari_operando.layers import first_picture, image_layer

    one = stored.cell(cell or stored.cells[0])
    line, out = one.timeline(one.positions[0] if one.positions else None), []
    for key, series in one.images.items():
        picture, reason, _ = first_picture(series, line.frames[key])
        if picture is None:
            warnings.warn(f"{key}: no frame can be read: {reason}", stacklevel=2)
        else:
            view, settings, kind = image_layer(key, series, line, picture)
            out.append((view.data, settings, kind))
    return out


def _built_example() -> Path:
    """Give the example's store; it is built in another process, so that the window does not stand still."""
    call = "from napari_operando.opening import example_store; print(example_store())"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise op.OperandoError("the example beamtime could not be built", found=said[-1] if said else f"exit code {done.returncode}")
    return Path(done.stdout.strip().splitlines()[-1])


def example_store(folder: Path | None = None) -> Path:
    """Build the example beamtime, unless it was built before; that takes half a minute."""
    import platformdirs

    from operando import demo

    folder = folder or Path(platformdirs.user_cache_dir("operando")) / f"example-{op.__version__}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three files are spoilt on purpose
        return op.build(demo.raw_files(folder))


def _viewer() -> napari.Viewer | None:
    """Give the viewer that napari is showing, if it has a window."""
    import napari

    viewer = napari.current_viewer()
    return viewer if viewer is not None and getattr(viewer, "window", None) is not None else None


def _window() -> Window | None:
    from napari_operando.window import windows

    viewer = _viewer()
    return windows.get(viewer) if viewer is not None else None


def ask() -> None:
    """Ask for a store and show it."""
    from qtpy.QtWidgets import QFileDialog

    viewer = _viewer()
    if viewer is None:
        return
    chosen, _ = QFileDialog.getOpenFileName(None, "Open an operando store", "", "Stores (*.nxs);;All files (*)")
    if chosen:
        open_beside(viewer, chosen)


def ask_export() -> None:
    """Export what is shown."""
    if (window := _window()) is not None:
        window.ask_export()


def ask_moment() -> None:
    """Go to a cycle or a time."""
    if (window := _window()) is not None:
        window.ask_moment()


def ask_images() -> None:
    """Look for images in another folder."""
    if (window := _window()) is not None:
        window.ask_images()
