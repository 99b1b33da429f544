"""Fits of equivalent circuits to one spectrum or to a series of them.

Parameters are fitted as logarithms within bounds, residuals are weighted (by the modulus unless told otherwise), real and imaginary parts together.
First and last spectrum of a series are tried from many starts; each further one starts where its neighbour ended, forwards and backwards, then
outwards from the one that fits best, and the best of these is kept. Uncertainties are those of least squares with the scatter that was found,
widened for residuals that hang together along frequency (Bayley and Hammersley, J. R. Stat. Soc. Suppl. 8 (1946) 184: n correlated values count for
n (1 - rho) / (1 + rho)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from operando.contract import ConfigError, ContractError
from operando.reduction.impedance.circuit import Arc, Circuit, Node

WEIGHTS = ("modulus", "unit", "proportional")
STARTS = 400  # random starts that are looked at
REFINED = 24  # of them that are fitted a little, the best ones and some others
_FIRST = 12  # evaluations of that little fit
_POLISHED = 5  # that are fitted to the end
_FAR = 0.1  # weighted residual beyond which a point counts less when starts are compared
_N = (0.4, 1.0)  # bounds of exponents
_WORSE = 4.0  # times the usual scatter beyond which a warm start is not trusted


@dataclass(frozen=True)
class Fit:
    """A circuit fitted to one spectrum.

    Attributes
    ----------
    theta, covariance
        Logarithms of the parameters and their covariance; NaN where nothing could be fitted.
    scatter
        Root mean square of the weighted residuals, per degree of freedom: a fraction of the modulus with modulus weights.
    cost
        Sum of squares of the weighted residuals.
    points
        Points that were used.
    converged
        The search ended by itself.
    at_bound
        Parameters that lie at a bound.
    """

    theta: np.ndarray
    covariance: np.ndarray
    scatter: float
    cost: float
    points: int
    converged: bool
    at_bound: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Parameters in their units."""
        return np.asarray(np.exp(self.theta))

    @property
    def errors(self) -> np.ndarray:
        """1 sigma of the parameters, in their units."""
        return self.values * np.sqrt(np.diag(self.covariance))

    @property
    def aicc(self) -> float:
        """Akaike's criterion for small samples (Hurvich and Tsai, Biometrika 76 (1989) 297); lower is better."""
        n, k = 2 * self.points, self.theta.size + 1
        if not math.isfinite(self.cost) or n <= k + 1:
            return math.inf
        return n * math.log(max(self.cost, 1e-300) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def nothing(circuit: Circuit) -> Fit:
    """Give the fit of a spectrum that has too few points."""
    p = len(circuit.parameters)
    return Fit(np.full(p, np.nan), np.full((p, p), np.nan), math.nan, math.nan, 0, False, np.zeros(p, bool))


class _Spectrum:
    """The usable points of one spectrum with their weights."""

    def __init__(self, frequency: np.ndarray, impedance: np.ndarray, weights: str | np.ndarray) -> None:
        good = np.isfinite(frequency) & (frequency > 0) & np.isfinite(impedance) & (np.abs(impedance) > 0)
        self.frequency, self.z = np.asarray(frequency, float)[good], np.asarray(impedance, complex)[good]
        self.omega = 2 * np.pi * self.frequency
        size = np.abs(self.z)
        if isinstance(weights, np.ndarray):
            sigma = np.broadcast_to(weights, good.shape)[good]
            self.wr = self.wi = 1 / sigma
        elif weights == "modulus":
            self.wr = self.wi = 1 / size
        elif weights == "unit":
            self.wr = self.wi = np.full(size.shape, 1 / float(np.median(size)) if size.size else 1.0)
        elif weights == "proportional":
            floor = 1e-3 * size
            self.wr, self.wi = 1 / np.maximum(np.abs(self.z.real), floor), 1 / np.maximum(np.abs(self.z.imag), floor)
        else:
            raise ConfigError("weights are not known", found=repr(weights), expected=f"{', '.join(WEIGHTS)}, or 1 sigma of each point in ohm")

    def residuals(self, circuit: Circuit, theta: np.ndarray) -> np.ndarray:
        away = circuit.with_slopes(theta, self.frequency)[0] - self.z
        return np.concatenate([away.real * self.wr, away.imag * self.wi])

    def jacobian(self, circuit: Circuit, theta: np.ndarray) -> np.ndarray:
        slopes = circuit.with_slopes(theta, self.frequency)[1]
        return np.concatenate([slopes.real * self.wr, slopes.imag * self.wi], axis=1).T


def bounds_of(circuit: Circuit, omega: np.ndarray, size: np.ndarray, given: Mapping[str, Sequence[float]] | None = None) -> np.ndarray:
    """Logarithms of the lowest and highest value of each parameter, (2, parameter): as given, else wide about what the spectrum can tell.

    Raises
    ------
    ConfigError
        Bounds of a parameter that the circuit does not have, or that are none.
    """
    low, high = float(size.min()), float(size.max())
    slow, fast = float(omega.min()), float(omega.max())
    wide = {
        "R": (1e-4 * low, 1e2 * high),
        "sigma": (1e-4 * low * math.sqrt(slow), 1e2 * high * math.sqrt(fast)),
        "tau": (1e-2 / fast, 1e2 / slow),
        "n": _N,
        "Q": (1e-3 / (high * fast), 1e3 / (low * min(slow, 1.0))),
        "C": (1e-3 / (high * fast), 1e3 / (low * slow)),
        "L": (1e-5 * low / fast, high / slow),
    }
    out = np.log(np.array([wide[kind] for kind in circuit.kinds]).T)
    for name, pair in (given or {}).items():
        if name not in circuit.parameters:
            raise ConfigError(f"bounds of {name!r}, which the circuit does not have", expected=", ".join(circuit.parameters))
        if len(pair) != 2 or not 0 < pair[0] < pair[1] < math.inf:
            raise ConfigError(f"bounds of {name!r} are none", found=list(pair), expected="two positive numbers, the lower one first")
        out[:, circuit.parameters.index(name)] = np.log(pair)
    return out


def fit_circuit(
    frequency: np.ndarray,
    impedance: np.ndarray,
    circuit: str | Circuit,
    *,
    start: Mapping[str, float] | np.ndarray | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
    weights: str | np.ndarray = "modulus",
    seed: int = 0,
) -> Fit:
    """Fit a circuit to one spectrum.

    Parameters
    ----------
    frequency, impedance
        Hz, complex ohm (capacitive imaginary part negative). Points that are no numbers are left out; order does not matter.
    circuit
        Text or a parsed circuit.
    start
        Parameters to start from, by name (or logarithms of all of them); what is not named is tried from many starts.
    bounds
        Parameter -> lowest and highest value.
    weights
        `modulus` (residuals as fractions of |Z|), `unit`, `proportional` (real and imaginary part each by its own size), or 1 sigma per point in ohm.
    seed
        Of the random starts.

    Returns
    -------
    Fit
        Arcs that are built alike in the order of their time constants, unless bounds or starts tell them apart; of NaN where the spectrum has
        fewer points than the circuit needs.

    Raises
    ------
    ConfigError
        A circuit, start, bounds or weights that are none.
    """
    made = circuit if isinstance(circuit, Circuit) else Circuit.parse(circuit)
    spectrum = _Spectrum(frequency, impedance, weights)
    if not _enough(made, spectrum):
        return nothing(made)
    limits = bounds_of(made, spectrum.omega, np.abs(spectrum.z), bounds)
    if isinstance(start, np.ndarray):
        return _refined(made, spectrum, start, limits)
    return in_order(made, _from_many(made, spectrum, limits, _named(made, start), seed), {*(bounds or ()), *(start or ())})


def _named(circuit: Circuit, start: Mapping[str, float] | None) -> dict[int, float]:
    out = {}
    for name, value in (start or {}).items():
        if name not in circuit.parameters:
            raise ConfigError(f"a start for {name!r}, which the circuit does not have", expected=", ".join(circuit.parameters))
        if not 0 < value < math.inf:
            raise ConfigError(f"the start of {name!r} is no positive number", found=value)
        out[circuit.parameters.index(name)] = math.log(value)
    return out


def _enough(circuit: Circuit, spectrum: _Spectrum) -> bool:
    return 2 * np.unique(spectrum.frequency).size >= len(circuit.parameters) + 2


def _from_many(circuit: Circuit, spectrum: _Spectrum, limits: np.ndarray, told: Mapping[int, float], seed: int) -> Fit:
    """Draw starts the spectrum suggests, and fit from those that come nearest."""
    rng = np.random.default_rng(seed)
    starts = []
    for _ in range(STARTS):
        theta = _draw(circuit, spectrum, rng)
        for place, value in told.items():
            theta[place] = value
        starts.append(np.clip(theta, limits[0] + 1e-6, limits[1] - 1e-6))
    costs = np.array([float(np.sum(np.log1p(np.square(spectrum.residuals(circuit, theta) / _FAR)))) for theta in starts])  # far points do not rule
    ranked = np.argsort(costs, kind="stable")
    # the nearest starts tend to lie in one valley: half of those that are tried come from further down the list
    tried = np.concatenate([ranked[: REFINED // 2], rng.choice(ranked[REFINED // 2 : STARTS // 2], REFINED // 2, replace=False)])
    begun = sorted((_refined(circuit, spectrum, starts[k], limits, most=_FIRST) for k in tried), key=_cost)
    return min((_refined(circuit, spectrum, fit.theta, limits) for fit in begun[:_POLISHED]), key=_cost)


def _cost(fit: Fit) -> float:
    return fit.cost if math.isfinite(fit.cost) else math.inf


def _draw(circuit: Circuit, spectrum: _Spectrum, rng: np.random.Generator) -> np.ndarray:
    """Draw logarithms of parameters such as this spectrum may have: arcs with time constants all over its range share its width."""
    order = np.argsort(spectrum.frequency)
    z, omega = spectrum.z[order], spectrum.omega[order]
    ohmic = max(float(np.min(z.real[-max(3, z.size // 4) :])), 1e-3 * float(np.abs(z).max()))
    width = max(float(np.ptp(z.real)), 1e-2 * ohmic)
    slow, fast = math.log(omega[0]), math.log(omega[-1])
    theta = np.empty(len(circuit.parameters))
    for k, kind in enumerate(circuit.kinds):
        if kind == "R":
            theta[k] = math.log(width) + rng.normal(-1.2, 0.8)
        elif kind == "n":
            theta[k] = math.log(rng.uniform(0.6, 0.98))
        elif kind == "tau":
            theta[k] = -rng.uniform(slow, fast)
        elif kind == "L":
            theta[k] = math.log(max(float(z.imag[-1]), 0.02 * ohmic) / omega[-1]) + rng.normal(0, 0.5)
        elif kind == "sigma":
            theta[k] = math.log(max(-float(z.imag[0]), 0.02 * width) * math.sqrt(omega[0])) + rng.normal(0, 0.5)
        else:  # Q, C: in series with everything they are the tail; in an arc they follow below
            theta[k] = -math.log(max(-float(z.imag[0]), 0.02 * width) * omega[0]) + rng.normal(0, 0.5)
    for place in circuit.series_of("R"):
        theta[place] = math.log(ohmic) + rng.normal(0, 0.1)
    arcs = circuit.arcs
    times = -rng.uniform(slow, fast, len(arcs))  # in any order: arcs that are built differently are not interchangeable
    shares = rng.dirichlet(np.full(max(len(arcs), 1), 2.0))
    for arc, log_tau, share in zip(arcs, times, shares, strict=False):
        theta[arc.resistance] = math.log(width * share + 1e-12)
        if arc.kind in ("ZARC", "G"):
            theta[arc.bridge[0]] = log_tau
        elif arc.kind == "C":
            theta[arc.bridge[0]] = log_tau - theta[arc.resistance]
        else:
            theta[arc.bridge[0]] = math.exp(theta[arc.bridge[1]]) * log_tau - theta[arc.resistance]
    return theta


def _refined(circuit: Circuit, spectrum: _Spectrum, start: np.ndarray, limits: np.ndarray, most: int = 200) -> Fit:
    """Least squares from one start, with so many evaluations at most."""
    from scipy.optimize import least_squares

    theta = np.clip(start, limits[0] + 1e-9, limits[1] - 1e-9)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        done = least_squares(
            lambda t: spectrum.residuals(circuit, t),
            theta,
            jac=lambda t: spectrum.jacobian(circuit, t),
            bounds=(limits[0], limits[1]),
            method="trf",
            ftol=1e-9,
            xtol=1e-9,
            gtol=1e-12,
            max_nfev=most,
        )
    n, k = done.fun.size, theta.size
    free = max(n - k, 1)
    variance = float(done.fun @ done.fun) / free
    at_bound = np.minimum(done.x - limits[0], limits[1] - done.x) < 1e-4
    return Fit(
        done.x,
        _covariance(done.jac, ~at_bound) * variance * _hanging(done.fun),
        math.sqrt(variance),
        2 * float(done.cost),
        n // 2,
        done.success,
        at_bound,
    )


def _covariance(jacobian: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Inverse of the normal matrix over parameters that are not at a bound; what is not determined is as uncertain as can be."""
    k = jacobian.shape[1]
    out = np.zeros((k, k))
    some = jacobian[:, free]
    _, s, vt = np.linalg.svd(some, full_matrices=False)
    least = max(float(s[0]) * 1e-12, 1e-12) if s.size else 1.0
    inverse = (vt.T / np.maximum(s, least) ** 2) @ vt
    out[np.ix_(free, free)] = inverse
    for place in np.flatnonzero(~free):
        out[place, place] = 1 / max(float(jacobian[:, place] @ jacobian[:, place]), 1e-12)
    return out


def _hanging(residuals: np.ndarray) -> float:
    """By how much residuals that hang together along frequency widen a variance."""
    halves = residuals.reshape(2, -1)
    power = float((halves * halves).sum())
    if halves.shape[1] < 8 or power <= 0:
        return 1.0
    rho = float((halves[:, 1:] * halves[:, :-1]).sum()) / power
    rho = min(max(rho, 0.0), 0.9)
    return (1 + rho) / (1 - rho)


def in_order(circuit: Circuit, fit: Fit, told: Iterable[str] = ()) -> Fit:
    """Give the same fit with arcs that are built alike in the order of their time constants, the fastest first.

    Arcs of which a parameter is `told` (by bounds) are told apart by that, and keep their places.
    """
    fixed = {circuit.parameters.index(name) for name in told}
    if not np.isfinite(fit.theta).all():
        return fit
    order = np.arange(fit.theta.size)
    for group in _alike(circuit):
        if any(fixed & set(arc.members) for arc in group):
            continue
        ranked = sorted(group, key=lambda arc: arc.log_tau(fit.theta)[0])
        for place, source in zip(group, ranked, strict=True):
            order[list(place.members)] = source.members
    return Fit(fit.theta[order], fit.covariance[np.ix_(order, order)], fit.scatter, fit.cost, fit.points, fit.converged, fit.at_bound[order])


def _alike(circuit: Circuit) -> list[list[Arc]]:
    """Arcs of one structure, in the order in which they are written."""
    nodes = circuit.root.parts if circuit.root.kind == "series" else (circuit.root,)

    def shape(node: Node) -> str:
        return node.kind + ("(" + ",".join(map(shape, node.parts)) + ")" if node.parts else "")

    by_first = {min(k for k in _members(node)): shape(node) for node in nodes}
    groups: dict[str, list[Arc]] = {}
    for arc in circuit.arcs:
        groups.setdefault(by_first[min(arc.members)], []).append(arc)
    return [group for group in groups.values() if len(group) > 1]


def _members(node: Node) -> Iterable[int]:
    return [k for part in node.parts for k in _members(part)] if node.parts else [node.first]


def fit_circuit_series(
    frequency: np.ndarray,
    impedance: np.ndarray,
    circuit: str | Circuit,
    *,
    start: Mapping[str, float] | None = None,
    bounds: Mapping[str, Sequence[float]] | None = None,
    weights: str = "modulus",
    both: bool = True,
    seed: int = 0,
) -> list[Fit]:
    """Fit a circuit to a series of spectra, each from where its neighbour ended.

    Parameters
    ----------
    frequency, impedance
        Hz and complex ohm, (spectrum, point), NaN beyond the points of a spectrum.
    circuit, start, bounds, weights, seed
        See `fit_circuit`; `start` is that of the first spectrum.
    both
        Go backwards too, and keep the better fit of each spectrum.

    Returns
    -------
    list of Fit
        One per spectrum, arcs that are built alike in the order of their time constants (unless bounds tell them apart), others as written.

    Raises
    ------
    ConfigError, ContractError
        A circuit or settings that are none; arrays that do not belong together.
    """
    made = circuit if isinstance(circuit, Circuit) else Circuit.parse(circuit)
    if np.ndim(frequency) != 2 or np.shape(frequency) != np.shape(impedance):
        raise ContractError(
            "frequencies and impedances do not belong together",
            found=f"{np.shape(frequency)} and {np.shape(impedance)}",
            expected="(spectrum, point)",
        )
    spectra = [_Spectrum(f, z, weights) for f, z in zip(frequency, impedance, strict=True)]
    usable = [k for k, spectrum in enumerate(spectra) if _enough(made, spectrum)]
    fits = [nothing(made) for _ in spectra]
    if not usable:
        return fits
    omega, size = np.concatenate([spectra[k].omega for k in usable]), np.concatenate([np.abs(spectra[k].z) for k in usable])
    limits = bounds_of(made, omega, size, bounds)
    told = _named(made, start)
    ways = [_pass(made, spectra, usable, limits, None, told, seed)]
    if both and len(usable) > 1:
        ways.append(_pass(made, spectra, usable[::-1], limits, None, told, seed + 1))
        ways.append(_pass(made, spectra, usable[::-1], limits, ways[0][usable[-1]], told, seed))
        reached = {k: min((way[k] for way in ways), key=_cost) for k in usable}
        centre = min(range(len(usable)), key=lambda i: reached[usable[i]].scatter)
        for way in (usable[centre:], usable[centre::-1]):
            ways.append(_pass(made, spectra, way[1:], limits, reached[usable[centre]], told, seed))
    for k in usable:
        fits[k] = in_order(made, min((way[k] for way in ways if k in way), key=_cost), {*(bounds or ()), *(start or ())})
    return fits


def _pass(
    circuit: Circuit, spectra: list[_Spectrum], order: list[int], limits: np.ndarray, before: Fit | None, told: Mapping[int, float], seed: int
) -> dict[int, Fit]:
    """Go through the series in one direction."""
    out: dict[int, Fit] = {}
    usual: list[float] = []
    for k in order:
        fit = _refined(circuit, spectra[k], before.theta, limits) if before is not None else _from_many(circuit, spectra[k], limits, told, seed)
        if before is not None and usual and fit.scatter > _WORSE * float(np.median(usual)):
            again = _from_many(circuit, spectra[k], limits, told, seed)
            fit = min(fit, again, key=lambda one: one.cost)
        out[k] = fit
        usual.append(fit.scatter)
        before = fit
    return out


def choose_circuit(
    frequency: np.ndarray, impedance: np.ndarray, candidates: Sequence[str | Circuit], *, weights: str = "modulus", most: int = 12, seed: int = 0
) -> tuple[Circuit, dict[str, float]]:
    """Choose among circuits by Akaike's criterion, summed over spectra spread over the series.

    Parameters
    ----------
    frequency, impedance
        Hz and complex ohm, (spectrum, point).
    candidates
        Circuits.
    most
        Spectra that are looked at.

    Returns
    -------
    tuple
        The best circuit, and for each its AICc less that of the best.
    """
    made = [c if isinstance(c, Circuit) else Circuit.parse(c) for c in candidates]
    some = np.unique(np.linspace(0, len(frequency) - 1, min(most, len(frequency))).round().astype(int))
    scores: dict[str, float] = {}
    for circuit in made:
        fits = fit_circuit_series(frequency[some], impedance[some], circuit, weights=weights, both=False, seed=seed)
        known = [fit.aicc for fit in fits if math.isfinite(fit.aicc)]
        scores[circuit.text] = float(np.sum(known)) if len(known) == sum(fit.points > 0 for fit in fits) and known else math.inf
    best = min(made, key=lambda circuit: scores[circuit.text])
    least = scores[best.text]
    return best, {text: value - least if math.isfinite(value) else math.inf for text, value in scores.items()}
