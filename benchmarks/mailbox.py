"""A restart command's way through a mailbox, against bare MPI put and get of the same size, in the same run.

    python benchmarks/mailbox.py [--ranks 3] [--json FILE]

Rank 0 holds the memory and sleeps, as an aggregator does; the last rank writes; rank 1 reads. Goal: each at most 3
times. Every figure is the best of many, as other processes share the cores.

put-to-visible  from before the send in one process until the poll of another has returned the command (half a round
                trip of two of them); bare: Put and Flush until a loop of Get and Flush finds the value changed
poll            a look at a mailbox without news; bare: Get and Flush
send            bare: Put and Flush
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RANKS = Path(__file__).resolve().parents[1] / "jobscripts" / "ranks.sh"
GOAL = 3.0
N_BATCHES, BATCH = 200, 50
N_TRIPS = 5000

Exchange = Callable[[int, int], None]


def measure() -> dict[str, tuple[float, float]] | None:
    """Collective over COMM_WORLD: microseconds (ours, bare) of each, on rank 1."""
    from mpi4py import MPI

    from ddmd_mpi.frames.command import COMMAND_DTYPE, RestartCommand
    from ddmd_mpi.parallel.mailbox import Mailboxes
    from ddmd_mpi.parallel.windows import allocate, free

    comm = MPI.COMM_WORLD
    reader, writer = 1, comm.size - 1
    nbytes = COMMAND_DTYPE.itemsize
    mailboxes = Mailboxes.on(comm, [0, 0, 0])
    window, _ = allocate(comm, 2 * 128 if comm.rank == 0 else 0, "bare")
    commands = [RestartCommand(1, number, 0.0) for number in range(N_TRIPS + 1)]
    put_buffer, get_buffer = bytearray(nbytes), bytearray(nbytes)
    source, result = [put_buffer, MPI.BYTE], [get_buffer, MPI.BYTE]
    places = [(start, nbytes, MPI.BYTE) for start in (0, 128)]

    def bare_put(place: int, number: int) -> None:
        put_buffer[:4] = number.to_bytes(4, "little")
        window.Put(source, 0, places[place])
        window.Flush(0)

    def bare_get(place: int) -> int:
        window.Get(result, 0, places[place])
        window.Flush(0)
        return int.from_bytes(get_buffer[:4], "little")

    def bare_wait(place: int, number: int) -> None:
        while bare_get(place) != number:
            pass

    def wait(walker: int, number: int) -> None:
        while (command := mailboxes.poll(walker)) is None or command.decision != number:
            pass

    def send(walker: int, number: int) -> None:
        mailboxes.send(walker, commands[number])

    figures = None
    if comm.rank in (reader, writer):
        figures = {
            "put-to-visible": round_trips(comm.rank == writer, (send, wait), (bare_put, bare_wait)),
            "poll": (best(lambda: mailboxes.poll(2)), best(lambda: bare_get(0))),
            "send": (best(lambda: send(2, 1)), best(lambda: bare_put(0, 1))),
        }
    arrived = comm.Ibarrier()
    while not arrived.Test():
        time.sleep(0.001)
    free(window)
    mailboxes.free()
    return figures if comm.rank == reader else None


def round_trips(first: bool, *ways: tuple[Exchange, Exchange]) -> tuple[float, ...]:
    """Microseconds one way of each (send, wait), by turns: the fastest hundredth of the round trips, halved."""
    there, back = (0, 1) if first else (1, 0)
    seconds: list[list[float]] = [[] for _ in ways]
    for start in range(1, N_TRIPS + 1, BATCH):
        for (send, wait), times in zip(ways, seconds, strict=True):
            for number in range(start, start + BATCH):
                clock = time.perf_counter()
                if first:
                    send(there, number)
                wait(back, number)
                if not first:
                    send(there, number)
                times.append(time.perf_counter() - clock)
    return tuple(sorted(times)[N_TRIPS // 100] / 2 * 1e6 for times in seconds)


def best(function: Callable[[], object]) -> float:
    """Microseconds of one call in the fastest batch: other processes share the cores."""
    seconds = []
    for _ in range(N_BATCHES):
        start = time.perf_counter()
        for _ in range(BATCH):
            function()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / BATCH * 1e6


def report(figures: dict[str, tuple[float, float]], file: Path | None) -> None:
    """Print the table."""
    rows = [{"what": what, "us": a, "bare_us": b, "ratio": a / b} for what, (a, b) in figures.items()]
    print(f"{'':<16}{'us':>8}{'bare MPI us':>14}{'ratio':>8}  goal <= {GOAL:.0f}")
    for row in rows:
        print(f"{row['what']:<16}{row['us']:>8.2f}{row['bare_us']:>14.2f}{row['ratio']:>8.2f}")
    if file:
        file.write_text(json.dumps(rows, indent=1))


def main() -> None:
    """Start the ranks, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.rank:
        environment = {"DDMD_MPI_BIN": str(Path(sys.executable).parent), **os.environ}
        command = [RANKS, str(options.ranks), sys.executable, "-m", "mpi4py", *sys.argv, "--rank"]
        sys.exit(subprocess.run(command, env=environment).returncode)
    figures = measure()
    if figures:
        report(figures, options.json)


if __name__ == "__main__":
    main()
