"""`observables`: what was reduced from the frames, with its errors, below the voltage of the cell on one true time axis."""

from __future__ import annotations

import itertools
import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.techniques import TECHNIQUES
from operando.figures.bands import HOLD, usual_spacing
from operando.figures.columns import cell_of, electrochemistry
from operando.figures.electrochemistry import line
from operando.figures.labels import named, printed, readable
from operando.figures.style import COLOURS, TYPE, plain, sheet
from operando.figures.times import NS, TimeAxis, nanoseconds, time_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ADDRESS = re.compile(r"(?P<path>[^\[\]]+)(?:\[(?P<dim>\w+)=(?P<label>[^\[\]]+)\])?")
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SHOWN = 150  # more points than this are a line without marks
_MOST = 4000  # points of a line
_WORDS = 22  # letters of a label on one line
_FLAT = 1e-6
_LINES = 24  # of one panel
_LABELS = 64  # more than this along a dim is an axis, not labels
_AXES = {name for technique in TECHNIQUES.values() for name in technique.axis}


def observables(
    bt: xr.DataTree,
    cell: str | None = None,
    *names: str,
    voltage: bool = True,
    elapsed: bool = False,
    timezone: str = "UTC",
    width: str | float = "double",
    height: float | None = None,
) -> Figure:
    """Draw observables over time, one panel each, below the voltage of the cell.

    The dark band is one statistical standard error (`<name>_errors`); the light one around it has the systematic error added to it in
    quadrature (`<name>_systematic`). Lines break where frames are missing. What is declared a `sample` or an `event` is drawn as
    points, each as wide as the time it speaks for.

    Parameters
    ----------
    bt
        What `open_beamtime` gives.
    cell
        Which cell; None where there is one.
    names
        Such as `xrd/phase_fraction`, `xrd/phase_fraction[phase=H2]`, `echem/coulombic_efficiency`, or the name alone where one series of
        the cell has it. By default everything in the products `observables` of the cell.
    voltage
        Draw the voltage on top, where there is electrochemistry.
    elapsed
        Time since the first thing drawn instead of date and time.
    timezone
        Zone of the labels; never the computer's own.
    width, height
        `single` (89 mm), `double` (183 mm) or mm; mm, by default 30 for each panel.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.

    Raises
    ------
    ContractError
        No such observable, or one that is no number over time; the message says which there are.
    ClockError
        An unknown zone.

    Examples
    --------
    >>> figure = observables(bt, "A", "xrd/phase_fraction", "eis/charge_transfer_resistance")   # doctest: +SKIP
    """
    cell = cell_of(bt, cell)
    found = _found(bt, cell, names)
    echem = electrochemistry(bt, cell) if voltage else None
    channel = next((n for n in ("voltage", "potential_we") if echem is not None and n in echem.variables), None)
    series = [ds for _, ds, _ in found] + ([echem] if echem is not None and channel else [])
    begin, stop = _ends(series)
    scale = time_axis(series, begin, stop, elapsed=elapsed, timezone=timezone)
    rows = len(found) + (channel is not None)
    figure = sheet(width, height or 12 + 30.0 * rows)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    if channel is not None and echem is not None:
        moments, values = line(echem, channel)
        axes[0].plot(scale.place(moments), values, color="black", linewidth=0.8)
        axes[0].set_ylabel(f"{named(channel, echem[channel])}\n({printed(str(echem[channel].attrs.get('units', '?')))})")
    for axis, (name, ds, selection) in zip(axes[rows - len(found) :], found, strict=True):
        _panel(axis, name, ds, selection, scale)
    axes[-1].set_xlim(*scale.place([begin, stop]))
    for axis in axes:
        plain(axis)
    scale.dress(axes[-1].xaxis)
    plain(axes[-1])
    figure.align_ylabels(list(axes))
    return figure


def _ends(series: list[xr.Dataset]) -> tuple[int, int]:
    """Give the first and the last nanosecond of the axis, whole exposures inside."""
    starts, stops = [], []
    for ds in series:
        if ds.sizes.get("time", 0):
            t, half = nanoseconds(ds), _half(ds)
            starts.append(int((t - half).min()))
            stops.append(int((t + half).max()))
    if not starts:
        raise ContractError("nothing to draw: no frames")
    return min(starts), max(*stops, min(starts) + NS)


def _half(ds: xr.Dataset) -> np.ndarray:
    """Half the exposures, nanoseconds."""
    exposure = np.asarray(ds["exposure"].values, float) if "exposure" in ds.variables else np.zeros(ds.sizes["time"])
    return np.round(np.where(np.isfinite(exposure), exposure, 0.0) * NS / 2).astype(np.int64)


def _products(bt: xr.DataTree, cell: str) -> dict[str, xr.Dataset]:
    """Give the products of a cell that may hold observables, those that are meant to first: `xrd/observables` -> dataset."""
    every = {f"{s}/{p}": node for s, child in bt[cell].children.items() for p, node in child.children.items() if p != "alignment"}
    order = sorted(every, key=lambda path: ("observables", "cycles").index(path.split("/")[1]) if path.endswith(("/observables", "/cycles")) else 2)
    return {path: every[path].to_dataset() for path in order}


