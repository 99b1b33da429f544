"""The whole window on a real screen: what each layer and panel shows is what searchsorted names."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores

from napari_operando.timeview import GAP

pytestmark = pytest.mark.gui
Open = Callable[..., Any]


def alive(window: Any, widget: Any) -> bool:
    """Whether something is drawn in a widget: colours differ inside it, away from its edge."""
    picture = window.viewer.window.screenshot(canvas_only=False, flash=False)
    corner = widget.mapTo(window.main, widget.rect().topLeft())
    ratio = picture.shape[1] / window.main.width()
    x, y, w, h = (int(v * ratio) for v in (corner.x(), corner.y(), widget.width(), widget.height()))
    return _drawn(picture[y : y + h, x : x + w])


def _drawn(picture: np.ndarray) -> bool:
    return picture.size > 0 and len(np.unique(picture[..., :3].reshape(-1, 3)[::7], axis=0)) > 8


def inside(window: Any, item: Any) -> np.ndarray:
    """Cut a plot's view out of the timeline as it is on the screen."""
    graphics = window.timeline.graphics
    picture = window.viewer.window.screenshot(canvas_only=False, flash=False)
    corner = graphics.mapTo(window.main, graphics.mapFromScene(item.sceneBoundingRect().topLeft()))
    size = item.sceneBoundingRect()
    return picture[corner.y() + 2 : corner.y() + int(size.height()) - 2, corner.x() + 2 : corner.x() + int(size.width()) - 2]


