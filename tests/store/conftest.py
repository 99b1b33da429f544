"""Small series of every shape the store must keep."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from operando.contract import AlignmentFlag, flag_attrs, series

HEADER = {"loader": "made", "loader_version": "1", "options": "{}", "time_origin": "header"}


def xrd(number=0, rows=5, points=300, start=None, **attrs):
    """Frames of one file; the intensity says which file and frame it is."""
    intensity = (1000.0 * number + np.arange(rows))[:, None] + np.linspace(0, 0.5, points)
    return series(
        "xrd",
        {"intensity": (("time", "q"), intensity.astype(np.float32), "counts")},
        source=f"f{number}.h5",
        coords={"q": ("q", np.linspace(0.5, 8, points), "1/angstrom")},
        start=start or f"2026-06-03T{10 + number // 60:02d}:{number % 60:02d}:00",
        elapsed=np.arange(rows) * 2.0,
        exposure=1.0,
        time_origin="header",
        attrs={**HEADER, **attrs},
    )


def inputs(number, rows=5, **more):
    """What the rows of `xrd(number)` came from."""
    return [{"file": f"f{number}.h5", "size": 10, "sha256": f"{number:064x}", "rows": [0, rows], **more}]


def echem(rows=40):
    ramp = np.linspace(3.0, 4.2, rows)
    variables = {
        "voltage": ("time", ramp, "V"),
        "current": ("time", np.full(rows, 1e-3), "A", {"interval": "ending"}),
        "charge": ("time", np.arange(rows) * 1e-3, "C"),
    }
    return series(
        "echem", variables, source="cell.mpt", start="2026-06-03T10:00:00", elapsed=np.arange(rows) * 30.0, time_origin="header", attrs=HEADER
    )


def eis(rows=6, points=20, number=0):
    frequency = np.geomspace(1e5, 1, points)
    z = 1 + 5 / (1 + 1j * frequency / 300) + np.zeros((rows, 1))
    return series(
        "eis",
        {"impedance": (("time", "point"), z, "ohm")},
        source=f"eis{number}.mpr",
        coords={
            "frequency": (("time", "point"), np.tile(frequency, (rows, 1)), "Hz"),
            "n_points": ("time", np.full(rows, points), "1"),
        },
        start=f"2026-06-03T{10 + number}:00:00",
        elapsed=np.arange(rows) * 60.0,
        exposure=30.0,
        time_origin="header",
        attrs=HEADER,
    )


def observables(times):
    n = len(times)
    fraction = np.stack([np.linspace(1, 0, n), np.linspace(0, 1, n)], axis=1)
    return xr.Dataset(
        {
            "phase_fraction": (("time", "phase"), fraction, {"units": "1", "ancillary_variables": "phase_fraction_errors"}),
            "phase_fraction_errors": (("time", "phase"), fraction * 0.1, {"units": "1"}),
            "converged": ("time", np.arange(n) % 2 == 0),
        },
        {"time": times, "phase": np.array(["H1", "H2"], dtype=object)},
    )


def alignment(frames, hours=-2, zone="Europe/Paris"):
    """A correction by whole hours, with a voltage."""
    n = frames.sizes["time"]
    return xr.Dataset(
        {
            "voltage": ("time", np.linspace(3, 4, n), {"units": "V"}),
            "cycle": ("time", np.zeros(n, np.int32), {"units": "1"}),
            "flags": ("time", np.zeros(n, np.int32), flag_attrs(AlignmentFlag)),
        },
        {
            "time": frames["time"].values + np.timedelta64(hours, "h"),
            "source_time": ("time", frames["source_time"].values + np.timedelta64(hours, "h")),
            "segment": ("time", np.full(n, 1, np.int32), {"units": "1"}),
        },
        {"timezone": zone, "timezone_source": "config", "clock": '{"offset": 0.0}'},
    )


@pytest.fixture(scope="session")
def make():
    """Makers of series."""
    return SimpleNamespace(xrd=xrd, inputs=inputs, echem=echem, eis=eis, observables=observables, alignment=alignment)


@pytest.fixture
def store(tmp_path):
    from operando.store import Store

    return Store(tmp_path / "june.operando")


@pytest.fixture
def beamtime(store, make):
    """A store of two cells with every kind of product."""
    with store.writing() as writer:
        for number in (0, 1, 2):
            writer.write("A", "xrd", "frames", make.xrd(number), key=f"x{number}", inputs=make.inputs(number))
        writer.write("A", "echem", "frames", make.echem(), key="e", inputs=None)
        writer.write("A", "eis", "frames", make.eis(), key="z", inputs=None)
        writer.write("B", "xrd", "frames", make.xrd(5, rows=1), key="b", inputs=None)
        for series in ("xrd", "echem", "eis"):
            writer.write("A", series, "alignment", make.alignment(store.read("A", series, "frames")), key="a")
        writer.write("A", "xrd", "observables", make.observables(store.read("A", "xrd", "frames").time.values), key="o")
        cycles = xr.Dataset({"capacity": ("cycle", [1.5, 1.4], {"units": "mA*h"})}, {"cycle": [0, 1]})
        writer.write("A", "echem", "cycles", cycles, key="c")
        writer.write(
            "A", "xrd", "skipped", xr.Dataset({"file": ("file", np.array(["x.h5"], object))}), key="s", inputs=[{"file": "x.h5", "rows": [0, 0]}]
        )
    return store
