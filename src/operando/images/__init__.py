"""Pixels by reference: (file, dataset, index) -> a frame, its chunk as it lies in the file, or all frames as one lazy array. The one way to pixels.

A series of technique `images` holds references; the pixels stay where they are. HDF5 in every layout (chunks of one frame or of several, contiguous,
external files, external links, virtual datasets), pages of TIFF, .xrm, and everything that fabio opens. What is missing is named, never read as
zeros.
"""

from operando._lazy import attach

_lazy = {
    "Chunk": "chunks",
    "read": "reading",
    "raw": "reading",
    "find": "reading",
    "read_array": "reading",
    "describe": "reading",
    "stack": "stacked",
    "oriented": "reading",
    "ORIENTATIONS": "reading",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = ["ORIENTATIONS", "Chunk", "describe", "find", "oriented", "raw", "read", "read_array", "stack"]
