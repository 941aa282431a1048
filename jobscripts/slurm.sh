#!/bin/bash
# ddmd-mpi under Slurm:   sbatch jobscripts/slurm.sh --usecase bba
#
# Change the lines below to your site. One rank per GPU and one more for the node's aggregator is a good start; without
# GPUs, one rank per core. "ddmd-mpi --dry-run -n N --ranks-per-node R --gpus-per-node G --usecase bba" shows who does what.
#SBATCH --job-name=ddmd-mpi
#SBATCH --output=ddmd-mpi-%j.out
##SBATCH --account=PROJECT
##SBATCH --partition=QUEUE
#SBATCH --time=02:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=8
##SBATCH --gpus-per-node=4
# Two minutes before the end all ranks get a signal and stop in order; where Slurm tells its jobs the end they stop by themselves.
# To go on with a run:   sbatch jobscripts/slurm.sh --resume runs/DIR
#SBATCH --signal=USR1@120
# Not --gpus-per-task: every rank must see all GPUs of its node. The program gives each rank its own.
set -euo pipefail

# The site's modules, if its own MPI is used, and the environment that ddmd-mpi is installed in.
# module load openmpi cuda
checkout=${SLURM_SUBMIT_DIR:-$PWD}
if [ -f "$checkout/.venv/bin/activate" ]; then
    # shellcheck disable=SC1091
    source "$checkout/.venv/bin/activate"
fi

# Where a simulation rank is lost the others go on: Slurm must not end them (--kill-on-bad-exit, --wait), and Open MPI 5 has to be
# told to survive it, with heartbeats of its own. MPICH cannot survive a loss: set --kill-on-bad-exit=1 there. Whatever else is
# lost ends the run, and relaunch.sh goes on with it from its last checkpoint while there is time.
export OMPI_MCA_mpi_ft_enable="${OMPI_MCA_mpi_ft_enable:-1}"
export OMPI_MCA_mpi_ft_detector="${OMPI_MCA_mpi_ft_detector:-1}"

# How srun starts MPI ranks: pmix for Open MPI, pmi2 for MPICH ("srun --mpi=list" shows what there is).
exec "$checkout/jobscripts/relaunch.sh" srun --mpi="${DDMD_MPI_PMI:-pmix}" --cpu-bind=cores --kill-on-bad-exit=0 --wait=0 \
    ddmd-mpi "$@"
