"""Impedance: fits, Kramers-Kronig and relaxation times per spectrum, against impedance.py in the same run, and how far off over many spectra.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_impedance.py [--spectra 200] [--rounds 3]

Spectra are those of a circuit with an inductance, two depressed arcs and a Warburg element, 60 points from 100 kHz to 10 mHz, 0.3 % noise, whose
resistances change along the series. Rounds are interleaved: ours and the peer's on the same spectra. The peer is warm-started as a script would do
it: each fit begins at the parameters of the one before; its linear Kramers-Kronig test is called with its defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
import warnings

import impedance.validation
import numpy as np
from impedance.models.circuits import CustomCircuit

from operando.reduction.impedance import Circuit, drt, fit_circuit, fit_circuit_series, kk_residuals

TEXT = "L0-R0-p(R1,CPE1)-p(R2,CPE2)-W1"
TRUE = np.array([2e-7, 4.0, 8.0, 1e-4, 0.9, 20.0, 5e-3, 0.85, 1.5])
CIRCUIT = Circuit.parse(TEXT)
FREQUENCY = np.geomspace(1e5, 1e-2, 60)
DONE = np.cumsum(np.maximum(0.25, 2.1 / FREQUENCY))


def series(n: int, noise: float, seed: int, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """True parameters and noisy spectra; with `drift` every impedance changes by that share during its sweep."""
    rng = np.random.default_rng(seed)
    circuit = Circuit.parse(TEXT)
    true = np.tile(TRUE, (n, 1))
    true[:, 2] *= np.linspace(1, 1.8, n)
    true[:, 5] *= np.linspace(1, 3.0, n)
    z = np.array([circuit.impedance(row, FREQUENCY) for row in true]) * (1 + drift * (DONE / DONE[-1] - 0.5))
    return true, z + noise * np.abs(z) * (rng.standard_normal(z.shape) + 1j * rng.standard_normal(z.shape))


def timed(work: object, *args: object, **options: object) -> tuple[float, object]:
    """CPU seconds, and what came of it."""
    begin = time.process_time()
    out = work(*args, **options)  # type: ignore[operator]
    return time.process_time() - begin, out


def peer_fits(z: np.ndarray) -> np.ndarray:
    """impedance.py, each fit from the one before."""
    guess = [*(TRUE * 1.1)[:4].tolist(), 0.9, *(TRUE * 1.1)[5:7].tolist(), 0.9, 1.6]
    found = []
    for one in z:
        model = CustomCircuit(TEXT, initial_guess=list(guess))
        model.fit(FREQUENCY, one, weight_by_modulus=True)
        guess = model.parameters_.tolist()
        found.append(guess)
    return np.array(found)


def peer_kk_test(z: np.ndarray) -> None:
    """impedance.py's linear Kramers-Kronig test; numpy is put where its code of 1.7 looks for it under numpy 2."""
    impedance.validation.circuit_elements["np"] = np
    with contextlib.redirect_stdout(io.StringIO()):
        for one in z:
            impedance.validation.linKK(FREQUENCY, one, c=0.85, max_M=50, fit_type="complex", add_cap=True)


def spread(values: list[float], scale: float = 1e3) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values) * scale:.1f} ({min(values) * scale:.1f} to {max(values) * scale:.1f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    few = 40
    fit_circuit_series(np.tile(FREQUENCY, (2, 1)), series(2, 3e-3, 99)[1], TEXT)  # imports
    ours, theirs, warm, kk, peer_kk, relax, agree = [], [], [], [], [], [], []
    for round_ in range(settings.rounds):
        _, z = series(few, 3e-3, round_)
        frequency = np.tile(FREQUENCY, (few, 1))
        seconds, fits = timed(fit_circuit_series, frequency, z, TEXT)
        ours.append(seconds / few)
        seconds, found = timed(peer_fits, z)
        theirs.append(seconds / few)
        thetas = [np.log(row) for row in found]  # type: ignore[union-attr]
        warm.append(timed(lambda z=z, t=thetas: [fit_circuit(FREQUENCY, z[k], CIRCUIT, start=t[k - 1]) for k in range(1, few)])[0] / (few - 1))
        mine = np.array([fit.values for fit in fits])  # type: ignore[attr-defined]
        agree.append(float(np.abs(mine[:, [1, 2, 5]] / found[:, [1, 2, 5]] - 1).max()))  # type: ignore[index]
        kk.append(timed(lambda z=z: [kk_residuals(FREQUENCY, one, DONE) for one in z])[0] / few)
        peer_kk.append(timed(peer_kk_test, z)[0] / few)
        relax.append(timed(lambda z=z: [drt(FREQUENCY, one) for one in z])[0] / few)
    print("| per spectrum, CPU ms | ours | impedance.py | ratio |\n|---|---|---|---|")
    rows = (
        ("circuit of 9 parameters, one warm fit", warm, theirs),
        (f"the same, a series of {few}: many starts first, both directions", ours, theirs),
        ("Kramers-Kronig and drift", kk, peer_kk),
    )
    for words, mine, its in rows:
        ratio = statistics.median(b / a for a, b in zip(mine, its, strict=True))
        print(f"| {words} | {spread(mine)} | {spread(its)} | {ratio:.0f} |")
    print(f"| relaxation times with band and peaks | {spread(relax)} | - | - |")
    print(f"\nlargest difference of R0, R1, R2 from the peer's: {max(agree):.2%}\n")

    true, z = series(settings.spectra, 3e-3, 7)
    seconds, fits = timed(fit_circuit_series, np.tile(FREQUENCY, (settings.spectra, 1)), z, TEXT)
    values, errors = np.array([f.values for f in fits]), np.array([f.errors for f in fits])  # type: ignore[attr-defined]
    off = values[:, 5] / true[:, 5] - 1
    pulls = (values - true) / errors
    print(
        f"charge transfer over {settings.spectra} spectra at 0.3 %: "
        f"mean {off.mean():+.3%}, rms {np.sqrt(np.mean(off**2)):.2%}, largest {np.abs(off).max():.2%}; "
        f"pulls of all parameters {np.sqrt(np.mean(pulls**2)):.2f}; 1000 spectra would take {seconds / settings.spectra * 1000:.1f} s CPU\n"
    )
    print("| noise | clean spectra that fail (stated 1 %) | drift of 3 % flagged | drift found | stated 1 sigma |\n|---|---|---|---|---|")
    for noise in (3e-4, 1e-3, 3e-3):
        clean = [kk_residuals(FREQUENCY, one, DONE) for one in series(400, noise, 3)[1]]
        moved = [kk_residuals(FREQUENCY, one, DONE) for one in series(200, noise, 4, 0.03)[1]]
        print(
            f"| {noise:.2%} | {np.mean([not k.passes() for k in clean]):.1%} | {np.mean([not k.passes() for k in moved]):.0%} | "
            f"{np.mean([k.drift for k in moved]):.2%} +- {np.std([k.drift for k in moved]):.2%} | "
            f"{np.median([k.drift_errors for k in moved]):.2%} |"
        )


if __name__ == "__main__":
    main()
