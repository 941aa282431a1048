"""``ddmd-mpi status`` in a terminal: an application that is kept open. The only module with Textual."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Static

from ..errors import RunDirectoryError
from ..monitor.progress import screen
from .run_state import sparkline, standing, state_of

#: Between two looks, at least; and how many times longer than a look takes.
LOOK_SECONDS, PATIENCE = 1.0, 20.0
COLUMNS = {
    "walker": "walker",
    "rmsd_angstrom": "RMSD Å",
    "time_ps": "time ps",
    "segment": "segment",
    "frame": "frame",
    "parent": "restarted from",
    "topology": "system",
}


class StatusApp(App[None]):
    """Shows the run in `directory`, and looks again and again after a while."""

    CSS = "Static { height: auto; padding: 0 1 } DataTable { height: 1fr; min-height: 5 }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        Binding("w", "sort('walker')", "by walker"),
        Binding("r", "sort('rmsd_angstrom')", "by RMSD"),
        Binding("t", "sort('time_ps')", "by time"),
        Binding("p", "sort('parent')", "by parent"),
        Binding("s", "sort('topology')", "by system"),
        Binding("o", "open_report", "open report"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, directory: Path):
        super().__init__()
        self.directory = directory
        self.state = state_of(directory)
        self.order, self.backwards = "walker", False
        self.failure: RunDirectoryError | None = None

    def compose(self) -> ComposeResult:
        """What the screen has, from top to bottom."""
        yield Static(id="run", markup=False)
        yield Static(id="rates", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Draw, and look again after a while."""
        table = self.query_one(DataTable)
        for key, title in COLUMNS.items():
            table.add_column(title, key=key)
        self.draw()
        self.set_timer(LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Read the files again and draw what they say; a directory that has gone ends the view."""
        began = time.monotonic()
        try:
            self.state = state_of(self.directory)
        except RunDirectoryError as error:
            self.failure = error
            self.exit()
            return
        self.draw()
        self.set_timer(max(LOOK_SECONDS, PATIENCE * (time.monotonic() - began)), self.look)

    def draw(self) -> None:
        """Draw the state."""
        self.query_one("#run", Static).update(screen(self.state["view"]).rstrip().replace("\n\n", "\n"))
        self.query_one("#rates", Static).update(rates(self.state, self.size.width - 30))
        table = self.query_one(DataTable)
        row, top = table.cursor_row, table.scroll_y
        table.clear()
        for walker in self.sorted_walkers():
            table.add_row(*cells(walker))
        table.move_cursor(row=row, scroll=False)
        table.scroll_to(y=top, animate=False)

    def sorted_walkers(self) -> list[dict[str, Any]]:
        """The walkers in the order that was asked for; those without a value are last."""
        known = [w for w in self.state["walkers"] if w[self.order] is not None]
        unknown = [w for w in self.state["walkers"] if w[self.order] is None]
        return [*sorted(known, key=lambda w: w[self.order], reverse=self.backwards), *unknown]

    def action_sort(self, column: str) -> None:
        """Sort by a column; a second time, backwards."""
        self.backwards = column == self.order and not self.backwards
        self.order = column
        self.draw()

    def action_open_report(self) -> None:
        """Open the report in a browser."""
        report = self.directory.resolve() / "report.html"
        if not report.is_file():
            self.notify(f"There is no report yet: ddmd-mpi report {self.directory}")
        elif not webbrowser.open(report.as_uri()):
            self.notify(f"No browser was found here: open {report}")


def cells(walker: dict[str, Any]) -> list[str]:
    """A walker as a row of the table."""
    texts = {key: "-" if walker[key] is None else str(walker[key]) for key in COLUMNS}
    if walker["rmsd_angstrom"] is not None:
        texts["rmsd_angstrom"] = f"{walker['rmsd_angstrom']:6.2f}"
    if walker["time_ps"] is not None:
        texts["time_ps"] = f"{walker['time_ps']:.6g}"
    if walker["parent"] is not None:
        texts["parent"] = "walker {}, segment {}, frame {}".format(*walker["parent"])
    if walker["lost"]:
        texts["walker"] += " (lost)"
    return list(texts.values())


def rates(state: dict[str, Any], width: int) -> str:
    """The lines below the roles: course of the best RMSD, rates, queues, what is lost, and how the run stands."""
    lines = []
    if values := state["best_rmsd_angstrom"]:
        lines.append(f"best RMSD by round   {sparkline(values, width)} {values[-1]:.2f} Å")
    speed = "" if state["ns_per_day"] is None else f"{state['ns_per_day']:.0f} ns/day, "
    per_hour = ", ".join(
        f"{role} {r.get('iterations_per_hour', 0):.0f}/h ({100 * r.get('busy_fraction', 0):.0f} % busy)"
        for role, r in state["roles"].items()
    )
    if per_hour:
        lines.append(f"rates                {speed}{per_hour}")
    if queues := state["queues"].get("max_queue_by_hop"):
        lines.append("longest queues       " + ", ".join(f"{hop} {n:g}" for hop, n in queues.items()))
    lost = state["lost"]
    if lost["ranks"]:
        walkers = ", ".join(map(str, lost["walkers"])) or "none"
        lines.append(f"lost ranks           {', '.join(map(str, lost['ranks']))} (walkers: {walkers})")
    lines.append(f"engine               {state['engine'] or 'unknown'}; {standing(state)}")
    return "\n".join(lines)


def show(directory: Path) -> None:
    """Show the run until the user leaves.

    Raises
    ------
    RunDirectoryError
        If `directory` is not, or is no longer, a run directory.
    """
    app = StatusApp(directory)
    app.run()
    if app.failure is not None:
        raise app.failure
