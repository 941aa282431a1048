"""Many starts: read from whatever holds them, checked against the start, and given to walkers in turn."""

import numpy as np
import pytest

from ddmd_mpi import config as configuration
from ddmd_mpi.errors import InputError
from ddmd_mpi.md import starts
from ddmd_mpi.md.coordinates import write_pdb
from ddmd_mpi.md.emulated.recorded import DCDFrames
from ddmd_mpi.md.engine_pool import EnginePool
from ddmd_mpi.md.engines import engine_maker
from ddmd_mpi.md.input_files import keep_inputs
from ddmd_mpi.md.prepared import chosen_start
from ddmd_mpi.md.starts import read_starts
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.topologies import load_topology
from ddmd_mpi.md.trajectory import Trajectory


def of_bba(path=None, *settings):
    given = () if path is None else (f"system.starts={path}",)
    return configuration.load("bba-go", assignments=(*given, *settings))


@pytest.fixture(scope="module")
def structures():
    return load_structures(of_bba().system)


def moved(structures, number):
    """The start with its last bead somewhere else."""
    x = structures.positions_nm.copy()
    x[-1] += 0.1 * number
    return x


@pytest.fixture
def directory(structures, tmp_path):
    (tmp_path / "starts").mkdir()
    for number in (2, 1, 3):
        write_pdb(structures.topology, moved(structures, number), tmp_path / "starts" / f"start-{number}.pdb")
    (tmp_path / "starts" / "notes.txt").write_text("not a structure")
    return tmp_path / "starts"


@pytest.fixture
def models(directory):
    """A file of three models, as of NMR."""
    path = directory.parent / "nmr.pdb"
    atoms = [f.read_text().split("MODEL")[-1] for f in sorted(directory.glob("*.pdb"))]
    lines = [[line for line in text.splitlines() if line.startswith(("ATOM", "HETATM", "TER"))] for text in atoms]
    bodies = [f"MODEL {i:8d}\n" + "\n".join(body) + "\nENDMDL\n" for i, body in enumerate(lines, 1)]
    path.write_text("".join(bodies) + "END\n")
    return path


@pytest.fixture
def run(structures, tmp_path):
    """A run directory with a trajectory of three frames."""
    (tmp_path / "run" / "trajectories").mkdir(parents=True)
    settings = of_bba().simulation
    trajectory = Trajectory(tmp_path / "run" / "trajectories", 0, structures, settings, ())
    for number in (1, 2, 3):
        trajectory.append(moved(structures, number).astype(np.float32), 0.0, 0, 1.0, 0.0, np.zeros(0))
    trajectory.free()
    return tmp_path / "run"


@pytest.mark.parametrize("source", ["directory", "models", "run"])
def test_starts_are_read_in_order(structures, source, request):
    path = request.getfixturevalue(source)
    positions, boxes = read_starts(path, structures.topology)
    expected = [moved(structures, number) for number in (1, 2, 3)]
    assert positions == pytest.approx(np.array(expected), abs=2e-4)
    assert not boxes.any()


def test_the_copy_in_a_run_directory_holds_the_same(structures, models, tmp_path):
    config, records = keep_inputs(of_bba(models), tmp_path / "kept")
    assert config.system.starts == tmp_path / "kept" / "inputs" / "starts.npz"
    assert records["inputs/starts.npz"]["setting"] == "system.starts"
    kept = read_starts(config.system.starts, structures.topology)
    assert np.array_equal(kept[0], read_starts(models, structures.topology)[0])
    again, _ = keep_inputs(config, tmp_path / "kept", records)
    assert again.system.starts == config.system.starts


def other_number(text):
    return "\n".join(line for line in text.splitlines() if "A  28" not in line and " 28 " not in line[20:28])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_number, "has 27 atoms and system.start has 28"),
        (lambda text: text.replace("GLN", "ALA"), r"has CA of ALA where system.start has CA of GLN \(atom 2\)"),
    ],
)
def test_a_start_of_other_atoms_is_named(directory, change, said):
    path = directory / "start-2.pdb"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=f"start 2 of .*{said}"):
        load_structures(of_bba(directory).system)


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "does not exist"), ("x.txt", "give a directory"), ("", "no structure")]
)
def test_where_there_are_no_starts(tmp_path, structures, name, said):
    (tmp_path / "x.txt").write_text("x")
    path = tmp_path / name if name else tmp_path / "empty"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        read_starts(path, structures.topology)


@pytest.mark.parametrize(
    ("n_walkers", "n_starts", "expected"), [(5, 2, [0, 1, 0, 1, 0]), (3, 3, [0, 1, 2]), (3, 30, [0, 10, 20])]
)
def test_starts_are_spread_over_walkers(n_walkers, n_starts, expected):
    assert [chosen_start(w, n_walkers, n_starts) for w in range(n_walkers)] == expected


@pytest.mark.parametrize("n_walkers", [2, 3, 4])
def test_walkers_have_the_same_starts_where_ranks_get_no_others(structures, directory, n_walkers):
    prepared = load_topology(of_bba(directory), 0).prepared(simulated=False)
    sent = prepared.for_walkers(n_walkers)
    assert len(sent.structures.starts[0]) == min(3, n_walkers)
    for walker in range(n_walkers):
        mine, given = (
            p.at_start(chosen_start(walker, n_walkers, len(p.structures.starts[0]))) for p in (prepared, sent)
        )
        assert np.array_equal(mine.structures.positions_nm, given.structures.positions_nm)


@pytest.mark.parametrize(
    ("most", "n_read", "numbers"),
    [(1, 1, [13]), (4, 6, [2, 12, 14, 24]), (30, 15, [*range(1, 6), *range(11, 16), *range(21, 26)])],
)
def test_no_more_of_a_large_run_is_read_than_its_share(structures, tmp_path, monkeypatch, most, n_read, numbers):
    """Three walkers with five frames each."""
    (tmp_path / "trajectories").mkdir()
    for walker in range(3):
        trajectory = Trajectory(tmp_path / "trajectories", walker, structures, of_bba().simulation, ())
        for k in range(1, 6):
            x = moved(structures, 10 * walker + k).astype(np.float32)
            trajectory.append(x, 0.0, 0, 1.0, 0.0, np.zeros(0))
        trajectory.free()
    reads, read = [], DCDFrames.__getitem__
    monkeypatch.setattr(starts, "MOST", most)
    monkeypatch.setattr(DCDFrames, "__getitem__", lambda frames, i: reads.append(i) or read(frames, i))
    positions, _ = read_starts(tmp_path, structures.topology)
    assert positions == pytest.approx(np.array([moved(structures, number) for number in numbers]), abs=2e-4)
    assert len(reads) == n_read


def test_of_many_models_so_many_are_taken(structures, models, monkeypatch):
    monkeypatch.setattr(starts, "MOST", 2)
    positions, _ = read_starts(models, structures.topology)
    assert positions == pytest.approx(np.array([moved(structures, number) for number in (1, 3)]), abs=2e-4)


def test_walkers_start_from_them(structures, directory):
    config = of_bba(directory, "simulation.minimize=false", "simulation.platform=Reference")
    prepared = load_topology(config, 0).prepared(simulated=True)
    pool = EnginePool(config, lambda _: prepared, engine_maker(config, None, "Reference"), n_walkers=4)
    for walker, number in enumerate((1, 2, 3, 1)):
        engine = pool.take(0, walker).engine
        engine.start(seed=1)
        assert engine.state().positions == pytest.approx(moved(structures, number), abs=2e-3)
