"""Sums of TensorFlow's gradients over the ranks that train together: by Horovod or MPI."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Literal

import numpy as np
import tensorflow as tf

from ..errors import ModelError
from .ranks import Ranks

WITHOUT_HOROVOD = (
    "%d ranks train together and Horovod cannot be loaded (%s): gradients are summed by MPI instead; "
    "make horovod installs it"
)

#: How often the ranks' threads meet where steps take long, ms. Horovod's own 1 ms costs each rank a part of its core.
CPU_CYCLE_MS = "10"


class Sum(AbstractContextManager):
    """The sums of lists of tensors over the ranks. Sums are to be had inside a ``with`` that all ranks enter."""

    @abstractmethod
    def __call__(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """The sum of each tensor."""

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""


class Alone(Sum):
    """What one rank sums."""

    def __call__(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        return tensors


class OverHorovod(Sum):
    """Sums by Horovod, which has a thread and a communicator of its own for them.

    The threads of all ranks meet about every millisecond, and whichever is early waits for the others without
    sleeping: half of a core, though nothing is summed. So they are started for a round (3 ms) and not for a run.
    """

    def __init__(self, hvd: ModuleType, ranks: Ranks):
        self._hvd, self._comm = hvd, ranks.comm

    def __enter__(self) -> OverHorovod:
        if not tf.config.get_visible_devices("GPU"):
            os.environ.setdefault("HOROVOD_CYCLE_TIME", CPU_CYCLE_MS)
        self._hvd.init(comm=self._comm)
        return self

    def __exit__(self, *_: object) -> None:
        self._hvd.shutdown()

    def __call__(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        return self._hvd.grouped_allreduce(tensors, op=self._hvd.Sum)


class OverMpi(Sum):
    """Sums of one joined buffer by the ranks' own communicator."""

    def __init__(self, ranks: Ranks):
        self._ranks = ranks

    def __call__(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        sizes = [t.shape.num_elements() for t in tensors]
        joined = tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)
        total = tf.numpy_function(self._total, [joined], tf.float32)
        parts = tf.split(tf.ensure_shape(total, [sum(sizes)]), sizes)
        return [tf.reshape(part, t.shape) for part, t in zip(parts, tensors, strict=True)]

    def _total(self, joined: np.ndarray) -> np.ndarray:
        return self._ranks.total(joined)


def connect(ranks: Ranks, wanted: Literal["auto", "horovod", "mpi"], log: logging.Logger) -> tuple[str, Sum]:
    """The means by which the ranks sum their gradients, and its name for ``summary.json``.

    Collective over the ranks.

    Raises
    ------
    ModelError
        If Horovod is wanted by name and cannot be loaded.
    """
    if ranks.size == 1:
        return "none", Alone()
    hvd, fault = (None, "") if wanted == "mpi" else load_horovod()
    n_without = ranks.total(np.array(float(hvd is None)))
    if hvd is not None and not n_without:
        return "horovod", OverHorovod(hvd, ranks)
    fault = fault or "it can be loaded on this rank, but not on another"
    if wanted == "horovod":
        raise ModelError(f"Horovod cannot be loaded ({fault}): run make horovod, or set training.data_parallel to auto")
    if wanted == "auto" and ranks.rank == 0:
        log.warning(WITHOUT_HOROVOD, ranks.size, fault)
    return "mpi", OverMpi(ranks)


def load_horovod() -> tuple[ModuleType | None, str]:
    """Horovod for TensorFlow, or None and why it cannot be used."""
    try:
        import horovod.tensorflow as hvd
    except (ImportError, tf.errors.OpError) as error:  # OpError: it was built against another TensorFlow
        return None, str(error).partition("\n")[0]
    return (hvd, "") if hvd.mpi_built() else (None, "it was built without MPI")
