"""The alignment report: what each stream's clock says, what of it the electrochemistry covers, and what to do about the rest."""

from __future__ import annotations

import datetime as dt
import textwrap
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import xarray as xr

from operando.contract import AlignmentFlag
from operando.timeline.audit import INFO, Finding, audit_times, duration
from operando.timeline.beats import pauses
from operando.timeline.clocks import Clock
from operando.timeline.coverage import HOUR, read_as_a_slip, zone_shift

__all__ = ["AlignmentReport", "Estimate", "Stream", "iso", "local", "summarise", "zone_shift"]

_FROM_FILE = " (from the file)"
_95 = 1.96
_HALF_CHI2 = 1.92  # how far below its top the logarithm of a likelihood lies at the ends of a 95 % interval
_TOLD = ("gap",)  # kinds of findings that another line of the page tells
_NO_LAG = "cannot support a claim that something leads or lags"


@dataclass(frozen=True)
class Estimate:
    """A clock found by the program, and what became of it.

    Attributes
    ----------
    segment
        The segment it is for; None if the source has but one.
    clock
        Whatever was found, of any method and status.
    applied
        True if the frames were moved by it.
    to_write
        What to write in beamtime.yaml to use it; may be empty.
    """

    segment: int | None
    clock: Clock
    applied: bool
    to_write: str = ""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the offset, s: by its uncertainty, and by the likelihood profile where that is wider."""
        c = self.clock
        low, high = c.offset - _95 * c.uncertainty, c.offset + _95 * c.uncertainty
        if c.profile is not None and len(c.profile.offset):
            likely = np.asarray(c.profile.offset)[np.asarray(c.profile.log_likelihood) >= -_HALF_CHI2]
            if likely.size:
                low, high = min(low, float(likely.min())), max(high, float(likely.max()))
        return low, high

    def short(self) -> str:
        """Say it in a few words, for a figure."""
        c = self.clock
        if c.status != "ok":
            return f"clock from {_method(c)}: cannot tell"
        low, high = self.interval
        text = f"{c.offset:+.{_digits(c.uncertainty)}f} +- {(high - low) / 2:.2g} s (95 %), {_method(c)}"
        return text if self.applied else f"{text}, not applied"

    def text(self) -> str:
        """Say in one sentence what was found, how sure it is, and whether it was used."""
        c = self.clock
        digits = _digits(c.uncertainty)
        low, high = self.interval
        number = f"{c.offset:+.{digits}f} s, 95 % interval {low:+.{digits}f} to {high:+.{digits}f} s"
        if c.drift or c.drift_uncertainty:
            number += f", drift {c.drift * 1e6:+.{_digits(c.drift_uncertainty * 1e6)}f} +- {c.drift_uncertainty * 1e6:.2g} ppm (1 sigma)"
        where = "" if self.segment is None else f" of segment {self.segment}"
        evidence = f"; {c.evidence.rstrip('. ')}" if c.evidence else ""
        if c.status != "ok":
            guess = f" (best guess {number}, for information only)" if c.uncertainty > 0 else ""
            return f"clock{where} from {_method(c)}: cannot tell ({c.status.replace('_', ' ')}){evidence}; not applied{guess}"
        if c.method == "physics":
            used = "applied, because the configuration asks for it" if self.applied else "a suggestion, not applied"
            said = c.evidence.rstrip(". ") or number  # its evidence tells offset and interval
            return f"clock{where} from physics, {used}: {said}" + ("" if _NO_LAG in said else f"; this clock {_NO_LAG}")
        used = "" if self.applied else "; not applied"
        slip = read_as_a_slip(c.offset)
        return f"clock{where} from {_method(c)}: {number}{evidence}{used}" + (f"; this offset looks like {slip}" if slip else "")

    def as_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        clock = {**self.clock.as_dict(), "interval_95": list(self.interval)}
        return {"segment": self.segment, "clock": clock, "applied": self.applied, "to_write": self.to_write}


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
        (begin, interval) where the next frame came later than usual, in seconds.
    cadence, exposure, sigma
        Medians in s: interval between frames, exposure, 1 sigma of the time.
    flags
        Alignment flag name -> number of frames.
    missing
        (begin, end) of the stretches in which frames lie outside the electrochemistry or in a pause of it.
    findings
        What its stamps say (`audit_times`).
    estimates
        Clocks that were found for it.
    whole
        How many frames lie wholly inside the electrochemistry and in no pause of it.
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
    whole: int
    sentence: str = ""
    advice: list[str] = field(default_factory=list)
    missing: list[tuple[float, float]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)

    @property
    def clock_unknown(self) -> bool:
        """True if its clock was to be found, was not, and no numbers stand in for it."""
        return self.clock == "as stamped" and any(not e.applied and e.clock.method != "physics" for e in self.estimates)

    @property
    def rules(self) -> bool:
        """True for the electrochemistry that is the timeline of its cell, not for a second cycler's among its series."""
        return self.technique == "echem" and self.address.endswith("/echem")

    @property
    def not_inside(self) -> int:
        """How many frames do not lie wholly inside the electrochemistry; the timeline's own pauses are no frames that miss it."""
        return 0 if self.rules else self.frames - self.whole

    @property
    def alarming(self) -> bool:
        """True if something must be looked at: no electrochemistry, frames that miss it (but a log may run longer), or an error."""
        if self.flags.get("UNALIGNED", 0) or any(f.severity == "error" for f in self.findings):
            return True
        if self.technique == "sensor":
            return self.not_inside == self.frames
        return self.not_inside > 0.05 * self.frames

    def as_dict(self) -> dict[str, Any]:
        """Give what JSON can hold, times as ISO text."""
        row: dict[str, Any] = {k: v for k, v in vars(self).items() if k not in ("spans", "missing")}
        row["begin"], row["end"] = iso(self.begin), iso(self.end)
        row["gaps"] = [{"at": iso(at), "seconds": round(length, 3)} for at, length in self.gaps]
        row["findings"] = [f.as_dict() for f in self.findings]
        row["estimates"] = [e.as_dict() for e in self.estimates]
        return row


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

    @property
    def window(self) -> tuple[float, float]:
        """Begin and end of what is shown, s since 1970: the electrochemistry and what lies near it, not a stream of another year."""
        core = [s for s in self.streams if s.rules] or self.streams
        begin, end = min(s.begin for s in core), max(s.end for s in core)
        reach = max(end - begin, 24 * HOUR)
        near = [s for s in self.streams if s.end > begin - reach and s.begin < end + reach]
        return max(min(s.begin for s in near), begin - reach), min(max(s.end for s in near), end + reach)

    def away(self, stream: Stream) -> str:
        """Say how far a stream lies from what is shown; empty if it is shown."""
        begin, end = self.window
        if stream.end < begin:
            return f"<- {duration(begin - stream.end)} earlier"
        return f"{duration(stream.begin - end)} later ->" if stream.begin > end else ""

    def as_dict(self) -> dict[str, object]:
        """Give the report as plain data (times as ISO text, UTC)."""
        return {"title": self.title, "streams": [s.as_dict() for s in self.streams], "problems": self.problems}

    def text(self, width: int = 100) -> str:
        """Print the report as one terminal page, times in the beamtime's zone; long sentences are wrapped."""
        if not self.streams:
            return "\n".join([self.title, "no stream can be shown:", *(f"\n! {problem}" for problem in self.problems)])
        begin, end = self.window
        names = max(len(s.address) for s in self.streams)
        bar = max(20, width - names - 12)
        zone = self.zone
        lines = [*_wrapped(self.title, width, ""), f"{local(begin, zone)} to {local(end, zone)} ({zone}), {(end - begin) / HOUR:.2f} h", ""]
        for s in self.streams:
            away = self.away(s)
            drawn = (away.rjust(bar) if away.endswith(">") else away.ljust(bar)) if away else _bar(s.spans, s.missing, begin, end, bar)
            lines.append(f"{s.address:<{names}} |{drawn}| {s.frames}")
        if any(s.missing for s in self.streams):
            lines.append(f"{'':<{names}}  {FULL} with electrochemistry, {OUTSIDE} without")
        lines.append("")
        for s in self.streams:
            lines += _of_stream(s, zone, width) + _to_write(s.estimates)
        lines += [f"\n! {problem}" for problem in self.problems]
        return "\n".join(line.rstrip() for line in lines)

    def notes(self, width: int) -> list[str]:
        """Say of each stream what the page says below its bars: its sentence, then what is indented; `  !` begins what needs a look."""
        return [line for s in self.streams for line in _of_stream(s, self.zone, width)]


