"""What of a walker depends on its topology, kept when the walker changes to another one; the seeds of all engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..config.schema import Config
from ..errors import EngineError, InputError
from ..structure.features import FeatureCalculator, FeatureTable
from .engines import Engine
from .prepared import Prepared, chosen_start

if TYPE_CHECKING:
    from .topologies import Topology


import numpy as np

#: Memory of an OpenMM context: of the library, and per particle on the CPU platform (with its neighbour lists and PME).
CONTEXT_BYTES, PARTICLE_BYTES = 4_000_000, 2_500


class EngineSlot(NamedTuple):
    """A topology and one engine for it."""

    topology: Topology | Prepared
    engine: Engine
    features: FeatureCalculator

    @property
    def nbytes(self) -> int:
        """About what it takes of memory."""
        return CONTEXT_BYTES + PARTICLE_BYTES * self.topology.n_atoms


class EnginePool:
    """The bodies of a rank's walkers.

    A walker takes the body of another topology and puts back the one that it leaves. What nobody uses is kept for the
    next that comes, up to a budget, so that changing to a known topology does not make a context again.

    Parameters
    ----------
    config
        ``run.seed``, ``features``, and ``simulation.contexts_mb``: the budget for bodies that no walker uses.
    load
        Gives a topology by its index.
    make
        Makes an engine for a topology from a seed.
    session
        Starts of the program before this one, of a resumed run.
    n_walkers
        Of the run: they use its starts, if it has several, in turn.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[int], Topology | Prepared],
        make: Callable[[Topology | Prepared, int], Engine],
        session: int = 0,
        n_walkers: int = 0,
    ):
        self._config, self._load, self._make, self._session = config, load, make, session
        self._n_walkers = n_walkers
        self._at_start: dict[int, Prepared] = {}
        self._budget = config.simulation.contexts_mb * 1e6
        self._known: dict[int, tuple[Topology | Prepared, FeatureCalculator]] = {}
        self._idle: list[EngineSlot] = []  # the last one put back comes last
        self._users: Counter[int] = Counter()
        self._made: Counter[int] = Counter()

    def take(self, index: int, walker: int) -> EngineSlot:
        """A body of a topology for a walker.

        Raises
        ------
        EngineError
            If there is none and none can be created.
        """
        at = next((i for i, b in enumerate(self._idle) if b.topology.index == index), None)
        body = self._new(index, walker) if at is None else self._idle.pop(at)
        self._users[index] += 1
        return body

    def put(self, body: EngineSlot) -> None:
        """Return a body to the pool; the ones unused longest are evicted when all together are too large."""
        self._users[body.topology.index] -= 1
        self._idle.append(body)
        while self._idle and sum(b.nbytes for b in self._idle) > self._budget:
            self._drop()

    def topology(self, index: int) -> Topology | Prepared:
        """A topology.

        Raises
        ------
        EngineError
            If it cannot be loaded.
        """
        return self._topology(index)[0]

    def free(self) -> None:
        """Release every unused body."""
        while self._idle:
            self._drop()

    def _topology(self, index: int) -> tuple[Topology | Prepared, FeatureCalculator]:
        if index not in self._known:
            try:
                topology = self._load(index)
            except InputError as error:
                raise EngineError(str(error)) from error
            structures = topology.structures
            kind = FeatureTable if self._config.simulation.engine == "markov" else FeatureCalculator
            features = kind(structures.target_nm, self._config.features, structures.molecules, topology.pose)
            self._known[index] = topology, features
        return self._known[index]

    def _new(self, index: int, walker: int) -> EngineSlot:
        topology, features = self._topology(index)
        started = self._started(topology, walker)
        seed = engine_seed(self._config.run.seed, walker, self._session, self._made[walker])
        self._made[walker] += 1
        try:
            engine = self._make(started, seed)
        except EngineError:
            if not self._idle:
                raise
            self.free()  # memory may be what is missing
            engine = self._make(started, seed)
        return EngineSlot(topology, engine, features)

    def _started(self, topology: Topology | Prepared, walker: int) -> Topology | Prepared:
        """The topology with the start of a walker, if a run has several."""
        if not isinstance(topology, Prepared) or topology.structures.starts is None:
            return topology
        number = chosen_start(walker, max(self._n_walkers, walker + 1), len(topology.structures.starts[0]))
        if number not in self._at_start:
            self._at_start[number] = topology.at_start(number)
        return self._at_start[number]

    def _drop(self) -> None:
        body = self._idle.pop(0)
        body.engine.free()
        index = body.topology.index
        if not self._users[index] and not any(b.topology.index == index for b in self._idle):
            del self._known[index]


def segment_seed(run_seed: int, walker: int, segment: int) -> int:
    """Seed in [1, 2^31): independent per (run, walker, segment), and never 0, which OpenMM takes for "any seed"."""
    word = np.random.SeedSequence(run_seed, spawn_key=(walker, segment)).generate_state(1)[0]
    return int(word) % (2**31 - 1) + 1


def engine_seed(run_seed: int, walker: int, session: int = 0, further: int = 0) -> int:
    """Seed in [1, 2^31) of a walker's thermostat, independent of its segments' seeds, another in each session.

    Parameters
    ----------
    further
        How many engines the session has made for the walker before this one.
    """
    key = (walker,) if not session and not further else (walker, 0, session, further)[: 4 if further else 3]
    word = np.random.SeedSequence(run_seed, spawn_key=key).generate_state(1)[0]
    return int(word) % (2**31 - 1) + 1
