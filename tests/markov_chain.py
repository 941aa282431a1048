"""Walkers on a Markov chain of known populations and passage times, steered by the policy of the program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddmd_mpi.analysis.populations import Question
from ddmd_mpi.analysis.transitions import Stretches, stretches
from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.outliers import find_outliers
from ddmd_mpi.steering.policy import Policy

N_PLACES, TARGET, SOURCE = 20, 6, 14
N_WALKERS, ROUND, WINDOW, SEGMENT = 12, 5, 5, 10
N_PHASES = 10


@dataclass(frozen=True)
class Chain:
    """A Markov chain: transition matrix, stationary distribution, and the place of each state, 0 at the target."""

    matrix: np.ndarray
    stationary: np.ndarray
    place: np.ndarray

    @property
    def population(self) -> float:
        """Of the places below the target's border."""
        return float(self.stationary[self.place < TARGET].sum())

    @property
    def passage(self) -> float:
        """Mean first passage time from the source to the target, by the hitting times' own equations."""
        free = self.place >= TARGET
        times = np.linalg.inv(np.eye(free.sum()) - self.matrix[np.ix_(free, free)]).sum(axis=1)
        mass = np.where(self.place[free] >= SOURCE, self.stationary[free], 0.0)
        return float(mass @ times / mass.sum())


def chain(hidden: float = 0.0, power: int = 24) -> Chain:
    """A walk in a double well: Metropolis steps, `power` at a time.

    Parameters
    ----------
    hidden
        Chance per Metropolis step to change to another well of the same places, which has a higher barrier and cannot
        be seen; 0 for none. Places alone are no Markov chain then.
    """
    place, kinds = np.arange(N_PLACES), (1.0, 2.0) if hidden else (1.0,)
    place = np.concatenate([place for _ in kinds])
    kind = np.repeat(kinds, N_PLACES)
    energy = -1.5 * kind * np.cos(4 * np.pi * (place + 0.5) / N_PLACES) + 1.5 * place / N_PLACES
    weight = np.exp(-energy)
    near = (np.abs(place[:, None] - place) == 1) & (kind[:, None] == kind)
    same = (place[:, None] == place) & (kind[:, None] != kind)
    matrix = (0.45 * near + hidden * same) * np.minimum(1.0, weight / weight[:, None])
    np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
    return Chain(np.linalg.matrix_power(matrix, power), weight / weight.sum(), place)


class Walkers:
    """Walkers that start at the far end; every few steps the policy restarts some from frames of the window."""

    def __init__(self, truth: Chain, strategy: str, seed: int):
        self.truth, self.random = truth, np.random.default_rng(seed)
        self._steps = truth.matrix.cumsum(axis=1)
        self._settings = SteeringSection(strategy=strategy)
        self._policy = Policy(self._settings, N_WALKERS, seed)
        self.state = np.full(N_WALKERS, N_PLACES - 2)
        self.walker: list[np.ndarray] = []
        self.begins: list[np.ndarray] = []
        self.origin: list[np.ndarray] = []
        self.states: list[np.ndarray] = []
        self.segment = np.zeros(N_WALKERS, int)
        self.segments: list[np.ndarray] = []
        self._report(np.full(N_WALKERS, -1), np.arange(N_WALKERS))

    def run(self, n_steps: int, steered: bool = True) -> Walkers:
        """Walk, and restart after each round if `steered`."""
        for step in range(1, n_steps + 1):
            chance = self.random.random((N_WALKERS, 1))
            self.state = np.minimum((self._steps[self.state] < chance).sum(axis=1), len(self._steps) - 1)
            self._report(np.full(N_WALKERS, -1), np.arange(N_WALKERS), begins=False)
            if step % SEGMENT == 0:
                self.segment += 1
            if steered and step % ROUND == 0:
                self._restart()
        return self

    def _report(self, origin: np.ndarray, walker: np.ndarray, begins: bool = True) -> None:
        self.walker.append(walker)
        self.begins.append(np.full(len(walker), begins))
        self.origin.append(origin)
        self.states.append(self.state[walker])
        self.segments.append(self.segment[walker])

    def _restart(self) -> None:
        recent = slice(-2 * ROUND * WINDOW, None)
        walker, state, segment = (np.concatenate(c[recent]) for c in (self.walker, self.states, self.segments))
        frame = np.arange(len(walker)) + sum(map(len, self.walker)) - len(walker)
        seen = np.column_stack(observe(self.truth.place[state], frame))
        columns = {
            "walker": walker, "frame": frame, "segment": segment, "topology": np.zeros(len(frame), int),
            "rmsd": seen[:, 0], "slot_generation": np.ones(len(frame), int),
        }  # fmt: skip
        outliers = find_outliers(seen, self._settings) if self._policy.needs_model else None
        chosen = self._policy.choose(FrameBlock(columns), seen, outliers, np.ones(N_WALKERS, bool))
        moved = np.array([r.walker for r in chosen], int)
        index = [r.index for r in chosen]
        self.state[moved] = state[index]
        self.segment[moved] += 1
        if chosen:
            self._report(frame[index], moved)

    def stretches(self) -> Stretches:
        """What the walkers have done, as :func:`.asked.ask` gives it."""
        walker, begins, origin, states = (
            np.concatenate(c) for c in (self.walker, self.begins, self.origin, self.states)
        )
        order = np.argsort(walker, kind="stable")
        place_of = np.empty_like(order)
        place_of[order] = np.arange(len(order))
        origin = np.where(origin >= 0, place_of[origin], -1)[order]
        ended = np.diff(walker[order], append=-1) != 0
        # A frame that is restarted from looks as it did.
        source = np.where(origin >= 0, order[origin], order)
        features = np.column_stack(observe(self.truth.place[states[order]], source))
        phase = (order * N_PHASES) // len(order)
        return stretches(features, begins[order], ended, origin, phase)


def observe(place: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy coordinates of frames: an RMSD whose integer part is the place, and one that tells it roughly."""
    noise = np.random.default_rng(0).random((2, 1_000_003))[:, frame % 1_000_003]
    return place + noise[0], np.exp(-place / N_PLACES) + 0.2 * noise[1]


def steered_walk(
    seed: int, n_steps: int, strategy: str = "greedy", truth: Chain | None = None, unsteered: int = 0
) -> tuple[Stretches, Question]:
    """Stretches of steered walkers, and the question for the target's population and the passages.

    Parameters
    ----------
    unsteered
        Steps without restarts that follow.
    """
    data = Walkers(truth or chain(), strategy, seed).run(n_steps).run(unsteered, steered=False).stretches()
    return data, ask(data)


def ask(data: Stretches, source: float = SOURCE, target: float = TARGET) -> Question:
    """The question for the target's population and the passages between source and target."""
    rmsd = data.features[:, 0]
    return Question(rmsd >= source, rmsd < target, {"rmsd": rmsd}, 1.0)
