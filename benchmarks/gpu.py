"""What a GPU is good for here: dynamics shared by walkers and processes, rounds of models, the neighbour query.

    python benchmarks/gpu.py [--usecase cln025] [--seconds 20] [--walkers 1 2 4 8] [--mps] [--quick] [--json FILE]

bare        OpenMM on its own: steps, nothing else
loop        the same engine with a report and its features every 50 ps, as a simulation rank does; goal 0.99 of bare
walkers     n walkers of one process by turns: aggregate ns/day, against one
processes   n processes that share the GPU: aggregate ns/day, against one; goal 4 for 166 to 582 atoms
processes, MPS   the same under NVIDIA's Multi-Process Service, which --mps starts and stops (one user, no root needed)
models      samples/s of a round of the CVAE and the 3dAAE, of 28 residues
neighbours  seconds of a query of 20,000 latents by cuML, against SciPy

Without a GPU the same runs on the CPU; --quick makes it a smoke test of seconds. In place of
a figure it names what is not installed or has no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddmd_mpi import config, model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import Config, TrainingSection
from ddmd_mpi.errors import DDMDError
from ddmd_mpi.md.openmm_engine import OpenMMEngine, check_platform
from ddmd_mpi.md.topologies import Topology, load_topology
from ddmd_mpi.steering.outliers import cuml_neighbours, nearest_neighbours
from ddmd_mpi.structure.features import FeatureCalculator

REPORT_PS, LOOP_GOAL, SHARE_GOAL = 50.0, 0.99, 4.0
CALL_STEPS = 500
MPS = "nvidia-cuda-mps-control"


class Bench:
    """One use case on the platform that the program would choose."""

    def __init__(self, usecase: str):
        self.settings: Config = config.load(usecase)
        self.topology: Topology = load_topology(self.settings, 0)
        self.platform = check_platform(self.settings.simulation, None, self.topology.n_atoms)

    def engine(self, seed: int) -> OpenMMEngine:
        """A walker at its start."""
        settings = self.settings
        engine = OpenMMEngine(
            self.topology.structures,
            settings.simulation,
            settings.system,
            seed,
            model=self.topology.system,
            platform=self.platform,
        )
        engine.start(seed)
        engine.advance(CALL_STEPS)
        return engine

    def ns_per_day(self, n_walkers: int, seconds: float, reports: bool) -> float:
        """Of this many walkers together, in turn; with `reports` also states and features, as in the loop."""
        engines = [self.engine(seed + 1) for seed in range(n_walkers)]
        structures, step_ns = self.topology.structures, self.settings.simulation.timestep_fs * 1e-6
        calculator = FeatureCalculator(structures.target_nm, self.settings.features, structures.molecules)
        interval = round(REPORT_PS / (step_ns * 1000)) if reports else CALL_STEPS
        steps, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds or not steps:
            for engine in engines:
                engine.advance(interval)
                steps += interval
                if reports:
                    state = engine.state()
                    calculator.compute(state.positions[structures.descriptor], state.box, state.positions)
        return steps * step_ns / spent * 86400


def processes(usecase: str, n: int, seconds: float) -> float:
    """ns/day of `n` processes together, which begin to count at the same time."""
    begin = time.time() + 10 + 2 * n
    command = [sys.executable, __file__, "--usecase", usecase, "--seconds", str(seconds), "--begin", str(begin)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    return sum(float(process.communicate()[0]) for process in started)


def one_process(usecase: str, seconds: float, begin: float) -> float:
    """What each of them does."""
    bench = Bench(usecase)
    bench.engine(os.getpid() % 1000 + 1)
    time.sleep(max(0.0, begin - time.time()))
    return bench.ns_per_day(1, seconds, reports=True)


@contextlib.contextmanager
def mps() -> Iterator[None]:
    """NVIDIA's Multi-Process Service for the processes that are started in the block."""
    with tempfile.TemporaryDirectory() as directory:
        places = {"CUDA_MPS_PIPE_DIRECTORY": directory, "CUDA_MPS_LOG_DIRECTORY": directory}
        os.environ.update(places)
        subprocess.run([MPS, "-d"], check=True)
        try:
            yield
        finally:
            subprocess.run([MPS], input="quit\n", text=True, check=False)
            for name in places:
                del os.environ[name]


