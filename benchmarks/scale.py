"""How the loop grows with its ranks, on one machine: emulated simulations, everything else is real.

    python benchmarks/scale.py [--ranks 16 64 128] [--ranks-per-node 0] [--seconds 30] [--json FILE]

No model is trained: `bba-go`, greedy, one walker a rank, a report a second. With --ranks-per-node N the control plane
treats each N ranks as a node (DDMD_MPI_RANKS_PER_NODE), so that messages go between them as between real nodes; 0 is
one node. Reference in the same run: the bare start of as many ranks that import MPI and NumPy.

first report      seconds from the launch to the first frame of a walker
MB of a rank      proportional set size (memory shared with other ranks counts by its share) in mid-run, mean by role
at the leader     gets and puts in the memory of the first aggregator by ranks of its node, and messages to it, a second
a simulation      its own gets, puts and messages a second, wherever they go
round             mean seconds of a round of inference, and the frames in its window
predicted         what ddmd_mpi.layout.scaling says of the same layout
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

from ddmd_mpi.config import load
from ddmd_mpi.layout.plan import machine, plan
from ddmd_mpi.layout.scaling import predict

ROOT = Path(__file__).resolve().parents[1]
LOCAL, RANKS = ROOT / "jobscripts" / "local.sh", ROOT / "jobscripts" / "ranks.sh"
BARE = "from mpi4py import MPI; import numpy; MPI.COMM_WORLD.Barrier()"
REPORT_SECONDS = 1.0
SETTINGS = (
    "simulation.engine=emulated", f"emulation.report_seconds={REPORT_SECONDS}", "emulation.jitter=0.2",
    "simulation.report_interval_ps=4", "simulation.segment_ps=40", "simulation.walkers_per_rank=1",
    "training.model=none", "steering.strategy=greedy", "aggregation.ring_mb=4", "aggregation.archive=none",
    "run.drain=60",
)  # fmt: skip


def bare_start(n_ranks: int, environment: dict[str, str]) -> float:
    """Seconds until `n_ranks` ranks have imported MPI and NumPy and met once."""
    start = time.time()
    command = [RANKS, str(n_ranks), sys.executable, "-c", BARE]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.time() - start


def share_mb(pid: int) -> float | None:
    """Proportional set size of a process, MB; None once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024e-6 for line in lines if line.startswith("Pss:")), None)


def memory(run: Path) -> dict[str, float]:
    """Mean MB of a rank of each role of a run under way; rank 0, which has read the structures, is left out."""
    found = defaultdict(list)
    for rank in json.loads((run / "environment.json").read_text())["ranks"]:
        mb = share_mb(rank["pid"])
        if mb is not None and rank["rank"]:
            found[rank["role"]].append(mb)
    return {role: mean(values) for role, values in found.items()}


def measure(n_ranks: int, seconds: float, environment: dict[str, str]) -> dict:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as directory:
        run, start = Path(directory) / "run", time.time()
        assigned = [part for setting in SETTINGS for part in ("--set", setting)]
        duration_s = f"{seconds + n_ranks / 4:.0f}s"
        command = [LOCAL, str(n_ranks), "--usecase", "bba-go", "--duration", duration_s, "--output"]
        log = Path(directory) / "log"
        with log.open("w") as file:
            process = subprocess.Popen([*command, run, *assigned], stdout=file, stderr=file, env=environment)
            while process.poll() is None and not frames(run):
                time.sleep(0.2)
            time.sleep(seconds / 4)
            mb = memory(run) if process.poll() is None else {}
            if process.wait():
                sys.exit(f"the run of {n_ranks} ranks failed:\n{log.read_text()}")
        return {"ranks": n_ranks, "mb": mb, **figures(run, start)}


def frames(run: Path) -> int:
    """Frames that the run's status shows."""
    try:
        return json.loads((run / "status.json").read_text())["frames"]
    except (OSError, ValueError, KeyError):
        return 0


def figures(run: Path, start: float) -> dict:
    """What the events and the summary say."""
    spans = defaultdict(list)
    for file in (run / "events").glob("*.jsonl"):
        role = file.name.split("-")[0]
        for event in map(json.loads, file.read_text().splitlines()):
            spans[event["name"]].append({**event, "role": role})
    summary, rounds = json.loads((run / "summary.json").read_text()), spans["inference_round"]
    if not spans["first_step"]:
        sys.exit("the run ended before its first step: give it more --seconds, or a machine that is less busy")
    plane = spans["control_plane"]
    at_leader = ("gets_at_leader", "puts_at_leader", "messages_to_leader")
    mine = [(p["gets"] + p["puts"] + p["messages"]) / duration(p) for p in plane if p["role"] == "simulation"]
    span = max(map(duration, plane))
    return {
        "first_report_s": min(e["start"] for e in spans["first_step"]) - start,
        "aggregators": summary["ranks"]["aggregation"],
        "frames_per_s": summary["simulation"]["frames"] / span,
        "at_leader": {name: sum(p[name] for p in plane if not leads(p, plane)) / span for name in at_leader},
        "simulation_operations_per_s": mean(mine),
        "round_s": mean(map(duration, rounds)) if rounds else None,
        "round_frames": mean(r.get("frames", 0) for r in rounds) if rounds else None,
    }


def duration(event: dict) -> float:
    """Seconds of a span."""
    return event["end"] - event["start"]


def leads(event: dict, plane: list[dict]) -> bool:
    """Whether an event is of the first aggregator."""
    return event["rank"] == min(p["rank"] for p in plane if p["role"] == "aggregation")


def show(row: dict) -> None:
    """Print a row of the table."""
    at, mb = row["at_leader"], row["mb"]
    sizes = " ".join(f"{mb.get(role, 0):.0f}" for role in ("simulation", "aggregation", "training", "inference"))
    print(
        f"{row['ranks']:>6} {row['aggregators']:>5} {row['bare_s']:>7.1f} {row['first_report_s']:>8.1f} "
        f"{row['predicted']['start_s']:>9.1f}   {sizes:<15} {at['gets_at_leader'] + at['puts_at_leader']:>9.0f} "
        f"{at['messages_to_leader']:>9.1f} {row['predicted']['messages_to_leader']:>9.1f} "
        f"{row['simulation_operations_per_s']:>8.0f} {row['frames_per_s']:>8.0f} {row['round_s'] or 0:>8.3f} "
        f"{row['round_frames'] or 0:>7.0f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--ranks-per-node", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--quick", action="store_true", help="whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.ranks, options.seconds = [5], 15.0
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if options.ranks_per_node:
        environment["DDMD_MPI_RANKS_PER_NODE"] = str(options.ranks_per_node)
    rows, cores = [], len(os.sched_getaffinity(0))
    print(
        f"{'ranks':>6} {'aggr.':>5} {'bare s':>7} {'first s':>8} {'predicted':>9}   {'MB s a t i':<15} "
        f"{'RMA/s':>9} {'messages':>9} {'predicted':>9} {'sim op/s':>8} {'frames/s':>8} {'round s':>8} {'frames':>7}"
    )
    for n in options.ranks:
        nodes, gpus = machine(n, ranks_per_node=options.ranks_per_node or None)
        layout = plan(nodes, gpus, load("bba-go").ranks, 1)
        per_core = n / cores
        predicted = predict(layout, ranks_per_core=per_core)
        row = {"bare_s": bare_start(n, environment), **measure(n, options.seconds, environment)}
        rows.append({**row, "predicted": predicted._asdict()})
        show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
