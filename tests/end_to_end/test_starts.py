"""Runs whose walkers start from structures of their own."""

import json

import numpy as np
import pytest

from ddmd_mpi import config as configuration
from ddmd_mpi.md.coordinates import write_pdb
from ddmd_mpi.md.emulated.recorded import DCDFrames
from ddmd_mpi.md.structures import load_structures

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

SETTINGS = (
    "steering.strategy=none",
    "training.model=none",
    "simulation.minimize=false",
    "simulation.walkers_per_rank=4",
)


def test_each_walker_starts_from_its_own_structure_also_when_the_run_is_resumed(ddmd_mpi, tmp_path):
    structures, starts, run = load_structures(configuration.load("bba-go").system), [], tmp_path / "run"
    (tmp_path / "starts").mkdir()
    for number in range(2):
        x = structures.positions_nm.copy()
        x[-1] += 0.05 * (number + 1)
        starts.append(x)
        write_pdb(structures.topology, x, tmp_path / "starts" / f"{number}.pdb")
    sets = (*SETTINGS, f"system.starts={tmp_path / 'starts'}", "simulation.walker_length_ns=0.04")
    done = ddmd_mpi(4, "--usecase", "bba-go", "--duration", "90s", "--output", run, sets=sets)
    assert done.returncode == 0, done.stdout + done.stderr
    for walker in range(4):
        first = DCDFrames(run / "trajectories" / f"sim-{walker:04d}.dcd")[0]
        assert first == pytest.approx(starts[walker % 2], abs=2e-3)
    later = ddmd_mpi(4, "--resume", run, "--duration", "90s", sets=("simulation.walker_length_ns=0.08",))
    assert later.returncode == 0, later.stdout + later.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["sessions"], summary["simulation"]["frames"]) == (2, 80)


def test_a_start_of_other_atoms_is_refused(ddmd_mpi, tmp_path):
    structures, path = load_structures(configuration.load("bba-go").system), tmp_path / "starts.pdb"
    write_pdb(structures.topology, structures.positions_nm, path)
    lines = path.read_text().splitlines()
    first_atom = next(i for i, line in enumerate(lines) if line.startswith(("ATOM", "HETATM")))
    path.write_text("\n".join(np.delete(lines, first_atom)) + "\n")
    run = tmp_path / "run"
    done = ddmd_mpi(
        4, "--usecase", "bba-go", "--duration", "30s", "--output", run, sets=(*SETTINGS, f"system.starts={path}")
    )
    assert done.returncode == 2
    assert "has 27 atoms and system.start has 28" in done.stdout + done.stderr
    assert not run.exists()
