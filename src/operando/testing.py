"""Prove a series, or a loader: for this project's own tests and for everybody who writes a loader.

>>> from operando.testing import assert_loader, assert_valid_series
>>> (series,) = assert_loader("sample.txt", "mylab")                            # doctest: +SKIP
>>> assert_valid_series(series, as_written=True)                                # doctest: +SKIP

One test per rule, with pytest:

>>> @pytest.mark.parametrize("rule", RULES)                                     # doctest: +SKIP
... def test_rule(rule):
...     check(rule, Case("sample.txt", "mylab"))
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from operando.contract import RULES as CONTRACT_RULES
from operando.contract import TECHNIQUES, ContractError, OperandoError, faults
from operando.loaders import FileTimes, Loader, get_loader, load_file

HOST_ZONES = ("UTC", "Europe/Paris", "America/Chicago", "Asia/Kolkata")

_Check = Callable[["Case"], None]
RULES: dict[str, _Check] = {}
"""Name -> check of one rule on a `Case`; the names are what tests are parametrised with."""


def assert_valid_series(ds: xr.Dataset, *, as_written: bool = False) -> None:
    """Assert that a series keeps the contract.

    Parameters
    ----------
    ds
        The series.
    as_written
        True for one straight from a loader, whose times may still be wall-clock times.

    Raises
    ------
    AssertionError
        Listing every fault.
    """
    assert isinstance(ds, xr.Dataset), f"a series is an xarray.Dataset, not {type(ds).__name__}"
    found = faults(ds, as_written=as_written)
    assert not found, "the series breaks the contract:\n" + "\n".join(f"  - {fault}" for fault in found)


@dataclass(frozen=True)
class Case:
    """A file and the loader that should read it.

    Attributes
    ----------
    path
        The file.
    loader
        Name of an installed loader, `my_loader.py:load`, a module, a load function, or a `Loader`.
    options
        The loader's own options.
    times
        General time options by their names in beamtime.yaml, for formats without absolute time: `{"start": "2026-06-03T10:00:00"}`.
    timezone
        Zone of the instrument, for files that carry none.
    """

    path: str | os.PathLike[str]
    loader: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"

    @functools.cached_property
    def found(self) -> Loader:
        """The loader itself."""
        from operando.loaders.registry import _from_object

        if isinstance(self.loader, Loader):
            return self.loader
        if isinstance(self.loader, str):
            return get_loader(self.loader, Path.cwd())
        name = getattr(self.loader, "__name__", str(self.loader)).rpartition(".")[2]
        return _from_object(name, self.loader, str(getattr(self.loader, "__file__", name)))

    def read(self) -> list[xr.Dataset]:
        """Read the file through the loader layer, anew."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_file(self.found, Path(self.path), self.options, FileTimes(**self.times).among([Path(self.path)]))

    @functools.cached_property
    def series(self) -> list[xr.Dataset]:
        """What the layer makes of the file."""
        return self.read()


def check(rule: str, case: Case) -> None:
    """Assert one rule of `RULES` on a case.

    Raises
    ------
    AssertionError
        The rule is broken; the message says how.
    OperandoError
        The file cannot be read at all.
    """
    try:
        RULES[rule](case)
    except ContractError as error:
        raise AssertionError(str(error)) from error


def assert_loader(
    path: str | os.PathLike[str], loader: Any, *, options: Mapping[str, Any] | None = None, times: Mapping[str, Any] | None = None
) -> list[xr.Dataset]:
    """Assert every rule for one loader on one file.

    Parameters
    ----------
    path, loader, options, times
        See `Case`.

    Returns
    -------
    list of xarray.Dataset
        The series as the layer gives them, times as written.

    Raises
    ------
    AssertionError
        Listing every broken rule.
    """
    case = Case(path, loader, options or {}, times or {})
    check("file_is_read", case)
    broken = []
    for rule in RULES:
        try:
            check(rule, case)
        except AssertionError as error:
            broken.append(f"- {rule}: {error}")
    assert not broken, f"the loader {case.found.name} breaks {len(broken)} of {len(RULES)} rules on {case.path}:\n" + "\n".join(broken)
    return case.series


