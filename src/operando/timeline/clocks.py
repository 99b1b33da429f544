"""Clocks: t = t_source + offset + drift * (t_source - at), with what is not known about them.

A clock is given in beamtime.yaml or estimated; both are the same `Clock`. An estimate carries how it was made (`method`,
`evidence`, `profile`) and whether it may be used (`status`): only `ok` is ever applied.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operando.contract.build import as_stamps
from operando.contract.errors import ClockError, ContractError

METHODS = ("given", "events", "shared_signal", "physics")
STATUSES = ("ok", "ambiguous", "no_edges", "models_disagree", "too_few")
_NS = 10**9
_REACH = 9.22e9  # s from 1970 that datetime64[ns] reaches


@dataclass(frozen=True)
class Profile:
    """How likely each offset of an estimated clock is, everything else (drift, gain ...) fitted anew at each.

    Attributes
    ----------
    offset
        Offsets at the clock's `at`, s, ascending.
    log_likelihood
        Natural logarithm, 0 at the most likely offset; errors that hang together are counted once.
    """

    offset: np.ndarray
    log_likelihood: np.ndarray


@dataclass(frozen=True)
class Clock:
    """One instrument's clock against the cell's timeline.

    Parameters
    ----------
    offset
        Seconds ADDED to the source's stamps.
    drift
        Seconds per second the offset grows with the source's time; below 1e-2.
    at
        Stamp of the SOURCE clock (UTC) at which `offset` holds; None: the first stamp it is applied to. Where frames
        are aligned that is the first stamp of their segment, so a growing series never moves what was aligned.
    uncertainty, drift_uncertainty
        1 sigma of offset (s) and drift (s/s).
    covariance
        Covariance of offset and drift, s.
    method, evidence, status
        How it was found, in one of `METHODS`; on what grounds, in words; whether it may be used, one of `STATUSES`.
    profile
        Likelihood of other offsets (`Profile`), where it was estimated; takes no part in comparisons.

    Raises
    ------
    ClockError
        Numbers that are not finite or out of range, or an unknown method or status.

    Examples
    --------
    >>> import numpy as np
    >>> clock = Clock(offset=-37.0, drift=1e-5, at="2026-06-03T10:00:00", uncertainty=1.0)
    >>> t, sigma = clock.to_echem(np.array(["2026-06-03T10:00:00", "2026-06-03T20:00:00"], "datetime64[ns]"))
    >>> [str(x)[11:23] for x in t], sigma.tolist()
    (['09:59:23.000', '19:59:23.360'], [1.0, 1.0])
    """

    offset: float = 0.0
    drift: float = 0.0
    at: Any = None
    uncertainty: float = 0.0
    drift_uncertainty: float = 0.0
    covariance: float = 0.0
    method: str = "given"
    evidence: str = ""
    status: str = "ok"
    profile: Profile | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("offset", "drift", "uncertainty", "drift_uncertainty", "covariance"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise ClockError(f"{name} of a clock is not a finite number", found=repr(value), expected="seconds" if "drift" not in name else "s/s")
            object.__setattr__(self, name, float(value))
        if abs(self.drift) >= 1e-2:
            raise ClockError("a drift no clock has", found=f"{self.drift} s/s", expected="below 0.01 s/s", hint="a drift in ppm is 1e-6 s/s")
        if self.uncertainty < 0 or self.drift_uncertainty < 0:
            raise ClockError("a negative uncertainty", found=f"uncertainty={self.uncertainty}, drift_uncertainty={self.drift_uncertainty}")
        if abs(self.covariance) > self.uncertainty * self.drift_uncertainty * (1 + 1e-9):
            raise ClockError(
                "the covariance of offset and drift exceeds what their uncertainties allow",
                found=self.covariance,
                expected=f"within +-{self.uncertainty * self.drift_uncertainty}",
            )
        for name, known in (("method", METHODS), ("status", STATUSES)):
            if getattr(self, name) not in known:
                raise ClockError(f"unknown {name} of a clock", found=repr(getattr(self, name)), expected=", ".join(known))
        if self.at is not None:
            object.__setattr__(self, "at", _stamp(self.at))

    def anchored(self, at: Any) -> Clock:
        """Return this clock with `at` fixed, if it was not."""
        return self if self.at is not None else dataclasses.replace(self, at=at)

    def to_echem(self, t: Any) -> tuple[Any, Any]:
        """Put source times on the cell's timeline.

        Parameters
        ----------
        t
            `datetime64` (UTC by the source) or float seconds since 1970; one or many. Without `at`, the first of
            them is where the offset holds.

        Returns
        -------
        tuple
            Times of the same kind, and 1 sigma of each in s.

        Raises
        ------
        ClockError
            An estimate that supports no correction (`status` is not `ok`), or times that cannot be written.
        """
        if self.status != "ok":
            raise ClockError(
                "a clock estimate that does not support a correction",
                found=f"status {self.status} ({self.method}: {self.evidence})",
                hint="give the clock in beamtime.yaml, with an uncertainty that covers what is not known, or align without one",
            )
        times = np.asarray(t)
        if times.dtype.kind == "M":
            ns = times.astype("datetime64[ns]").astype(np.int64)
            since = (ns - self._origin(ns, np.int64)) / _NS
            shift = self.offset + self.drift * since
            low, high = (np.min(shift), np.max(shift)) if times.size else (0.0, 0.0)
            if not -_REACH < low <= high < _REACH or np.min(ns, initial=0) / _NS + low < -_REACH or np.max(ns, initial=0) / _NS + high > _REACH:
                raise ClockError(
                    "the corrected times cannot be written",
                    found=f"an offset of {self.offset:g} s at {np.min(times)}",
                    expected="times from 1678 to 2261",
                    hint="correct offset: and drift:, in seconds ADDED to the source's stamps",
                )
            moved: Any = (ns + np.round(shift * _NS).astype(np.int64)).astype("datetime64[ns]")
        else:
            times = times.astype(np.float64)
            since = times - self._origin(times, np.float64) / (_NS if self.at is not None else 1)
            moved = times + (self.offset + self.drift * since)
        return moved, self.sigma(since)

    def sigma(self, since: Any) -> Any:
        """1 sigma of the corrected time, in s, at `since` seconds after `at`."""
        variance = self.uncertainty**2 + 2 * self.covariance * since + (self.drift_uncertainty * since) ** 2
        return np.sqrt(np.maximum(variance, 0.0))

    def _origin(self, times: np.ndarray, kind: type) -> Any:
        if self.at is not None:
            return self.at.astype("datetime64[ns]").astype(np.int64)
        return times.ravel()[0] if times.size else kind(0)

    def as_dict(self) -> dict[str, Any]:
        """Give what JSON can hold; `Clock(**values)` makes the clock again (without its profile)."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "profile"}
        values["at"] = None if self.at is None else f"{self.at}Z"
        return values

    @classmethod
    def from_config(cls, values: Any, *, localise: str | None = None) -> Clock:
        """Make a clock from configuration values (offset and uncertainty in s, drift in s/s, `at` as text).

        Parameters
        ----------
        values
            Mapping or object with any of the attributes `offset`, `drift`, `at`, `uncertainty`, `drift_uncertainty`.
        localise
            Zone name for an `at` written without one: it is a stamp of the source's own clock, so it is in the
            source's zone. Without it such an `at` is refused.

        Raises
        ------
        ClockError
            Values that make no clock, or a naive `at` and no zone.
        """
        names = ("offset", "drift", "uncertainty", "drift_uncertainty", "covariance", "method", "evidence", "status")
        take = values.get if isinstance(values, Mapping) else lambda name: getattr(values, name, None)
        found: dict[str, Any] = {name: take(name) for name in names if take(name) is not None}
        at = take("at")
        return cls(**found, at=None if at is None else _stamp(at, localise, strict=True))


