"""What is shown, as files: plots as SVG and PNG, numbers as CSV, the window as PNG, and how all of it came about as JSON."""

from __future__ import annotations

import csv
import json
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import operando as op
from napari_operando.panels.rows import WaterfallRow

if TYPE_CHECKING:
    from napari_operando.window import Window


def export(window: Window, folder: Path) -> list[Path]:
    """Write what a window shows into a new folder, all of it or nothing.

    Parameters
    ----------
    window
        The window.
    folder
        Must not exist, or be empty.

    Returns
    -------
    list of pathlib.Path
        `window.png`, `canvas.png`; `timeline` and every plot that can be seen as .svg and .png; the numbers of each row and plot as .csv;
        `provenance.json`.

    Raises
    ------
    operando.OperandoError
        The folder holds something.
    OSError
        It cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise op.OperandoError("something is there already", file=folder, expected="a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(window, growing)
        growing.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        growing.rename(folder)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
    return sorted(folder.iterdir())


def _write(window: Window, folder: Path) -> None:
    from pyqtgraph.exporters import SVGExporter

    tables: dict[str, dict[str, np.ndarray]] = {}
    for row in window.timeline.rows:
        tables[f"timeline_{_plain(row.key)}"] = row.table()
        if isinstance(row, WaterfallRow) and row.whole is not None:
            _spectra(folder / f"timeline_{_plain(row.key)}_picture.csv", row)
    drawn = {"timeline": window.timeline.graphics}
    for panel in window.panels:
        if panel is not window.timeline and panel.isVisible():
            tables[_plain(panel.title.lower())] = panel.table()
            if hasattr(panel, "graphics"):
                drawn[_plain(panel.title.lower())] = panel.graphics
    for name, table in tables.items():
        if table:
            _csv(folder / f"{name}.csv", table)
    for name, graphics in drawn.items():
        SVGExporter(graphics.scene()).export(str(folder / f"{name}.svg"))
        if not graphics.grab().save(str(folder / f"{name}.png")):
            raise OSError(f"{folder / name}.png cannot be written")
    for name, canvas_only in (("canvas", True), ("window", False)):
        _png(folder / f"{name}.png", window.viewer.screenshot(canvas_only=canvas_only, flash=False))
    (folder / "provenance.json").write_text(json.dumps(provenance(window), indent=2, default=str) + "\n")


def provenance(window: Window) -> dict[str, Any]:
    """Tell what is shown, of which store, made how, by which versions."""
    session, path = window.session, window.stored.path
    versions = {"python": platform.python_version()}
    for name in ("operando", "napari-operando", "napari", "pyqtgraph", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    stat = path.stat()
    shown = {key: times.at(session.time) for key, times in session.timeline.frames.items()}
    try:
        made = op.provenance(path)
    except op.OperandoError as error:
        made = {"not known": str(error)}
    return {
        "store": {"path": str(path.resolve()), "bytes": stat.st_size if path.is_file() else None, "modified_ns": stat.st_mtime_ns},
        "cell": window.cell.name,
        "position": window.position,
        "time": {"seconds": session.time, "utc": f"{session.timeline.moment(session.time)}Z", "origin": f"{session.timeline.origin}Z"},
        "frames": {key: None if s.gap else {"frame": s.index, "age_s": s.age, "stale": s.stale} for key, s in shown.items()},
        "events": dict(session.marks),
        "region": session.region,
        "active": session.active,
        "difference": session.difference,
        "mean_over_region": session.mean,
        "rows": [row.key for row in window.timeline.rows],
        "versions": versions,
        "series": made,
    }


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name).strip("_")


def _csv(path: Path, table: dict[str, np.ndarray]) -> None:
    """Write columns, which may differ in length."""
    longest = max(len(v) for v in table.values())
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(table)
        columns = [np.asarray(v) for v in table.values()]
        for i in range(longest):
            out.writerow([_number(c[i]) if i < len(c) else "" for c in columns])


def _number(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, float | np.floating) else value


def _spectra(path: Path, row: WaterfallRow) -> None:
    """Write the picture of a waterfall as it is drawn from: one line for each row of the overview, NaN as nan."""
    level = row.whole
    assert level is not None
    low, high = row.view.viewRange()[0]
    frames = row.times.within(low, high)
    at = np.unique(level.row[frames]) if len(frames) else np.empty(0, int)
    middle = (row.spectra.begin + row.spectra.end) / 2
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([f"time (s) \\ {row.spectra.axis_label}", *(repr(float(v)) for v in level.axis)])
        for k in at:
            out.writerow([repr(float(np.nanmean(middle[level.row == k]))), *(f"{v:.7g}" for v in level.values[k])])


def _png(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path)
