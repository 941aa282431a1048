"""The newest frames of a stream, in memory that does not grow: what training and inference work on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..config.schema import Config
from .block import FIELD, FrameBlock

#: Spare contacts, so that chains which become more compact do not move the column to a larger one.
RESERVE = 1.5
RAGGED = "contact_columns"


@dataclass
class Column:
    """One column of a window: its rows lie together in memory that is used again and again.

    Memory that was never written to costs nothing.
    """

    memory: np.ndarray
    start: int = 0
    stop: int = 0

    @property
    def rows(self) -> np.ndarray:
        """The rows that are held, as a view."""
        return self.memory[self.start : self.stop]

    def move(self, n_rows: int) -> None:
        """Make room behind the rows for `n_rows` more: those that are held go to the front, or to larger memory."""
        held, larger = self.rows, len(self.rows) + n_rows > len(self.memory)
        if larger:
            self.memory = np.empty((int(RESERVE * (len(held) + n_rows)), *held.shape[1:]), held.dtype)
        if larger or self.start:
            self.memory.reshape(-1)[: held.size] = held.reshape(-1)  # flat arrays overlap without a copy in between
        self.start, self.stop = 0, len(held)

    def add(self, rows: np.ndarray) -> None:
        """Put rows behind those that are held, if there is room."""
        self.memory[self.stop : self.stop + len(rows)] = rows
        self.stop += len(rows)


@dataclass
class FrameWindow:
    """The newest frames, at most `capacity`, of blocks that hold the same columns.

    To add frames costs nothing that grows with the window. Blocks wait as they are until the window is asked for; only
    then are they copied to the others and the surplus is dropped, so that the memory is that of a full window and of
    the blocks which have come since.
    """

    capacity: int
    _waiting: list[FrameBlock] = field(default_factory=list)
    _n_waiting: int = 0  # their frames
    _surplus: int = 0  # oldest frames of the first waiting block that are no longer in the window
    _columns: dict[str, Column] = field(default_factory=dict)
    _held: int = 0  # frames in the columns, those that are surplus by now included
    _frames: int = 0

    def __len__(self) -> int:
        return self._frames

    @property
    def nbytes(self) -> int:
        """Bytes of all columns that are held."""
        return sum(c.rows.nbytes for c in self._columns.values()) + sum(b.nbytes for b in self._waiting)

    def append(self, block: FrameBlock) -> None:
        """Add the newest frames and drop the oldest."""
        self._waiting.append(block)
        self._frames = min(self.capacity, self._frames + len(block))
        self._n_waiting += len(block)
        self._surplus = max(0, self._n_waiting - self.capacity)
        while self._surplus and self._surplus >= len(self._waiting[0]):
            gone = len(self._waiting.pop(0))
            self._surplus, self._n_waiting = self._surplus - gone, self._n_waiting - gone

    def block(self) -> FrameBlock:
        """All frames of the window as one block, oldest first: views, which hold until the window is asked again."""
        if not self._waiting and not self._columns:
            raise ValueError("the window is empty")
        if self._surplus:
            self._waiting[0] = self._waiting[0].after(self._surplus)
        if self._waiting:
            self._take(self._waiting)
            self._n_waiting = self._surplus = 0
        return FrameBlock({name: column.rows for name, column in self._columns.items()})

    def copy(self) -> FrameBlock:
        """All frames of the window in memory of their own: what :meth:`block` gave stays as it is."""
        held = [FrameBlock({name: column.rows for name, column in self._columns.items()})] if self._held else []
        block = FrameBlock.concatenate([*held, *self._waiting])
        return block.after(len(block) - self._frames)

    def _take(self, waiting: list[FrameBlock]) -> None:
        """Copy the waiting blocks into the columns, and forget them one by one."""
        n_new = sum(len(block) for block in waiting)
        if not self._columns:
            self._columns = {name: self._column(name) for name in waiting[0].columns}
        self._drop(self._held + n_new - self._frames)
        for name, column in self._columns.items():
            column.move(sum(len(block[name]) for block in waiting))
        while waiting:
            block = waiting.pop(0)
            for name, column in self._columns.items():
                column.add(block[name])
        self._held = self._frames

    def _column(self, name: str) -> Column:
        """Memory for one column of a full window of frames like the waiting ones."""
        rows = [block[name] for block in self._waiting]
        n_rows = self.capacity
        if "contacts" in FIELD[name].shape:
            n_frames = max(1, sum(len(block) for block in self._waiting))
            n_rows = int(RESERVE * self.capacity * sum(map(len, rows)) / n_frames) + 1
        return Column(np.empty((n_rows, *rows[0].shape[1:]), rows[0].dtype))

    def _drop(self, n_frames: int) -> None:
        """Drop the oldest frames."""
        if n_frames <= 0:
            return
        n_contacts = int(self._columns["contact_counts"].rows[:n_frames].sum(dtype=np.int64))
        for name, column in self._columns.items():
            column.start += n_contacts if name == RAGGED else n_frames
        self._held -= n_frames


def inference_frames(config: Config, n_walkers: int) -> tuple[int, int]:
    """Frames of a round of inference, and of its window."""
    per_round = n_walkers * config.round_reports
    wanted = max(n_walkers, round(config.steering.window_rounds * per_round))
    return per_round, min(wanted, config.steering.window_frames)
