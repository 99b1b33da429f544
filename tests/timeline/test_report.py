"""What the alignment report says of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from operando.contract import series
from operando.timeline import Clock, align_frames, annotate, echem_timeline, summarise

START = np.datetime64("2026-06-03T08:00:00", "ns")


def echem(hours: float = 2.0, clock: Any = None, **attrs: Any) -> xr.Dataset:
    t = np.arange(0.0, hours * 3600, 10.0)
    variables = {"voltage": ("time", 3.0 + t / 1e5, "V"), "current": ("time", np.full(t.size, 1e-3), "A", {"interval": "ending"})}
    ds = series("echem", variables, source="a.mpt", start=START, utc=True, elapsed=t, time_origin="header")
    ds.attrs.update(attrs)
    return annotate(ds, echem_timeline(ds, clock))


def frames(shift: float = 0.0, source: str = "file") -> xr.Dataset:
    at = START + np.timedelta64(int(shift * 1e9), "ns")
    signal = {"intensity": (("time", "q"), np.ones((20, 3)), "1")}
    q = {"q": ("q", np.arange(3.0), "1/angstrom")}
    ds = series("xrd", signal, coords=q, source="a.xy", start=at, utc=True, elapsed=np.arange(20.0) * 60, exposure=30.0, time_origin="header")
    ds.attrs["timezone_source"] = source
    return ds


def stream(ds: xr.Dataset, timeline: xr.Dataset) -> Any:
    return summarise("A/xrd", annotate(ds, align_frames(ds, timeline)), timeline)


def test_the_clock_of_the_cycler_is_told() -> None:
    assert summarise("A/echem", echem(), None).clock == "as stamped"
    assert summarise("A/echem", echem(clock=Clock(offset=-132347520.25, uncertainty=1.0)), None).clock == "-132347520.2 s +- 1 s (given)"


def test_a_doubt_of_the_loader_is_told() -> None:
    told = summarise("A/echem", echem(time_doubt="test time spans 16.8 years"), None)
    assert told.advice == ["test time spans 16.8 years"]


def test_whose_zone_is_in_doubt() -> None:
    timeline = echem()
    assert stream(frames(2 * 3600.0, "config"), timeline).advice[-1].endswith("check timezone:")
    assert "timezone: of the electrochemistry" in stream(frames(2 * 3600.0, "file"), timeline).advice[-1]


def test_how_far_frames_are_from_another_days_electrochemistry() -> None:
    timeline = echem()
    assert "the frames end 3.0 days before it begins" in stream(frames(-3 * 86400.0 + 300), timeline).advice[-1]
    assert "the frames begin 22.00 h after it ends" in stream(frames(86400.0), timeline).advice[-1]


def test_a_second_cycler_among_the_series_does_not_rule() -> None:
    timeline = echem()
    second = echem(1.0)
    told = summarise("A/potentiostat", annotate(second, align_frames(second[["voltage"]].drop_vars(["flags", "soc"]), timeline)), timeline)
    assert told.sentence == "360 of 360 frames lie inside the electrochemistry."
    assert summarise("A/echem", timeline, None).sentence.endswith("the timeline of this cell.")


def test_frames_that_carry_several_flags_are_counted_once() -> None:
    e = echem()
    two = e.isel(time=np.r_[0:50, 300:720])  # a pause from 490 to 3000 s
    timeline = echem_timeline(two.drop_vars([n for n in two.coords if n not in ("time", "source_time", "exposure", "segment")]), None, max_gap=60.0)
    s = stream(frames(shift=-60.0), annotate(two, timeline))
    assert s.flags["PARTIAL"] + s.flags["PAUSE"] + s.flags["OUTSIDE"] > 20 - s.whole > 0
    assert s.not_inside == 20 - s.whole
    assert s.sentence.startswith(f"{s.whole} of 20 frames lie inside")
