"""Frames from a file to patterns: bitshuffle-LZ4 chunks of an Eiger 4M, against pyFAI that reads the same file through h5py and hdf5plugin.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_frames.py [--frames 16] [--rounds 5]

Rounds are interleaved; wall and CPU time per frame, median and spread (lowest to highest): on a busy machine the CPU times tell more.
pyFAI is given each of its methods without splitting and as many OpenMP threads as the environment says; the best of them is the peer.
Memory: peak of a process of its own that integrates 50 and 500 frames.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

DATA = "/entry/data/data"


def write(path: Path, n: int) -> None:
    """Write frames as such a detector does: rings over a background, gaps at the largest number, one frame in a chunk."""
    import h5py
    import hdf5plugin

    shape = (2167, 2070)
    y, x = np.indices(shape)
    r = np.hypot(y - 1100, x - 1050)
    profile = 0.6 + 6 * np.exp(-r / 600) + sum(60 / (1 + ((r - c) / 4) ** 2) for c in (200, 350, 420, 600, 750, 900, 1100))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as h5:
        data = h5.create_dataset(DATA, (n, *shape), np.uint32, chunks=(1, *shape), **hdf5plugin.Bitshuffle())
        for k in range(n):
            frame = rng.poisson(profile).astype(np.uint32)
            for row in (514, 1065, 1616):
                frame[row : row + 37] = 2**32 - 1
            frame[:, 1030:1040] = 2**32 - 1
            data[k] = frame
        print(f"{n} frames, {data.id.get_storage_size() / n / 1e6:.2f} MB each in the file, mean {profile.mean():.1f} counts\n")


def geometry() -> object:
    """Give the geometry."""
    from pyFAI.detectors import detector_factory
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    return AzimuthalIntegrator(dist=0.2, poni1=0.0825, poni2=0.07875, detector=detector_factory("Eiger4M"), wavelength=0.5e-10)


def peak(path: Path, n: int) -> float:
    """Integrate n frames in a process of its own: its peak memory, MB."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_frames as b; b.many({str(path)!r}, {n})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def many(path: str, n: int) -> None:
    """Integrate n frames by the reducer with two workers, and print the peak of resident memory."""
    import resource

    import xarray as xr

    import operando as op

    warnings.filterwarnings("ignore")
    listed = op.load(path, "xrd-frames", start="2026-06-03T10:00:00", frame_time="1 s", timezone="UTC")
    rows = np.arange(n) % listed.sizes["time"]
    listed = listed.isel(time=rows).assign_coords(time=listed["time"].values[0] + np.arange(n) * np.timedelta64(1, "s"))
    listed = listed.assign_coords(source_time=("time", listed["time"].values))
    ai = geometry()
    with tempfile.TemporaryDirectory() as folder:
        ai.save(f"{folder}/geometry.poni")  # type: ignore[attr-defined]
        listed.attrs["geometry"] = Path(folder, "geometry.poni").read_text()
    made: xr.Dataset = op.reduce(listed, {"reducer": "integrate", "points": 2000}, workers=2)["frames"]
    print(made.nbytes / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=2000)
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    import h5py
    import hdf5plugin  # noqa: F401

    from operando import images
    from operando.reduction.integration import Integrator

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames.h5")
        write(path, settings.frames)
        ai = geometry()
        ours = {split: Integrator(ai, points=settings.points, split=split) for split in ("no", "bbox")}
        options = {"unit": "q_A^-1", "error_model": "poisson", "mask": ours["no"].mask.astype(np.int8)}
        pools = {n: ThreadPoolExecutor(n) for n in (1, 2)}

        def mine(split: str, workers: int) -> None:
            list(pools[workers].map(lambda k: ours[split].one(images.raw(path, DATA, k)), range(settings.frames)))

        def theirs(split: str, algorithm: str) -> None:
            with h5py.File(path) as h5:
                for k in range(settings.frames):
                    ai.integrate1d_ng(h5[DATA][k], settings.points, method=(split, algorithm, "cython"), **options)  # type: ignore[attr-defined]

        def reading() -> None:
            with h5py.File(path) as h5:
                for k in range(settings.frames):
                    h5[DATA][k]

        work = {f"ours, {split} splitting, {n} worker{'s' * (n > 1)}": (mine, (split, n)) for split in ("no", "bbox") for n in (1, 2)}
        peers = [("no", "csc"), ("no", "csr"), ("no", "histogram"), ("bbox", "csc"), ("bbox", "csr")]
        work |= {f"pyFAI, {split} splitting, {algorithm}": (theirs, (split, algorithm)) for split, algorithm in peers}
        work["h5py and hdf5plugin alone: reading"] = (reading, ())
        times: dict[str, list[float]] = {}
        cpu: dict[str, list[float]] = {}
        for round_ in range(settings.rounds + 1):
            for name, (run, arguments) in work.items():
                begin, used = time.perf_counter(), time.process_time()
                run(*arguments)
                if round_:
                    times.setdefault(name, []).append((time.perf_counter() - begin) / settings.frames)
                    cpu.setdefault(name, []).append((time.process_time() - used) / settings.frames)
        best = {s: min((k for k in times if k.startswith(f"pyFAI, {s} ")), key=lambda k: statistics.median(times[k])) for s in ("no", "bbox")}
        print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}\n")
        print("| | ms per frame | pyFAI's best of the same splitting / this | CPU ms per frame |\n|---|---|---|---|")
        for name, values in times.items():
            split = "bbox" if "bbox" in name else "no"
            ratio = [a / b for a, b in zip(times[best[split]], values, strict=True)]
            spread = f"{statistics.median(values) * 1e3:.2f} ({min(values) * 1e3:.2f} to {max(values) * 1e3:.2f})"
            busy = f"{statistics.median(cpu[name]) * 1e3:.2f}"
            print(f"| {name} | {spread} | {statistics.median(ratio):.1f} ({min(ratio):.1f} to {max(ratio):.1f}) | {busy} |")
        frame = images.read(path, DATA, 0)
        counts = np.where(frame == 2**32 - 1, 0, frame).astype(np.float32)  # as variance: pyFAI's Poisson model takes at least 1 for each pixel
        exact = {**options, "error_model": None, "variance": counts, "dummy": 2**32 - 1, "delta_dummy": 0.5}
        peer = ai.integrate1d_ng(frame, settings.points, method=("no", "csc", "cython"), **exact)  # type: ignore[attr-defined]
        intensity, sigma, *_ = ours["no"].one(images.raw(path, DATA, 0))
        there = np.asarray(peer.sum_normalization) > 0
        off = np.nanmax(np.abs(intensity - peer.intensity)[there]) / peer.intensity.max()
        scatter = np.nanmax(np.abs(sigma / peer.sigma - 1)[there])
        print(f"\nintensity within {off:.1e} of pyFAI's, sigma within {scatter:.1e} of pyFAI's of the same variances")
        small, large = (peak(path, n) for n in (50, 500))
        print(f"peak memory of a process: {small:.0f} MB for 50 frames, {large:.0f} MB for 500 (16 kB of pattern each)")


if __name__ == "__main__":
    main()
