"""A run that ends with its job and goes on, with XTC files, an autoencoder and another number of aggregators; and what
``--resume`` refuses."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from checker import lines, problems
from jobs import ended, start, summary, until

from ddmd_mpi.rundir.checkpoints import Part, Store

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.timeout(300)]

SETTINGS = (
    "ranks.aggregation=2",
    "simulation.walkers_per_rank=3",
    "simulation.report_interval_ps=5",
    "simulation.segment_ps=50",
    "simulation.trajectory_format=xtc",
    "simulation.bind=false",
    "simulation.platform=CPU",
    "training.filters=4",
    "training.dense_units=16",
    "training.epochs=1",
    "training.first_frames=64",
    "run.margin=10",
    "run.duration=1h",
    "output.progress_interval=0.3",
)
JOB_SECONDS = 40


def alone(*arguments):
    """The program in one process, without a launcher."""
    command = [sys.executable, "-m", "ddmd_mpi", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def live(directory):
    """The live view."""
    return json.loads((directory / "status.json").read_text())


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The run directory after two sessions, what came of each, and of an attempt to resume while the second went on.

    Between them it is moved; the second session adds walkers.
    """
    directory, found = tmp_path_factory.mktemp("job") / "run", []
    end = time.time() + JOB_SECONDS
    first = start(
        6, "--usecase", "bba-go", "--output", directory, *(f"--set={s}" for s in SETTINGS), DDMD_MPI_END_TIME=str(end)
    )
    printed = ended(first)
    found.append((first.returncode, printed, problems(directory), summary(directory), time.time() - end))
    directory = directory.rename(directory.with_name("moved"))
    second = start(
        5,
        "--resume",
        directory,
        "--duration",
        "30s",
        "--set=ranks.aggregation=1",
        "--set=simulation.walkers_per_rank=4",
    )
    until(second, lambda: not live(directory)["done"])
    refused = alone("--resume", directory)
    printed = ended(second)
    found.append((second.returncode, printed, problems(directory), summary(directory), 0.0))
    return directory, found, refused


def test_a_run_ends_before_its_job_does(sessions):
    code, printed, wrong, result, late_s = sessions[1][0]
    assert (code, wrong) == (0, []), printed
    assert (result["completed"], result["stop_reason"]) == (True, "walltime")
    assert late_s < 0
    assert result["ranks"]["aggregation"] == 2


def test_it_goes_on_elsewhere_with_its_model_more_walkers_and_another_number_of_aggregators(sessions):
    directory, found, _ = sessions
    code, printed, wrong, result, _ = found[1]
    assert (code, wrong) == (0, []), printed
    assert (result["completed"], result["stop_reason"], result["sessions"]) == (True, "duration", 2)
    assert result["ranks"]["aggregation"] == 1
    assert (found[0][3]["simulation"]["walkers"], result["simulation"]["walkers"]) == (6, 8)
    assert len((directory / "trajectories" / "sim-0007.frames.csv").read_text().splitlines()) > 1
    assert result["training"]["rounds"] >= max(1, found[0][3]["training"]["rounds"])
    assert result["simulation"]["frames"] > found[0][3]["simulation"]["frames"]
    recalled = [
        e["frames"]
        for path in (directory / "events").glob("aggregation-*.jsonl")
        for e in lines(path)
        if e["name"] == "recall"
    ]
    assert len(recalled) == 1
    assert recalled[0] > 0


def test_the_report_is_made_of_both_sessions(sessions):
    done = alone("report", sessions[0])
    assert done.returncode == 0, done.stderr
    assert (sessions[0] / "report.html").stat().st_size > 0


def test_a_run_that_is_alive_is_refused(sessions):
    assert_refused(sessions[2], "still alive")


def assert_refused(done, *words):
    said = [line for line in done.stderr.splitlines() if line.startswith("ddmd-mpi: ")]
    assert done.returncode == 2, done.stderr
    assert len([line for line in said if not line.startswith("ddmd-mpi: skipped: ")]) == 1, done.stderr
    assert all(word in said[-1] for word in words), said
    assert "Traceback" not in done.stderr


def harm_nothing(_):
    """The run as it is, which one rank cannot go on with."""


def remove_checkpoints(directory):
    for path in (directory / "checkpoints").glob("manifest-*"):
        path.unlink()


def damage_checkpoints(directory):
    for path in (directory / "checkpoints").glob("*.npz"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])


def edit_settings(directory):
    path = directory / "config.toml"
    path.write_text(path.read_text().replace("temperature_kelvin = ", "temperature_kelvin = 1"))


def exchange_target(directory):
    path = directory / "inputs" / "bba-go-target.pdb"
    path.write_text(path.read_text() + "REMARK another\n")


def remove_settings(directory):
    (directory / "config.toml").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (harm_nothing, ("1 rank",)),
        (remove_checkpoints, ("no complete checkpoint", "--output")),
        (damage_checkpoints, ("no complete checkpoint", "--output")),
        (remove_settings, ("is not a run directory", "config.toml")),
        (edit_settings, ("simulation.temperature_kelvin was", "config.toml")),
        (exchange_target, ("(system.target) has changed",)),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_sentence_and_stays_as_it_is(sessions, tmp_path, harm, words):
    directory = tmp_path / "run"
    shutil.copytree(sessions[0], directory, ignore=shutil.ignore_patterns("plots", "tables", "*.bp"))
    harm(directory)
    before = contents(directory)
    assert_refused(alone("--resume", directory), *words)
    assert contents(directory) == before


def test_a_platform_that_does_not_work_is_refused_before_anything_is_touched(sessions, ddmd_mpi):
    before = contents(sessions[0])
    assert_refused(ddmd_mpi(5, "--resume", sessions[0], sets=("simulation.platform=CUDA",)), "CUDA", "does not work")
    assert contents(sessions[0]) == before


def test_a_checkpoint_that_is_whole_and_lacks_something_is_refused(sessions, tmp_path, ddmd_mpi):
    """As a later version of the program, or somebody's script, may have written it."""
    directory = tmp_path / "run"
    shutil.copytree(sessions[0], directory, ignore=shutil.ignore_patterns("plots", "tables", "*.bp"))
    store = Store(directory)
    manifest = store.read_manifest(store.numbers()[-1])
    (entry,) = manifest.of_role("inference")
    part = store.read_part(entry)
    nbytes, digest = store.write_part(
        "inference",
        entry.rank,
        manifest.number,
        Part({k: v for k, v in part.values.items() if k != "fresh"}, part.arrays),
    )
    changed = replace(entry, nbytes=nbytes, sha256=digest.hex())
    store.write_manifest(replace(manifest, parts=tuple(changed if p == entry else p for p in manifest.parts)))
    assert_refused(ddmd_mpi(5, "--resume", directory), f"{entry.file} does not say 'fresh'")


def contents(directory):
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.rglob("*")}


def test_what_is_no_directory_is_refused(tmp_path):
    assert_refused(alone("--resume", tmp_path / "nowhere"), "nowhere is not a run directory")
    (tmp_path / "file").touch()
    assert_refused(alone("--resume", tmp_path / "file"), "file is not a run directory")
