"""A stream of MPI messages: a header with the payload's length, then the payload; length -1 ends the stream."""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

import numpy as np

from .stream import END, EndType
from .waiting import Communicator, wait_until

END_LENGTH = -1


class MessageWriter:
    """Writer by MPI point-to-point. At most `outstanding` payloads are under way; one more waits for the oldest.

    What is under way gets on whenever this rank calls MPI (MPICH needs that), which asking whether it is ready does.
    """

    def __init__(self, comm: Communicator, reader_rank: int, tag: int, outstanding: int, seconds: float):
        self._comm, self._reader, self._tag = comm, reader_rank, tag
        self._outstanding, self._seconds = outstanding, seconds
        self._sends: deque[tuple[Any, np.ndarray]] = deque()
        self._closed = False
        self.n_written = self.nbytes = 0

    @property
    def ready(self) -> bool:
        """Whether a payload can be written without waiting."""
        return self._under_way() < 2 * self._outstanding

    def write(self, payload: np.ndarray) -> None:
        """Send one payload; see :class:`.stream.Writer`."""
        wait_until(lambda: self.ready, self._seconds, f"rank {self._reader}, which reads the stream,")
        self._send(np.array([payload.nbytes], "<i8"))
        self._send(payload)
        self.n_written += 1
        self.nbytes += payload.nbytes

    def close(self) -> None:
        """Announce the end of the stream."""
        if not self._closed:
            self._closed = True
            self._send(np.array([END_LENGTH], "<i8"))

    @property
    def finished(self) -> bool:
        """Whether nothing is under way any more."""
        return self._under_way() == 0

    def free(self) -> None:
        """End; what is still under way stays for a late reader."""
        if self._sends:
            _never_free(self._sends)

    def _send(self, message: np.ndarray) -> None:
        self._sends.append((self._comm.Isend(message, dest=self._reader, tag=self._tag), message))

    def _under_way(self) -> int:
        while self._sends and self._sends[0][0].Test():
            self._sends.popleft()
        return len(self._sends)


class MessageReader:
    """Reader by MPI point-to-point."""

    def __init__(self, comm: Communicator, writer_rank: int, tag: int):
        self._comm, self._writer, self._tag = comm, writer_rank, tag
        self._closed = self.complete = self._dead = False
        # Of the message that is expected.
        self._header: np.ndarray
        self._body: np.ndarray | None
        self._request: Any
        self._expect_header()

    def poll(self) -> np.ndarray | EndType | None:
        """See :class:`.stream.Reader`."""
        payload = self._next()
        return END if self._closed else payload

    def close(self) -> None:
        """Stop reading."""
        self._closed = True

    @property
    def finished(self) -> bool:
        """Whether the writer's end has been seen; drops what comes before it."""
        while isinstance(self._next(), np.ndarray):
            pass
        return self.complete or self._dead

    def free(self) -> None:
        """Discard what never came."""
        if not self.complete:
            if not self._dead:
                self._request.Cancel()
            _never_free((self._request, self._header, self._body))

    def _next(self) -> np.ndarray | None:
        if self.complete or self._dead or not self._arrived():
            return None
        if self._body is not None:
            body = self._body
            self._expect_header()
            return body
        if self._header[0] == END_LENGTH:
            self.complete = self._closed = True
            return None
        self._body = np.empty(self._header[0], np.uint8)
        self._request = self._comm.Irecv(self._body, source=self._writer, tag=self._tag)
        return self._next()

    def _arrived(self) -> bool:
        try:
            return self._request.Test()
        except RuntimeError:  # MPI's error if the writer has died
            self._dead = self._closed = True
            return False

    def _expect_header(self) -> None:
        self._header = np.empty(1, "<i8")
        self._body = None
        self._request = self._comm.Irecv(self._header, source=self._writer, tag=self._tag)


def _never_free(messages: object) -> None:
    """Keep the memory of messages that nobody took: MPI still uses it when it ends, after Python has."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(messages))
