"""Plans a job, that is, which rank does what: pure arithmetic, the same on every rank and for ``--dry-run``.

The rule, in this order:

1. Inference takes the last rank of the job, training the last one left on a node with GPUs (of any node if none has).
2. Each node with two or more ranks left gets at least one aggregator, and as many more as keep
   ``simulations_per_aggregator``. Aggregators are the node's last ranks of those; all others simulate.
3. A simulation reports to an aggregator of its own node, in even shares; where its node has none (one rank left on the
   node, or too few aggregators asked for) to the nearest one with room.
4. On each node GPUs go round-robin to its simulations, then to training, and one left over to inference. Aggregators
   need none.

So 4 ranks on one node are simulation, aggregation, training, inference.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal

from ..errors import LayoutError
from .roles import ROLES, Layout

if TYPE_CHECKING:
    from ..config.schema import RanksSection
MIN_RANKS = len(ROLES)

#: An ensemble of fewer walkers than this cannot be steered: each simulation rank then advances this many in turn.
FEW_SIMULATIONS = 4


def plan(
    nodes: Sequence[int],
    gpus_per_node: Sequence[int],
    ranks: RanksSection,
    walkers_per_rank: int | Literal["auto"],
    n_walkers: int | None = None,
) -> Layout:
    """Give every rank its role (the rule is this module's).

    Parameters
    ----------
    nodes
        Node index of each rank; nodes are counted from 0.
    gpus_per_node
        GPUs of each node.
    ranks
        Counts of the roles, each fixed or "auto".
    walkers_per_rank
        Walkers per simulation rank; "auto": 4 when fewer than 4 ranks simulate, else 1.
    n_walkers
        Walkers of the entire ensemble where it is there already; `walkers_per_rank` then says nothing.

    Raises
    ------
    LayoutError
        The ranks are too few, or too many for the walkers that there are, or the fixed counts do not add up to them.
    """
    n_aggregation, n_training, n_inference = _counts(len(nodes), ranks)
    free: list[list[int]] = [[] for _ in gpus_per_node]
    for rank, node in enumerate(nodes):
        free[node].append(rank)

    roles = ["simulation"] * len(nodes)
    for _ in range(n_inference):
        roles[_take_last(free, [True] * len(free))] = "inference"
    for _ in range(n_training):
        roles[_take_last(free, [g > 0 for g in gpus_per_node])] = "training"

    left = [len(on_node) for on_node in free]
    if n_aggregation is None:
        n_aggregation = _aggregators_needed(left, ranks.simulations_per_aggregator)
    placed = _place_aggregators(left, n_aggregation)
    aggregators = [on_node[len(on_node) - n :] for on_node, n in zip(free, placed, strict=True)]
    simulations = [on_node[: len(on_node) - n] for on_node, n in zip(free, placed, strict=True)]
    for rank in chain.from_iterable(aggregators):
        roles[rank] = "aggregation"

    aggregator_of = _assign(simulations, aggregators)
    gpu = share_gpus(nodes, gpus_per_node, roles)
    return Layout(
        nodes=tuple(nodes),
        gpus_per_node=tuple(gpus_per_node),
        roles=tuple(roles),
        gpu=tuple(gpu),
        aggregator_of=aggregator_of,
        n_walkers=resolve_walkers(sum(left) - n_aggregation, walkers_per_rank, n_walkers),
        warnings=tuple(_warnings(nodes, gpus_per_node, roles, gpu, aggregator_of, ranks)),
    )


def _counts(n_ranks: int, ranks: RanksSection) -> tuple[int | None, int, int]:
    """Ranks for aggregation, training and inference; None for aggregators if simulations are automatic, too."""
    if n_ranks < MIN_RANKS:
        raise LayoutError(
            f"{_count(n_ranks, 'rank')} {'is' if n_ranks == 1 else 'are'} too few: each of the four roles needs one, "
            f"so start at least {MIN_RANKS} ranks, for example mpiexec -n {MIN_RANKS}, or use --mode file"
        )
    training = 1 if ranks.training == "auto" else ranks.training
    inference = 1 if ranks.inference == "auto" else ranks.inference
    left = n_ranks - training - inference
    fixed = {r: n for r in ROLES if (n := getattr(ranks, r)) != "auto"}
    asked = " + ".join(f"{n} {role}" for role, n in fixed.items())
    if ranks.aggregation != "auto":
        aggregation = ranks.aggregation
        simulation = left - aggregation if ranks.simulation == "auto" else ranks.simulation
    elif ranks.simulation != "auto":
        simulation = ranks.simulation
        aggregation = left - simulation
    else:
        if left < 2:
            raise LayoutError(
                f"[ranks] asks for {asked} of {n_ranks} ranks, which leaves {max(left, 0)} for simulation and "
                f"aggregation: start at least {n_ranks + 2 - left} ranks or ask for fewer"
            )
        return None, training, inference
    total = simulation + aggregation + training + inference
    if total != n_ranks or simulation < 1 or aggregation < 1:
        needed = max(simulation, 1) + max(aggregation, 1) + training + inference
        raise LayoutError(
            f"[ranks] asks for {asked} and at least one rank for each other role, which needs {needed} ranks, "
            f'but {n_ranks} were started: start {needed} or set a count of [ranks] to "auto"'
        )
    if aggregation > simulation:
        raise LayoutError(
            f"[ranks] leaves {_count(aggregation, 'aggregator')} for {_count(simulation, 'simulation')}, and an "
            f"aggregator without simulations has no work: ask for more simulation ranks or fewer aggregation ranks"
        )
    return aggregation, training, inference


def _take_last(free: list[list[int]], preferred: list[bool]) -> int:
    """Remove and return the highest free rank, of a preferred node if one has any."""
    ranked = [(preferred[node], on_node[-1], node) for node, on_node in enumerate(free) if on_node]
    return free[max(ranked)[2]].pop()


def _aggregators_needed(left: Sequence[int], per_aggregator: int) -> int:
    """Aggregators so that every node with two or more ranks left has one and none serves too many simulations.

    An aggregator and its simulations are a group of at most ``per_aggregator + 1`` ranks. No aggregator is without a
    simulation, even where that makes a group larger by one.
    """
    group = per_aggregator + 1
    shared = [n for n in left if n >= 2]
    alone = sum(n == 1 for n in left)
    local = sum(min(-(-n // group), n // 2) for n in shared)
    without_room = max(0, alone - max(0, local * group - sum(shared)))
    return local + min(-(-without_room // group), alone // 2)


def _place_aggregators(left: Sequence[int], count: int) -> list[int]:
    """Aggregators of each node, so that the most simulations per aggregator are as few as can be."""
    placed = [0] * len(left)
    able = [node for node, n in enumerate(left) if n >= 2] or [node for node, n in enumerate(left) if n]
    if count < len(able):
        for group in range(count):
            members = able[group * len(able) // count : (group + 1) * len(able) // count]
            middle = members[len(members) // 2]
            placed[min((-left[node], abs(node - middle), node) for node in members)[2]] = 1
        return placed

    # Serve the node with the most simulations per aggregator, one aggregator at a time. Last come the nodes where
    # one more would have fewer simulations than aggregators, or none.
    queue = [(-math.inf if n >= 2 else 0.0, node) for node, n in enumerate(left) if n]
    heapq.heapify(queue)
    for _ in range(count):
        _, node = heapq.heappop(queue)
        placed[node] += 1
        simulations = left[node] - placed[node]
        if simulations > 1:
            crowded = simulations - 1 < placed[node] + 1
            heapq.heappush(queue, (1.0 if crowded else -simulations / placed[node], node))
    return placed


def _assign(simulations: list[list[int]], aggregators: list[list[int]]) -> dict[int, int]:
    """Aggregator of every simulation rank: one of its node in even shares, else the nearest with room."""
    home = {a: node for node, on_node in enumerate(aggregators) for a in on_node}
    members: dict[int, list[int]] = {a: [] for a in home}
    for own, hosts in zip(simulations, aggregators, strict=True):
        for k, host in enumerate(hosts):
            members[host] += own[k * len(own) // len(hosts) : (k + 1) * len(own) // len(hosts)]

    even_share = -(-sum(map(len, simulations)) // len(home))
    for node, own in enumerate(simulations):
        for simulation in own if not aggregators[node] else ():
            with_room = [a for a in home if len(members[a]) < even_share]
            members[min(with_room, key=lambda a: (abs(home[a] - node), len(members[a]), a))].append(simulation)

    # An aggregator that is left without work takes a simulation of the nearest that has several.
    for idle in [a for a in home if not members[a]]:
        givers = [a for a in home if len(members[a]) > 1]
        members[idle].append(members[min(givers, key=lambda a: (abs(home[a] - home[idle]), a))].pop())
    return dict(sorted((s, a) for a, own in members.items() for s in own))


def share_gpus(nodes: Sequence[int], gpus_per_node: Sequence[int], roles: Sequence[str]) -> list[int | None]:
    """GPU of every rank: round-robin to simulations, then training; a free one to inference."""
    gpu: list[int | None] = [None] * len(nodes)
    used = [0] * len(gpus_per_node)
    for role in ("simulation", "training", "inference"):
        for rank, node in enumerate(nodes):
            n_gpus = gpus_per_node[node]
            if roles[rank] != role or not n_gpus or (role == "inference" and used[node] >= n_gpus):
                continue
            gpu[rank] = used[node] % n_gpus
            used[node] += 1
    return gpu


def resolve_walkers(n_simulation: int, walkers_per_rank: int | Literal["auto"], n_walkers: int | None = None) -> int:
    """Walkers of the entire ensemble: `n_walkers` if they are given, else those of each rank times the ranks.

    "auto" is 4 a rank when fewer than 4 ranks simulate, else 1.
    """
    if n_walkers is not None and n_walkers < n_simulation:
        raise LayoutError(
            f"{_count(n_walkers, 'walker')} cannot be shared by {n_simulation} simulation ranks: start "
            f"{n_simulation - n_walkers} fewer, or set ranks.simulation to {n_walkers} and more aggregation ranks"
        )
    if n_walkers is not None:
        return n_walkers
    if walkers_per_rank == "auto":
        walkers_per_rank = FEW_SIMULATIONS if n_simulation < FEW_SIMULATIONS else 1
    return n_simulation * walkers_per_rank


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def gpu_warnings(
    nodes: Sequence[int], gpus_per_node: Sequence[int], roles: Sequence[str], gpu: Sequence[int | None]
) -> Iterator[str]:
    """What is possible but hardly wanted of GPUs and simulations."""
    users = Counter((nodes[r], gpu[r]) for r, role in enumerate(roles) if gpu[r] is not None and role != "inference")
    used = len({(nodes[r], g) for r, g in enumerate(gpu) if g is not None})
    if used < sum(gpus_per_node):
        unused = sum(gpus_per_node) - used
        yield f"{unused} of {_count(sum(gpus_per_node), 'GPU')} would be unused: start more ranks per node"
    if users and max(users.values()) > 1:
        yield f"up to {max(users.values())} ranks share a GPU: start fewer ranks per node for one each"
    without = sum(role == "simulation" and gpu[r] is None for r, role in enumerate(roles))
    if any(gpus_per_node) and without:
        yield f"{_count(without, 'simulation rank')} would run without a GPU: some nodes have none"


def _warnings(
    nodes: Sequence[int],
    gpus_per_node: Sequence[int],
    roles: Sequence[str],
    gpu: Sequence[int | None],
    aggregator_of: dict[int, int],
    ranks: RanksSection,
) -> Iterator[str]:
    """What is possible but hardly wanted."""
    yield from gpu_warnings(nodes, gpus_per_node, roles, gpu)
    if any(gpus_per_node) and all(gpu[r] is None for r, role in enumerate(roles) if role == "inference"):
        yield "inference would run without a GPU: the simulations and training of its node take them all"
    yield from _training_warnings([(nodes[r], gpu[r]) for r, role in enumerate(roles) if role == "training"])
    remote = sum(nodes[s] != nodes[a] for s, a in aggregator_of.items())
    if remote:
        yield f"{_count(remote, 'simulation rank')} would report to an aggregator of another node"
    largest = max(Counter(aggregator_of.values()).values())
    if largest > ranks.simulations_per_aggregator:
        yield (
            f"an aggregator would serve {largest} simulation ranks, more than "
            f"simulations_per_aggregator = {ranks.simulations_per_aggregator}"
        )


def _training_warnings(places: Sequence[tuple[int, int | None]]) -> Iterator[str]:
    """What is hardly wanted of training ranks, by node and GPU: they all step at the pace of the slowest one."""
    used = Counter(place for place in places if place[1] is not None)
    without = len(places) - used.total()
    if used and without:
        yield f"{without} of {len(places)} training ranks would run without a GPU and hold the others up: ask for fewer"
    if used and max(used.values()) > 1:
        yield (
            f"up to {max(used.values())} of {len(places)} training ranks share a GPU, which Horovod over NCCL refuses: "
            f"set ranks.training to at most {len(used)}"
        )


def machine(
    n_ranks: int, n_nodes: int | None = None, ranks_per_node: int | None = None, gpus_per_node: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Node of each rank and GPUs of each node of a machine that fills its nodes one after the other.

    Raises
    ------
    LayoutError
        The ranks do not fit on the nodes.
    """
    if ranks_per_node is None:
        ranks_per_node = -(-n_ranks // (n_nodes or 1))
    needed = -(-n_ranks // ranks_per_node)
    if n_nodes is not None and needed != n_nodes:
        raise LayoutError(
            f"{n_ranks} ranks at {ranks_per_node} per node fill {_count(needed, 'node')}, but {n_nodes} were given: "
            f"leave one of the two numbers out"
        )
    return tuple(rank // ranks_per_node for rank in range(n_ranks)), (gpus_per_node,) * needed
