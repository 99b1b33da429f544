"""The stage `pdf-components`: a series of G(r) against a reference frame, as a mixture of standards, or of components found in it.

All three are linear in G(r), which is additive over the parts of a sample in proportion to what each scatters: fractions here are of the scattering
power, <f>^2 times the number of atoms, and no weight fractions. Neighbouring points of G(r) say the same within pi / qmax; errors count that.

Components are found by alternating least squares (R. Tauler, Chemom. Intell. Lab. Syst. 30 (1995) 133): weights that are not negative and add up to
1 in each frame, functions of any sign, starting from the frames that lie farthest apart. Where no frame is pure, such components are not unique: they
are the ones nearest to the frames that there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from operando.config import MeasuredFile, Recipe
from operando.contract import ConfigError, ContractError
from operando.reduction.interface import Products, reducer

_ROUNDS = 300


class ComponentsRecipe(Recipe):
    """Settings of the comparison of a series of G(r)."""

    reducer: str = "pdf-components"
    r_range: tuple[float, float] = Field(default=(1.0, 20.0), description="range of r that is compared, angstrom")
    reference: int | MeasuredFile | None = Field(
        default=0, description="frame (from 0; -1: the last) or file with G(r) that is subtracted from every frame; null: none"
    )
    standards: dict[str, MeasuredFile] = Field(default_factory=dict, description="name -> file with G(r) (.gr) of which the frames are mixtures")
    components: int = Field(default=0, ge=0, le=12, description="number of components to find; 0: none")

    @model_validator(mode="after")
    def _fits(self) -> ComponentsRecipe:
        if not 0 <= self.r_range[0] < self.r_range[1]:
            raise ValueError(f"r_range: {self.r_range[0]:g} to {self.r_range[1]:g} is no range (angstrom)")
        if self.components == 1:
            raise ValueError("components: 1 is the mean; 2 are the fewest")
        if self.reference is None and not self.standards and not self.components:
            raise ValueError("nothing to do: reference, standards or components")
        return self


@reducer("pdf-components", technique="pdf", kind="series", reads="reduced", products=("components",), recipe=ComponentsRecipe, version="1")
def reduce_components(reduced: xr.Dataset, recipe: ComponentsRecipe, state: Any = None) -> Products:
    """Compare the frames of a series.

    Parameters
    ----------
    reduced
        `g_r` (time, r), with `g_r_errors` where known.

    Returns
    -------
    Products
        `components`: `difference_g_r` (time, r) and its rms `difference`; `standard_fraction` (time, standard), what each standard is multiplied by,
        `standard_misfit` (rms of what is left over the rms of G(r)); `component_fraction` (time, component), `component_g_r` (component, r),
        `component_misfit`; `explained` (rank): share of the variance about the mean that so many components can explain. Frames without
        G(r) are NaN.

    Raises
    ------
    ConfigError
        A reference that is no frame, a standard without G(r), fewer frames than components.
    ContractError
        The range holds too few points.
    """
    r = np.asarray(reduced["r"].values, float)
    inside = np.flatnonzero((r >= recipe.r_range[0]) & (r <= recipe.r_range[1]))
    if inside.size < 8:
        raise ContractError("r_range: holds fewer than eight points", found=f"r from {r[0]:g} to {r[-1]:g} angstrom")
    r = r[inside]
    g = np.asarray(reduced["g_r"].isel(r=inside).transpose("time", "r").values, float)
    sigma = np.asarray(reduced["g_r_errors"].isel(r=inside).transpose("time", "r").values, float) if "g_r_errors" in reduced else None
    good = np.flatnonzero(np.isfinite(g).all(axis=1))
    most = reduced.attrs.get("q_max")
    together = max(1.0, np.pi / float(most) / float(np.median(np.diff(r)))) if most else 1.0
    out = _Table(reduced)
    if recipe.reference is not None:
        _difference(out, g, sigma, r, recipe.reference, reduced, together)
    if recipe.standards:
        names = list(recipe.standards)
        design = np.stack([_standard(one, reduced, r) for one in recipe.standards.values()])
        fractions, errors, misfit = _mixed(g, good, design, together)
        out.add("standard_fraction", fractions, "1", "what each standard is multiplied by", errors, ("time", "standard"))
        out.add("standard_misfit", misfit, "1", "rms of what the standards leave over that of G(r)")
        out.coords["standard"] = ("standard", np.array(names, dtype=object), {"long_name": "standard"})
    if recipe.components:
        _components(out, g, good, recipe.components)
    if recipe.components or recipe.reference is not None:
        out.coords["r"] = ("r", r, {"units": "angstrom", "long_name": "distance"})
    return Products({"components": xr.Dataset(out.variables, out.coords, {"r_min": float(r[0]), "r_max": float(r[-1])})})


class _Table:
    """Variables in the making."""

    def __init__(self, reduced: xr.Dataset) -> None:
        self.variables: dict[str, tuple[Any, ...]] = {}
        self.coords: dict[str, Any] = {"time": reduced["time"].variable}

    def add(self, name: str, values: np.ndarray, unit: str, words: str, errors: np.ndarray | None = None, dims: tuple[str, ...] = ("time",)) -> None:
        attrs: dict[str, Any] = {"units": unit, "long_name": words, **({"sampling": "continuous"} if dims[0] == "time" else {})}
        if errors is not None:
            attrs["ancillary_variables"] = f"{name}_errors"
            self.variables[f"{name}_errors"] = (dims, errors, {"units": unit, "long_name": f"1 sigma of {words}"})
        self.variables[name] = (dims, values, attrs)


def _difference(
    out: _Table, g: np.ndarray, sigma: np.ndarray | None, r: np.ndarray, reference: int | MeasuredFile, reduced: xr.Dataset, together: float
) -> None:
    if isinstance(reference, MeasuredFile):
        other, its = _standard(reference, reduced, r), None
    else:
        if not -len(g) <= reference < len(g):
            raise ConfigError("reference: is no frame of the series", found=str(reference), expected=f"0 to {len(g) - 1}, or -1 for the last")
        other, its = g[reference], None if sigma is None else sigma[reference]
        if not np.isfinite(other).all():
            raise ConfigError("reference: the frame has no G(r)", found=str(reference), hint="choose one with beam")
    change = g - other
    errors = None if sigma is None else np.sqrt(sigma**2 + (0.0 if its is None else its**2))
    if errors is not None and its is not None and isinstance(reference, int):
        errors[reference] = 0.0  # the same frame
    out.add("difference_g_r", change.astype(np.float32), "1/angstrom^2", "G(r) less that of the reference", errors, ("time", "r"))
    rms = np.sqrt(np.mean(change**2, axis=1))
    noise = None if errors is None else np.sqrt(np.mean(errors**2, axis=1) * together / r.size)
    out.add("difference", rms, "1/angstrom^2", "rms of G(r) less that of the reference", noise)


def _standard(one: MeasuredFile, reduced: xr.Dataset, r: np.ndarray) -> np.ndarray:
    """G(r) of a file on the frames' r."""
    ds = one.series(reduced)
    if "g_r" not in ds or ds["g_r"].attrs.get("units") != "1/angstrom^2":
        raise ConfigError("a standard holds no G(r) in 1/angstrom^2", file=one.file, found=", ".join(map(str, ds.data_vars)), hint="loader: pdf-gr")
    grid, values = np.asarray(ds["r"].values, float), np.asarray(ds["g_r"].values, float).mean(axis=0)
    slack = float(np.median(np.diff(grid)))
    if grid[0] > r[0] + slack or grid[-1] < r[-1] - slack:
        raise ConfigError(
            "a standard does not cover r_range", file=one.file, found=f"{grid[0]:g} to {grid[-1]:g} angstrom", expected=f"{r[0]:g} to {r[-1]:g}"
        )
    return np.interp(r, grid, values)


