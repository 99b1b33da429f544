"""CSV and text exports of cyclers, and sensor logs: any table of numbers with a column of time.

Recognised with no option: Landt csv, Neware BTSDA csv, Maccor text, Arbin csv. Anything else with a header whose names
say what they are (`Ecell (V)`, `I/mA`, `Time [s]`) works the same way; the rest is said with `columns:`.

**What is read.** Delimiter (comma, semicolon, tab, bar, blanks), decimal mark, encoding, line ends (CR too), preamble,
comment lines and a line of units are found out from the first lines; a `.gz` is unpacked. Preamble lines `key: value`
become `claims`. Each column is taken apart into name and unit (`columns.split_label`); unknown columns survive under
their snake_case name. An echem column needs a unit; a sensor channel without one is `1`. A last, half-written line is left out.

**Time.** `columns: {time: Name}` or found by name. Stamps: ISO with or without offset, `m/d/Y` and `d/m/Y` with or
without AM/PM, `d.m.Y`, month names, Excel days (1900 system), epoch seconds or milliseconds (UTC), date and time in two
columns, a nameless first column of epoch seconds, or `time_format:` (strptime words or excel, epoch, epoch_ms, labview,
elapsed). A date alone among stamps is midnight. `05/06/2026` is never guessed: a field above 12, the order of the rows or
the test clock beside it decides, or it is refused. Seconds since the start: numbers with their unit, or `HH:MM:SS` (any
number of hours). Stamps win over the test clock, which stops in pauses; where stamps are cut to whole seconds, the finer
test clock places records between them (`cycler.refined`), so no record leaves its second. Stamps without offset stay
wall-clock times. A backward step begins a new `segment`; nothing is sorted. A file with elapsed time only gives a
counter, unless its preamble states an unambiguous start.

**Neware** (BTSDA): `Date` are wall-clock stamps of the exporting computer; `Time` restarts with each step, `Cumulative
Time` is the test clock; current is signed, charge positive. **Maccor**: `DPT Time` are stamps; `TestTime` has no unit and
is in minutes in the file this was measured on (1.000000 beside one minute of DPT Time): its unit is taken from the stamps;
current is unsigned and gets its sign from `Md` or `State` (C charge, D discharge). `Cap.` restarts with each step; `Test (Sec)` and `Step (Sec)` are
clocks, `mAmps` and `mAmp-hr` what they say. A current that is never negative while it lowers the voltage, in a file without a state, is
refused: it has no sign. Arbin and Maccor headers without units mean V, A, Ah, Wh. **Landt**: rows end in a
comma, so they have one (empty) field more than the header has names; current is signed, charge positive; capacities
restart with each step and are printed to 1e-4 Ah. **Arbin**: `Date_Time` as Excel days or text; current is signed.

**Output.** echem: voltage V, current A (positive charges the cell; sign checked against the step type, else against the
capacity counters, and mended where instruments give |I| or the opposite), charge C (net, continuous over the resets of
the counters; zero arbitrary), cycle, step, step_type (text), the counters as written, test_time. sensor: one channel per column,
with `sampling` (continuous unless said) and `transport_delay_s`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from operando.contract import UNITS, ContractError, LoaderError, quantity, series
from operando.contract.techniques import SAMPLINGS
from operando.loaders import stamps as clocks
from operando.loaders.bdf import is_bdf
from operando.loaders.columns import HEAD_BYTES, NAMELESS, Table, read_table, snake_case, sniff, split_label, table_text
from operando.loaders.csv_clock import Clock, Field, chosen, factor, read_clock, stated_start
from operando.loaders.cycler import boundaries, echem

if TYPE_CHECKING:
    import xarray as xr

TECHNIQUES = ("echem", "sensor")
VERSION = "3"

_DIALECTS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Landt csv export", frozenset("channel_index cycle_index step_index test_time step_time current voltage".split())),
    ("Neware BTSDA csv export", frozenset("data_point cycle_index step_index step_type current voltage date".split())),
    ("Neware BTSDA csv export", frozenset("data_point cycle_index step_index step_type current voltage time".split())),
    ("Maccor text export", frozenset("rec step test_time step_time md es dpt_time voltage current".split())),
    ("Maccor text export", frozenset("rec step test_time step_time state es dpt_time volts amps".split())),
    ("Maccor text export", frozenset("rec step test_time step_time state es dpt_time volts m_amps".split())),
    ("Maccor text export", frozenset("rec step test state es dpt_time volts amps".split())),
    ("Maccor text export", frozenset("rec cycle_c step test_time step_time dpt_time voltage current".split())),
    (
        "Arbin csv export",
        frozenset("data_point test_time step_time step_index cycle_index current voltage charge_capacity discharge_capacity".split()),
    ),
    (
        "Arbin csv export",
        frozenset("date_time test_time step_time step_index cycle_index current voltage charge_capacity discharge_capacity".split()),
    ),
)
_SAME = {"datapoint": "data_point", "record": "rec", "d_pt_time": "dpt_time"}

_UNITS_OF_DIALECT = {  # Arbin and Maccor count in these where the header says none
    **{"voltage": "V", "current": "A", "capacity": "A*h", "charge_capacity": "A*h", "discharge_capacity": "A*h"},
    **{"energy": "W*h", "charge_energy": "W*h", "discharge_energy": "W*h"},
}

_ROLES: dict[str, tuple[str, ...]] = {
    "voltage": tuple(
        "voltage ecell e_cell ewe_ece cell_voltage voltage_cell u_cell vcell v_cell volts volt battery_voltage ewe potential u e v".split()
    ),
    "current": tuple("current i current_cell cell_current i_cell amps amp ampere m_amps".split()),
    "charge": tuple("charge net_charge net_capacity q_qo q_q0 dq_net".split()),
    "charge_capacity": tuple("charge_capacity chg_cap charging_capacity q_charge chg_capacity charge_cap capacity_charge chgcap qchg".split()),
    "discharge_capacity": tuple(
        "discharge_capacity dchg_cap discharging_capacity q_discharge dchg_capacity dischg_cap dch_cap discharge_cap capacity_discharge qdchg".split()
    ),
    "capacity": tuple("capacity cap amp_hr m_amp_hr step_capacity".split()),
    "cycle": tuple("cycle cycle_index cycle_number cycle_no cyc cycle_count cycle_id cycle_c cycle_num".split()),
    "step": tuple("step step_index step_number step_no step_id ns stp step_num".split()),
    "step_type": tuple("step_type step_name md mode state status step_mode".split()),
    "step_time": ("step_time", "step"),
}
_DIMENSION = {"voltage": "V", "current": "A", "charge": "C", "charge_capacity": "C", "discharge_capacity": "C", "capacity": "C", "step_time": "s"}
_SINGLE = frozenset("u e v i".split())  # a name of one letter counts only with its unit
_IMPLIED = {
    "volts": "V",
    "volt": "V",
    "amps": "A",
    "amp": "A",
    "ampere": "A",
    "amp_hr": "A*h",
    "m_amps": "mA",
    "m_amp_hr": "mA*h",
    "watt_hr": "W*h",
    "m_watt_hr": "mW*h",
}
_RECORDS = frozenset("rec record data_point record_number record_no point rec_num index row record_id".split())
_COORDS = frozenset("time source_time exposure segment setup source source_index quality stamp position live_time monitor".split())


def load(
    path: str | os.PathLike[str],
    *,
    technique: str | None = None,
    columns: Mapping[str, Any] | None = None,
    others: bool = True,
    time_format: str | None = None,
    time_unit: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    comment: str | None = None,
    encoding: str | None = None,
    current_sign: str | None = None,
    interval: str = "instant",
    sampling: str | Mapping[str, str] | None = None,
    transport_delay: Any = 0.0,
) -> xr.Dataset:
    """Read a table of text as electrochemistry or as a sensor log.

    Parameters
    ----------
    technique
        `echem` or `sensor`; by default echem if a voltage column is recognised.
    columns
        Our name -> column, as written or as its number from 1, or `{column: "I (mA)", unit: mA}`. `time` may name a
        list (date and time) and give `unit` or `format`. Names of echem: voltage, current, charge, charge_capacity,
        discharge_capacity, capacity, cycle, step, step_type, step_time; any other name is kept as it is.
    others
        Keep the columns that are not named.
    time_format, time_unit
        Form of the stamps (strptime words, or excel, epoch, epoch_ms, labview, iso, elapsed); unit of elapsed time.
    separator, decimal, comment, encoding
        How the text is written, where it is not found out rightly; `separator: blank` is runs of blanks.
    current_sign
        What a positive current does as written: `charge` or `discharge`. Found out by default.
    interval
        What a record's current speaks for: `instant`, the interval `ending` or `starting` at it.
    sampling
        Sensor: continuous, step, event or sample; for all channels, or channel -> one.
    transport_delay
        Sensor: seconds (or `12 s`) from the cell to the sensor; for all channels, or channel -> one.

    Returns
    -------
    xarray.Dataset
        One series, times as written.

    Raises
    ------
    LoaderError
        Not a table of numbers, no time, a unit that is not said, stamps that can be read in two ways.
    """
    if technique not in (None, *TECHNIQUES):
        raise LoaderError("csv does not give this technique", file=path, found=repr(technique), expected="echem or sensor")
    if columns is not None and not isinstance(columns, Mapping):
        raise LoaderError("columns is not a map", file=path, found=repr(columns)[:80], expected="columns: {voltage: Ecell (V), time: Time [s]}")
    table = read_table(path, separator=separator, decimal=decimal, comment=comment, encoding=encoding)
    fields = _fields(table)
    dialect = _dialect(fields)
    if dialect and dialect.startswith(("Arbin", "Maccor")):
        fields = [Field(f.position, f.name, f.unit or _UNITS_OF_DIALECT.get(f.name), f.label) for f in fields]
    named = {str(k): chosen(path, str(k), v, fields) for k, v in (columns or {}).items() if str(k) != "time"}
    clock = read_clock(path, table, fields, (columns or {}).get("time"), time_format, time_unit, {f.position for f in named.values()})
    free = [
        f
        for f in fields
        if f.position not in clock.used and f.position not in {g.position for g in named.values()} and not table.frame[f.position].isna().all()
    ]
    roles = dict(named)
    if technique != "sensor":
        for role in _ROLES:
            if role not in roles and (match := _recognised(role, free)) is not None:
                roles[role] = match
    technique = technique or ("echem" if "voltage" in roles else "sensor")
    taken = roles if technique == "echem" else named
    rest = [f for f in free if f.position not in {g.position for g in taken.values()}] if others else []
    attrs: dict[str, Any] = {"time_written_as": clock.how}
    if dialect:
        attrs["instrument"] = dialect
    if table.layout.preamble:
        attrs["claims"] = json.dumps(table.layout.preamble, ensure_ascii=False)
    if table.notes:
        attrs["notes"] = "; ".join(table.notes[:10])
    if technique == "echem":
        variables, quality = _echem(path, table, taken, rest, clock, current_sign, interval, attrs)
    else:
        variables = _sensor(path, table, taken, rest, sampling, transport_delay, attrs)
        quality = np.zeros(len(table.frame), np.int32)
    start: Any = clock.start
    utc: bool | None = clock.utc
    if start is None and (begun := stated_start(table.layout.preamble, path)) is not None:
        start, utc = begun
        attrs["time_written_as"] += "; start from the preamble"
    return series(
        technique,
        variables,
        source=path,
        start=start,
        elapsed=clock.elapsed,
        utc=utc,
        time_origin="header",
        time_uncertainty=clock.sigma,
        segment=clock.segment,
        quality=quality,
        attrs=attrs,
    )


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say which known dialect a file is; None for any other table, however readable."""
    try:
        suffix = Path(path).suffix.lower()
        if suffix not in (".csv", ".txt", ".tsv", ".dat", ".gz", ".asc", "") and not re.fullmatch(r"\.\d{3}", suffix):
            return None  # Maccor numbers its exports by channel: `.041`
        text = table_text(path, limit=HEAD_BYTES)
        layout = sniff(text, path)
        if is_bdf(layout.names):
            return None  # a cycler's table with the BDF columns added
        return _dialect([Field(i, snake_case(split_label(n)[0]), None, n) for i, n in enumerate(layout.names)])
    except LoaderError:
        return None


