"""Files of AMBER, CHARMM, GROMACS and OpenMM give the energies of the system that they were written from."""

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from molecule_files import EDGES, nine_waters, write_amber, write_charmm, write_gromacs
from openmm import app, unit

from ddmd_mpi.config import inputs, load
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.coordinates import box_array, read_pdb
from ddmd_mpi.md.molecule_files import MoleculeFiles, mend_elements
from ddmd_mpi.md.molecules import build_molecule, load_molecule, of_charmm
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.structures import load_structures, write_topology
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.structure.features import FeatureCalculator
from ddmd_mpi.structure.periodic import bring_together, make_whole, molecules_of

SIMULATION = load("bba").simulation
FIELDS = ("charmm36.xml", "charmm36/water.xml", "amber14-all.xml")


def energy(system, positions, box=None):
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    context.setPositions(positions)
    return context.getState(getEnergy=True).getPotentialEnergy()._value


def simulation(**changes):
    return replace(SIMULATION, **changes)


@pytest.fixture(scope="module")
def peptide():
    """Capped leucine: topology, positions, its system in vacuum."""
    topology, positions = read_pdb(inputs() / "plc" / "ace-leu-nme.pdb")
    return topology, positions + 1.0, app.ForceField("amber99sbildn.xml").createSystem(topology)


@pytest.fixture(scope="module")
def water():
    return nine_waters()


@pytest.fixture
def amber(tmp_path, peptide):
    """Pair of files of capped leucine in vacuum."""
    files = tmp_path / "a.prmtop", tmp_path / "a.inpcrd"
    topology, positions, system = peptide
    write_amber(topology, system, positions, *files)
    return MoleculeFiles(files[1], files[0], solvent="vacuum")


def constrained(topology, **more):
    return app.ForceField("amber99sbildn.xml").createSystem(topology, constraints=app.HBonds, **more)


def test_a_prmtop_has_the_energy_of_the_force_field(amber, peptide):
    topology, positions, _ = peptide
    molecule = load_molecule(amber)
    np.testing.assert_allclose(molecule.positions_nm, positions, atol=1e-6)
    assert molecule.box_nm is None
    found, expected = build_molecule(molecule, SIMULATION), constrained(topology)
    assert found.getNumConstraints() == expected.getNumConstraints() > 0
    assert energy(found, positions) == pytest.approx(energy(expected, positions), abs=0.01)


def test_a_prmtop_without_a_box_is_in_implicit_solvent_by_itself(amber):
    kinds = {}
    for solvent in ("auto", "implicit", "vacuum"):
        files = MoleculeFiles(amber.coordinates, amber.topology, solvent=solvent)
        system = build_molecule(load_molecule(files), SIMULATION)
        kinds[solvent] = any("GB" in force.getName() for force in system.getForces())
    assert kinds == {"auto": True, "implicit": True, "vacuum": False}


def test_a_gromacs_topology_has_the_energy_of_the_force_field(tmp_path, peptide):
    topology, positions, system = peptide
    write_gromacs(topology, system, positions, tmp_path / "a.top", tmp_path / "a.gro")
    molecule = load_molecule(MoleculeFiles(tmp_path / "a.gro", tmp_path / "a.top"))
    assert molecule.box_nm is None
    found = energy(build_molecule(molecule, SIMULATION), positions)
    assert found == pytest.approx(energy(constrained(topology), positions), abs=0.01)


def test_heavy_hydrogens_hold_for_files_too(amber):
    system = build_molecule(load_molecule(amber), simulation(hydrogen_mass_amu=3.0))
    assert min(system.getParticleMass(i)._value for i in range(system.getNumParticles())) == pytest.approx(3.0)


def in_water(tmp_path, kind, water):
    """Files of the water, by program."""
    topology, positions, system = water
    a, b, c = (
        tmp_path / f"w.{suffix}"
        for suffix in {
            "amber": ("prmtop", "rst7", ""),
            "charmm": ("psf", "crd", "prm"),
            "gromacs": ("top", "gro", ""),
            "openmm": ("xml", "pdb", ""),
        }[kind]
    )
    if kind == "amber":
        write_amber(topology, system, positions, a, b, EDGES)
    elif kind == "gromacs":
        write_gromacs(topology, system, positions, a, b, EDGES)
    elif kind == "charmm":
        write_charmm(topology, system, positions, a, c, b)
        return MoleculeFiles(b, a, (c,), box_nm=EDGES)
    else:
        rigid = reference(water)
        a.write_text(openmm.XmlSerializer.serialize(rigid))
        with b.open("w") as file:
            app.PDBFile.writeFile(topology, positions * unit.nanometer, file)
    return MoleculeFiles(b, a)


