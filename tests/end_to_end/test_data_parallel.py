"""Several training ranks in the loop: one model, a share of the frames for each, and an end in time."""

import json
import zlib

import numpy as np
import pytest

from ddmd_mpi.analysis import open_run
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.report.training import doubts, joint_rounds

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.timeout(300)]

DRAIN = 60
QUICK = ("training.first_frames=60", "training.epochs=4", "training.filters=8", f"run.drain={DRAIN}")
EMULATED = (
    "simulation.engine=emulated",
    "emulation.report_seconds=0.2",
    "simulation.segment_ps=40",
    "simulation.report_interval_ps=4",
    "simulation.walkers_per_rank=12",
    "steering.strategy=none",
)


@pytest.mark.parametrize(("n", "usecase", "seconds", "n_training", "way", "sets"), [
    (6, "cln025", 70, 2, "horovod", ("training.retrain_growth=1.2",)),
    (7, "bba-go", 70, 3, "mpi", EMULATED),
])  # fmt: skip
def test_one_model_while_the_loop_runs(ddmd_mpi, tmp_path, n, usecase, seconds, n_training, way, sets):
    directory = tmp_path / "run"
    done = ddmd_mpi(
        n,
        "--usecase",
        usecase,
        "--duration",
        f"{seconds}s",
        "--output",
        directory,
        sets=(*QUICK, f"ranks.training={n_training}", f"training.data_parallel={way}", *sets),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["completed"] is True
    assert summary["wall_s"] < seconds + DRAIN
    assert summary["ranks"]["training"] == n_training
    assert summary["training"]["data_parallel"] == way

    rounds = joint_rounds(open_run(directory))
    assert doubts(open_run(directory)) == []
    for spans in rounds:
        assert len(spans) == n_training
        assert len({span["weights_crc32"] for span in spans}) == 1
        assert len({span["loss"] for span in spans}) == 1
    windows = [span["window"] for span in rounds[-1]]
    assert min(windows) > 0.5 * max(windows), "the shares of the training ranks are not even"
    assert sum(windows) <= summary["simulation"]["frames"], "a frame went to several training ranks"
    counted_once(summary, rounds)
    the_published_model_is_that_of_all_ranks(directory, rounds)


def counted_once(summary, rounds):
    """A round of several ranks is one, and its samples are those of all."""
    training = summary["training"]
    assert training["rounds"] == summary["roles"]["training"]["iterations"] == len(rounds)
    assert training["samples_seen"] == sum(span["samples"] for spans in rounds for span in spans)
    assert training["versions"] == sum(spans[0]["published"] for spans in rounds) >= 1


def the_published_model_is_that_of_all_ranks(directory, rounds):
    """The newest version on the disk has the bits that every rank had."""
    published = next(spans[0] for spans in reversed(rounds) if spans[0]["published"])
    crc = 0
    for array in ModelWeights.read(directory / "models" / f"v{published['version']:06d}").arrays:
        crc = zlib.crc32(np.ascontiguousarray(array), crc)
    assert crc == published["weights_crc32"]
