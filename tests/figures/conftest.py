"""A small cell whose every number is known: frames with a gap, two positions, a cycler that paused, observables with errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

START = np.datetime64("2026-06-03T08:00:00", "ns")


def _moments(seconds: np.ndarray) -> np.ndarray:
    return START + np.round(np.asarray(seconds) * 1e9).astype("timedelta64[ns]")


@pytest.fixture
def moments() -> Callable[[np.ndarray], np.ndarray]:
    """Seconds after 2026-06-03 08:00 UTC as datetime64[ns]."""
    return _moments


@pytest.fixture
def patterns() -> Callable[..., xr.Dataset]:
    """Patterns whose intensity is the number of their frame: `patterns(middles in seconds, exposure=...)`."""

    def make(middle: np.ndarray, exposure: float = 10.0, points: int = 5, **coords: object) -> xr.Dataset:
        n = len(middle)
        values = np.repeat(np.arange(n, dtype=float)[:, None], points, axis=1)
        axis = {"q": ("q", np.linspace(1.0, 2.0, points), {"units": "1/angstrom"})}
        shown = {"exposure": ("time", np.full(n, exposure), {"units": "s"}), "quality": ("time", np.zeros(n, np.int32), {"units": "1"})}
        return xr.Dataset(
            {"intensity": (("time", "q"), values, {"units": "counts"})},
            coords={"time": _moments(middle), **axis, **shown, **{k: ("time", v, {"units": "1"}) for k, v in coords.items()}},
            attrs={"technique": "xrd", "cell": "A", "timezone_source": "config"},
        )

    return make


@pytest.fixture
def echem() -> xr.Dataset:
    """Two hours of cycling, a record every 10 s: 1 mA for an hour, -1 mA for an hour; nothing recorded from 1500 s to 2500 s."""
    t = np.arange(0.0, 7200.0, 10.0)
    t = t[(t <= 1500) | (t >= 2500)]
    up = t < 3600
    charge = np.where(up, 1e-3 * t, 3.6 - 1e-3 * (t - 3600))
    flags = np.where(np.append(False, np.diff(t) > 600), 4, 0).astype(np.int32)
    voltage = 3.0 + charge / 3.6
    voltage[10] = 9.0  # an extreme that must not be thinned away
    attrs = {"units": "1"}
    return xr.Dataset(
        {
            "voltage": ("time", voltage, {"units": "V"}),
            "current": ("time", np.where(up, 1e-3, -1e-3), {"units": "A", "interval": "ending"}),
            "charge": ("time", charge, {"units": "C"}),
        },
        coords={
            "time": _moments(t),
            "source_time": ("time", _moments(t)),
            "half_cycle": ("time", (~up).astype(np.int32), attrs),
            "direction": ("time", np.where(up, 1, -1).astype(np.int8), attrs),
            "flags": ("time", flags, attrs),
        },
        attrs={"technique": "echem", "cell": "A", "timezone_source": "config"},
    )


@pytest.fixture
def results(moments: Callable[[np.ndarray], np.ndarray]) -> xr.Dataset:
    """Phase fractions with both kinds of error, and a volume without; 20 frames are missing in the middle."""
    t = np.arange(0.0, 7200.0, 60.0)
    t = t[(t < 3000) | (t >= 4200)]
    share = t / 7200
    both = np.stack([1 - share, share], axis=1)
    return xr.Dataset(
        {
            "phase_fraction": (
                ("time", "phase"),
                both,
                {"units": "1", "sampling": "continuous", "ancillary_variables": "phase_fraction_errors phase_fraction_systematic"},
            ),
            "phase_fraction_errors": (("time", "phase"), np.full(both.shape, 0.03), {"units": "1"}),
            "phase_fraction_systematic": (("time", "phase"), np.full(both.shape, 0.04), {"units": "1"}),
            "volume": ("time", 100 + share, {"units": "angstrom^3", "long_name": "volume of the unit cell"}),
        },
        coords={"time": moments(t), "phase": ["H1", "H2"], "exposure": ("time", np.full(t.size, 50.0), {"units": "s"})},
        attrs={"technique": "xrd", "cell": "A", "timezone_source": "config"},
    )


@pytest.fixture
def tree(patterns: Callable[..., xr.Dataset], echem: xr.Dataset, results: xr.Dataset) -> xr.DataTree:
    """The cell as `open_beamtime` gives it."""
    frames = patterns(np.arange(60.0, 7200.0, 120.0), 100.0, position=np.arange(60) % 2 + 1)
    return xr.DataTree.from_dict({"/A/echem/frames": echem, "/A/xrd/frames": frames, "/A/xrd/observables": results})
