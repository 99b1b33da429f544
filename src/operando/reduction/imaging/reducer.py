"""Follows what moves and changes in a series of images: drift, edges, thickness, regions; keeps a small picture of every frame."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ConfigError, OperandoError, Quality, flag_attrs
from operando.reduction.imaging.edges import NONE, Found, locate, profile
from operando.reduction.imaging.pictures import Correction, Picture, region_mean, slices, small
from operando.reduction.imaging.recipe import Imaging, Region
from operando.reduction.imaging.registration import Shift, register
from operando.reduction.interface import Products, reducer

_DARK = 0.05
"""Part of the reference's light below which a picture was taken without beam or lamp."""
_FIRST = 9
"""Pictures at the begin whose median says how much light there is when there is light."""
_SATURATED = 1e-4
_DRAB = 1.5
"""Times what noise alone makes the means of blocks differ by: up to there a picture shows nothing. A camera's fixed pattern is more than that."""


@dataclass
class _State:
    """What is carried from frame to frame: the reference of drift, and where things were."""

    correction: Correction
    reference: np.ndarray | None = None
    level: float = math.nan
    offset: float = 0.0
    """Counts of the camera without light, as far as frames say: 0 with a dark, which has been subtracted."""
    drab: bool = False
    """Whether the reference's counts show nothing but noise."""
    seen: int = 0
    drift: tuple[float, float] = (0.0, 0.0)
    edges: dict[str, float] = field(default_factory=dict)
    first_edges: dict[str, Found] = field(default_factory=dict)

    def begin(self, found: Picture, drab: bool) -> None:
        """Take a picture as the reference."""
        self.reference, self.level, self.drab, self.drift = found.values, found.level, drab, (0.0, 0.0)
        self.edges, self.first_edges = {}, {}


_WAYS = (("drift_y", (1.0, 0.0)), ("drift_x", (0.0, 1.0)))
_WHOLE = Region(rows=None, columns=None)


