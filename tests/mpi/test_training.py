"""One model trained by Horovod and by MPI on 2 or more ranks, each with frames of its own, and few of them on some."""

import logging
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from on_ranks import on_ranks

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError
from ddmd_mpi.model import Ranks, Setup, Supervisor

N_RESIDUES = 7
N_FRAMES = (37, 12, 50)  # of each rank: 2, 1 and 3 batches for training
WAYS = ("horovod", "mpi")
#: The model of each way and its first state: it takes seconds to make one.
MADE = {}
SMALL = {"filters": 4, "dense_units": 16, "latent_dimensions": 3, "batch_size": 16, "epochs": 3}


class Watch(Supervisor):
    """Asks for the end after so many batches."""

    def __init__(self, batches=10**9):
        self.left = batches
        self.horovod_ran = False

    def between_batches(self):
        self.left -= 1
        self.horovod_ran |= horovod_runs()
        return self.left <= 0


def horovod_runs():
    hvd = sys.modules.get("horovod.tensorflow")
    return hvd is not None and hvd.is_initialized()


class NotFinite:
    """Frames that are not numbers."""

    slow = False

    def batch(self, indices):
        return np.full((len(indices), 8, 8), np.nan, np.float32)


class Recorder:
    """In the optimiser's place: keeps the gradients."""

    def scale_loss(self, loss):
        return loss

    def apply(self, gradients, variables):
        self.gradients = [g.numpy() for g in gradients]


def make(way="auto", ranks=None, seed=3):
    return model.create(Setup(TrainingSection(**SMALL, data_parallel=way), N_RESIDUES, seed, ranks=ranks or Ranks()))


def as_made(comm, way):
    """The model that the ranks train together, as if it had not been trained yet."""
    if way not in MADE:
        cvae = make(way, Ranks(comm))
        assert cvae.data_parallel == way
        MADE[way] = cvae, cvae.state()
    cvae, first = MADE[way]
    cvae.restore(first)
    return cvae


def train(comm, cvae, seed=0, batches=10**9, **changes):
    """A round on this rank's frames with other settings."""
    settings = replace(cvae._setup.settings, **changes)
    block = chains([seed, comm.rank], N_FRAMES[comm.rank])
    setup, cvae._setup, watch = cvae._setup, replace(cvae._setup, settings=settings), Watch(batches)
    result = cvae.train(block, watch)
    cvae._setup = setup
    assert watch.horovod_ran == (cvae.data_parallel == "horovod")
    assert not horovod_runs(), "Horovod's thread would burn half a core between rounds"
    return result


def chains(seed, n_frames):
    """Chains that are compact or stretched."""
    generator = np.random.default_rng(seed)
    scale = generator.choice([0.2, 0.6], size=(n_frames, 1, 1))
    positions = np.cumsum(scale * generator.normal(size=(n_frames, N_RESIDUES, 3)), axis=1)
    return features(positions, 8.0)


def bits(arrays):
    return zlib.crc32(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))


def equal(comm, value, what):
    """Assert that all ranks have the same value."""
    values = comm.allgather(value)
    assert values.count(values[0]) == len(values), f"{what} differs between the ranks: {values}"


def losses(result):
    """What the ranks must agree on of a round."""
    epochs = [(e.training, e.validation) for e in result.history]
    return result.epochs, result.loss, result.validation_loss, result.accepted, result.stopped, result.reason, epochs


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_ranks_start_equal(comm, way):
    cvae = as_made(comm, way)
    own = comm.allgather(bits(make(seed=3 + comm.rank).weights()))
    assert len(set(own)) == comm.size, "ranks that are left alone start equal, too"
    equal(comm, bits(cvae.state()), "the first state")


def two_rounds(comm, way):
    """Weights and validation losses of two rounds, in which all ranks go the same way."""
    cvae, seen, outcome, counted = as_made(comm, way), [], [], []
    step = cvae.train_batch
    seen.append(bits(cvae.state()))
    cvae.train_batch = lambda batch, weights, stop: (counted.append(weights.sum()), step(batch, weights, stop))[1]
    for seed in range(2):
        result = train(comm, cvae, seed)
        assert result.accepted
        assert result.samples == result.epochs * round(0.8 * N_FRAMES[comm.rank]) == sum(counted)
        assert len(counted) == result.epochs * comm.size, "the ranks took other numbers of steps"
        counted.clear()
        equal(comm, bits(cvae.state()), f"the state after round {seed + 1}")
        equal(comm, losses(result), f"the history of round {seed + 1}")
        seen.append(bits(cvae.state()))
        outcome.append((result.validation_loss, cvae.weights()))
    cvae.train_batch = step
    assert len(set(seen)) == 3, "a round changed nothing"
    return outcome


