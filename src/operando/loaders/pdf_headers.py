"""What programs for total scattering write above their numbers: PDFgetX3 and xPDFsuite, PDFgetX2, PDFgui, GSAS-II, RMCProfile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from operando.contract import LoaderError

_MARK = re.compile(r"^#+\s*start data\b.*$", re.IGNORECASE | re.MULTILINE)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBERS = {
    "qmin": "q_min",
    "qmax": "q_max",
    "qmaxinst": "q_max_instrument",
    "rpoly": "rpoly",
    "bgscale": "background_scale",
    "qdamp": "q_damp",
    "temperature": "header_temperature",
    "numberdensity": "number_density",
}
_WORDS = {"composition": "composition", "inputfile": "input_file", "backgroundfile": "background_file", "mode": "radiation", "version": "program"}
_FUNCTIONS = {"i": "iq", "s": "sq", "f": "fq", "g": "gr"}
ERROR = re.compile(r"d_?(g|f|s|i)|sig|err|esd|std|unc|±", re.IGNORECASE)
"""Labels of standard errors: `dG`, `d_Gr`, `d_I`, `sigma` ...; `d_Q` and `d_r` are none."""
MOST = 60.0
"""1/angstrom: no instrument reaches beyond; larger numbers are in 1/nm."""


def commented(text: str) -> tuple[str, str]:
    """Make everything above `start data` a comment, so that its numbers are taken for no row; the lines keep their numbers.

    Returns
    -------
    tuple
        The text; what stands above its rows.
    """
    mark = _MARK.search(text)
    if mark is None:
        head = [line for line in text[:20000].split("\n")[:400] if re.match(r"\s*(#|\[|[A-Za-z_]\w*\s*[=:])", line) or not line.strip()]
        return text, "\n".join(head)
    above = text[: mark.start()].removesuffix("\n")
    below = [line for line in text[mark.end() : mark.end() + 4000].split("\n")[:30] if line.startswith("#")]
    return "\n".join(f"# {line}" for line in above.split("\n")) + "\n" + text[mark.start() :], "\n".join([above, *below])


def filled(text: str) -> str:
    """Give rows without errors as many fields as the others have; the last row is left alone: there it is half written."""
    lines = text.split("\n")
    rows = [i for i, line in enumerate(lines) if re.match(r"\s*[-+.\d]", line)]
    widths = {i: len(lines[i].split()) for i in rows}
    width = max(widths.values(), default=0)
    if not 2 < width <= 6:
        return text
    for i in rows[:-1] + [i for i in rows[-1:] if len(rows) > 1 and widths[i] == widths[rows[-2]]]:
        if widths[i] == 2:
            lines[i] += "  nan" * (width - 2)
    return "\n".join(lines)


def function_of(header: str, path: Path, label: str = "") -> tuple[str | None, str]:
    """Tell which function the numbers are: `iq`, `sq`, `fq` or `gr`; None if nothing says.

    Returns
    -------
    tuple
        The function, and what said so: `label`, `header`, `suffix` or `name`.
    """
    spec = "\n".join(line for line in header.split("\n") if re.match(r"\s*#\s?[SLT]\s", line))
    for words, where in ((label, "label"), (spec, "header")):
        match = re.search(r"\b([ISFG])\s*\(\s*[Qr]\s*\)|^#L[ \t]+r\b[^\n]*\s(G)\(", words, re.IGNORECASE | re.MULTILINE)
        if match:
            return _FUNCTIONS[(match[1] or match[2]).lower()], where
    suffix = path.suffix.lower().lstrip(".")
    if suffix in ("iq", "sq", "fq", "gr"):
        return suffix, "suffix"
    match = re.search(r"(?:^|[_\-. ])([isfg])(?:of)?_?([qr])(?:$|[_\-. ])", path.stem, re.IGNORECASE)
    return (_FUNCTIONS[match[1].lower()], "name") if match else (None, "")


def settings_of(header: str) -> dict[str, Any]:
    """Read what a header says of the reduction as attributes: limits of Q (1/angstrom), composition, scale and name of the background ..."""
    out: dict[str, Any] = {}
    for name, attribute in _NUMBERS.items():
        match = re.search(rf"(?:^|[\s#]){name}\s*=\s*({_NUMBER})(?!\S)", header[:100_000], re.IGNORECASE | re.MULTILINE)
        if match:
            out[attribute] = float(match[1])
    for name, attribute in _WORDS.items():
        match = re.search(rf"^[#\s]{{0,4}}{name}[ \t]*=[ \t]*(\S[^\n]{{0,200}})", header[:100_000], re.IGNORECASE | re.MULTILINE)
        if match:
            out[attribute] = match[1].strip()
    table = re.search(r"^#L symbol valence fractions[^\n]*\n((?:[ \t]+[A-Z][a-z]?[ \t]+[^\n]*\n?){1,40})", header[:100_000], re.MULTILINE)
    if table and "composition" not in out:  # PDFgetX2 lists element, valence, fraction
        rows = [line.split() for line in table[1].splitlines() if len(line.split()) >= 3]
        out["composition"] = "".join(f"{row[0]}{float(row[2]):g}" for row in rows if re.fullmatch(_NUMBER, row[2]))
    by = re.search(rf"\bmu\w{{2,6}}\s+by\s+({_NUMBER})", header[:2000], re.IGNORECASE)
    if by and float(by[1]) > 0:  # RMCProfile: the function was multiplied by the square of the mean scattering length
        out["multiplied_by"] = float(by[1])
    return out


def refuse_other(found: str | None, wanted: tuple[str, ...], path: Path) -> None:
    """Refuse a function that the other loader reads."""
    if found is not None and found not in wanted:
        other = "pdf-iq" if found == "iq" else "pdf-gr"
        raise LoaderError(
            f"holds {found[0].upper()}({found[1].upper() if found[1] == 'q' else 'r'})",
            file=path,
            expected=" or ".join(f"{w[0].upper()}({'Q' if w[1] == 'q' else 'r'})" for w in wanted),
            hint=f"loader: {other}, or say with function: what it is",
        )
