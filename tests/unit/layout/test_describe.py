"""The text of --dry-run."""

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.layout.describe import describe, ranges
from ddmd_mpi.layout.plan import machine, plan


def text(n, ranks_per_node=None, gpus=0, ranks=None, **more):
    hardware = machine(n, ranks_per_node=ranks_per_node, gpus_per_node=gpus)
    layout = plan(*hardware, RanksSection(**(ranks or {})), "auto")
    return describe(layout, ring_nbytes=64e6, queue_nbytes=32e6, **more)


def test_ranges():
    assert ranges([3]) == "3"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges(range(0, 100, 2)) == "0, 2, 4, 6, 8, 10, 12, 14, ... 98"


def test_every_role_with_its_ranks_nodes_gpus_and_memory():
    lines = text(14, ranks_per_node=7, gpus=6).splitlines()
    assert lines[0] == "14 ranks on 2 nodes, 7 per node"
    assert "simulation       10 ranks: 0-5, 7-10  (4 to 6 on 2 nodes, 10 with a GPU)" in lines
    assert "training          1 rank : 12  (1 on 1 node, 1 with a GPU)" in lines
    assert "walkers: 10, 1 per simulation rank" in lines
    assert "GPUs: 12 of 12 used" in lines
    assert "memory of a rank of aggregation: ring 64.0 MB, stream queues up to 64.0 MB" in lines
    assert "memory of a rank of training: stream queues up to 32.0 MB" in lines
    assert not any(line.startswith("warning") for line in lines)


def test_the_streams_of_several_training_ranks_and_their_memory():
    alone = text(28, ranks={"aggregation": 2}).splitlines()
    assert "streams: 24 to aggregation, 2 to training, 2 to inference, 1 of weights to inference" in alone
    assert not any(line.startswith("training:") for line in alone)
    few = text(28, ranks={"aggregation": 4, "training": 2}).splitlines()
    assert "training          2 ranks: 25-26  (2 on 1 node)" in few
    assert "training: a rank takes the frames of 2 aggregators" in few
    assert "memory of a rank of aggregation: ring 64.0 MB, stream queues up to 64.0 MB" in few
    many = text(28, ranks={"aggregation": 2, "training": 3}).splitlines()
    assert "streams: 22 to aggregation, 3 to training, 2 to inference, 1 of weights to inference" in many
    assert "training: an aggregator deals its blocks to 1 to 2 ranks in turn" in many
    assert "memory of a rank of aggregation: ring 64.0 MB, stream queues up to 96.0 MB" in many


def test_warnings_of_the_layout_and_of_the_cores():
    assert "warning: 4 of 12 GPUs would be unused: start more ranks per node" in text(10, ranks_per_node=5, gpus=6)
    assert "warning: up to 3 of the 8 cores of a node would be idle" in text(5, cores_per_node=8)
    assert "warning: up to 10 threads would share the 8 cores of a node" in text(5, cores_per_node=8, n_threads=2)
    assert "warning" not in text(8, cores_per_node=8)


def test_the_memory_of_windows():
    lines = text(4, windows={"training": 1_340_000_000, "inference": 5_400_000}).splitlines()
    assert "memory of a rank of training: window up to 1340.0 MB, stream queues up to 32.0 MB" in lines
    assert "memory of a rank of inference: window up to 5.4 MB" in lines
