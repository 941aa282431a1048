"""Routes of records that may pass through a relay: from a writer to the reader's aggregator, and on to the reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .fabric import Channels, Ends, Fabric
from .register import Body


class Routes:
    """Records that may pass through a relay on the reader's side. Collective over the world.

    Parameters
    ----------
    fabric
        Not open yet.
    ways
        Of each record the ends of its one or two hops; the reader of the first is the writer of the second.
    dtype
        Of a record.
    """

    def __init__(self, fabric: Fabric, ways: Sequence[Sequence[Ends]], dtype: np.dtype):
        hops = [hop for way in ways for hop in way]
        self._channels = Channels(fabric, hops, dtype)
        counts = np.array([len(way) for way in ways], int)
        ends = np.cumsum(counts)
        self._first, self._last = (ends - counts).tolist(), (ends - 1).tolist()
        self._relayed = [
            first for first, way in zip(self._first, ways, strict=True) if len(way) > 1 and way[0].reader == fabric.rank
        ]
        self._passed = dict.fromkeys(self._relayed, 0)

    def __len__(self) -> int:
        return len(self._first)

    def put(self, i: int, record: np.ndarray | tuple) -> int:
        """Publish the newest record i, on its writer."""
        return self._channels.put(self._first[i], record)

    def write(self, i: int, body: Body) -> int:
        """Like :meth:`put`, of the record's bytes."""
        return self._channels.write(self._first[i], body)

    def get(self, i: int) -> tuple[int, np.ndarray]:
        """Sequence number and content of the newest record i, on its reader."""
        return self._channels.get(self._last[i])

    def read(self, i: int, after: int) -> tuple[int, bytearray] | None:
        """Like :meth:`get`, of the record's bytes; None if the newest is still number `after`."""
        return self._channels.read(self._last[i], after)

    def sequence(self, i: int) -> int:
        """Sequence number of the newest record i, on its reader."""
        return self._channels.sequence(self._last[i])

    def relay(self) -> None:
        """Pass on what has come for others."""
        for hop in self._relayed:
            newest = self._channels.read(hop, after=self._passed[hop])
            if newest is not None:
                self._passed[hop], body = newest
                self._channels.write(hop + 1, body)

    def free(self) -> None:
        """Nothing is to be released: the memory is the fabric's."""
