"""Times that do not stand in the data file itself: in its name, in a log, in the configuration, or (last) its mtime."""

from __future__ import annotations

import csv
import datetime as dt
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import ConfigError, LoaderError, as_stamps
from operando.loaders.text import MONTHS, read_text

_DIRECTIVES = {
    "Y": r"(?P<{p}Y>\d{{4}})",
    "y": r"(?P<{p}y>\d{{2}})",
    "m": r"(?P<{p}m>\d{{1,2}})",
    "d": r"(?P<{p}d>\d{{1,2}})",
    "H": r"(?P<{p}H>\d{{1,2}})",
    "I": r"(?P<{p}H>\d{{1,2}})",
    "M": r"(?P<{p}M>\d{{2}})",
    "S": r"(?P<{p}S>\d{{2}})",
    "f": r"(?P<{p}f>\d{{1,9}})",
    "j": r"(?P<{p}j>\d{{3}})",
    "b": r"(?P<{p}b>[^\W\d_]+)\.?",
    "B": r"(?P<{p}b>[^\W\d_]+)\.?",
    "a": r"[^\W\d_]+\.?",
    "A": r"[^\W\d_]+\.?",
    "p": r"(?P<{p}p>[AaPp][Mm])",
    "z": r"(?P<{p}z>Z|[+-]\d{{2}}:?\d{{2}})",
    "s": r"(?P<{p}s>\d{{9,10}})",
    "%": "%",
}
_INTS = ("frame", "position", "pass", "scan")
_MTIME_SIGMA = 5.0


def _month(word: str) -> int | None:
    plain = "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(c))
    return MONTHS.get(word.lower()) or _PLAIN_MONTHS.get(plain)


_PLAIN_MONTHS = {"".join(c for c in unicodedata.normalize("NFKD", k) if not unicodedata.combining(c)): v for k, v in MONTHS.items()}


