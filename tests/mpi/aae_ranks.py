"""Program of 2 or more ranks: the adversarial autoencoder that they train together is one model, bit by bit."""

import sys

import numpy as np
import pytest
from mpi4py import MPI

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import Ranks, Supervisor
from ddmd_mpi.model.aae import Noise, draw

N_RESIDUES, N_LATENT, BATCH, SEED = 12, 4, 16, 3
comm = MPI.COMM_WORLD


def make(ranks: Ranks, **changes):
    settings = {"model": "aae", "latent_dimensions": N_LATENT, "batch_size": BATCH, "epochs": 2, **changes}
    return model.create(model.Setup(TrainingSection(**settings), N_RESIDUES, SEED, ranks=ranks))


def chains(n_frames: int, seed: int) -> np.ndarray:
    return block_of(n_frames, seed)["ca_positions"]


def block_of(n_frames: int, seed: int) -> FrameBlock:
    steps = np.random.default_rng(seed).normal(scale=0.2, size=(n_frames, N_RESIDUES, 3))
    return features(np.cumsum(steps, axis=1), 8.0)


def same_on_all(arrays: list[np.ndarray]) -> bool:
    mine = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return len(set(comm.allgather(mine))) == 1


def rounds():
    """Ranks with unequal windows begin, go on and end with the same bits in every weight and moment."""
    aae = make(Ranks(comm))
    assert aae.data_parallel == "mpi"
    first = aae.weights()
    assert same_on_all(aae.state())
    block = block_of(40 + 30 * comm.rank, seed=comm.rank)
    assert not same_on_all([block["ca_positions"][:40]])
    for _ in range(2):
        result = aae.train(block, Supervisor())
        assert result.accepted
        assert same_on_all(aae.state())
        assert same_on_all([np.array([result.loss, result.validation_loss, result.epochs])])
    changed = [not np.array_equal(a, b) for a, b in zip(first, aae.weights(), strict=True)]
    assert changed == [True] * (len(first) - 2) + [False, True]  # the critic's last bias does not matter
    aae.free()


def gradients():
    """A step on the batches of all ranks is that of one rank on the joined batch; padding does not count."""
    positions = np.concatenate([chains(BATCH, seed=10 + rank) for rank in range(comm.size)])
    noises = [draw([SEED, rank, 0], BATCH, N_LATENT) for rank in range(comm.size)]
    noise = Noise(*(np.concatenate(parts) for parts in zip(*noises, strict=True)))
    last = comm.size - 1
    for padding in (6, BATCH):
        weights = np.ones((comm.size, BATCH), np.float32)
        weights[last, BATCH - padding :] = 0
        together, alone = make(Ranks(comm)), make(Ranks())
        mine = slice(comm.rank * BATCH, (comm.rank + 1) * BATCH)
        losses, _ = together.train_batch(positions[mine], weights[comm.rank], stop=False)
        joined = Noise(*(alone._tensor(part) for part in noise))
        expected, _ = alone._train(alone._nm(positions), alone._tensor(weights.reshape(-1)), joined, stop=False)
        np.testing.assert_allclose(comm.allreduce(losses), expected, rtol=1e-4)
        for ours, its, tolerance in (
            (together._critic_adam, alone._critic_adam, 1e-5),
            (together._autoencoder_adam, alone._autoencoder_adam, 1e-3),
        ):
            gradient, expected = ours.state()[0], its.state()[0]  # the first moment after one step is a tenth of it
            largest = abs(expected).max()
            assert largest > 0
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance * largest)


def noises():
    """Every rank draws noise of its own, and other noise for each step."""
    aae, drawn = make(Ranks(comm)), set()
    for step in range(2):
        drawn.update(comm.allgather(aae._noise(2).codes.numpy().tobytes()))
        assert len(drawn) == (step + 1) * comm.size
        aae.train_batch(chains(BATCH, seed=0), np.ones(BATCH, np.float32), stop=False)


def stops():
    """All ranks learn with the step itself that one of them wants to stop."""
    aae, ones = make(Ranks(comm)), np.ones(BATCH, np.float32)
    for wanted in (False, True):
        _, stopped = aae.train_batch(chains(BATCH, seed=0), ones, wanted and comm.rank == comm.size - 1)
        assert stopped == wanted


def refusals():
    """Horovod by name is refused on every rank."""
    with pytest.raises(ModelError, match="training.data_parallel"):
        make(Ranks(comm), data_parallel="horovod")
    assert make(Ranks(), data_parallel="horovod").data_parallel == "none"


tests = [rounds, gradients, noises, stops, refusals]
for test in tests:
    test()
comm.Barrier()
if comm.rank == 0:
    sys.stdout.write(f"{len(tests)} tests passed\n")
