"""Figure of the queues: how many blocks waited before each kind of stream, how long, and how many were dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..analysis.records import number, table
from ..analysis.run import Run
from . import style
from .tables import Rows

#: Kinds of stream of the summary, and who writes and reads them.
HOPS = {
    "SimulationOutput": "simulation → aggregation",
    "AggregatorToTraining": "aggregation → training",
    "AggregatorToInference": "aggregation → inference",
    "TrainingToInference": "training → inference",
}
CAPTION = (
    "Blocks wait in the queue before a stream (outbox) while its reader has enough unread ones. A wait before training "
    "costs nothing but fresh data; a wait before inference delays restarts. Dropped blocks miss at the reader, and are "
    "on disk all the same."
)


def stream_table(run: Run) -> Rows:
    """One row per kind of stream that has carried blocks."""
    streams = table(run.summary.get("streams"))

    def value(key: str, hop: str) -> float:
        return number(table(streams.get(key)).get(hop))

    rows: Rows = []
    for hop, words in HOPS.items():
        blocks = value("blocks_by_hop", hop)
        if blocks > 0:
            waited, dropped = (np.nan_to_num(value(f"{key}_by_hop", hop)) for key in ("waited", "dropped"))
            queued = max(blocks + dropped, waited)  # some may never have left the queue
            rows.append({
                "stream": words,
                "blocks": int(blocks),
                "megabytes": 1e-6 * value("bytes_by_hop", hop),
                "longest_queue": value("max_queue_by_hop", hop),
                "waited_percent": 100 * value("waited_by_hop", hop) / queued,
                "mean_wait_s": value("wait_s_by_hop", hop) / queued,
                "dropped": value("dropped_by_hop", hop),
            })  # fmt: skip
    return rows


def queues(run: Run, path: Path) -> bool:
    """Longest queue, blocks that waited, mean wait and dropped blocks of each kind of stream. False: no data."""
    rows = stream_table(run)
    panels = {
        "longest_queue": "longest queue\n(blocks)",
        "waited_percent": "blocks that\nwaited (%)",
        "mean_wait_s": "mean wait (s)",
        "dropped": "dropped blocks",
    }
    if not any(number(row["longest_queue"]) >= 0 for row in rows):
        return False
    places = np.arange(len(rows))
    with style.figure(path, height=1.2 + 0.45 * len(rows)) as figure:
        for axes, (key, label) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
            values = np.array([number(row[key]) for row in rows])
            axes.barh(places, np.nan_to_num(values), 0.6, color=style.ROLE_COLOURS["simulation"])
            for place, of_row in zip(places, values, strict=True):
                axes.annotate(f"{of_row:.3g}" if of_row >= 0 else "not known", (max(0.0, np.nan_to_num(of_row)), place),
                              xytext=(3, 0), textcoords="offset points", va="center", fontsize=9)  # fmt: skip
            axes.set(xlabel=label, xlim=(0, 1.35 * max(1e-9, np.nanmax([*np.nan_to_num(values), 1e-3]))), xticks=[])
            axes.grid(visible=False)
            axes.spines["bottom"].set_visible(False)
        figure.axes[0].set_yticks(places, [str(row["stream"]) for row in rows])
        figure.axes[0].invert_yaxis()
    return True
