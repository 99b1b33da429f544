"""The techniques: which signal each has, over which axis."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Technique:
    """What a series of this technique must and may hold.

    Attributes
    ----------
    signals
        Names of which at least one must be a data variable; the first present is the main signal.
    axis
        Alternative names of the signal's second dim; empty for techniques with one value per time.
    """

    name: str
    long_name: str
    signals: tuple[str, ...]
    axis: tuple[str, ...] = ()
    dims: tuple[str, ...] = field(default=())


TECHNIQUES: dict[str, Technique] = {
    t.name: t
    for t in (
        Technique("echem", "electrochemistry", ("voltage", "potential_we")),
        Technique("eis", "impedance spectroscopy", ("impedance",), ("point",), ("electrode",)),
        Technique("images", "detector or microscope frames", ("file",), (), ("y", "x")),
        Technique("imaging", "radiography and microscopy", ("transmission", "optical_density", "intensity"), (), ("y", "x")),
        Technique("xrd", "X-ray diffraction", ("intensity",), ("q", "two_theta")),
        Technique("pdf", "total scattering", ("intensity", "s_q", "f_q", "g_r"), ("q", "r")),
        Technique("xas", "X-ray absorption spectroscopy", ("mu", "mu_reference"), ("energy",)),
        Technique("raman", "Raman spectroscopy", ("intensity",), ("raman_shift",)),
        Technique("ir", "infrared spectroscopy", ("absorbance", "single_beam"), ("wavenumber",)),
        Technique("sensor", "logged channels", ()),
    )
}

TIME_ORIGINS = ("header", "counter", "filename", "log", "mtime", "config")
SAMPLINGS = ("continuous", "step", "event", "sample")
