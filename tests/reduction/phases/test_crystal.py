"""Structures and structure factors: against gemmi, against hand calculation, and what a broken CIF is told."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.contract import ConfigError
from operando.reduction.phases import crystal
from operando.reduction.phases.crystal import Crystal, Structure, read_cif

ZNO = """data_zno
_cell_length_a 3.2498
_cell_length_b 3.2498
_cell_length_c 5.2066
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'P 63 m c'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Zn1 Zn 0.33333 0.66667 0.00000 1.0 0.006
O1  O  0.33333 0.66667 0.38210 0.9 0.009
"""


@pytest.fixture
def zno(tmp_path: Path) -> Path:
    (tmp_path / "zno.cif").write_text(ZNO)
    return tmp_path / "zno.cif"


def _by_gemmi(path: Path, hkl: np.ndarray) -> np.ndarray:
    small = gemmi.read_small_structure(str(path))
    small.change_occupancies_to_crystallographic()
    small.setup_cell_images()
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    return np.array([abs(calculator.calculate_sf_from_small_structure(small, [int(n) for n in h])) ** 2 for h in hkl])


def test_structure_factors_are_gemmis(zno: Path) -> None:
    """The same tables (IT92, neutral atoms), without dispersion: the same |F|^2."""
    made = Crystal(read_cif(zno), 1.5406)
    members = made.reflections(0.6).members
    ours, theirs = made.squared(members, dispersion=False), _by_gemmi(zno, members)
    # gemmi keeps the 0.33333 of the file, which the space group makes 1/3
    assert np.max(np.abs(ours - theirs)) / theirs.max() < 1e-4


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["1000017.cif", "1000043.cif", "1010942.cif", "NiO_225_sym.cif", "1530150.cif"])
def test_structure_factors_are_gemmis_for_real_cifs(name: str, shared_data: Path) -> None:
    path = shared_data / "qpa/cif_cod_CC0" / name
    made = Crystal(read_cif(path), 1.5406, b_default=0.0)
    members = made.reflections(0.7).members
    ours, theirs = made.squared(members, dispersion=False), _by_gemmi(path, members)
    assert len(members) > 100
    assert np.max(np.abs(ours - theirs)) / theirs.max() < 1e-9


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "formula", "z", "density"),
    [
        ("1000017.cif", "O3 Al2", 6, 3.98),  # corundum
        ("1000043.cif", "Ca F2", 4, 3.18),  # fluorite
        ("1010942.cif", "Ti O2", 4, 3.9),  # anatase; its cell of 1932 is a little small
        ("1530150.cif", "O2 Ti", 2, 4.25),  # rutile
        ("NiO_225_sym.cif", "Ni O", 4, 6.8),
        ("ZnO_zincite_handwritten.cif", "Zn O", 2, 5.68),
    ],
)
def test_content_and_density(name: str, formula: str, z: int, density: float, shared_data: Path) -> None:
    made = Crystal(read_cif(shared_data / "qpa/cif_cod_CC0" / name), 1.5406)
    assert (made.formula, made.formula_units) == (formula, z)
    assert made.density() == pytest.approx(density, rel=0.05)


def test_sums_over_families_are_sums_over_members(zno: Path) -> None:
    made = Crystal(read_cif(zno), 0.5)
    reflections = made.reflections(0.8)
    sums = np.bincount(reflections.family, made.squared(reflections.members))
    # f0 of single members is gemmi's, in single precision
    assert np.allclose(made.strengths(reflections), sums, rtol=1e-6, atol=1e-7 * sums.max())
    stretched = made.cell * [1.01, 1.01, 0.98, 1, 1, 1]
    sums = np.bincount(reflections.family, made.squared(reflections.members, stretched, b_shift=0.3))
    assert np.allclose(made.strengths(reflections, stretched, b_shift=0.3), sums, rtol=1e-6, atol=1e-7 * sums.max())


def test_silicon_by_hand() -> None:
    """Diamond structure: F = 8 f for h+k+l = 4n, 4 (1 +- i) f for odd ones, and nothing for 200 and 222 (spherical atoms)."""
    si = Crystal(
        Structure.model_validate({"space_group": "F d -3 m:1", "a": 5.431, "sites": [{"element": "Si", "x": 0, "y": 0, "z": 0, "b_iso": 0}]}), 1.0
    )
    f = lambda hkl: np.sqrt(si.squared(np.array([hkl]), dispersion=False)[0])  # noqa: E731
    table = gemmi.Element("Si").it92
    s2 = lambda hkl: np.sum(np.square(hkl)) / 5.431**2 / 4  # noqa: E731
    assert f([2, 2, 0]) == pytest.approx(8 * table.calculate_sf(s2([2, 2, 0])), rel=1e-9)
    assert f([1, 1, 1]) == pytest.approx(np.sqrt(32) * table.calculate_sf(s2([1, 1, 1])), rel=1e-9)
    listed = {tuple(h) for h in si.reflections(0.9).hkl.tolist()}
    assert (2, 0, 0) not in listed
    assert {(1, 1, 1), (2, 2, 0), (3, 1, 1)} <= listed


def test_reflections_on_one_d_are_one_family() -> None:
    al = Crystal(Structure.model_validate({"space_group": "F m -3 m", "a": 4.05, "sites": [{"element": "Al", "x": 0, "y": 0, "z": 0}]}), 1.0)
    reflections = al.reflections(0.75)
    at = [k for k, h in enumerate(reflections.hkl.tolist()) if sum(x * x for x in h) == 27]
    assert len(at) == 1
    assert reflections.multiplicity[at[0]] == 24 + 8  # 511 and 333


_CELLS = {
    "P -1": (5.1, 6.2, 7.3, 81.0, 95.0, 102.0),
    "P 1 21/c 1": (5.1, 6.2, 7.3, 90.0, 103.0, 90.0),
    "P n m a": (10.3, 6.0, 4.7, 90.0, 90.0, 90.0),
    "I 41/a m d:1": (3.78, 3.78, 9.5, 90.0, 90.0, 90.0),
    "R -3 m:H": (2.87, 2.87, 14.2, 90.0, 90.0, 120.0),
    "R -3 m:R": (5.0, 5.0, 5.0, 33.0, 33.0, 33.0),
    "F d -3 m:2": (8.2, 8.2, 8.2, 90.0, 90.0, 90.0),
}


@pytest.mark.parametrize("group", list(_CELLS))
def test_spacings_and_lattices_by_gemmi(group: str) -> None:
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    typed = {"space_group": group, "sites": [{"element": "Ni", "x": 0.1, "y": 0.2, "z": 0.3}]} | dict(zip(names, _CELLS[group], strict=True))
    made = Crystal(Structure.model_validate(typed), 1.0)
    reflections = made.reflections(1.2)
    theirs = [gemmi.UnitCell(*_CELLS[group]).calculate_1_d2([int(x) for x in h]) for h in reflections.hkl]
    assert np.allclose(reflections.terms @ made.free, theirs, rtol=1e-10)
    assert np.allclose(made.cell_from(made.free), made.cell, rtol=1e-9)
    assert made.volume(made.cell) == pytest.approx(gemmi.UnitCell(*_CELLS[group]).volume)


@given(st.floats(0.97, 1.03), st.floats(0.97, 1.03))
def test_a_lattice_goes_to_the_metric_and_back(x: float, y: float) -> None:
    made = Crystal(
        Structure.model_validate({"space_group": "R -3 m:H", "a": 2.87, "c": 14.2, "sites": [{"element": "Ni", "x": 0, "y": 0, "z": 0}]}), 1.0
    )
    cell = made.cell * [x, x, y, 1, 1, 1]
    assert np.allclose(made.cell_from(made.free_of(cell)), cell, rtol=1e-9)


def test_dispersion_is_that_of_the_tables() -> None:
    """Cu K-alpha 1, International Tables C (2006), table 4.2.6.8: Zn f' -1.55, f'' 0.68; they differ by some hundredths among authors."""
    value = crystal.dispersion_of("Zn", 1.54056)
    assert value.real == pytest.approx(-1.55, abs=0.08)
    assert value.imag == pytest.approx(0.68, abs=0.03)