def test_every_region_of_the_window_is_alive(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    end = window.session.timeline.end
    window.session.time = 0.4 * end
    window.session.mark("A", 0.3 * end)
    window.session.mark("B", 0.5 * end)
    window.session.difference = True
    assert window.settle()
    assert [row.key for row in window.timeline.rows] == ["echem", "xrd", "xas", "fractions xrd", "resistances"]
    for row in window.timeline.rows:
        assert _drawn(inside(window, row.view)), row.key
    assert alive(window, window.spectrum.graphics)
    assert alive(window, window.impedance.graphics)
    canvas = window.viewer.window.screenshot(canvas_only=True, flash=False)
    assert canvas[..., :3].max() > 100
    window.upper_tabs.setCurrentWidget(window.scatter)
    window.settle()
    assert alive(window, window.scatter.graphics)
    assert len(window.scatter.time) >= 4


def test_every_layer_and_panel_shows_the_frame_that_searchsorted_names(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    tree = stores.opened(whole_store)
    begin = np.sort(window.cell.images["detector"].begin)
    xrd = tree["A/xrd/frames"].ds
    seconds = (xrd["time"].values - window.session.timeline.origin).astype(np.int64) / 1e9
    layer, view = window.canvas.layers["detector"], window.canvas.views["detector"]
    rng, gaps = np.random.default_rng(0), 0
    for t in rng.uniform(window.session.timeline.begin, window.session.timeline.end, 60):
        window.session.time = t
        window.canvas.show_moment()
        now = window.session.time
        k = int(np.searchsorted(begin, now, side="right")) - 1
        shown = k >= 0 and max(now - begin[k] - 30.0, 0) <= view.times.max_age
        gaps += not shown
        pixels = np.asarray(layer._slice.image.raw)
        assert pixels[0, 0] == (k + 1 if shown else 0)
        assert abs(window.viewer.dims.point[0] - now) < 1e-6
        frame = window.session.timeline.frames["xrd"].at(now)
        spectrum = window.spectrum.shown.get("cursor")
        if frame.index == GAP:
            assert spectrum is None
        else:
            near = np.argsort(np.abs(seconds - now), kind="stable")[:2]
            assert frame.index in near
            assert spectrum[0] == frame.index
            np.testing.assert_array_equal(spectrum[1], xrd["intensity"][frame.index])
            drawn = window.spectrum.curves["cursor"].yData
            np.testing.assert_array_equal(drawn, spectrum[1])
    assert 0 < gaps < 60


def test_keys(open_window: Open, whole_store: Path, qtbot: Any) -> None:
    from qtpy.QtCore import Qt

    window = open_window(whole_store)
    session, graphics = window.session, window.timeline.graphics
    window.main.activateWindow()
    graphics.setFocus()
    qtbot.waitUntil(graphics.hasFocus, timeout=3000)
    session.active = "xrd"
    session.time = 1000
    at = session.timeline.frames["xrd"].at(session.time).index
    qtbot.keyClick(graphics, Qt.Key.Key_Right)
    assert session.timeline.frames["xrd"].at(session.time).index == at + 1
    qtbot.keyClick(graphics, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert session.timeline.frames["xrd"].at(session.time).index == at + 11
    qtbot.keyClick(graphics, Qt.Key.Key_A)
    qtbot.keyClick(graphics, Qt.Key.Key_BracketRight)
    qtbot.keyClick(graphics, Qt.Key.Key_B)
    qtbot.keyClick(graphics, Qt.Key.Key_D)
    qtbot.keyClick(graphics, Qt.Key.Key_R)
    qtbot.keyClick(graphics, Qt.Key.Key_M)
    assert set(session.marks) == {"A", "B"}
    assert session.difference
    assert session.mean
    assert session.region == tuple(sorted(session.marks.values()))
    window.settle()
    assert "mean" in window.spectrum.shown
    session.select(session.timeline.begin, session.timeline.end)
    window.settle()
    assert window.spectrum.shown["mean"][0] == len(window.cell.spectra["xrd"]), "all frames: their number is no frame"
    assert f"mean of {len(window.cell.spectra['xrd'])} frames" in window.spectrum.legend.text()
    qtbot.keyClick(graphics, Qt.Key.Key_G)
    assert window.timeline.goto.hasFocus()
    qtbot.keyClicks(window.timeline.goto, "cycle 1")
    qtbot.keyClick(window.timeline.goto, Qt.Key.Key_Return)
    assert session.time == pytest.approx(dict(session.timeline.cycles)[1], abs=session.timeline.tick)
    qtbot.keyClicks(window.timeline.goto, "cycle 9")
    qtbot.keyClick(window.timeline.goto, Qt.Key.Key_Return)
    assert "no cycle 9" in window.timeline.note.text()
    assert window.timeline.goto.styleSheet()
    qtbot.keyClick(window.timeline.goto, Qt.Key.Key_Escape)
    assert "no cycle 9" not in window.timeline.note.text()
    assert not window.timeline.goto.styleSheet()
    assert not window.timeline.goto.text()
    assert graphics.hasFocus()
    qtbot.keyClicks(window.timeline.goto, "noon")
    qtbot.keyClick(window.timeline.goto, Qt.Key.Key_Return)
    assert "noon" in window.timeline.note.text()
    qtbot.keyClicks(window.timeline.goto, "1")
    assert "noon" not in window.timeline.note.text()


def test_keys_on_the_canvas_are_ours_while_the_store_is_shown_and_napari_s_after(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    viewer, session = window.viewer, window.session
    session.time = 1000
    before = session.time
    viewer.keymap["Right" if "Right" in viewer.keymap else next(k for k in viewer.keymap if str(k) == "Right")](viewer)
    assert session.time > before
    window.close()
    assert not any(str(k) == "Right" for k in viewer.keymap)


def test_dragging_moves_the_cursor_and_shift_selects(open_window: Open, whole_store: Path, qtbot: Any) -> None:
    from qtpy.QtCore import QPointF, Qt
    from qtpy.QtTest import QTest

    window = open_window(whole_store)
    row = window.timeline.rows[0]
    port = window.timeline.graphics.viewport()

    def point(share: float) -> Any:
        low, high = row.view.viewRange()[0]
        middle = sum(row.view.viewRange()[1]) / 2
        return window.timeline.graphics.mapFromScene(row.view.mapViewToScene(QPointF(low + share * (high - low), middle)))

    QTest.mouseClick(port, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point(0.3))
    qtbot.wait(50)
    low, high = row.view.viewRange()[0]
    assert window.session.time == pytest.approx(low + 0.3 * (high - low), rel=0.02)
    for modifier, check in (
        (Qt.KeyboardModifier.NoModifier, lambda: window.session.time),
        (Qt.KeyboardModifier.ShiftModifier, lambda: window.session.region[1]),
    ):
        QTest.mousePress(port, Qt.MouseButton.LeftButton, modifier, point(0.4))
        for share in (0.45, 0.5, 0.6):
            from qtpy.QtGui import QMouseEvent
            from qtpy.QtWidgets import QApplication

            at = point(share)
            QApplication.sendEvent(
                port,
                QMouseEvent(
                    QMouseEvent.Type.MouseMove,
                    QPointF(at),
                    QPointF(port.mapToGlobal(at)),
                    Qt.MouseButton.NoButton,
                    Qt.MouseButton.LeftButton,
                    modifier,
                ),
            )
            qtbot.wait(60)
        QTest.mouseRelease(port, Qt.MouseButton.LeftButton, modifier, point(0.6))
        assert check() == pytest.approx(low + 0.6 * (high - low), rel=0.03)


def test_cells_spots_and_themes(open_window: Open, tmp_path: Path) -> None:
    window = open_window(stores.whole(tmp_path, positions=2))
    assert window.position == 0
    assert window.timeline.positions.count() == 3
    frames = window.session.timeline.frames["xrd"]
    assert (frames.frames % 2 == 0).all()
    window.timeline.positions.setCurrentText("1")
    assert (window.session.timeline.frames["xrd"].frames % 2 == 1).all()
    window.timeline.positions.setCurrentText("all")
    session = window.session
    session.active = "xrd"
    all_frames = session.timeline.frames["xrd"]
    session.time = all_frames.middle[3]
    session.mark("A", all_frames.middle[2])
    session.mark("B", all_frames.middle[3])
    assert "A is of spot 0, B of spot 1" in window.spectrum.message
    assert "spot 1" in window.spectrum.legend.text()
    session.select(all_frames.middle[2] - 1, all_frames.middle[5] + 1)
    session.mean = True
    assert "the mean is over spots 0, 1" in window.spectrum.message
    window.timeline.positions.setCurrentText("0")
    assert "spots" not in window.spectrum.message
    assert "of spot" not in window.spectrum.message
    window.viewer.theme = "light"
    window.settle()
    assert not window.timeline.look.dark
    window.timeline.cells.setCurrentText("B")
    window.settle()
    assert window.cell.name == "B"
    assert not window.canvas.layers
    assert "no images" in window.timeline.note.text()
    assert [r.key for r in window.timeline.rows] == ["echem", "xrd"]
    window.timeline.cells.setCurrentText("A")
    window.settle()
    assert "detector" in window.canvas.layers


def test_opening_and_closing_twenty_times_leaks_nothing(viewer: Any, whole_store: Path, qtbot: Any) -> None:
    from napari_operando.opening import open_window
    from napari_operando.window import windows

    gone, callbacks = [], None
    for _ in range(20):
        window = open_window(viewer, whole_store)
        assert window.settle()
        window.session.time = 500.0
        gone.append((weakref.ref(window.session), weakref.ref(window.timeline), weakref.ref(window.canvas.views["detector"]), weakref.ref(window)))
        window.close()
        del window
        qtbot.wait(20)
        now = len(viewer.dims.events.point.callbacks), len(viewer.events.theme.callbacks), len(viewer.keymap)
        callbacks = callbacks or now
        assert now == callbacks
    gc.collect()
    qtbot.wait(50)
    gc.collect()
    assert not viewer.layers
    assert viewer not in windows
    alive = [[what() is not None for what in many] for many in gone]
    assert not any(any(many) for many in alive[:-1]), alive


def test_moving_the_cursor_loses_no_reference_to_none(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    before = sys.getrefcount(None)
    for t in np.linspace(0, window.session.timeline.end, 300):
        window.session.time = t
        window.canvas.show_moment()
    if sys.version_info < (3, 12):  # from 3.12 on None is immortal
        assert sys.getrefcount(None) > before - 100


def test_one_frame_only(open_window: Open, tmp_path: Path) -> None:
    one = np.array([100.0])
    products = {
        ("A", "xrd", "frames"): stores.xrd(one),
        ("A", "eis", "frames"): stores.eis(one),
        ("A", "camera", "images"): stores.images(one, tmp_path),
    }
    window = open_window(stores.store(tmp_path, products))
    window.session.time = 110.0
    window.canvas.show_moment()
    window.settle()
    assert window.spectrum.shown["cursor"][0] == 0
    assert window.impedance.shown["cursor"][0] == 0
    assert np.asarray(window.canvas.layers["camera"]._slice.image.raw)[0, 0] == 1
    window.session.step(1)
    window.session.cycle(1)
    window.session.toggle_region()


def test_nothing_but_nan(open_window: Open, tmp_path: Path) -> None:
    begin = stores.irregular(20)
    patterns = stores.xrd(begin, nan=True)
    observables = stores.fractions(patterns)
    observables["phase_fraction"][:] = np.nan
    sweeps = stores.eis(begin[::4])
    sweeps["impedance"][:] = np.nan
    records = stores.echem(50, float(begin[-1]))
    records["voltage"][:] = np.nan
    window = open_window(
        stores.store(
            tmp_path,
            {
                ("A", "echem", "frames"): records,
                ("A", "xrd", "frames"): patterns,
                ("A", "xrd", "observables"): observables,
                ("A", "eis", "frames"): sweeps,
                ("A", "eis", "observables"): stores.resistances(sweeps),
            },
        )
    )
    for t in np.linspace(window.session.timeline.begin, window.session.timeline.end, 20):
        window.session.time = t
    window.settle()
    titles = {row.key: row.words for row in window.timeline.rows}
    assert titles["xrd"] == "xrd: nothing but NaN"
    assert titles["fractions xrd"] == "xrd: no fraction is known"
    assert "no point in it" in window.impedance.says.text() or "no sweep" in window.impedance.says.text()
    window.upper_tabs.setCurrentWidget(window.scatter)
    window.settle()


def test_what_is_missing_is_said(open_window: Open, tmp_path: Path) -> None:
    window = open_window(stores.store(tmp_path, {("A", "echem", "frames"): stores.echem(50, 5000.0)}))
    note = window.timeline.note.text()
    for what in ("no images", "no spectra", "no impedance sweeps", "no phase fractions"):
        assert what in note
    assert window.spectrum.message == "This store holds no spectra."
    assert "no impedance" in window.impedance.says.text()
    assert [row.key for row in window.timeline.rows] == ["echem"]
    window.session.step(1)
    window.session.mark("A")


def test_more_frames_than_a_texture_is_wide(open_window: Open, tmp_path: Path) -> None:
    begin = stores.irregular(20_000, mean=31.0, exposure=30.0)
    window = open_window(stores.store(tmp_path, {("A", "xrd", "frames"): stores.xrd(begin, points=32)}))
    row = window.timeline.rows[0]
    assert row.whole.factor == 16
    assert _drawn(inside(window, row.view))
    row.view.setXRange(begin[15_000], begin[15_040], padding=0)
    window.settle()
    window.settle()
    assert row.near is not None
    assert row.near_frames[0] <= 15_000 <= row.near_frames[1]
    middle = row.image.image.shape[0] // 2
    low, high = row.view.viewRange()[0]
    frame = row.times.at(low + (high - low) * (middle + 0.5) / row.image.image.shape[0]).index
    np.testing.assert_array_equal(row.image.image[middle], row._shaded[1][frame - (row.near_frames[0])])


def test_a_store_that_grew_is_read_again(open_window: Open, tmp_path: Path, viewer: Any, qtbot: Any) -> None:
    from napari_operando.window import windows
    from operando.store import Store

    begin = stores.irregular(30)
    pixels = stores.images(begin, tmp_path)
    products = {
        ("A", "echem", "frames"): stores.echem(500, 4000.0),
        ("A", "xrd", "frames"): stores.xrd(begin[:20], positions=2),
        ("A", "camera", "images"): pixels.isel(time=slice(0, 20)),
    }
    path = stores.store(tmp_path, products, publish=False)
    window = open_window(path)
    session, row = window.session, window.timeline.rows[1]
    window.timeline.positions.setCurrentText("1")
    session.time = 500.0
    session.mark("A")
    session.mark("B", 900.0)
    session.select(300.0, 900.0)
    session.mean = session.difference = True
    session.active = "xrd"
    row.paint("magma", "logarithm")
    row.bar.setLevels((10.0, 300.0))
    row.bar.sigLevelsChanged.emit(row.bar)
    row.view.setXRange(200.0, 1000.0, padding=0)
    row.view.setYRange(2.0, 3.0, padding=0)
    row.view.sigRangeChangedManually.emit([False, True])
    window.timeline.toggle("echem", False)
    layer = window.canvas.layers["camera"]
    layer.contrast_limits, layer.colormap, layer.opacity = (3, 9), "magma", 0.8
    window.cell.spectra["xrd"].max_age = 77.0
    window.spectrum.plot.getViewBox().setRange(xRange=(2.0, 2.5), padding=0)
    window.spectrum.plot.getViewBox().sigRangeChangedManually.emit([True, True])
    with Store(path).writing() as writer:
        writer.write("A", "xrd", "frames", stores.xrd(begin, positions=2).isel(time=slice(20, None)), key="later")
        writer.write("A", "camera", "images", pixels.isel(time=slice(20, None)), key="later")
        writer.write("A", "eis", "frames", stores.eis(begin[::10]), key="new")
    window.read_again()
    qtbot.waitUntil(lambda: len(window.cell.spectra["xrd"]) == 30, timeout=20_000)
    assert window.settle()
    assert windows[viewer] is window
    assert not window.closed
    assert window.session is session
    assert session.time == pytest.approx(500.0, abs=session.timeline.tick)
    assert session.marks == {"A": pytest.approx(500.0, abs=1.0), "B": pytest.approx(900.0, abs=1.0)}
    assert session.region == pytest.approx((300.0, 900.0), abs=1.0)
    assert session.mean
    assert session.difference
    assert session.active == "xrd"
    assert window.position == 1
    assert window.timeline.positions.currentText() == "1"
    assert (session.timeline.frames["xrd"].frames % 2 == 1).all()
    assert session.timeline.frames["xrd"].max_age == 77.0
    assert [r.key for r in window.timeline.rows] == ["xrd"]
    row = window.timeline.rows[0]
    assert (row.colours, row.scale, row._levels) == ("magma", "logarithm", (10.0, 300.0))
    assert row.view.viewRange()[0] == pytest.approx([200.0, 1000.0])
    assert row.view.viewRange()[1] == pytest.approx([2.0, 3.0])
    assert window.canvas.layers["camera"] is layer
    assert (tuple(layer.contrast_limits), layer.colormap.name, layer.opacity) == ((3, 9), "magma", 0.8)
    assert layer.data is window.canvas.views["camera"]
    session.time = session.timeline.frames["camera"].begin[27] + 1
    window.canvas.show_moment()
    assert np.asarray(layer._slice.image.raw)[0, 0] == 28
    assert window.spectrum.plot.getViewBox().viewRange()[0] == pytest.approx([2.0, 2.5])
    assert window.impedance.sweeps is not None


def test_a_store_that_is_growing(open_window: Open, tmp_path: Path) -> None:
    window = open_window(stores.whole(tmp_path, publish=False))
    assert [row.key for row in window.timeline.rows] == ["echem", "xrd", "xas", "fractions xrd", "resistances"]
    assert "detector" in window.canvas.layers


def test_bytes_that_went_bad_leave_the_rest(open_window: Open, tmp_path: Path) -> None:
    import h5py

    path = stores.whole(tmp_path)
    with h5py.File(path) as h5:
        chunks = [h5["A/xrd/frames/intensity"].id.get_chunk_info(k) for k in range(2)]
    with path.open("r+b") as file:
        for chunk in chunks:
            file.seek(chunk.byte_offset + 10)
            file.write(b"\xff" * (chunk.size - 20))
    window = open_window(path)
    titles = {row.key: row.words for row in window.timeline.rows}
    assert "cannot be read" in titles["xrd"]
    assert titles["xas"] == "xas"
    window.session.time = window.session.timeline.frames["xrd"].middle[2]
    window.settle()
    assert "cannot be read" in window.spectrum.message
    assert "detector" in window.canvas.layers


def test_files_dropped_on_napari_open_the_window_and_the_widget_does(viewer: Any, whole_store: Path, qtbot: Any, tmp_path: Path) -> None:
    import npe2

    from napari_operando.panels.opener import OpenWidget
    from napari_operando.window import windows

    npe2.PluginManager.instance().register(npe2.PluginManifest.from_distribution("napari-operando"), warn_disabled=False) if (
        "napari-operando" not in npe2.PluginManager.instance()
    ) else None
    assert viewer.open(str(whole_store), plugin="napari-operando") == []
    qtbot.waitUntil(lambda: viewer in windows, timeout=20_000)
    window = windows[viewer]
    assert window.settle()
    assert "detector" in window.canvas.layers
    widget = OpenWidget(viewer)
    qtbot.addWidget(widget)
    widget.open(str(whole_store))
    qtbot.waitUntil(lambda: window.closed, timeout=20_000)
    assert window.closed
    assert windows[viewer].settle()
    widget.open(str(tmp_path / "none.nxs"))
    qtbot.waitUntil(lambda: "no such store" in widget.says.text(), timeout=20_000)


@pytest.mark.parametrize("first", ["dark", "light"])
def test_what_is_written_is_legible_from_the_start_and_in_the_other_theme(open_window: Open, whole_store: Path, first: str) -> None:
    """The line that tells time and voltage is painted in the theme's colour, whatever it was when its text was set."""
    from qtpy.QtGui import QColor

    window = open_window(whole_store)
    other = "light" if first == "dark" else "dark"
    for theme in (first, other):
        window.viewer.theme = theme
        window.settle()
        for line in (window.timeline.readout, window.timeline.frames, window.impedance.says):
            line.grab()  # paints it
            text, ground = (QColor(c).lightness() for c in (line._colour, line.palette().window().color().name()))
            assert abs(text - ground) > 100, (theme, text, ground)


def test_a_window_of_its_own_has_room(open_window: Open, whole_store: Path) -> None:
    from napari_operando.opening import _roomy

    window = open_window(whole_store)
    window.main.resize(1000, 700)
    _roomy(window.viewer)
    screen = window.main.screen().availableGeometry()
    assert window.main.width() >= 0.85 * screen.width()
    assert window.main.height() >= 0.85 * screen.height()


def test_a_viewer_that_was_closed_meanwhile_is_left_alone(qapp: Any, screen: str, whole_store: Path, qtbot: Any) -> None:
    import napari

    from napari_operando import opening
    from napari_operando.window import windows

    if not screen:
        pytest.skip("no screen")
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    opening.open_beside(viewer, whole_store)
    assert opening._reading
    viewer.close()
    qtbot.waitUntil(lambda: not opening._reading, timeout=20_000)
    assert viewer not in windows


def test_a_second_store_while_the_first_is_opened(viewer: Any, whole_store: Path, qtbot: Any) -> None:
    from napari_operando import opening
    from napari_operando.window import windows

    opening.open_beside(viewer, whole_store)
    opening.open_beside(viewer, whole_store)
    qtbot.waitUntil(lambda: not opening._reading and viewer in windows, timeout=30_000)
    assert windows[viewer].settle()
    assert [layer.name for layer in viewer.layers] == ["detector"]


def test_a_damaged_product_is_named_where_it_is_seen(open_window: Open, tmp_path: Path) -> None:
    path = stores.whole(tmp_path, publish=False)
    for part in (path / "parts" / "A" / "detector" / "images").glob("*.h5"):
        part.unlink()
    window = open_window(path)
    note = window.timeline.note.text()
    assert "Damaged, see Frames: detector/images" in note
    assert "add a source" not in note


def test_a_cell_chosen_again_while_another_is_read(open_window: Open, tmp_path: Path) -> None:
    window = open_window(stores.whole(tmp_path))
    for name in ("B", "A", "B"):
        window.timeline.cells.setCurrentText(name)
    assert window.settle()
    assert window.cell.name == "B"
    window.timeline.cells.setCurrentText("A")
    window.timeline.cells.setCurrentText("B")
    assert window.settle()
    assert window.cell.name == window.timeline.cells.currentText() == "B"
    assert [r.key for r in window.timeline.rows] == ["echem", "xrd"]
