"""The training stage of file mode: a round on the newest frames."""

from __future__ import annotations

from collections.abc import Callable

from ..layout.links import TO_TRAINING
from ..model import ModelWeights
from ..monitor.status import Activity, State, hop_counts
from ..roles.context import Context
from ..roles.trainer import Trainer
from ..rundir.checkpoints import Part
from .frame_files import FrameFiles


class TrainingStage:
    """A round of training on the newest frames, of which each of the ranks that train together reads a share."""

    def __init__(self, context: Context, files: FrameFiles, meanwhile: Callable[[], object]):
        self.context = context
        self.trainer = Trainer(context, self.between_batches, self.publish)
        self.files = files
        self.meanwhile = meanwhile
        self.loaded = False

    def run(self) -> None:
        """One round; the model is made in the first one. Collective over the ranks that train."""
        context = self.context
        if not self.loaded:
            self.loaded = True
            context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
            with context.events.span("start"):
                self.trainer.load()
        if self.trainer.model is not None:
            self.trainer.window = self.files.window(
                context.config.training.window_frames, context.events, context.comm.rank, context.comm.size
            )
            context.status.update(window=len(self.trainer.window))
            context.heartbeat()
            context.status.add(**hop_counts(TO_TRAINING, bytes=self.trainer.window.nbytes, blocks=1))
            if min(context.comm.allgather(len(self.trainer.window))):
                self.trainer.round()
        context.status.update(now=True, activity=Activity.WAITING)

    def between_batches(self) -> bool:
        """Whether the time is up."""
        self.context.heartbeat()
        self.meanwhile()
        return self.context.control.poll()

    def publish(self, weights: ModelWeights) -> bool:
        """Save a version of the model, which inference reads in its stage."""
        self.trainer.versions.save(weights)
        return True

    def snapshot(self) -> Part:
        """The model as a part of a checkpoint."""
        return self.trainer.snapshot()

    def end(self) -> None:
        """Give the model back."""
        if self.trainer.model is not None:
            self.trainer.model.free()
