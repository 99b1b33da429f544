r"""Reduced total scattering G(r), F(Q) or S(Q), one function per text file: .gr, .fq, .sq of PDFgetX3, PDFgetX2, PDFgui, GSAS-II; RMCProfile.

What the bytes mean
-------------------
Rows of axis and function, under any header: of PDFgetX3 and xPDFsuite (`key = value`, `#### start data`, `#L r($\AA$) G($\AA^{-2}$)`), PDFgetX2 and
PDFgui (the whole history, `##### start data`, `#L r G(r) d_r d_Gr`), GSAS-II (`#T`, `#L`), or RMCProfile (number of points, a title, the rows; the
count is checked). A fourth column, or one labelled `dG`, `d_Gr`, `sigma` ..., is the standard error; a third without a label too, unless it
is negative somewhere. The third column of PDFgetX2 (`d_r`) holds -4 pi density r and is not used. Rows may lack their errors, as PDFgetX2 writes
some files: these are NaN; errors that are zero everywhere are none.

Which function: option `function` (`gr`, `fq`, `sq`, or RMCProfile's `keen_gr`, `keen_fq`), else the label, the header, the extension, or `_gr`,
`_fq`, `_sq` in the name. Definitions (D. A. Keen, J. Appl. Cryst. 34 (2001) 172):
F(Q) = Q (S(Q) - 1) in 1/angstrom, G(r) = 4 pi density r (g(r) - 1) in 1/angstrom^2, as PDFgetX3 and PDFgui write them. In RMCProfile's layout
F(Q) and G(r) are Keen's own: <b>^2 (S(Q) - 1) and <b>^2 (g(r) - 1), in barn.

Where the time comes from
-------------------------
Nothing in these files says when the pattern was measured (their dates are of the reduction): the source's options give it.

What is assumed
---------------
r is in angstrom and q in 1/angstrom (option `axis: r_nm` or `q_nm` otherwise). Keen's functions are divided by <b>^2, option `mean_b_squared` (barn)
or `multi by` in the title. His F(Q) then gives S(Q). His G(r) gives G(r) if the number density is known (option `density`, atoms per
angstrom^3); else r (g(r) - 1) in angstrom is kept, which is G(r) without a factor, and the attribute `definition` says so.

Output
------
`g_r(time, r)`, `f_q(time, q)` or `s_q(time, q)` with `_errors` linked; attributes `definition`, and from the header q_min, q_max (1/angstrom),
composition, rpoly, background_scale, number_density ... where it has them.

Options
-------
function, axis, mean_b_squared, density
    See above.
value_column, errors_column
    Label or number (from 1); `errors_column: none` ignores errors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, series
from operando.loaders.pdf_headers import ERROR, MOST, commented, filled, function_of, refuse_other, settings_of
from operando.loaders.spectrum_text import Columns, read_columns
from operando.loaders.text import read_text

TECHNIQUES = ("pdf",)
VERSION = "1"

_NAMES = {"gr": "g_r", "fq": "f_q", "sq": "s_q"}
_UNITS = {"g_r": "1/angstrom^2", "f_q": "1/angstrom", "s_q": "1"}
_WORDS = {"g_r": "reduced pair distribution function", "f_q": "reduced structure function", "s_q": "structure function"}
_DEFINED = {"g_r": "4 pi density r (g(r) - 1)", "f_q": "Q (S(Q) - 1)", "s_q": "S(Q)"}
_FUNCTIONS = (*_NAMES, "keen_gr", "keen_fq")


def load(
    path: str | os.PathLike[str],
    *,
    function: str | None = None,
    axis: str | None = None,
    mean_b_squared: float | None = None,
    density: float | None = None,
    value_column: str | int | None = None,
    errors_column: str | int | None = None,
) -> xr.Dataset:
    """Read one function; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of one frame.

    Raises
    ------
    LoaderError
        No such function, an axis that is not monotonic, or a count that does not fit.
    """
    path = Path(path)
    text, header = commented(read_text(path))
    text, count = _rmc(text)
    block = read_columns(filled(text), path)
    ix, iy = 0, block.column(value_column, path, "value_column") if value_column is not None else 1
    if iy == ix:
        raise LoaderError("value_column: is the axis", file=path, found=f"column {iy + 1}")
    if count is not None and count != block.values.shape[0]:
        raise LoaderError("the number of points does not fit", file=path, found=f"{block.values.shape[0]} rows", expected=f"{count}, says line 1")
    header = header + "\n" + "\n".join(line for line in block.header if line not in header)
    kind, keen = _function(function, header, path, block.labels[iy] if block.labels else "", count is not None)
    x = _axis(block.values[:, ix], axis, kind, path)
    values = np.asarray(block.values[:, iy], float)
    if not np.isfinite(values).any():
        raise LoaderError(f"no {kind} is a number", file=path)
    errors = _errors(block, ix, iy, errors_column, path)
    attrs = settings_of(header)
    name = _NAMES[kind]
    unit, definition = _UNITS[name], _DEFINED[name]
    if keen:
        name, factor, offset, unit, definition = _from_keen(kind, x, _positive(mean_b_squared, "mean_b_squared", path), density, attrs, path)
        values, errors = offset + values * factor, None if errors is None else errors * np.abs(factor)
    else:
        attrs.pop("multiplied_by", None)
    along = "r" if kind == "gr" else "q"
    linked = {"ancillary_variables": f"{name}_errors"} if errors is not None else {}
    variables: dict[str, tuple[Any, ...]] = {
        name: (("time", along), values[None], unit, {"long_name": _WORDS[name], "definition": definition, **linked})
    }
    if errors is not None:
        variables[f"{name}_errors"] = (("time", along), errors[None], unit, {"long_name": f"standard error of {name}"})
    if title := _title(header):
        attrs["title"] = title
    coords = {along: (along, x, "angstrom" if along == "r" else "1/angstrom")}
    return series("pdf", variables, source=path, coords=coords, exposure=np.nan, attrs={**attrs, "definition": definition})


def _positive(value: Any, option: str, path: Path) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < 1e6:
        raise LoaderError(f"{option}: is no positive number", file=path, found=repr(value))
    return number


def _rmc(text: str) -> tuple[str, int | None]:
    """Recognise RMCProfile's layout, number of points and a title; the first becomes a comment."""
    match = re.match(r"\s*?[ \t]*(\d{1,8})[ \t]*\n([^\n]*)\n", text)
    if match is None or re.fullmatch(r"[-+.\deE\s]+", match[2]):
        return text, None
    return f"# {match[1]}\n# {match[2]}\n" + text[match.end() :], int(match[1])


