"""The control plane over two hosts beside one host, in the same run. Hosts are namespaces of this machine: needs root.

    python benchmarks/hosts.py [--usecase cln025] [--seconds 40] [--commands 300] [--json FILE]

command     from a decision of inference until the walker's rank has the command and the frame, which it looks for all
            the time, so that there is no wait for a report. Six ranks: on two hosts they are simulation, simulation,
            aggregation | simulation, training, inference. Goal: p99 at most 25 ms
first step  the same, and what a steered run needs from a report to the first step. Goal: at most 3 times one host's
poll        a look at a mailbox without news, which is local. Goal: as on one host
own work    share of a simulation rank's wall time that the loop itself takes (streams, mailboxes, features, states,
            trajectory) in a steered run, a report every 50 ps. Goal: at most 0.3 %
outside     share outside the integrator: with it what other ranks take of a core that they share, and checkpoints
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "hosts")]

N_RANKS, N_ATOMS, N_POLLS, REPORT_PS, OFTEN_PS = 6, 166, 2000, 50.0, 1.0
IDLE_SECONDS, LOOK_SECONDS = 0.002, 0.0002
OWN = ("state", "io", "features", "mailbox", "trajectory")
GOALS = {"p50": 3.0, "p99_ms": 25.0, "outside": 0.003}


def measure(n_commands: int) -> dict[str, Any] | None:
    """Collective over COMM_WORLD: milliseconds of every command, microseconds of a poll, on rank 0."""
    from ddmd_mpi.config.schema import RanksSection
    from ddmd_mpi.faults.stop import CONTROL_DTYPE
    from ddmd_mpi.frames.command import CommandKind, RestartCommand
    from ddmd_mpi.layout.links import homes, links
    from ddmd_mpi.layout.memory import slot_nbytes
    from ddmd_mpi.layout.plan import plan
    from ddmd_mpi.monitor.status import STATUS_DTYPE
    from ddmd_mpi.parallel.launch import launch
    from ddmd_mpi.parallel.plane import ControlPlane
    from ddmd_mpi.roles.checkpoint import ANNOUNCEMENT_DTYPE

    world = launch()
    layout = plan(world.nodes, world.gpus_per_node, RanksSection(aggregation=1), 1)
    plane = ControlPlane(
        world, layout, links(layout), homes(layout), status=STATUS_DTYPE, orders=CONTROL_DTYPE,
        announcement=ANNOUNCEMENT_DTYPE, n_atoms=N_ATOMS, ring_nbytes=8 * slot_nbytes(N_ATOMS) * layout.n_walkers,
        n_atoms_of=lambda topology: N_ATOMS)  # fmt: skip
    role, times, poll_us = layout.roles[world.rank], [], 0.0
    (aggregator,) = layout.ranks("aggregation")
    place = None
    if world.rank == aggregator:
        x = np.ones((N_ATOMS, 3), np.float32)
        place = plane.ring.store(layout.walkers_of(aggregator)[0], x, x, x[:3])
    slot, generation = world.comm.bcast(place, root=aggregator)
    over = None
    if role == "inference":
        for number in range(n_commands):
            plane.mailboxes.send(
                number % layout.n_walkers,
                RestartCommand(
                    CommandKind.RESTART, number, time.time(), aggregator=0, ring_slot=slot, slot_generation=generation
                ),
            )
            deadline = time.monotonic() + 0.02
            while time.monotonic() < deadline:
                plane.progress()
                time.sleep(IDLE_SECONDS)
    while over is None or not over.Test():
        if role == "simulation":
            for walker in layout.walkers(world.rank):
                command = plane.mailboxes.poll(walker)
                while command is not None and not plane.delivery.arrived(walker, command):
                    time.sleep(LOOK_SECONDS)
                if command is not None:
                    assert plane.delivery.take(walker, command, N_ATOMS) is not None
                    times.append((command.decision, 1000 * (time.time() - command.decided)))
        plane.progress()
        last = role == "simulation" and times and times[-1][0] >= n_commands - layout.n_walkers
        if over is None and (role != "simulation" or last):
            over = world.comm.Ibarrier()
        if role == "simulation":
            time.sleep(LOOK_SECONDS)
        else:
            plane.rest(IDLE_SECONDS)
    if role == "simulation":
        start = time.perf_counter()
        for _ in range(N_POLLS):
            plane.mailboxes.poll(layout.walkers(world.rank)[0])
        poll_us = (time.perf_counter() - start) / N_POLLS * 1e6
    found = world.comm.gather((role, world.hosts[world.node], times, poll_us))
    plane.free()
    world.free()
    return None if found is None else {"ranks": found}


def figures(found: dict[str, Any]) -> dict[str, float]:
    """Median and 99th percentile of the commands of all walkers, and the slowest rank's poll."""
    simulations = [rank for rank in found["ranks"] if rank[0] == "simulation"]
    times = [t for _, _, of_rank, _ in simulations for _, t in of_rank]
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "poll_us": max(rank[3] for rank in simulations)}


