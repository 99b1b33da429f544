"""What the tests share: the real files, and the rule that nothing is skipped silently where it could run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_beamtime as toy

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real measured files; the test is skipped, with the reason, where it is not there."""
    if not DATA.is_dir():
        pytest.skip("real measured files are not beside the project (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def small_beamtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy beamtime that builds in a second: its folder. Copy it before anything is changed in it."""
    folder = tmp_path_factory.mktemp("small")
    toy.write(folder)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Fail a whole file that skipped itself, for the same reason as a test."""
    report = yield
    if os.environ.get("OPERANDO_NO_SKIPS") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and in continuous integration nothing may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Fail a test that skipped itself where continuous integration says that it must run."""
    report = yield
    must = os.environ.get("OPERANDO_NO_SKIPS") and (DATA.is_dir() or "real_data" not in item.keywords)
    if must and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in continuous integration nothing may be: {report.longrepr}"
    return report
