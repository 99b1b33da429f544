"""Frames one after the other: forward with warm starts, backward again, and the better of the two kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.reduction.phases.amounts import Amounts, Shifts, amounts, systematic
from operando.reduction.phases.engine import CAPPED, CONVERGED, NOT_FITTED, STALLED, Engine, Fit
from operando.reduction.phases.fitting import Frame, noise_of, not_fitted
from operando.reduction.phases.profile import FIXED

_POOR = 1.1  # a fit this much worse than that of the frame after, in chi^2, is tried from there
_FAR = 4e-3  # relative change of a metric component between two frames (0.2 % of a lattice parameter) beyond which both ways are tried
_WORSE = 1.3  # a warm fit this much worse than the frame before, in chi^2, is held against a cold one


@dataclass
class Fitted:
    """One frame: its fit and what it says."""

    fit: Fit
    amounts: Amounts | None = None
    shifts: Shifts | None = None
    disagree: bool = False


def fit_sequence(engine: Engine, patterns: np.ndarray, errors: np.ndarray | None, usable: np.ndarray, before: Fit | None) -> list[Fitted]:
    """Fit frames of one segment, setup and position.

    Parameters
    ----------
    engine
        For their grid.
    patterns, errors
        (frame, channel) intensity and 1 sigma, on the channels of the engine.
    usable
        (frame) worth fitting; the others are not.
    before
        Last good fit of frames that came before these, or none.
    """
    frames = [Frame(engine, y, noise_of(y, None if errors is None else errors[n])) if usable[n] else None for n, y in enumerate(patterns)]
    out = [Fitted(not_fitted(engine)) for _ in frames]
    last = before
    for n, frame in enumerate(frames):
        if frame is None:
            continue
        fit = frame.cold() if last is None else _next(frame, last)
        out[n].fit = _light(fit)
        last = fit if fit.status != NOT_FITTED else last
    if engine.recipe.passes == "both":
        last = None
        for n in range(len(frames) - 1, -1, -1):
            frame = frames[n]
            if frame is None:
                continue
            if last is not None and _may_differ(engine, out[n].fit, last):
                again = frame.warm(last)
                ahead = out[n].fit
                better = again.chi2 < ahead.chi2 * (1 - 1e-4) or (again.status == CONVERGED != ahead.status and again.chi2 < ahead.chi2 * 1.001)
                out[n].disagree = _apart(engine, ahead, again)
                if better:
                    out[n].fit = _light(again)
            last = out[n].fit
    done = [n for n, frame in enumerate(frames) if frame is not None and out[n].fit.status != NOT_FITTED]
    for n in done:
        out[n].amounts = amounts(engine, out[n].fit)
        frame = frames[n]
        assert frame is not None
        if engine.recipe.systematics is not None:
            out[n].shifts = systematic(engine, frame, out[n].fit)
    return out


def _next(frame: Frame, last: Fit) -> Fit:
    fit = frame.warm(last)
    if fit.status in (CAPPED, STALLED) or fit.chi2_reduced > _WORSE * last.chi2_reduced:
        anew = frame.cold()
        if anew.chi2 < fit.chi2 * (1 - 1e-4) or (anew.status == CONVERGED != fit.status and anew.chi2 < fit.chi2 * 1.001):
            return anew
    return fit


def _may_differ(engine: Engine, ahead: Fit, after: Fit) -> bool:
    """Say whether the frame after could lead elsewhere: other phases were there, lattices apart by more than their errors tell, or the fit is poor.

    From the same phases with nearly the same lattices the same minimum is found again.
    """
    if ahead.status in (CAPPED, STALLED) or not np.array_equal(ahead.active, after.active) or ahead.chi2_reduced > _POOR * after.chi2_reduced:
        return True
    lattice = np.array([p.column >= FIXED for p in engine.parameters]) & engine.may
    lattice &= (engine.of_phase >= 0) & ahead.active[engine.of_phase]
    moved = np.abs(after.theta - ahead.theta)[lattice] / np.maximum(np.abs(engine.start[lattice]), 1e-9)
    return bool(np.any(moved > _FAR))


def _apart(engine: Engine, one: Fit, other: Fit) -> bool:
    """Say whether forward and backward pass gave different fractions, beyond what they are known to."""
    a, b = amounts(engine, one), amounts(engine, other)
    with np.errstate(invalid="ignore"):
        return bool(np.nanmax(np.abs(a.weight - b.weight) - 3 * np.fmax(a.weight_errors, b.weight_errors), initial=-1.0) > 0)


def _light(fit: Fit) -> Fit:
    """Keep of a fit what is needed later: curves in single precision."""
    fit.calculated, fit.under = fit.calculated.astype(np.float32), fit.under.astype(np.float32)
    fit.weights = np.zeros(0)
    return fit
