"""The simulation stage of file mode: a segment of every walker, from the restart points that inference has written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import StreamError
from ..frames.command import Receipt
from ..layout.links import SIMULATION
from ..monitor.status import Activity, State, hop_counts
from ..roles.context import Context
from ..roles.ensemble import Ensemble
from ..roles.walker import Walker
from ..rundir.checkpoints import Part
from .frame_files import FrameFiles
from .restarts import Order, Restarts


class Best(NamedTuple):
    """The frame nearest the target."""

    rmsd: float = np.inf  # angstrom
    walker: int = -1
    frame: int = -1


class Recalled(NamedTuple):
    """What a rank's walkers have done in earlier sessions."""

    frames: dict[int, int]  # in the trajectory of each walker
    best: Best


class Simulated(NamedTuple):
    """What a rank has done in an iteration."""

    walkers: tuple[int, ...]  # those with a file
    n_frames: int
    best: Best
    receipts: dict[int, Receipt] | None  # by walker; None if the restart points could not be read
    active: bool  # whether a walker can continue
    retired: bool  # whether all walkers have failed too often


class SimulationStage:
    """A segment of every walker of mine.

    A walker whose segment fails is done for this iteration; the segment after it starts with the next one.
    """

    def __init__(self, context: Context, files: FrameFiles, restarts: Restarts, meanwhile: Callable[[], object]):
        self.context = context
        self.ensemble = Ensemble(context, self.answer)
        self.files = files
        self.restarts = restarts
        self.meanwhile = meanwhile
        self.rows: dict[int, list[dict]] = {}
        self.beginnings: dict[int, dict[int, dict]] = {}  # walker -> segment -> how it started
        self.receipts: dict[int, Receipt] = {}

    def run(self, iteration: int, commanded: bool) -> Simulated:
        """Apply what inference has decided, simulate, and write the frames."""
        self.rows, self.beginnings, self.receipts = {}, {}, {}
        self.post(now=True, state=State.RUNNING, activity=Activity.MD)
        going = [w for w in self.ensemble.walkers if w.active]
        orders = self.orders(iteration, going) if commanded else {}
        for walker in going:
            if orders and walker.index in orders:
                with self.ensemble.contain_engine_errors(walker):
                    self.ensemble.restart(walker, *orders[walker.index][1:])
        while going and not self.stopping():
            going = [walker for walker in going if self.advance(walker)]
            if going:
                self.ensemble.pause(going)
        for walker in self.ensemble.walkers:
            walker.close()
        self.write(iteration)
        self.post(now=True, activity=Activity.WAITING)
        rows = [row for of_walker in self.rows.values() for row in of_walker]
        best = min(
            (Best(float(r["rmsd"]), r["walker"], r["frame"]) for r in rows if r["rmsd"] == r["rmsd"]),
            default=Best(),
        )
        return Simulated(
            tuple(self.rows),
            len(rows),
            best,
            None if orders is None else self.receipts,
            any(w.active for w in self.ensemble.walkers),
            all(w.retired for w in self.ensemble.walkers),
        )

    def post(self, *, now: bool = False, **values: float) -> None:
        """Tell the board how far this rank is."""
        self.context.status.update(now=now, **self.ensemble.progress(), **values)

    def snapshot(self) -> Part:
        """My walkers as a part of a checkpoint."""
        return self.ensemble.snapshot()

    def end(self) -> None:
        """Close the walkers' files."""
        self.ensemble.end()

    def recalled(self) -> Recalled:
        """What the trajectories held when this session started."""
        histories = {w.index: w.trajectory.history for w in self.ensemble.walkers}
        best = min((Best(h.best[0], walker, h.best[1]) for walker, h in histories.items()))
        return Recalled({walker: h.n_frames for walker, h in histories.items()}, best)

    def orders(self, iteration: int, walkers: list[Walker]) -> dict[int, Order] | None:
        """What inference has decided for these walkers; None if it cannot be read."""
        with self.context.events.span("io", iteration=iteration):
            try:
                return self.restarts.read(iteration, [w.index for w in walkers])
            except StreamError as error:
                self.context.log.warning("no restarts in iteration %d: %s", iteration, error)
                return None

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Keep the receipt for inference."""
        self.receipts[walker] = receipt

    def stopping(self) -> bool:
        """Whether the time is up."""
        self.context.heartbeat()
        self.meanwhile()
        return self.context.control.poll()

    def advance(self, walker: Walker) -> bool:
        """One report of a walker; whether its segment continues."""
        goes_on = False
        with self.ensemble.contain_engine_errors(walker):
            row = walker.report(self.stopping)
            if row is not None:
                self.ensemble.show(row)
                self.rows.setdefault(walker.index, []).append(row)
                self.beginnings.setdefault(walker.index, {})[row["segment"]] = walker.segments.beginning
            goes_on = walker.active and not walker.segments.complete
        self.post()
        return goes_on

    def write(self, iteration: int) -> None:
        """Write a file for every walker that has frames."""
        with self.context.events.span("io", iteration=iteration, files=len(self.rows)) as span:
            span["bytes"] = sum(
                self.files.write(iteration, walker, rows, self.beginnings[walker]) for walker, rows in self.rows.items()
            )
        written = {"bytes": span["bytes"], "blocks": len(self.rows)}
        self.context.status.add(**written, **hop_counts(SIMULATION, **written))
