"""What --dry-run says of windows."""

from dataclasses import replace

import numpy as np
import pytest

from ddmd_mpi.cli.plan import window_nbytes
from ddmd_mpi.config import load
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.features import FeatureCalculator


@pytest.mark.parametrize("name", ["bba-go", "spike"])
def test_windows_are_as_large_as_their_frames(name):
    config = load(name, assignments=("training.window_frames=20000", "steering.window_frames=30"))
    structures = load_structures(config.system)
    row = FeatureCalculator(structures.target_nm, config.features).compute(structures.positions_nm)
    own = sum(np.asarray(row[column]).nbytes for column in ("ca_positions", "contact_counts", "contact_columns"))
    found = window_nbytes(config, n_walkers=12)
    for role, n_frames in (("training", 20_000), ("inference", 30)):
        others = 250  # bytes a frame: ids, energies and padding
        assert own * n_frames < found[role] < (own + others) * n_frames
    if name == "spike":
        assert found["training"] < 1.5e9


def test_without_a_model_training_has_no_window():
    config = load("bba-go", assignments=("training.model=none", "steering.strategy=greedy"))
    assert window_nbytes(config, 12).keys() == {"inference"}


def test_many_complexes_are_checked_and_their_windows_stated():
    config = load("plc")
    assert window_nbytes(config, 8).keys() == {"training", "inference"}
    second = replace(config.system.complexes[1], ligand=config.system.complexes[1].ligand / "gone.pdb")
    rows = [config.system.complexes[0], second]
    broken = replace(config, system=replace(config.system, complexes=rows))
    with pytest.raises(InputError, match="phenol .row 2 of system.complexes.*does not exist"):
        window_nbytes(broken, 8)