def reference(water):
    return app.ForceField("tip3p.xml").createSystem(
        water[0], nonbondedMethod=app.PME, nonbondedCutoff=1.0 * unit.nanometer, constraints=app.HBonds
    )


@pytest.mark.parametrize("kind", ["amber", "charmm", "gromacs", "openmm"])
def test_water_in_a_box_has_pme_a_barostat_and_the_energy_of_the_force_field(tmp_path, kind, water):
    molecule = load_molecule(in_water(tmp_path, kind, water))
    np.testing.assert_allclose(molecule.box_nm, np.diag(EDGES), atol=1e-6)
    # The box is too small for CHARMM's cutoff.
    cutoff_nm = 1.0 if kind == "charmm" else None
    system = build_molecule(molecule, simulation(temperature_kelvin=310.0, nonbonded_cutoff_nm=cutoff_nm))
    assert system.usesPeriodicBoundaryConditions()
    (barostat,) = (f for f in system.getForces() if isinstance(f, openmm.MonteCarloBarostat))
    assert barostat.getDefaultTemperature()._value == 310.0
    assert barostat.getDefaultPressure()._value == 1.0
    expected = energy(reference(water), water[1], np.diag(EDGES))
    np.testing.assert_allclose(molecule.positions_nm, water[1], atol=6e-4)  # a gro file has three decimals
    assert energy(system, water[1]) == pytest.approx(expected, abs=0.05)


def test_no_barostat_at_constant_volume(tmp_path, water):
    system = build_molecule(load_molecule(in_water(tmp_path, "amber", water)), simulation(pressure_bar=0.0))
    assert not [f for f in system.getForces() if isinstance(f, openmm.MonteCarloBarostat)]


def test_a_box_cuts_no_molecule(tmp_path, water):
    topology, positions, system = water
    cut = positions.copy()
    cut[4] -= [0.0, 0.0, EDGES[2]]
    cut[5] += [EDGES[0], 0.0, 0.0]
    write_amber(topology, system, cut, tmp_path / "w.prmtop", tmp_path / "w.inpcrd", EDGES)
    found = load_molecule(MoleculeFiles(tmp_path / "w.inpcrd", tmp_path / "w.prmtop"))
    np.testing.assert_allclose(found.positions_nm, positions, atol=1e-6)


def test_molecules_are_brought_together():
    box = np.diag([3.0, 3.0, 3.0])
    x = np.array([[0.1, 0, 0], [0.2, 0, 0], [2.9, 0, 0], [2.8, 0, 0]])
    together = bring_together(x, np.array([0, 0, 1, 1]), box)
    np.testing.assert_allclose(together, [[0.1, 0, 0], [0.2, 0, 0], [-0.1, 0, 0], [-0.2, 0, 0]], atol=1e-12)
    np.testing.assert_array_equal(bring_together(x, np.zeros(4, int), box), x)


def test_a_chain_that_a_skewed_box_has_wrapped_twice_is_made_whole():
    box = box_array([[2.0, 0, 0], [0.7, 1.9, 0], [0.6, 0.5, 1.8]])
    chain = np.cumsum(np.full((30, 3), 0.09), axis=0)
    bonds = np.array([(i + 1, i) if i % 2 else (i, i + 1) for i in range(29)])
    rng = np.random.default_rng(0)
    wrapped = chain + np.concatenate([np.zeros((1, 3)), rng.integers(-2, 3, (29, 3))]) @ box
    np.testing.assert_allclose(make_whole(wrapped, bonds, box), chain, atol=1e-9)
    assert molecules_of(31, bonds).tolist() == [0] * 30 + [1]


