"""The inference role: embed the window, find the rare conformations, decide who restarts where."""

from __future__ import annotations

import time

import numpy as np

from ..clock import monotonic
from ..frames.block import FrameBlock, Hop
from ..frames.command import CommandKind, RestartCommand
from ..frames.window import FrameWindow, inference_frames
from ..layout.links import TO_INFERENCE, WEIGHTS
from ..model.versions import found
from ..monitor.status import Activity, State, StopReason
from ..rundir.checkpoints import Part
from .checkpoint import Checkpoints
from .context import IDLE_SECONDS, StreamContext
from .restore_ring import KEYS, Place, assign_slots, drop_missing, places
from .selector import RestartSelector

#: The first round after a resume waits so long for aggregators that search the archives of earlier sessions.
RECALL_SECONDS = 60.0
#: Walkers that wait for a round get one after this long without a frame: the others have ended.
QUIET_SECONDS = 10.0


class Inference:
    """One inference rank."""

    def __init__(self, context: StreamContext):
        self.context = context
        self.selector = RestartSelector(context, context.mailboxes)
        self.checkpoints: Checkpoints | None = None  # once the work has begun
        self.round_frames, n_frames = inference_frames(context.config, context.layout.n_walkers)
        self.window = FrameWindow(n_frames)
        self.fresh = 0
        self.heard = monotonic()  # when the last frame came
        self.moving = set(range(context.layout.n_walkers))  # walkers that give frames for the next round
        self.seen: set[int] = set()  # those that have given some
        self.held: set[int] = set()  # walkers that wait to be told to continue
        self.stopped = False
        self.recalled: set[Place] = set()  # of the frames of an earlier session, until it is known who has them
        self.filled: dict[int, set[tuple[int, int]]] = {}  # what each aggregator has found of them
        self.recall_due = monotonic() + RECALL_SECONDS
        self.resume()

    def run(self) -> None:
        """Decide a round whenever every walker has reported often enough, until the streams end."""
        context, directory = self.context, self.context.info.directory
        self.inboxes = context.streams.inboxes(TO_INFERENCE)
        (self.weights_inlet,) = context.streams.inboxes(WEIGHTS)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.WAITING)
        newest = context.info.resumed is not None and any(found(directory / "models"))
        if self.selector.policy.needs_model and (newest or not context.config.steering.instant_model):
            self.start_model()
        self.checkpoints = checkpoints = Checkpoints(context, self.snapshot)
        with self.selector.open():
            if len(self.window):
                self.selector.stop_rules.follow(self.window.block())
            while not self.ended():
                moved = self.drain()
                self.selector.collect()
                checkpoints.look()
                self.stop_if_enough()
                self.release()
                if self.due():
                    self.round()
                elif not moved:
                    context.status.update(activity=Activity.WAITING)
                    time.sleep(IDLE_SECONDS)
            self.finish()
        checkpoints.last()

    def round(self) -> None:
        """Decide a round, as far as anything can be decided yet."""
        self.fresh = 0
        self.moving, self.seen = self.seen, set()
        restarts = []
        if self.selector.ready:
            self.drop_missing()
            with self.context.stop_on_disk_error():
                restarts = self.selector.round(self.window.block())
        if self.context.config.paced:
            self.held = set(range(self.context.layout.n_walkers)) - {restart.walker for restart in restarts}

    def release(self) -> None:
        """Tell walkers that wait for a round and are not restarted by it to continue; not before an earlier receipt."""
        if self.stopped:
            return
        for walker in self.held - self.selector.tracker.commanded:
            self.context.mailboxes.send(walker, RestartCommand(CommandKind.CONTINUE, -1, time.time()))
            self.held.discard(walker)

    def snapshot(self) -> Part:
        """The window and the policy's random numbers as a part of a checkpoint; what was decided is on record."""
        arrays: dict[str, np.ndarray] = {}
        if len(self.window):
            block = self.window.block()
            arrays = {"window": block.pack(Hop.FEATURES), **{name: block[name] for name in KEYS}}
        selector = self.selector
        values = {"fresh": self.fresh, "policy": selector.policy.state(), "stop_rules": selector.stop_rules.state()}
        return Part(values, arrays)

    def resume(self) -> None:
        """Continue with the window of an earlier session, whose coordinates the aggregators restore."""
        for entry in self.context.info.resumed_parts("inference"):
            part = self.context.store.read_part(entry)
            if not self.context.config.paced:  # walkers that wait for rounds begin one
                self.fresh = part.values["fresh"]
            self.selector.policy.restore(part.values["policy"])
            if "stop_rules" in part.values:
                self.selector.stop_rules.restore(part.values["stop_rules"])
            if "window" in part.arrays:
                block = FrameBlock.unpack(part.arrays["window"])
                marked = assign_slots(block, self.context.plane.ring)
                self.window.append(marked)
                self.recalled = set(places(marked))

    def drop_missing(self) -> None:
        """Before the first round after an earlier session: leave out coordinates that nobody has found again."""
        if self.recalled:
            block, self.recalled = drop_missing(self.window.block(), self.recalled, self.filled), set()
            self.window = FrameWindow(self.window.capacity)
            self.window.append(block)

    def ended(self) -> bool:
        """Whether every stream has ended, or the time for draining is over."""
        return all(inlet.ended for inlet in (*self.inboxes, self.weights_inlet)) or self.context.control.overdue

    def drain(self) -> bool:
        """Take every block of features and the newest weights that have arrived."""
        moved = False
        for inlet in self.inboxes:
            for payload in inlet.arrived():
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.fresh += len(block)
                self.heard = monotonic()
                self.seen |= set(block["walker"].tolist())
                self.selector.stop_rules.add(block)
                moved = True
                self.context.heartbeat()
        newest = None
        while (weights := self.weights_inlet.poll()) is not None:
            newest = weights
        if newest is not None and self.can_embed():
            self.selector.load_payload(newest)
        self.context.plane.progress()
        self.context.status.update(window=len(self.window))
        self.context.heartbeat()
        self.context.control.poll()
        return moved

    def can_embed(self) -> bool:
        """Whether there is a model to embed with; it is made for the first version, while there is time to use it."""
        if (
            self.selector.embedding is None
            and self.selector.policy.needs_model
            and not self.selector.unmade
            and not self.context.control.over
        ):
            self.start_model()
        return self.selector.embedding is not None

    def start_model(self) -> None:
        """Make the model that embeds: its library takes seconds to start."""
        self.context.status.update(now=True, activity=Activity.LOADING)
        with self.context.events.span("start"):
            self.selector.load()

    def due(self) -> bool:
        """Whether a round can be decided: enough new frames, time left to act, and a model if one is needed.

        Walkers that wait for a round get one without decisions if there is no model yet.
        """
        paced = self.context.config.paced
        needed = self.round_frames
        if paced:
            moving = (self.moving | self.seen) - set(self.context.detector.lost_walkers)
            quiet = monotonic() > self.heard + QUIET_SECONDS
            needed = 1 if quiet else len(moving) * self.context.config.round_reports
        enough = self.fresh >= max(needed, 1) and not self.awaits_places()
        return (self.selector.ready or paced) and not self.stopped and enough and not self.context.control.over

    def awaits_places(self) -> bool:
        """Whether an aggregator has still to tell which frames of an earlier session it has found, and has time to."""
        if self.recalled:
            self.filled |= self.context.plane.delivery.announced()
        told = len(self.filled) == len(self.context.layout.ranks("aggregation"))
        return bool(self.recalled) and not told and monotonic() < self.recall_due

    def stop_if_enough(self) -> None:
        """Stop the run once a rule says so: at the target walkers at once, and then training."""
        rules = self.selector.stop_rules
        if self.stopped or not (word := rules.reason()):
            return
        self.stopped = True
        reason = StopReason.of(word)
        self.context.log.info("%s after %g ns of all walkers: stopping", reason.word, rules.ns)
        for walker in range(self.context.layout.n_walkers) if reason is StopReason.TARGET_RMSD else ():
            self.context.mailboxes.send(walker, RestartCommand(CommandKind.STOP, -1, time.time()))
        self.context.control.tell(reason)

    def finish(self) -> None:
        """Take the last receipts and close."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.selector.collect()
        for inlet in (*self.inboxes, self.weights_inlet):
            inlet.close()
