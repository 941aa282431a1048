"""The walkers of one simulation rank, wherever their frames go and their commands come from."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..checkpoints import Part, prefixed, under
from ..errors import EngineError
from ..frames import Outcome, Receipt, RestartCommand
from ..md.affinity import stay_on_one_core
from ..md.bodies import Bodies
from ..md.engines import check_engine, engine_maker
from ..md.topologies import load_topology
from ..md.trajectory import Trajectory
from ..steering.ligands import first_topology
from .context import Context
from .emulation import SLICE_SECONDS, EmulatedWalker
from .remains import keep_remains
from .walker import Walker


class Ensemble(ABC):
    """My walkers: made, restarted, taken back after failures and counted."""

    def __init__(self, context: Context):
        self.context = context
        config, facts = context.config, context.facts
        self.emulated = config.simulation.engine == "emulated"
        platform = check_engine(config, facts.n_atoms, context.gpu)
        self._bind(platform)
        self.bodies = Bodies(config, lambda k: load_topology(config, k, facts.target_nm),
                             engine_maker(config, context.gpu, platform), facts.session)
        self.side_by_side = context.layout.walkers_per_rank if self.emulated else 1  # walkers that move at a time
        self.known = {} if facts.resumed is None else self._recall()
        self.walkers = [self._walker(w) for w in context.layout.walkers(context.rank)]

    @abstractmethod
    def answer(self, walker: int, receipt: Receipt) -> None:
        """Say what became of a walker's command."""

    def begin(self) -> None:
        """Note the begin of the walkers' time."""
        self.started = time.time()
        self.context.log.info("%d walkers on platform %s", len(self.walkers), self.walkers[0].engine.platform)
        if self.context.facts.resumed is not None:
            self.resume()

    def resume(self) -> None:
        """Go on where the walkers were."""
        context = self.context
        for walker in self.walkers:
            with self.contained(walker):
                walker.resume(*self.known.pop(walker.index))
        rmsd, frame, walker = min((*w.trajectory.history.best, w.index) for w in self.walkers)
        if frame >= 0:
            context.status.update(best_rmsd=rmsd, best_simulation=walker, best_frame=frame)

    def snapshot(self) -> Part:
        """My walkers as a part of a checkpoint."""
        values, arrays = {}, {}
        for walker in self.walkers:
            values[str(walker.index)], own = walker.snapshot()
            arrays |= prefixed(str(walker.index), own)
        return Part(values, arrays)

    def restart(self, walker: Walker, command: RestartCommand, coordinates: tuple[np.ndarray, ...] | None) -> None:
        """Restart a walker from the commanded frame; without coordinates the command is stale, and refused."""
        if coordinates is None:
            receipt = Receipt(command.decision, Outcome.STALE, -1, time.time(), 0.0)
        else:
            try:
                receipt = walker.restart(command, coordinates)
            except EngineError:
                self.answer(walker.index, Receipt(command.decision, Outcome.FAILED, -1, time.time(), 0.0))
                raise
        self.answer(walker.index, receipt)
        self.context.log.info("walker %d: decision %d %s", walker.index, command.decision,
                              Outcome(receipt.outcome).name.lower())

    @contextmanager
    def contained(self, walker: Walker) -> Iterator[None]:
        """Keep a failure of the engine in the block to this walker: back to its last good restart point, or retired."""
        try:
            yield
        except EngineError as error:
            self.context.log.warning("walker %d: %s", walker.index, error)
            keep_remains(self.context.facts.directory, walker, error, self.context.log)
            self._recover(walker, error)
            if walker.retired:
                self.context.log.error("walker %d has failed %d times: retired", walker.index, walker.failures)

    def pause(self, walkers: list[Walker]) -> None:
        """Sleep a little where none of these walkers can be at its next report yet."""
        time.sleep(min(SLICE_SECONDS, *(walker.left_s for walker in walkers)))

    def post(self, *, now: bool = False, **values: float) -> None:
        """Tell the board how far this rank is."""
        walkers, md_s = self.walkers, self.context.events.seconds("md")
        self.context.status.update(
            now=now, frames=sum(w.frames for w in walkers), ns=sum(w.ps for w in walkers) / 1000,
            segments=sum(w.segments for w in walkers), iterations=sum(w.segments for w in walkers),
            failures=sum(w.failures for w in walkers), earlier_ns=sum(w.earlier_ps for w in walkers) / 1000,
            iteration_s=md_s, busy_s=md_s / self.side_by_side, **values)

    def end(self) -> None:
        """Record where the time went, and close the walkers' files."""
        events, loop_s = self.context.events, time.time() - self.started
        seconds = {f"{name}_s": total.seconds for name, total in events.totals.items()}
        events.record("totals", self.started, loop_s, loop_s=loop_s, steps=sum(w.steps for w in self.walkers),
                      **seconds)
        for walker in self.walkers:
            with self.context.on_record():
                walker.end()
        self.bodies.free()

    def _recover(self, walker: Walker, error: EngineError) -> None:
        """Take a failed walker back to its last good restart point, or retire it."""
        while not walker.retired:
            try:
                with self.context.status.expect_silence("recovery"):
                    walker.recover(error)
                return
            except EngineError as again:
                error = again

    def _bind(self, platform: str) -> None:
        """Take a core of my own where the platform is a CPU and one thread does the work."""
        settings, layout, rank = self.context.config.simulation, self.context.layout, self.context.rank
        if settings.bind and platform == "CPU" and settings.threads == 1:
            neighbours = [r for r in layout.ranks("simulation") if layout.nodes[r] == layout.nodes[rank]]
            core = stay_on_one_core(neighbours.index(rank))
            if core is not None:
                self.context.log.info("bound to core %d", core)

    def _recall(self) -> dict[int, tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """What a checkpoint knows of my walkers, whichever ranks had them."""
        context, known = self.context, {}
        mine = set(context.layout.walkers(context.rank))
        for entry in context.facts.resumed.of_role("simulation"):
            if mine & set(entry.walkers):
                part = context.store.read_part(entry)
                known |= {w: (part.values[str(w)], under(str(w), part.arrays)) for w in mine & set(entry.walkers)}
        return known

    def _walker(self, index: int) -> Walker:
        config, facts = self.context.config, self.context.facts
        names = config.system.topologies
        begins = self.known[index][0]["topology"] if self.known else first_topology(index, len(names))
        trajectory = Trajectory(
            facts.directory / "trajectories", index, self.bodies.topology(begins).structures.topology,
            config.simulation, facts.order_parameters, facts.resumed is not None,
            names[begins] if len(names) > 1 else None)
        kind = EmulatedWalker if self.emulated else Walker
        return kind(index, self.bodies, begins, trajectory, config, self.context.events)
