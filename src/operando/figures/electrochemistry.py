"""Records of the cycler as lines: true to what each record speaks for, broken at gaps, thinned so that no extreme is lost.

A current that is the mean of the interval ending at its record is drawn as that interval, not as a slope; a voltage is held until a current
step (STEP_INSIDE). More records than a print can show are thinned to the first, lowest, highest and last of each of 1200 stretches.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from operando.contract.flags import AlignmentFlag
from operando.figures.times import NS, nanoseconds

STRETCHES = 1200
_LONGEST = 600.0  # s; as the timeline has it where the series does not say
_BATCH = 2**19


def in_order(ds: xr.Dataset) -> xr.Dataset:
    """Put records into the order of measurement, where files take turns (techniques in a loop)."""
    return ds.isel(time=np.argsort(ds["sequence"].values, kind="stable")) if "sequence" in ds.variables else ds


def breaks(ds: xr.Dataset) -> np.ndarray:
    """Say of each record whether the line breaks before it: after a pause of the electrochemistry, and where time goes back."""
    t = nanoseconds(ds)
    step = np.diff(t)
    if "flags" in ds.variables:
        apart = (np.asarray(ds["flags"].values)[1:].astype(int) & int(AlignmentFlag.PAUSE)) != 0
    else:
        moving = step[step > 0]
        usual = float(np.percentile(moving, 95)) / NS if moving.size else 0.0
        apart = step > float(ds.attrs.get("max_gap_s", max(_LONGEST, 20 * usual))) * NS
    return np.append(True, apart | (step < 0))[: t.size]


def line(ds: xr.Dataset, name: str, stretches: int = STRETCHES) -> tuple[np.ndarray, np.ndarray]:
    """Give the vertices of the line of one channel: nanoseconds, and values with NaN where it breaks.

    Parameters
    ----------
    ds
        Electrochemistry of a cell, or any channel over time.
    name
        The channel.
    stretches
        Into how many the time is divided when there are more than four vertices for each.
    """
    ds = in_order(ds[[name, *(c for c in ("flags", "sequence") if c in ds.variables)]])
    t, v = nanoseconds(ds), np.asarray(ds[name].values, float)
    broken = breaks(ds)
    rule = str(ds[name].attrs.get("interval", "instant"))
    held = np.zeros(t.size, bool)
    if name != "current" and "flags" in ds.variables:
        held = (np.asarray(ds["flags"].values).astype(int) & int(AlignmentFlag.STEP_INSIDE)) != 0
    size = max(1, int(t.max() - t.min())) if t.size else 1
    thin = t.size > 2 * stretches
    found = []
    for a in range(0, t.size, _BATCH):
        at, values = _vertices(t, v, broken, held, rule, a, min(a + _BATCH, t.size))
        if thin:
            keep = _extremes((at - t.min()) // (size // stretches + 1), values)
            at, values = at[keep], values[keep]
        found.append((at, values))
    if not found:
        return np.empty(0, np.int64), np.empty(0)
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _vertices(t: np.ndarray, v: np.ndarray, broken: np.ndarray, held: np.ndarray, rule: str, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the vertices of records a to b: a break, the point before, the record, the point after it, of each what it has."""
    i = np.arange(a, b)
    before, after = np.maximum(i - 1, 0), np.minimum(i + 1, t.size - 1)
    joined = ~broken[i]
    onward = (i + 1 < t.size) & ~broken[after]
    nothing = np.full(i.size, np.nan)
    at = np.stack([t[i], t[before] if rule == "ending" else t[i], t[i], t[after]], axis=1)
    values = np.stack([nothing, v[i] if rule == "ending" else v[before], v[i], v[i]], axis=1)
    use = np.stack(
        [broken[i] & (i > 0), joined & ((rule == "ending") | held[i]), np.ones(i.size, bool), onward & (rule == "starting")],
        axis=1,
    )
    return at[use], values[use]


def _extremes(stretch: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give the places of the first, lowest, highest and last vertex of each stretch; breaks stay."""
    missing = np.isnan(values)
    new = np.flatnonzero(np.append(True, (np.diff(stretch) != 0) | (missing[1:] != missing[:-1])))
    keep = []
    for a, b in zip(new, np.append(new[1:], values.size), strict=True):
        places = {a} if missing[a] else {a, a + int(np.argmin(values[a:b])), a + int(np.argmax(values[a:b])), b - 1}
        keep += sorted(places)
    return np.array(keep, dtype=np.intp)


def capacities(ds: xr.Dataset) -> list[tuple[int, int, str]]:
    """Give each half cycle as beginning and end in nanoseconds and its words, such as `charge 1.52 mAh`."""
    from operando.contract.units import convert
    from operando.figures.bands import half_cycles

    ds = in_order(ds)
    t = nanoseconds(ds)
    charge = np.asarray(ds["charge"].values, float) if "charge" in ds.variables else np.full(t.size, np.nan)
    out = []
    for first, last, way in half_cycles(ds, np.arange(t.size)):
        passed = np.abs(charge[first : last + 1] - charge[first])
        amount = float(np.max(passed, where=np.isfinite(passed), initial=-1.0))
        if way != "rest" and amount >= 0:
            capacity = float(convert(amount, str(ds["charge"].attrs.get("units", "C")), "mA*h"))
            words = f"{way}\n{capacity:{'.0f' if capacity >= 100 else '#.3g'}} mAh"
        else:
            words = way
        out.append((int(t[first]), int(t[last]), words))
    return out
