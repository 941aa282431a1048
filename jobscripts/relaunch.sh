#!/bin/bash
# Run ddmd-mpi, and resume the run if it fails: after the loss of a rank, a crash, or a node that went down.
#
#     jobscripts/relaunch.sh LAUNCHER [ARGUMENT ...] ddmd-mpi [OPTION ...]
#
# for example   jobscripts/relaunch.sh srun --mpi=pmix ddmd-mpi --usecase bba --output runs/bba-1
#
# The first session starts as written here; the next ones are "--resume" of its directory with the same options. So is
# the first one of a batch job (Slurm, PBS, LSF) that was requeued: environment.json names the job that started the run. The
# script returns the last exit code: 0 (the run is complete), 2 (invalid input) and a signal end it. It also gives up if there
# is no checkpoint, if a session has added no frame, after DDMD_MPI_RELAUNCHES more starts (5), or if less than
# DDMD_MPI_RELAUNCH_SECONDS (300) are left until the end of the job (DDMD_MPI_END_TIME or SLURM_JOB_END_TIME, Unix times).
# A signal is forwarded to the launcher; if that would kill its ranks, DDMD_MPI_STOP_SIGNAL is sent instead.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# Open MPI 5: its launcher notices a node that no longer answers after a minute, not after five. By then the run has
# written its reason and a checkpoint.
export PRTE_MCA_oob_tcp_keepalive_time="${PRTE_MCA_oob_tcp_keepalive_time:-30}"
export PRTE_MCA_oob_tcp_keepalive_intvl="${PRTE_MCA_oob_tcp_keepalive_intvl:-10}"
export PRTE_MCA_oob_tcp_keepalive_probes="${PRTE_MCA_oob_tcp_keepalive_probes:-3}"

# shellcheck source=jobscripts/forward_signals.sh
. "$here/forward_signals.sh"

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
# The batch job: one that is requeued begins this script again, with the same options.
DDMD_MPI_JOB=${SLURM_JOB_ID:-${PBS_JOBID:-${LSB_JOBID:+$LSB_JOBID-${LSB_JOBINDEX:-0}}}}
export DDMD_MPI_JOB
if [ -z "$directory" ]; then
    directory=runs/ddmd-mpi-${DDMD_MPI_JOB:-$(date +%Y%m%d-%H%M%S)-$$}
    options+=(--output "$directory")
fi

# Whether this job has begun the run in the directory before.
begun_by_this_job() {
    [ -n "$DDMD_MPI_JOB" ] && grep -qsF "\"job\": \"$DDMD_MPI_JOB\"" "$directory/environment.json"
}

has_checkpoint() {
    ls "$directory"/checkpoints/manifest-*.json >/dev/null 2>&1
}

while begun_by_this_job && ! has_checkpoint; do
    say "the job was requeued, and there is no checkpoint in $directory to resume from: starting again in $directory-again"
    directory+=-again
    options+=(--output "$directory")  # the last one counts
done
command=("${launcher_words[@]}" "${options[@]}")
if begun_by_this_job; then
    say "the job was requeued: resuming $directory"
    command=("${launcher_words[@]}" --resume "$directory" "${kept[@]}")
fi

# Written by the rank that ends a job, into a directory that all nodes see.
export DDMD_MPI_EXIT_CODE="${DDMD_MPI_EXIT_CODE:-$directory/logs/exit-code}"

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
while :; do
    before=$(frames) code=0
    rm -f "$DDMD_MPI_EXIT_CODE"
    orderly tell_launcher "${command[@]}" || code=$?
    [ ! -s "$DDMD_MPI_EXIT_CODE" ] || code=$(cat "$DDMD_MPI_EXIT_CODE")
    # Open MPI's launcher returns 0 if it ends a job that has lost a node.
    [ "$code" != 0 ] || ! grep -qs '"completed": false' "$directory/summary.json" || code=1
    if [ "$code" = 0 ] || [ "$code" = 2 ] || [ -n "$told" ]; then
        exit "$code"
    elif grep -qs '"completed": true' "$directory/summary.json"; then
        exit 0  # without the simulations that were lost, for which some launchers return another code
    elif ! has_checkpoint; then
        say "exit code $code, and there is no checkpoint in $directory to resume from"
    elif [ "$(frames)" -le "$before" ]; then
        say "exit code $code, and the session has added no frame: it would fail again"
    elif [ "$left" -le 0 ]; then
        say "exit code $code, and DDMD_MPI_RELAUNCHES allows no other start"
    elif [ "$(seconds_left)" -lt "${DDMD_MPI_RELAUNCH_SECONDS:-300}" ]; then
        say "exit code $code, and only $(seconds_left) s are left until the end of the job"
    else
        left=$((left - 1))
        say "exit code $code: resuming $directory"
        command=("${launcher_words[@]}" --resume "$directory" "${kept[@]}")
        continue
    fi
    exit "$code"
done
