"""Rounds of training for a network that learns batch by batch, on one rank or on several.

All ranks take the same number of steps: a rank that runs out of frames continues with batches of weight zero, so that
an epoch sees every frame once. What ends a round is agreed on in sums that all ranks have, so all end it together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from ..errors import NothingToLearnError
from ..frames.block import FrameBlock
from .interface import Epoch, Losses, Round, Setup, Supervisor

T = TypeVar("T")
U = TypeVar("U")


class Samples(Protocol):
    """The frames of a window in the form that a network takes.

    Attributes
    ----------
    slow
        Whether a batch takes so long to make that it is made while the one before it trains.
    """

    slow: bool

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The frames at `indices`; empty for none."""


class Network(Protocol):
    """A network and its optimiser. Losses are sums over frames, each times its weight: the loss, then its terms."""

    terms: tuple[str, ...]  # names of the loss's terms
    worst_loss: float  # above it training has diverged
    at_once: int  # frames that it takes at a time, a divisor of the batch size; fewer than a batch to save memory

    def samples(self, block: FrameBlock) -> Samples: ...
    def begin_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """The losses of a part of a batch; its gradients wait for the last part, which is given to `train_batch`."""
        raise RuntimeError("this network takes a batch at once")

    def train_batch(self, batch: np.ndarray, weights: np.ndarray, stop: bool) -> tuple[np.ndarray, bool]:
        """One step on the batches of all ranks: (the losses of mine, whether a rank has asked to stop)."""

    def test_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray: ...
    def weights(self) -> list[np.ndarray]: ...
    def load(self, arrays: list[np.ndarray]) -> None: ...
    def state(self) -> list[np.ndarray]: ...
    def restore(self, arrays: list[np.ndarray]) -> None: ...


