"""Text export of the MyLab multi-channel cycler: one file, the rows of all channels interleaved.

A line MYLAB, lines "Key: value", one line of column names, then rows `seconds;channel;step;cycle;U/V;I/mA;T/degC` with decimal commas.
Time: "Started" is the rig's own clock, day first, without a zone (set `timezone:` in beamtime.yaml); seconds count from it.
Assumed: I is a set value that holds until the next row, positive when it charges the cell. Output: echem, one channel.
"""

import datetime as dt
from pathlib import Path

import numpy as np
import xarray as xr

from operando.contract import LoaderError, series

TECHNIQUES = ("echem",)
VERSION = "1"
HEAD, COLUMNS = "MYLAB multi-channel export", "t/s;channel;step;cycle;U/V;I/mA;T/degC"


def load(path: str | Path, *, channel: int = 1) -> xr.Dataset:
    """Read the rows of one channel."""
    try:
        head, _, body = Path(path).read_text(encoding="utf-8").replace(",", ".").partition(COLUMNS + "\n")
        header = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        start = dt.datetime.strptime(header["Started"], "%d.%m.%Y %H:%M:%S")  # noqa: DTZ007 - the zone is given later
        rows = np.array([[float(field) for field in line.split(";")] for line in body.splitlines()]).reshape(-1, 7)
    except (ValueError, KeyError) as error:
        raise LoaderError("not a complete MyLab export", file=path, found=error, expected=COLUMNS, hint="export it again") from None
    mine = rows[rows[:, 1] == channel]
    if not len(mine) or not np.isfinite(mine).all() or np.abs(mine).max() > 1e9:
        raise LoaderError(f"no good rows of channel {channel}", file=path, found=f"channels {sorted(set(rows[:, 1]))}", hint="set channel:")
    seconds, _, step, cycle, voltage, current, temperature = mine.T
    variables = {
        "voltage": ("time", voltage, "V", {"sampling": "continuous"}),
        "current": ("time", current / 1000, "A", {"interval": "starting"}),
        "cycle": ("time", cycle.astype(int), "1"),
        "step": ("time", step.astype(int), "1"),
        "temperature": ("time", temperature, "degC", {"sampling": "continuous"}),
    }
    segment = np.cumsum(np.diff(seconds, prepend=seconds[0]) < 0)  # the rig's clock was restarted
    attrs = {"instrument": "MyLab cycler", "channel": channel}
    times = {"start": start, "elapsed": seconds, "segment": segment, "time_origin": "header", "time_uncertainty": 0.5}
    return series("echem", variables, source=path, attrs=attrs, **times)


def claims(path: str | Path) -> str | None:
    """Recognise the format by its first line."""
    with Path(path).open("rb") as file:
        return "MyLab multi-channel export" if file.read(len(HEAD)) == HEAD.encode() else None
