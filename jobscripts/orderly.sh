# shellcheck shell=bash
# For the scripts beside this one, which source it:
#
#     orderly TELL COMMAND [ARGUMENT ...]
#
# runs COMMAND and returns its exit code. A signal to the script (TERM, INT, HUP, USR1, USR2) calls "TELL SIGNAL" and waits on:
# COMMAND has a process group of its own, so that Ctrl-C, which a terminal sends to all of a group, does not reach it
# before its ranks have stopped in order. $launcher is its process, $told the last signal, empty for none.
launcher='' told=''

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
    again=yes
    while [ -n "$again" ]; do
        again=
        code=0
        wait "$launcher" || code=$?
    done
    trap - TERM INT HUP USR1 USR2
    return "$code"
}
