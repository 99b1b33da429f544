"""How fast the store writes, opens and publishes, against bare h5py and xarray's own engines. Not collected by pytest.

    python tests/benchmarks/bench_store.py [--rounds 5] [--quick]

Rounds are interleaved: each times every contender once, in turn, and a ratio compares the two of the same round.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr


def frames(rows: int, points: int, seed: int = 0) -> xr.Dataset:
    """Counts on a smooth background, as a detector gives them: noise does not compress, its range does."""
    rng = np.random.default_rng(seed)
    background = 200 + 150 * np.sin(np.linspace(0, 20, points))
    block = rng.poisson(background, (min(rows, 2000), points)).astype(np.float32)
    intensity = np.concatenate([block] * -(-rows // len(block)))[:rows]
    time_ = np.datetime64("2026-06-03T10:00:00", "ns") + np.arange(rows) * np.timedelta64(1, "s")
    return xr.Dataset(
        {"intensity": (("time", "q"), intensity, {"units": "counts"})},
        {"time": time_, "q": ("q", np.linspace(0.5, 8, points), {"units": "1/angstrom"})},
        {"technique": "xrd"},
    )


def compare(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Time each contender once per round; a first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            if i:
                times[name].append(time.perf_counter() - begin)
    return {name: np.array(t) for name, t in times.items()}


def show(title: str, times: dict[str, np.ndarray], reference: str, size: float | None = None) -> None:
    """Print median, spread and the median ratio to the reference of the same round."""
    print(f"\n{title}\n{'':34}{'median':>11}{'min':>11}{'max':>11}{'MB/s':>8}{'time / ' + reference:>30}")
    for name, t in times.items():
        rate = f"{size / np.median(t) / 1e6:8.0f}" if size else " " * 8
        ratio = np.median(t / times[reference])
        print(f"{name:34}{np.median(t) * 1e3:9.1f}ms{t.min() * 1e3:9.1f}ms{t.max() * 1e3:9.1f}ms{rate}{ratio:30.2f}")


def bench_write(folder: Path, rounds: int, rows: int) -> None:
    """One part of frames against the bare dataset with the same chunks and codec."""
    import h5py
    import hdf5plugin

    from operando.store import Store

    ds = frames(rows, 2000)
    data = ds["intensity"].values
    n = [0]

    def bare(sync: bool) -> None:
        import os

        with h5py.File(folder / "bare.h5", "w") as h5:
            h5.create_dataset("intensity", data=data, chunks=(64, 256), **hdf5plugin.Bitshuffle(cname="lz4"))
            h5["time"], h5["q"] = ds["time"].values.astype("i8"), ds["q"].values
        if sync:
            fd = os.open(folder / "bare.h5", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
        (folder / "bare.h5").unlink()

    store = Store(folder / "w.operando")
    with store.writing(keep_replaced=0) as writer:

        def ours() -> None:
            n[0] += 1
            part = writer.write("A", "xrd", "frames", ds, key=str(n[0]))
            writer.drop([part])

        times = compare({"h5py": lambda: bare(False), "h5py + fsync": lambda: bare(True), "store (fsync, sha256, manifest)": ours}, rounds)
    show(f"write {rows} x 2000 float32 ({data.nbytes / 1e6:.0f} MB)", times, "h5py", data.nbytes)
    print(f"throughput against h5py + fsync: {np.median(times['h5py + fsync'] / times['store (fsync, sha256, manifest)']):.2f} x")


def bench_open(folder: Path, rounds: int) -> None:
    """55 variables x 1e5 frames: our opening against xarray's engines, all lazy."""
    from operando import hdf5
    from operando.store import Store, open_beamtime

    rows = 100_000
    time_ = np.datetime64("2026-06-03T10:00:00", "ns") + np.arange(rows) * np.timedelta64(1, "s")
    rng = np.random.default_rng(0)
    ds = xr.Dataset({f"v{i}": ("time", rng.normal(size=rows), {"units": "V", "long_name": f"variable {i}"}) for i in range(55)}, {"time": time_})
    ds.attrs["technique"] = "sensor"
    ds = ds.assign({f"v{i}": ds[f"v{i}"].assign_attrs(sampling="continuous") for i in range(55)})
    live, published = folder / "o.operando", folder / "o.nxs"
    with Store(live).writing() as writer:
        for i, rows_ in enumerate(np.array_split(np.arange(rows), 40)):
            writer.write("A", "log", "frames", ds.isel(time=rows_), key=str(i))
    Store(live).publish(published)
    group = "A/log/frames"

    def cold(run: Callable[[], object]) -> Callable[[], object]:
        def go() -> object:
            hdf5.close_files()
            return run()

        return go

    def engine(name: str) -> Callable[[], object]:
        return lambda: xr.open_dataset(published, engine=name, group=group).close()

    contenders: dict[str, Callable[[], object]] = {
        "xarray netcdf4": engine("netcdf4"),
        "xarray h5netcdf": engine("h5netcdf"),
        "open_beamtime, published": cold(lambda: open_beamtime(published)[group].ds),
        "open_beamtime, 40 live parts": cold(lambda: open_beamtime(live)[group].ds),
    }
    times = compare(contenders, rounds)
    show("open 55 variables x 1e5 frames lazily", times, "xarray netcdf4")


def bench_publish(folder: Path, rounds: int, rows: int) -> None:
    """Throughput of publishing, and the memory it takes, in a process of its own."""
    from operando.store import Store

    ds = frames(rows, 2000)
    size = ds["intensity"].nbytes
    with Store(folder / "p.operando").writing() as writer:
        for i in range(0, rows, 2000):
            writer.write("A", "xrd", "frames", ds.isel(time=slice(i, i + 2000)), key=str(i))
    store = Store(folder / "p.operando")

    def bare() -> None:
        import h5py

        with h5py.File(folder / "bare.h5", "w") as h5:
            h5.create_dataset("x", data=ds["intensity"].values, chunks=(64, 256), compression="gzip", compression_opts=1, shuffle=True)

    times = compare({"h5py gzip 1 + shuffle": bare, "publish": lambda: store.publish(folder / "p.nxs")}, rounds)
    show(f"publish {rows} x 2000 float32 with overviews ({size / 1e6:.0f} MB)", times, "h5py gzip 1 + shuffle", size)
    code = (
        "peak = lambda: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'));"
        "import sys; from operando.store import Store; s = Store(sys.argv[1]); s.read('A', 'xrd', 'frames');"
        "a = peak(); s.publish(sys.argv[2]);"
        "print(a // 1024, peak() // 1024)"
    )
    before, peak = subprocess.run(
        [sys.executable, "-c", code, str(folder / "p.operando"), str(folder / "p.nxs")], capture_output=True, text=True, check=True
    ).stdout.split()
    print(f"peak memory of a process that publishes: {peak} MB, {before} MB of it before it began; the frames are {size // 2**20} MB")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        rows = 1000 if args.quick else 10_000
        bench_write(folder, args.rounds, rows)
        bench_open(folder, args.rounds)
        bench_publish(folder, min(args.rounds, 3), rows)
        print(f"peak memory of this benchmark: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
