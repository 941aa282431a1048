"""The packets of IMDv3, and of IMDv2 for programs that support nothing else: frames to bytes, bytes to frames.

The protocol is that of https://imdclient.readthedocs.io: TCP; headers of two big-endian integers, what and how many;
bodies in the byte order of the server. Lengths are in Å, velocities in Å/ps, times in ps, energies in kJ/mol.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ...errors import EngineError
from ...structure import ANGSTROM_PER_NM


class Kind(IntEnum):
    """What a packet is; those from SESSION on are of version 3."""

    DISCONNECT = 0
    ENERGIES = 1
    COORDINATES = 2
    GO = 3
    HANDSHAKE = 4
    KILL = 5
    FORCES_TO_APPLY = 6
    PAUSE = 7
    RATE = 8
    IO_ERROR = 9
    SESSION = 10
    RESUME = 11
    TIME = 12
    BOX = 13
    VELOCITIES = 14
    FORCES = 15
    WAIT = 16


HEADER = struct.Struct("!ii")
#: Of a server's bodies, by its byte order: step, temperature and eight energies; time step, time and step; box vectors.
ENERGIES, TIME, BOX = "i9f", "ddq", "9f"
#: Bytes that follow for each atom of a packet of coordinates, and of one of forces to apply.
ATOM_BYTES, FORCE_BYTES = 12, 16


class Frame(NamedTuple):
    """A frame: its step, time and time step, ps; arrays (n_atoms, 3) and (3, 3), nm and nm/ps; energy, kJ/mol."""

    step: int
    time_ps: float
    timestep_ps: float
    positions: np.ndarray
    velocities: np.ndarray | None = None
    box: np.ndarray | None = None
    potential_energy: float = float("nan")


class Session(NamedTuple):
    """What a server of version 3 sends of every frame, in the order of its packet."""

    time: bool = True
    energies: bool = True
    box: bool = True
    positions: bool = True
    wrapped: bool = False
    velocities: bool = True
    forces: bool = False


def header(kind: Kind, count: int = 0) -> bytes:
    """A header, which is all of a command."""
    return HEADER.pack(kind, count)


def handshake(session: Session, version: int = 3) -> bytes:
    """What a server says first; the version is in its byte order, by which clients know that."""
    greeting = struct.pack("!i", Kind.HANDSHAKE) + struct.pack("<i", version)
    return greeting if version == 2 else greeting + header(Kind.SESSION, len(session)) + struct.pack("<7B", *session)


def pack(frame: Frame, session: Session, version: int = 3) -> bytes:
    """A frame as its packets, little-endian; version 2 has energies and coordinates alone."""
    n_atoms, parts = len(frame.positions), []
    if version == 3:
        time = struct.pack("<" + TIME, frame.timestep_ps, frame.time_ps, frame.step)
        parts += [header(Kind.TIME, 1), time]
    unknown = float("nan")
    energies = (unknown, unknown, frame.potential_energy, *(unknown,) * 6)
    parts += [header(Kind.ENERGIES, 1), struct.pack("<" + ENERGIES, frame.step & 0x7FFFFFFF, *energies)]
    if version == 3:
        box = np.zeros((3, 3)) if frame.box is None else frame.box
        parts += [header(Kind.BOX, 1), _angstrom(box)]
    parts += [header(Kind.COORDINATES, n_atoms), _angstrom(frame.positions)]
    if version == 3 and session.velocities:
        velocities = np.full((n_atoms, 3), np.nan) if frame.velocities is None else frame.velocities
        parts += [header(Kind.VELOCITIES, n_atoms), _angstrom(velocities)]
    return b"".join(parts)


def _angstrom(values_nm: np.ndarray) -> bytes:
    return (ANGSTROM_PER_NM * np.asarray(values_nm, np.float32)).astype("<f4").tobytes()


class Greeting(NamedTuple):
    """What a server has said first: the byte order of its bodies ("<" or ">"), and what it sends."""

    order: str
    session: Session

    @property
    def packets(self) -> list[tuple[Kind, str]]:
        """Kind of each packet of a frame, and the format of its body; "" for one of three numbers for each atom."""
        packets = (
            (self.session.time, Kind.TIME, TIME),
            (self.session.energies, Kind.ENERGIES, ENERGIES),
            (self.session.box, Kind.BOX, BOX),
            (self.session.positions, Kind.COORDINATES, ""),
            (self.session.velocities, Kind.VELOCITIES, ""),
            (self.session.forces, Kind.FORCES, ""),
        )
        return [(kind, body) for sent, kind, body in packets if sent]

    def frame_bytes(self, n_atoms: int) -> int:
        """Length of a frame."""
        return sum(
            HEADER.size + (struct.calcsize(self.order + body) if body else ATOM_BYTES * n_atoms)
            for _, body in self.packets
        )

    def unpack(self, data: bytes, n_atoms: int) -> dict[Kind, np.ndarray | tuple]:
        """The packets of a frame, in the server's units: tuples of numbers, and arrays of shape (n_atoms, 3).

        Raises
        ------
        EngineError
            If it is not such a frame.
        """
        found: dict[Kind, np.ndarray | tuple] = {}
        at = 0
        for kind, body in self.packets:
            expected, got = (kind, 1 if body else n_atoms), HEADER.unpack_from(data, at)
            if got != expected:
                raise EngineError(
                    f"a packet {expected[0]} of {expected[1]} was expected by IMD, and {got[0]} of {got[1]} came"
                )
            at += HEADER.size
            if body:
                found[kind] = struct.unpack_from(self.order + body, data, at)
                at += struct.calcsize(self.order + body)
            else:
                found[kind] = np.frombuffer(data, f"{self.order}f4", 3 * n_atoms, at).reshape(n_atoms, 3)
                at += ATOM_BYTES * n_atoms
        return found


#: Length of the greeting of version 3.
GREETING_BYTES = 2 * HEADER.size + len(Session._fields)


def greeting(data: bytes) -> Greeting:
    """What a server of version 3 has said first.

    Raises
    ------
    EngineError
        If it is of another version, or no server of IMD.
    """
    kind, _ = HEADER.unpack_from(data)
    versions = {order: struct.unpack_from(order + "i", data, 4)[0] for order in "<>"}
    order = next((order for order, version in versions.items() if version == 3), None)
    if kind != Kind.HANDSHAKE or order is None:
        raise EngineError(f"no greeting of IMDv3, but {data[: HEADER.size].hex()}: version 3 is needed")
    if HEADER.unpack_from(data, HEADER.size) != (Kind.SESSION, len(Session._fields)):
        raise EngineError("the greeting of IMDv3 does not say what is sent")
    return Greeting(order, Session(*(bool(b) for b in data[2 * HEADER.size : GREETING_BYTES])))
