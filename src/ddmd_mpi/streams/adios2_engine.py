"""Streams that are ADIOS2 engines: SST over the network, or a file that the reader follows while it grows.

One packed buffer per step (a variable costs 3 microseconds), whose length is the payload's: never padded. A step
without a payload is skipped: the handshake of :mod:`.network` makes such steps. A step that holds the mark is no
payload; it ends the stream if the mark is 1.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import adios2
import numpy as np
from adios2.bindings import Mode, StepMode, StepStatus

from ..config.schema import StreamsSection
from ..errors import StreamError
from ..rundir.files import read_text, reason
from .sst_guards import disable_nagle, own_interrupt
from .stream import END, EndType

PAYLOAD, MARK = "payload", "end"

#: Where neither the settings nor the XML file say otherwise.
DEFAULTS = {
    "SST": {
        "MarshalMethod": "BP5",
        # The outbox' credits bound what is under way. A limit here would block the writer or drop its newest step.
        "QueueLimit": "0",
        "OpenTimeoutSecs": "60",
        "StatsLevel": "0",
    },
    "BP5": {"StatsLevel": "0", "BeginStepPollingFrequencySecs": "0.001", "OpenTimeoutSecs": "60"},
}
#: Writers whose readers are late; they serve them until the process ends.
_left_open: list[StepWriter] = []
XML_BYTES = 1_000_000
PROFILES = Path("/tmp")  # ADIOS2, source/adios2/engine/bp5/BP5Reader.cpp
#: What the handshake needs: the writer opens before its reader.
FORCED = {"SST": {"RendezvousReaderCount": "0"}}


@contextmanager
def adios2_errors(doing: str) -> Iterator[None]:
    """Turn what ADIOS2 raises into a :class:`StreamError` of one sentence."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        reason = re.sub(r"\x1b\[[0-9;]*m|\[ADIOS2 EXCEPTION\]|^\W*\[.*?\]|<\w+>", "", str(error))
        reason = " ".join(reason.split()).removeprefix(": ").removeprefix("ERROR: ")
        raise StreamError(
            f"ADIOS2 failed {doing}: {reason}; choose with [streams] engine, parameters or adios2_xml what "
            f"`ddmd-mpi check` says works"
        ) from error


@contextmanager
def no_profile(path: Path) -> Iterator[None]:
    """Delete the profile that ADIOS2 leaves of every BP5 file that it has read, whatever its settings."""
    pattern = f"{glob.escape(path.name)}_*_profiling.json"
    before = set(PROFILES.glob(pattern))
    yield
    for profile in set(PROFILES.glob(pattern)) - before:
        with suppress(OSError):
            profile.unlink()


@dataclass(frozen=True)
class Declared:
    """An ADIOS2 IO, made for one stream. `adios` keeps it alive."""

    adios: adios2.Adios
    io: adios2.IO
    engine: str

    def open(self, path: Path, mode: Mode) -> adios2.Engine:
        """Open the engine on `path`."""
        with adios2_errors(f"to open the {self.engine} stream {path}"), own_interrupt():
            return self.io.open(str(path), mode)


def kind_of(name: str) -> str:
    """Kind of a stream, by which an XML file names its IO: ``SimulationOutput`` of ``SimulationOutput-3``."""
    return name.partition("-")[0]


def check_xml(path: Path) -> None:
    """Raise a StreamError if an XML file cannot be read, or makes ADIOS2 load somebody's library."""
    try:
        text = read_text(path, XML_BYTES)
    except (OSError, ValueError) as error:
        raise StreamError(f"streams.adios2_xml {path} cannot be read: {reason(error)}") from error
    if re.search("plugin|&#", text, re.IGNORECASE):
        raise StreamError(f"streams.adios2_xml {path} names a plug-in, whose code would run: take it out")


def declare(kind: str, settings: StreamsSection) -> Declared:
    """The IO of a kind of stream, as the XML file has it, or else as the settings have it."""
    if settings.adios2_xml is not None:
        check_xml(settings.adios2_xml)
    with adios2_errors(f"to read {settings.adios2_xml}" if settings.adios2_xml else "to start"):
        adios = adios2.Adios(str(settings.adios2_xml)) if settings.adios2_xml else adios2.Adios()
        io = adios.declare_io(kind)
    in_xml = io.engine_type() not in ("File", "")
    engine = io.engine_type() if in_xml else settings.engine
    io.set_engine(engine)
    engine = {"sst": "SST", "bp5": "BP5"}.get(engine.lower(), engine)
    from_user = io.parameters() if in_xml else settings.parameters
    io.set_parameters({**DEFAULTS.get(engine, {}), **from_user, **FORCED.get(engine, {})})
    return Declared(adios, io, engine)


def supported(kind: str, settings: StreamsSection) -> str:
    """Engine of a kind of stream.

    Raises
    ------
    StreamError
        If streams cannot use it.
    """
    engine = declare(kind, settings).engine
    if engine not in DEFAULTS:
        known = " or ".join(DEFAULTS)
        raise StreamError(f"{settings.adios2_xml} asks for the engine {engine} for {kind}: name {known}")
    return engine


class StepWriter:
    """Writer of a stream that is an ADIOS2 engine; see :class:`.stream.Writer`."""

    ready = True

    def __init__(self, declared: Declared, path: Path):
        self.path = path
        self._engine = declared.open(path, Mode.Write)
        self._declared = declared
        byte = np.zeros(1, np.uint8)
        self._payload = declared.io.define_variable(PAYLOAD, byte, [1], [0], [1])
        self._mark = declared.io.define_variable(MARK, byte, [1], [0], [1])
        self._closed = False
        self.finished = False  # whether the reader has said that it needs nothing more
        self.n_written = self.nbytes = 0
        if declared.engine != "SST":
            self._describe()

    def _describe(self) -> None:
        """Write both variables once, before there is a reader.

        A file's description of its variables (mmd.0) grows with the first step of each. A reader that polls just then
        may read half a description, and crashes.
        """
        with adios2_errors(f"to write to {self.path}"):
            self._engine.begin_step(StepMode.Append, 0.0)
            self._engine.put(self._payload, np.ones(1, np.uint8), Mode.Sync)
            self._engine.put(self._mark, np.zeros(1, np.uint8), Mode.Sync)
            self._engine.end_step()

    def write(self, payload: np.ndarray) -> None:
        """Write one payload as one step."""
        with adios2_errors(f"to write to {self.path}"):
            self._engine.begin_step(StepMode.Append, 0.0)
            self._payload.set_shape([payload.nbytes])
            self._payload.set_selection([[0], [payload.nbytes]])
            self._engine.put(self._payload, payload, Mode.Sync)
            self._engine.end_step()
        if self.n_written == 0 and self._declared.engine == "SST":
            disable_nagle()  # the first step opens the connection of the data
        self.n_written += 1
        self.nbytes += payload.nbytes

    def hello(self) -> None:
        """Write an empty step: SST lets a waiting reader in at the end of a step, and nowhere else."""
        with adios2_errors(f"to write to {self.path}"):
            self._engine.begin_step(StepMode.Append, 0.0)
            self._engine.end_step()

    def close(self) -> None:
        """Announce the end of the stream by a step."""
        if self._closed:
            return
        self._closed = True
        with adios2_errors(f"to write to {self.path}"):
            self._engine.begin_step(StepMode.Append, 0.0)
            self._engine.put(self._mark, np.ones(1, np.uint8), Mode.Sync)
            self._engine.end_step()

    def free(self) -> None:
        """Close the engine; if the reader has not finished, leave it open for it.

        SST's ``close`` waits until the reader has released every step, if need be forever.
        """
        if not self.finished:
            _left_open.append(self)
            return
        with adios2_errors(f"to close {self.path}"):
            self._engine.close()


class StepReader:
    """Reader of a stream that is an ADIOS2 engine; see :class:`.stream.Reader`. `at_end` is called once."""

    finished = True

    def __init__(self, declared: Declared, path: Path, at_end: Callable[[], None] = lambda: None):
        self.path = path
        self._engine = declared.open(path, Mode.Read)
        self._declared, self._at_end = declared, at_end
        self._ended = self._fresh = False
        self.complete = False

    def poll(self) -> np.ndarray | EndType | None:
        """The next payload, None, or END."""
        while not self._ended:
            # Timeout 0 only: the binding never releases the interpreter's lock, so waiting here stops every thread.
            status = self._engine.begin_step(StepMode.Read, 0.0)
            if status == StepStatus.NotReady:
                return None
            if status != StepStatus.OK:  # without its mark: the writer is gone
                self._end()
            elif (payload := self._step()) is not None:
                return payload
        return END

    def _step(self) -> np.ndarray | None:
        """The payload of the step that has started; None if it has none, or if the writer died under the reader."""
        payload, mark = None, np.zeros(1, np.uint8)
        try:
            variable, marked = (self._declared.io.inquire_variable(name) for name in (PAYLOAD, MARK))
            if marked is not None:
                self._engine.get(marked, mark)
            elif variable is not None:
                payload = np.empty(variable.shape()[0], np.uint8)
                self._engine.get(variable, payload)
            self._engine.end_step()
        except (RuntimeError, ValueError):
            self._end()
            return None
        self.complete = bool(mark[0])
        if self.complete:
            self._end()
        elif payload is not None and not self._fresh:
            self._fresh = True
            disable_nagle()  # the first step opens the connection of the data
        return payload

    def _end(self) -> None:
        self._ended = True
        self._at_end()

    def close(self) -> None:
        """Stop reading. Closes the engine at once, because a writer waits until its steps are released."""
        if not self._ended:
            self.free()
            self._end()

    def free(self) -> None:
        """Close the engine, which takes SST 0.1 s: so not at the end of each of many streams."""
        if self._engine is not None:
            with adios2_errors(f"to close {self.path}"), no_profile(self.path):
                self._engine.close()
            self._engine = None
