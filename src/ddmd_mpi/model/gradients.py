"""Sums of TensorFlow's gradients over the ranks that train together: by Horovod, else by MPI."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from ..errors import ModelError
from .ranks import Ranks

Sum = Callable[[list[tf.Tensor]], list[tf.Tensor]]
WITHOUT_HOROVOD = "%d ranks train together and Horovod is not installed (%s): gradients are summed by MPI instead; " \
                  "make horovod installs it"


def alone(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """What one rank sums."""
    return tensors


class OverHorovod:
    """Sums by Horovod, which overlaps them with MPI of its own on the communicator of the ranks."""

    def __init__(self, ranks: Ranks):
        import horovod.tensorflow as hvd

        self._hvd = hvd
        hvd.init(comm=ranks.comm)

    def __call__(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        return self._hvd.grouped_allreduce(tensors, op=self._hvd.Sum)

    def free(self) -> None:
        """Stop Horovod's thread. Collective over the ranks."""
        self._hvd.shutdown()


class OverMpi:
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

    def free(self) -> None:
        """Nothing is left."""


def connect(
    ranks: Ranks, wanted: Literal["auto", "horovod", "mpi"], log: logging.Logger
) -> tuple[str, Sum | OverHorovod | OverMpi]:
    """The means by which the ranks sum their gradients: its name for ``summary.json``, and the function.

    Collective over the ranks.

    Raises
    ------
    ModelError
        If Horovod is wanted by name and cannot be loaded.
    """
    if ranks.size == 1:
        return "none", alone
    if wanted == "mpi":
        return "mpi", OverMpi(ranks)
    try:
        return "horovod", OverHorovod(ranks)
    except ImportError as error:
        if wanted == "horovod":
            raise ModelError(f"Horovod cannot be loaded ({error}): run make horovod, or set "
                             "training.data_parallel to auto") from error
        log.warning(WITHOUT_HOROVOD, ranks.size, error)
        return "mpi", OverMpi(ranks)
