"""Serves the walkers of a rank, or of a run directory, to programs that show or analyse them: IMDv3 over TCP.

A thread of its own talks with the clients, so that none delays a walker: a frame is handed over, and that is all.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock, Thread

from ...errors import ConfigError, EngineError
from .protocol import FORCE_BYTES, HEADER, Frame, Kind, Session, handshake, pack

#: Frames that wait for a slow client; the oldest are dropped.
WAITING_FRAMES = 16
#: Frames of so many atoms are sent at once: packing larger ones would delay the walker.
AT_ONCE_ATOMS = 10_000
#: A client has so long to say that it is ready, or to take a part of what is sent.
PATIENCE_SECONDS = 60.0
#: Between two checks for clients that have stalled, if there are any.
LOOK_SECONDS = 1.0
#: Pause after a client that cannot be welcomed.
REFUSED_SECONDS = 0.1
#: What a client may say at once: forces to apply, which are not applied.
MOST_ATOMS = 10_000_000
READ_BYTES = 65_536
#: Commands that change nothing here: the run waits for nobody.
IGNORED = (Kind.WAIT, Kind.IO_ERROR)
#: That a client has gone, or cannot be understood, or that a frame cannot be packed for it.
SENDING_ERRORS = (OSError, EngineError, OverflowError, ValueError, struct.error)


class Client:
    """A connected client of one walker.

    Attributes
    ----------
    ready
        Whether it has asked for frames, and has not paused.
    frames
        Those that wait for it.
    pending
        What is left of the frame that is being sent.
    broken
        Whether sending has failed.
    """

    def __init__(self, connection: socket.socket, session: Session, version: int):
        self.connection, self.ready, self.broken = connection, False, False
        self.frames: deque[Frame] = deque(maxlen=WAITING_FRAMES)
        self.pending = memoryview(handshake(session, version))
        self._session, self._version = session, version
        self._inbox = bytearray()
        self._skip, self._every, self._seen = 0, 1, 0
        self._n_atoms: int | None = None
        # When it last took something, or owed nothing.
        self._took = time.monotonic()
        self._asked = False

    def offer(self, frame: Frame) -> None:
        """A new frame, if it wants one."""
        self._seen += 1
        if self.ready and self._seen % self._every == 0:
            self.frames.append(frame)

    def send(self) -> None:
        """Send as much as it takes now.

        Raises
        ------
        OSError
            If it is gone.
        EngineError
            If its session must end because the walker has other atoms now.
        """
        while self.pending or self.frames:
            if not self.pending:
                self.pending = memoryview(self._packed(self.frames.popleft()))
            try:
                sent = self.connection.send(self.pending)
            except BlockingIOError:
                return
            self.pending = self.pending[sent:]
            self._took = time.monotonic()

    def check(self) -> None:
        """Raise an EngineError if it takes or asks for nothing for so long that another may have its place."""
        if self._asked and not self.pending:
            self._took = time.monotonic()
        if time.monotonic() - self._took > PATIENCE_SECONDS:
            raise EngineError(f"it has read nothing for {PATIENCE_SECONDS:g} s")

    def receive(self, begin: Callable[[], None]) -> None:
        """Hear what it says; `begin` is called once it is ready.

        Raises
        ------
        OSError
            If it is gone.
        EngineError
            If it leaves, wants to end the run, or says what nobody understands.
        """
        try:
            data = self.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise EngineError("it has left")
        self._inbox += data
        while True:
            skipped = min(self._skip, len(self._inbox))
            del self._inbox[:skipped]
            self._skip -= skipped
            if self._skip or len(self._inbox) < HEADER.size:
                return
            kind, count = HEADER.unpack_from(self._inbox)
            del self._inbox[: HEADER.size]
            self._answer(kind, count, begin)

    def _answer(self, kind: int, count: int, begin: Callable[[], None]) -> None:
        """Do what a command says, as far as it concerns nobody else."""
        if kind == Kind.GO:
            self._asked = True
            begin()
        elif kind == Kind.PAUSE:
            # It is a switch in version 2.
            self.ready = self._version == 2 and not self.ready
        elif kind == Kind.RESUME:
            self.ready = True
        elif kind == Kind.RATE:
            self._every = max(1, count)
        elif kind == Kind.FORCES_TO_APPLY and 0 <= count <= MOST_ATOMS:
            self._skip = FORCE_BYTES * count
        elif kind == Kind.DISCONNECT:
            raise EngineError("it has left")
        elif kind == Kind.KILL:
            raise EngineError("it asked to end the run, which a client cannot do")
        elif kind not in IGNORED:
            raise EngineError(f"it does not speak IMD: a packet {kind} came")

    def _packed(self, frame: Frame) -> bytes:
        n_atoms = len(frame.positions)
        if self._n_atoms not in (None, n_atoms):
            raise EngineError(f"the walker has {n_atoms} atoms now and had {self._n_atoms}")
        self._n_atoms = n_atoms
        return pack(frame, self._session, self._version)


class Server:
    """Serves walkers, each at a port of its own, to one client each.

    Parameters
    ----------
    address
        Of this host, at which it can be reached.
    ports
        Port of each walker; 0 for one that is free, see :attr:`ports`.
    session, version
        What is sent.

    Raises
    ------
    ConfigError
        If a port is in use.
    """

    def __init__(self, address: str, ports: dict[int, int], session: Session = Session(), version: int = 3):  # noqa: B008
        self._session, self._version = session, version
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[int, socket.socket] = {}
        self._clients: dict[int, Client] = {}
        self._newest: dict[int, Frame] = {}
        self._lock = Lock()
        # Of all that is sent: by the thread, or at once by the one that publishes a frame.
        self._sending = Lock()
        self._over = False
        self._bell, self._ears = socket.socketpair()
        for end in (self._bell, self._ears):
            end.setblocking(False)
        self._selector.register(self._ears, selectors.EVENT_READ)
        try:
            for walker, port in ports.items():
                self._listen(walker, address, port)
        except OSError as error:
            self._close()
            raise ConfigError(
                f"walker {walker} cannot be served at {address}:{port}: {error.strerror}; choose another port "
                "(output.imd_port, or --port of watch)"
            ) from error
        self._thread = Thread(target=self._run, name="imd", daemon=True)
        self._thread.start()

    @property
    def ports(self) -> dict[int, int]:
        """Port of each walker."""
        return {walker: listener.getsockname()[1] for walker, listener in self._listeners.items()}

    @property
    def watched(self) -> set[int]:
        """Walkers that have a client."""
        return set(self._clients)

    def publish(self, walker: int, frame: Frame) -> None:
        """The newest frame of a walker; its arrays must not change. Returns at once."""
        with self._lock:
            self._newest[walker] = frame
            client = self._clients.get(walker)
            if client is None:
                return
            client.offer(frame)
        if len(frame.positions) > AT_ONCE_ATOMS or not self._sent(walker, client):
            self._ring()

    def free(self) -> None:
        """Send away every client, once it has what it takes at once."""
        self._over = True
        self._ring()
        self._thread.join()

    def _listen(self, walker: int, address: str, port: int) -> None:
        family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        self._listeners[walker] = listener
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, walker)

    def _sent(self, walker: int, client: Client) -> bool:
        """Send what a client takes at once, sooner than the thread is awake; whether that was all."""
        if not self._sending.acquire(blocking=False):
            return False
        try:
            if self._clients.get(walker) is client:
                client.send()
        except SENDING_ERRORS:
            client.broken = True
        finally:
            self._sending.release()
        return not (client.broken or client.pending or client.frames)

    def _ring(self) -> None:
        """Wake the thread; a full pipe has woken it already."""
        with suppress(OSError):
            self._bell.send(b"!")

    def _run(self) -> None:
        """The thread: accept, hear, send."""
        over = False
        while not over:
            for key, _ in self._selector.select(LOOK_SECONDS if self._clients else None):
                if key.fileobj is self._ears:
                    with suppress(OSError):
                        self._ears.recv(READ_BYTES)
                elif key.fileobj is self._listeners[key.data]:
                    self._accept(key.data)
            # What was handed over before is still sent.
            over = self._over
            for walker in list(self._clients):
                self._serve(walker)
        self._close()

    def _accept(self, walker: int) -> None:
        """Welcome a client, or send it away if there is one already."""
        try:
            connection, _ = self._listeners[walker].accept()
        except OSError:
            time.sleep(REFUSED_SECONDS)  # no file is left, say: the listener stays ready
            return
        if walker in self._clients:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[walker] = Client(connection, self._session, self._version)
        self._selector.register(connection, selectors.EVENT_READ, walker)

    def _begin(self, walker: int) -> None:
        """The first frame that a client gets is the newest."""
        with self._lock:
            client = self._clients[walker]
            if walker in self._newest and not client.ready:
                client.frames.append(self._newest[walker])
            client.ready = True

    def _serve(self, walker: int) -> None:
        """Hear and send what can be heard and sent now; close what has ended."""
        client = self._clients[walker]
        with self._sending:
            try:
                client.receive(partial(self._begin, walker))
                client.send()
                client.check()
            except SENDING_ERRORS:
                client.broken = True
            if client.broken:
                self._drop(walker)
                return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.pending else 0)
        self._selector.modify(client.connection, wanted, walker)

    def _drop(self, walker: int) -> None:
        client = self._clients.pop(walker)
        self._selector.unregister(client.connection)
        client.connection.close()

    def _close(self) -> None:
        for walker in list(self._clients):
            self._drop(walker)
        for end in (*self._listeners.values(), self._bell, self._ears):
            end.close()
        self._selector.close()