def _function(given: str | None, header: str, path: Path, label: str, rmc: bool) -> tuple[str, bool]:
    """Tell which function, and whether it is Keen's."""
    if given is not None:
        if given not in _FUNCTIONS:
            raise LoaderError("function: is not known", file=path, found=repr(given), expected=", ".join(_FUNCTIONS))
        return given.removeprefix("keen_"), given.startswith("keen_")
    found, _ = function_of(header, path, label)
    refuse_other(found, tuple(_NAMES), path)
    if found is None:
        raise LoaderError(
            "which function it holds cannot be told",
            file=path,
            found=repr(label or path.name),
            expected="G(r), F(Q) or S(Q)",
            hint="say it with function:",
        )
    return found, rmc and found in ("gr", "fq")


def _axis(values: np.ndarray, given: str | None, kind: str, path: Path) -> np.ndarray:
    along = "r" if kind == "gr" else "q"
    if given not in (None, along, f"{along}_nm"):
        raise LoaderError("axis: does not fit the function", file=path, found=repr(given), expected=f"{along} or {along}_nm")
    x = np.asarray(values, float)
    steps = np.diff(x)
    if x.size < 2 or not np.isfinite(x).all() or not (steps > 0).all():
        wrong = int(np.argmin(np.append(steps > 0, True))) + 1 if x.size > 1 else 1
        raise LoaderError(f"{along} does not rise at point {wrong + 1}", file=path, hint="a shuffled, joined or half-written file?")
    if x[0] < 0:
        raise LoaderError(f"{along} is negative", file=path, found=f"{x[0]:g}")
    if given == f"{along}_nm":
        return x * 10.0 if along == "r" else x / 10.0
    if along == "q" and x[-1] > MOST:
        raise LoaderError("q is not in 1/angstrom", file=path, found=f"up to {x[-1]:g}", expected=f"up to {MOST:g}", hint="axis: q_nm")
    return x


