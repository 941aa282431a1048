#!/bin/sh
# Start ddmd-mpi with N ranks on this machine:
#
#     jobscripts/local.sh N [OPTION of ddmd-mpi ...]        for example   jobscripts/local.sh 4 --usecase cln025
#     jobscripts/local.sh --relaunch N [OPTION ...]         the same, and resume the run if it fails: relaunch.sh
#
# The exit code is that of ddmd-mpi: 0 if the run completed, 2 if its input was invalid.
set -eu

relaunch=
if [ "${1:-}" = --relaunch ]; then
    relaunch=yes
    shift
fi
if [ $# -lt 1 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: $0 N [OPTION of ddmd-mpi ...]   (got: $*)" >&2
    exit 2
fi
n_ranks=$1
shift

# mpiexec hides from the ranks whether the output is a terminal.
if [ -t 1 ]; then
    export DDMD_MPI_PROGRESS="${DDMD_MPI_PROGRESS:-screen}"
fi
here=$(dirname "$0")
exec ${relaunch:+"$here/relaunch.sh"} "$here/ranks.sh" "$n_ranks" ddmd-mpi "$@"
