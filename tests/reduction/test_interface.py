"""What a reducer may declare, and reducing by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydantic import Field

import operando as op
from operando.config import Recipe
from operando.contract import ConfigError, ContractError, series
from operando.reduction import Products, Reducer, interface, reducer


class Factor(Recipe):
    factor: float = Field(default=1.0, description="multiplies (1)")


class Needed(Recipe):
    width: float = Field(description="of a peak (deg)")


def declared(**more: Any) -> Reducer:
    given: dict[str, Any] = {"technique": "xas", "kind": "frame", "products": ("reduced",), "recipe": Factor, "version": "1", **more}
    return reducer("toy", **given)(lambda frames, recipe, state: Products())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "backward"}, "kind is 'backward', not one of frame, forward, series"),
        ({"products": ()}, "declares no product"),
        ({"products": ("alignment",)}, "product 'alignment': the store keeps that name"),
        ({"products": ("skipped", "results")}, "product 'results'"),
        ({"products": ("process",)}, "product 'process'"),
        ({"products": ("sample",)}, "product 'sample'"),
        ({"products": ("frames",), "reads": "reduced"}, "only what reads images gives frames"),
        ({"products": ("frames",)}, "reads 'frames' and cannot give it too"),
        ({"products": ("reduced",), "reads": "reduced"}, "cannot give it too"),
        ({"products": ("a/b",)}, "is no name"),
        ({"products": ("reduced", "reduced")}, "named twice"),
        ({"reads": "alignment"}, "no product to reduce"),
        ({"technique": "xrf"}, "technique is 'xrf'"),
        ({"recipe": dict}, "no subclass"),
        ({"version": 1}, "version"),
        ({"recipe": Needed, "default": True}, "without a default: width"),
    ],
)
def test_what_cannot_be_is_refused_at_declaration(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError) as caught:
        declared(**given)
    assert "the reducer toy" in str(caught.value)
    assert words in str(caught.value)


def test_all_faults_of_a_declaration_at_once() -> None:
    with pytest.raises(ContractError) as caught:
        declared(kind="no", products=("alignment",), technique="no")
    assert str(caught.value).count("\n  - ") == 3


def test_images_become_frames() -> None:
    made = declared(products=("frames",), reads="images", about=("capacity",))
    assert made.reads == "images"
    assert made.about_of({"capacity": 2.0, "area": 1.0}) == {"capacity": 2.0}


@pytest.fixture
def spectra() -> xr.Dataset:
    """Eight frames of two positions in turn."""
    ds = series(
        "xas", {"mu": (("time", "energy"), np.arange(24.0).reshape(8, 3), "1")}, coords={"energy": ("energy", [1.0, 2.0, 3.0], "eV")},
        source="a.txt", start="2026-01-01T00:00:00Z", elapsed=np.arange(8) * 60.0, exposure=10.0, time_origin="header",
        attrs={"loader": "t", "loader_version": "1", "options": "{}"},
    )  # fmt: skip
    ds = ds.assign_coords(position=("time", np.arange(8) % 2, {"units": "1"}))
    return ds.assign_coords(time=("time", ds.time.values - np.timedelta64(37, "s")))


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> list[xr.Dataset]:
    calls: list[xr.Dataset] = []
    options: dict[str, Any] = {"technique": "xas", "recipe": Factor, "version": "1"}

    @reducer("count", kind="forward", products=("reduced",), **options)
    def count(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        calls.append(frames.copy(deep=True))
        n = (state or 0) + np.arange(1, frames.sizes["time"] + 1)
        frames["mu"].values[:] = 0  # its own copy
        return Products({"reduced": xr.Dataset({"n": ("time", n * recipe.factor, {"units": "1"})}, {"time": frames.time})}, state=int(n[-1]))

    @reducer("sum", kind="series", reads="reduced", products=("observables",), **options)
    def total(frames: xr.Dataset, recipe: Factor, state: Any = None) -> Products:
        return Products({"observables": xr.Dataset({"sum": ("time", frames.n.values.cumsum(), {"units": "1"})}, {"time": frames.time})})

    monkeypatch.setattr(interface, "reducers", lambda: {"count": count, "sum": total})
    return calls


CHAIN = {"stages": [{"reducer": "count", "factor": 2}, {"reducer": "sum"}]}


@pytest.mark.parametrize("memory", [10**9, 1000, 1])
def test_by_hand_the_rules_are_those_of_a_build(spectra: xr.Dataset, toys: list[xr.Dataset], memory: int) -> None:
    before = spectra.copy(deep=True)
    made = op.reduce(spectra, CHAIN, memory=memory)
    assert list(made) == ["reduced", "observables"]
    np.testing.assert_array_equal(made["reduced"].n.values, [2, 2, 4, 4, 6, 6, 8, 8])
    np.testing.assert_array_equal(made["observables"]["sum"].values[-1], 40)
    for ds in made.values():
        np.testing.assert_array_equal(ds.time.values, spectra.time.values)
        assert {"position", "exposure"} <= set(ds.coords)
    np.testing.assert_array_equal(toys[0].time.values[0], spectra.source_time.values[0])
    xr.testing.assert_identical(spectra, before)
    assert made["observables"].attrs["reducer"] == "sum"


def test_by_hand_what_does_not_fit_is_refused(spectra: xr.Dataset, toys: list[xr.Dataset]) -> None:
    with pytest.raises(ContractError, match="reduces xas"):
        op.reduce(spectra.assign_attrs(technique="xrd"), CHAIN)
    with pytest.raises(ContractError, match="without a zone"):
        op.reduce(spectra.assign_attrs(timezone_source="none"), CHAIN)
    with pytest.raises(ConfigError, match="stage 1 .sum.: reads 'reduced'"):
        op.reduce(spectra, {"stages": [{"reducer": "sum"}]})
    with pytest.raises(ConfigError, match="by default"):
        op.reduce(spectra)
