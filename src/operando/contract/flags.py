"""The two bit fields every frame carries: `quality` from the instrument, `flags` from the alignment."""

from __future__ import annotations

from enum import IntFlag


class Quality(IntFlag):
    """What the instrument says of a frame (coordinate `quality`)."""

    BEAM_DUMP = 1
    SATURATED = 2
    CORRUPT = 4
    INTERRUPTED = 8
    LOW_COUNTS = 16
    MASKED = 32


class AlignmentFlag(IntFlag):
    """What putting a frame on the electrochemical timeline found (variable `flags` of the `alignment` product)."""

    OUTSIDE = 1
    PARTIAL = 2
    PAUSE = 4
    IN_EIS = 8
    STEP_INSIDE = 16
    TIME_UNCERTAIN = 32
    DUPLICATE = 64
    NONMONOTONIC = 128
    MTIME_ONLY = 256
    ZONE_ASSUMED = 512
    UNALIGNED = 1024
    CLOCK_FROM_PHYSICS = 2048


def named_flags(kind: type[Quality] | type[AlignmentFlag], bits: int) -> str:
    """Name the bits that are set, separated by blanks; empty for none.

    Examples
    --------
    >>> named_flags(Quality, 5)
    'BEAM_DUMP CORRUPT'
    """
    return " ".join(str(flag.name) for flag in kind if bits & flag)


def flag_attrs(kind: type[Quality] | type[AlignmentFlag]) -> dict[str, object]:
    """Give the CF attributes that name each bit (CF conventions 1.11, section 3.5)."""
    return {
        "units": "1",
        "flag_masks": [int(flag.value) for flag in kind],
        "flag_meanings": " ".join(str(flag.name) for flag in kind),
    }
