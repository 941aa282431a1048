"""Jobs of several ranks: how they are started, and how they are made an end of."""

from __future__ import annotations

import os
import signal
from pathlib import Path

RANKS = Path(__file__).parent.parent / "jobscripts" / "ranks.sh"


def kill_session(session: int) -> None:
    """Kill every process of a session: mpiexec gives its ranks process groups of their own."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
