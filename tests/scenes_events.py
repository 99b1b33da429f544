"""Events seen by two clocks, of which the truth is known: what tests and the benchmark of clocks from events share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scene:
    """Lists of both, and what turns the source's times into those of the electrochemistry: t + offset + drift (t - first)."""

    echem: np.ndarray
    source: np.ndarray
    offset: float
    drift: float

    def true(self, source: np.ndarray) -> np.ndarray:
        """The electrochemistry's time of stamps of the source."""
        return source + self.offset + self.drift * (source - self.source.min())


def scene(
    seed: int,
    *,
    events: int = 40,
    hours: float = 22.0,
    regular: float | None = None,
    lost: float = 0.2,
    lost_by_echem: float = 0.0,
    false: int = 6,
    jitter: float = 0.3,
    epoch: float = 0.0,
) -> Scene:
    """Draw a scene: `events` at random moments (or every `regular` s), some lost by the source, some false ones, jitter, +-30 min, +-50 ppm."""
    rng = np.random.default_rng(seed)
    span = hours * 3600
    true = np.sort(rng.uniform(0, span, events)) if regular is None else regular * np.arange(events) + rng.uniform(0, 1000)
    seen = true[rng.random(events) >= lost]
    seen = np.concatenate([seen, rng.uniform(true[0], true[-1], false)])
    noisy = seen + jitter * rng.standard_normal(seen.size)
    offset, drift = rng.uniform(-1800, 1800), rng.uniform(-50e-6, 50e-6)
    # t = s + offset + drift (s - s0), told for the stamp s0 that comes first
    first = noisy.min() - offset
    source = first + (noisy - offset - first) / (1 + drift)
    kept = true[rng.random(events) >= lost_by_echem]
    return Scene(kept + epoch, rng.permutation(source) + epoch, offset, drift)
