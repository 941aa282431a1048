"""Memory or a device that fails a model: an error that a run survives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ModelError


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
    try:
        yield
    except (*kinds, MemoryError) as error:
        raise ModelError(f"training.model {name} failed: {str(error).splitlines()[0]}; where memory is short, lower "
                         "training.batch_size or training.window_frames") from error
