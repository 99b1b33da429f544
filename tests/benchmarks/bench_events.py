"""Clocks from events over many seeds: how often accepted, how far off, how honest the interval, how long it takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_events.py [--seeds 200]

Each scene is simulated by code of its own (`tests/scenes_events.py`): events that a source and the electrochemistry saw, +-30 min and +-50 ppm apart.
The peer is what scripts do: shift by the difference of the first events. It is run on the same scenes in the same rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenes_events import scene

from operando.timeline import clock_from_events

SCENES: dict[str, dict[str, Any]] = {
    "40 irregular, 20 % lost, 6 false, 0.3 s jitter": {},
    "the same, 20 % lost by the cycler too": {"lost_by_echem": 0.2},
    "10 irregular, 20 % lost, 2 false": {"events": 10, "false": 2},
    "300 irregular": {"events": 300},
    "regular train, 30 s": {"regular": 30.0},
    "regular train, 10 min": {"regular": 600.0},
    "regular train, 10 min, both lose 20 %": {"regular": 600.0, "lost_by_echem": 0.2},
    "regular train, 30 min": {"regular": 1800.0},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    clock_from_events(np.arange(9.0) ** 2, np.arange(9.0) ** 2)
    print("| scene | accepted | offset p95, at the first stamp / in the middle (s) | drift p95 (ppm)", end=" ")
    print("| 95 % interval holds | CPU median, p95 (ms) | first to first, p95 (s) |")
    print("|---|---|---|---|---|---|---|")
    for name, options in SCENES.items():
        status: Counter[str] = Counter()
        first, middle, drift, held, cost, naive = [], [], [], [], [], []
        for seed in range(seeds):
            s = scene(seed, **options)
            start = time.process_time()
            clock = clock_from_events(s.echem, s.source)
            cost.append(1e3 * (time.process_time() - start))
            status[clock.status] += 1
            naive.append(abs(s.echem.min() - s.source.min() - s.offset))
            if clock.status != "ok":
                continue
            at = np.array([s.source.min(), (s.source.min() + s.source.max()) / 2])
            found, sigma = clock.to_echem(at)
            away = np.abs(found - s.true(at))
            first.append(away[0])
            middle.append(away[1])
            drift.append(abs(clock.drift - s.drift) * 1e6)
            held.append(away[0] <= 1.96 * sigma[0])
        accepted = f"{status['ok']} of {seeds}"
        if first:
            numbers = f"{np.quantile(first, 0.95):.3f} / {np.quantile(middle, 0.95):.3f} | {np.quantile(drift, 0.95):.1f} | {np.mean(held):.2f}"
        else:
            numbers = "refused | refused | refused"
        print(f"| {name} | {accepted} | {numbers} | {np.median(cost):.0f}, {np.quantile(cost, 0.95):.0f} | {np.quantile(naive, 0.95):.0f} |")


if __name__ == "__main__":
    main()
