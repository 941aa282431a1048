"""Motion on a Markov model of a molecule: states, exact probabilities between them, and recorded frames of each.

The truth that steering can be measured against: what is found in a run can be compared with the model's own
populations, passage times and committors, see :mod:`ddmd_mpi.analysis.markov_model`.

A file of a model is an uncompressed NPZ. Its probability fluxes are symmetric, so that the model is in detailed
balance: the flux from i to j is the stationary probability of i times the transition probability from i to j.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...rundir.npz import read_npz
from ...structure.rmsd import superposed_rmsd
from ..prepared import AnyParticles

#: Stored positions are whole numbers of this many nm.
RESOLUTION_NM = 0.001
#: Part of a report from which on the walker has made its draw.
HALF = 0.5
#: Of a row of fluxes: its first and last place, the sum of all fluxes before it, and its own.
_Row = tuple[int, int, float, float]
MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class MarkovModel:
    """A reversible Markov model with frames.

    Parameters
    ----------
    lag_ps
        Time of one step, ps.
    starts, ends, flux
        Compressed rows of the symmetric fluxes: row i has the states ``ends[starts[i]:starts[i + 1]]``.
    positions
        Frames, nm, shape (n_frames, n_atoms, 3), float32, in the order of their states.
    state
        State of each frame, shape (n_frames,), ascending; every state has one at least.
    """

    lag_ps: float
    starts: np.ndarray
    ends: np.ndarray
    flux: np.ndarray
    positions: np.ndarray
    state: np.ndarray

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.starts) - 1

    @cached_property
    def stationary(self) -> np.ndarray:
        """Stationary probability of each state, exact, shape (n_states,)."""
        sums = np.add.reduceat(self.flux, self.starts[:-1])
        return sums / sums.sum()

    @cached_property
    def matrix(self) -> np.ndarray:
        """Transition probabilities of one step, dense, shape (n_states, n_states)."""
        matrix = np.zeros((self.n_states, self.n_states))
        matrix[np.repeat(np.arange(self.n_states), np.diff(self.starts)), self.ends] = self.flux
        return matrix / matrix.sum(axis=1, keepdims=True)

    @cached_property
    def frames_of(self) -> np.ndarray:
        """Where the frames of each state start among the positions, shape (n_states + 1,)."""
        return np.searchsorted(self.state, np.arange(self.n_states + 1))

    @cached_property
    def _rows(self) -> tuple[list[float], list[int], list[_Row]]:
        """Cumulated fluxes, where each leads to, and the rows, as lists: a draw by arrays takes ten times as long."""
        cumulated = np.cumsum(self.flux)
        before = np.concatenate([[0.0], cumulated])[self.starts]
        rows = zip(self.starts[:-1].tolist(), (self.starts[1:] - 1).tolist(), before, np.diff(before), strict=False)
        return cumulated.tolist(), self.ends.tolist(), [(a, b, float(c), float(d)) for a, b, c, d in rows]

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {x.tobytes(): i for i, x in reversed(list(enumerate(self.positions)))}

    def walk(self, frame: int, n_steps: int, rng: np.random.Generator) -> np.ndarray:
        """Steps from the state of a frame: indices of frames of the states that are drawn, shape (n_steps,)."""
        cumulated, ends, rows = self._rows
        state, states = int(self.state[frame]), []
        for chance in rng.random(n_steps).tolist():
            first, last, before, total = rows[state]
            state = ends[bisect_right(cumulated, before + chance * total, first, last)]
            states.append(state)
        at = np.array(states, int)
        return rng.integers(self.frames_of[at], self.frames_of[at + 1])

    def number(self, positions: np.ndarray) -> int | None:
        """Index of the frame that has these positions, nm, shape (n_atoms, 3); None if none has."""
        return self._index.get(np.ascontiguousarray(positions, np.float32).tobytes())

    def nearest(self, positions: np.ndarray) -> int:
        """Index of the frame that is nearest to positions, nm, shape (n_atoms, 3); as they lie, none is turned."""
        known = self.number(positions)
        if known is not None:
            return known
        away = np.abs(self.positions - positions).sum(axis=(1, 2))
        return int(away.argmin())


@lru_cache(maxsize=2)
def read_model(path: Path) -> MarkovModel:
    """The model of a file, once for all walkers of a rank.

    Raises
    ------
    InputError
        If there is no such file, or it is no model.
    """
    if not path.is_file():
        raise InputError(f"the Markov model {path} does not exist: correct emulation.markov_model")
    try:
        return _model(read_npz(path, MOST_BYTES))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is no Markov model: {error}; make one with tools/markov_model.py") from error


def _model(parts: dict[str, np.ndarray]) -> MarkovModel:
    """The model that these arrays describe; a ValueError if they describe none."""
    first, second, flux = parts["first"].astype(int), parts["second"].astype(int), parts["flux"].astype(float)
    state, positions = parts["state"].astype(int), parts["positions"]
    n_states = int(state.max()) + 1
    if not (len(first) == len(second) == len(flux) and (flux > 0).all() and np.isfinite(flux).all()):
        raise ValueError("its fluxes are not positive numbers")
    if positions.ndim != 3 or positions.shape[2] != 3 or len(positions) != len(state) or (np.diff(state) < 0).any():
        raise ValueError("its frames do not match their states")
    if len(np.unique(state)) != n_states or max(first.max(), second.max()) >= n_states:
        raise ValueError("a state has no frame")
    other = first != second  # the upper triangle is stored
    rows = np.concatenate([first, second[other]])
    if len(np.unique(rows)) != n_states:
        raise ValueError("a state has no flux")
    columns, values = np.concatenate([second, first[other]]), np.concatenate([flux, flux[other]])
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(n_states + 1))
    lag = float(parts["lag_ps"])
    if not lag > 0:
        raise ValueError(f"its lag is {lag} ps")
    nm = positions.astype(np.float32) * np.float32(RESOLUTION_NM)
    return MarkovModel(lag, starts, columns[order], values[order], nm, state)


@lru_cache(maxsize=2)
def most_like(model: MarkovModel, positions_nm: bytes) -> int:
    """Index of the frame with the lowest RMSD to positions, float64; once for all walkers of a rank."""
    x = np.frombuffer(positions_nm).reshape(-1, 3)
    return int(np.argmin(superposed_rmsd(model.positions.astype(np.float64), x)))


class MarkovMotion:
    """The state of one walker; a report is one step of the model.

    Parameters
    ----------
    model
        What it moves on.
    structures
        The walkers start in the state of the frame that is nearest to the start, superposed.
    """

    def __init__(self, model: MarkovModel, structures: AnyParticles):
        self._model = model
        self._start = most_like(model, structures.positions_nm.astype(np.float64).tobytes())
        self._frame = self._start
        self._due = 0.0  # reports since the last draw

    def begin(self, rng: np.random.Generator) -> None:  # noqa: ARG002 - every walker starts at the start
        """Go to the start."""
        self._go_to(self._start)

    def take(self, positions: np.ndarray) -> None:
        """Go to a frame, nm, shape (n_atoms, 3), of this or another walker."""
        self._go_to(self._model.nearest(positions))

    def number(self, positions: np.ndarray) -> int | None:
        """Index of the frame that has these positions, None if none has."""
        return self._model.number(positions)

    def advance(self, reports: float, rng: np.random.Generator) -> None:
        """Move for a number of reports, or a part of one: a draw for each that is more than half over."""
        self._due += reports
        n_steps = int(self._due + HALF)
        if n_steps:
            self._frame = int(self._model.walk(self._frame, n_steps, rng)[-1])
            self._due -= n_steps

    def walk(self, n_reports: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Move to the next reports: numbers of their frames, and all atoms, nm, shape (n_reports, n_atoms, 3)."""
        frames = self._model.walk(self._frame, n_reports, rng)
        self._go_to(int(frames[-1]))
        return frames, self._model.positions[frames]

    def positions(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - a frame is drawn with its state
        """All atoms, nm, shape (n_atoms, 3), float32."""
        return self._model.positions[self._frame]

    def potential_energy(self) -> float:
        """0: the model holds no energies."""
        return 0.0

    def _go_to(self, frame: int) -> None:
        self._frame, self._due = frame, 0.0


def check_model(model: MarkovModel, path: Path, n_atoms: int, report_interval_ps: float) -> None:
    """Raise an InputError if the model is of another molecule, or of another time between reports."""
    if model.positions.shape[1] != n_atoms:
        raise InputError(
            f"the Markov model {path} has {model.positions.shape[1]} atoms and the start has {n_atoms}: set "
            "emulation.markov_model to one of the same molecule"
        )
    if abs(model.lag_ps - report_interval_ps) > 1e-6 * model.lag_ps:
        raise InputError(
            f"a step of the Markov model {path} is {model.lag_ps:g} ps: set simulation.report_interval_ps to it"
        )
