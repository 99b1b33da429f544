"""One source, one clock: zone, restarts and the clock's anchor are found over all frames of an instrument, whatever series they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from operando.timeline.alignment import restart_segments
from operando.timeline.clocks import Clock
from operando.timeline.zones import localise

_NAT = np.datetime64("NaT", "ns")


def place(
    pieces: Sequence[xr.Dataset],
    ranks: Sequence[np.ndarray],
    files: Sequence[np.ndarray],
    timezone: str | None,
    clock: Clock | Mapping[int, Clock] | None = None,
) -> tuple[list[xr.Dataset], Clock | dict[int, Clock] | None]:
    """Put the series of one source on UTC together and number its restarts.

    A backward step of the clock, the hour that autumn repeats and the first stamp of a segment are properties of the instrument: frames that are
    routed to several series (positions, cells, techniques, axes) share them.

    Parameters
    ----------
    pieces
        The series, times as written, each in its order of acquisition; only `time`, `source_time`, `stamp`, `segment` and `source_index` are read.
    ranks
        For each piece, where the file of each frame stands in the order of acquisition.
    files
        For each piece, which file each frame comes from.
    timezone
        Zone of the source, for stamps without one.
    clock
        The source's clock, or one for each segment.

    Returns
    -------
    tuple
        The pieces on UTC with `segment` numbered over the source; the clock with its `at` fixed to the source's first stamp of each segment where it
        was not given.

    Raises
    ------
    ClockError
        See `localise`.
    """
    if len(pieces) == 1:
        placed = [restart_segments(localise(pieces[0], timezone))]
        return placed, _anchored(clock, placed[0])
    sizes = [ds.sizes["time"] for ds in pieces]
    order = _acquired(pieces, ranks, files)
    coords: dict[str, Any] = {name: ("time", np.concatenate([ds[name].values for ds in pieces])[order]) for name in ("time", "source_time")}
    coords["segment"] = ("time", np.concatenate([ds["segment"].values for ds in pieces])[order])
    coords["source"] = ("time", np.concatenate([np.asarray(f, dtype=object) for f in files])[order])
    coords["stamp"] = ("time", np.concatenate([_stamps(ds) for ds in pieces])[order])
    known = all(ds.attrs.get("timezone_source") == "file" for ds in pieces)
    merged = xr.Dataset(coords=coords, attrs={**pieces[0].attrs, "timezone_source": "file" if known else "none"})
    merged = restart_segments(localise(merged.drop_vars("stamp") if known else merged, timezone))
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    out, begin = [], 0
    for ds, n in zip(pieces, sizes, strict=True):
        here = back[begin : begin + n]
        begin += n
        moved = ds.drop_vars("stamp", errors="ignore").assign_coords(
            {name: ("time", merged[name].values[here], ds[name].attrs) for name in ("time", "source_time", "segment")}
        )
        moved.attrs = {**ds.attrs, **{k: merged.attrs[k] for k in ("timezone", "timezone_source", "zone_assumed") if k in merged.attrs}}
        out.append(moved)
    return out, _anchored(clock, merged)


def _stamps(ds: xr.Dataset) -> np.ndarray:
    """Give what a zone applies to, for each frame; NaT where the file gave UTC itself."""
    n = ds.sizes["time"]
    if ds.attrs.get("timezone_source") == "file":
        return np.full(n, _NAT)
    return np.broadcast_to(ds["stamp"].values if "stamp" in ds.coords else ds["source_time"].values, (n,)).astype("datetime64[ns]")


def _acquired(pieces: Sequence[xr.Dataset], ranks: Sequence[np.ndarray], files: Sequence[np.ndarray]) -> np.ndarray:
    """Order all frames as they were acquired: files by rank, in each the loader's segments, then frames by their index in the file."""
    names, file = np.unique(np.concatenate([np.asarray(f, dtype=str) for f in files]), return_inverse=True)
    rank = np.concatenate([np.asarray(r, dtype=np.int64) for r in ranks])
    first = np.full(names.size, np.iinfo(np.int64).max)
    np.minimum.at(first, file, rank)
    time = np.concatenate([ds["source_time"].values for ds in pieces]).astype("datetime64[ns]").astype(np.int64)
    index = np.concatenate([np.asarray(ds["source_index"].values, np.int64) for ds in pieces])
    seen = np.lexsort((index, file))
    same = (np.diff(index[seen]) == 0) & (np.diff(file[seen]) == 0)
    if (same & (np.diff(time[seen]) != 0)).any():  # each piece counts for itself: only the times interleave them
        index = np.concatenate([_climbing(ds["source_time"].values.astype("datetime64[ns]").astype(np.int64)) for ds in pieces])
    segment = np.concatenate([ds["segment"].values for ds in pieces])
    return np.lexsort((index, segment, file, first[file]))


def _climbing(time: np.ndarray) -> np.ndarray:
    """Hold times at their highest so far, so that sorting by them keeps a piece's own order."""
    return np.maximum.accumulate(time) if time.size else time


def without_frames(segments: Sequence[int], placed: Sequence[xr.Dataset]) -> str | None:
    """Say which segments that clocks are given for no frame stands in; None if each is used.

    Parameters
    ----------
    segments
        Those named in a list of clocks.
    placed
        All series of the source, as `place` gives them.
    """
    there = sorted({int(k) for ds in placed for k in np.unique(ds["segment"].values)})
    unused = sorted(set(segments) - set(there))
    if not unused:
        return None
    return f"clock: names segment {', '.join(map(str, unused))}, and the source has only {', '.join(map(str, there))}"


def _anchored(clock: Clock | Mapping[int, Clock] | None, placed: xr.Dataset) -> Clock | dict[int, Clock] | None:
    """Fix the clock's `at` to the source's first stamp of each segment, where it is not given."""
    if clock is None or (isinstance(clock, Clock) and clock.at is not None) or not placed.sizes["time"]:
        return clock if clock is None or isinstance(clock, Clock) else dict(clock)
    numbers, first = np.unique(placed["segment"].values, return_index=True)
    stamps = dict(zip((int(k) for k in numbers), placed["source_time"].values[first], strict=True))
    if isinstance(clock, Clock):
        if len(stamps) == 1:
            return clock.anchored(next(iter(stamps.values())))
        return {number: clock.anchored(stamp) for number, stamp in stamps.items()}
    return {number: one.anchored(stamps[number]) if number in stamps else one for number, one in clock.items()}
