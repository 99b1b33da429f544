"""What stamps say against themselves and against the electrochemistry: each trap by its name, and nothing about stamps that are in order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import operando as op
from operando.timeline import annotate, audit_times, echem_timeline

START = np.datetime64("2026-06-03T08:00:00", "ns")
EVERY = 10.03
BEAT = 0.123 + EVERY * np.arange(200)


def frames(begin: np.ndarray, *, exposure: float = 5.0, index: np.ndarray | None = None, **attrs: object) -> xr.Dataset:
    """Frames that begin at these seconds after START, as a loader gives them."""
    t = np.asarray(begin, float) + exposure / 2
    stamps, n = START + np.round(t * 1e9).astype("timedelta64[ns]"), t.size
    coords = {
        "time": ("time", stamps),
        "source_time": ("time", stamps),
        "exposure": ("time", np.full(n, exposure)),
        "segment": ("time", np.zeros(n, np.int32)),
        "source": ("time", np.full(n, "a.h5", object)),
        "source_index": ("time", np.arange(n) if index is None else index),
    }
    return xr.Dataset(coords=coords, attrs={"technique": "xrd", "time_origin": "header", "timezone": "UTC", "timezone_source": "file", **attrs})


def cell(hours: float = 2.0) -> xr.Dataset:
    """Electrochemistry from START on, on its timeline."""
    t = np.arange(0.0, hours * 3600, 10.0)
    ds = frames(t, exposure=0.0, technique="echem").assign(voltage=("time", 3.6 + 1e-5 * t), current=("time", np.full(t.size, 1e-3)))
    return annotate(ds, echem_timeline(ds))


def kinds(ds: xr.Dataset, echem: xr.Dataset | None = None, **options: str) -> dict[str, str]:
    found = audit_times(ds, echem, **options)  # type: ignore[arg-type]
    assert all(f.sentence and f.frames >= 0 and f.severity in ("info", "warning", "error") for f in found)
    json.dumps([f.as_dict() for f in found])
    return {f.kind: f"{f.sentence}; {f.advice}" for f in found}


@settings(max_examples=40, deadline=None)
@given(every=st.floats(6.0, 3000.0), first=st.floats(0, 1e5), n=st.integers(1, 400), share=st.floats(0.0, 0.95))
def test_stamps_in_order_are_not_talked_about(every: float, first: float, n: int, share: float) -> None:
    assert not kinds(frames(first + every * np.arange(n), exposure=share * every))


@pytest.mark.parametrize(
    ("begin", "options", "kind", "said"),
    [
        (np.r_[BEAT[:100], BEAT[100:] + 333.3], {}, "gap", "343 s"),
        (np.r_[BEAT[:100], BEAT[100:] + 27.2], {}, "jump", "cannot tell"),
        (np.r_[BEAT[:50], BEAT[49], BEAT[50:]], {}, "duplicate", "copies"),
        (np.r_[BEAT[:100], BEAT[100:] - 500], {}, "backward", "segment: 1"),
        (BEAT, {"time_origin": "mtime"}, "mtime", "modification"),
        (0.3 * BEAT, {}, "exposure", "exposed longer"),
        (np.sort(np.round(BEAT * 1.033)), {}, "resolution", "whole seconds"),
    ],
)
def test_each_trap_has_its_name(begin: np.ndarray, options: dict[str, str], kind: str, said: str) -> None:
    found = kinds(frames(begin, **options))
    assert kind in found, found
    assert said in found[kind]


def test_times_of_arrival_are_late_and_never_early() -> None:
    rng = np.random.default_rng(0)
    found = audit_times(frames(BEAT + rng.exponential(0.4, BEAT.size)))
    (late,) = [f for f in found if f.kind == "jitter"]
    assert "late and never early" in late.sentence
    assert late.severity == "warning"
    assert "period: 10.03" in late.advice
    (either,) = [f for f in audit_times(frames(BEAT + 0.3 * rng.standard_normal(BEAT.size))) if f.kind == "jitter"]
    assert "cannot tell" in either.sentence
    assert either.severity == "info", "frames may well begin unevenly"
    scatter = float(either.sentence.split("by ")[1].split(" s")[0])
    assert scatter == pytest.approx(0.3, rel=0.2)


@pytest.mark.parametrize(
    ("shift", "kind", "said"),
    [(-631_152_000.0, "epoch", "1990"), (-3600.0, "zone", "+1 h"), (7200.0 + 5400.0, "zone", "-"), (-86_400.0, "zone", "+1 day")],
)
def test_another_zone_or_year_is_seen_against_the_electrochemistry(shift: float, kind: str, said: str) -> None:
    found = kinds(frames(600.0 + BEAT + shift), cell())
    assert kind in found, found
    assert said in found[kind]
    assert kind not in kinds(frames(600.0 + BEAT), cell())


def test_the_hour_of_a_change_of_summer_time_is_named() -> None:
    """A clock that did not follow summer time and one that did differ by an hour from the change on."""
    autumn = (np.datetime64("2026-10-25T00:30:00", "ns") - START) / np.timedelta64(1, "s")
    begin = autumn + 600.0 * np.arange(12)
    wall = begin + np.where(begin < (np.datetime64("2026-10-25T01:00:00", "ns") - START) / np.timedelta64(1, "s"), 7200.0, 3600.0)
    ds = frames(wall, timezone_source="none")
    named = kinds(ds.assign_coords(stamp=ds["source_time"]), timezone="Europe/Paris")
    assert "duplicate" not in named
    assert "jump" not in named
    as_written = kinds(frames(wall, timezone_source="none"))
    assert "backward" in as_written or "summer_time" in as_written


def test_no_frames_and_no_times_give_an_answer() -> None:
    assert not kinds(frames(BEAT[:0]))
    assert not kinds(frames(BEAT[:1]))
    ds = frames(BEAT)
    stamps = ds["source_time"].values.copy()
    stamps[:3] = np.datetime64("NaT")
    found = kinds(ds.assign_coords(source_time=("time", stamps), time=("time", stamps)))
    assert "missing" in found


@settings(max_examples=60, deadline=None)
@given(begin=st.lists(st.floats(-1e7, 1e7), max_size=40), exposure=st.floats(0, 100))
def test_any_stamps_give_an_answer(begin: list[float], exposure: float) -> None:
    kinds(frames(np.array(begin), exposure=exposure), cell())


def test_the_example_says_what_its_clocks_have_been_through(root: Path) -> None:
    xas = op.load(
        root / "example_beamtime" / "xas" / "A_Ni_00[0-2]*.xdi", "xas-columns", timezone="Europe/Paris", name_pattern="{cell}_Ni_{frame:04d}"
    )
    assert "backward" not in kinds(xas)
    log = op.load(root / "example_beamtime" / "logs" / "A_holder.csv", "csv", timezone="Europe/Paris", technique="sensor")
    assert set(kinds(log)) <= {"resolution"}
