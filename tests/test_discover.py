"""`operando new`: what is recognised, how it is grouped, what is proposed, what is asked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.cli import main
from operando.config import BeamtimeConfig, read_config
from operando.contract import ConfigError, LoaderError, series
from operando.discover import Findings, as_dict, look, looking, propose, summary, write
from operando.discover.filenames import cell_hint, globs, position_pattern, time_pattern
from operando.loaders import Loader, NamePattern, expand
from operando.store import open_beamtime


def _loader(name: str, technique: str, word: str, *, stamp: str | None = None, zoned: bool = False) -> Loader:
    """Make a loader of files that begin with a word."""

    def read(path: Path) -> Any:
        if "broken" in Path(path).read_text():
            raise LoaderError("cannot be read", file=path, found="broken")
        signal = {"voltage": ("time", np.ones(2), "V")} if technique == "echem" else {"intensity": (("time", "q"), np.ones((2, 3)), "1")}
        coords = None if technique == "echem" else {"q": ("q", np.arange(3.0), "1/angstrom")}
        start = None if stamp is None else stamp + ("+00:00" if zoned else "")
        return series(technique, signal, source=path, coords=coords, start=start, time_origin="header")

    def claims(path: Path) -> str | None:
        return f"a {word} file" if Path(path).read_text(errors="replace").startswith(word) else None

    return Loader(
        name=name,
        read=read,
        claims=claims,
        beside=None,
        techniques=(technique,),
        version="1",
        description=f"{word} files",
        dossier=f"{word} files",
        origin="test",
    )


LOADERS: dict[str, Any] = {
    "volt": _loader("volt", "echem", "VOLT", stamp="2026-06-03T10:00:00"),
    "amp": _loader("amp", "echem", "AMP", stamp="2026-06-03T10:00:00"),
    "pattern": _loader("pattern", "xrd", "PATTERN", stamp="2026-06-03T10:00:00", zoned=True),
    "timeless": _loader("timeless", "xrd", "TIMELESS"),
    "gone": ConfigError("cannot be imported: no module named gone"),
}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let discover know the loaders above only; gives the files that were opened."""
    opened: list[Path] = []

    def claimed_by(path: Path) -> dict[str, str]:
        opened.append(path)
        found = {name: loader.claims(path) for name, loader in LOADERS.items() if isinstance(loader, Loader) and loader.claims}
        return {name: said for name, said in found.items() if said}

    monkeypatch.setattr(looking, "loaders", lambda: LOADERS)
    monkeypatch.setattr(looking, "claimed_by", claimed_by)
    return opened


@pytest.fixture
def make(tmp_path: Path, known: list[Path]) -> Callable[..., Path]:
    """Write a folder of files: name -> content, which begins with the word its loader knows it by."""

    def make(contents: dict[str, str]) -> Path:
        top = tmp_path / "beamtime"
        for name, content in contents.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        top.mkdir(exist_ok=True)
        return top

    return make


def proposed(top: Path, tmp_path: Path, zone: str = "Europe/Paris") -> BeamtimeConfig:
    """Propose, answer the zone, read back, and see that each pattern finds the group's files and no others."""
    findings = look(top)
    text = propose(findings)
    assert text.count("\ntimezone:\n") == 1
    assert max(map(len, text.splitlines())) <= 220
    target = top / "beamtime.yaml"
    target.write_text(text.replace("\ntimezone:\n", f"\ntimezone: {zone}\n"))
    config = read_config(target)
    matched = [{p.relative_to(top).as_posix() for p in expand(s.files, top)} for s in config.sources.values()]
    assert sorted(map(sorted, matched)) == sorted(sorted(g.files) for g in findings.groups)
    assert json.loads(json.dumps(as_dict(findings)))["files"] == findings.files
    assert summary(findings)
    target.unlink()
    return config


# --------------------------------------------------------------------------- folders


