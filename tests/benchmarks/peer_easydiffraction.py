"""easydiffraction (EasyScience, BSD-3) as the peer of bench_phases.py; run by its own interpreter, told what to do line by line on standard input.

Line in: JSON {"pattern": path of two columns and errors} to fit from where the first fit ended; line out: JSON {"seconds": CPU time of the fit, ...}.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version

import easydiffraction as ed
import numpy as np

STRUCTURES = {  # name: space group, its setting, cell, atoms with their Wyckoff letters, scale at the start relative to the others
    "corundum": ("R -3 c", "h", {"length_a": 4.7590, "length_c": 12.9920}, [("Al", 0, 0, 0.35217, "c"), ("O", 0.69365, 0, 0.25, "e")]),
    "zincite": ("P 63 m c", None, {"length_a": 3.2498, "length_c": 5.2066}, [("Zn", 1 / 3, 2 / 3, 0, "b"), ("O", 1 / 3, 2 / 3, 0.3821, "b")]),
    "fluorite": ("F m -3 m", None, {"length_a": 5.4630}, [("Ca", 0, 0, 0, "a"), ("F", 0.25, 0.25, 0.25, "c")]),
}


def build(first: str, wavelength: float, calculator: str) -> ed.Project:
    """Make the project: three phases, one pattern, the parameters that are refined."""
    project = ed.Project()
    for name, (group, setting, cell, atoms) in STRUCTURES.items():
        project.structures.create(name=name)
        one = project.structures[name]
        one.space_group.name_h_m = group
        if setting:
            one.space_group.it_coordinate_system_code = setting
        for key, value in cell.items():
            setattr(one.cell, key, value)
        for element, x, y, z, letter in atoms:
            one.atom_sites.create(
                label=element, type_symbol=element, fract_x=x, fract_y=y, fract_z=z, occupancy=1.0, b_iso=0.5, wyckoff_letter=letter
            )
        for key in cell:
            getattr(one.cell, key).free = True
    project.experiments.add_from_data_path(
        name="e", data_path=first, sample_form="powder", beam_mode="constant wavelength", radiation_probe="xray", scattering_type="bragg"
    )
    experiment = project.experiments["e"]
    experiment.calculator_type = calculator
    experiment.instrument.setup_wavelength = wavelength
    experiment.instrument.calib_twotheta_offset.free = True
    peak = experiment.peak
    peak.broad_gauss_u, peak.broad_gauss_v, peak.broad_gauss_w, peak.broad_lorentz_x, peak.broad_lorentz_y = 0.005, -0.002, 0.005, 0.05, 0.05
    for name in ("broad_gauss_u", "broad_gauss_v", "broad_gauss_w", "broad_lorentz_x", "broad_lorentz_y"):
        getattr(peak, name).free = True
    experiment.background_type = "chebyshev"
    for order in range(8):
        experiment.background.create(id=str(order), order=order, coef=100.0 if order == 0 else 0.0)
    for term in experiment.background:
        term.coef.free = True
    for name in STRUCTURES:
        experiment.linked_phases.create(id=name, scale=1.0)
        experiment.linked_phases[name].scale.free = True
    return project


def begin(project: ed.Project) -> None:
    """Give scales their start by linear least squares: what is compared is a fit that is nearly there."""
    experiment = project.experiments["e"]
    observed, sigma = np.asarray(experiment.data.intensity_meas), np.asarray(experiment.data.intensity_meas_su)
    for term in experiment.background:
        term.coef.value = 0.0
    shapes = []
    for name in STRUCTURES:
        for other in STRUCTURES:
            experiment.linked_phases[other].scale.value = 1.0 if other == name else 1e-12
        experiment._update_categories()
        shapes.append(np.array(experiment.data.intensity_calc))
    x = np.linspace(-1, 1, observed.size)
    rows = np.array([*shapes, *np.polynomial.chebyshev.chebvander(x, 7).T])
    values = np.linalg.lstsq((rows / sigma).T, observed / sigma, rcond=None)[0]
    for name, value in zip(STRUCTURES, values, strict=False):
        experiment.linked_phases[name].scale.value = float(max(value, 1e-12))
    for term, value in zip(experiment.background, values[len(shapes) :], strict=True):
        term.coef.value = float(value)


def main() -> None:
    first, wavelength, calculator = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    with contextlib.redirect_stdout(io.StringIO()):
        project = build(first, wavelength, calculator)
        begin(project)
        begun = time.process_time()
        project.analysis.fit()
        cold = time.process_time() - begun
    experiment = project.experiments["e"]
    parameters = [*project.structures.free_parameters, *project.experiments.free_parameters]
    start = [p.value for p in parameters]

    def said(seconds: float) -> None:
        off = (np.asarray(experiment.data.intensity_meas) - np.asarray(experiment.data.intensity_calc)) / np.asarray(
            experiment.data.intensity_meas_su
        )
        cells = {name: float(project.structures[name].cell.length_a.value) for name in STRUCTURES}
        chi2 = float(np.sum(off**2) / (off.size - len(parameters)))
        print(
            json.dumps({"seconds": seconds, "chi2": chi2, "parameters": len(parameters), "a": cells, "version": version("easydiffraction")}),
            flush=True,
        )

    said(cold)
    for line in sys.stdin:
        new = np.loadtxt(json.loads(line)["pattern"])
        with contextlib.redirect_stdout(io.StringIO()):
            for parameter, value in zip(parameters, start, strict=True):
                parameter.value = value
            for point, y, s in zip(experiment.data, new[:, 1], new[:, 2], strict=True):
                point.intensity_meas._value, point.intensity_meas_su._value = float(y), float(s)
            begun = time.process_time()
            project.analysis.fit()
            seconds = time.process_time() - begun
        said(seconds)


if __name__ == "__main__":
    main()
