"""A model of one's own: principal components of how far each C-alpha atom is from the centre of the molecule.

PYTHONPATH=examples mpiexec -n 4 ddmd-mpi --usecase bba-go --set training.model=radial:Radial
"""

from __future__ import annotations

import numpy as np

from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import Model, Round, Setup, Supervisor


class Radial(Model):
    """Latents of ``training.options.dimensions`` (2) numbers per frame."""

    def __init__(self, setup: Setup) -> None:
        self.n_latent = setup.settings.options.get("dimensions", 2)
        self.architecture = {"model": "radial", "n_residues": setup.n_residues, "n_latent": self.n_latent}
        self.total = setup.ranks.total
        self.mean = np.zeros(setup.n_residues)
        self.axes = np.zeros((setup.n_residues, self.n_latent))

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:  # noqa: ARG002 a round takes milliseconds
        """Fit mean and axes to the frames of all training ranks; every fifth frame is kept for validation."""
        radii = self.radii(block)
        validation = np.arange(len(radii)) % 5 == 0
        training = radii[~validation]
        n = self.total(np.array(float(len(training))))
        self.mean = self.total(training.sum(axis=0)) / n
        covariance = self.total((training - self.mean).T @ (training - self.mean)) / n
        self.axes = np.linalg.eigh(covariance)[1][:, : -self.n_latent - 1 : -1]
        return Round(
            epochs=1,
            samples=len(training),
            loss=self.loss(training),
            validation_loss=self.loss(radii[validation]),
            accepted=True,
        )

    def radii(self, block: FrameBlock) -> np.ndarray:
        """Distance of each C-alpha atom from the centre, nm, shape (n_frames, n_residues)."""
        return np.linalg.norm(block["ca_positions"] / 1000, axis=2)

    def loss(self, radii: np.ndarray) -> float:
        """Mean squared distance of the frames of all ranks from their reconstruction, nm²."""
        centred = radii - self.mean
        rest = centred - centred @ self.axes @ self.axes.T
        return float(self.total(np.sum(rest**2)) / self.total(np.array(float(len(radii)))))

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of frames, shape (n_frames, n_latent)."""
        return (self.radii(block) - self.mean) @ self.axes

    def weights(self) -> list[np.ndarray]:
        """What :meth:`embed` needs."""
        return [self.mean, self.axes]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take what :meth:`weights` of another rank has given."""
        self.mean, self.axes = arrays
