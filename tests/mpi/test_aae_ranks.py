"""The adversarial autoencoder that several ranks train together is one model, bit by bit."""

import numpy as np
import pytest
from on_ranks import on_ranks

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import Ranks, Supervisor

N_RESIDUES, N_LATENT, BATCH, SEED = 12, 4, 16, 3


def make(ranks: Ranks, **changes):
    settings = {"model": "aae", "latent_dimensions": N_LATENT, "batch_size": BATCH, "epochs": 2, **changes}
    return model.create(model.Setup(TrainingSection(**settings), N_RESIDUES, SEED, ranks=ranks))


def chains(n_frames: int, seed: int) -> np.ndarray:
    return block_of(n_frames, seed)["ca_positions"]


def block_of(n_frames: int, seed: int) -> FrameBlock:
    steps = np.random.default_rng(seed).normal(scale=0.2, size=(n_frames, N_RESIDUES, 3))
    return features(np.cumsum(steps, axis=1), 8.0)


def same_on_all(comm, arrays: list[np.ndarray]) -> bool:
    mine = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return len(set(comm.allgather(mine))) == 1


@on_ranks(2)
def test_ranks_with_unequal_windows_hold_the_same_bits_in_every_weight_and_moment(comm):
    aae = make(Ranks(comm))
    assert aae.data_parallel == "mpi"
    first = aae.weights()
    assert same_on_all(comm, aae.state())
    block = block_of(40 + 30 * comm.rank, seed=comm.rank)
    assert not same_on_all(comm, [block["ca_positions"][:40]])
    for _ in range(2):
        result = aae.train(block, Supervisor())
        assert result.accepted
        assert same_on_all(comm, aae.state())
        assert same_on_all(comm, [np.array([result.loss, result.validation_loss, result.epochs])])
    changed = [not np.array_equal(a, b) for a, b in zip(first, aae.weights(), strict=True)]
    assert changed == [True] * (len(first) - 2) + [False, True]  # the critic's last bias does not matter
    aae.free()


@on_ranks(2)
def test_a_step_on_the_batches_of_all_is_that_of_one_rank_on_the_joined_batch(comm):
    """Padding does not count."""
    from ddmd_mpi.model.aae import Noise, draw

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


@on_ranks(2)
def test_every_rank_draws_noise_of_its_own_for_each_step(comm):
    aae, drawn = make(Ranks(comm)), set()
    for step in range(2):
        drawn.update(comm.allgather(aae._noise(2).codes.numpy().tobytes()))
        assert len(drawn) == (step + 1) * comm.size
        aae.train_batch(chains(BATCH, seed=0), np.ones(BATCH, np.float32), stop=False)


@on_ranks(2)
def test_all_ranks_learn_with_the_step_itself_that_one_wants_to_stop(comm):
    aae, ones = make(Ranks(comm)), np.ones(BATCH, np.float32)
    for wanted in (False, True):
        _, stopped = aae.train_batch(chains(BATCH, seed=0), ones, wanted and comm.rank == comm.size - 1)
        assert stopped == wanted


@on_ranks(2)
def test_horovod_by_name_is_refused_on_every_rank(comm):
    with pytest.raises(ModelError, match="training.data_parallel"):
        make(Ranks(comm), data_parallel="horovod")
    assert make(Ranks(), data_parallel="horovod").data_parallel == "none"
