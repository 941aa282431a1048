"""Does steering find the folded state sooner? Best Cα RMSD after equal simulated time, over seeds; runs on 4 ranks.

    python benchmarks/steering.py --usecase cln025 --seeds 5 --ns 0.35 --strategies none ml_rmsd
    python benchmarks/steering.py --usecase bba-go --seeds 8 --ns 48 --strategies none greedy ml_rmsd

Every strategy is compared with `none` (a plain ensemble) by a one-sided Mann-Whitney rank test. The goal for cln025
after 0.35 ns with the default strategy is a median of at most 2.6 Å.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

ROOT = Path(__file__).resolve().parents[1]


def best_rmsd(usecase: str, strategy: str, seed: int, ns: float, options: list[str]) -> tuple[float, int]:
    """Best RMSD, Å, and restarts of one run of `ns` nanoseconds in all."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        n_walkers = walkers(usecase, options)
        command = [ROOT / "jobscripts" / "local.sh", "4", "--usecase", usecase, "--seed", str(seed), "--output", run,
                   "--duration", "1h", "--set", f"steering.strategy={strategy}",
                   "--set", f"simulation.walker_length_ns={ns / n_walkers}", *options]
        subprocess.run(command, check=True, capture_output=True)
        summary = json.loads((run / "summary.json").read_text())
    return summary["science"]["best_rmsd_angstrom"], summary["steering"]["delivered"]


def walkers(usecase: str, options: list[str]) -> int:
    """Walkers of the use case on 4 ranks."""
    command = [ROOT / ".venv" / "bin" / "ddmd-mpi", "--usecase", usecase, "--dry-run", "-n", "4", *options]
    plan = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(next(line for line in plan.splitlines() if line.startswith("walkers:")).split()[1].rstrip(","))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--strategies", nargs="+", default=["none", "ml_rmsd"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ns", type=float, default=0.35)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = [text for a in arguments.assignments for text in ("--set", a)]
    found: dict[str, list[float]] = {}
    print(f"{arguments.usecase}, {arguments.ns} ns in all, best RMSD in Å over {arguments.seeds} seeds")
    for strategy in sorted(arguments.strategies, key=lambda s: s != "none"):
        runs = [best_rmsd(arguments.usecase, strategy, seed, arguments.ns, options)
                for seed in range(1, arguments.seeds + 1)]
        best = found[strategy] = [rmsd for rmsd, _ in runs]
        line = f"{strategy:<8} median {np.median(best):.2f}  mean {np.mean(best):.2f} ± {np.std(best):.2f}"
        if strategy != "none" and "none" in found:
            ratio = np.median(best) / np.median(found["none"])
            line += f"  ratio to none {ratio:.2f}  p {mannwhitneyu(best, found['none'], alternative='less').pvalue:.4f}"
        print(f"{line}  restarts {np.mean([n for _, n in runs]):.0f}  {' '.join(f'{b:.2f}' for b in best)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