def _errors(block: Columns, ix: int, iy: int, given: str | int | None, path: Path) -> np.ndarray | None:
    """Find the standard errors: named, the fourth column, or a third that no label calls anything else."""
    width = block.values.shape[1]
    if given == "none":
        return None
    if given is not None:
        found = block.column(given, path, "errors_column")
    else:
        named = [i for i, label in enumerate(block.labels) if i not in (ix, iy) and ERROR.match(label.strip())]
        if len(named) == 1:
            found = named[0]
        elif iy == 1 and width == 4:
            found = 3
        elif iy == 1 and width == 3 and not block.labels and not (block.values[:, 2] < 0).any():
            found = 2
        else:
            return None
    errors = np.asarray(block.values[:, found], float)
    if (errors < 0).any():
        raise LoaderError("the errors are negative", file=path, found=float(np.nanmin(errors)), hint="name their column, or errors_column: none")
    return errors if np.nan_to_num(errors).any() else None


def _from_keen(kind: str, x: np.ndarray, squared: float | None, density: Any, attrs: dict[str, Any], path: Path) -> tuple[str, Any, float, str, str]:
    """Bring Keen's functions to ours: name, factor (number or array), offset, unit and definition."""
    squared = squared or attrs.pop("multiplied_by", None)
    attrs.pop("multiplied_by", None)
    if squared is not None:
        attrs["mean_b_squared_barn"] = squared
    if kind == "fq":
        if squared is not None:
            return "s_q", 1.0 / squared, 1.0, "1", "S(Q), of Keen's F(Q) / <b>^2 + 1"
        return "f_q", x, 0.0, "barn/angstrom", "Q F(Q) with Keen's F(Q) = <b>^2 (S(Q) - 1)"
    number = _positive(density, "density", path)
    by, unit, words = (
        (1.0, "barn*angstrom", "r G(r) with Keen's G(r) = <b>^2 (g(r) - 1)") if squared is None else (squared, "angstrom", "r (g(r) - 1)")
    )
    if number is None or squared is None:
        return "g_r", x / by, 0.0, unit, f"{words}; times 4 pi density it would be in 1/angstrom^2"
    attrs["number_density"] = number
    return "g_r", 4 * np.pi * number * x / squared, 0.0, "1/angstrom^2", _DEFINED["g_r"]


def _title(header: str) -> str:
    """Give the title: `#S 1 nickel`, `#T ...`, `title=...`."""
    match = re.search(r"^\s*#+\s*(?:S\s+\d+|T)[ \t]+([^\n]{1,120})$|^\s*#?\s*title\s*=[ \t]*(\S[^\n]{0,119})$", header[:100_000], re.MULTILINE)
    return (match[1] or match[2]).strip() if match else ""


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if extension, labels or RMCProfile's layout show G(r), F(Q) or S(Q), and its axis rises."""
    path = Path(path)
    if path.suffix.lower() not in (".gr", ".fq", ".sq", ".dat", ".txt"):
        return None
    try:
        text, header = commented(read_text(path, limit=262144))
        text, count = _rmc(text)
        found, said = function_of(header, path)
        if count is None and (found in (None, "iq") or said == "name"):
            return None
        block = read_columns(filled(text.rpartition("\n")[0] + "\n"), path)
        x = block.values[:, 0]
        if count is not None:
            whole = block.values.shape[0] == count and block.values.shape[1] == 2 and bool((np.diff(x) > 0).all())
            return "total scattering of RMCProfile" if whole and "multiplied_by" in settings_of("\n".join(block.header)) else None
        if block.values.shape[0] < 5 or block.values.shape[1] > 6 or not (np.diff(x) > 0).all() or x[0] < 0:
            return None
        return {"gr": "pair distribution function G(r)", "fq": "reduced structure function F(Q)", "sq": "structure function S(Q)"}[str(found)]
    except (LoaderError, OSError):
        return None
