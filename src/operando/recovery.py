"""What a store recovers of a simulated beamtime whose truth is known: one question per quantity, asked of the pipeline through the public API.

`QUESTIONS` is the list; each has a tolerance that is stated, not fitted. A question whose reducer does not exist yet is in the list all the same,
with what it waits for: it is asked like every other and raises `NotRecoveredError` until the store holds the product. The demo prints the
answers; the tests hold them against their tolerances, and notice when one that waits is answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from operando.contract import OperandoError, StoreError

SPECTROSCOPY = "XAS, Raman and IR reducers"
CORRELATION = "correlation"

MAH = 3.6  # C
_INSTRUMENT = {"eis": "echem", "temperature": "holder"}
"""Series of the store -> the instrument of truth.json that measured it, where their names differ."""


class NotRecoveredError(OperandoError):
    """The store does not hold what would answer the question."""


@dataclass(frozen=True)
class Answer:
    """A quantity as it is and as the store has it.

    Attributes
    ----------
    n
        Number of frames, cycles or files compared.
    true, recovered
        In words, with units.
    deviation
        The largest deviation, in `unit`.
    tolerance
        The largest that is right, in `unit`.
    """

    n: int
    true: str
    recovered: str
    deviation: float
    tolerance: float
    unit: str

    @property
    def ok(self) -> bool:
        """Whether the deviation is a number within the tolerance."""
        return bool(self.n > 0 and self.deviation <= self.tolerance)


class Beamtime:
    """An open store beside its truth.

    Parameters
    ----------
    store
        Published or growing store of a simulated beamtime.
    truth
        Its truth.json.
    cell
        The cell asked about.
    """

    def __init__(self, store: str | Path, truth: str | Path, cell: str = "A") -> None:
        from operando.store import describe, open_beamtime

        try:
            content = json.loads(Path(truth).read_text(encoding="utf-8"))
            self.truth: dict[str, Any] = content["cells"][cell]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError("is not the truth of a simulated beamtime", file=truth, found=f"{type(error).__name__}: {error}") from None
        self.clocks: dict[str, Any] = content["clocks"]
        self.zero = np.datetime64(self.truth["start"].rstrip("Z"), "ns")
        self.cell = cell
        self.tree = open_beamtime(store)
        growing = Path(store).with_suffix(".operando")  # it knows what could not be read; the published file holds what was
        self.quarantined: list[str] = sorted(describe(growing if growing.is_dir() else store).get("quarantined", {}))
        self._open: dict[str, tuple[xr.Dataset, np.ndarray]] = {}

    def product(self, series: str, product: str) -> xr.Dataset:
        """Give a product of a series; NotRecoveredError if the store has none."""
        try:
            return self.tree[f"{self.cell}/{series}/{product}"].to_dataset()
        except KeyError:
            raise NotRecoveredError(f"{self.cell}/{series}/{product} is not in the store") from None

    def frames(self, series: str) -> tuple[xr.Dataset, np.ndarray]:
        """Give the coordinates of a series' frames that truth.json knows, and the number of each there."""
        if series not in self._open:
            ds = self.product(series, "images" if series == "imaging" else "frames")
            told = self.series(series)
            known = {(_plain_name(told["files"][f]), i): k for k, (f, i) in enumerate(zip(told["file"], told["index"], strict=True))}
            pairs = zip(ds.source.values, ds.source_index.values, strict=True)
            rows = np.array([known.get((_plain_name(str(file)), int(i)), -1) for file, i in pairs], int)
            keep = np.flatnonzero(rows >= 0)
            self._open[series] = (ds.isel(time=keep), rows[keep])
        return self._open[series]

    def series(self, name: str) -> dict[str, Any]:
        """Give what truth.json says of a series."""
        name = _INSTRUMENT.get(name, name)
        if name not in self.truth["series"]:
            raise NotRecoveredError(f"the simulation has no {name}")
        return dict(self.truth["series"][name])

    def true(self, series: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Give a true value for these frames."""
        told = self.series(series)
        values = told[name] if name in told else told["observables"][name]["values"]
        return np.asarray(values, float)[rows]

    def seconds(self, time: Any) -> np.ndarray:
        """Give instants as seconds since the cell's start."""
        return np.asarray((np.asarray(time) - self.zero) / np.timedelta64(1, "ns"), float) * 1e-9


def _plain_name(path: str) -> str:
    """Name a raw file and what the beamline integrated from it alike."""
    return Path(path).name.replace("_integrated", "")


@dataclass(frozen=True)
class Question:
    """One quantity the pipeline should give.

    Attributes
    ----------
    name
        `SERIES: QUANTITY`.
    ask
        Gives the answer, or raises NotRecoveredError.
    waits
        What has to be built before it can be answered; empty if it can.
    """

    name: str
    ask: Callable[[Beamtime], Answer]
    waits: str = ""


def ask(beamtime: Beamtime, questions: Iterable[Question] | None = None) -> list[tuple[Question, Answer | None]]:
    """Ask the questions; None where the store does not hold the answer."""
    out: list[tuple[Question, Answer | None]] = []
    for question in QUESTIONS if questions is None else questions:
        try:
            out.append((question, question.ask(beamtime)))
        except NotRecoveredError:
            out.append((question, None))
    return out


def table(answers: Iterable[tuple[Question, Answer | None]]) -> str:
    """Write the answers as a table for the terminal: what is true, what was recovered, the largest deviation beside its tolerance."""
    rows = [("quantity", "n", "true", "recovered", "off by", "allowed", "")]
    for question, answer in answers:
        if answer is None:
            why = f"waits for {question.waits}" if question.waits else "MISSING"
            rows.append((question.name, "", "not yet recovered", why, "", "", ""))
        else:
            off, allowed = (f"{value:.2g} {answer.unit}".rstrip() for value in (answer.deviation, answer.tolerance))
            rows.append((question.name, str(answer.n), answer.true, answer.recovered, off, allowed, "ok" if answer.ok else "WRONG"))
    widths = [max(len(r[k]) for r in rows) for k in range(6)]
    lines = ["  ".join(cell.ljust(widths[k]) if k < 6 else cell for k, cell in enumerate(row)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


# --------------------------------------------------------------------------- when it was, and what the cell did


def _middle(b: Beamtime, series: str, rows: np.ndarray) -> np.ndarray:
    return b.true(series, "begin_s", rows) + 0.5 * b.true(series, "exposure_s", rows)


def _time(series: str) -> Callable[[Beamtime], Answer]:
    """Ask when each frame was: within three stated standard errors of the truth."""

    def question(b: Beamtime) -> Answer:
        ds, rows = b.frames(series)
        off = np.abs(b.seconds(ds.time.values) - _middle(b, series, rows))
        stated = float(np.median(ds.time_errors))
        return Answer(rows.size, "middle of the exposure", f"stated to {stated:.2g} s", float(off.max()), 3 * stated, "s")

    return question


def _voltage(series: str) -> Callable[[Beamtime], Answer]:
    """Ask the mean voltage over each exposure: within what the clock's uncertainty allows (3 sigma) and the 5 mV of the record condition."""

    def question(b: Beamtime) -> Answer:
        ds, rows = _inside(b, series)
        true, found = b.true(series, "voltage_V", rows), ds.voltage.values
        beyond = np.abs(found - true) - 3 * ds.voltage_errors.values
        return Answer(rows.size, _span(true, "V"), _span(found, "V"), float(np.max(beyond, initial=0.0)) * 1e3, 5.0, "mV")

    return question


def _charge(series: str) -> Callable[[Beamtime], Answer]:
    """Ask the charge at each exposure: within what 1.2 mA bring in three standard errors of the time."""

    def question(b: Beamtime) -> Answer:
        ds, rows = _inside(b, series)
        true, found = b.true(series, "charge_C", rows) / MAH, ds.charge.values / MAH
        allowed = 3 * float(np.median(ds.time_errors)) * b.truth["design"]["current"] / MAH
        return Answer(rows.size, _span(true, "mAh"), _span(found, "mAh"), float(np.max(np.abs(found - true), initial=0.0)), max(allowed, 1e-4), "mAh")

    return question


def _soc(series: str) -> Callable[[Beamtime], Answer]:
    def question(b: Beamtime) -> Answer:
        ds, rows = _inside(b, series)
        true, found = b.true(series, "soc", rows), ds.soc.values
        return Answer(rows.size, _span(true, ""), _span(found, ""), float(np.max(np.abs(found - true), initial=0.0)), 2e-3, "")

    return question


def _inside(b: Beamtime, series: str) -> tuple[xr.Dataset, np.ndarray]:
    """Give the frames that lie inside the electrochemistry, by the truth."""
    ds, rows = b.frames(series)
    keep = np.flatnonzero(b.true(series, "inside", rows) > 0)
    return ds.isel(time=keep), rows[keep]


def _outside(series: str) -> Callable[[Beamtime], Answer]:
    """Ask how many frames lie outside the electrochemistry: they must say so and carry no voltage."""

    def question(b: Beamtime) -> Answer:
        ds, rows = b.frames(series)
        outside = b.true(series, "inside", rows) < 1
        begin, length = b.true(series, "begin_s", rows), b.true(series, "exposure_s", rows)
        wholly = outside & ((begin + length < 0) | (begin > b.truth["end_s"]))
        silent = ~np.isfinite(ds.voltage.values)
        return Answer(rows.size, f"{wholly.sum()} frames", f"{silent.sum()} without voltage", float(np.sum(wholly != silent)), 0.0, "frames")

    return question


def _cycles(name: str, true: str) -> Callable[[Beamtime], Answer]:
    def question(b: Beamtime) -> Answer:
        ds = b.product("echem", "cycles")
        told = [c[true] for c in b.series("echem")["facts"]["cycles"]]
        found = np.asarray(ds[name].values, float)
        if len(told) != found.size:
            return Answer(found.size, f"{len(told)} cycles", f"{found.size} cycles", np.inf, 0.0, "")
        unit = str(ds[name].attrs.get("units", ""))
        found = found / MAH if unit == "C" else found
        return Answer(found.size, _list(told, "mAh"), _list(found, "mAh"), float(np.max(np.abs(found / told - 1))) * 100, 0.1, "%")

    return question


def _efficiency(b: Beamtime) -> Answer:
    ds = b.product("echem", "cycles")
    told = np.array([c["discharge_capacity_mAh"] / c["charge_capacity_mAh"] for c in b.series("echem")["facts"]["cycles"]])
    found = ds.coulombic_efficiency.values
    return Answer(found.size, _list(told, ""), _list(found, ""), float(np.max(np.abs(found - told))), 1e-3, "")


def _temperature(b: Beamtime) -> Answer:
    ds = b.product("temperature", "frames")
    if b.truth["temperature_step"] is None:
        raise NotRecoveredError("the run ends before the holder is warmed")
    at, step = b.truth["temperature_step"]["at_s"], b.truth["temperature_step"]["K"]
    t = b.seconds(ds.time.values)
    found = float(ds.temperature[(t > at + 600) & (t < at + 2400)].mean() - ds.temperature[(t > at - 2400) & (t < at - 600)].mean())
    return Answer(1, f"{step:.2f} K", f"{found:.2f} K", abs(found - step), 0.05, "K")


def _segments(b: Beamtime) -> Answer:
    ds, _ = b.frames("xas")
    restarts = len(b.clocks["xas"]["restarts_s"])
    found = np.unique(ds.segment.values).size - 1
    return Answer(1, f"{restarts} restart", f"{found} restart", abs(found - restarts), 0.0, "restarts")


def _frames(series: str) -> Callable[[Beamtime], Answer]:
    """Ask for every frame that was measured and can be read, and no other."""

    def question(b: Beamtime) -> Answer:
        told = b.series(series)
        spoilt = {_plain_name(f) for what in ("corrupt", "half_written") for f in _names(told["facts"].get(what))}
        n = sum(_plain_name(told["files"][f]) not in spoilt for f in told["file"])
        known, all_there = b.frames(series)[1].size, b.product(series, "images" if series == "imaging" else "frames").sizes["time"]
        return Answer(n, f"{n} frames", f"{all_there} frames, {known} of them known", float(max(abs(n - known), abs(n - all_there))), 0.0, "frames")

    return question


def _spoilt(b: Beamtime) -> Answer:
    """Ask which files could not be read: exactly the spoilt ones, by name."""
    told = {_plain_name(f) for s in ("xrd", "xas") for what in ("corrupt", "half_written") for f in _names(b.series(s)["facts"].get(what))}
    found = {_plain_name(f) for f in b.quarantined if Path(f).name.startswith(f"{b.cell}_")}
    wrong = told ^ found
    return Answer(len(told), f"{len(told)} files", f"{len(found)} quarantined", float(len(wrong)), 0.0, "files")


def _names(told: Any) -> list[str]:
    """Give the file names of a spoilt file: one name, or all that went with it."""
    return [] if told is None else [told] if isinstance(told, str) else list(told["files"])


# --------------------------------------------------------------------------- what reducers give


def _observable(
    series: str,
    name: str,
    *,
    tolerance: float,
    unit: str,
    labels: tuple[str, ...] = (),
    true: str | None = None,
    relative: bool = False,
    position: int | None = None,
    pick: Mapping[str, str] | None = None,
) -> Callable[[Beamtime], Answer]:
    """Ask an observable of every frame with beam: within the tolerance, relative (%) or in `unit`, in 95 of 100 frames.

    Of several labels the sum is asked; of `pick` (dim -> label), that one. Where spots are measured in turn, `position` asks one of them only: at the
    damaged one active and lagging oxide have the same lattice twice in a cycle, and no reducer can tell them apart there.
    """

    def question(b: Beamtime) -> Answer:
        found = b.product(series, "observables")
        if name not in found:
            raise NotRecoveredError(f"{b.cell}/{series}/observables has no {name}")
        _, rows = b.frames(series)
        told = b.series(series)["observables"][true or name]
        truth = np.asarray(told["values"], float)[rows]
        values = found[name].sel(pick or {})
        if labels:
            truth = truth[:, [list(told["labels"]).index(label) for label in labels]].sum(1)
            values = values.sel({told["dim"]: [label for label in labels if label in values[told["dim"]].values]}).sum(told["dim"])
        begin, dump = b.true(series, "begin_s", rows), b.truth["dump_s"]
        asked = (begin > dump[1]) | (begin + b.true(series, "exposure_s", rows) < dump[0])
        if position is not None:
            asked &= b.true(series, "position", rows) == position
        truth, measured = truth[asked], np.asarray(values.values, float)[asked]
        off = np.abs(measured - truth) / (np.abs(truth) / 100 if relative else 1.0)
        deviation = float(np.quantile(off, 0.95)) if np.isfinite(off).all() else np.inf
        return Answer(int(asked.sum()), _span(truth, unit), _span(measured, unit), deviation, tolerance, "%" if relative else unit)

    return question


def _later(name: str) -> Callable[[Beamtime], Answer]:
    """Ask for a result of `operando.<name>`. Once there is such a function this answer is wrong until the question is really put to it."""

    def question(b: Beamtime) -> Answer:
        import operando

        if not hasattr(operando, name):
            raise NotRecoveredError(f"operando has no {name} yet")
        return Answer(0, "", f"operando.{name} exists and is not asked", np.inf, 0.0, "")

    return question


def _estimated_clock(function: str) -> Callable[[Beamtime], Answer]:
    """Ask an estimator of `operando.timeline` for the offset of the beamline's control computer."""

    def question(b: Beamtime) -> Answer:
        from operando import timeline

        if not hasattr(timeline, function):
            raise NotRecoveredError(f"operando.timeline has no {function}")
        told = b.clocks["beamline"]
        log = b.product("triggers" if function == "clock_from_events" else "beamline", "frames")
        stamps = b.seconds(log.source_time.values)
        if function == "clock_from_events":
            clock = timeline.clock_from_events(np.asarray(b.series("triggers")["facts"]["sent_s"]), stamps)
        else:
            records = b.product("echem", "frames").sortby("time")  # cycling and impedance take turns
            clock = timeline.clock_from_shared_signal(b.seconds(records.time.values), records.voltage.values, stamps, log.analog_input.values)
        first = stamps.min()  # where the offset of an estimated clock holds
        true = told["offset_s"] + told["drift"] * (first - told["at_s"])
        tolerance = 0.5 if function == "clock_from_events" else 2.0
        return Answer(1, f"{true:.2f} s", f"{clock.offset:.2f} s", abs(clock.offset - true) if clock.status == "ok" else np.inf, tolerance, "s")

    return question


def _span(values: np.ndarray, unit: str) -> str:
    values = values[np.isfinite(values)]
    return f"{values.min():.4g} to {values.max():.4g} {unit}".rstrip() if values.size else "nothing"


def _list(values: Any, unit: str) -> str:
    return (", ".join(f"{v:.4f}" for v in values) + f" {unit}").rstrip()


def _aligned(series: str) -> list[Question]:
    return [
        Question(f"{series}: frames read", _frames(series)),
        Question(f"{series}: time of the frames", _time(series)),
        Question(f"{series}: voltage over the exposure", _voltage(series)),
        Question(f"{series}: charge", _charge(series)),
        Question(f"{series}: state of charge", _soc(series)),
        Question(f"{series}: frames outside the electrochemistry", _outside(series)),
    ]


_OXIDE = ("NMC811", "NMC811_lagging")
_ELECTRODE = {"boundary": "electrode"}
_WEIGHED: Mapping[str, tuple[str, ...]] = {"the oxide": _OXIDE, "LiC6": ("LiC6",), "LiC12": ("LiC12",), "graphite": ("graphite",)}

QUESTIONS: tuple[Question, ...] = (
    *(question for series in ("xrd", "total", "xas", "imaging") for question in _aligned(series)),
    Question("xas: restarts of the clock", _segments),
    Question("all: files that cannot be read", _spoilt),
    Question("echem: charge capacity", _cycles("capacity_charge", "charge_capacity_mAh")),
    Question("echem: discharge capacity", _cycles("capacity_discharge", "discharge_capacity_mAh")),
    Question("echem: coulombic efficiency", _efficiency),
    Question("temperature: step of the holder", _temperature),
    Question("triggers: offset of the control computer", _estimated_clock("clock_from_events")),
    Question("analog input: offset of the control computer", _estimated_clock("clock_from_shared_signal")),
    *(
        Question(
            f"xrd: weight fraction of {words}",
            _observable("xrd", "phase_fraction", true="weight_fraction", labels=labels, tolerance=0.02, unit=""),
        )
        for words, labels in _WEIGHED.items()
    ),
    Question(
        "xrd: lagging oxide at the sound spot",
        _observable("xrd", "phase_fraction", true="weight_fraction", labels=("NMC811_lagging",), tolerance=0.05, unit="", position=0),
    ),
    Question("xrd: lattice a of the oxide", _observable("xrd", "lattice_a", pick={"phase": "NMC811"}, tolerance=5e-4, unit="angstrom", position=0)),
    Question("xrd: lattice c of the oxide", _observable("xrd", "lattice_c", pick={"phase": "NMC811"}, tolerance=5e-3, unit="angstrom", position=0)),
    Question("total: first-shell distance", _observable("total", "first_shell_distance", tolerance=0.02, unit="angstrom")),
    Question("xas: charged fraction", _observable("xas", "charged_fraction", tolerance=0.02, unit=""), SPECTROSCOPY),
    Question("xas: edge energy", _observable("xas", "edge_energy", true="edge_energy_half_step", tolerance=0.1, unit="eV"), SPECTROSCOPY),
    Question(
        "raman: area of the carbonate band",
        _observable("raman", "band_area_carbonate", true="area_carbonate", tolerance=5.0, unit="counts/cm", relative=True),
        SPECTROSCOPY,
    ),
    Question("raman: coordinated fraction of EC", _observable("raman", "coordinated_fraction", tolerance=0.03, unit=""), SPECTROSCOPY),
    Question("ir: area of the carbonate band", _observable("ir", "band_area_carbonate", tolerance=3.0, unit="1/cm", relative=True), SPECTROSCOPY),
    *(
        Question(f"eis: {name.replace('_', ' ')}", _observable("eis", name, tolerance=2.0, unit="ohm", relative=True))
        for name in ("ohmic_resistance", "interphase_resistance", "charge_transfer_resistance")
    ),
    Question("imaging: position of the electrode's edge", _observable("imaging", "edge_position", pick=_ELECTRODE, tolerance=0.2, unit="px")),
    Question(
        "imaging: displacement of the edge",
        _observable("imaging", "edge_displacement", true="displacement", pick=_ELECTRODE, tolerance=0.1, unit="px"),
    ),
    Question(
        "imaging: thickness of the electrode",
        _observable("imaging", "layer_thickness", true="thickness", pick={"layer": "electrode"}, tolerance=0.2, unit="um"),
    ),
    Question("interphase resistance follows the carbonate by 12 min", _later("lag_profile"), CORRELATION),
    Question("charge-transfer resistance sets on with H3", _later("onset"), CORRELATION),
    Question("shared cycling alone is no evidence", _later("correlate"), CORRELATION),
)
