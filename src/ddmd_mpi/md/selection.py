"""A small language for choosing atoms, after MDTraj's: ``name CA and chainid 0``, ``not (water or element H)``.

selection = and-part {"or" and-part}
and-part  = part {"and" part}
part      = "not" part | "(" selection ")" | word | key value {value}
word      = all, protein, water, ion, lipid, solute (none of these three), heavy
key       = name, resname, element (values are names); index, chainid, resid (counted from 0), resSeq (as in the
            file): values are numbers, or ranges such as 3 to 7, whose ends belong to them
"""

from __future__ import annotations

import re
from collections.abc import Callable

from openmm import app
from openmm.app.topology import Atom

from ..errors import InputError
from .residues import is_amino_acid, is_ion, is_lipid, is_solute, is_water

#: Fewer C-alpha atoms than that give no map of contacts.
MINIMAL_CALPHA = 4
CALPHA, SOLUTE = ["CA"], "solute and heavy"
MAX_LEVELS = 100
TOKEN = re.compile(r"[()]|[^\s()]+")

Test = Callable[[Atom], bool]
WORDS: dict[str, Test] = {
    "all": lambda _: True,
    "protein": lambda atom: is_amino_acid(atom.residue),
    "water": lambda atom: is_water(atom.residue),
    "ion": lambda atom: is_ion(atom.residue),
    "lipid": lambda atom: is_lipid(atom.residue),
    "solute": lambda atom: is_solute(atom.residue),
    "heavy": lambda atom: atom.element is not app.element.hydrogen,
}
NAMES: dict[str, Callable[[Atom], str]] = {
    "name": lambda atom: atom.name,
    "resname": lambda atom: atom.residue.name,
    "element": lambda atom: atom.element.symbol if atom.element is not None else "",
}
NUMBERS: dict[str, Callable[[Atom], int | None]] = {
    "index": lambda atom: atom.index,
    "chainid": lambda atom: atom.residue.chain.index,
    "resid": lambda atom: atom.residue.index,
    "resSeq": lambda atom: int(atom.residue.id) if re.fullmatch(r"-?\d+", str(atom.residue.id)) else None,
}
RESERVED = {"and", "or", "not", "to", "(", ")"}


def select(topology: app.Topology, selection: str) -> list[Atom]:
    """The atoms that a selection chooses, in the order of the topology.

    Raises
    ------
    InputError
        If the selection cannot be understood.
    """
    test = parse(selection)
    return [atom for atom in topology.atoms() if test(atom)]


def parse(selection: str) -> Test:
    """The test of a selection."""
    return _Parser(selection).whole()


def default_descriptor(topology: app.Topology) -> tuple[list[str] | str, int, str]:
    """The descriptor of a new system, how many atoms it chooses, and a sentence on why.

    C-alpha atoms; if the system has fewer than four of them, the heavy atoms of everything but water, ions and lipids.
    """
    n_calpha = sum(a.name in CALPHA and is_amino_acid(a.residue) for a in topology.atoms())
    if n_calpha >= MINIMAL_CALPHA:
        return CALPHA, n_calpha, f"the descriptor is the {n_calpha} C-alpha atoms"
    n_heavy = len(select(topology, SOLUTE))
    return (
        SOLUTE,
        n_heavy,
        (
            f"the descriptor is the {n_heavy} heavy atoms of the solute, without water, single ions "
            f"and lipids: there are {n_calpha} C-alpha atoms, and {MINIMAL_CALPHA} are needed"
        ),
    )


class _Parser:
    """Recursive descent over the tokens of one selection."""

    def __init__(self, selection: str):
        self._text, self._tokens, self._at, self._depth = selection, TOKEN.findall(selection), 0, 0

    def whole(self) -> Test:
        test = self._or()
        if self._next is not None:
            raise self._wrong(f"{self._next} is not understood there")
        return test

    @property
    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _wrong(self, what: str) -> InputError:
        keys = ", ".join([*WORDS, *NAMES, *NUMBERS])
        return InputError(f"the selection {self._text!r} cannot be used: {what}; known are {keys}, and, or, not, ( )")

    def _or(self) -> Test:
        parts = [self._and()]
        while self._next == "or":
            self._take()
            parts.append(self._and())
        return lambda atom: any(part(atom) for part in parts)

    def _and(self) -> Test:
        parts = [self._part()]
        while self._next == "and":
            self._take()
            parts.append(self._part())
        return lambda atom: all(part(atom) for part in parts)

    def _part(self) -> Test:
        if self._next is None:
            raise self._wrong("it ends too early")
        token = self._take()
        self._depth += token in ("not", "(")
        if self._depth > MAX_LEVELS:
            raise self._wrong(f"not and ( may be used {MAX_LEVELS} times")
        if token == "not":
            inner = self._part()
            return lambda atom: not inner(atom)
        if token == "(":
            inner = self._or()
            if self._next != ")":
                raise self._wrong("a ) is missing")
            self._take()
            return inner
        if token in WORDS:
            return WORDS[token]
        if token in NAMES:
            names = set(self._values(token))
            return lambda atom: NAMES[token](atom) in names
        if token in NUMBERS:
            spans = self._spans(token)
            return lambda atom: _inside(NUMBERS[token](atom), spans)
        raise self._wrong(f"{token} is not a key")

    def _values(self, key: str) -> list[str]:
        values = []
        while self._next is not None and self._next not in RESERVED:
            values.append(self._take())
        if not values:
            raise self._wrong(f"{key} needs a value")
        return values

    def _spans(self, key: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        while self._next is not None and (self._next not in RESERVED or self._next == "to"):
            if self._next == "to":
                self._take()
                if not spans or self._next is None:
                    raise self._wrong("to needs a number on either side")
                spans[-1] = (spans[-1][0], self._number(key))
            else:
                number = self._number(key)
                spans.append((number, number))
        if not spans:
            raise self._wrong(f"{key} needs a value")
        return spans

    def _number(self, key: str) -> int:
        token = self._take()
        if not re.fullmatch(r"-?\d+", token):
            raise self._wrong(f"{key} needs whole numbers (got {token})")
        return int(token)


def _inside(number: int | None, spans: list[tuple[int, int]]) -> bool:
    return number is not None and any(first <= number <= last for first, last in spans)
