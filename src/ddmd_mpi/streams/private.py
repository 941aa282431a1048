"""A directory of this process's own for SST's contact files, and the end of those that killed processes have left.

Its owner holds a lock on a file in it for as long as it lives. So whoever gets the lock knows that the owner is dead,
in another container or under a number that was given again, too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from ..errors import StreamError

PREFIX = "ddmd-mpi-streams-"
LOCK = "lock"
#: A contact text is shorter; a writer whose contact file cannot be written is killed by SST.
ROOM_BYTES = 4096


class PrivateDirectory:
    """A fresh directory under the one for temporary files (``TMPDIR``).

    Raises
    ------
    StreamError
        If it cannot be made, or there is no room in it.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            fresh = self.path / f".{LOCK}"
            self._lock = fresh.open("wb", buffering=0)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._lock.write(bytes(ROOM_BYTES)) < ROOM_BYTES:
                raise OSError(28, os.strerror(28))
            fresh.rename(self.path / LOCK)  # seen by others with the lock only
        except OSError as error:
            raise StreamError(f"no temporary directory: {error}; make room, or set TMPDIR to a writable directory"
                              ) from error

    def free(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(temporary: Path) -> None:
    """Delete what processes that are dead have left; what belongs to others stays."""
    for lock in temporary.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # alive, another user's, or gone meanwhile
            continue
