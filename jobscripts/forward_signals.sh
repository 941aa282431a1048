# shellcheck shell=bash
# For the scripts beside this one, which source it:
#
#     orderly TELL COMMAND [ARGUMENT ...]
#
# runs COMMAND and returns its exit code. A signal to the script (TERM, INT, HUP, USR1, USR2) calls "TELL SIGNAL" and keeps waiting:
# COMMAND has a process group of its own, so that Ctrl-C, which a terminal sends to all of a group, does not reach it
# before its ranks have stopped cleanly. $launcher is its process, $told the last signal, empty for none.
#
# A rank that ends the job writes an exit code to $DDMD_MPI_EXIT_CODE. A launcher that has not ended
# DDMD_MPI_ABORT_SECONDS (20) later is killed: Open MPI's waits forever if a node no longer answers.
launcher='' told=''

guard() {
    local late=0
    while sleep 1 && kill -0 "$1" 2>/dev/null; do
        [ ! -f "${DDMD_MPI_EXIT_CODE:-}" ] || late=$((late + 1))
        [ "$late" -le "${DDMD_MPI_ABORT_SECONDS:-20}" ] || kill -s KILL -- "-$1" 2>/dev/null || true
    done
}

orderly() {
    local tell=$1 signal code
    shift
    for signal in TERM INT USR1 USR2; do
        # shellcheck disable=SC2064
        trap "again=yes told=$signal; $tell $signal" "$signal"
    done
    # shellcheck disable=SC2064
    trap "again=yes told=TERM; $tell TERM" HUP
    set -m
    "$@" </dev/null &
    launcher=$!
    set +m
    guard "$launcher" </dev/null >/dev/null 2>&1 &
    again=yes
    while [ -n "$again" ]; do
        again=
        code=0
        wait "$launcher" || code=$?
    done
    trap - TERM INT HUP USR1 USR2
    return "$code"
}
