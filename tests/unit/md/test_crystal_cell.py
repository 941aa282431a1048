"""A CRYST1 record is a crystal's cell or a periodic box: which of them, the settings say."""

from dataclasses import replace

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory


@pytest.fixture
def system(tmp_path):
    """Chignolin with a crystal's cell."""
    system = config.load("cln025").system
    start = tmp_path / "start.pdb"
    cell = "CRYST1   46.599   46.599   46.599  90.00  90.00  90.00 P 1           1\n"
    start.write_text(
        cell
        + "".join(line for line in system.start.read_text().splitlines(keepends=True) if not line.startswith("CRYST1"))
    )
    return replace(system, start=start)


def test_under_implicit_solvent_it_is_asked_about(system):
    said = (
        r"start\.pdb \(4\.66 x 4\.66 x 4\.66 nm\) does not go with the implicit solvent of .*: set solvent to implicit"
    )
    with pytest.raises(InputError, match=said):
        load_structures(system)


@pytest.mark.parametrize("solvent", ["implicit", "vacuum"])
def test_it_is_left_out_where_the_settings_say_so(system, tmp_path, solvent):
    structures = load_structures(replace(system, solvent=solvent))
    assert structures.topology.getPeriodicBoxVectors() is None
    settings = config.load("cln025").simulation
    with Trajectory(tmp_path, 0, structures, settings) as trajectory:
        trajectory.append(structures.positions_nm, 0.0, 0, 1.0, 2.0, box=np.zeros((3, 3)))
    assert trajectory.path.stat().st_size > 166 * 12


def test_without_implicit_solvent_it_is_asked_about(system):
    with pytest.raises(InputError, match=r"start\.pdb \(4\.66 x .* nm\) may be a crystal's unit cell: set solvent"):
        load_structures(replace(system, force_field=["amber99sbildn.xml"]))


def test_with_explicit_solvent_it_is_the_box(system):
    structures = load_structures(replace(system, solvent="explicit"))
    np.testing.assert_allclose(np.diag(structures.box_nm), 4.6599, atol=1e-4)
