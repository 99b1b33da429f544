"""Battery Data Format (BDF): csv or parquet tables of a cycler with labels that carry their unit.

**Labels.** One header line of machine-readable names (`voltage_volt`, `current_ampere`, `test_time_second`) or of preferred
labels (`Voltage / V`, `Current / A`, `Test Time / s`) of the BDF ontology, 1.3
(https://w3id.org/battery-data-alliance/ontology/battery-data-format), read through the table `LABELS` below; deprecated names
(`test_time_millisecond`, `date_time_millisecond`, `cycle_dimensionless`, `step_index`) are read too. Other columns survive under their own name.

**Time.** `unix_time_second` is an instant on UTC (so says the ontology); `date_time_millisecond` and `unix_time_millisecond` are
the same in ms. Where one of them exists it is the time, because what `test_time_second` does in a pause is up to the
instrument; test time is then kept as `test_time` and only orders records within stamps of a whole second. With test time alone the file
has no absolute time: a counter, and `start:` must be configured. A backward step begins a new `segment` (some converters wrote step times
as test times); nothing is sorted. A published file spans 16.8 years because hours became seconds twice (a 30 s cadence reads
108 000 s): a span above five years is said in `time_doubt`, and `test_time_factor` mends it; nothing is rescaled unasked.

**Sign and charge.** Positive current charges, by definition; a file whose capacity counters say the opposite is mended
and says so in `current_sign`. `charge` is `net_capacity_ah` if there, else the counters, added up: by definition they never reset,
but converters copied counters that do. `step_index` is read as the step number it holds in real files; where it counts the
records of a step (another meaning it had) it is called step_record_index. A `cycle_count` in radians (a converter multiplied turns by 2 pi)
is divided back.

**Files.** `.csv`, `.csv.gz`, `.parquet`; parquet needs pyarrow: `pip install "operando[parquet]"`. The labels do not say what
interval a record's current speaks for: option `interval`, an instant by default.

**Output.** echem: voltage V, current A, charge C, cycle, step, step_count, step_type, test_time, step_time, and the
counters as written (`charge_capacity`, `discharge_capacity` in A*h ...), temperature degC.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from operando.contract import UNITS, LoaderError, series
from operando.loaders.columns import HEAD_BYTES, read_table, snake_case, sniff, split_label, table_text
from operando.loaders.cycler import UNIFORM, echem, refined, segments
from operando.loaders.stamps import read_stamps

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TECHNIQUES = ("echem",)
VERSION = "3"


@dataclass(frozen=True)
class Label:
    """One quantity of the Battery Data Format and what it is called here.

    Attributes
    ----------
    notation
        Machine-readable name, unit included.
    preferred
        Preferred label.
    name, units
        Our variable and the unit BDF has it in.
    factor
        Ours = BDF's x factor, where our canonical unit is another (Ah -> C).
    """

    notation: str
    preferred: str
    name: str
    units: str
    factor: float = 1.0


_CHARGE = 3600.0
_YEAR = 365.25 * 86400
_TABLE = """
voltage_volt | Voltage / V | voltage | V
current_ampere | Current / A | current | A
unix_time_second | Unix Time / s | time | s
test_time_second | Test Time / s | test_time | s
step_time_second | Step Time / s | step_time | s
cycle_count | Cycle Count / 1 | cycle | 1
step_count | Step Count / 1 | step_count | 1
step_id | Step ID | step | 1
step_type | Step Type | step_type | 1
step_record_index | Step Record Index / 1 | step_record_index | 1
record_index | Record Index / 1 | record_index | 1
net_capacity_ah | Net Capacity / Ah | charge | C
charging_capacity_ah | Charging Capacity / Ah | charge_capacity | A*h
discharging_capacity_ah | Discharging Capacity / Ah | discharge_capacity | A*h
cumulative_capacity_ah | Cumulative Capacity / Ah | cumulative_capacity | A*h
net_energy_wh | Net Energy / Wh | net_energy | W*h
charging_energy_wh | Charging Energy / Wh | charge_energy | W*h
discharging_energy_wh | Discharging Energy / Wh | discharge_energy | W*h
cumulative_energy_wh | Cumulative Energy / Wh | cumulative_energy | W*h
step_net_capacity_ah | Step Net Capacity / Ah | step_net_capacity | A*h
step_charging_capacity_ah | Step Charging Capacity / Ah | step_charge_capacity | A*h
step_discharging_capacity_ah | Step Discharging Capacity / Ah | step_discharge_capacity | A*h
step_cumulative_capacity_ah | Step Cumulative Capacity / Ah | step_cumulative_capacity | A*h
step_net_energy_wh | Step Net Energy / Wh | step_net_energy | W*h
step_charging_energy_wh | Step Charging Energy / Wh | step_charge_energy | W*h
step_discharging_energy_wh | Step Discharging Energy / Wh | step_discharge_energy | W*h
cycle_net_capacity_ah | Cycle Net Capacity / Ah | cycle_net_capacity | A*h
cycle_charging_capacity_ah | Cycle Charging Capacity / Ah | cycle_charge_capacity | A*h
cycle_discharging_capacity_ah | Cycle Discharging Capacity / Ah | cycle_discharge_capacity | A*h
schedule_charging_capacity_ah | Schedule Charging Capacity / Ah | schedule_charge_capacity | A*h
schedule_discharging_capacity_ah | Schedule Discharging Capacity / Ah | schedule_discharge_capacity | A*h
power_watt | Power / W | power | W
ambient_temperature_celsius | Ambient Temperature / degC | temperature | degC
surface_temperature_celsius | Surface Temperature / degC | surface_temperature | degC
temperature_t1_celsius | Temperature T1 / degC | temperature_t1 | degC
temperature_t2_celsius | Temperature T2 / degC | temperature_t2 | degC
temperature_t3_celsius | Temperature T3 / degC | temperature_t3 | degC
temperature_t4_celsius | Temperature T4 / degC | temperature_t4 | degC
temperature_t5_celsius | Temperature T5 / degC | temperature_t5 | degC
ambient_pressure_pa | Ambient Pressure / Pa | ambient_pressure | Pa
applied_pressure_pa | Applied Pressure / Pa | applied_pressure | Pa
surface_pressure_pa | Surface Pressure / Pa | surface_pressure | Pa
internal_resistance_ohm | Internal Resistance / ohm | internal_resistance | ohm
dc_internal_resistance_ohm | DC Internal Resistance / ohm | dc_internal_resistance | ohm
ac_internal_resistance_ohm | AC Internal Resistance / ohm | ac_internal_resistance | ohm
frequency_hertz | Frequency / Hz | frequency | Hz
real_impedance_ohm | Real Impedance / ohm | impedance_real | ohm
imaginary_impedance_ohm | Imaginary Impedance / ohm | impedance_imag | ohm
absolute_impedance_ohm | Absolute Impedance / ohm | impedance_modulus | ohm
phase_degree | Phase / deg | impedance_phase | deg
"""


def _label(line: str) -> Label:
    notation, preferred, name, units = (part.strip() for part in line.split("|"))
    return Label(notation, preferred, name, units, _CHARGE if units == "C" else 1.0)


LABELS: tuple[Label, ...] = tuple(_label(line) for line in _TABLE.strip().splitlines())
"""BDF labels <-> our names, BDF 1.3; the first of a name is the one to export."""

_OLD = {
    "test_time_millisecond": ("test_time", 1e-3),
    "test_time_ms": ("test_time", 1e-3),
    "test_time_s": ("test_time", 1.0),
    "unix_time_millisecond": ("time", 1e-3),
    "unix_time_ms": ("time", 1e-3),
    "unix_time_s": ("time", 1.0),
    "date_time_millisecond": ("time", 1e-3),
    "cycle_dimensionless": ("cycle", 1.0),
    "cycle_index": ("cycle", 1.0),
    "step_dimensionless": ("step", 1.0),
    "step_index": ("step_index", 1.0),
    "temperature_celsius": ("temperature", 1.0),
}
_NOTATIONS = {label.notation: (label.name, label.factor) for label in LABELS}
_PREFERRED = {snake_case(label.preferred): (label.name, label.factor) for label in LABELS}
_OLD_PREFERRED = {"test_time_ms": "test_time_millisecond", "unix_time_ms": "unix_time_millisecond", "step_index_1": "step_index"}
_OF_NAME = {label.name: label for label in reversed(LABELS)}
_TIMES = ("test_time_second", "test_time_millisecond", "unix_time_second", "unix_time_millisecond", "date_time_millisecond")


def _read_label(written: str) -> tuple[str, float] | None:
    """Give our name of a BDF label, machine-readable or preferred, and the factor to our unit."""
    text = written.strip()
    key = snake_case(text)
    if " / " in text or text in ("Step ID", "Step Type"):
        key = _OLD_PREFERRED.get(key, key)
        return _PREFERRED.get(key) or _OLD.get(key)
    return _NOTATIONS.get(text) or _NOTATIONS.get(text.lower()) or _OLD.get(text.lower())


def is_bdf(names: list[str]) -> bool:
    """Say whether a header is BDF: voltage and a time under their BDF labels, letter by letter."""
    written = {n.strip() for n in names}
    machine = "voltage_volt" in written and any(t in written for t in _TIMES)
    preferred = "Voltage / V" in written and bool(written & {"Test Time / s", "Unix Time / s", "Test Time / ms", "Unix Time / ms"})
    return machine or preferred


def load(path: str | os.PathLike[str], *, interval: str = "instant", test_time_factor: float = 1.0) -> xr.Dataset:
    """Read a Battery Data Format table, csv (gzip-compressed or not) or parquet.

    Parameters
    ----------
    interval
        What a record's current speaks for: `instant`, the interval `ending` or `starting` at it.
    test_time_factor
        What test time must be multiplied by to be seconds, where a converter was wrong (`0.000277778` for hours taken twice).

    Returns
    -------
    xarray.Dataset
        One echem series: on UTC if the file has unix time, else a counter.

    Raises
    ------
    LoaderError
        Not BDF, broken, or pyarrow missing for parquet.
    """
    names, frame, notes = _parquet(path) if _is_parquet(path) else _csv(path)
    if not is_bdf(names):
        raise LoaderError(
            "the header is not Battery Data Format",
            file=path,
            found=", ".join(names[:12]),
            expected="voltage_volt, current_ampere, test_time_second (or Voltage / V, Current / A, Test Time / s)",
            hint="read other tables with the loader csv",
        )
    attrs: dict[str, Any] = {"instrument": "Battery Data Format"}
    got: dict[str, np.ndarray] = {}
    more: dict[str, tuple[Any, ...]] = {}
    for i, written in enumerate(names):
        if not written or frame[i].isna().all():
            continue
        known = _read_label(written)
        if known is not None and known[0] not in got:
            name, factor = known
            if name == "step_type":
                got[name] = frame[i].fillna("").astype(str).to_numpy(dtype=object)
                continue
            values = _numbers(path, frame[i], written)
            got[name] = values if factor == 1.0 else values * factor
        elif frame[i].dtype.kind in "iuf":
            name, unit = split_label(written)
            clear = snake_case(name)
            more[clear if clear not in UNITS and clear not in ("time", "source") else f"{clear}_logged"] = ("time", frame[i].to_numpy(), unit or "1")
        else:
            notes.append(f"{written} is text and was left out")
    if "voltage" not in got:
        raise LoaderError("the voltage column is empty", file=path, found="voltage_volt without a number")
    n = len(frame)
    if not test_time_factor > 0:
        raise LoaderError("test_time_factor is not positive", file=path, found=test_time_factor)
    clock, start, elapsed, segment, sigma = got.pop("test_time", None), None, None, None, 0.0
    if clock is not None:
        clock = clock * float(test_time_factor)
    if (unix := got.pop("time", None)) is not None:
        read = read_stamps(_series(unix), path, name="unix time", form="epoch")
        start, segment = read.values, segments(read.values)
        sigma = read.resolution * UNIFORM
        elapsed = refined((read.values - read.values[0]) / np.timedelta64(1, "s"), clock, read.resolution, segment)
    elif clock is not None:
        if not np.isfinite(clock).all() or np.abs(clock).max() > 9e9:
            row = int(np.argmin(np.isfinite(clock) & (np.abs(clock) <= 9e9)))
            raise LoaderError(f"row {row + 1} has no test time", file=path, found=f"{clock[row]}", hint="a half-written file?")
        elapsed, segment = clock, segments(clock)
        if (years := float(np.ptp(clock)) / _YEAR) > 5:
            attrs["time_doubt"] = f"test time spans {years:.1f} years: did a converter multiply it by 60 or 3600? see test_time_factor"
    else:
        raise LoaderError("there is no column of time", file=path, found=", ".join(names[:12]), expected="unix_time_second or test_time_second")
    _cycles(got, attrs)
    counter = _steps(got)
    made = echem(
        got.pop("voltage"),
        got.pop("current", None),
        charge=got.pop("charge", None),
        charge_capacity=_coulomb(got.get("charge_capacity")),
        discharge_capacity=_coulomb(got.get("discharge_capacity")),
        capacity=_coulomb(got.get("step_net_capacity")),
        cycle=got.pop("cycle", None),
        step=got.pop("step", None),
        step_count=got.pop("step_count", None),
        step_time=got.pop("step_time", None),
        states=got.pop("step_type", None),
        seconds=clock if unix is None else (read.values - read.values[0]) / np.timedelta64(1, "s"),
        interval=interval,
    )
    attrs.update(made.notes)
    out = made.variables
    if unix is not None and clock is not None:
        out["test_time"] = ("time", clock, "s", {"long_name": "test clock of the instrument"})
    if counter is not None:
        out["step_record_index"] = ("time", counter, "1")
    for name, values in got.items():
        if name == "record_index" and n > 1 and (np.diff(values) == 1).all():
            continue
        out.setdefault(name, ("time", values, _OF_NAME[name].units if name in _OF_NAME else "1"))
    for name, spec in more.items():
        out.setdefault(name, spec)
    if notes:
        attrs["notes"] = "; ".join(notes[:10])
    return series(
        "echem",
        out,
        source=path,
        start=start,
        elapsed=elapsed,
        utc=True if start is not None else None,
        time_origin="header",
        time_uncertainty=sigma,
        segment=segment,
        quality=made.quality,
        attrs=attrs,
    )


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether a file is Battery Data Format, by its labels."""
    try:
        if _is_parquet(path):
            with Path(path).open("rb") as f:
                f.seek(max(0, Path(path).stat().st_size - HEAD_BYTES))
                tail = f.read()
            machine = b"voltage_volt" in tail and any(t.encode() in tail for t in _TIMES)
            return "Battery Data Format, parquet" if machine or (b"Voltage / V" in tail and b"Time / " in tail) else None
        return "Battery Data Format, csv" if is_bdf(sniff(table_text(path, limit=HEAD_BYTES), path).names) else None
    except (LoaderError, OSError):
        return None


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    try:
        with Path(path).open("rb") as f:
            return f.read(4) == b"PAR1"
    except OSError:
        return False


