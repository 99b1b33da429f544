"""Kills itself at the n-th step towards the disk, for every n it is told, and sees what is left. Run by test_crash.py."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import conftest as make
import numpy as np
import xarray as xr

from operando import hdf5
from operando.store import Store, open_beamtime, writing

writing.COMPACT = 3
CALLS = ("replace", "fsync", "write", "pwrite", "ftruncate", "unlink", "mkdir", "close")


def build(folder: Path, acknowledged=lambda key: None) -> None:
    """Do what is still to do, publish."""
    store = Store(folder / "june.operando")
    with store.writing(keep_replaced=0) as writer:
        have = {k for p in store.parts() for k in p.keys}
        for number in (0, 4, 2, 1, 3):
            if f"x{number}" not in have:
                writer.write("A", "xrd", "frames", make.xrd(number, rows=40), key=f"x{number}", inputs=make.inputs(number, 40))
                acknowledged(f"x{number}")
        for key, hours in (("a1", -1), ("a2", -2)):
            old = store.parts("A", "xrd", "alignment")
            if not any(p.key in (key, "a2") for p in old):
                writer.replace(old, make.alignment(store.read("A", "xrd", "frames"), hours), cell="A", series="xrd", product="alignment", key=key)
                acknowledged(key)
        store.publish(folder / "june.nxs", key="k", date="2026-06-04", writer=writer)
        acknowledged("published")


def die_at(n: int) -> list[int]:
    """Count calls to the disk; at the n-th do half of it, if it is a write, and die."""
    count = [0]

    def patched(name: str):
        real = getattr(os, name)

        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == n:
                if name in ("write", "pwrite"):
                    data = memoryview(args[1])
                    real(args[0], data[: len(data) // 2], *args[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, patched(name))
    return count


def killed(folder: Path, n: int) -> set[str] | None:
    """Build in a child that dies at step n; give what it acknowledged before. None if it needed fewer steps this time."""
    reading, telling = os.pipe()
    tell = os.write
    hdf5.close_files()
    pid = os.fork()
    if pid == 0:
        die_at(n)
        build(folder, lambda key: tell(telling, (key + "\n").encode()))
        os._exit(3)
    os.close(telling)
    with os.fdopen(reading) as pipe:
        acknowledged = set(pipe.read().split())
    _, status = os.waitpid(pid, 0)
    return acknowledged if os.WIFSIGNALED(status) else None


def check(folder: Path, n: int, reference: xr.DataTree) -> bool:
    """See that nothing acknowledged is lost, and that the next run brings the same result."""
    acknowledged = killed(folder, n)
    if acknowledged is None:
        return False
    live = folder / "june.operando"
    if "x0" in acknowledged:
        store = Store(live)
        have = {k for p in store.parts() for k in p.keys}
        lost = acknowledged - have - {"published"} - ({"a1"} if "a2" in have else set())
        assert not lost, f"step {n}: lost {lost}"
        for address in store.products():
            store.read_joined(*address).load()
        frames = store.read("A", "xrd", "frames").load()
        for number in (int(k[1:]) for k in acknowledged if k.startswith("x")):
            rows = frames["source"].values == f"f{number}.h5"
            np.testing.assert_array_equal(frames["intensity"].values[rows], make.xrd(number, rows=40)["intensity"])
    if (folder / "june.nxs").exists():
        open_beamtime(folder / "june.nxs").load()
    elif "published" in acknowledged:
        raise AssertionError(f"step {n}: the published file is gone")
    build(folder)
    xr.testing.assert_identical(open_beamtime(folder / "june.nxs").load(), reference)
    xr.testing.assert_identical(open_beamtime(live).load(), reference)
    left = [p for p in folder.rglob("*") if p.is_file() and (p.suffix == ".tmp" or ".tmp" in p.name)]
    assert not left, f"step {n}: left {left}"
    known = {p.path for p in Store(live).parts()}
    assert {p.relative_to(live).as_posix() for p in live.rglob("*.h5")} == known, f"step {n}: orphans"
    return True


def main() -> None:
    """Count the steps of an undisturbed run, then disturb it at so many of them."""
    folder, points = Path(sys.argv[1]), int(sys.argv[2])
    hdf5.close_files()
    reading, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = die_at(-1)
        build(folder / "reference")
        os.write(telling, str(count[0]).encode())
        os._exit(0)
    os.close(telling)
    with os.fdopen(reading) as pipe:
        steps = int(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    reference = open_beamtime(folder / "reference" / "june.nxs").load()
    chosen = sorted({int(n) for n in np.linspace(1, steps - 3, points)})
    done = 0
    for n in chosen:
        there = folder / str(n)
        there.mkdir()
        done += check(there, n, reference)
        hdf5.close_files()
        shutil.rmtree(there)
    print(f"{done} of {steps} steps")


if __name__ == "__main__":
    main()
