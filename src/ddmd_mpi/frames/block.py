"""The record of a frame: one table says what it carries, and everything else reads that table.

A *frame* is one report of one walker (one replica of the system).
Frames travel in *blocks*. Coordinates go from a simulation to its aggregator and stop there; features continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import NamedTuple

import numpy as np

from ..errors import StreamError


class Hop(IntEnum):
    """The hops of the data plane, in the order of the flow."""

    COORDINATES = 0  # simulation -> aggregation
    FEATURES = 1  # aggregation -> training and inference


class Field(NamedTuple):
    """One row of the table: a column of every block that travels on ``hops``."""

    name: str
    dtype: str
    shape: tuple[str | int, ...]
    unit: str
    hops: tuple[Hop, ...]
    meaning: str


BOTH = (Hop.COORDINATES, Hop.FEATURES)

#: Every column of a block. Symbolic extents are resolved by the block's :class:`Extents`; the extent
#: ``contacts`` is the sum over the entire block (compressed rows), every other column has one row per frame.
FIELDS = (
    Field("walker", "<i4", (), "", BOTH, "index of the walker, 0 .. walkers-1"),
    Field("segment", "<i4", (), "", BOTH, "segment of the walker, counted from 0"),
    Field("frame", "<i8", (), "", BOTH, "index of the frame in the walker's trajectory file"),
    Field("topology", "<i4", (), "", BOTH, "index of the topology; all frames of a block with positions have the same"),
    Field("decision", "<i8", (), "", BOTH, "restart decision the segment came from, -1 for none"),
    Field("time", "<f8", (), "ps", BOTH, "simulated time of the walker over all its segments"),
    Field("potential_energy", "<f8", (), "kJ/mol", BOTH, "potential energy"),
    Field("rmsd", "<f4", (), "angstrom", BOTH, "superposed RMSD of the descriptor atoms to the target, NaN for none"),
    Field("order_parameters", "<f4", ("order_parameters",), "", BOTH, "the declared order parameters, in order"),
    Field("ca_positions", "<i2", ("residues", 3), "0.01 angstrom", BOTH, "descriptor atoms, centred"),
    Field("contact_counts", "<u2", ("residues",), "", BOTH, "contacts j > i of residue i"),
    Field("contact_columns", "<u2", ("contacts",), "", BOTH, "their residues j, frame after frame, row after row"),
    Field("aggregator", "<i4", (), "", (Hop.FEATURES,), "index of the aggregator that keeps the coordinates"),
    Field("ring_slot", "<i4", (), "", (Hop.FEATURES,), "slot of its coordinate ring"),
    Field("slot_generation", "<i8", (), "", (Hop.FEATURES,), "generation of that slot, 0 for none"),
    Field("positions", "<f4", ("atoms", 3), "nm", (Hop.COORDINATES,), "all atoms"),
    Field("velocities", "<f4", ("atoms", 3), "nm/ps", (Hop.COORDINATES,), "all atoms"),
    Field("box", "<f4", (3, 3), "nm", (Hop.COORDINATES,), "periodic box vectors, zero for none"),
)
FIELD = {f.name: f for f in FIELDS}
#: What archives and files of version 0.2 and before call a column.
FORMER_NAMES = {"walker": "simulation"}


class Extents(NamedTuple):
    """The sizes of a block: they resolve the symbolic extents of the table."""

    frames: int
    atoms: int
    residues: int
    order_parameters: int
    contacts: int


MAGIC = 0x444D4444_0001  # "DDMD", format 1
MOST = 1 << 40  # of anything in a block
HEADER_WORDS = 2 + len(Extents._fields)
ALIGNMENT = 8


def column_shape(row: Field, extents: Extents) -> tuple[int, ...]:
    """Shape of the table's column `row` in a block of these extents."""
    sizes = extents._asdict()
    tail = tuple(sizes[n] if isinstance(n, str) else n for n in row.shape)
    return tail if "contacts" in row.shape else (extents.frames, *tail)


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive frames as columns.

    Parameters
    ----------
    columns
        name -> array; names, dtypes, shapes and units are those of :data:`FIELDS`. A block of the first hop holds
        positions, velocities and box; a block of the features hop holds the ring's slots instead.
    """

    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.columns["walker"])

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(c.nbytes for c in self.columns.values())

    @property
    def extents(self) -> Extents:
        """Sizes of this block."""
        return Extents(
            frames=len(self),
            atoms=self.columns["positions"].shape[1] if "positions" in self.columns else 0,
            residues=self.columns["ca_positions"].shape[1],
            order_parameters=self.columns["order_parameters"].shape[1],
            contacts=len(self.columns["contact_columns"]),
        )

    @property
    def contact_offsets(self) -> np.ndarray:
        """Where each frame's contacts start in ``contact_columns``, shape (n_frames + 1,)."""
        per_frame = self.columns["contact_counts"].sum(axis=1, dtype=np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(per_frame)])

    def take(self, indices: np.ndarray) -> FrameBlock:
        """Block of the frames at `indices` (integers or a boolean mask), in that order."""
        indices = np.arange(len(self))[indices]
        offsets, contacts = self.contact_offsets, self.columns["contact_columns"]
        rows = [contacts[offsets[i] : offsets[i + 1]] for i in indices]
        picked = {name: c[indices] for name, c in self.columns.items() if name != "contact_columns"}
        return FrameBlock({**picked, "contact_columns": np.concatenate([contacts[:0], *rows])})

    def after(self, n: int) -> FrameBlock:
        """The frames but for the first `n`: views of the columns."""
        contacts = int(self.columns["contact_counts"][:n].sum(dtype=np.int64))
        return FrameBlock({name: c[contacts if name == "contact_columns" else n :] for name, c in self.columns.items()})

    def on(self, hop: Hop, **columns: np.ndarray) -> FrameBlock:
        """The columns that travel on `hop`; `columns` supplies those that this block lacks."""
        have = {**self.columns, **columns}
        return FrameBlock({f.name: have[f.name] for f in FIELDS if hop in f.hops})

    @staticmethod
    def from_rows(rows: Sequence[dict[str, object]], hop: Hop) -> FrameBlock:
        """Block of single frames, each given as a dict of the columns of `hop`."""
        columns = {}
        for row in FIELDS:
            if hop in row.hops:
                join = np.concatenate if "contacts" in row.shape else np.stack
                columns[row.name] = join([np.asarray(r[row.name], row.dtype) for r in rows])
        return FrameBlock(columns)

    @staticmethod
    def by_topology(rows: Sequence[dict[str, object]], hop: Hop) -> list[FrameBlock]:
        """As :meth:`from_rows`, a block for each topology: frames of different atoms share no columns."""
        topologies = dict.fromkeys(row["topology"] for row in rows)
        return [FrameBlock.from_rows([r for r in rows if r["topology"] == t], hop) for t in topologies]

    @staticmethod
    def concatenate(blocks: Sequence[FrameBlock]) -> FrameBlock:
        """One block of all frames of `blocks`, which hold the same columns."""
        return FrameBlock({name: np.concatenate([b[name] for b in blocks]) for name in blocks[0].columns})

    def pack(self, hop: Hop) -> np.ndarray:
        """One contiguous uint8 buffer: a header of int64 (magic, hop, extents), then the columns of `hop`."""
        extents = self.extents if hop is Hop.COORDINATES else self.extents._replace(atoms=0)
        spans, nbytes = _spans(hop, extents)
        buffer = np.empty(nbytes, np.uint8)
        buffer[: HEADER_WORDS * 8].view("<i8")[:] = (MAGIC, hop, *extents)
        for row, start, stop, shape in spans:
            buffer[start:stop].view(row.dtype).reshape(shape)[...] = self.columns[row.name]
        return buffer

    @staticmethod
    def unpack(buffer: np.ndarray) -> FrameBlock:
        """The block packed in `buffer`; its columns are views of the buffer.

        Raises
        ------
        StreamError
            If the buffer is not a packed block of this format, or its columns do not fit each other.
        """
        words = buffer[: HEADER_WORDS * 8].view("<i8").tolist() if len(buffer) >= HEADER_WORDS * 8 else [0]
        if words[0] != MAGIC or words[1] not in list(Hop) or not all(0 <= word < MOST for word in words[2:]):
            raise StreamError(f"not a packed block of frames ({len(buffer)} bytes)")
        spans, nbytes = _spans(Hop(words[1]), Extents(*words[2:]))
        if nbytes != len(buffer):
            raise StreamError(f"a packed block of {nbytes} bytes was expected, got {len(buffer)}")
        block = FrameBlock({row.name: buffer[a:b].view(row.dtype).reshape(shape) for row, a, b, shape in spans})
        block.check_contacts()
        return block

    def check_contacts(self) -> None:
        """Raise a StreamError if the contacts are not as many as are counted, or are of residues that there are not."""
        counts, columns = self.columns["contact_counts"], self.columns["contact_columns"]
        if int(counts.sum(dtype=np.int64)) != len(columns) or columns.max(initial=0) >= max(1, counts.shape[1]):
            raise StreamError("the contacts of a packed block of frames are not those that it counts")


def _spans(hop: Hop, extents: Extents) -> tuple[list[tuple[Field, int, int, tuple[int, ...]]], int]:
    """Where each column of `hop` lies in a packed buffer, and the buffer's size in bytes."""
    spans, position = [], HEADER_WORDS * 8
    for row in FIELDS:
        if hop not in row.hops:
            continue
        shape = column_shape(row, extents)
        stop = position + prod(shape) * np.dtype(row.dtype).itemsize
        spans.append((row, position, stop, shape))
        position = -(-stop // ALIGNMENT) * ALIGNMENT
    return spans, position


def packed_nbytes(hop: Hop, extents: Extents) -> int:
    """Bytes of a packed block of these sizes."""
    return _spans(hop, extents if hop is Hop.COORDINATES else extents._replace(atoms=0))[1]
