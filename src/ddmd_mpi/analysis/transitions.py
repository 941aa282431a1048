"""Transitions within stretches: pairs of frames a lag apart, weighted so that restarts do not bias them.

Dynamics from a restart point is unbiased, although the choice of the restart point is not: what follows a frame may
be counted, how often a frame was visited may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The largest chance of being cut that a frame is given.
MAX_HAZARD = 0.9
#: How often the chances of clusters and phases are fitted to one another.
HAZARD_STEPS = 5
#: Blocks of the bootstrap, at most; more of them would say no more.
MOST_BLOCKS = 400


@dataclass(frozen=True)
class Stretches:
    """Frames of continuous dynamics.

    Parameters
    ----------
    features
        Coordinates of each frame, shape (n_frames, n_coordinates).
    rows
        Rows of these frames among those that were given to :func:`stretches`.
    stretch
        Number of each frame's stretch, ascending, shape (n_frames,).
    cut
        Whether a restart ended the stretch at the frame, shape (n_frames,).
    parent
        The stretch that each stretch started from, -1 for none, shape (n_stretches,).
    phase
        Number of the part of the run that each frame belongs to, shape (n_frames,).
    """

    features: np.ndarray
    rows: np.ndarray
    stretch: np.ndarray
    cut: np.ndarray
    parent: np.ndarray
    phase: np.ndarray

    def __len__(self) -> int:
        return len(self.stretch)

    @property
    def n_stretches(self) -> int:
        """How many stretches there are."""
        return int(self.stretch[-1]) + 1 if len(self.stretch) else 0

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each stretch."""
        return np.bincount(self.stretch, minlength=self.n_stretches)

    @property
    def age(self) -> np.ndarray:
        """How many frames of the stretch come before each frame, shape (n_frames,)."""
        first = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self)) - first[self.stretch]


@dataclass(frozen=True)
class Transitions:
    """Pairs of frames of the same stretch, a lag apart.

    Parameters
    ----------
    start, end
        Rows of the frames, shape (n_pairs,).
    stretch
        Number of each pair's stretch.
    weight
        Weight of each pair, see :func:`transitions`.
    """

    start: np.ndarray
    end: np.ndarray
    stretch: np.ndarray
    weight: np.ndarray


def stretches(
    features: np.ndarray,
    begins: np.ndarray,
    ended: np.ndarray,
    origin: np.ndarray | None = None,
    phase: np.ndarray | None = None,
) -> Stretches:
    """Stretches of frames in the order of walkers and frames; frames with a coordinate that is not finite split them.

    Parameters
    ----------
    features
        Shape (n_frames, n_coordinates).
    begins
        Whether a stretch starts at the frame, shape (n_frames,).
    ended
        Whether the last frame of a stretch ended with the run, and not by a restart, shape (n_frames,).
    origin
        The frame that the stretch which begins at a frame started from, -1 for none, shape (n_frames,).
    phase
        See :class:`Stretches`; None if restarts were as frequent all the time.
    """
    valid = np.isfinite(features).all(axis=1)
    gap = np.concatenate([[True], ~valid[:-1]]) if len(valid) else valid
    last = np.append(begins[1:], True) if len(begins) else begins
    number = np.cumsum(begins | gap)
    _, first, dense = np.unique(number[valid], return_index=True, return_inverse=True)
    rows = np.flatnonzero(valid)
    parent = _parents(number, np.full(len(number), -1) if origin is None else origin, begins, rows[first])
    phase = np.zeros(len(number), int) if phase is None else phase
    return Stretches(features[valid], rows, dense, (last & ~ended)[valid], parent, phase[valid])