def test_absorption_is_that_of_the_tables() -> None:
    """Copper at Cu K-alpha: 52.9 cm^2/g (International Tables C, 4.2.4.3)."""
    cu = Crystal(Structure.model_validate({"space_group": "F m -3 m", "a": 3.6149, "sites": [{"element": "Cu", "x": 0, "y": 0, "z": 0}]}), 1.5406)
    assert cu.absorption() / cu.density() == pytest.approx(52.9, rel=0.05)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: "not a cif at all {{{", "no CIF"),
        (lambda t: "", "no atoms|no CIF"),
        (lambda t: t.replace("'P 63 m c'", "'P 99 x'"), "no space group"),
        (lambda t: t[: t.index("loop_")], "no atoms"),
        (lambda t: t.replace("1.0 0.006", "? 0.006"), "occupancies open"),
        (lambda t: t.replace("_cell_angle_gamma 120", "_cell_angle_gamma 90"), "does not fit"),
        (lambda t: t.replace("Zn1 Zn", "Xx1 Xx"), "no usable structure|cannot be used"),
        (lambda t: t.replace("0.38210", "?"), "coordinates|no usable|cannot be read"),
    ],
)
def test_a_broken_cif_is_told(change: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_text(change(ZNO))  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said) as caught:
        read_cif(tmp_path / "x.cif")
    assert "x.cif" in str(caught.value)


def test_a_missing_cif_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such CIF"):
        read_cif(tmp_path / "gone.cif")


def test_a_missing_occupancy_is_one_and_a_missing_displacement_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_text(
        ZNO.replace("_atom_site_occupancy\n_atom_site_U_iso_or_equiv\n", "").replace(" 1.0 0.006", "").replace(" 0.9 0.009", "")
    )
    made = read_cif(tmp_path / "x.cif")
    assert [(s.occupancy, s.b_iso) for s in made.sites] == [(1.0, None)] * 2


@given(st.binary(max_size=400))
def test_no_bytes_are_read_as_anything_but_a_cif(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("cif") / "x.cif"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        read_cif(path)


@pytest.mark.parametrize(
    ("typed", "meant"), [(0.333, 1 / 3), (0.6667, 2 / 3), (0.16667, 1 / 6), (0.3746, 0.3746), (0.2504, 0.2504), (0.3339, 0.3339)]
)
def test_thirds_typed_with_few_digits_are_thirds_and_nothing_else_is_moved(typed: float, meant: float) -> None:
    assert crystal._nice(typed) == pytest.approx(meant, abs=1e-9)
