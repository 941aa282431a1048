"""What a program streams by IMDv3 while it runs: frames with velocities, and the energies that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import EngineError
from ...structure import ANGSTROM_PER_NM
from ..imd.client import Receiver
from ..imd.protocol import Kind
from ..prepared import State
from .child import Tail

Packets = dict[Kind, np.ndarray | tuple]


class StreamedOutput:
    """The frames of one start of a program; see :class:`.engine.Output`.

    Parameters
    ----------
    receiver
        Of its stream.
    steps_per_report
        Between two frames.
    periodic
        Whether frames have a box.
    energy
        Potential energy of a step, kJ/mol, given its packets; None if the program has not said it yet.
    velocity
        The program's unit of velocity, nm/ps.
    """

    def __init__(
        self,
        receiver: Receiver,
        steps_per_report: int,
        periodic: bool,
        energy: Callable[[int, Packets], float | None],
        velocity: float = 1.0 / ANGSTROM_PER_NM,
    ):
        self._receiver, self._every, self._periodic = receiver, steps_per_report, periodic
        self._energy, self._velocity = energy, velocity

    def begun(self) -> bool:
        """Whether the program serves its frames: it has set up then."""
        self._receiver.poll()
        return self._receiver.greeted

    def frame(self, index: int) -> State | None:
        """Frame number `index`, None if it is not complete yet."""
        self._receiver.poll()
        packets = self._receiver.first()
        if packets is None:
            return None
        step, expected = packets[Kind.TIME][2], (index + 1) * self._every
        if not step:
            # Some programs send the frame that they begin with.
            self._receiver.drop()
            return self.frame(index)
        if step != expected:
            raise EngineError(f"the program has sent the frame of step {step}, not of step {expected}")
        energy = self._energy(step, packets)
        if energy is None:
            return None
        self._receiver.drop()
        box = np.zeros((3, 3), np.float32)
        if self._periodic and Kind.BOX in packets:
            box[:] = np.reshape(packets[Kind.BOX], (3, 3)) / ANGSTROM_PER_NM
        positions = np.asarray(packets[Kind.COORDINATES], np.float32) / np.float32(ANGSTROM_PER_NM)
        velocities = np.asarray(packets[Kind.VELOCITIES], np.float32) * np.float32(self._velocity)
        return State(positions, velocities, box, energy)


class LoggedEnergies:
    """Potential energies that a program logs, each step's after its frame was sent.

    Parameters
    ----------
    log
        May be missing yet.
    of_line
        Step and energy, kJ/mol, that the words of a line of the log say; None if it says none.
    """

    def __init__(self, log: Path, of_line: Callable[[list[str]], tuple[int, float] | None]):
        self._log, self._of_line = Tail(log), of_line
        self._known: dict[int, float] = {}

    def of(self, step: int, packets: Packets) -> float | None:  # noqa: ARG002
        """Potential energy of a step, kJ/mol; None if it is not there yet."""
        if step not in self._known:
            self._look()
        return self._known.pop(step, None)

    def _look(self) -> None:
        """Read on in the log."""
        for line in self._log.lines():
            said = self._of_line(line.split())
            if said is not None:
                self._known[said[0]] = said[1]
