"""File mode: the loop in one process and on several ranks, what it leaves behind, and what it survives."""

import json
import resource
import subprocess
import sys
from contextlib import suppress

import h5py
import numpy as np
import pytest

from ddmd_mpi.analysis import open_run
from ddmd_mpi.file_mode.segments import Segments

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240)]

GO = ("--usecase", "bba-go", "--mode", "file")
SMALL = (
    "simulation.walkers_per_rank=4",
    "simulation.report_interval_ps=2",
    "simulation.segment_ps=16",
    "simulation.minimize=false",
)
GREEDY = (*SMALL, "training.model=none", "steering.strategy=greedy")


def command(*arguments, sets=()):
    options = [text for s in sets for text in ("--set", s)]
    return [sys.executable, "-m", "ddmd_mpi", *map(str, arguments), *options]


def alone(*arguments, sets=(), **options):
    """The program in one process, without a launcher."""
    return subprocess.run(command(*arguments, sets=sets), capture_output=True, text=True, timeout=200, **options)


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def segments(directory):
    return Segments(directory, "bba-go", 28, ("radius_of_gyration", "native_contacts"))


def assert_restarts_are_where_they_were_decided(directory):
    """Every restart point in a trajectory is the frame in its source's segment file."""
    mdtraj = pytest.importorskip("mdtraj")
    assert open_run(directory).contradictions() == []
    restarted = [s for s in open_run(directory).segments if s.restarted]
    assert restarted
    decisions = {d["decision"]: d for d in lines(directory / "decisions.jsonl")}
    for segment in restarted:
        source = decisions[segment.decision]["source"]
        positions, _, _ = segments(directory).coordinates(source["generation"], source["walker"], source["slot"])
        path = directory / "trajectories" / f"sim-{segment.walker:04d}.dcd"
        first = mdtraj.load_frame(path, segment.first_frame, top=directory / "topology" / "bba-go.pdb")
        np.testing.assert_allclose(first.xyz[0], positions, atol=1e-5)


def test_the_whole_loop_in_one_process(tmp_path):
    run = tmp_path / "run"
    done = alone(*GO, "--iterations", 3, "--output", run, sets=GREEDY)
    assert done.returncode == 0, done.stdout + done.stderr
    found = summary(run)
    assert (found["mode"], found["completed"], found["stop_reason"]) == ("file", True, "iterations")
    assert found["ranks"] == {"simulation": 1, "aggregation": 1, "training": 1, "inference": 1}
    assert found["simulation"]["segments"] == found["roles"]["simulation"]["iterations"] == 12
    assert found["simulation"]["frames"] == found["aggregation"]["frames_archived"] == 3 * 4 * 8
    assert found["roles"]["inference"]["iterations"] == found["inference"]["rounds"] == 3
    assert found["roles"]["aggregation"]["iterations"] == 3
    assert found["steering"]["delivered"] >= 1
    assert found["steering"]["latency_ms"]["p50"] > 0
    outcomes = {d["outcome"] for d in lines(run / "decisions.jsonl")}
    assert outcomes <= {"applied", "undelivered"}  # what the last iteration decided
    assert_restarts_are_where_they_were_decided(run)
    with h5py.File(run / "aggregated" / "iteration-0003.h5") as file:
        assert file["positions"].shape == (32, 28, 3)
        assert np.unique(file["segment"]).tolist() == [2]
    subprocess.run([sys.executable, "-m", "ddmd_mpi", "report", run], check=True, capture_output=True)
    assert (run / "plots" / "timeline.png").exists()
    shown = subprocess.run([sys.executable, "-m", "ddmd_mpi", "status", run, "--once"], check=True, capture_output=True)
    assert b"best RMSD" in shown.stdout


