r"""Equivalent circuits: a small language, their impedance and its derivatives.

    L0-R0-p(R1,CPE1)-p(R2,CPE2)-Wo1

`-` is in series, `p(a,b)` in parallel, elements are a letter code and a number. With s = jw (jw in rad/s):

| code | element | parameters (unit) | impedance |
|---|---|---|---|
| R | resistance | R (ohm) | R |
| C | capacitance | C (F) | 1 / (s C) |
| L | inductance | L (H) | s L |
| CPE | constant phase element | Q (F s^(n-1)), n | 1 / (Q s^n) |
| ZARC | depressed arc | R (ohm), tau (s), n | R / (1 + (s tau)^n) |
| W | Warburg, semi-infinite | sigma (ohm s^-1/2) | sigma (1 - j) / sqrt(w) |
| Ws | Warburg, finite length (transmissive end) | R (ohm), tau (s) | R tanh(sqrt(s tau)) / sqrt(s tau) |
| Wo | Warburg, finite space (blocking end) | R (ohm), tau (s) | R coth(sqrt(s tau)) / sqrt(s tau) |
| G | Gerischer | R (ohm), tau (s) | R / sqrt(1 + s tau) |

Barsoukov and Macdonald, "Impedance Spectroscopy", 2nd ed. (2005), chapter 2; Boukamp and Bouwmeester, Solid State Ionics 157 (2003) 29 (Gerischer).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from operando.contract import ConfigError

Formula = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(jw, parameters) -> (impedance, its derivatives by the logarithm of each parameter: (parameter, frequency))."""


