"""Impedance sweeps with what was fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from napari_operando.timeview import FrameTimes


@dataclass
class Sweep:
    """One spectrum.

    Attributes
    ----------
    frequency, impedance
        Hz and complex ohm, as measured; points that are not there are left out.
    fit
        Of the circuit at the same frequencies; None where there is none.
    tau, drt, low, high
        Relaxation times in s, their distribution in ohm per ln(tau) and its 95 % band; None where there is none.
    notes
        What the reducer says against it, such as a failed Kramers-Kronig test.
    """

    frequency: np.ndarray
    impedance: np.ndarray
    fit: np.ndarray | None = None
    tau: np.ndarray | None = None
    drt: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    notes: str = ""


class Sweeps:
    """The sweeps of one series; see `reading.Series` for times and positions."""

    rule = "nearest"
    technique = "eis"
    position = None
    positions: list[int] = []

    def __init__(
        self,
        name: str,
        ds: xr.Dataset,
        begin: np.ndarray,
        end: np.ndarray,
        *,
        reduced: xr.Dataset | None = None,
        observables: xr.Dataset | None = None,
    ) -> None:
        self.name, self.ds, self.begin, self.end = name, ds, begin, end
        same = reduced is not None and reduced.sizes.get("time") == len(begin)
        self.reduced = reduced if same else None
        self.observables = observables if observables is not None and observables.sizes.get("time") == len(begin) else None
        self.electrodes = [str(e) for e in ds["electrode"].values] if "electrode" in ds.dims and "electrode" in ds.coords else []
        self.stale_after: float | None = None
        self.max_age: float | None = None
        self._kept: dict[tuple[int, str], Sweep] = {}

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def has_drt(self) -> bool:
        """The store has relaxation times."""
        return self.reduced is not None and "drt" in self.reduced

    def times(self, position: int | None = None) -> FrameTimes:
        """Give the exposures: a sweep is an interval."""
        return FrameTimes(self.begin, self.end, stale_after=self.stale_after, max_age=self.max_age)

    def sweep(self, index: int, electrode: str = "") -> Sweep:
        """Read one."""
        electrode = electrode or (self.electrodes[0] if self.electrodes else "")
        if (index, electrode) not in self._kept:
            while len(self._kept) >= 64:
                del self._kept[next(iter(self._kept))]
            self._kept[index, electrode] = self._read(index, electrode)
        return self._kept[index, electrode]

    def _read(self, index: int, electrode: str) -> Sweep:
        one = self._of(self.ds, index, electrode)
        frequency, impedance = np.asarray(one["frequency"].values, float), np.asarray(one["impedance"].values, complex)
        good = np.isfinite(frequency) & np.isfinite(impedance)
        out = Sweep(frequency[good], impedance[good])
        if self.reduced is not None:
            more = self._of(self.reduced, index, electrode)
            if "impedance_fit" in more and more["impedance_fit"].shape == good.shape:
                fit = np.asarray(more["impedance_fit"].values, complex)[good]
                out.fit = fit if np.isfinite(fit).any() else None
            if "drt" in more and "tau" in more.coords and np.isfinite(more["drt"].values).any():
                out.tau, out.drt = np.asarray(more["tau"].values, float), np.asarray(more["drt"].values, float)
                if "drt_low" in more and "drt_high" in more:
                    out.low, out.high = np.asarray(more["drt_low"].values, float), np.asarray(more["drt_high"].values, float)
        if self.observables is not None:
            seen = self._of(self.observables, index, electrode)
            said = []
            if "kk_passed" in seen and int(seen["kk_passed"]) == 0:
                said.append("Kramers-Kronig test failed")
            if "fit_converged" in seen and int(seen["fit_converged"]) == 0:
                said.append("fit not converged, or at a bound")
            out.notes = "; ".join(said)
        return out

    @staticmethod
    def _of(ds: xr.Dataset, index: int, electrode: str) -> xr.Dataset:
        one = ds.isel(time=index)
        return one.sel(electrode=electrode) if "electrode" in one.dims and electrode else one
