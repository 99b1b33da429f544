"""`refinement`: one diffraction pattern with what was fitted to it, and what is left over in units of its uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from operando.contract.errors import ContractError
from operando.figures.labels import printed
from operando.figures.style import COLOURS, TYPE, plain, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refinement(
    frames: xr.Dataset,
    reduced: xr.Dataset,
    frame: int = 0,
    *,
    observables: xr.Dataset | None = None,
    root: bool = False,
    width: str | float = "double",
    height: float = 100.0,
) -> Figure:
    """Draw one pattern, the fit to it and the difference.

    Parameters
    ----------
    frames
        `intensity` (time, q), such as `bt["A/xrd/frames"].ds`.
    reduced
        `intensity_calculated` and `background` of the same frames, `bt["A/xrd/reduced"].ds`.
    frame
        Number of the frame.
    observables
        Of the same frames: fractions, each with its statistical and its systematic uncertainty, and the R factor are written beside the pattern.
    root
        Square root of the intensity, which shows weak lines as clearly as strong ones.
    width, height
        `single`, `double` or mm; mm.

    Returns
    -------
    matplotlib.figure.Figure
        Not shown; `save` writes it.

    Raises
    ------
    ContractError
        No fit of these frames, or no such frame.
    """
    if "intensity_calculated" not in reduced.variables or "intensity" not in frames.variables:
        raise ContractError("there is no fit to draw", found=", ".join(map(str, reduced.data_vars)), expected="intensity and intensity_calculated")
    n = reduced.sizes["time"]
    if frames.sizes["time"] != n:
        raise ContractError("the fits are of other frames", found=f"{n} fits of {frames.sizes['time']} frames")
    if not -n <= frame < n:
        raise ContractError("there is no such frame", found=frame, expected=f"0 to {n - 1}")
    axis_name = next(str(d) for d in reduced["intensity_calculated"].dims if d != "time")
    x, label = np.asarray(frames[axis_name].values, float), f"{axis_name} ({printed(str(frames[axis_name].attrs.get('units', '1')))})"
    if "two_theta" in frames.variables and frames["two_theta"].dims == (axis_name,):
        x, label = np.asarray(frames["two_theta"].values, float), "2θ (°)"
    seen = np.asarray(frames["intensity"].isel(time=frame).values, float)
    model, under = (np.asarray(reduced[name].isel(time=frame).values, float) for name in ("intensity_calculated", "background"))
    there = np.isfinite(model)
    figure = sheet(width, height)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1.0])
    shape = (lambda y: np.sqrt(np.maximum(y, 0.0))) if root else (lambda y: y)
    top.plot(x, shape(seen), ".", color="0.35", markersize=1.6, label="observed")
    top.plot(x, shape(model), color=COLOURS[1], linewidth=0.9, label="calculated")
    top.plot(x, shape(under), color=COLOURS[0], linewidth=0.7, label="background")
    sigma = np.sqrt(np.maximum(seen, 1.0))
    if "intensity_errors" in frames.variables:
        sigma = np.asarray(frames["intensity_errors"].isel(time=frame).values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        below.plot(x, (seen - model) / sigma, color="0.2", linewidth=0.6)
    below.axhline(0.0, color="grey", linewidth=0.4)
    units = printed(str(frames["intensity"].attrs.get("units", "1")))
    top.set_ylabel(f"√intensity (√{units})" if root else f"intensity ({units})")
    below.set_ylabel("difference\n(σ)")
    below.set_xlabel(label)
    if there.any():
        below.set_xlim(float(x[there].min()), float(x[there].max()))
        top.set_ylim(None, 1.05 * float(np.nanmax(shape(seen[there]))))
    else:
        top.text(0.5, 0.5, "not fitted", transform=top.transAxes, ha="center")
    title = [str(np.datetime_as_string(frames["time"].values[frame], unit="s")).replace("T", " ") + " UTC"]
    if observables is not None:
        title += _said(observables.isel(time=frame))
    top.legend(loc="upper right", fontsize=TYPE, frameon=False, title="\n".join(title), title_fontsize=TYPE, alignment="left")
    for axis in (top, below):
        plain(axis)
    figure.align_ylabels([top, below])
    return figure


def _said(one: xr.Dataset) -> list[str]:
    """Fractions with their uncertainties, and how good the fit is."""
    lines = []
    if "phase_fraction" in one.variables:
        for name in one["phase"].values:
            part = one.sel(phase=name)
            value, error, wide = (100 * float(part.get(f"phase_fraction{s}", np.nan)) for s in ("", "_errors", "_systematic"))
            if np.isfinite(value):
                lines.append(f"{name}: {value:.2f} ± {error:.2f}{f' ± {wide:.2f}' if np.isfinite(wide) else ''} wt %")
    if "rwp" in one.variables:
        lines.append(f"R$_{{wp}}$ {100 * float(one['rwp']):.2f} %, goodness of fit {float(one['goodness_of_fit']):.2f}")
    return lines
