"""beamtime.yaml: what is read, and that every mistake is named with its line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from operando import config as config_module
from operando.config import (
    GENERAL_SOURCE_KEYS,
    BeamtimeConfig,
    Recipe,
    read_bytes,
    read_config,
    read_recipe,
    read_yaml,
    suggest,
)
from operando.contract import ConfigError, quantity

GOOD = """\
title: NMC811 | graphite, June
timezone: Europe/Paris            # for instruments whose files carry no zone
sources:
  id31:   {loader: xrd-frames, files: xrd/*.h5, poni: xrd/geometry.poni,
           clock: {offset: -37 s, at: 2026-06-03T10:00:00, drift: 12 ppm, uncertainty: 1 s}}
  cycler: {loader: biologic-mpt, files: echem/A_*.mpt}
cells:
  A:
    about: {cell_type: full, active_mass: 6.84 mg, area: 1.54 cm^2, capacity: 1.5 mAh, electrolyte: 1 M LiPF6 EC:EMC, n_p_ratio: 1.1}
    echem: {from: cycler}
    series:
      xrd: {from: id31, where: {position: 1}, recipe: nmc811}
      eis: {from: cycler, loader: biologic-eis, recipe: two-arcs}
"""


def read(tmp_path: Path, text: str | bytes) -> BeamtimeConfig:
    path = tmp_path / "beamtime.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def refused(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "beamtime.yaml" in message
    return message


def source(more: str) -> str:
    """Give a configuration with one source that has further keys."""
    return f"sources:\n  s: {{loader: csv, files: a.csv, {more}}}\ncells:\n  A: {{echem: {{from: s}}}}\n"


def about(more: str) -> str:
    return f"sources:\n  s: {{loader: csv, files: a.csv}}\ncells:\n  A:\n    about: {{{more}}}\n    echem: {{from: s}}\n"


# --------------------------------------------------------------------------- what is read


def test_the_example_of_the_design(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.path == tmp_path / "beamtime.yaml"
    assert config.folder == tmp_path
    id31 = config.sources["id31"]
    assert id31.files == ["xrd/*.h5"]
    assert id31.options == {"poni": "xrd/geometry.poni"}
    assert not isinstance(id31.clock, list | None)
    assert (id31.clock.offset, id31.clock.drift, id31.clock.uncertainty, id31.clock.at) == (-37.0, 12e-6, 1.0, "2026-06-03T10:00:00")
    cell = config.cells["A"]
    assert (cell.about.active_mass, cell.about.area, cell.about.capacity, cell.about.n_p_ratio) == (6.84, 1.54, 1.5, 1.1)
    assert cell.about.electrolyte == "1 M LiPF6 EC:EMC"
    assert cell.echem is not None
    assert cell.echem.from_ == "cycler"
    assert cell.series["xrd"].where == {"position": 1}
    assert cell.series["eis"].loader == "biologic-eis"
    assert (config.settings.memory, config.settings.workers, config.settings.part) == (10**9, 1, None)
    assert config.at("sources", "id31", "poni") == f"{config.path}, line 4 (sources.id31.poni)"
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - it goes to workers


def test_quantities_in_any_fitting_unit(tmp_path: Path) -> None:
    config = read(tmp_path, source("exposure: 1.5 min, period: 500 ms, time_uncertainty: 1e-3 s, clock: {offset: -1 h, drift: 1.0 s/day}"))
    s = config.sources["s"]
    assert (s.exposure, s.period, s.time_uncertainty) == pytest.approx((90.0, 0.5, 1e-3))
    assert not isinstance(s.clock, list | None)
    assert (s.clock.offset, s.clock.drift) == pytest.approx((-3600.0, 1 / 86400))
    cell = read(tmp_path, about("active_mass: 0.00684 g, temperature: 298.15 K, pressure: 2 bar, capacity: 5.4 C")).cells["A"].about
    assert (cell.active_mass, cell.temperature, cell.pressure, cell.capacity) == pytest.approx((6.84, 25.0, 200.0, 1.5))


def test_about_with_units_can_be_read_again(tmp_path: Path) -> None:
    said = read(tmp_path, GOOD).cells["A"].about.with_units()
    assert said["active_mass"] == "6.84 mg"
    assert said["n_p_ratio"] == 1.1
    assert quantity(str(said["active_mass"]), "g") == pytest.approx(6.84e-3)


def test_further_keys_of_about_are_kept(tmp_path: Path) -> None:
    said = read(tmp_path, about("binder: PVDF 3 %, assembled_in: 4, dried: true, mass: 1")).cells["A"].about
    assert said.further == {"binder": "PVDF 3 %", "assembled_in": 4, "dried": True, "mass": 1}
    assert said.with_units()["binder"] == "PVDF 3 %"


def logged(more: str) -> str:
    """Give a configuration with a source that is no electrochemistry and has further keys."""
    return f"sources:\n  s: {{loader: csv, files: a.csv, {more}}}\ncells:\n  A: {{series: {{log: {{from: s}}}}}}\n"


def test_clocks_that_are_to_be_found(tmp_path: Path) -> None:
    clock = read(tmp_path, logged("clock: {events: {channel: shutter, search: 10 min}}")).sources["s"].clock
    assert not isinstance(clock, list | None)
    assert clock.events is not None
    assert (clock.events.channel, clock.events.search, clock.events.echem, clock.events.from_) == ("shutter", 600.0, "current_steps", None)
    assert not clock.says_numbers
    for text in ("{suggest: true}", "{suggest: {}}", "{suggest: {marker: a}}"):
        clock = read(tmp_path, logged(f"clock: {text}")).sources["s"].clock
        assert not isinstance(clock, list | None)
        assert clock.suggest is not None
    clock = read(tmp_path, logged("clock: {suggest: false, offset: 3 s, method: physics}")).sources["s"].clock
    assert not isinstance(clock, list | None)
    assert (clock.suggest, clock.method, clock.says_numbers) == (None, "physics", True)


@pytest.mark.parametrize("found", ["events: {}", "events: {edge: both}", "shared_signal: {channel: ai}", "suggest: true"])
def test_the_clock_of_the_electrochemistry_is_not_found_against_itself(tmp_path: Path, found: str) -> None:
    assert "is the timeline" in refused(tmp_path, source(f"clock: {{{found}}}"))


def test_clocks_by_segment(tmp_path: Path) -> None:
    clock = read(tmp_path, source("clock: [{segment: 0, offset: 1 s}, {segment: 1, offset: 2 s}]")).sources["s"].clock
    assert isinstance(clock, list)
    assert [(c.segment, c.offset) for c in clock] == [(0, 1.0), (1, 2.0)]


def test_general_times(tmp_path: Path) -> None:
    more = "name_pattern: '{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}', times_from: {file: log.csv, name: f, start: a, end: b}"
    more += ", mtime: true, start: 2026-06-03 10:00:00"
    s = read(tmp_path, source(more)).sources["s"]
    assert s.times == {
        "name_pattern": "{cell}_{time:%Y%m%dT%H%M%S}_{frame:05d}",
        "times_from": {"file": "log.csv", "name": "f", "start": "a", "end": "b"},
        "mtime": True,
        "start": "2026-06-03 10:00:00",
    }
    assert s.options == {}


def test_every_general_time_is_one_of_the_loader_layer() -> None:
    from operando.loaders import FileTimes

    times = set(GENERAL_SOURCE_KEYS) - {"loader", "files", "timezone", "clock"}
    assert times == set(FileTimes.__dataclass_fields__) - {"base", "timeless", "alone"}


def test_a_series_may_have_files_of_its_own(tmp_path: Path) -> None:
    one = (
        read(tmp_path, "cells: {A: {series: {oven: {loader: csv, files: [a.csv, b.csv], timezone: +02:00, delimiter: ;}}}}").cells["A"].series["oven"]
    )
    assert (one.loader, one.files, one.timezone, one.options) == ("csv", ["a.csv", "b.csv"], "+02:00", {"delimiter": ";"})


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = "sources:\n  a: &a {loader: csv, files: a.csv, exposure: 1 s}\n  b: {<<: *a, files: b.csv}\n"
    text += "cells:\n  A: {series: {x: {from: a}, y: {from: b}}}\n"
    sources = read(tmp_path, text).sources
    assert (sources["b"].loader, sources["b"].files, sources["b"].exposure) == ("csv", ["b.csv"], 1.0)


def test_yaml_is_read_as_people_mean_it(tmp_path: Path) -> None:
    text = """\
title: 2026
sources: {s: {loader: csv, files: a.csv, run: 007, window: 22:38, flag: no, tiny: 1e-5, serial: 123456789012345678901234567890}}
cells: {001: {echem: {from: s}}, on: {echem: {from: s}}}
"""
    config = read(tmp_path, text)
    assert config.title == "2026"
    assert list(config.cells) == ["001", "on"]
    expected = {"run": "007", "window": "22:38", "flag": "no", "tiny": 1e-5, "serial": "123456789012345678901234567890"}
    assert config.sources["s"].options == expected


def test_empty_keys_are_as_if_absent(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "timezone:\nsources: {s: {loader: csv, files: a.csv, clock: }}\ncells:\n  A:\n    about:\n    echem: {from: s}\n    series:\nsettings:\n",
    )
    assert config.timezone is None
    assert config.cells["A"].series == {}
    assert config.settings.workers == 1


def test_bom_and_crlf(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()).title.startswith("NMC811")


@pytest.mark.parametrize("text", ["1 GB", "1000 MB", "1000000 kB", "1GB"])
def test_sizes(text: str) -> None:
    assert read_bytes(text) == 10**9


def test_sizes_that_are_none() -> None:
    for text in ("1", "1 Gb", "lots", "10 B", "-1 GB"):
        with pytest.raises(ConfigError):
            read_bytes(text)


@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "+02:00", "-09:30", "America/Argentina/Buenos_Aires", "Japan"])
def test_zones(tmp_path: Path, zone: str) -> None:
    assert read(tmp_path, GOOD.replace("Europe/Paris ", zone + " ")).timezone == zone


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Pariss", "did you mean Europe/Paris?"),
        ("europe/paris", "did you mean Europe/Paris?"),
        ("Paris", "did you mean Europe/Paris?"),
        ("Grenoble", "did you mean Europe/Paris?"),
        ("Hambourg", "did you mean Europe/Berlin?"),
        ("CEST", "for example Europe/Paris"),
        ("EST", "for example America/New_York"),
        ("local", "never used"),
        ("localtime", "never used"),
        ("UTC+2", "write +02:00"),
        ("+2", "write +02:00"),
        ("GMT-0930", "write -09:30"),
        ("Etc/GMT+2", "write -02:00"),
        ("+25:00", "-12:00 to +14:00"),
        ("Mars/Olympus", "Europe/Paris"),
        ("posix/Europe/Paris", "not a time zone"),
    ],
)
def test_zones_refused_with_advice(tmp_path: Path, zone: str, said: str) -> None:
    message = refused(tmp_path, GOOD.replace("Europe/Paris ", zone + " "))
    assert "line 2: timezone" in message
    assert said in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("title:", "titel:"), ["line 1", "unknown key 'titel'", "did you mean 'title'?"]),
        (("offset: -37 s", "ofset: -37 s"), ["line 5", "sources.id31.clock", "'ofset'", "did you mean 'offset'?"]),
        (("offset: -37 s", "offset: -37"), ["line 5", "without its unit", "write -37 s"]),
        (("offset: -37 s", "offset: -37 mg"), ["line 5", "cannot convert", "37 s"]),
        (("offset: -37 s", "offset: later"), ["line 5", "not a number with a unit", "later"]),
        (("uncertainty: 1 s", "uncertainty: -1 s"), ["line 5", "out of range", ">= 0"]),
        (("drift: 12 ppm", "drift: 12"), ["without its unit", "write 12 ppm"]),
        (("at: 2026-06-03T10:00:00", "at: noon"), ["line 5", "not a date with time", "noon"]),
        (("offset: -37 s", "events: log.csv"), ["line 5", "sources.id31.clock.events", "a mapping", "from, channel"]),
        (("offset: -37 s", "events: {from: log}"), ["line 5", "there is no source 'log'", "id31"]),
        (("offset: -37 s", "events: {form: id31}"), ["line 5", "'form'", "did you mean 'from'?"]),
        (("offset: -37 s", "events: {edge: up}"), ["line 5", "not one of the words", "rise, fall or both"]),
        (("offset: -37 s", "events: {search: 10}"), ["line 5", "without its unit", "write 10 s"]),
        (("offset: -37 s", "events: {cell: Z}"), ["line 5", "there is no cell 'Z'"]),
        (("offset: -37 s", "events: {}, shared_signal: {channel: ai}"), ["line 5", "found in one way"]),
        (("offset: -37 s", "shared_signal: {from: id31}"), ["line 5", "'channel' is missing"]),
        (("offset: -37 s", "suggest: maybe"), ["line 5", "sources.id31.clock.suggest"]),
        (("offset: -37 s", "method: guess"), ["line 5", "not one of the words", "given or physics"]),
        (("offset: -37 s", "segment: 1"), ["stands in a list of clocks only"]),
        (("from: id31", "from: id13"), ["line 12", "there is no source 'id13'", "did you mean 'id31'?"]),
        (("{from: id31, ", "{form: id31, "), ["line 12", "where its frames come from is not said", "did you mean 'from' by 'form'?"]),
        (("where: {position: 1}", "were: {position: 1}"), ["line 12", "unknown key 'were'", "did you mean 'where'?"]),
        (("where: {position: 1}", "timezone: UTC"), ["line 12", "belongs to the source", "sources: id31"]),
        (("loader: biologic-mpt, ", ""), ["line 6", "the key 'loader' is missing", "operando loaders"]),
        (("files: echem/A_*.mpt", "files: []"), ["line 6", "at least one"]),
        (("files: echem/A_*.mpt", "options: {a: 1}, files: x"), ["not under options:", "one level up"]),
        (("files: echem/A_*.mpt", "files: x, where: {cell: A}"), ["where: belongs to a cell's series"]),
        (("files: echem/A_*.mpt", "files: x, name_pattern: frame"), ["a pattern without a field"]),
        (("echem: {from: cycler}", "echem: cycler"), ["line 10", "a mapping", "write echem: {from: cycler}"]),
        (("active_mass: 6.84 mg", "activ_mass: 6.84 mg"), ["line 9", "'activ_mass' looks like 'active_mass'"]),
        (("active_mass: 6.84 mg", "active_mass: 0 mg"), ["line 9", "> 0"]),
        (("active_mass: 6.84 mg", "active_mass: '6,84 mg'"), ["line 9", "decimal comma", "write 6.84 mg"]),
        (("active_mass: 6.84 mg", "active_mass: true"), ["line 9", "not a number with a unit"]),
        (("cell_type: full", "cell_type: ful"), ["line 9", "did you mean full?"]),
        (("n_p_ratio: 1.1", "n_p_ratio: high"), ["line 9", "a number"]),
        (("n_p_ratio: 1.1", "other: [1, 2]"), ["line 9", "text or a number"]),
        (("  A:\n", "  A B:\n"), ["line 8", "not a name that a store can hold", "for example A_B"]),
        (("  A:\n", "  a/b:\n"), ["not a name that a store can hold"]),
        (("      xrd:", "      echem:"), ["line 12", "write it as echem: of the cell"]),
        (("      xrd:", "      results:"), ["line 12", "a name the store needs itself"]),
        (("cells:\n", "cells:\n  a: {about: {}}\n"), ["neither echem: nor series:", "only by upper and lower case"]),
        (("cells:\n", "settings: {memory: 1000, workers: 0}\ncells:\n"), ["2 problems", "settings.memory: not a size", "settings.workers"]),
        (("cells:\n", "setings: {}\ncells:\n"), ["did you mean 'settings'?"]),
        (("cells:\n", "memory: 1 GB\ncells:\n"), ["memory: belongs under settings:"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], said: list[str]) -> None:
    assert change[0] in GOOD
    message = refused(tmp_path, GOOD.replace(*change, 1))
    for words in said:
        assert words in message


def test_all_problems_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = GOOD.replace("title:", "titel:").replace("-37 s", "-37").replace("from: cycler}", "from: cylcer}").replace("6.84 mg", "6.84")
    message = refused(tmp_path, text)
    assert message.splitlines()[0].endswith("4 problems")
    lines = [int(line.split()[2].rstrip(":")) for line in message.splitlines() if line.startswith("- line")]
    assert lines == sorted(lines) == [1, 5, 9, 10]


def test_a_missing_zone_is_no_mistake_here(tmp_path: Path) -> None:
    assert read(tmp_path, source("exposure: 1 s")).timezone is None


def test_second_clock_for_a_segment(tmp_path: Path) -> None:
    message = refused(tmp_path, source("clock: [{segment: 0}, {segment: 0}, {offset: 1 s}]"))
    assert "a second clock for segment 0" in message
    assert "which segment it holds for is not said" in message


def test_misspelled_general_keys_stay_options_for_later(tmp_path: Path) -> None:
    assert read(tmp_path, source("exposre: 1 s")).sources["s"].options == {"exposre": "1 s"}
    assert suggest("exposre", GENERAL_SOURCE_KEYS) == "exposure"
    assert suggest("time_pattern", GENERAL_SOURCE_KEYS) == "name_pattern"
    assert suggest("delimiter", GENERAL_SOURCE_KEYS) is None


# --------------------------------------------------------------------------- files that are no YAML


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n" for p, n in zip("abcdefghi", "bcdefghij", strict=True))
MERGE_BOMB = "a: &a {k: 1}\n" + "".join(f"{n}: &{n} {{<<: [{', '.join(['*' + p] * 10)}]}}\n" for p, n in zip("abcdefghi", "bcdefghij", strict=True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ["the file is empty"]),
        (b"  \n# only a comment\n", ["the file is empty"]),
        (b"---\n", ["the file is empty"]),
        (b"just words\n", ["not a mapping", "operando new"]),
        (b"- a\n- b\n", ["not a mapping"]),
        (b"title: caf\xe9\n", ["not UTF-8", "line 1", "0xe9", "save it again"]),
        ("title: x\n".encode("utf-16"), ["not UTF-8"]),
        (b"title: x\n\x00\x01\n", ["line 2", "not text"]),
        (b"cells:\n\tA: {}\n", ["line 2", "tab", "spaces"]),
        (b"title:\tx\n\t\n  y: z\n", ["tab"]),
        (b"title: a\ntitle: b\n", ["line 2", "'title' is given twice", "lines 1 and 2"]),
        (b"cells: {A: {about: {}, about: {}}}\n", ["cells.A.about", "given twice"]),
        (b"title: a: b\n", ["line 1", "needs quotes"]),
        (b"cells: {A: {\n", ["not closed"]),
        (b"files: *.mpt\n", ["needs quotes: '*.mpt'"]),
        (b"a: 1\n---\nb: 2\n", ["second YAML document"]),
        (b"title: !!python/object/apply:os.system [true]\n", ["tags are not used here", "python/object"]),
        (b"title: !secret x\n", ["line 1", "!secret"]),
        (b"title: !!binary aGk=\n", ["tags are not used"]),
        (b"? [a, b]\n: c\n", ["a key must be a word"]),
        (b"a: &a [*a]\n", ["an anchor contains itself"]),
        (b"a: &a {<<: *a}\n", ["'<<' takes a mapping"]),
        (b"a: {<<: 3}\n", ["'<<' takes a mapping"]),
        (b"a: " + b"[" * 5000, ["nested too deeply"]),
        (b"a: " + b"{a: " * 5000, ["nested too deeply"]),
        (BOMB.encode(), ["too many entries", "anchors"]),
        (MERGE_BOMB.encode(), ["too many entries", "anchors"]),
        (b"#" * 5_000_001, ["more than 5 MB"]),
    ],
)
def test_bad_yaml(tmp_path: Path, content: bytes, said: list[str]) -> None:
    message = refused(tmp_path, content)
    for words in said:
        assert words in message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("title: x")
    with pytest.raises(ConfigError, match=r"cannot be opened(.|\n)*there is other\.yaml"):
        read_config(tmp_path / "beamtime.yaml")
    with pytest.raises(ConfigError, match="this is a folder"):
        read_config(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "beamtime.yaml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="no regular file"):
        read_config(pipe)


def test_no_garbage_gets_through_but_as_a_config_error(tmp_path: Path) -> None:
    """Damage of every kind: either it is read, or refused by name."""
    import random

    rng = random.Random(1)
    raw = GOOD.encode()
    damaged = [raw[:n] for n in range(0, len(raw), 23)]
    for _ in range(150):
        content = bytearray(raw)
        for _ in range(rng.choice([1, 3, 10])):
            content[rng.randrange(len(content))] = rng.choice(b"{}[]:,&*!|>'\"%@`#\t\n -?0a\xff")
        damaged.append(bytes(content))
    lines = raw.splitlines(keepends=True)
    for _ in range(20):
        rng.shuffle(lines)
        damaged.append(b"".join(lines))
    outcomes = set()
    for content in damaged:
        try:
            read(tmp_path, content)
            outcomes.add("read")
        except ConfigError as error:
            outcomes.add("named" if "beamtime.yaml" in str(error) else str(error))
    assert outcomes == {"read", "named"}


# --------------------------------------------------------------------------- recipes, presets, schema, cost


def test_recipes_by_name_path_and_mapping(tmp_path: Path) -> None:
    assert read_recipe("echem-cycles")["reducer"] == "echem-cycles"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("reducer: echem-cycles\ncomplete_fraction: 0.5\n")
    (tmp_path / "echem-cycles.yaml").write_text("reducer: echem-cycles\ncomplete_fraction: 0.25\n")
    assert read_recipe("mine", tmp_path)["complete_fraction"] == 0.5
    assert read_recipe("recipes/mine.yaml", tmp_path)["complete_fraction"] == 0.5
    assert read_recipe("echem-cycles", tmp_path)["complete_fraction"] == 0.25, "the user's own goes first"
    assert read_recipe({"reducer": "x", "a": 1}) == {"reducer": "x", "a": 1}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("echem-cycle", "did you mean 'echem-cycles'?"),
        ("nothing.yaml", "there is no recipe"),
        ({"reduser": "x"}, "rename 'reduser' to 'reducer'"),
        ({}, "which reducer"),
    ],
)
def test_recipes_refused(tmp_path: Path, spec: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_recipe(spec, tmp_path)
    assert said in str(caught.value)


def test_recipe_models_are_strict() -> None:
    class Own(Recipe):
        reducer: str = "own"

    with pytest.raises(ValueError, match="extra"):
        Own.model_validate({"unknown": 1})


def test_read_yaml_wants_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="not a mapping"):
        read_yaml(tmp_path / "list.yaml")


def test_importing_and_reading_is_light(tmp_path: Path, root: Path) -> None:
    (tmp_path / "beamtime.yaml").write_text(GOOD)
    heavy = ("xarray", "numpy", "pandas", "pint", "h5py")
    code = f"import sys, operando.config as c; c.read_config(sys.argv[1]); print([m for m in {heavy} if m in sys.modules])"
    path = os.pathsep.join([str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "beamtime.yaml")], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_schema_is_current(root: Path) -> None:
    committed = (root / "configs" / "beamtime.schema.json").read_text(encoding="utf-8")
    assert committed == config_module.json_schema(), "run: python -m operando.config configs/beamtime.schema.json"
