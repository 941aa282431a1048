"""Which streams a layout needs: pure arithmetic that every rank does for itself and gets the same answer."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol


class Placed(Protocol):
    """What the wiring asks of a layout."""

    @property
    def nodes(self) -> tuple[int, ...]: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def aggregator_of(self) -> dict[int, int]: ...

    def ranks(self, role: str) -> tuple[int, ...]:
        """Ranks of a role, ascending."""


@dataclass(frozen=True)
class Link:
    """One stream: one producer, one consumer, and the rank whose window memory counts what was consumed."""

    index: int
    name: str
    kind: str
    writer: int
    reader: int
    host: int


SIMULATION, TO_TRAINING, TO_INFERENCE, WEIGHTS = (
    "SimulationOutput",
    "AggregatorToTraining",
    "AggregatorToInference",
    "TrainingToInference",
)
#: The kinds of streams, in the order of the flow.
STREAM_KINDS = (SIMULATION, TO_TRAINING, TO_INFERENCE, WEIGHTS)


def links(layout: Placed) -> tuple[Link, ...]:
    """Every stream of the run, in the order in which both ends open them."""
    aggregators = layout.ranks("aggregation")
    trainers, judge = layout.ranks("training"), layout.ranks("inference")[0]
    ends = [(SIMULATION, s, layout.aggregator_of[s], layout.aggregator_of[s]) for s in layout.ranks("simulation")]
    ends += [(TO_TRAINING, a, t, a) for a, t in shares(aggregators, trainers)]
    ends += [(TO_INFERENCE, a, judge, a) for a in aggregators]
    ends += [(WEIGHTS, trainers[0], judge, aggregators[0])]
    return tuple(
        Link(i, f"{kind}-{writer:04d}", kind, writer, reader, host)
        for i, (kind, writer, reader, host) in enumerate(ends)
    )


def homes(layout: Placed) -> tuple[int, ...]:
    """The rank to which each rank speaks in the control plane.

    It is the leader, which is the first aggregator, or another aggregator, which relays. An aggregator is its own home.

    The ranks on the leader's node, whose memory they share, speak to the leader; others to an aggregator of their node,
    a simulation to its own one; ranks on a node without an aggregator send messages to their aggregator or the leader.
    """
    aggregators = layout.ranks("aggregation")
    leader, found, on_node = aggregators[0], [], defaultdict(list)
    for aggregator in aggregators:
        on_node[layout.nodes[aggregator]].append(aggregator)
    for rank, node in enumerate(layout.nodes):
        own = layout.aggregator_of.get(rank, leader)
        near = on_node[node]
        if layout.roles[rank] == "aggregation":
            found.append(rank)
        elif leader in near:
            found.append(leader)
        else:
            far = leader if layout.nodes[own] == layout.nodes[leader] else own  # the leader's node is served by itself
            found.append(own if own in near else near[0] if near else far)
    return tuple(found)


def shares(aggregators: tuple[int, ...], trainers: tuple[int, ...]) -> list[tuple[int, int]]:
    """(aggregator, trainer) of every stream of features to training, in even shares.

    A trainer reads several aggregators, or, where trainers are more, an aggregator deals its blocks to several.
    """
    n_a, n_t = len(aggregators), len(trainers)
    if n_a >= n_t:
        return [(a, trainers[i * n_t // n_a]) for i, a in enumerate(aggregators)]
    return [(aggregators[i * n_a // n_t], t) for i, t in enumerate(trainers)]
