"""The systems table: complexes that load and agree, restarts across them, and one sentence for whatever is wrong."""

from dataclasses import replace

import numpy as np
import openmm
import pytest
from openmm import app, unit
from toy_table import write_complex, write_table

from ddmd_mpi import config
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.engine_pool import EnginePool
from ddmd_mpi.md.engines import engine_maker
from ddmd_mpi.md.topologies import check_topologies, load_topology

PLATFORM = "simulation.platform=CPU"
KEPT = ("benzene", "ace-leu-nme", "n-methylbenzamide-in-water")


@pytest.fixture(scope="module")
def villin():
    """Three of the embedded complexes, one of them in water; the box is as small as the cutoff allows."""
    settings = config.load("plc", assignments=("simulation.minimize_iterations=20",))
    rows = [row for row in settings.system.complexes if row.name in KEPT]
    rows[-1] = replace(rows[-1], water_edge_nm=3.6, nonbonded_cutoff_nm=0.7)
    settings = replace(settings, system=replace(settings.system, complexes=rows))
    return settings, list(check_topologies(settings))


def test_complexes_differ_in_atoms_and_share_the_descriptor(villin):
    _, found = villin
    assert [t.name for t in found] == list(KEPT)
    assert [t.index for t in found] == [0, 1, 2]
    assert [t.n_atoms for t in found][:2] == [594, 613]
    assert found[2].n_atoms > 4000
    for topology in found:
        atoms = list(topology.structures.topology.atoms())
        assert len(topology.structures.descriptor) == 35, "the ligand's own CA is none of the protein's"
        assert {atoms[i].residue.chain.id for i in topology.pose.ligand} == {"L"}
        np.testing.assert_array_equal(topology.structures.target_nm, found[0].structures.target_nm)
    assert [len(t.pose.ligand) for t in found] == [6, 13, 10]


@pytest.fixture(scope="module")
def bodies(villin):
    settings, found = villin
    return EnginePool(settings, lambda k: found[k], engine_maker(settings, None, "CPU"))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_restart_has_the_energy_of_its_source_and_runs(villin, bodies, index):
    """A state of one walker is taken over by another walker, which held another topology."""
    source = bodies.take(index, 0)
    source.engine.start(1)
    source.engine.advance(25)
    state = source.engine.state()
    other = bodies.take(index, 1)
    other.engine.set_state(state.positions, state.velocities, state.box)
    taken = other.engine.state()
    n_atoms = source.topology.n_atoms
    assert taken.potential_energy == pytest.approx(state.potential_energy, abs=2e-3 * np.sqrt(n_atoms))
    np.testing.assert_allclose(taken.positions, state.positions, atol=2e-5)
    assert np.corrcoef(taken.velocities.ravel(), state.velocities.ravel())[0, 1] > 0.95  # but for constrained bonds
    np.testing.assert_array_equal(taken.box, state.box)
    assert taken.box.any() == (index == 2)
    other.engine.set_state(state.positions, None, state.box, seed=3)
    other.engine.advance(250 if index < 2 else 50)
    assert other.engine.state().potential_energy < 0.0
    for body in (source, other):
        bodies.put(body)


def test_a_frame_of_another_number_of_atoms_is_refused(bodies):
    first, second = bodies.take(0, 0), bodies.take(1, 0)
    first.engine.start(1)
    with pytest.raises(EngineError, match="positions"):
        second.engine.set_state(first.engine.state().positions, None, np.zeros((3, 3)))
    bodies.put(first)
    bodies.put(second)


def test_the_barostat_moves_the_box_and_a_restart_takes_the_box_over(villin, bodies):
    _, found = villin
    assert any(isinstance(f, openmm.MonteCarloBarostat) for f in found[2].system.getForces())
    assert not any(isinstance(f, openmm.MonteCarloBarostat) for f in found[0].system.getForces())
    body = bodies.take(2, 0)
    body.engine.start(1)
    box = 1.01 * found[2].structures.box_nm
    body.engine.set_state(1.01 * found[2].structures.positions_nm, None, box)
    np.testing.assert_allclose(body.engine.state().box, box, rtol=1e-6)
    body.engine.start(1)
    np.testing.assert_allclose(body.engine.state().box, found[2].structures.box_nm, rtol=1e-6)
    bodies.put(body)


def test_a_box_too_small_for_the_cutoff_names_its_row(villin):
    settings, _ = villin
    rows = [replace(settings.system.complexes[-1], nonbonded_cutoff_nm=1.9)]
    small = replace(settings, system=replace(settings.system, complexes=rows))
    with pytest.raises(InputError, match=r"n-methylbenzamide-in-water \(row 1 .*cutoff") as caught:
        list(check_topologies(small))
    assert "\n" not in str(caught.value)


def test_a_topology_that_the_run_does_not_have(villin):
    with pytest.raises(InputError, match="no topology 3"):
        load_topology(villin[0], 3)


