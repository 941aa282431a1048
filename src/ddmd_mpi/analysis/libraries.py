"""Libraries of the extra ``analysis``, which only some functions need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError


@contextmanager
def needed(why: str) -> Iterator[None]:
    """Turn the error of an import inside into an InputError that says why the library is needed."""
    try:
        yield
    except ImportError as error:
        raise InputError(f"{why} ({error}): pip install 'ddmd-mpi[analysis]'") from error
