"""Molecules that a periodic boundary has cut in a file are put together before anything is measured on them."""

from dataclasses import replace

import numpy as np
import pytest
from openmm import app, unit

from ddmd_mpi.config import inputs, load
from ddmd_mpi.md.coordinates import bonds_of, read_pdb, read_structure, whole
from ddmd_mpi.md.repair import repair
from ddmd_mpi.md.structures import load_structures

CELL_NM = 3.0
SYSTEM = load("cln025").system


def wrapped(path, directory, shift):
    """A PDB file of the molecule moved by `shift` nm, each atom in the cell."""
    topology, positions = read_pdb(path)
    topology.setUnitCellDimensions((CELL_NM, CELL_NM, CELL_NM) * unit.nanometer)
    inside = np.mod(positions + shift, CELL_NM)
    assert np.abs(np.diff(inside, axis=0)).max() > 2.0, "the cell cuts nothing"
    file = directory / path.name
    with file.open("w") as text:
        app.PDBFile.writeFile(topology, inside * unit.nanometer, text)
    return file


@pytest.fixture(scope="module")
def intact():
    return load_structures(SYSTEM)


def centred(positions):
    return positions - positions.mean(axis=0)


@pytest.mark.parametrize("shift", [(0.9, 0.9, 0.0), (1.4, 0.0, -0.3)])
def test_a_target_that_the_cell_cuts_is_put_together(intact, tmp_path, shift):
    cut = load_structures(replace(SYSTEM, target=wrapped(SYSTEM.target, tmp_path, shift)))
    np.testing.assert_allclose(centred(cut.target_nm), centred(intact.target_nm), atol=1e-3)
    found, _ = read_structure(wrapped(SYSTEM.start, tmp_path, shift))
    np.testing.assert_allclose(centred(whole(found, found.topology)), centred(intact.positions_nm), atol=1e-3)


def test_a_start_without_its_box_is_put_together(intact, tmp_path):
    changes = {"start": wrapped(SYSTEM.start, tmp_path, (1.4, 0.1, 0.1)), "solvent": "implicit"}
    cut = load_structures(replace(SYSTEM, **changes))
    np.testing.assert_allclose(centred(cut.positions_nm), centred(intact.positions_nm), atol=1e-3)


def test_init_puts_together_and_says_so(tmp_path):
    found = repair(wrapped(SYSTEM.start, tmp_path, (1.4, 0.0, -0.3)), list(SYSTEM.force_field))
    assert found.notes[0] == "left out the cell of the file (3.00 x 3.00 x 3.00 nm): it may be a crystal's"
    assert found.notes[1] == "put molecules together that the cell had cut"
    bonds = bonds_of(found.topology)
    assert np.linalg.norm(np.diff(found.positions_nm[bonds], axis=1), axis=-1).max() < 0.25


def test_both_sides_of_a_gap_in_a_chain_stay_where_they_are(tmp_path):
    topology, positions = read_pdb(inputs() / "cln025-start.pdb")
    late = [a.index for a in topology.atoms() if int(a.residue.id) > 5]
    positions[late] += (0.0, 0.0, 2.0)
    topology.setUnitCellDimensions((CELL_NM, CELL_NM, CELL_NM) * unit.nanometer)
    with (tmp_path / "gap.pdb").open("w") as text:
        app.PDBFile.writeFile(topology, positions * unit.nanometer, text)
    found, _ = read_structure(tmp_path / "gap.pdb")
    np.testing.assert_array_equal(whole(found, found.topology), found.positions_nm)
