"""Which stretch of the axis each frame fills: its own time and no more, so that gaps stay gaps.

A frame is an exposure. Where frames follow one another regularly it is drawn from its beginning to the beginning of the next, if that one
comes within `hold` (1.5) usual spacings; otherwise it lasts one usual spacing, or its exposure if that is longer, and what follows is empty.
The usual spacing is the median of the 21 spacings around a frame, so a change of cadence is no gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.flags import AlignmentFlag
from operando.figures.times import NS, nanoseconds

HOLD = 1.5
_AROUND = 21
_BATCH = 65536


@dataclass(frozen=True)
class Bands:
    """Frames in the order of time, and the stretch of the axis that each fills.

    Attributes
    ----------
    rows
        Index of each frame in the series.
    begin, stop
        Nanoseconds since 1970 from which and until which it is drawn.
    low, high
        The same on the axis.
    notes
        Which frames are not shown, and why.
    """

    rows: np.ndarray
    begin: np.ndarray
    stop: np.ndarray
    low: np.ndarray
    high: np.ndarray
    notes: tuple[str, ...] = ()

    def only(self, keep: np.ndarray) -> Bands:
        """Keep some of the frames."""
        names = ("rows", "begin", "stop", "low", "high")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


def at_position(frames: xr.Dataset, position: object = None) -> tuple[np.ndarray, str]:
    """Give the indices of the frames of one position, and words that name it where there are several.

    Raises
    ------
    ContractError
        No frames, or none of that position.
    """
    n = frames.sizes.get("time", 0)
    if n == 0:
        raise ContractError("no frames to draw", file=address(frames), expected="a series over time")
    if "position" not in frames.variables or frames["position"].dims != ("time",):
        if position is not None:
            raise ContractError("these frames have no positions", file=address(frames), found=f"position={position!r}")
        return np.arange(n), ""
    each = frames["position"].values
    present = list(dict.fromkeys(each.tolist()))
    chosen = present[0] if position is None else next((p for p in present if str(p) == str(position)), None)
    if chosen is None:
        raise ContractError("no frame of that position", file=address(frames), found=repr(position), expected=", ".join(map(str, present)))
    return np.flatnonzero(each == chosen), f"position {chosen} of {', '.join(map(str, present))}" if len(present) > 1 else ""


def address(ds: xr.Dataset) -> str | None:
    """Name a series in a message."""
    words = [str(ds.attrs[key]) for key in ("cell", "technique", "product") if ds.attrs.get(key)]
    return "/".join(words) or None


def usual_spacing(begin: np.ndarray) -> np.ndarray:
    """Give the usual spacing around each of n-1 spacings of ordered moments; the lower median, so two spacings do not make a third."""
    step = np.diff(begin)
    if step.size == 0:
        return step
    width = min(_AROUND, step.size)
    windows = np.lib.stride_tricks.sliding_window_view(step, width)
    middle = (width - 1) // 2
    found = np.concatenate([np.partition(windows[a : a + _BATCH], middle, axis=1)[:, middle] for a in range(0, len(windows), _BATCH)])
    usual = np.pad(found, (width // 2, step.size - found.size - width // 2), "edge")
    moving = step[step > 0]
    return np.where(usual > 0, usual, np.sort(moving)[(moving.size - 1) // 2] if moving.size else NS)


def spans(middle: np.ndarray, exposure: np.ndarray, hold: float = HOLD) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the order of frames in time, and the beginning and the end of the stretch that each fills.

    Parameters
    ----------
    middle
        Middles of the exposures, nanoseconds.
    exposure
        Seconds; NaN where unknown.
    hold
        See the module; 0 draws the exposures alone.
    """
    half = np.round(np.where(np.isfinite(exposure), exposure, 0.0) * (NS / 2)).astype(np.int64)
    order = np.argsort(middle - half, kind="stable")
    begin, end = (middle - half)[order], (middle + half)[order]
    if hold <= 0:
        stop = end
    elif begin.size == 1:
        stop = np.where(end > begin, end, begin + NS)
    else:
        usual = usual_spacing(begin)
        if begin.size == 2 and end[0] > begin[0]:  # one spacing is no cadence
            usual = np.minimum(usual, end[:1] - begin[:1])
        stop = np.maximum(end, begin + np.append(usual, usual[-1]))
        follows = np.diff(begin) <= hold * usual
        stop[:-1] = np.where(follows, begin[1:], stop[:-1])
    stop = stop.copy()
    stop[:-1] = np.minimum(stop[:-1], begin[1:])  # where two overlap, the later one is seen
    return order, begin, stop


