"""Reading 2,000 new frames of 3375 residues, as Table IV of the paper has it, in one run of two ranks.

    mpiexec -n 2 python benchmarks/large_maps.py [--frames N] [--window N] [--quick] [--json FILE]

Three ways for an iteration's frames from the aggregator into training and into inference:

    published   one compressed map a frame in a BP file: bits of the triangle, zlib; the reader unpacks them in Python
    dense       dense uint8 maps over SST
    ours        blocks of features over SST, contacts as compressed rows, into a full window

Of the first two fewer frames are read, and their time is scaled to the same number: the table says how many. A read is
over when training or inference may begin to use the frames; maps are then made batch by batch, which is timed next to a
memset of the same size, as float32, which the model works on, and as uint8. Goals: 0.5 s a read, 1/150 of the bytes of
dense uint8, 1.5 GB for a window of 20,000 frames, float32 maps within 2 times of memset.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import adios2
import numpy as np
from mpi4py import MPI

from ddmd_mpi.config import inputs
from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.frames.block import FIELDS, FrameBlock, Hop
from ddmd_mpi.frames.window import FrameWindow
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.model.maps import ContactMaps
from ddmd_mpi.model.rounds import all_equal
from ddmd_mpi.roles.selector import Embedding
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.outbox import Outbox
from ddmd_mpi.structure.contacts import contact_csr, dense, round_positions

SETTINGS, CUTOFF_ANGSTROM, IDLE_SECONDS = StreamsSection(), 8.0, 1e-4
PUBLISHED_FRAMES, DENSE_FRAMES = 2, 40
READ_S, BYTES_RATIO, WINDOW_BYTES, MEMSET_RATIO = 0.5, 150, 1.5e9, 2.0  # the goals
PAPER = {"published": {"training": 1464, "inference": 2239}, "ours": {"training": 9, "inference": 12}}  # s


def frames(n: int) -> FrameBlock:
    """Frames of the chain of the use case spike, shaken, on the hop of the features."""
    generator, (_, native) = np.random.default_rng(0), read_pdb(inputs() / "spike-target.pdb")
    rounded = [round_positions(native + generator.normal(scale=0.05, size=native.shape)) for _ in range(n)]
    maps = [contact_csr(positions, CUTOFF_ANGSTROM) for positions in rounded]
    known = {
        "ca_positions": np.array(rounded),
        "contact_counts": np.array([counts for counts, _ in maps]),
        "contact_columns": np.concatenate([columns for _, columns in maps]),
        "order_parameters": np.zeros((n, 2), "<f4"),
        "frame": np.arange(n, dtype="<i8"),
    }
    return FrameBlock(
        {
            f.name: known[f.name] if f.name in known else np.zeros((n, *f.shape), f.dtype)
            for f in FIELDS
            if Hop.FEATURES in f.hops
        }
    )


class Blank:
    """A model that costs nothing: what remains is what inference does with frames before it embeds them."""

    n_latent = 10

    def load(self, arrays: list[np.ndarray]) -> None:
        """Nothing is needed."""

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of the right shape."""
        return np.zeros((len(block), self.n_latent), np.float32)


class Link:
    """A stream from rank 0 to rank 1, with the credits of a run."""

    def __init__(self, comm: MPI.Comm, network: Network, count: np.ndarray, name: str):
        self.comm, self.count = comm, count
        self.end = network.writer(name, 1, False) if comm.rank == 0 else network.reader(name, 0, False)

    def write(self, payloads: list[np.ndarray]) -> None:
        """Write as fast as the reader takes them, or on the other rank do nothing."""
        outbox = Outbox(self.end, lambda: self.count[0], SETTINGS.in_flight_blocks, len(payloads), float("inf"))
        for payload in payloads:
            outbox.offer(payload)
        while len(outbox):
            outbox.pump()
            time.sleep(IDLE_SECONDS)

    def read(self, n: int) -> list[np.ndarray]:
        """The next `n` payloads."""
        payloads = []
        while len(payloads) < n:
            payload = self.end.poll()
            if payload is None:
                time.sleep(IDLE_SECONDS)
                continue
            payloads.append(payload)
            self.count[0] += 1
        return payloads

    def timed(self, payloads: list[np.ndarray], use: Callable[[list[np.ndarray]], object]) -> float:
        """Seconds, on rank 1, until rank 1 has read the payloads and has done `use` with them."""
        self.count[0] = 0
        if self.comm.rank == 0:
            self.end.n_written = 0
        self.comm.Barrier()
        clock = time.perf_counter()
        if self.comm.rank == 0:
            self.write(payloads)
        else:
            use(self.read(len(payloads)))
        spent = time.perf_counter() - clock
        self.comm.Barrier()
        return spent


