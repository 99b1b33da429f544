"""PANalytical / Malvern XRDML (.xrdml), schema 1.x and 2.x: every 2theta scan of the file is a frame.

What the bytes mean
-------------------
XML (UTF-8 with or without byte order mark, UTF-16). `xrdMeasurements / xrdMeasurement / scan / dataPoints` holds `positions` of
each axis (start and end, a list, or one common position), counting times and either `intensities` (schema 1.x: already
multiplied by the beam attenuation factors by the instrument) or `counts` (schema 2.x: raw; multiplied by `beamAttenuationFactors` here, the
factors kept as the variable `attenuation`). Divergence corrections are not applied to raw counts.
Document types and entity declarations are refused: no XRDML has one, and they are how XML is made to eat the memory.

Where the time comes from
-------------------------
`startTimeStamp` and `endTimeStamp` of each scan, ISO 8601; newer software writes the offset from UTC, older does not.
The exposure of a frame is end - start (a scanning detector counts each point for less: `counting_time`).

What is assumed
---------------
Points are equidistant between start and end. q is that of K-alpha 1 (attribute `wavelength`); K-alpha 2, its ratio and the wavelength the user meant
(`intended_wavelength`) are attributes. Scans without a moving 2theta (rocking curves) are no pattern: left out and counted in `scans_left_out`.

Output
------
`intensity(time, q)` with `two_theta(q)`, counts as integers. Scans of another axis or wavelength become a further series of the list.
A scan that was aborted is flagged INTERRUPTED. Fixed axes become `motor_*`, the rest of what the header claims goes to `claims`.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
import xarray as xr

from operando.contract import LoaderError, Quality, as_stamps, series
from operando.loaders.diffraction import diffraction_axis, intensity_variables
from operando.loaders.spectrum_text import resolution

TECHNIQUES = ("xrd",)
VERSION = "1"

_MAX_DEPTH = 60


@dataclass
class _Scan:
    """One scan with a moving 2theta."""

    index: int
    two_theta: np.ndarray
    intensity: np.ndarray
    start: str | None
    end: str | None
    counting: np.ndarray | None
    attenuation: np.ndarray | None
    interrupted: bool
    fixed: dict[str, tuple[float, str]]
    wavelength: float | None
    attrs: dict[str, Any] = field(default_factory=dict)


def load(path: str | os.PathLike[str]) -> xr.Dataset | list[xr.Dataset]:
    """Read every 2theta scan of the file.

    Returns
    -------
    xarray.Dataset or list
        One series per axis and wavelength, frames in the order of the file.

    Raises
    ------
    LoaderError
        Not XRDML, cut short, or without a 2theta scan.
    """
    path = Path(path)
    root = _parse(path)
    if root.tag not in ("xrdMeasurements", "xrdMeasurement"):
        raise LoaderError("not an XRDML file", file=path, found=f"<{root.tag[:60]}>", expected="<xrdMeasurements>")
    scans: list[_Scan] = []
    left_out = 0
    number = 0
    for measurement in root.iter("xrdMeasurement"):
        attrs, wavelength = _setup(measurement, root, path)
        for scan in measurement.findall("scan"):
            made = _scan(scan, number, path, wavelength, attrs)
            number += 1
            if made is None:
                left_out += 1
            else:
                scans.append(made)
    if not scans:
        raise LoaderError(
            "no scan over 2theta", file=path, found=f"{number} scans", expected="positions of 2Theta with a start and an end, or a list"
        )
    groups: list[list[_Scan]] = []
    for made in scans:
        for group in groups:
            if group[0].wavelength == made.wavelength and np.array_equal(group[0].two_theta, made.two_theta):
                group.append(made)
                break
        else:
            groups.append([made])
    out = [_series(group, path, left_out) for group in groups]
    return out[0] if len(out) == 1 else out


def _parse(path: Path) -> Element:
    """Build the element tree without namespaces; refuse document types and entities."""
    builder = TreeBuilder()
    depth = 0

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise LoaderError("elements are nested too deeply for an XRDML file", file=path, found=f"{depth} levels")
        builder.start(tag.rpartition("}")[2], {key.rpartition("}")[2]: value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition("}")[2])

    def refuse(*_: Any) -> None:
        raise LoaderError(
            "the XML declares a document type or entities, which no XRDML file does", file=path, hint="do not open files from an unknown source"
        )

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror or error) from None
    if not raw.strip():
        raise LoaderError("the file is empty", file=path, found=f"{len(raw)} bytes", hint="copy it again from the instrument")
    try:
        parser.Parse(raw, True)
        return builder.close()
    except expat.ExpatError as error:
        raise LoaderError("not well-formed XML (a half-written file?)", file=path, found=f"{error}") from None
    except (AssertionError, ValueError, TypeError, LookupError) as error:  # the builder on unbalanced tags, unknown encodings
        raise LoaderError(f"not readable as XML: {error}", file=path) from None


def _text(element: Element | None, where: str) -> str | None:
    found = element.find(where) if element is not None else None
    return found.text.strip() if found is not None and found.text and found.text.strip() else None


def _number(text: str | None, what: str, path: Path) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise LoaderError(f"{what} is not a number", file=path, found=text[:60]) from None
    if not math.isfinite(value):
        raise LoaderError(f"{what} is not a finite number", file=path, found=text[:60])
    return value


def _list(text: str | None, what: str, path: Path) -> np.ndarray | None:
    """Read a list of numbers; integers stay integers."""
    if text is None:
        return None
    words = text.split()
    try:
        if all(word.lstrip("+-").isdigit() and len(word) < 17 for word in words):
            return np.array([int(word) for word in words], dtype=np.int64)
        return np.array([float(word) for word in words])
    except ValueError:
        wrong = next((word for word in words if len(word) > 60 or not re.fullmatch(r"[-+]?\d*\.?\d*(?:[eE][-+]?\d+)?", word)), words[0])
        raise LoaderError(f"{what} hold {wrong[:40]!r} where a number is expected", file=path) from None


def _setup(measurement: Element, root: Element, path: Path) -> tuple[dict[str, Any], float | None]:
    """Read what holds for all scans of a measurement: wavelengths, tube, sample."""
    attrs: dict[str, Any] = {}
    used = measurement.find("usedWavelength")
    wavelength = _number(_text(used, "kAlpha1"), "kAlpha1", path)
    if wavelength is not None and not 0.01 <= wavelength <= 100:
        raise LoaderError("the wavelength is not that of X-rays", file=path, found=f"{wavelength:g} angstrom")
    if used is not None:
        attrs["intended_wavelength"] = used.get("intended", "")
        for name, tag in (("wavelength_k_alpha_2", "kAlpha2"), ("wavelength_k_beta", "kBeta"), ("ratio_k_alpha_2", "ratioKAlpha2KAlpha1")):
            value = _number(_text(used, tag), tag, path)
            if value is not None:
                attrs[name] = value
    if wavelength is not None:
        attrs.update(wavelength=wavelength, wavelength_units="angstrom", wavelength_of="K-alpha 1")
    tube = measurement.find("incidentBeamPath/xRayTube")
    for name, where in (("anode", "anodeMaterial"), ("tube_voltage_kV", "tension"), ("tube_current_mA", "current")):
        text = _text(tube, where)
        if text:
            attrs[name] = text if name == "anode" else _number(text, where, path)
    claims = {
        key: value
        for key, value in (
            ("sample_id", _text(root, "sample/id")),
            ("sample_name", _text(root, "sample/name")),
            ("prepared_by", _text(root, "sample/preparedBy")),
            ("comment", "; ".join(e.text.strip() for e in root.findall("comment/entry") if e.text and e.text.strip()) or None),
        )
        if value
    }
    if claims:
        attrs["claims"] = json.dumps(claims)
    return attrs, wavelength


def _scan(scan: Element, index: int, path: Path, wavelength: float | None, setup: dict[str, Any]) -> _Scan | None:
    """Read one scan; None if 2theta does not move in it."""
    points = scan.find("dataPoints")
    if points is None:
        raise LoaderError(f"scan {index + 1} has no data points (a half-written file?)", file=path)
    raw = _list(_text(points, "counts"), "the counts", path)
    intensity = raw if raw is not None else _list(_text(points, "intensities"), "the intensities", path)
    if intensity is None:
        raise LoaderError(f"scan {index + 1} has neither counts nor intensities", file=path, found=", ".join(e.tag for e in points)[:120])
    two_theta: np.ndarray | None = None
    fixed: dict[str, tuple[float, str]] = {}
    for positions in points.findall("positions"):
        name, unit = positions.get("axis", ""), positions.get("unit", "deg")
        common = _number(_text(positions, "commonPosition"), f"the position of {name}", path)
        if common is not None:
            fixed[re.sub(r"\W+", "_", name).lower()] = (common, unit)
        if name != "2Theta" or common is not None:
            continue
        listed = _list(_text(positions, "listPositions"), "the positions", path)
        first = _number(_text(positions, "startPosition"), "the start position", path)
        last = _number(_text(positions, "endPosition"), "the end position", path)
        if listed is not None:
            two_theta = listed.astype(float)
        elif first is not None and last is not None and intensity.size > 1:
            two_theta = np.linspace(first, last, intensity.size)
        if two_theta is not None and two_theta.size != intensity.size:
            raise LoaderError(
                f"scan {index + 1} has another number of positions than of intensities",
                file=path,
                found=f"{two_theta.size} positions, {intensity.size} intensities",
            )
    if two_theta is None or two_theta.size < 2 or two_theta[0] == two_theta[-1]:
        return None
    factors = _list(_text(points, "beamAttenuationFactors"), "the attenuation factors", path)
    common_factor = _number(_text(points, "commonBeamAttenuationFactor"), "the attenuation factor", path)
    if factors is None and common_factor is not None and common_factor != 1:
        factors = np.full(intensity.size, common_factor)
    if factors is not None and factors.size != intensity.size:
        raise LoaderError("the attenuation factors do not fit the intensities", file=path, found=f"{factors.size} factors", expected=intensity.size)
    if factors is not None and (factors == 1).all():
        factors = None
    if raw is not None and factors is not None:
        intensity = raw * factors
    counting = _list(_text(points, "countingTimes"), "the counting times", path)
    common_time = _number(_text(points, "commonCountingTime"), "the counting time", path)
    if counting is not None and counting.size != intensity.size:
        raise LoaderError("the counting times do not fit the intensities", file=path, found=f"{counting.size} times", expected=intensity.size)
    if counting is None and common_time is not None:
        counting = np.array([common_time])
    header = scan.find("header")
    attrs = {**setup, "scan_axis": scan.get("scanAxis", ""), "scan_mode": scan.get("mode", "")}
    software, version = _text(header, "source/instrumentControlSoftware"), _text(header, "source/instrumentID")
    if software:
        attrs["instrument"] = f"{software} {version or ''}".strip()
    return _Scan(
        index=index,
        two_theta=two_theta,
        intensity=intensity,
        start=_text(header, "startTimeStamp"),
        end=_text(header, "endTimeStamp"),
        counting=None if counting is None else counting.astype(float),
        attenuation=None if factors is None else factors.astype(float),
        interrupted=scan.get("status", "Completed").lower() not in ("completed", ""),
        fixed=fixed,
        wavelength=wavelength,
        attrs=attrs,
    )


def _series(scans: list[_Scan], path: Path, left_out: int) -> xr.Dataset:
    """Make one series of scans over one axis."""
    first = scans[0]
    main, coords = diffraction_axis("two_theta", first.two_theta, path, wavelength=first.wavelength)
    variables = intensity_variables(np.stack([scan.intensity for scan in scans]), None, main, "counts")
    dims = ("time", main)
    if any(scan.attenuation is not None for scan in scans):
        factors = [np.ones(first.two_theta.size) if scan.attenuation is None else scan.attenuation for scan in scans]
        variables["attenuation"] = (dims, np.stack(factors), "1", {"long_name": "beam attenuation factor, contained in intensity"})
    if all(scan.counting is not None for scan in scans):
        times = [scan.counting for scan in scans if scan.counting is not None]
        if all(t.size == 1 for t in times):
            coords["counting_time"] = ("time", np.concatenate(times), "s", {"long_name": "counting time per point"})
        else:
            variables["counting_time"] = (
                dims,
                np.stack([np.broadcast_to(t, first.two_theta.shape) for t in times]),
                "s",
                {"long_name": "counting time per point"},
            )
    for name in sorted({name for scan in scans for name in scan.fixed}):
        positions = np.array([scan.fixed.get(name, (math.nan, ""))[0] for scan in scans])
        coords[f"motor_{name}"] = ("time", positions, next(scan.fixed[name][1] for scan in scans if name in scan.fixed))

    stamped = [scan.start for scan in scans]
    if any(stamp is None for stamp in stamped) and any(stamp is not None for stamp in stamped):
        raise LoaderError(
            "some scans have a start time and some have not", file=path, found=f"{sum(s is not None for s in stamped)} of {len(stamped)}"
        )
    starts: Any = None
    utc: bool | None = None
    sigma = 0.0
    segment = np.zeros(len(scans), np.int32)
    if stamped[0] is not None:
        starts, utc = as_stamps(stamped)
        sigma = max(resolution(stamp or "") for stamp in stamped)
        segment = np.concatenate([[0], np.cumsum(np.diff(starts) < np.timedelta64(0, "ns"))]).astype(np.int32)
    exposure = np.array([_exposure(scan, path) for scan in scans])
    if starts is None:
        begins = np.concatenate([[0.0], np.nan_to_num(np.cumsum(exposure))[:-1]])
    else:
        begins = np.zeros(len(scans))
    attrs = {**first.attrs, **({"scans_left_out": left_out} if left_out else {})}
    return series(
        "xrd",
        variables,
        source=path,
        coords=coords,
        start=starts if len(scans) > 1 or starts is None else starts[0],
        elapsed=begins,
        exposure=exposure,
        utc=utc,
        time_origin="header" if starts is not None else None,
        time_uncertainty=sigma,
        segment=segment,
        quality=[int(Quality.INTERRUPTED) if scan.interrupted else 0 for scan in scans],
        source_index=[scan.index for scan in scans],
        attrs=attrs,
    )


def _exposure(scan: _Scan, path: Path) -> float:
    """Seconds from start to end of a scan; NaN where the file lacks one."""
    if scan.start is None or scan.end is None:
        return math.nan
    (begin, zoned_a), (end, zoned_b) = as_stamps(scan.start), as_stamps(scan.end)
    seconds = float((end - begin) / np.timedelta64(1, "s"))
    if zoned_a != zoned_b or not 0 <= seconds < 1e8:
        raise LoaderError(f"scan {scan.index + 1} does not end after it starts", file=path, found=f"{scan.start} to {scan.end}")
    return seconds


def claims(path: str | os.PathLike[str]) -> str | None:
    """Say what the file is if its root element is XRDML's."""
    try:
        with Path(path).open("rb") as f:
            head = f.read(2048).replace(b"\0", b"")
    except OSError:
        return None
    if b"<xrdMeasurement" not in head:
        return None
    version = re.search(rb"XRDMeasurement/(\d+\.\d+)", head)
    return "PANalytical XRDML" + (f" {version.group(1).decode()}" if version else "")
