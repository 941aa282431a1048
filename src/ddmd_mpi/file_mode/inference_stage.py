"""The inference stage of file mode: a round on the newest frames, and the restart points of the next iteration."""

from __future__ import annotations

from contextlib import ExitStack

from ..errors import StreamError
from ..frames.command import Outcome
from ..layout.links import TO_INFERENCE, WEIGHTS
from ..monitor.status import Activity, State, StopReason, hop_counts
from ..roles.context import Context
from ..roles.selector import RestartSelector
from ..rundir.checkpoints import Part
from .frame_files import FrameFiles
from .restarts import InMemoryMailboxes, Order, Restarts
from .simulation_stage import Simulated


class InferenceStage:
    """A round of inference on the newest frames, and the restart points of the next iteration."""

    def __init__(self, context: Context, files: FrameFiles, restarts: Restarts):
        self.context = context
        self.mailboxes = InMemoryMailboxes()
        self.selector = RestartSelector(context, self.mailboxes)
        self.files = files
        self.restarts = restarts
        self.loaded = False
        # The last iteration whose frames the stop rules have seen.
        self.counted = 0
        self._records = ExitStack()

    def begin(self) -> None:
        """Open the records, once all ranks have repaired the files of their walkers; recall what they say."""
        self._records.enter_context(self.selector.open())
        for entry in self.context.info.resumed_parts("inference"):
            values = self.context.store.read_part(entry).values
            self.selector.policy.restore(values["policy"])
            if "counted" in values:
                self.counted = values["counted"]
                self.selector.stop_rules.restore(values["stop_rules"])

    def snapshot(self) -> Part:
        """The policy's random numbers and what the stop rules know as a part of a checkpoint.

        What was decided is on record.
        """
        rules = self.selector.stop_rules.state()
        return Part({"policy": self.selector.policy.state(), "stop_rules": rules, "counted": self.counted})

    def resume(self, iteration: int) -> None:
        """Continue after the last `iteration` of earlier sessions: count those that are younger than the checkpoint."""
        self.restarts.forget(iteration)
        for younger in [i for i in self.files.written if i > self.counted]:
            self.count(younger)

    def count(self, iteration: int) -> None:
        """Let the rules that may stop the run see the frames of an iteration, if there are any that need them."""
        if self.selector.stop_rules.active:
            for block in self.files.blocks(iteration):
                self.selector.stop_rules.add(block)
                self.context.heartbeat()
        self.counted = iteration

    @property
    def enough(self) -> StopReason:
        """The rule that stops the run; NONE if none does."""
        return StopReason.of(self.selector.stop_rules.reason())

    def collect(self, results: list[Simulated]) -> None:
        """Take what the ranks answered to the commands of the last iteration."""
        for rank, result in enumerate(results):
            for walker, receipt in (result.receipts or {}).items():
                self.mailboxes.answer(walker, receipt)
            if result.receipts is None:
                for walker in self.context.layout.walkers(rank):
                    self.mailboxes.refuse(walker, Outcome.FAILED)
        self.mailboxes.commands.clear()  # the rest were for walkers that do not continue
        self.selector.collect()

    def run(self, iteration: int, newest: int) -> bool:
        """One round, with the model's version `newest`; whether there are restart points for `iteration`."""
        context = self.context
        if self.selector.policy.needs_model:
            self.follow(newest)
        commanded = False
        if self.selector.ready:
            window = self.files.window(self.selector.settings.window_frames, context.events)
            context.status.update(window=len(window))
            context.heartbeat()
            context.status.add(**hop_counts(TO_INFERENCE, bytes=window.nbytes, blocks=1))
            if len(window):
                self.selector.round(window.block())
                commanded = self.write(iteration)
        elif self.selector.settings.strategy != "none":
            context.log.info("no model yet: all walkers continue in iteration %d", iteration)
        context.status.update(now=True, activity=Activity.WAITING)
        return commanded

    def follow(self, newest: int) -> None:
        """Go over to the newest version of the model; the model is made for the first one."""
        if newest and not self.loaded:
            self.loaded = True
            self.context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
            with self.context.events.span("start"):
                self.selector.load()
        if self.selector.embedding is not None and newest > self.selector.embedding.version:
            with self.context.events.span("io", version=newest):
                weights = self.selector.load_version(newest)
            if weights is not None:
                self.context.status.add(**hop_counts(WEIGHTS, bytes=sum(a.nbytes for a in weights.arrays), blocks=1))

    def write(self, iteration: int) -> bool:
        """Write the restart points of `iteration`; whether there are any."""
        orders = []
        with self.context.events.span("io", iteration=iteration):
            for walker, command in list(self.mailboxes.commands.items()):
                frame = command.slot_generation, command.source_walker, command.ring_slot
                try:
                    orders.append(Order(walker, command, self.files.segments.coordinates(*frame)))
                except StreamError as error:
                    self.context.log.warning("decision %d is stale: %s", command.decision, error)
                    self.mailboxes.refuse(walker, Outcome.STALE)
            if orders:
                self.context.status.add(bytes=self.restarts.write(iteration, orders), blocks=1)
        self.selector.collect()
        return bool(orders)

    def end(self) -> None:
        """Close the records."""
        self._records.close()
