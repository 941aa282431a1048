"""What one rank tells all others and all tell one: down and up a tree of the leader, the aggregators and the ranks.

The *leader* is the first aggregator. Every rank has a *home*: the leader for the ranks of its node, an aggregator for
the others (:func:`ddmd_mpi.layout.links.homes`). A rank speaks to its home only, and the leader to the aggregators
only, so what reaches the leader grows with the number of aggregators, not of ranks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from .fabric import Channels, Ends, Fabric
from .register import Body

#: Records of several ranks go up together, at most so often.
BUNDLE_SECONDS = 0.25


class Board:
    """A record of every rank, for the leader. Collective over the world.

    Parameters
    ----------
    fabric
        Not open yet.
    homes
        Home of each rank.
    dtype
        Of a record.
    """

    def __init__(self, fabric: Fabric, homes: Sequence[int], dtype: np.dtype):
        self.dtype = np.dtype(dtype)
        self._fabric, self._homes, self._leader = fabric, tuple(homes), leader_of(homes)
        self._posts = Channels(fabric, [Ends(rank, home, home) for rank, home in enumerate(homes)], self.dtype)
        members = {
            home: [r for r, h in enumerate(homes) if h == home and not self._seen_from_leader(r)]
            for home in sorted(set(homes))
        }
        self._members = {home: ranks for home, ranks in members.items() if ranks}
        self._place = {r: (b, k) for b, ranks in enumerate(self._members.values()) for k, r in enumerate(ranks)}
        entry = np.dtype([("sequence", "<i8"), ("record", self.dtype)])
        most = max(map(len, self._members.values()), default=0)
        bundle = np.dtype([("of", entry, (most,))])
        self._bundle = np.zeros((), bundle)
        ends = [Ends(home, self._leader, self._leader) for home in self._members]
        self._bundles = Channels(fabric, ends, bundle)
        self._seen = [(0, self._bundle)] * len(ends)  # the newest of each: its sequence number and the records
        self._mine = list(self._members).index(fabric.rank) if fabric.rank in self._members else None
        self._passed = 0.0

    def put(self, rank: int, record: np.ndarray) -> int:
        """Post the record of `rank`, which I am; never waits."""
        return self._posts.put(rank, record)

    def get(self, rank: int) -> tuple[int, np.ndarray]:
        """How often `rank` has posted, and its newest record; 0 and zeros if this rank cannot see it.

        The leader sees all records, an aggregator those of its ranks, every rank some of its own node.
        """
        if self._fabric.rank == self._leader and rank in self._place:
            bundle, k = self._place[rank]
            newest = self._bundles.read(bundle, after=self._seen[bundle][0])
            if newest is not None:
                self._seen[bundle] = newest[0], np.frombuffer(newest[1], self._bundles.dtype)[0]
            entry = self._seen[bundle][1]["of"][k]
            return int(entry["sequence"]), entry["record"]
        return self._posts.get(rank)

    def relay(self, at_once: bool = False) -> None:
        """Pass on the records of my ranks to the leader, when it is time to or `at_once`."""
        now = time.monotonic()
        if self._mine is None or not (at_once or now - self._passed >= BUNDLE_SECONDS):
            return
        self._passed, changed = now, False
        for entry, rank in zip(self._bundle["of"], self._members[self._fabric.rank], strict=False):  # padded
            newest = self._posts.read(rank, after=int(entry["sequence"]))
            if newest is not None:
                entry["sequence"], entry["record"] = newest[0], np.frombuffer(newest[1], self.dtype)[0]
                changed = True
        if changed:
            self._bundles.put(self._mine, self._bundle)

    def _seen_from_leader(self, rank: int) -> bool:
        """Whether the leader reads the post of `rank` itself."""
        nodes, home = self._fabric.nodes, self._homes[rank]
        return home == self._leader or nodes[rank] == nodes[home] == nodes[self._leader]


class Bulletin:
    """One record of the leader, for every rank. Collective over the world.

    Parameters
    ----------
    fabric
        Not open yet.
    homes
        Home of each rank.
    dtype
        Of the record.
    """

    def __init__(self, fabric: Fabric, homes: Sequence[int], dtype: np.dtype):
        self.dtype = np.dtype(dtype)
        leader, nodes = leader_of(homes), fabric.nodes
        aggregators = sorted(set(homes))
        down = [Ends(leader, a, leader) for a in aggregators if nodes[a] != nodes[leader]]
        # On its own node an aggregator has one copy for all; to other nodes it sends one to each of its ranks.
        near = [Ends(a, a, a) for a in aggregators]
        far = [Ends(home, rank, home) for rank, home in enumerate(homes) if nodes[rank] != nodes[home]]
        ends = [*down, *near, *far]
        self._channels = Channels(fabric, ends, self.dtype)
        me, home = fabric.rank, homes[fabric.rank]
        if nodes[me] == nodes[leader]:
            self._from = ends.index(Ends(leader, leader, leader))
        elif nodes[me] == nodes[home]:
            self._from = ends.index(Ends(home, home, home))
        else:
            self._from = ends.index(Ends(home, me, home))
        self._down = next((i for i, end in enumerate(down) if end.reader == me), None)
        self._to = [i for i, end in enumerate(ends) if end.writer == me]
        self._passed, self._record = 0, np.zeros((), self.dtype)

    def update(self, **fields: object) -> None:
        """Publish the record with these fields changed; on the leader only."""
        for name, value in fields.items():
            self._record[name] = value
        self._publish(self._record.tobytes())

    def get(self) -> np.ndarray:
        """The newest record, zeros before the first."""
        return self._channels.get(self._from)[1]

    def relay(self) -> None:
        """Pass on what the leader has published; on aggregators of other nodes."""
        newest = None if self._down is None else self._channels.read(self._down, after=self._passed)
        if newest is not None:
            self._passed, body = newest
            self._publish(body)

    def _publish(self, body: Body) -> None:
        for i in self._to:
            self._channels.write(i, body)


def leader_of(homes: Sequence[int]) -> int:
    """The first aggregator: the lowest rank that is its own home."""
    return next(rank for rank, home in enumerate(homes) if rank == home)
