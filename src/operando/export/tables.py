"""Write one product of a store to a file other programs read: CSV, netCDF, Parquet, Battery Data Format."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from operando.contract import TECHNIQUES, ConfigError, StoreError
from operando.loaders.bdf import bdf_name
from operando.store import open_beamtime
from operando.store.files import writing_hdf5

_ROWS = 4096
SUFFIXES = (".bdf.csv", ".csv", ".nc", ".parquet")


def export(store: str | Path, path: str, output: str | Path, *, overwrite: bool = False) -> Path:
    """Write one product, frame by frame with its alignment, whole or not at all.

    Times are written in UTC, ISO 8601. In tables each column's name carries its unit, `voltage (V)`. A signal over an axis becomes one column
    per point of the axis, after the columns with one value per frame; complex numbers become two columns. What no row can hold (three dims, a table
    of another length beside the rows) is in the netCDF form only: a warning names it.

    Parameters
    ----------
    store
        Live directory or published file.
    path
        `CELL/SERIES/PRODUCT`; `CELL/SERIES` means its frames.
    output
        Ends in .csv, .nc, .parquet, or .bdf.csv (Battery Data Format, electrochemistry only).
    overwrite
        Replace the file if it is there.

    Raises
    ------
    ConfigError
        No such product, another suffix, or a form this product does not have.
    StoreError
        The file is there already, or cannot be written.
    """
    output = Path(output)
    form = next((s for s in SUFFIXES if output.name.lower().endswith(s)), None)
    if form is None:
        raise ConfigError("the form is not known by its suffix", file=output, found=output.suffix or "none", expected=", ".join(SUFFIXES))
    if not output.absolute().parent.is_dir():
        raise StoreError("the folder of the file does not exist", file=output, hint=f"make {output.parent} first")
    if output.is_dir():
        raise StoreError("this is a folder", file=output, expected="the name of a file to write")
    if output.exists() and not overwrite:
        raise StoreError("the file is there already", file=output, hint="choose another name, or give --overwrite")
    address, ds = product_of(store, path)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        if form == ".nc":
            _netcdf(ds, output)
            return output
        if form in (".parquet", ".csv") and (left := not_in_tables(ds)):
            warnings.warn(f"{output.name}: a table cannot hold {', '.join(left)}; {address} as .nc holds all of it", stacklevel=2)
        if form == ".parquet":
            _parquet(ds, temporary)
        elif form == ".bdf.csv":
            _csv(_bdf(ds, output), temporary)
        else:
            _csv(_tables(ds), temporary)
        os.replace(temporary, output)
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror or error}", file=output) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return output


def product_of(store: str | Path, path: str) -> tuple[str, xr.Dataset]:
    """Open one product: its whole address, and what it holds, lazily.

    Raises
    ------
    ConfigError
        No such product.
    """
    tree = open_beamtime(store)
    address = path.strip("/")
    if address.count("/") == 1:
        address += "/frames"
    if address not in _addresses(tree):
        raise ConfigError("the store has no such product", file=store, found=path, expected=", ".join(_addresses(tree)))
    return address, tree[address].to_dataset()


def _addresses(tree: xr.DataTree) -> list[str]:
    return [node.path.strip("/") for node in tree.subtree if node.path.count("/") >= 3 and node.to_dataset(inherit=False).variables]


def _netcdf(ds: xr.Dataset, path: Path) -> None:
    encoding: dict[str, dict[str, object]] = {
        str(n): {"zlib": True, "complevel": 1, "shuffle": True} for n, v in ds.variables.items() if v.ndim and v.dtype.kind in "iuf"
    }
    for name, var in ds.variables.items():
        if var.dtype.kind == "M":
            encoding.setdefault(str(name), {}).update(units="nanoseconds since 1970-01-01T00:00:00", dtype="int64")
    plain = ds.copy(deep=False)
    for name in [n for n, v in ds.variables.items() if v.dtype.kind == "c"]:
        plain[f"{name}_real"], plain[f"{name}_imag"] = plain[name].real, plain[name].imag
        plain = plain.drop_vars(str(name))
    import h5netcdf  # type: ignore[import-untyped]
    from xarray.backends import H5NetCDFStore

    # HDF5 stumbles over a full disk for as long as the process lives, unless the store's own files stand between them
    with writing_hdf5(path, digest=False) as writing, h5netcdf.File(writing.h5, "w") as file:
        plain.dump_to_store(H5NetCDFStore(file), encoding={k: v for k, v in encoding.items() if k in plain.variables})


def _column(name: str, var: xr.Variable) -> str:
    units = var.attrs.get("units")
    return f"{name} ({units})" if units not in (None, "1") else name


def _tables(ds: xr.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Give a product as tables of some thousand rows each, columns named with their units."""
    dim = "time" if "time" in ds.dims else next(iter(ds.dims), None)
    if dim is None:
        raise ConfigError("the product is no table", found=str(dict(ds.sizes)))
    flat = [n for n, v in ds.variables.items() if v.dims == (dim,)]
    flat.sort(key=lambda n: n != "time")
    wide = [n for n in _signals_first(ds) if ds[n].dims[:1] == (dim,) and ds[n].ndim == 2]
    for start in range(0, ds.sizes[dim], _ROWS):
        some = ds[[*flat, *wide]].isel({dim: slice(start, start + _ROWS)}).load()
        table: dict[str, np.ndarray] = {}
        for name in flat:
            for label, values in _real(_column(str(name), some[name].variable), some[name].values):
                table[label] = values
        for name in wide:
            axis = str(some[name].dims[1])
            values = some[name].values
            fixed = axis in some.coords and some[axis].dims == (axis,)
            where = some[axis].values if fixed else np.arange(values.shape[1])
            unit = some[axis].attrs.get("units", "") if fixed else ""
            own = some[name].attrs.get("units", "")
            for j, x in enumerate(where):
                at = f"{x:.10g}" if np.issubdtype(np.asarray(where).dtype, np.number) else str(x)
                label = f"{name} at {axis}={at}{' ' + unit if unit not in ('', '1') else ''}"
                if len(wide) > 1 and own not in ("", "1"):
                    label += f" ({own})"
                for one, column in _real(label, values[:, j]):
                    table[one] = column
        yield table


