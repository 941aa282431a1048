"""Selections choose the atoms that they say, and what cannot be understood is named."""

import numpy as np
import pytest

from ddmd_mpi.config import inputs
from ddmd_mpi.config.dynamics import SystemSection
from ddmd_mpi.errors import ConfigError, InputError
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.selection import select
from ddmd_mpi.md.structures import load_structures

TOPOLOGY = read_pdb(inputs() / "cln025-start.pdb")[0]
ATOM = "HETATM{:5d}  {:<3s} {:3s} {:1s}{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2s}\n"


def chosen(selection):
    return [a.index for a in select(TOPOLOGY, selection)]


def by(test):
    return [a.index for a in TOPOLOGY.atoms() if test(a)]


@pytest.mark.parametrize(
    ("selection", "test"),
    [
        ("name CA", lambda a: a.name == "CA"),
        ("name CA CB", lambda a: a.name in ("CA", "CB")),
        ("resname TYR and name CA", lambda a: a.residue.name == "TYR" and a.name == "CA"),
        ("index 0 to 4 9", lambda a: a.index in (0, 1, 2, 3, 4, 9)),
        ("resid 0 2 to 3", lambda a: a.residue.index in (0, 2, 3)),
        ("resSeq 2", lambda a: a.residue.id == "2"),
        ("heavy and chainid 0", lambda a: a.element.symbol != "H"),
        ("not element H C", lambda a: a.element.symbol not in "HC"),
        ("not (name CA or name CB) and resid 1", lambda a: a.name not in ("CA", "CB") and a.residue.index == 1),
        ("name CA or name CB and resid 1", lambda a: a.name == "CA" or (a.name == "CB" and a.residue.index == 1)),
        ("all and not protein", lambda a: False),
        ("water", lambda a: False),
    ],
)
def test_atoms_that_are_chosen(selection, test):
    assert chosen(selection) == by(test)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ("", "ends too early"),
        ("name", "name needs a value"),
        ("name CA and", "ends too early"),
        ("(name CA", r"a \) is missing"),
        ("name CA )", r"\) is not understood"),
        ("nmae CA", "nmae is not a key"),
        ("index one", r"whole numbers \(got one\)"),
        ("index to 3", "number on either side"),
        ("index 3 to", "number on either side"),
        ("__import__('os')", "is not a key"),
    ],
)
def test_what_cannot_be_understood_is_named(selection, words):
    with pytest.raises(InputError, match=words):
        select(TOPOLOGY, selection)


@pytest.fixture
def host_and_guest(tmp_path):
    """Writes two small molecules without any C-alpha: a ring of eight carbons and two atoms, `away` angstrom off."""

    def write(name, away, guest=("C1", "O1")):
        ring = [(5 * np.cos(t), 5 * np.sin(t), 0.0) for t in np.arange(8) * np.pi / 4]
        rows = [ATOM.format(i + 1, f"C{i + 1}", "HST", "A", 1, *x, "C") for i, x in enumerate(ring)]
        rows += [ATOM.format(9 + i, atom, "GST", "B", 2, 0.0, 1.4 * i, away, atom[0]) for i, atom in enumerate(guest)]
        (tmp_path / name).write_text("".join(rows) + "END\n")
        return tmp_path / name

    return write


@pytest.mark.parametrize("descriptor", ["resname HST GST", [0, 1, 2, 3, 4, 5, 6, 7, 9, 8], "heavy"])
def test_systems_without_alpha_carbons(host_and_guest, descriptor):
    system = SystemSection(
        name="cb", start=host_and_guest("a.pdb", 9.0), target=host_and_guest("b.pdb", 0.0), descriptor=descriptor
    )
    structures = load_structures(system)
    assert structures.descriptor.tolist() == list(range(10))
    assert structures.residue_names == ("HST",) * 8 + ("GST",) * 2


def test_a_target_may_hold_the_chosen_atoms_alone(host_and_guest, tmp_path):
    target = host_and_guest("b.pdb", 0.0)
    target.write_text("".join(line for line in target.read_text().splitlines(keepends=True) if "GST" in line))
    system = SystemSection(name="cb", start=host_and_guest("a.pdb", 9.0), target=target, descriptor=[8, 9])
    with pytest.raises(InputError, match="equals the start"):  # a rigid pair, wherever it is
        load_structures(system)


def test_the_first_difference_is_named(host_and_guest):
    start, target = host_and_guest("a.pdb", 9.0), host_and_guest("b.pdb", 0.0, ("C1", "N1"))
    system = SystemSection(name="cb", start=start, target=target, descriptor="all")
    with pytest.raises(InputError, match=r"descriptor atom 10 is O1 of GST2 in .*a\.pdb and N1 of GST2 in .*b\.pdb"):
        load_structures(system)


def test_an_index_that_does_not_exist(host_and_guest):
    system = SystemSection(
        name="cb", start=host_and_guest("a.pdb", 9.0), target=host_and_guest("b.pdb", 0.0), descriptor=[0, 10]
    )
    with pytest.raises(InputError, match=r"a\.pdb has 10 atoms, and system\.descriptor asks for atom 10"):
        load_structures(system)


def test_no_descriptor_is_refused():
    from ddmd_mpi.config import load

    with pytest.raises(ConfigError, match=r"system\.descriptor"):
        load("cln025", None, ("system.descriptor=[]",))
