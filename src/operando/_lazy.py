"""Names that are imported when first used, so that `import operando` and `operando --help` stay light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give a package's `__getattr__` and `__dir__` (PEP 562) for names that live in submodules.

    Parameters
    ----------
    package
        `__name__` of the package.
    names
        Public name -> submodule that defines it; a name equal to its submodule is the submodule itself.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{names[name]}")
        return module if names[name] == name else getattr(module, name)

    return __getattr__, lambda: sorted(names)