def _is_observable(ds: xr.Dataset, name: str) -> bool:
    variable = ds.variables[name]
    if name.endswith(("_errors", "_systematic")) or name not in ds.data_vars or variable.dims[:1] != ("time",) or variable.dtype.kind not in "iufb":
        return False
    return all(d not in _AXES and ds.sizes[d] <= _LABELS for d in variable.dims[1:])


def _found(bt: xr.DataTree, cell: str, names: tuple[str, ...]) -> list[tuple[str, xr.Dataset, dict[str, str]]]:
    """Give each observable asked for as name, product, and the labels it is cut down to."""
    products = _products(bt, cell)
    there: dict[str, tuple[str, xr.Dataset]] = {}
    for path, ds in reversed(products.items()):
        there |= {f"{path.split('/')[0]}/{name}": (str(name), ds) for name in ds.data_vars if _is_observable(ds, str(name))}
    if not names:
        every = [(str(n), ds) for path, ds in products.items() if path.endswith("/observables") for n in ds.data_vars if _is_observable(ds, str(n))]
        if not every:
            known = ", ".join(sorted(there)) or "a product over time"
            raise ContractError("no observables in this cell yet", file=cell, found=", ".join(products), expected=f"names, of {known}")
        return [(name, ds, {}) for name, ds in every]
    out: list[tuple[str, xr.Dataset, dict[str, str]]] = []
    for text in names:
        match = _ADDRESS.fullmatch(text)
        path = (match["path"] if match else text).removeprefix(f"{cell}/")
        fits = [key for key in there if key == path or ("/" not in path and key.endswith(f"/{path}"))]
        if len(fits) != 1 or match is None:
            problem = "several series have this observable" if len(fits) > 1 else "no such observable"
            raise ContractError(problem, file=cell, found=repr(text), expected=", ".join(sorted(fits or there)) or "a number over time")
        name, ds = there[fits[0]]
        out.append((name, ds, {match["dim"]: match["label"]} if match["dim"] else {}))
    return out


