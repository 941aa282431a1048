"""Where a walker can be restarted from: its newest frame, and the last restart point that has proved good."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .segment_log import START, Origin

#: The arrays of a state.
STATE = ("positions", "velocities", "box")
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]


class State(NamedTuple):
    """A state of the dynamics: positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps, box (3, 3) nm."""

    positions: np.ndarray
    # None if they are still to be drawn.
    velocities: np.ndarray | None
    box: np.ndarray


class RestartPoint(NamedTuple):
    """A state to restart from, with drawn velocities, and the frame that it is."""

    topology: int
    positions: np.ndarray
    box: np.ndarray
    origin: Origin


class RestartPoints:
    """The newest frame of a walker, and the restart point to which a failure takes it back.

    Attributes
    ----------
    last
        Which frame the newest is.
    state
        Its state; None before the first.
    good
        The last restart point whose segment has given a report; None before the first.
    """

    def __init__(self) -> None:
        self.last = START
        self.state: State | None = None
        self.good: RestartPoint | None = None
        self._current: RestartPoint | None = None

    def restarted(self, point: RestartPoint) -> None:
        """Note the restart point that a segment starts with."""
        self._current = point
        self.frame(point.origin, State(point.positions, None, point.box))

    def frame(self, origin: Origin, state: State) -> None:
        """Note the newest frame."""
        self.last = origin
        self.state = state

    def confirm(self) -> None:
        """Note that the present segment has given a report, so that its restart point is good."""
        self.good = self._current or self.good

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a later session needs: values for JSON, and arrays."""
        values: dict[str, Any] = {"last": self.last}
        arrays: dict[str, np.ndarray] = {}
        if self.state is not None:
            arrays |= {f"mark/{name}": a for name, a in self.state._asdict().items() if a is not None}
        if self.good is not None:
            values |= {"good": self.good.origin, "good_topology": self.good.topology}
            arrays |= {"good/positions": self.good.positions, "good/box": self.good.box}
        return values, arrays

    def resume(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> State | None:
        """Continue after an earlier session; the state of its newest frame, None if it had none."""
        self.last = Origin(*values["last"])
        if "good" in values:
            self.good = RestartPoint(
                values["good_topology"], arrays["good/positions"], arrays["good/box"], Origin(*values["good"])
            )
        if "mark/positions" not in arrays:
            return None
        return State(arrays["mark/positions"], arrays.get("mark/velocities"), arrays["mark/box"])
