"""The contract: series(), its rules, canonical names and units."""

from __future__ import annotations

import datetime as dt
import pickle

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from operando.contract import (
    RULES,
    ContractError,
    LoaderError,
    as_stamps,
    canonical,
    convert,
    faults,
    quantity,
    same_units,
    series,
    split_quantity,
    validate,
)

ATTRS = {"loader": "test", "loader_version": "1", "options": "{}"}


def spectra(n: int = 4, **more: object) -> xr.Dataset:
    energy = np.linspace(8300.0, 8400.0, 11)
    mu = np.arange(n * 11, dtype=float).reshape(n, 11)
    settings = {
        "start": "2026-06-03T10:00:00+02:00",
        "elapsed": np.arange(n) * 60.0,
        "exposure": 30.0,
        "time_origin": "header",
        "attrs": ATTRS,
        **more,
    }
    return series("xas", {"mu": (("time", "energy"), mu, "1")}, source="scan.txt", coords={"energy": ("energy", energy, "eV")}, **settings)


def test_a_frame_is_an_interval_and_time_its_middle() -> None:
    ds = spectra()
    assert ds.time.values[0] == np.datetime64("2026-06-03T08:00:15", "ns")
    assert faults(ds) == []


def test_wall_clock_times_stay_as_written_until_a_zone_is_known() -> None:
    ds = spectra(start="2026-06-03T10:00:00")
    assert ds.time.values[0] == np.datetime64("2026-06-03T10:00:15", "ns")
    assert ds.attrs["timezone_source"] == "none"
    assert ds.stamp.values == np.datetime64("2026-06-03T10:00:00", "ns")
    assert faults(ds, as_written=True) == []
    assert any("without a zone" in fault for fault in faults(ds))


def test_no_absolute_time_counts_from_1970() -> None:
    ds = spectra(start=None)
    assert ds.attrs["time_origin"] == "counter"
    assert ds.time.values[1] == np.datetime64(75, "s")


def test_all_faults_are_in_one_message() -> None:
    ds = spectra()
    ds = ds.assign_coords(energy=("energy", ds.energy.values[::-1] * 0 + 1.0, {"units": "nm"}), quality=("time", np.full(4, 1 << 20)))
    backwards(ds)
    ds.attrs.pop("loader")
    with pytest.raises(ContractError) as caught:
        validate(ds, file="scan.txt")
    text = str(caught.value)
    for words in (
        "'time' goes backwards at frame 2 inside segment 0",
        "'energy' has units nm, not eV",
        "'loader' is missing",
        "unknown bits",
        "monotonic",
    ):
        assert words in text


def backwards(ds: xr.Dataset) -> None:
    time = ds.time.values.copy()
    time[2] = time[0]
    ds.coords["time"] = time


