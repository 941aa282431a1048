"""Becomes another program that dies with the process that asked for it: ``launcher.py PARENT_PID COMMAND ...``.

A script and no ``preexec_fn``: Python then starts children by vfork, which is quick and safe in a process that has
threads and memory registered with a network.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127

if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have ended before the call.
    if os.getppid() != int(parent):
        sys.exit(CANNOT_RUN)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")