FULL, OUTSIDE = "█", "-"


def _of_stream(s: Stream, zone: str, width: int) -> list[str]:
    """Write the lines of one stream."""
    lines = _wrapped(f"{s.address}: {s.sentence}", width, "", "    ")
    sure = "uncertain: its clock is not known" if s.clock_unknown else f"uncertain by {duration(s.sigma)}"
    lines += _wrapped(f"times from the {s.origin}, zone {s.zone}, clock {s.clock}, {sure}", width, "    ")
    lines += _wrapped(
        f"every {duration(s.cadence)}" + (f", exposed {duration(s.exposure)}" if s.exposure > 0 else "") + _gaps(s, zone), width, "    "
    )
    told = {f.kind for f in s.findings}
    if s.segments > 1:
        lines += _wrapped(f"{s.segments} segments (the clock restarted or stepped back)", width, "    ")
    if s.backward and not told & {"backward", "summer_time", "jitter"}:
        lines += _wrapped(f"{s.backward} backward step{'s' * (s.backward > 1)}", width, "    ")
    if s.duplicates and not told & {"duplicate", "repeated", "resolution"}:
        lines += _wrapped(f"{s.duplicates} repeated stamps", width, "    ")
    counted = [f"{name} {n}" for name, n in s.flags.items() if n]
    if counted:
        lines += _wrapped("flags: " + ", ".join(counted), width, "    ")
    for f in sorted((f for f in s.findings if f.kind not in _TOLD), key=lambda f: f.severity != INFO):
        words = _said(f, zone) + _advice(f).removeprefix(f.sentence)
        lines += _wrapped(words, width, "    ", "      ") if f.severity == INFO else _wrapped(words, width, "  ! ", "    ")
    told_above = {_advice(f) for f in s.findings}
    for advice in s.advice:
        if advice not in told_above:
            lines += _wrapped(advice, width, "  ! ", "    ")
    for estimate in s.estimates:
        lines += _wrapped(estimate.text(), width, "  > ", "    ")
    return lines


