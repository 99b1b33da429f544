"""`operando new DIR`: what lies in a folder, and a first beamtime.yaml for it.

`look` walks the folder and asks the loaders which files they know by content; `propose` writes what it found as a commented
beamtime.yaml, with a question where it could not tell. Nothing is guessed silently and nothing is ever overwritten (`write`).
"""

from operando._lazy import attach

_lazy = {
    "Findings": "findings",
    "Group": "findings",
    "Progress": "looking",
    "as_dict": "findings",
    "look": "looking",
    "propose": "proposing",
    "summary": "findings",
    "write": "proposing",
}
__getattr__, __dir__ = attach(__name__, _lazy)

__all__ = ["Findings", "Group", "Progress", "as_dict", "look", "propose", "summary", "write"]
