"""Logging: one file per rank, ``logs/ROLE-RANK.log``; one line per segment, round or decision."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s {role} {rank} %(name)s: %(message)s"


def configure(path: Path | None, role: str, rank: int) -> logging.Logger:
    """Send this process's log to `path` (and warnings to standard error)."""
    logger = logging.getLogger("ddmd_mpi")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a log that a full disk does not take says nothing about it
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    formatter = logging.Formatter(FORMAT.format(role=role, rank=rank), datefmt="%Y-%m-%d %H:%M:%S")
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.ERROR)
    handlers: list[logging.Handler] = [console]
    if path is not None:
        handlers.append(logging.FileHandler(path))
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    return logger