def test_files_that_disagree_are_named(tmp_path, amber):
    lines = amber.coordinates.read_text().splitlines()
    (tmp_path / "b.inpcrd").write_text("\n".join([lines[0], "   28", *lines[2:16], ""]))
    with pytest.raises(InputError, match=r"a\.prmtop has 31 atoms and .*b\.inpcrd has 28: give the coordinates"):
        load_molecule(MoleculeFiles(tmp_path / "b.inpcrd", amber.topology))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"coordinates": Path("nowhere.inpcrd")}, r"nowhere\.inpcrd does not exist: AMBER coordinates"),
        ({"topology": Path("nowhere.prmtop")}, r"nowhere\.prmtop does not exist: a topology"),
        ({"topology": None}, "holds no topology: give the one that goes with it"),
        ({"solvent": "explicit"}, r"a\.inpcrd has no box, and explicit solvent needs one"),
        ({"parameters": (Path("nowhere.prm"),)}, r"nowhere\.prm does not exist"),
    ],
)
def test_what_is_missing_is_named(amber, what, words):
    with pytest.raises(InputError, match=words):
        load_molecule(MoleculeFiles(**{**vars(amber), **what}))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.prmtop", "%VERSION  and nothing else\n", "cannot be read as an AMBER topology"),
        ("a.psf", "PSF\n\nnothing\n", "set parameters to its CHARMM files"),
        ("a.xml", "<System", "cannot be read as an OpenMM System"),
        ("a.top", "[ moleculetype ]\n nonsense\n", "cannot be read as a GROMACS topology"),
        ("a.txt", "hello\n", "a topology .* is expected"),
    ],
)
def test_a_topology_that_is_none(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        load_molecule(MoleculeFiles(inputs() / "plc" / "benzene.pdb", tmp_path / name))


def test_comments_in_front_of_a_topology_may_be_long(tmp_path, peptide):
    topology, positions, system = peptide
    write_gromacs(topology, system, positions, tmp_path / "a.top", tmp_path / "a.gro")
    (tmp_path / "a.top").write_text(
        100 * "; what pdb2gmx has to say about itself, its authors and its files\n" + (tmp_path / "a.top").read_text()
    )
    assert len(load_molecule(MoleculeFiles(tmp_path / "a.gro", tmp_path / "a.top")).positions_nm) == len(positions)


def test_a_force_field_of_gromacs_that_is_not_found(tmp_path):
    (tmp_path / "a.top").write_text('#include "nowhere.ff/forcefield.itp"\n[ system ]\nx\n')
    with pytest.raises(InputError, match=r"nowhere\.ff/forcefield\.itp.*set parameters .*--parameters"):
        load_molecule(MoleculeFiles(inputs() / "plc" / "benzene.pdb", tmp_path / "a.top"))


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe"])
@pytest.mark.parametrize("which", ["topology", "coordinates"])
def test_a_byte_order_mark_is_named(amber, which, mark):
    path = getattr(amber, which)
    path.write_bytes(mark + path.read_bytes())
    with pytest.raises(InputError, match=f"{path.name} starts with a byte-order mark.*save it as UTF-8 without"):
        load_molecule(amber)


def test_a_psf_with_heavy_hydrogens_has_the_elements_of_its_parameters(tmp_path, water):
    topology, positions, system = water
    a, b, c = (tmp_path / name for name in ("w.psf", "w.prm", "w.crd"))
    write_charmm(topology, system, positions, a, b, c)
    text = a.read_text()
    a.write_text(text.replace(" 1.0079 ", " 3.0240 ").replace("15.9994", "11.9672"))
    molecule = load_molecule(MoleculeFiles(c, a, (b,), box_nm=EDGES))
    assert [x.element.symbol for x in molecule.topology.atoms()] == 9 * ["O", "H", "H"]
    built = build_molecule(molecule, simulation(nonbonded_cutoff_nm=1.0))
    assert {round(built.getParticleMass(i)._value, 3) for i in range(27)} == {3.024, 11.967}


def cutoff_and_switch(system):
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    switch = force.getSwitchingDistance()._value if force.getUseSwitchingFunction() else None
    return force.getCutoffDistance()._value, switch


def test_a_psf_in_a_box_has_charmms_cutoff_unless_the_settings_say_another(tmp_path, water):
    files = replace(in_water(tmp_path, "charmm", water), box_nm=(2.5, 2.5, 2.5))
    molecule = load_molecule(files)
    assert cutoff_and_switch(build_molecule(molecule, SIMULATION)) == (1.2, 1.0)
    assert cutoff_and_switch(build_molecule(molecule, simulation(nonbonded_cutoff_nm=1.1))) == (1.1, None)
    assert [of_charmm(MoleculeFiles(tmp_path / "a.pdb", force_field=(name,))) for name in FIELDS] == [True, True, False]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("BOND", r"lack the bond parameters of O \(type T0\), H1 \(type T1\): add the CHARMM file that has them"),
        ("ANGLE", r"lack the angle parameters of H1 \(type T1\), O \(type T0\), H2 \(type T2\)"),
        ("NONBONDED", r"lack the nonbonded parameters of O \(type T0\)"),
    ],
)
def test_parameters_that_a_psf_lacks_are_named(tmp_path, water, section, words):
    files = in_water(tmp_path, "charmm", water)
    (path,) = files.parameters
    before, _, after = path.read_text().partition(f"{section}")
    title, _, rows = after.partition("\n")
    path.write_text(f"{before}{section}{title}\n" + rows.partition("\n")[2])
    with pytest.raises(InputError, match=words):
        load_molecule(files)


