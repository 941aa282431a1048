"""The strategy `auto`: turns of novelty and of the target, and of each as much as it has earned.

Novelty prefers the states that the whole run, not the window alone, has been in least; the target prefers the best
coordinate. A round has the turn of one of them. Switching between strategies from round to round did better than each
alone: arXiv 2410.15259. What earns a turn, and how many walkers restart in one, follows from what restarts brought:

- The target has every `period`-th round. If its last `patience` turns have not bettered the coordinate, it has reached
  a plateau, and has every tenth of these only, until one of them does.
- In a turn of novelty, as many walkers restart as the policy allows, times a share between `least` and 1. The share
  grows by a quarter in a round in which restarted segments found more new states per frame than those that continued,
  and shrinks by a fifth in one in which they found fewer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .candidates import Candidates, Ranking
from .explored import Explored

#: Resolution of the states at first, angstrom, and how many there are at most: then it becomes coarser.
RESOLUTION, MOST_STATES = 1.0, 500
#: A coordinate is better from this share of its spread in the window on.
BETTER = 0.02
#: On a plateau, the target has one of so many of its turns.
SELDOM = 10
#: Factors of the share of walkers that restart.
MORE, FEWER = 1.25, 0.8
#: Frames that may be restart points for their state, at most: bounds the time for large windows.
MOST_FRAMES = 4000


def auto(candidates: Candidates) -> Ranking:
    """The rarest states of the run or the best coordinate first, in turns; see the module."""
    options, block = candidates.options, candidates.block
    memory = {**_NOTHING, **candidates.memory}
    explored = Explored(RESOLUTION, MOST_STATES)
    if "explored" in memory:
        explored.restore(memory["explored"])
    fresh = _fresh(block["walker"], block["frame"], memory["newest"])
    new = explored.add(block["ca_positions"][fresh])
    share = _earned(memory["share"], new, block["decision"][fresh] > memory["decision"], options["least"])
    tries, best = _tries(memory, candidates.coordinate)
    number = memory["round"] + 1
    turn = number // options["period"]
    targets = np.isfinite(candidates.coordinate).any() and number % options["period"] == 0
    if targets and tries >= options["patience"]:
        targets = turn % SELDOM == 0
    ranking = _target(candidates) if targets else _novelty(candidates, explored, share)
    remembered = {
        "round": number,
        "newest": _newest(block["walker"], block["frame"], memory["newest"], candidates.n_walkers),
        "decision": max(memory["decision"], int(block["decision"].max())),
        "share": share,
        "tries": tries + int(targets),
        "best": best,
        "explored": explored.state(),
    }
    return ranking._replace(memory=remembered)


#: The memory before the first round.
_NOTHING: dict[str, Any] = {"round": 0, "newest": [], "decision": -1, "share": 1.0, "tries": 0, "best": None}


def _target(candidates: Candidates) -> Ranking:
    return Ranking(candidates.coordinate, np.ones(len(candidates), bool))


def _novelty(candidates: Candidates, explored: Explored, share: float) -> Ranking:
    """The newest frame of each state stands for it; of the rarest states, so many as walkers may restart."""
    block, n = candidates.block, len(candidates)
    looked = np.unique(np.linspace(0, n - 1, MOST_FRAMES).round().astype(int))
    last = np.full(candidates.n_walkers, -1)
    order = np.argsort(block["frame"], kind="stable")
    last[block["walker"][order]] = order
    looked = np.union1d(looked, last[last >= 0])
    state = explored.states_of(block["ca_positions"][looked])
    score = np.full(n, np.nan)
    score[looked] = explored.counts[state]
    usable = candidates.usable[looked]
    standing = np.full(len(explored), -1)
    standing[state[usable]] = looked[usable]
    standing = standing[standing >= 0]
    eligible = np.zeros(n, bool)
    rarest = standing[np.argsort(score[standing], kind="stable")]
    eligible[rarest[: max(1, round(share * candidates.n_walkers))]] = True
    return Ranking(score, eligible)


def _fresh(walker: np.ndarray, frame: np.ndarray, newest: list[int]) -> np.ndarray:
    """Which frames are newer than those of the last round, shape (n,) bool."""
    known = np.full(int(walker.max()) + 1, -1)
    known[: len(newest)] = newest[: len(known)]
    return frame > known[walker]


def _newest(walker: np.ndarray, frame: np.ndarray, newest: list[int], n_walkers: int) -> list[int]:
    """The newest frame of each walker."""
    known = np.full(n_walkers, -1)
    known[: len(newest)] = newest
    np.maximum.at(known, walker, frame)
    return known.tolist()


def _earned(share: float, new: np.ndarray, restarted: np.ndarray, least: float) -> float:
    """The share of walkers that restart, by the new states of restarted segments and of those that continued."""
    if not restarted.any() or restarted.all():
        return share
    found, otherwise = new[restarted].mean(), new[~restarted].mean()
    factor = MORE if found > otherwise else FEWER if found < otherwise else 1.0
    return float(np.clip(share * factor, least, 1.0))


def _tries(memory: dict[str, Any], coordinate: np.ndarray) -> tuple[int, float | None]:
    """Turns of the target since the coordinate was bettered, and the best one."""
    finite = coordinate[np.isfinite(coordinate)]
    if not len(finite):
        return memory["tries"], memory["best"]
    best = float(finite.min())
    if memory["best"] is None or best < memory["best"] - BETTER * float(finite.std()):
        return 0, best
    return memory["tries"], memory["best"]