def _dialect(fields: Iterable[Field]) -> str | None:
    names = {_SAME.get(f.name, f.name) for f in fields}
    return next((text for text, wanted in _DIALECTS if wanted <= names), None)


def _fields(table: Table) -> list[Field]:
    out = []
    for i, label in enumerate(table.layout.names):
        if not label:
            continue
        name, unit = split_label(label) if table.layout.has_header else (label, None)
        name = re.sub(r"\s*[(\[](?:hours in )?(?:d+[:-])?h+:m+(?::s+(?:[.:,][msx]*)?)?[)\]]\s*$", "", name, flags=re.IGNORECASE)
        snake = snake_case(name)
        out.append(Field(i, snake, table.layout.units[i] or unit or _IMPLIED.get(snake), label))
    return out


def _recognised(role: str, free: Sequence[Field]) -> Field | None:
    """Find the column whose name (and kind of unit) says that it is this."""
    for name in _ROLES[role]:
        for f in free:
            if f.name == name and not (name in _SINGLE and f.unit is None):
                wanted = _DIMENSION.get(role)
                timed = f.unit is not None and factor(f.unit, "s") is not None
                if (name == "step" or role in ("cycle", "step")) and timed != (role == "step_time"):
                    continue  # `Step` is a number, `Step (Sec)` a time
                if wanted is None or f.unit is None or factor(f.unit, wanted) is not None:
                    return f
    return None


