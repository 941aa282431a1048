#!/bin/bash
# ddmd-mpi under LSF with jsrun:   bsub jobscripts/lsf.sh     (bsub does not pass options: set them in OPTIONS below)
#
# Change the lines below to your site. Seven ranks on each node of six GPUs: one rank per GPU and the node's aggregator.
# "ddmd-mpi --dry-run -n N --ranks-per-node 7 --gpus-per-node 6 --usecase bba" shows who does what.
#BSUB -J ddmd-mpi
#BSUB -o ddmd-mpi-%J.out
#BSUB -P PROJECT
#BSUB -W 2:00
#BSUB -nnodes 2
#BSUB -alloc_flags smt1
set -euo pipefail

N_NODES=2  # as -nnodes above
RANKS_PER_NODE=7
GPUS_PER_NODE=6
CORES_PER_NODE=42
MINUTES=120  # as -W above: the program stops cleanly before they are over; "--resume runs/DIR" resumes a run
OPTIONS=(--usecase bba --duration 2h)
export DDMD_MPI_END_TIME=$(($(date +%s) + 60 * MINUTES))

# The site's modules, if its own MPI is used, and the environment that ddmd-mpi is installed in.
# module load spectrum-mpi cuda
checkout=${LS_SUBCWD:-$PWD}
if [ -f "$checkout/.venv/bin/activate" ]; then
    # shellcheck disable=SC1091
    source "$checkout/.venv/bin/activate"
fi

# One resource set per node, so that every rank sees all GPUs of its node. The program assigns one to each rank. Spectrum
# MPI ends the job if a rank is lost: relaunch.sh resumes the run from its last checkpoint, as long as time remains.
export DDMD_MPI_STOP_SIGNAL=USR1  # what jsrun forwards to the ranks
exec "$checkout/jobscripts/relaunch.sh" jsrun --nrs "$N_NODES" --rs_per_host 1 --tasks_per_rs "$RANKS_PER_NODE" --gpu_per_rs "$GPUS_PER_NODE" \
    --cpu_per_rs "$CORES_PER_NODE" --bind "packed:$((CORES_PER_NODE / RANKS_PER_NODE))" ddmd-mpi "${OPTIONS[@]}"
