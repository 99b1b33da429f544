"""BioLogic EC-Lab and BT-Lab text export (.mpt).

**Bytes.** Latin-1 or UTF-8, LF or CRLF. Line 1 `EC-Lab ASCII FILE` (or `BT-Lab`), line 2 `Nb header lines : N`; line N names
the columns, separated by tabs, and one line per record follows. The decimal sign is the exporting computer's, `.` or `,`,
in the header as in the table. Any columns in any order: the user of EC-Lab chose them. The header line may end with a tab that
the records lack; some exports with `Record Ece` name further columns after an empty name, for which the records hold nothing
(checked on `<Ewe-Ece>` = `<Ewe>` - `<Ece>`). Any other difference between names and fields means that columns are shifted:
refused. `XXX` is NaN. A file with N = 3 has no header but these lines; one exported without any begins with the line of names (with or
without a blank line before it), and is recognised by these.

**Time.** `time/s` counts from `Acquisition started on : 07/26/2022 22:38:30.190`: month first, the wall clock of the computer, no
zone. In linked techniques and continued files it counts from the start of the whole experiment, not from `Technique started
on` (a CVA begun 2 s after the acquisition has 2.58 s in its first record), so the sum is the absolute time of each record and files of
one experiment form one timeline. The stamp is good to 1 ms, or to 1 s where its milliseconds are missing or `.000` (EC-Lab
before 11.4 knew no others). Exports in absolute time (stamps in the column) are read as such. No stamp: `start` is None and
the times count from 1970 until the configuration gives a `start:`. A step back in time starts a new `segment`.

**Table.** See `operando.loaders.biologic` for the names, the units, and over which interval a current is the mean.
`Loop k from point number a to b` becomes the variable `loop`.

**An unfinished file.** The last line of a file being written may be cut. It is dropped if it has too few fields, or if the file does
not end with a line end and the last number is shorter than the one above it; the record before gets the quality INTERRUPTED. Any other
line of another length is an error that names the line.

**Claims.** The header's statements (mass, area, electrolyte, comments, capacity ...) are what somebody typed into EC-Lab, often for another
cell: attribute `claims`, JSON, as written. Nothing is computed from them.

**Impedance.** PEIS and GEIS exports (column `freq/Hz`) load as the potentials and currents they hold, one record per frequency
(`sampling` = sample), with the impedance columns as named values. `biologic-eis` reads the same files as spectra.

**Output.** An echem series; one variable per column.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders.biologic import Run, echem_series, read_stamp, split_label, technique_of
from operando.loaders.text import read_numbers, read_text

TECHNIQUES = ("echem",)
VERSION = "3"

_FIRST = re.compile(r"\s*(EC|BT)-Lab ASCII FILE", re.IGNORECASE)
_COUNT = re.compile(r"Nb header lines\s*:\s*(\d+)", re.IGNORECASE)
_LOOP = re.compile(r"Loop \d+ from point number (\d+) to (\d+)")
_POTENTIALS = ("Ewe", "<Ewe>", "Ecell", "<Ecell>", "Ewe-Ece", "<Ewe-Ece>")
_CLOCK = re.compile(r"\d{1,4}[/.\-]\d{1,2}[/.\-]\d{1,4}[ T]\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?")


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say whether this is an EC-Lab text export, and of which technique; impedance is left to `biologic-eis`."""
    try:
        head = read_text(path, limit=4096)
    except LoaderError:
        return None
    if _bare(head):
        return "EC-Lab text export without a header"
    technique = technique_in(path)
    if technique is None or technique.endswith("EIS"):
        return None
    return f"{head.lstrip()[:2].upper()}-Lab text export" + (f", {technique}" if technique else "")


