"""Weighed mixtures of laboratory powders (the `dara_precursor_mixture` files): structures, one setting for all, and what is found.

The weights are in the file names. Structures are typed from the papers named; displacements are the recipe's default, B = 0.5 angstrom^2, for every
site: nothing is fitted to the weights. Titania is fitted as anatase and rutile, and is their sum. Run it by hand to print the table.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def _structure(space_group: str, source: str, sites: list[tuple[str, float, float, float]], **cell: float) -> dict[str, Any]:
    places = [dict(zip(("element", "x", "y", "z"), site, strict=True)) for site in sites]
    return {"space_group": space_group, **cell, "sites": places, "source": source}


STRUCTURES = {
    "NiO": _structure("F m -3 m", "bunsenite, rock salt", [("Ni", 0, 0, 0), ("O", 0.5, 0.5, 0.5)], a=4.177),
    "ZnO": _structure(
        "P 63 m c", "zincite, wurtzite; Kisi & Elcombe, Acta Cryst. C 45 (1989) 1867",
        [("Zn", 1 / 3, 2 / 3, 0), ("O", 1 / 3, 2 / 3, 0.3821)], a=3.2498, c=5.2066,
    ),
    "In2O3": _structure(
        "I a -3", "bixbyite; Marezio, Acta Cryst. 20 (1966) 723",
        [("In", 0.25, 0.25, 0.25), ("In", 0.4662, 0, 0.25), ("O", 0.3905, 0.1529, 0.3832)], a=10.117,
    ),
    "MnCO3": _structure(
        "R -3 c:H", "rhodochrosite; Effenberger, Mereiter & Zemann, Z. Kristallogr. 156 (1981) 233",
        [("Mn", 0, 0, 0), ("C", 0, 0, 0.25), ("O", 0.2695, 0, 0.25)], a=4.768, c=15.635,
    ),
    "Li2CO3": _structure(
        "C 1 2/c 1", "zabuyelite; Effenberger & Zemann, Z. Kristallogr. 150 (1979) 133",
        [("Li", 0.1965, 0.4486, 0.8345), ("C", 0, 0.0657, 0.25), ("O", 0, 0.3216, 0.25), ("O", 0.1459, -0.0656, 0.3127)],
        a=8.3593, b=4.9725, c=6.1975, beta=114.83,
    ),
    "ZrO2": _structure(
        "P 1 21/c 1", "baddeleyite; Howard, Hill & Reichert, Acta Cryst. B 44 (1988) 116",
        [("Zr", 0.2754, 0.0395, 0.2083), ("O", 0.0700, 0.3317, 0.3447), ("O", 0.4496, 0.7569, 0.4792)], a=5.1505, b=5.2116, c=5.3173, beta=99.23,
    ),
    "La(OH)3": _structure(
        "P 63/m", "Beall, Milligan & Wolcott, J. Inorg. Nucl. Chem. 39 (1977) 65; H at 0.95 angstrom from O",
        [("La", 1 / 3, 2 / 3, 0.25), ("O", 0.3958, 0.3104, 0.25), ("H", 0.28, 0.15, 0.25)], a=6.529, c=3.852,
    ),
    "Bi2O3": _structure(
        "P 1 21/c 1", "bismite; Malmros, Acta Chem. Scand. 24 (1970) 384",
        [("Bi", 0.5242, 0.1831, 0.3615), ("Bi", 0.0409, 0.0425, 0.7762),
         ("O", 0.780, 0.300, 0.710), ("O", 0.242, 0.044, 0.134), ("O", 0.271, 0.024, 0.513)],
        a=5.8499, b=8.1698, c=7.5123, beta=112.98,
    ),
    "anatase": _structure(
        "I 41/a m d:2", "Howard, Sabine & Dickson, Acta Cryst. B 47 (1991) 462",
        [("Ti", 0, 0.75, 0.125), ("O", 0, 0.25, 0.0831)], a=3.7842, c=9.5146,
    ),
    "rutile": _structure(
        "P 42/m n m", "Howard, Sabine & Dickson, Acta Cryst. B 47 (1991) 462",
        [("Ti", 0, 0, 0), ("O", 0.3053, 0.3053, 0)], a=4.5937, c=2.9587,
    ),
}  # fmt: skip
PARTS = {"TiO2": ("anatase", "rutile")}


@dataclass(frozen=True)
class Found:
    """One phase of one sample, wt %."""

    sample: str
    phase: str
    weighed: float
    found: float
    statistical: float
    systematic: float

    @property
    def off(self) -> float:
        """Found minus weighed."""
        return self.found - self.weighed

    @property
    def inside(self) -> bool:
        """Whether the weight lies in the interval of both uncertainties: 1.96 sigma and the half width, in quadrature."""
        return abs(self.off) <= np.hypot(1.96 * self.statistical, self.systematic)


def weighed(path: Path) -> dict[str, float]:
    """Read wt % from a file's name, scaled to sum to 100: TiO2_0p4009-ZnO_0p6010--2min."""
    parts = [re.fullmatch(r"(.+)_(\d)p(\d+)", part) for part in path.stem.split("--")[0].split("-")]
    amounts = {m[1]: float(f"{m[2]}.{m[3]}") for m in parts if m}
    return {name: 100 * value / sum(amounts.values()) for name, value in amounts.items()}


