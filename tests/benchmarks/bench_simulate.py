"""How the simulator scales: seconds per frame and peak memory at n and 4 n frames, each run in a process of its own, in interleaved rounds.

The peer is the work nobody can avoid: drawing the Poisson counts of a frame and compressing them with bitshuffle-LZ4, measured in the same round.
`python tests/benchmarks/bench_simulate.py [--eiger]`
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from statistics import median

CHILD = """
import json, resource, sys, tempfile, time
from operando.simulate import simulate
frames, detector = int(sys.argv[1]), sys.argv[2]
with tempfile.TemporaryDirectory() as folder:
    simulate(folder, only=["echem"], cycles=1)
    began = time.process_time()
    simulate(folder, only=["xrd"], cycles=1, frames=frames, detector=detector)
    print(json.dumps({"s": time.process_time() - began, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""
PEER = """
import json, sys, tempfile, time
import h5py, hdf5plugin, numpy as np
frames, shape = int(sys.argv[1]), {"pilatus100k": (195, 487), "eiger4m": (2167, 2070)}[sys.argv[2]]
rng = np.random.default_rng(1)
mean = np.full(shape, 2.5)
with tempfile.TemporaryDirectory() as folder, h5py.File(folder + "/a.h5", "w") as h5:
    data = h5.create_dataset("data", (frames, *shape), np.uint32, chunks=(1, *shape), **hdf5plugin.Bitshuffle())
    began = time.process_time()
    for k in range(frames):
        data[k] = rng.poisson(mean)
    print(json.dumps({"s": time.process_time() - began}))
"""


def run(code: str, frames: int, detector: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, str(frames), detector], capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    detector, few = ("eiger4m", 6) if "--eiger" in sys.argv else ("pilatus100k", 150)
    rounds = [(run(CHILD, few, detector), run(CHILD, 4 * few, detector), run(PEER, few, detector)) for _ in range(3)]
    slope = [(b["s"] - a["s"]) / (3 * few) for a, b, _ in rounds]
    peer = [p["s"] / few for *_, p in rounds]
    ratio = [s / p for s, p in zip(slope, peer, strict=True)]
    print(f"{detector}: {1e3 * median(slope):.1f} ms CPU per further frame; Poisson and compression alone {1e3 * median(peer):.1f} ms")
    print(f"ratio {median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})")
    print(f"peak memory {median(a['MB'] for a, *_ in rounds):.0f} MB at {few} frames, {median(b['MB'] for _, b, _ in rounds):.0f} MB at {4 * few}")


if __name__ == "__main__":
    main()
