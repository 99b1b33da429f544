"""Electrochemistry: the tables of cycles and of steps, and differential capacity and voltage of each half cycle.

Capacities and energies are exact integrals of the records on the timeline: charge is the timeline's continuous charge (the
instrument's own where it gave one), energy the sum of mean cell voltage x charge over each interval between records. The direction of an
interval is the sign of the charge that flowed in it, so that a rest or a sign change inside a cycle counts where it belongs.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

from operando.config import Recipe
from operando.contract import ContractError
from operando.reduction import echem_steps
from operando.reduction.differential import capacity_per_volt, volt_per_capacity
from operando.reduction.interface import Products, reducer

COULOMB_PER_MAH = 3.6
JOULE_PER_MWH = 3.6
_PER = (
    ("active_mass", 1e-3, "g", "per_mass", "gram of active material"),  # beamtime.yaml keeps mg
    ("area", 1.0, "cm^2", "per_area", "cm2 of electrode"),
)
_PAUSE, _STEP = 4, 16  # bits of the alignment's flags
_POINTS = 400  # of dV/dQ along the charge
_BINS = 4000  # of dQ/dV at most


class CyclesRecipe(Recipe):
    """Settings of the tables of electrochemistry."""

    reducer: str = "echem-cycles"
    complete_fraction: float = Field(
        default=0.05, ge=0, le=1, description="a cycle is complete if each direction holds at least this share (1) of the larger one's charge"
    )

    voltage_step: float = Field(default=5e-3, gt=0, description="width of the bins of differential capacity, V")
    voltage_smooth: float = Field(default=0.0, ge=0, description="1 sigma of a Gaussian that differential capacity is smoothed with, V")
    charge_share: float = Field(
        default=0.02, gt=0, le=1, description="stretch over which the slope of dV/dQ is taken, share (1) of the charge passed"
    )
    diffusion_length: float | None = Field(
        default=None, gt=0, description="length of diffusion in um: gives diffusion_coefficient from titration pulses"
    )


@reducer(
    "echem-cycles",
    technique="echem",
    kind="series",
    products=("cycles", "steps", "differential", "observables"),
    recipe=CyclesRecipe,
    version="6",
    about=("active_mass", "area"),
    needs_alignment=True,
    default=True,
)
def cycles(frames: xr.Dataset, recipe: CyclesRecipe, state: Any = None) -> Products:
    """Tabulate cycles and steps, and differentiate each half cycle.

    Parameters
    ----------
    frames
        Electrochemical records with their alignment as coordinates: `voltage` (V), `charge` (C, continuous), `cycle`.
        `attrs["about"]` (JSON) may hold `active_mass` (mg) and `area` (cm^2), which add capacities per gram and per cm2.

    Returns
    -------
    Products
        `cycles`: Dataset over `time` (middle of each cycle; `exposure` its duration in s) with `cycle`, `capacity_charge`,
        `capacity_discharge` (mAh), `energy_charge`, `energy_discharge` (mWh), `coulombic_efficiency` (1: charge that flowed in the second
        direction over that in the first, so discharge over charge in a full cell and its inverse in a half cell of an anode),
        `energy_efficiency` (1: discharge over charge), `first_direction` (+1 charge first, -1 discharge first), `mean_voltage_charge`,
        `mean_voltage_discharge` (V, energy over charge), `voltage_min`, `voltage_max` (V), `records`, `complete` (bool: charged and discharged; the
        last cycle only once half of its larger capacity came back). Efficiencies of cycles that are not complete are NaN.
        `voltage_hysteresis` (V: mean voltage of charge less that of discharge), `capacity_retention` (1: discharge capacity over that of the first
        complete cycle), `slippage_charge`, `slippage_discharge` (mAh: how far the end points of charge and discharge have moved along the net
        charge since the first complete cycle). Capacities and energies per gram and per cm2 where mass and area are known.
        `attrs["first_cycle_efficiency"]`: coulombic efficiency of the first complete cycle.
        `steps`: one row per stretch between current steps, see `operando.reduction.echem_steps`: set current, voltages, charge, `step_resistance`
        (ohm) with its time after the edge, overpotential and relaxation of rests, titration pulses.
        `observables`: per record, what passed since its half cycle began: `half_cycle_capacity` (mAh), `half_cycle_energy` (mWh); per gram and
        per cm2 where mass and area are known.
        `differential`: one row per half cycle: `differential_capacity` (mAh/V over `voltage_bin`, V) and `differential_voltage` (V/mAh over
        `capacity`, mAh since its begin), see `operando.reduction.differential`. `attrs["half_cycles_derived"]`: 1 if the instrument numbered none.

    Raises
    ------
    ContractError
        The records carry no timeline.
    """
    missing = [name for name in ("voltage", "charge", "cycle") if name not in frames.variables]
    if missing:
        raise ContractError(
            f"the records carry no {', '.join(missing)}", hint="align the electrochemistry first: op.align(echem, echem), or operando build"
        )
    given = frames
    if "sequence" in frames.variables:  # files took turns: what accumulates is counted in the order of measurement
        frames = frames.isel(time=np.argsort(frames["sequence"].values, kind="stable")).drop_vars("segment", errors="ignore")
    time = frames["time"].values.astype("datetime64[ns]").astype(np.int64)
    voltage, charge = (np.asarray(frames[name].values, float) for name in ("voltage", "charge"))
    cycle = np.asarray(frames["cycle"].values, np.int64)
    segment = np.asarray(frames["segment"].values) if "segment" in frames.coords else np.zeros(time.size, int)

    # an interval belongs to the cycle of the record it ends at; none crosses a restart of the clock
    flow = np.diff(charge, prepend=charge[:1])
    flow[np.flatnonzero(np.diff(segment, prepend=segment[:1]) != 0)] = 0.0
    flow = np.nan_to_num(flow)
    between = np.concatenate([voltage[:1], (voltage[1:] + voltage[:-1]) / 2])
    energy = np.nan_to_num(flow * between)

    numbers, row = np.unique(cycle, return_inverse=True)
    n = numbers.size

    def total(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.bincount(row[where], weights=values[where], minlength=n)

    up, down = flow > 0, flow < 0
    q_charge, q_discharge = total(flow, up), total(-flow, down)
    e_charge, e_discharge = total(energy, up), total(-energy, down)  # negative where the voltage is: a symmetric cell gives none back
    first = np.full(n, np.iinfo(np.int64).max)
    last = np.full(n, np.iinfo(np.int64).min)
    np.minimum.at(first, row, time)
    np.maximum.at(last, row, time)
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    good = np.isfinite(voltage)
    np.minimum.at(low, row[good], voltage[good])
    np.maximum.at(high, row[good], voltage[good])
    low[~np.isfinite(low)] = np.nan
    high[~np.isfinite(high)] = np.nan
    larger = np.maximum(q_charge, q_discharge)
    needed = np.full(n, recipe.complete_fraction)
    needed[np.argmax(last)] = max(recipe.complete_fraction, 0.5)  # it may still be running
    complete = (np.minimum(q_charge, q_discharge) >= needed * larger) & (larger > 0)
    since = (time - first[row]) * 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        earlier = np.sign(total(-flow * since, down) / q_discharge - total(flow * since, up) / q_charge)
        direction = np.where(complete, earlier, np.sign(q_charge - q_discharge)).astype(np.int8)
        coulombic = np.where(direction > 0, q_discharge / q_charge, q_charge / q_discharge)
        ratios = {
            "coulombic_efficiency": (np.where(complete, coulombic, np.nan), "1", "coulombic efficiency (second direction over first)"),
            "energy_efficiency": (np.where(complete, e_discharge / e_charge, np.nan), "1", "energy efficiency (discharge over charge)"),
            "mean_voltage_charge": (np.where(q_charge > 0, e_charge / q_charge, np.nan), "V", "mean cell voltage on charge"),
            "mean_voltage_discharge": (np.where(q_discharge > 0, e_discharge / q_discharge, np.nan), "V", "mean cell voltage on discharge"),
        }
    table: dict[str, tuple[np.ndarray, str, str]] = {
        "capacity_charge": (q_charge / COULOMB_PER_MAH, "mA*h", "capacity on charge"),
        "capacity_discharge": (q_discharge / COULOMB_PER_MAH, "mA*h", "capacity on discharge"),
        "energy_charge": (e_charge / JOULE_PER_MWH, "mW*h", "energy on charge"),
        "energy_discharge": (e_discharge / JOULE_PER_MWH, "mW*h", "energy on discharge"),
        **ratios,
        "voltage_hysteresis": (
            ratios["mean_voltage_charge"][0] - ratios["mean_voltage_discharge"][0],
            "V",
            "mean cell voltage of charge less that of discharge",
        ),
        "voltage_min": (low, "V", "lowest cell voltage"),
        "voltage_max": (high, "V", "highest cell voltage"),
        **_over_cycles(charge, row, first, complete, direction, q_discharge),
    }
    about = json.loads(frames.attrs.get("about") or "{}")
    for key, scale, unit, suffix, words in _PER:
        if about.get(key) is not None:
            size = float(about[key]) * scale
            for name in ("capacity_charge", "capacity_discharge", "energy_charge", "energy_discharge"):
                table[f"{name}_{suffix}"] = (table[name][0] / size, f"{table[name][1]}/{unit}", f"{table[name][2]} per {words}")

    middle = (first + (last - first) // 2).astype("datetime64[ns]")
    out = xr.Dataset(
        {
            **{name: ("time", values, {"units": units, "long_name": text, "sampling": "sample"}) for name, (values, units, text) in table.items()},
            "first_direction": ("time", direction, {"units": "1", "long_name": "+1 charged first, -1 discharged first"}),
            "records": ("time", np.bincount(row, minlength=n), {"units": "1", "long_name": "records in the cycle"}),
            "complete": ("time", complete, {"units": "1", "long_name": "charged and discharged"}),
        },
        coords={
            "time": middle,
            "cycle": ("time", numbers, {"units": "1", "long_name": "cycle"}),
            "exposure": ("time", (last - first) * 1e-9, {"units": "s", "long_name": "duration of the cycle"}),
        },
        attrs={"technique": "echem", "product": "cycles"},
    ).isel(time=np.argsort(first, kind="stable"))
    whole = np.flatnonzero(out["complete"].values)
    if whole.size and not out["capacity_retention"].isel(time=whole[0]).isnull():
        out.attrs["first_cycle_efficiency"] = float(out["coulombic_efficiency"].values[whole[0]])
    return Products(
        {"cycles": out, "steps": _steps(frames, recipe), "differential": _differential(frames, recipe), "observables": _records(given, frames, about)}
    )


def _records(given: xr.Dataset, frames: xr.Dataset, about: dict[str, Any]) -> xr.Dataset:
    """Capacity and energy that passed since the half cycle of each record began, in the order the records were given."""
    voltage, charge = (np.asarray(frames[name].values, float) for name in ("voltage", "charge"))
    number = np.asarray(frames["half_cycle"].values) if "half_cycle" in frames.variables else np.zeros(voltage.size, int)
    flow = np.nan_to_num(np.diff(charge, prepend=charge[:1]))
    between = np.concatenate([voltage[:1], (voltage[1:] + voltage[:-1]) / 2])
    begins = np.concatenate([[True], np.diff(number) != 0])
    row = np.cumsum(begins) - 1

    def since(amount: np.ndarray) -> np.ndarray:
        total = np.cumsum(amount)
        before = (total - amount)[begins]  # the interval up to the first record of a half cycle is its own
        return np.abs(total - before[row])

    capacity, energy = since(flow) / COULOMB_PER_MAH, since(np.nan_to_num(flow * between)) / JOULE_PER_MWH
    capacity, energy = (np.where(np.isfinite(charge), x, np.nan) for x in (capacity, energy))
    table = {
        "half_cycle_capacity": (capacity, "mA*h", "capacity since the half cycle began"),
        "half_cycle_energy": (energy, "mW*h", "energy since the half cycle began"),
    }
    for key, scale, unit, suffix, words in _PER:
        if about.get(key) is not None:
            for name in ("half_cycle_capacity", "half_cycle_energy"):
                values, own, text = table[name]
                table[f"{name}_{suffix}"] = (values / (float(about[key]) * scale), f"{own}/{unit}", f"{text}, per {words}")
    back = np.empty(voltage.size, np.intp)
    back[np.argsort(given["sequence"].values, kind="stable") if "sequence" in given.variables else np.arange(voltage.size)] = np.arange(voltage.size)
    return xr.Dataset(
        {name: ("time", values[back], {"units": unit, "long_name": text, "sampling": "continuous"}) for name, (values, unit, text) in table.items()},
        coords={"time": given["time"].variable},
        attrs={"technique": "echem", "product": "observables"},
    )


def _over_cycles(
    charge: np.ndarray, row: np.ndarray, first: np.ndarray, complete: np.ndarray, direction: np.ndarray, discharge: np.ndarray
) -> dict[str, tuple[np.ndarray, str, str]]:
    """Retention, and how far the end points of charge and discharge have moved along the net charge, since the first complete cycle."""
    n = first.size
    top, bottom = np.full(n, -np.inf), np.full(n, np.inf)
    known = np.isfinite(charge)
    np.maximum.at(top, row[known], charge[known])
    # the end of the second direction, which is the last record of a complete cycle that is charged first, else the lowest
    np.minimum.at(bottom, row[known], charge[known])
    ends = np.full(n, np.nan)
    ends[row[known]] = charge[known]  # the last one wins
    low = np.where(direction > 0, ends, bottom)
    high = np.where(direction < 0, ends, top)
    order = np.argsort(first, kind="stable")
    whole = order[complete[order]]
    if whole.size:  # the first cycle of full size, not one of formation from half way
        usual = float(np.median(discharge[whole]))
        whole = whole[discharge[whole] >= 0.5 * usual]
    nothing = np.full(n, np.nan)
    if not whole.size:
        retention, up, down = nothing, nothing, nothing
    else:
        one = whole[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            retention = np.where(complete, discharge / discharge[one], np.nan)
        up, down = (np.where(complete, (x - x[one]) / COULOMB_PER_MAH, np.nan) for x in (high, low))
    return {
        "capacity_retention": (retention, "1", "discharge capacity over that of the first complete cycle"),
        "slippage_charge": (up, "mA*h", "end point of charge along the net charge, since the first complete cycle"),
        "slippage_discharge": (down, "mA*h", "end point of discharge along the net charge, since the first complete cycle"),
    }


def _steps(frames: xr.Dataset, recipe: CyclesRecipe) -> xr.Dataset:
    """Tabulate the stretches between current steps."""
    time = frames["time"].values.astype("datetime64[ns]").astype(np.int64)
    n = time.size
    voltage, charge = (np.asarray(frames[name].values, float) for name in ("voltage", "charge"))
    current = np.asarray(frames["current"].values, float) if "current" in frames.variables else np.full(n, np.nan)
    flags = np.asarray(frames["flags"].values).astype(int) if "flags" in frames.variables else np.zeros(n, int)
    back = np.concatenate([[False], np.diff(time) < 0])
    ending = "current" in frames.variables and frames["current"].attrs.get("interval") == "ending"
    control = np.asarray(frames["control_current"].values, float) if "control_current" in frames.variables else None
    flagged, apart = (flags & _STEP) != 0, ((flags & _PAUSE) != 0) | back
    seconds = (time - time.min()) * 1e-9
    length = recipe.diffusion_length * 1e-4 if recipe.diffusion_length is not None else None
    table = echem_steps.tabulate(seconds, voltage, current, charge, control, flagged, apart, ending=ending, length=length)
    rows = echem_steps.stretches(flagged | apart, n)
    duration = table["duration"][0]
    end = time[rows[:, 1] - 1]
    middle = (end - np.round(duration * 5e8).astype(np.int64)).astype("datetime64[ns]")
    labels = {name: np.asarray(frames[name].values)[rows[:, 1] - 1] for name in ("cycle", "half_cycle") if name in frames.variables}
    return xr.Dataset(
        {name: ("time", values, {"units": unit, "long_name": words, "sampling": "sample"}) for name, (values, unit, words) in table.items()},
        coords={
            "time": middle,
            "exposure": ("time", duration, {"units": "s", "long_name": "duration of the step"}),
            **{name: ("time", values, {"units": "1", "long_name": name.replace("_", " ")}) for name, values in labels.items()},
        },
        attrs={"technique": "echem", "product": "steps"},
    )


def _differential(frames: xr.Dataset, recipe: CyclesRecipe) -> xr.Dataset:
    """Differentiate each half cycle on grids that all share."""
    time = frames["time"].values.astype("datetime64[ns]").astype(np.int64)
    voltage, charge = (np.asarray(frames[name].values, float) for name in ("voltage", "charge"))
    number = np.asarray(frames["half_cycle"].values) if "half_cycle" in frames.variables else np.zeros(time.size, int)
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(number) != 0) + 1, [time.size]])
    known = voltage[np.isfinite(voltage)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, recipe.voltage_step)
    step = max(recipe.voltage_step, (high - low) / _BINS)
    edges = step * np.arange(np.floor(low / step), np.ceil(high / step) + 2)
    span = max((float(np.nanmax(np.abs(charge[a:b] - charge[a]), initial=0.0)) for a, b in zip(cuts[:-1], cuts[1:], strict=True)), default=0.0)
    grid = np.linspace(0.0, span if span > 0 else 1.0, _POINTS)
    per_volt, per_charge, passed = [], [], []
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        a = max(a - 1, 0)  # the interval up to its first record is its own
        amount = float(charge[b - 1] - charge[a])
        passed.append(amount)
        per_volt.append(capacity_per_volt(voltage[a:b], charge[a:b], edges, recipe.voltage_smooth))
        slope = volt_per_capacity(voltage[a:b], charge[a:b], grid, recipe.charge_share * abs(amount)) if np.isfinite(charge[a:b]).all() else None
        per_charge.append(np.full(grid.size, np.nan) if slope is None else slope)
    begins, ends = time[cuts[:-1]], time[cuts[1:] - 1]
    labels = {"half_cycle": number[cuts[:-1]]}
    if "cycle" in frames.variables:
        labels["cycle"] = np.asarray(frames["cycle"].values)[cuts[:-1]]
    attrs: dict[str, Any] = {"technique": "echem", "product": "differential"}
    if "half_cycle" in frames.variables:
        attrs["half_cycles_derived"] = int(frames["half_cycle"].attrs.get("derived", 0))
    return xr.Dataset(
        {
            "differential_capacity": (
                ("time", "voltage_bin"),
                np.array(per_volt) / COULOMB_PER_MAH,
                {"units": "mA*h/V", "long_name": "differential capacity, absolute", "sampling": "sample"},
            ),
            "differential_voltage": (
                ("time", "capacity"),
                np.array(per_charge) * COULOMB_PER_MAH,
                {"units": "V/(mA*h)", "long_name": "differential voltage along the charge that passed", "sampling": "sample"},
            ),
            "half_cycle_charge": (
                "time",
                np.array(passed) / COULOMB_PER_MAH,
                {"units": "mA*h", "long_name": "charge that passed", "sampling": "sample"},
            ),
        },
        coords={
            "time": (begins + (ends - begins) // 2).astype("datetime64[ns]"),
            "exposure": ("time", (ends - begins) * 1e-9, {"units": "s", "long_name": "duration of the half cycle"}),
            "voltage_bin": ("voltage_bin", (edges[1:] + edges[:-1]) / 2, {"units": "V", "long_name": "cell voltage"}),
            "capacity": ("capacity", grid / COULOMB_PER_MAH, {"units": "mA*h", "long_name": "charge since the begin of the half cycle"}),
            **{name: ("time", values, {"units": "1", "long_name": name.replace("_", " ")}) for name, values in labels.items()},
        },
        attrs=attrs,
    )