def test_a_small_beamtime(make: Callable[..., Path], tmp_path: Path) -> None:
    files = {"echem/A_01.txt": "VOLT", "echem/A_02.txt": "VOLT", "notes.docx": "x", "README": "x", "LOG": "x"}
    files |= {f"xrd/A_{n:04d}.xy": "PATTERN" for n in range(30)}
    top = make(files)
    config = proposed(top, tmp_path)
    assert set(config.sources) == {"cycler", "xrd"}
    assert config.sources["xrd"].files == ["xrd/*.xy"]
    assert list(config.cells) == ["A"]
    assert config.cells["A"].echem is not None
    assert config.cells["A"].echem.from_ == "cycler"
    assert config.cells["A"].series["xrd"].from_ == "xrd"
    text = propose(look(top))
    assert "which zone did the clocks of cycler follow?" in text
    assert "30 files" in text
    assert "2 (none)" in text
    assert "1 .docx" in text
    assert "The loader gone cannot be used" in text
    assert "begins 2026-06-03T10:00:00, wall clock, without zone" in text


def test_cells_by_names_and_folders(make: Callable[..., Path], tmp_path: Path) -> None:
    files = {f"echem/{cell}_{n}.txt": "VOLT" for cell in "AB" for n in range(3)}
    files |= {f"cell3/frame_{n}.xy": "PATTERN" for n in range(3)} | {"oven/x.xy": "PATTERN"}
    config = proposed(make(files), tmp_path)
    assert list(config.cells) == ["A", "B", "cell3"]
    assert config.sources["cycler_A"].files == ["echem/A_*.txt"]
    assert config.cells["B"].echem is not None
    assert config.cells["B"].echem.from_ == "cycler_B"
    assert config.cells["cell3"].echem is None
    assert [s.from_ for s in config.cells["cell3"].series.values()] == ["xrd_cell3"]
    text = propose(look(make({})))
    assert "QUESTION: the names do not say which cell" in text
    assert "no electrochemistry was found" in text


