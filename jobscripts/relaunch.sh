#!/bin/bash
# Run ddmd-mpi, and go on with the run where it fails: after the loss of a rank, a crash, or a node that went down.
#
#     jobscripts/relaunch.sh LAUNCHER [ARGUMENT ...] ddmd-mpi [OPTION ...]
#
# for example   jobscripts/relaunch.sh srun --mpi=pmix ddmd-mpi --usecase bba --output runs/bba-1
#
# The first session starts as it is written here; the next ones are "--resume" of its directory with the same options. The
# last exit code is this script's: 0 and 2 end it (the run is complete; its input is wrong), and so does a signal. It also gives up
# where there is no checkpoint, where a session has added no frame, after DDMD_MPI_RELAUNCHES more starts (5), or where less than
# DDMD_MPI_RELAUNCH_SECONDS (300) are left until the end of the job (DDMD_MPI_END_TIME or SLURM_JOB_END_TIME, Unix times).
# A signal is passed on to the launcher; where that one would kill its ranks, DDMD_MPI_STOP_SIGNAL is what it passes on to them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=jobscripts/orderly.sh
. "$here/orderly.sh"

say() {
    echo "relaunch.sh: $*" >&2
}

launcher_words=() options=() kept=() directory=''
while [ $# -gt 0 ]; do
    launcher_words+=("$1")
    shift
    [ "$(basename -- "${launcher_words[-1]}")" != ddmd-mpi ] || break
done
if [ ${#launcher_words[@]} -lt 2 ] || [ "$(basename -- "${launcher_words[-1]}")" != ddmd-mpi ]; then
    say "usage: $0 LAUNCHER [ARGUMENT ...] ddmd-mpi [OPTION ...]"
    exit 2
fi
while [ $# -gt 0 ]; do
    case $1 in
    --output=* | --resume=*) directory=${1#*=} ;;
    --output | --resume) directory=${2:-} ;;
    esac
    case $1 in
    --usecase | --config | --output | --resume)
        options+=("$1" "${2:-}")
        shift
        ;;
    --usecase=* | --config=* | --output=* | --resume=*) options+=("$1") ;;
    *) options+=("$1") kept+=("$1") ;;  # "--resume" takes the others, too
    esac
    shift || true
done
if [ -z "$directory" ]; then
    directory=runs/ddmd-mpi-$(date +%Y%m%d-%H%M%S)-$$
    options+=(--output "$directory")
fi

frames() {
    cat "$directory"/trajectories/*.frames.csv 2>/dev/null | wc -l
}

seconds_left() {
    local end least=999999999
    for end in "${DDMD_MPI_END_TIME:-}" "${SLURM_JOB_END_TIME:-}"; do
        if [ -n "$end" ] && [ $((end - $(date +%s))) -lt "$least" ]; then
            least=$((end - $(date +%s)))
        fi
    done
    echo "$least"
}

tell_launcher() {
    kill -s "${DDMD_MPI_STOP_SIGNAL:-$1}" "$launcher" 2>/dev/null || true
}

# The duration counts from now, whatever happens.
DDMD_MPI_BEGIN_TIME=${DDMD_MPI_BEGIN_TIME:-$(date +%s)}
export DDMD_MPI_BEGIN_TIME
left=${DDMD_MPI_RELAUNCHES:-5}
command=("${launcher_words[@]}" "${options[@]}")
while :; do
    before=$(frames) code=0
    orderly tell_launcher "${command[@]}" || code=$?
    if [ "$code" = 0 ] || [ "$code" = 2 ] || [ -n "$told" ]; then
        exit "$code"
    elif grep -qs '"completed": true' "$directory/summary.json"; then
        exit 0  # without the simulations that were lost, for which some launchers return another code
    elif ! ls "$directory"/checkpoints/manifest-*.json >/dev/null 2>&1; then
        say "exit code $code, and there is no checkpoint in $directory to go on from"
    elif [ "$(frames)" -le "$before" ]; then
        say "exit code $code, and the session has added no frame: it would fail again"
    elif [ "$left" -le 0 ]; then
        say "exit code $code, and DDMD_MPI_RELAUNCHES allows no other start"
    elif [ "$(seconds_left)" -lt "${DDMD_MPI_RELAUNCH_SECONDS:-300}" ]; then
        say "exit code $code, and only $(seconds_left) s are left until the end of the job"
    else
        left=$((left - 1))
        say "exit code $code: going on with $directory"
        command=("${launcher_words[@]}" --resume "$directory" "${kept[@]}")
        continue
    fi
    exit "$code"
done
