"""Where a beamtime is kept: immutable parts and a manifest while it grows, one self-contained NeXus file once published.

`Store(path)` is the growing directory, `open_beamtime(path)` opens either as one lazy `xarray.DataTree`.
"""

from operando._lazy import attach

_lazy = {
    "OWN_ROWS": "directory",
    "RAW": "directory",
    "FileIdentities": "identity",
    "Part": "manifest",
    "Store": "directory",
    "Writer": "writing",
    "content_key": "identity",
    "describe": "summary",
    "open_beamtime": "opening",
    "overview_rows": "overview",
    "overviews": "opening",
    "provenance": "opening",
    "pyramid": "opening",
    "sha256_of": "files",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = [
    "OWN_ROWS",
    "RAW",
    "FileIdentities",
    "Part",
    "Store",
    "Writer",
    "content_key",
    "describe",
    "open_beamtime",
    "overview_rows",
    "overviews",
    "provenance",
    "pyramid",
    "sha256_of",
]
