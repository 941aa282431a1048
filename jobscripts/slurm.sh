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
# Two minutes before the end this script gets a signal and forwards it to the ranks: they stop cleanly.
# To stop a run cleanly:   scancel --batch --signal=USR1 JOB
# To resume a run:   sbatch jobscripts/slurm.sh --resume runs/DIR   (a job that Slurm requeues resumes by itself)
#SBATCH --signal=B:USR1@120
# Do not use --gpus-per-task: every rank must see all GPUs of its node. The program assigns one to each rank.
set -euo pipefail

# The site's modules, if its own MPI is used, and the environment that ddmd-mpi is installed in (DDMD_MPI_VENV, or .venv).
# module load openmpi cuda
checkout=${SLURM_SUBMIT_DIR:-$PWD}
venv=${DDMD_MPI_VENV:-$checkout/.venv}
if [ -f "$venv/bin/activate" ]; then
    # shellcheck disable=SC1091
    source "$venv/bin/activate"
fi

# The program stops cleanly before the end of its job: SLURM_JOB_END_TIME, which older versions of Slurm do not set.
if [ -z "${SLURM_JOB_END_TIME:-}" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    end=$(scontrol show --oneliner job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p') || true
    end=$(date -d "${end:-Unknown}" +%s 2>/dev/null) && export DDMD_MPI_END_TIME="${DDMD_MPI_END_TIME:-$end}"
fi

# Open MPI 5 starts its ranks with its own mpiexec, which asks Slurm for the nodes, so that the other ranks continue if a
# simulation rank is lost. Other MPIs are started by srun (pmi2 for MPICH; "srun --mpi=list" shows the choices), and end with
# the first lost rank. If the run ends for any reason other than a clean stop, relaunch.sh resumes it from the last checkpoint,
# as long as time remains. DDMD_MPI_LAUNCHER=srun uses srun for Open MPI as well, if it is compatible with Slurm's PMIx.
case ${DDMD_MPI_LAUNCHER:-$(mpiexec --version 2>/dev/null)} in
*"Open MPI) 5"* | mpiexec)
    launcher=(mpiexec --with-ft ulfm --bind-to none -n "$SLURM_NTASKS")
    export DDMD_MPI_STOP_SIGNAL=USR1 # which mpiexec forwards; on others it kills its ranks
    ;;
*)
    launcher=(srun --mpi="${DDMD_MPI_PMI:-pmi2}" --cpu-bind=cores --kill-on-bad-exit=1)
    ;;
esac
exec "$checkout/jobscripts/relaunch.sh" "${launcher[@]}" ddmd-mpi "$@"
