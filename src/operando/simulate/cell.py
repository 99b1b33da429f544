"""One simulated full cell, layered oxide against graphite: what it goes through and what it does, on a fine time grid.

The potentiostat drives it through rests, constant-current cycles between two voltages, an impedance sweep every 25 min, and a GITT stretch
in the charge of the second cycle. The voltage is

    V = U_oxide(x_p) - U_graphite(x_n) + I (R_ohmic + R_interphase) + eta_ct(I) + sum v_k

with the Butler-Volmer overpotential eta_ct = 2RT/F asinh(I R_ct F / 2RT) and the modes v_k of a finite-length Warburg element
(R_d, tau_d; `diffusion_modes`), each obeying tau_k dv_k/dt = I R_k - v_k: the element that stands in the impedance, so relaxation after
a pulse and the low-frequency end of a spectrum tell the same story.

Ageing: the interphase grows as the square root of time (Pinson & Bazant, J. Electrochem. Soc. 160 (2013) A243) and binds lithium that the graphite
never gives back: each charge stores a little less than the oxide released.

What follows what is stated in `LINKS`: the causes, with their lags, and pairs that share nothing but the cycling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.simulate.instruments import History
from operando.simulate.materials import (
    FARADAY,
    GAS,
    graphite_potential,
    graphite_stages,
    h3_progress,
    nickel_oxidation,
    oxide_lattice,
    oxide_potential,
)

UNITS: dict[str, str] = {
    "voltage": "V",
    "current": "A",
    "charge": "C",
    "soc": "1",
    "cycle": "1",
    "half_cycle": "1",
    "step": "1",
    "temperature": "degC",
    "x_positive": "1",  # Li per formula unit of the oxide
    "x_negative": "1",  # Li per C6 of the graphite
    "a_oxide": "angstrom",
    "c_oxide": "angstrom",
    "z_oxygen": "1",
    "h3_progress": "1",
    "nickel_oxidation": "1",
    "stage_1": "1",  # LiC6, fraction of all carbon
    "stage_2": "1",  # LiC12
    "dilute": "1",  # the dilute stages; the three sum to 1
    "d_dilute": "angstrom",
    "damaged_fraction": "1",  # of the oxide at position 1
    "interphase_thickness": "nm",
    "carbonate": "1",  # amount in the interphase, about 1 at the start
    "coordinated_fraction": "1",  # of EC that is coordinated to Li+
    "electrode_thickness": "um",  # of the negative electrode
    "disorder": "1",  # of the nanocrystalline phase
    "ohmic_resistance": "ohm",
    "interphase_resistance": "ohm",
    "charge_transfer_resistance": "ohm",
}

LAGGING_X = 0.75
"""Li content at which the beam-damaged part of the oxide is stuck."""

REST, CHARGE, DISCHARGE, PULSE, RELAX, SWEEP, PAUSE = range(7)
"""What the potentiostat is doing (state `step`). SWEEP is an impedance sweep, PAUSE the minute of rest before it."""

CARBONATE_LAG = 720.0  # s by which the interphase resistance follows the carbonate

LINKS: tuple[dict[str, Any], ...] = (
    {"x": "carbonate", "y": "interphase_resistance", "lag_s": CARBONATE_LAG, "kind": "y follows x, beyond the state of charge"},
    {"x": "h3_progress", "y": "charge_transfer_resistance", "lag_s": 0.0, "kind": "y follows x; both are functions of the state of charge"},
    {"x": "temperature", "y": "ohmic_resistance", "lag_s": 0.0, "kind": "y follows x, beyond the state of charge"},
    {"x": "temperature", "y": "interphase_resistance", "lag_s": 0.0, "kind": "y follows x, beyond the state of charge"},
    {"x": "temperature", "y": "charge_transfer_resistance", "lag_s": 0.0, "kind": "y follows x, beyond the state of charge"},
    {"x": "coordinated_fraction", "y": "interphase_resistance", "lag_s": None, "kind": "nothing but the cycling and time in common"},
    {"x": "coordinated_fraction", "y": "charge_transfer_resistance", "lag_s": None, "kind": "nothing but the cycling in common"},
    {"x": "disorder", "y": "interphase_resistance", "lag_s": None, "kind": "nothing but time in common"},
    {"x": "electrode_thickness", "y": "charge_transfer_resistance", "lag_s": None, "kind": "nothing but the cycling in common"},
)


@dataclass(frozen=True)
class Design:
    """What the cell is made of and how it is driven."""

    oxide_mass: float = 15.4  # mg, lithiated to x = 1; 10 mg/cm2
    graphite_mass: float = 10.01  # mg; 6.5 mg/cm2
    area: float = 1.54  # cm2
    x_positive: float = 0.93  # when the story begins
    x_negative: float = 0.02
    current: float = 1.2e-3  # A
    upper: float = 4.25  # V
    lower: float = 2.9  # V
    sweep_every: float = 1500.0  # s of cycling between impedance sweeps
    sweep_length: float = 140.0  # s
    pause: float = 60.0  # s before a sweep
    rest: float = 1200.0  # s between half cycles
    first_rest: float = 1800.0  # s
    pulses: int = 8  # of the GITT stretch
    pulse: float = 600.0  # s
    relax: float = 1200.0  # s
    gitt_cycle: int = 2
    gitt_below: float = 0.75  # Li content of the oxide at which the stretch begins
    ohmic: float = 4.0  # ohm at 25 degC
    interphase: float = 8.0
    charge_transfer: float = 12.0
    diffusion: float = 12.0  # ohm, finite-length Warburg
    diffusion_time: float = 1500.0  # s
    activation: float = 55e3  # J/mol of interphase and charge transfer
    ohmic_activation: float = 25e3  # J/mol
    interphase_start: float = 5.0  # nm
    interphase_growth: float = 3.9e-4  # nm2/s
    inventory_loss: float = 0.054  # C bound per nm of interphase
    temperature: float = 25.0  # degC
    temperature_step: float = 2.0  # K
    temperature_step_at: float = 45_800.0  # s; between two sweeps

    @property
    def oxide_capacity(self) -> float:
        """Charge (C) of one Li per formula unit; M(LiNi0.8Mn0.1Co0.1O2) = 97.28 g/mol."""
        return self.oxide_mass * 1e-3 / 97.28 * FARADAY

    @property
    def graphite_capacity(self) -> float:
        """Charge (C) of one Li per C6; M(C6) = 72.066 g/mol."""
        return self.graphite_mass * 1e-3 / 72.066 * FARADAY


def diffusion_modes(design: Design, n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Give resistances (ohm) and time constants (s) of the modes of tanh(sqrt(s tau)) / sqrt(s tau), the finite-length Warburg element."""
    odd = 2.0 * np.arange(n) + 1.0
    return 8.0 * design.diffusion / (np.pi * odd) ** 2, 4.0 * design.diffusion_time / (np.pi * odd) ** 2


