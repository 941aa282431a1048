"""Receives the frames of a program that serves IMDv3 on this host, without ever waiting for it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from itertools import count

import numpy as np

from ...errors import EngineError
from .protocol import ATOM_BYTES, GREETING_BYTES, Greeting, Kind, greeting, header

LOCAL = "127.0.0.1"
#: Below those that the system gives to outgoing connections.
PORTS = range(20_000, 32_000)
#: This many ports lie between those of processes that follow each other: walkers that start together need not collide.
PORTS_OF_A_PROCESS = 32
READ_BYTES = 1 << 20
_given = count()
#: Of frames that nobody has asked for yet: the program then waits.
MOST_BYTES = 64_000_000


def free_port() -> int:
    """A port at which a program of this host can listen; another may take it before.

    Raises
    ------
    EngineError
        If there is none.
    """
    for _ in PORTS:
        port = PORTS[(os.getpid() * PORTS_OF_A_PROCESS + next(_given)) % len(PORTS)]
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
    raise EngineError(f"no port of {PORTS.start} to {PORTS.stop - 1} is free: stop a program that uses one of them")


class Receiver:
    """The frames of one start of a program.

    Parameters
    ----------
    port
        Where it listens, once it has set up.
    n_atoms
        Of each frame.
    """

    #: What the program must send.
    needed = ("time", "positions", "velocities")

    def __init__(self, port: int, n_atoms: int):
        self._port, self._n_atoms = port, n_atoms
        self._connection: socket.socket | None = None
        self._greeting: Greeting | None = None
        # Of a frame, once the program has said what it sends.
        self._frame_bytes = 0
        self._inbox = bytearray()
        self._most_bytes = max(MOST_BYTES, 10 * ATOM_BYTES * n_atoms)

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def greeted(self) -> bool:
        """Whether the program has said what it sends."""
        return self._greeting is not None

    def poll(self) -> None:
        """Take what has come.

        Raises
        ------
        EngineError
            If it is not what is needed.
        """
        if self._connection is None:
            self._connect()
        while self._connection is not None and len(self._inbox) < self._most_bytes:
            try:
                data = self._connection.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                # Why it has ended is found by the look at its process.
                break
            self._inbox += data
        if self._greeting is None and len(self._inbox) >= GREETING_BYTES:
            self._greeting = greeting(bytes(self._inbox[:GREETING_BYTES]))
            del self._inbox[:GREETING_BYTES]
            self._frame_bytes = self._greeting.frame_bytes(self._n_atoms)
            session = self._greeting.session
            missing = [name for name in self.needed if not getattr(session, name)]
            if missing:
                raise EngineError(f"the program sends no {missing[0]} by IMD, which the engine needs")

    def first(self) -> dict[Kind, np.ndarray | tuple] | None:
        """The packets of the oldest frame that is left, in the units of the program; None if it is not complete.

        Raises
        ------
        EngineError
            If it is of other atoms.
        """
        if self._greeting is None or len(self._inbox) < self._frame_bytes:
            return None
        return self._greeting.unpack(bytes(self._inbox[: self._frame_bytes]), self._n_atoms)

    def drop(self) -> None:
        """The first frame is done with."""
        del self._inbox[: self._frame_bytes]

    def _connect(self) -> None:
        """Connect if it listens; it wants to hear at once that frames may be sent."""
        connection = socket.socket()
        try:
            connection.connect((LOCAL, self._port))
            connection.sendall(header(Kind.GO))
        except OSError:
            connection.close()
            return
        connection.setblocking(False)
        self._connection = connection