def _numbers(path: str | os.PathLike[str], table: Table, f: Field, role: str, *, convert_to: str | None = None) -> np.ndarray:
    column = table.frame[f.position]
    if column.dtype.kind not in "iuf":
        import pandas as pd

        odd = pd.to_numeric(column, errors="coerce").isna() & column.notna()
        row = int(odd.to_numpy().argmax())
        raise LoaderError(
            f"column {f.label!r} for {role} is not numbers",
            file=path,
            found=f"{str(column.iloc[row])[:40]!r} in row {row + 1}, line {table.line(row)} or near",
        )
    values = column.to_numpy()
    if convert_to is None:
        return values if values.dtype.kind in "iu" else values.astype(float)
    if f.unit is None:
        raise LoaderError(
            f"the unit of column {f.label!r} is not said",
            file=path,
            expected=f"a name such as {f.label!r} with ({convert_to}), or a unit",
            hint=f"columns: {{{role}: {{column: {f.label}, unit: {convert_to}}}}}",
        )
    scale = factor(f.unit, convert_to)
    if scale is None:
        raise LoaderError(f"column {f.label!r} is not a {role}", file=path, found=f.unit, expected=f"a unit of {convert_to}")
    values = values.astype(float)
    return values if scale == 1.0 else values * scale


def _kept(
    path: str | os.PathLike[str], table: Table, fields: Iterable[tuple[str, Field]], taken: Iterable[str], *, words: bool
) -> dict[str, tuple[Any, ...]]:
    """Give the columns nothing is known of, under their own names, units as written."""
    out: dict[str, tuple[Any, ...]] = {}
    seen = set(taken) | _COORDS
    for wish, f in fields:
        column = table.frame[f.position]
        attrs = {"long_name": f.label}
        if column.dtype.kind not in "iuf":
            if words and column.nunique() <= 64:
                out[_unused(wish, seen)] = ("time", column.fillna("").astype(str).to_numpy(dtype=object), None, attrs)
            continue
        values = column.to_numpy()
        if (f.name in _RECORDS or f.label == NAMELESS) and values.dtype.kind in "iu" and len(values) > 1 and (np.diff(values) == 1).all():
            continue  # numbers the rows: that is source_index
        unit = f.unit or "1"
        base = wish if wish not in UNITS or factor(unit, UNITS[wish]) is not None and not (wish == "energy" and unit != "eV") else f"{wish}_logged"
        out[_unused(base, seen)] = ("time", values if values.dtype.kind in "iu" else values.astype(float), unit, attrs)
    return out