@dataclass
class _Run:
    """The cell while time goes on: its state and the record of it."""

    design: Design
    dt: float
    slow: dict[str, np.ndarray]  # what does not depend on the current, on the grid dt
    t: float = 0.0
    charge: float = 0.0
    thickness: float = 0.0
    cycle: int = 1
    half_cycle: int = 0
    sign: float = 0.0
    rows: list[tuple[float, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thickness = self.design.interphase_start
        self.lost = 0.0
        self.resistances, self.times = diffusion_modes(self.design)
        self.modes = np.zeros_like(self.resistances)
        self.decay = np.exp(-self.dt / self.times)

    def _slow(self, name: str) -> float:
        values = self.slow[name]
        place = min(self.t / self.dt, values.size - 1.001)
        k = int(place)
        return float(values[k] + (values[k + 1] - values[k]) * (place - k))

    def contents(self) -> tuple[float, float]:
        d = self.design
        return d.x_positive - self.charge / d.oxide_capacity, d.x_negative + (self.charge - self.lost) / d.graphite_capacity

    def record(self, current: float, step: int) -> float:
        """Write the state down under this current and give the voltage."""
        x, y = self.contents()
        kelvin = 273.15 + self._slow("temperature")
        d = self.design
        warm = np.exp(d.activation / GAS * (1 / kelvin - 1 / 298.15))
        ohmic = d.ohmic * np.exp(d.ohmic_activation / GAS * (1 / kelvin - 1 / 298.15)) * (1 + 2.5e-7 * self.t)
        carbonate = self._slow("carbonate_lagged")
        interphase = d.interphase * warm * (1 + 0.9 * (carbonate - 1.0))
        soc = 1.0 - (x - 0.24) / 0.70
        transfer = d.charge_transfer * warm * (1 + 0.25 * np.exp(-max(soc, 0.0) / 0.1)) * (1 + 0.9 * float(h3_progress(x))) * (1 + 6e-7 * self.t)
        thermal = 2 * GAS * kelvin / FARADAY
        volts = (
            float(oxide_potential(x) - graphite_potential(y))
            + current * (ohmic + interphase)
            + thermal * np.arcsinh(current * transfer / thermal)
            + float(self.modes.sum())
        )
        self.rows.append((self.t, volts, current, self.charge, self.cycle, self.half_cycle, step, x, y, self.thickness, ohmic, interphase, transfer))
        return float(volts)

    def hold(self, current: float, step: int, seconds: float, stop: float | None = None) -> bool:
        """Keep a current for some time, or until the voltage reaches `stop`; say whether it did."""
        if current and np.sign(current) != self.sign:
            if self.sign:
                self.half_cycle += 1
                self.cycle = 1 + self.half_cycle // 2
            self.sign = float(np.sign(current))
        if self.rows and self.rows[-1][2] != current:
            self.t += 1e-3  # the current steps within a millisecond: both sides of the step are in the record
            self.charge += 0.5e-3 * (self.rows[-1][2] + current)
        volts = self.record(current, step)
        for _ in range(max(1, round(seconds / self.dt))):
            if stop is not None and (volts - stop) * np.sign(current) >= 0:
                return True
            before, was = (self.t, self.charge, self.thickness, self.lost, self.modes), volts
            self._go_on(current, self.dt)
            volts = self.record(current, step)
            if stop is not None and (volts - stop) * np.sign(current) > 0:  # the potentiostat stops within milliseconds, not at our next step
                self.rows.pop()
                self.t, self.charge, self.thickness, self.lost, self.modes = before
                self._go_on(current, max(1e-2, self.dt * (stop - was) / (volts - was)))
                self.record(current, step)
                return True
        return False

    def _go_on(self, current: float, seconds: float) -> None:
        """Let the cell go on under a current for a time within which nothing else changes."""
        self.t += seconds
        self.charge += current * seconds
        grown = self.design.interphase_growth / self.thickness * seconds
        self.thickness += grown
        self.lost += self.design.inventory_loss * grown
        decay = self.decay if seconds == self.dt else np.exp(-seconds / self.times)
        self.modes = self.modes * decay + current * self.resistances * (1 - decay)

    def sweep(self) -> None:
        self.hold(0.0, PAUSE, self.design.pause)
        self.hold(0.0, SWEEP, self.design.sweep_length)

    def half(self, current: float, stop: float, step: int, gitt: bool) -> None:
        """Charge or discharge to a voltage, with a sweep every 25 min and, once, a GITT stretch."""
        done = False
        while True:
            if gitt and not done and self.contents()[0] < self.design.gitt_below:
                done = True
                for _ in range(self.design.pulses):
                    if self.hold(current, PULSE, self.design.pulse, stop):
                        return
                    self.hold(0.0, RELAX, self.design.relax)
                    self.sweep()
            if self.hold(current, step, self.design.sweep_every, stop):
                return
            self.sweep()


def simulate_cell(
    start: np.datetime64, rng: np.random.Generator, *, cycles: int = 3, hours: float | None = None, design: Design | None = None, dt: float = 5.0
) -> History:
    """Drive one cell through its cycles and give all its states.

    Parameters
    ----------
    start
        UTC instant at which the potentiostat starts.
    rng
        Chance: what breathes in the interphase and the electrolyte without regard to the cycling.
    cycles
        How many cycles; with `hours` as many as it takes to fill them.
    design
        The cell; the default is the one of the example.
    dt
        Time step, s.
    """
    d = design or Design()
    horizon = 3600.0 * (hours if hours is not None else 14.0 * cycles)
    slow = _slow_states(d, rng, np.arange(0.0, horizon + 40_000.0, dt))
    run = _Run(d, dt, slow)
    run.hold(0.0, REST, d.first_rest)
    run.sweep()
    k = 0
    while (run.t < horizon) if hours is not None else (k < cycles):
        k += 1
        for current, stop, step in ((d.current, d.upper, CHARGE), (-d.current, d.lower, DISCHARGE)):
            run.half(current, stop, step, gitt=step == CHARGE and k == d.gitt_cycle)
            run.hold(0.0, REST, d.rest)
            run.sweep()
    return History(start.astype("datetime64[ms]"), *_finish(d, run, slow, dt))


def _slow_states(d: Design, rng: np.random.Generator, t: np.ndarray) -> dict[str, np.ndarray]:
    """Give what does not depend on the current: temperature, carbonate, and two independent breaths."""
    dt = float(t[1] - t[0])
    temperature = (
        d.temperature + 0.08 * np.sin(2 * np.pi * t / 86_400.0 + 0.7) + d.temperature_step * 0.5 * (1 + np.tanh((t - d.temperature_step_at) / 120.0))
    )
    thickness = np.sqrt(d.interphase_start**2 + 2 * d.interphase_growth * t)
    carbonate = 1.0 + 0.12 * (thickness - d.interphase_start) + 0.06 * _breath(rng, t.size, dt, 1500.0)
    lagged = np.interp(t - CARBONATE_LAG, t, carbonate)
    return {"temperature": temperature, "carbonate": carbonate, "carbonate_lagged": lagged, "breath": _breath(rng, t.size, dt, 2400.0)}


def _breath(rng: np.random.Generator, n: int, dt: float, tau: float) -> np.ndarray:
    """Give a smooth random function of unit variance: white noise on a grid of tau / 4 through two first-order filters of time constant tau."""
    every = tau / 4
    coarse = np.arange(-8 * tau, n * dt + every, every)
    noise = rng.standard_normal(coarse.size)
    keep = np.exp(-every / tau)
    first = second = 0.0
    out = np.empty(coarse.size)
    for k, one in enumerate(noise):
        first = keep * first + (1 - keep) * one
        second = keep * second + (1 - keep) * first
        out[k] = second
    # the variance of the cascade, from its impulse response (k + 1) keep^k (1 - keep)^2
    lag = np.arange(400)
    unit = np.sqrt(np.sum(((lag + 1) * keep**lag * (1 - keep) ** 2) ** 2))
    return np.interp(np.arange(n) * dt, coarse, out / unit)


def _finish(d: Design, run: _Run, slow: dict[str, np.ndarray], dt: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    names: tuple[str, ...] = (
        "time",
        "voltage",
        "current",
        "charge",
        "cycle",
        "half_cycle",
        "step",
        "x_positive",
        "x_negative",
        "interphase_thickness",
    )
    names += ("ohmic_resistance", "interphase_resistance", "charge_transfer_resistance")
    states = dict(zip(names, np.array(run.rows).T, strict=True))
    time = states.pop("time")
    keep = np.concatenate([np.diff(time) > 0, [True]])  # a step begun where the last ended is written once
    time, states = time[keep], {name: values[keep] for name, values in states.items()}
    grid = np.arange(slow["temperature"].size) * dt
    x, y = states["x_positive"], states["x_negative"]
    states["a_oxide"], states["c_oxide"], states["z_oxygen"] = oxide_lattice(x)
    states["h3_progress"], states["nickel_oxidation"] = h3_progress(x), nickel_oxidation(x)
    states["stage_1"], states["stage_2"], states["dilute"], states["d_dilute"] = graphite_stages(y)
    for name in ("temperature", "carbonate"):
        states[name] = np.interp(time, grid, slow[name])
    first = states["cycle"] == 1
    lowest, highest = states["charge"][first].min(), states["charge"][first].max()
    states["soc"] = (states["charge"] - lowest) / (highest - lowest)
    states["coordinated_fraction"] = 0.33 + 0.06 * (states["soc"] - 0.5) + 0.012 * np.interp(time, grid, slow["breath"])
    states["electrode_thickness"] = 60.0 * (1 + 0.10 * y)
    states["disorder"] = 1.0 - np.exp(-time / 36_000.0)
    states["damaged_fraction"] = 0.25 * (1.0 - np.exp(-time / 50_000.0))
    return time, states