def _csv(path: str | os.PathLike[str]) -> tuple[list[str], pd.DataFrame, list[str]]:
    table = read_table(path)
    return table.layout.names, table.frame, table.notes


def _parquet(path: str | os.PathLike[str]) -> tuple[list[str], pd.DataFrame, list[str]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise LoaderError("parquet needs the package pyarrow", file=path, hint='pip install "operando[parquet]"') from None
    try:
        with pq.ParquetFile(os.fspath(path)) as f:
            rows, width = f.metadata.num_rows, f.metadata.num_columns
            if rows < 1 or width < 1 or rows * width > 2**31:
                raise LoaderError("the parquet file has no rows, or more than fit", file=path, found=f"{rows} rows of {width} columns")
            table = f.read()
        names = [str(n) for n in table.column_names]
        frame = table.to_pandas(ignore_metadata=True)
    except LoaderError:
        raise
    except Exception as error:  # pyarrow raises its own errors, OSError, ValueError and more on a broken file
        raise LoaderError(f"the parquet file is broken: {str(error)[:200]}", file=path, found=type(error).__name__, hint="copy it again") from None
    frame.columns = list(range(len(names)))
    for i, dtype in enumerate(frame.dtypes):
        if dtype.kind == "b":
            frame[i] = frame[i].astype("int8")
    return names, frame, []


def _series(values: np.ndarray) -> pd.Series:
    import pandas as pd

    return pd.Series(values)


def _numbers(path: str | os.PathLike[str], column: pd.Series, written: str) -> np.ndarray:
    if column.dtype.kind == "M":  # some writers store unix time as a parquet timestamp
        plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        return plain.to_numpy().astype("datetime64[ns]").astype(np.int64) / (1e6 if "milli" in written or "/ ms" in written else 1e9)
    if column.dtype.kind not in "iuf":
        import pandas as pd

        odd = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        row = int(odd.argmax())
        raise LoaderError(f"column {written!r} is not numbers", file=path, found=f"{str(column.iloc[row])[:40]!r} in row {row + 1}")
    values = column.to_numpy()
    return values if values.dtype.kind in "iu" else values.astype(float)


def _coulomb(capacity: np.ndarray | None) -> np.ndarray | None:
    return None if capacity is None else capacity * 3600.0


def _cycles(got: dict[str, np.ndarray], attrs: dict[str, Any]) -> None:
    """Bring cycle counts that a converter wrote in radians back to turns."""
    cycle = got.get("cycle")
    if cycle is None or cycle.dtype.kind != "f" or not np.isfinite(cycle).all() or (cycle == np.round(cycle)).all():
        return
    turns = cycle / (2 * np.pi)
    if np.abs(turns - np.round(turns)).max() < 1e-6:
        got["cycle"] = np.round(turns)
        attrs["cycle_written_as"] = "radians (2 pi per cycle), divided back"


def _steps(got: dict[str, np.ndarray]) -> np.ndarray | None:
    """Tell a step number from a counter of the records in a step: both were called step_index."""
    index = got.pop("step_index", None)
    if index is None:
        return None
    rises = np.diff(index.astype(float)) == 1
    if len(index) > 20 and rises.mean() > 0.9:
        return index
    if "step" in got:
        return None if np.array_equal(got["step"], index) else index
    got["step"] = index
    return None


def bdf_name(name: str) -> Label | None:
    """Give the BDF label to export one of our variables under; None if BDF has none."""
    return _OF_NAME.get(name)