def _mixed(g: np.ndarray, good: np.ndarray, design: np.ndarray, together: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit every frame with standards that do not go below zero; errors from what is left over, as if no bound were there."""
    from scipy.optimize import nnls

    n = len(design)
    if np.linalg.matrix_rank(design) < n:
        raise ConfigError("two standards are the same, or one is a mixture of others", hint="leave one out")
    inverse = np.linalg.inv(design @ design.T)
    fractions, errors, misfit = np.full((len(g), n), np.nan), np.full((len(g), n), np.nan), np.full(len(g), np.nan)
    free = max(design.shape[1] / together - n, 1.0)
    for k in good:
        fractions[k], _ = nnls(design.T, g[k])
        left = g[k] - fractions[k] @ design
        errors[k] = np.sqrt(np.diag(inverse) * (left @ left) / free)  # free: points that say different things
        size = float(np.sqrt(np.mean(g[k] ** 2)))
        misfit[k] = np.sqrt(np.mean(left**2)) / size if size > 0 else np.nan
    return fractions, errors, misfit


def _components(out: _Table, g: np.ndarray, good: np.ndarray, n: int) -> None:
    if good.size < n:
        raise ConfigError(f"{n} components cannot be found in {good.size} frames with G(r)", hint="components: fewer")
    data = g[good]
    values = np.linalg.svd(data - data.mean(axis=0), compute_uv=False)[: 2 * n] ** 2
    total = float(np.sum((data - data.mean(axis=0)) ** 2))
    weights, functions = _alternate(data, n)
    fractions = np.full((len(g), n), np.nan)
    fractions[good] = weights
    misfit = np.full(len(g), np.nan)
    size = np.sqrt(np.mean(data**2, axis=1))
    misfit[good] = np.sqrt(np.mean((data - weights @ functions) ** 2, axis=1)) / np.where(size > 0, size, np.nan)
    out.add("component_fraction", fractions, "1", "share of each component", None, ("time", "component"))
    out.add("component_misfit", misfit, "1", "rms of what the components leave over that of G(r)")
    out.add("component_g_r", functions.astype(np.float32), "1/angstrom^2", "G(r) of the component", None, ("component", "r"))
    out.add("explained", np.cumsum(values) / total if total > 0 else np.full(values.size, np.nan), "1", "share of the variance", None, ("rank",))
    out.coords["component"] = ("component", np.arange(1, n + 1), {"units": "1", "long_name": "number of the component"})
    out.coords["rank"] = ("rank", np.arange(2, values.size + 2), {"units": "1", "long_name": "number of components"})


def _corners(data: np.ndarray, n: int) -> np.ndarray:
    """Choose the frames that lie farthest apart: the first from the mean, each next from the span of those before."""
    chosen = [int(np.argmax(np.sum((data - data.mean(axis=0)) ** 2, axis=1)))]
    left = data - data[chosen[0]]
    for _ in range(n - 1):
        far = int(np.argmax(np.sum(left**2, axis=1)))
        chosen.append(far)
        length = np.linalg.norm(left[far])
        if length > 0:
            along = left[far] / length
            left = left - np.outer(left @ along, along)
    return np.array(chosen)


def _alternate(data: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Alternate least squares of weights (not negative, adding up to 1) and functions until nothing changes; components in order of appearance."""
    from scipy.optimize import nnls

    functions = data[_corners(data, n)]
    heavy = 1e3 * float(np.sqrt(np.mean(data**2)) or 1.0) * np.sqrt(data.shape[1])
    before = np.inf
    weights = np.zeros((len(data), n))
    for _ in range(_ROUNDS):
        design = np.vstack([functions.T, np.full((1, n), heavy)])
        weights = np.stack([nnls(design, np.append(row, heavy))[0] for row in data])
        functions = np.linalg.lstsq(weights, data, rcond=None)[0]
        cost = float(np.sum((data - weights @ functions) ** 2))
        if before - cost <= 1e-9 * max(before, 1e-300):
            break
        before = cost
    order = np.argsort(np.argmax(weights, axis=0), kind="stable")
    return weights[:, order], functions[order]
