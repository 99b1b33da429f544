"""The command line: parse, call, print. Everything that takes time to import is imported inside the command that needs it.

Standard output carries the answer (with `--json` one JSON object and nothing else), standard error messages and progress.
Exit status: 0 done, 1 the input is at fault (the message says file, found, expected, what to do), 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from operando import __version__
from operando.contract.errors import OperandoError

_EPILOG = """\
a beamtime from raw files to one store:
  operando new DIR                 look at a folder, propose a beamtime.yaml
  operando check beamtime.yaml     how every stream stands on the electrochemical timeline
  operando build beamtime.yaml     load, align, reduce, save: beamtime.nxs
  operando info beamtime.nxs       what is in it
  operando view beamtime.nxs       see it (needs napari-operando)
no data at hand:
  operando demo                    a simulated beamtime, from raw files to figures, recovered beside true
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="operando",
        description="Operando battery experiments: every frame on the electrochemical timeline of its cell, in one store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"operando {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str, examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog="examples:\n" + examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    new = command(
        "new",
        _new,
        "look at a folder and propose a commented beamtime.yaml",
        "  operando new .\n  operando new raw/ -o beamtime.yaml\n  operando new raw/ -o -",
    )
    new.add_argument("folder", metavar="DIR", type=Path)
    new.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: DIR/beamtime.yaml; - prints it); never overwrites")
    new.add_argument("--json", action="store_true", help="print what was found as one JSON object, write nothing")

    check = command(
        "check",
        _check,
        "say how every stream stands on the electrochemical timeline; writes no store",
        "  operando check beamtime.yaml\n  operando check beamtime.yaml --png alignment.png\n  operando check beamtime.yaml --json",
    )
    check.add_argument("config", metavar="FILE.yaml", type=Path)
    check.add_argument("--png", metavar="FILE", type=Path, help="the figure (default: FILE_alignment.png beside FILE.yaml; .svg and .pdf work too)")
    check.add_argument("--no-png", action="store_true", help="draw nothing")
    check.add_argument("--json", action="store_true", help="print the report as one JSON object")

    build = command(
        "build",
        _build,
        "load, align, reduce and save; resumes where an earlier run stopped",
        "  operando build beamtime.yaml\n  operando build beamtime.yaml -o results/june.nxs --workers 2\n"
        "  operando build beamtime.yaml --memory '500 MB' --rehash",
    )
    build.add_argument("config", metavar="FILE.yaml", type=Path)
    build.add_argument("-o", "--output", metavar="STORE", type=Path, help="the store (default: FILE.nxs beside FILE.yaml)")
    build.add_argument("--workers", metavar="N", type=_positive, help="processes that read files (default: settings.workers, else 1)")
    build.add_argument("--memory", metavar="SIZE", help="memory for frames, such as '500 MB' (default: settings.memory, else 1 GB)")
    build.add_argument("--rehash", action="store_true", help="read every input again to see whether it changed")
    build.add_argument("--json", action="store_true", help="print what was done as one JSON object")

    info = command("info", _info, "say what a store holds", "  operando info beamtime.nxs\n  operando info beamtime.operando --json")
    info.add_argument("store", metavar="STORE", type=Path)
    info.add_argument("--json", action="store_true", help="print it as one JSON object")

    view = command(
        "view",
        _view,
        "show a store in a window: images, waterfalls, voltage, fractions and impedance under one cursor",
        "  operando view beamtime.nxs\n  operando view beamtime.operando --cell B\n  operando view beamtime.nxs --images /mnt/disk/raw",
    )
    view.add_argument("store", metavar="STORE", type=Path)
    view.add_argument("--cell", metavar="NAME", help="the cell to begin with (default: the first)")
    view.add_argument(
        "--images", metavar="DIR", type=Path, action="append", default=[], help="look here for image files that were moved; may be repeated"
    )

    export = command(
        "export",
        _export,
        "write one product of a store to a file (.csv, .nc, .parquet, .bdf.csv: Battery Data Format), or patterns for Rietveld programs",
        "  operando export beamtime.nxs A/echem/cycles -o cycles.csv\n  operando export beamtime.nxs A/echem/frames -o A.bdf.csv\n"
        "  operando export beamtime.nxs A/xas/frames -o xas.nc\n  operando export beamtime.nxs A/xrd -o rietveld --format fxye --frames 0:200:10",
    )
    export.add_argument("store", metavar="STORE", type=Path)
    export.add_argument("path", metavar="PATH", help="CELL/SERIES/PRODUCT, such as A/xas/frames, or CELL/SERIES for its frames")
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the file; with --format, the folder")
    export.add_argument(
        "--format", choices=("fxye", "xye"), help="one file per diffraction pattern, for GSAS-II and others, with a list and an instrument file"
    )
    export.add_argument("--frames", metavar="A:B:STEP", type=_slice, help="with --format: which frames, by number, such as 0:100:5 (default: all)")
    export.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")

    demo = command(
        "demo",
        _demo,
        "build a simulated beamtime whose truth is known, draw it, and say what was recovered",
        "  operando demo\n  operando demo /tmp/demo\n  operando demo other --seed 7\n  operando demo --json",
    )
    demo.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("operando_demo"), help="where (default: operando_demo)")
    demo.add_argument("--seed", metavar="N", type=int, help="simulate another cell with this seed instead of copying the example")
    demo.add_argument("--json", action="store_true", help="print the answers as one JSON object")

    loaders = command(
        "loaders", _loaders, "list the loaders, or explain one", "  operando loaders\n  operando loaders biologic-mpt\n  operando loaders --json"
    )
    loaders.add_argument("name", metavar="NAME", nargs="?", help="explain this one: its format, its options")
    loaders.add_argument("--json", action="store_true", help="print them as one JSON object")

    check_loader = command(
        "check-loader",
        _check_loader,
        "hold a loader against the contract on files of yours, rule by rule",
        "  operando check-loader my_loader.py:load scan_001.txt --timezone Europe/Paris\n"
        "  operando check-loader xrd-1d a.xye --option wavelength='0.4133 angstrom'",
    )
    check_loader.add_argument("loader", metavar="LOADER", help="a name of `operando loaders`, or my_loader.py:load")
    check_loader.add_argument("files", metavar="FILE", nargs="+", type=Path)
    check_loader.add_argument("--timezone", metavar="ZONE", help="zone of the files' clock (default: UTC, for this check only)")
    check_loader.add_argument("--start", metavar="STAMP", help="start of the first frame, for files that hold no absolute time")
    check_loader.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], help="an option of the loader, in YAML; may be repeated")
    check_loader.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes >= 1")
    return number


