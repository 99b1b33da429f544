"""Images of Zeiss Xradia microscopes (.xrm, .txrm): streams in an OLE compound file.

`ImageInfo/ImageWidth`, `ImageHeight`, `NoOfImages` and `DataType` (3 uint8, 5 uint16, 10 float32) say what there is; the pixels of picture n (from 1)
are the stream `ImageData<1 + (n - 1) // 100>/Image<n>`, rows one after the other, little-endian. What is said per picture (`Date`, `ExpTimes`,
`Energy`, `Angles`) stands in one stream each, a number or a field of text after the other. Seen in files of a transmission X-ray microscope and as
public readers take them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.contract import LoaderError
from operando.images.kept import Kept

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TYPES: dict[int, np.dtype[Any]] = {3: np.dtype("u1"), 5: np.dtype("<u2"), 10: np.dtype("<f4")}
_LARGEST = 1 << 16


@dataclass
class Xrm:
    """An open file.

    Attributes
    ----------
    frames
        Pictures taken (`ImagesTaken`), or that there should be where that is not said.
    shape, dtype
        Of a picture.
    ole
        The open `olefile.OleFileIO`.
    """

    path: str
    frames: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    ole: Any

    def numbers(self, name: str, kind: str = "f") -> np.ndarray:
        """Give a stream of 4-byte numbers (kind f or i); empty if there is none."""
        data = self.bytes(name)
        return np.frombuffer(data[: len(data) // 4 * 4], f"<{kind}4")

    def text(self, name: str) -> str:
        """Give a stream as text, up to its first zero byte."""
        return _text(self.bytes(name))

    def texts(self, name: str) -> list[str]:
        """Give one text per picture from a stream of fields of equal width."""
        data = self.bytes(name)
        width = len(data) // max(self.frames, 1)
        return [_text(data[k * width : (k + 1) * width]) for k in range(self.frames)] if width else []

    def bytes(self, name: str) -> bytes:
        """Give a stream; empty if there is none.

        Raises
        ------
        LoaderError
            The stream is damaged.
        """
        with _FILES.lock:
            return _stream(self.ole, name, self.path) if self.ole.exists(name) else b""


def xrm(path: str | os.PathLike[str]) -> Xrm:
    """Open a file and read what it holds; no pixel is read.

    Raises
    ------
    LoaderError
        olefile is missing; the file is damaged, or is no picture of these microscopes.
    """
    return _FILES.get(path)


def read(path: str | os.PathLike[str], index: int) -> np.ndarray:
    """Give the pixels of one picture, (row, column).

    Raises
    ------
    LoaderError
        As `xrm`; there is no such picture, or it is cut off.
    """
    with _FILES.lock:
        found = xrm(path)
        name = f"ImageData{1 + index // 100}/Image{1 + index}"
        if index < 0 or not found.ole.exists(name):
            raise LoaderError("there is no such frame", file=path, found=f"frame {index} of {found.frames}")
        data = _stream(found.ole, name, found.path)
    expected = found.shape[0] * found.shape[1] * found.dtype.itemsize
    if len(data) < expected:
        raise LoaderError("the frame is not complete", file=path, found=f"{len(data)} bytes in {name}", expected=expected)
    values = np.frombuffer(data[:expected], found.dtype).reshape(found.shape)
    return values.astype(found.dtype.newbyteorder("="))


def _opened(name: str, size: int) -> Xrm:
    try:
        import olefile
    except ImportError:
        raise LoaderError("reading it needs olefile", file=name, hint='pip install "operando[imaging]"') from None
    try:
        ole = olefile.OleFileIO(name)
    except Exception as error:  # olefile raises OSError, and whatever damaged tables lead to
        raise LoaderError(
            "cannot be read as .xrm: no sound OLE file", file=name, found=f"{type(error).__name__}: {str(error)[:160]}", hint="copy it again"
        ) from None
    try:
        return _described(ole, name, size)
    except LoaderError:
        ole.close()
        raise
    except Exception as error:
        ole.close()
        raise LoaderError("the .xrm is damaged", file=name, found=f"{type(error).__name__}: {str(error)[:160]}", hint="copy it again") from None


def _described(ole: Any, name: str, size: int) -> Xrm:
    def one(stream: str) -> int:
        data = _stream(ole, f"ImageInfo/{stream}", name) if ole.exists(f"ImageInfo/{stream}") else b""
        return int(struct.unpack("<i", data[:4])[0]) if len(data) >= 4 else 0

    width, height, kind = one("ImageWidth"), one("ImageHeight"), one("DataType")
    frames = one("ImagesTaken") or one("NoOfImages")
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        raise LoaderError(
            "no picture of an X-ray microscope", file=name, found=f"{height} x {width} pixels", expected="ImageInfo/ImageWidth and ImageHeight"
        )
    if kind not in _TYPES:
        raise LoaderError("the type of the pixels is not known", file=name, found=f"DataType {kind}", expected="3 (uint8), 5 (uint16), 10 (float32)")
    if not 0 < frames <= max(1, size // (width * height * _TYPES[kind].itemsize)):
        raise LoaderError(
            "the file is cut off, or its header is damaged", file=name, found=f"{frames} pictures of {height} x {width} in {size} bytes"
        )
    return Xrm(name, frames, (height, width), _TYPES[kind], ole)


def _stream(ole: Any, name: str, path: str) -> bytes:
    try:
        return bytes(ole.openstream(name).read())
    except Exception as error:  # what damaged tables of sectors lead to
        raise LoaderError(
            "the file is damaged", file=path, found=f"{name}: {type(error).__name__}: {str(error)[:120]}", hint="copy it again"
        ) from None


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("latin-1").strip()


_FILES: Kept[Xrm] = Kept(".xrm", (MAGIC,), _opened, lambda kept: kept.ole.close())
