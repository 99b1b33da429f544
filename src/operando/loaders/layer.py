"""From a glob to checked series: expand, read one file at a time, date, canonicalise, check, join."""

from __future__ import annotations

import difflib
import fnmatch
import glob as globbing
import json
import traceback
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import TECHNIQUES, ConfigError, LoaderError, OperandoError, canonical, validate
from operando.loaders.filetimes import FileTimes
from operando.loaders.registry import Loader
from operando.loaders.text import natural_key


def expand(patterns: str | Path | Sequence[str | Path], base: Path = Path()) -> list[Path]:
    """List the files of one or several globs in natural order (frame_2 before frame_10).

    Raises
    ------
    ConfigError
        A pattern matches nothing; the message says what lies in that folder.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        full = str(base / pattern)  # an absolute pattern stands alone; the folder's own name is no pattern
        hits = [full] if Path(full).is_file() else globbing.glob(str(Path(globbing.escape(str(base))) / pattern), recursive=True)
        files = sorted((Path(h) for h in hits or _composed(Path(full)) if Path(h).is_file()), key=lambda p: natural_key(p.as_posix()))
        if not files:
            folder = Path(full).parent
            while not folder.is_dir():
                folder = folder.parent
            there = sorted(p.name for p in folder.iterdir())[:6]
            raise ConfigError(
                "no file matches",
                file=full,
                found=f"{folder} holds {', '.join(there) or 'nothing'}" + (" ..." if len(there) == 6 else ""),
                hint="write / between folders, not \\" if "\\" in str(pattern) else "correct files: (or let the files arrive: what is there is done)",
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _composed(full: Path) -> list[Path]:
    """Find names that only write their accents in another way: macOS takes them apart (u and two dots), keyboards do not."""
    if not full.parent.is_dir():
        return []
    wanted = unicodedata.normalize("NFC", full.name)
    return [p for p in full.parent.iterdir() if p.name != full.name and fnmatch.fnmatchcase(unicodedata.normalize("NFC", p.name), wanted)]


def check_options(loader: Loader, options: Mapping[str, Any], general: Iterable[str] = (), *, file: object = None) -> None:
    """Refuse options the loader does not take, by name and with the nearest that it does.

    Raises
    ------
    ConfigError
        Naming every unknown option.
    """
    unknown = [name for name in options if name not in loader.options]
    if unknown:
        known = [*loader.options, *general]
        notes = []
        for name in unknown:
            near = difflib.get_close_matches(name, known, n=1)
            notes.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        raise ConfigError(
            f"unknown option of the loader {loader.name}: {', '.join(notes)}",
            file=None if file is None else str(file),
            expected=", ".join(loader.options) or "no options of its own",
            hint=f"operando loaders {loader.name}  explains them",
        )


def load_file(loader: Loader, path: Path, options: Mapping[str, Any] | None = None, times: FileTimes | None = None) -> list[xr.Dataset]:
    """Read one file into checked series, one per technique and axis it holds; times as written.

    Nothing is localised, aligned or reduced. Signals may be lazy. No series at all: a sound file that holds nothing of what the loader
    reads (a cycling file given to the loader of its maker's impedance).

    Raises
    ------
    LoaderError, ContractError, ConfigError
        Always with the file's name, whatever went wrong in the loader.
    """
    options = dict(options or {})
    check_options(loader, options, file=path)
    if not _is_text(str(path)):
        raise LoaderError("the file's name is not UTF-8 text", file=ascii(str(path)), hint="rename it")
    try:
        if not Path(path).exists():
            raise LoaderError("the file does not exist", file=path)
        if Path(path).is_file() and Path(path).stat().st_size == 0:
            raise LoaderError("the file is empty", file=path, found="0 bytes", hint="copy it again from the instrument, or remove it")
        made = loader.read(path, **options)
        many = list(made) if isinstance(made, list | tuple) else [made]
        out = []
        for ds in many:
            if not isinstance(ds, xr.Dataset):
                raise LoaderError(f"the loader {loader.name} returned no Dataset", file=path, found=type(ds).__name__)
            ds = (times or FileTimes()).apply(ds, Path(path))
            ds.attrs.update(loader=loader.name, loader_version=loader.version, options=json.dumps(options, sort_keys=True, default=str))
            out.append(validate(canonical(ds), file=path, as_written=True))
        return out
    except OperandoError as error:
        if error.file is None:
            error.file = path
        elif str(path) not in str(error.file):
            error.file = f"{path} ({error.file})"
        raise
    except MemoryError as error:
        raise LoaderError("the file asks for more memory than there is", file=path, hint="it is damaged, or too large to read whole") from error
    except (Exception, SystemExit) as error:
        raise LoaderError(
            f"cannot be read as {loader.name}: {type(error).__name__}: {error}",
            file=path,
            hint=_where(error, loader) or "is it complete, and of this format? operando loaders lists them",
        ) from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _where(error: BaseException, loader: Loader) -> str | None:
    """Say at which line a loader from a file of the user's own went wrong."""
    code = getattr(loader.read, "__code__", None)
    if ".py" not in loader.name or code is None:
        return None
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == code.co_filename]
    return f"see line {lines[-1]} of {Path(code.co_filename).name}" if lines else None


