"""The scripts that go on with a run where it fails: when they do, when they give up, and what they start."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checker import problems
from hurt_jobs import SETTINGS, end, left_by, nobody_is_left, pid_of, running, wait

pytestmark = pytest.mark.timeout(150)

SCRIPTS = Path(__file__).parent.parent.parent / "jobscripts"
#: Stands for srun, jsrun, mpiexec and the program. It writes its arguments down and does what the plan says of its
#: turn: an exit code, + where a frame and a checkpoint are written before, c where the run is complete, i where it says
#: that it is not, h where a rank ends the job and the launcher hangs, w where a rank writes exit code 2, s where the
#: script is told to stop meanwhile.
STUB = """#!/bin/bash
if [ "$1" = --version ]; then
    echo "$VERSION"
    exit 0
fi
echo "$(basename "$0") $*" >>"$CALLS"
turn=$(wc -l <"$CALLS")
action=$(echo "$PLAN" | cut -d' ' -f"$turn")
while [ $# -gt 0 ]; do
    case $1 in --output | --resume) directory=$2 ;; esac
    shift
done
case $action in *+*)
    mkdir -p "$directory/trajectories" "$directory/checkpoints"
    echo frame >>"$directory/trajectories/sim-0000.frames.csv"
    touch "$directory/checkpoints/manifest-00000$turn.json" ;;
esac
case $action in *c*) echo '{"completed": true}' >"$directory/summary.json" ;; esac
case $action in *i*) echo '{"completed": false}' >"$directory/summary.json" ;; esac
case $action in *h*)
    mkdir -p "$directory/logs"
    echo 1 >"$DDMD_MPI_EXIT_CODE"
    sleep 60 ;;
esac
case $action in *w*) echo 2 >"$DDMD_MPI_EXIT_CODE" ;; esac
case $action in *s*)
    trap 'echo "heard USR1" >>"$CALLS"; exit 1' USR1
    kill -TERM $PPID
    sleep 20 & wait ;;