class NamePattern:
    """A file-name pattern such as `{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}`.

    `{time:...}` takes strptime words; month and day names in any of a dozen languages. `{frame}`, `{position}`,
    `{pass}` are integers; `{x}`, `{y}` and `{motor_...}` numbers; every other field is text that `where:` can route by. `*` stands for
    anything. The pattern is held against the file's name without its suffix (with it, if the pattern names one), and against the end of its
    path if the pattern holds a `/`.

    Raises
    ------
    ConfigError
        The pattern cannot be read.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        regex, position = "", 0
        self.fields: list[str] = []
        self.stamps = 0
        for match in re.finditer(r"\{(\w+)(?::([^{}]*))?\}|\*", pattern):
            regex += re.escape(pattern[position : match.start()])
            position = match.end()
            name, form = match.group(1), match.group(2)
            if match.group() == "*":
                regex += ".*?"
            elif name == "time":
                regex += self._stamp(form)
            else:
                if name in self.fields:
                    raise ConfigError(f"the file-name pattern names {{{name}}} twice", found=pattern)
                self.fields.append(name)
                number = name in _INTS or (form or "").endswith("d")
                floating = name in ("x", "y") or name.startswith("motor_") or (form or "").endswith("f")
                value = r"[-+]?\d+" if number else r"[-+]?\d+(?:[.p]\d+)?" if floating else "[^/]+?"
                regex += f"(?P<{name}>{value})"
        regex += re.escape(pattern[position:])
        if "{" in re.sub(r"\{\w+(?::[^{}]*)?\}", "", pattern):
            raise ConfigError(
                "the file-name pattern has a brace that is not a field", found=pattern, expected="{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}"
            )
        self._regex = re.compile(regex, re.IGNORECASE)

    @property
    def resolution(self) -> float:
        """Step of the stamps in seconds, by the finest word of their formats."""
        words = set(re.findall(r"%(\w)", " ".join(re.findall(r"\{time:([^{}]*)\}", self.pattern))))
        return next((step for finer, step in ((set("fSs"), 1.0), (set("M"), 60.0), (set("HI"), 3600.0)) if finer & words), 86400.0)

    def _stamp(self, form: str | None) -> str:
        if not form:
            raise ConfigError("{time} lacks its format", found=self.pattern, expected="for example {time:%Y%m%dT%H%M%S}")
        self.stamps += 1
        prefix, out, i = f"t{self.stamps}_", "", 0
        while i < len(form):
            if form[i] == "%" and i + 1 < len(form):
                word = form[i + 1]
                if word not in _DIRECTIVES:
                    raise ConfigError(f"%{word} is not a word of {{time:...}}", found=self.pattern, expected=" ".join("%" + k for k in _DIRECTIVES))
                fixed = word in "mdHI" and (form[i + 2 : i + 3] == "%" or (i > 1 and form[i - 2] == "%"))  # %m%d without separators: two digits
                part = _DIRECTIVES[word].format(p=prefix)
                out += part.replace(r"\d{1,2}", r"\d{2}") if fixed else part
                i += 2
            else:
                out += re.escape(form[i])
                i += 1
        return out

    def read(self, path: Path) -> tuple[str | None, dict[str, Any]]:
        """Read a path's stamp (ISO text, with an offset if the name holds one) and its other fields.

        Raises
        ------
        LoaderError
            The name does not fit the pattern, or its stamp is no date.
        """
        text = path.as_posix()
        candidates = [path.stem, path.name] if "/" not in self.pattern else [text, text[: -len(path.suffix)] if path.suffix else text]
        match = None
        for candidate in candidates:
            match = self._regex.fullmatch(candidate) if "/" not in self.pattern else re.search(self._regex.pattern + "$", candidate, re.IGNORECASE)
            if match:
                break
        if match is None:
            raise LoaderError(
                "the file name does not fit the pattern", file=path, found=path.name, expected=self.pattern, hint="correct name_pattern: or files:"
            )
        fields: dict[str, Any] = {}
        groups = match.groupdict()
        for name in self.fields:
            value = groups[name]
            form = re.search(rf"\{{{name}:([^{{}}]*)\}}", self.pattern)
            kind = form.group(1)[-1:] if form else ""
            fields[name] = int(value) if name in _INTS or kind == "d" else float(value.replace("p", ".")) if self._is_float(name, kind) else value
        words: dict[str, str] = {}
        for key, value in groups.items():
            if re.match(r"t\d+_", key) and value is not None:
                words[key.split("_", 1)[1]] = value
        return (_stamp_of(words, path) if words else None), fields

    @staticmethod
    def _is_float(name: str, kind: str) -> bool:
        return name in ("x", "y") or name.startswith("motor_") or kind == "f"


def _stamp_of(words: dict[str, str], path: Path) -> str:
    try:
        if "s" in words:
            return dt.datetime.fromtimestamp(int(words["s"]), dt.UTC).isoformat()
        year = int(words.get("Y") or 2000 + int(words["y"]))
        hour = int(words.get("H", 0))
        if "p" in words:
            hour = hour % 12 + (12 if words["p"].lower() == "pm" else 0)
        if "j" in words:
            day = dt.date(year, 1, 1) + dt.timedelta(days=int(words["j"]) - 1)
        else:
            month = int(words["m"]) if "m" in words else _month(words["b"])
            if month is None:
                raise LoaderError(
                    "the file name holds an unknown month", file=path, found=words["b"], hint="tell us the language, or rename the files"
                )
            day = dt.date(year, month, int(words["d"]))
        moment = dt.time(hour, int(words.get("M", 0)), int(words.get("S", 0)))
        text = f"{day.isoformat()}T{moment.isoformat()}"
    except (KeyError, ValueError) as error:
        raise LoaderError("the stamp in the file name is no date", file=path, found=path.name, expected=f"year, month and day ({error})") from None
    if "f" in words:
        text += "." + words["f"]
    if "z" in words:
        zone = words["z"].upper()
        text += "+00:00" if zone == "Z" else zone if ":" in zone else zone[:3] + ":" + zone[3:]
    return text


@dataclass(frozen=True)
class FileTimes:
    """Where a source's times come from when not (only) from its files: the general time options of every loader.

    Attributes
    ----------
    start
        Stamp of the first frame, for files that hold none.
    exposure
        Seconds, for files that do not say.
    period
        Seconds between frames that are only numbered.
    first_frame
        Number of the frame taken at `start`: 1, or 0 where one of the source's files has the number 0 (`among`).
    name_pattern
        See `NamePattern`.
    times_from
        Log table: `{file, name, start, end, exposure, exposure_unit, index, format}`; `name` is the column with the data file's name, `start` and
        `end` those with its stamps. With `index`, the column with a frame's number in its file, the log has a line per frame.
    mtime
        Allow the files' modification times (flagged, at least 5 s uncertain).
    stamp_marks
        What the stamps of name or log mark: `start`, `middle` or `end` of the exposure.
    time_uncertainty
        Seconds (1 sigma); the loader's own statement by default.
    timeless
        True for files whose times play no part (a flat field): that they hold none is no error.
    alone
        Whether the file is the only one of its source: without a number it is the first.
    """

    start: str | None = None
    exposure: float | None = None
    period: float | None = None
    first_frame: int | None = None
    name_pattern: str | None = None
    times_from: Mapping[str, str] | None = None
    mtime: bool = False
    stamp_marks: str = "start"
    time_uncertainty: float | None = None
    base: Path = Path()
    timeless: bool = False
    alone: bool = False

    def among(self, paths: Sequence[Path]) -> FileTimes:
        """Say from which number frames count, and whether a file needs none, by the names of all files of a source."""
        if self.period is None or self.first_frame is not None:
            return self
        numbers = {self._number(path) for path in paths}
        if 0 in numbers:
            return replace(self, first_frame=0)
        return replace(self, alone=True) if numbers == {None} and len(paths) == 1 else self

    def _number(self, path: Path) -> int | None:
        """Read the number of a file's frame from its name."""
        if self.name_pattern:
            try:
                frame = self._pattern.read(path)[1].get("frame")
            except (ConfigError, LoaderError):  # told when the file is read
                return None
            if frame is not None:
                return int(frame)
        digits = re.findall(r"\d+", path.stem)
        return int(digits[-1]) if digits else None

    def apply(self, ds: xr.Dataset, path: Path) -> xr.Dataset:
        """Give a series as its loader returned it the times and name fields these options say.

        Raises
        ------
        LoaderError
            The file has no time at all; the message names the options.
        """
        stamp: Any = None
        origin, marks = "", self.stamp_marks
        fields: dict[str, Any] = {}
        if self.name_pattern:
            stamp, fields = self._pattern.read(path)
            origin = "filename" if stamp else ""
        exposure = self.exposure
        if self.times_from and self.times_from.get("index"):
            return self._each_logged(ds, path)
        if self.times_from:
            start, end, logged = self._log_row(path)
            stamp, origin = start, "log"
            exposure = logged if logged is not None else exposure
            if end is not None and start is not None and logged is None:
                exposure = float((as_stamps(end)[0] - as_stamps(start)[0]) / np.timedelta64(1, "s"))
                if not exposure >= 0:
                    raise LoaderError("the log says that the frame ends before it starts", file=path, found=f"{start} to {end}")
            elif end is not None and start is None:
                stamp, marks = end, "end"
        ds = self._with_fields(ds, fields)
        if "frame" in fields:
            ds.attrs["rank"] = int(fields.get("scan", 0)) * 10**12 + int(fields["frame"])
        written = ds.attrs.get("time_origin") != "counter"
        if stamp is None and not written:
            if self.start is not None:
                stamp, origin = str(self.start), "config"
            elif self.mtime:
                modified = np.datetime64(int(os.stat(path).st_mtime_ns), "ns")
                return self._anchor(self._exposed(ds, exposure), modified, "mtime", utc=True, marks="end")
            else:
                raise LoaderError(
                    "the file holds no absolute time",
                    file=path,
                    found="times counted from the start of the file" if ds.sizes["time"] > 1 else "no stamp",
                    expected="one of the source's options start:, name_pattern:, times_from: (or mtime: true, which is uncertain)",
                    hint="add the option that fits to this source in beamtime.yaml",
                )
        elif stamp is None and self.start is not None and ds.attrs.get("time_origin") == "header":
            stamp, origin = str(self.start), "config"  # the configuration wins over the file
        number = fields.get("frame", ds["source_index"].values)
        if self.period is not None:
            ds = self._spaced(ds, path) if stamp is None and written else self._numbered(ds, number, path)
        ds = self._exposed(ds, exposure)
        if stamp is not None:
            stamps, zoned = as_stamps(stamp)
            ds = self._anchor(ds, stamps[()], origin, utc=zoned, marks=marks if origin in ("filename", "log") else "start")
        if self.time_uncertainty is not None:
            ds.attrs["time_uncertainty_s"] = float(self.time_uncertainty)
        if (
            not self.timeless
            and ds.attrs.get("frames_of") == "imaging"
            and ds.sizes["time"] > 1
            and (ds["time"].values == ds["time"].values[0]).all()
        ):
            raise LoaderError(
                "the file does not say when its frames were taken",
                file=path,
                found=f"{ds.sizes['time']} frames and one stamp",
                hint="frame_time: or period: where they follow one another; else a log with a line per frame: times_from: with index:",
            )
        return ds

    def _each_logged(self, ds: xr.Dataset, path: Path) -> xr.Dataset:
        """Give every frame of a file the time that its own line of the log says."""
        if self.name_pattern:
            _, fields = self._pattern.read(path)
            ds = self._with_fields(ds, fields)
            if "frame" in fields:
                ds.attrs["rank"] = int(fields.get("scan", 0)) * 10**12 + int(fields["frame"])
        table: Any = self._log_row(path)
        rows = []
        for k in ds["source_index"].values.tolist():
            if k not in table:
                raise LoaderError(
                    f"frame {k} of the file is not in the log",
                    file=path,
                    found=f"{len(table)} lines, index {min(table)} to {max(table)}",
                    expected=f"{ds.sizes['time']} frames, counted from 0",
                    hint="complete the log, or correct index: in times_from:",
                )
            rows.append(table[k])
        own = self.exposure if self.exposure is not None else np.nan
        known = ds["exposure"].values.astype(float)
        exposure = np.where(np.isnan(known), own, known) if self.exposure is None else np.full(len(rows), float(own))
        stamps, share = [], {"start": 0.0, "middle": 0.5, "end": 1.0}[self.stamp_marks]
        for k, (start, end, logged) in enumerate(rows):
            if logged is not None:
                exposure[k] = logged
            elif start is not None and end is not None:
                exposure[k] = float((as_stamps(end)[0] - as_stamps(start)[0]) / np.timedelta64(1, "s"))
            if not exposure[k] >= 0 and not np.isnan(exposure[k]):
                raise LoaderError("the log says that a frame ends before it starts", file=path, found=f"frame {k}: {start} to {end}")
            stamps.append(start if start is not None else end)
        begin, utc = as_stamps(stamps)
        marks = np.where([start is None for start, _, _ in rows], 1.0, share)
        seconds = np.nan_to_num(exposure)
        begin = begin - np.round(marks * seconds * 1e9).astype("timedelta64[ns]")
        middle = begin + np.round(seconds * 5e8).astype("timedelta64[ns]")
        out = ds.drop_vars("stamp", errors="ignore").assign_coords(
            time=("time", middle),
            source_time=("time", middle.copy(), ds["source_time"].attrs),
            exposure=("time", exposure, ds["exposure"].attrs),
            segment=(
                "time",
                np.concatenate([[0], np.cumsum(np.diff(middle) < np.timedelta64(0, "ns"))])[: len(rows)].astype(np.int32),
                ds["segment"].attrs,
            ),
        )
        if not utc:
            out = out.assign_coords(stamp=("time", begin))
        whole = bool((begin.astype("datetime64[s]") == begin).all())
        sigma = self.time_uncertainty if self.time_uncertainty is not None else 0.5 if whole else 0.0
        told = {"time_origin": "log", "time_uncertainty_s": float(sigma), "timezone_source": "file" if utc else "none"}
        out.attrs = {**ds.attrs, **told}
        return out

    def logged(self, path: Path) -> Any:
        """Give what the log says of a file (start, end, exposure in s), or frame by frame; None if there is no log or the file is not in it.

        Raises
        ------
        ConfigError, LoaderError
            The log cannot be read.
        """
        if not self.times_from:
            return None
        table = _read_log(self.base / str(self.times_from["file"]), tuple(sorted(self.times_from.items())))
        return table.get(path.name) or table.get(path.stem)

    @property
    def _pattern(self) -> NamePattern:
        return NamePattern(self.name_pattern or "")

    def _with_fields(self, ds: xr.Dataset, fields: dict[str, Any]) -> xr.Dataset:
        n = ds.sizes["time"]
        new = {}
        for name, value in fields.items():
            if name in ds.coords and name not in ("frame", "position", "pass", "x", "y"):
                continue
            kind = np.full(n, value, dtype=object) if isinstance(value, str) else np.full(n, value)
            attrs = {} if isinstance(value, str) else {"units": "1"}
            new[name] = ("time", kind, attrs)
        return ds.assign_coords(new) if new else ds.copy(deep=False)

    def _spaced(self, ds: xr.Dataset, path: Path) -> xr.Dataset:
        """Place the frames of a file that says itself when it began: index x period after its first frame's begin."""
        if self.period is None or not self.period > 0:
            raise LoaderError("period is not a positive time", file=path, found=self.period)
        half = np.round(np.nan_to_num(ds["exposure"].values) * 5e8).astype("timedelta64[ns]")
        index = ds["source_index"].values.astype(float)
        elapsed = np.round((index - index[:1]) * self.period * 1e9).astype("timedelta64[ns]")
        time = (ds["time"].values - half)[:1] + elapsed + half
        out = ds.assign_coords(time=("time", time), source_time=("time", time.copy(), ds["source_time"].attrs))
        if "stamp" in out.coords and out["stamp"].ndim:  # one clock reading counts, the first; what follows is counted from it
            out = out.drop_vars("stamp").assign_coords(stamp=((), ds["stamp"].values[0]))
        return out

    def _numbered(self, ds: xr.Dataset, number: Any, path: Path) -> xr.Dataset:
        """Place frames that are only numbered: number x period after the start."""
        if self.period is None or not self.period > 0:
            raise LoaderError("period is not a positive time", file=path, found=self.period)
        if np.ndim(number) == 0:
            number = np.full(ds.sizes["time"], number)
        elif ds.sizes["time"] == 1 and "frame" not in ds.coords:
            named = self._number(path)
            if named is None and not self.alone:
                raise LoaderError(
                    "period: needs a frame number",
                    file=path,
                    found=f"{path.name}, one of several files",
                    expected="a number in the name, or {frame} in name_pattern",
                )
            number = np.array([1 if named is None else named])
        first = self.first_frame if self.first_frame is not None else (1 if "frame" in ds.coords or ds.sizes["time"] == 1 else 0)
        elapsed = (np.asarray(number, float) - first) * self.period
        exposure = np.nan_to_num(ds["exposure"].values)
        time = np.datetime64(0, "ns") + np.round((elapsed + exposure / 2) * 1e9).astype("timedelta64[ns]")
        out = ds.assign_coords(time=("time", time), source_time=("time", time.copy(), ds["source_time"].attrs))
        out.attrs = {**ds.attrs, "time_origin": "counter"}
        return out

    def _exposed(self, ds: xr.Dataset, exposure: float | None) -> xr.Dataset:
        """Set the exposure, keeping the beginning of each frame."""
        if exposure is None:
            return ds
        begin = ds["time"].values - np.round(np.nan_to_num(ds["exposure"].values) * 5e8).astype("timedelta64[ns]")
        time = begin + np.timedelta64(int(round(exposure * 5e8)), "ns")
        return ds.assign_coords(
            time=("time", time),
            source_time=("time", time.copy(), ds["source_time"].attrs),
            exposure=("time", np.full(ds.sizes["time"], float(exposure)), ds["exposure"].attrs),
        )

    def _anchor(self, ds: xr.Dataset, stamp: np.datetime64, origin: str, *, utc: bool, marks: str) -> xr.Dataset:
        """Let the frames count from `stamp`, keeping their distances."""
        exposure = np.nan_to_num(ds["exposure"].values)
        begin = ds["time"].values - np.round(exposure * 5e8).astype("timedelta64[ns]")
        if ds.attrs.get("time_origin") == "counter":
            zero: Any = np.datetime64(0, "ns")
        elif "stamp" in ds.coords and ds["stamp"].ndim == 0 and origin == "config":
            zero = ds["stamp"].values[()]  # linked files count from one stamp: only that is replaced
        else:
            zero = begin[0]
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[marks]
        first = np.timedelta64(int(round(share * float(exposure[0]) * 1e9)), "ns") if exposure.size else np.timedelta64(0, "ns")
        if marks == "end" and origin == "mtime" and ds.sizes["time"] > 1:
            first = begin[-1] - zero + np.timedelta64(int(round(float(exposure[-1]) * 1e9)), "ns")
        time = ds["time"].values - zero + (stamp - first)
        out = ds.assign_coords(time=("time", time), source_time=("time", time.copy(), ds["source_time"].attrs))
        out = out.drop_vars("stamp", errors="ignore") if utc else out.assign_coords(stamp=((), np.asarray(stamp, "datetime64[ns]")))
        sigma = float(ds.attrs.get("time_uncertainty_s", 0.0))
        if origin == "mtime":
            period = float(np.median(np.diff(time) / np.timedelta64(1, "s"))) if ds.sizes["time"] > 1 else float(np.max(exposure, initial=0.0))
            sigma = max(sigma, _MTIME_SIGMA, period)
        elif origin in ("filename", "log") and stamp.astype("datetime64[s]") == stamp:
            step = self._pattern.resolution if origin == "filename" else 1.0
            sigma = max(sigma, 0.5 if step <= 1 else step / 12**0.5)  # stamps to the second; or only to the minute, the hour, the day
        out.attrs = {**ds.attrs, "time_origin": origin, "time_uncertainty_s": sigma, "timezone_source": "file" if utc else "none"}
        return out

    def _log_row(self, path: Path) -> Any:
        row = self.logged(path)
        if row is None:
            table = _read_log(self.base / str((self.times_from or {})["file"]), tuple(sorted((self.times_from or {}).items())))
            raise LoaderError(
                "the file is not in the log",
                file=path,
                found=f"{len(table)} names such as {next(iter(table), '-')!r}",
                expected=path.name,
                hint="complete the log, or check times_from:",
            )
        return row