def steered(box: Any, hosts: tuple[str, ...], usecase: str, seconds: float, report_ps: float) -> dict[str, float]:
    """Shares of the wall time of the worst simulation rank of a run without a model, and its restarts."""
    settings = [
        f"simulation.report_interval_ps={report_ps}",
        f"simulation.segment_ps={20 * report_ps}",
        "steering.round_reports=1",
        "steering.strategy=greedy",
        "training.model='none'",
        "simulation.walkers_per_rank=2",
        "output.progress=none",
    ]
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        box.run(
            hosts,
            N_RANKS // len(hosts),
            sys.executable,
            "-m",
            "ddmd_mpi",
            "--usecase",
            usecase,
            "--duration",
            f"{seconds}s",
            "--output",
            run,
            *(text for s in settings for text in ("--set", s)),
            timeout=300,
        )
        spans = [json.loads(line) for path in run.glob("events/simulation-*.jsonl") for line in path.open()]
        summary = json.loads((run / "summary.json").read_text())
    totals = [span for span in spans if span["name"] == "totals"]
    own = [sum(span.get(f"{name}_s", 0.0) for name in OWN) / (span["loop_s"] - span["start_s"]) for span in totals]
    outside = [1 - span["md_s"] / (span["loop_s"] - span["start_s"]) for span in totals]
    return {"outside": max(outside), "own": max(own), "apply_ms": summary["steering"]["apply_ms"]["p50"]}


def main() -> None:
    """Start the ranks and print the table, or be one of the ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--commands", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        found = measure(options.commands)
        if found:
            options.rank.write_text(json.dumps(found))
        return
    from box import Box

    result: dict[str, dict[str, float]] = {}
    with Box(2) as box, tempfile.TemporaryDirectory() as directory:
        for hosts in (box.hosts[:1], box.hosts):
            file = Path(directory) / f"{len(hosts)}.json"
            box.run(
                hosts,
                N_RANKS // len(hosts),
                sys.executable,
                "-m",
                "mpi4py",
                Path(__file__).resolve(),
                "--commands",
                options.commands,
                "--rank",
                file,
            )
            name = f"{len(hosts)} host{'s' if len(hosts) > 1 else ''}"
            result[name] = {
                **figures(json.loads(file.read_text())),
                **steered(box, hosts, options.usecase, options.seconds, REPORT_PS),
            }
            often = steered(box, hosts, options.usecase, options.seconds / 2, OFTEN_PS)
            result[name]["first_step_ms"] = result[name]["p50_ms"] + often["apply_ms"]
    one, two = result.values()
    print(f"{'':<28}{'1 host':>10}{'2 hosts':>10}{'ratio':>8}  goal")
    rows = (
        ("command and frame, p50 ms", "p50_ms", ""),
        ("command and frame, p99 ms", "p99_ms", f"<= {GOALS['p99_ms']:.0f} ms"),
        ("first step, p50 ms", "first_step_ms", f"ratio <= {GOALS['p50']:.0f}"),
        ("poll of a mailbox, us", "poll_us", "as on one host"),
        ("loop's own work, %", "own", f"<= {100 * GOALS['outside']:.1f} %"),
        ("outside the integrator, %", "outside", ""),
    )
    for text, key, goal in rows:
        a, b = (100 * x[key] if key in ("outside", "own") else x[key] for x in (one, two))
        print(f"{text:<28}{a:>10.3f}{b:>10.3f}{b / a:>8.2f}  {goal}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