esac
exit "${action//[!0-9]/}"
"""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """``play(plan, command...)``: exit code of a script, the calls of the stub, what was said."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("srun", "jsrun", "mpiexec", "ddmd-mpi"):
        (binaries / name).write_text(STUB)
        (binaries / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)

    def run(plan, *command, **environment):
        calls = tmp_path / "calls"
        variables = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "CALLS": str(calls), "PLAN": plan}
        done = subprocess.run(
            [str(c) for c in command],
            env={**variables, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, calls.read_text().splitlines(), done.stderr

    return run


def test_the_scripts_work_in_a_directory_with_a_space_in_its_name(play, tmp_path):
    scripts = tmp_path / "my scripts"
    shutil.copytree(SCRIPTS, scripts)
    code, calls, err = play(
        "1+ c0", scripts / "local.sh", "--relaunch", "4", "--output", "my runs/x", DDMD_MPI_BIN=str(tmp_path / "bin")
    )
    assert code == 0, err
    assert calls == ["mpiexec -n 4 ddmd-mpi --output my runs/x", "mpiexec -n 4 ddmd-mpi --resume my runs/x"]


def test_a_temporary_directory_that_is_not_there_is_replaced_and_named(play, tmp_path):
    code, _, err = play(
        "0",
        SCRIPTS / "local.sh",
        "4",
        DDMD_MPI_BIN=str(tmp_path / "bin"),
        TMPDIR="/proc/none",
        VERSION="mpiexec (Open MPI) 5.0.11",
    )
    assert code == 0, err
    assert "TMPDIR=/proc/none is not a writable directory: /tmp is used" in err


@pytest.mark.parametrize(("plan", "expected"), [("h", 1), ("w134", 2), ("w0", 2), ("1", 1)])
def test_a_launcher_that_hangs_or_crashes_hides_no_exit_code_of_a_rank(play, tmp_path, plan, expected):
    """As Open MPI's may, if several ranks end with an error at once."""
    settings = {"DDMD_MPI_BIN": str(tmp_path / "bin"), "DDMD_MPI_ABORT_SECONDS": "1"}
    code, calls, err = play(plan, SCRIPTS / "ranks.sh", 2, "ddmd-mpi", "--output", "x", **settings)
    assert (code, len(calls)) == (expected, 1), err


RELAUNCH = (
    SCRIPTS / "relaunch.sh",
    "srun",
    "-n",
    "4",
    "ddmd-mpi",
    "--usecase",
    "bba-go",
    "--output",
    "runs/x",
    "--duration",
    "2h",
)
FIRST = "srun -n 4 ddmd-mpi --usecase bba-go --output runs/x --duration 2h"
AGAIN = "srun -n 4 ddmd-mpi --resume runs/x --duration 2h"


@pytest.mark.parametrize(
    ("plan", "code", "n_calls", "said"),
    [
        ("0", 0, 1, ""),
        ("2", 2, 1, ""),
        ("1+ 137+ 0", 0, 3, "resuming runs/x"),
        ("137+c", 0, 1, ""),
        ("0+i 0+c", 0, 2, "resuming runs/x"),
        ("1", 1, 1, "there is no checkpoint in runs/x"),
        ("1+ 1", 1, 2, "the session has added no frame"),
        ("1+ 1+ 1+ 1+ 1+ 1+ 1+ 1+", 1, 6, "DDMD_MPI_RELAUNCHES allows no other start"),
        ("1+ 2", 2, 2, "resuming"),
    ],
)
def test_it_goes_on_while_that_leads_anywhere(play, plan, code, n_calls, said):
    found, calls, err = play(plan, *RELAUNCH)
    assert (found, calls) == (code, [FIRST, *[AGAIN] * (n_calls - 1)]), err
    assert said in err


def test_it_gives_up_where_the_job_is_nearly_over(play):
    soon = str(int(time.time()) + 200)
    code, calls, err = play("1+ 0", *RELAUNCH, SLURM_JOB_END_TIME=soon)
    assert (code, calls) == (1, [FIRST])
    assert "left until the end of the job" in err
    code, calls, _ = play("0 1+ 0", *RELAUNCH, SLURM_JOB_END_TIME=soon, DDMD_MPI_RELAUNCH_SECONDS="100")
    assert (code, len(calls)) == (0, 3)


def test_a_launcher_that_hangs_after_a_rank_has_ended_the_job_is_killed(play):
    code, calls, err = play("1+h 0", *RELAUNCH, DDMD_MPI_ABORT_SECONDS="1")
    assert (code, calls) == (0, [FIRST, AGAIN]), err
    assert "exit code 1: resuming runs/x" in err, "what the rank has said, not what killed the launcher"


def test_a_signal_is_passed_on_and_ends_it(play):
    code, calls, err = play("1+s 0", *RELAUNCH, DDMD_MPI_STOP_SIGNAL="USR1")
    assert (code, calls) == (1, [FIRST, "heard USR1"]), err


def test_a_run_without_a_directory_is_given_one(play):
    code, calls, _ = play("1+ 0", SCRIPTS / "relaunch.sh", "srun", "ddmd-mpi", "--usecase=bba")
    directory = calls[0].removeprefix("srun ddmd-mpi --usecase=bba --output ")
    assert (code, calls[1]) == (0, f"srun ddmd-mpi --resume {directory}")


@pytest.mark.parametrize("job", [{"SLURM_JOB_ID": "7"}, {"PBS_JOBID": "7"}, {"LSB_JOBID": "7", "LSB_JOBINDEX": "2"}])
def test_a_job_that_is_requeued_goes_on_with_its_run_and_another_one_does_not(play, job):
    run = Path("runs/x")
    (run / "checkpoints").mkdir(parents=True)
    (run / "environment.json").write_text(f'{{\n "job": "{"-".join(job.values())}"\n}}')
    code, calls, err = play("0 0 0", *RELAUNCH, **job)
    assert (code, calls) == (0, [f"{FIRST} --output runs/x-again"]), err
    (run / "checkpoints" / "manifest-000001.json").touch()
    code, calls, err = play("0 0 0", *RELAUNCH, **job)
    assert (code, calls[1:]) == (0, [AGAIN]), err
    code, calls, _ = play("0 0 0", *RELAUNCH, **dict.fromkeys(job, "8"))
    assert (code, calls[2:]) == (0, [FIRST])


def test_a_job_is_given_a_directory_that_it_finds_again(play):
    _, calls, _ = play("0", SCRIPTS / "relaunch.sh", "srun", "ddmd-mpi", "--usecase=bba", SLURM_JOB_ID="7")
    assert calls == ["srun ddmd-mpi --usecase=bba --output runs/ddmd-mpi-7"]


def test_a_command_without_the_program_is_refused():
    done = subprocess.run([SCRIPTS / "relaunch.sh", "srun", "-n", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.parametrize(
    ("script", "options", "launcher"),
    [
        ("slurm.sh", ("--usecase", "bba"), "srun --mpi=pmi2 --cpu-bind=cores --kill-on-bad-exit=1 ddmd-mpi"),
        (
            "lsf.sh",
            (),
            "jsrun --nrs 2 --rs_per_host 1 --tasks_per_rs 7 --gpu_per_rs 6 --cpu_per_rs 42 --bind packed:6 ddmd-mpi",
        ),
        ("pbs.sh", (), "mpiexec -n 10 ddmd-mpi"),
    ],
)
def test_the_job_scripts_go_on_with_a_run(play, tmp_path, script, options, launcher):
    (tmp_path / "jobscripts").symlink_to(SCRIPTS)
    (tmp_path / "nodes").write_text("a\na\nb\nb\n")
    code, calls, err = play("1+ 0", "bash", SCRIPTS / script, *options, PBS_NODEFILE=str(tmp_path / "nodes"))
    assert code == 0, err
    assert len(calls) == 2
    assert calls[0].startswith(f"{launcher} --usecase bba")
    assert calls[1].startswith(f"{launcher} --resume runs/ddmd-mpi-")


def test_under_slurm_open_mpi_starts_its_ranks_itself(play, tmp_path):
    (tmp_path / "jobscripts").symlink_to(SCRIPTS)
    script, version = (SCRIPTS / "slurm.sh", "--usecase", "bba"), "mpiexec (Open MPI) 5.0.11"
    code, calls, err = play("0 0", "bash", *script, VERSION=version, SLURM_NTASKS="10")
    assert code == 0, err
    assert calls[0].startswith("mpiexec --with-ft ulfm --bind-to none -n 10 ddmd-mpi --usecase bba")
    code, calls, err = play("0 0", "bash", *script, VERSION=version, DDMD_MPI_LAUNCHER="srun", DDMD_MPI_PMI="pmix")
    assert code == 0, err
    assert calls[1].startswith("srun --mpi=pmix ")


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda p: p.name)
def test_the_syntax_of_every_script(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, check=False).stderr == b""


@pytest.mark.end_to_end
def test_a_run_that_loses_its_training_rank_goes_on_by_itself(tmp_path):
    directory, script = tmp_path / "run", SCRIPTS / "local.sh"
    given = [text for s in (*SETTINGS, "output.progress_interval=0.3") for text in ("--set", s)]
    command = [script, "--relaunch", "4", "--usecase", "bba-go", "--duration", "40s", "--output", directory, *given]
    environment = {**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            wait(lambda: running(directory) and any((directory / "checkpoints").glob("manifest-*")))
            _, pid = pid_of(directory, "training", random.Random(1))
            os.kill(pid, signal.SIGKILL)
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert ended.code == 0, ended.err
    assert ended.err.count(": resuming ") == 1
    assert (ended.summary["completed"], ended.summary["sessions"]) == (True, 2)
    assert ended.summary["wall_s"] < 75, "the duration counts from the first start"
    assert problems(directory) == []
    nobody_is_left(directory)
