"""Which streams a layout needs: pure arithmetic that every rank does for itself and gets the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Placed(Protocol):
    """What the wiring asks of a layout."""

    aggregator_of: dict[int, int]

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
KINDS = (SIMULATION, TO_TRAINING, TO_INFERENCE, WEIGHTS)


def links(layout: Placed) -> tuple[Link, ...]:
    """Every stream of the run, in the order in which both ends open them."""
    aggregators = layout.ranks("aggregation")
    trainers, judge = layout.ranks("training"), layout.ranks("inference")[0]
    ends = [(SIMULATION, s, layout.aggregator_of[s], layout.aggregator_of[s]) for s in layout.ranks("simulation")]
    ends += [(TO_TRAINING, a, t, a) for a, t in shares(aggregators, trainers)]
    ends += [(TO_INFERENCE, a, judge, a) for a in aggregators]
    ends += [(WEIGHTS, trainers[0], judge, aggregators[0])]
    return tuple(Link(i, f"{kind}-{writer:04d}", kind, writer, reader, host)
                 for i, (kind, writer, reader, host) in enumerate(ends))


def shares(aggregators: tuple[int, ...], trainers: tuple[int, ...]) -> list[tuple[int, int]]:
    """(aggregator, trainer) of every stream of features to training, in even shares.

    A trainer reads several aggregators, or, where trainers are more, an aggregator deals its blocks to several.
    """
    n_a, n_t = len(aggregators), len(trainers)
    if n_a >= n_t:
        return [(a, trainers[i * n_t // n_a]) for i, a in enumerate(aggregators)]
    return [(aggregators[i * n_a // n_t], t) for i, t in enumerate(trainers)]
