"""Every file in configs/ can be read, wherever the package is installed."""

from __future__ import annotations

import json
import re
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from operando.config import read_config, read_recipe, read_yaml, recipe_names
from operando.loaders import loaders
from operando.loaders.presets import preset_names, read_preset
from operando.loaders.registry import Loader
from operando.reduction import parse_recipe

FOLDER = Path(__file__).resolve().parents[1] / "configs"
YAMLS = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_is_read_strictly(name: str) -> None:
    assert read_yaml(FOLDER / name)


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_lies_where_something_reads_it(name: str) -> None:
    kind = name.partition("/")[0]
    if kind == "recipes":
        assert Path(name).stem in recipe_names()
    elif kind == "beamlines":
        assert Path(name).stem in preset_names()
    else:
        assert name == "beamtime.template.yaml"


def test_the_template_is_a_beamtime() -> None:
    config = read_config(FOLDER / "beamtime.template.yaml")
    assert config.timezone == "Europe/Paris"
    assert set(config.cells) == {"A"}


def test_the_template_names_every_key() -> None:
    from operando import config as models

    text = (FOLDER / "beamtime.template.yaml").read_text(encoding="utf-8")
    clocks = (models.ClockConfig, models.EventsConfig, models.SharedSignalConfig, models.SuggestConfig)
    for model in (models.BeamtimeConfig, models.SourceConfig, *clocks, models.CellConfig, models.About, models.SeriesConfig):
        for name, field in model.model_fields.items():
            assert f"{field.alias or name}:" in text or name in ("first_frame", "part"), f"{model.__name__}.{name} is not in the template"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_fits_its_reducer(name: str) -> None:
    from operando.reduction import get_reducer, parse_recipe

    recipe = read_recipe(name)
    for stage in recipe.get("stages", [recipe]):
        assert get_reducer(stage["reducer"]).name == stage["reducer"]
    assert parse_recipe(recipe)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_its_loaders(name: str) -> None:
    preset = read_preset(name)
    assert preset.get("title")
    found = loaders()
    for loader_name, options in preset["loaders"].items():
        loader = found[loader_name]
        assert isinstance(loader, Loader), loader
        assert not set(options) - set(loader.options)


def test_the_data_is_found_as_a_package() -> None:
    packaged = files("operando.configs")
    assert {"beamtime.template.yaml", "beamtime.schema.json", "recipes"} <= {entry.name for entry in packaged.iterdir()}
    with as_file(packaged / "beamtime.schema.json") as path:
        assert json.loads(path.read_text(encoding="utf-8"))["title"] == "BeamtimeConfig"


def test_what_the_readme_shows_can_be_used(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (FOLDER.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    (tmp_path / "empty_cell.h5").touch()  # a recipe names it
    (tmp_path / "imaging").mkdir()
    for name in ("flat.tif", "dark.tif"):
        (tmp_path / "imaging" / name).touch()
    recipes = 0
    cif = "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
    cif += (
        "_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nAl1 0 0 0\n"
    )
    for name in re.findall(r"cif: ([\w.]+)", "".join(blocks)):
        (tmp_path / name).write_text(cif, encoding="ascii")
    for number, block in enumerate(blocks):
        if block.startswith("title:"):
            (tmp_path / "beamtime.yaml").write_text(block, encoding="utf-8")
            assert read_config(tmp_path / "beamtime.yaml").cells
            continue
        for line in [block] if not block.startswith("clock:") else block.splitlines():
            (tmp_path / f"{number}.yaml").write_text(line, encoding="utf-8")
            if "reducer" in (content := read_yaml(tmp_path / f"{number}.yaml")):
                assert parse_recipe(content, tmp_path)
                recipes += 1
            for value in read_yaml(tmp_path / f"{number}.yaml").values():
                if isinstance(value, dict) and "recipe" in value:
                    assert parse_recipe(value["recipe"], tmp_path)
                    recipes += 1
    assert recipes >= 3
