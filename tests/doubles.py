"""What stands in for parts of a run in tests: nothing is simulated, sent or watched."""

from types import SimpleNamespace

import numpy as np

from ddmd_mpi.errors import EngineError
from ddmd_mpi.model import Ranks

#: Of a system without one.
BOX = np.zeros((3, 3), np.float32)


class NullDetector:
    """For a role that nobody watches: nobody is ever lost."""

    lost: frozenset[int] = frozenset()
    lost_walkers: tuple[int, ...] = ()

    def check(self, within, on_disk=False):
        """Nothing is looked for."""

    def poll(self):
        """Nothing is looked for."""


class CountingEngine:
    """Counts steps as positions of two atoms; fails whenever `broken` is set."""

    def __init__(self):
        self.x, self.broken, self.calls = 0.0, False, []

    def start(self, seed, stop=None):
        self.x = 0.0
        self.calls.append(("start", seed))

    def set_state(self, positions, velocities=None, box=None, seed=1):
        self.x = float(positions[0, 0])
        self.calls.append(("set_state", self.x, velocities is not None, seed))

    def advance(self, n_steps):
        if self.broken:
            raise EngineError("NaN")
        self.x += n_steps

    def state(self):
        return SimpleNamespace(
            positions=np.full((2, 3), self.x, np.float32),
            velocities=np.ones((2, 3), np.float32),
            box=BOX,
            potential_energy=-1.0,
        )

    def snapshot(self):
        if self.broken:
            raise EngineError("NaN")
        return {"positions": np.full((2, 3), self.x)}

    def restore(self, snapshot, seed):
        self.x = float(snapshot["positions"][0, 0])

    def free(self):
        pass


class EnginePool:
    """A pool whose engines are given: ``make(topology)`` gives the engine of a body; `features` are those of all.

    Every topology has the descriptor atoms 0 and 1.
    """

    def __init__(self, make, features):
        self.make, self.features, self.log = make, features, []
        self.idle = {}

    def take(self, index, walker):
        self.log.append(("take", index, walker))
        if self.idle.get(index):
            return self.idle[index].pop()
        structures = SimpleNamespace(descriptor=np.arange(2), topology=f"topology {index}")
        topology = SimpleNamespace(index=index, name=f"ligand-{index}", structures=structures)
        return SimpleNamespace(topology=topology, engine=self.make(index), features=self.features)

    def put(self, body):
        self.log.append(("put", body.topology.index))
        self.idle.setdefault(body.topology.index, []).append(body)


class Twins(Ranks):
    """The sums of two ranks that have the same values."""

    def total(self, values):
        return 2 * values
