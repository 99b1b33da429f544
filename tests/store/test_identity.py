"""Keys and file identities: the same content gives the same key, a changed file is never taken for the old one."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from operando.contract import StoreError
from operando.store import FileIdentities, content_key


def test_keys():
    assert content_key("a", {"x": 1, "y": [2.5, None, True]}) == content_key("a", {"y": (2.5, None, True), "x": 1})
    assert content_key(np.float64(1.5), np.int32(2), Path("a/b"), {3, 1}) == content_key(1.5, 2, "a/b", {1, 3})
    different = [
        (1,),
        (1.0,),
        ("1",),
        (True,),
        (None,),
        ([1],),
        (b"1",),
        (np.array([1]),),
        (np.array([1.0]),),
        (np.array([[1]]),),
        ("1", "2"),
        ("12",),
        ({"1": 1},),
    ]
    assert len({content_key(*items) for items in different}) == len(different)
    assert content_key(np.array([1, 2], ">i4")) != content_key(np.array([1, 2], "<i8"))
    assert content_key(np.datetime64("2026-06-03", "D")) == content_key(np.datetime64("2026-06-03T00:00", "ns"))
    with pytest.raises(StoreError, match="function"):
        content_key(len, lambda: 0)


def aged(path, text):
    path.write_text(text)
    os.utime(path, ns=(1_000_000_123, 1_000_000_123))
    return path


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    from operando.store import identity

    monkeypatch.setattr(identity.time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) + 10**10)
    files = [aged(tmp_path / f"{i}.txt", f"{i}" * 100) for i in range(200)]
    first = FileIdentities(tmp_path)
    known = [first.identify(f) for f in files]
    first.save()
    assert known[3] == {"size": 100, "sha256": hashlib.sha256(b"3" * 100).hexdigest()}
    monkeypatch.setattr(identity, "sha256_of", lambda *a: pytest.fail("read again"))
    begin = time.perf_counter()
    again = FileIdentities(tmp_path)
    assert [again.identify(f) for f in files] == known
    assert time.perf_counter() - begin < 0.1


def test_changes_are_seen(tmp_path, monkeypatch):
    from operando.store import identity

    file = aged(tmp_path / "a.txt", "one")
    monkeypatch.setattr(identity.time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) + 10**10)
    cache = FileIdentities(tmp_path)
    before = cache.identify(file)
    aged(file, "two")  # same size, same modification time: ctime tells
    assert cache.identify(file)["sha256"] != before["sha256"]
    cache.save()
    (tmp_path / "files.json").write_text((tmp_path / "files.json").read_text().replace(cache.identify(file)["sha256"], "0" * 64))
    assert FileIdentities(tmp_path).identify(file)["sha256"] == "0" * 64
    assert FileIdentities(tmp_path, rehash=True).identify(file) == {"size": 3, "sha256": cache.identify(file)["sha256"]}


def test_a_file_just_written_is_not_trusted_yet(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    cache = FileIdentities(tmp_path)
    cache.identify(file)
    cache.save()
    assert not cache._known


@pytest.mark.parametrize("content", ["", "rubbish", "[]", '{"x": 3}'])
def test_a_damaged_cache_is_only_a_lost_cache(tmp_path, content):
    (tmp_path / "files.json").write_text(content)
    file = tmp_path / "a.txt"
    file.write_text("one")
    assert FileIdentities(tmp_path).identify(file)["size"] == 3
    with pytest.raises(OSError, match="No such file"):
        FileIdentities(tmp_path).identify(tmp_path / "absent")
