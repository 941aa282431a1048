"""A rank that the run needs is killed, long before a checkpoint is due: whoever is left leaves one behind."""

import json
import re
import signal

import pytest
from checker import lines, problems, written
from hurt_jobs import REAL_DYNAMICS, hurt, nobody_is_left, resume

from ddmd_mpi.rundir.checkpoints import Store

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

SELDOM = (
    "run.checkpoint_interval=600",
    "output.progress_interval=0.3",
    "training.model=pca",
    "training.first_frames=64",
    "training.retrain_frames=64",
    "steering.strategy=ml_rmsd",
)


def at_work(directory):
    """Whether the model has steered, and the checkpoint of the begin is there."""
    versions = [d["model_version"] for d in lines(directory / "decisions.jsonl")]
    return max(versions, default=0) > 0 and any((directory / "checkpoints").glob("manifest-*"))


@pytest.mark.parametrize(("role", "seed"), [("training", 21), ("aggregation", 22)])
def test_nothing_is_lost_but_what_only_the_lost_rank_knew(tmp_path, role, seed):
    directory = tmp_path / "run"
    rank, ended = hurt(
        directory,
        role,
        signal.SIGKILL,
        seed,
        sets=(*SELDOM, *REAL_DYNAMICS),
        after=at_work,
        within=1.0,
        options=("--duration", "200s"),
    )
    assert ended.code == 1, ended.out
    assert ended.seconds_after < 60
    (reason,) = re.findall("the run ends: (.*)", ended.err)
    assert reason.startswith(f"rank {rank} ({role}")
    (number,) = re.findall(rf"ddmd-mpi --resume {directory} resumes from checkpoint (\d+)$", reason)
    nobody_is_left(directory)
    assert problems(directory, ended=False) == []

    store = Store(directory)
    manifest, rows = store.newest(pytest.fail), written(directory)
    assert manifest.number == int(number) > 1
    parts = [store.read_part(entry) for entry in manifest.of_role("simulation")]
    known = {int(w): values["frames"] for part in parts for w, values in part.values.items()}
    assert known == {w: len(r) for w, r in rows.items()}, "the checkpoint knows every frame that there is"
    versions = [json.loads(p.read_text())["version"] for p in (directory / "models").glob("v*/metadata.json")]
    decisions = {line["decision"] for line in lines(directory / "checkpoints" / "sent.jsonl")}

    again = resume(directory)
    assert again.code == 0, again.err
    assert problems(directory) == []
    assert decisions <= {line["decision"] for line in again.lines("decisions.jsonl")}
    assert again.summary["training"]["versions"] >= max(versions)
    assert again.summary["sessions"] == 2
