"""Exposure windows: 1e5 windows x 1e7 records, all statistics of one channel, against numpy in the same run.

    python tests/benchmarks/bench_windows.py [--quick]

Peer: one `numpy.cumsum` over the same records plus `searchsorted` of both edges of each window. Rounds are interleaved; the
table gives the median and the spread (lowest ... highest) of each, and the median of the ratios within rounds. `checked`
includes the test that times do not decrease, which callers that know their records are in order leave out.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from operando.timeline.windows import window_statistics

EPOCH = 1_700_000_000 * 10**9


def problem(records: int, windows: int) -> dict[str, np.ndarray]:
    """Records about 0.3 s apart with a step of 50 mV every 2 h; windows in a row (90 % of the time) and 100-fold overlapping."""
    rng = np.random.default_rng(0)
    t = EPOCH + np.cumsum(rng.integers(200_000_000, 400_000_000, records))
    steps = np.arange(24_000, records, 24_000)
    y = 3.7 + 0.3 * np.sin(np.arange(records) / 1e5) + 1e-4 * rng.standard_normal(records)
    y += 0.05 * (np.arange(records) // 24_000 % 2)
    edges = np.linspace(t[0], t[-1], windows + 1).astype(np.int64)
    begin, end = edges[:-1], edges[:-1] + (0.9 * np.diff(edges)).astype(np.int64)
    middle, half = (begin + end) // 2, 50 * (end - begin)
    return {
        "t": t,
        "y": y,
        "steps": steps,
        "a": begin,
        "b": end,
        "wide_a": np.maximum(middle - half, t[0]),
        "wide_b": np.minimum(middle + half, t[-1]),
    }


def peer(p: dict[str, np.ndarray], a: str, b: str) -> Any:
    """What the statistics are measured against."""
    return np.cumsum(p["y"]), np.searchsorted(p["t"], p[a]), np.searchsorted(p["t"], p[b])


def ours(p: dict[str, np.ndarray], a: str, b: str, *, rule: str = "step", ordered: bool = True) -> Any:
    """All statistics of one channel."""
    return window_statistics(p["t"], p["y"], p[a], p[b], rule=rule, steps=p["steps"], ordered=ordered)


def worst(p: dict[str, np.ndarray]) -> float:
    """Largest error of the mean (V) in exact arithmetic, windows of 10 ms to 10 h on epoch nanoseconds."""
    t, y, is_step = p["t"], p["y"], np.zeros(p["t"].size, bool)
    is_step[p["steps"]] = True
    rng = np.random.default_rng(1)
    lengths = np.repeat([10_000_000, 10**9, 65 * 10**9, 3600 * 10**9, min(36_000 * 10**9, int(t[-1] - t[0]) // 2)], 3)
    a = rng.integers(t[0], t[-1] - lengths)
    found = window_statistics(t, y, a, a + lengths, rule="step", steps=p["steps"], compiled=True).mean
    errors = []
    for begin, length, mean in zip(a.tolist(), lengths.tolist(), found.tolist(), strict=True):
        lo, hi = np.searchsorted(t, begin, side="right") - 1, np.searchsorted(t, begin + length)
        total = Fraction(0)
        for k in range(int(lo), int(hi)):
            left, right = int(t[k]), int(t[k + 1])
            p0, p1 = max(begin, left), min(begin + length, right)
            u, v = Fraction(float(y[k])), Fraction(float(y[k] if is_step[k + 1] else y[k + 1]))
            total += (p1 - p0) * (u + (v - u) * (Fraction(p0 + p1, 2) - left) / (right - left))
        errors.append(abs(float(total / length - Fraction(mean))))
    return max(errors)


def peak(run: Callable[[], Any]) -> float:
    """Peak memory (MB) of one task beyond its input."""
    tracemalloc.start()
    kept = run()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept is not None
    return found / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records and windows, fewer rounds")
    quick = parser.parse_args().quick
    records, windows, rounds = (1_000_000, 10_000, 5) if quick else (10_000_000, 100_000, 9)
    p = problem(records, windows)
    started = time.perf_counter()
    ours(p, "a", "b")
    print(f"{windows:.0e} windows x {records:.0e} records; first call, with loading or compiling the kernels: {time.perf_counter() - started:.1f} s")
    tasks: dict[str, tuple[str, Callable[[], Any]]] = {
        "peer: cumsum + searchsorted": ("", lambda: peer(p, "a", "b")),
        "separate, step-aware": ("peer: cumsum + searchsorted", lambda: ours(p, "a", "b")),
        "separate, step-aware, checked": ("peer: cumsum + searchsorted", lambda: ours(p, "a", "b", ordered=False)),
        "separate, ending": ("peer: cumsum + searchsorted", lambda: ours(p, "a", "b", rule="ending")),
        "peer: same, wide windows": ("", lambda: peer(p, "wide_a", "wide_b")),
        "100-fold overlap, step-aware": ("peer: same, wide windows", lambda: ours(p, "wide_a", "wide_b")),
        "100-fold overlap, checked": ("peer: same, wide windows", lambda: ours(p, "wide_a", "wide_b", ordered=False)),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(rounds + 1):
        for name, (_, run) in tasks.items():
            started = time.perf_counter()
            run()
            if round_:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    print(f"{'':32s}{'median ms':>10s}{'lowest':>9s}{'highest':>9s}{'ratio':>8s}{'target':>8s}")
    for name, (against, _) in tasks.items():
        t = np.array(times[name]) * 1e3
        ratio = f"{np.median(t / (np.array(times[against]) * 1e3)):8.2f}{'<= 3' if 'overlap' in name else '<= 1':>8s}" if against else ""
        print(f"{name:32s}{np.median(t):10.1f}{t.min():9.1f}{t.max():9.1f}{ratio}")
    print(f"largest error of the mean, 10 ms ... 10 h, epoch nanoseconds: {worst(p):.1e} V (target 1e-9)")
    for name, (_, run) in tasks.items():
        print(f"peak memory beyond the input, {name}: {peak(run):.0f} MB")


if __name__ == "__main__":
    main()
