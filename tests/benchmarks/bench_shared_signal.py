"""Clocks from a shared signal over many seeds: how far off, how honest the interval, how long and how much memory it takes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_shared_signal.py [--seeds 24] [--large]

Each scene is simulated by code of its own (`tests/scenes_shared_signal.py`): a potentiostat that keeps records on 5 mV or 30 s, and a
log of the same voltage. The peer is the same search by least squares with straight lines between records, on the same scenes in the same
rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenes_shared_signal import Scene, scene

from operando.timeline import clock_from_shared_signal

SCENES: dict[str, dict[str, Any]] = {
    "5 mV / 30 s, samples every 5 to 10 s, 1 mV noise": {},
    "the same, samples are means over 1 s, zero wanders by 1 mV": {"averaging": 1.0, "wander": 1e-3},
}


def lines(s: Scene) -> float:
    """Error (s) of the peer: straight lines, drift known, offsets of +-40 s about the true one."""
    source, shifts, cost = s.true(s.t_source), np.arange(-40.0, 40.0, 0.5), []
    for shift in shifts:
        f = np.interp(source + shift, s.t_echem, s.y_echem)
        cost.append(float(np.linalg.lstsq(np.stack([np.ones(f.size), f], axis=1), s.y_source, rcond=None)[1][0]))
    return float(abs(shifts[int(np.argmin(cost))]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--large", action="store_true", help="also 1e4 samples against 1e6 records")
    args = parser.parse_args()
    print("| scene | accepted | error at first / middle / last stamp, median (s) | largest (s) | 95 % interval holds", end=" ")
    print("| lines between records: median, largest (s) | CPU (s) |")
    print("|---|---|---|---|---|---|---|")
    for name, options in SCENES.items():
        errors, held, peer, cost = [], [], [], []
        for seed in range(args.seeds):
            s = scene(seed, **options)
            start = time.process_time()
            clock = clock_from_shared_signal(s.t_echem, s.y_echem, s.t_source, s.y_source)
            cost.append(time.process_time() - start)
            peer.append(lines(s))
            if clock.status == "ok":
                at = np.array([s.t_source.min(), (s.t_source.min() + s.t_source.max()) / 2, s.t_source.max()])
                times, sigma = clock.to_echem(at)
                errors.append(np.abs(times - s.true(at)))
                held.append(errors[-1] <= 1.96 * sigma)
        median, worst = np.median(errors, axis=0), np.max(errors, axis=0)
        three = " / ".join(f"{v:.2f}" for v in median), " / ".join(f"{v:.2f}" for v in worst)
        print(f"| {name} | {len(errors)} of {args.seeds} | {three[0]} | {three[1]} | {np.mean(held):.2f}", end=" ")
        print(f"| {np.median(peer):.1f}, {np.max(peer):.1f} | {np.median(cost):.1f} |")
    if args.large:
        s = scene(0)
        t = np.linspace(s.t_echem[0], s.t_echem[-1], 1_000_000)
        y = np.interp(t, s.t_echem, s.y_echem)
        some = np.linspace(0, s.t_source.size - 1, 10_000).astype(int)
        tracemalloc.start()
        start = time.process_time()
        clock_from_shared_signal(t, y, s.t_source[some], s.y_source[some])
        cpu, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] / 1e6
        print(f"\n1e4 samples, 1e6 records: {cpu:.1f} s CPU (memory traced), peak {peak:.0f} MB beyond the input")


if __name__ == "__main__":
    main()
