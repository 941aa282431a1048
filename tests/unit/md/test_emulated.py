"""The engine that stands in for a GPU: seeds, restarts, made-up and recorded frames."""

from dataclasses import replace

import numpy as np
import pytest

from ddmd_mpi.config import load
from ddmd_mpi.errors import ConfigError, InputError
from ddmd_mpi.md.coordinate_files import DCDFile
from ddmd_mpi.md.emulated.engine import EmulatedEngine
from ddmd_mpi.md.emulated.recorded import read_frames
from ddmd_mpi.md.emulated.synthetic import carriers, collective_basis, superposed
from ddmd_mpi.md.engines import check_engine, check_molecule
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

EMULATED = "simulation.engine=emulated"
CHIGNOLIN = load("cln025", None, (EMULATED,))
STRUCTURES = load_structures(CHIGNOLIN.system)
STEPS = CHIGNOLIN.simulation.steps_per_report


def engine(seed=1, **emulation):
    return EmulatedEngine(STRUCTURES, CHIGNOLIN.simulation, replace(CHIGNOLIN.emulation, **emulation), seed)


def run(engine, n_reports):
    """Positions of some reports, shape (n_reports, n_atoms, 3)."""
    frames = []
    for _ in range(n_reports):
        engine.advance(STEPS)
        frames.append(engine.state().positions)
    return np.array(frames)


def to_target(frames):
    return superposed_rmsd(frames[:, STRUCTURES.descriptor].astype(np.float64), STRUCTURES.target_nm)


@pytest.fixture
def recorded(tmp_path):
    """A DCD file of seven frames, and the frames."""
    frames = np.random.default_rng(0).normal(size=(7, 166, 3)).astype(np.float32)
    file = DCDFile(tmp_path / "recorded.dcd", 166, 60, 0.004, periodic=False)
    for x in frames:
        file.write(x, None)
    file.close()
    return tmp_path / "recorded.dcd", frames


def test_the_first_state_is_the_start():
    walker = engine()
    walker.start(5)
    state = walker.state()
    np.testing.assert_allclose(state.positions, STRUCTURES.positions_nm, atol=0.06)
    assert state.positions.dtype == state.velocities.dtype == state.box.dtype == np.float32
    assert state.positions.shape == state.velocities.shape == (166, 3)
    assert not state.box.any()
    assert isinstance(state.potential_energy, float)


def test_the_same_seeds_give_the_same_frames_and_others_others():
    def frames(seed, start_seed):
        walker = engine(seed)
        walker.start(start_seed)
        return run(walker, 3)

    np.testing.assert_array_equal(frames(1, 5), frames(1, 5))
    assert np.abs(frames(1, 5) - frames(2, 5)).max() > 1e-3
    assert np.abs(frames(1, 5) - frames(1, 6)).max() > 1e-3


def test_a_state_that_is_asked_for_twice_is_one():
    walker = engine()
    walker.start(5)
    walker.advance(STEPS)
    assert walker.state() is walker.state()


def test_a_walker_folds_and_unfolds():
    walker = engine(seed=2)
    walker.start(1)
    rmsd = 10 * to_target(run(walker, 4000))
    folded = np.flatnonzero(rmsd < 1.5)
    assert rmsd[0] > 4
    assert len(folded)
    assert (rmsd[folded[0] :] > 4).any(), "once folded it never unfolded"


def test_a_restart_goes_on_from_the_given_state():
    """A walker that is put on a folded frame is near that frame in the next reports; the start is 5 angstrom away."""
    source = engine(seed=2)
    source.start(1)
    frames = run(source, 4000)
    folded = frames[np.argmin(to_target(frames))]
    walker = engine(seed=3)
    walker.start(1)
    walker.set_state(folded, seed=7)
    np.testing.assert_array_equal(walker.state().positions, folded)
    after = run(walker, 3)
    alpha = after[:, STRUCTURES.descriptor].astype(np.float64)
    assert (10 * superposed_rmsd(alpha, folded[STRUCTURES.descriptor].astype(np.float64)) < 2.0).all()
    walker.set_state(folded, seed=7)
    np.testing.assert_array_equal(run(walker, 3), after)
    walker.set_state(folded, seed=8)
    assert np.abs(run(walker, 3) - after).max() > 1e-3


def test_velocities_are_copied_or_of_the_temperature_of_the_config():
    walker = engine()
    given = np.full((166, 3), 0.25, np.float32)
    walker.set_state(STRUCTURES.positions_nm, given)
    np.testing.assert_array_equal(walker.state().velocities, given)
    masses = np.array([a.element.mass._value for a in STRUCTURES.topology.atoms()])
    energies = []
    for seed in range(50):
        walker.set_state(STRUCTURES.positions_nm, seed=seed)
        energies.append((masses[:, None] * walker.state().velocities.astype(np.float64) ** 2).mean())
    assert np.mean(energies) == pytest.approx(8.314462618e-3 * 300, rel=0.03)


def test_the_energy_is_low_in_both_wells_and_high_between():
    walker = engine()
    motion = walker._motion
    motion.begin()
    energies = []
    for motion.folded in (0.0, 0.5, 1.0):
        energies.append(motion.potential_energy())
    assert energies == pytest.approx([0.0, 4 * 8.314462618e-3 * 300, 0.0])


