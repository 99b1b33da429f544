"""One exception tree; every message says file, found, expected, what to do."""

from __future__ import annotations

from os import PathLike


class OperandoError(Exception):
    """The input is at fault, and the message says how to mend it.

    Parameters
    ----------
    problem
        What is wrong, in one plain sentence.
    file
        The file (or file and key) it was found in.
    found, expected
        What was there, and what should have been.
    hint
        What the reader can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike[str] | None = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.file, self.found, self.expected, self.hint = problem, file, found, expected, hint
        super().__init__(problem)

    def __str__(self) -> str:
        lines = [f"{self.file}: {self.problem}" if self.file is not None else self.problem]
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.hint is not None:
            lines.append(f"  to do:    {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:  # keyword arguments survive a worker process
        state = {"file": self.file, "found": self.found, "expected": self.expected, "hint": self.hint}
        return (_rebuild, (type(self), self.problem, state))


def _rebuild(kind: type[OperandoError], problem: str, state: dict[str, object]) -> OperandoError:
    return kind(problem, **state)  # type: ignore[arg-type]


class LoaderError(OperandoError):
    """A file cannot be read as what it was said to be."""


class ContractError(OperandoError):
    """A series breaks the contract; the message lists every fault."""


class ClockError(OperandoError):
    """Times cannot be placed on UTC: no zone, an ambiguous or non-existent local time, an unusable clock."""


class ConfigError(OperandoError):
    """beamtime.yaml, a preset or a recipe cannot be used as written."""


class StoreError(OperandoError):
    """The store cannot be read or written; nothing acknowledged was lost."""