def published(block: FrameBlock, directory: Path) -> tuple[float, int]:
    """Seconds and bytes of a frame that is read as first published."""
    n = block["ca_positions"].shape[1]
    triangle, path = np.triu_indices(n, 1), str(directory / "maps.bp")
    with adios2.Stream(path, "w") as stream:
        for i in range(PUBLISHED_FRAMES):
            one = block.take(np.array([i]))
            bits = np.packbits(dense(one["contact_counts"], one["contact_columns"])[0][triangle])
            packed = np.frombuffer(zlib.compress(bits.tobytes()), np.uint8).copy()
            stream.begin_step()
            stream.write("contact_map", packed, [len(packed)], [0], [len(packed)])
            stream.end_step()
    nbytes, clock = 0, time.perf_counter()
    with adios2.Stream(path, "r") as stream:
        for _ in stream.steps():
            packed = stream.read("contact_map")
            nbytes += packed.nbytes
            values = []
            for byte in zlib.decompress(packed.tobytes()):
                values += [(byte >> k) & 1 for k in range(7, -1, -1)]
            found = np.zeros((n, n), np.uint8)
            found[triangle] = values[: len(triangle[0])]
    return (time.perf_counter() - clock) / PUBLISHED_FRAMES, nbytes // PUBLISHED_FRAMES