def _signals_first(ds: xr.Dataset) -> list[str]:
    """Order what has two dims: the technique's own signal, then what belongs to it (frequencies, errors)."""
    technique = TECHNIQUES.get(str(ds.attrs.get("technique")))
    signals = technique.signals if technique else ()
    names = [str(n) for n in ds.variables if str(n) not in ds.dims and ds[n].ndim == 2 and ds[n].dtype.kind in "iufcb"]
    return sorted(names, key=lambda n: n not in signals)


def _real(label: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Write a complex column as two: tables hold real numbers."""
    if values.dtype.kind != "c":
        return [(label, values)]
    name, unit = (label.rsplit(" (", 1) + [""])[:2] if label.endswith(")") else (label, "")
    tail = f" ({unit}" if unit else ""
    return [(f"real part of {name}{tail}", values.real), (f"imaginary part of {name}{tail}", values.imag)]


def not_in_tables(ds: xr.Dataset) -> list[str]:
    """Name what a product holds that its table cannot: more than two dims, and axes other than that of the rows."""
    dim = "time" if "time" in ds.dims else next(iter(ds.dims), None)
    shown = {*(str(n) for n, v in ds.variables.items() if v.dims == (dim,)), *(n for n in _signals_first(ds) if ds[n].dims[:1] == (dim,))}
    return [str(n) for n in ds.data_vars if str(n) not in shown and ds[n].ndim]


def _bdf(ds: xr.Dataset, output: Path) -> Iterator[dict[str, np.ndarray]]:
    """Give electrochemistry in the words of the Battery Data Format (battery-data-alliance/battery-data-format)."""
    if ds.attrs.get("technique") != "echem" or "voltage" not in ds:
        found = ", ".join(str(ds.attrs[key]) for key in ("technique", "product") if key in ds.attrs)
        raise ConfigError(
            "only electrochemistry has the Battery Data Format, and of it CELL/echem/frames", file=output, found=found, hint="write .csv instead"
        )
    begin = ds["time"].values[0]
    for start in range(0, ds.sizes["time"], _ROWS):
        some = ds.isel(time=slice(start, start + _ROWS))
        time = some["time"].values
        table = {
            "test_time_second": (time - begin) / np.timedelta64(1, "s"),
            "unix_time_second": time.astype("datetime64[ns]").astype(np.int64) * 1e-9,
        }
        for name in ("voltage", "current", "charge", "cycle", "step", "temperature"):
            label = bdf_name(name)
            if label is None or name not in some.variables or (name == "temperature" and some[name].attrs.get("units") != "degC"):
                continue
            values = some[name].values
            table[label.notation] = values if label.factor == 1 else values / label.factor
        yield table


def _csv(tables: Iterator[dict[str, np.ndarray]], path: Path) -> None:
    import pandas as pd

    for i, table in enumerate(tables):
        frame = pd.DataFrame({name: _text(values) for name, values in table.items()})
        frame.to_csv(path, mode="a" if i else "w", header=i == 0, index=False, lineterminator="\n")


def _text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "M":
        text = np.datetime_as_string(values.astype("datetime64[ns]"), unit="us")
        return np.where(np.isnat(values), "", np.char.add(text, "Z"))
    return values


def _parquet(ds: xr.Dataset, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("Parquet needs pyarrow", hint='pip install "operando[parquet]"') from None
    writer = None
    try:
        for table in _tables(ds):
            made = pa.table({name: pa.array(values, from_pandas=True) for name, values in table.items()})
            writer = writer or pq.ParquetWriter(path, made.schema)
            writer.write_table(made)
    finally:
        if writer is not None:
            writer.close()
