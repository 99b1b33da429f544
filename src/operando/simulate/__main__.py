"""`python -m operando.simulate DIR`: write a simulated beamtime."""

from __future__ import annotations

import argparse
import sys
import time

from operando.simulate.beamtime import INSTRUMENTS, simulate

_EXAMPLES = """\
examples:
  python -m operando.simulate example_beamtime                       the example: one cell, three cycles, every instrument
  python -m operando.simulate late --without echem                   raw data whose electrochemistry has not been delivered yet ...
  python -m operando.simulate late --only echem                      ... and the delivery
  python -m operando.simulate big --only echem,xrd --frames 20000 --hours 200
  python -m operando.simulate eiger --only echem,xrd --detector eiger4m --frames 500
  python -m operando.simulate two --cells 2 --seed 7
"""


def main(argv: list[str] | None = None) -> int:
    """Parse, simulate, say how long it took."""
    parser = argparse.ArgumentParser(
        prog="python -m operando.simulate",
        description="Simulate a beamtime on a battery cell whose truth is known, in the file formats that instruments write. "
        f"Instruments: {', '.join(INSTRUMENTS)}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--seed", type=int, default=20260603, help="of all chance; the same seed gives the same files (default: %(default)s)")
    parser.add_argument("--cycles", type=int, default=3, help="cycles (default: %(default)s)")
    parser.add_argument("--hours", type=float, help="how long the cell is cycled, instead of --cycles; the last cycle is finished")
    parser.add_argument("--frames", type=int, help="diffraction frames of each cell (default: one every eight minutes)")
    parser.add_argument("--detector", choices=("pilatus100k", "eiger4m"), help="default: pilatus100k")
    parser.add_argument("--cells", type=int, default=1, help="cells, named A, B, C ... (default: %(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help="write these instruments only")
    parser.add_argument("--without", metavar="NAME,...", default="", help="leave these out")
    args = parser.parse_args(argv)
    began = time.monotonic()
    try:
        path = simulate(
            args.folder,
            seed=args.seed,
            cycles=args.cycles,
            hours=args.hours,
            frames=args.frames,
            detector=args.detector,
            cells=args.cells,
            only=None if args.only is None else _names(args.only),
            without=_names(args.without),
            progress=lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr),
        )
    except KeyboardInterrupt:
        print("\nstopped; the same command writes the simulation anew", file=sys.stderr)
        return 130
    except MemoryError:
        print("python -m operando.simulate: the states of so long a run do not fit into memory; fewer --hours", file=sys.stderr)
        return 1
    except (ValueError, ImportError, OSError) as error:
        print(f"python -m operando.simulate: {error}", file=sys.stderr)
        return 1
    print(f"{path}: written in {time.monotonic() - began:.0f} s\n  operando check {path}\n  operando build {path}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
