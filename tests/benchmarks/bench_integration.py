"""Integration of frames in memory: one pass over the pixels, against every method of pyFAI, in the same run on the same frames.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_integration.py [--detector Eiger4M] [--rounds 5]

Rounds are interleaved; the table gives median and spread (lowest to highest) of the wall time per frame in ms, and the median of the ratios within
rounds. pyFAI integrates with its Poisson error model as we do.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
import warnings

import numpy as np

from operando.reduction.integration import Integrator


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="Eiger4M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4, help="in turns: more than one is read from memory, not from the cache")
    parser.add_argument("--series", type=int, default=5, help="times that each method goes through the frames in a round")
    parser.add_argument("--points", type=int, default=2000)
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    from pyFAI.detectors import detector_factory
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    detector = detector_factory(settings.detector)
    geometry = AzimuthalIntegrator(dist=0.2, poni1=0.08, poni2=0.08, detector=detector, wavelength=0.5e-10)
    frames = np.random.default_rng(0).poisson(30.0, (settings.frames, *detector.shape)).astype(np.uint32)
    ours = {split: Integrator(geometry, points=settings.points, split=split) for split in ("no", "bbox")}
    options = {"unit": "q_A^-1", "error_model": "poisson", "mask": ours["no"].mask.astype(np.int8)}
    peers = [(split, algorithm) for split in ("no", "bbox") for algorithm in ("csc", "csr")] + [("no", "histogram")]
    times: dict[tuple[str, str], list[float]] = {}
    for round_ in range(settings.rounds + 1):
        for split, integrator in ours.items():
            begin = time.perf_counter()
            for _ in range(settings.series):
                integrator.integrate(frames)
            times.setdefault((split, "operando"), []).append((time.perf_counter() - begin) / len(frames) / settings.series)
        for split, algorithm in peers:
            begin = time.perf_counter()
            for frame in [*frames] * settings.series:
                geometry.integrate1d_ng(frame, settings.points, method=(split, algorithm, "cython"), **options)
            times.setdefault((split, algorithm), []).append((time.perf_counter() - begin) / len(frames) / settings.series)
        if round_ == 0:
            times = {}  # tables are built in the first
    best = min((statistics.median(times[key]), key) for key in peers if key[0] == "no")[1]
    print(f"{settings.detector}, {frames[0].size / 1e6:.1f} Mpx, {settings.points} bins; pyFAI's fastest without splitting: {best[1]}\n")
    print("| method | ms per frame | against ours of the same splitting |\n|---|---|---|")
    for key, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times[key[0], "operando"], strict=True))
        spread = f"{statistics.median(values) * 1e3:.2f} ({min(values) * 1e3:.2f} to {max(values) * 1e3:.2f})"
        print(f"| {key[0]} splitting, {key[1]} | {spread} | {ratio:.1f} |")
    tracemalloc.start()
    ours["no"].integrate(frames)
    print(f"\nmemory beyond the frames: {tracemalloc.get_traced_memory()[1] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