@reducer(
    "imaging",
    technique="imaging",
    kind="forward",
    products=("observables", "reduced"),
    recipe=Imaging,
    version="2",
    reads="images",
    default=True,
)
def reduce_images(frames: xr.Dataset, recipe: Imaging, state: Any = None) -> Products:
    """Correct images for dark and flat, and follow drift, regions, edges and thickness in them.

    The first frame of a segment, setup and position that shows something, with at least 5 % of the median light of the first nine, is the reference
    (where no dark is given, what frames of nothing but noise count, less than all that show something, is the camera's offset and no light):
    drift is displacement against it, NaN where no match was found or its error exceeds `most`. Where a later frame holds more than twenty times the
    reference's light, that was taken before the shutter opened, and the later one takes its place. Lines and rectangles move with the drift, and
    edges are given in the frame of the reference: position in the picture less drift.

    How far layers moved along themselves cannot be seen: drift along a direction in which the pictures show only noise is NaN, and regions, lines
    and small pictures move by what is known, 0 along the layers. Where layers run so far aslant that what they may have moved along them (anything
    up to `most`) makes 1 px or more (1 sigma) of both drifts, both are NaN; edges whose lines cross the layers squarely are followed all the same.
    A message says of how many frames. Noise of a flat of few frames, and pixels that answer unlike where there is no flat, stay where they are and
    pull the drift to 0: where they have part in the match that is in its error, where they are most of it drift is NaN, and a message says so.

    Returns
    -------
    Products
        `observables`: `drift_y`, `drift_x` (px); `edge_position`, `edge_displacement` (px, against the first frame that shows it), `edge_width` (px)
        over `boundary`; `thickness` (px) over `layer`; `displacement`, `layer_thickness` (um) where the pixel size is known; `region_mean`,
        `region_spread` over `region`; `mean` of the whole picture; each with `_errors` of 1 sigma, NaN where a frame cannot give it; `quality` with
        CORRUPT (could not be read, or shows nothing), LOW_COUNTS (less than 5 % of the reference's light, nothing but the camera's offset, or at most
        1 % of the dark's counts above the dark), SATURATED. `reduced`: small pictures (time, y, x), moved back by the drift, with the same `quality`.

    Raises
    ------
    ConfigError
        Flat or dark do not fit the frames; a line, region or blank lies outside of them; a coordinate is not there.
    OperandoError
        None of the first frames can be read.
    """
    told = json.loads(frames.attrs.get("pixels") or "{}")
    carried = state if isinstance(state, _State) else _State(Correction(frames, recipe, told.get("folder")))
    correction = carried.correction
    n = frames.sizes["time"]
    shape = _shape(frames, correction)
    _check_places(recipe, shape)
    factor = max(1, math.ceil(max(shape) / recipe.preview))
    rows: dict[str, np.ndarray] = {name: np.full((n, *more), np.nan) for name, more in _columns(recipe).items()}
    late = 0
    previews = np.full((n, shape[0] // factor, shape[1] // factor), np.nan, np.float32)
    quality = np.asarray(frames["quality"].values if "quality" in frames.coords else np.zeros(n), np.int32).copy()
    errors: list[OperandoError] = []
    empty, held, drab = 0, 0, True
    lost = np.zeros(n, bool)
    unseen: Counter[tuple[str, ...]] = Counter()
    pictures = iter(correction.pictures(frames, int(told.get("workers") or 1)))
    least = -math.inf
    if carried.reference is None:  # taken before the shutter opened or the lamp was on, the first frame is no reference
        first = list(islice(pictures, _FIRST))
        carried.offset, least = _without_light([one for one in first if isinstance(one, Picture) and np.isfinite(one.level)], correction)
        pictures = chain(first, pictures)
    for k, found in enumerate(pictures):
        if isinstance(found, OperandoError):
            errors.append(found)
            quality[k] |= int(Quality.CORRUPT)
            continue
        if found.saturated > _SATURATED:
            quality[k] |= int(Quality.SATURATED)
        if not np.isfinite(found.values).any():
            empty += 1
            quality[k] |= int(Quality.CORRUPT)
            continue
        above = found.level - carried.offset
        if found.level <= correction.floor or above < (_DARK * (carried.level - carried.offset) if np.isfinite(carried.level) else least):
            quality[k] |= int(Quality.LOW_COUNTS)
        elif carried.reference is None and found.level > 0:
            carried.begin(found, _holds_noise_alone(found, correction))
        elif found.saturated <= _SATURATED and _gives_way(carried, found):
            early = np.arange(n) < k
            quality[early & np.isfinite(rows["level"])] |= int(Quality.LOW_COUNTS)
            _withdraw(early, rows, previews, lost)
            if correction.dark is None and carried.drab:
                carried.offset = carried.level
            carried.begin(found, _holds_noise_alone(found, correction))
            late = carried.seen
        dark = bool(quality[k] & int(Quality.LOW_COUNTS))
        moved = _one(k, found, recipe, carried, rows, dark)
        drab = drab and _shows_noise_alone(found.values, rows["mean_errors"][k])
        lost[k] = recipe.drift is not None and not moved.found and not dark
        offset = (moved.dy, moved.dx) if moved.found else None if recipe.drift is not None else (0.0, 0.0)
        previews[k] = small(found.values, factor, offset) if offset is not None else np.nan
        held += moved.pattern
        if moved.blind is not None:
            unseen[tuple(word for word, way in _WAYS if math.isnan(moved.along(*way)[0]))] += 1
    if len(errors) == n and carried.reference is None:
        raise errors[0]
    messages = _messages(errors, empty, int(lost.sum()), unseen, recipe, rows)
    if held:
        messages.append(
            f"a pattern that stays on the detector pulls the drift of {held} frame{'s' if held > 1 else ''} to 0 (larger errors, or NaN): "
            + ("average more frames in flat:, its noise is in every picture" if recipe.flat else "name a flat:, pixels answer unlike")
        )
    if drab and carried.seen == 0 and len(errors) + empty < n:
        messages.append(f"{'the frame shows' if n == 1 else f'the first {n} frames show'} nothing but noise: taken without light, or of nothing?")
    carried.seen += n
    if late:
        messages.append(
            f"the first {late} frames hold less than 5 % of the light of a later one, and drift was measured against them: leave them out (where:)"
        )
    size = _pixel(frames, recipe, correction)
    observables = _observables(frames, recipe, rows, quality, correction, size)
    y, x = ((np.arange(m) + 0.5) * factor - 0.5 for m in previews.shape[1:])
    words = {"units": correction.units, "long_name": correction.quantity.replace("_", " ")}
    reduced = xr.Dataset(
        {correction.quantity: (("time", "y", "x"), previews, words)},
        coords={
            "time": frames["time"],
            "quality": ("time", quality, flag_attrs(Quality)),
            "y": ("y", y, {"units": "px", "long_name": "row, in the frame of the reference"}),
            "x": ("x", x, {"units": "px", "long_name": "column, in the frame of the reference"}),
        },
        attrs={"pixels_per_block": factor} | ({"pixel_size": list(size), "pixel_size_units": "um"} if size else {}),
    )
    return Products({"observables": observables, "reduced": reduced}, state=carried, messages=messages)


def _without_light(first: list[Picture], correction: Correction) -> tuple[float, float]:
    """Say of the first pictures what the camera counts without light, and the least counts above that that are light.

    A camera adds an offset to every pixel, and where no dark is given it looks like light: 100 counts are 8 % of a picture of 1280. A picture of
    nothing but noise, darker than all that show something, was taken without light, and its level is the offset.
    """
    drab = [one.level for one in first if correction.dark is None and _holds_noise_alone(one, correction)]
    shown = [one.level for one in first if one.level not in drab]
    if drab and shown and max(drab) < min(shown):
        offset = float(np.median(drab))
        return offset, max(_DARK * (float(np.median(shown)) - offset), 1.001 * (max(drab) - offset))
    middle = float(np.median([one.level for one in first])) if first else 0.0
    return 0.0, _DARK * middle if middle > 0 else -math.inf


def _gives_way(carried: _State, found: Picture) -> bool:
    """Say whether the reference was taken without light: another has twenty times its light, or twice its counts and shows more than noise."""
    if _DARK * (found.level - carried.offset) > carried.level - carried.offset:
        return True
    correction = carried.correction
    return carried.drab and correction.dark is None and found.level > 2 * carried.level and not _holds_noise_alone(found, correction)


def _holds_noise_alone(found: Picture, correction: Correction) -> bool:
    """Say whether the counts of a picture, as they were before flat and logarithm, show nothing but noise."""
    counts = np.exp(-found.values) if correction.quantity == "optical_density" else found.values
    counts = counts if correction.flat is None else counts * correction.flat
    return _shows_noise_alone(counts, region_mean(counts, _WHOLE, (0.0, 0.0))[1])


def _withdraw(which: np.ndarray, rows: dict[str, np.ndarray], previews: np.ndarray, lost: np.ndarray) -> None:
    """Take back what was measured against a picture without light; how much light there was stays."""
    for name, values in rows.items():
        if name not in ("mean", "mean_errors", "level"):
            values[which] = np.nan
    previews[which] = np.nan
    lost[which] = False


def _shows_noise_alone(values: np.ndarray, error: float) -> bool:
    """Say whether means over blocks of pixels differ no more than the noise of pixels lets them; `error` is that of the mean of all."""
    side = max(8, min(values.shape) // 16)
    if min(values.shape) < 4 * side:
        return False
    noise = error * math.sqrt(values.size)
    return bool(noise > 0 and np.nanstd(small(values, side, (0.0, 0.0))) < _DRAB * noise / side)


def _shape(frames: xr.Dataset, correction: Correction) -> tuple[int, int]:
    shape = tuple(int(v) for v in np.atleast_1d(frames.attrs.get("detector_shape", ())))
    if len(shape) != 2 or min(shape) < 1:
        raise ConfigError("the series does not say of what size its frames are", found=shape, hint="load it again: detector_shape is missing")
    turned = correction.orientation in ("transpose", "anti-transpose", "rotate-90", "rotate-270")
    return (shape[1], shape[0]) if turned else (shape[0], shape[1])


def _check_places(recipe: Imaging, shape: tuple[int, int]) -> None:
    """See that what the recipe names lies in the picture."""
    boxes = [(f"regions: {name}", one) for name, one in recipe.regions.items()]
    boxes += [("drift: region", recipe.drift.region)] if recipe.drift is not None else []
    boxes += [("blank", recipe.blank)] if recipe.blank is not None else []
    for name, box in boxes:
        for word, span, size in (("rows", box.rows, shape[0]), ("columns", box.columns, shape[1])):
            if span is not None and span[1] > size:
                raise ConfigError(
                    f"{name}: {word} lie outside of the frames", found=list(span), expected=f"0 to {size}", hint=f"correct {name}: in the recipe"
                )
    for name, edge in recipe.edges.items():
        for y, x in edge.line:
            if not (0 <= y <= shape[0] - 1 and 0 <= x <= shape[1] - 1):
                raise ConfigError(
                    f"edges: {name}: the line leaves the frames", found=[y, x], expected=f"rows 0 to {shape[0] - 1}, columns 0 to {shape[1] - 1}"
                )


def _columns(recipe: Imaging) -> dict[str, tuple[int, ...]]:
    """Name what is measured in every frame, with its shape beside time."""
    out: dict[str, tuple[int, ...]] = {"mean": (), "mean_errors": (), "level": ()}
    if recipe.drift is not None:
        out |= dict.fromkeys(("drift_y", "drift_x", "drift_y_errors", "drift_x_errors"), ())
    for name, count in (("region_mean", len(recipe.regions)), ("region_spread", len(recipe.regions))):
        out |= {name: (count,)} if count else {}
    if recipe.regions:
        out["region_mean_errors"] = (len(recipe.regions),)
    if recipe.edges:
        names = ("edge_position", "edge_position_errors", "edge_displacement", "edge_displacement_errors", "edge_width")
        out |= dict.fromkeys(names, (len(recipe.edges),))
    if recipe.thickness:
        out |= dict.fromkeys(("thickness", "thickness_errors"), (len(recipe.thickness),))
    return out


def _one(k: int, found: Picture, recipe: Imaging, carried: _State, rows: dict[str, np.ndarray], dark: bool) -> Shift:
    """Measure one picture; what it cannot give stays NaN."""
    values = found.values
    rows["level"][k] = found.level
    rows["mean"][k], rows["mean_errors"][k], _ = region_mean(values, _WHOLE, (0.0, 0.0))
    moved = Shift(0.0, 0.0, 0.0, 0.0)
    if recipe.drift is not None:
        moved = Shift(math.nan, math.nan, math.nan, math.nan)
        if carried.reference is values:
            moved = Shift(0.0, 0.0, 0.0, 0.0)
        elif carried.reference is not None and not dark:
            box = slices(recipe.drift.region, values.shape)
            moved = register(
                carried.reference,
                values,
                (box[0].start, box[0].stop, box[1].start, box[1].stop),
                guess=carried.drift,
                most=recipe.drift.most,
            )
        if not moved.found:
            return moved
        carried.drift = (moved.dy, moved.dx)
        rows["drift_y"][k], rows["drift_y_errors"][k] = moved.along(1.0, 0.0)
        rows["drift_x"][k], rows["drift_x_errors"][k] = moved.along(0.0, 1.0)
    offset = (moved.dy, moved.dx)
    for i, region in enumerate(recipe.regions.values()):
        rows["region_mean"][k, i], rows["region_mean_errors"][k, i], rows["region_spread"][k, i] = region_mean(values, region, offset)
    if recipe.edges and not dark:
        _edges(k, values, recipe, carried, rows, moved)
    return moved


def _edges(k: int, values: np.ndarray, recipe: Imaging, carried: _State, rows: dict[str, np.ndarray], moved: Shift) -> None:
    """Follow the edges: each line moves by the drift to whole pixels, so that profiles of straight lines are rows of pixels and no interpolation."""
    whole = (float(round(moved.dy)), float(round(moved.dx)))
    seen: dict[str, tuple[float, float]] = {}  # in the picture, along each line: what drift cannot spoil
    for i, (name, edge) in enumerate(recipe.edges.items()):
        uy, ux = edge.direction
        if not math.isfinite(moved.along(uy, ux)[0]):
            continue  # the line runs along what the pictures show nothing along: nobody knows what of its edge's way is drift
        rest = (moved.dy - whole[0]) * uy + (moved.dx - whole[1]) * ux
        found = locate(profile(values, edge, whole), edge, carried.edges.get(name))
        if found is NONE or not math.isfinite(found.position):
            continue
        carried.edges[name] = found.position
        begin = edge.line[0][0] * uy + edge.line[0][1] * ux
        error = math.hypot(found.error, moved.along(uy, ux)[1])
        position = begin + found.position - rest
        first = carried.first_edges.setdefault(name, Found(position, error, found.width))
        rows["edge_position"][k, i], rows["edge_position_errors"][k, i], rows["edge_width"][k, i] = position, error, found.width
        rows["edge_displacement"][k, i] = position - first.position
        rows["edge_displacement_errors"][k, i] = 0.0 if first.position == position else math.hypot(error, first.error)
        seen[name] = (position, found.error)
    for i, pair in enumerate(recipe.thickness.values()):
        if all(name in seen for name in pair):
            places = [np.array(recipe.edges[name].direction) * (seen[name][0]) for name in pair]
            between = places[1] - places[0]
            a, b = (np.array(recipe.edges[name].direction) for name in pair)
            rows["thickness"][k, i] = abs(float(between @ b)) if abs(float(a @ b)) > 0.99 else math.nan
            rows["thickness_errors"][k, i] = math.hypot(seen[pair[0]][1], seen[pair[1]][1])  # both drift alike


def _pixel(frames: xr.Dataset, recipe: Imaging, correction: Correction) -> tuple[float, float] | None:
    if recipe.pixel_size is not None:
        return recipe.pixel_size, recipe.pixel_size
    size = np.atleast_1d(frames.attrs.get("pixel_size", ())).astype(float)
    if size.size != 2:
        return None
    turned = correction.orientation in ("transpose", "anti-transpose", "rotate-90", "rotate-270")
    return (float(size[1]), float(size[0])) if turned else (float(size[0]), float(size[1]))


def _observables(
    frames: xr.Dataset, recipe: Imaging, rows: dict[str, np.ndarray], quality: np.ndarray, correction: Correction, size: tuple[float, float] | None
) -> xr.Dataset:
    units, quantity = correction.units, correction.quantity.replace("_", " ")
    words: dict[str, tuple[tuple[str, ...], str, str]] = {
        "mean": (("time",), units, f"{quantity}, mean of the picture"),
        "level": (("time",), "counts", "mean counts above the dark"),
        "drift_y": (("time",), "px", "displacement of the picture down its rows, against the first frame"),
        "drift_x": (("time",), "px", "displacement of the picture along its columns, against the first frame"),
        "region_mean": (("time", "region"), units, f"{quantity}, mean of the region"),
        "region_spread": (("time", "region"), units, f"{quantity}, standard deviation of the pixels of the region"),
        "edge_position": (("time", "boundary"), "px", "position of the edge along its line, drift taken off"),
        "edge_displacement": (("time", "boundary"), "px", "displacement of the edge since the first frame"),
        "edge_width": (("time", "boundary"), "px", "sigma of the edge's blur"),
        "thickness": (("time", "layer"), "px", "distance between two edges"),
    }
    out = xr.Dataset(coords={"time": frames["time"], "quality": ("time", quality, flag_attrs(Quality))})
    for name, (dims, unit, long_name) in words.items():
        if name not in rows:
            continue
        linked = {"ancillary_variables": f"{name}_errors"} if f"{name}_errors" in rows else {}
        out[name] = (dims, rows[name], {"units": unit, "long_name": long_name, **linked})
        if linked:
            out[f"{name}_errors"] = (dims, rows[f"{name}_errors"], {"units": unit, "long_name": f"standard error of {name}"})
    for dim, given in (("region", recipe.regions), ("boundary", recipe.edges), ("layer", recipe.thickness)):
        if given:
            out = out.assign_coords({dim: (dim, np.array(list(given), dtype=object))})
    if size is not None:
        scales = {name: math.hypot(size[0] * e.direction[0], size[1] * e.direction[1]) for name, e in recipe.edges.items()}
        for name, made, dim, factor in (
            ("edge_displacement", "displacement", "boundary", np.array(list(scales.values()))),
            ("thickness", "layer_thickness", "layer", np.array([scales[b] for _, b in recipe.thickness.values()])),
        ):
            if name in rows:
                about = str(out[name].attrs["long_name"])
                out[made] = (("time", dim), rows[name] * factor, {"units": "um", "long_name": about, "ancillary_variables": f"{made}_errors"})
                out[f"{made}_errors"] = (("time", dim), rows[f"{name}_errors"] * factor, {"units": "um", "long_name": f"standard error of {made}"})
    out.attrs = {
        "quantity": correction.quantity,
        "flat": recipe.flat.file if recipe.flat else "none",
        "dark": recipe.dark.file if recipe.dark else "none",
        "orientation": correction.orientation,
    } | ({"pixel_size": list(size), "pixel_size_units": "um"} if size else {})
    return out


def _messages(
    errors: list[OperandoError], empty: int, lost: int, unseen: Counter[tuple[str, ...]], recipe: Imaging, rows: dict[str, np.ndarray]
) -> list[str]:
    said = []
    for what, count in Counter(error.problem for error in errors).items():
        first = next(error for error in errors if error.problem == what)
        said.append(
            f"{count} frame{'s' if count > 1 else ''} could not be read and {'are' if count > 1 else 'is'} NaN and CORRUPT: {first.file}: {what}"
        )
    if empty:
        said.append(f"{empty} frame{'s' if empty > 1 else ''} hold no number at all and {'are' if empty > 1 else 'is'} CORRUPT")
    if lost:
        said.append(
            f"the drift of {lost} frame{'s' if lost > 1 else ''} was not found and is NaN: drift: region: must show something with contrast, "
            "and most: be as large as the drift"
        )
    for which, count in unseen.items():
        whose = f"of {count} frame{'s' if count > 1 else ''} cannot be known"
        if len(which) == 1:
            along = {"drift_y": "down the rows", "drift_x": "along the columns"}[which[0]]
            said.append(f"drift {along} ({which[0]}) {whose} and is NaN: the picture shows nothing along it; nothing is moved that way")
        elif which:
            said.append(
                f"drift {whose} and is NaN: the picture shows nothing but layers that run aslant; what moves square to them alone is taken off"
            )
    if recipe.edges:
        gone = np.isnan(rows["edge_position"]).all(axis=0)
        for name, none in zip(recipe.edges, gone, strict=True):
            if none:
                said.append(f"the edge {name} was found in none of {rows['edge_position'].shape[0]} frames: correct its line:, polarity: or window:")
    return said
