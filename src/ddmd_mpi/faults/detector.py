"""Failure detection: every rank shows that it is alive by posting its record, and checks the others.

A *lost* rank is one whose process has ended before its time (fault-tolerant MPI or, on the same node, the kernel says
so) or that has posted no record for longer than it had promised. The first aggregator, the leader, judges all ranks and
declares in its bulletin which are lost. The others watch the processes of their own node, the aggregator that relays
for them and the leader. The run continues without a simulation rank; it cannot do without any other one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from ..clock import monotonic
from ..config.schema import FaultsSection
from ..errors import DDMDError, LostRankError
from ..layout.roles import Layout
from ..monitor.status import POST_SECONDS, Activity, State
from .watchdog import Watchdog, end_process

#: A rank that hangs ends itself when its promise is due; one that cannot even do that is declared lost so much later.
MARGIN_SECONDS = 10.0
#: How long a rank looks whether an error comes from the loss of another one: the leader's word takes two looks.
EXPLAIN_SECONDS = 4 * POST_SECONDS + 2.0
ENDED = "its process has ended"
STOPPED = "its process was stopped, and then killed"


class LossList(Protocol):
    """What MPI knows of processes that have ended, and what the leader declares."""

    def failed(self) -> frozenset[int]: ...
    def declared(self) -> frozenset[int]: ...
    def declare(self, ranks: Iterable[int]) -> None: ...


class Plane(Protocol):
    """The control plane: the newest record of a rank with its sequence number, and what this rank relays for others."""

    def read(self, rank: int) -> tuple[int, np.ndarray]: ...
    def progress(self) -> None: ...


class Processes(Protocol):
    """Ranks of this node whose processes are stopped or have ended, and their process ids (0 once it has ended)."""

    stopped: frozenset[int]
    ended: frozenset[int]

    def pid(self, rank: int) -> int: ...


class FailureDetector:
    """What one rank knows of lost ranks.

    Parameters
    ----------
    layout, rank
        Who does what; this rank.
    hosts
        Host name of each node.
    losses
        What MPI knows and what is declared.
    plane
        Carries records; None in file mode, where ranks cannot read them.
    home
        The aggregator that relays for this rank.
    processes
        The processes of the other ranks of this node.
    watchdog
        Ends this process if it makes no progress.
    settings
        When a rank is lost.

    Attributes
    ----------
    lost
        Simulation ranks that the run continues without.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        rank: int,
        hosts: tuple[str, ...],
        losses: LossList,
        plane: Plane | None,
        home: int | None,
        processes: Processes,
        watchdog: Watchdog,
        settings: FaultsSection,
        log: logging.Logger,
        clock: Callable[[], float] = monotonic,
    ):
        self.lost: frozenset[int] = frozenset()
        self._layout = layout
        self._rank = rank
        self._hosts = hosts
        self._losses = losses
        self._plane = plane
        self._processes = processes
        self._watchdog = watchdog
        self._log = log
        self._clock = clock
        self._leader = layout.ranks("aggregation")[0]
        self._leads = rank == self._leader
        # Ranks that had ended at the last look, and whose last record may still arrive.
        self._suspected: frozenset[int] = frozenset()
        self._within = settings.hang_after
        self._due = clock()
        # Of each watched rank its newest record: the number, when it came, what it promised.
        self._heard = {r: (0, clock(), settings.start_within) for r in self._watched(home)}
        # Why a rank is lost.
        self._gone: dict[int, str] = {}

    @property
    def lost_walkers(self) -> tuple[int, ...]:
        """The walkers of the lost simulation ranks."""
        return tuple(w for rank in sorted(self.lost) for w in self._layout.walkers(rank))

    @property
    def alive(self) -> list[int]:
        """The ranks that are not lost."""
        return [r for r in range(len(self._layout.roles)) if r not in self._gone]

    @property
    def speaks(self) -> bool:
        """Whether this rank says for all why the run ends.

        It is the first aggregator, or else the first rank of those that are left and that the run cannot do without.
        """
        return self.speaker_order == 0

    @property
    def speaker_order(self) -> int:
        """How many ranks come before this one where one is to speak for all."""
        order = sorted(self.alive, key=lambda r: (r != self._leader, not self._is_essential(r), r))
        return order.index(self._rank) if self._rank in order else len(order)

    def check(self, within: float, on_disk: bool = False) -> None:
        """Beat for the next `within` seconds (see :meth:`.watchdog.Watchdog.beat`), and check for lost ranks.

        Raises
        ------
        LostRankError
            If the run cannot do without one that is.
        """
        self._watchdog.beat(within, on_disk)
        self._due = self._clock() + POST_SECONDS
        stopped = self._processes.stopped
        found = {rank: STOPPED if rank in stopped else ENDED for rank in self._failed()}
        found |= self._silent()
        declared = self._losses.declared() - found.keys()
        found |= dict.fromkeys(declared, "it was declared lost")
        if self._rank in declared:
            self._log.error("this rank was declared lost by the others and terminates")
            os._exit(1)
        new = {rank: why for rank, why in found.items() if rank not in self._gone and not self._has_ended(rank)}
        if new:
            self._note(new)

    def suspend(self, seconds: float) -> None:
        """Stop checking for lost ranks; this process ends if it has not by itself after this many seconds."""
        self._watchdog.beat(seconds, on_disk=True)

    def cause_of(self, error: Exception) -> Exception:
        """The loss that an error of MPI or of a stream comes from, if that is found out now; else the error."""
        deadline = self._clock() + EXPLAIN_SECONDS
        while not isinstance(error, LostRankError) and self._clock() < deadline:
            try:
                self.check(self._within)
            except LostRankError as loss:
                return loss
            for rank, why in self._gone.items():
                if self._is_essential(rank) or not isinstance(error, DDMDError):
                    return LostRankError(self._sentence(rank, why))
            self._relay()
            time.sleep(0.05)
        return error

    def poll(self) -> frozenset[int]:
        """Relay for others, and look if it is time to: for those that wait. Returns the ranks that are lost."""
        self._relay()
        if self._clock() >= self._due:
            self.check(self._within)
        return self.lost

    def have_finished(self, ranks: Iterable[int]) -> bool:
        """Whether each of these ranks has posted its last record, or is lost."""
        return all(rank in self._gone or self._has_ended(rank) for rank in ranks)

    def others_have_left(self, roles: tuple[str, ...]) -> bool:
        """Whether no process of another rank of these roles is left, as far as MPI and the kernel know; relays."""
        self._relay()
        others = {r for r, role in enumerate(self._layout.roles) if role in roles and r != self._rank}
        return others <= self._losses.failed() | self._processes.ended | self._gone.keys()

    def free(self) -> None:
        """Watch no longer."""
        self._watchdog.free()

    def _watched(self, home: int | None) -> list[int]:
        """The ranks whose records this one judges: the leader all, others their home if it is near, and the leader."""
        layout = self._layout
        if self._plane is None:
            return []
        homes = [home] if home is not None and layout.nodes[home] == layout.nodes[self._rank] else []
        watched = range(len(layout.roles)) if self._leads else dict.fromkeys([*homes, self._leader])
        return [r for r in watched if r != self._rank]

    def _relay(self) -> None:
        """Pass on what has come for others."""
        if self._plane is not None:
            self._plane.progress()

    def _failed(self) -> frozenset[int]:
        """Ranks whose processes have ended, as far as it is this rank's business to tell.

        The last record of a rank on another node may arrive after MPI's news that its process has ended. So only the
        leader concludes from that news that the rank is lost, and only if the record is still missing at its next look.
        """
        failed, nodes = self._losses.failed() | self._processes.ended, self._layout.nodes
        far = set()
        if self._plane is not None:  # those whose records come by messages are judged as if they were on another node
            far = {r for r in failed if nodes[r] != nodes[self._rank] or not self._plane.read(r)[0]}
        suspected, self._suspected = self._suspected, frozenset(far)
        return failed - far | {r for r in far & suspected if self._leads or r == self._leader}

    def _silent(self) -> dict[int, str]:
        """Watched ranks that have not kept their promise."""
        if self._plane is None:
            return {}
        found, now = {}, self._clock()
        for rank, (sequence, heard, within) in list(self._heard.items()):
            if rank in self._gone:
                continue
            newest, record = self._plane.read(rank)
            if newest != sequence:
                self._heard[rank] = newest, now, float(record["within"])
            elif now - heard > within + MARGIN_SECONDS:
                found[rank] = f"nothing was heard from it for {now - heard:.0f} s"
        return found

    def _has_ended(self, rank: int) -> bool:
        """Whether a rank has completed."""
        return self._plane is not None and self._plane.read(rank)[1]["state"] == State.DONE

    def _note(self, new: dict[int, str]) -> None:
        self._gone |= new
        self.lost |= {rank for rank in new if not self._is_essential(rank)}
        if self._leads:
            self._losses.declare(self._gone)
        for rank, why in new.items():
            aloud = self._leads and rank in self.lost
            self._log.log(logging.ERROR if aloud else logging.INFO, "%s", self._sentence(rank, why))
            if why not in (ENDED, STOPPED):
                self._kill(rank)
        fatal = [rank for rank in new if self._is_essential(rank)]
        if fatal:
            raise LostRankError(self._sentence(fatal[0], new[fatal[0]]))

    def _is_essential(self, rank: int) -> bool:
        return self._layout.staged or self._layout.roles[rank] != "simulation"

    def _sentence(self, rank: int, why: str) -> str:
        role, host = self._layout.roles[rank], self._hosts[self._layout.nodes[rank]]
        doing = ""
        if self._plane is not None:
            doing = f", last seen {Activity(int(self._plane.read(rank)[1]['activity'])).name.lower()},"
        return f"rank {rank} ({role}, on {host}){doing} is lost: {why}; logs/{role}-{rank:04d}.log may say more"

    def _kill(self, rank: int) -> None:
        """Kill the process of a rank of my node that may only have stopped."""
        if (
            self._layout.nodes[rank] == self._layout.nodes[self._rank]
            and rank != self._rank
            and (pid := self._processes.pid(rank))
        ):
            end_process(pid)