def _to_write(estimates: list[Estimate]) -> list[str]:
    """Write the clocks as they would stand in beamtime.yaml, to be pasted: a block of short lines, whatever the width of the page."""
    told = [e for e in estimates if e.to_write]
    if not told:
        return []
    applied = all(e.applied for e in told)
    lines = ["    to keep it as it is, write under its source:" if applied else "    to write in beamtime.yaml, under its source:", "        clock:"]
    for e in told:
        rows = e.to_write.strip("\n").splitlines()
        if e.segment is None:
            lines += [f"          {row}" for row in rows]
        else:
            lines += [f"          - segment: {e.segment}", *(f"            {row}" for row in rows)]
    return lines


def _said(f: Finding, zone: str) -> str:
    """Give a finding's sentence and the first of its places, in the zone of the page."""
    if not f.where or f.kind in ("epoch", "zone", "year"):
        return f.sentence
    return f"{f.sentence} (at {', '.join(local(at, zone) for at in f.where[:2])}{' ...' if f.frames > 2 else ''}, by its own clock)"


def _gaps(s: Stream, zone: str) -> str:
    if not s.gaps:
        return ", no gaps"
    longest = sorted(s.gaps, key=lambda g: -g[1])[:3]
    some = "; ".join(f"{duration(length)} at {local(at, zone)}" for at, length in sorted(longest))
    return f", {len(s.gaps)} gap{'s' * (len(s.gaps) > 1)}: {some}" + (" ..." if len(s.gaps) > 3 else "")


def _method(clock: Clock) -> str:
    return clock.method.replace("_", " ").replace("shared signal", "a shared signal")


def _digits(uncertainty: float) -> int:
    """Decimals that show two digits of an uncertainty."""
    return int(min(max(1 - np.floor(np.log10(uncertainty)), 0), 6)) if uncertainty > 0 else 3


def _wrapped(text: str, width: int, indent: str, hanging: str | None = None) -> list[str]:
    hanging = indent if hanging is None else hanging
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    ) or [indent]  # fmt: skip


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


def _filled(spans: list[tuple[float, float]], begin: float, end: float, width: int) -> np.ndarray:
    """How much of each cell of a bar stretches fill, at most 1."""
    cells = np.zeros(width)
    scale = width / max(end - begin, 1e-9)
    for a, b in spans:
        i, j = (a - begin) * scale, max((b - begin) * scale, (a - begin) * scale + 1e-6)
        for k in range(max(int(i), 0), min(int(np.ceil(j)), width)):
            cells[k] = max(cells[k], min(j, k + 1) - max(i, k))
    return cells


def _bar(spans: list[tuple[float, float]], missing: list[tuple[float, float]], begin: float, end: float, width: int) -> str:
    cells, gone = _filled(spans, begin, end, width), _filled(missing, begin, end, width)
    return "".join(
        OUTSIDE if g > 0.5 * c and c > 0 else "█" if c > 0.75 else "▒" if c > 0.25 else "░" if c > 0 else " "
        for c, g in zip(cells, gone, strict=True)
    )


