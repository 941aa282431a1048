"""No reader gives a system with water and no box, or with a box that was given and is not used."""

from dataclasses import replace
from itertools import product

import numpy as np
import openmm
import pytest
from molecule_files import EDGES, nine_waters, write_amber, write_charmm, write_gromacs
from openmm import app, unit

from ddmd_mpi.config import inputs, load
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.molecule_files import MoleculeFiles
from ddmd_mpi.md.molecules import build_molecule, load_molecule
from ddmd_mpi.md.prepare import unfold

SIMULATION = replace(load("bba").simulation, nonbonded_cutoff_nm=None)
OTHER = (2.5, 2.6, 2.7)
READERS = ("amber", "amber without IFBOX", "charmm", "gromacs", "openmm", "openmm without PME", "force field")


def write_pdb(topology, positions, box, path):
    topology.setUnitCellDimensions(box and box * unit.nanometer)
    with path.open("w") as file:
        app.PDBFile.writeFile(topology, positions * unit.nanometer, file)


def written(directory, reader, molecule, box):
    """Files of a molecule, with a box in the coordinates or without."""
    topology, positions, system = molecule
    top, crd, more = (directory / name for name in ("a.top", "a.gro", "a.prm"))
    if reader.startswith("amber"):
        top, crd = directory / "a.prmtop", directory / "a.rst7"
        write_amber(topology, system, positions, top, crd, box)
        if reader != "amber":
            write_amber(topology, system, positions, top, directory / "other.rst7", None)
    elif reader == "charmm":
        top, crd = directory / "a.psf", directory / "a.pdb"
        write_charmm(topology, system, positions, top, more, directory / "a.crd")
        write_pdb(topology, positions, box, crd)
        return MoleculeFiles(crd, top, (more,))
    elif reader == "gromacs":
        write_gromacs(topology, system, positions, top, crd, box or (0.0, 0.0, 0.0))
    else:
        top, crd = directory / "a.xml", directory / "a.pdb"
        write_pdb(topology, positions, box, crd)
        if reader == "force field":
            return MoleculeFiles(crd, None, force_field=("amber99sbildn.xml", "tip3p.xml"))
        topology.setUnitCellDimensions(EDGES * unit.nanometer)
        method = app.NoCutoff if reader == "openmm without PME" else app.PME
        field = app.ForceField("amber99sbildn.xml", "tip3p.xml")
        top.write_text(openmm.XmlSerializer.serialize(field.createSystem(topology, nonbondedMethod=method)))
    return MoleculeFiles(crd, top)


@pytest.fixture(scope="module")
def peptide():
    topology, positions = read_pdb(inputs() / "plc" / "ace-leu-nme.pdb")
    return topology, positions + 1.0, app.ForceField("amber99sbildn.xml").createSystem(topology)


@pytest.fixture(scope="module")
def files(tmp_path_factory, peptide):
    """Files by reader, whether there is water, and whether the coordinates have a box."""
    found = {}
    for reader, wet, box in product(READERS, (True, False), (EDGES, None)):
        if wet or reader != "charmm":  # the writer of PSF files knows no torsions
            directory = tmp_path_factory.mktemp("files")
            found[reader, wet, box] = written(directory, reader, nine_waters() if wet else peptide, box)
    return found


@pytest.mark.filterwarnings("ignore:Non-optimal GB parameters")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("solvent", ["auto", "explicit", "implicit", "vacuum"])
def test_water_has_a_box_and_a_box_is_used(files, reader, solvent):
    loaded = refused = 0
    for wet, in_file, in_settings in product((True, False), (EDGES, None), (OTHER, None)):
        if (reader, wet, in_file) not in files:
            continue
        given = MoleculeFiles(**{**vars(files[reader, wet, in_file]), "solvent": solvent, "box_nm": in_settings})
        try:
            molecule = load_molecule(given)
            system = build_molecule(molecule, SIMULATION)
        except InputError:
            refused += 1
            continue
        loaded += 1
        used = molecule.box_nm is not None
        assert system.usesPeriodicBoundaryConditions() == used
        assert used or not wet or solvent == "vacuum", "water without a box"
        assert used or not in_settings, "box_nm is not used"
        assert used or not in_file or solvent in ("implicit", "vacuum"), "the box of the file is not used"
        if used and (in_settings or in_file):
            np.testing.assert_allclose(np.diag(molecule.box_nm), in_settings or in_file, atol=1e-4)
            found = system.getDefaultPeriodicBoxVectors()
            np.testing.assert_allclose([found[i][i]._value for i in range(3)], in_settings or in_file, atol=1e-4)
    assert loaded + refused > 0
    if reader == "amber without IFBOX" and solvent == "auto":
        # Refused: water without a box, and dry with a box that the topology does not know, or with a nearly empty one.
        assert loaded == 4


