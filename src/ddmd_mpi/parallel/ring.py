"""The coordinate ring: each aggregator keeps the newest frames of its walkers in its own window memory.

A slot is a generation number and the frame (positions, velocities, box). Only the host writes; anyone fetches without
its help. The host withdraws the generation before it overwrites the frame and sets the new one afterwards, so a fetch
that finds the generation it asked for both before and after it has copied the frame has copied that frame, whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from ..layout.memory import CACHE_LINE, frame_values, slot_nbytes, slots_per_walker
from .windows import AtomicWord, allocate, free

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]


class CoordinateRing:
    """The rings of the aggregators of a node; where the rings of others hold which frame is known, too.

    Collective over `comm` and `everyone`.

    Parameters
    ----------
    comm
        Communicator of hosts and readers.
    hosts
        Rank of each aggregator, among `members`.
    walkers_of
        Walkers of each aggregator.
    n_atoms
        Atoms of a frame of the largest topology: every slot has room for one.
    budget_bytes
        Window memory of one aggregator; it is shared evenly by its walkers.
    members
        The number by which `hosts` names each rank of `comm`; its rank by default.
    everyone
        Communicator of all ranks that make such rings at the same time; `comm` by default.

    Attributes
    ----------
    slots_per_walker : int
        Frames kept of each walker; slot k of an aggregator belongs to its walker ``k // slots_per_walker``.

    Raises
    ------
    LayoutError
        The budget holds fewer than 2 frames a walker, or there is not enough shared memory.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        hosts: Sequence[int],
        walkers_of: Sequence[Sequence[int]],
        n_atoms: int,
        budget_bytes: int,
        members: Sequence[int] | None = None,
        everyone: MPI.Comm | None = None,
    ):
        members = list(range(comm.size) if members is None else members)
        self._n_atoms = n_atoms
        self._stride = slot_nbytes(n_atoms)
        most = max(len(walkers) for walkers in walkers_of)
        self.slots_per_walker = slots_per_walker(budget_bytes, most, n_atoms)
        # Rank in `comm` of each aggregator that is near.
        self._host = {k: members.index(host) for k, host in enumerate(hosts) if host in members}
        self._rank = comm.rank
        self._first_slot = {
            walker: (aggregator, k * self.slots_per_walker)
            for aggregator, walkers in enumerate(walkers_of)
            for k, walker in enumerate(walkers)
        }
        mine = next((walkers_of[k] for k, host in self._host.items() if host == comm.rank), ())
        self._stored = dict.fromkeys(mine, 0)
        nbytes = len(mine) * self.slots_per_walker * self._stride
        self._window, memory = allocate(comm, nbytes, "the coordinate rings", everyone)
        self._word = AtomicWord(self._window)
        self._values = memory.reshape(-1, self._stride)[:, CACHE_LINE:].view(np.float32)

    def is_near(self, aggregator: int) -> bool:
        """Whether the ring of aggregator number `aggregator` lies on this node."""
        return aggregator in self._host

    def store(self, walker: int, positions: np.ndarray, velocities: np.ndarray, box: np.ndarray) -> tuple[int, int]:
        """Keep a frame of `walker`, whose host I am, in place of its oldest.

        Parameters
        ----------
        positions, velocities
            Shape (n, 3), n <= n_atoms, float32, nm and nm/ps.
        box
            Shape (3, 3), float32, nm.

        Returns
        -------
        tuple of int
            Slot and generation (>= 1): what :meth:`fetch` asks for.
        """
        slots, generations = self.store_all(np.array([walker]), positions[None], velocities[None], box[None])
        return int(slots[0]), int(generations[0])

    def store_all(
        self, walkers: np.ndarray, positions: np.ndarray, velocities: np.ndarray, box: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`store`, of frames of one topology, the oldest first: all arrays have an axis of frames in front.

        Returns
        -------
        tuple of ndarray
            Slots and generations; those that newer ones of these frames have replaced are stale already.
        """
        numbers = np.empty(len(walkers), np.int64)
        first = np.empty(len(walkers), np.int64)
        lasts = np.empty(len(walkers), np.int64)
        for walker in np.unique(walkers).tolist():
            mine = np.flatnonzero(walkers == walker)
            numbers[mine] = self._stored[walker] + np.arange(len(mine))
            self._stored[walker] += len(mine)
            first[mine], lasts[mine] = self._first_slot[walker][1], self._stored[walker] - 1
        laps, places = np.divmod(numbers, self.slots_per_walker)
        slots, generations = first + places, laps + 1
        kept = lasts - numbers < self.slots_per_walker
        # A mask copies what it picks, which is all frames nearly always.
        chosen = slice(None) if kept.all() else kept
        self._write(slots[chosen], generations[chosen], positions[chosen], velocities[chosen], box[chosen])
        return slots, generations

    def place(self, walker: int, number: int) -> tuple[int, int, int]:
        """Aggregator, slot and generation of the frame of a walker of this number, counted from 0."""
        aggregator, first = self._first_slot[walker]
        lap, k = divmod(number, self.slots_per_walker)
        return aggregator, first + k, lap + 1

    def reserve(self, walker: int, n_frames: int) -> None:
        """Leave the first numbers of a walker to the frames of an earlier session, for :meth:`put`."""
        self._stored[walker] = n_frames

    def put(
        self, walker: int, number: int, positions: np.ndarray, velocities: np.ndarray, box: np.ndarray
    ) -> tuple[int, int]:
        """As :meth:`store`, for the frame of this number."""
        _, slot, generation = self.place(walker, number)
        self._write(np.array([slot]), np.array([generation]), positions[None], velocities[None], box[None])
        return slot, generation

    def _write(
        self, slots: np.ndarray, generations: np.ndarray, positions: np.ndarray, velocities: np.ndarray, box: np.ndarray
    ) -> None:
        """Put frames into slots, each of which is withdrawn meanwhile."""
        end, stop = 3 * positions.shape[1], 6 * positions.shape[1]
        for slot in slots.tolist():
            self._word.replace(self._rank, slot * self._stride, 0)
        self._window.Sync()
        self._values[slots, :end] = positions.reshape(len(slots), -1)
        self._values[slots, end:stop] = velocities.reshape(len(slots), -1)
        self._values[slots, stop : stop + 9] = box.reshape(len(slots), -1)
        self._window.Sync()
        for slot, generation in zip(slots.tolist(), generations.tolist(), strict=True):
            self._word.replace(self._rank, slot * self._stride, generation)

    def fetch(self, aggregator: int, slot: int, generation: int, n_atoms: int | None = None) -> Frame | None:
        """The frame of that generation from that slot of the ring of aggregator number `aggregator`, which is near.

        Parameters
        ----------
        n_atoms
            Atoms of the frame's topology; None for the largest one.

        Returns
        -------
        tuple of ndarray, or None
            positions (n_atoms, 3), velocities (n_atoms, 3), box (3, 3), float32; None if the slot holds another
            generation by now (a stale command).
        """
        host, offset = self._host[aggregator], slot * self._stride
        if generation < 1 or self._word.fetch(host, offset) != generation:
            return None
        n_atoms = self._n_atoms if n_atoms is None else n_atoms
        values = np.empty(frame_values(n_atoms), np.float32)
        self._window.Get([values, MPI.FLOAT], host, (offset + CACHE_LINE, len(values), MPI.FLOAT))
        self._window.Flush(host)
        if self._word.fetch(host, offset) != generation:
            return None
        return frame_parts(values, n_atoms)

    def free(self) -> None:
        """Release the memory. Collective over the communicator."""
        del self._values
        free(self._window)


def frame_parts(values: np.ndarray, n_atoms: int) -> Frame:
    """Positions, velocities and box of a frame of `n_atoms`, which lie at the front of a slot: views of it."""
    n = 3 * n_atoms
    box = values[2 * n : 2 * n + 9].reshape(3, 3)
    return values[:n].reshape(-1, 3), values[n : 2 * n].reshape(-1, 3), box
