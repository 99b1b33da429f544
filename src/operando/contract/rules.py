"""The rules of a series, one function each; `faults` runs them all and `validate` reports every fault at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.flags import Quality
from operando.contract.techniques import SAMPLINGS, TECHNIQUES, TIME_ORIGINS
from operando.contract.units import UNITS, same_units, symbol

Rule = Callable[[xr.Dataset], Iterator[str]]
RULES: dict[str, Rule] = {}


def _rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


@_rule
def technique_is_known(ds: xr.Dataset) -> Iterator[str]:
    """Attribute `technique` names a technique of the contract."""
    if ds.attrs.get("technique") not in TECHNIQUES:
        yield f"attribute 'technique' is {ds.attrs.get('technique')!r}, not one of {', '.join(TECHNIQUES)}"


@_rule
def attributes_are_complete(ds: xr.Dataset) -> Iterator[str]:
    """The attributes say who read it, where its times come from and how sure they are."""
    for name in ("loader", "loader_version", "time_origin", "time_uncertainty_s", "timezone_source", "options"):
        if name not in ds.attrs:
            yield f"attribute {name!r} is missing"
    if ds.attrs.get("time_origin", "header") not in TIME_ORIGINS:
        yield f"attribute 'time_origin' is {ds.attrs['time_origin']!r}, not one of {', '.join(TIME_ORIGINS)}"
    sigma = ds.attrs.get("time_uncertainty_s", 0.0)
    if not isinstance(sigma, int | float | np.number) or not sigma >= 0:
        yield f"attribute 'time_uncertainty_s' is {sigma!r}, not a number of seconds >= 0"
    try:
        json.loads(ds.attrs.get("options", "{}"))
    except (TypeError, ValueError):
        yield "attribute 'options' is not JSON text"


@_rule
def time_is_an_index(ds: xr.Dataset) -> Iterator[str]:
    """Dim and index `time`: datetime64[ns], no NaT, at least one frame."""
    if "time" not in ds.dims or "time" not in ds.coords:
        yield "dim and coordinate 'time' are missing"
        return
    if ds.variables["time"].dtype != np.dtype("datetime64[ns]"):
        yield f"'time' is {ds.variables['time'].dtype}, not datetime64[ns]"
    elif np.isnat(ds.variables["time"].values).any():
        yield f"'time' is not a time (NaT) at frame {int(np.argmax(np.isnat(ds.variables['time'].values)))}"
    if ds.sizes["time"] == 0:
        yield "no frames"


@_rule
def frames_carry_their_coordinates(ds: xr.Dataset) -> Iterator[str]:
    """Each frame has source_time, exposure, segment, setup, source, source_index and quality."""
    wanted = {"source_time": "M", "exposure": "f", "segment": "iu", "setup": "iu", "source": "OUT", "source_index": "iu", "quality": "iu"}
    for name, kinds in wanted.items():
        if name not in ds.coords:
            yield f"coordinate {name!r} is missing"
        elif ds.variables[name].dims != ("time",):
            yield f"coordinate {name!r} has dims {ds.variables[name].dims}, not ('time',)"
        elif ds.variables[name].dtype.kind not in kinds:
            yield f"coordinate {name!r} is of type {ds.variables[name].dtype}"
    if "exposure" in ds.coords and ds.variables["exposure"].dtype.kind == "f" and (ds.variables["exposure"].values < 0).any():
        yield f"'exposure' is negative at frame {int(np.argmax(ds.variables['exposure'].values < 0))}"


@_rule
def time_never_goes_back_within_a_segment(ds: xr.Dataset) -> Iterator[str]:
    """`time` is non-decreasing within each segment; a step back starts a new one."""
    if "time" not in ds.coords or "segment" not in ds.coords or ds.variables["time"].dtype.kind != "M" or ds.variables["segment"].ndim != 1:
        return
    time, segment = ds.variables["time"].values.astype("int64"), ds.variables["segment"].values
    back = np.flatnonzero((np.diff(time) < 0) & (np.diff(segment) == 0))
    if back.size:
        more = f" (and {back.size - 1} more)" if back.size > 1 else ""
        yield f"'time' goes backwards at frame {back[0] + 1} inside segment {segment[back[0]]}{more}"


@_rule
def quality_bits_are_known(ds: xr.Dataset) -> Iterator[str]:
    """`quality` holds known bits only and names them (CF flag_masks, flag_meanings)."""
    if "quality" not in ds.coords or ds.variables["quality"].dtype.kind not in "iu":
        return
    known = sum(int(flag.value) for flag in Quality)
    if (ds.variables["quality"].values & ~known).any():
        yield f"'quality' has unknown bits at frame {int(np.argmax((ds.variables['quality'].values & ~known) != 0))}"
    if "flag_masks" not in ds.variables["quality"].attrs or "flag_meanings" not in ds.variables["quality"].attrs:
        yield "'quality' lacks the attributes flag_masks and flag_meanings"


@_rule
def signal_is_present(ds: xr.Dataset) -> Iterator[str]:
    """The technique's signal is there, over time and one axis of the technique."""
    technique = TECHNIQUES.get(ds.attrs.get("technique", ""))
    if technique is None:
        return
    if not technique.signals:
        if not ds.data_vars:
            yield "no channel"
        return
    present = [name for name in technique.signals if name in ds.data_vars]
    if not present:
        yield f"no signal: expected one of {', '.join(technique.signals)}"
    for name in present:
        dims = tuple(str(d) for d in ds.variables[name].dims)
        rest = tuple(d for d in dims[1:] if d not in technique.dims)
        axes: list[tuple[str, ...]] = [(a,) for a in technique.axis] or [()]
        if dims[:1] != ("time",) or rest not in axes:
            yield f"{name!r} has dims {dims}, not ('time'{''.join(f', {a[0]!r}' for a in axes[:1] if a)})"
        if ds.variables[name].dtype.kind not in "fiucOUT":
            yield f"{name!r} is of type {ds.variables[name].dtype}"


