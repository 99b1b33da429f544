"""Kramers-Kronig, drift, relaxation times, spectra of one moment: rates that hold, and truths of other code."""

from __future__ import annotations

import numpy as np
import pytest

from operando.contract import ConfigError, ContractError
from operando.reduction.impedance import Circuit, drt, kk_residuals, sweep_stationarity, time_consistent
from operando.reduction.impedance.relaxation import Peak, grid_of, track

SCENES = {
    "two arcs, Warburg": (np.geomspace(1e5, 1e-2, 60), "L0-R0-p(R1,CPE1)-p(R2,CPE2)-W1", [2e-7, 4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85, 1.5]),
    "one sharp arc": (np.geomspace(1e5, 1e-2, 60), "R0-p(R1,C1)", [10.0, 100.0, 1e-5]),
    "few points, capacitive tail": (np.geomspace(1e5, 1.0, 30), "R0-p(R1,CPE1)-CPE2", [10.0, 100.0, 1e-5, 0.7, 1e-3, 0.9]),
}


def swept(scene: str, noise: float, rng: np.random.Generator, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency, impedance of a cell whose every impedance changes by `drift` during the sweep, and when each point was measured."""
    frequency, text, values = SCENES[scene]
    time = np.cumsum(np.maximum(0.25, 2.1 / frequency))
    z = Circuit.parse(text).impedance(np.array(values), frequency) * (1 + drift * (time / time[-1] - 0.5))
    return frequency, z + noise * np.abs(z) * (rng.standard_normal(z.size) + 1j * rng.standard_normal(z.size)), time


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("noise", [5e-4, 3e-3, 1e-2])
def test_clean_spectra_fail_at_the_stated_rate(scene: str, noise: float) -> None:
    rng = np.random.default_rng(11)
    found = [kk_residuals(*swept(scene, noise, rng)) for _ in range(200)]
    assert sum(not k.passes(0.01) for k in found) <= 8  # 2 expected; 8 or more has a chance of 1e-3
    assert sum(not k.passes(0.1) for k in found) <= 34  # 20 expected
    assert np.mean([k.noise for k in found]) == pytest.approx(noise, rel=0.05)
    pulls = np.array([k.drift / k.drift_errors for k in found])
    assert abs(pulls.mean()) < 0.5
    assert 0.7 < pulls.std() < 1.3


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("where", "times"), [("low", 5.0), ("low", 20.0), ("high", 20.0), ("absolute", 1.0)])
def test_noise_that_is_larger_at_one_end_is_no_drift(scene: str, where: str, times: float) -> None:
    rng = np.random.default_rng(2)
    f, z, t = swept(scene, 0.0, rng)
    loud = f < np.quantile(f, 0.15) if where == "low" else f > np.quantile(f, 0.9)
    size = np.full(f.size, np.median(np.abs(z))) if where == "absolute" else np.abs(z) * np.where(loud, times, 1.0)
    found = [kk_residuals(f, z + 1e-3 * size * (rng.standard_normal(f.size) + 1j * rng.standard_normal(f.size)), t) for _ in range(120)]
    assert sum(not k.passes(0.01) for k in found) <= 8


@pytest.mark.parametrize("scene", SCENES)
def test_a_drift_of_three_percent_within_a_sweep_is_flagged_and_measured(scene: str) -> None:
    rng = np.random.default_rng(3)
    found = [kk_residuals(*swept(scene, 1e-3, rng, 0.03)) for _ in range(60)]
    assert sum(not k.passes() for k in found) >= 50
    assert np.mean([k.drift for k in found]) == pytest.approx(0.03, abs=0.004)


def test_without_times_of_the_points_one_period_each_is_taken() -> None:
    rng = np.random.default_rng(3)
    f, z, t = swept("two arcs, Warburg", 5e-4, rng, 0.03)
    assert kk_residuals(f, z).drift == pytest.approx(kk_residuals(f, z, t).drift, abs=0.004)


def test_a_spectrum_that_is_none_is_not_passed() -> None:
    f, z, _ = swept("two arcs, Warburg", 5e-4, np.random.default_rng(0))
    # another time constant above 1 kHz than below: no system has both
    glued = np.where(f > 1e3, z, Circuit.parse("R0-p(R1,C1)").impedance(np.array([4.0, 60.0, 1e-3]), f))
    assert not kk_residuals(f, glued).passes()
    assert not kk_residuals(f, z.conj()).passes()  # the wrong sign of the imaginary part


def test_few_points_say_nothing() -> None:
    f, z, _ = swept("two arcs, Warburg", 1e-3, np.random.default_rng(0))
    for few in (kk_residuals(f[:5], z[:5]), kk_residuals(f, np.full(60, np.nan + 0j)), kk_residuals(np.full(20, 100.0), z[:20])):
        assert few.passes() is None
        assert np.isnan(few.rms)
    some = z.copy()
    some[::3] = np.nan
    partly = kk_residuals(f, some)
    assert partly.passes()
    assert np.isnan(partly.residuals[::3]).all()
    shuffled = np.random.default_rng(1).permutation(f.size)
    assert kk_residuals(f[shuffled], z[shuffled]).rms == pytest.approx(kk_residuals(f, z).rms)


@pytest.mark.parametrize(("noise", "within"), [(1e-3, 0.12), (1e-2, 0.15)])
def test_peaks_of_relaxation_lie_where_the_arcs_are(noise: float, within: float) -> None:
    f = np.geomspace(1e5, 1e-2, 60)
    z = Circuit.parse("L0-R0-ZARC1-ZARC2").impedance(np.array([2e-7, 4.0, 8.0, 3e-4, 0.9, 20.0, 0.1, 0.9]), f)
    rng = np.random.default_rng(4)
    for _ in range(5):
        found = drt(f, z + noise * np.abs(z) * (rng.standard_normal(60) + 1j * rng.standard_normal(60)))
        assert found is not None
        main = sorted(found.peaks, key=lambda peak: -peak.resistance)[:2]
        fast, slow = sorted(main, key=lambda peak: peak.log10_tau)
        assert 10**fast.log10_tau == pytest.approx(3e-4, rel=0.2)
        assert 10**slow.log10_tau == pytest.approx(0.1, rel=0.2)
        assert slow.resistance == pytest.approx(20.0, rel=within)
        assert found.r_inf == pytest.approx(4.0, abs=0.8)
        assert (found.gamma >= 0).all()
        assert (found.low <= found.gamma).all()
        assert (found.high >= found.gamma).all()
        assert np.sqrt(np.mean(np.abs(found.residuals) ** 2) / 2) == pytest.approx(noise, rel=0.3)


def test_tails_have_terms_of_their_own() -> None:
    f = np.geomspace(1e5, 1e-2, 60)
    z = Circuit.parse("R0-p(R1,C1)-C2").impedance(np.array([4.0, 8.0, 3e-4, 1.0]), f)
    found = drt(f, z * (1 + 1e-4))
    assert found is not None
    (peak,) = found.peaks
    assert peak.resistance == pytest.approx(8.0, rel=0.01)
    assert 1 / found.elastance == pytest.approx(1.0, rel=0.01)
    assert 10**peak.log10_tau == pytest.approx(2.4e-3, rel=0.05)


def test_strength_and_grid_may_be_told() -> None:
    f, z, _ = swept("two arcs, Warburg", 1e-3, np.random.default_rng(0))
    told = drt(f, z, tau=grid_of(np.array([1e6, 1e-3])), strength=1e-3)
    assert told is not None
    assert told.strength == 1e-3
    assert told.tau.size == grid_of(np.array([1e6, 1e-3])).size
    assert drt(f[:5], z[:5]) is None
    with pytest.raises(ConfigError, match="strength"):
        drt(f, z, strength=-1.0)


def test_peaks_are_followed_and_a_passing_one_is_dropped() -> None:
    rows = [[Peak(-3.0 + 0.02 * k, 5.0, 0.1), Peak(-1.0, 10.0, 0.1)] for k in range(10)]
    rows[4] = [Peak(-1.02, 10.0, 0.1)]  # one not seen once
    rows[6].append(Peak(1.5, 0.3, 0.1))  # and one seen once
    tracks = track(rows)
    assert len(tracks) == 2
    assert tracks[0][4] is None
    assert [peak.log10_tau for peak in tracks[1] if peak] == pytest.approx([-1.0] * 4 + [-1.02] + [-1.0] * 5)
    assert track([]) == []


def test_spectra_of_one_moment_undo_a_drift() -> None:
    f = np.geomspace(1e5, 1e-1, 40)
    circuit = Circuit.parse("R0-p(R1,CPE1)-p(R2,CPE2)")
    done = np.cumsum(np.maximum(0.25, 2.1 / f))
    begin = np.arange(8) * (done[-1] + 5.0)

    def values(t: float) -> np.ndarray:
        return np.array([4.0, 8.0, 1e-4, 0.9, 20.0 * (1 + 0.5 * t / begin[-1]), 5e-3, 0.85])

    moments = begin[:, None] + done
    z = np.array([[circuit.impedance(values(t), np.array([x]))[0] for x, t in zip(f, row, strict=True)] for row in moments])
    middle = begin + done[-1] / 2
    truth = np.array([circuit.impedance(values(t), f) for t in middle])
    made = time_consistent(np.tile(f, (8, 1)), z, moments, middle)
    inner = slice(1, -1)
    assert np.isfinite(made[inner]).all()
    assert np.abs(made[inner] / truth[inner] - 1).max() < 2e-3
    assert np.abs(z[inner] / truth[inner] - 1).max() > 1e-2
    assert np.isnan(made[0]).any(), "nothing is extrapolated"
    with pytest.raises(ContractError, match="do not belong together"):
        time_consistent(np.tile(f, (8, 1)), z, moments, middle[:3])


def test_how_far_the_cell_went_on_during_a_sweep() -> None:
    t = np.array([[1.0, 2.0, 4.0, 10.0], [1.0, 2.0, np.nan, np.nan]])
    volts, amperes = np.array([[3.0, 3.01, 3.03, 3.09], [3.5, 3.5, np.nan, np.nan]]), np.full((2, 4), 2e-3)
    changed, charge = sweep_stationarity(t, volts, amperes)
    assert changed == pytest.approx([0.09, 0.0])
    assert charge == pytest.approx([20e-3, 4e-3])
    assert np.isnan(sweep_stationarity(t, None, None)).all()