def check_loader(
    loader: Any,
    files: Sequence[str | os.PathLike[str]],
    *,
    options: Mapping[str, Any] | None = None,
    timezone: str = "UTC",
    start: str | None = None,
) -> dict[str, list[str]]:
    """Run every rule for one loader on some files (`operando check-loader`).

    Parameters
    ----------
    loader, options, timezone
        See `Case`.
    files
        The files.
    start
        Stamp of the first frame, for formats without absolute time.

    Returns
    -------
    dict
        Rule -> what is wrong, in plain words; empty where nothing is. If a file cannot be read at all, only `file_is_read`
        speaks of it.

    Raises
    ------
    ConfigError
        There is no such loader.
    """
    results: dict[str, list[str]] = {rule: [] for rule in RULES}
    for path in files:
        case = Case(path, loader, options or {}, {"start": start} if start is not None else {}, timezone)
        _ = case.found
        prefix = f"{os.fspath(path)}: " if len(files) > 1 else ""
        for rule in RULES:
            try:
                check(rule, case)
            except AssertionError as error:
                results[rule].append(prefix + str(error))
                if rule == "file_is_read":
                    break
            except OperandoError as error:
                results[rule].append(prefix + str(error))
    return results


def _rule(function: _Check) -> _Check:
    RULES[function.__name__] = function
    return function


def _contract_rule(name: str) -> _Check:
    def run(case: Case) -> None:
        found = [fault for ds in case.series for fault in CONTRACT_RULES[name](ds)]
        assert not found, "; ".join(found)

    run.__doc__ = CONTRACT_RULES[name].__doc__
    return run


@_rule
def file_is_read(case: Case) -> None:
    """Give at least one series for the file."""
    try:
        assert case.series, "no series"
    except OperandoError as error:
        raise AssertionError(str(error)) from error


# wall-clock times are what a loader may return: the zone is the timeline's to apply
RULES.update({name: _contract_rule(name) for name in CONTRACT_RULES if name != "times_are_utc"})


@_rule
def times_are_utc(case: Case) -> None:
    """Keep the whole contract once the timeline has applied the zone."""
    from operando.timeline import localise

    for ds in case.series:
        assert_valid_series(localise(ds, case.timezone))


@_rule
def loader_describes_itself(case: Case) -> None:
    """TECHNIQUES, VERSION and a docstring are there; options are explicit keywords with defaults."""
    loader = case.found
    unknown = [t for t in loader.techniques if t not in TECHNIQUES]
    assert loader.techniques, "TECHNIQUES is missing"
    assert not unknown, f"TECHNIQUES names {', '.join(unknown)}, not one of {', '.join(TECHNIQUES)}"
    assert loader.version not in ("", "0"), "VERSION is missing: raise it whenever the same file would give other numbers"
    assert loader.dossier, "the docstring is missing: what the bytes mean, where the time comes from, what is assumed"
    for parameter in list(inspect.signature(loader.read).parameters.values())[1:]:
        assert parameter.kind is not parameter.VAR_KEYWORD, f"**{parameter.name} hides the options: name each"
        assert parameter.kind is parameter.KEYWORD_ONLY, f"option {parameter.name!r} is not keyword-only: write * before it"


@_rule
def techniques_are_the_declared_ones(case: Case) -> None:
    """Each series is of a technique that TECHNIQUES names."""
    for ds in case.series:
        assert ds.attrs["technique"] in case.found.techniques, f"technique {ds.attrs['technique']!r} is not among {case.found.techniques}"


@_rule
def frames_name_their_file(case: Case) -> None:
    """See that `source` is the file's name, and that no frame is counted twice."""
    for ds in case.series:
        assert set(map(str, ds["source"].values)) <= {Path(case.path).name}, f"source is {ds['source'].values[0]!r}, not {Path(case.path).name!r}"
        assert len(set(ds["source_index"].values.tolist())) == ds.sizes["time"], "source_index repeats"


@_rule
def input_is_left_as_it_was(case: Case) -> None:
    """Change neither the bytes nor the times of the file, and leave nothing beside it."""
    before = _state(case.path)
    for ds in case.read():
        ds.load()
    if case.found.claims is not None:
        case.found.claims(Path(case.path))
    assert _state(case.path) == before, "the file, or what lies beside it, has changed"


