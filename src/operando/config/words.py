"""Words of messages: the known word nearest to a mistyped one, what a validator says, where a key stands."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import PydanticCustomError


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word nearest to a mistyped one, or None."""
    import difflib

    byplain = {plain(name): name for name in known}
    if plain(word) in byplain:
        return byplain[plain(word)]
    near = difflib.get_close_matches(plain(word), byplain, n=1, cutoff=0.65)
    return byplain[near[0]] if near else None


def looks_like(word: str, name: str) -> bool:
    """Say whether a word is a name with a letter or two wrong."""
    import difflib

    return difflib.SequenceMatcher(None, plain(word), plain(name)).ratio() >= 0.85


def plain(word: str) -> str:
    """Write a word as it is compared: small letters, no hyphens or blanks."""
    return str(word).lower().replace("-", "_").replace(" ", "_").strip("_")


def refuse(problem: str, *, found: object = None, expected: object = None, hint: str | None = None) -> PydanticCustomError:
    """Make the error that a validator raises; `checks` turns it into a plain message."""
    context = {"found": found, "expected": expected, "hint": hint}
    return PydanticCustomError("operando", "{problem}", {"problem": problem, **context})


def dotted(keys: Iterable[str | int]) -> str:
    """Write the path of a key as `sources.id31.clock[0]`."""
    return ".".join(f"[{key}]" if isinstance(key, int) else str(key) for key in keys).replace(".[", "[")
