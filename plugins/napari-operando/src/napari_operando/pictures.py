"""Detector and microscope frames by reference: the store knows file, dataset and index, the pixels stay in their files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

HDF5 = (".h5", ".hdf5", ".nxs", ".hdf", ".cxi")


class Pictures:
    """The frames of an images series.

    Parameters
    ----------
    ds
        The table: `file`, and where a file holds several frames `dataset` and `index`, over time.
    folder
        What relative names start from: where the store lies.
    moved
        Folders in which files are looked for that are not where the table says; the longest end of the path that is found there counts.
    """

    def __init__(self, ds: xr.Dataset, folder: Path, moved: Iterable[Path] = ()) -> None:
        self.file = np.asarray(ds["file"].values, object)
        self.dataset = np.asarray(ds["dataset"].values, object) if "dataset" in ds else None
        self.index = np.asarray(ds["index"].values) if "index" in ds else None
        self.folder, self.moved = folder, list(moved)
        self._found: dict[str, Path] = {}

    def __len__(self) -> int:
        return len(self.file)

    def look_in(self, folder: Path) -> None:
        """Look for files in another folder too."""
        self.moved.insert(0, folder)
        self._found.clear()

    def path(self, index: int) -> Path:
        """Find the file of a frame.

        Raises
        ------
        FileNotFoundError
            It is neither where the store says nor in a folder that was named.
        """
        name = str(self.file[index])
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Path:
        said = self.folder / name  # an absolute name stays what it is
        if said.is_file():
            return said
        parts = Path(name.replace("\\", "/")).parts
        for folder in self.moved:
            for first in range(len(parts)):
                there = folder.joinpath(*[p for p in parts[first:] if p not in ("/", "..")])
                if there.is_file():
                    return there
        looked = f" or in {', '.join(map(str, self.moved))}" if self.moved else ""
        raise FileNotFoundError(f"{Path(name).name} is not in {said.parent}{looked}: if it was moved, name the folder (Operando > Find images)")

    def read(self, index: int) -> np.ndarray:
        """Read the pixels of a frame, (y, x).

        Raises
        ------
        OSError, ValueError, KeyError
            The file is missing or damaged, or holds no such frame; the message says which.
        """
        path = self.path(index)
        which = int(self.index[index]) if self.index is not None else 0
        dataset = str(self.dataset[index]) if self.dataset is not None else ""
        picture = _hdf5(path, dataset, which) if dataset and path.suffix.lower() in HDF5 else _other(path, which)
        if picture.ndim != 2:
            raise ValueError(f"{path.name}: a frame has 2 dims, not {picture.ndim}")
        return picture

    def first(self) -> tuple[tuple[int, int], np.dtype] | None:
        """Give size and type of the first frame that can be read, of a few tried; None if none can."""
        for index in np.unique(np.linspace(0, len(self) - 1, min(len(self), 8)).astype(int)) if len(self) else ():
            try:
                picture = self.read(int(index))
            except Exception:  # noqa: S112 - the next one may do; each says what is wrong when it is looked at
                continue
            return (picture.shape[0], picture.shape[1]), picture.dtype
        return None


def _hdf5(path: Path, dataset: str, index: int) -> np.ndarray:
    import h5py
    import hdf5plugin  # noqa: F401 (registers the compression filters)

    with h5py.File(os.fspath(path), "r", locking=False) as h5:
        if dataset not in h5:
            raise KeyError(f"{path.name} holds no dataset {dataset}")
        found = h5[dataset]
        if found.ndim == 2:
            return np.asarray(found[()])
        if found.ndim != 3 or not 0 <= index < found.shape[0]:
            raise ValueError(f"{path.name}: {dataset} of shape {found.shape} holds no frame {index}")
        return np.asarray(found[index])


def _other(path: Path, index: int) -> np.ndarray:
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as tif:
            if not 0 <= index < len(tif.pages):
                raise ValueError(f"{path.name} holds {len(tif.pages)} pictures, not one of number {index}")
            return np.asarray(tif.pages[index].asarray())
    try:
        import fabio
    except ImportError as error:
        raise ValueError(f"{path.name} needs the library fabio: pip install fabio") from error
    with fabio.open(os.fspath(path)) as image:
        return np.asarray((image.getframe(index) if index else image).data)
