"""A store as the viewer sees it, whole and damaged."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import stores
import xarray as xr

import operando as op
from napari_operando.layers import contrast, first_picture, image_layer
from napari_operando.opening import image_layers, reader
from napari_operando.reading import Stored, Trace


def test_what_a_whole_store_gives(whole_store: Path) -> None:
    stored = Stored(whole_store)
    assert stored.cells == ["A", "B"]
    assert stored.problems == []
    cell = stored.cell("A")
    assert cell is stored.cell("A")
    assert list(cell.spectra) == ["xrd", "xas"]
    assert list(cell.images) == ["detector"]
    assert list(cell.sweeps) == ["eis"]
    assert [t.name for t in cell.fractions["xrd"]] == ["xrd/phase_fraction[phase=H1]", "xrd/phase_fraction[phase=H2]"]
    assert cell.missing == []
    assert cell.spectra["xrd"].axis_label == "q (Å⁻¹)"
    assert cell.traces["eis/ohmic_resistance"].axis == "ohmic resistance (Ω)"
    assert cell.echem["current"].units == "mA"
    assert cell.echem["voltage"].time[0] == 0.0
    assert [n for n, _ in cell.cycles] == [0, 1]
    assert [n for n, _ in cell.half_cycles] == [0, 1, 2, 3]
    line = cell.timeline()
    assert line.begin <= 0
    assert line.end >= cell.echem["voltage"].time[-1]
    assert {k: len(t) for k, t in line.frames.items()} == {"xrd": 60, "xas": 20, "detector": 60, "eis": len(cell.sweeps["eis"])}


def test_times_are_those_of_the_store(whole_store: Path) -> None:
    cell = Stored(whole_store).cell("A")
    frames = stores.opened(whole_store)["A/xrd/frames"].ds
    middle = (cell.spectra["xrd"].begin + cell.spectra["xrd"].end) / 2
    expected = (frames["time"].values - cell.origin).astype("timedelta64[ns]").astype(float) / 1e9
    np.testing.assert_allclose(middle, expected, atol=1e-6)
    np.testing.assert_allclose(cell.spectra["xrd"].end - cell.spectra["xrd"].begin, 30.0)


def test_what_stands_at_a_moment(whole_store: Path) -> None:
    cell = Stored(whole_store).cell("A")
    time, voltage = cell.echem["voltage"].time, cell.echem["voltage"].values
    k = 700
    at = cell.at((time[k] + time[k + 1]) / 2)
    assert at["voltage"] == pytest.approx((voltage[k] + voltage[k + 1]) / 2)
    assert at["cycle"] == cell.echem["cycle"].values[k]
    assert cell.at(time[k])["voltage"] == voltage[k]
    assert np.isnan(cell.at(time[0] - 5)["voltage"])
    assert np.isnan(cell.at(time[-1] + 5)["voltage"])
    cell.max_gap = 1e-3
    assert np.isnan(cell.at((time[k] + time[k + 1]) / 2)["voltage"])


def test_spectra_errors_and_means(whole_store: Path) -> None:
    one = Stored(whole_store).cell("A").spectra["xrd"]
    assert one.spectrum(17)[0] == 17
    assert one.errors(17) is None
    mean, counted = one.mean(np.array([3, 5, 10]))
    assert mean[0] == 6.0
    assert counted == 3


def test_sweeps_with_fit_and_relaxation_times(whole_store: Path) -> None:
    sweeps = Stored(whole_store).cell("A").sweeps["eis"]
    sweep = sweeps.sweep(2)
    assert sweep.fit is not None
    assert sweep.drt is not None
    assert sweep.low is not None
    assert sweep.notes == ""
    np.testing.assert_allclose(sweep.fit, sweep.impedance * 1.001)
    assert sweeps.has_drt
    assert len(sweep.frequency) == 30


def test_the_layer_is_true_in_time(whole_store: Path) -> None:
    stored = Stored(whole_store)
    cell = stored.cell("A")
    line = cell.timeline()
    picture, reason, _ = first_picture(cell.images["detector"], line.frames["detector"])
    assert reason == ""
    assert picture is not None
    view, settings, kind = image_layer("detector", cell.images["detector"], line, picture)
    assert kind == "image"
    assert settings["units"] == ("s", "pixel", "pixel")
    assert settings["axis_labels"] == ("time", "y", "x")
    begin = cell.images["detector"].begin
    for t in np.random.default_rng(0).uniform(line.begin, line.end, 200):
        tick = round((t - settings["translate"][0]) / settings["scale"][0])
        moment = settings["translate"][0] + tick * settings["scale"][0]
        k = int(np.searchsorted(begin, moment, side="right")) - 1
        shown = k >= 0 and moment - begin[k] - 30 <= view.times.max_age
        assert view[tick, 0, 0] == (k + 1 if shown else 0)
    made = image_layers(stored)
    assert len(made) == 1
    assert made[0][1]["name"] == "detector"


def test_contrast_leaves_dead_pixels_out() -> None:
    picture = np.arange(1000, dtype=np.uint32).reshape(20, 50)
    picture[0, :10] = 2**32 - 1
    assert contrast(picture)[1] < 1000
    assert contrast(np.full((3, 3), np.nan)) == (0.0, 1.0)
    assert contrast(np.full((3, 3), 7)) == (7.0, 14.0)


def test_a_growing_store_is_read_like_a_published_one(tmp_path: Path) -> None:
    cell = Stored(stores.whole(tmp_path, publish=False)).cell("A")
    assert list(cell.spectra) == ["xrd", "xas"]
    assert cell.spectra["xrd"].spectrum(5)[0] == 5
    assert cell.images["detector"].pictures.read(3)[0, 0] == 4


def test_a_damaged_part_leaves_the_rest(tmp_path: Path) -> None:
    path = stores.whole(tmp_path, publish=False)
    part = next((path / "parts" / "A" / "xas" / "frames").glob("*.h5"))
    part.write_bytes(part.read_bytes()[:-100])
    stored = Stored(path)
    assert len(stored.problems) == 1
    assert part.name in stored.problems[0]
    assert list(stored.cell("A").spectra) == ["xrd"]


def test_bytes_that_went_bad_are_told_when_they_are_read(tmp_path: Path) -> None:
    path = stores.whole(tmp_path)
    with path.open("r+b") as file:
        data = file.read()
        import h5py

        with h5py.File(path) as h5:
            where = h5["A/xrd/frames/intensity"].id.get_chunk_info(0)
        file.seek(where.byte_offset + where.size // 2)
        file.write(b"\xff" * 40)
        assert len(data) > 1000
    one = Stored(path).cell("A").spectra["xrd"]
    with pytest.raises(op.OperandoError, match="intensity"):
        one.spectrum(0)


def test_a_store_with_nothing_but_one_technique(tmp_path: Path) -> None:
    cell = Stored(stores.store(tmp_path, {("A", "xas", "frames"): stores.xas(np.array([100.0]))})).cell("A")
    assert [m.split(":")[0] for m in cell.missing] == ["no electrochemistry", "no images", "no impedance sweeps", "no phase fractions"]
    line = cell.timeline()
    assert line.end > line.begin
    assert line.frames["xas"].at(0.0).index == 0
    assert cell.at(0.0) == {}


def test_no_store_no_cell_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.nxs", tmp_path):
        with pytest.raises(op.OperandoError):
            Stored(path)
    (tmp_path / "no.nxs").write_bytes(b"\x89HDF\r\n\x1a\n but not")
    with pytest.raises(op.OperandoError):
        Stored(tmp_path / "no.nxs")


def test_the_reader_claims_stores_and_nothing_else(whole_store: Path, tmp_path: Path) -> None:
    assert reader(str(whole_store)) is not None
    assert reader([str(whole_store)]) is not None
    import h5py

    with h5py.File(tmp_path / "other.nxs", "w") as h5:
        h5["data"] = 1
    (tmp_path / "text.nxs").write_text("text")
    for other in ("other.nxs", "text.nxs", "none.nxs", "."):
        assert reader(str(tmp_path / other)) is None
    growing = tmp_path / "g"
    growing.mkdir()
    assert reader(str(stores.whole(growing, publish=False))) is not None


def test_images_that_are_not_there_are_warned_of(tmp_path: Path) -> None:
    path = stores.whole(tmp_path)
    (tmp_path / "detector.h5").unlink()
    with pytest.warns(UserWarning, match="detector.h5"):
        assert image_layers(Stored(path)) == []
    (tmp_path / "moved" / "deeper").mkdir(parents=True)
    stores.images(stores.irregular(60), tmp_path / "moved" / "deeper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(image_layers(Stored(path, [tmp_path / "moved" / "deeper"]))) == 1


def test_observables_with_labels_and_without(tmp_path: Path) -> None:
    patterns = stores.xrd(stores.irregular(6))
    odd = stores.aside(
        patterns,
        {
            "area": (("time", "peak"), np.ones((6, 2)), {"units": "counts/angstrom"}),
            "many": (("time", "w"), np.ones((6, 100)), {"units": "1"}),
            "text": ("time", np.array(["a"] * 6, object), {}),
            "flag": ("time", np.ones(6, bool), {}),
        },
    )
    cell = Stored(stores.store(tmp_path, {("A", "xrd", "frames"): patterns, ("A", "xrd", "observables"): odd})).cell("A")
    assert [n for n in cell.traces if n.startswith("xrd")] == ["xrd/area[peak=1]", "xrd/area[peak=2]", "xrd/flag"]


def test_traces_of_nothing() -> None:
    assert Trace("x", "x", "1", np.empty(0), np.empty(0)).empty
    one = Trace("x", "x", "V", np.arange(3.0), np.arange(3.0), errors=np.ones(3))
    assert one.only(np.array([True, False, True])).errors.tolist() == [1, 1]
    assert one.axis == "x (V)"


def test_reduced_products_are_spectra_of_their_own(tmp_path: Path) -> None:
    frames = stores.xas(stores.irregular(5))
    flat = stores.aside(
        frames,
        {"mu_normalised": (("time", "energy"), frames["mu"].values, {"units": "1"})},
        energy=("energy", frames["energy"].values, {"units": "eV"}),
    )
    cell = Stored(stores.store(tmp_path, {("A", "xas", "frames"): frames, ("A", "xas", "reduced"): flat})).cell("A")
    assert list(cell.spectra) == ["xas", "xas/mu_normalised"]
    assert isinstance(cell.spectra["xas/mu_normalised"].ds, xr.Dataset)
    assert "xas/mu_normalised" in cell.timeline().frames


def test_the_viewer_uses_what_operando_offers_and_nothing_inside_it() -> None:
    import ast

    import napari_operando

    allowed = {"operando", "demo"}
    for file in Path(napari_operando.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.startswith("operando.") for n in names), (file.name, names)
            if isinstance(node, ast.ImportFrom) and node.module == "operando":
                assert {a.name for a in node.names} <= allowed, file.name


def test_pictures_of_a_camera_as_taken_and_corrected(tmp_path: Path) -> None:
    """A stack of TIFF, built: the frames themselves, and the small pictures of the store laid where they lie."""
    import tifffile

    from operando.beamtime import run
    from operando.config import read_config

    frames = [np.full((64, 96), 1000 + k, np.uint16) for k in range(5)]
    flat = np.full((64, 96), 2000, np.uint16)
    (tmp_path / "camera").mkdir()
    with tifffile.TiffWriter(tmp_path / "camera" / "stack.tif") as out:
        for one in frames:
            out.write(one, metadata=None, contiguous=False)
    tifffile.imwrite(tmp_path / "camera" / "flat.tif", flat, metadata=None)
    (tmp_path / "beamtime.yaml").write_text(
        """\
