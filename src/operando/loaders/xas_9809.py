"""The 9809 format of the Photon Factory and other Japanese beamlines: monochromator angles and counts under a fixed header.

`Mono : Si(111) D= 3.13551 A` gives the lattice spacing, from which energy = h c / (2 D sin(angle observed)). The line `Mode` says what each
channel is: 1 the beam before the sample, 2 after it, 3 fluorescence. `Offset` (dark counts per second) is not
subtracted. The second line holds begin and end, `22.05.11 17:26 - 22.05.11 18:33`: year, month, day of the local clock.
"""

from __future__ import annotations

import math
import re

import numpy as np

from operando.contract import LoaderError
from operando.loaders.diffraction import HC
from operando.loaders.spectrum_text import Columns, HeaderTimes, Path_, read_columns, resolution
from operando.loaders.text import parse_local

_NAMES = {1: "i0", 2: "itrans", 3: "ifluor"}


def is_9809(text: str) -> bool:
    """Say whether a text is of this format."""
    return bool(re.match(r"\s*9809\s", text))


def read_9809(text: str, path: Path_) -> Columns:
    """Read a file as columns labelled `energy`, `i0`, `itrans`, `ifluor` (`ifluor_5` and so on for further ones), `angle`, `seconds`.

    Raises
    ------
    LoaderError
        The header lacks the lattice spacing or the modes, or the number of points does not fit.
    """
    lines = text.split("\n")
    spacing = re.search(r"^\s*Mono\s*:.*?\bD=\s*([\d.]{1,12})\s*A", text, re.MULTILINE)
    modes = next((i for i, line in enumerate(lines[:200]) if re.match(r"\s*Mode\s+\d", line)), None)
    if spacing is None or modes is None:
        raise LoaderError("the 9809 header is incomplete", file=path, expected="a line Mono : ... D= ... A and a line Mode")
    offset = 1 if re.match(r"\s*Offset\s", lines[modes + 1] if modes + 1 < len(lines) else "") else 0
    begin = modes + 1 + offset
    block = read_columns("\n".join(lines[begin:]), path, first_line=begin + 1)
    block.header[:0] = lines[:begin]
    words = lines[modes].split()[1:]  # the word Mode itself stands over the first column
    width = block.values.shape[1]
    if len(words) != width - 1 or not all(word.lstrip("-").isdigit() for word in words):
        raise LoaderError("the modes do not fit the columns", file=path, found=f"{len(words)} modes, {width} columns")
    points = re.search(r"Points=\s*(\d{1,9})", text)
    if points and block.values.shape[0] < int(points.group(1)):
        raise LoaderError(
            "the number of points does not fit the header (a half-written file?)",
            file=path,
            found=f"{block.values.shape[0]} points",
            expected=points.group(1),
        )
    observed = block.values[:, 1]
    d = float(spacing.group(1)) if spacing.group(1).count(".") <= 1 else math.nan
    sine = np.sin(np.radians(observed))
    if width < 4 or not (0.1 < d < 100) or not ((sine > 0) & (observed < 90)).all():
        raise LoaderError("the angles or the lattice spacing are impossible", file=path, found=f"D = {spacing.group(1)} A, {width} columns")
    energy = HC * 1000 / (2 * d * sine)
    labels = ["angle_set", "angle", "seconds"]
    for number, mode in enumerate(map(int, words[2:]), start=4):
        name = _NAMES.get(abs(mode) % 100, f"channel_{number}")
        labels.append(name if name not in labels else f"{name}_{number}")
    block.values = np.column_stack([energy, block.values])
    block.integers = [False, *block.integers]
    block.labels = ["energy", *labels]
    block.units = ["eV", "deg", "deg", "s", *[""] * (width - 3)]
    return block


def times_9809(header: list[str]) -> HeaderTimes:
    """Read begin and end from the second line; nothing found is no fault."""
    match = re.search(r"(\d\d\.\d\d\.\d\d \d\d:\d\d)\s*-\s*(\d\d\.\d\d\.\d\d \d\d:\d\d)", "\n".join(header[:4]))
    if match is None:
        return HeaderTimes()
    begin, end = (parse_local(match.group(i), ("%y.%m.%d %H:%M",)) for i in (1, 2))
    if begin is None:
        return HeaderTimes()
    seconds = (end - begin).total_seconds() if end is not None else math.nan
    return HeaderTimes(begin.isoformat(), seconds if 0 <= seconds < 1e8 else math.nan, resolution(match.group(1)))
