"""The house: light imports, one direction of dependency, files one can read in a sitting, nothing of a machine in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "pyFAI",
    "larch",
    "ramanspy",
    "matplotlib",
    "napari",
    "scipy.signal",
    "scipy.optimize",
    "scipy.stats",
    "dask.array",
    "numba",
    "pandas",
    "pint",
)


def _loaded_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_operando_imports_nothing_heavy() -> None:
    loaded = _loaded_after("import operando")
    assert not {name for name in HEAVY if name in loaded}


def test_importing_every_room_imports_no_technique_library() -> None:
    # xarray itself brings pandas, whatever we do
    loaded = _loaded_after("import operando.beamtime.building, operando.beamtime.checking, operando.cli, operando.discover, operando.export")
    assert not {name for name in HEAVY if name in loaded} - {"pandas"}


def test_help_answers_without_xarray() -> None:
    code = "import sys\nsys.argv = ['operando', '--help']\nfrom operando.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert not _loaded_after(code) & {"xarray", "numpy", "pydantic"}


def test_every_room_is_in_the_wheel(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    packages = set(re.findall(r'^    "(operando[\w.]*)",$', text.split("[tool.setuptools]")[1].split("]")[0], re.M))
    rooms = {".".join(p.parent.relative_to(root / "src").parts) for p in (root / "src").rglob("__init__.py")}
    assert rooms | {"operando.configs"} == packages


def test_files_are_short_enough_to_read_in_a_sitting(root: Path) -> None:
    long = {str(p.relative_to(root)): n for p in (root / "src").rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 600}
    assert not long


def test_modules_say_what_they_are(root: Path) -> None:
    silent = [str(p) for p in (root / "src").rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert not silent


@pytest.mark.parametrize("word", ["utils", "manager", "handler", "helpers", "processor"])
def test_no_module_has_a_name_that_says_nothing(root: Path, word: str) -> None:
    assert not [p for p in (root / "src").rglob("*.py") if word in p.stem.lower()]


def test_the_example_is_small(root: Path) -> None:
    assert (
        sum(
            p.stat().st_size
            for p in (root / "example_beamtime").rglob("*")
            if p.is_file() and p.suffix not in (".nxs",) and ".operando" not in str(p)
        )
        < 15e6
    )
