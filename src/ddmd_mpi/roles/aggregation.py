"""The aggregation role: merge my simulations' frames, keep their coordinates, pass on features."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

import numpy as np

from ..clock import monotonic
from ..frames.block import FrameBlock, Hop
from ..layout.links import SIMULATION, TO_INFERENCE, TO_TRAINING, Link, homes
from ..monitor.status import Activity, State
from ..rundir.checkpoints import Part
from ..streams.archive import Archive, archive_name
from ..streams.inbox import Inbox
from .checkpoint import Checkpoints
from .context import IDLE_SECONDS, StreamContext
from .leader import Leader
from .restore_ring import count_archived, refill


class Aggregation:
    """One aggregation rank. It never waits: not for a simulation, not for a consumer."""

    def __init__(self, context: StreamContext):
        self.context = context
        self.index = context.layout.aggregator_index(context.rank)
        self.checkpoints: Checkpoints | None = None  # once the work has begun
        self.merged: list[FrameBlock] = []
        self.oldest = 0.0
        self.silent: set[str] = set()
        self.earlier: dict[str, int] = {}  # frames in my share of the archives of earlier sessions
        self.buried: set[Link] = set()  # streams of simulations that are lost

    def run(self) -> bool:
        """Merge until every simulation has ended its stream, then end mine; whether every rank came to its end."""
        context = self.context
        self.inboxes = context.streams.inboxes(SIMULATION)
        to_training, self.to_inference = context.streams.outboxes(TO_TRAINING), context.streams.outboxes(TO_INFERENCE)
        self.outboxes, self.next_trainer = [*to_training, *self.to_inference], cycle(to_training)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.MERGING)
        observer = Leader(context)
        self.checkpoints = checkpoints = Checkpoints(context, self.snapshot)
        if context.info.resumed is not None:
            self.resume()
        with self.archive():
            while not self.finished():
                busy = [self.receive(inlet) for inlet in self.inboxes]
                self.close_lost_streams(busy)
                self.forward()
                context.plane.progress()
                self.watch()
                self.post()
                context.heartbeat()
                context.control.poll()
                checkpoints.look()
                observer.tick()
                if not any(busy):
                    context.plane.rest(IDLE_SECONDS)
            return self.finish(observer, checkpoints)

    def resume(self) -> None:
        """Restore coordinates of earlier sessions, and count my share of the frames that they have archived."""
        context = self.context
        with (
            context.heartbeat.expect_silence("recall", on_disk=True, activity=Activity.LOADING),
            context.events.span("recall") as span,
        ):
            filled = refill(context)
            span["frames"] = len(filled)
            context.plane.delivery.announce(filled)
            self.earlier = count_archived(context, self.index, len(context.layout.ranks("aggregation")))
            context.status.add(archived=sum(self.earlier.values()))
        context.log.info("%d frames of earlier sessions can be restarted from", span["frames"])
        context.status.update(now=True, activity=Activity.MERGING)

    def finished(self) -> bool:
        """Whether every simulation has ended, or the time for draining is over."""
        return all(inlet.ended for inlet in self.inboxes) or self.context.control.overdue

    @contextmanager
    def archive(self) -> Iterator[None]:
        """Keep the archive open, if there is one."""
        settings, directory = self.context.config, self.context.info.directory
        self.archived: Archive | None = None
        if settings.aggregation.archive == "none":
            yield
            return
        session = self.context.info.session
        path = directory / "frames" / archive_name(self.index, session)
        with Archive(path, settings.aggregation.archive) as self.archived:
            yield

    def receive(self, inlet: Inbox) -> bool:
        """Take one block, if there is one: archive it, keep its coordinates, merge its features."""
        payload = inlet.poll()
        if payload is None:
            return False
        with self.context.events.span("block", stream=inlet.link.name) as span:
            block = FrameBlock.unpack(payload)
            valid = self.valid_frames(block, inlet.link.name)
            if not valid.all():
                self.context.status.add(failures=int((~valid).sum()))
                block = block.take(valid)
            span["frames"] = len(block)
            if len(block):
                self.archive_block(block)
                self.oldest = self.oldest if self.merged else time.monotonic()
                self.merged.append(self.store_coordinates(block))
                self.remember_best(block)
            self.context.status.add(frames=len(block), iterations=1)
        return True

    def archive_block(self, block: FrameBlock) -> None:
        """Archive a block; none any more once the disk has refused one."""
        archived, self.archived = self.archived, None
        if archived is not None:
            with self.context.stop_on_disk_error():
                with self.context.events.counted("io"):
                    archived.append(block)
                self.context.status.add(archived=len(block))
                self.archived = archived

    def close_lost_streams(self, busy: list[bool]) -> None:
        """End the streams of lost simulations that have nothing more to give; their frames stay restart points."""
        for inlet, gave in zip(self.inboxes, busy, strict=True):
            if self.is_lost(inlet) and not gave and inlet.link not in self.buried:
                inlet.ended = True
                self.buried.add(inlet.link)
                walkers = self.context.layout.walkers(inlet.link.writer)
                self.context.log.error(
                    "%s: its rank is lost, and with it walkers %d to %d, whose frames stay restart points",
                    inlet.link.name,
                    walkers[0],
                    walkers[-1],
                )

    def is_lost(self, inlet: Inbox) -> bool:
        """Whether the writer of a stream is lost."""
        return inlet.link.writer in self.context.detector.lost

    def valid_frames(self, block: FrameBlock, stream: str) -> np.ndarray:
        """Which frames are finite and of a topology that the run has, shape (n_frames,)."""
        finite = np.isfinite(block["positions"]).all(axis=(1, 2)) & np.isfinite(block["potential_energy"])
        if not finite.all():
            self.context.log.warning("%s: %d frames are not finite: refused", stream, (~finite).sum())
        n_atoms = block["positions"].shape[1]
        ours = [t for t in np.unique(block["topology"]).tolist() if self.context.info.n_atoms_of(t) == n_atoms]
        known = np.isin(block["topology"], ours)
        if not known.all():
            self.context.log.warning(
                "%s: %d frames of %d atoms name topology %d, which the run does not have: refused",
                stream,
                (~known).sum(),
                n_atoms,
                block["topology"][~known][0],
            )
        return finite & known

    def store_coordinates(self, block: FrameBlock) -> FrameBlock:
        """Put the block's coordinates into the ring; its features, with the slots that hold them."""
        coordinates = (block[name] for name in ("positions", "velocities", "box"))
        slot, generation = self.context.plane.ring.store_all(block["walker"], *coordinates)
        return block.on(
            Hop.FEATURES,
            aggregator=np.full(len(block), self.index, np.int32),
            ring_slot=slot.astype(np.int32),
            slot_generation=generation,
        )

    def remember_best(self, block: FrameBlock) -> None:
        """Note the frame nearest the target."""
        record, rmsd = self.context.status.record, block["rmsd"]
        if np.isnan(rmsd).all():
            return
        i = int(np.nanargmin(rmsd))
        if not rmsd[i] >= record["best_rmsd"]:
            self.context.status.update(best_rmsd=rmsd[i], best_walker=block["walker"][i], best_frame=block["frame"][i])

    def forward(self, *, everything: bool = False) -> None:
        """Offer the merged features to inference and to my trainers in turn, when they are many or old enough."""
        settings = self.context.config.streams
        many = sum(len(b) for b in self.merged) >= settings.block_frames
        if self.merged and (many or everything or time.monotonic() - self.oldest > settings.block_delay):
            with self.context.events.counted("io"):
                payload = FrameBlock.concatenate(self.merged).pack(Hop.FEATURES)
            self.merged = []
            for outbox in (next(self.next_trainer), *self.to_inference):
                outbox.offer(payload)
        for outbox in self.outboxes:
            outbox.pump()

    def watch(self) -> None:
        """Mark simulations that have not been heard for long, and those heard again."""
        now, limit = monotonic(), self.context.config.aggregation.silent_after
        for inlet in self.inboxes:
            name, silent = inlet.link.name, not inlet.ended and now - inlet.heard > limit
            if silent and name not in self.silent:
                self.silent.add(name)
                self.context.log.warning("%s: silent for %.0f s", name, limit)
            elif not silent and name in self.silent:
                self.silent.discard(name)
                self.context.log.info("%s: heard again", name)

    def post(self, *, now: bool = False, **values: float) -> None:
        """Tell the board how far this rank is."""
        block = self.context.events.totals["block"]
        self.context.status.update(
            now=now, silent=len(self.silent), iteration_s=block.seconds, busy_s=block.seconds, **values
        )

    def snapshot(self) -> Part:
        """How many frames are in the archives that do not grow any more: what else I know is in mine."""
        return Part({"archived": self.earlier})

    def finish(self, observer: Leader, checkpoints: Checkpoints) -> bool:
        """Pass on what is left, end my streams, and see the run to its end if I lead it."""
        self.post(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.forward(everything=True)
        while any(len(outbox) for outbox in self.outboxes) and not self.context.control.overdue:
            self.forward()
            self.context.plane.progress()
            self.post()
            self.context.heartbeat()
            self.context.control.poll()
            observer.tick()
            time.sleep(IDLE_SECONDS)
        for outbox in self.outboxes:
            outbox.writer.close()
        for inlet in self.inboxes:
            if not self.is_lost(inlet):
                inlet.close()
        checkpoints.last()
        self.post(now=True, state=State.DONE, activity=Activity.DONE)
        self.relay_to_the_end()
        return observer.see_to_the_end()

    def relay_to_the_end(self) -> None:
        """Pass on the last records of the ranks that speak to me."""
        context = self.context
        ranks = [r for r, home in enumerate(homes(context.layout)) if home == context.rank != r]
        while not context.leads and not context.detector.have_finished(ranks) and not context.control.overdue:
            context.plane.progress()
            context.heartbeat()
            context.control.poll()
            time.sleep(IDLE_SECONDS)
        context.plane.progress(at_once=True)
