"""A build as a whole: what an unchanged run costs, and that memory follows the setting and not the number of frames.

    python tests/benchmarks/bench_build.py [--quick]

The peer of the unchanged run is `os.stat` and one `sha256` of a small file for each input: the least any tool must do to know.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

CONFIG = """\
timezone: Europe/Paris
sources:
  detector: {loader: LOADER, files: FILES, OPTIONS}
cells:
  A: {series: {xrd: {from: detector}}}
"""


def patterns(folder: Path, n: int) -> Path:
    """Write n small patterns and their configuration."""
    two_theta = np.linspace(5, 40, 200)
    for k in range(n):
        stamp = str(np.datetime64("2026-06-03T10:00:00") + np.timedelta64(60 * k, "s")).replace("-", "").replace(":", "")
        np.savetxt(folder / f"A_{stamp}_{k:05d}.xy", np.column_stack([two_theta, np.full(200, float(k))]), fmt="%.5f")
    options = 'name_pattern: "A_{time:%Y%m%dT%H%M%S}_{frame}", exposure: 30 s, wavelength: 0.4 angstrom'
    path = folder / "beamtime.yaml"
    path.write_text(CONFIG.replace("LOADER", "xrd-1d").replace("FILES", '"*.xy"').replace("OPTIONS", options))
    return path


def unchanged(rounds: int) -> None:
    """Time a second run in one process, imports done."""
    from operando import beamtime
    from operando.config import read_config

    with tempfile.TemporaryDirectory() as tmp:
        config = patterns(Path(tmp), 200)
        beamtime.run(read_config(config))
        time.sleep(0.1)
        beamtime.run(read_config(config), rehash=True)
        times: dict[str, list[float]] = {"stat + sha256 of every file": [], "unchanged run": []}
        for _ in range(rounds):
            begin = time.perf_counter()
            for path in Path(tmp).glob("*.xy"):
                os.stat(path)
                hashlib.sha256(path.read_bytes()).hexdigest()
            times["stat + sha256 of every file"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            assert not any(beamtime.run(read_config(config)).done.values())
            times["unchanged run"].append(time.perf_counter() - begin)
    peer = statistics.median(times["stat + sha256 of every file"])
    print(f"\n{'200 input files, nothing changed':<34} {'ms':>8} {'min':>7} {'max':>7} {'ratio':>6}")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:<34} {1e3 * middle:8.1f} {1e3 * min(values):7.1f} {1e3 * max(values):7.1f} {middle / peer:6.2f}")


_CHILD = """
import resource, sys, time
from operando import beamtime
from operando.config import read_config
config = read_config(sys.argv[1])
begin = time.perf_counter()
beamtime.run(config, memory=int(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - begin)
"""


def memory(sizes: tuple[int, ...], setting: int) -> None:
    """Build ever more frames of one HDF5 master under one memory setting."""
    print(f"\n{'frames x 2000 float32':<22} {'MB of signal':>13} {'memory: MB':>11} {'peak MB':>8} {'s':>6} {'us/frame':>9}")
    for n in sizes:
        with tempfile.TemporaryDirectory() as tmp:
            with h5py.File(Path(tmp) / "master.h5", "w") as h5:
                group = h5.create_group("entry_1")
                group["start_time"] = "2026-06-03T10:00:00+02:00"
                data = group.create_dataset("data", (n, 2000), "f4", chunks=(64, 500))
                for a in range(0, n, 1000):
                    data[a : a + 1000] = np.random.default_rng(a).random((min(1000, n - a), 2000), "f4")
                data.attrs["units"] = "counts"
                group["q"] = np.linspace(0.5, 6, 2000)
                group["q"].attrs["units"] = "1/angstrom"
            options = 'technique: xrd, entries: "entry_*", start_time: start_time, frame_time: 1 s, signals: {intensity: data}, axis: {q: q}'
            config = Path(tmp) / "beamtime.yaml"
            config.write_text(CONFIG.replace("LOADER", "hdf5-path").replace("FILES", "master.h5").replace("OPTIONS", options))
            done = subprocess.run([sys.executable, "-c", _CHILD, str(config), str(setting)], capture_output=True, text=True, check=True)
            peak, seconds = done.stdout.split()
            print(f"{n:<22} {n * 8e-3:13.0f} {setting / 1e6:11.0f} {int(peak) / 1e3:8.0f} {float(seconds):6.1f} {1e6 * float(seconds) / n:9.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    unchanged(3 if quick else 15)
    memory((1000, 4000) if quick else (5_000, 20_000, 80_000), 50_000_000)
    print(f"\nthis process: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
