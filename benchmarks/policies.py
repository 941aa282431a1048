"""What each strategy finds on a Markov model whose truth is known: best RMSD and coverage, over many seeds.

    OPENBLAS_NUM_THREADS=1 python benchmarks/policies.py
                                  [--arms none greedy ml_rmsd auto] [--seeds 20] [--reports 3000]
                                  [--set section.key=value ...] [--quick] [--json FILE]

The strategies, the policy and the instant model of the program, driven round by round in one process; walkers move on
the Markov model of the use case bba-go-markov, so that a trial takes a second. Coverage is the share of the model's
states that any walker has been in. Each arm is compared with each reference, seed by seed, by a Wilcoxon signed-rank
test; the interval is 95 % of the mean difference, by bootstrap. An arm may have settings of its own:
`fast,steering.options={alpha=0.5}`. This tests the steering, not BBA's biophysics.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from ddmd_mpi import config
from ddmd_mpi.analysis.markov_model import MarkovModel, read_model
from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.frames.block import FrameBlock, Hop
from ddmd_mpi.frames.window import inference_frames
from ddmd_mpi.md.emulated.markov import most_like
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.steering.instant import instant_latents
from ddmd_mpi.steering.outliers import find_outliers
from ddmd_mpi.steering.policy import Policy
from ddmd_mpi.structure.features import FeatureCalculator

USECASE, N_WALKERS = "bba-go-markov", 12
#: Arms that every arm is compared with, if they take part.
REFERENCES = ("none", "greedy", "ml_rmsd")
BOOTSTRAP = 2000
#: Coverage to which the time is taken.
WANTED_COVERAGE = 0.8


@dataclass(frozen=True)
class Truth:
    """The model, the features of all its frames, and the frame that walkers start from."""

    model: MarkovModel
    features: FrameBlock
    start: int


@dataclass
class Ensemble:
    """The walkers of one trial and all that they have reported."""

    truth: Truth
    rng: np.random.Generator
    segment_reports: int
    at: np.ndarray = field(init=False)  # the model's frame that each walker is in
    segment: np.ndarray = field(init=False)
    age: np.ndarray = field(init=False)  # reports of its present segment
    decision: np.ndarray = field(init=False)  # that has started it, -1 for none
    frames: int = 0
    decisions: int = 0
    rows: list[np.ndarray] = field(default_factory=list)  # walker, segment, frame, decision, the model's frame

    def __post_init__(self) -> None:
        self.at = np.full(N_WALKERS, self.truth.start)
        self.segment = np.zeros(N_WALKERS, int)
        self.age = np.zeros(N_WALKERS, int)
        self.decision = np.full(N_WALKERS, -1)

    def simulate(self, n_reports: int) -> np.ndarray:
        """That many reports of every walker, each a step of the model; the model's frames, shape (n, n_walkers)."""
        found = [self.truth.model.walk(int(frame), n_reports, self.rng) for frame in self.at]
        for at in np.stack(found, axis=1):
            complete = self.age >= self.segment_reports
            self.segment[complete] += 1
            self.age[complete] = 0
            self.decision[complete] = -1
            self.age += 1
            self.frames += 1
            row = np.arange(N_WALKERS), self.segment, np.full(N_WALKERS, self.frames), self.decision, at
            self.rows.append(np.stack(row, axis=1))
        self.at = self.rows[-1][:, -1].copy()
        return np.stack(found)

    def window(self, n_frames: int) -> tuple[FrameBlock, np.ndarray]:
        """The newest frames as inference has them, and which of the model's each is."""
        walker, segment, frame, decision, at = np.concatenate(self.rows[-(n_frames // N_WALKERS) :]).T
        columns = self.truth.features.take(at).columns
        own = {"walker": walker.astype(np.int32), "segment": segment.astype(np.int32)}
        return FrameBlock({**columns, **own, "frame": frame, "decision": decision}), at

    def restart(self, walker: int, at: int) -> None:
        """Continue from a frame of the model."""
        self.at[walker] = at
        self.segment[walker] += 1
        self.age[walker] = 0
        self.decision[walker] = self.decisions
        self.decisions += 1


def truth_of(settings: config.Config) -> Truth:
    """The model of the use case, with the features of all its frames."""
    model = read_model(settings.emulation.markov_model)
    structures = load_structures(settings.system)
    calculator = FeatureCalculator(structures.target_nm, settings.features)
    rest = {"walker": 0, "segment": 0, "frame": 0, "topology": 0, "decision": -1, "time": 0.0, "potential_energy": 0.0}
    place = {"aggregator": 0, "ring_slot": 0, "slot_generation": 1}
    rows = [{**calculator.compute(x), **rest, **place} for x in model.positions]
    start = most_like(model, structures.positions_nm.astype(np.float64).tobytes())
    return Truth(model, FrameBlock.from_rows(rows, Hop.FEATURES), start)


def trial(settings: config.Config, truth: Truth, seed: int, n_reports: int) -> tuple[np.ndarray, np.ndarray]:
    """Best RMSD, Å, and coverage of one ensemble after each round, shape (n_rounds,) each."""
    ensemble = Ensemble(truth, np.random.default_rng([seed, 1]), settings.simulation.reports_per_segment)
    policy = Policy(settings.steering, N_WALKERS, seed)
    per_round, n_window = inference_frames(settings, N_WALKERS)
    free = np.ones(N_WALKERS, bool)
    best, covered, visited = [], [], np.zeros(truth.model.n_states, bool)
    for _ in range(n_reports // per_round):
        seen = ensemble.simulate(per_round // N_WALKERS)
        best.append(min([truth.features["rmsd"][seen].min(), *best[-1:]]))
        visited[truth.model.state[seen]] = True
        covered.append(visited.mean())
        if not policy.strategy:
            continue
        block, at = ensemble.window(n_window)
        latents = instant_latents(block) if policy.needs_model else None
        outliers = find_outliers(latents, settings.steering) if policy.needs_outliers and latents is not None else None
        for restart in policy.choose(block, latents, outliers, free):
            ensemble.restart(restart.walker, int(at[restart.index]))
    return np.array(best), np.array(covered)


def settings_of(arm: str, assignments: list[str]) -> config.Config:
    """The settings of an arm: a strategy, and settings of its own behind commas."""
    strategy, *own = arm.split(",steering.")
    given = (*assignments, f"steering.strategy={strategy}", *(f"steering.{text}" for text in own))
    return config.load(USECASE, assignments=given)


def measures(best: np.ndarray, covered: np.ndarray, per_round: int) -> dict[str, list[float]]:
    """The figures of an arm by seed, from shape (n_seeds, n_rounds)."""
    half = best.shape[1] // 2 - 1
    reached = covered >= WANTED_COVERAGE
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, np.inf) * per_round
    return {
        "best_half": best[:, half].tolist(),
        "best_end": best[:, -1].tolist(),
        "coverage_half": covered[:, half].tolist(),
        "coverage_end": covered[:, -1].tolist(),
        "reports_to_coverage": first.tolist(),
    }


def compared(arm: dict[str, list[float]], reference: dict[str, list[float]]) -> dict[str, Any]:
    """Mean difference, its 95 % interval and the p value of each figure, arm minus reference."""
    result, rng = {}, np.random.default_rng(1)
    for name in ("best_half", "best_end", "coverage_half", "coverage_end"):
        difference = np.array(arm[name]) - np.array(reference[name])
        drawn = rng.choice(difference, (BOOTSTRAP, len(difference))).mean(axis=1)
        p = float(wilcoxon(difference).pvalue) if difference.any() else 1.0
        result[name] = {"difference": float(difference.mean()), "interval": np.percentile(drawn, (2.5, 97.5)), "p": p}
        result[name]["interval"] = result[name]["interval"].tolist()
    return result


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print the comparisons with the references."""
    for reference in (name for name in REFERENCES if name in found):
        print(f"\nagainst {reference}: difference of the means [95 %] p")
        for arm in (name for name in found if name != reference):
            line = [
                f"{c['difference']:+.3f} [{c['interval'][0]:+.3f} {c['interval'][1]:+.3f}] {c['p']:.4f}"
                for c in compared(found[arm], found[reference]).values()
            ]
            print(f"{arm:<28} {' | '.join(line)}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [name for name, known in BUILT_IN.items() if "contacts" not in known.needs]
    parser.add_argument("--arms", nargs="+", default=["none", *(name for name in every if name != "none")])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--reports", type=int, default=3000, help="of all walkers together")
    parser.add_argument("--set", action="append", default=[], help="a setting of all arms")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.arms, options.seeds, options.reports = options.arms[:3], 2, 240
    truth = truth_of(settings_of(options.arms[0], options.set))
    print(f"{USECASE}, {N_WALKERS} walkers, {options.reports} reports in all, {options.seeds} seeds: mean ± sd")
    print(f"{'arm':<28} best Å half   best Å end   coverage half  coverage end  reports to {WANTED_COVERAGE:.0%}")
    found: dict[str, dict[str, list[float]]] = {}
    for arm in options.arms:
        settings = settings_of(arm, options.set)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        trials = [trial(settings, truth, seed, options.reports) for seed in seeds]
        best, covered = (np.stack(figures) for figures in zip(*trials, strict=True))
        figures = found[arm] = measures(best, covered, inference_frames(settings, N_WALKERS)[0])
        columns = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" for v in list(figures.values())[:4]]
        print(f"{arm:<28} {'  '.join(columns)}  {np.median(figures['reports_to_coverage']):.0f}", flush=True)
    show(found)
    if options.json:
        against = {r: {a: compared(found[a], found[r]) for a in found if a != r} for r in REFERENCES if r in found}
        options.json.write_text(json.dumps({"trials": found, "compared": against}, indent=1))


if __name__ == "__main__":
    main()
