"""What rows and panels draw and what is exported of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores

pytestmark = pytest.mark.gui
Open = Callable[..., Any]


def test_irregular_times_are_drawn_where_they_are(open_window: Open, whole_store: Path) -> None:
    """The row of a waterfall under a moment is the frame of that moment, and pauses are empty."""
    window = open_window(whole_store)
    row = next(r for r in window.timeline.rows if r.key == "xrd")
    low, high = row.view.viewRange()[0]
    columns = row.image.image.shape[0]
    times = window.session.timeline.frames["xrd"]
    for c in range(0, columns, 7):
        t = low + (high - low) * (c + 0.5) / columns
        shown = times.at(t)
        drawn = row.image.image[c]
        if shown.gap:
            assert not drawn.any()
        else:
            np.testing.assert_array_equal(drawn, row._shaded[1][row.whole.row[shown.index]])
    assert (row.image.image == 0).all(axis=1).any()


def test_a_row_can_be_shown_and_hidden(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    window.timeline._fill_menu()
    window.timeline.toggle("trace eis/ohmic_resistance", True)
    window.timeline.toggle("waterfall xas", False)
    window.settle()
    assert [r.key for r in window.timeline.rows] == ["echem", "xrd", "fractions xrd", "resistances", "eis/ohmic_resistance"]
    window.timeline._show_second("charge")
    assert window.timeline.rows[0].second.name == "echem/charge"
    for row in window.timeline.rows:
        if hasattr(row, "paint"):
            row.paint(colours="magma", scale="logarithm")


def test_export_writes_what_is_shown(open_window: Open, whole_store: Path, tmp_path: Path) -> None:
    window = open_window(whole_store)
    window.session.time = window.session.timeline.frames["xrd"].middle[30]
    window.session.mark("A", 0)
    window.settle()
    window.export(tmp_path / "view")
    assert window.settle()
    assert "exported" in window.timeline.note.text()
    made = {p.name: p for p in (tmp_path / "view").iterdir()}
    assert {"window.png", "canvas.png", "timeline.svg", "timeline.png", "spectrum.svg", "spectrum.csv", "impedance.csv", "provenance.json"} <= set(
        made
    )
    assert {"timeline_echem.csv", "timeline_xrd.csv", "timeline_xrd_picture.csv", "timeline_fractions_xrd.csv", "timeline_resistances.csv"} <= set(
        made
    )
    told = json.loads(made["provenance.json"].read_text())
    assert told["frames"]["xrd"]["frame"] == 30
    assert told["events"]["A"] == 0.0
    assert "A/xrd" in told["series"]
    table = np.genfromtxt(made["spectrum.csv"], delimiter=",", skip_header=1)
    np.testing.assert_array_equal(table[:, 1], window.spectrum.spectra.spectrum(30))
    assert b"<svg" in made["timeline.svg"].read_bytes()[:2000]
    svg = made["timeline.svg"].read_text()
    assert window.timeline.look.background in svg[: svg.index("</defs>")], "legible on any page"
    assert "100%" not in svg[: svg.index("</defs>")]
    assert "#30" in made["spectrum.svg"].read_text(), "the figure says which frame it shows"
    window.export(tmp_path / "view")
    assert "already" in window.timeline.note.text()


def test_frames_without_beam_are_named_and_left_out_of_means(open_window: Open, tmp_path: Path) -> None:
    begin = stores.irregular(20)
    frames = stores.xrd(begin)
    frames["intensity"][5] = 0.0
    frames["intensity"][6] = 1e9
    quality = np.zeros(20, np.int32)
    quality[5], quality[6], quality[7] = 1, 4, 2
    frames = frames.assign_coords(quality=("time", quality, frames["quality"].attrs if "quality" in frames.coords else {}))
    window = open_window(stores.store(tmp_path, {("A", "xrd", "frames"): frames}))
    session, times = window.session, window.session.timeline.frames["xrd"]
    session.select(times.middle[3] - 1, times.middle[8] + 1)
    session.mean = True
    session.time = times.middle[5]
    session.mark("A", times.middle[6])
    assert window.settle()
    counted, mean = window.spectrum.shown["mean"]
    assert counted == 4
    np.testing.assert_allclose(mean, frames["intensity"].values[[3, 4, 7, 8]].mean(0), rtol=1e-6)
    assert "left out of the mean: 2 frames" in window.spectrum.message
    assert "frame #5: BEAM_DUMP" in window.spectrum.message
    assert "A #6: CORRUPT" in window.spectrum.message
    assert "BEAM_DUMP" in window.timeline.frames.text()
    window.lower_tabs.setCurrentWidget(window.frames)
    window.settle()
    assert "BEAM_DUMP" in window.frames.table_widget.item(0, 2).text()
    session.select(times.middle[5] - 1, times.middle[6] + 1)
    window.settle()
    assert "mean" not in window.spectrum.shown


def test_scatter_of_very_much_and_of_the_spot(open_window: Open, tmp_path: Path) -> None:
    store = stores.whole(tmp_path, positions=2, records=200_000)
    window = open_window(store)
    window.upper_tabs.setCurrentWidget(window.scatter)
    window.settle()
    panel = window.scatter
    panel.x_box.setCurrentText("echem/voltage")
    panel.y_box.setCurrentText("echem/current")
    assert window.settle()
    assert len(panel.dots.data) <= 20_000
    assert len({id(b) for b in panel.dots.data["brush"]}) <= 65, "each costs a picture of its own"
    assert "one of 10 is drawn" in panel.says.text()
    assert len(panel.time) == 200_000
    fractions = next(n for n in window.cell.traces if "phase_fraction" in n)
    panel.x_box.setCurrentText(fractions)
    panel.y_box.setCurrentText("echem/voltage")
    of_all = window.cell.traces[fractions]
    shown = of_all.of_the_spot(window.session.timeline.frames)
    assert 0 < shown.sum() < len(shown)
    assert set(panel.time) <= set(of_all.time[shown])
    window.timeline.positions.setCurrentText("1")
    assert set(panel.time) <= set(of_all.time[~shown])
    table = next(r for r in window.timeline.rows if r.key == "fractions xrd").table()
    assert set(table["time (s)"]) <= set(of_all.time[~shown])


def test_what_is_exported_of_a_waterfall_is_what_is_drawn(open_window: Open, tmp_path: Path) -> None:
    begin = stores.irregular(5000, mean=60.0)
    frames = stores.xrd(begin, points=30)
    window = open_window(stores.store(tmp_path, {("A", "xrd", "frames"): frames}))
    row = next(r for r in window.timeline.rows if r.key == "xrd")
    times = window.session.timeline.frames["xrd"]
    row.view.setXRange(times.begin[1000] - 1, times.end[1030] + 1, padding=0)
    assert window.settle()
    assert row.level is row.near
    window.export(tmp_path / "near")
    assert window.settle()
    table = np.genfromtxt(tmp_path / "near" / "timeline_xrd_picture.csv", delimiter=",", skip_header=1)
    np.testing.assert_allclose(table[:, 1], 1)
    np.testing.assert_allclose(table[:, 2:], frames["intensity"].values[1000:1031], rtol=1e-6)
    row.view.setXRange(times.begin[0], times.end[-1], padding=0)
    assert window.settle()
    window.export(tmp_path / "far")
    assert window.settle()
    table = np.genfromtxt(tmp_path / "far" / "timeline_xrd_picture.csv", delimiter=",", skip_header=1)
    assert table[:, 1].sum() == 5000
    assert table[:, 1].max() > 1


def test_what_is_stale_is_veiled_in_the_waterfall(open_window: Open, whole_store: Path) -> None:
    window = open_window(whole_store)
    row = next(r for r in window.timeline.rows if r.key == "xrd")
    low, high = row.view.viewRange()[0]
    n = row.image.image.shape[0]
    centres = low + (high - low) * (np.arange(n) + 0.5) / n
    times = window.session.timeline.frames["xrd"]
    stale = np.array([times.at(t).stale and not times.at(t).gap for t in centres])
    assert stale.any()
    assert row.veil.isVisible()
    np.testing.assert_array_equal(row.veil.image[:, 0, 3] > 0, stale)
