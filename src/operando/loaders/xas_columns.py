r"""One X-ray absorption spectrum per text file: columns over energy, times from the header.

What the bytes mean
-------------------
Columns of numbers under any header. Options say which is which, by label or by number counted from 1: `energy`, and either
`mu` (an absorption, as measured or normalised) or the raw signals `i0`, `itrans`, `ifluor` (one, or a list that is summed)
and `iref`, from which

    mu = ln(i0 / itrans)   or, where only `ifluor` is named,   mu = sum(ifluor) / i0;   mu_reference = ln(itrans / iref).

Where both `itrans` and `ifluor` are named, mu is the transmission and `mu_fluorescence` stands beside it. Without options, labels
that leave no doubt are used (energy, mu, xmu, normalized, log(i0/it); i0, itrans, ifluor, irefer of the XDI dictionary; i1 and i2 as
transmission and reference where nothing else was counted). Files of the 9809 format (Photon Factory) hold angles; their energies are
computed from the lattice spacing in the header.
`keep: {name: column}` keeps further columns. Instead of a column `{column: [a, b], optional: true}` takes the first label that exists.
 A SPEC file (`#S n`) gives one series per scan, or the one `scan: n` names.

Where the time comes from
-------------------------
`header_time`, a regular expression with the group `start`; `header_exposure` (seconds) or `header_end` (a stamp); `time_format`
(`strptime`) if the stamp is not ISO 8601 or otherwise unambiguous. Stamps are as written: naive unless they carry an offset. Without
`header_time` the `Scan.start_time` and `Scan.end_time` of an XDI header are used; any other file then holds no time and the source's options
give it.

What is assumed
---------------
Energies above 1000 are eV. Smaller ones are keV only if the label says energy or keV, or `energy_unit: keV` does (7.1 may also be
an angle). Energies are the file's, never shifted here. A row given twice (an encoder that stood still) is refused unless
`duplicates: mean` or `first` says what to do; so is disorder unless `disorder: sort` does; descending spectra stay descending.
Where i0 / itrans is not positive mu is NaN and the frame is flagged LOW_COUNTS.

Output
------
`mu(time, energy)`, `mu_reference`, `i0` and the other raw signals named, over energy in eV; one frame per spectrum. `header_values` become
coordinates of the frame: `{foil_e0: {pattern: 'E0=([-\d.]+)', units: eV}}`; further keys there are kept as attributes.

Presets
-------
`preset: soleil-rock` (and a path ending in .yaml) sets all of this for a beamline; options beside it win.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import LoaderError, Quality, convert, series
from operando.loaders.presets import with_preset
from operando.loaders.spectrum_text import Columns, HeaderTimes, header_numbers, header_times, read_columns
from operando.loaders.text import read_text
from operando.loaders.xas_9809 import is_9809, read_9809, times_9809

TECHNIQUES = ("xas",)
VERSION = "2"

_LABELS: dict[str, tuple[str, ...]] = {
    "energy": (
        *("energy", "e", "shiftedenergy", "ebraggenergy", "zapenergy", "energyev", "energykev", "eev", "ekev", "photonenergy"),
        *("achievedenergy", "monoenergy", "monoenergyalt", "energyachieved", "requestedenergy", "energyrequested", "energyc1"),
        *("enc_energy", "energies_ev", "energy_ev", "energy_kev", "mono_energy"),
        *("energie", "energieev", "energiekev", "energia", "ev", "ee"),
    ),
    "mu": (
        *("mu", "xmu", "mutrans", "xmutrans", "mufluor", "norm", "normalized", "normalised", "normmu", "murelative", "absorption"),
        *("logi0/it", "lni0/it", "logi0/i1", "lni0/i1", "loge_i0/i1", "logi0/itrans", "lni0/itrans"),
    ),
    "mu_reference": ("muref", "murefer", "mu_ref", "mureference"),
    "i0": ("i0", "io", "ion0", "i_0"),
    "itrans": ("itrans", "it", "itransmission"),
    "iref": ("irefer", "iref", "ireference", "ir"),
    "ifluor": ("ifluor", "ifluorescence", "iff"),
}
_STANDARD = {"itrans": ("i1", "i"), "iref": ("i2", "ir")}  # chambers counted along the beam
_SILENT = re.compile(
    r"energy\w*|\w*energy\w*|\w*angle\w*|\w*(theta|encoder|bragg)\w*|\w*(time|clock|seconds?|sec|epoch)\w*|\w*temp\w*|i0|i1|i2|i|ir|[hkl]|\w*gap|"
    r"\w*current|e|ee|ev|pts?|points?|index|rtc"
)
_RAW = ("i0", "itrans", "iref", "ifluor")
_XDI_START = r"Scan\.start_time:\s*(?P<start>\S+(?: \d\S+)?)"
_XDI_END = r"Scan\.end_time:\s*(?P<end>\S+(?: \d\S+)?)"

Column = str | int | Mapping[str, Any]


def load(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    energy: Column | None = None,
    energy_unit: str | None = None,
    mu: Column | None = None,
    mu_reference: Column | None = None,
    i0: Column | None = None,
    itrans: Column | None = None,
    iref: Column | None = None,
    ifluor: Column | Sequence[Column] | None = None,
    keep: Mapping[str, Any] | None = None,
    scan: int | None = None,
    duplicates: str | None = None,
    disorder: str | None = None,
    header_time: str | None = None,
    time_format: str | Sequence[str] | None = None,
    header_exposure: str | None = None,
    header_end: str | None = None,
    header_values: Mapping[str, Any] | None = None,
) -> xr.Dataset | list[xr.Dataset]:
    """Read one file; see the module for what each option does.

    Returns
    -------
    xarray.Dataset or list
        A series of one frame; one per scan for a SPEC file of several.

    Raises
    ------
    LoaderError
        No such columns, not a spectrum, no time where one was promised.
    ConfigError
        The preset cannot be used.
    """
    given = {k: v for k, v in locals().items() if k not in ("path", "preset")}
    options = with_preset("xas-columns", preset, given)
    for name, allowed in (("duplicates", ("refuse", "mean", "first")), ("disorder", ("refuse", "sort")), ("energy_unit", ("eV", "keV"))):
        if options[name] is not None and options[name] not in allowed:
            raise LoaderError(f"{name}: is not known", file=path, found=repr(options[name]), expected=" | ".join(allowed))
    path = Path(path)
    made = []
    for number, text, first_line in _scans(read_text(path), path, options["scan"]):
        ds = _spectrum(text, path, first_line, options)
        if number is not None:
            ds["source_index"][:] = number
            ds.attrs["scan"] = number
        if preset is not None:
            ds.attrs["preset"] = str(preset)
        made.append(ds)
    return made[0] if len(made) == 1 else made


def _scans(text: str, path: Path, wanted: int | None) -> Iterator[tuple[int | None, str, int]]:
    """Cut a SPEC file into its scans: (number, file header and scan, first line)."""
    starts = [m.start() for m in re.finditer(r"^#S\s+\d+", text, re.MULTILINE)]
    if not starts:
        if wanted is not None:
            raise LoaderError("scan: is for files of several scans", file=path, found="no line '#S n'")
        yield None, text, 1
        return
    found: list[int] = []
    given = False
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        number = int(text[begin + 2 : begin + 14].split()[0])
        found.append(number)
        block = text[begin:end]
        if wanted is not None and number != wanted:
            continue
        if wanted is None and not re.search(r"^\s*[-+]?\.?\d", block, re.MULTILINE):
            continue  # a scan that was aborted before its first point
        given = True
        yield number, block, text.count("\n", 0, begin) + 1
    if not given:
        raise LoaderError(
            "the scan is not in the file" if wanted is not None else "no scan holds numbers", file=path, found=f"scans {found[:20]}", expected=wanted
        )


def _spectrum(text: str, path: Path, first_line: int, options: Mapping[str, Any]) -> xr.Dataset:
    angles = is_9809(text)
    block = read_9809(text, path) if angles else read_columns(text, path, first_line=first_line)
    chosen = _choose(block, path, options)
    energy, keep_rows, average = _energies(block, chosen["energy"][0], path, options)

    def take(index: int) -> np.ndarray:
        if average is None:
            return block.numbers(index)[keep_rows]
        return np.array([block.values[rows, index].mean() for rows in average])

    variables: dict[str, tuple[Any, ...]] = {}

    def put(name: str, values: np.ndarray, units: str, **attrs: str) -> None:
        variables[name] = (("time", "energy"), values[None, :], units, attrs)

    raw: dict[str, np.ndarray] = {}
    for name in _RAW:
        if name in chosen:
            columns = [take(i) for i in chosen[name]]
            raw[name] = np.sum(columns, axis=0) if len(columns) > 1 else columns[0]
            put(name, raw[name], _unit(block, chosen[name][0], raw[name]), column=_called(block, chosen[name]))
    low = False
    for name in ("mu", "mu_reference"):
        if name in chosen:
            put(name, take(chosen[name][0]).astype(float), "1", column=_called(block, chosen[name]))
    for name, top, bottom, log in _recipes(raw, set(chosen), path):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.asarray(top, dtype=float) / np.asarray(bottom, dtype=float)
            values = np.where(ratio > 0, np.log(np.where(ratio > 0, ratio, 1.0)), np.nan) if log else np.where(np.isfinite(ratio), ratio, np.nan)
        values[~np.isfinite(values)] = np.nan
        if not np.isfinite(values).any() and name == "mu_reference" and options["iref"] is None:
            continue  # a chamber that was not read: nobody asked for it by name
        if not np.isfinite(values).any():
            raise LoaderError(f"{name} cannot be computed: no ratio is positive", file=path, hint="are these the right columns?")
        low = low or bool(np.isnan(values).any())
        put(
            name,
            values,
            "1",
            long_name={"mu": "absorption", "mu_reference": "absorption of the reference", "mu_fluorescence": "fluorescence yield"}[name],
        )
    for name, indices in chosen.items():
        if name not in variables and name != "energy":
            values = take(indices[0])
            put(name, values, _unit(block, indices[0], values), column=_called(block, indices))
    main = next(name for name in ("mu", "mu_reference") if name in variables)
    if not np.isfinite(np.asarray(variables[main][1], dtype=float)).any():
        raise LoaderError(f"no value of {main} is a number", file=path)

    known = angles and options["header_time"] is None and options["header_exposure"] is None
    times = times_9809(block.header) if known else _times(block.header, path, options)
    return series(
        "xas",
        variables,
        source=path,
        coords={
            "energy": ("energy", energy, "eV", {"long_name": "photon energy as written"}),
            **header_numbers(block.header, options["header_values"], path),
        },
        start=times.start,
        exposure=times.exposure,
        time_origin="header" if times.start else None,
        time_uncertainty=times.uncertainty,
        quality=int(Quality.LOW_COUNTS) if low else 0,
    )


def _choose(block: Columns, path: Path, options: Mapping[str, Any]) -> dict[str, list[int]]:
    """Find the column(s) of each name: from the options, else from labels that leave no doubt."""
    chosen: dict[str, list[int]] = {}
    for name in ("energy", "mu", "mu_reference", *_RAW):
        wanted = options[name]
        if wanted is None:
            continue
        if isinstance(wanted, Mapping):
            chosen.update(_first(block, path, name, wanted))
            continue
        many = wanted if isinstance(wanted, list | tuple) else [wanted]
        if not many or (len(many) > 1 and name != "ifluor"):
            raise LoaderError(f"{name}: takes one column", file=path, found=repr(wanted))
        chosen[name] = [block.column(one, path, name) for one in many]
    for name, wanted in (options["keep"] or {}).items():
        if not re.fullmatch(r"[a-z]\w*", str(name)) or name in ("time", "energy", *chosen):
            raise LoaderError("keep: this name cannot be used", file=path, found=repr(name), expected="lower-case words joined by _")
        chosen.update(
            _first(block, path, str(name), wanted) if isinstance(wanted, Mapping) else {str(name): [block.column(wanted, path, f"keep: {name}")]}
        )
    words = [_plain(label) for label in block.labels]

    def told(name: str) -> list[int]:
        for known in _LABELS[name]:
            hits = [i for i, word in enumerate(words) if word == known]
            if len(hits) == 1:
                return hits
        return []

    if "energy" not in chosen and (hit := told("energy")):
        chosen["energy"] = hit
    if not {"mu", "mu_reference", *_RAW} & set(chosen):
        names = ("mu", "mu_reference", "i0") if told("mu") else _RAW
        chosen.update({name: told(name) for name in names if told(name)})
        if "i0" in words and not {"mu", "itrans", "ifluor"} & set(chosen) and all(_SILENT.fullmatch(word) for word in words):
            for name, labels in _STANDARD.items():
                hits = [words.index(label) for label in labels if words.count(label) == 1]
                if len(hits) == 1:
                    chosen[name] = hits
    have = set(chosen)
    if "energy" not in have or not ({"mu", "mu_reference"} & have or ("i0" in have and {"itrans", "ifluor"} & have) or {"itrans", "iref"} <= have):
        what = "the energy" if "energy" not in have else "the absorption (mu:, or i0: with itrans: or ifluor:)"
        raise LoaderError(
            f"which column is {what} cannot be told",
            file=path,
            found=", ".join(f"{i + 1} {label}" for i, label in enumerate(block.labels)) or f"{block.values.shape[1]} columns without labels",
            hint="name it by label or number with the options energy:, mu:, i0:, itrans:, ifluor:, iref:",
        )
    if chosen["energy"] in [v for k, v in chosen.items() if k != "energy"]:
        raise LoaderError("energy: is also used as a signal", file=path, found=f"column {chosen['energy'][0] + 1}")
    return chosen


def _first(block: Columns, path: Path, name: str, wanted: Mapping[str, Any]) -> dict[str, list[int]]:
    """Find the first column that exists of `{column: [a, b], optional: true}`; nothing if it is optional and none does."""
    unknown = sorted(set(map(str, wanted)) - {"column", "optional"})
    several = wanted.get("column")
    choices: list[Any] = list(several) if isinstance(several, list | tuple) else [several]
    if unknown or several is None or not choices:
        raise LoaderError(
            f"{name}: is no column", file=path, found=repr(dict(wanted))[:80], expected="{column: LABEL or [LABEL, ...], optional: true}"
        )
    missing: LoaderError | None = None
    for choice in choices:
        try:
            return {name: [block.column(choice, path, name)]}
        except LoaderError as error:
            missing = missing or error
    if missing is not None and not wanted.get("optional"):
        raise missing
    return {}


def _plain(label: str) -> str:
    """Spell a label without blanks, brackets and a number before it: `4_i0` -> `i0`, `Mono Energy *` -> `monoenergy`."""
    return re.sub(r"^\d{1,3}[_:.](?=[a-z])", "", re.sub(r"[\s(),\-\[\]*<>]", "", label).lower()).replace(".", "")


def _recipes(raw: Mapping[str, np.ndarray], have: set[str], path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    """Say what to compute from the raw signals: (name, numerator, denominator, logarithm)."""
    if "mu" not in have and "i0" in raw:
        if "itrans" in raw:
            yield "mu", raw["i0"], raw["itrans"], True
            if "ifluor" in raw:
                yield "mu_fluorescence", raw["ifluor"], raw["i0"], False
        elif "ifluor" in raw:
            yield "mu", raw["ifluor"], raw["i0"], False
    if "iref" in raw and "mu_reference" not in have:
        if "itrans" in raw:
            yield "mu_reference", raw["itrans"], raw["iref"], True
        elif "mu" not in have and "ifluor" not in raw:
            raise LoaderError("iref: needs itrans:, the intensity before the reference", file=path)


def _energies(block: Columns, index: int, path: Path, options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray] | None]:
    """Give the energies in eV, the rows to keep in order, and the rows to average where energies repeat."""
    values = block.values[:, index]
    if values.size < 2:
        raise LoaderError("a spectrum of fewer than two energies", file=path, found=values.size)
    if not np.isfinite(values).all():
        raise LoaderError(f"line {block.first_line + int(np.argmin(np.isfinite(values)))} holds no energy", file=path)
    unit = options["energy_unit"]
    label = " ".join([*(block.labels[index : index + 1]), *(block.units[index : index + 1])])
    if unit is None:
        if values.min() >= 100 and values.max() <= 200_000:
            unit = "eV"
        elif values.min() >= 0.1 and values.max() <= 200 and re.search(r"energy|kev", label, re.IGNORECASE):
            unit = "keV"
        else:
            raise LoaderError(
                "these are no photon energies, or their unit cannot be told",
                file=path,
                found=f"{values.min():g} to {values.max():g}" + (f" labelled {label!r}" if label else ""),
                hint="name the column with energy: and its unit with energy_unit: eV | keV (encoder angles must be converted before)",
            )
    if (values <= 0).any():
        raise LoaderError("an energy that is not positive", file=path, found=float(values.min()))
    energy = np.asarray(convert(values, unit, "eV"), dtype=float)
    if unit == "keV":
        energy = np.round(energy, 6)  # 7.1128 keV is 7112.8 eV, not 7112.799999999999
    sign = 1.0 if energy[-1] >= energy[0] else -1.0
    order = np.arange(energy.size)
    backwards = sign * np.diff(energy) < 0
    if backwards.any():
        if options["disorder"] != "sort":
            wrong = int(np.argmax(backwards)) + 1
            raise LoaderError(
                f"the energy turns back at line {block.first_line + wrong}",
                file=path,
                found=f"{energy[wrong - 1]:.6g} then {energy[wrong]:.6g} eV ({int(backwards.sum())} such steps)",
                hint="a shuffled file, or an encoder that jitters: disorder: sort",
            )
        order = np.argsort(sign * energy, kind="stable")
    ordered = energy[order]
    first = np.concatenate([[True], np.diff(ordered) != 0])
    if first.all():
        return ordered, order, None
    if options["duplicates"] not in ("mean", "first"):
        wrong = int(np.argmin(first))
        raise LoaderError(
            f"the energy {ordered[wrong]:.8g} eV stands on {int((ordered == ordered[wrong]).sum())} lines",
            file=path,
            found=f"{int((~first).sum())} repeated of {first.size}",
            hint="say what to do with duplicates: mean | first",
        )
    if options["duplicates"] == "first":
        return ordered[first], order[first], None
    return ordered[first], order[first], list(np.split(order, np.flatnonzero(first)[1:]))


def _times(header: list[str], path: Path, options: Mapping[str, Any]) -> HeaderTimes:
    """Read the times the options describe; without options those of an XDI header, whose fields are standard."""
    if options["header_time"] is None and options["header_exposure"] is None and any("XDI/" in line for line in header[:1]):
        try:
            return header_times(header, path, time=_XDI_START, end=_XDI_END)
        except LoaderError:
            try:
                return header_times(header, path, time=_XDI_START)
            except LoaderError:
                return HeaderTimes()
    return header_times(
        header, path, time=options["header_time"], exposure=options["header_exposure"], end=options["header_end"], formats=options["time_format"]
    )


def _unit(block: Columns, index: int, values: np.ndarray) -> str:
    """Unit of a raw signal: the header's, else counts for integers."""
    if block.units and block.units[index]:
        return block.units[index] if re.fullmatch(r"[A-Za-z]{1,10}", block.units[index]) else "1"
    return "counts" if values.dtype.kind in "iu" else "1"


