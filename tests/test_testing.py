"""The helpers that prove a loader catch loaders that break the rules."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from operando import testing
from operando.contract import ConfigError, LoaderError, series
from operando.loaders import get_loader
from operando.testing import RULES, Case, assert_loader, assert_valid_series, check, check_loader, host_zone

ROOT = Path(__file__).resolve().parents[1]
MYLAB = ROOT / "plugins" / "operando-mylab"


def load(path: Path, *, count: int = 4) -> Any:
    """Read the lines of a file as voltages."""
    try:
        values = [float(line) for line in Path(path).read_text(encoding="ascii").splitlines()[:count]]
    except ValueError as error:
        raise LoaderError("not voltages", file=path, found=error) from None
    if not values:
        raise LoaderError("no voltages", file=path)
    return series(
        "echem",
        {"voltage": ("time", np.array(values), "V"), "current": ("time", np.zeros(len(values)), "A")},
        source=path,
        start="2026-06-03T10:00:00",
        elapsed=np.arange(len(values)),
        time_origin="header",
    )


def module(**changes: Any) -> ModuleType:
    """Make a loader module with something changed."""
    made = ModuleType("voltages")
    made.__doc__ = "Voltages, one per line."
    made.TECHNIQUES, made.VERSION, made.load = ("echem",), "1", load  # type: ignore[attr-defined]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.txt"
    path.write_text("3.1\n3.2\n3.3\n3.4\n")
    return path


@pytest.mark.parametrize("rule", RULES)
def test_a_good_loader_passes(rule: str, sample: Path) -> None:
    check(rule, Case(sample, module()))


def test_every_rule_of_the_contract_is_there() -> None:
    from operando.contract import RULES as CONTRACT_RULES

    assert set(CONTRACT_RULES) <= set(RULES)


def test_assert_valid_series_lists_every_fault(sample: Path) -> None:
    (good,) = Case(sample, module()).series
    assert_valid_series(good, as_written=True)
    with pytest.raises(AssertionError, match="give timezone="):
        assert_valid_series(good)
    bad = good.drop_vars("exposure")
    bad["voltage"].attrs["units"] = "furlong"
    with pytest.raises(AssertionError, match=r"exposure(.|\n)*furlong"):
        assert_valid_series(bad, as_written=True)
    with pytest.raises(AssertionError, match="not dict"):
        assert_valid_series({})  # type: ignore[arg-type]


def _touching(path: Path, *, count: int = 4) -> Any:
    made = load(path, count=count)
    path.write_text(path.read_text() + "\n")
    return made


def _leaving(path: Path, *, count: int = 4) -> Any:
    (path.parent / "index.cache").write_text("x")
    return load(path, count=count)


def _zoned(path: Path, *, count: int = 4) -> Any:
    made = load(path, count=count)
    shift = np.timedelta64(time.localtime(0).tm_gmtoff or 0, "s")
    return made.assign_coords(time=made.time + shift, source_time=made.source_time + shift)


_calls = iter(range(10_000))


def _changing(path: Path, *, count: int = 4) -> Any:
    made = load(path, count=count)
    made.attrs["call"] = next(_calls)
    return made


def _fragile(path: Path, *, count: int = 4) -> Any:
    return load(path, count=count) if len(path.read_text(errors="replace")) > 10 else 1 / 0


def _renaming(path: Path, *, count: int = 4) -> Any:
    return load(path, count=count).assign_coords(source=("time", np.array(["other"] * 4, dtype=object)))


def _hiding(path: Path, **options: Any) -> Any:
    return load(path)


def _by_name(path: Path) -> str | None:
    return "voltages" if Path(path).name == "sample.txt" else None


def _greedy(path: Path) -> str | None:
    return "voltages"


def _raising(path: Path) -> str | None:
    return "voltages" if float(Path(path).read_text().split()[0]) else None


@pytest.mark.parametrize(
    ("rule", "changes", "said"),
    [
        ("input_is_left_as_it_was", {"load": _touching}, "has changed"),
        ("input_is_left_as_it_was", {"load": _leaving}, "has changed"),
        ("the_same_under_any_host_zone", {"load": _zoned}, "TZ=Europe/Paris"),
        ("the_same_twice", {"load": _changing}, "second reading differs"),
        ("damage_is_named_plainly", {"load": _fragile}, "ZeroDivisionError"),
        ("frames_name_their_file", {"load": _renaming}, "source is 'other'"),
        ("loader_describes_itself", {"load": _hiding}, "hides the options"),
        ("loader_describes_itself", {"VERSION": ""}, "VERSION is missing"),
        ("loader_describes_itself", {"TECHNIQUES": ("magic",)}, "names magic"),
        ("techniques_are_the_declared_ones", {"TECHNIQUES": ("xrd",)}, "'echem' is not among"),
        ("claims_by_content", {"claims": _by_name}, "by the file's name"),
        ("claims_by_content", {"claims": _greedy}, "takes b''"),
        ("claims_by_content", {"claims": _raising}, "raises"),
    ],
)
def test_bad_loaders_are_caught(rule: str, changes: dict[str, Any], said: str, sample: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        check(rule, Case(sample, module(**changes)))


def test_assert_loader_lists_every_broken_rule(sample: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_loader(sample, module(VERSION="", TECHNIQUES=("xrd",)))
    assert "breaks 2 of" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path, sample: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("no number\n")
    with pytest.raises(AssertionError, match="not voltages"):
        assert_loader(bad, module())
    results = check_loader(module(), [sample, bad])
    assert [rule for rule, faults in results.items() if faults] == ["file_is_read"]
    assert str(bad) in results["file_is_read"][0]
    assert set(results) == set(RULES)


def test_no_such_loader(sample: Path) -> None:
    with pytest.raises(ConfigError, match="no loader"):
        check_loader("voltages-from-nowhere", [sample])


def test_host_zone_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with host_zone("America/Chicago"):
        assert os.environ["TZ"] == "America/Chicago"
    assert os.environ["TZ"] == "Asia/Tokyo"
    monkeypatch.delenv("TZ")
    with host_zone("UTC"):
        pass
    assert "TZ" not in os.environ
    testing._tzset()


@pytest.mark.parametrize("rule", RULES)
def test_the_template_plugin_keeps_every_rule(rule: str) -> None:
    check(rule, Case(MYLAB / "tests" / "sample.txt", str(MYLAB / "src" / "operando_mylab" / "loader.py") + ":load", {"channel": 2}))


def test_the_template_plugin_is_installed_and_found() -> None:
    """The environment of the tests has the plugin: `pip install -e plugins/operando-mylab`."""
    loader = get_loader("mylab")
    assert loader.techniques == ("echem",)
    (found,) = assert_loader(MYLAB / "tests" / "sample.txt", "mylab")
    assert found.attrs["loader"] == "mylab"


def test_the_template_plugin_imports_only_what_is_public() -> None:
    import ast

    tree = ast.parse((MYLAB / "src" / "operando_mylab" / "loader.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("operando")}
    assert imported == {"operando.contract"}
    assert sys.version_info >= (3, 11)
