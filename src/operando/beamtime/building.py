"""`op.build`: the stages in order, each doing only what is not there yet."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from operando import __version__, plan
from operando.beamtime.aligning import align, check_clock
from operando.beamtime.frames import raw_parts, read_frames, with_setups
from operando.beamtime.outcome import Outcome, Progress, Silent
from operando.beamtime.reducing import check_recipes, reduce_all
from operando.config import BeamtimeConfig, read_config
from operando.contract import ConfigError, OperandoError
from operando.store import FileIdentities, Store, content_key


def build(
    config: str | Path,
    output: str | Path | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    rehash: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Load, align, reduce and save a beamtime; resume where an earlier run stopped.

    Files that cannot be read are quarantined with the reason and everything else is built; a warning names them.

    Parameters
    ----------
    config
        beamtime.yaml.
    output
        The store to write, `<name>.nxs`; by default beside beamtime.yaml, with its name. `<name>.operando/` beside it is the growing store.
    workers
        Processes that read files; by default as the configuration says.
    memory
        Bytes that frames may take while they are read; by default as the configuration says.
    rehash
        Read every input file again to see whether it changed, instead of trusting size and times.

    Returns
    -------
    pathlib.Path
        The published store.

    Raises
    ------
    ConfigError
        beamtime.yaml cannot be used; or, after everything else was built, a pattern matches no file (yet).
    ClockError, ContractError, StoreError
        After everything else was built.
    """
    outcome = run(read_config(config), output, workers=workers, memory=memory, rehash=rehash, progress=progress)
    if outcome.problems:
        raise outcome.problems[0]
    for file, reason in outcome.quarantined.items():
        warnings.warn(f"{file} is quarantined: {reason}", stacklevel=2)
    return outcome.published


def store_paths(config: BeamtimeConfig, output: str | Path | None) -> tuple[Path, Path]:
    """Give the published file and the live directory of a configuration."""
    path = Path(output) if output is not None else config.path.with_suffix(".nxs")
    if not path.name or path.name == "..":
        raise ConfigError("no name for a store", found=repr(os.fspath(output or "")), expected="for example june.nxs")
    if path.is_dir() and path.suffix not in (".operando", ".nxs"):
        path = path / config.path.with_suffix(".nxs").name
    if path.suffix == ".operando":
        path = path.with_suffix(".nxs")
    elif path.suffix != ".nxs":
        path = path.with_name(path.name + ".nxs")
    return path, path.with_suffix(".operando")


def run(
    config: BeamtimeConfig,
    output: str | Path | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    rehash: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Build as `build` does, and report everything that happened instead of raising."""
    published, live = store_paths(config, output)
    outcome = Outcome(published, live)
    progress = progress or Silent()
    everything = plan.readings(config)
    check_recipes(config, everything)
    for reading in everything:
        check_clock(reading)
        outcome.problems += [error for error in reading.absent if str(error) not in map(str, outcome.problems)]
    with Store(live).writing() as writer:
        identities = FileIdentities(live, rehash=rehash)
        for reading in everything:
            read_frames(reading, writer, identities, outcome, progress, memory or config.settings.memory, workers or config.settings.workers)
        identities.save()
        _tidy(everything, writer)
        align(config, everything, writer, outcome, progress)
        reduce_all(config, everything, writer, outcome, progress, memory, workers)
        _say_empty(everything, writer.store, outcome)
        try:
            _publish(config, everything, writer, published, outcome, progress)
        except OperandoError as error:  # said with everything else that is at fault
            outcome.problems.append(error)
            outcome.unpublished = True
    return outcome


def _say_empty(everything: list[plan.Reading], store: Store, outcome: Outcome) -> None:
    """Name series for which no file held a frame: `where:` may be misspelt."""
    for reading in everything:
        for consumer in reading.consumers:
            if store.parts(consumer.cell, consumer.series, "skipped") and not raw_parts(store, consumer.cell, consumer.series):
                wanted = dict(consumer.where) | ({"technique": consumer.technique} if consumer.technique else {})
                where = ", ".join(f"{k}: {v}" for k, v in wanted.items()) or "nothing, and its name is no technique of the files"
                outcome.messages.append(f"{consumer.address}: no frame of source {reading.source} fits where: {where}; the series is empty")


# --------------------------------------------------------------------------- publish


def _tidy(everything: list[plan.Reading], writer: Any) -> None:
    """Drop what was made of frames that are gone: their files are meant no more, or were measured on another axis."""
    store: Store = writer.store
    for consumer in (c for r in everything for c in r.consumers):
        for cell, series, product in store.products():
            mine = series == consumer.series or series.startswith(consumer.series + plan.SETUP)
            if cell == consumer.cell and mine and product != "skipped" and not raw_parts(store, cell, series):
                writer.drop(store.parts(cell, series, product))


def _publish(config: BeamtimeConfig, everything: list[plan.Reading], writer: Any, published: Path, outcome: Outcome, progress: Progress) -> None:
    """Write the one self-contained file, unless it already holds just this."""
    store: Store = writer.store
    text = config.path.read_text(encoding="utf-8")
    only = {(c.cell, name) for r in everything for c in r.consumers for name in with_setups(store, c.cell, c.series)}
    for cell, series in sorted({a[:2] for a in store.products()} - only):
        outcome.messages.append(f"{cell}/{series} is no longer in {config.path.name}: it is kept in the growing store and not published")
    only = {address for address in only if store.parts(*address, "alignment")}  # no times that are not on UTC are published as if they were
    parts = [part for part in store.parts() if (part.cell, part.series) in only and part.product != "skipped"]
    key = content_key("published", __version__, plan.keys_of(parts), text)
    if not parts or store.is_published(published, key):
        return
    progress.stage("publish", len({part.address for part in parts}))
    sources = {
        r.source: {
            "loader": r.loader.name,
            "loader_version": r.loader.version,
            "zone": r.zone or "",
            "clock": r.clock,
            "files": len(r.files),
        }
        for r in everything
    }
    process = {"program": "operando", "version": __version__, "configuration": text, "sources": sources, "title": config.title}
    samples = {name: cell.about.with_units() for name, cell in config.cells.items()}
    store.publish(published, only=only, key=key, process=process, samples=samples, writer=writer, progress=progress)
    outcome.done["published"] += 1