def in_time(frames: xr.Dataset, rows: np.ndarray, hold: float = HOLD) -> Bands:
    """Lay frames along time; their place on the axis is not known yet (`low` and `high` are the nanoseconds)."""
    middle = nanoseconds(frames)[rows]
    exposure = np.asarray(frames["exposure"].values, float)[rows] if "exposure" in frames.variables else np.full(rows.size, np.nan)
    order, begin, stop = spans(middle, exposure, hold)
    bands = Bands(rows[order], begin, stop, begin, stop)
    seen = stop > begin
    if not seen.any():
        raise ContractError("frames without an exposure cannot be drawn as exposures alone", file=address(frames), hint="leave out hold=0")
    return bands.only(seen)


def along_charge(frames: xr.Dataset, bands: Bands) -> Bands:
    """Move bands from time to the charge that has passed, forth and back, since the first of them (mAh).

    Raises
    ------
    ContractError
        No frame has a charge, or none passed.
    """
    from operando.contract.units import convert

    if "charge" not in frames.variables:
        raise ContractError("these frames have no charge", file=address(frames), expected="frames of open_beamtime or op.align", hint="align them")
    charge = np.asarray(frames["charge"].values, float)[bands.rows]
    known = np.isfinite(charge)
    notes = bands.notes
    if not known.all():
        why = _why(frames, bands.rows[~known])
        if not known.any():
            hint = "give the cell its electrochemistry, or draw against='time'"
            raise ContractError("no frame has a charge", file=address(frames), found=f"{known.size} frames without one{why}", hint=hint)
        notes += (f"{int((~known).sum())} without charge{why}",)
    bands, charge = bands.only(known), charge[known]
    passed = np.asarray(convert(_passed(frames, bands, charge), str(frames["charge"].attrs.get("units", "C")), "mA*h"))
    low, high = passed[: known.sum()], passed[known.sum() :]
    seen = high > low
    if not seen.any():
        raise ContractError("no charge passed while these frames were taken", file=address(frames), hint="draw them against='time'")
    if not seen.all():
        notes += (f"{int((~seen).sum())} at rest",)
    return replace(bands, low=low - low[0], high=high - low[0], notes=notes).only(seen)


def _passed(frames: xr.Dataset, bands: Bands, charge: np.ndarray) -> np.ndarray:
    """Give the charge passed until the beginning of each band, then until the end of each; linear between the middles of frames."""
    middle = np.maximum.accumulate(nanoseconds(frames)[bands.rows])
    total = np.append(0.0, np.cumsum(np.abs(np.diff(charge))))
    current = np.abs(np.asarray(frames["current"].values, float)[bands.rows[[0, -1]]]) if "current" in frames.variables else np.zeros(2)
    current = np.where(np.isfinite(current), current, 0.0)
    first, last = min(bands.begin[0], middle[0]), max(bands.stop[-1], middle[-1])
    origin = bands.begin[0]
    t = (np.concatenate([[first], middle, [last]]) - origin) / NS
    v = np.concatenate([[-current[0] * (middle[0] - first) / NS], total, [total[-1] + current[1] * (last - middle[-1]) / NS]])
    return np.interp((np.concatenate([bands.begin, bands.stop]) - origin) / NS, t, v)


def _why(frames: xr.Dataset, rows: np.ndarray) -> str:
    """Name the flags of frames that say why they have no charge, in brackets."""
    if "flags" not in frames.variables:
        return ""
    flags = np.asarray(frames["flags"].values)[rows].astype(int)
    why = [str(f.name) for f in (AlignmentFlag.UNALIGNED, AlignmentFlag.OUTSIDE, AlignmentFlag.PAUSE) if (flags & f.value).any()]
    return f" ({', '.join(why)})" if why else ""


def widened(bands: Bands, least: float) -> Bands:
    """Draw no frame narrower than `least`, as far as gaps leave room, so that none is lost between two dots of a print."""
    low, high = bands.low.copy(), bands.high.copy()
    high[:-1] = np.maximum(high[:-1], np.minimum(low[:-1] + least, low[1:]))
    low[-1] = min(low[-1], max(high[-1] - least, high[-2] if high.size > 1 else -np.inf))  # the last ends where the axis ends
    return replace(bands, low=low, high=high)


def half_cycles(ds: xr.Dataset, rows: np.ndarray) -> list[tuple[int, int, str]]:
    """Give each half cycle of frames in order: first and last place in `rows`, and `charge` or `discharge`."""
    if "half_cycle" not in ds.variables or ds["half_cycle"].dims != ("time",):
        return []
    number = np.asarray(ds["half_cycle"].values)[rows]
    way = np.asarray(ds["direction"].values)[rows] if "direction" in ds.variables else np.zeros(rows.size)
    known = np.flatnonzero(number >= 0)
    if known.size == 0:
        return []
    starts = np.flatnonzero(np.append(True, np.diff(number[known]) != 0))
    out = []
    for a, b in zip(starts, np.append(starts[1:], known.size), strict=True):
        net = float(np.sum(way[known[a:b]]))
        out.append((int(known[a]), int(known[b - 1]), "charge" if net > 0 else "discharge" if net < 0 else "rest"))
    return out
