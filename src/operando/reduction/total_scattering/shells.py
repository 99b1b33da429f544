"""The stage `pdf-shells`: distance, width and area of the first shell, how strong the structure is far out and how far it reaches, of every frame.

A shell of pairs at distance d with a Gaussian spread sigma is, in Q, F(Q) = (N / d) exp(-Q^2 sigma^2 / 2) sin(Q d), and what G(r) shows of it is
the transform of that from qmin to qmax, ripples and all. This is what is fitted, so that distance and width are those of the pairs and not of their
peak, which the finite qmax widens and its neighbours shift. N is the area of the shell in r G(r): for one element, where the scale is absolute
and no background is left in I(Q), the number of neighbours (a third less in patterns that hold some). Where the recipe names the `pair` of
elements, F(Q) is multiplied by what that pair weighs, c_i f_i f_j / <f>^2
(twice for unlike atoms), which narrows or widens its peak, and N is the number of j around an i. Shells near by, whose tails and ripples reach into
the first, are fitted along where `neighbours` names their distances. Under all of it lies a slow odd curve, a r + b r^3: -4 pi density r, what is
left of it in a particle, and the feet of other shells.

Errors are statistical: what a wrong window or an overlapping shell shifts is not in them. They come from F(Q), whose channels are independent,
through the same linear equations; where only G(r) is known, from its errors, correlated over pi / qmax.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field, model_validator

from operando.config import Recipe
from operando.contract import ConfigError, ContractError
from operando.reduction.interface import Products, reducer
from operando.reduction.total_scattering.operator import trapezoid
from operando.reduction.total_scattering.scattering_factors import pair_weight, parse_composition

_STEPS = 30
_BEHIND = 3.0
"""angstrom: where the decay is followed from where no first shell is named."""


class ShellsRecipe(Recipe):
    """Settings of what is read off G(r)."""

    reducer: str = "pdf-shells"
    first_shell: tuple[float, float] | None = Field(
        default=None, description="range of r in angstrom that holds the first shell and no other; default: about the first strong peak of each frame"
    )
    pair: str | None = Field(
        default=None, description="elements of the first shell, for example Ni-O: the second around the first; default: all alike"
    )
    neighbours: list[float] = Field(
        default_factory=list, max_length=6, description="distances of the next shells, angstrom, about: they are fitted beside the first"
    )
    width: float = Field(default=0.1, gt=0, lt=2, description="spread of the distances to start from, angstrom")
    long_range: tuple[float, float] = Field(default=(10.0, 20.0), description="range of r over which the amplitude far out is taken, angstrom")
    coherence: tuple[float, float] | None = Field(
        default=None, description="range of r over which the decay is followed, angstrom; default: from the end of first_shell (or 3) to the last r"
    )
    period: float = Field(
        default=4.0, gt=0, description="length over which the amplitude is averaged to follow its decay, angstrom: a cell edge or so"
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> ShellsRecipe:
        for name in ("first_shell", "long_range", "coherence"):
            given = getattr(self, name)
            if given is not None and not 0 <= given[0] < given[1]:
                raise ValueError(f"{name}: {given[0]:g} to {given[1]:g} is no range of r (angstrom)")
        if self.pair is not None and not re.fullmatch("[A-Z][a-z]?-[A-Z][a-z]?", self.pair):
            raise ValueError(f"pair: {self.pair!r} is no pair of elements, such as Ni-O")
        if any(d <= 0 for d in self.neighbours) or (self.first_shell and any(d <= self.first_shell[1] for d in self.neighbours)):
            raise ValueError("neighbours: must lie behind the first shell (angstrom)")
        return self


@reducer("pdf-shells", technique="pdf", kind="frame", reads="reduced", products=("observables",), recipe=ShellsRecipe, version="1")
def reduce_shells(reduced: xr.Dataset, recipe: ShellsRecipe, state: Any = None) -> Products:
    """Read the first shell and the decay off G(r).

    Parameters
    ----------
    reduced
        `g_r` (time, r) and, from the stage `total-scattering`, `f_q` (time, q) with their errors.

    Returns
    -------
    Products
        `observables`: `first_shell_distance` (angstrom), `first_shell_sigma` (spread of the distances, angstrom, without what qmax adds),
        `first_shell_area` (N), `first_shell_misfit` (rms of what is left over the height of the peak), `long_range_amplitude` (rms of G(r) over
        `long_range`, 1/angstrom^2), `coherence_length` (r over which the amplitude falls by e, angstrom, from an exponential; NaN where it does not
        fall), each with errors where G(r) or F(Q) have them. A frame without G(r), or whose fit leaves the range, is NaN.

    Raises
    ------
    ContractError
        The ranges hold too few points, or no qmax is known.
    """
    r, q = np.asarray(reduced["r"].values, float), _grid(reduced)
    g = np.asarray(reduced["g_r"].transpose("time", "r").values, float)
    far = _inside(r, recipe.long_range, "long_range")
    weights = 2.0 / np.pi * trapezoid(q) * (np.sinc(q / q[-1]) if reduced.attrs.get("window") == "lorch" else 1.0)
    f_errors = np.asarray(reduced["f_q_errors"].transpose("time", "q").values, float) if "f_q_errors" in reduced else None
    g_errors = np.asarray(reduced["g_r_errors"].transpose("time", "r").values, float) if "g_r_errors" in reduced else None
    weight = _weight(reduced, recipe, q)
    shells = np.full((len(g), 4), np.nan)
    spread = np.full((len(g), 3), np.nan)
    for k, one in enumerate(g):
        low, high = recipe.first_shell or _first_peak(r, one)
        last = max(recipe.neighbours) + 0.3 if recipe.neighbours else high
        window = np.flatnonzero((r >= low) & (r <= last))
        if not np.isfinite(one).all() or window.size < 8 + 3 * len(recipe.neighbours):
            continue
        first = window[r[window] <= high]
        start = np.array([r[first][np.argmax(one[first])] if first.size else high, *recipe.neighbours])
        fitted = _fit_shells(r[window], one[window], q, weights, weight, start, recipe.width)
        if fitted is None or not low < fitted[0][0] < high:
            continue
        parameters, rows, misfit = fitted
        shells[k] = *parameters, misfit
        spread[k] = _spread(rows, r[window], q, weights, None if f_errors is None else f_errors[k], None if g_errors is None else g_errors[k, window])
    amplitude = np.sqrt(np.mean(g[:, far] ** 2, axis=1))
    known = g_errors is not None or f_errors is not None
    noise = _noise(g_errors, far, r, q)
    behind = recipe.first_shell[1] if recipe.first_shell else _BEHIND
    length, length_errors = _coherence(r, g, g_errors, *(recipe.coherence or (behind, float(r[-1]))), recipe.period)
    out: dict[str, tuple[Any, ...]] = {}
    _add(out, "first_shell_distance", shells[:, 0], spread[:, 0] if known else None, "angstrom", "first-shell distance")
    _add(out, "first_shell_sigma", shells[:, 1], spread[:, 1] if known else None, "angstrom", "first-shell spread")
    _add(out, "first_shell_area", shells[:, 2], spread[:, 2] if known else None, "1", "first-shell area in r G(r)")
    _add(out, "first_shell_misfit", shells[:, 3], None, "1", "first-shell misfit")
    _add(
        out,
        "long_range_amplitude",
        amplitude,
        noise,
        "1/angstrom^2",
        f"rms of G(r), {recipe.long_range[0]:g} to {recipe.long_range[1]:g} angstrom",
    )
    _add(out, "coherence_length", length, length_errors, "angstrom", "coherence length")
    return Products({"observables": xr.Dataset(out, {"time": reduced["time"].variable})})


def _add(out: dict[str, tuple[Any, ...]], name: str, values: np.ndarray, errors: np.ndarray | None, unit: str, words: str) -> None:
    attrs = {"units": unit, "long_name": words, "sampling": "continuous"}
    if errors is not None:
        attrs["ancillary_variables"] = f"{name}_errors"
        out[f"{name}_errors"] = ("time", errors, {"units": unit, "long_name": f"1 sigma of {words}", "sampling": "continuous"})
    out[name] = ("time", values, attrs)


def _grid(reduced: xr.Dataset) -> np.ndarray:
    """Q of the transform; where G(r) came alone, an even grid to its qmax."""
    if "q" in reduced.coords and reduced.sizes.get("q", 0) > 3:
        return np.asarray(reduced["q"].values, float)
    most = reduced.attrs.get("q_max")
    if most is None:
        raise ContractError(
            "qmax of G(r) is not known", expected="q_max (1/angstrom) in the header of its file", hint="qmax: in the stage total-scattering"
        )
    low = float(reduced.attrs.get("q_min", 0.0))
    return np.linspace(low if low > 0 else float(most) / 1500, float(most), 1500)


def _inside(r: np.ndarray, limits: tuple[float, float], name: str) -> np.ndarray:
    inside = np.flatnonzero((r >= limits[0]) & (r <= limits[1]))
    if inside.size < 6:
        raise ContractError(
            f"{name}: holds fewer than six points of r", found=f"r from {r[0]:g} to {r[-1]:g} angstrom", expected=f"{limits[0]:g} to {limits[1]:g}"
        )
    return inside


def _first_peak(r: np.ndarray, g: np.ndarray) -> tuple[float, float]:
    """Find the first peak that is at least 0.4 of the highest below 6 angstrom, above 1.1 angstrom, and the range to 0.35 angstrom beside it."""
    near = np.flatnonzero((r > 1.1) & (r < 6.0))
    if near.size < 5 or not np.isfinite(g[near]).all():
        return 0.0, 0.0
    some = g[near]
    top = np.flatnonzero((some[1:-1] > some[:-2]) & (some[1:-1] >= some[2:]) & (some[1:-1] > 0.4 * some.max())) + 1
    at = r[near[top[0]]] if top.size else np.nan
    return (at - 0.35, at + 0.35) if np.isfinite(at) else (0.0, 0.0)


def _weight(reduced: xr.Dataset, recipe: ShellsRecipe, q: np.ndarray) -> np.ndarray:
    """What the pair of the first shell weighs at each Q; 1 where none is named."""
    if recipe.pair is None:
        return np.ones_like(q)
    composition = reduced.attrs.get("composition")
    if composition is None:
        raise ConfigError("pair: needs the composition, which is not known", hint="composition: in the stage total-scattering")
    first, second = recipe.pair.split("-")
    return pair_weight(parse_composition(str(composition)), (first, second), q, reduced.attrs.get("wavelength"))


def _fit_shells(
    r: np.ndarray, g: np.ndarray, q: np.ndarray, weights: np.ndarray, weight: np.ndarray, start: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Fit distance, spread and area of each shell, and the slow curve, by Gauss-Newton with halved steps; None where it does not converge.

    Returns
    -------
    tuple
        Distance, spread, area of the first; the rows that give their change from a change of G(r); rms of the residuals over the height.
    """
    model = _Shells(r, q, weights, weight)
    n = start.size
    place = np.concatenate([start, np.full(n, width)])
    linear, left, cost = model.solve(g, place)
    for _ in range(_STEPS):
        jacobian = model.jacobian(place, linear)
        step = np.linalg.lstsq(jacobian, left, rcond=None)[0][: 2 * n]
        share = 1.0
        while share > 1e-3:
            trial = place + share * step
            trial[n:] = np.abs(trial[n:])
            solved = model.solve(g, trial)
            if (np.abs(trial[:n] - start) < 0.5).all() and (trial[n:] < 0.6).all() and solved[2] <= cost:
                break
            share *= 0.5
        else:
            break
        moved = np.abs(trial - place).max()
        place, (linear, left, cost) = trial, solved
        if moved < 1e-7:
            break
    jacobian = model.jacobian(place, linear)
    if not np.isfinite(jacobian).all() or linear[0] <= 0 or np.linalg.matrix_rank(jacobian) < 3 * n + 2:
        return None
    height = float(np.max(model.shape(0, place[0], place[n]))) * linear[0]
    if height <= 0:
        return None
    rows = np.linalg.pinv(jacobian)[[0, n, 2 * n]]
    return np.array([place[0], place[n], linear[0]]), rows, float(np.sqrt(np.mean(left**2))) / height


