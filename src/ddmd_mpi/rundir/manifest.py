"""The manifest of a checkpoint: the parts of all ranks, and what the run is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .files import is_whole

FORMAT = 3
RECORD = ("sha256", "source", "setting")  # what is recorded about an input file


@dataclass(frozen=True)
class Entry:
    """A part as a manifest names it."""

    file: str
    role: str
    rank: int
    nbytes: int
    sha256: str
    walkers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A complete checkpoint.

    Parameters
    ----------
    number
        Counted over all sessions of the run.
    session
        Which start of the program wrote it, counted from 0.
    about
        What the run is: ``n_walkers``, the ``settings`` of the session, the records of its ``inputs``, the version of
        the program.
    carried
        Sums of the earlier sessions' status records by role and field.
    elapsed_s
        Wall time of all sessions.
    parts
        One of every rank.
    """

    number: int
    session: int
    about: dict[str, Any]
    carried: dict[str, dict[str, Any]]
    elapsed_s: float
    parts: tuple[Entry, ...]
    format: int = FORMAT

    def of_role(self, role: str) -> tuple[Entry, ...]:
        """The parts of a role, by rank."""
        return tuple(sorted((p for p in self.parts if p.role == role), key=lambda p: p.rank))


def check_types(manifest: Manifest) -> None:
    """Raise a ValueError if a manifest does not say what one says."""
    whole = [
        manifest.number,
        manifest.session,
        manifest.about["n_walkers"],
        *(n for p in manifest.parts for n in (p.rank, p.nbytes, *p.walkers)),
    ]
    texts = [text for p in manifest.parts for text in (p.role, p.sha256)]
    elapsed = manifest.elapsed_s
    if not (
        all(map(is_whole, whole))
        and all(isinstance(text, str) for text in texts)
        and isinstance(elapsed, int | float)
        and 0 <= elapsed < math.inf
    ):
        raise ValueError("its numbers are not those of a checkpoint")
    check_about(manifest.about)


def check_about(about: dict[str, Any]) -> None:
    """Raise a ValueError if what a manifest says of the run is not what one says."""
    settings, inputs = (about.get(name, {}) for name in ("settings", "inputs"))
    if not all(isinstance(table, dict) for table in (settings, inputs, *settings.values(), *inputs.values())):
        raise ValueError("its settings are not those of a run")
    if not all(isinstance(record.get(key), str) for record in inputs.values() for key in RECORD):
        raise ValueError("its records of input files are not complete")
