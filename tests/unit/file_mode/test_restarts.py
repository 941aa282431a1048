"""Restart files: every walker finds its own command and the coordinates that it names, bit by bit."""

import h5py
import numpy as np
import pytest

from ddmd_mpi.errors import StreamError
from ddmd_mpi.file_mode.restarts import FORMER_DTYPE, Order, Restarts
from ddmd_mpi.frames.block import FIELD
from ddmd_mpi.frames.command import CommandKind, RestartCommand


def order(walker, n_atoms=5):
    generator = np.random.default_rng(walker)
    command = RestartCommand(
        CommandKind.RESTART,
        10 + walker,
        1.8e9 + 0.1234567 * walker,
        3,
        0,
        2,
        5,
        99,
        -1,
        4,
        6,
        -1 if walker else 2**31 - 2,
    )
    shapes = (n_atoms, 3), (n_atoms, 3), (3, 3)
    return Order(walker, command, tuple(generator.normal(size=s).astype(np.float32) for s in shapes))


def test_every_walker_finds_its_order(tmp_path):
    restarts, orders = Restarts(tmp_path, "test"), [order(w, n) for w, n in ((4, 5), (0, 3), (7, 6))]
    nbytes = restarts.write(2, orders)
    assert restarts.path(2) == tmp_path / "restarts" / "iteration-0002.h5"
    assert restarts.path(2).stat().st_size == nbytes
    found = restarts.read(2, [0, 1, 7])
    assert sorted(found) == [0, 7]
    for expected in (orders[1], orders[2]):
        assert found[expected.walker].command == expected.command
        for a, b in zip(found[expected.walker].coordinates, expected.coordinates, strict=True):
            assert a.tobytes() == b.tobytes()


def test_orders_of_before_walkers_had_their_name_are_read(tmp_path):
    restarts, written = Restarts(tmp_path, "test"), order(4)
    restarts.write(2, [written])
    with h5py.File(restarts.path(2), "r+") as file:
        former = file["orders"][:].view(FORMER_DTYPE)
        del file["orders"]
        file["orders"] = former
        assert "source_simulation" in file["orders"].dtype["command"].names
    assert restarts.read(2, [4])[4].command == written.command


def test_a_file_says_what_it_holds(tmp_path):
    restarts = Restarts(tmp_path, "test")
    restarts.write(2, [order(1)])
    with h5py.File(restarts.path(2)) as file:
        assert file["velocities"].attrs["unit"] == FIELD["velocities"].unit
        assert "sim-<source_walker>.h5" in file["orders"].attrs["meaning"]
        assert file["orders"]["walker"].tolist() == [1]


def test_another_file_is_refused(tmp_path):
    restarts = Restarts(tmp_path, "test")
    with pytest.raises(StreamError, match="is not there"):
        restarts.read(2, [0])
    restarts.write(3, [order(0)])
    restarts.path(3).rename(restarts.path(2))
    with pytest.raises(StreamError, match="its iteration is 3 and not 2"):
        restarts.read(2, [0])
    with pytest.raises(StreamError, match="its system is"):
        Restarts(tmp_path, "other").read(2, [0])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_refused(tmp_path, keep):
    restarts = Restarts(tmp_path, "test")
    restarts.write(3, [order(0)])
    path = restarts.path(3)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(StreamError, match=r"iteration-0003\.h5 cannot be read"):
        restarts.read(3, [0])