@_rule
def axis_is_monotonic(ds: xr.Dataset) -> Iterator[str]:
    """The axis is a finite, strictly monotonic coordinate."""
    technique = TECHNIQUES.get(ds.attrs.get("technique", ""))
    for name in technique.axis if technique else ():
        if name not in ds.dims or name == "point":
            continue
        if name not in ds.coords:
            yield f"dim {name!r} has no coordinate"
            continue
        steps = np.diff(ds.variables[name].values.astype(float))
        if not np.isfinite(ds.variables[name].values).all():
            yield f"{name!r} is not finite everywhere"
        elif steps.size and not ((steps > 0).all() or (steps < 0).all()):
            wrong = int(np.argmax(steps * np.sign(np.median(steps)) <= 0))
            yield f"{name!r} is not strictly monotonic at point {wrong + 1}"


@_rule
def units_are_canonical(ds: xr.Dataset) -> Iterator[str]:
    """Every number has its unit as a symbol, and the contract's unit where the contract has one."""
    for key, var in ds.variables.items():
        name = str(key)
        if var.dtype.kind not in "iufc" or name in ("time", "source_time", "stamp"):
            continue
        units = var.attrs.get("units")
        if units is None:
            yield f"{name!r} has no units"
            continue
        wanted = UNITS.get(name.removesuffix("_errors").removesuffix("_systematic"))
        if wanted and not same_units(str(units), wanted):
            yield f"{name!r} has units {units}, not {wanted}"
        elif symbol(str(units)) != units:
            yield f"{name!r} has units spelled {units!r}, not {symbol(str(units))!r}"


@_rule
def errors_are_linked(ds: xr.Dataset) -> Iterator[str]:
    """`<name>_errors` has the dims of `<name>`, which names it in `ancillary_variables`."""
    for key in ds.data_vars:
        name = str(key)
        for suffix in ("_errors", "_systematic"):
            base = name.removesuffix(suffix)
            if base == name:
                continue
            if base not in ds.variables:
                yield f"{name!r} belongs to no variable {base!r}"
            elif ds.variables[name].dims != ds.variables[base].dims:
                yield f"{name!r} has dims {ds.variables[name].dims}, {base!r} has {ds.variables[base].dims}"
            elif name not in str(ds.variables[base].attrs.get("ancillary_variables", "")).split():
                yield f"{base!r} does not name {name!r} in its attribute ancillary_variables"


@_rule
def sensors_declare_their_sampling(ds: xr.Dataset) -> Iterator[str]:
    """Each sensor channel says whether it is continuous, a step, an event or a sample."""
    if ds.attrs.get("technique") == "sensor":
        for name, var in ds.data_vars.items():
            if var.attrs.get("sampling") not in SAMPLINGS:
                yield f"channel {name!r} has sampling {var.attrs.get('sampling')!r}, not one of {', '.join(SAMPLINGS)}"


@_rule
def times_are_utc(ds: xr.Dataset) -> Iterator[str]:
    """Times are on UTC: the file said so, or the configuration gave the zone."""
    if ds.attrs.get("timezone_source", "none") == "none":
        yield "the times are wall-clock times without a zone: give timezone="


def faults(ds: xr.Dataset, *, as_written: bool = False) -> list[str]:
    """List everything that is wrong with a series, in plain words; empty if nothing is.

    No signal is computed: only dims, types, attributes and the small coordinates are looked at.

    Parameters
    ----------
    ds
        The series.
    as_written
        True for a series straight from a loader, whose times may still be wall-clock times.
    """
    return [fault for name, rule in RULES.items() if not (as_written and name == "times_are_utc") for fault in rule(ds)]


def validate(ds: xr.Dataset, *, file: object = None, as_written: bool = False) -> xr.Dataset:
    """Return the series unchanged if it keeps the contract.

    Raises
    ------
    ContractError
        With all faults in one message.
    """
    found = faults(ds, as_written=as_written)
    if found:
        problem = "the series breaks the contract:\n" + "\n".join(f"  - {fault}" for fault in found)
        raise ContractError(problem, file=None if file is None else str(file))
    return ds
