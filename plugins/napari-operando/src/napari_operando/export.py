"""What is shown, as files: plots as SVG and PNG, numbers as CSV, the window as PNG, and how all of it came about as JSON."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import operando as op
from napari_operando.panels.rows import WaterfallRow

if TYPE_CHECKING:
    from napari_operando.window import Window


@dataclass
class Shown:
    """What a window shows, drawn: nothing of it is in the window any more.

    Attributes
    ----------
    files
        Name -> content: pictures, plots, provenance.
    tables
        Name -> columns, which may differ in length.
    spectra
        Name -> label of the axis, its values, and of each spectrum the time (s), how many frames it is the mean of, and its values.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    tables: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    spectra: dict[str, tuple[str, np.ndarray, list[tuple[float, int, np.ndarray]]]] = field(default_factory=dict)


def export(window: Window, folder: Path) -> list[Path]:
    """Write what a window shows into a new folder, all of it or nothing: `write` what is `drawn`."""
    refuse(folder)
    return write(drawn(window), folder)


def refuse(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    operando.OperandoError
        It does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise op.OperandoError("something is there already", file=folder, expected="a new or empty folder")


def drawn(window: Window) -> Shown:
    """Draw what a window shows; in the window's thread."""
    from pyqtgraph.exporters import SVGExporter

    out = Shown()
    for row in window.timeline.rows:
        out.tables[f"timeline_{_plain(row.key)}"] = row.table()
        if isinstance(row, WaterfallRow) and row.level is not None:
            out.spectra[f"timeline_{_plain(row.key)}_picture"] = _spectra(row)
    plots: dict[str, tuple[Any, Any]] = {"timeline": (window.timeline.graphics, None)}
    for panel in window.panels:
        if panel is not window.timeline and panel.isVisible():
            out.tables[_plain(panel.title.lower())] = panel.table()
            if hasattr(panel, "graphics"):
                plots[_plain(panel.title.lower())] = panel.graphics, panel.headed()
    for name, (graphics, heading) in plots.items():
        if heading:  # a figure alone says what its colours mean
            heading[0].setTitle(heading[1], size="8pt", color=window.timeline.look.foreground)
            graphics.ci.layout.activate()
            heading[0].layout.activate()
        out.files[f"{name}.png"] = _grabbed(graphics)  # first: views take their new place when they are painted
        width, height = graphics.scene().sceneRect().width(), graphics.scene().sceneRect().height()
        svg = SVGExporter(graphics.scene()).export(toBytes=True)
        # SVG Tiny, which pyqtgraph says this is, knows no percentages: there the background would be 100 x 100
        out.files[f"{name}.svg"] = svg.replace(b'width="100%" height="100%"', b'width="%d" height="%d"' % (width, height))
        if heading:
            heading[0].setTitle(None)
    for name, canvas_only in (("canvas", True), ("window", False)):
        out.files[f"{name}.png"] = _png(window.viewer.screenshot(canvas_only=canvas_only, flash=False))
    out.files["provenance.json"] = (json.dumps(provenance(window), indent=2, default=str) + "\n").encode()
    return out


def write(shown: Shown, folder: Path) -> list[Path]:
    """Write what was drawn into a new folder, all of it or nothing; in any thread.

    Parameters
    ----------
    shown
        From `drawn`.
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
    refuse(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in shown.files.items():
            (growing / name).write_bytes(content)
        for name, table in shown.tables.items():
            if table:
                _csv(growing / f"{name}.csv", table)
        for name, (label, axis, rows) in shown.spectra.items():
            with (growing / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                out = csv.writer(file)
                out.writerow(["time (s)", f"frames averaged \\ {label}", *(repr(float(v)) for v in axis)])
                out.writerows([repr(time), frames, *(f"{v:.7g}" for v in values)] for time, frames, values in rows)
        growing.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        growing.rename(folder)
    except BaseException:
        shutil.rmtree(growing, ignore_errors=True)
        raise
    return sorted(folder.iterdir())


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


def _spectra(row: WaterfallRow) -> tuple[str, np.ndarray, list[tuple[float, int, np.ndarray]]]:
    """Give the spectra that the picture of a waterfall is drawn from, of frames that are visible.

    They are at full resolution where that was read for what is visible; else each is a mean over frames, whose number stands beside it.
    """
    level = row.level
    assert level is not None
    low, high = row.view.viewRange()[0]
    frames = row.times.within(low, high)
    at = np.unique(level.row[frames]) if len(frames) else np.empty(0, int)
    middle = (row.spectra.begin + row.spectra.end) / 2
    rows = []
    for k in at[at >= 0]:
        of = level.row == k
        rows.append((float(np.nanmean(middle[of])), int(of.sum()), level.values[k]))
    return row.spectra.axis_label, level.axis, rows


def _grabbed(widget: Any) -> bytes:
    """Give a widget as it is seen, as PNG."""
    from qtpy.QtCore import QBuffer, QByteArray, QIODevice

    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    if not widget.grab().save(buffer, "PNG"):
        raise OSError("a plot cannot be drawn")
    return bytes(content.data())


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(picture).save(made, "PNG")
    return made.getvalue()
