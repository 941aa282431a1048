"""Starting TensorFlow: its environment, threads and memory, and a lean import."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

from ..environ import without
from ..errors import ModelError

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
    with without(*UNUSED_BY_KERAS), settings_of_keras():
        import keras
    if keras.config.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs already, on {keras.config.backend()}: open the model in a separate process, or "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    import tensorflow as tf

    # Where Keras runs already it has its user's settings; the models are written for these.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")

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
def settings_of_keras() -> Iterator[None]:
    """Let Keras read no settings of its user, from ``keras.json`` or the environment, when it is imported here."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("KERAS_")}
    for name in kept:
        del os.environ[name]
    os.environ.update({"KERAS_BACKEND": "tensorflow", "KERAS_HOME": f"{os.devnull}/keras"})
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        os.environ.update({name: value for name, value in kept.items() if name != "KERAS_BACKEND"})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the layers made in this block draw their seeds from `seed`.

    Keras takes them from Python's own generator, whose state is restored afterwards.
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
