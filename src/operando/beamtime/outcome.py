"""What a build says while it runs, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from operando.contract import OperandoError


class Progress(Protocol):
    """Where a build says what it does; the command line shows bars on standard error."""

    def stage(self, what: str, total: int) -> None:
        """Begin a stage of `total` steps."""

    def step(self, n: int = 1) -> None:
        """Report steps done."""

    def say(self, message: str) -> None:
        """Pass on a message about one file or series."""


class Silent:
    """No progress."""

    def stage(self, what: str, total: int) -> None:
        """Do nothing."""

    def step(self, n: int = 1) -> None:
        """Do nothing."""

    def say(self, message: str) -> None:
        """Do nothing."""


@dataclass
class Outcome:
    """What a build did.

    Attributes
    ----------
    published
        The `.nxs` file.
    quarantined
        File -> why it could not be read; everything else was built.
    unpublished
        True if the `.nxs` could not be written; the growing store is whole.
    problems
        What else is at fault and how to mend it (a clock without a zone, overlapping electrochemistry ...).
    findings
        Product -> what its reducer says of it in words (attribute `summary`), of those that were made anew.
    done
        Step -> how often it was really carried out (`files`, `frames`, `alignments`, `reductions`, `published`).
    """

    published: Path
    live: Path
    quarantined: dict[str, str] = field(default_factory=dict)
    problems: list[OperandoError] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    findings: dict[str, str] = field(default_factory=dict)
    unpublished: bool = False
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("files", "frames", "alignments", "reductions", "published"), 0))

    @property
    def ok(self) -> bool:
        """True if every file was read and every series aligned."""
        return not self.quarantined and not self.problems
