"""Starting TensorFlow: its environment, threads and memory, and a lean import."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

from ..lean import hidden

log = logging.getLogger("ddmd_mpi")

#: Keras imports these for parts that no model here uses; without them the import takes a third less time and memory.
UNUSED_BY_KERAS = ("sklearn", "matplotlib", "pandas", "torch")


def start(threads: int, gpu: int | None) -> None:
    """Import TensorFlow and Keras, pinned to `threads` threads and to one GPU, whose memory is taken as it is needed.

    Parameters
    ----------
    threads
        Threads of one operation.
    gpu
        Index among the GPUs that this process sees; None for the CPU.

    Where TensorFlow runs already it keeps the threads and devices that it has.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with hidden(*UNUSED_BY_KERAS):
        import keras  # noqa: F401
    import tensorflow as tf

    mine = [] if gpu is None else tf.config.list_physical_devices("GPU")[gpu : gpu + 1]
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices(mine, "GPU")
        for device in mine:
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError as error:
        log.warning("TensorFlow runs already: %s", error)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the layers made in this block draw their seeds from `seed`: Keras takes them from Python's own generator,
    which goes on afterwards as if nothing had been.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def has_bfloat16(gpu: int) -> bool:
    """Whether a GPU is made for bfloat16, which needs no scaling of losses: NVIDIA's of capability 8 and later."""
    import tensorflow as tf

    device = tf.config.list_physical_devices("GPU")[gpu : gpu + 1]
    return bool(device) and tf.config.experimental.get_device_details(device[0]).get("compute_capability", (0,))[0] >= 8
