#!/bin/sh
# Start ddmd-mpi with N ranks on this machine:
#
#     jobscripts/local.sh N [OPTION of ddmd-mpi ...]        for example   jobscripts/local.sh 4 --usecase cln025
#     jobscripts/local.sh --relaunch N [OPTION ...]         the same, and go on with the run where it fails: relaunch.sh
#
# The exit code is that of ddmd-mpi: 0 when the run ended by itself, 2 when something in its input was wrong.
set -eu

relaunch=
if [ "${1:-}" = --relaunch ]; then
    relaunch="$(dirname "$0")/relaunch.sh"
    shift
fi
if [ $# -lt 1 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: $0 N [OPTION of ddmd-mpi ...]   (got: $*)" >&2
    exit 2
fi
n_ranks=$1
shift

# mpiexec hides from the ranks whether somebody is looking.
if [ -t 1 ]; then
    export DDMD_MPI_PROGRESS="${DDMD_MPI_PROGRESS:-screen}"
fi
# shellcheck disable=SC2086
exec $relaunch "$(dirname "$0")/ranks.sh" "$n_ranks" ddmd-mpi "$@"
