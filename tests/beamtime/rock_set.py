"""The real operando quick-XAS set as a beamtime."""

from __future__ import annotations

from pathlib import Path

ROCK = """\
title: LiNiO2 | Li, operando quick-XAS at ROCK
timezone: Europe/Paris
sources:
  rock:
    loader: xas-columns
    preset: soleil-rock
    files: {data}/multimodal/perex_rock/XAS_pos1/*.txt
    name_pattern: "norm_{{scan_title}}_cell{{cell:d}}_pos{{position}}_*"
  cycler:
    loader: biologic-mpt
    files: {data}/multimodal/perex_rock/EC/*.mpt
cells:
  cell4:
    about: {{cell_type: half, active_mass: 6.84 mg, area: 1.54 cm^2, chemistry: LiNiO2|Li, electrolyte: LP57, electrolyte_volume: 28 uL}}
    echem: {{from: cycler}}
    series:
      xas: {{from: rock, where: {{position: 1}}}}
"""


def write_rock(folder: Path, data: Path) -> Path:
    """Write the configuration of the real set."""
    path = folder / "rock.yaml"
    path.write_text(ROCK.format(data=data))
    return path
