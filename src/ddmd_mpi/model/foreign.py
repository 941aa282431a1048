"""Guards a model of a third party: its faults must not end a run whose simulations work."""

from __future__ import annotations

import json
import logging
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ..config.imports import described
from ..errors import DDMDError, ModelError
from ..frames.block import FrameBlock
from ..monitor.status import DataParallel
from .interface import Model, Round, Setup, Supervisor

T = TypeVar("T")

log = logging.getLogger("ddmd_mpi")


class Guarded(Model):
    """Exceptions of the model become a ModelError, and its results are checked.

    The frames that it is given cannot be written to: they are the run's own.
    """

    def __init__(self, found: type[Model], setup: Setup):
        self._name = setup.settings.model
        self._model = self._call(found.__name__, lambda: found(setup))
        self.n_latent, self.architecture, self.data_parallel = self._call("its attributes", self._attributes)

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """One round; one that fails leaves no trace, and one whose losses are not finite is never an accepted one."""
        before = self.state()
        try:
            result = self._call("train", lambda: plain(self._model.train(read_only(block), supervisor)))
        except DDMDError:
            self.restore(before)
            raise
        if result.accepted and not (math.isfinite(result.loss) and math.isfinite(result.validation_loss)):
            return replace(result, accepted=False, reason="the loss is not finite")
        return result

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents, shape (n_frames, n_latent), float32."""
        with np.errstate(over="ignore"):
            latents = self._call("embed", lambda: np.asarray(self._model.embed(read_only(block)), np.float32))
        if latents.shape != (len(block), self.n_latent):
            raise self._error(f"latents of shape {(len(block), self.n_latent)} were expected (got {latents.shape})")
        if not np.isfinite(latents).all():
            raise self._error("its latents are not finite")
        return latents

    def weights(self) -> list[np.ndarray]:
        """Copies of the weights, which must be finite numbers."""
        arrays = self._call("weights", lambda: [np.array(a) for a in self._model.weights()])
        for i, array in enumerate(arrays):
            if array.dtype.kind not in "biuf":
                raise self._error(f"its weights must be arrays of numbers (got {array.dtype} for number {i})")
            if not np.isfinite(array).all():
                raise self._error(f"its weights are not finite (number {i})")
        return arrays

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take weights."""
        self._call("load", lambda: self._model.load([np.array(a) for a in arrays]))

    def state(self) -> list[np.ndarray]:
        """Copies of the weights and of the optimiser's state."""
        return self._call("state", lambda: [np.array(a) for a in self._model.state()])

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Restore a :meth:`state`."""
        self._call("restore", lambda: self._model.restore(arrays))

    def free(self) -> None:
        """Give back what lies outside Python; that this fails ends no run."""
        try:
            self._call("free", self._model.free)
        except ModelError as error:
            log.warning("%s", error)

    def _attributes(self) -> tuple[int, dict[str, Any], str]:
        """What the model says of itself."""
        n_latent = operator.index(self._model.n_latent)
        if n_latent < 1:
            raise ValueError(f"n_latent must be at least 1 (got {n_latent})")
        ways = [way.word for way in DataParallel]
        if self._model.data_parallel not in ways:
            raise ValueError(f"data_parallel must be one of {', '.join(ways)}")
        return n_latent, json.loads(json.dumps(dict(self._model.architecture))), self._model.data_parallel

    def _call(self, what: str, function: Callable[[], T]) -> T:
        """The result of foreign code; the log has the traceback of what it raises."""
        try:
            return function()
        except DDMDError:
            raise
        except (Exception, SystemExit) as error:
            log.info("training.model %s failed in %s", self._name, what, exc_info=True)
            raise ModelError(f"training.model {self._name} failed in {what}: {described(error)}") from error

    def _error(self, sentence: str) -> ModelError:
        return ModelError(f"training.model {self._name}: {sentence}")


def plain(result: Round) -> Round:
    """The round in Python's own numbers, which JSON can hold."""
    if not isinstance(result, Round):
        raise TypeError(f"a Round must be returned (got {type(result).__name__})")
    return Round(
        int(result.epochs),
        int(result.samples),
        float(result.loss),
        float(result.validation_loss),
        bool(result.accepted),
        bool(result.stopped),
        str(result.reason),
        tuple(result.history),
    )


def read_only(block: FrameBlock) -> FrameBlock:
    """Views of the columns that cannot be written to."""
    views = {name: column.view() for name, column in block.columns.items()}
    for view in views.values():
        view.flags.writeable = False
    return FrameBlock(views)
