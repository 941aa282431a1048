"""Do the RMSD-guided strategies beat a plain ensemble on the structure-based model of BBA? Equal time, many seeds.

    python benchmarks/steering_go.py [--seeds 8] [--ns 3] [--strategies none greedy ml_rmsd] [--model pca]
                                     [--quick] [--json FILE]

The walkers, the autoencoder, the outliers and the policy of the program, driven round by round in one process: on this
model a whole run of the program is over before TensorFlow has loaded. A one-sided Mann-Whitney rank test compares each
strategy with `none`. This tests the steering, not BBA's biophysics.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from ddmd_mpi import config, model
from ddmd_mpi.frames.block import FrameBlock, Hop
from ddmd_mpi.frames.window import FrameWindow
from ddmd_mpi.md.engine_pool import engine_seed, segment_seed
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.prepared import State
from ddmd_mpi.md.structures import build_system, load_structures
from ddmd_mpi.steering.outliers import find_outliers
from ddmd_mpi.steering.policy import Policy
from ddmd_mpi.structure.features import FeatureCalculator

N_WALKERS = 12
SETTINGS = ("training.filters=8", "training.epochs=3", "training.batch_size=32")


class Ensemble:
    """The walkers of one trial; keeps the states of all their frames."""

    def __init__(self, settings: config.Config, seed: int):
        self.settings = settings
        self.structures = load_structures(settings.system)
        system = build_system(self.structures, settings.simulation, settings.system)
        self.engines = [
            OpenMMEngine(self.structures, settings.simulation, settings.system, engine_seed(seed, w), model=system)
            for w in range(N_WALKERS)
        ]
        for walker, engine in enumerate(self.engines):
            engine.start(segment_seed(seed, walker, 0))
        self.features = FeatureCalculator(self.structures.target_nm, settings.features)
        self.segment = [0] * N_WALKERS
        self.states: dict[tuple[int, int], State] = {}
        self.best = np.inf

    def simulate(self) -> FrameBlock:
        """One round: every walker gives its reports."""
        rows = []
        for walker, engine in enumerate(self.engines):
            for _ in range(self.settings.steering.round_reports):
                engine.advance(self.settings.simulation.steps_per_report)
                rows.append(self._row(walker, engine.state()))
        self.best = min(self.best, min(row["rmsd"] for row in rows))
        return FrameBlock.from_rows(rows, Hop.FEATURES)

    def _row(self, walker: int, state: State) -> dict:
        frame = len(self.states)
        self.states[walker, frame] = state
        return {
            **self.features.compute(state.positions),
            "walker": walker,
            "segment": self.segment[walker],
            "frame": frame,
            "topology": 0,
            "decision": -1,
            "time": 0.0,
            "potential_energy": state.potential_energy,
            "aggregator": 0,
            "ring_slot": 0,
            "slot_generation": 1,
        }

    def restart(self, block: FrameBlock, restarts: list) -> None:
        """Carry out the decisions."""
        for restart in restarts:
            source = int(block["walker"][restart.index]), int(block["frame"][restart.index])
            state = self.states[source]
            self.engines[restart.walker].set_state(state.positions, state.velocities, seed=restart.velocity_seed)
            self.segment[restart.walker] += 1


def trial(strategy: str, seed: int, ns: float, network_name: str) -> float:
    """Best RMSD, Å, of one ensemble after `ns` nanoseconds in all."""
    settings = config.load(
        "bba-go", assignments=(f"steering.strategy={strategy}", f"training.model={network_name}", *SETTINGS)
    )
    ensemble = Ensemble(settings, seed)
    policy = Policy(settings.steering, N_WALKERS, seed)
    per_round = N_WALKERS * settings.steering.round_reports
    window = FrameWindow(round(settings.steering.window_rounds * per_round))
    n_residues = len(ensemble.structures.target_nm)
    network = model.create(model.Setup(settings.training, n_residues, seed)) if policy.needs_model else None
    for _ in range(round(ns * 1000 / (per_round * settings.simulation.report_interval_ps))):
        window.append(ensemble.simulate())
        block = window.block()
        latents = outliers = None
        if network is not None:
            network.train(block, model.Supervisor())
            latents = network.embed(block)
            outliers = find_outliers(latents, settings.steering)
        ensemble.restart(block, policy.choose(block, latents, outliers, np.ones(N_WALKERS, bool)))
    return float(ensemble.best)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", nargs="+", default=["none", "greedy", "ml_rmsd"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--ns", type=float, default=3.0)
    parser.add_argument("--model", default="cvae", choices=("cvae", "pca"))
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.ns, options.model = 2, 0.72, "pca"
    found: dict[str, list[float]] = {}
    print(f"bba-go, {N_WALKERS} walkers, {options.ns} ns in all, best RMSD in Å over {options.seeds} seeds")
    for strategy in sorted(options.strategies, key=lambda s: s != "none"):
        best = found[strategy] = [
            trial(strategy, seed, options.ns, options.model) for seed in range(1, options.seeds + 1)
        ]
        line = f"{strategy:<8} median {np.median(best):.2f}  mean {np.mean(best):.2f} ± {np.std(best):.2f}"
        if strategy != "none" and "none" in found:
            p = mannwhitneyu(best, found["none"], alternative="less").pvalue
            line += f"  ratio to none {np.median(best) / np.median(found['none']):.2f}  p {p:.4f}"
        print(f"{line}  {' '.join(f'{b:.2f}' for b in best)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
