"""Clocks suggested from physics: found where edges tell, refused where something else may be true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scenes_physics as scenes
import xarray as xr
from scenes_physics import scene

import operando as op
from operando.contract import ClockError
from operando.timeline import annotate, echem_timeline
from operando.timeline.clocks import Clock
from operando.timeline.following import Model, Signal, Spot, edges_of, refined
from operando.timeline.physics import suggest_clock_from_physics

SLOWLY = {"every": 300.0, "exposure": 60.0, "snr": 100.0}


@pytest.fixture(scope="module")
def gitt() -> tuple[scenes.Scene, Clock]:
    s = scene(3, scenes.gitt(), snr=300.0)
    return s, suggest_clock_from_physics(s.frames, s.echem)


def moved(s: scenes.Scene, seconds: float) -> xr.DataArray:
    return s.frames.assign_coords(time=s.frames.time.values + np.timedelta64(round(seconds * 1e9), "ns"))


# --------------------------------------------------------------------------- found


def test_a_titration_is_found_and_told_in_words(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, clock = gitt
    assert (clock.status, clock.method, clock.drift) == ("ok", "physics", 0.0), clock.evidence
    assert abs(clock.offset - s.offset) <= min(10.0, 1.96 * clock.uncertainty)
    assert clock.uncertainty < 20.0
    for words in ("61 current edges", "95 % interval", "kinetic lag", "cannot support a claim that something leads or lags", "drift not estimated"):
        assert words in clock.evidence
    found, sigma = clock.to_echem(s.frames.time.values)
    assert abs((found[0] - s.frames.time.values[0]) / np.timedelta64(1, "s") - s.offset) < 10
    assert sigma[0] == clock.uncertainty
    assert clock.profile is not None
    assert clock.profile.log_likelihood.max() == 0
    assert (np.diff(clock.profile.offset) > 0).all()
    assert abs(clock.profile.offset[np.argmax(clock.profile.log_likelihood)] - s.offset) < 20
    assert clock.profile.offset.min() < -3500


def test_fast_cycling_is_found() -> None:
    s = scene(2, scenes.fast(20), snr=50.0)
    clock = suggest_clock_from_physics(s.frames, s.echem)
    assert clock.status == "ok", clock.evidence
    assert abs(clock.offset - s.offset) <= min(20.0, 1.96 * clock.uncertainty)


def test_two_positions_with_their_own_functions_share_a_clock() -> None:
    s = scene(0, scenes.fast(20), snr=60.0, spots=2)
    clock = suggest_clock_from_physics(s.frames, s.echem)
    assert clock.status == "ok", clock.evidence
    assert "at 2 positions" in clock.evidence
    assert abs(clock.offset - s.offset) <= min(20.0, 1.96 * clock.uncertainty)
    named = suggest_clock_from_physics(s.frames.drop_vars("position"), s.echem, groups=s.frames.position.values.astype(str))
    assert named.offset == pytest.approx(clock.offset, abs=1e-6)


@pytest.mark.parametrize(("seed", "spots", "word"), [(4, 2, "second"), (1, 3, "third"), (2, 4, "4th")])
def test_positions_that_were_not_told_are_noticed(seed: int, spots: int, word: str) -> None:
    # taken for one function, what is left over goes by turns; seed 4 used to be put a whole half cycle away with an uncertainty of 3 s
    s = scene(seed, scenes.fast(20), snr=60.0, spots=spots)
    blind = suggest_clock_from_physics(s.frames.drop_vars("position"), s.echem)
    assert blind.status == "models_disagree"
    assert f"every {word} frame follows a function of its own" in blind.evidence
    assert "position" in blind.evidence


def test_the_offset_counts_from_where_it_is_looked_for(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, clock = gitt
    again = suggest_clock_from_physics(moved(s, -50_000.0), s.echem, offset=50_000.0)
    assert again.status == "ok"
    assert again.offset == pytest.approx(clock.offset + 50_000.0, abs=1e-3)
    assert again.uncertainty == pytest.approx(clock.uncertainty, rel=1e-3)


# --------------------------------------------------------------------------- refused


@pytest.mark.parametrize("seed", range(4))
def test_a_charge_without_an_edge_is_refused(seed: int) -> None:
    s = scene(seed, scenes.edgeless(), snr=300.0)
    clock = suggest_clock_from_physics(s.frames, s.echem)
    assert clock.status == "no_edges"
    with pytest.raises(ClockError, match="does not support a correction"):
        clock.to_echem(s.frames.time.values)


def test_edges_that_only_the_electrochemistry_has_do_not_count() -> None:
    """Rests before and after: within the search the frames may or may not reach them."""
    s = scene(1, [(7200.0, 0.0), *scenes.edgeless(0.1), (7200.0, 0.0)], snr=300.0, begin=6000.0, end=6000.0)
    assert suggest_clock_from_physics(s.frames, s.echem).status == "no_edges"


@pytest.mark.parametrize("lag", [0.0, 600.0])
def test_slow_cycles_are_not_told_from_hysteresis(lag: float) -> None:
    for seed in range(2):
        s = scene(seed, scenes.slow(5), lag=lag, **SLOWLY)
        clock = suggest_clock_from_physics(s.frames, s.echem)
        assert clock.status in ("ambiguous", "models_disagree"), clock.evidence


@pytest.mark.parametrize(("steps", "snr"), [(scenes.fast(12), 50.0), (scenes.fast(12, parts=1), 50.0), (scenes.gitt(), 300.0)])
def test_a_material_that_follows_ten_minutes_late_gives_no_clock(steps: list[scenes.Step], snr: float) -> None:
    s = scene(1, steps, snr=snr, lag=600.0)
    clock = suggest_clock_from_physics(s.frames, s.echem)
    assert clock.status in ("models_disagree", "ambiguous"), clock.evidence


def test_a_clock_that_was_set_in_between_is_refused() -> None:
    s = scene(0, scenes.gitt(), snr=300.0, jump=300.0)
    assert suggest_clock_from_physics(s.frames, s.echem).status in ("models_disagree", "ambiguous")


def test_another_period_of_a_titration_is_a_rival() -> None:
    """Seen on its way up only, a staircase looks the same one pulse later."""
    s = scene(1, scenes.gitt()[:31], snr=100.0)
    clock = suggest_clock_from_physics(s.frames, s.echem)
    assert clock.status == "ambiguous", clock.evidence
    assert "is about as likely" in clock.evidence


def test_the_limit_of_the_search_is_no_answer(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, _ = gitt
    clock = suggest_clock_from_physics(s.frames, s.echem, offset=s.offset + 700.0, search=600.0)
    assert clock.status != "ok"


def test_noise_alone_gives_no_clock() -> None:
    for seed in range(3):
        s = scene(seed, scenes.fast(12), snr=0.01)
        assert suggest_clock_from_physics(s.frames, s.echem).status != "ok"


# --------------------------------------------------------------------------- input


def test_frames_that_cannot_be_used_are_left_out_and_named(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, clock = gitt
    values, stamps = s.frames.values.copy(), s.frames.time.values.copy()
    values[[10, 500]] = np.nan
    stamps[700] = np.datetime64("NaT")
    broken = s.frames.copy(data=values).assign_coords(time=stamps)
    order = np.random.default_rng(0).permutation(s.frames.size)
    found = suggest_clock_from_physics(broken[order], s.echem)
    assert found.status == "ok", found.evidence
    assert "3 frames without a number or a stamp left out" in found.evidence
    assert "not in the order of time" in found.evidence
    assert found.offset == pytest.approx(clock.offset, abs=3 * clock.uncertainty)


def test_too_little_is_said_to_be(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, _ = gitt
    for frames in (s.frames[:0], s.frames[::100], s.frames.copy(data=np.full(s.frames.size, 2.0)), s.frames * np.nan, moved(s, 1e7)):
        clock = suggest_clock_from_physics(frames, s.echem)
        assert clock.status == "too_few"
    assert suggest_clock_from_physics(s.frames, s.echem.isel(time=slice(0, 0))).status == "too_few"
    few = scene(0, scenes.slow(3), **SLOWLY)
    assert "at least 3 are needed" in suggest_clock_from_physics(few.frames, few.echem).evidence


def test_input_that_makes_no_sense_is_an_error(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, _ = gitt
    with pytest.raises(ClockError, match="not one number per frame"):
        suggest_clock_from_physics(s.frames.expand_dims(q=2), s.echem)
    with pytest.raises(ClockError, match="not on its timeline"):
        suggest_clock_from_physics(s.frames, s.echem.drop_vars("flags"))
    with pytest.raises(ClockError, match="no stamps"):
        suggest_clock_from_physics(s.frames.drop_vars("time"), s.echem)
    with pytest.raises(ClockError, match="not one per frame"):
        suggest_clock_from_physics(s.frames, s.echem, groups=[1, 2])
    with pytest.raises(ClockError, match="no such coordinate"):
        suggest_clock_from_physics(s.frames, s.echem, groups="spot")
    for search in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ClockError, match="search"):
            suggest_clock_from_physics(s.frames, s.echem, search=search)


def test_frames_that_meet_a_gap_are_left_out(gitt: tuple[scenes.Scene, Clock]) -> None:
    s, _ = gitt
    t = (s.echem.time.values - scenes.START) / np.timedelta64(1, "s")
    raw = s.echem.drop_vars(["flags", "soc", "direction", "cycle", "half_cycle", "step", "time_errors"])
    raw = raw.isel(time=(t < 40_000) | (t > 45_000))
    cut = annotate(raw, echem_timeline(raw))
    assert (cut.flags.values & 4).any()
    clock = suggest_clock_from_physics(s.frames, cut, offset=s.offset + 100, search=900.0)
    assert "not covered" in clock.evidence
    left_out = int(clock.evidence.split(" frames left out")[0].split()[-3])
    assert left_out >= 6800 / 60
    if clock.status == "ok":
        assert abs(clock.offset - s.offset) <= 1.96 * clock.uncertainty


# --------------------------------------------------------------------------- parts


def test_a_lag_is_that_of_the_differential_equation() -> None:
    """Against small steps; a jump, a ramp, a rest."""
    t = np.arange(0.0, 4000.0, 10.0)
    y = np.interp(t, [0, 1000, 1600, 2500, 4000], [0.2, 0.2, 0.9, 0.9, 0.1])
    for lag in (30.0, 600.0):
        fine = np.arange(0.0, 3990.0, 0.1)
        held = np.empty(fine.size)
        held[0] = 0.2
        for k, target in enumerate(np.interp(fine[:-1] + 0.05, t, y).tolist()):
            held[k + 1] = held[k] + 0.1 / lag * (target - held[k]) / (1 + 0.05 / lag)
        begin, end = np.array([1500.0, 1600.0, 2600.0]), np.array([1530.0, 1660.0, 2660.0])
        mean = [held[(fine >= a) & (fine < b)].mean() for a, b in zip(begin, end, strict=True)]
        np.testing.assert_allclose(Signal(t, y[:-1], y[1:]).lagged(lag).mean(begin, end), mean, atol=2e-4)


def test_play_moves_only_when_pushed() -> None:
    t = np.arange(7) * 10.0
    q = np.array([0.0, 0.5, 1.0, 0.9, 0.5, 0.5, 1.0])
    spot = Spot("0", t[:-1], t[:-1] + 5, np.arange(6.0), np.zeros(6), t, q)
    state, turned = spot.signals(Model(size=0.1, play=0.2))
    assert turned is not None
    np.testing.assert_allclose(np.append(state.level, state.end[-1]), [-0.1, 0.4, 0.9, 0.9, 0.6, 0.6, 0.9])
    np.testing.assert_array_equal(turned.level, [1, 1, -1, -1, -1, 1])


def test_edges_are_where_the_current_changes_and_stays_changed() -> None:
    t = np.arange(0.0, 6000.0, 5.0)
    rate = np.select([t < 1000, t < 2000, t < 3000, t < 3010, t < 4000, t < 5000], [0.0, 1.0, 1.1, 0.0, 1.1, -1.1], 0.0)
    q = np.concatenate([[0.0], np.cumsum(rate[:-1] * 5.0)])
    np.testing.assert_allclose(edges_of(t, q, 60.0), [1000.0, 2000.0 + 2000.0, 5000.0])
    assert edges_of(t, np.zeros(t.size), 60.0).size == 0


def test_a_record_is_thinned_and_filled_without_bending_it() -> None:
    t = np.concatenate([np.arange(0.0, 1000.0, 0.5), [2000.0, 2000.5, 3000.0]])
    q = np.interp(t, [0.0, 700.3, 2000.0, 3000.0], [0.0, 7.0, 7.0, -3.0])
    fine, filled = refined(t, q)
    assert np.diff(fine).max() <= 15.5
    assert fine.size < 300
    np.testing.assert_allclose(np.interp(t, fine, filled), q, atol=1e-12)


# --------------------------------------------------------------------------- measured


@pytest.mark.real_data
def test_real_spectra_support_no_clock(shared_data: Path) -> None:
    """Kinetics or clock, nobody knows: edge energy and first component, all frames, halves, and every second frame."""
    folder = shared_data / "multimodal" / "perex_rock"
    xas = op.load(str(folder / "XAS_pos1" / "*.txt"), "xas-columns", preset="soleil-rock", timezone="Europe/Paris")
    cell = op.load(str(folder / "EC" / "*.mpt"), "biologic-mpt", timezone="Europe/Paris")
    cell = annotate(cell, echem_timeline(cell))
    energy, mu = xas.energy.values, xas.mu.values
    window = (energy > 8335) & (energy < 8360)
    left, weight, _ = np.linalg.svd(mu[:, window] - mu[:, window].mean(axis=0), full_matrices=False)
    rise = (energy > 8338) & (energy < 8350)
    edge = [float(np.interp(0.5, np.maximum.accumulate(row[rise]), energy[rise])) for row in mu]
    coords = {name: xas[name] for name in ("time", "source_time", "exposure", "segment")}
    halves = np.arange(xas.sizes["time"]) >= xas.sizes["time"] // 2
    for values in (np.array(edge), left[:, 0] * weight[0]):
        marker = xr.DataArray(values, dims="time", coords=coords)
        for part in (marker, marker[halves], marker[~halves], marker[::2], marker[1::2]):
            clock = suggest_clock_from_physics(part, cell)
            assert clock.status != "ok"
            assert any(sign.isdigit() for sign in clock.evidence)
        both = suggest_clock_from_physics(marker, cell, groups=np.arange(xas.sizes["time"]) % 2)
        assert both.status != "ok"
