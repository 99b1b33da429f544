"""Stores for the tests: written through the public store, small, deterministic, with known content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

import operando as op
from operando.contract import series
from operando.store import Store

START = "2026-06-03T08:00:00"
HEADER = {"loader": "made", "loader_version": "1", "options": "{}", "time_origin": "header"}


def irregular(rows: int, seed: int = 0, mean: float = 120.0, exposure: float = 30.0) -> np.ndarray:
    """Seconds at which frames begin: never regular, with pauses, never overlapping."""
    rng = np.random.default_rng(seed)
    gaps = exposure + rng.exponential(mean - exposure, rows) + 3000.0 * (rng.random(rows) < 3 / rows)
    return np.round(np.cumsum(gaps) - gaps[0], 2)


def echem(rows: int, seconds: float) -> xr.Dataset:
    t = np.linspace(0, seconds, rows)
    phase = (t / seconds * 4) % 1
    up = ((t / seconds * 4).astype(int) % 2) == 0
    voltage = np.where(up, 3.0 + 1.2 * phase, 4.2 - 1.2 * phase)
    voltage += 0.02 * np.random.default_rng(1).normal(size=rows)
    half = np.minimum((t / seconds * 4).astype(np.int32), 3)
    return series(
        "echem",
        {
            "voltage": ("time", voltage, "V"),
            "current": ("time", np.where(up, 1e-3, -1e-3), "A", {"interval": "ending"}),
            "charge": ("time", np.cumsum(np.where(up, 1e-3, -1e-3)) * seconds / rows, "C"),
            "half_cycle": ("time", half, "1"),
            "cycle": ("time", half // 2, "1"),
        },
        source="cell.mpt",
        start=START,
        elapsed=t,
        time_origin="header",
        attrs=HEADER,
    )


def xrd(begin: np.ndarray, points: int = 300, positions: int = 1, nan: bool = False) -> xr.Dataset:
    """A peak that moves; the value at the first point is the number of the frame."""
    rows = len(begin)
    q = np.linspace(1.0, 5.0, points)
    centre = 2.0 + 1.5 * np.arange(rows) / max(rows, 1)
    values = (1e3 * np.exp(-(((q - centre[:, None]) / 0.05) ** 2)) + 50).astype(np.float32)
    values[:, 0] = np.arange(rows)
    if nan:
        values[:] = np.nan
    coords: dict[str, Any] = {"q": ("q", q, "1/angstrom")}
    if positions > 1:
        coords["position"] = ("time", (np.arange(rows) % positions).astype(np.int32), "1")
    return series(
        "xrd",
        {"intensity": (("time", "q"), values, "counts")},
        source="scan.h5",
        coords=coords,
        start=START,
        elapsed=begin,
        exposure=30.0,
        time_origin="header",
        attrs=HEADER,
    )


def xas(begin: np.ndarray) -> xr.Dataset:
    energy = np.concatenate([np.arange(8200, 8320, 10.0), np.arange(8320, 8380, 0.5), np.arange(8380, 8900, 4.0)])
    mu = 0.3 + 1 / (1 + np.exp(-(energy - 8345 - 2 * np.arange(len(begin))[:, None] / max(len(begin), 1)) / 1.5))
    return series(
        "xas",
        {"mu": (("time", "energy"), mu, "1")},
        source="scan.xdi",
        coords={"energy": ("energy", energy, "eV")},
        start=START,
        elapsed=begin,
        exposure=60.0,
        time_origin="header",
        attrs=HEADER,
    )


def eis(begin: np.ndarray, points: int = 30) -> xr.Dataset:
    frequency = np.geomspace(1e5, 0.05, points)
    r = 5 + 3 * np.arange(len(begin))[:, None] / max(len(begin), 1)
    z = 2 + r / (1 + 1j * frequency / 300) + 4 / (1 + 1j * frequency / 1.5)
    return series(
        "eis",
        {"impedance": (("time", "point"), z, "ohm")},
        source="eis.mpr",
        coords={
            "frequency": (("time", "point"), np.tile(frequency, (len(begin), 1)), "Hz"),
            "n_points": ("time", np.full(len(begin), points), "1"),
        },
        start=START,
        elapsed=begin,
        exposure=240.0,
        time_origin="header",
        attrs=HEADER,
    )


def images(
    begin: np.ndarray, folder: Path, shape: tuple[int, int] = (40, 60), name: str = "detector.h5", other: dict[int, tuple[int, int]] | None = None
) -> xr.Dataset:
    """Frames in a real HDF5 file, each filled with its own number plus one; `other` gives frames of another size, in files of their own."""
    rows = len(begin)
    file, dataset = np.full(rows, name, object), np.full(rows, "entry/data", object)
    index = np.arange(rows)
    pixels = np.broadcast_to(np.arange(1, rows + 1, dtype=np.uint32)[:, None, None], (rows, *shape)).copy()
    pixels[:, 5, 7] += 100_000
    with h5py.File(folder / name, "w") as h5:
        h5.create_dataset("entry/data", data=pixels, chunks=(1, *shape), compression="gzip", compression_opts=1)
    for frame, size in (other or {}).items():
        file[frame], index[frame] = f"other_{frame}.h5", 0
        with h5py.File(folder / str(file[frame]), "w") as h5:
            h5["entry/data"] = np.full((1, *size), frame + 1, np.uint32)
    return series(
        "images",
        {
            "file": ("time", file, None),
            "dataset": ("time", dataset, None),
            "index": ("time", index, "1"),
        },
        source=name,
        start=START,
        elapsed=begin,
        exposure=30.0,
        time_origin="header",
        attrs=HEADER,
    )


def aside(frames: xr.Dataset, variables: dict[str, tuple[Any, np.ndarray, dict[str, Any]]], **coords: Any) -> xr.Dataset:
    """A product beside frames, at their times."""
    kept = {n: frames[n] for n in ("exposure", "segment", "setup") if n in frames.coords}
    return xr.Dataset(variables, {"time": frames["time"], **kept, **coords}, {"technique": frames.attrs["technique"]})


def fractions(frames: xr.Dataset) -> xr.Dataset:
    n = frames.sizes["time"]
    h2 = np.linspace(0, 1, n)
    h2[n // 2] = np.nan
    both = np.stack([1 - h2, h2], axis=1)
    return aside(
        frames,
        {
            "phase_fraction": (
                ("time", "phase"),
                both,
                {"units": "1", "long_name": "weight fraction", "ancillary_variables": "phase_fraction_errors"},
            ),
            "phase_fraction_errors": (("time", "phase"), np.full_like(both, 0.02), {"units": "1"}),
        },
        phase=np.array(["H1", "H2"], dtype=object),
    )


def eis_reduced(frames: xr.Dataset) -> xr.Dataset:
    n = frames.sizes["time"]
    tau = np.geomspace(1e-6, 10, 50)
    drt = np.exp(-((np.log(tau) - np.log(1e-3)) ** 2)) * np.linspace(1, 2, n)[:, None]
    return aside(
        frames,
        {
            "impedance_fit": (("time", "point"), frames["impedance"].values * 1.001, {"units": "ohm"}),
            "drt": (("time", "tau"), drt, {"units": "ohm"}),
            "drt_low": (("time", "tau"), drt * 0.9, {"units": "ohm"}),
            "drt_high": (("time", "tau"), drt * 1.1, {"units": "ohm"}),
        },
        tau=("tau", tau, {"units": "s"}),
    )


def resistances(frames: xr.Dataset) -> xr.Dataset:
    n = frames.sizes["time"]
    made: dict[str, tuple[Any, np.ndarray, dict[str, Any]]] = {}
    for name, value in (("ohmic_resistance", 2.0), ("charge_transfer_resistance", 5.0)):
        made[name] = ("time", value + np.arange(n) / n, {"units": "ohm", "sampling": "sample", "ancillary_variables": f"{name}_errors"})
        made[f"{name}_errors"] = ("time", np.full(n, 0.1), {"units": "ohm"})
    made["kk_passed"] = ("time", np.ones(n, np.int8), {"units": "1"})
    return aside(frames, made)


def pictures(begin: np.ndarray, values: np.ndarray) -> tuple[xr.Dataset, xr.Dataset]:
    """Small pictures (time, y, x) as `imaging` keeps them, and frames they belong to."""
    frames = series("imaging", {"mean": ("time", values.mean((1, 2)), "1")}, source="a.tif", start=START, elapsed=begin, exposure=30.0,
                    time_origin="header", attrs=HEADER)  # fmt: skip
    coords = {"time": frames["time"], "exposure": frames["exposure"]} | {
        dim: (dim, np.arange(n) * 2 + 0.5, {"units": "px"}) for dim, n in zip("yx", values.shape[1:], strict=True)
    }
    reduced = xr.Dataset({"transmission": (("time", "y", "x"), values, {"units": "1"})}, coords, {"technique": "imaging"})
    return frames, reduced


def store(folder: Path, products: dict[tuple[str, str, str], xr.Dataset], *, publish: bool = True) -> Path:
    """Write products into a store and publish it."""
    growing = Store(folder / "test.operando")
    with growing.writing() as writer:
        for address, ds in products.items():
            writer.write(*address, ds, key="made")
    return growing.publish(folder / "test.nxs") if publish else growing.path


def whole(folder: Path, *, frames: int = 60, records: int = 2000, publish: bool = True, positions: int = 1, points: int = 300) -> Path:
    """Every technique there is."""
    begin = irregular(frames)
    seconds = float(begin[-1]) + 600
    patterns, sweeps = xrd(begin, points, positions), eis(np.arange(300.0, seconds - 300, 1800.0))
    return store(
        folder,
        {
            ("A", "echem", "frames"): echem(records, seconds),
            ("A", "xrd", "frames"): patterns,
            ("A", "xrd", "observables"): fractions(patterns),
            ("A", "xas", "frames"): xas(irregular(20, 4, seconds / 22, 60.0)),
            ("A", "eis", "frames"): sweeps,
            ("A", "eis", "reduced"): eis_reduced(sweeps),
            ("A", "eis", "observables"): resistances(sweeps),
            ("A", "detector", "images"): images(begin, folder),
            ("B", "echem", "frames"): echem(200, seconds),
            ("B", "xrd", "frames"): xrd(begin[:10]),
        },
        publish=publish,
    )


def opened(path: Path) -> xr.DataTree:
    return op.open_beamtime(path)
