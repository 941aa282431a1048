"""The state of a run for ``ddmd-mpi status``, from the ends of its files: running, ended, or dead."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import RunDirectoryError
from ..rundir.files import is_whole, parse_object, parse_record, parse_toml, read_bytes, read_text
from .status import SILENT_SECONDS, read_status

#: Bytes at the end of a file that are read.
TAIL = 65_536
#: Values of the best RMSD over the run, at most.
HISTORY = 1000
BARS = "▁▂▃▄▅▆▇█"
QUEUES = ("max_queue_by_hop", "waited_by_hop", "wait_s_by_hop", "dropped_by_hop")


def state_of(directory: Path) -> dict[str, Any]:
    """The state of a run as JSON has it.

    Returns
    -------
    dict
        ``state`` (running, ended, silent), ``silent_s``, ``view`` (``status.json``), ``completed``, ``stop_reason``,
        ``engine``, ``ns_per_day``, ``roles`` and ``queues`` (of ``summary.json``, at most half a minute old), ``lost``
        (ranks and walkers), ``best_rmsd_angstrom`` (after each round of inference), ``walkers``.

    Raises
    ------
    RunDirectoryError
        If `directory` is not a run directory.
    """
    view = read_status(directory)
    silent = time.time() - view["time"]
    summary = _summary(directory / "summary.json")
    settings = _settings(directory / "config.toml")
    lost = {"ranks": view.get("lost_ranks", []), "walkers": view.get("lost_walkers", [])}
    ended = view["done"] or summary.get("unfinished")  # a rank that did not finish has not said that it is done
    streams = _table(summary.get("streams"))
    return {
        "state": "ended" if ended else "silent" if silent > SILENT_SECONDS else "running",
        "silent_s": max(0.0, silent),
        "completed": summary.get("completed") is True,
        "stop_reason": "; ".join(str(summary[key]) for key in ("stop_reason", "unfinished") if summary.get(key)),
        "engine": _table(settings.get("simulation")).get("engine"),
        "ns_per_day": _numbers(summary.get("simulation")).get("ns_per_day"),
        "roles": {role: _numbers(figures) for role, figures in _table(summary.get("roles")).items()},
        "queues": {key: _numbers(streams[key]) for key in QUEUES if key in streams},
        "lost": lost,
        "best_rmsd_angstrom": best_so_far(directory),
        "walkers": [walker_of(directory, walker, lost["walkers"]) for walker in walkers_of(directory)],
        "view": view,
    }


def standing(state: dict[str, Any]) -> str:
    """How the run stands, in a few words."""
    if state["state"] == "silent":
        return f"no update for {state['silent_s']:.0f} s: the run was killed, or its machine is unreachable"
    if state["state"] == "running":
        return "running"
    how = "completed" if state["completed"] else "not completed"
    return f"the run has ended, {how}{f' ({reason})' if (reason := state['stop_reason']) else ''}"


def walkers_of(directory: Path) -> list[int]:
    """The walkers that have started."""
    names = [
        path.name.removeprefix("sim-").partition(".")[0] for path in directory.glob("trajectories/sim-*.segments.jsonl")
    ]
    return sorted({int(name) for name in names if name.isdecimal()})


def walker_of(directory: Path, walker: int, lost: list[int]) -> dict[str, Any]:
    """What a walker does now, from the last lines of its files; None for what they do not say."""
    stem = directory / "trajectories" / f"sim-{walker:04d}"
    frame, segments = _last_frame(Path(f"{stem}.frames.csv")), _newest_first(Path(f"{stem}.segments.jsonl"))
    now = next(segments, {})
    restart: dict[str, Any] = next((s for s in chain([now], segments) if is_whole(s.get("decision"))), {})
    parent = [restart.get(f"source_{key}") for key in ("walker", "segment", "frame")]
    return {
        "walker": walker,
        "lost": walker in lost,
        "rmsd_angstrom": _number(frame.get("rmsd_angstrom")),
        "time_ps": _number(frame.get("time_ps")),
        "frame": int(frame["frame"]) if frame.get("frame", "").isdecimal() else None,
        "segment": now["segment"] if is_whole(now.get("segment")) else None,
        "parent": parent if all(is_whole(index) for index in parent) else None,
        "decision": restart.get("decision"),
        "topology": now["topology"] if isinstance(now.get("topology"), str) else None,
    }


def best_so_far(directory: Path) -> list[float]:
    """The lowest RMSD until each of the newest rounds of inference, Å; at most :data:`HISTORY`."""
    best, found = math.inf, []
    for record in reversed(list(_newest_first(directory / "rounds.jsonl", 40 * TAIL))):
        rmsd = record.get("best_rmsd_angstrom")
        if isinstance(rmsd, int | float) and math.isfinite(rmsd):
            best = min(best, rmsd)
            found.append(best)
    return found[-HISTORY:]


def sparkline(values: list[float], width: int) -> str:
    """Numbers as bars, the newest at the right; empty for none."""
    if not values or width < 1:
        return ""
    n = min(width, len(values))
    picked = [values[(i + 1) * len(values) // n - 1] for i in range(n)]
    low, high = min(picked), max(picked)
    return "".join(BARS[round((v - low) / ((high - low) or 1.0) * (len(BARS) - 1))] for v in picked)


def _newest_first(path: Path, most: int = TAIL) -> Iterator[dict[str, Any]]:
    """The complete lines of JSON at the end of a file, the newest one first."""
    for line in reversed(_last_lines(path, most)):
        with suppress(ValueError):
            yield parse_record(line)


def _last_frame(path: Path) -> dict[str, str]:
    """The last complete row of a table with a head."""
    lines = _last_lines(path, TAIL)
    head = _head(path)
    rows = [
        dict(zip(head, row, strict=True)) for row in csv.reader(lines[-1:]) if len(row) == len(head) and row != head
    ]
    return rows[-1] if rows else {}


def _head(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return next(csv.reader([file.readline(TAIL)]), [])
    except OSError:
        return []


def _last_lines(path: Path, most: int) -> list[str]:
    """The complete lines among the last `most` bytes of a regular file; none if there is no such file."""
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            text = file.read(most).decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = text.split("\n")[:-1]  # what follows the last line feed is not complete
    return lines[1:] if size > most else lines


def _summary(path: Path) -> dict[str, Any]:
    try:
        return parse_object(read_bytes(path))
    except (OSError, ValueError):
        return {}


def _settings(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except (OSError, ValueError):
        return {}


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    """The finite numbers of a table."""
    known = _table(value).items()
    return {key: number for key, number in known if isinstance(number, int | float) and math.isfinite(number)}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def as_json(state: dict[str, Any]) -> str:
    """The state as one line of JSON.

    Raises
    ------
    RunDirectoryError
        If the view holds what JSON has no word for.
    """
    try:
        return json.dumps(state, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RunDirectoryError(f"{state['view']['directory']} has a damaged status.json: {error}") from error
