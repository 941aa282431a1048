"""Tests who answers at an address: a listener on every host, and a probe that connects to the listeners of others.

A listener answers each connection with its token. So an address that leads to another machine, or back to the host that
asks, such as the bridge of a container runtime, is distinguished from one that leads to the host in question.
"""

from __future__ import annotations

import errno
import os
import random
import secrets
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ..errors import StreamError
from .waiting import PAUSE

TOKEN_BYTES = 16
#: Connections that may wait to be answered; the kernel may allow fewer (net.core.somaxconn).
BACKLOG = 4096
PORT_RANGE = "ADIOS2_PORT_RANGE"
#: Connections that one process tries at a time: it may be allowed no more than 1024 descriptors.
MAX_AT_ONCE = 256
TIMED_OUT = "timed out"
Target = tuple[str, int]


class Listener:
    """Answers with a token of its own, on all addresses of this host, on a port such as SST would use.

    Parameters
    ----------
    address
        Where to listen; empty: on every address.
    ports
        Empty for any, or ``LOW:HIGH``, as in the variable ``ADIOS2_PORT_RANGE``.

    Raises
    ------
    StreamError
        If no port is free.
    """

    def __init__(self, address: str = "", ports: str = ""):
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._socket = _bound(address, ports)
        self._socket.listen(BACKLOG)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def answer(self) -> None:
        """Answer every connection that waits."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # none waits, or the one that did has gone
                return
            with connection:
                connection.setblocking(False)
                try:
                    connection.send(self.token)
                except OSError:  # it has gone
                    continue


def probe(
    targets: Iterable[Target], seconds: float, meanwhile: Callable[[], None], enough: Callable[[Mapping], bool]
) -> dict[Target, bytes | str]:
    """Connect to all targets, :data:`MAX_AT_ONCE` at a time.

    Parameters
    ----------
    targets
        Address and port of each, those first that matter most.
    seconds
        How long to wait for each.
    meanwhile
        Called while waiting.
    enough
        Given the answers so far: whether to stop earlier.

    Returns
    -------
    dict
        The token that each target gave, or in words why it gave none.
    """
    answers: dict[Target, bytes | str] = {}
    to_come, deadlines = deque(targets), dict[Target, float]()
    with selectors.DefaultSelector() as waiting:
        while (to_come or waiting.get_map()) and not enough(answers):
            while to_come and len(waiting.get_map()) < MAX_AT_ONCE:
                target = to_come.popleft()
                deadlines[target] = time.monotonic() + seconds
                _connect(target, waiting, answers)
            meanwhile()
            for target, one in [key.data for key, _ in waiting.select(PAUSE)]:
                answers[target] = _token(one)
                _end(one, waiting)
            for target, one in [key.data for key in waiting.get_map().values()]:
                if deadlines[target] < time.monotonic():
                    answers[target] = TIMED_OUT
                    _end(one, waiting)
        for _, one in [key.data for key in waiting.get_map().values()]:
            _end(one, waiting)
    return {target: TIMED_OUT for target in (*deadlines, *to_come)} | answers


def _end(one: socket.socket, waiting: selectors.BaseSelector) -> None:
    waiting.unregister(one)
    one.close()


def _connect(target: Target, waiting: selectors.BaseSelector, answers: dict[Target, bytes | str]) -> None:
    """Start to connect; what fails at once is an answer."""
    try:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:  # too many open files
        answers[target] = _words(error.errno)
        return
    one.setblocking(False)
    code = one.connect_ex(target)
    if code in (0, errno.EINPROGRESS):
        waiting.register(one, selectors.EVENT_READ, (target, one))
    else:
        answers[target] = _words(code)
        one.close()


def _token(connection: socket.socket) -> bytes | str:
    """What a connection that can be read, or has failed, says."""
    try:
        token = connection.recv(TOKEN_BYTES)
    except OSError as error:
        return _words(error.errno)
    return token if len(token) == TOKEN_BYTES else "another program answers"


def _words(code: int | None) -> str:
    return os.strerror(code or errno.EIO).lower()


def _bound(address: str, ports: str) -> socket.socket:
    """A socket on a free port."""
    low, _, high = ports.partition(":")
    numbers = sorted(map(int, (low, high))) if low.isdigit() and high.isdigit() else [0, 0]
    among = list(range(numbers[0], numbers[1] + 1))
    random.shuffle(among)
    for port in among:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            one.bind((address, port))
        except (OSError, OverflowError):
            one.close()
            continue
        return one
    raise StreamError(f"no TCP port is free{f' in {PORT_RANGE}={ports}' if ports else ''}; free some")