_logs: dict[tuple[Any, ...], dict[str, Any]] = {}


def _read_log(path: Path, columns: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Read a log table once: data file's name -> (start, end, exposure in s); with `index`, name -> number of the frame -> that."""
    try:
        info = path.stat()
    except OSError as error:
        raise ConfigError("the log named by times_from: cannot be opened", file=path, found=error.strerror) from None
    key = (path, info.st_mtime_ns, info.st_size, columns)
    if key in _logs:
        return _logs[key]
    wanted = dict(columns)
    text = read_text(path)
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=separator))
    header = [name.strip() for name in rows[0]] if rows else []
    for role in ("name", "start", "end", "exposure", "index"):
        if wanted.get(role) and wanted[role] not in header:
            raise ConfigError(
                f"the log has no column {wanted[role]!r} (times_from: {role})", file=path, found=", ".join(header), hint="name a column of the log"
            )
    if not wanted.get("name") or not (wanted.get("start") or wanted.get("end")):
        raise ConfigError("times_from: is incomplete", file=path, found=wanted, expected="file, name, and start or end")
    index = {role: header.index(wanted[role]) for role in ("name", "start", "end", "exposure", "index") if wanted.get(role)}
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6}[wanted.get("exposure_unit") or "s"]
    table: dict[str, Any] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) < max(index.values()) + 1:
            raise LoaderError(f"line {number} of the log has {len(row)} fields, not {len(header)}", file=path)
        name = Path(row[index["name"]].strip().replace("\\", "/")).name
        start, end = (_log_stamp(row[index[r]], wanted.get("format"), path, number) if r in index else None for r in ("start", "end"))
        try:
            exposure = float(row[index["exposure"]].replace(",", ".")) * scale if "exposure" in index else None
        except ValueError:
            raise LoaderError(f"line {number} of the log has no number of seconds", file=path, found=row[index["exposure"]]) from None
        if "index" in index:
            _add_frame(table, name, row[index["index"]], (start, end, exposure), path, number)
            continue
        if name in table:
            raise LoaderError(f"line {number} of the log names a file again", file=path, found=name, hint="keep one line per data file")
        table[name] = (start, end, exposure)
        table.setdefault(Path(name).stem, (start, end, exposure))
    _logs.clear()
    _logs[key] = table
    return table


