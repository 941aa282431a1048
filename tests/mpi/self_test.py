"""The findings of ``ddmd-mpi check`` about windows."""

import sys

from mpi4py import MPI

from ddmd_mpi.parallel.selftest import self_test

findings = self_test(MPI.COMM_WORLD)
if MPI.COMM_WORLD.rank == 0:
    sys.stdout.writelines(f"{name} {ok} {detail}\n" for name, ok, detail in findings)
