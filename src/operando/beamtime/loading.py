"""`op.load` and `op.reduce`: files of one loader as one series, and what a recipe makes of it, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from operando.config import Reader
from operando.contract import ConfigError, ContractError, LoaderError, quantity
from operando.loaders import FileTimes, concatenate, expand, get_loader, load_file, rank_of, select
from operando.reduction import reduce as reduce_series
from operando.timeline import localise, restart_segments


def load(files: str | Path, loader: str, *, timezone: str | None = None, where: Mapping[str, Any] | None = None, **options: Any) -> xr.Dataset:
    """Load files with one loader into one series on UTC.

    Nothing is aligned or reduced.

    Parameters
    ----------
    files
        Path or glob.
    loader
        Loader name (`operando loaders` lists them), or `my_loader.py:load`.
    timezone
        Zone of the instrument's clock, for files that carry none. The analysing computer's zone is never used.
    where
        Which frames of a file that holds several techniques, cells or positions.
    **options
        The loader's own options, and the general ones: `start`, `exposure` (s, or text such as `65 s`), `period` (s), `name_pattern`, `times_from`,
        `mtime`, `stamp_marks`, `time_uncertainty` (s).

    Returns
    -------
    xarray.Dataset
        A contract series.

    Raises
    ------
    LoaderError, ContractError
        A file cannot be read; the message names it.
    ClockError
        The files carry no zone and none is given.
    ConfigError
        No such loader, option or file.

    Examples
    --------
    >>> xas = op.load("xas/*.txt", "xas-columns", preset="soleil-rock", timezone="Europe/Paris")   # doctest: +SKIP
    """
    times = {k: options.pop(k) for k in list(options) if k in FileTimes.__dataclass_fields__ and k not in ("base", "alone")}
    for name in ("exposure", "period", "time_uncertainty"):
        if isinstance(times.get(name), str):
            times[name] = quantity(times[name], "s")
    chosen = get_loader(loader)
    where = dict(where or {})
    technique = where.pop("technique", None)
    found: list[xr.Dataset] = []
    paths = expand(files)
    placed = FileTimes(**times, base=Path()).among(paths)
    for path in paths:
        for ds in load_file(chosen, path, options, placed):
            if technique in (None, ds.attrs["technique"]):
                ds = select(ds, where)
                if ds.sizes["time"]:
                    found.append(ds)
    if not found and not (where or technique):
        raise LoaderError(f"the files hold nothing that {chosen.name} reads", file=str(files), expected=" or ".join(chosen.techniques) or None)
    if not found:
        raise ContractError("no frame fits where=", file=str(files), found=where or technique)
    kinds = sorted({ds.attrs["technique"] for ds in found})
    if len(kinds) > 1:
        raise ContractError("the files hold several techniques", file=str(files), found=", ".join(kinds), hint='choose one: where={"technique": ...}')
    found.sort(key=rank_of)
    series = concatenate(found)
    series.attrs.pop("rank", None)
    return restart_segments(localise(series, timezone))


def reader_of(base: Path) -> Reader:
    """Give what reads the measured files that recipes name; loaders of one's own lie in `base`. Times play no part: such a file need hold none."""

    def read(path: Path, loader: str, options: Mapping[str, Any]) -> xr.Dataset:
        chosen = get_loader(loader, base)
        many = load_file(chosen, path, options, FileTimes(start="1970-01-01T00:00:00", base=base, timeless=True))
        if len(many) != 1:
            raise ConfigError(
                f"a recipe names a file of {len(many)} series, and one is needed", file=path, found=", ".join(ds.attrs["technique"] for ds in many)
            )
        return many[0]

    return read


def reduce(
    series: xr.Dataset,
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    base: Path | None = None,
    memory: int = 250_000_000,
    folder: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, xr.Dataset]:
    """Reduce a series by hand, by the rules of a build; files that the recipe names are read with their loaders.

    State never crosses a segment, setup or position. Frames keep their order; none is dropped.

    Parameters
    ----------
    series
        Frames on UTC (with their alignment as coordinates if a reducer needs it).
    recipe
        Name of a packaged recipe, path, or mapping with `reducer:` or `stages:`; by default the technique's own reducer.
    base
        Folder in which recipes and the files that they name are looked for; by default the present one.
    memory
        Bytes of frames that are read and handed over at once.
    folder
        Of images: where their files lie now, if they were moved.
    workers
        Of images: threads that read them; by default as many as there are processors, up to four.

    Returns
    -------
    dict
        Product name -> Dataset, of all stages.

    Raises
    ------
    ConfigError
        No such recipe or file, or none for this technique.
    ContractError
        The series is of another technique or on wall-clock times, or a reducer failed or returned what it may not.
    LoaderError
        A file that the recipe names cannot be read.
    """
    return reduce_series(series, recipe, base=base, memory=memory, read=reader_of(base or Path.cwd()), folder=folder, workers=workers)
