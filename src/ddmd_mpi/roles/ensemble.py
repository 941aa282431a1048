"""The walkers of one simulation rank, wherever their frames go and their commands come from."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EngineError
from ..frames.command import Outcome, Receipt, RestartCommand
from ..md.affinity import stay_on_one_core
from ..md.engine_pool import EnginePool
from ..md.engines import check_engine, engine_maker, is_program
from ..md.prepared import Prepared
from ..md.trajectory import Trajectory
from ..rundir.checkpoints import Part, prefixed, under
from ..rundir.disk import write_durably
from ..steering.ligand_quota import first_topology
from .audience import serve
from .batched_walker import BatchedWalker
from .context import Context
from .emulation import SLICE_SECONDS, EmulatedPropagator
from .propagator import ProgramPropagator, Propagator
from .restart_points import STATE, Coordinates
from .segment_log import START
from .walker import Walker

if TYPE_CHECKING:
    from ..md.topologies import Topology

#: What a checkpoint would say of a walker that was added since: it starts from the start structure.
NEW: dict[str, Any] = {"frames": 0, "failures": 0, "retired": False, "ahead": 0, "last": START}


class Ensemble:
    """My walkers: made, restarted, restored after failures and counted.

    Parameters
    ----------
    answer
        Told the receipt of every command to a walker.
    """

    def __init__(self, context: Context, answer: Callable[[int, Receipt], object]):
        self.context = context
        self._answer = answer
        config, info = context.config, context.info
        self.audience = serve(config.output, config.simulation, context.layout.walkers(context.rank))
        # Whether the engine gives many reports at once: every walker is a BatchedWalker.
        self.batched = config.simulation.engine == "markov"
        self.emulated = config.simulation.engine == "emulated"
        platform = check_engine(config, info.n_atoms, context.gpu)
        self._bind(platform)
        make = engine_maker(config, context.gpu, platform, info.directory, context.heartbeat)
        self.engines = EnginePool(config, self._topology, make, info.session, context.layout.n_walkers)
        apart = self.emulated or is_program(config)
        self.side_by_side = context.layout.walkers_per_rank if apart else 1  # walkers that move at a time
        self.known = self._recall()
        self.walkers = [self._walker(w) for w in context.layout.walkers(context.rank)]

    def begin(self) -> None:
        """Note the start of the walkers' time."""
        self.started = time.time()
        self.context.log.info("%d walkers on platform %s", len(self.walkers), self.walkers[0].engine.platform)
        if self.context.info.resumed is not None:
            self.resume()

    def resume(self) -> None:
        """Continue where the walkers were."""
        context = self.context
        for walker in self.walkers:
            context.heartbeat()
            with self.contain_engine_errors(walker):
                walker.resume(*self.known.pop(walker.index, (NEW, {})))
        rmsd, frame, best = min((*w.trajectory.history.best, w.index) for w in self.walkers)
        if frame >= 0:
            context.status.update(best_rmsd=rmsd, best_walker=best, best_frame=frame)

    def snapshot(self) -> Part:
        """My walkers as a part of a checkpoint."""
        values: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for walker in self.walkers:
            values[str(walker.index)], own = walker.snapshot()
            arrays |= prefixed(str(walker.index), own)
        return Part(values, arrays)

    def restart(self, walker: Walker, command: RestartCommand, coordinates: Coordinates | None) -> None:
        """Restart a walker from the commanded frame; without coordinates the command is stale, and refused."""
        if coordinates is None:
            receipt = Receipt(command.decision, Outcome.STALE, -1, time.time(), 0.0)
        else:
            try:
                receipt = walker.restart(command, coordinates)
            except EngineError:
                self._answer(walker.index, Receipt(command.decision, Outcome.FAILED, -1, time.time(), 0.0))
                raise
        self._answer(walker.index, receipt)
        self.context.log.info(
            "walker %d: decision %d %s", walker.index, command.decision, Outcome(receipt.outcome).name.lower()
        )

    def show(self, row: Mapping[str, Any]) -> None:
        """Serve a frame to the program that watches its walker, if there is one."""
        if self.audience is not None:
            self.audience.show(row)

    @contextmanager
    def contain_engine_errors(self, walker: Walker) -> Iterator[None]:
        """Keep a failure of the engine in the block to this walker: back to its last good restart point, or retired."""
        try:
            yield
        except EngineError as error:
            self.context.log.warning("walker %d: %s", walker.index, error)
            dump_failed_state(self.context.info.directory, walker, error, self.context.log)
            self._recover(walker, error)
            if walker.retired:
                self.context.log.error("walker %d has failed %d times: retired", walker.index, walker.failures)

    def pause(self, walkers: list[Walker]) -> None:
        """Sleep a little if none of these walkers can be at its next report yet."""
        time.sleep(min([SLICE_SECONDS, *(walker.propagator.left_s for walker in walkers)]))

    def progress(self) -> dict[str, float]:
        """How far my walkers are, as fields of the status record."""
        walkers, md_s = self.walkers, self.context.events.seconds("md")
        segments = sum(w.segments.ended for w in walkers)
        return {
            "frames": sum(w.frames for w in walkers),
            "ns": sum(w.ps for w in walkers) / 1000,
            "segments": segments,
            "iterations": segments,
            "failures": sum(w.failures for w in walkers),
            "earlier_ns": sum(w.earlier_ps for w in walkers) / 1000,
            "iteration_s": md_s,
            "busy_s": md_s / self.side_by_side,
            "report_s": max(w.propagator.report_s for w in walkers),
        }

    def end(self) -> None:
        """Record where the time went, and close the walkers' files."""
        events, loop_s = self.context.events, time.time() - self.started
        seconds = {f"{name}_s": total.seconds for name, total in events.totals.items()}
        events.record(
            "totals",
            self.started,
            loop_s,
            loop_s=loop_s,
            steps=sum(w.propagator.steps for w in self.walkers),
            **seconds,
        )
        for walker in self.walkers:
            with self.context.stop_on_disk_error():
                walker.end()
        self.engines.free()
        if self.audience is not None:
            self.audience.free()

    def _recover(self, walker: Walker, error: EngineError) -> None:
        """Take a failed walker back to its last good restart point, or retire it."""
        while not walker.retired:
            try:
                with self.context.heartbeat.expect_silence("recovery"):
                    walker.recover(error)
                return
            except EngineError as again:
                error = again

    def _bind(self, platform: str) -> None:
        """Take a core of my own if the platform is a CPU and one thread does the work."""
        settings, layout, rank = self.context.config.simulation, self.context.layout, self.context.rank
        if settings.bind and platform == "CPU" and settings.threads == 1:
            neighbours = [r for r in layout.ranks("simulation") if layout.nodes[r] == layout.nodes[rank]]
            core = stay_on_one_core(neighbours.index(rank))
            if core is not None:
                self.context.log.info("bound to core %d", core)

    def _recall(self) -> dict[int, tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """What a checkpoint knows of my walkers, whichever ranks had them."""
        context = self.context
        known: dict[int, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}
        mine = set(context.layout.walkers(context.rank))
        for entry in context.info.resumed_parts("simulation"):
            if mine & set(entry.walkers):
                part = context.store.read_part(entry)
                known |= {w: (part.values[str(w)], under(str(w), part.arrays)) for w in mine & set(entry.walkers)}
        return known

    def _topology(self, index: int) -> Topology | Prepared:
        """A topology: the first rank has prepared it for all, or this rank reads its files."""
        for prepared in self.context.info.topologies:
            if prepared.index == index:
                return prepared
        from ..md.topologies import load_topology

        return load_topology(self.context.config, index, self.context.info.target_nm)

    def _walker(self, index: int) -> Walker:
        config, info = self.context.config, self.context.info
        names = config.system.topologies
        begins = self.known[index][0]["topology"] if index in self.known else first_topology(index, len(names))
        trajectory = Trajectory(
            info.directory / "trajectories",
            index,
            self.engines.topology(begins).structures,
            config.simulation,
            info.order_parameters,
            info.resumed is not None,
            names[begins] if len(names) > 1 else None,
        )
        kind = EmulatedPropagator if self.emulated else ProgramPropagator if is_program(config) else Propagator
        propagator = kind(index, config, self.context.events)
        walker = BatchedWalker if self.batched else Walker
        return walker(index, self.engines, begins, trajectory, propagator, config, self.context.events)


def dump_failed_state(directory: Path, walker: Walker, error: EngineError, log: logging.Logger) -> None:
    """Write the state in which a walker has failed, as far as its engine still gives it, for a post-mortem.

    ``failures/sim-0007-0002.npz`` has positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps, box (3, 3) nm, the
    error, the walker's topology and the simulated time, ps. A disk that refuses it costs nothing else.

    Parameters
    ----------
    directory
        The run directory.
    """
    try:
        state = walker.engine.snapshot()
    except EngineError:
        state = {}
    packed = io.BytesIO()
    np.savez(
        packed,
        **{name: state[name] for name in STATE if name in state},
        error=np.array(str(error)),
        topology=np.array(walker.topology),
        time_ps=np.array(walker.ps),
    )
    path = directory / "failures" / f"sim-{walker.index:04d}-{walker.failures + 1:04d}.npz"
    try:
        path.parent.mkdir(exist_ok=True)
        write_durably(path, packed.getbuffer())
    except OSError as refused:
        log.warning("%s cannot be written: %s", path, refused.strerror)
