"""Print the restart decisions of a run and the ancestry of its best frame: ``python examples/lineage.py RUN``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from ddmd_mpi.analysis import open_run


def main(directory: Path) -> None:
    """Say how many decisions had which outcome, and by which frames the best one was reached."""
    run = open_run(directory)
    outcomes = Counter(decision["outcome"] for decision in run.decisions)
    print("decisions:", ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items())) or "none")
    best = run.summary["science"]["best_rmsd_source"]
    print(f"best frame: {run.summary['science']['best_rmsd_angstrom']:.2f} Å, reached by")
    for source in run.ancestry(best["walker"], best["frame"]):
        print(f"  walker {source.walker}, segment {source.segment}, frame {source.frame}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
