"""One end of a stream in a process of its own: `writer|reader ENGINE PATH N LAST`, talked to by lines.

After N payloads it does LAST: a writer or reader may `end` in order or `die`; a reader may `close` early.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.adios2_engine import StepReader, StepWriter, declare
from ddmd_mpi.streams.stream import END


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def payload(index: int) -> np.ndarray:
    return np.full(index + 1, index, np.uint8)


def write(writer: StepWriter, n: int, last: str) -> None:
    say("open")
    os.set_blocking(sys.stdin.fileno(), False)
    while not sys.stdin.readline():
        writer.hello()
        time.sleep(0.001)
    for index in range(n):
        writer.write(payload(index))
    os.set_blocking(sys.stdin.fileno(), True)
    say("written")
    sys.stdin.readline()
    if last == "die":
        os._exit(9)
    writer.close()
    sys.stdin.readline()
    writer.finished = True
    writer.free()


def read(reader: StepReader, n: int, last: str) -> None:
    say("open")
    for index in range(n):
        while (got := reader.poll()) is None:
            time.sleep(0.001)
        assert got is not END
        assert np.array_equal(got, payload(index))
    if last == "die":
        os._exit(9)
    if last == "close":
        reader.close()
    say("read")
    sys.stdin.readline()
    reader.free()


def main() -> None:
    role, engine, path, n, last = sys.argv[1:]
    declared = declare("test", StreamsSection(engine=engine))
    if role == "writer":
        write(StepWriter(declared, Path(path)), int(n), last)
    else:
        read(StepReader(declared, Path(path)), int(n), last)


if __name__ == "__main__":
    main()
