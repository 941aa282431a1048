"""One model trained on 2 or more ranks, each with frames of its own, and few of them on some.

Usage: training_ranks.py horovod mpi   checks each of these ways, and the one against the other
       training_ranks.py auto DIR     checks what is done where a package in DIR hides Horovod
"""

import logging
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError
from ddmd_mpi.model import Ranks, Setup, Supervisor

comm = MPI.COMM_WORLD
N_RESIDUES = 7
N_FRAMES = (37, 12, 50)  # of each rank: 2, 1 and 3 batches for training
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


def train(cvae, seed=0, batches=10**9, **changes):
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


def equal(value, what):
    """Assert that all ranks have the same value."""
    values = comm.allgather(value)
    assert values.count(values[0]) == len(values), f"{what} differs between the ranks: {values}"


def losses(result):
    """What the ranks must agree on of a round."""
    epochs = [(e.training, e.validation) for e in result.history]
    return result.epochs, result.loss, result.validation_loss, result.accepted, result.stopped, result.reason, epochs


def they_start_equal(cvae):
    own = comm.allgather(bits(make(seed=3 + comm.rank).weights()))
    assert len(set(own)) == comm.size, "ranks that are left alone start equal, too"
    equal(bits(cvae.state()), "the first state")


def every_rank_ends_a_round_with_the_same_bits(cvae):
    """Returns the weights and validation losses of two rounds."""
    seen, outcome, step, counted = [bits(cvae.state())], [], cvae.train_batch, []
    cvae.train_batch = lambda batch, weights, stop: (counted.append(weights.sum()), step(batch, weights, stop))[1]
    for seed in range(2):
        result = train(cvae, seed)
        assert result.accepted
        assert result.samples == result.epochs * round(0.8 * N_FRAMES[comm.rank]) == sum(counted)
        assert len(counted) == result.epochs * comm.size, "the ranks took other numbers of steps"
        counted.clear()
        equal(bits(cvae.state()), f"the state after round {seed + 1}")
        equal(losses(result), f"the history of round {seed + 1}")
        seen.append(bits(cvae.state()))
        outcome.append((result.validation_loss, cvae.weights()))
    cvae.train_batch = step
    assert len(set(seen)) == 3, "a round changed nothing"
    return outcome


def the_summed_gradient_is_that_of_the_joined_batch(cvae):
    """Without dropout and noise; a rank's batch has 16, 5 or no frames that count."""
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


def one_that_asks_for_the_end_ends_the_round_of_all(cvae):
    """The last rank asks in the third epoch, after the first batch; the next one tells the others."""
    last, step, steps = comm.rank == comm.size - 1, cvae.train_batch, []
    cvae.train_batch = lambda *batch: (steps.append(1), step(*batch))[1]
    per_epoch = comm.size  # of training batches; the last rank has one batch for validation, too
    result = train(cvae, batches=2 * (per_epoch + 1) + 1 if last else 10**9, epochs=50, patience=50)
    equal(losses(result), "the history")
    equal(bits(cvae.state()), "the state")
    assert len(steps) == 2 * per_epoch + 2
    assert (result.epochs, result.stopped, result.accepted) == (2, True, True)
    before = bits(cvae.state())
    result = train(cvae, batches=1 if comm.rank == 0 else 10**9)
    assert (result.epochs, result.stopped, result.accepted) == (0, True, False)
    assert bits(cvae.state()) == before
    cvae.train_batch = step


def an_end_asked_for_while_the_old_model_is_measured_ends_all(cvae):
    last = comm.rank == comm.size - 1
    result = train(cvae, batches=1 if last else 10**9, select="best")
    equal(result.epochs, "the number of epochs")
    assert result.stopped
    equal(losses(train(cvae, select="best")), "the history of a further round")


def all_ranks_stop_early_together(cvae):
    rate, cvae._optimizer.learning_rate = float(cvae._optimizer.learning_rate), 1e-12
    result = train(cvae, epochs=30, patience=2)
    cvae._optimizer.learning_rate = rate
    equal(losses(result), "the history")
    assert result.epochs < 30
    assert result.epochs == int(np.argmin([e.validation.loss for e in result.history])) + 1 + 2


def frames_of_one_that_are_not_numbers_spoil_no_model(cvae):
    before, samples = bits(cvae.state()), cvae.samples
    if comm.rank == 1:
        cvae.samples = lambda block: NotFinite()
    result = train(cvae)
    cvae.samples = samples
    assert not result.accepted
    assert "not finite" in result.reason
    assert bits(cvae.state()) == before
    equal(before, "the state")


CHECKS = (
    they_start_equal, every_rank_ends_a_round_with_the_same_bits, the_summed_gradient_is_that_of_the_joined_batch,
    one_that_asks_for_the_end_ends_the_round_of_all, an_end_asked_for_while_the_old_model_is_measured_ends_all,
    all_ranks_stop_early_together, frames_of_one_that_are_not_numbers_spoil_no_model,
)  # fmt: skip


def say(text):
    if comm.rank == 0:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def check_ways(ways):
    outcomes = []
    for way in ways:
        cvae = make(way, Ranks(comm))
        assert cvae.data_parallel == way
        first = cvae.state()
        for check in CHECKS:
            cvae.restore(first)
            outcome = check(cvae)
            outcomes += [outcome] if outcome else []
            say(f"{way}: {check.__name__}")
    for (loss, weights), (other_loss, other_weights) in zip(*outcomes, strict=True):
        assert abs(loss - other_loss) < 1e-4 * loss
        for a, b in zip(weights, other_weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * abs(b).max() + 1e-6)
    say("both: the same model within rounding")


def check_fallback(hiding_place):
    """Horovod cannot be imported: said once, and MPI takes its place, unless Horovod is wanted by name."""
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("ddmd_mpi").addHandler(handler)
    cvae = make("auto", Ranks(comm))
    assert cvae.data_parallel == "mpi"
    assert len(said) == (comm.rank == 0)
    assert comm.rank > 0 or ("make horovod" in said[0] and "out of reach" in said[0])
    equal((train(cvae).loss, bits(cvae.state())), "the round")
    with pytest.raises(ModelError, match=r"^Horovod cannot be loaded \(out of reach\): run make horovod, .*$"):
        make("horovod", Ranks(comm))
    if comm.rank == 0:
        sys.path.remove(hiding_place)
    assert make("auto", Ranks(comm)).data_parallel == "mpi", "the ranks without Horovod would be waited for"
    say("auto: MPI takes the place of Horovod")


if __name__ == "__main__":
    if sys.argv[1] == "auto":
        check_fallback(sys.argv[2])
    else:
        check_ways(sys.argv[1:])
