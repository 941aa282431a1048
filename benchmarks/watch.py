"""What it costs a walker that it can be watched, and how soon a frame is with the client.

    python benchmarks/watch.py [--usecase cln025] [--reports 200] [--json FILE]

One walker moves on one core, in a thread of this process as in a rank, and reports far more often than in a run (every
2 ps). Blocks of reports without a port, with a port at which nobody looks, and with a client alternate. A client in a
process of its own notes when each frame is there; so does a client of ``ddmd-mpi watch``, which follows the trajectory.
Costs are processor time of handing over and sending, over that of the molecular dynamics. Goals: 0.1 % if nobody
looks, 1 % with a client; a frame is with the client 10 ms (p99) after its report.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.cli.watch import hand_over
from ddmd_mpi.config.schema import OutputSection
from ddmd_mpi.md.affinity import stay_on_one_core
from ddmd_mpi.md.imd.client import Receiver, free_port
from ddmd_mpi.md.imd.follow import Follower
from ddmd_mpi.md.imd.protocol import Kind, Session
from ddmd_mpi.md.imd.server import Server
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.roles.audience import Audience, serve

REPORT_PS = 2.0
BLOCK = 20
GOALS = {"alone": 0.001, "watched": 0.01, "ms": 10.0}


def listen(port: int, n_atoms: int, found: multiprocessing.Queue, over: object) -> None:
    """A client: the time of day at which each step was there."""
    receiver = Client(port, n_atoms)
    while not over.is_set():
        receiver.poll()
        packets = receiver.first()
        if packets is None:
            time.sleep(0.0002)
            continue
        found.put((packets[Kind.TIME][2], time.monotonic()))
        receiver.drop()


class Client(Receiver):
    """A receiver that does not need velocities."""

    needed = ("time", "positions")


def follow_files(stem: Path, timestep_ps: float, port: int) -> None:
    """What ``ddmd-mpi watch`` does."""
    server = Server("127.0.0.1", {0: port}, Session(velocities=False))
    follower = Follower(stem, timestep_ps)
    while True:
        time.sleep(hand_over(follower, server, 0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--reports", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.usecase, options.reports = "bba-go", 2 * BLOCK
    with tempfile.TemporaryDirectory() as directory:
        result = measure(options.usecase, options.reports, Path(directory))
    for name, goal in (("alone", GOALS["alone"]), ("watched", GOALS["watched"])):
        print(f"{name:<28} {result[name]:.4%} of MD   goal {goal:.1%}, ratio {result[name] / goal:.3f}")
    for name in ("port", "files"):
        p50, p99 = result[f"{name}_ms"]
        print(f"to the client by {name:<11} p50 {p50:.2f} ms, p99 {p99:.2f} ms   goal {GOALS['ms']:.0f} ms")
    print(f"speed with a client          {result['speed']:.4f} of that with no port (by the clock)")
    if options.json:
        options.json.write_text(json.dumps({**result, "goals": GOALS}, indent=1))


def measure(usecase: str, reports: int, directory: Path) -> dict[str, float | list[float]]:
    """All figures."""
    reported = (f"simulation.report_interval_ps={REPORT_PS}", f"simulation.segment_ps={1000 * REPORT_PS}")
    settings = config.load(usecase, None, reported)
    simulation, structures = settings.simulation, load_structures(settings.system)
    timestep_ps, port, files_port = simulation.timestep_fs * 1e-3, free_port(), free_port()
    (directory / "trajectories").mkdir()
    over, by_port, by_files = multiprocessing.Event(), multiprocessing.Queue(), multiprocessing.Queue()
    stem = directory / "trajectories" / "sim-0000"
    audience = serve(OutputSection(imd_port=port), simulation, (0,))
    with Trajectory(stem.parent, 0, structures, simulation) as trajectory:
        processes = [
            multiprocessing.Process(target=follow_files, args=(stem, timestep_ps, files_port), daemon=True),
            multiprocessing.Process(target=listen, args=(files_port, structures.n_atoms, by_files, over), daemon=True),
            multiprocessing.Process(target=listen, args=(port, structures.n_atoms, by_port, over), daemon=True),
        ]
        walker = Walker(OpenMMEngine(structures, simulation, settings.system, seed=1), simulation, trajectory)
        alone = walker.run(reports, audience)
        for process in processes:
            process.start()
        time.sleep(2.0)
        # The first frame that a client gets is older than the client.
        walker.forget()
        plain, watched = [], []
        for _ in range(max(1, reports // BLOCK)):
            plain.append(walker.run(BLOCK, None))
            watched.append(walker.run(BLOCK, audience))
        time.sleep(0.5)
        over.set()
        latencies = [walker.latencies(queue) for queue in (by_port, by_files)]
    for process in processes[:1]:
        process.terminate()
    audience.free()
    return {
        "alone": alone["handing_over"] / alone["md"],
        "watched": sum(w["handing_over"] for w in watched) / sum(w["md"] for w in watched),
        "port_ms": latencies[0],
        "files_ms": latencies[1],
        "speed": sum(p["wall"] for p in plain) / sum(w["wall"] for w in watched),
    }


class Walker:
    """One walker, and when it has reported what."""

    def __init__(self, engine: OpenMMEngine, simulation: object, trajectory: Trajectory):
        stay_on_one_core(0)
        self._engine, self._steps, self._trajectory = engine, simulation.steps_per_report, trajectory
        self._timestep_ps = simulation.timestep_fs * 1e-3
        self._step, self._reported = 0, {}
        engine.start(1)
        engine.advance(self._steps)

    def run(self, n_reports: int, audience: Audience | None) -> dict[str, float]:
        """So many reports: seconds of processor time of handing over and sending, and of all else; and by the clock."""
        sender = None if audience is None else time.pthread_getcpuclockid(audience._server._thread.ident)
        sent = 0.0 if sender is None else time.clock_gettime(sender)
        clock, begun, handing_over = time.perf_counter(), time.process_time(), 0.0
        for _ in range(n_reports):
            self._engine.advance(self._steps)
            state = self._engine.state()
            self._step += self._steps
            self._reported[self._step] = time.monotonic()
            row = {"walker": 0, "time": self._step * self._timestep_ps, **state._asdict()}
            if audience is not None:
                before = time.thread_time()
                audience.show(row)
                handing_over += time.thread_time() - before
            self._trajectory.append(state.positions, row["time"], 0, 0.0, state.potential_energy, box=state.box)
        if sender is not None:
            handing_over += time.clock_gettime(sender) - sent
        md = time.process_time() - begun - handing_over
        return {"md": md, "handing_over": handing_over, "wall": time.perf_counter() - clock}

    def forget(self) -> None:
        """Leave out what was reported so far."""
        self._reported.clear()

    def latencies(self, queue: multiprocessing.Queue) -> list[float]:
        """p50 and p99 of the time from a report to the client, ms."""
        found = []
        while not queue.empty():
            step, there = queue.get()
            if step in self._reported:
                found.append(1e3 * (there - self._reported[step]))
        return np.percentile(found, [50, 99]).tolist()


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