def _lines(name: str, ds: xr.Dataset, selection: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Give each line of an observable: the label in words, and what to select."""
    dims = [str(d) for d in ds[name].dims[1:]]
    choices: list[list[tuple[str, str, Any]]] = []
    for dim in dims:
        labels = ds[dim].values.tolist() if dim in ds.coords else list(range(ds.sizes[dim]))
        choices.append([(dim, str(value), i) for i, value in enumerate(labels) if selection.get(dim, str(value)) == str(value)])
    if "position" in ds.coords and ds["position"].dims == ("time",):
        places = np.asarray(ds["position"].values)
        present = [p for p in dict.fromkeys(places.tolist()) if selection.get("position", str(p)) == str(p)]
        if len(set(places.tolist())) > 1:
            choices.append([("time", f"position {p}", np.flatnonzero(places == p)) for p in present])
            dims.append("position")
    wrong = [key for key in selection if key not in dims] or [key for key, some in zip(dims, choices, strict=True) if not some]
    if wrong:
        expected = "; ".join(f"{dim}: {', '.join(map(str, ds[dim].values[:20]))}" for dim in dims if dim in ds.variables) or "no labels"
        raise ContractError("no such label", file=name, found=f"{wrong[0]}={selection.get(wrong[0])}", expected=expected)
    every = list(itertools.product(*choices))
    if len(every) > _LINES:
        raise ContractError("more lines than can be told apart", file=name, found=len(every), expected=f"{_LINES} at most", hint=f"{name}[DIM=LABEL]")
    return [(", ".join(words for _, words, _ in one), {dim: at for dim, _, at in one}) for one in every]


def _looks(lines: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, int]]:
    """Give each line a colour and a mark: a label keeps its colour at every position, positions differ by their marks."""
    if not any("time" in at for _, at in lines):
        return [(i % len(COLOURS), i // len(COLOURS)) for i in range(len(lines))]
    labels = [tuple((d, i) for d, i in at.items() if d != "time") for _, at in lines]
    places = [words.rpartition("position")[2] for words, _ in lines]
    several, order, where = len(set(labels)) > 1, list(dict.fromkeys(labels)), list(dict.fromkeys(places))
    if not several:
        return [(where.index(p) % len(COLOURS), where.index(p) // len(COLOURS)) for p in places]
    return [
        (order.index(one) % len(COLOURS), where.index(p) + len(where) * (order.index(one) // len(COLOURS)))
        for one, p in zip(labels, places, strict=True)
    ]


def _panel(axis: Any, name: str, ds: xr.Dataset, selection: dict[str, str], scale: TimeAxis) -> None:
    """Draw one observable with all its labels."""
    own = str(ds[name].attrs.get("ancillary_variables", "")).split()
    factor, units = readable(np.asarray(ds[name].values, float), str(ds[name].attrs.get("units", "?")))
    known = np.isfinite(np.asarray(ds[name].values, float)) if ds[name].dtype.kind == "f" else np.ones(ds[name].shape, bool)
    lines = _lines(name, ds, selection)
    lines = [one for one in lines if ds[name].copy(data=known).isel(one[1]).values.any()] or lines[:1]  # what was never known is no line
    for (words, at), (colour, mark) in zip(lines, _looks(lines), strict=True):
        one = ds[[name, *(n for n in (f"{name}_errors", f"{name}_systematic") if n in own and n in ds.variables)]].isel(at)
        values = np.asarray(one[name].values, float) * factor
        errors = [np.asarray(one[n].values, float) * factor if n in one.variables else None for n in (f"{name}_errors", f"{name}_systematic")]
        style = {"color": COLOURS[colour], "linestyle": _DASHES[mark % len(_DASHES)]}
        if ds.attrs.get("technique") == "echem" and ds[name].ndim == 1 and "source_time" in ds.variables:
            moments, numbers = line(ds, name)
            axis.plot(scale.place(moments), numbers * factor, linewidth=0.9, color=style["color"])
        elif ds[name].attrs.get("sampling") in ("sample", "event"):
            _points(axis, one, values, errors, style["color"], words, scale, _MARKS[mark % len(_MARKS)])
        else:
            _line(axis, one, values, errors, style, words, scale, stepped=ds[name].attrs.get("sampling") == "step")
    axis.set_ylabel("\n".join([*textwrap.wrap(named(name, ds[name]), _WORDS), f"({printed(units)})"]))
    low, high = axis.get_ylim()
    if high - low < _FLAT * abs(high + low):  # what differs in its last digits alone is drawn as the same
        axis.set_ylim(low - 0.01 * abs(low), high + 0.01 * abs(high))
    if axis.get_legend_handles_labels()[1]:
        axis.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=TYPE, frameon=False, handlelength=1.4, borderaxespad=0.2)


def _points(axis: Any, ds: xr.Dataset, values: np.ndarray, errors: list[Any], colour: str, words: str, scale: TimeAxis, mark: str = "o") -> None:
    t, half = nanoseconds(ds), _half(ds)
    place = scale.place(t)
    across = scale.place(t + half) - place
    statistical, systematic = errors
    if systematic is not None:
        total = np.hypot(systematic, 0.0 if statistical is None else statistical)
        axis.errorbar(place, values, yerr=total, fmt="none", ecolor=colour, alpha=0.35, elinewidth=2.2)
    axis.errorbar(
        place,
        values,
        yerr=statistical,
        xerr=across if (across > 0).any() else None,
        fmt=mark,
        markersize=2.5,
        markerfacecolor=colour if mark == "o" else "white",
        markeredgewidth=0.7,
        color=colour,
        elinewidth=0.7,
        label=words or None,
    )


def _line(
    axis: Any, ds: xr.Dataset, values: np.ndarray, errors: list[Any], style: dict[str, str], words: str, scale: TimeAxis, *, stepped: bool
) -> None:
    """Draw a line with its bands, broken where frames are missing."""
    t = nanoseconds(ds)
    step = np.diff(t)
    breaks = np.flatnonzero((step > HOLD * usual_spacing(t)) | (step < 0)) + 1 if t.size > 2 else np.empty(0, int)
    keep = _thinned(values, breaks)
    place = np.insert(scale.place(t[keep]), np.searchsorted(keep, breaks), np.nan)
    statistical, systematic = [None if e is None else np.insert(e[keep], np.searchsorted(keep, breaks), np.nan) for e in errors]
    shown = np.insert(values[keep], np.searchsorted(keep, breaks), np.nan)
    marks = {"marker": "o", "markersize": 1.6} if t.size <= _SHOWN and not stepped else {}
    band: dict[str, Any] = {"color": style["color"], "linewidth": 0, "step": "post" if stepped else None}
    if systematic is not None:
        total = np.hypot(systematic, 0.0 if statistical is None else statistical)
        axis.fill_between(place, shown - total, shown + total, alpha=0.18, **band)
    if statistical is not None:
        axis.fill_between(place, shown - statistical, shown + statistical, alpha=0.4, **band)
    drawstyle = "steps-post" if stepped else "default"
    axis.plot(place, shown, linewidth=0.9, drawstyle=drawstyle, label=words or None, **style, **marks)
    alone = np.isfinite(shown) & np.isnan(np.append(np.nan, shown[:-1])) & np.isnan(np.append(shown[1:], np.nan))
    if alone.any() and not marks:  # a value between two gaps is no line
        axis.plot(place[alone], shown[alone], ".", markersize=2, color=style["color"])


def _thinned(values: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Give the places of the lowest and highest value of each stretch of points, and both sides of each gap."""
    n = values.size
    if n <= _MOST:
        return np.arange(n)
    size = -(-n // (_MOST // 2))
    starts = np.arange(0, n, size)
    padded = np.pad(values, (0, starts.size * size - n), constant_values=np.nan).reshape(-1, size)
    low = starts + np.argmin(np.where(np.isnan(padded), np.inf, padded), axis=1)
    high = starts + np.argmax(np.where(np.isnan(padded), -np.inf, padded), axis=1)
    return np.unique(np.concatenate([[0, n - 1], low, high, breaks, breaks - 1]).clip(0, n - 1))
