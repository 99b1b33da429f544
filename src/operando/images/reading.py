"""Where a frame lies, and its pixels."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from operando.contract import LoaderError, StoreError
from operando.hdf5 import reading
from operando.images import tiff, xrm
from operando.images.chunks import BITSHUFFLE, LZ4, Chunk, decodes

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_DEPTH = 8  # links and virtual datasets that lead from one to the next
_SLAB = 1 << 30  # bytes of a chunk of several frames that are kept while its frames are read
_SLABS: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()
_SOURCES: OrderedDict[tuple[Any, ...], list[tuple[Any, Any]]] = OrderedDict()
_LARGEST = 1 << 16  # rows or columns: no detector has more, damaged headers do


def find(file: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> str:
    """Find a file where a reference says it is, or below a folder that it was moved to.

    Parameters
    ----------
    file
        As the reference names it; a relative name counts from `folder`.
    folder
        Where the files of the reference's folder lie now: tried with ever shorter ends of the name (`xrd/A_0001.h5`, then `A_0001.h5`).

    Raises
    ------
    LoaderError
        It is at none of these places.
    """
    name = os.fspath(file)
    parts = Path(name.replace("\\", "/")).parts
    tries = [Path(name)] if os.path.isabs(name) or folder is None else [Path(folder, name)]
    if folder is not None:
        tries += [Path(folder, *parts[k:]) for k in range(1, len(parts))]
    for one in tries:
        if one.is_file():
            return os.path.abspath(one)
    raise LoaderError(
        "the file of the frames is not there",
        file=name,
        found=f"looked in {folder} too" if folder is not None else None,
        hint="mount or copy it back, or say where the folder is now (folder=)",
    )


def read(file: str | os.PathLike[str], dataset: str = "", index: int = 0, *, folder: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Give the pixels of one frame.

    Parameters
    ----------
    file
        HDF5, TIFF, .xrm, or any image that fabio opens.
    dataset
        Name of the dataset in an HDF5 file; `pages` for a TIFF whose pages are frames; empty for other files.
    index
        Of the frame in it.
    folder
        See `find`.

    Returns
    -------
    numpy.ndarray
        (row, column), numbers of the file's own type in the machine's byte order.

    Raises
    ------
    LoaderError
        A file of those that hold it is missing or damaged, or there is no such frame.
    """
    found = raw(file, dataset, index, folder=folder)
    return found.decode() if isinstance(found, Chunk) else found


def raw(file: str | os.PathLike[str], dataset: str = "", index: int = 0, *, folder: str | os.PathLike[str] | None = None) -> Chunk | np.ndarray:
    """Give one frame as `read` does, or, where that is quicker, as a compressed chunk that any thread decodes without HDF5.

    Raises
    ------
    LoaderError
        As `read`.
    """
    path = find(file, folder)
    if not dataset:
        return _by_content(path, int(index))
    if dataset == tiff.PAGES:
        return tiff.read(path, int(index))
    try:
        return _by_hdf5(path, dataset, int(index), folder, 0)
    except StoreError as error:
        raise LoaderError(error.problem, file=error.file or path, found=error.found, hint=error.hint) from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise LoaderError(
            "the frame cannot be read", file=f"{path}::{dataset}[{index}]", found=f"{type(error).__name__}: {str(error)[:160]}"
        ) from None


