"""Rounds of training and embedding, next to plain Keras and plain PyTorch, and two training ranks next to one.

    python benchmarks/training.py [--part NAME ...] [--repeats N] [--quick] [--json FILE]

Goals: samples/s of a round at least 0.98 times those of Keras' fit (CVAE) and of a plain PyTorch loop (3dAAE) with the
same network, batches, frames and threads; 20,000 maps of 28 residues embedded at 0.9 times Keras' predict with its best
batch size; two Horovod ranks on a core each at least 1.8 times the samples/s of one at 309 residues. The last figure
depends on how much two cores of this machine can do at once, so two ranks that do not speak to each other are measured,
too. What is compared runs in turns, and the best of the repeats counts. Times of one process are CPU seconds of its one
thread, so that other programs on the machine do not count; those of ranks are wall time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.structure import contacts

RANKS = Path(__file__).parents[1] / "jobscripts" / "ranks.sh"
EPOCHS, VALIDATION = 1, 0.2  # whole batches in all parts: neither side pads or compiles again
BATCHES = (32, 64, 128, 256, 512, 1024, 2048)
PARTS = ("keras", "torch", "embed", "ranks")
Sizes = tuple[tuple[int, int], ...]  # residues and frames
SIZES: Sizes = ((28, 1600), (309, 320))


def chains(n_frames: int, n_residues: int, seed: int = 0) -> FrameBlock:
    """Random chains, some compact and some extended, with what the models read of them."""
    generator = np.random.default_rng(seed)
    steps = generator.normal(size=(n_frames, n_residues, 3))
    steps *= 0.38 / np.linalg.norm(steps, axis=2, keepdims=True)
    walks = np.cumsum(steps, axis=1) * generator.choice([0.5, 1.0], size=(n_frames, 1, 1))
    return features(walks, 8.0)


def best_of(repeats: int, functions: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The largest of what each function gives, called in turns."""
    results = [{name: function() for name, function in functions.items()} for _ in range(repeats)]
    return {name: max(r[name] for r in results) for name in functions}


def settings(kind: str, **changes) -> TrainingSection:
    """One round of a few epochs that does not end early."""
    return TrainingSection(
        model=kind, epochs=EPOCHS, patience=EPOCHS, validation_fraction=VALIDATION, max_validation_loss=1e12, **changes
    )


def samples_per_second(
    network: model.Model, block: FrameBlock, clock: Callable[[], float] = time.process_time
) -> float:
    """Training frames per second of one round."""
    start = clock()
    result = network.train(block, model.Supervisor())
    return result.samples / (clock() - start)


def against_keras(repeats: int, sizes: Sizes) -> dict[str, float]:
    """A round of the CVAE and Keras' fit of the same network, at 28 and at 309 residues."""
    figures = {}
    for n_residues, n_frames in sizes:
        ours = model.create(model.Setup(settings("cvae"), n_residues))
        block = chains(n_frames, n_residues)
        fit = keras_fit(n_residues, block)
        for warm_up in (partial(samples_per_second, ours, chains(80, n_residues)), partial(fit, 80)):
            warm_up()
        speed = best_of(repeats, {"ours": partial(samples_per_second, ours, block), "keras": partial(fit, n_frames)})
        figures |= {f"{name}_{n_residues}": value for name, value in speed.items()}
        report(f"CVAE, {n_residues} residues, samples/s", speed["ours"], speed["keras"], "Keras fit", 0.98)
    return figures