def without_atomic_numbers(kind, path):
    """Take the atomic numbers out of a topology; names of atoms become ones that mislead."""
    text = path.read_text()
    if kind == "AMBER":
        a, b = text.index("%FLAG ATOMIC_NUMBER"), text.index("%FLAG MASS")
        path.write_text((text[:a] + text[b:]).replace("CB  ", "BR1 "))
        return
    lines = [
        " ".join([*line.split()[:1], *line.split()[2:]]) if line.startswith("T") else line for line in text.splitlines()
    ]
    path.write_text("\n".join(lines).replace(" CB ", " NA1 ") + "\n")


@pytest.mark.parametrize("kind", ["AMBER", "GROMACS"])
def test_elements_without_atomic_numbers_are_those_of_the_masses(tmp_path, peptide, kind):
    topology, positions, system = peptide
    write, *names = {"AMBER": (write_amber, "a.prmtop", "a.inpcrd"), "GROMACS": (write_gromacs, "a.top", "a.gro")}[kind]
    files = [tmp_path / name for name in names]
    write(topology, system, positions, *files)
    without_atomic_numbers(kind, files[0])
    found = load_molecule(MoleculeFiles(files[1], files[0], solvent="vacuum")).topology
    assert [a.name for a in found.atoms()] != [a.name for a in topology.atoms()]
    assert [a.element for a in found.atoms()] == [a.element for a in topology.atoms()]


def test_elements_of_repartitioned_masses(peptide):
    topology, _, _ = peptide
    system = app.ForceField("amber99sbildn.xml").createSystem(topology, hydrogenMass=3.024)
    expected, atoms = [a.element for a in topology.atoms()], list(topology.atoms())
    try:
        for atom in atoms:
            atom.element = app.element.helium
        mend_elements(topology, [system.getParticleMass(i)._value for i in range(len(atoms))])
        assert [a.element for a in atoms] == expected
    finally:
        for atom, element in zip(atoms, expected, strict=True):
            atom.element = element


def test_a_box_that_is_too_small_for_the_cutoff(tmp_path, water):
    molecule = load_molecule(in_water(tmp_path, "amber", water))
    with pytest.raises(InputError, match=r"box of .*w\.rst7 is 2\.10 nm wide.*nonbonded_cutoff_nm below 1\.05"):
        build_molecule(molecule, simulation(nonbonded_cutoff_nm=1.1))


def test_a_finished_system_keeps_its_masses(tmp_path, water):
    molecule = load_molecule(in_water(tmp_path, "openmm", water))
    with pytest.raises(InputError, match=r"w\.xml is a serialised System: leave simulation\.hydrogen_mass_amu out"):
        build_molecule(molecule, simulation(hydrogen_mass_amu=3.0))


@pytest.fixture(scope="module")
def walked(tmp_path_factory, water):
    """The water as a whole run has it: structures, settings and an engine that has gone ten steps."""
    directory = tmp_path_factory.mktemp("water")
    files = in_water(directory, "amber", water)
    moved = directory / "target.rst7"
    shifted = water[1] + np.repeat(np.random.default_rng(0).normal(scale=0.1, size=(9, 3)), 3, axis=0)
    write_amber(water[0], water[2], shifted, directory / "t.prmtop", moved, EDGES)
    settings = load(
        "bba",
        None,
        (
            f"system.start='{files.coordinates}'",
            f"system.target='{moved}'",
            f"system.topology='{files.topology}'",
            "system.descriptor='name O'",
            "simulation.platform=Reference",
            "simulation.minimize=false",
        ),
    )
    structures = load_structures(settings.system)
    engine = OpenMMEngine(structures, settings.simulation, settings.system, seed=3)
    engine.start(1)
    engine.advance(60)
    yield structures, settings, engine
    engine.free()


