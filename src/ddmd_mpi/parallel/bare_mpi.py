"""MPI as it is before it is started: :func:`.launch.launch` starts it, when the launcher is known to fit."""

import mpi4py

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
from mpi4py import MPI  # noqa: E402

__all__ = ["MPI"]