def keras_fit(n_residues: int, block: FrameBlock) -> Callable[[int], float]:
    """Keras' fit of the same network, optimiser and loss on dense maps: samples/s of this many frames."""
    import keras
    import tensorflow as tf

    from ddmd_mpi.model.architecture import architecture
    from ddmd_mpi.model.cvae import decoder, encoder

    shape = architecture(settings("cvae"), n_residues)

    class Vae(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = encoder(shape), decoder(shape)
            self.noise = keras.random.SeedGenerator(0)

        def call(self, maps, training=None):
            mean, log_variance = self.encoder(maps, training=training)
            z = mean + tf.exp(0.5 * log_variance) * keras.random.normal(tf.shape(mean), seed=self.noise)
            divergence = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_variance) - 1 - log_variance, axis=1)
            self.add_loss(tf.reduce_mean(divergence))
            return self.decoder(z, training=training)

    def entropy(maps, logits):
        n = n_residues
        terms = tf.nn.sigmoid_cross_entropy_with_logits(maps[:, :n, :n], logits[:, :n, :n])
        return tf.reduce_sum(terms, axis=(1, 2, 3))

    vae = Vae()
    vae.compile(optimizer=keras.optimizers.RMSprop(1e-3, rho=0.9, epsilon=1e-8), loss=entropy)
    rows = block["contact_counts"], block["contact_columns"]
    maps = contacts.dense(*rows, size=shape.size, dtype=np.float32)[..., None]

    def fit(n_frames: int) -> float:
        clock = time.process_time()
        n = round(n_frames * (1 - VALIDATION))
        vae.fit(
            maps[:n],
            maps[:n],
            batch_size=settings("cvae").batch_size,
            epochs=EPOCHS,
            verbose=0,
            validation_data=(maps[n:n_frames], maps[n:n_frames]),
        )
        return n * EPOCHS / (time.process_time() - clock)

    return fit


def against_torch(repeats: int, sizes: Sizes) -> dict[str, float]:
    """A round of the 3dAAE and a plain PyTorch loop over the same network, at 28 and at 309 residues."""
    figures = {}
    for n_residues, n_frames in sizes:
        ours = model.create(model.Setup(settings("aae"), n_residues))
        block = chains(n_frames, n_residues)
        loop = torch_loop(n_residues, block)
        for warm_up in (partial(samples_per_second, ours, chains(80, n_residues)), partial(loop, 80)):
            warm_up()
        speed = best_of(repeats, {"ours": partial(samples_per_second, ours, block), "torch": partial(loop, n_frames)})
        figures |= {f"aae_{name}_{n_residues}": value for name, value in speed.items()}
        report(f"3dAAE, {n_residues} residues, samples/s", speed["ours"], speed["torch"], "PyTorch loop", 0.98)
    return figures


def torch_loop(n_residues: int, block: FrameBlock) -> Callable[[int], float]:
    """The loop that one would write over a DataLoader and torch.optim.Adam: samples/s of this many frames."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from ddmd_mpi.model.aae import Encoder, critic, generator
    from ddmd_mpi.model.architecture import point_architecture
    from ddmd_mpi.model.point_clouds import NM, chamfer

    shape = point_architecture(settings("aae"), n_residues)
    encode, generate, judge = Encoder(shape), generator(shape), critic(shape)
    adam = torch.optim.Adam([*encode.parameters(), *generate.parameters()], 1e-4)
    critic_adam = torch.optim.Adam(judge.parameters(), 1e-4)
    clouds = torch.from_numpy(block["ca_positions"]).float() * NM

    def draw(x):
        mean, log_variance = encode(x)
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def criticism(z):
        prior = torch.randn_like(z)
        between = (prior + torch.rand(len(z), 1) * (z - prior)).requires_grad_()
        (slopes,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
        return (judge(z) - judge(prior)).mean() + 10 * ((slopes.norm(dim=1) - 1) ** 2).mean()

    def loop(n_frames: int) -> float:
        clock = time.process_time()
        n = round(n_frames * (1 - VALIDATION))
        training = DataLoader(TensorDataset(clouds[:n]), settings("aae").batch_size, shuffle=True)
        validation = DataLoader(TensorDataset(clouds[n:n_frames]), settings("aae").batch_size)
        for _ in range(EPOCHS):
            for (x,) in training:
                z = draw(x)
                critic_adam.zero_grad()
                criticism(z.detach()).backward()
                critic_adam.step()
                adam.zero_grad()
                (0.5 * chamfer(x, generate(z)) - judge(z)[:, 0]).mean().backward()
                adam.step()
            for (x,) in validation:
                with torch.no_grad():
                    z = draw(x)
                    (chamfer(x, generate(z)) - judge(z)[:, 0]).mean().item()
                criticism(z)
        return n * EPOCHS / (time.process_time() - clock)

    return loop


def embedding(repeats: int, sizes: Sizes) -> dict[str, float]:
    """Latents of 20,000 maps of 28 residues from their compressed rows, and Keras' predict of the dense maps."""
    n_frames = 20_000 if sizes == SIZES else 64
    ours, block = model.create(model.Setup(settings("cvae"), 28)), chains(n_frames, 28)
    maps = contacts.dense(block["contact_counts"], block["contact_columns"], dtype=np.float32)[..., None]

    def per_second(function: Callable[[], object]) -> float:
        clock = time.process_time()
        function()
        return len(block) / (time.process_time() - clock)

    predict = {
        f"predict_{n}": partial(per_second, partial(ours._encoder.predict, maps, batch_size=n, verbose=0))
        for n in BATCHES
    }
    for function in (partial(ours.embed, chains(300, 28)), *predict.values()):
        function()
    speed = best_of(repeats, {"ours": partial(per_second, partial(ours.embed, block)), **predict})
    best = max(predict, key=speed.__getitem__)
    name = f"Keras {best.replace('_', ', batch ')}"
    report("embedding, 28 residues, frames/s", speed["ours"], speed[best], name, 0.9)
    return {f"embed_{name}": value for name, value in speed.items()}


