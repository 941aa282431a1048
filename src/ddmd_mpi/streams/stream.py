"""The interface of a stream: whole payloads in order from one writer to one reader, and an end that is a value."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, Protocol

import numpy as np


class StreamEnd(Enum):
    """Type of :data:`END`."""

    END = "end of stream"


#: What :meth:`Reader.poll` gives, again and again, once a stream has ended.
END: Final = StreamEnd.END
EndType = Literal[StreamEnd.END]


class Writer(Protocol):
    """The producing end of a stream.

    Attributes
    ----------
    n_written
        Payloads written.
    nbytes
        Bytes of these payloads.
    ready
        Whether a payload can be written without waiting.
    """

    n_written: int
    nbytes: int

    @property
    def ready(self) -> bool: ...

    def write(self, payload: np.ndarray) -> None:
        """Write one payload, uint8 of shape (n,) with n > 0; from then on it belongs to the stream."""

    def close(self) -> None:
        """Announce the end of the stream; returns at once."""


class Reader(Protocol):
    """The consuming end of a stream.

    Attributes
    ----------
    complete
        After :data:`END`: whether the writer announced it. False means that the writer died on the way.
    """

    complete: bool

    def poll(self) -> np.ndarray | EndType | None:
        """The next payload, None if there is none yet, or END; never waits."""

    def close(self) -> None:
        """Stop reading; whatever the writer still sends is dropped."""
