"""What the frames of the last build suggest about a source's clock: printed by `operando check`, applied by nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando import plan
from operando.beamtime.clocks import entries, written
from operando.contract import ClockError
from operando.store import open_beamtime
from operando.timeline import Estimate, suggest_clock_from_physics

_CHANNELS = 200  # a spectrum is averaged to so many before what changes in it is looked for
_BATCH = 256  # frames read at once


def suggestions(reading: plan.Reading, store: Path | None, timelines: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, Estimate]]:
    """Suggest a clock for each series and segment of a source that asks for it.

    Parameters
    ----------
    reading
        The source.
    store
        What was built last; None if nothing was.
    timelines
        Cell -> its electrochemistry on its timeline.

    Yields
    ------
    tuple
        Address of the series, and the estimate, which is not applied.

    Raises
    ------
    ClockError
        Nothing has been built yet, or there is no such marker.
    """
    for entry in entries(reading):
        spec = entry.get("suggest")
        if spec is None:
            continue
        if store is None:
            raise ClockError("a clock is suggested from the frames of the last build, and there is none", hint="run operando build first")
        tree = open_beamtime(store)
        for consumer in reading.consumers:
            if consumer.series == "echem" or consumer.cell not in timelines or spec.get("cell", consumer.cell) != consumer.cell:
                continue
            try:
                products = {name: node.to_dataset() for name, node in tree[consumer.address].children.items()}
            except KeyError:
                raise ClockError(f"the last build has no {consumer.address}", file=store, hint="run operando build first") from None
            marker = _marker(products, spec.get("marker"), consumer.address)
            numbers = np.unique(marker["segment"].values) if "segment" in marker.coords else np.zeros(1, int)
            for number in numbers.tolist():
                if entry.get("segment", number) != number:
                    continue
                some = marker if numbers.size == 1 else marker.isel(time=np.flatnonzero(marker["segment"].values == number))
                options: dict[str, Any] = {"offset": float(entry.get("offset", 0.0))}
                if spec.get("search"):
                    options["search"] = float(spec["search"])
                clock = suggest_clock_from_physics(some, timelines[consumer.cell], **options)
                yield consumer.address, Estimate(number if numbers.size > 1 else None, clock, applied=False, to_write=written(clock))


def _marker(products: Mapping[str, xr.Dataset], name: str | None, address: str) -> xr.DataArray:
    """Find one number per frame that follows the state: by its name, else what changes most in the spectra."""
    frames = products["frames"]
    if name is None:
        return _principal_component(frames, address)
    for product in ("observables", "frames"):
        ds = products.get(product)
        if ds is not None and name in ds.variables and ds[name].dims == ("time",):
            place = {n: frames[n].variable for n in ("source_time", "exposure", "segment", "position") if n in frames.coords}
            same = ds.sizes["time"] == frames.sizes["time"]
            marker = xr.DataArray(ds[name].variable, dims="time", coords={"time": ds["time"].variable})
            return marker.assign_coords(place if same else {n: ds[n].variable for n in place if n in ds.coords})
    known = sorted({str(n) for ds in products.values() for n, v in ds.data_vars.items() if v.dims == ("time",) and v.dtype.kind in "iuf"})
    listed = ", ".join(known[:12]) + (" ..." if len(known) > 12 else "") if known else "no number per frame yet"
    raise ClockError(f"there is no {name} to suggest a clock from", file=address, found=listed, hint="leave marker: out to use the spectra")


def _principal_component(frames: xr.Dataset, address: str) -> xr.DataArray:
    """Score of each frame along what changes most in the spectra, each divided by its own mean (the beam's intensity)."""
    signal = next((v for v in frames.data_vars.values() if v.ndim == 2 and v.dims[0] == "time" and v.dtype.kind in "iuf"), None)
    if signal is None:
        raise ClockError(
            "the frames hold no spectra to suggest a clock from", file=address, hint="name one number per frame: suggest: {marker: NAME}"
        )
    n, channels = signal.shape
    edges = np.linspace(0, channels, min(_CHANNELS, channels) + 1).astype(int)[:-1]
    rows = np.empty((n, edges.size))
    for at in range(0, n, _BATCH):
        some = np.nan_to_num(np.asarray(signal[at : at + _BATCH].values, float))
        rows[at : at + _BATCH] = np.add.reduceat(some, edges, axis=1)
    level = rows.mean(axis=1, keepdims=True)
    good = level[:, 0] > 0
    scores = np.full(n, np.nan)
    if good.sum() > 2:
        shapes = rows[good] / level[good]
        place = frames["position"].values[good] if "position" in frames.coords else np.zeros(int(good.sum()))
        for label in np.unique(place):  # another spot is another spectrum: only what changes in time is of interest
            shapes[place == label] -= np.median(shapes[place == label], axis=0)
        scores[good] = shapes @ np.linalg.svd(shapes, full_matrices=False)[2][0]
    names = ("source_time", "exposure", "segment", "position")
    coords = {"time": frames["time"].variable, **{name: frames[name].variable for name in names if name in frames.coords}}
    return xr.DataArray(scores, dims="time", coords=coords)
