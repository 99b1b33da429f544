"""The beamtime.yaml of a simulated beamtime: what a beamline scientist would have written down, clocks as estimated and not as they truly are."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_HEAD = """\
# Simulated, every instrument of a beamtime, each with a clock of its own. README.md says what each trap is; truth.json what is true.
title: simulated NMC811 | graphite, three cycles with GITT and impedance
timezone: Europe/Paris              # for instruments whose files carry no zone

sources:                            # one source = one instrument = one clock
"""

_SOURCES: dict[str, str] = {
    "echem": """\
  cycler{suffix}:
    loader: biologic-mpt
    files: echem/{cell}_*_C01.mpt      # cycling and impedance: they take turns, and the timeline is made of both
""",
    "xrd": """\
  detector{suffix}:                          # the frames themselves; as the beamline integrates them they lie in xrd/processed (loader hdf5-path)
    loader: xrd-frames
    files: xrd/{cell}_*.h5
    poni: xrd/geometry.poni
    mask: xrd/mask.npy
    coords:
      position: measurement/position    # two spots on the cell, in turn; the beam damages spot 1
      ring_current: measurement/ring_current
    clock: {control}    # read off two screens; then found from what it triggered
""",
    "total": """\
  total_scattering{suffix}:
    loader: hdf5-path
    preset: nexus-nxazint1d
    technique: pdf
    files: total/{cell}_total_*.h5
    axis: {{q: '[NXdata]/radial_axis'}}
    frame_times: {{path: '[NXdata]/epoch', kind: unix}}
    count_time: '[NXdata]/count_time'
    clock: {{offset: -3 s, uncertainty: 1 s}}
""",
    "xas": """\
  absorption{suffix}:
    loader: xas-columns
    files: xas/{cell}_Ni_*.xdi
    name_pattern: "{{cell}}_Ni_{{frame:04d}}"      # frame numbers keep the order of acquisition when a clock is set back
    clock:{clock}
""",
    "imaging": """\
  camera{suffix}:                            # one stack; its pages hold no time: the camera's program kept a log, a line per page
    loader: tiff-stack
    files: imaging/{cell}_imaging_*.tif
    timezone: UTC
    times_from: {{file: imaging/{cell}_imaging_log.csv, name: file, index: page, start: begin, exposure: exposure_ms, exposure_unit: ms}}
    clock: {{offset: 2 s, uncertainty: 1 s}}
""",
    "holder": """\
  holder{suffix}:
    loader: csv
    technique: sensor
    files: logs/{cell}_holder.csv
""",
    "beamline": """\
  beamline{suffix}:
    loader: csv
    technique: sensor
    files: logs/{cell}_beamline.csv
    clock: {control}    # the control computer also stamps the detector
""",
    "triggers": """\
  triggers{suffix}:
    loader: csv
    technique: sensor
    files: logs/{cell}_triggers.csv
    columns: {{edge: edge}}
    clock: {control}    # each trigger began a sweep
""",
}
"""Instrument -> its entry under `sources:`."""

_CONTROL, _FOUND = "{{offset: -37 s, uncertainty: 1 s{found}}}", ", events: {{from: triggers{suffix}, echem: eis}}"
_ONE_CLOCK = " {offset: 12 s, uncertainty: 1 s}"
_TWO_CLOCKS = """                          # this computer was restarted during the night, its clock set back by 25 min
      - {segment: 0, offset: 12 s, uncertainty: 1 s}
      - {segment: 1, offset: 1512 s, uncertainty: 1 s}"""

_LATER = """
# No loader reads these yet; their files are here all the same:
#   raman/       HORIBA LabSpec text                        ir/      JCAMP-DX single beams and their reference
"""

_CELL = """\
  {cell}:
    about:
      cell_type: full
      active_mass: 15.4 mg           # the cycler's header says 1000 mg, as it often does
      area: 1.54 cm^2
      capacity: 2.81 mAh
      chemistry: NMC811|graphite
      electrolyte: 1 M LiPF6 EC:EMC
      n_p_ratio: 1.3
"""
_ECHEM = "    echem: {{from: cycler{suffix}}}\n"
_SERIES: dict[str, str] = {
    "echem": """\
eis:                             # the same files, read as spectra
        from: cycler{suffix}
        loader: biologic-eis
        recipe:                        # without one: the circuit is chosen, and arcs are numbered
          reducer: eis
          circuit: L0-R0-ZARC1-ZARC2-Ws1-C1
          names: {{R0: ohmic_resistance, arc_1: interphase, arc_2: charge_transfer, Ws1.R: diffusion_resistance}}""",
    "xrd": """\
xrd:
        from: detector{suffix}
        recipe:
          stages:
            - {{reducer: integrate, points: 900, polarization: 0.99}}    # without it: as many bins as pixels, no polarisation
            - nmc811-graphite          # whole patterns: phase fractions, lattices, Li content
            - {{reducer: charge-balance}}    # does the lithium of the patterns follow the charge?""",
    "total": """\
total:
        from: total_scattering{suffix}
        recipe:
          stages:
            - reducer: total-scattering
              composition: NiO
              qmin: 1.0                # 1/angstrom; the particles' small-angle scattering lies below
              background:              # the cell before the particles were in, read as the frames are; they absorb a little
                file: total/{cell}_background_total.h5
                scale: 0.96
            - reducer: pdf-shells
              first_shell: [1.7, 2.5]  # angstrom
              pair: Ni-O""",
    "xas": "xas: {{from: absorption{suffix}}}",
    "imaging": """\
imaging:
        from: camera{suffix}
        recipe:
          stages:
            - reducer: imaging
              flat: {{file: imaging/{cell}_flat.tif}}
              dark: {{file: imaging/{cell}_dark.tif}}
              drift: {{region: {{rows: [0, 34]}}}}    # px; the collector, which does not swell
              edges:
                collector: {{line: [[10, 96], [50, 96]], width: 150, polarity: rising}}
                electrode: {{line: [[60, 96], [120, 96]], width: 150, polarity: rising}}
              thickness: {{electrode: [collector, electrode]}}
              regions: {{particles: {{rows: [40, 70]}}}}
            - {{reducer: image-maps}}    # a map of every half cycle, and what changed in it""",
    "holder": "temperature: {{from: holder{suffix}}}",
    "beamline": "beamline: {{from: beamline{suffix}}}",
    "triggers": "triggers: {{from: triggers{suffix}}}",
}
"""Instrument -> its entry under `series:` of a cell."""


def text(cells: Mapping[str, Collection[str]], *, restarted: bool) -> str:
    """Write beamtime.yaml for these cells.

    Parameters
    ----------
    cells
        Name of each cell -> the instruments whose files are there. What has not been delivered is not named: a pattern that matches
        nothing is a mistake.
    restarted
        Whether the restart of the absorption computer lies inside the run, so that it has two clocks.
    """
    sources, body = [], ""
    for cell, there in cells.items():
        words = {"cell": cell, "suffix": "" if len(cells) == 1 else f"_{cell}", "clock": _TWO_CLOCKS if restarted else _ONE_CLOCK}
        told = _FOUND.format(**words) if {"echem", "triggers"} <= set(there) else ""
        words["control"] = _CONTROL.format(found=told)
        sources += [entry.format(**words) for name, entry in _SOURCES.items() if name in there]
        body += _CELL.format(**words) + (_ECHEM.format(**words) if "echem" in there else "")
        series = [f"      {entry.format(**words)}\n" for name, entry in _SERIES.items() if name in there]
        body += "    series:\n" + "".join(series) if series else ""
    return f"{_HEAD}{chr(10).join(sources)}{_LATER}\ncells:\n{body}"