def clocks_from_config(values: Any, *, localise: str | None = None) -> Clock | dict[int, Clock] | None:
    """Make what `align_frames` takes from the key `clock:`: one clock, or a list of them with `segment:`.

    Raises
    ------
    ClockError
        A list in which a segment is missing or named twice.
    """
    if values is None:
        return None
    if not isinstance(values, Iterable) or isinstance(values, Mapping):
        return Clock.from_config(values, localise=localise)
    clocks: dict[int, Clock] = {}
    for item in values:
        segment = item.get("segment") if isinstance(item, Mapping) else getattr(item, "segment", None)
        if segment is None or segment in clocks:
            problem = "a clock in a list does not say its segment" if segment is None else f"two clocks for segment {segment}"
            raise ClockError(problem, hint="write segment: 0, segment: 1 ... in the list under clock:")
        clocks[int(segment)] = Clock.from_config(item, localise=localise)
    return clocks


def describe(clock: Clock | Mapping[int, Clock] | None) -> str:
    """Write a clock, or the clock of each segment, as JSON text; `null` where times are taken as they are."""
    if clock is None or isinstance(clock, Clock):
        return json.dumps(None if clock is None else clock.as_dict())
    return json.dumps({str(segment): one.as_dict() for segment, one in sorted(clock.items())})


def in_words(used: Mapping[int, Clock], segments: int = 1) -> str:
    """Say in one line what was done to the stamps, of which there are so many segments."""
    if not used:
        return "as stamped"
    lines = []
    for segment, one in sorted(used.items()):
        text = f"{one.offset:+.10g} s"
        if one.drift:
            text += f" {one.drift * 1e6:+.6g} ppm from {str(one.at)[:19]}Z"
        if one.uncertainty:
            text += f" +- {one.uncertainty:g} s"
        lines.append((f"segment {segment}: " if len(used) > 1 or segment != 0 or segments > 1 else "") + text + f" ({one.method})")
    left = segments - len(used)
    rest = f"; {left} segment{'s' * (left > 1)} as stamped" if left > 0 else ""
    return "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "") + rest


