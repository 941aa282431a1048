"""Files of molecules from elsewhere: those that could run code, never end or grow without bounds are refused.

OpenMM executes ``<Script>`` and ``<InitializationScript>`` of a force field, evaluates one of its attributes, and
unpickles the function of a ``PythonForce``. Force fields that come with OpenMM, or that a Python package offers to it
(entry point ``openmm.forcefielddir``), are as trusted as the package itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openmm
from openmm import app

from ..errors import InputError
from ..rundir.files import MAX_MOLECULE, check_regular

OPENMM_DATA = Path(app.__file__).parent / "data"
#: Byte-order marks of UTF-8 and UTF-16, as editors of Windows write them.
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
SCRIPTS = ("Script", "InitializationScript")
#: Attribute of a force field that OpenMM evaluates, and what it may say.
EVALUATED, SAID = "useDispersionCorrection", {"True", "False", "1", "0"}
#: What an XML file of a System may hold; the function of a PythonForce is a pickle, and plug-ins read further files.
PLAIN = {"System"} | {
    name
    for name, kind in vars(openmm).items()
    if isinstance(kind, type) and issubclass(kind, openmm.Force | openmm.TabulatedFunction) and name != "PythonForce"
}
#: Molecules, and nm from the origin, that no system has.
MAX_MOLECULES, FARTHEST_NM = 5_000_000, 1e5
#: Characters that a word of a GROMACS file may become by its #define lines.
MAX_CHARACTERS = 100_000


def check_file(path: Path, what: str) -> None:
    """Raise an InputError unless `path` is a regular file of a size that a molecule's file can have.

    Parameters
    ----------
    what
        What is expected, with its article.
    """
    try:
        check_regular(path, MAX_MOLECULE)
        with path.open("rb") as file:
            marked = file.read(3).startswith(MARKS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"the file {path} does not exist: {what} is expected there") from error
    except OSError as error:
        raise InputError(f"the file {path} cannot be used ({error.strerror}): {what} is expected there") from error
    if marked:
        raise InputError(
            f"{path} starts with a byte-order mark, which readers mistake for a part of the first line: "
            "save it as UTF-8 without one (sed -i '1s/^\\xef\\xbb\\xbf//' FILE)"
        )


@contextmanager
def explaining(sentence: Callable[[str], str]) -> Iterator[None]:
    """Turn any error of OpenMM on a user's files into an InputError; `sentence` gets its first line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(sentence((str(error) or type(error).__name__).splitlines()[0])) from error


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Explain errors of a reader of OpenMM by a sentence that names the file and says what it should be.

    Parameters
    ----------
    path
        The file; it must exist.
    what
        What is expected, with its article.
    """
    check_file(path, what)
    with explaining(lambda reason: f"{path} cannot be read as {what} ({reason}): correct it, or give another file"):
        yield


def check_positions(positions_nm: np.ndarray, path: Path) -> None:
    """Raise an InputError if there are no positions, or if they are not finite or farther away than any molecule is."""
    if positions_nm.ndim != 2 or len(positions_nm) == 0:
        raise InputError(
            f"{path} holds no atoms: coordinates in a .pdb, .cif, .gro, .inpcrd, .rst7 or .crd file are expected"
        )
    if not np.isfinite(positions_nm).all():
        raise InputError(f"{path} holds positions that are not finite: correct the file")
    if np.abs(positions_nm).max() > FARTHEST_NM:
        raise InputError(f"{path} holds positions more than {FARTHEST_NM:g} nm from the origin: correct the file")


def load_force_field(names: tuple[str, ...]) -> app.ForceField:
    """The force field of these files; a name without a directory is first that of one which comes with OpenMM.

    Raises
    ------
    InputError
        If a file could run code.
    Exception
        Any of OpenMM's, if a file is not a force field.
    """
    found: list[str] = []
    for name in names:
        own = OPENMM_DATA / name
        path = own if own.is_file() else Path(name)
        check_force_field(path, found)
        found.append(str(path))
    return app.ForceField(*found)


def check_force_field(path: Path, known: list[str]) -> None:
    """Raise an InputError if the file of a force field, or one that it includes, could run code."""
    if not path.is_file():
        if path.is_absolute() or ".." in path.parts or path.exists():
            check_file(path, "a force field")
        return  # OpenMM looks in the directories of packages
    if str(path) in known or path.resolve().is_relative_to(OPENMM_DATA.resolve()):
        return
    check_file(path, "a force field")
    root = ElementTree.parse(path).getroot()
    for element in root.iter():
        if element.tag in SCRIPTS:
            raise InputError(
                f"{path} holds a {element.tag}, which OpenMM would execute: take it out, or make the "
                "force field a Python package that you trust (entry point openmm.forcefielddir)"
            )
        if element.get(EVALUATED, "True") not in SAID:
            raise InputError(
                f"{path} says {EVALUATED} = {element.get(EVALUATED)!r}, which OpenMM would execute: "
                "correct it to True or False"
            )
    for element in root.findall("Include"):  # in the order in which OpenMM looks
        name = element.get("file", "")
        beside, own = path.parent / name, OPENMM_DATA / name
        included = next((p for p in (beside, Path(name), own) if p.is_file()), Path(name))
        check_force_field(included, [*known, str(path)])


def system_xml(path: Path) -> str:
    """The text of a System as OpenMM writes it, of forces that hold nothing but numbers and expressions.

    Raises
    ------
    InputError
        If it could run code.
    Exception
        ElementTree's, if it is no XML.
    """
    root = ElementTree.parse(path).getroot()
    strange = next((e.get("type") for e in root.iter() if e.get("type", "System") not in PLAIN), None)
    if strange is not None:
        raise InputError(f"{path} holds a {strange}, which could run code: give a System of OpenMM's own forces")
    return ElementTree.tostring(root, encoding="unicode")  # written again, so that OpenMM sees what was looked at


class GromacsTopology(app.GromacsTopFile):
    """A GROMACS top whose numbers of molecules and #define lines are bounded before they are used."""

    def __init__(self, *files: Any, **options: Any):
        self._n_molecules = 0
        self._lengths: dict[str, int] = {}
        super().__init__(*files, **options)

    def _processMolecule(self, line: str) -> None:  # noqa: N802 - OpenMM's name
        self._n_molecules += abs(int(line.split()[1]))
        if self._n_molecules > MAX_MOLECULES:
            raise ValueError(f"it has more than {MAX_MOLECULES} molecules")
        super()._processMolecule(line)

    def _processLine(self, line: str, file: str) -> None:  # noqa: N802 - OpenMM's name
        words = re.findall(r"\w+", line)
        if line.split()[:1] == ["#define"] and len(words) > 1:
            self._lengths[words[1]] = len(line) + sum(self._lengths.get(word, 0) for word in words[2:])
            if self._lengths[words[1]] > MAX_CHARACTERS:
                raise ValueError(f"the #define of {words[1]} is too long")
        super()._processLine(line, file)

    def masses_without_elements(self) -> list[float] | None:
        """Masses of all atoms, amu, if its atom types do not all have an atomic number; None if they have."""
        rows = [row for name, n in self._molecules for row in n * self._moleculeTypes[name].atoms]
        if all(self._atomTypes[row[1]][2] is not None for row in rows):
            return None
        return [float(row[7] if len(row) > 7 else self._atomTypes[row[1]][3]) for row in rows]
