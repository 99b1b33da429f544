"""The table of cycles against plain arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from operando.contract import ContractError, series
from operando.reduction import reduce
from operando.timeline import align, annotate, echem_timeline


def cycled(cycles: int = 2, fade: float = 0.9) -> xr.Dataset:
    """Charge at +1 A for 1000 s at 4 V, discharge at -1 A for 900 s at 3 V, again and again."""
    t, i, v, c = [0.0], [0.0], [3.5], [1]
    for k in range(cycles):
        for current, seconds, volts in ((1.0, 1000.0, 4.0), (-1.0, 1000.0 * fade, 3.0)):
            n = 50
            t += list(t[-1] + np.linspace(seconds / n, seconds, n))
            i += [current] * n
            v += [volts] * n
            c += [k + 1] * n
    return series(
        "echem",
        {
            "voltage": ("time", np.array(v), "V"),
            "current": ("time", np.array(i), "A", {"interval": "ending"}),
            "cycle": ("time", np.array(c), "1"),
        },
        source="a.mpt", start="2026-01-01T00:00:00Z", elapsed=np.array(t), time_origin="header",
        attrs={"loader": "t", "loader_version": "1", "options": "{}"},
    )  # fmt: skip


def test_capacities_energies_and_ratios() -> None:
    records = cycled()
    joined = annotate(records, echem_timeline(records))
    joined.attrs["about"] = json.dumps({"active_mass": 100.0, "area": 2.0})
    table = reduce(joined)["cycles"]
    assert table.sizes["time"] == 2
    np.testing.assert_allclose(table.capacity_charge.values, 1000 / 3.6, rtol=1e-9)
    np.testing.assert_allclose(table.capacity_discharge.values, 900 / 3.6, rtol=1e-9)
    np.testing.assert_allclose(table.coulombic_efficiency.values, 0.9, rtol=1e-9)
    np.testing.assert_allclose(table.capacity_discharge_per_mass.values, 900 / 3.6 / 0.1, rtol=1e-9)
    np.testing.assert_allclose(table.capacity_discharge_per_area.values, 900 / 3.6 / 2, rtol=1e-9)
    # the one interval between the two voltages is a trapezoid
    np.testing.assert_allclose(table.mean_voltage_discharge.values, 3.0 + 0.5 / 50, rtol=1e-6)
    np.testing.assert_allclose(table.voltage_max.values, 4.0)
    assert table.complete.values.all()
    assert table.capacity_charge.attrs["units"] == "mA*h"
    assert all("units" in v.attrs for v in table.data_vars.values())


def test_a_charge_without_a_discharge_is_not_complete_and_its_ratios_are_nan() -> None:
    records = cycled(1).isel(time=slice(0, 40))
    table = reduce(annotate(records, echem_timeline(records)))["cycles"]
    assert not table.complete.values.any()
    assert np.isnan(table.coulombic_efficiency.values).all(), "a cycle that still runs has no efficiency"
    assert np.isnan(table.mean_voltage_discharge.values).all()


def test_a_cell_below_zero_volts_keeps_its_sign() -> None:
    records = cycled()
    records["voltage"] = records.voltage.where(records.current >= 0, -0.05)  # a symmetric cell: work is done on it both ways
    table = reduce(annotate(records, echem_timeline(records)))["cycles"]
    later = table.isel(time=1)
    assert float(later.mean_voltage_discharge) == pytest.approx((49 * -0.05 + (4.0 - 0.05) / 2) / 50)
    assert float(later.energy_discharge) == pytest.approx(float(later.mean_voltage_discharge * later.capacity_discharge))


def test_records_without_a_timeline_are_refused() -> None:
    with pytest.raises(ContractError, match="align"):
        reduce(cycled().drop_vars("cycle"))


def test_a_series_of_another_technique_is_refused() -> None:
    with pytest.raises(ContractError, match="reduces echem"):
        reduce(cycled().assign_attrs(technique="xas"), {"reducer": "echem-cycles"})


def test_align_by_hand_gives_what_the_table_needs() -> None:
    records = cycled()
    assert {"charge", "soc", "cycle"} <= set(map(str, align(records, records).variables))


def test_the_efficiency_of_an_anode_half_cell_is_charge_over_discharge() -> None:
    """Graphite against lithium is discharged first; what comes back on charge is what counts."""
    records = cycled(3)
    mirrored = records.assign(current=records.current * -1, voltage=records.voltage * 0 + 0.1).assign_attrs(records.attrs)
    mirrored.current.attrs = dict(records.current.attrs)
    mirrored.voltage.attrs = dict(records.voltage.attrs)
    table = reduce(annotate(mirrored, echem_timeline(mirrored)))["cycles"]
    assert (table.first_direction.values == -1).all()
    np.testing.assert_allclose(table.coulombic_efficiency.values, 0.9, rtol=1e-9)


def test_a_last_cycle_counts_once_half_came_back() -> None:
    for rows, whole in ((1 + 50 + 10, False), (1 + 50 + 40, True)):
        records = cycled(1).isel(time=slice(0, rows))
        table = reduce(annotate(records, echem_timeline(records)))["cycles"]
        assert bool(table.complete[0]) is whole
        assert bool(np.isfinite(table.coulombic_efficiency.values[0])) is whole


def test_files_that_take_turns_are_counted_in_the_order_of_measurement() -> None:
    whole = cycled()
    alone = reduce(annotate(whole, echem_timeline(whole)))["cycles"]
    turn = (np.arange(whole.sizes["time"]) // 40) % 2 == 1
    one, other = whole.isel(time=np.flatnonzero(~turn)), whole.isel(time=np.flatnonzero(turn))
    joined = xr.concat(
        [
            one.assign_coords(source=("time", np.full(one.sizes["time"], "a.mpt", object))),
            other.assign_coords(source=("time", np.full(other.sizes["time"], "b.mpt", object))),
        ],
        dim="time",
        combine_attrs="override",
    )
    joined = joined.assign_coords(segment=("time", np.repeat([0, 1], [one.sizes["time"], other.sizes["time"]]).astype(np.int32), {"units": "1"}))
    annotated = annotate(joined, echem_timeline(joined))
    assert "sequence" in annotated.coords
    table = reduce(annotated)["cycles"]
    for name in ("capacity_charge", "capacity_discharge", "coulombic_efficiency"):
        np.testing.assert_allclose(table[name].values, alone[name].values, rtol=1e-6)
    records = reduce(annotated)["observables"]
    by_time = reduce(annotate(whole, echem_timeline(whole)))["observables"]
    order = np.argsort(records["time"].values, kind="stable")
    np.testing.assert_allclose(records["half_cycle_capacity"].values[order], by_time["half_cycle_capacity"].values, rtol=1e-6, atol=1e-9)


def test_each_record_knows_what_passed_since_its_half_cycle_began() -> None:
    joined = annotate(cycled(), echem_timeline(cycled()))
    joined.attrs["about"] = json.dumps({"active_mass": 100.0})
    found = reduce(joined)["observables"]
    assert found.sizes["time"] == joined.sizes["time"]
    half = joined["half_cycle"].values
    for number in np.unique(half):
        mine = found["half_cycle_capacity"].values[half == number]
        assert (np.diff(mine) > 0).all()
    ends = [found["half_cycle_capacity"].values[half == number][-1] for number in np.unique(half)]
    np.testing.assert_allclose(ends, [1000 / 3.6, 900 / 3.6] * 2, rtol=1e-9)
    np.testing.assert_allclose(found["half_cycle_capacity_per_mass"].values, found["half_cycle_capacity"].values / 0.1)
    assert found["half_cycle_energy_per_mass"].attrs["units"] == "mW*h/g"
    charged = found["half_cycle_energy"].values[half == 0][-1]
    assert charged == pytest.approx((4.0 * 980 + 3.75 * 20) / 3.6, rel=1e-6)