@_rule
def the_same_twice(case: Case) -> None:
    """Two readings give identical series."""
    _assert_same(case.read(), case.read(), "the second reading")


@_rule
def the_same_under_any_host_zone(case: Case) -> None:
    """Give the same whatever zone the reading computer stands in."""
    first: list[xr.Dataset] | None = None
    for zone in HOST_ZONES:
        with host_zone(zone):
            read = [ds.load() for ds in case.read()]
        if first is not None:
            _assert_same(first, read, f"TZ={zone} (against {HOST_ZONES[0]})")
        first = first or read


@_rule
def claims_by_content(case: Case) -> None:
    """Give a few words or None by `claims` (where there is one), whatever the file is called, and never raise."""
    claims = case.found.claims
    if claims is None:
        return
    said = claims(Path(case.path))
    assert said is None or (isinstance(said, str) and said.strip()), f"claims gives {said!r}, not a few words or None"
    with _scratch() as folder:
        other = folder / f"renamed{Path(case.path).suffix}"
        shutil.copyfile(case.path, other)
        assert bool(claims(other)) == bool(said), "claims goes by the file's name, not by its content"
        for number, content in enumerate((b"", b"\0" * 64, b"\xff\xfe", b"{", os.fsencode("é;1,0\n"), bytes(range(256)) * 8)):
            strange = folder / f"strange_{number}"
            strange.write_bytes(content)
            try:
                answer = claims(strange)
            except Exception as error:
                raise AssertionError(f"claims raises {type(error).__name__} on {content[:16]!r}") from error
            assert not answer, f"claims takes {content[:16]!r} for {answer!r}"


@_rule
def damage_is_named_plainly(case: Case) -> None:
    """Give a series or an OperandoError of the loader itself for a truncated, bit-flipped or shuffled file, and nothing else."""
    raw = Path(case.path).read_bytes()
    with _scratch() as folder:
        for what, content in _damaged(raw):
            victim = folder / Path(case.path).name
            victim.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    case.found.read(victim, **case.options)
            except OperandoError:
                continue
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def _damaged(raw: bytes) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(len(raw))  # noqa: S311 - the same damage every time
    yield "nothing but a line end", b"\n"
    for share in (0.01, 0.1, 0.5, 0.999):
        yield f"cut at {share:.1%}", raw[: max(1, int(len(raw) * share))]
    for flips in (1, 8, 64):
        content = bytearray(raw)
        for _ in range(flips):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield f"{flips} bits flipped", bytes(content)
    head = bytearray(raw)
    for _ in range(16):  # where formats keep their counts
        head[rng.randrange(min(len(head), 2048))] ^= 1 << rng.randrange(8)
    yield "16 bits flipped in the head", bytes(head)
    lines = raw.splitlines(keepends=True)
    rng.shuffle(lines)
    yield "lines shuffled", b"".join(lines)


@contextlib.contextmanager
def host_zone(zone: str) -> Iterator[None]:
    """Let the process believe that its computer stands in another time zone (where the system knows `tzset`)."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    _tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        _tzset()


def _tzset() -> None:
    if hasattr(time, "tzset"):
        time.tzset()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="operando-") as folder:
        yield Path(folder)


def _state(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    path = Path(path)
    info = path.stat()
    beside = tuple(sorted(p.name for p in path.parent.iterdir()))
    return hashlib.sha256(path.read_bytes()).hexdigest(), info.st_mtime_ns, info.st_size, info.st_mode, beside


def _assert_same(first: list[xr.Dataset], second: list[xr.Dataset], what: str) -> None:
    assert len(first) == len(second), f"{what} gives {len(second)} series, not {len(first)}"
    for a, b in zip(first, second, strict=True):
        if not a.identical(b):
            names = [str(n) for n in {*a.variables, *b.variables} if n not in a.variables or n not in b.variables or not a[n].identical(b[n])]
            raise AssertionError(f"{what} differs in {', '.join(sorted(names)) or 'attributes'}")