def select(ds: xr.Dataset, where: Mapping[str, Any] | None, *, file: object = None) -> xr.Dataset:
    """Keep the frames of a series for which every condition holds.

    Parameters
    ----------
    where
        Coordinate (or `technique`, or an attribute) -> value, list of values, `[low, high]` as text `low..high`, or a
        text with `*`. Numbers match within 1e-6 of their size.

    Returns
    -------
    xarray.Dataset
        Zero frames if none fits or the series lacks the coordinate.
    """
    keep = np.ones(ds.sizes["time"], bool)
    for name, wanted in (where or {}).items():
        if name in ds.coords and ds[name].dims == ("time",):
            values = ds[name].values
        elif name in ds.attrs or (name in ds.coords and ds[name].ndim == 0):
            values = np.full(ds.sizes["time"], ds.attrs[name] if name in ds.attrs else ds[name].values[()], dtype=object)
        else:
            keep[:] = False
            break
        keep &= np.logical_or.reduce([_fits(values, one, file) for one in (wanted if isinstance(wanted, list | tuple) else [wanted])])
    return ds if keep.all() else ds.isel(time=np.flatnonzero(keep))


def _fits(values: np.ndarray, wanted: Any, file: object) -> np.ndarray:
    if isinstance(wanted, str) and ".." in wanted and values.dtype.kind in "iuf":
        low, high = wanted.split("..")
        try:
            return (values >= float(low)) & (values <= float(high))
        except ValueError:
            raise ConfigError("not a range", file=None if file is None else str(file), found=wanted, expected="for example 1.0..2.5") from None
    if values.dtype.kind in "iufb" and isinstance(wanted, int | float):
        return np.isclose(values.astype(float), float(wanted), rtol=1e-6, atol=1e-12)
    return np.array([fnmatch.fnmatchcase(str(v), str(wanted)) for v in values], bool)


def rank_of(ds: xr.Dataset) -> int:
    """Say where a file stands in the order of acquisition: by `{frame}` (and `{scan}`) in its name, else by its first stamp.

    A clock that is set back, or an hour that autumn repeats, does not change the order that frame numbers give.
    """
    rank = ds.attrs.get("rank")
    return int(rank) if rank is not None else int(ds["source_time"].values[0].astype("datetime64[ns]").astype(np.int64))


def axis_of(ds: xr.Dataset) -> str | None:
    """Name the axis of a series' signal; None for one value per time."""
    technique = TECHNIQUES[ds.attrs["technique"]]
    return next((name for name in technique.axis if name in ds.dims), None)


