"""Clocks that beamtime.yaml asks to be found: from the raw files to the frames' times, and what is said where they are not found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

import operando as op
from operando import beamtime
from operando.config import read_config
from operando.contract import AlignmentFlag

START = np.datetime64("2026-06-03T08:00:00", "ms")
AHEAD, DRIFT = 37.4, 20e-6  # of the control computer that stamps patterns, log and triggers; it shows t + AHEAD + DRIFT t
CONFIG = """\
timezone: UTC
sources:
  cycler: {{loader: csv, technique: echem, files: cycler.csv, columns: {{voltage: voltage, current: current, charge: charge}}}}
  detector: {{loader: xrd-1d, files: xrd/*.xye, name_pattern: "{{time:%Y%m%dT%H%M%S_%f}}", exposure: 20 s, wavelength: 0.4 angstrom, clock: {clock}}}
  log: {{loader: csv, technique: sensor, files: log.csv}}
  triggers: {{loader: csv, technique: sensor, files: triggers.csv}}
cells:
  A:
    echem: {{from: cycler}}
    series: {{xrd: {{from: detector}}, log: {{from: log}}, triggers: {{from: triggers}}}}
"""


def stamped(seconds: np.ndarray, back: float = 0.0, after: float = np.inf) -> np.ndarray:
    """What the control computer shows; its clock may have been set back by `back` s at a true time."""
    shown = seconds + AHEAD + DRIFT * seconds - np.where(seconds >= after, back, 0.0)
    return START + np.round(shown * 1e3).astype("timedelta64[ms]")


def write(folder: Path, *, regular: bool = False, back: float = 0.0, after: float = np.inf, seed: int = 0) -> np.ndarray:
    """A cell switched between charge, rest and discharge at odd moments (or every 600 s), and what a control computer recorded of it.

    Returns the true middles of the patterns.
    """
    rng = np.random.default_rng(seed)
    lengths = np.full(40, 600.0) if regular else rng.uniform(150, 1500, 40)
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    levels = np.resize([1e-3, 0.0, -1e-3, 0.0, 2e-3, -2e-3], 40)
    t = np.unique(np.concatenate([edges[:-1], edges[1:] - 0.001, np.arange(0, edges[-1], 5.0)]))
    step = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, 39)
    current = levels[step]
    charge = np.concatenate([[0.0], np.cumsum(0.5 * (current[1:] + current[:-1]) * np.diff(t))])

    def volts(at: np.ndarray) -> np.ndarray:
        which = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, 39)
        return np.asarray(3.6 + 0.1 * np.interp(at, t, charge) + 30.0 * levels[which])

    with (folder / "cycler.csv").open("w") as out:
        out.write("time,voltage (V),current (A),charge (C)\n")
        for k in range(t.size):
            out.write(f"{START + np.timedelta64(round(t[k] * 1e3), 'ms')},{volts(t[k : k + 1])[0]:.6f},{current[k]:.6f},{charge[k]:.6f}\n")
    with (folder / "log.csv").open("w") as out:
        out.write("time,analog_input (V),shutter\n")
        at = np.arange(30.0, edges[-1] - 60, 7.0)
        noisy = 1.003 * volts(at) - 0.01 + 1e-3 * rng.standard_normal(at.size)
        shutter = np.searchsorted(edges[1:-1], at) % 2  # opens and closes as the current is switched
        for stamp, value, state in zip(stamped(at, back, after), noisy, shutter, strict=True):
            out.write(f"{stamp},{value:.5f},{state}\n")
    with (folder / "triggers.csv").open("w") as out:
        out.write("time,edge\n")
        kept = edges[1:-1][rng.random(39) > 0.15]
        for stamp in stamped(kept + 0.02 * rng.standard_normal(kept.size), back, after):
            out.write(f"{stamp},1\n")
    (folder / "xrd").mkdir(exist_ok=True)
    middles = np.arange(100.0, edges[-1] - 100, 397.0)
    for k, (stamp, at) in enumerate(zip(stamped(middles - 10.0, back, after), middles, strict=True)):
        name = str(stamp).replace("-", "").replace(":", "").replace(".", "_") + "000"
        peak = 100 + 900 * np.exp(-((np.arange(40) - 20 - 4 * np.interp(at, t, charge)) ** 2) / 8)
        (folder / "xrd" / f"{name}.xye").write_text("".join(f"{5 + 0.1 * i:.2f} {v:.1f} 10\n" for i, v in enumerate(peak)))
        assert k < 1000
    return middles


def build(folder: Path, clock: str) -> beamtime.Outcome:
    (folder / "beamtime.yaml").write_text(CONFIG.format(clock=clock))
    return beamtime.run(read_config(folder / "beamtime.yaml"))


def frames(outcome: beamtime.Outcome) -> xr.Dataset:
    return op.open_beamtime(outcome.published)["A/xrd/frames"].to_dataset().load()


def late(ds: xr.Dataset, true: np.ndarray) -> np.ndarray:
    """By how much the frames' times are off, s."""
    return np.asarray((ds.time.values - START) / np.timedelta64(1, "ns") * 1e-9 - true)


@pytest.mark.parametrize(
    ("clock", "method", "tolerance"),
    [
        ("{events: {from: triggers}}", "events", 0.2),
        ("{events: {from: log, channel: shutter}}", "events", 2.0),
        ("{shared_signal: {from: log, channel: analog_input}}", "shared_signal", 1.0),
        ("{offset: -60 s, uncertainty: 20 s, events: {from: triggers, search: 200 s}}", "events", 0.2),
    ],
)
def test_a_clock_is_found_and_applied(tmp_path: Path, clock: str, method: str, tolerance: float) -> None:
    true = write(tmp_path)
    outcome = build(tmp_path, clock)
    assert outcome.ok, outcome.problems
    assert not outcome.messages
    ds = frames(outcome)
    away = late(ds, true)
    assert np.abs(away).max() < tolerance
    assert (np.abs(away) < 4 * ds.time_errors.values + 0.01).all()
    used = json.loads(ds.attrs["clock"])["0"]
    assert (used["method"], used["status"]) == (method, "ok")
    assert abs(used["drift"] + DRIFT) < 4 * used["drift_uncertainty"] + 1e-6
    assert not (ds.flags.values & AlignmentFlag.TIME_UNCERTAIN).any()
    assert build(tmp_path, clock).done == {"files": 0, "frames": 0, "alignments": 0, "reductions": 0, "published": 0}


def test_check_finds_what_build_finds_and_says_what_to_write(tmp_path: Path) -> None:
    write(tmp_path)
    build(tmp_path, "{events: {from: triggers}}")
    report = beamtime.check(tmp_path / "beamtime.yaml")
    assert not report.problems
    (stream,) = [s for s in report.streams if s.address == "A/xrd"]
    (found,) = stream.estimates
    assert found.applied
    assert found.clock.offset == pytest.approx(-AHEAD, abs=0.2)
    assert "drift" in found.to_write
    assert str(round(found.clock.offset, 3)) in found.to_write
    text = report.text()
    assert "events" in text
    # pasted into the file as it is printed, the same clock is used
    told = text.split("write under its source:\n")[1].split("\n")
    assert told[0].strip() == "clock:"
    block = [line for line in told[1:] if line.startswith(" " * 10)]
    assert len(block) == len(found.to_write.split("\n"))
    true = write(tmp_path)
    clock = yaml.safe_load("\n".join(told[: 1 + len(block)]))["clock"]
    again = build(tmp_path, yaml.safe_dump(clock, default_flow_style=True).strip())
    assert again.ok, again.problems
    assert np.abs(late(frames(again), true)).max() < 0.2


def test_each_segment_has_its_own_clock(tmp_path: Path) -> None:
    true = write(tmp_path, back=900.0, after=15_000.0)
    folder = tmp_path / "beamtime.yaml"
    text = CONFIG.format(clock="{events: {from: triggers}}").replace('"{{time:', '"{time:')
    folder.write_text(text)
    # names sort by the stamp, so the order of acquisition is lost with a clock set back by less than the record: number the frames
    for k, path in enumerate(sorted((tmp_path / "xrd").glob("*.xye"), key=lambda p: float(np.argmin(np.abs(true - _true_of(p, 900.0, 15_000.0)))))):
        path.rename(path.with_name(f"{path.stem}_{k:04d}.xye"))
    folder.write_text(text.replace("_%f}", "_%f}_{frame:04d}"))
    outcome = beamtime.run(read_config(folder))
    assert outcome.ok, outcome.problems
    ds = frames(outcome)
    assert set(ds.segment.values) == {0, 1}
    assert np.abs(late(ds, true)).max() < 0.3
    used = json.loads(ds.attrs["clock"])
    assert used["1"]["offset"] - used["0"]["offset"] == pytest.approx(900.0, abs=1.0)


def _true_of(path: Path, back: float, after: float) -> float:
    """Find the true middle of a pattern from its name."""
    date, clock, fraction = path.stem.split("_")[0].split("T")[0], path.stem.split("_")[0].split("T")[1], path.stem.split("_")[1]
    stamp = np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}.{fraction[:3]}")
    shown = float((stamp - START) / np.timedelta64(1, "ms")) / 1e3 - AHEAD
    candidates = [shown + 10.0, shown + back + 10.0]
    first, second = candidates[0] - 10.0 < after, candidates[1] - 10.0 >= after
    known = np.arange(100.0, 1e6, 397.0)
    fits = [c for c, fine in zip(candidates, (first, second), strict=True) if fine]
    return float(min(fits, key=lambda c: np.abs(known - c).min()))


def test_a_regular_train_is_refused_and_the_frames_say_so(tmp_path: Path) -> None:
    true = write(tmp_path, regular=True)
    outcome = build(tmp_path, "{events: {from: triggers}}")
    assert outcome.ok, outcome.problems
    (message,) = outcome.messages
    assert "detector" in message
    assert "TIME_UNCERTAIN" in message
    ds = frames(outcome)
    assert late(ds, true) == pytest.approx(AHEAD + DRIFT * true, abs=0.01)  # as stamped
    assert ((ds.flags.values & AlignmentFlag.TIME_UNCERTAIN) != 0).all()
    report = beamtime.check(tmp_path / "beamtime.yaml")
    (found,) = next(s for s in report.streams if s.address == "A/xrd").estimates
    assert (found.applied, found.clock.status, found.to_write) == (False, "ambiguous", "")


def test_where_an_estimate_does_not_tell_the_numbers_given_are_used(tmp_path: Path) -> None:
    true = write(tmp_path, regular=True)
    outcome = build(tmp_path, "{offset: -37 s, uncertainty: 500 s, events: {from: triggers}}")
    assert "the numbers given are used" in outcome.messages[0]
    ds = frames(outcome)
    assert np.abs(late(ds, true)).max() < 1.0
    assert (ds.time_errors.values >= 500.0).all()
    narrow = frames(build(tmp_path, "{offset: -40 s, uncertainty: 10 s, events: {from: triggers}}"))
    assert np.abs(late(narrow, true)).max() < 0.3, "with 50 s to either side a train of 600 s tells"


def test_more_triggers_find_the_clock_anew_and_read_no_pattern(tmp_path: Path) -> None:
    write(tmp_path)
    whole = (tmp_path / "triggers.csv").read_text().splitlines()
    (tmp_path / "triggers.csv").write_text("\n".join(whole[:14]) + "\n")
    first = frames(build(tmp_path, "{events: {from: triggers}}"))
    (tmp_path / "triggers.csv").write_text("\n".join(whole) + "\n")
    outcome = build(tmp_path, "{events: {from: triggers}}")
    assert outcome.done["files"] == 1
    assert outcome.done["alignments"] == 3, "patterns, log (its clock is as stamped, and triggers are a channel beside it) and triggers"
    then = frames(outcome)
    sigma = [json.loads(ds.attrs["clock"])["0"]["uncertainty"] for ds in (first, then)]
    assert sigma[1] < sigma[0]


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        ("{shared_signal: {from: log, channel: voltmeter}}", ["no channel 'voltmeter'", "analog_input"]),
        ("{shared_signal: {from: log, channel: analog_input, echem: potential_we}}", ["no potential_we"]),
        ("{events: {from: triggers, echem: sweeps}}", ["no series 'sweeps'", "current_steps"]),
    ],
)
def test_what_is_not_there_is_named_and_the_rest_is_built(tmp_path: Path, clock: str, said: list[str]) -> None:
    write(tmp_path)
    outcome = build(tmp_path, clock)
    (problem,) = outcome.problems
    assert all(word in str(problem) for word in said), str(problem)
    assert op.open_beamtime(outcome.published)["A/log/frames"].sizes["time"] > 100
    report = beamtime.check(tmp_path / "beamtime.yaml")
    assert any(said[0] in p for p in report.problems)


def test_before_the_electrochemistry_has_come_the_clock_waits(tmp_path: Path) -> None:
    true = write(tmp_path)
    text = CONFIG.format(clock="{events: {from: triggers}}")
    (tmp_path / "beamtime.yaml").write_text("\n".join(line for line in text.splitlines() if "cycler" not in line) + "\n")
    early = beamtime.run(read_config(tmp_path / "beamtime.yaml"))
    assert "no electrochemistry yet" in str(early.problems[0])
    outcome = build(tmp_path, "{events: {from: triggers}}")
    assert outcome.ok, outcome.problems
    assert outcome.done["files"] == 1
    assert np.abs(late(frames(outcome), true)).max() < 0.2


def test_a_suggestion_is_printed_and_never_applied(tmp_path: Path) -> None:
    true = write(tmp_path)
    plain = build(tmp_path, "{offset: 0 s}")
    with_suggestion = build(tmp_path, "{offset: 0 s, suggest: true}")
    assert with_suggestion.done["alignments"] == 0
    assert late(frames(with_suggestion), true) == pytest.approx(late(frames(plain), true))
    report = beamtime.check(tmp_path / "beamtime.yaml")
    assert not report.problems
    (found,) = next(s for s in report.streams if s.address == "A/xrd").estimates
    assert (found.applied, found.clock.method) == (False, "physics")
    if found.clock.status == "ok":
        assert abs(found.clock.offset + AHEAD) < 60
        assert "method: physics" in found.to_write
    (tmp_path / "other").mkdir()
    write(tmp_path / "other")
    (tmp_path / "other" / "beamtime.yaml").write_text(CONFIG.format(clock="{suggest: {marker: phase}}"))
    assert "run operando build first" in beamtime.check(tmp_path / "other" / "beamtime.yaml").problems[0]
    beamtime.run(read_config(tmp_path / "other" / "beamtime.yaml"))
    assert "there is no phase" in beamtime.check(tmp_path / "other" / "beamtime.yaml").problems[0]


def test_a_clock_from_physics_is_seen_by_whoever_wants_to_claim_a_lag(tmp_path: Path) -> None:
    write(tmp_path)
    ds = frames(build(tmp_path, "{offset: -37 s, uncertainty: 5 s, method: physics}"))
    assert ((ds.flags.values & AlignmentFlag.CLOCK_FROM_PHYSICS) != 0).all()
    assert json.loads(ds.attrs["clock"])["0"]["method"] == "physics"