def _parents(number: np.ndarray, origin: np.ndarray, begins: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The parent of each stretch, whose first frame is `first`: the stretch of its origin, or the one before a gap."""
    source = np.where(begins[first], origin[first], first - 1)
    kept = number[first]
    place = np.minimum(np.searchsorted(kept, number[source]), len(kept) - 1)
    return np.where((source >= 0) & (kept[place] == number[source]), place, -1) if len(kept) else kept


def lineage_blocks(data: Stretches, n_blocks: int) -> np.ndarray:
    """Group stretches that descend from one another, for a bootstrap over families: a number per stretch.

    A block is a founder with all its descendants. Where few founders have nearly all of the frames, a block is cut off
    at a stretch as soon as it has its share of the frames, 1 / `n_blocks`, and that stretch counts as a founder.
    Where there are very many founders, several make a block: the transitions of each block are held in memory.
    """
    share = len(data) / n_blocks
    children: list[list[int]] = [[] for _ in range(data.n_stretches)]
    front: list[int] = []
    for i, parent in enumerate(data.parent.tolist()):
        (children[parent] if parent >= 0 else front).append(i)
    order = []
    while front:
        order.append(front.pop())
        front += children[order[-1]]
    frames = data.lengths.tolist()
    founder = data.parent < 0
    for i in reversed(order):
        if founder[i] or frames[i] >= share:
            founder[i] = True
        else:
            frames[data.parent[i]] += frames[i]
    block = np.arange(data.n_stretches)
    for i in order:
        if not founder[i]:
            block[i] = block[data.parent[i]]
    return np.unique(block, return_inverse=True)[1] % MOST_BLOCKS


def transitions(data: Stretches, lag: int, labels: np.ndarray, skip: int = 0) -> Transitions:
    """All pairs of frames that are `lag` frames apart in a stretch.

    A pair is seen only if no restart cut its stretch before its end, and walkers far from the target are cut more
    often. So a pair weighs as much as the pairs like it that were cut: one over the chance that none of the frames
    between its ends was the last one (inverse probability of censoring, Robins and Finkelstein,
    doi:10.1111/j.0006-341X.2000.00779.x).

    Parameters
    ----------
    labels
        Cluster of each frame.
    skip
        Leave out pairs that begin less than this many frames after their stretch.
    """
    if lag >= len(data):
        return Transitions(none := np.empty(0, int), none, none, np.empty(0))
    together = data.stretch[:-lag] == data.stretch[lag:]
    start = np.flatnonzero(together & (data.age[:-lag] >= skip))
    survived = np.cumsum(-np.log1p(-hazards(data, labels)))
    weight = np.exp(survived[start + lag - 1] - survived[start])
    return Transitions(start, start + lag, data.stretch[start], weight)


def hazards(data: Stretches, labels: np.ndarray) -> np.ndarray:
    """The chance that a restart ends the stretch at each frame, shape (n_frames,).

    It is a product of two factors, one of the frame's cluster and one of its phase, which give each cluster and each
    phase as many cuts as it has: the strategy cuts some clusters more often than others, and it may start late or be
    turned off.
    """
    of_label, of_phase = np.ones(int(labels.max()) + 1), np.ones(int(data.phase.max()) + 1)
    for _ in range(HAZARD_STEPS):
        of_label = _share(labels, data.cut, of_phase[data.phase])
        of_phase = _share(data.phase, data.cut, of_label[labels])
    return np.minimum(of_label[labels] * of_phase[data.phase], MAX_HAZARD)


def _share(groups: np.ndarray, cut: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Cuts of each group, over those that are expected."""
    n_cut, n_expected = np.bincount(groups, cut), np.bincount(groups, expected)
    return np.divide(n_cut, n_expected, out=np.zeros_like(n_expected), where=n_expected > 0)


def counts(pairs: Transitions, labels: np.ndarray, n_labels: int, weight: np.ndarray) -> np.ndarray:
    """Weighted transitions between the labels of frames, shape (n_labels, n_labels)."""
    cells = labels[pairs.start] * n_labels + labels[pairs.end]
    return np.bincount(cells, weights=weight, minlength=n_labels**2).reshape(n_labels, n_labels)


def counts_of_blocks(pairs: Transitions, labels: np.ndarray, n_labels: int, blocks: np.ndarray) -> np.ndarray:
    """Weighted transitions between labels in each block of stretches, shape (n_blocks, n_labels, n_labels)."""
    n_blocks = int(blocks.max()) + 1
    cells = (blocks[pairs.stretch] * n_labels + labels[pairs.start]) * n_labels + labels[pairs.end]
    found = np.bincount(cells, weights=pairs.weight, minlength=n_blocks * n_labels**2)
    return found.reshape(n_blocks, n_labels, n_labels)
