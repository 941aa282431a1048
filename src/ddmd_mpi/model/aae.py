"""The adversarial autoencoder of C-alpha point clouds: 3dAAE (Zamorski et al., arXiv:1811.07605).

Layers and weights of losses are those that DeepDriveMD publishes for proteins.

The encoder gives q(z|x) = N(mu, sigma^2), and z = mu + exp(log sigma^2 / 2) e with e ~ N(0, 1); the generator G makes
a cloud of z; the critic D tells z from n ~ N(0, 1) (WGAN-GP: Gulrajani et al., arXiv:1704.00028). On every batch first
the critic takes a step down D(z) - D(n) + 10 (|D'(u)| - 1)^2, u between z and n; then encoder and generator together
take one down Chamfer(x, G(z)) / 2 - D(z). Clouds are in nm, centred, not scaled, and superposed on a reference, so that
latents tell shapes and not how a molecule has turned: the first frame of the first round, which goes with the weights.

The loss that rounds report, and stop on, is the Chamfer distance alone, nm^2 per frame: it is the one figure that falls
when the model gets better, while D(z) is a mark given by a network that learns as fast and may move either way.
"""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..frames.block import FrameBlock
from .architecture import PointArchitecture, point_architecture
from .interface import Model, Round, Setup, Supervisor, resources
from .point_clouds import NM, PointClouds, chamfer
from .rounds import Network, TrainingRound, batches
from .torch_backend import Adam, data_parallel, has_bfloat16, initialise, start
from .weights import check_shapes

log = logging.getLogger("ddmd_mpi")

LEARNING_RATE, RECONSTRUCTION_WEIGHT, PENALTY_WEIGHT = 1e-4, 0.5, 10.0

#: Points of an embedding batch, and its frames at most: bounds the memory of large clouds, about 4 kB a point.
EMBED_POINTS, EMBED_FRAMES = 2**16, 256


class Noise(NamedTuple):
    """The random numbers of a batch."""

    codes: torch.Tensor  # e, shape (n, n_latent)
    prior: torch.Tensor  # n, shape (n, n_latent)
    between: torch.Tensor  # where u lies between n (0) and z (1), shape (n, 1)


def draw(key: list[int], n: int, n_latent: int) -> Noise:
    """The same for the same `key`, on every device."""
    generator = np.random.default_rng(key)
    codes, prior = generator.standard_normal((2, n, n_latent), np.float32)
    return Noise(*(torch.from_numpy(a) for a in (codes, prior, generator.random((n, 1), np.float32))))


