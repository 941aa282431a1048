"""The frames of file mode: written by the simulations, read back as the windows of training and inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StreamError
from ..frames.block import FrameBlock, Hop
from ..frames.window import FrameWindow
from ..monitor.events import EventLog
from ..roles.context import Context
from .segments import Segments, Shapes, choose_iterations

#: How each segment with frames in a file started: names of the walker's record, and of the file's attributes.
BEGINNINGS = {
    "decision": "decisions",
    "source_walker": "source_walkers",
    "source_segment": "source_segments",
    "source_frame": "source_frames",
    "velocity_seed": "velocity_seeds",
}


class FrameFiles:
    """The segment files of a run, as one rank sees them.

    A file that cannot be read is left out, and named once in the log.
    """

    def __init__(self, context: Context):
        config, info = context.config, context.info
        self.context, self.settings = context, config.file
        self.segments = Segments(info.directory, config.system.name, info.n_residues, info.order_parameters)
        self.written: dict[int, tuple[int, ...]] = {}  # iteration -> walkers with a file
        self._left_out: set[Path] = set()

    def resume(self, iteration: int, held: Mapping[int, int]) -> int:
        """Find the files of earlier sessions again; how many frames are younger than `iteration`, that of a checkpoint.

        A younger file goes if the trajectory of its walker has lost frames of it, as it may where the machine itself
        went down: other frames will get their numbers.

        Parameters
        ----------
        held
            Frames that the trajectory of each walker has.
        """
        self.written, younger = self.segments.found(), 0
        for i in [i for i in self.written if i > iteration]:
            for walker in self.written[i]:
                frames = self._frames(i, walker)
                if len(frames) and frames[-1] >= held.get(walker, 0):
                    self.segments.path(i, walker).unlink()
                    self.written[i] = tuple(w for w in self.written[i] if w != walker)
                else:
                    younger += len(frames)
            if self.settings.aggregate:
                self.aggregate(i)
        return younger

    def _frames(self, iteration: int, walker: int) -> np.ndarray:
        """Numbers of the frames in a file; none of one that cannot be read."""
        try:
            return self.segments.read(iteration, walker)["frame"]
        except StreamError as error:
            self._leave_out(self.segments.path(iteration, walker), error)
            return np.zeros(0, np.int64)

    def write(self, iteration: int, walker: int, rows: Sequence[dict[str, Any]], beginnings: dict[int, dict]) -> int:
        """Write the frames of a walker in an iteration; returns the bytes of the file.

        Parameters
        ----------
        rows
            One or more frames.
        beginnings
            Of their segments, by number: how each started.
        """
        config = self.context.config
        about = {name: [int(b[key]) for b in beginnings.values()] for key, name in BEGINNINGS.items()}
        return self.segments.write(
            iteration,
            walker,
            FrameBlock.from_rows(rows, Hop.COORDINATES),
            {
                "segments": list(beginnings),
                **about,
                "run_seed": config.run.seed,
                "descriptor": config.system.descriptor,
                "cutoff_angstrom": config.features.cutoff_angstrom,
                "engine": config.simulation.engine,
            },
        )

    def aggregate(self, iteration: int) -> None:
        """Write the file that shows the frames of all walkers of an iteration."""
        shapes: dict[int, Shapes] = {}
        for walker in self.written[iteration]:
            try:
                shapes[walker] = self.segments.shapes(iteration, walker)
            except StreamError as error:
                self._leave_out(self.segments.path(iteration, walker), error)
        if shapes:
            self.segments.aggregate(iteration, shapes)

    def window(self, capacity: int, events: EventLog, share: int = 0, n_shares: int = 1) -> FrameWindow:
        """The frames of the newest iterations and of some random older ones, the newest `capacity` of them.

        Parameters
        ----------
        events
            Of the stage that reads.
        share, n_shares
            Which of this many equal shares: readers that train together have one each.
        """
        generator = np.random.default_rng([self.context.config.run.seed, len(self.written)])
        chosen = choose_iterations(
            list(self.written), self.settings.newest_iterations, self.settings.random_older, generator
        )
        window = FrameWindow(capacity)
        with events.span("io") as span:
            newest_first: list[list[FrameBlock]] = []
            while chosen and sum(len(b) for blocks in newest_first for b in blocks) < capacity:
                newest_first.append(list(self.blocks(chosen.pop(), share, n_shares)))
            for block in (b for blocks in reversed(newest_first) for b in blocks):
                window.append(block)
            span.update(frames=len(window), iterations=len(newest_first))
        return window

    def blocks(self, iteration: int, share: int = 0, n_shares: int = 1) -> Iterator[FrameBlock]:
        """A share of an iteration's frames, by the file that shows them all if there is one."""
        path = self.segments.aggregated(iteration)
        if self.settings.aggregate and path not in self._left_out:
            try:
                yield self._known(self.segments.read_aggregated(iteration, share, n_shares), path)
                return
            except StreamError as error:
                self._leave_out(path, error)
        for walker in self.written[iteration][share::n_shares]:
            try:
                yield self._known(self.segments.read(iteration, walker), self.segments.path(iteration, walker))
            except StreamError as error:
                self._leave_out(self.segments.path(iteration, walker), error)

    def _known(self, block: FrameBlock, path: Path) -> FrameBlock:
        """The block, if the run has the topologies of all of its frames."""
        strange = [int(t) for t in np.unique(block["topology"]) if self.context.info.n_atoms_of(int(t)) is None]
        if strange:
            raise StreamError(
                f"{path} is not the expected file: it names topology {strange[0]}, which the run does not have"
            )
        return block

    def _leave_out(self, path: Path, error: StreamError) -> None:
        if path not in self._left_out:
            self._left_out.add(path)
            self.context.log.warning("left out: %s", error)
