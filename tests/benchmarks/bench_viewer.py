"""The viewer: 10 000 XRD frames of 3000 points, a million records, 10 000 images of 1024 x 1024, against an empty napari in the same run.

    xvfb-run -a -s "-screen 0 1920x1200x24" python tests/benchmarks/bench_viewer.py [--quick]

Peer: napari alone, the same window, moving through a stack of 200 images of the same size that lies in memory. Positions are random, the same for
all, and taken in turns: peer, plots alone (the canvas waits), whole window. CPU is `process_time` with every thread (llvmpipe draws with several);
wall time stands beside it. After each position, events are processed until nothing waits to be drawn.

Each position of the whole window is compared with what `searchsorted` names; a wrong one ends the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["NAPARI_CONFIG"] = ""

import h5py  # noqa: E402
import hdf5plugin  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "napari-operando" / "tests"))


def build(folder: Path, frames: int, points: int, records: int) -> Path:
    """Write and publish the store; 200 different images, each referred to many times."""
    import stores

    begin = stores.irregular(frames, mean=60.0)
    seconds = float(begin[-1]) + 600
    rng = np.random.default_rng(0)
    pixels = rng.poisson(20, (200, 1024, 1024)).astype(np.uint16)
    pixels[:, 0, 0] = np.arange(200)
    with h5py.File(folder / "eiger.h5", "w") as h5:
        h5.create_dataset("entry/data", data=pixels, chunks=(1, 1024, 1024), **hdf5plugin.Bitshuffle(cname="lz4"))
    table = stores.images(begin[:2], folder, shape=(8, 8)).isel(time=np.arange(frames) % 2)
    patterns = stores.xrd(begin, points)
    table = table.assign_coords({n: ("time", patterns[n].values, table[n].attrs) for n in ("time", "source_time")})
    table["file"][:], table["index"][:] = "eiger.h5", np.arange(frames) % 200
    sweeps = stores.eis(np.arange(300.0, seconds - 300, 3600.0), points=60)
    products = {
        ("A", "echem", "frames"): stores.echem(records, seconds),
        ("A", "xrd", "frames"): patterns,
        ("A", "xrd", "observables"): stores.fractions(patterns),
        ("A", "xas", "frames"): stores.xas(stores.irregular(frames // 20, 4, seconds / (frames // 20 + 2), 60.0)),
        ("A", "eis", "frames"): sweeps,
        ("A", "eis", "reduced"): stores.eis_reduced(sweeps),
        ("A", "eis", "observables"): stores.resistances(sweeps),
        ("A", "detector", "images"): table,
    }
    return stores.store(folder, products)


def spread(values: list[float]) -> str:
    """Median and 95th percentile in ms."""
    return f"{1e3 * np.median(values):6.1f} {1e3 * np.percentile(values, 95):6.1f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames and records")
    parser.add_argument("--positions", type=int, default=200)
    args = parser.parse_args()
    shrink = 10 if args.quick else 1
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_operando.opening import open_window
    from napari_operando.timeview import GAP

    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder), 10_000 // shrink, 3000, 1_000_000 // shrink)
        print(f"store: {path.stat().st_size / 1e6:.0f} MB")

        window = None

        def settle() -> None:
            for _ in range(3):
                app.processEvents()
                while window is not None and not window.closed and window.paints_soon:
                    time.sleep(0.0002)
                    app.processEvents()

        t, c = time.perf_counter(), time.process_time()
        empty = napari.Viewer(title="peer", show_welcome_screen=False)
        app = QApplication.instance()
        settle()
        print(f"viewer alone:            {time.perf_counter() - t:5.2f} s wall {time.process_time() - c:5.2f} s CPU")
        empty.window.resize(1900, 1150)
        empty.add_image(np.random.default_rng(0).poisson(20, (200, 1024, 1024)).astype(np.uint16), contrast_limits=(0, 40))
        viewer = napari.Viewer(title="ours", show_welcome_screen=False)
        viewer.window.resize(1900, 1150)
        settle()
        t, c = time.perf_counter(), time.process_time()
        window = open_window(viewer, path)
        app.processEvents()
        first = time.perf_counter() - t
        assert window.settle(60)
        print(
            f"store opened after that: {time.perf_counter() - t:5.2f} s wall {time.process_time() - c:5.2f} s CPU (window there after {first:.2f} s)"
        )
        window.session.mark("A", 0.2 * window.session.timeline.end)
        window.session.mark("B", 0.7 * window.session.timeline.end)
        window.session.difference = True
        window.settle()

        rng = np.random.default_rng(1)
        line = window.session.timeline
        times = rng.uniform(line.begin, line.end, args.positions)
        begin = window.cell.images["detector"].begin
        taken: dict[str, list[tuple[float, float]]] = {"peer": [], "plots": [], "whole": []}
        references = sys.getrefcount(None)
        wrong = gaps = 0

        def one(kind: str, step: object) -> None:
            w, c = time.perf_counter(), time.process_time()
            step()  # type: ignore[operator]
            settle()
            taken[kind].append((time.perf_counter() - w, time.process_time() - c))

        def move(to: float, canvas: bool) -> None:
            window.session.time = to
            window.canvas._soon.stop()
            if canvas:
                window.canvas.show_moment()

        for k, to in enumerate(times):
            one("peer", lambda k=k: empty.dims.set_point(0, (k * 37) % 200))
            one("plots", lambda to=to: move(to, False))
            one("whole", lambda k=k: move(times[(k + 7) % len(times)], True))
            now = window.session.time
            at = int(np.searchsorted(begin, now, side="right")) - 1
            view = window.canvas.views["detector"]
            shown = at >= 0 and max(now - begin[at] - 30.0, 0.0) <= view.times.max_age
            gaps += not shown
            wrong += int(np.asarray(window.canvas.layers["detector"]._slice.image.raw)[0, 0]) != (at % 200 if shown else 0)
            frame = line.frames["xrd"].at(now).index
            spectrum = window.spectrum.shown.get("cursor")
            wrong += (spectrum is None) != (frame == GAP) or (spectrum is not None and spectrum[1][0] != frame)
        if wrong:
            raise SystemExit(f"{wrong} positions show another frame than searchsorted names")
        print(f"{args.positions} random positions, {gaps} of them in gaps, all as searchsorted names them; median and p95 (ms):")
        base = np.median([c for _, c in taken["peer"]])
        for kind, found in taken.items():
            wall, cpu = [w for w, _ in found], [c for _, c in found]
            print(f"  {kind:<6} CPU {spread(cpu)}   wall {spread(wall)}   CPU / peer {np.median(cpu) / base:5.2f}")
        view = window.canvas.views["detector"]
        inside = int(np.argmax(np.diff(begin) > 30))
        move(begin[inside] + 0.5, True)
        before = view.reads
        for to in np.linspace(begin[inside] + 0.5, begin[inside] + 29, 100):
            move(to, True)
        print(f"100 positions inside one frame: {view.reads - before} further reads; references to None: {sys.getrefcount(None) - references:+d}")
        row = next(r for r in window.timeline.rows if r.key == "xrd")
        for what, step in (
            ("pan", lambda k: row.view.setXRange(line.begin + k * 1000.0, line.begin + k * 1000.0 + 0.5 * (line.end - line.begin), padding=0)),
            ("levels", lambda k: row.bar.setLevels((0, 800 + 5 * k))),
            ("zoom of the axis", lambda k: row.view.setYRange(1.5, 4 - 0.01 * k, padding=0)),
        ):
            cpu = []
            for k in range(30):
                c = time.process_time()
                step(k)
                settle()
                cpu.append(time.process_time() - c)
            print(f"  {what:<17} CPU {spread(cpu)}")
        t = time.perf_counter()
        assert window.settle(60)
        window.close()
        settle()
        print(f"closed in {time.perf_counter() - t:.2f} s")
        viewer.close()
        empty.close()


if __name__ == "__main__":
    main()