def summarise(address: str, aligned: xr.Dataset, echem: xr.Dataset | None) -> Stream:
    """Sum up one aligned series; only its coordinates are looked at.

    Parameters
    ----------
    aligned
        A series that carries its alignment (`annotate`), or the electrochemistry itself.
    echem
        The cell's electrochemistry, to test whether a shift of whole or half hours would explain what is outside.
    """
    if "sequence" in aligned.variables:  # files that take turns: one record in the order of measurement
        aligned = aligned.isel(time=np.argsort(aligned["sequence"].values, kind="stable"))
        back = np.diff(aligned["source_time"].values, prepend=aligned["source_time"].values[:1]) < np.timedelta64(0)
        aligned = aligned.assign_coords(segment=("time", np.cumsum(back).astype(np.int32), {"units": "1"}))
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
        breaks = pauses(steps)
    flags = np.asarray(aligned["flags"].values, np.int64) if "flags" in aligned.variables else np.zeros(time.size, np.int64)
    reach = cadence / 2 if np.isfinite(cadence) else 0.0
    gone = (flags[order] & int(AlignmentFlag.OUTSIDE | AlignmentFlag.PAUSE)) != 0
    if str(aligned.attrs.get("technique")) == "echem" and address.endswith("/echem"):
        gone[:] = False  # the first record after a pause is no frame that misses it
    spans = _stretches(begins, ends, breaks, reach)
    pieces = _stretches(begins, ends, np.union1d(breaks, np.flatnonzero(np.diff(gone))), reach)
    first = np.r_[0, np.union1d(breaks, np.flatnonzero(np.diff(gone))) + 1]
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
        gaps=[(float(begins[b]), float(steps[b])) for b in breaks],
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
        missing=[piece for piece, k in zip(pieces, first, strict=True) if gone[k]],
        whole=int(((flags & int(AlignmentFlag.OUTSIDE | AlignmentFlag.PAUSE | AlignmentFlag.PARTIAL)) == 0).sum()),
    )
    stream.advice += [str(aligned.attrs[doubt]) for doubt in ("time_doubt", "voltage_doubt", "charge_doubt") if aligned.attrs.get(doubt)]
    stream.findings = audit_times(aligned, None if stream.rules else echem)
    _judge(stream, echem, begins, ends)
    return stream


def _stretches(begins: np.ndarray, ends: np.ndarray, breaks: np.ndarray, reach: float) -> list[tuple[float, float]]:
    """Give begin and end of each stretch between breaks; a frame without exposure reaches half way to the next."""
    starts, stops = np.r_[0, breaks + 1], np.r_[breaks, begins.size - 1]
    until = np.r_[begins[1:], np.inf]  # where frames go on without a break, one stretch begins where the other ends
    return [(float(begins[a]), float(max(ends[b], min(begins[b] + reach, until[b])))) for a, b in zip(starts, stops, strict=True)]


def _judge(stream: Stream, echem: xr.Dataset | None, begins: np.ndarray, ends: np.ndarray) -> None:
    """Say in one sentence how the stream stands, and what to do if it does not stand well."""
    n, flags = stream.frames, stream.flags
    outside, partial, pause = flags["OUTSIDE"], flags["PARTIAL"], flags["PAUSE"]
    if stream.rules:
        stream.sentence = f"{n} records of electrochemistry, the timeline of this cell."
    elif flags["UNALIGNED"] == n:
        stream.sentence = f"{n} frames; no electrochemistry that could be used, so none has a voltage."
    elif stream.technique == "sensor" and 0 < outside < n and echem is not None:
        time = echem["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
        before, after = float(time.min()) - stream.begin, stream.end - float(time.max())
        longer = [f"{duration(by)} {word}" for by, word in ((before, "before it"), (after, "after it")) if by > 0]
        inside = stream.whole
        runs = f"; the log runs on {' and '.join(longer)}, as logs do" if longer else f", {outside} outside"
        also = [f"{number} {words}" for number, words in ((partial, "only partly"), (pause, "in a pause of it")) if number]
        stream.sentence = ", ".join([f"{inside} of {n} rows lie inside the electrochemistry", *also]) + runs + "."
    else:
        said = [f"{stream.whole} of {n} frames lie inside the electrochemistry"]
        for number, words in ((partial, "only partly"), (outside, "outside"), (pause, "in a pause of it")):
            if number:
                said.append(f"{number} {words}")
        stream.sentence = ", ".join(said) + "."
    stream.advice += [_advice(f) for f in stream.findings if f.severity != INFO and f.kind not in _TOLD]
    explained = any(f.kind == "epoch" or f.sentence.startswith("looks like a zone") for f in stream.findings)
    if not stream.rules and outside == n and echem is not None and echem.sizes["time"] and not explained:
        away = _distance(echem, begins, ends)
        stream.advice.append(f"no frame is covered and no shift of up to 14 h helps{away}: is this the electrochemistry of this cell and day?")


def _advice(f: Finding) -> str:
    return f.sentence + (f"; {f.advice}" if f.advice else "")


def _distance(echem: xr.Dataset, begins: np.ndarray, ends: np.ndarray) -> str:
    """Say how far frames lie from the electrochemistry that all of them miss."""
    time = echem["time"].values.astype("datetime64[ns]").astype(np.int64) * 1e-9
    before, after = float(time.min() - ends.max()), float(begins.min() - time.max())
    if max(before, after) <= 0:
        return ""
    long = duration(max(before, after))
    return f" (the frames end {long} before it begins)" if before > 0 else f" (the frames begin {long} after it ends)"