class Encoder(nn.Module):
    """Clouds (n, n_residues, 3) -> mean and log variance of the latents.

    The convolutions go along the chain without padding, as published: the last one sees
    :attr:`PointArchitecture.field` residues at once, and its largest answer along the chain counts. The ends of a
    shorter chain are repeated up to that number.
    """

    def __init__(self, shape: PointArchitecture):
        super().__init__()
        sizes, missing = (3, *shape.filters), max(0, shape.field - shape.n_residues)
        convolutions = [nn.Conv1d(*s) for s in zip(sizes[:-1], sizes[1:], shape.kernels, strict=True)]
        self.convolutions = nn.Sequential(*with_relu(convolutions))
        self.hidden = nn.Linear(sizes[-1], shape.encoder_units)
        self.mean = nn.Linear(shape.encoder_units, shape.latent_dimensions)
        self.log_variance = nn.Linear(shape.encoder_units, shape.latent_dimensions)
        self._missing = (missing // 2, missing - missing // 2)

    def forward(self, clouds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chains = functional.pad(clouds.transpose(1, 2), self._missing, mode="replicate")
        hidden = self.hidden(self.convolutions(chains).amax(dim=2)).relu()
        return self.mean(hidden), self.log_variance(hidden)


def generator(shape: PointArchitecture) -> nn.Sequential:
    """Latents -> clouds (n, n_residues, 3)."""
    layers = dense(shape.latent_dimensions, *shape.generator_units, 3 * shape.n_residues)
    return nn.Sequential(*layers, nn.Unflatten(1, (shape.n_residues, 3)))


def critic(shape: PointArchitecture) -> nn.Sequential:
    """Latents -> marks (n, 1): low for those of frames, high for those of the prior."""
    return nn.Sequential(*dense(shape.latent_dimensions, *shape.critic_units, 1))


def dense(*sizes: int) -> list[nn.Module]:
    """Dense layers from the first size to the last, with ReLU between them."""
    return with_relu([nn.Linear(*s) for s in pairwise(sizes)])


def with_relu(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers with ReLU between them."""
    return [layer for pair in zip(layers, [nn.ReLU() for _ in layers], strict=True) for layer in pair][:-1]


class Aae(Model, Network):
    """The three networks, their optimisers and their rounds.

    Of the settings of [training], ``filters``, ``dense_units``, ``dropout``, ``rho``, ``epsilon`` and ``xla`` are for
    other models. ``mixed_precision`` trains encoder and generator in bfloat16; auto: on a GPU that is made for it.
    """

    terms: tuple[str, ...] = ("adversarial", "critic")  # -D(z), and what the critic lowers
    worst_loss = math.inf  # clouds of any size are a model's to learn

    def __init__(self, setup: Setup):
        settings, ranks = setup.settings, setup.ranks
        self._setup, self._rounds, self.at_once = setup, 0, settings.batch_size
        self._shape = shape = point_architecture(settings, setup.n_residues)
        self.architecture, self.n_latent = shape.describe(), shape.latent_dimensions
        self.data_parallel = data_parallel(settings, ranks, log)
        self._device = start(setup.threads, setup.gpu, log)
        mixed = settings.mixed_precision
        self._mixed = has_bfloat16(self._device) if mixed == "auto" else mixed
        with torch.random.fork_rng(devices=[]):
            networks = Encoder(shape), generator(shape), critic(shape)
        initialise(networks, setup.seed)
        self._encoder, self._generator, self._critic = (network.to(self._device) for network in networks)
        self._reference = np.zeros((setup.n_residues, 3), np.float32)  # none yet
        rate = LEARNING_RATE if settings.learning_rate == "auto" else settings.learning_rate
        self._autoencoder_adam = Adam([self._encoder, self._generator], rate)
        self._critic_adam = Adam([self._critic], rate)
        self.restore(ranks.broadcast(self.state()))
        self._initial = self.state() if settings.reinitialize else None

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """One round; see :class:`.rounds.TrainingRound`."""
        self._rounds += 1
        before = self._reference
        if self._initial is not None or not before.any():
            (self._reference,) = self._setup.ranks.broadcast([block["ca_positions"][0].astype(np.float32)])
        with resources("aae", RuntimeError):
            result = TrainingRound(self, block, self._setup, self._rounds, supervisor).run(self._initial)
        if not result.accepted:
            self._reference = before
        return result

    @torch.no_grad()
    def embed(self, block: FrameBlock) -> np.ndarray:
        """Means of the latents, shape (n_frames, n_latent), float32; the same bits for the same frame and weights."""
        clouds = self.samples(block)
        n = max(1, min(EMBED_FRAMES, EMBED_POINTS // self._shape.n_residues))
        made = (self._nm(clouds.batch(indices)) for indices, _ in batches(np.arange(len(block)), n))
        with resources("aae", RuntimeError):
            means = [self._encoder(batch)[0].cpu().numpy() for batch in made]
        return np.concatenate([np.zeros((0, self.n_latent), np.float32), *means])[: len(block)]

    def weights(self) -> list[np.ndarray]:
        """Copies of all weights: the encoder's, the generator's, the critic's; last the reference, 0.01 angstrom."""
        return [*self._autoencoder_adam.weights(), *self._critic_adam.weights(), self._reference.copy()]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture; a reference stays until another one comes."""
        first, second = self._autoencoder_adam, self._critic_adam
        check_shapes(arrays, [*first.shapes, *second.shapes, self._reference.shape])
        first.load(arrays[: len(first.shapes)])
        second.load(arrays[len(first.shapes) : -1])
        if arrays[-1].any():
            self._reference = np.array(arrays[-1], np.float32)

    def state(self) -> list[np.ndarray]:
        """Copies of the weights and of both optimisers' states."""
        return [*self.weights(), *self._autoencoder_adam.state(), *self._critic_adam.state()]

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Restore a :meth:`state`."""
        check_shapes(arrays, [a.shape for a in self.state()])
        self.load(arrays[:-6])
        self._autoencoder_adam.restore(arrays[-6:-3])
        self._critic_adam.restore(arrays[-3:])

    def samples(self, block: FrameBlock) -> PointClouds:
        """The point clouds of `block`."""
        return PointClouds(block, self._reference)

    def train_batch(self, batch: np.ndarray, weights: np.ndarray, stop: bool) -> tuple[np.ndarray, bool]:
        """A step of the critic and one of the autoencoder; see :class:`.rounds.Network`."""
        return self._train(self._nm(batch), self._tensor(weights), self._noise(len(batch)), stop)

    @torch.no_grad()
    def test_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Summed losses; see :class:`.rounds.Network`."""
        clouds, noise = self._nm(batch), self._noise(len(batch))
        codes = self._codes(clouds, noise)
        losses = [*self._autoencoder_losses(clouds, codes), self._critic_losses(codes, noise)]
        return (torch.stack(losses) @ self._tensor(weights)).cpu().numpy()

    def _train(self, clouds: torch.Tensor, weights: torch.Tensor, noise: Noise, stop: bool) -> tuple[np.ndarray, bool]:
        """Both steps on the batches of all ranks: my summed losses, and whether a rank wants to stop."""
        codes = self._codes(clouds, noise)
        criticism = self._critic_losses(codes.detach(), noise)
        self._step(self._critic_adam, criticism @ weights, weights, stop)
        reconstruction, adversarial = self._autoencoder_losses(clouds, codes)
        loss = (RECONSTRUCTION_WEIGHT * reconstruction + adversarial) @ weights
        stopped = self._step(self._autoencoder_adam, loss, weights, stop)
        losses = torch.stack([reconstruction, adversarial, criticism]).detach() @ weights
        return losses.cpu().numpy(), stopped

    def _step(self, adam: Adam, loss: torch.Tensor, weights: torch.Tensor, stop: bool) -> bool:
        """One step down the mean loss of the frames of all ranks, in one sum; whether a rank wants to stop."""
        counts = torch.stack([weights.sum(), weights.new_tensor(float(stop))])
        mine = torch.cat([adam.gradient(loss), counts])
        total = mine if self._setup.ranks.size == 1 else self._tensor(self._setup.ranks.total(mine.cpu().numpy()))
        adam.step(total[:-2] / total[-2])
        return bool(total[-1] > 0)

    def _codes(self, clouds: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Latents of a batch, drawn from q(z|x)."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            mean, log_variance = self._encoder(clouds)
        return mean.float() + torch.exp(0.5 * log_variance.float()) * noise.codes

    def _autoencoder_losses(self, clouds: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Chamfer distance and -D(z) of each frame."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            made = self._generator(codes)
        return chamfer(clouds, made.float()), -self._critic(codes)[:, 0]

    @torch.enable_grad()
    def _critic_losses(self, codes: torch.Tensor, noise: Noise) -> torch.Tensor:
        """What the critic lowers, of each frame and the draw of the prior beside it."""
        between = (noise.prior + noise.between * (codes - noise.prior)).requires_grad_()
        (slopes,) = torch.autograd.grad(self._critic(between).sum(), between, create_graph=True)
        penalty = (torch.linalg.vector_norm(slopes, dim=1) - 1) ** 2
        return (self._critic(codes) - self._critic(noise.prior))[:, 0] + PENALTY_WEIGHT * penalty

    def _noise(self, n: int) -> Noise:
        """Noise of this rank's next step: a state that is restored continues with the same."""
        key = [self._setup.seed, self._setup.ranks.rank, self._autoencoder_adam.steps]
        return Noise(*(part.to(self._device) for part in draw(key, n, self.n_latent)))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)

    def _nm(self, batch: np.ndarray) -> torch.Tensor:
        """Positions of :class:`PointClouds` in nm."""
        return self._tensor(batch).float() * NM