def _resistance(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = np.full(s.shape, p[0], complex)
    return z, z[None]


def _capacitance(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = 1 / (s * p[0])
    return z, -z[None]


def _inductance(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = s * p[0]
    return z, z[None]


def _constant_phase(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logs = np.log(s)
    z = np.exp(-p[1] * logs) / p[0]
    return z, np.stack([-z, -p[1] * logs * z])


def _depressed_arc(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logs = np.log(s * p[1])
    a = np.exp(p[2] * logs)
    z = p[0] / (1 + a)
    turn = -z * a / (1 + a) * p[2]
    return z, np.stack([z, turn, turn * logs])


def _warburg(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = p[0] * np.sqrt(2) / np.sqrt(s)
    return z, z[None]


def _warburg_short(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = np.sqrt(s * p[1])
    e = np.exp(-2 * u)  # Re u > 0: no overflow, whatever the frequency
    tanh = (1 - e) / (1 + e)
    z = p[0] * tanh / u
    return z, np.stack([z, p[0] * 0.5 * (4 * e / (1 + e) ** 2 - tanh / u)])


def _warburg_open(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = np.sqrt(s * p[1])
    e = np.exp(-2 * u)
    coth = (1 + e) / (1 - e)
    z = p[0] * coth / u
    return z, np.stack([z, -p[0] * 0.5 * (4 * e / (1 - e) ** 2 + coth / u)])


def _gerischer(s: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = s * p[1]
    z = p[0] / np.sqrt(1 + a)
    return z, np.stack([z, -0.5 * z * a / (1 + a)])


@dataclass(frozen=True)
class Element:
    """A kind of element: its parameters with their units, and its formula."""

    parameters: tuple[tuple[str, str], ...]
    formula: Formula


ELEMENTS: dict[str, Element] = {
    "R": Element((("R", "ohm"),), _resistance),
    "C": Element((("C", "F"),), _capacitance),
    "L": Element((("L", "H"),), _inductance),
    "CPE": Element((("Q", "F*s^(n-1)"), ("n", "1")), _constant_phase),
    "ZARC": Element((("R", "ohm"), ("tau", "s"), ("n", "1")), _depressed_arc),
    "W": Element((("sigma", "ohm/s^0.5"),), _warburg),
    "Ws": Element((("R", "ohm"), ("tau", "s")), _warburg_short),
    "Wo": Element((("R", "ohm"), ("tau", "s")), _warburg_open),
    "G": Element((("R", "ohm"), ("tau", "s")), _gerischer),
}


@dataclass(frozen=True)
class Node:
    """A place in the circuit: an element (`code` and its parameters' places), or `series` or `parallel` of others."""

    kind: str
    name: str = ""
    first: int = 0
    parts: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Arc:
    """A resistance with what bridges it: one arc in the Nyquist plot.

    Attributes
    ----------
    resistance
        Place of its resistance among the parameters.
    bridge
        Places of what bridges it: (tau, n) of a ZARC, (Q, n) of a CPE, (C,) of a capacitance, (tau,) of a Gerischer element.
    kind
        Code of the element that gives the time constant.
    members
        Places of all its parameters.
    """

    resistance: int
    bridge: tuple[int, ...]
    kind: str
    members: tuple[int, ...]

    def log_tau(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Logarithm of the time constant (s), and its derivatives by all logarithms of parameters.

        For a resistance bridged by a CPE it is (R Q)^(1/n), the inverse of the frequency (rad/s) at which the arc is highest
        (Hsu and Mansfeld, Corrosion 57 (2001) 747).
        """
        slope = np.zeros(theta.size)
        if self.kind in ("ZARC", "G"):
            slope[self.bridge[0]] = 1.0
            return float(theta[self.bridge[0]]), slope
        if self.kind == "C":
            slope[self.resistance] = slope[self.bridge[0]] = 1.0
            return float(theta[self.resistance] + theta[self.bridge[0]]), slope
        n = float(np.exp(theta[self.bridge[1]]))
        value = float(theta[self.resistance] + theta[self.bridge[0]]) / n
        slope[self.resistance] = slope[self.bridge[0]] = 1 / n
        slope[self.bridge[1]] = -value
        return value, slope


@dataclass(frozen=True)
class Circuit:
    """An equivalent circuit.

    Attributes
    ----------
    text
        As written, without blanks.
    parameters
        `R0`, `CPE1.Q`, `CPE1.n` ...: the element's name, and which of its parameters where it has several.
    units
        Of each parameter.
    kinds
        Bare name of each parameter (`R`, `tau`, `n` ...).
    """

    text: str
    root: Node
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    kinds: tuple[str, ...]
    arcs: tuple[Arc, ...] = field(default=())

    @staticmethod
    def parse(text: str) -> Circuit:
        """Read a circuit.

        Raises
        ------
        ConfigError
            What is not understood; the message points at the character.
        """
        return _Parser(text).circuit()

    def impedance(self, values: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """Impedance, complex ohm, at frequencies (Hz) for parameters in their units."""
        return self.with_slopes(np.log(np.asarray(values, float)), frequency)[0]

    def with_slopes(self, theta: np.ndarray, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Impedance for logarithms of parameters, and its derivatives by them, (parameter, frequency)."""
        s = 2j * np.pi * np.asarray(frequency, float)
        slopes = np.zeros((len(self.parameters), s.size), complex)
        return _evaluate(self.root, np.exp(theta), s, slopes), slopes

    def series_of(self, code: str) -> list[int]:
        """Places of the first parameter of each element of a kind that stands in series with everything."""
        tops = self.root.parts if self.root.kind == "series" else (self.root,)
        return [node.first for node in tops if node.kind == code]


def _evaluate(node: Node, p: np.ndarray, s: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    if node.kind == "series":
        total = _evaluate(node.parts[0], p, s, slopes)
        for part in node.parts[1:]:
            total = total + _evaluate(part, p, s, slopes)
        return total
    if node.kind == "parallel":
        each = [_evaluate(part, p, s, slopes) for part in node.parts]
        total = 1 / np.sum([1 / z for z in each], axis=0)
        for part, z in zip(node.parts, each, strict=True):
            share = (total / z) ** 2
            for k in _places(part):
                slopes[k] *= share
        return np.asarray(total)
    size = len(ELEMENTS[node.kind].parameters)
    z, own = ELEMENTS[node.kind].formula(s, p[node.first : node.first + size])
    slopes[node.first : node.first + size] = own
    return z


def _places(node: Node) -> list[int]:
    if node.parts:
        return [k for part in node.parts for k in _places(part)]
    return list(range(node.first, node.first + len(ELEMENTS[node.kind].parameters)))


class _Parser:
    """Recursive descent over the characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.seen: dict[str, int] = {}
        self.parameters: list[str] = []
        self.units: list[str] = []
        self.kinds: list[str] = []

    def circuit(self) -> Circuit:
        if not self.text.strip():
            raise self.refuse("the circuit is empty", 0)
        root = self.chain()
        if self.at < len(self.text):
            raise self.refuse("a ')' that nothing opened" if self.text[self.at] == ")" else "'-' or the end is expected here", self.at)
        return Circuit(re.sub(r"\s+", "", self.text), root, tuple(self.parameters), tuple(self.units), tuple(self.kinds), tuple(_arcs(root)))

    def refuse(self, problem: str, at: int, hint: str | None = None) -> ConfigError:
        marked = f"{problem}\n    {self.text}\n    {' ' * at}^"
        return ConfigError(marked, expected=f"elements {', '.join(ELEMENTS)} with a number, '-' in series, p(a,b) in parallel", hint=hint)

    def skip(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at] if self.at < len(self.text) else ""

    def chain(self) -> Node:
        parts = [self.part()]
        while self.skip() == "-":
            self.at += 1
            parts.append(self.part())
        return parts[0] if len(parts) == 1 else Node("series", parts=tuple(parts))

    def part(self) -> Node:
        self.skip()
        begin = self.at
        opened = re.compile(r"p\s*\(").match(self.text, self.at)
        if opened:
            self.at = opened.end()
            parts = [self.chain()]
            while self.skip() == ",":
                self.at += 1
                parts.append(self.chain())
            if self.skip() != ")":
                if self.at >= len(self.text):
                    raise self.refuse("this p( is never closed", begin)
                raise self.refuse("',' or ')' is expected here", self.at)
            self.at += 1
            if len(parts) < 2:
                raise self.refuse("p( ) needs two branches or more", begin, "p(R1,CPE1)")
            return Node("parallel", parts=tuple(parts))
        word = re.compile(r"([A-Za-z]+)(\d*)").match(self.text, self.at)
        if word is None:
            found = self.text[begin : begin + 1]
            raise self.refuse(f"an element is expected here, found {found!r}" if found else "the circuit ends where an element is expected", begin)
        code, name = word[1], word[0]
        if code not in ELEMENTS:
            near = {c.lower(): c for c in ELEMENTS}.get(code.lower()) or next(iter(difflib.get_close_matches(code, ELEMENTS, 1, 0.5)), None)
            raise self.refuse(f"there is no element {code!r}" + (f"; did you mean {near}?" if near else ""), begin)
        if not word[2]:
            raise self.refuse(f"{code} needs a number, so that its values have a name", word.end(), f"{code}1")
        if name in self.seen:
            raise self.refuse(f"{name} stands here for the second time", begin, "number elements of a kind differently")
        self.seen[name] = begin
        self.at = word.end()
        first = len(self.parameters)
        own = ELEMENTS[code].parameters
        for parameter, unit in own:
            self.parameters.append(name if len(own) == 1 else f"{name}.{parameter}")
            self.units.append(unit)
            self.kinds.append(parameter)
        return Node(code, name, first)


def _arcs(root: Node) -> list[Arc]:
    """Find what stands in series with everything and gives an arc."""
    found = []
    for node in root.parts if root.kind == "series" else (root,):
        if node.kind in ("ZARC", "G"):
            bridge: tuple[int, ...] = (node.first + 1, node.first + 2) if node.kind == "ZARC" else (node.first + 1,)
            found.append(Arc(node.first, bridge, node.kind, tuple(_places(node))))
        elif node.kind == "parallel" and len(node.parts) == 2:
            bridges = [part for part in node.parts if part.kind in ("C", "CPE")]
            others = [part for part in node.parts if part.kind not in ("C", "CPE")]
            if len(bridges) != 1 or len(others) != 1:
                continue
            other = others[0]
            chain = other.parts if other.kind == "series" else (other,)
            resistances = [part for part in chain if part.kind == "R"]
            if len(resistances) == 1:
                bridge = tuple(_places(bridges[0]))
                found.append(Arc(resistances[0].first, bridge, bridges[0].kind, tuple(_places(node))))
    return found
