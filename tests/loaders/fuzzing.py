"""Damage files as copies, disks and editors do, always in the same way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from operando.contract import OperandoError


def damaged(raw: bytes, *, seed: int, lines: bool = True, each: int = 12) -> Iterator[tuple[str, bytes]]:
    """Give truncations, bit flips, and shuffled or repeated lines (or blocks of bytes) of a file."""
    chance = random.Random(seed)
    for cut in (0, 1, 7, *sorted(chance.randrange(len(raw)) for _ in range(each))):
        yield f"cut at {cut}", raw[:cut]
    for i in range(each):
        out = bytearray(raw)
        for _ in range(chance.choice((1, 3, 30))):
            at = chance.randrange(len(out))
            out[at] ^= 1 << chance.randrange(8)
        yield f"flip {i}", bytes(out)
    pieces = raw.split(b"\n") if lines else [raw[i : i + 512] for i in range(0, len(raw), 512)]
    glue = b"\n" if lines else b""
    for i in range(each // 2):
        mixed = pieces.copy()
        chance.shuffle(mixed)
        yield f"shuffled {i}", glue.join(mixed)
        mixed = pieces.copy()
        for _ in range(3):
            mixed.insert(chance.randrange(len(mixed)), chance.choice(pieces))
            del mixed[chance.randrange(len(mixed))]
        yield f"mixed {i}", glue.join(mixed)
    yield "zeros", bytes(len(raw))
    yield "noise", chance.randbytes(len(raw))


def only_operando_errors(load: Callable[[Path], Any], path: Path, raw: bytes, **how: Any) -> int:
    """Load every damaged version; anything but an OperandoError fails. Returns how many were refused."""
    refused = 0
    for name, content in damaged(raw, **how):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        try:
            load(path)
        except OperandoError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    return refused
