"""What a layout costs, before it runs: a few lines compared with small runs (``benchmarks/scale.py``).

How the figures were found, and what they say of large machines, is in ``docs/scaling.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .links import homes
from .roles import Layout

#: Seconds to the first report: of any start, of each rank that shares a core, and of each pair of them.
START_S, START_PER_RANK_S, START_PER_PAIR_S = 2.0, 0.053, 0.0080
#: Bundles of status records that an aggregator sends up, a second (``tree.BUNDLE_SECONDS``).
BUNDLES_PER_S = 4.0
#: Messages from other nodes to the first aggregator, a second, whatever their number: credits of its streams.
OWN_PER_S = 5.0
#: Streams from which the limit of open files, often 1024, and that of select() matter: each needs two files.
MANY_STREAMS, FILES_PER_STREAM = 400, 2
#: Streams that one rank can read with a core of its own, at ten blocks a second each.
MAX_STREAMS = 150
STREAM_BLOCKS_PER_S = 10.0


class Prediction(NamedTuple):
    """What a run would be like.

    Parameters
    ----------
    start_s
        From the launch to the first report of a walker, s.
    messages_to_leader
        Messages of the control plane that reach the first aggregator, a second.
    inference_streams
        Streams that the inference rank reads.
    inference_load
        Share of a core that inference needs to read them, if each aggregator sends a block whenever it may.
    """

    start_s: float
    messages_to_leader: float
    inference_streams: int
    inference_load: float


def predict(layout: Layout, *, ranks_per_core: float = 1.0, block_delay: float = 1.0) -> Prediction:
    """What a layout would be like.

    Parameters
    ----------
    ranks_per_core
        Ranks that share a core.
    block_delay
        Seconds between two blocks of an aggregator, at least.
    """
    home, aggregators = homes(layout), layout.ranks("aggregation")
    leader = aggregators[0]
    far = [rank for rank, h in enumerate(home) if rank != h and layout.nodes[rank] != layout.nodes[leader]]
    relays = {home[rank] for rank in far if home[rank] != leader}
    alone = [rank for rank in far if home[rank] == leader]  # on nodes without an aggregator
    return Prediction(
        START_S + START_PER_RANK_S * ranks_per_core + START_PER_PAIR_S * ranks_per_core**2,
        (BUNDLES_PER_S * len(relays) + len(alone) + OWN_PER_S) if far else 0.0,
        len(aggregators),
        len(aggregators) / max(block_delay, 1 / STREAM_BLOCKS_PER_S) / (MAX_STREAMS * STREAM_BLOCKS_PER_S),
    )


def remarks(layout: Layout, predicted: Prediction) -> Iterator[str]:
    """What of it is hardly wanted."""
    lonely = Counter(layout.nodes[s] for s, a in layout.aggregator_of.items() if layout.nodes[s] != layout.nodes[a])
    if lonely:
        yield (
            f"{sum(lonely.values())} simulation ranks on {len(lonely)} nodes without an aggregator would send their "
            "records, orders and frames by MPI messages, not through shared memory: start 2 or more ranks a node"
        )
    if predicted.inference_streams > MANY_STREAMS:
        files = FILES_PER_STREAM * predicted.inference_streams
        yield (
            f"inference and training would hold {files} files open for their streams: raise the limit (ulimit -n) "
            "above that, and set streams.parameters.ControlModule to epoll (docs/cluster.md)"
        )
    if predicted.inference_load > 1:
        yield (
            f"inference would read {predicted.inference_streams} streams, {predicted.inference_load:.1f} times what "
            "a rank can: set streams.block_delay higher, or ranks.aggregation lower"
        )
