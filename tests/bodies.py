"""Bodies of walkers for tests: engines are given, nothing is simulated."""

from types import SimpleNamespace

import numpy as np


class Bodies:
    """``make(topology)`` gives the engine of a body; `features` are those of all.

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