def correct(source_ns: np.ndarray, segment: np.ndarray, clock: Clock | Mapping[int, Clock] | None) -> tuple[np.ndarray, np.ndarray, dict[int, Clock]]:
    """Apply the clock of each segment.

    Parameters
    ----------
    source_ns
        Source times, int64 nanoseconds, in the order of acquisition.
    segment
        Segment of each.
    clock
        One for all segments, one each, or none.

    Returns
    -------
    tuple
        Corrected nanoseconds; 1 sigma of the clock in s; the clock used in each segment, with its `at` fixed.

    Raises
    ------
    ClockError
        A clock whose status is not `ok`, or something else in its place.
    """
    corrected, sigma = source_ns.copy(), np.zeros(source_ns.size)
    used: dict[int, Clock] = {}
    if clock is None:
        return corrected, sigma, used
    for number in np.unique(segment):
        one = clock.get(int(number)) if isinstance(clock, Mapping) else clock
        if one is None:
            continue
        if not isinstance(one, Clock):
            raise ClockError("not a clock", found=repr(one)[:80], expected="operando.Clock(offset=..., uncertainty=...)")
        here = segment == number
        times = source_ns[here].view("datetime64[ns]")
        one = used[int(number)] = one.anchored(times[0])
        moved, sigma[here] = one.to_echem(times)
        corrected[here] = moved.view(np.int64)
    return corrected, sigma, used


@dataclass(frozen=True)
class Origin:
    """Where the seconds of `common_seconds` begin: each list at an origin of its own, whole seconds apart."""

    source_ns: int
    apart: float

    def stamp(self, seconds: float) -> np.datetime64:
        """Give the stamp of the source that lies so many seconds after its origin."""
        return np.datetime64(self.source_ns + round(seconds * _NS), "ns")


def common_seconds(t_echem: Any, t_source: Any, what: str) -> tuple[np.ndarray, np.ndarray, Origin]:
    """Write two lists of times as seconds near zero, so that no arithmetic on them loses digits.

    Parameters
    ----------
    t_echem, t_source
        datetime64 or seconds, of any origin but the same; a time that is not known (NaT, NaN) stays NaN.
    what
        What they are the times of, for messages.

    Returns
    -------
    tuple
        Seconds of each from its own first full second, and those origins: a source's seconds + offset = electrochemistry's seconds, if
        `Origin.apart` is added to the offset.

    Raises
    ------
    ClockError
        They are no times, or not of one dimension, or one list has dates and the other has numbers.
    """
    lists = [np.asarray(t) for t in (t_echem, t_source)]
    for t in lists:
        if t.ndim != 1 or (t.size and t.dtype.kind not in "Mfiu"):
            raise ClockError(f"the times of {what} are no list of times", found=f"{t.dtype} of shape {t.shape}", expected="datetime64 or seconds")
    if all(t.size for t in lists) and len({t.dtype.kind == "M" for t in lists}) == 2:
        raise ClockError(
            f"the times of {what} are dates in one list and numbers in the other",
            found=f"{lists[0].dtype} by the electrochemistry, {lists[1].dtype} by the source",
            expected="both datetime64 (UTC), or both seconds from the same moment",
        )
    seconds, origins = [], []
    for t in lists:
        if t.dtype.kind == "M":
            ns = t.astype("datetime64[ns]")
            known = ~np.isnat(ns)
            whole = ns.astype(np.int64)
            origin = int(whole[known].min()) // _NS * _NS if known.any() else 0
            seconds.append(np.where(known, (whole - origin) / _NS, np.nan))
        else:
            values = t.astype(np.float64)
            values = np.where(np.isfinite(values), values, np.nan)
            first = float(np.floor(np.nanmin(values))) if np.isfinite(values).any() else 0.0
            if abs(first) > _REACH:
                raise ClockError(f"the times of {what} are out of range", found=f"{first:g} s", expected="seconds, not nanoseconds")
            origin = int(first) * _NS
            seconds.append(values - first)
        origins.append(origin)
    return seconds[0], seconds[1], Origin(origins[1], (origins[0] - origins[1]) / _NS)


def _stamp(at: Any, zone: str | None = None, *, strict: bool = False) -> np.datetime64:
    try:
        stamp, zoned = as_stamps(at)
    except ContractError as error:
        raise ClockError(f"at of a clock: {error.problem}", found=error.found, expected=error.expected) from None
    if stamp.ndim or np.isnat(stamp):
        raise ClockError("at of a clock is not one time stamp", found=repr(at)[:80])
    if strict and not zoned and isinstance(at, str):
        if zone is None:
            raise ClockError(
                "at of a clock without a zone", found=at, hint="write it with its offset, as in 2026-06-03T10:00:00+02:00, or give timezone:"
            )
        from operando.timeline.zones import to_utc

        utc, _ = to_utc(np.array([stamp]).view(np.int64), zone)
        stamp = utc.view("datetime64[ns]")[0]
    return np.datetime64(int(np.asarray(stamp).astype(np.int64)), "ns")
