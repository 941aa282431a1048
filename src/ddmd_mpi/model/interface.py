"""What training and inference ask of a model: the base class of the built-in models and of anyone's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config.schema import TrainingSection
from ..errors import ModelError
from ..frames.block import FrameBlock
from .ranks import Ranks


@dataclass(frozen=True)
class Losses:
    """Means over frames, in the model's own unit."""

    loss: float
    terms: dict[str, float] = field(default_factory=dict)  # what the loss is made of


@dataclass(frozen=True)
class Epoch:
    """One pass over the training frames of all ranks."""

    training: Losses
    validation: Losses
    started: float  # Unix time, s
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether both losses are."""
        return bool(np.isfinite([self.training.loss, self.validation.loss]).all())


@dataclass(frozen=True)
class Round:
    """What a round of training came to.

    The losses are those of the epoch whose weights were kept, NaN if none was finished.
    """

    epochs: int  # finished ones
    samples: int  # training frames that this rank has seen, over all epochs
    loss: float
    validation_loss: float
    accepted: bool  # False: the model has the weights and the optimiser that it had before the round
    stopped: bool = False
    reason: str = ""  # why it was not accepted
    history: tuple[Epoch, ...] = ()


class Supervisor:
    """Whom a round reports to while it lasts; this one lets it continue."""

    def between_batches(self) -> bool:
        """Called between two batches, and seldom enough not to matter; True asks the round to end."""
        return False

    def epoch(self, epoch: Epoch) -> None:
        """Called after every epoch."""


@dataclass(frozen=True)
class Setup:
    """What a model is made from.

    Parameters
    ----------
    settings
        The section [training]; its table ``options`` is the model's own.
    n_residues
        Descriptor atoms of a frame.
    seed
        Of the first weights, the splits and every noise.
    threads
        Threads that the model's library may use.
    gpu
        Index among the GPUs that this process sees; None for the CPU.
    ranks
        The ranks that train together; alone for inference.
    """

    settings: TrainingSection
    n_residues: int
    seed: int = 0
    threads: int = 1
    gpu: int | None = None
    ranks: Ranks = field(default_factory=Ranks)


class Model(ABC):
    """A model that embeds frames. A subclass is made as ``Class(setup)``, on every training and inference rank.

    Attributes
    ----------
    n_latent
        Dimensions of the latents.
    architecture
        What must be equal for two models to exchange weights; what JSON can hold.
    data_parallel
        How the ranks that train together exchange gradients: "horovod", "mpi" or "none".
    """

    n_latent: int
    architecture: dict[str, Any]
    data_parallel: str = "none"

    def __init__(self, setup: Setup):  # noqa: B027 - a subclass need not call it
        pass

    @abstractmethod
    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """One round on the frames of `block`. Collective over the ranks that train together."""

    @abstractmethod
    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of the frames of `block`, shape (n_frames, n_latent), float32."""

    @abstractmethod
    def weights(self) -> list[np.ndarray]:
        """Copies of all that :meth:`embed` and a further round need, but for the optimiser's state."""

    @abstractmethod
    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture; a ModelError for any other."""

    def state(self) -> list[np.ndarray]:
        """Copies of the weights and of the optimiser's state."""
        return self.weights()

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Restore a :meth:`state`."""
        self.load(arrays)

    def free(self) -> None:  # noqa: B027 - most models have nothing to release
        """Give back what lies outside Python. Collective over the ranks that train together."""


@contextmanager
def resources(name: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a library raises when memory or a device fails it into a ModelError.

    Parameters
    ----------
    name
        The model.
    kinds
        The library's errors; MemoryError is always one.
    """
    failures: tuple[type[Exception], ...] = (*kinds, MemoryError)
    try:
        yield
    except failures as error:
        raise ModelError(
            f"training.model {name} failed: {str(error).splitlines()[0]}; if memory is short, lower "
            "training.batch_size or training.window_frames"
        ) from error