def training_ranks(repeats: int, _: Sizes) -> dict[str, float]:
    """Samples/s of all ranks: one, two that train together, two that do not know of each other."""
    kinds = {"one rank": (1, "together"), "two ranks": (2, "together"), "two ranks apart": (2, "apart")}
    speed = best_of(repeats, {name: partial(started, *kind) for name, kind in kinds.items()})
    report("two Horovod ranks, 309 residues, samples/s", speed["two ranks"], speed["one rank"], "one rank", 1.8)
    report("  the same", speed["two ranks"], speed["two ranks apart"], "two ranks apart", None)
    return {f"ranks_{name}": value for name, value in speed.items()}


def started(n_ranks: int, how: str) -> float:
    """Samples/s of this script's rank program on `n_ranks` ranks."""
    done = subprocess.run(
        [str(RANKS), str(n_ranks), sys.executable, "-m", "mpi4py", __file__, "--rank-program", how],
        env={**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def play(how: str) -> None:
    """One rank: bind to a core, train, and say on the first rank how fast all of them were."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[comm.rank]})
    ranks = model.Ranks(comm if how == "together" else None)
    network = model.create(model.Setup(settings("cvae", data_parallel="horovod"), 309, ranks=ranks))
    samples_per_second(network, chains(80, 309))
    block = chains(320, 309, seed=comm.rank)
    comm.Barrier()
    total = comm.allreduce(samples_per_second(network, block, time.perf_counter))
    if comm.rank == 0:
        click.echo(total)
    network.free()


def report(what: str, value: float, reference: float, name: str, goal: float | None) -> None:
    """One line of the table."""
    aim = "" if goal is None else f"  (goal >= {goal})"
    click.echo(f"{what:<45} {value:9.1f}   {name}: {reference:.1f}   ratio {value / reference:.3f}{aim}")


@click.command(help=__doc__)
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS)
@click.option("--repeats", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="Seconds of work, without ranks: whether the script runs, no figures.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--rank-program", type=click.Choice(["together", "apart"]), hidden=True)
def main(parts: tuple[str, ...], repeats: int, quick: bool, json_file: Path | None, rank_program: str | None) -> None:
    """Measure, and print the table."""
    if rank_program is not None:
        play(rank_program)
        return
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    measure = {"keras": against_keras, "torch": against_torch, "embed": embedding, "ranks": training_ranks}
    figures = {}
    if quick:
        parts, repeats = [p for p in parts if p != "ranks" and (p != "torch" or find_spec("torch"))], 1
    for part in parts:
        figures |= measure[part](repeats, ((28, 80),) if quick else SIZES)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
