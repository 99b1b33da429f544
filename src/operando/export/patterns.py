"""Write a series of diffraction patterns so that a Rietveld program goes on with it: GSAS-II, TOPAS, FullProf and what else reads .fxye or .xye.

One file per frame, over 2 theta; an instrument parameter file (.instprm of GSAS-II); a list that says what each frame was: its file, time, voltage,
charge, position. GSAS-II reads that list as it is (Sample Parameters, Load all), spreadsheets and pandas as CSV; the script beside it makes a
project with all of it.

Formats: GSAS Technical Manual (Larson & Von Dreele, LAUR 86-748), FXYE; GSAS-II's own readers `G2pwd_fxye`, `G2pwd_xye`, `ReadInstprm`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ConfigError, StoreError, convert
from operando.export.tables import product_of
from operando.reduction.patterns import angles, axis_of, spoilt, wavelengths

PATTERN_FORMATS = ("fxye", "xye")

_COLUMNS = ("voltage", "current", "charge", "soc", "cycle", "half_cycle", "direction", "position", "temperature", "monitor", "exposure", "flags")
_BATCH = 256

_SCRIPT = '''\
"""Make a GSAS-II project of the patterns in this folder: run it with the Python of GSAS-II. Phases are yours to add."""
import csv
import os

try:
    from GSASII import GSASIIscriptable as G2sc
except ImportError:
    import GSASIIscriptable as G2sc

here = os.path.dirname(os.path.abspath(__file__))
project = G2sc.G2Project(newgpx=os.path.join(here, "@NAME@.gpx"))
controls = project.data["Controls"]["data"]
controls["FreePrm1"], controls["FreePrm2"], controls["FreePrm3"] = "voltage (V)", "charge (C)", "state of charge"
with open(os.path.join(here, "@LIST@"), newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    histogram = project.add_powder_histogram(os.path.join(here, row["# file"]), os.path.join(here, "@INSTRUMENT@"))
    sample = histogram.SampleParameters
    columns = {"Time": "time_s", "Temperature": "temperature_K", "FreePrm1": "voltage_V", "FreePrm2": "charge_C", "FreePrm3": "soc_1"}
    for name, column in columns.items():
        value = float(row.get(column, "nan"))
        if value == value:
            sample[name] = value
project.save()
'''


@dataclass
class Written:
    """What was written.

    Attributes
    ----------
    folder, patterns, list_file
        Where, one file per frame, and the list of them.
    instrument
        Instrument parameter file of GSAS-II; None where no wavelength is known.
    skipped
        Frame -> why it was left out.
    notes
        What else there is to know.
    """

    folder: Path
    patterns: list[Path]
    list_file: Path
    instrument: Path | None
    skipped: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def export_patterns(
    store: str | Path, path: str, folder: str | Path, *, form: str = "fxye", frames: slice | None = None, overwrite: bool = False
) -> Written:
    """Write the frames of a diffraction series as files that Rietveld programs read, all of them or none.

    Channels without an intensity or without an error are left out, and frames that are dark, damaged or empty; the list has those that are there.
    Where a series has no errors, counts have their square root.

    Parameters
    ----------
    store
        Live directory or published file.
    path
        `CELL/SERIES` of diffraction patterns.
    folder
        Where the files go; it is made if need be.
    form
        `fxye`: GSAS, 2 theta in hundredths of a degree, intensity, 1 sigma. `xye`: 2 theta in degrees, intensity, 1 sigma.
    frames
        Which, by their number; by default all.
    overwrite
        Replace files of the same names.

    Raises
    ------
    ConfigError
        No such series, none of diffraction, no wavelength to make 2 theta of q, no frame left.
    StoreError
        Files are there already, or cannot be written.
    """
    if form not in PATTERN_FORMATS:
        raise ConfigError("the format is not known", found=form, expected=", ".join(PATTERN_FORMATS))
    folder = Path(folder)
    address, ds = product_of(store, path)
    if ds.attrs.get("technique") != "xrd" or "intensity" not in ds.data_vars:
        raise ConfigError("only diffraction patterns are written for Rietveld programs", file=store, found=f"{address} ({ds.attrs.get('technique')})")
    if folder.exists() and not folder.is_dir():
        raise StoreError("this is a file", file=folder, expected="a folder for one file per frame")
    if not folder.absolute().parent.is_dir():
        raise StoreError("the folder to make it in does not exist", file=folder, hint=f"make {folder.parent} first")
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(address.split("/")[:2]))  # GSAS-II ends a name at a blank
    temporary = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        written = _write(ds, name, temporary, form, frames or slice(None), str(store))
        there = [f.name for f in temporary.iterdir() if (folder / f.name).exists()]
        if there and not overwrite:
            raise StoreError("files are there already", file=folder, found=", ".join(sorted(there)[:3]), hint="choose another folder, or --overwrite")
        folder.mkdir(exist_ok=True)
        for file in sorted(temporary.iterdir()):
            os.replace(file, folder / file.name)
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror or error}", file=folder) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    written.folder = folder
    written.patterns = [folder / p.name for p in written.patterns]
    written.list_file = folder / written.list_file.name
    written.instrument = folder / written.instrument.name if written.instrument else None
    return written


def _write(ds: xr.Dataset, name: str, folder: Path, form: str, frames: slice, store: str) -> Written:
    axis = axis_of(ds)
    waves, shares = wavelengths(ds.attrs) if "wavelength" in ds.attrs else (np.array([]), np.array([]))
    if axis == "q" and not waves.size and not ("two_theta" in ds.variables and ds["two_theta"].dims == (axis,)):
        raise ConfigError("2 theta cannot be told: the wavelength is not known", file=store, hint="wavelength: of the source in beamtime.yaml")
    two_theta = angles(ds, axis, float(waves[0]) if waves.size else np.nan)
    order = np.flatnonzero(np.isfinite(two_theta))
    order = order[np.argsort(two_theta[order], kind="stable")]
    numbers = np.arange(ds.sizes["time"])[frames]
    out = Written(folder, [], folder / f"{name}_frames.csv", folder / f"{name}.instprm" if waves.size else None)
    if out.instrument is not None:
        out.instrument.write_text(_instrument(ds, waves, shares), encoding="ascii")
    else:
        out.notes.append("no instrument parameter file: the wavelength is not known")
    unit = str(ds["intensity"].attrs.get("units", "1"))
    if "intensity_errors" not in ds.variables and unit != "counts":
        out.notes.append("the patterns carry no errors and are no counts: their square root stands for 1 sigma, only relative weights mean something")
    bad = spoilt(ds)
    table = _Columns(ds)
    lost = below = 0
    rows = []
    for start in range(0, numbers.size, _BATCH):
        some = numbers[start : start + _BATCH]
        values = ds["intensity"].transpose("time", axis).isel(time=some).values[:, order]
        errors = ds["intensity_errors"].transpose("time", axis).isel(time=some).values[:, order] if "intensity_errors" in ds.variables else None
        for k, number in enumerate(some.tolist()):
            if bad[number]:
                out.skipped[number] = "dark or damaged"
                continue
            y = values[k]
            sigma = _root(y, unit) if errors is None else errors[k]
            good = np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)
            if good.sum() < 2 or not (y[good] > 0).any():
                out.skipped[number] = "no intensity"
                continue
            lost, below = lost + int((~good).sum()), below + int((y[good] <= 0).sum())
            file = folder / f"{name}_{number:05d}.{form}"
            head = _head(ds, number, name, waves, shares, table)
            lines = _fxye(head, name, two_theta[order][good], y[good], sigma[good], out.instrument) if form == "fxye" else None
            lines = lines if lines is not None else _xye(head, two_theta[order][good], y[good], sigma[good], unit)
            file.write_text("\n".join([*lines, ""]), encoding="ascii")
            out.patterns.append(file)
            rows.append(",".join([file.name, str(number), *table.row(number)]))
    if not rows:
        raise ConfigError("no frame is left to write", file=store, found="; ".join(f"frame {k}: {why}" for k, why in list(out.skipped.items())[:3]))
    out.list_file.write_text("\n".join([",".join(["# file", "frame", *table.names]), *rows, ""]), encoding="ascii")
    if out.instrument is not None:
        script = _SCRIPT.replace("@NAME@", name).replace("@LIST@", out.list_file.name).replace("@INSTRUMENT@", out.instrument.name)
        (folder / f"{name}_gsas2.py").write_text(script, encoding="ascii")
    if lost:
        out.notes.append(f"{lost} channels without intensity or error were left out")
    if below:
        out.notes.append(f"{below} channels are not above 0: GSAS-II gives them no weight")
    return out


def _root(y: np.ndarray, unit: str) -> np.ndarray:
    """Give the square root of intensities, of at least one count or what is nothing beside the largest."""
    least = 1.0 if unit == "counts" else 1e-6 * float(np.nanmax(y, initial=0.0))
    return np.sqrt(np.maximum(y.astype(float), least))


class _Columns:
    """What the list says of each frame: columns with their units, numbers and names without blanks."""

    def __init__(self, ds: xr.Dataset) -> None:
        time = ds["time"].values.astype("datetime64[ns]")
        self.time = time
        self.names = ["time_utc", "time_s"]
        self.values: list[Any] = [np.char.add(np.datetime_as_string(time, unit="ms"), "Z"), (time - time[0]) / np.timedelta64(1, "s")]
        self.temperature: np.ndarray | None = None
        for name in _COLUMNS:
            if name not in ds.variables or ds[name].dims != ("time",):
                continue
            values, unit = ds[name].values, str(ds[name].attrs.get("units", "1"))
            if name == "temperature":
                if unit not in ("degC", "K"):
                    continue
                values, unit = np.asarray(convert(np.asarray(values, float), unit, "K")), "K"
                self.temperature = values
            label = f"{name}_{unit}" if name not in ("cycle", "half_cycle", "direction", "position", "flags") else name
            self.names.append(re.sub(r"[^A-Za-z0-9_]+", "_", label))
            self.values.append(values)

    def row(self, number: int) -> list[str]:
        """Give the cells of a frame."""
        return [_cell(values[number]) for values in self.values]


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.10g}"
    return re.sub(r"[\s,]+", "_", str(value)).encode("ascii", "replace").decode() or "nan"


def _head(ds: xr.Dataset, number: int, name: str, waves: np.ndarray, shares: np.ndarray, table: _Columns) -> list[str]:
    """Say what a frame is, in words that xrd-1d and GSAS-II read again."""
    lines = [f"{name} frame {number} of {np.datetime_as_string(table.time[number], unit='ms')}Z"]
    if waves.size == 2:
        lines += [f"K-Alpha1 wavelength = {waves[0]:.12g}", f"K-Alpha2 wavelength = {waves[1]:.12g}", f"Ratio K-Alpha2/K-Alpha1 = {shares[1]:.12g}"]
    elif waves.size:
        lines.append(f"wavelength = {waves[0]:.12g} angstrom")
    if table.temperature is not None and np.isfinite(table.temperature[number]):
        lines.append(f"Temp = {table.temperature[number]:.2f}")
    for label, unit in (("voltage", "V"), ("charge", "C"), ("position", "")):
        if label in ds.variables and ds[label].dims == ("time",):
            lines.append(f"{label} = {_cell(ds[label].values[number])} {unit}".rstrip())
    return lines


def _fxye(head: list[str], name: str, two_theta: np.ndarray, y: np.ndarray, sigma: np.ndarray, instrument: Path | None) -> Iterator[str]:
    """Give the lines of a GSAS file; the step in its BANK line is nominal, each channel says where it is."""
    centi = two_theta * 100
    yield head[0][:80]
    if instrument is not None:
        yield f"Instrument parameter file: {instrument.name}"
    yield from (f"# {line}" for line in head[1:])
    n = centi.size
    yield f"BANK 1 {n} {n} CONST {centi[0]:.6f} {np.median(np.diff(centi)):.6f} 0 0 FXYE"
    yield from _numbers(centi, y, sigma)


def _xye(head: list[str], two_theta: np.ndarray, y: np.ndarray, sigma: np.ndarray, unit: str) -> Iterator[str]:
    """Give the lines of a .xye file; comments begin as TOPAS and GSAS-II both know them."""
    yield from (f"' {line}" for line in head)
    yield f"' 2theta_deg {'counts' if unit == 'counts' else 'intensity'} esd"
    yield from _numbers(two_theta, y, sigma)


def _numbers(*columns: np.ndarray) -> Iterator[str]:
    """Write each number with as many digits as it takes to read it again."""
    texts = [[str(v) for v in column] for column in columns]
    yield from (" ".join(row) for row in zip(*texts, strict=True))


def _instrument(ds: xr.Dataset, waves: np.ndarray, shares: np.ndarray) -> str:
    """Give GSAS-II's instrument parameters: what is known is told, the widths are where a refinement starts.

    GSAS-II's U, V, W are variances in hundredths of a degree squared. Its Polariz. P weighs 1 against cos^2(2 theta) as P : 1 - P: it is 1 where
    polarisation was corrected when frames were integrated.
    """
    lab = waves.size == 2
    corrected = _polarization_corrected(ds)
    # whole rings that were integrated without a correction average the beam's polarisation out
    polarization = 0.5 if lab or (ds.attrs.get("reducer") == "integrate" and not corrected) else 1.0 if corrected else 0.99
    lam = [("Lam1", waves[0]), ("Lam2", waves[1]), ("I(L2)/I(L1)", shares[1])] if lab else [("Lam", waves[0])]
    items: list[tuple[str, Any]] = [
        ("Type", "PXC"), ("Bank", 1), *((k, f"{v:.12g}") for k, v in lam), ("Zero", 0.0), ("Polariz.", polarization), ("Azimuth", 0.0),
        ("U", 2.0), ("V", -2.0), ("W", 5.0), ("X", 0.0), ("Y", 0.0), ("Z", 0.0), ("SH/L", 0.002),
        ("Diff-type", "Bragg-Brentano" if lab else "Debye-Scherrer"),
    ]  # fmt: skip
    return "\n".join(["#GSAS-II instrument parameter file; do not add/delete items!", *(f"{k}:{v}" for k, v in items), ""])


def _polarization_corrected(ds: xr.Dataset) -> bool:
    """Tell whether integration took the polarisation off: where it says so."""
    try:
        said = json.loads(ds.attrs.get("recipe", "{}"))
    except (TypeError, ValueError):
        return False
    return isinstance(said, dict) and said.get("polarization") is not None