def samples_per_second(kind: str, n_frames: int) -> float:
    """Of a round of a model, after one that compiles."""
    walks = np.cumsum(np.random.default_rng(0).normal(scale=0.2, size=(n_frames, 28, 3)), axis=1)
    settings = TrainingSection(model=kind, epochs=1, patience=1, max_validation_loss=1e12)
    network, block = model.create(model.Setup(settings, 28)), features(walks, 8.0)
    network.train(block, model.Supervisor())
    start = time.perf_counter()
    result = network.train(block, model.Supervisor())
    return result.samples / (time.perf_counter() - start)


def query_seconds(n: int) -> tuple[float, float | None]:
    """Of the neighbour query by SciPy, and by cuML where there is one."""
    from scipy.spatial import cKDTree

    points = np.random.default_rng(0).normal(size=(n, 10))
    start = time.perf_counter()
    cKDTree(points, leafsize=32).query(points, k=20)
    scipy_s = time.perf_counter() - start
    if cuml_neighbours() is None:
        return scipy_s, None
    nearest_neighbours(points, 20)
    start = time.perf_counter()
    nearest_neighbours(points, 20)
    return scipy_s, time.perf_counter() - start


def measure(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The rows of the table."""
    usecase, seconds, bench = options.usecase, options.seconds, Bench(options.usecase)
    where = f"{bench.platform}, {bench.topology.n_atoms} atoms, ns/day"
    bare = bench.ns_per_day(1, seconds, reports=False)
    yield row("bare", where, bare)
    yield row("loop", where, bench.ns_per_day(1, seconds, reports=True), bare, LOOP_GOAL)
    for n in options.walkers:
        yield row(f"{n} walkers", where, bench.ns_per_day(n, seconds, reports=True), bare)
    for n in options.walkers:
        yield row(f"{n} processes", where, processes(usecase, n, seconds), bare, SHARE_GOAL if n > 4 else None)
    if options.mps and shutil.which(MPS):
        with mps():
            for n in options.walkers:
                goal = SHARE_GOAL if n > 4 else None
                yield row(f"{n} processes, MPS", where, processes(usecase, n, seconds), bare, goal)
    elif options.mps:
        yield row("processes, MPS", f"{MPS} is not installed", None)
    for kind in ("cvae", "aae"):
        try:
            yield row(f"round of {kind}", "samples/s", samples_per_second(kind, 64 if options.quick else 2000))
        except (DDMDError, ImportError) as error:
            yield row(f"round of {kind}", f"not here: {error}", None)
    scipy_s, cuml_s = query_seconds(500 if options.quick else 20_000)
    yield row("neighbours, SciPy", "s", scipy_s)
    yield row("neighbours, cuML", "s" if cuml_s else "cuML is not installed, or sees no GPU", cuml_s, scipy_s)


def row(
    what: str, where: str, value: float | None, reference: float | None = None, goal: float | None = None
) -> dict[str, object]:
    """A line of the table."""
    ratio = value / reference if value is not None and reference else None
    return {"what": what, "where": where, "value": value, "ratio": ratio, "goal": goal}


def show(line: dict[str, object]) -> None:
    """Print a line of the table."""
    figures = ["" if line[key] is None else f"{line[key]:.4g}" for key in ("value", "ratio", "goal")]
    print(f"{line['what']:<20} {figures[0]:>9} {figures[1]:>7} {figures[2]:>6}  {line['where']}", flush=True)


def main() -> None:
    """Print the table, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--walkers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--mps", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.begin is not None:
        print(one_process(options.usecase, options.seconds, options.begin))
        return
    if options.quick:
        options.usecase, options.seconds, options.walkers = "bba-go", 0.2, [1, 2]
    print(f"{'':<20} {'':>9} {'ratio':>7} {'goal':>6}")
    rows = []
    for line in measure(options):
        show(line)
        rows.append(line)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
