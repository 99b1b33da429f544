"""The alignment report: what each stream's clock says, what of it the electrochemistry covers, and what to do about the rest."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import xarray as xr

from operando.contract import AlignmentFlag

HOUR = 3600.0
_FROM_FILE = " (from the file)"
_GAP = 1.25  # an interval longer than this many of those around it is a gap, if it also stands out of their spread


@dataclass
class Stream:
    """One series on its clock.

    Attributes
    ----------
    begin, end
        First beginning and last end of its frames, seconds since 1970 UTC.
    spans
        (begin, end) stretches without a gap, seconds since 1970 UTC.
    gaps
        (begin, interval) where the next frame came later than usual: by 1.25 times and six times the usual spread, in seconds.
    cadence, exposure, sigma
        Medians in s: interval between frames, exposure, 1 sigma of the time.
    flags
        Alignment flag name -> number of frames.
    """

    address: str
    technique: str
    frames: int
    begin: float
    end: float
    spans: list[tuple[float, float]]
    gaps: list[tuple[float, float]]
    cadence: float
    exposure: float
    sigma: float
    zone: str
    clock: str
    origin: str
    flags: dict[str, int]
    segments: int
    backward: int
    duplicates: int
    sentence: str = ""
    advice: list[str] = field(default_factory=list)

    @property
    def rules(self) -> bool:
        """True for the electrochemistry that is the timeline of its cell, not for a second cycler's among its series."""
        return self.technique == "echem" and self.address.endswith("/echem")


@dataclass
class AlignmentReport:
    """All streams of a beamtime, and each cell's voltage to draw above them.

    Attributes
    ----------
    voltage
        Cell -> (seconds since 1970 UTC, V); NaN in the pauses.
    """

    title: str
    zone: str
    streams: list[Stream]
    voltage: dict[str, tuple[np.ndarray, np.ndarray]]
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Give the report as plain data (times as ISO text, UTC)."""
        rows = []
        for s in self.streams:
            row = {k: v for k, v in vars(s).items() if k != "spans"}
            row["begin"], row["end"] = iso(s.begin), iso(s.end)
            row["gaps"] = [{"at": iso(at), "seconds": round(length, 3)} for at, length in s.gaps]
            rows.append(row)
        return {"title": self.title, "streams": rows, "problems": self.problems}

    def text(self, width: int = 100) -> str:
        """Print the report as one terminal page, times in the beamtime's zone."""
        if not self.streams:
            return "\n".join([self.title, "no stream can be shown:", *(f"\n! {problem}" for problem in self.problems)])
        begin, end = min(s.begin for s in self.streams), max(s.end for s in self.streams)
        names = max(len(s.address) for s in self.streams)
        bar = max(20, width - names - 12)
        zone = self.zone
        lines = [self.title, f"{local(begin, zone)} to {local(end, zone)} ({zone}), {(end - begin) / HOUR:.2f} h", ""]
        for s in self.streams:
            lines.append(f"{s.address:<{names}} |{_bar(s.spans, begin, end, bar)}| {s.frames}")
        lines.append("")
        for s in self.streams:
            lines.append(f"{s.address}: {s.sentence}")
            lines.append(f"    times from the {s.origin}, zone {s.zone}, clock {s.clock}, uncertain by {_seconds(s.sigma)}")
            lines.append(f"    every {_seconds(s.cadence)}" + (f", exposed {_seconds(s.exposure)}" if s.exposure > 0 else "") + self._gaps(s, zone))
            notes = []
            if s.segments > 1:
                notes.append(f"{s.segments} segments (the clock restarted or stepped back)")
            if s.backward:
                notes.append(f"{s.backward} backward step{'s' * (s.backward > 1)}")
            if s.duplicates:
                notes.append(f"{s.duplicates} repeated stamps")
            counted = [f"{name} {n}" for name, n in s.flags.items() if n]
            if counted:
                notes.append("flags: " + ", ".join(counted))
            lines += [f"    {note}" for note in notes]
            lines += [f"  ! {advice}" for advice in s.advice]
        lines += [f"\n! {problem}" for problem in self.problems]
        return "\n".join(lines)

    @staticmethod
    def _gaps(s: Stream, zone: str) -> str:
        if not s.gaps:
            return ", no gaps"
        longest = sorted(s.gaps, key=lambda g: -g[1])[:3]
        some = "; ".join(f"{_seconds(length)} at {local(at, zone)}" for at, length in sorted(longest))
        return f", {len(s.gaps)} gap{'s' * (len(s.gaps) > 1)}: {some}" + (" ..." if len(s.gaps) > 3 else "")


