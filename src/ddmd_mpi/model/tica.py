"""The slowest motions: time-lagged independent component analysis of the distances of the descriptor atoms.

G. Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013), doi:10.1063/1.4811489. The lag is a share of a segment, so
that every segment gives pairs of frames; no pair spans two segments, because a restart is no motion.

A round fits the window anew. Several training ranks sum their covariances: all hold the components of all frames.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.linalg import eigh

from ..errors import NothingToLearnError
from ..frames.block import FrameBlock
from . import architecture
from .interface import Epoch, Losses, Model, Round, Setup, Supervisor
from .weights import check_shapes

#: Lag as a share of the reports of a segment, if it is not given.
LAG_SHARE = 0.2
#: Added to the variances, as a share of their mean: keeps the problem well conditioned.
NOISE = 1e-3
#: A lower mean variance of the distances is rounding, nm^2.
NO_VARIANCE = 1e-12
#: Every so many-th pair of frames is kept for validation.
VALIDATION = 5
#: Stored positions are whole numbers of 0.001 nm.
PER_NM = 1000


class Tica(Model):
    """The components and their rounds. Before the first round every latent is zero."""

    def __init__(self, setup: Setup):
        self.architecture = architecture.tica(setup.settings, setup.n_residues)
        self.n_latent = self.architecture["latent_dimensions"]
        self.data_parallel = "mpi" if setup.ranks.size > 1 else "none"
        self._settings, self._ranks = setup.settings, setup.ranks
        self._lag: int | None = self.architecture["lag"]
        self._pairs = architecture.lagged_pairs(setup.n_residues)
        n = len(self._pairs[0])
        self._mean, self._axes = np.zeros(n), np.zeros((n, self.n_latent))

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """Fit the pairs of frames of one segment that are a lag apart.

        Raises
        ------
        NothingToLearnError
            If there are fewer pairs than distances, or all frames are alike. On all ranks or on none.
        """
        started, clock = time.time(), time.perf_counter()
        before = self.weights()
        now, later = self._lagged(block)
        training = np.arange(len(now)) % VALIDATION > 0
        last_loss = self._loss(now[~training], later[~training])
        supervisor.between_batches()
        self._fit(now[training], later[training])
        loss, validation_loss = (self._loss(now[part], later[part]) for part in (training, ~training))
        epoch = Epoch(Losses(loss), Losses(validation_loss), started, time.perf_counter() - clock)
        supervisor.epoch(epoch)
        reason = self._refusal(validation_loss, last_loss)
        if reason:
            self.load(before)
        return Round(
            epochs=1,
            samples=int(training.sum()),
            loss=loss,
            validation_loss=validation_loss,
            accepted=not reason,
            reason=reason,
            history=(epoch,),
        )

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Coordinates along the components, shape (n_frames, n_latent), float32."""
        return ((self.distances(block) - self._mean) @ self._axes).astype(np.float32)

    def weights(self) -> list[np.ndarray]:
        """Copies of the mean distances and the components."""
        return [self._mean.copy(), self._axes.copy()]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture."""
        check_shapes(arrays, [self._mean.shape, self._axes.shape])
        self._mean, self._axes = (np.array(a, np.float64) for a in arrays)

    def distances(self, block: FrameBlock) -> np.ndarray:
        """Distances of the pairs, nm, shape (n_frames, n_pairs)."""
        x = block["ca_positions"].astype(np.float64) / PER_NM
        return np.linalg.norm(x[:, self._pairs[0]] - x[:, self._pairs[1]], axis=2)

    def _lagged(self, block: FrameBlock) -> tuple[np.ndarray, np.ndarray]:
        """Distances of frames and of those a lag later in the same segment, shape (n, n_pairs) each."""
        order = np.lexsort((block["frame"], block["segment"], block["walker"]))
        walker, segment, frame = (block[name][order] for name in ("walker", "segment", "frame"))
        lag = self._lag or self._lag_of(walker, segment)
        same = (walker[lag:] == walker[:-lag]) & (segment[lag:] == segment[:-lag]) & (frame[lag:] - frame[:-lag] == lag)
        x = self.distances(block)[order]
        return x[:-lag][same], x[lag:][same]

    def _lag_of(self, walker: np.ndarray, segment: np.ndarray) -> int:
        """A share of the reports of the longest segment of all ranks, at least one."""
        starts = np.flatnonzero(np.diff(walker) | np.diff(segment)) + 1
        longest = np.diff([0, *starts, len(walker)]).max(initial=1)
        return max(1, round(LAG_SHARE * int(self._ranks.gather(np.array([longest])).max())))

    def _fit(self, now: np.ndarray, later: np.ndarray) -> None:
        """The mean distances and the components of all ranks' pairs of frames."""
        n = 2 * self._ranks.total(np.array(float(len(now))))
        if n < 2 * len(self._mean):
            raise NothingToLearnError(
                f"{n / 2:.0f} pairs of frames within a segment are too few for {len(self._mean)} distances: raise "
                "training.first_frames, or simulation.segment_ps"
            )
        mean = self._ranks.total((now + later).sum(axis=0)) / n
        a, b = now - mean, later - mean
        covariance, lagged = self._ranks.total(np.stack([a.T @ a + b.T @ b, a.T @ b + b.T @ a])) / n
        variance = np.trace(covariance) / len(covariance)
        if variance < NO_VARIANCE:
            raise NothingToLearnError(
                "the distances of all frames of the window are the same, so there is nothing to learn: check whether "
                "the simulations move"
            )
        noise = NOISE * variance * np.eye(len(covariance))
        found = eigh(lagged, covariance + noise)[1][:, : -self.n_latent - 1 : -1]
        self.load(self._ranks.broadcast([mean, np.ascontiguousarray(found)]))

    def _loss(self, now: np.ndarray, later: np.ndarray) -> float:
        """How fast the latents forget: one less their mean autocorrelation, over all ranks; NaN before a fit."""
        a, b = (now - self._mean) @ self._axes, (later - self._mean) @ self._axes
        product, square = self._ranks.total(np.stack([(a * b).sum(axis=0), (a**2 + b**2).sum(axis=0) / 2]))
        return float(1 - np.mean(product / square)) if (square > 0).all() else float("nan")

    def _refusal(self, loss: float, before: float) -> str:
        """Why the new components are not accepted; "" if they are."""
        if not np.isfinite(loss):
            return f"the validation loss is {loss}"
        if self._settings.max_validation_loss != "auto" and loss > self._settings.max_validation_loss:
            return f"the validation loss {loss:.4g} is above training.max_validation_loss"
        if self._settings.select == "best" and loss >= before:
            return f"the validation loss {loss:.4g} is no better than that of the last version, {before:.4g}"
        return ""
