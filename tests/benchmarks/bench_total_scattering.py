"""Total scattering in memory: one operator per series against the same transform with its matrix rebuilt for every frame.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_total_scattering.py [--channels 2500] [--points 3000] [--rounds 5]

Rounds are interleaved; the table gives median and spread (lowest to highest) of the CPU time per frame in ms, and the median of the ratios within
rounds. The peer rebuilds the polynomial, the window and the sines for every frame and multiplies. Where pystog can be imported (it is no
dependency), its Fourier transform of F(Q) to G(r) is timed too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from operando.reduction.total_scattering.operator import Operator, trapezoid
from operando.reduction.total_scattering.scattering_factors import parse_composition, scattering_factors


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=2500)
    parser.add_argument("--points", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=256, help="in one batch; the peers do a hundredth of them")
    settings = parser.parse_args()
    q, r = np.linspace(0.6, 24.0, settings.channels), 0.01 * np.arange(1, settings.points + 1)
    factors = scattering_factors(parse_composition("LiNi0.8Mn0.1Co0.1O2"), q, wavelength=0.1839)
    expected = factors.mean_of_squares + factors.compton
    structure = 0.8 * np.sin(2.0 * q) / (2.0 * q) * np.exp(-0.005 * q**2)
    counts = np.random.default_rng(0).poisson(300 * (expected + factors.mean_squared * structure), (settings.frames, q.size)).astype(float)
    variance = np.maximum(counts, 1.0)
    terms = 0.9 * q[-1] / np.pi

    def built() -> Operator:
        return Operator(q, r, factors.mean_squared, expected, terms=terms, scale_from=0.6 * q[-1])

    operator = built()
    operator.apply(counts[:2], variance[:2])
    few = max(2, settings.frames // 100)

    def rebuilt(frame: np.ndarray) -> np.ndarray:
        weight = np.where(q >= 0.6 * q[-1], trapezoid(q) * q**2 / factors.mean_squared, 0.0)
        f = q * (frame / ((weight @ frame) / (weight @ expected)) - expected) / factors.mean_squared
        root, slow = np.sqrt(trapezoid(q)), np.zeros_like(q)
        for count, share in ((int(terms), 1 - terms % 1), (int(terms) + 1, terms % 1)):
            powers = (q[:, None] / q[-1]) ** np.arange(1, count + 1)
            slow += share * powers @ np.linalg.lstsq(powers * root[:, None], f * root, rcond=None)[0]
        return 2.0 / np.pi * (np.sin(np.outer(r, q)) * trapezoid(q)) @ (f - slow)

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "operando, G(r)": (lambda: operator.apply(counts), settings.frames),
        "operando, G(r) with errors": (lambda: operator.apply(counts, variance), settings.frames),
        "matrix rebuilt per frame, G(r)": (lambda: [rebuilt(one) for one in counts[:few]], few),
        "operator built once per series": (lambda: built(), 1),
    }
    reduced = operator.apply(counts[:few])
    off = np.abs(reduced.g[0] - rebuilt(counts[0])).max()
    print(f"{q.size} channels, {r.size} points of r; largest difference from the peer {off:.1e} 1/angstrom^2")
    try:
        from pystog import Transformer
    except ImportError:
        print("pystog is not installed")
    else:
        peer = Transformer()
        theirs = peer.F_to_G(q, reduced.f[0], r)[1]
        print(f"pystog's G(r) of our F(Q): largest difference {np.abs(theirs - reduced.g[0]).max():.1e} 1/angstrom^2")
        ways["pystog, F(Q) to G(r) alone"] = (lambda: [peer.F_to_G(q, one, r) for one in reduced.f], few)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(settings.rounds):
        for name, (run, count) in ways.items():
            begin = time.process_time()
            run()
            times[name].append((time.process_time() - begin) / count * 1e3)
    print("\n| way | CPU ms per frame | against ours without errors |\n|---|---|---|")
    first = times["operando, G(r)"]
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) | {ratio:.0f} |")


if __name__ == "__main__":
    main()