def _add_frame(table: dict[str, Any], name: str, text: str, said: tuple[str | None, str | None, float | None], path: Path, line: int) -> None:
    """Take up a line of a log that has one per frame."""
    if not re.fullmatch(r"\s*\d{1,9}\s*", text):
        raise LoaderError(f"line {line} of the log has no number of a frame", file=path, found=text, expected="0, 1, 2 ...")
    own = table.setdefault(name, {})
    if int(text) in own:
        raise LoaderError(f"line {line} of the log names a frame again", file=path, found=f"{name}, {int(text)}", hint="keep one line per frame")
    own[int(text)] = said
    table.setdefault(Path(name).stem, own)


def _log_stamp(text: str, form: str | None, path: Path, number: int) -> str:
    text = text.strip()
    if form:
        try:
            return dt.datetime.strptime(text, form).isoformat()  # noqa: DTZ007 - the source's zone is applied by the timeline
        except ValueError:
            raise LoaderError(f"line {number} of the log does not fit format:", file=path, found=text, expected=form) from None
    if re.fullmatch(r"\d{9,10}(\.\d+)?", text):
        whole, _, part = text.partition(".")
        return dt.datetime.fromtimestamp(int(whole), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + (f".{part}" if part else "") + "+00:00"
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        raise LoaderError(
            f"line {number} of the log has no ISO stamp", file=path, found=text, expected="2026-06-03T10:00:00, or give times_from: format:"
        ) from None
    return text
