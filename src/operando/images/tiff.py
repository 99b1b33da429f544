"""Pages of TIFF files: how many there are, of what size, and the pixels of one of them, read when they are asked for.

A frame is a full picture of the file (TIFF 6.0): thumbnails and the coarser levels of a pyramid (NewSubfileType 1) are none. ImageJ writes stacks of
more than 4 GB with one directory only, the other pictures following the first without a gap; the description says how many. Colour is averaged to
grey.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import LoaderError
from operando.images.kept import Kept

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PAGES = "pages"
"""What stands for a dataset in references to TIFF files: their pages are read here and not by fabio."""

_LARGEST = 1 << 16


@dataclass
class Stack:
    """An open TIFF and what is in it.

    Attributes
    ----------
    frames
        Number of frames.
    shape, dtype
        Of a frame, (row, column), as `read` gives it.
    file
        The open `tifffile.TiffFile`.
    pages
        Number of the directory of each frame; one only where `contiguous`.
    contiguous
        Bytes from the file's begin to the first frame where the frames follow one another without directories of their own.
    cut
        What the file says of frames that it does not hold; empty where it is complete.
    """

    path: str
    frames: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    file: Any
    pages: list[int]
    contiguous: int | None = None
    cut: str = ""


def is_tiff(head: bytes) -> bool:
    """Say whether a file that begins so is a TIFF or BigTIFF."""
    return head[:4] in MAGICS


def stack(path: str | os.PathLike[str]) -> Stack:
    """Open a TIFF and list its frames; no pixel is read.

    Raises
    ------
    LoaderError
        tifffile is missing, the file is damaged, holds no picture of numbers, or pictures of different size.
    """
    return _STACKS.get(path)


def read(path: str | os.PathLike[str], index: int) -> np.ndarray:
    """Give the pixels of one frame, (row, column).

    Raises
    ------
    LoaderError
        As `stack`; or there is no such frame, or its data are damaged or cut off.
    """
    with _STACKS.lock:
        found = stack(path)
        if not 0 <= index < found.frames:
            raise LoaderError("there is no such frame", file=path, found=f"frame {index} of {found.frames}")
        try:
            with quiet():
                values = _contiguous(found, index) if found.contiguous is not None else _page(found, index)
        except LoaderError:
            raise
        except Exception as error:  # tifffile and its codecs raise whatever they find
            raise LoaderError("the frame cannot be read", file=path, found=f"page {index}: {type(error).__name__}: {str(error)[:160]}") from None
    values = _grey(np.asarray(values))
    if values.shape != found.shape:
        raise LoaderError("the frame is not complete", file=path, found=f"page {index}: {values.shape}", expected=found.shape)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _opened(name: str, size: int) -> Stack:
    try:
        import tifffile
    except ImportError:
        raise LoaderError("reading it needs tifffile", file=name, hint='pip install "operando[imaging]"') from None
    from operando.images.reading import refuse_impossible

    try:
        refuse_impossible(name)
        with quiet():
            file = tifffile.TiffFile(name)
    except LoaderError:
        raise
    except Exception as error:  # tifffile raises whatever it meets
        raise LoaderError(
            "cannot be read as TIFF", file=name, found=f"{type(error).__name__}: {str(error)[:160]}", hint="is it complete? copy it again"
        ) from None
    try:
        with quiet():
            return _listed(file, name, size)
    except LoaderError:
        file.close()
        raise
    except Exception as error:
        file.close()
        raise LoaderError("the TIFF is damaged", file=name, found=f"{type(error).__name__}: {str(error)[:160]}", hint="copy it again") from None


def _listed(file: Any, name: str, size: int) -> Stack:
    shapes: dict[tuple[int, ...], int] = {}
    pages = []
    for k in range(len(file.pages)):
        page = file.pages[k]
        if getattr(page, "subfiletype", 0) & 1:
            continue
        shapes[tuple(page.shape)] = shapes.get(tuple(page.shape), 0) + 1
        pages.append(k)
    if not pages:
        raise LoaderError("the TIFF holds no picture", file=name, found=f"{len(file.pages)} directories")
    if len(shapes) > 1:
        shown = ", ".join(f"{n} of {' x '.join(map(str, s))}" for s, n in list(shapes.items())[:4])
        raise LoaderError("the TIFF holds pictures of different size", file=name, found=shown, hint="save each size as a file of its own")
    first = file.pages[pages[0]]
    dtype = first.dtype
    if dtype is None or np.dtype(dtype).kind not in "iufb" or len(first.shape) not in (2, 3) or min(first.shape) < 1:
        raise LoaderError("the TIFF holds no picture of numbers", file=name, found=f"{first.shape} {dtype}", expected="rows and columns of numbers")
    if max(first.shape) > _LARGEST:
        raise LoaderError("the header is damaged", file=name, found=f"{' x '.join(map(str, first.shape))} pixels")
    colour = len(first.shape) == 3
    if colour and first.shape[-1] not in (2, 3, 4) and first.shape[0] not in (2, 3, 4):
        raise LoaderError("a page of the TIFF holds a volume", file=name, found=first.shape, hint="save its slices as pages")
    shape = first.shape if not colour else first.shape[:2] if first.shape[-1] in (2, 3, 4) else first.shape[1:]
    each = int(np.prod(first.shape)) * np.dtype(dtype).itemsize
    if each > 64 * size + (1 << 20) and each > 1000 * size:
        raise LoaderError("the header is damaged", file=name, found=f"{each} bytes of pixels in a file of {size}")
    made = Stack(name, len(pages), (int(shape[0]), int(shape[1])), np.dtype(np.float32) if colour else np.dtype(dtype).newbyteorder("="), file, pages)
    told = int((file.imagej_metadata or {}).get("images", 1) or 1) if file.is_imagej and len(pages) == 1 else 1
    if told > 1 and not colour and first.is_contiguous:  # ImageJ: one directory, and all frames after one another
        begin = int(first.dataoffsets[0])
        there = max(0, size - begin) // each
        if not 1 <= told <= there:
            raise LoaderError("the stack is cut off", file=name, found=f"{there} of {told} frames", hint="copy it again")
        made.frames, made.contiguous = told, begin
        return made
    beyond = _next_directory(file, size)
    if not beyond:
        last = file.pages[pages[-1]]
        ends = max((o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=False)), default=0)
        made.cut = f"the pixels of frame {len(pages) - 1} would end at byte {ends} of {size}" if ends > size else ""
        return made
    made.cut = f"the directory after frame {len(pages)} would lie at byte {beyond} of {size}"
    told = _shaped(file)
    if told > len(pages):
        made.cut += f"; {told} frames were written"
        if len(pages) == 1 and not colour and first.is_contiguous:  # tifffile: the pixels first and in one piece, then the directories
            begin = int(first.dataoffsets[0])
            made.frames, made.contiguous = min(told, max(1, (size - begin) // each)), begin
    return made


def _next_directory(file: Any, size: int) -> int | None:
    """Give where the last directory says that another one follows, if it cannot lie there: the file was longer once. None where all is well."""
    last = getattr(file.pages[len(file.pages) - 1], "offset", None)
    if not last:
        return None
    form = file.tiff
    with open(file.filehandle.path, "rb") as raw:
        raw.seek(last)
        tags = int.from_bytes(raw.read(form.tagnosize), "little" if form.byteorder == "<" else "big")
        raw.seek(last + form.tagnosize + tags * form.tagsize)
        word = raw.read(form.offsetsize)
    follows = int.from_bytes(word, "little" if form.byteorder == "<" else "big")
    if len(word) < form.offsetsize:  # cut off within the directory
        return size
    return follows if follows >= size else None


def _shaped(file: Any) -> int:
    """Give how many pictures tifffile says it wrote as one array; 0 where it says nothing."""
    told = [one.get("shape") for one in file.shaped_metadata or () if isinstance(one, dict)]
    shape = told[0] if len(told) == 1 else None
    if not isinstance(shape, list | tuple) or len(shape) < 3 or not all(isinstance(v, int) and 0 < v < 1 << 40 for v in shape):
        return 0
    return math.prod(shape[:-2]) if tuple(shape[-2:]) == tuple(file.pages[0].shape) else 0


def _page(found: Stack, index: int) -> np.ndarray:
    page = found.file.pages[found.pages[index]]
    try:
        return np.asarray(page.asarray(maxworkers=1))
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    try:  # a compression that tifffile leaves to another library: Pillow reads LZW, JPEG and CCITT
        from PIL import Image

        with Image.open(found.path) as image:
            image.seek(found.pages[index])
            return np.array(image)
    except Exception as error:
        raise LoaderError(
            "the compression of the TIFF is not known", file=found.path, found=f"{page.compression!s}: {error}", hint="pip install imagecodecs"
        ) from None


def _contiguous(found: Stack, index: int) -> np.ndarray:
    dtype = np.dtype(found.file.byteorder + found.dtype.char)
    count = found.shape[0] * found.shape[1]
    begin = (found.contiguous or 0) + index * count * dtype.itemsize
    return np.fromfile(found.path, dtype, count, offset=begin).reshape(found.shape)


def _grey(values: np.ndarray) -> np.ndarray:
    if values.ndim != 3:
        return values
    axis = 2 if values.shape[-1] in (2, 3, 4) else 0
    colours = values[..., :3] if axis == 2 else values[:3]
    return np.asarray(colours.mean(axis=axis, dtype=np.float32))


class quiet:
    """Keep tifffile's log to itself: what it says of damaged files is said once, as an error."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("tifffile")
        self.level = self.logger.level
        self.logger.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *args: object) -> None:
        self.logger.setLevel(self.level)


_STACKS: Kept[Stack] = Kept("TIFF", MAGICS, _opened, lambda kept: kept.file.close())
