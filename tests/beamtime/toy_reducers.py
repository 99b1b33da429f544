"""Reducers that say what they were handed, and a small beamtime for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

import operando as op
from operando import beamtime
from operando.config import Recipe, read_config
from operando.reduction import Products, Reducer, reducer

CONFIG = """\
timezone: Europe/Paris
sources:
  detector:
    loader: xrd-1d
    files: xrd/*.xye
    name_pattern: "A_p{{position}}_{{time:%Y%m%dT%H%M%S}}_{{frame:04d}}"
    exposure: 10 s
    wavelength: 0.4 angstrom
    clock: {{offset: -37 s}}
cells:
  A:
    about: {{active_mass: 5 mg}}
    series:
      xrd: {{from: detector{recipe}}}
"""


class Factor(Recipe):
    factor: float = Field(default=1.0, gt=0, description="multiplies the sum (1)")


class Toys:
    """Reducers, and what they were handed."""

    def __init__(self) -> None:
        self.calls: list[xr.Dataset] = []
        self.known: dict[str, Reducer] = {}
        self.starts: list[tuple[int, int]] = []

    def add(self, name: str, run: Callable[..., Any], **declared: Any) -> None:
        def noted(frames: xr.Dataset, recipe: Any, state: Any = None) -> Any:
            self.calls.append(frames)
            return run(frames, recipe, state)

        given = {"technique": "xrd", "kind": "frame", "recipe": Factor, "version": "1", "products": ("reduced",), **declared}
        self.known[name] = reducer(name, **given)(noted)

    @property
    def frames(self) -> list[int]:
        """Frame numbers of all rows that were handed over."""
        return [int(n) for ds in self.calls for n in ds["frame"].values]

    def clear(self) -> None:
        self.calls.clear()
        self.starts.clear()


def total(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
    values = frames["intensity"].sum("q").values * recipe.factor
    return Products({"reduced": xr.Dataset({"total": ("time", values, {"units": "1"})}, {"time": frames["time"]})})


def doubled(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
    values = frames["total"].values * 2 * recipe.factor
    return Products({"observables": xr.Dataset({"twice": ("time", values, {"units": "1"})}, {"time": frames["time"]})})


def toy_reducers() -> Toys:
    """Give one reducer of each kind, and one that reads what another gives."""
    made = Toys()

    def counted(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        """Number the frames of a run: shows where state goes."""
        groups = {(int(s), str(p)) for s, p in zip(frames["segment"].values, frames["position"].values, strict=True)}
        assert len(groups) == 1, "one segment and position at a time"
        begin = 0 if state is None else state["n"]
        assert state is None or state["of"] == groups, "state never crosses"
        made.starts.append((int(frames["frame"].values[0]), begin))
        n = begin + np.arange(1, frames.sizes["time"] + 1)
        ds = xr.Dataset({"n": ("time", n, {"units": "1"})}, {"time": frames["time"]})
        return Products({"reduced": ds}, state={"n": int(n[-1]), "of": groups})

    def mean(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        values = frames["intensity"].sum("q").values
        ds = xr.Dataset({"above": ("time", values - values.mean(), {"units": "1"})}, {"time": frames["time"]})
        return Products({"reduced": ds})

    made.add("total", total)
    made.add("doubled", doubled, reads="reduced", products=("observables",))
    made.add("counted", counted, kind="forward")
    made.add("mean", mean, kind="series")
    return made


def write(folder: Path, number: int, *, position: int | None = None, minute: int | None = None, level: float = 1.0) -> Path:
    """Write frame `number`; positions 1 and 2 take turns, the clock is set back at frame 8."""
    position = 1 + number % 2 if position is None else position
    minute = number - (4 if number >= 8 else 0) if minute is None else minute
    path = folder / "xrd" / f"A_p{position}_20260603T10{minute:02d}00_{number:04d}.xye"
    path.parent.mkdir(exist_ok=True)
    x = np.linspace(5, 10, 20)
    path.write_text("".join(f"{a:.4f} {level * (number + 1) + a:.4f} 1.0\n" for a in x))
    return path


def configure(folder: Path, recipe: str = "") -> Path:
    path = folder / "beamtime.yaml"
    path.write_text(CONFIG.format(recipe=f", recipe: {recipe}" if recipe else ""))
    return path


def run(config: Path, **more: Any) -> beamtime.Outcome:
    outcome = beamtime.run(read_config(config), **more)
    assert outcome.ok, [str(p) for p in outcome.problems] or outcome.quarantined
    return outcome


def product(outcome: beamtime.Outcome, name: str = "reduced") -> xr.Dataset:
    return op.open_beamtime(outcome.published)[f"A/xrd/{name}"].to_dataset().load()


def assert_as_fresh(outcome: beamtime.Outcome, config: Path, toys: Toys, **more: Any) -> None:
    """The published content is what a build from nothing publishes."""
    toys.clear()
    fresh = run(config, output=config.parent / "fresh.nxs", **more)
    one, other = op.open_beamtime(outcome.published), op.open_beamtime(fresh.published)
    assert {n.path for n in one.subtree} == {n.path for n in other.subtree}
    for node in one.subtree:
        xr.testing.assert_identical(node.to_dataset(inherit=False).load(), other[node.path].to_dataset(inherit=False).load())
    for path in (fresh.published, fresh.live):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    toys.clear()
