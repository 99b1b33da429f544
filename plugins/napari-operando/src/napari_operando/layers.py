"""Images as layers of napari, true in time. Pure: no Qt, no viewer."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from napari_operando.reading import Cell, ImageSeries
from napari_operando.session import Timeline
from napari_operando.timeview import GAP, TimeView


def contrast(picture: np.ndarray) -> tuple[float, float]:
    """Give what should be black and white: the 1st and 99.5th percentile of pixels that count.

    Detectors mark dead pixels with the largest or with negative numbers; those do not count.
    """
    flat = np.asarray(picture).ravel()
    flat = flat[:: max(1, len(flat) // 500_000)]
    if flat.dtype.kind in "iu":
        flat = flat[(flat < np.iinfo(flat.dtype).max - 1) & (flat >= 0)]
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(flat, (1.0, 99.5)))
    return (low, high) if high > low else (low, low + max(abs(low), 1.0))


def first_picture(series: ImageSeries, times: Any) -> tuple[np.ndarray | None, str, float]:
    """Read the first frame that can be read, of a few over the whole experiment; say why none can, and how many seconds it took."""
    reason = "the series has no frames"
    frames = times.frames
    for index in frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), 8)).astype(int))] if len(frames) else ():
        begin = perf_counter()
        try:
            return series.pictures.read(int(index)), "", perf_counter() - begin
        except Exception as error:  # the next one may do; each says what is wrong when it is looked at
            reason = str(error) or type(error).__name__
    return None, reason, 0.0


def image_layer(
    key: str,
    series: ImageSeries,
    timeline: Timeline,
    picture: np.ndarray,
    problem: Callable[[int, str], None] | None = None,
) -> tuple[TimeView, dict[str, Any], str]:
    """Give the layer of an images series as (data, settings, kind), as napari takes them.

    Parameters
    ----------
    key, series
        Name and frames.
    timeline
        Gives ticks and exposures.
    picture
        One frame: its size is that of the layer, its values set the contrast.
    problem
        Told of frames that cannot be read.
    """
    view = time_view(key, series, timeline, (picture.shape[0], picture.shape[1]), picture.dtype, problem)
    settings = {
        "name": key,
        **place(series, timeline),
        "units": ("s", "pixel", "pixel"),
        "axis_labels": ("time", "y", "x"),
        "contrast_limits": contrast(picture),
        "colormap": "gray",
        "multiscale": bool(view.coarser),
        "rgb": False,
        "cache": False,
        "metadata": {"operando": {"cell": series.ds.attrs.get("cell", ""), "series": key}},
    }
    return view, settings, "image"


def time_view(
    key: str,
    series: ImageSeries,
    timeline: Timeline,
    shape: tuple[int, int],
    dtype: Any,
    problem: Callable[[int, str], None] | None = None,
) -> TimeView:
    """Give the frames of an images series over the ticks of a timeline, with coarser levels where the store has them.

    Parameters as in `image_layer` and `TimeView`. Only the finest level tells of problems: each is in all of them.
    """

    def over(read: Callable[[int], np.ndarray], size: tuple[int, int], tell: Callable[[int, str], None] | None) -> TimeView:
        ticks = timeline.ticks
        return TimeView(timeline.frames[key], read, size, dtype, start=timeline.begin, tick=timeline.tick, ticks=ticks, problem=tell)

    view = over(series.pictures.read, shape, problem)
    view.coarser = tuple(over(level.read, level.size, None) for level in series.levels)
    return view


def place(series: ImageSeries, timeline: Timeline) -> dict[str, tuple[float, float, float]]:
    """Give the steps of a layer and where it begins: seconds, and pixels of the frame."""
    return {"scale": (timeline.tick, *series.grid[0]), "translate": (timeline.begin, *series.grid[1])}


def caption(cell: Cell, key: str, timeline: Timeline, time: float, problems: dict[int, str]) -> str:
    """Say which image is shown, how old it is, or why there is none."""
    shown = timeline.frames[key].at(time)
    if shown.index == GAP:
        return f"{key}: no frame here"
    said = f"{key} #{shown.index}"
    if shown.distance:
        said += f", {shown.distance}"
    if shown.stale:
        said += " (stale)"
    if shown.index in problems:
        said += f"\n{problems[shown.index].splitlines()[0]}"
    return said


def text_overlay(viewer: Any) -> Any:
    """Give the text on the canvas, which moved in napari 0.9."""
    canvas = getattr(viewer, "canvas", None)
    return canvas.overlays.text if canvas is not None and hasattr(canvas, "overlays") else viewer.text_overlay