def _called(block: Columns, indices: Sequence[int]) -> str:
    return ", ".join(block.labels[i] if block.labels else f"column {i + 1}" for i in indices)


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if a column labelled energy runs over X-ray energies."""
    path = Path(path)
    if path.suffix.lower() in (".prj", ".csv", ".mpt", ".gr", ".chi", ".xye", ".cif"):
        return None
    try:
        text = read_text(path, limit=131072)
        whole = path.stat().st_size <= 131072
        starts = [m.start() for m in re.finditer(r"^#S\s+\d+", text, re.MULTILINE)]
        if starts:
            text = text[starts[0] : starts[1] if len(starts) > 1 else None]
        if is_9809(text):
            return "X-ray absorption spectrum (9809 format)" if re.search(r"^\s*Mode\s+\d", text, re.MULTILINE) else None
        block = read_columns(text if whole or len(starts) > 1 else text[: text.rfind("\n")], path)
        words = [_plain(label) for label in block.labels]
        hits = [i for i, word in enumerate(words) if word in _LABELS["energy"]]
        if len(block.values) < 5 or not hits or (hits == [i for i in hits if words[i] == "e"] and len(block.values) < 20):
            return None
        others = {name for name, known in _LABELS.items() if name != "energy" and any(word in known for word in words)}
        head = text[:6000]
        if not others and not re.search(r"XDI/|E0\s*=|\bedge\b|XAFS|EXAFS|XANES|mono|#S ", head, re.IGNORECASE):
            return None
        for i in hits:
            values = block.values[:, i]
            span = float(values.max() - values.min())
            steps = np.diff(values)
            kev = values.max() <= 200 and re.search("energy|kev", block.labels[i], re.IGNORECASE)
            scale = 1000.0 if kev else 1.0
            if (
                1000 <= values.min() * scale
                and values.max() * scale <= 100_000
                and 10 <= span * scale <= 20_000
                and (steps >= 0).mean() in (0.0, 1.0)
            ):
                kind = "XDI" if "XDI/" in head[:200] else "SPEC" if starts else "columns"
                return f"X-ray absorption spectrum ({kind}), {values.min() * scale:.0f} to {values.max() * scale:.0f} eV"
    except (LoaderError, OSError):
        return None
    return None
