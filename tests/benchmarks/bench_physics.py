"""Clocks suggested from physics: what is accepted, how wrong it is, whether the interval holds it; time and memory of a large task.

    python tests/benchmarks/bench_physics.py [--seeds 20] [--first 0] [--only NAME ...]

Scenes are those of `tests/scenes_physics.py`: hysteresis with play and unequal branches, a plateau, charge that slips, noise that hangs
together over three frames, true offsets within +-30 min, search +-60 min. SNR is the range of the marker over the standard deviation of
its noise. `coverage` is that of the stated interval (1.96 uncertainty), `at once` that of the narrower one without lags (the profile's).
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import scenes_physics as scenes

from operando.timeline.clocks import Clock
from operando.timeline.physics import suggest_clock_from_physics

SLOWLY: dict[str, Any] = {"every": 300.0, "exposure": 60.0, "snr": 100.0}
SCENES: dict[str, tuple[list[scenes.Step], dict[str, Any]]] = {
    "fast, 40 h, SNR 50": (scenes.fast(32), {"snr": 50.0}),
    "fast, 20 h, SNR 50": (scenes.fast(16), {"snr": 50.0}),
    "fast, 20 h, SNR 300": (scenes.fast(16), {"snr": 300.0}),
    "fast, 40 h, rests at ends only": (scenes.fast(32, parts=1), {"snr": 50.0}),
    "fast, 40 h, no hysteresis": (scenes.fast(32), {"snr": 50.0, "width": 0.0}),
    "fast, 40 h, hysteresis 3 %": (scenes.fast(32), {"snr": 50.0, "width": 0.03}),
    "fast, 40 h, two spots": (scenes.fast(32), {"snr": 50.0, "spots": 2}),
    "GITT, SNR 300": (scenes.gitt(), {"snr": 300.0}),
    "GITT, SNR 100": (scenes.gitt(), {"snr": 100.0}),
    "no edge": (scenes.edgeless(), {"snr": 100.0}),
    "slow (C/20), SNR 100": (scenes.slow(5), SLOWLY),
    "lag 10 min, fast": (scenes.fast(16), {"snr": 50.0, "lag": 600.0}),
    "lag 10 min, fast, SNR 300": (scenes.fast(16), {"snr": 300.0, "lag": 600.0}),
    "lag 10 min, rests at ends only": (scenes.fast(16, parts=1), {"snr": 50.0, "lag": 600.0}),
    "lag 10 min, GITT": (scenes.gitt(), {"snr": 300.0, "lag": 600.0}),
    "lag 10 min, slow": (scenes.slow(5), {**SLOWLY, "lag": 600.0}),
    "lag 1 min, fast, 40 h": (scenes.fast(32), {"snr": 50.0, "lag": 60.0}),
    "lag 2 min, GITT": (scenes.gitt(), {"snr": 300.0, "lag": 120.0}),
    "clock set by 5 min": (scenes.fast(16), {"snr": 50.0, "jump": 300.0}),
    "noise only, fast": (scenes.fast(16), {"snr": 0.01}),
}


def at_once(clock: Clock, offset: float) -> bool:
    """Whether the interval without lags holds an offset."""
    assert clock.profile is not None
    x, weight = clock.profile.offset, np.exp(clock.profile.log_likelihood)
    share = weight * np.gradient(x)
    return bool(abs(offset - clock.offset) <= 1.96 * np.sqrt((share * (x - clock.offset) ** 2).sum() / share.sum()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", help="scenes whose name holds any of these")
    parser.add_argument("--no-cost", action="store_true")
    options = parser.parse_args()
    print(f"{'':32s}{'accepted':>9s}{'median':>8s}{'p95':>8s}{'max s':>8s}{'coverage':>9s}{'at once':>8s}{'+-95 %':>8s}{'s/run':>7s}  refused")
    for name, (steps, given) in SCENES.items():
        if options.only and not any(word in name for word in options.only):
            continue
        errors, held, narrow, widths, refused, seconds = [], [], [], [], Counter[str](), 0.0
        for seed in range(options.first, options.first + options.seeds):
            scene = scenes.scene(seed, steps, **given)
            started = time.perf_counter()
            clock = suggest_clock_from_physics(scene.frames, scene.echem)
            seconds += time.perf_counter() - started
            if clock.status != "ok":
                refused[clock.status] += 1
                continue
            errors.append(abs(clock.offset - scene.offset))
            held.append(errors[-1] <= 1.96 * clock.uncertainty)
            narrow.append(at_once(clock, scene.offset))
            widths.append(1.96 * clock.uncertainty)
        row = f"{name:32s}{len(errors):5d}/{options.seeds:<3d}"
        if errors:
            row += f"{np.median(errors):8.1f}{np.quantile(errors, 0.95):8.1f}{max(errors):8.1f}"
            row += f"{np.mean(held):9.2f}{np.mean(narrow):8.2f}{np.median(widths):8.1f}"
        else:
            row += f"{'-':>8s}{'-':>8s}{'-':>8s}{'-':>9s}{'-':>8s}{'-':>8s}"
        words = ", ".join(f"{status} {count}" for status, count in refused.most_common())
        print(f"{row}{seconds / options.seeds:7.1f}  {words}", flush=True)
    if not options.no_cost:
        scene = scenes.scene(0, scenes.fast(136), snr=50.0, records=0.61)
        task = f"{scene.frames.size:.1e} frames x {scene.echem.sizes['time']:.1e} records"
        started = time.perf_counter()
        clock = suggest_clock_from_physics(scene.frames, scene.echem)
        print(f"{task}: {time.perf_counter() - started:.1f} s (target 10), {clock.status}, error {clock.offset - scene.offset:+.1f} s")
        tracemalloc.start()
        suggest_clock_from_physics(scene.frames, scene.echem)
        print(f"peak memory beyond the input: {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
