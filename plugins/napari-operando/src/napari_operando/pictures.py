"""Detector and microscope frames by reference: the store knows file, dataset and index, the pixels stay in their files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

import operando as op


class Pictures:
    """The frames of an images series.

    Parameters
    ----------
    ds
        The table: `file`, and where a file holds several frames `dataset` and `index`, over time. Frames are turned as its attribute `detector` says.
    folder
        What relative names start from: where the store lies.
    moved
        Folders in which files are looked for that are not where the table says; the longest end of the path that is found there counts.
    """

    def __init__(self, ds: xr.Dataset, folder: Path, moved: Iterable[Path] = ()) -> None:
        self.file = np.asarray(ds["file"].values, object)
        self.dataset = np.asarray(ds["dataset"].values, object) if "dataset" in ds else None
        self.index = np.asarray(ds["index"].values) if "index" in ds else None
        self.orientation = _orientation(ds)
        self.folders = [*moved, folder]
        self._found: dict[str, tuple[str, Path]] = {}

    def __len__(self) -> int:
        return len(self.file)

    def look_in(self, folder: Path) -> None:
        """Look for files in another folder too."""
        self.folders.insert(0, folder)
        self._found.clear()

    def read(self, index: int) -> np.ndarray:
        """Read the pixels of a frame, (y, x).

        Raises
        ------
        operando.OperandoError
            The file is missing or damaged, or holds no such frame; the message says which.
        """
        path, folder = self._find(str(self.file[index]))
        which = int(self.index[index]) if self.index is not None else 0
        dataset = str(self.dataset[index]) if self.dataset is not None else ""
        picture = op.images.read(path, dataset, which, folder=folder)
        return op.images.oriented(picture, self.orientation) if self.orientation else picture

    def _find(self, name: str) -> tuple[str, Path]:
        """Find a file, and the folder below which it is."""
        if name not in self._found:
            for folder in self.folders:
                try:
                    self._found[name] = (op.images.find(name, folder), folder)
                    break
                except op.OperandoError:
                    continue
            else:
                raise op.contract.LoaderError(
                    "not found",
                    file=name,
                    found=f"looked in {', '.join(map(str, self.folders))}",
                    hint="if it was moved, name the folder: Show > Find images, or operando view --images FOLDER",
                )
        return self._found[name]


class SmallPictures:
    """Small pictures that the store itself holds (time, y, x): what `imaging` keeps of every frame, flat and dark and drift taken off.

    Parameters
    ----------
    values
        The variable.
    """

    def __init__(self, values: xr.DataArray) -> None:
        self.values = values

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (y, x)."""
        return int(self.values.shape[1]), int(self.values.shape[2])

    def look_in(self, folder: Path) -> None:
        """They need no other file."""

    def read(self, index: int) -> np.ndarray:
        """Read one, (y, x).

        Raises
        ------
        ValueError
            It shows nothing: the frame could not be read, or its drift was not found.
        """
        picture = np.asarray(self.values[index].values, np.float32)
        if not np.isfinite(picture).any():
            raise ValueError("the frame gave no small picture: it could not be read, or its drift was not found")
        return picture

    @property
    def grid(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Pixels of the frame to one of the small picture (y, x), and where its first one lies."""
        steps, first = [], []
        for dim in self.values.dims[1:]:
            at = np.asarray(self.values[dim].values, float) if dim in self.values.coords else np.arange(self.values.sizes[dim], dtype=float)
            step = float(at[1] - at[0]) if at.size > 1 else 1.0
            steps.append(step if np.isfinite(step) and step > 0 else 1.0)
            first.append(float(at[0]) if at.size and np.isfinite(at[0]) else 0.0)
        return (steps[0], steps[1]), (first[0], first[1])


def _orientation(ds: xr.Dataset) -> str:
    """Read how the frames are turned before they are looked at; empty if not at all or not known."""
    try:
        said = json.loads(str(ds.attrs.get("detector", "{}"))).get("orientation", "")
    except (ValueError, AttributeError):
        return ""
    return said if said in op.images.ORIENTATIONS else ""