def test_three_ranks_of_which_two_train(ddmd_mpi, tmp_path):
    run = tmp_path / "run"
    done = ddmd_mpi(
        3,
        *GO,
        "--iterations",
        3,
        "--output",
        run,
        sets=(*SMALL, "training.model=pca", "ranks.training=2", "file.retrain_every=2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = summary(run)
    assert (found["completed"], found["stop_reason"]) == (True, "iterations")
    assert found["ranks"] == {"simulation": 3, "aggregation": 1, "training": 2, "inference": 1}
    assert found["simulation"]["frames"] == found["aggregation"]["frames_archived"] == 3 * 12 * 8
    assert found["training"]["rounds"] == found["training"]["versions"] == 2  # in iterations 1 and 3
    assert [r["model_version"] for r in lines(run / "rounds.jsonl")] == [1, 1, 2]
    assert found["inference"]["outliers_last"] >= 1
    hops = found["streams"]["bytes_by_hop"]
    assert hops["SimulationOutput"] == sum(f.stat().st_size for f in run.glob("segments/*/*.h5"))
    assert hops["AggregatorToInference"] > hops["AggregatorToTraining"] > 0  # three rounds, and two
    assert hops["TrainingToInference"] > 0
    assert found["steering"]["delivered"] >= 1
    assert_restarts_are_where_they_were_decided(run)
    windows = [
        [e["window"] for e in lines(run / "events" / f"training-{rank:04d}.jsonl") if e["name"] == "train_round"]
        for rank in (0, 1)
    ]
    assert windows == [[48, 144], [48, 144]]  # of 96 and 288 frames
    walkers = {d["walker"] for d in lines(run / "decisions.jsonl") if d["outcome"] == "applied"}
    assert walkers - set(range(4)), "ranks other than the first restart walkers, too"


def test_the_autoencoder_between_files_without_an_aggregated_one(ddmd_mpi, tmp_path):
    run = tmp_path / "run"
    done = ddmd_mpi(
        2,
        *GO,
        "--iterations",
        2,
        "--output",
        run,
        sets=(*SMALL, "training.epochs=2", "training.filters=4", "training.dense_units=16", "file.aggregate=false"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = summary(run)
    assert found["training"]["versions"] == 2
    assert found["training"]["last_validation_loss"] > 0
    assert found["roles"]["aggregation"]["iterations"] == 0
    assert not (run / "aggregated").exists()
    assert [r["model_version"] for r in lines(run / "rounds.jsonl")] == [1, 2]


def test_equal_seeds_decide_equally(tmp_path):
    def decisions(name, seed):
        done = alone(*GO, "--iterations", 3, "--seed", seed, "--output", tmp_path / name, sets=GREEDY)
        assert done.returncode == 0, done.stdout + done.stderr
        return [
            {k: d[k] for k in ("decision", "walker", "outcome", "segment", "source", "velocity_seed")}
            for d in lines(tmp_path / name / "decisions.jsonl")
        ]

    first = decisions("a", 5)
    assert first
    assert decisions("b", 5) == first
    assert decisions("c", 6) != first


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--target-rmsd", 30), "target_rmsd"),
        (("--duration", "6s"), "duration"),
        (("--set", "simulation.walker_length_ns=0.02"), "all simulations ended"),
    ],
)
def test_it_ends_for_other_reasons(tmp_path, arguments, reason):
    run = tmp_path / "run"
    done = alone(*GO, *arguments, "--output", run, sets=GREEDY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (summary(run)["completed"], summary(run)["stop_reason"]) == (True, reason)
    assert summary(run)["simulation"]["frames"] == summary(run)["aggregation"]["frames_archived"] > 0


def started(run, *, wait_for, sets=GREEDY, **options):
    """The program, running, once the file `wait_for` of its run is there."""
    process = subprocess.Popen(
        command(*GO, "--output", run, sets=sets, **options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / wait_for).exists():
        assert process.poll() is None, process.stderr.read()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return process


def test_a_killed_run_leaves_all_former_iterations_whole(tmp_path):
    run = tmp_path / "run"
    with started(run, wait_for="segments/iteration-0004/sim-0001.h5") as process:
        process.kill()
    frames = [len(segments(run).read(i, w)) for i in (1, 2, 3) for w in range(4)]
    assert frames == [8] * 12
    assert [len(segments(run).read_aggregated(i)) for i in (1, 2, 3)] == [32] * 3
    assert open_run(run).contradictions() == []


def test_a_truncated_file_is_left_out_and_the_run_goes_on(tmp_path):
    run, name = tmp_path / "run", "segments/iteration-0001/sim-0002.h5"
    sets = (*GREEDY, "file.iterations=4")
    with started(run, wait_for="aggregated/iteration-0001.h5", sets=sets) as process:
        (run / name).write_bytes((run / name).read_bytes()[:5000])
    assert process.returncode == 0
    said = [line for line in (run / "logs" / "simulation-0000.log").read_text().splitlines() if name in line]
    assert len(said) == 1, said
    assert "left out" in said[0]
    assert lines(run / "rounds.jsonl")[-1]["frames"] == 4 * 32 - 8


def test_a_full_disk_is_one_sentence_and_harms_no_former_file(tmp_path):
    """No file may grow above 26 kB, which the trajectories reach in iteration 8 or so."""
    run = tmp_path / "run"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (26_000, 26_000))

    done = alone(*GO, "--iterations", 30, "--output", run, sets=(*GREEDY, "output.progress=none"), preexec_fn=limit)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "ddmd_mpi" in line]  # MPI may complain as well
    assert f"{run}/trajectories/sim-" in said
    assert " cannot be written: File too large" in said
    found = summary(run)
    assert (found["completed"], found["stop_reason"]) == (False, "disk")
    written = sorted(run.glob("aggregated/*.h5"))
    assert len(written) >= 2
    for iteration in range(1, len(written) + 1):
        assert len(segments(run).read_aggregated(iteration)) == 32
        for walker in range(4):
            segments(run).coordinates(iteration, walker, 7)
    assert not [path for path in run.rglob(".*") if path.is_file()], "something half written was left behind"


def test_a_disk_that_is_full_at_the_start_is_bad_input(tmp_path):
    run = tmp_path / "run"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    done = alone(*GO, "--iterations", 1, "--output", run, preexec_fn=limit)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count(f"ddmd-mpi: {run}/") == 1, done.stderr
    assert " cannot be written: File too large" in done.stderr
    assert not run.exists()


def test_what_file_mode_cannot_do_is_refused(tmp_path):
    stream = [a for a in GO if a not in ("--mode", "file")]
    for arguments, words in (
        ((*stream, "--iterations", 3, "--output", tmp_path / "run"), ("file.iterations", "--mode file")),
        ((*GO, "--iterations", 0, "--output", tmp_path / "run"), ("file.iterations", "greater")),
        ((*GO, "--output", "/proc/run"), ("/proc/run", "cannot create")),
        ((*GO, "--output", tmp_path / "run", "--set", "ranks.training=2"), ("ranks.training = 2", "1 were started")),
        ((*GO, "--output", tmp_path / "run", "--set", "simulation.walkers_per_rank=1"), ("walkers_per_rank",)),
    ):
        done = alone(*arguments)
        assert done.returncode == 2, arguments
        (said,) = done.stderr.splitlines()
        assert all(word in said for word in words), said
    assert not (tmp_path / "run").exists()


def test_the_plan_says_who_does_what():
    done = alone(*GO, "--dry-run", "-n", 6)
    assert "simulation        6 ranks: 0-5" in done.stdout
    assert "inference         1 rank : 0 " in done.stdout
