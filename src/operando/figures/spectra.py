"""`impedance`: sweeps as Nyquist and Bode plots with what was fitted to them, and their relaxation times, coloured by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.figures.style import TYPE, plain, sheet
from operando.figures.times import nanoseconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8  # sweeps that are drawn where none are named
_HOUR = 3600e9


def impedance(
    frames: xr.Dataset,
    reduced: xr.Dataset | None = None,
    *,
    sweeps: Sequence[int] | None = None,
    electrode: str | None = None,
    width: str | float = "double",
    height: float = 110.0,
) -> Figure:
    """Draw impedance sweeps.

    Parameters
    ----------
    frames
        `impedance` (time, point[, electrode]) ohm with `frequency` Hz, such as `bt["A/eis/frames"].ds`.
    reduced
        What the reducer gave beside it, `bt["A/eis/reduced"].ds`: the fit is drawn as a line through the points, and the distribution of relaxation
        times with its 95 % band below.
    sweeps
        Numbers of the sweeps; by default eight spread over the series.
    electrode
        Which one, where there are several; default: the first.
    width, height
        `single`, `double` or mm; mm.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.

    Raises
    ------
    ContractError
        No impedance, a sweep or an electrode that is not there.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if "impedance" not in frames.variables or "frequency" not in frames.variables:
        raise ContractError("there is no impedance to draw", found=", ".join(map(str, frames.variables)), expected="impedance and frequency")
    n = frames.sizes["time"]
    chosen = list(sweeps) if sweeps is not None else np.unique(np.linspace(0, n - 1, min(MOST, n)).round().astype(int)).tolist()
    wrong = [k for k in chosen if not -n <= k < n]
    if wrong or not chosen:
        raise ContractError("there is no such sweep", found=wrong[0] if wrong else "none named", expected=f"0 to {n - 1}")
    frames, which = _of(frames, electrode)
    reduced = None if reduced is None else _of(reduced, electrode)[0]
    hours = (nanoseconds(frames) - nanoseconds(frames).min()) / _HOUR
    span = float(np.ptp(hours[chosen])) or 1.0
    figure = sheet(width, height)
    has_drt = reduced is not None and "drt" in reduced.variables
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1.0], height_ratios=[1.0, 1.0])
    nyquist = figure.add_subplot(grid[:, 0] if not has_drt else grid[0, 0])
    modulus = figure.add_subplot(grid[0, 1])
    phase = figure.add_subplot(grid[1, 1], sharex=modulus)
    relaxation = figure.add_subplot(grid[1, 0]) if has_drt else None
    for k in chosen:
        colour = colormaps["viridis"](0.9 * (hours[k] - hours[chosen[0]]) / span)
        f, z = np.asarray(frames["frequency"].values[k], float), np.asarray(frames["impedance"].values[k])
        marks: dict[str, Any] = {"color": colour, "linestyle": "none", "marker": "o", "markersize": 2.0, "markeredgewidth": 0}
        nyquist.plot(z.real, -z.imag, **marks)
        modulus.plot(f, np.abs(z), **marks)
        phase.plot(f, np.degrees(np.angle(z)), **marks)
        if reduced is not None and "impedance_fit" in reduced.variables:
            fit = np.asarray(reduced["impedance_fit"].values[k])
            line: dict[str, Any] = {"color": colour, "linewidth": 0.8}
            nyquist.plot(fit.real, -fit.imag, **line)
            modulus.plot(f, np.abs(fit), **line)
            phase.plot(f, np.degrees(np.angle(fit)), **line)
        if relaxation is not None and reduced is not None:
            tau = np.asarray(reduced["tau"].values, float)
            relaxation.fill_between(
                tau, np.asarray(reduced["drt_low"].values[k]), np.asarray(reduced["drt_high"].values[k]), color=colour, alpha=0.2, linewidth=0
            )
            relaxation.plot(tau, np.asarray(reduced["drt"].values[k]), color=colour, linewidth=0.8)
    nyquist.set_aspect("equal", adjustable="datalim")
    nyquist.set_xlabel("Re Z (Ω)")
    nyquist.set_ylabel("−Im Z (Ω)")
    nyquist.axhline(0.0, color="grey", linewidth=0.4)
    norm = Normalize(0.0, span / 0.9)
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=nyquist, location="top", shrink=0.6, aspect=30)
    bar.ax.set_xlim(0.0, span)
    bar.set_label("time since the first sweep drawn (h)", size=TYPE)
    bar.ax.tick_params(labelsize=TYPE - 1, width=0.5, length=2)
    modulus.set_xscale("log")
    modulus.set_yscale("log")
    modulus.set_ylabel("|Z| (Ω)")
    modulus.tick_params(labelbottom=False)
    phase.set_ylabel("phase (deg)")
    phase.set_xlabel("frequency (Hz)")
    axes = [nyquist, modulus, phase]
    if relaxation is not None:
        relaxation.set_xscale("log")
        relaxation.set_xlabel("relaxation time (s)")
        relaxation.set_ylabel("distribution (Ω)")
        highest = max((float(np.nanmax(line.get_ydata(), initial=0.0)) for line in relaxation.lines), default=0.0)
        relaxation.set_ylim(0.0, 1.6 * highest if highest > 0 else None)  # a band that knows nothing does not rule the picture
        axes.append(relaxation)
    for axis in axes:
        plain(axis)
        axis.tick_params(which="minor", labelsize=TYPE - 1, width=0.4, length=1.5)
    if which:
        figure.suptitle(f"electrode {which}", fontsize=TYPE + 1)
    return figure


def _of(ds: xr.Dataset, electrode: str | None) -> tuple[xr.Dataset, str]:
    """Choose an electrode; the name is empty where there is but one."""
    if "electrode" not in ds.dims:
        if electrode is not None:
            raise ContractError("the sweeps have no electrodes", found=electrode, expected="none named: they are those of the cell")
        return ds, ""
    there = [str(name) for name in ds["electrode"].values]
    wanted = electrode or there[0]
    if wanted not in there:
        raise ContractError("there is no such electrode", found=wanted, expected=", ".join(there))
    return ds.isel(electrode=there.index(wanted)), wanted
