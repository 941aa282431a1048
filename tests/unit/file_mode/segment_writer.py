"""Writes a segment file, begins to write it again with other numbers, and stops in the middle for ever.

Usage: segment_writer.py DIRECTORY {write,fsync,replace}   where it stops
"""

import os
import signal
import sys
from pathlib import Path

from blocks import RESIDUES, block

from ddmd_mpi.file_mode.segments import Segments

directory, where = Path(sys.argv[1]), sys.argv[2]


def stop(*_):
    sys.stdout.write("stopped\n")
    sys.stdout.flush()
    signal.pause()


class HalfWritten:
    """A file that takes half of what it is given."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        stop()


segments = Segments(directory, "test", RESIDUES, ("a", "b"))
segments.write(1, 0, block(0), {"number": 1})
if where == "write":
    opened = Path.open
    Path.open = lambda *arguments, **options: HalfWritten(opened(*arguments, **options))
elif where == "fsync":
    os.fsync = stop
else:
    Path.replace = stop
segments.write(1, 0, block(0, seed=2), {"number": 2})
