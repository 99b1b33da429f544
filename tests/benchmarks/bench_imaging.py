"""Images: drift against scikit-image alone on the same pictures, pages of TIFF against tifffile alone, and memory as the stack grows.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python tests/benchmarks/bench_imaging.py [--size 512] [--frames 40] [--rounds 5]

The pictures are particles rendered from a formula at the displaced pixel, counted by chance; rounds are interleaved, CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.registration import phase_cross_correlation

from operando import images
from operando.reduction.imaging.registration import register

_MEMORY = """
import resource, sys, warnings
import operando as op
ds = op.load(sys.argv[1], loader="tiff-stack", start="2024-01-01", frame_time="1 s", timezone="UTC")
op.reduce(ds, {"reducer": "imaging", "drift": {"region": {"rows": [0, 64]}}}, workers=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def picture(size: int, dy: float, dx: float, blobs: np.ndarray) -> np.ndarray:
    """Particles, displaced."""
    out = np.full((size, size), 0.6)
    for row, column, radius, contrast in blobs:
        y, x = np.arange(size) - row - dy, np.arange(size) - column - dx
        out += contrast * np.outer(np.exp(-0.5 * (y / radius) ** 2), np.exp(-0.5 * (x / radius) ** 2))
    return out


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what came of it."""
    begin = time.process_time()
    out = work()
    return time.process_time() - begin, out


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    size, rng = args.size, np.random.default_rng(0)
    blobs = np.column_stack([rng.uniform(0, size, 300), rng.uniform(0, size, 300), rng.uniform(1.5, 4, 300), rng.uniform(-0.3, 0.3, 300)])
    true = np.cumsum(rng.normal(0, 0.7, (args.frames, 2)), axis=0)
    true[0] = 0
    counts = [rng.poisson(3000 * np.clip(picture(size, *d, blobs), 0.02, None)).astype(np.uint16) for d in true]
    box = (size // 8, 7 * size // 8, size // 8, 7 * size // 8)

    def ours() -> np.ndarray:
        guess, out = (0.0, 0.0), []
        for one in counts[1:]:
            found = register(counts[0].astype(np.float32), one.astype(np.float32), box, guess=guess, most=40.0)
            guess = (found.dy, found.dx)
            out.append([found.dy, found.dx, found.dy_error, found.dx_error])
        return np.array(out)

    inside = (slice(box[0], box[1]), slice(box[2], box[3]))

    def peer() -> np.ndarray:
        return np.array([-phase_cross_correlation(counts[0][inside], one[inside], upsample_factor=100)[0] for one in counts[1:]])

    ours(), peer()
    took: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(args.rounds):
        for name, work in (("ours", ours), ("peer", peer)):
            seconds, out = timed(work)
            took[name].append(seconds / (args.frames - 1))
            off = np.abs(out[:, :2] - true[1:])
            if name == "ours":
                pull = float(np.std((out[:, :2] - true[1:]) / out[:, 2:]))
                best = (off.max(), np.sqrt((off**2).mean()))
            else:
                theirs = (off.max(), np.sqrt((off**2).mean()))
    each = [a / b for a, b in zip(took["ours"], took["peer"], strict=True)]
    cost = 1e3 * statistics.median(took["ours"])
    print(f"drift, box of {box[1] - box[0]} px: {cost:.1f} ms; ratio to scikit-image (upsample 100) {spread(each)}")
    print(f"  off by at most {best[0]:.4f} px (rms {best[1]:.4f}), deviation / stated error {pull:.2f}")
    print(f"  scikit-image: at most {theirs[0]:.4f} px (rms {theirs[1]:.4f})")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stack.tif")
        with tifffile.TiffWriter(path) as out:
            for one in counts:
                out.write(one, metadata=None, contiguous=False, compression="zlib")

        def open_one() -> None:
            with tifffile.TiffFile(path) as tif:
                for page in tif.pages:
                    page.asarray(maxworkers=1)

        def by_reference() -> None:
            for k in range(args.frames):
                images.read(path, "pages", k)

        by_reference(), open_one()
        ratio = []
        for _ in range(args.rounds):
            a, b = timed(by_reference)[0], timed(open_one)[0]
            ratio.append(a / b)
        print(f"TIFF pages one by one, by reference / tifffile alone: {spread(ratio)}")
        peak = []
        for times in (1, 4):
            with tifffile.TiffWriter(path) as out:
                for one in counts * times:
                    out.write(one, metadata=None, contiguous=False)
            peak.append(float(subprocess.run([sys.executable, "-c", _MEMORY, str(path)], capture_output=True, text=True, check=True).stdout))
        print(f"peak memory of the reduction, {args.frames} / {4 * args.frames} frames: {peak[0]:.0f} / {peak[1]:.0f} MB")


if __name__ == "__main__":
    main()
