"""Settings of the reduction of images; every position is in px, 0 the centre of the first row or column of a frame as it is turned."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from operando.config import MeasuredFile, Recipe

Pixel = Annotated[float, Field(ge=-1e6, le=1e6)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Region(_Part):
    """A rectangle."""

    rows: tuple[int, int] | None = Field(None, description="first row and the one after the last (px); default: all")
    columns: tuple[int, int] | None = Field(None, description="first column and the one after the last (px); default: all")

    @model_validator(mode="after")
    def _holds_something(self) -> Region:
        for name, span in (("rows", self.rows), ("columns", self.columns)):
            if span is not None and not 0 <= span[0] < span[1]:
                raise ValueError(f"{name}: holds no pixel: [first, one after the last], counted from 0")
        return self


class Drift(_Part):
    """How the picture's displacement is measured: on something that does not change but for its position."""

    region: Region = Field(
        default=Region.model_construct(rows=None, columns=None),
        description="what does not move by itself (px): a collector, a fiducial; default: the whole picture",
    )
    most: float = Field(40.0, gt=0, le=1e4, description="largest displacement that is believed (px)")


class Edge(_Part):
    """An edge that crosses a line: profiles beside one another are averaged over the band's width."""

    line: tuple[tuple[Pixel, Pixel], tuple[Pixel, Pixel]] = Field(
        description="[[row, column], [row, column]] from where to where the edge is looked for (px)"
    )
    width: int = Field(1, ge=1, le=100_000, description="of the band across the line (px)")
    polarity: Literal["rising", "falling", "any"] = Field("any", description="whether the signal rises or falls along the line")
    method: Literal["erf", "gradient"] = Field("erf", description="fit of a blurred step, or the place of the largest slope")
    window: float = Field(8.0, ge=2, le=1e4, description="how far on either side of the edge the fit looks (px)")
    search: float | None = Field(
        None, gt=0, le=1e5, description="how far from where it was in the frame before the edge is looked for (px); default: on the whole line"
    )

    @model_validator(mode="after")
    def _is_a_line(self) -> Edge:
        if self.length < 4:
            raise ValueError("line: is shorter than 4 px")
        if self.length > 1e5:
            raise ValueError("line: is longer than 100000 px")
        return self

    @property
    def length(self) -> float:
        """Length of the line, px."""
        (y0, x0), (y1, x1) = self.line
        return math.hypot(y1 - y0, x1 - x0)

    @property
    def direction(self) -> tuple[float, float]:
        """Unit vector (row, column) along the line."""
        (y0, x0), (y1, x1) = self.line
        return (y1 - y0) / self.length, (x1 - x0) / self.length


class Imaging(Recipe):
    """Settings of the reduction of images."""

    reducer: str = "imaging"
    flat: MeasuredFile | None = Field(None, description="the picture without the sample (a mean over its frames): frames are divided by it")
    dark: MeasuredFile | None = Field(None, description="the picture without light, of the frames' exposure: it is subtracted from frames and flat")
    quantity: Literal["auto", "intensity", "transmission", "optical_density"] = Field(
        "auto",
        description="what regions, edges and previews are of: transmission (1) with a flat, else counts; optical density is -ln(transmission) (1)",
    )
    blank: Region | None = Field(
        None, description="where nothing is in the beam (px): its mean is set to 1 in every frame, for lamps and beams that vary"
    )
    normalise: str | None = Field(
        None, description="coordinate of the frames (its unit) that intensities are divided by: monitor, exposure, ring_current"
    )
    drift: Drift | None = Field(None, description="how drift is measured; without it nothing is corrected for it")
    regions: dict[str, Region] = Field(default_factory=dict, description="name: rectangle whose mean is followed (px); it moves with the drift")
    edges: dict[str, Edge] = Field(default_factory=dict, description="name: edge that is followed (px); its line moves with the drift")
    thickness: dict[str, tuple[str, str]] = Field(default_factory=dict, description="name: [edge, edge], the distance between two edges (px, um)")
    pixel_size: float | None = Field(None, gt=0, lt=1e5, description="of the frames (um), instead of what their files say")
    preview: int = Field(128, ge=8, le=2048, description="longer side of the small pictures that are kept of every frame (px)")

    @model_validator(mode="after")
    def _names_fit(self) -> Imaging:
        for name, pair in self.thickness.items():
            unknown = [edge for edge in pair if edge not in self.edges]
            if unknown:
                raise ValueError(f"thickness: {name}: there is no edge {unknown[0]!r}; edges: has {', '.join(self.edges) or 'none'}")
            if pair[0] == pair[1]:
                raise ValueError(f"thickness: {name}: lies between an edge and itself")
        if self.quantity in ("transmission", "optical_density") and self.flat is None and self.blank is None:
            raise ValueError(f"quantity: {self.quantity} needs flat: or blank:")
        return self
