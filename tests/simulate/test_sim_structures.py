"""The simulated structures: |F|^2 by hand with another library's form factors, extinctions, multiplicities, densities."""

from __future__ import annotations

import numpy as np
import pytest

from operando.simulate import structures as st
from operando.simulate.materials import oxide_lattice

D_MIN = 1.0


def squares_by_hand(structure: st.Structure, positions: list[tuple[str, float, float, float, float, float]], d: float, hkl) -> float:
    """Sum over the whole cell: (element, x, y, z, occupancy, Uiso), with IT92 form factors and Cromer-Liberman f', f'' from gemmi."""
    gemmi = pytest.importorskip("gemmi")
    stol2 = 1 / (4 * d**2)
    total = 0j
    for element, x, y, z, occupancy, uiso in positions:
        one = gemmi.Element(element)
        f1, f2 = gemmi.cromer_liberman(z=one.atomic_number, energy=st.ENERGY * 1e3)
        f = one.it92.calculate_sf(stol2) + f1 + 1j * f2
        total += occupancy * f * np.exp(-8 * np.pi**2 * uiso * stol2) * np.exp(2j * np.pi * np.dot(hkl, (x, y, z)))
    return abs(total) ** 2


def whole_cell(x: float, z: float) -> list[tuple[str, float, float, float, float, float]]:
    shifts = [(0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)]
    atoms = st.oxide(x, z).atoms
    atoms += tuple((e, u, v, -w, occ, b) for e, u, v, w, occ, b in atoms if e == "O")
    return [(e, u + a, v + b, w + c, occ, iso) for e, u, v, w, occ, iso in atoms for a, b, c in shifts]


@pytest.mark.parametrize("hkl", [(0, 0, 3), (1, 0, 1), (0, 1, 2), (1, 0, 4), (1, 0, 8), (1, 1, 0)])
@pytest.mark.parametrize("x", [0.24, 0.9])
def test_oxide_by_hand(hkl, x):
    a, c, z = (float(v) for v in oxide_lattice(x))
    if sum(hkl) and (-hkl[0] + hkl[1] + hkl[2]) % 3:
        hkl = (hkl[1], hkl[0], hkl[2])  # obverse setting
    d = float(st.spacing(np.array([hkl]), a, c)[0])
    found = st.squared_structure_factors(st.oxide(x, z), a, c, np.array([hkl]))[0]
    assert found == pytest.approx(squares_by_hand(st.oxide(x, z), whole_cell(x, z), d, hkl), rel=0.02)
    assert found > 10


def test_lic12_by_hand():
    positions = [("Li", 0.0, 0.0, 0.0, 1.0, 0.02)]
    ring = [(1 / 3, 0), (0, 1 / 3), (2 / 3, 2 / 3), (2 / 3, 0), (0, 2 / 3), (1 / 3, 1 / 3)]
    positions += [("C", u, v, w, 1.0, 0.006) for u, v in ring for w in (0.262, -0.262)]
    found = st.squared_structure_factors(st.LIC12, *st.LIC12_CELL, np.array([[0, 0, 2], [1, 0, 1], [1, 1, 0]]))
    for hkl, square in zip([(0, 0, 2), (1, 0, 1), (1, 1, 0)], found, strict=True):
        d = float(st.spacing(np.array([hkl]), *st.LIC12_CELL)[0])
        assert square == pytest.approx(squares_by_hand(st.LIC12, positions, d, hkl), rel=0.01, abs=0.05)


def test_extinctions_and_multiplicities():
    oxide = st.oxide_families(D_MIN).families
    h, k, l = oxide.hkl.T  # noqa: E741
    # of one family both (hkl) and (khl) are members, only one of them obeys -h + k + l = 3n
    assert np.all(((-h + k + l) % 3 == 0) | ((-k + h + l) % 3 == 0))
    size = {tuple(hkl): n for hkl, n in zip(oxide.hkl.tolist(), oxide.multiplicity.tolist(), strict=True)}
    assert (size[0, 0, 3], size[1, 0, 4], size[1, 1, 0]) == (2, 12, 6)
    copper = st.families(st.COPPER, *st.COPPER_CELL, D_MIN)
    assert [tuple(sorted(hkl)) for hkl in copper.hkl.tolist()] == [(1, 1, 1), (0, 0, 2), (0, 2, 2), (1, 1, 3), (2, 2, 2)]
    assert copper.multiplicity.tolist() == [8, 6, 12, 24, 8]
    graphite = st.graphite_families(D_MIN).families
    assert graphite.hkl[0].tolist() == [0, 0, 2]
    assert not any(hkl[:2] == [0, 0] and hkl[2] % 2 for hkl in graphite.hkl.tolist())
    assert copper.spacing(*st.COPPER_CELL)[0] == pytest.approx(3.6149 / np.sqrt(3))


@pytest.mark.parametrize("x", [0.262, 0.31, 0.577, 0.93])
def test_between_grid_points(x):
    table = st.oxide_families(D_MIN)
    a, c, z = (float(v) for v in oxide_lattice(x))
    members = table.families.members
    direct = st.squared_structure_factors(st.oxide(x, z), a, c, np.concatenate(members))
    direct = np.add.reduceat(direct, np.cumsum([0, *(len(one) for one in members[:-1])]))
    np.testing.assert_allclose(table.strength(x), direct, rtol=3e-3, atol=3e-4 * direct.max())


def test_densities():
    def density(structure: st.Structure, a: float, c: float) -> float:
        return structure.formula_units * structure.mass / structure.volume(a, c) / 0.602214076

    assert density(st.GRAPHITE, 2.461, 6.709) == pytest.approx(2.267, abs=0.01)
    assert density(st.COPPER, *st.COPPER_CELL) == pytest.approx(8.93, abs=0.03)
    assert density(st.ALUMINIUM, *st.ALUMINIUM_CELL) == pytest.approx(2.70, abs=0.01)
    a, c, z = (float(v) for v in oxide_lattice(1.0))
    assert density(st.oxide(1.0, z), a, c) == pytest.approx(4.77, abs=0.05)
    assert st.oxide(1.0, z).mass == pytest.approx(97.28, abs=0.01)
