"""The figures say what the reports say."""

from __future__ import annotations

import numpy as np

from operando import figures
from operando.timeline import AlignmentReport
from operando.timeline.report import Stream


def stream(technique: str, **flags: int) -> Stream:
    return Stream(
        address=f"A/{technique}", technique=technique, frames=10, begin=0.0, end=100.0, spans=[(0.0, 100.0)], gaps=[], cadence=10.0, exposure=0.0,
        sigma=0.0, zone="UTC", clock="as stamped", origin="header", flags=flags, segments=1, backward=0, duplicates=0, whole=10 - sum(flags.values()),
    )  # fmt: skip


def test_a_pause_of_the_electrochemistry_is_no_frame_that_misses_it() -> None:
    report = AlignmentReport("t", "UTC", [stream("echem", PAUSE=1), stream("xrd", PAUSE=1, OUTSIDE=2)], {"A": (np.arange(2.0), np.arange(2.0))})
    notes = [text.get_text() for text in figures.alignment(report).axes[-1].texts]
    assert notes == ["10 records", "10 frames, 3 not inside"]
