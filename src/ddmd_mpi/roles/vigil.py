"""Who is lost: every rank says that it goes on whenever it posts its record, and looks who does not.

A *lost* rank is one whose process has ended before its time (fault-tolerant MPI or, on the same node, the kernel says
so) or that has posted no record for longer than it had promised. The first aggregator judges silence and declares it in
window memory; the others watch only the first aggregator. The run goes on without a simulation rank; it cannot do
without any other one.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Container
from typing import Any

from ..errors import DDMDError, LostRankError
from ..parallel.layout import Layout
from ..sections import FaultsSection
from ..status import POST_SECONDS, Activity, State
from ..watchdog import Watchdog

#: A rank that hangs ends itself when its promise is due; one that cannot even do that is declared lost so much later.
MARGIN_SECONDS = 10.0
ENDED = "its process has ended"
STOPPED = "its process was stopped, and then killed"


class Vigil:
    """What one rank knows of lost ranks.

    Parameters
    ----------
    read
        The newest record of a rank: its sequence number and the record; None where records cannot be read.
    losses
        What MPI knows and what is declared.
    hosts
        Host name of each node.
    stopped, ended
        Give the ranks of my node whose processes are stopped, or were when they were last seen; which have ended.

    Attributes
    ----------
    lost
        Simulation ranks that the run goes on without.
    """

    def __init__(self, layout: Layout, rank: int, hosts: tuple[str, ...], losses: Any,
                 read: Callable[[int], tuple[int, Any]] | None, watchdog: Watchdog, settings: FaultsSection,
                 log: logging.Logger, clock: Callable[[], float] = time.monotonic,
                 stopped: Callable[[], Container[int]] = tuple, ended: Callable[[], frozenset[int]] = frozenset):
        self.lost: frozenset[int] = frozenset()
        self._layout, self._rank, self._hosts, self._losses, self._read = layout, rank, hosts, losses, read
        self._watchdog, self._log, self._clock, self._stopped, self._ended = watchdog, log, clock, stopped, ended
        self._leader = layout.ranks("aggregation")[0]
        self._leads = rank == self._leader
        watched = range(len(layout.roles)) if self._leads else (self._leader,)
        self._watched = [r for r in watched if r != rank] if read is not None else []
        self._within, self._due = settings.hang_after, clock()
        # Of each its newest record: the number, when it came, what it promised.
        self._heard = {r: (0, clock(), settings.start_within) for r in self._watched}
        self._gone: dict[int, str] = {}  # why a rank is lost

    @property
    def lost_walkers(self) -> tuple[int, ...]:
        """The walkers of the lost simulation ranks."""
        return tuple(w for rank in sorted(self.lost) for w in self._layout.walkers(rank))

    @property
    def left(self) -> list[int]:
        """The ranks that are not lost."""
        return [r for r in range(len(self._layout.roles)) if r not in self._gone]

    @property
    def speaks(self) -> bool:
        """Whether this rank says for all why the run ends: the first aggregator, or else the first of those that are
        left and that the run cannot do without.
        """
        return self.turn == 0

    @property
    def turn(self) -> int:
        """How many ranks come before this one where one is to speak for all."""
        order = sorted(self.left, key=lambda r: (r != self._leader, not self._is_essential(r), r))
        return order.index(self._rank) if self._rank in order else len(order)

    def look(self, within: float, on_disk: bool = False) -> None:
        """Beat for the next `within` seconds (see :meth:`.watchdog.Watchdog.beat`), and look who is lost.

        Raises
        ------
        LostRankError
            If the run cannot do without one that is.
        """
        self._watchdog.beat(within, on_disk)
        self._due = self._clock() + POST_SECONDS
        stopped = self._stopped()
        found = {rank: STOPPED if rank in stopped else ENDED for rank in self._losses.failed() | self._ended()}
        found |= self._silent()
        declared = self._losses.declared() - found.keys()
        found |= dict.fromkeys(declared, "it was declared lost")
        if self._rank in declared:
            self._log.error("taken for lost: this rank ends")
            os._exit(1)
        new = {rank: why for rank, why in found.items() if rank not in self._gone and not self._has_ended(rank)}
        if new:
            self._note(new)

    def brace(self, seconds: float) -> None:
        """Look no longer who is lost; this process ends if it has not by itself after so many seconds."""
        self._watchdog.beat(seconds, on_disk=True)

    def explain(self, error: Exception) -> Exception:
        """The loss that an error of MPI or of a stream comes from, if that is found out now; else the error."""
        deadline = self._clock() + 2.0
        while not isinstance(error, LostRankError) and self._clock() < deadline:
            try:
                self.look(self._within)
            except LostRankError as loss:
                return loss
            for rank, why in self._gone.items():
                if self._is_essential(rank) or not isinstance(error, DDMDError):
                    return LostRankError(self._sentence(rank, why))
            time.sleep(0.05)
        return error

    def tick(self) -> frozenset[int]:
        """Look, if it is time to: for whoever waits and posts no records. The ranks that are lost."""
        if self._clock() >= self._due:
            self.look(self._within)
        return self.lost

    def others_have_left(self, roles: tuple[str, ...]) -> bool:
        """Whether no process of another rank of these roles is left, as far as MPI and the kernel know."""
        others = {r for r, role in enumerate(self._layout.roles) if role in roles and r != self._rank}
        return others <= self._losses.failed() | self._ended() | self._gone.keys()

    def free(self) -> None:
        """Watch no longer."""
        self._watchdog.free()

    def _silent(self) -> dict[int, str]:
        """Watched ranks that have not kept their promise."""
        found, now = {}, self._clock()
        for rank in self._watched:
            if rank in self._gone:
                continue
            sequence, heard, within = self._heard[rank]
            newest, record = self._read(rank)
            if newest != sequence:
                self._heard[rank] = newest, now, float(record["within"])
            elif now - heard > within + MARGIN_SECONDS:
                found[rank] = f"it was not heard of for {now - heard:.0f} s"
        return found

    def _has_ended(self, rank: int) -> bool:
        """Whether a rank has come to its end in order."""
        return self._read is not None and self._read(rank)[1]["state"] == State.DONE

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
        if self._read is not None:
            doing = f", last seen {Activity(int(self._read(rank)[1]['activity'])).name.lower()},"
        return f"rank {rank} ({role}, on {host}){doing} is lost: {why}; logs/{role}-{rank:04d}.log may say more"

    def _kill(self, rank: int) -> None:
        """Kill the process of a rank of my node that may only have stopped."""
        pid = 0 if self._read is None else int(self._read(rank)[1]["pid"])
        if pid and self._layout.nodes[rank] == self._layout.nodes[self._rank] and rank != self._rank:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


class NoVigil:
    """For a role that nobody watches: nobody is ever lost."""

    lost: frozenset[int] = frozenset()
    lost_walkers: tuple[int, ...] = ()

    def look(self, within: float, on_disk: bool = False) -> None:
        """Nothing is looked for."""

    def tick(self) -> None:
        """Nothing is looked for."""
