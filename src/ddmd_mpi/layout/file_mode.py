"""The layout of file mode, where roles are stages: every rank simulates, and the first ones also train and infer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from ..errors import LayoutError
from .plan import gpu_warnings, resolve_walkers, share_gpus
from .plan import plan as plan_stream_mode
from .roles import ROLES, Layout

if TYPE_CHECKING:
    from ..config.schema import RanksSection


@dataclass(frozen=True)
class StageLayout(Layout):
    """Who takes part in which stage: all in the simulations, the first `n_training` in training.

    The first rank infers and keeps the books, as the first aggregator does in stream mode. ``roles`` says what a rank
    is for the rest of the time: a simulation.
    """

    n_training: int = 1
    staged: ClassVar[bool] = True

    @cached_property
    def _ranks(self) -> dict[str, tuple[int, ...]]:
        everyone = tuple(range(len(self.roles)))
        return dict(zip(ROLES, (everyone, everyone[:1], everyone[: self.n_training], everyone[:1]), strict=True))

    def role_class(self, rank: int) -> str:  # noqa: ARG002 - all do the same
        """What a rank runs, as ``module:Class``: iterations, all stages in turn."""
        return "file_mode.loop:Iteration"

    @property
    def status_slots(self) -> tuple[str, ...]:
        """The role that each status record is about: one for every rank in every stage that it takes part in."""
        return tuple(role for role in ROLES for _ in self.ranks(role))

    def slot(self, rank: int, role: str) -> int:
        """Index of a rank's status record in its role."""
        return self.status_slots.index(role) + rank


def plan(
    nodes: Sequence[int],
    gpus_per_node: Sequence[int],
    ranks: RanksSection,
    walkers_per_rank: int | Literal["auto"],
    n_walkers: int | None = None,
) -> StageLayout:
    """As :func:`.roles.plan`, for file mode; one rank is enough.

    Raises
    ------
    LayoutError
        More ranks are to train than there are.
    """
    n_ranks = len(nodes)
    n_training = 1 if ranks.training == "auto" else ranks.training
    if n_training > n_ranks:
        raise LayoutError(
            f"ranks.training = {n_training}, but {n_ranks} were started: start {n_training} or ask for fewer"
        )
    roles = ("simulation",) * n_ranks
    gpu = share_gpus(nodes, gpus_per_node, roles)
    return StageLayout(
        nodes=tuple(nodes),
        gpus_per_node=tuple(gpus_per_node),
        roles=roles,
        gpu=tuple(gpu),
        aggregator_of=dict.fromkeys(range(n_ranks), 0),
        n_walkers=resolve_walkers(n_ranks, walkers_per_rank, n_walkers),
        warnings=(*gpu_warnings(nodes, gpus_per_node, roles, gpu), *_unused(ranks, n_ranks)),
        n_training=n_training,
    )


def _unused(ranks: RanksSection, n_ranks: int) -> Iterator[str]:
    """Settings that mean nothing in file mode."""
    if ranks.simulation not in ("auto", n_ranks):
        yield f"ranks.simulation = {ranks.simulation} is not used in file mode: all {n_ranks} ranks simulate"
    if ranks.aggregation not in ("auto", 1):
        yield f"ranks.aggregation = {ranks.aggregation} is not used in file mode: the first rank aggregates"


#: How each mode gives its ranks their roles.
PLANS = {"stream": plan_stream_mode, "file": plan}
