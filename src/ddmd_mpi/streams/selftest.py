"""The self test of the streams, for ``ddmd-mpi check``: which engines open, and whether a payload gets through."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import adios2
import numpy as np

from ..config.schema import StreamsSection
from ..errors import StreamError
from .addresses import LOOPBACK
from .adios2_engine import Declared, StepReader, StepWriter, declare
from .sst_guards import disable_nagle, set_own_address
from .waiting import wait_until

ENGINES: tuple[Literal["SST", "BP5"], ...] = ("SST", "BP5")
SECONDS = 20.0
PAYLOAD = np.arange(1000, dtype=np.uint8)


def self_test(directory: Path) -> list[tuple[str, bool, str]]:
    """Send a payload through each engine, from this process to another.

    Parameters
    ----------
    directory
        An existing directory for the test's files.

    Returns
    -------
    list of (name, ok, detail)
    """
    set_own_address(LOOPBACK)
    return [_test(engine, Path(directory)) for engine in ENGINES]


def _test(engine: str, directory: Path) -> tuple[str, bool, str]:
    name, path = f"stream {engine}", directory / f"check-{engine.lower()}"
    try:
        seconds = _send_and_receive(engine, path)
    except StreamError as error:
        return name, False, str(error)
    return name, True, f"ADIOS2 {adios2.__version__}: a payload got through, {seconds:.2f} s with a process to start"


def _send_and_receive(engine: str, path: Path) -> float:
    """Write the payload again and again until a process that reads it has ended; the seconds that took."""
    start = time.perf_counter()
    writer = StepWriter(_declared(engine), path)
    disable_nagle()
    reader = subprocess.Popen([sys.executable, "-m", __name__, engine, str(path)])

    def reader_has_ended() -> bool:
        writer.write(PAYLOAD)
        return reader.poll() is not None

    try:
        wait_until(reader_has_ended, SECONDS, "a payload")
    finally:
        reader.kill()
        reader.wait()
        writer.finished = True
        writer.free()
    if reader.returncode != 0:
        raise StreamError(f"what was read from the {engine} stream {path} is not what was written; reinstall adios2")
    return time.perf_counter() - start


def _declared(engine: str) -> Declared:
    return declare("check", StreamsSection(engine=next(name for name in ENGINES if name == engine)))


def _read(engine: str, path: Path) -> bool:
    """Whether the payload arrives: what the second process does."""
    reader = StepReader(_declared(engine), path)
    payload: list[np.ndarray] = []

    def arrived() -> bool:
        payload.extend(p for p in [reader.poll()] if isinstance(p, np.ndarray))
        return bool(payload)

    wait_until(arrived, SECONDS, "a payload")
    reader.free()
    return np.array_equal(payload[0], PAYLOAD)


if __name__ == "__main__":
    sys.exit(0 if _read(sys.argv[1], Path(sys.argv[2])) else 1)