def _slice(text: str) -> slice:
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or (len(numbers) == 3 and (numbers[2] is not None and numbers[2] < 1)) or numbers == [None]:
        raise argparse.ArgumentTypeError(f"{text} is not one number, A:B or A:B:STEP with a step above 0")
    if len(numbers) == 1 and numbers[0] is not None:
        return slice(numbers[0], numbers[0] + 1 or None)
    return slice(*numbers)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name or a bar that the terminal's encoding lacks is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _in_good_order(args):
            return int(args.run(args))
    except OperandoError as error:
        _fail(error, args)
        return 1
    except KeyboardInterrupt as stop:
        print("\nstopped; what was acknowledged is kept, the next run goes on from here", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130
    except MemoryError:
        _fail(OperandoError("more memory is needed than there is", hint="build with --memory '200 MB' and --workers 1, or free memory"), args)
        return 1
    except BrokenPipeError:
        return 0
    except OSError as error:
        from operando.contract.errors import StoreError

        _fail(StoreError(error.strerror or str(error), file=error.filename), args)
        return 1


_SHOWN = 20
"""Files named one by one; a folder of a hundred thousand bad ones would bury the sentence that counts."""

_answers: list[TextIO] = []
"""Where the JSON goes while everything else goes to standard error."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the run is to end, in as good order as after an interrupt."""


@contextlib.contextmanager
def _in_good_order(args: argparse.Namespace) -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, and with `--json` keep what local code prints out of standard output."""

    def terminate(*_: object) -> None:
        raise _Terminated

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, terminate))
        if getattr(args, "json", False):
            stack.callback(_answers.pop)
            _answers.append(sys.stdout)
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _fail(error: OperandoError, args: argparse.Namespace) -> None:
    if getattr(args, "json", False):
        fields = {"problem": error.problem, "file": error.file, "found": error.found, "expected": error.expected, "hint": error.hint}
        _print_json({"ok": False, "error": {k: str(v) for k, v in fields.items() if v is not None}})
    print(f"operando {args.command}: {error}", file=sys.stderr)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, default=_plain, allow_nan=False), file=_answers[-1] if _answers else sys.stdout)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _finite(value: Any) -> Any:
    """Make NaN and infinities `null`: JSON has none."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not (value - value == 0):
        return None
    return value


class _Bars:
    """Progress bars on standard error; one line per stage where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: Any = None
        self.said = 0

    def __enter__(self) -> _Bars:
        self.bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bars.stop()

    def stage(self, what: str, total: int) -> None:
        if not self.console.is_terminal:
            print(f"{what}: {total}", file=sys.stderr)
        self.task = self.bars.add_task(what, total=total)

    def step(self, n: int = 1) -> None:
        if self.task is not None:
            self.bars.advance(self.task, n)

    def say(self, message: str) -> None:
        self.said += 1
        if self.said <= _SHOWN:
            self.console.print(message, markup=False, emoji=False, soft_wrap=True)


# --------------------------------------------------------------------------- commands


def _new(args: argparse.Namespace) -> int:
    from operando import discover

    with _Bars() as bars:
        findings = discover.look(args.folder, progress=bars)
    if args.json:
        _print_json({"ok": True, **_finite(discover.as_dict(findings))})
        return 0
    target = Path(args.output) if args.output not in (None, "-") else args.folder / "beamtime.yaml"
    text = discover.propose(findings, target.parent)
    if args.output == "-":
        print(text)
        return 0
    discover.write(text, target)
    print(discover.summary(findings))
    print(f"\nproposed {target}: read it, answer what is marked ?, then\n  operando check {target}")
    return 0


def _check(args: argparse.Namespace) -> int:
    import shutil

    from operando import beamtime, figures

    with _Bars() as bars:
        report = beamtime.check(args.config, progress=bars)
    drawn, failed = None, ""
    if not args.no_png and report.streams:
        target = args.png or args.config.with_name(f"{args.config.stem}_alignment.png")
        try:
            drawn = figures.save(figures.alignment(report), target)
        except (OSError, ValueError, OverflowError) as error:  # raw data often lies where nothing may be written: the page is what counts
            failed = f"not drawn: {target}: {getattr(error, 'strerror', None) or error}; give --png FILE or --no-png"
    if args.json:
        _print_json({"ok": not report.problems, "figure": str(drawn) if drawn else None, **_finite(report.as_dict())})
    else:
        print(report.text(min(shutil.get_terminal_size((100, 24)).columns, 160)))
        if drawn:
            print(f"\ndrawn: {drawn}")
    if failed:
        print(f"operando check: {failed}", file=sys.stderr)
    return 1 if report.problems or (failed and args.png) else 0


def _build(args: argparse.Namespace) -> int:
    from operando import beamtime
    from operando.config import read_bytes, read_config

    config = read_config(args.config)
    memory = read_bytes(args.memory) if args.memory else None
    with _Bars() as bars:
        outcome = beamtime.run(config, args.output, workers=args.workers, memory=memory, rehash=args.rehash, progress=bars)
    if args.json:
        _print_json(
            {
                "ok": outcome.ok,
                "store": str(outcome.published),
                "done": outcome.done,
                "quarantined": outcome.quarantined,
                "problems": [str(p) for p in outcome.problems],
                "messages": outcome.messages,
                "findings": outcome.findings,
            }
        )
    for message in outcome.messages:
        print(message, file=sys.stderr)
    for problem in outcome.problems:
        print(f"operando build: {problem}", file=sys.stderr)
    if outcome.quarantined:
        n = len(outcome.quarantined)
        print(f"operando build: {n} file{'s' * (n > 1)} could not be read (quarantined); everything else was built", file=sys.stderr)
        for reason in itertools.islice(outcome.quarantined.values(), _SHOWN):
            print("  " + reason.replace("\n", "\n  "), file=sys.stderr)
        if n > _SHOWN:
            print(f"  ... and {n - _SHOWN} more: operando info {outcome.live}  lists them", file=sys.stderr)
    if not args.json:
        for address, words in outcome.findings.items():
            print(f"{address}\n    " + words.replace("\n", "\n    "))
        done = outcome.done
        if any(done.values()):
            print(
                f"{outcome.published}: read {done['files']} files ({done['frames']} frames), "
                f"{done['alignments']} alignments, {done['reductions']} reductions"
                + (", not published" if outcome.unpublished else "" if done["published"] else ", nothing to publish")
            )
        elif outcome.unpublished:
            print(f"{outcome.published}: not published")
        else:
            print(f"{outcome.published}: nothing to do, everything is up to date")
    return 0 if outcome.ok else 1


def _info(args: argparse.Namespace) -> int:
    from operando.store import describe

    content = describe(args.store)
    if args.json:
        _print_json({"ok": True, **_finite(content)})
        return 0
    print(f"{content['path']}  ({content['kind']}, {content['bytes'] / 1e6:.1f} MB)" + (f"\n{content['title']}" if content.get("title") else ""))
    for node in content["products"]:
        print(f"  {node['address']:<28} {node['rows']:>9} rows  {node['begin'] or '':<20} {node['end'] or '':<20} {_some(node['variables'])}")
        for line in node.get("summary", "").splitlines():
            print(f"    {line}")
    for file, reason in content.get("quarantined", {}).items():
        print("  ! " + (reason if reason.startswith(file) else f"{file}: {reason}").splitlines()[0])
    return 0


def _some(names: list[str], width: int = 90) -> str:
    """List names as far as they fit, and count the rest."""
    shown = len(names)
    while shown > 1 and len(", ".join(names[:shown])) > width:
        shown -= 1
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if shown < len(names) else "")


def _view(args: argparse.Namespace) -> int:
    from importlib.metadata import entry_points

    from operando.store import open_beamtime

    found = sorted(entry_points(group="operando.viewers"), key=lambda point: point.name)
    if not found:
        open_beamtime(args.store, problems=[])  # what is wrong with the store is worth more than an installation
        raise OperandoError("no viewer is installed", expected="a package that offers one", hint='pip install "napari-operando[qt]"')
    try:
        show = found[0].load()
    except ImportError as error:
        raise OperandoError(
            f"the viewer {found[0].name} cannot be loaded: {error}",
            hint='pip install "napari-operando[qt]" brings Qt; a server may lack libGL, libEGL',
        ) from None
    show(args.store, cell=args.cell, images=args.images)
    return 0


def _export(args: argparse.Namespace) -> int:
    from operando.export import export

    if args.format:
        return _export_patterns(args)
    if args.frames is not None:
        from operando.contract.errors import ConfigError

        raise ConfigError("--frames chooses patterns", hint="give --format fxye or xye too")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        written = export(args.store, args.path, args.output, overwrite=args.overwrite)
    for warning in said:
        print(f"operando export: {warning.message}", file=sys.stderr)
    print(written)
    return 0


def _export_patterns(args: argparse.Namespace) -> int:
    from operando.export import export_patterns

    written = export_patterns(args.store, args.path, args.output, form=args.format, frames=args.frames, overwrite=args.overwrite)
    for number, why in itertools.islice(written.skipped.items(), _SHOWN):
        print(f"operando export: frame {number} left out: {why}", file=sys.stderr)
    if len(written.skipped) > _SHOWN:
        print(f"operando export: ... and {len(written.skipped) - _SHOWN} more frames", file=sys.stderr)
    for note in written.notes:
        print(f"operando export: {note}", file=sys.stderr)
    print(f"{written.folder}: {len(written.patterns)} patterns, listed in {written.list_file.name}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from operando import demo, recovery

    with _Bars() as bars:
        done = demo.run(args.folder, seed=args.seed, progress=bars)
    if args.json:
        answers = {
            q.name: {"answered": a is not None, "waits_for": q.waits or None, **({} if a is None else {**vars(a), "ok": a.ok})}
            for q, a in done.answers
        }
        _print_json(_finite({"ok": done.ok, "store": str(done.store), "figures": [str(f) for f in done.figures], "answers": answers}))
        return 0 if done.ok else 1
    for reason in done.outcome.quarantined.values():
        print("spoilt on purpose, left out: " + reason.splitlines()[0], file=sys.stderr)
    print(recovery.table(done.answers))
    waiting = sum(a is None for _, a in done.answers)
    print(f"\n{len(done.answers) - waiting} quantities recovered, {waiting} not yet" + ("" if done.ok else "; some are WRONG"))
    print(f"raw files  {args.folder}   (what each trap is: example_beamtime/README.md)\nstore      {done.store}")
    print("figures    " + "\n           ".join(str(f) for f in done.figures if f.suffix == ".png"))
    return 0 if done.ok else 1


def _loaders(args: argparse.Namespace) -> int:
    from operando.config import GENERAL_SOURCE_KEYS
    from operando.loaders import Loader, get_loader, loaders

    if args.name:
        one = get_loader(args.name)
        options = {name: "required" if p.default is p.empty else repr(p.default) for name, p in one.options.items()}
        if args.json:
            _print_json(
                {"ok": True, "name": one.name, "techniques": one.techniques, "version": one.version, "options": options, "dossier": one.dossier}
            )
        else:
            print(f"{one.name} (version {one.version}, {', '.join(one.techniques)})\n\n{one.dossier}\n\noptions:")
            print("\n".join(f"  {name}: {default}" for name, default in options.items()) or "  none of its own")
            print(f"every loader also takes: {', '.join(k for k in GENERAL_SOURCE_KEYS if k not in ('loader', 'files'))}")
        return 0
    found = loaders()
    if args.json:
        listed = {
            name: {"techniques": one.techniques, "version": one.version, "description": one.description}
            if isinstance(one, Loader)
            else {"error": str(one)}
            for name, one in found.items()
        }
        _print_json({"ok": True, "loaders": listed})
        return 0
    width = max(map(len, found), default=0)
    for name, one in found.items():
        print(f"{name:<{width}}  {', '.join(one.techniques) + ': ' + one.description if isinstance(one, Loader) else '! ' + str(one)}")
    return 0


def _check_loader(args: argparse.Namespace) -> int:
    import yaml

    from operando.contract.errors import ConfigError
    from operando.testing import check_loader

    options = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("an option is NAME=VALUE", found=text)
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of option {name} is not YAML: {error}") from None
    results = check_loader(args.loader, args.files, options=options, timezone=args.timezone or "UTC", start=args.start)
    bad = {rule: faults for rule, faults in results.items() if faults}
    if args.json:
        _print_json({"ok": not bad, "rules": results})
    else:
        none_read = len(results["file_is_read"]) == len(args.files)
        for rule, faults in results.items():
            if none_read and rule != "file_is_read":
                continue
            print(("FAIL " if faults else "ok   ") + rule.replace("_", " "))
            for fault in faults:
                print(f"       {fault}")
        if none_read:
            print(f"the other {len(results) - 1} rules were not tried: no file could be read (files without absolute time need --start)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