def technique_in(path: str | os.PathLike[str]) -> str | None:
    """Short name of the technique of a text export with a header, empty if it is not known; None if it is no such file."""
    try:
        head = read_text(path, limit=4096)
    except LoaderError:
        return None
    if _FIRST.match(head) is None or _COUNT.search(head[:500]) is None:
        return None
    name = _technique_line(head.split("\n"))
    return technique_of(name, Path(path).name) if name else ""


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read one .mpt file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    xarray.Dataset
        An echem series, times as written.

    Raises
    ------
    LoaderError
        Not such a file, no times or potentials in it, or a line that is broken.
    """
    path = Path(path)
    text = read_text(path)
    if _bare(text):
        begin = len(text) - len(text.lstrip("\n"))
        line = begin + 1
    else:
        if _FIRST.match(text) is None:
            raise LoaderError("not an EC-Lab text export", file=path, found=repr(text[:40]), expected="'EC-Lab ASCII FILE'")
        count = _COUNT.search(text[:500])
        if count is None:
            raise LoaderError("the number of header lines is missing", file=path, expected="Nb header lines : N in line 2")
        line, begin = _column_line(text, int(count[1][:9]), path)
    head, names, body = text[:begin].split("\n")[: line - 1], *_split_off(text, begin)
    run = read_head(head, path.name)
    columns = _records(names, body, line + 1, path, run)
    return echem_series(path, columns, run)


def _bare(text: str) -> bool:
    """Say whether the text begins with EC-Lab's column names: exported without a header."""
    names = {split_label(name) for name in text[:8192].lstrip("\n").partition("\n")[0].split("\t")}
    return (
        ("time", "s") in names and bool(names & {("mode", "1"), ("freq", "Hz")}) and any(base in _POTENTIALS and unit == "V" for base, unit in names)
    )


def read_head(lines: list[str], file_name: str) -> Run:
    """Read the header of an .mpt or .mpl file: statements, start stamp, loops."""
    run = Run()
    statements: dict[str, Any] = {}
    parent = ""
    for line in lines:
        if not line.strip():
            continue
        loop = _LOOP.match(line.strip())
        if loop:
            run.loops.append(int(loop[1][:12]))
            continue
        software = re.match(r"((?:EC|BT)-Lab) for windows (v\S+)", line.strip(), re.IGNORECASE)
        if software:
            run.software = f"{software[1]} {software[2]}"
            continue
        indented = line.startswith(("\t", "   "))
        if re.search(r"\S {4,}\S", line):  # the table of settings: columns, one per step
            parent = ""
            continue
        key, sign, value = line.partition(" :") if " :" in line else line.partition(" = ") if indented else (line, "", "")
        key, value = key.strip(), value.strip()
        if not indented and not value:
            parent = key
        if not sign or not value or not key or len(key) > 80 or key.startswith("Nb header lines"):
            continue
        key = f"{parent}: {key}" if indented and parent else key
        statements[key] = f"{statements[key]}\n{value}" if key in statements and key == "Comments" else value[:500]
    run.start = read_stamp(statements.get("Acquisition started on", ""))
    device = re.sub(r"\s*\(SN.*", "", statements.get("Device", ""))
    run.instrument = f"BioLogic {device}".strip()
    run.channel = re.sub(r"\s*\(SN.*", "", statements.get("Run on channel", ""))
    saved = statements.get("Saved on: File", "")
    long_name = _technique_line(lines)
    run.technique = technique_of(long_name, saved or file_name)
    if run.loops == [0]:
        run.loops = []  # one loop is none
    run.claims = statements
    return run


def _technique_line(lines: list[str]) -> str:
    """Find the technique's name: the first line after the count."""
    for line in lines[1:16]:
        text = line.strip()
        if text and _COUNT.match(text) is None:
            return text if ":" not in text and "\t" not in line.strip("\t") else ""
    return ""


def _column_line(text: str, count: int, path: Path) -> tuple[int, int]:
    """Give the number of the line of column names (from 1) and its offset.

    It is line N by the header's own count. Where lines were lost or doubled on the way it is the first line with tabs
    that names a time.
    """
    begin, number = 0, 1
    found = None
    while number <= count + 1000 and begin <= len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        line = text[begin:end]
        is_names = "\t" in line.strip() and re.search(r"(^|\t)\s*(time/|mode\t|freq/|Ewe/|<Ewe>/|Ecell/)", line) is not None
        if is_names or number == count:
            found = number, begin
            if "\t" in line.strip():
                break
        begin, number = end + 1, number + 1
    if found is None or not text[found[1] : found[1] + 2000].split("\n")[0].strip():
        raise LoaderError("no line of column names", file=path, found=f"{number - 1} lines", expected=f"column names in line {count}")
    return found


