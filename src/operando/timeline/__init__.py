"""Clocks, zones, exposure windows: every frame on the electrochemical timeline of its cell, with what is not known about it.

`localise` puts wall-clock stamps on UTC, a `Clock` corrects them, `echem_timeline` makes one continuous record of many
electrochemical files, `align_frames` averages it over each exposure, `annotate` hands the result to the frames, and `align`
does all of it. No function here reads a signal of the frames.
"""

from operando._lazy import attach

VERSION = "5"
"""Raised when the same input gives another alignment; part of the key of every stored one."""

_lazy = {
    "AlignmentReport": "report",
    "Clock": "clocks",
    "Estimate": "report",
    "Finding": "audit",
    "Profile": "clocks",
    "Stream": "report",
    "align": "alignment",
    "align_frames": "alignment",
    "annotate": "alignment",
    "audit_times": "audit",
    "check_zone": "zones",
    "clock_from_events": "events",
    "clock_from_shared_signal": "shared_signal",
    "clocks_from_config": "clocks",
    "echem_timeline": "echem",
    "localise": "zones",
    "place": "sources",
    "restart_segments": "alignment",
    "suggest_clock_from_physics": "physics",
    "summarise": "report",
    "window_statistics": "windows",
    "without_frames": "sources",
    "zone_shift": "report",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "VERSION",
    "AlignmentReport",
    "Clock",
    "Estimate",
    "Finding",
    "Profile",
    "Stream",
    "align",
    "align_frames",
    "annotate",
    "audit_times",
    "check_zone",
    "clock_from_events",
    "clock_from_shared_signal",
    "clocks_from_config",
    "echem_timeline",
    "localise",
    "place",
    "restart_segments",
    "suggest_clock_from_physics",
    "summarise",
    "window_statistics",
    "without_frames",
    "zone_shift",
]
