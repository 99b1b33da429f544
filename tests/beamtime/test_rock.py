"""The real operando quick-XAS set, from raw files to a published store with one call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from rock_set import write_rock

import operando as op
from operando.contract import AlignmentFlag

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def xas(rock: Path) -> xr.Dataset:
    return op.open_beamtime(rock)["cell4/xas/frames"].to_dataset().load()


@pytest.fixture(scope="module")
def mpt(shared_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cycler's file read here by plain means: epoch seconds (UTC), E, <I>, Q-Qo in C, Ns."""
    path = next((shared_data / "multimodal/perex_rock/EC").glob("*.mpt"))
    lines = path.read_text(encoding="latin-1").splitlines()
    head = int(lines[1].split(":")[1])
    names = lines[head - 1].split("\t")
    columns = [names.index(n) for n in ("time/s", "Ewe/V", "<I>/mA", "(Q-Qo)/mA.h", "Ns")]
    rows = np.array([[float(line.split("\t")[c].replace(",", ".")) for c in columns] for line in lines[head:]])
    start = np.datetime64("2022-07-26T20:38:30.190", "ns").astype(np.int64) * 1e-9  # 22:38:30.190 in Paris, summer time
    return rows[:, 0] + start, rows[:, 1], rows[:, 2] * 1e-3, rows[:, 3] * 3.6, rows[:, 4]


def test_every_frame_is_inside_with_its_exposure(xas: xr.Dataset) -> None:
    assert xas.sizes == {"time": 160, "energy": 1649}
    assert ((xas.flags.values & int(AlignmentFlag.OUTSIDE | AlignmentFlag.PARTIAL | AlignmentFlag.PAUSE | AlignmentFlag.UNALIGNED)) == 0).all()
    assert (xas.coverage.values == 1).all()
    np.testing.assert_allclose(xas.exposure.values, 65.0, atol=0.5)
    assert xas.exposure.values[0] == pytest.approx(65.003889607)
    begin = xas.time.values.astype("datetime64[ns]").astype(np.int64) * 1e-9 - xas.exposure.values / 2
    assert begin[0] == pytest.approx(np.datetime64("2022-07-26T21:01:58.055", "ms").astype(np.int64) * 1e-3, abs=1e-3)
    steps = np.diff(begin)
    assert np.median(steps[:57]) == pytest.approx(687, abs=0.5)
    assert steps.max() == pytest.approx(1265, abs=1)


def test_means_equal_a_direct_numerical_integration(rock: Path, xas: xr.Dataset, mpt: tuple[np.ndarray, ...]) -> None:
    """Sample the stated rule densely: E linear between records, held where a step begins; <I> holds back to the record before; Q linear."""
    t, e, i, q, ns = mpt
    zero = t[0]
    t = t - zero
    middle = xas.time.values.astype("datetime64[ns]").astype(np.int64) * 1e-9 - zero
    assert "held" in op.open_beamtime(rock)["cell4/xas/alignment"].attrs["interpolation"]
    for k in range(160):
        a, b = middle[k] - xas.exposure.values[k] / 2, middle[k] + xas.exposure.values[k] / 2
        inner = t[(t > a) & (t < b)]
        knots = np.concatenate([[a], inner, [b]])
        voltage = current = charge = 0.0
        for left, right in zip(knots[:-1], knots[1:], strict=True):
            fine = np.linspace(left, right, 401)
            fine = (fine[1:] + fine[:-1]) / 2
            before = int(np.searchsorted(t, fine[0], side="right")) - 1
            held = ns[before] != ns[before + 1]  # the schedule went on to its next step between these two records
            voltage += (e[before] if held else np.interp(fine, t, e).mean()) * (right - left)
            charge += np.interp(fine, t, q).mean() * (right - left)
            current += i[np.searchsorted(t, fine, side="left")].mean() * (right - left)
        assert xas.voltage.values[k] == pytest.approx(voltage / (b - a), abs=1e-6)
        assert xas.current.values[k] == pytest.approx(current / (b - a), abs=1e-12)
        assert xas.charge.values[k] == pytest.approx(charge / (b - a), abs=1e-6)


def test_what_the_files_say_is_kept_and_about_wins(rock: Path, xas: xr.Dataset) -> None:
    tree = op.open_beamtime(rock)
    claims = json.loads(tree["cell4/echem/frames"].attrs["claims"])
    assert "7000" in json.dumps(claims)
    assert "18650" in json.dumps(claims)
    assert float(tree["cell4/echem/cycles"].ds.capacity_charge_per_mass.max()) < 300, "mAh/g of the true 6.84 mg"
    with h5py.File(rock) as h5:
        sample = h5["cell4/sample"]
        assert "6.84" in " ".join(str(sample[name][()]) for name in sample)
    np.testing.assert_allclose(xas.foil_e0.values, 8332.88)
    assert (xas.energy_shift.values.min(), xas.energy_shift.values.max()) == pytest.approx((-0.546864113996, 0.181125983555))
    assert xas.energy_shift.attrs["units"] == "eV"
    assert "already" in " ".join(map(str, xas.energy_shift.attrs.values())).lower()


def test_the_energy_column_is_as_the_file_has_it(xas: xr.Dataset) -> None:
    assert (xas.energy.values[0], xas.energy.values[-1]) == (8060.0, 9500.0)
    edge = np.array([xas.energy.values[np.argmax(mu > 0.5)] for mu in xas.mu.values])
    assert edge.min() > 8344
    assert edge.max() < 8347


def test_charge_and_cycles_equal_an_independent_integration(rock: Path, mpt: tuple[np.ndarray, ...]) -> None:
    t, _, i, q, _ = mpt
    tree = op.open_beamtime(rock)
    records = tree["cell4/echem/frames"].to_dataset()
    integral = np.concatenate([[0.0], np.cumsum(i[1:] * np.diff(t))])
    np.testing.assert_allclose(records.charge.values - records.charge.values[0], q - q[0], atol=3.6e-6)
    np.testing.assert_allclose(records.charge.values - records.charge.values[0], integral, atol=3.6e-6)
    cycles = tree["cell4/echem/cycles"].to_dataset()
    whole = cycles.isel(time=np.flatnonzero(cycles.complete.values))
    assert whole.sizes["time"] == 2
    first = np.flatnonzero((t >= t[0]) & (np.cumsum(i < -1e-5) == 0))
    assert float(whole.capacity_charge[0]) == pytest.approx((integral[first].max() - integral[0]) / 3.6, rel=1e-6)


def test_the_hosts_zone_never_matters(shared_data: Path, tmp_path: Path) -> None:
    code = (
        "import sys, operando as op, numpy as np\n"
        "s = op.build(sys.argv[1], sys.argv[2])\n"
        "ds = op.open_beamtime(s)['cell4/xas/frames'].to_dataset()\n"
        "print(ds.time.values.astype('i8').sum(), float(ds.voltage.sum()).hex(), float(ds.charge.sum()).hex())"
    )
    config = write_rock(tmp_path, shared_data)
    text = config.read_text().replace("XAS_pos1/*.txt", "XAS_pos1/norm_op2*_000*.txt")
    config.write_text(text)
    said = set()
    for zone in ("UTC", "Europe/Paris", "America/Chicago"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(config), str(tmp_path / f"{zone.replace('/', '_')}.nxs")],
            capture_output=True, text=True, env={**os.environ, "TZ": zone}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
