r"""Total scattering I(Q), one pattern per text file: .iq, .chi, .xy, .dat of any integration program.

What the bytes mean
-------------------
Two or three columns (axis, intensity, standard error) under any header, as `xrd-1d` reads them: separators, decimal commas, fit2d `.chi`, labels.
`#S`, `#L Q I(Q)` and the long headers of PDFgetX2 and PDFgetX3 (up to `#### start data`) are known; what they say of qmin, qmax (1/angstrom),
composition, background and scale is kept as attributes, not applied. S(Q), F(Q) and G(r) are read by `pdf-gr`; HDF5 by `hdf5-path` with
`technique: pdf`.

The axis
--------
q in 1/angstrom, always: option `axis` (`q`, `q_nm` for 1/nm, `two_theta`, `theta`, `d`), else the label over the column, else the customs of
`xrd-1d` (`.xy`, `.xye`: two_theta). In `.iq`, and under a label `Q` without a unit, it is 1/angstrom unless it goes beyond 60, which no instrument
reaches: then it is refused. Over two_theta the wavelength is needed: option `wavelength` (`0.1836 angstrom` or `67.5 keV`) or the header.

Where the time comes from
-------------------------
As for `xrd-1d`: option `header_time` (and `time_format`, `header_exposure`, `header_end`), else the source's options. The date in the header of
PDFgetX2 is that of the reduction and is not used.

What is assumed
---------------
The intensity is corrected for polarisation, solid angle and absorption, or will be by the reducer's recipe. Errors that are all zero are none.

Output
------
`intensity(time, q)`, `intensity_errors` linked; `two_theta(q)` beside it where the wavelength is known.

Options
-------
axis, wavelength, x_column, intensity_column, errors_column, header_time, time_format, header_exposure, header_end, header_values
    As for `xrd-1d`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError
from operando.loaders import xrd_1d
from operando.loaders.pdf_headers import ERROR, MOST, commented, filled, function_of, refuse_other, settings_of
from operando.loaders.spectrum_text import read_columns
from operando.loaders.text import read_text

TECHNIQUES = ("pdf",)
VERSION = "1"


def load(
    path: str | os.PathLike[str],
    *,
    axis: str | None = None,
    wavelength: str | None = None,
    x_column: str | int | None = None,
    intensity_column: str | int | None = None,
    errors_column: str | int | None = None,
    header_time: str | None = None,
    time_format: str | Sequence[str] | None = None,
    header_exposure: str | None = None,
    header_end: str | None = None,
    header_values: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Read one pattern; see the module for what each option does.

    Returns
    -------
    xarray.Dataset
        A series of one frame.

    Raises
    ------
    LoaderError
        Not a pattern, another function than I(Q), an axis that cannot be told or brought to q, or a count that does not fit.
    """
    path = Path(path)
    given = {k: v for k, v in locals().items() if k != "path"}
    text, header = commented(read_text(path))
    found, said = function_of(header, path)
    if said in ("label", "header", "suffix") and axis is None and intensity_column is None:
        refuse_other(found, ("iq",), path)
    text = filled(text)
    if x_column is None and intensity_column is None:
        given |= _columns(text, path, errors_column)
    custom = "q" if path.suffix.lower() == ".iq" or re.search(r"^\s*#+\s*L\s+Q\b", header, re.MULTILINE) else None
    ds = xrd_1d.pattern_of(text, path, technique="pdf", unlabelled=custom, **given)
    if "q" not in ds.dims:
        raise LoaderError(
            "the pattern is over two_theta and the wavelength is not known",
            file=path,
            found=f"two_theta {float(ds.two_theta.min()):g} to {float(ds.two_theta.max()):g} deg",
            hint="give wavelength: ('0.1836 angstrom' or '67.5 keV'), or axis: q if the numbers are q",
        )
    if ds.attrs.get("axis_assumed") and float(np.abs(ds.q).max()) > MOST:
        raise LoaderError(
            "the unit of q cannot be told",
            file=path,
            found=f"q without a unit, up to {float(ds.q.max()):g}",
            expected=f"up to {MOST:g} 1/angstrom",
            hint="axis: q_nm if it is in 1/nm",
        )
    if "intensity_errors" in ds and not np.any(np.nan_to_num(ds.intensity_errors.values)):
        ds = ds.drop_vars("intensity_errors")
        ds.intensity.attrs.pop("ancillary_variables", None)
    return ds.assign_attrs({k: v for k, v in settings_of(header).items() if k not in ds.attrs})


def _columns(text: str, path: Path, errors_column: str | int | None) -> dict[str, int]:
    """Tell the columns of `Q I(Q) d_Q d_I`, of which `xrd-1d` sees two axes."""
    block = read_columns(text, path)
    if len(block.labels) < 4 or not (block.labels[0].startswith(("Q", "q")) and re.match(r"I\b", block.labels[1])):
        return {}
    errors = [i + 1 for i, label in enumerate(block.labels[2:], 2) if ERROR.match(label)]
    found = {"x_column": 1, "intensity_column": 2}
    return found | ({"errors_column": errors[0]} if len(errors) == 1 and errors_column is None else {})


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if its extension or its labels say I(Q); patterns in .chi, .xy and .dat are claimed by `xrd-1d`."""
    path = Path(path)
    if path.suffix.lower() not in (".iq", ".chi", ".dat", ".txt", ""):
        return None
    try:
        text, header = commented(read_text(path, limit=65536))
        found, said = function_of(header, path)
        if found != "iq" or said == "name" or "two_theta" in header:
            return None
        block = read_columns(text.rpartition("\n")[0], path)
        rising = block.values.shape[0] >= 5 and bool((np.diff(block.values[:, 0]) > 0).all()) and block.values[0, 0] >= 0
        return "total scattering I(Q)" if rising and block.values.shape[1] in (2, 3, 4) else None
    except (LoaderError, OSError):
        return None