def _split_off(text: str, begin: int) -> tuple[list[str], str]:
    """Split the line of names from the records below it."""
    line, _, body = text[begin:].partition("\n")
    names = [name.strip() for name in line.split("\t")]
    while names and not names[-1]:
        names.pop()
    return names, body


def _records(names: list[str], body: str, first_line: int, path: Path, run: Run) -> dict[str, np.ndarray]:
    """Read the records below the names."""
    if not body.strip():
        raise LoaderError("no records yet", file=path, found=f"{len(names)} column names and nothing below them", hint="wait until it has run")
    body, whole = body.rstrip("\n"), body.endswith("\n")
    if "\n\n" in body or body.startswith("\n"):
        body = re.sub(r"\n{2,}", "\n", body.lstrip("\n"))
    body, run.interrupted = _without_cut_line(body, whole, path)
    names, body = _match_fields(names, body, first_line, path)

    stamps = None
    if _CLOCK.match(body[: body.find("\n")].split("\t")[names.index("time/s")] if "time/s" in names else ""):
        stamps = _CLOCK.findall(body)
        body = _CLOCK.sub("0", body)
    decimal = "," if "," in body else "."
    values = read_numbers(body, path, separator="\t", decimal=decimal, columns=names, first_line=first_line)
    columns = {name: values[:, i] for i, name in enumerate(names)}
    if stamps is not None:
        clock = [read_stamp(stamp) for stamp in stamps]
        if len(clock) != len(values) or any(stamp is None for stamp in clock):
            raise LoaderError(
                "a record without its stamp, although the others have one", file=path, found=f"{len(clock)} stamps, {len(values)} records"
            )
        times = np.array(clock, "datetime64[ns]")
        columns["time/s"] = (times - times[0]).astype(np.int64) * 1e-9
        run.start = times[0]
    return columns


def _without_cut_line(body: str, whole: bool, path: Path) -> tuple[str, bool]:
    """Drop the last line if it was cut while it was written."""
    above, _, last = body.rpartition("\n")
    if not above:
        return body, False
    before = above.rpartition("\n")[2]
    cut = last.count("\t") < before.rstrip("\t").count("\t")
    if not cut and not whole:
        fields = (line.rstrip("\t").rpartition("\t")[2] for line in (before, last))
        shapes = [re.sub(r"E[+-]", "E+", re.sub(r"\d", "0", field)).lstrip("-") for field in fields]
        cut = "E" in shapes[0] and shapes[0] != shapes[1] and shapes[1] not in ("XXX", "---")
    return (above, True) if cut else (body, False)


def _match_fields(names: list[str], body: str, first_line: int, path: Path) -> tuple[list[str], str]:
    """Check that every line has the fields that the header names, counting tabs once for the whole file."""
    raw = np.frombuffer(body.encode("latin-1", errors="replace"), np.uint8)
    ends = np.append(np.flatnonzero(raw == 10), raw.size)
    tabs = np.diff(np.searchsorted(np.flatnonzero(raw == 9), ends), prepend=0)
    usual = int(np.bincount(tabs[:10_000]).argmax())
    odd = tabs != usual
    if odd.any():
        where = int(np.argmax(odd))
        raise LoaderError(
            f"line {first_line + where} has {int(tabs[where]) + 1} fields where the others have {usual + 1}",
            file=path,
            found=body.split("\n")[where][:80],
            hint="the line is half-written or was damaged on the way: export the file again",
        )
    width = usual + 1
    if width == len(names) + 1 and body.split("\n", 1)[0].endswith("\t"):
        body = body.replace("\t\n", "\n").rstrip("\t")
        width -= 1
    if width < len(names) and "" in names and names.index("") == width:
        names = names[:width]  # names beyond an empty one have no fields
    if width != len(names):
        raise LoaderError(
            "the header names other columns than the records have",
            file=path,
            found=f"{width} fields in line {first_line}",
            expected=f"{len(names)} ({', '.join(names)[:200]})",
            hint="a column was removed from the names but not from the records, or the reverse: export the file again",
        )
    unique: list[str] = []
    for i, name in enumerate(names):
        label = name or f"column {i + 1}"
        unique.append(label if label not in unique else f"{label} (column {i + 1})")
    return unique, body