def recipe(names: list[str]) -> dict[str, Any]:
    """Give the recipe, the same for every sample but for its phases."""
    phases = [part for name in names for part in PARTS.get(name, (name,))]
    return {
        "reducer": "phase-fractions",
        "phases": {name: {"structure": STRUCTURES[name], "refine": ["lattice", "size", "strain"], "lattice_range": 0.01} for name in phases},
        "instrument": {
            "geometry": "bragg-brentano",
            "polarization": "unpolarized",
            "caglioti": [0.005, -0.002, 0.005],
            "refine": ["displacement", "W"],
        },
        "background": {"degree": 8, "inverse": True},
        "two_theta_range": [12, 99],
    }


def fit(path: Path) -> tuple[list[Found], float]:
    """Fit one file; give what is found of each phase, and the goodness of fit."""
    from operando.beamtime import load
    from operando.reduction import reduce

    truth = weighed(path)
    with warnings.catch_warnings():  # some stop before they converge, or at a bound; what they found counts all the same
        warnings.filterwarnings("ignore", message=".*fit_flags")
        out = reduce(load(path, "xrdml", timezone="UTC"), recipe(list(truth)))["observables"].isel(time=0)
    rows = []
    for name, value in truth.items():
        one = out.sel(phase=list(PARTS.get(name, (name,))))
        sigma, wide = (100 * float(np.sqrt((one[f"phase_fraction_{what}"] ** 2).sum())) for what in ("errors", "systematic"))
        rows.append(Found(path.stem, name, value, 100 * float(one.phase_fraction.sum()), sigma, wide))
    return rows, float(out.goodness_of_fit)


def main() -> None:
    folder = Path(__file__).resolve().parents[2] / "shared/data/qpa/dara_precursor_mixture"
    every: list[Found] = []
    for path in sorted(folder.glob("*.xrdml")):
        rows, quality = fit(path)
        every += rows
        said = "; ".join(
            f"{r.phase} {r.weighed:.1f}: {r.off:+.1f} ({r.statistical:.1f} stat, {r.systematic:.1f} sys{'' if r.inside else ', OUTSIDE'})"
            for r in rows
        )
        print(f"{path.stem.split('--')[1]}  gof {quality:.1f}  {said}")
    without = [r for r in every if "Bi2O3" not in r.sample]
    for what, rows in (("all", every), ("without the samples that hold Bi2O3", without)):
        off = np.abs([r.off for r in rows])
        print(f"{what}: mean |deviation| {off.mean():.2f} wt%, median {np.median(off):.2f}, largest {off.max():.2f}; ", end="")
        only = np.mean([abs(r.off) <= 1.96 * r.statistical for r in rows])
        print(f"inside both uncertainties {100 * np.mean([r.inside for r in rows]):.0f} %, inside the statistical one alone {100 * only:.0f} %")


if __name__ == "__main__":
    main()
