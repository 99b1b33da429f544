"""Whole-pattern fits: our warm fit of three phases against easydiffraction on the same patterns, and what a fit of a K-alpha doublet takes.

    python tests/benchmarks/bench_phases.py [--peer PYTHON] [--calculator cryspy|crysfml]

The patterns are Poisson resamples of the fitted pattern of IUCr round robin sample 1G (corundum, zincite, fluorite), every second channel.
PYTHON is an interpreter that has easydiffraction (pip install easydiffraction). It knows no doublet: the patterns that both fit are of one
wavelength. Both begin where a fit of the unresampled pattern ended. CPU time, one thread, rounds interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
DATA = HERE.parents[3] / "shared/data/qpa"
CIFS = {"corundum": "1000017.cif", "zincite": "ZnO_zincite_handwritten.cif", "fluorite": "1000043.cif"}
WAVES = (1.54056, 1.54439)


def recipe(waves: tuple[float, ...]) -> Any:
    """Give the recipe: per phase lattice and size, in common U, V, W and zero; scales and eight terms of the background."""
    from operando.reduction import parse_recipe
    from operando.reduction.phases.crystal import read_cif

    phases: dict[str, Any] = {name: {"structure": read_cif(DATA / "cif_cod_CC0" / file).model_dump(), "b_iso": 0.5} for name, file in CIFS.items()}
    phases = {name: {"structure": p["structure"], "refine": ["lattice", "size"]} for name, p in phases.items()}
    return parse_recipe(
        {
            "reducer": "phase-fractions",
            "phases": phases,
            "wavelength": list(waves),
            "instrument": {
                "geometry": "bragg-brentano",
                "polarization": "unpolarized",
                "caglioti": [0.005, -0.002, 0.005],
                "refine": ["zero", "U", "V", "W"],
            },
            "background": {"degree": 7},
            "two_theta_range": [20, 149.9],
        }
    )[0].recipe


class Ours:
    """Our engine on one grid, warm from a fit of the pattern it was made with."""

    def __init__(self, two_theta: np.ndarray, counts: np.ndarray, waves: tuple[float, ...]) -> None:
        from operando.reduction.phases.engine import Engine

        self.engine = Engine(recipe(waves), two_theta, np.array(waves), np.array([1.0, 0.5][: len(waves)]))
        self.two_theta = self.engine.two_theta
        self.last = self._frame(counts[self.engine.used]).cold()

    def _frame(self, counts: np.ndarray) -> Any:
        from operando.reduction.phases.fitting import Frame, noise_of

        return Frame(self.engine, counts, noise_of(counts, np.sqrt(np.maximum(counts, 1.0))))

    def fit(self, counts: np.ndarray) -> tuple[float, Any]:
        """CPU seconds of a warm fit of a frame as it arrives, and the fit."""
        begun = time.process_time()
        fit = self._frame(counts).warm(self.last)
        return time.process_time() - begun, fit


def measured() -> tuple[np.ndarray, np.ndarray]:
    """Angles (degrees) and counts of sample 1G, every second channel from 20 degrees."""
    from operando.beamtime import load

    series = load(DATA / "iucr_cpd_qarr/cpd-1g.dat", "xrd-1d", timezone="UTC")
    two_theta, counts = np.asarray(series["two_theta"].values, float), np.asarray(series["intensity"].values, float)[0]
    keep = two_theta >= 20
    return two_theta[keep][::2], counts[keep][::2]


def told(name: str, seconds: list[float]) -> None:
    low, middle, high = np.percentile(seconds, [5, 50, 95])
    print(f"{name}: median {1e3 * middle:.1f} ms, p5 {1e3 * low:.1f}, p95 {1e3 * high:.1f} (CPU, {len(seconds)} fits)")


def alone() -> None:
    """Begin again with one thread for every library: they read the environment when they are imported."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    if any(os.environ.get(name) != "1" for name in names):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(names, "1")})


def main() -> None:
    alone()
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--peer", help="interpreter that has easydiffraction")
    arguments.add_argument("--calculator", default="cryspy", choices=["cryspy", "crysfml"])
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--peer-rounds", type=int, default=8)
    asked = arguments.parse_args()
    rng = np.random.default_rng(1)

    two_theta, counts = measured()
    doublet = Ours(two_theta, counts, WAVES)
    clean = np.asarray(doublet.last.calculated, float)
    times, fits = zip(*(doublet.fit(rng.poisson(clean).astype(float)) for _ in range(asked.rounds + 3)), strict=True)
    n = int(doublet.engine.may.sum()) + 3 + len(doublet.engine.basis)
    print(f"3 phases, K-alpha doublet, {doublet.two_theta.size} channels, {n} parameters")
    told("ours, warm, doublet", list(times[3:]))
    print(f"  converged {sum(f.status == 0 for f in fits)} of {len(fits)}, steps {np.mean([f.iterations for f in fits]):.1f} on average")
    if not asked.peer:
        return

    single = Ours(two_theta, counts, WAVES[:1])  # only to have an engine with one wavelength
    ahead = single.last
    theta = doublet.last.theta.copy()
    patterns = np.array([single.engine.columns(theta, k, None)[0] for k in range(3)])
    clean = doublet.last.scales @ patterns + doublet.last.under  # the same sample without its K-alpha 2
    single.last = single._frame(clean).warm(ahead)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pattern.xye"

        def write(y: np.ndarray) -> Path:
            np.savetxt(path, np.c_[single.two_theta, y, np.sqrt(np.maximum(clean, 1.0))])
            return path

        command = [asked.peer, str(HERE.with_name("peer_easydiffraction.py")), str(write(clean)), str(WAVES[0]), asked.calculator]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder) as peer:
            assert peer.stdin
            assert peer.stdout
            first = json.loads(peer.stdout.readline())
            mine, theirs, answers = [], [], []
            for _ in range(asked.peer_rounds):
                resampled = rng.poisson(clean).astype(float)
                for _ in range(3):
                    seconds, fit = single.fit(resampled)
                    mine.append(seconds)
                print(json.dumps({"pattern": str(write(resampled))}), file=peer.stdin, flush=True)
                cells = [single.engine.cell(fit.theta, k)[0] for k in range(3)]
                answers.append(json.loads(peer.stdout.readline()) | {"ours_chi2": fit.chi2_reduced, "ours_a": cells})
                theirs.append(answers[-1]["seconds"])
            peer.stdin.close()
    n = int(single.engine.may.sum()) + 3 + len(single.engine.basis)
    print(
        f"one wavelength, {single.two_theta.size} channels; ours {n} parameters, "
        f"easydiffraction {first['version']} ({asked.calculator}) {first['parameters']}"
    )
    told("ours, warm", mine)
    told("easydiffraction, warm", theirs)
    print(f"ratio of medians: {np.median(theirs) / np.median(mine):.0f}x, spread {min(theirs) / max(mine):.0f} to {max(theirs) / min(mine):.0f}x")
    last = answers[-1]
    ours, peers = ", ".join(f"{a:.5f}" for a in last["ours_a"]), ", ".join(f"{a:.5f}" for a in last["a"].values())
    print(f"last pattern: reduced chi^2 ours {last['ours_chi2']:.3f}, theirs {last['chi2']:.3f}; a (angstrom) ours {ours}; theirs {peers}")


if __name__ == "__main__":
    main()
    sys.exit(0)