class _Shells:
    """G(r) of shells in a range of r, as the transform from qmin to qmax shows them."""

    def __init__(self, r: np.ndarray, q: np.ndarray, weights: np.ndarray, weight: np.ndarray) -> None:
        self.r, self.q = r, q
        self.sines = np.sin(np.multiply.outer(r, q)) * weights
        self.weight = weight

    def _damped(self, shell: int, s: float) -> np.ndarray:
        return np.exp(-0.5 * (self.q * s) ** 2) * (self.weight if shell == 0 else 1.0)

    def shape(self, shell: int, d: float, s: float) -> np.ndarray:
        """G(r) of a shell of area 1."""
        return np.asarray(self.sines @ (self._damped(shell, s) * np.sin(self.q * d)) / d)

    def solve(self, g: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Areas and slow curve at given distances and spreads; residuals; sum of their squares."""
        n = place.size // 2
        design = np.stack([*(self.shape(k, place[k], place[n + k]) for k in range(n)), self.r, self.r**3], axis=1)
        linear = np.linalg.lstsq(design, g, rcond=None)[0]
        left = g - design @ linear
        return linear, left, float(left @ left)

    def jacobian(self, place: np.ndarray, linear: np.ndarray) -> np.ndarray:
        """Slopes in all distances, all spreads, all areas, and the two terms of the slow curve."""
        n, q = place.size // 2, self.q
        by_d, by_s, by_area = [], [], []
        for k in range(n):
            d, s = place[k], place[n + k]
            damped = self._damped(k, s) / d
            by_d.append(linear[k] * damped * (q * np.cos(q * d) - np.sin(q * d) / d))
            by_s.append(-linear[k] * q**2 * s * damped * np.sin(q * d))
            by_area.append(damped * np.sin(q * d))
        return np.concatenate([self.sines @ np.stack([*by_d, *by_s, *by_area], axis=1), self.r[:, None], self.r[:, None] ** 3], axis=1)


def _spread(
    rows: np.ndarray, r: np.ndarray, q: np.ndarray, weights: np.ndarray, f_errors: np.ndarray | None, g_errors: np.ndarray | None
) -> np.ndarray:
    if f_errors is not None and np.isfinite(f_errors).all():
        return np.asarray(np.sqrt((rows @ (np.sin(np.multiply.outer(r, q)) * weights)) ** 2 @ f_errors**2))
    if g_errors is None or not np.isfinite(g_errors).all():
        return np.full(3, np.nan)
    together = max(1.0, np.pi / q[-1] / float(np.median(np.diff(r))))
    return np.asarray(np.sqrt(together * (rows**2 @ g_errors**2)))


def _noise(g_errors: np.ndarray | None, far: np.ndarray, r: np.ndarray, q: np.ndarray) -> np.ndarray | None:
    """1 sigma of the rms over a range: neighbours within pi / qmax say the same."""
    if g_errors is None:
        return None
    together = max(1.0, np.pi / q[-1] / float(np.median(np.diff(r))))
    return np.asarray(np.sqrt(np.mean(g_errors[:, far] ** 2, axis=1) * together / far.size))


def _coherence(
    r: np.ndarray, g: np.ndarray, g_errors: np.ndarray | None, start: float, stop: float, period: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Follow the rms of G(r) over windows of one period, less its noise, and fit an exponential from the first window to where noise is left."""
    edges = np.arange(start, stop + 1e-9, period)
    if edges.size < 4:
        nothing = np.full(len(g), np.nan)
        return nothing, None if g_errors is None else nothing.copy()
    middle = 0.5 * (edges[:-1] + edges[1:])
    windows = [np.flatnonzero((r >= a) & (r < b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    power = np.stack([np.mean(g[:, w] ** 2, axis=1) for w in windows], axis=1)
    noise = np.zeros_like(power) if g_errors is None else np.stack([np.mean(g_errors[:, w] ** 2, axis=1) for w in windows], axis=1)
    length, errors = np.full(len(g), np.nan), np.full(len(g), np.nan)
    for k, (all_, lost) in enumerate(zip(power, noise, strict=True)):
        signal = all_ - lost
        above = signal > np.maximum(3.0 * lost, 1e-4 * all_[0])
        count = int(np.argmin(np.append(above, False)))
        if count < 3:
            continue
        x, y, weight = middle[:count], 0.5 * np.log(signal[:count]), np.sqrt(signal[:count] / signal[0])  # as least squares of the amplitude itself
        (slope, level), covariance = np.polyfit(x, y, 1, w=weight, cov="unscaled")
        left = weight * (y - slope * x - level)
        sigma = np.sqrt(covariance[0, 0] * (left @ left) / max(count - 2, 1))
        if slope < 0 and -slope > sigma:
            length[k], errors[k] = -1.0 / slope, sigma / slope**2
    return length, None if g_errors is None else errors