def filled(block: FrameBlock, n_frames: int) -> FrameWindow:
    """A full window."""
    window = FrameWindow(n_frames)
    for _ in range(-(-n_frames // len(block))):
        window.append(block)
    window.block()
    return window


def memory(key: str) -> float:
    """A line of this process's status, bytes."""
    return next(
        1024.0 * int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{key}:")
    )


def see(window: FrameWindow, role: str, embedding: Embedding) -> Callable[[list[np.ndarray]], object]:
    """What a role does with payloads until it can use their frames."""

    def use(payloads: list[np.ndarray]) -> None:
        while payloads:
            window.append(FrameBlock.unpack(payloads.pop(0)))
        block = window.block()
        if role == "training":
            all_equal(block)
            ContactMaps(block, block["ca_positions"].shape[1])
        else:
            embedding.embed(block)

    return use


def ours(link: Link, block: FrameBlock, n_frames: int, n_window: int) -> dict[str, float]:
    """Seconds of a read in both roles, and the window's memory."""
    template, figures = block.pack(Hop.FEATURES), {}
    blocks = -(-n_frames // len(block))
    for role in ("training", "inference"):
        window, embedding, before = None, Embedding(Blank()), memory("VmRSS") if link.comm.rank else 0.0
        if link.comm.rank:
            window = filled(block, n_window)
            see(window, role, embedding)([])
            Path("/proc/self/clear_refs").write_text("5")  # the peak of what comes now
        payloads = []
        for k in range(blocks if link.comm.rank == 0 else 0):
            fresh = FrameBlock.unpack(template.copy())
            fresh["frame"][:] += len(block) * (1 + k)
            payloads.append(fresh.pack(Hop.FEATURES))
        payloads = payloads or [template] * blocks
        figures[f"{role}_s"] = link.timed(payloads, see(window, role, embedding) if window else len)
        figures[f"{role}_window_bytes"] = memory("VmHWM") - before
        del window
    return figures | {"bytes_a_frame": len(template) / len(block)}


def batch_of_maps(block: FrameBlock, dtype: type, n_maps: int) -> dict[str, float]:
    """Seconds to make a batch of dense maps, and to clear as much memory: the best of three."""
    n = block["ca_positions"].shape[1]
    maps = np.ones((n_maps, n, n), dtype)
    made, cleared = [], []
    for _ in range(3):
        for times, function in (
            (cleared, lambda: maps.fill(0)),
            (made, lambda: dense(block["contact_counts"][:n_maps], block["contact_columns"], out=maps)),
        ):
            clock = time.perf_counter()
            function()
            times.append(time.perf_counter() - clock)
    return {"batch_s": min(made), "memset_s": min(cleared), "ratio": min(made) / min(cleared)}


def measure(comm: MPI.Comm, link: Callable[[str], Link], directory: Path, arguments: argparse.Namespace) -> dict:
    """All figures, on rank 1."""
    block, n = frames(arguments.batch), arguments.frames
    n_residues = block["ca_positions"].shape[1]
    dense_bytes = n_residues**2
    one = block.take(np.array([0]))
    map_bytes = [dense(one["contact_counts"], one["contact_columns"]).reshape(-1)] * DENSE_FRAMES
    by_dense = (
        link("AggregatorToTraining-dense").timed(
            map_bytes, lambda payloads: [p.reshape(n_residues, n_residues) for p in payloads]
        )
        * n
        / DENSE_FRAMES
    )
    own = ours(link("AggregatorToInference-ours"), block, n, arguments.window)
    if comm.rank == 0:
        return {}
    own_figures = {role: own[f"{role}_s"] for role in ("training", "inference")}
    by_file, file_bytes = published(block, directory)
    return {
        "frames": n,
        "window": arguments.window,
        "batch": arguments.batch,
        "residues": n_residues,
        "published": {"read_s": by_file * n, "measured_frames": PUBLISHED_FRAMES, "bytes_a_frame": file_bytes},
        "dense": {"read_s": by_dense, "measured_frames": DENSE_FRAMES, "bytes_a_frame": dense_bytes},
        "ours": {**own_figures, "measured_frames": n, "bytes_a_frame": own["bytes_a_frame"]},
        "window_bytes": max(own["training_window_bytes"], own["inference_window_bytes"]),
        "maps": {dtype.__name__: batch_of_maps(block, dtype, arguments.batch) for dtype in (np.float32, np.uint8)},
        "first_hop_bytes_a_frame": own["bytes_a_frame"] + 2 * 12 * n_residues + 36,
    }


def table(figures: dict) -> str:
    """Text of the figures, each beside its reference and its goal."""
    own, lines = figures["ours"], [f"reading {figures['frames']} frames of {figures['residues']} residues"]
    for name in ("published", "dense"):
        row = figures[name]
        lines.append(
            f"  {name:<10} {row['read_s']:10.2f} s   {row['bytes_a_frame']:12,.0f} bytes a frame   "
            f"(scaled from {row['measured_frames']} frames)"
        )
    for role in ("training", "inference"):
        ratios = ", ".join(f"1/{figures[name]['read_s'] / own[role]:.0f} of {name}" for name in ("published", "dense"))
        lines.append(
            f"  ours, {role:<9} {own[role]:5.2f} s   {own['bytes_a_frame']:12,.0f} bytes a frame   "
            f"{ratios}; goal {READ_S} s; the paper {PAPER['ours'][role]} s after, "
            f"{PAPER['published'][role]} s before"
        )
    smaller = figures["dense"]["bytes_a_frame"] / own["bytes_a_frame"]
    lines += [
        f"features hop: 1/{smaller:.0f} of dense uint8, goal 1/{BYTES_RATIO}; "
        f"first hop: {figures['first_hop_bytes_a_frame']:,.0f} bytes a frame",
        f"window of {figures['window']} frames: {figures['window_bytes'] / 1e9:.2f} GB at its peak, goal "
        f"{WINDOW_BYTES / 1e9} GB",
        *(
            f"batch of {figures['batch']} dense {name} maps: {row['batch_s'] * 1e3:.0f} ms, "
            f"{row['ratio']:.2f} times memset" + (f", goal {MEMSET_RATIO}" if name == "float32" else "")
            for name, row in figures["maps"].items()
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure on two ranks; rank 1 prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--window", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64, help="frames of a block and of a batch of maps")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    arguments, comm = parser.parse_args(), MPI.COMM_WORLD
    if arguments.quick:
        arguments.frames = arguments.window = arguments.batch = 4
    if comm.size != 2:
        sys.exit(f"two ranks are needed, got {comm.size}: mpiexec -n 2 python benchmarks/large_maps.py")
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    shared = MPI.Win.Allocate_shared(8 if comm.rank == 0 else 0, 8, comm=node_comm)
    count, opened = np.frombuffer(shared.Shared_query(0)[0], "<i8"), []
    with tempfile.TemporaryDirectory() as directory, Network(comm, node_comm, SETTINGS, Path(directory)) as network:

        def link(name: str) -> Link:
            opened.append(Link(comm, network, count, name))
            return opened[-1]

        figures = measure(comm, link, Path(directory), arguments)
        for each in opened:
            each.end.close()
    if comm.rank == 1:
        sys.stdout.write(table(figures) + "\n")
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
