"""The time axis of a figure: true times in a stated zone, or the time that has passed since a stated one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import xarray as xr

from operando.contract.errors import ClockError, ContractError

NS = 10**9
AS_WRITTEN = "as written, no zone"
_UNITS = (("s", 300.0, 1.0), ("min", 3.0 * 3600, 60.0), ("h", np.inf, 3600.0))
_DAY = 86400 * NS


def nanoseconds(ds: xr.Dataset) -> np.ndarray:
    """Give the times of a series as int64 nanoseconds since 1970."""
    return np.asarray(ds["time"].values).astype("datetime64[ns]").view(np.int64)


@dataclass(frozen=True)
class TimeAxis:
    """Where moments lie on an axis.

    Attributes
    ----------
    zone
        IANA name of the zone of the labels, or `as written, no zone`.
    origin
        Nanoseconds since 1970 that `elapsed` counts from.
    elapsed
        The axis shows the time since `origin`.
    unit, seconds
        Unit of the elapsed time.
    """

    zone: str
    origin: int
    elapsed: bool
    unit: str = "h"
    seconds: float = 3600.0

    def place(self, moments: Any) -> np.ndarray:
        """Give the places of moments (int64 nanoseconds) on the axis."""
        ns = np.asarray(moments, dtype=np.int64)
        if self.elapsed:
            return (ns - self.origin) / (self.seconds * NS)
        from matplotlib.dates import date2num

        # whole days and the rest apart: nothing is lost to rounding before it must be
        return float(date2num(np.datetime64(0, "ns"))) + (ns // _DAY + (ns % _DAY) / _DAY)

    @property
    def text(self) -> str:
        """What stands beside the axis."""
        if not self.elapsed:
            return f"time ({self.zone})"
        moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=self.origin // 1000)
        written = self.zone == AS_WRITTEN
        since = moment if written else moment.astimezone(zone_of(self.zone))
        return f"time since {since:%Y-%m-%d %H:%M:%S} {'as written' if written else self.zone} ({self.unit})"

    def dress(self, axis: Any, *, named: bool = True) -> None:
        """Put ticks and label on a matplotlib axis."""
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        if not self.elapsed:
            zone = dt.UTC if self.zone == AS_WRITTEN else zone_of(self.zone)
            locator = AutoDateLocator(tz=zone, minticks=3, maxticks=8)
            axis.set_major_locator(locator)
            axis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
        if named:
            axis.set_label_text(self.text)


def zone_of(name: str) -> dt.tzinfo:
    """Give a zone by its IANA name.

    Raises
    ------
    ClockError
        There is none of that name.
    """
    try:
        return dt.UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ClockError("not a time zone", found=repr(name), expected="an IANA name such as UTC or Europe/Paris") from None


def time_axis(series: list[xr.Dataset], begin: int, stop: int, *, elapsed: bool, timezone: str) -> TimeAxis:
    """Give the axis for series that are drawn together, from `begin` to `stop` in nanoseconds.

    Raises
    ------
    ClockError
        An unknown zone.
    ContractError
        Some of the series are on UTC, and others are as their files wrote them.
    """
    zone_of(timezone)
    written = {ds.attrs.get("timezone_source") == "none" for ds in series}
    if written == {True, False}:
        raise ContractError("some of these series are on UTC, others are as their files wrote them", hint="give those a timezone and align them")
    seconds = (stop - begin) / NS
    unit, _, size = next(u for u in _UNITS if seconds <= u[1])
    return TimeAxis(AS_WRITTEN if written == {True} else timezone, begin, elapsed, unit, size)
