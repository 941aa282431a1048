"""Principal components of the contact map by scikit-learn: the instant baseline, and the model of the quickest tests.

The features of a frame are the pairs i < j of its contact map, one or zero. A round is one pass over the window by
incremental PCA (D. A. Ross et al., Int. J. Comput. Vis. 77, 125 (2008), doi:10.1007/s11263-007-0075-7), and the loss of
a frame is the squared distance between its pairs and their reconstruction from the latents.

A round continues from the components that the last one left, unless ``training.reinitialize`` asks for fresh ones; a
frame that stays in the window counts again in every round.

Several training ranks gather each other's batches and all fit all of them: they hold the same components, learnt from
the frames of all, and are no faster than one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import IncrementalPCA
from threadpoolctl import threadpool_limits

from ..errors import NothingToLearnError
from ..frames.block import FrameBlock
from . import architecture
from .interface import Model, Round, Setup, Supervisor
from .rounds import Network, TrainingRound
from .weights import check_shapes

#: Frames that are embedded at a time: bounds the memory.
EMBED_FRAMES = 4096


class Fit(NamedTuple):
    """What scikit-learn has fitted, by its names."""

    mean_: np.ndarray  # (n_pairs,)
    var_: np.ndarray  # (n_pairs,)
    components_: np.ndarray  # (n_latent, n_pairs)
    singular_values_: np.ndarray  # (n_latent,)
    n_samples_seen_: np.ndarray  # ()


class Pairs:
    """The pairs i < j of the contact maps of `block`, as rows of ones and zeros."""

    slow = False

    def __init__(self, block: FrameBlock):
        self._counts, self._columns = block["contact_counts"], block["contact_columns"]
        self._offsets = block.contact_offsets
        n = self._counts.shape[1]
        i = np.arange(n)
        self._row_starts = i * (2 * n - i - 1) // 2 - i - 1  # where the pair (i, j) is, less j
        self._n_pairs = n * (n - 1) // 2

    def sparse(self, indices: np.ndarray) -> csr_matrix:
        """The frames at `indices`, shape (n, n_pairs)."""
        counts = self._counts[indices]
        columns = [self._columns[self._offsets[i] : self._offsets[i + 1]] for i in indices]
        row_starts = np.repeat(np.tile(self._row_starts, len(indices)), counts.ravel())
        pairs = row_starts + np.concatenate([self._columns[:0], *columns])
        ends = np.cumsum(counts.sum(axis=1, dtype=np.int64))
        return csr_matrix((np.ones(len(pairs)), pairs, np.append(0, ends)), shape=(len(indices), self._n_pairs))

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """The frames at `indices`, shape (n, n_pairs), uint8."""
        return self.sparse(indices).astype(np.uint8).toarray()


class OnePass(TrainingRound):
    """A round of one pass, whose losses are those of the model at its end."""

    def train(self) -> np.ndarray | None:
        """Fit every batch, then measure: the summed loss and the number of frames; None if it was interrupted."""
        return None if super().train() is None else self.test(self.training)


class Pca(Model, Network):
    """The components and their rounds. Before the first round every latent is zero."""

    terms: tuple[str, ...] = ()

    def __init__(self, setup: Setup):
        self.architecture = architecture.pca(setup.settings, setup.n_residues)
        self.n_latent = self.architecture["latent_dimensions"]
        self.data_parallel = "mpi" if setup.ranks.size > 1 else "none"
        n_pairs = setup.n_residues * (setup.n_residues - 1) // 2
        self.worst_loss = 10 * n_pairs / 4  # ten times that of one half for every pair
        self._setup = replace(setup, settings=replace(setup.settings, epochs=1))
        self._rounds = 0
        self._coming = 0
        self._waiting: list[np.ndarray] = []
        self.at_once = setup.settings.batch_size
        self._fit = Fit(
            np.zeros(n_pairs),
            np.zeros(n_pairs),
            np.zeros((self.n_latent, n_pairs)),
            np.zeros(self.n_latent),
            np.array(0),
        )
        self._initial = self.weights() if setup.settings.reinitialize else None

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """One pass; see :class:`.rounds.TrainingRound`.

        Raises
        ------
        NothingToLearnError
            If all maps are the same, or there are fewer frames than components. On all ranks or on none.
        """
        self._rounds += 1
        ranks, n_latent = self._setup.ranks, self.n_latent
        this = OnePass(self, block, self._setup, self._rounds, supervisor)
        self._coming, self._waiting = int(ranks.total(np.array(len(this.training)))), []
        if self._coming < n_latent:
            raise NothingToLearnError(
                f"{n_latent} principal components need as many frames to train on (got {self._coming}): "
                "raise training.first_frames or lower training.latent_dimensions"
            )
        with threadpool_limits(self._setup.threads, "blas"):
            result = this.run(self._initial)
        self.load(ranks.broadcast(self.weights()))  # The same bits, whatever the ranks' processors are.
        return result

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Coordinates along the components, shape (n_frames, n_latent), float32; the same bits for the same frame."""
        pairs, axes, origin = Pairs(block), np.ascontiguousarray(self._fit.components_.T), self._fit.mean_
        latents = np.empty((len(block), self.n_latent), np.float32)
        for start in range(0, len(block), EMBED_FRAMES):
            indices = np.arange(start, min(start + EMBED_FRAMES, len(block)))
            latents[indices] = pairs.sparse(indices) @ axes - origin @ axes
        return latents

    def weights(self) -> list[np.ndarray]:
        """Copies of the mean, the variance, the components, their singular values and the number of frames."""
        return [np.array(a) for a in self._fit]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture."""
        check_shapes(arrays, [a.shape for a in self._fit])
        self._fit = Fit(*(np.array(a, mine.dtype) for a, mine in zip(arrays, self._fit, strict=True)))

    def samples(self, block: FrameBlock) -> Pairs:
        """The pairs of `block`."""
        return Pairs(block)

    def train_batch(self, batch: np.ndarray, weights: np.ndarray, stop: bool) -> tuple[np.ndarray, bool]:
        """Fit the batches of all ranks, with those that wait, as soon as no fit will lack rows; no losses yet."""
        packed = np.packbits(batch, axis=1)
        gathered = self._setup.ranks.gather(np.concatenate([[stop], weights, packed.ravel()]).astype(np.uint8))
        weighty = gathered[:, 1 : len(weights) + 1].astype(bool).ravel()
        rows = gathered[:, len(weights) + 1 :].reshape(len(weighty), -1)[weighty]
        self._coming -= len(rows)
        self._waiting = [*self._waiting, np.unpackbits(rows, axis=1, count=batch.shape[1])]
        enough = sum(map(len, self._waiting)) >= self.n_latent
        if enough and (self._coming == 0 or self._coming >= self.n_latent):
            self._add(np.concatenate(self._waiting))
            self._waiting = []
        return np.zeros(1), bool(gathered[:, 0].any())

    def test_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Summed squared distances of the frames from their reconstructions."""
        deviation, axes = batch - self._fit.mean_, self._fit.components_
        rest = deviation - deviation @ axes.T @ axes
        return np.array([weights @ np.einsum("ij,ij->i", rest, rest)])

    def _add(self, rows: np.ndarray) -> None:
        """Fit more frames, at least as many as there are components."""
        pca = IncrementalPCA(self.n_latent)
        if self._fit.n_samples_seen_:
            vars(pca).update(self._fit._asdict())
        pca.partial_fit(rows.astype(np.float64))
        self._fit = Fit(*(np.array(getattr(pca, name)) for name in Fit._fields))