def test_what_is_asked_names_files_and_cure(files):
    with pytest.raises(InputError, match=r"a\.rst7 has 9 molecules of water and no box: set box_nm .*--box"):
        load_molecule(files["amber without IFBOX", True, None])
    with pytest.raises(InputError, match=r"box of .*a\.rst7 \(2\.10 x .* is unknown to .*a\.prmtop: set solvent"):
        load_molecule(files["amber without IFBOX", False, EDGES])
    with pytest.raises(InputError, match=r"may be a crystal's unit cell: set solvent to explicit"):
        load_molecule(files["force field", True, EDGES])


@pytest.mark.parametrize("reader", ["gromacs", "amber"])
def test_a_box_that_is_nearly_empty_is_asked_about(files, reader):
    """As editconf writes it when nobody has added water."""
    dry = files[reader, False, EDGES]
    with pytest.raises(
        InputError, match=r"nearly empty \(0\.\d\d g/cm3, and no water\): add the water, set solvent to"
    ):
        load_molecule(dry)
    assert load_molecule(replace(dry, solvent="explicit")).box_nm is not None


@pytest.mark.parametrize(("reader", "wet"), [("amber", False), ("gromacs", False), ("amber", True), ("openmm", True)])
def test_atoms_in_another_order_are_refused(files, reader, wet, tmp_path):
    """As many of them, sorted by name: what a program that rewrites files makes of them."""
    given = files[reader, wet, EDGES]
    molecule = load_molecule(replace(given, solvent="explicit"))
    with (tmp_path / "sorted.pdb").open("w") as file:
        order = np.argsort([a.name for a in molecule.topology.atoms()], kind="stable")
        app.PDBFile.writeFile(molecule.topology, molecule.positions_nm[order] * unit.nanometer, file)
    simulation = replace(SIMULATION, nonbonded_cutoff_nm=None if reader == "openmm" else 0.8)
    wrong = load_molecule(replace(given, coordinates=tmp_path / "sorted.pdb", solvent="explicit"))
    with pytest.raises(
        InputError, match=r"sorted\.pdb does not fit .* are bonded, and \d\.\d\d nm apart: give the coord"
    ):
        build_molecule(wrong, simulation)
    assert build_molecule(molecule, simulation)


def test_unfolding_keeps_the_box(files):
    given = files["amber without IFBOX", True, EDGES]
    with pytest.raises(InputError, match="no box"):
        unfold(load_molecule(files["amber without IFBOX", True, None]), 1)
    assert build_molecule(load_molecule(given), SIMULATION).usesPeriodicBoundaryConditions()


def test_salt_without_a_box_is_refused(tmp_path, peptide):
    topology, positions, _ = peptide
    modeller = app.Modeller(topology, positions * unit.nanometer)
    ions = app.Topology()
    for _ in range(3):
        ions.addAtom("NA", app.element.sodium, ions.addResidue("NA", ions.addChain()))
    modeller.add(ions, np.arange(9.0).reshape(3, 3) * unit.nanometer)
    write_pdb(modeller.topology, np.array(modeller.positions._value), None, tmp_path / "a.pdb")
    with pytest.raises(InputError, match=r"a\.pdb has 3 single ions and no box"):
        load_molecule(MoleculeFiles(tmp_path / "a.pdb", force_field=("amber99sbildn.xml",)))


@pytest.mark.parametrize(
    ("solvent", "field", "words"),
    [
        ("implicit", ("amber99sbildn.xml",), "has no implicit solvent"),
        ("vacuum", ("amber99sbildn.xml", "amber99_obc.xml"), "brings implicit solvent"),
        ("explicit", ("amber99sbildn.xml", "amber99_obc.xml"), "brings implicit solvent"),
    ],
)
def test_a_force_field_brings_the_solvent_that_is_asked_for(files, solvent, field, words):
    box = OTHER if solvent == "explicit" else None
    given = MoleculeFiles(files["force field", False, None].coordinates, None, (), field, solvent, box)
    with pytest.raises(InputError, match=words):
        build_molecule(load_molecule(given), SIMULATION)
