"""From ``ddmd-mpi init`` to summary.json: a protein of one's own, and a host with its guest in a box."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from checker import written
from jobs import restarts, stopped, summary
from openmm import app

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

VILLIN = Path(app.__file__).parent / "data" / "test.pdb"
ATOM = "HETATM{:5d}  {:<3s} {:3s} {:1s}{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00          {:>2s}\n"
CELL = "CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1\n"


def test_villin_from_init_to_summary(tmp_path, monkeypatch):
    from ddmd_mpi.cli.new_system import Request, new_system
    from ddmd_mpi.md import prepare

    monkeypatch.setattr(prepare, "unfolding_ps", lambda n_atoms: 1.0)
    new_system(tmp_path / "villin", Request(pdb=VILLIN, name="villin"))
    run = tmp_path / "run"
    sets = (
        "training.model=none",
        "steering.strategy=greedy",
        "simulation.report_interval_ps=0.04",
        "simulation.segment_ps=0.4",
    )
    config = tmp_path / "villin" / "config.toml"
    stopped(4, run, "--config", config, sets=sets, enough=lambda: sum(map(len, written(run).values())) > 12)
    found = summary(run)
    assert found["usecase"] == "villin"
    assert found["simulation"]["frames"] > 4
    assert found["science"]["best_rmsd_angstrom"] > 0


@pytest.fixture
def host_and_guest(tmp_path):
    """A ring of beads and a pair of beads in a periodic box, as an OpenMM System XML and PDB files; no C-alpha."""
    ring = np.array([(0.5 * np.cos(t), 0.5 * np.sin(t), 0.0) for t in np.arange(8) * np.pi / 4]) + 0.2
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(3.0 * np.eye(3)))
    bonds, pairs = openmm.HarmonicBondForce(), openmm.NonbondedForce()
    bonds.setUsesPeriodicBoundaryConditions(True)
    pairs.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    pairs.setCutoffDistance(1.0)
    for _ in range(10):
        system.addParticle(40.0)
        pairs.addParticle(0.0, 0.34, 1.0)
    for i, j in [*((i, (i + 1) % 8) for i in range(8)), *((i, (i + 4) % 8) for i in range(4)), (8, 9)]:
        length = 0.3 if i == 8 else float(np.linalg.norm(ring[i] - ring[j]))
        bonds.addBond(i, j, length, 5000.0)
        pairs.addException(i, j, 0.0, 0.34, 0.0)
    system.addForce(bonds)
    system.addForce(pairs)
    (tmp_path / "cage.xml").write_text(openmm.XmlSerializer.serialize(system))
    connections = "".join(f"CONECT{i + 1:5d}{(i + 1) % 8 + 1:5d}\n" for i in range(8)) + "CONECT    9   10\n"
    for name, away in (("start.pdb", 1.2), ("target.pdb", 0.4)):
        x = 10.0 * np.concatenate([ring, [[0.2, 0.2, away], [0.2, 0.2, away + 0.3]]])
        residue = (("HST", "A", 1), ("GST", "B", 2))
        rows = [ATOM.format(i + 1, f"C{i + 1}", *residue[i >= 8], *p, "C") for i, p in enumerate(x)]
        (tmp_path / name).write_text(CELL + "".join(rows) + connections + "END\n")
    (tmp_path / "config.toml").write_text("""
[run]
usecase = "cage"
[system]
name = "cage"
topology = "cage.xml"
start = "start.pdb"
target = "target.pdb"
descriptor = "resname HST GST and heavy"
[simulation]
timestep_fs = 10.0
report_interval_ps = 1.0
segment_ps = 10.0
minimize = false
pressure_bar = 0
[streams]
block_delay = "0.25s"
[training]
model = "none"
[steering]
strategy = "greedy"
round_reports = 5
[aggregation]
ring_mb = 8.0
""")
    return tmp_path / "config.toml"


def test_a_periodic_host_and_its_guest_run_and_restart(tmp_path, host_and_guest):
    import mdtraj

    run = tmp_path / "run"
    stopped(4, run, "--config", host_and_guest, enough=lambda: restarts(run) and len(written(run)[0]) > 12)
    found = summary(run)
    assert found["simulation"]["failures"] == 0
    assert found["steering"]["delivered"] >= 1
    frames = mdtraj.load(str(run / "trajectories" / "sim-0000.dcd"), top=str(run / "topology" / "cage.pdb"))
    assert frames.n_frames > 5
    np.testing.assert_allclose(frames.unitcell_lengths, 3.0, rtol=1e-5)
    ring = np.linalg.norm(np.diff(frames.xyz[:, :8], axis=1), axis=-1)
    assert ring.max() < 1.0  # whole in every frame
