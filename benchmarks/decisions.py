"""A round of inference against the frames in its window and the walkers it steers: outliers, ranking, choice.

    python benchmarks/decisions.py [--frames 2000 20000] [--walkers 12 6000] [--strategies ml_rmsd fast]
                                   [--quick] [--json FILE]

Reference in the same run: the bare neighbour query of the same latents (normally distributed, the slowest case).
Goal: 50 ms for the choice of any strategy among 20,000 frames. CPU seconds of one thread, best of three.
`training.py` measures the embedding of the window.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.outliers import find_outliers, nearest_neighbours
from ddmd_mpi.steering.policy import Policy

DIMENSIONS, REPEATS, SEGMENT = 10, 3, 20


def window(n_frames: int, n_walkers: int, rng: np.random.Generator) -> FrameBlock:
    """Frames of all walkers in turn, with an RMSD that wanders."""
    index = np.arange(n_frames)
    frame = index // n_walkers
    return FrameBlock(
        {
            "walker": (index % n_walkers).astype(np.int32),
            "segment": (frame // SEGMENT).astype(np.int32),
            "frame": frame.astype(np.int64),
            "decision": np.full(n_frames, -1),
            "ca_positions": rng.normal(0, 600, (n_frames, 28, 3)).astype(np.int16),
            "topology": np.zeros(n_frames, np.int32),
            "rmsd": rng.uniform(1, 9, n_frames).astype(np.float32),
            "order_parameters": rng.normal(size=(n_frames, 2)).astype(np.float32),
            "slot_generation": np.ones(n_frames, np.int64),
            "contact_counts": np.zeros((n_frames, 1), np.uint16),
            "contact_columns": np.zeros(0, np.uint16),
        }
    )


def best_of(function: Callable[[], object]) -> float:
    """CPU seconds of the fastest call."""
    spent = []
    for _ in range(REPEATS):
        clock = time.process_time()
        function()
        spent.append(time.process_time() - clock)
    return min(spent)


def measure(n_frames: int, n_walkers: int, strategies: list[str]) -> list[dict[str, float | str]]:
    """The figures of one window, by strategy."""
    rng = np.random.default_rng(1)
    block, settings = window(n_frames, n_walkers, rng), SteeringSection()
    latents = rng.normal(size=(n_frames, DIMENSIONS)).astype(np.float32)
    outliers, free = find_outliers(latents, settings), np.ones(n_walkers, bool)
    once = {
        "frames": n_frames,
        "walkers": n_walkers,
        "query_s": best_of(lambda: nearest_neighbours(latents, settings.lof_neighbours + 1)),
        "outliers_s": best_of(lambda: find_outliers(latents, settings)),
    }
    rows = []
    for strategy in strategies:
        chosen: list[int] = []

        def choose(strategy: str = strategy, chosen: list[int] = chosen) -> None:
            policy = Policy(SteeringSection(strategy=strategy), n_walkers, 1, contacts=0)
            chosen.append(len(policy.choose(block, latents, outliers, free)))

        rows.append({**once, "strategy": strategy, "choice_s": best_of(choose), "restarts": chosen[-1]})
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--walkers", type=int, nargs="+", default=[12, 1000, 6000])
    parser.add_argument("--strategies", nargs="+", default=[name for name in BUILT_IN if name != "none"])
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.frames, options.walkers = [500], [12, 100]
    print("frames  walkers  query s  outliers s  / query  strategy      choice ms  / query  restarts")
    rows = []
    for n_frames, n_walkers in ((f, w) for f in options.frames for w in options.walkers):
        for row in measure(n_frames, n_walkers, options.strategies):
            query = row["query_s"]
            print(
                f"{row['frames']:6.0f} {row['walkers']:8.0f} {query:8.3f} {row['outliers_s']:11.3f} "
                f"{row['outliers_s'] / query:8.2f}  {row['strategy']:<12} {1e3 * row['choice_s']:10.1f} "
                f"{row['choice_s'] / query:8.2f} {row['restarts']:9.0f}",
                flush=True,
            )
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
