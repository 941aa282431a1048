"""The aggregation stage of file mode: what the first rank writes of an iteration."""

from __future__ import annotations

from ..monitor.status import Activity, State
from ..roles.context import Context
from ..rundir.checkpoints import Part
from .frame_files import FrameFiles
from .simulation_stage import Recalled, Simulated


class AggregationStage:
    """The books of an iteration, kept by the first rank, and the file that shows all its frames."""

    def __init__(self, context: Context, files: FrameFiles):
        self.context, self.files = context, files
        self.iteration = 0  # the last one

    def snapshot(self) -> Part:
        """The last iteration and the frames until then as a part of a checkpoint: what else I know is in the files."""
        return Part({"iteration": self.iteration, "archived": int(self.context.status.record["archived"])})

    def resume(self, walkers: list[Recalled]) -> tuple[int, dict[int, tuple[int, ...]]]:
        """Continue with the files of earlier sessions: the last iteration, and the walkers with a file in each.

        An iteration that was cut off is not done again: what it has written stays, and the next one follows.
        """
        context = self.context
        (entry,) = context.info.resumed_parts("aggregation")
        values = context.store.read_part(entry).values
        known = values["iteration"]
        younger = self.files.resume(known, {w: n for of_rank in walkers for w, n in of_rank.frames.items()})
        context.status.add(frames=younger, archived=values["archived"] + younger)
        self.iteration = max(known, *self.files.written) if self.files.written else known
        return self.iteration, self.files.written

    def end(self) -> None:
        """Nothing is open."""

    def run(self, iteration: int, results: list[Simulated]) -> None:
        """Count the frames, remember the best of them, and aggregate their files if that is wanted."""
        status, n_frames = self.context.status, sum(r.n_frames for r in results)
        self.iteration = iteration
        best = min(r.best for r in results)
        if best.frame >= 0 and not best.rmsd >= status.record["best_rmsd"]:
            status.update(best_rmsd=best.rmsd, best_walker=best.walker, best_frame=best.frame)
        if self.files.settings.aggregate:
            status.update(now=True, activity=Activity.MERGING)
            with self.context.events.span("block", iteration=iteration, frames=n_frames):
                self.files.aggregate(iteration)
            spent = self.context.events.totals["block"].seconds
            status.update(iteration_s=spent, busy_s=spent)
            status.add(iterations=1)
        status.add(frames=n_frames, archived=n_frames)
        status.update(now=True, state=State.RUNNING, activity=Activity.WAITING)