def test_the_cell_of_a_ligand_is_not_dropped_silently(tmp_path, villin):
    settings, _ = villin
    row = settings.system.complexes[0]
    celled = tmp_path / "celled.pdb"
    celled.write_text("CRYST1   30.000   40.000   50.000  90.00  90.00  90.00 P 1\n" + row.ligand.read_text())
    settings = replace(settings, system=replace(settings.system, complexes=[replace(row, ligand=celled)]))
    with pytest.raises(
        InputError, match=r"benzene \(row 1 .*celled.pdb has a cell \(3.00 x 4.00 x 5.00 nm\).*remove it"
    ):
        load_topology(settings, 0)


# --- toy ligands, as PDB files with serialised systems


def toys(tmp_path, *rows):
    file = write_table(tmp_path, [1.0, 2.0])
    return config.load("plc", file, rows)


def test_a_system_of_openmm_comes_as_it_is(tmp_path):
    settings = toys(tmp_path)
    first, second = check_topologies(settings)
    assert (first.n_atoms, second.n_atoms) == (25, 26)
    assert first.system.getNumForces() == 3
    assert first.system.getParticleMass(0) == 100.0 * unit.dalton, "hydrogen_mass_amu is not for finished systems"
    assert first.atoms()["ligand_heavy_atoms"] == [24]


def test_an_own_start_leaves_the_pose(tmp_path):
    settings = toys(tmp_path)
    first = load_topology(settings, 0)
    moved = tmp_path / "moved.pdb"
    with moved.open("w") as file:
        app.PDBFile.writeFile(first.structures.topology, (first.structures.positions_nm + 0.5) * unit.nanometer, file)
    rows = [replace(settings.system.complexes[0], start=moved), settings.system.complexes[1]]
    settings = replace(settings, system=replace(settings.system, complexes=rows))
    again = load_topology(settings, 0)
    np.testing.assert_allclose(again.structures.positions_nm, first.structures.positions_nm + 0.5, atol=1e-3)
    np.testing.assert_array_equal(again.pose.ligand_nm, first.pose.ligand_nm)


def test_a_start_with_its_atoms_in_another_order_is_named(villin, tmp_path):
    settings, (first, *_) = villin
    start, x = tmp_path / "start.pdb", first.structures.positions_nm.copy()
    x[[3, 200]] = x[[200, 3]]
    with start.open("w") as file:
        app.PDBFile.writeFile(first.structures.topology, x * unit.nanometer, file)
    rows = [replace(settings.system.complexes[0], start=start), *settings.system.complexes[1:]]
    torn = replace(settings, system=replace(settings.system, complexes=rows))
    with pytest.raises(InputError, match="row 1 of system.complexes.*start.pdb does not fit .* nm apart"):
        load_topology(torn, 0).build()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ligand_residues": ["XYZ"]}, ("XYZ", "ligand_residues")),
        ({"start": "other.pdb"}, ("other.pdb", "atoms")),
        ({"start": "gone.pdb"}, ("gone.pdb", "does not exist")),
        ({"topology": "gone.xml"}, ("gone.xml", "does not exist")),
        ({"topology": "toy.toml"}, ("toy.toml", "topology")),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, change, words):
    settings = toys(tmp_path)
    write_complex(tmp_path, "other", 1.0, 5)
    change = {k: tmp_path / v if isinstance(v, str) else v for k, v in change.items()}
    rows = [settings.system.complexes[0], replace(settings.system.complexes[1], **change)]
    wrong = replace(settings, system=replace(settings.system, complexes=rows))
    with pytest.raises(InputError) as caught:
        list(check_topologies(wrong))
    assert str(caught.value).startswith("complex ligand-1 (row 2 of system.complexes): ")
    assert all(word in str(caught.value) for word in words)


ROW = '[[system.complexes]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW, "give coordinates or a ligand"),
        (ROW + 'ligand = "x.pdb"\ncoordinates = "y.pdb"\n', "not both"),
        (ROW + 'coordinates = "y.pdb"\nwater_edge_nm = 5\n', "water_edge_nm"),
        (2 * (ROW + 'coordinates = "y.pdb"\n'), "two complexes have the name a"),
        (ROW.replace('"a"', '"../a"') + 'coordinates = "y.pdb"\n', "name"),
        (ROW + 'prmtop = "y.pdb"\n', "prmtop"),
        (ROW + 'coordinates = "y.pdb"\n[steering]\nstrategy = "greedy"\n', "system.target"),
        (
            ROW + 'coordinates = "y.pdb"\n[features]\norder_parameters = []\n[steering]\nstrategy = "ml_contacts"\n',
            "ligand_contacts",
        ),
    ],
)
def test_rows_that_contradict_themselves(tmp_path, text, words):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        config.load("plc", tmp_path / "mine.toml")


def test_paths_of_a_row_are_relative_to_the_config_file(tmp_path):
    row = toys(tmp_path).system.complexes[0]
    assert row.coordinates == tmp_path / "ligand-0.pdb"
    assert row.topology == tmp_path / "ligand-0.xml"


def test_ligands_are_asked_for_where_there_are_none():
    parameter = "features.order_parameters=[{name='c', kind='ligand_contacts'}]"
    with pytest.raises(ConfigError, match="system.complexes"):
        config.load("cln025", assignments=(parameter,))
