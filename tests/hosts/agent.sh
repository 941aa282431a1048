#!/bin/bash
# Stands in a box for ssh:   ssh [-OPTION ...] HOST COMMAND ...   (a copy of it lies in the box's directory)
set -eu
while [[ $1 == -* ]]; do shift; done
host=$1
shift
DDMD_BOX=$(dirname "$(realpath "$0")")
export DDMD_BOX TMPDIR=$DDMD_BOX/tmp

# How a launcher reaches the other hosts; what root, more ranks than cores and no network hardware need.
export PRTE_MCA_plm_ssh_agent="$DDMD_BOX/ssh" PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_osc=^ucx OMPI_MCA_pml=ob1 OMPI_MCA_btl=^ofi,uct OMPI_MCA_mtl=^ofi HWLOC_COMPONENTS=-x86
export HYDRA_LAUNCHER=ssh HYDRA_LAUNCHER_EXEC="$DDMD_BOX/ssh" MPIR_CVAR_POLLS_BEFORE_YIELD=1

# UCX would see that the hosts are one machine, and use its memory in place of the network.
export UCX_TLS=tcp,self UCX_LOG_LEVEL=error

exec nsenter --target "$(cat "$DDMD_BOX/$host.pid")" --net --uts --ipc --mount --wd="$PWD" /bin/bash -c "$*"
