"""The roles, and the layout of a job: the role, GPU, aggregator and walkers of each rank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

ROLES = ("simulation", "aggregation", "training", "inference")


@dataclass(frozen=True)
class Layout:
    """The role, GPU and aggregator of every rank, and the walkers of every simulation rank.

    Parameters
    ----------
    nodes
        Node index of each rank.
    gpus_per_node
        GPUs of each node.
    roles
        Role of each rank, one of :data:`ROLES`.
    gpu
        GPU of each rank, an index on its node; None for none.
    aggregator_of
        Simulation rank -> rank of its aggregator.
    n_walkers
        Walkers of the entire ensemble, at least one for each simulation rank.
    warnings
        Sentences about what is possible but hardly wanted.
    """

    nodes: tuple[int, ...]
    gpus_per_node: tuple[int, ...]
    roles: tuple[str, ...]
    gpu: tuple[int | None, ...]
    aggregator_of: dict[int, int]
    n_walkers: int
    warnings: tuple[str, ...] = ()

    #: Whether the roles are stages that the ranks play in turn.
    staged: ClassVar[bool] = False

    @cached_property
    def _ranks(self) -> dict[str, tuple[int, ...]]:
        return {role: tuple(r for r, of in enumerate(self.roles) if of == role) for role in ROLES}

    @cached_property
    def _index(self) -> dict[int, int]:
        return {rank: index for ranks in self._ranks.values() for index, rank in enumerate(ranks)}

    @cached_property
    def _simulations_of(self) -> dict[int, tuple[int, ...]]:
        members: dict[int, list[int]] = {a: [] for a in self.ranks("aggregation")}
        for simulation in self.ranks("simulation"):
            members[self.aggregator_of[simulation]].append(simulation)
        return {a: tuple(simulations) for a, simulations in members.items()}

    def ranks(self, role: str) -> tuple[int, ...]:
        """Ranks of a role, ascending."""
        return self._ranks[role]

    def role_class(self, rank: int) -> str:
        """What a rank runs, as ``module:Class``: the loop of its role."""
        return f"roles.{self.roles[rank]}:{self.roles[rank].capitalize()}"

    @property
    def status_slots(self) -> tuple[str, ...]:
        """The role that each status record of the run is about: one record per rank."""
        return self.roles

    def slot(self, rank: int, role: str) -> int:  # noqa: ARG002 - a rank has one role
        """Index of a rank's status record in its role."""
        return rank

    @property
    def walkers_per_rank(self) -> int:
        """Walkers that a simulation rank advances in turn, at most: shares differ by one walker."""
        return -(-self.n_walkers // len(self.ranks("simulation")))

    def walkers(self, rank: int) -> range:
        """Walkers that simulation rank `rank` advances."""
        i, n_ranks = self._index[rank], len(self.ranks("simulation"))
        return range(i * self.n_walkers // n_ranks, (i + 1) * self.n_walkers // n_ranks)

    def simulation_rank_of(self, walker: int) -> int:
        """Rank that advances `walker`."""
        simulations = self.ranks("simulation")
        return simulations[((walker + 1) * len(simulations) - 1) // self.n_walkers]

    def aggregator_index(self, rank: int) -> int:
        """Index of aggregation rank `rank` among the aggregators."""
        return self._index[rank]

    def simulations_of(self, rank: int) -> tuple[int, ...]:
        """Simulation ranks that report to aggregation rank `rank`."""
        return self._simulations_of[rank]

    def walkers_of(self, rank: int) -> tuple[int, ...]:
        """Walkers that report to aggregation rank `rank`, ascending."""
        return tuple(w for simulation in self.simulations_of(rank) for w in self.walkers(simulation))

    @property
    def hosts(self) -> tuple[int, ...]:
        """Aggregation rank of each walker: the host of its mailbox."""
        return tuple(self.aggregator_of[self.simulation_rank_of(w)] for w in range(self.n_walkers))
