"""PyTorch: its threads and device, networks whose parameters are one vector, and sums over ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..config.schema import TrainingSection
from ..errors import ModelError
from .ranks import Ranks

WITHOUT_GPU = "this rank has a GPU and its PyTorch %s cannot use it: the model is computed on the CPU"
BY_MPI = "%d ranks train together: gradients are summed by MPI, because Horovod is not built for PyTorch"


def start(threads: int, gpu: int | None, log: logging.Logger) -> torch.device:
    """Pin PyTorch to `threads` threads; the device to compute on.

    Parameters
    ----------
    threads
        Threads of one operation.
    gpu
        Index among the GPUs that this process sees; None for the CPU.
    """
    torch.set_num_threads(threads)
    if gpu is not None and torch.cuda.is_available():
        return torch.device("cuda", gpu)
    if gpu is not None:
        log.warning(WITHOUT_GPU, torch.__version__)
    return torch.device("cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device is a GPU with bfloat16 in hardware (NVIDIA: Ampere and later)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def data_parallel(settings: TrainingSection, ranks: Ranks, log: logging.Logger) -> str:
    """How the ranks sum their gradients: "mpi", or "none" for one rank.

    Raises
    ------
    ModelError
        If Horovod is wanted by name.
    """
    if ranks.size == 1:
        return "none"
    if settings.data_parallel == "horovod":
        raise ModelError(
            f"training.model {settings.model} cannot sum gradients by Horovod, which is built for "
            "TensorFlow here: set training.data_parallel to auto or mpi"
        )
    if settings.data_parallel == "auto":
        log.info(BY_MPI, ranks.size)
    return "mpi"


def initialise(networks: Sequence[nn.Module], seed: int) -> None:
    """First weights for layers with ReLU (He et al., arXiv:1502.01852) and biases of zero, by `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    for network in networks:
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            else:
                nn.init.zeros_(parameter)


class Adam:
    """PyTorch's Adam for some networks, whose parameters become views of one vector.

    So gradients are one vector, too, that ranks sum in one message, and the state has its arrays from the start.

    Parameters
    ----------
    networks
        Those that learn together.
    rate
        Step size.
    """

    def __init__(self, networks: Sequence[nn.Module], rate: float):
        self.rate = rate
        self.parameters = [p for network in networks for p in network.parameters()]
        self.shapes = [tuple(p.shape) for p in self.parameters]
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        for parameter, part in zip(
            self.parameters, self.vector.data.split([p.numel() for p in self.parameters]), strict=True
        ):
            parameter.data = part.view(parameter.shape)
        self._adam = torch.optim.Adam([self.vector], rate, fused=True)
        moments = {name: torch.zeros_like(self.vector.data) for name in ("exp_avg", "exp_avg_sq")}
        self._state = self._adam.state[self.vector] = {"step": torch.tensor(0.0), **moments}

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self._state["step"])

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        """Of a scalar by all parameters."""
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, self.parameters)])

    def step(self, gradient: torch.Tensor) -> None:
        """Let the parameters take one step."""
        self.vector.grad = gradient
        self._adam.step()

    def weights(self) -> list[np.ndarray]:
        """Copies of the parameters."""
        return [p.detach().cpu().numpy().copy() for p in self.parameters]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Copy the parameters from arrays of their shapes."""
        copy(self.vector.data, np.concatenate([np.ravel(a) for a in arrays]))

    def state(self) -> list[np.ndarray]:
        """Copies of both moments of the gradient, shape (n_parameters,), and the number of steps."""
        return [self._state[name].cpu().numpy().copy() for name in ("exp_avg", "exp_avg_sq", "step")]

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Restore a :meth:`state`."""
        for name, array in zip(("exp_avg", "exp_avg_sq", "step"), arrays, strict=True):
            copy(self._state[name], array)


def copy(vector: torch.Tensor, array: np.ndarray) -> None:
    """Copy an array into a tensor."""
    vector.copy_(torch.from_numpy(np.array(array, np.float32)))