def describe(file: str | os.PathLike[str], dataset: str, *, folder: str | os.PathLike[str] | None = None) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Give shape and type of a dataset of frames, through links into other files; nothing is read.

    Raises
    ------
    LoaderError
        A file is missing, or there is no such dataset.
    """
    path = find(file, folder)
    try:
        for _ in range(_DEPTH):
            with reading(path) as h5:
                linked = _external(h5, dataset)
                if linked is None:
                    found = h5[dataset]
                    return found.shape, found.dtype
            path, dataset = _beside(path, linked[0], folder), linked[1]
    except StoreError as error:
        raise LoaderError(error.problem, file=error.file, found=error.found) from None
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise LoaderError("there is no such dataset of frames", file=f"{path}::{dataset}", found=f"{type(error).__name__}") from None
    raise LoaderError("links lead from file to file without an end", file=path)


# --------------------------------------------------------------------------- HDF5


def _by_hdf5(path: str, dataset: str, index: int, folder: Any, depth: int) -> Chunk | np.ndarray:
    if depth > _DEPTH:
        raise LoaderError("links lead from file to file without an end", file=path, found=dataset)
    with reading(path) as h5:
        linked = _external(h5, dataset)
        if linked is None:
            found = h5[dataset]
            flat = found.ndim == 2
            if found.ndim not in (2, 3) or found.dtype.kind not in "iufb":
                raise LoaderError(
                    "no dataset of frames", file=f"{path}::{dataset}", found=f"{found.shape} {found.dtype}", expected="(frame, row, column)"
                )
            n = 1 if flat else found.shape[0]
            if not 0 <= index < n:
                raise LoaderError("there is no such frame", file=f"{path}::{dataset}", found=f"frame {index} of {n}")
            if found.is_virtual:
                piece = _piece(found, path, index, folder)
                if piece is not None:
                    return _by_hdf5(*piece, folder, depth + 1)
            return _stored(found, path, index, flat, folder)
    return _by_hdf5(_beside(path, linked[0], folder), linked[1], index, folder, depth + 1)


def _external(h5: Any, dataset: str) -> tuple[str, str] | None:
    """Find the first link to another file on the way to a dataset: that file, and the way on in it."""
    import h5py

    segments = [s for s in dataset.split("/") if s]
    for k in range(1, len(segments) + 1):
        link = h5.get("/".join(segments[:k]), getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return link.filename, "/".join([link.path.rstrip("/"), *segments[k:]])
    return None


def _beside(path: str, name: str, folder: Any) -> str:
    """Find a file that another names: beside that one, where the name says, or below the folder that all was moved to."""
    try:
        return find(os.path.join(os.path.dirname(path), name))
    except LoaderError:
        pass
    try:
        return find(name, os.path.dirname(path))  # written as an absolute name, and moved together with it
    except LoaderError:
        pass
    try:
        return find(name, folder if folder is not None else os.path.dirname(path))
    except LoaderError:
        raise LoaderError(
            "a file that holds the frames is missing", file=name, found=f"named by {path}", hint="copy it beside that file, or give folder="
        ) from None


def _piece(found: Any, path: str, index: int, folder: Any) -> tuple[str, str, int] | None:
    """Find which frame of which file a frame of a virtual dataset is; None if it is put together from several.

    HDF5 itself reads frames whose file is missing as zeros: that is refused here.
    """
    import h5py

    stat = os.stat(path)
    key = (path, stat.st_mtime_ns, stat.st_size, found.name)
    if key not in _SOURCES:  # there may be thousands
        _SOURCES[key] = [(source, _bounds(source.vspace)) for source in found.virtual_sources()]
        while len(_SOURCES) > 4:
            _SOURCES.popitem(last=False)
    inside: list[tuple[Any, Any, str]] = []
    for source, bounds in _SOURCES[key]:
        if bounds is None or bounds[0][0] <= index <= bounds[1][0]:
            own = source.file_name == "." or "%" in source.file_name  # a pattern of names: HDF5 fills it in
            inside.append((source, bounds, path if own else _beside(path, source.file_name, folder)))
    if not inside:
        raise LoaderError("no file holds this frame (yet)", file=f"{path}::{found.name}", found=f"frame {index} of a virtual dataset")
    source, bounds, where = inside[0]
    if len(inside) > 1 or found.ndim != 3 or bounds is None or "%" in source.file_name:
        return None
    (first, *low), (last, *high) = bounds
    whole = low == [0, 0] and [n + 1 for n in high] == list(found.shape[1:])
    dense = source.vspace.get_select_npoints() == (last - first + 1) * found.shape[1] * found.shape[2]
    everything = source.src_space.get_select_type() == h5py.h5s.SEL_ALL
    theirs = ((0,), (last - first,)) if everything else _bounds(source.src_space)
    if not whole or not dense or theirs is None or theirs[1][0] - theirs[0][0] != last - first or any(theirs[0][1:]):
        return None
    return where, source.dset_name, int(index - first + theirs[0][0])


def _bounds(space: Any) -> tuple[Any, Any] | None:
    """Give the corners of a selection; None where it has none (it grows without limit)."""
    try:
        low, high = space.get_select_bounds()
    except (ValueError, RuntimeError):
        return None
    return (low, high) if high[0] < 2**62 else None


def _stored(found: Any, path: str, index: int, flat: bool, folder: Any) -> Chunk | np.ndarray:
    """Read a frame of a dataset; called with HDF5's lock held."""
    for name, _, _ in found.external or ():
        _beside(path, name, folder)
    if flat:
        return _native(found[()])
    each = found.chunks[0] if found.chunks else 1
    if each == 1 and found.chunks and found.chunks[1:] == found.shape[1:] and _is_bitshuffle_lz4(found) and decodes(found.dtype.newbyteorder("=")):
        if found.dtype.isnative and found.id.get_chunk_info_by_coord((index, 0, 0)).size:
            mask, data = found.id.read_direct_chunk((index, 0, 0))
            if mask == 0:
                chunk = Chunk(np.frombuffer(data, np.uint8), found.shape[1:], found.dtype)
                chunk.check()
                return chunk
    slab = each * int(np.prod(found.shape[1:])) * found.dtype.itemsize
    if each == 1 or slab > _SLAB:
        return _native(found[index])
    stat = os.stat(path)
    key = (path, stat.st_mtime_ns, stat.st_size, found.name, index // each)
    if key not in _SLABS:
        _SLABS[key] = found[index // each * each : (index // each + 1) * each]
        while len(_SLABS) > 2:
            _SLABS.popitem(last=False)
    return _native(_SLABS[key][index % each])


def _is_bitshuffle_lz4(found: Any) -> bool:
    plan = found.id.get_create_plist()
    if plan.get_nfilters() != 1:
        return False
    number, _, values, _ = plan.get_filter(0)
    return number == BITSHUFFLE and len(values) >= 5 and values[4] == LZ4


def _native(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


# --------------------------------------------------------------------------- other files


def open_with_fabio(path: str | os.PathLike[str]) -> Any:
    """Open an image with fabio, its header first held against what the file can hold.

    Raises
    ------
    LoaderError
        fabio is missing, or cannot read it.
    """
    try:
        import fabio
    except ImportError:
        raise LoaderError("reading it needs fabio", file=path, hint='pip install "operando[xrd]"') from None
    refuse_impossible(path)
    said = logging.getLogger("fabio")
    level = said.level
    said.setLevel(logging.CRITICAL)  # what it says of damaged files is said again below, once
    try:
        image = fabio.open(os.fspath(path))
        shape = image.data.shape if image.data is not None else ()
    except Exception as error:  # fabio raises whatever its readers raise
        raise LoaderError(
            "cannot be read as a detector frame",
            file=path,
            found=f"{type(error).__name__}: {str(error)[:160]}",
            hint="is it complete, and of a format that fabio knows?",
        ) from None
    finally:
        said.setLevel(level)
    if len(shape) != 2 or image.data.dtype.kind not in "iufb":
        raise LoaderError("no detector frame", file=path, found=f"{shape} {getattr(image.data, 'dtype', '')}", expected="rows and columns of numbers")
    return image


def refuse_impossible(path: str | os.PathLike[str]) -> None:
    """Refuse a file that fabio would not come to an end with: too many pixels in its header, a CBF without its data, a TIFF that runs in circles.

    Raises
    ------
    LoaderError
        It is one.
    """
    import re

    try:
        size = os.path.getsize(path)
        with open(path, "rb") as f:
            head = f.read(65536)
    except OSError as error:
        raise LoaderError("cannot be opened", file=path, found=error.strerror) from None
    rows = columns = 0
    if head[128:140] == b"mar research":
        order: Any = "little" if int.from_bytes(head[:4], "little") == 1234 else "big"
        rows = columns = int.from_bytes(head[4:8], order)
    elif head.startswith(b"###CBF") or os.fspath(path).lower().endswith((".cbf", ".cbf.gz")):
        begin = head.find(b"--CIF-BINARY-FORMAT-SECTION--")
        if begin < 0 or head.find(b"\x0c\x1a\x04\xd5", begin) < 0:
            raise LoaderError("the file is damaged: a CBF without its data", file=path, hint="copy it again")
        found = dict(re.findall(rb"X-Binary-Size-(Fastest|Second)-Dimension:\s*(\d{1,12})", head))
        rows, columns = int(found.get(b"Second", 0)), int(found.get(b"Fastest", 0))
        if rows * columns > size:  # one byte a pixel is the least that byte offsets take
            raise LoaderError("the header is damaged", file=path, found=f"{rows} x {columns} pixels in {size} bytes")
    elif head[:4] in (b"II*\0", b"MM\0*"):
        _refuse_circles(path, "little" if head[:2] == b"II" else "big")
    elif head.lstrip()[:1] == b"{":
        found = dict(re.findall(rb"Dim_([12])\s*=\s*(\d{1,12})", head))
        rows, columns = int(found.get(b"2", 1)), int(found.get(b"1", 1))
    if max(rows, columns) > _LARGEST:
        raise LoaderError("the header is damaged", file=path, found=f"{rows} x {columns} pixels")


def _refuse_circles(path: str | os.PathLike[str], order: Any) -> None:
    """Follow a TIFF from one directory to the next (TIFF 6.0, section 2)."""
    seen: set[int] = set()
    with open(path, "rb") as f:
        f.seek(4)
        offset = int.from_bytes(f.read(4), order)
        while offset:
            if offset in seen or len(seen) > 100_000:
                raise LoaderError("the file is damaged: a TIFF whose directories have no end", file=path, hint="copy it again")
            seen.add(offset)
            f.seek(offset)
            entries = int.from_bytes(f.read(2), order)
            f.seek(offset + 2 + 12 * entries)
            offset = int.from_bytes(f.read(4), order)


def _by_content(path: str, index: int) -> np.ndarray:
    """Read a frame of a file that is no HDF5: by what its first bytes say it is."""
    with open(path, "rb") as f:
        head = f.read(8)
    if head == xrm.MAGIC:
        return xrm.read(path, index)
    several = index > 0 and find_spec("tifffile") is not None
    if tiff.is_tiff(head) and (several or find_spec("fabio") is None):  # fabio takes account of what detectors write into TIFF
        return tiff.read(path, index)
    return _by_fabio(path, index)


def _by_fabio(path: str, index: int) -> np.ndarray:
    image = open_with_fabio(path)
    if not 0 <= index < max(int(image.nframes), 1):
        raise LoaderError("there is no such frame", file=path, found=f"frame {index} of {image.nframes}")
    try:
        values = image.data if index == 0 else image.get_frame(index).data
    except Exception as error:  # fabio raises whatever its readers raise
        raise LoaderError("the frame cannot be read", file=path, found=f"frame {index}: {type(error).__name__}: {error}") from None
    return _native(values)


# --------------------------------------------------------------------------- orientation

ORIENTATIONS = ("as-read", "up-down", "left-right", "rotate-180", "transpose", "rotate-90", "rotate-270", "anti-transpose")
"""What may have to be done to frames before they look as the geometry takes them: mirrored, turned counter-clockwise, rows and columns exchanged."""


def oriented(frame: np.ndarray, orientation: str) -> np.ndarray:
    """Give a frame as it looks after one of `ORIENTATIONS` (a view)."""
    if orientation in ("transpose", "anti-transpose", "rotate-90", "rotate-270"):
        frame = frame.T
    up_down = orientation in ("up-down", "rotate-180", "rotate-90", "anti-transpose")
    left_right = orientation in ("left-right", "rotate-180", "rotate-270", "anti-transpose")
    return frame[:: -1 if up_down else 1, :: -1 if left_right else 1]


# --------------------------------------------------------------------------- masks, flats, darks


def read_array(spec: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Read an array that belongs to a detector (mask, flat, dark): `.npy`, any image, or `file.h5::dataset`.

    Several frames are averaged.

    Raises
    ------
    LoaderError
        It cannot be read, or is no array of rows and columns.
    """
    name, _, dataset = os.fspath(spec).partition("::")
    path = find(name, folder)
    with open(path, "rb") as f:
        magic = f.read(8)
    try:
        if magic.startswith(b"\x93NUMPY"):
            values = np.load(path, allow_pickle=False)
        elif magic == HDF5_MAGIC:
            if not dataset:
                raise LoaderError("which dataset is meant is not said", file=path, expected=f"{Path(name).name}::entry/path/to/it")
            with reading(path) as h5:
                values = h5[dataset][()]
        else:
            values = open_with_fabio(path).data
    except LoaderError:
        raise
    except Exception as error:  # numpy, h5py and fabio raise whatever their readers raise
        raise LoaderError("the array cannot be read", file=spec, found=f"{type(error).__name__}: {str(error)[:160]}") from None
    values = np.asarray(values)
    if values.ndim == 3:
        values = values[0] if values.shape[0] == 1 else values.mean(axis=0)
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise LoaderError("is no array of rows and columns", file=spec, found=f"{values.shape} {values.dtype}")
    return _native(values)
