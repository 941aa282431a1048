"""Whole runs over two and three hosts: as on one, but for the wire between them.

Under MPICH, whose environment of tests has no TensorFlow, those with a model are left out.
"""

import importlib.util

import pytest
from checker import problems
from over_hosts import QUICK, restarted_on, run_over
from toy_table import write_table

from ddmd_mpi.analysis import open_run
from ddmd_mpi.report.training import joint_rounds

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(280)]

TWO_HOSTS, THREE_HOSTS = ("host1", "host2"), ("host1", "host2", "host3")
SMALL_MODEL = ("training.filters=8", "training.epochs=4", "training.first_frames=60", "run.drain=40")
WITH_TENSORFLOW = bool(importlib.util.find_spec("tensorflow"))
needs_tensorflow = pytest.mark.skipif(not WITH_TENSORFLOW, reason="there is no TensorFlow here")


def is_sound(ended):
    """Nothing is lost or there twice, and the hosts have had equal parts in the work."""
    assert problems(ended.directory) == []
    frames = ended.frames()
    n_ranks = {host: ended.hosts("simulation").count(host) for host in frames}
    of_a_rank = {host: n / n_ranks[host] for host, n in frames.items()}
    assert min(of_a_rank.values()) > 0.1 * max(of_a_rank.values()), f"a host was slow: {of_a_rank}"
    return ended.summary


@needs_tensorflow
def test_chignolin_by_sst_with_one_aggregator_for_two_hosts(box, tmp_path):
    ended = run_over(
        box,
        tmp_path / "run",
        TWO_HOSTS,
        3,
        "--usecase",
        "cln025",
        enough=lambda run: run.shows("version") and restarted_on(*TWO_HOSTS)(run),
        sets=(*SMALL_MODEL, "steering.strategy=ml_rmsd"),
    )
    summary = is_sound(ended)
    assert ended.hosts("aggregation") == ["host1"]
    assert ended.hosts("simulation") == ["host1", "host1", "host2"]
    assert summary["training"]["versions"] >= 1
    assert summary["streams"]["dropped_blocks"] == 0


@needs_tensorflow
@pytest.mark.parametrize("way", ["horovod", "mpi"])
def test_two_training_ranks_on_two_hosts_train_one_model(box, tmp_path, way):
    if way == "horovod":
        pytest.importorskip("horovod.tensorflow", reason="Horovod is not built: make horovod")
    sets = (*SMALL_MODEL, "ranks.training=2", f"training.data_parallel={way}", "simulation.walkers_per_rank=6")
    ended = run_over(
        box,
        tmp_path / "run",
        THREE_HOSTS,
        2,
        "--usecase",
        "bba-go",
        sets=sets,
        enough=lambda run: run.shows("version") and run.restarted(),
    )
    summary = is_sound(ended)
    assert sorted(ended.hosts("training")) == ["host2", "host3"]
    assert summary["training"]["data_parallel"] == way
    rounds = joint_rounds(open_run(ended.directory))
    assert any(len(spans) == 2 for spans in rounds)
    for spans in rounds:
        assert len({span["weights_crc32"] for span in spans}) == 1


def test_many_ligands_over_three_hosts(box, tmp_path):
    """Toy ligands on a toy protein, steered by principal components."""
    config = write_table(tmp_path, [0.3, 2.7, 1.1])
    ended = run_over(
        box,
        tmp_path / "run",
        THREE_HOSTS,
        2,
        "--usecase",
        "plc",
        "--config",
        config,
        enough=lambda run: run.shows("version") and restarted_on("host1", "host2")(run),
        sets=("training.first_frames=48", "simulation.walkers_per_rank=6", "steering.round_reports=5"),
    )
    summary = is_sound(ended)
    assert ended.hosts("aggregation") == ["host1", "host2"]
    assert summary["training"]["versions"] >= 1


@pytest.mark.parametrize("first_hop", ["adios2", "mpi"])
def test_an_aggregator_on_each_host(box, tmp_path, first_hop):
    ended = run_over(
        box,
        tmp_path / "run",
        TWO_HOSTS,
        4,
        "--usecase",
        "bba-go",
        enough=restarted_on(*TWO_HOSTS),
        sets=(*QUICK, f"streams.first_hop={first_hop}"),
    )
    summary = is_sound(ended)
    assert ended.hosts("aggregation") == list(TWO_HOSTS)
    assert summary["aggregation"]["frames_archived"] == summary["simulation"]["frames"] > 0
    assert summary["streams"]["dropped_blocks"] == 0


def test_file_mode_over_two_hosts(box, tmp_path):
    """With a model that ranks of both hosts train."""
    model = ("training.model=pca", "training.first_frames=60", "steering.strategy=ml_rmsd")
    ended = run_over(
        box,
        tmp_path / "run",
        TWO_HOSTS,
        1,
        "--usecase",
        "bba-go",
        "--mode",
        "file",
        "--iterations",
        "3",
        sets=(*model, "ranks.training=2", "training.data_parallel=mpi"),
    )
    summary = is_sound(ended)
    assert summary["ranks"]["training"] == 2
    assert summary["training"]["data_parallel"] == "mpi"
    assert summary["training"]["versions"] >= 1
    assert ended.restarted().keys() == set(TWO_HOSTS)
