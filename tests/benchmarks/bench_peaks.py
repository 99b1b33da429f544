"""Single lines: fits per frame against lmfit on the same frames in the same run, how far apart the two are, and whether errors are what they say.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python tests/benchmarks/bench_peaks.py [--frames 60] [--rounds 5]

lmfit (BSD) is no dependency: pip install lmfit. It is used as its documentation does: PseudoVoigtModel and LinearModel, starts from the frame,
weights of the counts. Rounds are interleaved: ours and the peer's on the same frames; CPU time. Our loops are compiled before; that time is told.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

import numpy as np

from operando.reduction.lines import Line, fit_lines

X = np.linspace(5, 6, 81)
CASES: dict[str, list[Line]] = {
    "one line, 6 parameters": [Line("a", 5.3, 5.7, (5, 6), 0.1)],
    "three lines that overlap, 14 parameters": [
        Line("a", 5.2, 5.35, (5, 6), 0.1),
        Line("b", 5.4, 5.5, (5, 6), 0.1),
        Line("c", 5.56, 5.7, (5, 6), 0.1),
    ],
}
PLACES = {1: [5.5], 3: [5.28, 5.45, 5.62]}


def simulate(lines: int, frames: int, seed: int, level: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """True places (frame, line) and counts."""
    rng = np.random.default_rng(seed)
    drift = 0.03 * np.sin(np.arange(frames) / 5)[:, None]
    places = np.array(PLACES[lines]) + drift
    u = (X - places[..., None]) / 0.09
    shape = 0.4 * 2 / np.pi / 0.09 / (1 + 4 * u**2) + 0.6 * 2 * np.sqrt(np.log(2) / np.pi) / 0.09 * np.exp(-4 * np.log(2) * u**2)
    expected = level * (300 + 40 * (X - 5) + 150 * shape.sum(axis=1))
    return places, rng.poisson(expected).astype(float)


def timed(work: Any, *args: Any, **options: Any) -> tuple[float, Any]:
    """CPU seconds, and what came of it."""
    begin = time.process_time()
    out = work(*args, **options)
    return time.process_time() - begin, out


def peer_fits(counts: np.ndarray, lines: list[Line]) -> tuple[np.ndarray, np.ndarray]:
    """lmfit, frame by frame: positions and their errors."""
    from lmfit.models import LinearModel, PseudoVoigtModel

    model = LinearModel(prefix="bg_")
    for line in lines:
        model += PseudoVoigtModel(prefix=f"{line.name}_")
    places, errors = [], []
    for row in counts:
        low = float(np.percentile(row, 10))
        params = model.make_params(bg_slope=0.0, bg_intercept=low)
        for line in lines:
            inside = (line.low <= X) & (line.high >= X)
            at = float(X[inside][np.argmax(row[inside])]) + 1.1e-3  # off the middle of the bounds, where its derivative by differences is lost
            height = max(float(row[inside].max()) - low, 1.0)
            params[f"{line.name}_amplitude"].set(value=height * line.fwhm * 1.2, min=0)
            params[f"{line.name}_center"].set(value=min(max(at, line.low + 0.01), line.high - 0.01), min=line.low, max=line.high)
            params[f"{line.name}_sigma"].set(value=line.fwhm / 2, min=0.005, max=0.5)
            params[f"{line.name}_fraction"].set(value=0.5, min=0, max=1)
        done = model.fit(row, params, x=X, weights=1 / np.sqrt(np.maximum(row, 1)), scale_covar=False)
        places.append([done.params[f"{line.name}_center"].value for line in lines])
        errors.append([done.params[f"{line.name}_center"].stderr or np.nan for line in lines])
    return np.array(places), np.array(errors)


def spread(values: list[float], scale: float = 1e3) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values) * scale:.3g} ({min(values) * scale:.3g} to {max(values) * scale:.3g})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    compiling, _ = timed(fit_lines, X, simulate(1, 2, 99)[1], None, CASES["one line, 6 parameters"])
    peer_fits(simulate(1, 2, 99)[1], CASES["one line, 6 parameters"])  # imports
    print("| per frame, CPU ms | ours | lmfit | ratio | positions apart, in sigma | sigma, ours / lmfit |\n|---|---|---|---|---|---|")
    for words, lines in CASES.items():
        ours, theirs, apart, sigmas = [], [], [], []
        for round_ in range(settings.rounds):
            _, counts = simulate(len(lines), settings.frames, round_)
            many = np.tile(counts, (20, 1))
            seconds, found = timed(fit_lines, X, many, np.sqrt(np.maximum(many, 1)), lines)
            ours.append(seconds / len(many))
            seconds, (places, errors) = timed(peer_fits, counts, lines)
            theirs.append(seconds / len(counts))
            n = len(counts)
            apart.append(float(np.nanmax(np.abs(found.position[:n] - places) / found.errors["position"][:n])))
            sigmas.append(float(np.nanmedian(found.errors["position"][:n] / errors)))
        ratio = [b / a for a, b in zip(ours, theirs, strict=True)]
        print(
            f"| {words} | {spread(ours)} | {spread(theirs)} | {statistics.median(ratio):.0f} ({min(ratio):.0f} to {max(ratio):.0f}) "
            f"| at most {max(apart):.2f} | {statistics.median(sigmas):.2f} |"
        )
    print(f"\ncompilation, once per process: {compiling:.1f} s CPU")
    print("\n| deviation from the truth over its stated sigma, 3000 frames: mean, spread (1 is right) | counts x 1 | counts / 10 |\n|---|---|---|")
    for words, lines in CASES.items():
        cells = []
        for level in (1.0, 0.1):
            true, counts = simulate(len(lines), 3000, 7, level)
            found = fit_lines(X, counts, None, lines)
            pull = (found.position - true) / found.errors["position"]
            cells.append(f"{np.nanmean(pull):+.2f}, {np.nanstd(pull):.2f}")
        print(f"| position, {words} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