def test_twins_and_more_cyclers_are_asked(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make({"a/run.mpt": "VOLT", "a/run.mpr": "AMP", "b/other.mpt": "VOLT"})
    proposed(top, tmp_path)
    text = propose(look(top))
    assert "the same measurement in another format" in text
    assert "a cell has one; more cells?" in text


def test_files_without_time(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make({f"plain/frame_{n}.xy": "TIMELESS" for n in range(3)} | {f"named/x_20260603T10{n:02d}00_{n}.xy": "TIMELESS" for n in range(3)})
    config = proposed(top, tmp_path)
    assert {s.name_pattern for s in config.sources.values()} == {None, "*_{time:%Y%m%dT%H%M%S}*"}
    text = propose(look(top))
    assert "these files hold no absolute time. Give one of:" in text
    for option in ("start:", "period:", "times_from:", "name_pattern:", "mtime:"):
        assert f"# {option}" in text or f" {option} " in text
    assert "no absolute time in the files" in summary(look(top))


def test_positions_become_a_pattern(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make({f"x/run_pos{p}_{n:03d}.xy": "PATTERN" for p in (1, 2) for n in range(4)})
    config = proposed(top, tmp_path)
    (source,) = config.sources.values()
    assert source.name_pattern == "*pos{position}_*"


def test_a_file_the_loader_cannot_read(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make({"x.txt": "VOLT broken"})
    proposed(top, tmp_path)
    assert "QUESTION: does it need an option? x.txt: cannot be read (found: broken)" in propose(look(top))


def test_two_claims_are_an_error_that_names_them(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    top = make({"x.txt": "VOLT"})
    monkeypatch.setitem(LOADERS, "other", _loader("other", "echem", "VO", stamp="2026-06-03T10:00:00"))
    with pytest.raises(ConfigError, match=r"two loaders claim the same file(.|\n)*volt(.|\n)*other"):
        propose(look(top))


def test_nothing_known(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing here is known(.|\n)*2 \.zip(.|\n)*unpack"):
        propose(look(make({"a.zip": "x", "b.zip": "x"})))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="nothing here is known"):
        propose(look(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="no such folder"):
        look(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="not a folder"):
        look(tmp_path / "beamtime" / "a.zip")


def test_hidden_linked_and_odd_names(make: Callable[..., Path], tmp_path: Path) -> None:
    hidden = [".hidden.txt", ".git/x.txt", "__MACOSX/y.txt", "old.operando/z.txt", "beamtime.yaml"]
    seen = ["sub/it's [1] & 50 %: {a}.txt", "sub/# x.txt", "-a.txt"]
    top = make(dict.fromkeys(hidden + seen, "VOLT") | {"sub/other.txt": "x"})
    (top / "loop").symlink_to(top)
    (top / "again").symlink_to(top / "sub")
    (top / "dangling").symlink_to(top / "nothing")
    (top / "sub" / "line\nend.txt").write_text("VOLT")
    os.mkfifo(top / "pipe")
    config = proposed(top, tmp_path)
    findings = look(top)
    assert sorted(f for g in findings.groups for f in g.files) == sorted(seen), "each folder once, however it is linked"
    assert any("unprintable" in s for s in findings.skipped)
    assert config.cells


def test_many_files_are_not_all_opened(make: Callable[..., Path], known: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    top = make({f"x/frame_{n:05d}.xy": "PATTERN" for n in range(500)} | {f"y/mixed_{n}.xy": "PATTERN" if n % 2 else "x" for n in range(40)})
    findings = look(top)
    assert {g.folder: len(g.files) for g in findings.groups} == {"x": 500, "y": 20}
    assert len([p for p in known if p.parent.name == "x"]) <= 10
    monkeypatch.setattr(looking, "MAX_FILES", 100)
    few = look(top)
    assert few.truncated
    assert few.files == 100
    assert "Only the first 100 files" in propose(few)


def test_progress_counts_every_file(make: Callable[..., Path]) -> None:
    said: list[Any] = []

    class Bars:
        def stage(self, what: str, total: int) -> None:
            said.append(total)

        def step(self, n: int = 1) -> None:
            said.append(n)

    look(make({f"x/frame_{n}.xy": "PATTERN" for n in range(7)} | {"a.txt": "VOLT"}), progress=Bars())
    assert said[0] == sum(said[1:]) == 8


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "beamtime.yaml"
    write("title: new\n", target)
    with pytest.raises(ConfigError, match="not overwritten"):
        write("title: newer\n", target)
    assert target.read_text() == "title: new\n"
    with pytest.raises(ConfigError, match="cannot be written"):
        write("x", tmp_path / "no" / "folder.yaml")


# --------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("names", "pattern", "first"),
    [
        (["LOS2341_Sam Aout 31 05-38-59 2013.csv", "LOS2342_Dim Sept 1 05-48-59 2013.csv"], "*_{time:%a %b %d %H-%M-%S %Y}", "2013-08-31T05:38:59"),
        (["A_20260603T101500_00001.xy"], "*_{time:%Y%m%dT%H%M%S}*", "2026-06-03T10:15:00"),
        (["scan_2026-06-03_10-15-00.xy"], "*_{time:%Y-%m-%d_%H-%M-%S}", "2026-06-03T10:15:00"),
        (["2026-06-03 10.15.tif"], "{time:%Y-%m-%d %H.%M}", "2026-06-03T10:15:00"),
        (["20260603_101500.xy"], "{time:%Y%m%d_%H%M%S}", "2026-06-03T10:15:00"),
        (["20260603101500.xy"], "{time:%Y%m%d%H%M%S}", "2026-06-03T10:15:00"),
        (["12-Aug-2020_101500_x.xy"], "{time:%d-%b-%Y_%H%M%S}*", "2020-08-12T10:15:00"),
        (["x 3 März 2021 10-15-00.xy"], "* {time:%d %b %Y %H-%M-%S}", "2021-03-03T10:15:00"),
        (["frame_00012345678.xy"], None, None),
        (["run_2026_0001.xy"], None, None),
        (["99999999T999999.xy"], None, None),
        (["a_20260603T101500.xy", "a_dark.xy"], None, None),
        ([], None, None),
    ],
)
def test_times_in_names(names: list[str], pattern: str | None, first: str | None) -> None:
    assert time_pattern(names) == pattern
    if pattern is not None:
        assert NamePattern(pattern).read(Path(names[0]))[0] == first


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("echem/A_01.mpt", "A"),
        ("B/frame.xy", "B"),
        ("B_cells/frame.xy", "B"),
        ("cell3_xrd/frame_1.xy", "cell3"),
        ("220726cell4operandoxas_C06.mpt", "cell4"),
        ("norm_op2_cell4_pos1_dq1_0001.txt", "cell4"),
        ("cell_B/frame.xy", "B"),
        ("Cell-07.txt", "cell7"),
        ("T_25C.csv", None),
        ("cellulose.txt", None),
        ("x/y.txt", None),
    ],
)
def test_cells_in_names(name: str, cell: str | None) -> None:
    assert cell_hint(name) == cell


def test_globs() -> None:
    assert globs(["x/a_1.xy", "x/a_2.xy"], ["x/a_1.xy", "x/a_2.xy"]) == ("x/*.xy",)
    assert globs(["x/a_1.xy", "x/a_2.xy"], ["x/a_1.xy", "x/a_2.xy", "x/b_1.xy"]) == ("x/a_*.xy",)
    assert globs(["x/a_1.xy", "x/c_2.xy"], ["x/a_1.xy", "x/c_2.xy", "x/b_1.xy"]) == ("x/a_*.xy", "x/c_*.xy")
    assert globs(["a_1.xy", "a_2_2.xy"], ["a_1.xy", "a_2_2.xy", "a_x.xy"]) == ("a_1.xy", "a_2_2.xy")
    assert globs(["x/[1].xy"], ["x/[1].xy"]) == ("x/[[]1].xy",)


def test_position_patterns() -> None:
    assert position_pattern(["run_pos1_3.xy", "run_pos12_3.xy"]) == "*pos{position}_*"
    assert position_pattern(["run_1.xy"]) is None
    assert position_pattern(["run_pos1.xy", "dark.xy"]) is None


def test_findings_are_plain_data(tmp_path: Path) -> None:
    assert as_dict(Findings(tmp_path))["folder"] == str(tmp_path)


# --------------------------------------------------------------------------- real folders


def _as_proposed(findings: Findings, tmp_path: Path) -> BeamtimeConfig:
    target = tmp_path / "beamtime.yaml"
    target.write_text(propose(findings).replace("\ntimezone:\n", "\ntimezone: Europe/Paris\n"))
    return read_config(target)


@pytest.mark.real_data
def test_a_real_beamtime(shared_data: Path, tmp_path: Path) -> None:
    findings = look(shared_data / "multimodal" / "perex_rock")
    by_technique = {g.technique: g for g in findings.groups}
    assert set(by_technique) == {"echem", "xas"}
    assert len(by_technique["xas"].files) == 160
    assert [count for _, count in by_technique["xas"].patterns] == [102, 58]
    assert by_technique["echem"].files == ("EC/220726cell4operandoxas_C06.mpt",)
    assert by_technique["echem"].zoned is False
    config = _as_proposed(findings, tmp_path)
    (cell,) = config.cells.values()
    assert cell.echem is not None
    assert config.sources["xas"].files == ["XAS_pos1/*.txt"]
    assert config.sources["xas"].options == {"preset": "soleil-rock"}
    assert len(expand(config.sources["xas"].files, findings.folder)) == 160


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["echem", "xrd1d", "qpa", "multimodal", "raman", "ir", "imaging"])
def test_real_folders(shared_data: Path, tmp_path: Path, folder: str) -> None:
    findings = look(shared_data / folder)
    assert findings.files == sum(len(g.files) for g in findings.groups) + sum(n for n, _ in findings.unrecognised.values())
    assert not findings.conflicts
    if findings.groups:
        config = _as_proposed(findings, tmp_path)
        linked = sum(s.loader == "biologic-eis" for c in config.cells.values() for s in c.series.values())
        assert len(config.sources) == len(findings.groups) - linked
        for name, source in config.sources.items():
            assert expand(source.files, findings.folder), name


def test_paths_are_seen_from_where_the_proposal_will_lie(make: Callable[..., Path], tmp_path: Path) -> None:
    top = make({"echem/A_1.txt": "VOLT", "echem/A_2.txt": "VOLT", "xrd/[1]_a.xy": "PATTERN"})
    elsewhere = tmp_path / "analysis"
    elsewhere.mkdir()
    for folder in (elsewhere, tmp_path, elsewhere / "a" / "b" / "c"):
        folder.mkdir(parents=True, exist_ok=True)
        target = write(propose(look(top), folder).replace("\ntimezone:\n", "\ntimezone: UTC\n"), folder / "beamtime.yaml")
        sources = read_config(target).sources
        assert [p.resolve().name for p in expand(sources["cycler"].files, folder)] == ["A_1.txt", "A_2.txt"]
        assert [p.resolve().name for p in expand(sources["xrd"].files, folder)] == ["[1]_a.xy"]
    assert read_config(elsewhere / "beamtime.yaml").sources["cycler"].files == ["../beamtime/echem/*.txt"]


def test_begin_is_that_of_the_first_exposure() -> None:
    made = series("echem", {"voltage": ("time", np.ones(1), "V")}, source="a", start="2026-06-03T10:00:00", exposure=65.0, time_origin="header")
    assert looking._begin(made) == "2026-06-03T10:00:00"


def test_half_a_proposal_is_not_left_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Path.open

    def on_full_disk(self: Path, *args: Any, **more: Any) -> Any:
        file = true(self, *args, **more)
        file.close()
        true(self, "w").close()

        class Full:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                return None

            def write(self, _: str) -> None:
                raise OSError(28, "No space left on device")

        return Full()

    monkeypatch.setattr(Path, "open", on_full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        write("title: x\n", tmp_path / "beamtime.yaml")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_among_its_like_does_not_break_their_pattern(tmp_path: Path) -> None:
    for k in range(12):
        (tmp_path / f"scan_{k:04d}.xye").write_text("# 2theta intensity sigma\n" + "".join(f"{6 + 0.01 * i:.2f} {100 + i} 10.0\n" for i in range(60)))
    (tmp_path / "scan_0000.xye").write_bytes(b"\0" * 500)
    (tmp_path / "notes.md").write_text("beam was down\n")
    findings = look(tmp_path)
    assert [g.globs for g in findings.groups] == [("*.xye",)]
    assert sum(count for count, _ in findings.unrecognised.values()) == 2, "it is still said that it was not recognised"


def test_the_preset_a_loader_names_is_proposed_even_where_it_does_not_tell_the_times(root: Path) -> None:
    proposed = propose(look(root / "example_beamtime"))
    source = proposed.split("files: xrd/processed/*.h5")[1].split("\n\n")[0]
    assert "preset: nexus-nxazint1d" in source
    assert "QUESTION" in source
    assert "technique: is not known" not in proposed


def test_impedance_of_linked_techniques_goes_with_its_cycling(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "example_beamtime/echem", tmp_path / "raw/echem")
    path = tmp_path / "raw/beamtime.yaml"
    assert main(["new", str(tmp_path / "raw")]) == 0
    text = path.read_text()
    assert "take turns" in text
    assert "eis: {from: cycler, loader: biologic-eis}" in text
    path.write_text(text.replace("timezone:\n", "timezone: Europe/Paris\n", 1))
    config = read_config(path)
    assert sorted(config.sources) == ["cycler"]
    assert main(["build", str(path), "--json"]) == 0
    tree = open_beamtime(path.with_suffix(".nxs"))
    assert tree["A/eis/observables"].sizes["time"] == 42
    assert tree["A/echem/frames"].sizes["time"] > 4000
