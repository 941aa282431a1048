"""Principal components on 2 or more ranks: all fit the frames of all, end together and hold the same bits."""

import zlib

import numpy as np
import pytest
from on_ranks import on_ranks
from sklearn.decomposition import PCA

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import NothingToLearnError
from ddmd_mpi.model import Ranks, Setup, Supervisor
from ddmd_mpi.model.rounds import split
from ddmd_mpi.structure import contacts

N_RESIDUES, SEED = 8, 3
N_FRAMES = (37, 3, 50)  # of each rank


class StopAfter(Supervisor):
    """Asks for the end after so many batches."""

    def __init__(self, batches):
        self.left = batches

    def between_batches(self):
        self.left -= 1
        return self.left <= 0


def make(comm, **changes):
    settings = TrainingSection(**{"model": "pca", "latent_dimensions": 4, "batch_size": 16, **changes})
    return model.create(Setup(settings, N_RESIDUES, SEED, ranks=Ranks(comm)))


def chains(seed, n_frames):
    positions = np.cumsum(np.random.default_rng(seed).normal(scale=0.3, size=(n_frames, N_RESIDUES, 3)), axis=1)
    return features(positions, 8.0)


def pairs_of(rank):
    """The training and the validation frames of a rank in its first round."""
    block = chains(rank, N_FRAMES[rank])
    maps = contacts.dense(block["contact_counts"], block["contact_columns"])[:, *np.triu_indices(N_RESIDUES, 1)]
    return [maps[part].astype(float) for part in split(block, 0.2, SEED)]


def one_of(comm, value):
    """The value that all ranks must have."""
    found = set(comm.allgather(value))
    assert len(found) == 1, found
    return found.pop()


def bits(arrays):
    return tuple(zlib.crc32(np.ascontiguousarray(a)) for a in arrays)


@on_ranks(2, 3)
def test_all_fit_the_frames_of_all(comm):
    pca = make(comm, batch_size=64)
    assert pca.data_parallel == "mpi"
    result = pca.train(chains(comm.rank, N_FRAMES[comm.rank]), Supervisor())
    one_of(comm, bits(pca.weights()))
    parts = [pairs_of(rank) for rank in range(comm.size)]
    training, validation = (np.concatenate(p) for p in zip(*parts, strict=True))
    theirs = PCA(4, svd_solver="full").fit(training)
    mean, _, _, singular_values, n_samples = pca.weights()
    assert int(n_samples) == len(training)
    assert result.samples == len(parts[comm.rank][0])
    np.testing.assert_allclose(mean, theirs.mean_, atol=1e-12)
    np.testing.assert_allclose(singular_values, theirs.singular_values_)
    for frames, loss in ((training, result.loss), (validation, result.validation_loss)):
        rest = frames - theirs.inverse_transform(theirs.transform(frames))
        np.testing.assert_allclose(one_of(comm, loss), (rest**2).sum(axis=1).mean())


@on_ranks(2, 3)
def test_a_rank_that_has_run_out_of_frames_goes_on_with_the_others(comm):
    pca = make(comm)
    for number in range(3):
        assert pca.train(chains([number, comm.rank], N_FRAMES[comm.rank]), Supervisor()).accepted
        one_of(comm, bits(pca.weights()))
    assert int(pca.weights()[-1]) == 3 * sum(len(pairs_of(rank)[0]) for rank in range(comm.size))


@on_ranks(2, 3)
def test_the_wish_of_one_rank_ends_the_round_of_all(comm):
    pca = make(comm)
    before = bits(pca.weights())
    result = pca.train(chains(comm.rank, N_FRAMES[comm.rank]), StopAfter(1 if comm.rank == 1 else 10**9))
    assert one_of(comm, (result.stopped, result.accepted, result.epochs)) == (True, False, 0)
    assert bits(pca.weights()) == before


@on_ranks(2, 3)
def test_too_few_frames_are_refused_by_all(comm):
    with pytest.raises(NothingToLearnError, match=f"got {4 + comm.size - 1}\\)"):
        make(comm, latent_dimensions=8).train(chains(comm.rank, 5 if comm.rank == 0 else 1), Supervisor())