class TrainingRound:
    """One round: epochs until the validation loss no longer falls; the weights of the best epoch are kept.

    Collective over the ranks that train together, all of it.
    """

    def __init__(self, network: Network, block: FrameBlock, setup: Setup, number: int, supervisor: Supervisor):
        self.network, self.settings, self.ranks, self.supervisor = network, setup.settings, setup.ranks, supervisor
        self.generator = np.random.default_rng([setup.seed, number, setup.ranks.rank])
        require_variation(block, setup)
        self.samples = network.samples(block)
        self.training, self.validation = split(block, self.settings.validation_fraction, setup.seed)
        self.steps = int(self.ranks.gather(np.array(n_batches(len(self.training), self.settings.batch_size))).max())
        self.stop = False

    def run(self, initial: list[np.ndarray] | None = None) -> Round:
        """Train, from the state `initial` if one is given.

        A round whose loss is not finite or above the guard, or, where the best model is wanted, no lower than before,
        leaves the network as it was.
        """
        network, settings = self.network, self.settings
        history: list[Epoch] = []
        best = 0
        before, limit = network.state(), self.limit()
        if initial is not None:
            network.restore(initial)
        kept = network.weights()
        while len(history) < settings.epochs and len(history) - best < settings.patience and not self.stop:
            epoch = self.epoch()
            if epoch is None:
                break
            history.append(epoch)
            self.supervisor.epoch(epoch)
            if not epoch.finite:
                break
            if best == 0 or epoch.validation.loss < history[best - 1].validation.loss:
                kept, best = network.weights(), len(history)
        network.load(kept)
        result = self.judge(tuple(history), best, limit)
        if not result.accepted:
            network.restore(before)
        return result

    def limit(self) -> float:
        """The validation loss above which the round is not accepted."""
        settings = self.settings
        limit = self.network.worst_loss if settings.max_validation_loss == "auto" else settings.max_validation_loss
        if settings.select == "latest":
            return limit
        sums = self.ranks.total(np.append(self.test(), float(self.stop)))
        self.stop = bool(sums[-1] > 0)
        return min(limit, means(sums[:-1], self.network.terms).loss) if sums[-2] else limit

    def judge(self, history: tuple[Epoch, ...], best: int, limit: float) -> Round:
        """What the round came to."""
        losses = (history[best - 1].training.loss, history[best - 1].validation.loss) if best else (np.nan, np.nan)
        reason = ""
        if history and not history[-1].finite:
            reason = "the loss is not finite: lower training.learning_rate"
        elif not best:
            reason = "it ended before its first epoch was finished"
        elif losses[1] > limit:
            reason = f"the validation loss is {losses[1]:.6g}, and {limit:.6g} is the limit"
        samples = len(history) * len(self.training)
        return Round(len(history), samples, *losses, not reason, self.stop, reason, history)

    def epoch(self) -> Epoch | None:
        """One pass over the training frames and one over the validation frames; None if it was interrupted."""
        started, clock = time.time(), time.perf_counter()
        trained = self.train()
        if trained is None:
            return None
        tested = self.test()
        if self.stop and self.ranks.size == 1:
            return None
        sums = self.ranks.total(np.array([*trained, *tested, float(self.stop)]))
        self.stop = bool(sums[-1] > 0)
        training = means(sums[: len(trained)], self.network.terms)
        validation = means(sums[len(trained) : -1], self.network.terms) if sums[-2] else training
        return Epoch(training, validation, started, time.perf_counter() - clock)

    def train(self) -> np.ndarray | None:
        """A step for each batch: the summed losses and the number of frames; None if it was interrupted."""
        sums, parts = np.zeros(2 + len(self.network.terms)), self.settings.batch_size // self.network.at_once
        made = self.batches(self.generator.permutation(self.training), parts * self.steps)
        for part, (batch, weights) in enumerate(made, start=1):
            if part % parts:
                losses, stopped = self.network.begin_batch(batch, weights), False
            else:
                losses, stopped = self.network.train_batch(batch, weights, self.stop)
            sums += (*losses, weights.sum())
            self.stop = self.supervisor.between_batches() or self.stop
            if stopped or (self.stop and self.ranks.size == 1):
                self.stop = True
                return None
        return sums

    def test(self, indices: np.ndarray | None = None) -> np.ndarray:
        """The summed losses of the frames at `indices` (validation) and their number, as far as the round continues."""
        sums = np.zeros(2 + len(self.network.terms))
        for batch, weights in self.batches(self.validation if indices is None else indices):
            sums += (*self.network.test_batch(batch, weights), weights.sum())
            self.stop = self.supervisor.between_batches() or self.stop
            if self.stop and self.ranks.size == 1:
                break
        return sums

    def batches(self, indices: np.ndarray, steps: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of the frames at `indices`, each with its frames' weights."""
        made = ((self.samples.batch, *b) for b in batches(indices, self.network.at_once, steps))
        return one_ahead(made) if self.samples.slow else ((make(frames), weights) for make, frames, weights in made)


def one_ahead(made: Iterable[tuple[Callable[[T], U], T, np.ndarray]]) -> Iterator[tuple[U, np.ndarray]]:
    """Make each batch while the one before it is used."""
    with ThreadPoolExecutor(1) as maker:
        waiting: tuple[Future[U], np.ndarray] | None = None
        for make, frames, weights in made:
            coming = maker.submit(make, frames), weights
            if waiting is not None:
                yield waiting[0].result(), waiting[1]
            waiting = coming
        if waiting is not None:
            yield waiting[0].result(), waiting[1]


def means(sums: np.ndarray, terms: tuple[str, ...]) -> Losses:
    """Losses per frame of (summed loss, summed terms, number of frames)."""
    loss, *parts = (np.asarray(sums[:-1]) / sums[-1]).tolist()
    return Losses(loss, dict(zip(terms, parts, strict=True)))


def split(block: FrameBlock, validation_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training frames and of the validation frames; at least one frame trains.

    Lots decide, and a frame draws the same one in every round: but for a few at the border it stays on its side for as
    long as it is in the window. So models of two rounds are compared on frames that neither has learnt from.
    """
    order = np.argsort(hash_frames(block["walker"], block["frame"], seed), kind="stable")
    n_validation = max(0, min(round(validation_fraction * len(order)), len(order) - 1))
    return order[n_validation:], order[:n_validation]


def hash_frames(walker: np.ndarray, frame: np.ndarray, seed: int) -> np.ndarray:
    """A number for each frame that depends on nothing but its name and the seed, uint64, evenly distributed.

    The mixing steps of SplitMix64: G. L. Steele, D. Lea and C. H. Flood, OOPSLA 2014, doi:10.1145/2660193.2660195.
    """
    x = (walker.astype(np.uint64) << np.uint64(40)) + frame.astype(np.uint64)
    x += np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def n_batches(n_frames: int, batch_size: int) -> int:
    """Batches that hold this many frames."""
    return -(-n_frames // batch_size)


def batches(indices: np.ndarray, batch_size: int, steps: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size, so that a compiled step never compiles again: (indices, weights 1, or 0 for padding).

    With `steps` there are that many; those beyond the last index weigh nothing.
    """
    for start in range(0, batch_size * (n_batches(len(indices), batch_size) if steps is None else steps), batch_size):
        batch = indices[start : start + batch_size]
        weights = (np.arange(batch_size) < len(batch)).astype(np.float32)
        yield np.resize(batch if len(batch) else indices[:1], batch_size), weights


def require_variation(block: FrameBlock, setup: Setup) -> None:
    """Refuse a window that has nothing to learn from. Collective over the ranks that train together.

    Raises
    ------
    NothingToLearnError
        If all contact maps of the window are the same.
    """
    if setup.ranks.total(np.array(float(all_equal(block)))) == setup.ranks.size:
        raise NothingToLearnError(
            f"all {len(block)} contact maps of the window are the same, so there is nothing to learn: "
            "change features.cutoff_angstrom, or check whether the simulations move"
        )


def all_equal(block: FrameBlock) -> bool:
    """Whether all contact maps of `block` are the same."""
    counts, columns = block["contact_counts"], block["contact_columns"]
    if (counts != counts[:1]).any():
        return False
    return len(block) == 0 or bool((columns.reshape(len(block), -1) == columns[: len(columns) // len(block)]).all())
