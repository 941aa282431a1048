"""Most PDB files carry a crystal's cell (CRYST1): it is no periodic box."""

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory


def test_a_start_with_a_crystal_cell_gives_a_trajectory_without_a_box(tmp_path):
    system = config.load("cln025").system
    start = tmp_path / "start.pdb"
    cell = "CRYST1   46.599   46.599   46.599  90.00  90.00  90.00 P 1           1\n"
    start.write_text(cell + "".join(
        line for line in system.start.read_text().splitlines(keepends=True) if not line.startswith("CRYST1")))
    structures = load_structures(system.model_copy(update={"start": start}))
    assert structures.topology.getPeriodicBoxVectors() is None
    settings = config.load("cln025").simulation
    with Trajectory(tmp_path, 0, structures.topology, settings) as trajectory:
        trajectory.append(structures.positions_nm, 0.0, 0, 1.0, 2.0, box=np.zeros((3, 3)))
    assert trajectory.path.stat().st_size > 166 * 12