def concatenate(many: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join series of one technique and one axis along time, in the order given.

    Acquisition order is kept: nothing is sorted. A variable that only some have is filled with NaN, empty text or
    (for integers) -1 elsewhere; a dim without a coordinate (the points of impedance sweeps) is padded alike to the longest.
    Attributes are the first one's.

    Raises
    ------
    LoaderError
        The axes differ, or some times are absolute and some are wall clock.
    """
    if len(many) == 1:
        return many[0]
    first = many[0]
    axis = axis_of(first)
    for ds in many[1:]:
        if axis_of(ds) != axis or (axis and axis in first.coords and not np.array_equal(first[axis].values, ds[axis].values)):
            raise LoaderError("the axis changes between files", file=_source(ds), found=_span(ds, axis_of(ds)), expected=_span(first, axis))
    names: dict[str, xr.Variable] = {}
    for ds in many:
        for key, var in ds.variables.items():
            names.setdefault(str(key), var)
    sizes = {dim: max(ds.sizes.get(dim, 0) for ds in many) for ds in many for dim in ds.dims if dim not in ds.coords}
    out: dict[str, xr.Variable] = {}
    for name, model in names.items():
        over_time = any("time" in ds[name].dims for ds in many if name in ds.variables) or (name == "stamp")
        if not over_time:
            out[name] = model
            continue
        pieces = [_piece(ds, name, model, sizes) for ds in many]
        try:
            values = np.concatenate(pieces)
        except (TypeError, ValueError) as error:  # a number here, a time or text there
            found = ", ".join(dict.fromkeys(f"{p.dtype} {p.shape[1:] or ''}".strip() for p in pieces))
            raise LoaderError(f"{name!r} is not of one kind in all files", file=_source(first), found=found) from error
        out[name] = xr.Variable(("time", *[d for d in model.dims if d != "time"]), values, model.attrs)
    coords = {str(c) for ds in many for c in ds.coords}
    joined = xr.Dataset({k: v for k, v in out.items() if k not in coords}, coords={k: v for k, v in out.items() if k in coords})
    joined.attrs = dict(first.attrs)
    joined.attrs["time_uncertainty_s"] = max(float(ds.attrs.get("time_uncertainty_s", 0.0)) for ds in many)
    if any(ds.attrs.get("time_origin") == "mtime" for ds in many):
        joined.attrs["time_origin"] = "mtime"  # the weakest speaks for all
    if len({ds.attrs.get("timezone_source") for ds in many}) > 1:
        joined.attrs["timezone_source"] = "none"  # `stamp` is NaT where the file itself gave UTC
    return joined


def _piece(ds: xr.Dataset, name: str, model: xr.Variable, sizes: Mapping[Any, int]) -> np.ndarray:
    n = ds.sizes["time"]
    if name in ds.variables:
        var = ds.variables[name]
        values = np.asarray(var.values)
        values = values if "time" in var.dims else np.broadcast_to(values, (n, *values.shape))
        short = tuple(sizes.get(dim, size) for dim, size in var.sizes.items() if dim != "time")
        if "time" not in var.dims or short == values.shape[1:]:
            return values
        out = _filled((n, *short), model.dtype)
        out[(slice(None), *(slice(0, size) for size in values.shape[1:]))] = values
        return out
    return _filled((n, *[sizes.get(dim, size) for dim, size in zip(model.dims, model.shape, strict=True) if dim != "time"]), model.dtype)


def _filled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Give an array that says it knows nothing."""
    if dtype.kind in "iu":
        return np.full(shape, -1 if dtype.kind == "i" else 0, dtype)
    if dtype.kind == "M":
        return np.full(shape, np.datetime64("NaT", "ns"))
    if dtype.kind in "OUT":
        return np.full(shape, "", dtype=object)
    return np.full(shape, complex(np.nan, np.nan), complex) if dtype.kind == "c" else np.full(shape, np.nan, float)


def _source(ds: xr.Dataset) -> str:
    return str(ds["source"].values[0]) if "source" in ds.coords and ds.sizes["time"] else "?"


def _span(ds: xr.Dataset, axis: str | None) -> str:
    if axis is None or axis not in ds.coords:
        return str(dict(ds.sizes))
    values = ds[axis].values
    return f"{axis} {values[0]:g} to {values[-1]:g} in {values.size} points"