def test_a_restart_takes_positions_velocities_box_and_energy(walked):
    structures, settings, engine = walked
    source = engine.state()
    np.testing.assert_allclose(np.diag(source.box), EDGES, rtol=0.05)
    assert np.abs(source.box - structures.box_nm).max() > 0  # the barostat has moved
    other = OpenMMEngine(structures, settings.simulation, settings.system, seed=4)
    other.start(2)
    np.testing.assert_array_equal(other.state().box, structures.box_nm)
    other.set_state(source.positions, source.velocities, source.box)
    state = other.state()
    np.testing.assert_allclose(state.box, source.box, atol=1e-6)
    assert state.potential_energy == pytest.approx(source.potential_energy, abs=0.05)
    other.start(2)
    np.testing.assert_array_equal(other.state().box, structures.box_nm)
    other.free()


def test_a_trajectory_has_the_box(walked, tmp_path):
    structures, settings, engine = walked
    state = engine.state()
    with Trajectory(tmp_path, 0, structures, settings.simulation) as trajectory:
        trajectory.append(state.positions, 0.0, 0, 1.0, 2.0, box=state.box)
    write_topology(structures, tmp_path / "t.pdb")
    read = mdtraj.load(str(trajectory.path), top=str(tmp_path / "t.pdb"))
    np.testing.assert_allclose(read.xyz[0], state.positions, atol=1e-4)
    np.testing.assert_allclose(read.unitcell_lengths[0], np.diag(state.box), rtol=1e-5)


def test_features_do_not_see_the_box(walked):
    structures, settings, _ = walked
    features = FeatureCalculator(structures.target_nm, settings.features, structures.molecules)
    x = structures.positions_nm[structures.descriptor]
    wrapped = x + np.eye(9, 3) * 2 @ structures.box_nm
    one, two = (features.compute(y, structures.box_nm) for y in (x, wrapped))
    assert one["rmsd"] == pytest.approx(two["rmsd"], abs=1e-3)
    np.testing.assert_array_equal(one["contact_counts"], two["contact_counts"])
    assert features.compute(wrapped)["rmsd"] > one["rmsd"] + 1.0


def test_a_soft_spring_between_distant_atoms_is_no_torn_bond(tmp_path):
    """A tether of a user's System."""
    topology, positions = read_pdb(inputs() / "cln025-start.pdb")
    system = app.ForceField("amber99sbildn.xml").createSystem(topology, constraints=app.HBonds)
    tether = openmm.HarmonicBondForce()
    tether.addBond(0, len(positions) - 1, 0.2, 10.0)
    system.addForce(tether)
    (tmp_path / "a.xml").write_text(openmm.XmlSerializer.serialize(system))
    molecule = load_molecule(MoleculeFiles(inputs() / "cln025-start.pdb", tmp_path / "a.xml"))
    assert build_molecule(molecule, replace(SIMULATION, hydrogen_mass_amu=None, nonbonded_cutoff_nm=None))


@pytest.mark.parametrize(("force", "words"), [
    (openmm.AndersenThermostat(300, 1), "a.xml has a thermostat of its own"),
    (openmm.DrudeForce(), "a.xml has Drude particles"),
])  # fmt: skip
def test_forces_that_need_another_integrator_are_refused(tmp_path, force, words):
    topology, _ = read_pdb(inputs() / "cln025-start.pdb")
    system = app.ForceField("amber99sbildn.xml").createSystem(topology, constraints=app.HBonds)
    system.addForce(force)
    (tmp_path / "a.xml").write_text(openmm.XmlSerializer.serialize(system))
    molecule = load_molecule(MoleculeFiles(inputs() / "cln025-start.pdb", tmp_path / "a.xml"))
    with pytest.raises(InputError, match=words):
        build_molecule(molecule, replace(SIMULATION, hydrogen_mass_amu=None, nonbonded_cutoff_nm=None))
