"""`python -m operando.config [FILE]`: the JSON schema that editors complete and check beamtime.yaml with."""

import sys
from pathlib import Path

from operando.config.reading import json_schema

if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        raise SystemExit("usage: python -m operando.config [FILE]    prints the JSON schema of beamtime.yaml, or writes it to FILE")
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json_schema(), encoding="utf-8", newline="\n")
    else:
        sys.stdout.write(json_schema())
