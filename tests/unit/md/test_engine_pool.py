"""EnginePool are kept up to a budget: going back to a topology makes no engine again."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.errors import EngineError, InputError
from ddmd_mpi.md.engine_pool import CONTEXT_BYTES, PARTICLE_BYTES, EnginePool

N_ATOMS = 1000
MB_OF_ONE = (CONTEXT_BYTES + PARTICLE_BYTES * N_ATOMS) / 1e6


class Engine:
    def __init__(self, topology, seed):
        self.topology, self.seed, self.freed = topology.index, seed, False

    def free(self):
        self.freed = True


class World:
    """Counts what is loaded and made; `missing` topologies cannot be loaded, and `room` engines can be made."""

    def __init__(self, budget_mb, missing=(), room=100):
        self.loaded, self.made, self.missing, self.room = [], [], missing, room
        settings = config.load("cln025", assignments=(f"simulation.contexts_mb={budget_mb}",))
        self.bodies = EnginePool(settings, self.load, self.make)

    def load(self, index):
        if index in self.missing:
            raise InputError(f"there is no topology {index}")
        self.loaded.append(index)
        structures = SimpleNamespace(target_nm=np.eye(10, 3), molecules=None)
        return SimpleNamespace(index=index, n_atoms=N_ATOMS, structures=structures, pose=None)

    def make(self, topology, seed):
        if sum(not engine.freed for engine in self.made) >= self.room:
            raise EngineError("out of memory")
        self.made.append(Engine(topology, seed))
        return self.made[-1]


def test_going_back_makes_nothing_again():
    world = World(10 * MB_OF_ONE)
    first = world.bodies.take(0, 5)
    second = world.bodies.take(1, 5)
    world.bodies.put(first)
    assert world.bodies.take(0, 6).engine is first.engine
    world.bodies.put(second)
    assert (world.loaded, len(world.made)) == ([0, 1], 2)


def test_two_walkers_of_a_topology_share_what_is_loaded_and_no_engine():
    world = World(10 * MB_OF_ONE)
    first, second = world.bodies.take(0, 1), world.bodies.take(0, 2)
    assert first.topology is second.topology
    assert first.engine is not second.engine
    assert len({engine.seed for engine in world.made}) == 2
    assert world.loaded == [0]


def test_a_walker_never_gets_the_seed_of_an_earlier_engine():
    world = World(0.001)
    for index in (0, 1, 0, 1, 0):
        world.bodies.put(world.bodies.take(index, 3))
    assert len({engine.seed for engine in world.made}) == 5


def test_beyond_the_budget_the_longest_unused_goes_with_its_topology():
    world = World(2.5 * MB_OF_ONE)
    taken = [world.bodies.take(index, 0) for index in (0, 1, 2)]
    for body in taken:
        world.bodies.put(body)
    assert [engine.freed for engine in world.made] == [True, False, False]
    world.bodies.take(2, 0)
    world.bodies.take(0, 0)
    assert world.loaded == [0, 1, 2, 0]


def test_unused_engines_make_room_when_memory_is_short():
    world = World(10 * MB_OF_ONE, room=2)
    world.bodies.take(0, 0)
    world.bodies.put(world.bodies.take(1, 0))
    assert world.bodies.take(2, 0).topology.index == 2
    with pytest.raises(EngineError, match="out of memory"):
        world.bodies.take(3, 0)


def test_what_cannot_be_loaded_is_an_error_of_the_engine():
    with pytest.raises(EngineError, match="no topology 7"):
        World(1, missing=(7,)).bodies.take(7, 0)


def test_freeing_lets_the_unused_go():
    world = World(10 * MB_OF_ONE)
    world.bodies.put(world.bodies.take(0, 0))
    world.bodies.free()
    assert world.made[0].freed
