"""Impedance sweeps with what was fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

import operando as op
from napari_operando.timeview import FrameTimes

_ALL = 2_000_000
"""Values of a variable that are read at once."""


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
        self._whole: dict[tuple[int, str], xr.DataArray] = {}

    def __len__(self) -> int:
        return len(self.begin)

    @property
    def has_drt(self) -> bool:
        """The store has relaxation times."""
        return self.reduced is not None and "drt" in self.reduced

    def flags(self, index: int) -> str:
        """Name what the instrument said against a sweep; empty for none."""
        return op.contract.named_flags(op.contract.Quality, int(self.ds["quality"].values[index])) if "quality" in self.ds.coords else ""

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
        frequency = np.asarray(self._of(self.ds, "frequency", index, electrode), float)
        impedance = np.asarray(self._of(self.ds, "impedance", index, electrode), complex)
        good = np.isfinite(frequency) & np.isfinite(impedance)
        out = Sweep(frequency[good], impedance[good])
        if self.reduced is not None:
            fit = self._of(self.reduced, "impedance_fit", index, electrode)
            if fit is not None and fit.shape == good.shape and np.isfinite(fit).any():
                out.fit = np.asarray(fit, complex)[good]
            drt = self._of(self.reduced, "drt", index, electrode)
            if drt is not None and "tau" in self.reduced.coords and np.isfinite(drt).any():
                out.tau, out.drt = np.asarray(self.reduced["tau"].values, float), np.asarray(drt, float)
                out.low, out.high = (self._of(self.reduced, f"drt_{end}", index, electrode) for end in ("low", "high"))
        if self.observables is not None:
            said = []
            for name, words in (("kk_passed", "Kramers-Kronig test failed"), ("fit_converged", "fit not converged, or at a bound")):
                value = self._of(self.observables, name, index, electrode)
                if value is not None and int(value) == 0:
                    said.append(words)
            out.notes = "; ".join(said)
        return out

    def _of(self, ds: xr.Dataset, name: str, index: int, electrode: str) -> np.ndarray | None:
        """Give one variable of one sweep. Sweeps are small: all of a variable is read at once, unless there is very much of it."""
        if name not in ds.variables:
            return None
        key = (id(ds), name)
        if key not in self._whole:
            self._whole[key] = ds[name].load() if ds[name].size <= _ALL else ds[name]
        one = self._whole[key].isel(time=index) if "time" in ds[name].dims else self._whole[key]
        one = one.sel(electrode=electrode) if "electrode" in one.dims and electrode else one
        return np.asarray(one.values)
