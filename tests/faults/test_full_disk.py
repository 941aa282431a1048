"""A disk that refuses, under a real job: lost telemetry ends nothing, lost records end the run in order."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
from checker import problems
from hurt_jobs import LIMIT_SECONDS, Ended, end, has_checkpoint, nobody_is_left, resume, running, start, wait

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

SETTINGS = ("run.checkpoint_interval=2",)
FOREVER = resource.RLIM_INFINITY


def hurt(directory, harm, sets=SETTINGS, wrapper=()):
    """Run a job, and do `harm` to its directory and its ranks once it has a checkpoint; what is left."""
    with start(directory, sets, ("--duration", "60s"), wrapper=wrapper) as process:
        try:
            wait(lambda: (running(directory) and has_checkpoint(directory)) or process.poll() is not None)
            ranks = json.loads((directory / "environment.json").read_text())["ranks"]
            harm(directory, ranks)
            clock = time.monotonic()
            out, err = process.communicate(timeout=LIMIT_SECONDS)
            return Ended(directory, process.returncode, out, err, time.monotonic() - clock), ranks
        finally:
            end(process, directory)
            for rank in ranks:
                assert_over(rank["pid"], directory)


def assert_over(pid, directory):
    """A rank ends, if not with its launcher then soon after it, wherever its directory is now."""

    def over():
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                return str(directory) not in file.read()
        except OSError:
            return True

    wait(over, 15.0)


def limit(n_bytes, *roles):
    """Harm: no file of these ranks grows above so many bytes, as if the disk were full."""

    def set_limits(_, ranks):
        for rank in ranks:
            if not roles or rank["role"] in roles:
                resource.prlimit(rank["pid"], resource.RLIMIT_FSIZE, (n_bytes, FOREVER))

    return set_limits


def ends_in_order(ended, reason):
    """Exit code 1, no traceback, and one line that says what the disk refused and how to go on."""
    assert ended.code == 1, ended.err
    assert ended.seconds_after < 60
    assert "Traceback" not in ended.err
    (said,) = [line for line in ended.err.splitlines() if "the run ends: " in line]
    assert reason in said, said
    return said


def test_a_full_disk_ends_the_run_in_order_and_it_goes_on_when_there_is_room(tmp_path):
    """Trajectories, records and archives stop at 60 kB; small files can still be written."""
    ended, _ = hurt(tmp_path / "run", limit(60_000))
    directory = ended.directory
    said = ends_in_order(ended, "cannot be written: File too large")
    number = max(int(path.stem[9:]) for path in directory.glob("checkpoints/manifest-*"))
    assert said.endswith(f"ddmd-mpi --resume {directory} resumes from checkpoint {number}")
    assert (ended.summary["completed"], ended.summary["stop_reason"]) == (False, "disk")
    assert problems(directory, ended=False) == []
    nobody_is_left(directory)
    before = {line["decision"] for line in ended.lines("decisions.jsonl")}
    again = resume(directory)
    assert again.code == 0, again.err
    assert problems(directory) == []
    assert before <= {line["decision"] for line in again.lines("decisions.jsonl")}
    assert again.summary["simulation"]["frames"] >= ended.summary["simulation"]["frames"]


def test_the_run_goes_on_without_telemetry(tmp_path):
    """For three seconds the aggregator can write nothing; without an archive all that it writes is telemetry."""
    directory = tmp_path / "run"

    def harm(_, ranks):
        limit(0, "aggregation")(_, ranks)
        time.sleep(3)
        limit(FOREVER, "aggregation")(_, ranks)
        (log,) = (directory / "logs").glob("aggregation-*.log")
        wait(lambda: "spans in events/: written again" in log.read_text())
        os.kill(ranks[0]["pid"], signal.SIGTERM)

    ended, _ = hurt(directory, harm, ("aggregation.archive=none",))
    assert ended.code == 0, ended.err
    assert ended.err.count("the run continues without the live view: File too large") == 1, ended.err
    assert ended.summary["completed"] is True
    assert problems(directory) == []
    for line in next((directory / "events").glob("aggregation-*.jsonl")).read_text().splitlines():
        json.loads(line)


def test_a_directory_that_is_deleted_ends_the_run(tmp_path):
    ended, _ = hurt(tmp_path / "run", lambda directory, _: shutil.rmtree(directory))
    ends_in_order(ended, f"{ended.directory} was deleted or renamed during the run")
    assert "summary.json cannot be written: No such file or directory; in short: NOT completed (disk)" in ended.err
    assert not ended.directory.exists(), "nothing has made it again"


@pytest.fixture
def small(tmp_path):
    """A file system of 8 MB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(directory, _):
    """Harm: fill the file system to its last byte."""
    with (directory.parent / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def test_a_file_system_that_is_really_full(small):
    ended, _ = hurt(small / "run", fill)
    ends_in_order(ended, "cannot be written: No space left on device")
    assert "summary.json cannot be written: No space left on device; in short: " in ended.err
    (small / "filler").unlink()
    assert problems(ended.directory, ended=False) == []
    again = resume(ended.directory)
    assert again.code == 0, again.err
    assert problems(ended.directory) == []


#: The superuser without the right to write where the permissions say that nobody may.
OBEDIENT = (
    ()
    if os.geteuid()
    else ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
)


def set_permissions(directory, mode):
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(mode)


def test_a_directory_that_becomes_read_only_ends_the_run_in_order(tmp_path):
    """Files that are open grow on; what would be new, as the next checkpoint, is refused."""
    if OBEDIENT and shutil.which(OBEDIENT[0]) is None:
        pytest.skip("setpriv of util-linux is needed to test this as root")
    directory = tmp_path / "run"
    ended, _ = hurt(directory, lambda *_: set_permissions(directory, 0o555), wrapper=OBEDIENT)
    set_permissions(directory, 0o755)
    said = ends_in_order(ended, "cannot be written: Permission denied")
    assert f"ddmd-mpi --resume {directory} resumes from checkpoint " in said
    assert "the run continues without the live view: Permission denied" in ended.err
    assert "summary.json cannot be written: Permission denied; in short: NOT completed (disk)" in ended.err
    assert problems(directory, ended=False) == []
    again = resume(directory)
    assert again.code == 0, again.err
    assert problems(directory) == []
