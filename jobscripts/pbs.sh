#!/bin/bash
# ddmd-mpi under PBS:   qsub jobscripts/pbs.sh     (qsub does not pass options: set them in OPTIONS below)
#
# Change the lines below to your site. One rank per GPU and one more for the node's aggregator is a good start; without
# GPUs, one rank per core. "ddmd-mpi --dry-run -n N --ranks-per-node R --gpus-per-node G --usecase bba" shows who does what.
#PBS -N ddmd-mpi
#PBS -j oe
#PBS -A PROJECT
#PBS -q QUEUE
#PBS -l walltime=02:00:00
#PBS -l select=2:ncpus=40:ngpus=4:mpiprocs=5
set -euo pipefail

RANKS_PER_NODE=5  # as mpiprocs above
MINUTES=120  # as walltime above: the program stops cleanly before they are over; "--resume runs/DIR" resumes a run
OPTIONS=(--usecase bba --duration 2h)
export DDMD_MPI_END_TIME=$(($(date +%s) + 60 * MINUTES))

# The site's modules, if its own MPI is used, and the environment that ddmd-mpi is installed in.
# module load openmpi cuda
cd "${PBS_O_WORKDIR:-$PWD}"
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    source .venv/bin/activate
fi

# Every rank must see all GPUs of its node: no GPU affinity here. The program assigns one to each rank. With
# "mpiexec --with-ft ulfm" Open MPI 5 continues without a lost simulation rank; the loss of any other rank ends the run, and
# relaunch.sh resumes it from its last checkpoint, as long as time remains.
export DDMD_MPI_STOP_SIGNAL=USR1  # what mpiexec forwards to the ranks; on TERM it would kill them
n_nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
exec jobscripts/relaunch.sh mpiexec -n $((n_nodes * RANKS_PER_NODE)) ddmd-mpi "${OPTIONS[@]}"