def _unused(name: str, seen: set[str]) -> str:
    base = f"{name}_column" if name in _COORDS else name
    free, i = base, 2
    while free in seen:
        free, i = f"{base}_{i}", i + 1
    seen.add(free)
    return free


def _echem(
    path: str | os.PathLike[str],
    table: Table,
    roles: Mapping[str, Field],
    rest: Sequence[Field],
    clock: Clock,
    current_sign: str | None,
    interval: str,
    attrs: dict[str, Any],
) -> tuple[dict[str, tuple[Any, ...]], np.ndarray]:
    if "voltage" not in roles and "potential_we" not in roles:
        raise LoaderError(
            "no voltage column is recognised", file=path, found=", ".join(n for n in table.layout.names[:30] if n), hint="columns: {voltage: NAME}"
        )
    got = {
        role: _numbers(path, table, f, role, convert_to=_DIMENSION[role]) for role, f in roles.items() if role in _DIMENSION and role != "step_time"
    }
    # Neware calls the step clock `Time` where the test clock is `Cumulative Time` or `Total Time`
    step_field = roles.get("step_time") or next((f for f in rest if f.name == "time"), None)
    step_time = clock.step_time
    if step_time is None and step_field is not None and table.frame[step_field.position].notna().all():
        try:
            step_time = clocks.read_elapsed(table.frame[step_field.position], step_field.unit or clock.unit, path, name=step_field.label)
        except LoaderError:
            step_field = None  # kept as a column like any other
    numbering = {}
    for role in ("cycle", "step"):
        if role in roles and table.frame[roles[role].position].dtype.kind in "iuf":
            numbering[role] = table.frame[roles[role].position].to_numpy()
    states = table.frame[roles["step_type"].position].fillna("").astype(str).to_numpy(dtype=object) if "step_type" in roles else None
    if states is not None and table.frame[roles["step_type"].position].dtype.kind in "iuf":
        states = None
    voltage = got.pop("voltage", None)
    nothing = voltage is None
    made = echem(
        np.full(len(table.frame), np.nan) if voltage is None else voltage,
        got.pop("current", None),
        **got,
        **numbering,
        step_time=step_time,
        states=states,
        seconds=clock.elapsed if clock.start is None else (clock.start - clock.start[0]) / np.timedelta64(1, "s"),
        current_sign=current_sign,
        interval=interval,
    )
    if nothing:
        made.variables.pop("voltage")
    if current_sign is None and states is None and (at := _falls_under_charge(made.variables, numbering)) is not None:
        raise LoaderError(
            "the current is never negative, but the voltage falls under it: it has no sign, and no column says charge or discharge",
            file=path,
            found=f"{roles['current'].label!r} positive while the voltage falls from row {at[0] + 1} to row {at[1] + 1}",
            expected="a column of step types (charge, discharge; C, D) or a signed current",
            hint="export the state too, or name its column: columns: {step_type: NAME}; current_sign: charge takes the numbers as they are",
        )
    attrs.update(made.notes)
    typical = float(np.median(np.abs(np.nan_to_num(voltage)))) if voltage is not None else 0.0
    if typical > 1000 and "voltage" in roles:
        attrs["voltage_doubt"] = (
            f"half of the records are above {typical:.0f} V: mV? columns: {{voltage: {{column: {roles['voltage'].label}, unit: mV}}}}"
        )
    out = made.variables
    spent = {f.position for role, f in roles.items() if role in ("voltage", "current", "charge", "cycle", "step", "step_type", "step_time")}
    if clock.test_time is not None:
        out["test_time"] = ("time", clock.test_time, "s", {"long_name": "test clock of the instrument"})
    counters = [(role, f) for role, f in roles.items() if f.position not in spent]
    renamed = [(_renamed(f), f) for f in rest if f is not step_field]
    kept = _kept(path, table, [*counters, *renamed], out, words=False)
    dropped = [f.label for _, f in renamed if table.frame[f.position].dtype.kind not in "iuf"]
    if dropped:
        attrs["dropped_columns"] = ", ".join(dropped)
    for name in ("potential_we", "potential_ce", "control_voltage"):
        if name in kept and kept[name][2] not in ("V", "mV"):
            raise LoaderError(f"the unit of {name} is not said", file=path, found=kept[name][2], expected="V or mV")
    return {**out, **kept}, made.quality if not nothing else np.zeros(len(table.frame), np.int32)


