"""The trials of ``ddmd-mpi check``: ``python -m ddmd_mpi.cli.trials engine|model|report``.

Each trial runs in a separate process, because a library that has been set up wrongly may end its process. It prints a
detail, or ends with what is wrong.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .. import environ
from ..errors import DDMDError, sentence

#: The smallest use case whose force field is a real one.
USECASE, N_STEPS = "cln025", 20
N_FRAMES, N_RESIDUES = 16, 10
PNG = b"\x89PNG"


def engine(gpu: int | None = None) -> str:
    """Step the System of a use case on the platform that a run would take."""
    from ..config import load
    from ..md.openmm_engine import ACCELERATED, OpenMMEngine
    from ..md.structures import load_structures

    settings = load(USECASE)
    tried = OpenMMEngine(load_structures(settings.system), settings.simulation, settings.system, 1, gpu)
    clock = time.perf_counter()
    tried.start(1)
    tried.advance(N_STEPS)
    tried.state()
    if gpu is not None and tried.platform not in ACCELERATED:
        raise RuntimeError(
            f"this node has a GPU and OpenMM can only use the platform {tried.platform}: install "
            "openmm[cuda12], or set CUDA_VISIBLE_DEVICES to nothing"
        )
    return f"{tried.platform}, {N_STEPS} steps of {USECASE} in {time.perf_counter() - clock:.1f} s"


def model(gpu: int | None = None) -> str:
    """Train the default model for a round, and embed with it."""
    from ..analysis.models import features
    from ..config.schema import TrainingSection
    from ..model import Setup, Supervisor, create

    chains = np.cumsum(np.random.default_rng(1).normal(scale=0.3, size=(N_FRAMES, N_RESIDUES, 3)), axis=1)
    settings = TrainingSection(model="cvae", epochs=1)
    tried = create(Setup(settings, N_RESIDUES, gpu=gpu))
    clock = time.perf_counter()
    tried.train(features(chains, 8.0), Supervisor())
    if not np.isfinite(tried.embed(features(chains, 8.0))).all():
        raise RuntimeError("its latents are not finite")
    return f"cvae, a round of training in {time.perf_counter() - clock:.1f} s"


def report(gpu: int | None = None) -> str:
    """Draw a figure as a report has them."""
    del gpu
    from ..report.style import figure

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "figure.png"
        with figure(path) as drawn:
            axes = drawn.subplots()
            axes.plot([0, 1], label="α")
            axes.set(title="RMSD (Å)", xlabel="time (µs)")
            axes.legend()
        if not path.read_bytes().startswith(PNG):
            raise RuntimeError("the figure is not a PNG file")
    return "a figure is drawn"


TRIALS = {"engine": engine, "model": model, "report": report}


def main(name: str, *gpu: str) -> int:
    """Try one of :data:`TRIALS` on the GPU of an index, or on none; the exit code."""
    environ.soften_warnings()
    try:
        detail = TRIALS[name](*map(int, gpu))
    except DDMDError as error:
        sys.stderr.write(f"{sentence(error)}\n")
        return 1
    sys.stdout.write(f"{detail}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
