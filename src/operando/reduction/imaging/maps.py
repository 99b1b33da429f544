"""Maps of what changed: the mean picture of every half cycle, and its difference to the first frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

from operando.config import Recipe
from operando.contract import ContractError
from operando.reduction.interface import Products, reducer

_SIGNALS = ("transmission", "optical_density", "intensity")


class Maps(Recipe):
    """Settings of the change maps."""

    reducer: str = "image-maps"
    first: int = Field(1, ge=1, le=10_000, description="frames at the begin whose mean is what later ones are compared with")
    fewest: int = Field(1, ge=1, description="half cycles with fewer frames give no map")


@reducer("image-maps", technique="imaging", kind="series", products=("maps",), recipe=Maps, version="1", reads="reduced", needs_alignment=True)
def image_maps(frames: xr.Dataset, recipe: Maps, state: Any = None) -> Products:
    """Average the small pictures of each half cycle, and take the first ones off.

    A row per half cycle (and setup, position), in the order in which they begin; frames outside of the electrochemistry are a row of their own,
    `half_cycle` -1. Positions are those of the reference's frame, since the small pictures were moved back by the drift.

    Returns
    -------
    Products
        `maps`: `mean(time, y, x)`, `mean_errors` (from the frames' scatter), `change(time, y, x)`: mean less the first frames, `change_errors`;
        `frame_count`, `half_cycle`, `position` along time, which is the middle of the frames.

    Raises
    ------
    ContractError
        There are no small pictures.
    """
    name = next((s for s in _SIGNALS if s in frames), None)
    if name is None:
        raise ContractError(
            "there are no small pictures to make maps of", found=", ".join(map(str, frames.data_vars)), hint="the reducer imaging goes before it"
        )
    n = frames.sizes["time"]
    half = np.asarray(frames["half_cycle"].values, int) if "half_cycle" in frames.coords else np.full(n, -1)
    codes = [half]
    for key in ("setup", "position", "segment"):
        if key in frames.coords and frames[key].dims == ("time",):
            values = frames[key].values
            codes.append(np.unique(values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True)[1].reshape(-1))
    _, inverse = np.unique(np.column_stack(codes), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    spots = np.unique(np.column_stack(codes[1:]), axis=0, return_inverse=True)[1].reshape(-1) if len(codes) > 1 else np.zeros(n, int)
    units = str(frames[name].attrs.get("units", "1"))
    groups = sorted((np.flatnonzero(inverse == code) for code in np.unique(inverse)), key=lambda rows: rows[0])
    seen = {int(spot): np.flatnonzero(spots == spot) for spot in np.unique(spots)}
    whole = {spot: _first(frames[name], rows, recipe.first) for spot, rows in seen.items()}
    kept = [rows for rows in groups if rows.size >= recipe.fewest] or groups[:1]
    made = [_mean(frames[name], rows) for rows in kept]
    mean, error, count = (np.stack([one[i] for one in made]) for i in range(3))
    change = mean - np.stack([whole[int(spots[rows[0]])][0] for rows in kept])
    spread = np.hypot(error, np.stack([whole[int(spots[rows[0]])][1] for rows in kept]))
    stamps = frames["time"].values.astype("datetime64[ns]").astype(np.int64)
    time = np.array([int(stamps[rows[0]] + (stamps[rows] - stamps[rows[0]]).mean()) for rows in kept]).astype("datetime64[ns]")
    words = str(frames[name].attrs.get("long_name", name))
    ds = xr.Dataset(
        {
            "mean": (
                ("time", "y", "x"),
                mean,
                {"units": units, "long_name": f"{words}, mean of the half cycle", "ancillary_variables": "mean_errors"},
            ),
            "mean_errors": (("time", "y", "x"), error, {"units": units, "long_name": "standard error of mean"}),
            "change": (
                ("time", "y", "x"),
                change,
                {"units": units, "long_name": f"{words}, less that of the first frame", "ancillary_variables": "change_errors"},
            ),
            "change_errors": (("time", "y", "x"), spread, {"units": units, "long_name": "standard error of change"}),
            "frame_count": ("time", np.array([rows.size for rows in kept], np.int32), {"units": "1"}),
        },
        coords={
            "time": time,
            "y": frames["y"],
            "x": frames["x"],
            "half_cycle": (
                "time",
                np.array([half[rows[0]] for rows in kept], np.int32),
                {"units": "1", "long_name": "half cycle; -1 outside of the electrochemistry"},
            ),
        },
        attrs={key: frames.attrs[key] for key in ("pixels_per_block", "pixel_size", "pixel_size_units") if key in frames.attrs},
    )
    if "position" in frames.coords and frames["position"].dims == ("time",):
        ds = ds.assign_coords(position=("time", frames["position"].values[[rows[0] for rows in kept]], frames["position"].attrs))
    return Products({"maps": ds})


def _first(pictures: xr.DataArray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Average the first pictures that show something."""
    some = []
    for row in rows:
        if np.isfinite(pictures[int(row)].values).any():
            some.append(int(row))
            if len(some) == count:
                break
    mean, error, _ = _mean(pictures, np.array(some or rows[:1], int))
    return mean, np.nan_to_num(error) if len(some) == 1 else error


def _mean(pictures: xr.DataArray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give mean, standard error (NaN for one picture) and count, pixel by pixel; a picture at a time is in memory."""
    shape = pictures.shape[1:]
    count, mean, left = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row in rows:
        values = np.asarray(pictures[int(row)].values, float)
        good = np.isfinite(values)
        count += good
        off = np.where(good, values - mean, 0.0)
        mean += off / np.maximum(count, 1)
        left += off * np.where(good, values - mean, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(count > 1, np.sqrt(left / np.maximum(count - 1, 1) / np.maximum(count, 1)), np.nan)
    return np.where(count > 0, mean, np.nan).astype(np.float32), error.astype(np.float32), count