title: a camera
timezone: UTC
sources:
  camera: {loader: tiff-stack, files: camera/stack.tif, start: '2024-01-01T00:00:00', frame_time: 10 s, pixel_size: 2 um}
cells:
  A:
    series:
      imaging:
        from: camera
        recipe: {reducer: imaging, flat: {file: camera/flat.tif}, preview: 24}
"""
    )
    outcome = run(read_config(tmp_path / "beamtime.yaml"))
    cell = Stored(outcome.published).cell("A")
    assert list(cell.images) == ["imaging", "imaging/transmission"]
    line = cell.timeline()
    raw, small = (cell.images[key] for key in ("imaging", "imaging/transmission"))
    assert raw.pictures.read(3)[0, 0] == 1003
    np.testing.assert_allclose(small.pictures.read(3), 1003 / 2000, rtol=1e-6)
    picture, reason, _ = first_picture(small, line.frames["imaging/transmission"])
    assert reason == ""
    view, settings, _ = image_layer("imaging/transmission", small, line, picture)
    assert settings["scale"][1:] == (4.0, 4.0)
    assert settings["translate"][1:] == (1.5, 1.5)
    tick = int((small.begin[2] - line.begin) / line.tick) + 1
    np.testing.assert_allclose(np.asarray(view[tick]), 1002 / 2000, rtol=1e-6)
    assert "imaging/mean" in cell.traces


def test_a_long_record_is_drawn_from_fewer_numbers_that_look_the_same() -> None:
    from napari_operando.pyramid import envelope
    from napari_operando.reading import Trace

    rng = np.random.default_rng(0)
    time = np.cumsum(rng.exponential(1.0, 400_000))
    time[250_000:] += 5000.0  # a pause
    values = np.sin(time / 1e4) + 0.1 * rng.normal(size=time.size)
    values[123_456] = 7.0
    values[300_000:300_050] = np.nan
    trace = Trace("echem/voltage", "voltage", "V", time, values)
    assert trace.seen(100.0, 900)[0] is time, "close up every number counts"
    span = float(time[-1] - time[0])
    for low, width in ((0.0, span), (0.2 * span, 0.5 * span)):
        coarse = trace.seen(width, 900)
        assert len(coarse[0]) < 200_000
        drawn, all_of_it = (envelope(*line, low, low + width, 900, 60.0) for line in (coarse, (time, values)))
        step = width / 900
        for at in np.arange(low + 2 * step, low + width - 2 * step, 37 * step):
            ends = []
            for t, v in (drawn, all_of_it):
                inside = v[(t >= at - step) & (t <= at + step)]
                ends.append((np.nanmin(inside), np.nanmax(inside)) if np.isfinite(inside).any() else (np.nan, np.nan))
            np.testing.assert_allclose(ends[0], ends[1], atol=0.05)
        assert np.nanmax(drawn[1]) == 7.0
        pause = (time[249_999] + time[250_000]) / 2
        k = int(np.searchsorted(drawn[0], pause))
        assert np.isnan(drawn[1][k - 1 : k + 2]).any(), "the line is broken in the pause"


def test_a_counter_that_is_missing_for_a_while_begins_no_cycle() -> None:
    from napari_operando.reading import Trace, _starts

    counter = np.array([np.nan, 1, 1, np.nan, 1, 2, np.nan, 2, 3])
    assert _starts(Trace("echem/cycle", "cycle", "1", np.arange(9.0) * 10, counter)) == ((1, 10.0), (2, 50.0), (3, 80.0))
    assert _starts(Trace("echem/cycle", "cycle", "1", np.arange(2.0), np.full(2, np.nan))) == ()
