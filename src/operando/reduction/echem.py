"""Electrochemistry: the table of cycles.

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
from operando.reduction.interface import Products, reducer

COULOMB_PER_MAH = 3.6
JOULE_PER_MWH = 3.6


class CyclesRecipe(Recipe):
    """Settings of the table of cycles."""

    reducer: str = "echem-cycles"
    complete_fraction: float = Field(
        default=0.05, ge=0, le=1, description="a cycle is complete if each direction holds at least this share (1) of the larger one's charge"
    )


@reducer(
    "echem-cycles",
    technique="echem",
    kind="series",
    products=("cycles",),
    recipe=CyclesRecipe,
    version="4",
    about=("active_mass", "area"),
    needs_alignment=True,
    default=True,
)
def cycles(frames: xr.Dataset, recipe: CyclesRecipe, state: Any = None) -> Products:
    """Tabulate capacity, energy, efficiency and mean voltage of each cycle.

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

    Raises
    ------
    ContractError
        The records carry no timeline.
    """
    missing = [name for name in ("voltage", "charge", "cycle") if name not in frames.variables]
    if missing:
        raise ContractError(f"the records carry no {', '.join(missing)}", hint="align the electrochemistry first (op.align, or operando build)")
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
        "voltage_min": (low, "V", "lowest cell voltage"),
        "voltage_max": (high, "V", "highest cell voltage"),
    }
    about = json.loads(frames.attrs.get("about") or "{}")
    for key, scale, unit, suffix, words in (
        ("active_mass", 1e-3, "g", "per_mass", "gram of active material"),  # beamtime.yaml keeps mg
        ("area", 1.0, "cm^2", "per_area", "cm2 of electrode"),
    ):
        if about.get(key) is not None:
            size = float(about[key]) * scale
            for name in ("capacity_charge", "capacity_discharge"):
                table[f"{name}_{suffix}"] = (table[name][0] / size, f"mA*h/{unit}", f"{table[name][2]} per {words}")

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
    )
    return Products({"cycles": out.isel(time=np.argsort(first, kind="stable"))})
