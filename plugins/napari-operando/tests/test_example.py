"""The example beamtime in the whole window: built once, each region looked at on the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_window import _drawn, alive, inside

import operando as op
from napari_operando.opening import binding_problem, example_store, image_layers
from napari_operando.reading import Stored

pytestmark = [pytest.mark.gui, pytest.mark.slow]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where File > Open Sample keeps what it built."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def example(cache: Path) -> Path:
    """The example's store, as File > Open Sample builds it; built by the first test that needs it."""
    return example_store(cache / "operando" / f"example-{op.__version__}")


def test_the_sample_opens_its_window_and_meanwhile_the_viewer_answers(viewer: Any, qtbot: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    import npe2
    from qtpy.QtCore import QTimer

    from napari_operando.window import windows

    manager = npe2.PluginManager.instance()
    if "napari-operando" not in manager:
        manager.register(npe2.PluginManifest.from_distribution("napari-operando"), warn_disabled=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    ticks: list[float] = []
    clock = QTimer()
    clock.setInterval(20)
    clock.timeout.connect(lambda: ticks.append(time.monotonic()))
    assert viewer.open_sample("napari-operando", "example") == []
    assert viewer not in windows
    clock.start()
    qtbot.wait(5000)
    clock.stop()
    assert len(ticks) > 10  # of 250 on a machine at rest, and of none if the build ran here
    qtbot.waitUntil(lambda: viewer in windows, timeout=300_000)
    window = windows[viewer]
    assert window.settle()
    assert sorted(layer.name for layer in viewer.layers) == ["imaging", "imaging/transmission", "xrd/images"]
    assert window.stored.path.is_relative_to(cache)


def test_every_region_is_alive_on_the_example_beamtime(open_window: Callable[..., Any], example: Path, tmp_path: Path) -> None:
    window = open_window(example)
    end = window.session.timeline.end
    for name, share in (("A", 0.2), ("B", 0.62)):
        window.session.mark(name, share * end)
    window.session.toggle_region()
    window.session.difference = window.session.mean = True
    window.session.time = 0.41 * end
    assert window.settle()
    window.main.repaint()
    picture = window.viewer.window.screenshot(canvas_only=False, flash=False)
    assert picture.shape[:2] == (1150, 1900)
    rows = {row.key: row for row in window.timeline.rows}
    assert {"echem", "xrd", "xas", "fractions xrd", "resistances"} <= rows.keys()
    for key, row in rows.items():
        assert _drawn(inside(window, row.view)), key
    assert set(window.spectrum.shown) == {"cursor", "A", "B", "mean"}
    for panel in (window.spectrum, window.impedance):
        assert alive(window, panel.graphics), panel.title
    assert window.impedance.shown["cursor"][1].drt is not None
    canvas = window.viewer.window.screenshot(canvas_only=True, flash=False)
    assert len(np.unique(canvas[..., 0])) > 20  # rings, not a flat picture
    for tabs in (window.upper_tabs, window.lower_tabs):
        for k in range(tabs.count()):
            tabs.setCurrentIndex(k)
            window.settle()
    assert not window.frames.problems.toPlainText()
    window.export(tmp_path / "shown")
    assert window.settle()
    assert len(list((tmp_path / "shown").iterdir())) > 12


def test_the_example_gives_layers_without_a_window(example: Path) -> None:
    layers = image_layers(Stored(example))
    assert [settings["name"] for _, settings, _ in layers] == ["imaging", "imaging/transmission", "xrd/images"]
    view = layers[-1][0]
    assert np.asarray(view[len(view) // 2]).max() > 0


def test_the_binding_of_the_tests_is_a_good_one(qapp: Any) -> None:
    assert binding_problem() == ""
