"""The electrochemistry on disk: exact charge, real format, spectra that obey Kramers-Kronig; read again by our loader and by plain text tools."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import operando as op
from operando.simulate import biologic, sensors
from operando.simulate.cell import Design
from operando.simulate.impedance import impedance, impedance_at, sweep_frequencies, sweep_times
from operando.simulate.instruments import Beam, Campaign, SourceClock


@pytest.fixture(scope="module")
def written(cell, tmp_path_factory):
    folder = tmp_path_factory.mktemp("echem")
    campaign = Campaign(
        folder, "A", cell, SourceClock(zone="Europe/Paris"), Beam([(40_000.0, 43_000.0)]), np.random.default_rng(5), np.array([]), 0.0,
        {"acquisitions": [55_000.0]},
    )  # fmt: skip
    return campaign, biologic.write(campaign)


def table(path):
    """Read an .mpt with plain text tools."""
    lines = path.read_bytes().decode("latin-1").split("\r\n")
    n = int(lines[1].split(":")[1])
    names = lines[n - 1].rstrip("\t").split("\t")
    return pd.DataFrame([[float(v.replace(",", ".")) for v in row.split("\t")] for row in lines[n:] if row], columns=names)


def test_the_cycling_reads_back_as_what_the_cell_did(cell, written):
    campaign, _ = written
    rows = pd.concat([table(campaign.folder / f"A_run{k}_01_GCPL_C01.mpt") for k in (1, 2)])
    t = rows["time/s"].to_numpy()
    assert (np.diff(t) > 0).all()
    np.testing.assert_allclose(rows["(Q-Qo)/mA.h"] * 3.6, cell.at("charge", t), atol=1e-9)
    np.testing.assert_allclose(rows["Ewe/V"], cell.at("voltage", t), atol=5 * 5e-5)
    integral = np.cumsum(rows["<I>/mA"].to_numpy()[1:] * np.diff(t)) / 3600
    np.testing.assert_allclose(integral, rows["(Q-Qo)/mA.h"][1:], atol=1e-5)


def test_our_loader_gives_the_true_instants(cell, written):
    campaign, _ = written
    ds = op.load(str(campaign.folder / "A_*_GCPL_C01.mpt"), "biologic-mpt", timezone="Europe/Paris")
    seconds = (ds.time.values - cell.start.astype("datetime64[ns]")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(ds.charge, cell.at("charge", seconds), atol=1e-8)
    assert set(np.unique(ds.cycle)) == {1, 2, 3}


def test_the_sweeps_read_back(cell, written):
    campaign, told = written
    rows = pd.concat([table(campaign.folder / f"A_run{k}_02_PEIS_C01.mpt") for k in (1, 2)])
    n = sweep_frequencies().size
    assert len(rows) == n * told.begin.size
    z = (rows["Re(Z)/Ohm"] - 1j * rows["-Im(Z)/Ohm"]).to_numpy()
    true = impedance_at(cell, rows["time/s"].to_numpy(), rows["freq/Hz"].to_numpy(), Design())
    np.testing.assert_allclose(np.abs(z / true - 1), 0, atol=0.012)
    scatter = np.concatenate([(z / true - 1).real, (z / true - 1).imag])
    assert scatter.std() == pytest.approx(2e-3, rel=0.05)
    text = (campaign.folder / "A_run1_02_PEIS_C01.mpt").read_bytes().decode("latin-1")
    assert f"Loop 1 from point number {n} to {2 * n - 1}" in text
    ds = op.load(str(campaign.folder / "A_run1_02_PEIS_C01.mpt"), "biologic-mpt", timezone="Europe/Paris")
    assert len(np.unique(ds.loop)) == sum(name == "A_run1_02_PEIS_C01.mpt" for name in told.files)


def test_sweeps_lie_in_their_slots_with_the_current_off(cell, written):
    _, told = written
    assert sweep_times(sweep_frequencies())[-1] < Design().sweep_length
    for a, b in zip(told.begin, told.begin + told.exposure, strict=True):
        assert np.ptp(cell.at("charge", np.linspace(a, b, 20))) == 0


def test_a_sweep_is_the_spectrum_of_one_state(cell, written):
    # the elements of a sweep are those of its middle: nothing steps while it runs, the holder's temperature least of all
    _, told = written
    frequency = sweep_frequencies()
    assert (frequency[0], frequency[-1]) == pytest.approx((1e5, 0.05))
    for begin, length in zip(told.begin, told.exposure, strict=True):
        own = begin - sweep_times(frequency)[0] + sweep_times(frequency)
        moving, still = impedance_at(cell, own, frequency, Design()), impedance_at(cell, np.full(own.size, begin + length / 2), frequency, Design())
        assert np.abs(moving / still - 1).max() < 4e-3


def test_the_spectra_obey_kramers_kronig():
    # the real part from the imaginary one, by the integral itself: Z'(w) - Z'(inf) = 2/pi int (x Z''(x) - w Z''(w)) / (w^2 - x^2) dx
    # of what is finite at both ends: the inductance and the storage capacitance, which are their own transforms, taken off
    d = Design()
    f = np.logspace(-8, 9, 6001)
    w = 2 * np.pi * f
    z = impedance(f, 4.0, 8.0, 12.0, 15.0, d) - 1j * w * 2e-7 - 1 / (1j * w * 15.0)
    for k in range(1500, 4500, 300):
        top = w * -z.imag - w[k] * -z.imag[k]
        below = w**2 - w[k] ** 2
        below[k], top[k] = 1.0, 0.0
        integrand = top / below
        integrand[k] = 0.5 * (integrand[k - 1] + integrand[k + 1])
        real = z.real[-1] + 2 / np.pi * np.trapezoid(integrand, w)
        assert real == pytest.approx(z.real[k], rel=2e-3)


def test_the_arcs_are_the_stated_resistances():
    d = Design()
    low = impedance(np.array([1e-9]), 4.0, 8.0, 12.0, 1e12, d)
    assert low.real[0] == pytest.approx(4 + 8 + 12 + d.diffusion, rel=1e-3)
    assert impedance(np.array([1e7]), 4.0, 8.0, 12.0, 15.0, d).real[0] == pytest.approx(4.0, rel=0.02)


def test_the_logs_tell_the_same_story(cell, written):
    campaign, _ = written
    late = Campaign(
        campaign.folder, "A", cell, SourceClock(offset=-37.4, drift=1.1e-5, zone="Europe/Paris"), campaign.beam, np.random.default_rng(6),
        np.array([]), 0.0, {},
    )  # fmt: skip
    told = sensors.write_beamline_log(late)
    rows = pd.read_csv(late.folder / "A_beamline.csv")
    np.testing.assert_allclose(rows["analog_input (V)"], told.observables["analog_input"]["values"], atol=6e-3)
    assert rows["ring_current (mA)"][rows["shutter"] == 0].abs().max() < 0.2
    assert (rows["shutter"] == 0).sum() == 300
    shown = (pd.to_datetime(rows["time"]).dt.tz_localize(None).to_numpy() - cell.start) / np.timedelta64(1, "s")
    np.testing.assert_allclose(shown + -37.4 + 1.1e-5 * shown, told.begin, atol=1.1e-3)
    holder = sensors.write_temperature(late)
    ds = op.load(str(late.folder / "A_holder.csv"), "csv", technique="sensor", timezone="Europe/Paris")
    np.testing.assert_allclose(ds.temperature, holder.observables["temperature"]["values"], atol=0.15)
    triggers = sensors.write_triggers(late)
    edges = pd.read_csv(late.folder / "A_triggers.csv")
    assert len(edges) == len(triggers.begin) == len(triggers.facts["sent_s"]) - len(triggers.facts["lost"]) + 3
