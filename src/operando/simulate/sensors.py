"""Logs beside the simulated cell: the holder's temperature, the beamline's slow log, and the potentiostat's triggers as the beamline saw them.

* `A_holder.csv`: semicolons and decimal commas, local wall-clock stamps, every 60 s.
* `A_beamline.csv`: commas, ISO stamps in UTC, every 10 s: ring current, shutter, and the cell's voltage through an analog input, as
  beamlines record it to have a second witness of the clock.
* `A_triggers.csv`: one line per edge on the trigger input that the potentiostat raises at the begin of every impedance sweep; some are lost, some are
  spikes that nobody sent.
"""

from __future__ import annotations

import numpy as np

from operando.simulate.cell import SWEEP
from operando.simulate.instruments import Campaign, Told


def _times(campaign: Campaign, every: float) -> np.ndarray:
    before, after = campaign.options.get("before", 900.0), campaign.options.get("after", 900.0)
    return np.arange(-before, campaign.history.time[-1] + after, every)


def write_temperature(campaign: Campaign) -> Told:
    """Write the temperature of the cell holder; the logger's resolution is 0.01 K, its noise 0.02 K."""
    t = _times(campaign, 60.0)
    values = campaign.history.at("temperature", t) + 0.02 * campaign.rng.standard_normal(t.size)
    stamps = campaign.clock.wall(campaign.history.start, t)
    with (campaign.folder / f"{campaign.cell}_holder.csv").open("w", encoding="ascii", newline="") as out:
        out.write("time;temperature (degC)\r\n")
        for stamp, value in zip(stamps, values, strict=True):
            out.write(f"{str(stamp).replace('T', ' ')[:19]};{value:.2f}\r\n".replace(".", ","))
    truth = {"temperature": {"unit": "degC", "values": campaign.history.at("temperature", t)}}
    return Told([f"{campaign.cell}_holder.csv"] * t.size, list(range(t.size)), t, np.zeros(t.size), truth, {"noise_K": 0.02})


def write_beamline_log(campaign: Campaign) -> Told:
    """Write the beamline's log: ring current (mA), shutter, and the cell's voltage as its analog input saw it (1 mV noise, 16 bit over 10 V)."""
    t = _times(campaign, 10.0)
    ring = 200.0 * campaign.beam.intensity(t, 0.0) + 0.02 * campaign.rng.standard_normal(t.size)
    step = 10.0 / 2**16
    volts = campaign.history.at("voltage", t) + 1e-3 * campaign.rng.standard_normal(t.size)
    volts = np.round(volts / step) * step
    stamps = campaign.clock.utc(campaign.history.start, t)
    shutter = np.asarray(campaign.beam.intensity(t, 0.0) > 0).astype(int)
    with (campaign.folder / f"{campaign.cell}_beamline.csv").open("w", encoding="ascii", newline="\n") as out:
        out.write("time,ring_current (mA),shutter,analog_input (V)\n")
        for stamp, current, is_open, volt in zip(stamps, ring, shutter, volts, strict=True):
            out.write(f"{stamp}Z,{current:.2f},{is_open},{volt:.4f}\n")
    truth = {"analog_input": {"unit": "V", "values": campaign.history.at("voltage", t)}}
    return Told(
        [f"{campaign.cell}_beamline.csv"] * t.size,
        list(range(t.size)),
        t,
        np.zeros(t.size),
        truth,
        {"noise_V": 1e-3, "dumps_s": [list(d) for d in campaign.beam.dumps]},
    )


def write_triggers(campaign: Campaign) -> Told:
    """Write the edges on the beamline's trigger input: 10 % of the potentiostat's are lost, three are spikes, the stamps jitter by 0.05 s."""
    h = campaign.history
    on = h.states["step"] == SWEEP
    sent = h.time[np.flatnonzero(on & ~np.concatenate([[False], on[:-1]]))]
    kept = np.sort(campaign.rng.permutation(sent.size)[: max(1, round(0.9 * sent.size))])
    spikes = campaign.rng.uniform(0.0, h.time[-1], 3)
    true = np.concatenate([sent[kept], spikes])
    order = np.argsort(true)
    stamps = campaign.clock.utc(h.start, true[order] + 0.05 * campaign.rng.standard_normal(true.size))
    with (campaign.folder / f"{campaign.cell}_triggers.csv").open("w", encoding="ascii", newline="\n") as out:
        out.write("time,edge\n" + "".join(f"{stamp}Z,1\n" for stamp in stamps))
    facts = {"sent_s": sent, "lost": [int(k) for k in np.setdiff1d(np.arange(sent.size), kept)], "spikes_s": np.sort(spikes), "jitter_s": 0.05}
    return Told([f"{campaign.cell}_triggers.csv"] * true.size, list(range(true.size)), true[order], np.zeros(true.size), {}, facts)
