"""What the tests of the viewer share: Qt where there is one, a screen where there can be one, and no settings of whoever runs them.

Tests without Qt always run. Tests of widgets need a Qt binding and its libraries, those of the whole window (marker `gui`) a screen with OpenGL:
Xvfb is started where it is installed. Where something is missing they are skipped and say what; with `OPERANDO_NO_SKIPS=1` that fails.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ["NAPARI_CONFIG"] = ""  # nobody's settings are read or written
os.environ.setdefault("QT_API", "pyside6")
os.environ.setdefault("PYTEST_QT_API", "pyside6")

DEBIAN = "xvfb xauth libgl1-mesa-dri libegl1 libgl1 libdbus-1-3 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxkbcommon-x11-0"


def _missing_qt() -> str:
    """Say what is missing for widgets; empty if nothing is."""
    try:
        import pytestqt  # noqa: F401
        from PySide6 import QtGui, QtWidgets  # noqa: F401

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # napari's own, on its way in
            import napari._qt.qt_event_loop  # noqa: F401
            import pyqtgraph  # noqa: F401
    except ImportError as error:
        return f"no Qt here ({error}): pip install 'napari-operando[test]'; on Debian apt-get install {DEBIAN}"
    return ""


NO_QT = _missing_qt()
_SERVER: dict[str, subprocess.Popen[bytes]] = {}
"""Held to the end: it goes after the application."""


if importlib.util.find_spec("napari_operando") is None:  # an environment without the plugin
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> list[str]:
    """Say what of the viewer cannot be tested here."""
    if importlib.util.find_spec("napari_operando") is None:
        return ["viewer: not installed, its tests are left out: pip install -e 'plugins/napari-operando[test]'"]
    return [f"viewer: {NO_QT}"] if NO_QT else []


def pytest_configure(config: pytest.Config) -> None:
    """Load pytest-qt where Qt can be: on a machine without Qt's libraries it would stop every other test, too."""
    if not NO_QT:
        config.pluginmanager.import_plugin("pytestqt.plugin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let warnings of napari and Qt's other users be theirs."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            for text in ("ignore::pydantic.PydanticDeprecatedSince20", "ignore::DeprecationWarning:napari", "ignore::FutureWarning:napari"):
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Fail a test that skipped itself where continuous integration says that it must run."""
    report = yield
    if os.environ.get("OPERANDO_NO_SKIPS") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in continuous integration nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def screen() -> Iterator[str]:
    """Name of a screen of our own, or the one there is; empty where there is none."""
    if shutil.which("Xvfb") is None:
        yield os.environ.get("DISPLAY", "")
        return
    read, write = os.pipe()
    server = _SERVER["xvfb"] = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1920x1200x24", "-nolisten", "tcp", "-terminate"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    atexit.register(lambda: setattr(server, "returncode", 0))  # it is meant to outlive us by a moment
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if number:
        os.environ["DISPLAY"] = f":{number}"
        os.environ.pop("WAYLAND_DISPLAY", None)
    yield os.environ.get("DISPLAY", "")
    # with the application gone the server goes by itself (-terminate); before that it would take the whole process along
    if "qtpy.QtWidgets" not in sys.modules:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def qapp(screen: str) -> Iterator[Any]:
    """The application: on the screen, or without one (then nothing of OpenGL)."""
    if NO_QT:
        pytest.skip(NO_QT)
    if not screen:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from napari._qt.qt_event_loop import get_qapp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = get_qapp()
    yield app
    app.closeAllWindows()
    app.processEvents()


@pytest.fixture
def viewer(qapp: Any, screen: str, qtbot: Any) -> Iterator[Any]:
    """A real window of napari on a screen."""
    if not screen:
        pytest.skip(f"no screen: on Debian apt-get install {DEBIAN}")
    import napari

    made = napari.Viewer(show=True, show_welcome_screen=False)
    made.window.resize(1900, 1150)
    yield made
    made.close()
    qapp.processEvents()


@pytest.fixture
def open_window(viewer: Any) -> Callable[..., Any]:
    """Open a store in the viewer and wait until all of it is drawn."""
    from napari_operando.opening import open_window as open_

    def opened(store: Any, **kwargs: Any) -> Any:
        window = open_(viewer, store, **kwargs)
        assert window.settle()
        return window

    return opened


@pytest.fixture(scope="session")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published store with every technique there is; not to be changed."""
    import stores

    return stores.whole(tmp_path_factory.mktemp("whole"))


if NO_QT:

    @pytest.fixture
    def qtbot() -> Any:
        """Stands in where pytest-qt cannot be loaded."""
        pytest.skip(NO_QT)
