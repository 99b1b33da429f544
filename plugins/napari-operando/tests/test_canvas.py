"""Images on the canvas: at their moment, read where they lie, stale, missing, slow, or at the level of the screen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores

from napari_operando.layers import text_overlay

pytestmark = pytest.mark.gui
Open = Callable[..., Any]


def test_a_hundred_ticks_inside_a_frame_read_it_once(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    view, series = window.canvas.views["detector"], window.cell.images["detector"]
    middle = series.begin[20]
    window.session.time = middle + 1
    window.canvas.show_moment()
    before = view.reads
    for t in np.linspace(middle + 1, middle + 29, 100):
        window.session.time = t
        window.canvas.show_moment()
    assert view.reads == before


def test_the_slider_of_the_canvas_moves_the_session(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    window.viewer.dims.set_point(0, 2000.0)
    assert window.session.time == pytest.approx(2000.0, abs=window.session.timeline.tick)
    assert window.timeline.rows[0].cursor.value() == window.session.time


def test_stale_images_are_faded_and_gaps_named(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    times = window.session.timeline.frames["detector"]
    pause = int(np.argmax(np.diff(times.begin)))
    window.session.time = times.end[pause] + (times.stale_after + times.max_age) / 2
    window.canvas.show_moment()
    assert window.canvas.layers["detector"].opacity == pytest.approx(0.35)
    assert "stale" in text_overlay(window.viewer).text
    window.session.time = times.end[pause] + times.max_age * 1.05
    window.canvas.show_moment()
    assert "no frame here" in text_overlay(window.viewer).text
    window.session.time = times.middle[pause]
    window.canvas.show_moment()
    assert window.canvas.layers["detector"].opacity == 1.0
    window.session.time = times.end[pause] + (times.stale_after + times.max_age) / 2
    window.canvas.show_moment()
    window.canvas.layers["detector"].opacity = 0.6  # by hand, while it is faded
    window.session.time = times.middle[pause]
    window.canvas.show_moment()
    assert window.canvas.layers["detector"].opacity == pytest.approx(0.6)


def test_images_that_were_moved_are_found_again(open_window: Open, tmp_path: Path) -> None:
    path = stores.whole(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "detector.h5", tmp_path / "elsewhere" / "detector.h5")
    window = open_window(path)
    assert not window.canvas.layers
    assert "detector.h5: not found" in window.frames.problems.toPlainText()
    assert "no frame can be read" in text_overlay(window.viewer).text
    window.look_in(tmp_path / "elsewhere")
    assert window.settle()
    assert "detector" in window.canvas.layers
    assert window.frames.problems.toPlainText() == ""
    assert "no frame can be read" not in text_overlay(window.viewer).text


def test_a_missing_file_among_others_is_a_gap_with_a_message(open_window: Open, tmp_path: Path) -> None:
    begin = stores.irregular(30)
    frames = stores.images(begin, tmp_path, other={12: (40, 60), 20: (11, 90)})
    (tmp_path / "other_12.h5").unlink()
    window = open_window(stores.store(tmp_path, {("A", "camera", "images"): frames}))
    assert list(window.canvas.layers) == ["camera"]
    assert window.viewer.layers.selection.active is window.canvas.layers["camera"]
    assert window.timeline.rows == []
    times = window.session.timeline.frames["camera"]
    window.session.time = times.middle[12]
    window.canvas.show_moment()
    assert "other_12.h5" in text_overlay(window.viewer).text
    assert "other_12.h5" in window.frames.problems.toPlainText()
    assert (np.asarray(window.canvas.layers["camera"]._slice.image.raw) == 0).all()
    window.session.time = times.middle[20]
    window.canvas.show_moment()
    assert "11 x 90" in text_overlay(window.viewer).text
    window.session.time = times.middle[21]
    window.canvas.show_moment()
    assert np.asarray(window.canvas.layers["camera"]._slice.image.raw)[0, 0] == 22


def test_large_small_pictures_are_shown_at_the_level_of_the_screen(open_window: Open, tmp_path: Path) -> None:
    """From afar a level of half the side is read and shown, close up the pictures themselves; both are those of the moment."""
    import operando as op

    begin = stores.irregular(3)
    pictures = np.tile(np.arange(8, dtype=np.float32) / 7, (3, 2000, 300)) + np.arange(3, dtype=np.float32)[:, None, None]
    made = stores.pictures(begin, pictures)
    path = stores.store(tmp_path, {("A", "imaging", "frames"): made[0], ("A", "imaging", "reduced"): made[1]})
    levels = op.pyramid(path, "A/imaging/reduced")
    assert list(levels) == [2, 4, 8, 16]
    window = open_window(path)
    layer, view = window.canvas.layers["imaging/transmission"], window.canvas.views["imaging/transmission"]
    assert layer.multiscale
    assert [v.shape[1:] for v in (view, *view.coarser)] == [(2000 // k, 2400 // k) for k in (1, 2, 4, 8, 16)]
    read = {}
    for zoom, expected in ((0.1, {1, 2}), (2.0, {0})):
        window.viewer.scene.camera.zoom = zoom
        for k in (1, 2):
            window.session.time = view.times.begin[k] + 1
            window.settle()
            assert layer.data_level in expected
            raw = np.asarray(layer._slice.image.raw)
            assert abs(raw.mean() - k - 0.5) < 0.02
            read[zoom] = [v.reads for v in (view, *view.coarser)]
    assert read[0.1][0] <= 1, "from afar the whole picture is read when it is opened at most"
    assert read[2.0][0] > read[0.1][0]
    level = levels[2]["transmission"][2].values
    np.testing.assert_allclose(view.coarser[0][window.session.timeline.tick_of(view.times.begin[2] + 1)], level)


def test_frames_that_take_long_are_read_beside_the_window(open_window: Open, whole_store: Path, qtbot: Any) -> None:
    """As over a slow network: the window answers meanwhile, the latest moment is what is shown in the end, and errors arrive."""
    import threading

    window = open_window(whole_store)
    layer, view = window.canvas.layers["detector"], window.canvas.views["detector"]
    quick, threads, answer = view._read, [], threading.Event()

    def slow(index: int) -> np.ndarray:
        threads.append(threading.current_thread() is threading.main_thread())
        answer.wait(60)
        if index == 30:
            raise OSError("the server is away")
        return quick(index)

    view._read = slow
    view.forget()
    view.took = 1.0
    begin = view.times.begin
    for k in range(3, 28):  # would wait for ever in this thread
        window.session.time = begin[k] + 1
        window.canvas.show_moment()
        qtbot.wait(5)
    answer.set()
    assert "being read" in text_overlay(window.viewer).text
    assert window.settle()
    assert np.asarray(layer._slice.image.raw)[0, 0] == 28
    assert "being read" not in text_overlay(window.viewer).text
    assert not any(threads)
    assert len(threads) == 2, "the first and the last: moments that were passed meanwhile are not read"
    view.took = 1.0
    window.session.time = begin[30] + 1
    window.canvas.show_moment()
    assert window.settle()
    assert "detector #30: the server is away" in window.frames.problems.toPlainText()
    assert "the server is away" in text_overlay(window.viewer).text