def iso(seconds: float) -> str:
    """Write seconds since 1970 as ISO text, UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(seconds: float, zone: str) -> str:
    """Write seconds since 1970 in a zone."""
    try:
        place: dt.tzinfo = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        place = dt.UTC
    return dt.datetime.fromtimestamp(seconds, place).strftime("%Y-%m-%d %H:%M:%S")


def _seconds(value: float) -> str:
    if not np.isfinite(value):
        return "unknown"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s" if value < 2 * HOUR else f"{value / HOUR:.2f} h"


def _bar(spans: list[tuple[float, float]], begin: float, end: float, width: int) -> str:
    cells = np.zeros(width)
    scale = width / max(end - begin, 1e-9)
    for a, b in spans:
        i, j = (a - begin) * scale, max((b - begin) * scale, (a - begin) * scale + 1e-6)
        for k in range(int(i), min(int(np.ceil(j)), width)):
            cells[k] = max(cells[k], min(j, k + 1) - max(i, k))
    return "".join("█" if c > 0.75 else "▒" if c > 0.25 else "░" if c > 0 else " " for c in cells)


def summarise(address: str, aligned: xr.Dataset, echem: xr.Dataset | None) -> Stream:
    """Sum up one aligned series; only its coordinates are looked at.

    Parameters
    ----------
    aligned
        A series that carries its alignment (`annotate`), or the electrochemistry itself.
    echem
        The cell's electrochemistry, to test whether a shift of whole or half hours would explain what is outside.
    """
    time = aligned["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
    exposure = np.nan_to_num(np.asarray(aligned["exposure"].values, float))
    order = np.argsort(time, kind="stable")
    begins, ends = (time - exposure / 2)[order], (time + exposure / 2)[order]
    steps = np.diff(begins)
    positive = steps[steps > 0]
    cadence = float(np.median(positive)) if positive.size else float("nan")
    if str(aligned.attrs.get("technique")) == "echem":
        breaks = np.flatnonzero(steps > float(aligned.attrs.get("max_gap_s", 600.0)))  # a cycler records when something changes: silence is no gap
    else:
        breaks = np.flatnonzero(_late(steps))
    starts, stops = np.r_[0, breaks + 1], np.r_[breaks, time.size - 1]
    reach = cadence / 2 if np.isfinite(cadence) else 0.0
    spans = [(float(begins[a]), float(max(ends[b], begins[b] + reach))) for a, b in zip(starts, stops, strict=True)]
    gaps = [(float(begins[b]), float(steps[b])) for b in breaks]
    flags = np.asarray(aligned["flags"].values, np.int64) if "flags" in aligned.variables else np.zeros(time.size, np.int64)
    counts = {str(f.name): int(((flags & int(f)) != 0).sum()) for f in AlignmentFlag}
    source = aligned["source_time"].values.astype(np.int64) if "source_time" in aligned.variables else (time * 1e9).astype(np.int64)
    segment = np.asarray(aligned["segment"].values) if "segment" in aligned.variables else np.zeros(time.size, int)
    sigma = np.asarray(aligned["time_errors"].values, float) if "time_errors" in aligned.variables else np.full(time.size, np.nan)
    origin = str(aligned.attrs.get("time_origin", "file"))
    stream = Stream(
        address=address,
        technique=str(aligned.attrs.get("technique")),
        frames=int(time.size),
        begin=float(begins.min()),
        end=float(ends.max()),
        spans=spans,
        gaps=gaps,
        cadence=cadence,
        exposure=float(np.median(exposure)),
        sigma=float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else float(aligned.attrs.get("time_uncertainty_s", np.nan)),
        zone=str(aligned.attrs.get("timezone", "UTC"))
        + (_FROM_FILE if aligned.attrs.get("timezone_source") == "file" else " (from the configuration)"),
        clock=str(aligned.attrs.get("clock_text", "as stamped")),
        origin={"mtime": "file's modification time", "config": "configuration", "log": "log table", "filename": "file name"}.get(origin, origin),
        flags=counts,
        segments=int(np.unique(segment).size),
        backward=int((np.diff(source) < 0).sum()),
        duplicates=int((np.diff(source) == 0).sum()),
    )
    if aligned.attrs.get("time_doubt"):
        stream.advice.append(str(aligned.attrs["time_doubt"]))
    _judge(stream, echem, begins, ends)
    return stream


def _late(steps: np.ndarray) -> np.ndarray:
    """Say which intervals stand out of those around them, whose length may change in the course of an experiment."""
    if steps.size < 3:
        return np.zeros(steps.size, bool)
    width = min(5, steps.size // 2)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(steps, width, mode="reflect"), 2 * width + 1)
    sides = np.stack([around[:, :width], around[:, width + 1 :]])
    usual = np.median(sides, axis=2)
    spread = 1.4826 * np.median(np.abs(sides - usual[:, :, None]), axis=2)
    return np.asarray(steps > np.maximum(_GAP * usual, usual + 6 * spread).max(axis=0))


def _judge(stream: Stream, echem: xr.Dataset | None, begins: np.ndarray, ends: np.ndarray) -> None:
    """Say in one sentence how the stream stands, and what to do if it does not stand well."""
    n, flags = stream.frames, stream.flags
    if stream.rules:
        stream.sentence = f"{n} records of electrochemistry, the timeline of this cell."
        return
    if flags["UNALIGNED"] == n:
        stream.sentence = f"{n} frames; no electrochemistry that could be used, so none has a voltage."
        return
    outside, partial, pause = flags["OUTSIDE"], flags["PARTIAL"], flags["PAUSE"]
    inside = n - outside - partial - pause
    said = [f"{inside} of {n} frames lie inside the electrochemistry"]
    for number, words in ((partial, "only partly"), (outside, "outside"), (pause, "in a pause of it")):
        if number:
            said.append(f"{number} {words}")
    stream.sentence = ", ".join(said) + "."
    if flags["MTIME_ONLY"]:
        stream.advice.append("times are files' modification times: the end of writing, changed by copying; prefer name_pattern: or times_from:")
    if outside and echem is not None and echem.sizes["time"]:
        shift, share = zone_shift(echem, begins, ends)
        if shift:
            whose = "timezone: of the electrochemistry, for these files state their own zone" if stream.zone.endswith(_FROM_FILE) else "timezone:"
            stream.advice.append(
                f"looks like a zone error of {shift / HOUR:+g} h: moved by that, {share:.0%} of the frames are covered "
                f"(now {1 - outside / n:.0%}); check {whose}"
            )
        elif outside == n:
            away = _distance(echem, begins, ends)
            stream.advice.append(f"no frame is covered and no shift of up to 14 h helps{away}: is this the electrochemistry of this cell and day?")


def _distance(echem: xr.Dataset, begins: np.ndarray, ends: np.ndarray) -> str:
    """Say how far frames lie from the electrochemistry that all of them miss."""
    time = echem["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
    before, after = float(time.min() - ends.max()), float(begins.min() - time.max())
    if max(before, after) <= 0:
        return ""
    days = max(before, after) / (24 * HOUR)
    long = f"{days:.1f} days" if days >= 2 else _seconds(max(before, after))
    return f" (the frames end {long} before it begins)" if before > 0 else f" (the frames begin {long} after it ends)"


def zone_shift(echem: xr.Dataset, begins: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Find the whole or half hour that, added to the frames' times, would cover at least a fifth more of them.

    Returns
    -------
    tuple
        Shift in s (0 if none explains clearly more than the given zone) and the share of frames covered with it.
    """
    time = echem["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
    low, high = float(time.min()), float(time.max())

    def share(shift: float) -> float:
        return float(np.mean((begins + shift >= low) & (ends + shift <= high)))

    now = share(0.0)
    shifts = np.concatenate([[s, -s] for s in np.arange(0.5, 14.5, 0.5)]) * HOUR
    shares = np.array([share(s) for s in shifts])
    best = int(np.argmax(shares))  # the smallest of equally good shifts comes first
    return (float(shifts[best]), float(shares[best])) if shares[best] >= now + 0.2 else (0.0, now)
