"""`operando`: the classic figure. Maps of a cell's techniques side by side, and its voltage and current beside them, on one true time axis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.contract.techniques import TECHNIQUES
from operando.figures import bands as lie
from operando.figures.electrochemistry import capacities, line
from operando.figures.labels import named, printed, readable
from operando.figures.style import TYPE, plain, sheet
from operando.figures.times import TimeAxis, nanoseconds, time_axis
from operando.figures.waterfalls import colour_bar, draw, notes, on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POSITION = re.compile(r"(?P<name>[^\[\]]+)\[position=(?P<position>[^\[\]]+)\]")
_NAMED = 12  # more half cycles than this are marked, but not named
_NARROW = 5.0  # inches; below, a third of a map is too little for the numbers on an axis
_CHOICES = ("signal", "axis", "x_range", "position", "normalise", "hold", "limits", "cmap")


def operando(
    bt: xr.DataTree,
    cell: str | None = None,
    *,
    series: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    channels: Sequence[str] = ("voltage", "current"),
    elapsed: bool = False,
    time_range: tuple[Any, Any] | None = None,
    timezone: str = "UTC",
    half_cycles: bool = True,
    width: str | float = "double",
    height: float = 120.0,
) -> Figure:
    """Draw what was measured on a cell beside its electrochemistry, time running upwards on one axis for all.

    Every frame stands at its own true time; where an instrument, or the cycler, measured nothing, nothing is drawn.

    Parameters
    ----------
    bt
        What `open_beamtime` gives.
    cell
        Which cell; may be left out where there is one.
    series
        Which of its series, such as `["xrd", "raman[position=2]"]`, or with what `waterfall` can be told of each:
        `{"xrd": {"x_range": (2.0, 2.1), "normalise": "monitor"}, "xas": {}}`. By default all that have spectra.
    channels
        Of the electrochemistry, one column each; such as `voltage`, `current`, `potential_we`, `charge`, `soc`.
    elapsed
        Time since the first thing drawn instead of date and time.
    time_range
        First and last moment to draw, in UTC, as numpy reads them; by default from the first frame or record to the last.
    timezone
        Zone of the labels; never the computer's own.
    half_cycles
        Mark where half cycles begin, and say how much charge each moved.
    width, height
        `single` (89 mm), `double` (183 mm) or mm; mm.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.

    Raises
    ------
    ContractError
        No such cell, series or channel; the message says which there are.
    ClockError
        An unknown zone.

    Examples
    --------
    >>> figure = operando(bt, "A", series={"xrd": {"x_range": (1.8, 2.2)}}, timezone="Europe/Paris")   # doctest: +SKIP
    """
    cell = cell_of(bt, cell)
    chosen = _chosen(bt, cell, series)
    echem = electrochemistry(bt, cell)
    present = [name for name in channels if echem is not None and name in echem.variables]
    if echem is not None and len(present) < len(channels):
        known = ", ".join(str(k) for k, v in echem.variables.items() if v.dims == ("time",) and v.dtype.kind in "iuf" and k != "time")
        raise ContractError("no such channel", file=f"{cell}/echem", found=", ".join(sorted(set(channels) - set(present))), expected=known)
    laid = {name: lie.in_time(ds, lie.at_position(ds, how.get("position"))[0], how.get("hold", lie.HOLD)) for name, (ds, how) in chosen.items()}
    begin, stop = _ends(laid, echem if present else None, time_range)
    laid = {name: _within(f"{cell}/{name}", bands, begin, stop) for name, bands in laid.items()}
    scale = time_axis([ds for ds, _ in chosen.values()] + ([echem] if echem is not None else []), begin, stop, elapsed=elapsed, timezone=timezone)
    figure = sheet(width, height)
    ratios = [3.0] * len(chosen) + [1.5 if figure.get_figwidth() < _NARROW else 1.0] * len(present)
    axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False, gridspec_kw={"width_ratios": ratios})[0]
    for axis, (name, (ds, how)) in zip(axes, chosen.items(), strict=False):
        _map(figure, axis, name, ds, how, on(laid[name], scale))
    for axis, name in zip(axes[len(chosen) :], present, strict=True):
        _channel(axis, echem, name, scale)
    if echem is not None and half_cycles:
        _half_cycles(axes, echem, scale, len(chosen), (begin, stop))
    axes[0].set_ylim(*scale.place([begin, stop]))
    scale.dress(axes[0].yaxis)
    for axis in axes[: len(chosen)]:
        plain(axis, open_=False)
    axes[0].yaxis.label.set_size(TYPE)
    return figure


def cell_of(bt: xr.DataTree, cell: str | None) -> str:
    """Give the cell asked for, or the only one."""
    cells = list(bt.children)
    if cell is None and len(cells) == 1:
        return cells[0]
    if cell not in cells:
        problem = "which cell?" if cell is None else "no such cell"
        raise ContractError(problem, found=repr(cell), expected=", ".join(cells) or "a tree of open_beamtime with a cell")
    return str(cell)


def electrochemistry(bt: xr.DataTree, cell: str) -> xr.Dataset | None:
    """Give the electrochemistry of a cell; None where there is none yet."""
    for node in bt[cell].children.values():
        if "frames" in node.children and node["frames"].attrs.get("technique") == "echem":
            return node["frames"].to_dataset()
    return None


def _chosen(
    bt: xr.DataTree, cell: str, series: Sequence[str] | Mapping[str, Mapping[str, Any]] | None
) -> dict[str, tuple[xr.Dataset, dict[str, Any]]]:
    """Give the frames of each series to draw, and how."""
    there = {str(name): node["frames"] for name, node in bt[cell].children.items() if "frames" in node.children}
    spectral = [name for name, node in there.items() if _is_spectral(node.to_dataset())]
    if series is None:  # in the order in which the contract names the techniques, not in that of the alphabet
        techniques = list(TECHNIQUES)
        series = sorted(spectral, key=lambda name: techniques.index(str(there[name].attrs["technique"])))
    given = [series] if isinstance(series, str) else list(series)
    out: dict[str, tuple[xr.Dataset, dict[str, Any]]] = {}
    for text in given:
        how = dict(series[text]) if isinstance(series, Mapping) else {}
        match = _POSITION.fullmatch(text)
        name = match["name"] if match else text
        if match:
            how["position"] = match["position"]
        if name not in there:
            raise ContractError("no such series", file=cell, found=repr(text), expected=", ".join(spectral) or "a series with spectra")
        if unknown := sorted(set(how) - set(_CHOICES)):
            raise ContractError("not something a map can be told", file=f"{cell}/{name}", found=", ".join(unknown), expected=", ".join(_CHOICES))
        out[text] = (there[name].to_dataset(), how)
    if not out and electrochemistry(bt, cell) is None:
        raise ContractError("nothing to draw: no spectra and no electrochemistry", file=cell, found=", ".join(there) or "no series")
    return out


def _is_spectral(ds: xr.Dataset) -> bool:
    technique = TECHNIQUES.get(str(ds.attrs.get("technique")))
    return technique is not None and any(
        name in ds.data_vars and ds[name].ndim == 2 and ds[name].dims[1] in technique.axis and ds[name].dtype.kind in "iuf"
        for name in technique.signals
    )


def _ends(laid: Mapping[str, lie.Bands], echem: xr.Dataset | None, time_range: tuple[Any, Any] | None) -> tuple[int, int]:
    """Give the first and the last nanosecond of the axis."""
    if time_range is not None:
        first, last = (int(np.datetime64(moment, "ns").astype(np.int64)) for moment in time_range)
        if not last > first:
            raise ContractError("time_range does not go forward", found=time_range, expected="(first moment, last moment)")
        return first, last
    starts, stops = [int(b.begin[0]) for b in laid.values()], [int(b.stop.max()) for b in laid.values()]
    if echem is not None and echem.sizes["time"]:
        t = nanoseconds(echem)
        starts, stops = [*starts, int(t.min())], [*stops, int(t.max())]
    return min(starts), max(max(stops), min(starts) + 1)


def _within(name: str, bands: lie.Bands, begin: int, stop: int) -> lie.Bands:
    """Leave out the frames that end before, or begin after, what is drawn: they are not read."""
    seen = (bands.stop > begin) & (bands.begin < stop)
    if not seen.any():
        span = " to ".join(str(np.datetime64(int(t), "ns").astype("M8[s]")) for t in (bands.begin[0], bands.stop[-1]))
        raise ContractError("no frame in time_range", file=name, found=f"frames of {span} UTC", hint="leave this series out, or draw another stretch")
    return bands.only(seen)


def _map(figure: Figure, axis: Any, name: str, ds: xr.Dataset, how: Mapping[str, Any], bands: lie.Bands) -> None:
    words = lie.at_position(ds, how.get("position"))[1]
    choice = {key: how.get(key) for key in ("signal", "axis", "x_range", "normalise")}
    drawn, image, beyond = draw(axis, ds, bands, "up", how.get("cmap", "viridis"), how.get("limits"), **choice)
    bar = figure.colorbar(image, ax=axis, location="top", extend=beyond, pad=0.01, aspect=30, fraction=0.05)
    colour_bar(bar, drawn.label)
    told = notes(words, bands, drawn)
    bar.ax.set_title(name.partition("[")[0] + (f"; {told}" if told else ""), fontsize=TYPE + 1)


def _channel(axis: Any, echem: xr.Dataset | None, name: str, scale: TimeAxis) -> None:
    from matplotlib.ticker import MaxNLocator

    assert echem is not None
    moments, values = line(echem, name)
    factor, units = readable(values, str(echem[name].attrs.get("units", "?")))
    axis.plot(values * factor, scale.place(moments), color="black", linewidth=0.7)
    axis.set_xlabel(f"{named(name, echem[name])}\n({printed(units)})")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=2, min_n_ticks=2))
    axis.margins(x=0.08)
    plain(axis)
    if name == "current":
        axis.axvline(0.0, color="0.7", linewidth=0.5, zorder=0)


def _half_cycles(axes: Sequence[Any], echem: xr.Dataset, scale: TimeAxis, maps: int, ends: tuple[int, int]) -> None:
    found = [one for one in capacities(echem) if one[1] >= ends[0] and one[0] <= ends[1]]
    for i, axis in enumerate(axes):
        for first, _, _ in found[1:]:
            axis.axhline(scale.place(first), color="white" if i < maps else "0.6", linewidth=0.6, linestyle=(0, (4, 2)), zorder=1 if i >= maps else 3)
    if len(found) <= _NAMED:
        for first, last, words in found:
            middle = scale.place((max(first, ends[0]) + min(last, ends[1])) // 2)
            axes[-1].text(1.04, middle, words, transform=axes[-1].get_yaxis_transform(), va="center", fontsize=TYPE, color="0.25")