def _falls_under_charge(made: Mapping[str, tuple[Any, ...]], numbering: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
    """Find a step in which a current that is never negative lowers the voltage: its first and last row."""
    if "current" not in made or "voltage" not in made or made["current"][1].min(initial=0.0) < 0:
        return None
    current, voltage = made["current"][1], made["voltage"][1]
    flows = current > 0
    ends = np.flatnonzero(boundaries(len(current), [flows.astype(int), *numbering.values()]))
    for first, after in zip(np.r_[0, ends], np.r_[ends, len(current)], strict=True):
        if after - first >= 20 and flows[first]:
            third = (after - first) // 3
            early, late = np.median(voltage[first : first + third]), np.median(voltage[after - third : after])
            if late < early - 0.1 and np.median(current[after - third : after]) > 0.8 * np.median(current[first : first + third]):
                return int(first), int(after - 1)
    return None


def _renamed(f: Field) -> str:
    """Give an echem column the name it has in every cycler's series."""
    same = {
        "chg_energy": "charge_energy",
        "dchg_energy": "discharge_energy",
        "charging_energy": "charge_energy",
        "discharging_energy": "discharge_energy",
    }
    if f.name in ("energy", "ener", "watt_hr"):
        return "cell_energy"
    if f.name in ("temp", "temperature", "t1", "temp_1", "aux_temperature_1", "cell_temperature") and f.unit == "degC":
        return "temperature" if f.name in ("temp", "temperature", "cell_temperature") else f.name
    return same.get(f.name, f.name)


def _sensor(
    path: str | os.PathLike[str],
    table: Table,
    named: Mapping[str, Field],
    rest: Sequence[Field],
    sampling: str | Mapping[str, str] | None,
    transport_delay: Any,
    attrs: dict[str, Any],
) -> dict[str, tuple[Any, ...]]:
    for role, f in named.items():
        if table.frame[f.position].dtype.kind not in "iuf" and not table.frame[f.position].nunique() <= 64:
            _numbers(path, table, f, role)
    channels = _kept(path, table, [*named.items(), *((f.name, f) for f in rest)], (), words=True)
    if not channels:
        raise LoaderError("no channel is left", file=path, found=", ".join(n for n in table.layout.names[:30] if n), hint="name channels in columns:")
    kinds = _per_channel(path, "sampling", sampling, channels)
    delays = _per_channel(path, "transport_delay", transport_delay, channels)
    out = {}
    for name, (dims, values, unit, more) in channels.items():
        kind = kinds.get(name) or ("continuous" if values.dtype.kind in "iuf" else "step")
        if kind not in SAMPLINGS:
            raise LoaderError(f"sampling of {name} is not known", file=path, found=repr(kind), expected=", ".join(SAMPLINGS))
        delay = delays.get(name) or 0.0
        try:
            seconds = float(delay) if isinstance(delay, int | float) else quantity(str(delay), "s")
        except ContractError as error:
            raise LoaderError(f"transport_delay of {name} is not a time: {error.problem}", file=path, found=repr(delay), expected="12 s") from None
        out[name] = (dims, values, unit, {**more, "sampling": kind, "transport_delay_s": seconds})
    dropped = [f.label for f in rest if table.frame[f.position].dtype.kind not in "iuf" and table.frame[f.position].nunique() > 64]
    if dropped:
        attrs["dropped_columns"] = ", ".join(dropped)
    return out


def _per_channel(path: str | os.PathLike[str], option: str, given: Any, channels: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(channels, given)
    by_name = {str(k) if str(k) in channels else snake_case(str(k)): v for k, v in given.items()}
    unknown = [k for k in by_name if k not in channels]
    if unknown:
        raise LoaderError(f"{option}: names no channel", file=path, found=", ".join(unknown), expected=", ".join(list(channels)[:30]))
    return by_name
