"""Nyquist, Bode and relaxation times: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from operando.contract import ContractError
from operando.figures import impedance, save


def sweeps(electrodes: bool = False) -> tuple[xr.Dataset, xr.Dataset]:
    f = np.tile(np.geomspace(1e4, 1.0, 20), (12, 1))
    z = 5.0 + 10.0 / (1 + 2j * np.pi * f * 1e-3) * np.linspace(1, 2, 12)[:, None]
    z[3, 15:] = np.nan
    dims = ("time", "point")
    if electrodes:
        z, dims = np.stack([z, 2 * z], axis=-1), ("time", "point", "electrode")
    time = np.datetime64("2026-06-03T10:00:00", "ns") + np.arange(12) * np.timedelta64(1, "h")
    coords = {"time": time, "frequency": (("time", "point"), f, {"units": "Hz"})}
    if electrodes:
        coords["electrode"] = ["cell", "we"]
    frames = xr.Dataset({"impedance": (dims, z, {"units": "ohm"})}, coords)
    tau = np.geomspace(1e-5, 1.0, 30)
    shape = ("time", "tau")
    curve = np.exp(-(np.log(tau / 1e-3) ** 2)) * np.ones((12, 1))
    reduced = xr.Dataset({"impedance_fit": (dims, z)}, {**coords, "tau": tau})
    if not electrodes:
        reduced = reduced.assign(drt=(shape, curve), drt_low=(shape, 0.5 * curve), drt_high=(shape, 1.5 * curve))
    return frames, reduced


def test_points_fits_and_relaxation_times_are_drawn(tmp_path) -> None:  # type: ignore[no-untyped-def]
    frames, reduced = sweeps()
    figure = impedance(frames, reduced, sweeps=[0, 3, 11])
    assert isinstance(figure, Figure)
    nyquist, modulus, phase, relaxation = figure.axes[:4]
    assert nyquist.get_xlabel() == "Re Z (Ω)"
    points = [line for line in nyquist.lines if line.get_marker() == "o"]
    assert len(points) == 3
    np.testing.assert_allclose(points[2].get_xdata(), frames["impedance"].values[11].real)
    np.testing.assert_allclose(points[2].get_ydata(), -frames["impedance"].values[11].imag)
    assert len(modulus.lines) == len(phase.lines) == 6
    assert relaxation.get_xlabel() == "relaxation time (s)"
    assert len(relaxation.lines) == 3
    assert save(figure, tmp_path / "z.svg").stat().st_size > 10_000
    assert len([line for line in impedance(frames).axes[0].lines if line.get_marker() == "o"]) == 8


def test_an_electrode_is_chosen() -> None:
    frames, reduced = sweeps(electrodes=True)
    figure = impedance(frames, reduced, electrode="we", sweeps=[0])
    points = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xdata(), frames["impedance"].values[0, :, 1].real)
    with pytest.raises(ContractError, match="no such electrode"):
        impedance(frames, electrode="ce")
    with pytest.raises(ContractError, match="have no electrodes"):
        impedance(sweeps()[0], electrode="we")


def test_what_cannot_be_drawn_is_said() -> None:
    frames, _ = sweeps()
    with pytest.raises(ContractError, match="no such sweep"):
        impedance(frames, sweeps=[40])
    with pytest.raises(ContractError, match="no impedance to draw"):
        impedance(frames.drop_vars("impedance"))