def test_the_target_is_the_end_of_the_way():
    motion = engine()._motion
    motion.begin()
    motion.folded = 1.0
    x = motion.positions(np.random.default_rng(0))[STRUCTURES.descriptor].astype(np.float64)
    assert 10 * superposed_rmsd(x, STRUCTURES.target_nm) < 0.3
    motion.take(motion.positions(np.random.default_rng(0)))
    assert motion.folded == pytest.approx(1.0, abs=0.05)


def test_collective_coordinates_are_orthonormal_and_begin_with_the_way():
    way = np.random.default_rng(1).normal(size=(10, 3))
    basis = collective_basis(way)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    np.testing.assert_allclose(basis[:, 0] * np.linalg.norm(way), way.reshape(-1))


def test_superposition_undoes_a_rotation_and_keeps_the_handedness():
    x = np.random.default_rng(2).normal(size=(6, 3))
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    np.testing.assert_allclose(superposed(x @ rotation + 5.0, x), x, atol=1e-12)
    mirrored = superposed(x * [-1, 1, 1], x)
    assert np.abs(mirrored - x).max() > 0.1


def test_every_atom_goes_along_with_its_residue():
    residues = np.array([atom.residue.index for atom in STRUCTURES.topology.atoms()])
    np.testing.assert_array_equal(carriers(STRUCTURES), residues)


def test_recorded_frames_are_played_in_order_and_round(recorded):
    path, frames = recorded
    walker = engine(trajectory=path)
    walker.start(1)
    first = int(np.argmin(np.abs(frames - walker.state().positions).max(axis=(1, 2))))
    expected = frames[(first + 1 + np.arange(8)) % 7]
    np.testing.assert_allclose(run(walker, 8), expected, atol=1e-6)
    assert np.isfinite(walker.state().potential_energy)


def test_a_restart_goes_on_from_its_recorded_frame(recorded):
    path, frames = recorded
    walker = engine(trajectory=path)
    walker.start(1)
    walker.set_state(frames[4], seed=3)
    walker.advance(1)
    np.testing.assert_allclose(walker.state().positions, frames[4], atol=1e-6)
    walker.advance(STEPS - 1)
    np.testing.assert_allclose(walker.state().positions, frames[5], atol=1e-6)


def test_frames_with_a_cell_and_cut_off_ones(tmp_path):
    file = DCDFile(tmp_path / "cell.dcd", 5, 1, 0.002, periodic=True)
    for value in (1.0, 2.0, 3.0):
        file.write(np.full((5, 3), value, np.float32), 4 * np.eye(3))
    file.close()
    with (tmp_path / "cell.dcd").open("ab") as growing:
        growing.write(b"\0" * 50)
    found = read_frames(tmp_path / "cell.dcd", 5)
    assert len(found) == 3
    np.testing.assert_allclose(found[2], np.full((5, 3), 3.0))


def test_models_of_a_pdb_file(tmp_path):
    line = "ATOM      1  CA  ALA A   1    {:8.3f}   2.000   3.000  1.00  0.00           C\n"
    models = [f"MODEL     {i:4d}\n{line.format(10.0 * i)}ENDMDL\n" for i in (1, 2, 3)]
    (tmp_path / "models.pdb").write_text("".join(models) + "END\n")
    found = read_frames(tmp_path / "models.pdb", 1)
    np.testing.assert_allclose([found[i][0, 0] for i in range(3)], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.dcd", None, "does not exist"),
        ("frames.trr", b"", "cannot be replayed"),
        ("text.dcd", b"this is no trajectory at all, but a text\n" * 9, "cannot be read"),
        ("empty.dcd", b"", "cannot be read"),
        ("text.pdb", b"ATOM  nonsense\n", "PDB file"),
        ("one.dcd", 1, "at least 2"),
        ("no.dcd", 0, "at least 2"),
        ("other.dcd", "other", "7 atoms"),
    ],
)
def test_a_trajectory_that_cannot_be_replayed_is_refused_in_a_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        n_atoms = 7 if content == "other" else 166
        file = DCDFile(path, n_atoms, 60, 0.004, periodic=False)
        for _ in range(3 if content == "other" else content):
            file.write(np.ones((n_atoms, 3), np.float32), None)
        file.close()
    config = load("cln025", None, (EMULATED, f"emulation.trajectory='{path}'"))
    with pytest.raises(InputError, match=words) as caught:
        check_molecule(config, STRUCTURES)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_platform_is_needed():
    config = load("cln025", None, (EMULATED, "simulation.platform=CUDA"))
    assert check_engine(config, 166, None) == "emulated"


@pytest.mark.parametrize(
    ("assignments", "cure"),
    [
        (("emulation.trajectory='x.dcd'",), "set simulation.engine to emulated"),
        (("emulation.training_seconds=2", "training.model=none", "steering.strategy=greedy"), "set training.model"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(assignments, cure):
    with pytest.raises(ConfigError, match=cure):
        load("cln025", None, assignments)


def test_the_note_says_what_was_emulated():
    assert load("cln025").note == ""
    config = load("bba-go", None, (EMULATED, "emulation.report_seconds=0.5", "emulation.inference_seconds=3"))
    assert config.note.startswith(config.system.note)
    for words in ("emulated molecular dynamics", "made up", "0.5 s", "rounds of inference take 3 s"):
        assert words in config.note