BREAK = {
    "technique_is_known": lambda ds: ds.attrs.update(technique="xrf"),
    "attributes_are_complete": lambda ds: ds.attrs.update(time_origin="guess", time_uncertainty_s=-1.0, options="{"),
    "time_is_an_index": lambda ds: ds.__setitem__("time", ("time", np.arange(4.0))),
    "frames_carry_their_coordinates": lambda ds: ds.__delitem__("exposure"),
    "time_never_goes_back_within_a_segment": lambda ds: backwards(ds),
    "quality_bits_are_known": lambda ds: ds["quality"].attrs.clear(),
    "signal_is_present": lambda ds: ds.__delitem__("mu"),
    "axis_is_monotonic": lambda ds: ds.coords.__setitem__("energy", ("energy", [1.0] * 11, {"units": "eV"})),
    "units_are_canonical": lambda ds: ds["mu"].attrs.clear(),
    "errors_are_linked": lambda ds: ds.__setitem__("mu_errors", (("time",), np.ones(4), {"units": "1"})),
    "times_are_utc": lambda ds: ds.attrs.update(timezone_source="none"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_finds_its_fault_and_passes_a_good_series(rule: str) -> None:
    good = spectra() if rule != "sensors_declare_their_sampling" else spectra()
    assert list(RULES[rule](good)) == []
    bad = spectra()
    if rule == "sensors_declare_their_sampling":
        bad.attrs["technique"] = "sensor"
    else:
        BREAK[rule](bad)
    assert list(RULES[rule](bad)), rule


def test_the_check_computes_no_signal() -> None:
    class Untouchable(np.ndarray):
        def __array_ufunc__(self, *args: object, **kwargs: object) -> None:
            raise AssertionError("computed")

    ds = spectra()
    ds["mu"] = (("time", "energy"), ds.mu.values.view(Untouchable), {"units": "1"})
    assert faults(ds) == []


def test_canonical_converts_units_and_names() -> None:
    ds = spectra()
    ds = ds.assign_coords(energy=("energy", ds.energy.values / 1e3, {"units": "keV"})).rename(mu="xmu")
    out = canonical(ds)
    assert out.energy.attrs["units"] == "eV"
    np.testing.assert_allclose(out.energy.values, np.linspace(8300, 8400, 11), rtol=1e-12)
    assert "mu" in out
    assert ds.energy.attrs["units"] == "keV", "the given series is not changed"


@pytest.mark.parametrize(
    ("value", "units", "to", "expected"),
    [
        (1.0, "mA.h", "C", 3.6),
        (1.0, "1/nm", "1/angstrom", 0.1),
        (1.0, "Å^-1", "1/angstrom", 1.0),
        (2.0, "Ohm", "ohm", 2.0),
        (1.0, "µA", "A", 1e-6),
        (25.0, "degC", "K", 298.15),
        (1.0, "cm²", "mm^2", 100.0),
    ],
)
def test_units(value: float, units: str, to: str, expected: float) -> None:
    assert convert(value, units, to) == pytest.approx(expected, rel=1e-12)


def test_units_that_measure_something_else_are_refused() -> None:
    with pytest.raises(ContractError, match="convert"):
        convert(1.0, "V", "A")
    with pytest.raises(ContractError):
        convert(1.0, "furlongs per ]", "A")
    assert not same_units("V", "mV")
    assert same_units("1/angstrom", "Å-1")


@pytest.mark.parametrize(
    ("text", "to", "expected"), [("-37 s", "s", -37.0), ("12 ppm", "1", 12e-6), ("6.84 mg", "g", 6.84e-3), ("1.5 mAh", "C", 5.4)]
)
def test_quantities(text: str, to: str, expected: float) -> None:
    assert quantity(text, to) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("text", ["37", "abc s", "5 V", "", "1 2 s"])
def test_quantities_without_number_or_unit_are_refused(text: str) -> None:
    with pytest.raises(ContractError):
        quantity(text, "s")


@given(st.datetimes(min_value=dt.datetime(1990, 1, 1), max_value=dt.datetime(2090, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_stamps_with_an_offset_become_utc(naive: dt.datetime, minutes: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=minutes))
    stamp, utc = as_stamps(naive.replace(tzinfo=zone).isoformat())
    assert utc
    assert stamp == np.datetime64(naive, "ns") - np.timedelta64(minutes, "m")


def test_mixed_stamps_are_refused() -> None:
    with pytest.raises(ContractError, match="some stamps"):
        as_stamps(["2026-01-01T00:00:00", "2026-01-01T00:00:00Z"])


def test_errors_survive_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(LoaderError("bad", file="a.txt", found=1, expected=2, hint="mend it")))
    assert isinstance(error, LoaderError)
    assert str(error) == "a.txt: bad\n  found:    1\n  expected: 2\n  to do:    mend it"


def test_series_refuses_what_does_not_fit() -> None:
    with pytest.raises(ContractError, match="lengths"):
        spectra(elapsed=np.arange(3.0))
    with pytest.raises(ContractError, match="unknown technique"):
        series("xrf", {"i": ("time", [1.0], "1")}, source="a")
    with pytest.raises(ContractError, match="where the time comes from"):
        spectra(time_origin=None)
    with pytest.raises(ContractError, match="finite"):
        spectra(elapsed=np.array([0, 1, np.nan, 3]))


@pytest.mark.parametrize(
    "stamp", ["2300-01-01T00:00:00", "1600-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-10:00", "2261-12-31T23:00:00-10:00"]
)
def test_a_stamp_beyond_nanoseconds_is_refused_and_not_another_date(stamp: str) -> None:
    for form in (stamp, dt.datetime.fromisoformat(stamp)):
        with pytest.raises(ContractError, match="1678 to 2261"):
            as_stamps(form)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("6.84 mg", (6.84, "mg")),
        ("1.54 cm²", (1.54, "cm^2")),
        ("3.1mAh/cm^2", (3.1, "mAh/cm^2")),
        ("-20 °C", (-20.0, "degC")),
        ("1e-3 mol/L", (1e-3, "mol/L")),
        ("2 days", (2.0, "d")),
        ("12 hours", (12.0, "h")),
        ("1 M LiPF6 EC:EMC", None),
        ("2032", None),
        ("2026-06-03", None),
        ("12:30", None),
        ("3 electrodes", None),
        ("5 a.u.", None),
        ("NMC811|graphite", None),
        ("1e999 mg", None),
        ("", None),
        ("2 ((", None),
    ],
)
def test_text_is_a_quantity_only_with_a_number_and_a_unit(text: str, found: tuple[float, str] | None) -> None:
    assert split_quantity(text) == found