@on_ranks(2, 3, seconds=240)
def test_every_rank_ends_a_round_with_the_same_bits_and_both_ways_train_the_same_model(comm):
    """Within rounding, as to the ways."""
    for (loss, weights), (other_loss, other_weights) in zip(*(two_rounds(comm, way) for way in WAYS), strict=True):
        assert abs(loss - other_loss) < 1e-4 * loss
        for a, b in zip(weights, other_weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * abs(b).max() + 1e-6)


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_the_summed_gradient_is_that_of_the_joined_batch(comm, way):
    """Without dropout and noise; a rank's batch has 16, 5 or no frames that count."""
    cvae = as_made(comm, way)
    frames = [chains([9, rank], 16) for rank in range(comm.size)]
    maps = [cvae.samples(block).batch(np.arange(16)) for block in frames]
    weights = [(np.arange(16) < n).astype(np.float32) for n in (16, 5, 0)[: comm.size]]
    alone = make()
    alone.load(cvae.weights())
    parts = [gradients(alone, m, w) for m, w in zip(maps[:2], weights[:2], strict=True)]
    joined = gradients(alone, np.concatenate(maps), np.concatenate(weights))
    summed = gradients(cvae, maps[comm.rank], weights[comm.rank])
    naive = []
    for mine, expected, *means in zip(summed, joined, *parts, strict=True):
        scale = abs(expected).max()
        np.testing.assert_allclose(mine, expected, rtol=0, atol=2e-6 * scale)
        naive.append(abs(np.mean(means, axis=0) - expected).max() / scale)
    assert max(naive) > 0.01, "the mean of the ranks' means would pass, too"


def gradients(cvae, maps, weights):
    """What a step hands to the optimiser."""
    import tensorflow as tf

    dropout = next(layer for layer in cvae._encoder.layers if type(layer).__name__ == "Dropout")
    optimizer, step, rate = cvae._optimizer, cvae._gradients_of, dropout.rate
    cvae._optimizer, cvae._gradients_of, dropout.rate = Recorder(), cvae._gradients, 0.0
    cvae._encoder.get_layer("log_variance").bias.assign(np.full(3, -50, np.float32))
    with cvae._sum:
        cvae._train(tf.constant(maps), tf.constant(weights), tf.constant(0.0))
    seen = cvae._optimizer.gradients
    cvae._optimizer, cvae._gradients_of, dropout.rate = optimizer, step, rate
    return seen


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_one_that_asks_for_the_end_ends_the_round_of_all(comm, way):
    """The last rank asks in the third epoch, after the first batch; the next one tells the others."""
    cvae = as_made(comm, way)
    last, step, steps = comm.rank == comm.size - 1, cvae.train_batch, []
    cvae.train_batch = lambda *batch: (steps.append(1), step(*batch))[1]
    per_epoch = comm.size  # of training batches; the last rank has one batch for validation, too
    result = train(comm, cvae, batches=2 * (per_epoch + 1) + 1 if last else 10**9, epochs=50, patience=50)
    equal(comm, losses(result), "the history")
    equal(comm, bits(cvae.state()), "the state")
    assert len(steps) == 2 * per_epoch + 2
    assert (result.epochs, result.stopped, result.accepted) == (2, True, True)
    before = bits(cvae.state())
    result = train(comm, cvae, batches=1 if comm.rank == 0 else 10**9)
    assert (result.epochs, result.stopped, result.accepted) == (0, True, False)
    assert bits(cvae.state()) == before
    cvae.train_batch = step


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_an_end_asked_for_while_the_old_model_is_measured_ends_all(comm, way):
    cvae = as_made(comm, way)
    last = comm.rank == comm.size - 1
    result = train(comm, cvae, batches=1 if last else 10**9, select="best")
    equal(comm, result.epochs, "the number of epochs")
    assert result.stopped
    equal(comm, losses(train(comm, cvae, select="best")), "the history of a further round")


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_all_ranks_stop_early_together(comm, way):
    cvae = as_made(comm, way)
    rate, cvae._optimizer.learning_rate = float(cvae._optimizer.learning_rate), 1e-12
    result = train(comm, cvae, epochs=30, patience=2)
    cvae._optimizer.learning_rate = rate
    equal(comm, losses(result), "the history")
    assert result.epochs < 30
    assert result.epochs == int(np.argmin([e.validation.loss for e in result.history])) + 1 + 2


@pytest.mark.parametrize("way", WAYS)
@on_ranks(2, 3, seconds=240)
def test_frames_of_one_that_are_not_numbers_spoil_no_model(comm, way):
    cvae = as_made(comm, way)
    before, samples = bits(cvae.state()), cvae.samples
    if comm.rank == 1:
        cvae.samples = lambda block: NotFinite()
    result = train(comm, cvae)
    cvae.samples = samples
    assert not result.accepted
    assert "not finite" in result.reason
    assert bits(cvae.state()) == before
    equal(comm, before, "the state")


@on_ranks(2, seconds=240)
def test_without_horovod_mpi_sums_the_gradients_and_the_cure_is_said_once(comm):
    """Unless Horovod is wanted by name."""
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("ddmd_mpi").addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "horovod.tensorflow", None)
        cvae = make("auto", Ranks(comm))
        assert cvae.data_parallel == "mpi"
        assert len(said) == (comm.rank == 0)
        assert comm.rank > 0 or ("make horovod" in said[0] and "(import of horovod.tensorflow halted" in said[0])
        equal(comm, (train(comm, cvae).loss, bits(cvae.state())), "the round")
        with pytest.raises(ModelError, match=r"^Horovod cannot be loaded \(import of .*\): run make horovod, .*$"):
            make("horovod", Ranks(comm))
        if comm.rank == 0:
            patch.undo()
        assert make("auto", Ranks(comm)).data_parallel == "mpi", "the ranks without Horovod would be waited for"
    logging.getLogger("ddmd_mpi").removeHandler(handler)
